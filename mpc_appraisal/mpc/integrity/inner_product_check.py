"""Shows one owner that the other owner's messages are right: inner products of public weights and dealt numbers.

    <w_j, rho> = t_j + 2^(b_j) h_j  over the integers, for claims j = 1, ..., J

rho (N integers in [0, 2^64)) is known to the prover, who is an owner, and to the dealer. The weights w_j are known to
both owners, t_j in [0, 2^(b_j)) to the verifier, who is the other owner, and h_j to the prover. |h_j| < 2^(q_j), a
public bound that follows from the weights. The verifier learns whether all claims hold, and nobody learns more.

rho may end in matrices A (n, d), uint64 as the rest of it, whose combined weights sum_j gamma_j w_j are L R' mod p with
thin L (n, k) and R (d, k). Then neither these weights are formed nor A is folded, see `sumcheck`. Which parts of rho
are matrices is public, and part of `Claims`. Claims about dealt bits, which are no part of rho, are shown by the same
messages: `bit_sumcheck` states them, and what they add to messages 4, 5 and 6.

| | from -> to | message | bytes |
|---|---|---|---|
| 1 | prover -> verifier | h_j + 2^(q_j) + mask_j, where mask_j is uniform in [0, 2^(q_j + 41)) | `hidden_bytes` |
| 2 | verifier -> dealer | "received" | 1 |
| 2 | verifier -> prover | nonce | 32 |
| 3 | dealer -> prover, verifier | two different primes p, and a seed, which gives gamma (J,) for each p | 40 each |
| 4 | prover -> verifier | the sumcheck of <sum_j gamma_j w_j, rho> mod p, for each p | 64 a round of the sumcheck |
| 4 | | the sumcheck of bits | 504, and 32 a round |
| 4 | prover -> dealer | SHA-256 of all challenges | 32 |
| 5 | verifier -> dealer | the challenges, for each p | 32 a round of the sumcheck |
| 5 | | those of the sumcheck of bits | 256, and 16 a round |
| 6 | dealer -> verifier | rho* and the dealer's share of the last claim, for each p, and of bits | 64, and 32 |

These are six messages one after the other, which count as three rounds of owners. The verifier starts from the share
sum_j gamma_j (t_j + 2^(b_j) (message 1 - 2^(q_j))) of the claim and the dealer from - sum_j gamma_j 2^(b_j) mask_j.
In the end the two shares of the last claim must sum to w* rho*.

Soundness. If claim j is false, D = <w_j, rho> - t_j - 2^(b_j) h_j is an integer other than 0 with fewer than
b_j + q_j + 44 bits, and at most m = (b_j + q_j + 44) / 30 primes above 2^30 divide it, of about 25 million. They are
drawn after message 1, so that D does not depend on them. For each p, the claim is still false after gamma, unless p
divides D or with a probability of 1 / p; a false claim passes the sumcheck with less than 2^-59, whatever a prover
computes (see `sumcheck`). The cheat passes only if it passes for both primes: (m / 2^24.5 + 2^-30 + 2^-59)^2, below
2^-43 for b_j + q_j <= 224 (m <= 8). The prover must not know the nonce, primes and seed before message 1, and the t_j
are fixed before. A cheating dealer is outside this protocol.

What each party sees. The verifier sees message 1, of which the distance from one that does not depend on h_j is at most
2^-40 a claim; uniform shares; rho*, which a dummy element makes uniform; and the dealer's share, which then follows
from what it has, since the two must sum to w* rho*. The dealer sees hashes of a nonce that it does not know. The prover
sees random numbers. A verifier that told the dealer other challenges would be given a linear combination of rho, and
therefore the dealer answers only if the prover's hash of the challenges is the same; if not, its error names both
owners, since it cannot tell which of them lies or whether a message was altered under way. Nothing is opened here.

All numbers in messages are integers, the lowest byte first. The order of messages and draws has to stay the same at all
parties. `label` must be used once in a session. The common stream must be fresh at prover and dealer.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import IntegrityError
from mpc_appraisal.common.roles import DEALER, OWNERS, ROLES
from mpc_appraisal.mpc.integrity.bit_sumcheck import (
    BitClaims,
    CommonBits,
    answer_bits,
    answer_bytes,
    challenge_bytes,
    follow_bits,
    holds,
    proof_bytes,
    prove_bits,
)
from mpc_appraisal.mpc.integrity.inner_product_claims import (
    HIDING,
    Claims,
    DealtMatrix,
    Weights,
    check_rho,
    checked_weights,
)
from mpc_appraisal.mpc.integrity.sumcheck import (
    ELEMENT_BYTES,
    ROUND_BYTES,
    CommonDraws,
    answer_sumcheck,
    bytes_of_elements,
    elements_of,
    follow_sumcheck,
    prove_sumcheck,
)
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.protocols.orders import bytes_of, tensor_of
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.prime_field import Field, draw_primes, is_field_prime, uniform
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

PRIMES = 2
SEED_BYTES = NONCE_BYTES = 32
PRIME_BYTES = 4
DEALER_RANK = ROLES.index(DEALER)
RECEIVED = b"r"


def in_turn(*parts: Iterator[None]) -> None:
    """Go on with each part of a check to its next pause, in turn, until all are done.

    Two checks run at the same time if each owner gives its `proving` before its `verifying`, and the dealer gives both
    its `answering`: then both owners compute their proofs at once.
    """
    left = list(parts)
    while left:
        left = [part for part in left if next(part, left) is None]  # at its end a part has another answer


def proving(
    channel: Channel,
    stream: Stream,
    claims: Claims,
    rho: np.ndarray,
    quotients: Sequence[int],
    weights: Weights,
    matrices: Sequence[DealtMatrix] = (),
    bits: BitClaims | None = None,
) -> Iterator[None]:
    """Take the prover's part, with a pause after message 1.

    Args:
        channel: this owner's channel.
        stream: a stream in common with the dealer alone, from which nothing was drawn.
        claims: the public part.
        rho: the dealt numbers in no matrix, uint64 or int64 with the same bits, (N,).
        quotients: h_j for each claim.
        weights: a function of gamma (uint32, (J,)) and p, which returns sum_j gamma_j w_j mod p: for rho as integers
            (N,) in [0, p), and for each matrix as `Factors`.
        matrices: the dealt numbers in matrices.
        bits: the claims about bits, where `claims` has octets.

    Raises:
        IntegrityError: the dealer's primes are none.
        ValueError: a length does not fit `claims`, or |h_j| is not below 2^(q_j). Nothing is sent then.
    """
    check_rho(claims, rho, [matrix.values for matrix in matrices])
    if len(quotients) != len(claims.quotients):
        raise ValueError(f"quotients: got {len(quotients)}; expected {len(claims.quotients)}")
    hidden = b"".join(
        _hidden(int(h), mask, q, width)
        for h, mask, q, width in zip(quotients, claims.masks(stream), claims.quotients, claims.widths, strict=True)
    )
    channel.send(tensor_of(hidden), claims.verifier)
    yield
    nonce = _received(channel, NONCE_BYTES, claims.verifier)
    channel.meter.waited()
    dealt, primes = _dealt(channel, claims)
    proofs, digest = [], hashlib.sha256()
    for field, gammas in _fields(dealt, primes, claims):
        draws = CommonDraws(stream, claims.length, field.p, claims.matrices)
        transcript = claims.transcript(nonce, hidden, dealt, field.p)
        vector, factors = checked_weights(weights, gammas, field.p, claims)
        parts = [
            (each, matrix.values, np.ascontiguousarray(matrix.product(field.p), dtype=np.uint32))
            for each, matrix in zip(factors, matrices, strict=True)
        ]
        message, challenges = prove_sumcheck(field, vector, field.residues(rho), draws, transcript, parts)
        proofs.append(message)
        digest.update(bytes_of_elements(challenges))
    if claims.octets:
        common = CommonBits(stream, claims.octets)
        message, told = prove_bits(bits.weights(), bits.dealt, common, claims.start(nonce, hidden, dealt))
        proofs.append(message)
        digest.update(told)
    channel.send(tensor_of(b"".join(proofs)), claims.verifier)
    channel.send(tensor_of(digest.digest()), DEALER_RANK)


def verifying(
    channel: Channel, claims: Claims, received: Sequence[int], weights: Weights, bits: BitClaims | None = None
) -> Iterator[None]:
    """Take the verifier's part, with a pause after messages 2 and 5.

    `received` holds t_j for each claim, and `weights` and `bits` are as in `proving`.

    Raises:
        IntegrityError: a claim is false or a message was altered; the error names the party and the message.
        ValueError: the number of t_j does not fit `claims`, or a t_j is not in [0, 2^(b_j)). Nothing is sent then.
    """
    for t, b in zip(received, claims.moduli, strict=True):
        if not 0 <= int(t) < 1 << b:
            raise ValueError(f"received: got {t}; expected a number in [0, 2^{b})")
    hidden = _received(channel, claims.hidden_bytes, claims.prover)
    quotients = claims.integers(hidden)
    for j, (h, q) in enumerate(zip(quotients, claims.quotients, strict=True)):
        if h >= (1 << (q + HIDING + 1)) + (1 << (q + 1)):
            raise claims.altered(claims.prover, f"quotient {j}", f"is out of range (expected |h| < 2^{q})")
    channel.send(tensor_of(RECEIVED), DEALER_RANK)
    nonce = os.urandom(NONCE_BYTES)
    channel.send(tensor_of(nonce), claims.prover)
    yield
    dealt, primes = _dealt(channel, claims)
    proof = _received(channel, _proof_bytes(claims), claims.prover)
    size, ends, told = ROUND_BYTES * claims.rounds, [], []
    for k, (field, gammas) in enumerate(_fields(dealt, primes, claims)):
        claim = sum(
            int(y) * (int(t) + ((h - (1 << q)) << b))
            for y, t, h, b, q in zip(gammas, received, quotients, claims.moduli, claims.quotients, strict=True)
        )
        transcript = claims.transcript(nonce, hidden, dealt, field.p)
        part = proof[k * size : (k + 1) * size]
        vector, factors = checked_weights(weights, gammas, field.p, claims)
        try:
            share, last, challenges = follow_sumcheck(field, vector, claim, part, transcript, factors)
        except ValueError as error:
            raise claims.altered(claims.prover, "a message of the sumcheck", str(error)) from error
        ends.append((field, share, last))
        told.append(bytes_of_elements(challenges))
    if claims.octets:
        start = claims.start(nonce, hidden, dealt)
        *of_bits, challenges = follow_bits(bits.weights(), bits.total, proof[PRIMES * size :], start)
        told.append(challenges)
    channel.send(tensor_of(b"".join(told)), DEALER_RANK)
    yield
    channel.meter.waited()
    answers = _received(channel, _answer_bytes(claims), DEALER_RANK)
    _check_ends(claims, ends, answers)
    if claims.octets and not holds(*of_bits, answers[PRIMES * 2 * ELEMENT_BYTES :]):
        raise _prescribed(claims)


def answering(
    channel: Channel,
    stream: Stream,
    claims: Claims,
    rho: np.ndarray,
    matrices: Sequence[np.ndarray] = (),
    bits: np.ndarray | None = None,
) -> Iterator[None]:
    """Take the dealer's part, with a pause after each half of message 3 and before message 5.

    `stream` is a fresh stream in common with the prover, `rho` is as in `proving`, `matrices` holds each matrix,
    uint64 (n, d), and `bits` the dealt bits, uint8 (octets,).

    Raises:
        IntegrityError: an owner's message is not of the form that is expected, or the two owners state different
            challenges. The dealer has then told nothing of rho.
        ValueError: the length of rho does not fit `claims`.
    """
    check_rho(claims, rho, matrices)
    masks = claims.masks(stream)
    if _received(channel, len(RECEIVED), claims.verifier) != RECEIVED:
        raise claims.altered(claims.verifier, "the message 'received'", "is another")
    primes = draw_primes(PRIMES)
    dealt = os.urandom(SEED_BYTES) + b"".join(p.to_bytes(PRIME_BYTES, "little") for p in primes)
    for rank in (claims.prover, claims.verifier):
        channel.send(tensor_of(dealt), rank)
        yield
    digest = _received(channel, hashlib.sha256().digest_size, claims.prover)
    yield
    size = ELEMENT_BYTES * claims.rounds
    told = _received(channel, _challenge_bytes(claims), claims.verifier)
    if not hmac.compare_digest(digest, hashlib.sha256(told).digest()):
        names = f"{OWNERS[claims.verifier]} or {OWNERS[claims.prover]}"
        raise IntegrityError(
            f"{names}: the challenges of the check {claims.label!r} differ between the two; nothing is opened"
        )
    answers = b""
    try:
        for k, (field, gammas) in enumerate(_fields(dealt, primes, claims)):
            draws = CommonDraws(stream, claims.length, field.p, claims.matrices)
            claim = -sum(int(y) * (mask << b) for y, mask, b in zip(gammas, masks, claims.moduli, strict=True))
            challenges = elements_of(told[k * size : (k + 1) * size], field.p)
            ends = answer_sumcheck(field, field.residues(rho), claim, challenges, draws, matrices)
            answers += bytes_of_elements([*ends])
        if claims.octets:
            answers += answer_bits(bits, told[PRIMES * size :], CommonBits(stream, claims.octets))
    except ValueError as error:
        raise claims.altered(claims.verifier, "a challenge", str(error)) from error
    channel.send(tensor_of(answers), claims.verifier)


def prove(*arguments: Any) -> None:
    """Take the prover's part of one check alone; the arguments are those of `proving`."""
    in_turn(proving(*arguments))


def verify(*arguments: Any) -> None:
    """Take the verifier's part of one check alone; the arguments are those of `verifying`."""
    in_turn(verifying(*arguments))


def answer(*arguments: Any) -> None:
    """Take the dealer's part of one check alone; the arguments are those of `answering`."""
    in_turn(answering(*arguments))


def count(channel: Channel, claims: Claims, of_other: Claims, me: int) -> None:
    """Send and receive what the owner of rank `me` does in two checks at the same time, on shapes alone.

    `claims` are those about its own messages, and `of_other` those about the other owner's messages.
    """
    other, dealt = 1 - me, SEED_BYTES + PRIMES * PRIME_BYTES

    def send(length: int, to: int) -> None:
        channel.send(shape_tensor((length,), torch.uint8), to)

    def receive(length: int, source: int) -> None:
        channel.receive((length,), source, torch.uint8)

    send(claims.hidden_bytes, other)
    receive(of_other.hidden_bytes, other)
    send(len(RECEIVED), DEALER_RANK)
    send(NONCE_BYTES, other)
    receive(NONCE_BYTES, other)
    channel.meter.waited()
    receive(dealt, DEALER_RANK)
    send(_proof_bytes(claims), other)
    send(hashlib.sha256().digest_size, DEALER_RANK)
    receive(dealt, DEALER_RANK)
    receive(_proof_bytes(of_other), other)
    send(_challenge_bytes(of_other), DEALER_RANK)
    channel.meter.waited()
    receive(_answer_bytes(of_other), DEALER_RANK)


def _check_ends(claims: Claims, ends: list, answers: bytes) -> None:
    """Raise IntegrityError unless the shares of the last claims sum to w* rho*."""
    for k, (field, share, last) in enumerate(ends):
        try:
            rho, rest = elements_of(answers[2 * k * ELEMENT_BYTES : 2 * (k + 1) * ELEMENT_BYTES], field.p)
        except ValueError as error:
            raise claims.altered(DEALER_RANK, "the answer", str(error)) from error
        if field.add(share, rest) != field.multiply(last, rho):
            raise _prescribed(claims)


def _prescribed(claims: Claims) -> IntegrityError:
    found = "is not the one that the protocol prescribes, or its proof was altered"
    return claims.altered(claims.prover, "a message", found)


def _proof_bytes(claims: Claims) -> int:
    """Return the bytes of message 4 to the verifier."""
    return PRIMES * ROUND_BYTES * claims.rounds + proof_bytes(claims.octets)


def _challenge_bytes(claims: Claims) -> int:
    """Return the bytes of message 5."""
    return PRIMES * ELEMENT_BYTES * claims.rounds + challenge_bytes(claims.octets)


def _answer_bytes(claims: Claims) -> int:
    """Return the bytes of message 6."""
    return PRIMES * 2 * ELEMENT_BYTES + answer_bytes(claims.octets)


def _hidden(h: int, mask: int, q: int, width: int) -> bytes:
    if not abs(h) < 1 << q:
        raise ValueError(f"quotient: got one of {h.bit_length()} bits; expected below 2^{q} in size")
    return (h + (1 << q) + mask).to_bytes(width, "little")


def _received(channel: Channel, length: int, source: int) -> bytes:
    """Return the next message of the party of rank `source`; the channel holds both ends to the same length."""
    return bytes_of(channel.receive((length,), source, tensor_of(b"\0").dtype))


def _dealt(channel: Channel, claims: Claims) -> tuple[bytes, list[int]]:
    dealt = _received(channel, SEED_BYTES + PRIMES * PRIME_BYTES, DEALER_RANK)
    primes = [int(p) for p in np.frombuffer(dealt[SEED_BYTES:], "<u4")]
    if not all(map(is_field_prime, primes)) or len(set(primes)) < PRIMES:
        raise claims.altered(DEALER_RANK, f"primes {primes}", "are not two primes of 31 bits that are 1 mod 4")
    return dealt, primes


def _fields(dealt: bytes, primes: list[int], claims: Claims) -> list[tuple[Field, np.ndarray]]:
    """Return the field of each prime, with gamma (J,)."""
    seed = dealt[:SEED_BYTES]
    return [(Field(p), uniform(Stream(seed, f"gamma {k}"), len(claims.moduli), p)) for k, p in enumerate(primes)]
