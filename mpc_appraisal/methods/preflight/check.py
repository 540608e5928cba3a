"""Pre-flight: whether a method can be trusted on a model, found on the model owner's own rows before a private run.

For each seed s the model owner's training rows are split, class by class, into an own part O (3/4) and a held-out part
H, and a model theta_s is fitted on O. From H come K parts, numbered p, that differ in their corruption alone.

    value_p    = the method's value of the part H_p, in the clear                   (study.py)
    utility_p  = mean test loss of theta_s minus that after retraining on O and H_p
    r_s        = Spearman(value, utility) over the K parts                          (verdict.py)
    w          = share of the swaps of two classes' labels in H that do not lower the value

The verdict on each method rests on r_s and w. A decision threshold is calibrated on values and utilities
(threshold.py), and where there are test rows enough, values are calibrated to gains too (halves.py, calibration.py).
Where a method is not trusted, other l2, strengths of the regulariser, are tried (search.py). Why the test is built so,
and what was measured with it: docs/protocols/preflight.md and docs/preflight.md.

Training and test rows of the model owner go in, of which at most 1,000 and 2,000 are used, and a `Preflight` comes out.
Everything is float64 and in the clear, in the model owner's process; nothing is shared, opened or charged. The
pre-flight takes K + 1 fits for each seed and each l2, and some K more that calibrate. The least numbers of rows may
change; `glance` has to raise no AppraisalError, because it must stop no run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import torch

from mpc_appraisal.common.checks import integer, one_of
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.reworded import reworded
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Appraiser, as_methods
from mpc_appraisal.methods.preflight.halves import gauge_for
from mpc_appraisal.methods.preflight.parts import CORRUPTIONS, sampled, split
from mpc_appraisal.methods.preflight.result import TRUSTED, Preflight
from mpc_appraisal.methods.preflight.search import HIGHER, LOWER, suggested, trials
from mpc_appraisal.methods.preflight.study import TOLERANCE, Fit, Subject, study
from mpc_appraisal.methods.setting_names import in_words_of_preflight
from mpc_appraisal.models.base import LinearModel, check_l2
from mpc_appraisal.models.training import model_for, model_of, refit
from mpc_appraisal.reporting.record import ERRORS

CLASS_ROWS, LEAST_TRAIN, LEAST_TEST = 8, 40, 20  # rows without which no pre-flight is made


def possible(train: Dataset | None, test: Dataset | None, methods: Iterable[Appraiser] = ()) -> str | None:
    """Return a sentence why no pre-flight of `methods` can be made with these data; None where one can be made."""
    found = _obstacle(train, test, methods)
    return None if found is None else f"no pre-flight: {found[1]}, and it takes {found[2]}"


def glance(
    train: Dataset | None,
    test: Dataset | None,
    methods: Iterable[Appraiser],
    l2: float,
    fit: Fit | None = None,
    seed: int = 0,
    model: LinearModel | None = None,
) -> tuple[Preflight | None, list[str]]:
    """Make the quick pre-flight before a run; return it with its warnings, or None with the reason why there is none.

    It stops no run, because it raises no AppraisalError. The arguments are those of `preflight`. Methods that read no
    model are left out. For methods that value no data, such as an error alone, it returns (None, []).
    """
    methods = tuple(method for method in methods if method.uses_model)
    reason = possible(train, test, methods)
    if reason is not None or not _valuing(methods):  # an error alone has nothing to be trusted in
        return None, [reason] if reason is not None and methods else []
    try:
        found = checked(train, test, methods, l2, fit, seed=seed, quick=True, model=model)
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
    model: LinearModel | None = None,
) -> Preflight:
    """Check `methods` on the model owner's own data, as the head of this file describes. Errors name the arguments.

    Args:
        train, test: The model owner's rows.
        methods: The methods, or their names. The error of another method's value is left out.
        l2: The strength of the model's regulariser.
        fit: Trains the model at `l2`; None takes `training.fit`, which also trains at other l2 and for the utility.
        seed: The seed of all random numbers.
        seeds: The number of splits.
        parts: K, the number of corrupted parts, 3 or more.
        corruption: "labels" or "missing".
        classes: The number of classes, where the data do not show it.
        search: Whether other l2 are tried; None tries them where a method is not trusted.
        quick: Makes one split and no search, whatever `seeds` and `search` say.
        model: The trained model that will appraise, in place of theta_s at `l2`; utilities are still those of theta_s.

    Raises InputError for a bad argument and for too few data (`possible` says so in advance), and AppraisalError where
    the model itself does not converge.
    """
    drawn = {"seed": seed, "seeds": seeds, "parts": parts, "corruption": corruption}
    more = {"classes": classes, "search": search, "quick": quick, "model": model}
    with reworded(in_words_of_preflight):
        found = checked(train, test, methods, l2, fit, **drawn, **more)
    return replace(found, skipped=tuple((name, in_words_of_preflight(why)) for name, why in found.skipped))


def checked(
    train: Dataset,
    test: Dataset,
    methods: str | Appraiser | Iterable[str | Appraiser],
    l2: float,
    fit: Fit | None,
    *,
    seed: int = 0,
    seeds: int = 3,
    parts: int = 10,
    corruption: str = "labels",
    classes: int | None = None,
    search: bool | None = None,
    quick: bool = False,
    model: LinearModel | None = None,
) -> Preflight:
    """Do what `preflight` does. Errors name the keys of the app, which has no such arguments."""
    chosen, l2 = _valuing(as_methods(methods)), check_l2(l2)
    if not chosen:
        raise InputError("appraisal", methods, f"a method that values data, beside {' or '.join(ERRORS)} or alone")
    _check_settings(seed, seeds, parts, corruption)
    found = _obstacle(train, test, chosen)
    if found is not None:
        raise InputError(*found)
    count = _classes(train, test, classes, model)
    given, seeds = (train.rows, test.rows), 1 if quick else seeds
    train, test = train.with_classes(count), sampled(test.with_classes(count), seed)
    splits = [split(train, seed, s) for s in range(seeds)]
    subject = Subject(chosen, splits, test, parts, corruption, seed)
    kind = type(model) if model is not None else model_for(train) if fit is None else model_of(fit)
    trains = fit or partial(refit, l2=l2, tolerance=TOLERANCE, model=kind)
    now = study(subject, l2, trains, model, train, gauge_for(test))
    fine = not now.skipped and all(check.verdict == TRUSTED for check in now.checks)
    wanted = not quick and (not fine if search is None else search)
    tried = trials(now, subject, LOWER if fine else HIGHER, kind) if wanted else ()
    rows = (splits[0][0].rows, splits[0][1].rows, test.rows)
    better = suggested(tried, l2)
    return Preflight(l2, corruption, seed, seeds, parts, rows, given, now.checks, now.skipped, tried, better)


def _check_settings(seed: int, seeds: int, parts: int, corruption: str) -> None:
    """Raise InputError that names the first bad setting."""
    for name, value, least in (("seed", seed, 0), ("seeds", seeds, 1), ("parts", parts, 3)):
        integer(name, value, least)
    one_of("corruption", corruption, CORRUPTIONS)


def _classes(train: Dataset, test: Dataset, stated: int | None, model: LinearModel | None) -> int:
    """Return the number of classes of the model that appraises. Raises InputError for a model that does not fit."""
    count = max(train.classes, test.classes) if stated is None else stated
    if model is None:
        return count
    if model.features != train.features or model.classes < count:
        raise InputError(
            "model",
            f"{model.features} features and {model.classes} classes",
            f"{train.features} features and {count} classes or more, as in train and test",
        )
    return model.classes


def _valuing(methods: Iterable[Appraiser]) -> tuple[Appraiser, ...]:
    """Return the methods that value data; the error of another method's value does not."""
    return tuple(method for method in methods if method.name not in ERRORS)


def _obstacle(train: Dataset | None, test: Dataset | None, methods: Iterable[Appraiser]) -> tuple[str, str, str] | None:
    """Return (name, what there is, what a pre-flight takes) where the data do not allow one; None where they do."""
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
    if train.numeric:
        return None
    enough = int((torch.bincount(train.y) >= CLASS_ROWS).sum())
    if enough < 2:
        return (
            "party.train",
            f"{enough} classes of {CLASS_ROWS} rows",
            f"two classes or more with {CLASS_ROWS} rows each",
        )
    return None
