"""The sensitivities that noise is scaled to, against brute force and against the worst pair that can be found.

Gradients of single rows come from autograd. All pairs of neighbours over a pool of rows are tried, and gradient ascent
looks for the worst pair. No pair exceeds the stated number, and the worst come within NEAR of it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from oracles import example_gradients, finetuned, loss

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import with_bias
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.release.dp.clipping import clip_rows, spread
from mpc_appraisal.release.dp.sensitivity import SENSITIVITIES, Bounds, sensitivity

NEAR = 0.9  # of the stated sensitivity, reached by the worst pair found
EXACT = 1 + 1e-9


def facts(rows: int, features: int = 2, classes: int = 3, norm: float = 3.0, **more) -> Facts:
    defaults = {"train_rows": 3, "test_rows": 2, "l2": 0.0, "row_norm": norm, "longest": norm}
    return Facts(features=features, classes=classes, rows=rows, **defaults | more)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clipped(x: torch.Tensor, norm: float) -> torch.Tensor:
    """An oracle: differentiable, and without room for rounding."""
    length = math.sqrt(norm**2 - 1)
    return x * (length / torch.linalg.vector_norm(x, dim=1, keepdim=True)).clamp(max=1.0)


def pool(norm: float, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows all around the circle of the longest that are allowed, one halfway in, the origin; each with every label."""
    angles = torch.arange(12, dtype=torch.float64) * math.pi / 6 + 0.1
    circle = math.sqrt(norm**2 - 1) * torch.stack([angles.cos(), angles.sin()], 1)
    x = torch.cat([circle, circle[:1] / 2, torch.zeros(1, 2, dtype=torch.float64)])
    return x.repeat_interleave(classes, 0), torch.arange(classes).repeat(len(x))


def ascend(difference, start: list[torch.Tensor], steps: int = 400, rate: float = 0.1) -> float:
    """The largest difference(*tensors) met on the way up from `start`, by Adam."""
    leaves = [tensor.clone().requires_grad_() for tensor in start]
    optimiser, best = torch.optim.Adam(leaves, lr=rate), 0.0
    for _ in range(steps):
        optimiser.zero_grad()
        value = difference(*leaves)
        best = max(best, value.item())
        (-value).backward()
        optimiser.step()
    return best


# --- sensitivity: brute force over all neighbours in a pool


@pytest.mark.parametrize("ceiling", [None, 0.5])
@pytest.mark.parametrize("size", [0.5, 5.0, 100.0])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_gradient_norm_of_all_neighbours_in_a_pool(rows, size, ceiling):
    f, worst = facts(rows), 0.0
    limit = sensitivity(GradientNorm(), f, Bounds(3.0, ceiling=ceiling))
    for seed in range(3):
        gradients = example_gradients(size * normal(3, 3, seed=seed), *pool(3.0, 3)).reshape(-1, 9)
        rest = torch.zeros(1, 9, dtype=torch.float64)
        for _ in range(rows - 1):
            rest = (rest[:, None] + gradients).reshape(-1, 9)
        opened = ((rest[:, None] + gradients) * GradientNorm.scale(f)).square().sum(2)  # (rests, last row)
        opened = opened.clamp(max=math.inf if ceiling is None else ceiling)
        worst = max(worst, (opened.amax(1) - opened.amin(1)).max().item())
    assert worst <= limit * EXACT
    if size == 100.0:
        assert worst >= 0.75 * limit  # the pool is coarse; the ascent comes nearer


@pytest.mark.parametrize("size", [0.5, 5.0, 100.0])
def test_influence_of_all_neighbours_in_a_pool(size):
    limit, worst = sensitivity(Influence(), facts(5), Bounds(3.0, direction_spread=2.0)), 0.0
    for seed in range(20):
        v = normal(3, 3, seed=100 + seed)
        v = 2.0 * v / spread(v)
        terms = (example_gradients(size * normal(3, 3, seed=seed), *pool(3.0, 3)) * v).sum((1, 2))
        worst = max(worst, (terms.max() - terms.min()).item())  # the other rows cancel
    assert worst <= limit * EXACT
    if size == 100.0:
        assert worst >= 0.75 * limit


@pytest.mark.parametrize(
    "method",
    [Finetuning(steps=3, lr=0.05), Finetuning(steps=3, lr=1.0), Finetuning(steps=4, lr=0.3, batch_size=2, seed=4)],
    ids=["slow", "overshooting", "batches"],
)
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_finetuning_of_random_neighbours(method, l2):
    """By torch's own SGD and cross-entropy."""
    f = facts(rows=3, l2=l2)
    limit, worst, g = sensitivity(method, f, Bounds(3.0, owner_norm=2.0)), 0.0, torch.Generator().manual_seed(7)
    x_pool, y_pool = pool(3.0, 3)
    for seed in range(25):
        theta = (0.5, 5.0, 50.0)[seed % 3] * normal(3, 3, seed=seed)
        own = clipped(5 * normal(5, 2, seed=50 + seed), 2.0)
        labels = torch.randint(3, (5,), generator=g)
        rows = torch.randint(len(x_pool), (4,), generator=g)
        opened = []
        for last in (rows[2], rows[3]):
            index = torch.stack([last, rows[0], rows[1]])
            x, y = torch.cat([own[:3], x_pool[index]]), torch.cat([labels[:3], y_pool[index]])
            batches = [torch.cat([a, b + 3]) for a, b in method.schedule(f)]
            after = finetuned(theta, x, y, l2, method.lr, batches)
            opened.append(loss(after, own[3:], labels[3:], "sum") - loss(theta, own[3:], labels[3:], "sum"))
        worst = max(worst, abs(opened[0] - opened[1]).item())
    assert 0 < worst <= limit * EXACT


# --- sensitivity: the worst pair, by ascent through the method's own formula


R = 8.0  # of the ascents: long rows, among which the constant feature weighs little


def one_hot(labels: list[int], classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(labels), classes).double()


@pytest.mark.parametrize("ceiling", [None, 20_000.0])
@pytest.mark.parametrize("rows", [1, 2, 6])
def test_the_worst_pair_for_gradient_norm_is_near(rows, ceiling):
    f, method, worst = facts(rows, norm=R), GradientNorm(), 0.0
    limit = sensitivity(method, f, Bounds(R, ceiling=ceiling))
    assert ceiling is None or rows == 1 or limit < sensitivity(method, f, Bounds(R))

    def difference(theta, common, x, other, y, other_y):
        opened = []
        for last, label in ((x, y), (other, other_y)):
            features = with_bias(clipped(torch.cat([common, last]), R))
            value = method.score({"weights": theta}, features, one_hot([0] * (rows - 1) + [label], 3), f)
            opened.append(value)
        if ceiling is not None:  # at most what the cut values differ by, and not flat above the ceiling
            opened[0] = ceiling - (opened[0] - ceiling).abs()
        return opened[0] - opened[1]

    for seed, label in itertools.product(range(3), (0, 1)):
        start = [3 * normal(3, 3, seed=seed), *(4 * normal(k, 2, seed=seed + k) for k in (rows - 1, 1))]
        start.append(-start[2])
        worst = max(worst, ascend(lambda *t, label=label: difference(*t, 0, label), start))
    assert worst <= limit * EXACT
    assert worst >= (NEAR if ceiling is None else 0.8) * limit


def test_the_worst_pair_for_influence_is_near():
    f, method, worst = facts(4, norm=R), Influence(), 0.0
    limit = sensitivity(method, f, Bounds(R, direction_spread=2.0))

    def difference(theta, v, common, x, other):
        distances = torch.stack([(v[:, i] - v[:, j]).norm() for i, j in ((0, 1), (0, 2), (1, 2))])
        owned = {"weights": theta, "direction": 2.0 * v / distances.max()}
        opened = [
            method.score(owned, with_bias(clipped(torch.cat([common, last]), R)), one_hot([0, 1, 2, 0], 3), f)
            for last in (x, other)
        ]
        return opened[0] - opened[1]

    for seed in range(4):
        start = [3 * normal(3, 3, seed=seed), *(4 * normal(k, n, seed=seed + k) for k, n in ((3, 3), (3, 2), (1, 2)))]
        worst = max(worst, ascend(difference, [*start, -start[-1]]))
    assert NEAR * limit <= worst <= limit * EXACT


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize(
    ("method", "near"),
    # Where the rate overshoots the bound holds, and is not sharp.
    [
        (Finetuning(steps=1, lr=0.01), NEAR),
        (Finetuning(steps=4, lr=0.01), NEAR),
        (Finetuning(steps=4, lr=0.01, batch_size=2, seed=4), NEAR),
        (Finetuning(steps=2, lr=0.2), 0.3),
    ],
    ids=["step", "steps", "batches", "overshooting"],
)
def test_the_worst_pair_for_finetuning_is_near(method, near, l2):
    f = facts(rows=2, l2=l2, train_rows=2, classes=2, norm=R)
    limit, worst = sensitivity(method, f, Bounds(R, owner_norm=6.0)), 0.0

    def difference(theta, train, test, common, x, other, second):
        owned = {"weights": theta, "train_y": one_hot([0, 1], 2), "test_y": one_hot([0, 0], 2)}
        owned["train_x"], owned["test_x"] = with_bias(clipped(train, 6.0)), with_bias(clipped(test, 6.0))
        opened = [
            method.score(owned, with_bias(clipped(torch.cat([last, common]), R)), one_hot([label, 0], 2), f)
            for last, label in ((x, 1), (other, second))
        ]
        return opened[0] - opened[1]

    for seed, second in itertools.product(range(2), (0, 1)):
        start = [10 * normal(3, 2, seed=seed), *(4 * normal(k, 2, seed=seed + k) for k in (2, 2, 1, 1))]
        worst = max(worst, ascend(lambda *t, label=second: difference(*t, label), [*start, -start[-1]], steps=200))
    assert near * limit <= worst <= limit * EXACT


def test_a_rate_that_overshoots_needs_the_growth_that_is_stated():
    """At p = 1/2 and with every row the same, each step at lr = 1.5 doubles the distance: kappa = |1 - 1.5 * 2|."""
    method, f = Finetuning(steps=8, lr=1.5), facts(1, 1, 2, norm=2.0, train_rows=20_000)
    limit = sensitivity(method, f, Bounds(2.0))
    x = torch.full((20_000, 1), math.sqrt(3.0), dtype=torch.float64)
    owned = {"weights": torch.zeros(2, 2, dtype=torch.float64), "train_x": with_bias(x), "test_x": with_bias(x[:2])}
    owned |= {"train_y": one_hot([0, 1] * 10_000, 2), "test_y": one_hot([0, 0], 2)}
    first, second = (method.score(owned, with_bias(x[:1]), one_hot([y], 2), f).item() for y in (0, 1))
    growth = 2**8 - 1
    assert limit / growth * 8 < abs(first - second) <= limit
    assert abs(first - second) > 0.05 * limit  # p - y is half of the longest for rows and for tests


# --- sensitivity: what is stated about it


def test_the_sensitivities_are_the_stated_formulas():
    r, n, s = 3.0, 40, GradientNorm.scale(facts(40))
    assert sensitivity(GradientNorm(), facts(n), Bounds(r)) == pytest.approx(8 * (n - 1) * s**2 * r**2)
    one = facts(1)
    assert sensitivity(GradientNorm(), one, Bounds(r)) == pytest.approx(2 * GradientNorm.scale(one) ** 2 * r**2)
    small = Bounds(r, ceiling=1e-9)  # less than one row's: all of it
    assert sensitivity(GradientNorm(), facts(n), small) == pytest.approx(1e-9)
    assert sensitivity(Influence(), facts(n), Bounds(r, direction_spread=0.5)) == pytest.approx(2 * r * 0.5)
    f = facts(n, train_rows=60, test_rows=7)
    tuned = sensitivity(Finetuning(steps=5, lr=0.1), f, Bounds(r, owner_norm=2.0))
    assert tuned == pytest.approx(7 * math.sqrt(2) * 2.0 * 5 * 0.1 * 2 * math.sqrt(2) * r / 100)
    shrinking = sensitivity(Finetuning(steps=5, lr=0.1), replace(f, l2=0.5), Bounds(r, owner_norm=2.0))
    assert shrinking == pytest.approx(tuned / 5 * sum(0.9**k for k in range(5)))
    assert sensitivity(Finetuning(steps=5, lr=0.1), f, Bounds(r)) == pytest.approx(tuned * 1.5)


def test_rows_that_are_not_clipped_exceed_the_sensitivity():
    v = torch.tensor([[1.0, -1.0], [0.0, 0.0]], dtype=torch.float64)
    theta = torch.tensor([[0.0, 0.0], [-50.0, 50.0]], dtype=torch.float64)
    limit = sensitivity(Influence(), facts(1, features=1, classes=2), Bounds(3.0, direction_spread=2.0))
    x = torch.tensor([[4.0], [-4.0]], dtype=torch.float64)
    for rows, holds in ((x, False), (clip_rows(x, 3.0), True)):
        terms = (example_gradients(theta, rows, torch.zeros(2, dtype=torch.int64)) * v).sum((1, 2))
        assert ((terms.max() - terms.min()).item() <= limit) == holds


@pytest.mark.parametrize("error", [0.01, 0.3])
def test_errors_of_the_softmax_and_of_the_opening_are_in_the_sensitivity(error):
    """p wrong by `error` in sum, in the worst way: sure, wrong, and more than sure."""
    f = facts(1, features=1, classes=2)
    off = torch.tensor([-1 - error / 2, 1 + error / 2], dtype=torch.float64)
    length = math.sqrt(8.0)
    rows = torch.tensor([[length, 1.0], [-length, 1.0]], dtype=torch.float64)
    gradients = rows[:, :, None] * off
    one = (GradientNorm.scale(f) * gradients[0]).square().sum().item()
    exact, published = (sensitivity(GradientNorm(), f, Bounds(3.0, softmax_error=e)) for e in (0.0, error))
    assert exact < one <= published
    v = torch.tensor([[1.0, -1.0], [0.0, 0.0]], dtype=torch.float64)
    terms = (gradients * v).sum((1, 2))
    exact, published = (sensitivity(Influence(), f, Bounds(3.0, None, 2.0, softmax_error=e)) for e in (0.0, error))
    assert abs(terms[0] - terms[1]).item() <= published and published == pytest.approx(exact * (1 + error))
    tuned = [sensitivity(Finetuning(), f, Bounds(3.0, softmax_error=e)) for e in (0.0, error)]
    assert tuned[1] > tuned[0]
    for method in (GradientNorm(), Influence(), Finetuning()):
        without, with_it = (
            sensitivity(method, f, Bounds(3.0, direction_spread=1.0, opened_error=e)) for e in (0.0, 0.25)
        )
        assert with_it == pytest.approx(without + 0.5)


def test_a_method_without_a_derivation_is_refused_by_name():
    @dataclass(frozen=True)
    class Other(Influence):
        name = "other"

    with pytest.raises(InputError, match="got other; expected a method whose sensitivity is derived: gradient_norm, "):
        sensitivity(Other(), facts(3), Bounds(3.0, direction_spread=1.0))
    assert set(SENSITIVITIES) == {GradientNorm, Influence, Finetuning}


def test_bounds_that_are_missing_or_told_from_the_data_are_refused():
    with pytest.raises(InputError, match="release.spread: got nothing"):
        sensitivity(Influence(), facts(3), Bounds(3.0))
    with pytest.raises(InputError, match="scales gradient_norm: got 2.7; expected 3, .*tells of them"):
        sensitivity(GradientNorm(), facts(3, norm=2.7), Bounds(3.0))
    with pytest.raises(InputError, match="appraisal.lr: got 1e\\+200"):
        sensitivity(Finetuning(lr=1e200), facts(3), Bounds(3.0))


BAD = {
    "owner_norm": "norm of the model owner's rows",
    "direction_spread": "release.spread",
    "ceiling": "release.ceiling",
    "softmax_error": "error of a row's probabilities",
    "opened_error": "error of the opened number",
    "weight_norm": "announced norm of the weights",
}


@pytest.mark.parametrize("key", BAD)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, True, "1"])
def test_bad_bounds_are_refused_by_name(key, value):
    with pytest.raises(InputError, match=f"^{BAD[key]}: got"):
        Bounds(3.0, **{key: value})
