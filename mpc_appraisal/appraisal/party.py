"""What one party does in an appraisal: meet, agree, check, compute together, leave with a record.

The same function runs in every process, spawned on one machine or started by an organisation; only the role and the
inputs differ. Each party reads its own inputs in its own process; what it tells the others about them is in `Facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import torch

from mpc_appraisal.appraisal.agreement import check_counterparty, consent, settle
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
from mpc_appraisal.appraisal.names import Match, match, published
from mpc_appraisal.appraisal.norms import check_norms, published_norms, with_norms, with_spread
from mpc_appraisal.appraisal.outcome import Run
from mpc_appraisal.appraisal.plan import (
    BLOCK_ROWS,
    THRESHOLD,
    DataOwnerInput,
    Emit,
    ModelOwnerInput,
    OwnInput,
    Plan,
    check_classes,
    check_model,
    check_names,
    respelt,
)
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.appraisal.sides import in_order, say, without_rows
from mpc_appraisal.common.errors import AppraisalError, DisagreementError, InputError, PeerError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.governance.catalogue import Listing
from mpc_appraisal.methods import Facts
from mpc_appraisal.mpc.backends.cost_model import Rehearsal, rate
from mpc_appraisal.mpc.backends.registry import deal, dry_session, open_session
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.ring.fixed_point import check_range
from mpc_appraisal.mpc.session import agree
from mpc_appraisal.release.base import Release
from mpc_appraisal.release.dp.clipping import clipped
from mpc_appraisal.reporting.record import Record

LINGER_SECONDS = 5.0
TELL_SECONDS = 6.0  # how long a party that cannot go on tries to tell the others


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
        address: 'tcp://host:port' of the rendezvous; None under torchrun.
        read: returns this party's own input; called in this process alone.
        emit: receives progress events, e.g. {"done": 3, "of": 30, "method": ..., "candidate": ...}.

    Returns:
        One record for each method and candidate (empty at the dealer).

    Raises:
        InputError: this party's own input is bad. DisagreementError: the parties' public facts differ.
        PeerError: another party failed, vanished or never came.
    """
    rendezvous, own, refusal = None, None, None
    if role == MODEL_OWNER:  # it hosts the rendezvous, so it opens it before it reads what may take a while
        rendezvous = plan.transport.connect(role, address, plan.join_timeout, hosted)
    try:
        own = read()
    except AppraisalError as error:
        refusal = error
    try:
        if rendezvous is None:
            patience = TELL_SECONDS if refusal else plan.join_timeout
            rendezvous = plan.transport.connect(role, address, patience, hosted)
        if refusal:
            raise refusal
        with rendezvous.interrupting():
            rendezvous.announce()
            records = _appraise(role, rendezvous, plan, own, emit, session_name)
            with suppress(PeerError):  # this party has all that it paid for
                rendezvous.exchange("done", {})
        rendezvous.close(LINGER_SECONDS)
        return records
    except BaseException as error:
        if rendezvous is not None:
            # A lost peer is passed on too: a party that talks to this one alone would blame this one.
            rendezvous.abort(error.public if isinstance(error, AppraisalError) else "it was interrupted")
            rendezvous.close(LINGER_SECONDS)
        if refusal is not None:
            raise refusal from None  # whether or not the others could be told
        raise


def _appraise(
    role: str, rendezvous: Rendezvous, plan: Plan, own: OwnInput, emit: Emit, session_name: str
) -> list[Record]:
    check_counterparty(role, own, rendezvous)
    plan = respelt(plan, *agree(rendezvous, plan.public, plan.digest, config_hash))
    facts, listed, matches = _facts(rendezvous, own, plan)
    own = in_order(own, matches, next(iter(facts.values())).classes)
    plan = replace(plan, release=_fitted(plan, list(facts), listed))
    own = _transformed(own, plan, facts)
    findings = _findings(rendezvous, own, plan, facts, matches, session_name == "join")
    seconds, owned, theta = _prepare(role, own, plan, facts)
    # Whoever refuses its input has said so once all are ready; from here on values are shared.
    shared, announced = plan.release.announce(owned)
    ready = rendezvous.exchange("ready", announced | published_norms(role, own, theta, owned, plan))
    first = next(iter(facts.values()))
    findings += scale_findings(ready, facts, plan.release.description.noised, first.train_rows + first.test_rows)
    policy = own.controls.scale if own is not None else WARN
    own_findings = kept(findings, policy)
    if session_name == "join":  # both sides of a trial on one machine are told by who started it
        say([one for one in own_findings if one.warning], facts)
    refuse_scale(findings, policy)
    bound = check_norms(ready, plan, facts)
    facts = with_norms(facts, ready, bound)
    # What cannot be computed is refused before anybody is asked.
    rehearsed = _rehearsed(role, plan, facts, bound, ())
    compared = sentences((one for one in findings if one.public), facts)
    agreed = consent(role, rendezvous, plan, own, facts, ready, listed, compared)
    run = Run(role, plan, with_spread(facts, ready), listed, agreed, seconds, session_name, tuple(own_findings))
    if len(agreed.answers) < len(plan.methods) * len(facts):
        if agreed.answers:
            rehearsed = _rehearsed(role, plan, facts, bound, tuple(agreed.answers))
        if role == DEALER:
            marks = deal(plan.engine, rendezvous, plan.timeout, plan.transport.kind, rehearsed[1] or None)
            rendezvous.exchange("costs", {"bytes": [b - a for a, b in zip(marks, marks[1:], strict=False)]})
        else:
            _compute(run, rendezvous, own, shared, bound, rehearsed, emit)
    if role == DEALER:
        return []
    settle(own, agreed, run.outcomes())
    return run.records(own)


def _compute(
    run: Run,
    rendezvous: Rendezvous,
    own: OwnInput,
    owned: dict[str, dict[str, torch.Tensor]],
    bound: float,
    rehearsed: tuple[list[Rehearsal], list[Any]],
    emit: Emit,
) -> None:
    """An owner's part in the joint computation; what it gave and cost goes into `run`."""
    role, plan, facts, agreed = run.role, run.plan, run.facts, run.agreed
    expected, script = rehearsed
    session = open_session(plan.engine, rendezvous, plan.timeout, plan.transport.kind)
    try:
        session.prepare(lambda dry: None, script)
        session.permit(agreed.openings)
        candidates = {c.name: c for c in own.candidates} if isinstance(own, DataOwnerInput) else {}
        run.results = program(session, plan, candidates, owned, facts, bound, emit, agreed.answers)
    except BaseException:
        session.close(orderly=False)
        raise
    session.close()  # sends the dealer home, whose note on its costs is then due
    spent = [r.cost for r in run.results]
    note = {"bytes": [c.bytes_sent for c in spent], "rounds": [c.rounds for c in spent]}
    note |= {"expected": [asdict(each) for each in expected], "rate": rate() if role == MODEL_OWNER and expected else 0}
    run.engine, run.costs = session.engine, rendezvous.exchange("costs", note)
    _check_costs(run.costs, len(run.results))


def _rehearsed(
    role: str, plan: Plan, facts: dict[str, Facts], bound: float, answered: tuple[Key, ...]
) -> tuple[list[Rehearsal], list[Any]]:
    """What the program will cost this owner, and the dealer's script; nothing for an engine that cannot be run dry.

    The dealer rehearses as well, as the model owner would: it works through no script but its own, see `orders`.
    """
    if plan.engine == "stock":
        return [], []
    dry = dry_session(plan.engine, MODEL_OWNER if role == DEALER else role)
    results = program(dry, plan, {}, {}, facts, bound, lambda event: None, answered)
    return [Rehearsal.of(dry, [r.cost for r in results])], dry.script


def _fitted(plan: Plan, candidates: list[str], listed: Mapping[str, dict[str, Any] | None]) -> Release:
    """The release with what the listings say of prices; refused, at every party alike, where it does not fit."""
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


def _transformed(own: OwnInput, plan: Plan, facts: dict[str, Facts]) -> OwnInput:
    """The data owner's rows as the release wants them."""
    if not isinstance(own, DataOwnerInput):
        return own
    row_norm = plan.release.description.row_norm
    sets = (clipped(c, row_norm, facts[c.name].classes) for c in own.candidates)
    return replace(own, candidates=tuple(sets))


def _facts(
    rendezvous: Rendezvous, own: OwnInput, plan: Plan
) -> tuple[dict[str, Facts], dict[str, dict[str, Any] | None], dict[str, Match]]:
    """Exchange sizes, names and listings, and check that they fit; every party checks the same and fails alike.

    Returns, by candidate, its facts, what its listing says, or None, and how its names fit the model owner's.
    """
    note: dict[str, Any] = {}
    if isinstance(own, ModelOwnerInput):
        check_model(own, plan.l2)
        check_classes(own)
        shape = own.model.theta.shape if own.model else None
        known = own.train or own.test
        note = {
            "features": int(shape[0]) - 1 if shape else known.features,
            "classes": int(shape[1]) if shape else max(d.classes for d in (own.train, own.test) if d),
            "train_rows": own.train.rows if own.train else 0,
            "test_rows": own.test.rows if own.test else 0,
        }
        if plan.classes is not None:
            if note["classes"] > plan.classes:
                raise InputError("party.train", f"{note['classes']} classes", f"{plan.classes} (model.classes)")
            note["classes"] = plan.classes
        note |= published(own.names, own.controls.names)
    elif isinstance(own, DataOwnerInput):
        check_names([c.name for c in own.candidates])
        listings = own.controls.listings or (None,) * len(own.candidates)
        note = {
            "candidates": [
                {"name": c.name, "rows": c.rows, "features": c.features, "listing": _said(listing)}
                | published(names, own.controls.names)
                for c, listing, names in zip(own.candidates, listings, own.names, strict=True)
            ]
        }
    notes = rendezvous.exchange("facts", note)
    buyer, sets = notes[MODEL_OWNER], notes[DATA_OWNER]["candidates"]
    check_published_names([each["name"] for each in sets])
    mine = [own.names] if isinstance(own, ModelOwnerInput) else own.names if own is not None else []
    matches = {each["name"]: match(buyer, each, mine) for each in sets}
    for each in sets:
        if each["features"] != buyer["features"]:
            raise DisagreementError(
                f"features: {buyer['features']} at {MODEL_OWNER}, {each['features']} at {DATA_OWNER} in "
                f"{each['name']!r}; expected the same number"
            )
    listed = {each["name"]: each["listing"] for each in sets}
    if isinstance(own, ModelOwnerInput) and own.controls.listings:
        _expect(own.controls.listings, listed)
    return (
        {
            each["name"]: Facts(
                buyer["features"], buyer["classes"], buyer["train_rows"], buyer["test_rows"], each["rows"], plan.l2
            )
            for each in sets
        },
        listed,
        matches,
    )


def _findings(
    rendezvous: Rendezvous,
    own: OwnInput,
    plan: Plan,
    facts: dict[str, Facts],
    matches: dict[str, Match],
    aloud: bool,
) -> list[Finding]:
    """What is known of names and classes, and at the model owner of listings; nobody tells how many rows a class has,
    but how many classes have none."""
    first = next(iter(facts.values()))
    classes, trained = first.classes, first.train_rows > 0
    note: dict[str, Any] = {}
    local: list[Finding] = []
    if isinstance(own, ModelOwnerInput):
        note["without_rows"] = without_rows(own.train, classes, "party.train", aloud) if own.train else None
        listings = {listing.name: listing for listing in own.controls.listings if listing is not None}
        for name, fit in matches.items():
            local += statistics_findings(name, listings.get(name), own.rows, fit, own.names)
    elif isinstance(own, DataOwnerInput):
        hidden = plan.release.description.noised  # whose labels are protected too
        counts = {c.name: without_rows(c, classes, f"party.data ({c.name})", aloud) for c in own.candidates}
        note["without_rows"] = None if hidden else counts
    notes = rendezvous.exchange("classes", note)
    return names_findings(matches, trained) + classes_findings(notes, facts, classes) + local


def check_published_names(names: Sequence[str]) -> None:
    """Names of candidates that the data owner told, which this party will print and record. Raises PeerError."""
    try:
        check_names(names)
    except InputError as error:
        raise PeerError(f"{DATA_OWNER} told {error.name}: {error.value}; expected {error.expected}") from None


def _check_costs(notes: Mapping[str, dict[str, Any]], results: int) -> None:
    """Costs that the parties told, one of each kind for each result. Raises PeerError."""
    for role, note in notes.items():
        lists = {"bytes": note["bytes"]} | ({} if role == DEALER else {"rounds": note["rounds"]})
        lists |= {f"expected.{key}": values for one in note.get("expected", ()) for key, values in one.items()}
        for key, values in lists.items():
            if len(values) < results:
                raise PeerError(f"{role} told its costs: {len(values)} {key}; expected {results}, one for each result")
    rehearsed = {len(notes[role]["expected"]) for role in (MODEL_OWNER, DATA_OWNER)}
    if rehearsed not in ({0}, {1}) or (rehearsed == {1} and not notes[MODEL_OWNER]["rate"] > 0):
        raise PeerError(
            f"{MODEL_OWNER} and {DATA_OWNER} told costs that do not fit: expected a dry run of each, or none"
        )


def _said(listing: Listing | None) -> dict[str, Any] | None:
    """What is told, requested and recorded of a listing."""
    if listing is None:
        return None
    terms = listing.terms
    return {
        "name": listing.name,
        "digest": listing.file_digest,
        "commitment": listing.digest,
        "price": terms.price,
        "currency": terms.currency,
    }


def _expect(listings: Sequence[Listing | None], listed: Mapping[str, dict[str, Any] | None]) -> None:
    """The model owner's check that the candidates are those whose listings it has read; to the letter."""
    mine = {listing.name: _said(listing) for listing in listings if listing is not None}
    theirs = {one["name"]: one for one in listed.values() if one is not None}
    for name, one in listed.items():
        if one is None:
            raise DisagreementError(f"candidate {name!r} is not listed; expected one of {', '.join(mine)}")
    for name in mine | theirs:
        ours, other = mine.get(name), theirs.get(name)
        if ours != other:
            found = "none" if other is None else f"{other['digest'][:12]} at {DATA_OWNER}"
            kept = "none" if ours is None else f"{ours['digest'][:12]} at {MODEL_OWNER}"
            raise DisagreementError(f"listing {name!r}: {kept}, {found}; expected the same listing, to the letter")


def _prepare(
    role: str, own: OwnInput, plan: Plan, facts: dict[str, Facts]
) -> tuple[dict[str, float], dict[str, dict[str, torch.Tensor]], torch.Tensor | None]:
    """Each owner's own work in the clear, and the last checks of its values. Returns seconds and values by method, and
    the model's weights."""
    if isinstance(own, DataOwnerInput):
        for candidate in own.candidates:
            if candidate.classes > facts[candidate.name].classes:
                raise InputError(
                    f"party.data ({candidate.name})",
                    f"a label {candidate.classes - 1}",
                    f"labels from 0 to {facts[candidate.name].classes - 1}: the model has that many classes",
                )
            for block in candidate.blocks(BLOCK_ROWS):
                check_range(block.x, f"party.data ({candidate.name})")
    if not isinstance(own, ModelOwnerInput):
        return {}, {}, None
    meter, owned = Meter(), {}
    any_facts = next(iter(facts.values()))
    with meter.phase("fit"):
        train, test = (d.with_classes(any_facts.classes) if d else None for d in (own.train, own.test))
        model = own.model or plan.fit(train)
    for method in plan.methods:
        with meter.phase(method.name):
            owned[method.name] = method.prepare(model, train, test)
        for key, values in owned[method.name].items():
            check_range(values, f"{key} of {method.name}")
        if plan.release.description.threshold:
            owned[method.name][THRESHOLD] = torch.tensor(own.threshold_of(method.name), dtype=torch.float64)
    seconds = {m.name: meter.seconds["fit"] + meter.seconds[m.name] for m in plan.methods}
    return seconds, owned, model.theta
