"""What the three parties of an appraisal agree on before any secret is shared.

The parties are the model owner, the data owner, and the dealer, who supplies random numbers and may read no answer. In
go the plan, the public facts about each candidate, and the input of the party that runs this file. Out comes an
`Agreed`, or an error at every party. These are the steps of `consent`:

1. Every party makes the same request from public facts, and compares its digest with the digests of the others.
2. An owner whose data the other owner learns from asks its own ledger which answers it may give and which it gave.
3. The data owner says yes by a command, by a policy file or by its configuration.
4. The data owner sends the answers that its ledger holds. The model owner takes an answer if its own ledger holds the
   same answer to the same question. Every other answer will be computed. Then both ledgers are charged.
5. While the session runs, nothing is opened that is not in the request (`Session.permit`). At its end the ledgers
   record what was opened.

A new public fact may be added to the request, and a new check to the steps. Three things have to stay: every party
makes the same exchanges in the same order; the request holds nothing private and nothing that differs between machines;
and both ledgers are charged before anything is shared.
"""

from __future__ import annotations

import math
import secrets
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from mpc_appraisal.appraisal.counted import SharedItems
from mpc_appraisal.appraisal.decided import check_terms, decision_of, same_request, show_to
from mpc_appraisal.appraisal.encrypted_answers import EncryptedAnswers, keys_in, text_in
from mpc_appraisal.appraisal.norms import checks_weights, with_spread
from mpc_appraisal.appraisal.plan import DataOwnerInput, Emit, OwnInput, Plan
from mpc_appraisal.appraisal.questions import marks_of, questions_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS, ROLES
from mpc_appraisal.common.text import printable
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.approval.purpose import Purpose
from mpc_appraisal.governance.approval.schema import FORMAT
from mpc_appraisal.governance.budget.ledgers import Key, LedgerSet, subject
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.governance.budget.state import Answer, Charge
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.methods.metrics import sentences
from mpc_appraisal.models.links import IDENTITY, SOFTMAX
from mpc_appraisal.mpc.backends.registry import stated_protocol
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols.checks import LOGIT_CHECK_WHAT, LOGIT_CHECK_WHY, NORM_CHECK_WHAT
from mpc_appraisal.mpc.session import Opening
from mpc_appraisal.release.accuracy import doubt_of
from mpc_appraisal.release.base import Outcome
from mpc_appraisal.release.unbounded_logits import unbounded_words


@dataclass
class Agreed:
    """What the parties agreed on.

    Attributes:
        request: The request, which is the same at every party.
        approval: How and when the data owner said yes, as in `Decision`.
        answers: The outcomes that need no computation. At the dealer the outcomes hold nothing.
        openings: All that the session may open.
        granted: What this party's ledgers were charged.
        marks: The marks by which the model owner's ledger recognises an answer; see `marks_of`. The other parties have
            none.
        inputs: The model owner's commitment to all that it brings.
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
    shared: SharedItems | None = None,
    emit: Emit = lambda event: None,
    purpose: Purpose | None = None,
    offer: Mapping[str, Any] | None = None,
) -> Agreed:
    """Take steps 1 to 4, which every party calls at the same time, and return what was agreed.

    Args:
        role: This party's role.
        rendezvous: The connection to the other parties.
        plan: What all parties state alike.
        own: This party's own input; None at the dealer.
        facts: The public facts by candidate's name.
        published: The norms that each owner has announced, by role.
        listed: What each candidate's listing says, or None, by candidate's name.
        compared: Sentences on how the two sides' data fit together.
        shared: The sets whose shared items are counted after this, or None; the count is approved and charged here.
        emit: A function that receives progress events.
        purpose, offer: What the model owner asks for, and what it names of the standing offer that it takes.

    Raises:
        DisagreementError: The parties' requests differ, or the terms are others than the model owner has agreed to.
        InputError: A ledger refuses.
        ApprovalError: The data owner does not say yes.
        PeerError: Another party sent a message that cannot be read.
    """
    named = ROLES if plan.relayed else OWNERS  # where parties meet at a relay, the dealer is named
    keys = {each: key for each in named if (key := rendezvous.certified(each)) is not None}
    request = make_request(plan, facts, published, listed, compared, keys, shared, purpose, offer)
    check_terms(plan, own, request, keys)
    encrypted_answers = EncryptedAnswers()  # the dealer, who reads all messages, shall read no answer
    inputs, address = same_request(rendezvous, plan, own, request, encrypted_answers)
    show_to(own, request)
    ledgers = _ledgers_for(own, keys.get(MODEL_OWNER if role == DATA_OWNER else DATA_OWNER))
    questions: dict[Key, Question] = {}
    if ledgers is not None and _learners(plan, facts) - {role}:
        questions = questions_of(role, plan, own, facts, inputs, request)
    counts = shared.questions(own, request) if shared is not None else {}
    found = ledgers.consult(counts | questions) if counts or questions else {}
    marks = marks_of(plan, facts, inputs, listed) if questions and role == MODEL_OWNER else {}
    known = _known(plan, found) if isinstance(own, DataOwnerInput) else {}
    message: dict[str, Any] = {}
    emit({"state": f"waiting for the data owner's yes to request {request.id}"})
    if isinstance(own, DataOwnerInput):
        message = decision_of(rendezvous, plan, own, request, keys)
        message["answered"] = [list(key) for key in known]
        message["sealed"] = encrypted_answers.seal(address, list(known.values()))
    said = rendezvous.exchange("approval", message)[DATA_OWNER]
    approval = {key: text_in(said, key, DATA_OWNER) for key in ("how", "time")}
    answers = _agreed_answers(role, rendezvous, plan, own, facts, said, encrypted_answers, marks, known)
    granted = _charge(own, plan, counts, questions, answers, known)
    rendezvous.exchange("charged", {})  # nothing is shared before both ledgers hold their charges
    return Agreed(request, approval, answers, openings_of(plan, facts, answers), granted, marks, inputs)


def _ledgers_for(own: OwnInput, counterparty_key: str | None) -> LedgerSet | None:
    """Return this party's ledgers, which then know the other owner by the key that it showed; None without any."""
    ledgers = own.controls.ledgers if own is not None else None
    if ledgers is not None:
        ledgers.identity = counterparty_key
    return ledgers


def _learners(plan: Plan, facts: dict[str, Facts]) -> set[str]:
    """Return the owners who learn something from the run.

    The check of announced norms is left out, because it discloses nothing.
    """
    openings = [one for method in plan.methods for one in _openings(plan, method, list(facts.values()))]
    return {learner for one in openings if one.what != NORM_CHECK_WHAT for learner in one.to}


def _charge(
    own: OwnInput,
    plan: Plan,
    counts: dict[Key, Question],
    questions: dict[Key, Question],
    answers: Mapping[Key, Outcome],
    known: Mapping[Key, Outcome],
) -> dict[Key, Charge | Answer]:
    """Charge this party's ledgers in step 4 for the questions that are computed, and return what was granted.

    The counts of shared items are charged with them, and settled once they are counted. Raises InputError where a
    ledger refuses.
    """
    for key in known.keys() - answers.keys():  # the model owner does not take these answers, so they are charged anew
        again = subject(again=secrets.token_hex(16), first=questions[key].subject)
        questions[key] = replace(questions[key], subject=again)
    asked = {key: question for key, question in questions.items() if key not in answers}
    granted = own.controls.ledgers.charge(counts | asked) if counts or asked else {}
    granted = {key: one for key, one in granted.items() if key not in counts}
    for (method, name), one in granted.items():
        # The answer of a joint release has no noise and is announced as a whole, so that it is no error here.
        if isinstance(one, Answer) and not plan.release.description.joint:
            raise InputError(
                f"the question of {method} ({name})",
                "one that another session has answered since this one began",
                "to be asked again: its answer is in the ledger",
            )
    return granted


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
    """Return the answers that both owners take from their ledgers; at the dealer they are empty outcomes.

    The data owner states which answers it holds. The model owner takes an answer if its own ledger holds the same
    answer to the same question, to the last bit, and states which it takes. It takes none on the other's word alone, so
    that without a ledger or a salt it takes none. All other answers are computed. Raises DisagreementError for
    questions that were not asked, and PeerError for answers that cannot be read.
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
    message = {"taken": [list(key) for key in taken]} if role == MODEL_OWNER else {}
    messages = rendezvous.exchange("answers", message)
    found = keys_in(messages[MODEL_OWNER].get("taken"), offered, plan.release.description.joint, MODEL_OWNER)
    return {key: outcomes.get(key, Outcome()) for key in found}


def _held(recorded: list[Any], outcome: Outcome) -> bool:
    """Return whether one of the recorded values is this outcome."""
    known = {f.name for f in fields(Outcome)}
    return any(isinstance(value, dict) and set(value) <= known and Outcome(**value) == outcome for value in recorded)


def make_request(
    plan: Plan,
    facts: dict[str, Facts],
    published: dict[str, dict[str, float]],
    listed: Mapping[str, dict[str, Any] | None],
    compared: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
    shared: SharedItems | None = None,
    purpose: Purpose | None = None,
    offer: Mapping[str, Any] | None = None,
) -> Request:
    """Return the request, which every party makes from the same public facts.

    Args:
        plan: What all parties state alike.
        facts: The public facts by candidate's name.
        published: The norms that each owner has announced, by role.
        listed: What each candidate's listing says, or None, by candidate's name.
        compared: Sentences on how the two sides' data fit together.
        keys: The SHA-256 of the parties' certificate keys, by role; None where the transport shows none.
        shared: The sets whose shared items are counted first; None for no count.
        purpose, offer: What the model owner asks for, and what it names of the standing offer that it takes.
    """
    described = plan.release.description
    doubt = doubt_of(described, plan.methods, list(with_spread(facts, published).values()), plan.engine)
    doubt += unbounded_words(plan.methods, list(facts.values()))
    first = next(iter(facts.values()))
    openings = [
        asdict(opening) | {"to": list(opening.to), "times": times, "method": method.name}
        for method in plan.methods
        for opening, times in Counter(_openings(plan, method, list(facts.values()))).items()
    ]
    return Request(
        {
            "format": FORMAT,
            "methods": [{"name": m.name, "settings": repr(m), "opens": m.opens} for m in plan.methods],
            "model": {key: getattr(first, key) for key in ("features", "classes", "train_rows", "test_rows", "l2")}
            | ({} if plan.model.link is SOFTMAX else {"name": plan.model.name}),
            "candidates": [{"name": name, "rows": f.rows, "listing": listed.get(name)} for name, f in facts.items()],
            "release": {"kind": described.kind, "words": " ".join([described.words, *doubt])},
            "openings": openings,
            "privacy": _privacy_of(plan, facts),
            "told": {role: dict(published[role]) for role in (DATA_OWNER, MODEL_OWNER)},
            "protocol": stated_protocol(plan.engine, plan.transport.kind, plan.integrity, plan.relayed),
            "config": plan.digest,
        }
        | ({"compared": list(compared)} if compared else {})
        | ({"metrics": metrics} if (metrics := sentences(plan.methods, plan.model.link is IDENTITY)) else {})
        | ({"keys": dict(keys)} if keys else {})
        | ({"purpose": purpose.as_dict()} if purpose is not None else {})
        | ({"offer": dict(offer)} if offer is not None else {})
        | ({"recipe": plan.public["recipe"]} if plan.public.get("recipe") else {})
        | ({"resolution": first.resolution.as_dict()} if first.resolution is not None else {})
        | (shared.stated(openings) if shared is not None else {})
    )


def _privacy_of(plan: Plan, facts: dict[str, Facts]) -> dict[str, Any] | None:
    """Return what a request says of the noise; None for a release without noise."""
    noise = {(m.name, name): plan.release.privacy(m, f) for m in plan.methods for name, f in facts.items()}
    example = next(iter(noise.values()))
    if example is None:
        return None
    privacy = {key: getattr(example, key) for key in ("sigma", "delta", "row_norm", "protects")}
    privacy |= {} if example.target_norm is None else {"target_norm": example.target_norm}
    privacy |= {"mechanism": example.mechanism.kind}
    privacy["epsilon"] = rounded_up(max(each.epsilon for each in noise.values()))
    privacy["sensitivity"] = {", ".join(key): rounded_up(each.sensitivity) for key, each in noise.items()}
    return privacy


def rounded_up(number: float) -> float:
    """Return `number` rounded up to four digits, so that the request is the same on every machine."""
    step = 10.0 ** (math.floor(math.log10(number)) - 3) if number > 0 else 1.0
    return float(f"{math.ceil(number / step) * step:.4g}")


def _openings(plan: Plan, method: Appraiser, candidates: Sequence[Facts]) -> list[Opening]:
    """Return all that one method may open for candidates with these facts."""
    described = plan.release.description
    checked = sum(not described.noised and checks_weights(method, plan, f) for f in candidates)
    checks = [Opening(LOGIT_CHECK_WHAT, OWNERS, 1, LOGIT_CHECK_WHY)] * checked
    return checks + described.openings(method, len(candidates))


def openings_of(plan: Plan, facts: dict[str, Facts], answers: Mapping[Key, Any]) -> list[Opening]:
    """Return all that the session may open.

    answers: the questions whose answers are known, by method and candidate; such a question opens nothing.
    """
    found = []
    for method in plan.methods:
        found += _openings(plan, method, [f for name, f in facts.items() if (method.name, name) not in answers])
    return found


def _known(plan: Plan, found: Mapping[Key, Answer | None]) -> dict[Key, Outcome]:
    """Return the outcomes that the data owner's ledger holds; for a joint release, all of a method's or none.

    Raises InputError where an answer was opened to the model owner alone, so that this ledger does not hold its value.
    """
    known = {key: Outcome(**answer.value) for key, answer in found.items() if answer is not None}
    for method, name in known:
        if DATA_OWNER not in plan.release.description.learners:
            raise InputError(
                f"the question of {method} ({name})",
                "an old one, whose answer was opened to the model owner alone",
                "a new one: the model owner has the answer in its records",
            )
    if plan.release.description.joint:
        for method in {m for m, _ in found}:
            keys = [key for key in found if key[0] == method]
            if not all(key in known for key in keys):
                known = {key: outcome for key, outcome in known.items() if key not in keys}
    return known


def settle(own: OwnInput, agreed: Agreed, outcomes: Mapping[Key, Outcome]) -> None:
    """Record in this party's ledgers what it was shown. outcomes: by method and candidate."""
    if own is None or own.controls.ledgers is None:
        return
    for key, granted in agreed.granted.items():
        if isinstance(granted, Charge):
            own.controls.ledgers.settle(key, asdict(outcomes[key]), agreed.marks.get(key))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
