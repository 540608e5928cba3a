"""Comparisons of shared numbers, by digits of a mask: signs, and relu with its derivative; exact in the ring.

    x < 0     is the top bit of  delta - m = x,  which is  top(delta) + top(m) + [low(delta) < low(m)]    over GF(2)
    relu(x) = [x > 0] x

x is opened once as delta = x + m mod 2^bits (see `masked`); low(v) is v without its top bit. The dealer shares m by the
indicators of its digits, so that each owner looks up its shares of every digit's "less" and "equal" in the public
delta; `borrow_chain` combines them to the borrow [low(delta) < low(m)]. This gives a bit that is shared by exclusive
or, `SharedBits`. Opened under a random bit s as beta, it becomes a `MaskedBit`, which multiplies opened values without
a message:

    b = beta + (1 - 2 beta) s,      b x = beta x + (1 - 2 beta) s x,      s x = s delta - s m

of which the dealer shares s and s m. In go an engine (one owner's end) and int64 shares; out come shares. What an owner
receives is masked by random numbers or bits that it does not know: delta, the planes of the chain, and beta. So nothing
is revealed to either owner, and the dealer receives nothing.

| step, for each element of 64 bits | each owner sends | the dealer sends | rounds |
|---|---|---|---|
| opening | 8 bytes | nothing | 1 |
| `below_zero` for 1,024 elements or more | 34 bits | 336 bits | 2 |
| `below_zero` for fewer elements | 14 bits | 2,280 bits | 1 |
| `masked_bits` | 1 bit | 8 bytes | 1 |
| `MaskedBit.times` | nothing | 8 bytes | 0 |

Nothing here can fail: unlike a value that is opened for a softmax, x may be any element of the ring. Maxima are in
`maximum`. An operation may be added. Both owners make the same calls in the same order, and draw from their streams
what the dealer draws for the requests `compare` and `bits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mpc_appraisal.mpc.protocols import borrow_chain
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, evict, open_all
from mpc_appraisal.mpc.ring import bit_planes
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

RING = 64


@dataclass
class SharedBits:
    """Bits that are shared by exclusive or.

    Attributes:
        plane: this owner's share, uint8 (bit_planes.plane_bytes,), eight bits in a byte.
        shape: the shape of the bits.
    """

    plane: torch.Tensor
    shape: torch.Size


@dataclass
class MaskedBit:
    """Bits b that have been opened as beta = b + s over GF(2), as one owner has them.

    Attributes:
        key: the number by which the dealer knows s.
        beta: the opened bits, int64 of b's shape, at both owners.
        mask: this owner's additive share of s, mod 2^64.
    """

    key: int
    beta: torch.Tensor
    mask: torch.Tensor

    def share(self, engine: Engine) -> torch.Tensor:
        """Return this owner's additive share of b mod 2^64, without fractional bits; no message."""
        return engine.public_share(self.beta) + (1 - 2 * self.beta) * self.mask

    def times(self, engine: Engine, x: MaskedValue) -> torch.Tensor:
        """Return a share of b x mod 2^x.ring, for an opened value x of b's shape; the owners send nothing.

        The dealer sends the model owner one element for each element of b, or two where x.ring is above x.bits.
        """
        engine.ask_dealer("cross", self.key, x.key, x.ring)
        shape = x.delta.shape
        masked = self.mask * x.delta - engine.dealer_share(shape, x.ring)
        if x.ring > x.bits:
            masked = masked - ((x.wrapped * engine.dealer_share(shape, x.ring - x.bits)) << x.bits)
        return self.beta * x.share(engine) + (1 - 2 * self.beta) * masked

    def forget(self, engine: Engine) -> None:
        """Ask the dealer to drop s, which no later product needs."""
        engine.ask_dealer("forget", [self.key])


def below_zero(engine: Engine, x: MaskedValue) -> SharedBits:
    """Return the bits [x < 0] of an opened value x, read as a signed number of x.bits bits.

    This takes one round, or two for borrow_chain.MANY elements or more, and none where x has few enough bits.
    """
    shape, first = x.delta.shape, engine.me == 0
    size = bit_planes.plane_bytes(math.prod(shape))
    plan = borrow_chain.borrow_plan(x.bits, math.prod(shape))
    engine.ask_dealer("compare", x.key)
    masks = [engine.streams["triple"].octets((level.opened, size)) for level in plan.levels]
    dealt = engine.dealer_octets((plan.dealt, size))
    if engine.dry:
        for mask in masks:
            engine.open_octets(mask)
        return SharedBits(shape_tensor((size,), torch.uint8), shape)
    dealt, start = dealt.numpy(), plan.indicators + 1
    planes = bit_planes.planes_of(x.delta, x.bits)
    digits = bit_planes.digits_of(planes[:-1], plan.width)
    less, equal = borrow_chain.looked_up(plan, digits, dealt[: plan.indicators], first)
    for level, mask in zip(plan.levels, masks, strict=True):
        less, equal = borrow_chain.grouped(level, less, equal, first)
        opened = engine.open_octets(bit_planes.octets(borrow_chain.opened_planes(level, less, equal)) ^ mask).numpy()
        products = dealt[start : start + level.dealt]
        less, equal = borrow_chain.combined(level, opened, mask.numpy(), products, less[-1], first)
        start += level.dealt
    sign = less[0] ^ dealt[plan.indicators]
    return SharedBits(bit_planes.octets(sign ^ planes[-1] if first else sign), shape)


def masked_bits(engine: Engine, bits: SharedBits) -> MaskedBit:
    """Return the bits as numbers 0 and 1, opened under random bits; one round."""
    key = engine.new_key()
    engine.ask_dealer("bits", key, list(bits.shape))
    mask = engine.streams["triple"].octets(bits.plane.shape)
    share = engine.dealer_share(bits.shape)
    beta = engine.open_octets(bits.plane if engine.dry else bits.plane ^ mask)
    beta = shape_tensor(bits.shape) if engine.dry else bit_planes.bits_of(beta.numpy(), bits.shape)
    return MaskedBit(key, beta, share)


def negative(engine: Engine, share: torch.Tensor, bits: int = RING) -> torch.Tensor:
    """Return shares of 1 where the shared ring element is below zero as a signed integer, and of 0 elsewhere.

    The result is exact, has the shape of `share`, and has no fractional bits. Four rounds, or three for few elements.

    Args:
        engine: this owner's end.
        share: shares of any ring elements.
        bits: how many bits the elements have as signed integers, if a public bound is known; 64 allows any element.
    """
    (x,) = open_all(engine, MaskedOpening(share, 0, bits, bits, 0))
    bit = masked_bits(engine, below_zero(engine, x))
    evict(engine, x)
    bit.forget(engine)
    return bit.share(engine)


def none_negative(engine: Engine, share: torch.Tensor) -> torch.Tensor:
    """Return shares (1,) of 1 if no element of `share` (n,) is negative as a signed 64-bit integer, else of 0.

    The number of negative elements is compared with 1 in a ring that just holds it.
    """
    count = negative(engine, share).sum(0, keepdim=True)
    if share.shape[0] == 1:
        return engine.public_share(torch.ones_like(count)) - count
    bits = share.shape[0].bit_length() + 1
    return negative(engine, count - engine.public_share(torch.ones_like(count)), bits)


def relu(engine: Engine, share: torch.Tensor, cut: int = 0) -> tuple[torch.Tensor, MaskedBit]:
    """Return shares of max(v, 0) / 2^cut, and the bits [v > 0], for shares of v; four rounds, or three for few.

    With a cut, v is truncated within one unit by the opening itself, |v| has to be below 2^62, as in `Engine.truncate`,
    and both results are those of the truncated v. The dealer keeps the bits' masks until `MaskedBit.forget`.
    """
    x = _opened(engine, -share, cut)
    bit = masked_bits(engine, below_zero(engine, x))
    value = -bit.times(engine, x)
    evict(engine, x)
    return value, bit


def _opened(engine: Engine, share: torch.Tensor, cut: int) -> MaskedValue:
    """Open v / 2^cut for shares of v, of any v without a cut, and else of |v| < 2^62 within one unit."""
    low = 0
    if cut:  # A cut is right on average for uniform shares, which a private value's are not.
        share, low = engine.blinded(share), 1 << (RING - 2 - cut)
    (x,) = open_all(engine, MaskedOpening(share, cut, RING - cut, RING, low))
    return x


def gated(engine: Engine, bit: MaskedBit, share: torch.Tensor, cut: int = 0) -> torch.Tensor:
    """Return shares of b v / 2^cut for a `bit` b of an earlier step and shares of v, of b's shape; one round.

    With a cut, v is truncated as in `relu`.
    """
    x = _opened(engine, share, cut)
    out = bit.times(engine, x)
    evict(engine, x)
    return out
