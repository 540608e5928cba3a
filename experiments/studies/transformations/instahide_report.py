"""InstaHide in the report, from its rows alone: groups of them, and figures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from statistics import mean

import numpy as np
from matplotlib.figure import Figure

from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain, show_images
from experiments.harness.records import Row

PARTS = ("training", "grouping", "ranking", "seed", "picture")
STRIPS = {"private": "private image", "absolute": "its absolute\npixels", "encoding": "what is\nhanded out",
          "recovered": "recovered"}  # fmt: skip
PANELS = {"identified": "images identified", "correlation": "absolute-pixel correlation"}


def of(rows: Sequence[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == f"instahide-{part}"]


def groups(rows: Sequence[Row]) -> list[tuple[int, int, list[Row]]]:
    """Return (images, epochs, rows of all seeds), in order."""
    keys = sorted({(row["images"], row["epochs"]) for row in rows})
    return [(*key, [row for row in rows if (row["images"], row["epochs"]) == key]) for key in keys]


def grouped(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each number of images and epochs, with means over its runs, and then the challenge."""
    listed = [(some, "") for _, _, some in groups(of(rows, "grouping"))]
    listed += [([row], ", our challenge") for row in of(rows, "challenge")]
    keys = ("identified", "correlation", "chance_identified", "chance_correlation", "seconds")
    return [some[0] | {"name": some[0]["data"] + words, "runs": len(some)}
            | {key: mean(row[key] for row in some) for key in keys} for some, words in listed]  # fmt: skip


def drawings(rows: Sequence[Row]) -> dict[str, Figure]:
    pictures, found = of(rows, "picture"), of(rows, "grouping")
    drawn = {"instahide-recovered": _strips(pictures[0])} if pictures else {}
    return drawn | ({"instahide-epochs": _curves(found)} if found else {})


def _strips(row: Row) -> Figure:
    """Draw four lines of images."""
    channels, height, width = row["image"]
    figure = blank(1.25 * row["shown"] + 1.9, 5.4)
    strips = {}
    for name, title in STRIPS.items():
        packed = np.frombuffer(base64.b64decode(row[name]), np.uint8).reshape(-1, channels, height, width)
        strips[title] = packed.transpose(0, 2, 3, 1) if channels == 3 else packed[:, 0]
    show_images(figure.subplots(4, row["shown"], squeeze=False), strips, 10, cmap="gray", interpolation="nearest")
    return figure


def _curves(rows: Sequence[Row]) -> Figure:
    figure, few = blank(9.4, 3.6), min(row["images"] for row in rows)
    axes = figure.subplots(1, 2)
    for axis, (key, title) in zip(axes, PANELS.items(), strict=True):
        found = [(epochs, [row[key] for row in some], [row[f"chance_{key}"] for row in some])
                 for count, epochs, some in groups(rows) if count == few]  # fmt: skip
        epochs, values, chances = zip(*found, strict=True)
        axis.plot(epochs, list(map(mean, values)), "o-", color=BLUE, label=f"{few} private images")
        if any(len(each) > 1 for each in values):
            low, high = ([pick(each) for each in values] for pick in (min, max))
            axis.fill_between(epochs, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axis.plot(epochs, list(map(mean, chances)), "--", color=GREY, label="chance (public images)")
        for count, last, some in groups(rows):
            if count > few:
                axis.plot([last], [mean(row[key] for row in some)], "s", color=ORANGE, label=f"{count} private images")
        axis.set_xscale("log")
        axis.set_xticks(epochs, [str(one) for one in epochs])
        axis.minorticks_off()
        axis.set(ylim=(0, 1.04), xlabel="epochs: encodings of each private image")
        axis.set_title(title, fontsize=10)
    plain(*axes)
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure
