"""Notifications: a command of the owner's own that runs for each new request, yes, no and answer.

In go the folders and a command; out come runs of the command, one after the other. It is given one JSON object on
standard input, in ASCII and on one line, with `event` and what is known of it:

    request            a request waits          id, counterparty, methods, candidates, release, time
    approval, refusal  it was answered          the same
    answer             a run has a new record   run, candidate, method, answer, role

The command is split as a shell splits words, but no shell reads it, and no foreign text is among its words or in its
environment. One that fails, or that runs for longer than PATIENCE, becomes a sentence in `trouble` and on the terminal,
and holds nothing up. What was there when the desk opened is no news. An event or a fact may be added.
"""

from __future__ import annotations

import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.desk.places import Places, inside
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.queue import PendingRequest, RequestQueue
from mpc_appraisal.reporting.record import Record, read
from mpc_appraisal.reporting.run_folders import RECORDS

LOOK = 2.0  # seconds between two looks
PATIENCE = 30.0  # seconds that a command may run
MOST = 100  # events that wait for the command; further ones are dropped, and said to be
STATES = {"pending": "request", "expired": "request", "yes": "approval", "no": "refusal"}
Event = dict[str, Any]


def words_of(command: str) -> list[str]:
    """Return the words of a command. Raises InputError for no words, or a program that is not there."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError("notify", f"{shown(command)} ({error})", "a command") from error
    if not words or shutil.which(words[0]) is None:
        raise InputError("notify", shown(command) or "nothing", "a command whose program is there")
    return words


class Watch:
    """What has happened in the folders since the last look.

    Args:
        places: the folders.
    """

    def __init__(self, places: Places):
        self._places = places
        self._states: dict[str, tuple[str, str]] = {}
        self._sizes: dict[Path, int] = {}  # of each file of records, its bytes
        self._known: dict[Path, int] = {}  # and its records
        self.look()

    def look(self) -> list[Event]:
        """Return what is new, the requests first. A file that cannot be read is looked at again the next time."""
        return [*self._requests(), *self._answers()]

    def _requests(self) -> Iterator[Event]:
        try:
            found = RequestQueue(self._places.requests).all() if self._places.requests.is_dir() else []
        except (InputError, OSError):  # the page shows it
            return
        for pending in found:
            event, before = STATES.get(pending.state), self._states.get(pending.id)
            self._states[pending.id] = (pending.state, pending.time)
            # The time tells a request that was put there again from the one before it.
            if event is not None and before != (pending.state, pending.time):
                yield {"event": event} | _facts(pending)

    def _answers(self) -> Iterator[Event]:
        if not self._places.runs.is_dir():
            return
        for path in sorted(self._places.runs.rglob(RECORDS)):
            run = path.parent.relative_to(self._places.runs).as_posix()
            try:
                size = inside(self._places.runs, run, RECORDS).stat().st_size
                if self._sizes.get(path) == size:
                    continue
                known, records = self._known.get(path, 0), read(path)
            except (InputError, OSError):  # it is being written, or is no file of records
                continue
            self._sizes[path], self._known[path] = size, len(records)
            yield from (_answered(run, record) for record in records[known:])


def _facts(pending: PendingRequest) -> Event:
    asked = pending.request
    return {
        "id": pending.id,
        "counterparty": pending.counterparty,
        "methods": asked.methods,
        "candidates": asked.candidates,
        "release": asked.content["release"]["kind"],
        "time": pending.time,
    }


def _answered(run: str, record: Record) -> Event:
    facts = {"run": run, "candidate": record.candidate, "method": record.method}
    return {"event": "answer", **facts, "answer": record.answer, "role": record.role}


class Notifier:
    """Looks for news, and runs the command for each, in two threads of its own.

    Args:
        places: the folders.
        words: the command and its arguments.
        patience: seconds that one run of the command may take.
        look: seconds between two looks.

    Attributes:
        trouble: a sentence on the last run that failed; empty after one that did not.
        running: the run of the command that goes on; None between two.
    """

    def __init__(self, places: Places, words: list[str], patience: float = PATIENCE, look: float = LOOK):
        self._words, self._patience, self._look = words, patience, look
        self._watch = Watch(places)
        self._events: queue.Queue[Event] = queue.Queue(MOST)
        self._closed = threading.Event()
        self.trouble = ""
        self.running: subprocess.Popen[bytes] | None = None
        for work in (self._look_out, self._run_all):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """End a command that runs, and let both threads end."""
        self._closed.set()
        if (running := self.running) is not None:
            _end(running)

    def _look_out(self) -> None:
        while not self._closed.wait(self._look):
            for event in self._watch.look():
                try:
                    self._events.put_nowait(event)
                except queue.Full:
                    self._say(f"{MOST} events wait for the command, so that one was dropped.")

    def _run_all(self) -> None:
        while not self._closed.is_set():
            with suppress(queue.Empty):
                self.run(self._events.get(timeout=self._look))

    def run(self, event: Event) -> None:
        """Run the command for one event, and wait for its end or for `patience` seconds."""
        line = json.dumps(event, sort_keys=True).encode() + b"\n"
        null = subprocess.DEVNULL
        try:
            running = subprocess.Popen(
                self._words, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True
            )
        except OSError as error:
            return self._say(f"The command did not start: {error.strerror}.")
        self.running = running
        try:
            running.communicate(line, self._patience)
        except subprocess.TimeoutExpired:
            _end(running)
            running.communicate()
            return self._say(f"The command was ended after {self._patience:g} seconds.")
        finally:
            self.running = None
        if running.returncode:
            return self._say(f"The command ended with status {running.returncode}.")
        self.trouble = ""

    def _say(self, sentence: str) -> None:
        if self._closed.is_set():
            return
        self.trouble = f"notify: {sentence}"
        print(self.trouble, file=sys.stderr, flush=True)


def _end(running: subprocess.Popen[bytes]) -> None:
    """End a command and what it has started."""
    if running.poll() is None:
        with suppress(OSError):
            os.killpg(running.pid, signal.SIGKILL)
