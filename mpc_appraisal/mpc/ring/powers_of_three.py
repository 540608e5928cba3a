"""Powers of three modulo 2^64, for exponentials of shared exponents; they are the same to the last bit everywhere.

3 is invertible modulo 2^64, so 3^n is a ring element for negative n too. If an exponent is shared additively, each
party raises 3 to the integer part of its share and multiplies by a rounded power of the fraction, and the product over
the parties is an exact integer. In go exponents with POINT fractional bits; out come ring elements.

The tables may be made in another way, as long as every machine gets the same integers: both owners multiply by one
public power, and a difference in its last bit would make their shares disagree. So the tables come from exact decimals,
and all else is computed in integers. Source of the idea: Kelkar et al., "Secure Poisson regression", USENIX Security
2022, there modulo a prime.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache
from types import ModuleType

import torch

from mpc_appraisal.mpc.ring.kernels import loops

POINT = 40  # An exponent has so many fractional bits.
LN3 = 1.0986122886681098
_TABLE = 10  # So many bits of a fraction index one table.


@lru_cache(maxsize=4)
def _integer_powers(largest: int) -> torch.Tensor:
    """Return 3^n mod 2^64 for -largest <= n <= largest, as int64 (2 * largest + 1,)."""
    modulus = 1 << 64
    value, row = pow(3, -largest, modulus), []
    for _ in range(2 * largest + 1):
        row.append(value - modulus if value >> 63 else value)
        value = 3 * value % modulus
    return torch.tensor(row, dtype=torch.int64)


@lru_cache(maxsize=4)
def _fractional_powers(offset: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tables of 2^30 * 3^f for the first ten bits of f in [-1/2, 1/2), and for its next ten bits.

    The entries of the second table are for the middle of the remaining bits. The entries of the first table are
    multiplied by 2^stretched(offset) / 3^offset.
    """
    with localcontext() as context:
        context.prec = 60
        size, unit = 1 << _TABLE, Decimal(1 << 30)
        stretch = Decimal(1 << stretched(offset)) / Decimal(3) ** offset
        coarse, fine = (Decimal(3) ** (Decimal(1) / n) for n in (size, size**2))
        high, low = [stretch * unit / Decimal(3).sqrt()], [unit * fine.sqrt()]
        for _ in range(size - 1):  # four of the 60 digits are lost in the loop
            high.append(high[-1] * coarse)
            low.append(low[-1] * fine)
        return tuple(torch.tensor([int(v.to_integral_value()) for v in values]) for values in (high, low))


def stretched(offset: int) -> int:
    """Return log2 of the smallest power of two that is at least 3^offset, for a whole `offset` of 0 or more."""
    return (3**offset - 1).bit_length()


def power_of_three(base: torch.Tensor, mantissa: int, offset: int = 0, rate: int = 1) -> torch.Tensor:
    """Return 3^e * 2^(mantissa + stretched(offset)) mod 2^64, with e = base * rate / 2^POINT.

    The integer part of e is raised exactly, as 3^(e + offset). Its fraction is in [-1/2, 1/2), so the integer part of a
    product of two powers is at least e_1 + e_2 - 1. The relative error is at most 2^-mantissa + 2^-20.

    Args:
        base: int64 of any shape; base * rate, which has `POINT` fractional bits, has to be within 2^63.
        mantissa: The number of bits of the rounded power of the fraction.
        offset: What is added to the integer part of e, and taken out again by the factor of the fraction. With a large
            enough offset, the powers of all parties together raise 3 to an integer of 0 or more.
        rate: A public integer.
    """
    if base.is_meta:
        return torch.empty_like(base)
    if not base.numel():
        return base
    compiled = loops(base.numel())
    if compiled is not None:
        return _compiled_powers(compiled, base, mantissa, offset, rate)
    exponent = base * rate if rate != 1 else base
    shifted = exponent + (1 << (POINT - 1))
    whole = shifted >> POINT
    index = (shifted - (whole << POINT)) >> (POINT - 2 * _TABLE)
    high, low = _fractional_powers(offset)
    cut = 60 - mantissa
    fraction = (high[index >> _TABLE] * low[index & ((1 << _TABLE) - 1)] + (1 << (cut - 1))) >> cut
    largest = _table_size(int(torch.maximum(whole.max(), -whole.min())) + offset)
    return _integer_powers(largest)[whole + (offset + largest)].mul_(fraction)


def _table_size(largest: int) -> int:
    """Return the size of the table of integer powers that reaches `largest`."""
    return 1 << max(6, largest.bit_length())


def _compiled_powers(compiled: ModuleType, base: torch.Tensor, mantissa: int, offset: int, rate: int) -> torch.Tensor:
    out, largest = torch.empty(base.shape, dtype=torch.int64), _table_size(0)
    high, low = (table.numpy() for table in _fractional_powers(offset))
    while True:
        table = _integer_powers(largest).numpy()
        needed = compiled.power_of_three(
            base.contiguous().numpy().reshape(-1), rate, mantissa, offset, table, high, low, out.numpy().reshape(-1)
        )
        if needed <= largest:
            return out
        largest = _table_size(needed)
