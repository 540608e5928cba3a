"""Softmax regressions of the same rows with different labels, fitted at once.

    z_1 | z_2 | ... = [x, 1] (theta_1 | theta_2 | ...)

Each fit is that of `objective.minimised`, with its own L-BFGS in a thread. The threads wait for one another before each
evaluation, so that one wide product takes the place of many narrow ones, which read the same rows again and again. A
fit that has ended no longer takes part. Data sets with one x go in, and the models that separate fits give come out: on
MNIST the weights agree to 1e-13, in less than half of the time. How evaluations are grouped may change; the objective
and the solver have to stay those of `objective`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.models.objective import Evaluation, minimised
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import refit, union


def refit_each(
    own: Dataset, parts: Sequence[Dataset], l2: float, tolerance: float, model: type[LinearModel]
) -> list[LinearModel]:
    """Return for each part the model that is fitted on `own` and that part.

    The other arguments and the errors are those of `training.refit`. The fits are made at once where the model is
    softmax regression and all parts have the same x, and one after the other elsewhere.
    """
    sets = [union(own, part) for part in parts]
    if model is not SoftmaxRegression or len(parts) < 2 or any(part.x is not parts[0].x for part in parts):
        return [refit(each, l2, tolerance, model) for each in sets]
    joint = _Joint(with_bias(sets[0].x), [each.y for each in sets], sets[0].classes, l2)

    def fitted(k: int) -> LinearModel:
        try:
            theta = minimised(sets[k], l2, sets[k].classes, SOFTMAX, tolerance, evaluation=joint.evaluation(k))
        finally:
            joint.leave(k)
        return SoftmaxRegression(theta, float(l2))

    with ThreadPoolExecutor(len(sets)) as pool:
        return [future.result() for future in [pool.submit(fitted, k) for k in range(len(sets))]]


class _Joint:
    """Evaluates the objectives of all fits that still run, as soon as each of them has asked.

    x is (n, d + 1) in float64, and each of `labels` is (n,) in int64.
    """

    def __init__(self, x: torch.Tensor, labels: Sequence[torch.Tensor], classes: int, l2: float) -> None:
        self.x, self.labels, self.classes, self.l2 = x, labels, classes, l2
        self.rows, self.running = torch.arange(len(x)), set(range(len(labels)))
        self.asked: dict[int, np.ndarray] = {}
        self.answers: dict[int, tuple[float, np.ndarray]] = {}
        self.failed, self.turn = False, threading.Condition()

    def evaluation(self, k: int) -> Evaluation:
        """Return the objective of the fit number k, as a function of the flat weights."""

        def of(flat: np.ndarray) -> tuple[float, np.ndarray]:
            with self.turn:
                self.asked[k] = flat
                self._answer()
                self.turn.wait_for(lambda: k in self.answers or self.failed)
                if k not in self.answers:
                    raise AppraisalError("another of the fits that are made at once failed")
                return self.answers.pop(k)

        return of

    def leave(self, k: int) -> None:
        """Let the others go on without the fit number k."""
        with self.turn:
            self.running.discard(k)
            self.asked.pop(k, None)
            self._answer()

    def _answer(self) -> None:
        """Evaluate what was asked, once every running fit has asked. If that fails, no fit waits any longer."""
        if self.failed or not self.asked or len(self.asked) < len(self.running):
            return
        try:
            self._evaluate()
        except BaseException:
            self.failed = True
            raise
        finally:
            self.turn.notify_all()

    def _evaluate(self) -> None:
        """Answer all that was asked."""
        known, c = sorted(self.asked), self.classes
        theta = torch.cat([torch.from_numpy(self.asked[k]).reshape(-1, c) for k in known], dim=1)
        logp = self.x.matmul(theta).reshape(len(self.x), len(known), c).log_softmax(2)
        losses = [-logp[self.rows, j, self.labels[k]].mean() for j, k in enumerate(known)]
        residual = logp.exp()
        for j, k in enumerate(known):
            residual[self.rows, j, self.labels[k]] -= 1.0
        gradient = residual.flatten(1).t().matmul(self.x).t() / len(self.x) + 2 * self.l2 * theta
        for j, k in enumerate(known):
            own = slice(j * c, (j + 1) * c)
            value = self.l2 * theta[:, own].square().sum() + losses[j]
            self.answers[k] = value.item(), gradient[:, own].reshape(-1).numpy()
        self.asked.clear()
