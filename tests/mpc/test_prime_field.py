"""Arithmetic in fields of p and p^4 elements, by both ways, against Python's integers and trial division."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mpc_appraisal.mpc.ring import prime_field
from mpc_appraisal.mpc.ring.pieces import Pieces
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.prime_field import Field

PRIMES = (1073741857, 2147483629, 2147483549)  # near both ends


def by_division(n: int) -> bool:
    return n > 1 and all(n % q for q in range(2, int(n**0.5) + 1))


def elements(field: Field, n: int, seed: int, degree: int) -> np.ndarray:
    """Random elements with the extremes 0, 1 and p - 1 among them: (n,) for degree 1, else (4, n)."""
    drawn = np.random.default_rng(seed).integers(0, field.p, (degree, n))
    drawn[:, ::7], drawn[:, 1::7], drawn[:, 2::7] = field.p - 1, 0, 1
    return (drawn if degree > 1 else drawn[0]).astype(np.uint32)


def times(a, b, c: int, p: int):
    """The product of polynomials mod z^4 - c, by schoolbook."""
    out = [0] * 4
    for i in range(4):
        for j in range(4):
            out[(i + j) % 4] += int(a[i]) * int(b[j]) * (c if i + j > 3 else 1)
    return tuple(v % p for v in out)


def listed(v: np.ndarray) -> list[tuple[int, ...]]:
    return [(int(e), 0, 0, 0) for e in v] if v.ndim == 1 else [tuple(map(int, e)) for e in v.T]


def test_primes_are_those_of_trial_division():
    numbers = [*range(3000), *range(2**30 - 50, 2**30 + 50), *range(2**31 - 50, 2**31), 3215031749, 2152302898 - 1]
    numbers += [25326001 * 1, 46341 * 46337, 32749 * 32719, 1194649, 12327121]  # pseudoprimes and squares of primes
    assert [prime_field.is_prime(n) for n in numbers] == [by_division(n) for n in numbers]
    assert all(prime_field.is_field_prime(p) and by_division(p) for p in PRIMES)
    drawn = prime_field.draw_primes(20)
    assert len(set(drawn)) == 20 and all(by_division(p) and p % 4 == 1 and 2**30 < p < 2**31 for p in drawn)


@pytest.mark.parametrize("p", [7, 2**31 - 1, 2**30 + 1, 4294967291, -3])
def test_other_numbers_are_refused(p):
    with pytest.raises(ValueError, match="expected a prime of 31 bits"):
        Field(p)


def test_every_element_but_zero_has_its_fermat_inverse():
    """a^(p^4 - 1) = 1 for a != 0 holds in a field, and fails for zero divisors: z^4 - c has no divisor."""
    chance = random.Random(5)
    for p in PRIMES:
        field = Field(p)
        assert field.c == next(c for c in range(2, p) if pow(c, (p - 1) // 2, p) != 1)
        for _ in range(5):
            a = tuple(chance.randrange(p) for _ in range(4))
            found, power, square = (1, 0, 0, 0), p**4 - 1, a
            while power:
                if power & 1:
                    found = field.multiply(found, square)
                square, power = field.multiply(square, square), power >> 1
            assert found == (1, 0, 0, 0)


@pytest.mark.parametrize("p", PRIMES)
def test_vectors_are_those_of_integers(way, p):
    field, chance = Field(p), random.Random(3)
    values = np.random.default_rng(1).integers(0, 2**64, 1000, dtype=np.uint64)
    values[:6] = [0, 1, 2**64 - 1, 2**32, 2**32 - 1, p]
    assert field.residues(values).tolist() == [int(v) % p for v in values]
    assert field.residues(values.view(np.int64)).tolist() == [int(v) % p for v in values]
    for n in (1, 2, 3, 8, 37, 64):
        a, b = elements(field, n, n, 1), elements(field, n, n + 1, 1)
        assert field.dot(a, b) == sum(int(u) * int(v) for u, v in zip(a, b, strict=True)) % p
        for degree in (1, 4):
            w, rho = elements(field, n, n, degree), elements(field, n, n + 9, degree)
            x = tuple(chance.randrange(p) for _ in range(4))
            at_0, leading = field.round_sums(w, rho)
            claim = field.add((0,) * 4, *(times(u, v, field.c, p) for u, v in zip(listed(w), listed(rho), strict=True)))
            wx, rhox = field.folded(w, x), field.folded(rho, x, more=2)
            assert not rhox[:, -2:].any()
            half, padded = (n + 1) // 2, [*listed(w), (0,) * 4]
            for i in range(half):
                moved = [v - u for u, v in zip(padded[i], padded[half + i] if half + i < n else (0,) * 4, strict=True)]
                product = times(x, moved, field.c, p)
                assert listed(wx)[i] == tuple((u + v) % p for u, v in zip(padded[i], product, strict=True))
            pairs = zip(listed(wx), listed(rhox), strict=False)
            total = field.add((0,) * 4, *(times(u, v, field.c, p) for u, v in pairs))
            assert field.next_claim(claim, at_0, leading, x) == total


def test_sums_of_the_largest_products_do_not_overflow(way):
    p = PRIMES[1]
    for degree in (1, 4):
        v = np.full((degree, 4096) if degree > 1 else 4096, p - 1, np.uint32)
        at_0, _ = Field(p).round_sums(v, v)
        one = times((p - 1,) * 4, (p - 1,) * 4, Field(p).c, p) if degree > 1 else (1, 0, 0, 0)
        assert at_0 == tuple(2048 * e % p for e in one)


@pytest.mark.parametrize("p", PRIMES)
def test_rows_that_are_folded_to_one_are_their_combination(way, p):
    field, chance = Field(p), random.Random(4)
    for n, d in ((1, 3), (2, 1), (5, 4), (33, 300), (16, 7)):
        rows = np.random.default_rng(n).integers(0, 2**64, (n, d), dtype=np.uint64)
        rows[0, 0], rows[-1, -1] = 2**64 - 1, 0
        folded, left, challenges = field.residues(rows.reshape(-1)), n, []
        while left > 1 or not challenges:
            challenges.append(tuple(chance.randrange(p) for _ in range(4)))
            folded = field.folded(folded, challenges[-1], half=(left + 1) // 2 * d)
            left = (left + 1) // 2
        e = field.fold_factors(n, challenges)
        with pytest.raises(ValueError, match="expected as many as fold"):
            field.fold_factors(2 * n + 1, challenges[:-1])
        for layout in (rows, np.asfortranarray(rows), np.concatenate([rows, rows], axis=1)[:, :d]):
            assert field.combined(e, layout).tolist() == folded.tolist()
        for kind in (np.uint8, np.uint16):
            pieces = Pieces(rows.astype(np.uint32), (rows >> np.uint64(32)).astype(kind))
            exact = (e.astype(object) @ pieces[:].astype(object)) % p
            for layout in (pieces, Pieces(*map(np.asfortranarray, (pieces.low, pieces.high)))):
                assert (field.combined(e, layout).astype(object) == exact).all()
        signed = (e.astype(object) @ rows.view(np.int64).astype(object)) % p
        for layout in (rows.view(np.int64), np.asfortranarray(rows.view(np.int64))):
            assert (field.combined(e, layout).astype(object) == signed).all()


def test_combinations_of_the_largest_numbers_do_not_overflow(way):
    p = PRIMES[1]
    e, rows = np.full((4, 9000), p - 1, np.uint32), np.full((9000, 5), 2**64 - 1, np.uint64)
    for layout in (rows, np.asfortranarray(rows)):
        assert (Field(p).combined(e, layout) == 9000 * (p - 1) * (2**64 - 1) % p).all()


def test_uniform_numbers_are_128_bits_of_the_stream_mod_p():
    p, key = PRIMES[0], bytes(range(32))
    high, low = Stream(key, "x").ring((2, 50)).tolist()
    expected = [((h % 2**64 << 64) + (v % 2**64)) % p for h, v in zip(high, low, strict=True)]
    assert prime_field.uniform(Stream(key, "x"), 50, p).tolist() == expected
