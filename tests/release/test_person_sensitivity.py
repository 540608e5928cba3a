"""Noise per person: brute force over whole persons of tables, against the stated sensitivity and that of one row.

A table has persons of up to N rows. All rows of one person are removed, or replaced by as many others, and the
un-noised number is computed anew, by autograd and by torch's own SGD. It changes by no more than the sensitivity of a
person; noise that is scaled to one row would not cover it.
"""

from __future__ import annotations

import math

import pytest
import torch
from oracles import example_gradients, finetuned, loss
from test_sensitivity import EXACT, facts, normal, pool

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence
from mpc_appraisal.release import NoisedRelease
from mpc_appraisal.release.description import GroupBound
from mpc_appraisal.release.dp.clipping import clipped, spread
from mpc_appraisal.release.dp.sensitivity import Bounds, sensitivity

R, N, D = 3.0, 4, 2.0
WEIGHTS = [4.0, 2.0, 1.5]  # G = B / R; with the first, B = N R and no row is cut further


def persons(seed: int, most: int = N, rows: int = 14) -> torch.Tensor:
    """A table's persons, each with 1 to `most` rows, in any order."""
    g, sizes = torch.Generator().manual_seed(seed), [most]
    while sum(sizes) < rows:
        sizes.append(min(int(torch.randint(1, most + 1, (1,), generator=g)), rows - sum(sizes)))
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return groups[torch.randperm(rows, generator=g)]


def table(x: torch.Tensor, y: torch.Tensor, groups: torch.Tensor, weight: float) -> Dataset:
    """The candidate as its owner shares it: clipped by person to norms that add up to weight R."""
    bound = GroupBound("customer", N, weight * R)
    return clipped(Dataset(x, y, 3).grouped(groups), R, 3, group=bound)


def random_table(seed: int, weight: float) -> Dataset:
    """Long rows, of which each person's lie along one direction with one label, as far as chance lets them."""
    groups, g = persons(seed), torch.Generator().manual_seed(100 + seed)
    towards, labels = normal(14, 2, seed=seed), torch.randint(3, (14,), generator=g)
    towards = 9 * towards / torch.linalg.vector_norm(towards, dim=1, keepdim=True)
    return table(towards[groups] + 0.1 * normal(14, 2, seed=50 + seed), labels[groups], groups, weight)


def terms(theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    return example_gradients(theta, data.x, data.y)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_norms_of_a_persons_rows_add_up_to_the_bound(weight, seed):
    data = random_table(seed, weight)
    norms = torch.sqrt(data.x.square().sum(1) + 1)
    sums = torch.zeros(int(data.groups.max()) + 1, dtype=torch.float64).index_add(0, data.groups, norms)
    sizes = torch.bincount(data.groups)
    assert sizes.max() == N and sums.max() <= weight * R and norms.max() <= R
    for row, size in enumerate(sizes[data.groups].tolist()):  # long rows are cut to their norm, and no further
        assert norms[row].item() == pytest.approx(min(R, weight * R / size), abs=1e-4)
    loose = clipped(Dataset(data.x, data.y, 3), R, 3)
    assert torch.equal(loose.x, data.x)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_removing_a_person_changes_influence_by_less_than_the_sensitivity(weight):
    f, worst = facts(14), 0.0
    limit = sensitivity(Influence(), f, Bounds(R, direction_spread=D, group_weight=weight))
    row = sensitivity(Influence(), f, Bounds(R, direction_spread=D))
    for seed in range(24):
        data, v = random_table(seed, weight), normal(3, 3, seed=200 + seed)
        each = (terms(40.0 * normal(3, 3, seed=seed), data) * (D * v / spread(v))).sum((1, 2))
        change = torch.zeros(int(data.groups.max()) + 1, dtype=torch.float64).index_add(0, data.groups, each)
        worst = max(worst, change.abs().max().item())  # the number less that without the person
    assert worst <= limit * EXACT
    if weight == N:
        assert worst > row  # noise for one row covers no person, not even one that is removed


def extreme(v: torch.Tensor, sign: float) -> tuple[torch.Tensor, int]:
    """The longest row along the difference of the two farthest columns of v, and the label that a sure model misses."""
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    a, b = max(pairs, key=lambda pair: torch.linalg.vector_norm(v[:, pair[0]] - v[:, pair[1]]).item())
    return sign * (v[:2, a] - v[:2, b]), b


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_persons_replacement_comes_near_the_sensitivity_of_influence(weight):
    """The worst person: N rows of term + R D become N of term - R D. The constant feature keeps the rest apart."""
    v = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    v = D * v / spread(v)
    theta = torch.zeros(3, 3, dtype=torch.float64)
    theta[2] = torch.tensor([200.0, 0.0, -200.0])  # the model is sure of class 0, whatever the row
    limit = sensitivity(Influence(), facts(14), Bounds(R, direction_spread=D, group_weight=weight))
    row = sensitivity(Influence(), facts(14), Bounds(R, direction_spread=D))
    groups, found = persons(1), []
    whose = int(torch.bincount(groups).argmax())
    for sign in (1.0, -1.0):
        x, y = normal(14, 2, seed=5), torch.zeros(14, dtype=torch.int64)
        towards, label = extreme(v, sign)
        x[groups == whose], y[groups == whose] = 99 * towards, label
        found.append((terms(theta, table(x, y, groups, weight)) * v).sum().item())
    change = abs(found[0] - found[1])
    cut = weight * R / N  # of each row, of which the constant feature takes 1
    assert change == pytest.approx(limit * math.sqrt(cut**2 - 1) / cut, rel=1e-3) and change <= limit * EXACT
    assert (change > 1.5 * row) == (weight == N)


@pytest.mark.parametrize("ceiling", [None, 3.0])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_gradient_norm_of_neighbours_that_differ_in_one_person(weight, ceiling):
    f, method, worst = facts(14), GradientNorm(), 0.0
    limit = sensitivity(method, f, Bounds(R, ceiling=ceiling, group_weight=weight))
    row = sensitivity(method, f, Bounds(R, ceiling=ceiling))
    most = math.inf if ceiling is None else ceiling
    x_pool, y_pool = pool(R, 3)
    for seed in range(10):
        theta, data = 40.0 * normal(3, 3, seed=seed), random_table(seed, weight)
        data = table(x_pool[:1].expand(14, 2), torch.full((14,), seed % 3), data.groups, weight) if seed % 2 else data
        kept = int(torch.bincount(data.groups).argmax())
        others = terms(theta, data)[data.groups != kept].sum(0)
        opened = []
        for k in range(0, len(x_pool), 2):  # all rows of the person are one of the pool, or there is none of them
            size = int((data.groups == kept).sum())
            person = table(x_pool[k].expand(size, 2), y_pool[k].expand(size), torch.zeros(size).long(), weight)
            opened.append((method.scale(f) * (others + terms(theta, person).sum(0))).square().sum().clamp(max=most))
        opened.append((method.scale(f) * others).square().sum().clamp(max=most))
        worst = max(worst, (max(opened) - min(opened)).item())
    assert worst <= limit * EXACT
    if weight == N and ceiling is None:
        assert worst > row


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(
    "method",
    [Finetuning(steps=3, lr=0.05), Finetuning(steps=4, lr=0.3, batch_size=4, seed=4)],
    ids=["all rows", "batches"],
)
def test_finetuning_of_neighbours_that_differ_in_one_person(method, weight):
    """By torch's own SGD and cross-entropy, on all the rows of a person at once."""
    f, worst, x_pool, y_pool = facts(14), 0.0, *pool(R, 3)
    limit = sensitivity(method, f, Bounds(R, owner_norm=2.0, group_weight=weight))
    row = sensitivity(method, f, Bounds(R, owner_norm=2.0))
    for seed in range(12):
        data, theta = random_table(seed, weight), (0.5, 50.0)[seed % 2] * normal(3, 3, seed=seed)
        own = 0.5 * normal(5, 2, seed=70 + seed).clamp(-1, 1)
        labels, places = torch.arange(5) % 3, data.groups == torch.bincount(data.groups).argmax()
        opened = []
        for k in (3 * seed % len(x_pool), (3 * seed + 19) % len(x_pool)):
            x, y = data.x.clone(), data.y.clone()
            x[places], y[places] = 9 * x_pool[k], y_pool[k]
            other = table(x, y, data.groups, weight)
            rows, marks = torch.cat([own[:3], other.x]), torch.cat([labels[:3], other.y])
            batches = [torch.cat([a, b + 3]) for a, b in method.schedule(f)]
            after = finetuned(theta, rows, marks, 0.0, method.lr, batches)
            opened.append(loss(after, own[3:], labels[3:], "sum") - loss(theta, own[3:], labels[3:], "sum"))
        worst = max(worst, abs(opened[0] - opened[1]).item())
    assert 0 < worst <= limit * EXACT and row < limit <= weight * row * EXACT


@pytest.mark.parametrize("weight", WEIGHTS)
def test_linear_regression_of_neighbours_that_differ_in_one_person(weight):
    """The gradient of a row is 2 x (x theta - y). All of a person's rows are turned to what is farthest."""
    target, weights, worst = 2.0, 1.5, 0.0
    f = facts(14, classes=1, link="identity", target=target)
    known = {"direction_spread": D, "target_norm": target, "weight_norm": weights}
    limit = sensitivity(Influence(), f, Bounds(R, group_weight=weight, **known))
    row = sensitivity(Influence(), f, Bounds(R, **known))
    x_pool, _ = pool(R, 1)
    for seed in range(30):
        theta, v = normal(3, 1, seed=seed), normal(3, 1, seed=90 + seed)
        theta, v = weights * theta / theta.norm(), D * v / v.norm()
        sums = []
        for k in range(len(x_pool)):
            person = table(x_pool[k].expand(N, 2), torch.zeros(N).long(), torch.zeros(N).long(), weight)
            x = torch.cat([person.x, torch.ones(N, 1, dtype=torch.float64)], 1)
            sums += [(2 * (x @ theta - y) * (x @ v)).sum().item() for y in (-target, target)]
        worst = max(worst, max(sums) - min(sums))
    assert worst <= limit * EXACT and (worst > row or weight < N)


def test_a_weight_of_one_is_one_row_and_weights_are_linear():
    for method in (Influence(), GradientNorm(), Finetuning(steps=3, lr=0.05)):
        for f in (facts(20), facts(20, classes=2)):
            one, same, two = (
                sensitivity(method, f, Bounds(R, direction_spread=D, **more))
                for more in ({}, {"group_weight": 1.0}, {"group_weight": 2.0})
            )
            assert one == same < two <= 2 * one * EXACT


# --- what a release states of persons


def test_a_release_scales_its_noise_to_a_person_and_says_so():
    stated = {"row_norm": R, "epsilon": 1.0}
    f = facts(2000, spread=D, logit_bound=5.0, l2=0.01)
    row, whole, less = (
        NoisedRelease(**stated, **more)
        for more in (
            {},
            {"group": "customer", "group_rows": N},
            {"group": "customer", "group_rows": N, "group_norm": 6.0},
        )
    )
    known = [each.sensitivity(Influence(), f) for each in (row, whole, less)]
    off = 2 * row._opened_error(Influence(), f, row._bounds(f))
    assert known[1] - off == pytest.approx(N * (known[0] - off)) and known[2] - off == pytest.approx(
        2 * (known[0] - off)
    )
    assert (
        row.privacy(Influence(), f).protects
        == "one row of the data owner's candidate; nothing of the model owner's data"
    )
    assert whole.privacy(Influence(), f).protects.startswith(
        "one person (column customer, at most 4 rows each) of the data owner's candidate;"
    )
    assert "at most 4 rows each, of norms that add up to 6)" in less.privacy(Influence(), f).protects
    assert "group" not in repr(row) and "group='customer', group_rows=4)" in repr(whole)
    assert row.privacy(Influence(), f).sigma == whole.privacy(Influence(), f).sigma


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"group_rows": 4}, "group_rows: got 4; expected null, or group= beside it"),
        ({"group_norm": 9.0}, "group_norm: got 9.0; expected null, or group= beside it"),
        ({"group": "customer"}, "group_rows: got None; expected the most rows of one person"),
        ({"group": "customer", "group_rows": 0}, "group_rows: got 0"),
        ({"group": "customer", "group_rows": 2.5}, "group_rows: got 2.5"),
        ({"group": " customer", "group_rows": 4}, "group: got ' customer'; expected the name of a column"),
        ({"group": "/data/a", "group_rows": 4}, "group: got '/data/a'; expected the name of a column"),
        ({"group": "x" * 61, "group_rows": 4}, "group: got 'xxx"),
        ({"group": "customer", "group_rows": 4, "group_norm": 4.0}, "group_norm: got 4.0; expected a number above"),
        ({"group": "customer", "group_rows": 4, "group_norm": 12.5}, "group_norm: got 12.5; .* at most .* = 12"),
    ],
)
def test_what_is_no_bound_on_persons(stated, message):
    with pytest.raises(InputError, match=message):
        NoisedRelease(row_norm=R, **stated)


def test_rows_of_no_persons_and_persons_of_too_many_rows_are_refused():
    data, bound = Dataset(normal(9, 2, seed=1), torch.zeros(9).long(), 3, "shop"), GroupBound("customer", 2, 6.0)
    with pytest.raises(InputError, match="release.group: got shop, whose rows are of no stated persons"):
        clipped(data, R, 3, group=bound)
    groups = torch.tensor([0, 1, 2, 3, 1, 4, 1, 5, 6])
    with pytest.raises(InputError, match="release.group_rows: got shop, in which the person of row 1 has 3 rows; .* 2"):
        clipped(data.grouped(groups), R, 3, group=bound)
    with pytest.raises(InputError, match="release.group_norm: got 1.0"):
        clipped(data.grouped(groups // 2), R, 3, group=GroupBound("customer", 4, 4.0000000001))
