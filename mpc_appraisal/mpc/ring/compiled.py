"""Loops over ring elements that numba compiles; `kernels` loads this module and says when.

In go numpy arrays of int64, whose arithmetic wraps modulo 2^64 as the ring does, and out come the same; results are
written to the arrays `out`. Each loop does in one pass over memory what takes torch several passes or a slow product,
and gives the same integers to the last bit (tests/mpc/test_kernels.py compares both).

Machine code is made at the first call for given types, within a second, and is kept in a cache of this user (see
`kernels`). The loops run on one thread and start no other thread, so that a process may fork after it has used them.
A loop may be added, with the plain code that gives the same result where numba is not installed.
"""

from __future__ import annotations

import numba as nb
import numpy as np

loop = nb.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")

ROWS = 16  # So many rows stay in the processor's cache while the columns change.
WIDE, NARROW = np.int64(0), np.int32(0)
HALF = 1 << 39  # half of 1 in an exponent with 40 fractional bits; see `powers_of_three`
PART, TABLE = 20, 10  # an index of 20 bits, in two tables of 2^10 entries each


# -- products of matrices ------------------------------------------------------------------------------------------
@loop
def times(x, w, out):
    """Write x @ w' to `out` (n, k), for x (n, d) and w (k, d) stored by rows, in numbers of out's type.

    `out` and w are int64, and x is int64; or they are int32, and x is int32 or uint8, so that the product is right
    modulo 2^32. Five columns are computed at a time, whose sums stay in registers.
    """
    kind, (n, d), k = out.dtype.type, x.shape, w.shape[0]
    zero, whole = kind(0), k // 5 * 5
    for start in range(0, n, ROWS):
        end = min(n, start + ROWS)
        for j in range(0, whole, 5):
            w0, w1, w2, w3, w4 = w[j], w[j + 1], w[j + 2], w[j + 3], w[j + 4]
            for i in range(start, end):
                row = x[i]
                a0, a1, a2, a3, a4 = zero, zero, zero, zero, zero
                for q in range(d):
                    v = kind(row[q])
                    a0 = kind(a0 + kind(v * w0[q]))
                    a1 = kind(a1 + kind(v * w1[q]))
                    a2 = kind(a2 + kind(v * w2[q]))
                    a3 = kind(a3 + kind(v * w3[q]))
                    a4 = kind(a4 + kind(v * w4[q]))
                out[i, j], out[i, j + 1], out[i, j + 2], out[i, j + 3], out[i, j + 4] = a0, a1, a2, a3, a4
        for j in range(whole, k):
            w0 = w[j]
            for i in range(start, end):
                row, a0 = x[i], zero
                for q in range(d):
                    a0 = kind(a0 + kind(kind(row[q]) * w0[q]))
                out[i, j] = a0


@loop
def transposed_times(x, r, out):
    """Add r @ x to `out` (k, d), for x (n, d) and r (k, n) stored by rows, of the types that `times` takes."""
    kind, (n, d), k = out.dtype.type, x.shape, r.shape[0]
    for start in range(0, n, ROWS):
        end = min(n, start + ROWS)
        whole = start + (end - start) // 4 * 4
        for c in range(k):
            o, rc = out[c], r[c]
            for i in range(start, whole, 4):
                x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
                r0, r1, r2, r3 = rc[i], rc[i + 1], rc[i + 2], rc[i + 3]
                for q in range(d):
                    first = kind(kind(kind(x0[q]) * r0) + kind(kind(x1[q]) * r1))
                    last = kind(kind(kind(x2[q]) * r2) + kind(kind(x3[q]) * r3))
                    o[q] = kind(o[q] + kind(first + last))
            for i in range(whole, end):
                x0, r0 = x[i], rc[i]
                for q in range(d):
                    o[q] = kind(o[q] + kind(kind(x0[q]) * r0))


@loop
def narrow_times(x, low, high, out):
    """Write x @ w' to `out` (n, k), for x (n, d) of int32 or uint8, and w = low + 2^32 high (k, d) in halves of int32.

    Of a product with the upper half only 32 bits count, so that this takes two thirds of the time of `times`.
    """
    (n, d), k = x.shape, low.shape[0]
    whole = k // 5 * 5
    for start in range(0, n, ROWS):
        end = min(n, start + ROWS)
        for j in range(0, whole, 5):
            l0, l1, l2, l3, l4 = low[j], low[j + 1], low[j + 2], low[j + 3], low[j + 4]
            h0, h1, h2, h3, h4 = high[j], high[j + 1], high[j + 2], high[j + 3], high[j + 4]
            for i in range(start, end):
                row = x[i]
                a0, a1, a2, a3, a4 = WIDE, WIDE, WIDE, WIDE, WIDE
                b0, b1, b2, b3, b4 = NARROW, NARROW, NARROW, NARROW, NARROW
                for q in range(d):
                    v = np.int64(row[q])
                    a0 += v * np.int64(l0[q])
                    a1 += v * np.int64(l1[q])
                    a2 += v * np.int64(l2[q])
                    a3 += v * np.int64(l3[q])
                    a4 += v * np.int64(l4[q])
                for q in range(d):
                    u = np.int32(row[q])
                    b0 = np.int32(b0 + np.int32(u * h0[q]))
                    b1 = np.int32(b1 + np.int32(u * h1[q]))
                    b2 = np.int32(b2 + np.int32(u * h2[q]))
                    b3 = np.int32(b3 + np.int32(u * h3[q]))
                    b4 = np.int32(b4 + np.int32(u * h4[q]))
                out[i, j], out[i, j + 1] = a0 + (np.int64(b0) << 32), a1 + (np.int64(b1) << 32)
                out[i, j + 2], out[i, j + 3] = a2 + (np.int64(b2) << 32), a3 + (np.int64(b3) << 32)
                out[i, j + 4] = a4 + (np.int64(b4) << 32)
        for j in range(whole, k):
            l0, h0 = low[j], high[j]
            for i in range(start, end):
                row, a0, b0 = x[i], WIDE, NARROW
                for q in range(d):
                    a0 += np.int64(row[q]) * np.int64(l0[q])
                for q in range(d):
                    b0 = np.int32(b0 + np.int32(np.int32(row[q]) * h0[q]))
                out[i, j] = a0 + (np.int64(b0) << 32)


@loop
def narrow_transposed_times(x, low, high, out, upper):
    """Add r @ x to out + 2^32 upper (k, d), for x (n, d) of int32 or uint8 and r = low + 2^32 high (k, n) in halves."""
    (n, d), k = x.shape, low.shape[0]
    for start in range(0, n, ROWS):
        end = min(n, start + ROWS)
        whole = start + (end - start) // 4 * 4
        for c in range(k):
            o, p, lc, hc = out[c], upper[c], low[c], high[c]
            for i in range(start, whole, 4):
                x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
                a0, a1, a2, a3 = np.int64(lc[i]), np.int64(lc[i + 1]), np.int64(lc[i + 2]), np.int64(lc[i + 3])
                b0, b1, b2, b3 = hc[i], hc[i + 1], hc[i + 2], hc[i + 3]
                for q in range(d):
                    o[q] += np.int64(x0[q]) * a0 + np.int64(x1[q]) * a1 + np.int64(x2[q]) * a2 + np.int64(x3[q]) * a3
                for q in range(d):
                    y0, y1, y2, y3 = np.int32(x0[q]), np.int32(x1[q]), np.int32(x2[q]), np.int32(x3[q])
                    first, last = np.int32(y0 * b0) + np.int32(y1 * b1), np.int32(y2 * b2) + np.int32(y3 * b3)
                    p[q] = np.int32(p[q] + np.int32(first) + np.int32(last))
            for i in range(whole, end):
                x0, a0, b0 = x[i], np.int64(lc[i]), hc[i]
                for q in range(d):
                    o[q] += np.int64(x0[q]) * a0
                for q in range(d):
                    p[q] = np.int32(p[q] + np.int32(np.int32(x0[q]) * b0))


@loop
def packed_times(low, high, w, out):
    """Write x @ w' to `out` (n, k), for x = low + (high << 32) (n, d), low and high unsigned, and w (k, d) of int64.

    The two pieces are joined as they are read, so that x is never in memory as int64.
    """
    (n, d), k = low.shape, w.shape[0]
    whole = k // 5 * 5
    for start in range(0, n, ROWS):
        end = min(n, start + ROWS)
        for j in range(0, whole, 5):
            w0, w1, w2, w3, w4 = w[j], w[j + 1], w[j + 2], w[j + 3], w[j + 4]
            for i in range(start, end):
                row, top = low[i], high[i]
                a0, a1, a2, a3, a4 = WIDE, WIDE, WIDE, WIDE, WIDE
                for q in range(d):
                    v = np.int64(row[q]) | (np.int64(top[q]) << 32)
                    a0 += v * w0[q]
                    a1 += v * w1[q]
                    a2 += v * w2[q]
                    a3 += v * w3[q]
                    a4 += v * w4[q]
                out[i, j], out[i, j + 1], out[i, j + 2], out[i, j + 3], out[i, j + 4] = a0, a1, a2, a3, a4
        for j in range(whole, k):
            w0 = w[j]
            for i in range(start, end):
                row, top, a0 = low[i], high[i], WIDE
                for q in range(d):
                    a0 += (np.int64(row[q]) | (np.int64(top[q]) << 32)) * w0[q]
                out[i, j] = a0


@loop
def packed_transposed_times(low, high, r, out):
    """Add r @ x to `out` (k, d), for x as in `packed_times` and r (k, n) of int64."""
    (n, d), k = low.shape, r.shape[0]
    for start in range(0, n, ROWS):
        end = min(n, start + ROWS)
        whole = start + (end - start) // 4 * 4
        for c in range(k):
            o, rc = out[c], r[c]
            for i in range(start, whole, 4):
                x0, x1, x2, x3 = low[i], low[i + 1], low[i + 2], low[i + 3]
                y0, y1, y2, y3 = high[i], high[i + 1], high[i + 2], high[i + 3]
                r0, r1, r2, r3 = rc[i], rc[i + 1], rc[i + 2], rc[i + 3]
                for q in range(d):
                    v0 = np.int64(x0[q]) | (np.int64(y0[q]) << 32)
                    v1 = np.int64(x1[q]) | (np.int64(y1[q]) << 32)
                    v2 = np.int64(x2[q]) | (np.int64(y2[q]) << 32)
                    v3 = np.int64(x3[q]) | (np.int64(y3[q]) << 32)
                    o[q] += v0 * r0 + v1 * r1 + v2 * r2 + v3 * r3
            for i in range(whole, end):
                x0, y0, r0 = low[i], high[i], rc[i]
                for q in range(d):
                    o[q] += (np.int64(x0[q]) | (np.int64(y0[q]) << 32)) * r0


# -- conversions ---------------------------------------------------------------------------------------------------
@loop
def encode(values, scale, out):
    """Write values * scale, rounded to the nearest integer, ties to even; return the smallest and the largest value.

    The values are real. Where one is NaN, so is what is returned.
    """
    low = high = np.float64(values[0])
    bad = False
    for i in range(len(values)):
        v = np.float64(values[i])
        low, high, bad = min(low, v), max(high, v), bad | (v != v)
        out[i] = np.int64(np.rint(v * scale))
    return (np.nan, np.nan) if bad else (low, high)


@loop
def cut(values, shift, out):
    """Write the low bits of values >> shift to the narrower unsigned numbers `out`."""
    for i in range(len(values)):
        out[i] = values[i] >> shift


@loop
def cut_difference(values, less, shift, out):
    """Write the low bits of (values - less) >> shift to the narrower unsigned numbers `out`."""
    for i in range(len(values)):
        out[i] = (values[i] - less[i]) >> shift


@loop
def cut_twice(values, shift, low, high):
    """Write the low bits of values, and those of values >> shift, to the narrower unsigned numbers `low` and `high`."""
    for i in range(len(values)):
        low[i], high[i] = values[i], values[i] >> shift


@loop
def cut_difference_twice(values, less, shift, low, high):
    """Do what `cut_twice` does, with values - less."""
    for i in range(len(values)):
        v = values[i] - less[i]
        low[i], high[i] = v, v >> shift


@loop
def mask_twice(values, low, high, shift):
    """Write values less the masks low + (high << shift), unsigned, in place of the masks."""
    for i in range(len(values)):
        v = np.int64(values[i]) - (np.int64(low[i]) | (np.int64(high[i]) << shift))
        low[i], high[i] = v, v >> shift


@loop
def join_twice(low, high, shift, out):
    """Write low + (high << shift) for unsigned numbers."""
    for i in range(len(low)):
        out[i] = np.int64(low[i]) | (np.int64(high[i]) << shift)


@loop
def join(plane, shift, first, out):
    """Write the unsigned numbers plane << shift to `out` if `first`, else add them to it."""
    if first:
        for i in range(len(plane)):
            out[i] = np.int64(plane[i]) << shift
    else:
        for i in range(len(plane)):
            out[i] |= np.int64(plane[i]) << shift


# -- opened values -------------------------------------------------------------------------------------------------
@loop
def masked_share(share, up, drop, more, mask, out):
    """Write ((share + up) >> drop) + more + mask, which an owner sends to open a value."""
    for i in range(len(share)):
        out[i] = ((share[i] + up) >> drop) + more + mask[i]


@loop
def opened(mine, theirs, ones, top, low, delta, wrapped):
    """Write what two masked shares open: the sum less `low`, and 1 where the sum's bit `top` is 0."""
    for i in range(len(mine)):
        total = (mine[i] + theirs[i]) & ones
        delta[i] = total - low
        wrapped[i] = 1 - ((total >> top) & 1)


@loop
def widened(mask, ones, carry, wrapped, top, bits, out):
    """Write this owner's share of a mask in a wider ring: mask - ((carry + wrapped * top) << bits)."""
    for i in range(len(mask)):
        out[i] = (mask[i] & ones) - ((carry[i] + wrapped[i] * top[i]) << bits)


@loop
def squared(shared, delta, mask, first, out):
    """Write a share of the square of an opened value; `shared` is the share of the mask's square."""
    for i in range(len(delta)):
        v = shared[i] - 2 * delta[i] * mask[i]
        if first:
            v += delta[i] * delta[i]
        out[i] = v


@loop
def crossed(shared, delta_a, mask_a, delta_b, mask_b, first, out):
    """Write shares of a * b for opened a (n, c) and b (n,); `shared` is the share of the product of masks."""
    n, c = delta_a.shape
    for i in range(n):
        d, m = delta_b[i], mask_b[i]
        for j in range(c):
            v = shared[i, j] - delta_a[i, j] * m - d * mask_a[i, j]
            if first:
                v += delta_a[i, j] * d
            out[i, j] = v


@loop
def add_where(wrapped, more, bits, out):
    """Add (wrapped * more) << bits to `out` (n, c), for wrapped (n,)."""
    n, c = out.shape
    for i in range(n):
        w = wrapped[i]
        for j in range(c):
            out[i, j] += (w * more[i, j]) << bits


@loop
def opening_mask(a, b, bits, mask, top, carry):
    """Write the mask of an opened value that two owners drew as a and b, its top bit, and the carry of their sum."""
    ones = (1 << bits) - 1
    for i in range(len(a)):
        total = (a[i] & ones) + (b[i] & ones)
        mask[i] = total & ones
        top[i] = (total & ones) >> (bits - 1)
        carry[i] = (total >> bits) & 1


# -- powers of three -----------------------------------------------------------------------------------------------
@loop
def power_of_three(base, rate, mantissa, offset, integers, high, low, out):
    """Write 3^(base * rate / 2^40) * 2^mantissa times the stretch of the tables; see `powers_of_three`.

    `integers` holds the powers of three from -largest to largest. Returns the largest integer that was needed: where
    it is above `largest`, the results are of no use.
    """
    largest, needed = len(integers) // 2, 0
    shift = 60 - mantissa
    half, ones = 1 << (shift - 1), (1 << TABLE) - 1
    for i in range(len(base)):
        shifted = base[i] * rate + HALF
        whole = shifted >> 40
        index = (shifted - (whole << 40)) >> PART
        fraction = (high[index >> TABLE] * low[index & ones] + half) >> shift
        needed = max(needed, abs(whole) + offset)
        place = min(max(whole + offset + largest, 0), 2 * largest)
        out[i] = integers[place] * fraction
    return needed


@loop
def exponentials(plain, wrapped, more, power, out):
    """Write (plain + wrapped * more) * power."""
    for i in range(len(plain)):
        out[i] = (plain[i] + wrapped[i] * more[i]) * power[i]


# -- harmonics -----------------------------------------------------------------------------------------------------
@loop
def weighted(delta, shift, a, b, table, words, out):
    """Write the sum of the words (2 K, n) with the factors that `circle.weighted` states, for a and b of K integers."""
    for i in range(len(delta)):
        total = np.int64(0)
        for k in range(len(a)):
            phase = ((delta[i] * (k + 1)) << shift) & 0xFFFFFF
            high, low = phase >> 12, phase & 0xFFF
            c = (table[0, high] * table[2, low] - table[1, high] * table[3, low]) >> 30
            s = (table[1, high] * table[2, low] + table[0, high] * table[3, low]) >> 30
            total += ((a[k] * c + b[k] * s) >> 30) * words[2 * k, i]
            total += ((a[k] * s - b[k] * c) >> 30) * words[2 * k + 1, i]
        out[i] = total


cut(np.zeros(1, np.int64), 0, np.zeros(1, np.uint8))  # The first call of any loop prepares the compiler: 0.4 s.
