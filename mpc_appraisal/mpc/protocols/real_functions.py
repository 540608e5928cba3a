"""Exponentials, logarithms and roots of shared numbers of any size, by their magnitude: no series and no iteration.

    e^x = 4^(j - 8) e^r,    r = x - ln(4) (j - 8),  |r| <= ln 2,    for ln(4) (j - 8.5) <= x < ln(4) (j - 7.5)
    ln x = ln(n / 2^46) + ln(4) k + a known number,    sqrt(x) = 2^(k - 7) sqrt(n / 2^46)    (see `magnitude`)
    1 / sqrt(x) = 2^(7 - k) / sqrt(n / 2^46)

In go shares of x with 16 fractional bits, |x| < 2^30; out come shares of the function with as many. Powers of four that
depend on the secret x are step functions of it, e^r is a power of three as in `softmax`, and functions of n are sums of
harmonics.

| function | of x | \\|error\\| at most | rounds |
|---|---|---|---|
| `exponential_of` | any; 0 below -11.78, and 2^29 from 20.1 on | 1.5 u + 8e-6 e^x | 6 |
| `logarithm` | above 0; what is not counts as 2^-16 | 2 u | 6 |
| `root` | at least 0; what is not counts as 0 | 1.5 u + 2e-6 sqrt(x) | 7 |
| `inverse_root` | above 0; for what is not the result is 0 | 1.5 u + 2e-6 / sqrt(x) | 7 |

u is the unit 2^-16. What leaves each owner are values and bits under masks of the dealer, and nothing is revealed. The
constants fit together: they keep every value within its ring.
"""

from __future__ import annotations

import math

import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.magnitude import (
    LARGEST,
    LEVELS,
    POSITIVE,
    V_BITS,
    Normalised,
    lifted,
    narrowed,
    of_level,
    placed,
    power_of_four,
)
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product
from mpc_appraisal.mpc.protocols.softmax import exponential
from mpc_appraisal.mpc.protocols.softmax_plan import LN2, PRECISE_MANTISSA
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS as BITS

STEP = 2 * LN2
POWERS = 23  # e^x is 4^j e^r for so many j, and at least 2^(2 POWERS - 1 - BITS) beyond.
FINE = 14  # r has so many fractional bits more than x.
E_BITS = 20  # e^r has so many fractional bits.
SMALL_POWERS = E_BITS // 2  # For fewer j the result is cut, and for others no bit is lost.
ROOT_BITS = 24  # A root of n / 2^46 has so many fractional bits.


def exponential_of(engine: Engine, x: torch.Tensor) -> torch.Tensor:
    """Return shares of e^x; see the table above."""
    x = engine.blinded(x)
    starts = [STEP * (j - BITS / 2 - 0.5) for j in range(POWERS + 1)]
    place = placed(engine, x, [math.ceil(start * 2.0**BITS) for start in starts])
    middles = [round((start + LN2) * 2.0 ** (BITS + FINE)) for start in starts]
    r = (x << FINE) - place.step(engine, [middles[0], *middles])
    e, point = exponential(engine, r, 2.0 ** -(BITS + FINE), LN2 + 1e-4, 0.0, PRECISE_MANTISSA)
    small = [4**j if j < SMALL_POWERS else 0 for j in range(POWERS)]
    large = [0 if j < SMALL_POWERS else 4 ** (j - SMALL_POWERS) for j in range(POWERS)]
    e, small, large = open_all(
        engine,
        MaskedOpening(e, point - E_BITS, E_BITS + 4, 64, 2),
        MaskedOpening(place.step(engine, [0, *small, 0]), 0, 2 * SMALL_POWERS, 64, 0),
        MaskedOpening(place.step(engine, [0, *large, 0]), 0, 2 * (POWERS - SMALL_POWERS), 64, 0),
    )
    most = place.step(engine, [0] * (POWERS + 1) + [1 << (2 * POWERS - 1)])
    found = engine.truncate(product(engine, e, small), E_BITS) + product(engine, e, large)
    evict(engine, place.value, e, small, large)
    return found + most


def _normalised(engine: Engine, x: torch.Tensor, *more: list[int]) -> tuple[Normalised, list]:
    """Return positive x, normalised, and step functions of its level, opened for products; five rounds."""
    place = placed(engine, x, POSITIVE)
    w, *opened = open_all(
        engine,
        MaskedOpening(place.step(engine, of_level(power_of_four())), 0, V_BITS, V_BITS, 0),
        *(MaskedOpening(place.step(engine, of_level(values)), 0, LEVELS + 1, 64, 0) for values in more),
    )
    (s,) = open_all(engine, narrowed(product(engine, place.value, w, V_BITS) + lifted(engine, place)))
    evict(engine, w)
    return Normalised(place, s), opened


def logarithm(engine: Engine, x: torch.Tensor) -> torch.Tensor:
    """Return shares of ln x; see the table above."""
    found, _ = _normalised(engine, x)
    (log,) = open_all(engine, found.harmonic(engine, "logarithm", BITS))
    known = [round((STEP * k + (LARGEST - STEP / LN2 * (LEVELS - 1) - BITS) * LN2) * 2.0**BITS) for k in range(LEVELS)]
    evict(engine, found.place.value, found.s, log)
    return log.share(engine) + found.place.step(engine, of_level(known, otherwise=known[0]))


def root(engine: Engine, x: torch.Tensor) -> torch.Tensor:
    """Return shares of the square root of x; see the table above."""
    return _root(engine, x, "root", [1 << k for k in range(LEVELS)], ROOT_BITS - BITS // 2 - 1)


def inverse_root(engine: Engine, x: torch.Tensor) -> torch.Tensor:
    """Return shares of 1 / sqrt(x); see the table above."""
    return _root(engine, x, "inverse root", [1 << (LEVELS - 1 - k) for k in range(LEVELS)], ROOT_BITS - 1)


def _root(engine: Engine, x: torch.Tensor, name: str, factors: list[int], cut: int) -> torch.Tensor:
    """Return shares of a function of n / 2^46, in units of 2^-ROOT_BITS, times a factor of the level, cut."""
    found, (factor,) = _normalised(engine, x, factors)
    (of_n,) = open_all(engine, found.harmonic(engine, name, ROOT_BITS))
    out = engine.truncate(product(engine, of_n, factor), cut)
    evict(engine, found.place.value, found.s, of_n, factor)
    return out
