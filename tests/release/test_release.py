"""What is released, to whom, and nothing else: strategies between real processes and, for what is exact, on shares.

Values are compared with autograd's and numpy's, winners with a sort, fixed point with integers. Noise cannot be seeded:
the chance of a false alarm is about 1e-6 a test, and each test of noise is run on wrong noise as well.
"""

from __future__ import annotations

import itertools
import math
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import oracles
import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port
from scipy import stats
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from three import run

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.norms import published_norms
from mpc_appraisal.appraisal.party import _fitted, take_part
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.common.errors import InputError, OwnerError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Appraiser, Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.fast import DrySession, FastSession, TrainingContext
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.protocols.limits import TOLD_WHAT
from mpc_appraisal.mpc.protocols.logit_bound import WHAT as CHECK
from mpc_appraisal.mpc.protocols.tensors import Secret
from mpc_appraisal.mpc.session import Opening, PlainSession, Session
from mpc_appraisal.release import Best, Bit, Mechanism, NoisedRelease, Release, Value, epsilon
from mpc_appraisal.release.base import Score
from mpc_appraisal.release.best import WHICH
from mpc_appraisal.release.bit import WHAT as BIT
from mpc_appraisal.release.bit import reaches
from mpc_appraisal.release.dp.release import NOISED, clamp, smallest_sigma

torch.set_num_threads(1)
L2, D, C = 1e-2, 4, 3
METHODS = (GradientNorm(), Influence(), Finetuning(steps=3, lr=1.0))
SIZES = {"small": (20, 0.9), "large": (5000, 0.3), "clean": (60, 0.0), "noisy": (40, 1.0)}  # rows, labels redrawn
RARE = 1e-6

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
            assert listed(record) == expected(method, (BIT, list(release.learners)))
            published = truth()[method, name] >= t[method] if role in release.learners else None
            assert record.release["decision"] is published, (method, name, record.release)
            assert record.value is record.paper_value is record.plaintext_value is None
            assert all(record.release[key] is None for key in ("low", "high", "deviation", "winner", "rank"))


@pytest.mark.parametrize("key", list(BITS))
def test_a_plain_session_decides_alike(bare, key):
    release, t = BITS[key]
    plain = appraise(CANDIDATES, train=TRAIN, test=TEST, method=METHODS, session="plain", release=release, threshold=t)
    learner = release.learners[0]
    for record in plain:
        assert record.release["decision"] is bare[key][learner][record.method, record.candidate].release["decision"]
        assert record.value is None


def test_both_decisions_occur_for_each_method_and_candidate(bare):
    for pair in itertools.product(OPENS, CANDIDATES):
        decisions = {bare[key][BITS[key][0].learners[0]][pair].release["decision"] for key in SIDES}
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
                openings = [(WHICH, list(best.learners)), (OPENS[method], list(best.learners))] * len(won)
                assert listed(record) == expected(method, *openings)
                if role not in best.learners:
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
    records = bare[key][BESTS[key].learners[0]]
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


# ---- with noise, between processes

R, SIGMA = 2.5, 1e-4  # a quarter of the rows is longer than R; so little noise that answers are known beforehand
PRIVATE, FINE = NoisedRelease(sigma=SIGMA, row_norm=R), NoisedRelease(sigma=SIGMA, row_norm=R, ceiling=0.5)
TWO, TUNED, FAR_OFF = METHODS[:2], METHODS[2:], (Finetuning(steps=3, lr=40.0),)
OTHERS = tuple(Dataset(1000 * c.x.flip(0) + 7, torch.zeros_like(c.y), C, c.name) for c in CANDIDATES.values())


def told_check(name: str) -> list[tuple[str, list[str], int]]:
    """What is opened with the first candidate of gradient norm and influence: that the model owner told true norms."""
    return [(TOLD_WHAT, list(OWNERS), 1)] if name == next(iter(CANDIDATES)) else []


def around(name: str, sign: int) -> dict[str, float]:
    return {m.name: (v := truth(R)[m.name, name]) + sign * 5 * off(m.name, v) for m in TWO}


NOISED_BITS = {(side, name): around(name, sign) for name in ("small", "large") for side, sign in SIGNS.items()}


@pytest.fixture(scope="module")
def noised():
    asked = {"value": Asked(PRIVATE, TWO), "to one": Asked(replace(PRIVATE, to=DATA_OWNER), TWO)}
    asked |= {"tuned": Asked(FINE, TUNED), "off the bound": Asked(FINE, FAR_OFF)}
    asked["other data"] = Asked(PRIVATE, TWO, candidates=OTHERS)
    bit = replace(PRIVATE, what="bit")
    asked |= {key: Asked(bit, TWO, threshold=t) for key, t in NOISED_BITS.items()}
    return launched(asked)


def test_a_noised_value_is_that_of_clipped_rows_and_its_noise_is_stated(noised):
    for records in noised["value"].values():
        for (method, name), record in records.items():
            value, published = truth(R)[method, name], record.release
            deviation = (published["high"] - published["low"]) / (2 * 1.96)
            assert published["low"] <= record.value <= published["high"]
            assert abs(record.value - value) < off(method, value) + 7 * deviation < abs(truth()[method, name] - value)
            assert listed(record) == [*told_check(name), (NOISED + OPENS[method], list(OWNERS), 1)]
            assert published["deviation"] == pytest.approx(
                math.sqrt(2) * published["sigma"] * published["sensitivity"], rel=1e-12
            )
            assert published["sigma"] == SIGMA and record.failure_probability == 0.0
            assert published["epsilon"] == pytest.approx(epsilon([Mechanism("gaussian", sigma=SIGMA)], 1e-6), rel=0.1)
    both = [{key: r.value for key, r in records.items()} for records in noised["value"].values()]
    assert both[0] == both[1]


def test_the_stated_sensitivities_are_about_those_of_real_numbers(noised):
    theta = fit(TRAIN, l2=L2).theta
    mean = torch.autograd.functional.jacobian(lambda t: oracles.loss(t, TEST.x, TEST.y), theta)
    direction = np.linalg.solve(oracles.hessian(theta, TRAIN.x, TRAIN.y, L2), mean.reshape(-1)).reshape(D + 1, C)
    widest = max(np.linalg.norm(direction[:, i] - direction[:, j]) for i in range(C) for j in range(C))
    for (method, name), record in noised["value"][MODEL_OWNER].items():
        rows, published = SIZES[name][0], record.release["sensitivity"]
        if method == "influence":
            assert 2 * R * widest < published < 1.2 * 2 * R * widest  # D is told rounded up to four bits
        else:
            scale = 2.0 ** math.floor(math.log2(2**8.5 / (rows * R)))
            assert 1 < published / (8 * (rows - 1) * scale**2 * R**2) < 1.05


def test_a_noised_value_to_one_owner(noised):
    for role, records in noised["to one"].items():
        for (method, name), record in records.items():
            assert listed(record) == [*told_check(name), (NOISED + OPENS[method], [DATA_OWNER], 1)]
            if role == DATA_OWNER:
                assert abs(record.value - truth(R)[method, name]) < 5 * off(method, record.value)
            else:
                assert record.value is record.paper_value is record.release["low"] is record.release["high"] is None


@pytest.mark.parametrize("key", list(NOISED_BITS))
def test_a_noised_bit(noised, key):
    for records in noised[key].values():
        for (method, name), record in records.items():
            assert record.release["decision"] is (truth(R)[method, name] >= NOISED_BITS[key][method])
            assert listed(record) == [*told_check(name), (BIT, list(OWNERS), 1)] and record.value is None
            assert record.release["sensitivity"] > 0 and record.release["epsilon"] > 0
    decisions = {r.release["decision"] for (_, name), r in noised[key][MODEL_OWNER].items() if name == key[1]}
    assert decisions == {key[0] == "below"}


def test_a_plain_session_with_noise():
    own = {"train": TRAIN, "test": TEST, "method": TWO, "session": "plain"}
    for record in appraise(CANDIDATES, release=PRIVATE, **own):
        assert abs(record.value - truth(R)[record.method, record.candidate]) < 5 * off(record.method, record.value)
        assert record.release["low"] <= record.value <= record.release["high"] and record.release["sigma"] == SIGMA
    for (side, name), t in NOISED_BITS.items():
        for record in appraise(CANDIDATES, release=replace(PRIVATE, what="bit"), threshold=t, **own):
            assert record.release["decision"] is (truth(R)[record.method, record.candidate] >= t[record.method])
            assert record.candidate != name or record.release["decision"] is (side == "below")


def test_private_finetuning_opens_one_number_and_none_of_weights_that_left_the_bound(noised):
    for key, lr in (("tuned", 1.0), ("off the bound", 40.0)):
        for (method, name), record in noised[key][DATA_OWNER].items():
            assert listed(record) == [(NOISED + OPENS[method], list(OWNERS), 1)]
            deviation = record.release["deviation"] / TEST.rows
            value = truth(R, lr)[method, name] if lr == 1.0 else 0.0
            assert abs(record.value - value) < off(method, value) + 7 * deviation
            assert record.release["sensitivity"] == 2 * FINE.ceiling * TEST.rows
    assert min(abs(truth(R, 40.0)["finetuning", name]) for name in CANDIDATES) > 0.2


def test_what_is_told_before_does_not_depend_on_the_rows(noised):
    """The request holds the notes that the owners told; its digest is the same for very different rows."""
    digests = {key: {r.request["digest"] for r in noised[key][MODEL_OWNER].values()} for key in noised}
    assert len(digests["value"]) == 1 and digests["value"] == digests["other data"]
    notes = {}
    for release in (PRIVATE, Value()):
        plan = replace(Asked(release).plan(), release=release)
        for key, data in (("these", tuple(CANDIDATES.values())), ("others", OTHERS)):
            notes[release.kind, key] = published_norms(DATA_OWNER, DataOwnerInput(data), None, {}, plan)
    assert notes["dp", "these"] == notes["dp", "others"] == {"row_norm": R}
    assert notes["value", "these"] != notes["value", "others"]


# ---- on shares, in this process


class Threads(FastSession):
    """An owner's session over an engine of `three`."""

    def __init__(self, engine):
        Session.__init__(self)
        self.role, self.channel, self.context = OWNERS[engine.me], engine.channel, TrainingContext(engine, 16.0)


class ShapesOnly(DrySession):
    """The dry one."""

    def __init__(self, engine):
        Session.__init__(self)
        self.role, self.context, self.marks = MODEL_OWNER, TrainingContext(engine, 16.0), []


def session_of(engine) -> Session:
    return (ShapesOnly if engine.dry else Threads)(engine)


def shared(ring: list[int], bits: int, seed: int = 0):
    """Uniform shares of ring elements, as a secret of an engine's session."""
    exact = torch.tensor(ring, dtype=torch.int64)
    r = torch.randint(-(2**63), 2**63 - 1, exact.shape, generator=torch.Generator().manual_seed(seed))

    def secret(session: Session) -> Secret:
        engine = session.context.engine
        share = torch.empty(exact.shape, dtype=torch.int64, device="meta") if engine.dry else (r, exact - r)[engine.me]
        return Secret(session.context, share, bits)

    return secret


@dataclass(frozen=True)
class Number(Appraiser):
    """Its score is its value, or the value's opposite."""

    name: ClassVar[str] = "number"
    needs: ClassVar[frozenset[str]] = frozenset()
    opens: ClassVar[str] = "a number"
    rising: ClassVar[bool] = True

    def private_shapes(self, facts):
        return {}

    def prepare(self, model, train, test):
        return {}

    def score(self, owned, x, y, facts):
        raise AssertionError("the scores of this method are given")

    def opened_at(self, value, facts):
        return value if self.rising else -value

    def comparable(self, score, facts):
        return score

    def paper_value(self, opened, facts):
        return -opened if self.rising else opened


class Falling(Number):
    rising: ClassVar[bool] = False


FACTS = Facts(D, C, 60, 30, 10, L2, R, R, 16.0, 1.0)


def wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize(("low", "high", "bits"), [(-1.5, 2.25, 34), (0.0, 2.0**18, 36), (-(2.0**22), 2.0**22, 36)])
def test_clamp_of_any_ring_element(low, high, bits):
    ends = [int(end * 2**bits) for end in (low, high)]
    g = np.random.default_rng(5)
    ring = [end + step for end in (*ends, 0, 2**62, -(2**62)) for step in (-1, 0, 1)]
    ring += [2**63 - 1, 2**63 - 2, -(2**63), 1 - 2**63, *g.integers(-(2**63), 2**63, 200).tolist()]
    ring += [*g.integers(ends[0], ends[1], 100).tolist(), *(2 * g.integers(ends[0], ends[1], 100)).tolist()]
    secret = shared(ring, bits)
    done = run(lambda engine: clamp(secret(session_of(engine)), low, high).share)
    found = (done.results[0] + done.results[1]).tolist()

    def exact(v: int) -> int:
        v = ends[0] if wrapped(v - ends[0]) < 0 else v
        return ends[1] if wrapped(ends[1] - v) < 0 else v

    assert found == [exact(v) for v in ring]
    assert all(ends[0] <= v <= ends[1] for v in found)
    assert all(out == min(max(v, ends[0]), ends[1]) for v, out in zip(ring, found, strict=True) if abs(v) <= 2**62)
    assert {ends[0], ends[1], ends[0] + 1, ends[1] - 1} <= set(found)


@pytest.mark.parametrize("method", [Number(), Falling()], ids=["rising", "falling"])
def test_the_threshold_is_compared_to_the_last_of_its_29_bits(method):
    bits, sign, unit = 36, 1 if method.rising else -1, 2.0**-29
    values = [0.0, unit, 0.75, -0.75, 1000 - unit, -1000.0, 2.0**17 + unit]
    cases = [(v, v + k * unit) for v in values for k in (-1, 0, 1)]
    cases += [(v, t) for v in (-(2.0**18), 0.0, 2.0**18) for t in (1e12, -1e12, 1e300, -1e300)]
    secrets = [shared([round(sign * v * 2**bits)], bits, seed) for seed, (v, _) in enumerate(cases)]

    def program(engine):
        session = session_of(engine)
        return torch.cat(
            [
                reaches(session, Score(method, "", FACTS, None), secret(session), lambda t=t: t).share
                for secret, (_, t) in zip(secrets, cases, strict=True)
            ]
        )

    done = run(program)
    assert (done.results[0] + done.results[1]).tolist() == [int(v >= t) for v, t in cases]


BEST_CASES = [  # k, values, budget, prices
    (k, values, budget, prices)
    for values in ([5], [3, 3], [2, 2, 2, 2], [-7, 4, 4, -7, 0])
    for k in (2, len(values) + 2)
    for budget, prices in (
        (None, None),
        (3.0, [2.0, 1.0, 3.0, 0.0, 1.5]),
        (0.3, [0.1, 0.1, 0.1, 0.2, 0.4]),
        (0.0, [9.0] * 5),
    )
]


@pytest.mark.parametrize("method", [Number(), Falling()], ids=["rising", "falling"])
def test_the_best_of_equals_are_the_first_and_prices_are_added_exactly(method):
    sign = 1 if method.rising else -1
    built = []
    for seed, (k, values, budget, prices) in enumerate(BEST_CASES):
        names = [f"c{j}" for j in range(len(values))]
        stated = None if prices is None else dict(zip(names, prices, strict=False))
        # of different precision, as those of candidates of different sizes are
        bits = [20 + 7 * (j % 3) for j in range(len(values))]
        secrets = [shared([sign * v << b], b, 9 * seed + j) for j, (v, b) in enumerate(zip(values, bits, strict=True))]
        built.append((Best(k, budget=budget, prices=stated), names, secrets))

    def program(engine):
        found = []
        for release, names, secrets in built:
            session = session_of(engine)
            session.permit(release.openings(method, len(names)))
            scores = [Score(method, n, FACTS, secret(session)) for n, secret in zip(names, secrets, strict=True)]
            found.append((release.all(session, scores), session.ledger))
        return found

    counts = set()
    for results in run(program).results:
        for (k, values, budget, prices), (outcomes, ledger) in zip(BEST_CASES, results, strict=True):
            left, money, won = list(range(len(values))), budget, []
            money = None if budget is None else round(10 * budget)
            while len(won) < k:
                able = [j for j in left if money is None or round(10 * prices[j]) <= money]
                if not able:
                    break
                won.append(max(able, key=lambda j: (values[j], -j)))
                left.remove(won[-1])
                money = money if money is None else money - round(10 * prices[won[-1]])
            assert [o.rank for o in outcomes] == [won.index(j) + 1 if j in won else None for j in range(len(values))]
            assert [o.winner for o in outcomes] == [j in won for j in range(len(values))]
            assert [o.opened for o in outcomes] == [sign * v if j in won else None for j, v in enumerate(values)]
            assert [o.what for o in ledger] == [WHICH, method.opens] * len(won)
            counts.add(len(won))
    assert counts >= {0, 1, 2, 3, 4, 5}


# ---- openings that nobody approved


def test_what_was_not_approved_is_not_opened_nor_is_any_message_of_it_sent():
    secret = shared([1 << 16, 2 << 16], 16)
    value, pair = Opening("a value", OWNERS, 1, "asked"), Opening("a pair", (MODEL_OWNER,), 2, "asked")
    tries = [  # what, to, whether both numbers, and whether it is permitted after all before it
        ("a value", OWNERS, False, True),
        ("a value", OWNERS, False, False),  # once too often
        ("a pair", (MODEL_OWNER,), True, True),
        ("a pair", (MODEL_OWNER,), True, False),
        ("another", OWNERS, False, False),
        ("a pair", OWNERS, True, False),  # to more
        ("a pair", (DATA_OWNER,), True, False),  # to another
        ("a value", OWNERS, True, False),  # more numbers
    ]

    def program(engine):
        session, found = session_of(engine), []
        session.permit([value, pair])
        if engine.dry:
            return
        s = secret(session)
        for what, to, whole, _ in tries:
            before, known = engine.channel.meter.cost().bytes_sent, len(session.ledger)
            try:
                session.reveal(s if whole else s[:1], what, "for another reason", to)
                refused = False
            except OwnerError as error:
                assert "was not approved" in str(error) and what in str(error)
                refused = True
            sent = engine.channel.meter.cost().bytes_sent - before
            found.append((refused, sent, len(session.ledger) - known, len(engine.channel.seen)))
        return found

    done = run(program)
    for me, results in enumerate(done.results):
        assert [refused for refused, *_ in results] == [not good for *_, good in tries]
        assert all(sent == more == 0 for refused, sent, more, _ in results if refused)
        assert all(more == 1 for refused, _, more, _ in results if not refused)
        # a commitment, then nonce and share, to both; a share alone to one
        assert [sent for refused, sent, *_ in results if not refused] == [32 + 32 + 8, 0 if me == 0 else 16]
        assert {seen for *_, seen in results[2:]} == {len(done.seen[me])}, "nothing came after the last permitted one"


@pytest.mark.parametrize("permitted", [[], [Opening("a value", OWNERS, 1, "")]])
def test_a_plain_session_refuses_too(permitted):
    session = PlainSession()
    session.permit(permitted)
    for _ in permitted:
        assert session.reveal(torch.ones(1), "a value", "").item() == 1
    with pytest.raises(OwnerError, match="a value.*not approved"):
        session.reveal(torch.ones(1), "a value", "")
    assert len(session.ledger) == len(permitted)


# ---- noise

DRAWS = 400


def is_noise(draws: np.ndarray, deviation: float) -> bool:
    """Whether independent draws have mean 0 and this deviation; a false alarm has a chance below 2 RARE."""
    n = len(draws)
    low, high = stats.chi2.ppf([RARE / 2, 1 - RARE / 2], n)
    mean = abs(draws.mean()) * math.sqrt(n) / deviation
    return bool(low <= np.square(draws / deviation).sum() <= high and mean <= stats.norm.ppf(1 - RARE / 2))


class Noted(NoisedRelease):
    """Keeps what it draws, and draws at wrong scales: factors by owner."""

    factor, drawn = 1.0, None

    def _draw(self, delta, bits):
        if not self.factor:
            self.drawn.append(0.0)
            return 0
        unit = super()._draw(self.factor * delta, bits)
        self.drawn.append(unit / 2**bits)
        return unit


def released(factors: tuple[float, float]) -> tuple[np.ndarray, list[np.ndarray], float, float]:
    """What DRAWS private influences of 3 differ from 3 by; each owner's own draws; sigma and sensitivity."""
    release = Noted(sigma=2.0, row_norm=R)
    secret = shared([3 << 34], 34)

    def program(engine):
        mine, session = Noted(sigma=2.0, row_norm=R), session_of(engine)
        object.__setattr__(mine, "factor", factors[engine.me])
        object.__setattr__(mine, "drawn", [])
        score = Score(Influence(), "", FACTS, secret(session))
        opened = [mine.one(session, score, None).opened for _ in range(DRAWS)]
        return opened, mine.drawn

    done = run(program)
    assert done.results[0][0] == done.results[1][0]
    own = [np.array(drawn) for _, drawn in done.results]
    return np.array(done.results[0][0]) - 3, own, 2.0, release.sensitivity(Influence(), FACTS)


def test_each_owner_adds_noise_of_its_own_of_the_stated_scale():
    noise, own, sigma, delta = released((1.0, 1.0))
    assert 2 * R * FACTS.spread <= delta < 2.1 * R * FACTS.spread
    assert np.allclose(noise, own[0] + own[1], atol=2.0**-30)
    assert is_noise(noise, math.sqrt(2) * sigma * delta)
    for mine in own:  # what an owner who takes its own off is left with
        assert is_noise(mine, sigma * delta) and is_noise(noise - mine, sigma * delta)
    assert abs(np.corrcoef(own[0], own[1])[0, 1]) * math.sqrt(DRAWS) < stats.norm.ppf(1 - RARE / 2)
    assert len(np.unique(noise)) == DRAWS


@pytest.mark.parametrize("factors", [(2.0, 2.0), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_noise_of_a_wrong_scale_or_of_one_owner_alone_is_noticed(factors):
    noise, own, sigma, delta = released(factors)
    assert not is_noise(noise, math.sqrt(2) * sigma * delta)
    for me in (0, 1):
        assert is_noise(noise - own[me], sigma * delta) == (factors[1 - me] == 1.0)


def test_a_plain_session_adds_the_noise_of_both():
    release, session = NoisedRelease(sigma=2.0, row_norm=R), PlainSession()
    score = Score(Influence(), "", FACTS, torch.tensor(3.0, dtype=torch.float64))
    noise = np.array([release.one(session, score, None).opened for _ in range(DRAWS)]) - 3
    assert is_noise(noise, math.sqrt(2) * 2.0 * release.sensitivity(Influence(), FACTS))


@pytest.mark.parametrize(("method", "bits", "most"), [(GradientNorm(), 36, 2.0**18), (Influence(), 34, 0.0)])
def test_the_most_noise_that_is_allowed_can_be_opened(method, bits, most):
    """Noise of both owners, and the largest value, are mostly below the 2^55 units that an opening refuses."""
    f, low, high = replace(FACTS, rows=60, spread=1000.0), 1e-4, 1e9
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        try:
            NoisedRelease(sigma=middle, row_norm=R).mechanism(method, f)
            low = middle
        except InputError:
            high = middle
    deviation = math.sqrt(2) * low * NoisedRelease(sigma=low, row_norm=R).sensitivity(method, f)
    assert 2 * stats.norm.sf((2.0 ** (55 - bits) - most) / deviation) < 1e-7
    secret, release = shared([0], bits), NoisedRelease(sigma=low, row_norm=R)
    released = run(
        lambda e: [release.one(s := session_of(e), Score(method, "", f, secret(s)), None) for _ in range(20)]
    )
    assert all(abs(outcome.opened) > 0 for outcome in released.results[0])


# ---- refusals


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NoisedRelease(), r"^release\.row_norm: got None"),
        (lambda: NoisedRelease(row_norm=1.0), r"^release\.row_norm: got 1\.0"),
        (lambda: NoisedRelease(row_norm=3.0, delta=1.0), r"^release\.delta: got 1\.0"),
        (lambda: NoisedRelease(row_norm=3.0, delta=0.0), r"^release\.delta: got 0\.0"),
        (lambda: NoisedRelease(row_norm=3.0, epsilon=math.nan), r"^release\.epsilon: got nan"),
        (lambda: NoisedRelease(row_norm=3.0, epsilon=1e-9, delta=1e-12), r"^release\.epsilon: got 1e-09"),
        (lambda: NoisedRelease(row_norm=3.0, sigma=0.0), r"^release\.sigma: got 0\.0"),
        (lambda: NoisedRelease(row_norm=3.0, ceiling=-1.0), r"^release\.ceiling: got -1\.0"),
        (lambda: NoisedRelease(row_norm=3.0, spread=math.inf), r"^release\.spread: got inf"),
        (lambda: NoisedRelease(row_norm=3.0, what="rank"), r"^release\.what: got 'rank'"),
        (lambda: NoisedRelease(row_norm=3.0, to="dealer"), r"^release\.to: got 'dealer'"),
        (lambda: NoisedRelease(row_norm=3.0).check(TUNED), r"^release\.ceiling: got None.*finetuning"),
        (lambda: NoisedRelease(row_norm=3.0).check([Number()]), r"^release\.ceiling: got None.*number"),
        (lambda: Value("nobody"), r"^release\.to: got 'nobody'"),
        (lambda: Bit("nobody"), r"^release\.to: got 'nobody'"),
        (lambda: Best(1, "nobody"), r"^release\.to: got 'nobody'"),
        (lambda: Best(0), r"^release\.k: got 0"),
        (lambda: Best(True), r"^release\.k: got True"),
        (lambda: Best(1.5), r"^release\.k: got 1\.5"),
        (lambda: Best(1, budget=-1.0), r"^release\.budget: got -1\.0"),
        (lambda: Best(1, budget=math.nan), r"^release\.budget: got nan"),
        (lambda: Best(1, prices={"a": 1.0}), r"^release\.budget: got None"),
        (lambda: Best(1, budget=1.0, prices={"a": math.inf}), r"^release\.prices\.a: got inf"),
        (lambda: Best(1, MODEL_OWNER, 1.0, {"a": 1.0}), r"^release\.to: got .*model_owner"),
        (lambda: Best(1, budget=1.0).check((), ["a"]), r"^release\.prices: got \[\].*'a'"),
        (lambda: Best(1, budget=1.0, prices={"a": 1.0}).check((), ["a", "b"]), r"^release\.prices: got \['a'\].*'b'"),
        (lambda: Best(1, budget=1.0).priced({"a": 1.0, "b": None}).check((), "ab"), r"^release\.prices: got \['a'\]"),
    ],
)
def test_a_release_that_cannot_be_is_refused_by_name(make, said):
    with pytest.raises(InputError, match=said):
        make()


def asked_in_the_clear(release, threshold=None, session="plain", **more):
    data = {"small": CANDIDATES["small"]}
    return appraise(data, train=TRAIN, test=TEST, release=release, threshold=threshold, session=session, **more)


@pytest.mark.parametrize("release", [Bit(), replace(PRIVATE, what="bit")])
@pytest.mark.parametrize("stated", [None, math.nan, math.inf, True, {"gradient_norm": 1.0}, {"influence": "1"}])
def test_a_bit_needs_a_threshold(release, stated):
    with pytest.raises(InputError, match=r"^party\.threshold: got .*influence"):
        asked_in_the_clear(release, stated)


def test_prices_that_miss_a_candidate_and_methods_without_ceiling_are_refused_by_appraise():
    with pytest.raises(InputError, match=r"^release\.prices"):
        asked_in_the_clear(Best(1, budget=1.0))
    with pytest.raises(InputError, match=r"^release\.ceiling"):
        asked_in_the_clear(NoisedRelease(row_norm=3.0), method=TUNED)
    with pytest.raises(InputError, match=r"^release: got 'best'"):
        asked_in_the_clear("best")


def test_noise_that_the_ring_cannot_hold_is_refused_before_anything_is_shared():
    release = NoisedRelease(row_norm=R, ceiling=1e12)
    with pytest.raises(InputError, match=r"^release\.(ceiling|sigma): got .*(the ring holds|when it is opened)"):
        asked_in_the_clear(release, method=TUNED)
    with pytest.raises(InputError, match=r"^release\.ceiling: got .*finetuning.*(the ring holds|when it is opened)"):
        asked_in_the_clear(release, method=TUNED, session="spawn")
    with pytest.raises(InputError, match=r"^release\.ceiling"):  # what the request, before any session, is made of
        release.privacy(Finetuning(), FACTS)


@pytest.mark.parametrize("release", [Bit(), PRIVATE, Best(1)])
def test_crypten_as_shipped_opens_values_alone(release):
    for engine in ("fast", "stock"):
        plan = replace(Asked(release, TWO).plan(), engine=engine)
        with nullcontext() if engine == "fast" else pytest.raises(InputError, match=rf"^release: got '?{release.kind}"):
            assert _fitted(plan, list(CANDIDATES), {}) is release


@pytest.mark.parametrize(("target", "delta"), [(0.05, 1e-6), (0.5, 1e-9), (1.0, 1e-6), (4.0, 1e-3)])
def test_the_smallest_sigma_is_enough_and_hardly_more(target, delta):
    """Against the exact curve of a Gaussian (Balle and Wang 2018, theorem 8)."""

    def delta_of(sigma: float) -> float:
        a, b = 1 / (2 * sigma), target * sigma
        return stats.norm.cdf(a - b) - math.exp(target) * stats.norm.cdf(-a - b)

    sigma = smallest_sigma(target, delta)
    assert NoisedRelease(epsilon=target, delta=delta, row_norm=R).sigma == sigma
    assert delta_of(sigma) <= delta < delta_of(0.998 * sigma)
    assert epsilon([Mechanism("gaussian", sigma=sigma)], delta) <= target
    assert epsilon([Mechanism("gaussian", sigma=0.998 * sigma)], delta) > target
    release = NoisedRelease(epsilon=target, delta=delta, row_norm=R)
    assert 0.99 * target < release.privacy(Influence(), FACTS)["epsilon"] <= target
