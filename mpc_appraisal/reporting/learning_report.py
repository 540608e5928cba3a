"""The report of a run of private learning: on the console, in Markdown and as one HTML file.

In goes a `LearningRecord` and nothing else, so that a report can be made again from the line that a run wrote. Out come
a few lines on a console, or report.md, report.html and the figure attacks. Wording, order and sections may change. The
report has to keep what leaks, because no protocol may be shown without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpc_appraisal.reporting.brief import print_facts
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE, plain, save
from mpc_appraisal.reporting.learning_record import PROTOCOL, LearningRecord, above
from mpc_appraisal.reporting.page import Image, Lead, Page, write_page
from mpc_appraisal.reporting.recovered_images import CAPTION as RECOVERED
from mpc_appraisal.reporting.recovered_images import RecoveredImages, recovered_figure
from mpc_appraisal.reporting.table import DASH, Table, number
from mpc_appraisal.reporting.tiles import Tile

TITLE = "Private learning"
ATTACKS_TITLE = "Attacks"
SCALE = "Left is nothing, and right is everything that is sought."
ACCURACIES = "Accuracy on test rows: by the protocol, in the clear, and by always saying the commonest class."


def attacks_figure(found: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw what attacks recover beside a guess, and where they stop. found: findings, of which there is one or more."""
    figure, axis = _one_panel(len(found))
    for place, one in enumerate(found):
        axis.barh(place, one["chance"], color="#d1d5db", height=0.5, label="a guess" if not place else None)
        axis.plot(one["recovered"], place, "o", color=ORANGE, markersize=9, label="attack" if not place else None)
    stopped = [(one["stopped"], place) for place, one in enumerate(found) if one.get("stopped") is not None]
    if stopped:
        axis.plot(*zip(*stopped, strict=True), "x", color=GREY, markersize=7, label="the attack where it stops")
    axis.set_yticks(range(len(found)), [one["attack"] for one in found])
    axis.set(xlim=(-0.02, 1.02), xlabel="recovered")
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
    axis.invert_yaxis()
    plain(axis)
    return figure


def accuracies_figure(record: LearningRecord) -> Figure:
    """Draw accuracy on test rows: by the protocol, in the clear, and by always saying the commonest class."""
    figure, axis = _one_panel(0)
    bars = [(name, value) for name, value in _accuracies(record) if value is not None]
    axis.barh(range(len(bars)), [value for _, value in bars], color=[BLUE, GREY, "#d1d5db"][-len(bars) :])
    axis.set_yticks(range(len(bars)), [name for name, _ in bars])
    axis.set(xlim=(0, 1), xlabel="accuracy on test rows")
    axis.invert_yaxis()
    plain(axis)
    return figure


def _one_panel(lines: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, 1.2 + 0.5 * max(3, lines)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def attacks_caption(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the caption of `attacks_figure`, which explains crosses only where there are any."""
    crosses = any(one.get("stopped") is not None for one in found)
    also = " and what the attack recovers where it stops (crosses)" if crosses else ""
    return f"What each attack recovers (dots), beside what a guess recovers (bars){also}. {SCALE}"


def _accuracies(record: LearningRecord) -> list[tuple[str, float | None]]:
    found = record["accuracy"]
    return [(record["label"], found["private"]), ("in the clear", found["plain"]), ("commonest", found["always"])]


def learning_tiles(record: LearningRecord) -> list[Tile]:
    """Return accuracy, what the best attack recovers or that none was measured, and cost."""
    accuracy, best = record["accuracy"], record.best
    shown = accuracy["plain"] if accuracy["private"] is None else accuracy["private"]
    beside = (
        "in the clear" if accuracy["private"] is None else f"by {record['label']}; {accuracy['plain']:.3f} in the clear"
    )
    tiles = [(f"{shown:.3f}", f"accuracy on {record['data']['tested']} test rows {beside}")]
    if best is not None:
        tiles.append(attack_tile(best))
    else:
        opened = sum(one["numbers"] for one in record["openings"])
        tiles.append((f"{opened:,}", "numbers opened by the protocol; no attack was measured"))
    seconds, ratio = record["cost"]["seconds"], record.ratio
    if seconds is None:
        return [*tiles, (f"{number(record['cost']['plain_seconds'], 3)} s", "training in the clear; nothing was sent")]
    cost = f"{number(seconds, 3)} s, {number(record.sent / 1e6, 3)} MB"
    return [*tiles, (cost, f"{number(ratio, 2)} times the seconds in the clear, and sent by all parties")]


def attack_tile(found: Mapping[str, Any]) -> Tile:
    """Return what one attack recovered, beside a guess."""
    return (f"{found['recovered']:.2f}", f"{found['meaning']}, by {found['attack']}; a guess: {found['chance']:.2f}")


def summary_table(record: LearningRecord) -> Table:
    """Return the sentences at the top."""
    a, data = record["accuracy"], record["data"]
    notes = [
        f"{record['label']} ({record['protocol']}) trained on {data['trained']} rows of {data['name']} in "
        f"{data['steps']} steps, and predicted {data['tested']} test rows.",
        "Accuracy: "
        + ("" if a["private"] is None else f"{a['private']:.3f} by the protocol, ")
        + f"{a['plain']:.3f} in the clear; {a['always']:.3f} is the share of the commonest class.",
    ]
    if record["session"] == "plain":
        notes.append(
            "The session is plain: the protocol was not run, and attacks are simulated from the plain training."
        )
    if record["attack"] not in (None, "none") and not record["attacks"]:
        notes.append("No attack here fits this protocol.")
    return Table("In short", (), "", [], tuple(notes))


def attacks_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each attack recovered, beside a guess, and where it stops."""
    rows = [
        (one["attack"], one["setting"], f"{one['recovered']:.3f}", f"{one['chance']:.3f}", f"{above(one):.2f}",
         one["meaning"], one["stops"], DASH if one.get("stopped") is None else f"{one['stopped']:.3f}",
         "yes" if one.get("assumed", True) else "no", one.get("against", PROTOCOL))
        for one in findings
    ]  # fmt: skip
    header = ("attack", "setting", "recovered", "chance", "above chance", "of what", "where it stops",
              "recovered there", "assumed", "against")  # fmt: skip
    notes = (
        "Above chance: (recovered - chance) / (1 - chance). Assumed: whether the protocol's assumptions allow it; "
        "parties that collude break them, and so do keys that can be searched for. Against: what is attacked; no "
        "protocol stops attacks on what is opened, or on which rows are offered.",
    )
    return Table(ATTACKS_TITLE, header, "llrrrllrll", rows, notes if rows else ("No attack was measured.",))


def cost_table(record: LearningRecord) -> Table:
    """Return seconds, bytes and rounds, beside the seconds in the clear."""
    cost = record["cost"]
    rows = [("in the clear", number(cost["plain_seconds"], 3), DASH, DASH)]
    if cost["seconds"] is not None:
        rows.insert(
            0, (record["label"], number(cost["seconds"], 3), number(record.sent / 1e6, 3), f"{cost['rounds']:,}")
        )
        rows += [
            (f"sent by the {role.replace('_', ' ')}", DASH, number(n / 1e6, 3), DASH)
            for role, n in cost["bytes"].items()
        ]
    return Table("Cost", ("training and inference", "seconds", "MB", "rounds"), "lrrr", rows)


def opened_table(record: LearningRecord) -> Table:
    """Return what the protocol opened, to whom, how many numbers, and why."""
    rows = [
        (" and ".join(o["to"]).replace("_", " "), o["what"], f"{o['numbers']:,}", o["why"]) for o in record["openings"]
    ]
    notes = () if rows else ("Nothing was opened by a protocol.",)
    return Table("What was opened", ("who learned", "what", "numbers", "why"), "llrl", rows, notes)


def facts_table(record: LearningRecord) -> Table:
    """Return the settings and the facts of the run."""
    facts: Mapping[str, Any] = {**record["settings"], **{f"data.{k}": v for k, v in record["data"].items()}}
    facts = {**facts, **{key: record[key] for key in ("session", "seed", "config", "revision", "time")}}
    rows = [(key, DASH if value is None else str(value)) for key, value in facts.items()]
    rows += [(key, value or DASH) for key, value in record["versions"].items()]
    return Table("Run", ("fact", "value"), "ll", rows)


def write_learning(record: LearningRecord, folder: str | Path, recovered: Sequence[RecoveredImages] = ()) -> list[Path]:
    """Write report.md, report.html and the figures into `folder`, and return their paths.

    recovered: images that attacks recovered of a public data set.
    """
    found = record["attacks"]
    images = save(attacks_figure(found) if found else accuracies_figure(record), folder, "attacks")
    table, beside = attacks_table(found), {}
    drawn = recovered_figure(recovered)
    if drawn is not None:
        pictures = save(drawn, folder, "recovered")
        images, beside = (*images, *pictures), {table.title: Image(pictures[1], RECOVERED)}
    page = Page(
        TITLE,
        main=[summary_table(record), table, opened_table(record), cost_table(record)],
        trust=[*record["leakage"], record["trust"]],
        details=[facts_table(record)],
        lead=Lead(learning_tiles(record), Image(images[1], attacks_caption(found) if found else ACCURACIES)),
        beside=beside,
        trust_title="What leaks, and trust",
    )
    return [*write_page(page, folder), *images]


def print_learning(record: LearningRecord, console: Any, report: str | Path | None = None) -> None:
    """Print the run in short on a rich console, with the trust, and with what leaks in full.

    report: the path of the report, which the last line links to; None for none.
    """
    print_facts(_facts(record), console, report, "Leaks")


def attacks_line(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return what attacks recovered in one sentence."""
    told = [f"{o['attack']}: {o['recovered']:.2f} (a guess {o['chance']:.2f})" for o in findings]
    return f"{'; '.join(told) or 'none measured'}."


def _facts(record: LearningRecord) -> list[tuple[str, str]]:
    """Return the run in short, a label and a text for each fact."""
    notes, cost = summary_table(record).notes, record["cost"]
    spent = f"{number(cost['plain_seconds'], 3)} s in the clear"
    if cost["seconds"] is not None:
        spent = f"{number(cost['seconds'], 3)} s, {number(record.sent / 1e6, 3)} MB, {cost['rounds']:,} rounds; {spent}"
    opened = [f"{o['numbers']:,} numbers ({o['what']}) to {' and '.join(o['to'])}" for o in record["openings"]]
    return [
        *(("" if k else "In short", note) for k, note in enumerate(notes)),
        ("Attacks", attacks_line(record["attacks"])),
        ("Cost", f"{spent}."),
        ("Opened", f"{'; '.join(opened) or 'nothing by a protocol'}.".replace("_", " ")),
        ("Leaks", " ".join(record["leakage"])),
        ("Trust", record["trust"]),
    ]
