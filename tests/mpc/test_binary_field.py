"""Arithmetic in the field of 2^128 elements, by all three ways, against Python's integers and the field's own laws."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from mpc_appraisal.mpc.ring import binary_field, kernels

POLYNOMIAL = 1 << 128 | 0x87
EDGES = (0, 1, (1 << 64) - 1, 1 << 63, 1 << 64, (1 << 128) - 1, 1 << 127, 0x87)


def times(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), by the definition."""
    total = 0
    for k in range(b.bit_length()):
        if b >> k & 1:
            total ^= a << k
    return total


def remainder(a: int, m: int = POLYNOMIAL) -> int:
    """The remainder of a polynomial, by long division."""
    while a.bit_length() >= m.bit_length():
        a ^= m << (a.bit_length() - m.bit_length())
    return a


def element(chance: np.random.Generator) -> int:
    return int.from_bytes(chance.bytes(16), "little")


def elements(n: int, seed: int) -> list[int]:
    """Random elements with the edges among them."""
    chance = np.random.default_rng(seed)
    drawn = [element(chance) for _ in range(n)]
    drawn[: len(EDGES)] = EDGES[:n]
    return drawn


def listed(vector: np.ndarray) -> list[int]:
    return [int(low) | int(high) << 64 for low, high in vector]


def folded(v: list[int], x: int) -> list[int]:
    half = (len(v) + 1) // 2
    upper = [*v[half:], *[0] * (2 * half - len(v))]
    return [a ^ remainder(times(a ^ b, x)) for a, b in zip(v[:half], upper, strict=True)]


def inner(w: list[int], r: list[int]) -> int:
    total = 0
    for a, b in zip(w, r, strict=True):
        total ^= times(a, b)
    return remainder(total)


@pytest.fixture(params=["compiled", "numpy"])
def ways(request, monkeypatch):
    if request.param == "compiled":
        pytest.importorskip("numba", reason="the loops need numba, and numpy computes where it is missing")
        monkeypatch.setattr(kernels, "_loaded", [])
        assert kernels.load() is not None
    else:
        monkeypatch.setattr(kernels, "_loaded", [None])


def test_the_polynomial_has_no_divisor():
    """Rabin's test: x^(2^128) = x, and x^(2^64) - x has no divisor in common with the polynomial."""
    x = power = 2
    for k in range(128):
        power = binary_field.multiply(power, power)
        if k == 63:
            a, b = POLYNOMIAL, power ^ x
            while b:
                a, b = b, remainder(a, b)
            assert a == 1
    assert power == x


def test_products_of_single_elements_are_those_of_long_division():
    drawn = elements(30, 1)
    for a in drawn:
        for b in drawn:
            assert binary_field.multiply(a, b) == remainder(times(a, b))
    assert binary_field.elements_of(binary_field.bytes_of(drawn)) == drawn
    assert listed(binary_field.vector_of(drawn)) == drawn


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
def test_rounds_are_those_of_integers(n):
    w, r = elements(n, 2), elements(n, 3)[::-1]
    half = (n + 1) // 2
    for x in (*EDGES, element(np.random.default_rng(4))):
        assert listed(binary_field.folded(binary_field.vector_of(w), x)) == folded(w, x)
    at_0, leading = binary_field.round_sums(binary_field.vector_of(w), binary_field.vector_of(r))
    pairs = [[a ^ b for a, b in zip(v[:half], [*v[half:], 0], strict=False)] for v in (w, r)]
    assert at_0 == inner(w[:half], r[:half]) and leading == inner(*pairs)
    assert binary_field.next_claim(inner(w, r), at_0, leading, x) == inner(folded(w, x), folded(r, x))


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("n", [1, 2, 300])
def test_words_and_bits_are_those_of_integers(n):
    chance = np.random.default_rng(5)
    words, octets = chance.integers(0, 2**64, (n, 8), dtype=np.uint64), chance.integers(0, 256, n, dtype=np.uint8)
    words[0], octets[0] = 2**64 - 1, 255
    rows, u, v = [[int(w) for w in row] for row in words], elements(8, 6), elements(8, 7)[::-1]
    bits = [[int(octet) >> b & 1 for b in range(8)] for octet in octets]
    cross = np.zeros((8, 8), object)
    for row, bit in zip(rows, bits, strict=True):
        for a in range(8):
            for b in range(8):
                cross[a, b] ^= row[a] * bit[b]
    assert (binary_field.cross_sums(words, octets) == cross).all()
    assert listed(binary_field.combined_words(words, u, 2)) == [*(inner(row, u) for row in rows), 0, 0]
    assert listed(binary_field.combined_bits(octets, v, 1)) == [*(inner(bit, v) for bit in bits), 0]
    both = binary_field.combined_words(words, u), binary_field.combined_bits(octets, v)
    by_cross = [remainder(times(times(u[a], v[b]), int(cross[a, b]))) for a in range(8) for b in range(8)]
    total = 0
    for each in by_cross:
        total ^= each
    assert inner(*map(listed, both)) == total


def computed() -> str:
    """The digest of what all functions return for many elements."""
    chance, digest = np.random.default_rng(8), hashlib.sha256()
    words, octets = chance.integers(0, 2**64, (5000, 8), dtype=np.uint64), chance.integers(0, 256, 5000, dtype=np.uint8)
    u = [element(chance) for _ in range(8)]
    w, r = binary_field.combined_words(words, u, 1), binary_field.combined_bits(octets, u, 1)
    for found in (binary_field.cross_sums(words, octets), w, r):
        digest.update(found.tobytes())
    while len(w) > 1:
        digest.update(binary_field.bytes_of(binary_field.round_sums(w, r)))
        w, r = binary_field.folded(w, u[0]), binary_field.folded(r, u[1])
    digest.update(w.tobytes() + r.tobytes())
    return digest.hexdigest()


CHILD = """
from test_binary_field import computed
from mpc_appraisal.mpc.ring import kernels
assert kernels.load() is not None
from mpc_appraisal.mpc.ring.compiled_binary_field import MULTIPLIES
print(MULTIPLIES, computed())
"""


def test_a_processor_without_the_instruction_computes_the_same(monkeypatch, tmp_path):
    """Compiled for a plain processor, compiled for this one, and by numpy."""
    pytest.importorskip("numba", reason="the loops need numba")
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    paths = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=os.environ | plain | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    multiplies, digest = done.stdout.split()
    found = []
    for loaded in ([], [None]):
        monkeypatch.setattr(kernels, "_loaded", loaded)
        kernels.load()
        found.append(computed())
    assert multiplies == "False" and found == [digest, digest]
