"""Pre-flight: the model owner's own data tell, before anything is private, whether a method can be trusted on a model.

For each seed s the model owner's training rows are split, class by class, into an own part O (3/4) and a held-out part
H, and theta_s is fitted on O. From H come K parts that differ in their corruption alone:

    H_p = H corrupted at rate (p / K)^2, p = 0 .. K-1   labels:  each becomes another class, any of them, at that rate
                                                        missing: each feature becomes 0 at that rate
    value_p   = the method's value of H_p, in the clear                             (appraisal/*.py)
    utility_p = mean test loss of theta_s minus that after retraining on O and H_p   (retraining.py, eq. 2 negated)

    r_s = Spearman(value, utility)     over the K parts; mean, worst and spread over the seeds
    w   = share of pairs of classes {a, b}, of those that theta_s tells apart on H and that have three rows there or
          more, for which swapping all labels a and b of H does not lower the value

and a method is trusted where mean r_s >= 0.8, every r_s > 0.5 and w <= 0.08; inverted where mean r_s <= -0.3 or w >
1/3 (by more than chance: its interval above 0.08); doubtful otherwise. Why these: values that mean nothing have r_s >
0.5 with a chance of 7% (K = 10), so the mean asks for more; methods that work reach 0.9. But r_s is no sharp test of
conditioning: labels replaced by any others are so crude an error that the influence of a badly conditioned model still
ranks them (r_s 0.96 on MNIST at l2 = 1e-3), while it takes a confusion of 1 with 7 for an improvement. Hence w, which
costs no retraining. On MNIST (ten draws of 600 rows) w was 0 at l2 = 1e-2, 0.01 to 0.06 at 3e-3, 0.09 to 0.22 at 1e-3
and 0.26 to 0.53 at 1e-4, in step with its value on 6,000 fresh rows; 0.08 was set on five of the draws and separates
the other five. That it does harm to swap all labels of two classes is assumed there, and not retrained: hence only
pairs at which the loss of theta_s on H rises by it. The condition number of the Hessian is told beside it: (largest +
d) / d with d = 2 l2 + damping, for the cross-entropy's own smallest eigenvalue is 0 (adding one vector to the weights
of all classes changes nothing).

The parts share their rows, because disjoint parts of a few rows differ more by their rows than by their corruption
(MNIST, 30 rows each: utility ranks with the rate at 0.9 or less, and at 0.3 for two classes). Rates are squares
because the turn from good to bad comes early: a tenth to a third of the parts are good.

    threshold t = arg min  FA(t) + FR(t)     FA: share of parts with utility <= 0 whose value is >= t (bought, and bad)
                                             FR: share of parts with utility > 0 whose value is < t (good, and refused)

over all seeds' parts, in the middle of the widest gap among the best; its rates are counted on each seed with a t from
the other seeds (with one seed: on each part with a t from the other parts), beside those of t = 0, with 95%
Clopper-Pearson intervals; parts of a seed share rows, so they are too narrow rather than too wide. Where doubling a
part doubles its value (a sum: the gradient norm), t is per row; where it neither doubles nor stays, t is for
candidates of about as many rows.

Suggested l2: of l2 times 1/10 .. 10 (1 .. 100 where the present one fails, for less of it conditions worse still)
within [1e-6, 1], those with a test loss within 50% of the best; of these the least test loss at which all methods are
trusted, or else the best sum over methods of mean r_s - w. (50% is no small loss, but most of it is that a larger l2
makes the model less sure of itself; the test error stands beside it, and the model that appraises need not be the one
that is deployed.)

Needs training and test rows of the model owner; at most 1,000 and 2,000 are used. Everything is float64 and in the
clear, in the model owner's process; nothing is shared, opened or charged. Costs K + 1 fits for each seed and each l2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import scipy  # which imports `scipy.stats` when it is first used: half a second that most processes need not spend
import torch

from mpc_appraisal.common.checks import integer, one_of
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Appraiser, Facts, Influence, Retraining, as_methods
from mpc_appraisal.methods.preflight.result import (
    DOUBTFUL,
    INVERTED,
    LOSS,
    MEAN,
    MOST_PAIRS,
    OPPOSITE,
    PAIRS,
    TRUSTED,
    WORST,
    Agreement,
    Check,
    Preflight,
    Rate,
    Threshold,
    Trial,
)
from mpc_appraisal.models.softmax_regression import SoftmaxRegression, check_l2
from mpc_appraisal.models.training import accuracy, mean_loss, union
from mpc_appraisal.models.training import fit as train_model
from mpc_appraisal.reporting.metrics import correlations
from mpc_appraisal.reporting.record import ERRORS

OWN = 0.75  # of the training rows: the fewer, the less the model resembles the one that is asked about
TRAIN_ROWS, TEST_ROWS = 1_000, 2_000
SWAPS, SLOW_SWAPS = 45, 10  # pairs of classes tried for each seed; fewer for methods that train
SWAP_ROWS = 3  # of each of the two classes in H
CLASS_ROWS, LEAST_TRAIN, LEAST_TEST = 8, 40, 20
TOLERANCE = 1e-6  # of the retraining; a utility is then right to 1e-9 or so
LOWER, HIGHER = (0.1, 1 / 3, 3.0, 10.0), (3.0, 10.0, 30.0, 100.0)
SPLIT, TEST, CORRUPT, SWAP = range(4)  # the purposes of random numbers
CORRUPTIONS = ("labels", "missing")
Fit = Callable[[Dataset], SoftmaxRegression]


def possible(train: Dataset | None, test: Dataset | None, methods: Iterable[Appraiser] = ()) -> str | None:
    """Why no pre-flight of `methods` can be made with these data, in a sentence; None where one can."""
    found = _obstacle(train, test, methods)
    return None if found is None else f"no pre-flight: {found[1]}, and it takes {found[2]}"


def glance(
    train: Dataset | None,
    test: Dataset | None,
    methods: Iterable[Appraiser],
    l2: float,
    fit: Fit | None = None,
    seed: int = 0,
    model: SoftmaxRegression | None = None,
) -> tuple[Preflight | None, list[str]]:
    """Before a run: the quick pre-flight and its warnings; (None, [why]) where there is none. Stops no run: it raises
    no AppraisalError. model: as of `preflight`."""
    methods = tuple(methods)
    reason = possible(train, test, methods)
    if reason is not None or not _valuing(methods):  # an error alone has nothing to be trusted in
        return None, [reason] if reason is not None else []
    try:
        found = preflight(train, test, methods, l2, fit, seed=seed, quick=True, model=model)
    except AppraisalError as error:
        return None, [f"no pre-flight: {error}"]
    return found, found.warnings()


def preflight(
    train: Dataset,
    test: Dataset,
    methods: str | Appraiser | Iterable[str | Appraiser] = "influence",
    l2: float = 1e-2,
    fit: Fit | None = None,
    *,
    seed: int = 0,
    seeds: int = 3,
    parts: int = 10,
    corruption: str = "labels",
    classes: int | None = None,
    search: bool | None = None,
    quick: bool = False,
    model: SoftmaxRegression | None = None,
) -> Preflight:
    """Check `methods` on the model owner's own data; see the head of this file.

    fit: of the model at `l2`; None: `training.fit`, as for other l2 and for the utility.
    model: the trained one that will appraise, in place of theta_s, at `l2`; utilities are still those of theta_s.
    seeds: splits. search: of l2; None: where a method is not trusted.
    quick: one seed and no search, whatever else is stated. The error of another method's value is left out.
    Raises InputError for a bad argument and for data too few (`possible` tells before), AppraisalError where the model
    itself does not converge.
    """
    chosen, l2 = _valuing(as_methods(methods)), check_l2(l2)
    if not chosen:
        raise InputError("appraisal", methods, f"a method that values data, beside {' or '.join(ERRORS)} or alone")
    for name, value, least in (("seed", seed, 0), ("seeds", seeds, 1), ("parts", parts, 3)):
        integer(name, value, least)
    one_of("corruption", corruption, CORRUPTIONS)
    found = _obstacle(train, test, chosen)
    if found is not None:
        raise InputError(*found)
    count = max(train.classes, test.classes) if classes is None else classes
    if model is not None:
        if model.features != train.features or model.classes < count:
            raise InputError(
                "model",
                f"{model.features} features and {model.classes} classes",
                f"{train.features} features and {count} classes or more, as in train and test",
            )
        count = model.classes
    given, seeds = (train.rows, test.rows), 1 if quick else seeds
    train, test = train.with_classes(count), test.with_classes(count)
    sample = _stream(seed, TEST)
    if test.rows > TEST_ROWS:
        test = test.subset(np.sort(sample.permutation(test.rows)[:TEST_ROWS]))
    splits = [_split(train, seed, s) for s in range(seeds)]

    def study(strength: float, trainer: Fit, given: SoftmaxRegression | None = None) -> _Study:
        return _study(chosen, strength, trainer, test, splits, parts, corruption, seed, given)

    now = study(l2, fit or partial(train_model, l2=l2, tolerance=TOLERANCE), model)
    fine = not now.skipped and all(check.verdict == TRUSTED for check in now.checks)
    trials: tuple[Trial, ...] = ()
    if not quick and (not fine if search is None else search):
        trials = _trials(now, study, LOWER if fine else HIGHER)
    rows = (splits[0][0].rows, splits[0][1].rows, test.rows)
    return Preflight(
        l2,
        corruption,
        seed,
        seeds,
        parts,
        rows,
        given,
        now.checks,
        now.skipped,
        trials,
        _suggested(trials, l2),
    )


def threshold_of(values: Sequence[float], good: Sequence[bool]) -> float | None:
    """t with the least FA + FR for accepting values >= t; the middle of the widest gap among the best.

    None where all are good or all are bad: then nothing tells where one becomes the other.
    """
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_good = np.asarray(values, dtype=np.float64)[order], np.asarray(good, dtype=bool)[order]
    goods, bads = int(sorted_good.sum()), int((~sorted_good).sum())
    if not goods or not bads:
        return None
    # A cut below position k accepts k, k + 1, ...; it lies between two values that differ, or outside all.
    rejected = np.concatenate([[0], np.cumsum(sorted_good)]) / goods
    accepted = 1 - np.concatenate([[0], np.cumsum(~sorted_good)]) / bads
    gaps = np.concatenate([[0.0], np.diff(sorted_values), [0.0]])
    allowed = gaps > 0
    allowed[[0, -1]] = True
    cost = np.where(allowed, rejected + accepted, np.inf)
    best = np.flatnonzero(cost <= cost.min() + 1e-12)
    k = int(best[np.argmax(gaps[best])])
    if k == 0:
        return float(sorted_values[0])
    if k == len(values):
        return float(np.nextafter(sorted_values[-1], np.inf))
    middle = (sorted_values[k - 1] + sorted_values[k]) / 2
    return float(middle if middle > sorted_values[k - 1] else sorted_values[k])


def verdict_of(ranks: Sequence[float | None], wrong: int = 0, pairs: int = 0) -> str:
    """From r_s of each seed and w = wrong / pairs; an undefined correlation (values all alike) is doubtful."""
    swaps = Rate.count([True] * wrong + [False] * (pairs - wrong))
    share, sure_of = swaps.rate or 0.0, swaps.low or 0.0
    known = [r for r in ranks if r is not None]
    mean = float(np.mean(known)) if known else None
    if (share > MOST_PAIRS and sure_of > PAIRS) or (mean is not None and mean <= OPPOSITE):
        return INVERTED
    sure = len(known) == len(ranks) and mean is not None and mean >= MEAN and min(known) > WORST
    return TRUSTED if sure and share <= PAIRS else DOUBTFUL


def condition_number(model: SoftmaxRegression, train: Dataset, damping: float = 0.0) -> float:
    """(largest + d) / d of the Hessian on `train`, d = 2 l2 + damping; infinity where d is 0. To a few percent."""
    x, p = with_bias(train.x.to(torch.float64)), model.logits(train.x).softmax(1)
    shape = (x.shape[1], model.classes)

    def product(flat: np.ndarray) -> np.ndarray:
        s = p * x.matmul(torch.from_numpy(np.ascontiguousarray(flat, dtype=np.float64)).reshape(shape))
        return ((s - p * s.sum(1, keepdim=True)).t().matmul(x).t() / train.rows).reshape(-1).numpy()

    size = shape[0] * shape[1]
    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = _stream(0, SPLIT).standard_normal(size)
    try:
        largest = float(
            scipy.sparse.linalg.eigsh(operator, k=1, which="LA", v0=start, tol=1e-2, return_eigenvectors=False)[0]
        )
    except scipy.sparse.linalg.ArpackNoConvergence as error:  # the closest that it came is close enough
        largest = float(max(error.eigenvalues, default=0.0))
    d = 2 * model.l2 + damping
    return (max(largest, 0.0) + d) / d if d > 0 else math.inf


@dataclass(frozen=True)
class _Study:
    """One l2."""

    l2: float
    loss: float
    error: float
    checks: tuple[Check, ...]
    skipped: tuple[tuple[str, str], ...]


def _study(
    methods: Sequence[Appraiser],
    l2: float,
    fit: Fit,
    test: Dataset,
    splits: Sequence[tuple[Dataset, Dataset]],
    parts: int,
    corruption: str,
    seed: int,
    given: SoftmaxRegression | None = None,
) -> _Study:
    rates = [(p / parts) ** 2 for p in range(parts)]
    models, worlds, utilities, losses, errors = [], [], [], [], []
    for s, (own, held) in enumerate(splits):
        model = fit(own)
        made = [_corrupted(held, rate, corruption, _stream(seed, CORRUPT, s, p)) for p, rate in enumerate(rates)]
        truth = Retraining(own, test, l2, model, TOLERANCE)
        models.append(given or model)
        worlds.append(made)
        utilities.append([truth.value(part) for part in made])
        losses.append(mean_loss(models[-1], test))
        errors.append(1 - accuracy(models[-1], test))
    checks, skipped = [], []
    for method in methods:
        values, wrong, pairs, conditions, unit = [], 0, 0, [], "value"
        try:
            for s, (own, held) in enumerate(splits):
                value = _valuer(method, models[s], own, test)
                values.append([value(part) for part in worlds[s]])
                if corruption == "labels":
                    most = SWAPS if method.streams else SLOW_SWAPS
                    swaps = _swaps(held, models[s], _stream(seed, SWAP, s), most)
                    clean = value(held)
                    wrong, pairs = wrong + sum(not value(swap) < clean for swap in swaps), pairs + len(swaps)
                if isinstance(method, Influence):
                    conditions.append(condition_number(models[s], own, method.damping))
                if s == 0:
                    unit = _unit(value, held)
        except AppraisalError as error:
            skipped.append((method.name, str(error).removeprefix(f"{method.name}: ")))
            continue
        rank = _agreement(values, utilities, "spearman", True)
        per = [held.rows if unit == "value per row" else 1 for _, held in splits]
        checks.append(
            Check(
                method.name,
                verdict_of(rank.by_seed, wrong, pairs),
                rank,
                _agreement(values, utilities, "pearson"),
                _agreement(values, [rates] * len(splits), "spearman"),
                wrong,
                pairs,
                max(conditions, default=None),
                _calibrated([[v / n for v in row] for row, n in zip(values, per, strict=True)], utilities, unit),
            )
        )
    return _Study(l2, float(np.mean(losses)), float(np.mean(errors)), tuple(checks), tuple(skipped))


def _trials(now: _Study, study: Callable[[float, Fit], _Study], factors: Sequence[float]) -> tuple[Trial, ...]:
    """The grid about the present l2; a point at which the model does not converge is left out."""
    base = max(now.l2, 1e-5)
    grid = sorted({float(f"{min(max(base * factor, 1e-6), 1.0):.3g}") for factor in factors} - {now.l2})
    studies = [now]
    for l2 in grid:
        try:
            studies.append(study(l2, partial(train_model, l2=l2, tolerance=TOLERANCE)))
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


def _suggested(trials: Sequence[Trial], l2: float) -> float | None:
    """The least test loss where all methods are trusted, else the best score; None where nothing is better."""
    fitting = [trial for trial in trials if trial.fits and trial.rank]
    trusted = [trial for trial in fitting if trial.trusted]
    if trusted:
        return min(trusted, key=lambda trial: trial.loss).l2
    best = max(fitting, key=lambda trial: trial.score, default=None)
    return None if best is None or best.l2 == l2 else best.l2


def _valuer(method: Appraiser, model: SoftmaxRegression, train: Dataset, test: Dataset) -> Callable[[Dataset], float]:
    """As `appraisal.plaintext`, with what the model owner prepares prepared once."""
    method.require(train, test)
    owned = method.prepare(model, train, test)

    def value(part: Dataset) -> float:
        facts = Facts.of(model, train, test, part)
        x = with_bias(part.x.to(torch.float64))
        return method.value(method.score(owned, x, part.one_hot(), facts).item(), facts)

    return value


def _unit(value: Callable[[Dataset], float], part: Dataset) -> str:
    """What a threshold is stated in: found by doubling the part, row for row."""
    one, two = value(part), value(union(part, part))
    if math.isclose(two, 2 * one, rel_tol=1e-6):
        return "value per row"
    return "value" if math.isclose(two, one, rel_tol=1e-6) else f"value of {part.rows} rows"


def _calibrated(values: Sequence[Sequence[float]], utilities: Sequence[Sequence[float]], unit: str) -> Threshold:
    flat = np.concatenate([np.asarray(row) for row in values])
    good = np.concatenate([np.asarray(row) for row in utilities]) > 0
    groups = np.repeat(np.arange(len(values)), [len(row) for row in values])
    if len(values) == 1:
        groups = np.arange(len(flat))
    accepts, rejects = [], []
    for group in np.unique(groups):
        out = groups == group
        t = threshold_of(flat[~out], good[~out])
        if t is not None:
            accepts += list(flat[out & ~good] >= t)
            rejects += list(flat[out & good] < t)
    zero = Rate.count(flat[~good] >= 0), Rate.count(flat[good] < 0)
    return Threshold(threshold_of(flat, good), unit, Rate.count(accepts), Rate.count(rejects), *zero)


def _agreement(
    values: Sequence[Sequence[float]], truth: Sequence[Sequence[float]], kind: str, pooled: bool = False
) -> Agreement:
    by_seed = tuple(correlations(a, b)[kind] for a, b in zip(values, truth, strict=True))
    known = [r for r in by_seed if r is not None]
    mean, worst = (float(np.mean(known)), min(known)) if known else (None, None)
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
    if not pooled:
        return Agreement(mean, spread, worst, by_seed)
    a, b = np.concatenate([np.asarray(row) for row in values]), np.concatenate([np.asarray(row) for row in truth])
    together = correlations(a, b)[kind]
    if together is None:
        return Agreement(mean, spread, worst, by_seed)
    bounds = scipy.stats.bootstrap(
        (a, b),
        _rank_correlation,
        paired=True,
        vectorized=True,
        n_resamples=1_000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Agreement(mean, spread, worst, by_seed, together, float(bounds.low), float(bounds.high))


def _rank_correlation(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    """Spearman along an axis; 0 for a resample that is all one value."""
    a, b = (scipy.stats.rankdata(side, axis=axis) for side in (a, b))
    a, b = (side - side.mean(axis, keepdims=True) for side in (a, b))
    size = np.sqrt((a**2).sum(axis) * (b**2).sum(axis))
    return np.where(size > 0, (a * b).sum(axis) / np.where(size > 0, size, 1.0), 0.0)


def _split(train: Dataset, seed: int, s: int) -> tuple[Dataset, Dataset]:
    """O and H: of each class three quarters and the rest, drawn at random; of at most TRAIN_ROWS rows."""
    stream = _stream(seed, SPLIT, s)
    order = stream.permutation(train.rows)[:TRAIN_ROWS]
    labels, own, held = train.y.numpy()[order], [], []
    for label in range(train.classes):
        rows = order[labels == label]
        cut = math.ceil(OWN * len(rows))
        own.append(rows[:cut])
        held.append(rows[cut:])
    return train.subset(np.concatenate(own)), train.subset(np.concatenate(held)).renamed("held-out rows")


def _corrupted(part: Dataset, rate: float, corruption: str, stream: np.random.Generator) -> Dataset:
    if corruption == "missing":
        missing = torch.from_numpy(stream.random(tuple(part.x.shape)) < rate)
        return Dataset(part.x.masked_fill(missing, 0.0), part.y, part.classes, part.name)
    hit, shift = stream.random(part.rows) < rate, stream.integers(1, part.classes, part.rows)
    other = (part.y + torch.from_numpy(shift)) % part.classes
    return Dataset(part.x, torch.where(torch.from_numpy(hit), other, part.y), part.classes, part.name)


def _swaps(part: Dataset, model: SoftmaxRegression, stream: np.random.Generator, most: int) -> list[Dataset]:
    """`part` with all labels a and b exchanged, for pairs of its classes that the model tells apart: `most` at most."""
    pairs = list(combinations(torch.nonzero(torch.bincount(part.y) >= SWAP_ROWS).flatten().tolist(), 2))
    if len(pairs) > most:
        pairs = [pairs[k] for k in sorted(stream.choice(len(pairs), most, replace=False))]
    swaps = [
        Dataset(part.x, torch.where(part.y == a, b, torch.where(part.y == b, a, part.y)), part.classes, part.name)
        for a, b in pairs
    ]
    clean = mean_loss(model, part)
    return [swap for swap in swaps if mean_loss(model, swap) > clean]


def _valuing(methods: Iterable[Appraiser]) -> tuple[Appraiser, ...]:
    return tuple(method for method in methods if method.name not in ERRORS)


def _obstacle(train: Dataset | None, test: Dataset | None, methods: Iterable[Appraiser]) -> tuple[str, str, str] | None:
    """(name, what there is, what it takes) where the data do not allow a pre-flight."""
    for method in methods:
        if more := method.needs - {"train", "test"}:
            needed = f"{method.name}, which needs {', '.join(sorted(more))}"
            return "appraisal", needed, "methods that need training and test rows alone"
    for name, data, least in (("party.train", train, LEAST_TRAIN), ("party.test", test, LEAST_TEST)):
        what = {"party.train": "training", "party.test": "test"}[name]
        if data is None:
            return name, f"no {what} data", f"{least} {what} rows or more of one's own"
        if data.rows < least:
            return name, f"{data.rows} {what} rows", f"{least} or more"
    if train.features != test.features:
        return "party.test", f"{test.features} features", f"{train.features}, as in party.train"
    enough = int((torch.bincount(train.y) >= CLASS_ROWS).sum())
    if enough < 2:
        return (
            "party.train",
            f"{enough} classes of {CLASS_ROWS} rows",
            f"two classes or more with {CLASS_ROWS} rows each",
        )
    return None


def _stream(seed: int, *purpose: int) -> np.random.Generator:
    """An independent generator for each seed and purpose."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(977, *purpose))))
