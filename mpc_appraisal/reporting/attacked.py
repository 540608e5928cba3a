"""What attacks on the protocol of an appraisal or a marketplace recovered: attacks.json in the run's folder.

In go findings, and what the run cost beside the same in the clear; out comes an `Attacked`, which is written and
read back. The file stands beside the records of a run for which an attack was chosen. It holds no row and no
value. The name of the file and its keys have to stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.json_lines import read_lines
from mpc_appraisal.reporting.learning_record import FINDING

FILE = "attacks.json"
EVERY = "all"  # the choice of all attacks that fit
ADDED = {"chosen"}  # keys that files of earlier versions lack


@dataclass(frozen=True)
class Attacked:
    """What attacks on a run recovered.

    Attributes:
        label: The protocol in words.
        operation: What was computed, whose cost is stated.
        seconds: The seconds of the protocol; None where the session is plain.
        plain_seconds: The seconds of the same in the clear.
        megabytes: What all parties sent; None where the session is plain.
        attacks: The findings, dictionaries with the keys FINDING; there may be none, where no attack fits.
        chosen: The attack that was chosen, or EVERY. Where it is another than EVERY, others may fit too.
    """

    label: str
    operation: str
    seconds: float | None
    plain_seconds: float
    megabytes: float | None
    attacks: Sequence[Mapping[str, Any]]
    chosen: str = EVERY

    def write(self, folder: str | Path) -> None:
        """Write the file into the folder of a run."""
        text = json.dumps(asdict(self), allow_nan=False, sort_keys=True) + "\n"
        Path(folder, FILE).write_text(text, encoding="utf-8")

    @staticmethod
    def read(folder: str | Path) -> Attacked | None:
        """Read what `write` wrote; None where there is no file. Raises InputError for any other file."""
        path = Path(folder, FILE)
        if not path.exists():
            return None
        (found,) = read_lines(path, _made) or [None]
        return found


def _made(facts: dict[str, Any]) -> Attacked:
    findings = facts.get("attacks")
    fits = isinstance(findings, list) and all(isinstance(one, dict) and set(one) >= FINDING for one in findings)
    known = set(Attacked.__dataclass_fields__)
    if not fits or not known - ADDED <= set(facts) <= known:
        raise InputError("attacks", sorted(facts), "the file that a run with an attack wrote")
    return Attacked(**facts)
