"""Shared numbers that are opened once under a mask, so that the owners later multiply them without a message.

    delta = x + mask mod 2^bits                                                          (opened by `open_all`)
    x y = delta_x delta_y - delta_x mask_y - delta_y mask_x + mask_x mask_y              (computed by `product`)
    x c / 2^16 = delta c / 2^16 - mask c / 2^16, for a public integer c                  (computed by `scaled`)

The two owners hold additive shares in a ring, the integers mod 2^64 or fewer bits; the dealer is the third party and
draws the masks. In go an engine (one owner's end) with the values to open; out come `MaskedValue`s, and shares of their
products.

The owners send each other their shares of x + mask: ceil(bits / 8) bytes an element, in one message each way for any
number of values, which is one round. The mask is uniform and only the dealer knows it, so that delta reveals nothing to
either owner. The dealer sends the model owner shares of the products of masks, and of the carries, which
arise where x + mask overflows its ring. Each goes in the narrowest ring that suffices. An opening may also divide by
2^drop: the low `drop` bits are then cut before anything is sent. For v = 2^drop (q + f) with a whole q and f in [0, 1),
and a share whose low bits are uniform, the result is q + 1 with probability f, and q otherwise.

A cut share is no affine function of what the dealer has dealt, so that nobody can show that it was cut rightly. Where
the engine is `affine`, the owners send whole shares under a mask of drop + bits bits, and cut the public sum. The
dealer then shares the mask's upper `bits` bits, which is one more result. The cut is right on average whatever the
shares are. `private_product` does the same for the product of a private and a shared matrix.

No step gives a badly wrong result with some small probability. A value within its stated range is opened with an error
of at most one unit in its last place, and a product of opened values is exact. The range itself is not checked, because
the value is secret: whoever calls `open_all` has to derive `bits` and `low` from public bounds, and both owners have to
make the same calls in the same order. How a value returns to a wider ring is explained in docs/protocols/engine.md. The
idea is that of Patra et al. ("ABY2.0", USENIX Security 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.gate_dealer import FACTOR_BITS, logical_shift
from mpc_appraisal.mpc.protocols.masked_matrices import Masked
from mpc_appraisal.mpc.ring import elementwise
from mpc_appraisal.mpc.ring.matrix import ring_product
from mpc_appraisal.mpc.ring.packing import width
from mpc_appraisal.mpc.ring.shape_tensor import broadcast


@dataclass
class MaskedOpening:
    """A request to open a value v as v / 2^drop under a mask.

    Attributes:
        share: this owner's share of v, in a ring of at least drop + bits bits.
        drop: how many low bits are cut. The cut gives one of the two integers beside v / 2^drop, and v / 2^drop itself
            where that is whole. It is right on average if the low bits of the shares are random (see `blinded`).
        bits: the width of the ring in which v / 2^drop is opened. v / 2^drop + low has to lie in [0, 2^(bits - 1)),
            unless bits equals `ring`, where any value is allowed.
        ring: the width of the ring of the products that the value enters later, at least `bits`.
        low: the largest amount by which v / 2^drop may lie below zero. It is added before the opening and subtracted
            after it.
    """

    share: torch.Tensor
    drop: int
    bits: int
    ring: int
    low: int = 8


class MaskedValue:
    """A value x that has been opened as delta = x + mask, as one owner has it.

    Attributes:
        key: the number by which the dealer knows the mask.
        bits: the width of the ring in which x was opened.
        ring: the width of the ring of the products that x may enter.
        delta: the opened x + mask, int64, of x's shape; it is the same at both owners.
        mask: this owner's share of the mask mod 2^ring, corrected where x + mask has wrapped.
        wrapped: 1 where the top bit of x + low + mask mod 2^bits is 0, and 0 elsewhere. An element with a 1 has
            overflowed its ring exactly if the mask's top bit is 1, which only the dealer knows.
    """

    def __init__(self, key: int, bits: int, ring: int, delta, mask, wrapped):
        self.key, self.bits, self.ring, self.delta, self.mask, self.wrapped = key, bits, ring, delta, mask, wrapped

    def share(self, engine: Engine) -> torch.Tensor:
        """Return this owner's additive share of the value mod 2^ring, which takes no message."""
        return engine.public_share(self.delta) - self.mask


def open_all(engine: Engine, *wanted: MaskedOpening) -> list[MaskedValue]:
    """Open all `wanted` values under masks of the dealer, in one message each way, which is one round."""
    masks, own, values = [], [], []
    for w in wanted:
        key, whole = engine.new_key(), w.drop if engine.affine else 0
        engine.ask_dealer("open", key, list(w.share.shape), w.bits, w.ring, *([whole] if whole else []))
        opened = whole + w.bits
        mask = engine.streams["triple"].ring(w.share.shape, width(opened), opened if engine.affine else None)
        # The dealer's shares are taken before the next request is made, which `asked_dealer` needs.
        rings = ([w.ring, w.ring - w.bits] if whole else [w.ring - w.bits] * 2)[: 2 if w.ring > w.bits else whole > 0]
        masks.append((key, whole, mask, [engine.dealer_share(w.share.shape, ring) for ring in rings]))
        # One owner rounds its share down and the other one rounds up, so that neither direction is more likely.
        drop = w.drop - whole
        up, more = (0, w.low << whole) if engine.me == 0 else ((1 << drop) - 1, 0)
        share = elementwise.masked_share(w.share, up, drop, more, mask)
        # A mask of `opened` bits covers no higher bit of the last byte that is sent.
        own.append(share & ((1 << opened) - 1) if engine.affine and opened % 8 else share)
    pairs = engine.swap(own, [whole + w.bits for w, (_, whole, *_) in zip(wanted, masks, strict=True)])
    for w, (key, whole, mask, dealt), (mine, theirs) in zip(wanted, masks, pairs, strict=True):
        more = w.ring - w.bits
        delta, wrapped = elementwise.opened(mine, theirs, whole + w.bits, 0 if whole else w.low)
        if whole:
            delta, mask = logical_shift(delta, whole) - w.low, dealt[0]
            mask = mask - (wrapped * dealt[1] << w.bits) if more else mask
        elif more:
            carry, top = dealt
            mask = elementwise.widened(mask, w.bits, carry, wrapped, top)
        elif w.bits < 64:
            mask = mask & ((1 << w.bits) - 1)
        values.append(MaskedValue(key, w.bits, w.ring, delta, mask, wrapped))
    return values


def product(engine: Engine, a: MaskedValue, b: MaskedValue, ring: int = 64) -> torch.Tensor:
    """Return a share of a * b, broadcast, modulo the smallest of 2^ring, 2^a.ring and 2^b.ring.

    The owners exchange no message. The dealer sends the model owner one to four results, at most ceil(ring / 8) bytes
    an element each.
    """
    ring = min(a.ring, b.ring, ring)
    engine.ask_dealer("cross", a.key, b.key, ring)
    shape = broadcast(a.delta.shape, b.delta.shape)
    shared = engine.dealer_share(shape, ring)
    if a is b:
        out = elementwise.squared(shared, a.delta, a.mask, engine.me == 0)
        if ring > a.bits:
            out = elementwise.add_where(out, a.wrapped, engine.dealer_share(shape, ring - a.bits), a.bits)
        return out
    return _completed(engine, shared, a, b, ring)


def row_products(engine: Engine, a: MaskedValue, b: MaskedValue, ring: int = 64) -> torch.Tensor:
    """Return a share (n, 1) of the sums over each row of a * b, both (n, C), modulo the same as `product`.

    The owners exchange no message. Of the product of the two masks the dealer sends one number a row; what corrects it
    where an opened value has wrapped takes as much as in `product`.
    """
    if a is b:
        raise ValueError("a, b: got one opened value twice; expected two, since `product` squares one")
    ring = min(a.ring, b.ring, ring)
    engine.ask_dealer("cross", a.key, b.key, ring, 1)
    shared = engine.dealer_share((a.delta.shape[0], 1), ring)
    return _completed(engine, torch.zeros_like(a.delta), a, b, ring).sum(1, keepdim=True) + shared


def _completed(engine: Engine, shared: torch.Tensor, a: MaskedValue, b: MaskedValue, ring: int) -> torch.Tensor:
    """Return a share of a * b mod 2^ring from a share of the product of the two masks, without what the masks wrap."""
    shape = broadcast(a.delta.shape, b.delta.shape)
    out = elementwise.crossed(shared, (a.delta, a.mask), (b.delta, b.mask), engine.me == 0)
    for x in (a, b):
        if ring > x.bits:
            out = elementwise.add_where(out, x.wrapped, engine.dealer_share(shape, ring - x.bits), x.bits)
    if ring > a.bits + b.bits:
        more = engine.dealer_share(shape, ring - a.bits - b.bits)
        out = elementwise.add_where(out, a.wrapped * b.wrapped, more, a.bits + b.bits)
    return out


def matrix_product(
    engine: Engine, a: MaskedValue, b: MaskedValue, transposed: tuple[bool, bool] = (False, False)
) -> torch.Tensor:
    """Return a share of the matrix product of a and b, both opened in 64 bits, of which either may be transposed.

    The owners exchange no message, and the dealer sends the model owner one result.
    """
    engine.ask_dealer("matmul", a.key, b.key, int(transposed[0]), int(transposed[1]))
    (x, own_x), (y, own_y) = (
        (v.delta.t(), v.mask.t()) if turned else (v.delta, v.mask) for v, turned in zip((a, b), transposed, strict=True)
    )
    left = x - own_x if engine.me == 0 else -own_x  # x y - x m_y - m_x y, of which x y is this owner's at rank 0
    out = ring_product(left, y) - ring_product(x, own_y)
    return out + engine.dealer_share(out.shape)


def scaled(engine: Engine, x: MaskedValue, factor: int, low: int) -> torch.Tensor:
    """Return a share mod 2^64 of x * factor / 2^FACTOR_BITS, within one unit; the owners exchange no message.

    Where `low` is no multiple of 2^FACTOR_BITS, the result is within two units.

    The owners multiply x + low + mask, and the dealer the mask, each by the factor, and each cuts its own product. The
    dealer sends the model owner two results. x was opened with `low` in at most 64 - FACTOR_BITS bits.

    Args:
        engine: this owner's end.
        x: the opened value.
        factor: a public integer from 0 to 2^FACTOR_BITS.
        low: what was added to x before it was opened.
    """
    engine.ask_dealer("scale", x.key, factor)
    of_mask, of_wrap = engine.dealer_share(x.delta.shape), engine.dealer_share(x.delta.shape)
    public = logical_shift((x.delta + low) * factor, FACTOR_BITS) - ((low * factor) >> FACTOR_BITS)
    return engine.public_share(public) - of_mask + x.wrapped * of_wrap


def private_product(engine: Engine, left: Masked, right: torch.Tensor, transposed: bool = False) -> torch.Tensor:
    """Return shares of left @ right, or of left' @ right if `transposed`; `left` is private, and `right` is shared.

    This is `Engine.product_with_shared`, unless the engine is `affine`. There the owner of `left` would multiply its
    matrix by its own share, and what it sends later would be no affine function. So `right` is opened under a mask m,
    in one message each way and one round, in the ring of `left`:

        X R = X delta - (X - A) m - A m,      delta = R + m

    X is `left` and A its mask. The owner of X computes the first term. Both owners know X - A, and each multiplies it
    by its share of m. The dealer shares the third term.
    """
    if not engine.affine:
        return engine.product_with_shared(left, right, transposed)
    (opened,) = open_all(engine, MaskedOpening(right, 0, left.bits, left.bits, 0))
    engine.ask_dealer("product", left.key, opened.key, int(transposed))
    shape = (left.shape[1] if transposed else left.shape[0], right.shape[1])
    if engine.draws is not None:
        engine.draws.product(left.key, opened.key, transposed, *shape)
    # Numbers of 32 bits are multiplied mod 2^32.
    delta, mask = (each.to(torch.int32) if left.bits == 32 else each for each in (opened.delta, opened.mask))
    out = -left.public.product(mask, transposed) - engine.dealer_share(shape, left.bits)
    evict(engine, opened)
    return out + left.clear.product(delta, transposed) if engine.me == left.owner else out


def shared_product(engine: Engine, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a share of the matrix product of a and b, both shared mod 2^64; one round. The fractional bits add up."""
    x, y = open_all(engine, *(MaskedOpening(share, 0, 64, 64, 0) for share in (a, b)))
    out = matrix_product(engine, x, y)
    evict(engine, x, y)
    return out


def evict(engine: Engine, *values: MaskedValue) -> None:
    """Ask the dealer to drop the masks of values that no later product needs. This sends the other owner nothing."""
    engine.ask_dealer("forget", [v.key for v in values])
