"""The calendar by which a budget renews: days, months, quarters and years in UTC.

In go a policy's word for how it renews and a time; out come the name of the period that holds the time, and the start
of the next one. Two times are in one period exactly if the names of their periods are equal. 'never' has one period,
without a name and without an end. A period begins at 0:00 UTC. The names stand in records, so that they have to stay.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError

NEVER = "never"
MONTHS = {"monthly": 1, "quarterly": 3, "yearly": 12}  # the months of a period
RENEWS = (NEVER, "daily", *MONTHS)


def start_of(renews: str, time: datetime) -> datetime | None:
    """Return the start of the period that holds `time`, in UTC; None where the budget never renews.

    Raises InputError for a word that is not in RENEWS.
    """
    one_of("policy.renews", renews, RENEWS)
    day = time.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    if renews == NEVER:
        return None
    return day if renews == "daily" else day.replace(month=day.month - (day.month - 1) % MONTHS[renews], day=1)


def period_of(renews: str, time: datetime) -> str:
    """Return the name of the period that holds `time`, as 2026-11-30, 2026-11, 2026-Q4 or 2026; '' for never."""
    start = start_of(renews, time)
    if start is None:
        return ""
    names = {"daily": f"{start:%Y-%m-%d}", "monthly": f"{start:%Y-%m}", "yearly": f"{start:%Y}"}
    return names.get(renews, f"{start:%Y}-Q{(start.month + 2) // 3}")


def next_start(renews: str, time: datetime) -> datetime | None:
    """Return the start of the period after the one that holds `time`, in UTC; None where the budget never renews."""
    start = start_of(renews, time)
    if start is None:
        return None
    if renews == "daily":
        return start + timedelta(days=1)
    months = start.month - 1 + MONTHS[renews]
    return start.replace(year=start.year + months // 12, month=months % 12 + 1)


def read_time(text: object) -> datetime:
    """Return the time that a ledger's line states. Raises InputError for anything but a time with its zone."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise InputError("time", repr(text), "a time with its zone")
    return found
