"""The record of a run of private learning: one line of JSON, from which the reports of runs and sweeps are made.

In go facts; out comes a `LearningRecord`, which is written to a file and read back. It says which protocol trained on
which data, how accurate the result is by the protocol and in the clear, what it cost, what was opened to whom, and what
attacks recovered beside what a guess does. It holds no row, no label, no weight and no prediction. A key may be added;
a key that is added to KEYS is required of every record that is read, and known keys have to keep their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.json_lines import read_lines

KIND = "learning"
KEYS = {
    "kind", "config", "revision", "versions", "time", "seed", "session", "protocol", "label", "settings", "data",
    "leakage", "trust", "accuracy", "cost", "openings", "attack", "attacks",
}  # fmt: skip
ACCURACY = {"private", "plain", "always"}
COST = {"seconds", "plain_seconds", "bytes", "rounds"}
FINDING = {"attack", "setting", "recovered", "chance", "meaning", "stops"}
PROTOCOL = "the protocol"  # what a finding is against, unless it says otherwise
ONE_LINE = "one line of a run of private learning"


@dataclass(frozen=True)
class LearningRecord:
    """What is kept of one run.

    Attributes:
        facts: The content of the line, with the keys KEYS. `settings` has the public settings in full by their keys,
            `data` the name, digest and sizes of the data, `accuracy` the keys ACCURACY, `cost` the keys COST, and
            `attacks` a dictionary with the keys FINDING for each finding.
    """

    facts: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.facts[key]

    @property
    def sent(self) -> int | None:
        """The bytes that all parties sent; None where nothing was sent."""
        sent = self["cost"]["bytes"]
        return sum(sent.values()) if sent else None

    @property
    def ratio(self) -> float | None:
        """The seconds of the protocol, to those of the same in the clear; None where the session is plain."""
        seconds, plain = self["cost"]["seconds"], self["cost"]["plain_seconds"]
        return seconds / plain if seconds is not None and plain else None

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The finding that is the farthest above chance, of those that the protocol's assumptions allow, or None."""
        allowed = [found for found in self["attacks"] if counts(found)]
        return max(allowed, key=above, default=None)

    def write(self, path: str | Path) -> None:
        """Write the line to `path`, in place of whatever the file held."""
        Path(path).write_text(json.dumps(self.facts, allow_nan=False, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def of(facts: Mapping[str, Any]) -> LearningRecord:
        """Make a record of facts. Raises InputError for facts without the keys that a record has."""
        missing = sorted(KEYS - set(facts))
        if missing or facts["kind"] != KIND:
            raise InputError("record", f"no {', '.join(missing) or KIND}", ONE_LINE)
        nested = (("accuracy", ACCURACY, [facts["accuracy"]]), ("cost", COST, [facts["cost"]]))
        for name, keys, found in (*nested, ("attacks", FINDING, facts["attacks"])):
            if not isinstance(found, list) or not all(isinstance(one, dict) and keys <= set(one) for one in found):
                raise InputError("record", name, f"{ONE_LINE}, with {', '.join(sorted(keys))} in {name}")
        return LearningRecord(facts)

    @staticmethod
    def read(path: str | Path) -> LearningRecord:
        """Read a file that `write` wrote. Raises InputError, which names the file, for any other file."""
        found = read_lines(path, LearningRecord.of)
        if len(found) != 1:
            raise InputError(str(path), f"{len(found)} lines", ONE_LINE)
        return found[0]


def counts(finding: Mapping[str, Any]) -> bool:
    """Return whether a finding counts against the protocol: its assumptions allow it, and the protocol is attacked."""
    return finding.get("assumed", True) and finding.get("against", PROTOCOL) == PROTOCOL


def above(finding: Mapping[str, Any]) -> float:
    """Return how far a finding is above chance: 0 for no more than a guess, and 1 for all of it."""
    recovered, chance = finding["recovered"], finding["chance"]
    return max(0.0, (recovered - chance) / (1 - chance)) if chance < 1 else 0.0
