"""`mpc-appraisal budget`: what each counterparty has spent, what a request would cost, a ledger's lines and limits.

A ledger is the file in which an owner records what was opened of a data set to each counterparty (the other owner of an
appraisal), and its policy limits how much that may be. In go a ledger, or a folder of ledgers; out comes a table for
each ledger. The looks may change. Only `set` may write, and it may only add to a ledger: spent budget stays spent.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.queue import FOLDER
from mpc_appraisal.governance.budget.calendar import NEVER, next_start
from mpc_appraisal.governance.budget.hash_chain import ENDING
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import LIMITS, Policy, limits
from mpc_appraisal.governance.budget.state import State, spent, verify
from mpc_appraisal.reporting.table import DASH, Table, number, whole

FORMATS = ("json", "csv")  # of an export
ADDS_UP = "Privacy loss adds up over periods: a person whose data lie here has really lost the total over all periods."


def files(place: Path) -> list[Path]:
    """Return the ledger, or all ledgers of a folder. Raises InputError for a folder without ledgers."""
    found = sorted(place.glob(f"*{ENDING}")) if place.is_dir() else [place]
    if not found:
        raise InputError("PLACE", place.name, f"a ledger, or a folder with files *{ENDING}")
    return found


def table(state: State, now: datetime | None = None) -> Table:
    """Return a table of what is spent and left, with a row for each counterparty.

    now: the time, at which another period may have begun; None takes the clock.
    """
    state = state.at(now or datetime.now(timezone.utc))
    policy, renews = state.policy, state.policy.renews != NEVER
    header = ("counterparty", "questions", "answers", "epsilon spent", "epsilon left", "plain values", "plain left")
    header += ("epsilon in total", "plain in total") * renews
    rows = [
        (
            row.counterparty,
            whole(row.questions),
            whole(row.answers),
            number(row.epsilon),
            number(row.epsilon_left),
            whole(row.plain),
            whole(row.plain_left),
            *(number(row.epsilon_total), whole(row.plain_total)) * renews,
        )
        for row in spent(state)
    ] or [(DASH,) * len(header)]
    each = f" in each period ({policy.renews})" * renews
    notes = [
        f"Each counterparty has a budget of epsilon {policy.epsilon:g} at delta {policy.delta:g} for all its noised "
        f"values together, and of {policy.plain_values} values without noise{each}, for data sets of "
        f"{policy.minimum_rows} rows or more.",
        *renewal(state),
        "A question without an answer was charged, and its session failed or still runs. A plain value, which is "
        "released without noise, has infinite epsilon, so that only the number of such values is limited.",
    ]
    aligned = "l" + "r" * (len(header) - 1)
    return Table(f"Privacy budget of {state.data}", header, aligned, rows, (*notes, *tears(state)))


def renewal(state: State) -> list[str]:
    """Return sentences on the period, on when it ends and on the limits over all periods; none without a renewal."""
    policy = state.policy
    if policy.renews == NEVER:
        return []
    begins = next_start(policy.renews, state.time)
    return [
        f"Spent and left count the period {state.period}; the budget renews at {begins:%Y-%m-%d %H:%M} UTC.",
        f"{ADDS_UP} {lifetime(policy)}",
    ]


def lifetime(policy: Policy) -> str:
    """Return a sentence on the limits over all periods."""
    epsilon, plain = policy.lifetime_epsilon, policy.lifetime_plain_values
    found = [] if epsilon is None else [f"epsilon {epsilon:g}"]
    found += [] if plain is None else [f"{plain} values without noise"]
    return f"Over all periods it is at most {' and '.join(found)}." if found else "No limit over all periods is set."


def tears(state: State) -> list[str]:
    """Return a sentence for each line that a writer left unfinished when it was stopped."""
    found = [f"Line {n}: a writer was stopped before this line, and what it left granted nothing." for n in state.tears]
    if state.chain.torn:
        found.append(
            "The last line is unfinished: it is being written, or its writer was stopped and the next one repairs it."
        )
    return found


def amend(file: Path, stated: Sequence[str]) -> list[str]:
    """Change limits of the policy in force, and return a sentence for each limit that changed.

    Args:
        file: The ledger.
        stated: The limits, each as key=value.

    Raises:
        InputError: A limit is bad, or the ledger is missing or not whole.
    """
    pairs = [pair.partition("=") for pair in stated]
    for pair, (_, equals, _) in zip(stated, pairs, strict=True):
        if not equals:
            raise InputError("KEY=VALUE", repr(pair), "a limit and its value, as epsilon=2")
    changes = limits((key, value) for key, _, value in pairs)
    if not file.exists() and not file.with_name(file.name + ".head").exists():
        raise InputError("FILE", file.name, "an existing ledger, which the first appraisal of a data set makes")
    verify(file)
    old, new = (asdict(policy) for policy in Ledger(file).amend(**changes))
    return [f"{key}: {old[key]} -> {new[key]}" for key in LIMITS if old[key] != new[key]]


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for a bad argument or a ledger that is not whole."""
    parser = argparse.ArgumentParser(
        prog="mpc-appraisal budget",
        description="The privacy budget of a data set. Only set changes anything, the policy in force, and spent "
        "budget stays spent.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="show | preview | export | verify | set")
    show = commands.add_parser("show", help="show what each counterparty has asked and spent, and what is left")
    show.add_argument("PLACE", type=Path, help=f"a ledger, or a folder of ledgers (*{ENDING})")
    preview = commands.add_parser("preview", help="show what a waiting request would cost in each ledger")
    preview.add_argument("ID", help="the request, as `mpc-appraisal approval list` names it")
    preview.add_argument("PLACE", type=Path, nargs="?", default=Path("."), help="a ledger, or a folder of them (.)")
    preview.add_argument("--requests", metavar="DIR", default=FOLDER, help="the folder of requests (%(default)s)")
    export = commands.add_parser("export", help="print every line of a ledger as JSON lines or CSV")
    export.add_argument("PLACE", type=Path, help=f"a ledger, or a folder of ledgers (*{ENDING})")
    export.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="json or csv (default: %(default)s)")
    check = commands.add_parser("verify", help="check chain, sequence, charges and budgets; name the first bad line")
    check.add_argument("FILE", type=Path, help="a ledger")
    check.add_argument(
        "--head", metavar="HASH", help="a last hash that was noted earlier, whose line the ledger must still hold"
    )
    change = commands.add_parser(
        "set",
        help="change limits of the policy in force; spent budget stays spent",
        description="Change limits of the policy in force, for all questions from now on; the ledger keeps the old "
        "policy too. Spent budget stays spent: a higher limit leaves what was not spent of it, and a limit below what "
        "is spent refuses all that is not answered already. With renews=daily, monthly, quarterly or yearly, epsilon "
        "and plain_values are given anew in each period of the calendar in UTC, from the next one on; lifetime_epsilon "
        "and lifetime_plain_values limit all periods together, and none takes them away.",
    )
    change.add_argument("FILE", type=Path, help="a ledger")
    change.add_argument("LIMIT", nargs="+", metavar="KEY=VALUE", help=f"KEY is one of {', '.join(LIMITS)}")
    stated = parser.parse_args(arguments)
    if stated.command == "export":
        from mpc_appraisal.cli.budget_views import exported

        print(exported(files(stated.PLACE), stated.format), end="")
        return
    if stated.command == "verify":
        state = verify(stated.FILE, stated.head)
        for sentence in tears(state):
            print(sentence)
        print(f"{stated.FILE.name}: {len(state.chain.lines)} lines, whole; last hash {state.chain.lines[-1].digest}")
        return

    from mpc_appraisal.cli.console import terminal
    from mpc_appraisal.reporting.report import print_table

    if stated.command == "preview":
        from mpc_appraisal.cli.budget_views import preview_table

        print_table(preview_table(stated.ID, stated.requests, files(stated.PLACE)), terminal())
        return
    if stated.command == "set":
        for sentence in amend(stated.FILE, stated.LIMIT) or [
            "nothing changed, because these limits are in force already"
        ]:
            print(sentence)
    for place in [stated.FILE] if stated.command == "set" else files(stated.PLACE):
        print_table(table(verify(place)), terminal())


__all__ = ["main", "table"]
