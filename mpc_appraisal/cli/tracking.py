"""Experiment trackers as Hydra callbacks: MLflow, TensorBoard and Weights & Biases take the results of finished jobs.

A job's folder goes in once the job has finished: an appraisal, private learning or a marketplace, with what attacks
recovered. Its records, as `reporting.tracked` flattens them, go out to the tracker that conf/tracking names. A tracker
gets what the job's folder holds and nothing more, which is only what this
party was shown. The libraries are extras of this package, and are imported when a job ends. Where a tracker fails, a
warning is printed and no result is lost, because the job's files are written before. A library that is not installed,
or a setting that cannot work, ends the command with status 2 before anything is computed. A tracker is added as a class
here, a file in conf/tracking and an extra.
"""

from __future__ import annotations

import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mpc_appraisal.cli import finished
from mpc_appraisal.cli.sweep import REUSED
from mpc_appraisal.common.checks import boolean, one_of, text
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.run_folders import run_folder
from mpc_appraisal.reporting.tracked import TrackedRun, tracked_run

# For each tracker, which is an extra of this package too, the modules that it needs.
TRACKERS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "tensorboard": ("tensorboard",), "wandb": ("wandb",)}
LEADING = ("agreement/", "accuracy/", "errors/", "recovered/")  # figures beside the hyperparameters of TensorBoard
STORE = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://|https?://|databricks")
FILES = ("*.jsonl", "*.json", "report.*", "*.png", "card-*")


def check_tracker(arguments: Sequence[str]) -> None:
    """Raise InputError if the arguments name a tracker whose library is missing."""
    for argument in arguments:
        found = re.fullmatch(r"\+{0,2}tracking=(\w+|\[[\w, ]+\])", argument)
        for name in re.findall(r"\w+", found[1]) if found else ():
            if any(find_spec(module) is None for module in TRACKERS.get(name, ())):
                raise InputError("tracking", name, f"its library: pip install 'mpc_appraisal[{name}]'")


class Tracker(Callback, ABC):
    """A callback that hands each finished job to one tracker. The launcher pickles it and sends it to the jobs.

    A subclass states `name` and `log`, and may check its settings in its constructor.
    """

    name = ""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if job_return.status != JobStatus.COMPLETED or job_return._return_value == REUSED:
            return  # the job failed, or an earlier command finished it
        folder = finished.last_folder()
        if folder is None or not (folder / finished.RECORDS).exists():
            return  # a dealer keeps no records
        try:
            found = run_folder(folder)
            tracked = tracked_run(found)
            if tracked is None:
                raise InputError("records", found.reason or found.state, "records of a run that finished")
            self.log(os.path.relpath(folder), folder, tracked)
        except AppraisalError as error:  # such as damaged records
            self._warn(folder, str(error))
        except Exception as error:  # the libraries raise errors of many kinds
            self._warn(folder, f"{type(error).__name__}: {error}")

    def _warn(self, folder: Path, why: str) -> None:
        where = os.path.relpath(folder)
        words = f"warning: {self.name} did not take the results of {where}, whose files are whole: {shown(why)}"
        print(words, file=sys.stderr, flush=True)

    @abstractmethod
    def log(self, title: str, folder: Path, run: TrackedRun) -> None:
        """Hand one job to the tracker.

        Args:
            title: The job's folder as the user knows it.
            folder: The job's folder, whose files are whole.
            run: What the folder's records say.
        """


class Mlflow(Tracker):
    """Hand jobs to MLflow: settings as parameters, figures as metrics, and the job's files as artifacts.

    Args:
        uri: The address of the store, such as sqlite:///mlflow.db or http://HOST:PORT.
        experiment: The name of the experiment.
        files: Whether records, report and figures are stored too.

    A folder of files, which MLflow refuses since 3.13, and any other bad setting end the command.
    """

    name = "MLflow"

    def __init__(self, uri: str, experiment: str, files: bool = True):
        with _stopping():
            if not isinstance(uri, str) or not STORE.match(uri):
                expected = "sqlite:///FILE or http(s)://..., because MLflow keeps no folders of files"
                raise InputError("hydra.callbacks.mlflow.uri", uri, expected)
            self.files = boolean("hydra.callbacks.mlflow.files", files)
            self.uri, self.experiment = uri, text("hydra.callbacks.mlflow.experiment", experiment)

    def log(self, title: str, folder: Path, run: TrackedRun) -> None:
        import mlflow
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        found = client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else client.create_experiment(self.experiment)
        made = client.create_run(number, run_name=title, tags={"mpc_appraisal.folder": title}).info.run_id
        params = [mlflow.entities.Param(k, str(v)[:6000]) for k, v in run.settings.items()]
        stamp = int(1000 * os.stat(folder / finished.RECORDS).st_mtime)
        metrics = [mlflow.entities.Metric(k, v, stamp, 0) for k, v in run.numbers.items()]
        client.log_batch(made, metrics=metrics, params=params)
        if self.files:
            for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
                client.log_artifact(made, str(path))
        client.set_terminated(made)


class Tensorboard(Tracker):
    """Hand jobs to TensorBoard: figures as scalars, and settings with agreements as hyperparameters.

    Args:
        folder: The folder of runs. Each job has a folder of its own in it, named as the job's.
    """

    name = "TensorBoard"

    def __init__(self, folder: str):
        with _stopping():
            self.folder = text("hydra.callbacks.tensorboard.folder", folder)

    def log(self, title: str, folder: Path, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        own = title.replace(os.sep, "-").lstrip(".-") or "run"
        with SummaryWriter(str(Path(self.folder) / own)) as writer:
            for name, number in run.numbers.items():
                writer.add_scalar(name, number)
            stated = run.settings.items()
            settings = {key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in stated}
            agreed = {f"hparam/{name}": number for name, number in run.numbers.items() if name.startswith(LEADING)}
            writer.add_hparams(settings, agreed, run_name=".")


class Wandb(Tracker):
    """Hand jobs to Weights & Biases: settings as the run's configuration, figures as its summary, values as a table.

    Args:
        project: The name of the project.
        mode: "offline", which writes to `folder`, or "online".
        folder: The folder of runs.

    Another mode, and a project or folder that is no text, end the command.
    """

    name = "Weights & Biases"

    def __init__(self, project: str, mode: str = "offline", folder: str = "."):
        with _stopping():
            self.mode = one_of("hydra.callbacks.wandb.mode", mode, ("offline", "online"))
            self.project = text("hydra.callbacks.wandb.project", project)
            self.folder = text("hydra.callbacks.wandb.folder", folder)

    def log(self, title: str, folder: Path, run: TrackedRun) -> None:
        import wandb

        Path(self.folder).mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
        opened = wandb.init(
            project=self.project,
            name=title,
            dir=self.folder,
            mode=self.mode,
            config=dict(run.settings),
            settings=settings,
            reinit="create_new",
        )
        opened.summary.update(dict(run.numbers))
        if run.rows:
            opened.log({run.name: wandb.Table(columns=list(run.columns), data=[list(row) for row in run.rows])})
        opened.finish()


class _stopping:
    """Turn an InputError into the end of the command, because Hydra would turn it into a stack of its own."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, InputError):
            print(f"error: {error}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None
