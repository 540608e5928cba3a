"""Fixed point: a real v is the ring element round(v * 2^16) mod 2^64.

CrypTen's own encoder truncates, takes NaN, infinity and overflow silently, and decodes some small negatives wrong by
exactly 1.0; so values are encoded and decoded here, in float64, exactly.
"""

from __future__ import annotations

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.ring.buffers import empty

PRECISION_BITS = 16
_BLOCK = 1 << 16
# A product of two encoded values carries 32 fractional bits in a signed 64-bit ring, which leaves 31 bits for the sum
# of a row's products: inputs up to 2^15 leave room for 2^16 of them against a weight of one.
MAX_ABS = 2.0**15


def check_range(values: torch.Tensor, name: str, limit: float = MAX_ABS) -> None:
    """Refuse values that fixed point cannot hold.

    Args:
        values: any shape, floating point.
        name: how the user calls them; stands in the error.
        limit: the largest absolute value that is accepted.

    Raises:
        InputError: a value is NaN, infinite or larger than `limit` in absolute value.
    """
    if values.numel() == 0:
        raise InputError(name, f"shape {tuple(values.shape)}", "at least one value")
    low, high = values.min().item(), values.max().item()
    if not (abs(low) < float("inf") and abs(high) < float("inf")):  # false for NaN too: min and max propagate it
        bad = int((~torch.isfinite(values)).sum())
        raise InputError(name, f"{bad} values that are NaN or infinite", "finite numbers")
    worst = max(abs(low), abs(high))
    if worst > limit:
        raise InputError(name, f"a value of {worst:g}", f"absolute values of at most {limit:g} (fixed-point range)")


def encode(values: torch.Tensor, name: str, bits: int = PRECISION_BITS) -> torch.Tensor:
    """Ring elements (int64, same shape) of real `values` with `bits` fractional bits, rounded to nearest."""
    check_range(values, name)
    flat = values.reshape(-1)
    ring, real = empty(flat.shape), torch.empty(min(_BLOCK, flat.numel()), dtype=torch.float64)
    for start in range(0, flat.numel(), _BLOCK):  # blocks that stay in the cache
        part = flat[start : start + _BLOCK]
        ring[start : start + _BLOCK] = real[: len(part)].copy_(part).mul_(2.0**bits).round_()
    return ring.reshape(values.shape)


def decode(ring: torch.Tensor, bits: int = PRECISION_BITS) -> torch.Tensor:
    """Reals (float64) of signed ring elements with `bits` fractional bits; exact below 2^53."""
    return ring.to(torch.float64) / 2.0**bits
