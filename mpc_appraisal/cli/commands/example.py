"""`mpc-appraisal example DIR`: write files of two organisations for a first try, from scikit-learn's digits.

In goes a folder. Out come train.npz and test.npz of the model owner, seller.csv of the data owner, and trial
certificates of each role. The names of the files stand in README.md and have to stay as they are there. The rows of the
two owners have to stay disjoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.mpc.net.certificates import make_trial

TRAIN, SELLER = (0, 600), (700, 1200)  # the rows of the digits that each owner gets, which are disjoint
CERTIFICATES = "certificates"


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
    folder = parser.parse_args(arguments).DIR
    rows, test = Digits().load()
    taken = [name for name in ("train.npz", "test.npz", "seller.csv", CERTIFICATES) if (folder / name).exists()]
    if taken:
        raise InputError("DIR", f"{folder}, which holds {', '.join(taken)}", "a folder without files of these names")
    folder.mkdir(parents=True, exist_ok=True)

    def part(bounds: tuple[int, int]) -> Dataset:
        return rows.subset(torch.arange(*bounds))

    columns = [
        f"pixel {k}" for k in range(rows.features)
    ]  # Both sides state names, so that columns are compared by name.
    for name, data in (("train", part(TRAIN)), ("test", test)):
        np.savez(folder / f"{name}.npz", x=data.x.numpy(), y=data.y.numpy(), columns=np.array(columns))
    seller = part(SELLER)
    table = pd.DataFrame(seller.x.numpy(), columns=columns)
    table.assign(label=seller.y.numpy()).to_csv(folder / "seller.csv", index=False)
    make_trial(folder / CERTIFICATES)
    print(
        f"{folder}: train.npz and test.npz of the model owner, seller.csv of the data owner, and "
        f"a folder for each role in {CERTIFICATES}"
    )


__all__ = ["main"]
