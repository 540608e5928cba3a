"""Sessions between real processes, of which one owner cheats in its own process.

With the check of messages the cheat is named, nobody is shown a value, all three processes end, and the ledgers keep
the charge. Without the check a cheat changes what is opened, unnoticed.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from processes import DATA_OWNER, MODEL_OWNER, ROLES
from test_deal_edges import SELLER, Deal

from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.sessions import Spawn, _with
from mpc_appraisal.common.errors import AppraisalError, IntegrityError, PeerError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.methods import Influence
from mpc_appraisal.mpc.integrity import inner_product_check, message_check
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.tcp import TcpChannel
from mpc_appraisal.mpc.protocols import slopes
from mpc_appraisal.mpc.protocols.engine import Engine

CHOSEN = 42.0  # what a cheat would like to be opened
SHIFT = 1 << 24  # what a cheat adds to its share of the result
ROW, CELL = (
    17,
    3,
)  # the cell of the other owner's rows that a cheat reads  # the cell of the other owner's rows that a cheat reads


# ---- cheats: each patches the code of its own process ----


def is_share(value) -> bool:
    """Whether the engine computes on numbers, not on shapes or forms: a careful cheat replays the honest program."""
    return isinstance(value, torch.Tensor) and not value.is_meta


def shift_result():
    """Add a constant to the share of the result before it is settled, or before it is opened."""
    settle, blinded = Engine.settle, Engine.blinded

    def settled(self, share):
        return settle(self, share + SHIFT if is_share(share) else share)

    def shifted(self, share):
        return blinded(self, share) + (SHIFT if is_share(share) else 0)

    return [mock.patch.multiple(Engine, settle=settled, blinded=shifted)]


def set_result():
    """Wait for the other owner's settling message, and send what would make the sum of the two what is wanted."""
    settled = Engine._settled

    def chosen(self, request, share):
        if not is_share(share):
            return settled(self, request, share)
        send, receive, theirs = self.channel.send, self.channel.receive, []
        self.channel.receive = lambda *arguments, **options: theirs.pop()
        self.channel.send = lambda tensor, to: (
            theirs.append(receive(tensor.shape, to)),
            send(torch.full_like(tensor, int(CHOSEN) << 16) - theirs[0], to),
        )
        try:
            return settled(self, request, share)
        finally:
            self.channel.send, self.channel.receive = send, receive

    return [mock.patch.object(Engine, "_settled", chosen)]


def read_a_cell():
    """Bring weights of zeros and a direction that picks one feature, and lift one row's share of 1 / s (see `slopes`).

    What is opened grows by a known multiple of this cell.
    """
    opening, prepare = slopes.reciprocal_opening, Influence.prepare

    def lifted(engine, s, fit):
        found = opening(engine, s, fit)
        if is_share(found.share):
            found.share = found.share.clone()
            found.share[ROW] += 1 << (found.bits - 2 + found.drop)
        return found

    def picked(self, model, train, test):
        owned = {key: torch.zeros_like(value) for key, value in prepare(self, model, train, test).items()}
        owned["direction"][CELL, 0] = 1.0
        return owned

    return [mock.patch.object(slopes, "reciprocal_opening", lifted), mock.patch.object(Influence, "prepare", picked)]


def altered_message(size: int, to: int, which: int = 0):
    """Alter a bit of one of the messages of so many octets to the party of some rank."""
    send, seen = TcpChannel._send, []

    def altered(self, tensor, receiver):
        if receiver == to and tensor.numel() * tensor.element_size() == size:
            seen.append(tensor)
            if len(seen) == which + 1:
                tensor = tensor.clone()
                tensor.reshape(-1).view(torch.uint8)[size // 2] ^= 1
        send(self, tensor, receiver)

    return [mock.patch.object(TcpChannel, "_send", altered)]


def dishonest_word():
    """Say another word than 'the check has passed'."""
    return [mock.patch.object(message_check, "PASSED", b"x")]


def no_check():
    """Believe whatever the other owner has sent: it changes nothing for the other owner's check."""
    return [mock.patch.object(inner_product_check, "_check_ends", lambda *arguments: None)]


def shift_and_believe():
    return [*shift_result(), *no_check()]


CHEATS = {
    "shift_result": shift_result,
    "set_result": set_result,
    "read_a_cell": read_a_cell,
    "a digest": lambda: altered_message(32, 2),
    # The first message of 32 octets to the data owner is the key that both owners share.
    "a nonce": lambda: altered_message(32, 1, 1),
    "passed": dishonest_word,
    "shift_and_believe": shift_and_believe,
}
BOTH, ONE = ("shift_result", "set_result"), ("read_a_cell", "a nonce", "shift_and_believe")
JOBS = [(name, cheat) for name in BOTH for cheat in OWNERS]
JOBS += [(name, MODEL_OWNER) for name in ONE] + [(name, DATA_OWNER) for name in ("a digest", "passed")]
UNCHECKED = [("shift_result", DATA_OWNER)]


def part(role, address, emit, folder, sessions):
    """Run one party's sessions, one after the other. Returns by name what it was shown, or the error."""
    said = {}
    for name, (where, plan, deal, cheats) in sessions.items():
        own = deal.own(role)
        with ExitStack() as patched:
            for patch in CHEATS[cheats[role]]() if role in cheats else ():
                patched.enter_context(patch)
            try:
                records = take_part(role, where, plan, lambda own=own: own, emit, hosted=True, session_name="spawn")
                said[name] = [record.value for record in records]
            except AppraisalError as error:
                said[name] = type(error), str(error)
    return said


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """All sessions of this file, between the same three processes: (what each party said, the deals), by name."""
    stated = {"honest": ({}, True), "unchecked": ({}, False)}
    stated |= {f"{name} of {cheat}": ({cheat: name}, True) for name, cheat in JOBS}
    stated |= {f"unchecked {name} of {cheat}": ({cheat: name}, False) for name, cheat in UNCHECKED}
    root, stores, sessions = tmp_path_factory.mktemp("cheats"), [], {}
    for name, (cheats, integrity) in stated.items():
        deal = Deal(root / name)
        deal.folder.mkdir()
        stores.append(dist.TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=600), wait_for_workers=False))
        plan = _with(deal.plan(), Spawn(integrity=integrity, timeout=60.0), None)
        plan = replace(plan, join_timeout=600.0, logit_bound=None)  # the softmax that `read_a_cell` cheats in
        sessions[name] = f"tcp://127.0.0.1:{stores[-1].port}", plan, deal, cheats
    said = launch(part, {role: {"sessions": sessions} for role in ROLES}, lambda event: None)
    return {name: ({role: said[role][name] for role in ROLES}, sessions[name][2]) for name in sessions}


def test_an_honest_session_opens_the_value_and_both_owners_are_charged(played):
    (said, deal), (unchecked, other) = played["honest"], played["unchecked"]
    assert said[MODEL_OWNER] == said[DATA_OWNER] == pytest.approx(unchecked[MODEL_OWNER], abs=1e-3)
    assert deal.counts() == other.counts() and all(counted == (1, 1) for counted in deal.counts().values())


@pytest.mark.parametrize(("name", "cheat"), JOBS)
def test_a_cheat_is_named_and_nothing_is_opened(name, cheat, played):
    said, deal = played[f"{name} of {cheat}"]
    honest = OWNERS[1 - OWNERS.index(cheat)]
    kinds = {role: said[role][0] for role in ROLES}
    assert all(issubclass(kind, (IntegrityError, PeerError)) for kind in kinds.values()), said
    named = [words for kind, words in said.values() if kind is IntegrityError]
    assert named and all(cheat in words and "nothing is opened" in words for words in named), said
    # The honest owner sees it itself, or hears from the dealer, who compares what the two have said.
    assert cheat in said[honest][1], said
    # The session is charged as one that failed: a question was charged, and no answer was written.
    assert deal.counts() == {"model": (1, 0), SELLER.name: (1, 0)}


@pytest.mark.parametrize(("name", "cheat"), UNCHECKED)
def test_without_the_check_a_cheat_changes_what_is_opened(name, cheat, played):
    said, _ = played[f"unchecked {name} of {cheat}"]
    (value,), (honest,) = said[MODEL_OWNER], played["unchecked"][0][MODEL_OWNER]
    assert math.isfinite(value) and abs(value - honest) > 1.0
