"""Files of one JSON object a line: the one reader of all records, whether of an appraisal, a marketplace or a study.

A path goes in, and a function that makes a record from one line's object. Out come the records in the order of the
lines. What cannot be read raises InputError, which names the file and the line. An unfinished last line has to be
refused, because it shows that a run died while it wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mpc_appraisal.common.errors import InputError

Made = TypeVar("Made")
LONGEST = 60  # characters of a bad line that an error shows


def read_lines(path: str | Path, make: Callable[[dict[str, Any]], Made], name: str | None = None) -> list[Made]:
    """Read all lines of a file, and return what `make` makes of each line's object.

    Args:
        path: The file.
        make: Makes a record from an object, and raises InputError for an object that is no record. The error's value
            and expectation are kept, and its name becomes the file and the line.
        name: What errors call the file; its path by default.

    Raises:
        InputError: The file cannot be read, a line is empty or no JSON object, or the last line is unfinished.
    """
    name = str(path) if name is None else name
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(name, error.strerror, "a readable file of records") from None
    if lines[-1]:
        raise InputError(
            f"{name}, line {len(lines)}",
            short_line(lines[-1].decode(errors="replace")),
            "a whole line: the last one was not written to its end; the lines before it are whole",
        )
    made = []
    for number, line in enumerate(lines[:-1], start=1):
        place = f"{name}, line {number}"
        try:
            made.append(make(object_of(line.decode(), place)))
        except UnicodeDecodeError:
            raise InputError(place, short_line(repr(line)), "text in UTF-8") from None
        except InputError as error:
            raise InputError(place, error.value, error.expected) from None
    return made


def object_of(line: str, name: str) -> dict[str, Any]:
    """Parse one line. Raises InputError under `name` unless the line is one JSON object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(name, short_line(line), f"one JSON object ({error})") from None
    if not isinstance(found, dict):
        raise InputError(name, short_line(line), "one JSON object")
    return found


def short_line(line: str) -> str:
    """Cut a line to the length that an error shows."""
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
