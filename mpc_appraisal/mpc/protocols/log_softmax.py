"""Log-softmax of shared logits that are bounded in size, from what `softmax` opens.

    ln softmax(z) = u - ln sum e^u,     u = z - m                         z (n, C), |z| <= B after centring a row
    ln sum e^u = ln s + (a known number) + ln 3 (levels of the row's sums)

z are the logits of n rows and C classes, B is their public bound, and m is close to the mean of the row. s is the sum
of a row that `softmax` opens before its last division; ln s comes from its harmonics as 1 / s does (see `harmonics`),
and the levels are the shared whole numbers by which the rows were divided on the way. So no iteration is left: the
logarithm takes no further round but one, in which ln s is cut. In go shares of z, and out come shares of ln softmax(z).

The formula holds for any m, so that m is what one multiplication of the row's sum by a public integer gives. u is
exact, whatever common part the logits of a row have.

What leaves each owner are values and bits under masks that the dealer draws. Nothing is revealed to anybody; B, the
number of doublings and the shapes are public. `release.softmax_accuracy.log_softmax_off` bounds the error of an entry.
"""

from __future__ import annotations

import math

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols import harmonics
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all
from mpc_appraisal.mpc.protocols.softmax import normalised_rows, sums_opening
from mpc_appraisal.mpc.protocols.softmax_plan import LN2, S_BITS, doublings, plan

MAX_LOG_CLASSES = 10  # The bounds on errors of methods that use it hold for so many classes.
LOG_BITS = 18  # A logarithm has so many fractional bits.
MEAN_BITS = 20  # The public integer that a row's sum is multiplied by has at most so many fractional bits.
L_BITS = 22  # The width of the ring in which ln s is opened.


def opened_width(classes: int, bound: float) -> int:
    """Return the width of the ring in which a logarithm, which lies above -2 bound - ln classes - 4, is opened."""
    return LOG_BITS + math.ceil(math.log2(2 * bound + math.log(classes) + 4)) + 2


def mean_factor(classes: int, bits: int, bound: float) -> tuple[int, int, float]:
    """Return t and the integer r with r / 2^t close to 1 / classes, and how far the mean of a row of u is from 0.

    `bits` is the number of fractional bits of the logits. Multiplied by 2^t, they leave room for `opened_width`.
    """
    t = min(MEAN_BITS, 64 - opened_width(classes, bound) + LOG_BITS - bits)
    r = round(2.0**t / classes)
    return t, r, classes * bound * abs(r / 2.0**t - 1 / classes)


def log_softmax(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> tuple[torch.Tensor, int]:
    """Return shares of ln softmax(z), (n, C), and the number of their fractional bits, LOG_BITS.

    Args:
        engine: this owner's end.
        z: shares of logits (n, C) with `bits` fractional bits.
        bits: the number of fractional bits of z.
        bound: B, with |z| <= B after each row is centred. It is not checked here, since z is secret.

    Raises InputError: the bound is too large, see `softmax_plan.doublings`, or there are more than MAX_LOG_CLASSES
        classes.
    """
    doublings(bound)
    if z.shape[1] > MAX_LOG_CLASSES:
        raise InputError("classes", z.shape[1], f"at most {MAX_LOG_CLASSES} for a loss on shares, as fine-tuning opens")
    v = z - z[:, -1:]  # a common part of the logits has no effect, whatever its size
    t, r, aside = mean_factor(z.shape[1], bits, bound)
    u, one = engine.blinded((v << t) - r * v.sum(1, keepdim=True)), 2.0 ** (bits + t)
    how = plan(z.shape[1], bound, aside, precise=True)
    rows = normalised_rows(engine, u, 1.0 / one, how)
    known = (S_BITS - 1 + rows.drop) * LN2 - rows.offset
    # Known numbers are subtracted before u is cut, since their rounding would be the same error in all entries.
    u = u - engine.public_share(torch.full_like(u, round(known * one)))
    for level, factor in rows.log:
        u = u - level * round(factor * one)
    width = opened_width(z.shape[1], bound)
    cut = MaskedOpening(u, bits + t - LOG_BITS, width, 64, 1 << (width - 2))
    u, s = open_all(engine, cut, sums_opening(rows))
    fit = how.fit("logarithm")
    share = harmonics.evaluate(engine, s, fit, harmonics.waves(engine, s, fit.harmonics))
    drop = harmonics.POINT - fit.shift - LOG_BITS
    (log,) = open_all(engine, MaskedOpening(share, drop, L_BITS, 64, 1 << (L_BITS - 2)))
    evict(engine, u, s, log)
    return u.share(engine) - log.share(engine), LOG_BITS
