"""Claims about bits: honest proofs pass, whatever is altered is found, and messages do not depend on the bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpc_appraisal.mpc.integrity import bit_sumcheck
from mpc_appraisal.mpc.integrity.bit_sumcheck import (
    CommonBits,
    answer_bits,
    follow_bits,
    holds,
    prove_bits,
    rounds_of_bits,
    total_of,
    words_of,
)
from mpc_appraisal.mpc.ring import kernels
from mpc_appraisal.mpc.ring.prg import Stream, new_key

START = b"a nonce and all that was agreed"
CHANCE = 1e-10


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Compiled loops where there are any: numpy takes seconds for all of this."""
    monkeypatch.setattr(kernels, "_loaded", [])
    kernels.load()


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr(kernels, "_loaded", [None])


class Case:
    """Random words of dealt bits, and the total by the definition."""

    def __init__(self, octets: int, seed: int = 0, dealt: int | None = None):
        chance = np.random.default_rng(seed)
        self.weights = chance.integers(0, 2**64, (octets, 8), dtype=np.uint64)
        self.dealt = chance.integers(0, 256, octets, dtype=np.uint8) if dealt is None else np.full(octets, dealt, "u1")
        self.total = 0
        for row, octet in zip(self.weights, self.dealt, strict=True):
            for a in range(8):
                self.total ^= int(row[a]) * (int(octet) >> a & 1)

    def run(self, alter=lambda message: message, of_dealer=None, told_to_dealer=lambda told: told, error=0, key=None):
        """The prover's message, all challenges, the dealer's answer, and whether the verifier is content."""
        key, n = key or new_key(), len(self.dealt)
        message, told = prove_bits(self.weights, self.dealt, CommonBits(Stream(key, "c"), n), START)
        message = alter(message)
        share, last, same = follow_bits(self.weights, self.total ^ error, message, START)
        rho = self.dealt if of_dealer is None else of_dealer
        answer = answer_bits(rho, told_to_dealer(same), CommonBits(Stream(key, "c"), n))
        return message, told, same, answer, holds(share, last, answer)


@pytest.mark.parametrize("octets", [1, 2, 3, 4, 7, 8, 9, 100])
def test_honest_proofs_pass_and_take_the_bytes_that_are_stated(octets):
    for seed in range(5):
        message, told, same, answer, passed = Case(octets, seed).run()
        assert passed and told == same
        assert len(message) == bit_sumcheck.proof_bytes(octets) == 504 + 32 * rounds_of_bits(octets)
        assert len(told) == bit_sumcheck.challenge_bytes(octets) == 256 + 16 * rounds_of_bits(octets)
        assert len(answer) == bit_sumcheck.answer_bytes(octets) == 32


@pytest.mark.usefixtures("plain")
def test_honest_proofs_pass_without_compiled_loops():
    assert Case(9).run()[-1] and not Case(9).run(error=1 << 63)[-1]


@pytest.mark.parametrize("octets", range(1, 20))
def test_rounds_are_those_that_leave_one_element(octets):
    left, rounds = octets + 1, 0
    while left > 1:
        left, rounds = (left + 1) // 2, rounds + 1
    assert rounds_of_bits(octets) == rounds


def test_no_bits_have_no_messages():
    assert bit_sumcheck.proof_bytes(0) == bit_sumcheck.challenge_bytes(0) == bit_sumcheck.answer_bytes(0) == 0


def test_totals_are_sums_of_the_words_of_bits():
    octets = np.random.default_rng(1).integers(0, 256, 50, dtype=np.uint8)
    words = words_of(bytes(32), "a", 50)
    wanted = 0
    for row, octet in zip(words, octets, strict=True):
        for a in range(8):
            wanted ^= int(row[a]) * (int(octet) >> a & 1)
    assert total_of(words, octets) == wanted
    assert (words == words_of(bytes(32), "a", 50)).all() and (words != words_of(bytes(32), "b", 50)).any()
    assert len(np.unique(words)) == words.size


def test_a_wrong_total_is_found_in_every_bit():
    case = Case(5)
    assert not any(case.run(error=1 << k)[-1] for k in range(64))


def test_every_octet_of_a_proof_is_looked_at():
    case = Case(6, 3)
    length = bit_sumcheck.proof_bytes(6)
    for k in range(length):
        changed = case.run(lambda m, k=k: m[:k] + bytes([m[k] ^ 1 << k % 8]) + m[k + 1 :])
        assert not changed[-1] and changed[1] != changed[2]  # the dealer would see other challenges, too


def test_a_cheat_that_hashes_what_it_has_altered_is_found(monkeypatch):
    """A false total with a C that fits it, in each of its elements, and honest from there on."""
    real = bit_sumcheck.cross_sums
    for place in range(63):
        case, error = Case(6, 4), 1 << place

        def wrong(words, octets, place=place, error=error):
            found = real(words, octets)
            found.reshape(-1)[place] ^= np.uint64(error)
            return found

        monkeypatch.setattr(bit_sumcheck, "cross_sums", wrong)
        diagonal = place % 9 == 0
        for total in (0, error):
            _, told, same, _, passed = case.run(error=total)
            assert told == same and not passed, (place, diagonal)


def test_other_dealt_bits_are_found():
    case = Case(4, 5)
    for k in range(32):
        other = case.dealt.copy()
        other[k // 8] ^= 1 << k % 8
        assert not case.run(of_dealer=other)[-1]


def test_challenges_that_would_not_hide_are_refused():
    case = Case(4, 6)
    for value in (0, 1):
        for place in range(rounds_of_bits(4)):
            at = 256 + 16 * place

            def told(data, at=at, value=value):
                return data[:at] + value.to_bytes(16, "little") + data[at + 16 :]

            with pytest.raises(ValueError, match="0 or 1"):
                case.run(told_to_dealer=told)


class Zeros:
    """A stream that hides nothing."""

    def __init__(self, *arguments):
        pass

    def ring(self, shape):
        return torch.zeros(shape, dtype=torch.int64)

    def octets(self, shape):
        return torch.zeros(shape, dtype=torch.uint8)


RUNS = 200


def counted(case: Case) -> np.ndarray:
    """How often each bit of what the verifier receives was 1."""
    total = 0
    for _ in range(RUNS):
        message, _, _, answer, passed = case.run()
        assert passed
        total = total + np.unpackbits(np.frombuffer(message + answer, np.uint8)).astype(int)
    return total


def test_what_the_verifier_receives_is_uniform(monkeypatch):
    cases = Case(5, 7, dealt=0), Case(5, 7, dealt=255)
    found = [counted(case) for case in cases]
    size = found[0].size
    # Hoeffding: all counts are so near to one half but for a chance of CHANCE. The last 128 bits, the dealer's share,
    # follow from all else.
    for each in found:
        assert np.abs(each - RUNS / 2).max() < np.sqrt(RUNS * np.log(2 * size / CHANCE) / 2)
    monkeypatch.setitem(globals(), "Stream", Zeros)
    bare = [counted(case) for case in cases]
    assert np.abs(bare[0] - bare[1]).max() == RUNS  # without masks the view tells the two apart
