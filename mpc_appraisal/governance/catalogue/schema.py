"""The JSON schema of a listing, version 1.

In goes a listing's JSON; out comes nothing, or an InputError that names the first bad field. Unknown fields are refused
at every level, so that a misspelt term is not taken for no term. A new field makes listings that older versions refuse;
another meaning of a field, or a field that must be there, needs another `VERSION`. Known fields have to keep their
names and types, because others have copies of listings.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, day, hexadecimal, many, matching, number, one_of, record, text, whole
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.catalogue.commitment import SCHEME

FORMAT = "mpc_appraisal listing"
VERSION = 1
NAME = "[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?"  # it is no path, and has one spelling on every file system
RELEASE = "(0|[1-9][0-9]{0,8})([.](0|[1-9][0-9]{0,8})){2}"  # the version of the data, not of the file's format
RELEASED = "three whole numbers with points between them, as in 1.0.0"
NAMED = "1 to 64 of a-z, 0-9, '.', '_' and '-', the first and last a letter or digit"
TYPES = ("binary", "integer", "real")
MOST_FEATURES = 1 << 20
MOST_SAMPLES = 100

DATA = record(
    {
        "columns": many(record(name=text(200, 1), type=one_of(*TYPES)), most=MOST_FEATURES),
        "class_names": many(text(200, 1), most=MOST_FEATURES),
        "recipe": hexadecimal(64),
        "resolution": record(scale=whole(1, 2**16 - 1), bits=whole(1, 16)),
        "target": record({"unit": text(200, 1), "minimum": number(), "maximum": number()}, name=text(200, 1)),
    },
    rows=whole(1),
    features=whole(1, MOST_FEATURES),
    classes=whole(1, 2**31 - 1),  # 1 beside a target that is a number
    types=record(**{kind: whole(0) for kind in TYPES}),
    encoding=text(20_000),
)
TERMS = record(
    {
        "price": number(0),
        "currency": matching("[A-Z]{3}", "three capital letters"),
        "licence": text(200, 1),
        "purposes": many(text(200, 1), most=100),
        "contact": text(500, 1),
    },
    text=text(100_000),
    minimum_rows=whole(1),
) | {"dependentRequired": {"price": ["currency"]}}
SAMPLES = record(
    kind=one_of("synthetic", "real"),
    x=many(many(number(), most=MOST_FEATURES), most=MOST_SAMPLES),
    y=many(whole(0), most=MOST_SAMPLES),
    reveals=text(2000, 1),
)
STATISTICS = record(
    {"columns": many(whole(0, MOST_FEATURES - 1), most=MOST_FEATURES)},
    rows_by_class=many(whole(0), most=10_000),
    mean=many(number(), most=MOST_FEATURES),
    deviation=many(number(0), most=MOST_FEATURES),
    reveals=text(2000, 1),
)
PUBLICATION = record({"creator": text(200, 1), "date": day(), "version": matching(RELEASE, RELEASED)}) | {
    "minProperties": 1,
    "description": "one or more of creator, date, version",
}
SCHEMA = Schema(
    record(
        {"samples": SAMPLES, "statistics": STATISTICS, "publication": PUBLICATION},
        format={"const": FORMAT},
        version={"const": VERSION},
        name=matching(NAME, NAMED),
        title=text(200),
        description=text(20_000),
        data=DATA,
        terms=TERMS,
        commitment=record(scheme={"const": SCHEME}, digest=hexadecimal(64)),
    )
)


def check_schema(content: Any, where: str) -> None:
    """Raise InputError with `where` (the file), the first bad field, its value and what was expected."""
    if isinstance(content, dict):
        version = content.get("version")
        if is_integer(version) and version > VERSION:
            raise InputError(f"{where}: version", version, f"{VERSION}: a newer mpc_appraisal wrote this listing")
    wrong = SCHEMA.violation(content)
    if wrong is not None:
        field = ".".join(str(part) for part in wrong.path) or "listing"
        raise InputError(f"{where}: {shown(field)}", wrong.got, wrong.expected)
