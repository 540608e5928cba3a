"""Loops over elements of prime fields that numba compiles; `prime_field` states the formulas and has the plain code.

In go numpy arrays of uint32 with numbers below a prime p of 31 bits, and out come the same. An element of the field of
p^4 elements is four numbers, and a vector (4, n) of such elements is stored coordinate by coordinate.

A product of two numbers has 62 bits, so that four of them fit into 64 bits without a reduction. Sums of many products
are kept as the sums of their lower and upper 32 bits. `_reduced` is Montgomery's reduction: it returns t / 2^32 mod p
for t below 2^34 p, hence the constants in these loops carry a factor 2^32. The loops on uint64 take any odd p below
2^31. A loop may be added, with plain code in
`prime_field` that gives the same numbers.
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
def _reduced(t, p, inverse):
    """Return t / 2^32 mod p for t < 2^64; `inverse` is 1 / p mod 2^32, and 2^30 < p < 2^31."""
    m = ((t & LOW) * inverse) & LOW
    r = np.int64(t >> HALF) - np.int64((m * p) >> HALF)
    r += np.int64(p) if r < 0 else np.int64(0)
    return r - np.int64(p) if r >= np.int64(p) else r


@inlined
def _less(b, a, p):
    """Return b - a mod p."""
    d = b - a
    return d + p if b < a else d


@loop
def residues(values, flip, shift, p, inverse, one, square, out):
    """Write (values ^ flip) + shift mod p, for values of uint64; one and square are 2^32 and 2^64 mod p, shift < p."""
    for i in range(len(values)):
        v = values[i] ^ flip
        # The reduction divides by 2^32, hence the upper half takes 2^64 and the lower one 2^32.
        r = _reduced((v & LOW) * one, p, inverse) + _reduced((v >> HALF) * square, p, inverse)
        r = (r - np.int64(p) if r >= np.int64(p) else r) + np.int64(shift)
        out[i] = r - np.int64(p) if r >= np.int64(p) else r


@loop
def multiplied(a, b, p, inverse, square, out):
    """Write a b mod p, for uint64 numbers below p; square is 2^64 mod p."""
    for i in range(len(a)):
        r = np.uint64(_reduced((a[i] & LOW) * (b[i] & LOW), p, inverse))
        out[i] = _reduced((r & LOW) * square, p, inverse)


@loop
def scaled(a, factor, p, inverse, out):
    """Write a times a factor mod p, for uint64 numbers below p, where `factor` is the factor times 2^32."""
    for i in range(len(a)):
        out[i] = _reduced((a[i] & LOW) * factor, p, inverse)


@loop
def added(a, b, p, out):
    """Write a + b mod p, for uint64 numbers below p."""
    for i in range(len(a)):
        t = np.int64(a[i] + b[i]) - np.int64(p)
        out[i] = t + np.int64(p) if t < 0 else t


@loop
def dot(a, b, sums):
    """Write the sums of the lower and of the upper 32 bits of the products a * b."""
    low, high = np.uint64(0), np.uint64(0)
    for i in range(len(a)):
        t = np.uint64(a[i]) * np.uint64(b[i])
        low += t & LOW
        high += t >> HALF
    sums[0], sums[1] = low, high


@loop
def first_round(w, rho, half, p, sums):
    """Write g(0) and the leading coefficient of g for vectors of numbers, each as lower and upper sums."""
    a0, a1, b0, b1 = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    q, whole = np.uint32(p), len(w) - half
    for i in range(whole):
        a, c = w[i], rho[i]
        t = np.uint64(a) * np.uint64(c)
        a0 += t & LOW
        a1 += t >> HALF
        t = np.uint64(_less(w[half + i], a, q)) * np.uint64(_less(rho[half + i], c, q))
        b0 += t & LOW
        b1 += t >> HALF
    for i in range(whole, half):  # the other half ends before: its missing elements are 0
        t = np.uint64(w[i]) * np.uint64(rho[i])
        a0 += t & LOW
        a1 += t >> HALF
        b0 += t & LOW
        b1 += t >> HALF
    sums[0], sums[1], sums[2], sums[3] = a0, a1, b0, b1


@loop
def first_fold(v, half, x, p, inverse, out):
    """Write v[i] + x (v[half + i] - v[i]) to `out` (4, half or more); x is four numbers times 2^32."""
    q, s, whole = np.uint32(p), np.int64(p), len(v) - half
    x0, x1, x2, x3 = x[0], x[1], x[2], x[3]
    o0, o1, o2, o3 = out[0], out[1], out[2], out[3]
    for i in range(half):
        a = v[i]
        d = np.uint64(_less(v[half + i] if i < whole else np.uint32(0), a, q))
        r = _reduced(d * x0, p, inverse) + np.int64(a)
        o0[i] = r - s if r >= s else r
        o1[i] = _reduced(d * x1, p, inverse)
        o2[i] = _reduced(d * x2, p, inverse)
        o3[i] = _reduced(d * x3, p, inverse)


@inlined
def _added(sums, at, a0, a1, a2, a3, c0, c1, c2, c3):
    """Add the seven coefficients of a product of polynomials of degree 3 to the lower and upper sums from `at` on."""
    t = a0 * c0
    sums[at] += t & LOW
    sums[at + 1] += t >> HALF
    t = a0 * c1 + a1 * c0
    sums[at + 2] += t & LOW
    sums[at + 3] += t >> HALF
    t = a0 * c2 + a1 * c1 + a2 * c0
    sums[at + 4] += t & LOW
    sums[at + 5] += t >> HALF
    t = a0 * c3 + a1 * c2 + a2 * c1 + a3 * c0
    sums[at + 6] += t & LOW
    sums[at + 7] += t >> HALF
    t = a1 * c3 + a2 * c2 + a3 * c1
    sums[at + 8] += t & LOW
    sums[at + 9] += t >> HALF
    t = a2 * c3 + a3 * c2
    sums[at + 10] += t & LOW
    sums[at + 11] += t >> HALF
    t = a3 * c3
    sums[at + 12] += t & LOW
    sums[at + 13] += t >> HALF


@loop
def later_round(w, rho, half, p, sums):
    """Add g(0) and the leading coefficient of g for vectors (4, n), as seven coefficients each, to `sums` (28,)."""
    q, whole, u = np.uint32(p), w.shape[1] - half, np.uint64
    w0, w1, w2, w3 = w[0], w[1], w[2], w[3]
    r0, r1, r2, r3 = rho[0], rho[1], rho[2], rho[3]
    for i in range(whole):
        a0, a1, a2, a3, c0, c1, c2, c3 = w0[i], w1[i], w2[i], w3[i], r0[i], r1[i], r2[i], r3[i]
        _added(sums, 0, u(a0), u(a1), u(a2), u(a3), u(c0), u(c1), u(c2), u(c3))
        k = half + i
        a0, a1, a2, a3 = _less(w0[k], a0, q), _less(w1[k], a1, q), _less(w2[k], a2, q), _less(w3[k], a3, q)
        c0, c1, c2, c3 = _less(r0[k], c0, q), _less(r1[k], c1, q), _less(r2[k], c2, q), _less(r3[k], c3, q)
        _added(sums, 14, u(a0), u(a1), u(a2), u(a3), u(c0), u(c1), u(c2), u(c3))
    for i in range(whole, half):
        a0, a1, a2, a3, c0, c1, c2, c3 = w0[i], w1[i], w2[i], w3[i], r0[i], r1[i], r2[i], r3[i]
        _added(sums, 0, u(a0), u(a1), u(a2), u(a3), u(c0), u(c1), u(c2), u(c3))
        _added(sums, 14, u(a0), u(a1), u(a2), u(a3), u(c0), u(c1), u(c2), u(c3))


@loop
def later_fold(v, half, x, p, inverse, out):
    """Write v[:, i] + x (v[:, half + i] - v[:, i]) to `out`, which may be v; x (4, 4) is a matrix times 2^32."""
    q, s, whole, u = np.uint32(p), np.int64(p), v.shape[1] - half, np.uint64
    v0, v1, v2, v3, o0, o1, o2, o3 = v[0], v[1], v[2], v[3], out[0], out[1], out[2], out[3]
    x00, x01, x02, x03 = x[0, 0], x[0, 1], x[0, 2], x[0, 3]
    x10, x11, x12, x13 = x[1, 0], x[1, 1], x[1, 2], x[1, 3]
    x20, x21, x22, x23 = x[2, 0], x[2, 1], x[2, 2], x[2, 3]
    x30, x31, x32, x33 = x[3, 0], x[3, 1], x[3, 2], x[3, 3]
    zero = np.uint32(0)
    for i in range(half):
        k, there = half + i, i < whole
        a0, a1, a2, a3 = v0[i], v1[i], v2[i], v3[i]
        d0, d1 = u(_less(v0[k] if there else zero, a0, q)), u(_less(v1[k] if there else zero, a1, q))
        d2, d3 = u(_less(v2[k] if there else zero, a2, q)), u(_less(v3[k] if there else zero, a3, q))
        r = _reduced(x00 * d0 + x01 * d1 + x02 * d2 + x03 * d3, p, inverse) + np.int64(a0)
        o0[i] = r - s if r >= s else r
        r = _reduced(x10 * d0 + x11 * d1 + x12 * d2 + x13 * d3, p, inverse) + np.int64(a1)
        o1[i] = r - s if r >= s else r
        r = _reduced(x20 * d0 + x21 * d1 + x22 * d2 + x23 * d3, p, inverse) + np.int64(a2)
        o2[i] = r - s if r >= s else r
        r = _reduced(x30 * d0 + x31 * d1 + x32 * d2 + x33 * d3, p, inverse) + np.int64(a3)
        o3[i] = r - s if r >= s else r


# -- combinations of rows and columns -----------------------------------------------------------------------------
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


# -- subsets -------------------------------------------------------------------------------------------------------
@loop
def bucketed(words, messages, totals):
    """Add each message to totals (B, 256), once for each of the B bytes of its word, at the byte's value."""
    for k in range(words.shape[0]):
        m = messages[k]
        for i in range(words.shape[1]):
            totals[i, words[k, i]] += m


@loop
def looked_up(words, tables, p, out):
    """Write the sum mod p of tables[i, byte i] over the bytes of each word."""
    for k in range(words.shape[0]):
        total = np.uint64(0)
        for i in range(words.shape[1]):
            total += tables[i, words[k, i]]
        out[k] = total % p
