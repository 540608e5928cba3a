"""The interface of a release: a strategy that opens a score, or part of what it says, to some of the owners.

A strategy has two verbs. `announce` bounds what the model owner will share and states the bound, before the
computation. `open` opens the answer at its end. Everything else that other rooms must know of a strategy is in its
`description`, and in the `privacy` of one answer. To add a release, write a subclass of `Release` in a file of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.mpc.session import Session
from mpc_appraisal.release.description import Privacy, ReleaseDescription

TO = {"both": OWNERS, MODEL_OWNER: (MODEL_OWNER,), DATA_OWNER: (DATA_OWNER,)}
RESULT = "the appraisal's result"
DECISION = "whether the value reaches the model owner's threshold"


@dataclass(frozen=True)
class Outcome:
    """What one party was shown of one method's appraisal of one candidate. A field is None if it was not shown.

    Attributes:
        opened: The number that `Appraiser.opens` names.
        decision: Whether the value reaches the threshold.
        winner: Whether the candidate is among the best of the run.
        rank: The candidate's place among all candidates of the run. The best has rank 1.
        sigma: The standard deviation of one owner's noise, in sensitivities.
        sensitivity: How far one row can move the opened number, in units of that number.
        deviation: The standard deviation of both owners' noise together, in units of the opened number.
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
    """A score that is not opened yet. `score` is a plain or a secret number of shape ()."""

    method: Appraiser
    candidate: str
    facts: Facts
    score: Any


class Release(ABC):
    """One way of releasing. Its field `to` is 'both', 'model_owner' or 'data_owner'."""

    to: str

    @property
    @abstractmethod
    def description(self) -> ReleaseDescription:
        """What is opened, and to whom."""

    def fitted(
        self,
        methods: Sequence[Appraiser],
        candidates: Sequence[str] | None = None,
        prices: Mapping[str, float | None] | None = None,
    ) -> Release:
        """This release for these methods and candidates.

        Args:
            methods: The methods of the run.
            candidates: The candidates' names. None leaves out the checks that need them.
            prices: The candidates' listed prices, by name. A price is None if the listing states none.

        Raises InputError for what cannot be released in this way.
        """
        for method in methods:
            if method.incomparable:
                kind = self.description.kind
                raise InputError("release", f"{kind} of {method.name}", f"release=value: {method.incomparable}")
        return self

    def announce(
        self, owned: Mapping[str, Mapping[str, torch.Tensor]]
    ) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, float]]:
        """Bound what the model owner will share.

        Args:
            owned: The model owner's tensors, by method and name. Every other party has none.

        Returns:
            The tensors as they will be shared, and the norms that the model owner announces about them.
        """
        return {method: dict(tensors) for method, tensors in owned.items()}, {}

    @abstractmethod
    def open(
        self, session: Session, scores: Sequence[Score], threshold: Callable[[], float] | None = None
    ) -> list[Outcome]:
        """Open what is released of these scores of one method, and return what this party sees, in their order.

        A joint release is given the scores of all candidates at once, every other release one after the other.
        `threshold` is called in the model owner's process alone.
        """

    def privacy(self, method: Appraiser, facts: Facts) -> Privacy | None:
        """What the noise of one answer guarantees and what it is charged. None stands for an answer without noise."""
        return None


def learners_of(to: str) -> tuple[str, ...]:
    """The owners that `release.to` names. Raises InputError for any other word."""
    one_of("release.to", to, TO)
    return TO[to]


def seen(session: Session, learners: Sequence[str]) -> bool:
    """Whether this process is shown what `learners` are shown."""
    return session.role in learners or session.role == "everybody"


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
    """The number of the winning candidate that was opened. `free` says which candidates can win.

    Raises PeerError unless it is the whole number of such a candidate: an owner has altered its share then, and nothing
    more is released.
    """
    number = float(opened.item())
    if not (number.is_integer() and 0 <= number < len(free) and free[int(number)]):
        raise PeerError(
            f"the winner was opened as number {number:g}; expected the number of a candidate that can win, below "
            f"{len(free)}. The other owner altered its share, and nothing more is released"
        )
    return int(number)
