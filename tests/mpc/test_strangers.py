"""Strangers that listen where a party should, or connect to one: the handshake ends in time and describes them."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROOT, free_port, stretched

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.mpc.net.rendezvous import parse_address
from mpc_appraisal.mpc.net.strangers import cannot_listen
from mpc_appraisal.mpc.net.transport import Transport
from mpc_appraisal.mpc.net.ways import bind

SECONDS = 2.0  # session.join_timeout
MORE = 3.0  # seconds beyond it on an idle machine, for finding out who answers and for ending


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run a server at a free port of loopback; `serve` gets each connection in a thread. Yields the port."""
    server, met = socket.create_server(("127.0.0.1", 0)), []

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = server.accept()
                met.append(sock)
                threading.Thread(target=guarded, args=(sock,), daemon=True).start()

    def guarded(sock: socket.socket) -> None:
        with suppress(OSError):
            serve(sock)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()
        for sock in met:
            sock.close()


def drip(sock: socket.socket) -> None:
    """Send a byte every 0.3 s."""
    for byte in b"\x07\x00\x00\x00" * 100:
        sock.sendall(bytes([byte]))
        time.sleep(0.3)


def web(sock: socket.socket) -> None:
    if sock.recv(1000):
        sock.sendall(b"HTTP/1.0 400 Bad Request\r\nServer: \x1b[2Jone\r\n\r\n")
    sock.close()


def mail(sock: socket.socket) -> None:
    sock.sendall(b"220 mail.example ESMTP \x1b]0;owned\x07\r\n")
    time.sleep(20)


KINDS: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "silent": (lambda sock: time.sleep(20), "says nothing"),
    "closes at once": (lambda sock: sock.close(), "closes the connection without a word"),
    "http": (web, "'HTTP/1.0 400 Bad Request': an HTTP server"),
    "line-based": (mail, "answers with the bytes 323230206d61696c"),
    "garbage": (lambda sock: sock.sendall(bytes(range(200, 256)) * 99), "answers with the bytes c8c9"),
    "drips": (drip, "answers with the bytes 07"),
}


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls") / "trial"
    make_trial(folder)
    return str(folder)


def meet(transport: Transport, role: str, address: str | None) -> tuple[str, float]:
    """Let a party wait for SECONDS. Returns its error, and the seconds until it has raised it and left."""
    start, party = time.monotonic(), None
    with pytest.raises(PeerError) as error:
        try:
            party = transport.connect(role, address, SECONDS)
            party.announce()
        finally:
            if party is not None:
                party.abort("it waited in vain")
                party.close()
    return str(error.value), time.monotonic() - start


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_whatever_listens_at_the_rendezvous_is_named_in_time(kind, transport, trial):
    serve, words = KINDS[kind]
    with listening(serve) as port:
        found, seconds = meet(Transport(transport, trial), DEALER, f"tcp://127.0.0.1:{port}")
    assert "model_owner did not come" in found and f"127.0.0.1:{port} " in found and found.isprintable(), found
    assert words in found and "it is not the model_owner" in found.replace("the model owner", "the model_owner"), found
    assert seconds < stretched(SECONDS + MORE)


def test_a_tls_server_of_somebody_else_is_named(trial, tmp_path):
    make_trial(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates = tmp_path / "other" / MODEL_OWNER
    context.load_cert_chain(certificates / f"{MODEL_OWNER}.pem", certificates / f"{MODEL_OWNER}.key")
    with listening(lambda sock: context.wrap_socket(sock, server_side=True).recv(10)) as port:
        clear, first = meet(Transport("tcp"), DATA_OWNER, f"tcp://127.0.0.1:{port}")
        tls, second = meet(Transport("tls", trial), DATA_OWNER, f"tcp://127.0.0.1:{port}")
    assert "answers as a TLS server does" in clear and "is not model_owner: " in tls
    assert max(first, second) < stretched(SECONDS + MORE)


def test_torchruns_store_too(monkeypatch):
    with listening(KINDS["silent"][0]) as port:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        found, seconds = meet(Transport("gloo"), DEALER, None)
    assert f"127.0.0.1:{port} says nothing" in found and seconds < stretched(SECONDS + MORE)


@pytest.mark.parametrize("transport, kind", [("tcp", "http"), ("tcp", "silent"), ("gloo", "silent"), ("tls", "http")])
def test_a_port_that_is_taken_is_named_with_the_key_to_change(transport, kind, trial):
    serve, words = KINDS[kind]
    with listening(serve) as port, pytest.raises(InputError) as error:
        Transport(transport, trial).connect(MODEL_OWNER, f"tcp://127.0.0.1:{port}", SECONDS)
    where = f"tcp://127.0.0.1:{port}, where another process listens already and "
    assert error.value.name == "session.rendezvous" and error.value.value.startswith(where)
    assert words in error.value.value and str(error.value).isprintable()
    assert "change session.rendezvous, at every party alike" in error.value.expected
    assert "useIpv6" not in str(error.value)


def test_a_port_that_torchrun_states_is_named_by_its_own_key(monkeypatch):
    with listening(KINDS["silent"][0]) as port:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(InputError, match="MASTER_PORT: got .* another process listens already .* change the env"):
            Transport("gloo").connect(MODEL_OWNER, None, SECONDS)


def test_the_data_owners_own_address_that_is_taken_is_named_by_its_key():
    with listening(KINDS["silent"][0]) as port, pytest.raises(InputError) as error:
        bind("127.0.0.1", port, "session.data_owner_address")
    assert "another process listens already" in error.value.value
    assert error.value.expected.endswith("end that process, or change session.data_owner_address")


def test_an_address_that_is_not_free_for_another_reason_says_that_reason():
    torchs = "The server socket has failed to listen. port: 80, code: -13, name: EACCES, message: permission denied"
    for failure, reason in (
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (RuntimeError(torchs), "permission denied"),
        (RuntimeError("one line\nand more"), "one line"),
        (TimeoutError(), "it did not answer in time"),
    ):
        error = cannot_listen("session.rendezvous", "tcp://127.0.0.1:80", "127.0.0.1", 80, failure)
        assert str(error).endswith(f"expected an address of this machine to listen on ({reason})")


def test_nobody_is_still_nobody():
    found, seconds = meet(Transport("tcp"), DEALER, f"tcp://127.0.0.1:{free_port()}")
    assert "nobody listened" in found and seconds < stretched(SECONDS + MORE)


def knock(port: int, ended: threading.Event) -> None:
    """Connect strangers of all kinds until `ended` is set, more than are greeted at the same time."""
    held = []
    while not ended.is_set():
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(300), b"\x16\x03\x01\x02\x00"):
            with suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", port), 1))
                held[-1].sendall(said)
        while len(held) > 120:
            held.pop(0).close()
        ended.wait(0.05)
    for sock in held:
        sock.close()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_strangers_do_not_use_up_the_meeting(transport, trial):
    """Each party is a process, and strangers connect to the model owner's port all the time."""
    port, ended = free_port(), threading.Event()
    script = (
        "import sys; from mpc_appraisal.mpc.net.transport import Transport\n"
        "role, port, kind, folder = sys.argv[1:]\n"
        "party = Transport(kind, folder).connect(role, f'tcp://127.0.0.1:{port}', 60)\n"
        "party.announce(); print(sorted(party.exchange('done', {}))); party.close(5)\n"
    )
    command = [sys.executable, "-c", script]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    started = {}
    try:
        for role in (MODEL_OWNER, DATA_OWNER, DEALER):
            started[role] = subprocess.Popen(
                [*command, role, str(port), transport, trial], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
            )
            if role == MODEL_OWNER:
                threading.Thread(target=knock, args=(port, ended), daemon=True).start()
        said = {role: process.communicate(timeout=600) for role, process in started.items()}
    finally:
        ended.set()
        for process in started.values():
            process.kill()
    expected = f"{sorted([MODEL_OWNER, DATA_OWNER, DEALER])}\n".encode()
    assert {role: out for role, (out, _) in said.items()} == dict.fromkeys(said, expected), said


def test_silent_connections_do_not_hold_up_the_heartbeats():
    """At the port of a party over the transports in the clear, heartbeats continue while strangers are silent."""
    from mpc_appraisal.mpc.net.heartbeat import Heartbeats

    lost, ticks = [], []
    heartbeats = Heartbeats(DATA_OWNER, "127.0.0.1", 10.0, lost.append, lambda: ticks.append(time.monotonic()))
    held = []
    try:
        contact = heartbeats.contact()
        start = time.monotonic()
        for _ in range(20):
            held.append(socket.create_connection((contact["host"], contact["port"]), 2))
        sock = socket.create_connection((contact["host"], contact["port"]), 2)
        sock.sendall(bytes.fromhex(contact["token"]) + bytes([2, 0]))
        held.append(sock)
        while DEALER not in heartbeats.connections:
            assert time.monotonic() - start < stretched(5), "the dealer waits behind strangers"
            time.sleep(0.02)
    finally:
        heartbeats.close()
        for sock in held:
            sock.close()
    assert not lost and max(b - a for a, b in zip(ticks, ticks[1:], strict=False)) < stretched(1.0)


@pytest.mark.parametrize(
    "address", ["tcp://[::1", "tcp://h:99999", "http://h:1", "tcp://h", "tcp://:5", "", None, "tcp://h:x"]
)
def test_an_address_that_is_none_is_refused_by_name(address):
    with pytest.raises(InputError, match="session.rendezvous"):
        parse_address(address)
