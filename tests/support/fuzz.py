"""Mutants of every file that is read and every message that is heard: each is accepted, or refused by its name.

    python -m tests.support.fuzz --mutants 10000              # all readers; a few hundred mutants run as test_fuzz.py
    python -m tests.support.fuzz --only csv --first 17 --mutants 1 --raw   # one mutant again, with its traceback

Mutants are made here, of small valid files that `fuzz_readers` makes, from a seed: mutant i of a reader is always the
same. Each has ten seconds, and a reader may not take 500 MB more than before.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import resource
import signal
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__:
    sys.path[:0] = [str(Path(__file__).resolve().parent)]  # as pytest has it

from fuzz_readers import READERS, Reader

from mpc_appraisal.common.errors import AppraisalError

SECONDS, MEGABYTES = 10, 500
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e-300, 1e300, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30),
    *("", "a", "0", "-1", "nan", "\x00", "\x1b[31m", "../x", "/x", "é" * 9, "x" * 3000, "9" * 400, "ff" * 16, "[b]"),
    *([], {}, [[]], [None], ["a"], {"a": 1}, {"": []}, [1] * 50, [0, 0, 0], [2**40, 2**40]),
)
TEXTS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b"null")
BYTES = (b"\x00", b"\xff", b"\n", b"\r\n", b",", b";", b'"', b"'", b"\xef\xbb\xbf", b"\x1b[2J", b"-", b"1e400", b"nan")


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """A few changes of bytes, whatever they mean."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(found) + 1)
        kind = rng.randrange(7)
        if kind == 0 and found:
            found[place % len(found)] ^= 1 << rng.randrange(8)
        elif kind == 1 and found:
            found[place % len(found)] = rng.randrange(256)
        elif kind == 2:
            del found[place : place + rng.choice((1, 2, 8, 64))]
        elif kind == 3:
            found[place:place] = rng.choice(BYTES) * rng.choice((1, 1, 3))
        elif kind == 4:
            found[place:place] = found[place : place + rng.choice((1, 8, 64, 512))]
        elif kind == 5:
            del found[place:]
        else:
            found[place : place + 8] = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)).to_bytes(8, "little")
    return bytes(found)


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:6]) if isinstance(value, list) else ()
    for key, child in pairs:
        yield from _places(child, (*path, key))


def _json(data: bytes, rng: random.Random) -> bytes:
    """A value replaced, a field taken away, added or renamed, a list made longer."""
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        path = rng.choice(list(_places(value)))
        if not path:
            return json.dumps(copy.deepcopy(rng.choice(VALUES))).encode()
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        kind, new = rng.randrange(5), copy.deepcopy(rng.choice(VALUES))
        if kind == 0:
            del parent[path[-1]]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(("a", "", "\x1b", "x" * 300, "digest"))] = parent.pop(path[-1])
        elif kind == 2 and isinstance(parent, dict):
            parent[str(new)[:40]] = new
        else:
            parent[path[-1]] = new
    text = json.dumps(value).encode()
    if rng.random() < 0.15:  # what `json.dumps` does not write
        marks = [k for k, c in enumerate(text) if c in b"0123456789"] or [0]
        place = rng.choice(marks)
        text = text[:place] + rng.choice(TEXTS) + text[place + 1 :]
    return text


def _zip(data: bytes, rng: random.Random) -> bytes:
    """One member changed, with a right checksum; or one taken away, renamed, repeated."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place, kind = rng.randrange(len(members)), rng.randrange(6)
    name, content = members[place]
    if kind == 0:
        del members[place]
    elif kind == 1:
        members[place] = (rng.choice(("z.npy", "z", "x.npy", "y.npy")), content)
    elif kind == 2:
        head = min(len(content), 128)
        members[place] = (name, _bytes(content[:head], rng) + content[head:])
    else:
        members[place] = (name, _bytes(content, rng))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in dict(members).items():
            archive.writestr(name, content)
    return out.getvalue()


def mutant(reader: Reader, seeds: list[bytes], number: int) -> bytes:
    """The mutant of this number; always the same."""
    rng = random.Random(f"{reader.name}/{number}")
    data = rng.choice(seeds)
    if data[:1] in (b"{", b"[") and rng.random() < 0.7:
        return _json(data, rng)
    if data[:2] == b"PK" and rng.random() < 0.7:
        return _zip(data, rng)
    return _bytes(data, rng)


@dataclass(frozen=True)
class Fault:
    """What a mutant did that it must not: `said` in one line."""

    reader: str
    number: int
    said: str


class TookLong(BaseException):
    pass


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TookLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(
    reader: Reader, folder: Path, mutants: int, first: int = 0, raw: bool = False, most: int = 20
) -> tuple[int, list[Fault]]:
    """How many mutants were accepted, and the faults of the others, `most` at most."""
    seeds = reader.seeds(folder)
    for seed in seeds:
        reader.read(seed, folder)  # what is valid is read
    accepted, faults = 0, []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + mutants):
        data = mutant(reader, seeds, number)
        try:
            with _within(SECONDS):
                reader.read(data, folder)
            accepted += 1
        except AppraisalError as error:
            if not str(error).replace("\n", " ").isprintable():
                faults.append(Fault(reader.name, number, f"an error with raw characters: {str(error)[:80]!r}"))
        except TookLong:
            faults.append(Fault(reader.name, number, f"took more than {SECONDS} s"))
        except Exception as error:
            if raw:
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            own = [f for f in traceback.extract_tb(error.__traceback__) if "mpc_appraisal" in f.filename]
            place = own[-1] if own else where
            said = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:100]!r}"
            faults.append(Fault(reader.name, number, said))
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
        if more > MEGABYTES:
            faults.append(Fault(reader.name, number, f"took {more:.0f} MB"))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if len(faults) >= most:
            break
    return accepted, faults


def main(say: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description="Mutants of every file and message.")
    parser.add_argument("--mutants", type=int, default=10_000, help="of each reader")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--only", help="one reader by its name")
    parser.add_argument("--raw", action="store_true", help="stop at the first fault with its traceback")
    stated = parser.parse_args()
    chosen = [reader for reader in READERS if stated.only in (None, reader.name)]
    if not chosen:
        parser.error(f"--only: expected one of {', '.join(reader.name for reader in READERS)}")
    failed = 0
    for reader in chosen:
        with tempfile.TemporaryDirectory() as folder:
            accepted, faults = run(reader, Path(folder), stated.mutants, stated.first, stated.raw)
        say(f"{reader.name}: {stated.mutants} mutants, {accepted} accepted, {len(faults)} faults")
        for fault in {f.said.partition(": ")[0]: f for f in faults}.values():
            say(f"  mutant {fault.number}: {fault.said}")
        failed += bool(faults)
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
