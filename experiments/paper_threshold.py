"""May a buyer decide by one bit? Thresholds of the pre-flight, on the private values of the noise sweep.

threshold t_s   from `mpc-appraisal preflight` on the training and test rows of the model owner of seed s alone
bought          private value >= t_s   (or >= 0)
helps           true utility > 0: retraining with the candidate lowers the mean test loss, as the pre-flight has it

false accept    bought and does not help, of those that do not help
false reject    not bought and helps, of those that help
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paper_table1
from bench_page import Drawing, blank
from paper_measure import Row, pick
from paper_size import Size
from paper_sweep import APP, Sweep, short

from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.methods.preflight.check import threshold_of
from mpc_appraisal.methods.preflight.result import Rate, Threshold
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import DASH, Table, number

METHODS = {"gradient_norm": "gradient norm", "finetuning": "fine-tuning", "influence": "influence"}
COUNTS = ("false_accept", "false_reject")  # [how many, of how many], of the pre-flight's own held-out parts
CAPTION = (
    "Beyond the paper: one bit. Private value against true utility under label noise, all seeds. Dashed: the threshold "
    "that each seed's pre-flight calibrated on the model owner's own data; black: zero. Right of the upright line the "
    "data help. Orange: decided wrongly by the calibrated threshold (left: false accepts; right: false rejects)."
)


@dataclass(frozen=True)
class Preflights(Sweep):
    """One pre-flight a seed, of the model owner's files alone; WORK/preflight-.../seedK.json."""

    def found(self, work: Path, value: Any) -> dict[str, Any] | None:
        kept = self.folder(work, "", value).with_suffix(".json")
        known = json.loads(kept.read_text()) if kept.is_file() else {}
        return known if known.get("stated") == self._stated(value) else None

    def _stated(self, value: Any) -> list[str]:
        return [*self.fixed, f"{self.axis}={value}"]

    def run(self, work: Path, log: Path) -> None:
        """Runs what is not finished. AppraisalError, with the app's own words, for one that fails."""
        for value in self.values:
            if self.found(work, value) is not None:
                continue
            cfg = compose(self._stated(value))
            market = instantiate(cfg.scenario).build(*instantiate(cfg.data).load(), value)
            with tempfile.TemporaryDirectory() as place:
                for key, data in (("train", market.train), ("test", market.test)):
                    np.savez(Path(place, key), x=data.x.numpy(), y=data.y.numpy())
                files = [f"train={place}/train.npz", f"test={place}/test.npz", f"classes={market.train.classes}"]
                command = [str(APP), "preflight", *files, *self._stated(value), "search=no", f"out={place}/found.json"]
                env = os.environ | {"OMP_NUM_THREADS": "1"}
                done = subprocess.run(command, capture_output=True, text=True, env=env)
                with open(log, "a") as output:
                    output.write(done.stdout + done.stderr)
                # 1: a method is not trusted
                if done.returncode not in (0, 1) or not Path(place, "found.json").is_file():
                    why = done.stderr.splitlines() or ["no result"]
                    raise AppraisalError(f"{self.job(value)}: {why[-1].strip()}")
                found = json.loads(Path(place, "found.json").read_text())
            kept = self.folder(work, "", value).with_suffix(".json")
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")  # a run that is stopped leaves no half of it
            part.write_text(json.dumps(found | {"stated": self._stated(value)}))
            part.replace(kept)

    def rows(self, work: Path) -> list[Row]:
        """One for each finished pre-flight and method."""
        rows = []
        for value in self.values:
            for check in (self.found(work, value) or {"checks": ()})["checks"]:
                t = check["threshold"]
                row = self.facts(value) | {"method": check["method"], "verdict": check["verdict"]}
                row |= {"threshold": t["value"], "unit": t["unit"]}
                row |= {key: [t[key]["wrong"], t[key]["of"]] for key in COUNTS}
                rows.append({key: short(each) for key, each in row.items()})
        return rows


def sweeps(size: Size) -> list[Preflights]:
    """On the markets of the noise sweep, with its l2 and its methods."""
    (noise,) = paper_table1.noise(size)
    return [Preflights("preflight", noise.fixed, noise.axis, noise.values)]


@dataclass(frozen=True)
class Case:
    """A candidate: its private value and the plaintext one, the threshold for so many rows (None where none was found:
    then it is not bought), and its true utility."""

    seed: int
    value: float
    plaintext: float
    threshold: float | None
    utility: float

    @property
    def helps(self) -> bool:
        return self.utility > 0

    @property
    def bought(self) -> bool:
        return self.threshold is not None and self.value >= self.threshold


def cases(rows: Sequence[Row], method: str) -> list[Case]:
    """All candidates of seeds with private values and a pre-flight."""
    known = {row["seed"]: row for row in pick(rows, "preflight", method)}
    nothing = [Rate.count([])] * 4
    found = []
    for row in pick(rows, "noise", method):
        if row["refused"] or row["seed"] not in known:
            continue
        own = known[row["seed"]]
        threshold = Threshold(own["threshold"], own["unit"], *nothing)
        lists = zip(row["n"], row["value"], row["plaintext"], row["utility"], strict=True)
        found += [Case(row["seed"], v, p, threshold.of(n), u) for n, v, p, u in lists]
    return found


def decided(found: Sequence[Case]) -> tuple[Rate, Rate]:
    """(false accepts, false rejects)."""
    return (Rate.count(case.bought for case in found if not case.helps),
            Rate.count(not case.bought for case in found if case.helps))  # fmt: skip


def wrong(found: Sequence[Case]) -> int:
    return sum(case.bought != case.helps for case in found)


def at_zero(found: Sequence[Case]) -> list[Case]:
    return [replace(case, threshold=0.0) for case in found]


def in_hindsight(found: Sequence[Case]) -> list[Case]:
    """With the threshold that errs least on the candidates of the same seed themselves."""
    best: dict[int, float] = {}
    for seed in {case.seed for case in found}:
        mine = [case for case in found if case.seed == seed]
        limit = threshold_of([case.value for case in mine], [case.helps for case in mine])
        best[seed] = (-math.inf if mine[0].helps else math.inf) if limit is None else limit  # None: all alike
    return [replace(case, threshold=best[case.seed]) for case in found]


def foretold(rows: Sequence[Row], method: str) -> list[Rate]:
    """The pre-flight's own rates, on held-out parts that did not calibrate, seeds together."""
    counts = [[row[key] for row in pick(rows, "preflight", method)] for key in COUNTS]
    pairs = [(sum(off for off, _ in each), sum(of for _, of in each)) for each in counts]
    return [Rate.count([True] * off + [False] * (of - off)) for off, of in pairs]


def text_of(rate: Rate) -> str:
    return DASH if rate.rate is None else f"{short_text(rate)} ({rate.low:.0%}–{rate.high:.0%})"


def short_text(rate: Rate) -> str:
    return f"{rate.wrong} of {rate.of}" if rate.of else DASH


def table(rows: Sequence[Row]) -> Table:
    body = []
    for method in METHODS:
        found = cases(rows, method)
        if not found:
            continue
        limits = [case.threshold for case in found if case.threshold is not None]
        bought = [case.utility for case in found if case.bought]
        body.append((
            method, " to ".join(number(each, 3) for each in (min(limits), max(limits))) if limits else DASH,
            *map(text_of, decided(found)), *map(text_of, decided(at_zero(found))),
            *map(short_text, decided(in_hindsight(found))), *map(short_text, foretold(rows, method)),
            number(min(bought), 2) if bought else "nothing bought",
        ))  # fmt: skip
    header = ("method", "threshold", "false accepts", "false rejects", "at 0: accepts", "at 0: rejects",
              "hindsight: accepts", "hindsight: rejects", "foretold: accepts", "foretold: rejects",
              "worst bought")  # fmt: skip
    return Table("May a buyer decide by one bit? Calibrated thresholds on private values", header,
                 "lr" + "r" * 9, body, notes(rows))  # fmt: skip


def notes(rows: Sequence[Row]) -> list[str]:
    found = {method: each for method in METHODS if (each := cases(rows, method))}
    if not found:
        return ["No seed has both a pre-flight and private values."]
    one = next(iter(found.values()))
    every = [case for each in found.values() for case in each if case.threshold is not None]
    turned = sum(case.bought != (case.plaintext >= case.threshold) for case in every)
    without = sum(row["threshold"] is None for row in rows if row["part"] == "preflight")
    doubted = sum(row["verdict"] != "trusted" for row in rows if row["part"] == "preflight")
    text = [
        f"The {len(one)} candidates of the noise sweep, {len({case.seed for case in one})} seeds, at its l2: "
        f"{sum(case.helps for case in one)} help, {sum(not case.helps for case in one)} do not. Helps: true utility > "
        "0, that is, retraining with the candidate's rows lowers the mean test loss, in the clear; the pre-flight "
        "calibrates to the same. Accepts: of those that do not help, bought all the same; rejects: of those that "
        "help, refused. In brackets 95% Clopper-Pearson intervals; candidates of a seed share model and test rows, so "
        "they are too narrow.",
        "Threshold: from the model owner's own training and test rows alone, `mpc-appraisal preflight` with its "
        "defaults (no search of l2), once a seed, in the clear; the least and the most over seeds, for candidates of "
        "these sizes. At 0: bought where the value is not negative. Hindsight: each seed's best threshold, from the "
        "true utilities of its candidates, which no buyer has; where that errs little and the calibrated one much, "
        "the order is right, and where to cut it is not known. Foretold: what the pre-flight expected, on its own "
        "held-out parts. Worst bought: least true utility among those bought.",
        "What was foretold need not hold: the pre-flight's parts have far fewer rows than the candidates, and of their "
        "labels any becomes any other, while in candidates two classes change into each other. Only the gradient "
        "norm's threshold is stated per row; that of fine-tuning is for candidates of a part's size, as the pre-flight "
        "says, and is used as it is.",
        f"Rounding turned {turned} of {len(every)} decisions, against the same value in plaintext.",
    ]
    if without or doubted:
        text.append(f"Of the pre-flights, one for each seed and method, {doubted} did not trust the method, and "
                    f"{without} found no threshold (parts all good, or all bad), where nothing is bought.")  # fmt: skip
    return text


def verdict(rows: Sequence[Row]) -> str:
    """The section in a line; empty where nothing was measured."""
    found = {method: each for method in METHODS if (each := cases(rows, method))}
    if not found:
        return ""
    shown, best = [], []
    for method, each in found.items():
        accepts, rejects = map(short_text, decided(each))
        shown.append(f"{METHODS[method]} {wrong(each)} of {len(each)} (false accepts {accepts}, "
                     f"false rejects {rejects}; zero: {wrong(at_zero(each))})")  # fmt: skip
        best.append(f"{wrong(in_hindsight(each))}")
    return (
        "May a buyer decide by one bit, value >= threshold? Thresholds calibrated on the buyer's own data alone decide "
        f"wrongly, under label noise: {', '.join(shown)}. Each seed's best threshold in "
        f"hindsight: {', '.join(best)}."
    )


def drawing(rows: Sequence[Row]) -> Drawing:
    figure = blank(13.0, 3.7)
    for axis, method in zip(figure.subplots(1, 3), METHODS, strict=True):
        found = cases(rows, method)
        for colour, off in ((BLUE, False), (ORANGE, True)):
            kept = [case for case in found if (case.bought != case.helps) == off]
            axis.scatter([case.utility for case in kept], [case.value for case in kept], s=18, color=colour, zorder=3)
        for limit in sorted({case.threshold for case in found if case.threshold is not None}):
            axis.axhline(limit, color=GREY, linewidth=0.9, linestyle="--")
        axis.axhline(0, color="#1c2430", linewidth=1.2)
        axis.axvline(0, color=GREY, linewidth=1.2)
        axis.set_title(METHODS[method], fontsize=10)
        axis.set_xlabel("true utility")
        axis.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("private value")
    return Drawing("paper-threshold", CAPTION, figure)
