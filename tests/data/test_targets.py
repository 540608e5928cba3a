"""Targets that are numbers, and two classes in each of their spellings, from arrays and from files of every kind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, files, open_dataset, read_dataset

X = np.arange(12.0).reshape(4, 3) % 5
NUMBERS = [1.5, -2.0, 40.25, 0.0]


def written(folder, suffix, y):
    path = folder / f"data{suffix}"
    if suffix == ".npz":
        np.savez(path, x=X, y=np.array(y))
    else:
        table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(label=y)
        table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
    return path


def test_a_numeric_target_is_one_output():
    data = Dataset.of(X, NUMBERS, target="number")
    assert data.numeric and data.classes == 1 and data.y.dtype == torch.float64
    assert data.targets().tolist() == [[y] for y in NUMBERS]
    assert data.with_classes(1) is data and data.subset([2]).targets().item() == 40.25
    with pytest.raises(InputError, match="a numeric target"):
        data.with_classes(2)
    with pytest.raises(InputError, match="in row 1"):
        Dataset.of(X, [0.0, np.nan, 1.0, np.inf], target="number")
    with pytest.raises(InputError, match="class names"):
        Dataset.of(X, NUMBERS, target="number", class_names=["a"])


def test_labels_stay_what_they_were():
    data = Dataset.of(X, [0, 2, 1, 0])
    assert not data.numeric and torch.equal(data.targets(), data.one_hot())
    with pytest.raises(InputError, match="integers"):
        Dataset.of(X, NUMBERS)
    two = Dataset.of(X, [0, 1, 1, 0])
    assert two.targets(1).tolist() == [[0.0], [1.0], [1.0], [0.0]] and two.targets(2).shape == (4, 2)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_every_reader_reads_a_numeric_target_where_it_is_asked_for(tmp_path, monkeypatch, suffix):
    path = written(tmp_path, suffix, NUMBERS)
    with pytest.raises(InputError, match="integers"):
        read_dataset(path)
    whole = read_dataset(path, target="number")
    assert whole.numeric and whole.y.tolist() == NUMBERS and torch.equal(whole.x, torch.from_numpy(X))
    if suffix != ".csv":
        monkeypatch.setattr(files, "STORED_BYTES", 0)
        stored = open_dataset(path, target="number")
        assert stored.numeric and stored.classes == 1
        assert torch.cat([block.y for block in stored.blocks(3)]).tolist() == NUMBERS
        with pytest.raises(InputError, match="a numeric target"):
            stored.with_classes(2)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("target", ["number", "classes"])
def test_a_missing_target_is_refused(tmp_path, suffix, target):
    with pytest.raises(InputError, match="row 1"):
        read_dataset(written(tmp_path, suffix, [1.0, np.nan, 0.0, 0.0]), target=target)


SPELLINGS = {
    "0 and 1": [0, 1, 1, 0],
    "-1 and +1": [-1, 1, 1, -1],
    "booleans": [False, True, True, False],
    "floats": [-1.0, 1.0, 1.0, -1.0],
    "yes and no": ["no", "yes", "Yes", "NO"],
}


SUFFIXES = (None, ".npz", ".csv", ".parquet")
CASES = [(s, name) for s in SUFFIXES for name in SPELLINGS if (s, name) != (".npz", "yes and no")]  # it holds numbers


@pytest.mark.parametrize(("suffix", "name"), CASES)
def test_two_classes_in_every_spelling(tmp_path, suffix, name):
    y = SPELLINGS[name]
    if suffix is None:
        data = Dataset.of(X, y, target="two")
    else:
        data = read_dataset(written(tmp_path, suffix, y), target="two")
    assert data.classes == 2 and data.y.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("y", [[-1, 0, 1, 1], [0, 1, 2, 0], ["no", "yes", "perhaps", "no"], [0.5, 1, 0, 0]])
@pytest.mark.parametrize("suffix", [None, ".csv", ".parquet"])
def test_anything_else_is_no_two_classes(tmp_path, suffix, y):
    with pytest.raises(InputError):
        Dataset.of(X, y, target="two") if suffix is None else read_dataset(written(tmp_path, suffix, y), target="two")


def test_an_unknown_kind_of_target_is_refused():
    with pytest.raises(InputError, match="target"):
        Dataset.of(X, NUMBERS, target="numbers")
