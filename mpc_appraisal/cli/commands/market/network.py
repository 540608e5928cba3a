"""`mpc-appraisal market network`: at the shopper, write the file of the network that `join --network` reads.

In go the plan, and either the shopper's own rows, on which the plan's network is trained in the clear, or the weights
of a network that was trained elsewhere with PyTorch. Out come the .npz file and the errors on the rows that were
stated. How it trains may change. A file with weights must never run code when it is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mpc_appraisal.cli.commands.market.options import ARRAYS, read_images
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.plan import PIXEL, rows_of
from mpc_appraisal.marketplace.plan_file import read_plan
from mpc_appraisal.models.networks import Architecture, Network, initial, train

STATE = "a PyTorch state_dict with a weight and a bias of each layer, in the order of the layers"


def add(actions: argparse._SubParsersAction) -> None:
    """Add the action's arguments."""
    parser = actions.add_parser("network", help="at the shopper: train the plan's network, or import it from PyTorch")
    parser.set_defaults(run=run)
    parser.add_argument("PLAN", type=Path, help="the plan's JSON file")
    parser.add_argument("--own", type=Path, help=f"the rows to train on, {ARRAYS}")
    parser.add_argument("--state", type=Path, help=f"in place of --own: {STATE}, as torch.save writes it")
    parser.add_argument("--validation", type=Path, help="rows of the same form, on which errors are counted")
    parser.add_argument(
        "--out", type=Path, default=Path("network.npz"), help="the network's file (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=20, help="the epochs of training (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.05, help="the learning rate (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="the rows of one step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of first weights and shuffles (default: 0)")


def run(stated: argparse.Namespace) -> None:
    """Write the network's file, and print its errors. Raises InputError for a bad file or setting."""
    architecture = read_plan(stated.PLAN).architecture
    if (stated.own is None) == (stated.state is None):
        raise InputError("--own", stated.own, "either --own, rows to train on, or --state, weights to import")
    rows = {name: _rows(getattr(stated, name), architecture, name) for name in ("own", "validation")
            if getattr(stated, name) is not None}  # fmt: skip
    if stated.state is not None:
        network = imported(stated.state, architecture)
    else:
        network = train(
            initial(architecture, stated.seed), *rows["own"], epochs=stated.epochs, lr=stated.lr,
            batch_size=stated.batch_size, seed=stated.seed,
        )  # fmt: skip
    stated.out.parent.mkdir(parents=True, exist_ok=True)
    network.save(stated.out)
    channels, height, width = architecture.image
    print(f"{stated.out}: {architecture.name} for images of {channels} x {height} x {width}")
    for name, (x, y) in rows.items():
        wrong = int((network.logits(x).argmax(1) != y).sum())
        print(f"wrong on {wrong} of {len(y)} {name} rows")


def imported(path: Path, architecture: Architecture) -> Network:
    """Read the weights in a PyTorch file, which is never unpickled as code. Raises InputError for any other file."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        tensors = [tensor.float() for tensor in found.values()]
    except Exception as error:  # torch raises errors of many kinds for bytes that it cannot read
        raise InputError("state", f"{path} ({type(error).__name__})", STATE) from error
    layers = len(architecture.layers)
    if len(tensors) != 2 * layers:
        raise InputError("state", f"{path} with {len(tensors)} tensors", f"{STATE}: {2 * layers} for {layers} layers")
    try:
        return Network(architecture, tuple(tensors[::2]), tuple(tensors[1::2]))
    except InputError as error:
        raise InputError(f"state {error.name}", error.value, error.expected) from error


def _rows(path: Path, architecture: Architecture, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows as (x, y), with x (n, d) float32 in [0, 1]. Raises InputError for rows that do not fit."""
    x, y = rows_of(read_images(path, name), architecture, name)
    return x.float() / PIXEL, y
