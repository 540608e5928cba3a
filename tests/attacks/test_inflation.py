"""What a cheating seller gains: each attack and countermeasure against closed forms, brute force and scikit-learn."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mpc_appraisal.attacks import inflation as attack
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence, Retraining, plaintext
from mpc_appraisal.methods.influence import inverse_hessian_product
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit, objective

L2, K = 1e-2, 5


@pytest.fixture(scope="module")
def buyer(digits):
    """The buyer's training and test rows, its model, and a seller's 160 and 400 other rows."""
    train, test = (Dataset(part.x.to(torch.float64), part.y, 10) for part in digits)
    own = train.subset(range(150))
    return own, test, fit(own, L2), train.subset(range(150, 310)), train.subset(range(310, 710))


@pytest.fixture(scope="module")
def guess(buyer):
    return attack.Guess.of(buyer[4], L2)


@pytest.fixture(scope="module")
def truth(buyer):
    """The guess of a seller that knows the buyer's model and direction."""
    own, test, model, *_ = buyer
    return attack.Guess(model.theta[None], Influence().prepare(model, own, test)["direction"][None])


def value(method, buyer, data: Dataset) -> float:
    own, test, model = buyer[:3]
    return plaintext(method, model, own, test, data)[0]


def gradient(model: SoftmaxRegression, data: Dataset) -> torch.Tensor:
    """Return the summed gradient of the cross-entropy by autograd."""
    theta = model.theta.clone().requires_grad_()
    logits = with_bias(data.x) @ theta
    return torch.autograd.grad(torch.nn.functional.cross_entropy(logits, data.y, reduction="sum"), theta)[0]


def test_copies_leave_influence_and_multiply_the_gradient_norm(buyer):
    data, model = buyer[3], buyer[2]
    copies = attack.copied(data, K)
    assert copies.rows == K * data.rows and copies.x[data.rows].equal(data.x[0]) and copies.y[data.rows] == data.y[0]
    assert value(Influence(), buyer, copies) == pytest.approx(value(Influence(), buyer, data), rel=1e-12)
    assert value(GradientNorm(), buyer, copies) == pytest.approx(-K * gradient(model, data).norm().item(), rel=1e-12)


def test_retraining_with_copies_is_retraining_with_weights(buyer):
    """The oracle is scikit-learn's fit with a weight of K for each of the seller's rows."""
    own, test, model, data, _ = buyer
    x, y = (np.concatenate([a.numpy(), b.numpy()]) for a, b in ((with_bias(own.x), with_bias(data.x)), (own.y, data.y)))
    weights = np.repeat([1.0, K], [own.rows, data.rows])
    c = 1 / (2 * L2 * weights.sum())  # it minimises ||theta||^2 / 2 + C (weighted sum of losses)
    after = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, y, sample_weight=weights)
    logp = after.predict_log_proba(with_bias(test.x).numpy())
    before = torch.nn.functional.cross_entropy(with_bias(test.x) @ model.theta, test.y).item()
    expected = before + logp[np.arange(test.rows), test.y.numpy()].mean()
    found = Retraining(own, test, L2, model).value(attack.copied(data, K))
    assert found == pytest.approx(expected, abs=1e-6)
    assert abs(found - Retraining(own, test, L2, model).value(data)) > 1e-3  # copies do change it


def test_finetuning_with_copies_is_a_step_with_weights(buyer):
    own, test, model, data, _ = buyer
    n = own.rows + K * data.rows
    loss = 2 * L2 * model.theta + (gradient(model, own) + K * gradient(model, data)) / n
    stepped = model.theta - 0.3 * loss
    before, after = (
        torch.nn.functional.cross_entropy(with_bias(test.x) @ w, test.y).item() for w in (model.theta, stepped)
    )
    found = value(Finetuning(steps=1, lr=0.3), buyer, attack.copied(data, K))
    assert found == pytest.approx(before - after, rel=1e-9)


def test_a_whole_is_the_mean_of_its_parts_so_that_its_best_part_is_no_worse(buyer):
    data = buyer[3]
    parts = attack.divided(data, 3)
    assert [part.rows for part in parts] == [54, 53, 53] and len({part.name for part in parts}) == 3
    assert torch.cat([part.x for part in parts]).equal(data.x) and torch.cat([part.y for part in parts]).equal(data.y)
    each, whole = [value(Influence(), buyer, part) for part in parts], value(Influence(), buyer, data)
    assert whole == pytest.approx(np.average(each, weights=[part.rows for part in parts]), rel=1e-9)
    assert max(each) > whole and sum(each) == pytest.approx(3 * whole, rel=0.05)  # three names are paid three times
    norms = [value(GradientNorm(), buyer, part) for part in parts]
    assert sum(norms) <= value(GradientNorm(), buyer, data) < max(norms)  # the triangle inequality, and each is better


def test_long_rows_that_the_model_fits_and_rows_of_zeros_have_the_best_gradient_norms(buyer):
    """A long row of the predicted class has no gradient left; zeros leave that of the bias, as closed form says."""
    own, test, model, data, _ = buyer
    far = attack.stretched(data, 1e5)
    far = Dataset(far.x, model.logits(far.x).argmax(1), 10)
    first, second = model.logits(far.x).topk(2).values.unbind(1)
    assert (first - second).min() > 100 and value(GradientNorm(), buyer, far) > -1e-9
    zeros = attack.stretched(data, 0)
    p = model.theta[-1].softmax(0)
    counts = torch.bincount(data.y, minlength=10)
    assert value(GradientNorm(), buyer, zeros) == pytest.approx(-(data.rows * p - counts).norm().item(), rel=1e-9)
    assert value(GradientNorm(), buyer, zeros) > value(GradientNorm(), buyer, data)


def test_labels_in_proportion_cancel_up_to_the_rounding_of_counts(buyer, guess):
    """A seller that knew the model would have a gradient of at most sqrt(C) ||x'|| a row, however many copies."""
    model, data = buyer[2], buyer[3].subset(range(20))
    known = attack.Guess(model.theta[None], guess.directions[:1])
    mixed = attack.in_proportion(data, known, 1000)
    assert mixed.rows == 20_000 and mixed.x.reshape(20, 1000, -1).equal(data.x[:, None].expand(-1, 1000, -1))
    counts = torch.stack([row.bincount(minlength=10) for row in mixed.y.reshape(20, 1000)])
    assert (counts - 1000 * model.logits(data.x).softmax(1)).abs().max() < 1
    bound = math.sqrt(10) * with_bias(data.x).norm(dim=1).sum().item()
    assert -bound <= value(GradientNorm(), buyer, mixed)
    assert -bound > value(GradientNorm(), buyer, attack.copied(data, 1000))  # true labels are far beyond


def test_balancing_picks_what_brute_force_picks(buyer, guess):
    data, pool = buyer[3].subset(range(6)), buyer[4].subset(range(8))
    found = attack.balancing(data, pool, guess, 3)

    def term(row: int, label: int) -> torch.Tensor:
        residual = guess.probabilities(pool.x)[row] - torch.eye(10, dtype=torch.float64)[label]
        return with_bias(pool.x)[row].outer(residual)

    total = sum(
        with_bias(data.x)[k].outer(guess.probabilities(data.x)[k] - data.one_hot()[k]) for k in range(data.rows)
    )
    left = set(range(8))
    for x, y in zip(found.x, found.y.tolist(), strict=True):
        best = min(product(left, range(10)), key=lambda pair: (total + term(*pair)).norm().item())
        assert x.equal(pool.x[best[0]]) and y == best[1]
        total, left = total + term(*best), left - {best[0]}


def test_the_guess_is_about_the_step_to_the_other_half(buyer):
    """V_k is a H^-1 grad(other half) to first order; a strong regulariser makes that nearly exact."""
    known = buyer[4]
    guess = attack.Guess.of(known, 0.1, halves=3, seed=4, tolerance=1e-8)
    half = torch.randperm(known.rows, generator=torch.Generator().manual_seed(4))
    one, other = known.subset(half[:200]), known.subset(half[200:])
    model = fit(one, 0.1, 1e-8)
    assert guess.weights.shape == guess.directions.shape == (3, 65, 10) and guess.weights[0].equal(model.theta)
    slope = objective(model.theta, with_bias(other.x), other.y, 0.1)[1]
    expected = inverse_hessian_product(model, known, slope) / 2
    assert (guess.directions[0] - expected).norm() < 0.05 * expected.norm()


def test_guessed_influences_are_those_of_the_formula_and_pick_the_best_rows(buyer, guess):
    data = buyer[3]
    found = guess.influences(data.x, data.one_hot())
    for n in (0, 7):
        row = data.subset([n])
        models = [SoftmaxRegression(theta, L2) for theta in guess.weights]
        each = [(gradient(m, row) * v).sum().item() for m, v in zip(models, guess.directions, strict=True)]
        assert found[n].item() == pytest.approx(np.mean(each), rel=1e-9)
    best = attack.picked(data, guess, 10)
    assert best.x.equal(data.x[np.argsort(-found.numpy(), kind="stable")[:10]])
    fitted = attack.relabelled(data, guess)
    mean = sum((with_bias(data.x) @ theta).softmax(1) for theta in guess.weights) / len(guess.weights)
    assert fitted.y.equal(mean.argmax(1)) and fitted.x.equal(data.x)


def test_crafted_rows_are_about_the_best_that_a_fine_grid_has():
    draw = torch.Generator().manual_seed(1)
    weights, directions = (torch.randn(2, 3, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    guess = attack.Guess(weights, directions)
    start = Dataset(torch.randn(30, 2, generator=draw, dtype=torch.float64), torch.zeros(30, dtype=torch.int64), 3)
    bounds = {"row_norm": 2.5, "low": -0.5, "high": 2.0}
    found = attack.crafted(start, guess, **bounds)
    assert with_bias(found.x).norm(dim=1).max() <= 2.5 + 1e-9
    assert found.x.min() >= -0.5 and found.x.max() <= 2.0
    scores = guess.influences(found.x, found.one_hot())
    axis = torch.linspace(-0.5, 2.0, 126, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    grid = grid[grid.square().sum(1) <= 2.5**2 - 1]
    best = max(
        guess.influences(grid, torch.eye(3, dtype=torch.float64)[label].expand(len(grid), -1)).max().item()
        for label in range(3)
    )
    assert best * 0.97 < scores.max().item() < best * 1.03 and best > 0


def test_rows_crafted_in_range_by_one_who_knows_the_model_fool_influence_and_not_retraining(buyer, truth):
    """The rows keep the range and the norm of honest ones, so that no countermeasure here touches them."""
    own, test, model, data, _ = buyer
    norm = attack.longest(own)
    rows = attack.crafted(data, truth, norm, 0.0, 1.0)
    left = attack.clipped(attack.distinct(rows), norm + 1e-9, 0.0, 1.0)
    assert left.rows == data.rows and left.x.allclose(rows.x)
    assert value(Influence(), buyer, rows) > 5 * value(Influence(), buyer, data) > 0
    true = Retraining(own, test, L2, model)
    assert true.value(rows) < 0 < true.value(data)
    assert value(Finetuning(), buyer, rows) < 0 and value(GradientNorm(), buyer, rows) < value(
        GradientNorm(), buyer, data
    )
    few = attack.picked(data, truth, 10)
    assert value(Influence(), buyer, few) > 2 * value(Influence(), buyer, data)


def test_countermeasures_against_naive_loops(buyer):
    data = buyer[3].subset(range(40))
    twice = attack.joined([data, Dataset(data.x, (data.y + 1) % 10, 10), buyer[4].subset(range(5))], "three")
    left = attack.distinct(twice)
    assert left.rows == 45 and left.x.equal(torch.cat([data.x, buyer[4].x[:5]])) and left.y[:40].equal(data.y)
    near = attack.copied(data, 3, jitter=1e-3, seed=1)
    assert attack.distinct(near).rows == 120  # exact comparison misses near-copies
    assert attack.distinct(near, 0.05).x.equal(data.x)
    kept: list[np.ndarray] = []
    for row in near.x.numpy():
        if all(np.linalg.norm(row - other) > 2.0 for other in kept):
            kept.append(row)
    assert attack.distinct(near, 2.0).x.allclose(torch.from_numpy(np.array(kept)))
    assert 1 < len(kept) < 40
    few = attack.capped(near, 30)
    assert few.rows == 30 and attack.capped(data, 60).x.equal(data.x)
    assert all((near.x == row).all(1).any() for row in few.x)
    long = attack.clipped(attack.stretched(data, 3.0), 4.0)
    norms = with_bias(attack.stretched(data, 3.0).x).norm(dim=1)
    assert attack.longest(long) == pytest.approx(4.0) and (norms > 4).all()
    assert torch.nn.functional.cosine_similarity(long.x, data.x).min() > 1 - 1e-9
    assert attack.clipped(data, low=0.0, high=0.5).x.equal(data.x.clamp(0.0, 0.5))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda data, guess: attack.copied(data, 0), "times"),
        (lambda data, guess: attack.copied(data, 2, -1.0), "jitter"),
        (lambda data, guess: attack.divided(data, data.rows + 1), "parts"),
        (lambda data, guess: attack.picked(data, guess, 0), "rows"),
        (lambda data, guess: attack.stretched(data, math.inf), "factor"),
        (lambda data, guess: attack.in_proportion(data, guess, True), "times"),
        (lambda data, guess: attack.balancing(data, data, guess, data.rows + 1), "rows"),
        (lambda data, guess: attack.crafted(data, guess, 1.0), "row_norm"),
        (lambda data, guess: attack.crafted(data, guess, 2.0, 0.5, 1.0), "low, high"),
        (lambda data, guess: attack.distinct(data, -0.1), "apart"),
        (lambda data, guess: attack.capped(data, 0), "rows"),
        (lambda data, guess: attack.clipped(data, 0.5), "row_norm"),
        (lambda data, guess: attack.clipped(data, 2.0, -1.0, -0.5), "low, high"),
        (lambda data, guess: attack.joined([], "none"), "parts"),
        (lambda data, guess: attack.Guess.of(data.subset([0]), L2), "data"),
        (lambda data, guess: attack.Guess.of(data, L2, halves=0), "halves"),
    ],
)
def test_bad_input_is_refused_by_name(buyer, guess, call, name):
    with pytest.raises(InputError) as caught:
        call(buyer[3], guess)
    assert caught.value.name == name and caught.value.expected
