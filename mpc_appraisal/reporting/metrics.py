"""How well values agree with a reference: rank correlation (Spearman) and linear correlation (Pearson).

Values and reference values go in, one pair for each candidate. Both correlations, or ranks, come out, and the band of
correlations that random values reach. Xu, van der Maaten and Hannun (2022) do not say which of the two correlations
their tables print, so that both are reported. What is undefined has to be None and never NaN, because records and JSON
hold no NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # It imports `scipy.stats` on first use, so that most processes save half a second.

from mpc_appraisal.common.errors import InputError

DRAWS = 1000  # sets of random values of which a band is made
COVERED = 0.95  # the share of these draws that lies in the band
BAND = "random, 95%"  # the header of a column of such bands


def correlations(values: Sequence[float], reference: Sequence[float]) -> dict[str, float | None]:
    """Return {"spearman": r, "pearson": r}.

    A correlation is None if it is not defined: for fewer than two pairs, or if one side is constant or not finite.
    Raises InputError if the lengths differ.
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


def random_band(reference: Sequence[float], seed: int = 0) -> dict[str, tuple[float, float] | None]:
    """Return {"spearman": (low, high), "pearson": (low, high)}: the correlations that values without meaning reach.

        values ~ uniform on [0, 1), a draw for each of DRAWS sets; low and high leave out 2.5% of the draws each

    reference: the reference value of each candidate. A band is None where no correlation is defined.
    """
    known = np.asarray(reference, dtype=np.float64)
    if known.size < 2 or not np.isfinite(known).all() or not np.ptp(known) > 0:
        return {"spearman": None, "pearson": None}
    draws = np.random.default_rng(seed).random((DRAWS, known.size))
    return {"spearman": _middle(_rank_with_each(draws, known)), "pearson": _middle(_with_each(draws, known))}


def random_band_of_means(references: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float] | None:
    """Return the band in which the mean of several runs' rank correlations lies where all values are random.

        mean over runs of Spearman's correlation of the run's reference with values ~ uniform on [0, 1), DRAWS times

    references: the reference values of each run's candidates. A run without a defined correlation does not count; the
    band is None where no run counts.
    """
    generator = np.random.default_rng(seed)
    each = [np.asarray(reference, dtype=np.float64) for reference in references]
    defined = [one for one in each if one.size >= 2 and np.isfinite(one).all() and np.ptp(one) > 0]
    drawn = [_rank_with_each(generator.random((DRAWS, one.size)), one) for one in defined]
    return _middle(np.mean(drawn, axis=0)) if drawn else None


def _middle(correlations: np.ndarray) -> tuple[float, float]:
    """Return the ends between which the share COVERED of these correlations lies."""
    low, high = np.quantile(correlations, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(low), float(high)


def _rank_with_each(draws: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row of `draws`, of shape (sets, candidates), with the reference."""
    return _with_each(scipy.stats.rankdata(draws, axis=1), scipy.stats.rankdata(reference))


def _with_each(draws: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each row of `draws`, of shape (sets, candidates), with the reference."""
    a, b = draws - draws.mean(1, keepdims=True), reference - reference.mean()
    return a @ b / (np.linalg.norm(a, axis=1) * np.linalg.norm(b))


def rank_of(values: Sequence[float]) -> list[float]:
    """Return the rank of each value. 1 is the lowest, and equal values share the mean of their ranks."""
    return scipy.stats.rankdata(np.asarray(values, dtype=np.float64)).tolist()


def _finite(number: float) -> float | None:
    """Return None for NaN, which spreads too small for float64 give."""
    return float(number) if np.isfinite(number) else None
