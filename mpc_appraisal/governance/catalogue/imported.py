"""Descriptions of data sets by others, read from Croissant files, which a catalogue keeps for its search.

In goes the Croissant file of somebody else; out comes an `Imported`, which `keep` writes to imported/NAME.json in the
catalogue's folder. It has no commitment, so that no appraisal can be tied to it: it is there to be found, and leads to
the address where the data are. The file is foreign. Each value is checked by hand, sizes are limited, and nothing is
fetched: neither a context, nor a file, nor a licence. Keys are those of the specification with the prefixes of
PREFIXES, and a context that renames them is not followed. What is left out is named. A key may be added to `Imported`
with a reader in `_read`. No library reads the file, because the one for Croissant changes labels as it reads.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, day, many, matching, read_json, record, text
from mpc_appraisal.common.storage import write_new
from mpc_appraisal.common.text import is_web_address, shown
from mpc_appraisal.governance.catalogue.schema import NAME, NAMED

FORMAT = "mpc_appraisal imported description 1"
FOLDER = "imported"
LARGEST_FILE = 1 << 24  # bytes
MOST = 1000  # values of one key
MOST_COLUMNS = 10_000
LONG, SHORT = 20_000, 500  # characters of a description, and of any other text
PREFIXES = (
    *("https://schema.org/", "http://schema.org/", "sc:", "schema:"),
    *("http://mlcommons.org/croissant/", "cr:", "http://purl.org/dc/terms/", "dct:", "dcterms:"),
)
CONFORMS = re.compile(r"https?://mlcommons\.org/croissant/1\.[0-9]+/?")
TYPE = "@type"
READ = ("@context", "@id", TYPE, "conformsTo", "name", "description", "url", "creator", "datePublished", "version")
READ += ("license", "keywords", "recordSet")
ENUMERATION = (
    "sc:Enumeration",
    "schema:Enumeration",
    "https://schema.org/Enumeration",
    "http://schema.org/Enumeration",
)


@dataclass(frozen=True)
class Imported:
    """What is kept of somebody else's description.

    Attributes:
        name: the name of its file in the catalogue, as listings have one.
        title, description: what the data are.
        url: where the data are described; None where no address of the web is stated.
        creators, licences, keywords: texts, perhaps none. A licence is its address or its name.
        date, version: when the data were published, and which version they are; None where it is not stated.
        columns: the names of the fields of all record sets, at most MOST_COLUMNS.
    """

    name: str
    title: str
    description: str = ""
    url: str | None = None
    creators: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    date: str | None = None
    version: str | None = None
    columns: tuple[str, ...] = ()

    def words(self) -> str:
        """Return all texts in which a search looks for words, each on a line."""
        texts = [self.name, self.title, self.description, self.url or "", self.version or ""]
        return "\n".join((*texts, *self.creators, *self.licences, *self.keywords, *self.columns))

    def fields(self) -> dict[str, Any]:
        """Return the fields that conditions of a search compare."""
        return {
            "name": self.name,
            "title": self.title,
            "licence": self.licences or None,
            "creator": self.creators or None,
            "version": self.version,
            "date": self.date,
            "samples": "none",
        }


_TEXTS = many(text(SHORT, 1), 0, MOST)
_FILE = Schema(
    record(
        {"url": text(2000, 1), "date": day(), "version": text(SHORT, 1)},
        format={"const": FORMAT},
        name=matching(NAME, NAMED),
        title=text(SHORT, 1),
        description=text(LONG),
        creators=_TEXTS,
        licences=_TEXTS,
        keywords=_TEXTS,
        columns=many(text(SHORT, 1), 0, MOST_COLUMNS),
    )
)


def read_croissant(path: str | os.PathLike[str], name: str | None = None) -> tuple[Imported, tuple[str, ...]]:
    """Read a Croissant file, and return the description with the keys that were left out.

    Args:
        path: the file.
        name: the name in the catalogue; None makes one of the file's own name of the data set.

    Raises InputError with the key, its value and what was expected.
    """
    content = _object(_json(Path(path), "croissant"), "croissant")
    stated = _keys(content)
    kinds = _many(stated.get(TYPE, []), TYPE, _plain)
    if not any(_without_prefix(kind) == "Dataset" for kind in kinds):
        raise _wrong(TYPE, content.get(TYPE, "nothing"), "Dataset of schema.org")
    specs = _many(stated.get("conformsTo", []), "conformsTo", _address)
    if not any(CONFORMS.fullmatch(spec) for spec in specs):
        raise _wrong("conformsTo", ", ".join(specs) or "nothing", "http://mlcommons.org/croissant/1.1, or 1.0")
    if "name" not in stated:
        raise _wrong("name", "nothing", f"a text of 1 to {SHORT} characters")
    found, ignored = _read(stated)
    title = found["title"]
    if name is None:
        name = re.sub(r"[^a-z0-9._-]+", "-", title.lower())[:64].strip("._-")
    if not re.fullmatch(NAME, name):
        raise InputError("name", shown(repr(name)), f"name=..., {NAMED}")
    return Imported(name=name, **found), (*ignored, *sorted(key for key in stated if key not in READ))


def keep(imported: Imported, catalogue: str | os.PathLike[str]) -> Path:
    """Write the description to imported/NAME.json in the catalogue's folder, and return the file's path.

    Raises InputError where the catalogue has the name already, or the folder refuses.
    """
    folder = Path(catalogue)
    path = folder / FOLDER / f"{imported.name}.json"
    content = {"format": FORMAT} | {key: value for key, value in asdict(imported).items() if value is not None}
    for taken in (path, folder / f"{imported.name}.json"):
        if taken.exists():
            raise InputError("name", f"{taken.name}, which is already there", "a name that the catalogue lacks")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_new(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise InputError("in", f"{shown(str(folder))} ({error.strerror})", "a folder that can be written") from error
    return path


def read_imported(path: str | os.PathLike[str]) -> Imported:
    """Read a file that `keep` wrote. Raises InputError with the file, the field and what was expected."""
    path = Path(path)
    where = f"{FOLDER}/{shown(path.name)}"
    content = _json(path, where)
    wrong = _FILE.violation(content)
    if wrong is not None:
        raise InputError(wrong.named(where), wrong.got, wrong.expected)
    if path.name != f"{content['name']}.json":
        raise InputError(f"{where}: name", repr(content["name"]), "the file's own name without .json (a copy?)")
    if "url" in content and not is_web_address(content["url"]):
        raise InputError(f"{where}: url", shown(content["url"]), "an address of http or https")
    del content["format"]
    return Imported(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})


def _read(stated: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of `Imported` but the name, and what of the read keys was left out."""
    ignored = []
    url = _address(stated["url"], "url") if "url" in stated else None
    if url is not None and not is_web_address(url):
        ignored.append(f"url ({shown(url)}, no address of the web)")
        url = None
    columns = _columns(stated.get("recordSet", []))
    if len(columns) > MOST_COLUMNS:
        ignored.append(f"recordSet (beyond {MOST_COLUMNS} of {len(columns)} fields)")
    found = {
        "title": _plain(stated["name"], "name"),
        "description": _plain(stated["description"], "description", LONG, 0) if "description" in stated else "",
        "url": url,
        "creators": _many(stated.get("creator", []), "creator", _named),
        "licences": _many(stated.get("license", []), "license", _licence),
        "keywords": _many(stated.get("keywords", []), "keywords", _named),
        "date": _day(stated["datePublished"]) if "datePublished" in stated else None,
        "version": _version(stated["version"]) if "version" in stated else None,
        "columns": tuple(columns[:MOST_COLUMNS]),
    }
    return found, ignored


def _json(path: Path, where: str) -> Any:
    if not path.is_file():
        raise InputError(where, shown(str(path)), "an existing file")
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise InputError(where, f"more than {LARGEST_FILE} bytes", "a description of data, not data")
        return read_json(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(where, shown(f"no JSON ({error})", 200), "a readable JSON file (damaged?)") from error


def _wrong(key: str, value: Any, expected: str) -> InputError:
    return InputError(f"croissant: {key}", shown(value if isinstance(value, str) else repr(value)), expected)


def _object(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(key, value, "an object")
    return value


def _without_prefix(key: str) -> str:
    return next((key[len(prefix) :] for prefix in PREFIXES if key.startswith(prefix)), key)


def _keys(content: dict[str, Any]) -> dict[str, Any]:
    """Return the values by keys without prefixes. Raises InputError where two keys become one."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        plain = _without_prefix(key)
        if plain in found:
            raise _wrong(shown(plain), shown(key), "the key once, with a prefix or without")
        found[plain] = value
    return found


def _plain(value: Any, key: str, longest: int = SHORT, shortest: int = 1) -> str:
    """Return a text, which may be stated with its language, or in several, of which English or the first is taken."""
    if isinstance(value, dict) and "@value" in value:
        value = value["@value"]
    elif isinstance(value, dict) and value and not any(each.startswith("@") for each in value):
        value = value.get("en", next(iter(value.values())))
    if not isinstance(value, str) or not shortest <= len(value) <= longest:
        words = f"a text of {shortest} to {longest} characters"
        raise _wrong(key, f"{len(value)} characters" if isinstance(value, str) and value else value, words)
    return value


def _address(value: Any, key: str) -> str:
    """Return a text that is stated as such or as the @id of an object."""
    return _plain(value["@id"] if isinstance(value, dict) and "@id" in value else value, key, 2000)


def _many(value: Any, key: str, read: Callable[[Any, str], str]) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if len(values) > MOST:
        raise _wrong(key, f"{len(values)} values", f"at most {MOST}")
    return tuple(read(each, key) for each in values)


def _named(value: Any, key: str) -> str:
    """Return a text, or the name of an object, such as a person."""
    if isinstance(value, dict) and "@value" not in value:
        stated = _keys(value)
        if "name" not in stated:
            raise _wrong(key, value, "a text, or an object with a name")
        value = stated["name"]
    return _plain(value, key)


def _licence(value: Any, key: str) -> str:
    """Return a licence's address if it has one, else its name."""
    stated = _keys(value) if isinstance(value, dict) else {}
    for each in ("url", "@id"):
        if each in stated:
            return _plain(stated[each], key)
    return _named(value, key)


def _day(value: Any) -> str:
    stated = _plain(value, "datePublished")
    try:
        if len(stated) > 10:
            datetime.fromisoformat(stated.replace("Z", "+00:00"))
        if date.fromisoformat(stated[:10]).isoformat() == stated[:10]:
            return stated[:10]
    except ValueError:
        pass
    raise _wrong("datePublished", stated, "a day or a time of ISO 8601, as in 2026-01-31 or 2026-01-31T12:00:00")


def _version(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return _plain(value, "version")


def _columns(value: Any) -> list[str]:
    """Return the names of the fields of all record sets; a field without a name goes by the end of its @id.

    Enumerations are left out, because they explain the values of a column and hold none of the data.
    """
    found = []
    sets = value if isinstance(value, list) else [value]
    for k, one in enumerate(sets):
        record_set = _keys(_object(one, f"recordSet.{k}"))
        kinds, fields = record_set.get("dataType", []), record_set.get("field", [])
        if any(
            each in ENUMERATION for each in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(each, str)
        ):
            continue
        for n, each in enumerate(fields if isinstance(fields, list) else [fields]):
            place = f"recordSet.{k}.field.{n}"
            stated = _keys(_object(each, place))
            if "name" not in stated and "@id" not in stated:
                raise _wrong(place, "neither name nor @id", "one of them")
            named = _plain(stated["name"], place) if "name" in stated else _plain(stated["@id"], place, 2000)
            found.append(named if "name" in stated else named.rpartition("/")[2][:SHORT] or named[:SHORT])
    return found
