"""Launchers of sweeps: how many jobs run at once on this machine, and whether a launcher's plugin is installed.

A launcher is the part of Hydra that runs the jobs of a sweep, in this process or elsewhere. In go the number of
processes of a job, or the words of the command line; out comes a number of jobs, or an error that says what to install.
A launcher is added in `LAUNCHERS` and in conf/launch; its extra has to be one of this package's.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from mpc_appraisal.common.errors import InputError

SUBMITIT = ("submitit", "hydra_plugins.hydra_submitit_launcher")
# For each preset and launcher, the extra of this package that installs its plugin, and the plugin's module.
LAUNCHERS = {
    "joblib": ("joblib", "hydra_plugins.hydra_joblib_launcher"),
    "submitit_local": SUBMITIT,
    "submitit_slurm": SUBMITIT,
    "slurm": SUBMITIT,
    "ray": ("ray", "hydra_plugins.hydra_ray_launcher"),
    "dask": ("dask", "distributed"),
}


def jobs_at_once(processes: int) -> int:
    """Return how many jobs of `processes` processes each this machine has cores for. The result is 1 at least."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // processes)


def check_launcher(arguments: Sequence[str]) -> None:
    """Raise InputError if the arguments name a launcher whose plugin, or Slurm itself, is missing on this machine."""
    for argument in arguments:
        found = re.fullmatch(r"(?:\+{0,2}launch|hydra/launcher)=(\w+)", argument)
        extra, module = LAUNCHERS.get(found[1] if found else "", ("", ""))
        try:
            missing = bool(module) and find_spec(module) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            raise InputError("launcher", found[1], f"its plugin: pip install 'mpc_appraisal[{extra}]'")
        if module and found[1].endswith("slurm") and shutil.which("srun") is None:
            raise InputError("launcher", found[1], "srun on this machine: a login node of a Slurm cluster")
