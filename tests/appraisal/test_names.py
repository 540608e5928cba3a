"""Columns are matched by name between the parties, or refused; without names, position decides and outputs say so."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tables_between as tables
from processes import DATA_OWNER, MODEL_OWNER, ROLES, Processes
from tables_between import NAMES, influence, join, table, write_table

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.compared import Source, fitted
from mpc_appraisal.appraisal.names import Names, NamesError, hashed, match, published
from mpc_appraisal.appraisal.plan import DisclosureControls
from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.data import Dataset, RandomRelu, StoredDataset, files, mapped, open_dataset, read_dataset
from mpc_appraisal.data.naming import alike, named
from mpc_appraisal.governance.catalogue import check_listing, read_listing, read_salt
from mpc_appraisal.reporting.record import Record, read

TRAIN, TEST, GOOD = table(200, 0), table(150, 1), table(200, 2)
PERMUTED = ("balance", "age", "visits", "income", "tenure")
SCALE = (1.0, 2.0, 0.5, 1.0, 4.0)  # public, of the columns in the model owner's order
BY_POSITION = "Columns were compared by position alone"


def test_the_oracle_is_the_one_of_the_report():
    assert influence(TRAIN, TEST, GOOD) == pytest.approx(0.0747223, abs=1e-6)
    places = [NAMES.index(name) for name in PERMUTED]
    assert influence(TRAIN, TEST, (GOOD[0][:, places], GOOD[1])) == pytest.approx(-0.3372389, abs=1e-6)


# -- three processes -----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The buyer's table, the seller's in another order and told as hashes, and an array without names."""
    with Processes(tmp_path_factory.mktemp("names")) as processes:
        root = processes.folder
        train = write_table(root / "b" / "train.csv", *TRAIN)
        test = write_table(root / "b" / "test.csv", *TEST, order=PERMUTED)
        permuted = write_table(root / "s" / "permuted.csv", *GOOD, order=PERMUTED)
        np.savez(root / "s" / "arrays.npz", x=GOOD[0], y=GOOD[1])
        buyer = [f"party.train={train}", f"party.test={test}"]
        seller = [f"party.data=[{permuted},{root / 's' / 'arrays.npz'}]", "party.names=hash"]
        ended = join(processes, buyer, seller, [f"standardise.scale={list(SCALE)}".replace(" ", "")])
        assert {role: one.code for role, one in ended.items()} == dict.fromkeys(ROLES, 0), ended
        yield root, ended


def test_the_same_names_in_another_order_give_the_value_by_name(session):
    root, _ = session
    right = influence(*((x / np.array(SCALE), y) for x, y in (TRAIN, TEST, GOOD)))
    for role in (MODEL_OWNER, DATA_OWNER):
        found = {record.candidate: record for record in read(root / role / "run" / "records.jsonl")}
        assert found["permuted"].value == pytest.approx(right, abs=1e-4), role
        assert found["arrays"].value == pytest.approx(right, abs=1e-4), role


def test_every_output_says_what_went_by_position(session):
    root, ended = session
    for role in (MODEL_OWNER, DATA_OWNER):
        run = root / role / "run"
        found = {record.candidate: record for record in read(run / "records.jsonl")}
        assert found["permuted"].warnings == () and [BY_POSITION in text for text in found["arrays"].warnings] == [True]
        for name in ("report.md", "report.html", "card-arrays.md", "card-arrays.html", "request.md"):
            text = " ".join((run / name).read_text().split())
            assert BY_POSITION in text and "the data owner has no names" in text, (role, name)
        assert BY_POSITION not in (run / "card-permuted.md").read_text()
    for role, one in ended.items():
        assert one.err.count(BY_POSITION) == 1 and "warning: Of 'arrays': Columns" in one.err, (role, one.err)


def test_the_request_says_what_was_told_of_names_and_a_side_that_prefers_hashes_tells_none(session):
    root, _ = session
    request = " ".join((root / DATA_OWNER / "run" / "request.md").read_text().split())
    assert "both sides have the same 5, in another order, and the data owner's were put into the model" in request
    assert "announced the names of its columns in the clear; the data owner announced its own as hashes" in request


def test_different_names_are_refused_by_all_with_the_difference_and_nothing_is_charged(tmp_path):
    others = ("age", "Income ", "tenure", "balance", "visists")
    with Processes(tmp_path) as processes:
        train = write_table(tmp_path / "b" / "train.csv", *TRAIN)
        test = write_table(tmp_path / "b" / "test.csv", *TEST)
        data = write_table(tmp_path / "s" / "data.csv", *GOOD, names=tuple(name.strip() for name in others))
        ledgers = {"party.ledger": tmp_path / "s" / "ledger", "party.approval": "yes"}
        buyer = [f"party.train={train}", f"party.test={test}", f"party.ledger={tmp_path / 'b' / 'ledger'}"]
        ended = join(processes, buyer, [f"party.data={data}", *(f"{key}={value}" for key, value in ledgers.items())])
    for role, one in ended.items():
        assert one.code == 2 and "Traceback" not in one.err, (role, one.err)
        for text in ("missing at the data_owner: 'income', 'visits'", "additional at the data_owner: 'Income', 'vis"):
            assert text in one.err, (role, one.err)
        assert "nearly the same: 'Income' for 'income', 'visists' for 'visits'" in one.err
    for side in "bs":
        assert "charge" not in (tmp_path / side / "ledger").read_text()


# -- what is compared, and how ---------------------------------------------------------------------------------------
def notes(buyer, seller, how=("plain", "plain")):
    one, other = (published(names, each) for names, each in zip((buyer, seller), how, strict=True))
    return one, {"name": "a"} | other


@pytest.mark.parametrize("how", [("plain", "plain"), ("plain", "hash"), ("hash", "plain"), ("hash", "hash")])
def test_names_and_hashes_find_the_same_order(how):
    found = match(*notes(Names(NAMES), Names(PERMUTED), how))
    assert [PERMUTED[place] for place in found.order] == list(NAMES) and found.warnings == ()
    assert any("hashes, which can be tested against guesses" in text for text in found.facts) == ("hash" in how)


def test_a_hash_is_the_documented_one_and_no_name_is_told_beside_it():
    import hashlib

    assert hashed("columns", "age") == hashlib.sha256(b"mpc_appraisal column name 1\nage").hexdigest()[:32]
    note = json.dumps(published(Names(NAMES, ("good", "bad")), "hash"))
    assert not any(name in note for name in (*NAMES, "good", "bad"))


def test_a_refusal_tells_the_others_no_name_that_was_told_as_a_hash():
    mine = Names(("age", "hiv status"))
    with pytest.raises(NamesError, match="additional at the data_owner: 'hiv status'") as error:
        match(*notes(Names(("age", "income")), mine, ("plain", "hash")), own=[mine])
    assert "hiv" not in error.value.public and "one announced as the hash" in error.value.public
    assert "missing at the data_owner: 'income'" in error.value.public


@pytest.mark.parametrize("part", [[], ["a", "a"], ["a", 1], "ab", {"how": "rot13", "names": ["a"]}, {"names": None}, 7])
def test_malformed_names_of_a_peer_are_refused(part):
    good, bad = notes(Names(("a", "b")), Names(("a", "b")))
    bad["columns"] = {"how": "plain", "names": part} if isinstance(part, (list, str)) else part
    with pytest.raises(DisagreementError, match="expected"):
        match(good, bad)


def test_steering_characters_of_a_name_never_reach_the_terminal():
    with pytest.raises(NamesError) as error:
        match(*notes(Names(("age", "b")), Names(("age", "\x1b[2J\n"))))
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)


def test_an_extractor_sees_the_columns_in_the_model_owners_order():
    extractor = RandomRelu(7)
    places = [NAMES.index(name) for name in PERMUTED]
    raw = Dataset.of(GOOD[0][:, places], GOOD[1], name="a", columns=PERMUTED)
    source = Source(raw, lambda data: mapped(data, extractor))
    found = fitted(source.prepare(raw), source, match(*notes(Names(NAMES), Names(PERMUTED))), 3)
    assert np.array_equal(found.x.numpy(), mapped(Dataset.of(*GOOD), extractor).x.numpy())


def test_a_stored_file_is_arranged_and_recoded_as_a_read_one(tmp_path, monkeypatch):
    places = [NAMES.index(name) for name in PERMUTED]
    x, y = GOOD[0][:, places], 2 - GOOD[1]
    np.savez(
        tmp_path / "d.npz",
        x=np.ascontiguousarray(x),
        y=y,
        columns=np.array(PERMUTED),
        class_names=np.array(["c", "b", "a"]),
    )
    fit = match(*notes(Names(NAMES, ("a", "b", "c")), Names(PERMUTED, ("c", "b", "a"))))
    monkeypatch.setattr(files, "STORED_BYTES", 0)
    stored = fitted(open_dataset(tmp_path / "d.npz"), None, fit, 3)
    assert isinstance(stored, StoredDataset)
    blocks = list(stored.blocks(70))
    assert np.array_equal(np.concatenate([b.x.numpy() for b in blocks]), GOOD[0])
    assert np.array_equal(np.concatenate([b.y.numpy() for b in blocks]), GOOD[1])


# -- Python ----------------------------------------------------------------------------------------------------------
def framed(rows, order=NAMES, names=NAMES):
    frame = pd.DataFrame(rows[0], columns=list(names))
    return frame[list(order)], rows[1]


def test_data_frames_are_aligned_by_name_or_refused(capsys):
    result = appraise(
        {"good": framed(GOOD), "permuted": framed(GOOD, PERMUTED)},
        train=framed(TRAIN),
        test=framed(TEST, PERMUTED),
        l2=tables.L2,
        session="plain",
    )
    assert [record.value for record in result] == pytest.approx([0.0747223] * 2, abs=1e-6)
    assert BY_POSITION not in capsys.readouterr().err and all(record.warnings == () for record in result)
    with pytest.raises(NamesError, match="nearly the same: 'incom' for 'income'"):
        appraise(
            framed(GOOD, names := ("age", "incom", *NAMES[2:]), names),
            train=framed(TRAIN),
            test=framed(TEST),
            session="plain",
        )
    with pytest.raises(InputError, match="test: got columns without 'age'"):
        appraise(GOOD, train=framed(TRAIN), test=framed(TEST, n := ("a", *NAMES[1:]), n), session="plain")


def test_arrays_go_by_position_and_the_result_says_so(capsys):
    result = appraise(GOOD, train=TRAIN, test=framed(TEST), l2=tables.L2, session="plain")
    (record,) = result
    assert record.value == pytest.approx(0.0747223, abs=1e-6) and BY_POSITION in record.warnings[0]
    assert BY_POSITION in str(result) and capsys.readouterr().err.count(BY_POSITION) == 1
    assert result.to_frame()["warnings"].tolist() == [1]


def test_names_with_slashes_do_not_look_like_paths_to_a_record():
    record = Record("influence", "a", 1.0, warnings=("a warning on %2Fhome%2Fx",))
    assert Record.from_json(record.to_json()) == record
    with pytest.raises(InputError, match="record.warnings"):
        Record("influence", "a", 1.0, warnings=("",))
    old = json.loads(record.to_json())
    del old["warnings"]
    assert Record.from_json(json.dumps(old)).warnings == ()


def test_a_guard_refuses_what_it_does_not_know():
    with pytest.raises(InputError, match="party.names: got 'rot13'; expected one of plain, hash"):
        DisclosureControls(names="rot13")
    with pytest.raises(InputError, match="party.scale: got 'shout'; expected one of warn, refuse, ignore"):
        DisclosureControls(scale="shout")


def test_names_that_a_file_lacks_are_stated_and_never_overruled():
    data = Dataset.of(GOOD[0], np.minimum(GOOD[1], 1), name="a")
    assert named(data, NAMES, ("a", "b", "c"), "k").classes == 3
    with pytest.raises(InputError, match="k: got columns 'a', 'b'.*as the file itself states"):
        named(named(data, NAMES, None, "k"), tuple("abcde"), None, "k")
    assert alike(None, data, "k") is data


def test_the_example_is_compared_by_name(tmp_path, capsys):
    from mpc_appraisal.cli.commands.example import main

    main([str(tmp_path / "ex")])
    train, test, seller = (read_dataset(tmp_path / "ex" / f) for f in ("train.npz", "test.npz", "seller.csv"))
    assert train.columns == test.columns == seller.columns and train.columns[:2] == ("pixel 0", "pixel 1")
    capsys.readouterr()


def test_many_names_of_a_peer_hold_nobody_up():
    """Near misses are sought among a few hundred names: a comparison of all pairs would take minutes."""
    ours, theirs = (tuple(f"{side}{k:05}" * 9 for k in range(20_000)) for side in ("left", "lift"))
    with pytest.raises(NamesError, match="and 19990 more"):
        match(*notes(Names(ours), Names(theirs)))


def test_a_model_without_names_is_said_to_be_in_the_order_of_the_test_rows():
    from mpc_appraisal.appraisal.compared import names_findings

    matches = {"a": match(*notes(Names(NAMES), Names(PERMUTED)))}
    assert any("A trained model has no names" in one.text for one in names_findings(matches, False))
    assert not any("trained model" in one.text for one in names_findings(matches, True))


# -- catalogue -------------------------------------------------------------------------------------------------------
def test_published_columns_are_those_of_the_header(tmp_path, capsys):
    data = write_table(tmp_path / "permuted.csv", *GOOD, order=PERMUTED)
    stated = [f"data={data}", "name=p", "title=x", f"out={tmp_path / 'c'}"]
    with pytest.raises(InputError, match="columns: got age, income, tenure, balance, visits; expected balance, age"):
        catalogue(["publish", *stated, f"columns={','.join(NAMES)}"], None)
    assert not (tmp_path / "c").exists()
    catalogue(["publish", *stated, "columns=file"], None)
    listing = read_listing(tmp_path / "c" / "p.json")
    assert listing.column_names == PERMUTED and "class_names" not in listing.text()
    salt = read_salt(f"{data}.p.salt")
    check_listing(listing, read_dataset(data), salt)
    with pytest.raises(InputError, match="data.columns.0: got 'age'; expected 'balance'"):
        check_listing(listing, read_dataset(write_table(tmp_path / "good.csv", *GOOD)), salt)
    nameless = Dataset.of(read_dataset(data).x, GOOD[1])
    check_listing(listing, nameless, salt)  # the commitment alone tells
    capsys.readouterr()


def test_published_class_names(tmp_path, capsys):
    np.savez(tmp_path / "d.npz", x=GOOD[0], y=np.minimum(GOOD[1], 1), class_names=np.array(["a", "b", "c"]))
    stated = [f"data={tmp_path / 'd.npz'}", "title=x", f"out={tmp_path / 'c'}"]
    with pytest.raises(InputError, match="class_names: got c, b, a; expected a, b, c"):
        catalogue(["publish", *stated, "name=a", "class_names=c,b,a"], None)
    with pytest.raises(InputError, match="columns: got file; expected names, for the file states none"):
        catalogue(["publish", *stated, "name=a", "columns=file"], None)
    catalogue(["publish", *stated, "name=a", "class_names=file"], None)
    listing = read_listing(tmp_path / "c" / "a.json")
    assert (listing.class_names, listing.classes) == (("a", "b", "c"), 3)
    other = Dataset.of(GOOD[0], np.minimum(GOOD[1], 1), class_names=("b", "a", "c"))
    with pytest.raises(InputError, match="data.class_names.0: got 'b'; expected 'a'"):
        check_listing(listing, other, read_salt(tmp_path / "d.npz.a.salt"))
    capsys.readouterr()
