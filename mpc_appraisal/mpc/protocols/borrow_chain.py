"""The borrow of a subtraction, from the digits of both numbers, as bits that are shared by exclusive or.

    borrow = l_(g-1) + e_(g-1) (l_(g-2) + e_(g-2) (... (l_1 + e_1 l_0)))        over GF(2), the field of two elements
    equal  = e_(g-1) ... e_1 e_0

l_k is 1 where digit k of the one number is less than that of the other, and e_k where the two digits are equal; l_k and
e_k exclude each other, so that "+" is an exclusive or. In go shares of l and e of every digit; out comes a share of the
borrow, which is 1 where the one number is less than the other.

A chain of g digits is computed in one opening: the owners open the e_k and l_k under random bits, and a product of
masked bits is the exclusive or of products of opened bits with products of masks, of which the dealer shares the
latter (`mask_products`). This takes about 2^g products for g digits. `BorrowPlan` therefore divides many digits into
groups of one size, computes l and e of each group at once, and then those of all groups. A single digit needs no
opening.

The owner's half (`combined`) and the dealer's half (`mask_products`) walk through the subsets in one order, and have to
stay in step. The width of digits and the sizes of groups may change at all parties together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mpc_appraisal.mpc.ring import bit_planes

MANY = 1024  # From so many elements on, bytes count for more than a round.
NARROW, WIDE = 4, 8  # A digit has so many bits, for many elements and for few.
MOST_WIDE, LONGEST = 8, 6  # A digit of a number for thresholds has at most so many bits, and the number so many digits.
GROUP = 4  # So many narrow digits are combined in one opening.
ONCE = 6  # Up to so many narrow digits are combined in one opening if they are all that is left.


@dataclass(frozen=True)
class Level:
    """One opening, which combines groups of `size` digits into one digit each.

    Attributes:
        groups: the number of groups.
        size: the number of digits in each group, 2 or more.
        equal: whether the groups' e is computed too, which the last level does not need.
    """

    groups: int
    size: int
    equal: bool

    @property
    def factors(self) -> int:
        """Return how many e of a group are opened; the lowest digit's e is needed for the groups' e alone."""
        return self.size - 1 + self.equal

    @property
    def opened(self) -> int:
        """Return how many planes are opened. The highest l is not opened, since nothing is multiplied by it."""
        return self.groups * (self.factors + self.size - 1)

    @property
    def dealt(self) -> int:
        """Return how many planes of products of masks the dealer shares."""
        products = 2**self.factors - 1 - self.factors + sum(2**k - 1 for k in range(1, self.size))
        return self.groups * products


@dataclass(frozen=True)
class BorrowPlan:
    """How the borrow of two numbers of `bits` bits is computed, with the highest bit apart.

    Attributes:
        bits: the number of bits of each number, without the highest one.
        width: how many bits a digit has.
        levels: the openings, in their order.
    """

    bits: int
    width: int
    levels: tuple[Level, ...]

    @property
    def digits(self) -> int:
        """Return the number of digits."""
        return -(-self.bits // self.width)

    @property
    def indicators(self) -> int:
        """Return how many planes the indicators of all digits take, without that of the digit 0."""
        highest = self.bits - (self.digits - 1) * self.width
        return (self.digits - 1) * (2**self.width - 1) + 2**highest - 1

    @property
    def dealt(self) -> int:
        """Return how many planes the dealer shares: the indicators, the mask's highest bit, and the products."""
        return self.indicators + 1 + sum(level.dealt for level in self.levels)


def borrow_plan(bits: int, count: int) -> BorrowPlan:
    """Return the plan for `count` pairs of numbers of `bits` bits, the highest of which is not compared."""
    low = bits - 1
    width = NARROW if count >= MANY else WIDE
    left, levels, group = -(-low // width), [], GROUP if count >= MANY else -(-low // width)
    while left > 1:
        size = left if left <= ONCE and not levels else min(group, left)
        left = -(-left // size)
        levels.append(Level(left, size, left > 1))
    return BorrowPlan(low, width, tuple(levels))


@lru_cache(maxsize=64)
def threshold_plan(bits: int, thresholds: int) -> BorrowPlan:
    """Return the plan, of one opening, for comparing a number of `bits` bits with so many public thresholds.

    The indicators are dealt once for all thresholds, and the products of a chain for each of them, so that the width of
    a digit is the one that takes the fewest planes.

    Raises ArithmeticError: there are more than LONGEST digits of MOST_WIDE bits.
    """
    if not 1 < bits <= LONGEST * MOST_WIDE + 1:
        raise ArithmeticError(f"no thresholds for numbers of {bits} bits; expected 2 to {LONGEST * MOST_WIDE + 1}")
    found = []
    for width in range(2, MOST_WIDE + 1):
        digits = -(-(bits - 1) // width)
        plan = BorrowPlan(bits - 1, width, (Level(1, digits, False),) if digits > 1 else ())
        if digits <= LONGEST:
            opened, dealt = (sum(getattr(level, name) for level in plan.levels) for name in ("opened", "dealt"))
            found.append((plan.indicators + thresholds * (2 * opened + dealt), width, plan))
    return min(found)[-1]


def packed_indicators(plan: BorrowPlan, indicators: np.ndarray) -> np.ndarray:
    """Return the indicators (2^width, digits, n) as planes (plan.indicators, n), without those that follow."""
    lower, highest = indicators[1:, :-1], indicators[1:, -1]
    top = plan.indicators - (plan.digits - 1) * (2**plan.width - 1)
    return np.concatenate([lower.reshape(plan.indicators - top, indicators.shape[2]), highest[:top]])


def unpacked_indicators(plan: BorrowPlan, planes: np.ndarray, first: bool) -> np.ndarray:
    """Return a share of the indicators (2^width, digits, n) from a share of what `packed_indicators` returns.

    The indicator of 0 follows from the others, since exactly one is 1. `first` is true at one of the two owners.
    """
    full, n = 2**plan.width - 1, planes.shape[1]
    lower = (plan.digits - 1) * full
    highest = np.concatenate([planes[lower:], np.zeros((full + lower - len(planes), n), np.uint8)])
    digits = [planes[:lower].reshape(full, plan.digits - 1, n), highest.reshape(full, 1, n)]
    others = np.concatenate(digits, axis=1)
    zero = np.bitwise_xor.reduce(others, axis=0)
    return np.concatenate([(~zero if first else zero)[None], others])


def looked_up(plan: BorrowPlan, public: np.ndarray, planes: np.ndarray, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of every digit's "less" and "equal": of [public < shared] and [public = shared], (digits, n).

    Args:
        plan: the plan.
        public: the public digits (width, digits, n).
        planes: a share of what `packed_indicators` returns, (plan.indicators, m); see `bit_planes.look_up` for n / m.
        first: true at one of the two owners.
    """
    if not isinstance(planes, np.ndarray):  # a linear form, which has no numbers (see `integrity.plane_form`)
        return planes.looked_up(plan, public, first)
    return bit_planes.look_up(public, unpacked_indicators(plan, planes, first))


def grouped(level: Level, less: np.ndarray, equal: np.ndarray, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return l and e (digits, n) as groups (size, groups, n). Missing highest digits are equal: l = 0 and e = 1."""
    missing = level.groups * level.size - len(less)
    if missing:
        shape = (missing, less.shape[1])
        less = np.concatenate([less, np.zeros(shape, np.uint8)])
        equal = np.concatenate([equal, np.full(shape, 255 if first else 0, np.uint8)])
    shape = (level.groups, level.size, less.shape[1])
    return tuple(t.reshape(shape).transpose(1, 0, 2) for t in (less, equal))


def opened_planes(level: Level, less: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """Return what a level opens, of groups (size, groups, n): e from the highest digit down, then l from there down."""
    chosen = np.concatenate([equal[::-1][: level.factors], less[::-1][1:]])
    return chosen.reshape(level.opened, chosen.shape[2])


def _split(level: Level, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors e (factors, groups, n) and the l (size - 1, groups, n), from the highest digit down."""
    found = planes.reshape(level.opened // level.groups, level.groups, planes.shape[1])
    return found[: level.factors], found[level.factors :]


def _subset_products(factors: np.ndarray, one: int) -> np.ndarray:
    """Return the product of each subset of `factors` (m, ...) as (2^m, ...); bit k of an index says factor k."""
    found = np.full((1, *factors.shape[1:]), one, np.uint8)
    for factor in factors:
        found = np.concatenate([found, found & factor])
    return found


def _several(m: int) -> np.ndarray:
    """Return the indices of the subsets of m factors that have two or more of them."""
    return np.array([k for k in range(2**m) if k & (k - 1)], dtype=np.int64)


def _places(m: int) -> np.ndarray:
    """Return where each subset of m factors is in a list of the empty one, the single ones, and `_several`."""
    return np.argsort(np.concatenate([[0], [1 << k for k in range(m)], _several(m)]).astype(np.int64))


def mask_products(level: Level, masks: np.ndarray) -> np.ndarray:
    """Return the products of masks that the dealer shares, (level.dealt, n), for the masks (opened, n) of a level."""
    factors, less = _split(level, masks)
    subsets = _subset_products(factors, 255)
    parts = [subsets[_several(level.factors)]]
    for k, mask in enumerate(less, start=1):
        parts.append(subsets[1 : 2**k] & mask)
    return np.concatenate(parts).reshape(level.dealt, masks.shape[1])


def combined(
    level: Level, opened: np.ndarray, masks: np.ndarray, dealt: np.ndarray, highest: np.ndarray, first: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return one owner's shares (groups, n) of each group's l and, if the level computes it, of each group's e.

    Args:
        level: the level.
        opened: the opened planes (level.opened, n), which both owners have.
        masks: this owner's shares of their masks, of the same shape.
        dealt: this owner's shares of what `mask_products` returns.
        highest: this owner's share (groups, n) of the l of every group's highest digit.
        first: true at one of the two owners.
    """
    (x_equal, x_less), (own_equal, own_less) = _split(level, opened), _split(level, masks)
    m, n = level.factors, opened.shape[1]
    pieces = _pieces(level, dealt.reshape(level.dealt // level.groups, level.groups, n))
    one = np.full((1, level.groups, n), 255 if first else 0, np.uint8)
    of_masks = np.concatenate([one, own_equal, next(pieces)])[_places(m)]
    of_opened = _subset_products(x_equal, 255)
    less = highest
    for k in range(1, level.size):
        with_less = np.concatenate([own_less[k - 1][None], next(pieces)])
        terms = (of_masks[: 2**k] & x_less[k - 1]) ^ with_less
        less = less ^ np.bitwise_xor.reduce(of_opened[2**k - 1 :: -1] & terms, axis=0)
    equal = np.bitwise_xor.reduce(of_opened[::-1] & of_masks, axis=0) if level.equal else None
    return less, equal


def _pieces(level: Level, dealt: np.ndarray) -> Iterator[np.ndarray]:
    sizes = [2**level.factors - 1 - level.factors, *(2**k - 1 for k in range(1, level.size))]
    start = 0
    for size in sizes:
        yield dealt[start : start + size]
        start += size
