"""Relevance and diversity: numpy's eigenvectors, blocks, real processes, and no model or label anywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import three
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port, problem, write_csv, write_npz

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal import cost
from mpc_appraisal.appraisal.plan import ModelOwnerInput, Plan
from mpc_appraisal.appraisal.preparation import prepare
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits, with_bias
from mpc_appraisal.methods import Diversity, Facts, GradientNorm, Relevance, plaintext
from mpc_appraisal.methods.base import Appraiser
from mpc_appraisal.methods.preflight.check import glance
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.ops import RowBlocks
from mpc_appraisal.release import Best, Bit, NoisedRelease
from mpc_appraisal.reporting.record import read
from mpc_appraisal.reporting.result import Result

LEARN, _ = Digits().load()
TRAIN = LEARN.subset(range(200))
GOOD = LEARN.subset(range(200, 500)).renamed("good")
FEW = LEARN.subset(range(500, 560)).renamed("few")
DIM = Dataset(LEARN.x[600:800] * 0.5, LEARN.y[600:800], 10, "dim")
NOISY = Dataset(
    LEARN.x[800:1000] + 0.3 * torch.randn(200, 64, generator=torch.Generator().manual_seed(0)),
    LEARN.y[800:1000],
    10,
    "noisy",
)
SETS = [GOOD, FEW, DIM, NOISY]
BOTH = (Relevance(5), Diversity(5))


def oracle(method: Appraiser, candidate: Dataset, train: Dataset = TRAIN) -> float:
    """The value from numpy's eigenvectors of the covariance, and from residuals that are formed row by row."""
    own, x = train.x.double().numpy(), candidate.x.double().numpy()
    variances, vectors = np.linalg.eigh(np.cov(own.T, bias=True))
    variances, u = variances[::-1][: method.directions], vectors[:, ::-1][:, : method.directions]
    moved = x - own.mean(0)
    if isinstance(method, Diversity):
        return float((np.linalg.norm(moved - moved @ u @ u.T, axis=1) ** 2).mean())
    return -float(np.linalg.norm(((moved @ u) ** 2).mean(0) - variances))


def of(method: Appraiser, candidate: Dataset) -> float:
    return plaintext_of(method, candidate, TRAIN)


def plaintext_of(method: Appraiser, candidate: Dataset, train: Dataset) -> float:
    model = prepare(ModelOwnerInput(train), plan(method), 10).model
    return plaintext(method, model, train, None, candidate)[0]


def plan(*methods: Appraiser) -> Plan:
    """Whoever fits a model by this plan fails."""
    return Plan(methods, 1e-2, 0, "", fit=None)


# ---- the formulas


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("kind", [Relevance, Diversity])
def test_the_values_are_those_of_numpy(kind, k):
    for candidate in SETS:
        assert of(kind(k), candidate) == pytest.approx(oracle(kind(k), candidate), rel=1e-9)


def test_the_buyers_own_rows_are_as_relevant_as_can_be():
    variances = np.linalg.eigvalsh(np.cov(TRAIN.x.double().numpy().T, bias=True))[::-1]
    assert of(Relevance(5), TRAIN) == pytest.approx(0.0, abs=1e-12)
    assert of(Diversity(5), TRAIN) == pytest.approx(variances[5:].sum(), rel=1e-9)


def test_labels_change_nothing():
    other = Dataset(GOOD.x, (GOOD.y + 1) % 10, 10)
    assert all(of(method, other) == of(method, GOOD) for method in BOTH)


def test_a_shift_of_the_mean_lowers_relevance_and_only_a_shift_outside_raises_diversity():
    _, vectors = np.linalg.eigh(np.cov(TRAIN.x.double().numpy().T, bias=True))
    along, outside = torch.from_numpy(vectors[:, -1].copy()), torch.from_numpy(vectors[:, 0].copy())
    for way, moved in ((along, (True, False)), (outside, (False, True))):
        shifted = Dataset(TRAIN.x.double() + 2.0 * way, TRAIN.y, 10)
        found = of(Relevance(5), shifted), of(Diversity(5), shifted) - of(Diversity(5), TRAIN)
        assert found == pytest.approx((-4.0 * moved[0], 4.0 * moved[1]), abs=1e-9)


# ---- the ring


@pytest.mark.parametrize("rows", [1, 3, 600, 5_940, 1_000_000])
@pytest.mark.parametrize("longest", [1.0, 13.7, 28_000.0])
def test_the_longest_rows_keep_all_sums_inside_the_ring(rows, longest):
    """Every row is -mu, as long as may be, and there is one direction: that of mu."""
    facts = Facts(4, 3, 40, 0, rows, 0.0, longest, longest)
    row, variance = Relevance.scales(facts)
    scale = Diversity.scale(facts)
    assert all(math.log2(each).is_integer() for each in (row, variance, scale))
    assert 2.0**14 < rows * (2 * longest * row) ** 2 <= 2.0**18
    assert 2.0**12 < (variance * 4 * longest**2) ** 2 + (variance * longest**2) ** 2 <= 2.0**18
    assert 2.0**10 < rows * (longest * scale) ** 2 <= 2.0**14  # the data owner's number has to be below 2^15
    assert rows * (2 * longest * scale) ** 2 <= 2.0**16


@pytest.mark.parametrize("method", BOTH, ids=lambda m: m.name)
def test_blocks_of_rows_give_the_same_in_the_clear_and_on_shares(method):
    x = with_bias(GOOD.x.double())
    facts = Facts(64, 10, 200, 0, GOOD.rows, 0.0, 8.0, 8.0)
    owned = method.prepare(None, TRAIN)
    whole = method.score(owned, x, None, facts).item()

    def cut(put=lambda part: part) -> RowBlocks:
        return RowBlocks(lambda: iter([(put(part), None) for part in x.split([128, 128, 44])]))

    assert method.score(owned, cut(), None, facts).item() == pytest.approx(whole, rel=1e-12)
    bits = []

    def shared(engine):
        put = {key: three.private(engine, 0, value, 1.0) for key, value in owned.items()}
        score = method.score(put, cut(lambda part: three.private(engine, 1, part, 1.0)), None, facts)
        bits.append(score.bits)
        return score.share

    assert three.run(shared).value(bits[0]).item() == pytest.approx(whole, rel=1e-3)


# ---- between processes


@pytest.fixture(scope="module")
def spawned() -> Result:
    return appraise(SETS, train=TRAIN, method=BOTH)


def test_the_private_values_are_those_in_plaintext(spawned):
    for record in spawned:
        method = next(m for m in BOTH if m.name == record.method)
        candidate = next(c for c in SETS if c.name == record.candidate)
        assert record.plaintext_value == pytest.approx(oracle(method, candidate), rel=1e-9)
        assert record.value == pytest.approx(record.plaintext_value, rel=1e-4, abs=1e-4)
    for method in BOTH:
        assert spawned.best(method.name).candidate == max(SETS, key=lambda c: oracle(method, c)).name


def test_one_number_is_opened_and_the_dry_run_knew_the_cost(spawned):
    for record in spawned:
        (opening,) = record.openings
        assert opening["numbers"] == 1 and opening["what"] == next(m.opens for m in BOTH if m.name == record.method)
        assert record.estimate["rounds"] == record.rounds
        assert all(record.estimate[f"bytes_sent.{party}"] == sent for party, sent in record.bytes_sent.items())
        assert not any("labels" in text or "class" in text for text in record.warnings)


class Inputs(DrySession):
    """A dry session that keeps the names of what is shared."""

    def __init__(self, role: str):
        super().__init__(role)
        self.names: list[str] = []

    def input(self, owner, read, shape, name):
        self.names.append(name)
        return super().input(owner, read, shape, name)


@pytest.mark.parametrize("methods", [BOTH, (*BOTH, GradientNorm())])
@pytest.mark.parametrize("rows", [50, 40_000])
def test_labels_are_shared_only_where_a_method_reads_them(methods, rows):
    session = Inputs(MODEL_OWNER)
    program(session, plan(*methods), {}, {}, {"c": Facts(8, 3, 20, 0, rows, 0.0)}, 10.0, lambda event: None)
    assert any("labels" in name for name in session.names) == (len(methods) > 2)


def test_a_release_without_labels_costs_less():
    facts = Facts(12, 3, 30, 0, 40, 1e-2)
    alone, beside = (cost.estimate(methods, facts, 1, 10.0) for methods in ((BOTH[0],), (BOTH[0], GradientNorm())))
    assert alone.bytes_sent[DATA_OWNER] < beside.bytes_sent[DATA_OWNER] and alone.rounds < beside.rounds


# ---- releases


def test_a_bit_compares_with_the_threshold():
    values = {c.name: [oracle(method, c) for method in BOTH] for c in (GOOD, DIM, NOISY)}
    limits = {m.name: sum(sorted(v[k] for v in values.values())[1:]) / 2 for k, m in enumerate(BOTH)}
    result = appraise([GOOD, DIM, NOISY], train=TRAIN, method=BOTH, release=Bit(), threshold=limits)
    for k, method in enumerate(BOTH):
        bits = {r.candidate: r.release["decision"] for r in result.of(method.name)}
        assert bits == {name: found[k] >= limits[method.name] for name, found in values.items()}
        assert sorted(bits.values()) == [False, False, True]
    never = appraise(DIM, train=TRAIN, method=BOTH[0], session="plain", release=Bit(), threshold=0.1)
    assert never[0].release["decision"] is False  # no relevance is above 0


def test_the_best_of_candidates_of_other_sizes():
    result = appraise(SETS, train=TRAIN, method=BOTH, release=Best(2))
    for method in BOTH:
        ranked = sorted(SETS, key=lambda c: oracle(method, c), reverse=True)
        won = sorted((r for r in result.of(method.name) if r.release["winner"]), key=lambda r: r.release["rank"])
        assert [r.candidate for r in won] == [c.name for c in ranked[:2]]
        assert [r.value for r in won] == pytest.approx([oracle(method, c) for c in ranked[:2]], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("ceiling", [None, 5.0])
def test_noise_is_refused(ceiling):
    for method in BOTH:
        with pytest.raises(InputError, match=f"^release: got dp of {method.name}; expected release=value, bit or best"):
            release = NoisedRelease(row_norm=5.0, ceiling=ceiling)
            appraise(GOOD, train=TRAIN, method=method, session="plain", release=release)


# ---- no model, no labels, bad input


def test_no_model_is_fitted_and_none_is_looked_at():
    own = prepare(ModelOwnerInput(TRAIN), plan(*BOTH), 10)
    assert not own.model.theta.any() and set(own.inputs) == {"relevance", "diversity"}
    with pytest.raises(TypeError):
        prepare(ModelOwnerInput(TRAIN), plan(BOTH[0], GradientNorm()), 10)
    assert glance(TRAIN, TRAIN, BOTH, 1e-2) == glance(TRAIN, None, BOTH, 1e-2) == (None, [])


def test_the_true_utility_beside_it_is_that_of_a_fitted_model():
    given = {"train": TRAIN, "test": LEARN.subset(range(1100, 1200)), "session": "plain", "true_utility": True}
    alone, beside = (appraise(GOOD, method=m, **given) for m in ("relevance", ["relevance", "influence"]))
    assert alone["relevance", "good"].utility == pytest.approx(beside["relevance", "good"].utility, abs=1e-6) != 0.0


@pytest.mark.parametrize("kind", [Relevance, Diversity])
@pytest.mark.parametrize("directions", [0, -1, 1.5, True, "many", None])
def test_bad_numbers_of_directions_are_named(kind, directions):
    with pytest.raises(InputError, match=r"^directions: got .*; expected an integer of 1 or more"):
        kind(directions)


@pytest.mark.parametrize("kind", [Relevance, Diversity])
def test_rows_that_vary_in_too_few_directions_are_refused(kind):
    flat = Dataset(TRAIN.x.double() * (torch.arange(64) < 20), TRAIN.y, 10, "flat")
    with pytest.raises(InputError, match=r"^directions: got 21; expected at most \d+, .* rows of flat vary"):
        appraise(GOOD, train=flat, method=kind(21), session="plain")
    same = Dataset(torch.ones(3, 4), torch.tensor([0, 1, 0]), 2, "same")
    with pytest.raises(InputError, match=rf"^appraisal\.{kind.name}\.directions: got 1; expected at most 0, "):
        kind(1).prepare(None, same)
    with pytest.raises(InputError, match="^train"):
        appraise(GOOD, method=kind(5), session="plain")


def test_between_organisations_labels_are_ignored(processes):
    """The buyer's labels skip classes, which no model could be trained on."""
    (x, _), seller = problem(60, seed=1), problem(120, seed=11)
    own = {
        MODEL_OWNER: [
            f"party.train={write_npz(processes.folder / 'buyer' / 'train.npz', x, np.full(60, 2))}",
            "party.preflight=quick",
        ],
        DATA_OWNER: [f"party.data={write_csv(processes.folder / 'seller' / 'seller.csv', *seller)}"],
        DEALER: [],
    }
    public = ("session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "appraisal=relevance")
    public += ("appraisal.directions=2",)
    started = [processes.app(role, *public, f"session.role={role}", *own[role]) for role in ROLES]
    ended = [process.wait(120) for process in started]
    assert all(each.code == 0 for each in ended), [each.err[-1500:] for each in ended]
    assert not (processes.folder / MODEL_OWNER / "run" / "preflight.json").exists()
    (record,) = read(processes.folder / MODEL_OWNER / "run" / "records.jsonl")
    train, candidate = (Dataset.of(rows, np.zeros(len(rows), int), 3, "set") for rows in (x, seller[0]))
    assert record.value == pytest.approx(oracle(Relevance(2), candidate, train), rel=1e-3)
    assert Relevance.opens in " ".join((processes.folder / MODEL_OWNER / "run" / "request.md").read_text().split())
