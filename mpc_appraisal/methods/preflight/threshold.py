"""The pre-flight's decision threshold: from which value on the model owner should buy.

    t = arg min  FA(t) + FR(t)      FA: share of the parts with utility <= 0 whose value is >= t  (bought, and bad)
                                    FR: share of the parts with utility > 0 whose value is < t    (good, and refused)

A part is a corrupted copy of held-out rows, and its utility is how much the test loss falls by retraining with it.
Values and utilities go in, and a `Threshold` comes out. The parts of all seeds calibrate t, which lies in the middle of
the widest gap between two neighbouring values, among the cuts that err least. The rates of error are counted on each
seed with a t from the other seeds, or with one seed on each part with a t from the other parts. Beside these rates
stand those of t = 0. The intervals are Clopper and Pearson's (95%). Parts of one seed share rows, so that the intervals
are too narrow rather than too wide. Whatever changes, a rate has to be counted on parts that did not calibrate its t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mpc_appraisal.data import Dataset
from mpc_appraisal.methods.preflight.calibration import SizeTerm
from mpc_appraisal.methods.preflight.result import PER_ROW, Rate, Threshold
from mpc_appraisal.models.training import union


def threshold_of(values: Sequence[float], good: Sequence[bool]) -> float | None:
    """Return t with the least FA + FR for accepting values >= t, in the middle of the widest gap among the best.

    Args:
        values: The values of the parts.
        good: Whether the utility of each part is above 0, in the same order.

    Returns None where all are good or all are bad: then nothing shows where good becomes bad.
    """
    order = np.argsort(values, kind="stable")
    sorted_values, sorted_good = np.asarray(values, dtype=np.float64)[order], np.asarray(good, dtype=bool)[order]
    goods, bads = int(sorted_good.sum()), int((~sorted_good).sum())
    if not goods or not bads:
        return None
    # A cut below position k accepts k, k + 1, ...; it lies between two values that differ, or outside all.
    rejected = np.concatenate([[0], np.cumsum(sorted_good)]) / goods
    accepted = 1 - np.concatenate([[0], np.cumsum(~sorted_good)]) / bads
    gaps = np.concatenate([[0.0], np.diff(sorted_values), [0.0]])
    allowed = gaps > 0
    allowed[[0, -1]] = True
    cost = np.where(allowed, rejected + accepted, np.inf)
    best = np.flatnonzero(cost <= cost.min() + 1e-12)
    k = int(best[np.argmax(gaps[best])])
    if k == 0:
        return float(sorted_values[0])
    if k == len(values):
        return float(np.nextafter(sorted_values[-1], np.inf))
    middle = (sorted_values[k - 1] + sorted_values[k]) / 2
    return float(middle if middle > sorted_values[k - 1] else sorted_values[k])


def least_errors(values: np.ndarray, utilities: np.ndarray) -> float | None:
    """Return `threshold_of` the values, with the parts of a utility above 0 for the good ones."""
    return threshold_of(values, utilities > 0)


def calibrated(
    values: Sequence[Sequence[float]],
    utilities: Sequence[Sequence[float]],
    unit: str,
    cut: Callable[[np.ndarray, np.ndarray], float | None] = least_errors,
    size: SizeTerm | None = None,
) -> Threshold:
    """Return the threshold and its rates of error.

    Args:
        values, utilities: By seed and part, both in the same order.
        unit: The unit of the values, from `unit_of`.
        cut: Finds t from values and utilities.
        size: How t depends on the number of rows.
    """
    flat = np.concatenate([np.asarray(row) for row in values])
    gains = np.concatenate([np.asarray(row) for row in utilities])
    good = gains > 0
    groups = np.repeat(np.arange(len(values)), [len(row) for row in values])
    if len(values) == 1:
        groups = np.arange(len(flat))
    accepts, rejects = [], []
    for group in np.unique(groups):
        out = groups == group
        t = cut(flat[~out], gains[~out])
        if t is not None:
            accepts += list(flat[out & ~good] >= t)
            rejects += list(flat[out & good] < t)
    zero = Rate.count(flat[~good] >= 0), Rate.count(flat[good] < 0)
    return Threshold(cut(flat, gains), unit, Rate.count(accepts), Rate.count(rejects), *zero, size)


def unit_of(value: Callable[[Dataset], float], part: Dataset) -> str:
    """Return the unit of a threshold, found by appraising `part` twice over.

    A value that doubles is a sum, and its threshold is per row. A value that stays is a mean, and its threshold holds
    for any size. Any other value has a threshold for candidates of about as many rows as `part` has.
    """
    one, two = value(part), value(union(part, part))
    if math.isclose(two, 2 * one, rel_tol=1e-6):
        return PER_ROW
    return "value" if math.isclose(two, one, rel_tol=1e-6) else f"value of {part.rows} rows"
