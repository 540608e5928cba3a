"""What a cheating seller gains by copies, several names, rows made for the appraisal, and labels; and what stops it.

The attacks and the countermeasures are mpc_appraisal's attacks.inflation, on scikit-learn's digits, on MNIST, and on
CIFAR-10's planes and cars. All values are computed in the clear by the formulas of the private methods; a private run
opens the same numbers up to the rounding of fixed point. A finished job stays in --work: the same command goes on where
it stopped. --small measures the digits alone. The seeds draw the buyer and the sellers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pandas as pd
from matplotlib.figure import Figure

from experiments.harness.jobs import Job
from experiments.harness.page import Page, page_of, run_facts, write_page
from experiments.harness.records import ABOUT, Row, read_rows, select
from experiments.harness.run import JobStudy, Run
from experiments.harness.size import Size
from experiments.studies.inflation import names, probe, sellers
from mpc_appraisal.common.errors import InputError

KEYS = {"about": ABOUT | {"size", "sizes", "missing"}, "probe": probe.KEYS, "guess": probe.GUESS_KEYS,
        "names": names.KEYS}  # fmt: skip
SIZES = ("own", "tested", "rows", "known", "l2", "lr")


class InflationStudy(JobStudy):
    name = "inflation"
    summary = "what a cheating seller gains, and which countermeasures stop it"
    text = __doc__
    parts = ("probe", "names")
    seeds = (1, 2)

    def jobs(self, run: Run) -> dict[str, list[Job]]:
        size, settings = run.size, run.size.settings("probe")
        return {
            "probe": probe.jobs(settings, size.seeds),
            "names": names.jobs(settings, size.settings("names"), size.seeds),
        }

    def facts(self, size: Size) -> dict[str, str]:
        s, n = size.settings("probe"), size.settings("names")
        found = {}
        for data in s.data:
            own, tested, rows, known, l2, lr = (getattr(getattr(s, key), data) for key in SIZES)
            found[data] = (
                f"{own} training rows and {tested:,} test rows of the buyer; sellers of {rows} rows; {known} known to "
                f"the cheating one; l2 = {l2:g}, fine-tuning at {lr:g}"
            )
        found["false labels"] = (
            f"honest sellers {', '.join(f'{level:g}' for level in s.levels)}; the cheating seller {s.wrong:g}"
        )
        found["attacks"] = f"{s.times} copies; rows {s.longer} times as long; {s.made:.0%} crafted rows"
        return found | {"names": names.sizes(n), "seeds": f"{size.seeds}"}

    def render(self, folder: Path) -> list[Page]:
        page, figures = page_and_figures(*read_rows(folder / "inflation.jsonl", KEYS))
        write_page(page, figures, folder, "inflation")
        return [page]


STUDY = InflationStudy()


def page_and_figures(about: Row, rows: Sequence[Row]) -> tuple[Page, dict[str, Figure]]:
    parts = {part: select(rows, part=part) for part in KEYS if part != "about"}
    if not parts["probe"]:
        raise InputError("inflation.jsonl", "no rows of probe", "rows of that part")
    found = probe.frame(parts["probe"])
    figures = {"inflation": probe.drawing(found)}
    figures |= {"inflation-names": names.drawing(parts["names"])} if parts["names"] else {}
    guards, honest = (sellers.NONE, sellers.ALL), found.attack == sellers.NOTHING
    page = page_of(
        "studies/inflation/report.md.jinja", figures, about=about, probe=probe, sellers=sellers,
        tables={data: {guard: probe.lines(found[found.data == data], guard) for guard in guards}
                for data in dict.fromkeys(found.data)},
        stopped={m: probe.stopped(found, [m]) for m in (*sellers.PRIVATE, sellers.PER_ROW)},
        short=counted(found[~honest]), plain=counted(found[honest])[sellers.NONE], insider=insider(found),
        named=names.lines(parts["names"]) if parts["names"] else [], guesses=cosines(parts["guess"]),
        facts=run_facts(about, about["sizes"], "inflation"),
    )  # fmt: skip
    return page, figures


def cosines(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean cosine of the guessed direction and the buyer's, by data set."""
    return {data: mean(r["cosine"] for r in select(rows, data=data)) for data in dict.fromkeys(r["data"] for r in rows)}


def counted(found: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Return for each countermeasure and method how often the buyer is fooled."""
    return {
        guard: {m: {"fooled": int(some[some.method == m].fooled.sum()), "of": int((some.method == m).sum())}
                for m in sellers.METHODS}
        for guard, some in found.groupby("guard", sort=False)
    }  # fmt: skip


def insider(found: pd.DataFrame) -> dict[str, float]:
    """Return for each countermeasure the median gain by influence of a seller that knows the model."""
    some = found[(found.attack == sellers.INSIDER) & (found.method == "influence")]
    return some.groupby("guard").gain.median().to_dict()
