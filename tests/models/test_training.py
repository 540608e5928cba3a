"""The fit against scikit-learn and Newton's method, losses and utility against torch's own, and models on disk."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Random, Retraining
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import accuracy, fit, mean_loss, objective, union, utility


def data(n: int, seed: int, d: int = 5, classes: int = 4, noise: float = 0.1) -> Dataset:
    return Dataset(*oracles.problem(n, d, classes, seed, noise), classes, f"seed {seed}")


@pytest.mark.parametrize("l2", [1e-3, 1e-2, 1.0])
def test_the_fit_is_scikit_learns(l2):
    train = data(80, 1)
    theirs = oracles.fitted(train.x, train.y, 4, l2)
    model = fit(train, l2)
    # The objective curves by 2 * l2 at least: a gradient of 1e-7 in each of 24 entries bounds the distance.
    assert (model.theta - theirs).norm() <= 24**0.5 * 2e-7 / (2 * l2)
    assert model.l2 == l2 and model.theta.dtype == torch.float64


@pytest.mark.parametrize("classes", [2, 4])
def test_the_fit_is_newtons(classes):
    train = data(60, 2, classes=classes)
    theirs = oracles.descended(train.x, train.y, classes, 1e-2)
    assert (fit(train, 1e-2).theta - theirs).abs().max() < 1e-5
    assert (fit(train, 1e-2, tolerance=1e-9).theta - theirs).abs().max() < 1e-7


def test_the_bias_is_penalised():
    # All rows zero: only the bias learns, and a penalty keeps it from the exact class frequencies.
    train = Dataset(torch.zeros(10, 3), torch.tensor([0] * 9 + [1]), 2)
    theta = fit(train, 0.1).theta
    assert theta[:-1].abs().max() == 0
    assert 0.5 < theta[-1].softmax(0)[0] < 0.85


def test_float32_features_are_fitted_in_float64():
    train = data(50, 3)
    single = Dataset(train.x.float(), train.y, 4)
    double = Dataset(train.x.float().double(), train.y, 4)
    assert torch.equal(fit(single, 1e-2).theta, fit(double, 1e-2).theta)


def test_objective_and_gradient_are_autograds():
    train = data(30, 4)
    theta = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    theirs = oracles.penalised(theta, train.x, train.y, 0.3)
    value, gradient = objective(theta.detach(), with_bias(train.x), train.y, 0.3)
    assert abs(value - theirs).item() < 1e-12
    assert (gradient - torch.autograd.grad(theirs, theta)[0]).abs().max() < 1e-12


def test_no_minimiser_is_an_error_not_a_model():
    separable = Dataset(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), 2, "two points")
    with pytest.raises(AppraisalError, match="two points.*did not converge.*model.l2"):
        fit(separable, 0.0, tolerance=1e-12, iterations=5)


@pytest.mark.parametrize(("l2", "tolerance"), [(-1.0, 1e-7), (float("nan"), 1e-7), (True, 1e-7), (1e-2, 0.0)])
def test_bad_settings_are_named(l2, tolerance):
    with pytest.raises(InputError, match="model.l2" if tolerance else "model.tolerance"):
        fit(data(10, 5), l2, tolerance)


def test_mean_loss_and_accuracy():
    train, test = data(60, 6), data(40, 7)
    model = fit(train, 1e-2)
    assert abs(mean_loss(model, test) - oracles.loss(model.theta, test.x, test.y).item()) < 1e-12
    right = [int(np.argmax(x @ model.theta[:-1].numpy() + model.theta[-1].numpy())) for x in test.x.numpy()]
    assert accuracy(model, test) == np.mean(np.array(right) == test.y.numpy())


def test_utility_is_the_fall_of_the_test_loss():
    train, test, good = data(30, 8), data(100, 9, noise=0.0), data(200, 10, noise=0.0)
    bad = Dataset(good.x, (good.y + 1) % 4, 4)
    before = oracles.loss(oracles.fitted(train.x, train.y, 4, 1e-2), test.x, test.y)
    for candidate in (good, bad):
        x, y = torch.cat([train.x, candidate.x]), torch.cat([train.y, candidate.y])
        theirs = (before - oracles.loss(oracles.fitted(x, y, 4, 1e-2), test.x, test.y)).item()
        assert abs(utility(train, test, candidate, 1e-2) - theirs) < 1e-5
        assert utility(train, test, candidate, 1e-2) == Retraining(train, test, 1e-2).value(candidate)
    assert utility(train, test, good, 1e-2) > 0 > utility(train, test, bad, 1e-2)


def test_retraining_fits_the_model_before_once(monkeypatch):
    rows = []

    def counted(train, *args):
        rows.append(train.rows)
        return fit(train, *args)

    for module in ("models.training", "methods.baselines.retraining"):
        monkeypatch.setattr(f"mpc_appraisal.{module}.fit", counted)
    baseline = Retraining(data(30, 8), data(20, 9), 1e-2)
    baseline.value(data(10, 1))
    baseline.value(data(11, 2))
    assert rows == [30, 40, 41]


def test_random_values_follow_the_seed_and_nothing_else():
    first, again, other = ([r.value(data(5, i)) for i in range(4)] for r in (Random(1), Random(1), Random(2)))
    assert first == again != other and len(set(first)) == 4 and all(0 <= v < 1 for v in first)


def test_union_keeps_the_order_and_refuses_other_shapes():
    both = union(data(3, 1), data(4, 2))
    assert torch.equal(both.x, torch.cat([data(3, 1).x, data(4, 2).x])) and both.rows == 7 and both.classes == 4
    with pytest.raises(InputError, match="features"):
        union(data(3, 1), data(4, 2, d=6))
    with pytest.raises(InputError, match="classes"):
        union(data(3, 1), data(4, 2, classes=3))


def test_a_saved_model_comes_back_exactly(tmp_path):
    model = fit(data(40, 11), 3e-3)
    path = tmp_path / "theta.npz"
    model.save(path)
    back = SoftmaxRegression.load(path)
    assert torch.equal(back.theta, model.theta) and back.l2 == 3e-3 and (back.features, back.classes) == (5, 4)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"theta": np.zeros((3, 2))}, "party.model"),
        ({"l2": 0.1}, "party.model"),
        ({"theta": np.zeros(3), "l2": 0.1}, "party.model theta"),
        ({"theta": np.zeros((3, 1)), "l2": 0.1}, "party.model theta"),
        ({"theta": np.full((3, 2), np.nan), "l2": 0.1}, "party.model theta"),
        ({"theta": np.zeros((3, 2)), "l2": -0.1}, "party.model model.l2"),
        ({"theta": np.zeros((3, 2)), "l2": np.zeros(2)}, "party.model"),
        ({"theta": np.array([["a", "b"]] * 3), "l2": 0.1}, "party.model"),
        ({"theta": np.array([[None, None]] * 3), "l2": 0.1}, "party.model"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path, arrays, says):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(InputError, match=f"^{says}:"):
        SoftmaxRegression.load(tmp_path / "m.npz")


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04broken"])
def test_a_missing_or_unreadable_model_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(InputError, match="^party.model:"):
        SoftmaxRegression.load(tmp_path / "m.npz")


def test_a_single_array_is_no_model(tmp_path):
    np.save(tmp_path / "m.npy", np.zeros((3, 2)))
    with pytest.raises(InputError, match="^party.model:"):
        SoftmaxRegression.load(tmp_path / "m.npy")


def test_logits_refuse_other_features():
    model = fit(data(20, 12), 1e-2)
    with pytest.raises(InputError, match=r"\(rows, 5\)"):
        model.logits(torch.zeros(2, 6))


def test_the_model_config_is_a_fit():
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    instance = instantiate(OmegaConf.load(Path(__file__).parents[2] / "conf" / "model" / "softmax_regression.yaml"))
    assert isinstance(instance, functools.partial) and instance.keywords["l2"] == 1e-2
    assert torch.equal(instance(data(20, 13)).theta, fit(data(20, 13), 1e-2).theta)
