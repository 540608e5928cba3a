"""Cosines and sines as integers that every machine computes alike, for public factors of shared numbers.

    COSINE + i SINE of the angle t / 2^24 of a circle  =  (entry t >> 12 of a table) (entry t mod 2^12 of another)

In go phases t, int64; out come pairs of integers, right within 3 units of 2^-30. Both owners multiply their shares by
such factors, so that a difference in the last bit would make their shares disagree: the tables come from exact
decimals, and all else is computed in integers. `weighted` is one pass of a compiled loop, or a few operations of torch,
with the same result (tests/mpc/test_harmonics.py compares them).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch

from mpc_appraisal.mpc.ring.kernels import loops
from mpc_appraisal.mpc.ring.packing import flat

PHASE_BITS = 24  # A circle has 2^PHASE_BITS phases.
UNIT_BITS = 30  # The number 1 is 2^UNIT_BITS in a cosine or a sine.
WAVE_BITS, WAVE_RING = 27, 56  # A shared cosine has so many fractional bits, and is shared mod 2^WAVE_RING.
MAX_HARMONICS = 64
FACTOR_ERROR = 3.0 * 2.0**-UNIT_BITS  # A cosine or a sine is off by at most this.
_TABLE = PHASE_BITS // 2
_FINE = 120  # The tables are computed with so many fractional bits.
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def circle_point(angle: Decimal) -> tuple[Decimal, Decimal]:
    """Return the cosine and the sine of an angle of at most 2 pi, to the digits of the decimal context less four."""
    cosine, sine, term, k = Decimal(1), Decimal(0), Decimal(1), 0
    while k < 4 or abs(term) > Decimal(10) ** -58:
        k += 1
        term = term * angle / k
        if k % 2:
            sine += term if k % 4 == 1 else -term
        else:
            cosine += term if k % 4 == 0 else -term
    return cosine, sine


@lru_cache(maxsize=1)
def tables() -> np.ndarray:
    """Return cosines and sines of the multiples of 2^-12 of a circle, then those of 2^-24, int64 (4, 2^12)."""
    size, rows, fine = 1 << _TABLE, [], 1 << _FINE
    half = 1 << (_FINE - UNIT_BITS - 1)
    with localcontext() as context:
        context.prec = 60
        turns = [circle_point(2 * PI / size**power) for power in (1, 2)]
        turns = [[int((part * fine).to_integral_value()) for part in turn] for turn in turns]
    for across, up in turns:
        c, s, cosines, sines = fine, 0, [], []
        for _ in range(size):  # some 13 of the 120 bits are lost in the loop
            cosines.append((c + half) >> (_FINE - UNIT_BITS))
            sines.append((s + half) >> (_FINE - UNIT_BITS))
            c, s = (c * across - s * up) >> _FINE, (s * across + c * up) >> _FINE
        rows += [cosines, sines]
    return np.array(rows, dtype=np.int64)


def mask_waves(mask: torch.Tensor, bits: int, count: int, unit_bits: int) -> torch.Tensor:
    """Return the rounded cosines and sines of k times the angle of `mask`, for k = 1 ... count, (2 count, elements).

    The mask has 2^bits numbers to a circle, and 1 is 2^unit_bits. The dealer alone computes this, in float64.
    """
    turn = np.exp(2j * np.pi / 2.0**bits * mask.numpy().reshape(-1).astype(np.float64))
    out, point = np.empty((2 * count, len(turn)), np.int64), np.full(len(turn), 2.0**unit_bits, np.complex128)
    for k in range(count):
        point = point * turn
        out[2 * k], out[2 * k + 1] = np.rint(point.real), np.rint(point.imag)
    return torch.from_numpy(out)


def weighted(
    delta: torch.Tensor, bits: int, cosines: Sequence[int], sines: Sequence[int], words: torch.Tensor
) -> torch.Tensor:
    """Return the sum over k = 1, 2, ... of f_k words[2k - 2] + g_k words[2k - 1] mod 2^64, of delta's shape.

        f_k = a_k cos(k t) + b_k sin(k t),    g_k = a_k sin(k t) - b_k cos(k t),    t = delta / 2^bits of a circle

    Args:
        delta: public numbers, int64 of any shape.
        bits: log2 of the numbers in one circle, at most PHASE_BITS.
        cosines, sines: the integers a_k and b_k, with |a_k| + |b_k| below 2^32.
        words: int64 (2 K, number of elements of delta), for K integers a_k.
    """
    if delta.is_meta:
        return torch.empty_like(delta)
    a, b = (np.array(v, dtype=np.int64) for v in (cosines, sines))
    compiled = None if words.is_meta else loops(words.numel())  # A linear form has no numbers.
    if compiled is not None:
        out = np.empty(delta.numel(), np.int64)
        compiled.weighted(flat(delta.contiguous()), PHASE_BITS - bits, a, b, tables(), words.contiguous().numpy(), out)
        return torch.from_numpy(out).reshape(delta.shape)
    table, ones = torch.from_numpy(tables()), (1 << _TABLE) - 1
    total = torch.zeros(delta.numel(), dtype=torch.int64)
    for k in range(len(a)):
        phase = ((delta.reshape(-1) * (k + 1)) << (PHASE_BITS - bits)) & ((1 << PHASE_BITS) - 1)
        high, low = phase >> _TABLE, phase & ones
        c_high, s_high, c_low, s_low = table[0][high], table[1][high], table[2][low], table[3][low]
        c, s = (c_high * c_low - s_high * s_low) >> UNIT_BITS, (s_high * c_low + c_high * s_low) >> UNIT_BITS
        total = total + ((int(a[k]) * c + int(b[k]) * s) >> UNIT_BITS) * words[2 * k]
        total = total + ((int(a[k]) * s - int(b[k]) * c) >> UNIT_BITS) * words[2 * k + 1]
    return total.reshape(delta.shape)
