"""The three numbers that lead a page: what a run, a sweep or a comparison found, each beside the words that say what.

Records or the frames of a sweep go in; pairs of a number and words come out, at most three. Which numbers lead may be
changed. A tile may say nothing that the records do not hold, so that a page has fewer tiles where less is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.record import ERRORS
from mpc_appraisal.reporting.run_records import RunRecords
from mpc_appraisal.reporting.table import DASH, counted, number

if TYPE_CHECKING:
    from pandas import DataFrame

    from mpc_appraisal.reporting.sweep_data import SweepData

NAME = 22  # the most characters of a candidate's name on a tile
Tile = tuple[str, str]
TRUTHS = {"utility": "the true utility: the higher, the better", "level": "corruption: the lower, the better"}


def run_tiles(result: RunRecords) -> list[Tile]:
    """Return the best candidate, how the values agree with the truth, what was opened, and what it cost.

    Of several methods the one whose values rank as the true utility does is shown.
    """
    methods = [m for m in result.methods if not result.of(m)[0].baseline and m not in ERRORS]
    if not methods:
        return []
    method = max(methods, key=lambda m: _rank_with_utility(result, m))  # the first one where no utility is known
    records = result.of(method)
    tiles = [_best(result, method), *_agreement(result, method)]
    private = [record for record in result if record.session != "plain" and not record.baseline]
    if len(tiles) < 2:
        opened = sum(one["numbers"] for record in private for one in record.openings)
        tiles.append((str(opened), f"number{'s' * (opened != 1)} opened, of {counted(len(records), 'candidate')}"))
    each = f"in all, for {counted(len(records), 'candidate')} and {counted(len(_appraised(result)), 'method')}"
    seconds = sum(record.total_seconds for record in private or result if not record.baseline)
    sent = sum(record.megabytes for record in private)
    spent = f"{number(seconds, 3)} s" + (f", {number(sent, 3)} MB" if private else "")
    return [*tiles, (spent, f"{'computing and sent' if private else 'computing in the clear'}, {each}")]


def _appraised(result: RunRecords) -> list[str]:
    return [m for m in result.methods if not result.of(m)[0].baseline]


def _best(result: RunRecords, method: str) -> Tile:
    """Return the best candidate, or how many reached the threshold, or how many there are."""
    records = result.of(method)
    of = counted(len(records), "candidate")
    if any(record.decision is not None for record in records):
        yes = sum(bool(record.decision) for record in records)
        return (f"{yes} of {len(records)}", f"candidates reached the threshold, by {method}")
    try:
        best = result.best(method)
    except InputError:
        return (str(len(records)), f"candidates appraised by {method}")
    name = shown(best.candidate, 300)
    name = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
    if len(records) == 1 and best.value is not None:
        return (number(best.value), f"the value of {name} by {method}")
    return (name, f"has the highest value of {of} by {method}")


def _rank_with_utility(result: RunRecords, method: str) -> float:
    rank = result.correlations().get(method, {}).get("utility", {}).get("spearman")
    return -math.inf if rank is None else rank


def _agreement(result: RunRecords, method: str) -> list[Tile]:
    found = result.correlations().get(method, {})
    for reference, words in TRUTHS.items():
        rank = found.get(reference, {}).get("spearman")
        if rank is not None:
            return [(f"{rank:.3f}", f"rank correlation of {method} with {words}")]
    return []


def ranked(sweep: SweepData) -> tuple[DataFrame, DataFrame]:
    """Return the runs whose agreement is known, and mean, std and count by method, baselines aside, best first."""
    known = sweep.per_run[sweep.per_run["agreement"].notna()]
    by_method = (
        known[~known["method"].isin(sweep.baselines)].groupby("method")["agreement"].agg(["mean", "std", "count"])
    )
    return known, by_method.sort_values("mean", ascending=False)


def pooled(known: DataFrame, names: Sequence[str], a: str, b: str) -> list[float]:
    """Return the differences of agreement between two methods, of the same condition and seed."""
    keys = [*names, "seed"]
    left, right = (known[known["method"] == m].set_index(keys)["agreement"] for m in (a, b))
    return (left - right).dropna().tolist()


def sweep_tiles(sweep: SweepData, runs_too: bool = True) -> list[Tile]:
    """Return the best mean agreement, its lead over the next method or the number of runs, and the cost of a run.

    runs_too: whether the number of runs stands in the place of a number that is not known.
    """
    runs = sum(run.result is not None for run in sweep.runs)
    counts = (str(runs), f"whole run{'s' * (runs != 1)} of {len(sweep.runs)}")
    if not len(sweep.results):
        return [counts]
    known, table = ranked(sweep)
    tiles, best = [], None
    if len(table):
        best, found = table.index[0], table.iloc[0]
        words = f"mean agreement of {best} with the truth"
        tiles.append(
            (f"{found['mean']:+.2f}", words + (f", the best of {len(table)} methods" if len(table) > 1 else ""))
        )
    pairs = pooled(known, sweep.names, best, table.index[1]) if len(table) > 1 else []
    if pairs:
        lead = math.fsum(pairs) / len(pairs)
        tiles.append((f"{lead:+.2f}", f"its lead over {table.index[1]}, as a mean of {counted(len(pairs), 'pair')}"))
    paid = sweep.per_run[~sweep.per_run["method"].isin(sweep.baselines)]
    own = paid[paid["method"] == best] if best is not None else paid
    if len(own):
        mean = own[["seconds", "megabytes"]].mean()
        sent = f", {number(mean['megabytes'], 3)} MB" if mean["megabytes"] > 0 else ""
        who = best if best is not None else "a method"
        tiles.append((f"{number(mean['seconds'], 2)} s{sent}", f"a run of {who}, all candidates together"))
    return ([counts] if runs_too and len(tiles) < 3 else []) + tiles


def comparison_tiles(rows: DataFrame) -> list[Tile]:
    """Return how B's agreement, values and seconds stand to those of A, over the rows that both have."""
    both = rows[rows["seeds_a"].notna() & rows["seeds_b"].notna()]
    tiles = []
    if both["agreement_difference"].notna().any():
        mean = float(both["agreement_difference"].mean())
        tiles.append((f"{mean:+.3f}", "agreement with the truth, B minus A, mean over the rows in both"))
    if both["value_difference"].notna().any():
        largest = number(float(both["value_difference"].max()), 3)
        tiles.append((largest, "largest difference of two values of the same seed and candidate"))
    total = both["seconds_mean_a"].sum()
    if total > 0:
        tiles.append((f"{both['seconds_mean_b'].sum() / total:.3g} x", "the seconds of A: what B takes"))
    if len(tiles) < 3 and len(rows):
        tiles.append((f"{len(both)} of {len(rows)}", "rows (methods by condition) stand in both sweeps"))
    return tiles or [(DASH, "nothing is in both sweeps")]
