"""InstaHide: accuracy, overhead, and what each attack recovers.

A full run takes planes and cars of CIFAR-10 and MNIST, minutes; a small one digits, some seconds. The parts of all rows
begin with "instahide".
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from experiments.harness.jobs import Job
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, logarithmic, plain, show_images
from experiments.harness.records import Row, select
from experiments.harness.size import source_of
from mpc_appraisal.attacks.instahide import challenge as challenges
from mpc_appraisal.attacks.instahide import cluster, rank
from mpc_appraisal.attacks.instahide import seed as seeds
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Conv, Dense, initial
from mpc_appraisal.transformations.instahide import LEAKAGE, Encoding, InstaHide, apply, centred, fit, predict

NETWORKS = {
    "digits": Architecture("dense", (1, 8, 8), (Dense(64), Dense(10))),
    "cifar10": Architecture("planes and cars", (3, 32, 32), (
        Conv(16, 5, stride=2, padding=2), Conv(32, 3, padding=1, pool=4), Dense(64), Dense(2)
    )),
    "mnist": ARCHITECTURES["cnn"],
}  # fmt: skip
CANDIDATES, DECOYS, SHOWN, PLANTED = 130, 1000, 6, 3_141_592_653
PARTS = ("training", "grouping", "ranking", "seed", "picture")
STRIPS = {"private": "private image", "absolute": "its absolute\npixels", "encoding": "what is\nhanded out",
          "recovered": "recovered"}  # fmt: skip
PANELS = {"identified": "images identified", "correlation": "absolute-pixel correlation"}


def jobs(size: SimpleNamespace) -> list[Job]:
    parts = {"attacks": attacks, "challenge": challenge, "seed": seed_search, "training": training}
    return [Job(f"instahide-{name}", part, (size,)) for name, part in parts.items()]


@dataclass(frozen=True)
class Images:
    """x is (n, d) of mean 0, y is (n,), and `image` is (channels, height, width)."""

    name: str
    x: Tensor
    y: Tensor
    classes: int
    image: tuple[int, int, int]

    def halved(self) -> Images:
        """Make every 2 x 2 pixels one."""
        small = functional.avg_pool2d(self.x.reshape(-1, *self.image), 2)
        name, image = f"{self.name}, {small.shape[2]} x {small.shape[3]}", tuple(small.shape[1:])
        return Images(name, centred(small.flatten(1)), self.y, self.classes, image)

    def split(self, per_class: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return private images (n, d), their one-hot labels, and all other images."""
        own = torch.cat([(self.y == c).nonzero().squeeze(1)[:per_class] for c in range(self.classes)])
        rest = torch.ones(len(self.x), dtype=torch.bool)
        rest[own] = False
        return self.x[own], functional.one_hot(self.y[own], self.classes).to(self.x.dtype), self.x[rest]


def images(name: str, seed: int) -> tuple[Images, Images]:
    """Return the training images, in an order of the seed's, and the test images."""
    source, shape = source_of(name), NETWORKS[name].image
    train, test = source.load()
    order = torch.randperm(train.rows, generator=torch.Generator().manual_seed(seed))
    pairs = ((train.x[order], train.y[order]), (test.x, test.y))
    return tuple(Images(name, centred(x.to(torch.float32)), y, source.classes, shape) for x, y in pairs)


def attacks(size: SimpleNamespace) -> list[Row]:
    """Group by the number of epochs, rank one image per encoding, and keep pictures of what was recovered."""
    print(LEAKAGE)
    rows: list[Row] = []
    for seed in range(size.seeds):
        data, _ = images(size.data, seed)
        private, labels, others = data.split(size.per_class)
        learned, public = others[: len(others) // 2], others[len(others) // 2 :]
        hide, last = InstaHide(), max(size.epochs)
        if seed == 0:
            squares = rank.learn(hide, learned, size.learned)
            rows += ranking(hide, squares, data.name, public, learned)
        given, answer = challenges.make(hide, private, labels, public, last)
        for epochs in size.epochs:
            # encodings are in random order: so many of them as of so many epochs
            part = Encoding(*(all_[: epochs * len(private)] for all_ in (given.encoding.z, given.encoding.labels)))
            rows.append(grouping(data, part, given, answer, squares, learned, epochs, seed))
        if seed == 0:
            found = cluster.recover(given.encoding, given.counts, squares, restarts=restarts(given)).images
            rows.append(picture(data, private, given.encoding.z, found) | {"epochs": last})
            if size.many:
                private, labels, others = data.split(size.many)
                given, answer = challenges.make(hide, private, labels, others[len(others) // 2 :], last)
                rows.append(grouping(data, given.encoding, given, answer, squares, others, last, seed))
    return rows


def grouping(data: Images, part: Encoding, given: challenges.Challenge, answer: challenges.ChallengeSecret,
             squares: rank.Squares, others: Tensor, epochs: int, seed: int) -> Row:  # fmt: skip
    began = time.process_time()
    found = cluster.recover(part, given.counts, squares, restarts=restarts(given), seed=seed)
    seconds, count = time.process_time() - began, len(answer.images)
    decoys = others[count : count + DECOYS]
    score = challenges.score(given, answer, found.images, decoys)
    chance = challenges.score(given, answer, others[:count], decoys)
    return {
        "part": "instahide-grouping", "data": data.name, "images": count, "decoys": len(decoys), "epochs": epochs,
        "k": given.hide.k, "seed": seed, "correlation": score.correlation, "identified": score.identified,
        "chance_correlation": chance.correlation, "chance_identified": chance.identified, "seconds": seconds,
    }  # fmt: skip


def restarts(given: challenges.Challenge) -> int:
    """Return the restarts of the grouping: many if they cost little."""
    return 12 if sum(given.counts) <= 20 else 6


def ranking(hide: InstaHide, squares: rank.Squares, name: str, candidates: Tensor, public: Tensor) -> list[Row]:
    """Rank the right image among CANDIDATES, of one encoding in inference or several, and of one in training."""
    candidates, right, rows = candidates[:CANDIDATES], torch.arange(CANDIDATES), []

    def add(what: str, count: int, places: Tensor) -> None:
        first, ten = (float((places <= most).double().mean()) for most in (1, 10))
        rows.append({"part": "instahide-ranking", "data": name, "k": hide.k, "encoding": what, "encodings": count,
                     "candidates": CANDIDATES, "first": first, "ten": ten, "of": len(places)})  # fmt: skip

    scores = torch.stack([rank.scores(squares, z, candidates) for z in hide.infer(candidates, public, 10)])
    for count in (1, 3, 10):
        add("inference", count, rank.places(scores[:count].sum(dim=0), right))
    one_hot = torch.eye(CANDIDATES, dtype=candidates.dtype)  # a label that names the image, to tell which it was
    encoding = hide.encrypt(candidates, one_hot, public)
    found, order = rank.scores(squares, encoding.z, candidates), encoding.labels.argsort(dim=1, descending=True)
    for place, weight in enumerate(("heavier", "lighter")):
        add(f"training, {weight} image", 1, rank.places(found, order[:, place]))
    return rows


def picture(data: Images, private: Tensor, z: Tensor, found: Tensor) -> Row:
    """Return private images, absolute pixels, an encoding's, and recovered ones, matched; a byte for each pixel."""
    match = torch.from_numpy(linear_sum_assignment(-cosine(private.abs(), found.abs()).numpy())[1])
    order = cosine(found[match].abs(), private.abs()).diagonal().argsort(descending=True)
    chosen = order[torch.linspace(0, len(order) - 1, SHOWN).round().long()]  # from the best to the worst
    strips = {"private": private[chosen], "absolute": private[chosen].abs(), "encoding": z[:SHOWN],
              "recovered": found[match][chosen].abs()}  # fmt: skip
    packed = {name: base64.b64encode(_bytes(strip).numpy().tobytes()).decode() for name, strip in strips.items()}
    return {"part": "instahide-picture", "data": data.name, "image": list(data.image), "shown": len(chosen)} | packed


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlations (rows of a, rows of b)."""
    a, b = (functional.normalize(one - one.mean(dim=1, keepdim=True)) for one in (a, b))
    return a @ b.T


def _bytes(x: Tensor) -> Tensor:
    low, high = x.quantile(0.01, dim=1, keepdim=True), x.quantile(0.99, dim=1, keepdim=True)
    return ((x - low) / (high - low).clamp_min(1e-6) * 255).clamp(0, 255).to(torch.uint8)


def challenge(size: SimpleNamespace) -> list[Row]:
    stated, (data, _) = size.challenge, images(size.data, 100)
    data = data.halved() if stated.halve else data
    private, labels, others = data.split(stated.per_class)
    learned, public, hide = others[: len(others) // 2], others[len(others) // 2 :], InstaHide(k=stated.k)
    given, answer = challenges.make(hide, private, labels, public, stated.epochs)
    squares = rank.learn(hide, learned, size.learned)
    row = grouping(data, given.encoding, given, answer, squares, learned, stated.epochs, 0)
    row |= {"part": "instahide-challenge", "commitment": given.commitment}
    return [row, *ranking(hide, squares, data.name, public, learned)]


def seed_search(size: SimpleNamespace) -> list[Row]:
    """Find a planted seed in a range around it, the rate, and the private images."""
    data, _ = images(size.data, 200)
    private, labels, public = data.split(size.per_class)
    hide = InstaHide()

    def key(seed: int) -> Any:
        return seeds.insecure_key(hide, private.shape, len(public), seed)

    given, start = apply(key(PLANTED), private, labels, public), PLANTED - size.searched // 2
    found = seeds.search(hide, given, len(public), range(start, start + size.searched))
    began, used = time.perf_counter(), time.process_time()
    tried = seeds.search(hide, given, len(public), range(size.searched), rows=1).tried
    wall, used = time.perf_counter() - began, time.process_time() - used
    error = None
    if found.seed is not None:
        error = float((seeds.reconstruct(key(found.seed), given, public) - private).abs().max())
    return [{
        "part": "instahide-seed", "data": data.name, "found": found.seed == PLANTED, "tried": tried,
        "rate": tried / wall, "rate_cpu": tried / used, "all_seconds": seeds.SEEDS * wall / tried,
        "all_cpu": seeds.SEEDS * used / tried, "error": error,
    }]  # fmt: skip


def training(size: SimpleNamespace) -> list[Row]:
    return [row for one in size.trainings for row in _trained(one)]


def _trained(s: SimpleNamespace) -> list[Row]:
    (data, test), network, rows = images(s.data, 0), NETWORKS[s.data], []
    count = min(s.rows, len(data.x) * 7 // 10)
    x, y = data.x[:count], functional.one_hot(data.y[:count], data.classes).to(data.x.dtype)
    public, inputs, truth = data.x[count : count + 3000], test.x[: s.tested], test.y[: s.tested]
    fit(initial(network, 0), x[:64], y[:64], epochs=1)  # the first call of a kernel is no cost of ours
    for hide in (None, InstaHide(), InstaHide(k=6), InstaHide(mixing="inside")):
        encrypting = 0.0
        if hide is not None:
            used = time.process_time()
            hide.encrypt(x, y, public)
            encrypting = (time.process_time() - used) * s.epochs
        used = time.process_time()
        found = fit(initial(network, 0), x, y, epochs=s.epochs, lr=s.lr, hide=hide, public=public)
        seconds = time.process_time() - used
        clear = found.probabilities(inputs if hide is None else inputs.abs())
        hidden = None if hide is None else accuracy(predict(found, hide, inputs, public), truth)
        rows.append({
            "part": "instahide-training", "data": s.data, "k": hide and hide.k, "mixing": hide and hide.mixing,
            "images": count, "epochs": s.epochs, "steps": s.epochs * -(-count // 32), "seconds": seconds,
            "encrypting": encrypting, "clear": accuracy(clear, truth), "hidden": hidden, "tested": len(truth),
            "weights": sum(w.numel() for w in found.weights),
        })  # fmt: skip
    return rows


def accuracy(p: Tensor, y: Tensor) -> float:
    return float((p.argmax(dim=1) == y).double().mean())


# -- for the report ------------------------------------------------------------------------------------------------
def of(rows: Sequence[Row], part: str) -> list[Row]:
    return select(rows, part=f"instahide-{part}")


def grouped(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each number of images and epochs, with means over its runs, and then the challenge."""
    runs = [row | {"name": row["data"]} for row in of(rows, "grouping")]
    runs += [row | {"name": f"{row['data']}, our challenge"} for row in of(rows, "challenge")]
    if not runs:
        return []
    by = pd.DataFrame(runs).groupby(["name", "images", "epochs"])
    means = by[["identified", "correlation", "chance_identified", "chance_correlation", "seconds"]].mean()
    return means.join(by[["k", "decoys"]].first()).assign(runs=by.size()).reset_index().to_dict("records")


def drawings(rows: Sequence[Row]) -> dict[str, Figure]:
    pictures, found = of(rows, "picture"), of(rows, "grouping")
    drawn = {"instahide-recovered": _strips(pictures[0])} if pictures else {}
    return drawn | ({"instahide-epochs": _curves(pd.DataFrame(found))} if found else {})


def _strips(row: Row) -> Figure:
    """Draw four lines of images."""
    channels, height, width = row["image"]
    figure = blank(1.25 * row["shown"] + 1.9, 5.4)
    strips = {}
    for name, title in STRIPS.items():
        packed = np.frombuffer(base64.b64decode(row[name]), np.uint8).reshape(-1, channels, height, width)
        strips[title] = packed.transpose(0, 2, 3, 1) if channels == 3 else packed[:, 0]
    show_images(figure.subplots(4, row["shown"], squeeze=False), strips, 10, cmap="gray", interpolation="nearest")
    return figure


def _curves(runs: pd.DataFrame) -> Figure:
    figure, few = blank(9.4, 3.6), runs.images.min()
    axes, lines = figure.subplots(1, 2), runs[runs.images == few].groupby("epochs")
    for axis, (key, title) in zip(axes, PANELS.items(), strict=True):
        values = lines[key].agg(["mean", "min", "max"])
        axis.plot(values.index, values["mean"], "o-", color=BLUE, label=f"{few} private images")
        if lines.size().max() > 1:
            axis.fill_between(values.index, values["min"], values["max"], color=BLUE, alpha=0.15, linewidth=0)
        axis.plot(values.index, lines[f"chance_{key}"].mean(), "--", color=GREY, label="chance (public images)")
        others = runs[runs.images > few].groupby(["images", "epochs"])[key].mean()
        for (count, epochs), value in others.items():
            axis.plot([epochs], [value], "s", color=ORANGE, label=f"{count} private images")
        logarithmic(axis, values.index)
        axis.set(ylim=(0, 1.04), xlabel="epochs: encodings of each private image")
        axis.set_title(title, fontsize=10)
    plain(*axes)
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure
