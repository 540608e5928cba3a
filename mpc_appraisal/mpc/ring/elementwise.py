"""Steps on opened values, element by element: each is one pass of a compiled loop, or a few operations of torch.

In go int64 tensors, and out come new ones, equal to the last bit in both ways. The functions serve `protocols.masked`
and `protocols.softmax`, which explain the formulas; here is their arithmetic alone. Tensors of a dry run, which have no
values, go to torch. A step may be added; its two ways have to give the same integers (tests/mpc/test_kernels.py).
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch

from mpc_appraisal.mpc.ring.kernels import loops
from mpc_appraisal.mpc.ring.packing import flat


def _compiled(*values: torch.Tensor) -> ModuleType | None:
    """Return the compiled loops if they are to run on `values`, all int64 of the first one's shape, else None."""
    shape = values[0].shape
    for v in values:
        if v.is_meta or v.dtype != torch.int64 or v.shape != shape:
            return None
    return loops(shape.numel())


def _new(like: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """Return a new array of as many numbers as `like` has, and the same memory as a tensor of its shape."""
    out = np.empty(like.shape, np.int64)
    return out.reshape(-1), torch.from_numpy(out)


def masked_share(share: torch.Tensor, up: int, drop: int, more: int, mask: torch.Tensor) -> torch.Tensor:
    """Return ((share + up) >> drop) + more + mask."""
    compiled = _compiled(share, mask)
    if compiled is None:
        return ((share + up >> drop) if drop else share) + more + mask
    numbers, out = _new(share)
    compiled.masked_share(flat(share), up, drop, more, flat(mask), numbers)
    return out


def opened(mine: torch.Tensor, theirs: torch.Tensor, bits: int, low: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mine + theirs mod 2^bits) - low, and 1 where the top bit of the sum is 0 and 0 elsewhere."""
    compiled = _compiled(mine, theirs)
    if compiled is None:
        total = mine + theirs
        if bits < 64:
            total = total & ((1 << bits) - 1)
        return total - low, 1 - ((total >> (bits - 1)) & 1)
    (delta, d), (wrapped, w) = _new(mine), _new(mine)
    ones = (1 << bits) - 1 if bits < 64 else -1
    compiled.opened(flat(mine), flat(theirs), ones, bits - 1, low, delta, wrapped)
    return d, w


def widened(
    mask: torch.Tensor, bits: int, carry: torch.Tensor, wrapped: torch.Tensor, top: torch.Tensor
) -> torch.Tensor:
    """Return (mask mod 2^bits) - ((carry + wrapped * top) << bits), for `bits` below 64."""
    compiled, ones = _compiled(mask, carry, wrapped, top), (1 << bits) - 1
    if compiled is None:
        return (mask & ones) - ((carry + wrapped * top) << bits)
    numbers, out = _new(mask)
    compiled.widened(flat(mask), ones, flat(carry), flat(wrapped), flat(top), bits, numbers)
    return out


def squared(shared: torch.Tensor, delta: torch.Tensor, mask: torch.Tensor, first: bool) -> torch.Tensor:
    """Return shared - 2 delta mask, plus delta^2 if `first`."""
    compiled = _compiled(shared, delta, mask)
    if compiled is None:
        out = shared - 2 * delta * mask
        return out + delta * delta if first else out
    numbers, out = _new(shared)
    compiled.squared(flat(shared), flat(delta), flat(mask), first, numbers)
    return out


def crossed(
    shared: torch.Tensor,
    a: tuple[torch.Tensor, torch.Tensor],
    b: tuple[torch.Tensor, torch.Tensor],
    first: bool,
) -> torch.Tensor:
    """Return shared - delta_a mask_b - delta_b mask_a, broadcast, plus delta_a delta_b if `first`.

    a and b are pairs of delta and mask.
    """
    if a[0].numel() < b[0].numel():
        a, b = b, a
    (delta_a, mask_a), (delta_b, mask_b) = a, b
    columns = _columns(delta_a.shape, delta_b.shape)
    compiled = _compiled(delta_a, mask_a, shared) if columns and _compiled(delta_b, mask_b) else None
    if compiled is None:
        out = shared - delta_a * mask_b - delta_b * mask_a
        return out + delta_a * delta_b if first else out
    numbers, out = _new(shared)
    by_rows = (-1, columns)
    compiled.crossed(
        flat(shared).reshape(by_rows), flat(delta_a).reshape(by_rows), flat(mask_a).reshape(by_rows),
        flat(delta_b), flat(mask_b), first, numbers.reshape(by_rows),
    )  # fmt: skip
    return out


def _columns(large: torch.Size, small: torch.Size) -> int:
    """Return how many numbers of the larger of two shapes meet one of the smaller; 0 where a loop has no such pair."""
    if large == small:
        return 1
    rows_alike = len(large) == len(small) == 2 and large[0] == small[0] and small[1] == 1
    return large[1] if rows_alike else 0


def add_where(out: torch.Tensor, wrapped: torch.Tensor, more: torch.Tensor, bits: int) -> torch.Tensor:
    """Return out + ((wrapped * more) << bits), in the memory of `out`, for `wrapped` of out's shape or (n, 1)."""
    columns = _columns(out.shape, wrapped.shape)
    compiled = _compiled(out, more) if columns and _compiled(wrapped) else None
    compiled = compiled if compiled is None or out.is_contiguous() else None
    if compiled is None:
        out += (wrapped * more) << bits
        return out
    by_rows = (-1, columns)
    compiled.add_where(flat(wrapped), flat(more).reshape(by_rows), bits, flat(out).reshape(by_rows))
    return out


def opening_mask(a: torch.Tensor, b: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mask (a + b mod 2^bits, of a and b mod 2^bits), its top bit, and the carry of the sum; bits < 64."""
    compiled = _compiled(a, b)
    if compiled is None:
        ones = (1 << bits) - 1
        total = (a & ones) + (b & ones)  # A carry into the sign bit is shifted out as one below.
        mask = total & ones
        return mask, mask >> (bits - 1), (total >> bits) & 1
    (mask, m), (top, t), (carry, c) = _new(a), _new(a), _new(a)
    compiled.opening_mask(flat(a), flat(b), bits, mask, top, carry)
    return m, t, c


def exponentials(plain: torch.Tensor, wrapped: torch.Tensor, more: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Return (plain + wrapped * more) * power."""
    compiled = _compiled(plain, wrapped, more, power)
    if compiled is None:
        return (plain + wrapped * more) * power
    numbers, out = _new(plain)
    compiled.exponentials(flat(plain), flat(wrapped), flat(more), flat(power), numbers)
    return out
