"""The page and the figure of `extraction.py`, from its records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_page import Drawing, Page, Row, blank, read_records, run_table, sentences, write_page
from extraction_guards import ALONE, BIT, CAP, DEFAULTS, DP, LABELS, MANY, ONE_ROW, ROWS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import DASH, Table, number

L2, SIZE, KNOWN, SIGMAS = 3e-3, 2.0, 600, (1.0, 5.0)
KEYS = ("part", "guard", "data", "session", "directions", "appraisals", "answered", "refusal", "rows", "sigma",
        "agreement", "probability_error", "seconds", "features", "classes", "held_out", "chance", "noise_seeds",
        "machine", "versions", "revision", "command")  # fmt: skip
CAPTION = (
    "Digits: predictions of the stolen model that agree with the owner's on held-out rows. Dots: chance, the best "
    "constant prediction; dashes: a model of the attacker's own labelled rows, no appraisal. "
    "Top: by guard, and what MNIST's zeros and ones lose under the defaults; of dp the better of "
    f"{ROWS} and {MANY:,} copies. "
    "Below left: a cap on appraisals; unit or principal directions. "
    "Below right: noise of sigma times one row's sensitivity on each norm; crosses: 100 copies of the probe."
)
WORDS = {"spawn": "private, no guards", "join": "private, guarded", "plain": "formula"}
TITLES = {
    "guards": "Guards",
    "whole": "The whole model, no guard",
    "own": "Without an appraisal: the attacker trains on its own rows",
    "cap": "A cap on appraisals",
    "noise": "Noise on the norm",
}


def render(folder: Path) -> Page:
    """Writes extraction.md, .html, .png and .svg beside extraction.jsonl. Raises InputError for unfit records."""
    page = page_of(read_records(folder / "extraction.jsonl", KEYS))
    write_page(page, folder, "extraction")
    return page


def page_of(found: Sequence[Row]) -> Page:
    parts = {part: [row for row in found if row["part"] == part] for part in TITLES}
    main = [_summary(parts), _stops(parts)] + [_table(title, parts[part]) for part, title in TITLES.items()]
    trust = [
        "The data owner attacks: it keeps to the protocol and chooses its data only, so no engine, honest dealer or "
        "TLS prevents it. The model owner's ledger counts what it tells one counterparty, under the name that the "
        "model owner knows it by: an attacker that deals under several names has the cap once for each, and so have "
        "counterparties who pool their answers. Another file of the same model is another ledger.",
        "Told to the model owner alone, the value stays with it as long as no price tells it to the data owner.",
    ]
    facts = {"models": f"softmax regression, l2 = {L2:g}; attacked with x = 0 and x = {SIZE:g} u, no noise"}
    drawing = Drawing("extraction", CAPTION, figure_of(parts))
    return Page("Model extraction by appraisals", main, [drawing], trust, [run_table(found[0], facts, "extraction.py")])


def one(found: Sequence[Row], **facts: object) -> Row:
    """The row that the model owner should fear most of those with these facts."""
    return max((r for r in found if all(r[key] == value for key, value in facts.items())), key=lambda r: r["agreement"])


def _summary(parts: dict[str, list[Row]]) -> Table:
    lines = [
        f"Guards off ({r['data']}, {'private protocol' if r['session'] == 'spawn' else 'plaintext formula'}): "
        f"{r['appraisals']} appraisals of one row give a model that agrees on {r['agreement']:.1%} of "
        f"{r['held_out']} held-out rows (chance {r['chance']:.1%}); probabilities are off by "
        f"{number(r['probability_error'], 2)} at most."
        for r in parts["whole"][: 1 + (len(parts["own"]) > 1)]
    ]
    guards = [r for r in parts["guards"] if r["data"] == "digits"]
    held, single = one(guards, guard=DEFAULTS), one(guards, guard=ONE_ROW)
    refused = single["refusal"]
    lines.insert(
        1,
        f"Defaults (digits, private protocol, three organisations): one row each is refused ({refused}); of "
        f"near-copies {held['answered']} values are told, the next is refused. They give {held['agreement']:.1%} at "
        f"best (chance {held['chance']:.1%}). What is refused is refused before anything is shared.",
    )
    binary = [r for r in parts["guards"] if r["guard"] == DEFAULTS and r["classes"] == 2]
    lines += [f"The defaults do not protect a model of two classes ({r['data']}): {r['answered']} values give "
              f"{r['agreement']:.1%} (chance {r['chance']:.1%}). The cap protects where it is far below the (d + 1) C "
              "values that a model takes, d + 1 for two classes." for r in binary]  # fmt: skip
    return sentences("In short", lines)


def _stops(parts: dict[str, list[Row]]) -> Table:
    guards, digits = [r for r in parts["guards"] if r["data"] == "digits"], parts["cap"]
    digits = [r for r in digits if r["data"] == "digits" and r["directions"] == "principal"]
    padded = next(r for r in parts["whole"] if r["rows"] > 1)
    half = max((r for r in digits if r["agreement"] < 0.5), key=lambda r: r["appraisals"])
    most = min((r for r in digits if r["agreement"] >= 0.95), key=lambda r: r["appraisals"])
    own, led = one(parts["own"], data="digits"), one(guards, guard=LABELS)
    bits = {count: one(guards, guard=BIT, answered=count) for count in (CAP, 650)}
    noised = {(r["answered"], r["rows"]): r for r in guards if r["guard"] == DP}
    weak, strong = (one(parts["noise"], sigma=1.0, rows=n, appraisals=650) for n in (1, ROWS))
    lines = [
        f"A minimum of {padded['rows']} rows alone stops nothing: that many near-copies of each probe give "
        f"{padded['agreement']:.1%} with {padded['appraisals']} appraisals.",
        f"The cap stops it, far below (d + 1) C: along principal directions of its own rows the attacker has "
        f"{half['agreement']:.1%} after {half['appraisals']} values, {most['agreement']:.1%} after "
        f"{most['appraisals']}.",
        "release.to=model_owner stops it: the attacker is told nothing, whatever it asks.",
        f"release=bit slows it down: {bits[CAP]['agreement']:.1%} after {CAP} bits, which the cap counts as values, "
        f"but {bits[650]['agreement']:.1%} after 650 without a cap, at a threshold where bits say most.",
        f"release=dp protects the data owner's rows, not the model: {noised[1, ROWS]['agreement']:.1%} after 1 answer "
        f"of epsilon 1 about {ROWS} copies, {noised[CAP, ROWS]['agreement']:.1%} after {CAP}, "
        f"{noised[650, ROWS]['agreement']:.1%} after 650, and {noised[650, MANY]['agreement']:.1%} of {MANY:,} copies, "
        "for which the noise is as many times smaller beside the norm. "
        "Its budget of epsilon is in the data owner's own ledger, that is the attacker's; the model owner's counts "
        "noised answers as values, and the cap holds.",
        f"Noise on the norm, of one row's sensitivity, leaves {weak['agreement']:.1%} after 650 appraisals of one row, "
        f"but {strong['agreement']:.1%} of {ROWS} copies.",
        f"No guard touches what the attacker's own labels tell: trained on {KNOWN} rows of its own it has "
        f"{own['agreement']:.1%} without any appraisal, and {led['agreement']:.1%} when it adds {led['answered']} "
        "values. The tasks are easy.",
    ]
    return sentences("What stops it and what does not (digits)", lines)


def _table(title: str, rows: Sequence[Row]) -> Table:
    header = ("data", "values", "directions", "rows each", "sigma", "appraisals", "agreement", "chance",
              "largest error of p", "seconds")  # fmt: skip
    cells = [
        (
            r["data"],
            WORDS[r["session"]],
            r["directions"],
            str(r["rows"]),
            number(r["sigma"], 2),
            f"{r['appraisals']:,}",
            f"{r['agreement']:.1%}",
            f"{r['chance']:.1%}",
            number(r["probability_error"], 2),
            DASH if r["seconds"] is None else number(r["seconds"], 3),
        )
        for r in rows
    ]
    notes = ["Chance: the best constant prediction. p: a class's probability on held-out rows."]
    align = "lllrrrrrrr"
    if any(r["guard"] for r in rows):
        header = ("guard", "answered", *header)
        cells = [(r["guard"], f"{r['answered']:,}", *cell) for r, cell in zip(rows, cells, strict=True)]
        align = "lr" + align
        notes.append("Where nothing is answered, the stolen model is no model: all classes alike.")
        notes.append("Formula: bits at the median of the probes' norms; of dp the model owner's noise alone is drawn, "
                     "for the attacker takes its own off. Medians of "
                     f"{max(r['noise_seeds'] for r in rows)} draws.")  # fmt: skip
    elif any(r["noise_seeds"] for r in rows):
        notes.append("Drawn, not run: Gaussian noise on the norm f that the plaintext formula gives.")
        notes.append(f"Medians of {rows[0]['noise_seeds']} draws of the noise; most likely weights, normal prior of "
                     "standard deviation 0.3. Sigma: in units of sqrt(2) R, R the attacker's longest row.")  # fmt: skip
    return Table(title, header, align, cells, tuple(notes))


def figure_of(parts: dict[str, list[Row]]) -> Figure:
    """Bars by guard, and two panels of agreement by appraisals; see CAPTION."""
    figure = blank(11.0, 8.6)
    axes = figure.subplot_mosaic([["guards", "guards"], ["cap", "noise"]], height_ratios=[1.0, 1.0])
    digits = [r for r in parts["cap"] if r["data"] == "digits"]
    own = one(parts["own"], data="digits")
    _bars(axes["guards"], parts, own)
    left, right = axes["cap"], axes["noise"]
    for name, style, colour in (("unit", "o-", BLUE), ("principal", "s-", ORANGE)):
        line = [r for r in digits if r["directions"] == name]
        left.plot([r["appraisals"] for r in line], [r["agreement"] for r in line], style, color=colour,
                  label=f"{name} directions")  # fmt: skip
    for sigma, colour in zip(SIGMAS, (BLUE, ORANGE), strict=True):
        for rows, style in ((1, "o-"), (ROWS, "x--")):
            line = [r for r in parts["noise"] if (r["sigma"], r["rows"]) == (sigma, rows)]
            each = "one row" if rows == 1 else f"{rows} copies"
            right.plot([r["appraisals"] for r in line], [r["agreement"] for r in line], style, color=colour,
                       label=f"sigma {sigma:g}, {each}")  # fmt: skip
    left.set(title="A cap on appraisals, no noise")
    right.set(title="Noise on the norm, no cap")
    left.set_xscale("log")
    right.set_xscale("log")
    for axis in axes.values():
        axis.axhline(digits[0]["chance"], color="0.45", linewidth=1, linestyle=":", label="chance")
        axis.set(ylim=(0, 1.08), ylabel="agreement with the model")
        axis.grid(True, axis="y" if axis is axes["guards"] else "both", color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (axes["guards"], left):
        axis.axhline(own["agreement"], color=GREY, linewidth=1, linestyle="--", label="attacker's own model")
    left.set_xticks([20, 50, 100, 200, 650], ["20", "50", "100", "200", "650"])
    right.set_xticks([650, 2600, 10400, 41600, 166400], ["650", "2,600", "10,400", "41,600", "166,400"])
    axes["guards"].legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False, fontsize=8.5)
    for axis, columns in ((left, 2), (right, 3)):
        axis.set_xlabel("appraisals, logarithmic")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, frameon=False, fontsize=8.5)
    return figure


def _bars(axis: Axes, parts: dict[str, list[Row]], own: Row) -> None:
    """Each guard: what the default cap lets through, and what there is without a cap."""
    guards = [r for r in parts["guards"] if r["data"] == "digits"]
    padded, held = next(r for r in parts["whole"] if r["rows"] > 1), one(guards, guard=DEFAULTS)
    binary = [r for r in parts["guards"] if r["guard"] == DEFAULTS and r["classes"] == 2]
    columns: list[tuple[str, Row | None, Row | None]] = [
        ("guards off", None, parts["whole"][0]),
        (f"minimum of {ROWS}\nrows alone", None, padded),
        (f"defaults: {ROWS} rows\nand a cap of {CAP}", held, None),
        *((f"defaults, {r['data']}\n(chance {r['chance']:.0%})", r, None) for r in binary),
        ("to the model\nowner alone", one(guards, guard=ALONE), None),
        ("bit", *(one(guards, guard=BIT, answered=count) for count in (CAP, 650))),
        ("dp, epsilon 1\nfor each", *(one(guards, guard=DP, answered=count) for count in (CAP, 650))),
    ]
    for place, (_, capped, free) in enumerate(columns):
        both = capped is not None and free is not None
        for row, colour, side in ((capped, BLUE, -1), (free, ORANGE, 1)):
            if row is not None:
                at, height = place + (0.22 * side if both else 0.0), row["agreement"]
                axis.bar(at, height, 0.42, color=colour)
                inside = height > 0.5  # a label stands clear of the lines
                where = min(height, own["agreement"]) - 0.03 if inside else max(height, row["chance"]) + 0.02
                told = f"{height:.0%}\n{row['answered'] or 'none'} told"
                axis.text(at, where, told, ha="center", va="top" if inside else "bottom", fontsize=8.5,
                          color="white" if inside else "black")  # fmt: skip
    for colour, label in ((BLUE, f"at most the default cap of {CAP}"), (ORANGE, "without a cap")):
        axis.bar([0], [0], color=colour, label=label)
    axis.set_xticks(range(len(columns)), [name for name, _, _ in columns])
    axis.set(title="What gets past each guard", xlim=(-0.6, len(columns) - 0.4))
