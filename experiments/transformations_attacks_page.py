"""Tables and figures of the attacks on RTAS, from the rows of `transformations_attacks.measure` alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from bench_page import Drawing, blank
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from mpc_appraisal.attacks.rtas.float_drift import expected
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import DASH, Table, number

Row = dict[str, Any]
GREEN, PURPLE = "#2f855a", "#7c3aed"
COLOURS = (GREY, BLUE, ORANGE, GREEN)
HELPER = (
    "What a helper of permuted values recovers. (a) Gradient-norm appraisals of candidates, as it predicts them from "
    "the values seen, rows and columns permuted: candidates with missing data, and with label noise, where it stops. "
    "(b) Rows of one epoch that it links rightly with those of the next. (c) How near the nearest seen row comes to an "
    "example's logits, rows and columns permuted: share of examples at that distance or less; dotted: the tolerance."
)
KNOWN = (
    "RTAS-fast: who sees the outputs of a first layer and knows some rows. Left: share of the variance of the other "
    "images that it explains, behind a dense layer of m outputs; dotted: what m outputs would tell of normal, "
    "independent pixels, by theorem 3.3 corrected (m of n dimensions). Right: images, and what is recovered of them, "
    "with the most known rows measured."
)
DRIFT = (
    "Shares in floating point: correlation of the mean of T fresh shares of the same images with the images, by the "
    "ratio of the mask's deviation to the data's. Lines: 1 / sqrt(1 + s^2 / (T v)); crosses: shares in the ring. "
    "Right: means of T shares as images, ratio 10."
)


def tables(rows: Sequence[Row]) -> list[Table]:
    rows = _attacks(rows)
    header = ("protocol", "attack", "setting", "recovered", "chance", "stopped", "recovered means", "stops")
    body = [
        (r["protocol"], r["attack"], r["setting"], f"{r['recovered']:.3f}", f"{r['chance']:.3f}",
         DASH if r.get("stopped") is None else f"{r['stopped']:.3f}", r["meaning"], r["stops"]) for r in rows
    ]  # fmt: skip
    notes = ("Chance: what a guess recovers. Stopped: the same number, measured where the attack stops.",)
    return [Table("Attacks on RTAS", header, "lllrrrll", body, notes), _theorems(rows), _precision(rows)]


def _theorems(rows: Sequence[Row]) -> Table:
    """What the theorems leave unknown of the settings attacked, and what is."""
    body = [
        (f"3.3: {counted(r['outputs'])} of {r['features']} pixels", f"{r['features'] - 1} dimensions",
         f"{r['features'] - r['outputs']} dimensions, {1 - r['outputs'] / r['features']:.0%} of the variance",
         f"{1 - r['recovered']:.0%} of the variance") for r in rows if "outputs" in r
    ]  # fmt: skip
    for r in (r for r in rows if "epsilon_log10" in r):
        printed = -math.lgamma(r["values"] + 1) / math.log(10)
        body.append((f"3.4: {r['setting']}", f"the order, 1 in 10^{-printed:,.0f}",
                     f"the order, 1 in 10^{-r['epsilon_log10']:,.0f} (equal values)",
                     f"{1 - r['recovered']:.0%} of the pixels"))  # fmt: skip
    notes = (
        "Unknown to the adversary. As printed: theorem 3.3 takes one projection, 3.4 distinct values. Corrected: m "
        "projections, equal values counted; both still for independent values without a prior, which images are not. "
        "What the theorems bound is the recovery of all of x, exactly or within a distance over the whole vector.",
    )
    header = ("theorem", "unknown as printed", "corrected", "measured")
    return Table("Reconstructive privacy: promised and measured", header, "llll", body, notes)


def counted(outputs: int) -> str:
    return f"{outputs} output{'s' * (outputs > 1)}"


def _precision(rows: Sequence[Row]) -> Table:
    body = [(f"{r['factor']} x", f"{r['needed']:,}", number(r["rounding"], 2)) for r in rows if "factor" in r]
    header = ("mask's deviation to the data's", "sharings for correlation .9", "rounding error of one sharing")
    return Table("Shares in floating point: no mask is safe", header, "rrr", body)


def drawings(rows: Sequence[Row]) -> list[Drawing]:
    rows = _attacks(rows)
    return [_helper(rows), _known(rows), _drift(rows)]


def _attacks(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["part"] == "attack"]


def _of(rows: Sequence[Row], attack: str, key: str = "points") -> list[Row]:
    return [row for row in rows if row["attack"] == attack and row.get(key)]


def _helper(rows: Sequence[Row]) -> Drawing:
    figure = blank(13.5, 4.2)
    left, middle, right = figure.subplots(1, 3)
    (row,) = _of(rows, "histogram: gradient-norm appraisal")
    for name, colour, mark in (("missing data", BLUE, "o"), ("label noise", ORANGE, "^")):
        of = [p for p in row["points"] if p["scenario"] == name]
        rho = row["recovered"] if name == "missing data" else row["stopped"]
        left.plot([p["value"] for p in of], [p["predicted value"] for p in of], mark, color=colour, markersize=5,
                  label=f"{name}: rank correlation {rho:.2f}")  # fmt: skip
    left.set(title="(a) appraisals, predicted by the helper", xlabel="appraisal", ylabel="predicted")
    left.legend(frameon=False, fontsize=9, loc="upper left")
    low, high = left.get_ylim()
    left.set_ylim(low, high + 0.22 * (high - low))  # room for the legend
    styles = zip(_of(rows, "linking"), ("o-", "s-", "^-"), (BLUE, GREEN, GREY), strict=True)
    for row, style, colour in styles:
        middle.plot([p["epoch"] for p in row["points"]], [p["linked"] for p in row["points"]], style, color=colour,
                    markersize=5, label=row["setting"].split(";")[0])  # fmt: skip
    middle.set(title="(b) rows linked across epochs", xlabel="epoch, with the next", ylabel="share linked rightly")
    middle.set_ylim(-0.03, 1.35)
    middle.set_yticks(np.linspace(0, 1, 6))
    middle.legend(frameon=False, fontsize=9, loc="upper left")
    (row,) = _of(rows, "membership")
    for part, colour in zip(row["points"], (BLUE, GREY, ORANGE), strict=True):
        right.plot(part["distances"], np.linspace(0, 1, len(part["distances"])), color=colour, label=part["of"])
    right.axvline(row["tolerance"], ymax=1 / 1.35, color="0.3", linestyle=":")
    right.set(title="(c) is it in the batch?", xlabel="distance to the nearest seen row", xscale="log", ylim=(0, 1.35),
              ylabel="share of examples")  # fmt: skip
    right.set_yticks(np.linspace(0, 1, 6))
    right.legend(frameon=False, fontsize=9, loc="upper left")
    for axis in (left, middle, right):
        _plain(axis)
    return Drawing("transformations-helper", HELPER, figure)


def _known(rows: Sequence[Row]) -> Drawing:
    figure = blank(11.5, 5.0)
    curves, images = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    axis = curves.subplots()
    for row, colour in zip(_of(rows, "known rows"), COLOURS, strict=False):
        found = row["points"]
        axis.plot([p["known"] for p in found], [p["explained"] for p in found], "o-", color=colour, markersize=5,
                  label=f"m = {row['outputs']}")  # fmt: skip
        axis.axhline(row["outputs"] / row["features"], color=colour, linestyle=":")
    axis.set(xscale="log", ylim=(0, 1.02), xlabel="known rows", ylabel="share of variance explained")
    axis.legend(frameon=False, fontsize=9, title="outputs of the layer", loc="upper left")
    _plain(axis)
    (row,) = _of(rows, "known rows", "images")
    _gallery(images, row["images"], row["side"])
    return Drawing("transformations-known-rows", KNOWN, figure)


def _drift(rows: Sequence[Row]) -> Drawing:
    figure = blank(11.5, 4.2)
    curves, images = figure.subfigures(1, 2, width_ratios=(1.8, 1))
    axis = curves.subplots()
    found = _of(rows, "float drift")
    for row, colour in zip(found, (BLUE, ORANGE, GREEN), strict=True):
        times = [p["sharings"] for p in row["points"]]
        line = np.geomspace(times[0], times[-1], 60)
        axis.plot(line, [expected(row["factor"], 1, count) for count in line], "-", color=colour, alpha=0.6)
        axis.plot(times, [p["measured"] for p in row["points"]], "o", color=colour, label=f"{row['factor']} x")
    axis.plot(times, [p["ring"] for p in found[0]["points"]], "x--", color=GREY, label="ring")
    axis.set(xscale="log", xlabel="sharings of the same data", ylabel="correlation with the data", ylim=(-0.08, 1.04))
    axis.legend(frameon=False, fontsize=9, title="mask to data", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _plain(axis)
    (row,) = _of(rows, "float drift", "images")
    _gallery(images, {f"T = {int(count):,}": of for count, of in row["images"].items()}, row["side"])
    return Drawing("transformations-float-drift", DRIFT, figure)


def _gallery(figure: SubFigure, images: dict[str, list[str]], side: int) -> None:
    """A line of images for each name, from bytes in hexadecimal; values of a line stretched alike."""
    grid = figure.subplots(len(images), max(map(len, images.values())), squeeze=False)
    for line, (name, of) in zip(grid, images.items(), strict=True):
        for axis, text in zip(line, of, strict=True):
            pixels = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(side, side)
            axis.imshow(pixels, cmap="gray_r", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
        words = name.replace(", ", ",\n")
        line[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=9)


def _plain(axis: Axes) -> None:
    axis.grid(True, color="#e5e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
