"""Claims about bits, over words of 64 bits, and the sumcheck of them in GF(2^128), as one message that reveals nothing.

    sum over message bits k of R_k (m_k + constant_k) = sum over dealt bits i of W_i rho_i =: T        over GF(2)

m_k are all bits of the messages of bits of an owner in a section, and rho_i all bits that were dealt to that owner.
R_k is a random word from a seed that the dealer deals once both owners have all messages. W_i, the sum of the words of
the messages in which the bit i occurs, comes from `PlaneTape.backward`, so that both owners know W, the verifier knows
T, and prover and dealer know rho. Words are elements of GF(2^128) (see `binary_field`), and + is exclusive or.

    first step    T = sum over a of C[a, a],    C[a, b] = sum over octets i of W[8 i + a] rho[8 i + b]
                  W'_i = sum over a of u_a W[8 i + a],  rho'_i = sum over b of v_b rho[8 i + b],  <W', rho'> = u' C v
    every round   g(x) = <W'(x), rho'(x)>,  <W', rho'> = g(0) + g(1),  W', rho', claim <- W'(x), rho'(x), g(x)

The prover sends C without its last element, which follows from T, and then g(0) and the leading coefficient of g. Of
each it sends an additive share; the other share is the dealer's, from the stream that the two have in common. u, v and
x are hashes of all messages so far. Each next claim is linear in the claim and in what was sent, so that the verifier
and the dealer each compute a share of the last claim. After the first step a dummy element, uniform and of weight 0, is
appended to rho'. It hides the last element rho*, because it is in rho* with the product of one factor, x or 1 + x, for
every round, and the dealer refuses an x of 0 or 1.

Soundness. Messages that were altered by e make the claim true only if sum R_k e_k = 0, of which the probability is
2^-64, since R is drawn after the messages. With a false claim, some element of the C that was sent is wrong, and u' D v
for an error D other than 0 is 0 with a probability of at most 2 / 2^128 (Schwartz and Zippel); two different g of
degree 2 agree at x with as much. A prover that computes T hashes passes with at most 2 T / 2^128, below 2^-66 for
T = 2^60 (see `sumcheck`). There are no quotients and no primes: 1 + 1 = 0 holds in this field too.

What is sent is uniform, whatever the bits are: shares, and hashes. Messages take 504 bytes and 32 a round, of
`rounds_of_bits` rounds. All numbers have the lowest byte first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mpc_appraisal.mpc.ring.binary_field import (
    BYTES,
    OCTET,
    bytes_of,
    combined_bits,
    combined_words,
    cross_sums,
    element,
    elements_of,
    folded,
    multiply,
    next_claim,
    round_sums,
)
from mpc_appraisal.mpc.ring.prg import Stream

CROSS = OCTET * OCTET - 1  # elements of C that are sent
CROSS_BYTES = 8 * CROSS
ROUND_BYTES = 2 * BYTES
ANSWER_BYTES = 2 * BYTES


@dataclass(frozen=True)
class BitClaims:
    """The claims about the bits of one owner's messages in a section.

    Attributes:
        weights: a function that returns W, uint64 (octets, 8).
        total: T at the verifier, a word.
        dealt: rho at the prover, uint8 (octets,).
    """

    weights: Callable[[], np.ndarray]
    total: int = 0
    dealt: np.ndarray | None = None


def rounds_of_bits(octets: int) -> int:
    """Return the number of rounds after the first step, for so many octets of dealt bits."""
    return octets.bit_length()  # they and the dummy element are halved to one


def proof_bytes(octets: int) -> int:
    """Return the bytes of the prover's message."""
    return CROSS_BYTES + ROUND_BYTES * rounds_of_bits(octets) if octets else 0


def challenge_bytes(octets: int) -> int:
    """Return the bytes of all challenges."""
    return BYTES * (2 * OCTET + rounds_of_bits(octets)) if octets else 0


def answer_bytes(octets: int) -> int:
    """Return the bytes of the dealer's answer."""
    return ANSWER_BYTES if octets else 0


def words_of(seed: bytes, purpose: str, octets: int) -> np.ndarray:
    """Return R for the bits of so many octets of messages, uint64 (octets, 8), from the dealer's seed."""
    return Stream(seed, f"words {purpose}").ring((octets, OCTET)).numpy().view(np.uint64)


def total_of(words: np.ndarray, octets: np.ndarray) -> int:
    """Return the sum of the words (octets, 8) of all bits of uint8 octets that are 1."""
    return int(np.bitwise_xor.reduce(np.diagonal(cross_sums(words, octets))))


class _Transcript:
    """The hash from which challenges are made: SHA-512 of all that both owners know, then of each message."""

    def __init__(self, start: bytes):
        self._state = hashlib.sha512(b"mpc_appraisal bits 1\n" + start).digest()

    def challenges(self, message: bytes, count: int) -> list[int]:
        """Return so many uniform elements after a message."""
        self._state = hashlib.sha512(self._state + message).digest()
        return elements_of(hashlib.shake_256(b"challenge" + self._state).digest(BYTES * count))


class CommonBits:
    """What prover and dealer draw: the shares of C, the dummy element, and shares of two elements for every round."""

    def __init__(self, stream: Stream, octets: int):
        self.cross = stream.ring((CROSS,)).numpy().view(np.uint64)
        drawn = elements_of(stream.octets((BYTES * (1 + 2 * rounds_of_bits(octets)),)).numpy().tobytes())
        self.dummy, shares = drawn[0], drawn[1:]
        self.rounds = list(zip(shares[::2], shares[1::2], strict=True))


def prove_bits(weights: np.ndarray, dealt: np.ndarray, draws: CommonBits, start: bytes) -> tuple[bytes, bytes]:
    """Return the prover's message, and the bytes of all challenges.

    Args:
        weights: W, uint64 (octets, 8).
        dealt: rho, uint8 (octets,).
        draws: see the class.
        start: bytes that hold the verifier's nonce and everything that was agreed before.
    """
    transcript = _Transcript(start)
    messages = [(cross_sums(weights, dealt).reshape(-1)[:CROSS] ^ draws.cross).astype("<u8").tobytes()]
    told = transcript.challenges(messages[0], 2 * OCTET)
    w, rho = combined_words(weights, told[:OCTET], 1), combined_bits(dealt, told[OCTET:], 1)
    rho[-1] = [draws.dummy & (1 << 64) - 1, draws.dummy >> 64]
    for shares in draws.rounds:
        messages.append(bytes_of([a ^ b for a, b in zip(round_sums(w, rho), shares, strict=True)]))
        (x,) = transcript.challenges(messages[-1], 1)
        told.append(x)
        w, rho = folded(w, x), folded(rho, x)
    return b"".join(messages), bytes_of(told)


def follow_bits(weights: np.ndarray, total: int, message: bytes, start: bytes) -> tuple[int, int, bytes]:
    """Return the verifier's share of the last claim, the last weight w*, and the bytes of all challenges."""
    transcript = _Transcript(start)
    told = transcript.challenges(message[:CROSS_BYTES], 2 * OCTET)
    share = _first_claim(total, np.frombuffer(message[:CROSS_BYTES], "<u8"), told)
    w = combined_words(weights, told[:OCTET], 1)
    for k in range(CROSS_BYTES, len(message), ROUND_BYTES):
        at_0, leading = elements_of(message[k : k + ROUND_BYTES])
        (x,) = transcript.challenges(message[k : k + ROUND_BYTES], 1)
        told.append(x)
        share, w = next_claim(share, at_0, leading, x), folded(w, x)
    return share, element(w[0]), bytes_of(told)


def answer_bits(dealt: np.ndarray, told: bytes, draws: CommonBits) -> bytes:
    """Return the dealer's answer: rho* and its share of the last claim.

    Raises ValueError: a challenge is 0 or 1, with which the dummy element would not hide rho*.
    """
    challenges = elements_of(told)
    if any(x in (0, 1) for x in challenges[2 * OCTET :]):
        raise ValueError("got a challenge of 0 or 1; expected a hash")
    share, rho = _first_claim(0, draws.cross, challenges), combined_bits(dealt, challenges[OCTET : 2 * OCTET], 1)
    rho[-1] = [draws.dummy & (1 << 64) - 1, draws.dummy >> 64]
    for x, (at_0, leading) in zip(challenges[2 * OCTET :], draws.rounds, strict=True):
        share, rho = next_claim(share, at_0, leading, x), folded(rho, x)
    return bytes_of([element(rho[0]), share])


def holds(share: int, last: int, answer: bytes) -> bool:
    """Return whether the shares of the last claim sum to w* rho*."""
    rho, rest = elements_of(answer)
    return share ^ rest == multiply(last, rho)


def _first_claim(total: int, sent: np.ndarray, told: Sequence[int]) -> int:
    """Return a share of u' C v, from a share of T and of the elements of C but the last one."""
    cross = [int(each) for each in sent]
    cross.append(total)
    for a in range(OCTET - 1):
        cross[-1] ^= cross[a * OCTET + a]
    found = 0
    for a, u in enumerate(told[:OCTET]):
        row = 0
        for c, v in zip(cross[a * OCTET : (a + 1) * OCTET], told[OCTET : 2 * OCTET], strict=True):
            row ^= multiply(v, c)
        found ^= multiply(u, row)
    return found
