"""A formula that uses what private and shared tensors lack: the error names the operation and what to write."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch

from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.limited import HINTS, OF_PRIVATE, OF_SHARED, UnsupportedOperationError
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor, Secret, Transposed

PLAIN = torch.ones(3, 4, dtype=torch.float64)


def tensors() -> dict[str, PrivateTensor | Secret | Transposed]:
    """A tensor (3, 4) of each kind, in a dry session, as `score` gets it before anything is shared."""
    session = DrySession(MODEL_OWNER)
    mine, other = (session.input(owner, None, (3, 4), "x") for owner in (MODEL_OWNER, DATA_OWNER))
    return {"mine": mine, "theirs": other, "transposed": session.input(DATA_OWNER, None, (4, 3), "x").t()} | {
        "shared": mine + other
    }


KINDS = sorted(tensors())
LACKED = {
    "mean": lambda x: x.mean(),
    "exp": lambda x: x.exp(),
    "T": lambda x: x.T,
    "item": lambda x: x.item(),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "clamp_": lambda x: x.clamp_(0),
    "x ** n": lambda x: x**2,
    "-x": lambda x: -x,
    "x @ y": lambda x: x @ x,
    "number * x": lambda x: 2.0 * x,
    "number - x": lambda x: 1 - x,
    "number / x": lambda x: 1 / x,
    "a comparison": lambda x: x < 0,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", LACKED)
def test_an_operation_that_is_lacking_is_named_with_what_to_write(kind, operation):
    x = tensors()[kind]
    with pytest.raises(UnsupportedOperationError) as error:
        LACKED[operation](x)
    said = str(error.value)
    assert said.startswith(f"{operation} is not supported on a ") and ": write " in said and "Supported are " in said
    assert not isinstance(error.value, RuntimeError)  # CrypTen catches it and goes on with another protocol


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "mixed",
    [
        lambda x, p: x + p,
        lambda x, p: x - p,
        lambda x, p: x * p,
        lambda x, p: x / p,
        lambda x, p: p + x,
        lambda x, p: p - x,
        lambda x, p: p * x,
        lambda x, p: p / x,
        lambda x, p: x.matmul(p.t()),
        lambda x, p: p.t().matmul(x),
        lambda x, p: p.t() @ x,
        lambda x, p: x * p.numpy(),
        lambda x, p: x * torch.tensor(2.0),
    ],
)
def test_a_public_tensor_is_refused_with_how_it_comes_in(kind, mixed):
    with pytest.raises(UnsupportedOperationError, match="a public tensor is not supported here: write .*prepare"):
        mixed(tensors()[kind], PLAIN)


def test_hints_are_for_operations_that_plain_tensors_have():
    homes = (torch.Tensor, torch, torch.nn.functional)
    assert all(any(hasattr(home, name) for home in homes) for name in HINTS)


def test_what_the_errors_call_supported_is_supported():
    found = tensors()
    for kind, text in (("mine", OF_PRIVATE), ("shared", OF_SHARED)):
        named = set(re.findall(r"(\w+)\(", text))
        assert len(named) >= 6 and all(callable(getattr(type(found[kind]), name)) for name in named)
    x, y = found["shared"], found["mine"]
    for result in (x.relu(), x.sigmoid(), x.square(), ops.shared(y).relu(), y.softmax(1), (x * y) / 3.0):
        assert tuple(result.shape) == (3, 4)
    assert tuple(x.matmul(y.t()).shape) == tuple(y.matmul(y.t()).shape) == (3, 3)
    assert tuple(x.reshape(12).shape) == (12,) and tuple(y[torch.tensor([0, 2])].shape) == (2, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_still_copied_pickled_and_asked_for_attributes(kind):
    x = tensors()[kind]
    assert not hasattr(x, "exp") and not hasattr(x, "__setstate_") and hasattr(x, "shape")
    assert getattr(x, "iloc", None) is None
    assert copy.copy(x).shape == x.shape and copy.copy(x).__dict__.keys() == x.__dict__.keys()
    empty = object.__new__(type(x))
    for name in set(dir(type(x))) & {"shape", "mine"}:
        with pytest.raises(AttributeError) as error:  # of the property's own, not of `shape`
            getattr(empty, name)
        assert not str(error.value).startswith(f"{name} ")
    restored = pickle.loads(pickle.dumps(Secret(None, PLAIN, 3)))
    assert torch.equal(restored.share, PLAIN) and restored.bits == 3


def test_the_error_survives_a_pickle():
    error = UnsupportedOperationError("exp is not supported")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_rows_in_blocks_say_how_a_method_takes_them():
    x = ops.RowBlocks(lambda: iter([(PLAIN, PLAIN)]))
    with pytest.raises(UnsupportedOperationError, match="write `for rows, labels in .*blocks.*streams = False"):
        x.matmul(PLAIN)
    assert next(ops.blocks(x, None))[0] is PLAIN
