"""Whether the norms that the model owner announced hold: what rests on them, and what is found in real processes.

The cheats between processes are real: the model owner's process announces or shares something else than it should.
"""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import replace
from functools import partial

import cloudpickle
import numpy as np
import pytest
import torch
from processes import free_port
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from test_norm_check import C, D, held, longest_direction, longest_weights, random_ring

import mpc_appraisal.appraisal.program as joint_program
import mpc_appraisal.release.dp.release as release_private
from mpc_appraisal.appraisal.cost import estimate
from mpc_appraisal.appraisal.norms import published_norms
from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.plan import DataOwnerInput, MethodInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.protocols.norm_check import (
    WEIGHT_ROOM,
    direction_within,
)
from mpc_appraisal.release import NoisedRelease, Value

torch.set_num_threads(1)
L2 = 1e-2
WHAT = "whether the model owner's matrices are as short as the noise counts on"


# ---- what the checked norms are counted on for


@pytest.mark.parametrize("seed", range(3))
def test_sensitivity_holds_and_is_reached_by_a_direction_at_the_limit_and_rows_of_norm_r(seed):
    """By brute force over labels and confident models, on the ring's own numbers and the worst rounding of p."""
    norm, rng = 3.0, np.random.default_rng(seed)
    ring = random_ring((D + 1, C), 1 << 14, seed)
    ring[:, 0] = -ring[:, 1]  # the longest is a distance
    limit = math.sqrt(longest_direction(ring)) / 2.0**16
    limit = float(np.nextafter(limit, 2 * limit))
    assert held(ring, lambda m: direction_within(m, limit), 16)
    v, release = ring.double().numpy() / 2.0**16, NoisedRelease(epsilon=1.0, row_norm=norm, spread=limit)
    facts = Facts(D, C, 10, 10, 1, L2, row_norm=norm, longest=norm, logit_bound=8.0, spread=limit)
    delta = release.sensitivity(Influence(), facts)
    off = release_private.softmax_error(C, 8.0)
    ends = []
    for a, b in itertools.permutations(range(C), 2):
        for direction in (v[:, a] - v[:, b], rng.normal(size=D + 1)):
            x = direction / np.linalg.norm(direction) * norm
            for wrong in (0.0, off):  # p of class a for a row of class b, and all of the error where it weighs most
                p = np.eye(C)[a] + wrong * np.eye(C)[int(np.abs(x @ v).argmax())] * np.sign(x @ v[:, a] - x @ v[:, b])
                ends.append(float(x @ v @ (p - np.eye(C)[b])))
    assert 0.99 * delta < 2 * max(map(abs, ends)) <= delta
    assert not held(ring * 2, lambda m: direction_within(m, limit), 16)


def test_a_longer_matrix_than_announced_is_what_breaks_the_guarantee():
    """A direction is announced as a thousandth of what it is. One row then moves the number by far more than Delta."""
    release = NoisedRelease(epsilon=1.0, row_norm=3.0)
    facts = Facts(D, C, 10, 10, 1, L2, row_norm=3.0, longest=3.0, logit_bound=8.0, spread=1e-3)
    assert release.sensitivity(Influence(), facts) < 2 * 3.0 * 1.0 / 500  # a spread of 1 moves it by 6


# ---- in the program


def dry(method, release, candidates=2, role=MODEL_OWNER) -> DrySession:
    session = DrySession(role)
    facts = Facts(12, 3, 30, 20, 40, L2, row_norm=4.0, longest=4.0, logit_bound=10.0, spread=1.0)
    sets = {f"candidate {k}": facts for k in range(candidates)}
    plan = Plan((method,), L2, 0, "", fit=None, release=release)
    program(session, plan, {}, {}, sets, 10.0, lambda event: None)
    return session


@pytest.mark.parametrize("method", [Influence(), GradientNorm()], ids=lambda m: m.name)
@pytest.mark.parametrize("what", ["value", "bit"])
def test_one_bit_is_opened_for_a_method_before_all_else_and_is_asked_for(method, what):
    release = NoisedRelease(what=what, row_norm=4.0)
    for role in OWNERS:
        opened = [(o.what, o.to, o.numbers) for o in dry(method, release, role=role).ledger]
        assert opened[0] == (WHAT, OWNERS, 1) and WHAT not in [o[0] for o in opened[1:]] and len(opened) == 3
        asked = [(o.what, o.to, o.numbers) for o in release.description.openings(method, 2)]
        assert sorted(asked) == sorted(opened)
    assert release.description.openings(method, 0) == []
    assert dry(method, release).script == dry(method, release, role=DATA_OWNER).script, "the dealer is asked alike"


def test_what_is_charged_by_its_range_alone_is_not_checked():
    release = NoisedRelease(row_norm=4.0, ceiling=1.0)
    assert WHAT not in [o.what for o in dry(Finetuning(steps=1), release).ledger]
    assert WHAT in [o.what for o in dry(Influence(), release).ledger]
    assert WHAT not in [o.what for o in dry(Influence(), Value()).ledger]


def test_the_announced_norm_of_weights_holds_of_them_as_they_are_shared():
    """All entries rounded against the owner: by half a unit of 16 bits up in one class, and down in the others."""
    d, c = 50_000, 3  # so many numbers are shared with 16 fractional bits
    theta = torch.zeros(d, c, dtype=torch.float64)
    theta[:, 0], theta[:, 1:] = 2.0**-17 * 1.001, -(2.0**-17) * 1.001
    plan = Plan((Influence(),), L2, 0, "", fit=None, release=NoisedRelease(row_norm=4.0))
    inputs = {"influence": MethodInput({"weights": theta, "direction": theta})}
    published = published_norms(MODEL_OWNER, ModelOwnerInput(), theta, inputs, plan)["weight_norm"]
    ring = torch.round(theta * 2.0**16).to(torch.int64)
    assert set(ring.flatten().tolist()) == {-1, 1}
    assert longest_weights(ring) <= (c * (published - WEIGHT_ROOM) * 2.0**16) ** 2


# ---- between processes, of which the model owner's cheats


def digits() -> tuple[Dataset, Dataset, Dataset, Dataset]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    parts = {"train": (0, 200), "test": (200, 300), "a": (400, 700), "b": (700, 900)}
    return tuple(Dataset.of(x[start:end], y[start:end], 10, name) for name, (start, end) in parts.items())


NOISE = NoisedRelease(epsilon=1.0, delta=1e-6, row_norm=8.0)
CASES = {
    "clear": (Value(), "nothing"),
    "honest": (NOISE, "nothing"),
    "spread": (NOISE, "spread"),
    "stated spread": (replace(NOISE, spread=2.0**-8), "direction"),
    "weights": (NOISE, "weights"),
    "spread, not checked": (NOISE, "spread"),
}
METHODS = (GradientNorm(), Influence())
BOUND = 120.0


def cheat(which: str, patch) -> None:
    """Patch the model owner's process, so that it announces or shares something else than it should."""
    if which == "spread":
        patch.setattr(NoisedRelease, "announce", lambda self, owned: (owned, {"spread": 2.0**-12}))
    if which == "direction":
        patch.setattr(NoisedRelease, "announce", lambda self, owned: (owned, {}))
    if which == "weights":
        announce = NoisedRelease.announce

        def longer(self, owned):
            shared, announced = announce(self, owned)
            return {m: one | {"weights": 30 * one["weights"]} for m, one in shared.items()}, announced

        patch.setattr(NoisedRelease, "announce", longer)


def play(role, address, emit, folder, plans, own, ports, cheats, checked):
    """One party of all these appraisals, one after the other; what each came to."""
    found = []
    for plan, port, which, check in zip(plans, ports, cheats, checked, strict=True):
        with pytest.MonkeyPatch.context() as patch:
            if role == MODEL_OWNER:
                cheat(which, patch)
            if not check:
                patch.setattr(joint_program, "check_announced_norms", lambda *given: None)
            try:
                found.append(take_part(role, f"tcp://127.0.0.1:{port}", plan, lambda: own, emit, session_name="spawn"))
            except Exception as error:  # noqa: BLE001  it is compared
                found.append(f"{type(error).__name__}: {error}")
    return found


@pytest.fixture(scope="module")
def played():
    train, test, *candidates = digits()
    public = {"methods": [repr(m) for m in METHODS]}
    plans = [
        Plan(
            METHODS,
            L2,
            0,
            config_hash(public | {"release": repr(release)}),
            partial(fit, l2=L2),
            public,
            release=release,
            logit_bound=BOUND,
        )
        for release, _ in CASES.values()
    ]
    shared = {
        "plans": plans,
        "ports": [free_port() for _ in CASES],
        "cheats": [which for _, which in CASES.values()],
        "checked": ["not checked" not in name for name in CASES],
    }
    jobs = {
        MODEL_OWNER: shared | {"own": ModelOwnerInput(train, test, threshold=0.0)},
        DATA_OWNER: shared | {"own": DataOwnerInput(tuple(candidates))},
        DEALER: shared | {"own": None},
    }
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        found = launch(play, jobs, lambda event: None)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return {name: {role: found[role][k] for role in jobs} for k, name in enumerate(CASES)}


def test_an_honest_model_owner_passes_and_the_check_is_listed_once_a_method(played):
    for role in OWNERS:
        records = played["honest"][role]
        assert not isinstance(records, str), records
        for method in METHODS:
            first, second = (r for r in records if r.method == method.name)
            assert [(o["what"], o["to"], o["numbers"]) for o in first.openings][0] == (WHAT, list(OWNERS), 1)
            assert len(first.openings) == 2 and [o["what"] for o in second.openings] == [first.openings[1]["what"]]
            for record in (first, second):
                assert record.estimate["rounds"] == record.rounds and record.failure_probability == 0.0
                sent = {party: record.estimate[f"bytes_sent.{party}"] for party in record.bytes_sent}
                assert sent == record.bytes_sent


def test_the_cost_preview_counts_the_check(played, monkeypatch):
    records = [r for r in played["honest"][MODEL_OWNER] if r.candidate == "a"]
    facts = Facts(64, 10, 200, 100, 300, L2)
    found = estimate(METHODS, facts, 1, BOUND, NOISE)
    for party, count in found.bytes_sent.items():  # what both methods share is halved, to the byte
        assert abs(count - sum(r.bytes_sent[party] for r in records)) <= 2
    monkeypatch.setattr(joint_program, "check_announced_norms", lambda *given: None)
    without = estimate(METHODS, facts, 1, BOUND, NOISE)
    assert without.rounds < found.rounds
    assert all(without.bytes_sent[party] < found.bytes_sent[party] for party in found.bytes_sent)


@pytest.mark.parametrize("name", ["spread", "stated spread", "weights"])
def test_a_model_owner_that_shares_longer_matrices_than_announced_is_named_and_nothing_is_opened(played, name):
    for role in OWNERS:  # the owner that opens the verdict last may hear of the other's stop first
        assert isinstance(played[name][role], str), "a value was released"
        for part in ("model_owner has shared weights", "no value is released"):
            assert part in played[name][role], played[name][role]
    assert any(played[name][role].startswith("BoundError") for role in OWNERS), played[name]
    assert isinstance(played[name][DEALER], str)


def test_that_cheat_reads_the_value_where_nothing_is_checked(played):
    (clear,) = (r for r in played["clear"][MODEL_OWNER] if (r.method, r.candidate) == ("influence", "a"))
    (honest,) = (r for r in played["honest"][MODEL_OWNER] if (r.method, r.candidate) == ("influence", "a"))
    (lying,) = (r for r in played["spread, not checked"][MODEL_OWNER] if (r.method, r.candidate) == ("influence", "a"))
    assert lying.release["epsilon"] <= 1.0 and lying.release["deviation"] < honest.release["deviation"] / 100
    assert abs(lying.value - clear.value) < 6 * lying.release["deviation"] / 100 + 1e-4 < 0.05 * abs(clear.value)
