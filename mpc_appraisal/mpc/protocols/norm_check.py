"""Whether a matrix that the model owner has shared is as short as it told: checked on shares, whatever the matrix is.

Noise is scaled to norms that the model owner tells. An owner that tells a small norm and shares a long matrix would see
through the noise, so norms are compared with what was told before anything is opened, and the one bit "all are within"
is what `release.dp.release` opens. The bit is a function of the model owner's own matrices and of public numbers. No
row of the candidate enters it, so it tells nothing of the candidate and needs no noise.

**A matrix may hold any ring elements**, so a squared norm modulo 2^64 may be small because it has wrapped. Hence looks
of rising sharpness at all n entries v, each of which makes the next one sure:

1. u = v / 2^t, cut, with the smallest t for which n squares of anything fit the ring. `Engine.truncate` gives floor or
   floor + 1 for |v| < 2^62. For any other v it may be wrong, but |u| is still between 2^(62 - t) - 1 and
   3 2^(62 - t) + 1. So the sum of u^2 cannot wrap, and where it is at most T = (cap / 2^t + sqrt n)^2, every |v| is
   below 2^62 and ||v|| <= 2^t (sqrt T + sqrt n). A matrix within cap always passes: ||u|| <= ||v|| / 2^t + sqrt n.
2. The same with the smallest t for which the squares of what has passed fit; and so on, until t falls no further.
3. Then the columns one by one, which are the norms that were told. At t = 0 nothing is cut: integers are compared.

The comparison is CrypTen's circuit, exact for any ring element. Should a look wrap, then one before it has failed, and
all have to hold. So the bit is right for any matrix, with no probability of an error.

**What remains.** This finds an owner that shares another matrix than it told of and otherwise keeps to the protocol. It
does not find one that also alters messages: by one more on its share of the bit it passes. Nothing here stops that, as
nothing stops it from shifting a result. A data owner that alters messages may learn of the model whether a matrix of
its making, the model's plus an error that it chose, is as short, one bit a session.

Rows of the candidate are not checked against the norm that the data owner clips them to: the guarantee is for those
rows, and a data owner that does not clip loses it for itself alone. It would cost more than the appraisal, for every
look is at all entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.logit_bound import none_negative
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor, Secret

WEIGHT_ROOM = 2.0**-14  # what an owner adds to the norm of its weights before it tells it
LOGIT_ROOM = 2.0**-18  # of a logit, for its rounding in the softmax
SQUARES = 2.0**63 * (1 - 1e-9)  # what a sum of squares has to stay below, with room for rounding of these formulas
DIRECTION_CAP = 2.0**30  # of a whole direction, in units of the last place; fixed, so that costs do not depend on it


@dataclass(frozen=True)
class Looks:
    """At all entries of a matrix. coarse: pairs (t, T): sum of (v / 2^t)^2 is compared with T, in this order.

    reach: no matrix that passes them is longer. last: t of the look at the columns.
    """

    coarse: tuple[tuple[int, int], ...]
    reach: float
    last: int


def looks(entries: int, cap: float) -> Looks:
    """The looks that pass any matrix of `entries` numbers and of norm up to `cap`, in units of the last place.

    Raises InputError: there are so many entries, or the cap is so large, that the first look cannot tell.
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
            return Looks(tuple(found), reach, after)
        shift = after


def weights_within(weights: PrivateTensor, limit: float, allowance: float) -> torch.Tensor:
    """Numbers of which none is negative if and only if the columns less their mean are within `limit`, on shares.

    With a_c = C w_c - sum of w, exact on ring elements and all that a softmax sees of w_c, in every class
    ||a_c|| <= C `limit`. Where that takes cutting, a matrix may fail that is longer than `limit` less `allowance`.

    The shares are the mask and the masked matrix, which the data owner holds: they are what products are made of.

    Args:
        weights: (d, C), of the model owner.

    Raises InputError: more than `allowance` would have to be cut.
    """
    engine, (rows, classes) = weights.context.engine, weights.shape
    held = weights.masked()
    share = held.mask.values if engine.me == weights.owner else held.difference.values
    centred = share * classes - share.sum(1, keepdim=True)
    unit = classes * 2.0**weights.bits
    whole = Fraction(limit) * classes * 2**weights.bits
    # Costs follow from public facts: the cap is a power of two, at least the norm of all columns together.
    plan = looks(rows * classes, 2.0 ** math.ceil(math.log2(math.sqrt(classes) * float(whole))))
    cut = math.sqrt(rows) if plan.last else 0.0
    if 2 * 2.0**plan.last * cut > allowance * unit:
        norm = f"up to {limit:g} for {classes} classes"
        raise InputError("the norm of the model's weights", norm, "one that shares can be held to")
    seen, squares = _look(engine, centred, plan)
    most = math.floor((whole / 2**plan.last - Fraction(cut)) ** 2)
    return torch.cat([seen, _below(engine, squares.sum(0), most)])


def direction_within(direction: PrivateTensor, spread: float) -> torch.Tensor:
    """Numbers of which none is negative if and only if no column is longer than `spread`, and no two columns further
    apart, on shares; exact.

    Args:
        direction: (d, C), of the model owner; as it enters a product of shares, with 16 fractional bits.

    Raises InputError: a spread that the ring cannot be held to.
    """
    shared: Secret = direction.secret()
    engine, (rows, classes) = shared.context.engine, shared.shape
    whole = Fraction(spread) * 2**shared.bits
    plan = looks(rows * classes, DIRECTION_CAP)
    largest = DIRECTION_CAP / math.sqrt(classes)
    if not 0 < whole <= largest or plan.last:
        held = f"at most {largest / 2.0**shared.bits:g}, to which shares can be held: a larger model.l2"
        raise InputError("the spread of the influence direction", f"{spread:g}", f"above 0 and {held}")
    seen, squares = _look(engine, shared.share, plan)
    columns, most = squares.sum(0), math.floor(whole**2)
    first, second = torch.tensor(list(combinations(range(classes), 2))).t()
    # ||v - w||^2 = ||v||^2 + ||w||^2 - 2 v w, of which the last comes from one product of all columns with all.
    from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

    products = bridge.bilinear(engine, "matmul", shared.share.t(), shared.share).reshape(-1)
    apart = columns[first] + columns[second] - 2 * products[first * classes + second]
    return torch.cat([seen, _below(engine, columns, most), _below(engine, apart, most)])


def all_hold(engine: Engine, parts: list[torch.Tensor]) -> torch.Tensor:
    """Shares (1,) of 1 if none of all those numbers is negative, else of 0."""
    return none_negative(engine, torch.cat(parts))


def _look(engine: Engine, share: torch.Tensor, plan: Looks) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers that are not negative where the coarse looks pass, and the squares of the last look's entries."""
    shifts = [shift for shift, _ in plan.coarse] + [plan.last]
    squares = engine.square(torch.stack([engine.truncate(share, shift) for shift in shifts]))
    coarse = [_below(engine, one.sum().reshape(1), most) for one, (_, most) in zip(squares, plan.coarse, strict=False)]
    return torch.cat(coarse), squares[len(plan.coarse)]


def _below(engine: Engine, numbers: torch.Tensor, most: int) -> torch.Tensor:
    """most - numbers."""
    return engine._first(torch.full_like(numbers, most)) - numbers
