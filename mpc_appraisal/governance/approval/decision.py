"""The data owner's decision: a `Decision` is a yes, and an `ApprovalError` stands for everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.governance.approval.request import Request

Clock = Callable[[], datetime]


class ApprovalError(AppraisalError):
    """The data owner did not say yes, and nothing private was shared. `public` leaves out the owner's reasons."""

    def __init__(self, message: str, public: str):
        self._public = public
        super().__init__(message)

    def __reduce__(self):
        return ApprovalError, (str(self), self._public)

    @property
    def public(self) -> str:
        return self._public


@dataclass(frozen=True)
class Decision:
    """A yes.

    Attributes:
        how: 'command', 'policy' or 'stated'.
        time: the time at which it was said, ISO in UTC.
        digest: the digest of the request that it is for.
    """

    how: str
    time: str
    digest: str


def refused(request: Request, reason: str) -> ApprovalError:
    """The error for a no or a broken policy. The reason stays with the data owner."""
    public = f"the data owner refused request {request.id}"
    return ApprovalError(f"{public}: {reason}", public)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def stamp(now: datetime) -> str:
    """The time as ISO in UTC, to the second. Raises InputError for a time without its zone."""
    if now.tzinfo is None:
        raise InputError("clock", now, "a time with its zone")
    return now.astimezone(timezone.utc).isoformat(timespec="seconds")
