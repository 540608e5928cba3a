"""The answers that a data owner's offers have given: a file in the folder of its ledgers, counted by calendar month.

    left of an offer = answers_per_month - answers that were taken under its name in this month of UTC, or later

In go an offer, a request and a time; `take` writes a line before the yes is given, so that a run that is killed counts
as taken, and so does one that a ledger refuses afterwards. The count goes by the offer's name, so that a changed offer
does not begin anew; months to come count too, so that a clock that is turned back gives nothing back. The lines have
the chain of hashes, the head and the lock of a ledger (`budget.hash_chain`), and no line may be removed or rewritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, hexadecimal, nullable, open_record, whole, zoned_time
from mpc_appraisal.governance.approval.decision import stamp
from mpc_appraisal.governance.budget import hash_chain as chain
from mpc_appraisal.governance.offers.schema import MOST_ANSWERS, NAME, SHA256

FILE = "offers.taken"
OPEN, TAKEN, TEAR = "offers", "taken", "tear"
LINE = Schema(
    open_record(
        time=zoned_time(),
        offer=NAME,
        digest=SHA256,
        request=hexadecimal(64),
        buyer=nullable(SHA256),
        answers=whole(1, MOST_ANSWERS),
    )
)


class Taken:
    """The file of answers that offers have given, which the first `take` makes.

    Args:
        path: the file, `offers.taken` in the folder of a ledger.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).resolve()  # one file has one lock

    def count(self, name: str, now: datetime) -> int:
        """Return the answers that were taken under an offer's name in the month of `now`, in UTC, or later.

        Raises InputError for a file that cannot be read or that was changed.
        """
        if not self._known():
            return 0
        try:
            return _count(self._entries(chain.read(self.path)), name, now)
        except OSError as error:
            raise InputError("offers", f"{self.path.name} ({error.strerror})", "a file that can be read") from error

    def take(self, name: str, digest: str, request: str, buyer: str | None, answers: int, most: int, now: datetime):
        """Write down that `answers` answers are taken, unless more than `most` would be taken in the month of `now`.

        Returns None, or the number that is left where it does not suffice; then nothing was written.

        Args:
            name, digest: the offer.
            request: the digest of the request.
            buyer: the SHA-256 of the certificate key that the model owner showed.
            answers: the number of answers.
            most: the number of answers in a month.
            now: the time with its zone.

        Raises InputError for a file that cannot be read or written, or that was changed.
        """
        with chain.locked(self.path):
            if not self._known():
                chain.create(self.path, {"kind": OPEN, "time": stamp(now)})
            found = chain.read(self.path)
            left = most - _count(self._entries(found), name, now)
            if answers > left:
                return max(left, 0)
            entry = {"kind": TAKEN, "time": stamp(now), "offer": name, "digest": digest, "request": request}
            chain.append(self.path, found, entry | {"buyer": buyer, "answers": answers})
        return None

    def _known(self) -> bool:
        return self.path.exists() or chain.beside(self.path, ".head").exists()

    def _entries(self, found: chain.Chain) -> Iterator[dict[str, Any]]:
        """Yield the lines of takings. Raises InputError for the first line that is none."""
        if not found.lines[0].entry or found.lines[0].entry.get("kind") != OPEN:
            raise chain.bad_line(self.path, 1, "another file", f"a first line of the kind {OPEN}")
        for line in found.lines[1:]:
            if line.entry is None or line.entry.get("kind") == TEAR:
                continue
            if line.entry.get("kind") != TAKEN:
                raise chain.bad_line(self.path, line.number, line.entry.get("kind"), f"the kind {TAKEN}")
            LINE.check(line.entry, f"{self.path.name}, line {line.number}")
            yield line.entry


def month_of(time: datetime) -> tuple[int, int]:
    """Return the year and the month of a time in UTC. Raises InputError for a time without its zone."""
    if time.tzinfo is None:
        raise InputError("clock", time, "a time with its zone")
    found = time.astimezone(timezone.utc)
    return found.year, found.month


def _count(entries: Iterator[dict[str, Any]], name: str, now: datetime) -> int:
    month = month_of(now)
    return sum(
        entry["answers"]
        for entry in entries
        if entry["offer"] == name and month_of(datetime.fromisoformat(entry["time"].replace("Z", "+00:00"))) >= month
    )
