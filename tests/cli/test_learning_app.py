"""Private learning through the app: one run, a sweep that is resumed, the user's own files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from processes import run_app

from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.jobs import job_config
from mpc_appraisal.cli.learning import learn
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.reporting.learning_record import LearningRecord
from mpc_appraisal.reporting.learning_sweep import leak_points
from mpc_appraisal.reporting.run_folders import run_folders

SMALL = ("protocol.rows=96", "protocol.tested=60", "protocol.epochs=2", "session=plain")


def composed(*words: str) -> LearningRecord:
    return learn(compose(words), lambda event: None)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[Path, str]:
    """Return the folder of a sweep with one run of real parties for each protocol, and what it printed."""
    root = tmp_path_factory.mktemp("learning")
    words = ("--multirun", "protocol=rtas_training,float_shares", "attack=all", *SMALL[:3], "hydra.sweep.dir=out")
    done = run_app(*words, folder=root / "first")
    assert done.returncode == 0, done.stderr
    again = run_app(*words, "resume=true", folder=root / "first")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before, nothing computed") == 2
    return root / "first" / "out", done.stdout + done.stderr


def test_a_sweep_warns_of_leaks_and_ends_in_the_picture(sweep):
    folder, said = sweep
    assert "warning: RTAS: The helper sees every value" in said and "compared by cost and leak" in said
    text = (folder / "report.md").read_text()
    assert "leaks.png" in text.split("## ")[0] and "| RTAS | training in 6 steps | 1 |" in text
    labels = {run.learning["label"] for run in run_folders([folder]) if run.learning}
    assert labels == {"RTAS", "RTAS, float shares"}


def test_a_record_says_what_was_run_and_holds_no_place(sweep):
    record = next(run.learning for run in run_folders([sweep[0]]) if run.learning["protocol"] == "rtas_training")
    settings, data = record["settings"], record["data"]
    assert settings["protocol.network"] == "logistic" and settings["protocol.rows"] == 96
    assert settings["data"] == data["name"] == "digits" and len(data["digest"]) == 64
    assert (data["trained"], data["tested"], data["steps"], data["classes"]) == (96, 60, 6, 10)
    assert record["session"] == "spawn" and record["accuracy"]["private"] is not None and record.ratio > 0
    names = {found["attack"] for found in record["attacks"]}
    assert names == {"membership", "linking", "histogram: class mix", "collusion"}
    assert record.best["attack"] == "membership" and record.best["recovered"] > 0.9
    assert [o["what"] for o in record["openings"]] == ["predictions"]
    assert str(sweep[0]) not in json.dumps(dict(record.facts))


def test_own_files_are_learned_from_and_have_no_digest(tmp_path):
    train, test = Digits().load()
    for name, part in (("train", train), ("test", test)):
        np.savez(tmp_path / f"{name}.npz", x=part.x.numpy(), y=part.y.numpy())
    words = [f"party.{name}={tmp_path / name}.npz" for name in ("train", "test")]
    own, built_in = composed("protocol=rtas_fast", *SMALL, *words), composed("protocol=rtas_fast", *SMALL)
    assert own["data"]["name"] == "own files" and own["data"]["digest"] is None
    assert own["accuracy"] == built_in["accuracy"] and str(tmp_path) not in json.dumps(dict(own.facts))


def test_the_choice_of_no_attack_changes_no_digest_and_no_key_of_a_job():
    none, every = compose(["protocol=shares"]), compose(["protocol=shares", "attack=all"])
    assert not any(key.startswith("attack") for key in public_part(every))
    assert "attack" not in job_config(none) and "attack" in job_config(every)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["attack=known_rows"], "attack: got known_rows; expected one that fits protocol=rtas_training: none, all, "),
        (["session=join"], "session: got join; expected plain or spawn"),
        (["session=spawn", "session.engine=stock"], "session.engine: got stock"),
        (["protocol.network=tree"], "protocol.network"),
        (["party.train=a.npz"], "party.test: got None; expected a file"),
        (["party.data=a.npz"], "party.data"),
        (["overlap=rows"], "overlap"),
        (["recipe=a.yaml"], "recipe"),
        (["evaluate.measures=all"], "evaluate.measures"),
        (["data=diabetes"], "class labels"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_computed(words, message):
    states = []
    with pytest.raises(InputError) as caught:
        learn(compose(["protocol=rtas_training", "session=plain", *words]), states.append)
    assert message in str(caught.value) and states == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("protocol=shares", "attack=membership"), "one that fits protocol=shares: none, all"),
        (("protocol=rtas", "attack=linking"), "one that fits protocol=rtas: none, all, membership"),
        (("protocol=ife_shares", "attack=membership"), "one that fits protocol=ife_shares: none, all"),
    ],
)
def test_appraisals_and_marketplaces_refuse_an_attack_that_does_not_fit(words, message, tmp_path):
    done = run_app(*words, "hydra.run.dir=out", folder=tmp_path / "a")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_marketplace_is_attacked_in_the_same_run(tmp_path):
    words = ("protocol=ife_transform", "attack=all", "session=plain", "market.sellers=3", "market.own_rows=100",
             "market.rows=60", "market.budget=8", "market.validation_rows=20", "market.validation.granularity=4",
             "market.validation.steps=4", "market.epochs=15", "hydra.run.dir=out")  # fmt: skip
    done = run_app(*words, folder=tmp_path / "a")
    assert done.returncode == 0, done.stderr
    (run,) = run_folders([tmp_path / "a" / "out"])
    found = {each["attack"]: each for each in run.attacked.attacks}
    assert set(found) == {"pixel recovery", "equivalent model"}
    assert found["equivalent model"]["recovered"] > found["equivalent model"]["chance"] + 0.2
    assert "## Attacks" in (tmp_path / "a" / "out" / "report.md").read_text()


def test_an_appraisal_by_rtas_is_attacked_in_the_same_run(tmp_path):
    words = ("protocol=rtas", "attack=membership", "appraisal=gradient_norm", "scenario.candidates=2",
             "baselines.true_utility=false", "hydra.run.dir=out")  # fmt: skip
    done = run_app(*words, folder=tmp_path / "a")
    assert done.returncode == 0, done.stderr
    (run,) = run_folders([tmp_path / "a" / "out"])
    (found,) = run.attacked.attacks
    assert found["recovered"] > 0.9 and run.attacked.label == "appraisal by RTAS" and run.result is not None
    assert run.attacked.seconds > 0 and run.attacked.plain_seconds > 0
    assert "Attacks on the protocol: membership" in done.stdout
    assert "## Attacks" in (tmp_path / "a" / "out" / "report.md").read_text()


def test_attacks_on_an_appraisal_of_own_files_are_resumed_and_stand_in_the_sweep_and_not_in_the_picture(tmp_path):
    train, test = Digits().load()
    slices = {"own": train.subset(range(200)), "a": train.subset(range(200, 240)), "b": train.subset(range(240, 280))}
    for name, part in {**slices, "test": test}.items():
        np.savez(tmp_path / f"{name}.npz", x=part.x.numpy(), y=part.y.numpy())
    files = [f"party.train={tmp_path}/own.npz", f"party.test={tmp_path}/test.npz",
             f"party.data=[{tmp_path}/a.npz,{tmp_path}/b.npz]"]  # fmt: skip
    words = ("--multirun", "attack=extraction,inflation", "appraisal=gradient_norm", "session=plain", *files,
             "baselines.true_utility=false", "hydra.sweep.dir=out")  # fmt: skip
    done = run_app(*words, folder=tmp_path / "a")
    assert done.returncode == 0, done.stderr
    again = run_app(*words, "resume=true", folder=tmp_path / "a")
    assert again.returncode == 0 and again.stdout.count("finished before, nothing computed") == 2
    found = [run.attacked.attacks for run in run_folders([tmp_path / "a" / "out"])]
    assert [one["attack"] for (one,) in found] == ["extraction", "inflation: gradient norm"]
    assert found[0][0]["recovered"] > 0.95 and all(one["recovered"] > one["chance"] for (one,) in found)
    assert "## Attacks" in (tmp_path / "a" / "out" / "0" / "report.md").read_text()
    page = (tmp_path / "a" / "out" / "report.md").read_text()
    assert "## Attacks on what is opened or offered" in page and "extraction" in page
    assert {point.attack for point in leak_points(run_folders([tmp_path / "a" / "out"]))} == {"no attack measured"}
    alone = ("attack=inflation", "session=plain", *files[:2], f"party.data={tmp_path}/a.npz")
    one = run_app(*alone, folder=tmp_path / "b")
    assert one.returncode == 2 and "attack: got inflation; expected two candidates or more" in one.stderr


def test_what_an_appraisal_by_crypten_sends_gives_the_weights_away(tmp_path):
    words = ("attack=all", "session.engine=stock", "appraisal=gradient_norm", "scenario.candidates=2",
             "baselines.true_utility=false", "hydra.run.dir=out")  # fmt: skip
    done = run_app(*words, folder=tmp_path / "a")
    assert done.returncode == 0, done.stderr
    (run,) = run_folders([tmp_path / "a" / "out"])
    found = {one["attack"]: one for one in run.attacked.attacks}
    assert set(found) == {"mersenne twister", "extraction", "inflation: gradient norm"}
    assert found["mersenne twister"]["recovered"] == 1 and found["mersenne twister"]["stopped"] == 0
    (point,) = leak_points([run])
    assert point.attack == "mersenne twister" and point.above == 1
