"""Files of records: one JSON object a line, checked on reading so that an error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError

Row = dict[str, Any]
ABOUT = {"machine", "versions", "revision", "command"}  # the keys that say where and how a record was made
ONE_OBJECT = "one JSON object"
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
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [_row(f"{path.name}, line {place}", line, keys) for place, line in enumerate(lines, start=1)]
    if "about" not in keys:
        if not rows:
            raise InputError("--out", f"{path.name} without lines", "the records of an earlier run")
        return rows[0], rows
    if not rows or rows[0]["part"] != "about":
        raise InputError(f"{path.name}, line 1", "no line about the run", THIS_VERSION)
    return rows[0], rows[1:]


def _row(name: str, line: str, keys: Mapping[str, Set[str]]) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(name, f"{line[:40]!r}", f"{ONE_OBJECT} ({error})") from None
    if not isinstance(row, dict) or part_of(row) not in keys:
        raise InputError(name, f"{line[:40]!r}", f"{ONE_OBJECT}, its part one of {', '.join(keys)}")
    if missing := sorted(keys[part_of(row)] - set(row)):
        raise InputError(name, f"no {', '.join(missing)}", THIS_VERSION)
    return row
