"""The items of a file that can be compared with another owner's: its rows, or the keys in one of its columns.

In go a data set, or a file and the name of a column; out come `Items`, which hold a digest for each different item.
Two items are equal where their digests are, whatever the formats of their files:

    row    SHA-256 over ROW and the features in the order of the columns, each as a big-endian double, -0.0 as 0.0;
           the label is no part of a row, so that a copy under another label is the same row
    key    SHA-256 over KEY and the text in UTF-8, in Unicode's normal form NFC and without white space at both ends

A key is the text that stands in the file: 007 and 7 differ, and so do A and a. In CSV the text is what stands between
the separators, without the quotation marks of CSV; nothing is read as a number, a date or a mark of a missing value. No
recipe plays a part, so that the column may be none of its features. A whole number of Parquet or .npz is the key of its
decimal digits. A row whose key is blank has no key. Numbers of float32 are taken as they are, so that 0.1 in
float32 is another number than the text 0.1.

A type of column may be added to `_texts_of`. ROW, KEY and the bytes that are hashed have to stay, because both owners
have to find the same digests.
"""

from __future__ import annotations

import csv
import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.dataset import Dataset, listed
from mpc_appraisal.data.files import StoredDataset

ROW, KEY = b"mpc_appraisal overlap row 1\n", b"mpc_appraisal overlap key 1\n"
BLOCK = 1 << 14  # rows that are hashed at a time
LARGEST = 1 << 34  # the most bytes of an .npz file of keys, unpacked
EXPECTED = "texts or whole numbers"


@dataclass(frozen=True)
class Items:
    """Hold the different items of one file.

    Attributes:
        digests: The digest of each item, 64 hex digits, all different. They are sorted, so that nothing is said of the
            order of the file.
        rows: The number of rows of the file.
        without_key: The number of rows that have no key.
    """

    digests: tuple[str, ...]
    rows: int
    without_key: int = 0

    @property
    def copies(self) -> int:
        """The number of rows that were left out because another row is the same item."""
        return self.rows - self.without_key - len(self.digests)


def items_of_rows(data: Dataset | StoredDataset) -> Items:
    """Return the different rows of a data set, by their features."""
    found: set[str] = set()
    for block in data.blocks(BLOCK):
        values = np.ascontiguousarray(block.x.numpy().astype(np.float64) + 0.0, dtype=">f8")  # + 0.0 turns -0.0 to 0.0
        found.update(hashlib.sha256(ROW + row.tobytes()).hexdigest() for row in values)
    return Items(tuple(sorted(found)), data.rows)


def items_of_keys(path: str | Path, column: str, name: str) -> Items:
    """Return the different keys in one column of a `.csv` or `.parquet` file, or in one array of an `.npz` file.

    Args:
        path: the file.
        column: the name of the column.
        name: the setting that errors begin with.

    Raises InputError for a file that cannot be read, has no such column or no key, or has it under a type that has no
    exact text, such as floats.
    """
    path = Path(path)
    rows, without, found = 0, 0, set()
    for key in keys_of(path, column, name):
        rows += 1
        without += not key
        if key:
            found.add(hashlib.sha256(KEY + key.encode("utf-8")).hexdigest())
    if not found:
        raise InputError(name, f"{path} with {rows} rows and no key in {column!r}", "one key or more")
    return Items(tuple(sorted(found)), rows, without)


def keys_of(path: str | Path, column: str, name: str, delimiter: str = ",") -> Iterator[str]:
    """Yield the key of each row of a file in order, normalised; '' for a row without one.

    delimiter: what separates the fields of a .csv file. The other arguments and the errors are those of
    `items_of_keys`.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        found = f"{path}{'' if path.exists() else ', which is not there'}"
        raise InputError(name, found, f"an existing file ending in {', '.join(READERS)}")
    stated = {"delimiter": delimiter} if reader is _of_csv else {}
    try:
        for text in reader(path, column, name, **stated):
            yield unicodedata.normalize("NFC", text or "").strip()
    except (InputError, GeneratorExit):
        raise
    except Exception as error:  # csv, zip and Arrow raise many kinds of errors for foreign bytes
        words = " ".join(str(error).split())[:200]
        raise InputError(name, f"{path} ({type(error).__name__}: {words})", "a readable file with rows") from error


def _of_csv(path: Path, column: str, name: str, delimiter: str = ",") -> Iterator[str]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = [each.strip() for each in next((row for row in reader if row), [])]
        place = _place(header, column, path, name)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                found = f"{path}, whose line {reader.line_num} has {len(row)} fields"
                raise InputError(name, found, f"{len(header)} fields in every line, as the header has")
            yield row[place]


def _of_parquet(path: Path, column: str, name: str) -> Iterator[str | None]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        kind = file.schema_arrow.field(_place(names, column, path, name)).type
        for batch in file.iter_batches(batch_size=BLOCK, columns=[column]):
            yield from _texts_of(batch.column(0), kind, column, name)


def _texts_of(values: Any, kind: Any, column: str, name: str) -> Iterable[str | None]:
    """Return a column of Arrow as texts, with None for null."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(kind) or types.is_large_string(kind):
        return values.to_pylist()
    if types.is_integer(kind):
        return (None if value is None else str(value) for value in values.to_pylist())
    raise InputError(name, f"a column {column!r} of {kind}", EXPECTED)


def _of_npz(path: Path, column: str, name: str) -> list[str]:
    arrays = read_arrays(path, name, f"an .npz file with an array {column!r} of {EXPECTED}", LARGEST)
    _place(list(arrays), column, path, name)
    values = arrays[column]
    if values.ndim != 1 or values.dtype.kind not in "Uiu":
        found = f"an array {column!r} of shape {values.shape}, {values.dtype}"
        raise InputError(name, found, f"an array of one dimension, of {EXPECTED}")
    return [str(value) for value in values.tolist()]


def _place(names: Sequence[str], column: str, path: Path, name: str) -> int:
    """Return the place of the column. Raises InputError unless the file has it exactly once."""
    if (times := names.count(column)) != 1:
        found = f"{path} with {times or 'no'} columns {column!r} (it has {listed(list(names))})"
        raise InputError(name, found, f"one column {column!r}, whose keys are compared")
    return names.index(column)


READERS: dict[str, Callable[..., Iterable[str | None]]] = {
    ".csv": _of_csv,
    ".parquet": _of_parquet,
    ".npz": _of_npz,
}
