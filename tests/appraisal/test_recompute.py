"""After the deal: an honest record agrees with the data and the model; substituted data, another model, a shifted value
and a turned bit are each found."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from deals import OTHER_TRAIN, SELLER, TEST, TRAIN, value_of
from processes import DATA_OWNER, MODEL_OWNER, problem, write_csv, write_npz
from test_deal_listings import Listed

from mpc_appraisal import Dataset
from mpc_appraisal.appraisal.recompute import _bound, _compared
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import rounding_of
from mpc_appraisal.methods import Finetuning
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.record import Record, append, read


@pytest.fixture(scope="module")
def deal(module_processes, tmp_path_factory):
    """A session about a listed file between real processes, and what is delivered after it."""
    market = Listed(module_processes, "recomputed", {"one": 250, "two": 100})
    session = market.start(**market.own)
    session.end()
    folder = tmp_path_factory.mktemp("after")
    for part in (market.files["clean"], market.files["clean"].with_name("clean.csv.one.salt")):
        shutil.copy(part, folder / part.name)
    record = session.run(MODEL_OWNER) / "records.jsonl"
    return SimpleNamespace(market=market, folder=folder, record=record, seller=session.records(DATA_OWNER))


def check(deal, **stated) -> None:
    said = {"listing": deal.market.root / "buyer" / "one.json", "data": deal.folder / "clean.csv"}
    said |= {"record": deal.record, "train": deal.market.train, "test": deal.market.test} | stated
    said.setdefault("secret", deal.folder / "clean.csv.one.salt")
    COMMANDS["catalogue"](["check", *(f"{key}={value}" for key, value in said.items() if value is not None)])


def changed(deal, name: str, **changes):
    """The record of the listed candidate with other entries, in a file of its own."""
    record = next(r for r in read(deal.record) if r.candidate == "one")
    path = deal.folder / f"{name}.jsonl"
    path.unlink(missing_ok=True)
    append(path, replace(record, **changes))
    return path


def test_an_honest_deal_agrees(deal, capsys):
    check(deal)
    out = capsys.readouterr().out
    assert "the data are those of listing one: commitment" in out
    assert "the model owner's inputs are those of the record: commitment " in out
    assert "agrees with " in out and "computed in the clear" in out
    mine, theirs = (next(r for r in all if r.candidate == "one") for all in (read(deal.record), deal.seller))
    assert mine.recompute == theirs.recompute and mine.recompute["settings"] == {"damping": 0.0}
    assert len(mine.recompute["inputs"]) == 64


def test_a_shifted_value_is_found(deal):
    right = value_of(SELLER)
    for value in (right + 0.01, -right, 42.0):
        with pytest.raises(InputError, match="record: influence of one: got .*the recorded number"):
            check(deal, record=changed(deal, "shifted", value=value, error_bound=None))
    with pytest.raises(InputError, match="its bound"):
        check(deal, record=changed(deal, "bound", value=right + 2e-5, error_bound=1e-5))
    check(deal, record=changed(deal, "within", value=right + 0.9e-5, error_bound=1e-5))


def test_a_bound_that_longer_norms_gave_is_not_believed(deal):
    """The other side announces the norms that the record's bound rests on: the rows themselves give a smaller one."""
    right = value_of(SELLER)
    with pytest.raises(InputError, match="the bound that these rows and this model give"):
        check(deal, record=changed(deal, "far", value=right + 0.2, error_bound=0.3))


def test_a_loose_bound_covers_no_shifted_value():
    """Of a perceptron's training public facts bound little: what is measured is what a value is held to."""
    record = SimpleNamespace(method="mlp_finetuning", candidate="one", error_bound=1e6, interval=None, decision=None)
    published = SimpleNamespace(**vars(record), value=0.2501)
    assert _compared(published, 0.25, None, 2e6)[1]
    with pytest.raises(InputError, match="as the record states a loose bound"):
        _compared(SimpleNamespace(**vars(record), value=0.26), 0.25, None, 2e6)


def test_another_model_is_found_by_its_commitment_and_by_the_value(deal, tmp_path, capsys):
    other = write_npz(tmp_path / "other.npz", *OTHER_TRAIN)
    with pytest.raises(InputError, match="train, test, model, threshold: got files whose commitment is"):
        check(deal, train=other, salt=f"{deal.market.train}.inputs.salt")
    with pytest.raises(InputError, match="record: influence of one: got "):
        check(deal, train=other)
    same = write_npz(tmp_path / "same.npz", *TRAIN)
    check(deal, train=same)
    assert "only the value shows that they are the same" in capsys.readouterr().out


def test_other_data_are_found_delivered_or_appraised(deal, tmp_path):
    x, y = SELLER
    flipped = write_csv(tmp_path / "clean.csv", x, np.where(np.arange(len(y)) == 50, (y + 1) % 3, y))
    with pytest.raises(InputError, match="listing one: commitment.digest"):
        check(deal, data=flipped)
    appraised = value_of(problem(120, seed=77))  # the owner ran with rows of its own choice
    with pytest.raises(InputError, match="the data, the model or the recorded number is another one"):
        check(deal, record=changed(deal, "substituted", value=appraised, error_bound=None))
    record = next(r for r in read(deal.record) if r.candidate == "one")
    listing = record.listing | {"commitment": "0" * 64}
    with pytest.raises(InputError, match="other data were appraised"):
        check(deal, record=changed(deal, "listed", listing=listing))


def test_a_bit_is_compared_with_its_threshold(deal, capsys):
    right = value_of(SELLER)
    record = next(r for r in read(deal.record) if r.candidate == "one")
    terms = record.recompute | {"inputs": None}
    published = {"value": None, "paper_value": None, "recompute": terms}
    for decision in (True, False):
        release = record.release | {"kind": "bit", "decision": decision}
        path = changed(deal, f"bit-{decision}", release=release, **published)
        least = right - 0.1 if decision else right + 0.1
        check(deal, record=path, threshold=least)
        assert "the answer agrees with the value" in capsys.readouterr().out
        with pytest.raises(InputError, match="expected the other answer"):
            check(deal, record=path, threshold=2 * right - least)
        check(deal, record=path, threshold=right)
        assert "either answer may be right" in capsys.readouterr().out
    with pytest.raises(InputError, match="threshold: got nothing"):
        check(deal, record=path)


COARSE = {"bits": 6, "range": 5.0}  # all numbers of the rows are within 5


def after(market: Listed, session) -> SimpleNamespace:
    """A session's market, the folder of the listed data and their salt, and the model owner's records."""
    session.end()
    return SimpleNamespace(
        market=market, folder=market.files["clean"].parent, record=session.run(MODEL_OWNER) / "records.jsonl"
    )


@pytest.fixture(scope="module")
def rounded_deal(module_processes):
    """A session whose data owner rounds its rows."""
    market = Listed(module_processes, "rounded", {"one": 250, "two": 100})
    own = market.own | {DATA_OWNER: [*market.own[DATA_OWNER], "party.resolution={bits: 6, range: 5.0}"]}
    return after(market, market.start(**own))


def test_rounded_rows_are_rounded_again(rounded_deal, capsys):
    deal = rounded_deal
    record = next(r for r in read(deal.record) if r.candidate == "one")
    assert record.resolution == {"scale": 12, "bits": 6} == rounding_of(COARSE).as_dict()
    x, y = SELLER
    rounded = value_of((np.round(x * 12) / 12, y))
    assert abs(record.value - rounded) < 2e-5  # and the rounding is more than what a bound on errors allows
    assert abs(rounded - value_of(SELLER)) > 3 * record.error_bound
    check(deal)
    assert "agrees with " in capsys.readouterr().out
    for other in (None, {"scale": 255, "bits": 11}):
        with pytest.raises(InputError, match="record: influence of one: got "):
            check(deal, record=changed(deal, "other", resolution=other))
    with pytest.raises(InputError, match="party.resolution: got a number of 3.6.*; expected numbers of at most 1,"):
        check(deal, record=changed(deal, "short", resolution={"scale": 63, "bits": 6}))


@pytest.fixture(scope="module")
def tuned_deal(module_processes):
    """A session that fine-tunes at a rate at which no bound on logits holds."""
    market = Listed(module_processes, "tuned", {"one": 250, "two": 100})
    tuning = ("appraisal=finetuning", "appraisal.lr=10", "appraisal.steps=2", "session.logit_bound=auto")
    return after(market, market.start(*tuning, **market.own))


def test_training_without_a_bound_on_logits_is_computed_again(tuned_deal, capsys):
    deal = tuned_deal
    record = next(r for r in read(deal.record) if r.candidate == "one")
    assert record.settings["session.logit_bound"] == "auto" and "no bound on logits" in record.error_note
    check(deal)
    assert "agrees with " in capsys.readouterr().out
    assert 0 < record.error_bound < 0.2  # at such a rate a small error grows with each step
    for value in (record.value + 2 * record.error_bound, record.value - 2 * record.error_bound):
        with pytest.raises(InputError, match="record: finetuning of one: got .*the recorded number is another one"):
            check(deal, record=changed(deal, "shifted", value=value))


def test_the_bound_of_the_delivered_rows_is_that_of_the_softmax_that_was_used():
    """Where the engine or the release keeps to a bound on logits, auto in a record changes nothing."""
    sets = [Dataset.of(*xy, classes=3, name="set") for xy in (TRAIN, TEST, SELLER)]
    method, model = Finetuning(steps=2, lr=10.0), fit(sets[0], 1e-2)

    def bound(auto: bool, **changes) -> float | None:
        facts = {"settings": {"session.logit_bound": "auto"} if auto else {}, "engine": "fast", "release": None}
        return _bound(SimpleNamespace(resolution=None, **facts | changes), method, model, sets[:2], sets[2])

    assert bound(True) != bound(False) and bound(True) is not None
    for changes in ({"engine": "rtas"}, {"release": {"kind": "dp"}}):
        assert bound(True, **changes) == bound(False, **changes)


def test_what_is_missing_has_a_name(deal, tmp_path):
    for key in ("test", "train"):
        with pytest.raises(InputError, match=f"^{key}: got nothing"):
            check(deal, **{key: None})
    with pytest.raises(InputError, match="^record: got nothing"):
        check(deal, record=None)
    with pytest.raises(InputError, match="record: recompute"):
        check(deal, record=changed(deal, "old", recompute=None))
    with pytest.raises(InputError, match="about one"):
        check(deal, record=changed(deal, "unlisted", listing=None))
    short = write_npz(tmp_path / "short.npz", TEST[0][:, :3], TEST[1])
    with pytest.raises(InputError, match="test: got 3 features; expected 4"):
        check(deal, test=short)


def test_records_without_the_new_key_are_read_as_before():
    assert Record.from_json('{"method": "influence", "candidate": "a", "value": 1.0}').recompute is None
