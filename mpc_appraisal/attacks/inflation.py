"""The attacks by which a seller makes its rows look better than they are, and the countermeasures that are tried.

A seller is a data owner that keeps to the protocol and chooses what it offers. x' = [x, 1] is a row of d features with
the constant one, p are the buyer's probabilities of C classes, e_y is the one-hot label, and V (d + 1, C) is the
buyer's direction of influence. How a method adds rows up decides what the seller gains (n rows; k copies of each):

    gradient norm     - || sum x' (p - e_y)' ||_F       copies: k times as low. Best value, 0: rows that the model fits,
                                                        rows whose sum cancels, and next to no rows
    influence         mean of < x' (p - e_y)', V >      copies: unchanged. A whole is the mean of its parts by rows, so
                                                        the best part is no worse. t times as long: about t times
    fine-tuning       training on D_tr and the rows     copies: each row weighs k times
    and retraining

The seller knows the method, the number of classes, the range of features, and labelled rows of the same kind. It does
not know the buyer's model, rows or direction, and guesses them (`Guess`), from K random halves of its known rows:

    theta_k = fit on half k,    V_k = theta_k - fit on all known rows,   about a H^-1 grad (other half) at theta_k

a > 0 is the share of the other half, and H is the Hessian of the objective. In go data sets, and out come data sets:
those on offer (`copied` to `crafted`), and what a countermeasure leaves of them (`distinct` to `clipped`). What a data
set is then worth by a method is for the caller to compute. Attacks may become stronger. What each knows has to stay
stated, because docs/threat_model.md rests on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.training import fit, union

STEPS, STEP = 40, 0.1  # of the search for crafted rows; a step's length is a share of the row norm


@dataclass(frozen=True, eq=False)
class Guess:
    """Hold what a seller guesses of the buyer, as K guesses that are averaged.

    Attributes:
        weights: theta_k, (K, d + 1, C).
        directions: V_k, (K, d + 1, C), up to a positive factor.
    """

    weights: Tensor
    directions: Tensor

    @staticmethod
    def of(known: Dataset, l2: float, halves: int = 8, seed: int = 0, tolerance: float = 1e-6) -> Guess:
        """Guess from the seller's labelled rows.

        Args:
            known: The rows, of the same kind as the buyer's.
            l2: The strength of the buyer's regulariser, or the seller's idea of it.
            halves: K.
            seed: The seed that draws the halves.
            tolerance: That of the fits.

        Raises InputError for fewer than two rows and for a bad number, and AppraisalError where a fit does not
        converge.
        """
        if known.rows < 2:
            raise InputError(known.name, f"{known.rows} row", "2 known rows or more, of which halves train models")
        integer("halves", halves, 1)
        draw, whole = torch.Generator().manual_seed(seed), fit(known, l2, tolerance).theta
        drawn = [torch.randperm(known.rows, generator=draw)[: known.rows // 2] for _ in range(halves)]
        weights = torch.stack([fit(known.subset(half), l2, tolerance).theta for half in drawn])
        return Guess(weights, weights - whole)

    def probabilities(self, x: Tensor) -> Tensor:
        """Return the mean over k of the probabilities of theta_k, (n, C), for rows x (n, d)."""
        return with_bias(x.to(torch.float64)).matmul(self.weights).softmax(2).mean(0)

    def influences(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over k of < x' (p_k - e_y)', V_k > of each row, (n,).

        x: rows (n, d). labels: e_y, (n, C) float64.
        """
        rows = with_bias(x.to(torch.float64))
        residuals = rows.matmul(self.weights).softmax(2) - labels
        return (rows.matmul(self.directions) * residuals).sum(2).mean(0)


def copied(data: Dataset, times: int, jitter: float = 0.0, seed: int = 0) -> Dataset:
    """Return each row `times` times, the copies moved by normal noise.

    Args:
        data: The rows, which come first and are not moved.
        times: k, the number of rows for each one.
        jitter: The standard deviation of the noise in units of a feature; 0 gives exact copies.
        seed: The seed of the noise.

    Raises InputError for a bad number.
    """
    integer("times", times, 1)
    number("jitter", jitter, least=0)
    x, draw = data.x.to(torch.float64).repeat(times, 1), torch.Generator().manual_seed(seed)
    noise = torch.randn(x[data.rows :].shape, generator=draw, dtype=torch.float64)
    x[data.rows :] += jitter * noise
    return replace(data, x=x, y=data.y.repeat(times))


def divided(data: Dataset, parts: int) -> list[Dataset]:
    """Return the rows as `parts` data sets of about equal size, of other names, as from so many sellers.

    Raises InputError for a number of parts that is not 1 .. n.
    """
    integer("parts", parts, 1, data.rows)
    return [
        data.subset(index).renamed(f"{data.name}, part {k}")
        for k, index in enumerate(torch.arange(data.rows).tensor_split(parts), start=1)
    ]


def picked(data: Dataset, guess: Guess, rows: int) -> Dataset:
    """Return the `rows` rows with the highest guessed influence, and withhold the others.

    Raises InputError for a number of rows that is not 1 .. n.
    """
    integer("rows", rows, 1, data.rows)
    return data.subset(guess.influences(data.x, data.one_hot()).argsort(descending=True, stable=True)[:rows])


def relabelled(data: Dataset, guess: Guess) -> Dataset:
    """Return the rows with the labels that the guess finds likeliest: a buyer's model fits them and learns little."""
    return replace(data, y=guess.probabilities(data.x).argmax(1))


def stretched(data: Dataset, factor: float) -> Dataset:
    """Return the rows with all features times `factor`; 0 leaves the constant feature alone.

    Raises InputError for a factor that is not a finite number of 0 or more.
    """
    number("factor", factor, least=0)
    return replace(data, x=data.x.to(torch.float64) * factor)


def in_proportion(data: Dataset, guess: Guess, times: int) -> Dataset:
    """Return each row `times` times with labels in the guessed proportions p^, so that its residuals about cancel.

    The counts of labels are times * p^, rounded by largest remainders: each is off by less than 1. Raises InputError
    for a number of times below 1.
    """
    integer("times", times, 1)
    shares = times * guess.probabilities(data.x)
    counts = shares.floor().to(torch.int64)
    order = (shares - counts).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(data.classes).expand_as(order)
    counts.scatter_add_(1, order, (places < times - counts.sum(1, keepdim=True)).to(torch.int64))
    labels = torch.arange(data.classes).repeat(data.rows).repeat_interleave(counts.reshape(-1))
    return replace(data, x=data.x.repeat_interleave(times, 0), y=labels)


def balancing(data: Dataset, pool: Dataset, guess: Guess, rows: int) -> Dataset:
    """Return rows of `pool`, with labels of the seller's choice, that shrink the guessed gradient of `data`.

    They are picked one by one, each the row and label with the least || G + x' (p^ - e_y)' ||_F, G being the sum so
    far, beginning with that of `data`. No row of the pool is taken twice. Raises InputError for a number of rows that
    is not 1 .. those of the pool.
    """
    integer("rows", rows, 1, pool.rows)
    x, p = with_bias(pool.x.to(torch.float64)), guess.probabilities(pool.x)
    total = with_bias(data.x.to(torch.float64)).t().matmul(guess.probabilities(data.x) - data.one_hot())
    lengths = p.square().sum(1, keepdim=True) + 1 - 2 * p  # ||p - e_y||^2 of each label y
    chosen, labels, free = [], [], torch.zeros(pool.rows, 1, dtype=torch.float64)
    for _ in range(rows):
        along = x.matmul(total)
        change = 2 * ((along * p).sum(1, keepdim=True) - along) + x.square().sum(1, keepdim=True) * lengths + free
        row, label = divmod(int(change.argmin()), pool.classes)
        residual = p[row].clone()
        residual[label] -= 1
        total += torch.outer(x[row], residual)
        free[row] = torch.inf
        chosen.append(row)
        labels.append(label)
    return replace(pool.subset(chosen), y=torch.tensor(labels))


def crafted(start: Dataset, guess: Guess, row_norm: float, low: float = -torch.inf, high: float = torch.inf) -> Dataset:
    """Return a row for each row of `start` that is made to have as much guessed influence as it can.

        maximise over x and y    mean of < x' (p_k(x) - e_y)', V_k >,    ||x'|| <= row_norm,  low <= x <= high

    Each label is tried from each row by projected gradient ascent, and the best point on the way is kept.

    Args:
        start: The rows to begin with; labels are not used.
        guess: What the seller guesses of the buyer.
        row_norm: The largest norm, with the constant feature.
        low, high: The range of a feature, which holds 0.

    Raises InputError for a norm of 1 or less, and for a range that does not hold 0.
    """
    number("row_norm", row_norm, "a number above 1", above=1)
    if not low <= 0 <= high:
        raise InputError("low, high", (low, high), "a range that holds 0, so that shorter rows stay inside")
    radius = (row_norm**2 - 1) ** 0.5
    best = torch.full((start.rows,), -torch.inf, dtype=torch.float64)
    rows, labels = start.x.to(torch.float64).clone(), start.y.clone()
    for label in range(start.classes):
        one_hot = torch.eye(start.classes, dtype=torch.float64)[label].expand(start.rows, -1)
        x = _inside(start.x.to(torch.float64), radius, low, high)
        for _ in range(STEPS):
            at = x.clone().requires_grad_()
            found = guess.influences(at, one_hot)
            (slope,) = torch.autograd.grad(found.sum(), at)
            better = found.detach() > best
            best, labels = torch.where(better, found.detach(), best), torch.where(better, label, labels)
            rows = torch.where(better[:, None], x, rows)
            length = slope.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
            x = _inside(x + STEP * radius * slope / length, radius, low, high)
    return replace(start, x=rows, y=labels)


def distinct(data: Dataset, apart: float = 0.0) -> Dataset:
    """Return the rows that are further than `apart` from every row kept before; copies are so counted once.

    Labels are not looked at: one row with two labels is a copy too. Comparing with `apart` 0 takes hashes; more takes
    distances of all pairs. Raises InputError for a negative distance.
    """
    number("apart", apart, least=0)
    x = data.x.to(torch.float64)
    if apart == 0:
        _, group = torch.unique(x, dim=0, return_inverse=True)
        first = torch.full((int(group.max()) + 1,), data.rows).scatter_reduce(0, group, torch.arange(data.rows), "amin")
        return data.subset(first.sort().values)
    near = torch.cdist(x, x) <= apart
    kept = torch.zeros(data.rows, dtype=torch.bool)
    for k in range(data.rows):
        kept[k] = not (near[k] & kept).any()
    return data.subset(kept.nonzero()[:, 0])


def capped(data: Dataset, rows: int, seed: int = 0) -> Dataset:
    """Return at most `rows` rows, drawn at random by a seed that the seller does not choose, in their order.

    Raises InputError for a number of rows below 1.
    """
    integer("rows", rows, 1)
    order = torch.randperm(data.rows, generator=torch.Generator().manual_seed(seed))
    return data.subset(order[:rows].sort().values)


def clipped(data: Dataset, row_norm: float = torch.inf, low: float = -torch.inf, high: float = torch.inf) -> Dataset:
    """Return the rows with each feature in low .. high and each row x' no longer than row_norm.

    Raises InputError for a norm of 1 or less, and for a range that does not hold 0.
    """
    if not row_norm > 1:
        raise InputError("row_norm", row_norm, "a number above 1")
    if not low <= 0 <= high:
        raise InputError("low, high", (low, high), "a range that holds 0, so that shorter rows stay inside")
    return replace(data, x=_inside(data.x.to(torch.float64), (row_norm**2 - 1) ** 0.5, low, high))


def longest(data: Dataset) -> float:
    """Return the largest norm of a row with the constant feature, which a data owner announces (rounded up)."""
    return float(with_bias(data.x.to(torch.float64)).norm(dim=1).max())


def joined(parts: list[Dataset], name: str) -> Dataset:
    """Return the rows of all parts as one data set, as where several names of one seller are valued as a set.

    Raises InputError for no parts, and for parts of other features or classes.
    """
    if not parts:
        raise InputError("parts", "none", "one data set or more")
    whole = parts[0]
    for part in parts[1:]:
        whole = union(whole, part)
    return whole.renamed(name)


def _inside(x: Tensor, radius: float, low: float, high: float) -> Tensor:
    """Return rows x (n, d) with each feature in low .. high, and then shortened to `radius` where they are longer."""
    x = x.clamp(low, high)
    return x * (radius / x.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)).clamp_max(1.0)
