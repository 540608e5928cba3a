"""The record of what a party has drawn and was dealt, so that it can be read again when messages are checked.

    dealt to an owner = masks of its private matrices, in order; what it drew for gates; shares of the dealer's results

In go the streams that an owner shares with the dealer; out come streams that give the same numbers and a `Draws`,
which says where each number stands. The owner, the dealer and the other owner keep such records of the same shapes, in
the same order, since all three follow one script. A section is what runs between two openings. A mask of a private
matrix may be used in later sections, until it is freed. All other numbers belong to the section in which they were
drawn.

The model owner's shares of the dealer's results are messages (corrections), which are kept until the section ends.
Whatever else an owner draws is not kept: it is read from its stream a second time. The order of the numbers has to
stay the same at all parties.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpc_appraisal.mpc.ring.packing import pieces_of, unpack, width
from mpc_appraisal.mpc.ring.pieces import Pieces
from mpc_appraisal.mpc.ring.prg import Stream

OCTET = 8
WHOLE = 64
PACKED = (40, 48)  # Numbers of so many bits are drawn in two pieces.
WORTH = 4  # A matrix saves n d k multiplications, and takes so many times n k + n d + d k at most.


@dataclass(frozen=True)
class Draw:
    """Numbers that were dealt together.

    Attributes:
        purpose: the purpose of the stream.
        shape: the shape of the numbers; of bits that are packed by eight, that of the octets.
        bits: each number is in [0, 2^bits).
        start: how many bytes of the stream come before.
        message: the correction that the numbers are; None where they are read from the stream.
        key: the dealer's key of a private matrix; None for other numbers.
        packed: whether these are bits, packed by eight, and no numbers.
    """

    purpose: str
    shape: tuple[int, ...]
    bits: int
    start: int = 0
    message: torch.Tensor | None = None
    key: int | None = None
    packed: bool = False

    @property
    def count(self) -> int:
        """Return how many numbers, or octets of packed bits, these are."""
        return math.prod(self.shape)

    def octets(self, key: bytes) -> np.ndarray:
        """Return packed bits, uint8 (count,), with the key that the owner shares with the dealer."""
        return self._bytes(key, 1).numpy()

    def numbers(self, key: bytes) -> np.ndarray:
        """Return the numbers, uint64 (count,), with the key that the owner shares with the dealer."""
        size = width(self.bits)
        if size == WHOLE // OCTET:
            words = (
                self.message if self.message is not None else Stream(key, self.purpose, self.start).ring((self.count,))
            )
            found = words.reshape(-1).numpy().view(np.uint64)
        else:
            found = unpack(self._bytes(key, size), (self.count,), size).numpy().view(np.uint64)
        return found if self.bits == OCTET * size else found & np.uint64((1 << self.bits) - 1)

    def matrix(self, key: bytes) -> np.ndarray | Pieces:
        """Return the numbers in their two dimensions, uint64; those of 40 or 48 bits stay in pieces."""
        if self.bits not in PACKED:
            return self.numbers(key).reshape(self.shape)
        size = width(self.bits)
        low, high = pieces_of(self._bytes(key, size).numpy(), self.count, size)
        return Pieces(low[0].reshape(self.shape), high[0].reshape(self.shape))

    def _bytes(self, key: bytes, size: int) -> torch.Tensor:
        if self.message is not None:
            return self.message.reshape(-1)
        return Stream(key, self.purpose, self.start).octets((math.prod(self.shape) * size,))


@dataclass(frozen=True)
class Dealt:
    """What messages of one owner in a section may depend on.

    Attributes:
        vector: The draws of numbers that are looked at one by one, in order.
        planes: The draws of packed bits, in order.
        matrices: The masks of private matrices that enter messages by products with thin matrices alone, in order, and
            whether the transposed mask has these products.
    """

    vector: tuple[Draw, ...]
    planes: tuple[Draw, ...]
    matrices: tuple[tuple[Draw, bool], ...]

    @property
    def length(self) -> int:
        """Return how many numbers the vector has."""
        return sum(draw.count for draw in self.vector)

    @property
    def octets(self) -> int:
        """Return how many octets of packed bits there are."""
        return sum(draw.count for draw in self.planes)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Return the shapes of the matrices."""
        return tuple((draw.shape[1], draw.shape[0]) if turned else draw.shape for draw, turned in self.matrices)


class Draws:
    """What was dealt to one owner since the last check, and the masks of its private matrices that are in use.

    Attributes:
        streams: the owner's streams, which enter what is drawn here.
        masks: the owner's masks by their keys, in order.
        others: the other owner's masks, of which only the shapes are known here.
    """

    def __init__(self, streams: dict[str, Any]):
        self.streams = {purpose: _Recorded(stream, purpose, self) for purpose, stream in streams.items()}
        self.masks: dict[int, Draw] = {}
        self.others: dict[int, Draw] = {}
        self._freed: set[int] = set()
        self._kept: set[int] = set()
        self._columns: dict[tuple[int, bool], int] = {}  # of what a mask, transposed or not, is multiplied by
        self._dense: set[int] = set()  # masks that enter more than products
        self._section: dict[str, list[Draw]] = {"triple": [], "share": []}

    def mask(self, key: int, own: bool, shape: Sequence[int], bits: int = WHOLE) -> None:
        """Enter the mask of a private matrix, which is drawn next where it is this owner's `own`."""
        if own:
            self.masks[key] = Draw("mask", tuple(shape), bits, self.streams["mask"].position, key=key)
        else:
            self.others[key] = Draw("mask", tuple(shape), bits, key=key)

    def settle(self, key: int, shape: Sequence[int], kept: bool = False) -> None:
        """Enter the masks of a result, of which each owner draws its own next.

        No later section uses them, unless they are `kept`.
        """
        self.mask(key, True, shape)
        self.mask(key, False, shape)
        (self._kept if kept else self._freed).add(key)

    def drop_kept(self) -> None:
        """Say that no later section uses the masks that were kept so far."""
        self._freed |= self._kept
        self._kept.clear()

    def free(self, key: int) -> None:
        """Say that no later section uses a mask."""
        self._freed.add(key)

    def correction(self, message: torch.Tensor, shape: Sequence[int], bits: int) -> None:
        """Enter a correction of the dealer, which is the model owner's share of a result; of 1 bit: packed bits."""
        self._section["share"].append(Draw("share", tuple(shape), bits, message=message, packed=bits == 1))

    def drawn(self, draw: Draw) -> None:
        """Enter numbers of a stream."""
        if draw.purpose in self._section:
            self._section[draw.purpose].append(draw)

    def product(self, left: int, right: int, turned: bool, rows: int, columns: int) -> None:
        """Enter a product X R, or X' R if `turned`, (rows, columns), of matrices by their masks' keys.

        `right` is no key of a mask where R is shared.
        """
        for key, transposed, count in ((left, turned, columns), (right, True, rows)):
            self._columns[key, transposed] = self._columns.get((key, transposed), 0) + count

    def dense(self, key: int) -> None:
        """Say that a mask enters messages of this section by more than products."""
        self._dense.add(key)

    def dealt(self, own: bool = True) -> Dealt:
        """Return what messages of this section may depend on: masks, draws for gates, and shares, each in order.

        With `own` false this is about the other owner's messages. Its shapes are right, and no numbers can be read.
        """
        masks = self.masks if own else self.others
        turns = {key: [turned for turned in (False, True) if (key, turned) in self._columns] for key in masks}
        thin = {key for key, draw in masks.items() if key not in self._dense and turns[key] and self._worth(key, draw)}
        vector = [draw for key, draw in masks.items() if key not in thin]
        matrices = [(draw, turned) for key, draw in masks.items() if key in thin for turned in turns[key]]
        gates = [*self._section["triple"], *self._section["share"]]
        planes = tuple(draw for draw in gates if draw.packed)
        return Dealt((*vector, *(draw for draw in gates if not draw.packed)), planes, tuple(matrices))

    def _worth(self, key: int, draw: Draw) -> bool:
        n, d = draw.shape
        k = min(self._columns[key, turned] for turned in (False, True) if (key, turned) in self._columns)
        return n * d * k > WORTH * (n * k + n * d + d * k)

    def close_section(self) -> None:
        """Begin the next section."""
        for key in self._freed:
            self.masks.pop(key, None)
            self.others.pop(key, None)
        for record in (self._freed, self._columns, self._dense):
            record.clear()
        for drawn in self._section.values():
            drawn.clear()


class _Recorded:
    """A stream that enters what it gives into the record of its owner."""

    def __init__(self, stream: Any, purpose: str, draws: Draws):
        self._stream, self._purpose, self._draws, self.position = stream, purpose, draws, 0

    def ring(self, shape: Sequence[int], size: int = 8, bits: int | None = None) -> torch.Tensor:
        self._draws.drawn(Draw(self._purpose, tuple(shape), OCTET * size if bits is None else bits, self.position))
        self.position += size * math.prod(shape)
        return self._stream.ring(shape, size, bits)

    def octets(self, shape: Sequence[int]) -> torch.Tensor:
        self._draws.drawn(Draw(self._purpose, tuple(shape), 1, self.position, packed=True))
        self.position += math.prod(shape)
        return self._stream.octets(shape)
