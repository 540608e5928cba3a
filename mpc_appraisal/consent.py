"""Before anything is shared: the request that all parties see alike, the budgets it fits, the data owner's yes.

1. Every party makes the same request of public facts and compares its digest with the others'.
2. Each owner that tells the other something asks its ledger whether it may, and what it has told already.
3. The data owner says yes: by command, by policy file, or with its configuration.
4. Both ledgers are charged; answers that the data owner's ledger holds are told instead of computed.
5. While the session runs nothing is opened that is not in the request (`Session.permit`); what was, is settled.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mpc_appraisal.appraisal import Appraiser, Facts
from mpc_appraisal.approval import Request, decide
from mpc_appraisal.approval.shape import FORMAT
from mpc_appraisal.catalogue import commit
from mpc_appraisal.errors import DisagreementError, InputError
from mpc_appraisal.mpc.engines import bounded
from mpc_appraisal.mpc.logit_check import WHAT, WHY
from mpc_appraisal.mpc.rendezvous import Rendezvous
from mpc_appraisal.mpc.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.mpc.session import Opening
from mpc_appraisal.norms import with_spread
from mpc_appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.protocols.rtas import trust_of
from mpc_appraisal.release.accounting import Mechanism
from mpc_appraisal.release.accuracy import doubt_of
from mpc_appraisal.release.keeper import Key, subject
from mpc_appraisal.release.ledger import Answer, Charge
from mpc_appraisal.release.policy import Question
from mpc_appraisal.release.rule import Outcome
from mpc_appraisal.sealed import Envelope

NO_SALT = bytes(32)  # of hashes that stay in their owner's ledger


@dataclass
class Agreed:
    """What the parties agreed on. approval: as `Decision`; answers: outcomes that need no computation, at
    the dealer without what they say.

    openings: at most these are opened. granted: what this party's ledgers were charged.
    """

    request: Request
    approval: dict[str, str]
    answers: dict[Key, Outcome]
    openings: list[Opening]
    granted: dict[Key, Charge | Answer] = field(default_factory=dict)


def consent(
    role: str,
    rendezvous: Rendezvous,
    plan: Plan,
    own: OwnInput,
    facts: dict[str, Facts],
    told: dict[str, dict[str, float]],
    listed: Mapping[str, dict[str, Any] | None],
) -> Agreed:
    """Steps 1 to 4; every party calls it.

    listed: by candidate what its listing says, or None. told: the owners' notes on norms.

    Raises DisagreementError: the parties' requests differ. InputError: a ledger refuses. ApprovalError: no yes.
    """
    request = make_request(plan, facts, told, listed)
    note: dict[str, Any] = {"digest": request.digest}
    envelope = Envelope()  # the dealer, who reads all notes, shall read no answer
    if isinstance(own, ModelOwnerInput):
        note |= {"inputs": inputs_of(own), "key": envelope.address}
    notes = rendezvous.exchange("request", note)
    for name, theirs in notes.items():
        if theirs["digest"] != request.digest:
            raise DisagreementError(f"the request is {request.id} here, {theirs['digest'][:12]} at {name}")
    if own is not None and own.guard.show is not None:
        own.guard.show(request)
    keeper = own.guard.keeper if own is not None else None
    questions: dict[Key, Question] = {}
    learners = {learner for method in plan.methods for o in _openings(plan, method, 1) for learner in o.to}
    if keeper is not None and learners - {role}:
        questions = questions_of(role, plan, own, facts, notes[MODEL_OWNER]["inputs"], request)
    found = keeper.consult(questions) if questions else {}
    known: dict[Key, Outcome] = {}
    note = {}
    if isinstance(own, DataOwnerInput):
        known = _known(plan, found)
        guard = own.guard
        decision = decide(
            request, guard.approval, guard.requests, guard.counterparty, guard.patience, rendezvous.check, _say
        )
        note = {"how": decision.how, "time": decision.time, "answered": list(known)}
        note["sealed"] = envelope.seal(notes[MODEL_OWNER]["key"], list(known.values()))
    said = rendezvous.exchange("approval", note)[DATA_OWNER]
    approval = {key: said[key] for key in ("how", "time")}
    answers = {(method, name): known.get((method, name), Outcome()) for method, name in said["answered"]}
    if role == MODEL_OWNER:
        answers = dict(zip(answers, envelope.unseal(said["sealed"]), strict=True))
    asked = {key: question for key, question in questions.items() if key not in answers}
    granted = keeper.charge(asked) if asked else {}
    for (method, name), one in granted.items():
        if isinstance(one, Answer) and not plan.release.joint:  # whose answer has no noise, and is told whole
            raise InputError(
                f"the question of {method} ({name})",
                "one that another session has answered since this one began",
                "to be asked again: its answer is in the ledger",
            )
    rendezvous.exchange("charged", {})  # nothing is shared before both ledgers hold it
    return Agreed(request, approval, answers, openings_of(plan, facts, answers), granted)


def make_request(
    plan: Plan,
    facts: dict[str, Facts],
    told: dict[str, dict[str, float]],
    listed: Mapping[str, dict[str, Any] | None],
) -> Request:
    """What all parties see alike."""
    doubt = doubt_of(plan.release, plan.methods, list(with_spread(facts, told).values()), plan.engine)
    first = next(iter(facts.values()))
    openings = [
        asdict(opening) | {"to": list(opening.to), "times": times, "method": method.name}
        for method in plan.methods
        for opening, times in Counter(_openings(plan, method, len(facts))).items()
    ]
    noise = {(m.name, name): plan.release.privacy(m, f) for m in plan.methods for name, f in facts.items()}
    example = next(iter(noise.values()))
    privacy = None
    if example is not None:
        worst = rounded_up(max(each["epsilon"] for each in noise.values()))
        privacy = {key: example[key] for key in ("sigma", "delta", "row_norm", "protects")}
        privacy |= {"mechanism": "discrete_gaussian", "epsilon": worst}
        privacy["sensitivity"] = {", ".join(key): rounded_up(each["sensitivity"]) for key, each in noise.items()}
    return Request(
        {
            "format": FORMAT,
            "methods": [{"name": m.name, "settings": repr(m), "opens": m.opens} for m in plan.methods],
            "model": {
                "features": first.features,
                "classes": first.classes,
                "train_rows": first.train_rows,
                "test_rows": first.test_rows,
                "l2": first.l2,
            },
            "candidates": [{"name": name, "rows": f.rows, "listing": listed.get(name)} for name, f in facts.items()],
            "release": {"kind": plan.release.kind, "words": " ".join([plan.release.words, *doubt])},
            "openings": openings,
            "privacy": privacy,
            "told": {role: dict(told[role]) for role in (DATA_OWNER, MODEL_OWNER)},
            "protocol": {"engine": plan.engine, "transport": plan.transport.kind, "trust": trust_of(plan.engine)},
            "config": plan.digest,
        }
    )


def rounded_up(number: float) -> float:
    """To four digits: the last ones of a computed number are not the same on every machine, and the request is."""
    step = 10.0 ** (math.floor(math.log10(number)) - 3) if number > 0 else 1.0
    return float(f"{math.ceil(number / step) * step:.4g}")


def _openings(plan: Plan, method: Appraiser, candidates: int) -> list[Opening]:
    check = plan.release.checks and method.logit_growth > 1 and bounded(plan.engine)
    return [Opening(WHAT, OWNERS, 1, WHY)] * (check * candidates) + plan.release.openings(method, candidates)


def openings_of(plan: Plan, facts: dict[str, Facts], answers: Mapping[Key, Any]) -> list[Opening]:
    """At most these are opened by the session that is about to run."""
    found = []
    for method in plan.methods:
        found += _openings(plan, method, sum((method.name, name) not in answers for name in facts))
    return found


def inputs_of(own: ModelOwnerInput) -> str:
    """A commitment to all that the model owner brings, its threshold too, under a salt that it keeps, so that it can
    repeat a question; a random number where it keeps none, and then no question is a repetition."""
    salt = own.guard.salt
    if salt is None:
        return secrets.token_hex(32)
    found = hashlib.sha256(salt)
    for data in (own.train, own.test):
        found.update(commit(data, salt).encode() if data is not None else b"-")
    if own.model is not None:
        theta = own.model.theta.double().contiguous()
        found.update(repr(tuple(theta.shape)).encode() + theta.numpy().astype("<f8").tobytes())
    stated = dict(own.threshold) if isinstance(own.threshold, Mapping) else own.threshold
    found.update(json.dumps(stated, sort_keys=True).encode())
    return hashlib.sha256(salt + found.digest()).hexdigest()


def questions_of(
    role: str, plan: Plan, own: OwnInput, facts: dict[str, Facts], inputs: str, request: Request
) -> dict[Key, Question]:
    """What this party's ledgers are asked, by method and candidate.

    The data owner's questions are the same when configuration, data and the model owner's inputs are. The model
    owner's never are: it cannot tell whether the data are those of an earlier run. Noise protects the data owner's rows
    and nothing of the model, so that to the model owner's ledger every answer is one without noise.
    """
    if isinstance(own, DataOwnerInput):
        hashes = {c.name: commit(c, NO_SALT) for c in own.candidates}
    else:
        hashes = dict.fromkeys(facts, request.digest + secrets.token_hex(16))
    # how the parties met has no part in an answer
    config = {key: value for key, value in plan.public.items() if not key.startswith(("session.", "protocol."))}
    config |= {"engine": plan.engine, "methods": [repr(m) for m in plan.methods], "release": repr(plan.release)}
    found = {}
    for method in plan.methods:
        for name, f in facts.items():
            mechanism = Mechanism()
            if role == DATA_OWNER and plan.release.privacy(method, f) is not None:
                mechanism = plan.release.mechanism(method, f)
            data = hashes if plan.release.joint else hashes[name]
            about = subject(config=config, data=data, inputs=inputs, facts=asdict(f))
            found[method.name, name] = Question(own.guard.counterparty, method.name, f.rows, about, mechanism)
    return found


def _known(plan: Plan, found: Mapping[Key, Answer | None]) -> dict[Key, Outcome]:
    """Outcomes in the data owner's ledger; of a joint release all or none."""
    known = {key: Outcome(**answer.value) for key, answer in found.items() if answer is not None}
    for method, name in known:
        if DATA_OWNER not in plan.release.learners:
            raise InputError(
                f"the question of {method} ({name})",
                "an old one, whose answer was told to the model owner alone",
                "a new one: the model owner has the answer in its records",
            )
    if plan.release.joint:
        for method in {m for m, _ in found}:
            keys = [key for key in found if key[0] == method]
            if not all(key in known for key in keys):
                known = {key: outcome for key, outcome in known.items() if key not in keys}
    return known


def settle(own: OwnInput, agreed: Agreed, outcomes: Mapping[Key, Outcome]) -> None:
    """Record in this party's ledgers what it was shown."""
    if own is None or own.guard.keeper is None:
        return
    for key, granted in agreed.granted.items():
        if isinstance(granted, Charge):
            own.guard.keeper.settle(key, asdict(outcomes[key]))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
