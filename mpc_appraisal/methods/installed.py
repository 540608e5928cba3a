"""Methods of other packages, which an installed package offers under a name.

A package offers a method by an entry point of the group GROUP, in its pyproject.toml:

    [project.entry-points."mpc_appraisal.methods"]
    mean_margin = "mean_margin:MeanMargin"

In goes a name; out comes the class, which has to derive from `Appraiser` and to have this `name`. A class is imported
only when its name is asked for. GROUP has to stay, because other packages state it. A name of this package's own
methods can never be taken by another package.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.offered_methods import GROUP, offered_methods
from mpc_appraisal.common.text import shown
from mpc_appraisal.methods.base import Appraiser


def installed_names() -> list[str]:
    """Return the names that installed packages offer. Nothing of these packages is imported."""
    return list(offered_methods())


def installed_method(name: str) -> type[Appraiser] | None:
    """Return the class that an installed package offers under `name`; None where none does.

    Raises InputError where two packages offer different classes, and where the class cannot be imported or is no
    method of this name.
    """
    found = {entry.value: entry for entry in entry_points(group=GROUP) if entry.name == name}
    if not found:
        return None
    if len(found) > 1:
        raise InputError("appraisal", f"{name}, which stands for {' and '.join(sorted(found))}", "one package with it")
    (entry,) = found.values()
    method = _loaded(entry)
    if not (isinstance(method, type) and issubclass(method, Appraiser)):
        raise InputError("appraisal", f"{name}, which is {shown(repr(method))}", "a class that derives from Appraiser")
    if getattr(method, "name", None) != name:
        stated = shown(repr(getattr(method, "name", None)))
        raise InputError("appraisal", f"{name}, whose class has the name {stated}", "the entry point's name as `name`")
    return method


def _loaded(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # whatever the other package raises when it is imported
        said = shown(f"{type(error).__name__}: {error}", 200)
        expected = f"a class that can be imported from {shown(entry.value)}; it raised {said}"
        raise InputError("appraisal", entry.name, expected) from error
