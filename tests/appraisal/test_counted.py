"""An appraisal between organisations counts shared items first: three processes, and Python sets as the oracle."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import pytest
from processes import DATA_OWNER, DEALER, HERE, MODEL_OWNER, ROLES, free_port, stretched
from shop import CUSTOMERS, by_hand, shop, with_customers, write_recipe, write_shop
from tables_between import influence

from mpc_appraisal.appraisal.overlap_terms import OverlapTerms, check_count
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.jobs import job_config
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.governance.approval.decide import RequestQueue
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import Policy
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.reporting.record import read

OWNERS = (MODEL_OWNER, DATA_OWNER)
TEST = shop(80, 4)


def tables(folder):
    """The raw tables by name: `first` shares keys and rows with the model owner's, `second` a few keys."""
    train, first, second = with_customers(90, 1, 0), with_customers(130, 2, 60), with_customers(120, 3, 85)
    columns = ["city", "age", "income", "bought"]
    first.loc[:39, columns] = train.loc[:39, columns].to_numpy()
    first = first.astype({"age": "Int64", "income": float})
    first.loc[:4, "income"] += 0.01
    for name, frame in {"train": train, "second": second}.items():
        write_shop(folder / f"{name}.csv", frame)
    write_shop(folder / "test.csv", TEST.assign(customer=""))
    first[["bought", "customer", "income", "age", "city"]].to_parquet(folder / "first.parquet", index=False)
    write_recipe(folder / "recipe.yaml", CUSTOMERS)
    (folder / "knows.yaml").write_text("methods: [influence, overlap]\n")
    (folder / "older.yaml").write_text("methods: [influence]\n")
    (folder / "unnamed.yaml").write_text("minimum_rows: 50\n")
    Ledger(folder / "spent.ledger", "first", Policy(plain_values=1))
    return SimpleNamespace(train=train, first=first, second=second)


def sessions_of(folder):
    """By name of a session: public overrides, those of the model owner, those of the data owner."""
    keys, rows, few = ["overlap=customer"], ["overlap=rows"], ["overlap_minimum=91"]
    one, both = (
        f"party.data={folder / 'first.parquet'}",
        f"party.data=[{folder / 'first.parquet'},{folder / 'second.csv'}]",
    )
    ledger, yes = lambda name: f"party.ledger={folder / f'{name}.ledger'}", "party.approval=yes"
    free = "party.ledger=none"
    salt = f"party.salt={folder / 'salt'}"
    asked = ["party.approval=ask", f"party.requests={folder / 'requests'}"]
    tls = {role: [f"session.tls={folder / 'tls' / role}", "session.transport=tls"] for role in ROLES}
    two = f"party.ledger=[{folder / 'first.ledger'},{folder / 'second.ledger'}]"
    rules = {name: f"party.approval={folder / f'{name}.yaml'}" for name in ("knows", "older", "unnamed")}
    found = {
        "tls": (keys, [ledger("model")], [both, two, rules["knows"]]),
        "asked": ([*rows, "release=bit"], [free, "party.threshold=-1"], [one, free, *asked]),
        "none": ([], [ledger("again"), salt], [one, ledger("seller"), yes]),
        "rows": (rows, [ledger("again"), salt], [one, ledger("seller"), yes]),
        "older": (keys, [ledger("a")], [one, ledger("b"), rules["older"]]),
        "unnamed": (keys, [ledger("a")], [one, ledger("b"), rules["unnamed"]]),
        "spent": (keys, [ledger("a")], [one, ledger("spent"), yes]),
        "small": ([*keys, *few], [free], [one, free, yes]),
        "column": (["overlap=costumer"], [free], [one, free, yes]),
        "gloo": ([*rows, "session.transport=gloo"], [free], [one, free, yes]),
        "settings": ([], [*rows, free], [*keys, one, free, yes]),
    }
    sessions = []
    for name, (public, buyer, seller) in found.items():
        shared = ["session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "session.join_timeout=240"]
        shared += ["appraisal=influence", "model.l2=0.01", "party.preflight=no", f"recipe={folder / 'recipe.yaml'}"]
        own = {MODEL_OWNER: [f"party.{k}={folder / f'{k}.csv'}" for k in ("train", "test")] + buyer, DATA_OWNER: seller}
        clear = [] if any("transport" in each for each in public) else ["session.transport=tcp"]
        sessions.append({"name": name})
        for role in ROLES:
            how = tls[role] if name == "tls" else [*clear, "session.in_the_clear=true"]
            sessions[-1][role] = [*shared, *how, *public, *own.get(role, [])]
    return sessions


@pytest.fixture(scope="module")
def market(module_processes):
    """All parties with all sessions, ended; a person says yes to the one request that asks for it."""
    folder = module_processes.folder
    make_trial(folder / "tls")
    known = tables(folder)
    (folder / "sessions.json").write_text(json.dumps(sessions_of(folder)))
    script = [sys.executable, str(HERE / "counted_party.py")]
    started = [module_processes.start(f"{role}.process", [*script, role, str(folder)]) for role in ROLES]
    queue, deadline = RequestQueue(folder / "requests"), time.monotonic() + stretched(240)
    while not (pending := queue.pending() if queue.folder.is_dir() else []):
        alive = all(each.popen.poll() is None for each in started)
        assert time.monotonic() < deadline and alive, [each.err[-2000:] for each in started]
        time.sleep(0.1)
    asked = queue.say(pending[0].id, True).request
    for process in started:
        ended = process.wait(400)
        assert ended.code == 0, ended.err[-3000:]
    lines = {role: (folder / f"{role}.jsonl").read_text().splitlines() for role in ROLES}
    ended = {role: {line["name"]: line for line in map(json.loads, lines[role])} for role in ROLES}
    return SimpleNamespace(folder=folder, ended=ended, asked=asked, tables=known)


def records(market, name):
    for role in ROLES:
        assert market.ended[role][name]["error"] is None, market.ended[role][name]
    return [read(market.folder / role / name / "records.jsonl") for role in OWNERS]


def lines(market, ledger, kind):
    found = map(json.loads, (market.folder / f"{ledger}.ledger").read_text().splitlines())
    return [line for line in found if line.get("kind") == kind]


def keys_of(frame):
    return {key for key in frame["customer"] if key}


def rows_of(frame):
    return {tuple(row) for row in by_hand(frame)[0]}


def test_keys_are_counted_for_each_candidate_before_the_appraisal_over_tls(market):
    ours = keys_of(market.tables.train)
    for role, found in zip(OWNERS, records(market, "tls"), strict=True):
        assert [record.candidate for record in found] == ["first", "second"]
        for record, frame in zip(found, (market.tables.first, market.tables.second), strict=True):
            theirs, one = keys_of(frame), record.overlap
            assert (one["what"], one["column"], one["minimum"]) == ("keys", "customer", 10)
            assert one["items"] == {MODEL_OWNER: len(ours), DATA_OWNER: len(theirs)}
            exact = len(ours & theirs)
            hidden = role == MODEL_OWNER and exact < 10
            assert (one["count"], one["fewer_than"]) == (None if hidden else exact, 10 if exact < 10 else None)
            value = influence(by_hand(market.tables.train), by_hand(TEST), by_hand(frame), classes=2)
            assert record.value == pytest.approx(value, abs=1e-4)  # the appraisal after it is as without a count
    assert [len(ours & keys_of(frame)) for frame in (market.tables.first, market.tables.second)] == [29, 4]


def test_each_count_has_a_line_of_its_own_in_each_ledger(market):
    (count,), (value,) = ([line for line in lines(market, "first", "charge") if line["method"] == method]
                          for method in ("overlap", "influence"))  # fmt: skip
    assert (count["rows"], value["rows"]) == (len(keys_of(market.tables.first)), 130)
    answers = {line["charge"]: line["value"] for line in lines(market, "first", "answer")}
    assert answers[count["sequence"]] == {"count": 29}
    (few,) = [line for line in lines(market, "second", "answer") if "opened" not in line["value"]]
    assert few["value"] == {"fewer_than": 10}
    charged = [line["method"] for line in lines(market, "model", "charge")]
    assert charged == ["overlap", "overlap", "influence", "influence"]
    assert records(market, "tls")[1][0].budget["plain_left"] == 18


def test_result_report_and_card_state_what_was_counted(market):
    for role in OWNERS:
        run = market.folder / role / "tls"
        report, cards = (
            (run / "report.md").read_text(),
            [(run / f"card-{n}.md").read_text() for n in ("first", "second")],
        )
        assert "What the model owner has already" in report and "keys of the column customer" in report
        assert all("What the model owner has already" in card for card in cards)
        assert "29" in cards[0] and "fewer than 10" in cards[1] and "fewer than 10" in report
        assert ("shown to the data owner alone" in cards[1]) == (role == DATA_OWNER)
    said = market.ended[MODEL_OWNER]["tls"]["said"]
    assert "overlap with first: 29 keys in both sets" in said and "overlap with second: fewer than 10 keys" in said


def test_rows_are_counted_after_the_recipe_whatever_the_order_of_columns(market):
    ours, theirs = rows_of(market.tables.train), rows_of(market.tables.first)
    for name in ("asked", "rows"):
        for (record,) in records(market, name):
            one = record.overlap
            assert 30 <= len(ours & theirs) == one["count"] < 40 and one["columns"] == "name"
            assert one["items"] == {MODEL_OWNER: len(ours), DATA_OWNER: len(theirs)}
    assert all(record.decision for (record,) in records(market, "asked"))


def test_the_request_covers_the_count_and_says_so(market):
    text = " ".join(market.asked.text().split())
    for words in ("What is counted first", "The yes to this request covers the count", "different rows of 7 features",
                  "the exact number of rows in both sets", "that there are fewer than 10", "semi-honest",
                  "The dealer takes no part in the count"):  # fmt: skip
        assert words in text, words
    assert market.asked.methods == ["influence", "overlap"]
    digests = {record.request["digest"] for (record,) in records(market, "asked")}
    assert digests == {market.asked.digest}


def test_a_known_answer_stays_known_and_the_count_is_made_and_charged_anew(market):
    for (first,), (second,) in zip(records(market, "none"), records(market, "rows"), strict=True):
        assert not first.answered and second.answered and first.value == second.value
        assert first.overlap is None and '"overlap"' not in first.to_json() and second.overlap["count"] >= 30
    for ledger in ("again", "seller"):
        assert [line["method"] for line in lines(market, ledger, "charge")] == ["influence", "overlap"]


def test_the_dealer_counts_nothing(market):
    assert not any(line["counts"] for line in market.ended[DEALER].values())
    assert any(line["counts"] for line in market.ended[DATA_OWNER].values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("older", {DATA_OWNER: "Not an allowed method: overlap"}),
        ("unnamed", {DATA_OWNER: "No rule names the method overlap; expected it in methods"}),
        ("spent", {DATA_OWNER: "budget.plain_values"}),
        ("small", {MODEL_OWNER: "different keys of the model owner: got 89; expected 91 or more, as overlap_minimum"}),
        ("column", {MODEL_OWNER: "no columns 'costumer'", DATA_OWNER: "no columns 'costumer'"}),
        ("gloo", dict.fromkeys(ROLES, "session.transport: got 'gloo'; expected one of tls, tcp")),
        ("settings", dict.fromkeys(ROLES, "overlap: 'rows' at model_owner, 'customer' at data_owner")),
    ],
)
def test_a_refusal_names_its_reason_and_charges_nothing(market, name, words):
    for role in ROLES:
        error = market.ended[role][name]["error"]
        assert error is not None and words.get(role, "") in error, (role, error)
        assert not (market.folder / role / name / "records.jsonl").exists()
    for ledger in ("a", "b", "spent"):
        assert not lines(market, ledger, "charge")


@pytest.mark.parametrize("stated", [9, 11, True, "10", 10.0])
def test_a_count_that_cannot_be_is_an_error_of_the_data_owner(stated):
    check_count(OverlapTerms(minimum=10), 10, 10, PeerError)
    with pytest.raises(PeerError, match=f"the data owner states the count {stated}; expected 10 to 10"):
        check_count(OverlapTerms(minimum=10), stated, 10, PeerError)


# -- configuration ---------------------------------------------------------------------------------------------------
def test_without_a_count_the_configuration_and_its_keys_are_those_of_before():
    cfg = compose(["session=plain"])
    assert not any("overlap" in key for each in (public_part(cfg), job_config(cfg)) for key in each)
    stated = public_part(compose(["overlap=customer", "overlap_minimum=3"]))
    assert (stated["overlap"], stated["overlap_minimum"]) == ("customer", 3)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (["overlap=3"], "overlap: got 3; expected rows, or the name of a column"),
        (["overlap=' '"], "overlap: got ' '; expected the name of a column"),
        (["overlap=rows", "overlap_minimum=0"], "overlap_minimum: got 0; expected a whole number, 1 or more"),
        (["overlap=rows", "overlap_minimum=many"], "overlap_minimum: got 'many'; expected a whole number"),
        (["overlap_minimum=5"], "overlap_minimum: got 5; expected 10, or overlap= beside it"),
        (["overlap=rows"], "overlap: got rows; expected session=join"),
    ],
)
def test_bad_keys_are_named(tmp_path, stated, words):
    with pytest.raises(InputError, match=words):
        appraise_config(compose(["session=plain", *stated]), print, tmp_path)
