"""`mpc-appraisal method check`: does an appraisal method keep what the package asks of every method?

In go the class, as MODULE:CLASS or as the name of an installed method, and settings as KEY=VALUE. Out comes a table
with a line for each check, and status 1 where one failed; `appraisal.conformance` says what is checked. The class is
imported and run, so it has to be one that its caller trusts. The statuses have to stay, because scripts rely on them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mpc_appraisal.appraisal.conformance import FAILED, MISSING, OK, conformance
from mpc_appraisal.cli.console import set_threads, terminal
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.methods import Appraiser, method_named
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import Table

USAGE = """usage: mpc-appraisal method check MODULE:CLASS [KEY=VALUE ...]

check an appraisal method, of this package or of your own, on a few rows of
scikit-learn's digits: what the class states, the formula in the clear, its dry
run, streaming if the class claims it, values on shares between three processes
against plaintext, and the measured rounds and bytes against those of the dry
run

MODULE:CLASS  a class in a module that Python finds here, or the name of an
              installed method
KEY=VALUE     settings of the class, as in steps=4; otherwise its defaults

each line is ok, missing (optional, and not stated) or failed; the status is 1
where a line failed"""


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for a bad argument, and SystemExit with status 1 for a failed check."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    action, *rest = arguments
    if action != "check":
        raise InputError("method", shown(action), "check")
    words = [word for word in rest if "=" not in word]
    if len(words) != 1:
        raise InputError("method check", shown(" ".join(words)) or "no class", "one MODULE:CLASS")
    set_threads()
    method = build(class_of(words[0]), [word for word in rest if "=" in word])
    lines = list(conformance(method))
    rows = [(line.what, line.status, line.found) for line in lines]
    print_table(Table(f"Conformance of {shown(repr(method))}", ("check", "status", "found"), "lll", rows), terminal())
    counts = Counter(line.status for line in lines)
    print(f"{type(method).__name__}: {', '.join(f'{counts[each]} {each}' for each in (OK, MISSING, FAILED))}")
    if counts[FAILED]:
        sys.stdout.flush()
        sys.exit(1)


def class_of(word: str) -> type[Appraiser]:
    """Return the class that MODULE:CLASS or a method's name stands for. The present folder is searched last.

    Raises InputError where there is no such class, or where it does not derive from `Appraiser`.
    """
    module, colon, name = word.partition(":")
    if not colon:
        found = method_named(word)
        if found is None:
            raise InputError("method", shown(word), "MODULE:CLASS, or the name of an installed method")
        return found
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except AppraisalError:
        raise
    except Exception as error:  # whatever the module raises when it is imported
        said = shown(f"{type(error).__name__}: {error}", 200)
        raise InputError("method", shown(word), f"a class that can be imported; it raised {said}") from error
    if not (isinstance(found, type) and issubclass(found, Appraiser)):
        raise InputError("method", shown(word), "a class that derives from mpc_appraisal.methods.Appraiser")
    return found


def build(method: type[Appraiser], stated: Sequence[str]) -> Appraiser:
    """Return an object of the class with these settings, KEY=VALUE. Raises InputError where they do not fit it."""
    for word in stated:
        if not word.partition("=")[0].isidentifier():
            raise InputError("method check", shown(word), "KEY=VALUE, with a setting of the class as KEY")
    try:
        settings = OmegaConf.to_container(OmegaConf.from_dotlist(list(stated)), resolve=True)
        return method(**settings)
    except (TypeError, OmegaConfBaseException) as error:
        expected = shown(f"settings that fit {method.__name__}: {error}", 300)
        raise InputError("method check", " ".join(stated) or "no settings", expected) from error
