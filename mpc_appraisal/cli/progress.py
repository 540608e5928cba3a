"""Progress on the terminal: one bar, or lines if standard error is no terminal.

In go events: {"done", "of", "method", "candidate"} says how many steps are done, of how many, and which step ended;
{"state"} says in words what a party does or waits for. Out come the state, or "computing 3 of 30, about 0:20 left". An
event with neither is ignored. The looks may change; standard output has to stay free, because results go there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mpc_appraisal.cli.sweep import clock
from mpc_appraisal.common.text import shown

BAR = 12  # columns of the bar
APART_SECONDS = 1.0  # between two lines of steps, the first and the last step aside
Events = Callable[[dict[str, Any]], None]


class Forecast:
    """Say how long the steps that are left will take, from the time that those before them took."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now, self._begun, self._latest = now, now(), now()
        self._done, self._of = 0, None

    def begin(self) -> None:
        """Count time from now on, because another state has begun."""
        self._begun = self._latest = self._now()

    def left(self, done: int, of: int) -> str:
        """Return ", about 0:20 left" after step `done` of `of`; nothing for less than a second."""
        if of != self._of or done <= self._done:  # other steps began when the last of those before had ended
            self._begun = self._latest
        self._done, self._of, self._latest = done, of, self._now()
        seconds = (self._latest - self._begun) / max(1, done) * (of - done)
        return f", about {clock(seconds)} left" if seconds >= 1 else ""


@contextmanager
def progress(quiet: bool = False) -> Iterator[Events]:
    """Yield a function that takes events and shows them on standard error.

    Events move a progress bar on, or print lines if standard error is no terminal: a line for each state, and for steps
    at most one a second, with the first and the last of them. quiet: whether nothing is shown.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda event: None
    elif not console.is_terminal:
        yield _lines()
    else:
        with _bar(console) as show:
            yield show


def _lines() -> Events:
    forecast, said = Forecast(), [-APART_SECONDS]

    def show(event: dict[str, Any]) -> None:
        if "state" in event:
            forecast.begin()
            print(shown(event["state"], 300), file=sys.stderr, flush=True)
        if "done" in event:
            done, of = event["done"], event["of"]
            left, now = forecast.left(done, of), time.monotonic()
            if done in (1, of) or now - said[0] >= APART_SECONDS:
                said[0] = now
                print(f"[{done}/{of}] {_named(event)}{left}", file=sys.stderr, flush=True)

    return show


@contextmanager
def _bar(console: Any) -> Iterator[Events]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(BAR), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    room = max(20, console.width - BAR - 10)
    forecast = Forecast()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(event: dict[str, Any]) -> None:
            if "state" in event:
                forecast.begin()
                bar.update(task, description=shown(event["state"], room), refresh=True)
            if "done" in event:
                done, of = event["done"], event["of"]
                text = f"computing {done} of {of}{forecast.left(done, of)}: {_named(event)}"
                bar.update(task, completed=done, total=of, description=shown(text, room))

        yield show


def _named(event: dict[str, Any]) -> str:
    """Name method and candidate. The candidate's name is escaped, because the other side may have chosen it."""
    return shown(f"{event['method']} {event['candidate']}", 300)
