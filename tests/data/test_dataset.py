"""A data set is a checked copy of what it was made of, and each bad input is an InputError that says what."""

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import (
    Dataset,
    standardise,
    with_bias,
)


def test_of_takes_anything_array_like_and_copies():
    x, y = np.arange(12.0).reshape(3, 4), np.array([0, 2, 1])
    forms = [
        (x, y),
        (x.tolist(), y.tolist()),
        (pd.DataFrame(x), pd.Series(y)),
        (torch.tensor(x), torch.tensor(y)),
        (x.astype(np.int32), y.astype(np.float64)),
        (x.astype(">f8"), y.astype(np.uint8)),
        (x[::-1][::-1], y),
        (x.reshape(3, 2, 2), y),
        (x.astype(object), y.astype(object)),
    ]
    for a, b in forms:
        data = Dataset.of(a, b)
        assert data.x.dtype == torch.float64 and data.y.dtype == torch.int64 and data.classes == 3
        assert data.x.tolist() == x.tolist() and data.y.tolist() == [0, 2, 1]
        assert (data.rows, data.features) == (3, 4)
    data = Dataset.of(x, y)
    x[0, 0] = 99
    assert data.x[0, 0] == 0
    assert Dataset.of(np.ones((2, 3), np.float32), [0, 0]).x.dtype == torch.float32
    assert Dataset.of([[1.0]], [0]).classes == 2
    assert Dataset.of([[1.0]], [0], classes=5).classes == 5


def test_subset_one_hot_renamed_and_bias():
    data = Dataset.of(np.arange(6.0).reshape(3, 2), [2, 0, 1], name="a")
    part = data.subset([2, 0])
    assert part.x.tolist() == [[4, 5], [0, 1]] and part.y.tolist() == [1, 2] and (part.classes, part.name) == (3, "a")
    assert data.subset(np.array([1])).x.tolist() == [[2, 3]]
    assert data.one_hot().dtype == torch.float64
    assert data.one_hot().tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert data.renamed("b").name == "b" and data.name == "a"
    assert with_bias(data.x).tolist() == [[0, 1, 1], [2, 3, 1], [4, 5, 1]]
    assert with_bias(data.x.float()).dtype == torch.float32
    with pytest.raises(AttributeError):
        data.name = "c"


BAD = {
    "x of one dimension": (([1.0, 2.0], [0, 1]), "two dimensions"),
    "no rows": ((np.zeros((0, 3)), []), "one row or more"),
    "no features": ((np.zeros((2, 0)), [0, 1]), "one feature or more"),
    "rows differ": (([[1.0], [2.0]], [0]), "as many labels as rows"),
    "labels in a column": (([[1.0], [2.0]], [[0], [1]]), "one label a row"),
    "label below range": (([[1.0], [2.0]], [0, -1]), "labels 0 .. 1"),
    "label not integer": (([[1.0], [2.0]], [0, 0.5]), "integer labels"),
    "label NaN": (([[1.0], [2.0]], [0, np.nan]), "integer labels"),
    "label beyond int64": (([[1.0], [2.0]], np.array([0, 2**64 - 1], np.uint64), 2), "labels 0 .. 1"),
    "NaN": (([[1.0], [np.nan]], [0, 1]), "finite numbers"),
    "infinity": (([[-np.inf], [1.0]], [0, 1]), "finite numbers"),
    "text": (([["a"], ["b"]], [0, 1]), "real numbers"),
    "text labels": (([[1.0], [2.0]], ["a", "b"]), "real numbers"),
    "complex": (([[1j], [2.0]], [0, 1]), "real numbers"),
    "ragged": (([[1.0], [2.0, 3.0]], [0, 1]), "rows of equal length"),
    "label no class count can hold": (([[1.0], [2.0]], [0, 2**63 - 1]), "below"),
    "one class": (([[1.0]], [0], 1), "2 or more"),
    "classes not an integer": (([[1.0]], [0], 2.5), "2 or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case):
    arguments, expected = BAD[case]
    with pytest.raises(InputError, match=expected) as error:
        Dataset.of(*arguments, name="mine")
    assert error.value.name.startswith("mine")


def test_errors_count_and_locate_and_keep_values_private():
    x = np.ones((5, 3))
    x[2, 1], x[2, 2], x[4, 0] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError) as error:
        Dataset.of(x, np.zeros(5))
    assert error.value.value == "3 values of x that are NaN or infinite, the first in row 2"
    with pytest.raises(InputError) as error:
        Dataset.of(np.ones((3, 1)), [0, 77, 78], classes=10)
    assert error.value.value == "2 labels out of range, the first is 77 in row 1"
    assert "77" not in error.value.public


def test_the_constructor_is_strict():
    x, y = torch.ones(2, 1), torch.tensor([0, 1])
    for bad in ((x.to(torch.int32), y), (x.half(), y), (x, y.float()), (x.reshape(2, 1, 1), y)):
        with pytest.raises(InputError):
            Dataset(*bad, classes=2)


def test_standardise():
    data = Dataset.of([[1.0, 10.0], [3.0, 30.0]], [0, 1])
    assert standardise(data, 1, 2).x.tolist() == [[0, 4.5], [1, 14.5]]
    assert standardise(data, [2, 20], [1, 10]).x.tolist() == [[-1, -1], [1, 1]]
    assert standardise(data, OmegaConf.create([2, 20]), OmegaConf.create([1, 10])).x.tolist() == [[-1, -1], [1, 1]]
    for mean, scale in ((1, 0), ([1, 2], [1, 0]), (np.nan, 1), ([1, 2, 3], 1), (0, "wide"), (0, np.inf)):
        with pytest.raises(InputError):
            standardise(data, mean, scale)
