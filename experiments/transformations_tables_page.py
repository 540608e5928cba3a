"""Tables 1 to 4 of RTAS's paper and its training, from the rows of `transformations_tables.py` alone."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench_page import Drawing, Row, blank

from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.backends.cost_model import WAN
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import DASH, Table, number

TRAIN, INFER = OPERATIONS = ("train", "infer")
PUBLISHED_BATCH = {TRAIN: 32, INFER: 8192}
PLAIN, CRYPTEN, ENGINE = "in the clear", "CrypTen as shipped", "the engine, no helper"
RTAS, RTAS_FAST, FLOATS, TENSEAL = "RTAS", "RTAS-fast", "RTAS, float shares", "TenSEAL's CKKS"
SPU = "SPU"
ORDER = (PLAIN, CRYPTEN, SPU, ENGINE, RTAS, RTAS_FAST, FLOATS, TENSEAL)
MODELS = ("logistic regression", "CNN")
PUBLISHED = {  # of the CNN: seconds on LAN (train, infer) and WAN, and Mb; None: blank or a dash in the paper
    "published: CryptoNets": ((None, 55.21), (None, 155.21), (None, 294.0)),
    "published: SecureNN": ((0.38, 122.61), (31.64, 6981.0), (22632.0, 1052.33)),
    "published: RTAS": ((0.54, 10.61), (3.25, 212.15), (333.6, 10.23)),
}
SECONDS_NOTES = (
    "Medians; one batch in a session of its own, with dry run, sharing of the batch and the dealer's work (CrypTen: "
    "all turns in one session); batches above 1,024 in parts of 1,024; three "
    f"processes and one thread each on one machine. WAN is a model: measured seconds + rounds x {1e3 * WAN.latency:g} "
    f"ms + bytes of the busiest party / {WAN.bandwidth / 1e6:g} Mbit/s.",
    "What is shown differs: the engine and CrypTen show nothing, RTAS the helper every function's arguments, permuted, "
    "RTAS-fast the label owner the first layer's outputs, row by row; float shares hide less with every step. CrypTen "
    "and the engine run the same code, with functions on shares.",
)
LOGISTIC_NOTE = "Tables 1 and 2 are blank in the paper (Rosetta, RTAS, RTAS-fast)."
CNN_NOTES = (
    "Published: four columns (CryptoNets, SecureNN, RTAS, RTAS-fast) and three values a line. Our reading: left to "
    "right as printed, RTAS-fast blank. CryptoNets' WAN is printed 55.21+100. Published times are of 16 cores at "
    "2.5 GHz and a Tesla T4, CryptoNets' of a laptop: they do not compare with ours.",
    "Published traffic as printed has RTAS infer 8,192 images with 10.23 Mb, but at 4 bytes a pixel these are 25.7 MB, "
    "205 Mbit; and train on 32 with 333.6 Mb. So for SecureNN and RTAS the lines Train and Infer are probably "
    "exchanged, and Mb is megabytes: compare ours, in total. They stand here as printed.",
)
TENSEAL_NOTE = (
    "TenSEAL, in place of CryptoNets: one image a ciphertext, squares for relu and sigmoid, one thread, encryption "
    "included; bytes are the ciphertexts sent. CryptoNets packs 8,192 images into one batch, so per image this one is "
    "far slower and per call far faster."
)
SPU_NOTE = (
    "SPU: SEMI2K between two processes, 64 bits, its own functions on shares. Inputs are shared beforehand and are not "
    "in its figures; its first party is trusted to make the triples, so that no dealer's bytes are in them, but that "
    "party could open everything. Rounds are messages of one party."
)


def _of(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["part"] == "table" and row["kind"] == kind]


def wan(row: Row) -> float:
    """Seconds of a cost row on the WAN, by the model of SECONDS_NOTES."""
    busiest = max(row["bytes"].values(), default=0)
    return median(row["seconds"]) + row["rounds"] * WAN.latency + 8 * busiest / WAN.bandwidth


def tables(rows: Sequence[Row]) -> list[Table]:
    measured = {row["system"] for row in _of(rows, "cost")}
    lacking = [row for row in _of(rows, "absent") if row["system"] not in measured]
    found, absent = [], [f"{row['system']}: not measured, {row['why']}." for row in lacking]
    absent += [SPU_NOTE] * (SPU in measured)
    for model, places in zip(MODELS, ((1, 2), (3, 4)), strict=True):
        mine = [row for row in _of(rows, "cost") if row["model"] == model]
        mine.sort(key=lambda row: (OPERATIONS.index(row["operation"]), -row["batch"], ORDER.index(row["system"])))
        found += [_seconds(mine, model, places[0], absent), _bytes(mine, model, places[1], absent)]
    return [*found, _training(_of(rows, "training"))]


def _seconds(rows: Sequence[Row], model: str, place: int, absent: Sequence[str]) -> Table:
    body = [
        (row["operation"], f"{row['batch']:,}", row["system"], number(median(row["seconds"]), 3),
         number(wan(row), 3) if row["bytes"] else DASH, str(len(row["seconds"])))
        for row in rows
    ]  # fmt: skip
    notes = [*SECONDS_NOTES, LOGISTIC_NOTE]
    if model == MODELS[1]:
        for operation, name, (lan, far, _) in _published():
            cells = [number(value, 4) if value is not None else DASH for value in (lan, far)]
            body.append((operation, f"{PUBLISHED_BATCH[operation]:,}", name, *cells, DASH))
        notes = [*SECONDS_NOTES, *CNN_NOTES, TENSEAL_NOTE, *_scaling(rows)]
    header = ("operation", "batch", "system", "LAN, s", "WAN, s", "turns")
    return Table(f"Table {place}: {model}, seconds for one batch", header, "lrlrrr", body, (*notes, *absent))


def _published() -> list[tuple[str, str, tuple[float | None, float | None, float | None]]]:
    """(operation, system, (LAN, WAN, Mb)), without what the paper leaves blank."""
    found = []
    for k, operation in enumerate(OPERATIONS):
        for name, values in PUBLISHED.items():
            of = tuple(pair[k] for pair in values)
            found += [(operation, name, of)] if any(value is not None for value in of) else []
    return found


def _scaling(rows: Sequence[Row]) -> list[str]:
    """From the smaller batch of images to the larger, of what was measured at both."""
    counts = sorted({row["batch"] for row in rows if row["operation"] == INFER and row["batch"] > 1})
    found, small, large = [], counts[0], counts[-1]
    for system in ORDER[1:]:
        by = {r["batch"]: median(r["seconds"]) for r in rows if (r["system"], r["operation"]) == (system, INFER)}
        if large in by and small in by:
            found.append(f"{system} {number(by[large] / by[small], 3)} x")
    if small == large or not found:
        return []
    return [
        f"From {small:,} to {large:,} images, {number(large / small, 3)} times as many, seconds grow by: "
        f"{', '.join(found)}."
    ]


def _bytes(rows: Sequence[Row], model: str, place: int, absent: Sequence[str]) -> Table:
    body = [
        (row["operation"], f"{row['batch']:,}", row["system"],
         *(number(row["bytes"].get(role, 0) / 1e6, 3) for role in ROLES),
         number(sum(row["bytes"].values()) / 1e6, 3), str(row["rounds"]))
        for row in rows
        if row["bytes"]
    ]  # fmt: skip
    notes = [
        "MB, 10^6 bytes, sent by each party; rounds of the owner that waits more often, which is the least that there "
        "are: in RTAS-fast owners wait in turn. Ring elements have 8 bytes, numbers of float shares 4."
    ]
    if model == MODELS[1]:
        for operation, name, (_, _, sent) in _published():
            cells = [DASH] * 3 + [f"{sent:,g} Mb", DASH]
            body.append((operation, f"{PUBLISHED_BATCH[operation]:,}", name, *cells))
        notes += [*CNN_NOTES, TENSEAL_NOTE]
    else:
        notes.append(LOGISTIC_NOTE)
    parties = (f"{role.replace('_', ' ')}, MB" for role in ROLES)
    header = ("operation", "batch", "system", *parties, "total", "rounds")
    return Table(f"Table {place}: {model}, traffic of one batch", header, "lrlrrrrr", body, (*notes, *absent))


def _training(rows: Sequence[Row]) -> Table:
    plain = {(row["model"], row["steps"]): row["accuracy"] for row in rows if row["system"] == PLAIN}
    body = []
    for row in sorted(rows, key=lambda r: (MODELS.index(r["model"]), r["steps"], ORDER.index(r["system"]))):
        away = row["accuracy"] - plain[row["model"], row["steps"]]
        recall = DASH if row["recall"] is None else f"{row['recall']:.1%}"
        body.append((row["model"], row["system"], f"{row['steps']:,}", f"{row['accuracy']:.2%}",
                     DASH if row["system"] == PLAIN else f"{100 * away:+.2f}", recall, number(row["seconds"], 3),
                     number(1e3 * row["seconds"] / row["steps"], 3),
                     number(sum(row["bytes"].values()) / 1e6, 3) if row["bytes"] else DASH,
                     str(row["rounds"] or DASH)))  # fmt: skip
    always = {row["model"]: row["always"] for row in rows}
    spreads = [row for row in rows if row["spread"] is not None]
    notes = [
        "Batches of 32, rate .1, squared loss summed over outputs, the same first weights, batches and rows in each "
        f"line of a model; accuracy on {rows[0]['tested']:,} rows that training has not seen, in points against the "
        "clear. Seconds with the predictions of these rows.",
        "The most frequent answer alone has: " + ", ".join(f"{model} {share:.1%}" for model, share in always.items())
        + ". Recall: of the zeros.",
        *(f"{row['system']}: after {row['steps']:,} steps a share of the weights has a root mean square of "
          f"{number(row['spread'], 3)}, whatever the weights are." for row in spreads),
    ]  # fmt: skip
    header = ("model", "system", "steps", "accuracy", "points", "recall", "seconds", "ms a step", "MB", "rounds")
    return Table("Training on shares against training in the clear", header, "llrrrrrrrr", body, tuple(notes))


def drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Seconds of one training batch, LAN and WAN."""
    figure = blank(9.0, 3.2)
    for axis, model in zip(figure.subplots(1, 2), MODELS, strict=True):
        lines = [
            (row["system"], row) for row in _of(rows, "cost") if row["model"] == model and row["operation"] == TRAIN
        ]
        lines.sort(key=lambda line: -ORDER.index(line[0]))
        for place, (system, row) in enumerate(lines):
            near = median(row["seconds"])
            axis.plot([near, wan(row)], [place, place], color=GREY, linewidth=1, zorder=1)
            axis.scatter([near], [place], color=BLUE, zorder=2, label="LAN, measured" if not place else None)
            if system != PLAIN:
                far = axis.scatter([wan(row)], [place], color=ORANGE, zorder=2)
                far.set_label("WAN, model" if place == 0 else None)
        axis.set_yticks(range(len(lines)), [system for system, _ in lines])
        axis.set_xscale("log")
        axis.set_xlabel("seconds for a batch of 32")
        axis.set_title(model, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, axis="x", color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        if model == MODELS[0]:
            handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    caption = "One training batch of 32 on shares: seconds on one machine, and on a WAN by the stated model."
    return [Drawing("transformations-training-batch", caption, figure)]
