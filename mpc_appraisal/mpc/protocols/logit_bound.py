"""Checks on shares whether the weights of a training kept the public bound on logits, and yields one bit.

    bit = 1 if ||w_c - mean of w|| <= norm for every class c of every recorded matrix w (d, C), else 0
    |x . (w_c - mean of w)| <= ||x|| ||w_c - mean of w|| <= B          for every row with ||x|| <= R

w are the weights of d features and C classes, w_c is the column of class c, and the mean is over the classes. x is a
row of data. A centred logit is x . (w_c - mean of w). The softmax on shares is right only while every centred logit is
within B. The owners announce R, the norm of the longest row. `weight_limit` derives `norm`, which is about B / R less
the rounding. `ops.record_weights` records each trained matrix in `TrainedWeights`.

What leaves each owner are masked values and masked bits. The backend opens the bit to both owners before the result
(see `checks`). The bit reveals whether the bound was kept. Squared norms take two rounds for many matrices at once. The
comparison of n of them takes 5 to 7 rounds, see `comparison`.

The bit is right with certainty. Why no norm can wrap unseen is explained in docs/protocols/engine.md. How many norms
are computed together may change; the limits on bits and on rounding may change only together with that explanation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.mpc.protocols.comparison import none_negative
from mpc_appraisal.mpc.protocols.engine import Engine

CHECK_BITS = 18  # The checked weights have at most so many fractional bits.
LARGEST_BITS = 60  # A value here has at most so many of the ring's 63 bits, since `reach` leaves out rounding.
GATHERED = 1 << 20  # The norms of about so many weights are computed together, in two rounds.


@dataclass(frozen=True)
class WeightLimit:
    """The public limit that every class's centred weights (w_c - mean of w) are compared with.

    Attributes:
        method: the name of the method that trains, for error messages.
        bound: B, the bound on the absolute value of a centred logit.
        row_norm: R, the norm that no row exceeds.
        norm: the largest norm of a class's centred weights that passes, after rounding has been subtracted.
        reach: the largest norm that weights can have one training step after weights that passed.
        bits: how many fractional bits C times the centred weights have when they are squared.
    """

    method: str
    bound: float
    row_norm: float
    norm: float
    reach: float
    bits: int


def weight_limit(
    method: str, bound: float, row_norm: float, shape: tuple[int, int], reach: Callable[[float], float]
) -> WeightLimit:
    """Return the limit for the weights of one method.

    Args:
        method: the name of the method, for error messages.
        bound: B, the bound on the absolute value of a centred logit.
        row_norm: R, the norm that no row exceeds.
        shape: (d, C), where d counts the constant feature too.
        reach: a function that returns the largest norm after one training step from the largest norm before it.

    Raises InputError: one step may make weights that the ring cannot hold, or the bound is smaller than the rounding.
    """
    rows, classes = shape
    far = reach(bound / row_norm)
    bits = CHECK_BITS
    if math.isfinite(far):
        bits = min(bits, math.floor(LARGEST_BITS / 2 - math.log2(max(classes * far, 1.0))))
    # The weights in a product and the weights that are checked differ by rounding. An entry of the first weights is off
    # by at most 2^-16, an entry of what was learnt by 2^-18, and a checked entry by a unit of `bits` divided by C.
    # An entry of a row is off by 2^-17, and a logit by less than 2^-14.
    off = 2.0**-16 + 2.0**-18 + 2.0**-bits / classes
    norm = (bound - 2.0**-14) / (row_norm + math.sqrt(rows) * 2.0**-17) - math.sqrt(rows) * off
    if not math.isfinite(far) or norm <= 0:
        raise InputError(
            "the bound on logits",
            f"{bound:g} for {method}, rows of norm up to {row_norm:g} and weights of norm up to {far:g} after one step",
            "a bound that can be checked with 16 fractional bits: standardise the features, lower appraisal.lr, or "
            "state a larger session.logit_bound",
        )
    return WeightLimit(method, bound, row_norm, norm, far, bits)


class TrainedWeights:
    """The record of one appraisal's trained weights, which are all checked at its end.

    Args:
        engine: this owner's end.
        limit: the public limit, or None for a method that has not declared that it trains (its logit_growth is 1).
    """

    def __init__(self, engine: Engine, limit: WeightLimit | None = None):
        self.engine, self.limit = engine, limit
        self._gathered: list[tuple[torch.Tensor, int]] = []
        self._outside: list[torch.Tensor] = []  # Each has limit - squared norm, (steps * C,).

    def record(self, share: torch.Tensor, bits: int) -> None:
        """Record shares of weights (d, C) with `bits` fractional bits.

        Norms are computed, in two rounds, whenever GATHERED weights have come. Both owners record matrices of the same
        shapes in the same order.

        Raises:
            AppraisalError: the method has not declared that it trains.
            InputError: weights as long as one step may make them do not fit the ring with these bits.
        """
        if self.limit is None:
            raise AppraisalError(
                "ops.record_weights: got weights of a method whose logit_growth is 1; expected one above 1"
            )
        if math.log2(share.shape[1] * self.limit.reach) + bits > LARGEST_BITS:
            raise InputError(
                f"appraisal.{self.limit.method}.lr",
                f"a step that makes weights of norm up to {self.limit.reach:g}",
                f"at most {2.0 ** (LARGEST_BITS - bits) / share.shape[1]:g}, for the ring to hold them",
            )
        self._gathered.append((share, bits))
        if sum(each.numel() for each, _ in self._gathered) >= GATHERED:
            self._compute()

    def _compute(self) -> None:
        if not self._gathered:
            return
        bits = max(b for _, b in self._gathered)
        weights = torch.stack([share << (bits - b) for share, b in self._gathered])
        self._gathered.clear()
        norms = squared_norms(self.engine, weights, bits, self.limit.bits)
        limit = math.floor((weights.shape[2] * self.limit.norm) ** 2 * 4.0**self.limit.bits)
        self._outside.append((self.engine.public_share(torch.full_like(norms, limit)) - norms).reshape(-1))

    def verdict(self) -> torch.Tensor | None:
        """Return shares (1,) of 1 if all recorded weights are within the limit, else of 0; None without a limit.

        Raises AppraisalError: the method declares that it trains, but it has recorded no weights to check.
        """
        self._compute()
        if self.limit is None:
            return None
        if not self._outside:
            raise AppraisalError(
                f"{self.limit.method} states a logit_growth above 1 but recorded no weights; expected "
                "ops.record_weights"
            )
        return none_negative(self.engine, torch.cat(self._outside))


def squared_norms(engine: Engine, weights: torch.Tensor, bits: int, at: int) -> torch.Tensor:
    """Return shares (steps, C), with 2 * `at` fractional bits, of ||C w_c - sum of w||^2 for each class c.

    This takes two rounds. C w_c - sum of w is C times the centred weights, which is exact on shares.

    Args:
        engine: this owner's end.
        weights: shares (steps, d, C) with `bits` fractional bits.
        bits: the number of fractional bits of the weights.
        at: how many fractional bits the entries have when they are squared. Every entry is truncated to `at` bits,
            within a unit.
    """
    centred = weights  # the single column of a model without a softmax is compared as it is
    if weights.shape[2] > 1:
        centred = weights * weights.shape[2] - weights.sum(2, keepdim=True)
    return engine.square(engine.truncate(centred, bits - at)).sum(1)
