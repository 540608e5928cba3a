"""Whether both sides mean the same columns and classes, and how the data owner's rows are put into the same order.

In go the names that each owner announces; out comes a `Match` for each candidate (one data set of the data owner), or a
`NamesError`.

A value is right only where both sides mean the same by a column and by a label. Where both sides name their columns,
the names decide and the order does not: the data owner puts its columns into the model owner's order before anything is
shared. Where the names differ, every party refuses, and says what is missing, what is additional and what is nearly the
same. Where a side has no names (arrays, or a .npz file without `columns`), position decides, and every output says so.
The same holds for the names of classes, except that a data owner may lack classes, because it may have no such rows.

Names are announced in the clear by default (party.names=plain): a side that sees both lists can say what to do, and a
listing publishes the names anyway. With party.names=hash a side announces the first 128 bits of SHA-256 over a fixed
text and the name. This hides no name from somebody who can guess it, because a hash can be tested against any list of
guesses. All three parties read these messages, the dealer (who supplies random numbers) included.

The search for near misses may change. DOMAIN and DIGITS have to stay, because both owners must hash alike, and every
party must find the same `Match`, because its sentences stand in the request.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.common.text import shown

PLAIN, HASH = "plain", "hash"
HOW = (PLAIN, HASH)
DIGITS = 32  # hexadecimal digits of a hash: with 128 bits two different names do not meet by chance
DOMAIN = {"columns": b"mpc_appraisal column name 1\n", "classes": b"mpc_appraisal class name 1\n"}
WORD = {"columns": "column", "classes": "class"}
MOST_SHOWN = 10  # the largest number of names in an error message
MOST_COMPARED, LONGEST = 500, 100  # the names that are searched for near misses, and the characters of each
NEAR = 0.75  # two names with this ratio of difflib or more are near misses: one letter of four may differ
Announced = dict[str, Any] | None  # {"how": "plain" or "hash", "names": [...]}


@dataclass(frozen=True)
class Names:
    """The names that one data set gives to its columns and classes.

    Attributes:
        columns: The names of the columns, in order; None where there are none.
        classes: The names of the labels 0, 1, ...; None where there are none.
    """

    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Match:
    """How a candidate's columns and classes fit the model owner's.

    Attributes:
        order: For each column of the model owner, its place among the candidate's. None means that position decides.
        recode: For each class of the candidate, its number at the model owner. None means that the number decides.
        facts: Sentences on what was compared.
        warnings: Sentences on what could not be compared.
    """

    order: tuple[int, ...] | None
    recode: tuple[int, ...] | None
    facts: tuple[str, ...]
    warnings: tuple[str, ...]


class NamesError(DisagreementError):
    """The sides' names differ.

    Attributes:
        public: The message without the names that a side announced as hashes.
    """

    def __init__(self, message: str, public: str):
        self._public = public
        super().__init__(message)

    def __reduce__(self):
        return NamesError, (str(self), self._public)

    @property
    def public(self) -> str:
        """Return the message that every party may read."""
        return self._public


def check_how(how: Any, key: str = "party.names") -> str:
    """Return `how`. Raises InputError, under `key`, unless it is 'plain' or 'hash'."""
    if how not in HOW:
        raise InputError(key, shown(repr(how)), f"one of {', '.join(HOW)}")
    return how


def hashed(kind: str, name: str) -> str:
    """Return the hash of one name, in 32 hexadecimal digits. kind: 'columns' or 'classes'."""
    return hashlib.sha256(DOMAIN[kind] + name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def published(names: Names, how: str) -> dict[str, Announced]:
    """Return what an owner announces of its names, under 'columns' and 'class_names'. None stands for no names.

    how: 'plain' or 'hash'.
    """
    check_how(how)

    def announced(kind: str, found: tuple[str, ...] | None) -> Announced:
        if found is None:
            return None
        return {"how": how, "names": [hashed(kind, name) if how == HASH else name for name in found]}

    return {"columns": announced("columns", names.columns), "class_names": announced("classes", names.classes)}


def match(buyer: Mapping[str, Any], seller: Mapping[str, Any], own: Iterable[Names] = (), same: bool = False) -> Match:
    """Compare the names that both owners announced for one candidate; every party finds the same.

    Args:
        buyer: The model owner's message, with 'columns' and 'class_names' as `published` makes them.
        seller: The data owner's message on one candidate, with the same fields and the candidate's 'name'.
        own: This party's own names, which error messages may show to this party alone.
        same: Whether both sides' rows were drawn from one data set in this process, which leaves nothing to compare.

    Raises:
        NamesError: The names differ.
        DisagreementError: An owner announced something that is no list of different names.
    """
    if same:
        return Match(None, None, ("Both sides' rows were drawn from one data set.",), ())
    order, facts, warnings = None, [], []
    own = list(own)
    name = str(seller.get("name", "data"))
    pairs = {kind: (_read(buyer, kind, MODEL_OWNER), _read(seller, kind, DATA_OWNER)) for kind in DOMAIN}
    ours, theirs = pairs["columns"]
    if ours is not None and theirs is not None:
        _refuse(name, "columns", ours, theirs, own, whole=True)
        places = {key: place for place, key in enumerate(theirs)}
        order = tuple(places[key] for key in ours)
        facts.append(_by_name(order, ours, theirs))
        facts.append(_how(buyer, seller, "columns"))
    else:
        lacking = _lacking(ours, theirs)
        warnings.append(
            f"Columns were compared by position alone, for {lacking} names of them: if their order differs between "
            "the sides, the value is wrong."
        )
    recode = None
    ours, theirs = pairs["classes"]
    if buyer.get("classes") == 1:  # a target that is a number
        return Match(order, None, tuple(facts), tuple(warnings))
    if ours is not None and theirs is not None:
        _refuse(name, "classes", ours, theirs, own, whole=False)
        numbers = {key: number for number, key in enumerate(ours)}
        recode = tuple(numbers[key] for key in theirs)
        moved = recode != tuple(range(len(recode)))
        facts.append(
            "Classes were compared by name"
            + ("; the data owner's labels were put into the model owner's numbers." if moved else ".")
        )
        facts.append(_how(buyer, seller, "classes"))
    else:
        facts.append(f"Classes were compared by number alone, for {_lacking(ours, theirs)} names of them.")
    return Match(order, recode, tuple(facts), tuple(warnings))


def _read(message: Mapping[str, Any], kind: str, role: str) -> dict[str, str | None] | None:
    """Return the announced names by their hash and in their order; a name is None where only its hash was announced.

    Raises DisagreementError for what is no list of different names.
    """
    stated = message.get("columns" if kind == "columns" else "class_names")
    if stated is None:
        return None
    names = stated.get("names") if isinstance(stated, dict) else None
    fits = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not fits:
        raise DisagreementError(f"the {role} announced names of {kind} that are no list of texts; expected such a list")
    if stated.get("how") not in HOW:
        way = shown(repr(stated.get("how")))
        raise DisagreementError(f"the {role} announced its names of {kind} by {way}; expected one of {', '.join(HOW)}")
    if stated["how"] == HASH:
        found: dict[str, str | None] = dict.fromkeys(names)
    else:
        found = {hashed(kind, name): name for name in names}
    if len(found) < len(names):
        raise DisagreementError(f"the {role} announced one name of a {WORD[kind]} twice; expected different names")
    return found


def _refuse(
    name: str,
    kind: str,
    ours: Mapping[str, str | None],
    theirs: Mapping[str, str | None],
    own: Sequence[Names],
    whole: bool,
) -> None:
    """Raise NamesError unless the names are the same, or (not whole) the data owner's are among the model owner's."""
    missing = [key for key in ours if key not in theirs] if whole else []
    added = [key for key in theirs if key not in ours]
    if not missing and not added:
        return
    mine = {hashed(kind, text): text for each in own for text in (getattr(each, kind) or ())}
    public = {key: text for names in (ours, theirs) for key, text in names.items() if text is not None}
    if not whole:
        missing = [key for key in ours if key not in theirs]  # for the message: a class that is spelt otherwise
    texts = [_difference(name, kind, missing, added, known) for known in (public | mine, public)]
    raise NamesError(*texts)


def _difference(name: str, kind: str, missing: list[str], added: list[str], known: Mapping[str, str]) -> str:
    """Return the error message. known: the names that the message may show, by their hashes."""
    near = []
    plain = {known[key][:LONGEST]: _folded(known[key]) for key in missing[:MOST_COMPARED] if key in known}
    for key in added[:MOST_SHOWN]:
        if key in known:
            folded = _folded(known[key])
            same = [text for text, other in plain.items() if other == folded]
            close = same or difflib.get_close_matches(known[key][:LONGEST], list(plain), 1, NEAR)
            near += [f"{_quoted(known[key])} for {_quoted(close[0])}"] if close else []
    parts = [f"the {kind} of {_quoted(name)} differ"]
    if missing:
        parts.append(f"missing at the {DATA_OWNER}: {_list(missing, known)}")
    if added:
        parts.append(f"additional at the {DATA_OWNER}: {_list(added, known)}")
    if near:
        parts.append(f"nearly the same: {', '.join(near[:MOST_SHOWN])}")
    expected = "the same names, in any order" if kind == "columns" else "names of the model's classes, in any order"
    return "; ".join(parts) + f"; expected {expected}"


def _list(keys: Sequence[str], known: Mapping[str, str]) -> str:
    found = [
        _quoted(known[key]) if key in known else f"one announced as the hash {key[:8]}" for key in keys[:MOST_SHOWN]
    ]
    more = len(keys) - len(found)
    return ", ".join(found) + (f" and {more} more" if more else "")


def _folded(text: str) -> str:
    """Return the text by which near misses are found: the letters and digits of `text`, whatever their case."""
    return "".join(c for c in text.casefold() if c.isalnum())


def _quoted(text: str) -> str:
    return f"'{shown(text, 60)}'"


def _by_name(order: tuple[int, ...], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    count = f"Columns were compared by name: both sides have the same {len(ours)}"
    if order == tuple(range(len(order))):
        return f"{count}, in the same order."
    return f"{count}, in another order, and the data owner's were put into the model owner's order."


def _how(buyer: Mapping[str, Any], seller: Mapping[str, Any], kind: str) -> str:
    key = "columns" if kind == "columns" else "class_names"
    words = {PLAIN: "in the clear", HASH: "as hashes, which can be tested against guesses"}
    ways = [words[note[key]["how"]] for note in (buyer, seller)]
    if ways[0] == ways[1]:
        return f"Both owners announced the names of their {kind} {ways[0]}."
    return f"The model owner announced the names of its {kind} {ways[0]}; the data owner announced its own {ways[1]}."


def _lacking(ours: Any, theirs: Any) -> str:
    """Say which sides have no names, as the start of a clause."""
    if ours is None and theirs is None:
        return "neither side has"
    return "the model owner has no" if ours is None else "the data owner has no"
