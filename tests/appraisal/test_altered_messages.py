"""Appraisals whose messages are checked: whatever one owner alters ends in an error, and no wrong value is opened.

In whole sessions an owner alters one message of any kind and goes on with what it has sent. That each number of each
message has a claim of its own is shown in test_altered_claims.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from checked_sessions import COVERED, Appraisal, Message, Played, added, at, play, varied
from test_message_check import cheats_tell_what_passes  # noqa: F401  a fixture for all tests of this file

from mpc_appraisal.common.errors import AppraisalError, BoundError, IntegrityError
from mpc_appraisal.common.roles import OWNERS

torch.set_num_threads(1)
CLOSE = 2.0**-7  # two runs differ by less: values are opened with ten bits or more, and each is rounded up or down
HONEST_RUNS = 30
SOME = 1  # so many messages of an owner and a section are altered, where another program's are all altered


@pytest.fixture(scope="module", params=COVERED)
def honest(request) -> tuple[Appraisal, Played]:
    appraisal = COVERED[request.param]
    played = play(appraisal)
    assert not played.errors, played.errors
    return appraisal, played


# ---- whole sessions: one message of any kind ----


def kinds(sent: list[Message], number: int, chance: random.Random) -> dict:
    """The ways to alter the bytes of a message of an owner, by name; all give other bytes of the same size."""
    data = sent[number].data
    place = chance.randrange(len(data))
    found = {
        "+1": added(1, place),
        "-1": added(-1, place),
        "a bit": added(1 << chance.randrange(8), place, 1),
        "2^40": added(1 << 40, place) if len(data) >= 8 else added(16, place, 1),
        "2^63": added(1 << 63, place) if len(data) >= 8 else added(128, place, 1),
        "noise": lambda old: bytes(b ^ chance.randrange(1, 256) for b in old),
    }
    if len(data) >= 16 and data[:8] != data[8:16]:
        found["a swap"] = lambda old: old[8:16] + old[:8] + old[16:]
    earlier = [m.data for m in sent[:number] if len(m.data) == len(data) and m.data != data]
    if earlier:
        found["a replay"] = lambda old: earlier[-1]
    return found


def shown(played: Played) -> list:
    """What owners were shown of the last result. One that is shown nothing ends without waiting for the others."""
    return [each for k in (0, 1) for each in (played.opened(k) or [()])[-1] if each is not None]


def assert_refused(played: Played, me: int) -> None:
    """No owner was shown the result, and an error of the check names the cheat."""
    assert played.errors and not shown(played)
    assert any(isinstance(each, IntegrityError) and OWNERS[me] in str(each) for each in played.errors), played.errors
    assert all(isinstance(each, AppraisalError) for each in played.errors), played.errors


def same_answers(found: list, right: list, appraisal: Appraisal) -> bool:
    """Whether both are the same decisions and numbers, but for roundings and noise."""
    if [each[1:] for each in found] != [each[1:] for each in right]:
        return False
    pairs = [(a[0], b[0]) for a, b in zip(found, right, strict=True)]
    if appraisal.plan.release.description.noised:
        return all(math.isfinite(a) for a, _ in pairs)
    return all(a is b is None or abs(a - b) < CLOSE + 1e-3 * abs(b) for a, b in pairs)


def alter(appraisal: Appraisal, right: Played, me: int, number: int, chance: random.Random) -> None:
    """Alter a message in one way, and assert that the session is refused; `right` is an honest session."""
    ways = kinds(right.sent[me], number, chance)
    assert_refused(play(appraisal, {me: at(number, ways[chance.choice(list(ways))])}), me)


def altered_messages(appraisal: Appraisal, right: Played, me: int) -> list[list[int]]:
    """By section, the numbers of an owner's messages that are no inputs; those of the check come with them."""
    found, number = [], 0
    for inputs in appraisal.inputs[me]:
        after = end_of_section(right.sent[me], number)
        found.append(sorted(set(range(number, after)) - {number + k for k in inputs}))
        number = after
    assert number == len(right.sent[me])
    return found


def alter_at_random(appraisal: Appraisal, right: Played, chance: random.Random) -> None:
    """Alter a message of either owner."""
    me = chance.randrange(2)
    number = chance.choice(chance.choice(altered_messages(appraisal, right, me)))
    alter(appraisal, right, me, number, chance)


@pytest.mark.parametrize("me", [0, 1])
def test_every_message_of_an_owner_is_found_where_it_is_altered(honest, me):
    """Messages of the check and those to the dealer too, and bits that pad numbers to whole octets."""
    appraisal, right = honest
    chance = random.Random(11 + me)
    for numbers in altered_messages(appraisal, right, me):
        for number in numbers if appraisal is COVERED["influence"] else chance.sample(numbers, SOME):
            alter(appraisal, right, me, number, chance)


def end_of_section(sent: list[Message], start: int) -> int:
    """The number of the message after the next one that says that the check has passed."""
    return next(k for k in range(start, len(sent)) if sent[k] == Message(2, b"p")) + 1


@pytest.mark.parametrize("me", [0, 1])
def test_pairs_of_errors_that_cancel_are_found(me):
    appraisal = COVERED["influence"]
    sent = play(appraisal).sent[me]
    own = [k for k, message in enumerate(sent) if message.to != 2][2:-3]  # neither inputs nor messages of the check
    for k, error in zip(own * 2, [1, 1 << 40, 1 << 63, 0x9E3779B97F4A7C15], strict=False):
        size, e = (8, error) if len(sent[k].data) >= 16 else (1, 1)
        if len(sent[k].data) > size:
            first, second = added(e, 0, size), added(-e, 1, size)
            assert_refused(play(appraisal, {me: at(k, lambda data, f=first, g=second: g(f(data)))}), me)

    def two(number, to, data):  # the same error in two messages, once more and once less
        return added(1, 0)(data) if number == own[0] else added(-1, 0)(data) if number == own[-1] else data

    assert_refused(play(appraisal, {me: two}), me)


@pytest.mark.parametrize("me", [0, 1])
def test_a_message_of_a_former_session_is_found(me):
    """Above all the one that settles the result, by which the owner would choose a value that was once opened."""
    appraisal = COVERED["influence"]
    former, now = play(appraisal).sent[me], play(appraisal).sent[me]
    settling = next(k for k, message in enumerate(now) if message.to == 2) - 1
    assert len(now[settling].data) == 8
    for number in (settling, settling + 2, settling + 3, len(now) - 2):
        if former[number].data != now[number].data:
            assert_refused(play(appraisal, {me: at(number, lambda data, k=number: former[k].data)}), me)


@pytest.mark.parametrize("me", [0, 1])
@pytest.mark.parametrize("way", ["dropped", "sent twice", "cut", "in another order"])
def test_messages_that_leave_their_order_open_nothing(me, way):
    """What follows is read at other places, or is waited for in vain."""
    appraisal, kept = COVERED["influence"], []
    sent = play(appraisal).sent[me]
    own = [k for k, message in enumerate(sent) if message.to != 2]
    number = own[3] if me == 0 else own[-5]

    def disordered(n, to, data):
        if way == "in another order":
            if n == number:
                kept.append(data)
                return b""
            return data + kept.pop() if kept and to != 2 else data
        if n != number:
            return data
        return {"dropped": b"", "sent twice": data * 2, "cut": data[:-1]}[way]

    played = play(appraisal, {me: disordered}, patience=1.0)
    assert played.errors and not shown(played)
    assert all(isinstance(each, AppraisalError) for each in played.errors), played.errors


@pytest.mark.parametrize("key", ["weights", "direction"])
def test_matrices_that_are_longer_than_was_told_are_found(key):
    """Noise is scaled to the norms that the model owner has told; here it brings a matrix thirty times as long."""
    liar = replace(COVERED["under noise"])
    facts, bound, shared = liar.known
    own = shared["influence"]
    longer = {"influence": replace(own, tensors=own.tensors | {key: 30 * own.tensors[key]})}
    liar.__dict__["known"] = facts, bound, longer
    played = play(liar)
    assert not shown(played)
    for rank in (0, 1):
        assert isinstance(played.found[rank], BoundError) and OWNERS[0] in str(played.found[rank]), played.found


# ---- honest owners ----


def test_honest_owners_are_never_refused():
    for appraisal in varied(HONEST_RUNS):
        played = play(appraisal)
        assert not played.errors, (appraisal, played.errors)
        for k, found in enumerate(play(replace(appraisal, checked=False)).opened(k) for k in (0, 1)):
            assert same_answers(played.opened(k), found, appraisal)
