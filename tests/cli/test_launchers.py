"""Presets of launchers: jobs at once, processes of a job, and the extra that a missing plugin names."""

from __future__ import annotations

import os
import sys

import pytest
from omegaconf import OmegaConf

from mpc_appraisal.cli import jobs, launchers  # jobs registers what presets resolve
from mpc_appraisal.cli.front import CONF
from mpc_appraisal.common.errors import InputError


def test_jobs_at_once():
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    assert launchers.jobs_at_once(1) == cores and launchers.jobs_at_once(10_000) == 1


def test_a_launcher_without_its_plugin_names_the_extra(monkeypatch):
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    for argument in ("+launch=joblib", "launch=slurm", "hydra/launcher=submitit_local"):
        extra = "joblib" if "joblib" in argument else "submitit"
        with pytest.raises(InputError, match=rf"pip install 'mpc_appraisal\[{extra}\]'"):
            launchers.check_launcher(["--multirun", argument])
    launchers.check_launcher(["--multirun", "hydra/launcher=basic", "seed=0"])


@pytest.mark.parametrize("preset", ["joblib", "submitit_local", "slurm"])
def test_presets_ask_for_three_processes_a_job(preset):
    assert OmegaConf.has_resolver(jobs.launchers.jobs_at_once.__name__)
    found = OmegaConf.load(CONF / "launch" / f"{preset}.yaml").hydra
    assert found.job.env_set.OMP_NUM_THREADS == "1"
    if preset == "joblib":
        assert found.launcher.n_jobs == launchers.jobs_at_once(3)
    else:
        assert found.launcher.cpus_per_task == 3 and found.launcher.tasks_per_node == 1
