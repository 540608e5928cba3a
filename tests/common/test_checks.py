"""Checks of single values: what they take, what they refuse, and what the error says."""

from __future__ import annotations

import math
import numbers
import re

import numpy as np
import pytest

from mpc_appraisal.common.checks import boolean, integer, number, one_of, text
from mpc_appraisal.common.errors import InputError


def test_what_fits_is_returned():
    assert integer("k", 3, 1, 3) == 3 and integer("k", -5) == -5
    assert integer("k", np.int64(3), 1, kind=numbers.Integral) == 3
    assert number("lr", 1, above=0) == 1.0 and type(number("lr", 1)) is float
    assert number("lr", np.float32(0.5), kind=numbers.Real) == 0.5
    assert number("share", 0, least=0, below=1) == 0.0 and number("share", 1, most=1) == 1.0
    assert text("project", "mine") == "mine"
    assert boolean("resume", False) is False and one_of("role", "dealer", ("owner", "dealer")) == "dealer"


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: integer("k", True, 1), "k: got True; expected an integer of 1 or more"),
        (lambda: integer("k", 0, 1), "k: got 0; expected an integer of 1 or more"),
        (lambda: integer("k", 2.0, 1, 3), "k: got 2.0; expected an integer from 1 to 3"),
        (lambda: integer("k", 4, 1, 3), "k: got 4; expected an integer from 1 to 3"),
        (lambda: integer("k", "3"), "k: got '3'; expected an integer"),
        (lambda: integer("k", np.int64(3)), "k: got 3; expected an integer"),
        (lambda: integer("k", None, expected="a count"), "k: got None; expected a count"),
        (lambda: number("lr", False), "lr: got False; expected a finite number"),
        (lambda: number("lr", math.nan), "lr: got nan; expected a finite number"),
        (lambda: number("lr", -math.inf), "lr: got -inf; expected a finite number"),
        (lambda: number("lr", 0, above=0), "lr: got 0; expected a finite number above 0"),
        (lambda: number("lr", "1", least=0), "lr: got '1'; expected a finite number, 0 or more"),
        (lambda: number("lr", 1, least=0, below=1), "lr: got 1; expected a finite number, 0 or more and below 1"),
        (lambda: number("lr", 2, most=1), "lr: got 2; expected a finite number, at most 1"),
        (lambda: number("lr", 10**400, "a rate"), "lr: got an integer of 1329 bits; expected a rate"),
        (lambda: boolean("resume", 1), "resume: got 1; expected true or false"),
        (lambda: text("project", " "), "project: got ' '; expected a text that is not empty"),
        (lambda: text("project", 3), "project: got 3; expected a text that is not empty"),
        (lambda: one_of("role", "x", ("a", "b")), "role: got 'x'; expected one of a, b"),
        (lambda: one_of("role", ["a"], ("a", "b")), "role: got ['a']; expected one of a, b"),
    ],
)
def test_what_does_not_fit_is_named(check, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check()


def test_a_long_integer_is_not_printed_whole():
    for value, words in ((10**100, "got 1e\\+100;"), (10**400, "got an integer of 1329 bits;")):
        with pytest.raises(InputError, match=words):
            integer("steps", value, 1, 9)
