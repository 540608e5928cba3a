"""`mpc-appraisal market join`: shopper, cloud or authority takes part in one run of the marketplace.

In go the role, the shopper's address, the plan file that is equal at all three, and the role's own files. The shopper
has a network and buys rows for it, the cloud computes on encrypted rows, and the authority issues keys. Out come, at
the shopper alone, the result in words, as JSON (--out) and the delivered network (--deliver), if there is one; the
cloud and the authority print each seller that is refused, and why. Errors call the roles by the names of this command.
An argument may be added. A role may read its own files alone, which is why `run` reads them in functions by role.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.commands.market.options import ARRAYS, add_cap_share, read_images
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.reworded import reworded
from mpc_appraisal.common.roles import MARKET_NAMES
from mpc_appraisal.marketplace.plan import ShopperInput
from mpc_appraisal.marketplace.plan_file import read_plan
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.authority import AuthorityInput
from mpc_appraisal.marketplace.roles.cloud import CloudInput
from mpc_appraisal.marketplace.roles.context import TRANSPORTS, Connection, ignore
from mpc_appraisal.marketplace.roles.party import Own, take_part
from mpc_appraisal.models.networks import Network
from mpc_appraisal.mpc.net.transport import Transport, check_clear

ROLES = {name: role for role, name in MARKET_NAMES.items()}
SEAT = re.compile(rf"\b({'|'.join(MARKET_NAMES)})\b")


def add(actions: argparse._SubParsersAction) -> None:
    """Add the action's arguments."""
    parser = actions.add_parser("join", help="shopper, cloud or authority: take part in a run")
    parser.set_defaults(run=run)
    parser.add_argument("ROLE", choices=sorted(ROLES))
    parser.add_argument("ADDRESS", help="the address where the shopper listens, tcp://HOST:PORT, equal at all three")
    parser.add_argument("PLAN", type=Path, help="the plan's JSON file, equal at all three")
    parser.add_argument("--network", type=Path, help="shopper: the network's .npz file")
    parser.add_argument("--own", type=Path, help=f"shopper: own rows, {ARRAYS}")
    parser.add_argument("--validation", type=Path, help="shopper: rows to validate on, a file of the same form")
    parser.add_argument("--inbox", type=Path, help="cloud (ife_transform), shopper (ife_shares): the sellers' uploads")
    parser.add_argument("--state", type=Path, help="authority: its folder")
    parser.add_argument("--out", type=Path, help="shopper: the file for the result, as JSON")
    parser.add_argument("--deliver", type=Path, help="shopper: the file for a delivered network")
    parser.add_argument(
        "--transport", choices=TRANSPORTS, default="tls", help="how messages travel (default: %(default)s)"
    )
    parser.add_argument("--tls", help="the folder of certificate files; see `mpc-appraisal certificates`")
    parser.add_argument(
        "--in-the-clear",
        action="store_true",
        help="state that anybody who can read the network may read all that is sent; --transport tcp needs it",
    )
    parser.add_argument(
        "--join-timeout", type=float, default=120.0, help="seconds to wait for the others (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=float, default=300.0, help="seconds that one message may take (default: %(default)s)"
    )
    parser.add_argument("--label-cap", type=int, help="authority: the most labels of one seller (default: no cap)")
    add_cap_share(parser)


def run(stated: argparse.Namespace) -> None:
    """Take part in one role. The shopper prints the result, and writes it where --out and --deliver say so.

    Raises InputError, DisagreementError and PeerError as `take_part` does, and InputError for a missing file.
    """
    with reworded(by_own_names):
        result = _take_part(stated)
    if result is None:
        print("done: the shopper has the result")
    else:
        _print(result, stated)


def by_own_names(text: str) -> str:
    """Return the text of an error with the names of this command: shopper, cloud, authority, --tls, ADDRESS."""
    words = SEAT.sub(lambda found: MARKET_NAMES[found[1]], text)
    return words.replace("session.tls", "--tls").replace("session.rendezvous", "ADDRESS")


def _take_part(stated: argparse.Namespace) -> MarketResult | None:
    market = read_plan(stated.PLAN)
    reads: dict[str, Callable[[], Own]] = {
        SHOPPER: lambda: ShopperInput(
            Network.load(_needed(stated.network, "network")),
            None if stated.own is None else read_images(stated.own, "own"),
            None if stated.validation is None else read_images(stated.validation, "validation"),
            stated.inbox,
        ),
        CLOUD: lambda: CloudInput(stated.inbox),
        AUTHORITY: lambda: AuthorityInput(_needed(stated.state, "state"), stated.cap_share, stated.label_cap),
    }
    role = ROLES[stated.ROLE]
    check_clear(stated.transport, stated.in_the_clear, "--in-the-clear")
    connection = Connection(Transport(stated.transport, stated.tls), stated.join_timeout, stated.timeout)
    refusal = _print_refusal if role != SHOPPER else ignore  # the shopper prints refusals with its result
    return take_part(role, stated.ADDRESS, market, reads[role], connection, refusal=refusal)


def _print_refusal(seller: str, why: str) -> None:
    print(f"refused: {seller}: {by_own_names(why)}", flush=True)


def _print(result: MarketResult, stated: argparse.Namespace) -> None:
    """Print the result, and write what was asked for."""
    print(f"{result.label}")
    for sentence in result.leakage:
        print(f"- {sentence}")
    for name, why in result.refused:
        _print_refusal(name, why)
    print(f"selected {len(result.selected)} rows of {len(result.probabilities)} sellers")
    for verdict in result.verdicts:
        word = "accepted" if verdict.accepted else "refused"
        print(f"subset {verdict.subset}: error {verdict.error:.4f}, threshold {verdict.threshold:.4f}: {word}")
    if stated.out is not None:
        stated.out.write_text(json.dumps(as_json(result), indent=1) + "\n")
    if stated.deliver is not None and result.network is not None:
        result.network.save(stated.deliver)


def as_json(result: MarketResult) -> dict[str, Any]:
    """Return all of the result but the predictions and the network, in values that JSON has.

    Costs and openings have the roles' names of this command.
    """
    costs = {
        phase: {MARKET_NAMES.get(role, role): cost for role, cost in roles.items()}
        for phase, roles in result.costs.items()
    }
    opened = [opening.as_dict() for opening in result.openings]
    return {
        "label": result.label,
        "leakage": list(result.leakage),
        "selected": [list(pair) for pair in result.selected],
        "verdicts": [asdict(v) | {"error": v.error, "accepted": v.accepted} for v in result.verdicts],
        "labels": None if result.labels is None else result.labels.tolist(),
        "refused": [list(pair) for pair in result.refused],
        "costs": costs,
        "openings": [each | {"to": [MARKET_NAMES[role] for role in each["to"]]} for each in opened],
    }


def _needed(path: Path | None, name: str) -> Path:
    """Return the path, which the role cannot do without. Raises InputError if it is None."""
    if path is None:
        raise InputError(name, None, f"--{name}: this role needs it")
    return path
