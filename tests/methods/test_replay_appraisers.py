"""Whole methods give messages that are forms of what was dealt, and the values of the computation in the clear."""

from __future__ import annotations

import pytest
import torch
from replays import off, replayed
from training_programs import Problem

from mpc_appraisal.methods import Diversity, Finetuning, MlpFinetuning, Relevance

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (Problem.of(Finetuning(steps=2, lr=0.3)), 1e-4),
        (Problem.of(Finetuning(steps=2, lr=0.3), auto=True), 1e-4),
        (Problem.of(Finetuning(steps=2, lr=0.05)), 1e-6),
        (Problem.of(Finetuning(steps=3, lr=0.3, batch_size=4)), 1e-4),
        (Problem.of(Finetuning(steps=2, lr=0.3), "logistic_regression"), 1e-4),
        (Problem.of(Finetuning(steps=2, lr=0.05), "logistic_regression"), 1e-6),
        (Problem.of(Finetuning(steps=2, lr=0.1), "linear_regression"), 1e-4),
        (Problem.of(MlpFinetuning(hidden=4, steps=1, pretraining=20)), 1e-4),
        (Problem.of(MlpFinetuning(hidden=(4, 3), steps=1, pretraining=20)), 1e-4),
        (Problem.of(Relevance(directions=2)), 1e-4),
        (Problem.of(Diversity(directions=2)), 1e-4),
    ],
    ids=lambda value: repr(value.method) if isinstance(value, Problem) else None,
)
def test_every_message_is_a_form_and_the_value_is_that_in_the_clear(problem, error):
    values: list[float] = []
    for claims, dealt in replayed(problem.opened(values)):
        assert len(claims) >= 2
        for claim in claims:
            assert not any(off(claim, dealt))
    assert len(values) == 2 and values == pytest.approx([problem.right] * 2, abs=error)
