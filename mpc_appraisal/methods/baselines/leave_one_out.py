"""Leave one out: what a candidate adds to all the others. It runs in the clear and serves experiments only.

    loo(c) = v(N) - v(N \\ {c}),   v(S) = mean over D_te of  L(x, y; theta) - L(x, y; theta_S)

N is the set of all candidates, the data sets that are valued. D_tr and D_te are the model owner's training and test
rows, L is the loss of a row, theta are the model's weights, and theta_S those fitted on D_tr and the
candidates in S together. v({c}) is the utility of c by `Retraining`, and v of no candidate is 0. Cook (1977) left out
single points; Ghorbani and Zou (2019) compare with that. Where two candidates bring the same, leave one out gives next
to nothing to either, because the other one is still there. m candidates take m + 1 retrainings.

The function v itself, which game theory calls a game, stands here too as `Coalitions`, and `shapley` uses it. The
solver's options may change; the formulas and the name "leave_one_out", which records hold, have to stay.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy  # which imports `scipy.optimize` when it is first used: half a second that most parties need not spend
import torch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.metrics import Measure
from mpc_appraisal.models.base import LinearModel, check_l2
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.models.training import fit, model_for, objective, refit

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Valuation:
    """Hold a value for each player, that is, for each candidate.

    Attributes:
        values: {player: value}.
        standard_errors: {player: standard error of the sampling}, zeros where nothing was sampled. The tolerance of the
            retrainings is not part of them.
        retrainings: The number of retrainings that this took; sets that the game already knew are not counted.
        exact: Whether the values are exact.
        permutations: The number of random orders that were sampled.
    """

    values: dict[str, float]
    standard_errors: dict[str, float]
    retrainings: int
    exact: bool
    permutations: int = 0

    @property
    def words(self) -> str:
        """How the values were computed, as one sentence."""
        how = "exact" if self.exact else f"{self.permutations:,} permutations"
        error = max(self.standard_errors.values())
        sampling = "" if self.exact else f", standard error at most {error:.2g}"
        return f"By {self.retrainings:,} retrainings, {how}{sampling}."


class Game(ABC):
    """Give what each set of the players 0 .. m-1 is worth, v(S); nothing is computed twice.

    Attributes:
        names: The names of the players, all different.
        retrainings: The number of sets that were computed so far.

    Raises InputError for no names, and for a name that occurs twice.
    """

    def __init__(self, names: Sequence[str]):
        self.names, self.retrainings = tuple(names), 0
        if not self.names or len(set(self.names)) < len(self.names):
            raise InputError("data", list(self.names), "one candidate or more, each of another name")
        self._known = {frozenset(): 0.0}

    @abstractmethod
    def worth(self, members: frozenset[int]) -> float:
        """Compute v(S) of a set that is not empty."""

    def value(self, members: Collection[int]) -> float:
        """Return v(S), computed once and then remembered; 0 for the empty set."""
        key = frozenset(members)
        if key not in self._known:
            self._known[key] = self.worth(key)
            self.retrainings += 1
        return self._known[key]


class Coalitions(Game):
    """The game v(S) is the fall of the mean test loss by retraining on D_tr and the candidates in S.

    Each fit starts where the last one ended. All rows are kept in float64.

    Args:
        train, test: The model owner's rows.
        candidates: The players.
        l2: The strength of the regulariser.
        model: The fit on `train` where the caller has it, or the model that is to be improved.
        tolerance: The largest entry of the gradient at the end, as in `training.fit`; v is then exact to about
            tolerance / l2 times the norm of the test loss's gradient.
        measure: The metric in place of the mean test loss.

    Raises InputError where features or classes of a candidate or of `test` are not those of `train`, and AppraisalError
    where a retraining does not converge.
    """

    def __init__(
        self,
        train: Dataset,
        test: Dataset,
        candidates: Sequence[Dataset],
        l2: float,
        model: LinearModel | None = None,
        tolerance: float = 1e-7,
        measure: Measure | None = None,
    ):
        super().__init__([c.name for c in candidates])
        for data in (test, *candidates):
            for what in ("features", "classes"):
                if getattr(data, what) != getattr(train, what):
                    raise InputError(f"{what} of {data.name}", getattr(data, what), f"{getattr(train, what)}, as train")
        self._test, self._l2, self._tolerance = test, check_l2(l2), tolerance
        if model is None:
            model = refit(train, l2, tolerance, model_for(train)) if train.numeric else fit(train, l2, tolerance)
        self._model, self._link = type(model), getattr(model, "link", SOFTMAX)
        self._measured = (measure or Measure()).value
        self._before, self._theta = self._measured(model, test), model.theta
        self._own, *self._parts = [(with_bias(d.x.to(torch.float64)), d.y) for d in (train, *candidates)]

    def worth(self, members: frozenset[int]) -> float:
        self._theta = self._fit([self._own, *(self._parts[k] for k in sorted(members))])
        return self._before - self._measured(self._model(self._theta, self._l2), self._test)

    def _fit(self, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Return the minimiser on all parts together, (d + 1, C), by L-BFGS from the last minimiser."""
        shape, rows = self._theta.shape, sum(len(y) for _, y in parts)

        def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
            theta = torch.from_numpy(flat).reshape(shape)
            value, gradient = self._l2 * theta.square().sum(), 2 * self._l2 * theta
            for x, y in parts:
                mean, slope = objective(theta, x, y, 0.0, self._link)
                value, gradient = value + mean * (len(y) / rows), gradient + slope * (len(y) / rows)
            return value.item(), gradient.reshape(-1).numpy()

        flat, largest = self._theta.reshape(-1).numpy(), math.inf
        options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 50, "ftol": 0.0, "gtol": self._tolerance}
        for trial in range(6):  # a restart forgets a curvature that no longer helps; the fourth is from zero
            flat = np.zeros_like(flat) if trial == 3 else flat
            result = scipy.optimize.minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)
            flat, largest = result.x, float(np.abs(result.jac).max())
            if largest <= self._tolerance:
                return torch.from_numpy(flat.copy()).reshape(shape)
        raise AppraisalError(
            f"retraining on {rows} rows did not converge: largest gradient entry {largest:.1e}, expected at most "
            f"{self._tolerance:.1e}; a larger model.l2 (now {self._l2}) makes it easier"
        )


@dataclass(frozen=True)
class LeaveOneOut:
    """Value each candidate at v(N) - v(N without the candidate)."""

    name: ClassVar[str] = "leave_one_out"

    def values(self, game: Game, emit: Emit = lambda event: None) -> Valuation:
        """Compute one value for each player.

        emit: receives {"done", "of", "method", "candidate"} after each player.
        """
        everybody, before = frozenset(range(len(game.names))), game.retrainings
        total, values = game.value(everybody), {}
        for k, name in enumerate(game.names):
            values[name] = total - game.value(everybody - {k})
            emit({"done": k + 1, "of": len(game.names), "method": self.name, "candidate": name})
        return Valuation(values, dict.fromkeys(values, 0.0), game.retrainings - before, exact=True)
