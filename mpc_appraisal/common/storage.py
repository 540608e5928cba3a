"""Files that are written whole or not at all, locks that one process holds at a time, and files of secrets.

What goes in is a path and a content, or the path of a lock. What `write_whole`, `append` and, unless `sync` is False,
`write_new` have written is on the disk when they return. Errors of the system come out as they are (OSError); callers
turn them into errors that name their input. The order of writing, fsync and renaming has to stay: ledgers, the files of
what an owner has answered, rely on it after a crash.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

PATIENCE = 60.0  # seconds to wait for a lock, where a caller does not say otherwise
OWNER_ONLY = 0o600  # the mode of files that their owner alone may read
Content = bytes | memoryview | str | tuple[bytes | memoryview | str, ...]


def write_whole(path: Path, content: Content, mode: int = 0o666, replace: bool = True) -> None:
    """Write `content` aside and give it its name in one step: a reader finds the old file or the new one, whole.

    A process that is killed meanwhile may leave a file `.*.new` in the folder, which nothing reads, and which
    `remove_leftovers` removes. A text is written in UTF-8.

    Args:
        path: The file.
        content: What the file shall hold, whole or in pieces.
        mode: The mode of a new file, subject to the umask.
        replace: Whether the file may take the place of an older one. If not, FileExistsError is raised for one.

    Raises OSError where the system refuses. The file is then as before, unless the folder alone, after the new name was
    given, could not be brought to the disk.
    """
    aside = path.with_name(f".{_mark(path)}-{secrets.token_hex(8)}.new")
    try:
        write_new(aside, content, mode, sync=False)
        (os.replace if replace else os.link)(aside, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(aside)
    sync_folder(path.parent)


def remove_leftovers(*paths: Path) -> None:
    """Remove what killed processes have left of writing these files by `write_whole`.

    The files lie in one folder, and the caller holds a lock that all of their writers hold: no other process writes
    them now. Raises OSError where the system refuses.
    """
    starts = tuple(f".{_mark(path)}-" for path in paths)
    with os.scandir(paths[0].parent) as entries:
        left = [entry.path for entry in entries if entry.name.startswith(starts) and entry.name.endswith(".new")]
    for path in left:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _mark(path: Path) -> str:
    """Return 16 hex digits that stand for a file's name, which may itself be as long as a name can be."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]


def write_new(path: Path, content: Content, mode: int = 0o666, sync: bool = True) -> None:
    """Write a file under a name that is free. A write that fails leaves no file.

    Args:
        path: The file.
        content: What the file shall hold, whole or in pieces; a text is written in UTF-8.
        mode: The mode of the file, subject to the umask.
        sync: Whether the folder, which holds the new name, is brought to the disk too.

    Raises FileExistsError for a name that is taken, and OSError where the system refuses.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            for piece in content if isinstance(content, tuple) else (content,):
                write_all(descriptor, piece.encode() if isinstance(piece, str) else piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(path)
        raise
    if sync:
        sync_folder(path.parent)


def append(path: Path, content: bytes) -> None:
    """Write `content` at the end of a file that is there; raises OSError, and then a part may be written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all of `content`, however many calls the system needs for it."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a rename outlives a crash only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path, patience: float | None = PATIENCE, mode: int = OWNER_ONLY) -> FileLock | None:
    """Take the lock that the file `path` stands for; return None where another holder keeps it for `patience` seconds.

    The caller calls `release()` on the lock. The system frees the lock of a process that has died. patience: None waits
    for as long as it takes. Raises OSError where the file cannot be made.
    """
    lock = FileLock(path, timeout=-1 if patience is None else patience, mode=mode)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


@contextmanager
def locked(path: Path, busy: InputError | None = None, patience: float | None = None) -> Iterator[None]:
    """Hold the lock `path`, a file of mode 0600, while the body of the `with` statement runs.

    Args:
        path: The lock.
        busy: The error that is raised after `patience` seconds of waiting.
        patience: The seconds to wait; None waits for as long as it takes.
    """
    lock = take_lock(path, patience)
    if lock is None:
        raise busy
    try:
        yield
    finally:
        lock.release()


@contextmanager
def folder_errors(name: str, folder: Path) -> Iterator[None]:
    """Raise InputError under `name`, with the folder, in place of an error of the system in the `with` statement."""
    try:
        yield
    except FileExistsError as error:
        raise InputError(name, f"{shown(str(folder))} ({error.strerror})", "a folder") from error
    except OSError as error:
        found = f"{shown(str(folder))} ({error.strerror or error})"
        raise InputError(name, found, "a folder that can be read and written") from error


@contextmanager
def locked_folder(name: str, folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder of files, called `what` in errors, while the body of the `with` statement runs.

    Raises InputError under `name` where another process holds it for too long, and as `folder_errors` does.
    """
    busy = InputError(name, f"{what} locked by another process", f"a lock within {PATIENCE:g} s")
    with folder_errors(name, folder), locked(folder / ".lock", busy, PATIENCE):
        yield


def check_private(path: Path, name: str, what: str) -> None:
    """Raise InputError under `name` where others than its owner may read the file, which holds `what`.

    Raises OSError where the file cannot be looked at.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError(name, f"{path.name} with mode {mode:o}", f"{what} for its owner alone (chmod 600)")


def read_secret(path: Path, name: str, what: str, length: int) -> bytes:
    """Return the `length` bytes that a file of its owner alone holds in hexadecimal.

    Raises InputError under `name` for a file that others may read, or that holds something else, and OSError.
    """
    check_private(path, name, what)
    with open(path, "rb") as file:
        text = file.read(2 * length + 3).decode("ascii", "replace").strip()
    if not re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text):
        raise InputError(name, f"{path.name} with something else", f"{2 * length} hexadecimal digits")
    return bytes.fromhex(text)
