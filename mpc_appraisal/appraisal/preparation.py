"""The work that each owner does in the clear before anything is shared. Private runs and the baseline both use it.

In go one owner's input, the plan and the public facts (sizes, the number of classes). Out come the data owner's rows,
clipped to the length that the release prescribes, the model owner's trained model with its input to each method, and,
once both owners have published their norms (bounds on the lengths of rows and weights), the public bound on logits with
the facts that the norms complete. A candidate is one data set of the data owner. Nothing here sends anything, and this
has to stay so. `party` and `sessions` call the same functions, so that a change here holds for private runs and for the
baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from mpc_appraisal.appraisal.integers import suits
from mpc_appraisal.appraisal.norms import check_norms, row_norm, with_norms
from mpc_appraisal.appraisal.plan import READ_ROWS, DataOwnerInput, MethodInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Resolution, StoredDataset, files, rounding_of
from mpc_appraisal.data.resolution import rounded
from mpc_appraisal.methods import Appraiser, Facts, plaintext_of
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.ring.fixed_point import check_range
from mpc_appraisal.release.base import Release
from mpc_appraisal.release.description import GroupBound
from mpc_appraisal.release.dp.clipping import clipped, row_norms


@dataclass(frozen=True)
class Prepared:
    """What the model owner has computed in the clear.

    Attributes:
        model: The model that the model owner brought, or that it trained; zeros where no method reads a model.
        train: Its training rows with the model's number of classes, or None.
        test: Its test rows with the model's number of classes, or None.
        inputs: What it brings to each method, by method's name.
        seconds: The seconds of the fit and of the method's preparation together, by method's name.
    """

    model: LinearModel
    train: Dataset | None
    test: Dataset | None
    inputs: dict[str, MethodInput]
    seconds: dict[str, float]

    def check_range(self, ratio: float = 1.0) -> None:
        """Raise InputError for a tensor that fixed point cannot hold once it is divided by `ratio`."""
        for name, own in self.inputs.items():
            for key, values in own.tensors.items():
                check_range(values if ratio == 1.0 else values / ratio, f"{key} of {name}")

    def plaintext(self, method: Appraiser, candidate: Dataset) -> tuple[float, float]:
        """Return the baseline (value, paper_value) of one candidate by one method, in float64 and in the clear.

        candidate: rows with the model's number of classes.
        """
        facts = Facts.of(self.model, self.train, self.test, candidate)
        return plaintext_of(method, self.inputs[method.name].tensors, facts, candidate)


def prepare(own: ModelOwnerInput, plan: Plan, classes: int, methods: Sequence[Appraiser] | None = None) -> Prepared:
    """Train the model where none was brought and a method reads it, and compute what each method needs.

    Args:
        own: The model owner's input.
        plan: What all parties state alike.
        classes: The number of classes that both sides agreed on.
        methods: The methods of the plan to prepare; None prepares all of them.

    Raises:
        InputError: A method lacks rows, or the release lacks a threshold.
    """
    meter, inputs = Meter(), {}
    methods = plan.methods if methods is None else methods
    with meter.phase("fit"):
        train, test = (data.with_classes(classes) if data else None for data in (own.train, own.test))
        model = own.model or (plan.fit(train) if uses_model(plan.methods) else unfitted(train, classes, plan))
    for method in methods:
        with meter.phase(method.name):
            method.require(train, test)
            tensors = method.prepare(model, train, test)
        threshold = own.threshold_of(method.name) if plan.release.description.threshold else None
        inputs[method.name] = MethodInput(tensors, threshold)
    seconds = {m.name: meter.seconds["fit"] + meter.seconds[m.name] for m in methods}
    return Prepared(model, train, test, inputs, seconds)


def uses_model(methods: Sequence[Appraiser]) -> bool:
    """Return whether a method reads the model, so that one is trained where none was brought."""
    return any(method.uses_model for method in methods)


def unfitted(train: Dataset, classes: int, plan: Plan) -> LinearModel:
    """Return a model of zeros, which states the sizes where no method reads the model and none is trained."""
    least, most = plan.model.columns
    outputs = min(max(classes, least), most)
    return plan.model(torch.zeros(train.features + 1, outputs, dtype=torch.float64), plan.l2)


def classes_of(own: ModelOwnerInput, plan: Plan) -> int:
    """Return the number of classes of a given model, or of the model that will be trained."""
    return own.classes if own.model is not None else max(own.classes, plan.classes or 0)


def transformed(own: OwnInput, plan: Plan, classes: Mapping[str, int]) -> OwnInput:
    """Return the data owner's rows, rounded as it states and clipped to the length that the release prescribes.

    Any other input is returned as it is. Rows are rounded where they can be shared as integers. Where no method
    reads labels, a label that the model has no class for is taken for its last class: the model owner's rows may have
    no labels at all.

    classes: the model's number of classes, by candidate's name.
    """
    if not isinstance(own, DataOwnerInput):
        return own
    if not any(method.uses_labels for method in plan.methods):
        own = replace(own, candidates=tuple(_within(c, classes[c.name]) for c in own.candidates))
    rounds = rounding_of(own.resolution)
    if rounds is not None and suits(plan):
        own = replace(own, candidates=tuple(_rounded(c, rounds) for c in own.candidates))
    described = plan.release.description
    clip = partial(clipped, norm=described.row_norm, target_norm=described.target_norm, group=described.group)
    return replace(own, candidates=tuple(clip(c, classes=classes[c.name]) for c in own.candidates))


def check_persons(candidates: Sequence[Dataset | StoredDataset], bound: GroupBound | None) -> None:
    """Raise InputError for rows of no stated persons, or of a person with more rows than `bound` says.

    None checks nothing. The data owner checks this when it reads its data, before it meets anybody.
    """
    if bound is not None:
        for candidate in candidates:
            row_norms(candidate.groups, bound, bound.norm, f"party.data ({candidate.name})")


def _rounded(data: Dataset | StoredDataset, rounds: Resolution) -> Dataset | StoredDataset:
    return files.transformed(data, partial(rounded, rounds=rounds, name=f"party.data ({data.name})"), data.classes)


def _within(data: Dataset | StoredDataset, classes: int) -> Dataset | StoredDataset:
    return data if data.classes <= classes else files.transformed(data, lambda x: x, classes)


def check_candidates(own: DataOwnerInput, facts: Mapping[str, Facts]) -> float:
    """Return a bound on the length of all candidates' rows, at least 1, as `row_norm` gives it; all rows are read once.

    Raises InputError for a label that the model has no class for, or a number that fixed point cannot hold.
    """
    longest = 1.0
    for candidate in own.candidates:
        known = facts[candidate.name].classes
        if candidate.classes > known:
            expected = f"labels from 0 to {known - 1}: the model has {known} classes"
            raise InputError(f"party.data ({candidate.name})", f"a label {candidate.classes - 1}", expected)
        for block in candidate.blocks(READ_ROWS):
            check_range(block.x, f"party.data ({candidate.name})")
            if candidate.numeric:
                check_range(block.y, f"the target of party.data ({candidate.name})")
            longest = max(longest, row_norm(block.x))
    return longest


def announce(release: Release, inputs: Mapping[str, MethodInput]) -> tuple[dict[str, MethodInput], dict[str, float]]:
    """Return the model owner's inputs as the release lets them be shared, and the norms that the release announces
    about them.

    inputs: by method's name; empty at the other parties.
    """
    tensors, norms = release.announce({name: one.tensors for name, one in inputs.items()})
    return {name: replace(one, tensors=tensors[name]) for name, one in inputs.items()}, norms


def fitted_to_norms(
    plan: Plan, facts: dict[str, Facts], published: Mapping[str, dict[str, float]]
) -> tuple[float, dict[str, Facts]]:
    """Return the bound on logits, and the facts with the published norms.

    published: the norms that each owner has published, by role. Raises the InputError of `check_norms`: since
    the norms are public, every party raises it.
    """
    bound = check_norms(published, plan, facts)
    return bound, with_norms(facts, published, bound, plan)
