"""A data set's commitment is the same bytes under every supported version of pandas, numpy and pyarrow, in every
format, and for small and large files. The digests are pinned: a listing made by today's release goes on checking.

MPC_APPRAISAL_OTHER_PACKAGES may name a folder with other versions (`pip install --target`): the table is then computed
in a process with these too.
"""

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mpc_appraisal.data import StoredDataset, files, open_dataset
from mpc_appraisal.governance.catalogue.commitment import DOMAIN, commit

SALT = bytes(range(32))
N = 40
Y = np.arange(N) % 3
OTHER = "MPC_APPRAISAL_OTHER_PACKAGES"


def awkward() -> np.ndarray:
    """Doubles of 17 digits over the whole range, denormals, both zeros, neighbours of powers of two."""
    bits = np.random.PCG64(5).random_raw(4 * N)  # the same under every numpy
    x = bits.view(np.float64).copy()
    x[~np.isfinite(x)] = 0.1
    x[:9] = [-0.0, 0.0, 5e-324, 2.2250738585072011e-308, 1.7976931348623157e308, 0.1 + 0.2, 2.0**53 + 2, 1 / 3, -1e-5]
    return x.reshape(N, 4)


def integers(low: int, high: int) -> np.ndarray:
    span = np.uint64(high - low)
    return (np.random.PCG64(7).random_raw(2 * N) % span).astype(np.int64).reshape(N, 2) + low


TABLES = {
    "doubles": awkward(),
    "float32": (integers(-(10**9), 10**9) / 7e9).astype(np.float32),
    "float16": (integers(-2048, 2048) / 64).astype(np.float16),
    "bytes": integers(0, 256).astype(np.uint8),
    "integers": integers(-(2**31), 2**31),
    "beyond 2^53": integers(2**53, 2**62),
    "unsigned": integers(0, 2**62).astype(np.uint64) * np.uint64(3),
    "booleans": integers(0, 2).astype(bool),
}
DIGESTS = {
    "doubles": "406793a05288602749dc207e8bddd7601bddfeb508408753483987f235197779",
    "float32": "0d1372131f2b7ecd6fe85acca0d21a1732802b60f34213994b399bffbf12bcc0",
    "float16": "ae2de4d8c3be97c86314d44b20b80d19ed2d523e40f6700774f4f0cacdb711f1",
    "bytes": "e9e18e9396b9207c0b96bbb1cc333ca927dcdb252da4c267ba28ed4069bd0cf3",
    "integers": "363afb4d0a394a2e766a5ccaadc077150fea2a051c80382035f121c750dfc82d",
    "beyond 2^53": "441fd855a30bac10f1c7755234fefd5d1b7b5f924c9ea2680cd1653e5739e313",
    "unsigned": "27d4eb5a216d6a08530fd56325c673a71b7fe14bfb9a73d6297efd29b10df776",
    "booleans": "30909c83718f77052fea5bab7a12b7d57edc06c1649f12005e920351ba57e50c",
}


def by_hand(x: np.ndarray, y: np.ndarray) -> str:
    """As the docstring of `commitment` says, one number at a time."""
    found = hashlib.sha256(DOMAIN + SALT + struct.pack("<3Q", len(x), x.shape[1], 3))
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        found.update(struct.pack("<q", label))
        for value in row:
            found.update(struct.pack("<d", float(value) + 0.0))  # Python's own nearest double
    return found.hexdigest()


def write(folder: Path, key: str, suffix: str) -> Path:
    x, path = TABLES[key], folder / f"table{suffix}"
    names = [f"c{k}" for k in range(x.shape[1])]
    if suffix == ".npz":
        np.savez(path, x=x, y=Y)
    elif suffix == ".csv":
        wide = x.astype(np.float64) if x.dtype.kind == "f" else x
        lines = [",".join([*map(repr, row), str(label)]) for row, label in zip(wide.tolist(), Y.tolist(), strict=True)]
        path.write_text("\n".join([",".join([*names, "label"]), *lines]) + "\n")
    else:
        columns = {name: pa.array(x[:, k]) for k, name in enumerate(names)}
        parquet.write_table(pa.table({**columns, "label": pa.array(Y)}), path, row_group_size=13)
    return path


def computed(folder: Path) -> dict[str, set[str]]:
    """The digests of each table over all formats and both ways of reading."""
    found: dict[str, set[str]] = {}
    for key in TABLES:
        for suffix in (".npz", ".csv", ".parquet"):
            path = write(folder, key, suffix)
            for stored in (0, 1 << 26):
                files.STORED_BYTES = stored
                data = open_dataset(path)
                assert isinstance(data, StoredDataset) == (stored == 0 and suffix != ".csv")
                found.setdefault(key, set()).add(commit(data, SALT))
    return found


def test_every_format_and_size_has_the_pinned_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "STORED_BYTES", files.STORED_BYTES)  # restores it afterwards
    assert computed(tmp_path) == {key: {digest} for key, digest in DIGESTS.items()}


@pytest.mark.parametrize("key", TABLES)
def test_pinned_digests_are_those_of_the_documented_bytes(key):
    assert by_hand(TABLES[key], Y) == DIGESTS[key]


def test_with_other_versions(tmp_path):
    """The same table in a process of its own, with another pandas where one is named, else with this one again."""
    here = Path(__file__).resolve().parent
    paths = [os.environ[OTHER]] if os.environ.get(OTHER) else []
    paths += [str(here), str(here.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    script = (
        "import pathlib, sys, test_digests as t; found = t.computed(pathlib.Path(sys.argv[1]));"
        "assert found == {k: {d} for k, d in t.DIGESTS.items()}, found"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
