"""`mpc-appraisal market example`: write the files of all organisations of a market for a first try.

In go a folder and a protocol. Out come plan.json, the shopper's network.npz, own.npz and validation.npz, the data of
three sellers, and certificates for all. The images are scikit-learn's digits of 8 x 8 pixels, and no two files have a
row in common. The last seller's labels are wrong, so that there is something to refuse. The names of the files stand
in docs/marketplace.md and have to stay as they are there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mpc_appraisal.cli.commands.market.plan import text_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.marketplace.cap import CAP_SHARE
from mpc_appraisal.marketplace.plan import PIXEL
from mpc_appraisal.marketplace.plan_file import PROTOCOLS, market_of
from mpc_appraisal.models.networks import initial, train
from mpc_appraisal.mpc.net.certificates import MARKET, make_trial

SELLERS = ("seller-a", "seller-b", "seller-c")
OWN, FIRST, ROWS, ASKED = 100, 100, 60, 300  # the shopper's rows, where sellers begin, rows of each, validation rows
PLAN = {
    "image": [1, 8, 8],
    "selection": "margin",
    "budget": 30,
    "validation": {"granularity": 10, "steps": 20, "lr": 0.05, "batch_size": 16},
}
CERTIFICATES = "certificates"
FILES = ("plan.json", "network.npz", "own.npz", "validation.npz", *(f"{name}.npz" for name in SELLERS), CERTIFICATES)


def add(actions: argparse._SubParsersAction) -> None:
    """Add the action's arguments."""
    parser = actions.add_parser("example", help="write files, a plan and certificates for a first try")
    parser.set_defaults(run=run)
    parser.add_argument("DIR", type=Path, help="a folder, which is made if it is not there")
    parser.add_argument(
        "--protocol", choices=sorted(PROTOCOLS), default="ife_transform", help="the protocol (default: %(default)s)"
    )


def run(stated: argparse.Namespace) -> None:
    """Write the files, and print what is whose. Raises InputError if DIR has files of these names."""
    folder = stated.DIR
    if taken := [name for name in FILES if (folder / name).exists()]:
        raise InputError("DIR", f"{folder}, which holds {', '.join(taken)}", "a folder without files of these names")
    folder.mkdir(parents=True, exist_ok=True)
    rows, asked = Digits().load()
    plan = {"protocol": stated.protocol} | PLAN
    (folder / "plan.json").write_text(text_of(plan, CAP_SHARE))
    own = _images(rows, 0, OWN)
    network = train(
        initial(market_of(plan).architecture, 0), torch.from_numpy(own[0]).float() / PIXEL, torch.from_numpy(own[1]),
        epochs=12, lr=0.05,
    )  # fmt: skip
    network.save(folder / "network.npz")
    _save(folder / "own.npz", *own)
    _save(folder / "validation.npz", *_images(asked, 0, ASKED))
    for place, name in enumerate(SELLERS):
        x, y = _images(rows, FIRST + place * ROWS, ROWS)
        _save(folder / f"{name}.npz", x, (y + 1) % 10 if name == SELLERS[-1] else y)
    make_trial(folder / CERTIFICATES, names=tuple(MARKET), sellers=SELLERS)
    print(
        f"{folder}: plan.json for all; network.npz, own.npz and validation.npz of the shopper; "
        f"{', '.join(f'{name}.npz' for name in SELLERS)} of the sellers; and a folder for each in {CERTIFICATES}"
    )


def _images(data: Dataset, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` rows as x (count, 64) uint8 and y (count,) int64."""
    part = data.subset(torch.arange(start, start + count))
    return (part.x.double() * PIXEL).round().to(torch.uint8).numpy(), part.y.numpy().astype(np.int64)


def _save(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    np.savez(path, x=x, y=y)
