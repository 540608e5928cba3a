"""The ledger's file: lines of JSON that are only appended, each with a seal and the hash of the line before it.

The seal of a line is the SHA-256 of the line itself.

In go the path of a ledger and entries to append; out comes a checked `Chain` of lines, or an InputError that names the
first bad line. A charge is a line that pays for a value before it is opened. Beside FILE lie FILE.lock and FILE.head.
The head holds the number and the SHA-256 of the last line that is known to be whole; without the head, nobody would
notice that lines were removed from the end. An append takes these steps under the lock:

1. The caller has read and checked everything with `read`. If a killed writer left an unfinished line, a newline ends
   it, and a line of kind `tear` then states how many unreadable lines stand before it. Only lines after the one that
   the head names may be unfinished.
2. The line is written at the end (O_APPEND), and file and folder are brought to the disk.
3. FILE.head is written whole, and brought to the disk.

A file that a killed writer left aside (`.*.new`) is removed by the next writer, under the lock too.

An append returns after step 3, and only then does the caller release anything. If the process is killed before step 2
ends, nothing was granted, and the line may be unfinished. If it is killed later, the line counts, though nothing was
released. So every granted charge has a line. The head is never ahead of the file. A file is created together with its
first line, never with a part of it. The steps and the format of a line have to stay, because ledgers are kept; how
lines are read may change.

Whoever may write the folder can make a new ledger that verifies. An owner who fears this notes the last hash elsewhere
(`budget verify --head`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mpc_appraisal.common import storage
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import OWNER_ONLY, PATIENCE, remove_leftovers, write_whole

ENDING = ".ledger"  # the file lies beside the data file, FILE.ledger
FORMAT = "mpc_appraisal budget 1"
MAGIC = f'{{"ledger":"{FORMAT}",'.encode()
NOTHING = "0" * 64  # the hash before the first line
SEAL = b',"seal":"'


@dataclass(frozen=True)
class LedgerLine:
    """One line of the file.

    Attributes:
        number: the line's number, from 1, as an editor shows it.
        digest: the SHA-256 of the line without its newline, 64 hex digits.
        entry: the line's fields; None where the line cannot be read.
    """

    number: int
    digest: str
    entry: dict | None


@dataclass(frozen=True)
class Chain:
    """The lines of a file that was read and checked.

    Attributes:
        lines: all lines, the unreadable ones too.
        loose: the number of unreadable lines at the end.
        ended: True if the last line has its newline.
        head: True if FILE.head is there.
    """

    lines: tuple[LedgerLine, ...]
    loose: int
    ended: bool
    head: bool

    @property
    def torn(self) -> bool:
        """Return whether a writer was killed in the middle of a line."""
        return bool(self.loose) or not self.ended


def bad_line(path: Path, number: int, found: object, expected: str) -> InputError:
    """Return the error for a line of a ledger, by the file's name and the line's number."""
    return InputError(f"{path.name}, line {number}", found, expected)


def beside(path: Path, ending: str) -> Path:
    """Return the path of the file that lies beside a ledger, as FILE.head does."""
    return path.with_name(path.name + ending)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the ledger's lock. Every system error inside comes out as an InputError."""
    if not path.parent.is_dir():  # taking the lock would make the folder
        raise InputError("ledger", f"{path.name} in no folder", "a folder that is there")
    busy = InputError("ledger", f"{path.name}, locked by another process", f"a lock within {PATIENCE:g} s")
    try:
        with storage.locked(beside(path, ".lock"), busy, PATIENCE):
            yield
    except OSError as error:
        expected = "a folder that can be written, on a disk with room; nothing was granted"
        raise InputError("ledger", f"{path.name}: {error.strerror or error}", expected) from error


def read(path: Path) -> Chain:
    """Read and check the whole file, with or without the lock.

    The head is read first: lines that are appended meanwhile only make the file longer than the head says.


    Raises InputError, which names the first bad line, and OSError.
    """
    head = _read_head(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if head is not None:
            raise bad_line(path, 1, "no file", f"the {head[0]} lines that {path.name}.head states") from None
        raise
    if not content.startswith(MAGIC):
        if head is not None:
            raise bad_line(path, 1, _short(content), "the first line of a ledger")
        raise InputError("ledger", f"{path.name}, which begins with {_short(content)}", "a ledger, or no file yet")
    *pieces, rest = content.split(b"\n")
    lines, loose, previous = [], 0, NOTHING
    for number, raw in enumerate([*pieces, rest] if rest else pieces, 1):
        line = LedgerLine(number, hashlib.sha256(raw).hexdigest(), _opened(raw))
        if line.entry is None:
            loose += 1
        else:
            _check(path, line, previous, loose)
            loose = 0
        if head is not None and head[0] == number and head[1] != line.digest:
            raise bad_line(path, number, "another line", f"the line whose hash {path.name}.head states")
        lines.append(line)
        previous = line.digest
    last = len(lines)
    if head is None and last > 1:
        raise InputError("ledger", f"{path.name} without {path.name}.head", "both: the head states which line was last")
    whole = last - (loose or bool(rest))
    if head is not None and whole < head[0]:
        found = "no line" if whole == last else "a line that is cut off or damaged"
        raise bad_line(path, whole + 1, found, f"the {head[0]} whole lines that {path.name}.head states")
    return Chain(tuple(lines), loose, not rest, head is not None)


def create(path: Path, entry: dict) -> None:
    """Make the ledger with `entry` as its first line, which appears whole. The caller holds the lock."""
    remove_leftovers(path, beside(path, ".head"))
    write_whole(path, _sealed({"ledger": FORMAT, "sequence": 1, "previous": NOTHING, **entry}) + b"\n", OWNER_ONLY)
    chain = read(path)
    _write_head(path, chain.lines[-1])


def append(path: Path, chain: Chain, entry: dict) -> Chain:
    """Append a line, which is on the disk when this returns, and return the longer chain.

    Args:
        path: the ledger's file.
        chain: what `read` returned under the same lock.
        entry: the fields of the line, with its kind and time.

    The caller holds the lock. Raises InputError for a file that has several names.
    """
    if os.stat(path).st_nlink != 1:
        raise InputError("ledger", f"{path.name}, a file of several names", "a file of one name: each has its own lock")
    remove_leftovers(path, beside(path, ".head"))
    if not chain.head:
        _write_head(path, chain.lines[-1])
    if chain.torn:
        tear = {"kind": "tear", "time": entry["time"], "lines": chain.loose}
        chain = _append(path, chain, tear)
    return _append(path, chain, entry)


def _append(path: Path, chain: Chain, entry: dict) -> Chain:
    last = chain.lines[-1]
    raw = _sealed({"sequence": last.number + 1, "previous": last.digest, **entry})
    storage.append(path, raw + b"\n" if chain.ended else b"\n" + raw + b"\n")
    line = LedgerLine(last.number + 1, hashlib.sha256(raw).hexdigest(), entry)
    _write_head(path, line)
    return Chain((*chain.lines, line), 0, True, True)


def _check(path: Path, line: LedgerLine, previous: str, loose: int) -> None:
    """Compare a readable line with its seal, its place and the line before it; raise InputError where one differs."""
    entry, number = line.entry, line.number
    if not entry.pop("sealed"):
        raise bad_line(path, number, "a changed line", "one that its seal fits")
    if loose and (entry.get("kind") != "tear" or entry.get("lines") != loose):
        expected = "JSON, or a line of kind tear after the damage, which states how many lines are damaged"
        raise bad_line(path, number - loose, "a line that is damaged", expected)
    if entry.get("sequence") != number:
        raise bad_line(path, number, f"sequence {entry.get('sequence')}", f"sequence {number}")
    if entry.get("previous") != previous:
        raise bad_line(path, number, "the hash of another line", "the hash of the line before it")
    if not loose and entry.get("kind") == "tear" and entry.get("lines") != 0:
        raise bad_line(path, number, "a tear without damage before it", "the damaged lines that it explains")


def _sealed(entry: dict) -> bytes:
    """Return the bytes of a line without its newline. Its seal is the SHA-256 of everything before the seal."""
    body = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}'


def _opened(raw: bytes) -> dict | None:
    """Return the fields of a line, with `sealed` for whether its seal fits; None for a line that is no JSON object."""
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    entry.pop("seal", None)
    body = raw.rpartition(SEAL)[0]
    entry["sealed"] = raw == body + SEAL + hashlib.sha256(body).hexdigest().encode() + b'"}'
    return entry


def _read_head(path: Path) -> tuple[int, str] | None:
    try:
        number, digest = beside(path, ".head").read_text().split()
        return int(number), digest
    except FileNotFoundError:
        return None
    except ValueError:
        raise InputError("ledger", f"{path.name}.head, damaged", "a number and a hash") from None


def _write_head(path: Path, line: LedgerLine) -> None:
    write_whole(beside(path, ".head"), f"{line.number} {line.digest}\n", OWNER_ONLY)


def _short(content: bytes) -> str:
    return repr(content[:40].decode(errors="replace"))
