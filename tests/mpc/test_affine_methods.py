"""Appraisals on affine engines: every message is the form that is replayed, and the value is right within its bound."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from affine_programs import RELEASES, SCORES
from replays import off, run_and_replayed

from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.release.accuracy import error_bound

torch.set_num_threads(1)


def replayed_rightly(program):
    """The results of both owners, after all their messages were compared with the forms of their replays."""
    done, owners = run_and_replayed(program)
    for owner in owners:
        assert len(owner.claims) >= 2
        for claim in owner.claims:
            assert not any(off(claim, owner.dealt))
    assert done.results[0] == done.results[1]
    assert [engine.failure for engine in done.engines] == [0.0, 0.0]
    return done.results[0]


@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_right_and_its_messages_are_forms(name):
    one, exact = SCORES[name]
    opened = replayed_rightly(one.program(exact))
    value, right = one.method.value(opened, one.facts), one.method.value(one.right, replace(one.facts, resolution=None))
    stated = error_bound(one.method, one.facts, "fast", rounded=one.facts.loss is not SOFTMAX).value
    assert abs(value - right) <= stated < 0.1 * max(1.0, abs(right))


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_shows_what_it_states_and_its_messages_are_forms(name):
    one = RELEASES[name]
    outcome, kind = replayed_rightly(one.program()), one.release.description.kind
    if kind == "bit":
        assert outcome.decision is True
    elif kind == "value":
        value, right = (one.method.value(opened, one.facts) for opened in (outcome.opened, one.right))
        assert abs(value - right) <= error_bound(one.method, one.facts, "fast").value
    elif outcome.decision is None:  # ten deviations of the noise are rarer than one in 10^22
        assert 0 < abs(outcome.opened - one.right) <= 10 * outcome.deviation
    else:
        assert outcome.decision in (True, False)
