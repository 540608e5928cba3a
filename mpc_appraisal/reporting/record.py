"""Record: one result of one method on one candidate, kept as one line of JSON.

Every table, figure and report is rendered from records and from nothing else, so a record holds all that a reader
needs to judge the number: what it cost, what was opened to whom, and which configuration and versions gave it.
A record never holds a path, a host or a user name, nor a number that is not finite.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from mpc_appraisal.common.errors import InputError

SESSIONS = ("plain", "spawn", "join")
BASELINES = ("retraining", "leave_one_out", "shapley", "random")  # plaintext yardsticks, not private methods
ERRORS = {"influence_error": "influence"}  # whose value is minus the standard error of another's, and ranks nothing
FLOATS = (
    "value",
    "paper_value",
    "plaintext_value",
    "difference",
    "error_bound",
    "level",
    "utility",
    "failure_probability",
)
INTEGERS = ("n", "features", "classes", "rounds", "seed")
OWNERS = ("model_owner", "data_owner")
HOW = ("command", "policy", "stated")  # a request was approved
UNKNOWN_BETWEEN_ORGANISATIONS = ("plaintext_value", "difference", "level", "utility")
# An absolute or home path, a Windows drive, an address, or a relative path to a data file.
PLACE = re.compile(r"(^|[\s'\"(=,\[])(~[/\\]|/[^\s/]|[A-Za-z]:[\\/])|://|[/\\][^/\\]*\.[A-Za-z]\w*$")


@dataclass(frozen=True)
class Record:
    """What one method says of one candidate.

    value: higher is better data for this buyer. paper_value: the raw number of the paper's equation.
    difference: value - plaintext_value. error_bound: what fixed point may add to |difference|, noise on purpose apart,
    where it does not fail; `release.accuracy` derives it. error_note: what the bound rests on, or why there is none.
    level: corruption that the scenario put in; utility: fall of the mean test loss by retraining.
    failure_probability: bound on the chance that fixed point wrapped somewhere in this appraisal.
    estimate: what a dry run foretold: bytes_sent.<party>, rounds, and lan_seconds by a stated model of a LAN.
    seconds: {phase: s}, phases do not overlap. bytes_sent: {party: bytes}. None stands for "unknown".
    release: what was told, and to whom (`RELEASE`). listing: what binds the data to an offer (`LISTING`). request: what
    the data owner approved (`REQUEST`). budget: the ledger that was charged (`BUDGET`). recompute: what is needed
    beside the data to compute the value again (`RECOMPUTE`). None: there was no such thing. Their keys that a caller
    leaves out are None. warnings: sentences on how the two sides' data fit together, or what was not compared; the two
    sides' may differ. A threshold is in no record: there is no key for it.
    Raises InputError: a number that is not finite, a wrong type, a place (path, address) in a text, or a fact that
    nobody may know in a session between organisations.
    """

    method: str
    candidate: str
    value: float | None
    paper_value: float | None = None
    plaintext_value: float | None = None
    difference: float | None = None
    error_bound: float | None = None
    n: int | None = None
    features: int | None = None
    classes: int | None = None
    level: float | None = None
    utility: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_sent: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    failure_probability: float | None = None
    estimate: dict[str, float] | None = None
    seed: int | None = None
    openings: tuple[dict, ...] = ()
    versions: dict[str, str | None] = field(default_factory=dict)
    config_hash: str | None = None
    revision: str | None = None
    session: str = "plain"
    engine: str = ""
    role: str = ""
    trust: str = ""
    release: dict | None = None
    listing: dict | None = None
    request: dict | None = None
    budget: dict | None = None
    warnings: tuple[str, ...] = ()
    recompute: dict | None = None
    error_note: str | None = None

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  frozen: only here
        for key in FLOATS:
            put(key, _number(key, getattr(self, key), float))
        for key in INTEGERS:
            put(key, _number(key, getattr(self, key), operator.index))
        put("seconds", {k: _number(f"seconds.{k}", v, float) for k, v in _mapping("seconds", self.seconds)})
        put(
            "bytes_sent",
            {k: _number(f"bytes_sent.{k}", v, operator.index) for k, v in _mapping("bytes_sent", self.bytes_sent)},
        )
        if self.estimate is not None:
            found = _mapping("estimate", self.estimate)
            put("estimate", {k: _number(f"estimate.{k}", v, lambda n: n + 0) for k, v in found})
        put("versions", dict(_mapping("versions", self.versions)))
        put("openings", tuple(_opening(opening) for opening in self.openings))
        put("warnings", _sentences(self.warnings))
        for key, (checks, required) in NESTED.items():
            if getattr(self, key) is not None:
                put(key, _nested(key, getattr(self, key), checks, required))
        if self.release:
            _agrees(self.release, self.value, self.paper_value)
        if self.error_note is not None:
            _text("error_note", self.error_note)
        if self.session not in SESSIONS:
            raise InputError("record.session", self.session, f"one of {', '.join(SESSIONS)}")
        for key in ("method", "candidate"):
            if not isinstance(getattr(self, key), str) or not getattr(self, key):
                raise InputError(f"record.{key}", getattr(self, key), "a name")
        for text in _texts(asdict(self)):
            if PLACE.search(text):
                raise InputError("record", text, "no path and no address: a record may be published")
        if self.session == "join":
            for key in UNKNOWN_BETWEEN_ORGANISATIONS:
                if getattr(self, key) is not None:
                    raise InputError(f"record.{key}", getattr(self, key), "null between organisations")

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())

    @property
    def megabytes(self) -> float:
        """Bytes sent by all parties together, in 10^6 bytes."""
        return sum(self.bytes_sent.values()) / 1e6

    @property
    def baseline(self) -> bool:
        return self.method in BASELINES

    @property
    def error(self) -> bool:
        """Whether the value is minus the standard error of another method's."""
        return self.method in ERRORS

    @property
    def decision(self) -> bool | None:
        """The one bit that was opened: whether the value reached the secret threshold."""
        return (self.release or {}).get("decision")

    @property
    def winner(self) -> bool | None:
        """Whether the candidate is among the best ones that were opened."""
        return (self.release or {}).get("winner")

    @property
    def rank(self) -> int | None:
        """Place among the best, 1 first."""
        return (self.release or {}).get("rank")

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the value that the noise leaves."""
        low, high = ((self.release or {}).get(key) for key in ("low", "high"))
        return None if low is None or high is None else (low, high)

    @property
    def uncertain_within(self) -> float | None:
        """A decision is certain for values farther than this from the threshold, an order for values that are farther
        apart than this of both together; None where no bound is known, and where nothing is compared."""
        return (self.release or {}).get("uncertain_within")

    @property
    def answered(self) -> bool:
        """Whether the answer is the ledger's record of an earlier one, so that nothing was computed."""
        return bool(self.release and self.release["answered"])

    @property
    def answer(self) -> str | None:
        """What was told, in a word: "yes", "no", "winner 1", "not a winner" or a number; None: not to this party."""
        if self.decision is not None:
            return "yes" if self.decision else "no"
        if self.winner is not None:
            return f"winner {self.rank or ''}".rstrip() if self.winner else "not a winner"
        return None if self.value is None else f"{self.value:.4g}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @staticmethod
    def from_json(line: str) -> Record:
        try:
            entries = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError("record", _short(line), f"one JSON object ({error})") from None
        known = [f.name for f in fields(Record)]
        if not isinstance(entries, dict):
            raise InputError("record", _short(line), "one JSON object")
        if strange := sorted(set(entries) - set(known)):
            raise InputError("record", ", ".join(strange), f"no other keys than {', '.join(known)}")
        if missing := [key for key in known[:3] if key not in entries]:
            raise InputError("record", _short(line), f"the keys {', '.join(missing)}")
        return Record(**entries)


def append(path: str | Path, record: Record) -> None:
    """Adds one line and waits until it is on the disk: a run that dies keeps what it had."""
    line = (record.to_json() + "\n").encode()
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                raise InputError(str(path), "an unfinished last line", "a file of whole lines")
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(path: str | Path) -> list[Record]:
    """All records of a file. InputError with the line's number for a bad, an empty or an unfinished line."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(str(path), error.strerror, "a readable file of records") from None
    if lines[-1]:
        raise InputError(
            f"{path}, line {len(lines)}",
            _short(lines[-1].decode(errors="replace")),
            "a whole line: the last one was not written to its end; the lines before it are whole",
        )
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            records.append(Record.from_json(line.decode()))
        except (InputError, UnicodeDecodeError) as error:
            expected = error.expected if isinstance(error, InputError) else "text in UTF-8"
            shown = error.value if isinstance(error, InputError) else _short(repr(line))
            raise InputError(f"{path}, line {number}", shown, expected) from None
    return records


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str | None], ...]:
    found = [("python", platform.python_version())]
    for name in ("torch", "crypten", "numpy", "scipy", "mpc_appraisal"):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, None))
    return tuple(found)


def versions() -> dict[str, str | None]:
    """Versions of what computes; None for what is not installed."""
    return dict(_versions())


@lru_cache(maxsize=1)
def revision() -> str | None:
    """Short git hash of the project; None when the package is not run from a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # never the hash of a repository that merely holds the environment
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def config_hash(config: Mapping) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON (sorted keys, no spaces) of a public configuration."""
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError("config", str(error), "numbers, texts, lists and dictionaries") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _number(key: str, value: object, kind) -> float | int | None:
    if value is None:
        return None
    try:
        if isinstance(value, (str, bool)):
            raise TypeError
        number = kind(value)
    except (TypeError, ValueError):
        raise InputError(f"record.{key}", value, "a number" if kind is float else "a whole number") from None
    if not math.isfinite(number):
        raise InputError(f"record.{key}", number, "a finite number")
    return number


def _mapping(key: str, value: object):
    if not isinstance(value, Mapping):
        raise InputError(f"record.{key}", value, "a dictionary")
    return value.items()


def _opening(opening: object) -> dict:
    if set(dict(_mapping("openings", opening))) != {"what", "to", "numbers", "why"}:
        raise InputError("record.openings", sorted(opening), "the keys what, to, numbers and why")
    return {
        "what": str(opening["what"]),
        "to": [str(party) for party in opening["to"]],
        "numbers": _number("openings.numbers", opening["numbers"], operator.index),
        "why": str(opening["why"]),
    }


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"record.{key}", value, "a text")
    return value


def _sentences(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError("record.warnings", value, "a list of texts")
    return tuple(_text("warnings", each) for each in value)


def _truth(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"record.{key}", value, "true or false")
    return value


def _real(key: str, value: object) -> float:
    return _number(key, value, float)


def _numbers(key: str, value: object) -> float | list[float]:
    if isinstance(value, (list, tuple)):
        return [_number(key, one, float) for one in value]
    return _number(key, value, float)


def _at_least(least: int, kind=float):
    def check(key: str, value: object) -> float | int:
        number = _number(key, value, kind)
        if number < least:
            raise InputError(f"record.{key}", number, f"{least} or more")
        return number

    return check


def _one_of(choices: tuple[str, ...]):
    def check(key: str, value: object) -> str:
        if value not in choices:
            raise InputError(f"record.{key}", value, f"one of {', '.join(choices)}")
        return value

    return check


def _matches(pattern: str, expected: str):
    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise InputError(f"record.{key}", value, expected)
        return value

    return check


def _roles(key: str, value: object) -> list[str]:
    found = list(value) if isinstance(value, (list, tuple)) else []
    if not found or any(role not in OWNERS for role in found) or len(set(found)) < len(found):
        raise InputError(f"record.{key}", value, f"a list of {', '.join(OWNERS)}, each at most once, not empty")
    return found


def _time(key: str, value: object) -> str:
    try:
        if datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None:
            return value
    except (AttributeError, ValueError):
        pass
    raise InputError(f"record.{key}", value, "a time with its zone, as in 2026-01-31T12:00:00+00:00")


_sha256 = _matches("[0-9a-f]{64}", "a SHA-256: 64 hexadecimal digits")
# Of each nested fact: a check for every key, and the keys that must be known.
RELEASE = {
    "kind": _matches("[a-z][a-z0-9_]{0,31}", "a release's name, as value, bit, best or dp"),
    "to": _roles,
    "decision": _truth,
    "winner": _truth,
    "rank": _at_least(1, operator.index),
    "sigma": _at_least(0),
    "sensitivity": _at_least(0),
    "deviation": _at_least(0),  # standard deviation of all noise, in units of the opened number
    "low": _real,
    "high": _real,
    "epsilon": _at_least(0),  # of this one answer
    "delta": _at_least(0),
    "protects": _text,
    "answered": _truth,
    # Of what is told without a value: it is certain only where the value is farther than this from the threshold, or
    # from another candidate's by more than this of both together.
    "uncertain_within": _at_least(0),
}
LISTING = {
    "name": _matches(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "a listing's name"),  # it is part of a command to copy
    "digest": _sha256,  # of the listing's file
    "commitment": _sha256,
    "price": _at_least(0),
    "currency": _matches("[A-Z]{3}", "three capital letters"),
}
REQUEST = {"id": _text, "digest": _sha256, "how": _one_of(HOW), "time": _time}
BUDGET = {
    "ledger": _text,
    "line": _at_least(1, operator.index),
    "head": _sha256,
    "counterparty": _text,
    "epsilon": _at_least(0),  # spent by the counterparty, this answer included
    "epsilon_left": _at_least(0),
    "delta": _at_least(0),
    "plain_left": _at_least(0, operator.index),
    "counterparty_key": _sha256,  # of its certificate; None: it showed none
}
RECOMPUTE = {
    "l2": _at_least(0),
    "settings": lambda key, value: dict(_mapping(key, value)),  # of the method, by name
    "tolerance": _at_least(0),  # of the model's fit
    "mean": _numbers,  # of the public standardisation: one number, or one for each feature
    "scale": _numbers,
    "features": _text,  # digest of the public feature extractor
    "row_norm": _at_least(0),  # that rows were cut to
    "inputs": _sha256,  # the model owner's commitment to its data and model
}
NESTED = {
    "recompute": (RECOMPUTE, {"l2"}),
    "release": (RELEASE, {"kind", "to", "answered"}),
    "listing": (LISTING, {"name", "digest", "commitment"}),
    "request": (REQUEST, set(REQUEST)),
    "budget": (BUDGET, {"ledger", "head", "counterparty"}),
}


def _nested(key: str, value: object, checks: Mapping, required: set[str]) -> dict:
    """All keys of `checks`, in that order; None for what is not known."""
    found = dict(_mapping(key, value))
    if strange := sorted(str(name) for name in set(found) - set(checks)):
        raise InputError(f"record.{key}", ", ".join(strange), f"no other keys than {', '.join(checks)}")
    if missing := sorted(name for name in required if found.get(name) is None):
        raise InputError(f"record.{key}", f"no {', '.join(missing)}", f"the keys {', '.join(sorted(required))}")
    known = ((name, check, found.get(name)) for name, check in checks.items())
    return {name: None if item is None else check(f"{key}.{name}", item) for name, check, item in known}


def _agrees(release: Mapping, value: float | None, paper_value: float | None) -> None:
    """Refuses what one release cannot have told together."""
    if release["kind"] == "bit" and (value is not None or paper_value is not None):
        raise InputError("record.value", value, "null beside a bit: a bit is all that is told")
    if release["rank"] is not None and release["winner"] is not True:
        raise InputError("record.release.rank", release["rank"], "null for a candidate that is no winner")
    low, high = release["low"], release["high"]
    if (low is None) != (high is None) or (low is not None and low > high):
        raise InputError("record.release.low", low, f"an interval together with release.high, {high}")


def _texts(value: object):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def _short(line: str) -> str:
    return line if len(line) <= 60 else line[:57] + "..."
