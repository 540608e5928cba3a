"""The check of a card: that the page is made of the records in it, and that both owners signed their answers.

    page = the page that `card.page_of` makes of the records in the page        byte for byte
    answer = the one whose salted digest both owners signed                     for every method that has a salt

In go the file of a card, in HTML or Markdown, and the certificates of both owners. Out come facts to print, or an
InputError that names what is wrong. Nothing else is needed: no ledger, no other file, no connection. What the owner of
the card adds itself, the decision and its caveats, is signed by nobody, and the check says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.common.schema import Schema, many, mapping, read_json, record, text, whole
from mpc_appraisal.reporting.card import Section, page_of
from mpc_appraisal.reporting.receipt import Receipt, answer_of, public_bytes
from mpc_appraisal.reporting.record import Record

DATA = re.compile(r'(?:<!-- appraisal-data |id="appraisal-data">)(\{.*\})(?: -->|</script>)')
LARGEST_CARD = 16 << 20  # bytes
ANY = {"type": "object"}
SHAPE = Schema(record(records=many(ANY), among=mapping(text(200), whole(0)), decided=many(ANY, least=0)))


@dataclass(frozen=True)
class Checked:
    """A card that has passed the check.

    Attributes:
        receipt: What both owners have signed.
        records: The records in the card.
        own: Whether the card has sections of its owner that nobody signed.
    """

    receipt: Receipt
    records: list[Record]
    own: bool


def check_card(path: str | Path, certificates: Mapping[str, x509.Certificate]) -> Checked:
    """Check a card by the certificates of both owners, by role.

    Raises InputError: The file is no card with a receipt, the page or an answer was changed, a signature is not good,
        or a certificate is of another key.
    """
    page = _read(path)
    found = DATA.search(page)
    if found is None:
        raise InputError("CARD", Path(path).name, "a card with a receipt: one of a session over TLS, as it was written")
    try:
        data = read_json(found[1])
    except (ValueError, RecursionError) as error:
        raise InputError("CARD", Path(path).name, "a card whose data can be read") from error
    SHAPE.check(data, "CARD")
    records = [Record.of(one) for one in data["records"]]
    form = "html" if found[0].startswith("id=") else "md"
    if page_of(records, data["among"], [_section(one) for one in data["decided"]], form) != page:
        expected = "the page that its records give (it was changed, or another version wrote it)"
        raise InputError("CARD", f"another page, {Path(path).name}", expected)
    return Checked(_checked_receipt(records, certificates), records, bool(data["decided"]))


def _checked_receipt(records: list[Record], certificates: Mapping[str, x509.Certificate]) -> Receipt:
    """Return the one receipt of all records, whose signatures and answers are good."""
    first, receipt = records[0], records[0].receipt
    if receipt is None or any(one.receipt != receipt for one in records):
        raise InputError("CARD", "records of different receipts", "one receipt for all records")
    found = Receipt.of(receipt)
    found.verify()
    for role in OWNERS:
        encoded = public_bytes(certificates[role].public_key()).hex()
        if encoded != found.signatures[role]["key"]:
            raise InputError(role, "a certificate of another key", found.content["keys"][role])
    for one in records:
        request = one.request or {}
        offer = request.get("offer") if request.get("how") == "offer" else None
        named = None if offer is None else {key: offer[key] for key in ("name", "digest")}
        if named != found.content.get("offer"):
            raise InputError("record.request.offer", named, str(found.content.get("offer")))
        stated = {"candidate": one.candidate, "request": request.get("digest"), "config": one.config_hash}
        for key, value in stated.items():
            if value != found.content[key]:
                raise InputError(f"record.{key}", value, found.content[key])
        if one.method in found.salts:
            found.check_answer(one.method, answer_of(one))
        elif any(value is not None for value in answer_of(one).values()):
            raise InputError(f"receipt.salts.{one.method}", None, "the salt of an answer that the card states")
    if sorted(one.method for one in records) != sorted(found.content["answers"]):
        raise InputError("CARD", f"records of {first.candidate} without all methods", "one for each signed answer")
    return found


def _section(stated: Any) -> Section:
    """Return a section from its JSON. Raises InputError where it is none."""
    try:
        answers = tuple((head, tuple(notes)) for head, notes in stated["answers"])
        facts, steps = (tuple((a, b) for a, b in stated[key]) for key in ("facts", "steps"))
        return Section(stated["title"], answers, facts, steps)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("CARD", "a section that cannot be read", "the sections of a card") from error


def _read(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError("CARD", Path(path).name, f"a file that can be read ({error.strerror})") from error
    if len(content) > LARGEST_CARD:
        raise InputError("CARD", f"{len(content)} bytes", f"at most {LARGEST_CARD}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("CARD", Path(path).name, "a text in UTF-8") from error
