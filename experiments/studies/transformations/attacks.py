"""Attacks on random transformations (RTAS): what each recovers, of digits (small) or MNIST (full).

A row has protocol, attack, setting, recovered and chance in [0, 1] (`meaning` says of what), stops (where it stops) and
stopped (the same number measured there); `points` are the curve behind it, if there is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from experiments.harness.jobs import Job
from experiments.harness.page import plural
from experiments.harness.records import Row
from experiments.harness.size import source_of
from mpc_appraisal.attacks.rtas import collusion, histogram, known_rows, linking, membership
from mpc_appraisal.attacks.rtas import float_drift as drift
from mpc_appraisal.attacks.rtas.view import HIDDEN, View, seen
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.data.scenarios import LabelNoise, MissingData
from mpc_appraisal.methods.base import summed_gradient
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, encode
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.transformations.reconstructive_privacy import permutation, positions

ULP, L2 = 2.0**-PRECISION_BITS, 1e-2
KEY = bytes(32)  # masks of the simulation, the same each time
SETTINGS = [(hidden, 10) for hidden in HIDDEN] + [("entries", 2)]
NAMED = {"rows": "rows permuted", "columns": "rows and columns permuted", "entries": "all entries permuted"}


def jobs(size: SimpleNamespace) -> list[Job]:
    return [Job("attack", measure, (size,))]


def measure(size: SimpleNamespace) -> list[Row]:
    """Return the rows of all attacks."""
    setting = Setting(size)
    return [row for part in PARTS for row in part(setting)]


class Setting:
    """What is attacked.

    `hidden` are private rows; `public` are labelled rows of the same kind that the attacker has. The models are by
    (classes, own): of ten classes or "is it a 0", and trained on these rows or on others.
    """

    def __init__(self, size: SimpleNamespace):
        self.size, (train, self.public) = size, source_of(size.data).load()
        first, second = (train.subset(range(k * size.own, (k + 1) * size.own)) for k in (0, 1))
        zeros = [Dataset(data.x, (data.y == 0).long(), 2) for data in (first, second)]
        self.models = {(10, True): fit(first, L2), (10, False): fit(second, L2),
                       (2, True): fit(zeros[0], L2), (2, False): fit(zeros[1], L2)}  # fmt: skip
        self.model = self.models[10, True]
        self.hidden = train.subset(range(2 * size.own, train.rows))
        self.side = round(self.public.features**0.5)

    def logits(self, x: Tensor, classes: int, own: bool = True) -> Tensor:
        """Return (n, 10), or (n, 1) of the probability that it is a 0 if classes = 2; of the other model if not own."""
        z = self.models[classes, own].logits(x)
        return z if classes > 2 else z[:, 1:] - z[:, :1]


def _row(attack: str, setting: str, recovered: float, chance: float, meaning: str, stops: str, **more: Any) -> Row:
    row = {"part": "attack", "protocol": more.pop("protocol", "rtas"), "attack": attack, "setting": setting}
    return row | {"recovered": recovered, "chance": chance, "meaning": meaning, "stops": stops} | more


def mixes(s: Setting) -> list[Row]:
    """Read the class mix of batches whose classes are drawn unequally."""
    found = []
    for hidden, classes in SETTINGS:
        draw, right, guess = torch.Generator().manual_seed(0), [], []
        private, own = (data.y if classes == 10 else (data.y == 0).long() for data in (s.hidden, s.public))
        usual = torch.bincount(own, minlength=classes).double() / len(own)
        reference = seen(s.logits(s.public.x, classes), hidden, 99)
        for turn in range(5):
            weight = torch.rand(classes, generator=draw).square() / torch.bincount(private, minlength=classes)
            rows = torch.multinomial(weight[private], s.size.batch, generator=draw)
            truth = torch.bincount(private[rows], minlength=classes).double() / len(rows)
            view = seen(s.logits(s.hidden.x[rows], classes), hidden, turn)
            right.append(histogram.agreement(histogram.class_mix(view, reference, own, classes), truth))
            guess.append(histogram.agreement(usual, truth))
        of = "ten logits a row" if classes == 10 else 'one logit a row ("is it a 0")'
        found.append(_row(
            "histogram: class mix", f"{of}, {NAMED[hidden] if classes == 10 else 'permuted'}", float(np.mean(right)),
            float(np.mean(guess)), "1 - total variation distance between the batch's class mix and the helper's",
            "where the helper sees nothing; entries in one order leave little of ten classes",
            stopped=float(np.mean(guess)),
        ))  # fmt: skip
    return found


def appraisals(s: Setting) -> list[Row]:
    """Predict gradient-norm appraisals of candidates with missing data, and the share of what is missing.

    The attack stops at label noise, where labels alone differ.
    """
    train, test = source_of(s.size.data).load()
    points = []
    for name, scenario in (("missing data", MissingData), ("label noise", LabelNoise)):
        views, values, shares = _lessons(s, name)
        learnt = {key: histogram.Appraisal.learn(views, of) for key, of in (("value", values), ("level", shares))}
        market = scenario(candidates=s.size.candidates, train_size=s.size.own).build(train, test, 0)
        for turn, candidate in enumerate(market.candidates):
            view = seen(s.model.logits(candidate.data.x), "columns", 200 + turn)
            told = {f"predicted {key}": each.predict(view) for key, each in learnt.items()}
            known = {"scenario": name, "level": candidate.level, "value": _appraisal(s.model, candidate.data)}
            points.append(known | told)
    words = {"value": "gradient-norm appraisal", "level": "share of missing data"}
    return [_row(
        f"histogram: {words[key]}", f"{s.size.candidates} candidates with missing data; rows and columns permuted",
        ranks(points, "missing data", key), 0.0, f"rank correlation of the {words[key]} with the helper's prediction",
        "where labels alone differ (label noise)", stopped=ranks(points, "label noise", key),
        points=points if key == "value" else [],
    ) for key in words]  # fmt: skip


def _lessons(s: Setting, name: str) -> tuple[list[View], list[float], list[float]]:
    """Return views, appraisals and shares of batches that the helper spoils itself."""
    draw, found = torch.Generator().manual_seed(1), []
    for turn in range(s.size.batches):
        batch = s.public.subset(torch.randperm(s.public.rows, generator=draw)[: s.size.batch])
        share = float(torch.rand((), generator=draw))
        if name == "missing data":
            batch = Dataset(batch.x * (torch.rand(batch.x.shape, generator=draw) >= share), batch.y, 10)
        else:
            random = torch.randint(0, 10, batch.y.shape, generator=draw)
            flipped = torch.rand(batch.y.shape, generator=draw) < share
            batch = Dataset(batch.x, torch.where(flipped, random, batch.y), 10)
        found.append((seen(s.model.logits(batch.x), "columns", turn), _appraisal(s.model, batch), share))
    return tuple(map(list, zip(*found, strict=True)))


def ranks(points: Sequence[Row], scenario: str, key: str) -> float:
    """Return Spearman's rank correlation, and 0 if it is below."""
    pairs = [(p[key], p[f"predicted {key}"]) for p in points if p["scenario"] == scenario]
    return max(0.0, float(spearmanr(*zip(*pairs, strict=True)).statistic))


def _appraisal(model: SoftmaxRegression, data: Dataset) -> float:
    """Return minus the norm of the mean gradient: rows are public, so that the sum says no more."""
    return -float(summed_gradient(model.theta, with_bias(data.x.double()), data.one_hot()).norm()) / data.rows


def orders(s: Setting) -> list[Row]:
    """Set theorem 3.4's epsilon of permuted pixels beside the places that naming the commonest value has right."""
    images = (s.hidden.x[: s.size.shown] * s.size.highest).round().int().tolist()
    chances = [permutation(image) for image in images]
    moved = np.random.default_rng(0).permuted(np.array(images), axis=1)
    return [_row(
        "permuted pixels: one value everywhere", f"an image's {len(images[0])} pixels permuted",
        float(np.mean([positions(image) for image in images])), float((moved == np.array(images)).mean()),
        "pixels named rightly; chance: by the order seen", "where values are spread evenly, as in the ring",
        protocol="permutation alone",
        epsilon_log10=float(np.mean([math.log10(c.numerator) - math.log10(c.denominator) for c in chances])),
        values=len(images[0]), stopped=float(np.mean([positions(_ring(image)) for image in images])),
    )]  # fmt: skip


def _ring(image: list[int]) -> list[int]:
    """Return a share of the image."""
    whole = encode(torch.tensor(image, dtype=torch.float64), "image")
    return (whole - Stream(KEY, "shares").ring([len(image)])).tolist()


def memberships(s: Setting) -> list[Row]:
    inside, outside = (s.hidden.subset(range(k * s.size.batch, (k + 1) * s.size.batch)) for k in (0, 1))
    marks, found, tolerance = torch.linspace(0, 1, 101, dtype=torch.float64), [], membership.TOLERANCE
    for hidden, classes in SETTINGS:
        view = seen(s.logits(inside.x, classes), hidden, 3)
        (near, far), foreign = (  # with the model, and with the weights of another training
            [membership.distances(view, s.logits(data.x, classes, own)) for data in (inside, outside)]
            for own in (True, False)
        )
        groups = {"member": near, "non-member": far, "member, model unknown": foreign[0]}
        of = "ten logits a row" if classes == 10 else "one logit a row"
        found.append(_row(
            "membership", f"{of}, {NAMED[hidden] if classes == 10 else 'permuted'}; {s.size.batch:,} rows",
            membership.accuracy(near < tolerance, far < tolerance), 0.5,
            "members and non-members told rightly, mean of both shares", "where the helper does not know the model",
            stopped=membership.accuracy(*(d < tolerance for d in foreign)),
            stopped_ranked=membership.ranked(*foreign), tolerance=tolerance,
            points=[{"of": name, "distances": d.quantile(marks).tolist()} for name, d in groups.items()]
            if hidden == "columns" else [],
        ))  # fmt: skip
    return found


def links(s: Setting) -> list[Row]:
    data, epochs, found = s.hidden.subset(range(s.size.tracked)), s.size.epochs, []
    for classes, hidden in ((10, "rows"), (10, "columns"), (2, "rows")):
        y = data.y if classes == 10 else (data.y == 0).long()
        sights = linking.sights(data.x, y, classes, epochs, 32, 0.1, 0)
        points = []
        for epoch in range(epochs - 1):
            views = [seen(sights[turn], hidden, turn) for turn in (epoch, epoch + 1)]
            points.append({"epoch": epoch + 1, "linked": linking.linked(linking.link(*views), *views)})
        of = "ten logits a row" if classes == 10 else "one logit a row"
        found.append(_row(
            "linking", f"{of}, {NAMED[hidden]}; epochs {epochs - 1} and {epochs}, {data.rows:,} rows",
            points[-1]["linked"], 1 / data.rows, "rows of one epoch linked rightly with those of the next",
            "where rows are seen once (inference), and in part while the model moves fast", stopped=points[0]["linked"],
            points=points,
        ))  # fmt: skip
    return found


def first_layers(s: Setting) -> list[Row]:
    """Attack RTAS-fast: a dense first layer by outputs and known rows, and a convolution behind one known image."""
    features, public = s.public.features, s.public.x.double().numpy()
    pool, x = s.hidden.x.double().numpy(), s.hidden.x[-s.size.shown :].double().numpy()
    mean, draw, found = public.mean(axis=0), np.random.default_rng(0), []
    images = {"true": _hex(x[:4])}
    for outputs in s.size.outputs:
        layer, points, named = draw.normal(size=(features, outputs)) / features**0.5, [], plural(outputs, "output")
        z = _rounded(x @ layer)
        for known in s.size.known:
            own = pool[:known]
            w = known_rows.dense(own, _rounded(own @ layer))
            answer = known_rows.rows(w, z, public, known_rows.noise(w, own, public))
            points.append({"known": known, "explained": known_rows.explained(answer, x, mean)})
        blind = known_rows.rows(draw.normal(size=layer.shape) / features**0.5, z, public)  # a guess of the layer
        images[named] = _hex(answer[:4])
        found.append(_row(
            "known rows", f"dense layer of {named}, {s.size.known[-1]:,} known rows", points[-1]["explained"], 0.0,
            "share of the images' variance about the mean image that is explained",
            "with no known row, and with few outputs", protocol="rtas-fast",
            stopped=known_rows.explained(blind, x, mean), outputs=outputs, features=features, points=points,
        ))  # fmt: skip
    return [*found, _behind_filters(s, pool, x, draw, images)]


def _behind_filters(s: Setting, pool: np.ndarray, x: np.ndarray, draw: np.random.Generator, images: Row) -> Row:
    kernel, stride, side, highest = s.size.kernel, s.size.stride, s.side, s.size.highest
    layer = known_rows.matrix(draw.normal(size=(4, kernel, kernel)), side, stride)
    place = (side - kernel) // stride + 1
    z = _rounded(pool[:1] @ layer).reshape(1, 4, place, place)
    w = known_rows.matrix(known_rows.filters(pool[:1].reshape(1, side, side), z, kernel, stride), side, stride)
    truth, outputs = np.rint(x * highest), _rounded(x @ layer)
    answer = known_rows.pixels(w / highest, outputs, 2.0**-13, highest)
    guess = known_rows.matrix(draw.normal(size=(4, kernel, kernel)), side, stride)
    blind = known_rows.pixels(guess / highest, outputs, 2.0**-13, highest)
    images["convolution, 1 known image"] = _hex(answer[:4] / highest)
    return _row(
        "known rows", f"4 filters {kernel} x {kernel}, stride {stride}: {w.shape[1]} outputs; one known image",
        float((answer == truth).mean()), float((truth == 0).mean()), "pixels recovered exactly",
        "with no known image", protocol="rtas-fast", stopped=float((blind == truth).mean()), side=side,
        whole=float((answer == truth).all(axis=1).mean()), images=images,
    )  # fmt: skip


def _rounded(z: np.ndarray) -> np.ndarray:
    return np.rint(z / ULP) * ULP


def _hex(images: np.ndarray) -> list[str]:
    """Return images in [0, 1] as bytes in hexadecimal, one string each."""
    return [np.rint(image.clip(0, 1) * 255).astype(np.uint8).tobytes().hex() for image in images]


def drifts(s: Setting) -> list[Row]:
    x, times = s.hidden.x[: s.size.shared], s.size.times
    variance, found = float(x.double().var(correction=0)), []
    ring = {turn: drift.correlation(mean, x) for turn, mean in drift.ring_means(x, times, KEY).items()}
    for factor in (1, 10, 100):
        deviation = factor * variance**0.5
        means = drift.float_means(x, deviation, times, factor)
        points = [
            {"sharings": turn, "measured": drift.correlation(mean, x), "ring": ring[turn],
             "expected": drift.expected(deviation, variance, turn)} for turn, mean in means.items()
        ]  # fmt: skip
        shown = {"images": {str(turn): _hex(mean[:3].numpy()) for turn, mean in means.items()}} if factor == 10 else {}
        found.append(_row(
            "float drift", f"float32 shares, mask {factor} x the data's deviation, {times[-1]:,} sharings",
            points[-1]["measured"], 0.0, "correlation of the mean of one party's shares with the pixels",
            "in the ring, where shares are uniform", protocol="rtas, float shares", stopped=abs(ring[times[-1]]),
            factor=factor, needed=drift.sharings(deviation, variance, 0.9), points=points, side=s.side,
            rounding=drift.rounding(x, deviation, 0), **shown,
        ))  # fmt: skip
    return found


def colluders(s: Setting) -> list[Row]:
    data = s.hidden.subset(range(s.size.batch))
    z = s.model.logits(data.x)
    view, meaning = seen(z, "entries", 5), "values recovered, up to the fixed-point precision"
    alone = collusion.exact_share(view.values, z.reshape(-1), ULP)
    together = collusion.exact_share(collusion.undo(view, view.order), z.reshape(-1), ULP)
    ring = encode(data.x.double(), "x")
    mask = Stream(KEY, "mask").ring(ring.shape)
    blind, whole = (collusion.exact_share(each, ring) for each in (ring - mask, collusion.unmask(ring - mask, mask)))
    return [
        _row("collusion", "helper and one owner: inputs of functions", together, alone, meaning,
             "where they do not collude", stopped=alone),
        _row("collusion", "dealer and one owner: the data themselves", whole, blind, meaning,
             "where they do not collude, or no dealer makes triples", stopped=blind),
    ]  # fmt: skip


PARTS = (mixes, appraisals, orders, memberships, links, first_layers, drifts, colluders)
