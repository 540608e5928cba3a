"""The derivative of the summed cross-entropy along a direction, with one product of the rows and one opening for it.

    sum over rows of (p - y) . v  =  sum of (1 / s) (x . v)  -  <X'Y, V>,      p = x / s,  s = sum of x,  v a row of XV

X (n, d) are the data owner's rows and Y (n, C) their one-hot labels; W and V (d, C) are the model owner's weights and
its direction; p are the probabilities of the logits X W, and x, s are what `softmax` makes of them before it divides.
In go the four private matrices, and out comes one shared number. The steps are

| step | each owner sends | rounds |
|---|---|---|
| X [W | V], of matrices that are masked once | d x 2 C numbers of 8 bytes, the model owner alone | 1, along with X |
| X'Y, which the data owner computes alone, and its product with V | d x C of 8 bytes, the data owner alone | 0 |
| x of the logits X W | as in `softmax` | 1 to 26 |
| x, s and v, opened under masks | 3 + 3 bytes an entry and 3 a row | 1 |
| x . v, of which the dealer shares the part of the masks; 1 / s and x . v, opened under masks | 6 bytes a row | 1 |
| the sum of (1 / s) (x . v) | nothing | 0 |

What an owner receives is masked by numbers that it does not know, and results of the dealer are uniform, so that
nothing is revealed. No probability is ever shared, and nothing is truncated in a way that may fail. A message of X'Y
does not wait for another, so that it costs no round.

V is multiplied by a public power of two, so that X V is within C times the bound on logits, for which its ring has
room. `SlopePlan` has the public numbers that keep all values within their rings. docs/protocols/engine.md derives them,
and docs/protocols/releases.md bounds the error; they may change only with these pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.grid import GridTensor, NarrowSecret, narrow_secret
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, row_products
from mpc_appraisal.mpc.protocols.softmax import normalised_rows, reciprocal_opening, sums_opening
from mpc_appraisal.mpc.protocols.softmax_plan import P_SCALE, X_BITS, X_DROP, plan
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor, Secret
from mpc_appraisal.mpc.ring.matrix import Matrix

V_TOP, V_BITS = 20, 24  # Opened entries of X V are at most 2^V_TOP, and are opened in a ring of so many bits.
ROW_RING = 40  # Sums x . v are shared mod 2^ROW_RING, and are at most 2^(ROW_RING - 2).
ROOM = 1.02  # Roundings may exceed the bounds on x and v by this factor together.
LEAST_DROP = 16  # So many low bits of x . v are cut at least.
RESULT_BITS = 38  # The result has at most so many fractional bits, before the power of two is counted.
MOST_SCALE, LEAST_SCALE = 6, -20  # V is multiplied by 2^scale.
SUM_BITS = 54  # A sum of the rows' largest terms is below 2^SUM_BITS.


@dataclass(frozen=True)
class SlopePlan:
    """The public numbers of a slope.

    Attributes:
        scale: V is multiplied by 2^scale.
        value_bits: entries of X V, times 2^scale, have so many fractional bits when they are opened.
        drop: how many low bits of x . v are cut when it is opened.
        bits: the result, times 2^scale, has so many fractional bits.
    """

    scale: int
    value_bits: int
    drop: int
    bits: int

    def label_bits(self, of_rows: int, of_direction: int) -> int:
        """Return how many fractional bits X'Y keeps, for X and V with so many."""
        return min(of_rows, self.bits - of_direction)


def slope_plan(
    bound: float, shape: tuple[int, int], rows: int, longest: float, spread: float, bits: int
) -> SlopePlan | None:
    """Return the plan; None where the rows are so long that X V may not fit its ring.

    Args:
        bound: the public bound on logits.
        shape: the shape (d, C) of V.
        rows: how many rows' results are summed.
        longest: a bound on the norm of a row of X.
        spread: a bound on the norm of a column of V.
        bits: the fewest fractional bits with which V is shared.
    """
    classes, rounding = shape[1], math.sqrt(shape[0]) * 2.0 ** -(bits + 1)
    # The ring holds 2 C times the bound on logits, of which a quarter leaves V_BITS bits above those that are cut.
    large = 2.0 ** (math.ceil(math.log2(2 * classes * max(bound, 1.0))) - 2) / ROOM
    scale = MOST_SCALE
    while (largest := longest * (spread * 2.0**scale + rounding)) > (min(bound, large) if scale > 0 else large):
        scale -= 1
        if scale < LEAST_SCALE:
            return None
    value_bits = min(V_TOP, math.floor(V_TOP - math.log2(ROOM * largest)))
    drop = max(LEAST_DROP, math.ceil(math.log2(rows)))
    fits = min(RESULT_BITS, SUM_BITS - math.ceil(math.log2(rows * largest)))
    return SlopePlan(scale, value_bits, drop, max(P_SCALE + value_bits - drop, fits))


def _joined(weights: PrivateTensor, direction: PrivateTensor, scale: int) -> PrivateTensor:
    """Return [W | 2^scale V], the same tensor at each call, so that it is masked once for all candidates."""
    if weights.beside is None or weights.beside[:2] != (direction, scale):
        shape = torch.Size((weights.shape[0], 2 * weights.shape[1]))
        beside = weights._local(
            lambda w, v: torch.cat([w.to(torch.float64), v.to(torch.float64) * 2.0**scale], dim=1),
            direction,
            shape=shape,
        )
        beside.bits = weights.bits
        weights.beside = direction, scale, beside
    return weights.beside[2]


@ops.takes_slopes.register(PrivateTensor)
def _takes_slopes(weights: PrivateTensor, longest: float, spread: float) -> bool:
    context = weights.context
    if context.spread is not None or context.engine.helper or context.engine.exact:
        return False
    return slope_plan(context.logit_bound, tuple(weights.shape), 1, longest, spread, weights.bits) is not None


@ops.slope.register(PrivateTensor)
def _slope(
    weights: PrivateTensor,
    direction: PrivateTensor,
    x: PrivateTensor,
    y: PrivateTensor,
    rows: int,
    longest: float,
    spread: float,
) -> Secret:
    context, classes = weights.context, weights.shape[1]
    engine = context.engine
    how = slope_plan(context.logit_bound, tuple(weights.shape), rows, longest, spread, weights.bits)
    left, bits = x.masked(), x.grid.weight_bits if isinstance(x, GridTensor) else weights.bits
    right = _joined(weights, direction, how.scale).masked(bits, 64)
    sums = engine.mask(x.owner, _label_sums(x, y, how.label_bits(x.bits, bits)), weights.shape, along=True)
    of_labels = torch.diagonal(engine.product(sums, right, True)[:, classes:]).sum()
    engine.free(sums)
    both = narrow_secret(context, engine.product(left, right), x.bits + bits, left.bits)
    z, v = both[:, :classes], both[:, classes:]
    if isinstance(z, NarrowSecret):
        z = z.for_softmax(classes, context.logit_bound)
    shared = v.narrow if isinstance(v, NarrowSecret) else v.share
    opening = MaskedOpening(shared, v.bits - how.value_bits, V_BITS, ROW_RING, 1 << V_TOP)
    total = averages(engine, z.share, z.bits, context.logit_bound, opening, how.drop)
    total = total << (how.bits - (P_SCALE + how.value_bits - how.drop))
    of_labels = of_labels << (how.bits - how.label_bits(x.bits, bits) - bits)
    return Secret(context, total - of_labels, how.bits + how.scale)


def _label_sums(x: PrivateTensor, y: PrivateTensor, bits: int) -> torch.Tensor | None:
    """Return X'Y (d, C) with `bits` fractional bits, rounded to nearest, at its owner; None at the other owner.

    It is computed from the rows as they are shared, exactly.
    """
    if not x.mine:
        return None
    found = Matrix(x.ring(x.bits, narrow=True)).product(torch.round(y.value).to(torch.int64), True)
    cut = x.bits - bits
    return found if cut == 0 else (found + (1 << (cut - 1))) >> cut


def averages(engine: Engine, z: torch.Tensor, bits: int, bound: float, v: MaskedOpening, drop: int) -> torch.Tensor:
    """Return a share of the sum over all rows of softmax(z) . v, with P_SCALE - drop fractional bits beside v's.

    Args:
        engine: this owner's end.
        z: shares of logits (n, C) with `bits` fractional bits, as for `softmax`.
        bits: the number of fractional bits of z.
        bound: the bound on the centred logits.
        v: the opening of v (n, C), in integers of at most 2^V_TOP, for products mod 2^ROW_RING.
        drop: how many low bits of the rows' products are cut.

    Raises InputError: the bound or the number of classes is too large, see `softmax_plan.plan`.
    """
    classes = z.shape[1]
    how = plan(classes, bound)
    rows = normalised_rows(engine, classes * z - z.sum(1, keepdim=True), 1.0 / (classes * 2.0**bits), how)
    x, s, v = open_all(engine, MaskedOpening(rows.x, rows.drop + X_DROP, X_BITS, ROW_RING), sums_opening(rows), v)
    weighted = row_products(engine, x, v, ROW_RING).reshape(1, -1)
    y = reciprocal_opening(engine, s, how.reciprocal)
    y.share = y.share.reshape(1, -1)
    y, u = open_all(engine, y, MaskedOpening(weighted, drop, ROW_RING - drop, 64, 1 << (ROW_RING - 2 - drop)))
    total = row_products(engine, y, u).sum()
    evict(engine, x, s, v, y, u)
    return total
