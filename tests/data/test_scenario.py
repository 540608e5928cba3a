"""Scenarios against counting: rows carry their own identity, so disjointness and shares are checked exactly."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.data.scenarios import Clean, DistributionMismatch, LabelNoise, MissingData

CONF = Path(__file__).resolve().parents[2] / "conf"


def numbered(rows, classes, first=1, features=1):
    """Row i is (i, i, ...) from `first` on, which identifies it, with label i % classes, or target i for one class."""
    identity = torch.arange(first, first + rows)
    x = identity.double().unsqueeze(1).repeat(1, features)
    return Dataset(x, identity.double() if classes == 1 else identity % classes, classes)


def identities(data):
    return data.x[:, 0].long().tolist()


def everything(market):
    """The whole market as one list of numbers."""
    sets = [market.train, market.test] + [candidate.data for candidate in market.candidates]
    return [(data.name, data.x.tolist(), data.y.tolist()) for data in sets]


@pytest.mark.parametrize(
    "scenario, sets",
    [(Clean(600), 10), (LabelNoise(600), 10), (Clean(600, candidates=7), 7), (LabelNoise(600, include_clean=True), 11)],
)
def test_rows_are_shared_out_equally_and_without_overlap(scenario, sets):
    train, test = numbered(60_000, 10), numbered(100, 10, first=10**6)
    market = scenario.build(train, test, seed=3)
    assert market.train.rows == 600 and len(market.candidates) == sets
    assert {candidate.data.rows for candidate in market.candidates} == {59_400 // sets}
    taken = identities(market.train) + [i for candidate in market.candidates for i in identities(candidate.data)]
    assert len(set(taken)) == len(taken) == 600 + 59_400 // sets * sets
    assert set(taken) <= set(identities(train))
    assert identities(market.test) == identities(test)
    assert identities(market.train) != sorted(identities(market.train))
    names = [candidate.name for candidate in market.candidates]
    assert len(set(names)) == sets and names == [candidate.data.name for candidate in market.candidates]


def test_mnist_sizes_of_the_paper():
    market = LabelNoise(0.01).build(numbered(60_000, 10), numbered(10, 10), seed=0)
    assert market.train.rows == 600 and [candidate.data.rows for candidate in market.candidates] == [5940] * 10


@pytest.mark.parametrize("include_clean", [False, True])
def test_label_noise_flips_two_classes_at_its_rate_and_nothing_else(include_clean):
    train = numbered(44_000, 10, features=2)
    market = LabelNoise(1000, include_clean=include_clean).build(train, train, seed=1)
    start = 0 if include_clean else 1
    for p, candidate in enumerate(market.candidates, start=start):
        data, truth = candidate.data, candidate.data.x[:, 1].long() % 10
        assert candidate.level == p / 10 and candidate.name == f"label_noise={p / 10:g}"
        changed = (data.y != truth).numpy()
        touched = np.isin(truth.numpy(), (1, 7))
        assert not changed[~touched].any()
        assert (data.y[changed] == 8 - truth[changed]).all()  # 1 <-> 7
        for label in (1, 7):  # each way by itself: five standard deviations of the binomial
            n, flips = int((truth == label).sum()), int(changed[truth.numpy() == label].sum())
            assert abs(flips - n * p / 10) <= 5 * np.sqrt(n * p / 10 * (1 - p / 10))
    assert not (market.train.y != market.train.x[:, 0].long() % 10).any()
    last = market.candidates[-1].data
    assert ((last.y != last.x[:, 0].long() % 10).numpy() == np.isin(last.x[:, 0].long().numpy() % 10, (1, 7))).all()


def test_label_noise_with_rows_of_each_class_of_two():
    train = numbered(1000, 2)
    market = LabelNoise([200, 20], candidates=4, labels=[0, 1]).build(train, train, seed=0)
    assert torch.bincount(market.train.y).tolist() == [200, 20]
    assert [candidate.data.rows for candidate in market.candidates] == [195] * 4
    assert [candidate.level for candidate in market.candidates] == [0.25, 0.5, 0.75, 1.0]
    last = market.candidates[-1].data
    assert (last.y == 1 - last.x[:, 0].long() % 2).all()


def test_missing_data_zeroes_each_feature_at_its_rate():
    train = numbered(5100, 10, features=40)
    market = MissingData(100, include_clean=True).build(train, train, seed=2)
    for p, candidate in enumerate(market.candidates):
        x = candidate.data.x
        zero = (x == 0).numpy()
        assert candidate.level == p / 10 and candidate.name == f"missing_data={p / 10:g}"
        assert abs(zero.sum() - zero.size * p / 10) <= 5 * np.sqrt(zero.size * p / 10 * (1 - p / 10))
        if 0 < p < 10:
            # independent across features: the spread of zeros a row is binomial, far from all or none
            assert abs(zero.sum(1).std() - np.sqrt(40 * p / 10 * (1 - p / 10))) < 0.6
        if 3 <= p <= 7:  # and no two rows of 2^40 patterns alike
            assert len(np.unique(zero, axis=0)) == len(zero)
        kept = x.max(dim=1, keepdim=True).values
        assert ((x == 0) | (x == kept)).all()
        whole = (kept > 0).squeeze(1)
        assert (candidate.data.y[whole] == kept.squeeze(1).long()[whole] % 10).all()
    assert (market.train.x > 0).all() and (market.test.x > 0).all()
    assert MissingData(100).build(train, train, seed=2).candidates[0].level == 0.1


def test_distribution_mismatch_of_the_paper_is_exact_and_disjoint():
    train, test = numbered(10_000, 2), numbered(2000, 2, first=10**6)
    market = DistributionMismatch().build(train, test, seed=5)
    assert torch.bincount(market.train.y).tolist() == [200, 20]
    assert torch.bincount(market.test.y).tolist() == [1000, 1000] and identities(market.test) == identities(test)
    taken = identities(market.train)
    for p, candidate in enumerate(market.candidates, start=1):
        zeros = int((candidate.data.y == 0).sum())
        assert candidate.data.rows == 440 and Fraction(zeros, 440) == Fraction(5 * p, 100)
        assert candidate.level == pytest.approx(float(abs(Fraction(p, 20) - Fraction(1, 2))), abs=1e-15)
        assert candidate.name == f"distribution_mismatch={p / 20:g}"
        assert (candidate.data.y == candidate.data.x[:, 0].long() % 2).all()
        if p < 20:  # the classes are mixed, not stacked
            assert 1 in candidate.data.y[:-zeros].tolist() and (candidate.data.y[:zeros] == 1).any()
        taken += identities(candidate.data)
    assert len(market.candidates) == 20 and len(set(taken)) == len(taken) == 220 + 20 * 440


def test_distribution_mismatch_largest_size_and_balanced_test():
    train = numbered(400, 2)
    test = Dataset.of(torch.arange(30.0).unsqueeze(1), [0] * 20 + [1] * 10)
    market = DistributionMismatch([20, 2], candidates=4, size=None).build(train, test, seed=0)
    # class 0: 180 rows for 10 k, class 1: 198 for 6 k: k = 18
    assert {candidate.data.rows for candidate in market.candidates} == {4 * 18}
    assert torch.bincount(market.test.y).tolist() == [10, 10]
    assert identities(market.test) == sorted(identities(market.test))
    small = DistributionMismatch([20, 2], candidates=4, size=8, test_size=6).build(train, test, seed=0)
    assert torch.bincount(small.test.y).tolist() == [3, 3]
    alone = DistributionMismatch([20, 2], candidates=1, size=None).build(train, test, seed=0)
    assert (alone.candidates[0].data.y == 0).all() and alone.candidates[0].data.rows == 180


BUILDS = {
    "clean": (Clean(100, 3), numbered(500, 10)),
    "label_noise": (LabelNoise(100, 3), numbered(500, 10)),
    "missing_data": (MissingData(100, 3), numbered(500, 10, features=3)),
    "distribution_mismatch": (DistributionMismatch((20, 2), 4, 40), numbered(500, 2)),
}


@pytest.mark.parametrize("name", BUILDS)
def test_the_seed_alone_decides(name):
    scenario, train = BUILDS[name]
    np.random.seed(1)
    torch.manual_seed(1)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = everything(scenario.build(train, train, seed=7))
    assert (np.random.get_state()[1] == numpy_state).all() and torch.equal(torch.get_rng_state(), torch_state)
    np.random.seed(2)
    torch.manual_seed(2)
    assert everything(scenario.build(train, train, seed=7)) == first
    assert everything(scenario.build(train, train, seed=8)) != first


@pytest.mark.parametrize("name", BUILDS)
def test_the_input_is_not_changed(name):
    scenario, train = BUILDS[name]
    x, y = train.x.clone(), train.y.clone()
    scenario.build(train, train, seed=0)
    assert torch.equal(train.x, x) and torch.equal(train.y, y)


@pytest.mark.parametrize("kind", [Clean, LabelNoise, MissingData])
def test_small_runs_cap_candidates_and_test(kind):
    train, test = numbered(500, 10), numbered(200, 10, first=1000)
    whole = kind(100, 4).build(train, test, seed=0)
    small = kind(100, 4, size=30, test_size=50).build(train, test, seed=0)
    assert [candidate.data.rows for candidate in small.candidates] == [30] * 4 and small.test.rows == 50
    assert identities(small.train) == identities(whole.train)
    kept = identities(small.test)
    assert kept == sorted(set(kept)) and set(kept) <= set(identities(test)) and kept != list(range(1000, 1050))
    large = kind(100, 4, size=10**6, test_size=10**6).build(train, test, seed=0)
    assert everything(large) == everything(whole)


def test_dtype_and_level_of_clean():
    market = Clean(150).build(*Digits().load(), seed=0)
    assert market.train.x.dtype == torch.float64 and market.candidates[0].data.rows == (1297 - 150) // 10
    assert {candidate.level for candidate in market.candidates} == {0.0}
    single = Dataset(torch.ones(50, 2), torch.zeros(50, dtype=torch.int64), 2)
    assert MissingData(5, 2).build(single, single, seed=0).candidates[0].data.x.dtype == torch.float32


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: Clean(0), "train_size"),
        (lambda: Clean(-5), "train_size"),
        (lambda: Clean(1.5), "train_size"),
        (lambda: Clean(600.0), "train_size"),
        (lambda: Clean(float("nan")), "train_size"),
        (lambda: Clean("600"), "train_size"),
        (lambda: Clean(True), "train_size"),
        (lambda: Clean([10, 0]), "train_size"),
        (lambda: Clean(10, candidates=0), "candidates"),
        (lambda: Clean(10, 2.5), "candidates"),
        (lambda: Clean(10, size=0), "size"),
        (lambda: Clean(10, test_size=-1), "test_size"),
        (lambda: LabelNoise(labels=(1, 1)), "labels"),
        (lambda: LabelNoise(labels=(1, 2, 3)), "labels"),
        (lambda: DistributionMismatch(size=441), "size"),
        (lambda: DistributionMismatch(test_size=7), "test_size"),
    ],
)
def test_bad_parameters(make, name):
    with pytest.raises(InputError) as error:
        make()
    assert error.value.name == name


TEN, TWO = numbered(100, 10), numbered(100, 2)


@pytest.mark.parametrize(
    "scenario, train, seed, match",
    [
        (Clean(100), TEN, 0, "^train_size: got 100; expected 1 .. 99 rows"),
        (Clean(0.001), TEN, 0, "^train_size"),
        (Clean(95), TEN, 0, "^candidates: got 10 candidate sets; expected at most 5"),
        (Clean([5, 5]), TEN, 0, "each of the 10 classes"),
        (Clean([51, 5]), TWO, 0, "at most the 50 rows of class 0"),
        (LabelNoise(10, 2), TWO, 0, r"^labels: got \[1, 7\]; expected two different labels in 0 .. 1"),
        (LabelNoise(10, 2, labels=(1, 1.5)), TEN, 0, "^labels"),
        (LabelNoise(10, 2, labels=(-1, 1)), TEN, 0, "^labels"),
        (DistributionMismatch((10, 1)), TEN, 0, "data of two classes"),
        (DistributionMismatch((10, 1), 4, 20), TWO, 0, "class 0 lasts: 50 rows needed, 40 left"),
        (DistributionMismatch((1, 30), 4, 16), TWO, 0, "class 1 lasts: 24 rows needed, 20 left"),
        (DistributionMismatch((45, 1), 4, None), TWO, 0, "class 0 lasts: 10 rows needed, 5 left"),
        (DistributionMismatch((1, 48), 4, None), TWO, 0, "class 1 lasts: 6 rows needed, 2 left"),
        (Clean(10), TEN, -1, "seed"),
        (Clean(10), TEN, 0.5, "seed"),
        (Clean(10), TEN, None, "seed"),
    ],
)
def test_what_the_data_cannot_give(scenario, train, seed, match):
    with pytest.raises(InputError, match=match):
        scenario.build(train, train, seed)


def test_mismatch_needs_both_classes_in_the_test_set():
    test = Dataset.of([[1.0], [2.0]], [0, 0])
    with pytest.raises(InputError, match="rows of both classes"):
        DistributionMismatch((10, 1), 4, 8).build(TWO, test, 0)


@pytest.mark.parametrize("data", sorted(path.stem for path in (CONF / "data").glob("*.yaml")))
@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "scenario").glob("*.yaml")))
def test_every_config_makes_a_market(name, data):
    config = OmegaConf.create(
        {
            "data": OmegaConf.load(CONF / "data" / f"{data}.yaml"),
            "scenario": OmegaConf.load(CONF / "scenario" / f"{name}.yaml"),
        }
    )
    config.data.pop("defaults", None)  # Hydra's, which chooses other scenarios and models
    classes = instantiate(config.data).classes
    train = numbered(20_000, classes)
    scenario = instantiate(config.scenario)
    refused = {
        "label_noise": train.numeric and "numeric target",
        "distribution_mismatch": "numeric target" if train.numeric else classes != 2 and "data of two classes",
    }
    refused |= dict.fromkeys(("target_noise", "target_shift"), not train.numeric and "data with a numeric target")
    if refused.get(name):
        with pytest.raises(InputError, match=refused[name]):
            scenario.build(train, train, 0)
        return
    market = scenario.build(train, train, 0)
    size = config.data.train_size
    assert market.train.rows == (size if isinstance(size, int) else sum(size))
    assert len(market.candidates) == config.scenario.candidates


@pytest.mark.parametrize(("classes", "labels"), [(10, (1, 7)), (8, (1, 7)), (7, (0, 1)), (2, (0, 1))])
def test_label_noise_without_labels_swaps_two_classes_that_the_data_have(classes, labels):
    train = numbered(2_000, classes)
    market = LabelNoise(100, candidates=2, labels=None).build(train, train, 0)
    stated = LabelNoise(100, candidates=2, labels=labels).build(train, train, 0)
    assert [c.data.y.tolist() for c in market.candidates] == [c.data.y.tolist() for c in stated.candidates]
