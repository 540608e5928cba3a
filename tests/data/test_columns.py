"""Names of columns and classes: every reader tells them, every change of the data keeps them, and `arranged` finds
columns by name."""

import numpy as np
import pandas as pd
import pytest
import torch

from mpc_appraisal.appraisal.sessions import _read_file, _writer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, RandomRelu, StoredDataset, files, mapped, open_dataset, standardise, transformed

NAMES, KINDS = ("age", "income", "visits"), ("cat", "dog", "emu")
X = np.random.default_rng(0).normal(size=(12, 3)).round(3)
Y = np.arange(12) % 2


def write(path, names=NAMES, x=X, y=Y, **arrays):
    if path.suffix == ".npz":
        np.savez(path, x=x, y=y, columns=np.array(names), class_names=np.array(KINDS), **arrays)
        return path
    table = pd.DataFrame(x, columns=list(names))
    table.insert(1, "label", y)
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


@pytest.fixture(params=["whole.csv", "whole.parquet", "whole.npz", "stored.parquet", "stored.npz"])
def data(request, tmp_path, monkeypatch):
    kind, suffix = request.param.split(".")
    monkeypatch.setattr(files, "STORED_BYTES", 0 if kind == "stored" else 1 << 26)
    data = open_dataset(write(tmp_path / f"d.{suffix}"))
    assert isinstance(data, StoredDataset) == (kind == "stored")
    return data


def rows(data) -> np.ndarray:
    return torch.cat([block.x for block in data.blocks(5)]).numpy()


def test_readers_tell_the_names_and_changes_keep_them(data):
    kinds = data.class_names
    assert data.columns == NAMES and kinds in (None, KINDS)
    assert data.classes == (2 if kinds is None else 3)
    same = {
        "renamed": data.renamed("other"),
        "with_classes": data.with_classes(4),
        "standardised": standardise(data, 1.0, 2.0),
        "transformed": transformed(data, lambda x: x / 2, 3),
    }
    if isinstance(data, Dataset):
        same["subset"] = data.subset([3, 1])
    for key, changed in same.items():
        assert (changed.columns, changed.class_names) == (NAMES, kinds), key
        assert {(b.columns, b.class_names) for b in changed.blocks(5)} == {(NAMES, kinds)}, key
    for fewer in (data.with_classes(2), transformed(data, lambda x: x, 2)):
        assert fewer.class_names == (kinds and KINDS[:2]) and next(fewer.blocks(5)).class_names == fewer.class_names
    features = mapped(data, RandomRelu(4))
    assert features.columns is None and next(features.blocks(5)).columns is None and features.class_names == kinds
    with pytest.raises(InputError, match=r"a label 1;|2 or more"):
        data.with_classes(1)


def test_arranged_finds_columns_by_name(data):
    turned = data.arranged(("visits", "age", "income"))
    assert turned.columns == ("visits", "age", "income") and turned.features == 3
    assert np.array_equal(rows(turned), X[:, [2, 0, 1]]) and np.array_equal(rows(data), X)
    assert {b.columns for b in turned.blocks(5)} == {turned.columns}
    assert np.array_equal(rows(turned.arranged(NAMES)), X)
    # One number a feature goes with the order at the time when it is said.
    by_feature = standardise(data, [1.0, 2.0, 3.0], 1.0).arranged(("visits", "age", "income"))
    assert np.allclose(rows(by_feature), (X - [1, 2, 3])[:, [2, 0, 1]])
    assert np.allclose(rows(standardise(turned, [3.0, 1.0, 2.0], 1.0)), rows(by_feature))


def test_arranged_tells_the_difference(data):
    with pytest.raises(InputError) as error:
        data.arranged(("age", "Income", "clicks"))
    assert error.value.value == (
        "columns without 'Income', 'clicks', with 'income', 'visits' in addition, perhaps 'income' for 'Income'"
    )
    assert error.value.expected == "columns 'age', 'Income', 'clicks', in any order"
    with pytest.raises(InputError, match="columns with 'visits' in addition"):
        data.arranged(("age", "income"))
    with pytest.raises(InputError, match="columns without 'more'"):
        data.arranged((*NAMES, "more"))
    with pytest.raises(InputError, match="features without names"):
        Dataset.of(X, Y).arranged(NAMES)


@pytest.mark.parametrize(
    "names, expected",
    [
        ({"columns": ("a", "b")}, "2 names"),
        ({"columns": ("a", "b", "a")}, "different, non-empty names"),
        ({"columns": ("a", "b", " ")}, "different, non-empty names"),
        ({"class_names": ("cat", "cat")}, "different, non-empty names"),
        ({"class_names": ("cat",)}, "a label 1 without a name"),
        ({"columns": ("a", "b", 3)}, "different, non-empty names"),
    ],
)
def test_bad_names(names, expected):
    with pytest.raises(InputError, match=expected):
        Dataset.of(X, Y, **names)


@pytest.mark.parametrize("stored", [False, True])
def test_names_in_npz_are_texts(tmp_path, monkeypatch, stored):
    monkeypatch.setattr(files, "STORED_BYTES", 0 if stored else 1 << 26)
    for bad in (np.arange(3), np.array([["a", "b", "c"]])):
        np.savez(tmp_path / "d.npz", x=X, y=Y, columns=bad)
        with pytest.raises(InputError, match="an array columns of one dimension, of short texts"):
            open_dataset(tmp_path / "d.npz")


def test_the_processes_of_spawn_hear_the_names(tmp_path):
    for data in (Dataset.of(X, Y, 3, "d", NAMES, KINDS), Dataset.of(X, Y, 3, "d")):
        _writer(data)(tmp_path / "d.npz")
        again = _read_file(tmp_path / "d.npz")
        assert (again.columns, again.class_names) == (data.columns, data.class_names)
        assert torch.equal(again.x, data.x)


def test_positional_arguments_are_as_before():
    data = Dataset(torch.ones(2, 1), torch.tensor([0, 1]), 2, "name")
    assert (data.name, data.columns, data.class_names) == ("name", None, None)
