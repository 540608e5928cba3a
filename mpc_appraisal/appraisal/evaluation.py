"""How well the values of a run serve: the measures of `methods.evaluation` on one result, with both sides' data.

In go a result, what the parties stated alike, and both owners' inputs. Out comes one `Measured` for each measure and
method, baselines included; of random values, each measure draws its own. Everything is computed in the clear by
retraining and by valuing anew, so that it serves experiments, never a run between organisations. The values that are
measured are those that the run opened, so that the error of the shares is part of what is measured; the check with a
randomised model compares values in the clear.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.preparation import classes_of, prepare, transformed
from mpc_appraisal.appraisal.sides import together
from mpc_appraisal.common.checks import as_list, integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Appraiser, Coalitions, Facts, MlpFinetuning, plaintext_of
from mpc_appraisal.methods.evaluation.datamodelling import datamodelling
from mpc_appraisal.methods.evaluation.detection import detection
from mpc_appraisal.methods.evaluation.randomised import randomised
from mpc_appraisal.methods.evaluation.removal import removal
from mpc_appraisal.methods.metrics import Measure
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.net.launch import Emit
from mpc_appraisal.reporting.measured import DATAMODELLING, DETECTION, MEASURES, RANDOMISED, REMOVAL, Measured
from mpc_appraisal.reporting.record import ERRORS
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.run_records import RANDOM

NONE, ALL = "none", "all"
RETRAINED = (DATAMODELLING, REMOVAL)  # the measures that retrain the model


@dataclass(frozen=True)
class Evaluation:
    """State which measures are wanted, and how much is computed for them.

    Attributes:
        measures: Names of measures, "all" or "none"; a tuple of names afterwards.
        subsets: The number of random sets of candidates of the linear datamodelling score, 8 or more.
        share: The share of the candidates that such a set holds, above 0 and below 1.
        orders: The number of random orders that removal curves are compared with, 1 or more.
        models: The number of models with random weights, 1 or more.

    Raises InputError for anything else.
    """

    measures: str | Collection[str] = ALL
    subsets: int = 32
    share: float = 0.5
    orders: int = 8
    models: int = 5

    def __post_init__(self) -> None:
        expected = f"{NONE}, {ALL}, or a list of {', '.join(MEASURES)}, each once"
        alone = isinstance(self.measures, str)
        stated = [self.measures] if alone else list(as_list("evaluate.measures", self.measures, expected))
        names = {ALL: list(MEASURES), NONE: []}.get(stated[0], stated) if len(stated) == 1 else stated
        if any(name not in MEASURES for name in names) or len(set(names)) < len(names):
            raise InputError("evaluate.measures", stated, expected)
        object.__setattr__(self, "measures", tuple(names))
        for key, least in (("subsets", 8), ("orders", 1), ("models", 1)):
            integer(f"evaluate.{key}", getattr(self, key), least)
        number("evaluate.share", self.share, above=0, below=1)


def as_evaluation(stated: Evaluation | str | Collection[str] | None) -> Evaluation:
    """Return the evaluation that names of measures state; None stands for none."""
    return stated if isinstance(stated, Evaluation) else Evaluation(NONE if stated is None else stated)


def evaluated(
    wanted: Evaluation,
    result: Result,
    plan: Plan,
    buyer: ModelOwnerInput,
    seller: DataOwnerInput,
    emit: Emit = lambda event: None,
) -> list[Measured]:
    """Return what the wanted measures say of each method of the result.

    Args:
        wanted: The measures.
        result: The records of the run, with the level of each candidate where a scenario states one.
        plan: What the parties stated alike.
        buyer: The model owner's input, with the rows that the measures retrain on.
        seller: The data owner's input.
        emit: A function that receives progress events.

    Raises:
        InputError: A measure that retrains lacks training rows, test rows or labels.
    """
    if not wanted.measures:
        return []
    values = _values(result)
    parts = (buyer.train, buyer.test, *seller.candidates)
    retrained = [measure for measure in wanted.measures if measure in RETRAINED]
    if retrained and not all(part is not None and part.labelled for part in parts):
        raise InputError("evaluate.measures", retrained, "training rows, test rows and labels on both sides")
    buyer, seller, _ = together(buyer, seller, plan)
    classes = classes_of(buyer, plan)
    seller = transformed(seller, plan, {c.name: classes for c in seller.candidates})
    sets = {c.name: c.with_classes(classes) for c in seller.candidates}
    found: list[Measured] = []
    if retrained:
        found += _retrained(wanted, values, plan, buyer, sets, classes)
        emit({"done": 1, "of": 1, "method": "evaluation", "candidate": "sets of candidates"})
    if DETECTION in wanted.measures:
        levels = {record.candidate: record.level for record in result if record.level is not None}
        found += detection({m: v for m, v in values.items() if set(levels) <= set(v)}, levels, plan.seed)
    if RANDOMISED in wanted.measures:
        found += _randomised(wanted, plan, buyer, sets, classes)
        emit({"done": 1, "of": 1, "method": "evaluation", "candidate": "randomised models"})
    return sorted(found, key=lambda one: wanted.measures.index(one.measure))


def _values(result: Result) -> dict[str, dict[str, float]]:
    """Return the value of each candidate, by method, of the methods of which every value was opened."""
    found = {
        method: {record.candidate: record.value for record in result.of(method)}
        for method in result.methods
        if method not in (*ERRORS, RANDOM)
    }
    return {method: by_name for method, by_name in found.items() if all(v is not None for v in by_name.values())}


def _retrained(
    wanted: Evaluation,
    values: dict[str, dict[str, float]],
    plan: Plan,
    buyer: ModelOwnerInput,
    sets: dict[str, Dataset],
    classes: int,
) -> list[Measured]:
    measures = {method.measure for method in plan.methods}
    truth = measures.pop() if len(measures) == 1 else Measure()
    train, test = buyer.train.with_classes(classes), buyer.test.with_classes(classes)
    start = None if plan.model is SoftmaxRegression else plan.fit(train)
    game = Coalitions(train, test, list(sets.values()), plan.l2, start, measure=truth)
    found = []
    if DATAMODELLING in wanted.measures:
        found += datamodelling(values, game, wanted.subsets, wanted.share, plan.seed)
    if REMOVAL in wanted.measures:
        found += removal(values, game, wanted.orders, plan.seed)
    return found


def _reads_weights(method: Appraiser) -> bool:
    """Return whether the method's values are made of the weights of the linear model that is trained."""
    return method.uses_model and not isinstance(method, MlpFinetuning)


def _randomised(
    wanted: Evaluation, plan: Plan, buyer: ModelOwnerInput, sets: dict[str, Dataset], classes: int
) -> list[Measured]:
    methods = [method for method in plan.methods if method.name not in ERRORS]
    reason = "The method reads no linear model, so that its values do not depend on one."
    skipped = {method.name: reason for method in methods if not _reads_weights(method)}
    kept = [method for method in methods if method.name not in skipped]
    if not kept:
        return randomised(None, lambda model: {}, skipped)
    model = prepare(buyer, plan, classes, ()).model
    train, test = (data.with_classes(classes) if data else None for data in (buyer.train, buyer.test))

    def valued(model: LinearModel) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for method in kept:
            owned = method.prepare(model, train, test)
            found[method.name] = {
                name: plaintext_of(method, owned, Facts.of(model, train, test, data), data)[0]
                for name, data in sets.items()
            }
        return found

    return randomised(model, valued, skipped, wanted.models, plan.seed)
