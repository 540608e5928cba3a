"""How much the opened number changes if one row, or one person, is replaced. Noise is scaled to this sensitivity.

    gradient_norm   t^2 - max(t - s c G, 0)^2,    t = min(n s b, sqrt(ceiling))
    influence       2 R D G, or c D G for linear regression
    finetuning      |D_te| g_te max u,    u <- kappa u + lr c / m

    model                b                c                 g_te                  h
    softmax_regression   sqrt(2) R        2 sqrt(2) R       sqrt(2) R_o           1/2
    logistic_regression  R                2 R               R_o                   1/4
    linear_regression    2 R (R W + T)    2 R (R W + 2 T)   2 R_o (R_o W + T_o)   2

R is the public norm of a clipped row and R_o that of the model owner's rows. b bounds the gradient of a row's loss, and
c how far the gradients of two rows are apart, whatever the weights are. Of a squared error both grow with the weights
and the targets: W bounds the norm of the weights, T the candidate's targets and T_o the model owner's. n is the
candidate's number of rows, s the public scale of gradient_norm, and D the spread of the influence direction (the
largest distance of two of its columns, or the norm of its only column). D_te are the test rows, and g_te bounds the
gradient of the loss of one. u bounds how far apart two trainings are that differ in one row; a step at rate lr over m
rows multiplies u by kappa at most, and adds the last term if the row is in the step. The second derivative of a row's
loss has eigenvalues of h R^2 at most, from which kappa follows; W grows by each step. The code adds the errors of fixed
point, which `Bounds` states.

G is 1 where one row is replaced. Where all rows of one person are, whose norms add up to B at most, G = B / R
(`persons`); of fine-tuning the u of G rows are added up, the largest first. All bounds on a row's gradient are at most
proportional to the row's norm, so that those of one person add up to G times b or c.

In go a method, its public facts and the `Bounds` that hold for every candidate that might have come; out comes the
sensitivity. Two candidates are neighbours if they have the same number n of rows and differ in one row, in any way, or
in the rows of one person, which are of one person in both.
Which data the guarantee protects, and the proofs, are in docs/protocols/releases.md. A formula may change only with its
proof, and a new method needs a proof there before it gets a function here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.finetuning import Finetuning
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.models.links import IDENTITY, LOGISTIC, SOFTMAX, Link
from mpc_appraisal.release.dp.clipping import check_norm

CURVATURE = {SOFTMAX.name: 0.5, LOGISTIC.name: 0.25, IDENTITY.name: 2.0}  # h, by the link's name

# What errors call a bound: the key of the release that states it, or for one that no key states, what it is.
CALLED = {
    "row_norm": "release.row_norm",
    "group_weight": "weight of one person's rows",
    "ceiling": "release.ceiling",
    "target_norm": "release.target_norm",
    "direction_spread": "release.spread",
    "owner_norm": "norm of the model owner's rows",
    "weight_norm": "announced norm of the weights",
    "owner_target": "size of the model owner's targets",
    "softmax_error": "error of a row's probabilities",
    "opened_error": "error of the opened number",
}


@dataclass(frozen=True)
class Bounds:
    """What is public and true of every candidate that might have come.

    The two errors default to none, which is right only for real numbers: whoever releases from shares has to state
    them. An error that is random must hold surely, or the probability that it does not has to be added to delta.

    Attributes:
        row_norm: The norm R of the candidate's rows, the constant feature counted.
        owner_norm: The norm of the model owner's training and test rows, counted in the same way. None takes R.
        direction_spread: The spread D of the influence direction; see `clipping.clip_direction`.
        ceiling: The number at which the squared norm is cut off, on shares, before noise is added. None cuts nothing.
        softmax_error: The summed error of one row's probabilities; see `rounding.softmax_error`.
        opened_error: The bound on every other error of the opened number. Neighbours may differ by twice this error.
        target_norm: The bound T on the candidate's targets, which linear regression needs.
        weight_norm: The bound W on the norm of the weights, which linear regression needs.
        owner_target: The bound T_o on the model owner's targets. None takes T.
        group_weight: How many rows of the full norm R the rows of one person are worth at most: G = B / R, 1 or more.
            1 protects single rows.

    Raises:
        InputError: A field cannot be such a bound.
    """

    row_norm: float
    owner_norm: float | None = None
    direction_spread: float | None = None
    ceiling: float | None = None
    softmax_error: float = 0.0
    opened_error: float = 0.0
    target_norm: float | None = None
    weight_norm: float | None = None
    owner_target: float | None = None
    group_weight: float = 1.0

    def __post_init__(self) -> None:
        check_norm(self.row_norm, CALLED["row_norm"])
        if self.owner_norm is not None:
            check_norm(self.owner_norm, CALLED["owner_norm"])
        for key in ("direction_spread", "ceiling", "target_norm"):
            if getattr(self, key) is not None:
                number(CALLED[key], getattr(self, key), above=0)
        for key in ("softmax_error", "opened_error", "weight_norm", "owner_target"):
            if getattr(self, key) is not None:
                number(CALLED[key], getattr(self, key), least=0)
        number(CALLED["group_weight"], self.group_weight, above=0)

    def row_gradient(self, link: Link = SOFTMAX) -> float:
        """Return the largest norm b of a row's gradient."""
        if link is IDENTITY:
            target, weights = self.sizes()
            return 2 * self.row_norm * (self.row_norm * weights + target)
        return ((1.0 if link is LOGISTIC else math.sqrt(2)) + self.softmax_error) * self.row_norm

    def row_change(self, link: Link = SOFTMAX, weight_norm: float | None = None) -> float:
        """Return the largest distance c of two rows' gradients.

        For linear regression `weight_norm` takes the place of W. The gradients of rows (x, y) and (z, t) at theta are
        2 (x x' - z z') theta - 2 (y x - t z) apart. The first matrix is between -z z' and x x', so that its norm is R^2
        at most, and the last term is 4 R T at most.
        """
        if link is IDENTITY:
            target, known = self.sizes()
            weights = known if weight_norm is None else weight_norm
            return 2 * self.row_norm * (self.row_norm * weights + 2 * target)
        return 2 * self.row_gradient(link)

    def sizes(self) -> tuple[float, float]:
        """Return T and W. Raises InputError where one is not known."""
        for key, what in (("target_norm", "on targets"), ("weight_norm", "that the model owner announces")):
            if getattr(self, key) is None:
                raise InputError(CALLED[key], "nothing", f"a public bound {what}, for linear_regression")
        return self.target_norm, self.weight_norm


def gradient_norm(method: GradientNorm, facts: Facts, bounds: Bounds) -> float:
    """Return the sensitivity of S = ||s G||^2, where G sums n rows' gradients and s = `GradientNorm.scale` is public.

    With b the bound on a row's gradient and c that on the distance of two of them, it is t^2 - max(t - s c, 0)^2 at
    t = s n b, plus errors. For softmax regression that is 8 (n - 1) s^2 R^2 for two rows or more, 4 / n of the largest
    square, but far above the square of a model that fits. Raises InputError if `facts` scales by another norm than the
    rows are clipped to, or if linear regression comes without T or W.
    """
    if facts.row_norm != bounds.row_norm:
        raise InputError(
            "the row norm that scales gradient_norm",
            facts.row_norm,
            f"{bounds.row_norm:g}, the public norm that rows are clipped to: one that is taken from the data tells of "
            "them",
        )
    top = facts.rows * method.scale(facts) * bounds.row_gradient(facts.loss)
    if bounds.ceiling is not None:
        top = min(top, math.sqrt(bounds.ceiling))
    moved = method.scale(facts) * bounds.row_change(facts.loss) * bounds.group_weight
    return top**2 - max(top - moved, 0.0) ** 2 + 2 * bounds.opened_error


def influence(method: Influence, facts: Facts, bounds: Bounds) -> float:
    """Return the sensitivity of the sum, not the mean, over n rows of x' V (p - y).

    x is a row, p its probabilities, y its one-hot label and V the model owner's direction. Every row's term is within
    +- R D. For logistic regression p and y are single numbers, and the same holds. For linear regression the term is
    2 (x' theta - y) x' V, and two rows' terms differ by c D at most, c being `Bounds.row_change`. The model owner
    announces the spread D of V, or the release states it. That V keeps D is checked on shares, exactly, so that no
    slack is added. A person's rows are worth G rows. Raises InputError if no D is known, or if linear regression comes
    without T or W.
    """
    if bounds.direction_spread is None:
        expected = "a public bound on the influence direction, or the model owner's own, which it announces"
        raise InputError(CALLED["direction_spread"], "nothing", expected)
    if facts.loss is IDENTITY:
        return bounds.row_change(IDENTITY) * bounds.direction_spread * bounds.group_weight + 2 * bounds.opened_error
    row = 2 * bounds.row_norm * bounds.direction_spread * (1 + bounds.softmax_error)
    return row * bounds.group_weight + 2 * bounds.opened_error


def finetuning(method: Finetuning, facts: Facts, bounds: Bounds) -> float:
    """Return the sensitivity of the sum over the test rows D_te of the loss after training less the loss before it.

    `u` follows the distance of the weights of two trainings that differ in one row, by steps of gradient descent
    (Hardt, Recht and Singer 2016, sections 2 and 3, for a public order of rows). A step multiplies the distance by
    kappa at most (Boehning 1992), and adds to it if the replaced row is in the step. The largest u of any row counts.
    The bound grows as kappa^steps if the rate is so large that kappa is above 1. Raises InputError if it is infinite.
    The distances by several rows add up, because each step is linear in what the rows add.

    For linear regression the gradients grow with the weights. A step is theta <- (I - lr (H + 2 l2)) theta + lr g, with
    H of eigenvalues h R^2 at most and g a mean of 2 y x, so that W <- kappa W + 2 lr (mean of R T) bounds their norm.
    """
    owner = bounds.row_norm if bounds.owner_norm is None else bounds.owner_norm
    error, link = 2 * bounds.softmax_error * max(owner, bounds.row_norm), facts.loss
    target, weights = bounds.sizes() if link is IDENTITY else (0.0, 0.0)
    owner_target = target if bounds.owner_target is None else bounds.owner_target
    apart, decay = torch.zeros(facts.rows, dtype=torch.float64), 2 * facts.l2
    wrong = 0.0  # what the errors of probabilities add, whichever rows are replaced
    for of_owner, of_candidate in method.schedule(facts):
        m = len(of_owner) + len(of_candidate)
        curvature = (len(of_owner) * owner**2 + len(of_candidate) * bounds.row_norm**2) * CURVATURE[link.name] / m
        kappa = max(abs(1 - method.lr * decay), abs(1 - method.lr * (curvature + decay)))
        apart, wrong = kappa * apart, kappa * wrong + method.lr * error
        # The error of probabilities is added apart, so that it is no part of the distance of two gradients.
        apart[of_candidate] += method.lr * replace(bounds, softmax_error=0.0).row_change(link, weights) / m
        pull = (len(of_owner) * owner * owner_target + len(of_candidate) * bounds.row_norm * target) / m
        weights = kappa * weights + 2 * method.lr * pull
    moved = _of_person(apart, bounds.group_weight) + wrong
    if not math.isfinite(moved * (1 + weights)):
        raise InputError(
            "appraisal.lr", method.lr, "a rate at which fine-tuning does not diverge, for its sensitivity is finite"
        )
    steepest = {SOFTMAX: math.sqrt(2), LOGISTIC: 1.0}.get(link, 2 * (owner * weights + owner_target)) * owner
    return facts.test_rows * steepest * moved + 2 * bounds.opened_error


def _of_person(apart: torch.Tensor, weight: float) -> float:
    """Return the most that rows worth `weight` rows of the full norm add up to, of what each row adds, (n,)."""
    largest = apart.sort(descending=True).values
    whole = min(int(weight), len(largest))
    rest = (weight - whole) * largest[whole].item() if whole < len(largest) else 0.0
    return largest[:whole].sum().item() + rest


SENSITIVITIES: dict[type[Appraiser], Callable[..., float]] = {
    GradientNorm: gradient_norm,
    Influence: influence,
    Finetuning: finetuning,
}


def sensitivity(method: Appraiser, facts: Facts, bounds: Bounds) -> float:
    """Return the sensitivity of the number that `method` opens, in units of that number and before `paper_value`.

    Raises InputError for a method that has no derived sensitivity. Nothing of such a method may be released as private.
    """
    if type(method) not in SENSITIVITIES:  # a subclass may open another number
        known = ", ".join(kind.name for kind in SENSITIVITIES)
        raise InputError("appraisal", method.name, f"a method whose sensitivity is derived: {known}")
    return SENSITIVITIES[type(method)](method, facts, bounds)
