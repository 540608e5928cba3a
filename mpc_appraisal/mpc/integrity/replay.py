"""An owner's program run again on linear forms, so that each message of that owner becomes a claim on what was dealt.

    message = constant + sum over what was dealt of (coefficients . dealt)   mod 2^bits

In go the messages that the two owners have sent each other, in their order; out come `Claim`s, one for each message of
the owner that is checked. Both owners can make them: the owner itself, and the other one, which has all messages and
the stream that both owners share. The program is the same code that ran on shares. Where that owner drew a number that
the dealer knows, or was dealt one, a new leaf of the tape stands for it (see `linear_form`).

A private matrix is whatever the owner has sent plus the mask that it drew, so that no claim is made of a message that
brings in a private matrix. The leaves have an order of their own for each purpose of the owner's streams, in which the
dealer draws them too. A protocol whose messages are no linear forms raises AppraisalError here.

What runs between two openings is a section, with a tape of its own. Masks of private matrices go on to the next tape.
Whatever else is used after the opening, such as a shared value, is of an old tape, and is refused when a message
depends on it.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity import tape as functions
from mpc_appraisal.mpc.integrity.linear_form import LinearForm, leaf
from mpc_appraisal.mpc.integrity.plane_form import PlaneForm, plane_leaf
from mpc_appraisal.mpc.integrity.plane_tape import PlaneTape
from mpc_appraisal.mpc.integrity.tape import Tape
from mpc_appraisal.mpc.net.channel import Channel, Transcript
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.dealer import PURPOSES
from mpc_appraisal.mpc.protocols.draws import PACKED, Dealt
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked_matrices import Masked, Settled
from mpc_appraisal.mpc.ring import narrow
from mpc_appraisal.mpc.ring.matrix import Matrix
from mpc_appraisal.mpc.ring.packed_matrix import PackedMatrix
from mpc_appraisal.mpc.ring.packing import unpack_all, width


@dataclass(frozen=True)
class Claim:
    """What a message of the checked owner has to be.

    Attributes:
        form: the linear form that the protocol prescribes.
        sent: the numbers that the owner has sent, int64 of the form's shape.
        bits: the two are equal mod 2^bits.
    """

    form: LinearForm
    sent: torch.Tensor
    bits: int

    @property
    def linear_part(self) -> torch.Tensor:
        """Return the message less the form's constant, int64: what the linear part has to be mod 2^bits."""
        return self.sent - self.form.constant


@dataclass(frozen=True)
class PlaneClaim:
    """What a message of packed bits has to be.

    Attributes:
        form: the linear form that the protocol prescribes.
        sent: the octets that the owner has sent, uint8 of the form's shape.
    """

    form: PlaneForm
    sent: np.ndarray

    @property
    def linear_part(self) -> np.ndarray:
        """Return the message less the form's constant, uint8: what the linear part has to be."""
        return self.sent ^ self.form.constant


class _Leaves:
    """Stands for a stream that the checked owner shares with the dealer, and draws leaves in place of numbers."""

    def __init__(self, replay: ReplayEngine, purpose: str):
        self.replay, self.purpose = replay, purpose

    def ring(self, shape: Sequence[int], size: int = 8, bits: int | None = None) -> LinearForm:
        """Return a leaf of numbers of `size` bytes, or of so many bits."""
        return self.replay.new_leaf(self.purpose, shape, 8 * size if bits is None else bits)

    def octets(self, shape: Sequence[int]) -> PlaneForm:
        """Return a leaf of the bits of octets."""
        return self.replay.new_plane(self.purpose, shape)


class _Messages(Channel):
    """The recorded messages, which are given out in their order."""

    def __init__(self, sent: Sequence[torch.Tensor], received: Sequence[torch.Tensor]):
        super().__init__(Meter())
        self.sent, self.received = deque(sent), deque(received)

    def add(self, sent: Sequence[torch.Tensor], received: Sequence[torch.Tensor]) -> None:
        """Add the messages of one more section."""
        self.sent.extend(sent)
        self.received.extend(received)

    def next_sent(self, count: int) -> torch.Tensor:
        """Return the next message of the checked owner, of so many bytes or numbers."""
        return _next(self.sent, count, "sent")

    def _send(self, tensor, to):
        raise AppraisalError("integrity: got a message of another protocol; expected a masked opening")

    def _receive(self, shape, source, dtype):
        if source == 2:
            raise AppraisalError("integrity: got a message of the dealer; expected a leaf in its place")
        return _next(self.received, math.prod(shape), "received").reshape(shape)

    def close(self):
        pass


def _next(messages: deque[torch.Tensor], count: int, what: str) -> torch.Tensor:
    if not messages or messages[0].numel() != count:
        found = messages[0].numel() if messages else "nothing"
        raise AppraisalError(f"integrity: the next message {what} has {found} numbers; expected {count}")
    return messages.popleft()


class _BroughtIn(Matrix):
    """A private matrix as the sum of its mask and of what its owner has sent, which stays packed."""

    def __init__(self, mask: LinearForm, sent: PackedMatrix):
        self.mask, self.sent = Matrix(mask), sent
        self._sum: LinearForm | None = None

    @property
    def shape(self) -> torch.Size:
        return self.sent.shape

    @property
    def values(self) -> LinearForm:
        self._sum = self.mask.values + self.sent.values if self._sum is None else self._sum
        return self._sum

    def times(self, right: torch.Tensor) -> LinearForm:
        return self.mask.times(right) + self.sent.times(right)

    def transposed_times(self, right: torch.Tensor) -> LinearForm:
        return self.mask.transposed_times(right) + self.sent.transposed_times(right)


class ReplayEngine(Engine):
    """The end of the owner that is checked, on linear forms.

    Args:
        me: the rank of the owner that is checked.
        transcript: that owner's messages, as both owners have them.
        pair: the stream that both owners share, from its beginning.

    Attributes:
        claims: the claims of this section so far about numbers.
        plane_claims: those about packed bits.
        leaves: for each purpose of the owner's streams, its leaves in the order in which they were drawn.
        planes: the same for packed bits.
        masks: the leaves of the owner's masks of private matrices and of results, by the dealer's keys.
        padded: whether a message has bits other than 0 where it is filled up to whole bytes.
    """

    def __init__(self, me: int, transcript: Transcript, pair: Any):
        self.tape, self.claims, self.padded = Tape(), [], False
        self.plane_tape, self.plane_claims = PlaneTape(), []
        self.leaves: dict[str, list[LinearForm]] = defaultdict(list)
        self.planes: dict[str, list[PlaneForm]] = defaultdict(list)
        self.masks: dict[int, LinearForm] = {}
        self._matrices: dict[int, Masked] = {}
        self._freed: set[int] = set()
        self._kept: dict[int, LinearForm] = {}
        messages = _Messages(transcript.sent, transcript.received)
        super().__init__(me, messages, {purpose: _Leaves(self, purpose) for purpose in PURPOSES}, pair)
        self.affine = self.replays = True
        self.channel: _Messages = messages

    def new_leaf(self, purpose: str, shape: Sequence[int], bits: int) -> LinearForm:
        """Return the leaf of the next tensor that the owner's stream of this purpose gives."""
        found = leaf(self.tape, shape, bits)
        self.leaves[purpose].append(found)
        return found

    def dealt_leaves(self, dealt: Dealt) -> tuple[list[int], list[tuple[int, bool]]] | None:
        """Return the numbers of the leaves in the vector and in the matrices of `dealt`, in their order.

        With each matrix stands whether it is the transposed leaf. None says that the leaves are not those of `dealt`.
        """
        forms = [*self.masks.values(), *self.leaves["triple"], *self.leaves["share"]]
        leaves = [self.tape.nodes[form.node].leaf for form in forms]
        by_key = dict(zip(self.masks, leaves, strict=False))
        matrices = [(by_key.get(draw.key), turned) for draw, turned in dealt.matrices]
        rest = [leaf for leaf in leaves if leaf not in {leaf for leaf, _ in matrices}]
        found = [math.prod(self.tape.leaves[leaf].shape) for leaf in rest]
        fits = len(leaves) == len(self.tape.leaves) and found == [draw.count for draw in dealt.vector]
        return (rest, matrices) if fits and None not in dict(matrices) else None

    def dealt_planes(self, dealt: Dealt) -> list[int] | None:
        """Return the numbers of the leaves of bits in the order of `dealt`; None says that they are other leaves."""
        forms = [*self.planes["triple"], *self.planes["share"]]
        fits = [math.prod(form.shape) for form in forms] == [draw.count for draw in dealt.planes]
        return [form.node for form in forms] if fits else None

    def close_section(self) -> None:
        """Begin the next section, with a tape of its own and the masks that are still in use."""
        for key in self._freed:
            self.masks.pop(key, None)
            self._matrices.pop(key, None)
        self.tape, self.claims = Tape(), []
        self.plane_tape, self.plane_claims = PlaneTape(), []
        self.leaves.clear()
        self.planes.clear()
        for key, old in self.masks.items():
            bits = 64 if key not in self._matrices else self._matrices[key].bits
            self.masks[key] = leaf(self.tape, old.shape, bits)
            if key in self._matrices:
                self._brought_in(self._matrices[key], self.masks[key])
            if key in self._kept:
                self._kept[key].move_to(self.masks[key])
        self._freed.clear()

    def new_plane(self, purpose: str, shape: Sequence[int]) -> PlaneForm:
        """Return the leaf of the bits of the next octets that the owner's stream of this purpose gives."""
        self.planes[purpose].append(plane_leaf(self.plane_tape, shape))
        return self.planes[purpose][-1]

    def claim(self, form: LinearForm, sent: torch.Tensor, bits: int) -> None:
        """Claim that `sent` is the form mod 2^bits. Raises AppraisalError where the form does not hold so far."""
        form.require_modulus(bits)
        if form.tape is not self.tape:
            raise AppraisalError(
                "integrity: got a message of a share of another section; expected shares made since the last opening"
            )
        self.claims.append(Claim(form, sent, bits))

    def dealer_share(self, shape: Sequence[int], bits: int = 64) -> LinearForm:
        return self.new_leaf("share", shape, 8 * width(bits))

    def dealer_octets(self, shape: Sequence[int]) -> PlaneForm:
        return self.new_plane("share", shape)

    def open_octets(self, mine):
        sent = self.channel.next_sent(math.prod(mine.shape)).reshape(mine.shape)
        theirs = self.channel.receive(mine.shape, 1 - self.me, torch.uint8)
        if mine.tape is not self.plane_tape:
            raise AppraisalError(
                "integrity: got a message of bits of another section; expected bits shared since the last opening"
            )
        self.plane_claims.append(PlaneClaim(mine, sent.numpy()))
        return sent ^ theirs

    def swap(self, shares, bits):
        sizes, shapes = [width(b) for b in bits], [share.shape for share in shares]
        count = sum(math.prod(shape) * size for shape, size in zip(shapes, sizes, strict=True))
        mine = unpack_all(self.channel.next_sent(count), shapes, sizes)
        theirs = unpack_all(self.channel.receive((count,), 1 - self.me, torch.uint8), shapes, sizes)
        for form, sent, b, size in zip(shares, mine, bits, sizes, strict=True):
            self.claim(form, sent, b)
            above = (1 << (8 * size)) - (1 << b)  # the bits that fill the last byte, which an owner leaves 0
            self.padded |= above > 0 and bool((sent & (above - (1 << 64 if size == 8 else 0))).any())
        return list(zip(mine, theirs, strict=True))

    def open(self, *shares):
        count = sum(share.numel() for share in shares)
        mine, theirs = self.channel.next_sent(count), self.channel.receive((count,), 1 - self.me)
        found, start = [], 0
        for form in shares:
            end = start + form.numel()
            self.claim(form, mine[start:end].reshape(form.shape), 64)
            found.append((mine[start:end] + theirs[start:end]).reshape(form.shape))
            start = end
        return found

    def mask(self, owner, clear, shape, bits=64, along=False):
        masked = Masked(self.new_key(), owner, bits)
        if self.me != owner:
            message = self.channel.receive((math.prod(shape) * width(bits),) if bits < 64 else shape, owner)
            masked.difference = Matrix(message) if bits == 64 else narrow.received_matrix(message, shape, bits)
            return masked
        count = math.prod(shape) * (1 if bits == 64 else width(bits))
        masked.message = self.channel.next_sent(count)
        self.masks[masked.key] = self.new_leaf("mask", shape, bits)
        self._matrices[masked.key] = masked
        self._brought_in(masked, self.masks[masked.key])
        return masked

    @staticmethod
    def _brought_in(masked: Masked, mask: LinearForm) -> None:
        """Make a private matrix of what its owner has sent, plus the mask."""
        message, shape, bits = masked.message, mask.shape, masked.bits
        masked._mask = Matrix(mask)
        if bits in PACKED and len(shape) == 2:
            masked.clear = _BroughtIn(mask, PackedMatrix(message, shape, width(bits)))
            return
        sent = message.reshape(shape) if bits == 64 else narrow.received(message, shape, bits)
        masked.clear = Matrix(mask + sent.to(torch.int64))

    def free(self, masked):
        self._freed.add(masked.key)

    def keep(self, share):
        found = self._settled("keep", share)
        self._kept[found.key] = found.mask + found.mine
        return self._kept[found.key]

    def drop_kept(self):
        self._freed |= set(self._kept)
        self._kept.clear()

    def _settled(self, request, share):
        key = self.new_key()
        sent = self.channel.next_sent(share.numel()).reshape(share.shape)
        r = self.masks[key] = self.new_leaf("mask", share.shape, 64)
        if request == "settle":
            self._freed.add(key)
        self.claim(share - r, sent, 64)
        return Settled(key, r, sent, self.channel.receive(share.shape, 1 - self.me))

    def rows(self, base, indices):
        key, listed = self.new_key(), indices.tolist()
        if self.me != base.owner:
            return base.rows(key, listed)
        selected = Masked(key, base.owner, base.bits)
        message = base.message.reshape(base.shape) if base.bits == 64 else base.message
        selected.message = narrow.chosen(message, base.shape, base.bits, listed)
        selected.clear, selected._mask = (Matrix(_rows(each.values, listed)) for each in (base.clear, base.mask))
        return selected


def _rows(form: LinearForm, listed: list[int]) -> LinearForm:
    """Return the rows of a form (n, d) with these numbers."""
    take = functions.Take(np.array(listed, dtype=np.int64), len(set(listed)) == len(listed))
    return form._moved(take, (len(listed), *form.shape[1:]), lambda c: c[listed])
