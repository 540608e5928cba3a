"""The first loss of a session: who waits is woken by it, who computes is interrupted by it, and both learn the name."""

from __future__ import annotations

import ctypes
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from typing import Any

from mpc_appraisal.common.errors import InputError, PeerError

FREEZE_SECONDS = 10.0
NOTICE_SECONDS = 0.3  # a party that waits hears of a loss within this; one that computes is interrupted then
ASK_SECONDS = 0.1


class Interrupted(BaseException):
    """Raised in the main thread, wherever it is, when a party was lost; never leaves `interrupting`."""


class FailureDetector(ABC):
    """One party's view of whether the others live. A monitor thread of the subclass calls `_fail` and `_tell`.

    Args:
        freeze: seconds without a sign of life after which a party is taken for lost.

    Attributes:
        wake: a descriptor that can be read once a party was lost, for who waits in select or poll.
    """

    def __init__(self, freeze: float):
        if not freeze > 0:
            raise InputError("session.freeze_timeout", freeze, "seconds above 0")
        self.freeze = float(freeze)
        self._error: PeerError | None = None
        self._closed, self._told, self._noticed = False, False, threading.Event()
        self._armed: int | None = None
        self._then: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self.wake, self._waker = os.pipe()

    @abstractmethod
    def announce(self) -> None:
        """Wait until all three parties are there. Raises PeerError naming who is missing or doubled."""

    @abstractmethod
    def exchange(self, topic: str, message: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Send this party's message to the others and return all three by role; all parties call it in the same order.

        Raises:
            PeerError: a party aborted, died, froze, or is elsewhere in the program.
        """

    def certified(self, role: str) -> str | None:
        """SHA-256 of the public key (SubjectPublicKeyInfo) of the certificate that `role` showed, 64 hex digits; None
        over a transport without certificates. Call it once all are there."""
        return None

    @abstractmethod
    def abort(self, message: str) -> None:
        """Tell the others why this party stops: a loss under the name of the lost. `message` holds nothing private."""

    @abstractmethod
    def close(self, linger: float = 0.0) -> None:
        """Say goodbye; wait up to `linger` seconds for those that still need this party."""

    def _fail(self, error: PeerError) -> PeerError:
        """Note the first loss and wake whoever waits; returns the loss that counts."""
        with self._lock:
            if self._error is None and not self._closed:
                self._error = error
                os.write(self._waker, b"!")
        return self._error or error

    def check(self) -> None:
        """Raises PeerError if a party was lost."""
        if self._error is not None:
            self._noticed.set()
            raise self._error

    def reason(self) -> str | None:
        """Why the session failed, if a party was lost or aborted."""
        return None if self._error is None else str(self._error)

    def when_lost(self, act: Callable[[], None]) -> None:
        """Let `act` end a wait of the main thread that nothing else can end."""
        self._then.append(act)

    def _tell(self) -> None:
        """Interrupt the main thread unless it finds out about a loss by itself; once."""
        if self._error is not None and not self._told:
            self._told = True
            if not self._noticed.wait(NOTICE_SECONDS):
                self._interrupt()
                for act in self._then:
                    act()

    def _interrupt(self) -> None:
        with self._lock:
            if self._armed is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._armed), ctypes.py_object(Interrupted))

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """In the block a loss ends whatever this thread computes, not only its next wait."""

        def disarm() -> None:
            with self._lock:
                self._armed = None
            time.sleep(0)  # what was on its way arrives here

        self._armed = threading.get_ident()
        try:
            yield
            disarm()
        except Interrupted:
            raise self._error from None
        finally:
            with suppress(Interrupted):
                disarm()


class BlockingCalls:
    """A thread for calls that nothing can interrupt: who asks for one hears of a loss all the same.

    Args:
        idle: called every half second or so between two calls.
    """

    def __init__(self, check: Callable[[], None], idle: Callable[[], None] = lambda: None):
        self._check, self._idle = check, idle
        self._asked: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="blocking calls").start()

    def _run(self) -> None:
        while True:
            try:
                future, f = self._asked.get(timeout=0.5)
            except queue.Empty:
                self._idle()
                continue
            if future is None:
                return
            try:
                future.set_result(f())
            except Exception as error:
                future.set_exception(error)

    def call(self, f: Callable[[], Any], deadline: float | None = None) -> Any:
        """What `f` returns or raises; PeerError if a party is lost meanwhile, TimeoutError at the deadline (of the
        monotonic clock), and then `f` may still be under way."""
        future: futures.Future = futures.Future()
        self._asked.put((future, f))
        while not future.done():
            try:
                future.exception(ASK_SECONDS)
            except futures.TimeoutError:
                self._check()
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError("no answer in time") from None
        return future.result()

    def end(self) -> None:
        """Take no more calls."""
        self._asked.put((None, None))
