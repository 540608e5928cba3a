"""One table: its title, header, rows and notes, and how its numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

DASH = "–"


@dataclass(frozen=True)
class Table:
    """title; header and rows of text; align: one letter, l or r, a column; notes: sentences under the table."""

    title: str
    header: tuple[str, ...]
    align: str
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def number(value: float | None, digits: int = 4) -> str:
    """`digits` significant digits, more where the whole part is longer; powers of ten beyond 10^-3 and 10^6."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    size = float(f"{abs(value):.{digits - 1}e}")  # rounded first: 9.9996 has as many decimals as 10
    if not 1e-3 <= size < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"


def whole(value: int | None) -> str:
    return DASH if value is None else str(value)


def lines_of(table: Table) -> list[str]:
    if not table.rows:
        return [table.title, *table.notes]
    rows = [table.header, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]

    def line(row: tuple[str, ...]) -> str:
        cells = (
            cell.rjust(w) if side == "r" else cell.ljust(w)
            for cell, w, side in zip(row, widths, table.align, strict=True)
        )
        return "  ".join(cells).rstrip()

    return [table.title, line(table.header), line(tuple("-" * w for w in widths)), *map(line, table.rows), *table.notes]
