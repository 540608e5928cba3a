"""Checks of single values that a user states: an integer, a finite number, true or false, one of several texts.

A check is given the value's name and the value, and returns the value. It raises InputError with the name, the value
and what was expected; a caller may word the expectation, where the caller knows more than the bounds. `True` and
`False` must never be taken for numbers. Predicates (`is_integer`, `is_number`) serve callers that raise errors of
another kind. A new check may be added; the words of the errors are pinned by tests.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown


def is_integer(value: object, kind: type = int) -> bool:
    """Return whether `value` is an integer and no truth value.

    kind: `numbers.Integral` admits the integers of numpy too.
    """
    return isinstance(value, kind) and not isinstance(value, bool)


def is_number(value: object, kind: type | tuple[type, ...] = (int, float)) -> bool:
    """Return whether `value` is a number, finite or not, and no truth value.

    kind: `numbers.Real` admits the numbers of numpy too.
    """
    return isinstance(value, kind) and not isinstance(value, bool)


def integer(
    name: str,
    value: Any,
    least: int | None = None,
    most: int | None = None,
    expected: str | None = None,
    kind: type = int,
) -> Any:
    """Return `value` if it is an integer from `least` to `most`, and raise InputError otherwise.

    expected: what the error says was expected; None makes it of the bounds. kind: as for `is_integer`.
    """
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    if not is_integer(value, kind) or not low <= value <= high:
        bounds = "" if least is None else f" of {least} or more" if most is None else f" from {least} to {most}"
        raise InputError(name, _quoted(value), expected or f"an integer{bounds}")
    return value


def number(
    name: str,
    value: Any,
    expected: str | None = None,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    kind: type | tuple[type, ...] = (int, float),
) -> float:
    """Return `value` as a float if it is a finite number within the bounds, and raise InputError otherwise.

    The number may equal `least` and `most`, but neither `above` nor `below`. expected: what the error says was
    expected; None makes it of the bounds. kind: as for `is_number`.
    """
    found = _float(value) if is_number(value, kind) else math.nan
    if not (math.isfinite(found) and least <= found <= most and above < found < below):
        raise InputError(name, _quoted(value), expected or f"a finite number{_bounds(least, above, most, below)}")
    return found


def boolean(name: str, value: Any) -> bool:
    """Return `value` if it is True or False, and raise InputError otherwise."""
    if not isinstance(value, bool):
        raise InputError(name, _quoted(value), "true or false")
    return value


def text(name: str, value: Any) -> str:
    """Return `value` if it is a text that is not empty, and raise InputError otherwise."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(name, _quoted(value), "a text that is not empty")
    return value


def as_list(name: str, value: Any, expected: str) -> tuple[Any, ...]:
    """Return the members of a list, a tuple or the like, and raise InputError for a text and for a single value."""
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise InputError(name, _quoted(value), expected)
    return tuple(value)


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return `value` if it is one of these texts, and raise InputError otherwise."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(name, shown(repr(value)), f"one of {', '.join(choices)}")
    return value


def _float(value: numbers.Real) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond the largest float
        return math.inf


def _bounds(least: float, above: float, most: float, below: float) -> str:
    low = f" above {above:g}" if above > -math.inf else f", {least:g} or more" if least > -math.inf else ""
    high = f" below {below:g}" if below < math.inf else f" at most {most:g}" if most < math.inf else ""
    return low + (f"{' and' if low else ','}{high}" if high else "")


def _quoted(value: object) -> object:
    """Put a text in quotation marks, so that '3' is not read as 3, and cut what is long; leave everything else."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"{value:.3g}" if value.bit_length() < 1000 else f"an integer of {value.bit_length()} bits"
    return shown(repr(value)) if isinstance(value, str) else value
