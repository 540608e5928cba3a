"""Each owner is shown that all messages of the other owner are those that the protocol prescribes.

    for each owner P:   sum over k of U_jk m_k = <w_j, rho> mod 2^(b_j),   j = 1, ..., 48 for each modulus

m_k are the elements of P's messages less their public parts, w_j follow from the messages of both owners, and rho is
what the dealer has dealt to P. Both owners make the claims by a replay of P's program (`replay`), the dealer draws the
subsets U once both have all messages (`subset_claims`), and `inner_product_check` shows that the claims hold. A check
is about one section, that is, all messages since the check before. In go each owner's record of what was dealt to it
(`protocols.draws`), its messages and both replays, or the dealer's records; out comes nothing, or an IntegrityError
that names a party. A result is opened so:

| | from -> to | message | bytes |
|---|---|---|---|
| settle | owners -> owners | share - r, where r is a mask of this owner that the dealer knows | 8 an element |
| check | owners -> dealer | all is received | 1 |
| | dealer -> owners | the seed of the subsets | 32 |
| | all, for each P | the messages of `inner_product_check`; the settling messages are checked too | see there |
| show | owners -> dealer | the check has passed | 1 |
| | dealer -> owners | the other owner's r | 8 an element |

The message that settles is a commitment to the share, since the dealer knows r and the check covers the message. After
the check the owners send nothing that could be altered. An owner to which the result is not opened is told no r. What a
dealer could do: it could tell a wrong r, as it could deal wrongly. What is not shown: that a private matrix is the one
that its owner should have brought in.

rho has the owner's masks of private matrices in order, its draws for gates and its shares of the dealer's results, as
`Draws.all` lists them. The dealer knows it from the script, and all three know its length before anything is shared.

Soundness: see `subset_claims` and `inner_product_check`. Whether the check fails does not depend on any secret, since
each altered message is found whatever the values are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError, IntegrityError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.integrity.inner_product_check import Claims, answer, count, prove, verify
from mpc_appraisal.mpc.integrity.linear_form import backward, forward
from mpc_appraisal.mpc.integrity.replay import ReplayEngine
from mpc_appraisal.mpc.integrity.subset_claims import SEED_BYTES, SUBSETS, SubsetClaims, deal_seed, receive_seed
from mpc_appraisal.mpc.net.channel import Channel, Transcript
from mpc_appraisal.mpc.protocols.draws import Draw, Draws
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked_matrices import Settled
from mpc_appraisal.mpc.protocols.orders import bytes_of, tensor_of
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

QUOTIENT_BITS = 160  # |h_j| is below 2^QUOTIENT_BITS for every claim
PASSED = b"p"
NOTHING = "nothing is opened"
# Primes for the prover's own sums, which it tells nobody.
OWN_PRIMES = tuple(2**31 - k for k in (1, 19, 61, 69, 85, 99, 105, 151, 159, 171))


def claims_of(section: int, prover: int, draws: Sequence[Draw], moduli: Sequence[int]) -> Claims:
    """Return what is public of the claims about an owner's messages in a section, the first of which is 1."""
    each = tuple(b for b in moduli for _ in range(SUBSETS))
    length = sum(draw.count for draw in draws)
    return Claims(f"section {section} of {OWNERS[prover]}", prover, length, each, (QUOTIENT_BITS,) * len(each))


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
        draws = self.engine.draws
        structure = {self.me: draws.all(), 1 - self.me: draws.all_of_other()}
        seed = receive_seed(self.channel)
        for prover, replay in enumerate(self.replays):
            self._check_owner(prover, replay, structure[prover], seed)
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

    def _check_owner(self, prover: int, replay: ReplayEngine, draws: Sequence[Draw], seed: bytes) -> None:
        found = replay.claims
        forms = [claim.form for claim in found]
        public = claims_of(self._section, prover, draws, sorted(self.engine.moduli))
        bits = np.concatenate([np.full(form.numel(), claim.bits) for form, claim in zip(forms, found, strict=True)])
        subsets = SubsetClaims(seed, public.label, bits)
        leaves = replay.dealt_leaves()
        self._compare(public, subsets, draws, [replay.tape.leaves[k].shape for k in leaves])
        received = subsets.sums(np.concatenate([claim.linear_part.reshape(-1).numpy() for claim in found]))

        def weights(gammas: np.ndarray, p: int) -> np.ndarray:
            ends = np.cumsum([form.numel() for form in forms])[:-1]
            parts = np.split(subsets.cotangents(gammas, p).astype(np.uint64), ends)
            parts = [part.reshape(tuple(form.shape)) for part, form in zip(parts, forms, strict=True)]
            of_leaves = backward(forms, parts, p)
            return np.concatenate([of_leaves[k].reshape(-1) for k in leaves])

        if self.me != prover:
            verify(self.channel, public, received, weights)
            return
        numbers = [draw.numbers(self.key) for draw in draws]
        by_leaf = {k: each.reshape(replay.tape.leaves[k].shape) for k, each in zip(leaves, numbers, strict=True)}
        dealt = [torch.from_numpy(by_leaf[k].view(np.int64)) for k in range(len(replay.tape.leaves))]
        largest = {b: sum(c.form.largest * c.form.numel() for c in found if c.bits == b) for b in set(subsets.moduli)}
        quotients = {b: ((largest[b] >> b) + 2).bit_length() for b in largest}
        if max(quotients.values()) > QUOTIENT_BITS:
            raise AppraisalError(f"integrity: got quotients of {max(quotients.values())} bits in {public.label}")
        primes = OWN_PRIMES[: _primes_for(max(quotients.values()) + 2)]
        sums = [
            subsets.whole_sums(np.concatenate([each.reshape(-1) for each in of_prime]).astype(np.uint64))
            for of_prime in forward(forms, dealt, primes)
        ]
        h = [
            _quotient(t, b, [of_prime[j] for of_prime in sums], primes)
            for j, (t, b) in enumerate(zip(received, subsets.moduli, strict=True))
        ]
        prove(self.channel, Stream(self.key, f"check {public.label}"), public, np.concatenate(numbers), h, weights)

    @staticmethod
    def _compare(public: Claims, subsets: SubsetClaims, draws: Sequence[Draw], shapes: Sequence[Sequence[int]]) -> None:
        """Raise AppraisalError where the replay has other leaves or claims than the program that was run dry."""
        counts = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
        if counts != [draw.count for draw in draws] or subsets.moduli != public.moduli:
            raise AppraisalError(
                f"integrity: a replay has {len(counts)} leaves and moduli {sorted(set(subsets.moduli))} in "
                f"{public.label}; expected {len(draws)} and {sorted(set(public.moduli))}, as the owner was dealt"
            )


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
        for prover, key in enumerate(self.keys):
            dealt = draws[prover].all()
            public = claims_of(self._section, prover, dealt, moduli)
            rho = np.concatenate([draw.numbers(key) for draw in dealt])
            answer(self.channel, Stream(key, f"check {public.label}"), public, rho)

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
    """Send and receive what an owner sends and receives in the check of a section, on shapes alone, for a dry run."""
    channel, draws = engine.channel, engine.draws
    channel.send(shape_tensor((1,), torch.uint8), 2)
    channel.meter.waited()
    channel.receive((SEED_BYTES,), 2, torch.uint8)
    structure = {engine.me: draws.all(), 1 - engine.me: draws.all_of_other()}
    for prover in range(len(OWNERS)):
        count(channel, engine.me, claims_of(section, prover, structure[prover], sorted(engine.moduli)))
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
