"""Selection against random at equal budget: what the shopper's model errs on after it is retrained on what was bought.

fewer = 1 - errors(strategy) / errors(random), of the same seed and budget, on
    test       rows that neither shopper nor sellers have
    remaining  the rows that are still on offer; a strategy that buys the hard ones leaves the easy ones
    control    the remaining rows again, by the model before: what selection does to them without any retraining
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from types import SimpleNamespace

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.harness.jobs import Job
from experiments.harness.plots import BLUE, GREEN, GREY, ORANGE, blank, plain
from experiments.harness.records import Row
from experiments.studies.marketplace.market import MarketPlan, fit, shopper_model, stream
from mpc_appraisal.marketplace.buying.selection import STRATEGIES, select
from mpc_appraisal.models.networks import Network
from mpc_appraisal.reporting.table import DASH

KEYS = {"own", "seed", "strategy", "budget", "rounds", "test", "remaining", "control", "by_seller"}
PUBLISHED = 0.60  # fewer prediction errors than random selection; the slides print no other number
PLACES = {"test": "test rows", "remaining": "remaining rows", "control": "remaining, not retrained"}
LOOKS = {"random": ("o--", GREY), "margin": ("o-", BLUE), "entropy": ("s-", ORANGE), "least_confidence": ("^-", GREEN)}


def jobs(settings: SimpleNamespace, seeds: int) -> list[Job]:
    """Return one job for each seed and shopper."""
    return [Job(f"selection-{shop.own}-seed{seed}", run, (settings, shop, seed), seed)
            for seed in range(seeds) for shop in settings.shops]  # fmt: skip


def run(settings: SimpleNamespace, shop: SimpleNamespace, seed: int) -> list[Row]:
    market = MarketPlan.build(settings, shop, seed)
    before = shopper_model(settings, shop, market, seed)
    p, nothing = before.probabilities(market.pool[0]), torch.empty(0, dtype=torch.int64)

    def retrained(network: Network, bought: Tensor, *turn: int) -> Network:
        x, y = market.pool
        return fit(settings, network, shop.again, stream(seed, 3, *turn), market.own, (x[bought], y[bought]))

    def row(strategy: str, rounds: int, after: Network, bought: Tensor) -> Row:
        rest = tuple(part[remaining(market, bought)] for part in market.pool)
        sold = torch.bincount(bought * settings.sellers // len(market.pool[1]), minlength=settings.sellers)
        return {
            "part": "selection", "job": f"selection-{shop.own}-seed{seed}", "own": shop.own, "seed": seed,
            "strategy": strategy, "budget": len(bought), "rounds": rounds, "test": wrong(after, *market.test),
            "remaining": wrong(after, *rest), "control": wrong(before, *rest),
            "by_seller": [int(sold.min()), int(sold.max())],
        }  # fmt: skip

    rows = [row("none", 1, before, nothing)]
    for strategy in STRATEGIES:
        for budget in shop.budgets:
            bought = select(p, strategy, budget, stream(seed, 2))
            rows.append(row(strategy, 1, retrained(before, bought), bought))
    for strategy in ("random", "margin") if shop.rounds > 1 else ():
        bought, after = nothing, before
        for turn in range(shop.rounds):
            left = remaining(market, bought)
            count = shop.budgets[-1] // shop.rounds
            some = select(after.probabilities(market.pool[0][left]), strategy, count, stream(seed, 2, turn))
            bought = torch.cat([bought, left[some]])
            after = retrained(after, bought, turn)
        rows.append(row(strategy, shop.rounds, after, bought))
    return rows


def remaining(market: MarketPlan, bought: Tensor) -> Tensor:
    """Return the row numbers of the pool that are not bought."""
    kept = torch.ones(len(market.pool[1]), dtype=torch.bool)
    kept[bought] = False
    return kept.nonzero().squeeze(1)


def wrong(network: Network, x: Tensor, y: Tensor) -> list[int]:
    """Return the number of wrong predictions, and that of rows."""
    return [int((network.logits(x).argmax(dim=1) != y).sum()), len(y)]


class Selections:
    """The rows of selection as one table, which the report asks for numbers."""

    def __init__(self, rows: Sequence[Row]):
        self.rows = pd.DataFrame(rows, columns=sorted(KEYS))
        self.tested = {row["own"]: row["test"][1] for row in reversed(rows)}
        for place in PLACES:
            self.rows[place] = self.rows[place].str[0] if rows else 0
        self.owners = sorted(self.rows.own.unique().tolist())
        sold = [row["by_seller"] for row in rows if row["strategy"] == "margin"]
        self.by_seller = [min(low for low, _ in sold), max(high for _, high in sold)] if sold else None

    def at(self, own: int, budget: int, rounds: int, place: str) -> pd.DataFrame:
        """Return the errors, a line for each seed and a column for each strategy."""
        chosen = (self.rows.own == own) & (self.rows.budget == budget) & (self.rows["rounds"] == rounds)
        return self.rows[chosen].pivot(index="seed", columns="strategy", values=place)

    def fewer(self, own: int, strategy: str, budget: int, place: str, rounds: int = 1) -> list[float]:
        """Return, for each seed, the share of random's errors that are not made."""
        errors = self.at(own, budget, rounds, place).reindex(columns=[strategy, "random"]).dropna()
        errors = errors[errors["random"] > 0]
        return (1 - errors[strategy] / errors["random"]).tolist()

    def counted(self, own: int, strategy: str, budget: int, rounds: int = 1) -> list[int]:
        """Return the test errors of each seed."""
        errors = self.at(own, budget, rounds, "test")
        return errors[strategy].dropna().astype(int).tolist() if strategy in errors else []

    def purchases(self, own: int) -> list[tuple[int, int]]:
        """Return (budget, rounds) of what was bought, in order."""
        bought = self.rows[(self.rows.own == own) & (self.rows.budget > 0)]
        return sorted(set(zip(bought.budget.tolist(), bought["rounds"].tolist(), strict=True)), key=lambda b: b[::-1])

    def budgets(self, own: int) -> list[int]:
        """Return the budgets that were spent at once."""
        return [budget for budget, rounds in self.purchases(own) if rounds == 1]

    def best(self, own: int) -> tuple[int, int]:
        """Return the purchase with the largest gain of margin on test rows."""
        return max(self.purchases(own), key=lambda b: mean(self.fewer(own, "margin", b[0], "test", b[1])))

    def nearest(self, own: int) -> int:
        """Return the budget whose errors on remaining rows come nearest to the published share."""

        def off(budget: int) -> float:
            gains = [self.fewer(own, "margin", budget, place) for place in ("remaining", "control")]
            return abs(mean(gains[0]) - PUBLISHED) if all(gains) else float("inf")

        return min(self.budgets(own), key=off)


def spread(values: Sequence[float]) -> str:
    """Format the mean and the standard deviation in per cent."""
    if not values:
        return DASH
    return f"{mean(values):.0%}" + (f" ± {stdev(values):.0%}" if len(values) > 1 else "")


def deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def drawing(found: Selections) -> Figure:
    """Draw, for each shopper, test errors by budget above, and the share of fewer errors by margin below."""
    figure = blank(5.0 * len(found.owners) + 1.6, 7.0)
    grid = figure.subplots(2, len(found.owners), squeeze=False)
    for column, own in enumerate(found.owners):
        upper, lower, budgets = grid[0][column], grid[1][column], found.budgets(own)
        for strategy in STRATEGIES:
            errors, (style, colour) = [found.counted(own, strategy, budget) for budget in budgets], LOOKS[strategy]
            upper.plot(budgets, list(map(mean, errors)), style, color=colour, markersize=5,
                       label=strategy.replace("_", " "))  # fmt: skip
            if strategy in ("random", "margin"):
                low, high = ([mean(e) + sign * deviation(e) for e in errors] for sign in (-1, 1))
                upper.fill_between(budgets, low, high, color=colour, alpha=0.15, linewidth=0)
        upper.axhline(mean(found.counted(own, "none", 0)), color="0.3", linestyle=":", label="nothing bought")
        for place, colour, style in zip(PLACES, (BLUE, ORANGE, GREY), ("o-", "s-", "^--"), strict=True):
            many = {budget: found.fewer(own, "margin", budget, place) for budget in budgets}
            kept = {budget: each for budget, each in many.items() if each}
            lower.errorbar(list(kept), list(map(mean, kept.values())), list(map(deviation, kept.values())), fmt=style,
                           color=colour, capsize=3, markersize=5, label=PLACES[place])  # fmt: skip
        lower.axhline(PUBLISHED, color="0.3", linestyle=":", label="published")
        upper.set_title(f"({'ab'[column]}) shopper's model trained on {own:,} rows", fontsize=10)
        upper.set_ylim(bottom=0)
        lower.set_ylim(min(0.0, lower.get_ylim()[0]), 1.04)
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        for axis in (upper, lower):
            axis.set_xlim(0, max(budgets) * 1.04)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.set_xlabel("rows bought")
        plain(upper, lower)
    grid[0][0].set_ylabel("test errors")
    grid[1][0].set_ylabel("fewer errors than random, margin")
    for axis in grid[:, -1]:  # beside the panels, whatever the curves do
        axis.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
