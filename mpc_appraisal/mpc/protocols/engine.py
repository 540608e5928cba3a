"""The engine: two owners compute on additive shares mod 2^64 with a dealer's help.

A value v is v_0 + v_1 mod 2^64, v_0 at the model owner (rank 0), v_1 at the data owner (rank 1). Correlated randomness
(see `dealer`) comes from streams that each owner shares with it, and one correction to the model owner.

- `product`: X of one owner times W of the other. X - A goes to the other owner once, W - B likewise, A and B being
  masks that the dealer knows; then X W = X (W - B) + (X - A) B + A B, of which one owner computes the first term, the
  other the second, and the dealer shares the third. A matrix masked once serves every later product.
- `multiply`, `square`, `inner`: Beaver's, openings batched into one message. Softmax opens each value once instead, in
  narrower rings: see `opened`.
- `truncate`: exact up to one unit in the last place: open v + r, shift, correct by the dealer's shares of r >> t and of
  r's top bit. `truncate_locally` costs nothing and fails for an element with probability |v| / 2^64: counted in
  `failure`, which every record states.

A dry run of the same program, on shapes, gives the dealer's script before the computation and the cost before that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.protocols.dealer import PURPOSES, Request, logical_shift
from mpc_appraisal.mpc.ring.buffers import empty
from mpc_appraisal.mpc.ring.matrix import Matrix
from mpc_appraisal.mpc.ring.packing import unpack, width
from mpc_appraisal.mpc.ring.prg import DryStream, Stream
from mpc_appraisal.mpc.ring.shape_tensor import broadcast

Size = tuple[int, ...]


class Masked:
    """A private matrix as the engine holds it: masked once, for every product it enters.

    At its owner `clear` is the matrix and `mask` the mask, kept where a product needs it; at the other owner
    `difference` is clear - mask.
    """

    def __init__(self, key: int, owner: int):
        self.key, self.owner = key, owner
        self.clear: Matrix | None = None
        self.mask: Matrix | None = None
        self.difference: Matrix | None = None


class Engine:
    """One owner's protocol endpoint.

    Args:
        me: 0 for the model owner, 1 for the data owner.
        dealer_streams: by purpose, shared with the dealer. `pair`: shared with the other owner.
        dry: shapes only; fills `script`.
    """

    def __init__(
        self,
        me: int,
        channel: Channel,
        dealer_streams: dict[str, Any],
        pair: Any,
        dry: bool = False,
    ):
        self.me, self.channel, self.dry = me, channel, dry
        self.streams, self.pair = dealer_streams, pair
        self.script: list[Request] = []
        self.failure = 0.0  # bound on the probability that a local truncation has wrapped
        self.exact = False  # whether truncation that may fail is replaced by truncation that cannot
        self.helper = False  # whether the dealer also computes functions of permuted values, see `permuted`
        self.uncounted = False  # whether something has run whose failures are not in `failure`
        self._next = 0

    @staticmethod
    def streams_of(key: bytes | None) -> dict[str, Any]:
        return {purpose: DryStream() if key is None else Stream(key, purpose) for purpose in PURPOSES}

    # -- the dealer ------------------------------------------------------------------------------------------------
    def _ask(self, name: str, *arguments: Any) -> None:
        if self.dry:
            self.script.append([name, *arguments])

    def _dealt(self, shape: Sequence[int], bits: int = 64) -> torch.Tensor:
        """This owner's share, mod 2^bits, of the next thing that the dealer computes."""
        size = width(bits)
        if self.me == 1:
            return self.streams["share"].ring(shape, size)
        if size == 8:
            return self.channel.receive(shape, 2)
        return unpack(self.channel.receive((math.prod(shape) * size,), 2, torch.uint8), shape, size)

    def mark(self) -> None:
        """Have the dealer note its traffic up to here."""
        self._ask("mark")

    # -- messages --------------------------------------------------------------------------------------------------
    def open(self, *shares: torch.Tensor) -> list[torch.Tensor]:
        """The sums of both owners' tensors, in one message each way: masked values, which the protocols open.

        Who sends second has seen the other's share, but under a mask that the dealer drew, so it can add an error to
        what is opened and cannot choose it. Nothing here detects the error. Results that are released are opened
        otherwise: see `committed`.
        """
        mine = shares[0].reshape(-1) if len(shares) == 1 else torch.cat([s.reshape(-1) for s in shares])
        self.channel.send(mine, 1 - self.me)
        total = self.channel.receive(mine.shape, 1 - self.me) + mine
        out, start = [], 0
        for share in shares:
            size = share.numel()
            out.append(total[start : start + size].reshape(share.shape))
            start += size
        return out

    def blinded(self, share: torch.Tensor) -> torch.Tensor:
        """`share` plus a sharing of zero: of what is opened, nobody then sees more than the sum.

        Sums of private values have for shares those values themselves; products have uniform ones anyway.
        """
        r = self.pair.ring(share.shape)
        return share + r if self.me == 0 else share - r

    def _first(self, value: torch.Tensor) -> torch.Tensor | int:
        """A public value as a share: all of it at rank 0."""
        return value if self.me == 0 else 0

    # -- private matrices ------------------------------------------------------------------------------------------
    def mask(self, owner: int, clear: torch.Tensor | Matrix | None, shape: Sequence[int]) -> Masked:
        """Mask a private matrix: one message of its size from its owner to the other."""
        self._next += 1
        masked = Masked(self._next, owner)
        self._ask("mask", masked.key, owner, list(shape))
        if self.me == owner:
            masked.clear = clear if isinstance(clear, Matrix) else Matrix(clear)
            masked.mask = Matrix(self.streams["mask"].ring(shape))
            clear, mask = masked.clear.values, masked.mask.values
            self.channel.send(clear - mask if self.dry else torch.sub(clear, mask, out=empty(shape)), 1 - owner)
        else:
            masked.difference = Matrix(self.channel.receive(shape, owner))
        return masked

    def rows(self, base: Masked, indices: torch.Tensor) -> Masked:
        """Some rows of a masked matrix, under the same mask; no message.

        The indices are public: each owner takes them from the agreed program itself and is told none, and the dealer's
        stand in the script that both owners have made.
        """
        self._next += 1
        part = Masked(self._next, base.owner)
        listed = indices.tolist()
        self._ask("rows", part.key, base.key, listed)
        for name in ("clear", "mask", "difference"):  # each owner has some of them
            whole = getattr(base, name)
            if whole is not None:
                setattr(part, name, whole.rows(listed))
        return part

    def free(self, masked: Masked) -> None:
        """Forget a mask, at the dealer too."""
        self._ask("free", masked.key)
        masked.clear = masked.mask = masked.difference = None

    def product(self, left: Masked, right: Masked, transposed: bool = False) -> torch.Tensor:
        """Shares of left @ right, or left' @ right, of different owners; no message between the owners."""
        self._ask("product", left.key, right.key, int(transposed))
        shape = ((left_shape(left)[1] if transposed else left_shape(left)[0]), left_shape(right)[1])
        if self.me == left.owner:  # knows X and W - B
            local = left.clear.product(right.difference.values, transposed)
        else:  # knows B and X - A
            local = left.difference.product(right.mask.values, transposed)
        return local + self._dealt(shape)

    def product_with_shared(self, left: Masked, right: torch.Tensor, transposed: bool = False) -> torch.Tensor:
        """Shares of left @ right, or left' @ right, for a private matrix and a shared one.

        The other owner's share is a private matrix of its own, masked for this product alone: one message of right's
        size, to which left's owner adds its own share, and multiplies once.
        """
        other = self.mask(1 - left.owner, right if self.me != left.owner else None, right.shape)
        if self.me == left.owner:
            other.difference = Matrix(other.difference.values + right)
        out = self.product(left, other, transposed)
        self.free(other)
        return out

    # -- elementwise -----------------------------------------------------------------------------------------------
    def _triple(self, shape: Sequence[int]) -> torch.Tensor:
        return self.streams["triple"].ring(shape)

    def multiply(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x * y, broadcast; one round."""
        self._ask("mul", list(x.shape), list(y.shape))
        a, b = self._triple(x.shape), self._triple(y.shape)
        c = self._dealt(broadcast(x.shape, y.shape))
        e, d = self.open(x - a, y - b)
        return c + e * b + a * d + self._first(e * d)

    def square(self, x: torch.Tensor) -> torch.Tensor:
        """x * x; one round."""
        self._ask("square", list(x.shape))
        a = self._triple(x.shape)
        c = self._dealt(x.shape)
        (e,) = self.open(x - a)
        return c + 2 * e * a + self._first(e * e)

    def inner(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The sum of x * y, as a share of shape (); the dealer sends one number."""
        self._ask("inner", list(x.shape))
        a, b = self._triple(x.shape), self._triple(y.shape)
        c = self._dealt(())
        e, d = self.open(x - a, y - b)
        return c + (e * b).sum() + (a * d).sum() + self._first((e * d).sum())

    # -- truncation ------------------------------------------------------------------------------------------------
    def truncate(self, v: torch.Tensor, bits: int) -> torch.Tensor:
        """floor(v / 2^bits), or one more, for |v| < 2^62; one round, never off by more."""
        if bits <= 0:
            return v << -bits
        self._ask("truncate", list(v.shape), bits)
        r = self._triple(v.shape)
        shifted, top = self._dealt(v.shape), self._dealt(v.shape, bits)
        (d,) = self.open(v + r + self._first(torch.full_like(v, 1 << 62)))  # non-negative from here on
        # v + 2^62 + r wrapped iff r's top bit is set and d's is not: then 2^64 / 2^bits is missing from d >> bits
        wrapped = top * (1 - logical_shift(d, 63))
        out = self._first(logical_shift(d, bits) - (1 << (62 - bits) if bits <= 62 else 0)) - shifted
        return out + (wrapped << (64 - bits))

    def truncate_locally(self, v: torch.Tensor, bits: int, largest: float) -> torch.Tensor:
        """v / 2^bits within one unit, without a message; |v| <= 2^largest.

        An element is off by 2^(64 - bits) if the two shares, as integers, wrap: probability at most 2^(largest - 64).
        Where the engine is `exact`, this is `truncate`.
        """
        if bits <= 0 or self.exact:
            return self.truncate(v, bits)
        self.failure += v.numel() * 2.0 ** (largest - 64)
        return v >> bits if self.me == 0 else -((-v) >> bits)


def left_shape(masked: Masked) -> torch.Size:
    """Shape of a masked matrix, whichever part this owner holds."""
    return (masked.clear or masked.difference).shape
