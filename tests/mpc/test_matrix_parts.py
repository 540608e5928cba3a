"""Dealt matrices that enter claims by products alone: which they are, their factors, and exact products."""

from __future__ import annotations

import numpy as np
import pytest
from test_linear_form import factors, program, random_words, unsigned

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity import exact_product, matrix_parts
from mpc_appraisal.mpc.integrity.exact_product import ExactProduct
from mpc_appraisal.mpc.integrity.linear_form import backward, forward, leaf
from mpc_appraisal.mpc.integrity.matrix_parts import DealtParts, Evaluation
from mpc_appraisal.mpc.integrity.tape import Tape
from mpc_appraisal.mpc.ring.pieces import Pieces

P = 2**31 - 1
PRIMES = (P, 2**31 - 19, 1_073_741_857, 3)


def numbers(rng: np.random.Generator, shape, bits: int, signed: bool) -> np.ndarray:
    """Return numbers of so many bits, uint64 or signed int64, the extremes among them."""
    found = rng.integers(0, 2**64, shape, dtype=np.uint64) >> np.uint64(64 - bits)
    found = found.view(np.int64) - (1 << (bits - 1)) if signed and bits < 64 else found
    found = found.view(np.int64 if signed else np.uint64)
    if found.size:
        found[0], found[-1, -1] = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (2**bits - 1, 0)
    return found


@pytest.mark.parametrize("shape", [(3, 5, 2), (300, 20, 9), (2, 1000, 30), (1, 1, 1), (50, 700, 3), (4, 0, 3)])
def test_a_product_is_exact_modulo_every_prime(way, shape):
    rng = np.random.default_rng(sum(shape))
    for bits, signed_bits in ((64, 64), (40, 64), (64, 16), (1, 1), (22, 23)):
        a, b = numbers(rng, shape[:2], bits, False), numbers(rng, shape[1:], signed_bits, True)
        exact = a.astype(object) @ b.astype(object) if shape[1] else np.zeros((shape[0], shape[2]), object)
        for left, right in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b))):
            found, turned = ExactProduct(left, right), ExactProduct(right.T, left.T)
            for p in PRIMES:
                assert found.modulo(p).dtype == np.uint64 and (found.modulo(p).astype(object) == exact % p).all()
                assert (turned.modulo(p) == found.modulo(p).T).all()


def test_a_product_with_numbers_in_pieces_is_exact(way):
    rng = np.random.default_rng(7)
    for shape in ((300, 20, 9), (2, 1000, 30), (3, 5, 400)):
        for bits, kind in ((40, np.uint8), (48, np.uint16)):
            a, b = numbers(rng, shape[:2], bits, False), numbers(rng, shape[1:], 64, True)
            for left in (a, np.asfortranarray(a)):
                pieces = Pieces(left.astype(np.uint32), (left >> np.uint64(32)).astype(kind))
                assert (pieces[:] == a).all() and pieces.T.shape == a.T.shape and (pieces.T[1:2] == a.T[1:2]).all()
                exact = a.astype(object) @ b.astype(object)
                for p in PRIMES:
                    assert (ExactProduct(pieces, b).modulo(p).astype(object) == exact % p).all()
                    assert (ExactProduct(b.T, pieces.T).modulo(p).astype(object) == exact.T % p).all()
                c = numbers(rng, shape[1:], 64, False)
                exact = a.astype(object) @ c.astype(object)
                for p in PRIMES:
                    assert (ExactProduct(pieces, c).modulo(p).astype(object) == exact % p).all()
                    assert (ExactProduct(c.T, pieces.T).modulo(p).astype(object) == exact.T % p).all()


def test_a_product_of_the_largest_numbers_and_of_many_terms_is_exact(monkeypatch):
    monkeypatch.setattr(exact_product, "CARRIES", 45)  # as few bits as about 2^20 terms leave
    a, b = np.full((3, 2000), 2**64 - 1, np.uint64), np.full((2000, 2), -(2**63), np.int64)
    for left in (a, np.asfortranarray(a)):
        for p in PRIMES:
            assert (ExactProduct(left, b).modulo(p) == -(2000 * (2**64 - 1) * 2**63) % p).all()


def test_matrices_of_other_types_are_refused():
    a = np.zeros((2, 2), np.uint64)
    with pytest.raises(ValueError, match="expected uint64 and int64"):
        ExactProduct(a, a)


def checked(forms, dealt, tape, seed: int) -> DealtParts:
    """Assert that factors and values are those of all leaves, where each matrix that can be is a part; return them."""
    wanted = [form.node for form in forms]
    products, others = matrix_parts._products(tape, wanted, tape.reached(wanted))
    matrices = sorted(key for key in products if key[0] not in others)
    used = {tape.nodes[number].leaf for number in tape.reached(wanted)} - {None}
    parts = DealtParts(forms, sorted(used - {leaf for leaf, _ in matrices}), matrices)
    rng = np.random.default_rng(seed)
    values, rho = (
        Evaluation(parts, tape.leaf_numbers([values.numpy() for values in dealt])),
        [unsigned(v, k.bits) for v, k in zip(dealt, tape.leaves, strict=True)],
    )
    assert values.vector.tolist() == [int(v) for k in parts.rest for v in rho[k].reshape(-1)]
    assert parts.length == len(values.vector) and parts.shapes == tuple(m.values.shape for m in values.matrices)
    for p in PRIMES:
        (plain,), found = forward(forms, dealt, [p]), values.forward(p)
        assert all((a == b).all() for a, b in zip(plain, found, strict=True))
        cotangents = [rng.integers(0, p, tuple(form.shape), dtype=np.uint64) for form in forms]
        whole = backward(forms, cotangents, p)
        vector, weights = parts.backward(cotangents, p)
        assert vector.tolist() == [int(v) for k in parts.rest for v in whole[k].reshape(-1)]
        sums = {}
        for part, each, matrix in zip(parts.parts, weights, values.matrices, strict=True):
            right = np.concatenate(each.right, axis=1).astype(object)
            assert (each.left.shape[0], len(right)) == part.shape
            full = each.left.astype(object) @ right.T % p
            sums[part.leaf] = (sums.get(part.leaf, 0) + (full.T if part.transposed else full)) % p
            exact = matrix.values.astype(object) @ right % p
            assert (matrix.product(p).astype(object) == exact).all()
        for number, total in sums.items():
            assert (total == whole[number].astype(object)).all()
        unused = {*range(len(tape.leaves))} - {*parts.rest} - {*sums}
        assert not any(whole[k].any() for k in unused)
    return parts


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program_in_parts_is_the_program(seed):
    tape, dealt, values = program(seed)
    checked([value.form for value in values[:: 2 if seed % 2 else 1]], dealt, tape, seed)


def test_products_on_both_sides_and_of_the_transpose_are_parts():
    tape, rng = Tape(), np.random.default_rng(1)
    dealt = [random_words(rng, (50, 40), 40), random_words(rng, (50, 40)), random_words(rng, (40, 9))]
    a, b, c = leaf(tape, (50, 40), 40), leaf(tape, (50, 40)), leaf(tape, (40, 9))
    w, r, q = factors(rng, (40, 9)), factors(rng, (50, 8)), factors(rng, (30, 50))
    forms = [a @ w + 3, (a.t() @ r) * 5, q @ a, w.t() @ a.t(), b @ w + (a @ w)[:, :1], factors(rng, (60, 40)) @ c]
    parts = checked(forms, dealt, tape, 2)
    kinds = [(part.leaf, part.transposed, [product.turned for product in part.products]) for part in parts.parts]
    assert kinds == [
        (0, False, [False, True, False]), (0, True, [False, True]), (1, False, [False]), (2, True, [True]),
    ]  # fmt: skip
    assert parts.rest == [] and parts.length == 0


OTHERWISE = {
    "by itself": lambda a, w: [a @ w, a],
    "transposed": lambda a, w: [a @ w, a.t()],
    "elementwise": lambda a, w: [a @ w + (a * 3)[:, :9]],
    "rows of it": lambda a, w: [a[:30] @ w, a @ w],
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_matrix_that_enters_anything_else_is_in_the_vector(name):
    tape, rng = Tape(), np.random.default_rng(1)
    a, dealt = leaf(tape, (50, 40)), [random_words(rng, (50, 40))]
    parts = checked(OTHERWISE[name](a, factors(rng, (40, 9))), dealt, tape, 3)
    assert parts.parts == [] and parts.rest == [0] and parts.length == 2000


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_leaf_that_is_called_a_matrix_and_enters_anything_else_is_refused(name):
    tape, rng = Tape(), np.random.default_rng(1)
    forms = OTHERWISE[name](leaf(tape, (50, 40)), factors(rng, (40, 9)))
    with pytest.raises(AppraisalError, match="more than the script's products"):
        DealtParts(forms, [], [(0, False)])


def test_a_leaf_that_is_missing_or_multiplied_otherwise_is_refused():
    tape, rng = Tape(), np.random.default_rng(1)
    a = leaf(tape, (50, 40))
    for forms, matrices in (([a + 1], []), ([a.t() @ factors(rng, (50, 3))], [(0, False)])):
        with pytest.raises(AppraisalError, match="more than the script's products"):
            DealtParts(forms, [], matrices)


def test_a_matrix_without_a_product_in_these_claims_has_the_weight_0():
    tape, rng = Tape(), np.random.default_rng(1)
    leaf(tape, (50, 40))
    forms, dealt = [leaf(tape, (3,)) + 1], [random_words(rng, (50, 40)), random_words(rng, (3,))]
    parts = DealtParts(forms, [1], [(0, True)])
    vector, (weights,) = parts.backward([np.array([1, 2, 3], np.uint64)], P)
    assert vector.tolist() == [1, 2, 3] and not weights.left.any() and weights.right[0].shape == (50, 1)
    (matrix,) = Evaluation(parts, tape.leaf_numbers([values.numpy() for values in dealt])).matrices
    assert matrix.values.shape == (40, 50) and not matrix.product(P).any()


def test_leaves_that_enter_no_claim_are_in_no_part():
    tape, rng = Tape(), np.random.default_rng(1)
    dealt = [random_words(rng, (50, 40)), random_words(rng, (3,)), random_words(rng, (50, 40))]
    a, b, c = leaf(tape, (50, 40)), leaf(tape, (3,)), leaf(tape, (50, 40))
    c @ factors(rng, (40, 9))
    parts = checked([a @ factors(rng, (40, 9)), b + 1], dealt, tape, 4)
    assert [part.leaf for part in parts.parts] == [0] and parts.rest == [1] and isinstance(c, type(b))
