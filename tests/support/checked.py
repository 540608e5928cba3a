"""Programs whose messages are checked, run by three threads with queues between them, with owners that cheat."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from three import QueueChannel, in_threads, new_key

from mpc_appraisal.mpc.integrity.message_check import DealerCheck, OwnerCheck, count_check, count_show
from mpc_appraisal.mpc.integrity.replay import ReplayEngine
from mpc_appraisal.mpc.integrity.steps import Steps
from mpc_appraisal.mpc.net.channel import DryChannel, Transcript
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.ring.prg import DryStream, Stream

PATIENCE = 60.0

# A program takes an engine and a function that opens a share to the owners of some ranks (both, if none are stated).
Open = Callable[..., torch.Tensor]
Program = Callable[[Engine, Open], None]
Alter = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass
class Sent:
    """What a test looks at.

    Attributes:
        results: What each owner was shown, in order.
        errors: What the parties raised.
        messages: The numbers of elements of each owner's messages to the other owner, in order.
        counted, spent: The bytes and rounds of each owner, as a dry run counts them, and as they were.
        seen: What each party received.
    """

    results: list[list] = field(default_factory=lambda: [[], []])
    errors: list[BaseException] = field(default_factory=list)
    messages: dict[int, list[int]] = field(default_factory=lambda: {0: [], 1: []})
    counted: list[tuple[int, int]] = field(default_factory=list)
    spent: list = field(default_factory=lambda: [None, None])
    seen: list[list[torch.Tensor]] = field(default_factory=lambda: [[], [], []])


class Altering(QueueChannel):
    """An owner's channel, which alters messages to the other owner: alter(number, tensor) -> tensor.

    The owner goes on with what it has sent, as a careful cheat does. Messages of checks are not altered.
    """

    def __init__(self, me: int, queues: dict, alter: Alter | None, sent: Sent):
        super().__init__(me, queues, sent.seen[me], PATIENCE)
        self._alter, self._sent, self._number = alter, sent, 0

    def send(self, tensor, to):
        if to != 2 and self.transcript is not None:
            tensor = self._alter(self._number, tensor) if self._alter else tensor
            self._number += 1
            self._sent.messages[self.me].append(tensor.numel())
        super().send(tensor, to)


def run(program: Program, cheats: dict[int, Alter] | None = None) -> Sent:
    """Run a program at three parties, and check all messages before each opening."""
    keys, pair, sent = [new_key(), new_key()], new_key(), Sent()
    script = parse(json.dumps(_dry(program, sent)))
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}

    def owner(me: int) -> None:
        channel = Altering(me, queues, (cheats or {}).get(me), sent)
        engine = Engine(me, channel, Engine.streams_of(keys[me]), Stream(pair, "pair"))
        engine.record()
        replays = [ReplayEngine(rank, Transcript(), Stream(pair, "pair")) for rank in (0, 1)]
        steps = [_in_steps(program, replay) for replay in replays]
        check = OwnerCheck(engine, keys[me], replays, lambda: [each.advance() for each in steps])

        def opened(share, ranks=(0, 1)):
            settled = engine.settle(share)
            check.check()
            found = check.show(settled, ranks)
            sent.results[me].append(found)
            return found

        try:
            program(engine, opened)
        finally:
            for each in steps:
                each.close()
        sent.spent[me] = (channel.meter.bytes_sent, channel.meter.rounds)

    def dealer() -> None:
        channel = QueueChannel(2, queues, sent.seen[2], PATIENCE)
        dealer = Dealer(keys, lambda correction: channel.send(correction, 0), checked=DealerCheck(channel, keys))
        dealer.run(script, lambda: None)

    in_threads(owner, dealer, queues, sent.errors, 2 * PATIENCE)
    return sent


def _dry(program: Program, sent: Sent) -> list:
    """Return the script of a dry run, and enter its costs."""
    scripts = []
    for me in (0, 1):
        dry = Engine(me, DryChannel(Meter()), Engine.streams_of(None), DryStream(), dry=True)
        dry.record()
        section = 0

        def opened(share, ranks=(0, 1), dry=dry):
            nonlocal section
            section += 1
            settled = dry.settle(share)
            dry.ask_dealer("check", sorted(dry.moduli))
            count_check(dry, section)
            dry.ask_dealer("show", settled.key, list(ranks))
            count_show(dry, settled, ranks)
            return torch.ones(share.shape, dtype=torch.int64)

        program(dry, opened)
        sent.counted.append((dry.channel.meter.bytes_sent, dry.channel.meter.rounds))
        scripts.append(dry.script)
    assert scripts[0] == scripts[1]
    return scripts[0]


def _in_steps(program: Program, replay: ReplayEngine) -> Steps:
    def steps(pause):
        def opened(share, ranks=(0, 1)):
            replay.settle(share)
            pause()
            return torch.ones(share.shape, dtype=torch.int64)

        program(replay, opened)

    return Steps(steps)
