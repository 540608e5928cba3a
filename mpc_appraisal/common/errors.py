"""Errors of the package. Each has a message for its own party, and `public`, which may be announced to the others.

A party is one of the three processes that compute together: model owner, data owner and dealer. A new error is a class
here that says what of its message is public; by default nothing is. Two things have to stay. No error derives from
RuntimeError: CrypTen catches RuntimeError in places and goes on with another protocol, which would turn a refusal into
a wrong number. And `public` never holds a private value.
"""

from __future__ import annotations

import re
from typing import ClassVar

from mpc_appraisal.common.text import printable

# A public name is plain words, a key of the configuration or of a budget, or a field of a published listing. It is
# never the name of an owner's file.
DISAGREEMENT = "the parties disagree: "  # so begins the message of a disagreement that one party alone finds
SECTIONS = "appraisal|budget|ledger|mechanism|model|party|policy|question|release|session|standardise"
PUBLIC_NAME = re.compile(
    rf"([a-z0-9_ ]+|({SECTIONS})(\.(?!json$)[a-z0-9_]+)+)( \([^()]*\))?|listing [a-z0-9_-]+: [a-z0-9_.]+"
)


class AppraisalError(Exception):
    """Every error that this package raises on purpose derives from this class.

    Attributes:
        status: The exit status of a command that this error ends. Scripts rely on it.
    """

    status: ClassVar[int] = 2

    @property
    def public(self) -> str:
        """The text that other parties may see. By default it says nothing: a message may quote private values."""
        return "it failed, and its message is its own"


class InputError(AppraisalError):
    """This error refuses a bad input. It has the input's name, its value and what was expected.

    The whole message stays with the party whose input it is. `public`, which the other parties see, leaves the value
    out, because it may be private.

    Args:
        name: The input: a key of the configuration, or plain words.
        value: What was found.
        expected: What would be right, in words.
    """

    def __init__(self, name: str, value: object, expected: str):
        self.name, self.value, self.expected = name, value, expected
        # A file or a message may hold escape sequences that a terminal would obey.
        super().__init__(printable(f"{name}: got {printable(str(value))}; expected {expected}", newlines=True))

    def __reduce__(self):
        return InputError, (self.name, str(self.value), self.expected)

    @property
    def public(self) -> str:
        return (
            f"bad input in {self.name}" if PUBLIC_NAME.fullmatch(self.name) else "bad input, which its own error names"
        )


class DisagreementError(AppraisalError):
    """This error says that the parties state different public facts or configurations. Nothing was shared."""

    def __init__(self, message: str):
        super().__init__(printable(message, newlines=True))  # it may quote what the other party said

    @property
    def public(self) -> str:
        return str(self)  # made of public facts alone


class PeerError(AppraisalError):
    """This error says that another party failed, vanished or never came. The message names that party."""

    def __init__(self, message: str):
        super().__init__(printable(message, newlines=True))  # it may quote what the other party said

    @property
    def public(self) -> str:
        return str(self)


class PeerDisagreementError(PeerError, DisagreementError):
    """This error says that another party has stopped because it found that the parties disagree."""


class BoundError(AppraisalError):
    """This error says that a computed value left the public range in which the protocol is right.

    Nothing was released.
    """

    @property
    def public(self) -> str:
        return str(self)  # made of public facts and of a bit that both owners have seen


class OwnerError(AppraisalError):
    """This error says that a private value was asked of, or shown to, the wrong party."""


class IntegrityError(AppraisalError):
    """This error says that a party's message is not the one that the protocol prescribes. It names the party and part.

    Nothing was opened. The exit status is another one, so that a script can tell a message that was altered from a bad
    input or a lost party.
    """

    status = 3

    @property
    def public(self) -> str:
        return str(self)  # made of roles, names of messages and public numbers alone
