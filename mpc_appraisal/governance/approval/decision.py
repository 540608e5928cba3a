"""The data owner's decision: a `Decision` is a yes, and an `ApprovalError` stands for everything else.

The ways to decide (`decide`, `queue`, `rules`) make one of the two here, and the appraisal reads it. A field may be
added to `Decision`. What `ApprovalError.public` says goes to the other party, so it must never hold the owner's
reasons. Times have to stay ISO with their zone, because the queue reads them back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.governance.approval.request import Request

Clock = Callable[[], datetime]


class ApprovalError(AppraisalError):
    """The error that says that the data owner did not say yes, and that nothing private was shared.

    Args:
        message: what the data owner reads, with its reasons.
        public: what the other party reads, without the owner's reasons.
    """

    def __init__(self, message: str, public: str):
        self._public = public
        super().__init__(message)

    def __reduce__(self):
        return ApprovalError, (str(self), self._public)

    @property
    def public(self) -> str:
        """Return the message for the other party, which leaves out the owner's reasons."""
        return self._public

    def beside(self, reason: str) -> ApprovalError:
        """Return the same error with one more reason, which both parties may read."""
        return ApprovalError(f"{self}. {reason}", f"{self._public}. {reason}")


@dataclass(frozen=True)
class Decision:
    """A yes to one request.

    Attributes:
        how: 'command', 'policy', 'stated' or 'offer'.
        time: the time at which the yes was said, ISO in UTC.
        digest: the digest of the request that the yes is for.
    """

    how: str
    time: str
    digest: str


def refused(request: Request, reason: str) -> ApprovalError:
    """Return the error for a no or a broken policy. The reason stays with the data owner."""
    public = f"the data owner refused request {request.id}"
    return ApprovalError(f"{public}: {reason}", public)


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(timezone.utc)


def stamp(now: datetime) -> str:
    """Return the time as ISO in UTC, to the second. Raises InputError for a time without its zone."""
    if now.tzinfo is None:
        raise InputError("clock", now, "a time with its zone")
    return now.astimezone(timezone.utc).isoformat(timespec="seconds")
