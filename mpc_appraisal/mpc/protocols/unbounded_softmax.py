"""Softmax and log-softmax of shared logits of almost any size, by the maximum of a row.

    softmax(z)_c = x_c / sum of x,      x_c = [v_c >= -16] e^(v_c),      v = z - m                          z (n, C)
    ln softmax(z) = v - ln(sum of x)

m is the largest logit of a row, rounded to a coarse step u of at most 1/4. So x_c is below e^u, one of them is at least
e^-u, and the sum of a row is between e^-u and C e^u whatever the logits are: nothing has to be squared, and only one
division is left. Logits further below the largest count as minus infinity, as e^-16 is below a unit of a probability.

In go shares of logits, and the public largest difference D of two logits of a row; out come shares of probabilities
with 16 fractional bits, or of their logarithms. D only has to make sure that differences fit the comparisons: they
take bits for log2(D), so that it may be generous. `LARGEST_SPREAD` is the most. Steps, for C classes:

1. All logits are opened, less the row's last one, cut to the step u, in as many bits as D needs. `maximum` gives m.
2. v is opened mod 2^24, in 2^-19 or finer, and m in the coarse ring. v is right only where v is within the window
   [-16 - u, u]; elsewhere it has wrapped, which is harmless. The exponential is a power of three, as in `softmax`.
3. The differences of what was opened in 1 and of m are compared with -16 by the digits of their masks. The bit is
   opened under a random bit s, and the dealer has shared its part of e^v times s and times 1 - s. So each owner has a
   share of x, which is 0 where v is below the window, without a further opening.
4. The rows are divided by their sums (see `row_division`), or the sums' logarithm is taken by harmonics.

What leaves each owner are values and bits under masks that the dealer draws (see `masked` and `comparison`). Nothing is
revealed; D and the shapes are public. The error of a probability has a standard deviation of 8e-6 at most.
`release.unbounded_accuracy` bounds it. The constants fit together: they keep every value within its ring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols import harmonics
from mpc_appraisal.mpc.protocols.comparison import SharedBits, below_zero, masked_bits
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.harmonics import Fit, fitted
from mpc_appraisal.mpc.protocols.log_softmax import L_BITS, LOG_BITS, MAX_LOG_CLASSES
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, evict, open_all
from mpc_appraisal.mpc.protocols.maximum import difference, maximum_of, opened_bits
from mpc_appraisal.mpc.protocols.row_division import divided, division_plan
from mpc_appraisal.mpc.protocols.softmax_plan import (
    HIGH,
    LN2,
    LOGIT_RANGE,
    MANTISSA,
    MAX_CLASSES,
    S_BITS,
    TOP,
    Z_BITS,
    exponent_step,
)
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT, power_of_three, stretched

LARGEST_SPREAD = 2.0**30  # The largest difference of two logits of a row that may be stated.
COARSE_WIDTHS = (12, 16, 20, 24, 28, 32, 36, 44)  # Logits are opened for their maximum in one of these numbers of bits.
STEP_BITS = 2  # The coarse step is 2^-2 or finer.
FLOOR_BITS = 10  # It is 2^-10 or finer where logits far below the largest count as 16 below.
SPARE = 16  # A difference keeps so many coarse steps from the end of its ring.
LOG_HARMONICS = ((3.5, 10), (8.5, 16), (17.0, 32))  # Harmonics of ln for sums of at most the first number's ratio.
LARGEST_BITS = 62  # A difference of two logits has at most so many bits, and a sign, in the ring of 64.
V_BITS = 48  # v is cut in a ring of at most so many bits.


@dataclass(frozen=True)
class Window:
    """The public numbers of the steps 1 to 3.

    Attributes:
        coarse: the width in bits of the ring of the maximum.
        point: the number of fractional bits of the coarse step u.
        drop: how many bits of v are cut when it is opened.
        rate: the power of three, times 2^POINT, that one step of the opened v counts.
        mantissa, offset: what `power_of_three` is given.
        middle: the integer that is added to v, so that the window lies about zero, and the largest sum is TOP * 2^down.
        one: the number that stands for 1 in x.
        low: the least sum that a row of x can have.
        down: how many low bits of a sum are cut when it is opened.
    """

    coarse: int
    point: int
    drop: int
    rate: int
    mantissa: int
    offset: int
    middle: int
    one: float
    low: float
    down: int

    @property
    def high(self) -> float:
        """Return the largest sum that a row of x can have."""
        return TOP * 2.0**self.down


def window(classes: int, bits: int, spread: float, finest: int = STEP_BITS) -> Window:
    """Return the public numbers for logits with `bits` fractional bits, two of which differ by at most `spread`.

    The coarse step is 2^-finest or smaller, unless the logits have fewer bits.

    Raises InputError: there are too many classes, or the spread is not above 0 or is too large.
    """
    if classes > MAX_CLASSES:
        raise InputError("classes", classes, f"at most {MAX_CLASSES}: with more, the softmax on shares is too coarse")
    if not 0 < spread <= LARGEST_SPREAD:
        raise InputError("the difference of two logits", spread, f"above 0, at most {LARGEST_SPREAD:g}")
    for coarse in COARSE_WIDTHS:
        point = min(bits, math.floor(math.log2((2.0 ** (coarse - 1) - SPARE) / (spread + LOGIT_RANGE))))
        if point >= min(bits, finest):
            break
    step = 2.0**-point
    unit, largest = 2.0**-bits, LOGIT_RANGE / 2 + step + LN2 / 2
    drop, rate = exponent_step(unit, largest)
    offset = math.ceil(largest / LN3 + 1.01)
    room = 62.9 - math.log2(classes) - largest / LN2 - stretched(offset)
    mantissa = min(MANTISSA, int(room / 2))
    scale = stretched(offset) + 2 * mantissa
    # The largest sum is `most` times e^(middle), and `middle` makes it TOP times a power of two.
    most = 1.001 * classes * math.exp(step) * 2.0**scale / TOP
    down = round((math.log(most) + LOGIT_RANGE / 2) / LN2)
    middle = math.floor((down * LN2 - math.log(most)) / unit / 2.0**drop) << drop
    # The rounding of the rate is the same in the power of `middle`, by which 1 is larger than 2^(its bits).
    one = 2.0**scale * math.exp(middle / 2.0**drop * rate * LN3 / 2.0**POINT)
    return Window(coarse, point, drop, rate, mantissa, offset, middle, one, 0.999 * math.exp(-step) * one, down)


@dataclass
class Exponentials:
    """Shares of x, and what else one owner has of step 3.

    Attributes:
        x: shares (n, C) of the exponentials.
        window: the public numbers.
        top: the opened m (1, n) in coarse steps, less the row's last logit; its mask is kept.
        fine: the opened v (C, n), less the middle of the window; its mask is kept.
        below: the bits [v < -16], (C, n), shared by exclusive or.
    """

    x: torch.Tensor
    window: Window
    top: MaskedValue
    fine: MaskedValue
    below: SharedBits


def exponentials_of(
    engine: Engine,
    z: torch.Tensor,
    bits: int,
    spread: float,
    rings: tuple[int, int] | None = None,
    finest: int = STEP_BITS,
) -> Exponentials:
    """Return shares of x of the formula above, for logits z (n, C).

    Args:
        engine: this owner's end.
        z: shares with `bits` fractional bits.
        bits: the number of fractional bits of z.
        spread: the largest difference of two logits of a row.
        rings: the widths of the rings of the products that m and v enter; None if they enter none.
        finest: the fewest fractional bits of the coarse step.
    """
    spread = min(spread, 2.0 ** (LARGEST_BITS - bits) - LOGIT_RANGE)  # no difference in the ring is larger
    w = window(z.shape[1], bits, spread, finest)
    cut, (of_top, of_fine) = bits - w.point, rings or (w.coarse, Z_BITS)
    # A cut is right on average where the low bits of shares are random, and those of one owner's own logits are not.
    logits = engine.blinded((z - z[:, -1:]).t().contiguous())
    (coarse,) = open_all(engine, MaskedOpening(logits, cut, w.coarse, w.coarse, 0))
    top = maximum_of(engine, coarse)
    shifted = logits - (top << cut) + engine.public_share(torch.full_like(logits, w.middle))
    fine, top = open_all(
        engine,
        MaskedOpening(shifted, w.drop, Z_BITS, of_fine, 1 << (Z_BITS - 2)),
        MaskedOpening(top, 0, w.coarse, of_top, 8 if of_top > w.coarse else 0),
    )
    every = list(range(z.shape[1]))
    apart = difference(engine, coarse, top, (every, [0] * len(every)), round(LOGIT_RANGE * 2.0**w.point))
    below = below_zero(engine, apart)
    evict(engine, coarse, apart)
    engine.ask_dealer("gated_power", fine.key, w.rate, w.mantissa)
    far = opened_bits(engine, below)
    near, other, near_wrapped, other_wrapped = (engine.dealer_share(fine.delta.shape) for _ in range(4))
    if engine.dry:
        return Exponentials(z, w, top, fine, below)
    plain = torch.where(far == 1, other, near)
    wrapped = torch.where(far == 1, other_wrapped, near_wrapped)
    power = power_of_three(fine.delta, w.mantissa, w.offset, w.rate)
    x = ((plain + fine.wrapped * wrapped) * power).t().contiguous()
    return Exponentials(x, w, top, fine, below)


def unbounded_softmax(engine: Engine, z: torch.Tensor, bits: int, spread: float) -> torch.Tensor:
    """Return shares of softmax(z), (n, C), with 16 fractional bits.

    Args:
        engine: this owner's end.
        z: shares of logits (n, C) with `bits` fractional bits.
        bits: the number of fractional bits of z.
        spread: D, the largest difference of two logits of a row. It is not checked here, since z is secret.

    Raises InputError: the spread or the number of classes is out of range.
    """
    found = exponentials_of(engine, z, bits, spread)
    evict(engine, found.top, found.fine)
    return divided(engine, found.x, division_plan(z.shape[1], found.window.low, found.window.down))


def log_fit(w: Window) -> Fit:
    """Return the harmonics of the logarithm of the sums of rows, as they are opened."""
    ratio, count = next(each for each in LOG_HARMONICS if HIGH / (w.low / 2.0**w.down - 2) <= each[0])
    return fitted("logarithm", math.floor(HIGH / ratio), HIGH, S_BITS, 1 << (S_BITS - 1), count)


def log_bits(rows: int, spread: float) -> int:
    """Return how many fractional bits a logarithm has: LOG_BITS, or fewer where a sum over the rows may be large."""
    return max(1, min(LOG_BITS, 44 - math.ceil(math.log2(max(rows, 1) * max(spread, 1.0)))))


def unbounded_log_softmax(
    engine: Engine, z: torch.Tensor, bits: int, spread: float, floor: bool = False
) -> tuple[torch.Tensor, int]:
    """Return shares of ln softmax(z), (n, C), and the number of their fractional bits.

    Args:
        engine: this owner's end.
        z: shares of logits (n, C) with `bits` fractional bits.
        bits: the number of fractional bits of z.
        spread: D, the largest difference of two logits of a row. It is not checked here, since z is secret.
        floor: whether a logit more than 16 below the row's largest counts as 16 below, so that no row's logarithm is
            large whatever the spread is. This takes one more round.

    Raises InputError: the spread or the number of classes is out of range.
    """
    if z.shape[1] > MAX_LOG_CLASSES:
        raise InputError("classes", z.shape[1], f"at most {MAX_LOG_CLASSES} for a loss on shares, as fine-tuning opens")
    found = exponentials_of(engine, z, bits, spread, (64, 64), FLOOR_BITS if floor else STEP_BITS)
    w, fine, kept = found.window, found.fine, LOG_BITS if floor else log_bits(z.shape[0], spread)
    if floor:  # v + 16 where that is above zero, from the window of v
        far = masked_bits(engine, found.below)
        end = round(LOGIT_RANGE * 2.0 ** (bits - w.drop))
        more = end - (w.middle >> w.drop)
        from_end = MaskedValue(fine.key, fine.bits, fine.ring, fine.delta + more, fine.mask, fine.wrapped)
        v = (from_end.share(engine) - far.times(engine, from_end)).t()
        v, at = v - engine.public_share(torch.full_like(v, end)), bits - w.drop
        far.forget(engine)
    else:
        v, at = z - z[:, -1:] - (found.top.share(engine) << (bits - w.point)).t(), bits
    evict(engine, fine, found.top)
    v, at = (v, at) if at >= kept else (v << (kept - at), kept)
    width = min(V_BITS, 64 - (at - kept))
    v, s = open_all(
        engine,
        MaskedOpening(engine.blinded(v), at - kept, width, 64, 1 << (width - 2)),
        MaskedOpening(found.x.sum(1, keepdim=True), w.down, S_BITS, S_BITS, 2),
    )
    fit = log_fit(w)
    share = harmonics.evaluate(engine, s, fit, harmonics.waves(engine, s, fit.harmonics))
    known, point = (S_BITS - 1 + w.down) * LN2 - math.log(w.one), harmonics.POINT - fit.shift
    share = share + engine.public_share(torch.full_like(share, round(known * 2.0**point)))
    whole = L_BITS - LOG_BITS + kept
    (log,) = open_all(engine, MaskedOpening(share, point - kept, whole, 64, 1 << (whole - 2)))
    evict(engine, v, s, log)
    return v.share(engine) - log.share(engine), kept
