"""Attacks on random transformations, on real digits, and for each the setting in which it stops."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import roc_auc_score
from three import run, sharing
from torch.nn.functional import conv2d, cross_entropy

from experiments.harness.size import Size
from experiments.studies.transformations import attacks
from experiments.studies.transformations.study import page_and_figures
from mpc_appraisal.attacks.rtas import collusion, histogram, known_rows, linking, membership
from mpc_appraisal.attacks.rtas import float_drift as drift
from mpc_appraisal.attacks.rtas.view import HIDDEN, View, seen
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import ENVIRONMENT, Dataset, Digits, Mnist, with_bias
from mpc_appraisal.methods.base import summed_gradient
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.protocols.permutation import apply
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, encode
from mpc_appraisal.mpc.ring.prg import Stream

ROOT = Path(os.environ.get(ENVIRONMENT) or Path(__file__).resolve().parents[3] / "shared" / "data")
ULP = 2.0**-PRECISION_BITS
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def digits():
    return Digits().load()


@pytest.fixture(scope="module")
def models(digits):
    """The model, one of other rows of the same kind, and one of one logit."""
    own, other = digits[0].subset(range(150)), digits[0].subset(range(150, 300))
    return fit(own, 1e-2), fit(other, 1e-2), fit(Dataset(own.x, (own.y == 0).long(), 2), 1e-2)


@pytest.fixture(scope="module")
def private(digits):
    return digits[0].subset(range(300, 1297))


def one_logit(model, x):
    z = model.logits(x)
    return z[:, 1:] - z[:, :1]


def drawn(data, classes: int, y: torch.Tensor, rows: int, seed: int):
    """Row numbers of a batch with another class mix, and that mix."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.rand(classes, generator=draw).square() / torch.bincount(y, minlength=classes)
    chosen = torch.multinomial(weight[y], rows, generator=draw)
    return chosen, torch.bincount(y[chosen], minlength=classes).double() / rows


# --- what is seen


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_view_has_all_values_and_not_their_order(models, private, hidden):
    z = models[0].logits(private.x)
    view = seen(z, hidden, 0)
    truth, values = (z.reshape(-1), view.values) if hidden == "entries" else (z, view.values)
    moved = truth[view.order]
    if hidden == "columns":
        assert ((values - moved).abs() > 1e-3).double().mean() > 0.8  # about one entry of ten stays where it was
        moved, values = moved.sort(dim=1).values, values.sort(dim=1).values
    assert float((values - moved).abs().max()) <= ULP
    assert torch.equal(values * 2**PRECISION_BITS, (values * 2**PRECISION_BITS).round())
    assert not torch.equal(view.order, torch.arange(len(truth)))


def test_a_view_of_another_kind_is_refused(models, private):
    z = models[0].logits(private.x)
    for wrong in (lambda: seen(z[0], "rows", 0), lambda: seen(z, "nothing", 0), lambda: seen(z, "entries", 0).rows):
        with pytest.raises(InputError):
            wrong()


# --- histogram


def test_the_class_mix_is_read_from_permuted_rows(digits, models, private):
    found = {hidden: [] for hidden in (*HIDDEN, "guess", "one logit", "one logit, guess")}
    public = digits[1]
    for seed in range(3):
        for many in (True, False):
            y, own = (data.y if many else (data.y == 0).long() for data in (private, public))
            classes = 10 if many else 2
            rows, truth = drawn(private, classes, y, 300, seed)
            usual = torch.bincount(own, minlength=classes).double() / len(own)
            found["guess" if many else "one logit, guess"].append(histogram.agreement(usual, truth))
            for hidden in HIDDEN if many else ("entries",):
                z, reference = (
                    models[0].logits(x) if many else one_logit(models[2], x) for x in (private.x[rows], public.x)
                )
                mix = histogram.class_mix(seen(z, hidden, seed), seen(reference, hidden, 9), own, classes)
                assert float(mix.sum()) == pytest.approx(1)
                found[hidden if many else "one logit"].append(histogram.agreement(mix, truth))
    mean = {name: np.mean(values) for name, values in found.items()}
    assert mean["rows"] > 0.93 and mean["one logit"] > 0.97 > mean["one logit, guess"]
    assert mean["rows"] > mean["columns"] > mean["guess"]
    assert abs(mean["entries"] - mean["guess"]) < 0.1  # ten classes, entries torn apart: little is left


def spoilt(data, share: float, draw: torch.Generator) -> Dataset:
    return Dataset(data.x * (torch.rand(data.x.shape, generator=draw) >= share), data.y, 10)


def appraisal(model, data) -> float:
    return -float(summed_gradient(model.theta, with_bias(data.x), data.one_hot()).norm()) / data.rows


def test_missing_data_are_read_from_permuted_rows_and_wrong_labels_are_not(digits, models, private):
    draw, model = torch.Generator().manual_seed(2), models[0]
    views, shares = [], []
    for turn in range(20):
        shares.append(float(torch.rand((), generator=draw)))
        batch = spoilt(digits[1].subset(torch.randperm(500, generator=draw)[:200]), shares[-1], draw)
        views.append(seen(model.logits(batch.x), "columns", turn))
    learnt = histogram.Appraisal.learn(views, shares)
    levels = [0.0, 0.2, 0.4, 0.6, 0.8]
    candidates = [spoilt(private.subset(range(199 * k, 199 * (k + 1))), level, draw) for k, level in enumerate(levels)]
    told = [learnt.predict(seen(model.logits(c.x), "columns", 7)) for c in candidates]
    assert told == sorted(told) and np.abs(np.array(told) - levels).max() < 0.15
    clean = candidates[0]
    noisy = Dataset(clean.x, (clean.y + 1) % 10, 10)
    views = [seen(model.logits(data.x), "columns", 8) for data in (clean, noisy)]
    assert appraisal(model, noisy) < 1.5 * appraisal(model, clean)  # both negative: much worse
    assert learnt.predict(views[0]) == learnt.predict(views[1])


def test_histograms_refuse_what_cannot_be_compared(models, private):
    z = models[0].logits(private.x)
    with pytest.raises(InputError, match="hidden like"):
        histogram.class_mix(seen(z, "rows", 0), seen(z, "columns", 0), private.y, 10)
    with pytest.raises(InputError, match="two views"):
        histogram.Appraisal.learn([seen(z, "rows", 0)], [1.0])


# --- membership


@pytest.mark.parametrize("hidden", HIDDEN)
def test_members_are_told_by_who_knows_the_model(models, private, hidden):
    inside, outside = private.x[:400], private.x[400:800]
    view = seen(models[0].logits(inside), hidden, 0)
    near, far = (membership.members(view, models[0].logits(x)) for x in (inside, outside))
    assert membership.accuracy(near, far) > (0.99 if hidden == "entries" else 1 - 1e-12)
    foreign = [membership.distances(view, models[1].logits(x)) for x in (inside, outside)]
    assert membership.accuracy(*(d < membership.TOLERANCE for d in foreign)) == pytest.approx(0.5, abs=0.01)
    assert membership.ranked(*foreign) < 0.85  # the model unknown: similar rows at most


def test_chance_hits_of_one_logit_are_as_many_as_the_formula_says(models, private):
    inside, outside = one_logit(models[2], private.x[:500]), one_logit(models[2], private.x[500:])
    view, tolerance = seen(inside, "entries", 0), 2.0**-9
    hits = membership.members(view, outside, tolerance)
    wide = 2.0**-3  # n p(v) from a window around v that holds many values
    around = ((outside - inside.reshape(-1)).abs() < wide).double().sum(dim=1) / (2 * wide)
    expected = float((1 - (-2 * tolerance * around).exp()).mean())
    assert 0 < float(hits.double().mean()) == pytest.approx(expected, abs=4 * (expected / len(outside)) ** 0.5)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_distances_are_those_of_a_search_one_by_one(hidden):
    draw = torch.Generator().manual_seed(1)
    z, others = (torch.randn(n, 3, generator=draw, dtype=torch.float64) for n in (6, 4))
    view = seen(z, hidden, 2)
    slow = []
    for row in others.tolist():
        if hidden == "entries":
            slow.append(max(min(abs(v - c) for v in view.values.tolist()) for c in row))
        else:
            key = sorted if hidden == "columns" else list
            slow.append(min(max(map(abs, np.subtract(key(v), key(row)))) for v in view.values.tolist()))
    assert membership.distances(view, others).tolist() == pytest.approx(slow, abs=1e-12)


def test_ranks_are_the_area_under_the_curve():
    near, far = torch.tensor([0.1, 0.4, 0.4, 0.7]), torch.tensor([0.4, 0.5, 0.9])
    area = roc_auc_score([1] * 4 + [0] * 3, (-torch.cat([near, far])).tolist())
    assert membership.ranked(near, far) == pytest.approx(area)


def test_membership_refuses_rows_of_another_width(models, private):
    view = seen(models[0].logits(private.x), "rows", 0)
    for wrong in (
        lambda: membership.distances(view, view.values[:, :9]),
        lambda: membership.members(view, view.values, 0),
    ):
        with pytest.raises(InputError):
            wrong()


# --- linking


def test_the_values_of_training_are_those_of_sgd_by_autograd(private):
    x, y = private.x[:64].double(), private.y[:64]
    found = linking.sights(x, y, 10, 2, 64, 0.1, 0)
    weights = torch.zeros(65, 10, dtype=torch.float64, requires_grad=True)
    cross_entropy(with_bias(x) @ weights, y).backward()
    assert float(found[0].abs().max()) == 0
    assert torch.allclose(found[1], with_bias(x) @ (-0.1 * weights.grad), atol=1e-12)


def test_rows_are_linked_across_epochs_better_as_the_model_settles(private):
    x, y = private.x[:300], private.y[:300]
    sights = linking.sights(x, y, 10, 8, 32, 0.1, 0)
    share = {}
    for epoch in (0, 6):
        views = [seen(sights[turn], "rows", turn) for turn in (epoch, epoch + 1)]
        share[epoch] = linking.linked(linking.link(*views), *views)
    assert share[6] > 0.95 > 0.3 > share[0]
    one = linking.sights(x, (y == 0).long(), 2, 8, 32, 0.1, 0)
    views = [seen(one[turn], "rows", turn) for turn in (6, 7)]
    assert linking.linked(linking.link(*views), *views) < 0.3  # one logit a row
    mixed = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert linking.linked(mixed, *views) < 0.05  # what a guess links


def test_one_matching_is_the_nearest_of_all_permutations():
    draw = torch.Generator().manual_seed(4)
    for columns in (1, 3):
        u, v = (torch.randn(6, columns, generator=draw, dtype=torch.float64) for _ in range(2))
        before, after = (View(z, torch.arange(6), "rows") for z in (u, v))
        cost = torch.cdist(u, v, p=1)
        best = min(sum(cost[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(6)))
        found = linking.link(before, after, rounds=1)
        assert sorted(found.tolist()) == list(range(6))
        assert float(cost[torch.arange(6), found].sum()) == pytest.approx(float(best), abs=1e-12)


def test_a_movement_common_to_all_rows_is_followed(models, private):
    """A part of each logit goes over to the next: the nearest rows are then often wrong ones, and following helps."""
    z = models[0].logits(private.x[:300])
    before, after = seen(z, "rows", 0), seen(0.6 * z + 0.6 * z.roll(1, dims=1), "rows", 1)
    first, last = (linking.linked(linking.link(before, after, rounds), before, after) for rounds in (1, 12))
    assert last > first + 0.05
    cost = torch.cdist(before.rows, after.rows, p=1).numpy()
    assert torch.equal(linking.link(before, after, 1), torch.from_numpy(linear_sum_assignment(cost)[1]))


def test_views_of_different_rows_are_not_linked():
    z = torch.randn(5, 3, dtype=torch.float64)
    with pytest.raises(InputError):
        linking.link(seen(z, "rows", 0), seen(z[:4], "rows", 1))


# --- known rows


def rounded(z: np.ndarray) -> np.ndarray:
    return np.rint(z / ULP) * ULP


def test_filters_and_their_matrix_are_those_of_a_convolution(digits):
    x = digits[1].x[:30]
    f = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = conv2d(x.reshape(-1, 1, 8, 8), f, stride=2)
    assert np.allclose(known_rows.filters(x.reshape(-1, 8, 8).numpy(), z.numpy(), 3, 2), f[:, 0].numpy(), atol=1e-10)
    assert np.allclose(x.numpy() @ known_rows.matrix(f[:, 0].numpy(), 8, 2), z.reshape(30, -1).numpy(), atol=1e-12)


def test_one_known_image_behind_a_convolution_opens_all_others(digits, private):
    """Digits, 3 x 3 filters; every pixel of every image, from outputs in fixed point."""
    secret = np.random.default_rng(0).normal(size=(4, 3, 3))
    layer = known_rows.matrix(secret, 8, 1)
    one, truth = private.x[:1].numpy(), np.rint(digits[1].x[:10].numpy() * 16)
    found = known_rows.filters(one.reshape(1, 8, 8), rounded(one @ layer).reshape(1, 4, 6, 6), 3, 1)
    assert np.abs(found - secret).max() < 1e-3
    w = known_rows.matrix(found, 8, 1)
    assert np.array_equal(known_rows.pixels(w / 16, rounded(truth / 16 @ layer), 2.0**-10, 16), truth)
    blind = known_rows.matrix(np.random.default_rng(1).normal(size=(4, 3, 3)), 8, 1)  # no known image
    assert not known_rows.pixels(blind / 16, rounded(truth / 16 @ layer), 2.0**-10, 16).any()


def test_676_outputs_of_784_pixels_give_every_pixel():
    """MNIST and the paper's first layer: 4 filters 4 x 4, stride 2."""
    if not (ROOT / "mnist").is_dir():
        pytest.skip(f"no folder mnist under {ROOT}: set {ENVIRONMENT} to a folder with mnist/")
    train, test = Mnist(str(ROOT / "mnist")).load()
    layer = known_rows.matrix(np.random.default_rng(0).normal(size=(4, 4, 4)), 28, 2)
    one, truth = train.x[:1].double().numpy(), np.rint(test.x[:5].double().numpy() * 255)
    found = known_rows.filters(one.reshape(1, 28, 28), rounded(one @ layer).reshape(1, 4, 13, 13), 4, 2)
    w = known_rows.matrix(found, 28, 2)
    assert np.linalg.matrix_rank(w) == 676
    assert np.array_equal(known_rows.pixels(w / 255, rounded(truth / 255 @ layer), 2.0**-13), truth)


def test_of_normal_rows_m_outputs_tell_m_dimensions_and_of_digits_much_more(digits, private):
    draw = np.random.default_rng(0)
    pool, x = private.x.double().numpy(), digits[1].x[:200].double().numpy()
    share = {}
    for outputs in (1, 10, 30):
        layer = draw.normal(size=(64, outputs))
        w = known_rows.dense(pool[:300], rounded(pool[:300] @ layer))
        share[outputs] = known_rows.explained(known_rows.rows(w, rounded(x @ layer), pool), x, pool.mean(axis=0))
        normal = draw.normal(size=(4000, 64))
        w = known_rows.dense(normal[:300], normal[:300] @ layer)
        assert np.allclose(w, layer)
        answer = known_rows.rows(w, normal[2000:] @ layer, normal[:2000])
        theory = known_rows.explained(answer, normal[2000:], np.zeros(64))
        assert theory == pytest.approx(outputs / 64, abs=0.04)  # theorem 3.3: n - m dimensions are left
    assert share[1] < 0.15 and share[10] > 2 * 10 / 64 and share[30] > 0.8 > 30 / 64


def test_a_layer_known_in_part_tells_in_part(digits, private):
    draw = np.random.default_rng(1)
    pool, x, layer = private.x.double().numpy(), digits[1].x[:200].double().numpy(), draw.normal(size=(64, 30))
    z, mean, share = x @ layer, pool.mean(axis=0), []
    for known in (2, 10, 30, 100):
        w = known_rows.dense(pool[:known], pool[:known] @ layer)
        answer = known_rows.rows(w, z, pool, known_rows.noise(w, pool[:known], pool))
        share.append(known_rows.explained(answer, x, mean))
    assert share == sorted(share) and share[0] < 0.3 and share[-1] > 0.8
    blind = known_rows.rows(draw.normal(size=(64, 30)), z, pool)
    assert known_rows.explained(blind, x, mean) == 0  # no known row: worse than the mean image
    full = draw.normal(size=(64, 64))  # as many outputs as pixels: all of it
    assert np.allclose(known_rows.rows(full, x @ full, pool), x, atol=1e-3)


def test_known_rows_refuse_what_does_not_fit():
    x = np.ones((3, 64))
    for wrong in (
        lambda: known_rows.dense(x, np.ones((2, 5))),
        lambda: known_rows.filters(x.reshape(3, 8, 8), np.ones((3, 2, 5, 5)), 3, 1),
        lambda: known_rows.pixels(x.T, np.ones((1, 4)), 0.1),
    ):
        with pytest.raises(InputError):
            wrong()


# --- shares in floating point


@pytest.mark.parametrize("factor", [1, 10])
def test_float_shares_add_up_to_the_data_and_ring_shares_do_not(private, factor):
    x, times = private.x[:100], (1, 30, 1000)
    variance = float(x.var(correction=0))
    deviation, noise = factor * variance**0.5, 5 / x.numel() ** 0.5
    for count, mean in drift.float_means(x, deviation, times, 0).items():
        assert abs(drift.correlation(mean, x) - drift.expected(deviation, variance, count)) < noise
    for mean in drift.ring_means(x, times, KEY).values():
        assert abs(drift.correlation(mean, x)) < noise
    reached = drift.sharings(deviation, variance, 0.9)
    assert drift.expected(deviation, variance, reached) >= 0.9 > drift.expected(deviation, variance, reached - 1)


def test_a_mask_that_hides_more_costs_precision(private):
    x = private.x / 3  # whole numbers of sixteenths lose little
    for deviation in (1.0, 1e3, 1e6):
        assert 0.1 < drift.rounding(x, deviation, 0) / (deviation * 2**-24) < 1


def test_sharings_refuse_numbers_out_of_range(private):
    for wrong in (
        lambda: drift.float_means(private.x, 0, (1,), 0),
        lambda: drift.float_means(private.x, 1, (), 0),
        lambda: drift.float_means(private.x, 1, (2, 1), 0),
        lambda: drift.ring_means(private.x, (0, 1), KEY),
        lambda: drift.sharings(1, 1, 1.0),
    ):
        with pytest.raises(InputError):
            wrong()


# --- collusion


@pytest.mark.parametrize("hidden", ["rows", "entries"])
def test_helper_and_owner_together_have_every_value(models, private, hidden):
    z = models[0].logits(private.x)
    z = z if hidden == "rows" else z.reshape(-1)
    view = seen(models[0].logits(private.x), hidden, 0)
    assert collusion.exact_share(collusion.undo(view, view.order), z, ULP) == 1
    assert collusion.exact_share(view.values, z, ULP) < 0.02  # the helper alone
    guess = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    assert collusion.exact_share(collusion.undo(view, guess), z, ULP) < 0.02


def test_dealer_and_owner_together_have_the_data(private):
    x = encode(private.x, "x")
    mask = Stream(KEY, "mask").ring(x.shape)
    assert torch.equal(collusion.unmask(x - mask, mask), x)
    other = Stream(KEY, "another").ring(x.shape)
    assert collusion.exact_share(collusion.unmask(x - mask, other), x) == 0 == collusion.exact_share(x - mask, x)


def test_collusion_needs_a_permutation_and_ring_elements(models, private):
    view = seen(models[0].logits(private.x), "rows", 0)
    for wrong in (
        lambda: collusion.undo(view, view.order[:-1]),
        lambda: collusion.undo(view, torch.zeros_like(view.order)),
        lambda: collusion.unmask(view.values, view.values),
    ):
        with pytest.raises(InputError):
            wrong()


# --- a real helper's view


@pytest.mark.parametrize(("function", "hidden"), [("softmax", "columns"), ("sigmoid", "entries")])
def test_a_real_helper_sees_what_the_attacks_take(models, private, function, hidden):
    """Shares through the protocol; the helper adds what both owners sent it."""
    inside, outside = (models[0].logits(private.x[rows]) for rows in (slice(0, 200), slice(200, 400)))
    share = sharing(inside, PRECISION_BITS)

    def program(engine):
        engine.helper = True
        return apply(engine, share(engine), PRECISION_BITS, [function])

    shown = run(program).shown
    values = (shown[0] + shown[1]).double() * ULP
    view = View(values, torch.arange(len(values)), hidden)
    told = membership.accuracy(*(membership.members(view, z) for z in (inside, outside)))
    assert told > (0.99 if hidden == "entries" else 1 - 1e-12)
    if hidden == "columns":
        assert torch.allclose(histogram.features(view), histogram.features(seen(inside, hidden, 0)), atol=2 * ULP)


# --- the experiment


def test_the_small_experiment_gives_rows_tables_and_figures():
    size = Size("transformations", True, 1)
    rows = json.loads(json.dumps(attacks.measure(size.settings("attacks")), allow_nan=False))
    for row in rows:
        assert row["part"] == "attack" and 0 <= row["chance"] <= row["recovered"] <= 1 and row["meaning"]
        assert 0 <= row["stopped"] <= row["recovered"] and row["stops"] and row["protocol"]
    assert {row["protocol"] for row in rows} >= {"rtas", "rtas-fast", "rtas, float shares"}
    assert len({(row["attack"], row["setting"]) for row in rows}) == len(rows)
    about = {
        "size": "small",
        "sizes": {},
        "missing": [],
        "machine": "m",
        "versions": {},
        "revision": "r",
        "command": "c",
    }
    page, figures = page_and_figures(about, rows)
    main, theorems, precision = page.details
    assert len(main.rows) == len(rows) and len(theorems.rows) == 4 and len(precision.rows) == 3
    for table in (main, theorems, precision):
        assert all(len(line) == len(table.header) == len(table.align) for line in table.rows)
    assert len(set(figures) - {"transformations-protocols"}) == 3
