"""Powers of three in the ring, to the last bit the same on every machine.

3 is a unit mod 2^64, so 3^n is one for a negative n too: of additive shares of an exponent everybody can raise 3 to the
integer part of its own and multiply by a rounded power of the fraction, and the product of all is an exact integer.
(The idea of exponentiating shares locally is Kelkar et al., "Secure Poisson regression", USENIX Security 2022, there
modulo a prime.) Both owners multiply by one public power: they must compute it alike, hence in integers, from tables
that exact decimals give.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import torch

POINT = 40  # fractional bits of an exponent
LN3 = 1.0986122886681098
_TABLE = 10  # bits of a fraction that one table takes


@lru_cache(maxsize=4)
def _integer_powers(largest: int) -> torch.Tensor:
    """3^n mod 2^64 for -largest <= n <= largest."""
    modulus = 1 << 64
    value, row = pow(3, -largest, modulus), []
    for _ in range(2 * largest + 1):
        row.append(value - modulus if value >> 63 else value)
        value = 3 * value % modulus
    return torch.tensor(row, dtype=torch.int64)


@lru_cache(maxsize=4)
def _fractional_powers(offset: int) -> tuple[torch.Tensor, torch.Tensor]:
    """2^30 * 3^f for the first ten bits of f in [-1/2, 1/2), and for its next ten, in the middle of the rest.

    The first are stretched by 2^stretched(offset) / 3^offset.
    """
    with localcontext() as context:
        context.prec = 60
        size, unit = 1 << _TABLE, Decimal(1 << 30)
        stretch = Decimal(1 << stretched(offset)) / Decimal(3) ** offset
        coarse, fine = (Decimal(3) ** (Decimal(1) / n) for n in (size, size**2))
        high, low = [stretch * unit / Decimal(3).sqrt()], [unit * fine.sqrt()]
        for _ in range(size - 1):  # 60 digits lose four on the way
            high.append(high[-1] * coarse)
            low.append(low[-1] * fine)
        return tuple(torch.tensor([int(v.to_integral_value()) for v in values]) for values in (high, low))


def stretched(offset: int) -> int:
    """log2 of the power of two next above 3^offset."""
    return (3**offset - 1).bit_length()


def power_of_three(exponent: torch.Tensor, mantissa: int, offset: int = 0) -> torch.Tensor:
    """3^e * 2^(mantissa + stretched(offset)) mod 2^64, 3^(e + offset) being its integer part; e = exponent / 2^POINT.

    The fraction of e is in [-1/2, 1/2), so products of two powers have an integer part of e_1 + e_2 - 1 or more.
    Relative error up to 2^-mantissa and 2^-20.
    """
    if exponent.is_meta:
        return torch.empty_like(exponent)
    if not exponent.numel():
        return exponent
    shifted = exponent + (1 << (POINT - 1))
    whole = shifted >> POINT
    index = (shifted - (whole << POINT)) >> (POINT - 2 * _TABLE)
    high, low = _fractional_powers(offset)
    cut = 60 - mantissa
    part = (high[index >> _TABLE] * low[index & ((1 << _TABLE) - 1)] + (1 << (cut - 1))) >> cut
    largest = int(torch.maximum(whole.max(), -whole.min())) + offset
    largest = 1 << max(6, largest.bit_length())
    return _integer_powers(largest)[whole + (offset + largest)].mul_(part)
