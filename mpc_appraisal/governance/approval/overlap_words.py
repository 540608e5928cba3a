"""The words in which a request says what a count of shared items compares and what it costs in privacy.

In go the facts `compared` and the minimum of a request; out come sentences, which `overlap_request` uses for a request
that only counts and `request` for an appraisal that counts first. The sentences have to stay byte for byte, because
requests wait in queues and are compared with what was written there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHOD = "overlap"
ROWS, KEYS = "rows", "keys"
COLUMNS = {
    "name": "The sides' columns are compared by name, in the model owner's order.",
    "position": "The sides' columns are compared by position, because a side has no names of them: if their order "
    "differs, no row is shared.",
}
COPIES = "Copies were removed on both sides before, so that nothing is counted twice."


def compared_sentences(compared: Mapping[str, Any]) -> list[str]:
    """Return what is compared. compared: `what`, `column`, `features` and `columns`, as a request holds them."""
    if compared["what"] == KEYS:
        column = _unquoted(str(compared["column"]))
        return [
            f'How many different keys of the column "{column}" are in the files of both sides. A key is the text that '
            "stands in the file, without white space at its ends; rows without a key are left out."
        ]
    return [
        f"How many different rows of {compared['features']} features are in the files of both sides. Two rows are "
        "the same where all features are equal; the label is not compared.",
        COLUMNS[compared["columns"]],
    ]


def privacy_sentences(minimum: int) -> list[str]:
    """Return what a count costs in privacy. minimum: the least count that the model owner is shown."""
    return [
        "No noise is added: the count is exact, and epsilon is infinite.",
        f"The minimum of {minimum} protects no single item against a side that brings {minimum - 1} items that "
        "it knows the other side to have, or that asks twice with sets that differ in one item.",
    ]


def recipe_sentence(digest: str, what: str = ROWS) -> str:
    """Return the sentence on the recipe that both sides state. what: what is compared; a recipe changes no key."""
    if what == KEYS:
        return f"Both sides state the recipe with SHA-256 {digest}; keys are compared as the files hold them."
    return f"Both sides read their raw tables by the recipe with SHA-256 {digest}."


def counted_sentences(overlap: Mapping[str, Any]) -> list[str]:
    """Return what a request says of a count that comes before its appraisal. overlap: as the request holds it."""
    what, items = overlap["what"], overlap["items"]
    sizes = ", ".join(f'{count} in "{_unquoted(name)}"' for name, count in items["data_owner"].items())
    return [
        "Before anything is computed, the two owners count together what they share. The yes to this request covers "
        "the count, and each ledger is charged for it by a line of its own for each data set.",
        *compared_sentences(overlap),
        COPIES,
        overlap["words"],
        f"The sizes were announced already, to the dealer too: the model owner has {items['model_owner']} different "
        f"{what}; the data owner has {sizes}. The dealer takes no part in the count and is not shown it.",
        *privacy_sentences(overlap["minimum"]),
        f"Trust: {overlap['trust']} The data structure is {overlap['structure']}.",
    ]


def _unquoted(text: str) -> str:
    return text.replace('"', "'")
