"""The description of a release: what it opens of an appraisal, to whom, and what one answer costs in privacy.

A release strategy makes a `ReleaseDescription` from its own settings, and a `Privacy` from the public facts of one
question (one method and one candidate). The agreement, the ledgers, the record and the card read these two and never
the strategy itself. To add a release, describe it in these fields. A field may be added if some reader acts upon it.
`ReleaseDescription.openings` has to name all that `Release.open` reveals, because the session refuses every opening
that it does not name.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.methods.base import Appraiser
from mpc_appraisal.mpc.protocols.checks import NORM_CHECK_WHAT, NORM_CHECK_WHY
from mpc_appraisal.mpc.session import Opening


@dataclass(frozen=True)
class OpenedNumber:
    """A number that a release opens.

    Attributes:
        what: The name of the number. `{opens}` in it stands for `Appraiser.opens` of the method.
        why: The reason for which the number is opened.
    """

    what: str
    why: str


@dataclass(frozen=True)
class GroupBound:
    """The public bounds on the rows of one person, where noise protects persons and not single rows.

    Attributes:
        column: The name of the data owner's column that says which person a row is of. It is no feature.
        rows: The largest number N of rows of one person.
        norm: The bound B on the summed norms of one person's rows, the constant feature counted.
    """

    column: str
    rows: int
    norm: float


@dataclass(frozen=True)
class Privacy:
    """What the noise of one answer guarantees, and what the answer is charged.

    Attributes:
        mechanism: The mechanism as the ledger's accountant charges it.
        sigma: The standard deviation of one owner's noise, in sensitivities.
        sensitivity: How far one row of the candidate, or all rows of one person, can move the number that is opened, in
            units of that number.
        epsilon: The privacy loss of this answer alone.
        delta: The probability with which the loss may be larger.
        row_norm: The public norm that the candidate's rows are clipped to.
        protects: Whose data the guarantee is for, in words.
        target_norm: The public bound that a numeric target is clipped to. None for labels.
    """

    mechanism: Mechanism
    sigma: float
    sensitivity: float
    epsilon: float
    delta: float
    row_norm: float
    protects: str
    target_norm: float | None = None


@dataclass(frozen=True)
class ReleaseDescription:
    """What a release opens, and to whom.

    Attributes:
        kind: The name of the release in requests and records: 'value', 'bit', 'best' or 'dp'.
        learners: The owners that learn the answer.
        words: One sentence for the request that says what the answer is and who learns it.
        opened: The numbers that are opened for each candidate, or for each winner.
        winners: The largest number of candidates that can win. None opens something of every candidate.
        threshold: Whether the model owner brings a threshold that values are compared with.
        row_norm: The public norm that the data owner's rows are clipped to. None means that no answer has noise.
        target_norm: The public bound that the sizes of a numeric target are clipped to. None clips no target.
        spread: The stated spread of the influence direction, to which noise is scaled. None takes what the model owner
            announces.
        checked: The methods whose announced norms are checked on shares before anything else of them is opened.
        group: The bounds on the rows of one person, where noise protects persons. None protects single rows.
    """

    kind: str
    learners: tuple[str, ...]
    words: str
    opened: tuple[OpenedNumber, ...]
    winners: int | None = None
    threshold: bool = False
    row_norm: float | None = None
    target_norm: float | None = None
    spread: float | None = None
    checked: tuple[type[Appraiser], ...] = ()
    group: GroupBound | None = None

    @property
    def joint(self) -> bool:
        """Return whether the candidates are compared with each other.

        If so, nothing is opened before the last of them has a score.
        """
        return self.winners is not None

    @property
    def noised(self) -> bool:
        """Return whether noise protects every row of the candidate.

        If so, the data owner announces nothing that depends on its rows or labels, no truncation may fail, and no bit
        about trained weights is opened, since no noise would cover that bit.
        """
        return self.row_norm is not None

    @property
    def compared(self) -> bool:
        """Return whether values are compared on shares, so that the answer is uncertain for values that are close."""
        return self.threshold or self.joint

    @property
    def plain_value(self) -> bool:
        """Return whether the value of every candidate is opened as it is."""
        return not self.noised and not self.compared

    def checks(self, method: Appraiser) -> bool:
        """Return whether the norms that the model owner announced for `method` are checked on shares."""
        return type(method) in self.checked

    def openings(self, method: Appraiser, candidates: int) -> list[Opening]:
        """Return the most that is opened for one method and so many `candidates`, in the order in which it is opened.

        The check of a bound on logits is not among the openings, because it belongs to the method and not to the
        release.
        """
        check = [Opening(NORM_CHECK_WHAT, OWNERS, 1, NORM_CHECK_WHY)] if candidates and self.checks(method) else []
        answers = candidates if self.winners is None else min(self.winners, candidates)
        numbers = [Opening(one.what.format(opens=method.opens), self.learners, 1, one.why) for one in self.opened]
        return check + numbers * answers
