"""The attack by the helper's histogram: class mix and quality of a batch, from values whose order is hidden.

    mix        w = arg max sum_i log sum_c w_c p(v_i | c)      by expectation-maximisation, v_i a seen row or entry
    appraisal  f(D) = a + b' phi(view of D)                    ridge regression on batches of the helper's own

w_c is the share of class c in the batch D, and phi has numbers that sum a view up. In go a `View` of the batch, and
views of the helper's own rows; out come w, or an estimate of the appraisal. A permutation hides which value belongs to
which row, but not the values. The helper knows the model and has labelled rows of the same kind (public ones), from
which p(v | c) and pairs of view and appraisal come. phi has, by rank within a row, the mean softmax and the mean and
deciles of the logits. Saerens, Latinne and Decaestecker (2002) give the iteration for w.

The attack stops where the values do not depend on what is asked: label noise changes f and leaves logits as they are,
and the correlation is 0. The class mix blurs where columns are permuted, and more so where entries are and classes are
many; one logit for each row, as in logistic regression, leaves nothing to separate. BINS, ROUNDS and the ridge may
change; `features` has to be the same for views that are learned from and views that are predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mpc_appraisal.attacks.rtas.view import View
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.models.training import fit

DECILES = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
BINS = 40  # the number of bins in a histogram of single entries
ROUNDS = 500
L2 = 1e-4


def class_mix(view: View, reference: View, labels: Tensor, classes: int) -> Tensor:
    """Return the share of each class in the batch seen, (classes,).

    Args:
        view: the view of the batch.
        reference: a view of the helper's own rows, whose order it knows.
        labels: the labels (n,) int64 of the helper's own rows before they are permuted.
        classes: the number of classes.

    Raises InputError where both views are not hidden in the same way.
    """
    if view.hidden != reference.hidden:
        raise InputError("reference", reference.hidden, f"hidden like the view: {view.hidden}")
    if view.hidden == "entries":
        of = labels[reference.order // (len(reference.order) // len(labels))]
        likelihood = _by_bins(view.values, reference.values, of, classes)
    else:
        likelihood = _by_rows(view.rows, reference.rows, labels[reference.order], classes)
    w = torch.full((classes,), 1 / classes, dtype=torch.float64)
    for _ in range(ROUNDS):
        joint = likelihood * w
        w = (joint / joint.sum(dim=1, keepdim=True)).mean(dim=0)
    return w


def _by_rows(values: Tensor, own: Tensor, of: Tensor, classes: int) -> Tensor:
    """Return p(v | c) up to a factor for each v, (n, classes): p(c | v) by softmax regression over the share of c."""
    mean, deviation = own.mean(dim=0), own.std(dim=0).clamp_min(1e-9)
    model = fit(Dataset((own - mean) / deviation, of, classes), L2)
    share = torch.bincount(of, minlength=classes).to(torch.float64) / len(of)
    return model.logits((values - mean) / deviation).softmax(1) / share.clamp_min(1e-9)


def _by_bins(values: Tensor, own: Tensor, of: Tensor, classes: int) -> Tensor:
    """Return p(v | c), (n, classes), by histograms with bins of equal counts."""
    edges = own.quantile(torch.linspace(0, 1, BINS + 1, dtype=own.dtype)[1:-1])
    # One more row of each class is spread over all bins, so that no bin is impossible.
    counts = torch.full((classes, BINS), 1 / BINS, dtype=torch.float64)
    counts.index_put_((of, torch.bucketize(own, edges)), torch.ones(len(own), dtype=torch.float64), accumulate=True)
    return (counts / counts.sum(dim=1, keepdim=True))[:, torch.bucketize(values, edges)].t()


def agreement(found: Tensor, truth: Tensor) -> float:
    """Return 1 less the total variation distance of two mixes: 1 where they are equal, 0 where they share no class."""
    return 1 - float((found - truth).abs().sum()) / 2


@dataclass(frozen=True, eq=False)
class Appraisal:
    """A ridge regression of an appraisal on `features` of a view.

    Attributes:
        weights: b, (12 C,), of the standardised features.
        mean, deviation: The mean and standard deviation of each feature, (12 C,).
        level: a, the mean appraisal.
    """

    weights: Tensor
    mean: Tensor
    deviation: Tensor
    level: float

    @staticmethod
    def learn(views: Sequence[View], values: Sequence[float], ridge: float = 10.0) -> Appraisal:
        """Fit to batches that the helper made itself.

        Args:
            views: the views of these batches.
            values: the appraisal of each.
            ridge: what is added to the diagonal of the normal equations.

        Raises InputError for fewer than two views, or another number of values.
        """
        if len(views) < 2 or len(views) != len(values):
            found = f"{len(views)} views and {len(values)} values"
            raise InputError("views", found, "two views or more, with a value each")
        x, y = torch.stack([features(view) for view in views]), torch.tensor(values, dtype=torch.float64)
        mean, deviation = x.mean(dim=0), x.std(dim=0).clamp_min(1e-9)
        x = (x - mean) / deviation
        gram = x.t() @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64)
        return Appraisal(torch.linalg.solve(gram, x.t() @ (y - y.mean())), mean, deviation, float(y.mean()))

    def predict(self, view: View) -> float:
        """Estimate the appraisal of the batch seen. Raises InputError where entries are hidden."""
        return float((features(view) - self.mean) / self.deviation @ self.weights) + self.level


def features(view: View) -> Tensor:
    """Return phi (12 C,) of a view with C columns, whatever their order. Raises InputError where entries are hidden."""
    z = view.rows.sort(dim=1).values
    return torch.cat([z.softmax(1).mean(dim=0), z.mean(dim=0), z.quantile(DECILES, dim=0).reshape(-1)])
