"""How much the opened number changes when one row of the candidate is replaced: what the noise is scaled to.

Neighbours: two candidates of the same public number n of rows that differ in one row, features and label, in any way;
each row, its constant feature counted, is no longer than the public R (`clipping`). Everything else is the same: the
model, D_tr, D_te, and the public facts. Someone with k rows in the candidate is covered k times as weakly.

Whose data the guarantee is for: the rows of the data owner's candidate, against the model owner and against whoever
learns the value. Nothing here is a guarantee for the model owner's data. The model reaches the value through theta,
which no bound holds; with one training row replaced, influence changes by the inverse Hessian, up to 1 / (2 l2), and a
bound by it is so wide (n R^2 / l2, and more) that noise of that scale leaves no value. What the model owner has is the
noise that it adds itself: it blurs what one value tells of its model, by an amount that no epsilon stands for, and the
fewest rows and the most questions that the policy allows. A model owner who wants a guarantee for its training rows
must train by a differentially private method; its theta may then be used here at no further cost.

The row that all derivations use: the gradient of a row's loss is x (p - y)', a rank-one matrix, of Frobenius norm
||x|| ||p - y||. As p is on the simplex and y a corner of it, ||p - y|| <= sqrt(2), so the norm is at most
b = sqrt(2) R: for every theta whatever. It is reached when the model is sure and wrong.

On shares p is off by a little. `softmax_error` e is a bound on the summed absolute error of one row's probabilities;
then b = (sqrt(2) + e) R. `opened_error` is a bound on every other error of the opened number (truncation, rounding);
it may differ between the neighbours, so twice of it is added. Both default to none, which is right for real numbers
only: who releases from shares has to state them. Any that are random must hold surely, or the probability that they
do not be added to delta.

What else is told and must not depend on the candidate: `Facts.row_norm` has to be R and not the longest row's norm
(checked here), the bound on logits has to follow from R and a public norm of the weights (that the weights keep it is
checked on shares: `mpc.norm_check`), and the bit that fine-tuning
opens, whether trained weights kept that bound, has to be sure beforehand.
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
    """What is public and true of any candidate that might have come; all but row_norm are for some methods only.

    row_norm: R, of candidate rows with the constant feature. owner_norm: the same of the model owner's training and
    test rows; None: R. direction_spread: of the influence direction, see `clipping.clip_direction`. ceiling: the
    squared norm is cut off at this (min(opened, ceiling), on shares) before noise is added; None: it is not.
    softmax_error, opened_error: see the module.

    Raises InputError for a bound that cannot be one.
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
        """b: no row's gradient is longer; of rows of norm R, or of `norm`."""
        return (math.sqrt(2) + self.softmax_error) * (self.row_norm if norm is None else norm)


def gradient_norm(method: GradientNorm, facts: Facts, bounds: Bounds) -> float:
    """What is opened is S = ||s G||^2, with G a sum over n rows, no regulariser, s = `GradientNorm.scale`, public.

    Let t = s ||G|| and b' = s b. G is a sum of n terms of at most b, so t <= n b'. Replacing a row moves G by the
    difference of two terms, so t by at most 2 b'. With t1 <= t2 those of the neighbours and T = min(n b',
    sqrt(ceiling)), the cut squares differ by at most t2^2 - max(t2 - 2 b', 0)^2 at some t2 <= T, which grows with t2:

        Delta = T^2 - max(T - 2 b', 0)^2    ( = 4 (n - 1) b'^2 = 8 (n - 1) s^2 R^2 for n >= 2 without a ceiling;
                                                b'^2 for n = 1 )

    It is reached by n equal rows, sure and wrong, of which one is turned to its opposite. Delta is 4 / n of the largest
    square but, without a ceiling, far above the square for a model that fits: a mean gradient of R / 100 has S = 1e-4
    n^2 s^2 R^2, so that n has to be 80,000 sigma for a signal of one deviation. With a ceiling of the order of S it is
    600 sigma, about what releasing the norm itself would need; it costs a comparison before the opening.
    """
    if facts.row_norm != bounds.row_norm:
        raise InputError(
            "the row norm that scales gradient_norm",
            facts.row_norm,
            f"{bounds.row_norm:g}, the public norm that rows are clipped to: one told from the data tells of the data",
        )
    row = method.scale(facts) * bounds.row_gradient()
    top = facts.rows * row
    if bounds.ceiling is not None:
        top = min(top, math.sqrt(bounds.ceiling))
    return top**2 - max(top - 2 * row, 0.0) ** 2 + 2 * bounds.opened_error


def influence(method: Influence, facts: Facts, bounds: Bounds) -> float:
    """What is opened is the sum over rows of x' V (p - y), not the mean; V is the model owner's, its spread at most D.

    p - y = sum over c of p_c (e_c - e_y), so V (p - y) is a mean, weighted by p, of v_c - v_y, none longer than D.
    A row's term is therefore within +- R D, and

        Delta = 2 R D .

    V's columns are centred, so each is no longer than D, and an error of e in p adds R D e to a term: 2 R D (1 + e).
    It is reached when x lies along the two farthest columns' difference and is sure of the wrong one of the two. D is
    at most sqrt(2) ||V||, and a third of that for ten columns of one length. Neither l2 nor n enters.

    D is the model owner's to tell, or public before. That V keeps it, each of its columns as well as each distance of
    two, is checked on shares before anything is opened (`mpc.norm_check`), exactly and on the numbers that are
    multiplied, so that no slack has to be added. The uncentred part of V, which a cheating model owner may bring, is
    within D by that: an error of e in p is multiplied by columns that are no longer than D either way.
    """
    if bounds.direction_spread is None:
        raise InputError(
            "release.direction_spread", "nothing", "a public bound on the influence direction, see clip_direction"
        )
    return 2 * bounds.row_norm * bounds.direction_spread * (1 + bounds.softmax_error) + 2 * bounds.opened_error


def finetuning(method: Finetuning, facts: Facts, bounds: Bounds) -> float:
    """What is opened is the sum over D_te of the loss after minus that before; steps of gradient descent, with l2.

    One step is theta -> theta - lr (1 / m sum of the m rows' gradients + 2 l2 theta). Its derivative is
    I - lr (H + 2 l2), and H is a mean of (diag p - p p') x x', of eigenvalues in [0, ||x||^2 / 2] (Boehning 1992). With
    h = half the mean of the bounds on ||x||^2, two points come out of one step at most kappa times as far apart,

        kappa = max(|1 - 2 lr l2|, |1 - lr (h + 2 l2)|) .

    If the replaced row is one of the m, the gradients differ by 2 b / m beside, hence for the distance of weights

        u <- kappa u + lr 2 b / m      (kappa u in a step that the row has no part in),    u = 0 at the start

    (the argument of Hardt, Recht and Singer 2016, sections 2 and 3, for an order that is public). The
    largest u of any row counts. A test loss has a gradient of at most sqrt(2) R_o, R_o of the model owner's rows:

        Delta = |D_te| sqrt(2) R_o max u .

    With all rows at each step and lr <= 2 / (h + 2 l2) it is at most |D_te| sqrt(2) R_o 2 sqrt(2) R lr steps /
    (|D_tr| + n). It is reached while the model is sure and wrong of all that matters. At the largest such rate, 4 / R^2
    without l2, the mean test loss has 16 steps / (|D_tr| + n). With a larger rate kappa is above 1 and the bound holds,
    but grows as kappa^steps until it says nothing: 0.3 asks for rows of R <= 3.6.

    An error of e in p differs between the neighbours, in every row: lr 2 e (the longer norm) is added at each step. The
    errors of the two losses are `opened_error`'s.
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
    """Delta of the number that `method` opens, in its own units and before `paper_value`.

    Raises InputError for a method that has no derived sensitivity: nothing of it may be released as private.
    """
    if type(method) not in SENSITIVITIES:  # a subclass may open another number
        known = ", ".join(kind.name for kind in SENSITIVITIES)
        raise InputError("appraisal", method.name, f"a method whose sensitivity is derived: {known}")
    return SENSITIVITIES[type(method)](method, facts, bounds)
