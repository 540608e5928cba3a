"""Fixed point: a real v is encoded as the ring element round(v * 2^16) mod 2^64.

A ring element is an integer mod 2^64, stored as int64; 16 is the usual number of fractional bits, and callers may state
another. In go real tensors, and out come ring elements (`encode`), or the reverse (`decode`), in float64 and exactly.
CrypTen's encoder is not used, because it truncates, accepts NaN, infinity and overflow silently, and decodes some small
negative numbers wrong by exactly 1.0.

PRECISION_BITS and MAX_ABS have to stay: the protocols derive from them which sums fit the ring.
"""

from __future__ import annotations

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.ring.buffers import empty
from mpc_appraisal.mpc.ring.kernels import loops

PRECISION_BITS = 16
_BLOCK = 1 << 16  # so many numbers are encoded at once, which stay in the processor's cache
# A product of two encoded values has 32 fractional bits in a signed 64-bit ring, which leaves 31 bits for the sum of
# the products of a row. With inputs up to 2^15 that is enough for 2^16 products with a weight of one.
MAX_ABS = 2.0**15


def check_range(values: torch.Tensor, name: str, limit: float = MAX_ABS) -> None:
    """Raise InputError for values that fixed point cannot represent.

    Args:
        values: Floating-point numbers, of any shape.
        name: The user's name for the values, for the error message.
        limit: The largest absolute value that is accepted.

    Raises:
        InputError: A value is NaN, infinite or larger than `limit` in absolute value, or there is no value.
    """
    if values.numel() == 0:
        raise InputError(name, f"shape {tuple(values.shape)}", "at least one value")
    low, high = values.min().item(), values.max().item()
    if not (abs(low) < float("inf") and abs(high) < float("inf")):  # false for NaN too, which min and max return
        bad = int((~torch.isfinite(values)).sum())
        raise InputError(name, f"{bad} values that are NaN or infinite", "finite numbers")
    worst = max(abs(low), abs(high))
    if worst > limit:
        expected = f"absolute values of at most {limit:g} (fixed-point range): standardise features, divide a target"
        raise InputError(name, f"a value of {worst:g}", expected)


def encode(values: torch.Tensor, name: str, bits: int = PRECISION_BITS, narrow: bool = False) -> torch.Tensor:
    """Return ring elements (int64, same shape) of real `values`, rounded to nearest with `bits` fractional bits.

    If `narrow`, the elements may be int32, where they fit and compiled loops are used.

    Raises InputError, which calls the values `name`, for values that `check_range` refuses.
    """
    ring = _encoded(values, bits, narrow)
    if ring is not None:
        return ring
    check_range(values, name)
    flat = values.reshape(-1)
    ring, real = empty(flat.shape), torch.empty(min(_BLOCK, flat.numel()), dtype=torch.float64)
    for start in range(0, flat.numel(), _BLOCK):
        block = flat[start : start + _BLOCK]
        ring[start : start + _BLOCK] = real[: len(block)].copy_(block).mul_(2.0**bits).round_()
    return ring.reshape(values.shape)


def _encoded(values: torch.Tensor, bits: int, narrow: bool) -> torch.Tensor | None:
    """Return the ring elements by a compiled loop; None where the loop is not used, or a value is out of range."""
    known = values.dtype in (torch.float32, torch.float64) and values.numel() > 0
    compiled = loops(values.numel()) if known else None
    if compiled is None:
        return None
    numbers, scale = values.contiguous().numpy().reshape(-1), 2.0**bits
    for kind in (torch.int32, torch.int64) if narrow and bits <= PRECISION_BITS else (torch.int64,):
        ring = empty(values.shape, kind)
        low, high = compiled.encode(numbers, scale, ring.numpy().reshape(-1))
        if not (low >= -MAX_ABS and high <= MAX_ABS):  # true for NaN
            return None
        if kind == torch.int64 or high * scale < 2.0**31 - 1:
            return ring
    return None


def decode(ring: torch.Tensor, bits: int = PRECISION_BITS) -> torch.Tensor:
    """Return the reals (float64) of signed ring elements with `bits` fractional bits; elements below 2^53 are exact."""
    return ring.to(torch.float64) / 2.0**bits
