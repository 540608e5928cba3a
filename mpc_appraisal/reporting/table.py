"""One table of texts, how numbers become cells, and how a table becomes lines for a plain terminal.

Numbers and texts go in; a `Table`, cells and lines come out. Every report, on the console, in Markdown and in HTML,
shows this class. Widths and the sign for what is unknown may change. A cell has to be a text, so that all reports show
the same digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

DASH = "–"


@dataclass(frozen=True)
class Table:
    """Hold a table of texts, which every report shows.

    Attributes:
        title: The table's title.
        header: The names of the columns.
        align: One letter for each column: l for left, r for right.
        rows: The rows, each with a cell for each column.
        notes: The sentences under the table.
    """

    title: str
    header: tuple[str, ...]
    align: str
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()


class TableCollector:
    """Collect tables in place of a console, for output that programs read; `print_table` gives it each table.

    Attribute `tables`: the tables so far, in their order.
    """

    def __init__(self) -> None:
        self.tables: list[Table] = []


def without_empty_columns(table: Table) -> Table:
    """Return the table without the columns whose cells are all dashes; a table without rows stays as it is."""
    kept = [k for k in range(len(table.header)) if not table.rows or any(row[k] != DASH for row in table.rows)]
    rows = [tuple(row[k] for k in kept) for row in table.rows]
    header, align = tuple(table.header[k] for k in kept), "".join(table.align[k] for k in kept)
    return replace(table, header=header, align=align, rows=rows)


def counted(n: int, what: str) -> str:
    """Return a number with a noun, as in "1 run" and "2 runs"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def number(value: float | None, digits: int = 4) -> str:
    """Write a number with `digits` significant digits, or a dash for None.

    A longer whole part is written in full. Below 10^-3 and from 10^6 on, the number has a power of ten.
    """
    if value is None:
        return DASH
    if value == 0:
        return "0"
    size = float(f"{abs(value):.{digits - 1}e}")  # rounded first: 9.9996 has as many decimals as 10
    if not 1e-3 <= size < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"


def whole(value: int | None) -> str:
    """Write a whole number, or a dash for None."""
    return DASH if value is None else str(value)


def lines_of(table: Table) -> list[str]:
    """Write a table as lines whose columns are padded with spaces."""
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
