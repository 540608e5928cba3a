"""Maxima of shared numbers in groups: every pair of a group is compared by the digits of a mask, all pairs at once.

    c_i - c_j = (delta_i - delta_j) - (m_i - m_j)        for opened c_i = delta_i - m_i, all mod 2^bits

So elements that have been opened under masks (see `masked`) are compared without a further opening: the difference of
two opened elements has the difference of two masks as its mask, of which the dealer shares the digits (`comparison`).
The bits of all pairs are then opened under random bits, and the dealer shares what the winner's value needs of these
(`group_maximum`, which also chooses the groups). In go an engine (one owner's end) and int64 shares; out come shares.

| step, for each element or pair | each owner sends | the dealer sends | rounds |
|---|---|---|---|
| opening of an element of b bits | ceil(b / 8) bytes | nothing | 1 |
| comparison of a pair of 24 bits | 10 bits | 166 bits | 1 |
| bit of a pair, for the winner's value | 1 bit | nothing | 1 |
| a group of 2, 3 or 4 elements | nothing | 2, 12 or 42 numbers of b bits | 0 |

A level of groups takes three rounds, or four where b is above 25 and there are many pairs. Ten elements take two levels
of groups, 2, 2, 3 and 3 elements and then their 4 winners. What an owner receives is masked by random numbers or bits
that it does not know, and the dealer receives nothing. The result is exact wherever all differences of a row, as
signed integers, have at most `bits` bits. Both owners make the same calls in the same order.
"""

from __future__ import annotations

import torch

from mpc_appraisal.mpc.protocols.comparison import SharedBits, below_zero
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.group_maximum import Sizes, dealt_rows, grouping, pairs_of, winners
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, evict, open_all
from mpc_appraisal.mpc.ring import bit_planes
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

RING = 64


def difference(
    engine: Engine, left: MaskedValue, right: MaskedValue, rows: tuple[list[int], list[int]], more: int = 0
) -> MaskedValue:
    """Return left[rows[0]] - right[rows[1]] + more, (pairs, n), of opened (a, n) and (b, n); no message.

    The result is opened under the difference of the masks, for a comparison alone: it enters no product.

    Args:
        engine: this owner's end.
        left, right: opened values of the same number of bits.
        rows: the rows of `left` and the rows of `right`, one of each for every pair.
        more: a public integer that is added.
    """
    key = engine.new_key()
    engine.ask_dealer("difference", key, left.key, right.key, *rows)
    if engine.dry:
        delta = mask = shape_tensor((len(rows[0]), *left.delta.shape[1:]))
    else:
        delta = left.delta[rows[0]] - right.delta[rows[1]] + more
        mask = left.mask[rows[0]] - right.mask[rows[1]]
    return MaskedValue(key, left.bits, left.bits, delta, mask, None)


def opened_bits(engine: Engine, bits: SharedBits) -> torch.Tensor:
    """Return the bits as int64 of their shape, opened under random bits, for a request to the dealer that draws these.

    One round. The request has to be made before this call.
    """
    mask = engine.streams["triple"].octets(bits.plane.shape)
    beta = engine.open_octets(bits.plane if engine.dry else bits.plane ^ mask)
    return shape_tensor(bits.shape) if engine.dry else bit_planes.bits_of(beta.numpy(), bits.shape)


def group_winners(engine: Engine, x: MaskedValue, sizes: Sizes) -> torch.Tensor:
    """Return shares (groups, n) mod 2^x.bits of the largest element of every group of opened x (elements, n).

    Args:
        engine: this owner's end.
        x: the elements, opened for products mod 2^x.bits. Their mask is kept.
        sizes: the sizes of the groups, whose elements lie one after the other.
    """
    apart = difference(engine, x, x, pairs_of(sizes))
    bits = below_zero(engine, apart)
    evict(engine, apart)
    engine.ask_dealer("wins", x.key, list(sizes))
    opened = opened_bits(engine, bits)
    dealt = engine.dealer_share((dealt_rows(sizes), x.delta.shape[1]), x.bits)
    if engine.dry:
        return shape_tensor((len(sizes), x.delta.shape[1]))
    return winners(sizes, opened, x.delta, x.share(engine), dealt)


def maximum_of(engine: Engine, x: MaskedValue) -> torch.Tensor:
    """Return shares (1, n) mod 2^x.bits of the largest of the opened x (elements, n), whose mask is kept."""
    share, first = None, x
    for sizes in grouping(x.delta.shape[0], x.bits):
        if share is not None:
            (x,) = open_all(engine, MaskedOpening(share, 0, first.bits, first.bits, 0))
        share = group_winners(engine, x, sizes)
        if x is not first:
            evict(engine, x)
    return x.share(engine) if share is None else share


def maximum(engine: Engine, share: torch.Tensor, bits: int = RING) -> torch.Tensor:
    """Return shares (n, 1) mod 2^bits of the largest element of every row of `share` (n, C).

    Args:
        engine: this owner's end.
        share: shares of any integers whose differences within a row are signed integers of `bits` bits.
        bits: how many bits these differences have.
    """
    (x,) = open_all(engine, MaskedOpening(share.t().contiguous(), 0, bits, bits, 0))
    found = maximum_of(engine, x)
    evict(engine, x)
    return found.t()
