"""Quotients of shared numbers, right within two units whatever the size of the divisor, by one remainder.

    q_0 = a w y 2^-30,    y = 2^46 / n,    n = b w in [2^44, 2^46)                         (see `magnitude` for n and w)
    q = q_0 + (2^16 a - q_0 b) w y 2^-46

a, b and q are integers in units of 2^-16. y comes from harmonics, and is right within a part of 4e-6. q_0 is off by
that part and by 2^15 units, since low bits are cut on the way. The remainder 2^16 a - q_0 b is exact in the ring, so
that one correction leaves the square of that part, and less than one unit. In go shares of a and b, |a| and |b| below
2^30; out come shares of a / b for |a / b| < 2^29, with

    |error| <= 2^-15 + 2^-34 |a / b|                                            for b other than 0

A power w of four is up to 2^44, and a product with it would leave the ring. So w is opened in two parts, `small` for
divisors below 2^8 and `large` for the others, and w x / 2^22 is small x + large (x / 2^22), of which one term is 0. A
quotient by 0 has no meaning, and lies between -2 and 2.

A division takes ten rounds. What leaves each owner are values and bits under masks of the dealer, and nothing is
revealed. The constants fit together: they keep every value within its ring.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.magnitude import (
    LARGEST,
    POSITIVE,
    SIGNED,
    V_BITS,
    Normalised,
    Placed,
    lifted,
    narrowed,
    of_level,
    placed,
    power_of_four,
)
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, evict, open_all, product
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS as BITS

SPLIT = 22  # w is 2^SPLIT times `small`, or it is `large`.
UPPER_BITS = 42  # The upper bits of a number, of which SPLIT are cut, are opened in so many bits.
SMALL_BITS, LARGE_BITS = 26, 24  # The widths in which the parts of w are opened.
Y_BITS = 20  # y has so many fractional bits.
CUT, CUT_BITS = 20, 40  # So many low bits of w x / 2^22 are cut, and it is opened in so many bits.
FIRST = LARGEST - BITS - SPLIT  # w x y / 2^SPLIT is the quotient times 2^FIRST for x = a,
LAST = LARGEST - SPLIT  # and times 2^LAST for x = 2^16 a.


@dataclass
class Divisor:
    """A divisor as it is opened.

    Attributes:
        value: b.
        small, large: the parts of w.
    """

    value: MaskedValue
    small: MaskedValue
    large: MaskedValue

    def normalised(self, engine: Engine) -> torch.Tensor:
        """Return shares of n = b w mod 2^48; no message."""
        n = product(engine, self.value, self.small, V_BITS) << SPLIT
        return n + product(engine, self.value, self.large, V_BITS)

    def scaled(self, engine: Engine, x: MaskedValue, upper: MaskedValue) -> MaskedOpening:
        """Return the opening of w x / 2^(SPLIT + CUT) for opened x and x / 2^SPLIT."""
        share = product(engine, x, self.small) + product(engine, upper, self.large)
        return MaskedOpening(share, CUT, CUT_BITS, 64, 1 << (CUT_BITS - 2))


def _parts(engine: Engine, place: Placed, signed: bool) -> list[MaskedOpening]:
    """Return the openings of `small` and of `large`."""
    w = power_of_four()
    small = [each >> SPLIT for each in w]
    large = [0 if part else each for each, part in zip(w, small, strict=True)]
    small, large = (place.step(engine, of_level(values, signed)) for values in (small, large))
    return [
        MaskedOpening(small, 0, SMALL_BITS, 64, 1 << (SMALL_BITS - 2)),
        MaskedOpening(large, 0, LARGE_BITS, 64, 1 << (LARGE_BITS - 2)),
    ]


def _halves(x: torch.Tensor) -> list[MaskedOpening]:
    """Return the openings of x, which may wrap where `small` is 0, and of x / 2^SPLIT."""
    return [
        MaskedOpening(x, 0, V_BITS, 64, 1 << (V_BITS - 2)),
        MaskedOpening(x, SPLIT, UPPER_BITS, 64, 1 << (UPPER_BITS - 2)),
    ]


def quotient(engine: Engine, a: torch.Tensor, b: torch.Tensor, signed: bool = True) -> torch.Tensor:
    """Return shares of a / b, broadcast, with 16 fractional bits, for shares a and b with as many; ten rounds.

    Args:
        engine: this owner's end.
        a, b: the shares.
        signed: whether b may be negative. Otherwise half of the thresholds suffice.
    """
    a = engine.blinded(a)
    place = placed(engine, b, SIGNED if signed else POSITIVE)
    small, large, x, upper = open_all(engine, *_parts(engine, place, signed), *_halves(a))
    divisor = Divisor(place.value, small, large)
    cut = divisor.scaled(engine, x, upper)
    s, first = open_all(engine, narrowed(divisor.normalised(engine) + lifted(engine, place, signed)), cut)
    (y,) = open_all(engine, Normalised(place, s).harmonic(engine, "reciprocal", Y_BITS))
    q = MaskedOpening(product(engine, first, y), FIRST + Y_BITS - CUT, V_BITS, 64, 1 << (V_BITS - 2))
    (q,) = open_all(engine, q)
    rest = (a << BITS) - product(engine, q, divisor.value)
    evict(engine, x, upper, s, first)
    x, upper = open_all(engine, *_halves(rest))
    (last,) = open_all(engine, divisor.scaled(engine, x, upper))
    more = engine.truncate(product(engine, last, y), LAST + Y_BITS - CUT)
    evict(engine, place.value, small, large, x, upper, y, q, last)
    return q.share(engine) + more
