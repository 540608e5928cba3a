"""`mpc-appraisal crypten`: run a CrypTen program as one owner, or be the dealer of one, between organisations.

    mpc-appraisal crypten role=model_owner address=tcp://host:port tls=certificates/model_owner program.py

In go this party's settings, each written KEY=VALUE, then the program and its own words. The program runs in this
process as `python program.py` would run it, with CrypTen mended, and `import crypten` as it stands. The dealer has no
program. A key may be added to `KEYS`; known keys have to keep their meaning.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mpc_appraisal.cli.arguments import number, split
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DEALER, MODEL_OWNER, OWNERS, ROLES
from mpc_appraisal.common.text import shown

# Each key with the variable of the environment that `mpc.crypten_programs.meeting` reads.
KEYS = {
    "role": "RANK",
    "address": "RENDEZVOUS",
    "tls": "MPC_APPRAISAL_TLS",
    "relay": "MPC_APPRAISAL_RELAY",
    "data_owner_address": "MPC_APPRAISAL_DATA_OWNER_ADDRESS",
    "in_the_clear": "MPC_APPRAISAL_IN_THE_CLEAR",
    "join_timeout": "MPC_APPRAISAL_JOIN_TIMEOUT",
    "timeout": "MPC_APPRAISAL_TIMEOUT",
    "freeze_timeout": "MPC_APPRAISAL_FREEZE_TIMEOUT",
}
SESSIONS, ENVIRONMENT = "sessions", "the environment's "
USAGE = """usage: mpc-appraisal crypten role=ROLE address=tcp://HOST:PORT [KEY=VALUE ...]
               PROGRAM.py [ARGUMENT ...]
       mpc-appraisal crypten role=dealer address=tcp://HOST:PORT [KEY=VALUE ...]

Run a CrypTen program, unchanged, as one of two owners that are connected over
mutual TLS, or be the dealer of such a program. Both owners run the same
program, each with its own files; `import crypten` is CrypTen over this
package's engine. All three start in any order.

role=ROLE:     model_owner, which is rank 0 in the program and listens at the
               address, data_owner, which is rank 1, or dealer
address=tcp://HOST:PORT: where the model owner listens, alike at every party
relay=HOST:PORT: in place of an address, a relay that all parties dial
tls=DIR:       this party's folder of certificates; without it the connection is
               in the clear, which needs in_the_clear=yes between machines
data_owner_address=tcp://HOST:PORT: where the dealer reaches the data owner
               (default: the data owner's address, and a free port)
join_timeout, timeout, freeze_timeout: seconds for the others to come, for a
               message, and without a sign of life (default: 120, 1800, 10)
sessions=N:    dealer: deal N sessions, one for each crypten.init of the program
               (default: 1)

Everything from the first word that is no KEY=VALUE on is the program's."""


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand: the program as an owner, or the dealer.

    Raises InputError, by key, for a bad argument, and what the program or the dealer raises.
    """
    keys, program = stated(arguments)
    if not arguments or program[:1] in (["-h"], ["--help"]):
        from mpc_appraisal.cli.commands import example_of

        print(f"{USAGE}\n\n{example_of('crypten')}")
        return
    _check(keys, program)
    os.environ.update({KEYS[key]: value for key, value in keys.items() if key in KEYS})
    os.environ |= {"WORLD_SIZE": str(len(OWNERS)), "RANK": str(ROLES.index(keys["role"]))}
    os.environ["MPC_APPRAISAL_DEALER"] = "apart"
    with _own_names():
        _deal(number(SESSIONS, keys.get(SESSIONS, "1"), int)) if keys["role"] == DEALER else _run(program)


def stated(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the keys that stand before the program, and the words of the program."""
    known = (*KEYS, SESSIONS)
    count = next((k for k, word in enumerate(arguments) if word.partition("=")[0] not in known), len(arguments))
    keys, others = split(arguments[:count], known)
    if others:
        raise InputError("crypten", shown(others[0]), f"KEY=VALUE, each key once, of {', '.join(known)}")
    return keys, list(arguments[count:])


def _check(keys: dict[str, str], program: list[str]) -> None:
    role = keys.get("role")
    if role not in ROLES:
        raise InputError("role", shown(repr(role)), f"one of {', '.join(ROLES)}")
    for key, value in keys.items():
        if not value:
            raise InputError(key, "nothing", "a value, or no such key")
    if ("address" in keys) == ("relay" in keys):
        raise InputError("address", shown(repr(keys.get("address"))), "tcp://HOST:PORT, or else relay=HOST:PORT")
    if role == DEALER and program:
        raise InputError("crypten", shown(program[0]), f"no program at the {DEALER}, which sees none of the data")
    if role != DEALER and SESSIONS in keys:
        raise InputError(SESSIONS, shown(keys[SESSIONS]), f"no such key at the {role}: the {DEALER} states it")
    if role != DEALER and not program:
        raise InputError("crypten", "no program", f"a file after the keys, as in role={MODEL_OWNER} ... program.py")
    if program and not Path(program[0]).is_file():
        raise InputError("crypten", shown(program[0]), "a key of this command, or the file of a CrypTen program")


def _deal(sessions: int) -> None:
    from mpc_appraisal.mpc.crypten_programs.dealing import deal
    from mpc_appraisal.mpc.crypten_programs.meeting import Meeting

    if sessions < 1:
        raise InputError(SESSIONS, sessions, "1 or more")
    for _ in range(sessions):
        deal(Meeting.of_environment())


def _run(program: list[str]) -> None:
    """Run the program as `python PROGRAM ARGUMENT ...` does, with CrypTen mended."""
    from mpc_appraisal.mpc.crypten_programs.meeting import Meeting

    Meeting.of_environment()  # a wrong setting is an error before the program begins
    from mpc_appraisal.mpc.crypten_programs.launching import end_session
    from mpc_appraisal.mpc.crypten_programs.mending import mend

    mend()
    sys.argv = program
    sys.path[0] = str(Path(program[0]).resolve().parent)
    try:
        runpy.run_path(program[0], run_name="__main__")
    except SystemExit as end:
        end_session(failed=bool(end.code))
        raise
    except BaseException:
        end_session(failed=True)
        raise
    end_session()


@contextmanager
def _own_names() -> Iterator[None]:
    """Let errors name this command's keys, where they would name variables of the environment."""
    try:
        yield
    except InputError as error:
        name = error.name.removeprefix(ENVIRONMENT)
        key = next((key for key, variable in KEYS.items() if variable == name), None)
        expected = error.expected
        for own, variable in list(KEYS.items())[2:]:
            expected = expected.replace(variable, own)
        raise InputError(key or error.name, error.value, expected) from None


__all__ = ["main", "stated"]
