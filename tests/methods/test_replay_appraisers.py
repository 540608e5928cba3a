"""Whole methods give messages that are forms of what was dealt, and the values of the computation in the clear."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from replayed_sessions import ReplayedSession, bring_in
from replays import off, replayed

from mpc_appraisal import Dataset
from mpc_appraisal.methods import Diversity, Facts, Finetuning, MlpFinetuning, Relevance, plaintext
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.training import FITS
from mpc_appraisal.mpc.protocols.logit_bound import weight_limit

torch.set_num_threads(1)
ROW_NORM, BOUND = 2.0, 8.0


@dataclass(frozen=True)
class Problem:
    """A model, its training and test rows, a candidate, and their public facts."""

    model: LinearModel
    train: Dataset
    test: Dataset
    candidate: Dataset
    facts: Facts

    @classmethod
    def of(cls, name: str) -> Problem:
        train, test, candidate = (rows(name, count, seed) for seed, count in enumerate((7, 6, 5)))
        model = FITS[name](train, 1e-2)
        facts = Facts.of(model, train, test, candidate)
        target = max(float(each.targets().abs().max()) for each in (train, candidate)) if train.numeric else 0.0
        facts = replace(facts, row_norm=ROW_NORM, longest=ROW_NORM, logit_bound=BOUND, target=target)
        return cls(model, train, test, candidate, facts)


def rows(name: str, count: int, seed: int) -> Dataset:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, generator=g, dtype=torch.float64)
    if name == "linear_regression":
        return Dataset.of(x, x.sum(1) - x[:, 0] * 2, name=f"rows {seed}", target="number")
    classes = 2 if name == "logistic_regression" else 3
    return Dataset.of(x, (x.argmax(1) + (torch.arange(count) % 5 == 0)) % classes, classes, f"rows {seed}")


def scored(method, problem: Problem, values: list[float], auto: bool):
    """A program that opens a method's score, and before that the check of its weights if there is one."""
    facts = replace(problem.facts, auto=auto)
    owned = method.prepare(problem.model, problem.train, problem.test)

    def program(engine):
        session = ReplayedSession(engine)
        spread = method.logit_spread(facts) if auto else None
        limit, shape, bound = None, (facts.features + 1, facts.outputs), BOUND * method.logit_growth
        if method.logit_growth > 1 and spread is None:
            limit = weight_limit(method.name, 2 * bound, ROW_NORM, shape, lambda norm: method.reach(norm, facts))
        session.bound_logits(bound, limit, spread)
        tensors, x, y = bring_in(session, method, owned, problem.candidate, facts)
        score = method.score(tensors, x, y, facts)
        if limit is not None:
            (score,) = session.settled([score])
        session.check_logits()
        opened = session.reveal(score, method.opens, "a test")
        if not session.blind:
            values.append(method.value(float(opened), facts))

    return program


@pytest.mark.parametrize(
    ("method", "model", "auto", "error"),
    [
        (Finetuning(steps=2, lr=0.3), "softmax_regression", False, 1e-4),
        (Finetuning(steps=2, lr=0.3), "softmax_regression", True, 1e-4),
        (Finetuning(steps=2, lr=0.05), "softmax_regression", False, 1e-6),
        (Finetuning(steps=3, lr=0.3, batch_size=4), "softmax_regression", False, 1e-4),
        (Finetuning(steps=2, lr=0.3), "logistic_regression", False, 1e-4),
        (Finetuning(steps=2, lr=0.05), "logistic_regression", False, 1e-6),
        (Finetuning(steps=2, lr=0.1), "linear_regression", False, 1e-4),
        (MlpFinetuning(hidden=4, steps=1, pretraining=20), "softmax_regression", False, 1e-4),
        (MlpFinetuning(hidden=(4, 3), steps=1, pretraining=20), "softmax_regression", False, 1e-4),
        (Relevance(directions=2), "softmax_regression", False, 1e-4),
        (Diversity(directions=2), "softmax_regression", False, 1e-4),
    ],
)
def test_every_message_is_a_form_and_the_value_is_that_in_the_clear(method, model, auto, error):
    problem, values = Problem.of(model), []
    for claims, dealt in replayed(scored(method, problem, values, auto)):
        assert len(claims) >= 2
        for claim in claims:
            assert not any(off(claim, dealt))
    expected, _ = plaintext(method, problem.model, problem.train, problem.test, problem.candidate)
    assert len(values) == 2 and values == pytest.approx([expected] * 2, abs=error)
