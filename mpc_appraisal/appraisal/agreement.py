"""Before anything is shared: the request that all parties see alike, the budgets it fits, the data owner's yes.

1. Every party makes the same request of public facts and compares its digest with the others'.
2. Each owner that tells the other something asks its ledger whether it may, and what it has told already.
3. The data owner says yes: by command, by policy file, or with its configuration.
4. Answers that the data owner's ledger holds are told instead of computed, where the model owner's own ledger holds
   the same answer to the same question; what it does not hold is computed anew. Then both ledgers are charged.
5. While the session runs nothing is opened that is not in the request (`Session.permit`); what was, is settled.
"""

from __future__ import annotations

import math
import re
import secrets
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from mpc_appraisal.appraisal.encrypted_answers import EncryptedAnswers, keys_in, text_in
from mpc_appraisal.appraisal.norms import with_spread
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.appraisal.recompute import inputs_digest
from mpc_appraisal.common.errors import DisagreementError, InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.common.text import printable
from mpc_appraisal.governance.approval.decide import Request, decide
from mpc_appraisal.governance.approval.schema import FORMAT
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.governance.budget.keys import keyed
from mpc_appraisal.governance.budget.ledger import Answer, Charge
from mpc_appraisal.governance.budget.ledgers import Key, subject
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.governance.catalogue import commit
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.mpc.backends.registry import bounded, trust_of
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols.checks import LOGIT_CHECK_WHAT, LOGIT_CHECK_WHY, NORM_CHECK_WHAT
from mpc_appraisal.mpc.session import Opening
from mpc_appraisal.release.accuracy import doubt_of
from mpc_appraisal.release.base import Outcome

NO_SALT = bytes(32)  # of hashes that are kept under a key, and of those in ledgers from before there were keys


@dataclass
class Agreed:
    """What the parties agreed on. approval: as `Decision`; answers: outcomes that need no computation, at
    the dealer without what they say.

    openings: at most these are opened. granted: what this party's ledgers were charged. marks: at the model owner, by
    which its ledger knows an answer again, see `marks_of`. inputs: the model owner's commitment to all that it brings.
    """

    request: Request
    approval: dict[str, str]
    answers: dict[Key, Outcome]
    openings: list[Opening]
    granted: dict[Key, Charge | Answer] = field(default_factory=dict)
    marks: dict[Key, str] = field(default_factory=dict)
    inputs: str | None = None


def consent(
    role: str,
    rendezvous: Rendezvous,
    plan: Plan,
    own: OwnInput,
    facts: dict[str, Facts],
    published: dict[str, dict[str, float]],
    listed: Mapping[str, dict[str, Any] | None],
    compared: Sequence[str] = (),
) -> Agreed:
    """Steps 1 to 4; every party calls it.

    listed: what each candidate's listing says, by its name, or None. published: the norms that each owner has
    announced. compared: sentences on how the two sides' data fit together.

    Raises DisagreementError: the parties' requests differ. InputError: a ledger refuses. ApprovalError: no yes.
    """
    keys = {owner: key for owner in OWNERS if (key := rendezvous.certified(owner)) is not None}
    request = make_request(plan, facts, published, listed, compared, keys)
    note: dict[str, Any] = {"digest": request.digest}
    encrypted_answers = EncryptedAnswers()  # the dealer, who reads all notes, shall read no answer
    if isinstance(own, ModelOwnerInput):
        note |= {"inputs": inputs_of(own), "key": encrypted_answers.address}
    notes = rendezvous.exchange("request", note)
    for name, theirs in notes.items():
        if (digest := text_in(theirs, "digest", name)) != request.digest:
            raise DisagreementError(f"the request is {request.id} here, {digest[:12]!r} at {name}")
    inputs = text_in(notes[MODEL_OWNER], "inputs", MODEL_OWNER)
    if not re.fullmatch("[0-9a-f]{64}", inputs):
        raise PeerError(f"{MODEL_OWNER} sent {inputs[:40]!r} for a commitment to its inputs; expected 64 hex digits")
    if own is not None and own.controls.show is not None:
        own.controls.show(request)
    ledgers = own.controls.ledgers if own is not None else None
    if ledgers is not None:
        ledgers.identity = keys.get(MODEL_OWNER if role == DATA_OWNER else DATA_OWNER)
    questions: dict[Key, Question] = {}
    openings = [o for method in plan.methods for o in _openings(plan, method, 1)]
    learners = {learner for o in openings if o.what != NORM_CHECK_WHAT for learner in o.to}  # it tells nobody anything
    if ledgers is not None and learners - {role}:
        questions = questions_of(role, plan, own, facts, inputs, request)
    found = ledgers.consult(questions) if questions else {}
    marks = marks_of(plan, facts, inputs, listed) if questions and role == MODEL_OWNER else {}
    known: dict[Key, Outcome] = {}
    note = {}
    if isinstance(own, DataOwnerInput):
        known = _known(plan, found)
        controls = own.controls
        decision = decide(
            request,
            controls.approval,
            controls.requests,
            controls.counterparty,
            controls.patience,
            rendezvous.check,
            _say,
            key=keys.get(MODEL_OWNER),
            lasts=controls.yes_expires,
        )
        note = {"how": decision.how, "time": decision.time, "answered": [list(key) for key in known]}
        note["sealed"] = encrypted_answers.seal(notes[MODEL_OWNER].get("key"), list(known.values()))
    said = rendezvous.exchange("approval", note)[DATA_OWNER]
    approval = {key: text_in(said, key, DATA_OWNER) for key in ("how", "time")}
    answers = _agreed_answers(role, rendezvous, plan, own, facts, said, encrypted_answers, marks, known)
    for key in known.keys() - answers.keys():  # which the model owner does not take: asked and charged anew
        again = subject(again=secrets.token_hex(16), first=questions[key].subject)
        questions[key] = replace(questions[key], subject=again)
    asked = {key: question for key, question in questions.items() if key not in answers}
    granted = ledgers.charge(asked) if asked else {}
    for (method, name), one in granted.items():
        # The answer of a joint release has no noise, and it is announced as a whole.
        if isinstance(one, Answer) and not plan.release.description.joint:
            raise InputError(
                f"the question of {method} ({name})",
                "one that another session has answered since this one began",
                "to be asked again: its answer is in the ledger",
            )
    rendezvous.exchange("charged", {})  # nothing is shared before both ledgers hold it
    return Agreed(request, approval, answers, openings_of(plan, facts, answers), granted, marks, inputs)


def _agreed_answers(
    role: str,
    rendezvous: Rendezvous,
    plan: Plan,
    own: OwnInput,
    facts: dict[str, Facts],
    said: Mapping[str, Any],
    encrypted_answers: EncryptedAnswers,
    marks: Mapping[Key, str],
    known: Mapping[Key, Outcome],
) -> dict[Key, Outcome]:
    """The answers that both owners take from their ledgers; at the dealer without what they say.

    The data owner says which it holds. The model owner takes those that its own ledger holds for the same question, to
    the last bit, and says which: on the other's word it takes none, and without a ledger or a salt none either. All
    the others are computed. Raises DisagreementError for keys that were not asked, PeerError for no answers.
    """
    asked = [(method.name, name) for method in plan.methods for name in facts]
    offered = keys_in(said.get("answered"), asked, plan.release.description.joint, DATA_OWNER)
    if not offered:
        return {}
    taken, outcomes = [], dict(known)
    if role == MODEL_OWNER:
        outcomes = dict(zip(offered, encrypted_answers.unseal(said.get("sealed"), len(offered)), strict=True))
        ledgers = own.controls.ledgers
        taken = [key for key in offered if key in marks and _held(ledgers.marked(key[1], marks[key]), outcomes[key])]
        if plan.release.description.joint:
            whole = {method for method, _ in offered if all(key in taken for key in offered if key[0] == method)}
            taken = [key for key in taken if key[0] in whole]
        for method, name in (key for key in offered if key not in taken):
            _say(
                f"the data owner holds an earlier answer of {method} ({printable(name)}); this side's ledger holds no "
                "such answer to this question, so it is computed anew"
            )
    note = {"taken": [list(key) for key in taken]} if role == MODEL_OWNER else {}
    notes = rendezvous.exchange("answers", note)
    found = keys_in(notes[MODEL_OWNER].get("taken"), offered, plan.release.description.joint, MODEL_OWNER)
    return {key: outcomes.get(key, Outcome()) for key in found}


def _held(recorded: list[Any], outcome: Outcome) -> bool:
    """Whether one of the recorded values is this outcome."""
    known = {f.name for f in fields(Outcome)}
    return any(isinstance(value, dict) and set(value) <= known and Outcome(**value) == outcome for value in recorded)


def make_request(
    plan: Plan,
    facts: dict[str, Facts],
    published: dict[str, dict[str, float]],
    listed: Mapping[str, dict[str, Any] | None],
    compared: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
) -> Request:
    """What all parties see alike.

    compared: sentences on how the two sides' data fit together. keys: by owner SHA-256 of its certificate's key; empty
    where none is shown.
    """
    described = plan.release.description
    doubt = doubt_of(described, plan.methods, list(with_spread(facts, published).values()), plan.engine)
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
        worst = rounded_up(max(each.epsilon for each in noise.values()))
        privacy = {key: getattr(example, key) for key in ("sigma", "delta", "row_norm", "protects")}
        privacy |= {"mechanism": example.mechanism.kind, "epsilon": worst}
        privacy["sensitivity"] = {", ".join(key): rounded_up(each.sensitivity) for key, each in noise.items()}
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
            "release": {"kind": described.kind, "words": " ".join([described.words, *doubt])},
            "openings": openings,
            "privacy": privacy,
            "told": {role: dict(published[role]) for role in (DATA_OWNER, MODEL_OWNER)},
            "protocol": {"engine": plan.engine, "transport": plan.transport.kind, "trust": trust_of(plan.engine)},
            "config": plan.digest,
        }
        | ({"compared": list(compared)} if compared else {})
        | ({"keys": dict(keys)} if keys else {})
    )


def check_counterparty(role: str, own: OwnInput, rendezvous: Rendezvous) -> None:
    """Refuse, at the meeting, a counterparty that shows another certificate key than party.counterparty_key states.

    Raises InputError over a transport that shows none, and DisagreementError for another key.
    """
    stated = own.controls.counterparty_key if own is not None else None
    if stated is None:
        return
    other = MODEL_OWNER if role == DATA_OWNER else DATA_OWNER
    found = rendezvous.certified(other)
    if found is None:
        raise InputError("party.counterparty_key", stated, "session.transport=tls: no other transport shows a key")
    if found != stated:
        raise DisagreementError(f"{other} shows a certificate key with SHA-256 {found}, which {role} does not expect")


def rounded_up(number: float) -> float:
    """To four digits: the last ones of a computed number are not the same on every machine, and the request is."""
    step = 10.0 ** (math.floor(math.log10(number)) - 3) if number > 0 else 1.0
    return float(f"{math.ceil(number / step) * step:.4g}")


def _openings(plan: Plan, method: Appraiser, candidates: int) -> list[Opening]:
    described = plan.release.description
    check = not described.noised and method.logit_growth > 1 and bounded(plan.engine)
    checks = [Opening(LOGIT_CHECK_WHAT, OWNERS, 1, LOGIT_CHECK_WHY)] * (check * candidates)
    return checks + described.openings(method, candidates)


def openings_of(plan: Plan, facts: dict[str, Facts], answers: Mapping[Key, Any]) -> list[Opening]:
    """At most these are opened by the session that is about to run."""
    found = []
    for method in plan.methods:
        found += _openings(plan, method, sum((method.name, name) not in answers for name in facts))
    return found


def inputs_of(own: ModelOwnerInput) -> str:
    """A commitment to all that the model owner brings, its threshold too, under a salt that it keeps, so that it can
    repeat a question; a random number where it keeps none, and then no question is a repetition."""
    salt = own.controls.salt
    if salt is None:
        return secrets.token_hex(32)
    return inputs_digest(salt, (own.train, own.test), own.model, own.threshold)


def questions_of(
    role: str, plan: Plan, own: OwnInput, facts: dict[str, Facts], inputs: str, request: Request
) -> dict[Key, Question]:
    """What this party's ledgers are asked, by method and candidate.

    The data owner's questions are the same when configuration, data and the model owner's inputs are; of the data they
    hold a digest under the ledger's own key, or one without where a ledger from before there were keys has the answer.
    The model owner's never are the same: it cannot tell whether the data are those of an earlier run, so that every
    session is charged, and a repetition is known by its mark (`marks_of`). Noise protects the data owner's rows and
    nothing of the model, so that to the model owner's ledger every answer is one without noise.
    """
    if not isinstance(own, DataOwnerInput):
        hashes = dict.fromkeys(facts, request.digest + secrets.token_hex(16))
        return _questions(role, plan, own, facts, inputs, hashes)
    plain, ledgers = {c.name: commit(c, NO_SALT) for c in own.candidates}, own.controls.ledgers
    if ledgers is None:
        return _questions(role, plan, own, facts, inputs, plain)
    under_keys = {name: keyed(ledgers.key(name), "question", digest) for name, digest in plain.items()}
    old = ledgers.older(_questions(role, plan, own, facts, inputs, plain))
    return _questions(role, plan, own, facts, inputs, under_keys) | old


def _questions(
    role: str, plan: Plan, own: OwnInput, facts: dict[str, Facts], inputs: str, hashes: Mapping[str, str]
) -> dict[Key, Question]:
    found, config = {}, _config(plan)
    for method in plan.methods:
        for name, f in facts.items():
            privacy = plan.release.privacy(method, f) if role == DATA_OWNER else None
            mechanism = Mechanism() if privacy is None else privacy.mechanism
            data = dict(hashes) if plan.release.description.joint else hashes[name]
            about = subject(config=config, data=data, inputs=inputs, facts=asdict(f))
            found[method.name, name] = Question(own.controls.counterparty, method.name, f.rows, about, mechanism)
    return found


def _config(plan: Plan) -> dict[str, Any]:
    """What of the configuration has a part in an answer; how the parties met has none."""
    config = {key: value for key, value in plan.public.items() if not key.startswith(("session.", "protocol."))}
    return config | {"engine": plan.engine, "methods": [repr(m) for m in plan.methods], "release": repr(plan.release)}


def marks_of(
    plan: Plan, facts: Mapping[str, Facts], inputs: str, listed: Mapping[str, dict[str, Any] | None]
) -> dict[Key, str]:
    """By method and candidate a digest of all that the model owner knows of a question: configuration, its own inputs,
    public facts, the candidate's name and listing. It is kept with the answer, and never lets a session go uncharged
    by itself: the same answer must come again from the data owner."""
    found, joint = {}, plan.release.description.joint
    for method in plan.methods:
        for name in facts:
            about = {each: [asdict(facts[each]), listed.get(each)] for each in (facts if joint else [name])}
            parts = {"config": _config(plan), "inputs": inputs, "about": about}
            found[method.name, name] = subject(method=method.name, candidate=name, **parts)
    return found


def _known(plan: Plan, found: Mapping[Key, Answer | None]) -> dict[Key, Outcome]:
    """Outcomes in the data owner's ledger; of a joint release all or none."""
    known = {key: Outcome(**answer.value) for key, answer in found.items() if answer is not None}
    for method, name in known:
        if DATA_OWNER not in plan.release.description.learners:
            raise InputError(
                f"the question of {method} ({name})",
                "an old one, whose answer was told to the model owner alone",
                "a new one: the model owner has the answer in its records",
            )
    if plan.release.description.joint:
        for method in {m for m, _ in found}:
            keys = [key for key in found if key[0] == method]
            if not all(key in known for key in keys):
                known = {key: outcome for key, outcome in known.items() if key not in keys}
    return known


def settle(own: OwnInput, agreed: Agreed, outcomes: Mapping[Key, Outcome]) -> None:
    """Record in this party's ledgers what it was shown."""
    if own is None or own.controls.ledgers is None:
        return
    for key, granted in agreed.granted.items():
        if isinstance(granted, Charge):
            own.controls.ledgers.settle(key, asdict(outcomes[key]), agreed.marks.get(key))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
