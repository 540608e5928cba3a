"""Whether a model that its owner brings is the minimum on its training rows that the methods take it for.

In go the model owner's model and training rows; out comes nothing, a warning or an error. All of this happens at the
model owner and in the clear. The methods assume

    theta = arg min  mean over D_tr of L(x, y; theta)  +  l2 ||theta||^2,   the bias among the entries of theta

where theta (d + 1, C) are the weights for d features, a bias and C classes, D_tr the training rows with features x and
labels y, and L the cross-entropy. At a minimum the gradient is 0. Our own fit leaves 1e-7 of it, and models that follow
another convention leave a hundredth or more. Influence and fine-tuning then value data for the wrong model: in one case
the value was 0.0894 where 0.0636 is right. These usual conventions are tried, so that the error can name the one that
fits:

- the bias is not penalised (scikit-learn's `LogisticRegression` with its intercept, R's glmnet);
- two classes stand in one column, [0, w] (scikit-learn's `coef_`), which predicts the same as [-w/2, w/2] and is
  penalised otherwise;
- l2 is another one, which is found by least squares from: gradient of the loss + 2 l2 theta = 0.

A convention may be added here. TOLERANCE has to stay between what our own fit and what another convention leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from mpc_appraisal.appraisal.plan import ModelOwnerInput, Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Appraiser
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import IDENTITY, SOFTMAX
from mpc_appraisal.models.training import objective

TOLERANCE = 1e-3  # the largest entry that a gradient at a minimum may have, in the features' largest root mean square
SAME = 1e-2  # the relative difference up to which two l2 count as one
KNOWN = (
    "a model trained on rows with a constant feature that is penalised like the others, two columns for two classes: "
    "in scikit-learn LogisticRegression(C=1 / (2 * l2 * rows), fit_intercept=False) with a column of ones appended for "
    "three classes or more, C=1 / (l2 * rows) and theta=[-w/2, w/2] for two; or party.train without party.model"
)

ONE_COLUMN = (
    "a model trained on rows with a constant feature that is penalised like the others: in scikit-learn "
    "Ridge(alpha=l2 * rows, fit_intercept=False) or LogisticRegression(C=1 / (2 * l2 * rows), fit_intercept=False) "
    "with a column of ones appended; or party.train without party.model"
)


@dataclass(frozen=True)
class GradientCheck:
    """Why a model is no minimum.

    Attributes:
        gradient: The largest absolute entry of the objective's gradient at theta.
        reason: The convention by which theta is a minimum, in words. None means that none of them fits.
    """

    gradient: float
    reason: str | None


def examine(model: LinearModel, train: Dataset) -> GradientCheck | None:
    """Return how the model departs from a minimum on `train`, or None where it is a minimum.

    The labels of `train` must be below the model's number of classes.
    """
    x, y = with_bias(train.x.to(torch.float64)), train.y
    scale = TOLERANCE * max(1.0, x.square().mean(0).sqrt().max().item())
    loss = objective(model.theta, x, y, 0.0, model.link)[1]
    if model.link is IDENTITY:  # the gradient has the target's unit
        scale *= max(1.0, y.square().mean().sqrt().item())
    largest = (loss + 2 * model.l2 * model.theta).abs().max().item()
    if largest <= scale:
        return None
    one_column = model.link is not SOFTMAX
    centred = model.theta if one_column else model.theta - model.theta.mean(1, keepdim=True)
    moved = (centred - model.theta).abs().max().item() > 1e-6
    for theta, penalised in ((t, p) for t in ((model.theta, centred) if moved else (model.theta,)) for p in (-1, None)):
        weighed = theta.clone()
        if penalised is not None:
            weighed[penalised:] = 0.0  # the bias is the last row
        size = weighed.square().sum().item()
        l2 = -(loss * weighed).sum().item() / (2 * size) if size > 0 else 0.0
        if l2 < 0 or (loss + 2 * l2 * weighed).abs().max().item() > scale:
            continue
        return GradientCheck(largest, _words(model, l2, theta is centred and not one_column, penalised is not None))
    return GradientCheck(largest, None)


def _words(model: LinearModel, l2: float, shifted: bool, unpenalised: bool) -> str:
    """Return the convention in words, with the l2 that the model was trained with where that is another one."""
    said = []
    if unpenalised:
        said.append("its intercept is not penalised (as scikit-learn trains it)")
    if shifted and model.classes == 2:
        said.append("its two classes are in one column, [0, w]")
        if abs(l2 - 2 * model.l2) <= SAME * l2:  # an l2 on w alone comes to 2 l2 on [-w/2, w/2]
            l2 = model.l2
    elif shifted:
        said.append("its columns do not sum to nothing, as those of a minimum do")
    if abs(l2 - model.l2) > SAME * max(l2, model.l2):
        said.append(f"it is trained with an l2 of {l2:.4g} and not {model.l2:g}")
    return " and ".join(said)


def check_given(own: ModelOwnerInput, plan: Plan) -> ModelOwnerInput:
    """Check the model of an owner that also brings training rows, and return `own` unchanged.

    A warning goes to standard error where the model is no minimum on these rows. Raises InputError where the convention
    is known, so that the owner can act on the error, and a method needs the rows, so that its value depends on the
    minimum.
    """
    if own.model is None or own.train is None:
        return own
    if own.train.features != own.model.features or own.train.classes > own.model.classes:
        return own  # `plan.needs` and the parties refuse such an input by name
    found = examine(own.model, own.train)
    if found is None:
        return own
    matter = _mattering(plan.methods)
    if found.reason is not None and matter:
        raise InputError(
            "party.model",
            f"a model that is no minimum on party.train (largest gradient {found.gradient:.2g}): {found.reason}",
            f"{KNOWN if plan.model.link is SOFTMAX else ONE_COLUMN}; {matter} would value data for another model",
        )
    effect = f"{matter} may be far off" if matter else "the methods asked for do not depend on it"
    reason = "it was trained on other rows, with other settings or not to the end" if not found.reason else found.reason
    print(
        f"warning: party.model is no minimum on party.train with l2 = {own.model.l2:g} (largest gradient "
        f"{found.gradient:.2g}, where a fit leaves 1e-7): {reason}; {effect}",
        file=sys.stderr,
        flush=True,
    )
    return own


def _mattering(methods: Iterable[Appraiser]) -> str:
    """Return the names of the methods whose value depends on the minimum."""
    return " and ".join(method.name for method in methods if "train" in method.needs and method.uses_model)
