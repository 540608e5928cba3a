"""Classes between the parties: matched by name where both have names; classes without rows are warned of, by number."""

from __future__ import annotations

import numpy as np
import pytest
import tables_between as tables
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, Processes
from tables_between import influence, join, table, write_table

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal.names import Names, NamesError, match, published
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.release import NoisedRelease
from mpc_appraisal.reporting.record import read

TRAIN, TEST, GOOD = table(200, 0), table(150, 1), table(200, 2)
KINDS = ("a", "b", "c")
FEW = tuple(part[GOOD[1] < 2] for part in GOOD)  # without the top class; SHIFTED counts its labels from 1
SHIFTED = (FEW[0], FEW[1] + 1)
AT_SELLER = "1 of the model's 3 classes has no row at the data owner"
AT_BUYER = "1 of the model's 4 classes has no row in the model owner's training rows"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The seller's classes in another order, by name; and without names, labels from 1 that lack the top class."""
    with Processes(tmp_path_factory.mktemp("classes")) as processes:
        root = processes.folder
        for name, (x, y) in {"train": TRAIN, "test": TEST}.items():
            (root / "b").mkdir(exist_ok=True)
            np.savez(root / "b" / name, x=x, y=y, class_names=np.array(KINDS))
        (root / "s").mkdir()
        np.savez(root / "s" / "coded", x=GOOD[0], y=np.array([1, 2, 0])[GOOD[1]], class_names=np.array(["c", "a", "b"]))
        np.savez(root / "s" / "shifted", x=SHIFTED[0], y=SHIFTED[1])
        buyer = [f"party.train={root / 'b' / 'train.npz'}", f"party.test={root / 'b' / 'test.npz'}"]
        ended = join(processes, buyer, [f"party.data=[{root / 's' / 'coded.npz'},{root / 's' / 'shifted.npz'}]"])
        assert {role: one.code for role, one in ended.items()} == dict.fromkeys(ROLES, 0), ended
        yield root, ended


def test_the_same_classes_in_another_order_give_the_value_by_name(session):
    root, _ = session
    for role in (MODEL_OWNER, DATA_OWNER):
        found = {record.candidate: record for record in read(root / role / "run" / "records.jsonl")}
        assert found["coded"].value == pytest.approx(influence(TRAIN, TEST, GOOD), abs=1e-4)
        assert not any("class" in text for text in found["coded"].warnings)


def test_labels_from_one_that_lack_the_top_class_are_warned_of_everywhere(session):
    root, ended = session
    assert influence(TRAIN, TEST, SHIFTED) == pytest.approx(-1.0123, abs=1e-3)  # for data worth 0.0966
    for role in (MODEL_OWNER, DATA_OWNER):
        run = root / role / "run"
        found = {record.candidate: record for record in read(run / "records.jsonl")}
        assert any(AT_SELLER in text for text in found["shifted"].warnings)
        for name in ("report.md", "card-shifted.md", "request.md"):
            assert AT_SELLER in " ".join((run / name).read_text().split()), (role, name)
    for role, one in ended.items():
        assert one.err.count(AT_SELLER) == 1, (role, one.err)


def test_counts_of_rows_by_class_stay_with_their_owner(session):
    root, ended = session
    counts = f"0: 0, 1: {(SHIFTED[1] == 1).sum()}, 2: {(SHIFTED[1] == 2).sum()}"
    assert counts in ended[DATA_OWNER].err and "which are not sent to anybody else" in ended[DATA_OWNER].err
    for role in (MODEL_OWNER, DEALER):
        assert "rows by class" not in ended[role].err
    for path in (root / DATA_OWNER / "run").rglob("*.*"):  # what may be handed on
        assert not path.is_file() or counts.encode() not in path.read_bytes(), path


def fitted(buyer: Names, seller: Names):
    return match(published(buyer, "plain"), {"name": "a"} | published(seller, "plain"), (buyer, seller))


def test_fewer_classes_are_fine_and_other_ones_are_refused_with_the_difference():
    assert fitted(Names(classes=KINDS), Names(classes=("c", "a"))).recode == (2, 0)
    with pytest.raises(NamesError, match="the classes of 'a' differ;.*additional at the data_owner: 'd'"):
        fitted(Names(classes=KINDS), Names(classes=("c", "a", "d")))
    with pytest.raises(NamesError, match="nearly the same: 'B' for 'b'"):
        fitted(Names(classes=KINDS), Names(classes=("a", "B")))
    found = fitted(Names(classes=KINDS), Names())
    assert found.recode is None and any("by number alone, for the data owner has no names" in f for f in found.facts)


def data(rows, names=None, classes=None) -> Dataset:
    return Dataset.of(*rows, classes=classes, class_names=names)


def test_the_baseline_recodes_and_warns_as_the_parties_do(capsys):
    coded = (GOOD[0], np.array([1, 2, 0])[GOOD[1]])
    sides = {"train": data(TRAIN, KINDS), "test": data(TEST, KINDS), "l2": tables.L2, "session": "plain"}
    result = appraise({"coded": data(coded, ("c", "a", "b")), "shifted": data(SHIFTED)}, **sides)
    assert result["coded"].value == pytest.approx(0.0747223, abs=1e-6)
    assert any(AT_SELLER in text for text in result["shifted"].warnings)
    assert not any(AT_SELLER in text for text in result["coded"].warnings)
    assert f"warning: Of 'shifted': {AT_SELLER}" in capsys.readouterr().err
    with pytest.raises(NamesError, match="additional at the data_owner: 'z'"):
        appraise(data(GOOD, ("a", "b", "z")), **sides)
    with pytest.raises(InputError, match="test: got class names 'c', 'b', 'a'"):
        appraise(data(GOOD), **sides | {"test": data(TEST, KINDS[::-1])})


def test_a_class_that_the_training_rows_lack_is_warned_of():
    one = [(x, y + 1) for x, y in (TRAIN, TEST, GOOD)]
    train, test, good = (data(rows, ("none", *KINDS)) for rows in one)
    (record,) = appraise(good, train=train, test=test, l2=tables.L2, session="plain")
    assert record.value == pytest.approx(influence(*one, 4), abs=1e-5)
    assert any(AT_BUYER in text for text in record.warnings)


def test_noise_hides_which_classes_the_data_owner_has():
    private = NoisedRelease(epsilon=1.0, delta=1e-6, row_norm=3.0)
    (record,) = appraise(SHIFTED, train=TRAIN, test=TEST, l2=0.1, session="plain", release=private)
    assert not any("no row at the data owner" in text for text in record.warnings)


def test_names_of_classes_that_the_model_lacks_are_refused(tmp_path):
    from mpc_appraisal.models.training import fit

    model = fit(Dataset.of(*TRAIN), tables.L2)
    with pytest.raises(InputError, match="party.class_names: got 4 names; expected 3"):
        appraise(data(GOOD), test=data(TEST, (*KINDS, "d")), model=model, method="gradient_norm", session="plain")


def test_names_may_be_stated_beside_a_table(tmp_path):
    from mpc_appraisal.cli.config import compose
    from mpc_appraisal.cli.inputs import read_own

    path = write_table(tmp_path / "s.csv", *GOOD)
    cfg = compose([f"party.data={path}", "party.class_names=[a,b,c,d]", "session=plain"])
    (names,) = read_own(cfg, DATA_OWNER, ()).names
    assert names.classes == ("a", "b", "c", "d") and names.columns == tables.NAMES
    for bad in ("[a,a]", "[]", "a", "[a,b]"):
        cfg = compose([f"party.data={path}", f"party.class_names={bad}", "session=plain"])
        with pytest.raises(InputError, match="party.class_names"):
            read_own(cfg, DATA_OWNER, ())
