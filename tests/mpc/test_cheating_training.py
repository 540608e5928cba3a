"""A cheating owner is found in training on shares: messages of fine-tuning and of a perceptron, altered one by one."""

from __future__ import annotations

import random

import pytest
import torch
from checked import run
from test_message_check import altered, cheats_tell_what_passes  # noqa: F401  a fixture of all tests here
from training_programs import Problem

from mpc_appraisal.common.errors import IntegrityError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.methods import Finetuning, MlpFinetuning

torch.set_num_threads(1)
PROBLEMS = {
    "fine-tuning": Problem.of(Finetuning(steps=1, lr=0.3), auto=True),
    "fine-tuning, weights checked, batches": Problem.of(Finetuning(steps=2, lr=0.05, batch_size=4)),
    "perceptron": Problem.of(MlpFinetuning(hidden=2, steps=1, pretraining=5)),
}


def program(problem: Problem, own: dict[int, set[int]] | None = None):
    """Both owners' program, which opens whether weights kept their bound, if they are checked, and then the score.

    own: where the numbers of the messages are entered by which each owner brings in its private matrices.
    """

    def of(engine, opened):
        mask = engine.mask

        def noted(owner, *others, **options):
            if own is not None and owner == engine.me and not engine.dry and not engine.replays:
                own[owner].add(engine.channel._number)
            return mask(owner, *others, **options)

        engine.mask = noted
        _, score, within = problem.score(engine)
        share = score.share.reshape(1)
        if within is not None:
            share = engine.keep(share)
            opened(within.share)
        opened(share)

    return of


@pytest.mark.parametrize("name", PROBLEMS)
def test_altered_messages_of_training_are_found(name):
    problem, chance, own = PROBLEMS[name], random.Random(7), {0: set(), 1: set()}
    honest = run(program(problem, own))
    assert not honest.errors, honest.errors
    assert honest.spent == honest.counted
    assert all(torch.equal(a, b) for a, b in zip(*honest.results, strict=True))
    for me in (0, 1):
        others = sorted(set(range(len(honest.messages[me]))) - own[me])
        assert len(others) >= 10
        for number in chance.sample(others, 1 if name == "perceptron" else 2):  # a run of it takes seconds
            sent = run(program(problem), {me: altered(number, 1, chance.random())})
            assert any(isinstance(each, IntegrityError) and OWNERS[me] in str(each) for each in sent.errors)
            assert len(sent.results[1 - me]) < len(honest.results[1 - me])
