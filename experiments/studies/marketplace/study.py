"""The encrypted marketplace of Song et al., "Try Before You Buy" (slides): selection, validation, cost and leaks.

A finished job stays in --work: the same command goes on where it stopped. The rows of all finished jobs are kept in
OUT/marketplace.jsonl, from which the report is made. Networks of selection and validation are in the clear: the
plaintext of what the encrypted protocols compute. Seeds are shoppers with data of their own.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from experiments.harness.jobs import Job
from experiments.harness.page import Page
from experiments.harness.run import JobStudy, Run, positive
from experiments.harness.size import Size
from experiments.studies.marketplace import cost, leaks, selection, validation
from experiments.studies.marketplace.report import facts_of, render


class MarketplaceStudy(JobStudy):
    name = "marketplace"
    summary = "the encrypted marketplace: selection, validation, cost and leaks"
    text = __doc__
    parts = ("selection", "validation", "cost", "leak")
    seeds = (2, 5)

    def options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workers", type=positive, default=2, help="jobs at once, one thread each")

    def jobs(self, run: Run) -> dict[str, list[Job]]:
        size, market = run.size, run.size.settings("market")
        return {
            "selection": selection.jobs(market, size.seeds),
            "validation": validation.jobs(market, size.seeds),
            "cost": cost.jobs(size.settings("cost")),
            "leak": leaks.jobs(market, size.settings("leaks")),
        }

    def facts(self, size: Size) -> dict[str, str]:
        return facts_of(size)

    def render(self, folder: Path) -> list[Page]:
        return [render(folder)]


STUDY = MarketplaceStudy()
