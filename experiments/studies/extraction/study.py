"""Model extraction through gradient-norm appraisals, and what stops it: agreement by number of appraisals and control.

The attack is mpc_appraisal's attacks.extraction, on scikit-learn's digits (10 classes) and on MNIST's zeros and ones.
First without controls on the private protocol with three processes; then between organisations with the controls that
they have by default; then by the plaintext formula under single controls: a minimum number of rows, a cap on
appraisals, noise on the opened norm; and beside it the attacker's own model, trained without any appraisal. Last comes
what owners gain that depart from the protocol, with the check of messages and without it. --small leaves out MNIST and
the private runs without controls. The seeds draw the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness import page
from experiments.harness.jobs import Job, finished, run_all
from experiments.harness.page import Page, run_facts
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, logarithmic, plain
from experiments.harness.records import ABOUT, Row, read_rows, select, write_rows
from experiments.harness.run import Run, Study
from experiments.harness.size import Size
from experiments.studies.extraction import cheats, controls
from experiments.studies.extraction.controls import (
    ALONE,
    BIT,
    CAP,
    DEFAULTS,
    DP,
    JITTER,
    L2,
    ROWS,
    SIGMAS,
    SIZE,
    Victim,
)
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.table import DASH

DIRECTIONS, FEW_DIRECTIONS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64), (1, 2, 4, 8, 16, 32)


class ExtractionStudy(Study):
    name = "extraction"
    summary = "model extraction through appraisals, and which controls stop it"
    text = __doc__
    parts = ("whole", "guards", "own", "cap", "noise", "cheats")
    seeds = (3, 3)

    def jobs(self, size: Size) -> list[Job]:
        names = size.pick(("digits",), ("digits", "MNIST 0/1"))
        found = [Job("whole", whole, (names, size.small))]
        attack, told = controls.attack_controls, (size.seeds, size.small)
        found += [Job(f"guards-{name.replace('/', '')}", attack, (name, *told)) for name in names]
        found += [Job("padded", padded, ()), Job("own", own, (names,)), Job("cap", capped, (names,))]
        found.append(Job("cheats", cheats.cheats, ()))
        return [*found, Job("noise", noises, (size.pick((1,), (1, 4, 16, 64, 256)), size.seeds))]

    def measure(self, run: Run) -> None:
        jobs = self.jobs(run.size)
        parts = {"padded": "whole"}
        run_all([job for job in jobs if parts.get(job.name, job.name.split("-")[0]) in run.parts], run.work, run.until)
        rows, _ = finished(jobs, run.work)
        made = run.about(data=True)
        write_rows(run.out / "extraction.jsonl", [row | made for row in rows])

    def render(self, folder: Path) -> list[Page]:
        return [render_report(folder)]


STUDY = ExtractionStudy()


def whole(names: tuple[str, ...], small: bool) -> list[Row]:
    return [Victim(name).whole(session) for session in ("spawn", "plain")[small:] for name in names]


def padded() -> list[Row]:
    """Probe with near-copies, as a minimum number of rows asks for."""
    return [Victim("digits").whole("plain", rows=ROWS, jitter=JITTER)]


def own(names: tuple[str, ...]) -> list[Row]:
    victims = [Victim(name) for name in names]
    return [m.row("own", 0, [fit(m.own, L2)], directions=DASH, rows=0) for m in victims]


def capped(names: tuple[str, ...]) -> list[Row]:
    digits, *others = [Victim(name) for name in names]
    found = [digits.capped(directions, count) for directions in ("unit", "principal") for count in DIRECTIONS]
    return found + [m.capped("principal", count) for m in others for count in FEW_DIRECTIONS]


def noises(repeats: tuple[int, ...], seeds: int) -> list[Row]:
    digits = Victim("digits")
    return [
        controls.noisy(digits, sigma, rows, many, seeds) for sigma in SIGMAS for rows in (1, ROWS) for many in repeats
    ]


PARTS = ("guards", "whole", "own", "cap", "noise")
KEYS = ABOUT | {"guard", "data", "session", "directions", "appraisals", "answered", "refusal", "rows", "sigma",
                "agreement", "probability_error", "seconds", "features", "classes", "held_out", "chance",
                "noise_seeds"}  # fmt: skip
OF_CHEATS = ABOUT | {"cheat", "by", "checked", "truth", "gained", "refusal", "error", "cells", "data", "rows"}
NUMBERS = {"left": [20, 50, 100, 200, 650], "right": [650, 2600, 10400, 41600, 166400]}
Parts = dict[str, list[Row]]


def render_report(folder: Path) -> Page:
    """Write extraction.md, extraction.html and the figure beside extraction.jsonl."""
    about, rows = read_rows(folder / "extraction.jsonl", dict.fromkeys(PARTS, KEYS) | {"cheats": OF_CHEATS})
    parts = {part: select(rows, part=part) for part in PARTS}
    if absent := [part for part, found in parts.items() if not found]:
        raise InputError("extraction.jsonl", f"no rows of {', '.join(absent)}", "rows of all parts")
    digits = {part: select(found, data="digits") for part, found in parts.items()}
    along = select(digits["cap"], directions="principal")
    facts = {"models": f"softmax regression, l2 = {L2:g}; attacked with x = 0 and x = {SIZE:g} u, no noise"}
    weak, strong = (worst(parts["noise"], sigma=1.0, rows=n, appraisals=650) for n in (1, ROWS))
    figures = {"extraction": figure_of(parts, digits)}
    return page.render(
        "studies/extraction/report.md.jinja", folder, "extraction", figures, parts=parts,
        worst=partial(worst, digits["guards"]), own=worst(digits["own"]), weak=weak, strong=strong,
        half=max((r for r in along if r["agreement"] < 0.5), key=lambda r: r["appraisals"]),
        most=min((r for r in along if r["agreement"] >= 0.95), key=lambda r: r["appraisals"]),
        noised={(r["answered"], r["rows"]): r["agreement"] for r in select(digits["guards"], guard=DP)},
        cheats=select(rows, part="cheats"), binary=of_two_classes(parts), controls=controls,
        facts=run_facts(about, facts, "extraction"),
    )  # fmt: skip


def worst(found: Sequence[Row], /, **facts: object) -> Row:
    """Return, of the rows with these facts, the one that the model owner should fear most."""
    return max(select(found, **facts), key=lambda r: r["agreement"])


def of_two_classes(parts: Parts) -> list[Row]:
    return select(parts["guards"], guard=DEFAULTS, classes=2)


def figure_of(parts: Parts, digits: Parts) -> Figure:
    """Draw bars by control, and two panels of agreement by appraisals."""
    figure = blank(11.0, 8.6)
    axes = figure.subplot_mosaic([["guards", "guards"], ["left", "right"]], height_ratios=[1.0, 1.0])
    own = worst(digits["own"])
    _bars(axes["guards"], parts, digits, own)
    for name, style, colour in (("unit", "o-", BLUE), ("principal", "s-", ORANGE)):
        line = select(digits["cap"], directions=name)
        _line(axes["left"], line, style, colour, f"{name} directions")
    for sigma, colour in zip(SIGMAS, (BLUE, ORANGE), strict=True):
        for rows, style in ((1, "o-"), (ROWS, "x--")):
            line = select(parts["noise"], sigma=sigma, rows=rows)
            each = "one row" if rows == 1 else f"{rows} copies"
            _line(axes["right"], line, style, colour, f"sigma {sigma:g}, {each}")
    axes["left"].set(title="A cap on appraisals, no noise")
    axes["right"].set(title="Noise on the norm, no cap")
    for name, axis in axes.items():
        axis.axhline(digits["cap"][0]["chance"], color="0.45", linewidth=1, linestyle=":", label="chance")
        axis.set(ylim=(0, 1.08), ylabel="agreement with the model")
        plain(axis, grid="y" if name == "guards" else "both")
    for name in ("guards", "left"):
        axes[name].axhline(own["agreement"], color=GREY, linewidth=1, linestyle="--", label="attacker's own model")
    for name, numbers in NUMBERS.items():
        logarithmic(axes[name], numbers)
    axes["guards"].legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False, fontsize=8.5)
    for name, columns in (("left", 2), ("right", 3)):
        axes[name].set_xlabel("appraisals, logarithmic")
        axes[name].legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, frameon=False, fontsize=8.5)
    return figure


def _line(axis: Axes, rows: Sequence[Row], style: str, colour: str, label: str) -> None:
    axis.plot([r["appraisals"] for r in rows], [r["agreement"] for r in rows], style, color=colour, label=label)


def _bars(axis: Axes, parts: Parts, digits: Parts, own: Row) -> None:
    """Draw for each control what the default cap lets through, and what there is without a cap."""
    found = partial(worst, digits["guards"])
    columns: list[tuple[str, Row | None, Row | None]] = [
        ("guards off", None, parts["whole"][0]),
        (f"minimum of {ROWS}\nrows alone", None, next(r for r in parts["whole"] if r["rows"] > 1)),
        (f"defaults: {ROWS} rows\nand a cap of {CAP}", found(guard=DEFAULTS), None),
        *((f"defaults, {r['data']}\n(chance {r['chance']:.0%})", r, None) for r in of_two_classes(parts)),
        ("to the model\nowner alone", found(guard=ALONE), None),
        ("bit", *(found(guard=BIT, answered=count) for count in (CAP, 650))),
        ("dp, epsilon 1\nfor each", *(found(guard=DP, answered=count) for count in (CAP, 650))),
    ]
    for place, (_, capped, free) in enumerate(columns):
        both = capped is not None and free is not None
        for row, colour, side in ((capped, BLUE, -1), (free, ORANGE, 1)):
            if row is not None:
                at, height = place + (0.22 * side if both else 0.0), row["agreement"]
                axis.bar(at, height, 0.42, color=colour)
                inside = height > 0.5  # a label stands clear of the lines
                where = min(height, own["agreement"]) - 0.03 if inside else max(height, row["chance"]) + 0.02
                axis.text(at, where, f"{height:.0%}\n{row['answered'] or 'none'} told", ha="center", fontsize=8.5,
                          va="top" if inside else "bottom", color="white" if inside else "black")  # fmt: skip
    for colour, label in ((BLUE, f"at most the default cap of {CAP}"), (ORANGE, "without a cap")):
        axis.bar([0], [0], color=colour, label=label)
    axis.set_xticks(range(len(columns)), [name for name, _, _ in columns])
    axis.set(title="What gets past each guard", xlim=(-0.6, len(columns) - 0.4))
