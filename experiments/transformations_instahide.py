"""InstaHide for the report on random transformations: accuracy, overhead, and what each attack recovers.

`measure(size, work)` gives rows, `tables(rows)` and `drawings(rows)` show them. Full: planes and cars of CIFAR-10 and
MNIST, minutes; small: digits, some seconds. A finished part stays in `work` and is not run again.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_page import Row
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional
from transformations_instahide_page import drawings, tables

from mpc_appraisal.attacks.instahide import challenge as challenges
from mpc_appraisal.attacks.instahide import cluster, rank
from mpc_appraisal.attacks.instahide import seed as seeds
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Cifar10, Digits, Mnist
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Conv, Dense, initial
from mpc_appraisal.transformations.instahide import LEAKAGE, Encoding, InstaHide, apply, centred, fit, predict

CIFAR = Architecture(
    "planes and cars",
    (3, 32, 32),
    (Conv(16, 5, stride=2, padding=2), Conv(32, 3, padding=1, pool=4), Dense(64), Dense(2)),
)
DIGITS = Architecture("dense", (1, 8, 8), (Dense(64), Dense(10)))
CANDIDATES, DECOYS, SHOWN = 130, 1000, 6

__all__ = ["drawings", "measure", "tables"]


@dataclass(frozen=True)
class Images:
    """x: (n, d) of mean 0; y: (n,); image: (channels, height, width)."""

    name: str
    x: Tensor
    y: Tensor
    classes: int
    image: tuple[int, int, int]

    def halved(self) -> Images:
        """Every 2 x 2 pixels as one."""
        small = functional.avg_pool2d(self.x.reshape(-1, *self.image), 2)
        return Images(f"{self.name}, {small.shape[2]} x {small.shape[3]}", centred(small.flatten(1)), self.y,
                      self.classes, tuple(small.shape[1:]))  # fmt: skip


@dataclass(frozen=True)
class Training:
    """lr and epochs of one data set; rows: private images, at most."""

    data: str
    architecture: Architecture
    epochs: int
    rows: int
    lr: float
    tested: int = 1000


@dataclass(frozen=True)
class Size:
    """per_class: private images of a class, by the number of epochs that are attacked; seeds: repetitions of those with
    few images; challenge: (images of a class, epochs, k)."""

    name: str
    data: str
    epochs: tuple[int, ...]
    per_class: int
    many: int | None
    seeds: int
    challenge: tuple[int, int, int]
    halve: bool
    learned: int
    searched: int
    trainings: tuple[Training, ...]


SMALL = Size(
    "small", "digits", (1, 5, 10, 50), 2, None, 1, (2, 50, 6), False, 3500, 2**16,
    (Training("digits", DIGITS, 25, 900, 0.05, 500),),
)  # fmt: skip
FULL = Size(
    "full", "cifar10", (1, 5, 10, 20, 50), 10, 50, 3, (50, 50, 6), True, 4000, 2**22,
    (Training("cifar10", CIFAR, 12, 7000, 0.02), Training("mnist", ARCHITECTURES["cnn"], 6, 20_000, 0.05)),
)  # fmt: skip
SIZES = {"small": SMALL, "full": FULL}


def measure(size: str, work: Path) -> list[Row]:
    """Rows of all parts; "part" begins with "instahide". Raises InputError for another size."""
    if size not in SIZES:
        raise InputError("size", size, f"one of {', '.join(SIZES)}")
    print(LEAKAGE)
    stated = SIZES[size]
    parts: dict[str, Callable[[Size], list[Row]]] = {
        "attacks": attacks, "challenge": challenge, "seed": seed_search, "training": training,
    }  # fmt: skip
    return [row for name, part in parts.items() for row in _kept(work / f"instahide-{size}-{name}.json", part, stated)]


def _kept(path: Path, part: Callable[[Size], list[Row]], size: Size) -> list[Row]:
    if not path.is_file():
        rows = part(size)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    return json.loads(path.read_text())


def images(name: str, seed: int) -> tuple[Images, Images]:
    """(train in an order of the seed's, test)."""
    source = {"digits": Digits(), "cifar10": Cifar10(labels=(0, 1)), "mnist": Mnist()}[name]
    shape = {"digits": (1, 8, 8), "cifar10": (3, 32, 32), "mnist": (1, 28, 28)}[name]
    train, test = source.load()
    order = torch.randperm(train.rows, generator=torch.Generator().manual_seed(seed))
    found = []
    for x, y in ((train.x[order], train.y[order]), (test.x, test.y)):
        found.append(Images(name, centred(x.to(torch.float32)), y, source.classes, shape))
    return found[0], found[1]


def split(data: Images, per_class: int) -> tuple[Tensor, Tensor, Tensor]:
    """Private images (n, d), their one-hot labels, and all others."""
    own = torch.cat([(data.y == c).nonzero().squeeze(1)[:per_class] for c in range(data.classes)])
    rest = torch.ones(len(data.x), dtype=torch.bool)
    rest[own] = False
    return data.x[own], functional.one_hot(data.y[own], data.classes).to(data.x.dtype), data.x[rest]


def attacks(size: Size) -> list[Row]:
    """Grouping by the number of epochs, one image per encoding ranked, and pictures of what was recovered."""
    rows: list[Row] = []
    for seed in range(size.seeds):
        data, _ = images(size.data, seed)
        private, labels, others = split(data, size.per_class)
        learned, public = others[: len(others) // 2], others[len(others) // 2 :]
        hide = InstaHide()
        if seed == 0:
            squares = rank.learn(hide, learned, size.learned)
            rows += ranking(hide, squares, data.name, public, learned)
        given, answer = challenges.make(hide, private, labels, public, max(size.epochs))
        for epochs in size.epochs:
            # encodings are in random order: so many of them as of so many epochs
            part = Encoding(*(all_[: epochs * len(private)] for all_ in (given.encoding.z, given.encoding.labels)))
            rows.append(grouping(data, part, given, answer, squares, learned, epochs, seed))
        if seed == 0:
            found = cluster.recover(given.encoding, given.counts, squares, restarts=restarts(given)).images
            rows.append(picture(data, private, given.encoding.z, found) | {"epochs": max(size.epochs)})
            if size.many:
                private, labels, others = split(data, size.many)
                given, answer = challenges.make(hide, private, labels, others[len(others) // 2 :], max(size.epochs))
                rows.append(grouping(data, given.encoding, given, answer, squares, others, max(size.epochs), seed))
    return rows


def grouping(data: Images, part: Encoding, given: challenges.Challenge, answer: challenges.Answer,
             squares: rank.Squares, others: Tensor, epochs: int, seed: int) -> Row:  # fmt: skip
    began = time.process_time()
    found = cluster.recover(part, given.counts, squares, restarts=restarts(given), seed=seed)
    seconds = time.process_time() - began
    count = len(answer.images)
    decoys = others[count : count + DECOYS]
    score = challenges.score(given, answer, found.images, decoys)
    chance = challenges.score(given, answer, others[:count], decoys)
    return {
        "part": "instahide-grouping", "data": data.name, "images": count, "decoys": len(decoys), "epochs": epochs,
        "k": given.hide.k, "seed": seed, "correlation": score.correlation, "identified": score.identified,
        "chance_correlation": chance.correlation, "chance_identified": chance.identified, "seconds": seconds,
    }  # fmt: skip


def restarts(given: challenges.Challenge) -> int:
    """Of the grouping: many where they cost little."""
    return 12 if sum(given.counts) <= 20 else 6


def ranking(hide: InstaHide, squares: rank.Squares, name: str, candidates: Tensor, public: Tensor) -> list[Row]:
    """The right image among CANDIDATES, of one encoding in inference or several of them, and of one in training."""
    candidates, right = candidates[:CANDIDATES], torch.arange(CANDIDATES)
    rows = []
    scores = torch.stack([rank.scores(squares, z, candidates) for z in hide.infer(candidates, public, 10)])
    for count in (1, 3, 10):
        places = rank.places(scores[:count].sum(dim=0), right)
        rows.append(_ranked(name, hide, "inference", count, places))
    one_hot = torch.eye(CANDIDATES, dtype=candidates.dtype)  # a label that names the image, to tell which it was
    encoding = hide.encrypt(candidates, one_hot, public)
    found, order = rank.scores(squares, encoding.z, candidates), encoding.labels.argsort(dim=1, descending=True)
    for name_, place in (("training, heavier image", 0), ("training, lighter image", 1)):
        rows.append(_ranked(name, hide, name_, 1, rank.places(found, order[:, place])))
    return rows


def _ranked(name: str, hide: InstaHide, what: str, count: int, places: Tensor) -> Row:
    return {
        "part": "instahide-ranking", "data": name, "k": hide.k, "encoding": what, "encodings": count,
        "candidates": CANDIDATES, "first": float((places == 1).double().mean()),
        "ten": float((places <= 10).double().mean()), "of": len(places),
    }  # fmt: skip


def picture(data: Images, private: Tensor, z: Tensor, found: Tensor) -> Row:
    """Private images, absolute pixels, an encoding's, and recovered ones, matched; a byte for each pixel."""
    match = torch.from_numpy(linear_sum_assignment(-cosine(private.abs(), found.abs()).numpy())[1])
    order = cosine(found[match].abs(), private.abs()).diagonal().argsort(descending=True)
    chosen = order[torch.linspace(0, len(order) - 1, SHOWN).round().long()]  # from the best to the worst
    strips = {"private": private[chosen], "absolute": private[chosen].abs(), "encoding": z[:SHOWN],
              "recovered": found[match][chosen].abs()}  # fmt: skip
    packed = {name: base64.b64encode(_bytes(strip).numpy().tobytes()).decode() for name, strip in strips.items()}
    return {"part": "instahide-picture", "data": data.name, "image": list(data.image), "shown": len(chosen)} | packed


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Correlations (rows of a, rows of b)."""
    a, b = (functional.normalize(one - one.mean(dim=1, keepdim=True)) for one in (a, b))
    return a @ b.T


def _bytes(x: Tensor) -> Tensor:
    low, high = x.quantile(0.01, dim=1, keepdim=True), x.quantile(0.99, dim=1, keepdim=True)
    return ((x - low) / (high - low).clamp_min(1e-6) * 255).clamp(0, 255).to(torch.uint8)


def challenge(size: Size) -> list[Row]:
    per_class, epochs, k = size.challenge
    data, _ = images(size.data, 100)
    data = data.halved() if size.halve else data
    private, labels, others = split(data, per_class)
    learned, public, hide = others[: len(others) // 2], others[len(others) // 2 :], InstaHide(k=k)
    given, answer = challenges.make(hide, private, labels, public, epochs)
    squares = rank.learn(hide, learned, size.learned)
    row = grouping(data, given.encoding, given, answer, squares, learned, epochs, 0)
    row |= {"part": "instahide-challenge", "commitment": given.commitment}
    return [row, *ranking(hide, squares, data.name, public, learned)]


def seed_search(size: Size) -> list[Row]:
    """A planted seed found in a range around it, the rate, and the private images."""
    data, _ = images(size.data, 200)
    private, labels, public = split(data, size.per_class)
    hide, planted = InstaHide(), 3_141_592_653
    key = seeds.insecure_key(hide, private.shape, len(public), planted)
    given = apply(key, private, labels, public)
    start = planted - size.searched // 2
    found = seeds.search(hide, given, len(public), range(start, start + size.searched))
    began, used = time.perf_counter(), time.process_time()
    tried = seeds.search(hide, given, len(public), range(size.searched), rows=1).tried
    wall, used = time.perf_counter() - began, time.process_time() - used
    error = None
    if found.seed is not None:
        key = seeds.insecure_key(hide, private.shape, len(public), found.seed)
        error = float((seeds.reconstruct(key, given, public) - private).abs().max())
    return [{
        "part": "instahide-seed", "data": data.name, "found": found.seed == planted, "tried": tried,
        "rate": tried / wall, "rate_cpu": tried / used, "all_seconds": seeds.SEEDS * wall / tried,
        "all_cpu": seeds.SEEDS * used / tried, "error": error,
    }]  # fmt: skip


def training(size: Size) -> list[Row]:
    return [row for one in size.trainings for row in _trained(one)]


def _trained(stated: Training) -> list[Row]:
    data, test = images(stated.data, 0)
    count = min(stated.rows, len(data.x) * 7 // 10)
    x, y = data.x[:count], functional.one_hot(data.y[:count], data.classes).to(data.x.dtype)
    public, inputs, truth = data.x[count : count + 3000], test.x[: stated.tested], test.y[: stated.tested]
    rows = []
    fit(initial(stated.architecture, 0), x[:64], y[:64], epochs=1)  # the first call of a kernel is no cost of ours
    for hide in (None, InstaHide(), InstaHide(k=6), InstaHide(mixing="inside")):
        encrypting = 0.0
        if hide is not None:
            used = time.process_time()
            hide.encrypt(x, y, public)
            encrypting = (time.process_time() - used) * stated.epochs
        used = time.process_time()
        found = fit(initial(stated.architecture, 0), x, y, epochs=stated.epochs, lr=stated.lr, hide=hide, public=public)
        seconds = time.process_time() - used
        clear = found.probabilities(inputs if hide is None else inputs.abs())
        hidden = None if hide is None else accuracy(predict(found, hide, inputs, public), truth)
        rows.append({
            "part": "instahide-training", "data": stated.data, "k": hide and hide.k, "mixing": hide and hide.mixing,
            "images": count, "epochs": stated.epochs, "steps": stated.epochs * -(-count // 32), "seconds": seconds,
            "encrypting": encrypting, "clear": accuracy(clear, truth), "hidden": hidden, "tested": len(truth),
            "weights": sum(w.numel() for w in found.weights),
        })  # fmt: skip
    return rows


def accuracy(p: Tensor, y: Tensor) -> float:
    return float((p.argmax(dim=1) == y).double().mean())
