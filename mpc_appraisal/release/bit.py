"""This release opens one bit of each value: whether it reaches a threshold that the model owner alone knows.

    value >= threshold   if the value rises with the number that the method would open:   not [opened - t < 0]
                         if it falls with that number:                                    not [t - opened < 0]

In go the scores, which are still shared, and a function that gives the threshold at the model owner. Out comes the
decision, at the owners that the field `to` names: 'both', 'model_owner' or 'data_owner'. t is the threshold in the
units of the opened number (`Appraiser.opened_at`). `mpc.protocols.comparison` computes the sign of the
difference on shares, exactly, and only the sign is opened.

An owner that asks again and again with other thresholds can halve the interval of the value each time, so that about 20
bits disclose the value; the ledger counts each bit as one answer. The words and the numbers here appear in requests and
ledgers. They may change only together with the tests that pin them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.session import Session
from mpc_appraisal.release.base import DECISION, Outcome, Release, Score, bit_of, learners_of, seen
from mpc_appraisal.release.description import OpenedNumber, ReleaseDescription

# The threshold is shared divided by this number, so that 29 of the 40 fractional bits (`tensors.NUMBER_BITS`) remain
# for its fraction.
UNIT = 2.0**11
# A larger threshold is replaced by this one. It is beyond every value, because an opening refuses numbers from 2^21 on.
LARGEST = 2.0**14 * UNIT
WHAT = "one bit: whether the value reaches the threshold"


def reaches(session: Session, score: Score, value: Any, threshold: Callable[[], float]) -> Any:
    """Return a secret 1 if `value`, which has the scale of the score, reaches the threshold, otherwise a secret 0.

    Args:
        session: This party's side of the joint computation.
        score: The score with its method, candidate and facts.
        value: The number that is compared, of shape (1,) or (), plain or secret. It may be the score with noise.
        threshold: A function that returns the model owner's threshold, called in the model owner's process alone.

    Raises:
        InputError: The method cannot state a threshold in units of the opened number.
    """

    def read() -> torch.Tensor:
        t = score.method.opened_at(threshold(), score.facts)
        return torch.tensor([min(max(t, -LARGEST), LARGEST) / UNIT], dtype=torch.float64)

    score.method.opened_at(0.0, score.facts)  # so that a dry run refuses an unfit method before anything runs
    private = session.input(MODEL_OWNER, read, (1,), f"party.threshold for {score.candidate}")
    t = ops.high_precision(private) / (1 / UNIT)
    below = value - t if score.method.rising else t - value  # of shape (1,), as t is
    return ops.negative(below) * -1.0 + 1.0


@dataclass(frozen=True)
class Bit(Release):
    """The strategy that opens the decision and nothing else of the value. `to` names the owners that learn it."""

    to: str = "both"

    def __post_init__(self) -> None:
        learners_of(self.to)

    @property
    def description(self):
        learners = learners_of(self.to)
        words = (
            "One bit for each candidate and method, whether its value reaches a threshold that the model owner alone "
            f"knows, is told to {' and '.join(learners)}; the value is not."
        )
        return ReleaseDescription("bit", learners, words, (OpenedNumber(WHAT, DECISION),), threshold=True)

    def open(self, session, scores, threshold=None):
        learners, outcomes = learners_of(self.to), []
        for score in scores:
            bit = session.reveal(reaches(session, score, score.score, threshold), WHAT, DECISION, learners)
            outcomes.append(Outcome(decision=bit_of(bit) if seen(session, learners) else None))
        return outcomes
