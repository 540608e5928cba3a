"""What one party does in an appraisal: meet, agree, check, compute together, leave with a record.

The same function runs in every process, spawned on one machine or started by an organisation; only the role and the
inputs differ. Each party reads its own inputs in its own process; what it tells the others about them is in `Facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mpc_appraisal.appraisal import Appraiser, Facts
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.errors import AppraisalError, DisagreementError, InputError, PeerError
from mpc_appraisal.models import SoftmaxRegression
from mpc_appraisal.mpc.encoding import check_range
from mpc_appraisal.mpc.meter import Cost, Meter
from mpc_appraisal.mpc.rendezvous import Rendezvous
from mpc_appraisal.mpc.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS, ROLES, TRUST
from mpc_appraisal.mpc.session import MPCSession, agree
from mpc_appraisal.record import Record, revision, versions

LINGER_SECONDS = 5.0
TELL_SECONDS = 3.0  # how long a party that cannot go on tries to tell the others


@dataclass(frozen=True)
class Plan:
    """What all parties state alike, and nothing else.

    Attributes:
        public: the public configuration, flat (key to JSON value); `digest` is its hash.
        fit: trains the model owner's model; its parameters are in `public`.
        join_timeout: seconds to wait for a party to come.
        timeout: seconds that one message may take.
    """

    methods: tuple[Appraiser, ...]
    l2: float
    seed: int
    digest: str
    fit: Callable[[Dataset], SoftmaxRegression]
    public: dict[str, Any] = field(default_factory=dict)
    classes: int | None = None
    join_timeout: float = 120.0
    timeout: float = 300.0


@dataclass(frozen=True)
class ModelOwnerInput:
    """What the model owner brings: a model, or data to train it on; test data where the method needs it."""

    train: Dataset | None = None
    test: Dataset | None = None
    model: SoftmaxRegression | None = None


@dataclass(frozen=True)
class DataOwnerInput:
    """What the data owner brings: one or more candidate data sets. Their names are told to the other side."""

    candidates: tuple[Dataset, ...]


OwnInput = ModelOwnerInput | DataOwnerInput | None
Emit = Callable[[dict[str, Any]], None]


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
        rendezvous = Rendezvous(role, address, plan.join_timeout, hosted)
    try:
        own = read()
    except AppraisalError as error:
        refusal = error
    try:
        if rendezvous is None:
            rendezvous = Rendezvous(role, address, TELL_SECONDS if refusal else plan.join_timeout, hosted)
        if refusal:
            raise refusal
        rendezvous.announce()
        records = _appraise(role, rendezvous, plan, own, emit, session_name)
        rendezvous.exchange("done", {})
        rendezvous.close(LINGER_SECONDS)
        return records
    except BaseException as error:
        if rendezvous is not None:
            if not isinstance(error, PeerError):
                rendezvous.abort(error.public if isinstance(error, AppraisalError) else "it was interrupted")
            rendezvous.close(LINGER_SECONDS)
        if refusal is not None:
            raise refusal from None  # whether or not the others could be told
        raise


def _appraise(
    role: str, rendezvous: Rendezvous, plan: Plan, own: OwnInput, emit: Emit, session_name: str
) -> list[Record]:
    agree(rendezvous, plan.public, plan.digest)
    facts = _facts(rendezvous, own, plan)
    seconds, owned = _prepare(role, own, plan, facts)
    rendezvous.exchange("ready", {})  # whoever refused its input has said so by now; from here on values are shared
    if role == DEALER:
        return _deal(rendezvous, plan)
    session = MPCSession(rendezvous, plan.timeout)
    try:
        results = _compute(session, plan, own, owned, facts, emit)
    except BaseException:
        session.close(orderly=False)
        raise
    session.close()  # sends the dealer home, whose note on its costs is then due
    costs = rendezvous.exchange("costs", {"bytes": [cost.bytes_sent for _, _, _, cost in results]})
    records = []
    for k, (method, candidate, opened, cost) in enumerate(results):
        f = facts[candidate]
        records.append(
            Record(
                method=method.name,
                candidate=candidate,
                value=method.value(opened, f),
                paper_value=method.paper_value(opened, f),
                n=f.rows,
                features=f.features,
                classes=f.classes,
                seconds=cost.seconds | ({"plaintext": seconds[method.name]} if role == MODEL_OWNER else {}),
                bytes_sent={r: costs[r]["bytes"][k] for r in ROLES},
                rounds=cost.rounds,
                seed=plan.seed,
                openings=[
                    o.as_dict() for o in session.ledger[k : k + 1]
                ],  # exactly one opening for each appraisal, in order
                versions=versions(),
                config_hash=plan.digest,
                revision=revision(),
                session=session_name,
                engine=session.engine,
                role=role,
                trust=TRUST,
            )
        )
    return records


def _deal(rendezvous: Rendezvous, plan: Plan) -> list[Record]:
    from mpc_appraisal.mpc import stock  # the dealer alone needs it here

    communicator = stock.start(rendezvous, Meter(), plan.timeout)
    marks = stock.Dealer(communicator).serve()
    rendezvous.exchange("costs", {"bytes": [b - a for a, b in zip(marks, marks[1:], strict=False)]})
    return []


def _facts(rendezvous: Rendezvous, own: OwnInput, plan: Plan) -> dict[str, Facts]:
    """Exchange sizes, and check that they fit; every party checks the same facts and fails in the same way."""
    note: dict[str, Any] = {}
    if isinstance(own, ModelOwnerInput):
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
    elif isinstance(own, DataOwnerInput):
        note = {"candidates": [{"name": c.name, "rows": c.rows, "features": c.features} for c in own.candidates]}
    notes = rendezvous.exchange("facts", note)
    buyer, sets = notes[MODEL_OWNER], notes[DATA_OWNER]["candidates"]
    for each in sets:
        if each["features"] != buyer["features"]:
            raise DisagreementError(
                f"features: {buyer['features']} at {MODEL_OWNER}, {each['features']} at {DATA_OWNER} in "
                f"{each['name']!r}; expected the same number"
            )
    return {
        each["name"]: Facts(
            buyer["features"], buyer["classes"], buyer["train_rows"], buyer["test_rows"], each["rows"], plan.l2
        )
        for each in sets
    }


def _prepare(
    role: str, own: OwnInput, plan: Plan, facts: dict[str, Facts]
) -> tuple[dict[str, float], dict[str, dict[str, torch.Tensor]]]:
    """Each owner's own work in the clear, and the last checks of its own values. Returns seconds and values by method."""
    if isinstance(own, DataOwnerInput):
        for candidate in own.candidates:
            if candidate.classes > facts[candidate.name].classes:
                raise InputError(
                    f"party.data ({candidate.name})",
                    f"a label {candidate.classes - 1}",
                    f"labels from 0 to {facts[candidate.name].classes - 1}: the model has that many classes",
                )
            check_range(candidate.x, f"party.data ({candidate.name})")
    if not isinstance(own, ModelOwnerInput):
        return {}, {}
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
    return {m.name: meter.seconds["fit"] + meter.seconds[m.name] for m in plan.methods}, owned


def _compute(
    session: MPCSession,
    plan: Plan,
    own: OwnInput,
    owned: dict[str, dict[str, torch.Tensor]],
    facts: dict[str, Facts],
    emit: Emit,
) -> list[tuple[Appraiser, str, float, Cost]]:
    """The joint computation. A candidate is shared once and used by every method; its sharing is divided among them."""
    secrets: dict[str, dict[str, Any]] = {}
    results = []
    done, of = 0, len(plan.methods) * len(facts)
    candidates = {c.name: c for c in own.candidates} if isinstance(own, DataOwnerInput) else {}
    session.mark()
    for name, f in facts.items():
        before = session.meter.cost()
        with session.meter.phase("share"):
            x = session.input(
                DATA_OWNER,
                lambda name=name: with_bias(candidates[name].x),
                (f.rows, f.features + 1),
                f"party.data ({name})",
            )
            y = session.input(
                DATA_OWNER,
                lambda name=name, f=f: candidates[name].with_classes(f.classes).one_hot(),
                (f.rows, f.classes),
                f"labels of party.data ({name})",
            )
        shared = session.meter.cost() - before
        for method in plan.methods:
            before = session.meter.cost()
            if method.name not in secrets:
                with session.meter.phase("share"):
                    secrets[method.name] = {
                        key: session.input(
                            MODEL_OWNER, lambda m=method, k=key: owned[m.name][k], shape, f"{key} of {method.name}"
                        )
                        for key, shape in method.private_shapes(f).items()
                    }
            with session.meter.phase("private"):
                score = method.score(secrets[method.name], x, y, f)
                opened = session.reveal(score, method.opens, "the appraisal's result")
            session.mark()
            results.append((method, name, float(opened), _with_part(session.meter.cost() - before, shared, plan)))
            done += 1
            if session.role == MODEL_OWNER:
                emit({"done": done, "of": of, "method": method.name, "candidate": name})
    return results


def _with_part(cost: Cost, shared: Cost, plan: Plan) -> Cost:
    """`cost` and an equal part of what sharing the candidate cost, since all methods of the run use it."""
    m = len(plan.methods)
    seconds = dict(cost.seconds)
    seconds["share"] = seconds.get("share", 0.0) + shared.seconds.get("share", 0.0) / m
    return Cost(seconds, cost.bytes_sent + shared.bytes_sent // m, cost.rounds + shared.rounds)


def needs(methods: Sequence[Appraiser], own: ModelOwnerInput) -> None:
    """Refuse a model owner's input that lacks what a method needs; the error names it."""
    if own.model is None and own.train is None:
        raise InputError("party.train", None, "a data set to train the model on, or a trained model as party.model")
    for method in methods:
        for part in sorted(method.needs):
            if getattr(own, part) is None:
                raise InputError(f"party.{part}", None, f"a data set: the method {method.name} needs it")


__all__ = ["OWNERS", "DataOwnerInput", "ModelOwnerInput", "Plan", "needs", "take_part"]
