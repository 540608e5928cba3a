"""This release opens the best k of many candidates, or the best that a price budget buys, and nothing of the others.

    rank_i = sum over j of [value_j is better than value_i]
    winner t is the candidate whose secret bit [rank < t] - [rank < t - 1] is 1

In go the scores of all candidates i of one method, which are still shared. Out come the numbers and values of the
winners t = 1 ... k at the owners that the field `to` names; every other candidate is marked as no winner. All pairs of
scores are compared on shares, exactly, and no bit of a comparison is ever opened. Of equal
candidates the first counts as better. For each winner its number (its place among the candidates) is opened, and its
value, which is the inner product of the secret bits and the scores.

With prices, which are public, each step takes the best candidate that what is left of the budget can pay, k times at
most. A step ranks only the candidates that it can pay. Everyone who knows the earlier winners knows which these are, so
that such a release has to go to both owners. The number of steps and what a step draws from the dealer (who supplies
random numbers) must not depend on opened numbers, because the dealer plans them before the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.session import Session
from mpc_appraisal.release.accuracy import grid
from mpc_appraisal.release.base import RESULT, Outcome, Release, Score, index_of, learners_of, seen
from mpc_appraisal.release.description import OpenedNumber, ReleaseDescription

WHICH = "the number of the best candidate that is left"
WHY = "only winners are opened"


@dataclass(frozen=True)
class Best(Release):
    """The strategy that opens the winners among the candidates, and their values.

    Attributes:
        k: The most candidates that can win, 1 or more.
        to: The owners who learn the winners. A budget needs 'both'.
        budget: What the winners may cost together. None buys the best k at any price.
        prices: The price of each candidate, by name. None takes the prices of the listings.
    """

    k: int = 1
    to: str = "both"
    budget: float | None = None
    prices: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.prices is not None and not isinstance(self.prices, Mapping):
            raise InputError("prices", self.prices, "a price for each candidate by name, or null")
        if self.prices is not None:  # Hydra's own mapping does not compare, pickle or print as a dictionary
            object.__setattr__(self, "prices", {str(name): price for name, price in self.prices.items()})
        learners = learners_of(self.to)
        integer("k", self.k, 1)
        if self.prices is not None and self.budget is None:
            raise InputError("budget", None, "what the winners may cost together, as prices are stated")
        prices = {f"prices.{name}": price for name, price in (self.prices or {}).items()}
        for name, price in {"budget": self.budget, **prices}.items():
            if price is not None:
                number(name, price, "0 or more", least=0)
        if self.budget is not None and len(learners) < 2:
            raise InputError("to", self.to, "both, where prices decide: who is left follows from who has won")

    @property
    def description(self):
        learners = learners_of(self.to)
        prices = ", ".join(f"{name}: {price:.15g}" for name, price in (self.prices or {}).items())
        paid = f" that {self.budget:.15g} can pay at their prices ({prices})" if self.budget is not None else ""
        words = (
            f"Of all candidates the best {self.k}{paid}, by each method, and the values of those alone are told to "
            f"{' and '.join(learners)}."
        )
        numbers = OpenedNumber(WHICH, WHY), OpenedNumber("{opens}", RESULT)
        return ReleaseDescription("best", learners, words, numbers, winners=self.k)

    def fitted(self, methods, candidates=None, prices=None):
        super().fitted(methods)
        found = self
        if prices is not None and self.budget is not None and self.prices is None:
            found = replace(self, prices={name: price for name, price in prices.items() if price is not None})
        if candidates is not None and self.budget is not None and set(found.prices or ()) != set(candidates):
            stated = sorted(found.prices or ())
            raise InputError("release.prices", stated, f"one for each of {sorted(candidates)}, or listings with prices")
        return found

    def open(self, session, scores, threshold=None):
        m, values = len(scores), ops.cat([score.score.reshape(1) for score in scores])
        beaten = _beaten(scores)
        finest = max(grid(s.method, s.facts) for s in scores)

        def picked(at: Any) -> tuple[Any, Any]:
            # The value is rounded even in a step that opens nothing, because the dealer deals for every rounding.
            number, score = _pick(at, values)
            return number, session.rounded(score, finest)

        if self.budget is None:
            won = self._at_any_price(session, scores, _ranks(beaten, values, [True] * m), picked)
        else:
            values, beaten = (*session.settled([values] if beaten is None else [values, beaten]), None)[:2]
            won = self._within_budget(session, scores, lambda able: _ranks(beaten, values, able), picked)
        if not seen(session, learners_of(self.to)):
            return [Outcome()] * m
        outcomes = [Outcome(winner=False)] * m
        for rank, (index, opened) in enumerate(won, start=1):
            outcomes[index] = Outcome(opened, winner=True, rank=rank)
        return outcomes

    def _at_any_price(
        self, session: Session, scores: Sequence[Score], rank: Any, picked: Callable[[Any], tuple[Any, Any]]
    ) -> list[tuple[int | None, float | None]]:
        """Return the numbers and values of the best k candidates, the best first.

        `rank` (m,) holds the secret ranks, which count from 0.
        """
        won: list[tuple[int | None, float | None]] = []
        steps, left = min(self.k, len(scores)), [True] * len(scores)
        below = [ops.negative(rank - float(t)) for t in range(steps + 1)]  # [rank < t]
        picks = (each for t in range(steps) for each in picked(below[t + 1] - below[t]))
        picks = iter(session.settled(picks))
        for which, score in zip(picks, picks, strict=True):
            index, opened = self._reveal(session, scores, which, score, left)
            if index is not None:
                left[index] = False
            won.append((index, opened))
        return won

    def _within_budget(
        self,
        session: Session,
        scores: Sequence[Score],
        rank_among: Callable[[Sequence[bool]], Any],
        picked: Callable[[Any], tuple[Any, Any]],
    ) -> list[tuple[int | None, float | None]]:
        """Return the numbers and values of the winners that the budget can pay, the best first.

        `rank_among` returns the secret ranks among the candidates that its argument marks as true.
        """
        won: list[tuple[int | None, float | None]] = []
        left = [True] * len(scores)
        # The prices are taken as the decimals that were stated, so that three at 0.1 cost 0.3.
        money = Fraction(str(self.budget))
        prices = [Fraction(str(self.prices[score.candidate])) for score in scores]
        for _ in range(min(self.k, len(scores))):
            able = [free and price <= money for free, price in zip(left, prices, strict=True)]
            # A step runs even if nothing can be paid any more, because every step was announced to the dealer before.
            found = session.settled(picked(ops.negative(rank_among(able) - 1.0)))
            if any(able):
                index, opened = self._reveal(session, scores, *found, able)
                left[index], money = False, money - prices[index]
                won.append((index, opened))
        return won

    def _reveal(
        self, session: Session, scores: Sequence[Score], number: Any, score: Any, free: Sequence[bool]
    ) -> tuple[int | None, float | None]:
        """Return the number and the value of the picked candidate, or None for both where this party is not shown them.

        `free` says for each candidate whether it can win in this step.
        """
        learners = learners_of(self.to)
        which = session.reveal(number, WHICH, WHY, learners)
        shown = seen(session, learners)
        index = None
        if shown:
            index = int(which) if session.blind else index_of(which, free)  # a dry run opens zeros
        opened = session.reveal(score, scores[0].method.opens, RESULT, learners)
        return (index, float(opened)) if shown else (None, None)


def _pick(at: Any, values: Any) -> tuple[Any, Any]:
    """Return the secret number and score of the candidate at which `at` (m,) is 1 and not 0."""
    number = at.sum() - at.sum()
    for j in range(1, at.shape[0]):
        number = number + at[j:].sum()  # this adds up j at_j in additions alone, which are exact
    return number, ops.choose(at, values).sum()


def _pairs(m: int) -> list[tuple[int, int]]:
    """Return all pairs i < j of m candidates."""
    return [(i, j) for i in range(m) for j in range(i + 1, m)]


def _beaten(scores: Sequence[Score]) -> Any:
    """Return a secret bit for every pair i < j, 1 if j is strictly better than i; or None for one candidate."""
    if len(scores) < 2:
        return None
    values = ops.cat(ops.level([s.method.comparable(s.score, s.facts).reshape(1) for s in scores]))
    first, second = (torch.tensor(side) for side in zip(*_pairs(len(scores)), strict=True))
    lower, higher = (first, second) if scores[0].method.rising else (second, first)
    return ops.negative(values[lower] - values[higher])


def _ranks(beaten: Any, values: Any, able: Sequence[bool]) -> Any:
    """Return the secret ranks (m,) of the candidates.

    A rank counts how many of the candidates that `able` marks are better. It is m for a candidate that is not marked.
    `beaten` is what `_beaten` returns, and `values` (m,) are the scores.
    """
    m = len(able)
    if beaten is None:
        return values - values + (0.0 if able[0] else 1.0)
    pairs, ranks = _pairs(m), []
    for i in range(m):
        behind = [p for p, (a, b) in enumerate(pairs) if a == i and able[b]]
        ahead = [p for p, (a, b) in enumerate(pairs) if b == i and able[a]]
        rank = (
            beaten[torch.tensor(behind, dtype=torch.int64)].sum() - beaten[torch.tensor(ahead, dtype=torch.int64)].sum()
        )
        rank = rank + float(len(ahead)) if able[i] else rank - rank + float(m)
        ranks.append(rank.reshape(1))
    return ops.cat(ranks)
