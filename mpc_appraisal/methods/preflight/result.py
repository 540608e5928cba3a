"""What a pre-flight found: verdicts and figures, thresholds, and trials of other l2.

`check.preflight` makes a `Preflight` from what `study`, `verdict`, `threshold` and `search` found; out come tables,
warnings and JSON. l2 is the strength of the regulariser, O are the rows on which a model is fitted, and a part is a
corrupted copy of held-out rows. r_s is the rank correlation of value and utility on seed s, and w the share of the
swaps of two classes' labels that do not lower the value.

The cut-offs of the verdicts stand at the head, because tables and warnings state them. They were set on measurements
(docs/protocols/preflight.md): change neither without the other. The names of fields have to stay, because JSON has
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import scipy  # which imports `scipy.stats` when it is first used: half a second that most processes need not spend

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.preflight.calibration import Calibration, SizeTerm
from mpc_appraisal.reporting.metric_names import in_words
from mpc_appraisal.reporting.table import DASH, Table, number

TRUSTED, DOUBTFUL, INVERTED = "trusted", "doubtful", "inverted"
MEAN, WORST, OPPOSITE = 0.8, 0.5, -0.3  # cut-offs on r_s
PAIRS, MOST_PAIRS = 0.08, 1 / 3  # cut-offs on w
LOSS = 1.5  # times the best test loss: what a suggested l2 may cost
PER_ROW = "value per row"  # the unit of a threshold for a value that is a sum over rows


@dataclass(frozen=True)
class Rate:
    """Hold how many of some decisions were wrong.

    Attributes:
        wrong: The number of wrong decisions.
        of: The number of decisions.
        rate: wrong / of, or None for no decisions.
        low, high: The ends of the rate's 95% Clopper-Pearson interval, or None for no decisions.
    """

    wrong: int
    of: int
    rate: float | None
    low: float | None
    high: float | None

    @staticmethod
    def count(errors: Iterable[bool]) -> Rate:
        """Return the rate of True among `errors`."""
        errors = [bool(error) for error in errors]
        if not errors:
            return Rate(0, 0, None, None, None)
        found = scipy.stats.binomtest(sum(errors), len(errors))
        interval = found.proportion_ci(0.95, method="exact")
        return Rate(sum(errors), len(errors), float(found.statistic), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Threshold:
    """Hold the least value at which the model owner should buy, and how often that decision errs.

    Attributes:
        value: The calibrated threshold, or None where all parts were good or all were bad.
        unit: "value" for candidates of any size, "value per row", or "value of N rows".
        false_accept: The rate of bad parts that the threshold accepts, on parts that did not calibrate it.
        false_reject: The rate of good parts that the threshold refuses, on parts that did not calibrate it.
        zero_false_accept, zero_false_reject: The same rates of the threshold zero.
        size: How the threshold depends on the number of rows; None where it does not, or not in a known way.
        open: The range of values that the parts do not settle (`calibration.open_range`): rows with such a value may
            help or not. An end is None where there is none, and the range is None where it is not known.
    """

    value: float | None
    unit: str
    false_accept: Rate
    false_reject: Rate
    zero_false_accept: Rate
    zero_false_reject: Rate
    size: SizeTerm | None = None
    open: tuple[float | None, float | None] | None = None

    def of(self, rows: int) -> float | None:
        """Return the threshold for a candidate of so many rows, in the method's own values."""
        return self._for(self.value, rows)

    def open_of(self, rows: int) -> tuple[float, float] | None:
        """Return the range that is open for a candidate of so many rows; its ends may be infinite."""
        if self.open is None:
            return None
        low, high = (self._for(end, rows) for end in self.open)
        return -math.inf if low is None else low, math.inf if high is None else high

    def _for(self, value: float | None, rows: int) -> float | None:
        if value is None:
            return None
        if self.unit == PER_ROW:
            return value * rows
        return value + (0.0 if self.size is None else self.size.of(rows))


@dataclass(frozen=True)
class Agreement:
    """Hold a correlation over the K parts.

    Attributes:
        mean, spread, worst: The correlation's mean, standard deviation and least number over the seeds.
        by_seed: The correlation of each seed, None where it is undefined.
        pooled: The correlation over the parts of all seeds together.
        low, high: The ends of the 95% percentile bootstrap interval of `pooled` over parts; ranks only.
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
    """Hold what was found about one method.

    Attributes:
        method: The method's name.
        verdict: TRUSTED, DOUBTFUL or INVERTED.
        rank, pearson: How the method's values agree with the utility.
        level: How the method's values agree with the rate of corruption, by rank.
        wrong: The number of pairs of classes whose swap did not lower the value.
        pairs: The number of pairs tried over all seeds.
        condition: The condition number of the Hessian that the method inverts; None for a method that inverts none.
        threshold: The calibrated threshold.
        metric: The metric whose fall is the utility, where it is another than the mean test loss.
        calibration: What a value means in the model owner's measure; None where that is not known.
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
    metric: str | None = None
    calibration: Calibration | None = None

    @property
    def metric_words(self) -> str:
        """The metric in words; a value that is calibrated to the RMSE is of a target that is a number."""
        return in_words(self.metric, self.calibration is not None and self.calibration.measure.startswith("RMSE"))

    @property
    def share(self) -> float:
        """w, the share of swaps that did not lower the value; 0 where none was tried."""
        return self.wrong / self.pairs if self.pairs else 0.0


@dataclass(frozen=True)
class Trial:
    """Hold what was found at one l2 of the search.

    Attributes:
        l2: The strength of the regulariser.
        loss, error: The test loss and the share of test errors of the fits on O, averaged over the seeds.
        fits: Whether the loss is within 50% of the best.
        rank: {method: mean r_s, or None where it is undefined}.
        share: {method: w}.
        verdicts: {method: its verdict, or "failed"}.
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
        """Whether all methods are trusted at this l2."""
        return bool(self.verdicts) and set(self.verdicts.values()) == {TRUSTED}

    @property
    def score(self) -> float:
        """The sum over methods of mean r_s - w, with -1 for an undefined r_s."""
        return sum((-1.0 if self.rank[name] is None else self.rank[name]) - self.share[name] for name in self.rank)


@dataclass(frozen=True)
class Preflight:
    """Hold the result of a pre-flight.

    Attributes:
        l2: The strength of the model's regulariser.
        corruption: "labels" or "missing".
        seed, seeds, parts: The settings of the pre-flight.
        rows: The numbers of rows of O, of a part and of the test set.
        given: The numbers of training and test rows that the model owner gave.
        checks: One check for each method that could be checked.
        skipped: (method, reason) of each method that could not be checked.
        trials: One trial for each l2 of the search, empty where none was made.
        suggested_l2: The best of `trials`; None where no search was made, or where nothing better was found.
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
        """Return the check of a method, by name. Raises InputError for a method that was not checked."""
        for check in self.checks:
            if check.method == method:
                return check
        raise InputError("method", method, f"one of {', '.join(check.method for check in self.checks)}")

    @property
    def trusted(self) -> bool:
        """Whether every method could be checked and is trusted."""
        return not self.skipped and all(check.verdict == TRUSTED for check in self.checks)

    @property
    def threshold(self) -> dict[str, float | None]:
        """{method: the calibrated threshold}, each in the unit that its check states."""
        return {check.method: check.threshold.value for check in self.checks}

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, and the warnings, as numbers, texts, lists and dictionaries that JSON has."""
        found = _plain(asdict(self))
        for check in found["checks"]:
            if check["metric"] is None:
                del check["metric"]
        return {**found, "warnings": self.warnings()}

    def warnings(self) -> list[str]:
        """Return a sentence with figures for each method that is not trusted, and one about what would help."""
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
        """Return the end of a sentence: the test loss and error that a suggested l2 costs."""
        now = next(trial for trial in self.trials if trial.l2 == self.l2)
        return (
            f"; there the test loss is {number(best.loss, 3)} (now {number(now.loss, 3)}) and the test error "
            f"{100 * best.error:.1f}% (now {100 * now.error:.1f}%)"
        )

    def tables(self) -> list[Table]:
        """Return the verdicts, the thresholds, what values mean and, where one was made, the search for another l2."""
        return [self._verdicts(), self._thresholds(), *self._meanings(), *([self._search()] if self.trials else [])]

    def _verdicts(self) -> Table:
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
        notes += [
            f"{check.method}: the true utility is the fall of the {check.metric_words} in place of the test loss."
            for check in self.checks
            if check.metric is not None
        ]
        if own + part < self.given[0]:
            notes.append(f"A sample: {own + part} of {self.given[0]} training rows.")
        header = ("method", "verdict", "utility, rank", "worst", "pooled, 95%", "utility, Pearson", "level, rank")
        header += ("swaps unseen", "condition")
        return Table("Pre-flight on the model owner's own data", header, "llrrrrrrr", checks, tuple(notes))

    def _search(self) -> Table:
        names = [check.method for check in self.checks]
        rows = [
            (
                f"{trial.l2:g}" + " (suggested)" * (trial.l2 == self.suggested_l2) + " (now)" * (trial.l2 == self.l2),
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
        note = f"Fine: within {100 * (LOSS - 1):.0f}% of the best loss. Cells: verdict, utility by rank, swaps unseen."
        return Table("l2", ("l2", "test loss", "error", "fine", *names), "lrrl" + "l" * len(names), rows, (note,))

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
            f"A part is good where retraining with it lowers the test loss. Rates: with a threshold from {others}, or "
            "from the other copies where half of the test rows was copied and spoilt; in brackets their 95% interval.",
            *("Of a method that is not trusted the threshold is no guide.",) * (not self.trusted),
        )
        return Table("Calibrated thresholds", header, "lrlrrrr", rows, notes)

    def _meanings(self) -> list[Table]:
        """Return a table of what values mean for a candidate of as many rows as a part has; none without one."""
        rows = []
        for check in self.checks:
            meaning = check.calibration
            for value in meaning.marks(check.threshold.value) if meaning else ():
                e = meaning.expected(value * (meaning.rows if meaning.per_row else 1), meaning.rows)
                own = ("more than " * e.beyond + str(e.own_rows)) if e.own_rows else "none"
                gains = (f"{e.gain:+.2g}", f"{e.low:+.2g} to {e.high:+.2g}")
                rows.append((check.method, number(value), check.threshold.unit, str(meaning.rows), *gains, own))
        if not rows:
            return []
        known = next(check.calibration for check in self.checks if check.calibration)
        header = ("method", "value", "unit", "candidate's rows", f"expected {known.measure}, {known.unit}", "interval")
        note = (
            "The least and the largest value of the spoilt copies, and the threshold. Own rows: as many bring as much."
        )
        return [Table("What a value means", (*header, "own rows"), "lrlrrrr", rows, (note,))]


def _plain(value: Any) -> Any:
    """Return the value without tuples and infinity, which JSON does not have."""
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
