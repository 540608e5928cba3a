"""How the parties meet over the transports in the clear, and how they exchange public JSON messages.

The messages travel through torch's TCPStore (a table of keys and values), which the model owner hosts. They are
exchanged before anything is shared and after everything is opened: sizes, hashes of the public configuration, costs.
Nothing private may ever be sent this way. `Rendezvous` also makes the connections for tensors. Every error names the
party that is missing, killed or frozen, as the heartbeats report it. `tls.TlsLink` does the same over TLS.

The times below may change. The keys of the store ('line/ROLE', 'note/TOPIC/ROLE', 'taken/ROLE', 'left/ROLE' and
'abort') have to stay the same at all parties, and `launch` writes 'abort' too.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent import futures
from contextlib import suppress
from datetime import timedelta
from urllib.parse import urlparse

import torch.distributed as dist

from mpc_appraisal.common.environment import whole
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.common.roles import MODEL_OWNER, ROLES, rank_of
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS, BlockingCalls, FailureDetector, stopped
from mpc_appraisal.mpc.net.heartbeat import DATA, Heartbeats
from mpc_appraisal.mpc.net.message_schemas import LONGEST_MESSAGE, read
from mpc_appraisal.mpc.net.strangers import cannot_listen, who_answers

POLL_SECONDS = 0.02
RETRY_SECONDS = 0.2
CALL_SECONDS = 1.0  # a running store answers within this time, even on a busy machine
LAST_WORDS_SECONDS = 1.0  # the reason of a party that failed may arrive so long after its connection closed


def parse_address(rendezvous: str, name: str = "session.rendezvous") -> tuple[str, int]:
    """Return the host and the port of 'tcp://host:port'. Raises InputError, under this name, for anything else."""
    try:
        url = urlparse(str(rendezvous))
        scheme, host, port = url.scheme, url.hostname, url.port
    except ValueError:
        scheme, host, port = None, None, None
    if scheme != "tcp" or not host or not port:
        raise InputError(name, repr(rendezvous), "tcp://HOST:PORT, the same at every party")
    return host, port


def check_launched() -> None:
    """Raise InputError unless torchrun has stated an address, for a party that states none."""
    if not os.environ.get("MASTER_ADDR"):
        raise InputError("session.rendezvous", None, "tcp://HOST:PORT, or a launch through torchrun")


def check_stated(address: str | None, relay: str | None = None) -> None:
    """Raise InputError where neither an address nor a relay is stated, which tls needs under torchrun too, or both."""
    if address is None and relay is None:
        expected = "tcp://HOST:PORT with the transport tls, under torchrun too, or else session.relay=HOST:PORT"
        raise InputError("session.rendezvous", None, expected)
    if address is not None and relay is not None:
        raise InputError("session.rendezvous", repr(address), "no address beside session.relay: no party listens")


class Rendezvous(FailureDetector):
    """The messages and connections of one session, as one party sees them.

    Args:
        role: The role of this party.
        address: The 'tcp://host:port' at which the model owner hosts the store. With None the address comes from the
            environment of torchrun, whose agent may host the store.
        timeout: The seconds for which this party waits for the others to come.
        hosted: True if a launcher already hosts the store.
        freeze: The seconds without a sign of life after which a party counts as lost.
        roles: The roles that take part, in the order of their ranks.

    Raises:
        InputError: The address is no address, or the model owner cannot listen there.
        PeerError: The model owner was not found at the address.
    """

    def __init__(
        self,
        role: str,
        address: str | None,
        timeout: float,
        hosted: bool = False,
        freeze: float = FREEZE_SECONDS,
        roles: tuple[str, ...] = ROLES,
    ):
        super().__init__(freeze)
        self.role, self.timeout, self.roles = role, float(timeout), roles
        self._key = "session.rendezvous" if address is not None else "the environment's MASTER_PORT"
        if address is None:
            check_launched()
            host, port = os.environ["MASTER_ADDR"], whole("MASTER_PORT", None, 1, 65535)
            hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "False") == "True"
        else:
            host, port = parse_address(address)
        self.where, self._place = f"tcp://{host}:{port}", (host, port)
        self._host = role == MODEL_OWNER and not hosted
        self._until: float | None = time.monotonic() + self.timeout  # the deadline of calls before all have connected
        self.store = self._opened(host, port)
        if address is None:  # torchrun may restart its workers, so each attempt has its own messages
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            self.store = dist.PrefixStore(f"mpc_appraisal/{attempt}", self.store)
        self._topics: set[str] = set()
        self._blocking = BlockingCalls(self.check, self._look_for_abort)  # a frozen host must not hold up this party
        self._heartbeats = Heartbeats(role, host, self.freeze, self._fail, self._interrupt_once)
        self._peers = self._heartbeats.connections
        if role == MODEL_OWNER:  # it reads its files before it announces itself, which may take a while
            self.post_contact()

    def _opened(self, host: str, port: int) -> dist.TCPStore:
        """Return the store, which is hosted here or found at the address before the timeout.

        The store's constructor waits for ever for a listener that sends nothing, and cannot be interrupted, so a thread
        calls it.
        """
        while True:
            made: futures.Future = futures.Future()

            def make(made: futures.Future = made) -> None:
                patience = timedelta(seconds=max(self._until - time.monotonic(), POLL_SECONDS))
                try:
                    # It does not wait for workers: the parties announce themselves, so that a missing one can be named.
                    made.set_result(dist.TCPStore(host, port, None, self._host, patience, wait_for_workers=False))
                except Exception as error:
                    made.set_exception(error)

            threading.Thread(target=make, daemon=True, name="store").start()
            try:
                return made.result(max(self._until - time.monotonic(), 0.0) + POLL_SECONDS)
            except (RuntimeError, ValueError, TimeoutError, futures.TimeoutError) as error:
                if self._host:
                    raise cannot_listen(self._key, self.where, host, port, error) from error
                if time.monotonic() + RETRY_SECONDS > self._until:
                    raise self._nobody() from error
            time.sleep(RETRY_SECONDS)

    def _nobody(self) -> PeerError:
        """Return the error for a model owner that was not found at the address, with what listens there instead."""
        found = who_answers(*self._place)
        if found is None:
            return PeerError(f"{MODEL_OWNER} did not come: nobody listened at {self.where} within {self.timeout:g} s")
        place = ":".join(map(str, self._place))
        return PeerError(
            f"{MODEL_OWNER} did not come within {self.timeout:g} s: {place} {found}; it is not the model owner of an "
            "appraisal in the clear"
        )

    def post_contact(self) -> None:
        """Publish how the others can connect to this party."""
        self._call(lambda: self.store.set(f"line/{self.role}", json.dumps(self._heartbeats.contact())))

    def _look_for_abort(self) -> None:
        """Look whether a party has aborted, while this party computes."""
        with suppress(RuntimeError, ValueError):  # the host is gone, which its heartbeat reports
            if self.store.check(["abort"]):
                self._fail(stopped(self.store.get("abort")))

    def _call(self, f):
        """Return what `f`, a call to the store, returns. Raises PeerError if the store fails or is too late."""
        try:
            until = None if self._until is None else max(self._until, time.monotonic() + CALL_SECONDS)
            return self._blocking.call(f, until)
        except TimeoutError as error:
            failed = self._fail(self._nobody())
            self._noticed.set()
            raise failed from error
        except (RuntimeError, ValueError) as error:
            raise self._fail(PeerError(f"{MODEL_OWNER} is gone: the rendezvous at {self.where} closed")) from error

    # -- messages --------------------------------------------------------------------------------------------------
    def announce(self) -> None:
        """Claim the role and wait for the other parties. Raises PeerError, which names a missing or duplicate party."""
        deadline = time.monotonic() + self.timeout
        self._until = deadline
        if self._call(lambda: self.store.add(f"taken/{self.role}", 1)) > 1:
            message = f"two parties claim the role {self.role}"
            self._call(lambda: self.store.set("abort", message))
            raise PeerError(message)
        if self.role != MODEL_OWNER:
            self.post_contact()
        while True:
            self._raise_abort()
            for role in self.roles[: self.roles.index(self.role)]:  # parties of lower rank listen
                if role not in self._peers and self._call(lambda role=role: self.store.check([f"line/{role}"])):
                    left = max(deadline - time.monotonic(), POLL_SECONDS)
                    self._heartbeats.dial(role, self._contact_of(role), patience=left)
            missing = [role for role in self.roles if role != self.role and role not in self._peers]
            if not missing:
                self._until = None
                return
            if time.monotonic() > deadline:
                raise PeerError(f"{' and '.join(missing)} did not come to {self.where} within {self.timeout:g} s")
            time.sleep(POLL_SECONDS)

    def _contact_of(self, role: str) -> dict:
        return read(self._call(lambda: self.store.get(f"line/{role}")), role, "line")

    def _raise_abort(self) -> None:
        """Raise PeerError if a party was lost or has aborted."""
        self.check()
        if self._call(lambda: self.store.check(["abort"])):
            raise self._fail(stopped(self._call(lambda: self.store.get("abort"))))

    def abort(self, message: str) -> None:
        """Tell the others why this party stops: the first loss, or else `message`, which must hold nothing private."""
        if self._closed:
            return
        words = self.reason() or f"{self.role} stopped: {message}"
        with suppress(PeerError):  # parties that have not come yet find the reason in the store
            if not self._call(lambda: self.store.check(["abort"])):
                self._call(lambda: self.store.set("abort", words))
        self._heartbeats.leave(words)

    def exchange(self, topic: str, message: dict) -> dict[str, dict]:
        """Send this party's message to the others, and return the messages of all parties by role.

        All parties call this with the same topics in the same order.

        Raises:
            AppraisalError: The messages on this topic were already exchanged.
            PeerError: A party aborted, died, froze or left.
            InputError: This party's message is too long.
        """
        if topic in self._topics:
            raise AppraisalError(f"the messages on {topic!r} were already exchanged")
        self._topics.add(topic)
        text = json.dumps(message)
        if len(text) > LONGEST_MESSAGE:
            expected = f"at most {LONGEST_MESSAGE} bytes"
            raise InputError(f"this party's message on {topic}", f"{len(text)} bytes", expected)
        self._call(lambda: self.store.set(f"note/{topic}/{self.role}", text))
        messages = {self.role: message}
        while len(messages) < len(self.roles):
            for role in self.roles:
                key, left = f"note/{topic}/{role}", role in self._peers and self._peers[role].left
                if role not in messages and self._call(lambda key=key: self.store.check([key])):
                    messages[role] = read(self._call(lambda key=key: self.store.get(key)), role, topic)
                elif role not in messages:
                    self._raise_abort()
                    if left:
                        raise PeerError(f"{role} left before the end: it sent no message on {topic!r}")
            if len(messages) < len(self.roles):
                time.sleep(POLL_SECONDS)
        return messages

    # -- connections for tensors -----------------------------------------------------------------------------------
    def connections(self, timeout: float, roles: Sequence[str] | None = None) -> dict[int, socket.socket]:
        """Make a new connection with each of the others within `timeout` seconds, and return the sockets by rank.

        roles: The parties that connect, which all call this; None for all.

        Raises PeerError: A party does not connect in time, or was lost.
        """
        sockets: dict[int, socket.socket | None] = {}
        deadline, me = time.monotonic() + timeout, rank_of(self.role)
        for role in self.roles if roles is None else roles:
            rank = rank_of(role)
            if rank < me:
                sockets[rank] = self._heartbeats.dial(role, self._contact_of(role), DATA)
            while rank > me and (sock := self._heartbeats.taken(role)) is None:
                self.check()
                if time.monotonic() > deadline:
                    raise PeerError(f"{role} did not connect within {timeout:g} s")
                time.sleep(POLL_SECONDS / 10)
            if rank > me:
                sockets[rank] = sock
        return sockets

    # -- the end ---------------------------------------------------------------------------------------------------
    def lost(self, role: str) -> PeerError:
        """Return the error for a broken connection with `role`, after a moment's wait for the heartbeats' report."""
        until = time.monotonic() + LAST_WORDS_SECONDS
        while self._error is None and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        self._noticed.set()
        return self._error or self._fail(PeerError(f"lost {role}: its process ended or stopped answering"))

    def close(self, linger: float = 0.0) -> None:
        """Leave in good order.

        The host of the store stays for up to `linger` seconds, or for a moment after a loss, so that the others can
        still read their messages.
        """
        if self._closed:
            return
        if not self._host:
            with suppress(PeerError):  # the host has left already
                self._call(lambda: self.store.add(f"left/{self.role}", 1))
        with self._lock:
            self._closed = True
        self._heartbeats.leave("")
        patience = LAST_WORDS_SECONDS if any(peer.lost for peer in self._peers.values()) else linger
        until = time.monotonic() + (patience if self._host else 0.0)
        while time.monotonic() < until and any(self._awaited(role) for role in self.roles if role != self.role):
            time.sleep(POLL_SECONDS)
        self._heartbeats.close()
        self._blocking.end()
        os.close(self.wake)
        os.close(self._waker)

    def _awaited(self, role: str) -> bool:
        """Return whether the host must stay so that `role` can read its messages, or why the session ended."""
        peer = self._peers.get(role)
        return not (peer.left or peer.lost) if peer else self.store.add(f"left/{role}", 0) == 0
