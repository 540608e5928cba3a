"""Detection of corrupted sets, such as mislabelled ones: do they have lower values than clean ones?

    score = P( f(clean) > f(corrupted) ) + P( f(clean) = f(corrupted) ) / 2

f is the value by a method; clean candidates have level 0, and corrupted ones, as a scenario made them, a level above 0.
The score is the area under the receiver operating characteristic of -f as a detector of corruption (the Mann-Whitney
statistic over the number of pairs): 1 where every corrupted candidate is below every clean one, 1/2 for values that say
nothing. It is the field's usual test of a valuation, as in Jiang et al., "OpenDataVal" (NeurIPS 2023).

Where no candidate is clean, the less corrupted half, up to the median level, takes the place of the clean ones, and the
note says so. Values and levels go in; one `Measured` for each method comes out. The formula has to stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy  # It imports `scipy.stats` on first use.

from mpc_appraisal.methods.evaluation.ranks import DRAWS, middle
from mpc_appraisal.reporting.measured import DETECTION, Measured


def detection(values: Mapping[str, Mapping[str, float]], levels: Mapping[str, float], seed: int = 0) -> list[Measured]:
    """Return the detection score of each method.

    Args:
        values: The value of each candidate, by method and by candidate.
        levels: The level of corruption of each candidate that has one, 0 or more.
        seed: The seed of the random values.
    """
    corrupted, note = _corrupted(levels)
    flags = np.array(list(corrupted.values()), dtype=bool)
    if not flags.any() or flags.all():
        return [Measured(DETECTION, method, None, note=note) for method in values]
    generator = np.random.default_rng(seed)
    random = middle(_areas(generator.random((DRAWS, len(flags))), flags))
    listed = np.array([[by_name[name] for name in corrupted] for by_name in values.values()])
    return [
        Measured(DETECTION, method, float(score), None, None, *random, note=note)
        for method, score in zip(values, _areas(listed, flags) if len(listed) else (), strict=True)
    ]


def _corrupted(levels: Mapping[str, float]) -> tuple[dict[str, bool], str]:
    """Return which candidates count as corrupted, and a sentence that says so."""
    if len(set(levels.values())) < 2:
        return dict.fromkeys(levels, False), "No levels of corruption that differ are known of the candidates."
    if 0 in levels.values():
        found = {name: level > 0 for name, level in levels.items()}
        what = "have a level above 0"
    else:
        middle_level = float(np.median(list(levels.values())))
        found = {name: level > middle_level for name, level in levels.items()}
        if not any(found.values()):  # the median is the largest level
            found = {name: level == middle_level for name, level in levels.items()}
        what = "are more corrupted than the others, none of which is clean"
    return found, f"{sum(found.values())} of {len(found)} candidates {what}."


def _areas(values: np.ndarray, corrupted: np.ndarray) -> np.ndarray:
    """Return the score of each row of `values` (draws, n), by the ranks of the clean candidates."""
    ranks, clean = scipy.stats.rankdata(values, axis=1), int((~corrupted).sum())
    return (ranks[:, ~corrupted].sum(1) - clean * (clean + 1) / 2) / (clean * (len(corrupted) - clean))
