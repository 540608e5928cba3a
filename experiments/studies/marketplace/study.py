"""The encrypted marketplace of Song et al., "Try Before You Buy" (slides): selection, validation, cost and leaks.

A finished job stays in --work: the same command goes on where it stopped. The rows of all finished jobs are kept in
OUT/marketplace.jsonl, from which the report is made. Networks of selection and validation are in the clear: the
plaintext of what the encrypted protocols compute. Seeds are shoppers with data of their own.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

from matplotlib.figure import Figure

from experiments.harness.jobs import Job
from experiments.harness.page import Page, page_of, run_facts, write_page
from experiments.harness.records import ABOUT, Row, read_rows, select
from experiments.harness.run import JobStudy, Run, positive
from experiments.harness.size import Size
from experiments.rivals.tenseal import LAYER, NETWORK
from experiments.studies.marketplace import cost, leaks, selection, validation
from experiments.studies.marketplace.market import architecture_of
from mpc_appraisal.marketplace.buying.selection import STRATEGIES

KEYS = {"about": ABOUT | {"size", "sizes", "missing"}, "selection": selection.KEYS, "validation": validation.KEYS,
        "cost": cost.KEYS, "leak": leaks.KEYS}  # fmt: skip
TABLE1 = {  # seconds: E2DM, theirs
    cost.ENCRYPT: (0.40, 0.48), cost.MODEL: (0.14, 0.20), cost.FORWARD: (35.88, 2.59), cost.BACK: (None, 0.05)
}  # fmt: skip


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
        page, figures = page_and_figures(*read_rows(folder / "marketplace.jsonl", KEYS))
        write_page(page, figures, folder, "marketplace")
        return [page]


STUDY = MarketplaceStudy()


def page_and_figures(about: Row, rows: Sequence[Row]) -> tuple[Page, dict[str, Figure]]:
    parts = {part: select(rows, part=part) for part in KEYS if part != "about"}
    chosen, tried = selection.Selections(parts["selection"]), validation.Trials(parts["validation"])
    figures = {"marketplace-selection": selection.drawing(chosen)} if parts["selection"] else {}
    figures |= {"marketplace-validation": validation.drawing(tried)} if parts["validation"] else {}
    if leaked := leaks.drawing(parts["leak"]):
        figures["marketplace-leaks"] = leaked
    facts = run_facts(about, {"threads": "one a job", **about["sizes"]}, "marketplace")
    page = page_of(
        "studies/marketplace/report.md.jinja", figures, about=about, parts=parts, chosen=chosen, tried=tried,
        lines=cost.lines(parts["cost"]), ratios=cost.ratios(parts["cost"]), cost=cost, facts=facts,
        missing=grouped(about["missing"]), pixels=select(parts["leak"], kind=leaks.PIXELS), DRAWS=leaks.DRAWS,
        STRATEGIES=STRATEGIES, selection=selection, validation=validation, TABLE1=TABLE1, LAYER=LAYER, NETWORK=NETWORK,
        mean=mean, median=median, spread=selection.spread,
    )  # fmt: skip
    return page, figures


def grouped(missing: Sequence[str]) -> list[str]:
    """Name the jobs with their seeds: 'a-seed1' and 'a-seed2' are 'a (seeds 1, 2)'."""
    found: dict[str, list[str]] = {}
    for name in missing:
        stem, _, seed = name.partition("-seed")
        found.setdefault(stem, []).append(seed)
    return [stem + f" (seeds {', '.join(seeds)})" * any(seeds) for stem, seeds in found.items()]


def facts_of(size: Size) -> dict[str, str]:
    """Say what is run, for the first line of the records."""
    s = size.settings("market")
    facts = {"network": f"{architecture_of(s).name}, batches of {s.batch}; {size.seeds} seeds"}
    for shop in s.shops:
        rounds = f"; {shop.rounds} rounds of {shop.budgets[-1] // shop.rounds:,}" * (shop.rounds > 1)
        facts[f"shopper of {shop.own:,} rows"] = (
            f"{s.sellers} sellers; trained {_plan(shop.first)}, retrained {_plan(shop.again)}; budgets "
            f"{', '.join(f'{budget:,}' for budget in shop.budgets)}{rounds}"
        )
    facts["validation"] = (
        f"{s.trial.repeats} subsets of each kind and size, where {s.trial.selected:,} bought rows suffice; retrained "
        f"{_plan(s.trial.again)}; {s.trial.rows:,} validation rows"
    )
    return facts


def _plan(plan: Sequence[tuple[int, float]]) -> str:
    return " then ".join(f"{epochs} epochs at {lr:g}" for epochs, lr in plan)
