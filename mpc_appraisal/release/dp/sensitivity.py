"""How much the opened number changes if one row of the candidate is replaced. Noise is scaled to this sensitivity.

    gradient_norm   T^2 - max(T - 2 b', 0)^2,    b' = s b,    T = min(n b', sqrt(ceiling))
    influence       2 R D
    finetuning      |D_te| sqrt(2) R_o max u,    u <- kappa u + 2 lr b / m

R is the public norm of a clipped row and R_o that of the model owner's rows. b = sqrt(2) R bounds the gradient of a
row's loss, whatever the weights are. n is the candidate's number of rows, s the public scale of gradient_norm, and D
the spread of the influence direction (the largest distance of two of its columns). D_te are the test rows. u bounds how
far apart two trainings are that differ in one row; a step at rate lr over m rows multiplies u by kappa at most, and
adds the last term if the row is in the step. The code adds the errors of fixed point, which `Bounds` states.

In go a method, its public facts and the `Bounds` that hold for every candidate that might have come; out comes the
sensitivity. Two candidates are neighbours if they have the same number n of rows and differ in one row, in any way.
Which data the guarantee protects, and the proofs, are in docs/protocols/releases.md. A formula may change only with its
proof, and a new method needs a proof there before it gets a function here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.finetuning import Finetuning
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.release.dp.clipping import check_norm

PROTECTS = "one row of the data owner's candidate; nothing of the model owner's data"


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

    Raises:
        InputError: A field cannot be such a bound.
    """

    row_norm: float
    owner_norm: float | None = None
    direction_spread: float | None = None
    ceiling: float | None = None
    softmax_error: float = 0.0
    opened_error: float = 0.0

    def __post_init__(self) -> None:
        check_norm(self.row_norm, "release.row_norm")
        if self.owner_norm is not None:
            check_norm(self.owner_norm, "release.owner_norm")
        for key in ("direction_spread", "ceiling"):
            if getattr(self, key) is not None:
                number(f"release.{key}", getattr(self, key), above=0)
        for key in ("softmax_error", "opened_error"):
            number(f"release.{key}", getattr(self, key), least=0)

    def row_gradient(self, norm: float | None = None) -> float:
        """Return the largest norm b of a row's gradient, for rows of norm R or of `norm`."""
        return (math.sqrt(2) + self.softmax_error) * (self.row_norm if norm is None else norm)


def gradient_norm(method: GradientNorm, facts: Facts, bounds: Bounds) -> float:
    """Return the sensitivity of S = ||s G||^2, where G sums n rows' gradients and s = `GradientNorm.scale` is public.

    Without a ceiling it is 8 (n - 1) s^2 R^2 for two rows or more, plus errors. That is 4 / n of the largest square,
    but far above the square of a model that fits. Raises InputError if `facts` scales by another norm than the rows are
    clipped to.
    """
    if facts.row_norm != bounds.row_norm:
        raise InputError(
            "the row norm that scales gradient_norm",
            facts.row_norm,
            f"{bounds.row_norm:g}, the public norm that rows are clipped to: one that is taken from the data tells of "
            "them",
        )
    row = method.scale(facts) * bounds.row_gradient()
    top = facts.rows * row
    if bounds.ceiling is not None:
        top = min(top, math.sqrt(bounds.ceiling))
    return top**2 - max(top - 2 * row, 0.0) ** 2 + 2 * bounds.opened_error


def influence(method: Influence, facts: Facts, bounds: Bounds) -> float:
    """Return the sensitivity of the sum, not the mean, over n rows of x' V (p - y).

    x is a row, p its probabilities, y its one-hot label and V the model owner's direction. Every row's term is within
    +- R D. The model owner announces the spread D of V, or the release states it. That V keeps D is checked on shares,
    exactly, so that no slack is added. Raises InputError if no D is known.
    """
    if bounds.direction_spread is None:
        raise InputError(
            "release.direction_spread", "nothing", "a public bound on the influence direction, see clip_direction"
        )
    return 2 * bounds.row_norm * bounds.direction_spread * (1 + bounds.softmax_error) + 2 * bounds.opened_error


def finetuning(method: Finetuning, facts: Facts, bounds: Bounds) -> float:
    """Return the sensitivity of the sum over the test rows D_te of the loss after training less the loss before it.

    `u` follows the distance of the weights of two trainings that differ in one row, by steps of gradient descent
    (Hardt, Recht and Singer 2016, sections 2 and 3, for a public order of rows). A step multiplies the distance by
    kappa at most (Boehning 1992), and adds to it if the replaced row is in the step. The largest u of any row counts.
    The bound grows as kappa^steps if the rate is so large that kappa is above 1. Raises InputError if it is infinite.
    """
    owner = bounds.row_norm if bounds.owner_norm is None else bounds.owner_norm
    error = 2 * bounds.softmax_error * max(owner, bounds.row_norm)
    apart, decay = torch.zeros(facts.rows, dtype=torch.float64), 2 * facts.l2
    for of_owner, of_candidate in method.schedule(facts):
        m = len(of_owner) + len(of_candidate)
        curvature = (len(of_owner) * owner**2 + len(of_candidate) * bounds.row_norm**2) / (2 * m)
        apart *= max(abs(1 - method.lr * decay), abs(1 - method.lr * (curvature + decay)))
        apart[of_candidate] += method.lr * 2 * math.sqrt(2) * bounds.row_norm / m
        apart += method.lr * error
    moved = apart.max().item()
    if not math.isfinite(moved):
        raise InputError(
            "appraisal.lr", method.lr, "a rate at which fine-tuning does not diverge, for its sensitivity is finite"
        )
    return facts.test_rows * math.sqrt(2) * owner * moved + 2 * bounds.opened_error


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
