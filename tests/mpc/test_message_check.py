"""A cheating owner is found before a value is opened: every message of small programs, altered in several ways."""

from __future__ import annotations

import json
import queue
import random
import threading
from dataclasses import dataclass, field

import pytest
import torch
from test_replay import far_slope, slope
from three import QueueChannel, new_key

from mpc_appraisal.common.errors import AppraisalError, IntegrityError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.integrity import message_check
from mpc_appraisal.mpc.integrity.message_check import DealerCheck, OwnerCheck
from mpc_appraisal.mpc.net.channel import DryChannel, Transcript
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.ring.prg import DryStream, Stream

torch.set_num_threads(1)
PATIENCE = 60.0
CLOSE = 1 << 28  # results with 38 fractional bits differ by less, by rounding


def next_quotient(t: int, b: int, sums, primes) -> int:
    """The best that a cheat can tell whose sum is not t mod 2^b: the sum divided by 2^b, rounded down."""
    total, product = 0, 1
    for found, p in zip(sums, primes, strict=True):
        total += product * ((found - total) * pow(product, -1, p) % p)
        product *= p
    return ((total - product if total > product // 2 else total) - t) >> b


@pytest.fixture(autouse=True)
def cheats_tell_what_passes(monkeypatch):
    """Honest owners tell the same; without this a cheat would stop by itself."""
    monkeypatch.setattr(message_check, "_quotient", next_quotient)
    monkeypatch.setattr(message_check, "_primes_for", lambda bits: len(message_check.OWN_PRIMES))


@dataclass
class Sent:
    """What a test looks at: the result at each owner, and the kinds of messages that the owners have sent."""

    results: list = field(default_factory=lambda: [None, None])
    errors: list = field(default_factory=list)
    messages: dict = field(default_factory=lambda: {0: [], 1: []})


class Altering(QueueChannel):
    """A cheating owner's channel: alter(number of the message to the other owner, tensor) -> tensor, before it is sent.

    The owner goes on with what it has sent, as a careful cheat does.
    """

    def __init__(self, me, queues, alter, sent: Sent):
        super().__init__(me, queues, [], PATIENCE)
        self._alter, self._sent, self._number = alter, sent, 0

    def send(self, tensor, to):
        if to != 2 and self.me != 2 and self.transcript is not None:
            tensor = self._alter(self._number, tensor) if self._alter else tensor
            self._number += 1
            self._sent.messages[self.me].append(tensor.numel())
        super().send(tensor, to)


def run(program, cheats=None) -> Sent:
    """Run a program at three parties, check all messages, open the result, and check the opened shares."""
    keys, pair, sent = [new_key(), new_key()], new_key(), Sent()

    def whole(engine):
        engine.affine = True
        return engine.blinded(program(engine))

    dry = Engine(0, DryChannel(Meter()), Engine.streams_of(None), DryStream(), dry=True)
    whole(dry)
    script = parse(json.dumps(dry.script))
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}

    def owner(me: int) -> None:
        channel = Altering(me, queues, (cheats or {}).get(me), sent)
        channel.transcript = Transcript()
        engine = Engine(me, channel, Engine.streams_of(keys[me]), Stream(pair, "pair"))
        share = whole(engine)
        transcript, channel.transcript = channel.transcript, None
        check = OwnerCheck(me, channel, keys[me], lambda: Stream(pair, "pair"), transcript, whole)
        check.messages()
        shift = (cheats or {}).get("opening", {}).get(me, 0)
        channel.send(share + shift, 1 - me)
        theirs = channel.receive(share.shape, 1 - me)
        check.opening(share + shift, theirs)
        sent.results[me] = share + shift + theirs

    def dealer() -> None:
        channel, corrections = QueueChannel(2, queues, [], PATIENCE), []

        def send(correction):
            corrections.append(correction)
            channel.send(correction, 0)

        Dealer(keys, send).run(script, lambda: None)
        check = DealerCheck(channel, keys, corrections, 10**6)
        check.answer()
        check.answer()

    def guarded(f, *arguments):
        try:
            f(*arguments)
        except BaseException as error:  # noqa: BLE001  the test looks at it
            sent.errors.append(error)
            for each in queues.values():
                each.put(error)

    threads = [threading.Thread(target=guarded, args=(owner, me)) for me in (0, 1)]
    threads.append(threading.Thread(target=guarded, args=(dealer,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
        assert not thread.is_alive()
    return sent


def of_slope(engine):
    return slope(engine, opened=False).reshape(1)


def of_far_slope(engine):
    return far_slope(engine, opened=False).reshape(1)


@pytest.mark.parametrize("program", [of_slope, of_far_slope])
def test_honest_owners_pass_and_get_the_value(program):
    sent = run(program)
    assert not sent.errors, sent.errors
    assert torch.equal(sent.results[0], sent.results[1])


def altered(number: int, error: int, place: float):
    """Return a cheat that adds `error` to one number of a message, in its own width."""

    def alter(n, tensor):
        if n != number:
            return tensor
        out = tensor.clone().reshape(-1)
        k = int(place * out.numel())
        value = int(out[k]) + error
        out[k] = (value + 2**63) % 2**64 - 2**63 if tensor.dtype == torch.int64 else value % 256
        return out.reshape(tensor.shape)

    return alter


@pytest.mark.parametrize("program", [of_slope, of_far_slope])
def test_every_message_of_influence_is_found_wherever_it_is_altered(program):
    """What brings in a private matrix is an owner's own input: W and V of the model owner, X and X'Y of the other."""
    honest, chance, own = run(program), random.Random(3), {0: {0}, 1: {0, 1}}
    for me in (0, 1):
        assert len(honest.messages[me]) >= 4
        for number in set(range(len(honest.messages[me]))) - own[me]:
            errors = [1, -1, 1 << 7, 1 + (1 << 40), chance.randrange(1, 256)]
            for error in errors if program is of_slope else chance.sample(errors, 2):
                place = chance.random()
                sent = run(program, {me: altered(number, error, place)})
                if not sent.errors:  # a bit that pads a message to whole bytes was altered, which nobody reads
                    assert error == 1 << 7 and abs(int(sent.results[0] - honest.results[0])) < CLOSE
                    continue
                assert any(isinstance(each, IntegrityError) and OWNERS[me] in str(each) for each in sent.errors)
                assert sent.results[1 - me] is None


@pytest.mark.parametrize("me", [0, 1])
@pytest.mark.parametrize("error", [1, -1, 1 << 40, -(1 << 63)])
def test_an_opened_share_that_is_altered_is_found(me, error):
    sent = run(of_slope, {"opening": {me: error}})
    assert any(isinstance(each, IntegrityError) and OWNERS[me] in str(each) for each in sent.errors)
    assert sent.results[1 - me] is None


def test_messages_that_leave_the_program_are_refused():
    def shorter(n, tensor):
        return tensor[:-1] if n == 3 else tensor

    sent = run(of_slope, {1: shorter})
    assert sent.errors and sent.results[0] is None
    assert all(isinstance(each, (AppraisalError, AssertionError)) for each in sent.errors)


@pytest.mark.parametrize("texts", [("{}", "[]"), ("[", "["), ("{}x", "{}x"), ('{"label": 1}', '{"label": 1}')])
def test_the_dealer_refuses_descriptions_that_differ_or_cannot_be_read(texts):
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
    for rank, text in enumerate(texts):
        channel = QueueChannel(rank, queues, [], PATIENCE)
        channel.send(torch.tensor([ord("a")], dtype=torch.uint8), 2)
        message_check._send_text(channel, text)
    with pytest.raises(IntegrityError, match="different claims" if texts[0] != texts[1] else "cannot be read"):
        DealerCheck(QueueChannel(2, queues, [], PATIENCE), [new_key(), new_key()], [], 10).answer()
