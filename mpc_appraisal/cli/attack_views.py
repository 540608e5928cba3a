"""The views that an appraisal leaves, from which attacks on it begin.

    helper           on the engine rtas: logits of all candidates' rows, permuted
    masked_product   on the engine stock: messages that torch's generator masks
    answers          where the data owner learns values or bits of the gradient norm: they depend on rows that it makes
    offers           where sellers choose what they offer, and the value says which of them are bought

In go a plan, a session, and what the model owner has prepared in the clear. Out come the names of the views, and one
view by its name. An appraisal of rows without class labels leaves none of answers and offers. Nothing here is sent or
stored, because views hold private rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from mpc_appraisal.appraisal.plan import BLOCK_ROWS, DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.preparation import Prepared, classes_of, prepare, transformed, uses_model
from mpc_appraisal.cli.opened_answers import answers_of
from mpc_appraisal.common.roles import DATA_OWNER
from mpc_appraisal.data import Dataset, StoredDataset, with_bias
from mpc_appraisal.data.targets import CLASSES
from mpc_appraisal.methods import Appraiser, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.backends.rtas import NAME as RTAS
from mpc_appraisal.transformations.views import HelperView, MaskedProductView, OffersView

HELPER, MASKED_PRODUCT, ANSWERS, OFFERS = "helper", "masked_product", "answers", "offers"
MOST_ROWS = 10_000  # the most rows from which an attack begins that is not on whole candidates
STOCK = "stock"  # CrypTen as shipped, whose masks torch's generator draws
INFLATED = (GradientNorm.name, Influence.name, Finetuning.name)  # the methods whose inflation is known
OPENED = ("value", "bit", "dp")  # the releases whose answers give the model away


def shown(plan: Plan, session: Any) -> tuple[str, ...]:
    """Return the names of the views that an appraisal leaves."""
    methods = {method.name for method in plan.methods}
    labelled = plan.model is not None and plan.model.target == CLASSES
    described = plan.release.description
    told = described.kind in OPENED and DATA_OWNER in described.learners
    found = {
        HELPER: session.engine == RTAS and labelled and any(method.uses_labels for method in plan.methods),
        MASKED_PRODUCT: session.engine == STOCK and uses_model(plan.methods),
        ANSWERS: told and plan.model is SoftmaxRegression and GradientNorm.name in methods,
        OFFERS: labelled and bool(methods & set(INFLATED)),
    }
    return tuple(name for name, left in found.items() if left)


def prepared_sides(plan: Plan, buyer: ModelOwnerInput, seller: DataOwnerInput) -> tuple[Prepared, list[Dataset]]:
    """Return what the model owner prepares, and the candidates as they are appraised; files are read whole."""
    classes = classes_of(buyer, plan)
    candidates = transformed(seller, plan, {c.name: classes for c in seller.candidates}).candidates
    return prepare(buyer, plan, classes), [_whole(c.with_classes(classes)) for c in candidates]


def view_of(name: str, plan: Plan, prepared: Prepared, candidates: Sequence[Dataset], rounded: bool) -> Any:
    """Return one view by its name.

    Args:
        name: One of the names that `shown` returned.
        plan: What all parties state alike.
        prepared, candidates: What `prepared_sides` returned.
        rounded: Whether what is opened is rounded to fixed point, as in a private session.
    """
    rows = rows_of(candidates)
    if name == HELPER:
        return _helper(prepared, rows)
    if name == MASKED_PRODUCT:
        largest = max(candidates, key=lambda each: each.rows)
        x = with_bias(largest.x[:MOST_ROWS].to(torch.float64))
        return MaskedProductView(x, prepared.model.theta.to(torch.float64))
    if name == ANSWERS:
        return answers_of(plan, prepared, rows, rounded)
    valued = {m.name: partial(_value, prepared, m) for m in plan.methods if m.name in INFLATED}
    return OffersView(valued, tuple(candidates), prepared.train or rows, plan.l2)


def rows_of(candidates: Sequence[Dataset]) -> Dataset:
    """Return rows of all candidates together, at most MOST_ROWS, the first ones of each and as many of each."""
    most = max(1, MOST_ROWS // len(candidates))
    x, y = (torch.cat([part[:most] for part in parts]) for parts in zip(*((c.x, c.y) for c in candidates), strict=True))
    return Dataset(x, y, candidates[0].classes)


def _whole(data: Dataset | StoredDataset) -> Dataset:
    if isinstance(data, Dataset):
        return data
    blocks = list(data.blocks(BLOCK_ROWS))
    return Dataset(torch.cat([b.x for b in blocks]), torch.cat([b.y for b in blocks]), data.classes, data.name)


def _helper(prepared: Prepared, rows: Dataset) -> HelperView:
    """Return what the helper is shown of the candidates: logits, or one logit a row where the model has one output."""
    logits = prepared.model.logits
    hidden = "columns" if logits(rows.x[:1]).shape[1] > 1 else "entries"
    return HelperView(hidden, logits, lambda: logits(rows.x)[None], rows, prepared.test or prepared.train)


def _value(prepared: Prepared, method: Appraiser, data: Dataset) -> float:
    return prepared.plaintext(method, data)[0]
