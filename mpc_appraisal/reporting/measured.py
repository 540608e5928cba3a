"""`Measured`: what one measure says of one method, with the range in which random values would lie.

A measure's score goes in with its interval and its random range; the record of one line in evaluation.jsonl comes out
and goes back in. Keys may be added. Their names have to stay, because users' programs read them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.json_lines import read_lines

DATAMODELLING, REMOVAL, DETECTION, RANDOMISED = "datamodelling", "removal", "detection", "randomised"
MEASURES = (DATAMODELLING, REMOVAL, DETECTION, RANDOMISED)
FORMAT = "mpc_appraisal.evaluation.v1"
FILE = "evaluation.jsonl"


@dataclass(frozen=True)
class Measured:
    """Hold what one measure says of one method's values.

    Attributes:
        measure: The measure, one of MEASURES.
        method: The method whose values were measured.
        score: The measure's number; None where it is not defined, and `note` says why.
        low, high: The 95% interval of the score; None where there is none.
        random_low, random_high: The middle 95% of the scores that random values get on the same data; None where none
            were drawn.
        curves: The curves behind the score, each a list of numbers by name; `removal` has some.
        note: A sentence on how the score was computed, or why there is none.
    """

    measure: str
    method: str
    score: float | None
    low: float | None = None
    high: float | None = None
    random_low: float | None = None
    random_high: float | None = None
    curves: dict[str, list[float]] | None = None
    note: str = ""

    @property
    def beyond_chance(self) -> bool | None:
        """Whether the score is above the range of random values; None where one of the two is not known."""
        return None if self.score is None or self.random_high is None else self.score > self.random_high

    def as_dict(self) -> dict[str, Any]:
        """Return the object of one line of evaluation.jsonl."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, stated: dict[str, Any]) -> Measured:
        """Return what `as_dict` wrote. Raises InputError for an object of another kind."""
        names = {each.name for each in fields(cls)}
        if stated.get("format") != FORMAT or set(stated) != {*names, "format"}:
            raise InputError(
                "evaluation", stated.get("format"), f"one object of {FORMAT} with {', '.join(sorted(names))}"
            )
        found = cls(**{name: stated[name] for name in names})
        if found.measure not in MEASURES or not isinstance(found.method, str):
            raise InputError("evaluation.measure", found.measure, f"one of {', '.join(MEASURES)}")
        for name in ("score", "low", "high", "random_low", "random_high"):
            number = getattr(found, name)
            if number is not None and not (isinstance(number, (int, float)) and math.isfinite(number)):
                raise InputError(f"evaluation.{name}", number, "a finite number or null")
        return found


def write_measured(measured: Sequence[Measured], folder: Path) -> None:
    """Write evaluation.jsonl into a run's folder, a line for each measure and method; nothing where there are none."""
    if measured:
        lines = [json.dumps(one.as_dict(), allow_nan=False) + "\n" for one in measured]
        (folder / FILE).write_text("".join(lines), encoding="utf-8")


def read_measured(folder: Path) -> list[Measured]:
    """Return what `write_measured` wrote into a run's folder; an empty list where it wrote nothing.

    Raises InputError for a file that holds something else.
    """
    path = folder / FILE
    return read_lines(path, Measured.from_dict) if path.exists() else []
