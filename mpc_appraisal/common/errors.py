"""Errors of the package. Each has a message for its own party, and `public`, which the other parties may be told.

None of them derives from RuntimeError. CrypTen catches RuntimeError in places and goes on with another protocol, which
would turn a refusal into a wrong number.
"""

from __future__ import annotations

import re

from mpc_appraisal.common.text import printable

# A public name is plain words, a key of the configuration or of a budget, or a field of a published listing. It is
# never the name of an owner's file.
SECTIONS = "appraisal|budget|ledger|mechanism|model|party|policy|question|release|session|standardise"
PUBLIC_NAME = re.compile(
    rf"([a-z0-9_ ]+|({SECTIONS})(\.(?!json$)[a-z0-9_]+)+)( \([^()]*\))?|listing [a-z0-9_-]+: [a-z0-9_.]+"
)


class AppraisalError(Exception):
    """Base of every error that this package raises on purpose."""

    @property
    def public(self) -> str:
        """The text that other parties may see. By default it says nothing: a message may quote private values."""
        return "it failed, and its message is its own"


class InputError(AppraisalError):
    """A bad input. The error has the input's name, its value and what was expected.

    The whole message stays with the party whose input it is. `public`, which the other parties see, leaves the value
    out, because it may be private.
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
    """The parties state different public facts or configurations, and nothing was shared."""

    def __init__(self, message: str):
        super().__init__(printable(message, newlines=True))  # it may quote what the other party said

    @property
    def public(self) -> str:
        return str(self)  # made of public facts alone


class PeerError(AppraisalError):
    """Another party failed, vanished or never came. The message names it."""

    def __init__(self, message: str):
        super().__init__(printable(message, newlines=True))  # it may quote what the other party said

    @property
    def public(self) -> str:
        return str(self)


class BoundError(AppraisalError):
    """A computed value left the public range in which the protocol is right, and nothing was released."""

    @property
    def public(self) -> str:
        return str(self)  # made of public facts and of a bit that both owners have seen


class OwnerError(AppraisalError):
    """A private value was asked of, or shown to, the wrong party."""
