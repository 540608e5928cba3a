"""Two organisations, two processes on loopback, count what their files share; the oracle counts by brute force."""

from __future__ import annotations

import csv
import itertools
import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from processes import DATA_OWNER, HERE, MODEL_OWNER, free_port, problem, stretched, write_csv
from shop import CUSTOMERS, by_hand, with_customers, write_recipe, write_shop

from mpc_appraisal.appraisal.overlap import OverlapInput, OverlapPlan, take_part_in_overlap
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.data import Recipe
from mpc_appraisal.data.items import Items
from mpc_appraisal.governance.approval.decide import RequestQueue
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import Policy
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.mpc.net.transport import Transport
from mpc_appraisal.reporting.overlap_record import read_overlaps

pytest.importorskip("private_set_intersection", reason="openmined-psi has no wheels for some versions of Python")
OWNERS = (MODEL_OWNER, DATA_OWNER)
CLEAR = ("transport=tcp", "in_the_clear=yes")
MANY = 50_000
LIMIT = "at most 20 values without noise"


def write_keys(path, keys, column="customer"):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[column, "age"], *([key, 20 + k] for k, key in enumerate(keys))])


def random_keys(first, last):
    """Random-looking keys, different for each number."""
    return [f"{number * 2654435761 % 2**32:08x}@example" for number in range(first, last)]


def sets_of_keys(folder):
    """Keys that repeat on both sides, blanks, two spellings of one letter, and texts that look like numbers."""
    rng = np.random.default_rng(5)
    shared, mine, theirs = ([f"k{number}" for number in numbers] for numbers in (range(40), range(100, 160),
                                                                                range(200, 270)))  # fmt: skip
    seller = [*shared, *theirs, *rng.choice(shared + theirs, 60), "", "  ", "caf\u00e9", "007", "A"]
    buyer = [*shared, *mine, *rng.choice(shared + mine, 30), " cafe\u0301 ", "7", "a", ""]
    write_keys(folder / "seller.csv", seller)
    write_keys(folder / "buyer.csv", buyer)
    return 41, seller, buyer  # the shared ones and one coffee


def sets_of_rows(folder):
    """Rows of named columns: 30 shared ones under other labels, in another order of columns, in two formats."""
    x, y = problem(150, seed=1)
    other, labels = problem(120, seed=2)
    write_csv(folder / "buyer_rows.csv", x, y)
    shared = np.vstack([x[:30], x[:10], other + 0.0])
    shared[0, 0] = x[0, 0] = 0.0
    shared[0, 0] = -0.0  # equals 0.0
    write_csv(folder / "buyer_rows.csv", x, y)
    table = pd.DataFrame(shared, columns=[f"f{k}" for k in range(4)]).assign(label=[0] * 40 + labels.tolist())
    table.loc[[39], "f2"] += 1e-12  # no longer a copy of row 9
    table[["f3", "label", "f0", "f2", "f1"]].to_parquet(folder / "seller_rows.parquet", index=False)
    ours = {tuple(row + 0.0) for row in x}
    theirs = {tuple(row + 0.0) for row in table[[f"f{k}" for k in range(4)]].to_numpy()}
    return sum(row in ours for row in theirs), len(theirs)


def sets_of_shops(folder):
    """Raw tables of a shop, CSV and Parquet, in another order of columns, and recipes: two alike, and another one."""
    buyer, seller = with_customers(90, 1, 0), with_customers(130, 2, 60)
    columns = ["city", "age", "income", "bought"]
    seller.loc[:39, columns] = buyer.loc[:39, columns].to_numpy()
    seller.loc[:39, "city"] = seller.loc[:39, "city"].replace("Oslo", "Bergen")  # both are another city by the recipe
    seller.loc[:4, "income"] += 0.01
    write_shop(folder / "shop_buyer.csv", buyer)
    seller = seller.astype({"age": "Int64", "income": float})
    seller[["bought", "customer", "income", "age", "city"]].to_parquet(folder / "shop_seller.parquet", index=False)
    write_recipe(folder / "ours.yaml", CUSTOMERS)
    write_recipe(folder / "theirs.yaml", "# the same\n" + CUSTOMERS)
    write_recipe(folder / "other.yaml", CUSTOMERS.replace("mean: 40", "mean: 41"))
    return buyer, seller


def sessions_of(folder):
    """The sessions by name; by role the arguments of each. Each has a port, ledgers and records of its own."""
    rules = {"knows": "methods: [overlap]\nminimum_rows: 50\n", "older": "minimum_rows: 50\n"}
    for name, text in rules.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "small.yaml").write_text("minimum_rows: 1\n")
    (folder / "none.csv").write_text("customer,age\n")
    table = pd.read_csv(folder / "buyer_rows.csv")
    table.rename(columns={"f0": "F0"}).to_csv(folder / "other_rows.csv", index=False)
    np.savez(folder / "buyer_rows.npz", x=table[["f3", "f0", "f1", "f2"]].to_numpy(), y=table["label"].to_numpy())
    write_keys(folder / "few.csv", [f"k{number}" for number in range(12)])
    Ledger(folder / "spent.ledger", "seller", Policy(plain_values=0))
    write_keys(folder / "seller_many.csv", random_keys(0, MANY))
    write_keys(folder / "buyer_many.csv", random_keys(MANY - 7_001, MANY + 3_000))
    tls = {role: (f"tls={folder / 'tls' / role}", "label=label") for role in OWNERS}
    keys, asked = (*CLEAR, "key=customer"), ("approval=ask", f"requests={folder / 'requests'}")
    ours, theirs, other = ((*CLEAR, f"recipe={folder / f'{name}.yaml'}") for name in ("ours", "theirs", "other"))
    shops, few = ("shop_buyer.csv", "shop_seller.parquet", ()), (f"policy={folder / 'small.yaml'}",)
    both = {
        "keys": (keys, keys, "buyer.csv", "seller.csv", asked),
        "rows": (tls[MODEL_OWNER], tls[DATA_OWNER], "buyer_rows.csv", "seller_rows.parquet", ()),
        "many": (keys, keys, "buyer_many.csv", "seller_many.csv", (f"approval={folder / 'knows.yaml'}",)),
        "below": ((*keys, "minimum=42"), (*keys, "minimum=42"), "buyer.csv", "seller.csv", ()),
        "no": (keys, keys, "buyer.csv", "seller.csv", (f"approval={folder / 'older.yaml'}",)),
        "settings": ((*keys, "minimum=9"), (*CLEAR, "key=age"), "buyer.csv", "seller.csv", ()),
        "column": (keys, (*CLEAR, "key=costumer"), "buyer.csv", "seller.csv", ()),
        "empty": (keys, keys, "buyer.csv", "none.csv", ()),
        "few": (keys, (*keys, f"policy={folder / 'small.yaml'}"), "few.csv", "few.csv", ()),
        "small": ((*keys, "minimum=13"), (*keys, "minimum=13"), "few.csv", "seller.csv", ()),
        "names": (tls[MODEL_OWNER], tls[DATA_OWNER], "buyer_rows.csv", "other_rows.csv", ()),
        "position": (CLEAR, (*CLEAR, f"policy={folder / 'small.yaml'}"), "buyer_rows.npz", "buyer_rows.csv", ()),
        "impostor": (
            tls[MODEL_OWNER],
            (*tls[DATA_OWNER], f"counterparty_key={'0' * 64}"),
            "buyer_rows.csv",
            "seller_rows.parquet",
            (),
        ),
        "recipe": ((*ours, *few), (*theirs, *few), *shops),
        "recipe_keys": ((*ours, "key=customer", *few), (*theirs, "key=customer", *few), *shops),
        "recipes": (ours, other, *shops),
        "recipe_alone": (ours, CLEAR, "shop_buyer.csv", "seller_rows.parquet", ()),
        "spent": (keys, (*keys, f"ledger={folder / 'spent.ledger'}"), "buyer.csv", "seller.csv", ()),
    }
    found = []
    for name, (ours, theirs, buyer, seller, yes) in both.items():
        address = f"address=tcp://127.0.0.1:{free_port()}"
        approval = yes or ("approval=yes",)
        session = {
            MODEL_OWNER: [address, f"file={folder / buyer}", "counterparty=seller gmbh", *ours],
            DATA_OWNER: [address, f"file={folder / seller}", "counterparty=acme", *theirs, *approval],
        }
        for role, arguments in session.items():
            ledgers = [] if any(each.startswith("ledger=") for each in arguments) else [
                f"ledger={folder / f'{name}_{role}.ledger'}"
            ]  # fmt: skip
            arguments += [*ledgers, f"record={folder / f'{name}_{role}.jsonl'}", "join_timeout=240"]
        found.append({"name": name, **session})
    return found


@pytest.fixture(scope="module")
def market(module_processes):
    """Both processes with all sessions, ended; a person says yes to the one request that asks for it."""
    folder = module_processes.folder
    (folder / "sessions").mkdir()
    make_trial(folder / "tls")
    exact, seller, buyer = sets_of_keys(folder)
    rows, different = sets_of_rows(folder)
    shops = sets_of_shops(folder)
    (folder / "sessions.json").write_text(json.dumps(sessions_of(folder)))
    script = [sys.executable, str(HERE / "overlap_party.py")]
    started = [module_processes.start(role, [*script, role, str(folder)]) for role in OWNERS]
    queue, deadline = RequestQueue(folder / "requests"), time.monotonic() + stretched(240)
    while not (pending := queue.pending() if queue.folder.is_dir() else []):
        assert time.monotonic() < deadline and all(each.popen.poll() is None for each in started), started[1].err
        time.sleep(0.1)
    asked = queue.say(pending[0].id, True)
    for process in started:
        ended = process.wait(600)
        assert ended.code == 0, ended.err[-3000:]
    ended = {role: {line["name"]: line for line in map(json.loads, (folder / f"{role}.jsonl").read_text().splitlines())}
             for role in OWNERS}  # fmt: skip
    return SimpleNamespace(
        folder=folder, ended=ended, asked=asked, exact=exact, seller=seller, buyer=buyer, rows=rows,
        different=different, shops=shops,
    )  # fmt: skip


def records(market, name):
    return [read_overlaps(market.folder / f"{name}_{role}.jsonl")[0] for role in OWNERS]


def errors(market, name):
    return [market.ended[role][name]["error"] for role in OWNERS]


def entries(market, name, kind):
    """The lines of this kind in both ledgers."""
    found = []
    for role in OWNERS:
        lines = map(json.loads, (market.folder / f"{name}_{role}.ledger").read_text().splitlines())
        found.append([line for line in lines if line["kind"] == kind])
    return found


def test_repeated_keys_are_counted_once_and_the_count_is_that_of_brute_force(market):
    import unicodedata

    def different(keys):
        return {key for each in keys if (key := unicodedata.normalize("NFC", each).strip())}

    ours, theirs = different(market.buyer), different(market.seller)
    brute = sum(a == b for a, b in itertools.product(ours, theirs))
    assert brute == market.exact
    buyer, seller = records(market, "keys")
    assert (buyer.count, seller.count, buyer.fewer_than, seller.fewer_than) == (brute, brute, None, None)
    assert buyer.items == seller.items == {MODEL_OWNER: len(ours), DATA_OWNER: len(theirs)}
    assert buyer.own == {"rows": len(market.buyer), "copies": len(market.buyer) - len(ours) - 1, "without_key": 1}
    assert seller.own == {"rows": len(market.seller), "copies": len(market.seller) - len(theirs) - 2, "without_key": 2}
    assert buyer.candidate == "seller" and buyer.compared["column"] == "customer"


def test_copies_are_named_to_the_own_side_alone(market):
    for role, own in zip(OWNERS, records(market, "keys"), strict=True):
        other = market.ended[OWNERS[1 - OWNERS.index(role)]]["keys"]["out"]
        words = f"{own.own['copies']} copies removed of {own.own['rows']} rows"
        assert words in market.ended[role]["keys"]["out"] and words not in other


def test_rows_are_compared_by_name_of_column_and_by_value_over_tls(market):
    buyer, seller = records(market, "rows")
    assert 30 <= market.rows == buyer.count == seller.count and buyer.items[DATA_OWNER] == market.different
    assert buyer.compared == {"what": "rows", "column": None, "features": 4, "columns": "name"}
    assert buyer.transport == "tls" and len(buyer.budget["counterparty_key"]) == 64
    assert seller.own["copies"] == 160 - market.different > 0


def test_without_names_columns_are_compared_by_position(market):
    """The same rows in another order of columns share nothing, and the output says how they were compared."""
    buyer, seller = records(market, "position")
    assert buyer.compared["columns"] == seller.compared["columns"] == "position"
    assert (buyer.fewer_than, seller.count) == (10, 0)


def test_rows_of_raw_tables_are_compared_after_the_recipe(market):
    """The oracle makes features by hand. Two other cities are one level, and a cent of income makes another row."""
    ours, theirs = ({tuple(row) for row in by_hand(frame)[0]} for frame in market.shops)
    buyer, seller = records(market, "recipe")
    assert 30 <= len(ours & theirs) == buyer.count == seller.count < 40
    assert buyer.items == {MODEL_OWNER: len(ours), DATA_OWNER: len(theirs)}
    assert buyer.compared == {"what": "rows", "column": None, "features": 7, "columns": "name"}
    assert buyer.recipe == seller.recipe == Recipe.load(market.folder / "ours.yaml").digest
    assert f"recipe {buyer.recipe}" in " ".join(market.ended[MODEL_OWNER]["recipe"]["out"].split())
    assert records(market, "rows")[0].recipe is None
    assert '"recipe"' not in (market.folder / f"rows_{MODEL_OWNER}.jsonl").read_text()


def test_keys_beside_a_recipe_are_the_texts_of_a_column_that_is_no_feature(market):
    ours, theirs = ({key for key in frame["customer"] if key} for frame in market.shops)
    buyer, seller = records(market, "recipe_keys")
    assert len(ours & theirs) == buyer.count == seller.count == 29  # 062 to 089, and NA, which is a text like others
    assert buyer.items == {MODEL_OWNER: len(ours), DATA_OWNER: len(theirs)} and buyer.own["without_key"] == 1
    assert buyer.recipe == records(market, "recipe")[0].recipe and buyer.compared["column"] == "customer"


def test_different_recipes_are_refused_with_both_digests_before_anything_else_is_announced(market):
    one, two = (Recipe.load(market.folder / f"{name}.yaml").digest for name in ("ours", "other"))
    for said in errors(market, "recipes"):
        assert f"overlap.recipe: '{one}' at model_owner, '{two}' at data_owner" in said and "features" not in said
    for said in errors(market, "recipe_alone"):
        assert f"overlap.recipe: '{one}' at model_owner, '(absent)' at data_owner" in said, said
    for name in ("recipes", "recipe_alone"):
        assert not list(market.folder.glob(f"{name}_*.jsonl"))
        assert all('"charge"' not in path.read_text() for path in market.folder.glob(f"{name}_*.ledger"))


def test_fifty_thousand_random_keys_are_counted_exactly(market):
    expected = len(set(random_keys(0, MANY)) & set(random_keys(MANY - 7_001, MANY + 3_000)))
    assert expected == 7_001
    assert [one.count for one in records(market, "many")] == [expected, expected]
    assert records(market, "many")[0].request["approval"] == "policy"


def test_below_the_minimum_the_model_owner_is_shown_no_count(market):
    buyer, seller = records(market, "below")
    assert (buyer.count, buyer.fewer_than, buyer.answer) == (None, 42, "fewer than 42")
    assert (seller.count, seller.fewer_than) == (market.exact, 42)  # the side that computes knows it, and says so
    assert "exact count in every case" in market.ended[DATA_OWNER]["below"]["out"]
    assert "fewer than 42" in market.ended[MODEL_OWNER]["below"]["out"]
    model_owner, data_owner = ([line["value"] for line in each] for each in entries(market, "below", "answer"))
    assert model_owner == data_owner == [{"fewer_than": 42}]


def test_each_ledger_has_a_line_of_its_own_for_the_count(market):
    charged, answered = entries(market, "keys", "charge"), entries(market, "keys", "answer")
    for (charge,), (answer,), counterparty in zip(charged, answered, ("seller gmbh", "acme"), strict=True):
        assert charge["method"] == "overlap" and charge["mechanism"]["kind"] == "plain"
        assert charge["counterparty"] == counterparty and charge["rows"] == records(market, "keys")[0].items[DATA_OWNER]
        assert answer["value"] == {"count": market.exact}
    assert [one.budget["plain_left"] for one in records(market, "keys")] == [19, 19]


def test_the_request_says_what_is_asked_and_what_is_revealed_to_whom(market):
    text, request = " ".join(market.asked.request.text().split()), market.asked.request
    buyer, seller = records(market, "keys")
    assert buyer.request == seller.request and buyer.request["id"] == request.id
    assert buyer.request["approval"] == "command" and request.learners == list(OWNERS)
    for sentence in (*buyer.revealed, "semi-honest"):
        assert sentence in text
    assert f"it has {buyer.items[DATA_OWNER]} different keys" in text and 'column "customer"' in text
    assert market.asked.counterparty == "acme"


def test_costs_are_those_of_the_messages(market):
    buyer, seller = records(market, "many")
    assert buyer.bytes_sent == seller.bytes_sent and buyer.seconds == seller.seconds
    ours, theirs = buyer.items[MODEL_OWNER], buyer.items[DATA_OWNER]
    assert 33 * theirs < buyer.bytes_sent[DATA_OWNER] < 36 * theirs
    assert 33 * (ours + theirs) < buyer.bytes_sent[MODEL_OWNER] < 36 * (ours + theirs)
    assert (buyer.rounds, seller.rounds) == (2, 4)


@pytest.mark.parametrize(
    ("name", "here", "there"),
    [
        ("no", "PeerError: data_owner stopped: the data owner refused request", "No rule names the method overlap"),
        ("settings", "overlap.minimum: 9 at model_owner, 10 at data_owner", "overlap.key: 'customer' at model_owner"),
        ("column", "PeerError: data_owner stopped: bad input in file", "no columns 'costumer'"),
        ("empty", "PeerError: data_owner stopped: bad input in file", "0 rows and no key in 'customer'"),
        ("few", "budget.rows: got 12; expected 100 rows or more", "model_owner stopped: bad input in budget.rows"),
        (
            "small",
            "different keys of the model owner: got 12; expected 13 or more, as minimum states",
            "bad input in different keys",
        ),
        ("names", "missing at the data_owner: 'f0'", "nearly the same: 'F0' for 'f0'"),
        ("impostor", "which data_owner does not expect", "DisagreementError: model_owner shows a certificate key"),
        ("spent", "PeerError: data_owner stopped: bad input in budget.plain_values", "0 values without noise for acme"),
    ],
)
def test_a_refusal_names_its_reason_and_charges_nothing(market, name, here, there):
    buyer, seller = errors(market, name)
    assert here in buyer and there in seller, (buyer, seller)
    assert not list(market.folder.glob(f"{name}_*.jsonl"))
    for ledger in market.folder.glob(f"{name}_*.ledger"):
        assert '"kind":"charge"' not in ledger.read_text()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"minimum": 0}, "minimum"),
        ({"minimum": True}, "minimum"),
        ({"column": " "}, "key"),
        ({"join_timeout": 0.0}, "join_timeout"),
    ],
)
def test_bad_settings_are_named(settings, name):
    with pytest.raises(InputError) as caught:
        OverlapPlan(**settings)
    assert caught.value.name == name


def test_no_dealer_takes_part():
    with pytest.raises(AppraisalError, match="no dealer takes part"):
        take_part_in_overlap("dealer", "tcp://127.0.0.1:1", OverlapPlan(), lambda: None)


def test_an_owner_that_never_comes_is_named_alone():
    plan = OverlapPlan(transport=Transport("tcp"), join_timeout=1.0)
    own = OverlapInput("train", Items(tuple(f"{k:064x}" for k in range(20)), 20))
    with pytest.raises(PeerError, match="^data_owner did not come to"):
        take_part_in_overlap(MODEL_OWNER, f"tcp://127.0.0.1:{free_port()}", plan, lambda: own)
