"""`mpc-appraisal market plan`: print the plan of a market as JSON, for the file that all organisations have.

In go the public facts as arguments; out comes the plan on standard output, after it was checked as `join` checks it. An
argument may be added, if its key is one of `plan_file`. Nothing else may be printed, because the output is the file.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from mpc_appraisal.cli.commands.market.options import add_cap_share, add_network
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.buying.selection import STRATEGIES
from mpc_appraisal.marketplace.cap import check_cap
from mpc_appraisal.marketplace.plan_file import PROTOCOLS, market_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import UPDATES
from mpc_appraisal.marketplace.protocols.shares_plan import OPENS

KEYS = (
    "network",
    "image",
    "classes",
    "scheme",
    "update",
    "opens",
    "seller_rows",
    "batch",
)  # only where they are stated
VALIDATION = ("granularity", "steps", "lr", "batch_size")
FREE = ("momentum", "deliver")  # of the validation, only where they are stated


def add(actions: argparse._SubParsersAction) -> None:
    """Add the action's arguments."""
    parser = actions.add_parser("plan", help="print the plan, which all organisations have as a file")
    parser.set_defaults(run=run)
    parser.add_argument(
        "--protocol", choices=sorted(PROTOCOLS), default="ife_transform", help="the protocol (default: %(default)s)"
    )
    add_network(parser)
    parser.add_argument("--update", choices=UPDATES, help="ife_transform: the cloud's steps (default: exact)")
    parser.add_argument("--opens", choices=OPENS, help="ife_shares: what a validation shows (default: errors)")
    parser.add_argument(
        "--selection", choices=sorted(STRATEGIES), default="margin", help="the rule of selection (default: %(default)s)"
    )
    parser.add_argument("--budget", type=int, default=100, help="the rows to select (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of selection and training (default: %(default)s)")
    parser.add_argument("--batch", type=int, help="the images in one message (default: 256)")
    parser.add_argument("--seller-rows", type=int, help="the most rows of one seller (default: 131072)")
    parser.add_argument("--no-validation", action="store_true", help="select rows, and try no subsets of them")
    parser.add_argument("--granularity", type=int, default=50, help="the rows of a subset (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="the steps of a retraining (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.05, help="the learning rate (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="the rows of one step (default: %(default)s)")
    parser.add_argument("--momentum", type=float, help="ife_transform: the momentum of a retraining (default: 0)")
    parser.add_argument("--deliver", action="store_true", help="ife_transform: the shopper gets the retrained network")
    add_cap_share(parser)


def run(stated: argparse.Namespace) -> None:
    """Print the plan. Raises InputError for a value that does not fit, and for a network that the cap refuses."""
    print(text_of(stated_plan(stated), stated.cap_share), end="")


def stated_plan(stated: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of the plan that the arguments state."""
    plan: dict[str, Any] = {name: getattr(stated, name) for name in ("protocol", "selection", "budget", "seed")}
    plan |= {name: getattr(stated, name) for name in KEYS if getattr(stated, name) is not None}
    if not stated.no_validation:
        validation = {name: getattr(stated, name) for name in VALIDATION} | {"seed": stated.seed}
        plan["validation"] = validation | {name: getattr(stated, name) for name in FREE if getattr(stated, name)}
    elif stated.deliver:
        raise InputError("--deliver", True, "a validation: without one there is no network to deliver")
    return plan


def text_of(plan: dict[str, Any], cap_share: float) -> str:
    """Return the plan as JSON with a key on each line, which `join` accepts. Raises InputError for any other plan."""
    check_cap(market_of(plan).architecture, cap_share)
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in plan.items())
    return f"{{\n{lines}\n}}\n"
