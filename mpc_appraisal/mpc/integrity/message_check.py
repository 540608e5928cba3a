"""Each owner is shown that all messages of the other owner are those that the protocol prescribes.

    for each owner P:   sum over k of U_jk m_k = <w_j, rho> mod 2^(b_j),   j = 1, ..., 40 for each modulus

m_k are the elements of P's messages less their public parts, w_j follow from the messages of both owners, and rho is
what the dealer has dealt to P. Both owners make the claims by a replay of P's program (`replay`), the dealer draws the
subsets U once both have all messages (`subset_claims`), and `inner_product_check` shows that the claims hold. In go the
program, the transcript of an owner and its key with the dealer, or the dealer's keys and corrections; out comes
nothing, or an IntegrityError that names a party. This is done twice for a result: for all messages before anything is
opened, and for the opened shares of the result, which both owners had committed to.

| from -> to | message, in each check | bytes |
|---|---|---|
| owners -> dealer | all is received | 1 |
| dealer -> owners | the seed of the subsets | 32 |
| owners -> dealer, for each P | the leaves of P's replay and the sizes of its claims, in JSON | 8 and its length |
| all, for each P | the messages of `inner_product_check` | see there |

The leaves and sizes are public: they follow from the program and its shapes. The dealer goes on only if both owners
state the same, of at most as many numbers as it has dealt. It draws again what it has drawn from the streams that it
shares with P, and has kept its corrections. What is not shown: that a private matrix is the one that its owner should
have brought in, and that the dealer has dealt rightly.

Soundness: see `subset_claims` and `inner_product_check`. Whether the check fails does not depend on any secret, since
each altered message is found whatever the values are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import IntegrityError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.integrity.inner_product_check import Claims, answer, prove, verify
from mpc_appraisal.mpc.integrity.linear_form import backward, forward
from mpc_appraisal.mpc.integrity.plane_form import OCTET, unpacked
from mpc_appraisal.mpc.integrity.replay import Claim, ReplayEngine
from mpc_appraisal.mpc.integrity.subset_claims import SUBSETS, SubsetClaims, deal_seed, receive_seed
from mpc_appraisal.mpc.net.channel import Channel, Transcript
from mpc_appraisal.mpc.protocols.dealer import PURPOSES
from mpc_appraisal.mpc.protocols.orders import bytes_of, tensor_of
from mpc_appraisal.mpc.ring.packing import unpack
from mpc_appraisal.mpc.ring.prg import Stream

LENGTH_BYTES = 8
MOST_DESCRIPTION = 1 << 24  # so many bytes of JSON at most
NOTHING = "{}"  # the description of no claims
MOST_QUOTIENT = 256  # |h_j| is below 2^MOST_QUOTIENT
# Primes for the prover's own sums, which it tells nobody.
OWN_PRIMES = tuple(2**31 - k for k in (1, 19, 61, 69, 85, 99, 105, 151, 159, 171))

Program = Callable[[Any], torch.Tensor]  # of an engine; returns the share of the result


class OwnerCheck:
    """One owner's part.

    Args:
        me: the rank of this owner.
        channel: this owner's channel, of which `transcript` is no longer written to.
        key: the key that this owner shares with the dealer.
        pair: a function that returns the stream that both owners share, from its beginning.
        transcript: the messages of this owner up to the opening of the result.
        program: the program of both owners, which returns a blinded share of the result and opens nothing.

    Raises AppraisalError: a message of the program is no linear form, or the messages are not those of the program.
    """

    def __init__(
        self, me: int, channel: Channel, key: bytes, pair: Callable[[], Any], transcript: Transcript, program: Program
    ):
        self.me, self.channel, self.key, self.dealt = me, channel, key, transcript.dealt
        theirs = Transcript(transcript.received, transcript.sent)
        messages = {me: transcript, 1 - me: theirs}
        self.replays = [ReplayEngine(rank, messages[rank], pair()) for rank in range(len(OWNERS))]
        self.results = [program(replay) for replay in self.replays]

    def messages(self) -> None:
        """Check all messages of both owners. Raises IntegrityError where a message of the other owner is wrong."""
        self._check("messages", [replay.claims for replay in self.replays])

    def opening(self, mine: torch.Tensor, theirs: torch.Tensor) -> None:
        """Check the shares of the result that both owners have opened. Raises IntegrityError as `messages` does."""
        shares = {self.me: mine, 1 - self.me: theirs}
        self._check("opening", [[Claim(form, shares[rank], 64)] for rank, form in enumerate(self.results)])

    def _check(self, label: str, claims: Sequence[Sequence[Claim]]) -> None:
        seed = receive_seed(self.channel)
        for prover, replay in enumerate(self.replays):
            if claims[prover]:
                self._check_owner(f"{label} of {OWNERS[prover]}", prover, replay, claims[prover], seed)
            else:
                _send_text(self.channel, NOTHING)

    def _check_owner(self, label: str, prover: int, replay: ReplayEngine, claims: Sequence[Claim], seed: bytes) -> None:
        forms = [claim.form for claim in claims]
        bits = np.concatenate([np.full(form.numel(), claim.bits) for form, claim in zip(forms, claims, strict=True)])
        subsets = SubsetClaims(seed, label, bits)
        largest = {b: sum(c.form.largest * c.form.numel() for c in claims if c.bits == b) for b in set(subsets.moduli)}
        quotients = tuple(((largest[b] >> b) + 2).bit_length() for b in subsets.moduli)
        length = sum(math.prod(each.shape) for each in replay.tape.leaves)
        public = Claims(label, prover, length, subsets.moduli, quotients)
        _send_text(self.channel, _description(replay, public))
        received = subsets.sums(np.concatenate([claim.linear_part.reshape(-1).numpy() for claim in claims]))

        def weights(gammas: np.ndarray, p: int) -> np.ndarray:
            ends = np.cumsum([form.numel() for form in forms])[:-1]
            parts = np.split(subsets.cotangents(gammas, p).astype(np.uint64), ends)
            parts = [part.reshape(tuple(form.shape)) for part, form in zip(parts, forms, strict=True)]
            return np.concatenate([each.reshape(-1) for each in backward(forms, parts, p)])

        if self.me != prover:
            verify(self.channel, public, received, weights)
            return
        dealt = self._own_numbers(replay)
        rho = np.concatenate([each.reshape(-1) for each in replay.tape.leaf_numbers([v.numpy() for v in dealt])])
        primes = OWN_PRIMES[: _primes_for(max(quotients) + 2)]
        sums = [
            subsets.whole_sums(np.concatenate([each.reshape(-1) for each in of_prime]).astype(np.uint64))
            for of_prime in forward(forms, dealt, primes)
        ]
        h = [
            _quotient(t, b, [of_prime[j] for of_prime in sums], primes)
            for j, (t, b) in enumerate(zip(received, subsets.moduli, strict=True))
        ]
        prove(self.channel, Stream(self.key, f"check {label}"), public, rho, h, weights)

    def _own_numbers(self, replay: ReplayEngine) -> list[torch.Tensor]:
        """Return what this owner was dealt, in the order of the tape's leaves."""
        own = [leaf for leaf in replay.tape.leaves if leaf.of is None]
        kept = iter(self.dealt) if self.me == 0 else None
        places = [[origin, list(each.shape), each.bits] for origin, each in zip(replay.origins, own, strict=True)]
        return _numbers(places, self.key, kept)


class DealerCheck:
    """The dealer's part.

    Args:
        channel: the dealer's channel.
        keys: the keys that the dealer shares with the model owner and with the data owner.
        corrections: what the dealer has sent the model owner, in order.
        most: the most numbers that a check may be about, leaves of leaves included.
    """

    def __init__(self, channel: Channel, keys: Sequence[bytes], corrections: Sequence[torch.Tensor], most: int):
        self.channel, self.keys, self.corrections, self.most = channel, keys, corrections, most

    def answer(self) -> None:
        """Answer one check of both owners.

        Raises IntegrityError: the owners state different leaves or claims, or those of another program than was dealt
        for.
        """
        deal_seed(self.channel)
        for prover, key in enumerate(self.keys):
            texts = [_receive_text(self.channel, rank) for rank in range(len(OWNERS))]
            if texts[0] != texts[1]:
                raise IntegrityError(f"{' or '.join(OWNERS)}: they state different claims; nothing is opened")
            if texts[0] == NOTHING:
                continue
            try:
                found = json.loads(texts[0])
                label, leaves, groups = found["label"], found["leaves"], found["claims"]
                drawn, count = [each for each in leaves if each[0] in PURPOSES], sum(math.prod(e[1]) for e in leaves)
            except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
                raise IntegrityError(f"{' and '.join(OWNERS)}: a description of claims cannot be read") from error
            if count > self.most:
                raise IntegrityError(f"{' and '.join(OWNERS)}: the check {label!r} has more numbers than were dealt")
            dealt = iter(_numbers(drawn, key, iter(self.corrections) if prover == 0 else None))
            numbers: list[np.ndarray] = []
            for origin, _, bits in leaves:
                whole = next(dealt).numpy().view(np.uint64) if origin in PURPOSES else numbers[origin]
                numbers.append(whole if bits == 64 else whole & np.uint64((1 << bits) - 1))
            moduli, quotients = ([pair[k] for pair in groups for _ in range(SUBSETS)] for k in (0, 1))
            rho = np.concatenate([each.reshape(-1) for each in numbers])
            if not all(0 < b <= 64 and 0 < q <= MOST_QUOTIENT for b, q in groups):
                raise IntegrityError(f"{' and '.join(OWNERS)}: the check {label!r} has claims out of range")
            public = Claims(label, prover, len(rho), tuple(moduli), tuple(quotients))
            answer(self.channel, Stream(key, f"check {label}"), public, rho)


def _description(replay: ReplayEngine, public: Claims) -> str:
    """Return the leaves of a replay, each with its origin, shape and bits, and modulus and quotient of the claims."""
    origins, leaves = iter(replay.origins), []
    for each in replay.tape.leaves:
        leaves.append([next(origins) if each.of is None else each.of, list(each.shape), each.bits])
    pairs = list(zip(public.moduli, public.quotients, strict=True))[::SUBSETS]
    return json.dumps({"label": public.label, "leaves": leaves, "claims": pairs})


def _numbers(leaves: Sequence[list[Any]], key: bytes, corrections: Any) -> list[torch.Tensor]:
    """Return what was dealt for leaves of a purpose, a shape and a number of bits: drawn again, or the corrections."""
    streams, found = {purpose: Stream(key, purpose) for purpose in PURPOSES}, []
    for purpose, shape, bits in leaves:
        octets = (*shape[:-1], shape[-1] // OCTET) if bits == 1 else None
        if purpose == "share" and corrections is not None:
            message = next(corrections)
            if bits == 1:
                found.append(unpacked(message.reshape(octets)))
            else:
                found.append(message.reshape(shape) if bits == 64 else unpack(message, shape, bits // OCTET))
        elif bits == 1:
            found.append(unpacked(streams[purpose].octets(octets)))
        else:
            found.append(streams[purpose].ring(shape, bits // OCTET))
    return found


def _primes_for(bits: int) -> int:
    """Return how many primes, each above 2^30, have a product above 2^bits."""
    return bits // 30 + 1


def _quotient(t: int, b: int, sums: Sequence[int], primes: Sequence[int]) -> int:
    """Return h with t + 2^b h equal to each sum mod its prime, the one that is nearest to 0."""
    h, product = 0, 1
    for total, p in zip(sums, primes, strict=True):
        wanted = (total - t) * pow(2, -b, p) % p
        h += product * ((wanted - h) * pow(product, -1, p) % p)
        product *= p
    return h - product if h > product // 2 else h


def _send_text(channel: Channel, text: str) -> None:
    data = text.encode()
    channel.send(tensor_of(len(data).to_bytes(LENGTH_BYTES, "little")), 2)
    channel.send(tensor_of(data), 2)


def _receive_text(channel: Channel, rank: int) -> str:
    kind = tensor_of(b"\0").dtype
    length = int.from_bytes(bytes_of(channel.receive((LENGTH_BYTES,), rank, kind)), "little")
    if not 0 < length <= MOST_DESCRIPTION:
        raise IntegrityError(f"{OWNERS[rank]}: got a description of {length} bytes; expected 1 to {MOST_DESCRIPTION}")
    return bytes_of(channel.receive((length,), rank, kind)).decode()
