"""The relay that delays loopback: bytes pass unaltered and in order, in both directions, and it ends what it began."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from experiments.harness.relay import CHUNK, Relay
from experiments.rivals import any_build

PATIENCE = 60.0


def connected(relay: Relay, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Connect to the server through the relay, and return both ends."""
    here = socket.create_connection(relay.address, PATIENCE)
    host, port = server.getsockname()
    here.sendall(f"{host} {port}\n".encode())
    server.settimeout(PATIENCE)
    there, _ = server.accept()
    there.settimeout(PATIENCE)
    return here, there


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def send(sock: socket.socket, data: bytes, seed: int) -> None:
    """Send the bytes in pieces of many lengths, and end the sending."""
    draw, start = random.Random(seed), 0
    while start < len(data):
        length = draw.choice((1, 7, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 300_000))
        sock.sendall(data[start : start + length])
        start += length
    sock.shutdown(socket.SHUT_WR)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def test_bytes_pass_unaltered_and_in_order_in_both_directions_of_many_connections(server):
    draw, count = random.Random(0), 8
    sent = [[draw.randbytes(draw.choice((0, 1, 5_000, 700_000))) for _ in range(2)] for _ in range(count)]
    with Relay(delay=0.002, rate=2e9) as relay, ThreadPoolExecutor(4 * count) as pool:
        ends = [connected(relay, server) for _ in range(count)]
        for k, pair in enumerate(ends):
            for sock, data in zip(pair, sent[k], strict=True):
                pool.submit(send, sock, data, k)
        got = [[pool.submit(read_all, sock) for sock in pair] for pair in ends]
        for k, (back, forth) in enumerate(got):
            digests = [hashlib.sha256(data).hexdigest() for data in (forth.result(PATIENCE), back.result(PATIENCE))]
            assert digests == [hashlib.sha256(data).hexdigest() for data in sent[k]]
        assert relay.forwarded == sum(len(data) for pair in sent for data in pair)
        for pair in ends:
            for sock in pair:
                sock.close()


def test_an_answer_comes_back_while_the_connection_stays_open(server):
    with Relay(delay=0.001, rate=1e9) as relay:
        here, there = connected(relay, server)
        with here, there:
            for text in (b"one", b"two", b"three"):
                here.sendall(text)
                assert there.recv(100) == text
                there.sendall(text[::-1])
                assert here.recv(100) == text[::-1]
            here.shutdown(socket.SHUT_WR)  # one direction ends, the other goes on
            assert there.recv(100) == b""
            there.sendall(b"still here")
            assert here.recv(100) == b"still here"


def test_bytes_come_no_sooner_than_delay_and_rate_allow(server):
    """The relay may be late on a busy machine, but it is never early."""
    with Relay(delay=0.05, rate=8e6) as relay:
        here, there = connected(relay, server)
        with here, there:
            start = monotonic()
            here.sendall(bytes(200_000))
            here.shutdown(socket.SHUT_WR)
            assert len(read_all(there)) == 200_000 and monotonic() - start >= 0.05 + 0.2 - 0.005


def test_a_broken_side_breaks_the_other_and_leaving_ends_the_rest(server):
    with Relay(delay=0.0, rate=1e9) as relay:
        here, there = connected(relay, server)
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets the connection
        there.close()
        with here:  # it hears of it as an end or as a reset
            assert ended(here)
        left, right = connected(relay, server)
        idle = socket.create_connection(relay.address, PATIENCE)  # it never says whereto
    with left, right, idle:
        assert all(map(ended, (left, right, idle)))
    assert not [thread for thread in threading.enumerate() if thread.name == "relay"]
    with pytest.raises(OSError):
        socket.create_connection(relay.address, 5)


@pytest.mark.parametrize("line", [b"nowhere\n", b"127.0.0.1 port\n", b"127.0.0.1 1\n", b"a b c\n"])
def test_a_first_line_that_leads_nowhere_ends_the_connection(line):
    with Relay(delay=0.0, rate=1e9) as relay, socket.create_connection(relay.address, PATIENCE) as here:
        here.sendall(line)
        assert read_all(here) == b""


@pytest.mark.parametrize("bad", [{"delay": -1, "rate": 1}, {"delay": 0, "rate": 0}, {"delay": float("nan"), "rate": 1}])
def test_a_delay_or_a_rate_that_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match="expected a delay of 0 or more and a rate above 0"):
        Relay(**bad)


def test_a_party_connects_through_the_relay(server, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", socket.create_connection)  # put back afterwards
    with Relay(delay=0.0, rate=1e9) as relay:
        any_build.through(relay.address)
        with socket.create_connection(server.getsockname(), PATIENCE) as here:
            here.sendall(b"hello")
            there, peer = server.accept()
            with there:
                assert there.recv(100) == b"hello" and peer != here.getsockname()
        assert relay.forwarded == 5
