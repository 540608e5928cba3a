"""The JSON schema of a listing, and its errors in this package's words.

Unknown fields are refused at every level, so that a misspelt term is not taken for no term.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.governance.catalogue.commitment import SCHEME

FORMAT = "mpc_appraisal listing"
VERSION = 1
NAME = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$(?!\n)"  # no path; one spelling on every file system
TYPES = ("binary", "integer", "real")
LARGEST = 2**53  # of whole numbers: beyond it JSON readers differ
MOST_FEATURES = 1 << 20
MOST_SAMPLES = 100


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _text(longest: int, shortest: int = 0) -> dict[str, Any]:
    return {"type": "string", "minLength": shortest, "maxLength": longest}


def _whole(least: int, most: int = LARGEST) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _list(items: dict[str, Any], most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


NUMBER = {"type": "number"}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A listing of the mpc_appraisal catalogue, version 1",
    **_closed(
        ["format", "version", "name", "title", "description", "data", "terms", "commitment"],
        format={"const": FORMAT},
        version={"const": VERSION},
        name={"type": "string", "pattern": NAME},
        title=_text(200),
        description=_text(20_000),
        data=_closed(
            ["rows", "features", "classes", "types", "encoding"],
            rows=_whole(1),
            features=_whole(1, MOST_FEATURES),
            classes=_whole(2, 2**31 - 1),
            types=_closed(list(TYPES), **{kind: _whole(0) for kind in TYPES}),
            encoding=_text(20_000),
            columns=_list(_closed(["name", "type"], name=_text(200, 1), type={"enum": list(TYPES)}), MOST_FEATURES),
            class_names=_list(_text(200, 1), MOST_FEATURES),
        ),
        terms=_closed(
            ["text", "minimum_rows"],
            text=_text(100_000),
            price={"type": "number", "minimum": 0},
            currency={"type": "string", "pattern": r"^[A-Z]{3}$(?!\n)"},
            licence=_text(200, 1),
            purposes=_list(_text(200, 1), 100),
            minimum_rows=_whole(1),
            contact=_text(500, 1),
        )
        | {"dependentRequired": {"price": ["currency"]}},
        commitment=_closed(
            ["scheme", "digest"],
            scheme={"const": SCHEME},
            digest={"type": "string", "pattern": r"^[0-9a-f]{64}$(?!\n)"},
        ),
        samples=_closed(
            ["kind", "x", "y", "reveals"],
            kind={"enum": ["synthetic", "real"]},
            x=_list(_list(NUMBER, MOST_FEATURES), MOST_SAMPLES),
            y=_list(_whole(0), MOST_SAMPLES),
            reveals=_text(2000, 1),
        ),
        statistics=_closed(
            ["rows_by_class", "mean", "deviation", "reveals"],
            rows_by_class=_list(_whole(0), 10_000),
            mean=_list(NUMBER, MOST_FEATURES),
            deviation=_list({"type": "number", "minimum": 0}, MOST_FEATURES),
            reveals=_text(2000, 1),
        ),
    ),
}


def check_schema(content: Any, where: str) -> None:
    """Raises InputError with `where` (the file), the first bad field, its value and what was expected."""
    from jsonschema import Draft202012Validator, validators  # a tenth of a second to import, and only needed here

    # the standard takes 3.0 for an integer; a listing does not
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator = validators.extend(Draft202012Validator, type_checker=types)(SCHEMA)
    if isinstance(content, dict):
        version = content.get("version")
        if is_integer(version) and version > VERSION:
            raise InputError(f"{where}: version", version, f"{VERSION}: a newer mpc_appraisal wrote this listing")
    errors = sorted(validator.iter_errors(content), key=lambda e: [str(p) for p in e.absolute_path])
    if errors:
        first = errors[0]
        field = ".".join(str(part) for part in first.absolute_path) or "listing"
        raise InputError(f"{where}: {shown(field)}", *_words(first))


def _words(error: Any) -> tuple[str, str]:
    value, rule, against = error.instance, error.validator, error.validator_value
    got = shown(repr(value) if isinstance(value, str) else value)
    if rule == "required":
        missing = [key for key in against if key not in value]
        return f"no {', '.join(missing)}", f"all of {', '.join(against)}"
    if rule == "dependentRequired":
        return "a price without a currency", "both, or neither"
    if rule == "additionalProperties":
        known = error.schema["properties"]
        return shown(", ".join(repr(key) for key in value if key not in known)), f"no field but {', '.join(known)}"
    if rule == "pattern" and against == NAME:
        return got, "1 to 64 of a-z, 0-9, '.', '_' and '-', the first and last a letter or digit"
    rules = {
        "const": f"{against!r}",
        "enum": f"one of {', '.join(map(str, against))}" if rule == "enum" else "",
        "type": f"{'an' if str(against)[0] in 'aio' else 'a'} {against}",
        "minimum": f"{against} or more",
        "maximum": f"{against} or less",
        "minLength": f"a text of {against} characters or more",
        "maxLength": f"a text of at most {against} characters",
        "minItems": f"a list of {against} or more",
        "maxItems": f"a list of at most {against}",
        "pattern": f"a text that matches {str(against).removesuffix('(?!' + chr(92) + 'n)')}",
    }
    return got, rules.get(rule, shown(error.message))


__all__ = [
    "FORMAT",
    "LARGEST",
    "MOST_FEATURES",
    "MOST_SAMPLES",
    "NAME",
    "SCHEMA",
    "TYPES",
    "VERSION",
    "check_schema",
    "printable",
    "shown",
]
