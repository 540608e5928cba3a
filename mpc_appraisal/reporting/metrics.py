"""How well values agree with a reference: rank (Spearman) and linear (Pearson) correlation.

Xu, van der Maaten and Hannun (2022) do not say which of the two their tables print, so both are reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # which imports `scipy.stats` when it is first used: half a second that most processes need not spend

from mpc_appraisal.common.errors import InputError


def correlations(values: Sequence[float], reference: Sequence[float]) -> dict[str, float | None]:
    """{"spearman": r, "pearson": r}; None where it is not defined: fewer than two pairs, a constant or non-finite side.

    Raises InputError when the lengths differ.
    """
    a, b = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InputError("values", a.shape, f"one number for each of the {b.shape} reference values")
    defined = a.size >= 2 and bool(np.isfinite(a).all() and np.isfinite(b).all()) and np.ptp(a) > 0 and np.ptp(b) > 0
    if not defined:
        return {"spearman": None, "pearson": None}
    return {
        "spearman": _finite(scipy.stats.spearmanr(a, b).statistic),
        "pearson": _finite(scipy.stats.pearsonr(a, b).statistic),
    }


def rank_of(values: Sequence[float]) -> list[float]:
    """Rank of each value: 1 is the lowest, equal values share the mean of their ranks."""
    return scipy.stats.rankdata(np.asarray(values, dtype=np.float64)).tolist()


def _finite(number: float) -> float | None:
    """None for the NaN that spreads too small for float64 give."""
    return float(number) if np.isfinite(number) else None
