"""The parties of a session with an asked dealer, as threads with queues between them, for tests of what is asked."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from three import QueueChannel, in_threads, new_key

from mpc_appraisal.mpc.protocols.asked_dealer import answer_requests
from mpc_appraisal.mpc.protocols.asked_engine import AskedEngine
from mpc_appraisal.mpc.protocols.dealer import Dealer
from mpc_appraisal.mpc.protocols.script_limits import Limits
from mpc_appraisal.mpc.ring.prg import Stream


class Asked:
    """A run: both owners' results and engines, the dealer, every message by its source and target, and errors."""

    def __init__(self, programs: list[Callable[[AskedEngine], Any]], limits: Limits | None = None):
        keys, pair = [new_key(), new_key()], new_key()
        self.queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
        self.seen: list[list] = [[], [], []]
        self.results, self.engines, self.errors = [None, None], [None, None], []
        channel = QueueChannel(2, self.queues, self.seen[2])
        self.dealer = Dealer(keys, lambda correction: channel.send(correction, 0))

        def owner(me: int) -> None:
            streams = AskedEngine.streams_of(keys[me])
            own = QueueChannel(me, self.queues, self.seen[me])
            self.engines[me] = AskedEngine(me, own, streams, Stream(pair, "pair"))
            self.results[me] = programs[me](self.engines[me])
            self.engines[me].end_requests()

        def dealer() -> None:
            answer_requests(channel, self.dealer, limits or Limits(), lambda: None)

        in_threads(owner, dealer, self.queues, self.errors)

    @classmethod
    def of(cls, program: Callable[[AskedEngine], Any], limits: Limits | None = None) -> Asked:
        """Run one program at both owners. Raises the first error of a party."""
        found = cls([program, program], limits)
        if found.errors:
            raise found.errors[0]
        return found
