"""The disclosure controls of an owner are read from the keys under `party`, without a session."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from processes import DATA_OWNER, MODEL_OWNER, problem

from mpc_appraisal import Dataset
from mpc_appraisal.appraisal.encrypted_answers import EncryptedAnswers
from mpc_appraisal.appraisal.plan import DisclosureControls, ModelOwnerInput
from mpc_appraisal.appraisal.questions import inputs_of
from mpc_appraisal.cli import safeguards
from mpc_appraisal.cli.front import CONF
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.governance.catalogue import publish, read_listing
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.release import Ledger, Outcome, Policy, Question

DEFAULT = yaml.safe_load((CONF / "config.yaml").read_text())["party"]


@pytest.fixture
def base(tmp_path) -> Path:
    """Make the folder in which paths were typed. The files that they name need not be there."""
    folder = tmp_path / "typed"
    (folder / "own").mkdir(parents=True)
    return folder


def party(**stated) -> dict:
    assert set(stated) <= set(DEFAULT)
    return DEFAULT | stated


def absolute(base: Path) -> Callable[[str], Path]:
    return lambda path: base / path


def of_data_owner(base: Path, names=("a",), **stated) -> DisclosureControls:
    places = {name: f"own/{name}.csv" for name in names}
    return safeguards.of_data_owner(party(**stated), absolute(base), places, (None,) * len(places))


def of_model_owner(base: Path, **stated) -> DisclosureControls:
    return safeguards.of_model_owner(
        party(**{"train": "own/train.npz", "test": "own/test.npz"} | stated), absolute(base)
    )


def names_in(base: Path) -> set[str]:
    return {path.name for path in base.rglob("*") if path.is_file()}


# ---- one each ----


@pytest.mark.parametrize(
    ("stated", "count", "expected"),
    [
        (None, 3, [None, None, None]),
        ("none", 3, ["none", "none", "none"]),
        (["none"], 2, ["none", "none"]),
        ("a.ledger", 1, ["a.ledger"]),
        (["a", "b"], 2, ["a", "b"]),
        (["a", None], 2, ["a", None]),
    ],
)
def test_one_for_each_file(stated, count, expected):
    assert safeguards.one_each(party(ledger=stated), "ledger", count) == expected


@pytest.mark.parametrize(("stated", "count"), [("a", 2), (["a", "b"], 1), (["a", "b"], 3), ([], 1)])
def test_another_number_than_files_is_refused(stated, count):
    found = 1 if isinstance(stated, str) else len(stated)
    with pytest.raises(InputError, match=f"party.ledger: got {found} of them; expected {count}: one for each file"):
        safeguards.one_each(party(ledger=stated), "ledger", count)


# ---- ledgers ----


def test_ledgers_are_made_beside_the_files_with_the_default_policy(base):
    controls = of_data_owner(base, ("a", "b"))
    assert names_in(base) >= {"a.csv.ledger", "b.csv.ledger"}
    assert controls.counterparty == MODEL_OWNER == controls.ledgers.counterparty
    assert {name: ledger.path for name, ledger in controls.ledgers.ledgers.items()} == {
        name: base / "own" / f"{name}.csv.ledger" for name in ("a", "b")
    }
    opening = json.loads((base / "own" / "a.csv.ledger").read_text().splitlines()[0])
    assert opening["data"] == "a" and Policy(**opening["policy"]) == Policy()


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ({}, "train.npz.ledger"),
        ({"model": "own/theta.npz"}, "theta.npz.ledger"),
        ({"train": None, "model": "own/theta.npz"}, "theta.npz.ledger"),
        ({"ledger": "kept.ledger"}, "kept.ledger"),
    ],
)
def test_the_model_owner_keeps_one_ledger_for_all_candidates(base, stated, name):
    controls = of_model_owner(base, **stated)
    assert {each for each in names_in(base) if each.endswith(".ledger")} == {name}
    asked = {("m", each): Question(DATA_OWNER, "m", 100, each) for each in ("x", "y")}
    controls.ledgers.charge(asked)
    assert controls.ledgers.left("x")["plain_left"] == controls.ledgers.left("y")["plain_left"] == 18
    assert controls.counterparty == DATA_OWNER


def test_no_ledger_leaves_no_file(base):
    assert of_data_owner(base, ("a", "b"), ledger="none").ledgers is None
    assert of_model_owner(base, ledger="none", salt="none").ledgers is None
    assert names_in(base) == set()


@pytest.mark.parametrize("make", [of_data_owner, of_model_owner])
def test_no_ledger_and_a_policy_contradict_each_other(base, make):
    (base / "policy.yaml").write_text("epsilon: 2\n")
    with pytest.raises(
        InputError, match=r"party.ledger: got \['none'\]; expected none for all files and no party.policy"
    ):
        make(base, ledger="none", policy="policy.yaml")
    assert names_in(base) == {"policy.yaml"}


def test_no_ledger_for_some_files_alone_is_refused(base):
    with pytest.raises(InputError, match=r"party.ledger: got \['none', 'b.ledger'\]"):
        of_data_owner(base, ("a", "b"), ledger=["none", "b.ledger"])
    assert names_in(base) == set()


def test_the_policy_file_holds_for_new_ledgers_and_not_for_others(base):
    (base / "policy.yaml").write_text("epsilon: 2\nminimum_rows: 500\n")
    of_data_owner(base, policy="policy.yaml")
    opening = json.loads((base / "own" / "a.csv.ledger").read_text().splitlines()[0])
    assert Policy(**opening["policy"]) == Policy(epsilon=2.0, minimum_rows=500)
    of_data_owner(base, policy="policy.yaml")  # The same policy is accepted again.
    of_data_owner(base)  # No policy is accepted, too.
    (base / "policy.yaml").write_text("epsilon: 3\n")
    with pytest.raises(
        InputError, match=r"ledger.policy: got epsilon=3.0, minimum_rows=100; expected epsilon=2.0, min"
    ):
        of_data_owner(base, policy="policy.yaml")


@pytest.mark.parametrize(("text", "match"), [("", "nothing"), ("epsilom: 1\n", "epsilom"), (None, "can be read")])
def test_a_bad_policy_file_is_refused_before_a_ledger_is_made(base, text, match):
    if text is not None:
        (base / "policy.yaml").write_text(text)
    with pytest.raises(InputError, match=f"policy.*{match}"):
        of_data_owner(base, policy="policy.yaml")
    assert names_in(base) <= {"policy.yaml"}


def test_a_bad_ledger_is_refused_and_left_alone(base):
    place = base / "own" / "a.csv.ledger"
    place.write_text("f0,f1,label\n")
    with pytest.raises(InputError, match="ledger: got a.csv.ledger, which begins with 'f0,f1,label"):
        of_data_owner(base)
    assert place.read_text() == "f0,f1,label\n"


def test_a_ledger_without_its_charge_is_refused(base):
    ledgers = of_data_owner(base).ledgers
    ledgers.charge({("m", "a"): Question(MODEL_OWNER, "m", 100, "s")})
    place = base / "own" / "a.csv.ledger"
    lines = place.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    place.write_bytes(lines[0])
    with pytest.raises(InputError, match="a.csv.ledger, line 2: got no line"):
        of_data_owner(base)


def test_a_ledger_of_other_data_is_refused(base):
    Ledger(base / "a.ledger", "a")
    assert of_data_owner(base, ledger="a.ledger").ledgers is not None
    with pytest.raises(InputError, match="ledger.data: got 'b'; expected 'a', whose ledger a.ledger is"):
        of_data_owner(base, ("b",), ledger="a.ledger")
    with pytest.raises(InputError, match="ledger.data: got 'train'; expected 'a'"):
        of_model_owner(base, ledger="a.ledger")
    with pytest.raises(InputError, match=r"ledger.data: got 'a \+ b'; expected 'a'"):
        of_data_owner(base, ("a", "b"), ledger=["a.ledger", "a.ledger"])  # The ledger is only for the first file.


def test_listed_or_not_the_same_file_has_the_same_ledger(base):
    """A listing gets a new name and a new price, and what was spent stays spent."""
    for name in ("a", "digits-1", "digits-2"):
        controls = safeguards.of_data_owner(party(), absolute(base), {name: "own/a.csv"}, (None,))
        controls.ledgers.charge({("m", name): Question(MODEL_OWNER, "m", 100, name)})
    assert controls.ledgers.left("digits-2")["plain_left"] == 17


def test_a_ledger_in_no_folder_is_refused(base):
    with pytest.raises(InputError, match="ledger: got x.ledger in no folder"):
        of_data_owner(base, ledger="nowhere/x.ledger")
    assert not (base / "nowhere").exists()


# ---- the counterparty ----


@pytest.mark.parametrize("make", [of_data_owner, of_model_owner])
def test_the_counterparty_is_called_as_stated(base, make):
    controls = make(base, counterparty="ACME Ltd")
    assert controls.counterparty == "ACME Ltd" == controls.ledgers.counterparty


@pytest.mark.parametrize("name", ["https://acme.example", "/srv/acme", "c:\\acme", " acme", "a\nb", 42])
def test_a_counterparty_that_no_record_may_hold_is_refused_before_anything_is_spent(base, name):
    for make in (of_data_owner, of_model_owner):
        with pytest.raises(InputError, match="counterparty"):
            make(base, counterparty=name)
    assert not [each for each in names_in(base) if each.endswith(".ledger")]


# ---- the salt ----


def test_the_salt_is_made_once_and_for_its_owner_alone(base):
    first = of_model_owner(base).salt
    place = base / "own" / "train.npz.inputs.salt"
    assert len(first) == 32 and stat.S_IMODE(place.stat().st_mode) == 0o600
    assert of_model_owner(base).salt == first
    place.unlink()
    assert of_model_owner(base).salt != first


def test_the_salt_stands_where_it_is_stated(base):
    salt = of_model_owner(base, salt="own/my.salt").salt
    assert "my.salt" in names_in(base) and "train.npz.inputs.salt" not in names_in(base)
    assert of_model_owner(base, salt="own/my.salt").salt == salt
    assert of_model_owner(base, salt="none").salt is None
    assert of_data_owner(base).salt is None


def test_a_salt_that_others_can_read_is_refused(base):
    of_model_owner(base)
    place = base / "own" / "train.npz.inputs.salt"
    os.chmod(place, 0o644)
    words = r"train.npz.inputs.salt with mode 644; expected a salt for its owner alone \(chmod 600\)"
    with pytest.raises(InputError, match=words):
        of_model_owner(base)
    os.chmod(place, 0o600)
    place.write_text("no salt\n")
    with pytest.raises(InputError, match="train.npz.inputs.salt with something else"):
        of_model_owner(base)


# ---- approval ----


@pytest.mark.parametrize(
    ("stated", "expected"), [(True, "yes"), ("yes", "yes"), ("ask", "ask"), (DEFAULT["approval"], "ask")]
)
def test_a_bare_yes_in_yaml_is_a_yes(base, stated, expected):
    assert of_data_owner(base, approval=stated).approval == expected


@pytest.mark.parametrize("stated", ["own/rules.yaml", False])
def test_all_else_is_a_file(base, stated):
    assert of_data_owner(base, approval=stated).approval == str(base / str(stated))


@pytest.mark.parametrize("stated", [0, -1, 0.0, float("nan"), None, "60", [1]])
def test_patience_is_above_zero(base, stated):
    with pytest.raises(InputError, match="party.patience: got .*; expected seconds above 0"):
        of_data_owner(base, patience=stated)
    assert names_in(base) == set()


def test_patience_in_seconds(base):
    assert of_data_owner(base, patience=0.5).patience == 0.5
    assert of_data_owner(base).patience == 3600.0


# ---- paths as they were typed ----


def test_paths_are_those_of_the_folder_where_they_were_typed(base, tmp_path, monkeypatch):
    """With hydra.job.chdir=true, the process is in another folder when the paths are read."""
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (base / "policy.yaml").write_text("epsilon: 2\n")
    controls = of_data_owner(base, policy="policy.yaml", approval="rules.yaml", ledger="own/x.ledger")
    assert controls.ledgers.ledgers["a"].path == base / "own" / "x.ledger"
    assert (controls.approval, controls.requests) == (str(base / "rules.yaml"), str(base / "requests"))
    assert of_model_owner(base, salt="own/my.salt").ledgers.ledgers[""].path == base / "own" / "train.npz.ledger"
    assert list(elsewhere.iterdir()) == []


def test_the_desk_is_called_as_it_was_typed_where_no_folder_was_changed(base, monkeypatch):
    """The printed command must work in the folder where the path was typed."""
    monkeypatch.chdir(base)
    assert of_data_owner(base).requests == "requests"
    assert of_data_owner(base, requests="own/desk").requests == "own/desk"
    assert of_data_owner(base, requests="/srv/desk").requests == "/srv/desk"


# ---- listings ----


def test_the_model_owner_reads_its_copies_of_the_listings(base):
    for name in ("one", "two"):
        data = Dataset.of(*problem(50, seed=1), name=name)
        publish(
            data, {"name": name, "types": {"binary": 0, "integer": 0, "real": 4}}, base / "out", base / f"{name}.salt"
        )
    one, two = (read_listing(base / "out" / f"{name}.json") for name in ("one", "two"))
    assert of_model_owner(base, listing="out/one.json").listings == (one,)
    assert of_model_owner(base, listing=["out/two.json", "out/one.json"]).listings == (two, one)
    assert of_model_owner(base).listings == ()
    with pytest.raises(InputError, match="listing: got .*; expected an existing file"):
        of_model_owner(base, listing="out/three.json")


# ---- the model owner's commitment to its inputs ----


TRAIN, TEST = (Dataset.of(*problem(n, seed=n), name="set") for n in (60, 40))
SALT = bytes(range(32))


def inputs(own: ModelOwnerInput, salt: bytes | None = SALT) -> str:
    return inputs_of(replace(own, controls=DisclosureControls(salt=salt)))


def relabelled(data: Dataset) -> Dataset:
    y = data.y.numpy().copy()
    y[7] = (y[7] + 1) % 3
    return Dataset.of(data.x.numpy(), y, name="set")


OWN = ModelOwnerInput(TRAIN, TEST)
MODEL = SoftmaxRegression(torch.ones(5, 3, dtype=torch.float64), 1e-2)
LATER = torch.nextafter(MODEL.theta, torch.tensor(2.0, dtype=torch.float64))
DIFFERENT = {
    "a label of the training data": ModelOwnerInput(relabelled(TRAIN), TEST),
    "a label of the test data": ModelOwnerInput(TRAIN, relabelled(TEST)),
    "training and test data exchanged": ModelOwnerInput(TEST, TRAIN),
    "no training data": ModelOwnerInput(None, TEST, MODEL),
    "no test data": ModelOwnerInput(TRAIN, None),
    "a model too": ModelOwnerInput(TRAIN, TEST, MODEL),
    "another model, in the last bit": ModelOwnerInput(TRAIN, TEST, SoftmaxRegression(LATER, 1e-2)),
}


def test_the_same_inputs_are_committed_to_alike():
    again = ModelOwnerInput(*(Dataset.of(d.x.numpy().copy(), d.y.numpy().copy(), name="other") for d in (TRAIN, TEST)))
    assert inputs(OWN) == inputs(again)
    found = inputs(OWN)
    assert len(found) == 64 and set(found) <= set("0123456789abcdef")


def test_all_other_inputs_are_told_apart():
    found = [inputs(own) for own in (OWN, *DIFFERENT.values())]
    assert len(set(found)) == len(found)


def test_another_salt_or_none_tells_the_same_inputs_apart():
    found = [inputs(OWN), inputs(OWN, salt=bytes(32)), inputs(OWN, salt=None), inputs(OWN, salt=None)]
    assert len(set(found)) == 4


def test_another_threshold_is_another_input():
    def at(threshold) -> str:
        return inputs(replace(OWN, threshold=threshold))

    thresholds = [None, 0.5, float(np.nextafter(0.5, 1)), -0.5, 0.0, {"influence": 0.5}, {"influence": 0.6}]
    found = [at(threshold) for threshold in thresholds]
    assert found == [at(threshold) for threshold in thresholds] and len(set(found)) == len(found)
    two = {"influence": 0.5, "gradient_norm": 1.0}
    assert at(two) == at(dict(reversed(two.items()))) != at(two | {"gradient_norm": 2.0})


# ---- recorded answers, on their way past the dealer ----


def test_an_answer_is_read_by_the_model_owner_alone_and_its_length_tells_nothing():
    model_owner, dealer = EncryptedAnswers(), EncryptedAnswers()
    outcomes = [Outcome(1 / 3, deviation=1e-300), Outcome(decision=True), Outcome(decision=False), Outcome()]
    to = model_owner.address
    sealed = EncryptedAnswers().seal(to, outcomes)
    assert model_owner.unseal(sealed, 4) == outcomes
    assert len({len(EncryptedAnswers().seal(to, [outcome])["text"]) for outcome in outcomes}) == 1
    with pytest.raises(PeerError, match="do not open"):
        dealer.unseal(sealed, 4)
    assert model_owner.unseal(EncryptedAnswers().seal(to, []), 0) == []
