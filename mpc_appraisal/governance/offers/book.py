"""A data owner's offers in a folder: the one in force of each name, which were changed, and which were withdrawn.

    NAME.json                  the offer in force
    NAME.withdrawn             the digest of an offer that was withdrawn, and when
    earlier/NAME-DIGEST.json   an offer whose place another one of its name has taken

In go signed offers; out come offers by name, and the digests that no longer hold. A lock keeps two commands apart, and
every file is written whole. Whoever may write the folder cannot make an offer, because each is signed, but can remove
one; the folder belongs to the data owner alone. The names of files have to stay.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, read_json, record, zoned_time
from mpc_appraisal.common.storage import OWNER_ONLY, folder_errors, locked_folder, write_whole
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.decision import Clock, stamp, utc_now
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.schema import LARGEST_FILE, NAME, NAME_PATTERN, SHA256

FOLDER = "offers"
EARLIER, WITHDRAWN = "earlier", ".withdrawn"
WITHDRAWAL = Schema(record(digest=SHA256, time=zoned_time()))


@dataclass(frozen=True)
class Kept:
    """One offer of a folder.

    Attributes:
        name: its name.
        offer: the offer in force, or withdrawn; None where its file cannot be used.
        withdrawn: the time at which it was withdrawn, ISO in UTC; "" where it was not.
        error: why its file cannot be used.
    """

    name: str
    offer: Offer | None
    withdrawn: str = ""
    error: str = ""


class OfferBook:
    """The offers in `folder`, which the first `put` makes.

    Args:
        folder: the folder of the offers.
        clock: a function that returns the time with its zone.

    All methods raise InputError for a name that is none, and for a file that cannot be read or written.
    """

    def __init__(self, folder: str | os.PathLike[str] = FOLDER, clock: Clock = utc_now):
        self.folder, self.clock = Path(folder), clock

    def put(self, offer: Offer, replace: bool = False) -> Offer | None:
        """Put an offer in force, and return the one of its name whose place it takes, or None.

        Raises InputError where an offer of this name is in force, unless `replace`.
        """
        with self._errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            path, old = self._file(offer.name), None
            if path.exists():
                old = self._read(offer.name)
                if not replace and not self._withdrawn(old):
                    expected = "another name, or replace=yes to change this offer"
                    raise InputError("offer.name", offer.name, expected)
                (self.folder / EARLIER).mkdir(mode=0o700, exist_ok=True)
                write_whole(self._earlier(old.name, old.digest), old.text(), OWNER_ONLY)
            write_whole(path, offer.text(), OWNER_ONLY)
            with suppress(FileNotFoundError):
                os.unlink(self.folder / f"{offer.name}{WITHDRAWN}")
        return old

    def withdraw(self, name: str) -> Offer:
        """Withdraw the offer of this name, and return it. Raises InputError where it was withdrawn before."""
        self.read(name)  # this raises the error: taking the lock would make a file
        with self._locked():
            found = self._read(name)
            if when := self._withdrawn(found):
                raise InputError(f"offer {name}", f"withdrawn at {when}", "an offer that is in force")
            content = json.dumps({"digest": found.digest, "time": stamp(self.clock())}) + "\n"
            write_whole(self.folder / f"{name}{WITHDRAWN}", content, OWNER_ONLY)
        return found

    def read(self, name: str) -> Kept:
        """Return the offer of this name. Raises InputError where there is none, or its file is damaged."""
        with self._errors():
            found = self._read(name)
            return Kept(name, found, self._withdrawn(found))

    def earlier(self, name: str, digest: str) -> Offer | None:
        """Return the offer of this name and digest that another one has replaced; None where there is none."""
        with self._errors():
            path = self._earlier(name, digest)
            return Offer.read(path, f"offer {name}") if path.exists() else None

    def all(self) -> list[Kept]:
        """Return all offers by name, the damaged ones too. A folder that is not there has none."""
        if not self.folder.is_dir():
            return []
        with self._errors():
            return [self._look(path.stem) for path in sorted(self.folder.glob("*.json"))]

    def _look(self, name: str) -> Kept:
        try:
            return self.read(name)
        except InputError as error:
            return Kept(name, None, error=str(error))

    def _read(self, name: str) -> Offer:
        path = self._file(name)
        if not path.exists():
            raise InputError("offer", shown(name), f"the name of an offer in {shown(str(self.folder))}")
        found = Offer.read(path, f"offer {name}")
        if found.name != name:
            raise InputError(f"offer {name}", f"an offer called {found.name}", "the name of its file")
        return found

    def _withdrawn(self, offer: Offer) -> str:
        """Return when the offer was withdrawn; "" where it was not, or where another one of its name was."""
        path = self.folder / f"{offer.name}{WITHDRAWN}"
        if not path.exists():
            return ""
        where = f"offer {offer.name}: {path.name}"
        try:
            value = read_json(path.read_bytes()[:LARGEST_FILE].decode("utf-8"))
        except (ValueError, RecursionError):
            raise InputError(where, "no readable JSON", "the file as it was written (damaged?)") from None
        WITHDRAWAL.check(value, where)
        return value["time"] if value["digest"] == offer.digest else ""

    def _file(self, name: str) -> Path:
        if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name):
            raise InputError("offer", shown(repr(name)), f"a name: {NAME['description']}")
        return self.folder / f"{name}.json"

    def _earlier(self, name: str, digest: str) -> Path:
        self._file(name)
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise InputError("offer.digest", shown(repr(digest)), "64 hex digits")
        return self.folder / EARLIER / f"{name}-{digest}.json"

    def _locked(self) -> AbstractContextManager[None]:
        return locked_folder("offers", self.folder, "a folder")

    def _errors(self) -> AbstractContextManager[None]:
        return folder_errors("offers", self.folder)
