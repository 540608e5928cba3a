"""Trackers of experiments, each against the real library: what jobs leave there, and what goes wrong first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec as really_found
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mpc_appraisal.cli import finished, tracking
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.record import Record, read
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.run_folders import run_folder
from mpc_appraisal.reporting.tracked import tracked_numbers, tracked_run, tracked_settings

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["session=plain", "scenario.candidates=2", "appraisal=influence", "party.preflight=no"]


def app(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mpc_appraisal.cli.app", *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two seeds with all three trackers, and the same command again, which computes nothing."""
    folder = tmp_path_factory.mktemp("tracked")
    command = ["-m", "+tracking=[mlflow,tensorboard,wandb]", "seed=0,1", "hydra.sweep.dir=out", *WORDS, "resume=true"]
    done = [app(folder, *command) for _ in range(2)]
    assert [one.returncode for one in done] == [0, 0], done[0].stderr
    assert "did not take" not in done[0].stderr and "nothing computed" in done[1].stdout
    return folder


def test_mlflow_has_settings_figures_and_files_of_each_job_once(swept):
    client = MlflowClient(tracking_uri=f"sqlite:///{swept}/mlflow.db")
    experiment = client.get_experiment_by_name("mpc_appraisal").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs) == {"out/0", "out/1"} and len(client.search_runs([experiment])) == 2
    for seed in (0, 1):
        run, result = runs[f"out/{seed}"], Result(read(swept / "out" / str(seed) / "records.jsonl"))
        assert run.info.status == "FINISHED" and run.data.params["seed"] == str(seed)
        assert run.data.params["model.l2"] == "0.01" and run.data.params["data"] == "digits"
        assert run.data.metrics == pytest.approx(tracked_numbers(result))
        assert run.data.metrics["value/influence/label_noise_0.5"] == result["influence", "label_noise=0.5"].value
    stored = swept / "mlruns" / experiment / runs["out/0"].info.run_id / "artifacts"
    assert {"records.jsonl", "report.html", "values.png"} <= {path.name for path in stored.iterdir()}


def test_tensorboard_has_scalars_and_hyperparameters(swept):
    result = Result(read(swept / "out" / "1" / "records.jsonl"))
    events = EventAccumulator(str(swept / "runs" / "out-1"))
    events.Reload()
    for name, number in tracked_numbers(result).items():
        assert events.Scalars(name)[0].value == pytest.approx(number, rel=1e-6), name
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert {path.name for path in (swept / "runs").iterdir()} == {"out-0", "out-1"}


def test_wandb_has_offline_runs_with_values_settings_and_figures(swept):
    found = []
    for run in (swept / "wandb").glob("offline-run-*"):  # their names do not say which job each is of
        (table,), (stream,) = run.rglob("values*.table.json"), run.glob("*.wandb")
        found.append([row[2] for row in json.loads(table.read_text())["data"]])
        assert b"agreement/influence" in stream.read_bytes() and b"model.l2" in stream.read_bytes()
    results = [Result(read(swept / "out" / str(seed) / "records.jsonl")) for seed in (0, 1)]
    assert sorted(found) == sorted([record.value for record in result] for result in results)


def test_a_tracker_that_fails_loses_no_result(swept, tmp_path, monkeypatch, capsys):
    (tmp_path / "closed").write_text("a file where a folder would have to be")
    monkeypatch.setattr(finished, "_held", [swept / "out" / "0"])
    ended = JobReturn()
    ended.return_value, ended.status = None, JobStatus.COMPLETED
    tracking.Tensorboard(str(tmp_path / "closed" / "runs")).on_job_end(None, ended)
    said = capsys.readouterr().err
    assert "warning: TensorBoard did not take the results of" in said and "whose files are whole" in said
    failed = JobReturn()
    failed.return_value, failed.status = None, JobStatus.FAILED
    tracking.Tensorboard(str(tmp_path / "closed" / "runs")).on_job_end(None, failed)
    assert not capsys.readouterr().err


def test_a_setting_that_cannot_work_stops_before_anything_is_computed(tmp_path):
    done = app(tmp_path, "+tracking=mlflow", "hydra.callbacks.mlflow.uri=mlruns", "hydra.run.dir=out", *WORDS)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr.startswith("error: hydra.callbacks.mlflow.uri: got mlruns; expected sqlite:///FILE")


@pytest.mark.parametrize(
    "make, key",
    [
        (lambda: tracking.Mlflow(7, "name"), "mlflow.uri"),
        (lambda: tracking.Mlflow("sqlite:///a.db", "name", "maybe"), "mlflow.files"),
        (lambda: tracking.Mlflow("sqlite:///a.db", ""), "mlflow.experiment"),
        (lambda: tracking.Wandb("name", "loud"), "wandb.mode"),
        (lambda: tracking.Wandb(None), "wandb.project"),
        (lambda: tracking.Tensorboard(None), "tensorboard.folder"),
    ],
)
def test_other_bad_settings_end_the_command_too(make, key, capsys):
    with pytest.raises(SystemExit) as stopped:
        make()
    assert stopped.value.code == 2 and f"error: hydra.callbacks.{key}: got" in capsys.readouterr().err


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else really_found(name))
    tracking.check_tracker(["+tracking=mlflow", "seed=1", "+tracking=unknown"])
    for words in (["+tracking=wandb"], ["-m", "+tracking=[mlflow, wandb]"]):
        with pytest.raises(InputError, match=r"mpc_appraisal\[wandb\]"):
            tracking.check_tracker(words)


def test_names_that_a_tracker_refuses_stay_apart():
    records = [Record("influence", name, float(k), seed=3) for k, name in enumerate(("a=1", "a:1", "a_1_2", "ok"))]
    numbers = tracked_numbers(Result(records))
    assert [numbers[f"value/influence/{name}"] for name in ("a_1", "a_1_2", "a_1_2_2", "ok")] == [0.0, 1.0, 2.0, 3.0]
    assert tracked_settings(Result(records)) == {"seed": 3, "candidates": 4, "role": records[0].role}
    assert tracked_settings(Result([])) == {}


def test_private_learning_is_tracked_with_what_attacks_recovered(tmp_path):
    words = ["protocol=rtas_training", "protocol.rows=60", "protocol.epochs=1", "attack=membership", "session=plain"]
    done = app(tmp_path, "+tracking=[mlflow,tensorboard,wandb]", *words, "hydra.run.dir=out")
    assert done.returncode == 0 and "did not take" not in done.stderr, done.stderr
    expected = tracked_run(run_folder(tmp_path / "out"))
    assert {"accuracy/in_the_clear", "recovered/membership"} <= set(expected.numbers)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("mpc_appraisal").experiment_id])
    assert run.data.metrics == pytest.approx(expected.numbers) and run.data.params["protocol"] == "rtas_training"
    events = EventAccumulator(str(tmp_path / "runs" / "out"))
    events.Reload()
    assert events.Scalars("recovered/membership")[0].value == pytest.approx(1.0)
    (stored,) = (tmp_path / "wandb").glob("offline-run-*")
    (table,) = stored.rglob("findings*.table.json")
    assert json.loads(table.read_text())["data"][0][0] == "membership"
