"""Discrete Gaussian noise in ring units, drawn by OpenDP's sampler.

    Pr[k] proportional to exp(-k^2 / (2 s^2)) for integers k,    s = sigma ceil(sensitivity 2^bits)

Canonne, Kamath and Steinke (2020). Adding it to an integer of sensitivity s / sigma is 1 / (2 sigma^2)-zCDP, exactly as
for the Gaussian; there is no rounding of a continuous draw, whose low bits would tell of the value (Mironov 2012). The
sampler is exact and takes its randomness from the operating system: no seed, hence no test or run can repeat a draw.

Each party draws its own full noise and adds it to its share before the opening, so that the guarantee holds against the
other party, who knows its own noise and takes it off. Whoever sees the opened number alone faces the noise of both, of
deviation sqrt(2) s; the accountant counts one. For a released bit the noise goes in before the comparison, and the bit
costs what the value would.

The sensitivity is rounded up to whole units. If f and f' are reals at most Delta apart, then their roundings to nearest
are at most ceil(Delta 2^bits) units apart; errors of another kind belong into the sensitivity.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import opendp.prelude as dp

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError

# OpenDP cuts draws off at the ends of 64 bits. Beyond 2^7 deviations there is nothing left to cut off.
LARGEST_SCALE = 2.0**56
MOST_BITS = 62

dp.enable_features("contrib")


def units(sensitivity: float, bits: int) -> int:
    """The sensitivity in ring units of `bits` fractional bits, rounded up, exactly; 1 at least.

    Raises InputError for a sensitivity that is not above 0 and finite, and for bits outside 0 .. 62.
    """
    number("release.sensitivity", sensitivity, above=0)
    integer("release.bits", bits, 0, MOST_BITS)
    return math.ceil(Fraction(sensitivity) * 2**bits)


def scale(sigma: float, sensitivity: float, bits: int) -> float:
    """s: of one party's noise, in ring units; never below sigma times the sensitivity.

    sigma: the noise multiplier, deviations a sensitivity. Raises InputError for bad arguments and for noise that the
    ring cannot hold.
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
    """One party's own draw, in ring units of `bits` fractional bits: an integer below 2^63 in absolute value.

    To be added to this party's share before the opening, and forgotten. Raises InputError as `scale`.
    """
    return _sampler(scale(sigma, sensitivity, bits))(0)


@lru_cache(maxsize=16)
def _sampler(s: float) -> dp.Measurement:
    """integer -> integer + a draw at scale s; it has no state."""
    return dp.m.make_gaussian(dp.atom_domain(T="i64"), dp.absolute_distance(T="i64"), scale=s)


def deviation(sigma: float, sensitivity: float, bits: int, parties: int = 2) -> float:
    """Of the noise of all parties together, in the opened number's own units: what a reader of the value faces.

    The discrete Gaussian's deviation is s or less.
    """
    integer("parties", parties, 1)
    return math.sqrt(parties) * scale(sigma, sensitivity, bits) / 2.0**bits
