"""Checks of the arguments of a request to the dealer, which come from the owners' script (see `dealer`).

An argument goes in as JSON gave it, and comes out checked. Whatever is no shape or no number within its limit raises
AppraisalError before anything is allocated. The limit on elements may change; `orders` applies it to whole requests.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import AppraisalError

MAX_ELEMENTS = 2**31
MAX_DIVISOR = 2**61  # A value that is divided may be as large as 2^62 less the divisor.


def checked_shape(value: Any) -> tuple[int, ...]:
    """Return `value` as a shape. Raises AppraisalError unless it is a list of sizes within MAX_ELEMENTS elements."""
    if not isinstance(value, list) or not all(is_integer(n) and n >= 0 for n in value):
        raise AppraisalError(f"dealer: refused the shape {value!r}; expected a list of sizes")
    size = 1
    for n in value:
        size *= n
    if size > MAX_ELEMENTS:
        raise AppraisalError(f"dealer: refused the shape {value!r}; expected at most {MAX_ELEMENTS} elements")
    return tuple(value)


def whole_number(value: Any, largest: int) -> int:
    """Return `value` itself. Raises AppraisalError unless it is an integer, and no bool, from 0 to `largest`."""
    if not is_integer(value) or not 0 <= value <= largest:
        raise AppraisalError(f"dealer: refused the number {value!r:.40}; expected 0 to {largest}")
    return value


def checked_divisor(value: Any) -> int:
    """Return `value` itself. Raises AppraisalError unless it is a whole number from 2 to MAX_DIVISOR."""
    if not is_integer(value) or not 1 < value <= MAX_DIVISOR:
        raise AppraisalError(f"dealer: refused to divide by {value!r:.40}; expected 2 to {MAX_DIVISOR}")
    return value
