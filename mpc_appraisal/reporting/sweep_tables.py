"""The figures of a sweep: agreement with the truth, paired comparisons and cost, as pandas frames.

    agreement of a run and method = Spearman's correlation of value and true utility over the candidates,
                                    or minus that of value and level where no utility is known
    paired difference = mean over seeds of (agreement of one method - agreement of another, same condition and seed)
    95% interval      = mean ± t(0.975, n - 1) s / sqrt(n), by Student's t, for n pairs of standard deviation s
    random band       = the middle 95% of 1,000 draws of the mean agreement over a condition's seeds, by random values

In goes the frame of `load`. A condition is what the settings that differ between runs say, the seed and the methods'
own settings aside; a method whose own settings differ counts as several methods. Out come frames with a row for each
run, for each method and condition, and for each pair. What is unknown is NaN. Columns may be added. Nothing may be
computed here that is not in the records, and a run that two folders hold counts once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import scipy  # It imports `scipy.stats` on first use.

from mpc_appraisal.reporting.load import SETTINGS
from mpc_appraisal.reporting.metrics import correlations, random_band_of_means
from mpc_appraisal.reporting.record import ERRORS
from mpc_appraisal.reporting.table import DASH

if TYPE_CHECKING:
    from pandas import DataFrame, Series

PLAINTEXT = "the same in plaintext"
TRUTH_ITSELF = "retraining"  # its value is the utility, so that its agreement says nothing
METHODS = "appraisal"
# Settings that make no condition: seeds are averaged over, and the others do not change a value.
NO_CONDITIONS = ("seed", "data.digest", "features.digest", METHODS, "session.threads", "session.timeout")
NO_CONDITIONS += ("session.join_timeout", "session.freeze_timeout")
NO_GROUPS = (METHODS, "baselines")
CONFIDENCE = 0.95


def prepared(
    frame: DataFrame, names: Sequence[str] | None = None, own: Mapping[str, Sequence[str]] | None = None
) -> tuple[DataFrame, list[str]]:
    """Return a copy of the frame with its conditions as texts, and the names of the conditions.

    The copy has a column for each condition, named by the setting, and `label`, the method with those of its own
    settings that differ.

    Args:
        frame: What `load` returns.
        names: The settings that tell conditions apart; by default those of `condition_names`.
        own: The settings of methods that tell labels apart; by default those of `own_settings`.
    """
    names = condition_names(frame) if names is None else list(names)
    copy = frame.copy()
    for name in names:
        column = f"{SETTINGS}{name}"
        copy[name] = _texts(frame[column]) if column in frame else DASH
    copy["label"] = _labels(frame, own_settings(frame) if own is None else own)
    return copy, names


def condition_names(frame: DataFrame) -> list[str]:
    """Return the settings that tell the conditions of a frame apart, without their prefix.

    A setting that another one determines, as the data set determines its default size, is left out.
    """
    stated = [column.removeprefix(SETTINGS) for column in frame.columns if column.startswith(SETTINGS)]
    stated = [key for key in stated if key not in NO_CONDITIONS and key.split(".")[0] not in NO_GROUPS]
    kept: list[str] = []
    told_apart = 1
    for key in sorted(stated, key=lambda key: (key.count("."), stated.index(key))):
        texts = [_texts(frame[f"{SETTINGS}{one}"]) for one in (*kept, key)]
        count = len(set(zip(*texts, strict=True)))
        if count > told_apart:
            kept.append(key)
            told_apart = count
    return kept


def _texts(column: Series) -> Series:
    return column.map(lambda value: DASH if _unknown(value) else f"{value:g}" if _number(value) else str(value))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def own_settings(frame: DataFrame) -> dict[str, list[str]]:
    """Return, by method, the names of those of its settings that differ between its rows, the run's seed aside."""
    found: dict[str, list[str]] = {}
    for method in frame["method"].unique():
        rows, prefix = frame["method"] == method, f"{SETTINGS}{METHODS}.{method}."
        for column in (one for one in frame.columns if one.startswith(prefix)):
            texts = _texts(frame.loc[rows, column])
            if texts.nunique() > 1 and not (texts == _texts(frame.loc[rows, "seed"])).all():
                found.setdefault(method, []).append(column.removeprefix(prefix))
    return found


def _labels(frame: DataFrame, own: Mapping[str, Sequence[str]]) -> Series:
    """Return each row's method, with its settings that `own` names."""
    labels = frame["method"].astype(object)
    for method, keys in own.items():
        rows = frame["method"] == method
        for key in keys:
            column = f"{SETTINGS}{METHODS}.{method}.{key}"
            labels[rows] += f" {key}=" + (_texts(frame.loc[rows, column]) if column in frame else DASH)
    return labels


# ---- runs ----


def runs_table(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return one row for each method of each run: its agreement, its difference from plaintext, and its cost.

    Of runs that agree in condition, method and seed the first finished one is kept; `attrs["repeated"]` counts the
    others. frame, names: what `prepared` returns.
    """
    import pandas

    rows = []
    for (sweep, folder, label), group in frame.groupby(["sweep", "folder", "label"], sort=False):
        first = group.iloc[0]
        rows.append(
            {"sweep": sweep, "folder": folder, "finished": bool(first["finished"])}
            | {name: first[name] for name in names}
            | {"method": label, "kind": first["method"], "session": first["session"], "seed": first["seed"]}
            | agreement_of(group)
            | cost_of(group)
        )
    runs = pandas.DataFrame(rows).sort_values("finished", ascending=False, kind="stable")
    kept = runs.drop_duplicates([*names, "method", "seed"]).sort_index().reset_index(drop=True)
    kept.attrs = {"repeated": len(runs) - len(kept)}
    return kept


def agreement_of(group: DataFrame) -> dict[str, Any]:
    """Return the agreement of one run's method with the truth, of its private and of its plaintext values."""
    truth = "utility" if _has(group, "utility") else "level" if _has(group, "level") else None
    found: dict[str, Any] = {"candidates": len(group), "truth": truth, "agreement": math.nan}
    found |= {"plaintext_agreement": math.nan, "mean_difference": math.nan, "largest_difference": math.nan}
    if _has(group, "difference"):
        sizes = group["difference"].dropna().abs()
        found |= {"mean_difference": sizes.mean(), "largest_difference": sizes.max()}
    if truth is None or group["method"].iloc[0] in (TRUTH_ITSELF, *ERRORS):
        return found
    for key, column in (("agreement", "value"), ("plaintext_agreement", "plaintext_value")):
        if _has(group, column):
            known = group[[column, truth]].dropna()
            rank = correlations(known[column].tolist(), known[truth].tolist())["spearman"]
            found[key] = math.nan if rank is None else rank if truth == "utility" else -rank
    return found


def cost_of(group: DataFrame) -> dict[str, Any]:
    """Return what one run's method cost for all its candidates together."""
    return {
        "seconds": group["total_seconds"].sum(),
        "megabytes": group["megabytes"].sum(),
        "rounds": int(group["rounds"].sum()),
    }


def _has(group: DataFrame, column: str) -> bool:
    return column in group and bool(group[column].notna().any())


# ---- methods and conditions ----


def summary_table(frame: DataFrame, runs: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return one row for each condition and method: mean and standard deviation over seeds, and the random band.

    frame, names: what `prepared` returns; runs: what `runs_table` makes of them. `random_low` and `random_high` are the
    band of the row's condition.
    """
    import pandas

    rows = []
    bands = random_bands(frame, runs, names)
    for _, group in runs.groupby([*names, "method"], sort=False):
        first, agreements = group.iloc[0], group["agreement"].dropna()
        low, high = bands.get(tuple(first[name] for name in names)) or (math.nan, math.nan)
        rows.append(
            {name: first[name] for name in (*names, "method")}
            | {"seeds": group["seed"].nunique(), "truth": first["truth"]}
            | {"agreement_mean": agreements.mean(), "agreement_sd": agreements.std()}
            | {"random_low": low, "random_high": high}
            | {"mean_difference": group["mean_difference"].mean()}
            | {"largest_difference": group["largest_difference"].max()}
            | {"seconds_mean": group["seconds"].mean(), "seconds_sd": group["seconds"].std()}
            | {f"{key}_mean": group[key].mean() for key in ("megabytes", "rounds")}
        )
    return pandas.DataFrame(rows)


def random_bands(
    frame: DataFrame, runs: DataFrame, names: Sequence[str]
) -> dict[tuple[str, ...], tuple[float, float] | None]:
    """Return, by condition, the band of the mean agreement over seeds that random values reach; see the file's head.

    Each seed counts once, with the truth of its first run. The arguments are those of `summary_table`.
    """
    truths = {key: group for key, group in frame.groupby(["sweep", "folder", "label"], sort=False)}
    known = runs[runs["agreement"].notna()].drop_duplicates([*names, "seed"])
    found: dict[tuple[str, ...], list[list[float]]] = {}
    for row in known.to_dict("records"):
        group, truth = truths[row["sweep"], row["folder"], row["method"]], row["truth"]
        reference = group[["value", truth]].dropna()[truth] * (1 if truth == "utility" else -1)
        found.setdefault(tuple(row[name] for name in names), []).append(reference.tolist())
    return {key: random_band_of_means(references) for key, references in found.items()}


def paired_table(runs: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return the paired comparisons in each condition: each private method with its plaintext values, and all pairs.

    A positive difference says that `method` agrees better with the truth than `compared_with`.
    """
    import pandas

    rows = []
    for _, group in _conditions(runs, names):
        where = {name: group.iloc[0][name] for name in names}
        known = group[group["agreement"].notna()]
        for label, one in known.groupby("method", sort=False):
            private = one[(one["session"] != "plain") & one["plaintext_agreement"].notna()]
            if len(private):
                differences = private["agreement"] - private["plaintext_agreement"]
                rows.append(where | {"method": label, "compared_with": PLAINTEXT} | interval(differences.tolist()))
        for a, b in combinations(known["method"].unique(), 2):
            differences = paired_differences(known, a, b, ["seed"])
            if differences:
                rows.append(where | {"method": a, "compared_with": b} | interval(differences))
    columns = [*names, "method", "compared_with", "pairs", "difference", "low", "high"]
    return pandas.DataFrame(rows, columns=columns)


def _conditions(runs: DataFrame, names: Sequence[str]) -> Any:
    return runs.groupby(list(names), sort=False) if names else [((), runs)]


def paired_differences(runs: DataFrame, a: str, b: str, keys: Sequence[Hashable]) -> list[float]:
    """Return agreement of `a` minus agreement of `b` for each pair of runs with equal keys."""
    left, right = (runs[runs["method"] == label].set_index(list(keys))["agreement"].dropna() for label in (a, b))
    return (left - right).dropna().tolist()


def interval(differences: Sequence[float]) -> dict[str, float]:
    """Return number, mean and the 95% interval of the mean by Student's t; NaN ends for fewer than two."""
    n = len(differences)
    mean = math.fsum(differences) / n
    if n < 2:
        return {"pairs": n, "difference": mean, "low": math.nan, "high": math.nan}
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (n - 1))
    half = float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * deviation / math.sqrt(n)
    return {"pairs": n, "difference": mean, "low": mean - half, "high": mean + half}


def levels_table(frame: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return mean and standard deviation over seeds of the value at each level, by condition and method.

    A scenario's level is the corruption of a candidate. The frame is empty where no level is known.
    """
    import pandas

    columns = [*names, "method", "level", "seeds", "value_mean", "value_sd"]
    if not _has(frame, "level") or not _has(frame, "value"):
        return pandas.DataFrame(columns=columns)
    once = frame.drop_duplicates([*names, "label", "seed", "candidate"])
    known = once[once["value"].notna() & once["level"].notna() & ~once["method"].isin([TRUTH_ITSELF, *ERRORS])]
    grouped = known.groupby([*names, "label", "level"], sort=False)["value"]
    table = grouped.agg(seeds="count", value_mean="mean", value_sd="std").reset_index()
    return table.rename(columns={"label": "method"})[columns]
