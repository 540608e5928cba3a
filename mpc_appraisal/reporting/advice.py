"""Advice: what the model owner's own pre-flight says of the answers of a run, in the form that reports show.

`methods.preflight.decision` makes it; the terminal, the report and the cards show it. It names thresholds, which are
the model owner's secret: it may stand in the model owner's own files and on its terminal, and never in a record. A
field may be added with a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mpc_appraisal.reporting.table import Table


@dataclass(frozen=True)
class Recommendation:
    """Hold what the pre-flight says of one answer.

    Attributes:
        word: "buy", "do not buy" or "undecided".
        threshold: The value from which on a candidate of so many rows is worth buying.
        sentence: The whole sentence, with what is expected and how the threshold was calibrated.
    """

    word: str
    threshold: float
    sentence: str


@dataclass(frozen=True)
class Advice:
    """Hold what the pre-flight says of a run.

    Attributes:
        verdicts: By method and candidate, as far as there is a verdict.
        trust: By method: "trusted", "doubtful" or "inverted".
        caveats: Sentences on methods that are not trusted or could not be checked, and on what would help.
        tables: The pre-flight's own tables.
        scale: A sentence on features that are far larger than others; None where there are none.
    """

    verdicts: Mapping[tuple[str, str], Recommendation] = field(default_factory=dict)
    trust: Mapping[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    scale: str | None = None

    def of(self, candidate: str) -> dict[str, Recommendation]:
        """Return the verdicts on one candidate, by method."""
        return {method: one for (method, name), one in self.verdicts.items() if name == candidate}


NO_ADVICE = Advice()  # of a party that made no pre-flight
