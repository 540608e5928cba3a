"""Release of the value itself: to both owners, or to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpc_appraisal.mpc.session import Opening
from mpc_appraisal.release.accuracy import grid
from mpc_appraisal.release.base import RESULT, Outcome, PerCandidate, seen


@dataclass(frozen=True)
class Value(PerCandidate):
    """The number that a method opens. It is all there is to know: many values of chosen data reveal a model."""

    to: str = "both"
    kind: ClassVar[str] = "value"

    def __post_init__(self) -> None:
        self.check(())

    def openings(self, method, candidates):
        return [Opening(method.opens, self.learners, 1, RESULT)] * candidates

    @property
    def words(self):
        return f"The value of each candidate by each method is told to {' and '.join(self.learners)}."

    def one(self, session, score, threshold):
        rounded = session.rounded(score.score, grid(score.method, score.facts))
        opened = session.reveal(rounded, score.method.opens, RESULT, self.learners)
        return Outcome(float(opened) if seen(session, self.learners) else None)
