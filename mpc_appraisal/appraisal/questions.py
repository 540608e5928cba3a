"""What each owner's ledger is asked before an answer is opened, and how a question is recognised when it is repeated.

A ledger is an owner's file of the answers that were opened to the other side. A question stands for one method and one
candidate (a data set of the data owner). In go the plan, the public facts and one owner's inputs. Out come its
`Question`s by method and candidate; the model owner's commitment, a hash that binds it to its inputs; and its marks,
which are digests by which its ledger recognises a repeated question. A question's digest decides whether an answer is
charged again, so that a change to what enters it charges answered questions anew; tests pin the digests of today, which
have to stay.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.appraisal.recompute import inputs_digest
from mpc_appraisal.common.roles import DATA_OWNER, ON
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.governance.budget.keys import keyed
from mpc_appraisal.governance.budget.ledgers import Key, subject
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.governance.catalogue import commit
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.methods.metrics import own_settings
from mpc_appraisal.models.links import SOFTMAX

NO_SALT = bytes(32)  # for digests that a key protects, and for those of ledgers that are older than keys


def inputs_of(own: ModelOwnerInput, methods: Sequence[Appraiser] = ()) -> str:
    """Return the model owner's commitment to all that it brings, its threshold and its own settings included.

    The commitment is made under the salt that the owner keeps, so that a repeated question can be recognised. Without a
    salt it is a random number, and no question counts as repeated.

    methods: the methods of the session, whose settings may belong to the model owner alone.
    """
    salt = own.controls.salt
    if salt is None:
        return secrets.token_hex(32)
    return inputs_digest(salt, (own.train, own.test), own.model, own.threshold, own_settings(methods))


def questions_of(
    role: str, plan: Plan, own: OwnInput, facts: dict[str, Facts], inputs: str, request: Request
) -> dict[Key, Question]:
    """Return the questions that this party's ledgers are asked, by method and candidate.

    The data owner's questions are the same when the configuration, the data and the model owner's inputs are the same.
    They hold a digest of the data under the ledger's own key, or one without a key where a ledger that is older than
    keys holds the answer. The model owner's questions are never the same, because it cannot recognise the data of an
    earlier run. Each of its sessions is charged, and a repetition is recognised by its mark (`marks_of`). Noise
    protects the data owner's rows and nothing of the model, so that the model owner's ledger counts each answer as one
    without noise.

    Args:
        role: This party's role, which is that of an owner.
        plan: What all parties state alike.
        own: This owner's input.
        facts: The public facts by candidate's name.
        inputs: The model owner's commitment.
        request: The request that the parties agreed on.
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
    """Return one question for each method and candidate. hashes: the digest of the data by candidate's name."""
    found, config = {}, _config(plan)
    for method in plan.methods:
        for name, f in facts.items():
            privacy = plan.release.privacy(method, f) if role == DATA_OWNER else None
            mechanism = Mechanism() if privacy is None else privacy.mechanism
            data = dict(hashes) if plan.release.description.joint else hashes[name]
            about = subject(config=config, data=data, inputs=inputs, facts=_as_dict(f))
            found[method.name, name] = Question(own.controls.counterparty, method.name, f.rows, about, mechanism)
    return found


def _as_dict(facts: Facts) -> dict[str, Any]:
    """Return the facts as a digest holds them; the fields that came with other models stand in questions of those.

    How rows are shared changes no answer, so that the resolution is in no question.
    """
    found, new = asdict(facts), ("link", "target")
    del found["resolution"]
    found = {k: v for k, v in found.items() if facts.loss is not SOFTMAX or k not in new}
    return {k: v for k, v in found.items() if k != "auto" or v}


def _config(plan: Plan) -> dict[str, Any]:
    """Return the part of the configuration that an answer depends on.

    The kind of connection is no part of it, and neither is a count of shared items, which has a question of its own. A
    check of messages is a part: where it is asked for, no answer counts that was computed without it.
    """
    others = ("session.", "protocol.", "overlap")
    config = {key: value for key, value in plan.public.items() if not key.startswith(others)}
    config |= {"integrity": ON} if plan.integrity else {}
    return config | {"engine": plan.engine, "methods": [repr(m) for m in plan.methods], "release": repr(plan.release)}


def marks_of(
    plan: Plan, facts: Mapping[str, Facts], inputs: str, listed: Mapping[str, dict[str, Any] | None]
) -> dict[Key, str]:
    """Return the marks by which the model owner's ledger recognises a repeated question, by method and candidate.

    A mark is a digest of all that the model owner knows of a question: the configuration, its own inputs, the public
    facts, the candidate's name and its listing. The ledger keeps the mark with the answer. A mark alone lets no session
    go uncharged: the data owner must send the same answer again.
    """
    found, joint = {}, plan.release.description.joint
    for method in plan.methods:
        for name in facts:
            about = {each: [_as_dict(facts[each]), listed.get(each)] for each in (facts if joint else [name])}
            parts = {"config": _config(plan), "inputs": inputs, "about": about}
            found[method.name, name] = subject(method=method.name, candidate=name, **parts)
    return found
