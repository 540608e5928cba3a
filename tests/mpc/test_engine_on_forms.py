"""The engine's own protocols on linear forms, which with the dealt numbers filled in are the engine's shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity.linear_form import LinearForm, backward, forward, leaf
from mpc_appraisal.mpc.integrity.tape import Tape
from mpc_appraisal.mpc.protocols import harmonics, masked
from mpc_appraisal.mpc.protocols.comparison import MaskedBit
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.group_maximum import dealt_rows, winners
from mpc_appraisal.mpc.protocols.masked import MaskedValue
from mpc_appraisal.mpc.protocols.masked_matrices import Masked
from mpc_appraisal.mpc.protocols.public_division import divide
from mpc_appraisal.mpc.ring import elementwise, kernels
from mpc_appraisal.mpc.ring.matrix import Matrix
from mpc_appraisal.mpc.ring.packing import width

PRIMES = (2**31 - 1, 2**31 - 19, 2**31 - 61, 2**31 - 69, 2**31 - 85, 2**31 - 99, 2**31 - 105)  # 217 bits together


class Numbers:
    """A source of numbers that are the same for every run with one seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def ring(self, shape, size: int = 8) -> torch.Tensor:
        found = self.rng.integers(0, 2**64, int(np.prod(shape)), dtype=np.uint64) >> np.uint64(64 - 8 * size)
        return torch.from_numpy(found.view(np.int64).reshape(tuple(shape)))


class Prover(Engine):
    """One owner's end, whose dealer and whose other owner are `Numbers`. It keeps what it is dealt and opens."""

    def __init__(self, me: int, seed: int):
        self.dealt, self.sent, self.tape = [], [], Tape()
        self.drawn, self.opened = Numbers(seed), Numbers(seed + 1)
        super().__init__(me, None, dict.fromkeys(("mask", "triple", "share"), self), Numbers(seed + 2))

    def ring(self, shape, size: int = 8):
        """Deal the next numbers, as the stream of every purpose."""
        self.dealt.append(self.drawn.ring(shape, size))
        return self.dealt[-1]

    def dealer_share(self, shape, bits: int = 64):
        return self.ring(shape, width(bits))

    def open(self, *shares):
        self.sent += shares
        return [self.opened.ring(share.shape) for share in shares]


class Replay(Prover):
    """The same end, as the verifier replays it: what is dealt are leaves."""

    def ring(self, shape, size: int = 8):
        return leaf(self.tape, shape, 8 * size)


def public(seed: int, *shape: int, bits: int = 64) -> torch.Tensor:
    found = Numbers(seed).ring(shape)
    return found if bits == 64 else found & ((1 << bits) - 1)


def masked_value(engine: Prover, seed: int, shape, bits: int, ring: int) -> MaskedValue:
    """Return an opened value as `open_all` gives it, with its mask widened to `ring` bits."""
    mask, delta = engine.ring(shape, width(bits)), public(seed, *shape, bits=bits)
    wrapped = public(seed + 1, *shape, bits=1)
    if ring > bits:
        carry, top = engine.dealer_share(shape, ring - bits), engine.dealer_share(shape, ring - bits)
        mask = elementwise.widened(mask, bits, carry, wrapped, top)
    elif bits < 64:
        mask = mask & ((1 << bits) - 1)
    return MaskedValue(seed, bits, ring, delta, mask, wrapped)


def of_products(engine: Prover) -> list:
    a, b = masked_value(engine, 1, (6, 3), 20, 64), masked_value(engine, 3, (6, 1), 24, 64)
    c = masked_value(engine, 5, (6, 3), 24, 40)
    same, across = masked.product(engine, a, a), masked.product(engine, a, b)
    rows = masked.row_products(engine, c, a, 40)
    return [a.share(engine), same, across, masked.product(engine, b, a, 48), rows, engine.blinded(same)]


def of_matrices(engine: Prover) -> list:
    a, b = masked_value(engine, 1, (6, 4), 64, 64), masked_value(engine, 2, (6, 3), 64, 64)
    return [masked.matrix_product(engine, a, b, (True, False)), masked.matrix_product(engine, b, a, (True, False)).t()]


def private_products(engine: Prover) -> list:
    """X W and X' R, of which this owner knows the left one, and then of which it knows the right one."""
    found = []
    for mine in (engine.me, 1 - engine.me):
        x, w, r = (Masked(k, mine if k == 1 else 1 - mine) for k in (1, 2, 3))
        for known, shape in ((x, (50, 7)), (w, (7, 3)), (r, (50, 2))):
            message = public(known.key, *shape)
            if known.owner == engine.me:
                known.message = message
                known.clear = Matrix(engine.ring(shape) + message)
            else:
                known.difference = Matrix(message)
        found += [engine.product(x, w), engine.product(x, r, True)]
    return found


def of_triples(engine: Prover) -> list:
    x, y = engine.ring((5, 3)), engine.ring((5, 1))
    product = engine.multiply(x, y)
    square = engine.square(engine.blinded(product))
    cut = engine.truncate(square + product, 20)
    engine.exact = True
    return [product, square, cut, engine.truncate_locally(cut, 7, 40), engine.inner(x, cut), divide(engine, cut, 30)]


def of_functions(engine: Prover) -> list:
    s = masked_value(engine, 1, (9, 1), 24, 24)
    fit = harmonics.fitted("reciprocal", 1 << 21, 1 << 23, 24, 1 << 23, 6)
    y = harmonics.evaluate(engine, s, fit, harmonics.waves(engine, s, fit.harmonics))
    x = masked_value(engine, 3, (9, 4), 24, 64)
    bit = MaskedBit(4, public(5, 9, 4, bits=1), engine.dealer_share((9, 4)))
    power = elementwise.exponentials(
        engine.ring((9, 4)), public(6, 9, 4, bits=1), engine.ring((9, 4)), public(7, 9, 4, bits=50)
    )
    scaled = masked.scaled(engine, masked_value(engine, 8, (9, 4), 40, 40), 40_000, 1 << 20)
    own = engine.ring((5, 4))
    dealt = engine.dealer_share((dealt_rows((2, 3)), 4))
    largest = winners((2, 3), public(9, 4, 4, bits=1), public(10, 5, 4), own, dealt)
    return [y, bit.share(engine), bit.times(engine, x), power, scaled, largest]


def integers(parts: list[np.ndarray]) -> np.ndarray:
    """Return the integers, in (-P / 2, P / 2) for P the product of PRIMES, of their residues."""
    whole, total = int(np.prod([int(p) for p in PRIMES], dtype=object)), 0
    for p, part in zip(PRIMES, parts, strict=True):
        others = whole // p
        total = total + part.astype(object) * (others * pow(others, -1, p))
    total = np.asarray(total % whole, dtype=object)
    return np.where(total > whole // 2, total - whole, total)


PROGRAMS: tuple[Callable[[Prover], list], ...] = (of_products, of_matrices, private_products, of_triples, of_functions)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("me", [0, 1])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_forms_filled_in_are_what_the_engine_computes(program, me, compiled, monkeypatch):
    monkeypatch.setattr(kernels, "_loaded", [kernels.load() if compiled else None])
    prover, replay = Prover(me, 77), Replay(me, 77)
    shares, forms = program(prover), program(replay)
    shares, forms = shares + prover.sent, forms + replay.sent
    assert len(shares) == len(forms) and all(isinstance(form, LinearForm) for form in forms)
    parts = forward(forms, prover.dealt, PRIMES)
    for k, (share, form) in enumerate(zip(shares, forms, strict=True)):
        exact = integers([found[k] for found in parts])
        assert form.largest < 2**200 and share.shape == form.shape
        assert max(abs(int(v)) for v in exact.flat) <= form.largest
        total = exact + np.array(form.constant.numpy(), dtype=object)
        assert np.all((total - np.array(share.numpy(), dtype=object)) % 2**form.modulus == 0)
    rng, p = np.random.default_rng(me), PRIMES[1]
    cotangents = [rng.integers(0, p, tuple(form.shape), dtype=np.uint64) for form in forms]
    rho = replay.tape.leaf_numbers([each.numpy() for each in prover.dealt])
    found = backward(forms, cotangents, p)
    left = sum(int(np.sum(a.astype(object) * b.astype(object))) for a, b in zip(found, rho, strict=True))
    right = sum(int(np.sum(c.astype(object) * v.astype(object))) for c, v in zip(cotangents, parts[1], strict=True))
    assert left % p == right % p


def test_every_share_holds_as_far_as_the_protocol_uses_it():
    forms = of_products(Replay(0, 1))
    assert [form.modulus for form in forms] == [64] * 6  # masks are cut as leaves, so that no width is lost
    (y, *_) = of_functions(Replay(1, 1))
    assert y.modulus == 64


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_a_product_of_32_bits_holds_mod_two_to_the_32(kind):
    public_rows, public_columns = torch.ones((4, 3), dtype=kind), torch.ones((3, 2), dtype=kind)
    of_rows = Matrix(leaf(Tape(), (4, 3), 32)).times(public_columns)
    of_columns = Matrix(public_rows).transposed_times(leaf(Tape(), (4, 2), 32))
    assert of_rows.modulus == of_columns.modulus == (32 if kind == torch.int32 else 64)
    assert of_rows.shape == (4, 2) and of_columns.shape == (3, 2)


def test_what_an_owner_computes_alone_is_refused():
    engine = Replay(0, 1)
    with pytest.raises(AppraisalError, match="rshift"):
        engine.truncate_locally(engine.ring((3,)), 4, 20)
    with pytest.raises(AppraisalError, match="rshift"):
        elementwise.masked_share(engine.ring((3,)), 0, 4, 8, engine.ring((3,)))
