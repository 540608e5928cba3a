"""What each owner's ledger is asked before an answer is opened, and how a question is recognised when it is repeated.

In go the plan, the public facts and one owner's inputs; out come its `Question`s by method and candidate, and the model
owner's commitment and marks. A question's digest decides whether an answer is charged again, so that a change to what
enters it charges answered questions anew; tests pin the digests of today.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.appraisal.recompute import inputs_digest
from mpc_appraisal.common.roles import DATA_OWNER
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.governance.budget.keys import keyed
from mpc_appraisal.governance.budget.ledgers import Key, subject
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.governance.catalogue import commit
from mpc_appraisal.methods import Facts

NO_SALT = bytes(32)  # of hashes that are kept under a key, and of those in ledgers from before there were keys


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
            mechanism = Mechanism()
            if role == DATA_OWNER and plan.release.privacy(method, f) is not None:
                mechanism = plan.release.mechanism(method, f)
            data = dict(hashes) if plan.release.joint else hashes[name]
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
    found = {}
    for method in plan.methods:
        for name in facts:
            about = {
                each: [asdict(facts[each]), listed.get(each)] for each in (facts if plan.release.joint else [name])
            }
            parts = {"config": _config(plan), "inputs": inputs, "about": about}
            found[method.name, name] = subject(method=method.name, candidate=name, **parts)
    return found
