"""Whether both sides' data fit together where one process holds them: for session=plain and session=spawn.

In go both owners' inputs and the plan; out come the same inputs with equal numbers of classes and equal orders of
columns, and the findings, which are sentences on what was compared and what looks wrong. In the code the model owner is
also the buyer, the data owner the seller, and a candidate one data set of the seller. The rules are those that `party`
applies to the messages of connected parties. A rule has to change in both, because data that one process accepts should
be accepted between organisations too.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch

from mpc_appraisal.appraisal.compared import (
    Data,
    Finding,
    classes_findings,
    counted,
    fitted,
    kept,
    names_findings,
    refuse_scale,
    rows_by_class,
    scale_findings,
    sentences,
    statistics_findings,
)
from mpc_appraisal.appraisal.names import Match, match, published
from mpc_appraisal.appraisal.norms import published_norms
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan, check_classes
from mpc_appraisal.appraisal.tasks import check_targets
from mpc_appraisal.common.errors import DisagreementError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.common.text import printable


def together(
    buyer: ModelOwnerInput, seller: DataOwnerInput, plan: Plan
) -> tuple[ModelOwnerInput, DataOwnerInput, list[Finding]]:
    """Return both inputs with one number of classes, columns and labels in the model owner's order, and the findings.

    Warnings go to standard error.

    Args:
        buyer: The model owner's input.
        seller: The data owner's input.
        plan: What the parties would state alike.

    Raises:
        NamesError: The sides' names of columns or classes differ.
        DisagreementError: The sides' numbers of features differ, or an owner refuses the scale of the rows.
        InputError: `check_classes` refuses the model owner's input.
    """
    check_targets(buyer, plan)
    check_targets(seller, plan)
    check_classes(buyer)
    classes = max(buyer.classes, plan.classes or 0)
    if buyer.model is None:
        buyer = replace(buyer, **{part: _lifted(getattr(buyer, part), classes) for part in ("train", "test")})
    message = published(buyer.names, buyer.controls.names) | {"classes": classes}
    matches = {
        c.name: match(
            message, {"name": c.name} | published(names, seller.controls.names), (buyer.names, names), buyer.same
        )
        for c, names in zip(seller.candidates, seller.names, strict=True)
    }
    seller = in_order(seller, matches, classes)
    features = buyer.model.features if buyer.model is not None else (buyer.train or buyer.test).features
    for candidate in seller.candidates:
        if candidate.features != features:
            raise DisagreementError(
                f"features: {features} at {MODEL_OWNER}, {candidate.features} at {DATA_OWNER} in {candidate.name!r}; "
                "expected the same number"
            )
    if buyer.same:
        return buyer, seller, []
    findings = names_findings(matches, buyer.train is not None)
    findings += [] if classes == 1 else _classes(buyer, seller, plan, classes)
    findings += _scale(buyer, seller, plan, classes)
    for controls in (buyer.controls, seller.controls):
        refuse_scale(findings, controls.scale)
    findings = kept(findings, buyer.controls.scale)
    listings = {one.name: one for one in (*buyer.controls.listings, *seller.controls.listings) if one is not None}
    for name, fit in matches.items():
        findings += statistics_findings(name, listings.get(name), buyer.rows, fit, buyer.names)
    say([one for one in findings if one.warning], matches)
    return buyer, seller, findings


def in_order(own: OwnInput, matches: Mapping[str, Match], classes: int) -> OwnInput:
    """Return the data owner's rows in the model owner's order of columns and with its labels; any other input as it is.

    matches: by candidate's name. classes: the model's number of classes.
    """
    if not isinstance(own, DataOwnerInput):
        return own
    sources = own.sources or (None,) * len(own.candidates)
    sets = (fitted(c, source, matches[c.name], classes) for c, source in zip(own.candidates, sources, strict=True))
    return replace(own, candidates=tuple(sets))


def without_rows(data: Data, classes: int, key: str, aloud: bool) -> int:
    """Return the number of classes that have no row.

    Args:
        data: One owner's rows.
        classes: The model's number of classes.
        key: What the owner calls these rows, for the warning.
        aloud: Whether the counts of rows by class are printed where a class has no row.
    """
    counts = rows_by_class(data, classes)
    lacking = counts.count(0)
    if lacking and aloud:
        print(f"warning: {printable(counted(counts, key))}", file=sys.stderr, flush=True)
    return lacking


def say(findings: Sequence[Finding], candidates: Collection[str]) -> None:
    """Print the sentences of the findings to standard error, each once."""
    for text in sentences(findings, candidates):
        print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


def _lifted(data: Data | None, classes: int) -> Data | None:
    return data if data is None or data.classes == classes else data.with_classes(classes)


def _classes(buyer: ModelOwnerInput, seller: DataOwnerInput, plan: Plan, classes: int) -> list[Finding]:
    labels = any(method.uses_labels for method in plan.methods)
    own = without_rows(buyer.train, classes, "train", True) if buyer.train is not None and labels else None
    theirs = {c.name: without_rows(c, classes, f"data ({c.name})", labels) for c in seller.candidates}
    messages = {
        MODEL_OWNER: {"without_rows": own},
        DATA_OWNER: {"without_rows": None if plan.release.description.noised or not labels else theirs},
    }
    return classes_findings(messages, theirs, classes)


def _scale(buyer: ModelOwnerInput, seller: DataOwnerInput, plan: Plan, classes: int) -> list[Finding]:
    features = seller.candidates[0].features
    rows = sum(part.rows for part in (buyer.train, buyer.test) if part is not None)
    names = [c.name for c in seller.candidates]
    if plan.release.description.noised:
        return scale_findings({}, names, True, rows)
    no_weights = torch.zeros(features + 1, classes, dtype=torch.float64)
    norms = {
        MODEL_OWNER: published_norms(MODEL_OWNER, buyer, no_weights, {}, plan),
        DATA_OWNER: published_norms(DATA_OWNER, seller, None, {}, plan),
    }
    return scale_findings(norms, names, False, rows)
