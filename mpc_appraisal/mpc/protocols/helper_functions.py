"""The functions that the helper computes in the clear, on values in a random order: a fixed list, by name.

The helper is the dealer of a session of engine rtas. How the values z reach the helper, and what the helper learns of
them, is stated in `permutation`. `computed` takes ring elements with a known number of fractional bits and returns ring
elements with the fractional bits of the table. It computes in float64 and rounds, so that a result is off by half a
unit in its last place and by the error of float64.

| name | f | fractional bits of the result |
|---|---|---|
| relu | max(z, 0) | those of z, at most 18, so that a product takes the result as it is |
| step | 1 where z > 0, else 0, which is relu's derivative | 0 |
| sigmoid | p = 1 / (1 + e^-z), whose derivative is p (1 - p) | 16 |
| tanh | t = tanh z, whose derivative is 1 - t^2 | 16 |
| exp | e^z, for z up to 31 | 16 |
| softmax | e^z_c / sum of e^z, on each row of (n, C) | 16 |
| log_softmax | z_c - ln sum of e^z, on each row of (n, C) | 18 |

A function may be added with a line in `FUNCTIONS` and in this table. The refusals of `computed` have to stay: a value
that has overflowed would otherwise give a wrong result without a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import BoundError, InputError
from mpc_appraisal.mpc.ring.fixed_point import decode

ROOM = 1 << 55  # A plausible ring element is below this, as in `backends.fast`; 255 of 256 random ones are not.
LOSSES = 2.0**45  # The rows' largest losses sum to less than this, so that their products with labels are below 2^61.


@dataclass(frozen=True)
class Function:
    """One function of the list.

    Attributes:
        compute: the function, which takes and returns a float64 tensor.
        bits: how many fractional bits the result has.
        keeps: whether the result has no more fractional bits than z has.
        rows: whether the function acts on the rows of (n, C); otherwise it acts on each element.
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
    """Return whether `names` are functions of rows (True) or of elements (False).

    Raises InputError: a name is not on the list, no name is given, or both kinds are mixed.
    """
    unknown = [name for name in names if name not in FUNCTIONS]
    if unknown or not names or len(names) > len(FUNCTIONS):
        raise InputError("functions", ", ".join(map(repr, names)) or "none", f"some of {', '.join(FUNCTIONS)}")
    kinds = {FUNCTIONS[name].rows for name in names}
    if len(kinds) > 1:
        raise InputError(
            "functions",
            ", ".join(names),
            "functions of elements alone, or of rows alone, since the two are permuted in different ways",
        )
    return kinds.pop()


def result_bits(name: str, bits: int) -> int:
    """Return how many fractional bits the result of the function `name` has, for z with `bits` of them."""
    function = FUNCTIONS[name]
    return min(function.bits, bits) if function.keeps else function.bits


def computed(name: str, ring: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the function `name` of ring elements, as ring elements; the helper calls this.

    Args:
        name: a key of FUNCTIONS.
        ring: int64, (n,) or, for functions of rows, (n, C), the shape of the result too. The result has
            `result_bits` fractional bits.
        bits: the number of fractional bits of `ring`.

    Raises BoundError: a value or a result is beyond what fixed point holds, or the sum of the rows' losses, times
        labels of 16 bits, would be.
    """
    if ((ring >= ROOM) | (ring < -ROOM)).any():
        raise BoundError(
            f"{name}: the helper received a value that is not plausible, since fixed point overflowed, and nothing is "
            "released. Expected standardised features, and a lower appraisal.lr where a method trains"
        )
    result = FUNCTIONS[name].compute(decode(ring, bits)) * 2.0 ** result_bits(name, bits)
    summed = name == "log_softmax" and not result.abs().amax(1).sum() < LOSSES
    if summed or not (result.abs() < 2.0**62).all():
        raise BoundError(f"{name}: a result beyond fixed point, so that nothing is released; expected smaller values")
    return result.round_().to(torch.int64)
