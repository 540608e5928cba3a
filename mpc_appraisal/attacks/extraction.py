"""The attack that recovers the model owner's softmax regression, by a data owner that chooses what is appraised.

The method `gradient_norm` opens f = || sum over rows of x' (p(x) - e_y)' ||_F to both owners: a sum and not a mean,
without the regulariser. x (d,) is a row of features, x' = [x, 1], p(x) are the model's probabilities of C classes, e_y
is the one-hot label, and W the weights. For n copies of one record, which the data owner chooses, f is a product of
norms:

    f = n ||x'|| ||p(x) - e_y||,    g_y = (f / (n ||x'||))^2 = ||p||^2 + 1 - 2 p_y

Over all C labels of one x, sum g = C ||p||^2 + C - 2, and ||p||^2 drops out:

    p_y = 1 / C + (mean g - g_y) / 2           C = 2: g_0 = 2 p_1^2, so p_1 = f / (n ||x'|| sqrt(2)) of one label alone

log p(x) is x' W plus a constant for each x. So x = 0 gives the bias, and x = t u the weights along u. With the d unit
vectors, (d + 1) C appraisals give W up to one vector added to every class, on which no prediction depends; C = 2 takes
d + 1. There are (d + 1)(C - 1) unknowns, and an appraisal is one number. Fewer directions, such as principal ones of
the attacker's own rows, give the model's part in their span. Nobody deviates from the protocol: only data are chosen.
In go the sizes of the model, then the values of `probes`; out comes a model.

An error e of g puts about e / (2 p_y) on log p_y, and 1 / t of that on W; t is a compromise, because a large t makes
p_y small. Repeated appraisals of one probe average out errors that are independent, as noise is. A minimum number of
rows n, which disclosure controls may ask for, costs the attacker nothing: rows that differ by `jitter` matter only in
its square, and against noise of a fixed size n makes the signal n times as large. (Padding with x = 0 could be solved
too, but copies are simpler.)

The attack rests on an opening to the data owner: the value, or a bit of it (`from_bits`). release=dp adds noise to the
squared norm for the data owner's rows; the owner that learns the result subtracts its own part of the noise. The
solvers may change. The order of `probes` has to stay, because `recover` relies on it.
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

FLOOR = 1e-6  # the least recovered probability, below what the opened value resolves


def appraisals(directions: int, classes: int, repeats: int = 1) -> int:
    """Return the number of values that `probes` asks for.

    With d directions, (d + 1) C values give the whole model; two classes take d + 1.
    """
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
    """Make the candidates to appraise: x = 0 and x = size * each direction, all labels of each, each `repeats` times.

    With two classes label 0 alone is asked for. The candidates are in this order, labels within x and repeats within
    labels.

    Args:
        features, classes: d and C of the model.
        size: t, in units of the features.
        directions: (k, features); unit vectors by default.
        rows: The rows of each candidate, all copies of one record.
        jitter: The standard deviation of the normal noise that moves the copies about their mean; 0 for exact copies.
        repeats: How often each probe is appraised.
        seed: The seed of the noise.

    Raises InputError for a bad number or a shape that does not fit.
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
    """Return the first principal directions (directions, d), of length 1, of the attacker's rows x (n, d).

    The rows are not centred.
    """
    return torch.linalg.svd(x.to(torch.float64), full_matrices=False).Vh[:directions]


def recover(values: Sequence[float], candidates: Sequence[Dataset]) -> SoftmaxRegression:
    """Recover the model from the values of all of `probes`; the weights theta have mean 0 over the classes.

    The sign of a value is dropped, so that raw norms will do. Repeated probes are averaged first. Directions that were
    not probed get weight 0, which is the least norm that fits. Raises InputError for values or candidates that are not
    those of `probes`.
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
    """Find the most likely model, by L-BFGS, from values with Gaussian noise, with which `recover` fails.

        arg min  sum over values of (f^power - f(theta)^power)^2 / (2 noise^2)  +  ||theta - guess||^2 / (2 prior^2)

    Args:
        values, candidates: The values of any set of probes.
        noise: The standard deviation of the noise.
        prior: The standard deviation of a weight, as the attacker guesses it.
        iterations: The largest number of iterations of L-BFGS.
        power: 2 where the squared norm was noised and opened, as release=dp does; otherwise 1.
        guess: A model to start from, for example one trained on the attacker's own rows; None starts from zero.

    Raises InputError for a noise or prior that is not above 0, and for values that do not fit the candidates.
    """
    for name, stated in (("noise", noise), ("prior", prior)):
        if not stated > 0:
            raise InputError(name, stated, "a number above 0")
    x, y, norms, counts = _distinct(values, candidates, power)
    scale = (x.norm(dim=1) * candidates[0].rows) ** power  # the scale of the values and of their noise
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
    """Find the model from bits, which say whether each norm f was at most tau, the model owner's secret threshold.

        arg min over theta and tau
        sum over bits of log(1 + exp(+-(log f(theta) - log tau) / width))  +  ||theta||^2 / (2 prior^2)

    The sign is + for a norm within tau.

    Args:
        bits, candidates: A bit for each candidate; each candidate is copies of one record with one label.
        prior: The standard deviation of a weight, as the attacker guesses it.
        width: How sharply a bit is taken, as a share of f. Bits of shares are exact, but a small width is harder to
            search with.
        iterations: The largest number of iterations of L-BFGS.

    Raises InputError for bits that do not fit the candidates.
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
    start[-1] = size.log().mean()  # about the norm of even probabilities
    return SoftmaxRegression(_least(loss, start, iterations)[:-1].reshape(shape), 0.0)


def agreement(model: SoftmaxRegression, stolen: SoftmaxRegression, x: torch.Tensor) -> float:
    """Return the fraction of the rows x (n, d) for which both models predict the same class."""
    return (model.logits(x).argmax(1) == stolen.logits(x).argmax(1)).double().mean().item()


def probability_error(model: SoftmaxRegression, stolen: SoftmaxRegression, x: torch.Tensor) -> float:
    """Return the largest difference of a class's probability over the rows x (n, d)."""
    return (model.logits(x).softmax(1) - stolen.logits(x).softmax(1)).abs().max().item()


def chance(model: SoftmaxRegression, x: torch.Tensor) -> float:
    """Return the agreement of the best constant prediction: the share of the class that the model predicts most."""
    return model.logits(x).argmax(1).bincount().max().item() / len(x)


def _least(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, iterations: int) -> torch.Tensor:
    """Return the point (k,) at which L-BFGS from `start` (k,) ends."""

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
    """Return the m different probes.

    They are x' (m, d + 1), y (m,), the mean of f / (n ||x'||) (m,), and the number of values (m,).

    With `power` 2, values are f^2 and so are the means; a negative value is then due to noise. Raises InputError for
    values that do not fit the candidates, and for candidates with several labels or numbers of rows.
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
    # All values of honest runs have the same sign, since higher is better.
    sign = -1.0 if power == 1 and sum(values) < 0 else 1.0
    means = torch.tensor([sign * sum(values[k] for k in ks) / len(ks) for ks in groups.values()], dtype=torch.float64)
    counts = torch.tensor([float(len(ks)) for ks in groups.values()], dtype=torch.float64)
    return x, y, means / (x.norm(dim=1) * candidates[0].rows) ** power, counts
