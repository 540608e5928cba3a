"""The dealer that is asked while the program runs: right values, agreement of both owners, limits, and no hang."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from processes import HERE, ROLES, Processes, free_port

OWNERS = ROLES[:2]


def parties(processes: Processes, trial, what: str, transport: str) -> dict:
    """Start the three parties of `asked_party.py`; return them by role."""
    where = f"tcp://127.0.0.1:{free_port()}"
    script = [sys.executable, str(HERE / "asked_party.py")]
    return {
        role: processes.start(role, [*script, role, where, str(trial), what, transport]) for role in reversed(ROLES)
    }


def answers(started: dict) -> list:
    """Return what both owners print, once all three parties have ended in good order."""
    ended = {role: party.wait(60) for role, party in started.items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}
    one, other = (json.loads(ended[role].out.strip().splitlines()[-1]) for role in OWNERS)
    assert one == other
    return one


@pytest.mark.parametrize("transport", ["tcp", "tls", "gloo"])
def test_shapes_may_depend_on_opened_values(transport, trial, processes):
    rows = torch.arange(-6, 6).reshape(3, 4).double() / 4
    sums, squares = answers(parties(processes, trial, "branches", transport))
    assert torch.allclose(torch.tensor(sums).double(), rows.relu().sum(1), atol=4 * 2.0**-16)
    kept = rows[rows.relu().sum(1) > 0]
    found = torch.tensor(squares).double() / 2**16
    assert found.shape == kept.shape and (found - kept**2).abs().max() <= 2 * 2.0**-16
