"""Loops over elements of GF(2^128) that numba compiles; `binary_field` states the formulas and has the plain code.

In go numpy arrays of uint64, and out come the same. A vector (n, 2) has the low and the high halves of n elements. A
product of two elements is a polynomial of four words, the lowest first; sums of many products are reduced once.

The product of two words, polynomials of degree 63, is one instruction where the processor has one (`pclmulqdq` of x86).
Elsewhere it is made of products of integers (as in Pornin's BearSSL), with the same results. Which one is compiled
follows from the features for which numba compiles. These are a part of the key under which numba keeps machine
code on disk, so that no processor is given the code of another one. A loop may be added, with plain code in
`binary_field` that gives the same numbers. What a loop calls has to be in this file, since numba looks at no other file
when it asks whether its machine code is still right.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from mpc_appraisal.mpc.ring.compiled import loop

REST = np.uint64(0x87)
HOLES = tuple(np.uint64(0x1111111111111111 << k) for k in range(4))
TURNS = tuple(np.uint64(((1 << 64) - 1) // ((1 << (1 << k)) + 1)) for k in range(6))
BLOCK = 1 << 11  # So many words of a digit are used at once, which stay in the processor's cache.
small = nb.njit(nogil=True)


# -- products of two words ---------------------------------------------------------------------------------------------
def _has_instruction() -> bool:
    """Return whether numba compiles for an x86 processor with `pclmulqdq`."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()[:3]
    return triple.startswith(("x86_64", "i686", "amd64")) and "+pclmul" in features.split(",")


MULTIPLIES = _has_instruction()  # If not, tables of multiples of a fixed factor are faster than products.


@intrinsic
def _by_instruction(typing_context, a, b):
    """Return the product by one instruction."""
    signature = types.UniTuple(types.uint64, 2)(types.uint64, types.uint64)

    def generated(context, builder, signature, arguments):
        pair, place = ir.VectorType(ir.IntType(64), 2), ir.IntType(32)
        kind = ir.FunctionType(pair, [pair, pair, ir.IntType(8)])
        function = builder.module.declare_intrinsic("llvm.x86.pclmulqdq", (), kind)
        first = ir.Constant(place, 0)
        x, y = (builder.insert_element(ir.Constant(pair, ir.Undefined), each, first) for each in arguments)
        found = builder.call(function, [x, y, ir.Constant(ir.IntType(8), 0)])  # 0: the low half of both
        halves = tuple(builder.extract_element(found, ir.Constant(place, k)) for k in (0, 1))
        return context.make_tuple(builder, signature.return_type, halves)

    return signature, generated


@small
def _low(a, b):
    """Return the low 64 bits of the product, from products of integers with three zeros before each bit.

    Sums of 15 bits have four bits, so that the lowest bit of each sum is the parity; what 16 bits carry is beyond 64.
    """
    m0, m1, m2, m3 = HOLES
    a0, a1, a2, a3, b0, b1, b2, b3 = a & m0, a & m1, a & m2, a & m3, b & m0, b & m1, b & m2, b & m3
    found = ((a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1)) & m0
    found |= ((a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2)) & m1
    found |= ((a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3)) & m2
    return found | ((a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0)) & m3


@small
def _turned(a):
    """Return the bits of a word in the opposite order."""
    for k in range(6):
        shift, mask = np.uint64(1 << k), TURNS[k]
        a = (a >> shift & mask) | (a & mask) << shift
    return a


@small
def _by_integers(a, b):
    """Return the product by products of integers; its high half is the low half of the turned product, turned."""
    return _low(a, b), _turned(_low(_turned(a), _turned(b))) >> np.uint64(1)


product = _by_instruction if MULTIPLIES else _by_integers


# -- vectors of elements -----------------------------------------------------------------------------------------------


@small
def _multiplied(a0, a1, b0, b1):
    """Return the four words of (a0 + a1 x^64) (b0 + b1 x^64), by three products (Karatsuba)."""
    l0, l1 = product(a0, b0)
    h0, h1 = product(a1, b1)
    m0, m1 = product(a0 ^ a1, b0 ^ b1)
    m0 ^= l0 ^ h0
    m1 ^= l1 ^ h1
    return l0, l1 ^ m0, h0 ^ m1, h1


@small
def _reduced(t0, t1, t2, t3):
    """Return the element of a polynomial of four words: x^128 is the polynomial of REST."""
    low, high = product(t3, REST)
    t1 ^= low
    t2 ^= high
    low, high = product(t2, REST)
    return t0 ^ low, t1 ^ high


@loop
def bucketed(words, octets, totals):
    """Add the words (n, 8) of each octet to totals (256, 8), at the octet's value."""
    for i in range(len(octets)):
        total, w = totals[octets[i]], words[i]
        for a in range(8):
            total[a] ^= w[a]


@loop
def combined_words(words, u, out):
    """Write the sum over a of u[a] words[i, a], for words (n, 8) and u (8, 2), to `out`."""
    for i in range(len(words)):
        w = words[i]
        t0, t1 = product(w[0], u[0, 0])
        m0, m1 = product(w[0], u[0, 1])
        for a in range(1, 8):
            low, high = product(w[a], u[a, 0])
            t0 ^= low
            t1 ^= high
            low, high = product(w[a], u[a, 1])
            m0 ^= low
            m1 ^= high
        low, high = product(m1, REST)
        out[i, 0], out[i, 1] = t0 ^ low, t1 ^ m0 ^ high


@loop
def tabled(octets, tables, out):
    """Add the sum over k of tables[k, octets[i, k]] to out (n, 2), for octets (n, K) and tables (K, 256, 2)."""
    for i in range(len(octets)):
        row, t0, t1 = octets[i], out[i, 0], out[i, 1]
        for k in range(len(row)):
            entry = tables[k, row[k]]
            t0 ^= entry[0]
            t1 ^= entry[1]
        out[i, 0], out[i, 1] = t0, t1


@loop
def round_sums(w, r, half, sums):
    """Write g(0) and the leading coefficient of g to sums (2, 2)."""
    zero = np.uint64(0)
    p0, p1, p2, p3, q0, q1, q2, q3 = zero, zero, zero, zero, zero, zero, zero, zero
    whole = len(w) - half
    for i in range(whole):
        a0, a1, c0, c1 = w[i, 0], w[i, 1], r[i, 0], r[i, 1]
        t0, t1, t2, t3 = _multiplied(a0, a1, c0, c1)
        p0 ^= t0
        p1 ^= t1
        p2 ^= t2
        p3 ^= t3
        k = half + i
        t0, t1, t2, t3 = _multiplied(a0 ^ w[k, 0], a1 ^ w[k, 1], c0 ^ r[k, 0], c1 ^ r[k, 1])
        q0 ^= t0
        q1 ^= t1
        q2 ^= t2
        q3 ^= t3
    for i in range(whole, half):  # the other half ends before: its missing elements are 0
        t0, t1, t2, t3 = _multiplied(w[i, 0], w[i, 1], r[i, 0], r[i, 1])
        p0 ^= t0
        p1 ^= t1
        p2 ^= t2
        p3 ^= t3
        q0 ^= t0
        q1 ^= t1
        q2 ^= t2
        q3 ^= t3
    sums[0, 0], sums[0, 1] = _reduced(p0, p1, p2, p3)
    sums[1, 0], sums[1, 1] = _reduced(q0, q1, q2, q3)


@loop
def folded(v, half, x, out):
    """Write v[i] + x (v[half + i] + v[i]) to `out`."""
    x0, x1, whole, zero = x[0], x[1], len(v) - half, np.uint64(0)
    for i in range(half):
        a0, a1, there = v[i, 0], v[i, 1], i < whole
        d0, d1 = a0 ^ (v[half + i, 0] if there else zero), a1 ^ (v[half + i, 1] if there else zero)
        t0, t1, t2, t3 = _multiplied(d0, d1, x0, x1)
        t0, t1 = _reduced(t0, t1, t2, t3)
        out[i, 0], out[i, 1] = a0 ^ t0, a1 ^ t1


# -- words of bits: what `integrity.plane_tape` adds backwards ---------------------------------------------------------
@loop
def kept(words, octets, out):
    """Add words (n, 8) to `out` at the bits of octets that are 1."""
    for i in range(len(octets)):
        octet, w, o = np.int64(octets[i]), words[i], out[i]
        for a in range(8):
            o[a] ^= w[a] & np.uint64(-(octet >> a & 1))


@loop
def looked_up(values, less, equal, start, step, count, out):
    """Add the words of one digit to those of its indicators 1, ..., count: rows start, start + step, ... of out (J, n).

    values (n,) are the public digits, uint8. The indicator j counts in `less` where j is above the digit, and in
    `equal` where j is the digit, or the digit is 0.
    """
    zero = np.uint64(0)
    for first in range(0, len(values), BLOCK):
        end = min(len(values), first + BLOCK)
        v, c, e = values[first:end], less[first:end], equal[first:end]
        for j in range(count):
            row, own = out[start + step * j, first:end], np.uint8(j + 1)
            for i in range(end - first):
                w = c[i] if own > v[i] else zero
                row[i] ^= w ^ (e[i] if own == v[i] or v[i] == 0 else zero)
