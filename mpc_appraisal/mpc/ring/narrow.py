"""Private matrices in rings of fewer than 64 bits: how their masks are drawn, and how what is masked is sent.

In go a stream of random numbers, or integers and the width of a ring in bits; out come matrices whose numbers are right
in their low `bits` bits, and messages of bits / 8 bytes a number. A number of 32 bits is an int32, and any other an
int64, so that products wrap as the ring does; a whole matrix of 40 or 48 bits stays packed (see `PackedMatrix`). Owners
and dealer draw a mask alike, and the layout of a message is a format between the parties. Another width may be added
where it is a whole number of bytes: a mask then uses every bit that is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.mpc.ring.matrix import Matrix
from mpc_appraisal.mpc.ring.packed_matrix import PackedMatrix
from mpc_appraisal.mpc.ring.packing import mask_packed, pack, unpack, width

WIDTHS = (32, 40, 48)  # the widths of the rings, beside 64, that private matrices are masked in


def drawn(stream: Any, shape: Sequence[int], bits: int) -> torch.Tensor:
    """Return the next mask of a private matrix of `shape`, uniform mod 2^bits."""
    if bits != 32:
        return stream.ring(shape, width(bits))
    return received(stream.octets((math.prod(shape) * 4,)), shape, bits)


def masked(stream: Any, values: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the message for integers `values` less the next mask mod 2^bits, for a ring of fewer than 64 bits.

    The mask is replaced by the message where it is drawn, so that no larger matrix is in memory.
    """
    if bits != 32:
        return mask_packed(stream.octets((values.numel() * width(bits),)), values, width(bits))
    mask = drawn(stream, values.shape, bits)
    values = values.to(mask.dtype)
    return sent(values - mask if values.is_meta else torch.sub(values, mask, out=mask), bits)


def sent(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the message for a masked matrix: itself at 64 bits, else the low bits / 8 bytes of each number."""
    if bits == 64:
        return values
    if values.dtype == torch.int32 and not values.is_meta:
        return values.contiguous().view(torch.uint8).reshape(-1)
    return pack(values, width(bits))


def received(message: torch.Tensor, shape: Sequence[int], bits: int) -> torch.Tensor:
    """Return the matrix of `shape` whose message of a ring of fewer than 64 bits `sent` has made."""
    if bits != 32 or message.is_meta:
        return unpack(message, shape, width(bits))
    aligned = message if message.data_ptr() % 4 == 0 else message.clone()
    return aligned.view(torch.int32).reshape(tuple(shape))


def drawn_matrix(stream: Any, shape: Sequence[int], bits: int) -> Matrix:
    """Return the matrix of what `drawn` draws, for products; `bits` may be 64."""
    if bits == 64:
        return Matrix(stream.ring(shape))
    return received_matrix(stream.octets((math.prod(shape) * width(bits),)), shape, bits)


def received_matrix(message: torch.Tensor, shape: Sequence[int], bits: int) -> Matrix:
    """Return the matrix of what `received` reads, for products; at 40 and 48 bits the message itself is kept."""
    if bits == 32 or message.is_meta:
        return Matrix(received(message, shape, bits))
    return PackedMatrix(message, shape, width(bits))


def chosen(message: torch.Tensor, shape: Sequence[int], bits: int, indices: Sequence[int]) -> torch.Tensor:
    """Return the message of the rows with these indices, from the message of a matrix of `shape`; `bits` may be 64."""
    if bits == 64:
        return Matrix(message).rows(indices).values
    rows = received_matrix(message, shape, bits).rows(indices)
    return rows.message if isinstance(rows, PackedMatrix) else sent(rows.values, bits)
