"""Linear forms of dealt numbers: exact against Python's integers, and equal to what the engine's own code computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity import residues
from mpc_appraisal.mpc.integrity.linear_form import LinearForm, backward, forward, leaf
from mpc_appraisal.mpc.integrity.tape import Tape
from mpc_appraisal.mpc.ring.packed_matrix import PackedMatrix
from mpc_appraisal.mpc.ring.packing import pack
from mpc_appraisal.mpc.ring.shape_tensor import broadcast

PRIMES = (2**31 - 1, 2**31 - 19, 1_073_741_827, 65_537, 3)


def random_words(rng: np.random.Generator, shape, bits: int = 64) -> torch.Tensor:
    """Return int64 numbers of `bits` random bits, which are signed where they have 64."""
    words = rng.integers(0, 2**64, size=shape, dtype=np.uint64) >> np.uint64(64 - bits)
    return torch.from_numpy(np.asarray(words).view(np.int64).reshape(tuple(shape)))


def factors(rng: np.random.Generator, shape) -> torch.Tensor:
    """Return public numbers, among them the largest, the least, and few bits."""
    found = random_words(rng, shape).reshape(-1)
    small = torch.from_numpy(rng.integers(-3, 4, size=found.shape))
    found = torch.where(torch.from_numpy(rng.random(found.shape) < 0.5), found, small)
    if found.numel() and rng.random() < 0.3:
        found[0] = -(2**63) if rng.random() < 0.5 else 2**63 - 1
    return found.reshape(tuple(shape))


def whole(tensor: torch.Tensor) -> np.ndarray:
    """Return an int64 tensor as an array of Python's integers."""
    return np.array(tensor.numpy(), dtype=object)


def unsigned(tensor: torch.Tensor, bits: int) -> np.ndarray:
    return np.array([int(v) % 2**bits for v in tensor.reshape(-1)], dtype=object).reshape(tuple(tensor.shape))


class Worlds:
    """One value as a form, as the engine's tensor, as a tensor with all leaves zero, and as exact integers."""

    def __init__(self, form, tensor, zero, exact):
        self.form, self.tensor, self.zero, self.exact = form, tensor, zero, np.asarray(exact, dtype=object)

    def on(self, f, exactly) -> Worlds:
        """Return f of each, and `exactly` of the integers, of whose constants nothing is kept."""
        return Worlds(f(self.form), f(self.tensor), f(self.zero), exactly(self.exact))


def of_two(f, exactly, a: Worlds, b: Worlds) -> Worlds:
    return Worlds(f(a.form, b.form), f(a.tensor, b.tensor), f(a.zero, b.zero), exactly(a.exact, b.exact))


def leaf_of(tape: Tape, values: torch.Tensor, bits: int) -> Worlds:
    held = values if bits == 64 else values & ((1 << bits) - 1)
    return Worlds(leaf(tape, values.shape, bits), held, torch.zeros_like(held), unsigned(values, bits))


def shapes_with(rng: np.random.Generator, shape):
    """Return a shape that goes together with `shape`."""
    other = [1 if rng.random() < 0.3 else n for n in shape]
    return other[1:] if other and rng.random() < 0.2 else [2, *other] if rng.random() < 0.1 else other


def by_public(rng: np.random.Generator, x: Worlds) -> Worlds:
    c, k = factors(rng, shapes_with(rng, x.form.shape)), int(rng.integers(-5, 6))
    zeros = whole(torch.zeros_like(c))
    return [
        lambda: x.on(lambda v: v * c, lambda e: e * whole(c)),
        lambda: x.on(lambda v: c * v, lambda e: e * whole(c)),
        lambda: x.on(lambda v: v + c, lambda e: e + zeros),
        lambda: x.on(lambda v: c - v, lambda e: zeros - e),
        lambda: x.on(lambda v: v - c, lambda e: e - zeros),
        lambda: x.on(lambda v: k - v * k, lambda e: -e * k),
        lambda: x.on(lambda v: (v << 7) + 2**62, lambda e: e * 128),
        lambda: x.on(lambda v: -v, lambda e: -e),
    ][rng.integers(8)]()


def moved(rng: np.random.Generator, x: Worlds) -> Worlds:
    dims, last = len(x.form.shape), x.form.shape[-1] if len(x.form.shape) else 0
    if dims == 0:
        return x.on(lambda v: v.reshape(1), lambda e: e.reshape(1))
    picked = torch.from_numpy(rng.integers(0, x.form.shape[0], 3))
    dim, keep = int(rng.integers(dims)), bool(rng.random() < 0.5)
    choices = [
        lambda: x.on(lambda v: v.reshape(-1, last).contiguous(), lambda e: e.reshape(-1, last)),
        lambda: x.on(lambda v: v.sum(dim, keepdim=keep), lambda e: e.sum(dim, keepdims=keep)),
        lambda: x.on(lambda v: v.sum(), lambda e: e.sum()),
        lambda: x.on(lambda v: v[picked], lambda e: e[picked.numpy()]),
        lambda: x.on(lambda v: v[..., -1:], lambda e: e[..., -1:]),
        lambda: x.on(lambda v: v[picked.tolist()][1], lambda e: e[picked.tolist()][1]),
        lambda: x.on(lambda v: torch.stack([v, -v], dim=1), lambda e: np.stack([e, -e], axis=1)),
        lambda: x.on(lambda v: torch.cat([v, torch.zeros_like(v) + 5, v]), lambda e: np.concatenate([e, 0 * e, e])),
        lambda: x.on(lambda v: sum(torch.unbind(v)), lambda e: e.sum(0)),
    ]
    return choices[rng.integers(len(choices))]()


def of_matrices(rng: np.random.Generator, x: Worlds) -> Worlds:
    if len(x.form.shape) != 2:
        return x
    rows, columns = x.form.shape
    w, q = factors(rng, (columns, 3)), factors(rng, (2, rows))
    yes = torch.from_numpy(rng.random((rows, columns)) < 0.5)
    choices = [
        lambda: x.on(lambda v: v @ w, lambda e: e @ whole(w)),
        lambda: x.on(lambda v: q @ v, lambda e: whole(q) @ e),
        lambda: x.on(lambda v: w.t().matmul(v.t()), lambda e: whole(w).T @ e.T),
        lambda: x.on(lambda v: v.t(), lambda e: e.T),
        lambda: x.on(lambda v: torch.where(yes, v, 3 - v), lambda e: np.where(yes.numpy(), e, -e)),
        lambda: x.on(lambda v: torch.diagonal(v[:, :2]).sum(), lambda e: np.diagonal(e[:, :2]).sum()),
    ]
    return choices[rng.integers(len(choices))]()


def paired(rng: np.random.Generator, x: Worlds, y: Worlds) -> Worlds:
    try:
        broadcast(x.form.shape, y.form.shape)
    except RuntimeError:
        return x
    return of_two(*((lambda a, b: a + b,) * 2 if rng.random() < 0.5 else (lambda a, b: a - b,) * 2), x, y)


def program(seed: int) -> tuple[Tape, list[torch.Tensor], list[Worlds]]:
    """Return a tape, the dealt numbers and the values of a random program."""
    rng, tape = np.random.default_rng(seed), Tape()
    dealt, values = [], []
    for bits in rng.choice([1, 7, 24, 40, 64], size=int(rng.integers(2, 5))):
        shape = [(), (3,), (4, 1), (4, 3), (5, 2)][rng.integers(5)]
        dealt.append(random_words(rng, shape))
        values.append(leaf_of(tape, dealt[-1], int(bits)))
    for _ in range(25):
        x, y = (values[rng.integers(len(values))] for _ in range(2))
        kind = rng.integers(4)
        found = [by_public, moved, of_matrices][kind](rng, x) if kind < 3 else paired(rng, x, y)
        if found.form.numel() < 500:
            values.append(found)
    return tape, dealt, values


@pytest.mark.parametrize("seed", range(60))
def test_a_random_program_is_exact(seed):
    tape, dealt, values = program(seed)
    forms = [value.form for value in values]
    for value in values:
        assert tuple(value.form.shape) == value.exact.shape == tuple(value.tensor.shape)
        assert torch.equal(value.form.constant, value.zero)
        assert not value.exact.size or max(abs(int(v)) for v in value.exact.flat) <= value.form.largest
        total = (value.exact + whole(value.zero)) % 2**64
        assert np.all(total == unsigned(value.tensor, 64))  # constants and leaves make up the engine's number
    for p, found in zip(PRIMES, forward(forms, dealt, PRIMES), strict=True):
        for value, got in zip(values, found, strict=True):
            assert got.dtype == np.uint64 and np.all(value.exact % p == got.astype(object))
    rng = np.random.default_rng(seed)
    for p in PRIMES:
        chosen = [values[k] for k in rng.integers(0, len(values), 4)]  # a form may be chosen twice
        cotangents = [rng.integers(0, p, tuple(value.form.shape), dtype=np.uint64) for value in chosen]
        found = backward([value.form for value in chosen], cotangents, p)
        rho = [unsigned(each, tape_leaf.bits) for each, tape_leaf in zip(dealt, tape.leaves, strict=True)]
        left = sum(int(np.sum(a.astype(object) * b)) for a, b in zip(found, rho, strict=True))
        right = sum(int(np.sum(c.astype(object) * value.exact)) for c, value in zip(cotangents, chosen, strict=True))
        assert left % p == right % p


@pytest.mark.parametrize("p", PRIMES)
@pytest.mark.parametrize("shape", [(3, 5, 2), (700, 20, 9), (2, 1000, 300), (1, 1, 1), (4, 0, 3)])
def test_a_product_of_matrices_is_exact(p, shape):
    rng = np.random.default_rng(p)
    a, b = rng.integers(0, p, shape[:2], dtype=np.uint64), rng.integers(0, p, shape[1:], dtype=np.uint64)
    a[:1], b[:, :1] = p - 1, p - 1
    assert (residues.matrix_product(a, b, p).astype(object) == (a.astype(object) @ b.astype(object)) % p).all()


def test_a_product_of_more_terms_than_one_sum_holds_is_exact(monkeypatch):
    monkeypatch.setattr(residues, "INNER", 7)
    p, rng = 2**31 - 1, np.random.default_rng(1)
    a, b = rng.integers(0, p, (30, 50), dtype=np.uint64), rng.integers(0, p, (50, 4), dtype=np.uint64)
    assert (residues.matrix_product(a, b, p).astype(object) == (a.astype(object) @ b.astype(object)) % p).all()


@pytest.mark.parametrize("shape", [(3, 5, 2), (300, 20, 9), (2, 1000, 30), (3, 5000, 6), (4500, 3, 6), (4, 0, 3)])
def test_a_product_with_public_integers_is_exact(way, shape):
    rng = np.random.default_rng(sum(shape))
    for low, high in ((0, 2**40 - 1), (-(2**63), 2**63 - 1), (-5, 2**19), (2**62, 2**63 - 1), (-(2**63), -7), (0, 0)):
        a = rng.integers(low, high, shape[:2], endpoint=True)
        a[:1], a[-1:, -1:] = low, high
        for p in PRIMES:
            v = rng.integers(0, p, shape[1:], dtype=np.uint64)
            v[:, :1] = p - 1
            exact = np.zeros((shape[0], shape[2]), object) + (a.astype(object) @ v.astype(object) if shape[1] else 0)
            for matrix in (a, np.asfortranarray(a)):
                assert (residues.public_product(matrix, (low, high), v, p).astype(object) == exact % p).all()
                turned = residues.public_product(matrix.T, (low, high), v.T, p, left=False)
                assert (turned.astype(object) == exact.T % p).all()


@pytest.mark.parametrize("size", [5, 6])
def test_a_product_with_a_matrix_that_stays_packed_is_that_with_its_numbers(way, size):
    rng = np.random.default_rng(size)
    values = torch.from_numpy(rng.integers(0, 2 ** (8 * size), (70, 20)))
    for transposed in (False, True):
        dealt = random_words(rng, (70 if transposed else 20, 6), 40)
        form = leaf(Tape(), dealt.shape, 40) + random_words(rng, dealt.shape)
        packed, plain = PackedMatrix(pack(values, size), values.shape, size), values.t() if transposed else values
        found, expected = packed.product(form, transposed), plain @ form
        assert torch.equal(found.constant, expected.constant) and found.largest >= expected.largest
        with pytest.raises(AppraisalError, match="matrix product"):
            packed.product(form, not transposed)
        forms = [found, expected, packed.product(form, transposed)]
        for p, (one, two, three) in zip(PRIMES, forward(forms, [dealt], PRIMES), strict=True):
            assert (one == two).all() and (one == three).all()
            cotangent = rng.integers(0, p, one.shape, dtype=np.uint64)
            one, two = (backward([each], [cotangent], p)[0] for each in forms[:2])
            assert (one == two).all()


def test_a_product_with_public_integers_element_by_element_is_exact(way):
    rng = np.random.default_rng(3)
    f = rng.integers(-(2**63), 2**63 - 1, (70, 30), endpoint=True)
    f[0, :6] = -(2**63), 2**63 - 1, 0, -1, 2**32 - 1, 2**32
    for p in PRIMES:
        a = rng.integers(0, p, f.shape, dtype=np.uint64)
        a[0] = p - 1
        for values, factors_of in ((a, f), (a, f[:, :1]), (a.T, f.T), (a[:1], f)):
            found = residues.times_public(values, factors_of, p)
            assert (found.astype(object) == values.astype(object) * factors_of.astype(object) % p).all()


def test_parts_of_a_large_share_that_is_used_otherwise_too_have_the_sum_of_their_cotangents(way):
    rng, tape, p = np.random.default_rng(5), Tape(), PRIMES[0]
    dealt = random_words(rng, (3, 2000))
    share = leaf(tape, dealt.shape)
    forms = [share, share[1] + share[0], share, share[1:, :1500], -share, share[1], share[2, 7]]
    cotangents = [rng.integers(0, p, form.shape, dtype=np.uint64) for form in forms]
    c, kept = [each.astype(object) for each in cotangents], [each.copy() for each in cotangents]
    expected = c[0] + c[2] - c[4]
    expected[:2] += c[1]
    expected[1:, :1500] += c[3]
    expected[1] += c[5]
    expected[2, 7] += c[6]
    assert (backward(forms, cotangents, p)[0].astype(object) == expected % p).all()
    assert all((one == two).all() for one, two in zip(cotangents, kept, strict=True)), "an argument was changed"


def test_low_bits_of_a_leaf_are_a_narrower_leaf_and_of_a_sum_narrow_the_claim():
    tape, rng = Tape(), np.random.default_rng(2)
    dealt = [random_words(rng, (6,), 24), random_words(rng, (6,))]
    a, b = leaf(tape, (6,), 24), leaf(tape, (6,))
    low, same = a & (2**20 - 1), a & (2**24 - 1)
    assert same is a and low.modulus == 64 and low.largest == 2**20 - 1
    ((found, of_a),) = forward([low, a], dealt, [2**31 - 1])
    assert (found == (dealt[0] & (2**20 - 1)).numpy().astype(np.uint64)).all() and (of_a != found).any()
    cut = (a + b) & (2**40 - 1)
    cut.require_modulus(40)
    for form, modulus in ((cut, 40), (cut << 10, 50), (cut << 60, 64), (cut + b, 40), (torch.cat([b, cut]), 40)):
        assert form.modulus == modulus
        if modulus < 64:
            with pytest.raises(AppraisalError, match=rf"claim mod 2\^{modulus + 1}.*mod 2\^{modulus}"):
                form.require_modulus(modulus + 1)


REFUSED = {
    "rshift": lambda a: a >> 3,
    "product of two shares": lambda a: a * a,
    "matrix product": lambda a: torch.zeros(3, 3, dtype=torch.int64) @ a,
    "product of two shares ": lambda a: a @ a.t(),
    "and": lambda a: a & 5,
    "bitwise_and": lambda a: torch.bitwise_and(a, 7),
    "lt": lambda a: a < 0,
    "eq": lambda a: a == a,
    "torch's": lambda a: torch.zeros(2, 3, dtype=torch.int64) == a,
    "truediv": lambda a: a / 2,
    "float": lambda a: a * 0.5,
    "by Tensor": lambda a: a * torch.ones(3, dtype=torch.float64),
    "by int": lambda a: a + 2**63,
    "<< by 64": lambda a: a << 64,
    "abs": lambda a: a.abs(),
    "relu": lambda a: torch.relu(a),
    "mul_": lambda a: a.mul_(2),
    "add_": lambda a: torch.zeros(2, 3, dtype=torch.int64).add_(a),
    "torch's sub": lambda a: torch.sub(a, a, out=torch.zeros(2, 3)),
    "bool": lambda a: bool(a),
    "array": lambda a: np.asarray(a),
    "numpy": lambda a: a.numpy(),
    "setitem": lambda a: a.__setitem__(0, 1),
    "to torch.float64": lambda a: a.to(torch.float64),
    "a choice by a share": lambda a: torch.where(a, a, a),
    "cat": lambda a: torch.cat([a, torch.zeros(3, 2, dtype=torch.int64)]),
    "shares of two programs": lambda a: a + leaf(Tape(), (2, 3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linear_is_refused_by_name(name):
    with pytest.raises(AppraisalError) as caught:
        REFUSED[name](leaf(Tape(), (2, 3)))
    assert "integrity: got" in str(caught.value)
    word = name.strip() if name not in ("and", "bitwise_and", "float") else ""
    assert word in str(caught.value)


def test_numbers_and_cotangents_of_other_shapes_are_refused():
    a = leaf(Tape(), (2, 3))
    with pytest.raises(AppraisalError, match="dealt tensors"):
        forward([a], [torch.zeros(3, 2, dtype=torch.int64)], PRIMES)
    with pytest.raises(AppraisalError, match="dealt tensors"):
        forward([a], [], PRIMES)
    with pytest.raises(AppraisalError, match="cotangents"):
        backward([a], [np.zeros((3, 2), np.uint64)], 3)
    with pytest.raises(AppraisalError, match="65 bits"):
        leaf(Tape(), (2,), 65)


def test_a_leaf_that_no_form_uses_has_the_cotangent_zero():
    tape = Tape()
    a, b = leaf(tape, (2,)), leaf(tape, (3, 1), 8)
    found = backward([a + 1], [np.array([4, 5], np.uint64)], 7)
    assert [each.tolist() for each in found] == [[4, 5], [[0], [0], [0]]]
    assert isinstance(b, LinearForm)
