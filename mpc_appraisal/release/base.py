"""What of an appraisal is released: a strategy that opens a score, or part of what it says, to some of the owners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.data import Dataset, StoredDataset
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.mpc.session import Opening, Session

TO = {"both": OWNERS, MODEL_OWNER: (MODEL_OWNER,), DATA_OWNER: (DATA_OWNER,)}
RESULT = "the appraisal's result"
DECISION = "whether the value reaches the model owner's threshold"


def bit_of(opened: torch.Tensor) -> bool:
    """The bit that was opened, of shape (1,) or ().

    Raises PeerError for any number but 0 and 1: an owner has altered its share then, and nothing is released.
    """
    number = float(opened.item())
    if number not in (0.0, 1.0):
        raise PeerError(
            f"the bit was opened as {number:g}; expected 0 or 1. The other owner altered its share, and nothing is "
            "released"
        )
    return number == 1.0


def index_of(opened: torch.Tensor, free: Sequence[bool]) -> int:
    """The candidate's number that was opened: a whole one, of a candidate that `free` names and that has not won.

    Raises PeerError for any other number: an owner has altered its share then, and nothing is released.
    """
    number = float(opened.item())
    if not (number.is_integer() and 0 <= number < len(free) and free[int(number)]):
        raise PeerError(
            f"the winner was opened as number {number:g}; expected the number of a candidate that can win, below "
            f"{len(free)}. The other owner altered its share, and nothing more is released"
        )
    return int(number)


@dataclass(frozen=True)
class Outcome:
    """What one party was shown of one method's appraisal of one candidate; None for what it was not shown.

    opened: the number of `Appraiser.opens`. decision: value >= threshold. winner, rank: among all candidates of the
    run, 1 is the best. sigma, sensitivity, deviation: of noise, the latter two in units of what was opened.
    """

    opened: float | None = None
    decision: bool | None = None
    winner: bool | None = None
    rank: int | None = None
    sigma: float | None = None
    sensitivity: float | None = None
    deviation: float | None = None


@dataclass(frozen=True)
class Score:
    """A score that is not opened yet, plain or secret, of shape ()."""

    method: Appraiser
    candidate: str
    facts: Facts
    score: Any


class Release(ABC):
    """One way of releasing, `PerCandidate` or `Joint`; `to` is 'both', 'model_owner' or 'data_owner'."""

    kind: ClassVar[str]
    joint: ClassVar[bool]
    threshold: ClassVar[bool] = False  # whether the model owner brings a threshold
    exact: ClassVar[bool] = False  # whether nothing may be truncated in a way that can fail
    checks: ClassVar[bool] = True  # whether a method that trains opens whether it kept the bound on logits
    to: str

    @property
    def learners(self) -> tuple[str, ...]:
        """The owners who learn it."""
        one_of("release.to", self.to, TO)
        return TO[self.to]

    def check(self, methods: Sequence[Appraiser], candidates: Sequence[str] | None = None) -> None:
        """Raises InputError for what cannot be released so; `candidates`: their names, where they are known."""
        _ = self.learners
        for method in methods:
            if method.incomparable and self.kind != "value":
                raise InputError("release", f"{self.kind} of {method.name}", f"release=value: {method.incomparable}")

    def priced(self, prices: Mapping[str, float | None]) -> Release:
        """Told the candidates' listed prices, None where a listing states none."""
        return self

    @abstractmethod
    def openings(self, method: Appraiser, candidates: int) -> list[Opening]:
        """At most these are opened for one method and so many candidates, beside the check of a bound on logits."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What is told to whom, in one sentence."""

    def transformed(self, data: Dataset | StoredDataset, classes: int) -> Dataset | StoredDataset:
        """What the data owner does to a candidate before it tells or shares anything of it; classes: of the model."""
        return data

    def owned(
        self, method: Appraiser, owned: dict[str, torch.Tensor], published: Mapping[str, float]
    ) -> dict[str, Any]:
        """What the model owner does to a method's tensors; published: the norms that it has announced."""
        return owned

    def announce(self, role: str, owned: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, float]:
        """What an owner has to tell in the clear beside what it always tells."""
        return {}

    def check_published_norms(
        self, session: Session, method: Appraiser, secrets: Mapping[str, Any], facts: Facts
    ) -> None:
        """Check on shares what the model owner told of its tensors, once they are in and before anything is opened.

        Raises BoundError at both owners: they are not as told.
        """

    def privacy(self, method: Appraiser, facts: Facts) -> dict[str, Any] | None:
        """Noise of one answer: sigma, sensitivity, epsilon, delta, row_norm, protects; None without noise."""
        return None


class PerCandidate(Release):
    """Each score is released by itself, as soon as it is computed."""

    joint: ClassVar[bool] = False

    @abstractmethod
    def one(self, session: Session, score: Score, threshold: Callable[[], float]) -> Outcome:
        """Open what is released of one score. threshold: called in the model owner's process alone."""


class Joint(Release):
    """All scores of one method are compared, and nothing is opened before the last is computed."""

    joint: ClassVar[bool] = True

    @abstractmethod
    def all(self, session: Session, scores: Sequence[Score]) -> list[Outcome]:
        """What is released of all scores of one method, in their order."""


def seen(session: Session, learners: Sequence[str]) -> bool:
    """Whether this process is shown what `learners` are."""
    return session.role in learners or session.role == "everybody"
