"""Discrete Gaussian noise in ring units, drawn by OpenDP's sampler (Canonne, Kamath and Steinke 2020).

    Pr[k] proportional to exp(-k^2 / (2 s^2)) for integers k,    s = sigma ceil(sensitivity 2^bits)

In go sigma (the standard deviation of one party's noise, in sensitivities), the sensitivity of the opened number (how
far one row can move it) and its fractional bits. Out comes an integer k: `noise` draws one party's own noise, which the
party adds to its share before the opening. One such draw on an integer of sensitivity s / sigma is 1 / (2
sigma^2)-zCDP.

The sampler is exact and takes its randomness from the operating system. It has no seed, hence no test and no run can
repeat a draw. It may be exchanged only for one that is exact too, because the accountant charges this distribution. Why
each party draws the full noise, and why the sensitivity is rounded up to whole units, is in docs/protocols/releases.md.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import opendp.prelude as dp

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError

# OpenDP cuts draws off at the ends of 64 bits, which are 2^7 deviations away at this scale. No draw gets there.
LARGEST_SCALE = 2.0**56
MOST_BITS = 62

dp.enable_features("contrib")


def units(sensitivity: float, bits: int) -> int:
    """Return the sensitivity in ring units of `bits` fractional bits, rounded up. It is 1 at least.

    Raises InputError for a sensitivity that is not above 0 and finite, and for bits outside 0 .. 62.
    """
    number("release.sensitivity", sensitivity, above=0)
    integer("release.bits", bits, 0, MOST_BITS)
    return math.ceil(Fraction(sensitivity) * 2**bits)


def scale(sigma: float, sensitivity: float, bits: int) -> float:
    """Return the scale s of one party's noise, in ring units. It is never below sigma times the sensitivity.

    `sigma` is the standard deviation of the noise in sensitivities. Raises InputError for bad arguments and for noise
    that the ring cannot hold.
    """
    number("release.sigma", sigma, above=0)
    exact = Fraction(sigma) * units(sensitivity, bits)
    if exact > LARGEST_SCALE:
        raise InputError(
            "release.sigma",
            f"{sigma}, with a sensitivity of {sensitivity} at {bits} fractional bits",
            f"noise of at most 2^{math.log2(LARGEST_SCALE):g} units, which the ring holds",
        )
    nearest = float(exact)
    return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)


def noise(sigma: float, sensitivity: float, bits: int) -> int:
    """Draw one party's own noise, an integer below 2^63 in absolute value, in ring units of `bits` fractional bits.

    The party adds the number to its share before the opening, and keeps it nowhere. Raises InputError as `scale` does.
    """
    return _sampler(scale(sigma, sensitivity, bits))(0)


@lru_cache(maxsize=16)
def _sampler(s: float) -> dp.Measurement:
    """Return a function from an integer to the integer plus a draw at scale s. The function has no state."""
    return dp.m.make_gaussian(dp.atom_domain(T="i64"), dp.absolute_distance(T="i64"), scale=s)


def deviation(sigma: float, sensitivity: float, bits: int, parties: int = 2) -> float:
    """Return the standard deviation of the noise of all parties together, in units of the opened number.

    The result is an upper bound, because the deviation of a discrete Gaussian is s or less.
    """
    integer("parties", parties, 1)
    return math.sqrt(parties) * scale(sigma, sensitivity, bits) / 2.0**bits
