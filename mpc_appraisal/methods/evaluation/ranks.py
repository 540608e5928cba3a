"""Rank correlations of many drawings at once, their bootstrap, and the range in which random values lie.

Arrays of shape (n,) or (draws, n) go in, one drawing a row; numbers come out. The interval is the percentile bootstrap:
the pairs are drawn anew with replacement, and the middle 95% of the correlations are the interval. DRAWS and SHARE may
change at all measures at once, which state them together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # It imports `scipy.stats` on first use.

DRAWS = 1000
SHARE = 0.95


def rank_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row of `a` with that row of `b`, or with the one row `b`.

    A correlation is NaN where a row is constant or has fewer than two numbers.
    """
    a, b = (scipy.stats.rankdata(np.atleast_2d(np.asarray(x, dtype=np.float64)), axis=1) for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)), -1, 1)


def rank_correlation(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float | None:
    """Return Spearman's correlation; None where a side is constant or there are fewer than two pairs."""
    (found,) = rank_correlations(np.asarray(a), np.asarray(b))
    return None if np.isnan(found) else float(found)


def middle(scores: Sequence[float] | np.ndarray) -> tuple[float | None, float | None]:
    """Return the ends of the middle 95% of the scores that are no NaN; (None, None) where there are none."""
    known = np.asarray(scores, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return None, None
    low, high = np.quantile(known, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


def bootstrap(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    """Return the 95% interval of the rank correlation of two arrays of shape (n,)."""
    drawn = np.random.default_rng(seed).integers(0, len(a), (DRAWS, len(a)))
    return middle(rank_correlations(a[drawn], b[drawn]))
