"""`mpc-appraisal example DIR`: write files of two organisations for a first try, from scikit-learn's digits.

In goes a folder. Out come train.npz and test.npz of the model owner, seller.csv of the data owner, and trial
certificates of each role; with --only ROLE, an owner's data alone. The names of the files stand in README.md and in
docs/tutorials/walk_through.md and have to stay as they are there. The rows of the two owners have to stay disjoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.mpc.net.certificates import make_trial

TRAIN, SELLER = (0, 600), (700, 1200)  # the rows of the digits that each owner gets, which are disjoint
CERTIFICATES = "certificates"
FILES = {MODEL_OWNER: ("train.npz", "test.npz"), DATA_OWNER: ("seller.csv",)}
EVERYTHING = ("train.npz", "test.npz", "seller.csv", CERTIFICATES)
WORDS = {MODEL_OWNER: "train.npz and test.npz of the model owner", DATA_OWNER: "seller.csv of the data owner"}


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError if DIR has files of these names."""
    import pandas as pd

    parser = argparse.ArgumentParser(
        prog="mpc-appraisal example",
        description="Write train.npz and test.npz, a model owner's, and seller.csv, a data owner's 500 rows, into DIR: "
        "scikit-learn's handwritten digits, for a first try of the commands in the README. DIR/certificates gets a "
        "trial certificate for each role, as `mpc-appraisal certificates` makes them.",
    )
    parser.add_argument("DIR", type=Path, help="a folder, which is made if it is not there")
    parser.add_argument("--only", metavar="ROLE", choices=OWNERS, help="write the data of this owner alone")
    stated = parser.parse_args(arguments)
    folder, names = stated.DIR, FILES.get(stated.only, EVERYTHING)
    rows, test = Digits().load()
    taken = [name for name in names if (folder / name).exists()]
    if taken:
        raise InputError("DIR", f"{folder}, which holds {', '.join(taken)}", "a folder without files of these names")
    folder.mkdir(parents=True, exist_ok=True)

    def part(bounds: tuple[int, int]) -> Dataset:
        return rows.subset(torch.arange(*bounds))

    columns = [
        f"pixel {k}" for k in range(rows.features)
    ]  # Both sides state names, so that columns are compared by name.
    if stated.only != DATA_OWNER:
        for name, data in (("train", part(TRAIN)), ("test", test)):
            np.savez(folder / f"{name}.npz", x=data.x.numpy(), y=data.y.numpy(), columns=np.array(columns))
    if stated.only != MODEL_OWNER:
        seller = part(SELLER)
        table = pd.DataFrame(seller.x.numpy(), columns=columns)
        table.assign(label=seller.y.numpy()).to_csv(folder / "seller.csv", index=False)
    if stated.only is None:
        make_trial(folder / CERTIFICATES)
    said = [WORDS[role] for role in OWNERS if stated.only in (None, role)]
    print(f"{folder}: {', '.join(said)}" + f", and a folder for each role in {CERTIFICATES}" * (stated.only is None))


__all__ = ["main"]
