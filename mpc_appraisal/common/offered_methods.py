"""The names under which installed packages offer methods, by entry points of the group GROUP.

`methods.installed` loads such a method; here nothing of a package is imported, so that help and completion start at
once. GROUP has to stay, because other packages state it.
"""

from __future__ import annotations

from importlib.metadata import entry_points

GROUP = "mpc_appraisal.methods"


def offered_methods() -> dict[str, str]:
    """Return, by name, the place of the class that an installed package offers, as in "mean_margin:MeanMargin"."""
    return {entry.name: entry.value for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}
