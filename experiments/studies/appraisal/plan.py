"""Which sweeps the tables and figures need, and what is measured beside the app's records.

Table 1's fine-tuning is held to multiples of influence's runtime, so its steps follow from figure 4's grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from experiments.harness.jobs import Job
from experiments.harness.records import Row, select
from experiments.studies.appraisal.sweeps import RATE, STEPS, AppSweep, Preflights, Sized, rounded
from experiments.studies.appraisal.tables import FIGURE3_RATE, FIGURE3_STEPS, budgets
from experiments.studies.appraisal.threshold import UNSEEN
from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.models.training import accuracy, fit, mean_loss, union

L2, MISMATCH_L2, MISSING_L2 = "0.003", "0.001", "0.01"
TWO_DIGITS = (0, 8)  # they stand in for planes and cars in a small run
UTILITY = "baselines.true_utility=True"


class SweepPlan:
    """All sweeps of a run. `settings` are those of sizes.yaml, and `seeds` is the number of seeds."""

    def __init__(self, settings: SimpleNamespace, seeds: int, work: Path):
        folder = work / "two-digits"
        if "data.root=FOLDER" in settings.two_classes:
            write_two_digits(folder)
        self.settings, self.work, self.seeds = settings, work, tuple(range(seeds))
        two_classes = [each.replace("FOLDER", str(folder)) for each in settings.two_classes]
        every = (*settings.digits, f"model.l2={L2}", "appraisal=all")
        fixed = (*every, f"{STEPS}={FIGURE3_STEPS}", f"{RATE}={FIGURE3_RATE:g}", UTILITY)
        self.tuning = (*every, "~appraisal.gradient_norm")
        two = ("appraisal=all", "~appraisal.finetuning", UTILITY)
        mismatch = (*two_classes, "scenario=distribution_mismatch", f"model.l2={MISMATCH_L2}", *two)
        missing = (*settings.digits, "scenario=missing_data", f"model.l2={MISSING_L2}", *two)
        self.noise = AppSweep("noise", fixed, "seed", self.seeds)  # all methods at figure 3's 16 steps
        self.preflight = Preflights("preflight", fixed, "seed", self.seeds)  # on the same markets
        sizes = tuple(settings.smaller)
        self.sized = [Sized("sized", (*fixed, f"seed={seed}"), "scenario.size", sizes) for seed in self.seeds]
        other, alone = range(seeds, 2 * seeds) if settings.unseen else (), (*settings.digits, f"model.l2={L2}")
        alone = (*alone, "appraisal=influence")
        self.unseen = [Preflights(UNSEEN, alone, "seed", tuple(other))]
        self.unseen += [
            Sized("unseen", (*alone, f"seed={seed}"), "scenario.size", tuple(settings.unseen)) for seed in other
        ]
        self.mismatch = AppSweep("mismatch", mismatch, "seed", self.seeds)
        self.missing = AppSweep("missing", missing, "seed", self.seeds)
        self.cells = self._cells("cells", settings.cells)
        self.grid = [self._tuned("grid", rate, "seed=0", STEPS, settings.steps) for rate in settings.rates]

    def _tuned(self, part: str, rate: float, other: str, axis: str, values: Sequence[int]) -> AppSweep:
        """Return fine-tuning and influence in one session, so that their runtimes can be compared."""
        fixed = (*self.tuning, f"{RATE}={rate:g}", other)
        return AppSweep(part, (*fixed, "baselines.true_utility=False"), axis, tuple(values))

    def table1(self, rows: Sequence[Row]) -> list[AppSweep]:
        """Return table 1's fine-tuning, the steps of which follow from the rows of the grid."""
        return self._cells("table1", sorted(set(budgets(rows).values())))

    def _cells(self, part: str, steps: Sequence[int]) -> list[AppSweep]:
        """Return a sweep over seeds for each number of steps and each of table 1's rates."""
        count, rates = self.settings.table_seeds or len(self.seeds), self.settings.table_rates or self.settings.rates
        return [self._tuned(part, rate, f"{STEPS}={n}", "seed", range(count)) for n in steps for rate in rates]

    def sweeps(self) -> list[AppSweep]:
        """Return all sweeps in their order; those of table 1 are known once one rate of the grid is measured."""
        ladder = [sweep for sweep in self.grid if sweep.rate == FIGURE3_RATE]
        known = [row for sweep in ladder for row in sweep.rows(self.work)]
        first = [self.noise, self.preflight, *self.sized, *self.unseen, self.mismatch, self.missing]
        first += [*self.cells, *ladder]
        return first + self.table1(known) + [sweep for sweep in self.grid if sweep not in ladder]


def accuracies(sweep: AppSweep, work: Path) -> list[Row]:
    """Return a row a seed with the test accuracy after retraining in the clear, which the app's records do not have.

    It is kept in `work`. AppraisalError tells that the utilities are not those that the app measured: then the market
    would be another one.
    """
    found = []
    for known in select(sweep.rows(work), method="influence"):
        seed = known["seed"]
        job = Job(f"accuracy-seed{seed}", _retrained, ([*sweep.fixed, f"seed={seed}"], seed))
        if job.rows(work) is None:
            job.keep(work)
        (row,) = job.rows(work)
        off = max(abs(a - b) for a, b in zip(row["utility"], known["utility"], strict=True))
        if row["candidate"] != known["candidate"] or off > 1e-5:
            expected = "expected those of the app's records"
            raise AppraisalError(f"{job.name}: utilities differ by {off:.1e}; {expected}")
        found.append({"part": "accuracy", "job": job.name, "method": "retraining"} | row)
    return found


def _retrained(overrides: Sequence[str], seed: int) -> list[Row]:
    cfg = compose(overrides)
    market = instantiate(cfg.scenario).build(*instantiate(cfg.data).load(), seed)
    before = mean_loss(fit(market.train, cfg.model.l2), market.test)
    models = [fit(union(market.train, each.data), cfg.model.l2) for each in market.candidates]
    return [{
        "seed": seed, "steps": None, "lr": None, "candidate": [each.name for each in market.candidates],
        "utility": [rounded(before - mean_loss(model, market.test)) for model in models],
        "accuracy": [accuracy(model, market.test) for model in models],
    }]  # fmt: skip


def write_two_digits(folder: Path) -> None:
    """Write two of scikit-learn's digits as the classes 0 and 1 of CIFAR-10's binary files.

    Their 8 x 8 pixels become 32 x 32 x 3; nothing is downloaded.
    """
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    kept = np.isin(labels, TWO_DIGITS)
    pixels = (images[kept] / 16 * 255).astype(np.uint8).reshape(-1, 1, 8, 8)
    pixels = pixels.repeat(3, axis=1).repeat(4, axis=2).repeat(4, axis=3)
    second = (labels[kept] == TWO_DIGITS[1])[:, None].astype(np.uint8)
    parts = np.array_split(np.concatenate([second, pixels.reshape(len(pixels), -1)], 1), 6)
    for name, part in zip([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"], parts, strict=True):
        (folder / name).write_bytes(part.tobytes())
