"""Readers of data files, whole or in blocks, and of public data sets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from fuzz_registry import X, Y, of_file, saved
from shop import RECIPE, shop

from mpc_appraisal.data import Recipe, files, public, read_dataset
from mpc_appraisal.data.items import items_of_keys
from mpc_appraisal.data.recipe.yaml_text import read_yaml

TABLE = pd.DataFrame(X, columns=["age", "income", "visits"]).assign(label=Y)
KEYS = pd.DataFrame({"id": [f"key {k % 7}" for k in range(12)], "age": range(12)})


def keys(path: Path) -> Any:
    return items_of_keys(path, "id", "file")


def whole(path: Path) -> Any:
    return read_dataset(path)


def stored(path: Path) -> Any:
    """As a file that is too large for the memory."""
    with mock.patch.object(files, "STORED_BYTES", 0):
        data = files.open_dataset(path)
        return list(data.blocks(5))


of_file("npz", ".npz", saved(lambda p: np.savez(p, x=X, y=Y), ".npz"), whole)
of_file("csv", ".csv", saved(lambda p: TABLE.to_csv(p, index=False), ".csv"), whole, 24)
of_file("parquet", ".parquet", saved(lambda p: TABLE.to_parquet(p), ".parquet"), whole)
of_file("stored npz", ".npz", saved(lambda p: np.savez(p, x=X, y=Y), ".npz"), stored)
of_file("stored parquet", ".parquet", saved(lambda p: TABLE.to_parquet(p), ".parquet"), stored)
of_file("keys csv", ".csv", saved(lambda p: KEYS.to_csv(p, index=False), ".csv"), keys, 24)
of_file("keys parquet", ".parquet", saved(lambda p: KEYS.to_parquet(p), ".parquet"), keys)
of_file("keys npz", ".npz", saved(lambda p: np.savez(p, id=KEYS["id"].to_numpy(dtype=str)), ".npz"), keys)
IDX = bytes([0, 0, 8, 1, 0, 0, 0, 5]) + bytes(range(5))
of_file("idx", ".idx", lambda folder: [IDX], lambda path: public._idx(path, 1))


def cifar(folder: Path) -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("data_batch_1.bin", "test_batch.bin"):
            entry = tarfile.TarInfo(f"cifar/{name}")
            entry.size = 3073
            archive.addfile(entry, io.BytesIO(bytes(3073)))
    return [out.getvalue()]


of_file("cifar", ".tar.gz", cifar, lambda path: public._tar(path, ("data_batch_1.bin", "test_batch.bin")))

SHOP, OWN = shop(12, 0), Recipe.of(read_yaml(RECIPE))


def texts(path: Path) -> None:
    np.savez(path, **{name: np.array([str(one) for one in column]) for name, column in SHOP.fillna(1).items()})


of_file("recipe", ".yaml", lambda folder: [RECIPE.encode()], Recipe.load)
of_file("raw csv", ".csv", saved(lambda p: SHOP.to_csv(p, index=False), ".csv"), OWN.apply)
of_file("raw parquet", ".parquet", saved(lambda p: SHOP.to_parquet(p), ".parquet"), OWN.apply)
of_file("raw npz", ".npz", saved(texts, ".npz"), OWN.apply)
