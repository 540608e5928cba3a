"""A request of another kind: how many items (rows or keys) the data owner's set shares with the model owner's.

In go public facts alone, as a content of the shape `OVERLAP`; out come digest and text as of every `Request`, so that
the queue, a policy file and `decide` treat both kinds alike. `request_of` makes the right kind of a content that was
read from a file. A policy file says yes to this kind only where its rule `methods` names `overlap`.

A new field needs a sentence in `_overlap_sections`, so that nothing is asked for that the text does not show, and has
to be optional at first, because requests wait in queues. The canonical form and the words have to stay byte for byte.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mpc_appraisal.common.schema import (
    Part,
    Schema,
    hexadecimal,
    many,
    mapping,
    nullable,
    one_of,
    record,
    whole,
)
from mpc_appraisal.governance.approval.overlap_words import (
    COLUMNS,
    COPIES,
    KEYS,
    METHOD,
    ROWS,
    compared_sentences,
    privacy_sentences,
    recipe_sentence,
)
from mpc_appraisal.governance.approval.request import Request, key_sentences, page
from mpc_appraisal.governance.approval.schema import CONTENT, KIND, NAME, ROLE, WORDS

OVERLAP_FORMAT = "mpc_appraisal overlap request 1"
_FIELDS: dict[str, Part] = CONTENT.part["properties"]
OVERLAP = Schema(
    record(
        optional={"keys": mapping(ROLE, hexadecimal(64)), "recipe": hexadecimal(64)},
        format=one_of(OVERLAP_FORMAT),
        compared=record(
            what=one_of(ROWS, KEYS),
            column=nullable(NAME),
            features=nullable(whole(1)),
            columns={"enum": [None, *COLUMNS]},
        ),
        minimum=whole(1),
        structure=NAME,
        items=record(model_owner=whole(1), data_owner=whole(1)),
        candidates=many(record(name=NAME, rows=whole(1), listing={"type": "null"}), most=1),
        release=record(kind=KIND, words=WORDS),
        openings=_FIELDS["openings"],
        privacy={"type": "null"},
        protocol=record(engine=NAME, transport=NAME, trust=WORDS),
        config=hexadecimal(16),
    )
)
INTRODUCTION = (
    "The model owner asks the data owner to let both sides count together what stands below. Only what stands under "
    '"announced" has left either side, and nothing more does unless the data owner says yes.'
)


class OverlapRequest(Request):
    """One request to count shared items. The arguments and errors are those of `Request`, with the shape `OVERLAP`."""

    schema: ClassVar[Schema] = OVERLAP

    @property
    def methods(self) -> list[str]:
        return [METHOD]

    @property
    def by_name_alone(self) -> list[str]:
        return [METHOD]

    def text(self) -> str:
        return page(self.id, INTRODUCTION, _overlap_sections(self))


def request_of(content: Any) -> Request:
    """Return the request of a content, of the kind that its format names. Raises InputError as `Request` does."""
    if isinstance(content, dict) and content.get("format") == OVERLAP_FORMAT:
        return OverlapRequest(content)
    return Request(content)


def _overlap_sections(request: OverlapRequest) -> list[tuple[str, list[str]]]:
    content = request.content
    compared, items, protocol = content["compared"], content["items"], content["protocol"]
    name, minimum = content["candidates"][0]["name"].replace('"', "'"), content["minimum"]
    opened = [content["release"]["words"]]
    opened += [
        f"Opened to the {' and the '.join(role.replace('_', ' ') for role in o['to'])}: {o['what']}; why: {o['why']}"
        for o in content["openings"]
    ]
    return [
        ("What is asked", [*compared_sentences(compared), COPIES]),
        (
            "Of which data",
            [
                f'"{name}": {items["data_owner"]} different {compared["what"]}; not tied to a listing of a catalogue.',
                *([recipe_sentence(content["recipe"], compared["what"])] if "recipe" in content else []),
            ],
        ),
        ("What is opened, and to whom", opened),
        ("What it costs in privacy", privacy_sentences(minimum)),
        (
            "What was announced in the clear already",
            [
                f"By the model owner: that it has {items['model_owner']} different {compared['what']}.",
                f"By the data owner: that it has {items['data_owner']} different {compared['what']}.",
                *(["By both: the names of their columns, or hashes of them."] if compared["columns"] == "name" else []),
            ],
        ),
        (
            "What must be trusted",
            [
                f"Stated: {protocol['trust']}",
                f"Engine: {protocol['engine']}, with the data structure {content['structure']}.",
                f"Transport: {protocol['transport']}.",
                *key_sentences(content.get("keys")),
            ],
        ),
        ("What a yes is for", [f"Configuration: {content['config']}.", f"Digest: {request.digest}"]),
    ]
