"""One listing: the record, its file, and the checks that a JSON schema cannot express.

In go the owner's facts and words, or a file; out comes a `Listing`, or its file. The file is JSON in ASCII with sorted
keys, indented by one space, with lists of numbers on one line and with `<`, `>` and `&` escaped. Therefore the same
listing is the same bytes everywhere, shows readable differences in git, and may stand inside a web page. The bytes of a
file have to stay, because requests state its digest. A new field needs a place in `content`, in `of` and in the schema,
and has to be left out where it is not stated.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import read_json
from mpc_appraisal.common.storage import write_new
from mpc_appraisal.common.text import shown
from mpc_appraisal.data import Resolution
from mpc_appraisal.governance.catalogue.commitment import SCHEME
from mpc_appraisal.governance.catalogue.schema import FORMAT, TYPES, VERSION, check_schema

LARGEST_FILE = 1 << 26  # the largest size of a listing's file, in bytes


@dataclass(frozen=True)
class Terms:
    """What the owner asks for.

    Attributes:
        text: the terms in the owner's own words.
        minimum_rows: the smallest number of rows that may be appraised, because an appraisal of few rows reveals more.
        price: the price in `currency`; None where no price is stated.
        currency: three capital letters.
        licence: the name of the licence.
        purposes: what the data may be used for.
        contact: whom to ask.
    """

    text: str = ""
    minimum_rows: int = 1
    price: float | None = None
    currency: str | None = None
    licence: str | None = None
    purposes: tuple[str, ...] = ()
    contact: str | None = None


@dataclass(frozen=True)
class Samples:
    """Example rows.

    Attributes:
        kind: 'synthetic' or 'real'.
        x: the rows, each a tuple of features.
        y: the label of each row.
        reveals: in words, what the rows reveal about the data.
    """

    kind: str
    x: tuple[tuple[float, ...], ...]
    y: tuple[int, ...]
    reveals: str


@dataclass(frozen=True)
class Statistics:
    """Statistics of a data set.

    Attributes:
        rows_by_class: the number of rows of each class, (classes,).
        mean, deviation: the mean and the population standard deviation of each feature, (features,), or of the features
            of `columns` alone.
        reveals: in words, what the numbers reveal about the data.
        columns: the places of the features that the owner chose to show, from 0 and rising; None for all.
    """

    rows_by_class: tuple[int, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    reveals: str
    columns: tuple[int, ...] | None = None

    def of_column(self, place: int) -> tuple[float, float] | None:
        """Return the mean and the deviation of the feature at a place from 0; None where they are not shown."""
        if self.columns is None:
            return self.mean[place], self.deviation[place]
        at = bisect_left(self.columns, place)
        shown = at < len(self.columns) and self.columns[at] == place
        return (self.mean[at], self.deviation[at]) if shown else None


@dataclass(frozen=True)
class NumericTarget:
    """A target that is a number.

    Attributes:
        name: the name of the target.
        unit: its unit in words; None where none is stated.
        minimum, maximum: its range, as the recipe states it; None for no stated range.
    """

    name: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __str__(self) -> str:
        span = "" if self.minimum is None else f" from {self.minimum:g} to {self.maximum:g}"
        return f"{self.name}, a number{f' in {self.unit}' if self.unit else ''}{span}"


@dataclass(frozen=True)
class Listing:
    """What is published about a data set. Raises InputError where its parts do not fit together.

    Attributes:
        name: the name of the listing and of its file.
        rows, features, classes: the sizes of the data set; 1 class where the target is a number.
        types: how many features hold only 0 and 1 ('binary'), only whole numbers ('integer'), or neither ('real').
        digest: the commitment to the data, see `commitment.commit`.
        title, description: what the data are, in the owner's words.
        encoding: how values and labels came about, in the owner's words.
        columns: the name and the type of each feature, where the owner names them.
        class_names: the names of labels 0, 1, ...; None where the owner does not name them.
        recipe: the digest of the recipe that makes features of the data's raw table; None for a file of features.
        target: what is predicted, where it is a number; None for classes.
        terms: what the owner asks for.
        samples, statistics: what the owner publishes on demand.
        resolution: with which scale, and how many bits, all numbers are integers; None where the owner does not say.
        creator: who made the data set; None where the owner does not say.
        date: the day on which this version of the data was published, as in 2026-01-31; None where none is stated.
        version: the version of the data, as in 1.0.0; None where none is stated.
        where: the name of the listing in errors; it is not published.
    """

    name: str
    rows: int
    features: int
    classes: int
    types: dict[str, int]
    digest: str
    title: str = ""
    description: str = ""
    encoding: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    class_names: tuple[str, ...] | None = None
    recipe: str | None = None
    target: NumericTarget | None = None
    terms: Terms = Terms()
    samples: Samples | None = None
    statistics: Statistics | None = None
    resolution: Resolution | None = None
    creator: str | None = None
    date: str | None = None
    version: str | None = None
    where: str = field(default="listing", compare=False)

    def __post_init__(self) -> None:
        check_schema(self.content(), self.where)
        self._check_target()
        self._fits("data.types", sum(self.types.values()), self.features, "one type a feature")
        if self.columns:
            names = [name for name, _ in self.columns]
            self._fits("data.columns", len(names), self.features, "one column a feature")
            self._fits("data.columns", len(set(names)), len(names), "different names")
            counts = {kind: sum(kind == other for _, other in self.columns) for kind in TYPES}
            self._fits("data.columns", counts, self.types, "types as in data.types")
        if self.class_names is not None:
            self._fits("data.class_names", len(self.class_names), self.classes, "one name a class")
            self._fits("data.class_names", len(set(self.class_names)), self.classes, "different names")
        if self.terms.minimum_rows > self.rows:
            raise InputError(f"{self.where}: terms.minimum_rows", self.terms.minimum_rows, f"at most {self.rows} rows")
        if self.samples:
            for row in self.samples.x:
                self._fits("samples.x", len(row), self.features, "numbers a row")
            self._fits("samples.y", len(self.samples.y), len(self.samples.x), "labels, one a row")
            if max(self.samples.y) >= self.classes:
                raise InputError(f"{self.where}: samples.y", max(self.samples.y), f"labels 0 .. {self.classes - 1}")
        if self.statistics:
            s = self.statistics
            self._fits("statistics.rows_by_class", len(s.rows_by_class), self.classes, "numbers, one a class")
            self._fits("statistics.rows_by_class", sum(s.rows_by_class), self.rows, "rows in all")
            stated = self.features if s.columns is None else len(s.columns)
            self._fits("statistics.mean", len(s.mean), stated, "numbers, one a feature")
            self._fits("statistics.deviation", len(s.deviation), stated, "numbers, one a feature")
            if s.columns is not None and not (
                s.columns[-1] < self.features and all(a < b for a, b in zip(s.columns, s.columns[1:], strict=False))
            ):
                expected = f"places of features, rising, below {self.features}"
                raise InputError(f"{self.where}: statistics.columns", shown(list(s.columns)), expected)

    def _check_target(self) -> None:
        target = self.target
        if (self.classes == 1) != (target is not None):
            expected = "an integer from 2 to 2147483647, or 1 beside data.target, a number"
            raise InputError(f"{self.where}: data.classes", self.classes, expected)
        if target is None:
            return
        low, high = target.minimum, target.maximum
        if (low is None) != (high is None) or low is not None and not low < high:
            raise InputError(f"{self.where}: data.target", f"{low} to {high}", "minimum below maximum, or neither")
        if self.class_names is not None or self.samples is not None:
            what = "data.class_names" if self.class_names is not None else "samples"
            raise InputError(f"{self.where}: {what}", "stated", "none, for a target that is a number")

    def _fits(self, key: str, value: Any, expected: Any, what: str) -> None:
        if value != expected:
            raise InputError(f"{self.where}: {key}", value, f"{expected}: {what}")

    @property
    def column_names(self) -> tuple[str, ...] | None:
        """Return the names of the features in order; None where the owner does not name them."""
        return tuple(name for name, _ in self.columns) or None

    def content(self) -> dict[str, Any]:
        """Return the listing as JSON values. A field that is not stated is left out."""
        data: dict[str, Any] = {"rows": self.rows, "features": self.features, "classes": self.classes}
        data |= {"types": dict(self.types), "encoding": self.encoding}
        if self.columns:
            data["columns"] = [{"name": name, "type": kind} for name, kind in self.columns]
        if self.class_names is not None:
            data["class_names"] = list(self.class_names)
        if self.recipe is not None:
            data["recipe"] = self.recipe
        if self.resolution is not None:
            data["resolution"] = self.resolution.as_dict()
        if self.target is not None:
            data["target"] = {key: value for key, value in asdict(self.target).items() if value is not None}
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "data": data,
            "terms": {key: value for key, value in asdict(self.terms).items() if value not in (None, ())},
            "commitment": {"scheme": SCHEME, "digest": self.digest},
        }
        publication = {"creator": self.creator, "date": self.date, "version": self.version}
        publication = {key: value for key, value in publication.items() if value is not None}
        content |= {"publication": publication} if publication else {}
        content |= {"samples": asdict(self.samples)} if self.samples else {}
        if self.statistics:
            content["statistics"] = {key: v for key, v in asdict(self.statistics).items() if v is not None}
        return json.loads(json.dumps(content))  # tuples become lists, as they are read again

    @staticmethod
    def of(content: Any, where: str = "listing") -> Listing:
        """Return the listing that JSON values state. Raises InputError, with `where` and the field, for other JSON."""
        check_schema(content, where)
        data, terms = content["data"], content["terms"]
        samples, statistics = content.get("samples"), content.get("statistics")
        return Listing(
            name=content["name"],
            rows=data["rows"],
            features=data["features"],
            classes=data["classes"],
            types=data["types"],
            digest=content["commitment"]["digest"],
            title=content["title"],
            description=content["description"],
            encoding=data["encoding"],
            columns=tuple((column["name"], column["type"]) for column in data.get("columns", ())),
            class_names=tuple(data["class_names"]) if "class_names" in data else None,
            recipe=data.get("recipe"),
            target=NumericTarget(**data["target"]) if "target" in data else None,
            terms=Terms(**terms | {"purposes": tuple(terms.get("purposes", ()))}),
            samples=samples and Samples(**samples | {"x": tuple(map(tuple, samples["x"])), "y": tuple(samples["y"])}),
            statistics=statistics
            and Statistics(**{k: v if isinstance(v, str) else tuple(v) for k, v in statistics.items()}),
            resolution=Resolution(**data["resolution"]) if "resolution" in data else None,
            **content.get("publication", {}),
            where=where,
        )

    def text(self) -> str:
        """Return the content of the listing's file."""
        plain = _lines(self.content(), 0) + "\n"
        return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

    @property
    def file_digest(self) -> str:
        """Return the SHA-256 of the file that `write_listing` writes, 64 hex digits, as `sha256sum` prints it."""
        return hashlib.sha256(self.text().encode("ascii")).hexdigest()


def _lines(value: Any, depth: int) -> str:
    """Return JSON with sorted keys, with each list of plain values on one line."""
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_lines(value[key], depth + 1)}" for key in sorted(value)]
        opening, closing = "{", "}"
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        parts = [json.dumps(item, sort_keys=True, allow_nan=False) for item in value]
        opening, closing = "[", "]"
    else:
        return json.dumps(value, allow_nan=False)
    inner = "\n" + " " * (depth + 1)
    return opening + inner + ("," + inner).join(parts) + "\n" + " " * depth + closing


def write_listing(path: str | os.PathLike[str], listing: Listing) -> None:
    """Write the listing to a new file. Raises InputError where a file is there already, or the folder refuses."""
    try:
        write_new(Path(path), listing.text())
    except FileExistsError as error:
        raise InputError("name", f"{path}, which is already there", "a name that the catalogue lacks") from error
    except OSError as error:
        raise InputError("out", f"{path} ({error.strerror})", "a folder that can be written") from error


def read_listing(path: str | os.PathLike[str]) -> Listing:
    """Read the listing in the file `path`, whose name must be the listing's.

    Raises InputError with file, field and what was expected.
    """
    path = Path(path)
    where = shown(path.name)
    if not path.is_file():
        raise InputError("listing", shown(str(path)), "an existing file")
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise InputError(where, f"more than {LARGEST_FILE} bytes", "a listing, not data")
        content = read_json(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(where, shown(f"no JSON ({error})", 200), "a readable JSON file (damaged?)") from error
    listing = Listing.of(content, where)
    if path.name != f"{listing.name}.json":
        raise InputError(f"{where}: name", repr(listing.name), "the file's own name without .json (a copy?)")
    return listing
