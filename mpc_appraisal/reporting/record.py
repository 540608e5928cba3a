"""Record: one result of one method on one candidate, which is kept as one line of JSON.

Every table, figure and report is rendered from records and from nothing else. So a record holds all that a reader needs
to judge the number: what it cost, what was opened to whom, and which configuration and versions gave it. To open a
number is to make it known to a party. `append` writes a record to a file and `read` reads a file.

A new key may be added with a default, after the others. A key must not be renamed or removed, because files of earlier
versions are read. A record may never hold a path, a host or a user name, nor a number that is not finite, nor a
threshold: records may be published.
"""

from __future__ import annotations

import json
import operator
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import INTEGRITY, ON
from mpc_appraisal.common.text import PLACE
from mpc_appraisal.reporting.json_lines import object_of, read_lines, short_line
from mpc_appraisal.reporting.receipt import Receipt
from mpc_appraisal.reporting.record_schema import (
    NESTED,
    check_agreement,
    digest_of,
    mapping_of,
    nested_of,
    number_of,
    opening_of,
    sentences_of,
    settings_of,
    text_of,
    texts_of,
)

SESSIONS = ("plain", "spawn", "join")
BASELINES = ("retraining", "leave_one_out", "shapley", "random")  # methods that are computed in the clear
# Methods whose value is minus the standard error of another method's value. They rank nothing.
ERRORS = {"influence_error": "influence"}
LEFT_OUT = ("metric", "recipe", "overlap", "resolution", "settings", "receipt")  # from lines where they are not known
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
UNKNOWN_BETWEEN_ORGANISATIONS = ("plaintext_value", "difference", "level", "utility")


@dataclass(frozen=True)
class Record:
    """Hold what one method says of one candidate.

    None means that a number is not known, or that there was no such thing. No key holds a threshold, which is secret.

    Attributes:
        method, candidate: The names of the method and of the candidate, the data set that was appraised.
        value: The method's value. A higher value is better data for this model owner.
        paper_value: The number of the published equation as it stands.
        plaintext_value: The value computed in the clear, to compare with.
        difference: `value` minus `plaintext_value`.
        error_bound: The most that fixed point may add to the difference. Noise that is added on purpose is not in it.
            `release.accuracy` derives it.
        error_note: What the bound rests on, or why there is none.
        n, features, classes: The candidate's numbers of rows, of features without the bias, and of classes.
        level: The corruption that the scenario put into the candidate.
        utility: The fall of the mean test loss when the model is retrained with the candidate.
        failure_probability: A bound on the probability that fixed point wrapped somewhere in this appraisal.
        estimate: What a dry run foretold: `bytes_sent.<party>`, `rounds`, and `lan_seconds` by a stated model of a LAN.
        seconds: Seconds by phase. Phases do not overlap.
        bytes_sent: Bytes by party.
        rounds: The number of exchanges of messages that each waited for the one before.
        seed: The seed of the run.
        openings: What was opened, to whom, how many numbers, and why.
        versions, revision, config_hash: The software, its git revision, and the digest of the public configuration.
        session: How the run was made, one of SESSIONS.
        engine: The engine that computed.
        role: The party that wrote the record.
        trust: What the parties trusted, in a sentence.
        release: What was opened of the answer, and to whom; see `RELEASE` in `record_schema`.
        listing: What binds the data to an offer; see `LISTING`.
        request: What the data owner approved; see `REQUEST`.
        budget: The ledger that was charged; see `BUDGET`.
        recompute: What is needed beside the data to compute the value again; see `RECOMPUTE`.
        metric: The metric whose fall the value estimates, where it is another than the mean log loss; `utility` is then
            the fall of that metric. A line of JSON has this key only where it is known.
        warnings: Sentences on how the two sides' data fit together, or on what was not compared. The two sides'
            warnings may differ.
        recipe: The digest of the recipe by which both sides' raw tables were read; None for files of features.
        overlap: How many of the candidate's rows or keys the model owner has already; see `OVERLAP`. A line of JSON has
            this key only where they were counted.
        settings: The public settings of the run by names that stay, such as `model.l2` and `scenario.candidates`; see
            `appraisal.settings`. A line of JSON has this key only where they are known.
        receipt: What both owners have signed of the candidate's answers; see `receipt.RECEIPT`. A line of JSON has this
            key only where they have.
        resolution: The public resolution of all candidates, by which their rows were shared as integers; see
            `RESOLUTION`. A line of JSON has this key only where they were.

    Raises:
        InputError: A number is not finite, a type is wrong, a text holds a place (a path or an address), or a fact is
            stated that nobody may know in a session between organisations.
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
    metric: str | None = None
    recipe: str | None = None
    overlap: dict | None = None
    settings: dict | None = None
    resolution: dict | None = None
    receipt: dict | None = None

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731  frozen: only here
        for key in FLOATS:
            put(key, number_of(key, getattr(self, key), float))
        for key in INTEGERS:
            put(key, number_of(key, getattr(self, key), operator.index))
        put("seconds", {k: number_of(f"seconds.{k}", v, float) for k, v in mapping_of("seconds", self.seconds)})
        put(
            "bytes_sent",
            {k: number_of(f"bytes_sent.{k}", v, operator.index) for k, v in mapping_of("bytes_sent", self.bytes_sent)},
        )
        if self.estimate is not None:
            found = mapping_of("estimate", self.estimate)
            put("estimate", {k: number_of(f"estimate.{k}", v, lambda n: n + 0) for k, v in found})
        put("versions", dict(mapping_of("versions", self.versions)))
        put("openings", tuple(opening_of(opening) for opening in self.openings))
        put("warnings", sentences_of(self.warnings))
        for key, schema in NESTED.items():
            if getattr(self, key) is not None:
                put(key, nested_of(key, getattr(self, key), schema))
        if self.release:
            check_agreement(self.release, self.value, self.paper_value)
        for key in ("error_note", "metric"):
            if getattr(self, key) is not None:
                text_of(key, getattr(self, key))
        if self.recipe is not None:
            digest_of("recipe", self.recipe)
        if self.settings is not None:
            put("settings", settings_of(self.settings))
        if self.receipt is not None:
            put("receipt", Receipt.of(self.receipt, "record.receipt").as_dict())
        if self.session not in SESSIONS:
            raise InputError("record.session", self.session, f"one of {', '.join(SESSIONS)}")
        for key in ("method", "candidate"):
            if not isinstance(getattr(self, key), str) or not getattr(self, key):
                raise InputError(f"record.{key}", getattr(self, key), "a name")
        for text in texts_of(asdict(self)):
            if PLACE.search(text):
                raise InputError("record", text, "no path and no address: a record may be published")
        if self.session == "join":
            for key in UNKNOWN_BETWEEN_ORGANISATIONS:
                if getattr(self, key) is not None:
                    raise InputError(f"record.{key}", getattr(self, key), "null between organisations")

    @property
    def total_seconds(self) -> float:
        """Seconds of all phases together."""
        return sum(self.seconds.values())

    @property
    def megabytes(self) -> float:
        """Bytes sent by all parties together, in 10^6 bytes."""
        return sum(self.bytes_sent.values()) / 1e6

    @property
    def baseline(self) -> bool:
        """Whether the method is computed in the clear, to compare with."""
        return self.method in BASELINES

    @property
    def error(self) -> bool:
        """Whether the value is minus the standard error of another method's value."""
        return self.method in ERRORS

    @property
    def integrity(self) -> bool:
        """Whether both owners checked all of each other's messages; nobody did in records of earlier versions."""
        return (self.settings or {}).get(INTEGRITY) == ON

    @property
    def decision(self) -> bool | None:
        """The one bit that was opened: whether the value reached the secret threshold. None if no bit was opened."""
        return (self.release or {}).get("decision")

    @property
    def winner(self) -> bool | None:
        """Whether the candidate is among the best ones that were opened. None if the candidate did not compete."""
        return (self.release or {}).get("winner")

    @property
    def rank(self) -> int | None:
        """The candidate's place among the best, from 1 on. None if no place was opened."""
        return (self.release or {}).get("rank")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the value that the noise leaves. None if no interval was released."""
        low, high = ((self.release or {}).get(key) for key in ("low", "high"))
        return None if low is None or high is None else (low, high)

    @property
    def uncertain_within(self) -> float | None:
        """The error that fixed point may add to a value that is compared.

        A decision is certain if the value is farther than this error from the threshold. An order is certain if two
        values are farther apart than the errors of both together. None if no bound is known or nothing is compared.
        """
        return (self.release or {}).get("uncertain_within")

    @property
    def answered(self) -> bool:
        """Whether the answer is the ledger's record of an earlier answer, so that nothing was computed."""
        return bool(self.release and self.release["answered"])

    @property
    def answer(self) -> str | None:
        """What was released, in a word: "yes", "no", "winner 1", "not a winner" or a number.

        None if nothing was released to this party.
        """
        if self.decision is not None:
            return "yes" if self.decision else "no"
        if self.winner is not None:
            return f"winner {self.rank or ''}".rstrip() if self.winner else "not a winner"
        return None if self.value is None else f"{self.value:.4g}"

    def to_json(self) -> str:
        """Write the record as one line of JSON, without its end."""
        entries = asdict(self)
        for key in LEFT_OUT:  # lines of earlier versions have no such key
            if entries[key] is None:
                del entries[key]
        return json.dumps(entries, allow_nan=False, ensure_ascii=False)

    @staticmethod
    def from_json(line: str) -> Record:
        """Read what `to_json` writes, by this or an earlier version. Raises InputError for anything else."""
        return Record.of(object_of(line, "record"))

    @staticmethod
    def of(entries: dict[str, Any]) -> Record:
        """Make a record of one line's object. Raises InputError for a strange, a missing or a wrong key."""
        known = [f.name for f in fields(Record)]
        if strange := sorted(set(entries) - set(known)):
            raise InputError("record", ", ".join(strange), f"no other keys than {', '.join(known)}")
        if missing := [key for key in known[:3] if key not in entries]:
            raise InputError("record", short_line(json.dumps(entries)), f"the keys {', '.join(missing)}")
        return Record(**entries)


def append(path: str | Path, record: Record) -> None:
    """Add one line to a file, and wait until it is on the disk, so that a run that dies keeps what it had.

    Raises InputError, and writes nothing, if the last line of the file is unfinished.
    """
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
    """Read all records of a file. Raises InputError with the number of a bad, an empty or an unfinished line."""
    return read_lines(path, Record.of)
