"""The sensitivities of linear and logistic regression, against brute force and the worst row that a search finds.

The oracle is numpy: the rows' gradients and the steps of training in closed form. No pair of neighbours exceeds the
stated number, and the worst pair comes within the fraction that the page docs/protocols/releases.md states.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.release import NoisedRelease
from mpc_appraisal.release.dp.clipping import clip_direction, clip_rows, clip_targets, spread
from mpc_appraisal.release.dp.rounding import squared_error
from mpc_appraisal.release.dp.sensitivity import Bounds, sensitivity

R, W, D = 8.0, 0.5, 3.0  # the norms of rows, weights and direction
TARGETS = (0.1, 4.0, 60.0)  # far below, at and above the largest prediction R W
EXACT = 1 + 1e-9
NEAR, NEAR_SQUARE = 0.85, 0.7  # of the stated sensitivity: of influence, and of the two methods of another number
LINKS = pytest.mark.parametrize("link", ["identity", "logistic"])


def facts(rows: int, link: str, target: float = 0.0, **more) -> Facts:
    sizes = {"features": 2, "classes": 1 if link == "identity" else 2, "train_rows": 2, "test_rows": 2, "l2": 0.0}
    return Facts(rows=rows, row_norm=R, longest=R, logit_bound=R * W, link=link, target=target, **sizes | more)


def bounds(link: str, target: float, **more) -> Bounds:
    return Bounds(R, target_norm=target, weight_norm=W, **more) if link == "identity" else Bounds(R, **more)


def circle(count: int = 181, parts=(0.25, 0.5, 0.75, 1.0)) -> np.ndarray:
    """Rows [x, 1] of many lengths up to R in all directions, (count * parts, 3)."""
    angles = np.linspace(0, 2 * np.pi, count)
    x = np.concatenate([k * math.sqrt(R**2 - 1) * np.stack([np.cos(angles), np.sin(angles)], 1) for k in parts])
    return np.hstack([x, np.ones((len(x), 1))])


def rows_of(link: str, target: float, **finer) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets: each row with the ends and the middle of the targets, or with both labels."""
    x, ends = circle(**finer), [-target, 0.0, target] if link == "identity" else [0.0, 1.0]
    return np.repeat(x, len(ends), 0), np.tile(ends, len(x))


def residuals(link: str, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 2 * (z - y) if link == "identity" else 1 / (1 + np.exp(-np.clip(z, -500, 500))) - y


def vector(norm: float, *entries: float) -> np.ndarray:
    return norm * np.array(entries) / np.linalg.norm(entries)


def confident(link: str, theta: np.ndarray) -> np.ndarray:
    """Weights of norm W for a squared error; without a limit where none counts."""
    return theta if link == "identity" else 100 * theta


def sure(link: str) -> np.ndarray:
    """Weights that predict most of a long row, or that are sure of class 1 whatever the row is."""
    return vector(W, 1, 0, 0) if link == "identity" else vector(100, 0, 0, 1)


# ---- gradients of single rows


@LINKS
@pytest.mark.parametrize("target", TARGETS)
def test_influence_of_the_worst_pair_over_all_directions(link, target):
    x, y = rows_of(link, target)
    limit, worst = sensitivity(Influence(), facts(5, link), bounds(link, target, direction_spread=D)), 0.0
    theta = confident(link, vector(W, 1, 0, 0))
    for angle in np.linspace(0, np.pi, 37):
        terms = residuals(link, x @ theta, y) * (x @ vector(D, np.cos(angle), np.sin(angle), 0))
        worst = max(worst, np.ptp(terms))  # the other rows cancel
    assert NEAR * limit <= worst <= limit * EXACT
    for seed in range(40):  # and no weights and direction with a bias have more
        rng = np.random.default_rng(seed)
        theta, v = confident(link, vector(W, *rng.normal(size=3))), vector(D, *rng.normal(size=3))
        assert np.ptp(residuals(link, x @ theta, y) * (x @ v)) <= limit * EXACT


@LINKS
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [1, 2, 30])
@pytest.mark.parametrize("ceiling", [None, 100.0])
def test_gradient_norm_of_random_and_of_adversarial_neighbours(link, target, rows, ceiling):
    f = facts(rows, link, target)
    limit, scale = sensitivity(GradientNorm(), f, bounds(link, target, ceiling=ceiling)), GradientNorm.scale(f)
    x, y = rows_of(link, target, count=91)
    worst = 0.0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        theta = confident(link, vector(W, *rng.normal(size=3)) if seed else vector(W, 1, 0, 0))
        gradients = x * residuals(link, x @ theta, y)[:, None]
        picked = rng.choice(len(x), rows - 1)
        if seed % 2 == 0:  # rows that are all alike, and longest
            picked = np.full(rows - 1, np.linalg.norm(gradients, axis=1).argmax())
        rest = gradients[picked].sum(0)
        opened = np.minimum(((rest + gradients) ** 2).sum(1) * scale**2, ceiling or math.inf)
        worst = max(worst, np.ptp(opened))
    assert worst <= limit * EXACT
    if ceiling is None:
        assert worst >= NEAR_SQUARE * limit


# ---- fine-tuning


def tuned(link, theta, x, y, method, l2=0.0, batches=None):
    """The weights after gradient descent on the rows of each step."""
    for index in batches or [slice(None)] * method.steps:
        gradient = x[index].T @ residuals(link, x[index] @ theta, y[index]) / len(x[index])
        theta = theta - method.lr * (gradient + 2 * l2 * theta)
    return theta


def loss(link, z, y):
    return ((z - y) ** 2 if link == "identity" else np.logaddexp(0, z) - y * z).sum()


@LINKS
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("steps", [1, 3])
def test_finetuning_of_adversarial_neighbours(link, target, steps):
    """Test rows of the steepest loss along the weights, and a row that is replaced by the worst of all."""
    f, method = facts(2, link, target, l2=0.02), Finetuning(steps=steps, lr=1e-4)
    limit = sensitivity(method, f, bounds(link, target))
    theta, long = sure(link), [math.sqrt(R**2 - 1), 0, 1]
    own, low = np.array([[0, 0, 1.0]] * 2), -target if link == "identity" else 0.0
    x, y = rows_of(link, target, count=61)
    found = []
    for row, value in zip(x, y, strict=True):
        rows, values = np.vstack([own, long, row]), np.array([0.0, 0.0, low, value])
        after = tuned(link, theta, rows, values, method, 0.02)
        test = np.array([long, long])
        found.append(loss(link, test @ after, low) - loss(link, test @ theta, low))
    assert NEAR_SQUARE * limit <= np.ptp(found) <= limit * EXACT


@LINKS
@pytest.mark.parametrize(
    "method",
    [Finetuning(steps=3, lr=5e-3), Finetuning(steps=3, lr=0.1), Finetuning(steps=4, lr=5e-3, batch_size=2, seed=4)],
    ids=["slow", "overshooting", "batches"],
)
def test_finetuning_of_random_neighbours(link, method):
    target, worst = 3.0, 0.0
    f = facts(3, link, target, train_rows=3, l2=0.05)
    limit = sensitivity(method, f, bounds(link, target, owner_norm=6.0, owner_target=2.0))
    x, y = rows_of(link, target, count=13)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        theta = confident(link, vector(W, *rng.normal(size=3)))
        own = np.array([vector(math.sqrt(35), *rng.normal(size=2)) for _ in range(5)])
        own = np.hstack([own, np.ones((5, 1))])
        t = rng.uniform(-2, 2, 5) if link == "identity" else rng.integers(0, 2, 5).astype(float)
        one, two, *rest = rng.choice(len(x), 4)
        batches = [np.concatenate([a, b + 3]) for a, b in method.schedule(f)]
        values = []
        for first in (one, two):
            index = [first, *rest]
            rows, targets = np.vstack([own[:3], x[index]]), np.concatenate([t[:3], y[index]])
            after = tuned(link, theta, rows, targets, method, 0.05, batches)
            values.append(loss(link, own[3:] @ after, t[3:]) - loss(link, own[3:] @ theta, t[3:]))
        worst = max(worst, abs(values[0] - values[1]))
    assert 0 < worst <= limit * EXACT


# ---- what a triangle of the rows and the cuts on shares add


def triangle_of(rows: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return np.linalg.qr(rows, mode="r") + np.triu(wrong)


@pytest.mark.parametrize("method", [GradientNorm(), Influence()], ids=lambda m: m.name)
@pytest.mark.parametrize(("rows", "features"), [(50, 2), (2000, 2), (300, 30)])
def test_what_rounding_of_the_triangle_changes_is_within_its_bound(method, rows, features):
    target, rng = 4.0, np.random.default_rng(rows)
    f = facts(rows, "identity", target, features=features)
    known = bounds("identity", target, direction_spread=D)
    stated, scale = squared_error(method, f, known), GradientNorm.scale(f)

    def opened(a, cuts):
        gradient = a[:, :-1].T @ (2 * a @ np.append(theta, -1.0) + cuts[0])
        if isinstance(method, GradientNorm):
            return ((scale * gradient + cuts[1]) ** 2).sum()
        return (gradient + cuts[1]) @ v

    worst, unit = 0.0, 2.0**-18
    for seed in range(6):
        theta = vector(W, *([1.0] + [0.0] * features if seed % 2 else rng.normal(size=features + 1)))
        v = theta / W * D if seed % 2 else vector(D, *rng.normal(size=features + 1))
        x = rng.normal(size=(rows, features)) if seed < 3 else np.tile(np.eye(features)[0], (rows, 1))
        x *= math.sqrt(R**2 - 1) / np.linalg.norm(x, axis=1, keepdims=True)
        a = np.hstack([x, np.ones((rows, 1)), np.full((rows, 1), -target if seed > 2 else target)])
        exact = opened(a, (0.0, 0.0))
        triangle = triangle_of(a, np.zeros((features + 2, features + 2)))
        to_nearest = np.round(triangle * 2**16) / 2**16 - triangle
        along = 2.0**-17 * np.sign(np.outer(triangle @ np.append(theta, -1.0), np.append(v, -1.0)))
        for wrong, sign in ((to_nearest, 0.0), (along, 1.0), (-along, -1.0)):
            cuts = sign * unit * np.sign(triangle[:, :-1] @ v), sign * unit * np.sign(v)
            worst = max(worst, abs(opened(triangle_of(a, wrong), cuts) - exact))
    assert stated / 20 <= worst <= stated
    noise = NoisedRelease(row_norm=R, target_norm=target, spread=D).sensitivity(method, f)
    assert noise < 1.2 * sensitivity(method, f, known)  # the price of the triangle


# ---- clipping, and what is stated


def test_targets_and_one_column_are_clipped_as_they_will_be_shared():
    y = clip_targets(torch.tensor([-1e30, -2.0, 1.0, 2.0, 5.0]), 2.0)
    assert torch.equal(y, torch.tensor([-2 + 2.0**-17, -2 + 2.0**-17, 1.0, 2 - 2.0**-17, 2 - 2.0**-17]).double())
    direction = torch.tensor([[3.0], [4.0]], dtype=torch.float64)
    assert spread(direction) == 5.0 and torch.equal(clip_direction(direction, 6.0), direction)
    shrunk = clip_direction(direction, 1.0)
    assert 0.999 < spread(shrunk) < 1.0 and torch.allclose(shrunk / shrunk[0], direction / 3)
    for bad in (0.0, -1.0, math.nan, 2.0**16, True, "1"):
        with pytest.raises(InputError, match="^target_norm: got"):
            NoisedRelease(row_norm=R, target_norm=bad)


@LINKS
def test_rows_and_targets_that_are_not_clipped_exceed_the_sensitivity(link):
    limit = sensitivity(Influence(), facts(1, link), bounds(link, 4.0, direction_spread=D))
    theta, v = sure(link), vector(D, 1, 0, 0)
    rows = torch.tensor([[20.0, 0.0], [-20.0, 0.0]], dtype=torch.float64)
    # A row that is far off its target, and another that is as far off on the other side.
    y = torch.tensor([-30.0, -30.0]) if link == "identity" else torch.tensor([0.0, 0.0])
    for norm, cut, holds in ((None, None, False), (R, 4.0, True)):
        x = rows if norm is None else clip_rows(rows, norm)
        t = y if cut is None or link != "identity" else clip_targets(y, cut)
        x, t = np.hstack([x.numpy(), np.ones((2, 1))]), t.numpy()
        assert (np.ptp(residuals(link, x @ theta, t) * (x @ v)) <= limit) == holds


def test_the_sensitivities_are_the_stated_formulas_and_need_their_bounds():
    n, target = 40, 4.0
    f, known = facts(n, "identity", target), bounds("identity", target, direction_spread=D)
    b, c, s = 2 * R * (R * W + target), 2 * R * (R * W + 2 * target), GradientNorm.scale(f)
    assert sensitivity(Influence(), f, known) == pytest.approx(c * D)
    assert sensitivity(GradientNorm(), f, known) == pytest.approx((s * n * b) ** 2 - (s * n * b - s * c) ** 2)
    tuning = sensitivity(Finetuning(steps=1, lr=1e-3), f, known)
    grown = W + 2e-3 * R * target
    assert tuning == pytest.approx(2 * 2 * R * (R * grown + target) * 1e-3 * c / (n + 2))
    f = facts(n, "logistic")
    assert sensitivity(Influence(), f, Bounds(R, direction_spread=D)) == pytest.approx(2 * R * D)
    assert sensitivity(Finetuning(steps=5, lr=1e-3), f, Bounds(R)) == pytest.approx(2 * R * 5e-3 * 2 * R / (n + 2))
    for method in (Influence(), GradientNorm(), Finetuning()):
        named = (("release.target_norm", {"weight_norm": W}), ("norm of the weights", {"target_norm": 1.0}))
        for missing, other in named:
            with pytest.raises(InputError, match=f"{missing}: got nothing"):
                sensitivity(method, facts(n, "identity", 1.0), Bounds(R, direction_spread=D, **other))
