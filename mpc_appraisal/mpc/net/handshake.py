"""How two parties connect over TLS: one listens, and the other dials twice, because each direction has a connection.

`Listener` waits for parties at an address; `dial` connects to a party. Both give an `Incoming` and an `Outgoing` stream
for the peer, which is the party at the other end. A peer is whoever its certificate names, and its greeting must claim
the same role. The greeting is a JSON message with the keys role, use (send or receive), instance (the same on both
connections of one party) and address (where the dealer reaches the data owner). A newcomer is whoever has connected and
is not yet known to be a party. The listener drops newcomers that are no party and goes on waiting: a thread of its own
greets each newcomer, for a few seconds at most.

The times and GREETERS may change. The order has to stay: certificate, then greeting, then the grant of the role, and
nothing else is read from a newcomer before the grant.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cryptography import x509

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.certificates import CertificateFiles, certified_role, key_digest
from mpc_appraisal.mpc.net.frames import FrameError, Kind
from mpc_appraisal.mpc.net.message_schemas import parse, printable
from mpc_appraisal.mpc.net.relay.client import RelaySeat, RelayWay
from mpc_appraisal.mpc.net.stream import GONE, Incoming, Outgoing, Woken
from mpc_appraisal.mpc.net.ways import BoundSocket, StraightWay

HANDSHAKE_SECONDS = 5.0
GREETERS = 32  # newcomers that are greeted at once; one more replaces the one that has been silent longest
HELLO_BYTES = 4096
RETRY_SECONDS = 0.1
LEAST_SECONDS = 0.5  # a handshake gets this time even if it begins just before the deadline
USES = ("send", "receive")  # what the party that dials does with a connection

Hello = dict[str, Any]
Claim = Callable[[str], str | None]  # takes a role; returns why its claim is refused, or None where it is granted
Joined = Callable[[str, Incoming, Outgoing, Hello], None]


def _shake_hands(sock: ssl.SSLSocket, deadline: float) -> None:
    """Do the TLS handshake. Raises TimeoutError at the deadline (monotonic clock), however slowly bytes arrive."""
    sock.setblocking(False)
    while True:
        try:
            return sock.do_handshake()
        except ssl.SSLWantReadError:
            wanted = select.POLLIN
        except ssl.SSLWantWriteError:
            wanted = select.POLLOUT
        poll = select.poll()
        poll.register(sock, wanted)
        if time.monotonic() > deadline or not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError


def _without_delay(raw: socket.socket) -> socket.socket:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


class Listener:
    """A socket and its threads, which wait for parties at an address until `close`.

    Args:
        certificates: This party's certificate files.
        source: What connections are taken from: a `BoundSocket`, or a seat at a relay (`RelaySeat`).
        claim: A function that grants or refuses the role of a party whose two connections have come (see `Claim`).
        joined: A function that is called with the role, both streams and the greeting of an admitted party.

    Attributes:
        port: The port at which others reach this party.
        refused: The PeerError by which a relay refuses this party, or None.
    """

    def __init__(self, certificates: CertificateFiles, source: BoundSocket | RelaySeat, claim: Claim, joined: Joined):
        self._claim, self._joined, self._context = claim, joined, certificates.context(server=True)
        self._source, self.port = source, source.port
        self.refused: PeerError | None = None
        self.turned_away: list[str] = []  # why the last three newcomers were turned away
        self._halves: dict[tuple[str, str], dict[str, Incoming | Outgoing]] = {}
        self._lock, self._closed = threading.Lock(), False
        self._greeted: list[socket.socket] = []  # newcomers that have not sent a greeting yet, the oldest first
        threading.Thread(target=self._listen, daemon=True, name="listener").start()

    def _listen(self) -> None:
        while not self._closed:
            try:
                raw = self._source.accept()
            except TimeoutError:
                continue
            except PeerError as error:
                self.refused = error
                return
            except OSError:
                if self._closed:
                    return
                time.sleep(RETRY_SECONDS)  # there are too many open files, or the connection was already gone
                continue
            with self._lock:
                self._greeted.append(raw)
                oldest = self._greeted.pop(0) if len(self._greeted) > GREETERS else None
                if oldest is not None:
                    with suppress(OSError):  # this ends the greeter that waits for it
                        socket.socket.shutdown(oldest, socket.SHUT_RDWR)
            threading.Thread(target=self._greet, args=(raw,), daemon=True, name="greeter").start()

    def _greet(self, raw: socket.socket) -> None:
        sock, kept = None, False
        try:
            deadline = time.monotonic() + HANDSHAKE_SECONDS
            sock = self._context.wrap_socket(_without_delay(raw), server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._greeted = [sock if each is raw else each for each in self._greeted]
            _shake_hands(sock, deadline)
            kept = self._admit(sock, deadline)
        except ssl.SSLCertVerificationError as error:
            self._turn_away(f"a newcomer showed a certificate that is refused: {error.verify_message}")
        except PermissionError as error:
            self._turn_away(f"a newcomer refused this party: {error}")
        except (*GONE, EOFError, TimeoutError, Woken, TypeError) as error:
            self._turn_away(f"a newcomer was no party: {getattr(error, 'reason', None) or error or 'it kept silent'}")
        finally:
            with self._lock:
                self._greeted = [each for each in self._greeted if each is not raw and each is not sock]
            if not kept:
                _hang_up(sock or raw)

    def _admit(self, sock: ssl.SSLSocket, deadline: float) -> bool:
        """Read a newcomer's greeting, grant or refuse its role, and return whether the connection is kept."""
        role, key = certified_role(sock), _shown_key(sock)
        incoming, outgoing = Incoming(sock, key), Outgoing(sock, key)
        hello = read_hello(incoming, deadline)
        claimed, use, instance = hello.get("role"), hello.get("use"), str(hello.get("instance"))
        if use not in USES:
            raise FrameError("sent no greeting")
        if claimed != role:
            refusal = f"a certificate for {role!r} and claimed to be {claimed!r:.40}; expected the same role"
            outgoing.send(Kind.ABORT, f"it showed {refusal}".encode())
            self._turn_away(f"a newcomer showed {refusal}")
            return False
        with self._lock:
            halves = self._halves.setdefault((role, instance), {})
            halves[use] = incoming if use == "send" else outgoing
            refusal, complete = (
                None,
                len(halves) == len(USES),
            )  # decided under the lock, so that one greeter alone sees both
            if complete:
                del self._halves[role, instance]
                two = _two_keys(halves)
                refusal = f"it shows {two}" if two else self._claim(role)
        if refusal:
            outgoing.send(Kind.ABORT, refusal.encode())
            return False
        outgoing.send(Kind.MESSAGE, b"{}")
        if complete:
            halves["receive"].start()
            self._joined(role, halves["send"], halves["receive"], hello)
        return True

    def _turn_away(self, why: str) -> None:
        self.turned_away = [*self.turned_away[-2:], shown(why, 200)]

    def reasons(self) -> str:
        """Return why newcomers were turned away, and what is wrong with a relay, to be put after a message."""
        trouble = [self._source.trouble] if self._source.trouble else []
        return "".join(f"; {why}" for why in [*self.turned_away, *trouble])

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self._source.close()


def _hang_up(sock: socket.socket) -> None:
    """Close the connection after the last bytes have arrived, and discard what the other side still sends."""
    with suppress(*GONE):
        sock.settimeout(1.0)
        sock.shutdown(socket.SHUT_WR)
        until = time.monotonic() + 1.0
        while time.monotonic() < until and sock.recv(HELLO_BYTES):
            pass
    sock.close()


def read_hello(incoming: Incoming, deadline: float) -> Hello:
    """Return the greeting of a newcomer, or the answer to a greeting, which must come before the deadline.

    Raises:
        PermissionError: What came is a refusal.
        FrameError: What came is no greeting.
        TimeoutError: Nothing came in time.
    """
    header = incoming.header(deadline)
    text = incoming.text(HELLO_BYTES, HANDSHAKE_SECONDS, deadline)
    if header.kind == Kind.ABORT:
        raise PermissionError(printable(text))
    if header.kind != Kind.MESSAGE:
        raise FrameError("sent no greeting")
    try:
        return parse(text, "a newcomer", "hello")
    except PeerError as error:
        raise FrameError("sent no greeting") from error


def _shown_key(sock: ssl.SSLSocket) -> str:
    """Return the SHA-256 of the certificate key that the peer has shown, right after the handshake."""
    return key_digest(x509.load_der_x509_certificate(sock.getpeercert(True)))


def _two_keys(halves: dict[str, Incoming | Outgoing]) -> str | None:
    """Return what is wrong if the two connections of one party show different keys, or None if both show one key."""
    return (
        None
        if len({half.key for half in halves.values()}) == 1
        else "certificates of two keys on its two connections; expected one key"
    )


def dial(
    peer: str,
    address: str | StraightWay | RelayWay,
    role: str,
    certificates: CertificateFiles,
    timeout: float,
    address_for: Callable[[str], str | None],
) -> tuple[Incoming, Outgoing]:
    """Connect to `peer`, once for each direction, and return the two streams.

    Args:
        peer: The role of the party that listens.
        address: The 'tcp://host:port' at which it listens, or the way to it.
        role: The role of this party.
        certificates: This party's certificate files.
        timeout: The seconds for which connecting is tried again and again.
        address_for: A function from this party's own address on the way to the peer to the address that the peer is
            given, or None.

    Raises PeerError: Nobody listened, one of the two parties refuses the other, or a relay refuses this party.
    """
    way = StraightWay(address) if isinstance(address, str) else address
    context, instance = certificates.context(server=False), os.urandom(8).hex()
    deadline = time.monotonic() + timeout
    halves: dict[str, Incoming | Outgoing] = {}
    refusal: str | None = None
    while len(halves) < len(USES):
        use = USES[len(halves)]
        hello = {"role": role, "use": use, "instance": instance}
        try:
            halves[use] = _connect(context, way, peer, hello, address_for, deadline, bool(halves))
        except PermissionError as error:
            raise PeerError(f"{peer} refused this party: {error}") from error
        except (*GONE, EOFError, TimeoutError) as error:
            late = time.monotonic() > deadline
            refusal = _refusal(way, peer, error) or refusal
            if refusal is not None and (late or not way.several):
                raise PeerError(refusal) from error
            if late:
                raise PeerError(way.absent(peer, timeout, error, _reason(error))) from error
            time.sleep(RETRY_SECONDS)
    if (refusal := _two_keys(halves)) is not None:
        for half in halves.values():
            half.sock.close()
        raise PeerError(f"{peer} shows {refusal}")
    halves["send"].start()
    return halves["receive"], halves["send"]


def _reason(error: BaseException) -> str:
    """Return the reason that OpenSSL gives for an error, or an empty text."""
    return str(getattr(error, "reason", None) or getattr(error.__cause__, "reason", None) or "")


def _refusal(way: StraightWay | RelayWay, peer: str, error: BaseException) -> str | None:
    """Return what to say where one of the two sides refuses the other's certificate, or None for any other error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{way.stranger(peer)} is not {peer}: {shown(error.verify_message, 200)}"
    reason = _reason(error)
    if "ALERT" not in reason:
        return None
    alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
    return f"{peer if not way.several else way.stranger(peer)} refused this party's certificate: {alert}"


def _connect(
    context: ssl.SSLContext,
    way: StraightWay | RelayWay,
    peer: str,
    hello: Hello,
    address_for: Callable[[str], str | None],
    deadline: float,
    again: bool,
) -> Incoming | Outgoing:
    """Make one connection, and send the greeting `hello` with this party's address. Any error closes the socket.

    again: Whether it is the second connection to the same party.
    """
    patience = min(HANDSHAKE_SECONDS, max(deadline - time.monotonic(), LEAST_SECONDS))
    sock = way.open(peer, deadline, patience, again)
    try:
        sock = _without_delay(sock)
        hello = hello | {"address": address_for(sock.getsockname()[0])}
        sock = context.wrap_socket(sock, server_hostname=peer, do_handshake_on_connect=False)
        deadline = time.monotonic() + patience
        _shake_hands(sock, deadline)
        key = _shown_key(sock)
        incoming, outgoing = Incoming(sock, key), Outgoing(sock, key)
        outgoing.send(Kind.MESSAGE, json.dumps(hello).encode())
        read_hello(incoming, deadline)
    except BaseException:
        sock.close()
        raise
    return outgoing if hello["use"] == "send" else incoming
