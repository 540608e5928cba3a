"""Arguments of `mpc-appraisal recipe`: one file and options that begin with two dashes.

The words of the command line go in; a namespace comes out, or an InputError by the action's name. Options are declared
with argparse by each action. An error has to be an InputError, so that `app` prints one line and ends with status 2.
"""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown


class Options(argparse.ArgumentParser):
    """Read the arguments of one action. action: its name, which errors begin with. expected: its usage in words."""

    def __init__(self, action: str, expected: str):
        super().__init__(prog=f"mpc-appraisal recipe {action}", add_help=False, allow_abbrev=False)
        self._action, self._expected = action, expected

    def error(self, message: str) -> NoReturn:
        """Raise InputError in place of argparse's exit."""
        raise InputError(f"recipe {self._action}", shown(message, 200), self._expected)


def parsed(options: Options, arguments: Any) -> argparse.Namespace:
    """Return the values of the arguments. Raises InputError for an unknown or a missing one."""
    return options.parse_args(list(arguments))
