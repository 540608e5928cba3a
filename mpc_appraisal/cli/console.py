"""The terminal on which commands print tables, and the number of threads that a process uses.

`terminal` returns a console of the library rich for a table, or what collects tables for output as JSON; `say` prints a
sentence in the same width; `set_threads` limits torch. WIDTH may change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from mpc_appraisal.common.environment import threads
from mpc_appraisal.reporting.table import TableCollector

WIDTH = 80  # columns of the tables where the output is not a terminal
_collectors: list[TableCollector] = []  # those in force, the last one first


@contextmanager
def collected_by(collector: TableCollector) -> Iterator[None]:
    """Let `terminal` return this collector, so that a command's tables are kept and not printed."""
    _collectors.append(collector)
    try:
        yield
    finally:
        _collectors.pop()


def terminal() -> Console | TableCollector:
    """Return a console on standard output. A file or a pipe has WIDTH columns, or those that COLUMNS states.

    Inside `collected_by` it is the collector of tables.
    """
    if _collectors:
        return _collectors[-1]
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDTH)


def say(sentence: str) -> None:
    """Print a sentence, broken at spaces where it is longer than a line of `terminal`; for JSON it stays one line."""
    console = terminal()
    if isinstance(console, TableCollector):
        print(sentence)
    else:
        console.print(Text(sentence))


def set_threads() -> None:
    """Let torch use as many threads in this process as the environment allows."""
    import torch

    torch.set_num_threads(threads())
