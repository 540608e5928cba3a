"""Progress on the terminal: one bar, or one line for each step if standard error is no terminal.

In go events {"done", "of", "method", "candidate"}: how many steps are done, of how many, and which step ended. An event
without "done" is ignored. The looks may change; standard output has to stay free, because results go there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mpc_appraisal.common.text import shown


@contextmanager
def progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that takes events and shows them on standard error.

    Events move a progress bar on, or print a line for each step if standard error is no terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:

        def line(event: dict[str, Any]) -> None:
            if "done" in event:
                print(f"[{event['done']}/{event['of']}] {_named(event)}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (
        TextColumn("{task.description:<42}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("meeting", total=None)

        def show(event: dict[str, Any]) -> None:
            if "done" in event:
                bar.update(
                    task,
                    completed=event["done"],
                    total=event["of"],
                    description=_named(event)[:42],
                )

        yield show


def _named(event: dict[str, Any]) -> str:
    """Name method and candidate. The candidate's name is escaped, because the other side may have chosen it."""
    return shown(f"{event['method']} {event['candidate']}", 300)
