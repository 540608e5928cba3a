"""Linear forms of bit planes: equal, bit for bit, to what the engine's own code computes and sends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from three import run

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity.linear_form import LinearForm, forward, leaf
from mpc_appraisal.mpc.integrity.plane_form import PlaneForm, plane_leaf
from mpc_appraisal.mpc.integrity.plane_tape import PlaneTape
from mpc_appraisal.mpc.integrity.tape import Tape
from mpc_appraisal.mpc.protocols import borrow_chain, comparison, levels
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, open_all
from mpc_appraisal.mpc.ring import bit_planes, kernels

torch.set_num_threads(1)
PRIMES = tuple(2**31 - k for k in (1, 19, 61, 69, 85, 99))  # whose product is above 2^185


@pytest.fixture(params=["compiled", "numpy"])
def ways(request, monkeypatch):
    """Both ways of computing with words: by compiled loops, and by numpy."""
    if request.param == "compiled":
        pytest.importorskip("numba", reason="the loops need numba")
        monkeypatch.setattr(kernels, "_loaded", [])
        assert kernels.load() is not None
    else:
        monkeypatch.setattr(kernels, "_loaded", [None])


def octets(rng: np.random.Generator, shape) -> np.ndarray:
    return rng.integers(0, 256, tuple(shape), dtype=np.uint8)


# ---- one owner's run, recorded and replayed


@dataclass
class Record:
    """What one owner has sent, what was opened, and what it was dealt, in their order."""

    me: int = 0
    sent: list[np.ndarray] = field(default_factory=list)
    opened: list[np.ndarray] = field(default_factory=list)
    dealt: list[torch.Tensor] = field(default_factory=list)
    value: MaskedValue | None = None
    result: torch.Tensor | None = None


class Recorded:
    """An owner's engine or stream, of which what comes from the dealer is recorded."""

    def __init__(self, inner, record: Record):
        self._inner, self._record = inner, record

    def __getattr__(self, name: str):
        found = getattr(self._inner, name)
        return self._noted(found) if name in ("octets", "ring", "dealer_octets", "dealer_share") else found

    def _noted(self, draw):
        def drawn(*arguments):
            self._record.dealt.append(draw(*arguments))
            return self._record.dealt[-1]

        return drawn

    @property
    def streams(self):
        return {"triple": Recorded(self._inner.streams["triple"], self._record)}

    def open_octets(self, mine: torch.Tensor) -> torch.Tensor:
        opened = self._inner.open_octets(mine)
        self._record.sent.append(mine.numpy().copy())
        self._record.opened.append(opened.numpy().copy())
        return opened


class Replaying(Engine):
    """One owner's engine, whose shares are forms of leaves, and whose openings are the recorded ones."""

    def __init__(self, record: Record):
        super().__init__(record.me, None, {}, None)
        self.tape, self.planes, self.claims, self._opened = Tape(), PlaneTape(), [], list(record.opened)
        self.streams = {"triple": self, "share": None}

    def octets(self, shape) -> PlaneForm:
        return plane_leaf(self.planes, shape)

    def dealer_octets(self, shape) -> PlaneForm:
        return plane_leaf(self.planes, shape)

    def dealer_share(self, shape, bits: int = 64) -> LinearForm:
        return leaf(self.tape, shape, 8 * -(-bits // 8))

    def open_octets(self, mine: PlaneForm) -> torch.Tensor:
        self.claims.append(mine)
        return torch.from_numpy(self._opened.pop(0))


def recorded(values: list[int], bits: int, ring: int, program) -> list[Record]:
    """Open the values in a session of three parties, run `program(engine, x)`, and return both owners' records."""
    s = torch.tensor(values, dtype=torch.int64)
    r = torch.from_numpy(np.random.default_rng(3).integers(-(2**63), 2**63, s.shape, dtype=np.int64))
    records = [Record(0), Record(1)]

    def whole(engine):
        share = torch.empty_like(s, device="meta") if engine.dry else r if engine.me == 0 else s - r
        (x,) = open_all(engine, MaskedOpening(share, 0, bits, ring, 0))
        if engine.dry:
            return program(engine, x)
        record = records[engine.me]
        record.value, record.dealt = x, [x.mask]
        record.result = program(Recorded(engine, record), x)
        return record.result

    run(whole)
    return records


def replayed(record: Record, program) -> tuple[Replaying, LinearForm]:
    """Run the program of one owner on forms; the share of the opened value's mask is a leaf too."""
    engine, x = Replaying(record), record.value
    mask = leaf(engine.tape, x.mask.shape)
    form = program(engine, MaskedValue(x.key, x.bits, x.ring, x.delta, mask, x.wrapped))
    assert engine._opened == []
    return engine, form


def numbers_of(record: Record) -> list[torch.Tensor]:
    return [each for each in record.dealt if each.dtype != torch.uint8]


def bits_dealt(engine: Replaying, record: Record) -> dict[int, np.ndarray]:
    """The octets that were dealt, by the numbers of their leaves."""
    found = [each.numpy() for each in record.dealt if each.dtype == torch.uint8]
    return dict(zip(engine.planes.leaves, found, strict=True))


def single_bits(octets: np.ndarray) -> np.ndarray:
    """The bits of octets, the lowest first, as (..., octets, 8)."""
    return octets[..., None] >> np.arange(8, dtype=np.uint8) & 1


def whole_numbers(forms: list[LinearForm], dealt: list[torch.Tensor]) -> list[np.ndarray]:
    """Return each form over the integers, by the Chinese remainder theorem, plus its constant."""
    found, product = forward(forms, dealt, PRIMES), math.prod(PRIMES)
    totals = []
    for k, form in enumerate(forms):
        assert 2 * form.largest < product
        parts = (found[i][k].astype(object) * (product // p) * pow(product // p, -1, p) for i, p in enumerate(PRIMES))
        total = sum(parts) % product
        signed = np.where(total > product // 2, total - product, total)
        assert form.numel() == 0 or max(abs(int(v)) for v in signed.flat) <= form.largest
        totals.append(signed + np.array(form.constant.numpy(), dtype=object))
    return totals


def wrong_bits(engine: Replaying, record: Record) -> list[np.ndarray]:
    """Return, of every message, the numbers of the bits that differ from the form with the leaves filled in."""
    assert [claim.shape for claim in engine.claims] == [message.shape for message in record.sent]
    found = engine.planes.forward([claim.node for claim in engine.claims], bits_dealt(engine, record))
    pairs = zip(found, engine.claims, record.sent, strict=True)
    return [np.flatnonzero(single_bits(number ^ claim.constant ^ message)) for number, claim, message in pairs]


def assert_replays(record: Record, program) -> None:
    engine, form = replayed(record, program)
    assert len(record.sent) > 0 and all(len(places) == 0 for places in wrong_bits(engine, record))
    (number,) = whole_numbers([form], numbers_of(record))
    assert form.modulus == 64
    assert ((number - np.array(record.result.numpy(), dtype=object)) % 2**64 == 0).all()
    assert_transposed(engine.planes, [claim.node for claim in engine.claims], bits_dealt(engine, record))


def masked_words(words: np.ndarray, octets: np.ndarray) -> int:
    """The exclusive or of the words of all bits that are 1."""
    return int(np.bitwise_xor.reduce(words[single_bits(octets).astype(bool)], axis=None, initial=np.uint64(0)))


def assert_transposed(tape: PlaneTape, wanted: list[int], dealt: dict[int, np.ndarray]) -> None:
    """Words of messages and of what was dealt give the same sum, for random words, and dealt bits in another order."""
    rng = np.random.default_rng(1)
    words = [rng.integers(0, 2**64, (*tape.nodes[node].shape, 8), dtype=np.uint64) for node in wanted]
    leaves = tape.leaves[::-1]
    back = tape.backward(wanted, words, leaves)
    rho = np.concatenate([np.zeros(0, np.uint8), *(dealt[k].reshape(-1) for k in leaves)])
    left = masked_words(back, rho)
    right = [masked_words(*pair) for pair in zip(words, tape.forward(wanted, dealt), strict=True)]
    assert back.shape == (len(rho), 8) and left == np.bitwise_xor.reduce(np.array(right, np.uint64))


def of_levels(thresholds: list[int]):
    def program(engine, x):
        found = levels.reached(engine, x, thresholds)
        return torch.cat([levels.level(engine, found)[None], levels.indicators(engine, found)])

    return program


def of_signs(engine, x):
    bit = comparison.masked_bits(engine, comparison.below_zero(engine, x))
    return torch.stack([bit.share(engine), bit.times(engine, x)])


def positions(bits: int, count: int) -> list[int]:
    top = 2 ** (bits - 1) - 1
    return [0, top, *np.random.default_rng(bits).integers(0, top + 1, count).tolist()][:count]


@pytest.mark.parametrize("count", [1, 8, 21])
@pytest.mark.parametrize("bits, thresholds", [(2, 1), (9, 3), (20, 15), (27, 2)])
def test_levels_replay_bit_for_bit(bits, thresholds, count):
    program = of_levels([int(t) for t in np.geomspace(1, 2 ** (bits - 1) - 1, thresholds)])
    for record in recorded(positions(bits, count), bits, bits, program):
        assert_replays(record, program)


@pytest.mark.parametrize("many", [1, 1024])  # narrow digits in groups, and wide digits in one opening
@pytest.mark.parametrize("bits, ring", [(3, 64), (9, 9), (30, 46), (64, 64)])
@pytest.mark.parametrize("count", [1, 13])
def test_signs_and_their_products_replay_bit_for_bit(monkeypatch, many, bits, ring, count):
    monkeypatch.setattr(borrow_chain, "MANY", many)
    top = 2 ** (bits - 2)
    values = np.random.default_rng(bits).integers(-top if ring == bits else 0, top, count).tolist()
    for record in recorded(values, bits, ring, of_signs):
        assert_replays(record, of_signs)


def test_a_flipped_bit_of_any_message_is_found_where_it_is():
    program = of_levels([5, 60, 100, 1000])
    record = recorded(positions(12, 11), 12, 12, program)[0]
    assert len(record.sent) == 3
    for number, message in enumerate(record.sent):
        for place in (0, message.size // 2, message.size - 1):
            for mine in (record.sent[number], record.opened[number]):
                mine.reshape(-1)[place] ^= 4  # what is opened is wrong by the same bit
            engine, _ = replayed(record, program)
            found = wrong_bits(engine, record)
            assert [places.tolist() for places in found[: number + 1]] == [[]] * number + [[8 * place + 2]]
            for mine in (record.sent[number], record.opened[number]):
                mine.reshape(-1)[place] ^= 4


# ---- the operations


def bits_now(form: PlaneForm, *dealt: np.ndarray) -> np.ndarray:
    """Return the form with the leaves filled in, packed."""
    filled = dict(zip(form.tape.leaves, dealt, strict=True))
    assert_transposed(form.tape, [form.node], filled)
    return form.tape.forward([form.node], filled)[0] ^ form.constant


def assert_brute_force(form: PlaneForm) -> None:
    """The words of every dealt bit are those of the bits of the form in which it occurs, one dealt bit at a time."""
    tape, rng = form.tape, np.random.default_rng(9)
    shapes = {k: tape.nodes[k].shape for k in tape.leaves}
    words = rng.integers(0, 2**64, (*form.shape, 8), dtype=np.uint64)
    back, at = tape.backward([form.node], [words], tape.leaves), 0
    for k, shape in shapes.items():
        for place in range(math.prod(shape)):
            for bit in range(8):
                dealt = {n: np.zeros(each, np.uint8) for n, each in shapes.items()}
                dealt[k].reshape(-1)[place] = 1 << bit
                assert int(back[at + place, bit]) == masked_words(words, tape.forward([form.node], dealt)[0])
        at += math.prod(shape)


@pytest.mark.usefixtures("ways")
def test_operations_are_those_of_an_array():
    rng = np.random.default_rng(2)
    a, b, public = octets(rng, (3, 4, 2)), octets(rng, (4, 2)), octets(rng, (4, 2))
    operations = [
        lambda x, y: x ^ y,
        lambda x, y: (x & public) ^ (public & y) ^ public,
        lambda x, y: ~(public ^ y) & octets(np.random.default_rng(0), (5, 4, 2)),
        lambda x, y: y ^ octets(np.random.default_rng(0), (5, 4, 2)),
        lambda x, y: (255 ^ x ^ 7) & 15,
        lambda x, y: x[::-1][1:, -1] ^ y[0] ^ y[1][None],
        lambda x, y: x[1::2, :, 1:] ^ x[[0], :, :1],
        lambda x, y: x[0, :, None] ^ x[1, :, ::-1][:, None],
        lambda x, y: x[:, 1, ::2] ^ x[:, 0, 1][:, None],
        lambda x, y: x[np.array([2, 0, 0, -1, 1])],
        lambda x, y: np.tile(x[0], (1, 3)) ^ np.tile(y[0], 3),
        lambda x, y: x.transpose(1, 0, 2).reshape((2, 12)),
        lambda x, y: (x.transpose(2, 0, 1) & public[:, 0])[0] ^ y.transpose(1, 0)[:1],
        lambda x, y: np.concatenate([x, public[None], x[:1]]),
        lambda x, y: np.concatenate([y, public, np.full((4, 1), 255, np.uint8)], axis=-1),
        lambda x, y: np.stack([y, public, x[1]]),
        lambda x, y: np.bitwise_xor.reduce(x ^ 3, axis=1),
        lambda x, y: np.bitwise_xor.reduce(x ^ x[::-1], axis=2),
        lambda x, y: np.bitwise_xor.reduce(~x, axis=0).copy(),
    ]  # fmt: skip
    for operation in operations:
        tape = PlaneTape()
        found, expected = operation(plane_leaf(tape, a.shape), plane_leaf(tape, b.shape)), operation(a, b)
        assert found.shape == expected.shape and len(found) == len(expected)
        assert (bits_now(found, a, b) == expected).all()
        assert (found.constant == operation(np.zeros_like(a), np.zeros_like(b))).all()
        assert_brute_force(found)
    y = plane_leaf(PlaneTape(), b.shape)
    mixed = torch.from_numpy(public) ^ y ^ torch.from_numpy(public) & y
    assert (bits_now(mixed, b) == public ^ b ^ (public & b)).all()


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("bits", [3, 8, 11])  # digits of 3 bits, of which the highest has 2, 1 and 1
@pytest.mark.parametrize("sets", [1, 3])
@pytest.mark.parametrize("first", [False, True])
def test_looking_up_is_what_the_engine_does(bits, sets, first):
    plan = borrow_chain.BorrowPlan(bits - 1, 3, ())
    rng, n = np.random.default_rng(4), 16
    shared = octets(rng, (plan.indicators, 2))
    drawn = torch.from_numpy(rng.integers(0, 2 ** (bits - 1), n * sets))
    public = bit_planes.digits_of(bit_planes.planes_of(drawn, bits - 1), 3)
    form = plane_leaf(PlaneTape(), shared.shape) ^ octets(rng, shared.shape)
    planes = shared ^ form.constant
    indicators = borrow_chain.unpacked_indicators(plan, planes, first)
    values = sum(single_bits(bit).reshape(plan.digits, -1).astype(int) << k for k, bit in enumerate(public))
    bits_of = np.tile(single_bits(indicators).reshape(8, plan.digits, n), (1, 1, sets))  # by the definition
    above = np.arange(8)[:, None, None]
    wanted = [(bits_of * kept).sum(0) % 2 for kept in (above > values, above == values)]
    engine = borrow_chain.looked_up(plan, public, planes, first)
    for found, own, bit in zip(borrow_chain.looked_up(plan, public, form, first), engine, wanted, strict=True):
        assert (bits_now(found, shared) == own).all() and (single_bits(own).reshape(bit.shape) == bit).all()
        assert_brute_force(found)


def test_words_of_wide_digits_are_the_same_both_ways(monkeypatch):
    """Digits of 8 bits, and more places than the compiled loops use at once."""
    pytest.importorskip("numba", reason="the loops need numba")
    plan, rng = borrow_chain.BorrowPlan(13, 8, ()), np.random.default_rng(6)
    public = octets(rng, (8, 2, 600))
    public[5:, 1] = 0  # the highest digit has 5 bits
    tape = PlaneTape()
    less, equal = plane_leaf(tape, (plan.indicators, 300)).looked_up(plan, public, True)
    words = [rng.integers(0, 2**64, (2, 600, 8), dtype=np.uint64) for _ in range(2)]
    found, compiled = [], kernels.load()
    for loaded in (compiled, None):
        monkeypatch.setattr(kernels, "_loaded", [loaded])
        found.append(tape.backward([less.node, equal.node], words, tape.leaves))
    assert (found[0] == found[1]).all() and found[0].any(axis=(0, 1)).all()


def test_no_numbers_have_no_words():
    plan, tape = borrow_chain.BorrowPlan(3, 4, ()), PlaneTape()
    less, equal = plane_leaf(tape, (plan.indicators, 0)).looked_up(plan, np.zeros((4, 1, 0), np.uint8), True)
    words = [np.zeros((1, 0, 8), np.uint64)] * 2
    assert tape.backward([less.node, equal.node], words, tape.leaves).shape == (0, 8)


REFUSED = {
    "a product of two shares": lambda a: a & a,
    "or of": lambda a: a | a,
    "numpy's bitwise_or": lambda a: np.bitwise_or(a, np.uint8(3)),
    "numpy's add": lambda a: np.ones((2, 3), np.uint8) + a,
    "numpy's bitwise_and": lambda a: np.bitwise_and.reduce(a),
    "numpy's sort": lambda a: np.sort(a),
    "numpy's bitwise_xor": lambda a: np.bitwise_xor(a, 1, out=np.zeros((2, 3), np.uint8)),
    "torch's add": lambda a: torch.ones(2, 3) + a,
    "^ by float": lambda a: a ^ 0.5,
    "^ by int 256": lambda a: a ^ 256,
    "& by ndarray": lambda a: a & np.ones((2, 3), np.int64),
    "an index": lambda a: a[..., 0],
    "an index ": lambda a: a[[0], [1]],
    "an index  ": lambda a: a[np.array([True, False])],
    "a sum over dimension": lambda a: np.bitwise_xor.reduce(a, axis=None),
    "transpose": lambda a: a.transpose(1, 1),
    "tile": lambda a: np.tile(a, (2, 1)),
    "stack": lambda a: np.stack([a, a], axis=1),
    "array": lambda a: np.asarray(a),
    "setitem": lambda a: a.__setitem__(0, 1),
    "look_up": lambda a: a.looked_up(borrow_chain.BorrowPlan(2, 2, ()), np.zeros((2, 1, 3), np.uint8), True),
    "sum": lambda a: a.sum(),
    "shares of two programs": lambda a: a ^ plane_leaf(PlaneTape(), (2, 3)),
    "^ by LinearForm": lambda a: a ^ leaf(Tape(), (2, 3), 1),
    "& by LinearForm": lambda a: a & leaf(Tape(), (2, 3), 1),
    "+ by PlaneForm": lambda a: leaf(Tape(), (2, 3), 1) + a,
    "* by PlaneForm": lambda a: leaf(Tape(), (2, 3), 1) * a,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linear_is_refused_by_name(name):
    with pytest.raises(AppraisalError, match="integrity: got") as caught:
        REFUSED[name](plane_leaf(PlaneTape(), (2, 3)))
    assert name.strip() in str(caught.value)
