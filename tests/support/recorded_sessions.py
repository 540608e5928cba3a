"""What an honest run of a checked appraisal leaves, so that its replays can be made again with altered messages.

An owner's messages are kept by sections, with the numbers that the dealer has dealt to it, so that each claim of a
replay can be compared with the exact integer that it is about.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from checked_sessions import PATIENCE, Appraisal, play

from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.mpc.backends import fast
from mpc_appraisal.mpc.backends.replayed import ReplaySession
from mpc_appraisal.mpc.integrity.linear_form import forward
from mpc_appraisal.mpc.integrity.message_check import OwnerCheck
from mpc_appraisal.mpc.integrity.replay import Claim, PlaneClaim, ReplayEngine
from mpc_appraisal.mpc.integrity.steps import Steps
from mpc_appraisal.mpc.protocols.draws import Dealt
from mpc_appraisal.mpc.ring.prg import Stream

# Primes whose product is beyond twice any linear part, so that their residues give it as an integer.
PRIMES = tuple(2**31 - k for k in (1, 19, 61, 69, 85, 99, 105, 151, 159, 171))
PRODUCT = math.prod(PRIMES)
PARTS = tuple(PRODUCT // p * pow(PRODUCT // p, -1, p) for p in PRIMES)


@dataclass
class Section:
    """One owner's messages of a section, what it was dealt, its numbers and bits, and the moduli of the claims."""

    sent: list[torch.Tensor]
    received: list[torch.Tensor]
    dealt: Dealt
    vector: list[np.ndarray]
    matrices: list[np.ndarray]
    planes: list[np.ndarray]
    moduli: list[int]


@dataclass
class Recording:
    """An honest run: each owner's sections, the key of the stream that both owners share, and what was opened."""

    appraisal: Appraisal
    sections: list[list[Section]]
    pair: bytes
    opened: list[torch.Tensor | None]  # what was opened after each section, where the model owner was shown it

    def replayed(self, prover: int, section: int, sent: list[torch.Tensor]) -> ReplayEngine:
        """Replay an owner's program up to a section (0 is the first), in which it has sent `sent` in place of its own
        messages, and the other owner what it sent in the honest run."""
        session = ReplaySession(prover, Stream(self.pair, "pair"))
        session.replay.open_octets = _noting(session.replay)

        def run(pause):
            session.pause = pause
            self.appraisal.replayed(session)

        steps = Steps(run)
        try:
            for k, own in enumerate(self.sections[prover][: section + 1]):
                if k:
                    session.replay.close_section()
                    session.opened = self.opened[k - 1]
                session.replay.channel.add(own.sent if k < section else sent, own.received)
                steps.advance()
        finally:
            steps.close()
        return session.replay

    def off(self, prover: int, section: int, replay: ReplayEngine) -> list[np.ndarray]:
        """What each claim is off by mod 2^bits, as Python's integers in an array of the claim's numbers or bits."""
        own = self.sections[prover][section]
        rest, matrices = replay.dealt_leaves(own.dealt)
        by_leaf = dict(zip(rest, own.vector, strict=True))
        by_leaf |= {leaf: each for (leaf, _), each in zip(matrices, own.matrices, strict=True)}
        leaves = replay.tape.leaves
        numbers = [torch.from_numpy(by_leaf[k].reshape(leaves[k].shape).view(np.int64)) for k in range(len(leaves))]
        found = forward([claim.form for claim in replay.claims], numbers, PRIMES)
        assert max(claim.form.largest for claim in replay.claims) < PRODUCT // 2
        nodes = replay.dealt_planes(own.dealt)
        tape, shapes = replay.plane_tape, [replay.plane_tape.nodes[node].shape for node in nodes]
        octets = {node: bits.reshape(shape) for node, bits, shape in zip(nodes, own.planes, shapes, strict=True)}
        bits = iter(tape.forward([claim.form.node for claim in replay.plane_claims], octets))
        wrong, number = [], iter(range(len(replay.claims)))
        for claim in in_order(replay):
            if isinstance(claim, PlaneClaim):
                wrong.append(_single_bits(next(bits) ^ claim.linear_part))
                continue
            c = next(number)
            residues = [of_prime[c].reshape(-1).astype(object) for of_prime in found]
            total = sum(part * each for part, each in zip(PARTS, residues, strict=True)) % PRODUCT
            total = np.where(total > PRODUCT // 2, total - PRODUCT, total)
            wrong.append((claim.linear_part.reshape(-1).numpy().astype(object) - total) % (1 << claim.bits))
        return wrong


def _noting(replay: ReplayEngine) -> Callable:
    """An engine's `open_octets` that notes how many claims about numbers there were before each claim about bits."""
    real = replay.open_octets

    def noting(mine):
        found = real(mine)
        object.__setattr__(replay.plane_claims[-1], "place", len(replay.claims))
        return found

    return noting


def in_order(replay: ReplayEngine) -> list[Claim | PlaneClaim]:
    """All claims in the order of their messages."""
    placed = [(k + 1, claim) for k, claim in enumerate(replay.claims)]
    placed += [(claim.place + 0.5, claim) for claim in replay.plane_claims]
    return [claim for _, claim in sorted(placed, key=lambda pair: pair[0])]


def _single_bits(octets: np.ndarray) -> np.ndarray:
    return np.unpackbits(octets.reshape(-1), bitorder="little").astype(object)


def record(appraisal: Appraisal, patience: float = PATIENCE) -> Recording:
    """Run an appraisal between honest owners, and keep what its checks were made of."""
    sections, pairs, opened = [[], []], [], []

    class Kept(OwnerCheck):
        def check(self):
            done, dealt = self.channel.transcript, self.engine.draws.dealt()
            kept = [[t.clone() for t in each] for each in (done.sent, done.received)]
            vector = [draw.numbers(self.key).copy() for draw in dealt.vector]
            matrices = [draw.numbers(self.key).copy() for draw, _ in dealt.matrices]
            planes = [draw.octets(self.key).copy() for draw in dealt.planes]
            sections[self.me].append(Section(*kept, dealt, vector, matrices, planes, sorted(self.engine.moduli)))
            super().check()

    class Keys(fast.FastSession):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            pairs.append(self._keys[1])

        def _open(self, secret, to):
            found = super()._open(secret, to)
            if self.role == MODEL_OWNER:
                opened.append(found)
            return found

    with mock.patch.object(fast, "OwnerCheck", Kept), mock.patch.object(fast, "FastSession", Keys):
        played = play(appraisal, patience=patience)
    assert not played.errors, played.errors
    return Recording(appraisal, sections, pairs[0], opened)


# -- alterations of recorded messages ----------------------------------------------------------------------------------
def one_more(octets: np.ndarray, error: int) -> np.ndarray:
    """Add the error to every number (a row of octets), in its own width."""
    size = octets.shape[1]
    found = [(int.from_bytes(row.tobytes(), "little") + error) % (1 << 8 * size) for row in octets]
    return np.frombuffer(b"".join(each.to_bytes(size, "little") for each in found), np.uint8).reshape(-1, size)


def _noise(octets: np.ndarray) -> np.ndarray:
    drawn = np.random.default_rng(5).integers(0, 256, octets.shape, dtype=np.uint8)
    return np.where(drawn == octets, drawn ^ 1, drawn)


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "+1": lambda octets: one_more(octets, 1),
    "-1": lambda octets: one_more(octets, -1),
    "a bit": lambda octets: octets ^ 8,
    "2^40": lambda octets: one_more(octets, 1 << 40 if octets.shape[1] == 8 else 1 << 4),
    "2^63": lambda octets: octets ^ np.array([0] * (octets.shape[1] - 1) + [128], np.uint8),
    "noise": _noise,
    "a swap": lambda octets: np.roll(octets, 1, axis=0),
}


def checked_messages(recorded: Recording) -> list[tuple[int, int, int]]:
    """Return (owner, section, number) of every message that is no input."""
    return [
        (me, section, number)
        for me in (0, 1)
        for section, own in enumerate(recorded.sections[me])
        for number in range(len(own.sent))
        if number not in recorded.appraisal.inputs[me][section]
    ]


def sent_numbers(replay: ReplayEngine) -> list[np.ndarray]:
    """The numbers of all claims mod 2^bits, as Python's integers, and single bits."""
    return [
        _single_bits(claim.sent)
        if isinstance(claim, PlaneClaim)
        else claim.sent.reshape(-1).numpy().astype(object) % (1 << claim.bits)
        for claim in in_order(replay)
    ]


def check_false_by_the_error(
    recorded: Recording, me: int, section: int, number: int, kind: str, places: Any = slice(None)
) -> int:
    """Assert that the claims of a message are off by what was added to it, and those of earlier messages by nothing.

    All numbers of the message at these places are altered at once. Returns how many numbers of claims that were.
    """
    own = recorded.sections[me][section].sent
    sent = [message.clone() for message in own]
    octets = sent[number].reshape(-1).view(torch.uint8).numpy().reshape(-1, own[number].element_size())
    octets[places] = KINDS[kind](octets[places].copy())
    before, replay = sent_numbers(recorded.replayed(me, section, own)), recorded.replayed(me, section, sent)
    found, padded = 0, False
    off = recorded.off(me, section, replay)
    for claim, a, b, wrong in zip(in_order(replay), sent_numbers(replay), before, off, strict=True):
        width = 1 if isinstance(claim, PlaneClaim) else claim.bits
        error = (a - b) % (1 << width)
        padded |= width % 8 != 0
        if error.any():
            found += np.count_nonzero(error)
            assert np.array_equal(wrong, error), (me, section, number, kind)
        elif not found:
            assert not wrong.any(), (me, section, number, kind)
    # A packed number has up to eight octets. What pads one, and numbers that are equal, may change nothing.
    count, blunt = len(octets[places]), kind in ("2^63", "2^40", "a swap")
    assert found >= count / 8 or (blunt and (padded or count == 1)), (me, section, number, kind, found)
    return found
