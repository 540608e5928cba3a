"""Random transformations: RTAS, RTAS-fast and InstaHide, published and measured, each with the attacks on it.

A finished job stays in --work: the same command goes on where it stopped. The rows of all finished jobs are kept in
OUT/transformations.jsonl, from which the report is made. Seeds are turns of appraisals, a seed each.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.harness.jobs import Job
from experiments.harness.page import Page, page_of, plural, run_facts, write_page
from experiments.harness.records import ABOUT, Row, part_of, read_rows
from experiments.harness.run import JobStudy, Run
from experiments.harness.size import Size
from experiments.studies.transformations import attack_figures, attacks, cheating, instahide, picture, protocols, tables
from mpc_appraisal.common.roles import ASSUMPTION, ROLES
from mpc_appraisal.mpc.backends.rtas import LEAKAGE as RTAS
from mpc_appraisal.transformations.instahide import LEAKAGE as INSTAHIDE

KEYS = {
    "about": ABOUT | {"size", "sizes", "missing"},
    "protocol": {"kind", "protocol", "seconds", "mb"},
    "table": {"kind", "system"},
    "attack": {"protocol", "attack", "setting", "recovered", "chance", "meaning", "stops"},
    "instahide": {"data"},
    "cheat": {"protocol", "checked", "rows", "truth", "gained", "refusal", "revision"},
}


class TransformationsStudy(JobStudy):
    name = "transformations"
    summary = "RTAS, RTAS-fast and InstaHide, with the attacks on them"
    text = __doc__
    parts = ("protocol", "attack", "instahide", "table", "cheat")
    seeds = (1, 3)

    def options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--spu-python", metavar="PYTHON", help="an interpreter that has spu: a rival in the tables")

    def jobs(self, run: Run) -> dict[str, list[Job]]:
        settings = {part: run.size.settings(part) for part in ("protocol", "attacks", "instahide", "tables")}
        return {
            "protocol": protocols.jobs(settings["protocol"], run.size.seeds),
            "attack": attacks.jobs(settings["attacks"]),
            "instahide": instahide.jobs(settings["instahide"]),
            "table": tables.jobs(settings["tables"], run.args.spu_python),
            "cheat": cheating.jobs(),
        }

    def facts(self, size: Size) -> dict[str, str]:
        s = size.settings("protocol")
        text = f"{s.data}, one candidate of {s.rows:,} rows, {s.own:,} training rows, {s.tested:,} test rows"
        return {"appraisals": f"{text}, l2 = {s.l2:g}; {plural(size.seeds, 'turn')}, a seed each"}

    def render(self, folder: Path) -> list[Page]:
        page, figures = page_and_figures(*read_rows(folder / "transformations.jsonl", KEYS))
        write_page(page, figures, folder, "transformations")
        return [page]


STUDY = TransformationsStudy()


def page_and_figures(about: Row, rows: Sequence[Row]) -> tuple[Page, dict[str, Figure]]:
    parts = {part: [row for row in rows if part_of(row) == part] for part in KEYS if part != "about"}
    every, hidden, attacked = protocols.protocols(rows), parts["instahide"], parts["attack"]
    shown = picture.drawing(every)
    figures = {"transformations-protocols": shown} if shown else {}
    figures |= {"transformations-training-batch": tables.drawing(parts["table"])} if parts["table"] else {}
    figures |= attack_figures.drawings(attacked) | instahide.drawings(hidden)
    facts = run_facts(about, {"threads": "one a party", **about["sizes"]}, "transformations")
    page = page_of(
        "studies/transformations/report.md.jinja", figures, about=about, parts=parts, every=every, facts=facts,
        by={p.key: p for p in every}, compared=protocols.compared(rows), attacks=attacked, ROLES=ROLES,
        one=next(iter(protocols.appraised(rows, protocols.CLEAR, protocols.METHOD)), None), TRUST=ASSUMPTION, RTAS=RTAS,
        grouped=instahide.grouped(hidden), hide={name: instahide.of(hidden, name) for name in instahide.PARTS},
        table=tables.context(parts["table"]), MODELS=tables.MODELS, INSTAHIDE=INSTAHIDE, math=math,
        NAMES=protocols.NAMES,
    )  # fmt: skip
    return page, figures
