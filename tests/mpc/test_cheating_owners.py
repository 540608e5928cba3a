"""Sessions with an owner that cheats: another script, or a share chosen after the other's was seen, opens nothing.

The parties are processes that run several sessions one after the other; the cheating owner runs code of its own.
"""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES

from mpc_appraisal.common.errors import AppraisalError, DisagreementError, PeerError
from mpc_appraisal.mpc.backends import fast
from mpc_appraisal.mpc.backends.registry import deal, dry_session, open_session
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols import committed_opening as committed


def small(session, x=None, w=None) -> torch.Tensor | None:
    """Open the sum of a product of the owners' matrices to both owners."""
    session.mark()
    left = session.input(DATA_OWNER, lambda: x, (3, 2), "x")
    right = session.input(MODEL_OWNER, lambda: w, (2, 4), "w")
    opened = session.reveal(left.matmul(right).sum(), "sum", "test")
    session.mark()
    return opened


def other(session) -> None:
    """Run another program, whose dry run has one request more."""
    small(session)
    session.context.engine.ask_dealer("truncate", [1], 8)


def late(share: torch.Tensor, engine, chosen: int) -> torch.Tensor:
    """Cheat: commit to anything, wait for the other owner's share, and send what makes the sum `chosen`."""
    channel, to, size = engine.channel, 1 - engine.me, committed.NONCE_BYTES + 8 * share.numel()
    channel.send(torch.zeros(committed.COMMITMENT_BYTES, dtype=torch.uint8), to)
    channel.receive((committed.COMMITMENT_BYTES,), to, torch.uint8)
    theirs = channel.receive((size,), to, torch.uint8)[committed.NONCE_BYTES :].clone().view(torch.int64)
    forged = torch.full_like(share, chosen) - theirs.reshape(share.shape)
    sent = torch.cat([torch.zeros(committed.NONCE_BYTES, dtype=torch.uint8), forged.reshape(-1).view(torch.uint8)])
    channel.send(sent, to)
    return share + theirs.reshape(share.shape)


JOBS = ("honest", "other script", "the dealer's own", "late", "shifted")
CHEATS = {
    "late": lambda real: lambda engine, share, context: late(share, engine, 42 << 40),
    "shifted": lambda real: lambda engine, share, context: real(engine, share + (1 << 40), context),
}


def play(role, address, emit, folder, values) -> dict[str, object]:
    """Run one party's sessions, one after the other. Returns by job what it opened, or the error."""
    rendezvous, said = Rendezvous(role, address, 60.0, hosted=True), {}
    rendezvous.announce()
    for job in JOBS:
        try:
            said[job] = one_session(role, rendezvous, job, values)
        except AppraisalError as error:
            said[job] = type(error), str(error)
        rendezvous.exchange(f"after {job}", {})
    rendezvous.close(1.0)
    return said


def one_session(role, rendezvous, job, values) -> tuple[float, int, int] | None:
    """Run one session. Returns what was opened to this party, the bytes that it sent, and its rounds."""
    if role == DEALER:
        own = {"honest": small, "the dealer's own": other}.get(job)
        deal("fast", rendezvous, 60.0, script=own and script_of(own, MODEL_OWNER))
        return None
    session = open_session("fast", rendezvous, 60.0)
    session.prepare(other if (role, job) == (MODEL_OWNER, "other script") else small)
    before, cheat = session.meter.cost(), CHEATS.get(job) if role == DATA_OWNER else None
    with mock.patch.object(fast, "open_committed", cheat(fast.open_committed) if cheat else fast.open_committed):
        opened = small(session, **{"x" if role == DATA_OWNER else "w": values})
    spent = session.meter.cost() - before
    session.close()
    return opened.item(), spent.bytes_sent, spent.rounds


def script_of(run, role: str) -> list:
    dry = dry_session("fast", role)
    run(dry)
    return dry.script


X, W = torch.arange(6, dtype=torch.float64).reshape(3, 2), torch.ones(2, 4, dtype=torch.float64) / 4


@pytest.fixture(scope="module")
def played():
    values = {MODEL_OWNER: W, DATA_OWNER: X, DEALER: None}
    return launch(play, {role: {"values": values[role]} for role in ROLES}, lambda event: None)


def test_an_honest_result_is_opened_and_the_dry_run_knew_what_it_takes(played):
    for role in (MODEL_OWNER, DATA_OWNER):
        value, sent, rounds = played[role]["honest"]
        assert value == pytest.approx((X @ W).sum().item(), abs=1e-6)
        dry = dry_session("fast", role)
        small(dry)
        assert (dry.meter.bytes_sent, dry.meter.rounds) == (sent, rounds)


@pytest.mark.parametrize("job", ["other script", "the dealer's own"])
def test_scripts_that_differ_are_refused_at_all_three_by_name(played, job):
    for role in ROLES:
        kind, said = played[role][job]
        assert kind is DisagreementError and f"differs at {role}" in said
        assert MODEL_OWNER in said and DATA_OWNER in said and "Nothing was dealt, shared or opened" in said


def test_who_opens_last_cannot_choose_the_result(played):
    """The cheating owner waits for the other's share to make the sum 42, but it had committed to another share."""
    kind, said = played[MODEL_OWNER]["late"]
    assert kind is PeerError and said.startswith(f"{DATA_OWNER} opened another share")


def test_what_is_left_is_a_blind_shift(played):
    """As `committed_opening` states, an error that an owner adds before it commits is opened with the result."""
    value, _, _ = played[MODEL_OWNER]["shifted"]
    assert value == pytest.approx((X @ W).sum().item() + 1.0, abs=1e-6)
