"""Cost against leak in the report of a sweep: a point for each protocol, the table of the points, and their frame.

    cost = seconds of the protocol / seconds of the same operation in the clear
    above chance = (recovered - chance) / (1 - chance)      of the best attack that was measured

In go the runs of a sweep: those of private learning, and others for which an attack was chosen. Out come points,
which are means over seeds, a figure, tables, sentences, and a frame with a row for each finding of each run. Words and
colours may change. The columns of the frame have to stay, because users' programs read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpc_appraisal.reporting.attacked import EVERY
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE, plain
from mpc_appraisal.reporting.learning_record import PROTOCOL, LearningRecord, above, counts
from mpc_appraisal.reporting.point_labels import labels_beside
from mpc_appraisal.reporting.run_folders import DONE, RunFolder
from mpc_appraisal.reporting.table import DASH, Table, number
from mpc_appraisal.reporting.tiles import Tile

if TYPE_CHECKING:
    from pandas import DataFrame

TITLE = "Cost against leak"
CAPTION = (
    "Each protocol's seconds, to those of the same operation in the clear, against what its best attack here recovers "
    "above chance. Down and left is better. A protocol without an attack lies at 0: none that was tried recovers "
    "anything, which is no proof."
)
NO_ATTACK = "no attack fits"
NOT_TRIED = "no attack measured"


@dataclass(frozen=True)
class LeakPoint:
    """One protocol under one condition, as means over its runs.

    Attributes:
        label: The protocol in words, with the settings that tell it apart.
        operation: What was computed.
        runs: The number of runs.
        accuracy, plain_accuracy: By the protocol and in the clear; None for appraisals.
        seconds: By the protocol; None where only plain sessions ran.
        plain_seconds: The same operation in the clear.
        megabytes: What all parties sent; None where nothing was sent.
        attack: The best attack, or why there is none.
        recovered, chance: What it recovers, and a guess; None without an attack.
    """

    label: str
    operation: str
    runs: int
    accuracy: float | None
    plain_accuracy: float | None
    seconds: float | None
    plain_seconds: float
    megabytes: float | None
    attack: str
    recovered: float | None
    chance: float | None

    @property
    def ratio(self) -> float | None:
        """The seconds of the protocol, to those in the clear; None where it did not run."""
        return None if self.seconds is None or not self.plain_seconds > 0 else self.seconds / self.plain_seconds

    @property
    def above(self) -> float | None:
        """How far the attack is above chance; 0 where none fits, and None where none was tried."""
        if self.recovered is None:
            return 0.0 if self.attack == NO_ATTACK else None
        return above({"recovered": self.recovered, "chance": self.chance})


def leak_points(runs: Sequence[RunFolder]) -> list[LeakPoint]:
    """Return a point for each protocol and condition, in the order in which they first appear."""
    facts = [_facts(run) for run in runs if run.learning is not None or run.attacked is not None]
    shared = _shared([one["settings"] for one in facts])
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in facts:
        own = [k for k, v in one["settings"].items() if k not in shared[one["label"]] and v is not None]
        words = tuple(f"{key.removeprefix('protocol.')}={one['settings'][key]}" for key in own)
        groups.setdefault((one["label"], *words), []).append(one)
    return [_point(key, group) for key, group in groups.items()]


def _facts(run: RunFolder) -> dict[str, Any]:
    """Return what a run says of cost and leak, alike for both kinds of runs."""
    if run.learning is None:
        a = run.attacked
        settings = {"label": a.label, "operation": a.operation}
        return {"label": a.label, "settings": settings, "operation": a.operation, "accuracy": None,
                "plain_accuracy": None, "seconds": a.seconds, "plain_seconds": a.plain_seconds, "mb": a.megabytes,
                "attacks": a.attacks,
                "tried": a.chosen == EVERY or any(map(counts, a.attacks))}  # fmt: skip
    r: LearningRecord = run.learning
    kept = {k: v for k, v in r["settings"].items() if k.startswith(("protocol.", "data")) and k != "data.digest"}
    return {"label": r["label"], "settings": {"label": r["label"], **kept}, "accuracy": r["accuracy"]["private"],
            "operation": f"training in {r['data']['steps']} steps", "plain_accuracy": r["accuracy"]["plain"],
            "seconds": r["cost"]["seconds"], "plain_seconds": r["cost"]["plain_seconds"],
            "mb": None if r.sent is None else r.sent / 1e6, "attacks": r["attacks"],
            "tried": r["attack"] not in (None, "none")}  # fmt: skip


def _shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return, for each protocol, the settings that are the same in all of its runs."""
    found: dict[str, set[str]] = {}
    for label in {one["label"] for one in settings}:
        own = [one for one in settings if one["label"] == label]
        found[label] = {key for one in own for key in one if len({str(each.get(key)) for each in own}) == 1}
    return found


def _point(key: tuple[str, ...], group: Sequence[dict[str, Any]]) -> LeakPoint:
    def mean(name: str) -> float | None:
        known = [one[name] for one in group if one[name] is not None]
        return fmean(known) if known else None

    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in group:
        for finding in one["attacks"]:
            if counts(finding):
                found.setdefault(finding["attack"], []).append(finding)
    best = max(found, key=lambda name: fmean(map(above, found[name])), default=None)
    none = NO_ATTACK if any(one["tried"] for one in group) else NOT_TRIED
    means = {k: None if best is None else fmean(f[k] for f in found[best]) for k in ("recovered", "chance")}
    label = key[0] + (f" ({', '.join(key[1:])})" if key[1:] else "")
    return LeakPoint(label, group[0]["operation"], len(group), mean("accuracy"), mean("plain_accuracy"),
                     mean("seconds"), mean("plain_seconds"), mean("mb"), best or none, **means)  # fmt: skip


def leak_figure(points: Sequence[LeakPoint]) -> Figure | None:
    """Draw cost against leak, with the plaintext at 1; None where no protocol ran and was attacked."""
    shown = [p for p in points if p.ratio is not None and p.above is not None]
    if not shown:
        return None
    figure = Figure(figsize=(10.0, 5.6))
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0.09, 0.12, 0.88, 0.83))
    places = [(1.0, 1.0, "in the clear\nnone is needed")]
    places += [(p.ratio, p.above, f"{p.label}\n{p.attack}") for p in shown]
    ratios = [x for x, _, _ in places]
    axis.set(xscale="log", xlim=(min(ratios) / 4, max(ratios) * 6), ylim=(-0.3, 1.35),
             xlabel="seconds, to those of the same operation in the clear",
             ylabel="recovered by the best attack here, above chance")  # fmt: skip
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0\na guess", "0.25", "0.5", "0.75", "1\nall"])
    plain(axis)
    for (x, y, _), colour in zip(places, [GREY, *(BLUE if p.above == 0 else ORANGE for p in shown)], strict=True):
        axis.plot(x, y, "o", markersize=10, color=colour, markeredgecolor="white", zorder=3)
    labels_beside(axis, places)
    return figure


def leak_table(points: Sequence[LeakPoint]) -> Table:
    """Return the table of the points."""

    def share(value: float | None) -> str:
        return DASH if value is None else f"{value:.3f}"

    rows = [
        (p.label, p.operation, str(p.runs), share(p.accuracy), share(p.plain_accuracy), number(p.seconds, 3),
         DASH if p.ratio is None else f"{number(p.ratio, 2)} x", number(p.megabytes, 3), p.attack, share(p.recovered),
         share(p.chance), DASH if p.above is None else f"{p.above:.2f}")
        for p in points
    ]  # fmt: skip
    header = ("protocol", "operation", "runs", "accuracy", "in the clear", "seconds", "to the clear", "MB",
              "best attack", "recovered", "chance", "above chance")  # fmt: skip
    notes = (
        "Means over runs. Seconds are compared with those of the same operation in the clear, which differs between "
        "protocols. Attacks that break a protocol's assumptions do not count: parties that collude, which no protocol "
        "here withstands, and keys that can be searched for.",
    )
    return Table(TITLE, header, "llrrrrrrlrrr", rows, notes)


def other_attacks_table(runs: Sequence[RunFolder]) -> Table:
    """Return what attacks recovered that no protocol can stop, as means over runs. There may be no rows."""
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        for one in run.attacked.attacks if run.attacked is not None else ():
            if one.get("against", PROTOCOL) != PROTOCOL:
                found.setdefault((run.attacked.label, one["attack"], one["against"]), []).append(one)
    rows = []
    for (label, attack, against), group in found.items():
        stopped = [one["stopped"] for one in group if one.get("stopped") is not None]
        means = [fmean(one[key] for one in group) for key in ("recovered", "chance")]
        cells = (*(f"{mean:.3f}" for mean in means), f"{fmean(map(above, group)):.2f}", group[0]["meaning"])
        rows.append((label, attack, against, str(len(group)), *cells, f"{fmean(stopped):.3f}" if stopped else DASH))
    header = ("protocol", "attack", "against", "runs", "recovered", "chance", "above chance", "of what",
              "where it stops")  # fmt: skip
    notes = (
        "Means over runs. These attacks begin from what every protocol opens, or from which rows are offered, so that "
        "they count against no protocol. Each run's own page says where they stop.",
    )
    return Table("Attacks on what is opened or offered", header, "lllrrrrlr", rows, notes)


def short_table(points: Sequence[LeakPoint]) -> Table:
    """Return the columns of `leak_table` that fit a terminal of 80 columns."""
    full = leak_table(points)
    kept = [full.header.index(name) for name in ("protocol", "accuracy", "to the clear", "best attack", "above chance")]
    rows = [tuple(row[k] for k in kept) for row in full.rows]
    return Table(TITLE, tuple(full.header[k] for k in kept), "".join(full.align[k] for k in kept), rows)


def leak_sentences(points: Sequence[LeakPoint]) -> list[str]:
    """Return what was found, in two or three sentences."""
    if not points:
        return []
    said = [f"{len(points)} protocol{'s' * (len(points) != 1)} compared by cost and leak."]
    known = [p for p in points if p.above is not None]
    if known:
        worst, least = max(known, key=lambda p: p.above), min(known, key=lambda p: p.above)
        if worst.recovered is None:
            said.append("No attack on these protocols fits, which is no proof that none leaks.")
        else:
            said.append(f"Most is recovered of {worst.label}: {worst.above:.2f} above chance, by {worst.attack}.")
        if least.above < worst.above:
            said.append(f"Least is recovered of {least.label}: {least.above:.2f} above chance ({least.attack}).")
    ran = [p for p in points if p.ratio is not None]
    if ran:
        cheap = min(ran, key=lambda p: p.ratio)
        said.append(f"The cheapest is {cheap.label}: {number(cheap.ratio, 2)} times the seconds in the clear.")
    return said


def leak_tiles(points: Sequence[LeakPoint]) -> list[Tile]:
    """Return how many protocols there are, the largest leak, and the cheapest that leaks nothing here."""
    tiles = [(str(len(points)), "protocols compared by cost and leak" if len(points) != 1 else "protocol")]
    known = [p for p in points if p.above is not None]
    if known:
        worst = max(known, key=lambda p: p.above)
        by = NO_ATTACK if worst.recovered is None else f"by {worst.attack}"
        tiles.append((f"{worst.above:.2f}", f"of {worst.label} recovered above chance, {by}"))
    safe = [p for p in known if p.ratio is not None and p.above < 0.05]
    if safe:
        best = min(safe, key=lambda p: p.ratio)
        tiles.append(
            (f"{number(best.ratio, 2)} x", f"the seconds in the clear: {best.label}; no attack here recovers anything")
        )
    return tiles


def tiles_of_both(agreement: Sequence[Tile], points: Sequence[LeakPoint]) -> list[Tile]:
    """Return the numbers that lead a page of appraisals and of protocols that were compared by cost and leak.

    agreement: the numbers of the appraisals, of which the first leads. The largest leak follows, and the cheapest
    protocol that leaks nothing here, or else the next number of the appraisals.
    """
    leaks = leak_tiles(points)[1:]
    return [*agreement[:1], *leaks, *agreement[1:]][:3]


def leak_sources(runs: Sequence[RunFolder]) -> list[str]:
    """Return the sentences on leaks and trust of the runs of private learning, each once."""
    records = [run.learning for run in runs if run.learning is not None]
    said = [f"{r['label']}: {sentence}" for r in records for sentence in (*r["leakage"], r["trust"])]
    return list(dict.fromkeys(said))


def learning_rows(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return a row for each finding of each run of private learning, and one row for a run without findings."""
    rows = []
    for run in runs:
        r = run.learning
        if r is None:
            continue
        facts = {"sweep": run.sweep, "folder": run.folder, "finished": run.state == DONE}
        facts |= {key: r[key] for key in ("protocol", "label", "session", "seed")}
        facts |= {"accuracy": r["accuracy"]["private"], "plain_accuracy": r["accuracy"]["plain"]}
        facts |= {"always": r["accuracy"]["always"], "seconds": r["cost"]["seconds"]}
        facts |= {"plain_seconds": r["cost"]["plain_seconds"], "rounds": r["cost"]["rounds"]}
        facts |= {"megabytes": None if r.sent is None else r.sent / 1e6}
        settings = {f"settings.{key}": value for key, value in r["settings"].items() if value is not None}
        for one in r["attacks"] or [None]:
            told = {} if one is None else {key: one.get(key) for key in ("attack", "recovered", "chance", "stopped")}
            rows.append(facts | told | ({} if one is None else {"above_chance": above(one)}) | settings)
    return rows


def learning_frame(runs: Sequence[RunFolder]) -> DataFrame:
    """Return the rows of `learning_rows` as a frame, with the settings last."""
    import pandas

    frame = pandas.DataFrame(learning_rows(runs))
    own = sorted(column for column in frame.columns if column.startswith("settings."))
    return frame[[column for column in frame.columns if column not in own] + own]
