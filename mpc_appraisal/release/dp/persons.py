"""What is public of a person's rows, where noise protects persons: which column names them, how many, and how long.

    weight    G = B / R    (N if B is not stated)

N is the largest number of rows of one person and B the bound on the summed norms of these rows, with the constant
feature counted; R is the public norm of a row. A person's rows are worth G rows of the norm R in every sensitivity
(`sensitivity`), and a person with k rows has them clipped to min(R, B / k) (`clipping.row_norms`). In go what a release
states; out come the `GroupBound`, its weight and its words. B has to be above N, because the constant feature alone
gives every row a norm of 1. Why the weight is right is in docs/protocols/releases.md.
"""

from __future__ import annotations

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import PLACE
from mpc_appraisal.release.description import GroupBound

LONGEST = 60  # characters of a column's name, which records and requests hold
PROTECTS = "{} of the data owner's candidate; nothing of the model owner's data"


def group_bound(column: str | None, rows: int | None, norm: float | None, row_norm: float) -> GroupBound | None:
    """Return the bounds on one person's rows that a release states; None where it protects single rows.

    Args:
        column: The name of the column of persons, or None.
        rows: N; None only without a column.
        norm: B; None takes N R, which cuts no row shorter than R does.
        row_norm: R.

    Raises:
        InputError: One of them is missing or outside its range.
    """
    if column is None:
        for key, value in (("group_rows", rows), ("group_norm", norm)):
            if value is not None:
                raise InputError(key, value, "null, or group= beside it, the column of persons")
        return None
    fits = isinstance(column, str) and column.strip() == column and column.isprintable()
    if not fits or not 0 < len(column) <= LONGEST or PLACE.search(column):
        expected = f"the name of a column of 1 to {LONGEST} printable characters, which is no path"
        raise InputError("group", repr(column), expected)
    integer("group_rows", rows, 1, expected="the most rows of one person: a whole number, 1 or more")
    most = rows * float(row_norm)
    if norm is not None:
        expected = f"a number above group_rows = {rows}, at most group_rows * row_norm = {most:g}"
        number("group_norm", norm, expected, above=rows, most=most)
    return GroupBound(column, rows, most if norm is None else float(norm))


def weight(bound: GroupBound | None, row_norm: float) -> float:
    """Return how many rows of the norm `row_norm` the rows of one person are worth at most; 1 for a single row."""
    if bound is None:
        return 1.0
    return bound.norm / row_norm if cuts(bound, row_norm) else float(bound.rows)


def cuts(bound: GroupBound, row_norm: float) -> bool:
    """Return whether the rows of persons with many rows are cut shorter than `row_norm`."""
    return bound.norm < bound.rows * float(row_norm)


def protects(bound: GroupBound | None, row_norm: float) -> str:
    """Return whose data the guarantee is for, in words."""
    if bound is None:
        return PROTECTS.format("one row")
    cut = f", of norms that add up to {bound.norm:g}" if cuts(bound, row_norm) else ""
    return PROTECTS.format(f"one person (column {bound.column}, at most {bound.rows} rows each{cut})")
