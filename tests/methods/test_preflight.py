"""The model owner's pre-flight: against oracles, on methods that are known to fail, and as a command on real files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.commands import preflight as preflight_command
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, Digits, with_bias
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence, plaintext
from mpc_appraisal.methods.preflight import parts as rows_of
from mpc_appraisal.methods.preflight.check import glance, possible, preflight
from mpc_appraisal.methods.preflight.result import DOUBTFUL, INVERTED, TRUSTED, Rate
from mpc_appraisal.methods.preflight.study import condition_number
from mpc_appraisal.methods.preflight.threshold import calibrated, threshold_of
from mpc_appraisal.methods.preflight.verdict import verdict_of
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
        raise AppraisalError("it was not solved")


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
    assert found.skipped == (("unsolved", "it was not solved"),)
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


@pytest.mark.parametrize("seed", range(40))
def test_threshold_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    values = np.round(rng.normal(size=n), 1)  # with ties
    good = values + rng.normal(size=n) > 0
    found = threshold_of(values, good)
    if good.all() or not good.any():
        assert found is None
        return

    def cost(t):
        return (values[~good] >= t).mean() + (values[good] < t).mean()

    edges = sorted(set(values))
    everywhere = [edges[0] - 1, *edges, *(np.add(edges[1:], edges[:-1]) / 2), edges[-1] + 1]
    assert cost(found) == pytest.approx(min(map(cost, everywhere)))


def test_a_clean_threshold_is_in_the_middle():
    assert threshold_of([-3.0, -2.0, 4.0, 5.0], [False, False, True, True]) == 1.0


def test_rates_are_of_thresholds_that_did_not_see_the_seed():
    rng = np.random.default_rng(5)
    values, utilities = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    found = calibrated(values, utilities, "value")
    accepts = rejects = 0
    for s in range(3):
        others = [k for k in range(3) if k != s]
        t = threshold_of(values[others].ravel(), utilities[others].ravel() > 0)
        accepts += sum(v >= t and u <= 0 for v, u in zip(values[s], utilities[s], strict=True))
        rejects += sum(v < t and u > 0 for v, u in zip(values[s], utilities[s], strict=True))
    assert (found.false_accept.wrong, found.false_reject.wrong) == (accepts, rejects)
    assert found.false_accept.of == (utilities <= 0).sum() and found.false_reject.of == (utilities > 0).sum()
    assert found.zero_false_accept.wrong == ((values >= 0) & (utilities <= 0)).sum()
    assert found.zero_false_reject.wrong == ((values < 0) & (utilities > 0)).sum()


@pytest.mark.parametrize(("wrong", "of"), [(0, 9), (3, 10), (7, 7)])
def test_intervals_are_clopper_and_pearsons(wrong, of):
    rate = Rate.count([True] * wrong + [False] * (of - wrong))
    assert rate.rate == wrong / of
    assert rate.low == pytest.approx(stats.beta.ppf(0.025, wrong, of - wrong + 1) if wrong else 0.0)
    assert rate.high == pytest.approx(stats.beta.ppf(0.975, wrong + 1, of - wrong) if wrong < of else 1.0)
    assert Rate.count([]) == Rate(0, 0, None, None, None)


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


@pytest.mark.parametrize(
    ("ranks", "swaps", "verdict"),
    [
        ([0.9, 0.8, 0.7], (), TRUSTED),
        ([0.9, 0.9, 0.5], (), DOUBTFUL),  # one seed too low
        ([0.8, 0.7, 0.7], (), DOUBTFUL),
        ([0.9], (3, 45), TRUSTED),
        ([0.9], (4, 45), DOUBTFUL),
        ([0.9], (18, 45), INVERTED),
        ([0.9], (1, 2), DOUBTFUL),  # too few to be sure
        ([-0.2, -0.5], (), INVERTED),
        ([0.9, None], (), DOUBTFUL),
        ([None], (), DOUBTFUL),
    ],
)
def test_verdicts(ranks, swaps, verdict):
    assert verdict_of(ranks, *swaps) == verdict


def test_condition_number_against_the_dense_hessian():
    rng = np.random.default_rng(0)
    data = Dataset.of(rng.normal(size=(40, 3)), rng.integers(0, 3, 40), 3)
    model, x = fit(data, 1e-3), with_bias(data.x)

    def loss(flat):
        return torch.nn.functional.cross_entropy(x @ flat.reshape(4, 3), data.y)

    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, model.theta.reshape(-1)))
    assert abs(eigenvalues[0]) < 1e-12  # the smallest is 0, as the docstring says
    for damping in (0.0, 0.5):
        d = 2e-3 + damping
        assert condition_number(model, data, damping) == pytest.approx((eigenvalues[-1].item() + d) / d, rel=0.02)


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
        ({"methods": "guess"}, "appraisal"),
        ({"l2": -1.0}, "model.l2"),
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
        ((None, test), "party.train", "no training data"),
        ((train, None), "party.test", "no test data"),
        ((train.subset(range(30)), test), "party.train", "30 training rows"),
        ((train, test.subset(range(3))), "party.test", "3 test rows"),
        ((one_class, test), "party.train", "1 classes of 8 rows"),
        ((train, narrow), "party.test", "5 features"),
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("example")
    COMMANDS["example"]([str(place / "files")])
    return place / "files"


def command(*arguments):
    try:
        preflight_command.main(list(arguments))
    except SystemExit as ended:
        return ended.code
    return 0


def test_command_on_the_example_files(folder, capsys, tmp_path):
    files = [f"train={folder / 'train.npz'}", f"test={folder / 'test.npz'}", "quick=yes"]
    assert command(*files, f"out={tmp_path / 'found.json'}", "parts=6") == 0
    shown = capsys.readouterr().out
    assert "influence" in shown and "trusted" in shown and "Calibrated thresholds" in shown and "warning" not in shown
    stored = json.loads((tmp_path / "found.json").read_text())
    assert stored["l2"] == 1e-2 and stored["checks"][0]["verdict"] == TRUSTED and stored["parts"] == 6
    assert command(*files, "corruption=missing", "appraisal=gradient_norm", "l2=0.003") == 1
    shown = capsys.readouterr().out
    assert "warning: gradient_norm is" in shown and "l2 = 0.003" in shown


def test_command_takes_the_configuration(folder, capsys, tmp_path):
    files = [f"train={folder / 'train.npz'}", f"test={folder / 'test.npz'}", "quick=yes", "parts=3"]
    outs = [tmp_path / f"{k}.json" for k in range(3)]
    for out, more in zip(outs, ([], ["appraisal.damping=10"], ["standardise.scale=4"]), strict=True):
        command(*files, f"out={out}", *more)
    plain, damped, scaled = (json.loads(out.read_text())["checks"][0]["condition"] for out in outs)
    assert damped < 2 < scaled < plain


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train=a.npz"], "test"),
        (["test=a.npz"], "train"),
        (["train=a.npz", "test=b.npz", "train=c.npz"], "preflight"),
        (["train=a.npz", "test=b.npz", "guess"], "preflight"),
        (["train=nowhere.npz", "test=b.npz"], "train"),
        (["train=a.npz", "test=b.npz", "l2=much"], "l2"),
        (["train=a.npz", "test=b.npz", "guess=1"], "arguments"),
    ],
)
def test_command_names_what_is_wrong(arguments, name):
    with pytest.raises(InputError) as error:
        preflight_command.main(arguments)
    assert error.value.name == name


@pytest.mark.parametrize(("key", "value"), product(["seeds", "search", "quick", "parts"], ["few"]))
def test_command_refuses_bad_values(folder, key, value):
    with pytest.raises(InputError) as error:
        preflight_command.main([f"train={folder / 'train.npz'}", f"test={folder / 'test.npz'}", f"{key}={value}"])
    assert error.value.name == key


def test_help(capsys):
    for arguments in ([], ["--help"]):
        preflight_command.main(arguments)
        assert capsys.readouterr().out.startswith("usage: mpc-appraisal preflight train=FILE test=FILE")


def test_the_program_knows_the_command(folder):
    assert "preflight" in COMMANDS
    run = [sys.executable, "-m", "mpc_appraisal.cli.app", "preflight", f"train={folder / 'train.npz'}"]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and "test: got nothing" in ended.stderr
