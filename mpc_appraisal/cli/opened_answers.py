"""What an appraisal by the gradient norm tells a data owner that makes its rows up: values, bits, or either with noise.

    opened = (s f)^2,    under noise opened = clamp((s f)^2) + N(0, (sigma Delta)^2)

f is the norm of the summed gradient, s the public scale of the method, and sigma Delta the deviation of one owner's
noise, for the sensitivity Delta. A data owner that learns the result takes its own noise off, and the model owner's is
left, which is drawn here as a normal one. In go a plan, and what the model owner has prepared in the clear; out comes
an `AnswersView`. Nothing here is sent or stored.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial

import torch

from mpc_appraisal.appraisal.norms import published_norms
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.preparation import Prepared, fitted_to_norms
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Appraiser, GradientNorm
from mpc_appraisal.methods.base import Facts
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS
from mpc_appraisal.release import NoisedRelease
from mpc_appraisal.transformations.views import AnswersView, NoisedAnswers

COPIES = tuple(10**k for k in range(7))  # numbers of copies, of which those are sought that the release admits


def answers_of(plan: Plan, prepared: Prepared, rows: Dataset, rounded: bool) -> AnswersView:
    """Return what the data owner is told.

    Args:
        plan: What all parties state alike.
        prepared: What the model owner has prepared.
        rows: The data owner's own rows, clipped as the release prescribes.
        rounded: Whether what is opened is rounded to fixed point, as in a private session.
    """
    method = next(method for method in plan.methods if method.name == GradientNorm.name)
    bits, threshold = plan.release.description.threshold, prepared.inputs[method.name].threshold
    noise = Noise(plan, prepared, method) if plan.release.description.noised else None
    value: Callable[[Dataset], float] = partial(_opened if rounded else _value, prepared, method)
    if noise is not None:
        value = noise.value
    answer: Callable[[Dataset], float | bool] = (lambda data: value(data) >= threshold) if bits else value
    least, most = (1, 1) if noise is None else noise.admitted(rows)
    told = None if noise is None or bits else NoisedAnswers(noise.squared, noise.deviation, most)
    return AnswersView(answer, bits, prepared.model, rows, prepared.test or prepared.train or rows, told, least)


class Noise:
    """The noise of a release, as the data owner meets it.

    Args:
        plan, prepared: As for `answers_of`.
        method: The gradient norm.
    """

    def __init__(self, plan: Plan, prepared: Prepared, method: Appraiser):
        self.plan, self.prepared, self.method = plan, prepared, method
        self.release: NoisedRelease = plan.release
        self._draw = torch.Generator().manual_seed(plan.seed)
        own = ModelOwnerInput(prepared.train, prepared.test, prepared.model)
        buyer = published_norms(MODEL_OWNER, own, prepared.model.theta, prepared.inputs, plan)
        seller = published_norms(DATA_OWNER, DataOwnerInput(()), None, {}, plan)
        self._published = {MODEL_OWNER: buyer, DATA_OWNER: seller}
        self.facts = lru_cache(maxsize=None)(self._facts)

    def _facts(self, rows: int) -> Facts:
        """Return the public facts of a candidate of so many rows. Raises InputError where it would be refused."""
        x = torch.zeros((1, self.prepared.model.features), dtype=torch.float64)
        one = Dataset(x, torch.zeros(1, dtype=torch.int64), self.prepared.model.classes)
        facts = Facts.of(self.prepared.model, self.prepared.train, self.prepared.test, one)
        _, fitted = fitted_to_norms(self.plan, {"a": replace(facts, rows=rows)}, self._published)
        self.release.mechanism(self.method, fitted["a"])
        return fitted["a"]

    def admitted(self, rows: Dataset) -> tuple[int, int]:
        """Return the smallest and largest of COPIES of a row that are not refused and whose norm the ceiling admits."""
        ceiling, found = self.release.ceiling, []
        for copies in COPIES:
            if ceiling is not None and found and copies * self._longest(rows) > ceiling:
                break
            with suppress(InputError):
                self.facts(copies)
                found.append(copies)
        return (found[0], found[-1]) if found else (COPIES[0], COPIES[0])

    @staticmethod
    def _longest(rows: Dataset) -> float:
        """Return the norm of the gradient of the longest row whose label has a probability of 0, sqrt(2) ||x'||."""
        return float((2 * (rows.x.to(torch.float64).square().sum(1) + 1)).max().sqrt())

    def deviation(self, rows: int) -> float:
        """Return the deviation of one owner's noise on the squared norm of so many rows."""
        facts = self.facts(rows)
        return self.release.sigma * self.release.sensitivity(self.method, facts) / self._unit(facts)

    def squared(self, one: Dataset, copies: int) -> float:
        """Return the squared norm of copies of one row with noise, as it is opened."""
        return self._noised(copies * _value(self.prepared, self.method, one), self.facts(copies))

    def value(self, data: Dataset) -> float:
        """Return the value of a data set with noise."""
        facts = self.facts(data.rows)
        squared = self._noised(_value(self.prepared, self.method, data), facts)
        return self.method.value(squared * self._unit(facts), facts)

    def _noised(self, value: float, facts: Facts) -> float:
        opened, limits = self.method.opened_at(value, facts), self.release.range_of(self.method, facts)
        if limits is not None:
            opened = min(max(opened, limits[0]), limits[1])
        normal = float(torch.randn((), generator=self._draw, dtype=torch.float64))
        return opened / self._unit(facts) + self.deviation(facts.rows) * normal

    def _unit(self, facts: Facts) -> float:
        """Return the opened number of a norm of 1."""
        return self.method.opened_at(-1.0, facts)


def _value(prepared: Prepared, method: Appraiser, data: Dataset) -> float:
    return prepared.plaintext(method, data)[0]


def _opened(prepared: Prepared, method: Appraiser, data: Dataset) -> float:
    """Return the value of which the opened number is rounded to fixed point."""
    facts = Facts.of(prepared.model, prepared.train, prepared.test, data)
    opened = method.opened_at(_value(prepared, method, data), facts)
    return method.value(round(opened * 2.0**PRECISION_BITS) / 2.0**PRECISION_BITS, facts)
