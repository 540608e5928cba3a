"""The request queue: a folder of requests that wait for the data owner's answer, and of the answers given.

    ID.json     the request: content, digest, counterparty, time        ID.md      the same in words
    ID.yes      a yes that is not used yet                              ID.no      a no, which stays
    ID.used-N   a yes that started an appraisal; N from 1
    ID.expired-N  a yes that nobody used in time: after a week, or what party.yes_expires states

ID is the request's id, 12 hex digits, and the counterparty is the party that asks. In go requests (`put`) and the
owner's answers (`say`); out come a yes for one appraisal (`take`) and the state of the queue (`all`).

Every file is written whole or not at all, and the next writer removes, under the lock, what a killed one left aside
(`.*.new`). A yes states the full digest and the counterparty that it was said to. It is taken by renaming its file,
which one process alone can do; a lock keeps two commands apart. Whoever may write the folder may say yes; therefore the
folder belongs to the data owner alone, mode 0700. These rules and the names of files have to stay. A field may be added
to a file as an optional one, because files of older versions wait in queues.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, hexadecimal, number, one_of, read_json, record, whole
from mpc_appraisal.common.storage import (
    OWNER_ONLY,
    folder_errors,
    locked_folder,
    remove_leftovers,
    sync_folder,
    write_whole,
)
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.decision import Clock, Decision, refused, stamp, utc_now
from mpc_appraisal.governance.approval.overlap_request import request_of
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.approval.schema import NAME, WORDS

FOLDER = "requests"
WEEK = 7 * 24 * 3600.0  # seconds after which an unused yes expires
ID = re.compile(r"[0-9a-f]{12}")
WRITTEN = ("json", "md", "yes", "no")  # the endings of the files that are written, and not renamed
LONGEST_NOTE = 4000  # characters
MOST = 1 << 26  # the largest size of a file of the queue, in bytes


@dataclass(frozen=True)
class PendingRequest:
    """A request in a queue.

    Attributes:
        id: the id of the request.
        state: pending, yes, no, used (its last yes was taken), expired (its yes was not used in time, so that it waits
            for another one) or damaged.
        request: the request; None for a damaged one.
        counterparty: the name of the party that asks.
        time: the time at which the request was put here, ISO in UTC.
        reason: the reason of a no, or what is wrong with a damaged request.
        note: what this owner's own program says of the request; it is no part of it.
    """

    id: str
    state: str
    request: Request | None = None
    counterparty: str = ""
    time: str = ""
    reason: str = ""
    note: str = ""


_ASKED = Schema(
    record(
        {"lasts": number(0), "note": WORDS},
        content={},
        digest=hexadecimal(64),
        counterparty=NAME,
        time=NAME,
        used=whole(0),
    )
)
_SAID = Schema(record(answer=one_of("yes", "no"), digest=hexadecimal(64), counterparty=NAME, time=NAME, reason=WORDS))
_COUNTERPARTY, _REASON = Schema(NAME), Schema(WORDS)


class RequestQueue:
    """The queue in `folder`, which the first `put` makes.

    Args:
        folder: the folder of the queue.
        clock: a function that returns the time with its zone.
        lasts: the seconds for which a yes may wait to be used.

    All methods raise InputError for a file or a folder that cannot be read or written.
    """

    def __init__(self, folder: str | os.PathLike[str] = FOLDER, clock: Clock = utc_now, lasts: float = WEEK):
        self.folder, self._clock, self._lasts = Path(folder), clock, lasts

    def put(self, request: Request, counterparty: str, note: str = "") -> Path:
        """Put the request into the queue, or put it there again, and return the path of its text.

        note: what this owner's own program says of the request.

        An unused yes for this digest and counterparty still counts until it expires, and a no stays. Raises InputError
        for a request that shares its id with a different request in the queue, because the owner may have read the
        other one.
        """
        _COUNTERPARTY.check(counterparty, "counterparty")
        with self._errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            lying = self._look(request.id)
            if lying.request is not None and lying.request.digest != request.digest:
                raise InputError("request", request.id, "another id: a different request of this id waits in the queue")
            entry = {"content": request.content, "digest": request.digest, "counterparty": counterparty}
            entry |= {"time": stamp(self._clock()), "used": self._used(request.id), "lasts": self._lasts}
            entry |= {"note": note[:LONGEST_NOTE]} if note else {}
            self._tidy(request.id)
            write_whole(self.folder / f"{request.id}.md", request.text(), OWNER_ONLY)
            content = json.dumps(entry, indent=1, sort_keys=True) + "\n"
            write_whole(self.folder / f"{request.id}.json", content, OWNER_ONLY)
        return self.folder / f"{request.id}.md"

    def say(self, id: str, yes: bool, reason: str = "", read: tuple[str, str] | None = None) -> PendingRequest:
        """Say yes or no to the request `id`, and return the request as it was read.

        read: the digest and the counterparty of the request that the owner has read, where another one may lie here
            by now; None for whatever lies here.

        Raises InputError for a request that is not here, that was changed on the disk in content or in text, or that
        has a decision already, even a used one: one yes starts one appraisal, and another yes has to be asked for.
        """
        _REASON.check(reason, "reason")
        if not (isinstance(id, str) and ID.fullmatch(id) and (self.folder / f"{id}.json").is_file()):
            self.read(id)  # This raises the error. Taking the lock would make a folder or a file.
        with self._locked():
            pending = self.read(id)
            if read is not None and read != (pending.request.digest, pending.counterparty):
                raise InputError(f"request {id}", "another request or counterparty", "the one that was read before")
            if self._bytes(f"{id}.md") != pending.request.text().encode("utf-8"):
                raise InputError(f"{id}.md", "another text", "the text of the request (changed on the disk?)")
            ending = "yes" if yes else "no"
            answer = {"answer": ending, "digest": pending.request.digest, "counterparty": pending.counterparty}
            answer |= {"time": stamp(self._clock()), "reason": reason}
            if pending.state == "expired":
                self._expire(id)
            elif pending.state != "pending":
                raise InputError(f"request {id}", f"already {pending.state}", "a request without a decision")
            self._tidy(id)
            try:
                content = json.dumps(answer, indent=1) + "\n"
                write_whole(self.folder / f"{id}.{ending}", content, OWNER_ONLY, replace=False)
            except FileExistsError:
                raise InputError(f"request {id}", f"already {ending}", "a request without a decision") from None
        return pending

    def take(self, request: Request, counterparty: str) -> Decision | None:
        """Take the unused yes to this request, which this call uses up. Returns None where there is no yes.

        If several processes ask at once, one of them gets the yes. Raises ApprovalError for a no, and InputError for a
        decision that is damaged, or meant for another request or counterparty.
        """
        with self._errors():
            if (said := self._said(request.id, "no")) is not None:
                self._meant(said, request, None)
                why = f": {shown(said['reason'], 400)}" if said["reason"] else ""
                raise refused(request, f"its no of {shown(said['time'])}{why}")
            if (said := self._said(request.id, "yes")) is None:
                return None
            self._meant(said, request, counterparty)
        with self._locked():
            if self._late(said, self._lasts):
                if self._said(request.id, "yes") == said:  # a fresh yes that came meanwhile is left
                    self._expire(request.id)
                return None
            taken = self.folder / f".{request.id}.{os.getpid()}-{os.urandom(8).hex()}.taken"
            try:
                os.rename(self.folder / f"{request.id}.yes", taken)  # one process alone succeeds
            except FileNotFoundError:
                return None
            if self._said(taken.name[:-6], "taken") != said:
                raise InputError(f"{request.id}.yes", "another decision", "the one that was read (changed meanwhile)")
            self._keep(request.id, taken)
        return Decision("command", said["time"], said["digest"])

    def read(self, id: str) -> PendingRequest:
        """Return the request `id`. Raises InputError where there is no such request, or a damaged one."""
        if not isinstance(id, str) or not ID.fullmatch(id):
            raise InputError("request", shown(repr(id)), "the id of a request: 12 hex digits")
        with self._errors():
            content = self._bytes(f"{id}.json")
            if content is None:
                raise InputError("request", id, f"the id of a request in {shown(str(self.folder))}")
            entry = _checked(f"{id}.json", content, _ASKED)
            request = request_of(entry["content"])
            if request.digest != entry["digest"] or request.id != id:
                raise InputError(
                    f"{id}.json", "a content of another digest", "the one put there (changed on the disk?)"
                )
            no, yes = self._said(id, "no"), self._said(id, "yes")
            for said in filter(None, (no, yes)):
                self._meant(said, request, None)
            used = "used" if self._used(id) > entry["used"] else "pending"
            late = yes is not None and self._late(yes, entry.get("lasts", WEEK))
        state = "no" if no else "expired" if late else "yes" if yes else used
        reason, note = no["reason"] if no else "", entry.get("note", "")
        return PendingRequest(id, state, request, entry["counterparty"], entry["time"], reason, note)

    def all(self) -> list[PendingRequest]:
        """Return all requests in the queue, the damaged ones too, the oldest first."""
        if not self.folder.is_dir():
            raise InputError("in", shown(str(self.folder)), "the folder of a queue of requests")
        ids = [path.stem for path in self.folder.glob("*.json") if ID.fullmatch(path.stem)]
        return sorted(map(self._look, ids), key=lambda pending: (pending.time, pending.id))

    def pending(self) -> list[PendingRequest]:
        """Return the requests that wait for an answer, those with an expired yes among them."""
        return [pending for pending in self.all() if pending.state in ("pending", "expired")]

    def approved(self, counterparty: str, candidates: list[str]) -> Request | None:
        """Return the request of these candidates that the counterparty made last of those with a yes, or None."""
        if not self.folder.is_dir():
            return None
        found = [one for one in self.all() if one.state in ("yes", "used") and one.counterparty == counterparty]
        return next((one.request for one in reversed(found) if one.request.candidates == candidates), None)

    def _late(self, said: dict[str, Any], lasts: float) -> bool:
        """Say whether a yes was said too long ago to be used."""
        try:
            then = datetime.fromisoformat(said["time"])
            return self._clock() - then > timedelta(seconds=lasts)
        except (ValueError, TypeError, OverflowError):
            raise InputError("yes", shown(said["time"]), "a time with its zone (damaged?)") from None

    def _expire(self, id: str) -> None:
        """Rename a yes that came too late to a name that is free. The caller holds the lock."""
        number = 1
        while (aside := self.folder / f"{id}.expired-{number}").exists():
            number += 1
        with suppress(FileNotFoundError):
            os.rename(self.folder / f"{id}.yes", aside)
        sync_folder(self.folder)

    def _look(self, id: str) -> PendingRequest:
        try:
            return self.read(id)
        except InputError as error:
            return PendingRequest(id, "damaged", reason=str(error))

    def _said(self, id: str, ending: str) -> dict[str, Any] | None:
        content = self._bytes(f"{id}.{ending}")
        if content is None:
            return None
        said = _checked(f"{id}.{ending}", content, _SAID)
        if ending != "taken" and said["answer"] != ending:
            raise InputError(f"{id}.{ending}", f"the answer {said['answer']}", f"the answer {ending}")
        return said

    def _meant(self, said: dict[str, Any], request: Request, counterparty: str | None) -> None:
        where = f"{request.id}.{said['answer']}"
        if said["digest"] != request.digest:
            raise InputError(where, f"a decision on {said['digest']}", f"one on {request.digest}")
        if counterparty not in (None, said["counterparty"]):
            raise InputError(where, f"a decision for {shown(said['counterparty'])}", f"one for {shown(counterparty)}")

    def _used(self, id: str) -> int:
        return sum(re.fullmatch(rf"{id}\.used-[0-9]+", name) is not None for name in os.listdir(self.folder))

    def _keep(self, id: str, taken: Path) -> None:
        """Name a taken yes ID.used-N, with N free. The name is on the disk before an appraisal starts."""
        number = self._used(id) + 1
        while True:
            try:
                os.link(taken, self.folder / f"{id}.used-{number}")
                break
            except FileExistsError:
                number += 1
        os.unlink(taken)
        sync_folder(self.folder)

    def _tidy(self, id: str) -> None:
        """Remove what killed writers left of this request and of the others here. The caller holds the lock."""
        stems = {name.partition(".")[0] for name in os.listdir(self.folder)}
        ids = sorted({id, *filter(ID.fullmatch, stems)})
        remove_leftovers(*(self.folder / f"{one}.{ending}" for one in ids for ending in WRITTEN))

    def _bytes(self, name: str) -> bytes | None:
        try:
            with open(self.folder / name, "rb") as file:
                return file.read(MOST + 1)
        except FileNotFoundError:
            return None

    def _locked(self) -> AbstractContextManager[None]:
        return locked_folder("requests", self.folder, "a queue")

    def _errors(self) -> AbstractContextManager[None]:
        return folder_errors("requests", self.folder)


def _checked(name: str, content: bytes, schema: Schema) -> dict[str, Any]:
    try:
        found = read_json(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError(name, "no readable JSON", "the file as it was written (damaged?)") from None
    schema.check(found, name)
    return found
