"""The terminal that tables are printed on, and the threads that a process may use."""

from __future__ import annotations

from rich.console import Console

from mpc_appraisal.common.environment import threads

WIDTH = 120  # columns of the tables where the output is not a terminal


def wide(console: Console) -> Console:
    """A file or a pipe has no width of its own: it gets room for a table."""
    return Console(width=WIDTH) if not console.is_terminal and console.width < WIDTH else console


def set_threads() -> None:
    import torch

    torch.set_num_threads(threads())
