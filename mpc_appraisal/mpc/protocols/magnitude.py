"""The magnitude of shared numbers of any size: each is brought into one narrow range, [2^44, 2^46), by a power of four.

    n = v w,      w = 4^(22 - k) where 4^k <= |v| < 4^(k + 1),      k = 0 ... 22,      w = 0 where v = 0
    step(v) = g_0 + sum over j of (g_j - g_(j-1)) [v >= t_j]        for public thresholds t_1 < t_2 < ... and values g

v are shared ring elements with |v| < 2^46, as fixed-point numbers below 2^30 with 16 fractional bits are. v is opened
once under a mask, and `levels` compares it with all thresholds by the digits of this mask. Every step function of v is
then a sum of the shared bits with public factors, which takes no message, and w is one of them. So a function of v is a
function of n, which the harmonics of a narrow range give, and of public numbers for each k (see `secret_division` and
`real_functions`).

What leaves each owner are values and bits under masks of the dealer, and nothing is revealed: not even k is opened.
`placed` takes three rounds. Nothing here can fail for |v| < 2^46.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mpc_appraisal.mpc.protocols import harmonics, levels
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.harmonics import Fit, fitted
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, open_all

LARGEST = 46  # |v| is below 2^LARGEST.
V_BITS = LARGEST + 2  # v is opened in a ring of so many bits.
LEVELS = 23  # k is one of so many whole numbers.
S_BITS = 24  # The upper bits of n are opened in a ring of so many.
S_DROP = LARGEST - (S_BITS - 1)  # So many low bits of n are cut then.
LEAST, ONE = 1 << (S_BITS - 3), 1 << (S_BITS - 1)  # n / 2^S_DROP lies between these.
HARMONICS = 8

POSITIVE = tuple(4**k for k in range(LEVELS))  # These are the thresholds of |v|.
SIGNED = (*(1 - t for t in reversed(POSITIVE)), *POSITIVE)


@dataclass
class Placed:
    """Opened numbers with the bits that place them between public thresholds.

    Attributes:
        value: the opened v.
        bits: additive shares (thresholds, number of elements) of [v >= t_j].
    """

    value: MaskedValue
    bits: torch.Tensor

    def step(self, engine: Engine, values: Sequence[int]) -> torch.Tensor:
        """Return shares, of v's shape, of a step function of v; no message.

        Args:
            engine: this owner's end.
            values: the value below the first threshold, and the value from each threshold on.
        """
        rises = torch.tensor([after - before for before, after in zip(values, values[1:], strict=False)])
        total = (self.bits * rises[:, None]).sum(0).reshape(self.value.delta.shape)
        return total + engine.public_share(torch.full_like(total, values[0]))


def placed(engine: Engine, share: torch.Tensor, thresholds: Sequence[int]) -> Placed:
    """Open v, |v| < 2^46, and place it between thresholds of the same range, in ascending order; three rounds."""
    (x,) = open_all(engine, MaskedOpening(engine.blinded(share), 0, V_BITS, 64, 1 << LARGEST))
    return Placed(x, levels.indicators(engine, levels.reached(engine, x, thresholds)))


def of_level(values: Sequence[int], signed: bool = False, otherwise: int = 0) -> list[int]:
    """Return the values of a step function that is values[k] on the level k.

    With `signed` it is -values[k] for negative v, and the thresholds are SIGNED. Otherwise they are POSITIVE, and
    `otherwise` is the value for v <= 0.
    """
    return [*(-v for v in reversed(values)), 0, *values] if signed else [otherwise, *values]


def power_of_four() -> list[int]:
    """Return w of each level."""
    return [4 ** (LEVELS - 1 - k) for k in range(LEVELS)]


@dataclass
class Normalised:
    """Positive numbers v = n / w.

    Attributes:
        place: v with its level.
        s: n / 2^S_DROP, opened for harmonics.
    """

    place: Placed
    s: MaskedValue

    def harmonic(self, engine: Engine, name: str, bits: int) -> MaskedOpening:
        """Return the opening of one of harmonics.FUNCTIONS of n / 2^46, with `bits` fractional bits, for products."""
        fit = fit_of(name)
        share = harmonics.evaluate(engine, self.s, fit, harmonics.waves(engine, self.s, fit.harmonics))
        width = harmonics.RING - (harmonics.POINT - bits)
        return MaskedOpening(share, harmonics.POINT - bits, width, 64, 1 << (width - 3))


def fit_of(name: str) -> Fit:
    """Return the harmonics of one of harmonics.FUNCTIONS of n / 2^46."""
    return fitted(name, LEAST, ONE, S_BITS, ONE, HARMONICS)


def lifted(engine: Engine, place: Placed, signed: bool = False) -> torch.Tensor:
    """Return shares of what is added to n, so that n is in its range where w is 0 too: 2^44 there; no message."""
    least = 1 << (LARGEST - 2)
    return place.step(engine, [0] * LEVELS + [least] + [0] * LEVELS if signed else [least] + [0] * LEVELS)


def narrowed(n: torch.Tensor) -> MaskedOpening:
    """Return the opening of the upper bits of shares of n, mod 2^47 or more."""
    return MaskedOpening(n, S_DROP, S_BITS, S_BITS, 0)
