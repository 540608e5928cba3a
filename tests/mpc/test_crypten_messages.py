"""Objects of a CrypTen program as messages: what another party sends is of a listed kind, or it is refused."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.crypten_programs.messages import ForeignObjectError, class_name, packed, unpacked

MODEL = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.25))
VALUES = {
    "size": torch.Size([4, 5]),
    "nested": {"rows": [1, 2.5, None], "of": (torch.arange(3), {True})},
    "module": MODEL,
    "weights": MODEL.state_dict(),
}
MUTANTS = 400


class Own(torch.nn.Module):
    """A class that no receiver has registered."""


def message(text: object, data: bytes = b"") -> bytes:
    """Return a message with this text, as a party that follows nothing may send it."""
    encoded = json.dumps(text).encode()
    return struct.pack("<I", len(encoded)) + encoded + data


def module(name: str = "torch.nn.modules.linear.Linear", **parts: object) -> object:
    empty = {"dict": []}
    whole = {"class": name, "training": True, "temporary": [], "attributes": empty, "parameters": empty,
             "buffers": empty, "modules": empty}  # fmt: skip
    return {"module": whole | parts}


BAD = {
    "a pickle": pickle.dumps({"a": 1}),
    "nothing": b"",
    "a text that ends early": struct.pack("<I", 50) + b"[]",
    "bytes after the end": message([], b"\0"),
    "an unknown kind": message({"code": "print(1)"}),
    "a method of the reader": message({"made": 1}),
    "an unknown class": message(module("builtins.eval")),
    "a class that is no module": message(module("torch.nn.parameter.Parameter")),
    "hooks": message(module(attributes={"dict": [["_forward_hooks", {"dict": []}]]})),
    "a parameter that is none": message(module(parameters={"dict": [["weight", 3]]})),
    "a tensor without bytes": message({"tensor": ["float32", [2], False]}),
    "a tensor of a negative size": message({"tensor": ["float32", [-1], False]}),
    "a tensor of an endless size": message({"tensor": ["float32", [0, 10**30], False]}),
    "a type that is none": message({"dtype": "nn"}),
    "deep brackets": struct.pack("<I", 200_000) + b"[" * 200_000,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_no_message_is_refused_by_one_error(bad):
    with pytest.raises(ForeignObjectError, match="^model_owner sent an object that is refused .*; expected None"):
        unpacked(bad, {}, "model_owner")


@pytest.mark.parametrize("name", list(VALUES))
def test_mutants_of_a_message_are_objects_or_refused(name):
    whole, rng = packed(VALUES[name]), np.random.default_rng(7)
    for _ in range(MUTANTS):
        bad = bytearray(whole)
        for place in rng.integers(0, len(bad), rng.integers(1, 6)):
            bad[place] = rng.integers(256)
        cut = bytes(bad[: rng.integers(len(bad) // 2, len(bad) + 1)])
        try:
            found = unpacked(cut, {}, "model_owner")
        except ForeignObjectError:
            continue
        assert packed(found)  # it is of the kinds that may be sent


def test_a_class_of_the_program_comes_if_the_receiver_has_registered_it():
    whole = packed(Own())
    with pytest.raises(ForeignObjectError, match="test_crypten_messages.Own', which is not registered here"):
        unpacked(whole, {}, "model_owner")
    assert type(unpacked(whole, {class_name(Own): Own}, "model_owner")) is Own


@pytest.mark.parametrize("bad", [b"bytes", object(), {"a": len}, torch.eye(2).to_sparse(), 2**64])
def test_what_may_not_be_sent_is_refused_at_its_sender(bad):
    with pytest.raises(InputError, match="to send: got .*expected"):
        packed(bad)


def test_a_module_computes_as_at_its_sender():
    found = unpacked(packed(MODEL.eval()), {}, "model_owner")
    rows = torch.arange(12.0).reshape(4, 3)
    assert torch.equal(found(rows), MODEL(rows)) and found[2].p == 0.25
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in MODEL.named_parameters()]
