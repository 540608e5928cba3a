"""Sweeps of the installed app, and the few rows that the report keeps of their records.

A job that fine-tuning's private check refuses is run again with the softmax that needs no bound on logits, and if that
is refused too, in the clear: its rows have no value, and the plaintext value beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from experiments.harness.jobs import Job
from experiments.harness.records import Row
from experiments.studies.appraisal.tables import COUNTS
from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.methods import as_methods
from mpc_appraisal.methods.preflight.study import valuer
from mpc_appraisal.models.training import utility
from mpc_appraisal.reporting.record import Record, read

APP = Path(sys.executable).parent / "mpc-appraisal"
RESUME = ("resume=true",)  # what makes the app itself skip a finished job
REFUSED = "training has left the public bound on logits"
ATTEMPTS = {"": (), "plain": ("session=plain",)}  # A job that the private check refuses runs in the clear.
STEPS, RATE = "appraisal.finetuning.steps", "appraisal.finetuning.lr"


def run_app(*arguments: str, log: Path | None = None) -> subprocess.CompletedProcess:
    """Run the installed app on one thread, and return what it says, which `log` has too."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(APP), *arguments], capture_output=True, text=True, env=env)
    if log is not None:
        with open(log, "a") as output:
            output.write(done.stdout + done.stderr)
    return done


@dataclass(frozen=True)
class AppSweep:
    """One sweep over one axis. `part` says what it is for, and `fixed` are the overrides of all its jobs."""

    part: str
    fixed: tuple[str, ...]
    axis: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Return the name of its folder: the part, and what of rate, steps and seed is fixed."""
        known = self._known()
        kept = [f"{key.rpartition('.')[2]}{known[key]}" for key in (RATE, STEPS, "seed") if key in known]
        return "-".join([self.part, *kept])

    @property
    def rate(self) -> float | None:
        """Return the rate of fine-tuning, None if there is none."""
        return float(self._known()[RATE]) if RATE in self._known() else None

    def _known(self) -> dict[str, str]:
        return dict(each.split("=", 1) for each in self.fixed if "=" in each)

    @property
    def short(self) -> str:
        return self.axis.rpartition(".")[2]

    def folder(self, work: Path, attempt: str, value: Any) -> Path:
        return work / "-".join([self.name, *[attempt] * bool(attempt)]) / f"{self.short}{value}"

    def job(self, value: Any) -> str:
        """Return the job's name in rows."""
        return f"{self.name}-{self.short}{value}"

    def facts(self, value: Any) -> Row:
        """Return what distinguishes a job from others of its part."""
        known = self._known() | {self.axis: value}
        found = {"part": self.part, "job": self.job(value), "seed": int(known["seed"])}
        return found | {"steps": int(known.get(STEPS, 0)) or None, "lr": self.rate}

    def found(self, work: Path, value: Any) -> tuple[str, list[Record]] | None:
        """Return (attempt, records) of a finished job, or None. InputError names the file of damaged records."""
        for attempt in ATTEMPTS:
            folder = self.folder(work, attempt, value)
            stated = folder / ".hydra" / "overrides.yaml"
            if not (folder / "report.md").is_file() or not stated.is_file():  # the report is written last
                continue
            asked = {*self.fixed, f"{self.axis}={value}", *ATTEMPTS[attempt]}
            if asked <= {each.removesuffix("=null") for each in OmegaConf.load(stated)}:  # of a deletion, "~key=null"
                return attempt, [r for r in read(folder / "records.jsonl") if not r.baseline]
        return None

    def run(self, work: Path, log: Path) -> None:
        """Run what is not finished. AppraisalError has the app's own words if a job fails."""
        attempts = list(ATTEMPTS)
        for attempt in attempts:
            left = [value for value in self.values if self.found(work, value) is None]
            said = self._launch(work, log, attempt, left).splitlines() if left else []
            for value in left:
                if self.found(work, value) is not None:
                    continue
                label = re.compile(rf"error: .*\b{re.escape(f'{self.axis}={value}')}\b")
                why = [line for line in said if label.match(line)]
                if attempt == attempts[-1] or not any(REFUSED in line for line in why):
                    raise AppraisalError(f"{self.job(value)}: {(why or said or ['no records'])[-1].strip()}")

    def _launch(self, work: Path, log: Path, attempt: str, values: Sequence[Any]) -> str:
        """Return what the app says on standard error, or nothing if it succeeds."""
        for value in values:  # what was asked otherwise before: the app would refuse, yet state the new overrides there
            shutil.rmtree(self.folder(work, attempt, value), ignore_errors=True)
        place = self.folder(work, attempt, values[0]).parent
        swept = f"{self.axis}={','.join(map(str, values))}", f"hydra.sweep.dir={place}"
        subfolder = f"hydra.sweep.subdir={self.short}${{{self.axis}}}"
        own = ("party.preflight=no", *RESUME)  # `Preflights` measures the pre-flight, once a seed
        done = run_app("--multirun", *self.fixed, *ATTEMPTS[attempt], *swept, subfolder, *own, log=log)
        return done.stderr if done.returncode else ""

    def rows(self, work: Path) -> list[Row]:
        """Return a row for each finished job and method, with lists by candidate."""
        rows = []
        for value in self.values:
            if (found := self.found(work, value)) is not None:
                attempt, records = found
                for method in dict.fromkeys(record.method for record in records):
                    rows.append(self._row(value, attempt, method, [r for r in records if r.method == method]))
        return rows

    def _row(self, value: Any, attempt: str, method: str, records: Sequence[Record]) -> Row:
        refused, bound = attempt == "plain", (records[0].settings or {}).get("session.logit_bound")
        row = self.facts(value) | {"method": method, "refused": refused, "bound": bound}
        row |= {key: getattr(records[0], key) for key in ("features", "classes", "revision")}
        row |= {key: [getattr(r, key) for r in records] for key in ("candidate", "n", "level", "rounds", "utility")}
        row |= {"value": [None if refused else r.value for r in records]}
        row |= {"plaintext": [r.plaintext_value for r in records], "mb": [r.megabytes for r in records]}
        row |= {phase: [r.seconds.get(phase) for r in records] for phase in ("share", "private")}
        row["clear"] = records[0].seconds["plaintext"]  # the model owner's own work, once a session
        row["opened"] = [o["what"] for o in records[0].openings]
        return {key: rounded(each) for key, each in row.items()}


@dataclass(frozen=True)
class Preflights(AppSweep):
    """Results of `mpc-appraisal preflight` on the model owner's files alone, one a seed, kept in WORK/<job>.json."""

    def _job(self, value: Any, log: Path | None = None) -> Job:
        return Job(self.job(value), partial(preflight, self.job(value), log), ([*self.fixed, f"seed={value}"], value))

    def found(self, work: Path, value: Any) -> list[Row] | None:
        return self._job(value).rows(work)

    def run(self, work: Path, log: Path) -> None:
        """Run what is not finished. AppraisalError has the app's own words if one fails."""
        for value in self.values:
            if self.found(work, value) is None:
                self._job(value, log).keep(work)

    def rows(self, work: Path) -> list[Row]:
        """Return a row for each finished pre-flight and method."""
        rows = []
        for value in self.values:
            for check in self.found(work, value) or ():
                t = check["threshold"]
                row = self.facts(value) | {"method": check["method"], "verdict": check["verdict"]}
                row |= {"threshold": t["value"], "unit": t["unit"], "size": t["size"], "open": t["open"]}
                row |= {key: [t[key]["wrong"], t[key]["of"]] for key in COUNTS}
                rows.append({key: rounded(each) for key, each in row.items()})
        return rows


class Sized(AppSweep):
    """Candidates of fewer rows on the markets of the seeds, in the clear, kept in WORK/<job>.json.

    The sweep's axis is scenario.size. Private values are those in plaintext to 1e-4, as the noise sweep shows.
    """

    def _job(self, value: Any) -> Job:
        return Job(self.job(value), sized, ([*self.fixed, f"{self.axis}={value}"], int(self._known()["seed"])))

    def found(self, work: Path, value: Any) -> list[Row] | None:
        return self._job(value).rows(work)

    def run(self, work: Path, log: Path) -> None:
        for value in self.values:
            if self.found(work, value) is None:
                self._job(value).keep(work)

    def rows(self, work: Path) -> list[Row]:
        """Return a row for each finished size and method."""
        return [self.facts(value) | row for value in self.values for row in self.found(work, value) or ()]


def sized(overrides: Sequence[str], seed: int) -> list[Row]:
    """Return a row for each method, with the candidates' values and true utilities, all in the clear."""
    cfg = compose(overrides)
    market = instantiate(cfg.scenario).build(*instantiate(cfg.data).load(), seed)
    model = instantiate(cfg.model)(market.train)
    utilities = [utility(market.train, market.test, c.data, cfg.model.l2, model, 1e-6) for c in market.candidates]
    rows = []
    for method in as_methods(instantiate(cfg.appraisal)):
        value = valuer(method, model, market.train, market.test)
        values = [rounded(value(c.data)) for c in market.candidates]
        row = {"method": method.name, "refused": False, "n": [c.data.rows for c in market.candidates], "value": values}
        rows.append(row | {"plaintext": values, "utility": rounded(utilities)})
    return rows


def preflight(job: str, log: Path, overrides: Sequence[str], seed: int) -> list[Row]:
    """Write the files of the market's model owner, and return what the app's pre-flight found of each method."""
    cfg = compose(overrides)
    market = instantiate(cfg.scenario).build(*instantiate(cfg.data).load(), seed)
    with tempfile.TemporaryDirectory() as place:
        for key, data in (("train", market.train), ("test", market.test)):
            np.savez(Path(place, key), x=data.x.numpy(), y=data.y.numpy())
        files = [f"train={place}/train.npz", f"test={place}/test.npz", f"classes={market.train.classes}"]
        done = run_app("preflight", *files, *overrides, "search=no", f"out={place}/found.json", log=log)
        # The status 1 means that a method is not trusted.
        if done.returncode not in (0, 1) or not Path(place, "found.json").is_file():
            raise AppraisalError(f"{job}: {(done.stderr.splitlines() or ['no result'])[-1].strip()}")
        return json.loads(Path(place, "found.json").read_text())["checks"]


def rounded(value: Any) -> Any:
    """Keep eight digits of numbers, which are enough for a table and for a rank."""
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def loads(work: Path) -> dict[str, float]:
    """Return the load average by sweep, at the end of its latest run."""
    kept = work / "loads.json"
    return json.loads(kept.read_text()) if kept.is_file() else {}


def run_all(sweeps: Iterable[AppSweep], work: Path, until: float | None) -> None:
    """Run one after the other, and begin none after `until` (in the time of time.monotonic).

    WORK/loads.json keeps the machine's load while each ran, because runtimes of a busy machine are long.
    """
    work.mkdir(parents=True, exist_ok=True)
    for sweep in sweeps:
        if until is not None and time.monotonic() > until:
            return
        start, left = time.monotonic(), sum(sweep.found(work, value) is None for value in sweep.values)
        sweep.run(work, work / "log.txt")
        if left:
            known = loads(work) | {sweep.name: round(os.getloadavg()[1], 1)}
            (work / "loads.json").write_text(json.dumps(known))
        text = f"{sweep.name}: {left} of {len(sweep.values)} jobs run, {time.monotonic() - start:.0f} s"
        print(text, flush=True)
