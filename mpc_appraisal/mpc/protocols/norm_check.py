"""Checks on shares whether the model owner's matrices are as short as it announced, and yields one bit.

    weights w (d, C):      ||w_c - mean of w|| <= limit for every class c              (`weights_within`)
    direction v (d, C):    ||v_c|| <= spread, ||v_c - v_e|| <= spread for all c, e     (`direction_within`)
    one column, C = 1:     ||w|| <= limit and ||v|| <= spread, as a model without a softmax has no mean to take off
    bit = 1 if all of these hold, else 0                                               (`all_hold`)

The model owner holds both matrices, for d features and C classes: w are its weights, and v is its influence
direction (V in `methods.influence`). w_c and v_c are columns, and the mean is over the classes. The noise of
`release.dp` is scaled to norms that the model owner announces (limit and spread). An owner that announced a small norm
and shared a long matrix would see through the noise. Therefore the norms are compared before anything is opened, and
`release.dp.release` opens the bit to both owners first. The bit depends on the model owner's own matrices and on public
numbers alone, so that it reveals nothing of the candidate (the data owner's data) and needs no noise.

What leaves each owner are masked values and masked bits. The matrix may hold any ring elements,
so that it is measured in several passes of ever finer units, and no sum of squares can wrap unseen. A pass costs each
owner 16 bytes an entry. It takes one round, all squares together take another round, and the comparison takes 5 to 7.

The bit is right for any matrix, with certainty. The proof, and what the check cannot find, are in
docs/protocols/norm_check.md; the constants and the passes below may change only together with that proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.comparison import none_negative
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import shared_product
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor, Secret

WEIGHT_ROOM = 2.0**-14  # An owner adds this to the norm of its weights before it announces it.
LOGIT_ROOM = 2.0**-18  # This is what a logit may be off by through rounding in the softmax.
SQUARES = 2.0**63 * (1 - 1e-9)  # A sum of squares has to stay below this; 1e-9 covers the rounding of the formulas.
# The largest norm of a whole direction, in units of the last place. It is fixed, so that costs do not depend on norms.
DIRECTION_CAP = 2.0**30


@dataclass(frozen=True)
class NormPasses:
    """The passes in which all entries v of one matrix are measured.

    Attributes:
        coarse: pairs (t, T), in the order of the passes. Each pass compares the sum of (v / 2^t)^2 with T.
        reach: the largest norm of a matrix that passes all coarse passes, in units of the last place.
        last: the t of the last pass, which measures the columns one by one.
    """

    coarse: tuple[tuple[int, int], ...]
    reach: float
    last: int


def norm_passes(entries: int, cap: float) -> NormPasses:
    """Return the passes for a matrix of `entries` numbers, such that every matrix of norm up to `cap` passes.

    The cap is in units of the last place.

    Raises InputError: there are so many entries, or the cap is so large, that the first pass could not decide.
    """
    root, shift = math.sqrt(entries), 1
    while entries * (3.0 * 2.0 ** (62 - shift) + 1) ** 2 >= SQUARES:
        shift += 1
    found: list[tuple[int, int]] = []
    while True:
        most = math.ceil((cap / 2.0**shift + root) ** 2 * (1 + 1e-12))
        if not found and math.sqrt(most) >= 2.0 ** (62 - shift) - 2:
            what = f"dp with {entries} numbers of norm up to {cap:g} units in one of the model owner's matrices"
            raise InputError("release", what, "a matrix whose norm can be checked: fewer features, or shorter weights")
        found.append((shift, most))
        reach = 2.0**shift * (math.sqrt(most) + root) * (1 + 1e-12)
        after = 0
        while (reach / 2.0**after + root) ** 2 >= SQUARES:
            after += 1
        if after == 0 or after >= shift:
            return NormPasses(tuple(found), reach, after)
        shift = after


def weights_within(weights: PrivateTensor, limit: float, allowance: float) -> torch.Tensor:
    """Return shares of numbers, of which none is negative if and only if ||w_c - mean of w|| <= limit for every c.

    The check computes C w_c - sum of w, which is exact in the ring, and compares the norm of each column with C times
    the limit. A single column is measured as it is. The shares are the mask and the masked matrix that every product
    with w uses, so that exactly this matrix is checked.

    Args:
        weights: w (d, C), a matrix of the model owner.
        limit: the largest norm that may pass, as a real number.
        allowance: how far below the limit a norm has to be in order to pass for certain, where entries have to be
            truncated.

    Raises InputError: truncation would need a larger allowance.
    """
    engine, (rows, classes) = weights.context.engine, weights.shape
    masked = engine.in_sums(weights.masked())
    share = masked.mask.values if engine.me == weights.owner else masked.difference.values
    centred = share * classes - share.sum(1, keepdim=True) if classes > 1 else share
    unit = classes * 2.0**weights.bits
    whole = Fraction(limit) * classes * 2**weights.bits
    # The cap is the power of two next above the norm of all columns, so that costs follow from public facts.
    plan = norm_passes(rows * classes, 2.0 ** math.ceil(math.log2(math.sqrt(classes) * float(whole))))
    cut = math.sqrt(rows) if plan.last else 0.0
    if 2 * 2.0**plan.last * cut > allowance * unit:
        norm = f"up to {limit:g} for {classes} classes"
        raise InputError("the norm of the model's weights", norm, "one that can be checked on shares")
    passed, squares = _measure(engine, centred, plan)
    most = math.floor((whole / 2**plan.last - Fraction(cut)) ** 2)
    return torch.cat([passed, _below(engine, squares.sum(0), most)])


def direction_within(direction: PrivateTensor, spread: float) -> torch.Tensor:
    """Return shares of numbers, of which none is negative if and only if v is short enough.

    v is short enough if ||v_c|| and ||v_c - v_e|| are at most `spread` for all classes c and e. The comparison is
    exact, since the numbers of the last pass are not truncated.

    Args:
        direction: v (d, C), a matrix of the model owner, as it enters a product of shares with 16 fractional bits.
        spread: the announced bound on the columns and on their distances.

    Raises InputError: the spread is not above 0, or it is too large for the ring.
    """
    shared: Secret = direction.secret()
    engine, (rows, classes) = shared.context.engine, shared.shape
    whole = Fraction(spread) * 2**shared.bits
    plan = norm_passes(rows * classes, DIRECTION_CAP)
    largest = DIRECTION_CAP / math.sqrt(classes)
    if not 0 < whole <= largest or plan.last:
        allowed = f"at most {largest / 2.0**shared.bits:g}, which shares can be checked for: a larger model.l2"
        raise InputError("the spread of the influence direction", f"{spread:g}", f"above 0 and {allowed}")
    passed, squares = _measure(engine, shared.share, plan)
    columns, most = squares.sum(0), math.floor(whole**2)
    if classes == 1:
        return torch.cat([passed, _below(engine, columns, most)])
    first, second = torch.tensor(list(combinations(range(classes), 2))).t()
    # ||v - w||^2 = ||v||^2 + ||w||^2 - 2 v w. One product of all columns with all columns gives the last terms.
    products = shared_product(engine, shared.share.t(), shared.share).reshape(-1)
    apart = columns[first] + columns[second] - 2 * products[first * classes + second]
    return torch.cat([passed, _below(engine, columns, most), _below(engine, apart, most)])


def all_hold(engine: Engine, parts: list[torch.Tensor]) -> torch.Tensor:
    """Return shares (1,) of 1 if no number of any of `parts` is negative, else of 0.

    `parts` are results of `weights_within` and `direction_within`.
    """
    return none_negative(engine, torch.cat(parts))


def _measure(engine: Engine, share: torch.Tensor, plan: NormPasses) -> tuple[torch.Tensor, torch.Tensor]:
    """Return shares of T - sum of squares for each coarse pass, and of the last pass's squared entries; two rounds."""
    shifts = [shift for shift, _ in plan.coarse] + [plan.last]
    squares = engine.square(torch.stack([engine.truncate(share, shift) for shift in shifts]))
    coarse = [_below(engine, one.sum().reshape(1), most) for one, (_, most) in zip(squares, plan.coarse, strict=False)]
    return torch.cat(coarse), squares[len(plan.coarse)]


def _below(engine: Engine, numbers: torch.Tensor, most: int) -> torch.Tensor:
    """Return shares of most - numbers, which are negative where a number exceeds `most`."""
    return engine.public_share(torch.full_like(numbers, most)) - numbers
