"""The pre-flight's verdict on a method: trusted, doubtful or inverted.

    r_s        = Spearman(value, utility) over the K parts of seed s
    w          = share of the swaps of two classes' labels that do not lower the value

    trusted    mean r_s >= 0.8,  every r_s > 0.5  and  w <= 0.08
    inverted   mean r_s <= -0.3,  or  w > 1/3 with a 95% interval above 0.08
    doubtful   otherwise, and where an r_s is undefined because all values are alike

A part is a corrupted copy of held-out rows, and its utility is how much the test loss falls by retraining with it.
Correlations and counts go in, and words or `Agreement`s come out. The cut-offs stand in `result`. They were set on
measurements, which docs/protocols/preflight.md describes: change neither without the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # which imports `scipy.stats` when it is first used: half a second that most processes need not spend

from mpc_appraisal.methods.preflight.result import (
    DOUBTFUL,
    INVERTED,
    MEAN,
    MOST_PAIRS,
    OPPOSITE,
    PAIRS,
    TRUSTED,
    WORST,
    Agreement,
    Rate,
)
from mpc_appraisal.reporting.metrics import correlations


def verdict_of(ranks: Sequence[float | None], wrong: int = 0, pairs: int = 0) -> str:
    """Return the verdict from r_s of each seed (None where it is undefined) and w = wrong / pairs."""
    swaps = Rate.count([True] * wrong + [False] * (pairs - wrong))
    share, sure_of = swaps.rate or 0.0, swaps.low or 0.0
    known = [r for r in ranks if r is not None]
    mean = float(np.mean(known)) if known else None
    if (share > MOST_PAIRS and sure_of > PAIRS) or (mean is not None and mean <= OPPOSITE):
        return INVERTED
    sure = len(known) == len(ranks) and mean is not None and mean >= MEAN and min(known) > WORST
    return TRUSTED if sure and share <= PAIRS else DOUBTFUL


def agreement_of(
    values: Sequence[Sequence[float]], truth: Sequence[Sequence[float]], kind: str, pooled: bool = False
) -> Agreement:
    """Return the correlation of values with the truth, both by seed and part.

    kind: "spearman" or "pearson". pooled: also correlate the parts of all seeds together, with a bootstrap interval.
    """
    by_seed = tuple(correlations(a, b)[kind] for a, b in zip(values, truth, strict=True))
    known = [r for r in by_seed if r is not None]
    mean, worst = (float(np.mean(known)), min(known)) if known else (None, None)
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
    if not pooled:
        return Agreement(mean, spread, worst, by_seed)
    a, b = np.concatenate([np.asarray(row) for row in values]), np.concatenate([np.asarray(row) for row in truth])
    together = correlations(a, b)[kind]
    if together is None:
        return Agreement(mean, spread, worst, by_seed)
    bounds = scipy.stats.bootstrap(
        (a, b),
        _rank_correlation,
        paired=True,
        vectorized=True,
        n_resamples=1_000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Agreement(mean, spread, worst, by_seed, together, float(bounds.low), float(bounds.high))


def _rank_correlation(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return Spearman's correlation along an axis; 0 for a resample whose values are all alike."""
    a, b = (scipy.stats.rankdata(side, axis=axis) for side in (a, b))
    a, b = (side - side.mean(axis, keepdims=True) for side in (a, b))
    size = np.sqrt((a**2).sum(axis) * (b**2).sum(axis))
    return np.where(size > 0, (a * b).sum(axis) / np.where(size > 0, size, 1.0), 0.0)
