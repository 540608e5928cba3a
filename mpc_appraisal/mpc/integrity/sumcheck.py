"""The sumcheck of an inner product <w, rho> modulo a prime, as one message that reveals nothing.

    in every round   g(x) = <w(x), rho(x)>   <w, rho> = g(0) + g(1)   w, rho, claim <- w(x), rho(x), g(x)

The prover holds w and rho, the verifier w, and the dealer rho. v(x) folds a vector to half its length (see
`prime_field`). The challenge x is a hash of all messages so far (Fiat and Shamir). It is in the field of p^4 elements.
A challenge in F_p would not do: a prover can try 2^29 messages of one round within minutes, until one has a challenge
that suits a false claim, and more primes only add to its work.

The prover sends one share of g(0) and of the leading coefficient of g, uniform in F_p^4. The dealer makes the other
share from the stream that it has in common with the prover. The next claim is linear in these two and the claim, so
that the verifier and the dealer each compute a share of the last claim. After the first round a dummy element, uniform
in F_p^4 and of weight 0, is appended to rho. It hides the last element rho*, because it is in rho* with the product of
one factor, x or 1 - x, for every later round, and the dealer refuses challenges that are 0 or 1.

Soundness (Lund, Fortnow, Karloff and Nisan 1992): with a false claim, two different polynomials of degree 2 agree at x
with a probability of at most 2 / p^4 < 2^-119 in each round. A prover that computes T hashes passes with a probability
of at most 2 T / p^4, which is below 2^-59 for T = 2^60 (Fiat-Shamir for round-by-round sound proofs, Canetti et al.
2019). There are ceil(log2(ceil(n / 2) + 1)) + 1 rounds of 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.prime_field import DEGREE, ZERO, Element, Field, uniform

ELEMENT_BYTES = 4 * DEGREE
ROUND_BYTES = 2 * ELEMENT_BYTES


def rounds_of(length: int) -> int:
    """Return the number of rounds for vectors of `length` elements, at least 1."""
    left = (length + 1) // 2 + 1  # with the dummy element
    return 1 + (left - 1).bit_length()


def elements_of(data: bytes, p: int) -> list[Element]:
    """Return the elements of p^4 whose bytes are given. Raises ValueError: a coordinate is not below p."""
    numbers = np.frombuffer(data, "<u4")
    if len(numbers) and int(numbers.max()) >= p:
        raise ValueError(f"got {int(numbers.max())}; expected numbers below the prime {p}")
    return [tuple(map(int, each)) for each in numbers.reshape(-1, DEGREE)]


def bytes_of_elements(elements: list[Element]) -> bytes:
    """Return the bytes of elements of p^4: 4 bytes a coordinate, the lowest byte first."""
    return np.array(elements, "<u4").tobytes()


class Transcript:
    """The hash from which challenges are made: SHA-512 of all that both owners know, then of each round's message.

    Args:
        start: bytes that hold the verifier's nonce and everything that was agreed before.
        p: the prime.
    """

    def __init__(self, start: bytes, p: int):
        self._state, self._p = hashlib.sha512(b"mpc_appraisal sumcheck 1\n" + start).digest(), p

    def challenge(self, message: bytes) -> Element:
        """Return the challenge after a round's message; each coordinate is 128 bits mod p."""
        self._state = hashlib.sha512(self._state + message).digest()
        drawn = hashlib.sha512(b"challenge" + self._state).digest()
        return tuple(int.from_bytes(drawn[16 * k : 16 * k + 16], "little") % self._p for k in range(DEGREE))


class CommonDraws:
    """What prover and dealer draw for one sumcheck: the dummy element, and a share of two elements for every round."""

    def __init__(self, stream: Stream, length: int, p: int):
        drawn = uniform(stream, DEGREE * (1 + 2 * rounds_of(length)), p).reshape(-1, DEGREE)
        self.dummy = drawn[0]
        shares = [tuple(map(int, each)) for each in drawn[1:]]
        self.shares = list(zip(shares[::2], shares[1::2], strict=True))


def prove_sumcheck(
    field: Field, weights: np.ndarray, rho: np.ndarray, draws: CommonDraws, transcript: Transcript
) -> tuple[bytes, list[Element]]:
    """Return the prover's message and the challenges; weights and rho are uint32 (n,) below p."""
    messages, challenges = [], []
    for share_0, share_leading in draws.shares:
        at_0, leading = field.round_sums(weights, rho)
        sent = [field.add(at_0, field.scale(-1, share_0)), field.add(leading, field.scale(-1, share_leading))]
        messages.append(bytes_of_elements(sent))
        x = transcript.challenge(messages[-1])
        more = 0 if challenges else 1
        weights, rho = field.folded(weights, x, more), field.folded(rho, x, more)
        if more:
            rho[:, -1] = draws.dummy
        challenges.append(x)
    return b"".join(messages), challenges


def follow_sumcheck(
    field: Field, weights: np.ndarray, claim: int, message: bytes, transcript: Transcript
) -> tuple[Element, Element, list[Element]]:
    """Return the verifier's share of the last claim, the last weight w*, and the challenges.

    Raises ValueError: the message holds numbers that are not below p.
    """
    share, challenges = (claim % field.p, 0, 0, 0), []
    for text in _rounds(message):
        at_0, leading = elements_of(text, field.p)
        x = transcript.challenge(text)
        share = field.next_claim(share, at_0, leading, x)
        weights = field.folded(weights, x, 0 if challenges else 1)
        challenges.append(x)
    return share, tuple(map(int, weights[:, 0])), challenges


def answer_sumcheck(
    field: Field, rho: np.ndarray, claim: int, challenges: list[Element], draws: CommonDraws
) -> tuple[Element, Element]:
    """Return rho* and the dealer's share of the last claim.

    Raises ValueError: a challenge is 0 or 1, with which the dummy element would not hide rho*.
    """
    if any(x in (ZERO, (1, 0, 0, 0)) for x in challenges):
        raise ValueError("got a challenge of 0 or 1; expected a hash")
    share = (claim % field.p, 0, 0, 0)
    for k, (x, (at_0, leading)) in enumerate(zip(challenges, draws.shares, strict=True)):
        share = field.next_claim(share, at_0, leading, x)
        rho = field.folded(rho, x, 0 if k else 1)
        if k == 0:
            rho[:, -1] = draws.dummy
    return tuple(map(int, rho[:, 0])), share


def _rounds(message: bytes) -> Iterator[bytes]:
    return (message[start : start + ROUND_BYTES] for start in range(0, len(message), ROUND_BYTES))
