"""What request, rules, ledgers, record, card, report and terminal say of the check of messages, and how its error ends
a session."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from processes import ROOT
from test_deal_edges import VALUE, Deal
from test_request import NOON

from mpc_appraisal.appraisal import party
from mpc_appraisal.appraisal.agreement import make_request
from mpc_appraisal.appraisal.questions import _config
from mpc_appraisal.cli import app, commands
from mpc_appraisal.cli.front import overview
from mpc_appraisal.cli.json_output import print_as_json
from mpc_appraisal.common.errors import AppraisalError, InputError, IntegrityError, PeerError
from mpc_appraisal.common.roles import (
    CHEATING,
    DATA_OWNER,
    DEALER,
    INTEGRITY,
    MODEL_OWNER,
    OWNERS,
    STOCK_TRUST,
    TRUST,
    TRUST_CHECKED,
)
from mpc_appraisal.governance.approval.decide import Request, Rules
from mpc_appraisal.mpc.backends.registry import ENGINES, trust_of
from mpc_appraisal.reporting.brief import text_of
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.load import load
from mpc_appraisal.reporting.record import Record, append
from mpc_appraisal.reporting.report import write_report
from mpc_appraisal.reporting.result import Result

CAUGHT, UNNOTICED = "A cheating owner is caught before anything is opened", "which nothing detects"
UNCOVERED = ("what an owner itself brings in", "other data, another model or noise of its choice", "A cheating dealer")
WRONG = IntegrityError(f"{DATA_OWNER}: a message of the check 'messages' is not the one that the protocol prescribes")


def flat(text: str) -> str:
    return " ".join(text.split())


def request(folder, **changes) -> Request:
    deal = Deal(folder)
    facts, published = deal.published()
    return make_request(deal.plan(**changes), facts, published, dict.fromkeys(facts))


def record(integrity: bool, **more) -> Record:
    settings = {"session.integrity": "on" if integrity else "off"}
    stated = {"session": "join", "engine": "fast", "trust": trust_of("fast", integrity), "settings": settings}
    return Record("influence", "seller", 0.5, rounds=20, seconds={"private": 1.0}, **(stated | more))


# ---- the words


def test_the_trust_says_whether_a_cheating_owner_is_caught():
    assert TRUST_CHECKED.startswith(CAUGHT) and all(each in TRUST_CHECKED for each in UNCOVERED)
    assert CHEATING not in TRUST_CHECKED and "It can shift an opened number" not in TRUST_CHECKED
    assert UNNOTICED in CHEATING and UNNOTICED in STOCK_TRUST and CAUGHT not in TRUST + STOCK_TRUST
    assert trust_of("fast", True) == TRUST_CHECKED and trust_of("fast") == trust_of("fast", False) == TRUST
    for engine in ENGINES:
        assert CAUGHT not in trust_of(engine) and UNNOTICED in trust_of(engine)
        if engine != "fast":
            with pytest.raises(InputError, match=f"^{INTEGRITY}: got on with session.engine={engine}; expected off"):
                trust_of(engine, True)


def test_the_request_says_it_and_an_unchecked_one_has_no_new_field(tmp_path):
    off, on = request(tmp_path), request(tmp_path, integrity=True)
    assert flat(TRUST) in flat(off.text()) and flat(TRUST_CHECKED) in flat(on.text())
    line = "Check of all messages of both owners (session.integrity):"
    assert f"{line} off." in flat(off.text()) and f"{line} on." in flat(on.text())
    assert set(off.content["protocol"]) == {"engine", "transport", "trust"}
    assert on.content["protocol"] == {"engine": "fast", "transport": "tcp", "integrity": "on", "trust": TRUST_CHECKED}
    assert on.digest != off.digest
    with pytest.raises(InputError, match="protocol.integrity"):
        Request(on.content | {"protocol": on.content["protocol"] | {"integrity": "off"}})


def test_a_rule_lets_no_unchecked_request_pass(tmp_path):
    off, on = request(tmp_path), request(tmp_path, integrity=True)
    path = tmp_path / "rules.yaml"
    for word in ("true", "on"):
        path.write_text(f"integrity: {word}\n")
        assert Rules.read(path).broken(on, "acme", NOON) == []
        (sentence,) = Rules.read(path).broken(off, "acme", NOON)
        assert sentence == "Messages are not checked (session.integrity is off); integrity is true."
    for word in ("false", "off", "1", "'on'"):
        path.write_text(f"integrity: {word}\n")
        with pytest.raises(InputError, match="policy: integrity: got .*; expected true, or no such key"):
            Rules.read(path)


@pytest.mark.parametrize("integrity", [True, False])
def test_card_report_and_terminal_say_it(tmp_path, integrity):
    said = trust_of("fast", integrity)
    result = Result([record(integrity)])
    write_report(result, tmp_path)
    for path in (*write_cards(result, tmp_path), tmp_path / "report.md", tmp_path / "report.html"):
        assert said in flat(html.unescape(path.read_text(encoding="utf-8"))), path.name
    text = flat(text_of(result, 200))
    assert (CAUGHT in text) is integrity and ("which nothing checks" in text) is not integrity


# ---- records


def test_a_record_of_an_earlier_version_was_not_checked(tmp_path):
    old = replace(record(False), settings={"model.l2": 0.01}, trust="The parties follow the protocol.")
    ancient = replace(old, settings=None)
    assert record(True).integrity and not any(each.integrity for each in (record(False), old, ancient))
    for name, rows in {"on": [record(True)], "off": [record(False)], "old": [old], "ancient": [ancient]}.items():
        (tmp_path / name).mkdir()
        for each in rows:
            append(tmp_path / name / "records.jsonl", each)
    frame = load(tmp_path)
    stated = zip(frame.folder, frame["settings.session.integrity"], strict=True)
    found = {folder.rsplit("/", 1)[-1]: value for folder, value in stated}
    assert found == {"on": "on", "off": "off", "old": "off", "ancient": "off"}
    assert "settings.session.integrity" not in load(tmp_path / "old", tmp_path / "ancient")


# ---- ledgers


def test_an_answer_that_was_not_checked_is_no_answer_to_a_checked_question(tmp_path):
    deal = Deal(tmp_path)
    assert _config(deal.plan()) == _config(deal.plan(integrity=False))
    assert _config(deal.plan(integrity=True)) == _config(deal.plan()) | {"integrity": "on"}

    deal.settle(agreed(deal))
    assert deal.counts()["seller"] == (1, 1)
    assert agreed(deal)[DATA_OWNER].answers["influence", "seller"].opened == 1.25
    checked = Checked(tmp_path)
    found = agreed(checked)
    assert found[DATA_OWNER].answers == {} and len(found[DATA_OWNER].openings) == 1
    assert deal.counts()["seller"] == (2, 1)
    checked.settle(found, 1.5)
    assert agreed(checked)[DATA_OWNER].answers["influence", "seller"].opened == 1.5
    assert agreed(deal)[DATA_OWNER].answers["influence", "seller"].opened == 1.25
    assert deal.counts()["seller"] == (2, 2)


class Checked(Deal):
    """A deal in which messages are checked."""

    def plan(self, **changes):
        return super().plan(**({"integrity": True} | changes))


def agreed(deal: Deal) -> dict:
    found = deal.agree()
    assert not any(isinstance(each, BaseException) for each in found.values()), found
    return found


# ---- the error


def test_a_session_that_a_wrong_message_ends_is_charged_and_answers_nothing(tmp_path, monkeypatch):
    def compute(run, rendezvous, *others):
        if run.role == MODEL_OWNER:
            raise WRONG
        rendezvous.exchange("costs", {})

    monkeypatch.setattr(party, "_compute", compute)
    monkeypatch.setattr(party, "deal", lambda engine, rendezvous, *others: rendezvous.exchange("costs", {}))
    deal = Deal(tmp_path, VALUE)
    found, _ = deal.play(integrity=True)
    assert found[MODEL_OWNER] is WRONG
    for role in (DATA_OWNER, DEALER):
        assert isinstance(found[role], PeerError) and str(found[role]) == f"{MODEL_OWNER} stopped: {WRONG}"
    assert deal.counts() == {"model": (1, 0), "seller": (1, 0)}
    assert {role: deal.counts()[name] for role, name in zip(OWNERS, ("model", "seller"), strict=True)}


def test_it_has_an_exit_status_of_its_own(monkeypatch, capsys):
    statuses = {InputError("a", 1, "2"): 2, PeerError("gone"): 2, WRONG: 3, AppraisalError("any"): 2}
    for error, status in statuses.items():

        def run(arguments, error=error):
            raise error

        monkeypatch.setitem(commands.COMMANDS, "cost", run)
        monkeypatch.setattr(app, "COMMANDS", commands.COMMANDS)
        monkeypatch.setattr(sys, "argv", ["mpc-appraisal", "cost"])
        with pytest.raises(SystemExit) as end:
            app.main()
        assert end.value.code == status and capsys.readouterr().err == f"error: {error}\n"
        with pytest.raises(SystemExit) as end:
            print_as_json("cost", lambda run=run: run([]))
        found = json.loads(capsys.readouterr().out)
        assert end.value.code == found["status"] == status and found["error"] == str(error)
    assert "3: a party sent a wrong message" in flat(overview())


RUN = """
import sys
from mpc_appraisal.cli import hydra_app
from mpc_appraisal.common.errors import IntegrityError

def run_job(cfg):
    raise IntegrityError("data_owner: a message is another; nothing is opened")

hydra_app.run_job = run_job
sys.argv = ["mpc-appraisal", "hydra.run.dir=run"]
hydra_app.run_words()
"""


def test_a_run_ends_with_that_status_and_one_line(tmp_path):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": path}, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, **options)
    assert done.returncode == IntegrityError.status == 3
    assert done.stderr == "error: data_owner: a message is another; nothing is opened\n" and done.stdout == ""
