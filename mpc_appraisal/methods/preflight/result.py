"""What a pre-flight found: verdicts and figures, thresholds, trials of other l2; as tables, warnings and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import scipy  # which imports `scipy.stats` when it is first used: half a second that most processes need not spend

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.table import DASH, Table, number

TRUSTED, DOUBTFUL, INVERTED = "trusted", "doubtful", "inverted"
MEAN, WORST, OPPOSITE = 0.8, 0.5, -0.3  # cut-offs on r_s
PAIRS, MOST_PAIRS = 0.08, 1 / 3  # cut-offs on w
LOSS = 1.5  # times the best test loss: what a suggested l2 may cost
PER_ROW = "value per row"  # the unit of a threshold for a value that is a sum over rows


@dataclass(frozen=True)
class Rate:
    """wrong of so many; low, high: the 95% Clopper-Pearson interval of the rate. None where nothing could go wrong."""

    wrong: int
    of: int
    rate: float | None
    low: float | None
    high: float | None

    @staticmethod
    def count(errors: Iterable[bool]) -> Rate:
        errors = [bool(error) for error in errors]
        if not errors:
            return Rate(0, 0, None, None, None)
        found = scipy.stats.binomtest(sum(errors), len(errors))
        interval = found.proportion_ci(0.95, method="exact")
        return Rate(sum(errors), len(errors), float(found.statistic), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Threshold:
    """The least value to buy at. unit: "value" for candidates of any size, "value per row", or "value of N rows".

    value: None where no part was good, or none bad. Rates: of the calibrated threshold on parts that did not calibrate
    it, and of zero.
    """

    value: float | None
    unit: str
    false_accept: Rate
    false_reject: Rate
    zero_false_accept: Rate
    zero_false_reject: Rate

    def of(self, rows: int) -> float | None:
        """In the method's own values, for a candidate of so many rows."""
        return self.value * rows if self.value is not None and self.unit == PER_ROW else self.value


@dataclass(frozen=True)
class Agreement:
    """Correlation over the K parts: mean, standard deviation and worst over seeds; by_seed, None where undefined.

    pooled: of all seeds' parts together; low, high: its 95% percentile bootstrap interval over parts (rank only).
    """

    mean: float | None
    spread: float | None
    worst: float | None
    by_seed: tuple[float | None, ...]
    pooled: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Check:
    """What was found about one method. rank, pearson: of its values with the utility; level: with the rate, by rank.

    pairs, wrong: pairs of classes tried over all seeds, and those whose swap did not lower the value. condition: of the
    Hessian that the method inverts, None for a method that inverts none.
    """

    method: str
    verdict: str
    rank: Agreement
    pearson: Agreement
    level: Agreement
    wrong: int
    pairs: int
    condition: float | None
    threshold: Threshold

    @property
    def share(self) -> float:
        return self.wrong / self.pairs if self.pairs else 0.0


@dataclass(frozen=True)
class Trial:
    """One l2 of the search. loss, error: test loss and share of test errors of the fits on O, means over seeds.

    fits: whether the loss is within 50% of the best.
    """

    l2: float
    loss: float
    error: float
    fits: bool
    rank: dict[str, float | None]
    share: dict[str, float]
    verdicts: dict[str, str]

    @property
    def trusted(self) -> bool:
        return bool(self.verdicts) and set(self.verdicts.values()) == {TRUSTED}

    @property
    def score(self) -> float:
        return sum((-1.0 if self.rank[name] is None else self.rank[name]) - self.share[name] for name in self.rank)


@dataclass(frozen=True)
class Preflight:
    """The result. skipped: (method, why) of those that could not be checked. rows: of O, a part and the test set.

    suggested_l2: the best of `trials`, None where no search was made or nothing was found that is better.
    """

    l2: float
    corruption: str
    seed: int
    seeds: int
    parts: int
    rows: tuple[int, int, int]
    given: tuple[int, int]
    checks: tuple[Check, ...]
    skipped: tuple[tuple[str, str], ...]
    trials: tuple[Trial, ...]
    suggested_l2: float | None

    def __getitem__(self, method: str) -> Check:
        for check in self.checks:
            if check.method == method:
                return check
        raise InputError("method", method, f"one of {', '.join(check.method for check in self.checks)}")

    @property
    def trusted(self) -> bool:
        return not self.skipped and all(check.verdict == TRUSTED for check in self.checks)

    @property
    def threshold(self) -> dict[str, float | None]:
        """{method: the calibrated threshold}, in the unit that its check states."""
        return {check.method: check.threshold.value for check in self.checks}

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dictionaries: JSON."""
        return {**_plain(asdict(self)), "warnings": self.warnings()}

    def warnings(self) -> list[str]:
        """A sentence with figures for each method that is not trusted, and what would help; nothing where all are."""
        found = [f"{name} could not be checked: {why}" for name, why in self.skipped]
        for check in self.checks:
            if check.verdict == TRUSTED:
                continue
            text = (
                f"{check.method} is {check.verdict} on this model at l2 = {self.l2:g}: rank correlation with the true "
            )
            text += f"utility {_signed(check.rank.mean)}"
            text += f" (worst of {self.seeds} {_signed(check.rank.worst)})" * (self.seeds > 1)
            if check.pairs:
                text += f"; of {check.pairs} swaps of two classes' labels, {check.wrong} did not lower the value"
                text += f" ({100 * check.share:.0f}%, where at most {100 * PAIRS:.0f}% is fine)"
            if check.condition is not None:
                text += f"; the Hessian's condition number is {check.condition:.0f}"
            found.append(text + ".")
        if found and self.suggested_l2 is not None:
            best = next(trial for trial in self.trials if trial.l2 == self.suggested_l2)
            state = "all methods are trusted" if best.trusted else "better, though not all methods are trusted"
            found.append(f"At l2 = {best.l2:g} {state}{self._price(best)}.")
        elif found and self.trials:
            tried = ", ".join(f"{trial.l2:g}" for trial in self.trials)
            found.append(f"None of the l2 tried is better at a test loss within {100 * (LOSS - 1):.0f}%: {tried}.")
        return found

    def _price(self, best: Trial) -> str:
        """What a suggested l2 costs."""
        now = next(trial for trial in self.trials if trial.l2 == self.l2)
        return (
            f"; there the test loss is {number(best.loss, 3)} (now {number(now.loss, 3)}) and the test error "
            f"{100 * best.error:.1f}% (now {100 * now.error:.1f}%)"
        )

    def tables(self) -> list[Table]:
        """Verdicts, thresholds and, where one was made, the search of l2."""
        own, part, test = self.rows
        checks = [
            (
                check.method,
                check.verdict,
                _signed(check.rank.mean),
                _signed(check.rank.worst),
                f"{_signed(check.rank.low)} to {_signed(check.rank.high)}",
                _signed(check.pearson.mean),
                _signed(check.level.mean),
                f"{check.wrong} of {check.pairs}" if check.pairs else DASH,
                number(check.condition, 3),
            )
            for check in self.checks
        ]
        notes = [
            f"{self.seeds} x {self.parts} parts of {part} held-out rows of one's own, corrupted ({self.corruption}) at "
            f"known rates, a model of {own} rows, {test} test rows. In the clear, here alone.",
            f"Trusted: mean rank correlation with the true utility {MEAN} or more, worst above {WORST}, and at most "
            f"{100 * PAIRS:.0f}% of the swaps of two classes' labels unseen.",
        ]
        if own + part < self.given[0]:
            notes.append(f"A sample: {own + part} of {self.given[0]} training rows.")
        header = ("method", "verdict", "utility, rank", "worst", "pooled, 95%", "utility, Pearson", "level, rank")
        header += ("swaps unseen", "condition")
        tables = [Table("Pre-flight on the model owner's own data", header, "llrrrrrrr", checks, tuple(notes))]
        tables.append(self._thresholds())
        if self.trials:
            names = [check.method for check in self.checks]
            rows = [
                (
                    f"{trial.l2:g}"
                    + " (suggested)" * (trial.l2 == self.suggested_l2)
                    + " (now)" * (trial.l2 == self.l2),
                    number(trial.loss, 3),
                    f"{100 * trial.error:.1f}%",
                    "yes" if trial.fits else "no",
                    *(
                        f"{trial.verdicts[name]} {_signed(trial.rank[name])}, {100 * trial.share[name]:.0f}%"
                        if name in trial.rank
                        else DASH
                        for name in names
                    ),
                )
                for trial in self.trials
            ]
            note = (
                f"Fine: within {100 * (LOSS - 1):.0f}% of the best loss. Cells: verdict, utility by rank, swaps unseen."
            )
            tables.append(
                Table("l2", ("l2", "test loss", "error", "fine", *names), "lrrl" + "l" * len(names), rows, (note,))
            )
        return tables

    def _thresholds(self) -> Table:
        rows = [
            (check.method, number(t.value), t.unit, *map(_percent, (t.false_accept, t.false_reject)))
            + tuple(map(_percent, (t.zero_false_accept, t.zero_false_reject)))
            for check in self.checks
            for t in (check.threshold,)
        ]
        header = ("method", "threshold", "unit", "false accepts", "false rejects", "at 0: accepts", "at 0: rejects")
        others = "other seeds" if self.seeds > 1 else "the other parts"
        notes = (
            f"A part is good where retraining with it lowers the test loss. Rates: with a threshold from {others}; in "
            "brackets their 95% interval. Good or bad is for candidates of about as many rows as a part has.",
            *("Of a method that is not trusted the threshold is no guide.",) * (not self.trusted),
        )
        return Table("Calibrated thresholds", header, "lrlrrrr", rows, notes)


def _plain(value: Any) -> Any:
    """JSON has neither tuples nor infinity."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.2f}"


def _percent(rate: Rate) -> str:
    if rate.rate is None:
        return DASH
    return f"{rate.wrong} of {rate.of} ({100 * rate.low:.0f}-{100 * rate.high:.0f}%)"
