"""Which person each row is of, by a column of the data owner's file that is no feature.

A person may have several rows. In go a file and the name of a column, or texts, one for each row; out comes a number
for each row, (n,) int64, equal where the texts are. Only equality means anything: the numbers are in the order in which
the texts first occur, and no text is kept. A text is read as `items` reads a key: 007 and 7 are two persons, and so are
A and a. A row without one is an error, because nobody could say whose row it is. No error and no output may hold a text
of the column, and the numbers may leave the data owner's process as little as the column.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.items import keys_of

if TYPE_CHECKING:
    from mpc_appraisal.data.recipe import Recipe

SETTING = "release.group"
FIRST = 3  # the rows without a person that an error names
PLAIN = ".npz"  # the only format without a recipe in which a column can stand beside the features


def numbered(texts: Iterable[Any], column: str, name: str, missing: Iterable[str] = ()) -> torch.Tensor:
    """Return a number for each row, (n,) int64, which is the same for rows of equal texts.

    Args:
        texts: a text or a whole number for each row; None, NaN, a blank and what is in `missing` stand for none.
        column: the name of the column.
        name: the setting that errors begin with.
        missing: further texts that stand for none.

    Raises InputError, which names the first rows without a person.
    """
    known: dict[str, int] = {}
    none, found = {"", *(text.strip() for text in missing)}, []
    without: list[int] = []
    for row, text in enumerate(texts):
        key = "" if text is None or text != text else str(text).strip()
        if key in none:
            without.append(row)
        found.append(known.setdefault(key, len(known)))
    if without:
        rows = ", ".join(map(str, without[:FIRST])) + ", ..." * (len(without) > FIRST)
        some = f"{len(without)} row{'s' * (len(without) > 1)} without a person in column {column!r}: row {rows}"
        raise InputError(
            name, some, "a person in every row (rows count from 0), since noise protects each person's rows"
        )
    return torch.tensor(found, dtype=torch.int64)


def groups_of_file(path: str | Path, column: str, rows: int, name: str, recipe: Recipe | None = None) -> torch.Tensor:
    """Return a number for each row of a file, by the persons in one of its columns.

    Args:
        path: a .csv or .parquet file that `recipe` reads, or an .npz file with an array of the column's name.
        column: the name of the column, which must be no feature: the recipe states it with leave_out: true.
        rows: the number of rows of the data set.
        name: the setting that errors begin with.
        recipe: what makes features of the file; None where it holds features.

    Raises InputError, also for a column that is missing or is a feature, and for another number of rows.
    """
    missing: tuple[str, ...] = ()
    if recipe is not None:
        field = next((each for each in recipe.fields if each.name == column), None)
        if field is None or not field.leave_out:
            what = "no column" if field is None and recipe.target.name != column else "a feature or the target"
            expected = "a column that the recipe states with feature.leave_out: true, which is no feature"
            raise InputError(SETTING, f"{column!r}, which is {what} of the recipe", expected)
        missing = field.missing
    elif Path(path).suffix.lower() != PLAIN or column in ("x", "y"):
        expected = (
            f"recipe= beside it, which states the column with leave_out: true, or {PLAIN} files with such an array"
        )
        raise InputError(SETTING, f"{column!r} for {Path(path).name}", expected)
    found = numbered(keys_of(path, column, name, recipe.delimiter if recipe else ","), column, name, missing)
    if len(found) != rows:
        raise InputError(name, f"{len(found)} rows with column {column!r}", f"{rows}, as there are rows of features")
    return found
