"""Jobs of a sweep as Hydra runs them: the key of a finished job, its folder, and a callback that reports on jobs.

In go the configuration of a job or of a sweep, which is one command that runs many jobs. Out come keys and folders for
`finished`, and calls of `sweep`. This is the only file of the app that knows Hydra's callbacks and resolvers (functions
that conf/ calls by name). The names of the resolvers stand in conf/ and have to stay. What `job_config` keeps decides
whether a finished job is computed again, so that only keys without an effect on the result may be left out.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.cli import finished, launchers, sweep
from mpc_appraisal.cli.config import OVERLAP, absolute, check_sections, with_one_integrity, without_added
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import refuse_unfit
from mpc_appraisal.common.stable_names import TARGET, stable
from mpc_appraisal.common.text import shown
from mpc_appraisal.data.resolution import AUTO

NO_ATTACK = "mpc_appraisal.attacks.measures.NoAttack"


def job_config(cfg: DictConfig) -> dict[str, Any]:
    """Return a job's configuration without the keys that do not change its result.

    Raises InputError where a part of the configuration is no part, as `check_sections` does.
    """
    check_sections(cfg)
    kept = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("hydra", "resume", "overwrite", "quiet")])
    config = without_added(with_one_integrity(stable(OmegaConf.to_container(kept, resolve=True))))
    for key in ("counterparty_key", "yes_expires", "offer", "offers", "agreed"):
        config["party"].pop(key, None)
    if config["party"].get("purpose") is None:
        config["party"].pop("purpose", None)
    refuse_unfit(config)
    config["data"].pop("alike", None)  # a default of scenario.labels, which stands here too
    if config["party"].get("resolution") == AUTO:
        config["party"].pop("resolution")
    if config.get("recipe") is None:  # jobs that finished before there were recipes keep their keys
        config.pop("recipe", None)
    if isinstance(config.get("session"), dict) and config["session"].get("relay") is None:  # and before relays
        config["session"].pop("relay", None)
    if config.get("overlap") is None:  # the same holds for counts of shared items
        for key in OVERLAP:
            config.pop(key, None)
    if config.get("evaluate", {}).get("measures") == "none":  # and for the measures of how well values serve
        config.pop("evaluate")
    if config.get("attack") == stable({TARGET: NO_ATTACK}):  # and for the choice of no attack
        config.pop("attack")
    return config


def job_key(cfg: DictConfig) -> str:
    """Return the key of a finished job: a hash of its configuration and of its files' contents."""
    config = job_config(cfg)
    data = config["party"]["data"]
    named = [*(data if isinstance(data, list) else [data]), *(config["party"][k] for k in ("train", "test", "model"))]
    named += [config["features"].get("path"), config.get("recipe")]
    attack = config.get("attack", {})
    if attack.get("answer") and attack.get("folder"):  # the files of a challenge that is made are no inputs of its job
        from mpc_appraisal.attacks.instahide.challenge_files import CHALLENGE, SECRET

        named += [attack["answer"], *(f"{attack['folder']}/{name}" for name in (CHALLENGE, SECRET))]
    return finished.job_key(config, [absolute(path) for path in named if path])


def job_settings(cfg: DictConfig) -> str:
    """Return the key of a job's configuration alone, which stays the same when a file changes."""
    return finished.settings_key(job_config(cfg))


def job_folder(number: int, *, _root_: DictConfig) -> str:
    """Return the folder of one job inside the sweep's folder."""
    if _root_.resume is not True:
        return str(number)
    return finished.folder_of(absolute(_root_.hydra.sweep.dir), number, job_key(_root_), job_settings(_root_))


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
OmegaConf.register_new_resolver("jobs_at_once", launchers.jobs_at_once, replace=True)


def check_callbacks(arguments: Sequence[str]) -> None:
    """Raise InputError if the arguments put a value in the place of Hydra's callbacks, or of one of them."""
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        if re.fullmatch(r"hydra\.callbacks(\.\w+)?", key) and not value.startswith("{"):
            expected = "keys of a callback, as in hydra.callbacks.mlflow.uri=..., which +tracking=mlflow adds"
            raise InputError(key, shown(value) or "nothing", expected)


class Jobs(Callback):
    """Hydra's callback that reports on a sweep's jobs, and keeps a failed job from ending the others.

    The launcher pickles it and sends it to the processes in which the jobs run.
    """

    def __init__(self) -> None:
        self.sweep: sweep.Sweep | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        sweeper = config.hydra.sweeper
        basic = sweeper._target_.endswith(".BasicSweeper")
        stated = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()] if basic else []
        counts: dict[str, int] = {}
        for each in parser.parse_overrides([*stated, *config.hydra.overrides.task]):
            several = each.is_sweep_override() and each.is_discrete_sweep()
            counts[each.get_key_element()] = len(list(each.sweep_iterator())) if several else 1
        total = math.prod(counts.values()) if basic else None
        swept = tuple(key for key, count in counts.items() if count > 1)
        root = absolute(config.hydra.sweep.dir)
        try:
            sweep.claim(root, config.resume is True, config.overwrite is True)
        except InputError as error:  # Hydra would turn the error into a warning.
            print(f"error: {error}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None
        self.sweep = sweep.Sweep(root, total, swept)
        sweep.begin(self.sweep)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if self.sweep is not None:
            self.sweep.begins(config.hydra.job.num, list(config.hydra.overrides.task))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if self.sweep is not None:
            failed = job_return.status == JobStatus.FAILED
            result = job_return._return_value  # The property raises if the job failed.
            number, overrides = config.hydra.job.num, list(config.hydra.overrides.task)
            folder = Path(config.hydra.runtime.output_dir)
            self.sweep.ends(number, overrides, result, result if failed else None, folder)
            # The sweeper would raise at the first failed job; `main` says which failed, at the end.
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None
