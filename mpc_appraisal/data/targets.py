"""What the target of a data set holds: classes, a number to predict, or two classes in one of their usual spellings.

The model of a run states the kind, and no reader guesses it. Values of a file or an array go in; for two classes the
labels 0 and 1 come out, or an InputError. The spellings below are all that is accepted; another may be added if it
cannot be mistaken for one of these.

    0: 0, -1, false, no        1: 1, +1, true, yes        (texts in any case; 0 and -1 together are refused)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError

CLASSES, NUMBER, TWO = "classes", "number", "two"
KINDS = (CLASSES, NUMBER, TWO)
WORDS = {"no": 0.0, "false": 0.0, "yes": 1.0, "true": 1.0}
EXPECTED = "two classes: 0 and 1, -1 and +1, false and true, or no and yes"


def check_target_kind(kind: str, name: str) -> str:
    """Return `kind`. Raises InputError, under `name`, unless it is one of KINDS."""
    one_of(name, kind, KINDS)
    return kind


def numbers_of_words(values: Any) -> np.ndarray | None:
    """Return a column of texts no and yes (or false and true) as the numbers 0 and 1; None where a text is another.

    Numbers among the texts stay as they are, and a missing value is NaN.
    """
    found = np.empty(len(values))
    for k, value in enumerate(values):
        text = value.strip().casefold() if isinstance(value, str) else None
        if text in WORDS:
            found[k] = WORDS[text]
        elif text is None and (value is None or isinstance(value, (bool, int, float, np.generic))):
            found[k] = np.nan if value is None else value
        else:
            try:
                found[k] = float(value)
            except (TypeError, ValueError):
                return None
    return found


class TwoLabels:
    """Turn blocks of the numbers 0, 1 and -1 into the labels 0 and 1, where 0 and -1 do not both occur.

    name: the setting that errors begin with.
    """

    def __init__(self, name: str):
        self._name, self._rows, self._low = name, 0, set()

    def add(self, y: np.ndarray) -> np.ndarray:
        """Return the labels of the next rows, (n,) int64. Raises InputError for any other number."""
        y = np.asarray(y, dtype=np.float64)
        wrong = ~np.isin(y, (-1.0, 0.0, 1.0))
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            found = f"{int(wrong.sum())} labels that are none of two classes, the first is {y[first]:g} in row "
            raise InputError(self._name, f"{found}{self._rows + first}", EXPECTED)
        self._low |= set(np.unique(y[y < 1]).tolist())
        if len(self._low) > 1:
            raise InputError(self._name, "labels -1, 0 and 1 in one data set", EXPECTED)
        self._rows += len(y)
        return (y == 1).astype(np.int64)


def as_two(values: Any, name: str) -> np.ndarray:
    """Return the labels 0 and 1, (n,), of an array-like of two classes. Raises InputError, under `name`, otherwise."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(name, f"y of shape {array.shape}", "y with one dimension, one label a row")
    if array.dtype.kind not in "biuf":
        found = numbers_of_words(array.tolist())
        if found is None:
            raise InputError(name, "labels of text", EXPECTED)
        array = found
    return TwoLabels(name).add(array)
