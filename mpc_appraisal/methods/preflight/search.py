"""The pre-flight's search for a better l2, where a method is not trusted at the present one.

    grid        l2 times 1/10 .. 10, or 1 .. 100 where a method is not trusted at the present l2, for a smaller l2
                conditions worse still; within [1e-6, 1]
    allowed     a test loss of at most 1.5 times the best
    suggested   of the allowed, the least test loss at which all methods are trusted,
                or else the best sum over methods of (mean r_s - w)

l2 is the strength of the regulariser, r_s the rank correlation of value and utility on seed s, and w the share of the
swaps of two classes' labels that do not lower the value. A study of the present l2 goes in, and one `Trial` for each l2
comes out. A loss half as large again is much, but most of it arises because a larger l2 makes the model less sure of
itself. The test error stands beside the loss, and the model that appraises need not be the one that is deployed.

The grid may change. The present l2 has to stay among the trials, because a suggestion is compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.methods.preflight.result import LOSS, Trial
from mpc_appraisal.methods.preflight.study import TOLERANCE, Study, Subject, study
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import refit

LOWER, HIGHER = (0.1, 1 / 3, 3.0, 10.0), (3.0, 10.0, 30.0, 100.0)  # factors of the present l2
LEAST, MOST = 1e-6, 1.0


def trials(
    now: Study, subject: Subject, factors: Sequence[float], model: type[LinearModel] = SoftmaxRegression
) -> tuple[Trial, ...]:
    """Return a trial of the present l2 and of each l2 of the grid, in rising order.

    now: the study of the present l2. factors: what the present l2 is multiplied by. model: the kind of model. An l2 at
    which the model does not converge is left out.
    """
    base = max(now.l2, 1e-5)
    grid = sorted({float(f"{min(max(base * factor, LEAST), MOST):.3g}") for factor in factors} - {now.l2})
    studies = [now]
    for l2 in grid:
        try:
            studies.append(study(subject, l2, partial(refit, l2=l2, tolerance=TOLERANCE, model=model)))
        except AppraisalError:
            continue
    best = min(found.loss for found in studies)
    return tuple(
        Trial(
            found.l2,
            found.loss,
            found.error,
            found.loss <= LOSS * best,
            {check.method: check.rank.mean for check in found.checks},
            {check.method: check.share for check in found.checks},
            {check.method: check.verdict for check in found.checks} | {name: "failed" for name, _ in found.skipped},
        )
        for found in sorted(studies, key=lambda found: found.l2)
    )


def suggested(tried: Sequence[Trial], l2: float) -> float | None:
    """Return the suggested l2, or None where no trial is better than the present l2."""
    allowed = [trial for trial in tried if trial.fits and trial.rank]
    trusted = [trial for trial in allowed if trial.trusted]
    if trusted:
        return min(trusted, key=lambda trial: trial.loss).l2
    best = max(allowed, key=lambda trial: trial.score, default=None)
    return None if best is None or best.l2 == l2 else best.l2
