"""Which methods, metrics and releases serve which model, and whether both owners' targets are what the model takes.

In go the plan and one owner's input; nothing comes out, or an InputError before anything is shared. Every party makes
the check of the plan alike, and each owner that of its own rows. What is refused here has no meaning for the model; a
combination that gets one is taken off the list below, and off the table of docs/models.md.
"""

from __future__ import annotations

from mpc_appraisal.appraisal.covered import check_covered
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan, check_labelled
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.targets import NUMBER, TWO
from mpc_appraisal.methods import MlpFinetuning
from mpc_appraisal.models.links import IDENTITY, SOFTMAX

WANTED = {NUMBER: "a numeric target (in Python, Dataset.of(x, y, target='number'))", TWO: "labels 0 and 1"}
SERVED = "model=softmax_regression"


def check_supported(plan: Plan) -> None:
    """Raise InputError where a method, its metric, the release or the engine does not serve the model of the plan.

    A check of messages is refused where it does not cover the plan.
    """
    check_covered(plan)
    model, described = plan.model, plan.release.description
    if described.noised and model.link is IDENTITY and described.target_norm is None:
        expected = "a public bound on the size of the target, which both sides' targets are measured by"
        raise InputError("release.target_norm", None, f"{expected}, for dp with model={model.name}")
    if described.target_norm is not None and model.link is not IDENTITY:
        expected = f"null: model={model.name} has labels and no numbers to clip"
        raise InputError("release.target_norm", described.target_norm, expected)
    if model.link is SOFTMAX:
        return
    for method in plan.methods:
        if isinstance(method, MlpFinetuning):
            expected = f"{SERVED}: the perceptron's own loss is a cross-entropy of classes"
            raise InputError("appraisal", f"{method.name} with model={model.name}", expected)
        if model.link is IDENTITY and method.measure.stated is not None:
            method.measure.check_numbers()


def check_targets(own: OwnInput, plan: Plan) -> None:
    """Raise InputError for rows or a model that are not of the plan's kind of target."""
    kind = plan.model
    if isinstance(own, ModelOwnerInput):
        if own.model is not None and type(own.model) is not kind:
            raise InputError("party.model", f"a {own.model.name}", f"a {kind.name}, as model={kind.name} says")
        parts = {"party.train": own.train, "party.test": own.test}
    elif isinstance(own, DataOwnerInput):
        parts = {f"party.data ({c.name})": c for c in own.candidates}
    else:
        return
    check_labelled(plan.methods, parts)
    for name, part in parts.items():
        if part is None:
            continue
        if not part.labelled and kind.target == NUMBER and not part.numeric:
            expected = "Dataset.of(x, None, target='number'), for model=" + kind.name
            raise InputError(name, "rows without a target, as for classes", expected)
        found = "a numeric target" if part.numeric else f"labels of {part.classes} classes"
        if kind.target == NUMBER and not part.numeric or kind.target == TWO and (part.numeric or part.classes != 2):
            raise InputError(name, found, f"{WANTED[kind.target]}, for model={kind.name}")
        if kind.link is SOFTMAX and part.numeric:
            raise InputError(name, found, "labels 0, 1, 2, ..., or model=linear_regression")
