"""InstaHide's tables and figures for the report on random transformations, from rows alone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from statistics import mean

import numpy as np
from bench_page import Drawing, Row, blank

from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import Table, number


def _of(rows: Sequence[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == f"instahide-{part}"]


def tables(rows: Sequence[Row]) -> list[Table]:
    return [_training_table(_of(rows, "training")), _grouping_table(_of(rows, "grouping"), _of(rows, "challenge")),
            _ranking_table(_of(rows, "ranking")), _seed_table(_of(rows, "seed"))]  # fmt: skip


def _training_table(rows: Sequence[Row]) -> Table:
    body = []
    plain = {row["data"]: row["seconds"] for row in rows if row["k"] is None}
    for row in rows:
        named = "in the clear" if row["k"] is None else f"{row['mixing']}, k = {row['k']}"
        hidden = "–" if row["hidden"] is None else f"{row['hidden']:.1%}"
        more = "–" if row["k"] is None else f"{row['seconds'] / plain[row['data']] - 1:+.0%}"
        body.append((row["data"], named, f"{row['images']:,}", f"{row['steps']:,}", f"{row['clear']:.1%}", hidden,
                     number(row["seconds"], 3), number(row["encrypting"], 3), more))  # fmt: skip
    each = {r["data"]: 1e6 * r["encrypting"] / r["epochs"] / r["images"] for r in rows if r["k"] == 4}
    notes = (
        "The same images, steps, rates and first weights in every row of a data set; processor seconds of one thread. "
        "Test images in the clear, and as encodings of which ten are averaged (inference).",
        "Published: about 90% on CIFAR-10, all classes, by a ResNet at under 5% overhead. Our networks are far smaller "
        "and CIFAR-10 is planes and cars alone, so accuracies do not compare. Nor does the overhead, which falls "
        "with the cost of a step: encryption takes "
        + ", ".join(f"{number(cost, 3)} µs an image ({name})" for name, cost in each.items())
        + " whatever the network.",
    )
    header = ("data", "mixing", "images", "steps", "accuracy: clear", "encodings", "seconds", "of which encrypting",
              "overhead")  # fmt: skip
    return Table("InstaHide: training on encodings at equal budget", header, "llrrrrrrr", body, notes)


def groups(rows: Sequence[Row]) -> list[tuple[int, int, list[Row]]]:
    """(images, epochs, rows of all seeds), in order."""
    keys = sorted({(row["images"], row["epochs"]) for row in rows})
    return [(*key, [row for row in rows if (row["images"], row["epochs"]) == key]) for key in keys]


def _grouping_table(rows: Sequence[Row], challenge_: Sequence[Row]) -> Table:
    body = []
    listed = [(n, epochs, some, "") for n, epochs, some in groups(rows)]
    listed += [(row["images"], row["epochs"], [row], ", our challenge") for row in challenge_]
    for count, epochs, some, words in listed:
        means = [mean(row[key] for row in some) for key in ("identified", "correlation", "chance_identified",
                                                            "chance_correlation", "seconds")]  # fmt: skip
        body.append((some[0]["data"] + words, str(count), str(epochs), str(some[0]["k"]), f"{means[0]:.0%}",
                     f"{means[1]:.2f}", f"{means[2]:.0%}", f"{means[3]:.2f}", number(means[4], 3),
                     str(len(some))))  # fmt: skip
    notes = (
        "Identified: the recovered image is nearer to its private one than to any other, or to any of "
        f"{rows[0]['decoys']:,} decoys. Correlation: of absolute pixels, matched one to one, mean. Chance: as many "
        "other images in place of the recovered ones.",
        "Published (Carlini et al.): the authors' challenge of 100 images, 50 epochs, k = 6 recovered with a neural "
        "network in 11 hours on GPUs. Ours has the same numbers in the full run, but two classes and smaller images.",
    )
    header = ("data", "private images", "epochs", "k", "identified", "correlation", "chance: identified", "correlation",
              "processor seconds", "runs")  # fmt: skip
    return Table("InstaHide: grouping and reconstruction on one core", header, "lrrrrrrrrr", body, notes)


def _ranking_table(rows: Sequence[Row]) -> Table:
    body = [(row["data"], str(row["k"]), row["encoding"], str(row["encodings"]), f"{row['first']:.0%}",
             f"{row['ten']:.0%}") for row in rows]  # fmt: skip
    many = rows[0]["candidates"]
    notes = (f"Among {many} candidates chance is {1 / many:.1%} and {10 / many:.1%}.",)
    header = ("data", "k", "encodings from", "of each image", "right image first", "among the first ten")
    return Table("InstaHide: an encoding ranked against candidates", header, "lrlrrr", body, notes)


def _seed_table(rows: Sequence[Row]) -> Table:
    body = [
        (row["data"], "yes" if row["found"] else "no", f"{row['tried']:,}", number(row["rate"], 3),
         number(row["rate_cpu"], 3), number(row["all_seconds"] / 60, 3), number(row["all_cpu"] / 60, 3),
         "–" if row["error"] is None else number(row["error"], 2))
        for row in rows
    ]  # fmt: skip
    notes = ("Extrapolated from one core to all 2^32 seeds. The generator is numpy's, planted for this attack alone; "
             "the protocol draws from AES under 256 random bits. Published: 120 processor hours.",)  # fmt: skip
    header = ("data", "planted seed found", "seeds tried", "a second", "a processor second", "all seeds, minutes",
              "processor minutes", "largest pixel error")  # fmt: skip
    return Table("InstaHide: search of a weak generator's seeds", header, "llrrrrrr", body, notes)


def drawings(rows: Sequence[Row]) -> list[Drawing]:
    return [_strips(_of(rows, "picture")[0]), _curves(_of(rows, "grouping"))]


def _strips(row: Row) -> Drawing:
    """Four rows of images."""
    channels, height, width = row["image"]
    figure = blank(1.25 * row["shown"] + 1.9, 5.4)
    grid = figure.subplots(4, row["shown"], squeeze=False)
    words = {"private": "private image", "absolute": "its absolute\npixels", "encoding": "what is\nhanded out",
             "recovered": "recovered"}  # fmt: skip
    for line, (name, title) in zip(grid, words.items(), strict=True):
        packed = np.frombuffer(base64.b64decode(row[name]), np.uint8).reshape(-1, channels, height, width)
        for axis, one in zip(line, packed, strict=True):
            shown = one.transpose(1, 2, 0) if channels == 3 else one[0]
            axis.imshow(shown, cmap="gray", interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=10)
    caption = (f"InstaHide ({row['data']}): private images, their absolute pixels (the most that squares can tell), "
               "some of the encodings, in random order, and what grouping and phase retrieval made of "
               f"{row['epochs']} epochs; from the best recovered on the left to the worst.")  # fmt: skip
    return Drawing("instahide-recovered", caption, figure)


def _curves(rows: Sequence[Row]) -> Drawing:
    figure = blank(9.4, 3.6)
    axes = figure.subplots(1, 2)
    few = min(row["images"] for row in rows)
    for axis, key, title in zip(axes, ("identified", "correlation"),
                                ("images identified", "absolute-pixel correlation"), strict=True):  # fmt: skip
        found = [(epochs, [row[key] for row in some], [row[f"chance_{key}"] for row in some])
                 for count, epochs, some in groups(rows) if count == few]  # fmt: skip
        epochs = [one[0] for one in found]
        axis.plot(epochs, [mean(one[1]) for one in found], "o-", color=BLUE, label=f"{few} private images")
        if any(len(one[1]) > 1 for one in found):
            axis.fill_between(epochs, [min(one[1]) for one in found], [max(one[1]) for one in found], color=BLUE,
                              alpha=0.15, linewidth=0)  # fmt: skip
        axis.plot(epochs, [mean(one[2]) for one in found], "--", color=GREY, label="chance (public images)")
        for count, last, some in groups(rows):
            if count > few:
                axis.plot([last], [mean(row[key] for row in some)], "s", color=ORANGE, label=f"{count} private images")
        axis.set_xscale("log")
        axis.set_xticks(epochs, [str(one) for one in epochs])
        axis.minorticks_off()
        axis.set_ylim(0, 1.04)
        axis.set_xlabel("epochs: encodings of each private image")
        axis.set_title(title, fontsize=10)
        axis.grid(True, color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    caption = (f"InstaHide ({rows[0]['data']}, k = 4): what grouping and phase retrieval recover on one core, by the "
               "number of epochs that the attacker sees. Bands: lowest and highest of the runs.")  # fmt: skip
    return Drawing("instahide-epochs", caption, figure)
