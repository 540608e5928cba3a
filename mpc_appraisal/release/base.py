"""The interface of a release: a strategy that opens the scores of an appraisal, or a part of what they say, to owners.

A score is the number that a method computes for one candidate (the data set that is appraised). It stays on shares, two
ring elements of which each owner holds one, until a release opens it, so that an owner learns it. A strategy has two
verbs. `announce` is called before the computation, with the model owner's tensors, and returns the tensors that may be
shared and the norms that are announced of them. `open` is called at the end, with the scores, and returns what this
party was shown. Every other module reads of a strategy only its `description` and the `privacy` of one answer.

To add a release, write a subclass of `Release` in a file of its own. The texts `RESULT` and `DECISION` stand in
requests and ledgers, and the fields of `Outcome` in ledgers and in messages between the owners, so that both have to
stay as they are.
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
        rank: The candidate's place among all candidates of the run, where the best has rank 1. Only winners have one.
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
    """A score that is not opened yet.

    Attributes:
        method: The method that computed the score.
        candidate: The candidate's name.
        facts: The public sizes and norms of this candidate's appraisal.
        score: The score, a plain or a secret number of shape ().
    """

    method: Appraiser
    candidate: str
    facts: Facts
    score: Any


class Release(ABC):
    """One way of releasing the scores of an appraisal.

    Attributes:
        to: Who learns the answer: 'both', 'model_owner' or 'data_owner'.
    """

    to: str

    @property
    @abstractmethod
    def description(self) -> ReleaseDescription:
        """Return what is opened, and to whom."""

    def fitted(
        self,
        methods: Sequence[Appraiser],
        candidates: Sequence[str] | None = None,
        prices: Mapping[str, float | None] | None = None,
    ) -> Release:
        """Return this release for these methods and candidates.

        Args:
            methods: The methods of the run.
            candidates: The candidates' names. None leaves out the checks that need them.
            prices: The candidates' listed prices, by name. A price is None if the listing states none.

        Raises:
            InputError: A method or a candidate cannot be released in this way.
        """
        for method in methods:
            if method.incomparable:
                kind = self.description.kind
                raise InputError("release", f"{kind} of {method.name}", f"release=value: {method.incomparable}")
        return self

    def announce(
        self, owned: Mapping[str, Mapping[str, torch.Tensor]]
    ) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, float]]:
        """Bound what the model owner will share, and state the bound.

        Args:
            owned: The model owner's tensors, by method's name and tensor's name. Every other party passes an empty
                mapping.

        Returns:
            The tensors as they will be shared, and by name the norms that the model owner announces of them.
        """
        return {method: dict(tensors) for method, tensors in owned.items()}, {}

    @abstractmethod
    def open(
        self, session: Session, scores: Sequence[Score], threshold: Callable[[], float] | None = None
    ) -> list[Outcome]:
        """Open what this release makes known of one method's scores, and return what this party sees, in their order.

        Args:
            session: This party's side of the joint computation.
            scores: The scores of all candidates if the release is joint, otherwise those that are ready.
            threshold: A function that returns the model owner's least value, called in the model owner's process alone.
        """

    def privacy(self, method: Appraiser, facts: Facts) -> Privacy | None:
        """Return what the noise of one answer guarantees and what the answer is charged, or None if it has no noise."""
        return None


def learners_of(to: str) -> tuple[str, ...]:
    """Return the owners that the word `to` of a release names. Raises InputError for an unknown word."""
    one_of("to", to, TO)
    return TO[to]


def seen(session: Session, learners: Sequence[str]) -> bool:
    """Return whether this process is shown what `learners` are shown. A plain session is shown everything."""
    return session.role in learners or session.role == "everybody"


def bit_of(opened: torch.Tensor) -> bool:
    """Return the opened bit, of shape (1,) or (), as a truth value.

    Raises PeerError for any number but 0 and 1. An owner has then altered its share, and nothing is released.
    """
    number = float(opened.item())
    if number not in (0.0, 1.0):
        raise PeerError(
            f"the bit was opened as {number:g}; expected 0 or 1. The other owner altered its share, and nothing is "
            "released"
        )
    return number == 1.0


def index_of(opened: torch.Tensor, free: Sequence[bool]) -> int:
    """Return the opened number of the winning candidate as an integer. Candidates are counted from 0.

    Args:
        opened: The number, of one element.
        free: For each candidate whether it can still win.

    Raises PeerError unless the number is a whole number and names a candidate that can win. An owner has then altered
    its share, and nothing more is released.
    """
    number = float(opened.item())
    if not (number.is_integer() and 0 <= number < len(free) and free[int(number)]):
        raise PeerError(
            f"the winner was opened as number {number:g}; expected the number of a candidate that can win, below "
            f"{len(free)}. The other owner altered its share, and nothing more is released"
        )
    return int(number)
