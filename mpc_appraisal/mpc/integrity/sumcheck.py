"""The sumcheck of an inner product <w, rho> modulo a prime, as one message that reveals nothing.

    in every round   g(x) = <w(x), rho(x)>   <w, rho> = g(0) + g(1)   w, rho, claim <- w(x), rho(x), g(x)
    of a matrix      <L R', A> = <L, A R> = sum over rows of <L_i, (A R)_i>,   and of rows that are folded to one by e:
                     <L(e), (A R)(e)> = <R L(e), e'A>

The prover holds w and rho, the verifier w, and the dealer rho. v(x) folds a vector to half its length (see
`prime_field`). The challenge x is a hash of all messages so far (Fiat and Shamir). It is in the field of p^4 elements.
A challenge in F_p would not do: a prover can try 2^29 messages of one round within minutes, until one has a challenge
that suits a false claim, and more primes only add to its work.

A dealt matrix A (n, d) may be a part of rho of its own. Its weights are L R' mod p, for L (n, k) of numbers mod p and R
(d, k) of signed integers, and are never formed. The rows of L and A R (n, k) are folded along with the vectors, by the
same challenges, and g is the sum over all parts. Once one row is left, R L(e) (d elements) is appended to w and e'A to
rho: the claim about the two rows is the same claim about these two vectors. So all parts end in one element, and the
sumcheck stays one of inner products. The prover computes A R once, prover and dealer e'A, and both owners R L(e).

The prover sends one share of g(0) and of the leading coefficient of g, uniform in F_p^4. The dealer makes the other
share from the stream that it has in common with the prover. The next claim is linear in these two and the claim, so
that the verifier and the dealer each compute a share of the last claim. After the first round a dummy element, uniform
in F_p^4 and of weight 0, is appended to rho. It hides the last element rho*, because it is in rho* with the product of
one factor, x or 1 - x, for every later round, and the dealer refuses challenges that are 0 or 1.

Soundness (Lund, Fortnow, Karloff and Nisan 1992): with a false claim, two different polynomials of degree 2 agree at x
with a probability of at most 2 / p^4 < 2^-119 in each round. A prover that computes T hashes passes with a probability
of at most 2 T / p^4, which is below 2^-59 for T = 2^60 (Fiat-Shamir for round-by-round sound proofs, Canetti et al.
2019). A matrix changes none of this, since a round's claim is true or false of w, rho, L, R and A alone, whatever the
prover says of A R. There are `rounds_of` rounds of 32 bytes: without matrices ceil(log2(ceil(n / 2) + 1)) + 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mpc_appraisal.mpc.ring.pieces import Pieces
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.prime_field import DEGREE, ZERO, Element, Field, uniform

ELEMENT_BYTES = 4 * DEGREE
ROUND_BYTES = 2 * ELEMENT_BYTES


Shape = tuple[int, int]


@dataclass(frozen=True)
class Factors:
    """The weights left @ right' of a dealt matrix (n, d).

    Attributes:
        left: uint32 (n, k) mod p.
        right: matrices of d rows, int64 and signed or in pieces, which side by side are (d, k).
    """

    left: np.ndarray
    right: Sequence[np.ndarray | Pieces]


def rounds_of(length: int, shapes: Sequence[Shape] = ()) -> int:
    """Return the number of rounds for vectors of `length` elements and matrices of the given shapes, at least 1."""
    left, rounds = (length + 1) // 2 + 1, 1  # with the dummy element
    waiting = [((n + 1) // 2, d) for n, d in shapes]
    while True:
        left += sum(d for n, d in waiting if n == 1)
        waiting = [(n, d) for n, d in waiting if n > 1]
        if left == 1 and not waiting:
            return rounds
        left, waiting, rounds = (left + 1) // 2, [((n + 1) // 2, d) for n, d in waiting], rounds + 1


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

    def __init__(self, stream: Stream, length: int, p: int, shapes: Sequence[Shape] = ()):
        drawn = uniform(stream, DEGREE * (1 + 2 * rounds_of(length, shapes)), p).reshape(-1, DEGREE)
        self.dummy = drawn[0]
        shares = [tuple(map(int, each)) for each in drawn[1:]]
        self.shares = list(zip(shares[::2], shares[1::2], strict=True))


class _Rows:
    """The rows of a matrix's factors: of L alone, or of L and A R; all are folded together until one is left."""

    def __init__(self, factors: Factors, product: np.ndarray | None = None):
        self.right, (self.left, self.columns) = factors.right, factors.left.shape
        both = [factors.left] if product is None else [factors.left, product]
        self.vectors = [each.reshape(-1) for each in both]

    @property
    def half(self) -> int:
        """Return how many elements the rows have that stay where they are in the next fold."""
        return (self.left + 1) // 2 * self.columns

    def fold(self, field: Field, x: Element) -> None:
        """Fold the rows by x."""
        self.vectors = [field.folded(each, x, half=self.half) for each in self.vectors]
        self.left = (self.left + 1) // 2

    def weights(self, field: Field) -> np.ndarray:
        """Return R L(e), (4, d)."""
        total, start = None, 0
        for right in self.right:
            end = start + right.shape[1]
            part = field.combined(self.vectors[0][:, start:end], right.T)
            total, start = part if total is None else field.sum(total, part), end
        return total


def prove_sumcheck(
    field: Field,
    weights: np.ndarray,
    rho: np.ndarray,
    draws: CommonDraws,
    transcript: Transcript,
    matrices: Sequence[tuple[Factors, np.ndarray, np.ndarray]] = (),
) -> tuple[bytes, list[Element]]:
    """Return the prover's message and the challenges.

    Args:
        field: the field.
        weights, rho: uint32 (n,) below p.
        draws, transcript: see their classes.
        matrices: for each dealt matrix A its factors, A itself (uint64 (n, d)), and A R mod p (uint32 (n, k)).
    """
    messages, challenges = [], []
    waiting = [(_Rows(factors, product), values) for factors, values, product in matrices]
    for share_0, share_leading in draws.shares:
        sums = [field.round_sums(weights, rho), *(field.round_sums(*rows.vectors, rows.half) for rows, _ in waiting)]
        at_0, leading = (field.add(*each) for each in zip(*sums, strict=True))
        sent = [field.add(at_0, field.scale(-1, share_0)), field.add(leading, field.scale(-1, share_leading))]
        messages.append(bytes_of_elements(sent))
        challenges.append(x := transcript.challenge(messages[-1]))
        more = 1 if len(challenges) == 1 else 0
        weights, rho = field.folded(weights, x, more), field.folded(rho, x, more)
        if more:
            rho[:, -1] = draws.dummy
        for rows, _ in waiting:
            rows.fold(field, x)
        done = [(rows, values) for rows, values in waiting if rows.left == 1]
        waiting = [(rows, values) for rows, values in waiting if rows.left > 1]
        weights = _joined(weights, (rows.weights(field) for rows, _ in done))
        rho = _joined(rho, (_folded_rows(field, values, challenges) for _, values in done))
    return b"".join(messages), challenges


def follow_sumcheck(
    field: Field,
    weights: np.ndarray,
    claim: int,
    message: bytes,
    transcript: Transcript,
    matrices: Sequence[Factors] = (),
) -> tuple[Element, Element, list[Element]]:
    """Return the verifier's share of the last claim, the last weight w*, and the challenges.

    Raises ValueError: the message holds numbers that are not below p.
    """
    share, challenges, waiting = (claim % field.p, 0, 0, 0), [], [_Rows(factors) for factors in matrices]
    for text in _rounds(message):
        at_0, leading = elements_of(text, field.p)
        x = transcript.challenge(text)
        share = field.next_claim(share, at_0, leading, x)
        weights = field.folded(weights, x, 0 if challenges else 1)
        challenges.append(x)
        for rows in waiting:
            rows.fold(field, x)
        weights = _joined(weights, (rows.weights(field) for rows in waiting if rows.left == 1))
        waiting = [rows for rows in waiting if rows.left > 1]
    return share, tuple(map(int, weights[:, 0])), challenges


def answer_sumcheck(
    field: Field,
    rho: np.ndarray,
    claim: int,
    challenges: list[Element],
    draws: CommonDraws,
    matrices: Sequence[np.ndarray] = (),
) -> tuple[Element, Element]:
    """Return rho* and the dealer's share of the last claim; `matrices` holds each dealt matrix, uint64 (n, d).

    Raises ValueError: a challenge is 0 or 1, with which the dummy element would not hide rho*.
    """
    if any(x in (ZERO, (1, 0, 0, 0)) for x in challenges):
        raise ValueError("got a challenge of 0 or 1; expected a hash")
    share = (claim % field.p, 0, 0, 0)
    waiting = [(len(values), values) for values in matrices]
    for k, (x, (at_0, leading)) in enumerate(zip(challenges, draws.shares, strict=True)):
        share = field.next_claim(share, at_0, leading, x)
        rho = field.folded(rho, x, 0 if k else 1)
        if k == 0:
            rho[:, -1] = draws.dummy
        waiting = [((n + 1) // 2, values) for n, values in waiting]
        rho = _joined(rho, (_folded_rows(field, values, challenges[: k + 1]) for n, values in waiting if n == 1))
        waiting = [(n, values) for n, values in waiting if n > 1]
    return tuple(map(int, rho[:, 0])), share


def _joined(vector: np.ndarray, more: Iterable[np.ndarray]) -> np.ndarray:
    """Return the vectors in F_p^4 one after the other."""
    parts = [vector, *more]
    return np.concatenate(parts, axis=1) if len(parts) > 1 else vector


def _folded_rows(field: Field, values: np.ndarray, challenges: Sequence[Element]) -> np.ndarray:
    """Return e'A, (4, d)."""
    return field.combined(field.fold_factors(len(values), challenges), values)


def _rounds(message: bytes) -> Iterator[bytes]:
    return (message[start : start + ROUND_BYTES] for start in range(0, len(message), ROUND_BYTES))
