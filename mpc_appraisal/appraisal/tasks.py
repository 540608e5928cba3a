"""Which methods, releases and engines serve which model, and whether both owners' targets are what the model takes.

In go the plan and one owner's input; nothing comes out, or an InputError before anything is shared. Every party makes
the check of the plan alike, and each owner that of its own rows. What is refused here has no formula, no sensitivity
or no check for a model without a softmax; a combination that gets one is taken off the list below.
"""

from __future__ import annotations

from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.targets import NUMBER, TWO
from mpc_appraisal.methods import MlpFinetuning
from mpc_appraisal.models.links import IDENTITY, LOGISTIC, SOFTMAX

WANTED = {NUMBER: "a numeric target (in Python, Dataset.of(x, y, target='number'))", TWO: "labels 0 and 1"}
SERVED = "model=softmax_regression"


def check_supported(plan: Plan) -> None:
    """Raise InputError where a method, its metric, the release or the engine does not serve the model of the plan."""
    model, engine = plan.model, plan.engine
    if model.link is SOFTMAX:
        return
    for method in plan.methods:
        if isinstance(method, MlpFinetuning):
            expected = f"{SERVED}: the perceptron's own loss is a cross-entropy of classes"
            raise InputError("appraisal", f"{method.name} with model={model.name}", expected)
        if model.link is IDENTITY and method.measure.stated is not None:
            method.measure.check_numbers()
    if plan.release.description.noised:
        expected = f"{SERVED}: no sensitivity is derived for another loss"
        raise InputError("release", f"{plan.release.description.kind} with model={model.name}", expected)
    if engine == "rtas" or (engine == "stock" and model.link is LOGISTIC):
        expected = f"fast, or {SERVED}"
        raise InputError("session.engine", f"{engine} with model={model.name}", expected)


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
    for name, part in parts.items():
        if part is None:
            continue
        found = "a numeric target" if part.numeric else f"labels of {part.classes} classes"
        if kind.target == NUMBER and not part.numeric or kind.target == TWO and (part.numeric or part.classes != 2):
            raise InputError(name, found, f"{WANTED[kind.target]}, for model={kind.name}")
        if kind.link is SOFTMAX and part.numeric:
            raise InputError(name, found, "labels 0, 1, 2, ..., or model=linear_regression")
