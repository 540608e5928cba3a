"""How a table fits a terminal: its columns shrink, and where that is not enough it goes on below, in bands of columns.

A `Table` and a width in characters go in; tables that each fit the width come out, and `printed` makes one of them a
table of the library rich. The columns of texts at the left, which say what a row is about, stand in every band. Numbers
are never cut or broken, and the headers over them break at spaces. A SHA-256 stays in one line where 80 columns have
room for it, because it is copied and compared. The limits may be changed.
"""

from __future__ import annotations

import re

from mpc_appraisal.reporting.table import Table

DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
GAP = 2  # characters between two columns
WORD = 20  # characters up to which a word of a text is whole; a longer one breaks anywhere
LEAST = 12  # characters that a column of texts keeps where its texts are as long
CONTINUED = " (continued)"


def bands(table: Table, width: int) -> list[Table]:
    """Return the table, or tables of some of its columns each, all of which fit `width` characters.

    A column alone beside the key columns may need more than the width: it is in a band of its own then.
    """
    least = [_least(table, column) for column in range(len(table.header))]
    if _total(least) <= width:
        return [table]
    keys = _keys(table, least, width)
    groups: list[list[int]] = [[]]
    for column in (each for each in range(len(least)) if each not in keys):
        together = [least[each] for each in (*keys, *groups[-1], column)]
        if groups[-1] and _total(together) > width:
            groups.append([])
        groups[-1].append(column)
    return [_of_columns(table, [*keys, *group], CONTINUED if k else "") for k, group in enumerate(groups)]


def printed(table: Table, width: int):
    """Return the rows and the header as a table of rich, which is shrunk to a console of so many characters."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    most = _most(table, width)
    for column, (header, side) in enumerate(zip(table.header, table.align, strict=True)):
        right = side == "r"  # numbers stay whole and their headers break; names keep room on a narrow terminal
        shown.add_column(
            Text(header.replace(" ", "\n") if right else header),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
            min_width=_least(table, column),
            max_width=most.get(column),
        )
    firsts = [row[0] for row in table.rows]
    grouped = table.header[0] == "method" and len(set(firsts)) < len(firsts)
    for first, after, row in zip(firsts, [*firsts[1:], None], table.rows, strict=True):
        shown.add_row(*map(Text, row), end_section=grouped and after is not None and after != first)
    return shown


def _total(widths: list[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _least(table: Table, column: int) -> int:
    """Return the least width of a column: that of its numbers, or that of the longest words of its texts."""
    cells, head = [row[column] for row in table.rows], _longest_word(table.header[column])
    if table.align[column] == "r":
        return max([head, *map(len, cells)])
    whole = max([len(table.header[column]), *map(len, cells)])
    return max(min(whole, LEAST), min(WORD, max([head, *map(_longest_word, cells)])), _digest(table, column))


def _digest(table: Table, column: int) -> int:
    """Return the length of a column's digests, or 0."""
    return max((len(found) for row in table.rows for found in DIGEST.findall(row[column])), default=0)


def _most(table: Table, width: int) -> dict[int, int]:
    """Return how wide each text column may be beside digests, which rich would break first as the widest words."""
    columns = range(len(table.header))
    whole = [max(len(table.header[k]), *(len(row[k]) for row in table.rows)) for k in columns]
    digests = {k: size for k in columns if (size := _digest(table, k))}
    others = [k for k in columns if k not in digests and table.align[k] == "l"]
    room = width - _total([digests.get(k, 0 if k in others else whole[k]) for k in columns])
    if not digests or not others or room >= sum(whole[k] for k in others):
        return {}
    return {k: max(_least(table, k), room * whole[k] // sum(whole[each] for each in others)) for k in others}


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _keys(table: Table, least: list[int], width: int) -> list[int]:
    """Return the columns that stand in every band: those of texts at the left, as far as the others have room beside.

    Where they are too wide, columns of one text go first, and then those at the right; one column stays.
    """
    found = list(range(len(table.align) - len(table.align.lstrip("l"))))
    found = found[: len(least) - 1] if len(found) == len(least) else found
    same = [column for column in found if len({row[column] for row in table.rows}) == 1]
    leaving = [*reversed(same), *(column for column in reversed(found) if column not in same)]
    while len(found) > 1:
        others = [size for column, size in enumerate(least) if column not in found]
        if _total([*(least[column] for column in found), max(others)]) <= width:
            break
        found.remove(leaving.pop(0))
    return found


def _of_columns(table: Table, columns: list[int], ending: str) -> Table:
    def taken(cells) -> tuple[str, ...]:
        return tuple(cells[column] for column in columns)

    return Table(table.title + ending, taken(table.header), "".join(taken(table.align)), list(map(taken, table.rows)))
