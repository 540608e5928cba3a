"""Loops over matrices of whole numbers that numba compiles: combinations of rows mod p, and digits of numbers.

`prime_field.Field.combined` states the formula of a combination, and `integrity.exact_product` that of digits; both
have the plain code. Numbers are uint64, or the two pieces of `pieces`. Sums of products are kept as the sums of their
lower and upper 32 bits. A loop may be added, with plain code that gives the same numbers.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from mpc_appraisal.mpc.ring.compiled import loop

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ROWS, COLUMNS = 16, 128  # So many rows and columns of a matrix are combined at once.
inlined = nb.njit(inline="always")


@inlined
def _term(low, high, e, f):
    """Return e low + f high, which is below 2^64 for e, f < 2^31 and halves of 32 bits."""
    return np.uint64(e) * low + np.uint64(f) * high


@loop
def combined_rows(values, flip, e, f, low, high):
    """Add sum_i e_i values[i] to low + 2^32 high (4, d); values (n, d) are uint64, e and f = 2^32 e are (4, n) mod p.

    The bit of `flip` is changed in every value first. A block of values stays in the processor's cache for all four
    coordinates. A loop writes to two arrays only, since LLVM makes no vectors where it has to compare more addresses.
    """
    n, d = values.shape
    for left in range(0, d, COLUMNS):
        right = min(d, left + COLUMNS)
        for top in range(0, n, ROWS):
            end = min(n, top + ROWS)
            whole = top + (end - top) // 2 * 2
            for c in range(4):
                lows, highs = low[c, left:right], high[c, left:right]
                for i in range(top, whole, 2):
                    first, second = values[i, left:right], values[i + 1, left:right]
                    e0, f0, e1, f1 = e[c, i], f[c, i], e[c, i + 1], f[c, i + 1]
                    for j in range(right - left):
                        v, w = first[j] ^ flip, second[j] ^ flip
                        s, t = _term(v & LOW, v >> HALF, e0, f0), _term(w & LOW, w >> HALF, e1, f1)
                        lows[j] += (s & LOW) + (t & LOW)
                        highs[j] += (s >> HALF) + (t >> HALF)
                for i in range(whole, end):
                    for j in range(right - left):
                        v = values[i, left + j] ^ flip
                        s = _term(v & LOW, v >> HALF, e[c, i], f[c, i])
                        lows[j] += s & LOW
                        highs[j] += s >> HALF


@loop
def combined_columns(values, flip, e, f, low, high):
    """Add sum_j e_j values[:, j] to low + 2^32 high (4, n), where e and f are (4, d), as in `combined_rows`."""
    e0, e1, e2, e3, f0, f1, f2, f3 = e[0], e[1], e[2], e[3], f[0], f[1], f[2], f[3]
    zero = np.uint64(0)
    for i in range(values.shape[0]):
        row = values[i]
        l0, l1, l2, l3, h0, h1, h2, h3 = zero, zero, zero, zero, zero, zero, zero, zero
        for j in range(values.shape[1]):
            v = row[j] ^ flip
            a, b = v & LOW, v >> HALF
            s = _term(a, b, e0[j], f0[j])
            l0 += s & LOW
            h0 += s >> HALF
            s = _term(a, b, e1[j], f1[j])
            l1 += s & LOW
            h1 += s >> HALF
            s = _term(a, b, e2[j], f2[j])
            l2 += s & LOW
            h2 += s >> HALF
            s = _term(a, b, e3[j], f3[j])
            l3 += s & LOW
            h3 += s >> HALF
        low[0, i] += l0
        low[1, i] += l1
        low[2, i] += l2
        low[3, i] += l3
        high[0, i] += h0
        high[1, i] += h1
        high[2, i] += h2
        high[3, i] += h3


@loop
def packed_combined_rows(values, upper, e, f, low, high):
    """Do what `combined_rows` does for the numbers values + 2^32 upper, of uint32 and of fewer bits."""
    n, d = values.shape
    for left in range(0, d, COLUMNS):
        right = min(d, left + COLUMNS)
        for top in range(0, n, ROWS):
            end = min(n, top + ROWS)
            whole = top + (end - top) // 2 * 2
            for c in range(4):
                lows, highs = low[c, left:right], high[c, left:right]
                for i in range(top, whole, 2):
                    first, second = values[i, left:right], values[i + 1, left:right]
                    third, fourth = upper[i, left:right], upper[i + 1, left:right]
                    e0, f0, e1, f1 = e[c, i], f[c, i], e[c, i + 1], f[c, i + 1]
                    for j in range(right - left):
                        s = _term(np.uint64(first[j]), np.uint64(third[j]), e0, f0)
                        t = _term(np.uint64(second[j]), np.uint64(fourth[j]), e1, f1)
                        lows[j] += (s & LOW) + (t & LOW)
                        highs[j] += (s >> HALF) + (t >> HALF)
                for i in range(whole, end):
                    for j in range(right - left):
                        s = _term(np.uint64(values[i, left + j]), np.uint64(upper[i, left + j]), e[c, i], f[c, i])
                        lows[j] += s & LOW
                        highs[j] += s >> HALF


@loop
def packed_combined_columns(values, upper, e, f, low, high):
    """Do what `combined_columns` does for the numbers values + 2^32 upper, of uint32 and of fewer bits."""
    zero = np.uint64(0)
    for i in range(values.shape[0]):
        row, more = values[i], upper[i]
        for c in range(4):
            ec, fc, l0, h0 = e[c], f[c], zero, zero
            for j in range(values.shape[1]):
                s = _term(np.uint64(row[j]), np.uint64(more[j]), ec[j], fc[j])
                l0 += s & LOW
                h0 += s >> HALF
            low[c, i] += l0
            high[c, i] += h0


# -- digits --------------------------------------------------------------------------------------------------------
@loop
def digits(values, width, carries, out):
    """Write the digits of `width` bits of values (n, d) to out (count, n, d) of float64, the lowest first.

    The digits of uint64 are from 0 to 2^width - 1. With carries, the values are int64, and the digits are signed: a
    digit of at least 2^(width - 1) is lowered by 2^width, and the next one is raised by 1.
    """
    n, d = values.shape
    rest = np.empty(d, values.dtype)
    one = values.dtype.type(1)
    w = values.dtype.type(width)
    low, half = (one << w) - one, w - one
    for i in range(n):
        rest[:] = values[i]
        for k in range(out.shape[0]):
            found = out[k, i]
            if carries:
                for j in range(d):
                    digit = rest[j] & low
                    carry = digit >> half
                    found[j] = np.int32(digit - (carry << w))
                    rest[j] = (rest[j] >> w) + carry
            else:
                for j in range(d):
                    found[j] = np.int32(rest[j] & low)
                    rest[j] = rest[j] >> w
