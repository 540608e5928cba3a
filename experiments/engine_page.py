"""The report of `bench_engine` from the lines of engine.jsonl: tables, goals and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_page import Drawing, Page, Row, blank, read_records, run_table, sentences, times, turns, write_page
from matplotlib.figure import Figure

from mpc_appraisal.common.roles import TRUST
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import Table, number, whole

SINGLE, KEPT = "gradient, single", "gradient, kept"
WORKS = {SINGLE: "one gradient from nothing", KEPT: "a later gradient, mask of X kept"}
ENGINES = {  # in the order of every table and figure
    "fast": ("fast", BLUE),
    "spu": ("SPU", "#a78bba"),
    "stock": ("stock CrypTen", ORANGE),
    "plaintext": ("plaintext, float32", GREY),
}
GOAL_SIZE = (5940, 784, 10)
OTHER_SIZE = "another size"  # the verdict on a goal where the input is not of GOAL_SIZE
GOALS = (  # what, work, key, goal, whether more is better
    ("times the speed of stock, mask of X kept", KEPT, "ratio_to_stock", 30.0, True),
    ("times the speed of stock, single gradient", SINGLE, "ratio_to_stock", 14.0, True),
    ("times the time of plaintext float32, mask of X kept", KEPT, "times_plaintext", 4.0, False),
    ("MB, single gradient", SINGLE, "mb", 45.0, False),
    ("MB, later gradient", KEPT, "mb", 6.0, False),
    ("rounds of a gradient", SINGLE, "rounds", 20.0, False),
    ("largest error of G", SINGLE, "error", 5e-7, False),
)
KEYS = ("engine", "work", "seconds", "ratio_to_stock", "mb", "rounds", "error", "repeat", "input", "machine",
        "versions", "revision", "command")  # fmt: skip


def render(folder: Path) -> Page:
    """Writes engine.md, engine.html and the figures beside engine.jsonl. Raises InputError for unfit records."""
    page = page_of(read_records(folder / "engine.jsonl", KEYS))
    write_page(page, folder, "engine")
    return page


def page_of(rows: Sequence[Row]) -> Page:
    gradient, whole_runs = _gradients(rows), _appraisals(rows)
    given = rows[0]["input"]
    data = f"X {_size(given)}, {given['classes']} classes, {given['data']}"
    logits = f"bound {number(given['bound'], 3)}, largest {number(given['largest_logit'], 3)}"
    facts = {"threads": "one a party", "input": data, "centred logits": logits}
    main = [_summary(gradient, whole_runs, rows[0])] + [_gradient_table(gradient)] * bool(gradient)
    main += [_goals_table(gradient, given)] * bool(gradient) + [_appraisal_table(whole_runs)] * bool(whole_runs)
    drawings = []
    if gradient:
        caption = "Seconds (logarithmic) and MB of a gradient by engine; after the seconds, the speed where stock is 1."
        drawings.append(Drawing("engine-gradient", caption, gradient_figure(gradient)))
    if whole_runs:
        caption = "Seconds (logarithmic) of whole appraisals by engine; after them, the speed where stock is 1."
        drawings.append(Drawing("engine-appraisals", caption, appraisal_figure(whole_runs)))
    run = run_table(rows[0], facts, "bench_engine.py")
    return Page("The engines side by side", main, drawings, _trust(rows), [run])


def _gradients(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """By engine and work, in the order of ENGINES; `times_plaintext` is seconds over those in the clear."""
    found = {(r["engine"], r["work"]): dict(r) for r in rows if r["work"] in WORKS}
    plain = found.get(("plaintext", KEPT))
    for row in found.values():
        row["times_plaintext"] = row["seconds"] / plain["seconds"] if plain else None
    return {(e, work): found[e, work] for work in WORKS for e in ENGINES if (e, work) in found}


def _appraisals(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """By work without the note of an extrapolation, then by engine."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["work"] not in WORKS:
            found.setdefault(row["work"].partition(": ")[0], {})[row["engine"]] = row
    return found


def _size(given: Row) -> str:
    return f"{given['rows']:,} x {given['features']}"


def _trust(rows: Sequence[Row]) -> list[str]:
    engines = {row["engine"] for row in rows}
    found = [f"fast and stock CrypTen: {TRUST[0].lower()}{TRUST[1:]}"]
    found += ["stock CrypTen: its generators of random numbers are not cryptographic."] * ("stock" in engines)
    spu = "SPU: semi-honest parties, SEMI2K between two processes; by its default the first of them makes the triples."
    return found + [spu] * ("spu" in engines)


def _summary(gradient: dict, whole_runs: dict, about: Row) -> Table:
    """The first screen: which engine, how fast, how much is sent, how exact, which goals are met."""
    given, lines = about["input"], []
    one, later = gradient.get(("fast", SINGLE)), gradient.get(("fast", KEPT))
    stock = gradient.get(("stock", SINGLE))
    if one and later:
        lines.append(
            f"Measured: the private gradient of a softmax regression, X ({_size(given)}, {given['data']}) with the "
            f"data owner and the weights with the model owner, three processes on one machine ({about['machine']}). "
            f"Engine: fast. Figures of gradients are medians of {turns(one['repeat'])}."
        )
        lines.append(
            f"How fast: {number(one['seconds'], 3)} s from nothing{_against(one, stock, 'seconds', ' s')}; "
            f"{number(later['seconds'], 3)} s for each later gradient of the same X"
            + (f", {times(later['ratio_to_stock'])} the speed of stock" if stock else "")
            + f" and {times(later['times_plaintext'])} the time of plaintext."
        )
        lines.append(
            f"How much is sent: {number(one['mb'], 3)} MB by all parties in {one['rounds']} rounds"
            + (f" (stock: {number(stock['mb'], 3)} MB, {stock['rounds']} rounds)" if stock else "")
            + f"; {number(later['mb'], 3)} MB in {later['rounds']} rounds for each later gradient."
        )
        lines.append(
            f"How exact: no entry of the gradient is off by more than {number(one['error'], 2)}"
            + (f" (stock: {number(stock['error'], 2)})" if stock else "")
            + f"; the largest entry is {number(given['largest_gradient'], 2)}."
        )
        verdicts = [_verdict(gradient, given, *goal[1:]) for goal in GOALS]
        if OTHER_SIZE not in verdicts:
            missed = "; by how much it misses the others, below" * ("met" in verdicts and len(set(verdicts)) > 1)
            lines.append(f"Goals: fast meets {verdicts.count('met')} of {len(GOALS)}{missed}.")
    else:
        lines.append("The gradient of the fast engine was not measured.")
    ratios = [f"{work.split(',')[0]} {times(by['fast']['ratio_to_stock'])}" for work, by in whole_runs.items()
              if {"fast", "stock"} <= set(by)]  # fmt: skip
    if ratios:
        lines.append(f"Whole appraisals, speed where stock CrypTen's is 1: {', '.join(ratios)}.")
    return sentences("In short", lines)


def _against(row: Row, stock: Row | None, key: str, unit: str) -> str:
    if not stock:
        return ""
    return f", {times(row['ratio_to_stock'])} the speed of stock CrypTen ({number(stock[key], 3)}{unit})"


def _gradient_table(gradient: dict) -> Table:
    header = (
        "work",
        "engine",
        "seconds",
        "speed, stock = 1",
        "time, plaintext = 1",
        "MB sent",
        "rounds",
        "largest error",
    )
    rows = [
        (
            WORKS[work],
            ENGINES[engine][0],
            number(r["seconds"], 3),
            times(r["ratio_to_stock"]),
            times(r["times_plaintext"]),
            number(r["mb"], 3),
            whole(r["rounds"]),
            number(r["error"], 2),
        )
        for (engine, work), r in gradient.items()
    ]
    repeat = max(r["repeat"] for r in gradient.values())
    notes = [
        f"Seconds, MB, rounds and speed: medians of {turns(repeat)}, engines in turn; speed is stock's seconds over "
        "the engine's within a turn. MB: sent by all parties, dealer included. Error: largest over the entries of G, "
        "against float64 in the clear.",
        "From nothing: input, masks, the dealer's script, products, softmax, opening. Plaintext: the same gradient in "
        "the clear in one process, the same in both works, and measured once.",
    ]
    if any(engine == "spu" for engine, _ in gradient):
        notes.append("SPU: two processes, inputs shared beforehand; its rounds are messages of one party.")
    else:
        notes.append("SPU was not measured.")
    return Table("A gradient", header, "llrrrrrr", rows, tuple(notes))


def _verdict(gradient: dict, given: Row, work: str, key: str, goal: float, more: bool) -> str:
    """'met', or missed by how much, in the goal's unit and as a share of it."""
    value = gradient.get(("fast", work), {}).get(key)
    if value is None:
        return "not measured"
    if (given["rows"], given["features"], given["classes"]) != GOAL_SIZE:
        return OTHER_SIZE
    gap = goal - value if more else value - goal
    return "met" if gap <= 0 else f"missed by {number(gap, 2)} ({100 * gap / goal:.0f} %)"


def _goals_table(gradient: dict, given: Row) -> Table:
    rows = []
    for what, work, key, goal, more in GOALS:
        value = gradient.get(("fast", work), {}).get(key)
        measured = whole(value) if key == "rounds" else number(value, 3)
        aim = f"{'>=' if more else '<='} {goal:g}"
        rows.append((what, aim, measured, _verdict(gradient, given, work, key, goal, more)))
    title = f"Goals of the fast engine, for X {GOAL_SIZE[0]:,} x {GOAL_SIZE[1]} and {GOAL_SIZE[2]} classes"
    return Table(title, ("what", "goal", "measured", "verdict"), "lrrl", rows)


def _appraisal_table(whole_runs: dict[str, dict[str, Row]]) -> Table:
    header = ("method", "of", "engine", "seconds", "speed, stock = 1", "MB sent", "rounds of one",
              "largest difference", "runs")  # fmt: skip
    rows = []
    for work, by in whole_runs.items():
        method, _, what = work.partition(", ")
        for engine in (e for e in ENGINES if e in by):
            r = by[engine]
            note = r["work"].partition(": ")[2]
            rows.append(
                (
                    method,
                    what,
                    ENGINES[engine][0] + (f" ({note})" if note else ""),
                    number(r["seconds"], 3),
                    times(r["ratio_to_stock"]),
                    number(r["mb"], 3),
                    whole(r["rounds"]),
                    number(r["error"], 2),
                    str(r["repeat"]),
                )
            )
    notes = (
        "Seconds: what the parties do together (the dealer's script, sharing, computing), without the model's fit; "
        "medians over the runs. Largest difference: of a private value from its plaintext value. Extrapolated: stock "
        "appraises one candidate; its computing is multiplied, its sharing counted once, its difference that of one.",
    )
    return Table("Whole appraisals", header, "lllrrrrrr", rows, notes)


def gradient_figure(gradient: dict[tuple[str, str], Row]) -> Figure:
    """A row for each work: seconds on the left, MB on the right. Plaintext, measured once, stands in every row."""
    plain = gradient.get(("plaintext", KEPT))
    groups = []
    for work in WORKS:
        by = {engine: row for (engine, w), row in gradient.items() if w == work}
        if plain and work != KEPT:  # its speed against stock is that of the other work
            by["plaintext"] = plain | {"ratio_to_stock": None}
        groups.append((WORKS[work], {engine: by[engine] for engine in ENGINES if engine in by}))
    figure = blank(10.0, 0.9 + sum(0.34 * len(by) + 0.55 for _, by in groups))
    axes = figure.subplots(2, 2, squeeze=False, sharex="col", height_ratios=[len(by) + 1 for _, by in groups])
    for (seconds, sent), (name, by) in zip(axes, groups, strict=True):
        _bars(seconds, by, "seconds", ratio=True)
        _bars(sent, {e: r for e, r in by.items() if e != "plaintext"}, "mb")
        seconds.set_title(name, loc="left", fontsize=10)
        sent.set_title(f"{name}: sent by all parties", loc="left", fontsize=10)
    everything = [row for _, by in groups for row in by.values()]
    _log_axis(axes[-1][0], everything)
    axes[-1][1].set_xlim(0, 1.3 * max(row["mb"] for row in everything) or 1.0)
    axes[-1][1].set_xlabel("MB")
    return figure


def appraisal_figure(whole_runs: dict[str, dict[str, Row]]) -> Figure:
    """A row for each method: seconds of every candidate together."""
    groups = [(work, {e: by[e] for e in ENGINES if e in by}) for work, by in whole_runs.items()]
    figure = blank(7.5, 0.8 + sum(0.34 * len(by) + 0.5 for _, by in groups))
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex="col", height_ratios=[len(by) + 1 for _, by in groups])
    for axis, (work, by) in zip(axes[:, 0], groups, strict=True):
        _bars(axis, by, "seconds", ratio=True)
        axis.set_title(work, loc="left", fontsize=10)
    _log_axis(axes[-1][0], [row for _, by in groups for row in by.values()])
    return figure


def _bars(axis, by: dict[str, Row], key: str, ratio: bool = False) -> None:
    """A horizontal bar for each engine, first on top, its number beside it; a bar that is extrapolated is hatched."""
    for place, (engine, row) in enumerate(by.items()):
        guessed = "extrapolated" in row["work"]
        colour = ENGINES[engine][1]
        axis.barh(place, row[key], height=0.72, color="white" if guessed else colour, edgecolor=colour,
                  hatch="///" if guessed else None)  # fmt: skip
        unit = "s" if key == "seconds" else "MB"
        text = f"{number(row[key], 3)} {unit}"
        if ratio and row["ratio_to_stock"] is not None and engine != "stock":
            text += f"   {times(row['ratio_to_stock'])}"
        axis.annotate(text + "   extrapolated" * guessed, (row[key], place), (4, 0), textcoords="offset points",
                      va="center", fontsize=9)  # fmt: skip
    axis.set_yticks(range(len(by)), [ENGINES[engine][0] for engine in by])
    axis.set_ylim(len(by) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _log_axis(axis, rows: Sequence[Row]) -> None:
    """Logarithmic seconds with room for the numbers on the right."""
    low, high = (pick(row["seconds"] for row in rows) for pick in (min, max))
    axis.set_xscale("log")
    axis.set_xlim(low / 2.5, high * (2.5 * high / low) ** 0.4)
    axis.set_xlabel("seconds, logarithmic")
