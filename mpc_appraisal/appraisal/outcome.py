"""One finished session at one owner, and the records that the owner keeps of it.

In go the agreement, the results of the joint computation and every party's costs. Out comes one `Record`, a line of
JSON, for each method and candidate (one data set of the data owner). An outcome is what one party was shown: a value, a
bit or a rank. The fields of a record are those of `reporting.record`; a field may be added there and filled here. A
record must hold no rows, no weights and no paths, because records are handed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpc_appraisal.appraisal.agreement import Agreed
from mpc_appraisal.appraisal.compared import Finding, warnings_of
from mpc_appraisal.appraisal.plan import ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.appraisal.program import Appraised
from mpc_appraisal.appraisal.settings import settings_of
from mpc_appraisal.common.provenance import revision, versions
from mpc_appraisal.common.roles import DEALER, MODEL_OWNER, OWNERS, ROLES
from mpc_appraisal.governance.approval.request import key_sentences
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.mpc.backends.cost_model import Rehearsal, forecasts
from mpc_appraisal.mpc.backends.registry import trust_of
from mpc_appraisal.mpc.net.meter import by_result
from mpc_appraisal.release.accuracy import Bound, error_bound
from mpc_appraisal.release.base import Outcome, Release
from mpc_appraisal.release.description import ReleaseDescription
from mpc_appraisal.release.dp.persons import cuts
from mpc_appraisal.reporting.record import Record

NORMAL_95 = 1.96  # 95% of normal noise is within so many standard deviations


@dataclass
class Run:
    """One session at one owner.

    Attributes:
        role: This party's role.
        plan: The plan that all parties state alike.
        facts: The public facts (sizes and norms) by candidate's name.
        listed: What each candidate's listing says, or None, by candidate's name.
        agreed: What the parties agreed on before anything was shared.
        seconds: The time of the owner's own work in the clear, by method's name.
        session: The name of the kind of session, which the records state.
        findings: How the two sides' data fit together.
        results: What was computed; empty where every answer was known.
        engine: The engine that computed the results; 'none' where nothing was computed.
        costs: Every party's message on its costs, by role.
        overlaps: What was counted of shared items before the appraisal, by candidate's name; empty without a count.
    """

    role: str
    plan: Plan
    facts: dict[str, Facts]
    listed: Mapping[str, dict[str, Any] | None]
    agreed: Agreed
    seconds: Mapping[str, float]
    session: str
    findings: tuple[Finding, ...] = ()
    results: list[Appraised] = field(default_factory=list)
    engine: str = "none"
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)
    overlaps: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def outcomes(self) -> dict[Key, Outcome]:
        """Return the outcomes by method and candidate, whether computed or taken from the ledger."""
        return self.agreed.answers | {(r.method.name, r.candidate): r.outcome for r in self.results}

    def records(self, own: OwnInput) -> list[Record]:
        """Return one record for each method and candidate, in the plan's order of methods. own: this owner's input."""
        computed = {(r.method.name, r.candidate): self._of_result(k) for k, r in enumerate(self.results)}
        found = []
        for method in self.plan.methods:
            for name in self.facts:
                facts = computed.get((method.name, name), {"openings": ()})
                found.append(self._record(method, name, own, facts))
        return found

    def _of_result(self, k: int) -> dict[str, Any]:
        """Return the fields of a record that only a computed answer has. k: the number of the result."""
        r, costs = self.results[k], self.costs
        sent = {name: costs[name]["bytes"] for name in OWNERS}
        sent[DEALER] = by_result(costs[DEALER]["bytes"], len(self.results))
        both = [Rehearsal(**each) for name in OWNERS for each in costs[name]["expected"]]
        forecast = forecasts(*both)[k].as_dict(costs[MODEL_OWNER]["rate"]) if both else None
        plaintext = {"plaintext": self.seconds[r.method.name]} if self.role == MODEL_OWNER else {}
        return {
            "seconds": r.cost.seconds | plaintext,
            "bytes_sent": {name: sent[name][k] for name in ROLES},
            "rounds": max(costs[name]["rounds"][k] for name in OWNERS),  # an owner that only sends counts no rounds
            "failure_probability": r.failure,
            "estimate": forecast,
            "openings": tuple(opening.as_dict() for opening in r.openings),
        }

    def _trust(self) -> str:
        """Return what the parties trusted; where they met at a relay, the dealer's key is named."""
        trust = trust_of(self.plan.engine, self.plan.integrity, self.plan.relayed)
        keys = self.agreed.request.content.get("keys")
        dealer = {DEALER: keys[DEALER]} if keys and DEALER in keys else {}
        return " ".join([trust, *(key_sentences(dealer) if dealer else [])])

    def _record(self, method: Appraiser, name: str, own: OwnInput, computed: dict[str, Any]) -> Record:
        f, key = self.facts[name], (method.name, name)
        outcome, agreed = self.outcomes()[key], self.agreed
        opened = outcome.opened
        ledgers = own.controls.ledgers if own is not None else None
        unsalted = isinstance(own, ModelOwnerInput) and own.controls.salt is None  # nobody could open the commitment
        release, described = self.plan.release, self.plan.release.description
        bound = error_bound(method, f, self.plan.engine, not described.noised, described.joint)
        return Record(
            method=method.name,
            candidate=name,
            value=None if opened is None else method.value(opened, f),
            paper_value=None if opened is None else method.paper_value(opened, f),
            n=f.rows,
            features=f.features,
            classes=f.classes,
            seed=self.plan.seed,
            versions=versions(),
            config_hash=self.plan.digest,
            revision=revision(),
            session=self.session,
            engine=self.engine,
            role=self.role,
            trust=self._trust(),
            error_bound=bound.value,
            error_note=bound.note,
            release=release_of(release, method, f, outcome, key in agreed.answers, bound),
            listing=self.listed.get(name),
            request={"id": agreed.request.id, "digest": agreed.request.digest, **agreed.approval}
            | {key: agreed.request.content[key] for key in ("purpose", "offer") if key in agreed.request.content},
            budget=ledgers.left(name) if ledgers is not None else None,
            warnings=warnings_of(self.findings, name),
            metric=method.measure.stated,
            recompute=terms_of(self.plan, method, None if unsalted else agreed.inputs),
            recipe=self.plan.public.get("recipe"),
            overlap=self.overlaps.get(name),
            resolution=None if f.resolution is None else f.resolution.as_dict(),
            settings=settings_of(self.plan, self.session),
            **computed,
        )


def terms_of(plan: Plan, method: Appraiser, inputs: str | None) -> dict[str, Any]:
    """Return the public facts that somebody who has all data needs to compute the value again; see `recompute`.

    inputs: the model owner's commitment to its inputs, or None where it keeps no salt, so that nobody could open it.
    """
    settings = method.settings
    if settings is not None and not all(isinstance(one, (int, float, str, type(None))) for one in settings.values()):
        settings = None
    return (
        {
            "l2": plan.l2,
            "settings": settings,
            "tolerance": plan.public.get("model.tolerance"),
            "mean": plan.public.get("standardise.mean"),
            "scale": plan.public.get("standardise.scale"),
            "features": plan.public.get("features.digest"),
            "row_norm": plan.release.description.row_norm,
            "inputs": inputs,
        }
        | ({} if plan.model.link is SOFTMAX else {"model": plan.model.name})
        | _by_person(plan.release.description)
    )


def _by_person(described: ReleaseDescription) -> dict[str, float]:
    """Return the bound on one person's rows where it cuts rows that the bound on single rows leaves as they are."""
    group = described.group
    return {"group_norm": group.norm} if group is not None and cuts(group, described.row_norm) else {}


def release_of(
    release: Release,
    method: Appraiser,
    f: Facts,
    outcome: Outcome,
    answered: bool = False,
    bound: Bound | None = None,
) -> dict[str, Any]:
    """Return what a record says of the release of one outcome.

    Args:
        release: The strategy that opened the outcome.
        method: The method that was released.
        f: The public facts of the candidate.
        outcome: What this party was shown.
        answered: Whether the answer was taken from the ledgers.
        bound: The bound on what fixed point adds to a value.
    """
    described = release.description
    found: dict[str, Any] = {"kind": described.kind, "to": list(described.learners), "answered": answered}
    found |= {"decision": outcome.decision, "winner": outcome.winner, "rank": outcome.rank}
    if bound is not None and described.compared:
        found["uncertain_within"] = bound.value
    privacy = release.privacy(method, f)
    if privacy is not None:
        found |= {key: getattr(privacy, key) for key in ("sigma", "sensitivity", "epsilon", "delta", "protects")}
        found["deviation"] = outcome.deviation
    if outcome.opened is not None and outcome.deviation is not None:
        off = NORMAL_95 * outcome.deviation
        ends = sorted(method.value(outcome.opened + side * off, f) for side in (-1, 1))
        found |= {"low": ends[0], "high": ends[1]}
    return found
