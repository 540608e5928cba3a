"""Figure 5: ranks of influence against ranks of true utility and of test accuracy, under distribution mismatch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench_page import Drawing, blank
from paper_measure import Row, agreements, drift, pick, spread
from paper_size import MISMATCH_L2, Size
from paper_sweep import Sweep, short

from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.models.training import accuracy, fit, mean_loss, union
from mpc_appraisal.reporting.metrics import correlations, rank_of
from mpc_appraisal.reporting.table import DASH, Table, number

PANELS = {  # panel: (against, published, sign to the paper's orientation, shares of cars from, to)
    "a": ("utility", 0.923, 1, 0.0, 1.0),
    "b": ("accuracy", -0.927, -1, 0.0, 1.0),
    "c": ("utility", 0.908, 1, 0.0, 0.45),
    "d": ("utility", 0.247, 1, 0.55, 1.0),
}
CAPTION = (
    "Figure 5. Rank of the private influence value against the rank of true utility (a, c, d) and of the test "
    "accuracy after retraining (b), repeats pooled; c: up to 45% cars, d: 55% cars or more. Higher ranks are better "
    "data on both axes. Colour: share of the class that is the rarer one in the candidate."
)


def sweeps(size: Size) -> list[Sweep]:
    """Influence and gradient norm, with the true utility."""
    fixed = (*size.two_classes, "scenario=distribution_mismatch", f"model.l2={MISMATCH_L2}", "appraisal=all")
    return [Sweep("mismatch", (*fixed, "~appraisal.finetuning", "baselines.true_utility=True"), "seed", size.seeds)]


def accuracies(sweep: Sweep, work: Path) -> list[Row]:
    """Test accuracy after retraining in the clear, which records do not have; kept in `work`. One row a seed.

    Raises AppraisalError where the utilities are not those that the app measured: the market would be another one.
    """
    found = []
    for seed in sweep.values:
        known = next((r for r in sweep.rows(work) if r["seed"] == seed and r["method"] == "influence"), None)
        if known is None:
            continue
        kept = work / "accuracy" / f"{seed}.json"
        stated = [*sweep.fixed, f"seed={seed}"]
        row = json.loads(kept.read_text()) if kept.is_file() else {}
        if row.get("stated") != stated:
            row = _retrained(stated, seed) | {"stated": stated}
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(json.dumps(row))
        row.pop("stated")
        off = max(abs(a - b) for a, b in zip(row["utility"], known["utility"], strict=True))
        if row["candidate"] != known["candidate"] or off > 1e-5:
            raise AppraisalError(
                f"accuracy, seed {seed}: utilities differ by {off:.1e}; expected those of the app's records"
            )
        found.append({"part": "accuracy", "job": f"accuracy-seed{seed}", "method": "retraining"} | row)
    return found


def _retrained(overrides: Sequence[str], seed: int) -> Row:
    cfg = compose(overrides)
    market = instantiate(cfg.scenario).build(*instantiate(cfg.data).load(), seed)
    before, row = mean_loss(fit(market.train, cfg.model.l2), market.test), {"seed": seed, "steps": None, "lr": None}
    row |= {"candidate": [], "utility": [], "accuracy": []}
    for each in market.candidates:
        model = fit(union(market.train, each.data), cfg.model.l2)
        row["candidate"].append(each.name)
        row["utility"].append(short(before - mean_loss(model, market.test)))
        row["accuracy"].append(accuracy(model, market.test))
    return row


def planes(row: Row) -> list[float]:
    """Share of class 0 in each candidate: its name says it."""
    return [float(name.rpartition("=")[2]) for name in row["candidate"]]


def joined(rows: Sequence[Row], low: float = 0.0, high: float = 1.0) -> list[Row]:
    """Rows of influence with accuracies, cut to candidates whose share of cars is in [low, high]."""
    known = {r["seed"]: r for r in rows if r["part"] == "accuracy"}
    found = []
    for row in pick(rows, "mismatch", "influence"):
        if row["seed"] not in known:
            continue
        row = row | {"accuracy": known[row["seed"]]["accuracy"]}
        kept = [k for k, share in enumerate(planes(row)) if low - 1e-9 <= 1 - share <= high + 1e-9]
        keys = ("candidate", "value", "plaintext", "utility", "accuracy")
        found.append(row | {key: [row[key][k] for k in kept] for key in keys})
    return found


def pooled(rows: Sequence[Row], key: str) -> list[float]:
    return [value for row in rows for value in row[key]]


def rank_correlation(rows: Sequence[Row], panel: str, key: str = "value") -> float | None:
    """Spearman's, repeats pooled, in our orientation."""
    against, _, _, low, high = PANELS[panel]
    kept = joined(rows, low, high)
    return correlations(pooled(kept, key), pooled(kept, against))["spearman"]


def table(rows: Sequence[Row]) -> Table:
    body = []
    for panel, (against, published, sign, low, high) in PANELS.items():
        private, clear = (rank_correlation(rows, panel, key) for key in ("value", "plaintext"))
        kept = joined(rows, low, high)
        body.append((
            panel, f"{against}, cars {low:.0%} to {high:.0%}", f"{published:+.3f}",
            *(DASH if each is None else f"{sign * each:+.3f}" for each in (private, clear)),
            spread(agreements(kept, against, sign=sign)["spearman"], 3), str(len(pooled(kept, "value"))),
            number(drift(kept), 2),
        ))  # fmt: skip
    header = ("panel", "against", "published", "private, pooled", "plaintext, pooled", "private, by repeat",
              "candidates", "drift")  # fmt: skip
    return Table("Figure 5: rank correlation of influence", header, "llrrrrrr", body,
                 ("In the paper's orientation: a low f_if is good, so it falls as accuracy rises (b), and rises with "
                  "the paper's utility, a difference of losses. In ours all four are positive when the method is "
                  "right.",))  # fmt: skip


def drawing(rows: Sequence[Row]) -> Drawing:
    figure = blank(13.0, 3.7)
    dots = None
    for axis, (panel, (against, published, sign, low, high)) in zip(figure.subplots(1, 4), PANELS.items(), strict=True):
        kept = joined(rows, low, high)
        found = rank_correlation(rows, panel)
        shares = [min(share, 1 - share) for row in kept for share in planes(row)]
        dots = axis.scatter(rank_of(pooled(kept, against)), rank_of(pooled(kept, "value")), c=shares, s=18,
                            cmap="viridis", vmin=0, vmax=0.5)  # fmt: skip
        shown = DASH if found is None else f"{sign * found:+.3f}"
        axis.set_title(f"({panel}) measured {shown}, published {published:+.3f}", fontsize=10)
        axis.set_xlabel(f"rank of {against if against == 'utility' else 'test accuracy'}")
        axis.grid(True, color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
    figure.axes[0].set_ylabel("rank of influence value")
    figure.colorbar(dots, ax=figure.axes, label="share of the rarer class")
    return Drawing("paper-figure5", CAPTION, figure)
