"""The pre-flight's calibration: what a value of so many rows means to the model owner, in a measure that it knows.

    t(n)     = t + c / 2 (N / (N + n) - N / (N + m))    the threshold, for influence alone; t is that of the parts
    level(N) = a + b N^-alpha                    the learning curve: the measure after training with N own rows
    G(n)     = level(N + n) - level(N)           what n more rows of one's own would bring to the model of N rows
    gain     = G(n) psi(value)                   psi: isotonic regression of gain / G(rows) on the value, over the parts
    interval = G(n) (psi(value) + q)             q: quantiles of what a part leaves to the psi of the other parts
    own rows = the k at which G(k) = gain
    open     = the values at which phi(value) + q is on both sides of 0     phi: isotonic regression of utility on value

n is the number of the candidate's rows, m that of a part's rows and N that of the training rows; c is the value of a
part that is not spoilt, and psi is shifted as the threshold is. The value is per row where the method sums over rows. A
gain is how much the measure (accuracy, in points) improves by retraining. Parts with known values and gains, and levels
of models of fewer own rows go in. A `Calibration` comes out: arithmetic on a few numbers, which JSON has. G takes the
number of rows out of the gain, so that parts of a few hundred rows say something of larger candidates.
docs/preflight.md derives the formulas, and says what was measured with them and where they failed.

The names of fields have to stay, because JSON has them. A quantile may only be taken of residuals of parts that psi has
not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy  # which imports `scipy.optimize` when it is first used: half a second that most processes need not spend

LEVEL = 0.9  # of the intervals
RATES = (0.5, 1.0)  # alpha is in between: the slow and the fast rate at which excess risks fall with the rows
REACH = 3.0  # times N: own rows beyond which the learning curve is not believed


@dataclass(frozen=True)
class Part:
    """Hold a candidate made of held-out rows whose gain is known.

    Attributes:
        value: The method's value, per row where the method sums over rows.
        rows: The number of rows.
        gain: How much the measure improves by retraining.
    """

    value: float
    rows: int
    gain: float


@dataclass(frozen=True)
class SizeTerm:
    """Hold how a threshold for influence depends on the number of rows: few rows sample their source badly.

    To second order, retraining with a share s = n / (N + n) of new rows gains s value - s^2 / 2 g' H^-1 g, g being the
    candidate's mean gradient. Its sampling adds tr(H^-1 S) / n to the last factor, S being the covariance of a row's
    gradient; c, what the model lacks by the sampling of its own N rows, is about tr(H^-1 S) / N. The least value that
    gains anything hence has the term s / 2 c N / n = c / 2 N / (N + n). docs/preflight.md derives it.

    Attributes:
        own: N.
        rows: m.
        clean: c.
    """

    own: int
    rows: int
    clean: float

    def of(self, rows: int) -> float:
        """Return t(rows) - t."""
        return self.clean / 2 * (self.own / (self.own + rows) - self.own / (self.own + self.rows))


@dataclass(frozen=True)
class Expected:
    """Hold what retraining with a candidate is expected to bring.

    Attributes:
        gain: The expected improvement of the measure.
        low, high: The ends of its interval, which holds `LEVEL` of parts like those that calibrated it.
        own_rows: The number of rows of one's own that improve the measure as much; 0 for a gain of 0 or less.
        beyond: Whether it takes more own rows than the learning curve covers; then `own_rows` is the most it covers.
    """

    gain: float
    low: float
    high: float
    own_rows: int
    beyond: bool


@dataclass(frozen=True)
class Curve:
    """Hold the learning curve of own rows: the measure improves as -scale N^-alpha.

    Attributes:
        rows: N, the number of own rows.
        scale, alpha: b and alpha; b has the sign that makes a gain positive.
    """

    rows: int
    scale: float
    alpha: float

    def gain(self, more: float) -> float:
        """Return G(more), the improvement by so many more own rows."""
        return self.scale * (self.rows**-self.alpha - (self.rows + more) ** -self.alpha)

    def rows_for(self, gain: float) -> tuple[int, bool]:
        """Return (the number of own rows whose gain is as large, whether it is more than the curve covers)."""
        if gain <= 0:
            return 0, False
        if gain > self.gain(REACH * self.rows):
            return round(REACH * self.rows), True
        left = self.rows**-self.alpha - gain / self.scale
        return round(left ** (-1 / self.alpha) - self.rows), False


@dataclass(frozen=True)
class Calibration:
    """Hold what a value means; see the head of this file.

    Attributes:
        measure, unit: What is gained and in which unit, for example accuracy in points.
        per_row: Whether the method's value is a sum over rows.
        values, levels: The knots of psi; between them it is linear, and outside them constant.
        below, above: The quantiles q, of (1 - LEVEL) / 2 at either end.
        curve: The learning curve.
        rows: m, the number of rows of a part.
        parts: The number of parts.
        size: How values of other numbers of rows compare; None where they compare as they are.
    """

    measure: str
    unit: str
    per_row: bool
    values: tuple[float, ...]
    levels: tuple[float, ...]
    below: float
    above: float
    curve: Curve
    rows: int
    parts: int
    size: SizeTerm | None = None

    def expected(self, value: float, rows: int) -> Expected:
        """Return what is expected of a candidate of so many rows with this value."""
        level = float(np.interp(self._alike(value, rows), self.values, self.levels))
        return self._scaled(level, level + self.below, level + self.above, rows)

    def expected_side(self, threshold: float, reached: bool, rows: int) -> Expected | None:
        """Return what is expected where one bit alone is known: whether the value reached `threshold`.

        The candidate may be like any of the parts on that side: the gain is their mean, and the interval holds the
        intervals of all. Returns None where no part is on that side.
        """
        limit = self._alike(threshold, rows)
        levels = [y for x, y in zip(self.values, self.levels, strict=True) if (x >= limit) == reached]
        if not levels:
            return None
        return self._scaled(float(np.mean(levels)), min(levels) + self.below, max(levels) + self.above, rows)

    def marks(self, threshold: float | None) -> list[float]:
        """Return the least and the largest value of the parts, and the threshold where there is one."""
        return sorted({self.values[0], self.values[-1]} | ({threshold} - {None}))

    def _alike(self, value: float, rows: int) -> float:
        """Return the value that a part would have that is as good as a candidate of so many rows with this value."""
        return value / (rows if self.per_row else 1) - (0.0 if self.size is None else self.size.of(rows))

    def _scaled(self, level: float, low: float, high: float, rows: int) -> Expected:
        full = self.curve.gain(rows)
        return Expected(full * level, full * low, full * high, *self.curve.rows_for(full * level))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as numbers, texts, lists and one dictionary."""
        return asdict(self)

    @staticmethod
    def of(entries: Mapping[str, Any]) -> Calibration:
        """Return the calibration whose `as_dict` is `entries`, as JSON gives it back."""
        lists = {key: tuple(entries[key]) for key in ("values", "levels")}
        size = None if entries["size"] is None else SizeTerm(**entries["size"])
        return Calibration(**{**entries, **lists, "curve": Curve(**entries["curve"]), "size": size})


def calibration_of(
    parts: Sequence[Part], curve: Curve | None, measure: str, unit: str, per_row: bool, size: SizeTerm | None = None
) -> Calibration | None:
    """Return the calibration that the parts give.

    Returns None without a curve, for then nothing says how a gain grows with the rows, and for fewer than three parts.
    """
    if curve is None or len(parts) < 3:
        return None
    x = np.array([part.value for part in parts], dtype=np.float64)
    y = np.array([part.gain / curve.gain(part.rows) for part in parts], dtype=np.float64)
    below, above = quantiles(_left(x, y))
    knots, levels = isotonic(x, y)
    facts = (below, above, curve, max(part.rows for part in parts), len(parts), size)
    return Calibration(measure, unit, per_row, tuple(knots.tolist()), tuple(levels.tolist()), *facts)


def curve_of(rows: Sequence[int], levels: Sequence[float], own: int) -> Curve | None:
    """Return the learning curve by least squares.

    Args:
        rows: The numbers of rows of models; two different ones or more.
        levels: The measure of each model, higher for a better model.
        own: N, the number of own rows from which on gains are counted.

    For each alpha, a and b are found by `numpy.polyfit`, and alpha by `scipy.optimize.minimize_scalar` within RATES.
    Returns None where more rows bring nothing.
    """
    n, y = np.asarray(rows, dtype=np.float64), np.asarray(levels, dtype=np.float64)
    if len(np.unique(n)) < 2:
        return None

    def line(alpha: float) -> tuple[float, float]:
        slope, start = np.polyfit(n**-alpha, y, 1)
        return float(slope), float(np.square(y - start - slope * n**-alpha).sum())

    alpha = RATES[1]
    if len(np.unique(n)) > 2:
        alpha = float(scipy.optimize.minimize_scalar(lambda a: line(a)[1], bounds=RATES, method="bounded").x)
    slope = line(alpha)[0]
    return Curve(int(own), -slope, alpha) if slope < 0 else None


def isotonic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (knots, levels) of the rising isotonic regression of y on x, with a knot for each different x."""
    knots, place = np.unique(x, return_inverse=True)
    weights = np.bincount(place).astype(np.float64)
    means = np.bincount(place, weights=y) / weights
    return knots, scipy.optimize.isotonic_regression(means, weights=weights).x


def _left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return what each y leaves to the isotonic regression on x of all others."""
    others = [np.arange(len(x)) != k for k in range(len(x))]
    return np.array([y[k] - np.interp(x[k], *isotonic(x[kept], y[kept])) for k, kept in enumerate(others)])


def open_range(values: np.ndarray, utilities: np.ndarray) -> tuple[float | None, float | None]:
    """Return the range of values at which the interval of the utility, of level LEVEL, holds 0.

    Below its lower end all of the interval is at most 0, and from its upper end on all of it is above 0. An end is None
    where no value among those of the parts is so low, or so high.
    """
    x, y = np.asarray(values, dtype=np.float64), np.asarray(utilities, dtype=np.float64)
    below, above = quantiles(_left(x, y))
    knots, levels = isotonic(x, y)
    low = None if levels[0] + above > 0 else _crossing(knots, levels + above)
    return low, None if levels[-1] + below <= 0 else _crossing(knots, levels + below)


def _crossing(knots: np.ndarray, levels: np.ndarray) -> float:
    """Return the least value at which rising levels are above 0, linear between the knots; the last if none is."""
    k = int(np.searchsorted(levels, 0.0, side="right"))
    if k in (0, len(knots)):
        return float(knots[min(k, len(knots) - 1)])
    return float(np.interp(0.0, levels[k - 1 : k + 1], knots[k - 1 : k + 1]))


def zero_of(values: np.ndarray, gains: np.ndarray) -> float | None:
    """Return the value at which the isotonic regression of gains on values crosses 0, linear between its knots.

    Returns None where all gains, or none, are above 0.
    """
    if (gains > 0).all() or not (gains > 0).any():
        return None
    knots, levels = isotonic(np.asarray(values, dtype=np.float64), np.asarray(gains, dtype=np.float64))
    k = int(np.searchsorted(levels, 0.0, side="right"))  # the first level above 0
    if k == 0:
        return float(knots[0])
    if k == len(knots):
        return float(np.nextafter(knots[-1], np.inf))
    return float(np.interp(0.0, levels[k - 1 : k + 1], knots[k - 1 : k + 1]))


def quantiles(left: np.ndarray) -> tuple[float, float]:
    """Return the ends between which LEVEL of what is left lies, by the ranks of split conformal prediction.

    Of n numbers these are the k-th from either end, k = floor((n + 1) (1 - LEVEL) / 2), and the outermost where k is 0.
    The interval always holds 0.
    """
    ordered = np.sort(left)
    k = max(1, math.floor((len(ordered) + 1) * (1 - LEVEL) / 2 + 1e-9))
    return float(min(ordered[k - 1], 0.0)), float(max(ordered[-k], 0.0))
