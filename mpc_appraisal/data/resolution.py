"""The resolution of a data set: every number of its rows is k / scale for an integer k of at most `bits` bits.

In go data sets and what their owner states: 'auto', 'off', a scale, or bits and a range to round to. Out comes a
`Resolution`, or None where there is none, or an InputError under the data set's name. Pixels of 8 bits have the scale
255 and 8 bits, a column of 0 and 1 has the scale 1. The resolution is public where it is used: with it rows are shared
in a ring as wide as these integers need. A number of float32 that stands for k / scale is off by its own rounding,
which counts as no difference here; where the scale is a power of two, there is none.

A scale may be added to SCALES. What `auto` finds is announced, so that the list has to stay short and sorted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.dataset import Dataset
from mpc_appraisal.data.files import StoredDataset

AUTO, OFF = "auto", "off"
SCALES = (1, 2, 4, 8, 10, 16, 100, 255, 256, 1000)  # what `auto` tries, in this order
MOST_BITS = 16
NEAR = 2.0**-22  # a number of float32 may differ from k / scale by this part of it
READ_ROWS = 1 << 10  # so many rows are read together
ROWS = 1 << 7  # so many rows are converted together, which stay in the processor's cache
STATED = f"auto, off, a scale from 1 to {2**MOST_BITS - 1}, or {{bits: NUMBER, range: NUMBER}}"
KEY = "party.resolution"

Data = Dataset | StoredDataset


@dataclass(frozen=True)
class Resolution:
    """The public fact that all numbers of a data set, the constant 1 included, are k / scale with |k| < 2^bits.

    Attributes:
        scale: the integer that stands for 1.
        bits: the number of bits of the integers.

    Raises InputError for numbers out of range.
    """

    scale: int
    bits: int

    def __post_init__(self) -> None:
        if not is_integer(self.bits) or not 1 <= self.bits <= MOST_BITS:
            raise InputError(f"{KEY}: bits", self.bits, f"1 to {MOST_BITS}")
        if not is_integer(self.scale) or not 1 <= self.scale < 2**self.bits:
            raise InputError(f"{KEY}: scale", self.scale, f"1 to {2**self.bits - 1}, which {self.bits} bits hold")

    @property
    def ratio(self) -> float:
        """Return the scale divided by the next power of two."""
        return self.scale / 2.0 ** math.ceil(math.log2(self.scale))

    def as_dict(self) -> dict[str, int]:
        """Return the fact as JSON values."""
        return {"scale": self.scale, "bits": self.bits}

    @property
    def words(self) -> str:
        """Return the fact in words."""
        number = "an integer k" if self.scale == 1 else f"k / {self.scale} for an integer k"
        return f"every number of the data is {number} of at most {self.bits} bit" + "s" * (self.bits > 1)

    def integers(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Return the integers of rows x (n, d) with the constant feature, (n, d + 1) in uint8 if they fit, else int32.

        Raises InputError, under `name`, if a number has no such integer.
        """
        k = torch.empty(len(x), x.shape[1] + 1, dtype=torch.uint8 if self.scale < 256 else torch.int32)
        k[:, -1] = self.scale
        for start in range(0, len(x), ROWS):
            part = x[start : start + ROWS]
            found = _integers(part, self.scale)
            if found is None or int(found.abs().max()) >= 2**self.bits:
                raise InputError(name, _first_bad(part, self), f"k / {self.scale} for integers k of {self.bits} bits")
            if k.dtype == torch.uint8 and not 0 <= int(found.min()) <= int(found.max()) < 256:
                k = k.to(torch.int32)
            k[start : start + ROWS, :-1] = found
        return k


def _integers(x: torch.Tensor, scale: int) -> torch.Tensor | None:
    """Return the integers k (float64) with x = k / scale, or None if a number has none."""
    x = x.to(torch.float64)
    k = torch.round(x * scale)
    near = 0.0 if scale & (scale - 1) == 0 else NEAR
    return k if bool(((k / scale - x).abs() <= near * x.abs()).all()) else None


def _first_bad(x: torch.Tensor, resolution: Resolution) -> str:
    for row in x:
        for value in row.tolist():
            k = _integers(torch.tensor([value]), resolution.scale)
            if k is None or abs(k.item()) >= 2**resolution.bits:
                return f"the number {value:.9g}"
    return "another number"


def rounding_of(stated: Any) -> Resolution | None:
    """Return the resolution that a statement of bits and a range rounds to; None for any other valid statement.

    Numbers within the range are rounded to multiples of 1 / scale, where the scale is the largest integer for which the
    bits hold the range. Raises InputError for a statement that is none of STATED.
    """
    if stated in (AUTO, OFF) or stated is None or stated is False:
        return None
    if is_integer(stated) and 1 <= stated < 2**MOST_BITS:
        return None
    if not isinstance(stated, Mapping) or set(stated) != {"bits", "range"}:
        raise InputError(KEY, stated, STATED)
    bits, most = stated["bits"], stated["range"]
    if not is_integer(bits) or not 1 <= bits <= MOST_BITS:
        raise InputError(f"{KEY}: bits", bits, f"1 to {MOST_BITS}")
    fits = isinstance(most, (int, float)) and not isinstance(most, bool) and 0 < most <= 2**bits - 1
    if not fits:
        raise InputError(f"{KEY}: range", most, f"a number above 0, at most {2**bits - 1}, which {bits} bits hold")
    return Resolution(math.floor((2**bits - 1) / max(most, 1.0)), bits)  # the constant feature is 1


def resolution_of(
    sets: Sequence[Data], stated: Any = AUTO, name: Callable[[Data], str] = lambda data: data.name
) -> Resolution | None:
    """Return the one resolution of all `sets`, or None where they have none or their owner wants none.

    Args:
        sets: the data sets as they will be shared, but for the rounding that the owner may have stated.
        stated: what the owner states; see STATED.
        name: what errors call a data set.

    Raises InputError where the data are not what the owner states.
    """
    rounds = rounding_of(stated)
    if rounds is not None:
        for data in sets:
            largest = max(float(block.x.abs().max()) for block in data.blocks(READ_ROWS))
            if largest > stated["range"]:
                expected = f"numbers of at most {stated['range']:g}, the stated range"
                raise InputError(f"{name(data)}: {KEY}", f"a number of {largest:.9g}", expected)
        return rounds
    if stated == OFF or not stated:
        return None
    for scale in SCALES if stated == AUTO else (stated,):
        largest = _largest(sets, scale)
        if largest is not None:
            return Resolution(scale, max(scale, largest).bit_length())
    if stated != AUTO:
        for data in sets:
            for block in data.blocks(READ_ROWS):
                Resolution(stated, MOST_BITS).integers(block.x, f"{name(data)}: {KEY}")  # raises at the first bad one
    return None


def _largest(sets: Sequence[Data], scale: int) -> int | None:
    """Return the largest size of the integers of all sets with this scale; None if a number has none, or too large."""
    largest = 0
    for data in sets:
        for block in data.blocks(READ_ROWS):
            for part in block.x.split(ROWS):
                k = _integers(part, scale)
                if k is None or (largest := max(largest, int(k.abs().max()))) >= 2**MOST_BITS:
                    return None
    return largest


def rounded(x: torch.Tensor, rounds: Resolution, name: str) -> torch.Tensor:
    """Return x rounded to multiples of 1 / scale, in its own type.

    Raises InputError, under `name`, for a number that the bits do not hold.
    """
    k = torch.round(x.to(torch.float64) * rounds.scale)
    if int(k.abs().max()) >= 2**rounds.bits:
        most = (2**rounds.bits - 1) / rounds.scale
        raise InputError(
            f"{name}: {KEY}", f"a number of {float(x.abs().max()):.9g}", f"numbers of at most {most:g}, as it states"
        )
    return (k / rounds.scale).to(x.dtype)
