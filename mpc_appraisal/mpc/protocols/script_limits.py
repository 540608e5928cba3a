"""The size of what a dealer's script asks for, and the limits on it that a dealer sets.

`orders.measured` makes a `ScriptRequest` of a script, from shapes alone; `Limits.check` refuses it, before any memory
is allocated, if a number is beyond its limit. The limits may change: the dealer alone applies them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mpc_appraisal.common.errors import DisagreementError
from mpc_appraisal.mpc.protocols.dealer import MAX_REQUESTS
from mpc_appraisal.mpc.protocols.request_checks import MAX_ELEMENTS

MAX_TEXT = 2**28  # A script has at most so many bytes.
MAX_TOTAL = 2**42  # All requests of a script draw and share at most so many elements.
ELEMENT_BYTES = 8
COPIES = 2  # The dealer has at most so many copies of what one request draws and shares.
UNKNOWN_MEMORY = 16 << 30  # This is assumed of a machine whose memory cannot be read.


@dataclass(frozen=True)
class ScriptRequest:
    """The size of what a script asks for. An element is a number of 8 bytes.

    Attributes:
        requests: the number of requests in the script.
        largest: the largest number of elements that one request draws and shares.
        total: the number of elements that all requests together draw and share.
        kept: the largest number of elements that the dealer keeps from one request to the next.
    """

    requests: int = 0
    largest: int = 0
    total: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Limits:
    """The most that a script may ask for.

    Attributes:
        requests, largest, total: the limits on the fields of `ScriptRequest` of these names.
        text: the limit on the bytes of a script's JSON.
        memory: the limit on the bytes that the kept masks and the largest request take together.
    """

    requests: int = MAX_REQUESTS
    text: int = MAX_TEXT
    largest: int = MAX_ELEMENTS
    total: int = MAX_TOTAL
    memory: int = UNKNOWN_MEMORY

    @staticmethod
    def of_this_machine() -> Limits:
        """Return the default limits, with the memory of this machine in bytes as the limit on memory."""
        try:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (ValueError, OSError, AttributeError):
            memory = UNKNOWN_MEMORY
        return Limits(memory=memory)

    def check(self, request: ScriptRequest) -> None:
        """Raise DisagreementError, which ends the session at all parties, if a number is beyond its limit."""
        memory = ELEMENT_BYTES * (request.kept + COPIES * request.largest)
        for found, limit, what in (
            (request.requests, self.requests, "requests"),
            (request.largest, self.largest, "elements in one request"),
            (request.total, self.total, "elements in all requests"),
            (memory, self.memory, "bytes of memory for kept masks and the largest request"),
        ):
            if found > limit:
                raise DisagreementError(f"dealer: refused a script of {found} {what}; expected at most {limit}")

    def check_text(self, length: int) -> None:
        """Raise DisagreementError if a script of `length` bytes is empty or beyond the limit."""
        if not 0 < length <= self.text:
            raise DisagreementError(f"dealer: refused a script of {length} bytes; expected 1 to {self.text}")
