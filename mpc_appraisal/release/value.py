"""This release opens the value itself, to both owners or to one of them.

In go the scores, which are still shared. Out comes for each the number that the method opens, at the owners that the
field `to` names. Before it is opened, the score is rounded on shares to a grid (`accuracy.grid`), so that the opened
number shows little of the engine's rounding. An owner learns the value and nothing else, but many values of chosen data
reveal a model. The words of the description may change only at all parties at once: they stand in the request, whose
digests the parties compare.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.release.accuracy import grid
from mpc_appraisal.release.base import RESULT, Outcome, Release, learners_of, seen
from mpc_appraisal.release.description import OpenedNumber, ReleaseDescription


@dataclass(frozen=True)
class Value(Release):
    """The strategy that opens the number of every score. `to` names the owners that learn it."""

    to: str = "both"

    def __post_init__(self) -> None:
        learners_of(self.to)

    @property
    def description(self):
        learners = learners_of(self.to)
        words = f"The value of each candidate by each method is told to {' and '.join(learners)}."
        return ReleaseDescription("value", learners, words, (OpenedNumber("{opens}", RESULT),))

    def fitted(self, methods, candidates=None, prices=None):
        return self  # every method has a value

    def open(self, session, scores, threshold=None):
        learners, outcomes = learners_of(self.to), []
        for score in scores:
            rounded = session.rounded(score.score, grid(score.method, score.facts))
            opened = session.reveal(rounded, score.method.opens, RESULT, learners)
            outcomes.append(Outcome(float(opened) if seen(session, learners) else None))
        return outcomes
