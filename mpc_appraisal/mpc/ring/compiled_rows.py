"""Loops over matrices of whole numbers that numba compiles: combinations of rows mod p, products, digits of numbers.

`prime_field.Field.combined` states the formula of a combination, `integrity.residues` that of products mod p, and
`integrity.exact_product` that of digits; all have the plain code. Numbers are uint64, or the two pieces of `pieces`.
Sums of the products in a combination are kept as the sums of their lower and upper 32 bits. A loop may be added, with
plain code that gives the same numbers.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from mpc_appraisal.mpc.ring.compiled import loop

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ROWS, COLUMNS = 16, 128  # So many rows and columns of a matrix are combined at once.
PART = 21  # A matrix is multiplied mod p in digits of so many bits,
TERMS = 1 << 12  # so that 64 bits hold a sum of so many products of a digit and a number below 2^31.
BESIDE = 4  # Digits of so many rows are added to sums at once.
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


# -- products mod p ------------------------------------------------------------------------------------------------
@loop
def _two_digits(values, upper, lowest, shift, low, high):
    """Write two digits of (values + 2^32 upper - lowest) >> shift; `upper` may be empty."""
    s, part, ones = np.uint64(shift), np.uint64(PART), np.uint64((1 << PART) - 1)
    if len(upper):
        for q in range(len(values)):
            v = ((np.uint64(values[q]) | np.uint64(upper[q]) << HALF) - lowest) >> s
            low[q] = v & ones
            high[q] = (v >> part) & ones
    else:
        for q in range(len(values)):
            v = (np.uint64(values[q]) - lowest) >> s
            low[q] = v & ones
            high[q] = (v >> part) & ones


@inlined
def _more(total, low, high, step, power, p):
    """Return total + power (low + step high) mod p."""
    return (total + (low % p + high % p * step % p) * power) % p


@loop
def times_mod(values, upper, lowest, pairs, w, p, out):
    """Write (values - lowest) @ w' mod p to out (n, k), for int64 values (n, d) and uint64 numbers w (k, d) mod p.

    Where `upper` is no (1, 0) array but (n, d), the matrix is values + 2^32 upper. Less `lowest` it is from 0 to
    2^(2 PART pairs) - 1. Two digits and five columns are summed at a time, in registers.
    """
    (n, d), k, zero, step = values.shape, w.shape[0], np.uint64(0), np.uint64(1 << PART) % p
    low, high, whole = np.empty(min(d, TERMS), np.uint64), np.empty(min(d, TERMS), np.uint64), k // 5 * 5
    out[:] = 0
    for i in range(n):
        more = upper[i if upper.shape[1] else 0]
        for start in range(0, d, TERMS):
            end, power = min(d, start + TERMS), np.uint64(1)
            for pair in range(pairs):
                _two_digits(values[i, start:end], more[start:end], lowest, 2 * PART * pair, low, high)
                for j in range(0, whole, 5):
                    w0, w1, w2 = w[j, start:end], w[j + 1, start:end], w[j + 2, start:end]
                    w3, w4 = w[j + 3, start:end], w[j + 4, start:end]
                    a0, a1, a2, a3, a4 = zero, zero, zero, zero, zero
                    b0, b1, b2, b3, b4 = zero, zero, zero, zero, zero
                    for q in range(end - start):
                        x, y = low[q] & LOW, high[q] & LOW
                        a0 += x * (w0[q] & LOW)
                        b0 += y * (w0[q] & LOW)
                        a1 += x * (w1[q] & LOW)
                        b1 += y * (w1[q] & LOW)
                        a2 += x * (w2[q] & LOW)
                        b2 += y * (w2[q] & LOW)
                        a3 += x * (w3[q] & LOW)
                        b3 += y * (w3[q] & LOW)
                        a4 += x * (w4[q] & LOW)
                        b4 += y * (w4[q] & LOW)
                    out[i, j] = _more(out[i, j], a0, b0, step, power, p)
                    out[i, j + 1] = _more(out[i, j + 1], a1, b1, step, power, p)
                    out[i, j + 2] = _more(out[i, j + 2], a2, b2, step, power, p)
                    out[i, j + 3] = _more(out[i, j + 3], a3, b3, step, power, p)
                    out[i, j + 4] = _more(out[i, j + 4], a4, b4, step, power, p)
                for j in range(whole, k):
                    w0, a0, b0 = w[j, start:end], zero, zero
                    for q in range(end - start):
                        a0 += (low[q] & LOW) * (w0[q] & LOW)
                        b0 += (high[q] & LOW) * (w0[q] & LOW)
                    out[i, j] = _more(out[i, j], a0, b0, step, power, p)
                power = power * step % p * step % p


@loop
def _add_rows(rows, factors, sums):
    """Add four rows times their factors to sums."""
    x0, x1, x2, x3 = rows[0], rows[1], rows[2], rows[3]
    f0, f1, f2, f3 = factors[0] & LOW, factors[1] & LOW, factors[2] & LOW, factors[3] & LOW
    for q in range(len(sums)):
        sums[q] += (x0[q] & LOW) * f0 + (x1[q] & LOW) * f1 + (x2[q] & LOW) * f2 + (x3[q] & LOW) * f3


@loop
def transposed_times_mod(values, upper, lowest, pairs, r, p, out):
    """Write r @ (values - lowest) mod p to out (k, d), for values (n, d) and numbers r (k, n); see `times_mod`."""
    (n, d), k, step = values.shape, r.shape[0], np.uint64(1 << PART) % p
    digits, factors = np.zeros((2, BESIDE, d), np.uint64), np.zeros(BESIDE, np.uint64)
    sums = np.empty((2, k, d), np.uint64)
    out[:] = 0
    for start in range(0, n, TERMS):
        end, power = min(n, start + TERMS), np.uint64(1)
        for pair in range(pairs):
            sums[:] = 0
            for top in range(start, end, BESIDE):
                there = min(BESIDE, end - top)
                for i in range(there):
                    more = upper[top + i if upper.shape[1] else 0]
                    _two_digits(values[top + i], more, lowest, 2 * PART * pair, digits[0, i], digits[1, i])
                for j in range(k):
                    factors[:] = 0  # of rows after the end
                    factors[:there] = r[j, top : top + there]
                    _add_rows(digits[0], factors, sums[0, j])
                    _add_rows(digits[1], factors, sums[1, j])
            for j in range(k):
                for q in range(d):
                    out[j, q] = _more(out[j, q], sums[0, j, q], sums[1, j, q], step, power, p)
            power = power * step % p * step % p


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
