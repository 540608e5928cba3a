"""`mpc-appraisal`: the entry point of the command line.

In go the words of the command line. A first word that names a subcommand runs it; see `commands`. Help, the version and
misspelt words are answered by `front`. Otherwise the words are configuration, with which `hydra_app` runs one job (one
appraisal, marketplace or run of private learning), or with --multirun a sweep of jobs. Out comes an exit status: 0, 2
for an expected error, which is one line on standard error, 3 for a party's message that is not what the protocol
prescribes, or 130 for an interruption; a subcommand may state others.

The statuses have to stay, because scripts rely on them. Nothing heavy may be imported here, so that help and commands
which need no torch start at once.
"""

from __future__ import annotations

import sys

from mpc_appraisal.cli import front
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import AppraisalError


def main() -> None:
    """Run the command line. This is the entry point of the console script."""
    try:
        if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
            return COMMANDS[sys.argv[1]](sys.argv[2:])
        if (text := front.answer(sys.argv[1:])) is not None:
            print(text)
            return
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.status)
    from mpc_appraisal.cli.hydra_app import run_words

    run_words()


if __name__ == "__main__":
    main()
