"""The attack that finds private images in many InstaHide encodings, by grouping and phase retrieval, with no network.

    grouping    f_e = W' (z_e^2 - m)  (`rank`),   f_e ~ l_i^2 u_i + l_j^2 u_j + noise,   u_i = W' (x_i^2 - q)
                minimise over images i, j of the label's classes and over u    sum_e ||f_e - l_i^2 u_i - l_j^2 u_j||^2
    retrieval   minimise over x    sum_e || |l_i x_i + l_j x_j| - |z_e| ||^2,    every pixel by itself

z_e is the encoding e, x_i the private image i, and l_i its coefficient in e; W, m and q are those of `rank`. In go
encodings with labels, the number of images of each class, k, and public images of the same kind (by `rank.learn`); out
come n images without the signs of pixels.

Encodings of n images lie near n directions: the leading n singular vectors of all f_e keep the signal and drop most of
the noise. The first u are encodings of large norm, each after the directions of those before it are projected out
(successive projection, Araujo et al. 2001), with as many from each class as it has images. Then pairs and u alternate,
and of some restarts the lowest sum is kept. A label that names two classes discloses both coefficients; one that names
a single class discloses their sum, and a few ratios are tried. Retrieval alternates between signs and least squares
(Gerchberg and Saxton 1972), with tanh(m z / v) for the sign of m, the mean sign under Gaussian noise of variance v that
the public images leave.

Setting and idea come from Carlini et al., "Is Private Learning Possible with Instance Encoding?" (2021), who train a
network to decide which encodings share an image. The attack finds `|x|`, because the sign of a pixel, common to all
images, stays hidden. With fewer encodings of an image it finds less of it. With one of each, it finds little more than
the encodings themselves, which still identify an image among candidates (`rank`). The constants below may change; they
decide how much is found, not what.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpc_appraisal.attacks.instahide.rank import Squares
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide import Encoding

RATIOS = (0.08, 0.17, 0.27, 0.36, 0.45)  # tried for two coefficients whose sum is known, in either order
CELLS = 4_000_000  # the most pairs times encodings in memory at once
RIDGE = 1e-3
LEAST = 0.1  # the least coefficient assumed of an image in the encoding that it starts from
FLOOR = 0.01  # the least variance of the noise


@dataclass(frozen=True, eq=False)
class RecoveredImages:
    """What the attacker recovered.

    Attributes:
        images: (n, d), right up to the sign of each pixel.
        classes: (n,), the class of each image.
        weights: (rows, n), the coefficient of each image in each encoding, 0 where the encoding does not hold the
            image.
        misfit: The sum that the grouping minimises; lower is better.
    """

    images: Tensor
    classes: Tensor
    weights: Tensor
    misfit: float


def recover(encoding: Encoding, counts: Sequence[int], squares: Squares, *, restarts: int = 6, rounds: int = 12,
            steps: int = 25, seed: int = 0) -> RecoveredImages:  # fmt: skip
    """Recover all private images from the encodings of all epochs (rows, d) with labels (rows, C).

    Args:
        encoding: The encodings and their labels.
        counts: The number of private images of each class.
        squares: The whitening that `rank.learn` makes from public images.
        restarts: The number of starts of the grouping.
        rounds: The largest number of alternations of each start.
        steps: The number of steps of the retrieval.
        seed: The seed of all random numbers.

    Raises InputError where fewer encodings than images are given, or labels name no class, more than two (cross-dataset
    mixing has one or two), or a class without images.
    """
    z, labels, total = encoding.z, encoding.labels, sum(counts)
    if labels is None or labels.shape != (len(z), len(counts)) or len(z) < total:
        shape = None if labels is None else tuple(labels.shape)
        raise InputError("labels", shape, f"(rows, {len(counts)}) label weights, {total} rows or more")
    named = (labels > 0).sum(dim=1)
    if not ((named == 1) | (named == 2)).all():
        raise InputError("labels", "none or more than two classes in a row", "one or two classes in a row")
    if (labels.sum(dim=0)[torch.tensor(counts) == 0] > 0).any():
        raise InputError("counts", tuple(counts), "an image or more of each class that a label names")
    features = squares.of_encodings(z)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = min(total, *features.shape)
        points = features @ torch.svd_lowrank(features, q=min(size + 10, *features.shape), niter=2)[2][:, :size]
    best = None
    for restart in range(restarts):
        found = _group(points, labels, counts, generator if restart else None, rounds)
        if best is None or found[2] < best[2]:
            best = found
    weights, classes, misfit = best[0].sqrt(), best[1], best[2]
    return RecoveredImages(retrieve(z, labels, weights, squares, steps, generator), classes, weights, misfit)


def retrieve(z: Tensor, labels: Tensor, weights: Tensor, squares: Squares, steps: int,
             generator: torch.Generator) -> Tensor:  # fmt: skip
    """Return images (n, d) from |z| (rows, d) and each encoding's coefficients (rows, n), up to the sign of each pixel.

    Args:
        z: the encodings (rows, d).
        labels: their label weights (rows, C).
        weights: the coefficient of each image in each encoding, (rows, n).
        squares: the whitening of `rank.learn`.
        steps: the number of alternations.
        generator: the generator of the first signs.

    Alternation stops in the nearest minimum, so that even with exact coefficients some pixels come out wrong.
    """
    others = squares.k - 2
    # Uniform on the simplex, m coefficients of sum v have the mean sum of squares 2 v^2 / (m + 1).
    noise = (2 * (1 - labels.sum(dim=1)).square() / (others + 1)).clamp_min(FLOOR)[:, None]
    z, eye = z.abs(), torch.eye(weights.shape[1], dtype=z.dtype)
    square = weights.square()
    power = torch.linalg.solve(square.T @ square + RIDGE * eye, square.T @ (z.square() - noise * squares.power))
    weighted = (weights / noise).T
    solve = torch.linalg.solve(weighted @ weights + eye, weighted)
    slope = z / (noise * squares.power.clamp_min(FLOOR))
    x = power.clamp_min(0).sqrt() * (torch.randint(2, power.shape, generator=generator) * 2 - 1)
    for _ in range(steps):
        x = solve @ (torch.tanh((weights @ x) * slope) * z)
    return x


def _group(points: Tensor, labels: Tensor, counts: Sequence[int], generator: torch.Generator | None,
           rounds: int) -> tuple[Tensor, Tensor, float]:  # fmt: skip
    """Return squared coefficients (rows, n), the images' classes (n,) and the misfit, from one start."""
    seeds, classes = _starts(points, labels, counts, generator)
    centres = points[seeds] / labels[seeds, classes].clamp_min(LEAST).square()[:, None]
    eye = RIDGE * torch.eye(len(centres), dtype=points.dtype)
    misfit, square = 0.0, points.new_zeros(len(points), len(centres))
    for turn in range(rounds):
        found, misfit = _assign(points, labels, centres, classes)
        if turn and torch.equal(found, square):
            break
        square = found
        centres = torch.linalg.solve(square.T @ square + eye, square.T @ points)
    return square, classes, misfit


def _starts(points: Tensor, labels: Tensor, counts: Sequence[int], generator: torch.Generator | None
            ) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Choose the encoding and class that each image starts from: the largest left, or with a generator one of five."""
    left, rest = torch.tensor(counts), points.clone()
    seeds, classes = [], []
    for _ in range(sum(counts)):
        weight, main = torch.where(left > 0, labels, -1.0).max(dim=1)  # of the classes that still want an image
        norms = torch.where(weight > 0, rest.square().sum(dim=1), -1.0)
        top = norms.topk(min(5, len(norms))).indices
        row = int(top[0 if generator is None else int(torch.randint(len(top), (1,), generator=generator))])
        row = row if norms[row] > 0 else int(top[0])
        seeds.append(row)
        classes.append(int(main[row]))
        left[main[row]] -= 1
        direction = torch.nn.functional.normalize(rest[row], dim=0)
        rest = rest - (rest @ direction)[:, None] * direction
    return torch.tensor(seeds), torch.tensor(classes)


def _assign(points: Tensor, labels: Tensor, centres: Tensor, classes: Tensor) -> tuple[Tensor, float]:
    """Find the best pair of images for each encoding: squared coefficients (rows, n), and the sum of misfits."""
    products, gram = points @ centres.T, centres @ centres.T
    square, total = points.new_zeros(len(points), len(centres)), 0.0
    for rows, one, two in _kinds(labels):
        first, second = ((classes == c).nonzero().squeeze(1) for c in (one, two))
        for part in rows.split(max(1, CELLS // max(1, len(first) * len(second)))):
            if one != two:
                ways = [(labels[part, one], labels[part, two])]
            else:
                ways = [(r * labels[part, one], (1 - r) * labels[part, one]) for r in RATIOS]
            best = points.new_full((len(part),), torch.inf)
            for way in ways:
                a, b = (weight.square()[:, None] for weight in way)
                left = a.square() * gram.diagonal()[first] - 2 * a * products[part][:, first]
                right = b.square() * gram.diagonal()[second] - 2 * b * products[part][:, second]
                cost = left[:, :, None] + right[:, None, :] + (2 * a * b)[:, :, None] * gram[first][:, second]
                if one == two:
                    cost.diagonal(dim1=1, dim2=2).fill_(torch.inf)
                value, place = cost.flatten(1).min(dim=1)
                better = value < best
                here, pair = part[better], place[better]
                best = torch.where(better, value, best)
                square[here] = 0
                square[here, first[pair // len(second)]] = a[better, 0]
                square[here, second[pair % len(second)]] = b[better, 0]
            total += float(best.sum())
    return square, total


def _kinds(labels: Tensor) -> Iterator[tuple[Tensor, int, int]]:
    """Yield the row numbers of the encodings that name classes (one, two), for all pairs one <= two that occur."""
    top = labels.topk(2, dim=1)
    two = torch.where(top.values[:, 1] > 0, top.indices[:, 1], top.indices[:, 0])
    pairs = torch.stack([torch.minimum(top.indices[:, 0], two), torch.maximum(top.indices[:, 0], two)], dim=1)
    for one, other in pairs.unique(dim=0).tolist():
        yield ((pairs == torch.tensor([one, other])).all(dim=1)).nonzero().squeeze(1), one, other
