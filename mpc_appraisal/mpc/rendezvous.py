"""Where the parties meet: small public notes (JSON), before anything is shared and after all is opened.

The notes travel through torch's TCPStore, in the clear: sizes, hashes of the public configuration, costs. Nothing
private is ever posted. Every wait has an end, and every error names the party that is missing, dead or disagreed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from urllib.parse import urlparse

import torch.distributed as dist

from mpc_appraisal.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.mpc.roles import MODEL_OWNER, ROLES

BEAT_SECONDS = 0.5
SILENCE_SECONDS = 6.0  # a party whose heart has not beaten for so long is taken for dead
POLL_SECONDS = 0.02


def parse_address(rendezvous: str) -> tuple[str, int]:
    """Host and port of 'tcp://host:port'; raises InputError for anything else."""
    url = urlparse(str(rendezvous))
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if url.scheme != "tcp" or not host or not port:
        raise InputError("session.rendezvous", repr(rendezvous), "tcp://HOST:PORT, the same at every party")
    return host, port


class Rendezvous:
    """The notes of one session, as one party sees them.

    Args:
        role: this party's role.
        address: 'tcp://host:port'; the model owner hosts it. None under torchrun, whose agent hosts the store.
        timeout: seconds to wait for the other parties to come.
        hosted: True if somebody else (a launcher) already hosts the store.
    """

    def __init__(self, role: str, address: str | None, timeout: float, hosted: bool = False):
        self.role, self.timeout = role, float(timeout)
        if address is None:
            if "MASTER_ADDR" not in os.environ:
                raise InputError("session.rendezvous", None, "tcp://HOST:PORT, or a launch through torchrun")
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "False") == "True"
        else:
            host, port = parse_address(address)
        self.where = f"tcp://{host}:{port}"
        self._host = role == MODEL_OWNER and not hosted
        try:
            # No wait for workers here: the parties announce themselves by name, so that a missing one can be named.
            self.store = dist.TCPStore(
                host, port, None, self._host, timedelta(seconds=self.timeout), wait_for_workers=False
            )
        except (RuntimeError, ValueError, TimeoutError) as error:
            if self._host:
                reason = str(error).splitlines()[0][:200]
                raise InputError("session.rendezvous", self.where, f"an address to listen on ({reason})") from error
            raise PeerError(
                f"{MODEL_OWNER} did not come: nobody listened at {self.where} within {self.timeout:g} s"
            ) from error
        if address is None:  # torchrun may restart its workers: each attempt gets notes of its own
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            self.store = dist.PrefixStore(f"mpc_appraisal/{attempt}", self.store)
        self._stop = threading.Event()
        self._beats: dict[str, tuple[int, float]] = {}
        self._topics: set[str] = set()
        self._lock = threading.Lock()
        self._abort: str | None = None  # kept from when the store could still be read
        self._heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    # -- liveness --------------------------------------------------------------------------------------------------
    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                with self._lock:
                    self.store.add(f"beat/{self.role}", 1)
                    if self._abort is None and self.store.check(["abort"]):
                        self._abort = self.store.get("abort").decode()
            except (RuntimeError, ValueError):
                return  # the host is gone; the main thread finds out by itself

    def _check_alive(self, role: str) -> None:
        beat = self._call(lambda: self.store.add(f"beat/{role}", 0))
        seen = self._beats.get(role)
        if seen is None or seen[0] != beat:
            self._beats[role] = (beat, time.monotonic())
        elif time.monotonic() - seen[1] > SILENCE_SECONDS:
            raise PeerError(f"{role} stopped: no sign of life for {SILENCE_SECONDS:g} s")

    def _call(self, f):
        try:
            with self._lock:
                return f()
        except (RuntimeError, ValueError) as error:
            raise PeerError(f"{MODEL_OWNER} is gone: the rendezvous at {self.where} closed") from error

    # -- notes -----------------------------------------------------------------------------------------------------
    def announce(self) -> None:
        """Take the role; wait until all three are taken. Raises PeerError naming who is missing or doubled."""
        if self._call(lambda: self.store.add(f"taken/{self.role}", 1)) > 1:
            message = f"two parties claim the role {self.role}"
            self._call(lambda: self.store.set("abort", message))
            raise PeerError(message)
        self._heart.start()
        deadline = time.monotonic() + self.timeout
        while True:
            missing = [r for r in ROLES if self._call(lambda r=r: self.store.add(f"taken/{r}", 0)) == 0]
            self._raise_abort()
            if not missing:
                return
            if time.monotonic() > deadline:
                raise PeerError(f"{' and '.join(missing)} did not come to {self.where} within {self.timeout:g} s")
            time.sleep(POLL_SECONDS)

    def _raise_abort(self) -> None:
        if self._call(lambda: self.store.check(["abort"])):
            raise PeerError(self._call(lambda: self.store.get("abort")).decode())

    def abort(self, message: str) -> None:
        """Tell the others why this party stops. `message` must hold nothing private."""
        try:
            with self._lock:
                if not self.store.check(["abort"]):
                    self.store.set("abort", f"{self.role} stopped: {message}")
        except (RuntimeError, ValueError):
            return  # nobody left to tell

    def exchange(self, topic: str, note: dict) -> dict[str, dict]:
        """Post this party's note and return everybody's, by role. Every party calls it, in the same order.

        Raises:
            PeerError: a party aborted, or its heart stopped.
        """
        if topic in self._topics:
            raise AppraisalError(f"the notes on {topic!r} were already exchanged")
        self._topics.add(topic)
        self._call(lambda: self.store.set(f"note/{topic}/{self.role}", json.dumps(note)))
        notes = {self.role: note}
        while len(notes) < len(ROLES):
            for role in ROLES:
                key = f"note/{topic}/{role}"
                if role not in notes and self._call(lambda key=key: self.store.check([key])):
                    notes[role] = json.loads(self._call(lambda key=key: self.store.get(key)))
                elif role not in notes:
                    self._raise_abort()
                    self._check_alive(role)
            if len(notes) < len(ROLES):
                time.sleep(POLL_SECONDS)
        return notes

    def interrupting(self) -> AbstractContextManager[None]:
        """A block that a lost party may end anywhere; here only at the next wait."""
        return nullcontext()

    def reason(self) -> str | None:
        """Why another party aborted, if one did and its note could be read, now or while the host was still there."""
        try:
            with self._lock:
                if self.store.check(["abort"]):
                    return self.store.get("abort").decode()
        except (RuntimeError, ValueError):
            pass
        return self._abort

    def close(self, linger: float = 0.0) -> None:
        """Stop the heart. A host lingers up to `linger` seconds so that those alive can still read why it stopped."""
        if self._host and linger:
            start, before = time.monotonic(), self._counts("beat")
            while (waited := time.monotonic() - start) < linger:
                left, beats = self._counts("left"), self._counts("beat")
                still = [r for r in left if waited > 4 * BEAT_SECONDS and beats[r] == before[r] > 0]  # died
                if all(left[r] or r in still for r in left):
                    break
                time.sleep(POLL_SECONDS)
        elif not self._host:
            try:
                with self._lock:
                    self.store.add(f"left/{self.role}", 1)
            except (RuntimeError, ValueError):
                pass  # the host left first
        self._stop.set()

    def _counts(self, what: str) -> dict[str, int]:
        """The other parties' counters of one kind, by role."""
        with self._lock:
            return {r: self.store.add(f"{what}/{r}", 0) for r in ROLES if r != self.role}
