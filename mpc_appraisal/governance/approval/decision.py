"""A yes, and the error in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.governance.approval.request import Request

Clock = Callable[[], datetime]


class ApprovalError(AppraisalError):
    """The data owner did not say yes; nothing private was shared. public: without the owner's reasons."""

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
    """A yes. how: 'command', 'policy' or 'stated'; time: when it was said, ISO in UTC; digest: of the request."""

    how: str
    time: str
    digest: str


def refused(request: Request, reason: str) -> ApprovalError:
    """Of a no or of a broken policy; the reason stays with the data owner."""
    public = f"the data owner refused request {request.id}"
    return ApprovalError(f"{public}: {reason}", public)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def stamp(now: datetime) -> str:
    """ISO in UTC, to the second. Raises InputError for a time without its zone."""
    if now.tzinfo is None:
        raise InputError("clock", now, "a time with its zone")
    return now.astimezone(timezone.utc).isoformat(timespec="seconds")
