"""`appraise`: the appraisal in one call from Python, and the values that are compared with it.

In go both sides' data, or with a `Join` the data of this organisation alone. Out comes a `Result`, which holds one
`Record` for each method and candidate. A candidate is one data set of the data owner (in the code also: seller), whose
value for the model of the model owner (also: buyer) is computed. Where both sides are at hand, each private value
stands beside the plaintext value, which is computed in the clear in float64, and beside baselines such as retraining.

`SESSIONS`, `RELEASES` and the signature of `appraise` are the package's public interface: names may be added, and none
may be renamed. The configuration that `_plan` makes may change only at all parties at once, which compare its hash.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any

from mpc_appraisal.appraisal.argument_names import by_argument
from mpc_appraisal.appraisal.compared import warnings_of
from mpc_appraisal.appraisal.evaluation import Evaluation, as_evaluation, evaluated
from mpc_appraisal.appraisal.given_data import Own, candidates_of, count_of_labels, names_of_classes, own_data
from mpc_appraisal.appraisal.given_model import check_given
from mpc_appraisal.appraisal.named_objects import as_release, as_session
from mpc_appraisal.appraisal.plan import (
    DataOwnerInput,
    DisclosureControls,
    ModelOwnerInput,
    Plan,
    check_labelled,
    needs,
)
from mpc_appraisal.appraisal.preparation import Prepared, check_persons, classes_of, prepare, transformed, uses_model
from mpc_appraisal.appraisal.sessions import Join, Session
from mpc_appraisal.appraisal.sides import together
from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.data import Dataset, Recipe, check_gaps
from mpc_appraisal.data.naming import alike
from mpc_appraisal.data.resolution import AUTO
from mpc_appraisal.data.scaling import out_of_scale
from mpc_appraisal.data.scenarios import Candidate
from mpc_appraisal.data.targets import CLASSES
from mpc_appraisal.methods import (
    Appraiser,
    Baseline,
    Coalitions,
    Random,
    Retraining,
    Valuation,
    as_baselines,
    as_methods,
)
from mpc_appraisal.methods.metrics import Measure
from mpc_appraisal.models.base import LinearModel, check_l2
from mpc_appraisal.models.scikit_learn import from_estimator, is_estimator, own_l2, stated_model
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import FITS
from mpc_appraisal.mpc.net.launch import Emit
from mpc_appraisal.release import Release
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result

CONTROLS = "with a Join mpc_appraisal.DisclosureControls(...), which may be empty; with other sessions none"
STANDARDISE = "standardise them by a recipe (`mpc-appraisal recipe infer`), or before they are given."
L2 = 1e-2  # where neither the caller nor an estimator states one


@by_argument()
def appraise(
    data: Own | Mapping[str, Own] | Sequence[Dataset] | Sequence[Candidate] | None = None,
    *,
    train: Own | None = None,
    test: Own | None = None,
    model: LinearModel | str | Any = None,
    method: str | Appraiser | Sequence[str | Appraiser] = "influence",
    session: str | Session = "spawn",
    l2: float | None = None,
    seed: int = 0,
    release: str | Release = "value",
    threshold: float | Mapping[str, float] | None = None,
    controls: DisclosureControls | None = None,
    true_utility: bool = False,
    baselines: Collection[str | Baseline] = (),
    progress: Emit | None = None,
    recipe: Recipe | None = None,
    evaluate: Evaluation | str | Collection[str] | None = None,
    target: str | None = None,
    resolution: Any = AUTO,
) -> Result:
    """Appraise data sets for a model owner, privately.

    Args:
        data: The data owner's side: a `Dataset`, arrays (x, y), a mapping from a name to either, or several of them.
        train: The model owner's training rows: a `Dataset`, or arrays x of shape (n, d) and y of shape (n,), whose
            values are what the model takes: integers from 0, numbers, or two classes; None where no method reads
            labels ('relevance' and 'diversity' read none). Columns are matched by name where
            x is a pandas DataFrame at both sides; otherwise they go by position, and the result says so.
        test: The model owner's test rows, in the same form.
        model: A trained model in place of `train`, where the method allows it. Beside `train` it has to be a minimum on
            those rows; see `given_model`. Or the kind of model to train: 'softmax_regression', which None means too,
            'linear_regression' or 'logistic_regression'. Or an estimator of scikit-learn (`models.scikit_learn`), which
            is fitted on `train` where it was not fitted.
        method: 'gradient_norm', 'finetuning', 'influence', 'relevance', 'diversity', an `Appraiser`, or several. Where
            'influence_error' stands beside 'influence', each value of influence gets a 95% interval, `Result.margin`.
        session: 'spawn' runs three processes here, 'plain' computes in the clear (the baseline), and a session object
            does what it states. With a `Join` this organisation's own side alone is given.
        l2: The public weight of the squared norm of the weights in the objective. None takes that of an estimator of
            scikit-learn, and else, and with a `Join`, 0.01.
        seed: The public seed of public choices, such as batches.
        release: What is opened: 'value', 'bit', or an object of `mpc_appraisal.release` as `Value(to="model_owner")`.
        threshold: The model owner's least value worth buying, where a bit is released, or one value by method's name.
        controls: With a `Join` only: this side's ledgers, approval and listings. `DisclosureControls()` has none.
        true_utility: Whether to retrain with each candidate in the clear too, which no market could do.
        baselines: 'leave_one_out' and 'shapley' of all candidates together, in the clear, by name or as objects.
        progress: A function that is called with events {"done", "of", "method", "candidate"}.
        recipe: What makes features of raw tables, at all parties alike; data may then be paths or DataFrames. Its
            digest is compared before anything else, and stands in the records.
        evaluate: Which measures of how well the values serve are computed in the clear too, for `Result.measured`:
            'all', names of `methods.evaluation`, or an `Evaluation`. It needs both sides' data: no `Join`.
        target: The name of the column with labels or numbers, where `data`, `train` and `test` are pandas DataFrames.
            Labels may be texts, which are then the names of the classes.
        resolution: What the data owner states of the numbers of `data`, which is public where it is used: 'auto' looks
            for a scale with which all are integers, as 8-bit pixels / 255 are; 'off' looks for none; an integer is that
            scale; and {"bits": 8, "range": 4.0} rounds numbers within 4 to 8 bits.

    Returns:
        A `Result`, which shows itself as a table, can be indexed by candidate, and has `to_frame()`, `summary()`,
        `plot()`, `save()` and `report()`. A higher `value` is better.

    Raises:
        InputError: An argument is bad; the error names it.
        DisagreementError: The sides' columns or classes have different names.
        PeerError: A party failed or vanished.

    Warns UserWarning: Features of `train` are far larger than others, so that values may be wrong.
    """
    methods, seed, release = as_methods(method), check_seed(seed), as_release(release)
    l2 = None if l2 is None else check_l2(l2)
    baseline_methods = as_baselines(baselines, seed)
    if isinstance(session, Join) != (controls is not None):
        raise InputError("controls", controls, CONTROLS)
    controls = controls or DisclosureControls()
    if recipe is not None and not isinstance(recipe, Recipe):
        raise InputError("recipe", type(recipe).__name__, "a Recipe, as Recipe.load(path) returns it, or None")
    kind, given = stated_model(model, count_of_labels(train, recipe, target))
    named = names_of_classes((train, test), target) if kind.target == CLASSES else None
    own = {"train": train, "test": test}
    parts = {key: own_data(each, key, kind, recipe, target, named) for key, each in own.items()}
    if l2 is None:
        l2 = own_l2(given, parts["train"]) if is_estimator(given) and not isinstance(session, Join) else L2
    seller = DataOwnerInput(candidates_of(data, kind, recipe, target), controls, resolution=resolution)
    check_persons(seller.candidates, release.description.group)

    def emit(event: dict[str, Any]) -> None:
        if progress is not None and "done" in event:
            progress(event)

    levels = {c.name: c.level for c in data or () if isinstance(c, Candidate)} if isinstance(data, Sequence) else {}
    plan, wanted = _plan(methods, l2, seed, release, kind, recipe), as_evaluation(evaluate)
    if wanted.measures and isinstance(session, Join):
        raise InputError("evaluate", list(wanted.measures), "None with a Join, where nobody holds both sides' data")
    buyer = _buyer(parts, kind, given, l2, threshold, controls, _of_one_market(data), methods)
    result = run(as_session(session), plan, buyer, seller, emit, levels, true_utility, baseline_methods)
    return result.with_measured(evaluated(wanted, result, plan, buyer, seller, emit)) if wanted.measures else result


def _buyer(
    parts: Mapping[str, Dataset | None],
    kind: type[LinearModel],
    model: Any,
    l2: float,
    threshold: float | Mapping[str, float] | None,
    controls: DisclosureControls,
    same: bool,
    methods: Sequence[Appraiser],
) -> ModelOwnerInput:
    """Return the model owner's input. Raises InputError where a class has no training row, or columns differ."""
    check_labelled(methods, parts)
    rows, tested = parts["train"], alike(parts["train"], parts["test"], "test")
    if is_estimator(model):
        part = rows if rows is not None else tested
        features = part.features if part is not None else getattr(model, "n_features_in_", 0)
        model = from_estimator(model, rows, features, l2)
    buyer = ModelOwnerInput(rows, tested, model, threshold, controls, same=same)
    if model is None:
        check_gaps(buyer.train, "train")
    if rows is not None and (text := out_of_scale(rows, STANDARDISE)):
        warnings.warn(text, stacklevel=4)
    return buyer


def _plan(
    methods: tuple[Appraiser, ...],
    l2: float,
    seed: int,
    release: Release,
    kind: type[LinearModel] = SoftmaxRegression,
    recipe: Recipe | None = None,
) -> Plan:
    """Return the plan of one session, whose public configuration is made of these six."""
    public = {"methods": [repr(m) for m in methods], "l2": l2, "seed": seed, "release": repr(release)}
    public |= {} if kind is SoftmaxRegression else {"model": kind.name}
    public |= {} if recipe is None else {"recipe": recipe.digest}
    trains = partial(FITS[kind.name], l2=l2)
    return Plan(methods, l2, seed, config_hash(public), trains, public, release=release, model=kind)


def _of_one_market(data: Any) -> bool:
    """Return whether the candidates are those of one scenario, which draws both sides' rows from one data set."""
    listed = isinstance(data, Sequence) and not isinstance(data, str)
    return listed and len(data) > 0 and all(isinstance(each, Candidate) for each in data)


def run(
    session: Session,
    plan: Plan,
    buyer: ModelOwnerInput,
    seller: DataOwnerInput,
    emit: Emit,
    levels: Mapping[str, float],
    true_utility: bool,
    baselines: Sequence[Baseline] = (),
) -> Result:
    """Run `plan` in `session`. Where both sides are at hand, the plaintext values and baselines are added.

    Args:
        session: The kind of session.
        plan: What all parties state alike.
        buyer: The model owner's input; at another organisation it is empty.
        seller: The data owner's input; at another organisation it is empty.
        emit: A function that receives progress events.
        levels: The scenario's level of each candidate, by name, for its records.
        true_utility: Whether to retrain with each candidate in the clear too.
        baselines: The baseline methods to compute in the clear.

    Raises:
        InputError: An input lacks what a method or a baseline needs, or does not fit the plan.
        DisagreementError: The two sides' data or public facts differ.
        PeerError: A party failed or vanished.
    """
    if baselines:
        between = isinstance(session, Join)
        for key in ("train", "test"):
            if between or getattr(buyer, key) is None:
                lacks = "between organisations" if between else f"no {key} data"
                raise InputError("baselines", lacks, "both sides' data in one process, with train and test")
    if isinstance(session, Join):
        role = session.check()
        if role == "model_owner":
            needs(plan.methods, buyer)
        elif role == "data_owner" and not seller.candidates:
            raise InputError("party.data", None, "one or more data sets")
        own = {"model_owner": buyer, "data_owner": seller, "dealer": None}[role]
        read = (lambda role: check_given(buyer, plan)) if role == "model_owner" else lambda role: own
        return Result(session.run(plan, read, emit))
    needs(plan.methods, buyer)
    check_given(buyer, plan)
    if not seller.candidates:
        raise InputError("data", None, "one or more data sets to appraise")
    buyer, seller, findings = together(buyer, seller, plan)
    records = session.run(plan, buyer, seller, emit)
    records = [replace(one, warnings=warnings_of(findings, one.candidate)) for one in records]
    return Result(compare(records, plan, buyer, seller, levels, true_utility, baselines, emit))


def compare(
    records: Sequence[Record],
    plan: Plan,
    buyer: ModelOwnerInput,
    seller: DataOwnerInput,
    levels: Mapping[str, float],
    true_utility: bool,
    baselines: Sequence[Baseline],
    emit: Emit,
) -> list[Record]:
    """Add to the records what an experimenter with both sides' data can compute in the clear.

    Returns these records and the baselines' records. The arguments are those of `run`.
    """
    parts = (buyer.train, buyer.test, *seller.candidates)
    if baselines and not all(part.labelled for part in parts if part is not None):
        raise InputError("baselines", "rows without labels", "labels on both sides, which models are trained on")
    retrain = true_utility and all(part is not None and part.labelled for part in parts)
    lacking = {record.method for record in records if record.plaintext_value is None}
    methods = {m.name: m for m in plan.methods if m.name in lacking}
    measures = {m.name: m.measure for m in plan.methods}
    # What the baselines measure: the metric of all methods, or else the mean test loss.
    truth = plan.methods[0].measure if len(set(measures.values())) == 1 else Measure()
    utilities: dict[Measure, dict[str, float]] = {}
    valuations: dict[str, Valuation] = {}
    if methods or retrain or baselines:  # the records of a plain session hold their plaintext values already
        classes = classes_of(buyer, plan)
        prepared = prepare(buyer, plan, classes, tuple(methods.values()))
        seller = transformed(seller, plan, {c.name: classes for c in seller.candidates})
        sets = {c.name: c.with_classes(classes) for c in seller.candidates}
        sides = prepared.train, prepared.test
        start = _fitted(buyer, plan, prepared)
    if retrain:
        retraining = Retraining(*sides, plan.l2, start)
        asked = [(measure, name) for measure in dict.fromkeys([truth, *measures.values()]) for name in sets]
        for k, (measure, name) in enumerate(asked):
            utilities.setdefault(measure, {})[name] = retraining.value(sets[name], measure)
            emit({"done": k + 1, "of": len(asked), "method": "retraining", "candidate": name})
    if baselines:
        game = Coalitions(*sides, list(sets.values()), plan.l2, start, measure=truth)
        valuations = {one.name: one.values(game, emit) for one in baselines}
    compared = []
    for record in records:
        value = record.plaintext_value
        if value is None:
            value, _ = prepared.plaintext(methods[record.method], sets[record.candidate])
        compared.append(
            replace(
                record,
                plaintext_value=value,
                difference=None if record.value is None else record.value - value,
                level=levels.get(record.candidate),
                utility=utilities.get(measures[record.method], {}).get(record.candidate),
            )
        )
    return compared + _baselines(compared, utilities.get(truth, {}), valuations, plan.seed, truth)


def _fitted(buyer: ModelOwnerInput, plan: Plan, prepared: Prepared) -> LinearModel | None:
    """Return the fit on the training rows that baselines begin with; None where they shall make it themselves."""
    if buyer.model is None and uses_model(plan.methods):
        return prepared.model
    return None if plan.model is SoftmaxRegression or prepared.train is None else plan.fit(prepared.train)


def _baselines(
    records: Sequence[Record],
    utilities: Mapping[str, float],
    valuations: Mapping[str, Valuation],
    seed: int,
    truth: Measure,
) -> list[Record]:
    """Return one record for each baseline method and candidate, in the form of the private records.

    truth: the metric by which `utilities` and `valuations` are measured.
    """
    one, random = {r.candidate: r for r in records}, Random(seed)
    values = {"retraining": utilities} if utilities else {}
    values |= {method: valuation.values for method, valuation in valuations.items()}
    values |= {"random": {name: random.value() for name in one}} if utilities else {}
    trust = "Computed in the clear from both sides' data: no privacy."
    plain = {
        "session": "plain",
        "engine": "plaintext",
        "role": "everybody",
        "bytes_sent": {},
        "seconds": {},
        "rounds": 0,
        "openings": (),
        "failure_probability": None,
        "error_bound": None,
        "error_note": None,
        "estimate": None,
        "paper_value": None,
        "difference": None,
        "metric": truth.stated,
        **dict.fromkeys(("release", "listing", "request", "budget", "resolution")),
    }
    stated = {method: f"{trust} {valuation.words}" for method, valuation in valuations.items()}
    return [
        replace(
            one[c],
            method=method,
            value=v,
            plaintext_value=v,
            utility=utilities.get(c),
            trust=stated.get(method, trust),
            **plain,
        )
        for method, by_candidate in values.items()
        for c, v in by_candidate.items()
    ]


def check_seed(seed: Any) -> int:
    """Return `seed` as an integer. Raises InputError unless it is an integer of 0 or more."""
    return int(integer("seed", seed, 0, kind=Integral))
