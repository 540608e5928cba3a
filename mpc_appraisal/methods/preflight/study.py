"""What a pre-flight measures at one l2: the values of the corrupted parts, and what the parts are truly worth.

    theta_s   fitted on O_s, for each split s
    value_p   = the method's value of H_p, in the clear
    utility_p = mean test loss of theta_s minus that after retraining on O_s and H_p    (retraining.py, eq. 2 negated)
                of a method with another metric (methods/metrics.py) the fall of that metric
    condition = (largest + d) / d  of the Hessian,  d = 2 l2 + damping

l2 is the strength of the regulariser. O_s are the model owner's own rows in split s, and H_p is part p of K corrupted
copies of the held-out rows (`parts`). A `Subject` goes in: the methods, the splits and the test rows. A `Study` comes
out, with one `Check` for each method. A study takes K + 1 fits for each split. The smallest eigenvalue of the Hessian
of the cross-entropy alone is 0, because adding one vector to the weights of all classes changes nothing; hence d alone
stands below the fraction. The numbers of swaps may change. All l2 have to be studied on the same parts, which the
subject's seed makes, or their studies do not compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import scipy  # which imports `scipy.sparse.linalg` when it is first used: time that most processes need not spend
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Appraiser, Facts, Influence, Retraining, plaintext_of
from mpc_appraisal.methods.influence import loss_hessian
from mpc_appraisal.methods.metrics import Measure
from mpc_appraisal.methods.preflight import halves
from mpc_appraisal.methods.preflight.calibration import curve_of
from mpc_appraisal.methods.preflight.halves import ACCURACY, Gauge, Offer
from mpc_appraisal.methods.preflight.parts import CORRUPT, SPLIT, SWAP, corrupted, stream, swaps
from mpc_appraisal.methods.preflight.result import PER_ROW, Check
from mpc_appraisal.methods.preflight.threshold import calibrated, unit_of
from mpc_appraisal.methods.preflight.verdict import agreement_of, verdict_of
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.training import error_rate, mean_loss, refit

TOLERANCE = 1e-6  # of the retraining; a utility is then right to 1e-9 or so
SWAPS, SLOW_SWAPS = 45, 10  # pairs of classes tried for each seed; fewer for methods that train
Fit = Callable[[Dataset], LinearModel]


@dataclass(frozen=True)
class Subject:
    """Hold what is studied at every l2.

    Attributes:
        methods: The methods that are checked.
        splits: O and H of each split, that is, the own and the held-out rows.
        test: The test rows.
        parts: K, the number of corrupted parts of each split.
        corruption: The kind of corruption, one of `parts.CORRUPTIONS`.
        seed: The seed of the corruption.
    """

    methods: Sequence[Appraiser]
    splits: Sequence[tuple[Dataset, Dataset]]
    test: Dataset
    parts: int
    corruption: str
    seed: int

    @property
    def rates(self) -> list[float]:
        """The rate of corruption of each part."""
        return [(p / self.parts) ** 2 for p in range(self.parts)]


@dataclass(frozen=True)
class Study:
    """Hold what was found at one l2.

    Attributes:
        l2: The strength of the regulariser.
        loss: The mean test loss of the models, averaged over the splits.
        error: The share of test errors of the models, averaged over the splits; of a numeric target, the mean squared
            error in parts of the target's variance.
        checks: One check for each method that could be checked.
        skipped: (method, reason) of each method that could not be checked.
    """

    l2: float
    loss: float
    error: float
    checks: tuple[Check, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _World:
    """Hold one split at one l2: its rows, the model that appraises, the corrupted parts and their true utilities.

    `fitted` is theta_s, and `model` is theta_s too unless a model is given.
    """

    own: Dataset
    held: Dataset
    fitted: LinearModel
    model: LinearModel
    parts: list[Dataset]
    truth: Retraining
    known: dict[Measure, list[float]] = field(default_factory=dict)

    def utilities(self, measure: Measure) -> list[float]:
        """Return the fall of the metric `measure` by retraining with each part, computed once."""
        if measure not in self.known:
            self.known[measure] = [self.truth.value(part, measure) for part in self.parts]
        return self.known[measure]


def study(
    subject: Subject,
    l2: float,
    fit: Fit,
    given: LinearModel | None = None,
    whole: Dataset | None = None,
    gauge: Gauge = ACCURACY,
) -> Study:
    """Appraise and retrain at one l2.

    Args:
        subject: What is studied.
        l2: The strength of the regulariser.
        fit: Trains theta_s on O_s.
        given: The model that appraises in place of every theta_s; utilities are still those of theta_s.
        whole: All training rows, with which values are calibrated (`halves`); None calibrates nothing.
        gauge: What the model owner judges a model by.

    Raises AppraisalError where a model does not converge; a method that fails is skipped.
    """
    worlds = [_world(subject, s, l2, fit, given) for s in range(len(subject.splits))]
    offer = None
    if whole is not None and halves.possible(whole, subject.test):
        offer = _offer(subject, worlds, fit, given, whole, gauge)
    checks, skipped = [], []
    for method in subject.methods:
        try:
            checks.append(_check(subject, method, worlds, offer))
        except AppraisalError as error:
            skipped.append((method.name, str(error).removeprefix(f"{method.name}: ")))
    loss = np.mean([mean_loss(world.model, subject.test) for world in worlds])
    error = np.mean([error_rate(world.model, subject.test) for world in worlds])
    return Study(l2, float(loss), float(error), tuple(checks), tuple(skipped))


def _world(subject: Subject, s: int, l2: float, fit: Fit, given: LinearModel | None) -> _World:
    own, held = subject.splits[s]
    model = fit(own)
    parts = [
        corrupted(held, rate, subject.corruption, stream(subject.seed, CORRUPT, s, p))
        for p, rate in enumerate(subject.rates)
    ]
    truth = Retraining(own, subject.test, l2, model, TOLERANCE)
    world = _World(own, held, model, given or model, parts, truth)
    if any(method.measure.stated is None for method in subject.methods):
        world.utilities(Measure())
    return world


def _offer(
    subject: Subject,
    worlds: Sequence[_World],
    fit: Fit,
    given: LinearModel | None,
    whole: Dataset,
    gauge: Gauge,
) -> Offer:
    """Return the spoilt halves of the test rows, with the learning curve of the models on H_s, O_s and all rows."""
    fitted = fit(whole)
    models = [(whole.rows, fitted)]
    for world in worlds:
        models.append((world.own.rows, world.fitted))
        with suppress(AppraisalError):  # few rows may have no unique minimum where l2 is 0
            held = refit(world.held, fitted.l2, TOLERANCE, type(fitted))
            if error_rate(held, subject.test) <= 1:  # else it predicts numbers worse than their mean does
                models.append((world.held.rows, held))
    levels = [gauge.of(model, subject.test) for _, model in models]
    curve = curve_of([rows for rows, _ in models], levels, whole.rows)
    count = max(5, subject.parts * (9 if len(worlds) > 1 else 7) // 10)  # fewer in a quick pre-flight
    facts = (curve, count, subject.corruption, subject.seed, gauge)
    return halves.offer(whole, subject.test, given, fitted, *facts)


def _check(subject: Subject, method: Appraiser, worlds: Sequence[_World], offer: Offer | None) -> Check:
    """Return the check of one method over all splits. Raises AppraisalError where the method fails."""
    values, wrong, pairs, conditions, unit = [], 0, 0, [], "value"
    for s, world in enumerate(worlds):
        value = valuer(method, world.model, world.own, subject.test)
        values.append([value(part) for part in world.parts])
        if subject.corruption == "labels":
            most = SWAPS if method.streams else SLOW_SWAPS
            swapped = swaps(world.held, world.model, stream(subject.seed, SWAP, s), most)
            clean = value(world.held)
            wrong, pairs = wrong + sum(not value(swap) < clean for swap in swapped), pairs + len(swapped)
        if isinstance(method, Influence):
            conditions.append(condition_number(world.model, world.own, method.damping))
        if s == 0:
            unit = unit_of(value, world.held)
    utilities = [world.utilities(method.measure) for world in worlds]
    rank = agreement_of(values, utilities, "spearman", True)
    per = [world.held.rows if unit == PER_ROW else 1 for world in worlds]
    threshold = calibrated([[v / n for v in row] for row, n in zip(values, per, strict=True)], utilities, unit)
    meaning = None
    # A value of any other unit says nothing of other sizes, and the utilities of the offer are those of the mean loss.
    if offer is not None and unit in (PER_ROW, "value") and method.measure.stated is None:
        value = valuer(method, offer.model, offer.train, offer.test)
        threshold, meaning = offer.judged(value, unit, isinstance(method, Influence))
    return Check(
        method.name,
        verdict_of(rank.by_seed, wrong, pairs),
        rank,
        agreement_of(values, utilities, "pearson"),
        agreement_of(values, [subject.rates] * len(worlds), "spearman"),
        wrong,
        pairs,
        max(conditions, default=None),
        threshold,
        method.measure.stated,
        meaning,
    )


def valuer(method: Appraiser, model: LinearModel, train: Dataset, test: Dataset) -> Callable[[Dataset], float]:
    """Return a function that values data sets as `methods.plaintext` does, with tensors that are prepared once.

    Raises InputError where the method needs a data set that is None.
    """
    method.require(train, test)
    owned = method.prepare(model, train, test)

    def value(part: Dataset) -> float:
        return plaintext_of(method, owned, Facts.of(model, train, test, part), part)[0]

    return value


def condition_number(model: LinearModel, train: Dataset, damping: float = 0.0) -> float:
    """Return (largest + d) / d of the Hessian on `train`, to within a few percent; infinity where d is 0.

    largest is the largest eigenvalue of the Hessian of the mean cross-entropy, and d = 2 l2 + damping.
    """
    curvature, shape = loss_hessian(model, train), (train.features + 1, model.outputs)

    def product(flat: np.ndarray) -> np.ndarray:
        v = torch.from_numpy(np.ascontiguousarray(flat, dtype=np.float64)).reshape(shape)
        return curvature(v).reshape(-1).numpy()

    size = shape[0] * shape[1]
    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = stream(0, SPLIT).standard_normal(size)
    try:
        largest = float(
            scipy.sparse.linalg.eigsh(operator, k=1, which="LA", v0=start, tol=1e-2, return_eigenvectors=False)[0]
        )
    except scipy.sparse.linalg.ArpackNoConvergence as error:  # the closest that it came is close enough
        largest = float(max(error.eigenvalues, default=0.0))
    d = 2 * model.l2 + damping
    return (max(largest, 0.0) + d) / d if d > 0 else math.inf
