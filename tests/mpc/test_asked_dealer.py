"""The dealer that is asked while the program runs: right values, agreement of both owners, limits, and no hang."""

from __future__ import annotations

import json
import os
import random
import signal
import sys

import pytest
import torch
from asked_sessions import Asked
from processes import HERE, ROLES, Processes, free_port
from relay_sessions import relay
from three import sharing

from mpc_appraisal.common.errors import AppraisalError, DisagreementError
from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.asked_dealer import BLOCK_BYTES, DROPS, HEADER
from mpc_appraisal.mpc.protocols.asked_engine import AskedEngine
from mpc_appraisal.mpc.protocols.comparison import gated, negative, relu
from mpc_appraisal.mpc.protocols.dealer import Dealer
from mpc_appraisal.mpc.protocols.orders import tensor_of
from mpc_appraisal.mpc.protocols.repetition import Key
from mpc_appraisal.mpc.protocols.script_limits import Limits
from mpc_appraisal.mpc.ring.prg import DryStream, Stream

OWNERS = ROLES[:2]


def parties(processes: Processes, trial, what: str, transport: str, where: str = "", freeze: int = 60) -> dict:
    """Start the three parties of `asked_party.py`; return them by role."""
    where = where or f"tcp://127.0.0.1:{free_port()}"
    script = [sys.executable, str(HERE / "asked_party.py")]
    words = [where, str(trial), what, transport, str(freeze)]
    return {role: processes.start(role, [*script, role, *words]) for role in reversed(ROLES)}


def answers(started: dict) -> list:
    """Return what both owners print, once all three parties have ended in good order."""
    ended = {role: party.wait(60) for role, party in started.items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}
    one, other = (json.loads(ended[role].out.strip().splitlines()[-1]) for role in OWNERS)
    assert one == other
    return one


@pytest.mark.parametrize("transport", ["tcp", "tls", "gloo"])
def test_shapes_may_depend_on_opened_values(transport, trial, processes):
    rows = torch.arange(-6, 6).reshape(3, 4).double() / 4
    sums, squares = answers(parties(processes, trial, "branches", transport))
    assert torch.allclose(torch.tensor(sums).double(), rows.relu().sum(1), atol=4 * 2.0**-16)
    kept = rows[rows.relu().sum(1) > 0]
    found = torch.tensor(squares).double() / 2**16
    assert found.shape == kept.shape and (found - kept**2).abs().max() <= 2 * 2.0**-16


@pytest.mark.parametrize("transport", ["tcp", "tls", "gloo"])
def test_what_was_asked_in_vain_is_drained_before_the_end(transport, trial, processes):
    squares, ahead, asked = answers(parties(processes, trial, "repeats", transport))
    rows = torch.arange(-6, 6).reshape(3, 4).double() / 4
    assert (torch.tensor(squares).double() / 2**16 - rows.relu() ** 2).abs().max() <= 2.0**-16
    assert ahead == 0 and asked < 200  # of about a thousand requests


def test_a_dealer_is_asked_through_a_relay(trial, processes):
    _, where = relay(processes)
    sums, _ = answers(parties(processes, trial, "branches", "tls", f"relay={where}"))
    assert len(sums) == 3


def test_a_program_that_runs_dry_is_pushed(trial, processes):
    can, cannot, value, asked = answers(parties(processes, trial, "prepared", "tcp"))
    rows = torch.arange(-6, 6).reshape(3, 4).double() / 4
    assert torch.equal(torch.tensor(value).double() / 2**16, rows.relu())
    assert (can, cannot) == (True, False) and asked < 5


def parties_named(started: dict, victim: str, how: int, says: str) -> None:
    """Send the signal `how` to the victim; the others have to end with its name, soon."""
    for party in started.values():
        party.until("running", 60)
    os.kill(started[victim].popen.pid, how)
    try:
        for role in ROLES:
            if role != victim:
                ended = started[role].wait(30)
                assert ended.code == 2 and f"PeerError: {victim} {says}" in ended.err, (role, ended.err)
    finally:
        started[victim].kill()


@pytest.mark.parametrize(
    ("transport", "victim", "how", "says"),
    [
        ("tcp", "dealer", signal.SIGKILL, "is gone"),
        ("tls", "data_owner", signal.SIGKILL, "is gone"),
        ("gloo", "dealer", signal.SIGKILL, "is gone"),
        ("gloo", "model_owner", signal.SIGSTOP, "stopped: no sign of life"),
        ("tls", "dealer", signal.SIGSTOP, "stopped: no sign of life"),
    ],
)
def test_a_party_that_is_lost_is_named(transport, victim, how, says, trial, processes):
    freeze = 3 if how == signal.SIGSTOP else 60
    parties_named(parties(processes, trial, "forever", transport, freeze=freeze), victim, how, says)


@pytest.mark.parametrize("transport", ["tcp", "tls", "gloo"])
def test_a_different_request_is_named_at_all_parties(transport, trial, processes):
    for party in parties(processes, trial, "differs", transport).values():
        ended = party.wait(60)
        assert ended.code == 2 and "DisagreementError" in ended.err
        assert '["square", [4]] of model_owner' in ended.err and '["square", [5]] of data_owner' in ended.err


@pytest.mark.parametrize("transport", ["tcp", "gloo"])
def test_an_owner_that_ends_early_is_named(transport, trial, processes):
    started = parties(processes, trial, "leaves", transport)
    for role in ("model_owner", "dealer"):  # The data owner has all that it came for, and may be gone.
        ended = started[role].wait(60)
        assert ended.code == 2 and "DisagreementError" in ended.err, (role, ended.err)
        assert '["square", [4]] of model_owner and no further request of data_owner' in ended.err


# -- the three parties as threads --------------------------------------------------------------------------------------
X = torch.arange(-10, 10).reshape(5, 4).double() / 8
share_of_x = sharing(X, 16)


def irregular(engine: AskedEngine, seed: int = 3, turns: int = 25) -> list:
    """Comparisons, relu with its backward pass, products and truncations, in a loop that is left now and then."""
    share, chance, out = share_of_x(engine), random.Random(seed), []
    for _ in range(turns):
        below = negative(engine, share)
        value, bit = relu(engine, share)
        if chance.random() < 0.15:
            engine.square(share[: chance.randrange(1, 4)])
        if chance.random() < 0.15:
            continue  # The bit is kept by the dealer until the end.
        gradient = gated(engine, bit, share)
        bit.forget(engine)
        product = engine.truncate(engine.multiply(share, share), 16)
        masked = engine.mask(0, X.long() if engine.me == 0 else None, X.shape)
        linear = engine.product_with_shared(masked, share.t().contiguous())
        engine.free(masked)
        out.append((below, value, gradient, product, linear))
    return out


def decoded(found: Asked, turn: int, k: int, bits: int) -> torch.Tensor:
    return (found.results[0][turn][k] + found.results[1][turn][k]).double() / 2.0**bits


@pytest.mark.parametrize("seed", [3, 4])
def test_values_are_right_where_predictions_fail(seed):
    found = Asked.of(lambda engine: irregular(engine, seed))
    wholes = X.long().double()
    for turn in range(len(found.results[0])):
        assert torch.equal(decoded(found, turn, 0, 0), (X < 0).double())
        for k in (1, 2):
            assert torch.equal(decoded(found, turn, k, 16), X.relu())
        assert (decoded(found, turn, 3, 16) - X**2).abs().max() <= 2.0**-16
        assert torch.equal(decoded(found, turn, 4, 16), wholes @ X.t())
    one, other = (engine.repetition for engine in found.engines)
    assert one.wasted_requests == other.wasted_requests > 10  # predictions have failed
    assert found.engines[0].asked < one.used_requests  # and others were right
    assert one.wasted_requests <= one.used_requests / 8 + 64


class Watched:
    """A stream that notes which bytes of it are read, and for what; it has the stream's other attributes."""

    def __init__(self, stream, reads: list, of: list):
        self._stream, self._reads, self._of = stream, reads, of

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def _noted(self, draw, *arguments):
        start = self._stream.position
        out = draw(*arguments)
        self._reads.append((start, self._stream.position, self._of[-1] if self._of else None))
        return out

    def ring(self, *arguments):
        return self._noted(self._stream.ring, *arguments)

    def octets(self, *arguments):
        return self._noted(self._stream.octets, *arguments)


def test_no_place_of_a_stream_serves_two_requests(monkeypatch):
    reads: dict = {}  # (owner or dealer, whose stream, purpose): what was read, and for which request
    requests: dict = {}
    original, make, run = AskedEngine.ask_dealer, AskedEngine.__init__, Dealer.run

    def watch(streams: dict, who: str, owner: int, of: list) -> dict:
        reads.update({(who, owner, purpose): [] for purpose in streams})
        return {p: Watched(s, reads[who, owner, p], of) for p, s in streams.items()}

    def build(self, me, channel, streams, *rest, **options):
        requests[me] = []
        make(self, me, channel, watch(streams, "owner", me, requests[me]), *rest, **options)

    def ask(self, name, *arguments):
        plain = [a for a in arguments if type(a) is not Key]
        if name not in DROPS:
            requests[self.me].append((len(requests[self.me]), name, json.dumps(plain)))
        original(self, name, *arguments)

    dealt: list = []

    def answer(self, script, mark):
        if not dealt:
            self._streams = [watch(s, "dealer", owner, dealt) for owner, s in enumerate(self._streams)]
        (request,) = script
        plain = [a for a in request[1:] if not isinstance(a, int) or a < 2**32]
        dealt.append((len(dealt), request[0], json.dumps(plain)))
        run(self, script, mark)

    monkeypatch.setattr(AskedEngine, "__init__", build)
    monkeypatch.setattr(AskedEngine, "ask_dealer", ask)
    monkeypatch.setattr(Dealer, "run", answer)
    found = Asked.of(irregular)
    assert found.engines[0].repetition.wasted_requests > 0
    serves: dict = {}  # which request of the program each dealt request serves
    for owner in (0, 1):
        for purpose in ("mask", "triple", "share"):
            theirs = {start: (end, request) for start, end, request in reads["dealer", owner, purpose]}
            last = 0
            for start, end, request in reads["owner", owner, purpose]:
                assert start >= last  # so nothing is read twice
                last = end
                length, answered = theirs[start]
                assert (length, answered[1:]) == (end, request[1:])
                assert serves.setdefault(answered[0], request[0]) == request[0]
    assert len(set(serves.values())) == len(serves)  # one dealt request for each of the program's
    dealer = found.dealer.places()
    assert [engine._present() for engine in found.engines] == dealer


def test_a_dry_run_is_pushed_and_a_program_may_leave_it():
    def rehearsed(engine: AskedEngine, seed: int):
        dry = AskedEngine(engine.me, DryChannel(Meter()), AskedEngine.streams_of(None), DryStream(), dry=True)
        irregular(dry, seed)
        engine.follow(dry)
        return irregular(engine)

    pushed = Asked.of(lambda engine: rehearsed(engine, 3)).engines[0]
    assert pushed.repetition.wasted_requests == 0 and pushed.asked < 5
    left = Asked.of(lambda engine: rehearsed(engine, 4))
    assert left.engines[0].repetition.wasted_requests > 0
    assert torch.equal(decoded(left, 10, 1, 16), X.relu())


# -- what the dealer refuses -------------------------------------------------------------------------------------------
def refused(programs: list, limits: Limits | None = None) -> BaseException:
    """Return the dealer's error for what the owners send; nothing may have been drawn for what was refused."""
    found = Asked(programs, limits)
    assert found.errors
    return found.errors[0]


def loops(engine: AskedEngine) -> None:
    share = share_of_x(engine)
    for _ in range(20):
        engine.square(share)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(requests=10), "11 requests; expected at most 10"),
        (Limits(total=100), "120 elements in all requests; expected at most 100"),
        (Limits(largest=30), "40 elements in one request; expected at most 30"),
        (Limits(memory=8 * 50), "bytes of memory"),
    ],
)
def test_requests_beyond_a_limit_are_refused_before_they_are_computed(limits, says):
    found = Asked([loops, loops], limits)
    assert isinstance(found.errors[0], DisagreementError) and says in str(found.errors[0])
    most = min(limits.requests, limits.total // 40)
    assert found.dealer.places()[0][1] <= most * X.numel() * 8


def test_masks_that_are_kept_count_for_the_whole_session():
    def keeps(engine: AskedEngine) -> None:
        for _ in range(50):
            negative_bit = relu(engine, share_of_x(engine))[1]
            assert negative_bit is not None

    error = refused([keeps, keeps], Limits(memory=8 * 1500))
    assert isinstance(error, DisagreementError) and "bytes of memory for kept masks" in str(error)


def sends(*messages: bytes) -> list:
    """Programs that send the dealer these raw messages."""

    def program(engine: AskedEngine) -> None:
        for message in messages:
            engine.channel.send(tensor_of(message), 2)

    return [program, program]


def block(text: bytes, length: int | None = None, ahead: int = 0, places: tuple = (0, 0, 0)) -> bytes:
    return (HEADER.pack(len(text) if length is None else length, ahead, *places) + text).ljust(BLOCK_BYTES, b"\0")


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (block(b"[[["), "a script that is not JSON"),
        (block(b"\xff\xfe"), "a script that is not JSON"),
        (block(b"{}"), "expected a list"),
        (block(b'["square"]'), "refused the request 'square'"),
        (block(b'[["sqare", [1]]]'), "refused the request ['sqare', [1]]"),
        (block(b'[["square", [-1]]]'), "refused the shape [-1]"),
        (block(b'[["square", [1], 2]]'), "refused square with"),
        (block(b'[["forget", [7]]]'), "refused forget with"),
        (block(b'[["cross", 1, 2, 64]]'), "refused cross with"),
        (block(b'[["check", [64]]]'), "refused a check of messages"),
        (block(b'[["apply", ["exp"], [3], 16]]'), "refused to receive values"),
        (block(b"", 2**32 - 1), "refused requests of model_owner of 4294967295 bytes"),
        (block(b'[["square", [1]]]', ahead=5000), "5000 ahead"),
        (block(b'[["square", [1]]]', ahead=1), "refused 1 requests ahead; expected at most 0"),
        (block(b'[["square", [1]]]', places=(0, 8, 0)), "refused requests of model_owner at places (0, 8, 0)"),
        (block(b"\0" * 10), "a script that is not JSON"),
    ],
)
def test_whatever_owners_send_is_refused_by_name(message, says):
    error = refused(sends(message))
    assert isinstance(error, AppraisalError) and says in str(error)


@pytest.mark.parametrize("one", [b'[["square", [1]]]', b'[["square", [1]], ["mark"]]', b"[7]", b"\xff", b""])
def test_requests_of_one_owner_alone_are_answered_by_nobody(one):
    other = b'[["square", [2]], ["mark"]]'
    error = refused([sends(block(one))[0], sends(block(other))[1]])
    assert isinstance(error, DisagreementError) and str(error).startswith("the parties disagree: dealer: refused ")


def test_a_method_that_draws_late_is_refused_by_its_places():
    def late(engine: AskedEngine) -> None:
        engine.ask_dealer("square", [3])
        engine.ask_dealer("square", [3])
        for _ in range(2):
            engine.triple_mask((3,))
            engine.dealer_share((3,))

    def twice(engine: AskedEngine) -> None:
        engine.ask_dealer("square", [3])
        engine.triple_mask((3,))
        engine.dealer_share((3,))
        engine.triple_mask((3,))
        engine.square(share_of_x(engine))

    Asked.of(late)  # Requests that are sent together may be carried out together.
    error = refused([twice, twice])
    assert "What a request draws has to be drawn before" in str(error)


def test_a_stream_may_be_skipped():
    key = bytes(range(32))
    whole = Stream(key, "x").octets((100,))
    for skipped in (0, 1, 15, 16, 17, 40):
        stream = Stream(key, "x")
        first = stream.octets((10,))
        stream.skip(skipped)
        rest = stream.octets((20,))
        assert torch.equal(torch.cat([first, rest]), torch.cat([whole[:10], whole[10 + skipped : 30 + skipped]]))
        assert stream.position == 30 + skipped
