"""The model owner's softmax regression, recovered by a dishonest data owner from values of gradient-norm appraisals.

`gradient_norm` opens f = || sum over rows of x' (p(x) - e_y)' ||_F to both owners: a sum, not a mean, without the
regulariser, x' = [x, 1]. For n copies of one record, chosen by the data owner, that is a product of norms:

    f = n ||x'|| ||p(x) - e_y||,    g_y = (f / (n ||x'||))^2 = ||p||^2 + 1 - 2 p_y

Over all C labels of one x, sum g = C ||p||^2 + C - 2, and ||p||^2 drops out:

    p_y = 1 / C + (mean g - g_y) / 2           C = 2: g_0 = 2 p_1^2, so p_1 = f / (n ||x'|| sqrt(2)) of one label alone

log p(x) = x' W + a constant for each x. So x = 0 gives the bias and x = t u the weights along u: with the d unit
vectors, (d + 1) C appraisals give W up to the same vector added to every class, on which no prediction depends; d + 1
for C = 2. Unknowns number (d + 1)(C - 1), and an appraisal is one number. Fewer directions, principal ones of the
attacker's own rows, give the model's part in their span. Nobody deviates from the protocol: only data are chosen.

Precision: an error e of g puts about e / (2 p_y) on log p_y, and 1 / t of that on W; t is a compromise, for a large t
makes p_y small. Repeated appraisals of one probe average errors out that are independent, as noise is. n is a guard's
minimum number of rows and costs the attacker nothing: rows that differ by `jitter` matter in its square only, and
against noise of a fixed size n makes the signal n times as large. (Padding with x = 0 would be solvable too; copies are
simpler.) All of it rests on the data owner being told something: the value, or a bit of it (`from_bits`). release=dp
noises the squared norm for the data owner's rows; whoever learns it takes its own part of the noise off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.softmax_regression import SoftmaxRegression

FLOOR = 1e-6  # of a recovered probability: below what the opened value resolves


def appraisals(directions: int, classes: int, repeats: int = 1) -> int:
    """How many values `probes` asks for; with directions = d the whole model: (d + 1) C, or d + 1 for two classes."""
    return (directions + 1) * (classes if classes > 2 else 1) * repeats


def probes(
    features: int,
    classes: int,
    size: float = 2.0,
    directions: torch.Tensor | None = None,
    rows: int = 1,
    jitter: float = 0.0,
    repeats: int = 1,
    seed: int = 0,
) -> list[Dataset]:
    """Candidates to appraise, in this order: x = 0 and x = size * each direction, all labels of each, `repeats` times.

    size: t, in units of the features. directions: (k, features); unit vectors by default. rows: of each candidate, all
    copies of one record, moved by normal noise of standard deviation `jitter` about their mean (0 for exact copies).
    """
    for name, number in (("features", features), ("classes", classes), ("rows", rows), ("repeats", repeats)):
        if number < (2 if name == "classes" else 1):
            raise InputError(name, number, "2 or more" if name == "classes" else "1 or more")
    if not (math.isfinite(size) and size > 0):
        raise InputError("size", size, "a finite number above 0")
    along = torch.eye(features, dtype=torch.float64) if directions is None else directions.to(torch.float64)
    if along.dim() != 2 or along.shape[1] != features:
        raise InputError("directions", tuple(along.shape), f"shape (directions, {features})")
    draw, found = torch.Generator().manual_seed(seed), []
    for k, x in enumerate(torch.cat([torch.zeros(1, features, dtype=torch.float64), size * along])):
        for label in range(classes) if classes > 2 else (0,):
            for turn in range(repeats):
                moved = jitter * torch.randn(rows, features, generator=draw, dtype=torch.float64)
                data = x + moved - moved.mean(0)
                found.append(Dataset(data, torch.full((rows,), label), classes, f"probe {k}, label {label}, {turn}"))
    return found


def principal(x: torch.Tensor, directions: int) -> torch.Tensor:
    """The first principal directions (directions, d) of the attacker's own rows x (n, d), not centred, of length 1."""
    return torch.linalg.svd(x.to(torch.float64), full_matrices=False).Vh[:directions]


def recover(values: Sequence[float], candidates: Sequence[Dataset]) -> SoftmaxRegression:
    """The model from the values (or raw norms: the sign is dropped) of whole `probes`; theta has mean 0 over classes.

    Repeated probes are averaged first. Directions that were not probed get weight 0 (the least norm that fits).
    """
    x, y, norms, _ = _distinct(values, candidates)
    classes = candidates[0].classes
    if classes == 2:
        if set(y.tolist()) != {0}:
            raise InputError("candidates", f"labels {sorted(set(y.tolist()))}", "label 0 alone, as there are 2 classes")
        second = (norms / math.sqrt(2)).clamp(FLOOR, 1 - FLOOR)
        logp, points = torch.stack([1 - second, second], 1).log(), x
    else:
        if len(y) % classes or not torch.equal(y, torch.arange(classes).repeat(len(y) // classes)):
            raise InputError("candidates", f"{len(y)} different ones", f"each x with all {classes} labels, in order")
        g = norms.square().reshape(-1, classes)
        p = 1 / classes + (g.mean(1, keepdim=True) - g) / 2
        logp, points = p.clamp_min(FLOOR).log(), x[::classes]
    theta = torch.linalg.lstsq(points, logp - logp.mean(1, keepdim=True), driver="gelsd").solution
    return SoftmaxRegression(theta, 0.0)


def most_likely(
    values: Sequence[float],
    candidates: Sequence[Dataset],
    noise: float,
    prior: float = 0.3,
    iterations: int = 500,
    power: int = 1,
    guess: SoftmaxRegression | None = None,
) -> SoftmaxRegression:
    """The same from values with Gaussian noise of standard deviation `noise`, where `recover` breaks down.

    arg min  sum over values of (f^power - f(theta)^power)^2 / (2 noise^2)  +  ||theta - guess||^2 / (2 prior^2)

    prior: standard deviation of a weight, the attacker's guess. power: 2 where the squared norm was noised and told, as
    release=dp does. guess: a model to start from, trained on the attacker's own rows for one; None: zero. By L-BFGS;
    any set of probes will do.
    """
    if not (noise > 0 and prior > 0):
        raise InputError("noise, prior", (noise, prior), "numbers above 0")
    x, y, norms, counts = _distinct(values, candidates, power)
    scale = (x.norm(dim=1) * candidates[0].rows) ** power  # of the values, and so of their noise
    weight, labels = counts * (scale / noise).square(), torch.eye(candidates[0].classes, dtype=torch.float64)[y]
    shape = (x.shape[1], candidates[0].classes)
    start = torch.zeros(shape, dtype=torch.float64) if guess is None else guess.theta.to(torch.float64)
    start = (start - start.mean(1, keepdim=True)).reshape(-1)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        residual = ((x @ flat.reshape(shape)).softmax(1) - labels).norm(dim=1) ** power - norms
        return (weight * residual.square()).sum() / 2 + (flat - start).square().sum() / (2 * prior**2)

    return SoftmaxRegression(_least(loss, start, iterations).reshape(shape), 0.0)


def from_bits(
    bits: Sequence[bool], candidates: Sequence[Dataset], prior: float = 0.3, width: float = 0.03, iterations: int = 300
) -> SoftmaxRegression:
    """The model from bits alone, each whether a norm f was at most tau, the model owner's secret threshold.

    arg min  sum over bits of log(1 + exp(+-(log f(theta) - log tau) / width))  +  ||theta||^2 / (2 prior^2)

    over theta and tau, with + for a norm within tau. width: how sharply a bit is taken, in parts of f; bits of shares
    are exact, but a small width is harder to search with. candidates: any, each copies of one record with one label.
    """
    if len(bits) != len(candidates) or not bits:
        raise InputError("bits", f"{len(bits)} bits", f"one for each of the {len(candidates)} candidates")
    x = with_bias(torch.stack([data.x.to(torch.float64).mean(0) for data in candidates]))
    labels = torch.eye(candidates[0].classes, dtype=torch.float64)[[data.y[0].item() for data in candidates]]
    size = torch.tensor([data.rows for data in candidates]) * x.norm(dim=1)
    sign = torch.where(torch.tensor(bits), 1.0, -1.0).to(torch.float64)
    shape = (x.shape[1], candidates[0].classes)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        theta, log_tau = flat[:-1].reshape(shape), flat[-1]
        norms = size * ((x @ theta).softmax(1) - labels).norm(dim=1)
        wrong = torch.nn.functional.softplus(sign * (norms.log() - log_tau) / width)
        return wrong.sum() + theta.square().sum() / (2 * prior**2)

    start = torch.zeros(shape[0] * shape[1] + 1, dtype=torch.float64)
    start[-1] = size.log().mean()  # of a norm where p is even
    return SoftmaxRegression(_least(loss, start, iterations)[:-1].reshape(shape), 0.0)


def agreement(model: SoftmaxRegression, stolen: SoftmaxRegression, x: torch.Tensor) -> float:
    """Fraction of the rows x (n, d) for which both predict the same class."""
    return (model.logits(x).argmax(1) == stolen.logits(x).argmax(1)).double().mean().item()


def probability_error(model: SoftmaxRegression, stolen: SoftmaxRegression, x: torch.Tensor) -> float:
    """The largest difference of a class's probability over the rows x (n, d)."""
    return (model.logits(x).softmax(1) - stolen.logits(x).softmax(1)).abs().max().item()


def chance(model: SoftmaxRegression, x: torch.Tensor) -> float:
    """Agreement of the best constant prediction: the share of the class that the model predicts most."""
    return model.logits(x).argmax(1).bincount().max().item() / len(x)


def _least(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, iterations: int) -> torch.Tensor:
    """Where L-BFGS from `start` (k,) ends."""

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(flat, requires_grad=True)
        value = loss(at)
        value.backward()
        return value.item(), at.grad.numpy()

    options = {"maxiter": iterations, "maxfun": 2 * iterations}
    found = minimize(objective, start.numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x.copy())


def _distinct(
    values: Sequence[float], candidates: Sequence[Dataset], power: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of m different probes: x' (m, d + 1), y (m,), the mean of f / (n ||x'||) (m,), and of how many values (m,).

    power: the values are f^power, and so is the mean; with 2 a negative one is noise.
    """
    if len(values) != len(candidates) or not values:
        raise InputError("values", f"{len(values)} values", f"one for each of the {len(candidates)} candidates")
    groups: dict[tuple[bytes, int], list[int]] = {}
    for k, data in enumerate(candidates):
        if data.rows != candidates[0].rows or len(set(data.y.tolist())) > 1:
            raise InputError("candidates", data.name, "as many rows in each, of one label")
        x = np.round(data.x.to(torch.float64).mean(0).numpy(), 9) + 0.0  # no negative zero
        groups.setdefault((x.tobytes(), data.y[0].item()), []).append(k)
    x = with_bias(torch.stack([candidates[ks[0]].x.to(torch.float64).mean(0) for ks in groups.values()]))
    y = torch.tensor([label for _, label in groups])
    # The sign is that of the orientation, "higher is better": all values of honest runs have the same.
    sign = -1.0 if power == 1 and sum(values) < 0 else 1.0
    means = torch.tensor([sign * sum(values[k] for k in ks) / len(ks) for ks in groups.values()], dtype=torch.float64)
    counts = torch.tensor([float(len(ks)) for ks in groups.values()], dtype=torch.float64)
    return x, y, means / (x.norm(dim=1) * candidates[0].rows) ** power, counts
