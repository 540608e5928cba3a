"""The compiled loops give the same integers as torch, and both those of big integers; what falls back, and when."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from three import run, sharing

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.softmax import softmax
from mpc_appraisal.mpc.ring import elementwise, kernels, narrow
from mpc_appraisal.mpc.ring.fixed_point import encode
from mpc_appraisal.mpc.ring.matrix import Matrix, ring_product
from mpc_appraisal.mpc.ring.packed_matrix import PACKED_PRODUCTS, PackedMatrix
from mpc_appraisal.mpc.ring.packing import pack, unpack
from mpc_appraisal.mpc.ring.powers_of_three import POINT, power_of_three
from mpc_appraisal.mpc.ring.prg import Stream

pytest.importorskip("numba", reason="the loops need numba, and torch computes where it is missing")
RANDOM = np.random.default_rng(7)
EXTREMES = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), 2**31, -(2**31), 2**32 - 1, 255, 256])


def ring(*shape: int) -> torch.Tensor:
    """Uniform ring elements, with every extreme among them."""
    values = torch.from_numpy(RANDOM.integers(-(2**63), 2**63, shape, dtype=np.int64))
    values.view(-1)[: len(EXTREMES)] = EXTREMES[: values.numel()]
    return values


def both(monkeypatch: Any, compute: Callable[[], Any]) -> tuple[Any, Any]:
    """What `compute` returns by torch, and by the compiled loops."""
    compiled = kernels.load()
    assert compiled is not None
    found = []
    for chosen in (None, compiled):
        monkeypatch.setattr(kernels, "_loaded", [chosen])
        found.append(compute())
    return tuple(found)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    return a.shape == b.shape and torch.equal(a, b)


@pytest.mark.parametrize("n, d, k", [(1, 1, 1), (37, 11, 10), (16, 3, 5), (5, 40, 23), (70, 9, 4), (3, 2, 100)])
def test_products_are_those_of_big_integers(monkeypatch, n, d, k):
    x, w, r = ring(n, d), ring(d, k), ring(n, k)
    narrow = (x >> 32).to(torch.int32)
    narrow.view(-1)[:3] = torch.tensor([-(2**31), 2**31 - 1, -1])[: narrow.numel()]
    cases = [(x, False, w), (x, True, r), (x, False, ring(k, d).t()), (x, True, ring(k, n).t())]
    for x, transposed, right in [*cases, (narrow, False, w), (narrow, True, r)]:
        left = [[int(v) for v in row] for row in (x.t() if transposed else x)]
        columns = [[int(v) for v in column] for column in right.t()]
        exact = [[sum(a * b for a, b in zip(row, c, strict=True)) for c in columns] for row in left]
        exact = torch.tensor([[(v + 2**63) % 2**64 - 2**63 for v in row] for row in exact])
        plain, fast = both(monkeypatch, lambda x=x, t=transposed, m=right: Matrix(x).product(m, t))
        assert torch.equal(plain, exact) and torch.equal(fast, exact)
        if x.dtype == torch.int64:
            left = x.t() if transposed else x
            assert same(*both(monkeypatch, lambda a=left, b=right: ring_product(a, b)))
            assert torch.equal(ring_product(left, right), exact)


@pytest.mark.parametrize("n, d, k", [(1, 1, 1), (37, 11, 10), (5, 40, 23), (70, 9, 4)])
def test_products_of_bytes_and_of_the_ring_mod_2_to_32(monkeypatch, n, d, k):
    pixels = torch.from_numpy(RANDOM.integers(0, 256, (n, d), dtype=np.uint8))
    pixels.view(-1)[:2] = torch.tensor([255, 0], dtype=torch.uint8)[: pixels.numel()]
    narrow = (ring(n, d) >> 16).to(torch.int32)
    for x in (pixels, narrow):
        for transposed, right in (
            (False, ring(d, k)),
            (True, ring(n, k)),
            (False, ring(k, d).t()),
            (True, ring(k, n).t()),
        ):
            left = (x.t() if transposed else x).tolist()
            exact = [
                [sum(int(a) * int(b) for a, b in zip(row, c, strict=True)) for c in right.t().tolist()] for row in left
            ]
            for thin, bits in ((right, 64), (right.to(torch.int32), 32)):
                both_ways = both(monkeypatch, lambda x=x, t=transposed, m=thin: Matrix(x).product(m, t))
                for found in both_ways:
                    assert found.dtype == torch.int64
                    assert [[v % 2**bits for v in row] for row in found.tolist()] == [
                        [v % 2**bits for v in row] for row in exact
                    ]


@pytest.mark.parametrize("size", [5, 6])
@pytest.mark.parametrize("n, d, k", [(1, 1, 1), (37, 11, 10), (5, 40, 23), (70, 9, 4)])
def test_products_of_a_matrix_that_stays_packed(monkeypatch, n, d, k, size):
    """The numbers are those of the bytes, and their products are right mod 2^64, whatever the bytes' address is."""
    whole, index = ring(n, d) & (256**size - 1), [n - 1, 0, n // 2, 0]
    packed = pack(whole, size)
    shifted = torch.cat([torch.zeros(1, dtype=torch.uint8), packed])[1:]  # at an odd address
    cases = [(False, ring(d, k)), (True, ring(n, k)), (False, ring(k, d).t()), (True, ring(k, n).t())]
    for message, (transposed, right) in product((packed, shifted), cases):
        exact = np.array((whole.t() if transposed else whole).tolist(), dtype=object).dot(right.numpy().astype(object))
        for found in both(
            monkeypatch, lambda m=message, t=transposed, r=right: PackedMatrix(m, (n, d), size).product(r, t)
        ):
            assert found.dtype == torch.int64 and found.shape == exact.shape
            assert ((found.numpy().astype(object) - exact) % 2**64 == 0).all()
    for compiled in (None, kernels.load()):
        monkeypatch.setattr(kernels, "_loaded", [compiled])
        matrix = PackedMatrix(shifted, (n, d), size)
        rows = matrix.rows(index)
        assert torch.equal(matrix.values, whole) and torch.equal(rows.values, whole[index])
        assert torch.equal(rows.message, pack(whole[index], size))
        assert torch.equal(narrow.chosen(shifted, (n, d), 8 * size, index), rows.message)
        assert torch.equal(matrix.times(cases[0][1]), Matrix(whole).times(cases[0][1]))
        assert torch.equal(matrix.values, whole) and torch.equal(matrix.rows(index).values, whole[index])  # still
        for _ in range(PACKED_PRODUCTS):  # the last of these products finds the matrix unpacked
            assert torch.equal(matrix.times(cases[0][1]), Matrix(whole).times(cases[0][1]))
        assert matrix.message is None and torch.equal(matrix.rows(index).values, whole[index])


def test_a_product_of_sizes_that_do_not_agree_is_refused_by_both(monkeypatch):
    whole = ring(20, 7)
    for compiled in (None, kernels.load()):
        monkeypatch.setattr(kernels, "_loaded", [compiled])
        for matrix in (Matrix(whole), PackedMatrix(pack(whole, 5), whole.shape, 5)):
            for transposed in (False, True):
                with pytest.raises(RuntimeError):
                    matrix.product(ring(8, 3), transposed)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8])
def test_bytes_on_the_wire(monkeypatch, size):
    values, less = ring(7, 11), ring(7, 11)
    plain, fast = both(monkeypatch, lambda: (pack(values, size), pack(values, size, less), pack(ring(0, 3), size)))
    assert same(plain, fast)
    shifted = torch.cat([torch.zeros(1, dtype=torch.uint8), plain[0]])[1:]  # at an odd address
    low = [int(v) % 256**size for v in values.reshape(-1)]
    for data in (plain[0], shifted):
        pair = both(monkeypatch, lambda d=data: unpack(d, (7, 11), size))
        assert same(*pair) and [int(v) % 256**size for v in pair[1].reshape(-1)] == low
    with pytest.raises(TypeError):
        unpack(plain[0][:-1], (7, 11), size)


@pytest.mark.parametrize("bits", narrow.WIDTHS)
@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_what_is_sent_of_a_masked_matrix_takes_the_place_of_its_mask(monkeypatch, kind, bits):
    values, key = (ring(40, 7) >> (8 if kind == torch.int64 else 33)).to(kind), bytes(32)
    for x in (values, values.t()):  # the second is not in order
        plain, fast = both(monkeypatch, lambda x=x: narrow.masked(Stream(key, "mask"), x, bits))
        mask = narrow.drawn(Stream(key, "mask"), x.shape, bits)
        sent = narrow.received(fast, x.shape, bits)
        assert same(plain, fast) and len(fast) == x.numel() * bits // 8
        for a, b, c in zip(sent.reshape(-1).tolist(), x.reshape(-1).tolist(), mask.reshape(-1).tolist(), strict=True):
            assert (a - b + c) % 2**bits == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encoding(monkeypatch, dtype):
    values = torch.from_numpy(RANDOM.normal(0, 100, (40, 9))).to(dtype)
    values[0, :5] = torch.tensor([0.5, 1.5, -0.5, 32768.0, -32768.0]) * torch.tensor([2**-16] * 3 + [1, 1])
    for bits in (0, 16, 20, 40):
        assert same(*both(monkeypatch, lambda b=bits: encode(values, "x", b)))
    assert same(*both(monkeypatch, lambda: encode(values.t(), "x")))
    kernels.load()
    narrow = encode(values, "x", narrow=True)  # 32768 is beyond int32
    assert narrow.dtype == torch.int64 and torch.equal(narrow, encode(values, "x"))
    values[0, 3] = 32767.99
    for bits, kind in ((16, torch.int32), (20, torch.int64)):
        narrow = encode(values, "x", bits, narrow=True)
        assert narrow.dtype == kind and torch.equal(narrow.to(torch.int64), encode(values, "x", bits))
    for bad in (float("nan"), float("inf"), -float("inf"), 32768.1, -1e6):
        spoilt = values.clone()
        spoilt[-1, -1] = bad
        for compiled in (None, kernels.load()):
            monkeypatch.setattr(kernels, "_loaded", [compiled])
            with pytest.raises(InputError, match="x"):
                encode(spoilt, "x")


def test_steps_on_opened_values(monkeypatch):
    a, b, c, d = (ring(60, 7) for _ in range(4))
    thin, thin_mask, bit, thin_bit = ring(60, 1), ring(60, 1), ring(60, 7) & 1, ring(60, 1) & 1
    steps = [
        lambda: elementwise.masked_share(a, 0, 0, 9, b),
        lambda: elementwise.masked_share(a, 0, 13, 5, b),
        lambda: elementwise.masked_share(a, 2**13 - 1, 13, 0, b),
        lambda: elementwise.exponentials(a, bit, b, c),
        lambda: elementwise.squared(a, b, c, True),
        lambda: elementwise.squared(a, b, c, False),
    ]
    for first in (True, False):
        steps.append(lambda f=first: elementwise.crossed(a, (b, c), (d, a), f))
        steps.append(lambda f=first: elementwise.crossed(a, (b, c), (thin, thin_mask), f))
        steps.append(lambda f=first: elementwise.crossed(a, (thin, thin_mask), (b, c), f))
        steps.append(lambda f=first: elementwise.crossed(ring(7) * 0, (a[0], b[0]), (c[0], d[0]), f))
    for bits in (1, 8, 22, 40, 63):
        steps.append(lambda n=bits: elementwise.widened(a, n, bit, 1 - bit, b))
        steps.append(lambda n=bits: elementwise.opening_mask(a, b, n))
        steps.append(lambda n=bits: elementwise.add_where(a.clone(), bit, b, n))
        steps.append(lambda n=bits: elementwise.add_where(a.clone(), thin_bit, b, n))
        steps.append(lambda n=bits: elementwise.opened(a, b, n, 5))
    steps.append(lambda: elementwise.opened(a, b, 64, 5))
    for step in steps:
        assert same(*both(monkeypatch, step))


def test_shapes_that_no_loop_has_go_to_torch(monkeypatch):
    a, row = ring(6, 4), ring(1, 4)
    plain, fast = both(monkeypatch, lambda: elementwise.crossed(a, (a, a), (row, row), True))
    assert torch.equal(plain, a - a * row - row * a + a * row) and torch.equal(plain, fast)
    bit = row & 1
    assert same(*both(monkeypatch, lambda: elementwise.add_where(a.clone(), bit, a, 3)))


@pytest.mark.parametrize("offset, mantissa, rate", [(0, 17, 1), (9, 17, -77), (40, 8, 1 << 20), (0, 0, 3)])
def test_powers_of_three(monkeypatch, offset, mantissa, rate):
    base = ring(500) >> (64 - 55 + rate.bit_length())
    plain, fast = both(monkeypatch, lambda: power_of_three(base, mantissa, offset, rate))
    assert torch.equal(plain, fast)
    assert torch.equal(fast, power_of_three(base * rate, mantissa, offset))
    whole = torch.arange(-300, 300) << POINT  # 3^n 2^m and nothing else
    for power in both(monkeypatch, lambda: power_of_three(whole, 20)):
        rounded = {int(v) * pow(3, 300 - n, 2**64) % 2**64 for n, v in enumerate(power.tolist())}
        assert len(rounded) == 1


def test_a_softmax_is_the_same_to_the_byte(monkeypatch):
    z = torch.from_numpy(RANDOM.normal(0, 3, (50, 10)))
    share = sharing(z, 32)
    monkeypatch.setattr("three.new_key", lambda: bytes(range(32)))
    plain, fast = both(monkeypatch, lambda: run(lambda e: softmax(e, share(e), 32, 32.0)))
    assert same(tuple(plain.results), tuple(fast.results))
    for mine, theirs in zip(plain.seen, fast.seen, strict=True):
        assert same(tuple(mine), tuple(theirs)) and len(mine) > 10


LAZY = """
import os, sys, threading, torch
import mpc_appraisal.mpc.backends.fast
from mpc_appraisal.mpc.ring import kernels
from mpc_appraisal.mpc.ring.matrix import Matrix, ring_product
from mpc_appraisal.mpc.ring.packed_matrix import PACKED_PRODUCTS, PackedMatrix
Matrix(torch.ones(50, 20, dtype=torch.int64)).times(torch.ones(20, 10, dtype=torch.int64))
assert "numba" not in sys.modules
kernels.load()
child = os.fork()
found = Matrix(torch.ones(3000, 1000, dtype=torch.int64)).times(torch.ones(1000, 2, dtype=torch.int64))
assert torch.equal(found, torch.full((3000, 2), 1000)) and threading.active_count() == 1
sys.exit(os.waitpid(child, 0)[1] if child else 0)
"""


def test_small_work_loads_no_compiler_and_a_process_may_fork_after_it():
    done = subprocess.run([sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


PRELOADED = """
import threading
from mpc_appraisal.mpc.ring import compiled_prime_field, preloaded
assert len(compiled_prime_field.added.overloads) > 0, "no machine code was loaded"
assert preloaded.load_kept([preloaded]) == 0 and threading.active_count() == 1
"""


def test_machine_code_that_numba_has_kept_is_loaded_at_once(monkeypatch):
    pytest.importorskip("numba")
    assert kernels.load() is not None
    from mpc_appraisal.mpc.ring import compiled_prime_field, preloaded

    numbers = np.arange(3, dtype=np.uint64)
    compiled_prime_field.added(numbers, numbers, np.uint64(7), np.empty(3, np.uint64))
    assert len(preloaded.kept(compiled_prime_field.added)) > 0
    done = subprocess.run([sys.executable, "-c", PRELOADED], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(preloaded, "kept", lambda loop: loop.of_another_release)
    assert preloaded.load_kept([compiled_prime_field]) == 0


def test_numba_is_loaded_for_one_large_work_or_for_many_small_ones(monkeypatch):
    monkeypatch.setattr(kernels, "_imported", lambda: "loaded")
    monkeypatch.delitem(sys.modules, kernels.COMPILED, raising=False)
    for works in ([kernels.WORTH], [kernels.WORTH // 4] * 16):
        monkeypatch.setattr(kernels, "_loaded", [])
        monkeypatch.setattr(kernels, "_spent", 0)
        assert [kernels.loops(work) for work in works] == [None] * (len(works) - 1) + ["loaded"]
        assert kernels.loops(1) == "loaded"
    monkeypatch.setattr(kernels, "_loaded", [])
    monkeypatch.setitem(sys.modules, kernels.COMPILED, None)  # imported by a process that forked this one
    assert kernels.loops(1) == "loaded"


def test_where_numba_cannot_be_used_torch_computes(monkeypatch):
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("cannot cache function: no locator available")

    assert kernels.load() is not None
    with monkeypatch.context() as changes:
        changes.setattr("numba.config.DISABLE_JIT", 1)
        assert kernels._imported() is None
    with monkeypatch.context() as changes:  # no folder can be written
        changes.delitem(sys.modules, kernels.COMPILED)
        changes.delattr("mpc_appraisal.mpc.ring.compiled")
        changes.setattr("numba.njit", refuse)
        assert kernels._imported() is None
    with monkeypatch.context() as changes:
        changes.setitem(sys.modules, "numba", None)
        assert kernels._imported() is None
    assert kernels._imported() is not None
