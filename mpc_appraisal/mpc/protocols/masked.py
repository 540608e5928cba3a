"""Values opened under masks that the dealer knows: one message an operation, exact, in rings no wider than needed.

x is opened once, as delta = x + mask mod 2^bits, and enters any number of products without another message: the dealer,
which knows both masks, shares the product of the masks, and

    x y = delta_x delta_y - delta_x mask_y - delta_y mask_x + mask_x mask_y.

(The idea is that of Patra et al., "ABY2.0", USENIX Security 2021.) To open is to truncate as well: of x + mask only
the bits above the place that is cut are sent. What is known is then x mod 2^bits, of a smaller ring. As x < 2^(bits-1),


    x = delta - mask + 2^bits * (the mask's top bit) * (1 - delta's top bit),

and of what is multiplied by 2^bits the dealer shares only the bits that the larger ring has left. Nothing can fail.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.ring.packing import pack, unpack, width
from mpc_appraisal.mpc.ring.shape_tensor import broadcast


@dataclass
class MaskedOpening:
    """What is to be opened.

    share: of v mod 2^ring. drop: the bits that are cut; what is opened is v / 2^drop, within one unit in the last
    place and right on average. bits: of what is opened, at most ring - drop; v / 2^drop + low is in [0, 2^(bits - 1)),
    unless bits is all that there is to the ring that it is used in. ring: of the products it will enter.
    """

    share: torch.Tensor
    drop: int
    bits: int
    ring: int
    low: int = 8


class MaskedValue:
    """One such value. delta: (any shape) int64. mask: this owner's share of the mask, mod 2^ring.

    wrapped: 1 where the mask's top bit matters to a ring of more bits.
    """

    def __init__(self, key: int, bits: int, ring: int, delta, mask, wrapped):
        self.key, self.bits, self.ring, self.delta, self.mask, self.wrapped = key, bits, ring, delta, mask, wrapped

    def share(self, engine: Engine) -> torch.Tensor:
        """An additive share, mod 2^ring."""
        return engine._first(self.delta) - self.mask


def open_all(engine: Engine, *wanted: MaskedOpening) -> list[MaskedValue]:
    """Open several values in one message each way."""
    masks, shown = [], []
    for w in wanted:
        engine._next += 1
        engine._ask("open", engine._next, list(w.share.shape), w.bits, w.ring)
        masks.append((engine._next, engine.streams["triple"].ring(w.share.shape, width(w.bits))))
        share = w.share >> w.drop if w.drop else w.share
        # Both owners' parts are rounded down: by one unit together, on average.
        share = share + engine._first(torch.full_like(share, w.low + (w.drop > 0)))
        shown.append(pack(share + masks[-1][1], width(w.bits)))
    mine = torch.cat(shown) if len(shown) > 1 else shown[0]
    engine.channel.send(mine, 1 - engine.me)
    theirs = engine.channel.receive(mine.shape, 1 - engine.me, torch.uint8)
    opened, start = [], 0
    for w, (key, mask), part in zip(wanted, masks, shown, strict=True):
        size, shape = width(w.bits), w.share.shape
        other = unpack(theirs[start : start + len(part)], shape, size)
        total = unpack(part, shape, size) + other
        start += len(part)
        if w.bits < 64:
            total, mask = total & ((1 << w.bits) - 1), mask & ((1 << w.bits) - 1)
        wrapped = 1 - ((total >> (w.bits - 1)) & 1)
        if w.ring > w.bits:
            carry, top = engine._dealt(shape, w.ring - w.bits), engine._dealt(shape, w.ring - w.bits)
            mask = mask - ((carry + wrapped * top) << w.bits)
        opened.append(MaskedValue(key, w.bits, w.ring, total - w.low, mask, wrapped))
    return opened


def product(engine: Engine, a: MaskedValue, b: MaskedValue, ring: int = 64) -> torch.Tensor:
    """A share of a * b, broadcast, mod 2^ring, or that of the smaller of the two; no message between the owners."""
    ring = min(a.ring, b.ring, ring)
    engine._ask("cross", a.key, b.key, ring)
    shape = broadcast(a.delta.shape, b.delta.shape)
    out = engine._dealt(shape, ring) + engine._first(a.delta * b.delta)
    if a is b:
        out = out - 2 * a.delta * a.mask
        if ring > a.bits:
            out += (a.wrapped * engine._dealt(shape, ring - a.bits)) << a.bits
        return out
    out = out - a.delta * b.mask - b.delta * a.mask
    for x in (a, b):
        if ring > x.bits:
            out += (x.wrapped * engine._dealt(shape, ring - x.bits)) << x.bits
    if ring > a.bits + b.bits:
        out += (a.wrapped * b.wrapped * engine._dealt(shape, ring - a.bits - b.bits)) << (a.bits + b.bits)
    return out


def forget(engine: Engine, *values: MaskedValue) -> None:
    """Have the dealer forget the masks."""
    engine._ask("forget", [v.key for v in values])
