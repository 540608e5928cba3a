"""Arithmetic in the field of 2^128 elements, for the check of bits.

    GF(2^128) = GF(2)[x] / (x^128 + x^7 + x^2 + x + 1);      a + b is the exclusive or

The polynomial has no divisor (it is that of AES-GCM, NIST SP 800-38D). A single element is a Python integer below
2^128, of which bit k is the coefficient of x^k. A vector is uint64 (n, 2), with the low halves in column 0. A word is
an element below 2^64, and a vector of words for the bits of octets is uint64 (octets, 8), the lowest bit first. From
words w and bits r, octet by octet, come

    cross sums      C[a, b] = sum over octets i of w[i, a] r[i, b]          (8, 8), words
    combined words  w'[i]   = sum over a of u[a] w[i, a]                    elements
    combined bits   r'[i]   = sum over b of v[b] r[i, b]                    elements,   <w', r'> = u' C v

and one round of a sumcheck takes two vectors of n elements to vectors of half = ceil(n / 2) elements, where missing
elements are 0 (see `prime_field`):

    g(x) = <w(x), r(x)>,   v(x) = v[:half] + x (v[half:] + v[:half]),   <w, r> = g(0) + g(1)

`round_sums` returns g(0) and the leading coefficient of g, and `folded` returns v(x). The loops of
`compiled_binary_field` are used where `kernels` gives them, and numpy otherwise, with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np

from mpc_appraisal.mpc.ring.kernels import loops

DEGREE = 128
BYTES = DEGREE // 8
OCTET = 8
WORD = 64
ONES = (1 << WORD) - 1
REST = 0x87  # x^128 = x^7 + x^2 + x + 1


def _compiled(work: int) -> ModuleType | None:
    if loops(work) is None:
        return None
    from mpc_appraisal.mpc.ring import compiled_binary_field

    return compiled_binary_field


# -- single elements ---------------------------------------------------------------------------------------------------
def reduced(a: int) -> int:
    """Return the polynomial a, of any degree, as an element."""
    while a >> DEGREE:
        high, a = a >> DEGREE, a & ((1 << DEGREE) - 1)
        a ^= high ^ high << 1 ^ high << 2 ^ high << 7
    return a


def multiply(a: int, b: int) -> int:
    """Return the product of two elements."""
    total = 0
    while b:
        lowest = b & -b
        total ^= a * lowest  # a shift
        b ^= lowest
    return reduced(total)


def elements_of(data: bytes) -> list[int]:
    """Return the elements whose bytes are given, 16 each, the lowest byte first."""
    return [int.from_bytes(data[k : k + BYTES], "little") for k in range(0, len(data), BYTES)]


def bytes_of(elements: Sequence[int]) -> bytes:
    """Return the bytes of elements."""
    return b"".join(each.to_bytes(BYTES, "little") for each in elements)


def vector_of(elements: Sequence[int]) -> np.ndarray:
    """Return elements as a vector (n, 2)."""
    return np.array([(each & ONES, each >> WORD) for each in elements], np.uint64).reshape(-1, 2)


def element(pair: np.ndarray) -> int:
    """Return one element (2,) of a vector as a Python integer."""
    return int(pair[0]) | int(pair[1]) << WORD


# -- words and bits of octets ------------------------------------------------------------------------------------------
def cross_sums(words: np.ndarray, octets: np.ndarray) -> np.ndarray:
    """Return C (8, 8), uint64, of words (n, 8) and the bits of octets, uint8 (n,)."""
    compiled = _compiled(words.size)
    if compiled is not None:
        totals = np.zeros((256, OCTET), np.uint64)  # of the words at each value of the octet
        compiled.bucketed(np.ascontiguousarray(words), np.ascontiguousarray(octets), totals)
        words, octets = totals, np.arange(256, dtype=np.uint8)
    found = [np.bitwise_xor.reduce(words[_bit(octets, b)], axis=0) for b in range(OCTET)]
    return np.stack(found, axis=1)


def combined_words(words: np.ndarray, factors: Sequence[int], more: int = 0) -> np.ndarray:
    """Return w' (n + more, 2) of words (n, 8) and eight elements u; the last `more` elements are 0."""
    out = np.zeros((len(words) + more, 2), np.uint64)
    compiled = _compiled(words.size)
    if compiled is not None and compiled.MULTIPLIES:
        compiled.combined_words(np.ascontiguousarray(words), vector_of(factors), out)
    else:
        _add_by_tables(words, np.concatenate([_tables(each, WORD) for each in factors]), out[: len(words)])
    return out


def combined_bits(octets: np.ndarray, factors: Sequence[int], more: int = 0) -> np.ndarray:
    """Return r' (n + more, 2) of the bits of octets, uint8 (n,), and eight elements v; the last `more` are 0."""
    out = np.zeros((len(octets) + more, 2), np.uint64)
    np.take(_sums_of(factors), octets, axis=0, out=out[: len(octets)], mode="clip")
    return out


# -- rounds ------------------------------------------------------------------------------------------------------------
def round_sums(w: np.ndarray, r: np.ndarray) -> tuple[int, int]:
    """Return g(0) and the leading coefficient of g, for vectors (n, 2)."""
    half = (len(w) + 1) // 2
    compiled = _compiled(DEGREE * len(w))
    if compiled is not None:
        sums = np.empty((2, 2), np.uint64)
        compiled.round_sums(w, r, half, sums)
        return element(sums[0]), element(sums[1])
    return _inner(w[:half], r[:half]), _inner(_moved(w, half), _moved(r, half))


def folded(v: np.ndarray, x: int) -> np.ndarray:
    """Return v(x), (half, 2), for a vector (n, 2)."""
    half = (len(v) + 1) // 2
    compiled = _compiled(DEGREE * len(v))
    if compiled is not None and compiled.MULTIPLIES:
        out = np.empty((half, 2), np.uint64)
        compiled.folded(v, half, vector_of([x])[0], out)
    else:
        out = v[:half].copy()
        _add_by_tables(_moved(v, half), _tables(x, DEGREE), out)
    return out


def next_claim(claim: int, at_0: int, leading: int, x: int) -> int:
    """Return g(x) from g(0) + g(1), g(0) and the leading coefficient, which is linear in the three."""
    return at_0 ^ multiply(claim ^ leading ^ multiply(leading, x), x)


# -- plain code --------------------------------------------------------------------------------------------------------
def _bit(values: np.ndarray, k: int) -> np.ndarray:
    """Return bit k of each number as bool."""
    return (values >> values.dtype.type(k) & values.dtype.type(1)).astype(np.bool_)


def _moved(v: np.ndarray, half: int) -> np.ndarray:
    """Return v[half:] + v[:half]."""
    out = v[:half].copy()
    out[: len(v) - half] ^= v[half:]
    return out


def _inner(w: np.ndarray, r: np.ndarray) -> int:
    """Return <w, r>: for each k, the sum of all w[i] for which r[i] has bit k, times x^k."""
    total = 0
    for k in range(DEGREE):
        total ^= element(np.bitwise_xor.reduce(w[_bit(r[:, k // WORD], k % WORD)], axis=0)) << k
    return reduced(total)


def _sums_of(factors: Sequence[int]) -> np.ndarray:
    """Return for each octet the sum of those of eight elements at which it has a 1, (256, 2)."""
    found = np.zeros((1, 2), np.uint64)
    for each in vector_of(factors):
        found = np.concatenate([found, found ^ each])
    return found


@cache
def _powers() -> tuple[int, ...]:
    return tuple(reduced(1 << k) for k in range(DEGREE))


def _tables(factor: int, bits: int) -> np.ndarray:
    """Return what each value of each octet of a number of so many bits gives, times one element, (octets, 256, 2)."""
    multiples = [multiply(factor, each) for each in _powers()[:bits]]
    return np.stack([_sums_of(multiples[k : k + OCTET]) for k in range(0, bits, OCTET)])


def _add_by_tables(values: np.ndarray, tables: np.ndarray, out: np.ndarray) -> None:
    """Add to `out` (n, 2) what tables (K, 256, 2) have for the K octets of each row of values, uint64 (n, K / 8)."""
    octets = np.ascontiguousarray(values, dtype="<u8").view(np.uint8)
    compiled = _compiled(octets.size)
    if compiled is not None:
        compiled.tabled(octets, tables, out)
        return
    for k, table in enumerate(tables):
        out ^= table[octets[:, k]]
