"""Errors of the package.

None of them derives from RuntimeError: CrypTen catches RuntimeError in places and goes on with another protocol, which
would turn a refusal into a wrong number.
"""

from __future__ import annotations

import re

from mpc_appraisal.common.text import printable

# Plain words, a key of the configuration or of a budget, or a field of a published listing; no file of its owner's.
SECTIONS = "appraisal|budget|ledger|mechanism|model|party|policy|question|release|session|standardise"
PUBLIC_NAME = re.compile(
    rf"([a-z0-9_ ]+|({SECTIONS})(\.(?!json$)[a-z0-9_]+)+)( \([^()]*\))?|listing [a-z0-9_-]+: [a-z0-9_.]+"
)


class AppraisalError(Exception):
    """Base of every error that this package raises on purpose."""

    @property
    def public(self) -> str:
        """What the other parties may be told; nothing by default, for a message may quote private values."""
        return "it failed, and its message is its own"


class InputError(AppraisalError):
    """A bad input: carries its name, the offending value and what was expected.

    The whole message stays with the party whose input it is. `public` leaves the value out, for the value may be
    private: it is what the other parties are told.
    """

    def __init__(self, name: str, value: object, expected: str):
        self.name, self.value, self.expected = name, value, expected
        # a file or a note may hold what a terminal would obey
        super().__init__(printable(f"{name}: got {printable(str(value))}; expected {expected}", newlines=True))

    def __reduce__(self):
        return InputError, (self.name, str(self.value), self.expected)

    @property
    def public(self) -> str:
        return (
            f"bad input in {self.name}" if PUBLIC_NAME.fullmatch(self.name) else "bad input, which its own error names"
        )


class DisagreementError(AppraisalError):
    """The parties state different public facts or configurations; nothing was shared."""

    def __init__(self, message: str):
        super().__init__(printable(message, newlines=True))  # it may quote what the other party said

    @property
    def public(self) -> str:
        return str(self)  # made of public facts alone


class PeerError(AppraisalError):
    """Another party failed, vanished or never came; the message names it."""

    def __init__(self, message: str):
        super().__init__(printable(message, newlines=True))  # it may quote what the other party said

    @property
    def public(self) -> str:
        return str(self)


class BoundError(AppraisalError):
    """What was computed left the public range that the protocol is right in; nothing was released."""

    @property
    def public(self) -> str:
        return str(self)  # made of public facts and of a bit that both owners have seen


class OwnerError(AppraisalError):
    """A private value was asked of, or shown to, the wrong party."""
