"""Files of records: one JSON object a line, checked on reading so that an error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.json_lines import read_lines

Row = dict[str, Any]
ABOUT = {"machine", "versions", "revision", "command"}  # the keys that say where and how a record was made
THIS_VERSION = "records of this version"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, and create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), encoding="utf-8")


def select(rows: Iterable[Row], /, **facts: Any) -> list[Row]:
    """Return the rows that have these facts."""
    return [row for row in rows if all(row.get(key) == value for key, value in facts.items())]


def part_of(row: Mapping[str, Any]) -> str:
    """Return the part that a row belongs to; a row of "instahide-grouping" belongs to "instahide"."""
    return str(row.get("part", "")).partition("-")[0]


def read_rows(path: Path, keys: Mapping[str, Set[str]]) -> tuple[Row, list[Row]]:
    """Return the row about the run, and the other rows, of a study's records.

    `keys` has the keys that the rows of each part must have. If it names the part "about", then the first line is about
    the run; otherwise every row says itself where it was made, and the first one speaks for all. InputError names the
    file and the line of what is missing or damaged.
    """
    if not path.is_file():
        raise InputError("--out", f"no file {path.name} in {path.parent.name}", "the records of an earlier run")
    rows = read_lines(path, lambda row: _checked(row, keys), path.name)
    if "about" not in keys:
        if not rows:
            raise InputError("--out", f"{path.name} without lines", "the records of an earlier run")
        return rows[0], rows
    if not rows or rows[0]["part"] != "about":
        raise InputError(f"{path.name}, line 1", "no line about the run", THIS_VERSION)
    return rows[0], rows[1:]


def _checked(row: Row, keys: Mapping[str, Set[str]]) -> Row:
    """Return the row if its part is known and all keys of its part are there."""
    if part_of(row) not in keys:
        raise InputError("part", f"part {row.get('part')!r}", f"a part that is one of {', '.join(keys)}")
    if missing := sorted(keys[part_of(row)] - set(row)):
        raise InputError("row", f"no {', '.join(missing)}", THIS_VERSION)
    return row
