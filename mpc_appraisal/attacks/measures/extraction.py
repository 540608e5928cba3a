"""The extraction of the model as a choice of the app: a data owner asks for the gradient norms of rows that it makes.

The formulas are those of `attacks.extraction`. In goes an `AnswersView`; out comes the share of test rows on which the
copy of the model says what the model says, beside the share of the class that the model says most. Values give the
model by `recover`. Bits give it by `from_bits`: they are asked of copies of the data owner's own rows with labels drawn
at random, and the number of copies is the power of two at which about half of some first answers are yes. Values with
noise (release=dp) give it by `most_likely`: they are asked of copies of the own rows with each label, because the noise
is of the size of one row and so the smaller beside the norm, the more copies there are. No protocol stops the attack,
because it rests on what is opened; a budget of answers does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from mpc_appraisal.attacks import extraction
from mpc_appraisal.attacks.measures.base import ANSWERS, Attack, Finding
from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.data import Dataset
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.transformations.views import AnswersView

FIRST, COPIES = 20, tuple(2**k for k in range(13))  # answers for each number of copies, and these numbers
FEW = 20  # answers at which the attack is measured as stopped, as a ledger's budget would
STOPS = f"after about {FEW} answers, as a ledger's budget allows them"
NOISE_STOPS = f"{STOPS}; noise alone stops it where a question is about few rows"
FEWER = 100  # the smaller number of copies for which the attack on noised values is measured too
ITERATIONS = 200  # at most, of the search for the most likely model


@dataclass(frozen=True)
class Extraction(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        directions: The largest number of directions that are probed, the principal ones of the data owner's rows; None
            for as many as there are features. A direction takes an answer for each class.
        size: The length of a probe; None for half the mean length of the data owner's rows.
        copies: The number of copies of a row in each question, where values have noise; fewer are taken where the
            release would refuse so many, and more where it would refuse so few.
    """

    directions: int | None = 100
    size: float | None = None
    copies: int = 10_000

    name: ClassVar[str] = "extraction"
    reads: ClassVar[str] = "answers"

    def __post_init__(self) -> None:
        if self.directions is not None:
            integer("directions", self.directions, 1, expected="null, or an integer of 1 or more")
        if self.size is not None:
            number("size", self.size, "null, or a finite number above 0", above=0)
        integer("copies", self.copies, 1)

    def measure(self, view: AnswersView, seed: int) -> list[Finding]:
        """Ask for answers and copy the model, as `Attack.measure` describes it."""
        noised = view.noised is not None
        ask = self._bits if view.bits else self._noised if noised else self._values
        copied, asked, setting = ask(view, seed, None)
        few, _, _ = ask(view, seed, FEW)
        points = [{"answers": asked, **self._measured(view, copied)}]
        if noised:
            points = self._point(view, seed, FEWER) + points
        answer = "a bit" if view.bits else "a value with noise" if noised else "a value"
        return [Finding(
            "extraction", f"{asked} answers, each {answer}, {setting}",
            extraction.agreement(view.model, copied, view.test.x), extraction.chance(view.model, view.test.x),
            "test rows on which the copy says what the model says", NOISE_STOPS if noised else STOPS,
            extraction.agreement(view.model, few, view.test.x), against=ANSWERS, points=tuple(points),
        )]  # fmt: skip

    @staticmethod
    def _measured(view: AnswersView, copied: SoftmaxRegression) -> dict[str, float]:
        return {"probability_error": extraction.probability_error(view.model, copied, view.test.x)}

    def _point(self, view: AnswersView, seed: int, copies: int) -> list[dict[str, float]]:
        """Return what values with noise give with fewer copies; nothing where so few are refused or asked anyway."""
        if not view.least <= copies < self._copies_of(view):
            return []
        copied, asked, _ = replace(self, copies=copies)._noised(view, seed, None)
        agreement = extraction.agreement(view.model, copied, view.test.x)
        return [{"answers": asked, "copies": copies, "recovered": agreement, **self._measured(view, copied)}]

    def _copies_of(self, view: AnswersView) -> int:
        return max(view.least, min(self.copies, view.noised.most))

    def _along(self, known: Dataset, most: int | None) -> torch.Tensor:
        """Return the directions, at most so many."""
        count = min(x for x in (self.directions, most, known.features) if x is not None)
        return extraction.principal(known.x, count)

    def _values(self, view: AnswersView, seed: int, most: int | None) -> tuple[SoftmaxRegression, int, str]:
        classes = view.model.theta.shape[1]
        each = classes if classes > 2 else 1
        along = self._along(view.known, None if most is None else max(0, most // each - 1))
        size = self.size or max(float(view.known.x.to(torch.float64).norm(dim=1).mean()) / 2, 0.5)
        probes = extraction.probes(view.known.features, classes, size, along)
        copied = extraction.recover([view.answer(probe) for probe in probes], probes)
        return copied, len(probes), f"{len(along)} directions of {view.known.features} features"

    def _noised(self, view: AnswersView, seed: int, most: int | None) -> tuple[SoftmaxRegression, int, str]:
        classes, copies = view.model.theta.shape[1], self._copies_of(view)
        directions = min(x for x in (self.directions, view.known.features) if x is not None)
        count = (directions + 1) * classes if most is None else most
        places = torch.randperm(view.known.rows, generator=torch.Generator().manual_seed(seed)).tolist()
        asked = [(place, label) for place in places for label in range(classes)][:count]
        single = [_copies(view.known, *each, classes, 1) for each in asked]
        share, noise = copies**-2.0, view.noised.deviation(copies)  # n copies have n^2 times the squared norm of one
        told = [share * view.noised.answer(each, copies) for each in single]
        copied = extraction.most_likely(told, single, share * noise, power=2, iterations=ITERATIONS)
        return copied, len(asked), f"of {copies} copies of a row" if copies > 1 else "of one row"

    def _bits(self, view: AnswersView, seed: int, most: int | None) -> tuple[SoftmaxRegression, int, str]:
        classes, draw = view.model.theta.shape[1], torch.Generator().manual_seed(seed)
        directions = min(x for x in (self.directions, view.known.features) if x is not None)
        count = (directions + 1) * classes if most is None else most

        def drawn(rows: int, number: int) -> list[Dataset]:
            places = torch.randint(view.known.rows, (number,), generator=draw).tolist()
            labels = torch.randint(classes, (number,), generator=draw).tolist()
            return [
                _copies(view.known, place, label, classes, rows) for place, label in zip(places, labels, strict=True)
            ]

        tried = [copies for copies in COPIES if copies >= view.least]
        rows, asked = (tried[0], 0) if most is not None else (_even(view.answer, drawn, tried), FIRST * len(tried))
        candidates = drawn(rows, count)
        copied = extraction.from_bits([bool(view.answer(each)) for each in candidates], candidates)
        return copied, asked + count, f"of {rows} copies of a row"


def _copies(known: Dataset, place: int, label: int, classes: int, rows: int) -> Dataset:
    x = known.x[place].to(torch.float64).expand(rows, -1)
    return Dataset(x, torch.tensor(label).expand(rows), classes, f"row {place}, label {label}")


def _even(
    answer: Callable[[Dataset], float | bool], drawn: Callable[[int, int], list[Dataset]], tried: Sequence[int]
) -> int:
    """Return that of some numbers of copies at which the first answers are nearest to half yes, half no."""
    shares = {rows: sum(bool(answer(each)) for each in drawn(rows, FIRST)) / FIRST for rows in tried}
    return min(shares, key=lambda rows: abs(shares[rows] - 0.5))
