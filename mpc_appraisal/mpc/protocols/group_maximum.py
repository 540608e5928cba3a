"""The largest of a few numbers from the comparisons of every pair, as sums of public factors and the dealer's numbers.

    largest = c_last + sum over w of [w wins] (c_w - c_last),        [w wins] = product over o of [w beats o]
    [w beats o] = e + (1 - 2 e) s,        e is the bit [w beats o] under the random bit s, and is public

The elements of a row stand in groups; in each group every pair i < j is compared, and i beats j where c_i >= c_j, so
that exactly one element wins. A product of k bits under random bits is a sum of 2^k terms: public factors times
products of the s, with and without a mask of c, which the dealer shares. So a group takes one opening of its bits.

`grouping` divides C elements into levels of groups, by a rule that is public: the fewest levels, which count for three
rounds each, then the fewest bytes. Here is the arithmetic alone, of the owners (`winners`) and of the dealer
(`win_products`), which walk through groups, winners and subsets in one order and have to stay in step; `maximum` says
what is sent. The largest size of a group and the rule may change at all parties together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch

from mpc_appraisal.mpc.protocols.borrow_chain import MANY, borrow_plan
from mpc_appraisal.mpc.ring.packing import width

LARGEST_GROUP = 4  # In a group of so many elements an element has to beat three others, a product of three bits.

Sizes = tuple[int, ...]


def pairs_of(sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the rows i and the rows j of all pairs i < j within the groups of these sizes."""
    left, right, start = [], [], 0
    for size in sizes:
        for i in range(start, start + size):
            for j in range(i + 1, start + size):
                left.append(i)
                right.append(j)
        start += size
    return left, right


def dealt_rows(sizes: Sequence[int]) -> int:
    """Return how many numbers the dealer shares for each row of groups of these sizes."""
    return sum(2 * (size - 1) * (2 ** (size - 1) - 1) for size in sizes)


def _contests(sizes: Sequence[int]) -> Iterator[tuple[int, int, list[tuple[int, bool]]]]:
    """Yield for each possible winner, but the last of its group: its row, the last one's, and what it has to beat.

    What it has to beat is a list of (pair, whether the winner is the pair's first element).
    """
    start, before = 0, 0
    for size in sizes:
        place = {}
        for i in range(size):
            for j in range(i + 1, size):
                place[i, j] = before + len(place)
        for w in range(size - 1):
            beaten = [(place[min(w, o), max(w, o)], w < o) for o in range(size) if o != w]
            yield start + w, start + size - 1, beaten
        start, before = start + size, before + len(place)


def win_products(sizes: Sequence[int], bits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Return what the dealer shares, (dealt_rows, n): products of random bits, without and with a difference of masks.

    Args:
        sizes: the sizes of the groups.
        bits: the random bits of all pairs, int64 (pairs, n).
        masks: the masks of the elements, int64 (elements, n).
    """
    found = []
    for winner, last, beaten in _contests(sizes):
        apart = masks[winner] - masks[last]
        for subset in range(1, 2 ** len(beaten)):
            product = None
            for k, (pair, _) in enumerate(beaten):
                if subset >> k & 1:
                    product = bits[pair] if product is None else product * bits[pair]
            found += [product, product * apart]
    return torch.stack(found)


def winners(
    sizes: Sequence[int], opened: torch.Tensor, delta: torch.Tensor, own: torch.Tensor, dealt: torch.Tensor
) -> torch.Tensor:
    """Return one owner's shares (groups, n) of the largest element of every group.

    Args:
        sizes: the sizes of the groups.
        opened: the opened bits [c_i < c_j] of all pairs, int64 (pairs, n).
        delta: the opened elements, (elements, n).
        own: this owner's shares of the elements, (elements, n).
        dealt: this owner's shares of what `win_products` returns.
    """
    ends = list(itertools.accumulate(sizes))
    found, numbers = [own[end - 1] for end in ends], iter(dealt)
    for winner, last, beaten in _contests(sizes):
        # The bit of a pair is 1 where its second element wins.
        e = [1 - opened[pair] if first else opened[pair] for pair, first in beaten]
        apart = delta[winner] - delta[last]
        total = _factor(e, 0) * (own[winner] - own[last])
        for subset in range(1, 2 ** len(beaten)):
            plain, masked = next(numbers), next(numbers)
            total = total + _factor(e, subset) * (plain * apart - masked)
        group = ends.index(last + 1)
        found[group] = found[group] + total
    return torch.stack(found)


def _factor(e: Sequence[torch.Tensor], subset: int) -> torch.Tensor:
    """Return the public factor of the product of the random bits of a subset."""
    found = None
    for k, bit in enumerate(e):
        term = 1 - 2 * bit if subset >> k & 1 else bit
        found = term if found is None else found * term
    return found


@lru_cache(maxsize=1024)
def grouping(elements: int, bits: int) -> tuple[Sizes, ...]:
    """Return the levels of groups that leave one of so many elements of `bits` bits each; () for one element.

    Each level lists the sizes of its groups, in the order of the elements; the winners are the next level's elements.
    """
    levels, reach = 0, 1
    while reach < elements:
        levels, reach = levels + 1, reach * LARGEST_GROUP
    return _cheapest(elements, levels, bits)[1]


@lru_cache(maxsize=4096)
def _cheapest(elements: int, levels: int, bits: int) -> tuple[float, tuple[Sizes, ...]]:
    """Return the bytes and the levels of the cheapest way that has at most so many levels."""
    if elements == 1:
        return 0.0, ()
    least, found = float("inf"), ()
    most = min(elements - 1, LARGEST_GROUP ** (levels - 1))
    for groups in range(-(-elements // LARGEST_GROUP), most + 1):
        small, larger = divmod(elements, groups)
        sizes = (small,) * (groups - larger) + (small + 1,) * larger
        rest, others = _cheapest(groups, levels - 1, bits)
        cost = level_bytes(sizes, bits) + rest
        if cost < least:
            least, found = cost, (sizes, *others)
    return least, found


def level_bytes(sizes: Sequence[int], bits: int) -> float:
    """Return the bytes that all parties send for each row at one level, with its elements opened, for many rows."""
    pairs, plan = len(pairs_of(sizes)[0]), borrow_plan(bits, MANY)
    planes = plan.dealt + 2 * sum(level.opened for level in plan.levels) + 2
    return pairs * planes / 8 + (dealt_rows(sizes) + 2 * sum(sizes)) * width(bits)
