"""Pre-flights of the model owner's files alone, one a seed, on the markets of the noise sweep."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.records import Row
from experiments.studies.appraisal.statistics import COUNTS
from experiments.studies.appraisal.sweeps import AppSweep, rounded, run_app
from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.common.errors import AppraisalError


@dataclass(frozen=True)
class Preflights(AppSweep):
    """The results of `mpc-appraisal preflight` are kept in WORK/preflight-.../seedK.json."""

    def _kept(self, work: Path, value: Any) -> Path:
        return self.folder(work, "", value).with_suffix(".json")

    def _stated(self, value: Any) -> list[str]:
        return [*self.fixed, f"{self.axis}={value}"]

    def found(self, work: Path, value: Any) -> dict[str, Any] | None:
        kept = self._kept(work, value)
        known = json.loads(kept.read_text()) if kept.is_file() else {}
        return known if known.get("stated") == self._stated(value) else None

    def run(self, work: Path, log: Path) -> None:
        """Run what is not finished. AppraisalError has the app's own words if one fails."""
        for value in self.values:
            if self.found(work, value) is None:
                result, kept = self._measured(value, log), self._kept(work, value)
                kept.parent.mkdir(parents=True, exist_ok=True)
                part = kept.with_suffix(".part")  # a run that is stopped leaves no half of it
                part.write_text(json.dumps(result | {"stated": self._stated(value)}))
                part.replace(kept)

    def _measured(self, value: Any, log: Path) -> dict[str, Any]:
        cfg = compose(self._stated(value))
        market = instantiate(cfg.scenario).build(*instantiate(cfg.data).load(), value)
        with tempfile.TemporaryDirectory() as place:
            for key, data in (("train", market.train), ("test", market.test)):
                np.savez(Path(place, key), x=data.x.numpy(), y=data.y.numpy())
            files = [f"train={place}/train.npz", f"test={place}/test.npz", f"classes={market.train.classes}"]
            done = run_app("preflight", *files, *self._stated(value), "search=no", f"out={place}/found.json")
            with open(log, "a") as output:
                output.write(done.stdout + done.stderr)
            # The status 1 means that a method is not trusted.
            if done.returncode not in (0, 1) or not Path(place, "found.json").is_file():
                why = done.stderr.splitlines() or ["no result"]
                raise AppraisalError(f"{self.job(value)}: {why[-1].strip()}")
            return json.loads(Path(place, "found.json").read_text())

    def rows(self, work: Path) -> list[Row]:
        """Return a row for each finished pre-flight and method."""
        rows = []
        for value in self.values:
            for check in (self.found(work, value) or {"checks": ()})["checks"]:
                t = check["threshold"]
                row = self.facts(value) | {"method": check["method"], "verdict": check["verdict"]}
                row |= {"threshold": t["value"], "unit": t["unit"]}
                row |= {key: [t[key]["wrong"], t[key]["of"]] for key in COUNTS}
                rows.append({key: rounded(each) for key, each in row.items()})
        return rows
