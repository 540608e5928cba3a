"""The engine computes on additive shares mod 2^64, between two owners, with a dealer that hands out randomness.

    v = v_0 + v_1 mod 2^64          v_0 is at the model owner (rank 0), v_1 at the data owner (rank 1)

An `Engine` is one owner's end: it holds v_0 or v_1 of every shared value v. In go shares, and private matrices that one
owner knows, as int64 tensors; out come shares.

| operation | result | one owner sends the other | the dealer sends the model owner | rounds |
|---|---|---|---|---|
| `mask` | a private matrix, masked | bits / 8 bytes an element, its owner alone | nothing | 1 |
| `product` | left @ right, private both | nothing | bits / 8 bytes an element of the result | 0 |
| `product_with_shared` | left @ right, private and shared | right's size, once | as for `product` | 1 |
| `multiply`, `square`, `inner` | x y, x^2, sum of x y | both factors' sizes | 8 bytes an element of the result | 1 |
| `truncate` | v / 2^t, within one unit | v's size | 8 bytes and ceil(t / 8) for each element | 1 |
| `truncate_locally` | v / 2^t, within one unit | nothing | nothing | 0 |

What an owner receives is masked by random ring elements that this owner does not know, so that it is uniform: the
engine reveals nothing to either owner, and the dealer sees shapes alone. A private matrix is masked mod 2^bits, where
`bits` is 64 or a narrower width that the caller has derived from public bounds: its products are then shares mod
2^bits. Every operation but `truncate_locally` is right with certainty. `truncate_locally` fails for an element with
probability |v| / 2^64; these probabilities are summed in `Engine.failure` and stated in every record. An owner that
does not follow the protocol can shift results. With session.integrity=on the other owner finds this out before a result
is opened (see `mpc.integrity`); without it nothing detects it.

A dry run computes the same program on shapes. It gives the script of the dealer's requests and the cost of the run. An
operation may be added, with a request of the dealer where it needs randomness. Both owners have to make the same calls
in the same order, and draw from their streams exactly what `dealer` draws. The products are those of Beaver ("Efficient
multiparty protocols using circuit randomization", CRYPTO 1991). How they work is explained in docs/protocols/engine.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.protocols.dealer import PURPOSES, Request
from mpc_appraisal.mpc.protocols.draws import Draws
from mpc_appraisal.mpc.protocols.gate_dealer import logical_shift
from mpc_appraisal.mpc.protocols.masked_matrices import Masked, Settled
from mpc_appraisal.mpc.ring import narrow
from mpc_appraisal.mpc.ring.matrix import Matrix
from mpc_appraisal.mpc.ring.packing import pack, unpack, unpack_all, width
from mpc_appraisal.mpc.ring.prg import DryStream, Stream
from mpc_appraisal.mpc.ring.shape_tensor import broadcast

Size = tuple[int, ...]


class Engine:
    """One owner's end of every protocol of this package.

    Unless a method says otherwise, its arguments and its result are this owner's shares, int64 tensors mod 2^64.

    Args:
        me: the rank of this owner, 0 for the model owner and 1 for the data owner.
        channel: the channel to the other owner (rank 1 - me) and to the dealer (rank 2).
        dealer_streams: the pseudorandom streams that this owner shares with the dealer, by purpose (see `streams_of`).
        pair: the pseudorandom stream that both owners share and the dealer does not know.
        dry: whether the engine computes on shapes alone, and collects in `script` what it would ask of the dealer.
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
        self.failure = 0.0  # This bounds the probability that a local truncation has wrapped.
        self.affine = False  # If true, every message is an affine function of what the dealer has dealt (see `masked`).
        self.replays = False  # If true, shares are linear forms and private values unknown (see `integrity.replay`).
        self.exact = False  # If true, `truncate_locally` uses the truncation that cannot fail.
        self.helper = False  # If true, the dealer also computes functions of permuted values (see `permutation`).
        self.draws: Draws | None = None  # what was dealt to this owner, where messages are checked (see `record`)
        self.moduli: set[int] = set()  # the widths of the claims that a check would make of messages since the last one
        self._keys = 0  # the number of keys that `new_key` has given out

    @staticmethod
    def streams_of(key: bytes | None) -> dict[str, Any]:
        """Return the streams that an owner and the dealer expand from their common key, by purpose.

        With None in place of the key, the streams are those of a dry run, which give shapes alone.
        """
        return {purpose: DryStream() if key is None else Stream(key, purpose) for purpose in PURPOSES}

    def record(self) -> None:
        """Make every message an affine function of what is dealt, and record what is dealt, for `mpc.integrity`."""
        self.affine, self.draws = True, Draws(self.streams)
        self.streams = self.draws.streams

    # -- the dealer ------------------------------------------------------------------------------------------------
    def ask_dealer(self, name: str, *arguments: Any) -> None:
        """Add a request to the script, in a dry run. In a real run, where the dealer has the script, do nothing."""
        if self.dry:
            self.script.append([name, *arguments])

    def new_key(self) -> int:
        """Return a new number by which the dealer will know a mask; it is equal at both owners."""
        self._keys += 1
        return self._keys

    def dealer_share(self, shape: Sequence[int], bits: int = 64) -> torch.Tensor:
        """Return this owner's share mod 2^bits, of shape `shape`, of the next result of the dealer.

        The data owner draws its share from its stream; the model owner receives the correction.
        """
        size = width(bits)
        if self.me == 1:
            return self.streams["share"].ring(shape, size)
        if size == 8:
            message = found = self.channel.receive(shape, 2)
        else:
            message = self.channel.receive((math.prod(shape) * size,), 2, torch.uint8)
            found = unpack(message, shape, size)
        if self.draws is not None:
            self.draws.correction(message, shape, 8 * size)
        return found

    def dealer_octets(self, shape: Sequence[int]) -> torch.Tensor:
        """Return this owner's share by exclusive or, uint8 of `shape`, of the dealer's next result."""
        if self.me == 1:
            return self.streams["share"].octets(shape)
        message = self.channel.receive(shape, 2, torch.uint8)
        if self.draws is not None:
            self.draws.correction(message, shape, 1)
        return message

    def mark(self) -> None:
        """Ask the dealer to record how many bytes it has sent up to here."""
        self.ask_dealer("mark")

    # -- messages --------------------------------------------------------------------------------------------------
    def open_octets(self, mine: torch.Tensor) -> torch.Tensor:
        """Show both owners the exclusive or of their uint8 tensors, and return it; one message each way, one round.

        As in `open`, what is opened is masked by the dealer.
        """
        self.channel.send(mine, 1 - self.me)
        theirs = self.channel.receive(mine.shape, 1 - self.me, torch.uint8)
        return theirs if self.dry else mine ^ theirs

    def open(self, *shares: torch.Tensor) -> list[torch.Tensor]:
        """Show both owners the sums of their `shares`, and return the sums; one message each way, one round.

        `shares` are int64 tensors of any shapes, which are the same at both owners and are the shapes of the sums.

        The protocols use this for masked values only. The owner that sends second has seen the other's share, but the
        sum is masked by the dealer, so that this owner can add an error to the sum and cannot choose it. Nothing here
        detects such an error; `mpc.integrity` does, where messages are checked. Results are opened otherwise.
        """
        mine = shares[0].reshape(-1) if len(shares) == 1 else torch.cat([s.reshape(-1) for s in shares])
        self.moduli.add(64)
        self.channel.send(mine, 1 - self.me)
        total = self.channel.receive(mine.shape, 1 - self.me) + mine
        out, start = [], 0
        for share in shares:
            size = share.numel()
            out.append(total[start : start + size].reshape(share.shape))
            start += size
        return out

    def swap(self, shares: Sequence[torch.Tensor], bits: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Send the other owner the low `bits` bits of each share, rounded up to bytes, and receive its numbers.

        Returns this owner's and the other owner's number of each share, of which the low `bits` bits are right. This is
        one message each way, and one round.
        """
        sizes = [width(b) for b in bits]
        sent = [pack(share, size) for share, size in zip(shares, sizes, strict=True)]
        mine = torch.cat(sent) if len(sent) > 1 else sent[0]
        self.moduli.update(bits)
        self.channel.send(mine, 1 - self.me)
        theirs = self.channel.receive(mine.shape, 1 - self.me, torch.uint8)
        return list(zip(shares, unpack_all(theirs, [s.shape for s in shares], sizes), strict=True))

    def blinded(self, share: torch.Tensor) -> torch.Tensor:
        """Return `share` plus a share of zero, so that a receiver learns nothing beyond the sum; no message.

        Blinding is needed where a share may be a private value itself, as in sums of private values. The shares of a
        product are uniform anyway.
        """
        r = self.pair.ring(share.shape)
        return share + r if self.me == 0 else share - r

    def public_share(self, value: torch.Tensor) -> torch.Tensor | int:
        """Return this owner's share of a public value: the value itself at rank 0, zero at rank 1."""
        return value if self.me == 0 else 0

    # -- results -----------------------------------------------------------------------------------------------------
    def settle(self, share: torch.Tensor) -> Settled:
        """Show both owners the result under a mask of each owner, and return what `show` needs; one round.

        Each owner sends share - r for a fresh mask r of its own, which the dealer knows. So an owner has said what its
        share is before the messages are checked, and has nothing to send afterwards.
        """
        return self._settled("settle", share)

    def keep(self, share: torch.Tensor) -> torch.Tensor:
        """Return the share for use in later sections, that is, after the next check of messages; one round.

        The messages are those of `settle`, and none without checks. The share is then what was sent plus r.
        """
        if self.draws is not None:
            self._settled("keep", share)
        return share

    def drop_kept(self) -> None:
        """Say that shares that were kept so far are not used any more."""
        if self.draws is not None:
            self.ask_dealer("drop_kept")
            self.draws.drop_kept()

    def _settled(self, request: str, share: torch.Tensor) -> Settled:
        key = self.new_key()
        self.ask_dealer(request, key, list(share.shape))
        if self.draws is not None:
            self.draws.settle(key, share.shape, request == "keep")
        self.moduli.add(64)
        r = self.streams["mask"].ring(share.shape)
        mine = share - r
        self.channel.send(mine, 1 - self.me)
        return Settled(key, r, mine, self.channel.receive(share.shape, 1 - self.me))

    # -- private matrices ------------------------------------------------------------------------------------------
    def mask(
        self,
        owner: int,
        clear: torch.Tensor | Matrix | None,
        shape: Sequence[int],
        bits: int = 64,
        along: bool = False,
    ) -> Masked:
        """Mask a private matrix: its owner sends clear - mask mod 2^bits to the other owner, bits / 8 bytes an element.

        Args:
            owner: the rank of the owner that knows the matrix.
            clear: the matrix, in integers of any type; None at the other owner.
            shape: the shape of the matrix, which is public.
            bits: the width of the ring, 64 or one of `narrow.WIDTHS`.
            along: whether the owner sends its next message right after this one, so that both are one round; the ring
                has 64 bits then.
        """
        masked = Masked(self.new_key(), owner, bits)
        self.ask_dealer("mask", masked.key, owner, list(shape), *([] if bits == 64 else [bits]))
        if self.draws is not None:
            self.draws.mask(masked.key, owner == self.me, shape, bits)
        if self.me == owner:
            masked.clear = clear if isinstance(clear, Matrix) else Matrix(clear)
            values, stream = masked.clear.values, self.streams["mask"]
            if bits == 64:
                mask = stream.ring(shape)
                masked.message = mask if self.dry else torch.sub(values, mask, out=mask)
            else:
                masked.message = narrow.masked(stream, values, bits)
            self.channel.send(masked.message, 1 - owner)
        elif bits == 64:
            masked.difference = Matrix(self.channel.receive(shape, owner, along=along))
        else:
            message = self.channel.receive((math.prod(shape) * width(bits),), owner, torch.uint8)
            masked.difference = narrow.received_matrix(message, shape, bits)
        return masked

    def rows(self, base: Masked, indices: torch.Tensor) -> Masked:
        """Return the rows of `base` that `indices` (n,) lists, under the same mask; no message.

        The indices are public. Each owner takes the indices from the agreed program, and the dealer takes them from the
        script on which both owners agree.
        """
        key, listed = self.new_key(), indices.tolist()
        self.ask_dealer("rows", key, base.key, listed)
        if self.draws is not None:
            self.draws.dense(base.key)
        return base.rows(key, listed)

    def in_sums(self, masked: Masked) -> Masked:
        """Return a private matrix that enters more than products, and say so where messages are checked."""
        if self.draws is not None:
            self.ask_dealer("dense", masked.key)
            self.draws.dense(masked.key)
        return masked

    def free(self, masked: Masked) -> None:
        """Drop a masked matrix here, and its mask at the dealer too, with all rows that were selected from it there."""
        self.ask_dealer("free", masked.key)
        if self.draws is not None:
            self.draws.free(masked.key)
        masked.drop()

    def product(self, left: Masked, right: Masked, transposed: bool = False) -> torch.Tensor:
        """Return shares of left @ right, or of left' @ right if `transposed`; no message between the owners.

            X W = X (W - B) + (X - A) B + A B

        X is `left` and A its mask; W is `right` and B its mask. The owner of X computes the first term, the owner of W
        computes the second term, and the dealer, which knows both masks, shares the third term. The two matrices must
        belong to different owners. The result is (n, k) for X (n, d) and W (d, k), or (d, k) if X (n, d) is transposed
        and W is (n, k). It is shared modulo 2 to the power of the smaller width of the two.
        """
        self.ask_dealer("product", left.key, right.key, int(transposed))
        shape = (left.shape[1] if transposed else left.shape[0], right.shape[1])
        if self.draws is not None:
            self.draws.product(left.key, right.key, transposed, *shape)
        if self.me == left.owner:  # This owner knows X and W - B.
            local = left.clear.product(right.difference.values, transposed)
        else:  # This owner knows B and X - A.
            local = left.difference.product(right.mask.values, transposed)
        return local + self.dealer_share(shape, min(left.bits, right.bits))

    def product_with_shared(self, left: Masked, right: torch.Tensor, transposed: bool = False) -> torch.Tensor:
        """Return shares of left @ right, or of left' @ right if `transposed`; `left` is private, and `right` is shared.

        The owner that does not know `left` masks its share of `right` as a private matrix of its own, for this product
        alone. This is one message of right's size, in the ring of `left`. The owner of `left` adds its own share of
        `right` to what it receives and multiplies once. An `affine` engine uses `masked.private_product` instead.
        """
        other = self.mask(1 - left.owner, right if self.me != left.owner else None, right.shape, left.bits)
        if self.me == left.owner:
            received = other.difference.values
            other.difference = Matrix(received + right.to(received.dtype))
        out = self.product(left, other, transposed)
        self.free(other)
        return out

    # -- elementwise -----------------------------------------------------------------------------------------------
    def triple_mask(self, shape: Sequence[int]) -> torch.Tensor:
        """Return this owner's share of a random mask that the dealer knows; no message."""
        return self.streams["triple"].ring(shape)

    def multiply(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return shares of x * y, broadcast; one round. The fractional bits of x and y add up.

        x y = c + (x - a) b + a (y - b) + (x - a) (y - b)      for a triple a, b, c = a b of the dealer
        """
        self.ask_dealer("mul", list(x.shape), list(y.shape))
        a, b = self.triple_mask(x.shape), self.triple_mask(y.shape)
        c = self.dealer_share(broadcast(x.shape, y.shape))
        e, d = self.open(x - a, y - b)
        return c + e * b + a * d + self.public_share(e * d)

    def square(self, x: torch.Tensor) -> torch.Tensor:
        """Return shares of x * x; one round, with half the bytes of `multiply`."""
        self.ask_dealer("square", list(x.shape))
        a = self.triple_mask(x.shape)
        c = self.dealer_share(x.shape)
        (e,) = self.open(x - a)
        return c + 2 * e * a + self.public_share(e * e)

    def inner(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return a share, of shape (), of the sum of x * y for x and y of one shape; one round.

        The dealer sends one number.
        """
        self.ask_dealer("inner", list(x.shape))
        a, b = self.triple_mask(x.shape), self.triple_mask(y.shape)
        c = self.dealer_share(())
        e, d = self.open(x - a, y - b)
        return c + (e * b).sum() + (a * d).sum() + self.public_share((e * d).sum())

    # -- truncation ------------------------------------------------------------------------------------------------
    def truncate(self, v: torch.Tensor, bits: int) -> torch.Tensor:
        """Return shares of floor(v / 2^bits), or of that plus one, for any |v| < 2^62; one round.

        The owners open v + 2^62 + r for a random r and shift the sum. The dealer's shares of r >> bits and of r's top
        bit correct the result, which is therefore right within one unit with certainty. Where `bits` is 0 or negative,
        the result is v * 2^-bits, and no message is sent.
        """
        if bits <= 0:
            return v << -bits
        self.ask_dealer("truncate", list(v.shape), bits)
        r = self.triple_mask(v.shape)
        shifted, top = self.dealer_share(v.shape), self.dealer_share(v.shape, bits)
        (d,) = self.open(v + r + self.public_share(torch.full_like(v, 1 << 62)))
        # v + 2^62 is not negative, so that v + 2^62 + r has wrapped if and only if r's top bit is set and d's is not.
        # In that case 2^64 / 2^bits is missing from d >> bits.
        wrapped = top * (1 - logical_shift(d, 63))
        out = self.public_share(logical_shift(d, bits) - (1 << (62 - bits) if bits <= 62 else 0)) - shifted
        return out + (wrapped << (64 - bits))

    def truncate_locally(self, v: torch.Tensor, bits: int, largest: float) -> torch.Tensor:
        """Return shares of v / 2^bits within one unit, for |v| <= 2^largest; no message.

        Each owner shifts its own share. An element is off by 2^(64 - bits) if the sum of the two shares wraps as an
        integer, which has a probability of at most 2^(largest - 64) and is counted in `failure`. If the engine is
        `exact` or `affine`, this is `truncate`. The method is that of Mohassel and Zhang ("SecureML", IEEE S&P 2017,
        section 4.1).
        """
        if bits <= 0 or self.exact or self.affine:
            return self.truncate(v, bits)
        self.failure += v.numel() * 2.0 ** (largest - 64)
        return v >> bits if self.me == 0 else -((-v) >> bits)
