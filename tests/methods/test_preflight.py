"""Pre-flights on the digits: of methods that are known to work or to fail, and against the definitions."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence, plaintext
from mpc_appraisal.methods.preflight import parts as rows_of
from mpc_appraisal.methods.preflight.check import glance, possible, preflight
from mpc_appraisal.methods.preflight.result import INVERTED, TRUSTED
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit, utility
from mpc_appraisal.reporting.table import Table


@dataclass(frozen=True)
class Negated(Influence):
    name = "negated"

    def value(self, opened, facts):
        return -super().value(opened, facts)


@dataclass(frozen=True)
class Constant(Influence):
    name = "constant"

    def value(self, opened, facts):
        return 1.0


@dataclass(frozen=True)
class Unsolved(Influence):
    name = "unsolved"

    def prepare(self, model, train, test):
        raise AppraisalError("it was not solved: appraisal.damping 0 is too small")


@pytest.fixture(scope="module")
def data():
    train, test = Digits().load()
    return train.subset(range(160)), test.subset(range(150))


@pytest.fixture(scope="module")
def found(data):
    """One good case: several methods, two splits."""
    methods = [Influence(), Negated(), Constant(), Unsolved(), GradientNorm(), Finetuning(steps=2)]
    return preflight(*data, methods, seeds=2, parts=6, search=False)


def test_a_method_that_works_is_trusted_and_its_negative_is_inverted(found):
    assert found["influence"].verdict == TRUSTED and found["influence"].rank.worst > 0.8
    assert found["negated"].verdict == INVERTED
    assert found["negated"].rank.mean == pytest.approx(-found["influence"].rank.mean)
    assert found["negated"].wrong == found["negated"].pairs - found["influence"].wrong > 0
    assert not found.trusted


def test_values_all_alike_are_doubtful(found):
    check = found["constant"]
    assert check.verdict != TRUSTED and check.rank.mean is None and check.wrong == check.pairs


def test_a_method_that_fails_is_skipped_with_its_reason(found):
    assert found.skipped == (("unsolved", "it was not solved: damping 0 is too small"),)
    assert any("unsolved could not be checked: it was not solved" in text for text in found.warnings())


def test_values_utilities_and_correlations_are_those_of_the_definitions(data):
    """The parts are rebuilt; what is done with them is done by the slow ways."""
    train, test = data
    seen = {}

    @dataclass(frozen=True)
    class Spy(Influence):
        def score(self, owned, x, y, facts):
            score = super().score(owned, x, y, facts)
            seen.setdefault("parts", []).append((x[:, :-1], y.argmax(1), score.item() / len(x)))
            return score

    check = preflight(train, test, Spy(), 1e-2, quick=True, parts=5, seed=3)["influence"]
    own, held = rows_of.split(train, 3, 0)
    model = fit(own, 1e-2, 1e-8)
    parts = [Dataset(x, y, 10) for x, y, _ in seen["parts"][:5]]
    values = [plaintext(Influence(), model, own, test, part)[0] for part in parts]
    assert np.allclose(values, [v for _, _, v in seen["parts"][:5]], atol=1e-5)
    utilities = [utility(own, test, part, 1e-2, model) for part in parts]
    rates = [(p / 5) ** 2 for p in range(5)]
    # Spearman by hand: no ties among these.
    d = np.argsort(np.argsort(values)) - np.argsort(np.argsort(utilities))
    assert check.rank.by_seed == (pytest.approx(1 - 6 * (d**2).sum() / (5 * 24)),)
    assert check.pearson.mean == pytest.approx(np.corrcoef(values, utilities)[0, 1], abs=1e-4)
    assert check.level.mean == pytest.approx(stats.spearmanr(values, rates).statistic)
    # All parts are the held-out rows, none is the model's own, and the share of changed labels is about the rate.
    rows = {tuple(row) for row in held.x.tolist()}
    assert not rows & {tuple(row) for row in own.x.tolist()} and own.rows + held.rows == train.rows
    for part, rate in zip(parts, rates, strict=True):
        assert torch.equal(part.x, held.x.double())
        assert (
            abs((part.y != held.y).double().mean().item() - rate) < 4 * np.sqrt(0.25 / held.rows) * (rate > 0) + 1e-12
        )


def test_swaps_exchange_two_classes_and_nothing_else(data):
    own, held = rows_of.split(data[0], 0, 0)
    model, present = fit(own, 1e-2), [k for k in range(10) if (held.y == k).sum() >= 3]
    swaps = rows_of.swaps(held, model, np.random.default_rng(0), 1000)
    assert len(swaps) == len(present) * (len(present) - 1) // 2  # it tells all digits apart
    for swap in swaps:
        changed = swap.y != held.y
        classes = set(held.y[changed].tolist())
        assert len(classes) == 2 and torch.equal(changed, torch.isin(held.y, torch.tensor(sorted(classes))))
    assert len(rows_of.swaps(held, model, np.random.default_rng(0), 7)) == 7


def test_pairs_that_the_model_does_not_tell_apart_are_no_evidence(data):
    own, held = rows_of.split(data[0], 0, 0)
    blind = SoftmaxRegression(torch.zeros(65, 10, dtype=torch.float64), 1e-2)
    assert rows_of.swaps(held, blind, np.random.default_rng(0), 45) == []


def test_units(found):
    held = found.rows[1]
    units = {check.method: check.threshold.unit for check in found.checks}
    assert units["influence"] == "value" and units["gradient_norm"] == "value per row"
    assert units["finetuning"] == f"value of {held} rows"
    threshold = found["gradient_norm"].threshold
    assert threshold.value < 0 and threshold.of(50) == 50 * threshold.value
    assert found["influence"].threshold.of(50) == found.threshold["influence"]


def test_zero_accepts_what_the_calibrated_threshold_refuses(data):
    threshold = preflight(*data, seeds=2, search=False)["influence"].threshold
    assert threshold.zero_false_accept.wrong > threshold.false_accept.wrong
    assert threshold.false_accept.of == threshold.zero_false_accept.of > 0
    assert threshold.false_reject.of > 0


def test_a_badly_conditioned_model_is_warned_of_and_a_larger_l2_suggested(data):
    found = preflight(*data, "influence", 1e-5, seeds=2, parts=6)
    check = found["influence"]
    assert check.verdict != TRUSTED and check.share > 0.08 and check.condition > 500
    (warning, help_) = found.warnings()
    assert f"{check.condition:.0f}" in warning and f"{check.wrong} did not" in warning
    assert [trial.l2 for trial in found.trials] == pytest.approx([1e-5, 3e-5, 1e-4, 3e-4, 1e-3])
    assert found.suggested_l2 in (3e-4, 1e-3) and f"l2 = {found.suggested_l2:g}" in help_
    shares = [trial.share["influence"] for trial in found.trials]
    assert shares[-1] < 0.6 * shares[0] and shares == sorted(shares, reverse=True)
    best = min(trial.loss for trial in found.trials)
    assert all(trial.fits == (trial.loss <= 1.5 * best) for trial in found.trials)
    assert len(found.tables()) == 3


def test_a_larger_l2_is_trusted_without_a_search(data):
    found = preflight(*data, "influence", 1e-2, seeds=2, parts=6)
    assert found.trusted and not found.warnings() and not found.trials and found.suggested_l2 is None
    quick = preflight(*data, "influence", 1e-5, parts=6, quick=True, search=True)
    assert quick.seeds == 1 and not quick.trials and quick.warnings()


def test_missing_features(data):
    """The gradient norm falls with missing data, which it takes for an improvement."""
    found = preflight(*data, ["influence", "gradient_norm"], corruption="missing", seeds=2, search=False)
    assert found["influence"].verdict == TRUSTED and found["influence"].pairs == 0
    assert found["gradient_norm"].verdict != TRUSTED


def test_same_seed_same_result_and_no_global_generator_is_used(data):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (preflight(*data, quick=True, parts=4, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.as_dict() == again.as_dict() != other.as_dict()
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()


def test_tables_and_dictionary(found):
    for table in found.tables():
        assert isinstance(table, Table) and len(table.align) == len(table.header)
        assert {len(row) for row in table.rows} == {len(table.header)}
    text = json.dumps(found.as_dict(), allow_nan=False)
    assert json.loads(text) == found.as_dict()
    assert set(found.threshold) == {check.method for check in found.checks}
    with pytest.raises(InputError, match="method"):
        found["nothing"]


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"methods": "guess"}, "methods"),
        ({"l2": -1.0}, "l2"),
        ({"seed": -1}, "seed"),
        ({"seeds": 0}, "seeds"),
        ({"parts": 2}, "parts"),
        ({"parts": True}, "parts"),
        ({"corruption": "rust"}, "corruption"),
        ({"classes": 3}, "digits train"),
    ],
)
def test_bad_input_by_name(data, bad, name):
    with pytest.raises(InputError) as error:
        preflight(*data, **bad)
    assert error.value.name == name


def test_data_too_few_are_refused_with_the_reason(data):
    train, test = data
    one_class = Dataset(train.x, torch.zeros_like(train.y), 10)
    narrow = Dataset(test.x[:, :5], test.y, 10)
    assert possible(train, test) is None
    for bad, name, text in (
        ((None, test), "train", "no training data"),
        ((train, None), "test", "no test data"),
        ((train.subset(range(30)), test), "train", "30 training rows"),
        ((train, test.subset(range(3))), "test", "3 test rows"),
        ((one_class, test), "train", "1 classes of 8 rows"),
        ((train, narrow), "test", "5 features"),
    ):
        assert text in possible(*bad)
        with pytest.raises(InputError) as error:
            preflight(*bad)
        assert error.value.name == name


@dataclass(frozen=True)
class Hungry(Influence):
    name = "hungry"
    needs = frozenset({"train", "validation"})


def test_a_glance_never_stops_a_run(data):
    result, warnings = glance(*data, [Influence()], 1e-2)
    assert result == preflight(*data, quick=True) and warnings == []
    assert glance(*data, [Influence()], 1e-5)[1]
    for bad in ((None, data[1], [Influence()]), (*data, [Hungry()])):
        result, warnings = glance(*bad, 1e-2)
        assert result is None and warnings == [possible(*bad)]

    def failing(train):
        raise AppraisalError("it did not converge")

    assert glance(*data, [Influence()], 1e-2, failing) == (None, ["no pre-flight: it did not converge"])


def test_large_data_are_sampled(data, monkeypatch):
    monkeypatch.setattr(rows_of, "TRAIN_ROWS", 80)
    monkeypatch.setattr(rows_of, "TEST_ROWS", 60)
    found = preflight(*data, quick=True, parts=4)
    assert sum(found.rows[:2]) == 80 and found.rows[2] == 60
    assert any("80 of 160 training rows" in note for note in found.tables()[0].notes)
