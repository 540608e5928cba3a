"""A program that runs to one point after another, so that it can be checked as far as the messages have come.

    advance:   run on until the program pauses once more, or ends

In goes a program, a function of a function `pause`. It runs in a thread of its own, and never at the same time as its
caller: one of the two always waits for the other. An error of the program is raised by the `advance` during which it
came up. A program that is given up (`close`) ends at its next or present pause.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class _GivenUp(BaseException):
    """Ends the thread of a program that is given up."""


class Steps:
    """A program in steps.

    Args:
        program: a function, which calls the function that it is given wherever it pauses.
    """

    def __init__(self, program: Callable[[Callable[[], None]], None]):
        self._program, self._go, self._paused = program, threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._given_up, self.ended = False, False
        self._thread: threading.Thread | None = None

    def advance(self) -> None:
        """Run the program to its next pause or its end. Raises what the program raises, and ValueError at its end."""
        if self.ended:
            raise ValueError("program: got one more step after its end; expected as many steps as pauses")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._go.release()
        self._paused.acquire()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Give the program up, and wait for its thread to end."""
        self._given_up = True
        if self._thread is not None:
            self._go.release()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._wait()
            self._program(self._pause)
        except _GivenUp:
            pass
        except BaseException as error:  # noqa: BLE001  the caller raises it
            self._error = error
        self.ended = True
        self._paused.release()

    def _pause(self) -> None:
        self._paused.release()
        self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self._given_up:
            raise _GivenUp
