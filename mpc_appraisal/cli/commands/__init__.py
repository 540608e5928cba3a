"""Subcommands of `mpc-appraisal`: `mpc-appraisal NAME ...` runs `main` of the module of that name in this folder.

In go the words after the name; a command prints what it finds, and raises InputError for bad arguments. `--json` among
the words prints the same tables and lines as one JSON document, and `--help` ends with an example. A module is imported
only when its command is run, because most of them need rooms that no other command needs, and this has to stay so. To
add a command, add its module here and its entry to ABOUT; names that exist have to stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from textwrap import wrap

Command = Callable[[Sequence[str]], None]
# Each command, with what it is for and an example.
ABOUT: dict[str, tuple[str, str]] = {
    "approval": ("read requests that wait for the data owner, and say yes or no", "approval list"),
    "budget": ("show, verify and limit what was opened to each counterparty", "budget show seller.csv.ledger"),
    "card": (
        "check a card by the certificates of both owners",
        "card verify card-a.html model_owner=model_owner.pem data_owner=data_owner.pem",
    ),
    "catalogue": ("publish, search and check listings of data sets", "catalogue publish data=seller.csv name=digits-a"),
    "certificates": ("make keys and certificates for TLS, or trial ones of all roles", "certificates trial --days 30"),
    "completion": ("print the completion of commands and keys for a shell", "completion bash"),
    "cost": ("estimate rounds, bytes and time from public sizes alone", "cost rows=5940 features=784"),
    "crypten": (
        "run a CrypTen program between two organisations, or deal for it",
        "crypten role=data_owner address=tcp://127.0.0.1:29500 tls=certificates/data_owner program.py",
    ),
    "desk": ("serve pages on this machine to decide on requests", "desk requests=requests runs=out"),
    "example": ("write files and certificates for a first try", "example try"),
    "market": ("buy rows in the encrypted marketplace, between organisations", "market example try"),
    "method": (
        "check a method of your own, on shares against plaintext",
        "method check mpc_appraisal.methods:GradientNorm",
    ),
    "offer": (
        "make, list and check offers that answer without a person",
        "offer list in=offers",
    ),
    "overlap": (
        "count the rows or keys that both owners have",
        "overlap role=model_owner address=tcp://127.0.0.1:29500 file=train.npz tls=certificates/model_owner",
    ),
    "preflight": (
        "check the methods on the model owner's own rows, in the clear",
        "preflight train=train.npz test=test.npz appraisal=influence",
    ),
    "recipe": ("describe how a raw table becomes features", "recipe infer train.csv --label bought"),
    "relay": ("forward encrypted sessions, so that no party opens a port", "relay listen=0.0.0.0:7787"),
    "report": ("write one page on sweeps, or set two side by side", "report out/sweep"),
}


def _command(name: str) -> Command:
    def run(arguments: Sequence[str]) -> None:
        if name in PASSED_ON:
            return import_module(f"{__name__}.{name}").main(arguments)
        left = [argument for argument in arguments if argument != JSON]
        main = import_module(f"{__name__}.{name}").main
        if len(left) < len(arguments):
            from mpc_appraisal.cli.json_output import print_as_json

            return print_as_json(name, lambda: main(left))
        if not {"-h", "--help"} & set(left):
            return main(left)
        try:
            main(left)
        except SystemExit as end:  # argparse ends the process after its help
            if end.code:
                raise
        print(f"\n{JSON}: print the same as one JSON document\n{example_of(name)}")

    return run


def example_of(name: str) -> str:
    """Return the command's example; beyond 80 columns it goes on after a backslash, as in a shell."""
    words = f"example: mpc-appraisal {ABOUT[name][1]}"
    return " \\\n".join(wrap(words, 78, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))


JSON = "--json"
PASSED_ON = ("crypten",)  # commands whose last words, --json among them, belong to a program of the user's
NAMES = tuple(ABOUT)
COMMANDS: dict[str, Command] = {name: _command(name) for name in NAMES}
