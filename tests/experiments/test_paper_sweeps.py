"""The paper's sweeps: which jobs are run again, and what a refusal leaves behind."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from experiments.studies.appraisal import sweeps
from mpc_appraisal.common.errors import AppraisalError


def test_a_job_that_was_asked_otherwise_before_is_run_afresh(tmp_path, monkeypatch):
    sweep = sweeps.AppSweep("grid", ("data=digits", "scenario.candidates=5"), "seed", (0, 1))

    def finish(value: int, *overrides: str) -> Path:
        folder = tmp_path / "grid" / f"seed{value}"
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps([*overrides, f"seed={value}"]))
        (folder / "report.md").write_text("")
        (folder / "records.jsonl").write_text("")
        return folder

    other, done = finish(0, "data=digits"), finish(1, *sweep.fixed)

    def refuse(command, **_):  # as the app does over a finished job, though Hydra has written the new overrides
        assert f"hydra.sweep.dir={tmp_path / 'grid'}" in command and "seed=0" in command
        assert not (other / "report.md").exists()
        return subprocess.CompletedProcess(command, 1, "", "error: seed=0: refused\n")

    monkeypatch.setattr(sweeps.subprocess, "run", refuse)
    with pytest.raises(AppraisalError, match="grid-seed0: error: seed=0: refused"):
        sweep.run(tmp_path, tmp_path / "log")
    assert not other.exists() and (done / "report.md").exists()


def test_only_a_refusal_by_the_private_check_is_recorded_as_one(tmp_path, monkeypatch):
    sweep, asked = sweeps.AppSweep("grid", ("data=digits",), "seed", (1, 11)), []
    finished: dict[int, str] = {}
    monkeypatch.setattr(sweeps.AppSweep, "found", lambda self, work, value: finished.get(value))

    def launch(self, work, log, attempt, values):
        asked.append((attempt, list(values)))
        if attempt == "plain":
            finished.update(dict.fromkeys(values, "plain"))
            return ""
        finished[1] = attempt
        return f"[1/2] seed=11\nerror: seed=11: finetuning: {sweeps.REFUSED}, and no value is released\n"

    monkeypatch.setattr(sweeps.AppSweep, "_launch", launch)
    sweep.run(tmp_path, tmp_path / "log")
    assert asked == [("", [1, 11]), ("plain", [11])] and list(sweeps.ATTEMPTS) == [a for a, _ in asked]
    finished.clear()
    monkeypatch.setattr(sweeps.AppSweep, "_launch", lambda *given: "error: seed=11: out of memory\n")
    with pytest.raises(AppraisalError, match="grid-seed1: error: seed=11: out of memory"):
        sweep.run(tmp_path, tmp_path / "log")
