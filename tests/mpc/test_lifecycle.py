"""The lifecycle of a party: it meets the others, runs, announces its end, and leaves."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.mpc.net.lifecycle import LINGER_SECONDS, REFUSAL_SECONDS, attend


class Place:
    """A transport and its rendezvous, which write down what they are asked for. gone: everybody else has left."""

    def __init__(self, gone: bool = False, nobody: bool = False):
        self.gone, self.nobody, self.calls = gone, nobody, []

    def connect(self, role, address, timeout, hosted):
        self.calls.append(("connect", timeout, hosted))
        if self.nobody:
            raise PeerError("model_owner did not come")
        return self

    @contextmanager
    def interrupting(self):
        self.calls.append("in")
        yield
        self.calls.append("out")

    def announce(self):
        self.calls.append("announce")

    def exchange(self, topic, note):
        self.calls.append(topic)
        if self.gone:
            raise PeerError("data_owner left")

    def abort(self, message):
        self.calls.append(("abort", message))

    def close(self, linger):
        self.calls.append(("close", linger))


def played(place: Place, role: str, run=lambda rendezvous, own: own + 1, read=lambda: 1):
    def noted():
        place.calls.append("read")
        return read()

    return attend(role, place, "tcp://h:1", 60.0, noted, run, hosted=True)


def refused():
    raise InputError("x", "secret", "something else")


@pytest.mark.parametrize("gone", [False, True])
def test_the_model_owner_opens_the_rendezvous_before_it_reads_and_the_others_read_first(gone):
    rest = ["in", "announce", "done", "out", ("close", LINGER_SECONDS)]
    for role, first in (
        (MODEL_OWNER, [("connect", 60.0, True), "read"]),
        (DATA_OWNER, ["read", ("connect", 60.0, True)]),
    ):
        place = Place(gone)
        assert played(place, role) == 2  # also where the others have left after the last answer
        assert place.calls == first + rest


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_host_that_stops_while_it_reads_announces_it_to_those_who_wait(error):
    def stopped():
        raise error

    place, alone = Place(), Place()
    with pytest.raises(error):
        played(place, MODEL_OWNER, read=stopped)
    left = [("abort", "it was interrupted"), ("close", LINGER_SECONDS)]
    assert place.calls == [("connect", 60.0, True), "read"] + left
    with pytest.raises(error):
        played(alone, DATA_OWNER, read=stopped)
    assert alone.calls == ["read"]  # it has not met anybody yet


@pytest.mark.parametrize("nobody", [False, True])
def test_a_bad_input_is_raised_whether_or_not_the_others_can_be_told(nobody):
    place = Place(nobody=nobody)
    with pytest.raises(InputError, match="^x: got secret"):
        played(place, DATA_OWNER, read=refused)
    told = [("abort", "bad input in x"), ("close", LINGER_SECONDS)]
    assert place.calls == ["read", ("connect", REFUSAL_SECONDS, True)] + told * (not nobody)


@pytest.mark.parametrize(
    ("error", "words"),
    [(InputError("x", 1, "2"), None), (PeerError("dealer is gone"), None), (KeyboardInterrupt(), "it was interrupted")],
)
def test_whatever_ends_a_run_is_told_to_the_others_and_raised(error, words):
    place = Place()

    def run(rendezvous, own):
        raise error

    with pytest.raises(type(error)):
        played(place, MODEL_OWNER, run)
    assert place.calls[-2:] == [("abort", words or error.public), ("close", LINGER_SECONDS)]
