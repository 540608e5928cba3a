"""Arithmetic modulo a random prime p of 31 bits, and in the field of p^4 elements, for the integrity checks.

    F_p     numbers in [0, p),  2^30 < p < 2^31,  p = 1 mod 4
    F_p^4   = F_p[z] / (z^4 - c), c the smallest number that is no square mod p; an element is 4 numbers

z^4 - c has no divisor, because c is no square and -1 is one (Lang, Algebra, theorem VI.9.1). One round of a sumcheck
takes two vectors w and rho of n elements to vectors of half = ceil(n / 2) elements, where missing elements are 0:

    g(x) = <w(x), rho(x)>,   v(x) = v[:half] + x (v[half:] - v[:half]),   <w, rho> = g(0) + g(1)

`round_sums` returns g(0) and the leading coefficient of g, and `folded` returns v(x). In the first round the vectors
are in F_p; a challenge x is always in F_p^4. Where rows of k elements are folded in place of single elements, `half`
is k ceil(n / 2). Folding is linear: n rows that are folded to one by challenges x_1, x_2, ... become the sum of e_i
times row i, for the e of `fold_factors`, and `combined` computes that sum from the rows. Vectors in F_p are uint32
(n,), those in F_p^4 are uint32 (4, n). A single element of F_p^4 is a tuple of four Python integers. The compiled loops
of `compiled_prime_field` and `compiled_rows` are used where `kernels` gives them, and numpy otherwise, with the same
results.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from mpc_appraisal.mpc.ring.kernels import loops
from mpc_appraisal.mpc.ring.pieces import Pieces
from mpc_appraisal.mpc.ring.prg import Stream

Element = tuple[int, int, int, int]
DEGREE = 4
BLOCK = 1 << 12
LOWEST, HIGHEST = 1 << 30, 1 << 31  # every prime lies between these
WITNESSES = (2, 3, 5, 7)  # for these bases, Miller-Rabin is a proof below 3,215,031,751 (Jaeschke 1993)
ZERO: Element = (0, 0, 0, 0)


def is_prime(n: int) -> bool:
    """Return whether n is a prime; n is at most 2^31. The answer is certain."""
    if n < 2 or n in WITNESSES or any(n % q == 0 for q in WITNESSES):
        return n in WITNESSES
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in WITNESSES:
        x = pow(base, odd, n)
        if x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def is_field_prime(p: int) -> bool:
    """Return whether p is a prime that `Field` takes."""
    return LOWEST < p < HIGHEST and p % 4 == 1 and is_prime(p)


def draw_primes(count: int) -> list[int]:
    """Return different primes, drawn uniformly from the 25,348,000 or so that `Field` takes, by the system's source."""
    found: list[int] = []
    while len(found) < count:
        p = LOWEST + 4 * secrets.randbelow(LOWEST // 4) + 1
        if p not in found and is_prime(p):
            found.append(p)
    return found


def uniform(stream: Stream, count: int, p: int) -> np.ndarray:
    """Return the next numbers mod p of the stream, as uint32 (count,).

    Each is 128 uniform bits mod p, so that its distance from the uniform distribution is below p / 2^128 < 2^-97.
    """
    high, low = stream.ring((2, count)).numpy().view(np.uint64)
    q = np.uint64(p)
    return ((high % q * np.uint64((1 << 64) % p) + low % q) % q).astype(np.uint32)


def _compiled(work: int) -> ModuleType | None:
    if loops(work) is None:
        return None
    from mpc_appraisal.mpc.ring import compiled_prime_field

    return compiled_prime_field


class Field:
    """The fields of p and of p^4 elements.

    Args:
        p: a prime for which `is_field_prime` holds.

    Raises ValueError: p is another number.
    """

    def __init__(self, p: int):
        if not is_field_prime(p):
            raise ValueError(f"p: got {p}; expected a prime of 31 bits that is 1 mod 4")
        self.p = p
        self.c = next(c for c in range(2, p) if pow(c, (p - 1) // 2, p) == p - 1)
        self._p, self._inverse = np.uint64(p), np.uint64(pow(p, -1, 1 << 32))

    # -- single elements -------------------------------------------------------------------------------------------
    def add(self, *elements: Element) -> Element:
        """Return the sum of the elements."""
        return tuple(sum(each) % self.p for each in zip(*elements, strict=True))

    def scale(self, factor: int, a: Element) -> Element:
        """Return factor * a for an integer."""
        return tuple(factor * v % self.p for v in a)

    def multiply(self, a: Element, b: Element) -> Element:
        """Return a * b."""
        raw = [0] * (2 * DEGREE - 1)
        for i, u in enumerate(a):
            for j, v in enumerate(b):
                raw[i + j] += u * v
        return self._of_coefficients(raw)

    def _of_coefficients(self, raw: list[int]) -> Element:
        """Return the element of a polynomial in z of degree 6."""
        return tuple((raw[k] + (self.c * raw[k + 4] if k < 3 else 0)) % self.p for k in range(DEGREE))

    def matrix(self, x: Element) -> list[list[int]]:
        """Return the matrix (4, 4) by which x multiplies the coordinates of an element."""
        # z^k x moves the coordinates up by k, and those that leave at the top come back with the factor c.
        return [[x[i - k] if i >= k else self.c * x[i - k] % self.p for k in range(DEGREE)] for i in range(DEGREE)]

    def next_claim(self, claim: Element, at_0: Element, leading: Element, x: Element) -> Element:
        """Return g(x) for the g of degree 2 with g(0) + g(1) = claim; it is linear in the three elements before x."""
        slope = self.add(claim, self.scale(-2, at_0), self.scale(-1, leading))
        return self.add(at_0, self.multiply(x, self.add(slope, self.multiply(x, leading))))

    # -- vectors ---------------------------------------------------------------------------------------------------
    def residues(self, values: np.ndarray) -> np.ndarray:
        """Return integers in [0, 2^64), given as uint64 or as int64 with the same bits, modulo p."""
        values = np.ascontiguousarray(values).view(np.uint64)
        compiled = _compiled(len(values))
        if compiled is None:
            return (values % self._p).astype(np.uint32)
        out = np.empty(len(values), np.uint32)
        one, square = (np.uint64((1 << bits) % self.p) for bits in (32, 64))
        compiled.residues(values, np.uint64(0), np.uint64(0), self._p, self._inverse, one, square, out)
        return out

    def dot(self, a: np.ndarray, b: np.ndarray) -> int:
        """Return <a, b> mod p for vectors in F_p of fewer than 2^32 elements."""
        compiled = _compiled(len(a))
        if compiled is None:
            return int((a.astype(np.uint64) * b % self._p).sum()) % self.p
        sums = np.zeros(2, np.uint64)
        compiled.dot(a, b, sums)
        return self._joined(sums)[0]

    def _joined(self, sums: np.ndarray) -> list[int]:
        """Return the sums of products whose lower and upper halves were summed apart."""
        return [(int(low) + (int(high) << 32)) % self.p for low, high in sums.reshape(-1, 2)]

    def round_sums(self, w: np.ndarray, rho: np.ndarray, half: int | None = None) -> tuple[Element, Element]:
        """Return g(0) and the leading coefficient of g, for vectors both in F_p or both in F_p^4."""
        half = (w.shape[-1] + 1) // 2 if half is None else half
        compiled = _compiled(w.size)
        if compiled is None:
            return self._plain_products(w[..., :half], rho[..., :half]), self._plain_products(
                self._differences(w, half), self._differences(rho, half)
            )
        if w.ndim == 1:
            sums = np.zeros(4, np.uint64)
            compiled.first_round(w, rho, half, self._p, sums)
            return tuple((v, 0, 0, 0) for v in self._joined(sums))
        sums = np.zeros(28, np.uint64)
        compiled.later_round(w, rho, half, self._p, sums)
        raw = self._joined(sums)
        return self._of_coefficients(raw[:7]), self._of_coefficients(raw[7:])

    def _differences(self, v: np.ndarray, half: int) -> np.ndarray:
        upper = np.zeros_like(v[..., :half])
        upper[..., : v.shape[-1] - half] = v[..., half:]
        return ((upper.astype(np.uint64) + self._p - v[..., :half]) % self._p).astype(np.uint32)

    def _plain_products(self, a: np.ndarray, b: np.ndarray) -> Element:
        def product(u: np.ndarray, v: np.ndarray) -> int:
            return int((u.astype(np.uint64) * v % self._p).sum()) % self.p

        if a.ndim == 1:
            return product(a, b), 0, 0, 0
        raw = [0] * (2 * DEGREE - 1)
        for i in range(DEGREE):
            for j in range(DEGREE):
                raw[i + j] += product(a[i], b[j])
        return self._of_coefficients(raw)

    def folded(self, v: np.ndarray, x: Element, more: int = 0, half: int | None = None) -> np.ndarray:
        """Return v(x) in F_p^4, uint32 (4, half + more), for v in F_p or F_p^4; the last `more` elements are 0."""
        half = (v.shape[-1] + 1) // 2 if half is None else half
        out = np.empty((DEGREE, half + more), np.uint32)
        out[:, half:] = 0
        compiled = _compiled(v.size)
        if compiled is None:
            out[:, :half] = self._plain_folded(v, x, half)
            return out
        if v.ndim == 1:
            scaled = np.array([(each << 32) % self.p for each in x], np.uint64)
            compiled.first_fold(v, half, scaled, self._p, self._inverse, out)
        else:
            scaled = np.array([[(each << 32) % self.p for each in row] for row in self.matrix(x)], np.uint64)
            compiled.later_fold(v, half, scaled, self._p, self._inverse, out)
        return out

    def _plain_folded(self, v: np.ndarray, x: Element, half: int) -> np.ndarray:
        moved = self._differences(v, half).astype(np.uint64)
        moved = moved[None] if v.ndim == 1 else moved
        factors = [[each] for each in x] if v.ndim == 1 else self.matrix(x)
        out = [sum(np.uint64(f) * d % self._p for f, d in zip(row, moved, strict=True)) for row in factors]
        starts = v[None] if v.ndim == 1 else v
        for k in range(len(starts)):
            out[k] = out[k] + starts[k, :half]
        return (np.stack(out) % self._p).astype(np.uint32)

    def sum(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return a + b for vectors."""
        return ((a.astype(np.uint64) + b) % self._p).astype(np.uint32)

    # -- rows that are folded to one ---------------------------------------------------------------------------------
    def scaled(self, v: np.ndarray, x: Element) -> np.ndarray:
        """Return x v for a vector v in F_p^4."""
        rows = np.array(self.matrix(x), np.uint64)
        # Four products of 62 bits fit into 64 bits.
        return np.stack([(row[:, None] * v).sum(axis=0, dtype=np.uint64) % self._p for row in rows]).astype(np.uint32)

    def fold_factors(self, n: int, challenges: Sequence[Element]) -> np.ndarray:
        """Return e in F_p^4, (4, n), such that n rows r_i, folded by the challenges, are the sum of e_i r_i."""
        sizes = [n]
        for _ in challenges:
            sizes.append((sizes[-1] + 1) // 2)
        if sizes[-1] != 1:
            raise ValueError(f"challenges: got {len(challenges)}; expected as many as fold {n} rows to one")
        found = np.array([[1], [0], [0], [0]], np.uint32)
        for x, size in zip(reversed(challenges), reversed(sizes[:-1]), strict=True):
            upper = self.scaled(found, x)
            lower = ((found.astype(np.uint64) + self._p - upper) % self._p).astype(np.uint32)
            found = np.concatenate([lower, upper], axis=1)[:, :size]
        return found

    def combined(self, e: np.ndarray, rows: np.ndarray | Pieces) -> np.ndarray:
        """Return the sum of e_i rows_i in F_p^4, (4, d), for e (4, n) and whole numbers `rows` (n, d).

        `rows` are uint64, which may be in pieces, or int64 with the signed numbers that these are. They are read
        fastest where they, or their transpose, are contiguous.
        """
        signed, e = rows.dtype == np.int64, np.ascontiguousarray(e)
        if _compiled(DEGREE * rows.size) is None:
            return self._plain_combined(e, rows)
        from mpc_appraisal.mpc.ring import compiled_rows as compiled

        flip = np.uint64(1 << 63 if signed else 0)
        high_e = (e * np.uint64((1 << 32) % self.p) % self._p).astype(np.uint32)
        sums = np.zeros((2, DEGREE, rows.shape[1]), np.uint64)
        turned = rows.T.flags.c_contiguous and not rows.flags.c_contiguous
        if isinstance(rows, Pieces):
            loop = compiled.packed_combined_columns if turned else compiled.packed_combined_rows
            pieces = (rows.low.T, rows.high.T) if turned else (rows.low, rows.high)
            loop(*map(np.ascontiguousarray, pieces), e, high_e, *sums)
        elif turned:
            compiled.combined_columns(rows.T.view(np.uint64), flip, e, high_e, *sums)
        else:
            compiled.combined_rows(np.ascontiguousarray(rows).view(np.uint64), flip, e, high_e, *sums)
        low, high = sums % self._p
        found = (low + high * np.uint64((1 << 32) % self.p)) % self._p
        if signed:  # 2^63 was added to every number
            added = np.array([int(each.sum(dtype=np.uint64)) * (1 << 63) % self.p for each in e], np.uint64)
            found = (found + self._p - added[:, None]) % self._p
        return found.astype(np.uint32)

    def _plain_combined(self, e: np.ndarray, rows: np.ndarray | Pieces) -> np.ndarray:
        """Return `combined` by products of halves of 16 bits, of which float64 holds BLOCK sums."""
        halves = np.concatenate([e >> np.uint32(16), e & np.uint32(0xFFFF)]).astype(np.float64)
        total = np.zeros((2 * DEGREE, rows.shape[1]), np.uint64)
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            part = (rows[block] % rows.dtype.type(self.p)).astype(np.uint64)
            of_rows = part >> np.uint64(16), part & np.uint64(0xFFFF)
            upper, lower = (halves[:, block] @ half.astype(np.float64) for half in of_rows)
            total += (upper.astype(np.uint64) % self._p * np.uint64(1 << 16) + lower.astype(np.uint64)) % self._p
        total %= self._p
        return ((total[:DEGREE] * np.uint64(1 << 16) + total[DEGREE:]) % self._p).astype(np.uint32)
