"""Model extraction through gradient-norm appraisals, and what stops it: agreement by number of appraisals and guard.

    python experiments/extraction.py --out DIR [--noise-seeds 3] [--plain]

The attack is `mpc_appraisal/attacks/extraction.py`. On scikit-learn's digits (10 classes) and on MNIST's zeros and
ones; the model owner trains on 600 rows, the attacker has 600 others. First on the private protocol with three
processes, then by its plaintext formula under guards: a minimum number of rows, a cap on appraisals, noise on the
opened norm; and beside it the attacker's own model, trained on its own labelled rows without any appraisal. m noisy
appraisals of one probe are drawn as their mean, of noise sigma / sqrt(m). Writes DIR/extraction.jsonl, and from it
alone extraction.md, .html and a figure; `--render-only` measures nothing and writes these again; `--plain` leaves the
private runs out.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench_common import about, write_lines
from bench_page import Drawing, Page, Row, blank, read_records, run_table, sentences, show, write_page
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mpc_appraisal import appraise
from mpc_appraisal.attacks import extraction as attack
from mpc_appraisal.data import Dataset, Digits, Mnist, with_bias
from mpc_appraisal.figures import BLUE, GREY, ORANGE
from mpc_appraisal.models import SoftmaxRegression
from mpc_appraisal.tables import DASH, Table, number
from mpc_appraisal.training import fit

L2, SIZE, ROWS, JITTER, KNOWN = 3e-3, 2.0, 100, 0.05, 600
SIGMAS, REPEATS = (1.0, 5.0), (1, 4, 16, 64, 256)
KEYS = ("part", "data", "session", "directions", "appraisals", "rows", "sigma", "agreement", "probability_error",
        "seconds", "features", "classes", "held_out", "chance", "noise_seeds", "machine", "versions", "revision",
        "command")  # fmt: skip
CAPTION = (
    "Digits: predictions of the stolen model that agree with the owner's on held-out rows, by appraisals. "
    "Left: unit or principal directions; dashes: a model of the attacker's own rows, no appraisal. "
    "Right: noise of sigma times one row's sensitivity on each value; "
    "crosses: candidates of 100 copies of the probe."
)


def zeros_and_ones() -> tuple[Dataset, Dataset]:
    parts = [part.subset((part.y < 2).nonzero()[:, 0]) for part in Mnist().load()]
    train, test = (Dataset(part.x, part.y, 2, "MNIST 0/1") for part in parts)
    return train, test


class Measure:
    """One model and what attacks on it give, as rows."""

    def __init__(self, name: str, train: Dataset, test: Dataset, made: dict[str, Any]):
        owners, self.own = (train.subset(torch.arange(start, start + KNOWN)) for start in (0, KNOWN))
        self.train, self.test, self.model = owners, test, fit(owners, L2)
        facts = {"features": train.features, "classes": train.classes, "held_out": test.rows}
        self.about = {"data": name} | facts | {"chance": attack.chance(self.model, test.x)} | made

    def probes(self, **options: Any) -> list[Dataset]:
        return attack.probes(self.train.features, self.train.classes, **({"size": SIZE} | options))

    def values(self, candidates: Sequence[Dataset], session: str = "plain") -> list[float]:
        result = appraise(candidates, model=self.model, method="gradient_norm", session=session, l2=L2)
        return [record.value for record in result]

    def row(self, part: str, appraisals: int, stolen: Sequence[SoftmaxRegression], **facts: Any) -> Row:
        """Medians over `stolen` models."""
        found = {
            "agreement": median(attack.agreement(self.model, each, self.test.x) for each in stolen),
            "probability_error": median(attack.probability_error(self.model, each, self.test.x) for each in stolen),
        }
        rest = {"session": "plain", "directions": "unit", "rows": 1, "sigma": 0.0, "seconds": None, "noise_seeds": 0}
        return {"part": part, "appraisals": appraisals} | rest | found | facts | self.about

    def whole(self, session: str, **options: int) -> Row:
        candidates, start = self.probes(**options), time.perf_counter()
        values = self.values(candidates, session)
        seconds = time.perf_counter() - start
        stolen = [attack.recover(values, candidates)]
        facts = {"session": session, "seconds": seconds, "rows": options.get("rows", 1)}
        return self.row("whole", len(candidates), stolen, **facts)

    def capped(self, name: str, count: int) -> Row:
        d = self.train.features
        along = torch.eye(d, dtype=torch.float64)[:count] if name == "unit" else attack.principal(self.own.x, count)
        candidates = self.probes(directions=along)
        stolen = [attack.recover(self.values(candidates), candidates)]
        return self.row("cap", len(candidates), stolen, directions=name)

    def noisy(self, sigma: float, rows: int, repeats: int, seeds: int) -> Row:
        """Noise of sigma * sqrt(2) R on f, the sensitivity of a sum to one row of norm R; probes are that long."""
        longest = with_bias(self.own.x.to(torch.float64)).norm(dim=1).max().item()
        candidates, stolen = self.probes(size=math.sqrt(longest**2 - 1), rows=rows), []
        exact, noise = torch.tensor(self.values(candidates)), sigma * math.sqrt(2 / repeats) * longest
        for seed in range(seeds):
            drawn = torch.randn(len(exact), generator=torch.Generator().manual_seed(seed))
            stolen.append(attack.most_likely((exact + noise * drawn).tolist(), candidates, noise))
        facts = {"sigma": sigma, "rows": rows, "noise_seeds": seeds}
        return self.row("noise", len(candidates) * repeats, stolen, **facts)


def measure(seeds: int, private: bool, made: dict[str, Any]) -> list[Row]:
    digits = Measure("digits", *Digits().load(), made)
    binary = Measure("MNIST 0/1", *zeros_and_ones(), made)
    found = [m.whole(s) for s in ("spawn",) * private + ("plain",) for m in (digits, binary)]
    found.append(digits.whole("plain", rows=ROWS, jitter=JITTER))
    found += [m.row("own", 0, [fit(m.own, L2)], directions=DASH, rows=0) for m in (digits, binary)]
    found += [digits.capped(n, k) for n in ("unit", "principal") for k in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)]
    found += [binary.capped("principal", k) for k in (1, 2, 4, 8, 16, 32)]
    found += [digits.noisy(s, rows, m, seeds) for s in SIGMAS for rows in (1, ROWS) for m in REPEATS]
    return found


def render(folder: Path) -> Page:
    """Writes extraction.md, .html, .png and .svg beside extraction.jsonl. Raises InputError for unfit records."""
    page = page_of(read_records(folder / "extraction.jsonl", KEYS))
    write_page(page, folder, "extraction")
    return page


def page_of(found: Sequence[Row]) -> Page:
    parts = {part: [row for row in found if row["part"] == part] for part in ("whole", "own", "cap", "noise")}
    main = [_summary(parts)] + [_table(title, parts[part]) for part, title in TITLES.items()]
    trust = (
        "The data owner attacks: it keeps to the protocol and chooses its data only, so no "
        "engine, honest dealer or TLS prevents it. Opening the value to the model owner alone would, as "
        "long as no price tells it to the data owner; that was not measured."
    )
    facts = {"models": f"softmax regression, l2 = {L2:g}; attacked with x = 0 and x = {SIZE:g} u, no noise"}
    details = [run_table(found[0], facts, "extraction.py")]
    return Page("Model extraction by appraisals", main, [Drawing("extraction", CAPTION, figure_of(parts))],
                [trust], details)  # fmt: skip


TITLES = {
    "whole": "The whole model, no guard",
    "own": "Without an appraisal: the attacker trains on its own rows",
    "cap": "A cap on appraisals",
    "noise": "Noise on the value",
}


def _summary(parts: dict[str, list[Row]]) -> Table:
    whole = [r for r in parts["whole"] if r["rows"] == 1]
    lines = [
        f"{r['data']}, {'private protocol' if r['session'] == 'spawn' else 'plaintext formula'}: {r['appraisals']} "
        f"appraisals of one row give a model that agrees on {r['agreement']:.1%} of {r['held_out']} held-out rows "
        f"(chance {r['chance']:.1%}); probabilities are off by {number(r['probability_error'], 2)} at most."
        for r in whole
    ]
    padded = next(r for r in parts["whole"] if r["rows"] > 1)
    lines.append(f"A minimum of {padded['rows']} rows alone stops nothing: that many near-copies of each probe give "
                 f"{padded['agreement']:.1%} with as many appraisals.")  # fmt: skip
    digits = [r for r in parts["cap"] if r["data"] == "digits" and r["directions"] == "principal"]
    own = {r["data"]: r for r in parts["own"]}
    half = max((r for r in digits if r["agreement"] < 0.5), key=lambda r: r["appraisals"])
    most = min((r for r in digits if r["agreement"] >= 0.95), key=lambda r: r["appraisals"])
    lines.append(f"A cap must be far below (d + 1) C: along principal directions of its own rows the attacker has "
                 f"{most['agreement']:.1%} after {most['appraisals']} appraisals, {half['agreement']:.1%} after "
                 f"{half['appraisals']} (digits). Without any it can train on {KNOWN} labelled rows of its own: "
                 f"{own['digits']['agreement']:.1%}; the two tasks are easy, and no guard touches that.")  # fmt: skip
    one, many = (
        next(r for r in parts["noise"] if r["sigma"] == 1.0 and r["rows"] == n and r["appraisals"] == 650)
        for n in (1, ROWS)
    )
    lines.append(f"Noise of sigma 1 leaves {one['agreement']:.1%} after 650 appraisals of one row, but "
                 f"{many['agreement']:.1%} of {ROWS} copies: calibrated to one row of a sum, it protects rows, "
                 "not the model. Noise that grows with the rows keeps the first figure for any number.")  # fmt: skip
    return sentences("In short", lines)


def _table(title: str, rows: Sequence[Row]) -> Table:
    header = ("data", "values", "directions", "rows each", "sigma", "appraisals", "agreement", "chance",
              "largest error of p", "seconds")  # fmt: skip
    cells = [
        (
            r["data"],
            "private" if r["session"] == "spawn" else "plaintext",
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
    if any(r["noise_seeds"] for r in rows):
        notes.append("Drawn, not run: Gaussian noise on the norm f that the plaintext formula gives.")
        notes.append(f"Medians of {rows[0]['noise_seeds']} draws of the noise; most likely weights, normal prior of "
                     "standard deviation 0.3. Sigma: in units of sqrt(2) R, R the attacker's longest row.")  # fmt: skip
    return Table(title, header, "lllrrrrrrr", cells, tuple(notes))


def figure_of(parts: dict[str, list[Row]]) -> Figure:
    """Two panels of agreement by appraisals; see CAPTION."""
    figure = blank(11.0, 4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    digits = [r for r in parts["cap"] if r["data"] == "digits"]
    own = next(r for r in parts["own"] if r["data"] == "digits")
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
    left.set(title="A cap on appraisals, no noise", ylabel="agreement with the model", ylim=(0, 1.03))
    right.set(title="Noise on the value, no cap")
    for axis in (left, right):
        axis.axhline(digits[0]["chance"], color="0.45", linewidth=1, linestyle=":", label="chance")
        axis.set(xscale="log", xlabel="appraisals, logarithmic")
        axis.grid(True, color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    left.axhline(own["agreement"], color=GREY, linewidth=1, linestyle="--", label="attacker's own model")
    left.set_xticks([20, 50, 100, 200, 650], ["20", "50", "100", "200", "650"])
    right.set_xticks([650, 2600, 10400, 41600, 166400], ["650", "2,600", "10,400", "41,600", "166,400"])
    for axis, columns in ((left, 2), (right, 3)):
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns, frameon=False, fontsize=8.5)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for extraction.jsonl and the report")
    parser.add_argument("--render-only", action="store_true", help="the report of an earlier run's extraction.jsonl")
    parser.add_argument("--noise-seeds", type=int, default=3, help="draws of the noise; figures are medians")
    parser.add_argument("--plain", action="store_true", help="no private runs")
    args = parser.parse_args(argv)
    if args.noise_seeds < 1:
        parser.error(f"--noise-seeds: got {args.noise_seeds}; expected 1 or more")
    if not args.render_only:
        made = about("extraction.py", parser, args, True)
        write_lines(args.out / "extraction.jsonl", measure(args.noise_seeds, not args.plain, made))
    page = render(args.out)
    show([*page.main, *page.details])


if __name__ == "__main__":
    main()
