"""Changed terms need both sides' yes: the data owner is asked anew, and the model owner's agreement is compared."""

from __future__ import annotations

import json

import pytest
from offers import NOON
from test_request import CONTENT, LISTING, changed

from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.governance.approval.changed_terms import changed as changes
from mpc_appraisal.governance.approval.changed_terms import check_agreed, read_request
from mpc_appraisal.governance.approval.decide import ApprovalError, Request, RequestQueue, decide

OLD = Request(CONTENT)
NOISELESS = changed("release", "kind", to="value") | {"privacy": None}
FINETUNING = [{"name": "finetuning", "settings": "Finetuning(steps=4)", "opens": "a number"}]
TERMS = [
    (changed("methods", to=FINETUNING), ["methods: Influence(damping=0.0) before, Finetuning(steps=4) now"]),
    (changed("privacy", "epsilon", to=2.0), ["epsilon: 0.9 before, 2 now"]),
    (
        NOISELESS,
        [
            "release: dp before, value now",
            "epsilon: 0.9 before, infinite (no noise) now",
            "delta: 1e-06 before, 1 (no noise) now",
        ],
    ),
    (
        changed("candidates", 1, "listing", to=LISTING | {"price": 120}),
        ["price of digits-b: 100 EUR before, 120 EUR now"],
    ),
    (
        changed("purpose", to={"kind": "research", "text": ""}),
        ["purpose: purchase: a supplier for 2027 before, research now"],
    ),
    (
        changed("offer", to={"name": "standard", "digest": "a" * 64, "price": {"amount": 10, "currency": "EUR"}}),
        [f"offer: none before, standard ({'a' * 64}) now", "price of one answer: none before, 10 EUR now"],
    ),
    (
        changed("candidates", 1, "listing", to=LISTING | {"commitment": "c" * 64}),
        [f"commitment to digits-b: {'b' * 64} before, {'c' * 64} now"],
    ),
]


@pytest.mark.parametrize(("content", "expected"), TERMS, ids=lambda one: str(one)[:20])
def test_each_changed_term_is_named_with_its_old_and_its_new_value(content, expected):
    new = Request(content)
    assert [str(one) for one in changes(OLD, new)] == expected and new.digest != OLD.digest
    with pytest.raises(DisagreementError) as error:
        check_agreed(OLD, new)
    assert all(line in str(error.value) for line in expected) and "need both sides' yes" in str(error.value)
    assert error.value.public == str(error.value)


def test_the_same_terms_are_agreed_to():
    check_agreed(OLD, Request(changed("told", "data_owner", "row_norm", to=9.0)))
    check_agreed(None, OLD)


def test_a_yes_to_the_old_terms_starts_no_request_of_new_ones(tmp_path):
    queue = RequestQueue(tmp_path / "desk", lambda: NOON)
    queue.put(OLD, "acme")
    queue.say(OLD.id, True)
    new, lines = Request(changed("privacy", "epsilon", to=2.0)), []

    def asked():
        return decide(new, "ask", queue.folder, "acme", 0, lambda: None, lines.append, clock=lambda: NOON)

    with pytest.raises(ApprovalError, match=f"no answer to request {new.id}"):
        asked()
    words = f"Terms differ from request {OLD.id}, which was approved: epsilon: 0.9 before, 2 now."
    assert lines[1] == f"request {new.id}: {words}"
    assert queue.read(OLD.id).state == "yes" and queue.read(new.id).state == "pending"
    assert queue.read(new.id).note == words
    queue.say(new.id, True)
    assert asked().digest == new.digest and queue.read(OLD.id).state == "yes"


def test_another_counterparty_and_other_data_are_no_change(tmp_path):
    queue = RequestQueue(tmp_path / "desk", lambda: NOON)
    queue.put(OLD, "acme")
    queue.say(OLD.id, True)
    for content, who in (
        (changed("privacy", "epsilon", to=2.0), "other"),
        (changed("candidates", 0, "name", to="z"), "acme"),
    ):
        lines = []
        with pytest.raises(ApprovalError):
            decide(Request(content), "ask", queue.folder, who, 0, lambda: None, lines.append, clock=lambda: NOON)
        assert len(lines) == 1


def test_a_request_is_read_as_a_run_wrote_it(tmp_path):
    (tmp_path / "request.json").write_text(json.dumps(OLD.content, indent=1))
    assert read_request(tmp_path / "request.json", "party.agreed").digest == OLD.digest
    with pytest.raises(
        InputError, match=r"^party.agreed: got .*\(No such file or directory\); expected a file with a request"
    ):
        read_request(tmp_path / "none.json", "party.agreed")
    (tmp_path / "request.json").write_text("{}")
    with pytest.raises(InputError, match="^request: got no format"):
        read_request(tmp_path / "request.json", "party.agreed")
