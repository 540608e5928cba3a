"""An owner's engine that asks the dealer while the program runs, and ahead of it where the program repeats.

A request is sent when the program needs the first result after it, so that requests without a result travel with the
next one. Both owners send it (see `asked_dealer`). Where `repetition` predicts further requests, they are sent at once.
What was asked ahead in vain is left out: an owner skips its streams, and the model owner receives the dealer's messages
for it and throws them away. What a request draws from the streams, and what the dealer shares for it, has to be taken
before the next request is made; the dealer compares places (see `asked_dealer`), so that a method which does not keep
to this ends in an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.mpc.protocols.asked_dealer import DROPS, Asked, Places, send_asked
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.repetition import Consumption, Key, Repetition
from mpc_appraisal.mpc.ring.packing import width


class AskedEngine(Engine):
    """One owner's end, as `Engine` describes; it asks a dealer that runs `answer_requests`.

    Attributes:
        repetition: the requests so far, and those that were made ahead.
        asked: how many messages with requests this owner has sent to the dealer.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.repetition, self.asked = Repetition(predicts=not self.dry), 0
        self._queue: list[str] = []  # requests that have not been sent
        self._since: tuple[Places, int] | None = None  # where this owner was when the first of them was made
        self._shares = 0  # the bytes of shares of the dealer's results so far
        self._begun: Places | None = None  # where the last request began
        self._corrections: list[tuple[tuple[int, ...], torch.dtype]] = []  # messages for the last request
        self._vain: list[tuple[tuple[int, ...], torch.dtype]] = []  # messages to come that were asked for in vain

    def new_key(self) -> int:
        return Key(super().new_key())

    def ask_dealer(self, name: str, *arguments: Any) -> None:
        super().ask_dealer(name, *arguments)
        if name in DROPS:
            self._queue.append(self.repetition.dropped(name, arguments))
            return
        places = self._end_request()
        step = self.repetition.made(name, arguments)
        if step.texts and self._since is None:
            self._since = places, step.before
        self._queue.extend(step.texts)
        self._skip(step.wasted)
        self._begun = self._present() if step.wasted else places
        if step.urgent:
            self._send_requests()

    def dealer_share(self, shape: Sequence[int], bits: int = 64) -> torch.Tensor:
        size = width(bits)
        count = math.prod(shape) * size
        self._expect(count, (tuple(shape), torch.int64) if size == 8 else ((count,), torch.uint8))
        return super().dealer_share(shape, bits)

    def dealer_octets(self, shape: Sequence[int]) -> torch.Tensor:
        self._expect(math.prod(shape), (tuple(shape), torch.uint8))
        return super().dealer_octets(shape)

    def end_requests(self) -> None:
        """Tell the dealer that there are no more requests. No request may be made afterwards.

        The model owner receives what was asked for in vain before it leaves.
        """
        self._end_request()
        if not self.dry:
            places, wasted = self._present(), self.repetition.end()
            before = len(wasted)
            if self._queue:
                self._since = self._since or (places, before)
                self._send_requests()
                before = 0
            self._skip(wasted)
            send_asked(self.channel, Asked(b"", before, places if before else self._present()))
            self._discard()

    def follow(self, rehearsed: AskedEngine) -> None:
        """Ask ahead for all that the engine of a dry run of the same program has asked for, as the program proceeds.

        This is to be called before the first request. A program that leaves the script of its dry run goes on without.
        """
        rehearsed._end_request()
        self.repetition = rehearsed.repetition
        self._queue.extend(self.repetition.follow())
        self._since = self._present(), 0
        self._send_requests()

    def _present(self) -> Places:
        return self.streams["mask"].position, self.streams["triple"].position, self._shares

    def _end_request(self) -> Places:
        """Record what the last request has taken; return where this owner is now."""
        places, begun = self._present(), self._begun
        if begun is not None:
            taken = Consumption(
                *[now - then for now, then in zip(places, begun, strict=True)], tuple(self._corrections)
            )
            self.repetition.took(taken)
            self._corrections.clear()
            self._begun = None
        return places

    def _expect(self, count: int, message: tuple[tuple[int, ...], torch.dtype]) -> None:
        """Note that a share of `count` bytes is taken now, for which the model owner receives `message`."""
        self._shares += count
        if self.me == 0:
            self._corrections.append(message)
        if not self.dry:
            self._send_requests()
            self._discard()

    def _send_requests(self) -> None:
        if not self._queue or self._since is None:  # Requests that drop masks wait for the next other one.
            return
        (places, ahead), text = self._since, f"[{', '.join(self._queue)}]"
        self._queue.clear()
        self._since = None
        self.asked += 1
        send_asked(self.channel, Asked(text.encode(), ahead, places))

    def _skip(self, wasted: Sequence[Consumption]) -> None:
        """Leave out of the streams what was asked for in vain."""
        for taken in wasted:
            for purpose, count in (("mask", taken.mask), ("triple", taken.triple)):
                if count:
                    self.streams[purpose].skip(count)
            if taken.share and self.me == 1:
                self.streams["share"].skip(taken.share)
            self._shares += taken.share
            self._vain.extend(taken.corrections)

    def _discard(self) -> None:
        """Receive the messages that were asked for in vain, which come before any other of the dealer."""
        for shape, dtype in self._vain:
            self.channel.receive(shape, 2, dtype)
        self._vain.clear()
