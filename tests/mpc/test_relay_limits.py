"""A relay's limits, its many sessions and its strangers: who is refused is told why, and no session meets another."""

from __future__ import annotations

import asyncio
import re
import select
import socket
import threading
import time
from contextlib import suppress

import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, free_port
from relay_sessions import met, relay

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.mpc.net.certificates import CertificateFiles, make_trial
from mpc_appraisal.mpc.net.handshake import Listener
from mpc_appraisal.mpc.net.relay.client import RelayWay
from mpc_appraisal.mpc.net.relay.greeting import LINE_BYTES, LISTEN, Greeting, digest_of, parse_relay, session_token
from mpc_appraisal.mpc.net.relay.limits import CONNECTIONS, WAITING, Limits
from mpc_appraisal.mpc.net.relay.server import Relay, Session
from mpc_appraisal.mpc.net.tls import TlsLink


def way(where: str, trial, role: str) -> RelayWay:
    return RelayWay(where, role, trial / role / "ca.pem")


def pair(where: str, trial) -> tuple[socket.socket, socket.socket]:
    """Return two plain sockets that the relay has linked: that of the dealer, which has dialled, and the other end."""
    seat = way(where, trial, DATA_OWNER).source()
    found: list[socket.socket] = []

    def listen() -> None:
        while not found:
            try:
                found.append(seat.accept())
            except TimeoutError:
                continue

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    dealer = way(where, trial, DEALER).open(DATA_OWNER, time.monotonic() + 100, 50.0)
    thread.join(600)
    dealer.settimeout(600)
    found[0].settimeout(600)
    return dealer, found[0]


def close(links: dict[str, TlsLink]) -> None:
    for link in links.values():
        link.close()


def test_a_session_beyond_the_limit_is_told_so_and_the_first_goes_on(processes, trial):
    started, where = relay(processes, "sessions=1")
    links = met(f"{where}/first", trial)
    try:
        words = r"the relay at .* refused this party: it serves 1 sessions already, its limit \(sessions=1\)"
        with pytest.raises(PeerError, match=words):
            TlsLink(DATA_OWNER, None, 60.0, str(trial), relay=f"{where}/second")
        owner = TlsLink(MODEL_OWNER, None, 60.0, str(trial), relay=f"{where}/second")
        with pytest.raises(PeerError, match=words):
            owner.announce()
        owner.close()
        links[DEALER].send(DATA_OWNER, torch.ones(3, dtype=torch.int64))
        assert links[DATA_OWNER].receive(DEALER, (3,), torch.int64, 60.0).tolist() == [1, 1, 1]
    finally:
        close(links)
    assert digest_of(session_token(trial / DEALER / "ca.pem", "second")) in started.err


def test_who_waits_for_too_long_is_told_for_whom(processes, trial):
    _, where = relay(processes, "wait_s=1")
    with pytest.raises(PeerError, match=r"nobody took the seat of model_owner within 1 s, its limit \(wait_s=1\)"):
        TlsLink(DATA_OWNER, None, 600.0, str(trial), relay=where)
    owner = TlsLink(MODEL_OWNER, None, 600.0, str(trial), relay=where)
    with pytest.raises(PeerError, match=r"nobody came to the seat of model_owner within 1 s, its limit \(wait_s=1\)"):
        owner.announce()
    owner.close()


def test_a_session_that_sends_too_much_is_ended_and_all_parties_are_told_why(processes, trial):
    _, where = relay(processes, "session_mb=1")
    links = met(where, trial)
    try:
        links[DEALER].send(MODEL_OWNER, torch.zeros(1 << 20, dtype=torch.int64))
        words = r"ended the session: it has sent more than 1 MB, its limit \(session_mb=1\)"
        with pytest.raises(PeerError, match=words):
            links[MODEL_OWNER].receive(DEALER, (1 << 20,), torch.int64, 60.0)
        for role in (DATA_OWNER, DEALER):
            with pytest.raises(PeerError, match=words):
                links[role].receive(MODEL_OWNER, (1,), torch.int64, 60.0)
    finally:
        close(links)


def test_a_link_that_carries_nothing_is_ended_and_only_its_own_session_is_told(processes, trial):
    _, where = relay(processes, "idle_s=1")
    for sock in pair(f"{where}/idle", trial):
        with suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        sock.close()
    assert "a link carried nothing for 1 s, its limit (idle_s=1)" in way(f"{where}/idle", trial, DEALER).why()
    assert way(f"{where}/other", trial, DEALER).why() == ""


class End:
    """One end of a link, as far as a relay looks at it for its limits."""

    def __init__(self, heard: float):
        self.heard, self.came, self.flow, self.ended, self.transport = heard, heard, True, False, self
        self.greeting = Greeting(LISTEN, "0" * 64, MODEL_OWNER, MODEL_OWNER)

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended


def test_an_idle_link_ends_alone():
    async def ended() -> list[bool]:
        now, said = asyncio.get_running_loop().time(), []
        served = Relay(Limits(idle_s=100.0), said.append)
        ends = [End(now - seconds) for seconds in (0, 150, 120, 130)]  # the first pair is heard from at one end
        for k, one in enumerate(ends):
            one.other = ends[k ^ 1]
        served._sessions["0" * 64] = Session("a session", connections=set(ends))
        served.look()
        (line,) = said
        assert line.endswith("the relay ends a link: a link carried nothing for 100 s, its limit (idle_s=100)")
        return [one.ended for one in ends]

    assert asyncio.run(ended()) == [False, False, True, True]


def test_sessions_on_one_relay_do_not_meet(processes, trial, tmp_path):
    _, where = relay(processes)
    make_trial(tmp_path / "others")
    places = {"a": (f"{where}/a", trial), "b": (f"{where}/b", trial), "c": (f"{where}/a", tmp_path / "others")}
    sessions = {name: met(*place) for name, place in places.items()}
    for name, links in sessions.items():
        for role, link in links.items():
            link.send(*((DATA_OWNER, torch.tensor([ord(name)]))) if role == DEALER else (DEALER, torch.tensor([1])))
    for name, links in sessions.items():
        assert links[DATA_OWNER].receive(DEALER, (1,), torch.int64, 60.0).item() == ord(name)
        close(links)


def test_the_oldest_connections_of_a_seat_are_taken_first_and_further_ones_are_refused(processes, trial):
    _, where = relay(processes)
    waiting = [way(where, trial, MODEL_OWNER).ask(LISTEN, MODEL_OWNER, 60.0) for _ in range(WAITING)]
    for each in waiting:
        assert each.line(60.0) == b"wait"
    one = way(where, trial, MODEL_OWNER)
    assert [each.line(0.01) for each in waiting] == [None] * WAITING
    with pytest.raises(ConnectionRefusedError, match="too many connections of this session are open"):
        one.answer(one.ask(LISTEN, MODEL_OWNER, 60.0), 60.0)
    dialled = way(where, trial, DEALER).open(MODEL_OWNER, time.monotonic() + 60, 30.0)
    assert waiting[0].line(60.0) == b"met -"
    dialled.sendall(b"hello")
    waiting[0].sock.settimeout(60)
    assert waiting[0].sock.recv(5) == b"hello"
    assert WAITING < CONNECTIONS
    for each in (*(each.sock for each in waiting), dialled):
        each.close()


def test_a_second_connection_meets_the_party_of_the_first(processes, trial):
    _, where = relay(processes)
    dealer, listener = way(where, trial, DEALER), way(where, trial, MODEL_OWNER)
    first, other = (listener.ask(LISTEN, MODEL_OWNER, 60.0, name * 16) for name in "ab")
    assert first.line(60.0) == other.line(60.0) == b"wait"
    socks = [dealer.open(MODEL_OWNER, time.monotonic() + 60, 30.0)]
    assert first.line(60.0) == b"met -"
    with pytest.raises(TimeoutError):  # the first one does not listen any more
        dealer.open(MODEL_OWNER, time.monotonic() + 0.5, 0.5, again=True)
    second = listener.ask(LISTEN, MODEL_OWNER, 60.0, "a" * 16)
    assert second.line(60.0) == b"wait"
    socks.append(dealer.open(MODEL_OWNER, time.monotonic() + 60, 30.0, again=True))
    assert second.line(60.0) == b"met " + b"a" * 16 and other.line(0.1) is None
    for one in (*socks, first.sock, second.sock, other.sock):
        one.close()


def foreign(where: str, trial, folder) -> Listener:
    """Return a stranger that knows the token, has taken the model owner's seat, and shows another's certificate."""
    make_trial(folder)
    seat = way(where, trial, MODEL_OWNER).source()
    return Listener(CertificateFiles.of(folder, MODEL_OWNER), seat, lambda role: None, lambda *_: None)


def test_a_stranger_in_a_seat_is_named_and_the_true_party_is_met_after_it(processes, trial, tmp_path):
    started, where = relay(processes)
    stranger = foreign(where, trial, tmp_path / "foreign")
    try:
        started.until("begins with model_owner")
        for seconds in (2.0, 20.0, 200.0):  # the first may be too short where the machine stands still
            with pytest.raises(PeerError) as found:
                TlsLink(DATA_OWNER, None, seconds, str(trial), relay=where)
            if "whoever took the seat" in str(found.value):
                break
        assert re.match("whoever took the seat of model_owner at the relay .* is not model_owner: ", str(found.value))
        late = foreign(where, trial, tmp_path / "late")  # a second stranger
        idle = way(where, trial, DEALER).open(MODEL_OWNER, time.monotonic() + 60, 30.0)  # it says nothing
        close(met(where, trial))
        idle.close()
        late.close()
    finally:
        stranger.close()


def test_a_party_that_waits_at_a_seat_hears_that_another_has_stopped(processes, trial):
    started, where = relay(processes)
    links = {MODEL_OWNER: TlsLink(MODEL_OWNER, None, 600.0, str(trial), relay=where)}
    links[DATA_OWNER] = TlsLink(DATA_OWNER, None, 600.0, str(trial), relay=where)
    links[DATA_OWNER]._listener.close()  # the dealer will wait at an empty seat
    links[DEALER] = TlsLink(DEALER, None, 600.0, str(trial), relay=where)
    stop = threading.Timer(0.5, lambda: links[MODEL_OWNER].abort("its input is bad"))
    stop.start()
    with pytest.raises(PeerError, match="model_owner stopped: its input is bad"):
        links[DEALER].announce()
    stop.join()
    close(links)


def test_a_newcomer_that_is_no_party_is_turned_away(processes):
    started, where = relay(processes)
    host, _, port = where.rpartition(":")
    for said in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * LINE_BYTES,
        b"mpc-appraisal-relay 2 listen\n",
        b"\x16\x03\x01\n",
    ):
        with socket.create_connection((host, int(port)), 60) as sock:
            sock.sendall(said)
            assert sock.recv(100).startswith(b"refused other the first line is none of a party")
    assert started.err.count("said nothing that a party says") == 4


def test_a_party_that_finds_another_server_is_told_what_answers(trial):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:

        def serve() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                with sock:
                    sock.recv(1000)
                    sock.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(PeerError, match="does not answer as a relay: what listens there answers with .*HTTP"):
            TlsLink(DATA_OWNER, None, 60.0, str(trial), relay=f"127.0.0.1:{port}")


def test_who_never_comes_is_named_with_what_must_be_alike(processes, trial):
    _, where = relay(processes)
    with pytest.raises(PeerError, match="model_owner did not come to the relay at .* within 1 s; .*certificates"):
        TlsLink(DEALER, None, 1.0, str(trial), relay=where)
    owner = TlsLink(MODEL_OWNER, None, 1.0, str(trial), relay=where)
    with pytest.raises(PeerError, match="data_owner and dealer did not come to the relay .* within 1 s.*certificates"):
        owner.announce()
    owner.close()


def test_a_receiver_that_does_not_read_holds_up_the_sender(processes, trial):
    _, where = relay(processes)
    dealer, owner = pair(where, trial)
    sent, block = 0, bytes(range(256)) * 4096
    dealer.setblocking(False)
    while select.select([], [dealer], [], 3.0)[1] and sent < 200 << 20:
        sent += dealer.send(block[sent % len(block) :])
    assert sent < 100 << 20  # the kernels' buffers and the relay's
    dealer.shutdown(socket.SHUT_WR)
    got = bytearray()
    while data := owner.recv(1 << 20):
        got += data
    assert len(got) == sent and bytes(got) == (block * (sent // len(block) + 1))[:sent]
    dealer.close()
    owner.close()


def test_a_delay_and_a_bandwidth_are_there(processes, trial):
    _, where = relay(processes, "delay_ms=150", "mbit=8")
    dealer, owner = pair(where, trial)
    for source, sink in ((dealer, owner), (owner, dealer)):
        began = time.monotonic()
        source.sendall(b"x")
        assert sink.recv(1) == b"x" and time.monotonic() - began >= 0.15
    sent, got = bytes(range(256)) * 2000, bytearray()
    began = time.monotonic()
    threading.Thread(target=lambda: (dealer.sendall(sent), dealer.shutdown(socket.SHUT_WR)), daemon=True).start()
    while data := owner.recv(1 << 20):
        got += data
    assert bytes(got) == sent and time.monotonic() - began >= 0.15 + 8 * len(sent) / 8e6
    dealer.close()
    owner.close()


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("a.example:1", ("a.example", 1, "")),
        ("[::1]:2/x.y", ("::1", 2, "x.y")),
        ("10.0.0.1:65535", ("10.0.0.1", 65535, "")),
    ],
)
def test_addresses_of_relays(stated, found):
    assert parse_relay(stated) == found


@pytest.mark.parametrize(
    "stated", ["", "host", ":1", "host:", "host:0", "host:65536", "host:1/", "host:1/ä", "a@b:1", None, 5]
)
def test_what_is_no_address_of_a_relay_is_refused(stated):
    with pytest.raises(InputError, match="^session.relay: got .*HOST:PORT/NAME"):
        parse_relay(stated)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sessions", 0),
        ("sessions", 1.5),
        ("wait_s", 0),
        ("idle_s", float("nan")),
        ("session_mb", 0),
        ("mbit", -1),
        ("delay_ms", -1),
    ],
)
def test_limits_that_are_none_are_refused_by_name(key, value):
    with pytest.raises(InputError, match=f"^{key}: got "):
        Limits(**{key: value})
