"""What one party does in an appraisal: connect, agree, check, compute together, and leave with its records.

The parties are the model owner, the data owner, whose data sets (candidates) are appraised, and the dealer, who
supplies random numbers. In go a role, the plan and a function that reads this party's own input; out come the party's
records. The same function runs in every process, whether it was spawned on one machine or started by an organisation.
Each party reads its own input in its own process, and announces of it what `Facts` and `norms.published_norms` hold.

Every party has to make the same exchanges (`Rendezvous.exchange`) in the same order, and to refuse public messages for
the same reasons, since otherwise one party waits for a message that never comes. A check of a party's own input may be
added before the exchange named "ready": what it refuses is then refused before a ledger or the data owner is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from mpc_appraisal.appraisal.agreement import consent, settle
from mpc_appraisal.appraisal.announced_facts import exchange_facts
from mpc_appraisal.appraisal.compared import (
    WARN,
    Finding,
    classes_findings,
    kept,
    names_findings,
    refuse_scale,
    scale_findings,
    sentences,
    statistics_findings,
)
from mpc_appraisal.appraisal.counted import count_shared, shared_items
from mpc_appraisal.appraisal.counterparty import check_counterparty
from mpc_appraisal.appraisal.names import Match
from mpc_appraisal.appraisal.norms import published_norms, with_spread
from mpc_appraisal.appraisal.outcome import Run
from mpc_appraisal.appraisal.plan import (
    DataOwnerInput,
    Emit,
    MethodInput,
    ModelOwnerInput,
    OwnInput,
    Plan,
    check_reprs,
    respelt,
)
from mpc_appraisal.appraisal.preparation import (
    Prepared,
    announce,
    check_candidates,
    fitted_to_norms,
    prepare,
    transformed,
)
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.appraisal.receipts import attend_receipts
from mpc_appraisal.appraisal.sides import in_order, say, without_rows
from mpc_appraisal.appraisal.tasks import check_supported
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.methods import Facts
from mpc_appraisal.mpc.backends.cost_model import Rehearsal, rate
from mpc_appraisal.mpc.backends.registry import deal, dry_session, open_session
from mpc_appraisal.mpc.net.lifecycle import attend
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import agree
from mpc_appraisal.release.base import Release
from mpc_appraisal.reporting.record import Record


def take_part(
    role: str,
    address: str | None,
    plan: Plan,
    read: Callable[[], OwnInput],
    emit: Emit,
    hosted: bool = False,
    session_name: str = "join",
) -> list[Record]:
    """Play `role` in the appraisal that `plan` describes.

    Args:
        role: 'model_owner', 'data_owner' or 'dealer'.
        address: The rendezvous as 'tcp://host:port'; None under torchrun.
        plan: What all parties state alike.
        read: A function that returns this party's own input. It is called in this process alone.
        emit: A function that receives progress events, such as {"done": 3, "of": 30, "method": ..., "candidate": ...},
            or {"state": "connected to ..."}.
        hosted: Whether a launcher on this machine hosts the rendezvous.
        session_name: The name of the kind of session, which the records state.

    Returns:
        One record for each method and candidate; none at the dealer.

    Raises:
        InputError: This party's own input is bad.
        DisagreementError: The parties' public facts differ.
        ApprovalError: The data owner does not say yes.
        PeerError: Another party failed, vanished or never came.
    """
    relay, place = plan.transport.relay, "as torchrun says" if address is None else f"at {address}"
    place = place if relay is None else f"at the relay {relay}"
    emit({"state": f"waiting for the other parties {place}"})
    return attend(
        role,
        plan.transport,
        address,
        plan.join_timeout,
        read,
        lambda rendezvous, own: _appraise(role, rendezvous, plan, own, emit, session_name),
        hosted,
    )


def _appraise(
    role: str, rendezvous: Rendezvous, plan: Plan, own: OwnInput, emit: Emit, session_name: str
) -> list[Record]:
    """Appraise between connected parties, and return this party's records. The order is that of the exchanges."""
    others = " and ".join(each.replace("_", " ") for each in ROLES if each != role)
    emit({"state": f"connected to {others}"})
    check_supported(plan)
    check_counterparty(role, own, rendezvous)
    plan = respelt(plan, *agree(rendezvous, plan.public, plan.digest, config_hash))
    check_reprs(plan)
    facts, listed, matches, purpose, offer = exchange_facts(rendezvous, own, plan)
    shared_sets = shared_items(rendezvous, plan, own, matches)
    own = in_order(own, matches, next(iter(facts.values())).classes)
    plan = replace(plan, release=_fitted(plan, list(facts), listed))
    own = transformed(own, plan, {name: f.classes for name, f in facts.items()})
    findings = _findings(rendezvous, own, plan, facts, matches, session_name == "join")
    first = next(iter(facts.values()))
    prepared, longest = _prepare(own, plan, facts)
    inputs, seconds = (prepared.inputs, prepared.seconds) if prepared is not None else ({}, {})
    # A party that refuses its own input has to do so before the exchange "ready" ends.
    theta = prepared.model.theta if prepared is not None else None
    shared, norms = announce(plan.release, inputs)
    ready = rendezvous.exchange("ready", norms | published_norms(role, own, theta, inputs, plan, longest))
    findings += scale_findings(ready, facts, plan.release.description.noised, first.train_rows + first.test_rows)
    policy = own.controls.scale if own is not None else WARN
    own_findings = kept(findings, policy)
    if session_name == "join":  # on one machine `sides.together` has printed the warnings of both sides
        say([one for one in own_findings if one.warning], facts)
    refuse_scale(findings, policy)
    bound, facts = fitted_to_norms(plan, facts, ready)
    # A program that cannot be computed is refused before a ledger or the data owner is asked.
    computed = with_spread(facts, ready)
    rehearsed = _rehearsed(role, plan, computed, bound, ())
    compared = sentences((one for one in findings if one.public), facts)
    agreed = consent(role, rendezvous, plan, own, facts, ready, listed, compared, shared_sets, emit, purpose, offer)
    run = Run(role, plan, computed, listed, agreed, seconds, session_name, tuple(own_findings))
    if shared_sets is not None:
        run.overlaps = count_shared(rendezvous, plan, own, shared_sets)
    if len(agreed.answers) < len(plan.methods) * len(facts):
        emit({"state": "computing"})
        if agreed.answers:
            rehearsed = _rehearsed(role, plan, computed, bound, tuple(agreed.answers))
        if role == DEALER:
            kind, script = plan.transport.kind, rehearsed[1] or None
            marks = deal(plan.engine, rendezvous, plan.timeout, kind, script, plan.integrity)
            rendezvous.exchange("costs", {"bytes": [b - a for a, b in zip(marks, marks[1:], strict=False)]})
        else:
            _compute(run, rendezvous, own, shared, bound, rehearsed, emit)
    if role != DEALER:
        settle(own, agreed, run.outcomes())
    return attend_receipts(role, rendezvous, plan, [] if role == DEALER else run.records(own))


def _compute(
    run: Run,
    rendezvous: Rendezvous,
    own: OwnInput,
    inputs: dict[str, MethodInput],
    bound: float,
    rehearsed: tuple[list[Rehearsal], list[Any]],
    emit: Emit,
) -> None:
    """Play an owner's side of the joint computation; its results and costs go into `run`."""
    role, plan, facts, agreed = run.role, run.plan, run.facts, run.agreed
    expected, script = rehearsed
    session = open_session(plan.engine, rendezvous, plan.timeout, plan.transport.kind, plan.integrity)
    try:
        session.prepare(lambda s: program(s, plan, {}, {}, facts, bound, lambda e: None, agreed.answers), script)
        session.permit(agreed.openings)
        candidates = {c.name: c for c in own.candidates} if isinstance(own, DataOwnerInput) else {}
        run.results = program(session, plan, candidates, inputs, facts, bound, emit, agreed.answers)
    except BaseException:
        session.close(orderly=False)
        raise
    session.close()  # the dealer then leaves its loop and sends its costs
    spent = [r.cost for r in run.results]
    message: dict[str, Any] = {"bytes": [c.bytes_sent for c in spent], "rounds": [c.rounds for c in spent]}
    message["expected"] = [asdict(each) for each in expected]
    message["rate"] = rate() if role == MODEL_OWNER and expected else 0
    run.engine, run.costs = session.engine, rendezvous.exchange("costs", message)
    _check_costs(run.costs, len(run.results))


def _rehearsed(
    role: str, plan: Plan, facts: dict[str, Facts], bound: float, answered: tuple[Key, ...]
) -> tuple[list[Rehearsal], list[Any]]:
    """Return what the program will cost this owner, and the script of requests to the dealer.

    Both are empty for an engine without dry runs. The dealer rehearses the model owner's side itself, because it
    follows no script but its own; see `orders`.
    """
    if plan.engine == "stock":
        return [], []
    dry = dry_session(plan.engine, MODEL_OWNER if role == DEALER else role, plan.integrity)
    results = program(dry, plan, {}, {}, facts, bound, lambda event: None, answered)
    return [Rehearsal.of(dry, [r.cost for r in results])], dry.script


def _fitted(plan: Plan, candidates: list[str], listed: Mapping[str, dict[str, Any] | None]) -> Release:
    """Return the release with the listed prices. Raises InputError, at every party alike, where it does not fit."""
    prices = {name: one for name, one in listed.items() if one is not None and one["price"] is not None}
    release = plan.release.fitted(plan.methods, candidates, {name: one["price"] for name, one in prices.items()})
    currencies = sorted({one["currency"] for one in prices.values()})
    if release is not plan.release and len(currencies) > 1:
        raise InputError("release.budget", f"prices in {', '.join(currencies)}", "one currency in all listings")
    described = release.description
    if plan.engine == "rtas" and described.noised:
        expected = "session.engine=fast: whether the helper refuses a value has no noise"
        raise InputError("release", described.kind, expected)
    if plan.engine == "stock" and not described.plain_value:
        raise InputError("release", described.kind, "value: CrypTen as shipped opens nothing else here")
    return release


def _prepare(own: OwnInput, plan: Plan, facts: dict[str, Facts]) -> tuple[Prepared | None, float | None]:
    """Do each owner's own work in the clear, and the last checks of its values.

    Returns the model owner's prepared inputs and the bound on the data owner's longest row. At each owner the other's
    part is None, and at the dealer both are.
    """
    if isinstance(own, DataOwnerInput):
        return None, check_candidates(own, facts)
    if not isinstance(own, ModelOwnerInput):
        return None, None
    first = next(iter(facts.values()))
    prepared = prepare(own, plan, first.classes)
    prepared.check_range(first.ratio)
    return prepared, None


def _findings(
    rendezvous: Rendezvous,
    own: OwnInput,
    plan: Plan,
    facts: dict[str, Facts],
    matches: dict[str, Match],
    aloud: bool,
) -> list[Finding]:
    """Return the findings on names and classes, and at the model owner those on listings' statistics.

    An owner announces how many classes it has no row of, and never how many rows a class has. aloud: whether an owner
    with such classes prints its own counts to standard error.
    """
    first = next(iter(facts.values()))
    classes, trained = first.classes, first.train_rows > 0
    labels = any(method.uses_labels for method in plan.methods)  # what is not read is not announced either
    message: dict[str, Any] = {}
    local: list[Finding] = []
    if classes == 1:  # a target that is a number has no classes, and every party knows it
        return names_findings(matches, trained) + _statistics(own, matches)
    if isinstance(own, ModelOwnerInput):
        counted = own.train is not None and labels
        message["without_rows"] = without_rows(own.train, classes, "party.train", aloud) if counted else None
        local = _statistics(own, matches)
    elif isinstance(own, DataOwnerInput):
        hidden = plan.release.description.noised or not labels  # noise protects the labels too
        counts = {c.name: without_rows(c, classes, f"party.data ({c.name})", aloud and labels) for c in own.candidates}
        message["without_rows"] = None if hidden else counts
    messages = rendezvous.exchange("classes", message)
    return names_findings(matches, trained) + classes_findings(messages, facts, classes) + local


def _statistics(own: OwnInput, matches: dict[str, Match]) -> list[Finding]:
    """Return the findings on listings' statistics, which the model owner alone has."""
    if not isinstance(own, ModelOwnerInput):
        return []
    listings = {listing.name: listing for listing in own.controls.listings if listing is not None}
    found = (statistics_findings(name, listings.get(name), own.rows, fit, own.names) for name, fit in matches.items())
    return [finding for findings in found for finding in findings]


def _check_costs(messages: Mapping[str, dict[str, Any]], results: int) -> None:
    """Check that the parties' messages hold one cost of each kind for each result. Raises PeerError otherwise."""
    for role, message in messages.items():
        lists = {"bytes": message["bytes"]} | ({} if role == DEALER else {"rounds": message["rounds"]})
        lists |= {f"expected.{key}": values for one in message.get("expected", ()) for key, values in one.items()}
        for key, values in lists.items():
            if len(values) < results:
                raise PeerError(f"{role} sent its costs: {len(values)} {key}; expected {results}, one for each result")
    rehearsed = {len(messages[role]["expected"]) for role in (MODEL_OWNER, DATA_OWNER)}
    if rehearsed not in ({0}, {1}) or (rehearsed == {1} and not messages[MODEL_OWNER]["rate"] > 0):
        raise PeerError(
            f"{MODEL_OWNER} and {DATA_OWNER} sent costs that do not fit: expected a dry run of each, or none"
        )
