"""The check of inner products: honest runs pass, every altered number is found, and views do not depend on secrets."""

from __future__ import annotations

import queue
import random
import threading
from itertools import product

import numpy as np
import pytest
import torch
from three import QueueChannel

from mpc_appraisal.common.errors import IntegrityError
from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.integrity import sumcheck
from mpc_appraisal.mpc.integrity.bit_sumcheck import BitClaims
from mpc_appraisal.mpc.integrity.inner_product_check import answer, prove, verify
from mpc_appraisal.mpc.integrity.inner_product_claims import Claims, DealtMatrix
from mpc_appraisal.mpc.integrity.sumcheck import Factors
from mpc_appraisal.mpc.ring.prg import Stream, new_key
from mpc_appraisal.mpc.ring.prime_field import Field, draw_primes

torch.set_num_threads(1)
BITS = (64, 33, 17, 1)
QUOTIENT = 110
CHANCE = 1e-10


class Zeros:
    """A stream that hides nothing."""

    def ring(self, shape, size=8):
        return torch.zeros(shape, dtype=torch.int64)

    def octets(self, shape):
        return torch.zeros(shape, dtype=torch.uint8)


class Case:
    """Random weights (J, N) and dealt numbers, with t and h from Python's integers.

    shapes: of dealt matrices A, whose weights in claim j are L_j R', with one R (d, 2) for all claims.
    octets: of dealt bits, with random words; `total` is the sum of the words of bits that are 1.
    """

    def __init__(self, n: int, claims: int, seed: int, size: int = 40, prover: int = 0, rho=None, shapes=(), octets=0):
        chance = random.Random(seed)

        def drawn(rows, columns, low, high):
            return np.array([[chance.randrange(low, high) for _ in range(columns)] for _ in range(rows)], object)

        self.weights = [[chance.randrange(-(1 << size), 1 << size) for _ in range(n)] for _ in range(claims)]
        self.rho = [chance.randrange(1 << 64) if rho is None else rho for _ in range(n)]
        bits = tuple(BITS[j % len(BITS)] for j in range(claims))
        self.claims = Claims("test", prover, n, bits, (QUOTIENT,) * claims, tuple(shapes), octets)
        self.words = np.random.default_rng(seed).integers(0, 2**64, (octets, 8), dtype=np.uint64)
        self.bits = np.array([chance.randrange(256) if rho is None else rho & 255 for _ in range(octets)], np.uint8)
        kept = np.unpackbits(self.bits, bitorder="little").astype(bool)
        self.total = int(np.bitwise_xor.reduce(self.words.reshape(-1)[kept], initial=np.uint64(0)))
        totals = [sum(w * r for w, r in zip(row, self.rho, strict=True)) for row in self.weights]
        self.matrices, self.factors = [], []
        for rows, columns in shapes:
            a = drawn(rows, columns, 0, 1 << 64) if rho is None else np.full((rows, columns), rho, object)
            left, right = [drawn(rows, 2, -9, 9) for _ in range(claims)], drawn(columns, 2, -(1 << 30), 1 << 30)
            totals = [total + int((each @ right.T * a).sum()) for total, each in zip(totals, left, strict=True)]
            self.matrices.append(a)
            self.factors.append((left, right))
        self.t = [v % (1 << b) for v, b in zip(totals, bits, strict=True)]
        self.h = [v >> b for v, b in zip(totals, bits, strict=True)]

    def combined(self, gammas, p):
        rows = [[int(g) * w for w in row] for g, row in zip(gammas, self.weights, strict=True)]
        vector = np.array([sum(column) % p for column in zip(*rows, strict=True)], np.uint32)
        return vector, [
            Factors(
                (sum(int(g) * each for g, each in zip(gammas, left, strict=True)) % p),
                [right.astype(np.int64)[:, :1], right.astype(np.int64)[:, 1:]],
            )
            for left, right in self.factors
        ]

    def dealt_matrices(self):
        pairs = zip(self.matrices, self.factors, strict=True)
        return [
            DealtMatrix(a.astype(np.uint64), lambda p, a=a, right=right: (a @ right % p).astype(np.uint64))
            for a, (_, right) in pairs
        ]


class Altering(QueueChannel):
    """A channel that alters what this party sends: alter(number of the message, receiver, bytes) -> bytes."""

    def __init__(self, me, queues, seen, alter):
        super().__init__(me, queues, seen)
        self._alter, self._number = alter, 0

    def _send(self, tensor, to):
        data = tensor.numpy().tobytes()
        changed = self._alter(self._number, to, data)
        self._number += 1
        super()._send(torch.frombuffer(bytearray(changed), dtype=torch.uint8), to)


def run(
    case: Case, alter=None, streams=None, rho_of_dealer=None, matrices_of_dealer=None, bits_of_dealer=None
) -> tuple[list[BaseException], list[bytes]]:
    """Run the three parties as threads. Returns their errors, and what each has received."""
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
    seen, errors, key = [[], [], []], [], new_key()
    prover, verifier = case.claims.prover, case.claims.verifier
    rho = np.array(case.rho, np.uint64)
    streams = streams or [Stream(key, "check"), Stream(key, "check")]

    def untouched(number, to, data):
        return data

    def channel(rank):
        return Altering(rank, queues, seen[rank], (alter or {}).get(rank, untouched))

    def guarded(f, *arguments):
        try:
            f(*arguments)
        except BaseException as error:  # noqa: BLE001  the test looks at it
            errors.append(error)
            for each in queues.values():
                each.put(error)

    other = rho if rho_of_dealer is None else rho_of_dealer
    matrices = case.dealt_matrices()
    others = [each.values for each in matrices] if matrices_of_dealer is None else matrices_of_dealer
    mine, theirs = BitClaims(lambda: case.words, dealt=case.bits), BitClaims(lambda: case.words, case.total)
    bits = case.bits if bits_of_dealer is None else bits_of_dealer
    works = [
        (prove, channel(prover), streams[0], case.claims, rho, case.h, case.combined, matrices, mine),
        (verify, channel(verifier), case.claims, case.t, case.combined, theirs),
        (answer, channel(2), streams[1], case.claims, other, others, bits),
    ]
    threads = [threading.Thread(target=guarded, args=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return errors, [b"".join(t.numpy().tobytes() for t in each) for each in seen]


def found(case: Case, names: tuple[int, ...], **options) -> None:
    """Assert that the run ends in an error that names one of the parties."""
    errors, _ = run(case, **options)
    assert errors and isinstance(errors[0], IntegrityError), errors
    assert str(errors[0]).startswith(tuple(ROLES[rank] for rank in names)) and "'test'" in str(errors[0]), errors[0]


SHAPES = ((), (), ((1, 1),), ((5, 3),), ((4, 1), (9, 7)), ((1, 6), (16, 2), (2, 2)))


def test_honest_runs_pass():
    chance = random.Random(1)
    for k in range(300):
        n, claims, shapes = chance.choice([1, 2, 3, 4, 5, 8, 9, 31]), chance.choice([1, 2, 5]), chance.choice(SHAPES)
        n, octets = chance.choice([0, n]) if shapes else n, chance.choice([0, 0, 0, 1, 2, 5])
        errors, seen = run(Case(n, claims, k, size=chance.choice([1, 40]), prover=k % 2, shapes=shapes, octets=octets))
        assert not errors, (n, claims, shapes, errors)


def test_bytes_are_those_stated():
    case = Case(9, 5, 1)
    _, seen = run(case)
    rounds = 1 + 3  # nine numbers fold to five, with the dummy six: three rounds more
    assert rounds == sumcheck.rounds_of(9)
    assert case.claims.hidden_bytes == 5 * 19 and case.claims.rounds == rounds
    assert [len(each) for each in seen] == [32 + 40, 95 + 64 * rounds + 40 + 64, 1 + 32 + 32 * rounds]


@pytest.mark.parametrize("n", range(1, 18))
def test_rounds_are_those_that_leave_one_element(n):
    left, rounds = (n + 1) // 2 + 1, 1
    while left > 1:
        left, rounds = (left + 1) // 2, rounds + 1
    assert sumcheck.rounds_of(n) == rounds


@pytest.mark.parametrize(("n", "shapes", "rounds"), [
    (0, ((1, 1),), 2),  # the dummy and one element
    (9, ((1, 6),), 5),  # 5 + 1 + 6 elements after one round
    (0, ((9, 7),), 7),  # nine rows fold in four rounds; then seven and the dummy
    (1000, ((2, 3), (600, 1)), 11),  # 500 + 1 + 3 after one round; after ten rounds 1 + 1
])  # fmt: skip
def test_rounds_with_matrices_are_those_of_rows_and_then_of_columns(n, shapes, rounds):
    assert sumcheck.rounds_of(n, shapes) == rounds


ERRORS = (1, -1, 2, 1 << 7, 1 << 40, -(1 << 63), 0x9E3779B97F4A7C15)


@pytest.mark.parametrize("prover", [0, 1])
def test_an_error_in_any_number_of_a_claim_is_found(prover):
    for j, error in product(range(4), ERRORS):
        case = Case(6, 4, j, prover=prover)
        case.h[j] += error
        found(case, (prover,))
        case = Case(6, 4, j, prover=prover)
        wrong = (case.t[j] + error) % (1 << BITS[j])
        if wrong != case.t[j]:
            case.t[j] = wrong
            found(case, (prover,))


@pytest.mark.parametrize("shapes", SHAPES[3:])
def test_an_error_in_a_claim_about_matrices_is_found(shapes):
    for n, error in product((0, 3), ERRORS):
        case = Case(n, 3, n, shapes=shapes)
        case.h[1] += error
        found(case, (0,))
        case = Case(n, 3, n, shapes=shapes)
        case.t[0] = (case.t[0] + error) % (1 << 64)
        found(case, (0,))


def test_another_dealt_matrix_or_another_product_with_it_is_found():
    case = Case(3, 2, 5, shapes=((5, 3), (2, 4)))
    for k, a in enumerate(case.matrices):
        for place in product(*map(range, a.shape)):
            others = [each.astype(np.uint64) for each in case.matrices]
            others[k][place] ^= np.uint64(1 << 63)
            found(case, (0,), matrices_of_dealer=others)
    right = case.dealt_matrices()
    for k in range(2):
        wrong = DealtMatrix(
            right[k].values,
            lambda p, k=k: (right[k].product(p) + np.eye(5, 2, dtype=np.uint64)[: len(right[k].values)]) % p,
        )
        case.dealt_matrices = lambda k=k, wrong=wrong: [wrong if j == k else right[j] for j in range(2)]
        found(case, (0,))


def test_matrices_of_other_shapes_or_types_are_refused_before_anything_is_sent():
    shapes = ((5, 3),)
    for change in (
        lambda a: a.T,
        lambda a: a[:-1],
        lambda a: a.view(np.int64),
        lambda a: a.astype(np.float64),
    ):
        case = Case(4, 2, 3, shapes=shapes)
        (only,) = case.dealt_matrices()
        case.dealt_matrices = lambda only=only, change=change: [DealtMatrix(change(only.values), only.product)]
        errors, seen = run(case, matrices_of_dealer=[only.values])
        assert isinstance(errors[0], ValueError) and "matrices" in str(errors[0]) and not any(seen)


def test_errors_that_cancel_in_sums_are_found():
    for seed in range(20):
        case = Case(6, 8, seed)
        case.t[0], case.t[4] = (case.t[0] + (1 << 63)) % (1 << 64), (case.t[4] - (1 << 63)) % (1 << 64)
        found(case, (0,))
        case = Case(6, 8, seed)
        case.t[1], case.h[1], case.h[5] = case.t[1], case.h[1] + 1, case.h[5] - 1
        found(case, (0,))
        case = Case(6, 8, seed)
        case.t[0], case.t[4] = case.t[4], case.t[0]
        found(case, (0,))


def altered(kind: str, data: bytes, chance: random.Random) -> bytes:
    """The bytes with one error of a kind, always other bytes."""
    number, size = int.from_bytes(data, "little"), len(data)
    at = chance.randrange(8 * size)
    if kind == "bit":
        return (number ^ 1 << at).to_bytes(size, "little")
    if kind in ("+1", "-1"):
        step = 1 << 8 * (chance.randrange(size) // 4 * 4)
        return ((number + (step if kind == "+1" else -step)) % (1 << 8 * size)).to_bytes(size, "little")
    if kind == "swap" and size >= 8 and data[:4] != data[4:8]:
        return data[4:8] + data[:4] + data[8:]
    return bytes(b ^ n for b, n in zip(data, [1 + chance.randrange(255), *chance.randbytes(size - 1)], strict=True))


# The party, which of its messages, and the parties of which one must be named. Where a message is altered under way,
# the two owners hash other bytes, and the dealer, which compares their challenges, can only name both.
MESSAGES = {
    "quotients": (0, 0, (0, 1)),
    "proof": (0, 1, (0, 1)),
    "digest": (0, 2, (0, 1)),
    "received": (1, 0, (1,)),
    "nonce": (1, 1, (0, 1)),
    "challenges": (1, 2, (0, 1)),
    "seed to the prover": (2, 0, (0, 1, 2)),
    "seed to the verifier": (2, 1, (0, 1, 2)),
    "answer": (2, 2, (0, 2)),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_an_altered_message_is_found(name):
    rank, which, names = MESSAGES[name]
    chance = random.Random(name)
    for k, kind in enumerate(("bit", "+1", "-1", "swap", "noise") * 8):
        found(
            Case(6, 3, chance.randrange(9), shapes=SHAPES[k % len(SHAPES)], octets=k % 3),
            names,
            alter={rank: lambda k, to, data, kind=kind: altered(kind, data, chance) if k == which else data},
        )


def test_other_dealt_numbers_are_found():
    for k in range(6):
        case = Case(6, 3, k)
        other = np.array(case.rho, np.uint64)
        other[k] ^= np.uint64(1 << 63)
        found(case, (0,), rho_of_dealer=other)


@pytest.mark.parametrize("p", [4, 2**31 - 1, 2**30 + 5, 0])
def test_what_is_no_prime_is_refused_by_name(p):
    found(Case(3, 1, 1), (2,), alter={2: lambda k, to, data: data[:32] + p.to_bytes(4, "little") + data[36:]})


def test_a_verifier_that_states_other_challenges_learns_nothing():
    def alter(k, to, data):
        return bytes(len(data)) if k == 2 else data  # zeros, with which the dummy element would hide nothing

    errors, seen = run(Case(6, 3, 1), alter={1: alter})
    assert "challenges" in str(errors[0]) and len(seen[1]) == 57 + 64 * sumcheck.rounds_of(6) + 40
    with pytest.raises(ValueError, match="0 or 1"):
        field = Field(draw_primes(1)[0])
        draws = sumcheck.CommonDraws(Stream(new_key(), "x"), 2, field.p)
        sumcheck.answer_sumcheck(field, np.ones(2, np.uint32), 0, [(0,) * 4, (5, 1, 0, 0)], draws)


def test_quotients_beyond_their_bound_and_wrong_lengths_are_refused_before_anything_is_sent():
    for change in (lambda c: c.h.__setitem__(0, 1 << QUOTIENT), lambda c: c.h.pop(), lambda c: c.rho.pop()):
        case = Case(4, 2, 3)
        change(case)
        errors, seen = run(case, rho_of_dealer=np.zeros(4, np.uint64))
        assert isinstance(errors[0], ValueError) and not any(seen)


def test_the_sumcheck_reduces_the_sum_of_brute_force():
    chance = np.random.default_rng(2)
    for n in (1, 2, 3, 7, 16, 33):
        field = Field(draw_primes(1)[0])
        w, rho = (chance.integers(0, field.p, n).astype(np.uint32) for _ in range(2))
        total = sum(int(a) * int(b) for a, b in zip(w, rho, strict=True))
        for error in (0, 1):
            key = new_key()
            draws = [sumcheck.CommonDraws(Stream(key, "x"), n, field.p) for _ in range(2)]
            hashes = [sumcheck.Transcript(b"nonce", field.p) for _ in range(2)]
            message, xs = sumcheck.prove_sumcheck(field, w, rho, draws[0], hashes[0])
            share, last, ys = sumcheck.follow_sumcheck(field, w, total + error + 5, message, hashes[1])
            star, rest = sumcheck.answer_sumcheck(field, rho, -5, xs, draws[1])
            assert xs == ys and len(message) == 32 * sumcheck.rounds_of(n)
            assert (field.add(share, rest) == field.multiply(last, star)) == (error == 0)


RUNS = 150


def bits_of_views(case: Case, zeros: bool = False) -> list[np.ndarray]:
    """How often each bit that a party received was 1, in RUNS runs."""
    counts = [0, 0, 0]
    for _ in range(RUNS):
        errors, seen = run(case, streams=[Zeros(), Zeros()] if zeros else None)
        assert not errors
        for rank in range(3):
            counts[rank] = counts[rank] + np.unpackbits(np.frombuffer(seen[rank], np.uint8)).astype(int)
    return counts


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the counts differ by more than chance: by Hoeffding, all do at most once in 1 / CHANCE."""
    return bool(np.abs(a - b).max() >= np.sqrt(RUNS * np.log(2 * len(a) / CHANCE)))


@pytest.mark.parametrize(("shapes", "octets"), [((), 0), (((3, 2),), 0), ((), 2)])
def test_views_do_not_depend_on_the_dealt_numbers_or_the_quotients(shapes, octets):
    small = Case(5, 3, 8, rho=0, shapes=shapes, octets=octets)
    large = Case(5, 3, 9, rho=(1 << 64) - 1, size=44, shapes=shapes, octets=octets)
    a, b = bits_of_views(small), bits_of_views(large)
    assert not any(differ(a[rank], b[rank]) for rank in range(3))
    a, b = bits_of_views(small, zeros=True), bits_of_views(large, zeros=True)
    assert differ(a[1], b[1])  # without masks the verifier's view tells them apart
