"""The desk: who is let in, what changes anything, and what a data owner sees and decides."""

from __future__ import annotations

import html
import json
import re
import sys

import pytest
from desk import MARKUP, OWN, PORT, browser, form_of, guard, ledger, outside, places, plain, put  # noqa: F401  fixtures
from test_request import changed, numbered

from mpc_appraisal.cli.desk.decisions import when
from mpc_appraisal.cli.desk.guard import SESSIONS, Guard
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.approval.request import Request


def state(places, request) -> str:
    return RequestQueue(places.requests).read(request.id).state


PAGES = ("/", "/part/waiting", "/budgets", "/answers", "/listings", "/offers")


# Who is let in


@pytest.mark.parametrize("path", [*PAGES, "/requests/0123456789ab", "/static/desk.js", "/nowhere"])
def test_nobody_is_let_in_without_the_cookie(outside, places, path):
    put(places, numbered(1), "secret name")
    answer = outside.get(path, base_url=OWN)
    assert answer.status_code == 403 and "secret name" not in answer.text and "Open the address" in answer.text


def test_the_token_serves_once_and_does_not_stay_in_the_address(outside, guard, capsys):
    first = guard.address
    entered = outside.get(first.removeprefix(OWN), base_url=OWN)
    assert entered.status_code == 303 and entered.headers["Location"] == "/"
    (cookie,) = entered.headers.getlist("Set-Cookie")
    assert cookie.startswith(f"desk_{PORT}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Max-Age" not in cookie and "Expires" not in cookie and "Domain" not in cookie
    assert first.partition("=")[2] not in cookie + entered.text
    assert outside.get("/", base_url=OWN).status_code == 200
    again = outside.get(first.removeprefix(OWN), base_url=OWN)
    assert again.status_code == 403 and "Set-Cookie" not in again.headers
    assert guard.address != first and guard.address in capsys.readouterr().out
    assert outside.get(guard.address.removeprefix(OWN), base_url=OWN).status_code == 303


def test_a_closed_terminal_keeps_nobody_out(outside, guard, monkeypatch, tmp_path):
    with open(tmp_path / "terminal", "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
    assert outside.get(guard.address.removeprefix(OWN), base_url=OWN).status_code == 303


@pytest.mark.parametrize("words", ["", "?token=", "?token=é", "?token=" + "A" * 43])
def test_another_token_is_refused(outside, words):
    answer = outside.get(f"/enter{words}", base_url=OWN)
    assert answer.status_code == 403 and "Set-Cookie" not in answer.headers


def test_a_look_ahead_does_not_use_the_address_up(outside, guard):
    before = guard.address
    assert outside.head(before.removeprefix(OWN), base_url=OWN).status_code == 200
    assert guard.address == before


def test_another_desks_cookie_is_none(outside, places):
    other = Guard(PORT)
    outside.set_cookie(f"desk_{PORT}", other.enter(other.address.partition("=")[2]), domain="127.0.0.1")
    assert outside.get("/", base_url=OWN).status_code == 403


def test_the_oldest_of_too_many_browsers_is_forgotten(outside, browser, guard):
    assert browser.get("/").status_code == 200
    for _ in range(SESSIONS):
        guard.enter(guard.address.partition("=")[2])
    assert browser.get("/").status_code == 403


# Which requests of a browser are let through


@pytest.mark.parametrize(
    "host", ["localhost:34567", "127.0.0.1", "127.0.0.1:1", "evil.example:34567", "127.0.0.1:34567.evil.example", ""]
)
def test_another_host_is_refused(browser, guard, host):
    assert browser.get("/").status_code == 200
    for path in ("/", guard.address.removeprefix(OWN)):
        answer = browser.get(path, Host=host)
        assert answer.status_code == 421 and "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", f"{OWN}.evil.example", ""])
def test_another_origin_reads_and_changes_nothing(browser, places, origin):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}"))
    assert browser.get("/", Origin=origin).status_code == 403
    assert browser.post(f"/requests/{request.id}", form, Origin=origin).status_code == 403
    assert state(places, request) == "pending"


@pytest.mark.parametrize(
    "headers", [{"Origin": None}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}]
)
def test_a_form_that_does_not_come_from_the_desk_changes_nothing(browser, places, headers):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}"))
    assert browser.post(f"/requests/{request.id}", form, **headers).status_code == 403
    assert state(places, request) == "pending"
    assert browser.post(f"/requests/{request.id}", form, Sec_Fetch_Site="same-origin").status_code == 303
    assert state(places, request) == "yes"


@pytest.mark.parametrize("csrf", [None, "", "x" * 43, "é"])
def test_a_form_without_the_sessions_token_changes_nothing(browser, places, csrf):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}")) | {"csrf": csrf}
    answer = browser.post(f"/requests/{request.id}", {key: value for key, value in form.items() if value is not None})
    assert answer.status_code == 403 and state(places, request) == "pending"


def test_the_token_of_another_session_changes_nothing(browser, places, guard):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}"))
    other = guard.session({guard.cookie: guard.enter(guard.address.partition("=")[2])})
    assert other != form["csrf"]
    assert browser.post(f"/requests/{request.id}", form | {"csrf": other}).status_code == 403
    assert state(places, request) == "pending"


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch", "options"])
def test_nothing_but_a_post_changes_anything(browser, places, method):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}"))
    send = getattr(browser.client, method)
    send(f"/requests/{request.id}", base_url=OWN, query_string=form, headers={"Origin": OWN})
    assert state(places, request) == "pending"


def test_every_answer_has_the_headers(browser, outside, places):
    request = put(places, numbered(1))
    answers = [browser.entered, *map(browser.get, (*PAGES, f"/requests/{request.id}", "/nowhere", "/style.css"))]
    answers += [browser.get("/static/desk.js"), browser.post("/", {}), browser.get("/", Host="evil.example")]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert answer.headers["X-Frame-Options"] == "DENY" and "no-store" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Referrer-Policy"] == "same-origin"


def test_no_page_has_a_script_or_a_style_within_itself(browser, places):
    request = put(places, numbered(1), MARKUP)
    ledger(places, "digits-a")
    for path in (*PAGES, f"/requests/{request.id}", "/nowhere"):
        text = browser.get(path).text
        assert "<style" not in text and " style=" not in text and " onclick" not in text and "javascript:" not in text
        assert text.count("<script") == text.count('<script src="/static/desk.js">')


def test_a_form_that_is_too_large_is_refused(browser, places):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}"), reason="x" * (1 << 17))
    assert browser.post(f"/requests/{request.id}", form).status_code == 413
    assert state(places, request) == "pending"


# Requests


def test_a_request_is_shown_in_the_words_of_the_command_and_answered(browser, places):
    request, other = put(places, numbered(1)), put(places, numbered(2), "bolt")
    page = browser.text("/")
    assert f"/requests/{request.id}" in page and f"/requests/{other.id}" in page and "2 waiting" in page
    page = browser.text(f"/requests/{request.id}")
    words = re.sub(r"^(#+|-) ", "", request.text().partition("\n")[2], flags=re.MULTILINE)  # without title and marks
    assert " ".join(words.split()) in " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())
    answer = browser.post(f"/requests/{request.id}", form_of(page, reason="a good price\nfor both"))
    assert answer.status_code == 303 and answer.headers["Location"] == f"/requests/{request.id}"
    assert "approved, not used yet" in browser.text(f"/requests/{request.id}")
    decided = json.loads((places.requests / f"{request.id}.yes").read_text())
    assert (decided["digest"], decided["reason"]) == (request.digest, "a good price for both")
    assert RequestQueue(places.requests).take(request, "acme").digest == request.digest
    form = form_of(browser.text(f"/requests/{other.id}"), "no", reason="too dear")
    assert browser.post(f"/requests/{other.id}", form).status_code == 303
    assert state(places, other) == "no" and "too dear" in browser.text("/") and "0 waiting" in browser.text("/")


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("2026-01-31T23:30:59+00:00", "2026-01-31 23:30 UTC"),
        ("2026-01-31T23:30:00-02:00", "2026-02-01 01:30 UTC"),
        ("yesterday\x1b", "yesterday\\x1b"),
        ("0001-01-01T00:00:00+23:00", "0001-01-01T00:00:00+23:00"),
    ],
)
def test_times_are_in_utc_to_the_minute(time, words):
    assert when(time) == words


def test_a_second_answer_is_refused(browser, places):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}"))
    assert browser.post(f"/requests/{request.id}", form).status_code == 303
    answer = browser.post(f"/requests/{request.id}", form | {"answer": "no"})
    assert answer.status_code == 400 and "already yes" in answer.text and state(places, request) == "yes"
    assert 'name="answer"' not in browser.text(f"/requests/{request.id}")


def test_a_yes_is_for_the_request_that_was_shown(browser, places):
    shown, other = numbered(1), numbered(2)
    put(places, shown)
    form = form_of(browser.text(f"/requests/{shown.id}"))
    entry = json.loads((places.requests / f"{shown.id}.json").read_text())
    # The counterparty is no part of the digest: another party asks the same.
    (places.requests / f"{shown.id}.json").write_text(json.dumps(entry | {"counterparty": "mallory"}))
    answer = browser.post(f"/requests/{shown.id}", form)
    assert answer.status_code == 400 and "another request or counterparty" in html.unescape(answer.text)
    assert state(places, shown) == "pending"
    (places.requests / f"{shown.id}.json").write_text(json.dumps(entry))
    for wrong in ({"digest": other.digest}, {"digest": ""}, {"counterparty": "mallory"}):
        assert browser.post(f"/requests/{shown.id}", form | wrong).status_code == 400
    for missing in ("digest", "counterparty", "answer"):
        left = {key: value for key, value in form.items() if key != missing}
        assert browser.post(f"/requests/{shown.id}", left).status_code == 400
    assert browser.post(f"/requests/{shown.id}", form | {"answer": "perhaps"}).status_code == 400
    assert state(places, shown) == "pending"
    assert browser.post(f"/requests/{shown.id}", form).status_code == 303


def test_a_changed_request_is_not_approved(browser, places):
    request = put(places, numbered(1))
    form = form_of(browser.text(f"/requests/{request.id}"))
    entry = json.loads((places.requests / f"{request.id}.json").read_text())
    entry["content"]["openings"][0]["numbers"] = 1000
    (places.requests / f"{request.id}.json").write_text(json.dumps(entry))
    assert browser.post(f"/requests/{request.id}", form).status_code == 400
    # The digest beside the content is changed too: then it is another request, of another id.
    changed_digest = Request(entry["content"]).digest
    (places.requests / f"{request.id}.json").write_text(json.dumps(entry | {"digest": changed_digest}))
    assert browser.post(f"/requests/{request.id}", form | {"digest": changed_digest}).status_code == 400
    assert not list(places.requests.glob("*.yes"))


@pytest.mark.parametrize("id", ["0123456789ab", "..", "%2e%2e%2fx", "0123456789AB", "0" * 13, "\x00" * 12])
def test_an_id_that_is_none_is_an_error(browser, id):
    answer = browser.get(f"/requests/{id}")
    assert answer.status_code in (400, 404) and "Traceback" not in answer.text


def test_a_damaged_request_stands_on_the_page_beside_the_others(browser, places):
    bad, good = put(places, numbered(1)), put(places, numbered(2))
    (places.requests / f"{bad.id}.json").write_text("{")
    page = browser.text("/")
    assert "Damaged" in page and bad.id in page and f"/requests/{good.id}" in page
    assert browser.get(f"/requests/{bad.id}").status_code == 400
    assert browser.post(f"/requests/{good.id}", form_of(browser.text(f"/requests/{good.id}"))).status_code == 303


def test_folders_that_are_missing_or_files_are_no_fault(browser, places):
    places.requests.rmdir()
    assert "0 waiting" in browser.text("/")
    places.requests.write_text("a file")
    page = browser.text("/")
    assert 'role="alert"' in page
    places.ledgers.rmdir()
    assert "no whole ledger" in browser.text("/budgets")


def test_foreign_text_is_escaped(browser, places):
    content = changed("release", "words", to=MARKUP) | {"candidates": [{"name": MARKUP, "rows": 9, "listing": None}]}
    request = put(places, Request(content), MARKUP)
    ledger(places, "digits-a")
    for path in ("/", f"/requests/{request.id}"):
        page = browser.text(path)
        assert "<img" not in page and "&lt;img" in page
    form = form_of(browser.text(f"/requests/{request.id}"), "no", reason=f"{MARKUP}\x1b[2J")
    assert form["counterparty"] == MARKUP
    assert browser.post(f"/requests/{request.id}", form).status_code == 303
    for path in ("/", f"/requests/{request.id}"):
        assert "<img" not in browser.text(path) and "\x1b" not in browser.text(path)


# Ledgers


def test_a_damaged_ledger_stands_on_the_page_and_the_desk_goes_on(browser, places):
    bad = ledger(places, "digits-a", charges=1)
    ledger(places, "digits-b", charges=1)
    bad.write_bytes(bad.read_bytes().replace(b"acme", b"evil"))
    request = put(places, plain("digits-b"))
    for path in ("/budgets", f"/requests/{request.id}"):
        page = browser.text(path)
        assert 'role="alert"' in page and "digits-a.csv.ledger" in page and "digits-b.csv.ledger" in page
    assert "1 of 20 plain values" in browser.text(f"/requests/{request.id}")


def test_a_link_that_leads_out_of_the_folder_is_no_ledger(browser, places, tmp_path):
    ledger(places, "digits-a", charges=1)
    assert "acme" in browser.text("/budgets")
    for file in places.ledgers.glob("digits-a.csv.ledger*"):
        file.rename(tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
    page = browser.text("/budgets")
    assert "acme" not in page and "digits-a" not in page


def test_budgets_are_those_of_the_command(browser, places):
    ledger(places, "digits-a", charges=3, plain_values=10)
    page = browser.text("/budgets")
    assert "acme" in page and 'data-label="plain left">7<' in page and 'data-label="answers">3<' in page


def test_a_fault_is_a_page_and_the_desk_goes_on(browser, places, monkeypatch, capsys):
    from mpc_appraisal.cli.desk import budgets

    def broken(_):
        raise ZeroDivisionError("a secret")

    with monkeypatch.context() as patched:
        patched.setattr(budgets, "tables", broken)
        answer = browser.get("/budgets")
        assert answer.status_code == 500 and "a secret" not in answer.text
    assert "ZeroDivisionError" in capsys.readouterr().err and browser.get("/budgets").status_code == 200


def test_the_page_of_a_request_shows_the_note_of_this_owner(browser, places):  # noqa: F811
    RequestQueue(places.requests).put(numbered(1), "acme", f"until: got 2027; expected 2026 {MARKUP}")
    page = browser.get(f"/requests/{numbered(1).id}", base_url=OWN).text
    assert html.escape("until: got 2027; expected 2026 <img", quote=False) in page and MARKUP not in page
