"""Rows divided by their sums, and logarithms of sums, by iterations on opened values: for sums between 1 and C.

    p = x / (sum of x),      y with s y close to a public scale by Goldschmidt's iteration (see `reciprocal`)
    ln x = L + d - d^2 / 2 + d^3 / 3,      x e^-L = 1 + d, for a polynomial L of degree 6 with |d| < 0.1

In go shares of positive rows x (n, C), whose sums lie in a public range, or of positive numbers; out come shares of
rows that sum to nearly 1, or of logarithms. `unbounded_softmax` uses both, because its sums lie between about 1 and C
whatever the logits are. The softmax with a bound divides by `harmonics` instead, which takes fewer rounds; nothing
stands against the same here but the proof in `release.unbounded_accuracy`, which is about these iterations.

What leaves each owner are values under masks of the dealer, and nothing is revealed. The constants below fit together:
they keep every value within its ring, and may change only together with `release.unbounded_accuracy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.log_softmax import LOG_BITS
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product
from mpc_appraisal.mpc.protocols.reciprocal import ReciprocalPlan, plan, reciprocal
from mpc_appraisal.mpc.protocols.softmax import exponential
from mpc_appraisal.mpc.protocols.softmax_plan import P_SCALE

SUM_BITS = 22  # A row's sum is opened with so many bits.
FINE = 1.0 + 2.0**-14  # The rows' sums may differ by this factor after the division.
WORK = 16  # The iteration of the reciprocal has so many bits.
OPEN_BITS = 24  # The width of the ring in which a sum is opened for its logarithm.


@dataclass
class PositiveRows:
    """Shares of positive numbers whose rows are proportional to probabilities.

    Attributes:
        x: shares (n, C) mod 2^ring.
        ring: the width of the ring of x in bits.
        drop: how many low bits are cut when x is opened.
        one: the integer that stands for 1 in x.
        low, high: the integers between which the sum of every row lies.
    """

    x: torch.Tensor
    ring: int
    drop: int
    one: float
    low: float
    high: float


@dataclass
class DividedRows:
    """Positive rows that have been divided by their sums.

    Attributes:
        q: shares (n, C) of the divided rows mod 2^64.
        how: the plan of the reciprocals. The sum of every row of q is between how.low and how.high times 2^P_SCALE.
    """

    q: torch.Tensor
    how: ReciprocalPlan


def divided(engine: Engine, rows: PositiveRows) -> DividedRows:
    """Divide rows by their sums, up to the factor FINE.

    Args:
        engine: this owner's end.
        rows: the rows to divide. The masks under which they are opened are dropped at the end.
    """
    s = rows.x.sum(1, keepdim=True)
    s_drop = math.ceil(math.log2(rows.high)) - SUM_BITS
    low, high = int(rows.low / 2.0**s_drop), int(rows.high / 2.0**s_drop) + 1
    scale = 2.0 ** (P_SCALE - s_drop + rows.drop)
    how = plan(low, high, goal=FINE, work=WORK, scale=scale, precision=20, bits=None)
    x, s = open_all(
        engine,
        MaskedOpening(rows.x, rows.drop, rows.ring - rows.drop, 64),
        MaskedOpening(s, s_drop, rows.ring - s_drop, max(how.ring(0), rows.ring - s_drop)),
    )
    y = reciprocal(engine, s, how, 64)
    q = product(engine, x, y, 64)
    evict(engine, x, y)
    return DividedRows(q, how)


def polynomial(low: float, high: float) -> np.ndarray:
    """Return the coefficients, the lowest first, of a polynomial of degree 6 that approximates ln x on [low, high].

    The variable of the polynomial is x mapped linearly from [low, high] to [-1, 1].
    """
    centre_of, half = (high + low) / 2, (high - low) / 2
    grid = low + (high - low) * (np.cos(np.linspace(0, np.pi, 400)) + 1) / 2
    fit = np.polynomial.chebyshev.Chebyshev.fit((grid - centre_of) / half, np.log(grid), 6, domain=[-1, 1])
    return fit.convert(kind=np.polynomial.Polynomial).coef


def logarithm(engine: Engine, x: torch.Tensor, bits: int, low: float, high: float) -> torch.Tensor:
    """Return shares of ln x with 18 fractional bits, right within 2^-15 if high / low is at most about 15.

    Args:
        engine: this owner's end.
        x: shares, of any shape, with `bits` fractional bits.
        bits: the number of fractional bits of x.
        low, high: the public range of the real number x, with low above 0.
    """
    centre_of, half = (high + low) / 2, (high - low) / 2
    coefficients = polynomial(low, high)
    m = 14 + max(0, math.ceil(math.log2(half)))
    w = x * round(2.0**m / half) + engine.public_share(torch.full_like(x, round(-centre_of / half * 2.0 ** (m + bits))))
    w = engine.truncate(w, m + bits - LOG_BITS)
    value = w * 0 + engine.public_share(torch.full_like(x, round(coefficients[-1] * 2.0**LOG_BITS)))
    for c in coefficients[-2::-1]:
        value = engine.truncate(engine.multiply(value, w), LOG_BITS)
        value = value + engine.public_share(torch.full_like(x, round(c * 2.0**LOG_BITS)))
    largest = max(abs(math.log(low)), abs(math.log(high))) + 0.2
    reciprocal, reciprocal_bits = exponential(engine, -value, 1.0 / 2.0**LOG_BITS, largest, 0.0)
    reciprocal = engine.truncate(reciprocal, reciprocal_bits - LOG_BITS)
    d = engine.truncate(engine.multiply(x, reciprocal), bits) - engine.public_share(torch.full_like(x, 1 << LOG_BITS))
    dd = engine.truncate(engine.square(d), LOG_BITS)
    ddd = engine.truncate(engine.multiply(dd, d), LOG_BITS)
    third = engine.truncate_locally(ddd * 21845, 16, LOG_BITS + 10)
    return value + d - engine.truncate_locally(dd, 1, LOG_BITS) + third
