"""Mutual TLS 1.3 between the parties, for parties of different organisations.

`TlsLink` is one party's connections to the others. It exchanges public JSON messages, as `Rendezvous` does over the
transports in the clear, and carries tensors and heartbeats. `TlsChannel` is the engine's channel over a link. The model
owner listens at the rendezvous. The data owner listens at an address that the model owner passes on to the dealer. Each
two parties are connected directly, or through a relay to which all of them dial out and which can read nothing.

A party whose connection ends without a goodbye is dead, and a party that gives no sign of life for `freeze` seconds is
frozen. A party that computes for long is neither, because a thread sends its heartbeats. The times and sizes may
change. Who listens and who dials, and the form of a message ('topic' and 'note'), have to stay at all parties.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time

import torch
from cryptography import x509

from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, rank_of
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.certificates import CertificateFiles, key_digest
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS, FailureDetector, stopped
from mpc_appraisal.mpc.net.frames import FrameError, Header, Kind, call_site, nbytes, view_of
from mpc_appraisal.mpc.net.handshake import Hello, Listener, dial
from mpc_appraisal.mpc.net.message_schemas import check, parse
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.relay.client import ALIKE, RelayWay
from mpc_appraisal.mpc.net.rendezvous import check_stated, parse_address
from mpc_appraisal.mpc.net.stream import Incoming, Outgoing, Peer, Woken
from mpc_appraisal.mpc.net.ways import BoundSocket, address_of
from mpc_appraisal.mpc.ring.buffers import empty

MESSAGE_BYTES = 16 << 20
ABORT_BYTES = 4096
WATCH_SECONDS = 0.1
FLUSH_SECONDS = 0.7  # the goodbye may take this time to reach the parties that are alive
POLL_SECONDS = 0.02


class TlsLink(FailureDetector):
    """The connections of one session, as one party sees them.

    Args:
        role: The role of this party.
        address: The 'tcp://host:port' at which the model owner listens.
        timeout: The seconds for which this party waits for the others to come.
        folder: The folder of this party's certificate files; see `CertificateFiles`.
        freeze: The seconds without a sign of life after which a party counts as lost.
        data_owner_address: The 'tcp://host:port' at which the dealer reaches the data owner. None takes the address
            that the data owner has on the way to the model owner, at a free port.
        roles: The roles that take part, in the order of their ranks.
        relay: The 'HOST:PORT' or 'HOST:PORT/NAME' of a relay, through which the parties meet in place of an address.

    Raises:
        InputError: The address or the certificate files are wrong, or this party cannot listen.
        PeerError: The model owner was not found, or one of the two parties refuses the other.
    """

    def __init__(
        self,
        role: str,
        address: str | None,
        timeout: float,
        folder: str | None,
        freeze: float = FREEZE_SECONDS,
        data_owner_address: str | None = None,
        roles: tuple[str, ...] = ROLES,
        relay: str | None = None,
    ):
        rank_of(role)
        check_stated(address, relay)
        super().__init__(freeze)
        self._certificates = CertificateFiles.of(folder, role)
        self._relay = None if relay is None else RelayWay(relay, role, self._certificates.authority)
        self.where = address if self._relay is None else self._relay.where
        if self._relay is not None:
            self._relay.check = self.check
        self.role, self.timeout, self.roles = role, float(timeout), roles
        self._own_address = data_owner_address
        self._peers: dict[str, Peer] = {}
        self._taken: set[str] = set()
        self._address_for_dealer: str | None = None  # at the model owner: where the dealer reaches the data owner
        self._topics: set[str] = set()
        self._last_words: str | None = None
        self._stop = threading.Event()
        self._listener: Listener | None = None
        self._monitor = threading.Thread(target=self._watch, daemon=True, name="monitor")
        self._monitor.start()
        if role == MODEL_OWNER:
            self._listen_at(*(parse_address(address) if relay is None else ("", 0)), "session.rendezvous")
            return
        try:
            self._connect(MODEL_OWNER, address, self.timeout)
        except BaseException:  # nobody will close this link, and whoever dials must not meet its listener any more
            self._stop.set()
            if self._listener is not None:
                self._listener.close()
            raise

    # -- connections -----------------------------------------------------------------------------------------------
    def _connect(self, peer: str, address: str, patience: float) -> None:
        pair = dial(peer, self._relay or address, self.role, self._certificates, patience, self._listen)
        self._add(peer, *pair, {})

    def _listen(self, host: str) -> str | None:
        """Listen for the dealer at the data owner and return the address; return None where no dealer comes."""
        if self.role != DATA_OWNER or DEALER not in self.roles:
            return None
        port, name = 0, "session.data_owner_address"
        if self._own_address is not None:
            host, port = parse_address(self._own_address, name)
        if self._listener is None:
            self._listen_at(host, port, name)
        return self._relay.address if self._relay else address_of(host, self._listener.port)

    def _listen_at(self, host: str, port: int, name: str) -> None:
        source = self._relay.source() if self._relay else BoundSocket(host, port, name)
        self._listener = Listener(self._certificates, source, self._claim, self._add)

    def _claim(self, role: str) -> str | None:
        """Grant `role` to a newcomer with its certificate, and return None, or return why the role is refused."""
        with self._lock:
            if role in self._taken or role == self.role:
                return f"two parties claim the role {role}"
            if role not in self.roles:
                return f"no {role} takes part in this session"
            if role == MODEL_OWNER:
                return f"{MODEL_OWNER} listens and does not dial"
            self._taken.add(role)
        return None

    def _add(self, role: str, incoming: Incoming, outgoing: Outgoing, hello: Hello) -> None:
        """Keep a connected party. The model owner sends the dealer the data owner's address once both have come."""
        incoming.wake_by(self.wake)
        incoming.heard = time.monotonic()
        with self._lock:
            self._peers[role] = Peer(role, incoming, outgoing)
            if role == DATA_OWNER:
                self._address_for_dealer = str(hello.get("address"))
            if self._last_words is not None:
                self._dismiss(self._peers[role], Kind.ABORT)
            elif self.role == MODEL_OWNER and DEALER in self.roles and len(self._peers) == len(self.roles) - 1:
                message = {"topic": "meet", "note": {"address": self._address_for_dealer}}
                self._peers[DEALER].outgoing.send(Kind.MESSAGE, json.dumps(message).encode(), site=call_site())

    def announce(self) -> None:
        """Wait until all parties are connected. Raises PeerError, which names a missing or duplicate party."""
        deadline = time.monotonic() + self.timeout
        if self.role == DEALER:
            try:
                address = self._message(self._peers[MODEL_OWNER], "meet", deadline)["address"]
            except TimeoutError:
                raise PeerError(f"{DATA_OWNER} did not come within {self.timeout:g} s") from None
            try:
                parse_address(address)
            except InputError:
                raise self._fail(PeerError(f"{DATA_OWNER} sent no address to reach it at: {shown(address)}")) from None
            self._connect(DATA_OWNER, str(address), max(deadline - time.monotonic(), POLL_SECONDS))
        while len(self._peers) < len(self.roles) - 1:
            self.check()
            if self._listener.refused is not None:
                raise self._listener.refused
            if time.monotonic() > deadline:
                missing = [role for role in self.roles if role != self.role and role not in self._peers]
                where = f"to {self.where} " if self._relay or self.role == MODEL_OWNER else ""
                alike = f"; {ALIKE}" if self._relay else ""
                raise PeerError(
                    f"{' and '.join(missing)} did not come {where}within {self.timeout:g} s"
                    f"{self._listener.reasons()}{alike}"
                )
            time.sleep(POLL_SECONDS)
        if self._relay is not None and self._listener is not None:
            self._listener.close()  # whoever is late finds an empty seat
        self.check()

    def certified(self, role: str) -> str | None:
        if role == self.role:
            return key_digest(x509.load_pem_x509_certificate(self._certificates.certificate.read_bytes()))
        return self._peers[role].incoming.key

    # -- losses ----------------------------------------------------------------------------------------------------
    def _peer_error(self, peer: Peer, error: Exception) -> PeerError:
        """Return the PeerError, with the party's name, for an error that reading from the party has raised."""
        if isinstance(error, EOFError):
            peer.lost = True
            error = PeerError(self._loss_of(peer))
        elif isinstance(error, FrameError):
            error = PeerError(f"{peer.role} {error}")
        error = self._error if isinstance(error, Woken) else self._fail(error)
        self._noticed.set()
        return error

    def _handle_control(self, peer: Peer, header: Header) -> None:
        """Handle a frame that is neither message nor tensor: a heartbeat, a goodbye, or the reason for stopping."""
        text = peer.incoming.text(ABORT_BYTES, 2.0)
        if header.kind == Kind.ABORT:
            peer.left = True
            self._fail(stopped(text))
        elif header.kind == Kind.BYE:
            peer.left = True

    def _watch(self) -> None:
        """Watch, in a thread, who closes its connection or falls silent while the main thread waits or computes."""
        while not self._stop.is_set():
            poll, peers = select.poll(), {}
            for peer in list(self._peers.values()):
                if not peer.incoming.ended:
                    peers[peer.incoming.sock.fileno()] = peer
                    poll.register(peer.incoming.sock, select.POLLRDHUP)
            hung = {descriptor for descriptor, _ in poll.poll(WATCH_SECONDS * 1000)}
            for descriptor, peer in peers.items():
                if peer.incoming.lock.acquire(blocking=False):
                    try:
                        self._read_ahead(peer, descriptor in hung)
                    finally:
                        peer.incoming.lock.release()
                elif descriptor in hung:
                    time.sleep(0.01)  # the main thread reads the rest
                self._check_alive(peer)
            self._interrupt_once()

    def _read_ahead(self, peer: Peer, hung: bool) -> None:
        """Read heartbeats and, if the peer has closed its connection (`hung`), everything that is left."""
        incoming = peer.incoming
        try:
            while (header := incoming.look()) is not None:
                if header.kind not in (Kind.MESSAGE, Kind.TENSOR):
                    self._handle_control(peer, header)
                elif not hung:
                    return
                elif header.kind == Kind.MESSAGE:
                    peer.inbox.append((header, incoming.text(MESSAGE_BYTES, 1.0)))
                else:
                    incoming.skip(1.0)
        except EOFError:
            if not peer.left:
                peer.lost = True
                self._fail(PeerError(self._loss_of(peer)))
        except FrameError as error:
            self._fail(PeerError(f"{peer.role} {error}"))
        except (TimeoutError, Woken):
            pass

    def _loss_of(self, peer: Peer) -> str:
        """Return how the party was lost, in words, with what the relay says of it if there is one."""
        if peer.left:
            return f"{peer.role} left before the end"
        if self._relay is None:
            return f"{peer.role} is gone: its process ended, or the network between us"
        return f"{peer.role} is gone: its process ended, or the relay or the network between us{self._relay.why()}"

    def _check_alive(self, peer: Peer) -> None:
        """Report the party as lost if it is silent for too long, or if nothing can be sent to it."""
        now, incoming, broken = time.monotonic(), peer.incoming, peer.outgoing.broken
        if peer.left or incoming.ended:
            return
        if incoming.held is None and now - incoming.heard > self.freeze:
            peer.lost = True
            held = ", which a relay that holds bytes back looks like too" if self._relay else ""
            self._fail(PeerError(f"{peer.role} stopped: no sign of life for {self.freeze:g} s{held}"))
        elif broken is not None and now - broken > 1.0:
            peer.lost = True
            self._fail(PeerError(self._loss_of(peer)))

    # -- tensors ---------------------------------------------------------------------------------------------------
    def send(self, to: str, tensor: torch.Tensor) -> None:
        """Send a contiguous tensor to the role `to`. It must not change any more, since it is not copied."""
        self.check()
        outgoing = self._peers[to].outgoing
        stop = (lambda: self._error is not None) if self.role == DEALER else None  # the dealer alone runs ahead
        outgoing.send(Kind.TENSOR, view_of(tensor), tensor.dtype, tensor.shape, call_site(), stop)

    def receive(self, source: str, shape: tuple[int, ...], dtype: torch.dtype, timeout: float) -> torch.Tensor:
        """Return the next tensor from the role `source`. Raises PeerError, with both lines of code if it is another."""
        peer = self._peers[source]
        self.check()
        try:
            with peer.incoming.lock:
                header = self._next(peer, time.monotonic() + timeout, spin=nbytes(shape, dtype) < 1 << 20)
                if header.kind != Kind.TENSOR or header.shape != shape or header.dtype != dtype:
                    expected = Header(Kind.TENSOR, dtype, shape, 0, 0, call_site())
                    raise PeerError(
                        f"the programs diverged: {source} sent {header.describe()}, expected {expected.describe()}"
                    )
                tensor = empty(shape, dtype)
                peer.incoming.payload(view_of(tensor), timeout)
                return tensor
        except TimeoutError as error:
            raise PeerError(f"{source} stopped answering: no message within {timeout:g} s") from error
        except (EOFError, FrameError, Woken) as error:
            raise self._peer_error(peer, error) from error

    def _next(self, peer: Peer, deadline: float | None, spin: bool = False) -> Header:
        """Return the header of the next message or tensor."""
        if peer.inbox:
            return peer.inbox[0][0]
        while (header := peer.incoming.header(deadline, spin)).kind not in (Kind.MESSAGE, Kind.TENSOR):
            self._handle_control(peer, header)
            self.check()
        return header

    # -- messages --------------------------------------------------------------------------------------------------
    def exchange(self, topic: str, message: dict) -> dict[str, dict]:
        """Send this party's message on `topic` to the others, and return the messages of all parties by role.

        Raises:
            AppraisalError: The messages on this topic were already exchanged.
            PeerError: A party aborted, died or froze, or is at another point of the program.
        """
        if topic in self._topics:
            raise AppraisalError(f"the messages on {topic!r} were already exchanged")
        self._topics.add(topic)
        self.check()
        text, messages = json.dumps({"topic": topic, "note": message}).encode(), {self.role: message}
        for peer in self._peers.values():
            peer.outgoing.send(Kind.MESSAGE, text, site=call_site())
        for peer in self._peers.values():
            messages[peer.role] = self._message(peer, topic, None)
        return messages

    def _message(self, peer: Peer, topic: str, deadline: float | None) -> dict:
        """Return the next message of the party, which must be on `topic`."""
        try:
            with peer.incoming.lock:
                header = self._next(peer, deadline)
                if header.kind != Kind.MESSAGE:
                    text = b"{}"
                else:
                    text = peer.inbox.popleft()[1] if peer.inbox else peer.incoming.text(MESSAGE_BYTES, self.freeze)
        except (EOFError, FrameError, Woken) as error:
            raise self._peer_error(peer, error) from error
        received = parse(text, peer.role, topic)
        if received.get("topic") != topic or not isinstance(received.get("note"), dict):
            raise PeerError(
                f"the programs diverged: {peer.role} sent {header.describe()}, expected a message on {topic!r} at "
                f"{call_site()}"
            )
        return check(received["note"], peer.role, topic)

    # -- the end ---------------------------------------------------------------------------------------------------
    def abort(self, message: str) -> None:
        """Tell the others why this party stops: the first loss, or else `message`, which must hold nothing private."""
        with self._lock:
            if self._last_words is None:
                self._last_words = self.reason() or f"{self.role} stopped: {message}"
                for peer in self._peers.values():
                    self._dismiss(peer, Kind.ABORT)

    def _dismiss(self, peer: Peer, kind: Kind) -> None:
        """Send the party a goodbye or the reason for stopping, as the last frame."""
        peer.outgoing.send(kind, (self._last_words or "").encode()[:ABORT_BYTES], site=call_site())
        peer.outgoing.finish()

    def close(self, linger: float = 0.0) -> None:
        """Leave in good order. After an abort the model owner waits for parties that have not heard of it yet."""
        deadline = time.monotonic() + linger
        if self.role == MODEL_OWNER and self._last_words is not None:
            while len(self._peers) < len(self.roles) - 1 and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        with self._lock:
            self._closed = True
            peers = list(self._peers.values())
        if self._last_words is None:
            for peer in peers:
                self._dismiss(peer, Kind.BYE)
        until = time.monotonic() + FLUSH_SECONDS
        for peer in peers:
            peer.outgoing.join(0.0 if peer.lost else until - time.monotonic())
        self._stop.set()
        self._monitor.join(2.0)
        if self._listener is not None:
            self._listener.close()
        for peer in peers:
            peer.incoming.sock.close()
        os.close(self.wake)
        os.close(self._waker)


class TlsChannel(Channel):
    """The engine's channel over a `TlsLink`; one tensor may take `timeout` seconds."""

    def __init__(self, link: TlsLink, meter: Meter, timeout: float):
        super().__init__(meter)
        self._link, self._timeout = link, timeout

    def _send(self, tensor, to):
        self._link.send(ROLES[to], tensor)

    def _receive(self, shape, source, dtype):
        return self._link.receive(ROLES[source], shape, dtype, self._timeout)

    def close(self):
        pass  # the link sends its goodbye only after everything that waits
