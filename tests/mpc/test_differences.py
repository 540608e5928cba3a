"""Public configurations that hold methods' texts: what differs is named setting by setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from mpc_appraisal import appraise
from mpc_appraisal.common.errors import DisagreementError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.methods import Finetuning, Influence
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.mpc.differences import MOST, repr_differences, settings_of
from mpc_appraisal.mpc.session import agree
from mpc_appraisal.release import Bit


@dataclass(frozen=True)
class Odd:
    """A dataclass whose repr has every kind of bracket, quotation and comma."""

    text: str = "a, b=(\"'\\"
    several: tuple[Any, ...] = ((1, "x, y"), [2, {"k": "=)"}])
    number: float = -1e-9
    inner: Any = Bit(to="model_owner")


class Met:
    """A rendezvous at which the model owner states one list of methods and the others another."""

    def __init__(self, first: dict, second: dict):
        self.stated = {MODEL_OWNER: first, DATA_OWNER: second, DEALER: second}

    def exchange(self, topic, message):
        return {role: {"digest": config_hash(one), "public": one} for role, one in self.stated.items()}


def refusal(first: dict, second: dict) -> str:
    with pytest.raises(DisagreementError) as error:
        agree(Met(first, second), second, config_hash(second), config_hash)
    assert error.value.public == str(error.value)
    return str(error.value)


@pytest.mark.parametrize("thing", [Odd(), Odd(text=""), Finetuning(), Influence(), GradientNorm()])
def test_a_repr_is_taken_apart_into_its_fields(thing):
    name, found = settings_of(repr(thing))
    fields = {key: repr(getattr(thing, key)) for key in thing.__dataclass_fields__ if f"{key}=" in repr(thing)}
    assert name == type(thing).__name__ and found == fields


def test_each_setting_that_differs_has_a_line():
    ours = {"methods": [repr(Finetuning(steps=4, lr=0.3)), repr(Influence())], "l2": 0.1}
    theirs = {"methods": [repr(Finetuning(steps=5, lr=0.25)), repr(Influence())], "l2": 0.1}
    lines = refusal(ours, theirs).splitlines()
    assert lines[0] == "the public configurations differ:"
    for role in (DATA_OWNER, DEALER):
        assert f"  methods: Finetuning.steps: 4 at model_owner, 5 at {role}" in lines
        assert f"  methods: Finetuning.lr: 0.3 at model_owner, 0.25 at {role}" in lines
    assert len(lines) == 5


def test_another_class_or_number_of_methods_is_named_whole():
    said = refusal({"methods": ["GradientNorm()"]}, {"methods": ["Influence(damping=0.0)", "GradientNorm()"]})
    assert "methods: GradientNorm() at model_owner, Influence(damping=0.0) at data_owner" in said
    assert "methods: (absent) at model_owner, GradientNorm() at data_owner" in said
    said = refusal({"release": "Value(to='both')"}, {"release": "Value(to='model_owner')"})
    assert "release: Value.to: 'both' at model_owner, 'model_owner' at data_owner" in said


@pytest.mark.parametrize("bad", ["F(" + "(" * 5000 + ")", "F(a='" + "\\" * 4999 + ")", "F(\x1b[2J=1)", "F(a=1,,b)"])
def test_a_strangers_text_is_cut_and_printable(bad):
    said = refusal({"methods": ["F(a=1)"]}, {"methods": [bad]})
    assert len(said) < 600 and said.replace("\n", "").isprintable()
    many = [f"F(a={k})" for k in range(10_000)]
    assert len(repr_differences("methods", many, [])) == MOST


class Addressed(GradientNorm):
    """A method whose repr holds its address in memory, as that of every class that is no dataclass."""

    name: ClassVar[str] = "addressed"
    __repr__ = object.__repr__


def test_a_repr_that_is_another_in_each_process_is_named_with_what_to_do():
    rows = np.random.default_rng(0).normal(size=(30, 3))
    data = rows, (rows[:, 0] > 0).astype(int)
    with pytest.raises(DisagreementError, match="a method has another repr in each process:\n") as error:
        appraise({"a": data}, train=data, test=data, method=Addressed())
    (line,) = str(error.value).splitlines()[1:]
    assert line.startswith("  methods: <") and "Addressed object at 0x" in line and "frozen dataclass" in line
