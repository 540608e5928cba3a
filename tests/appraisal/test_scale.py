"""Rows of another length, and listings whose statistics are far from the buyer's: a warning at both, or a refusal."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, Processes
from tables_between import NAMES, join, table, write_table

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal.compared import far, scale_findings, statistics_findings
from mpc_appraisal.appraisal.names import Match, Names
from mpc_appraisal.appraisal.plan import DisclosureControls
from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.common.errors import DisagreementError
from mpc_appraisal.data import Digits, read_dataset
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.catalogue import read_listing, statistics
from mpc_appraisal.release import NoisedRelease
from mpc_appraisal.reporting.record import read

TRAIN, TEST, GOOD = table(200, 0), table(150, 1), table(200, 2)
LONG = (16 * GOOD[0], GOOD[1])
LONGER = "times as long as the model owner's"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Rows 16 times as long, listed with statistics and columns in another order."""
    with Processes(tmp_path_factory.mktemp("scale")) as processes:
        root = processes.folder
        train, test = (write_table(root / "b" / f"{n}.csv", *d) for n, d in (("train", TRAIN), ("test", TEST)))
        data = write_table(root / "s" / "long.csv", *LONG, order=NAMES[::-1])
        stated = [f"data={data}", "name=set-a", "title=x", f"out={root / 'c'}", "columns=file", "statistics=yes"]
        catalogue(["publish", *stated], None)
        listing = f"party.listing={root / 'c' / 'set-a.json'}"
        ended = join(
            processes, [f"party.train={train}", f"party.test={test}", listing], [f"party.data={data}", listing]
        )
        assert {role: one.code for role, one in ended.items()} == dict.fromkeys(ROLES, 0), ended
        yield root, ended


def test_longer_rows_are_a_warning_at_both_in_every_output(session):
    root, ended = session
    for role in (MODEL_OWNER, DATA_OWNER):
        (record,) = read(root / role / "run" / "records.jsonl")
        assert any(LONGER in text for text in record.warnings)
        for name in ("report.md", "card-set-a.md", "card-set-a.html", "request.md"):
            assert LONGER in " ".join((root / role / "run" / name).read_text().replace("&#39;", "'").split()), name
    for role, one in ended.items():
        assert one.err.count(LONGER) == 1, (role, one.err)


def test_the_listings_statistics_are_compared_by_the_model_owner_alone(session):
    root, ended = session
    text = "statistics are far from the model owner's training rows in 5 of 5 columns: 'age', 'income', 'tenure'"
    assert text in ended[MODEL_OWNER].err
    assert any(text in one for one in read(root / MODEL_OWNER / "run" / "records.jsonl")[0].warnings)
    for role in (DATA_OWNER, DEALER):
        assert "statistics" not in ended[role].err
    assert not any("statistics" in text for text in read(root / DATA_OWNER / "run" / "records.jsonl")[0].warnings)
    assert "statistics are far" not in (root / DATA_OWNER / "run" / "request.md").read_text()


def test_a_side_may_refuse_and_all_hear_it_before_anything_is_charged(tmp_path):
    with Processes(tmp_path) as processes:
        train, test = (write_table(tmp_path / "b" / f"{n}.csv", *d) for n, d in (("train", TRAIN), ("test", TEST)))
        data = write_table(tmp_path / "s" / "long.csv", *LONG)
        buyer = [f"party.train={train}", f"party.test={test}", f"party.ledger={tmp_path / 'b' / 'ledger'}"]
        ended = join(processes, buyer, [f"party.data={data}", "party.scale=refuse"])
    for role, one in ended.items():
        assert one.code == 2 and "This is refused, as party.scale=refuse says" in one.err, (role, one.err)
    assert "charge" not in (tmp_path / "b" / "ledger").read_text()


def sides(**changed):
    return {"train": TRAIN, "test": TEST, "l2": 0.1} | changed


@pytest.mark.parametrize("which", ["plain", "spawn"])
def test_a_trial_on_one_machine_warns_in_the_same_words(which, capsys):
    (record,) = appraise(LONG, session=which, **sides())
    assert sum(LONGER in text for text in record.warnings) == 1 and capsys.readouterr().err.count(LONGER) == 1


def test_rows_of_the_same_source_and_rows_of_twice_the_length_are_no_warning():
    for rows in (GOOD, (2 * GOOD[0], GOOD[1]), (GOOD[0][:3], GOOD[1][:3])):
        (record,) = appraise(rows, session="plain", **sides())
        assert not any("as long" in text for text in record.warnings)
    (record,) = appraise((GOOD[0] / 16, GOOD[1]), session="plain", **sides())
    assert any("The model owner's longest row is about" in text for text in record.warnings)


def published(seller: float, buyer: float):
    return {MODEL_OWNER: {"row_norm": buyer}, DATA_OWNER: {"row_norm": seller}}


@pytest.mark.parametrize(
    "seller, buyer, warned",
    [
        (20.0, 5.5, False),
        (24.0, 5.5, True),
        (1.125, 4.0, True),
        (1.125, 1.125, False),
        (1.0, 1.0, False),
    ],
)
def test_the_constant_feature_is_taken_off(seller, buyer, warned):
    length = [np.sqrt(norm**2 - 1) for norm in (seller, buyer)]
    assert warned == (max(length) > 0 and max(length) >= 4 * min(length))
    found = scale_findings(published(seller, buyer), ["a"], False, 10)
    assert [one.warning for one in found] == [True] * warned


def test_nothing_is_compared_under_noise_or_without_rows_and_that_is_said():
    for hidden, rows, words in ((True, 10, "release=dp"), (False, 0, "brings a model and no rows")):
        (found,) = scale_findings(published(100.0, 1.0), ["a"], hidden, rows)
        assert not found.warning and words in found.text
    private = NoisedRelease(epsilon=1.0, delta=1e-6, row_norm=3.0)
    (record,) = appraise(LONG, session="plain", release=private, **sides())
    assert not any("as long" in text for text in record.warnings)


def test_policies_of_a_trial():
    from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
    from mpc_appraisal.appraisal.sides import together

    buyer = ModelOwnerInput(Dataset.of(*TRAIN), Dataset.of(*TEST))
    seller = DataOwnerInput((Dataset.of(*LONG),))
    plan = Plan((), 0.1, 0, "0" * 16, lambda data: None)
    _, _, found = together(buyer, DataOwnerInput(seller.candidates, DisclosureControls(scale="ignore")), plan)
    assert any(LONGER in one.text for one in found)  # the other side still hears it
    _, _, found = together(
        ModelOwnerInput(buyer.train, buyer.test, controls=DisclosureControls(scale="ignore")), seller, plan
    )
    assert not any(LONGER in one.text for one in found)
    with pytest.raises(DisagreementError, match="party.scale=refuse"):
        together(buyer, DataOwnerInput(seller.candidates, DisclosureControls(scale="refuse")), plan)


# -- statistics of listings ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits():
    train, _ = Digits().load()
    order = np.random.default_rng(0).permutation(train.rows)
    return train.subset(order[:600]), train.subset(order[600:800])


def listed(folder, name: str, x, y):
    np.savez(folder / f"{name}.npz", x=x, y=y)
    stated = [f"data={folder / name}.npz", f"name={name}", "title=x", f"out={folder / 'c'}", "statistics=yes"]
    catalogue(["publish", *stated], None)
    return read_listing(folder / "c" / f"{name}.json")


def test_transposed_images_are_seen_in_a_listings_statistics(digits, tmp_path):
    train, offered = digits
    x, y = offered.x.numpy(), offered.y.numpy()
    transposed = np.ascontiguousarray(x.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(len(x), 64))
    by_position = Match(None, None, (), ())
    for name, rows, warned in (("good", x, False), ("few", x[:20], False), ("transposed", transposed, True)):
        listing = listed(tmp_path, name, rows, y[: len(rows)])
        found = statistics_findings(name, listing, train, by_position, Names())
        assert [one.warning and not one.public for one in found] == [True] * warned, (name, found)
    assert "of 64 columns: number " in found[0].text


def test_columns_without_listed_statistics_are_not_compared(digits, tmp_path):
    train, offered = digits
    x, y = offered.x.numpy().copy(), offered.y.numpy()
    x[:, 20] += 100
    listing, rows = listed(tmp_path, "shifted", x, y), read_dataset(tmp_path / "shifted.npz")
    for columns, warned in (((20,), "1 of 1 columns: number 21;"), ((2, 20, 30), "1 of 3 columns: number 21;")):
        some = replace(listing, statistics=statistics(rows, columns))
        [found] = statistics_findings("shifted", some, train, Match(None, None, (), ()), Names())
        assert warned in found.text
    some = replace(listing, statistics=statistics(rows, (2, 30)))
    assert statistics_findings("shifted", some, train, Match(None, None, (), ()), Names()) == []


def test_a_column_in_other_units_is_seen_also_where_it_is_centred():
    mean, deviation = np.array([0.0, 170.0, 0.5]), np.array([1.0, 10.0, 0.5])
    assert far(mean, deviation, mean, deviation) == []
    assert far(mean, deviation, np.array([0.0, 1.7, 0.5]), np.array([1.0, 0.1, 0.5])) == [1]
    assert far(mean, deviation, mean, np.array([100.0, 10.0, 0.5])) == [0]
    assert far(mean, np.zeros(3), mean * 1.001, np.zeros(3)) == []  # constants, to three digits
    assert far(mean, np.zeros(3), mean + 1, np.zeros(3)) == [0, 2]  # 170 and 171 are nearly one


# -- requests and rules of before ------------------------------------------------------------------------------------
def test_a_request_without_comparisons_reads_and_digests_as_before():
    from test_request import CONTENT as old

    assert "compared" not in old
    request = Request(old)
    assert json.loads(request.canonical) == json.loads(json.dumps(old)) and "fit together" not in request.text()
    more = Request(old | {"compared": ["Columns were compared by name."]})
    assert more.digest != request.digest and "How the two sides' data fit together" in more.text()
