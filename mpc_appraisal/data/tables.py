"""Tables with a label column and a header: `.csv`, read whole, and `.parquet`, read in blocks, by one set of rules.

A file goes in, and blocks of rows (x, y) come out: features (n, d), and labels (n,). A column holds numbers: booleans
(as 0 and 1), integers and floats of any width. Each value is taken as the nearest double, and a missing value is NaN.
Text, dates, times, decimals, categories of texts, lists, structures, and columns of Parquet's null type are refused,
and the error names the column. So is a table with an empty or a repeated name, or with a row index among its columns
(see `row_index`). In Parquet, pandas states which columns are the index of its rows. Such columns are refused too,
because they may hold row numbers, or something that their owner takes for a feature. An index that is stored as a range
of numbers has no column, so that there is nothing to refuse.

pandas 3.1 and later, and the option `round_trip` of older versions, take the nearest double of each number of a CSV.
Therefore the same file gives the same bytes under all versions. This has to stay, because a commitment to a data set is
a hash of its numbers. Limits on sizes may change.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import row_index
from mpc_appraisal.data.dataset import listed
from mpc_appraisal.data.sizes import Sizes
from mpc_appraisal.data.targets import CLASSES, TWO, numbers_of_words

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*", re.ASCII)
SEPARATORS = (";", "\t", "|", " ")
FIELD_BYTES = 100  # the most bytes of a number of a CSV file with its comma
HEADER_BYTES = 1 << 20
SHOWN_ROWS = 3  # the rows of an index that an error shows
COLUMN_BYTES, CELL_BYTES = 1 << 16, 32  # a column chunk of Parquet has at most the sum of both, the second for each row


def check_columns(columns: Sequence[str], label: str | None, path: Path, name: str) -> None:
    """Raise InputError for a header without exactly one column `label`, or with a name that is refused.

    With None for `label` the table has no labels, and each column is a feature.

    path: the file, for the error. name: the setting that errors begin with.
    """
    times = 1 if label is None else columns.count(label)
    for separator in SEPARATORS if len(columns) == 1 and (times != 1 or label is None) else ():
        if separator in columns[0] and (separator != " " or label in columns[0].split()):
            found = f"{path} with fields separated by {separator!r}"
            raise InputError(name, found, "fields separated by ',', and '.' in decimal numbers")
    if times != 1:
        lacks = f"with {times} columns {label!r}" if times else f"without a column {label!r}"
        has = f"its only column is {columns[0]!r}" if len(columns) == 1 else f"its columns are {listed(columns)}"
        expected = f"one label column named {label!r}, as party.label, or label=, says"
        raise InputError(name, f"{path} {lacks} ({has})", expected)
    row_index.refuse_names(columns, name)
    if len(set(columns)) < len(columns) or not all(column.strip() for column in columns):
        raise InputError(
            name,
            f"columns {listed(columns)}",
            "a different, non-empty name for every column (in pandas, write with index=False)",
        )


def refuse_types(kinds: Sequence[tuple[str, str]], name: str) -> None:
    """Raise InputError for columns that hold no numbers. kinds: for each such column its name and what it holds."""
    if kinds:
        found = listed([f"{column} ({kind})" for column, kind in kinds], quoted=False)
        expected = "numeric columns only, or a recipe (`mpc-appraisal recipe infer`), which reads texts and dates"
        raise InputError(name, f"non-numeric columns {found}", expected)


class ParquetTable:
    """Read a Parquet file.

    The arguments are those of `arrays.NpzArrays`, with `label` the name of the label column, or None for none.

    Attributes:
        columns: the names of the features.
        class_names: None, because a table has none.
        rows, features: the numbers of rows and of features.

    Raises InputError for a table that is refused, or not of these sizes.
    """

    class_names = None

    def __init__(self, path: Path, label: str | None, name: str, sizes: Sizes | None, target: str = CLASSES):
        from pyarrow import parquet

        self._path, self._label, self._name = path, label, name
        self._words = target == TWO  # the labels may be the texts no and yes
        with parquet.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            names = [field.name for field in schema]
            _refuse_index(file, name, sizes is None)
            self.rows, self.features = metadata.num_rows, len(names) - (label is not None)
            check_columns(names, label, path, name)
            words = [f.name for f in schema if self._words and f.name == label and _is_text(f.type)]
            others = [f for f in schema if not _is_number(f.type) and f.name not in words]
            refuse_types([(f.name, str(f.type)) for f in others], name)
            self.columns = tuple(column for column in names if column != label)
            if sizes is not None:
                sizes.check(self.rows, self.features)
                self._check_unpacked(metadata, names, name)

    def _check_unpacked(self, metadata: Any, names: Sequence[str], name: str) -> None:
        for k in range(metadata.num_row_groups):
            group = metadata.row_group(k)
            for column in (group.column(j) for j in range(group.num_columns)):
                most = COLUMN_BYTES + CELL_BYTES * max(group.num_rows, 0)
                if column.path_in_schema in names and not 0 <= column.total_uncompressed_size <= most:
                    found = (
                        f"{self._path} with {column.total_uncompressed_size} bytes unpacked of {group.num_rows} rows"
                    )
                    raise InputError(name, f"{found} in {column.path_in_schema!r}", f"at most {most} bytes")

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (x, y) for `size` rows at a time: x (n, d) float64, y (n,) numbers."""
        from pyarrow import parquet

        with parquet.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=size, columns=self._names):
                x = np.empty((batch.num_rows, len(self.columns)))
                for k, column in enumerate(self.columns):
                    x[:, k] = _numbers(batch.column(column))
                yield x, self._labels(batch)

    @property
    def _names(self) -> list[str]:
        return list(self.columns) if self._label is None else [*self.columns, self._label]

    def _labels(self, batch: Any) -> np.ndarray:
        if self._label is None:
            return np.zeros(batch.num_rows, np.int64)
        column = batch.column(self._label)
        if not self._words or _is_number(column.type):
            return _numbers(column)
        found = numbers_of_words(column.to_pylist())
        if found is None:
            refuse_types([(self._label, str(column.type))], self._name)
        return found


def _refuse_index(file: Any, name: str, shown: bool) -> None:
    """Raise InputError for columns that pandas wrote for the index of its rows.

    shown: whether the error shows their first values.
    """
    schema = file.schema_arrow
    try:
        stated = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        return
    stated = stated if isinstance(stated, list) else []
    found = [field.name for field in schema if field.name in stated]
    if found:
        begins = ""
        if shown and (first := next(file.iter_batches(batch_size=SHOWN_ROWS, columns=found[:1]), None)) is not None:
            begins = f" ({', '.join(str(one)[:40] for one in first.column(0).to_pylist())}, ...)"
        row_index.refuse(found, f"which pandas wrote as the index of the rows{begins}", name)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_large_string(kind)


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)


def _numbers(column: Any) -> np.ndarray:
    """Return a column of Arrow as numbers of numpy, with NaN for null."""
    import pyarrow as pa

    column = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
    found = column.to_numpy(zero_copy_only=False)
    return found.astype(np.float64) if found.dtype.kind == "f" else found


class CsvTable:
    """Read a CSV file with the same attributes as `ParquetTable`: read whole, because its numbers differ in length."""

    class_names = None

    def __init__(self, path: Path, label: str | None, name: str, sizes: Sizes | None, target: str = CLASSES):
        header = _check_rows(path, label, name, sizes)
        self.columns = tuple(column for column in header if column != label)
        self._x, self._y = _read_csv(path, header, label, name, target == TWO)
        self.rows, self.features = self._x.shape

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (x, y) for `size` rows at a time: x (n, d) float64, y (n,) numbers."""
        for start in range(0, self.rows, size):
            yield self._x[start : start + size], self._y[start : start + size]


def _check_rows(path: Path, label: str | None, name: str, sizes: Sizes | None) -> list[str]:
    """Read the header, and refuse rows that have more or fewer fields than the header.

    The fields of every row are counted, because readers of tables do not: of rows with one field too many they may
    take the first field for an index, and shift the columns.
    """
    if sizes is not None:
        sizes.check_bytes(path, HEADER_BYTES + (sizes.rows + 1) * (sizes.features + 1) * FIELD_BYTES)
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [column.strip() for column in next((row for row in reader if not _blank(row)), [])]
        if not header:
            raise InputError(name, f"{path} with no rows", "one row or more")
        check_columns(header, label, path, name)
        features = len(header) - (label is not None)
        if sizes is not None:
            sizes.check(sizes.rows, features)
        rows, wrong, commas, first = 0, 0, 0, ""
        for row in reader:
            if len(row) != len(header):
                if _blank(row):
                    continue
                wrong += 1
                commas += len(row) == len(header) + 1 and not row[-1].strip()
                first = first or f"line {reader.line_num} has {len(row)} fields"
            rows += 1
            if sizes is not None and rows > sizes.rows:
                sizes.check(rows, features, more=True)
    if commas and commas == rows:
        raise InputError(
            name, f"{path} with a comma at the end of every row", "as many fields as the header has names, and no more"
        )
    if wrong:
        found = f"{path} with {wrong} of {rows} rows longer or shorter than its header"
        expected = f"a name for every column, and a field for every name: {len(header)} a row"
        raise InputError(name, f"{found} ({first})", f"{expected} (fields separated by ',', '.' in decimal numbers)")
    if sizes is not None:
        sizes.check(rows, features)
    return header


def _blank(row: Sequence[str]) -> bool:
    return not row or len(row) == 1 and not row[0].strip()


def _read_csv(
    path: Path, header: list[str], label: str | None, name: str, words: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return x (n, d) and y (n,), zeros without a label column. words: whether labels may be the texts no and yes."""
    import pandas as pd  # the import takes half a second
    from pandas.api.types import is_numeric_dtype

    # pandas 3.1 and later takes the nearest double by itself, and warns about the option.
    old = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
    options: dict[str, Any] = {"float_precision": "round_trip"} if old else {}
    table = pd.read_csv(path, low_memory=False, index_col=False, encoding="utf-8-sig", **options)
    if table.empty:
        raise InputError(name, f"{path} with no rows", "one row or more")
    if table.shape[1] != len(header):
        raise InputError(
            name, f"{path} with {table.shape[1]} columns", f"{len(header)}, as many as its header has names"
        )
    table.columns = range(len(header))
    columns, bad = [], []
    for k, column in enumerate(header):
        values = table[k]
        if words and column == label and not is_numeric_dtype(values):
            read = numbers_of_words(values.tolist())
            bad += [(column, "text")] if read is None else []
            values = values if read is None else read
        elif not is_numeric_dtype(values):
            values, kind = _as_numbers(values.tolist())
            bad += [(column, kind)] if values is None else []
        columns.append(values)
    refuse_types(bad, name)
    y = np.zeros(len(table), np.int64) if label is None else np.asarray(columns.pop(header.index(label)))
    x = np.empty((len(table), len(columns)))
    for k, values in enumerate(columns):
        x[:, k] = np.asarray(values, dtype=np.float64)
    return x, y


def _as_numbers(values: list[Any]) -> tuple[np.ndarray | None, str]:
    """Return the numbers of a column that pandas took for text or objects.

    These are booleans beside missing values, integers beyond 64 bits, and numbers too large for a double. Where a value
    is no number, the result is None and, in words, what the column holds.
    """
    found = np.empty(len(values))
    for k, value in enumerate(values):
        missing = value is None or value != value
        text = value if isinstance(value, str) else str(value)
        if missing or isinstance(value, (bool, np.bool_)):
            found[k] = np.nan if missing else value
        elif NUMBER.fullmatch(text):
            found[k] = float(text)
        elif DECIMAL_COMMA.fullmatch(text):
            return None, "decimal commas"
        else:
            return None, "text"
    return found, ""
