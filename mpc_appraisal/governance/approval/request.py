"""A request: one appraisal, described by public facts alone, which the data owner says yes or no to.

In goes a content of the shape `schema.CONTENT`; out come its canonical JSON, its digest, and a text in words for the
data owner. The model owner asks, and the candidates are the data owner's data sets. All parties derive the same
request, so that its digest is the same everywhere. A yes is for a digest and for nothing else. Names in a request come
from the other party; in the text they can neither steer a terminal nor look like a part of the text.

A new field of the content needs a sentence in `_sections`, so that nothing is asked for that the text does not show.
The canonical form and the words of the text have to stay byte for byte, because requests wait in queues and are
compared with what was written there.
"""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from dataclasses import dataclass
from typing import Any, ClassVar

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, read_json
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.data.resolution import Resolution
from mpc_appraisal.governance.approval.overlap_words import METHOD, counted_sentences, recipe_sentence
from mpc_appraisal.governance.approval.purpose import Purpose
from mpc_appraisal.governance.approval.schema import CONTENT, ROLES
from mpc_appraisal.mpc.protocols.checks import NORM_CHECK_WHAT

WIDTH = 88  # the most characters in a line of the text, before escapes
MARKS = re.compile(r"[\\`*\[\]<>#|~&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # an underscore within a word is no mark
OPENERS = re.compile(r"^(\d*)([-+=:.)])")  # what makes the beginning of a line a list, a heading or a table


@dataclass(frozen=True)
class Request:
    """One request.

    Args:
        content: JSON values of the shape `schema.CONTENT`, which are copied.

    Raises InputError for the first bad field, for two candidates of one name, and for a release of kind dp without
    noise.
    """

    content: dict[str, Any]
    schema: ClassVar[Schema] = CONTENT

    def __post_init__(self) -> None:
        try:
            copy = read_json(json.dumps(self.content, allow_nan=False))  # tuples become lists
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError("request", shown(str(error)), "finite JSON values, each key once") from None
        self.schema.check(copy, "request")
        names = [candidate["name"] for candidate in copy["candidates"]]
        if len(set(names)) < len(names):
            raise InputError("request.candidates", shown(", ".join(names)), "different names")
        if copy["release"]["kind"] == "dp" and copy["privacy"] is None:
            raise InputError("request.privacy", None, "the noise of a release of kind dp")
        object.__setattr__(self, "content", copy)

    @property
    def canonical(self) -> str:
        """Return the content as JSON in ASCII, keys sorted, without spaces."""
        return json.dumps(self.content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of `canonical`, 64 hex digits."""
        return hashlib.sha256(self.canonical.encode("ascii")).hexdigest()

    @property
    def id(self) -> str:
        """Return the first 12 hex digits of the digest, a name and no proof: two requests can be made to share them."""
        return self.digest[:12]

    @property
    def methods(self) -> list[str]:
        """Return the names of the methods, and that of the count of shared items where there is one."""
        return [method["name"] for method in self.content["methods"]] + self.by_name_alone

    @property
    def by_name_alone(self) -> list[str]:
        """Return the methods that a policy file allows only where it names them."""
        return [METHOD] if "overlap" in self.content else []

    @property
    def privacy(self) -> dict[str, Any] | None:
        """Return the noise of all that is opened; None where anything is opened without noise."""
        return None if "overlap" in self.content else self.content["privacy"]

    @property
    def candidates(self) -> list[str]:
        """Return the names of the candidates."""
        return [candidate["name"] for candidate in self.content["candidates"]]

    @property
    def learners(self) -> list[str]:
        """Return the roles that something is opened to.

        The check of norms, which says whether the model owner's matrices are as short as the noise counts on, is left
        out.
        """
        learners = {role for o in self.content["openings"] if o["what"] != NORM_CHECK_WHAT for role in o["to"]}
        return [role for role in ROLES if role in learners]

    @property
    def numbers(self) -> int:
        """Return the number of values that are opened in all."""
        return sum(opening["numbers"] * opening["times"] for opening in self.content["openings"])

    @staticmethod
    def from_json(text: str) -> Request:
        """Return the request of a content in JSON. Raises InputError for a text that is no such content."""
        try:
            content = read_json(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError("request", shown(str(error)), "JSON (damaged?)") from None
        return Request(content)

    def text(self) -> str:
        """Return the request in words, as Markdown. The text has the same bytes wherever it is made."""
        return page(self.id, INTRODUCTION, _sections(self))


INTRODUCTION = (
    "The model owner asks the data owner to let both sides compute together what stands below. Only what "
    'stands under "told" has left either side, and nothing more does unless the data owner says yes.'
)


OVERLAP = (
    "A row that is in several of these candidates is paid for in each of them: what they cost adds up, and each ledger "
    "counts its own part alone, unless the candidates have one ledger."
)


def page(id: str, introduction: str, sections: list[tuple[str, list[str]]]) -> str:
    """Return the text of a request as Markdown. sections: each has a title and its sentences."""
    parts = [f"# Request {id}", *_wrapped(introduction, "")]
    for title, sentences in sections:
        parts += ["", f"## {title}", "", *(line for words in sentences for line in _wrapped(words, "- "))]
    return "\n".join([parts[0], "", *parts[1:]]) + "\n"


def key_sentences(keys: dict[str, str] | None) -> list[str]:
    """Return a sentence on each certificate key, by role, or on their absence."""
    if not keys:
        return ["Over this transport no party shows a certificate: a name is what its owner typed, and binds nobody."]
    return [
        f"The {_roles([role])} is whoever holds the certificate key with SHA-256 {keys[role]}." for role in sorted(keys)
    ]


def _sections(request: Request) -> list[tuple[str, list[str]]]:
    content = request.content
    model, release, protocol = content["model"], content["release"], content["protocol"]
    rows = [
        f"{_count(model[key], 'row')} of {what} data"
        for key, what in (("train_rows", "training"), ("test_rows", "test"))
        if model[key] is not None
    ]
    asked = [f"Method {_name(m['name'])}, as {m['settings']}; it opens: {m['opens']}" for m in content["methods"]]
    asked += content.get("metrics", [])
    asked.append(
        f"For a model of {_count(model['features'], 'feature')} and {_target(model)}, "
        f"regularised by l2 = {_number(model['l2'])}; the model owner brings "
        f"{' and '.join(rows) or 'no rows of its own'}."
    )
    if "purpose" in content:
        asked.append(Purpose(**content["purpose"]).sentence + " Nothing in this software holds it to that.")
    if "offer" in content:
        asked.append(_offer(content["offer"]))
    opened = [f"The result ({release['kind']}): {release['words']}"]
    opened += [
        f"Opened to the {_roles(o['to'])}: {o['what']}; {_count(o['numbers'], 'number')}, "
        f"{_count(o['times'], 'time')}; method {_name(o['method'])}; why: {o['why'] or 'not stated'}"
        for o in content["openings"]
    ]
    opened.append(f"Numbers opened in all: {request.numbers}.")
    told = [
        f"By the {_roles([role])}: {', '.join(f'{key} = {_number(facts[key])}' for key in sorted(facts)) or 'nothing'}."
        for role, facts in sorted(content["told"].items())
    ]
    if "resolution" in content:
        told.append(f"By the data owner: {Resolution(**content['resolution']).words}.")
    return [
        *([("What is counted first", counted_sentences(content["overlap"]))] if "overlap" in content else []),
        ("What is asked", asked),
        ("Of which data", [_data(candidate) for candidate in content["candidates"]] + _recipe(content)),
        *([("How the two sides' data fit together", content["compared"])] if "compared" in content else []),
        ("What is opened, and to whom", opened),
        ("What it costs in privacy", _privacy(content["privacy"]) + [OVERLAP] * (len(content["candidates"]) > 1)),
        ("What was told in the clear already", told or ["Nothing but what stands here."]),
        (
            "What must be trusted",
            [
                f"Stated: {protocol['trust']}",
                f"Engine: {protocol['engine']}.",
                f"Check of all messages of both owners (session.integrity): {protocol.get('integrity', 'off')}.",
                f"Transport: {protocol['transport']}.",
                *(["Relay (session.relay): on; all parties dial out to it."] if "relay" in protocol else []),
                *key_sentences(content.get("keys")),
            ],
        ),
        ("What a yes is for", [f"Configuration: {content['config']}.", f"Digest: {request.digest}"]),
    ]


def _data(candidate: dict[str, Any]) -> str:
    sizes, listing = f"{_name(candidate['name'])}: {_count(candidate['rows'], 'row')}", candidate["listing"]
    if listing is None:
        return f"{sizes}; not tied to a listing of a catalogue."
    price = "no price" if listing["price"] is None else f"price {_number(listing['price'])} {listing['currency'] or ''}"
    return (
        f"{sizes}; listed as {_name(listing['name'])}, {price.strip()}; digest of the listing: {listing['digest']}; "
        f"commitment to the data: {listing['commitment']}."
    )


def _offer(offer: dict[str, Any]) -> str:
    price = offer.get("price")
    words = "no price is stated" if price is None else f"{_number(price['amount'])} {price['currency']} for one answer"
    return (
        f"The model owner takes the data owner's standing offer {_name(offer['name'])}, at this price: {words}. "
        f"SHA-256 of the offer: {offer['digest']}."
    )


def _recipe(content: dict[str, Any]) -> list[str]:
    if "recipe" not in content:
        return []
    return [recipe_sentence(content["recipe"])]


def _privacy(privacy: dict[str, Any] | None) -> list[str]:
    if privacy is None:
        return ["No noise is added: what is opened is exact, epsilon is infinite, and no row is protected from it."]
    each = privacy["sensitivity"]
    return [
        f"Noise: {privacy['mechanism']}, sigma = {_number(privacy['sigma'])}.",
        f"Each value costs epsilon = {_number(privacy['epsilon'])} at delta = {_number(privacy['delta'])}.",
        f"Protected: {privacy['protects']}",
        f"Rows are cut to the norm {_number(privacy['row_norm'])}.",
        *([f"Targets are cut to the size {_number(privacy['target_norm'])}."] if "target_norm" in privacy else []),
        *(f"Sensitivity of {_name(key)}: {_number(each[key])}." for key in sorted(each)),
    ]


def _wrapped(text: str, mark: str) -> list[str]:
    """Return the lines of one paragraph or list item, escaped after they are broken, so that no escape is cut."""
    lines = textwrap.wrap(printable(text.strip()), WIDTH - len(mark), break_on_hyphens=False) or [""]
    safe = [OPENERS.sub(r"\1\\\2", MARKS.sub(r"\\\g<0>", line)) for line in lines]
    return [(" " * len(mark) if k else mark) + line for k, line in enumerate(safe)]


def _target(model: dict[str, Any]) -> str:
    classes = _count(model["classes"], "class", "classes")
    if "name" not in model:
        return classes
    kind = "one target that is a number" if model["classes"] == 1 else classes
    return f"{kind} ({model['name'].replace('_', ' ')})"


def _name(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'  # a name cannot end its own quotation


def _roles(roles: list[str]) -> str:
    return " and the ".join(role.replace("_", " ") for role in roles)


def _number(value: float) -> str:
    return str(value) if type(value) is int else f"{value:.15g}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
