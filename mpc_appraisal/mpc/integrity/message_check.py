"""Each owner is shown that all messages of the other owner are those that the protocol prescribes.

    for each owner P:   sum over k of U_jk m_k = <w_j, rho> mod 2^(b_j),   j = 1, ..., 48 for each modulus
                        sum over k of R_k m_k = sum over i of W_i rho_i over GF(2), for bits m_k and rho_i

m_k are the elements of P's messages less their public parts, w_j and W follow from the messages of both owners, and rho
is what the dealer has dealt to P. Packed bits are apart from all numbers: no share of bits enters one of numbers before
it is opened. Both owners make the claims by a replay of P's program (`replay`), and the dealer draws the subsets U and
the words R once both have all messages (`subset_claims`, `bit_sumcheck`). `inner_product_check` shows that the claims
hold. A check is about one section, that is, all messages since the check before. In go each owner's record of what was
dealt to it (`protocols.draws`), its messages and both replays, or the dealer's records; out comes nothing, or an
IntegrityError that names a party. A result is opened so:

| | from -> to | message | bytes |
|---|---|---|---|
| settle | owners -> owners | share - r, where r is a mask of this owner that the dealer knows | 8 an element |
| check | owners -> dealer | all is received | 1 |
| | dealer -> owners | the seed of the subsets and words | 32 |
| | all, for each P | the messages of `inner_product_check`; the settling messages are checked too | see there |
| show | owners -> dealer | the check has passed | 1 |
| | dealer -> owners | the other owner's r | 8 an element |

The message that settles is a commitment to the share, since the dealer knows r and the check covers the message. After
the check the owners send nothing that could be altered. An owner to which the result is not opened is told no r. What a
dealer could do: it could tell a wrong r, as it could deal wrongly. What is not shown: that a private matrix is the one
that its owner should have brought in.

rho has the owner's masks of private matrices in order, its draws for gates and its shares of the dealer's results, as
`Draws.dealt` lists them. The dealer knows it from the script, and all three know its length before anything is shared.

Soundness: see `subset_claims`, `bit_sumcheck` and `inner_product_check`. Whether the check fails does not depend on any
secret, since each altered message is found whatever the values are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError, InputError, IntegrityError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.integrity.bit_sumcheck import OCTET, BitClaims, total_of, words_of
from mpc_appraisal.mpc.integrity.inner_product_check import answering, count, in_turn, proving, verifying
from mpc_appraisal.mpc.integrity.inner_product_claims import Claims
from mpc_appraisal.mpc.integrity.matrix_parts import DealtParts, Evaluation
from mpc_appraisal.mpc.integrity.replay import ReplayEngine
from mpc_appraisal.mpc.integrity.subset_claims import SEED_BYTES, SUBSETS, SubsetClaims, deal_seed, receive_seed
from mpc_appraisal.mpc.integrity.sumcheck import Factors
from mpc_appraisal.mpc.net.channel import Channel, Transcript
from mpc_appraisal.mpc.protocols.draws import Dealt, Draw, Draws
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked_matrices import Settled
from mpc_appraisal.mpc.protocols.orders import bytes_of, tensor_of
from mpc_appraisal.mpc.ring.pieces import Pieces
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

# A check is about at most so many numbers beside those of matrices, and so many bits, for memory's sake: a party takes
# about 64 bytes for each number and 14 for each bit, of which 8 are the bit's word.
MOST_NUMBERS, MOST_BITS = 1 << 26, 1 << 28
QUOTIENT_BITS = 160  # |h_j| is below 2^QUOTIENT_BITS for every claim
PASSED = b"p"
NOTHING = "nothing is opened"
# Primes for the prover's own sums, which it tells nobody.
OWN_PRIMES = tuple(2**31 - k for k in (1, 19, 61, 69, 85, 99, 105, 151, 159, 171))


def claims_of(section: int, prover: int, dealt: Dealt, moduli: Sequence[int]) -> Claims:
    """Return what is public of the claims about an owner's messages in a section, the first of which is 1."""
    each, label = tuple(b for b in moduli for _ in range(SUBSETS)), f"section {section} of {OWNERS[prover]}"
    return Claims(label, prover, dealt.length, each, (QUOTIENT_BITS,) * len(each), dealt.shapes, dealt.octets)


def _matrix(draw: Draw, turned: bool, key: bytes) -> np.ndarray | Pieces:
    """Return a mask of a private matrix, or the transposed one, uint64."""
    found = draw.matrix(key)
    return found.T if turned else found


class OwnerCheck:
    """One owner's part.

    Args:
        engine: this owner's engine, which records what is dealt to it. Its channel keeps the messages from now on.
        key: the key that this owner shares with the dealer.
        replays: the replays of the model owner's and of the data owner's program.
        advance: a function that runs both replays until they have settled the next result.
    """

    def __init__(self, engine: Engine, key: bytes, replays: Sequence[ReplayEngine], advance: Callable[[], None]):
        self.engine, self.channel, self.me, self.key = engine, engine.channel, engine.me, key
        self.replays, self._advance, self._section = replays, advance, 0
        self.channel.transcript = Transcript()

    def check(self) -> None:
        """Check all messages of both owners since the last check.

        Raises:
            IntegrityError: A message of the other owner is not the one that the protocol prescribes.
            AppraisalError: The program has a message that is no linear form.
        """
        done, self.channel.transcript = self.channel.transcript, None
        self._section += 1
        self.replays[self.me].channel.add(done.sent, done.received)
        self.replays[1 - self.me].channel.add(done.received, done.sent)
        self._advance()
        if self.replays[1 - self.me].padded:
            raise IntegrityError(f"{OWNERS[1 - self.me]}: a message is filled up with other bits than 0; {NOTHING}")
        draws, moduli = self.engine.draws, sorted(self.engine.moduli)
        seed = receive_seed(self.channel)
        mine, theirs = (
            _OwnersClaims(
                claims_of(self._section, prover, draws.dealt(prover == self.me), moduli),
                draws.dealt(prover == self.me),
                self.replays[prover],
                seed,
            )
            for prover in (self.me, 1 - self.me)
        )
        in_turn(mine.proving(self.channel, self.key), theirs.verifying(self.channel))
        for replay in self.replays:
            replay.close_section()
        draws.close_section()
        self.engine.moduli.clear()

    def show(self, settled: Settled, ranks: Sequence[int]) -> torch.Tensor | None:
        """Return a settled result at the owners of `ranks`, and None elsewhere, once all messages are checked."""
        self.channel.send(tensor_of(PASSED), 2)
        found = None
        if self.me in ranks:
            self.channel.meter.waited()
            found = settled.mine + settled.theirs + settled.mask + self.channel.receive(settled.mask.shape, 2)
        self.channel.transcript = Transcript()
        return found


class _OwnersClaims:
    """The claims about the messages of one owner in a section, by random subsets.

    Args:
        public: What is public of the claims.
        dealt: What the messages may depend on.
        replay: The replay of that owner's program.
        seed: The seed of the subsets.

    Raises AppraisalError: The replay has other leaves or claims than the program that was run dry.
    """

    def __init__(self, public: Claims, dealt: Dealt, replay: ReplayEngine, seed: bytes):
        claims = replay.claims
        self.public, self.dealt, self.forms = public, dealt, [claim.form for claim in claims]
        bits = [np.full(form.numel(), claim.bits) for form, claim in zip(self.forms, claims, strict=True)]
        self.subsets = SubsetClaims(seed, public.label, np.concatenate(bits))
        largest = {b: sum(c.form.largest * c.form.numel() for c in claims if c.bits == b) for b in public.moduli}
        self.quotients = max(((largest[b] >> b) + 2).bit_length() for b in largest)
        if self.quotients > QUOTIENT_BITS:
            raise AppraisalError(f"integrity: got quotients of {self.quotients} bits in {public.label}")
        self.received = self.subsets.sums(np.concatenate([claim.linear_part.reshape(-1).numpy() for claim in claims]))
        leaves = replay.dealt_leaves(dealt)
        if leaves is None or self.subsets.moduli != public.moduli:
            raise AppraisalError(
                f"integrity: a replay has {len(replay.tape.leaves)} leaves and claims mod 2 to the power of "
                f"{sorted(set(self.subsets.moduli))} in {public.label}; expected what the script says"
            )
        self.parts = DealtParts(self.forms, *leaves)
        self.planes = _ClaimsOfBits(public, dealt, replay, seed)

    def weights(self, gammas: np.ndarray, p: int) -> tuple[np.ndarray, list[Factors]]:
        """Return the weights of the dealt numbers in the sum of all claims times gammas, mod p."""
        ends = np.cumsum([form.numel() for form in self.forms])[:-1]
        found = np.split(self.subsets.cotangents(gammas, p).astype(np.uint64), ends)
        found = [each.reshape(tuple(form.shape)) for each, form in zip(found, self.forms, strict=True)]
        return self.parts.backward(found, p)

    def verifying(self, channel: Channel) -> Iterator[None]:
        """Take the verifier's part of the check."""
        bits = BitClaims(self.planes.weights, self.planes.total)
        return verifying(channel, self.public, self.received, self.weights, bits)

    def proving(self, channel: Channel, key: bytes) -> Iterator[None]:
        """Take the prover's part of the check, with the key that it shares with the dealer."""
        numbers: dict[int, np.ndarray | Pieces] = {}
        for leaf, draw in zip(self.parts.rest, self.dealt.vector, strict=True):
            numbers[leaf] = draw.numbers(key).reshape(self.parts.tape.leaves[leaf].shape)
        for part, (draw, _) in zip(self.parts.parts, self.dealt.matrices, strict=True):
            if part.leaf not in numbers:
                numbers[part.leaf] = draw.matrix(key)
        values, primes = Evaluation(self.parts, numbers), OWN_PRIMES[: _primes_for(self.quotients + 2)]
        sums = [
            self.subsets.whole_sums(np.concatenate([each.reshape(-1) for each in values.forward(p)])) for p in primes
        ]
        h = [
            _quotient(t, b, [of_prime[j] for of_prime in sums], primes)
            for j, (t, b) in enumerate(zip(self.received, self.subsets.moduli, strict=True))
        ]
        stream = Stream(key, f"check {self.public.label}")
        bits = BitClaims(self.planes.weights, dealt=_bits(self.dealt, key))
        return proving(channel, stream, self.public, values.vector, h, self.weights, values.matrices, bits)


class _ClaimsOfBits:
    """The claims about the bits of an owner's messages in a section, by random words.

    Args: see `_OwnersClaims`.

    Raises AppraisalError: The replay has other leaves than the program that was run dry.
    """

    def __init__(self, public: Claims, dealt: Dealt, replay: ReplayEngine, seed: bytes):
        self.tape, self.claims, self.leaves = replay.plane_tape, replay.plane_claims, replay.dealt_planes(dealt)
        if self.leaves is None or (self.claims and not self.leaves):
            raise AppraisalError(f"integrity: a replay has other leaves of bits in {public.label} than the script says")
        ends = [0, *np.cumsum([claim.sent.size for claim in self.claims], dtype=int).tolist()]
        words = words_of(seed, public.label, ends[-1])
        self.words = [
            words[start:end].reshape(*claim.sent.shape, OCTET)
            for start, end, claim in zip(ends[:-1], ends[1:], self.claims, strict=True)
        ]

    @property
    def total(self) -> int:
        """The sum of the words of all bits that were sent, less public ones."""
        found = 0
        for words, claim in zip(self.words, self.claims, strict=True):
            found ^= total_of(words.reshape(-1, OCTET), claim.linear_part.reshape(-1))
        return found

    def weights(self) -> np.ndarray:
        """Return the words of all dealt bits, uint64 (octets, 8)."""
        return self.tape.backward([claim.form.node for claim in self.claims], self.words, self.leaves)


def _bits(dealt: Dealt, key: bytes) -> np.ndarray:
    """Return all dealt bits, uint8 (octets,), with the key that the owner shares with the dealer."""
    return np.concatenate([np.zeros(0, np.uint8), *(draw.octets(key) for draw in dealt.planes)])


class DealerCheck:
    """The dealer's part; `protocols.dealer.Dealer` calls it where the script says so.

    Args:
        channel: the dealer's channel.
        keys: the keys that the dealer shares with the model owner and with the data owner.
    """

    def __init__(self, channel: Channel, keys: Sequence[bytes]):
        self.channel, self.keys, self._section = channel, keys, 0

    def check(self, draws: Sequence[Draws], moduli: Sequence[int]) -> None:
        """Answer the check of a section. `draws` holds what was dealt to each owner.

        Raises IntegrityError: an owner's message is not of the form that is expected.
        """
        self._section += 1
        deal_seed(self.channel)
        in_turn(*(self._answering(prover, draws[prover].dealt(), moduli) for prover in range(len(OWNERS))))

    def _answering(self, prover: int, dealt: Dealt, moduli: Sequence[int]) -> Iterator[None]:
        """Return the dealer's part of the check of one owner."""
        key, public = self.keys[prover], claims_of(self._section, prover, dealt, moduli)
        rho = [draw.numbers(key) for draw in dealt.vector]
        matrices = [_matrix(draw, turned, key) for draw, turned in dealt.matrices]
        vector = np.concatenate(rho) if rho else np.zeros(0, np.uint64)
        stream = Stream(key, f"check {public.label}")
        return answering(self.channel, stream, public, vector, matrices, _bits(dealt, key))

    def show(self, masks: Sequence[torch.Tensor], ranks: Sequence[int]) -> None:
        """Tell each owner of `ranks` the other owner's mask.

        Raises IntegrityError: an owner does not say that the check has passed.
        """
        for rank, owner in enumerate(OWNERS):
            said = bytes_of(self.channel.receive((len(PASSED),), rank, torch.uint8))
            if said != PASSED:
                raise IntegrityError(f"{owner}: got {said!r} for 'the check has passed'; {NOTHING}")
        for rank in ranks:
            self.channel.send(masks[1 - rank], rank)


def count_check(engine: Engine, section: int) -> None:
    """Send and receive what an owner does in the check of a section, on shapes alone, for a dry run.

    Raises InputError: the messages depend on more numbers than a party can hold.
    """
    channel, draws = engine.channel, engine.draws
    channel.send(shape_tensor((1,), torch.uint8), 2)
    channel.meter.waited()
    channel.receive((SEED_BYTES,), 2, torch.uint8)
    mine, theirs = (
        claims_of(section, rank, draws.dealt(rank == engine.me), sorted(engine.moduli))
        for rank in (engine.me, 1 - engine.me)
    )
    for what, most, found in (
        ("numbers", MOST_NUMBERS, max(mine.length, theirs.length)),
        ("bits", MOST_BITS, OCTET * max(mine.octets, theirs.octets)),
    ):
        if found > most:
            raise InputError(
                "session.integrity",
                f"on with {found:,} {what} of the dealer before an opening",
                f"at most {most:,}, for which a party takes about 4 GB: fewer rows, steps or layers, or off",
            )
    count(channel, mine, theirs, engine.me)
    draws.close_section()
    engine.moduli.clear()


def count_show(engine: Engine, settled: Settled, ranks: Sequence[int]) -> None:
    """Send and receive what `OwnerCheck.show` does, on shapes alone."""
    engine.channel.send(shape_tensor((1,), torch.uint8), 2)
    if engine.me in ranks:
        engine.channel.meter.waited()
        engine.channel.receive(settled.mask.shape, 2)


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
