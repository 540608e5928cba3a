"""Raw CSV files: the columns as texts, by name and in blocks of rows, with the separator that the recipe states.

A path goes in; out come blocks of columns, each an array of Arrow. What a row is, is defined by Python's `csv` module:
blank lines are skipped, and a field may stand in quotes. `csv` is slow, so pieces of a file in which Arrow's reader has
no choice of its own are read by Arrow: each row is one line with a field for every name, and quotes stand around whole
fields alone. From the first other piece on, `csv` reads the rest. Both readers have to give the same rows and the same
numbers of lines; the size of pieces may change.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.recipe.schema import DELIMITERS

PIECE = 1 << 20  # bytes that are read at a time
LONGEST = 1 << 17  # bytes of a line; a longer one is left to `csv`, which has a limit on fields
MARK = b"\xef\xbb\xbf"  # with which a file of UTF-8 may begin


@dataclass(frozen=True)
class RawBlock:
    """Hold consecutive rows of a raw table.

    Attributes:
        columns: the wanted columns by name, each an array of Arrow.
        lines: the line of the file at which each row ends, or None.
        wrong: for each row that is longer or shorter than the header, its line and its number of fields.
    """

    columns: dict[str, Any]
    lines: np.ndarray | None = None
    wrong: list[tuple[int, int]] = field(default_factory=list)


class CsvColumns:
    """Read a CSV file as texts.

    Args:
        path: the file.
        name: the setting that errors begin with.
        delimiter: what separates fields, one of `schema.DELIMITERS`.

    Attributes:
        names: the names in the header.
        rows: the number of rows that have a field for every name.
        where: the file, for errors.

    Raises InputError for a file without rows, and where the header has one column whose name holds another separator.
    """

    def __init__(self, path: Path, name: str, delimiter: str = ","):
        self._path, self.where, self._delimiter = path, str(path), delimiter
        self.names, self._start, self._line = self._header()
        if not self.names:
            raise InputError(name, f"{path} with no rows", "one row or more")
        for other in (*DELIMITERS, " "):
            if len(self.names) == 1 and other != delimiter and other in self.names[0]:
                found, expected = f"one column, whose name contains {other!r}, in {path}", f"separated by {delimiter!r}"
                if other in DELIMITERS:
                    expected += f"; where fields are separated by {other!r}, the recipe states dialect: {{delimiter: "
                    expected += f"{other!r}}} (recipe infer --delimiter {other!r})"
                raise InputError(name, found, f"fields {expected}")
        self.rows = sum(len(lines) for _, lines, _ in self._pieces(self.names[:1]))

    def blocks(self, size: int, wanted: Sequence[str]) -> Iterator[RawBlock]:
        """Yield the wanted columns of `size` rows at a time."""
        import pyarrow as pa

        held: list[Any] = []
        lines: list[np.ndarray] = []
        wrong: list[tuple[int, int]] = []

        def block(count: int) -> RawBlock:
            """Take the first `count` rows of what is held."""
            nonlocal held, lines, wrong
            table, places = pa.concat_tables(held).combine_chunks(), np.concatenate(lines)
            first = {name: _whole(table.column(k))[:count] for k, name in enumerate(wanted)}
            found = RawBlock(first, places[:count], wrong)
            held, lines, wrong = [table.slice(count)], [places[count:]], []
            return found

        for table, places, bad in self._pieces(wanted):
            held.append(table)
            lines.append(places)
            wrong += bad
            while sum(map(len, lines)) >= size:
                yield block(size)
        if held and (left := sum(map(len, lines))) + len(wrong):
            yield block(left)

    def _header(self) -> tuple[list[str], int, int]:
        """Return the names in the header, and the byte and the number of lines at which it ends."""
        with open(self._path, "rb") as raw:
            start = len(MARK) if raw.read(len(MARK)) == MARK else 0
        with open(self._path, newline="", encoding="utf-8-sig") as file:
            lengths: list[int] = []
            reader = csv.reader(_counted(file, lengths), delimiter=self._delimiter)
            names = [name.strip() for name in next((row for row in reader if not _blank(row)), [])]
            return names, start + sum(lengths), len(lengths)

    def _pieces(self, wanted: Sequence[str]) -> Iterator[tuple[Any, np.ndarray, list[tuple[int, int]]]]:
        """Yield the wanted columns as a table of Arrow, the rows' lines, and the wrong rows, piece by piece."""
        places = [self.names.index(name) for name in wanted] or [0]  # without a column a table has no rows
        with open(self._path, "rb") as file:
            file.seek(self._start)
            start, line = self._start, self._line
            while piece := _next_lines(file):
                table = self._fast(piece, places)
                if table is None:
                    yield from self._slow(file, start, line, places)
                    return
                yield table, np.arange(line + 1, line + 1 + len(table)), []
                start, line = start + len(piece), line + len(table)

    def _fast(self, piece: bytes, places: Sequence[int]) -> Any:
        """Return the columns of whole lines, read by Arrow; None where it could read them otherwise than `csv`."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        if len(self.names) < 2 or b"\0" in piece or not (_is_text(piece) and _short_lines(piece)):
            return None
        if b"\r" in piece and piece.count(b"\r") != piece.count(b"\r\n"):
            return None
        if b'"' in piece and b'"' in _quoted(self._delimiter).sub(b"", piece):
            return None
        names = list(map(str, range(len(self.names))))
        kept = [names[place] for place in places]
        try:
            return arrow.read_csv(
                pa.BufferReader(piece),
                arrow.ReadOptions(column_names=names, use_threads=False, block_size=2 * len(piece) + 1),
                arrow.ParseOptions(delimiter=self._delimiter, double_quote=False, ignore_empty_lines=False),
                arrow.ConvertOptions(
                    column_types=dict.fromkeys(kept, pa.string()), include_columns=kept, strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:  # a blank line, or a row of another length
            return None

    def _slow(self, file: IO[bytes], start: int, line: int, places: Sequence[int]) -> Iterator[tuple[Any, Any, Any]]:
        """Yield what `_pieces` yields, from the byte `start` on, as `csv` reads it. line: the lines before that."""
        import pyarrow as pa

        file.seek(start)
        text = io.TextIOWrapper(file, newline="", encoding="utf-8")
        reader = csv.reader(text, delimiter=self._delimiter)
        rows: list[list[str]] = []
        lines: list[int] = []
        wrong: list[tuple[int, int]] = []

        def piece() -> tuple[Any, np.ndarray, list[tuple[int, int]]]:
            columns = {str(k): pa.array([row[k] for row in rows], pa.string()) for k in places}
            return pa.table(columns), np.array(lines, np.int64), wrong

        for row in reader:
            if _blank(row):
                continue
            if len(row) != len(self.names):
                wrong.append((line + reader.line_num, len(row)))
                continue
            rows.append(row)
            lines.append(line + reader.line_num)
            if len(rows) == 1 << 14:
                yield piece()
                rows, lines, wrong = [], [], []
        yield piece()


def _next_lines(file: IO[bytes]) -> bytes:
    """Return the next lines, whole ones but for the last of the file; an overlong line is cut."""
    piece = file.read(PIECE)
    if len(piece) == PIECE and not piece.endswith(b"\n"):
        piece += file.readline(LONGEST)
    return piece


def _is_text(piece: bytes) -> bool:
    """Return whether the bytes are UTF-8, those of columns that are not wanted too."""
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _short_lines(piece: bytes) -> bool:
    """Return False where a line is longer than LONGEST bytes, and perhaps where one is half as long."""
    part = LONGEST // 2
    return all(piece.find(b"\n", start, start + part) >= 0 for start in range(0, len(piece) - part, part))


def _quoted(delimiter: str) -> re.Pattern[bytes]:
    """Match fields that stand in quotes as a whole, in one line and without a quote inside."""
    mark = re.escape(delimiter).encode()
    return re.compile(rb"(?:(?<=" + mark + rb')|(?m:^))"[^"\r\n]*"(?=' + mark + rb"|\r\n|\n|\Z)")


def _counted(file: Any, lengths: list[int]) -> Iterator[str]:
    """Yield the lines of a text file, and append the number of bytes of each to `lengths`."""
    for line in file:
        lengths.append(len(line.encode("utf-8")))
        yield line


def _whole(column: Any) -> Any:
    """Return a column of one chunk, or of none, as an array."""
    import pyarrow as pa

    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _blank(row: Sequence[str]) -> bool:
    return not row or len(row) == 1 and not row[0].strip()
