"""The purpose for which a model owner asks: a word of a vocabulary and, where it wants, words of its own.

    party.purpose="purchase: choosing a supplier for 2027"

In go the text that the model owner states; out comes a `Purpose`, which stands in the request, is compared with the
rule `purposes`, and is kept in records. It is a promise of the model owner: nothing in this software can hold it to it.
A word may be added to `PURPOSES`; the words that exist have to stay, because requests, rules and records hold them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Part, one_of, record, text
from mpc_appraisal.common.text import shown

PURPOSES = {
    "purchase": "deciding whether to buy the data",
    "model_improvement": "improving a model that it uses",
    "research": "research",
    "benchmark": "comparing data sets or methods, without an intention to buy",
    "audit": "an audit of a model or of data",
    "other": "another purpose, which its own words state",
}
LONGEST = 300  # characters of the words of its own
PURPOSE: Part = record(kind=one_of(*PURPOSES), text=text(LONGEST))


@dataclass(frozen=True)
class Purpose:
    """What a model owner asks for.

    Args:
        kind: A word of `PURPOSES`.
        text: The model owner's own words; "other" needs some.

    Raises InputError: The word is none of them, the text is too long, or "other" stands alone.
    """

    kind: str
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in PURPOSES:
            raise InputError("party.purpose", shown(self.kind), f"one of {', '.join(PURPOSES)}, and perhaps ': TEXT'")
        if len(self.text) > LONGEST:
            raise InputError("party.purpose", f"{len(self.text)} characters", f"at most {LONGEST} after the word")
        if self.kind == "other" and not self.text:
            raise InputError("party.purpose", self.kind, "other: TEXT, where TEXT says which")

    @staticmethod
    def of(stated: Any) -> Purpose | None:
        """Return the purpose in "KIND" or "KIND: TEXT", and None for None. Raises InputError for anything else."""
        if stated is None:
            return None
        kind, _, words = str(stated).partition(":")
        return Purpose(kind.strip(), words.strip())

    def as_dict(self) -> dict[str, str]:
        """Return the purpose as JSON values."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """Return the purpose in a sentence, in which the model owner's own words cannot end their quotation."""
        own = self.text.replace('"', "'")
        own = f' In its own words: "{own}".' if own else ""
        return f"The model owner states as its purpose: {PURPOSES[self.kind]} ({self.kind}).{own}"
