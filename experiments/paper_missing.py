"""Beyond the paper: missing data, a third scenario."""

from __future__ import annotations

from collections.abc import Sequence

from paper_measure import KINDS, Row, agreements, drift, pick, seconds_of, seconds_text, spread
from paper_size import MISSING_L2, Size
from paper_sweep import Sweep

from mpc_appraisal.reporting.table import Table, number


def sweeps(size: Size) -> list[Sweep]:
    fixed = (*size.digits, "scenario=missing_data", f"model.l2={MISSING_L2}", "appraisal=all", "~appraisal.finetuning")
    return [Sweep("missing", (*fixed, "baselines.true_utility=True"), "seed", size.seeds)]


def table(rows: Sequence[Row]) -> Table:
    body = []
    for method in ("gradient_norm", "influence"):
        kept = pick(rows, "missing", method)
        body.append((
            method,
            *(spread(agreements(kept, against)[kind]) for against in ("level", "utility") for kind in KINDS),
            *(spread(agreements(kept, "utility", "plaintext")[kind]) for kind in KINDS),
            number(drift(kept), 2), seconds_text(seconds_of(kept)),
        ))  # fmt: skip
    count = len(kept[0]["candidate"])
    first = f"{'Ten' if count == 10 else count} candidates, of candidate p each pixel is set to 0 with probability "
    header = ("method", "missing share, Pearson", "missing share, Spearman", "utility, Pearson", "utility, Spearman",
              "plaintext: utility, Pearson", "plaintext: utility, Spearman", "drift",
              "private s a candidate")  # fmt: skip
    return Table("Beyond the paper: missing data", header, "lrrrrrrrr", body,
                 (f"{first}p/{count}. Our orientation, "
                  "higher = better: -1 against the missing share is best, +1 against utility. The gradient norm, "
                  "which reads a large gradient as bad data, takes missing data for good.",))  # fmt: skip
