"""The terminal on which commands print tables, and the number of threads that a process uses.

`terminal` returns a console of the library rich for a table; `set_threads` limits torch. WIDTH may change.
"""

from __future__ import annotations

from rich.console import Console

from mpc_appraisal.common.environment import threads

WIDTH = 120  # columns of the tables where the output is not a terminal


def terminal() -> Console:
    """Return a console on standard output, of WIDTH columns where it is a file or a pipe, which has no width."""
    console = Console()
    return Console(width=WIDTH) if not console.is_terminal and console.width < WIDTH else console


def set_threads() -> None:
    """Let torch use as many threads in this process as the environment allows."""
    import torch

    torch.set_num_threads(threads())
