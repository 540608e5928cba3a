"""Whether weights that were trained on shares kept the public bound on logits: checked on shares, one bit is opened.

With v_c the weights of class c minus their mean over the classes, a centred logit is x . v_c, and |x . v_c| <= ||x||
||v_c||. No row is longer than the told R, so logits stay within B if no v_c is longer than about B / R. Every trained
matrix that `ops.record_weights` records is kept; its squared norms are computed on shares. All are compared with
the limit, and the one bit "all are within" is what may be opened.

Nothing here fails with any probability: C v_c = C w_c - sum of w is exact on shares, truncation is exact, and the
comparison is CrypTen's circuit on ring elements. No norm can wrap unseen: until the first excess the softmax was within
its bound, so one step later the weights are within a public `reach`, and `weight_limit` picks fractional bits with
which the square of that fits the ring. The first excess is therefore seen, whatever becomes of later steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.mpc.protocols.engine import Engine

CHECK_BITS = 18  # fractional bits of the checked weights, at most
LARGEST_BITS = 60  # of a value here, of the 63 that the ring has: `reach` leaves out the rounding
GATHERED = 1 << 20  # weights whose norms are computed together, in two rounds


@dataclass(frozen=True)
class WeightLimit:
    """What every class's centred weights are compared with; all of it public.

    Attributes:
        method: name, for errors.
        bound: B, on |centred logits|. row_norm: R, no row is longer.
        norm: the largest norm of a class's centred weights that passes; rounding is taken off.
        reach: the largest norm one step after weights that pass.
        bits: fractional bits of C times the weights when they are squared.
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
    """The limit for weights (d, C) = `shape`, the constant feature's among them.

    reach: from the largest norm before a step to the largest after it.

    Raises InputError: the ring cannot hold what one step may make, or the bound is no more than rounding.
    """
    rows, classes = shape
    far = reach(bound / row_norm)
    bits = CHECK_BITS
    if math.isfinite(far):
        bits = min(bits, math.floor(LARGEST_BITS / 2 - math.log2(max(classes * far, 1.0))))
    # The weights of a product and those that are checked differ by rounding: each entry of the start's by 2^-16 at
    # most, of what was learnt by 2^-18, of the checked by a unit of `bits` divided by C. Entries of a row are off by
    # 2^-17, logits by less than 2^-14.
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
    """Notes the trained weights of one appraisal. limit: None where the method has not said that it trains."""

    def __init__(self, engine: Engine, limit: WeightLimit | None = None):
        self.engine, self.limit = engine, limit
        self._gathered: list[tuple[torch.Tensor, int]] = []
        self._outside: list[torch.Tensor] = []  # limit - squared norms, (steps, C) each

    def note(self, share: torch.Tensor, bits: int) -> None:
        """Shares of weights (d, C) with `bits` fractional bits; no message, or that of many at once."""
        if self.limit is None:
            raise AppraisalError(
                "ops.record_weights: got weights of a method whose logit_growth is 1; expected one above 1"
            )
        if math.log2(share.shape[1] * self.limit.reach) + bits > LARGEST_BITS:
            raise InputError(
                "appraisal.lr",
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
        self._outside.append((self.engine._first(torch.full_like(norms, limit)) - norms).reshape(-1))

    def verdict(self) -> torch.Tensor | None:
        """Shares (1,) of 1 if all noted weights are within the limit, else of 0; None where the method does not train.

        Raises AppraisalError: the method trains and told of no weights, so that its bound is not checked.
        """
        self._compute()
        if self.limit is None:
            return None
        if not self._outside:
            raise AppraisalError(
                f"{self.limit.method} states a logit_growth above 1 and told of no weights; expected ops.record_weights"
            )
        return none_negative(self.engine, torch.cat(self._outside))


def squared_norms(engine: Engine, weights: torch.Tensor, bits: int, at: int) -> torch.Tensor:
    """Squared norms of C times the centred weights of each class; two rounds.

    Args:
        weights: shares (steps, d, C) with `bits` fractional bits.
        at: fractional bits of what is squared: each entry is cut to them, exactly up to a unit.

    Returns:
        Shares (steps, C) with 2 * `at` fractional bits.
    """
    centred = weights * weights.shape[2] - weights.sum(2, keepdim=True)
    return engine.square(engine.truncate(centred, bits - at)).sum(1)


def none_negative(engine: Engine, share: torch.Tensor) -> torch.Tensor:
    """Shares (1,) of 1 if no element of (n,) is negative as a signed 64-bit integer, else of 0; exact."""
    from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

    negative = bridge.negative(engine, share).sum(0, keepdim=True)
    return bridge.negative(engine, negative - engine._first(torch.ones_like(negative)))
