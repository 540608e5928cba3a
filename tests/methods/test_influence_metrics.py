"""Metrics of test predictions against loops, scikit-learn, autograd through theta, and the dense Hessian."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from mpc_appraisal.cli.config import ADDED, OWN_OF_METRIC, WITH_METRIC
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.stable_names import STABLE_NAMES
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Facts, Influence, InfluenceError, as_methods, metrics, plaintext
from mpc_appraisal.methods.base import Appraiser
from mpc_appraisal.methods.metrics import METRICS, ByMetric, Measure, check_metric, own_settings
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.release.accuracy import OWN_METRIC, error_bound
from mpc_appraisal.release.dp.clipping import clip_direction, clip_rows, spread
from mpc_appraisal.release.dp.sensitivity import Bounds, sensitivity

D, L2 = 4, 1e-2
OWN = f"{__name__}:cost"
SETTINGS = {"worst_group": {"group": D}, "class_weighted": {"class_weights": [1.0, 2.5, 0.5]}}
PRICES = torch.tensor([5.0, 1.0, 2.0], dtype=torch.float64)


def cost(predictions, targets):
    """A function of a model owner's own: what an error costs depends on the true class."""
    hit = predictions[torch.arange(len(targets)), targets]
    return (PRICES[targets] * (1 - hit)).mean()


def data(n: int, seed: int, noise: float = 0.1, classes: int = 3) -> Dataset:
    """Rows whose last column is one of three groups."""
    x, y = oracles.problem(n, D, classes, seed, noise)
    group = torch.randint(3, (n, 1), generator=torch.Generator().manual_seed(seed)).double()
    return Dataset(torch.cat([x, group], 1), y, classes, f"seed {seed}", (*"abcd", "branch"))


TRAIN, TEST, CANDIDATE = data(60, 1), data(80, 2, 0.2), data(25, 3, 0.4)
MODEL = fit(TRAIN, L2)


def measure(name: str) -> Measure:
    return Influence(metric=name, **SETTINGS.get(name, {})).measure


def loss(name: str, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """The metric by loops over rows and pairs, from bare tensors."""
    p = (x @ theta[:-1] + theta[-1]).softmax(1)
    logs, classes = [-p[i, y[i]].log() for i in range(len(y))], theta.shape[1]

    def mean(where) -> torch.Tensor:
        kept = [one for one, here in zip(logs, where, strict=True) if here]
        return sum(kept) / len(kept)

    if name == "squared_error":
        return sum((p[i, c] - float(y[i] == c)) ** 2 for i in range(len(y)) for c in range(classes)) / len(y)
    if name == "class_weighted":
        weights = SETTINGS[name]["class_weights"]
        return sum(w * mean(y == c) for c, w in enumerate(weights)) / sum(weights)
    if name == "worst_group":
        return max((mean(group == g) for g in group.unique()), key=lambda one: one.item())
    if name == "auroc":
        parts = []
        for c in range(classes):
            odds = (p[:, c] / (1 - p[:, c])).log()
            pairs = [1 / (1 + (4 * (odds[i] - odds[j])).exp()) for i in range(len(y)) for j in range(len(y))
                     if y[i] == c and y[j] != c]  # fmt: skip
            parts.append(sum(pairs) / len(pairs))
        return sum(parts) / classes
    if name == OWN:
        return sum(PRICES[y[i]] * (1 - p[i, y[i]]) for i in range(len(y))) / len(y)
    return mean([True] * len(y))


def slope(name: str, test: Dataset) -> torch.Tensor:
    """The gradient in theta, by autograd through the loops."""
    leaf = MODEL.theta.clone().requires_grad_()
    return torch.autograd.grad(loss(name, leaf, test.x, test.y, test.x[:, D]), leaf)[0]


# ---- the formulas


@pytest.mark.parametrize("name", [*METRICS, OWN])
def test_value_and_gradient_are_those_of_the_loops(name):
    of = measure(name)
    theirs = loss(name, MODEL.theta, TEST.x, TEST.y, TEST.x[:, D]).item()
    assert of.value(MODEL, TEST) == pytest.approx(theirs, rel=1e-12)
    assert torch.allclose(of.gradient(MODEL, TEST), slope(name, TEST), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", [*METRICS, OWN])
def test_influence_is_the_dense_inverse_times_the_gradient_of_the_metric(name):
    method = Influence(0.05, metric=name, **SETTINGS.get(name, {}))
    h = oracles.hessian(MODEL.theta, TRAIN.x, TRAIN.y, L2) + 0.05 * np.eye(MODEL.theta.numel())
    rows = oracles.example_gradients(MODEL.theta, CANDIDATE.x, CANDIDATE.y).reshape(CANDIDATE.rows, -1).numpy()
    scores = rows @ np.linalg.solve(h, slope(name, TEST).reshape(-1).numpy())
    value = plaintext(method, MODEL, TRAIN, TEST, CANDIDATE)[0]
    assert value == pytest.approx(scores.mean(), rel=1e-7)
    error = InfluenceError(0.05, metric=name, **SETTINGS.get(name, {}))
    found = plaintext(error, MODEL, TRAIN, TEST, CANDIDATE)[1]
    assert found == pytest.approx(scores.std() / math.sqrt(CANDIDATE.rows), rel=1e-7)


@pytest.mark.parametrize("name", ["auroc", "class_weighted", OWN])
def test_influence_is_the_slope_of_the_metric_as_the_candidate_enters_the_objective(name):
    x, y = torch.cat([TRAIN.x, CANDIDATE.x]), torch.cat([TRAIN.y, CANDIDATE.y])

    def after(eps: float) -> float:
        weights = torch.cat([torch.full((60,), 1 / 60), torch.full((25,), eps / 25)]).double()
        model = SoftmaxRegression(oracles.descended(x, y, 3, L2, weights), L2)
        return measure(name).value(model, TEST)

    fall = (after(-1e-4) - after(1e-4)) / 2e-4
    method = Influence(metric=name, **SETTINGS.get(name, {}))
    assert plaintext(method, MODEL, TRAIN, TEST, CANDIDATE)[0] == pytest.approx(fall, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_smooth_auroc_of_very_large_odds_is_one_minus_auroc(classes):
    test = data(90, 5, 0.3, classes)
    sharp = SoftmaxRegression(fit(data(60, 4, 0.1, classes), L2).theta * 1e7, L2)
    logits = sharp.logits(test.x).numpy()
    odds = [logits[:, c] - logsumexp(np.delete(logits, c, 1), axis=1) for c in range(classes)]
    theirs = 1 - np.mean([roc_auc_score(test.y == c, odds[c]) for c in range(classes)])
    assert 0.02 < theirs < 0.4 and Measure("auroc").value(sharp, test) == pytest.approx(theirs, abs=1e-9)


def test_pairs_in_parts_give_the_same_auroc(monkeypatch):
    whole, slopes = Measure("auroc").value(MODEL, TEST), Measure("auroc").gradient(MODEL, TEST)
    monkeypatch.setattr(metrics, "PAIRS", 7 * TEST.rows)
    assert Measure("auroc").value(MODEL, TEST) == pytest.approx(whole, rel=1e-13)
    assert torch.allclose(Measure("auroc").gradient(MODEL, TEST), slopes, rtol=1e-12, atol=1e-15)


def test_classes_without_test_rows_are_left_out_of_means():
    two = TEST.subset(torch.where(TEST.y != 2)[0])
    balanced = sum(
        torch.nn.functional.cross_entropy(MODEL.logits(two.x[two.y == c]), two.y[two.y == c]) for c in (0, 1)
    )
    assert Measure("class_weighted").value(MODEL, two) == pytest.approx(balanced.item() / 2, rel=1e-12)
    assert math.isfinite(Measure("auroc").value(MODEL, two))


def test_numbers_and_one_column_of_log_odds_have_a_squared_error():
    outputs, targets = torch.randn(9, 1, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    assert metrics.squared_error(outputs, targets).item() == pytest.approx(
        np.mean((outputs[:, 0].numpy() - targets.numpy()) ** 2), rel=1e-12
    )
    test = data(20, 6, 0.2, 2)
    odds = torch.randn(20, 1, dtype=torch.float64)
    both = torch.cat([torch.zeros_like(odds), odds], 1)
    for name in ("log_loss", "squared_error", "auroc"):
        assert torch.equal(Measure(name).loss(odds, test), Measure(name).loss(both, test))


def test_a_group_by_name_by_number_and_by_a_text_of_the_number_is_one_column():
    found = [Measure("worst_group", group).value(MODEL, TEST) for group in ("branch", D, str(D))]
    assert found[0] == found[1] == found[2] != Measure().value(MODEL, TEST)


# ---- what releases count on


@pytest.mark.parametrize("name", [*METRICS, OWN])
def test_a_replaced_row_changes_the_sum_by_the_sensitivity_at_most(name):
    method = Influence(metric=name, **SETTINGS.get(name, {}))
    owned = method.prepare(MODEL, TRAIN, TEST)
    bound, norm = spread(owned["direction"]) / 2, 3.0
    owned["direction"] = clip_direction(owned["direction"], bound)
    facts = Facts.of(MODEL, TRAIN, TEST, CANDIDATE)
    most = sensitivity(method, facts, Bounds(norm, direction_spread=bound))
    x = with_bias(clip_rows(torch.cat([CANDIDATE.x, -CANDIDATE.x, 9 * CANDIDATE.x]), norm))
    each = [
        method.score(owned, row[None], torch.eye(3, dtype=torch.float64)[c][None], facts).item()
        for row in x
        for c in range(3)
    ]
    assert 0 < max(each) - min(each) <= most


@pytest.mark.parametrize("name", METRICS)
def test_without_an_announced_spread_l2_bounds_the_direction(name):
    longest = with_bias(TEST.x).norm(dim=1).max().item()
    for factor in (0.0, 1.0, 10.0):
        model = SoftmaxRegression(factor * MODEL.theta + 0.01 * torch.ones(1, 3).cumsum(1), L2)
        gradient = measure(name).gradient(model, TEST)
        steepness = measure(name).steepness
        assert gradient.norm() <= steepness * math.sqrt(2) * longest
        direction = Influence(metric=name, **SETTINGS.get(name, {})).prepare(model, TRAIN, TEST)["direction"]
        assert spread(direction) <= 2 * steepness * longest / (2 * L2)


def test_nothing_bounds_the_direction_of_a_function_of_the_model_owners_own():
    facts = Facts(D, 3, 60, 80, 25, L2, 3.0, 3.0, 10.0)
    assert error_bound(Influence(), facts, "fast").value > 0
    assert error_bound(Influence(metric=OWN), facts, "fast") == error_bound(InfluenceError(metric=OWN), facts, "fast")
    found = error_bound(Influence(metric=OWN), facts, "fast")
    assert found.value is None and found.note == OWN_METRIC


# ---- what is public


def test_the_log_loss_leaves_no_trace_and_another_metric_stands_in_the_public_settings():
    assert repr(Influence()) == "Influence(damping=0.0)" and Influence().settings == {"damping": 0.0}
    assert repr(InfluenceError(0.5)) == "InfluenceError(damping=0.5)" and Influence().opens == Influence.opens
    found = Influence(metric="worst_group", group="branch")
    assert repr(found) == "Influence(metric='worst_group', damping=0.0)"
    assert found.settings == {"metric": "worst_group", "damping": 0.0} and "branch" not in found.opens
    assert (
        found.opens == "influence on the log loss of the worst group of the test rows, summed over the candidate's rows"
    )
    assert isinstance(found, Appraiser) and own_settings([found]) == {"group": "branch"}
    assert own_settings([Influence(), InfluenceError(metric="auroc")]) == {}
    code = own_settings([Influence(metric=OWN)])["code"]
    assert len(code) == 64 and own_settings([InfluenceError(metric=OWN)]) == {"code": code}


def test_the_configuration_knows_the_same_methods_and_settings():
    assert {STABLE_NAMES[f"mpc_appraisal.methods.{each.__name__}"] for each in (Influence, InfluenceError)} == set(
        WITH_METRIC
    )
    default = ByMetric()
    assert {key: getattr(default, key) for key in ("metric", "group", "class_weights")} == ADDED
    assert ByMetric.own == OWN_OF_METRIC


# ---- bad input


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metric": "accuracy"}, "metric: got accuracy; expected log_loss, .*MODULE:FUNCTION"),
        ({"metric": 3}, "metric: got 3"),
        ({"metric": "os.path:join;x"}, "metric"),
        ({"metric": "../up:f"}, "metric"),
        ({"group": "a"}, "group: got a; expected null, or metric=worst_group"),
        ({"metric": "worst_group", "group": True}, "group: got True"),
        ({"metric": "worst_group", "group": 1.5}, "group: got 1.5"),
        ({"class_weights": [1, 2]}, "class_weights: .*metric=class_weighted"),
        ({"metric": "class_weighted", "class_weights": [1, -2]}, "class_weights: got -2"),
        ({"metric": "class_weighted", "class_weights": [0, 0]}, "class_weights: .*one of them above 0"),
        ({"metric": "class_weighted", "class_weights": [1, math.nan]}, "class_weights: got nan"),
        ({"metric": "class_weighted", "class_weights": ["x"]}, "class_weights: got"),
        ({"metric": "class_weighted", "class_weights": 3}, "class_weights: got 3"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, said):
    for method in (Influence, InfluenceError):
        with pytest.raises(InputError, match=said):
            method(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"metric": "worst_group"},
            "appraisal.group: got None; expected a column of the test rows .a, b, c, d, branch",
        ),
        ({"metric": "worst_group", "group": "city"}, "appraisal.group: got city"),
        ({"metric": "worst_group", "group": 5}, "appraisal.group: got 5; expected .*number from 0 to 4"),
        ({"metric": "worst_group", "group": -1}, "appraisal.group: got -1"),
        ({"metric": "worst_group", "group": "a"}, "appraisal.group: got a: 80 different values.*expected 2 to 50"),
        ({"metric": "class_weighted", "class_weights": [1, 2]}, "appraisal.class_weights: got 2 weights; expected 3"),
    ],
)
def test_settings_that_do_not_fit_the_test_rows_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        Influence(**settings).prepare(MODEL, TRAIN, TEST)


def test_small_groups_and_a_single_class_are_refused():
    few = TEST.subset([*torch.where(TEST.x[:, D] == 0)[0], *torch.where(TEST.x[:, D] == 1)[0][:3]])
    with pytest.raises(InputError, match="branch: 3 test rows of the value 1; expected 10 rows or more"):
        Influence(metric="worst_group", group="branch").prepare(MODEL, TRAIN, few)
    one = TEST.subset(torch.where(TEST.y == 1)[0])
    with pytest.raises(InputError, match="auroc of test rows of one class; expected test rows of two classes"):
        Influence(metric="auroc").prepare(MODEL, TRAIN, one)
    with pytest.raises(InputError, match="a weight above 0 for a class that has test rows"):
        Influence(metric="class_weighted", class_weights=[1, 0, 1]).prepare(MODEL, TRAIN, one)


text, hard = "no function", lambda p, t: (p.argmax(1) == t).double().mean()
FUNCTIONS = {
    "constant": (lambda p, t: torch.tensor(1.0), "a differentiable function of the predictions"),
    "of_targets": (lambda p, t: t.double().mean(), "a differentiable function"),
    "hard": (hard, "a differentiable function"),
    "flat": (lambda p, t: (p * 0).sum(), "gradient is zero here; expected a finite gradient other than zero"),
    "steep": (lambda p, t: (p - p.detach()).abs().sqrt().sum(), "gradient is not finite here"),
    "rows": (lambda p, t: p.sum(1), r"returned a tensor of torch.float64, \(80,\); expected a tensor of one"),
    "python": (lambda p, t: 1.0, "returned .*float.*; expected a tensor of one floating-point number"),
    "infinite": (lambda p, t: p.sum() / 0, "returned inf; expected a finite number"),
    "raises": (lambda p, t: p[:, 7].mean(), "which raised IndexError: .*predictions .n, C. and targets"),
    "text": (text, "str; expected MODULE:FUNCTION"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_are_no_metric_are_refused_by_name(name, monkeypatch):
    function, said = FUNCTIONS[name]
    monkeypatch.setitem(globals(), f"f_{name}", function)
    with pytest.raises(InputError, match=f"appraisal.metric: got {__name__}:f_{name}.*{said}"):
        Influence(metric=f"{__name__}:f_{name}").prepare(MODEL, TRAIN, TEST)


@pytest.mark.parametrize("name", ["no_such_module_x:f", f"{__name__}:missing"])
def test_a_function_is_imported_by_the_model_owner_alone(name):
    method = Influence(metric=name)  # as the data owner and the dealer state it
    assert method.private_shapes(Facts.of(MODEL, TRAIN, TEST, CANDIDATE)) and check_metric(name) == name
    with pytest.raises(InputError, match=f"appraisal.metric: got {name}.*expected MODULE:FUNCTION"):
        method.prepare(MODEL, TRAIN, TEST)


def test_an_interval_is_that_of_the_influence_beside_it():
    pair = as_methods([Influence(metric="auroc"), InfluenceError(metric="auroc")])
    assert [method.measure.stated for method in pair] == ["auroc", "auroc"] and "AUROC" in pair[1].opens
    with pytest.raises(InputError, match="appraisal.influence_error.metric: got log_loss; expected auroc"):
        as_methods([Influence(metric="auroc"), "influence_error"])
