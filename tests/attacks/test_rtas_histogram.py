"""The helper's histogram attack on real digits: what it reads, and where it stops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from logits import one_logit

from mpc_appraisal.attacks.rtas import histogram
from mpc_appraisal.attacks.rtas.view import HIDDEN, seen
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.base import summed_gradient


def drawn(data, classes: int, y: torch.Tensor, rows: int, seed: int):
    """Row numbers of a batch with another class mix, and that mix."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.rand(classes, generator=draw).square() / torch.bincount(y, minlength=classes)
    chosen = torch.multinomial(weight[y], rows, generator=draw)
    return chosen, torch.bincount(y[chosen], minlength=classes).double() / rows


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
