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
def times_public(a, values, flip, shift, p, inverse, square, cube, out):
    """Write a times ((values ^ flip) + shift / 2^32) mod p, for uint64 numbers a below p and any uint64 values.

    square and cube are 2^64 and 2^96 mod p.
    """
    for i in range(len(a)):
        v = values[i] ^ flip
        r = _reduced((v & LOW) * square, p, inverse) + _reduced((v >> HALF) * cube, p, inverse) + np.int64(shift)
        out[i] = _reduced(np.uint64(r) * (a[i] & LOW), p, inverse)  # r is 2^32 times the factor, below 3 p


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
def _moved(a, d, x, p, inverse, out):
    """Write a + x d mod p, for numbers a and d below p, and x that is a number times 2^32."""
    x, s = x & LOW, np.int64(p)
    for i in range(len(out)):
        r = _reduced(np.uint64(d[i]) * x, p, inverse) + np.int64(a[i])
        out[i] = r - s if r >= s else r


@loop
def first_fold(v, half, x, p, inverse, out):
    """Write v[i] + x (v[half + i] - v[i]) to `out` (4, half or more); x is four numbers times 2^32."""
    size = max(1, min(BLOCK, half))
    a, d, zeros = np.empty(size, np.uint32), np.empty(size, np.uint32), np.zeros(size, np.uint32)
    for start in range(0, half, size):
        end = min(half, start + size)
        _block(v, start, half, p, a, d)
        for k in range(4):
            _moved(zeros if k else a, d, x[k], p, inverse, out[k, start:end])


@loop
def _moved_by(a, d, x, p, inverse, out):
    """Write a + sum over k of x[k] d[k] mod p, for four numbers x times 2^32."""
    x0, x1, x2, x3, s = x[0] & LOW, x[1] & LOW, x[2] & LOW, x[3] & LOW, np.int64(p)
    d0, d1, d2, d3, u = d[0], d[1], d[2], d[3], np.uint64
    for i in range(len(out)):
        t = u(d0[i]) * x0 + u(d1[i]) * x1 + u(d2[i]) * x2 + u(d3[i]) * x3
        r = _reduced(t, p, inverse) + np.int64(a[i])
        out[i] = r - s if r >= s else r


@loop
def later_fold(v, half, x, p, inverse, out):
    """Write v[:, i] + x (v[:, half + i] - v[:, i]) to `out`, which may be v; x (4, 4) is a matrix times 2^32.

    A loop writes to one array only, so that LLVM makes vectors of it.
    """
    size = max(1, min(BLOCK, half))
    a, d = np.empty((4, size), np.uint32), np.empty((4, size), np.uint32)
    for start in range(0, half, size):
        end = min(half, start + size)
        for k in range(4):
            _block(v[k], start, half, p, a[k], d[k])
        for k in range(4):
            _moved_by(a[k], d, x[k], p, inverse, out[k, start:end])


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
