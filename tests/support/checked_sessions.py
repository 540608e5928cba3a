"""Whole appraisals whose messages are checked, between three threads, with owners that alter what they send.

The sessions, the check and the dealer are those of a real run (`FastSession`, `deal`); only the sockets are replaced by
pipes of bytes in memory. As on a socket, a message that is dropped or sent twice moves all that follow.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from processes import problem

from mpc_appraisal import Dataset
from mpc_appraisal.appraisal.api import _plan
from mpc_appraisal.appraisal.norms import published_norms, with_spread
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.preparation import announce, fitted_to_norms, prepare, transformed
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, rank_of
from mpc_appraisal.data.targets import NUMBER
from mpc_appraisal.methods import Facts, Finetuning, as_methods
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import MODELS
from mpc_appraisal.mpc.backends import fast
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.release import Best, Bit, NoisedRelease, Release, Value

PATIENCE = 60.0  # seconds after which a thread that still waits fails the test


@dataclass(frozen=True)
class Appraisal:
    """One appraisal of small random data sets with the check of messages, unless `checked` is false.

    Attributes:
        method: The method's name or names.
        release: The release.
        rows: The rows of each candidate.
        threshold: The model owner's threshold, where the release takes one.
        seed: What the rows are drawn from.
        scale: What the rows are multiplied by.
        checked: Whether messages are checked.
        bound: The plan's bound on logits, where 'auto' takes a softmax without one for these rows.
        model: The model's kind.
        features, classes: The sizes of all rows.
        inputs: For each owner and each section (what runs between two openings), the numbers of the messages that
            bring in its private matrices. Such a message is the owner's own input, whatever it is.
    """

    method: Any = "influence"
    release: Release = field(default_factory=Value)
    rows: tuple[int, ...] = (9,)
    threshold: float | None = None
    seed: int = 0
    scale: float = 1.0
    checked: bool = True
    bound: str | None = None
    model: str = SoftmaxRegression.name
    features: int = 4
    classes: int = 3
    inputs: tuple[tuple[tuple[int, ...], ...], ...] = ((), ())

    @cached_property
    def plan(self) -> Plan:
        made = _plan(as_methods(self.method), 1e-2, 0, self.release, MODELS[self.model])
        return replace(made, integrity=self.checked, logit_bound=self.bound)

    @cached_property
    def sides(self) -> tuple[ModelOwnerInput, DataOwnerInput]:
        sets = [self._rows(n, k) for k, n in enumerate((30, 20, *self.rows))]
        own = ModelOwnerInput(*sets[:2], threshold=self.threshold)
        seller = DataOwnerInput(tuple(each.renamed(f"set {k}") for k, each in enumerate(sets[2:])))
        return own, transformed(seller, self.plan, {c.name: self.classes for c in seller.candidates})

    def _rows(self, n: int, k: int) -> Dataset:
        x, y = problem(n, self.features, max(2, self.classes), seed=100 * self.seed + k)
        if self.classes == 1:
            return Dataset.of(x * self.scale, x[:, 0] + y, 1, "set", target=NUMBER)
        return Dataset.of(x * self.scale, y, self.classes, "set")

    @cached_property
    def known(self) -> tuple[dict[str, Facts], float, dict[str, Any]]:
        """The public facts, the bound on logits, and what the model owner shares."""
        own, seller = self.sides
        prepared = prepare(own, self.plan, self.classes)
        shared, announced = announce(self.plan.release, prepared.inputs)
        published = {
            MODEL_OWNER: announced
            | published_norms(MODEL_OWNER, own, prepared.model.theta, prepared.inputs, self.plan),
            DATA_OWNER: published_norms(DATA_OWNER, seller, None, {}, self.plan),
        }
        facts = {c.name: Facts.of(prepared.model, prepared.train, prepared.test, c) for c in seller.candidates}
        bound, facts = fitted_to_norms(self.plan, facts, published)
        return with_spread(facts, published), bound, shared

    def compute(self, session: Any) -> list[Any]:
        """Run this party's side, and return what it was shown of each candidate."""
        facts, bound, shared = self.known
        own = session.role if not session.dry else None
        candidates = {c.name: c for c in self.sides[1].candidates} if own == DATA_OWNER else {}
        inputs = shared if own == MODEL_OWNER else {}
        found = program(session, self.plan, candidates, inputs, facts, bound, lambda event: None)
        return [each.outcome for each in found]

    def replayed(self, session: Any) -> None:
        facts, bound, _ = self.known
        program(session, self.plan, {}, {}, facts, bound, lambda event: None)


def _fast(*arguments: Any, owner: Any = (), seller: Any = (), **options: Any) -> Appraisal:
    """One line of the table below. owner, seller: `Appraisal.inputs` of the model owner and of the data owner."""
    return Appraisal(*arguments, inputs=(owner, seller), **options)


# Every covered program; the harnesses run all of them. For each, what is an owner's own input or noise.
BEFORE = (0, 1, 2, 3, 4, 14, 18, 19, 21, 32, 33)  # a model owner's own matrices of fine-tuning
COVERED: dict[str, Appraisal] = {
    "influence": _fast(owner=((0,),), seller=((0, 1),)),
    "influence, two candidates": _fast(rows=(5, 7), owner=((0,), ()), seller=((0, 1), (0, 1))),
    "influence, no bound on logits": _fast(bound="auto", scale=3.0, owner=((0, 12),), seller=((0, 10),)),
    "influence, to one owner": _fast(release=Value(to=MODEL_OWNER), owner=((0,),), seller=((0, 1),)),
    "linear regression": _fast(model="linear_regression", classes=1, owner=((0, 4),), seller=((0, 1),)),
    "logistic regression": _fast(model="logistic_regression", classes=2, owner=((0, 11),), seller=((0, 9),)),
    "gradient norm": _fast("gradient_norm", owner=((0,),), seller=((0, 9),)),
    "two methods": _fast(["influence", "gradient_norm"], owner=((0,), (0,)), seller=((0, 1), (8,))),
    "influence on the error": _fast("influence_error", owner=((0, 9),), seller=((0, 9),)),
    "fine-tuning": _fast((Finetuning(steps=1),), owner=(BEFORE, ()), seller=((0, 1), ())),
    "relevance": _fast("relevance", owner=((0, 5),), seller=((0,),)),
    "diversity": _fast("diversity", owner=((0,),), seller=((0, 3),)),
    "a bit": _fast(release=Bit(), threshold=0.0, owner=((0, 8),), seller=((0, 1),)),
    "the best": _fast(release=Best(1), rows=(5, 7), owner=((0,), ()), seller=((0, 1, 10, 11), ())),
    "under noise": _fast(
        release=NoisedRelease(epsilon=1.0, row_norm=4.0), owner=((0, 4), (12,)), seller=((0,), (9, 13))
    ),
}


@dataclass(frozen=True)
class Message:
    """One message of an owner after the script was agreed on: its receiver, and its bytes as they were sent."""

    to: int
    data: bytes


# alter(number of the message, its receiver, its bytes) -> the bytes that are sent in its place; none drop it
Alter = Callable[[int, int, bytes], bytes]


@dataclass
class Played:
    """What a test looks at, by rank: what each party was shown or raised, what it sent, and what it received.

    `sent` has an owner's messages from its script on, as they would have been sent.
    """

    found: list[Any] = field(default_factory=lambda: [None, None, None])
    sent: list[list[Message]] = field(default_factory=lambda: [[], [], []])
    seen: list[list[bytes]] = field(default_factory=lambda: [[], [], []])
    costs: list[Any] = field(default_factory=lambda: [None, None])

    @property
    def errors(self) -> list[BaseException]:
        return [each for each in self.found if isinstance(each, BaseException)]

    def opened(self, rank: int) -> list[Any] | None:
        """What an owner was shown: of each pair a number, a decision and a place; or None where it has failed."""
        found = self.found[rank]
        return None if isinstance(found, BaseException) else [(o.opened, o.decision, o.winner) for o in found]


class Pipe:
    """Bytes from one party to another."""

    def __init__(self, sender: str):
        self.sender, self.buffer, self.error, self.changed = sender, bytearray(), None, threading.Condition()

    def put(self, data: bytes) -> None:
        with self.changed:
            self.buffer += data
            self.changed.notify()

    def end(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
            self.changed.notify()

    def take(self, count: int, seconds: float) -> bytes:
        with self.changed:
            there = self.changed.wait_for(lambda: len(self.buffer) >= count or self.error, seconds)
            if len(self.buffer) < count:
                raise self.error or PeerError(f"{self.sender} stopped answering" + ("" if there else " in time"))
            data = bytes(self.buffer[:count])
            del self.buffer[:count]
            return data


class PipeChannel(Channel):
    """A party's channel over pipes. patience: the seconds that one message may take."""

    def __init__(self, me: int, pipes: dict, meter: Meter, played: Played, alter: Alter | None, patience: float):
        super().__init__(meter)
        self.me, self.pipes, self.played, self.patience = me, pipes, played, patience
        self._alter, self.number, self.counting = alter, 0, False

    def _send(self, tensor, to):
        data = tensor.numpy().tobytes()
        if self.counting:
            self.played.sent[self.me].append(Message(to, data))
            changed = self._alter(self.number, to, data) if self._alter else data
            if self.transcript is not None and to != 2 and len(changed) == len(data) and changed != data:
                # The owner goes on with what it has sent, as a careful cheat does.
                self.transcript.sent[-1].reshape(-1).view(torch.uint8).copy_(_octets(changed))
            self.number, data = self.number + 1, changed
        self.pipes[self.me, to].put(data)

    def _receive(self, shape, source, dtype):
        out = torch.empty(shape, dtype=dtype)
        data = self.pipes[source, self.me].take(out.numel() * out.element_size(), self.patience)
        self.played.seen[self.me].append(data)
        out.reshape(-1).view(torch.uint8).copy_(_octets(data))
        return out

    def close(self):
        pass


def _octets(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def play(appraisal: Appraisal, cheats: dict[int, Alter] | None = None, patience: float = PATIENCE) -> Played:
    """Run an appraisal between three threads; `cheats` alters the messages of owners, by rank."""
    played, pipes = Played(), {(i, j): Pipe(ROLES[i]) for i in range(3) for j in range(3)}
    script, channels = fast.dry_run(appraisal.replayed, appraisal.checked)[0], {}
    appraisal.known  # noqa: B018  made once, before threads begin

    def opened(rendezvous, meter, *others):
        rank = rank_of(rendezvous.role)
        channels[rank] = PipeChannel(rank, pipes, meter, played, (cheats or {}).get(rank), patience)
        return channels[rank]

    def owner(role: str) -> list[Any]:
        session = fast.FastSession(SimpleNamespace(role=role), PATIENCE, integrity=appraisal.checked)
        try:
            session.prepare(appraisal.replayed, script)
            channels[rank_of(role)].counting = True
            before = session.meter.cost()
            found = appraisal.compute(session)
            played.costs[rank_of(role)] = session.meter.cost() - before
        finally:
            session.close()
        return found

    def part(role: str) -> None:
        rank = rank_of(role)
        try:
            if role == DEALER:
                fast.deal(SimpleNamespace(role=role), PATIENCE, script=script, integrity=appraisal.checked)
            else:
                played.found[rank] = owner(role)
        except BaseException as error:  # noqa: BLE001  the test looks at it
            played.found[rank] = error
            for (sender, _), pipe in pipes.items():
                if sender == rank:
                    pipe.end(PeerError(f"{role} stopped: {type(error).__name__}"))

    with mock.patch.object(fast, "open_channel", opened):
        threads = [threading.Thread(target=part, args=(role,), daemon=True) for role in ROLES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10 * max(PATIENCE, patience))
            assert not thread.is_alive(), "a party hangs"
    return played


def at(number: int, change: Callable[[bytes], bytes]) -> Alter:
    """A cheat that changes one message alone."""
    return lambda n, to, data: change(data) if n == number else data


def added(error: int, place: int, size: int = 8) -> Callable[[bytes], bytes]:
    """Add `error` to the number of `size` bytes at a place, in its own width."""

    def change(data: bytes) -> bytes:
        width = min(size, len(data))
        start = width * (place % (len(data) // width))
        number = (int.from_bytes(data[start : start + width], "little") + error) % (1 << 8 * width)
        return data[:start] + number.to_bytes(width, "little") + data[start + width :]

    return change


def varied(count: int) -> Iterator[Appraisal]:
    """Yield the covered appraisals in turn, with other rows, numbers of rows and sizes of features."""
    chance, names = random.Random(2), list(COVERED)
    for k in range(count):
        appraisal = COVERED[names[k % len(names)]]
        rows = tuple(chance.randrange(3, 14) for _ in appraisal.rows)
        yield replace(appraisal, rows=rows, seed=k + 1, scale=chance.choice([0.1, 1.0, 3.0]))
