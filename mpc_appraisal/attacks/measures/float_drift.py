"""The drift of float shares as a choice of the app: the mean of several sharings of one row comes close to the row.

The formula is that of `rtas.float_drift`, and the number of sharings is that of the run. In goes a `FloatSharesView`;
out comes the correlation of the means with the rows, for which a guess has 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.attacks.rtas import float_drift as drift
from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.views import FloatSharesView

TIMES = (1, 10, 100, 1000)  # the numbers of sharings of the curve, beside that of the run
KEY = bytes(32)  # of the simulated ring, the same each time


@dataclass(frozen=True)
class FloatDrift(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        rows: The number of rows whose shares are averaged; there may be fewer.
    """

    rows: int = 50

    name: ClassVar[str] = "float_drift"
    reads: ClassVar[str] = "float_shares"

    def __post_init__(self) -> None:
        integer("rows", self.rows, 1)

    def measure(self, view: FloatSharesView, seed: int) -> list[Finding]:
        """Average the shares of some rows, as `Attack.measure` describes it."""
        x = view.train.x[: self.rows]
        variance = float(x.double().var(correction=0))
        if not variance > 0:
            raise InputError("train", "rows that are all one number", "rows that differ, for attack=float_drift")
        times = sorted({*TIMES, view.sharings})
        means = drift.float_means(x, view.deviation, times, seed)
        ring = {count: drift.correlation(mean, x) for count, mean in drift.ring_means(x, times, KEY).items()}
        points = [
            {"sharings": count, "measured": drift.correlation(mean, x), "ring": ring[count],
             "expected": drift.expected(view.deviation, variance, count)} for count, mean in means.items()
        ]  # fmt: skip
        reached = next(point["measured"] for point in points if point["sharings"] == view.sharings)
        needed = drift.sharings(view.deviation, variance, 0.9)
        return [Finding(
            "float drift", f"{view.sharings} sharings of each row in the run; {needed:,} reach a correlation of 0.9",
            max(0.0, reached), 0.0, "correlation of the mean of one party's shares with the rows",
            "in the ring, where shares are uniform", abs(ring[view.sharings]), points=tuple(points),
        )]  # fmt: skip
