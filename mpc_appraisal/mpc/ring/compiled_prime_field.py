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
BLOCK = 1 << 10  # So many elements of a vector are multiplied at once.
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


@loop
def _sum_of_one(a, b):
    """Return the sums of the lower and of the upper 32 bits of a b, over vectors of numbers below 2^31."""
    low, high = np.uint64(0), np.uint64(0)
    for i in range(len(a)):
        t = np.uint64(a[i]) * np.uint64(b[i])
        low += t & LOW
        high += t >> HALF
    return low, high


@loop
def _sum_of_two(a, b, c, d):
    """Do the same for a b + c d."""
    low, high = np.uint64(0), np.uint64(0)
    for i in range(len(a)):
        t = np.uint64(a[i]) * np.uint64(b[i]) + np.uint64(c[i]) * np.uint64(d[i])
        low += t & LOW
        high += t >> HALF
    return low, high


@loop
def _sum_of_three(a, b, c, d, e, f):
    """Do the same for a b + c d + e f."""
    low, high = np.uint64(0), np.uint64(0)
    for i in range(len(a)):
        t = np.uint64(a[i]) * np.uint64(b[i]) + np.uint64(c[i]) * np.uint64(d[i]) + np.uint64(e[i]) * np.uint64(f[i])
        low += t & LOW
        high += t >> HALF
    return low, high


@loop
def _sum_of_four(a, b, c, d, e, f, g, h):
    """Do the same for a b + c d + e f + g h."""
    low, high = np.uint64(0), np.uint64(0)
    for i in range(len(a)):
        t = np.uint64(a[i]) * np.uint64(b[i]) + np.uint64(c[i]) * np.uint64(d[i])
        t += np.uint64(e[i]) * np.uint64(f[i]) + np.uint64(g[i]) * np.uint64(h[i])
        low += t & LOW
        high += t >> HALF
    return low, high


@loop
def _multiplied(a, c, sums):
    """Add the seven coefficients of the products of polynomials of degree 3, summed over vectors (4, n), to `sums`."""
    a0, a1, a2, a3, c0, c1, c2, c3 = a[0], a[1], a[2], a[3], c[0], c[1], c[2], c[3]
    found = (
        _sum_of_one(a0, c0),
        _sum_of_two(a0, c1, a1, c0),
        _sum_of_three(a0, c2, a1, c1, a2, c0),
        _sum_of_four(a0, c3, a1, c2, a2, c1, a3, c0),
        _sum_of_three(a1, c3, a2, c2, a3, c1),
        _sum_of_two(a2, c3, a3, c2),
        _sum_of_one(a3, c3),
    )
    for k in range(7):
        sums[2 * k] += found[k][0]
        sums[2 * k + 1] += found[k][1]


@loop
def _block(v, start, half, p, out, moved):
    """Write v from `start` on to `out`, and the other half less v to `moved`; both are 0 after the end of the half."""
    q, zero = np.uint32(p), np.uint32(0)
    end = min(len(out), half - start)
    there = max(0, min(end, len(v) - half - start))  # from here on the other half has ended: its missing elements are 0
    lower, upper = v[start : start + end], v[half + start : half + start + there]
    for i in range(there):
        out[i] = lower[i]
        moved[i] = _less(upper[i], lower[i], q)
    for i in range(there, end):
        out[i] = lower[i]
        moved[i] = _less(zero, lower[i], q)
    for i in range(end, len(out)):
        out[i] = zero
        moved[i] = zero


@loop
def later_round(w, rho, half, p, sums):
    """Add g(0) and the leading coefficient of g for vectors (4, n), as seven coefficients each, to `sums` (28,).

    A block of the vectors and its differences lie together in the processor's cache for all coefficients.
    """
    size = min(BLOCK, half)
    a, c = np.empty((4, size), np.uint32), np.empty((4, size), np.uint32)
    moved_a, moved_c = np.empty((4, size), np.uint32), np.empty((4, size), np.uint32)
    for start in range(0, half, size):
        for k in range(4):
            _block(w[k], start, half, p, a[k], moved_a[k])
            _block(rho[k], start, half, p, c[k], moved_c[k])
        _multiplied(a, c, sums[:14])
        _multiplied(moved_a, moved_c, sums[14:])


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
