"""The targets of the engine's second generation, and by how much today's build meets or misses them, from records.

A target is a largest ratio to the build of commit 887b613 in the same run, or a largest number of MB, rounds or error,
or a least ratio of speed. In go records; out comes a line for each target. A target is judged only on the work it was
set for: 5,940 rows of 784 features of MNIST, ten candidates, or a million rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.harness.records import Row
from mpc_appraisal.reporting.table import DASH, number, whole

RATIO, AT_MOST, AT_LEAST = "ratio", "at most", "at least"
OTHER_SIZE, NOT_MEASURED = "another size", "not measured"


@dataclass(frozen=True)
class Target:
    """What is wanted of one number of a work.

    Attributes:
        what: The work, in words.
        unit: The number, in words: it is one of NUMBERS.
        part: The part of the study that has the work.
        work: How the name of the work begins.
        kind: RATIO to the earlier build, AT_MOST or AT_LEAST.
        goal: The ratio or the number.
        size: What the name of the work has to contain; '' where it is `work` itself, or one of a gradient.
    """

    what: str
    unit: str
    part: str
    work: str
    kind: str
    goal: float
    size: str = ""


def cpu(row: Row) -> float | None:
    """Return the CPU seconds of all parties."""
    return sum(row["cpu_seconds"].values()) if row.get("cpu_seconds") else None


def peak(row: Row) -> float | None:
    """Return the largest memory of a party, in MB."""
    return max(row["peak_mb"].values()) if row.get("peak_mb") else None


NUMBERS: dict[str, Callable[[Row], Any]] = {
    "CPU s of all parties": cpu,
    "seconds": lambda row: row["seconds"],
    "MB": lambda row: row["mb"],
    "rounds": lambda row: row["rounds"],
    "peak MB of a party": peak,
    "error": lambda row: row["error"],
    "times the speed of stock": lambda row: row["ratio_to_stock"],
    "times the time of plaintext": lambda row: row.get("times_plaintext"),
}
RATIOS = {"CPU s of all parties": "cpu_ratio_to_baseline", "seconds": "ratio_to_baseline"}  # turn by turn
ONE, TEN = "1 candidate of 5940 rows of MNIST", "10 candidates of 5940 rows of MNIST"
CPU, SECONDS, MB, ROUNDS, PEAK, ERROR, STOCK, CLEAR = NUMBERS
TARGETS = (
    Target("single gradient", CPU, "gradient", "gradient, single", RATIO, 0.30),
    Target("single gradient", SECONDS, "gradient", "gradient, single", RATIO, 0.27),
    Target("single gradient", STOCK, "gradient", "gradient, single", AT_LEAST, 50),
    Target("single gradient", MB, "gradient", "gradient, single", AT_MOST, 27),
    Target("single gradient", ROUNDS, "gradient", "gradient, single", AT_MOST, 12),
    Target("single gradient", ERROR, "gradient", "gradient, single", AT_MOST, 5e-7),
    Target("single influence", CPU, "gradient", "influence, single", RATIO, 0.30),
    Target("single influence", SECONDS, "gradient", "influence, single", RATIO, 0.27),
    Target("single influence", STOCK, "gradient", "influence, single", AT_LEAST, 50),
    Target("single influence", MB, "gradient", "influence, single", AT_MOST, 27),
    Target("single influence", ROUNDS, "gradient", "influence, single", AT_MOST, 12),
    Target("later gradient, X kept", CPU, "gradient", "gradient, kept", RATIO, 0.38),
    Target("later gradient, X kept", SECONDS, "gradient", "gradient, kept", RATIO, 0.38),
    Target("later gradient, X kept", CLEAR, "gradient", "gradient, kept", AT_MOST, 2.3),
    Target("later gradient, X kept", STOCK, "gradient", "gradient, kept", AT_LEAST, 75),
    Target("later gradient, X kept", MB, "gradient", "gradient, kept", AT_MOST, 8.4),
    Target("later gradient, X kept", ROUNDS, "gradient", "gradient, kept", AT_MOST, 12),
    Target("ten candidates by influence", SECONDS, "appraisals", "influence, ", RATIO, 0.37, TEN),
    Target("ten candidates by influence", MB, "appraisals", "influence, ", AT_MOST, 275, TEN),
    Target("a million rows", SECONDS, "million", "influence, ", RATIO, 0.38, "1000000 rows"),
    Target("a million rows", PEAK, "million", "influence, ", RATIO, 0.6, "1000000 rows"),
    Target("fine-tuning, 16 steps", SECONDS, "tuning", "finetuning, ", RATIO, 0.42, ONE),
    Target("fine-tuning, 16 steps", MB, "tuning", "finetuning, ", AT_MOST, 230, ONE),
    Target("fine-tuning, 16 steps", ROUNDS, "tuning", "finetuning, ", AT_MOST, 280, ONE),
    Target("fine-tuning of a perceptron", SECONDS, "tuning", "mlp_finetuning, ", RATIO, 0.15, ONE),
    Target("fine-tuning of a perceptron", MB, "tuning", "mlp_finetuning, ", AT_MOST, 130, ONE),
    Target("fine-tuning of a perceptron", ROUNDS, "tuning", "mlp_finetuning, ", AT_MOST, 150, ONE),
    Target("make appraise", CPU, "app", "make appraise", RATIO, 0.5),
    Target("make appraise", SECONDS, "app", "make appraise", RATIO, 0.5),
)


def lines(rows: Sequence[Row], usual: bool) -> list[tuple[str, ...]]:
    """Return, for each target, what, number, earlier build, today, ratio, target and verdict, as cells of a table.

    usual: whether X of a gradient is as large as in the targets.
    """
    return [_line(target, rows, usual) for target in TARGETS]


def _line(target: Target, rows: Sequence[Row], usual: bool) -> tuple[str, ...]:
    found = [row for row in rows if row.get("part") == target.part and row["work"].startswith(target.work)]
    by = {row["engine"]: NUMBERS[target.unit](row) for row in found if row["engine"] in ("fast", "baseline")}
    today, before = by.get("fast"), by.get("baseline")
    ratio = None if today is None or not before else today / before
    if target.unit in RATIOS:
        ratio = next((row[RATIOS[target.unit]] for row in found if row["engine"] == "fast"), None)
    judged = ratio if target.kind == RATIO else today
    verdict = NOT_MEASURED
    if judged is not None:
        fits = all(_fits(target, row, usual) for row in found)
        verdict = verdict_of(judged, target.kind, target.goal) if fits else OTHER_SIZE
    sign = ">=" if target.kind == AT_LEAST else "<="
    wanted = f"{sign} {number(target.goal, 2)}" + " x" * (target.kind == RATIO)
    shown = whole if target.unit == ROUNDS else number
    cells = [DASH if value is None else shown(value) for value in (before, today)]
    return target.what, target.unit, *cells, DASH if ratio is None else f"{number(ratio, 2)} x", wanted, verdict


def _fits(target: Target, row: Row, usual: bool) -> bool:
    """Return whether the work has the size for which the target was set."""
    if target.part == "gradient":
        return usual
    return target.size in row["work"] if target.size else row["work"] == target.work


def verdict_of(value: float, kind: str, goal: float) -> str:
    """Return 'met', or by how much the goal is missed: in its unit, and as a share of it."""
    gap = goal - value if kind == AT_LEAST else value - goal
    return "met" if gap <= 0 else f"missed by {number(gap, 2)} ({100 * gap / goal:.0f} %)"
