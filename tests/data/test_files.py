"""What is read from a party's file equals what was written, and each bad file is an InputError that says what."""

import io
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import StoredDataset, read_dataset
from mpc_appraisal.data import tables as loaders


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet", "CSV"])
def test_reads_what_was_written(tmp_path, suffix):
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((20, 3)), generator.integers(0, 4, 20)
    path = tmp_path / f"party.{suffix}"
    if suffix == "npz":
        np.savez(path, x=x, y=y)
        data = read_dataset(path, classes=6)
    else:
        table = pd.DataFrame(x, columns=["a", "b", "c"])
        table.insert(1, "kind", y)
        table.to_parquet(path) if suffix == "parquet" else table.to_csv(path, index=False)
        data = read_dataset(str(path), label="kind", classes=6)
    assert data.x.dtype == torch.float64 and data.classes == 6 and data.name == "party.data"
    np.testing.assert_allclose(data.x.numpy(), x, rtol=1e-15)
    assert data.y.tolist() == y.tolist()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_a_stored_file_is_in_memory_block_by_block_and_only_while_a_block_is_used(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("mpc_appraisal.data.arrays.PIECE", 64)  # so that an array is read in several pieces
    x, y = np.random.default_rng(1).integers(0, 256, (50, 3)).astype(kind), np.arange(50) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    stored, seen = StoredDataset(tmp_path / "a.npz", "label", None, "data"), []
    for block in stored.blocks(20):
        start = 20 * len(seen)
        assert block.x.dtype == (torch.float64 if kind == np.float64 else torch.float32)
        assert block.x.tolist() == x[start : start + 20].tolist() and block.y.tolist() == y[start : start + 20].tolist()
        seen.append(weakref.ref(block.x))
        del block
        assert all(ref() is None for ref in seen)
    assert len(seen) == 3


def test_npz_images_are_flattened_and_float32_widened(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", x=x, y=[1, 0])
    data = read_dataset(tmp_path / "a.npz")
    assert data.x.dtype == torch.float64 and data.x.tolist() == x.reshape(2, 12).tolist()


def test_parquet_with_nullable_columns(tmp_path):
    table = pd.DataFrame({"a": pd.array([1, 2], "Int64"), "label": pd.array([0, 1], "Int64")})
    table.to_parquet(tmp_path / "a.parquet")
    assert read_dataset(tmp_path / "a.parquet").x.tolist() == [[1], [2]]
    table.loc[1, "a"] = pd.NA
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="1 values of x that are NaN or infinite, the first in row 1"):
        read_dataset(tmp_path / "a.parquet")


TEXT = {
    "no label column": ("a,b\n1,2\n", "one label column named 'label'"),
    "two label columns": ("label,a,label\n0,2,0\n", "one label column"),
    "header alone": ("a,label\n", "one row or more"),
    "empty": ("", "one row or more"),
    "text column": ("a,b,label\n1,x,0\n2,y,1\n", "numeric columns only, or a recipe .*recipe infer"),
    "text labels": ("a,label\n1,cat\n2,dog\n", "numeric columns only"),
    "a value missing": ("a,label\n1,0\n,1\n", "finite numbers"),
    "an infinity": ("a,label\n1,0\n1e999,1\n", "finite numbers"),
    "a label missing": ("a,label\n1,0\n2,\n", "integer labels"),
    "a label not integer": ("a,label\n1,0\n2,0.5\n", "integer labels"),
    "a label out of range": ("a,label\n1,0\n2,3\n", "labels 0 .. 2"),
    "a row index": (",a,label\n0,1,0\n1,2,1\n", "index=False"),
    "equal names": ("a,a,label\n0,1,0\n1,2,1\n", "different, non-empty name"),
    "long rows": ("a,label\n9,1,0\n9,2,1\n", "a name for every column"),
    "uneven rows": ("a,label\n1,0\n9,2,1\n", "a field for every name"),
    "labels alone": ("label\n0\n1\n", "one feature or more"),
}


@pytest.mark.parametrize("case", TEXT)
def test_bad_csv(tmp_path, case):
    text, expected = TEXT[case]
    (tmp_path / "party.csv").write_text(text)
    with pytest.raises(InputError, match=expected) as error:
        read_dataset(tmp_path / "party.csv", classes=3, name="party.train")
    assert error.value.name.startswith("party.train")
    assert str(tmp_path) not in error.value.public


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_unreadable_files(tmp_path, suffix):
    path = tmp_path / f"party.{suffix}"
    with pytest.raises(InputError, match="an existing file"):
        read_dataset(path)
    path.mkdir()
    with pytest.raises(InputError, match="an existing file"):
        read_dataset(path)
    path.rmdir()
    path.write_bytes(b"\x80\x81\xff\x00\n" * 50)
    with pytest.raises(InputError, match=f"a readable .{suffix} file"):
        read_dataset(path)
    if suffix != "csv":
        whole = io.BytesIO()
        if suffix == "npz":
            np.savez_compressed(whole, x=np.ones((50, 2)), y=np.zeros(50))
        else:
            pd.DataFrame({"a": [1.0] * 50, "label": [0] * 50}).to_parquet(whole)
        path.write_bytes(whole.getvalue()[:-40])
        with pytest.raises(InputError, match=f"a readable .{suffix} file"):
            read_dataset(path)


def test_file_without_permission(tmp_path, monkeypatch):
    """The permission is refused by hand, for the superuser, as whom tests may run, may read every file."""
    path = tmp_path / "party.csv"
    path.write_text("a,label\n1,0\n")
    assert read_dataset(path).rows == 1

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(loaders, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"Permission denied.*a readable .csv file"):
        read_dataset(path)


@pytest.mark.parametrize("file", ["party.txt", "party", "party.csv.gz"])
def test_unknown_suffix(tmp_path, file):
    (tmp_path / file).write_text("a,label\n1,0\n")
    with pytest.raises(InputError, match=".npz, .csv or .parquet"):
        read_dataset(tmp_path / file)


def test_bad_npz(tmp_path):
    path = tmp_path / "a.npz"
    for arrays, expected in (
        ({"x": np.ones((2, 1))}, "arrays named x and y"),
        ({"y": [0]}, "arrays named x and y"),
        ({"x": np.ones(2), "y": [0, 1]}, "two dimensions"),
        ({"x": np.ones((2, 1)), "y": [0]}, "as many labels as rows"),
        ({"x": [["a"], ["b"]], "y": [0, 1]}, "real numbers"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=expected):
            read_dataset(path)


class Trap:
    """Its pickle creates a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_ever_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([[Trap(tmp_path / "sprung")]], dtype=object), y=[0])
    with pytest.raises(InputError, match="a readable .npz file"):
        read_dataset(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()
