"""The JSON schema of a recipe's file: which keys there are, and what each may hold.

In goes the content of a YAML file; `SCHEMA` says what in it is of another shape. The fields follow Table Schema of Data
Package 2.0, so that other tools read them, and `dialect` follows its Table Dialect; what neither has a property for
stands under `feature` of a field and under `target`. A property may be added as an optional one. Unknown keys have to
stay refused, because a misspelt key would otherwise be taken for none, and a recipe without a stated value means
something else.
"""

from __future__ import annotations

from mpc_appraisal.common.schema import Schema, many, number, one_of, record, text, whole

TYPES = ("number", "integer", "string", "boolean", "date", "datetime")
REFUSE, OTHER, ZEROS = "refuse", "other", "zeros"
DELIMITERS = (",", ";", "\t", "|")  # what may separate the fields of a CSV file
MOST_FIELDS, MOST_LEVELS = 1 << 16, 1 << 16
MOST_BITS = 40  # a finer resolution would not survive the arithmetic on shares

LEVEL = {"type": ["string", "integer"], "description": "a text or an integer (put yes, no and dates in quotes)"}
TEXTS = many(text(200), least=0, most=1000)
FEATURE = record(
    {
        "leave_out": {"type": "boolean", "description": "true or false"},
        "blank": record(
            {"indicator": {"type": "boolean", "description": "true or false"}},
            value={
                "type": ["number", "string", "boolean", "null"],
                "description": "a number, a text, true, false or null",
            },
        ),
        "unknown": one_of(REFUSE, OTHER, ZEROS),
        "mean": number(),
        "scale": {"type": "number", "exclusiveMinimum": 0, "description": "a finite number above 0"},
        "bits": whole(0, MOST_BITS),
    }
)
FIELD = record(
    {
        "title": text(200),
        "description": text(4000),
        "unit": text(200),
        "format": text(200, 1),
        "categories": many(LEVEL, most=MOST_LEVELS),
        "missingValues": TEXTS,
        "trueValues": many(text(200, 1)),
        "falseValues": many(text(200, 1)),
        "decimalChar": text(1, 1),
        "groupChar": text(1, 1),
        "constraints": record({"minimum": number(), "maximum": number()}),
        "feature": FEATURE,
    },
    name=text(200, 1),
    type=one_of(*TYPES),
)
SCHEMA = Schema(
    record(
        {
            "$schema": text(200),
            "name": text(200),
            "title": text(200),
            "description": text(4000),
            "missingValues": TEXTS,
            "dialect": record({"delimiter": one_of(*DELIMITERS)}),
            "fieldsMatch": {"const": ["equal"], "description": "[equal]: the same names, in any order"},
        },
        fields=many(FIELD, most=MOST_FIELDS),
        target=text(200, 1),
    )
)
