"""Prediction of requests, against a dealer of the test's own that hands out intervals of one stream.

The oracle knows nothing of how predictions are made: the dealer of this file gives each request that it is sent the
next interval, whose length follows from shapes alone. The program must get, for each of its requests, an interval that
was dealt for that very request, on the masks that it means, and no interval twice.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable

import pytest

from mpc_appraisal.mpc.protocols.repetition import FIRST_WIRE, Consumption, Key, Repetition

SEEDS = range(12)


class Dealt:
    """The dealer's side: masks by the numbers of the wire, and the interval of each request that was dealt."""

    def __init__(self):
        self.masks: dict[int, tuple[int, int]] = {}  # the interval in which a mask was made, and its elements
        self.intervals: dict[int, tuple[int, list]] = {}  # by where they begin: where they end, and what for
        self.place = 0

    def deal(self, text: str) -> None:
        name, *arguments = json.loads(text)
        if name == "forget":
            for key in arguments[0]:
                del self.masks[key]  # a KeyError is a mask that was dropped twice, or never made
            return
        if name == "open":
            key, shape = arguments
            assert key not in self.masks and key > FIRST_WIRE
            self.masks[key] = self.place, math.prod(shape)
            size, meant = math.prod(shape), [name, shape]
        elif name == "compare":
            size, meant = 3 * self.masks[arguments[0]][1], [name, self.masks[arguments[0]]]
        elif name == "cross":
            one, other = (self.masks[key] for key in arguments)
            size, meant = one[1] + other[1], [name, one, other]
        else:
            size, meant = 2 * math.prod(arguments[0]), [name, arguments[0]]
        self.intervals[self.place] = self.place + size, meant
        self.place += size


class Owner:
    """The program's side. Its own numbers of masks, and where in the stream it is."""

    def __init__(self, dealer: Dealt):
        self.dealer, self.repetition, self.place, self.number = dealer, Repetition(), 0, 0
        self.sizes: dict[Key, int] = {}
        self.made: dict[Key, int] = {}  # where the interval begins in which a mask was made
        self.used: set[int] = set()
        self.messages = 0
        self.after: Callable[[], None] = lambda: None

    def ask(self, name: str, *arguments) -> None:
        step = self.repetition.made(name, arguments)
        for text in step.texts:
            self.dealer.deal(text)
        self.messages += bool(step.texts)
        self.place += sum(taken.triple for taken in step.wasted)
        size, meant = self._meant(name, arguments)
        end, dealt = self.dealer.intervals[self.place]  # a KeyError is a place where no request begins
        assert (end, dealt) == (self.place + size, meant)
        assert self.place not in self.used
        self.used.add(self.place)
        if name == "open":
            self.made[arguments[0]] = self.place
        self.place = end
        self.repetition.took(Consumption(triple=size))
        self.after()

    def _meant(self, name, arguments):
        masks = [(self.made.get(a), self.sizes[a]) for a in arguments if type(a) is Key]
        if name == "open":
            return math.prod(arguments[1]), [name, arguments[1]]
        if name == "compare":
            return 3 * masks[0][1], [name, masks[0]]
        if name == "cross":
            return masks[0][1] + masks[1][1], [name, *masks]
        return 2 * math.prod(arguments[0]), [name, arguments[0]]

    def open(self, *shape: int) -> Key:
        self.number += 1
        key = Key(self.number)
        self.sizes[key] = math.prod(shape)
        self.ask("open", key, list(shape))
        return key

    def forget(self, *keys: Key) -> None:
        self.dealer.deal(self.repetition.dropped("forget", [list(keys)]))

    def end(self) -> None:
        self.place += sum(taken.triple for taken in self.repetition.end())
        assert self.place == self.dealer.place


def step_of(owner: Owner, kept: Key, carried: list[Key], rows: int) -> None:
    """One step of a program like training: masks that live for a step, for two steps, and for the whole program."""
    for width in (3, 5):
        x = owner.open(rows, width)
        owner.ask("compare", x)
        bit = owner.open(rows, width)
        owner.ask("cross", bit, x)
        owner.forget(x)
        owner.ask("square", [rows, width])
        carried.append(bit)
    for _ in range(4):
        owner.ask("truncate", [rows])
        owner.ask("square", [rows])
    owner.ask("cross", kept, carried[-1])
    while len(carried) > 4:
        owner.forget(carried.pop(0))


def noise(owner: Owner, chance: random.Random) -> None:
    """Requests of no order, some on masks that are dropped at once."""
    for _ in range(chance.randrange(1, 12)):
        what = chance.randrange(4)
        if what == 0:
            owner.ask("square", [chance.randrange(1, 5)])
        elif what == 1:
            x = owner.open(chance.randrange(1, 4))
            owner.ask("compare", x)
            owner.forget(x)
        elif what == 2:
            x, y = owner.open(4), owner.open(4)
            owner.ask("cross", *((x, y) if chance.random() < 0.5 else (y, x)))
            owner.forget(x, y)
        else:
            for _ in range(chance.randrange(30)):
                owner.ask("truncate", [2])


def program(owner: Owner, seed: int, disorder: float) -> None:
    chance, carried, kept = random.Random(seed), [], owner.open(8, 5)
    for _ in range(30):
        rows = 8 if chance.random() > disorder / 2 else chance.randrange(1, 9)
        step_of(owner, kept, carried, rows)
        if chance.random() < disorder:
            noise(owner, chance)
        if chance.random() < disorder / 3:  # the mask that all steps share is made anew
            owner.forget(kept)
            kept = owner.open(8, 5)


@pytest.mark.parametrize("disorder", [0.0, 0.2, 1.0])
def test_every_request_gets_what_was_dealt_for_it_and_nothing_twice(disorder):
    predicted = 0
    for seed in SEEDS:
        owner = Owner(Dealt())
        program(owner, seed, disorder)
        owner.end()
        assert owner.repetition.used_requests == len(owner.used)
        assert owner.repetition.wasted_requests == len(owner.dealer.intervals) - len(owner.used)
        predicted += owner.messages < owner.repetition.used_requests
    assert predicted == len(SEEDS)  # every program, with the most disorder too, was sometimes predicted


@pytest.mark.parametrize("disorder", [0.2, 1.0])
def test_what_is_wasted_is_bounded_at_any_time(disorder):
    wasted = 0
    for seed in SEEDS:
        owner = Owner(Dealt())

        def check(found: Repetition = owner.repetition, dealer: Dealt = owner.dealer, owner: Owner = owner) -> None:
            thrown = len(dealer.intervals) - len(owner.used) - found.ahead
            assert thrown == found.wasted_requests <= found.used_requests / 8 + 64

        owner.after = check
        program(owner, seed, disorder)
        owner.end()
        wasted += owner.repetition.wasted_requests
        assert owner.repetition.wasted_requests <= len(owner.used) / 8 + 64
    assert wasted > 0


def test_large_requests_are_not_asked_ahead_until_as_much_was_used():
    owner = Owner(Dealt())

    def check() -> None:
        found = owner.repetition
        thrown = owner.dealer.place - owner.place - found.wasted_elements * 8  # ahead, of 8 bytes an element
        assert found.wasted_elements + thrown / 8 <= found.used_elements / 8 + 2**19

    owner.after = check
    chance = random.Random(1)
    for _ in range(12):
        for _ in range(chance.randrange(9, 30)):
            owner.ask("square", [1 << 19])
        owner.ask("truncate", [7])
    owner.end()
    assert owner.repetition.wasted_elements <= owner.repetition.used_elements / 8 + 2**19


def test_a_loop_is_asked_for_ahead_from_its_second_turn_on():
    owner, carried = Owner(Dealt()), []
    kept = owner.open(8, 5)
    turns = []
    for _ in range(12):
        before, requests = owner.messages, owner.repetition.used_requests
        step_of(owner, kept, carried, 8)
        turns.append((owner.messages - before, owner.repetition.used_requests - requests))
    assert turns[0][0] == turns[0][1]  # the first turn is all new
    assert all(messages <= 2 for messages, _ in turns[4:])
    assert owner.repetition.wasted_requests == 0


def test_a_mask_that_the_program_has_dropped_is_not_named_ahead():
    owner = Owner(Dealt())
    kept = owner.open(4)
    for _ in range(40):
        owner.ask("compare", kept)
        owner.ask("square", [4])
    owner.forget(kept)  # the dealer has answered what was ahead, and is asked for no more on this mask
    for _ in range(40):
        owner.ask("square", [4])
    owner.end()


def test_a_plain_number_is_never_taken_for_a_mask():
    owner = Owner(Dealt())
    x = owner.open(4)
    step = owner.repetition.made("compare", [int(x)])
    with pytest.raises(KeyError):
        owner.dealer.deal(step.texts[0])


def test_a_long_history_is_forgotten_and_the_loop_found_again(monkeypatch):
    from mpc_appraisal.mpc.protocols import repetition

    monkeypatch.setattr(repetition, "HISTORY", 400)
    owner, carried = Owner(Dealt()), []
    kept = owner.open(8, 5)
    for _ in range(40):
        step_of(owner, kept, carried, 8)
    owner.end()
    assert owner.messages < owner.repetition.used_requests / 2


def test_a_dry_run_is_followed_and_left():
    for seed in (3, 4):
        rehearsed = Owner(Dealt())
        rehearsed.repetition = Repetition(predicts=False)
        program(rehearsed, 3, 0.5)
        owner = Owner(Dealt())
        owner.repetition = rehearsed.repetition
        for text in owner.repetition.follow():
            owner.dealer.deal(text)
        program(owner, seed, 0.5)
        owner.end()
        if seed == 3:
            assert owner.repetition.wasted_requests == 0 and owner.messages < len(owner.used) / 100
        else:
            assert 0 < owner.repetition.wasted_requests <= 512 + len(owner.used) / 8 + 64
