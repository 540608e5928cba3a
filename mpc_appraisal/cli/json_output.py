"""What a command prints, as one JSON document for scripts: `mpc-appraisal COMMAND ... --json`.

In goes a command that has not run yet. Out comes, on standard output, an object with the command, its exit status, its
tables (title, rows by column, notes) and the other lines that it printed. An expected error has the keys error, name,
value and expected, where the error has them, and the status of that error. A cell of a column of numbers is a number
here if it can be read as one, and null if it is the sign for what is unknown. Keys may be added; known keys have to
keep their meaning.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

from mpc_appraisal.cli import console
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.reporting.table import DASH, Table, TableCollector


def print_as_json(command: str, run: Callable[[], None]) -> None:
    """Run a command, print what it says as one JSON object, and end with the command's own status unless it is 0.

    Raises SystemExit with the status of the command: that of an expected error, or what the command states.
    """
    tables, lines = TableCollector(), io.StringIO()
    found: dict[str, Any] = {"command": command, "status": 0}
    with contextlib.redirect_stdout(lines), console.collected_by(tables):
        try:
            run()
        except AppraisalError as error:
            found |= {"status": error.status, "error": str(error)}
            if isinstance(error, InputError):
                found |= {"name": error.name, "value": str(error.value), "expected": error.expected}
        except SystemExit as end:
            found["status"] = end.code if isinstance(end.code, int) else int(end.code is not None)
    found |= {"tables": [_table(table) for table in tables.tables], "lines": lines.getvalue().splitlines()}
    print(json.dumps(found, ensure_ascii=False, indent=2, allow_nan=False))
    if found["status"]:
        sys.stdout.flush()
        sys.exit(found["status"])


def _table(table: Table) -> dict[str, Any]:
    rows = [
        {name: _cell(cell, side) for name, side, cell in zip(table.header, table.align, row, strict=True)}
        for row in table.rows
    ]
    return {"title": table.title, "rows": rows, "notes": list(table.notes)}


def _cell(text: str, side: str) -> Any:
    if text == DASH:
        return None
    if side == "r":
        with contextlib.suppress(ValueError):
            value = float(text)
            return text if value in (float("inf"), float("-inf")) or value != value else _whole(text, value)
    return text


def _whole(text: str, value: float) -> int | float:
    return int(text) if text.lstrip("-").isdecimal() else value
