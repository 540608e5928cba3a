"""Arithmetic modulo a prime below 2^31, on arrays of whole numbers from 0 to p - 1; exact, on one thread.

    x mod p = x - p floor(x / p)
    a b = 2^32 h + 2^16 m + l,      a = 2^16 a_1 + a_0,  b = 2^16 b_1 + b_0
    h = a_1 b_1,  m = a_1 b_0 + a_0 b_1,  l = a_0 b_0

In go uint64 arrays of numpy, and out come the same. A product of matrices is made of products of halves in float64.
These halves are below 2^16, and a sum of at most INNER products stays below 2^52, so that float64 holds it exactly.
A matrix of public integers is multiplied in digits by compiled loops, and else by its residues.
Large arrays and odd p are left to the compiled loops of `compiled_prime_field` where `kernels` gives them, with the
same results.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np

from mpc_appraisal.mpc.ring.kernels import loops
from mpc_appraisal.mpc.ring.pieces import Pieces

HALF = np.uint64(16)
LOW = np.uint64(0xFFFF)
SIGN = np.uint64(1 << 63)
INNER = 1 << 19  # So many products of two pairs of halves are summed in float64 at most.
LEAST = 1 << 10  # From so many numbers on, compiled loops are used.
BLOCK = 1 << 16  # So many numbers of a product are computed at once, which stay in the processor's cache.


@lru_cache(maxsize=64)
def _constants(p: int) -> tuple[np.uint64, ...]:
    """Return p, 1 / p mod 2^32, 2^32 mod p, 2^64 mod p, and -2^63 mod p."""
    numbers = p, pow(p, -1, 1 << 32), (1 << 32) % p, (1 << 64) % p, -(1 << 63) % p
    return tuple(np.uint64(each) for each in numbers)


def compiled_for(size: int, p: int) -> ModuleType | None:
    """Return the compiled loops if they are to compute with so many numbers mod p, else None."""
    if size < LEAST or p % 2 == 0 or loops(size) is None:
        return None
    from mpc_appraisal.mpc.ring import compiled_prime_field

    return compiled_prime_field


def reduced(x: np.ndarray, p: int) -> np.ndarray:
    """Return x mod p for any uint64 array x."""
    x = np.asarray(x)
    compiled = compiled_for(x.size, p)
    if compiled is None:
        return _less_multiple(x, np.uint64(p))
    out, (prime, inverse, one, square, _) = np.empty(x.shape, np.uint64), _constants(p)
    compiled.residues(_flat(x), np.uint64(0), np.uint64(0), prime, inverse, one, square, out.reshape(-1))
    return out


def residues(x: np.ndarray, p: int) -> np.ndarray:
    """Return x mod p, from 0 to p - 1, for an int64 array x of signed numbers."""
    compiled = compiled_for(x.size, p)
    if compiled is None:
        return _less_multiple(x, np.int64(p)).view(np.uint64)
    out, (prime, inverse, one, square, less) = np.empty(x.shape, np.uint64), _constants(p)
    # A change of the sign bit adds 2^63.
    compiled.residues(_flat(x).view(np.uint64), SIGN, less, prime, inverse, one, square, out.reshape(-1))
    return out


def _flat(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(-1)


def _less_multiple(x: np.ndarray, prime: np.integer) -> np.ndarray:
    """Return x - prime floor(x / prime). A multiple may wrap below -2^63; the difference then wraps back."""
    multiple = np.asarray(x // prime)
    multiple *= prime
    return np.subtract(x, multiple, out=multiple)


def added(a: np.ndarray, b: np.ndarray, p: int, out: np.ndarray | None = None) -> np.ndarray:
    """Return a + b mod p, broadcast; in the memory of `out` if that is given, which is contiguous and may be a."""
    compiled = compiled_for(a.size, p) if a.shape == b.shape else None
    if compiled is None:
        return _below(np.asarray(np.add(a, b, out=out)), p)
    out = np.empty(a.shape, np.uint64) if out is None else out
    compiled.added(_flat(a), _flat(b), np.uint64(p), out.reshape(-1))
    return out


def negated(a: np.ndarray, p: int) -> np.ndarray:
    """Return -a mod p."""
    return _below(np.asarray(np.uint64(p) - a), p)


def _below(x: np.ndarray, p: int) -> np.ndarray:
    """Return x mod p for a uint64 array x of numbers below 2 p, in its memory."""
    return np.minimum(x, x - np.uint64(p), out=x)  # Where x is below p, the difference wraps to a large number.


def multiplied(a: np.ndarray, b: np.ndarray, p: int) -> np.ndarray:
    """Return a b mod p, elementwise and broadcast."""
    shape = np.broadcast_shapes(np.shape(a), np.shape(b))
    compiled = compiled_for(math.prod(shape), p)
    if compiled is None:
        return reduced(a * b, p)
    out, (prime, inverse, one, square, _) = np.empty(shape, np.uint64), _constants(p)
    if np.ndim(b) == 0:
        compiled.scaled(_flat(a), np.uint64(int(b) * int(one) % p), prime, inverse, out.reshape(-1))
        return out
    both = (_flat(np.broadcast_to(each, shape)) for each in (a, b))
    compiled.multiplied(*both, prime, inverse, square, out.reshape(-1))
    return out


def times_public(a: np.ndarray, factors: np.ndarray, p: int) -> np.ndarray:
    """Return a times signed integers (int64) mod p, elementwise and broadcast, for numbers a mod p."""
    compiled = compiled_for(a.size, p) if a.shape == factors.shape else None
    if compiled is None:
        return multiplied(a, residues(factors, p), p)
    out, (prime, inverse, _, square, less) = np.empty(a.shape, np.uint64), _constants(p)
    cube, less = (np.uint64((int(each) << 32) % p) for each in (square, less))
    signed = _flat(factors).view(np.uint64)
    compiled.times_public(_flat(a), signed, SIGN, less, prime, inverse, square, cube, out.reshape(-1))
    return out


def summed(a: np.ndarray, axes: Sequence[int], p: int, keepdims: bool = False) -> np.ndarray:
    """Return the sum of a over `axes` mod p, for fewer than 2^33 terms."""
    return reduced(a.sum(axis=tuple(axes), dtype=np.uint64, keepdims=keepdims), p)


def sum_to_shape(a: np.ndarray, shape: Sequence[int], p: int) -> np.ndarray:
    """Return the sum of a mod p over all axes along which an array of `shape` was broadcast to a's shape."""
    if a.shape == tuple(shape):
        return a
    lead = a.ndim - len(shape)
    axes = [*range(lead), *(lead + k for k, n in enumerate(shape) if n == 1 and a.shape[lead + k] != 1)]
    return summed(a, axes, p, keepdims=True).reshape(tuple(shape))


def matrix_product(a: np.ndarray, b: np.ndarray, p: int) -> np.ndarray:
    """Return a @ b mod p, (m, q) (q, n) -> (m, n)."""
    if a.shape[0] < b.shape[1]:
        return _product(b.T, a.T, p).T
    return _product(a, b, p)


def public_product(
    factors: np.ndarray | Pieces, bounds: tuple[int, int], values: np.ndarray, p: int, left: bool = True
) -> np.ndarray:
    """Return factors @ values mod p, (m, q) (q, n) -> (m, n), or values @ factors if not `left`.

    Args:
        factors: signed integers, int64, of any layout, or numbers in pieces.
        bounds: integers between which the factors are.
        values: numbers mod p.
    """
    if not left:
        return public_product(factors.T, bounds, values.T, p).T
    compiled = compiled_for(factors.size * values.shape[1], 1)
    if compiled is None:
        own = reduced(factors[:], p) if isinstance(factors, Pieces) else residues(factors, p)
        return matrix_product(own, values, p)
    from mpc_appraisal.mpc.ring import compiled_rows

    lowest, start = min(0, bounds[0]), np.uint64(min(0, bounds[0]) % (1 << 64))
    pairs = max(1, -(-(bounds[1] - lowest).bit_length() // (2 * compiled_rows.PART)))
    turned = factors.T.flags.c_contiguous and not factors.flags.c_contiguous
    rows, right = factors.T if turned else factors, np.ascontiguousarray(values.T)
    pieces = (rows.low, rows.high) if isinstance(rows, Pieces) else (rows, np.zeros((1, 0), np.uint8))
    out = np.empty((len(right), len(factors)) if turned else (len(factors), len(right)), np.uint64)
    loop = compiled_rows.transposed_times_mod if turned else compiled_rows.times_mod
    loop(*map(np.ascontiguousarray, pieces), start, pairs, right, np.uint64(p), out)
    out = out.T if turned else out
    more = multiplied(summed(values, (0,), p, keepdims=True), np.uint64(lowest % p), p)  # lowest was subtracted
    return added(out, more, p) if lowest else out


def _product(a: np.ndarray, b: np.ndarray, p: int) -> np.ndarray:
    out = np.zeros((a.shape[0], b.shape[1]), np.uint64)
    step = max(16, BLOCK // max(1, b.shape[1], b.shape[0] // 4))
    for first in range(0, b.shape[0], INNER):
        part = b[first : first + INNER]
        high, low = _halves(part)
        both, columns = np.concatenate([high, low], axis=1), part.shape[1]
        for start in range(0, len(a), step):
            rows = slice(start, start + step)
            of_high, of_low = (half @ both for half in _halves(a[rows, first : first + INNER]))
            middle = of_high[:, columns:] + of_low[:, :columns]
            found = _shifted(_remainder(of_high[:, :columns], p), middle, p)
            found = _shifted(found, of_low[:, columns:], p).astype(np.int64)
            found += np.int64(p) & (found >> 63)  # A remainder is off by p where a quotient was rounded.
            found = _below(found.view(np.uint64), p)
            out[rows] = added(out[rows], found, p) if first else found
    return out


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (x >> HALF).astype(np.float64), (x & LOW).astype(np.float64)


def _shifted(high: np.ndarray, low: np.ndarray, p: int) -> np.ndarray:
    """Return 2^16 high + low less a multiple of p, from -p to 2 p - 1."""
    high *= 65536.0
    high += low
    return _remainder(high, p)


def _remainder(x: np.ndarray, p: int) -> np.ndarray:
    """Return x less a multiple of p, from -p to 2 p - 1, for whole float64 numbers x below 2^53 in size."""
    return x - np.floor(x * (1.0 / p)) * p
