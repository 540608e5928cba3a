"""The yes under a standing offer: what a data owner keeps, what is counted, and what is refused by the term's name."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from datetime import datetime, timedelta, timezone

import pytest
from offers import (
    BUYER,
    NOON,
    OTHER_BUYER,
    STRANGER,
    TERMS,
    book,
    offer,
    offering,
    request,
    terms,
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import ApprovalError, RequestQueue, decide
from mpc_appraisal.governance.offers.grant import OfferRefusal
from mpc_appraisal.governance.offers.taken import Taken

MOMENT = timedelta(seconds=1)


@pytest.fixture
def folder(tmp_path):
    """A folder of offers in which TERMS are in force."""
    book(tmp_path / "offers").put(offer())
    return tmp_path / "offers"


def refused(folder, taken=None, buyer=BUYER, now=NOON, **of) -> str:
    with pytest.raises(OfferRefusal) as error:
        offering(folder, now, **of).grant(request(offer() if taken is None else taken), buyer)
    return str(error.value)


def count(folder, now=NOON) -> int:
    return Taken(folder.parent / "offers.taken").count("standard", now)


def test_a_request_that_keeps_the_terms_gets_a_yes(folder):
    asked = request(offer())
    decision = offering(folder).grant(asked, BUYER)
    assert (decision.how, decision.time, decision.digest) == ("offer", "2026-01-15T12:00:00+00:00", asked.digest)
    (line,) = [json.loads(text) for text in (folder.parent / "offers.taken").read_text().splitlines()[1:]]
    assert {key: line[key] for key in ("kind", "offer", "digest", "request", "buyer", "answers")} == {
        "kind": "taken", "offer": "standard", "digest": offer().digest, "request": asked.digest, "buyer": BUYER,
        "answers": 1,
    }  # fmt: skip


def test_a_month_has_so_many_answers_and_no_more(folder):
    for number in (1, 2):
        offering(folder).grant(request(offer()), BUYER)
        assert count(folder) == number
    words = "answers a month: got 1 more; expected at most the 0 that are left of 2 in 2026-01 (UTC)"
    assert words in refused(folder)
    assert count(folder) == 2


def test_a_month_ends_in_utc(folder):
    end = datetime(2026, 2, 1, tzinfo=timezone.utc)
    for now in (end - timedelta(days=20), end - MOMENT):
        offering(folder, now).grant(request(offer()), BUYER)
    assert "in 2026-01 (UTC)" in refused(folder, now=end - MOMENT)
    west = timezone(-timedelta(hours=8))  # it is still January there, and February in UTC
    assert count(folder, end.astimezone(west)) == 0
    offering(folder, end.astimezone(west)).grant(request(offer()), BUYER)
    assert (count(folder, end - MOMENT), count(folder, end)) == (3, 1), "a clock turned back gives nothing back"
    assert "in 2026-01 (UTC)" in refused(folder, now=end - MOMENT)
    offering(folder, datetime(2026, 12, 31, 23, tzinfo=timezone.utc)).grant(request(offer()), BUYER)
    assert "until: got 2027-01-01" in refused(folder, now=datetime(2027, 1, 1, tzinfo=timezone.utc))


def test_a_request_of_two_methods_takes_two_answers(folder):
    content = terms("methods", to={"influence": {}, "finetuning": {}}) | {"answers_per_month": 3}
    book(folder).put(made := offer(content), replace=True)
    both = [{"name": name, "settings": name, "opens": "a number"} for name in ("influence", "finetuning")]
    offering(folder).grant(request(made, methods=both), BUYER)
    assert count(folder) == 2
    with pytest.raises(OfferRefusal, match="answers a month: got 2 more; expected at most the 1 that are left of 3"):
        offering(folder).grant(request(made, methods=both), BUYER)
    assert count(folder) == 2


def test_an_expired_offer_and_another_buyer_take_nothing(folder):
    assert "until: got 2027-01-01T00:00:00+00:00" in refused(folder, now=datetime(2027, 1, 1, tzinfo=timezone.utc))
    assert "buyer: got the certificate key with SHA-256 dddd" in refused(folder, buyer=OTHER_BUYER)
    assert "buyer: got no certificate" in refused(folder, buyer=None)
    assert not (folder.parent / "offers.taken").exists()


def test_a_withdrawn_offer_gives_no_yes_until_it_is_made_anew(folder):
    book(folder).withdraw("standard")
    assert "withdrawn: got at 2026-01-15T12:00:00+00:00; expected an offer that is in force" in refused(folder)
    with pytest.raises(InputError, match="^offer standard: got withdrawn at"):
        book(folder).withdraw("standard")
    book(folder).put(offer(again := terms("made", to="2026-01-16T00:00:00+00:00")))
    assert "digest: got" in refused(folder)
    assert offering(folder).grant(request(offer(again)), BUYER).how == "offer"


def test_a_changed_offer_does_not_hold_for_who_names_the_old_one(folder):
    changed = offer(terms("price", "amount", to=12) | {"until": "2027-01-31"})
    with pytest.raises(InputError, match="^offer.name: got standard; expected another name, or replace=yes"):
        book(folder).put(changed)
    assert book(folder).put(changed, replace=True).digest == offer().digest
    sentence = refused(folder, taken=offer())
    assert "price: got 10 EUR for one answer; expected 12 EUR for one answer, since the offer was changed" in sentence
    assert "until: got 2026-12-31, " in sentence and f"expected {changed.digest}, the digest of the offer" in sentence
    assert offering(folder).grant(request(changed), BUYER).how == "offer"
    book(folder).put(closed := offer(terms("buyers", to=[OTHER_BUYER])), replace=True)
    sentence = refused(folder, taken=changed)
    assert "buyers: got those of the earlier offer; expected others, since" in sentence and OTHER_BUYER not in sentence
    book(folder).put(changed, replace=True)
    assert closed.digest != changed.digest
    unknown = offer(terms("text", to="nobody kept this one"))
    assert refused(folder, taken=unknown).endswith(f"digest: got {unknown.digest}; expected {changed.digest}, the "
                                                   "digest of the offer in force, named by the buyer")  # fmt: skip


def test_a_count_goes_by_the_name_of_the_offer(folder):
    offering(folder).grant(request(offer()), BUYER)
    changed = offer(terms("price", "amount", to=12))
    book(folder).put(changed, replace=True)
    offering(folder).grant(request(changed), BUYER)
    assert "answers a month: got 1 more" in refused(folder, taken=changed)


def test_a_tampered_offer_gives_no_yes(folder):
    file = folder / "standard.json"
    content = json.loads(file.read_text())
    content["content"]["answers_per_month"] = 1000
    file.write_text(json.dumps(content))
    expected = "signature: got one of other terms; expected an offer that this data owner has signed"
    assert expected in refused(folder)
    assert str(folder) not in refused(folder)
    file.unlink()
    assert "offer: got none of this name that is whole" in refused(folder)


def test_an_offer_of_another_key_is_none_of_this_data_owner(folder):
    assert "key: got an offer of another key; expected the key of this data owner" in refused(folder, own=STRANGER)
    book(folder).put(foreign := offer(key=STRANGER), replace=True)
    assert "key: got an offer of another key" in refused(folder, taken=foreign)


def test_a_tampered_count_gives_no_yes(folder):
    offering(folder).grant(request(offer()), BUYER)
    file = folder.parent / "offers.taken"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0])
    with pytest.raises(InputError, match="offers.taken, line 2: got no line"):
        offering(folder).grant(request(offer()), BUYER)
    file.write_text(lines[0] + lines[1].replace('"answers":1', '"answers":0'))
    with pytest.raises(InputError, match="offers.taken, line 2"):
        offering(folder).grant(request(offer()), BUYER)


def _grant_and_die(folder) -> None:
    offering(folder).grant(request(offer()), BUYER)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_that_was_killed_counts_as_taken(folder):
    child = multiprocessing.get_context("fork").Process(target=_grant_and_die, args=(folder,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL and count(folder) == 1


def _grant(folder, box) -> None:
    try:
        offering(folder).grant(request(offer()), BUYER)
        box.put("yes")
    except OfferRefusal:
        box.put("no")


def test_processes_that_take_at_once_take_no_more_than_there_is(folder):
    context = multiprocessing.get_context("fork")
    box = context.Queue()
    children = [context.Process(target=_grant, args=(folder, box)) for _ in range(5)]
    for child in children:
        child.start()
    found = sorted(box.get(timeout=120) for _ in children)
    for child in children:
        child.join(60)
    assert found == ["no"] * 3 + ["yes"] * 2 and count(folder) == 2


# The decision


def asked_of(folder, how: str, asked, lines: list[str], buyer=BUYER):
    desk = folder.parent / "desk"
    return decide(
        asked, how, desk, "acme", 0, lambda: None, lines.append, clock=lambda: NOON, key=buyer, offers=offering(folder)
    )  # fmt: skip


def test_an_offer_answers_without_a_person(folder):
    lines: list[str] = []
    assert asked_of(folder, "ask", request(offer()), lines).how == "offer"
    assert lines == [] and not (folder.parent / "desk").exists()


def test_a_request_beyond_the_offer_waits_as_any_other_with_the_reason(folder):
    lines: list[str] = []
    asked = request(offer())
    with pytest.raises(ApprovalError) as error:
        asked_of(folder, "ask", asked, lines, OTHER_BUYER)
    for text in (str(error.value), error.value.public):
        assert f"no answer to request {asked.id} within 0 s" in text and "buyer: got the certificate key" in text
    assert "the offer standard gives no yes: buyer: got" in lines[0] and "waits for a yes" in lines[1]
    queue = RequestQueue(folder.parent / "desk", lambda: NOON)
    assert "buyer: got the certificate key" in queue.read(asked.id).note
    queue.say(asked.id, True)
    assert asked_of(folder, "ask", asked, lines, OTHER_BUYER).how == "command" and count(folder) == 0


def test_a_policy_decides_where_the_offer_does_not(folder, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("methods: [finetuning]\n")
    with pytest.raises(ApprovalError) as error:
        asked_of(folder, str(rules), request(offer()), [], OTHER_BUYER)
    assert "methods has finetuning" in str(error.value) and "methods has" not in error.value.public
    assert "buyer: got" in str(error.value) and "buyer: got" in error.value.public
    rules.write_text("methods: [influence]\n")
    assert asked_of(folder, str(rules), request(offer()), [], OTHER_BUYER).how == "policy"


def test_a_data_owner_without_offers_says_so(tmp_path):
    with pytest.raises(
        ApprovalError, match="offer: got none of this name; expected an offer that this data owner keeps"
    ):
        decide(request(offer()), "ask", tmp_path / "desk", "acme", 0, lambda: None, [].append, clock=lambda: NOON)


def test_a_request_states_its_offer_in_words():
    text = " ".join(request(offer()).text().split())
    assert 'standing offer "standard", at this price: 10 EUR for one answer.' in text and offer().digest in text
    free = {key: value for key, value in TERMS.items() if key != "price"}
    assert "at this price: no price is stated." in " ".join(request(offer(free)).text().split())
