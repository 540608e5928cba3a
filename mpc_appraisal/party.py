"""What one party does in an appraisal: meet, agree, check, compute together, leave with a record.

The same function runs in every process, spawned on one machine or started by an organisation; only the role and the
inputs differ. Each party reads its own inputs in its own process; what it tells the others about them is in `Facts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from mpc_appraisal.appraisal import Appraiser, Facts
from mpc_appraisal.data import Dataset, StoredDataset, with_bias
from mpc_appraisal.errors import AppraisalError, DisagreementError, InputError
from mpc_appraisal.models import SoftmaxRegression
from mpc_appraisal.mpc.encoding import check_range
from mpc_appraisal.mpc.engines import deal, open_session
from mpc_appraisal.mpc.fast import DrySession
from mpc_appraisal.mpc.forecast import Rehearsal, forecasts, rate
from mpc_appraisal.mpc.limits import LARGEST_EXPONENT, MAX_SQUARINGS
from mpc_appraisal.mpc.logit_check import WeightLimit, weight_limit
from mpc_appraisal.mpc.meter import Cost, Meter
from mpc_appraisal.mpc.ops import Rows
from mpc_appraisal.mpc.rendezvous import Rendezvous
from mpc_appraisal.mpc.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS, ROLES, TRUST
from mpc_appraisal.mpc.session import Opening, Session, agree
from mpc_appraisal.mpc.transport import Transport
from mpc_appraisal.record import PLACE, Record, revision, versions

BLOCK_ROWS = 1 << 13
LARGEST_BOUND = LARGEST_EXPONENT * 2**MAX_SQUARINGS  # on logits, for a softmax
LARGEST_SUM = 2.0**29  # of rows of a gradient, with 32 fractional bits
HELD_ROWS = 1 << 15  # a larger candidate is brought in block by block, anew for each method
LINGER_SECONDS = 5.0
TELL_SECONDS = 6.0  # how long a party that cannot go on tries to tell the others


@dataclass(frozen=True)
class Plan:
    """What all parties state alike, and nothing else.

    Attributes:
        public: the public configuration, flat (key to JSON value); `digest` is its hash.
        fit: trains the model owner's model; its parameters are in `public`.
        join_timeout: seconds to wait for a party to come.
        timeout: seconds that one message may take.
        engine: 'fast', or 'stock' for CrypTen as shipped.
        logit_bound: public bound on |logits|; None derives it from norms that the owners tell.
        transport: how the parties are connected; with this party's own certificate files, if any.
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
    engine: str = "fast"
    logit_bound: float | None = None
    transport: Transport = Transport()


@dataclass(frozen=True)
class ModelOwnerInput:
    """What the model owner brings: a model, or data to train it on; test data where the method needs it."""

    train: Dataset | None = None
    test: Dataset | None = None
    model: SoftmaxRegression | None = None


@dataclass(frozen=True)
class DataOwnerInput:
    """What the data owner brings: one or more candidate data sets. Their names are told to the other side."""

    candidates: tuple[Dataset | StoredDataset, ...]


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
    agree(rendezvous, plan.public, plan.digest)
    facts = _facts(rendezvous, own, plan)
    seconds, owned, theta = _prepare(role, own, plan, facts)
    # Whoever refuses its input has said so once all are ready; from here on values are shared.
    ready = rendezvous.exchange("ready", _norms(own, theta))
    bound = check_norms(ready, plan, facts)
    facts = _with_norms(facts, ready)
    if role == DEALER:
        marks = deal(plan.engine, rendezvous, plan.timeout, plan.transport.kind)
        rendezvous.exchange("costs", {"bytes": [b - a for a, b in zip(marks, marks[1:], strict=False)], "rounds": []})
        return []
    session = open_session(plan.engine, rendezvous, plan.timeout, plan.transport.kind)
    try:
        expected: list[Rehearsal] = []

        def rehearsal(dry: DrySession) -> None:
            results = program(dry, plan, {}, {}, facts, bound, lambda event: None)
            expected.append(Rehearsal.of(dry, [r.cost for r in results]))

        session.prepare(rehearsal)
        candidates = {c.name: c for c in own.candidates} if isinstance(own, DataOwnerInput) else {}
        results = program(session, plan, candidates, owned, facts, bound, emit)
    except BaseException:
        session.close(orderly=False)
        raise
    session.close()  # sends the dealer home, whose note on its costs is then due
    if plan.engine == "fast" and not expected:  # the data owner, who has more to do before
        rehearsal(DrySession(role))
    spent = [r.cost for r in results]
    note = {"bytes": [c.bytes_sent for c in spent], "rounds": [c.rounds for c in spent]}
    note |= {"expected": [asdict(each) for each in expected], "rate": rate() if role == MODEL_OWNER and expected else 0}
    costs = rendezvous.exchange("costs", note)
    both = [Rehearsal(**each) for name in OWNERS for each in costs[name]["expected"]]
    forecast = forecasts(*both) if both else []
    records = []
    for k, r in enumerate(results):
        f, plaintext = facts[r.candidate], {"plaintext": seconds[r.method.name]} if role == MODEL_OWNER else {}
        records.append(
            Record(
                method=r.method.name,
                candidate=r.candidate,
                value=r.method.value(r.opened, f),
                paper_value=r.method.paper_value(r.opened, f),
                n=f.rows,
                features=f.features,
                classes=f.classes,
                seconds=r.cost.seconds | plaintext,
                bytes_sent={name: costs[name]["bytes"][k] for name in ROLES},
                rounds=max(costs[name]["rounds"][k] for name in OWNERS),  # one owner may only ever send
                failure_probability=r.failure,
                estimate=forecast[k].as_dict(costs[MODEL_OWNER]["rate"]) if forecast else None,
                seed=plan.seed,
                openings=tuple(opening.as_dict() for opening in r.openings),
                versions=versions(),
                config_hash=plan.digest,
                revision=revision(),
                session=session_name,
                engine=session.engine,
                role=role,
                trust=TRUST,
            )
        )
    order = [method.name for method in plan.methods]
    return sorted(records, key=lambda record: order.index(record.method))  # candidates stay in their order


def _norms(own: OwnInput, theta: torch.Tensor | None) -> dict[str, float]:
    """What a public bound on logits is made of: the largest norm of a row of one's data, and of a class's weights.

    |x . (w_c - mean w)| <= ||x|| ||w_c - mean w||. Each owner computes its own, adds what fixed point rounds
    (2^-17 for each of d + 1 entries; to a logit, 2^-14), and tells it rounded up to four bits.
    """

    def up(norm: float) -> float:
        mantissa, exponent = math.frexp(norm)
        return math.ldexp(math.ceil(mantissa * 16) / 16, exponent)

    def rows(x: torch.Tensor) -> float:
        longest = math.sqrt(float(torch.linalg.vector_norm(x, dim=1).max()) ** 2 + 1)  # 1: the constant feature
        return longest + math.sqrt(x.shape[1] + 1) * 2.0**-17

    if isinstance(own, DataOwnerInput):
        return {"row_norm": up(max(rows(block.x) for c in own.candidates for block in c.blocks(BLOCK_ROWS)))}
    if not isinstance(own, ModelOwnerInput):
        return {}
    parts = [rows(d.x) for d in (own.train, own.test) if d is not None]
    norm = float((theta - theta.mean(1, keepdim=True)).norm(dim=0).max())
    norm += math.sqrt(len(theta)) * 2.0**-17 + 2.0**-14  # no row is shorter than 1
    return {"row_norm": up(max(parts, default=1.0)), "weight_norm": up(norm)}


def check_norms(notes: dict[str, dict[str, float]], plan: Plan, facts: dict[str, Facts]) -> float:
    """The bound on centred logits that follows from the norms that the owners told, or the stated one if larger.

    Raises, at every party alike, InputError: the ring cannot hold what these norms allow.
    """
    buyer, longest = notes[MODEL_OWNER], notes[DATA_OWNER]["row_norm"]
    derived = max(buyer["row_norm"], longest) * buyer["weight_norm"]
    if plan.engine == "stock":
        return derived
    if plan.logit_bound is not None and plan.logit_bound < derived:
        raise InputError("session.logit_bound", plan.logit_bound, f"{derived:g} or more, by the told norms")
    bound = plan.logit_bound or derived
    for method in plan.methods:
        if bound * method.logit_growth > LARGEST_BOUND:
            raise InputError(
                "the bound on logits",
                f"{bound * method.logit_growth:g} for {method.name}",
                f"at most {LARGEST_BOUND:g}: rows of norm {longest:g} and weights of norm {buyer['weight_norm']:g} are "
                "too large together; standardise the features, or raise model.l2",
            )
    for name, f in _with_norms(facts, notes).items():
        for method in plan.methods:
            summed = method.summed_rows(f)
            if summed * f.longest > LARGEST_SUM:
                raise InputError(
                    f"party.data ({name})",
                    f"{summed} rows of norm up to {f.longest:g} in the sums of {method.name}",
                    f"rows times norm of at most {LARGEST_SUM:g}: standardise the features",
                )
            _limit(method, f, bound, plan)
    return bound


def _with_norms(facts: dict[str, Facts], notes: dict[str, dict[str, float]]) -> dict[str, Facts]:
    """`facts` with the norms that the owners told."""
    buyer, seller = notes[MODEL_OWNER]["row_norm"], notes[DATA_OWNER]["row_norm"]
    return {name: replace(f, row_norm=seller, longest=max(buyer, seller)) for name, f in facts.items()}


def _limit(method: Appraiser, facts: Facts, bound: float, plan: Plan) -> WeightLimit | None:
    """What the weights of a method that trains are held to; raises InputError where that cannot be checked."""
    if method.logit_growth <= 1 or plan.engine == "stock":  # CrypTen's own softmax needs no bound
        return None
    shape, grown = (facts.features + 1, facts.classes), bound * method.logit_growth
    return weight_limit(method.name, grown, facts.longest, shape, lambda norm: method.reach(norm, facts))


def _facts(rendezvous: Rendezvous, own: OwnInput, plan: Plan) -> dict[str, Facts]:
    """Exchange sizes, and check that they fit; every party checks the same facts and fails in the same way."""
    note: dict[str, Any] = {}
    if isinstance(own, ModelOwnerInput):
        check_model(own, plan.l2)
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
        check_names([c.name for c in own.candidates])
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
    seconds = {m.name: meter.seconds["fit"] + meter.seconds[m.name] for m in plan.methods}
    return seconds, owned, model.theta


@dataclass(frozen=True)
class Appraised:
    """One opened number, what it cost this party, and the bound on the probability that it is wrong by a wrap.

    openings: all that this appraisal opened, in order.
    """

    method: Appraiser
    candidate: str
    opened: float
    cost: Cost
    failure: float | None
    openings: tuple[Opening, ...]


def program(
    session: Session,
    plan: Plan,
    candidates: dict[str, Dataset | StoredDataset],
    owned: dict[str, dict[str, torch.Tensor]],
    facts: dict[str, Facts],
    bound: float,
    emit: Emit,
) -> list[Appraised]:
    """The joint computation; run dry it needs `facts` alone.

    A candidate is brought in once and used by every method; what that costs is divided among them.
    """
    secrets: dict[str, dict[str, Any]] = {}
    results: list[Appraised] = []
    of = len(plan.methods) * len(facts)
    session.mark()
    for name, f in facts.items():
        before = session.meter.cost()
        own = candidates.get(name)
        held = f.rows <= HELD_ROWS or not all(method.streams for method in plan.methods)
        with session.meter.phase("share"):
            if held:
                x, y = _bring_in(session, name, f, lambda own=own: next(own.blocks(own.rows)))  # a stored one too
                session.hold(x)  # every method multiplies by it
            else:
                x, y = Rows(lambda name=name, f=f, own=own: _stream(session, name, f, own)), None
        shared = session.meter.cost() - before
        for method in plan.methods:
            before, failed, known = session.meter.cost(), session.failure, len(session.ledger)
            if method.name not in secrets:
                with session.meter.phase("share"):
                    secrets[method.name] = {
                        key: session.input(
                            MODEL_OWNER, lambda m=method, k=key: owned[m.name][k], shape, f"{key} of {method.name}"
                        )
                        for key, shape in method.private_shapes(f).items()
                    }
            with session.meter.phase("private"):
                limit = _limit(method, f, bound, plan)
                session.bound_logits(bound * method.logit_growth, weights=limit)
                score = method.score(secrets[method.name], x, y, f)
                session.check_logits()
                opened = session.reveal(score, method.opens, "the appraisal's result")
            session.mark()
            cost = _with_part(session.meter.cost() - before, shared, plan)
            now = session.failure
            failure = None if failed is None or now is None else now - failed
            results.append(Appraised(method, name, float(opened), cost, failure, tuple(session.ledger[known:])))
            if session.role == MODEL_OWNER:
                emit({"done": len(results), "of": of, "method": method.name, "candidate": name})
        if held:
            session.forget(x, y)
    return results


def _bring_in(session: Session, name: str, f: Facts, read: Callable[[], Dataset]) -> tuple[Any, Any]:
    """x (n, d + 1) and y (n, C) of the data owner; `read` is called in its process alone."""
    x = session.input(DATA_OWNER, lambda: with_bias(read().x), (f.rows, f.features + 1), f"party.data ({name})")
    y = session.input(
        DATA_OWNER,
        lambda: read().with_classes(f.classes).one_hot(),
        (f.rows, f.classes),
        f"labels of party.data ({name})",
    )
    return x, y


def _stream(session: Session, name: str, f: Facts, own: Dataset | StoredDataset | None) -> Iterator[tuple[Any, Any]]:
    """A candidate's rows in blocks, each forgotten once it has been used."""
    source = own.blocks(BLOCK_ROWS) if own is not None else None
    for start in range(0, f.rows, BLOCK_ROWS):
        block = next(source) if source is not None else None
        rows = replace(f, rows=min(BLOCK_ROWS, f.rows - start))
        x, y = _bring_in(session, name, rows, lambda block=block: block)
        yield x, y
        session.forget(x, y)


def _with_part(cost: Cost, shared: Cost, plan: Plan) -> Cost:
    """`cost` and an equal part of what sharing the candidate cost, since all methods of the run use it."""
    m = len(plan.methods)
    seconds = dict(cost.seconds)
    seconds["share"] = seconds.get("share", 0.0) + shared.seconds.get("share", 0.0) / m
    return Cost(seconds, cost.bytes_sent + shared.bytes_sent // m, cost.rounds + shared.rounds)


def check_names(names: Sequence[str]) -> None:
    """Refuse names of candidates that a record may not hold, or that cannot be told apart."""
    for name in names:
        if not isinstance(name, str) or not name.strip() or len(name) > 200 or PLACE.search(name):
            raise InputError("a candidate's name", repr(name), "a name of 1 to 200 characters that is no path")
    if len(set(names)) < len(names):
        raise InputError("the candidates' names", list(names), "a different one for each")


def needs(methods: Sequence[Appraiser], own: ModelOwnerInput) -> None:
    """Refuse a model owner's input that lacks what a method needs; the error names it."""
    if own.model is None and own.train is None:
        raise InputError("party.train", None, "a data set to train the model on, or a trained model as party.model")
    for method in methods:
        for part in sorted(method.needs):
            if getattr(own, part) is None:
                raise InputError(f"party.{part}", None, f"a data set: the method {method.name} needs it")
    parts = {"party.model": own.model, "party.train": own.train, "party.test": own.test}
    (first, reference), *others = [(name, part) for name, part in parts.items() if part is not None]
    for name, part in others:
        if part.features != reference.features:
            raise InputError(name, f"{part.features} features", f"{reference.features}, as in {first}")


def check_model(own: ModelOwnerInput, l2: float) -> None:
    """Refuse a trained model whose regulariser is not the public one: formulas use the public, its Hessian its own."""
    if own.model is not None and own.model.l2 != l2:
        raise InputError("party.model", f"a model trained with l2 = {own.model.l2:g}", f"{l2:g}, as model.l2 states")


__all__ = ["OWNERS", "DataOwnerInput", "ModelOwnerInput", "Plan", "check_model", "needs", "take_part"]
