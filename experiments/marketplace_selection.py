"""Selection against random at equal budget: what the shopper's model errs on after it is retrained on what was bought.

fewer = 1 - errors(strategy) / errors(random), of the same seed and budget, on
    test       rows that neither shopper nor sellers have
    remaining  the rows that are still on offer; a strategy that buys the hard ones leaves the easy ones
    control    the remaining rows again, by the model before: what selection does to them without any retraining
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

import torch
from bench_page import Drawing, blank
from marketplace_size import Job, Market, Row, Shop, Size, fit, model, stream
from torch import Tensor

from mpc_appraisal.marketplace.buying.selection import STRATEGIES, select
from mpc_appraisal.models.networks import Network
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import DASH, Table

PUBLISHED = 0.60  # fewer prediction errors than random selection; the slides print no other number
PLACES = {"test": "test rows", "remaining": "remaining rows", "control": "remaining, not retrained"}
COLOURS = {"random": GREY, "margin": BLUE, "entropy": ORANGE, "least_confidence": "#2f855a"}
STYLES = {"random": "o--", "margin": "o-", "entropy": "s-", "least_confidence": "^-"}
CAPTION = (
    "Selection. Above: wrong predictions on independent test rows by the model retrained on its own rows and the "
    "bought ones; dotted: before anything is bought. Below: how many fewer errors than after buying as many rows at "
    "random, by margin: on test rows, on the rows that remain on offer, and there without any retraining (control); "
    "dotted: the published 60%. Means over seeds; bands and bars: one standard deviation."
)


def jobs(size: Size) -> list[Job]:
    """One for each seed and shopper."""
    return [
        Job(f"selection-{shop.own}-seed{seed}", seed, run, size, (shop, seed))
        for seed in range(size.seeds) for shop in size.shops
    ]  # fmt: skip


def run(size: Size, shop: Shop, seed: int) -> list[Row]:
    market = Market.build(size, shop, seed)
    before = model(size, shop, market, seed)
    p = before.probabilities(market.pool[0])
    rows = [_row(size, shop, seed, "none", 0, 1, market, before, before, torch.empty(0, dtype=torch.int64))]
    for strategy in STRATEGIES:
        for budget in shop.budgets:
            bought = select(p, strategy, budget, stream(seed, 2))
            after = _retrained(size, shop, before, market, bought, stream(seed, 3))
            rows.append(_row(size, shop, seed, strategy, budget, 1, market, before, after, bought))
    if shop.rounds > 1:
        for strategy in ("random", "margin"):
            bought, after = torch.empty(0, dtype=torch.int64), before
            for turn in range(shop.rounds):
                left = remaining(market, bought)
                some = select(after.probabilities(market.pool[0][left]), strategy, shop.budgets[-1] // shop.rounds,
                              stream(seed, 2, turn))  # fmt: skip
                bought = torch.cat([bought, left[some]])
                after = _retrained(size, shop, after, market, bought, stream(seed, 3, turn))
            rows.append(_row(size, shop, seed, strategy, len(bought), shop.rounds, market, before, after, bought))
    return rows


def remaining(market: Market, bought: Tensor) -> Tensor:
    """Row numbers of the pool that are not bought."""
    kept = torch.ones(len(market.pool[1]), dtype=torch.bool)
    kept[bought] = False
    return kept.nonzero().squeeze(1)


def _retrained(size: Size, shop: Shop, network: Network, market: Market, bought: Tensor, seed: int) -> Network:
    x, y = market.pool
    return fit(size, network, shop.again, seed, market.own, (x[bought], y[bought]))


def _row(size: Size, shop: Shop, seed: int, strategy: str, budget: int, rounds: int, market: Market, before: Network,
         after: Network, bought: Tensor) -> Row:  # fmt: skip
    left = remaining(market, bought)
    rest = tuple(part[left] for part in market.pool)
    sellers = torch.bincount(bought * size.sellers // len(market.pool[1]), minlength=size.sellers)
    return {
        "part": "selection", "job": f"selection-{shop.own}-seed{seed}", "own": shop.own, "seed": seed,
        "strategy": strategy, "budget": budget, "rounds": rounds,
        "test": wrong(after, *market.test), "remaining": wrong(after, *rest), "control": wrong(before, *rest),
        "by_seller": [int(sellers.min()), int(sellers.max())],
    }  # fmt: skip


def wrong(network: Network, x: Tensor, y: Tensor) -> list[int]:
    """[wrong predictions, rows]."""
    return [int((network.logits(x).argmax(dim=1) != y).sum()), len(y)]


def fewer(rows: Sequence[Row], own: int, strategy: str, budget: int, place: str, rounds: int = 1) -> list[float]:
    """Share of random's errors that are not made, of each seed."""

    def errors(name: str) -> dict[int, int]:
        return {r["seed"]: r[place][0] for r in rows if (r["own"], r["strategy"], r["budget"], r["rounds"])
                == (own, name, budget, rounds)}  # fmt: skip

    random, found = errors("random"), errors(strategy)
    return [1 - found[seed] / random[seed] for seed in sorted(found) if random.get(seed)]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation in per cent."""
    if not values:
        return DASH
    return f"{mean(values):.0%}" + (f" ± {stdev(values):.0%}" if len(values) > 1 else "")


def purchases(rows: Sequence[Row], own: int) -> list[tuple[int, int]]:
    """(budget, rounds) that were measured, in order."""
    return sorted({(r["budget"], r["rounds"]) for r in rows if r["own"] == own and r["budget"]}, key=lambda b: b[::-1])


def owners(rows: Sequence[Row]) -> list[int]:
    return sorted({row["own"] for row in rows})


def counted(rows: Sequence[Row], own: int, strategy: str, budget: int, rounds: int = 1) -> list[int]:
    """Test errors of each seed."""
    wanted = (own, strategy, budget, rounds)
    return [r["test"][0] for r in rows if (r["own"], r["strategy"], r["budget"], r["rounds"]) == wanted]


def table(rows: Sequence[Row]) -> Table:
    """Margin, entropy and least confidence against random, by shopper and budget."""
    body = []
    for own in owners(rows):
        for budget, rounds in purchases(rows, own):
            for strategy in STRATEGIES:
                if errors := counted(rows, own, strategy, budget, rounds):
                    many = [spread(fewer(rows, own, strategy, budget, place, rounds)) for place in PLACES]
                    cells = [DASH] * len(PLACES) if strategy == "random" else many
                    bought = f"{budget:,}" + f" in {rounds} rounds" * (rounds > 1)
                    named = strategy.replace("_", " ")
                    body.append((f"{own:,}", bought, named, f"{mean(errors):.1f}", *cells, str(len(errors))))
    tested = {own: next(r["test"][1] for r in rows if r["own"] == own) for own in owners(rows)}
    base = ", ".join(f"{mean(counted(rows, own, 'none', 0)):.1f} of {of:,} ({own:,} own rows)"
                     for own, of in tested.items())  # fmt: skip
    sold = [r["by_seller"] for r in rows if r["strategy"] == "margin"]
    notes = (
        f"Test errors before anything is bought, mean over seeds: {base}. Fewer: than random selection at the same "
        "budget and seed, mean ± standard deviation over seeds; below 0: more. Published: 60%, of which rows is not "
        "said. Control: the same remaining rows, by the model before it was retrained.",
        f"Sellers' data are alike, so margin buys from all: {min(low for low, _ in sold)} to "
        f"{max(high for _, high in sold)} rows from a seller, over all budgets.",
    )
    header = ("own rows", "bought", "strategy", "test errors", "fewer: test", "fewer: remaining", "fewer: control",
              "seeds")  # fmt: skip
    return Table("Selection against random at equal budget", header, "rrlrrrrr", body, notes)


def drawing(rows: Sequence[Row]) -> Drawing:
    found = owners(rows)
    figure = blank(5.0 * len(found) + 1.6, 7.0)
    grid = figure.subplots(2, len(found), squeeze=False)
    for column, own in enumerate(found):
        upper, lower = grid[0][column], grid[1][column]
        budgets = [budget for budget, rounds in purchases(rows, own) if rounds == 1]
        for strategy in STRATEGIES:
            errors = [counted(rows, own, strategy, budget) for budget in budgets]
            upper.plot(budgets, list(map(mean, errors)), STYLES[strategy], color=COLOURS[strategy], markersize=5,
                       label=strategy.replace("_", " "))  # fmt: skip
            if strategy in ("random", "margin"):
                off = [stdev(each) if len(each) > 1 else 0.0 for each in errors]
                low, high = ([mean(e) + sign * o for e, o in zip(errors, off, strict=True)] for sign in (-1, 1))
                upper.fill_between(budgets, low, high, color=COLOURS[strategy], alpha=0.15, linewidth=0)
        upper.axhline(mean(counted(rows, own, "none", 0)), color="0.3", linestyle=":", label="nothing bought")
        for place, colour, style in zip(PLACES, (BLUE, ORANGE, GREY), ("o-", "s-", "^--"), strict=True):
            many = [fewer(rows, own, "margin", budget, place) for budget in budgets]
            kept = [(b, each) for b, each in zip(budgets, many, strict=True) if each]
            lower.errorbar([b for b, _ in kept], [mean(each) for _, each in kept],
                           [stdev(each) if len(each) > 1 else 0.0 for _, each in kept], fmt=style, color=colour,
                           capsize=3, markersize=5, label=PLACES[place])  # fmt: skip
        lower.axhline(PUBLISHED, color="0.3", linestyle=":", label="published")
        upper.set_title(f"({'ab'[column]}) shopper's model trained on {own:,} rows", fontsize=10)
        upper.set_ylim(bottom=0)
        lower.set_ylim(min(0.0, lower.get_ylim()[0]), 1.04)
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        for axis in (upper, lower):
            axis.set_xlim(0, max(budgets) * 1.04)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.set_xlabel("rows bought")
            axis.grid(True, color="#e5e7eb", linewidth=0.8)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
    grid[0][0].set_ylabel("test errors")
    grid[1][0].set_ylabel("fewer errors than random, margin")
    for axis in grid[:, -1]:  # beside the panels, whatever the curves do
        axis.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return Drawing("marketplace-selection", CAPTION, figure)
