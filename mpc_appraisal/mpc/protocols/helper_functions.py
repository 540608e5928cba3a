"""What the helper of `permuted` computes in the clear: a fixed short list, by name.

| name | f | fractional bits of the result |
|---|---|---|
| relu | max(z, 0) | those of z, at most 18: a product takes it as it is |
| step | 1 where z > 0, else 0: relu's derivative | 0 |
| sigmoid | 1 / (1 + e^-z); its derivative is p (1 - p) | 16 |
| tanh | its derivative is 1 - t^2 | 16 |
| exp | e^z, z up to 31 | 16 |
| softmax, log_softmax | of the rows of (n, C) | 16, 18 |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import BoundError, InputError
from mpc_appraisal.mpc.ring.fixed_point import decode

ROOM = 1 << 55  # of a value, as where one is opened, see `fast`: a random ring element mostly is beyond
LOSSES = 2.0**45  # of the rows' largest losses together: times labels of 16 bits, below 2^61


@dataclass(frozen=True)
class Function:
    """compute: on float64, element by element, or on the rows of (n, C) where `rows`.

    bits: fractional bits of the result; where `keeps`, no more than z has.
    """

    compute: Callable[[torch.Tensor], torch.Tensor]
    bits: int
    keeps: bool = False
    rows: bool = False


FUNCTIONS = {
    "relu": Function(lambda z: z.clamp_min(0.0), 18, keeps=True),
    "step": Function(lambda z: (z > 0).to(z.dtype), 0),
    "sigmoid": Function(torch.sigmoid, 16),
    "tanh": Function(torch.tanh, 16),
    "exp": Function(torch.exp, 16),
    "softmax": Function(lambda z: z.softmax(1), 16, rows=True),
    "log_softmax": Function(lambda z: z.log_softmax(1), 18, rows=True),
}


def check_functions(names: Sequence[str]) -> bool:
    """Whether these are functions of rows; raises InputError for others than such, or than such of elements."""
    unknown = [name for name in names if name not in FUNCTIONS]
    if unknown or not names or len(names) > len(FUNCTIONS):
        raise InputError("functions", ", ".join(map(repr, names)) or "none", f"some of {', '.join(FUNCTIONS)}")
    kinds = {FUNCTIONS[name].rows for name in names}
    if len(kinds) > 1:
        raise InputError("functions", ", ".join(names), "all of elements, or all of rows: they are permuted otherwise")
    return kinds.pop()


def result_bits(name: str, bits: int) -> int:
    """Fractional bits of the result, of z with `bits`."""
    function = FUNCTIONS[name]
    return min(function.bits, bits) if function.keeps else function.bits


def computed(name: str, ring: torch.Tensor, bits: int) -> torch.Tensor:
    """At the helper: the function of ring elements with `bits` fractional bits, as ring elements of `result_bits`.

    Raises BoundError: a value that fixed point cannot have meant, or a result that it cannot hold, or losses whose sum,
    times labels of 16 bits, it could not.
    """
    if ((ring >= ROOM) | (ring < -ROOM)).any():
        raise BoundError(
            f"{name}: the helper was shown no plausible value, and nothing is released: fixed point overflowed. "
            "Expected standardised features, and a lower appraisal.lr where a method trains"
        )
    result = FUNCTIONS[name].compute(decode(ring, bits)) * 2.0 ** result_bits(name, bits)
    summed = name == "log_softmax" and not result.abs().amax(1).sum() < LOSSES
    if summed or not (result.abs() < 2.0**62).all():
        raise BoundError(f"{name}: a result beyond fixed point, and nothing is released; expected smaller values")
    return result.round_().to(torch.int64)
