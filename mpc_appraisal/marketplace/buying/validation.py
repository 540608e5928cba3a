"""Validation of data by trial: a retrained model shows what labels and images are worth that the shopper cannot see.

    S_1, S_2, ...   the selection, in subsets of `granularity` rows
    model_j         the model retrained, from the present weights, on the shopper's own data and S_j
    error_j         wrong predictions of model_j on uniformly distributed validation data / their number
    accepted        error_j <= T, where T is the previous prediction error

In go the selection, the shopper's validation data, T, and a function `Retrain`; out comes a `Verdict` for each subset.
The caller decides how a model is retrained and asked, in the clear or encrypted. The shopper learns a count of wrong
predictions for each subset; subsets of one row would reveal which single row helps.

How a model is retrained may change. The rule and the order of trials have to stay, because `roles.trials` and
`roles.shares` follow both. The rule compares errors and not losses: some wrong labels spread out an overconfident
model's probabilities, so that its loss falls while its errors increase, and a rule on the loss would accept such
labels. Own data are part of the retraining, because a model that is retrained on a small S_j alone forgets, and good
data would be refused.

The source is Song et al., "Try Before You Buy", slides "Data Validation" and "Backup: Data Validation". The slides
print error < T. Errors are counts, so ties occur. A tie is no evidence against the data and is accepted.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import InputError

Predictor = Callable[[Tensor], Tensor]  # x (m, d) -> probabilities or logits (m, C)
Retrain = Callable[[Tensor], Predictor]  # numbers (g,) of rows on offer -> the model retrained with them


@dataclass(frozen=True)
class Verdict:
    """The verdict on one subset.

    Attributes:
        subset: the place of the subset in the sequence of trials.
        rows: the row numbers of the subset.
        wrong: the number of validation rows that the retrained model predicts wrongly; all of them in `ife_shares`,
            where training has left the range in which shares are right.
        of: the number of validation rows.
        threshold: the error T that the retrained model must not exceed.
    """

    subset: int
    rows: tuple[int, ...]
    wrong: int
    of: int
    threshold: float

    @property
    def error(self) -> float:
        """Return the error of the retrained model, in [0, 1]."""
        return self.wrong / self.of

    @property
    def accepted(self) -> bool:
        """Return whether the retrained model's error is at most T."""
        return self.error <= self.threshold


def subsets(selection: Tensor, granularity: int) -> tuple[Tensor, ...]:
    """Divide the selection (b,), in its order, into parts of `granularity` rows; the last part has what is left.

    Raises InputError for a granularity outside 1 .. b.
    """
    if not is_integer(granularity, numbers.Integral) or selection.ndim != 1:
        raise InputError("validation.granularity", repr(granularity), "an integer, for a selection of one dimension")
    if not 1 <= granularity <= len(selection):
        raise InputError("validation.granularity", granularity, f"1 .. {len(selection)}, the rows selected")
    return selection.split(int(granularity))


def wrong_predictions(predict: Predictor, x: Tensor, y: Tensor) -> int:
    """Count the rows of x (m, d) for which `predict` gives another class than y (m,).

    Raises InputError for predictions of another shape, and for predictions that are not finite.
    """
    scores = predict(x)
    if scores.ndim != 2 or len(scores) != len(y) or len(y) == 0:
        raise InputError("validation.predictions", f"shape {tuple(scores.shape)} for {len(y)} labels",
                         "(rows, classes), one row or more")  # fmt: skip
    if not bool(torch.isfinite(scores).all()):
        raise InputError("validation.predictions", "numbers that are NaN or infinite", "finite numbers")
    return int((scores.argmax(dim=1) != y).sum())


def validate(
    retrain: Retrain, selection: Tensor, granularity: int, x: Tensor, y: Tensor, threshold: float, keep: bool = False
) -> list[Verdict]:
    """Try each subset of a selection.

    Args:
        retrain: a function that retrains the model with the rows whose numbers it is given, and returns the model.
        selection: the numbers of the selected rows, (b,).
        granularity: the number of rows of a subset.
        x, y: the validation data, (m, d) and (m,).
        threshold: T, the error in [0, 1] of the model before it is retrained.
        keep: True if an accepted subset stays, so that the next subset is retrained beside it and T becomes its error;
            False if each subset is tried on its own against the first T.

    Returns one verdict for each subset.

    Raises InputError for a threshold outside [0, 1], and where `subsets` or `wrong_predictions` raise it.
    """
    if not (isinstance(threshold, numbers.Real) and math.isfinite(threshold) and 0 <= threshold <= 1):
        raise InputError("validation.threshold", repr(threshold), "an error in [0, 1]")
    verdicts: list[Verdict] = []
    kept = selection[:0]
    for place, rows in enumerate(subsets(selection, granularity)):
        wrong = wrong_predictions(retrain(torch.cat([kept, rows])), x, y)
        verdicts.append(Verdict(place, tuple(rows.tolist()), wrong, len(y), threshold))
        if keep and verdicts[-1].accepted:
            kept, threshold = torch.cat([kept, rows]), verdicts[-1].error
    return verdicts


def uniform(y: Tensor, size: int, classes: int, seed: int) -> Tensor:
    """Draw "uniformly distributed" validation data: the numbers of `size` random rows, equally many of each class.

    Args:
        y: the labels to draw from, (m,).
        size: the number of rows to draw, a multiple of `classes`.
        classes: the number of classes.
        seed: the seed of the draw.

    Returns (size,) row numbers, class by class.

    Raises InputError where `size` is no multiple of `classes`, or where a class has too few rows.
    """
    if size < classes or size % classes:
        raise InputError("validation.size", size, f"a multiple of the {classes} classes")
    each, generator = size // classes, torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    found = [order[y[order] == label][:each] for label in range(classes)]
    if short := [label for label, rows in enumerate(found) if len(rows) < each]:
        raise InputError("validation.size", size, f"at most {classes} times the rows of class {short[0]}")
    return torch.cat(found)
