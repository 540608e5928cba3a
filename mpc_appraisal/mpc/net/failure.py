"""Detection of lost parties, which is the same over every transport.

A party is lost if its process ended, if it is frozen or if it has aborted. `FailureDetector` is the base class of a
party's connection to the others. It keeps the first loss of the session, with the name of the lost party. A party that
waits is woken by the loss, and a party that computes is interrupted by it. The subclasses carry the messages and report
the losses. `BlockingCalls` runs calls that nothing can interrupt.

The times may change. It has to stay that the first loss is kept, since later errors are mostly consequences of it, and
that every wait of a subclass ends at a loss.
"""

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

from mpc_appraisal.common.errors import DISAGREEMENT, InputError, PeerDisagreementError, PeerError
from mpc_appraisal.mpc.net.message_schemas import printable

NOTICE_SECONDS = 0.3  # a waiting party notices a loss within this time; a computing one is interrupted after it
ASK_SECONDS = 0.1  # the time between two looks at whether a party was lost
FREEZE_SECONDS = 10.0  # a party that gives no sign of life for this time counts as lost, by default


class Interrupted(BaseException):
    """What is raised in the main thread, wherever it is, when a party was lost. It never leaves `interrupting`."""


def stopped(words: bytes | bytearray) -> PeerError:
    """Return the error for another party's `words` of why it has stopped."""
    text = printable(words)
    return PeerDisagreementError(text) if DISAGREEMENT in text else PeerError(text)


class FailureDetector(ABC):
    """One party's view of whether the others are alive.

    A monitor thread of the subclass calls `_fail` for each loss and `_interrupt_once` again and again.

    Args:
        freeze: The seconds without a sign of life after which a party counts as lost.

    Attributes:
        wake: A descriptor that becomes readable once a party was lost, for waits in select or poll.

    Raises InputError: `freeze` is not above 0.
    """

    def __init__(self, freeze: float):
        if not freeze > 0:
            raise InputError("session.freeze_timeout", freeze, "seconds above 0")
        self.freeze = float(freeze)
        self._error: PeerError | None = None
        self._closed, self._interrupted, self._noticed = False, False, threading.Event()
        self._armed: int | None = None
        self._when_lost: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self.wake, self._waker = os.pipe()

    @abstractmethod
    def announce(self) -> None:
        """Wait until all parties are connected. Raises PeerError, which names a missing or duplicate party."""

    @abstractmethod
    def exchange(self, topic: str, message: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Send this party's message to the others, and return the messages of all parties by role.

        All parties call this with the same topics in the same order.

        Args:
            topic: What the messages are about; each topic is used once in a session.
            message: A JSON object that holds nothing private.

        Raises:
            AppraisalError: The messages on this topic were already exchanged.
            PeerError: A party aborted, died or froze, or is at another point of the program.
        """

    def certified(self, role: str) -> str | None:
        """Return the SHA-256 of the public key (SubjectPublicKeyInfo) in the certificate of `role`, as 64 hex digits.

        Returns None over a transport without certificates. Call this after `announce`.
        """
        return None

    @abstractmethod
    def abort(self, message: str) -> None:
        """Tell the others why this party stops: the first loss, or else `message`, which holds nothing private."""

    @abstractmethod
    def close(self, linger: float = 0.0) -> None:
        """Leave in good order; wait up to `linger` seconds for parties that still need this party."""

    def _fail(self, error: PeerError) -> PeerError:
        """Keep the first loss and wake waiting threads. Returns the loss that is kept."""
        with self._lock:
            if self._error is None and not self._closed:
                self._error = error
                os.write(self._waker, b"!")
        return self._error or error

    def check(self) -> None:
        """Raise the PeerError that was kept if a party was lost."""
        if self._error is not None:
            self._noticed.set()
            raise self._error

    def reason(self) -> str | None:
        """Return why the session failed, or None if no party was lost or aborted."""
        return None if self._error is None else str(self._error)

    def when_lost(self, act: Callable[[], None]) -> None:
        """Call `act` after a loss. It is meant to end a wait of the main thread that nothing else can end."""
        self._when_lost.append(act)

    def _interrupt_once(self) -> None:
        """After a loss, interrupt the main thread once, unless it notices the loss by itself."""
        if self._error is not None and not self._interrupted:
            self._interrupted = True
            if not self._noticed.wait(NOTICE_SECONDS):
                self._interrupt()
                for act in self._when_lost:
                    act()

    def _interrupt(self) -> None:
        with self._lock:
            if self._armed is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._armed), ctypes.py_object(Interrupted))

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Return a context in which a loss ends whatever this thread computes, and then raises PeerError."""

        def disarm() -> None:
            with self._lock:
                self._armed = None
            time.sleep(0)  # an interrupt that is already under way arrives here

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
    """A thread that runs blocking calls, so that the caller still gets PeerError if a party is lost meanwhile.

    Args:
        check: A function that raises PeerError if a party was lost.
        idle: A function that the thread calls about every half second while there is nothing to run.
    """

    def __init__(self, check: Callable[[], None], idle: Callable[[], None] = lambda: None):
        self._check, self._idle = check, idle
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="blocking calls").start()

    def _run(self) -> None:
        while True:
            try:
                future, f = self._calls.get(timeout=0.5)
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
        """Return what `f` returns, or raise what it raises.

        Raises PeerError if a party is lost meanwhile, and TimeoutError at the deadline, which is a time of the
        monotonic clock. After either error, `f` may still be running.
        """
        future: futures.Future = futures.Future()
        self._calls.put((future, f))
        while not future.done():
            try:
                future.exception(ASK_SECONDS)
            except futures.TimeoutError:
                self._check()
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError("no answer in time") from None
        return future.result()

    def end(self) -> None:
        """End the thread after the calls that are queued."""
        self._calls.put((None, None))
