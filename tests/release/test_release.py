"""What is released, to whom, and nothing else: strategies between real processes and, for what is exact, on shares.

Values are compared with autograd's and numpy's, winners with a sort, fixed point with integers. Noise cannot be seeded:
the chance of a false alarm is below 1e-10 a test, and each test of noise is run on wrong noise as well.
"""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import cloudpickle
import numpy as np
import oracles
import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Appraiser, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.protocols.checks import LOGIT_CHECK_WHAT as CHECK
from mpc_appraisal.release import Best, Bit, NoisedRelease, Release, Value
from mpc_appraisal.release.best import WHICH
from mpc_appraisal.release.bit import WHAT as BIT

torch.set_num_threads(1)
L2, D, C = 1e-2, 4, 3
METHODS = (GradientNorm(), Influence(), Finetuning(steps=3, lr=1.0))
SIZES = {"small": (20, 0.9), "large": (5000, 0.3), "clean": (60, 0.0), "noisy": (40, 1.0)}  # rows, labels redrawn
RARE = 1e-11

TRAIN, TEST = (Dataset(*oracles.problem(n, D, C, seed, 0.1), C) for seed, n in ((1, 60), (2, 30)))
CANDIDATES = {
    name: Dataset(*oracles.problem(rows, D, C, 10 + k, noise), C, name)
    for k, (name, (rows, noise)) in enumerate(SIZES.items())
}
BUYER = ModelOwnerInput(TRAIN, TEST)


@cache
def truth(norm: float = math.inf, lr: float = 1.0) -> dict[tuple[str, str], float]:
    """Values in float64, by autograd on the whole loss, a dense Hessian and torch's SGD. norm: candidates' rows, their
    constant feature counted, are no longer than that."""
    theta, found = fit(TRAIN, l2=L2).theta, {}

    def gradient(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        leaf = theta.clone().requires_grad_()
        return torch.autograd.grad(oracles.loss(leaf, x, y, "sum"), leaf)[0]

    of_test = gradient(TEST.x, TEST.y).reshape(-1) / TEST.rows
    direction = np.linalg.solve(oracles.hessian(theta, TRAIN.x, TRAIN.y, L2), of_test)
    before = oracles.loss(theta, TEST.x, TEST.y)
    for name, data in CANDIDATES.items():
        own = data.x * (math.sqrt(norm**2 - 1) / data.x.norm(dim=1, keepdim=True)).clamp(max=1.0)
        x, y = torch.cat([TRAIN.x, own]), torch.cat([TRAIN.y, data.y])
        tuned = oracles.finetuned(theta, x, y, L2, lr, [torch.arange(len(x))] * 3)
        found["gradient_norm", name] = -gradient(own, data.y).norm().item()
        found["influence", name] = float(direction @ gradient(own, data.y).reshape(-1).numpy()) / data.rows
        found["finetuning", name] = (before - oracles.loss(tuned, TEST.x, TEST.y)).item()
    return found


def off(method: str, value: float) -> float:
    """More than fixed point is off by, and far less than candidates differ by."""
    return {"gradient_norm": 5e-4 * abs(value), "influence": 1e-4, "finetuning": 1e-4}[method]


# ---- many appraisals in one launch


@dataclass(frozen=True)
class Asked:
    """One appraisal of a launch."""

    release: Release
    methods: tuple[Appraiser, ...] = METHODS
    threshold: float | dict[str, float] | None = None
    candidates: tuple[Dataset, ...] = tuple(CANDIDATES.values())
    buyer: ModelOwnerInput = BUYER
    l2: float = L2

    def plan(self) -> Plan:
        public = {"methods": [repr(m) for m in self.methods], "l2": self.l2, "release": repr(self.release)}
        return Plan(
            self.methods, self.l2, 0, config_hash(public), partial(fit, l2=self.l2), public, release=self.release
        )

    def own(self, role: str) -> Any:
        buyer = replace(self.buyer, threshold=self.threshold)
        return {MODEL_OWNER: buyer, DATA_OWNER: DataOwnerInput(self.candidates), DEALER: None}[role]


def play(role, address, emit, folder, plans, own, ports):
    """One party of all these appraisals, one after the other."""
    return [
        take_part(role, f"tcp://127.0.0.1:{port}", plan, lambda mine=mine: mine, emit, session_name="spawn")
        for plan, mine, port in zip(plans, own, ports, strict=True)
    ]


def launched(asked: dict[str, Asked]) -> dict[str, dict[str, dict[tuple[str, str], Any]]]:
    """Records by what was asked, role, and (method, candidate)."""
    ports, plans = [free_port() for _ in asked], [a.plan() for a in asked.values()]
    jobs = {role: {"plans": plans, "own": [a.own(role) for a in asked.values()], "ports": ports} for role in ROLES}
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the parties need not import this file
    try:
        found = launch(play, jobs, lambda event: None)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    return {
        key: {role: {(r.method, r.candidate): r for r in found[role][k]} for role in OWNERS}
        for k, key in enumerate(asked)
    }


PRICES = {"small": 3.0, "large": 5.0, "clean": 4.0, "noisy": 2.0}
BESTS = {
    "k=1": Best(1),
    "k=3 to the model owner": Best(3, to=MODEL_OWNER),
    "k=1 to the data owner": Best(1, to=DATA_OWNER),
    "k=7": Best(7),
    "nothing is affordable": Best(2, budget=1.0, prices=PRICES),
    "one is affordable": Best(2, budget=2.5, prices=PRICES),
    "some are affordable": Best(3, budget=7.0, prices=PRICES),
    "all but not together": Best(4, budget=9.0, prices=PRICES),
    "all": Best(9, budget=14.0, prices=PRICES),
}
SIDES = {f"{side} {name}": (side, name) for side, name in itertools.product(("below", "above"), CANDIDATES)}
SIGNS = {"below": -1, "above": 1}
FAR = (1e12, -1e12, 0.0)


def threshold(side: str, name: str) -> dict[str, float]:
    sign = -1 if side == "below" else 1
    return {m.name: (value := truth()[m.name, name]) + sign * off(m.name, value) for m in METHODS}


OPEN = {to: Asked(Value(to)) for to in ("both", *OWNERS)}
TOLD = {"below clean": MODEL_OWNER, "above clean": DATA_OWNER}  # to one alone; the others to both
BITS = {key: (Bit(TOLD.get(key, "both")), threshold(*side)) for key, side in SIDES.items()}
BITS |= {  # each method has each of them
    f"far {k}": (Bit(), {m.name: FAR[(j + k) % 3] for j, m in enumerate(METHODS)}) for k in range(3)
}


@pytest.fixture(scope="module")
def bare():
    """Releases without noise, in one launch."""
    asked = OPEN | {key: Asked(release, threshold=t) for key, (release, t) in BITS.items()}
    asked |= {key: Asked(best) for key, best in BESTS.items()}
    return launched(asked | {"one candidate": Asked(Best(3), candidates=(CANDIDATES["small"],))})


def expected(method: str, *openings: tuple[str, list[str]]) -> list[dict[str, Any]]:
    """(what, to) of all that is opened, the check of fine-tuning's weights first."""
    check = [(CHECK, list(OWNERS))] if method == "finetuning" else []
    return [(*each, 1) for each in (*check, *openings)]


def listed(record) -> list[tuple[str, list[str], int]]:
    return [(opening["what"], opening["to"], opening["numbers"]) for opening in record.openings]


R, SIGMA = 2.5, 5e-5  # a quarter of the rows is longer than R; so little noise that answers are known beforehand
PRIVATE, FINE = NoisedRelease(sigma=SIGMA, row_norm=R), NoisedRelease(sigma=SIGMA, row_norm=R, ceiling=0.5)
TWO, TUNED, FAR_OFF = METHODS[:2], METHODS[2:], (Finetuning(steps=3, lr=40.0),)
OPENS = {m.name: m.opens for m in METHODS}


# ---- values


@pytest.mark.parametrize("to", list(OPEN))
def test_a_value_is_told_to_whom_it_is_for_and_to_nobody_else(bare, to):
    learners = list(OWNERS) if to == "both" else [to]
    for role, records in bare[to].items():
        for (method, name), record in records.items():
            assert listed(record) == expected(method, (OPENS[method], learners))
            assert record.release["to"] == learners and record.release["decision"] is None
            if role in learners:
                assert abs(record.value - truth()[method, name]) < off(method, record.value)
                assert abs(record.paper_value) > 0
            else:
                assert record.value is record.paper_value is record.plaintext_value is record.difference is None


def test_the_distance_from_a_threshold_is_small_beside_the_distance_of_candidates():
    for method in OPENS:
        values = sorted(truth()[method, name] for name in CANDIDATES)
        assert all(b - a > 3 * off(method, b) for a, b in itertools.pairwise(values))


# ---- one bit


@pytest.mark.parametrize("key", list(BITS))
def test_the_bit_is_right_and_is_all_that_is_opened(bare, key):
    release, t = BITS[key]
    for role, records in bare[key].items():
        for (method, name), record in records.items():
            assert listed(record) == expected(method, (BIT, list(release.description.learners)))
            published = truth()[method, name] >= t[method] if role in release.description.learners else None
            assert record.release["decision"] is published, (method, name, record.release)
            assert record.value is record.paper_value is record.plaintext_value is None
            assert all(record.release[key] is None for key in ("low", "high", "deviation", "winner", "rank"))


@pytest.mark.parametrize("key", list(BITS))
def test_a_plain_session_decides_alike(bare, key):
    release, t = BITS[key]
    plain = appraise(CANDIDATES, train=TRAIN, test=TEST, method=METHODS, session="plain", release=release, threshold=t)
    learner = release.description.learners[0]
    for record in plain:
        assert record.release["decision"] is bare[key][learner][record.method, record.candidate].release["decision"]
        assert record.value is None


def test_both_decisions_occur_for_each_method_and_candidate(bare):
    for pair in itertools.product(OPENS, CANDIDATES):
        decisions = {bare[key][BITS[key][0].description.learners[0]][pair].release["decision"] for key in SIDES}
        assert decisions == {True, False}


# ---- the best


def winners(method: str, best: Best, names: list[str], values: dict[tuple[str, str], float]) -> list[str]:
    """By a sort; with a budget the best that can be paid, again and again."""
    order, money, won = sorted(names, key=lambda name: -values[method, name]), best.budget, []
    while len(won) < best.k:
        able = [n for n in order if n not in won and (money is None or best.prices[n] <= money)]
        if not able:
            return won
        won.append(able[0])
        money = money if money is None else money - best.prices[able[0]]
    return won


@pytest.mark.parametrize("key", list(BESTS))
def test_the_winners_are_those_of_a_sort_and_the_others_have_no_value(bare, key):
    best = BESTS[key]
    for role, records in bare[key].items():
        for method in OPENS:
            won = winners(method, best, list(CANDIDATES), truth())
            for name in CANDIDATES:
                record = records[method, name]
                openings = [
                    (WHICH, list(best.description.learners)),
                    (OPENS[method], list(best.description.learners)),
                ] * len(won)
                assert listed(record) == expected(method, *openings)
                if role not in best.description.learners:
                    assert record.release["winner"] is record.release["rank"] is record.value is None
                elif name in won:
                    assert (record.release["winner"], record.release["rank"]) == (True, won.index(name) + 1)
                    assert abs(record.value - truth()[method, name]) < off(method, record.value)
                else:
                    assert (record.release["winner"], record.release["rank"]) == (False, None)
                    assert record.value is record.paper_value is record.plaintext_value is record.difference is None
                    assert not told_somewhere(record, truth()[method, name], off(method, truth()[method, name]))


def told_somewhere(record, value: float, near: float) -> bool:
    """Whether a number of the record is the value, by the method's or the paper's sign."""
    kept = {k: v for k, v in asdict(record).items() if k not in ("seconds", "estimate")}  # any small number at all

    def numbers(part):
        if isinstance(part, dict):
            part = list(part.values())
        if isinstance(part, (list, tuple)):
            return [n for each in part for n in numbers(each)]
        return [part] if isinstance(part, float) else []

    return any(abs(abs(n) - abs(value)) < near for n in numbers(kept))


def test_a_value_that_is_told_is_found_in_the_record(bare):
    for (method, name), record in bare["both"][MODEL_OWNER].items():
        assert told_somewhere(record, truth()[method, name], off(method, truth()[method, name]))


@pytest.mark.parametrize("key", list(BESTS))
def test_a_plain_session_has_the_same_winners(bare, key):
    plain = appraise(CANDIDATES, train=TRAIN, test=TEST, method=METHODS, session="plain", release=BESTS[key])
    records = bare[key][BESTS[key].description.learners[0]]
    for record in plain:
        theirs = records[record.method, record.candidate]
        assert record.release["rank"] == theirs.release["rank"] and (record.value is None) == (theirs.value is None)


def test_the_only_candidate_wins(bare):
    for records in bare["one candidate"].values():
        for (method, name), record in records.items():
            assert record.release["rank"] == 1 and abs(record.value - truth()[method, name]) < off(method, record.value)
            assert listed(record) == expected(method, *[(each, list(OWNERS)) for each in (WHICH, OPENS[method])])


def test_budgets_leave_nothing_one_some_and_all():
    for key, counts in {
        "nothing is affordable": {0},
        "one is affordable": {1},
        "some are affordable": {2},
        "all": {4},
    }.items():
        assert {len(winners(m, BESTS[key], list(CANDIDATES), truth())) for m in OPENS} == counts


def test_appraise_takes_a_release_and_tells_of_it():
    t = threshold("below", "clean")
    result = appraise(CANDIDATES, train=TRAIN, test=TEST, method=METHODS[:2], release="bit", threshold=t)
    for record in result:
        assert record.release["decision"] is (truth()[record.method, record.candidate] >= t[record.method])
        assert record.value is None and listed(record) == [(BIT, list(OWNERS), 1)]
