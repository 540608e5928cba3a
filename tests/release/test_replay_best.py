"""The release of the best candidates gives messages that are forms of what was dealt, and opens the winners."""

from __future__ import annotations

import pytest
import torch
from replayed_sessions import ReplayedSession
from replays import off, replayed, shares
from test_release_circuits import FACTS, Number

from mpc_appraisal.mpc.protocols.tensors import Secret
from mpc_appraisal.release import Best
from mpc_appraisal.release.base import Score

torch.set_num_threads(1)
VALUES, PRICES = (1.5, -2.25, 3.75), {"a": 2.0, "b": 1.0, "c": 4.0}


def released(release: Best, outcomes: list):
    """A program that opens the best of three scores."""

    def program(engine):
        session = ReplayedSession(engine)
        ring = torch.round(torch.tensor(VALUES, dtype=torch.float64)[:, None] * 2.0**34).to(torch.int64)
        share = shares(engine, ring, "v").reshape(-1)
        scores = [Score(Number(), name, FACTS, Secret(session.context, share[k], 34)) for k, name in enumerate(PRICES)]
        found = release.open(session, scores)
        if not engine.dry and not engine.replays:
            outcomes[:] = found

    return program


@pytest.mark.parametrize(
    ("release", "ranks"),
    [
        (Best(1), {2: 1}),
        (Best(3), {2: 1, 0: 2, 1: 3}),
        (Best(2, budget=3.0, prices=PRICES), {0: 1, 1: 2}),
        (Best(3, budget=1.5, prices=PRICES), {1: 1}),
    ],
)
def test_every_message_is_a_form_and_the_winners_are_the_best(release, ranks):
    outcomes: list = []
    for claims, dealt in replayed(released(release, outcomes)):
        assert len(claims) >= 4
        for claim in claims:
            assert not any(off(claim, dealt))
    assert {k: outcome.rank for k, outcome in enumerate(outcomes) if outcome.winner} == ranks
    for k in ranks:
        assert abs(outcomes[k].opened - VALUES[k]) <= 2.0**-10
