"""Random transformations: RTAS, RTAS-fast and InstaHide, published and measured, each with the attacks on it.

A finished job stays in --work: the same command goes on where it stopped. The rows of all finished jobs are kept in
OUT/transformations.jsonl, from which the report is made. Seeds are turns of appraisals, a seed each.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from experiments.harness.jobs import Job
from experiments.harness.page import Page, plural
from experiments.harness.run import JobStudy, Run
from experiments.harness.size import Size
from experiments.studies.transformations import attacks, instahide, protocols, tables
from experiments.studies.transformations.report import render


class TransformationsStudy(JobStudy):
    name = "transformations"
    summary = "RTAS, RTAS-fast and InstaHide, with the attacks on them"
    text = __doc__
    parts = ("protocol", "attack", "instahide", "table")
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
        }

    def facts(self, size: Size) -> dict[str, str]:
        s = size.settings("protocol")
        text = f"{s.data}, one candidate of {s.rows:,} rows, {s.own:,} training rows, {s.tested:,} test rows"
        return {"appraisals": f"{text}, l2 = {s.l2:g}; {plural(size.seeds, 'turn')}, a seed each"}

    def render(self, folder: Path) -> list[Page]:
        return [render(folder)]


STUDY = TransformationsStudy()
