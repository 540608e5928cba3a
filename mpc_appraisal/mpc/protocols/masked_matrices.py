"""What an owner keeps of a private matrix that has been masked, and of a result that is ready to be shown.

    sent = clear - mask mod 2^bits          the owner knows the three, the other owner `sent`, the dealer the mask

`Engine.mask` makes a `Masked`, once for all the products that the matrix enters, and `Engine.settle` makes a `Settled`.
The fields may change together with the engine's operations alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mpc_appraisal.mpc.ring import narrow
from mpc_appraisal.mpc.ring.matrix import Matrix


class Masked:
    """A private matrix that has been masked, once for all the products that it enters.

    Attributes:
        key: the number by which the dealer knows the mask.
        owner: the rank of the owner that knows the matrix.
        bits: the width of the ring that the matrix is masked in, a multiple of 8.
        clear: the matrix; None at the other owner.
        message: what the owner has sent, clear - mask mod 2^bits as `narrow` packs it; None at the other owner.
        sent: the same as a matrix. Below 64 bits the numbers are right in their low `bits` bits alone, here and in
            `mask` and `difference`.
        difference: the same, at the other owner, where it stays packed below 64 bits; None at the owner of the matrix.
    """

    def __init__(self, key: int, owner: int, bits: int = 64):
        self.key, self.owner, self.bits = key, owner, bits
        self.clear: Matrix | None = None
        self.message: torch.Tensor | None = None
        self.difference: Matrix | None = None
        self._mask: Matrix | None = None

    @property
    def sent(self) -> torch.Tensor | None:
        """Return what the owner has sent, as a matrix; None at the other owner."""
        if self.bits == 64 or self.message is None:
            return self.message
        return narrow.received(self.message, self.clear.shape, self.bits)

    @property
    def mask(self) -> Matrix | None:
        """Return the mask, a random matrix of the same shape; None at the other owner.

        The owner of a left factor never needs it, so that it is made of what was sent when it is asked for.
        """
        if self._mask is None and self.message is not None:
            sent = self.sent
            self._mask = Matrix(self.clear.values.to(sent.dtype) - sent)
        return self._mask

    def rows(self, key: int, indices: Sequence[int]) -> Masked:
        """Return the rows with these indices, known to the dealer by `key`."""
        selected = Masked(key, self.owner, self.bits)
        if self.clear is not None:
            selected.clear = self.clear.rows(indices)
            selected.message = narrow.chosen(self.message, self.clear.shape, self.bits, indices)
        if self.difference is not None:
            selected.difference = self.difference.rows(indices)
        return selected

    @property
    def public(self) -> Matrix:
        """Return what the owner has sent, clear - mask, for products; both owners know it."""
        if self.difference is not None:
            return self.difference
        if self.bits == 64:
            return Matrix(self.message.reshape(self.clear.shape))
        return narrow.received_matrix(self.message, self.clear.shape, self.bits)

    def drop(self) -> None:
        """Forget the matrix and its mask here."""
        self.clear = self.message = self.difference = self._mask = None

    @property
    def shape(self) -> torch.Size:
        """Return the shape of the matrix, which both owners know."""
        return (self.clear or self.difference).shape


@dataclass(frozen=True)
class Settled:
    """A result that is ready to be shown to owners.

    Attributes:
        key: the number by which the dealer knows the two owners' masks.
        mask: this owner's mask r.
        mine, theirs: share - r, of this owner and of the other one.
    """

    key: int
    mask: torch.Tensor
    mine: torch.Tensor
    theirs: torch.Tensor
