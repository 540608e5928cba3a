"""The page of `marketplace.py`, from the lines of marketplace.jsonl alone: published and measured, leaks, figures.

Rows, told apart by "part"; what is not there is named as missing:
selection    see marketplace_selection._row
validation   see marketplace_validation.run
cost         see marketplace_cost_page
leak         strategy, who (learns), learns (what), measured, stops (where it stops): texts, one cell each; see
             marketplace_leaks
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

import marketplace_cost_page as cost
import marketplace_leaks as leaks
import marketplace_selection as selection
import marketplace_validation as validation
from bench_common import read_parts
from bench_page import Page, run_table, sentences, write_page
from marketplace_size import Plan, Row, Size

from mpc_appraisal.reporting.table import DASH, Table, number

FILE = "marketplace.jsonl"
KEYS = {
    "about": {"size", "sizes", "missing", "machine", "versions", "revision", "command"},
    "selection": {"own", "seed", "strategy", "budget", "rounds", "test", "remaining", "control", "by_seller"},
    "validation": {"seed", "kind", "granularity", "of", "before", "loss_before", "wrong", "loss", "alone"},
    "cost": {"network", "operation", "system", "images", "seconds", "bytes"},
    "leak": {"strategy", "who", "learns", "measured", "stops"},
}
ABSENT = {
    "selection": "selection against random",
    "validation": "validation by granularity",
    "cost": "the cost of encryption and of encrypted networks (table 1)",
    "leak": "what leaks, by attacks",
}
TABLE1 = {  # seconds: E2DM, theirs
    "data encryption": (0.40, 0.48),
    "model encryption": (0.14, 0.20),
    "feed forward": (35.88, 2.59),
    "back propagation": (None, 0.05),
}


def read_rows(folder: Path) -> tuple[Row, list[Row]]:
    """(about, rows). Raises InputError, by file and line, for what is missing or damaged."""
    return read_parts(folder, FILE, KEYS)


def render(folder: Path) -> Page:
    """Writes marketplace.md, marketplace.html and the figures beside marketplace.jsonl."""
    page = page_of(*read_rows(folder))
    write_page(page, folder, "marketplace")
    return page


def page_of(about: Row, rows: Sequence[Row]) -> Page:
    parts = {part: [row for row in rows if row["part"] == part] for part in ABSENT}
    chosen, tried, costs = parts["selection"], parts["validation"], parts["cost"]
    main = [_summary(about, parts), _compared(parts), _leaks(parts["leak"])]
    main += ([selection.table(chosen)] if chosen else []) + ([validation.table(tried)] if tried else [])
    main += (cost.tables(costs) if costs else []) + [_choices(about)]
    main.append(run_table(about, {"threads": "one a job", **about["sizes"]}, "marketplace.py"))
    drawings = ([selection.drawing(chosen)] if chosen else []) + ([validation.drawing(tried)] if tried else [])
    drawings += leaks.drawings(parts["leak"])
    trust = [
        "Selection and validation are measured in the clear: they ask what predictions and retraining say of data, "
        "whatever hides the data. Neither needs to see images or labels; both need predictions, which the shopper "
        "sees, and so learns something of every row on offer before paying.",
        "Which subsets are low-quality is the experimenter's knowledge; a market has none of it.",
    ]
    details = leaks.tables(parts["leak"]) + ([validation.rules_table(tried)] if tried else [])
    return Page('"Try before you buy": published and measured', main, drawings, trust, details)


def sizes(size: Size) -> dict[str, str]:
    """What was run, in words, for the first line."""
    facts = {"network": f"{size.architecture.name}, batches of {size.batch}; {size.seeds} seeds"}
    for shop in size.shops:
        rounds = f"; {shop.rounds} rounds of {shop.budgets[-1] // shop.rounds:,}" * (shop.rounds > 1)
        facts[f"shopper of {shop.own:,} rows"] = (
            f"{size.sellers} sellers; trained {_plan(shop.first)}, retrained {_plan(shop.again)}; budgets "
            f"{', '.join(f'{budget:,}' for budget in shop.budgets)}{rounds}"
        )
    trial = size.trial
    facts["validation"] = (
        f"{trial.repeats} subsets of each kind and size, where {trial.selected:,} bought rows suffice; retrained "
        f"{_plan(trial.again)}; {trial.rows:,} validation rows"
    )
    return facts


def _plan(plan: Plan) -> str:
    return " then ".join(f"{epochs} epochs at {lr:g}" for epochs, lr in plan)


def _summary(about: Row, parts: dict[str, list[Row]]) -> Table:
    """The first screen: published, measured, where it differs and why, and what leaks."""
    lines = []
    if about["size"] != "full":
        lines.append("A small run, on digits: it shows that all of this works, and reproduces nothing.")
    absent = [text for part, text in ABSENT.items() if not parts[part]]
    if absent or about["missing"]:
        named = "; ".join(absent + _grouped(about["missing"]))
        lines.append(f"Not measured yet: {named}. The same command goes on where it stopped.")
    lines.append(
        "Published (slides): buying what the model is uncertain about makes about 60% fewer prediction errors than "
        "buying at random; validation by retraining finds low-quality data the better, the larger the subsets; a "
        "six-layer network on encrypted data in 2.59 s, where E2DM takes 35.88 s."
    )
    lines += [_selected(parts["selection"], own) for own in selection.owners(parts["selection"])]
    if parts["selection"]:
        lines.append(_why(parts["selection"]))
    if parts["validation"]:
        lines += _validated(parts["validation"])
    lines += cost.summary(parts["cost"])
    if parts["leak"]:
        told = dict.fromkeys(f"{r['strategy']}: the {r['who']} learns {r['learns']}" for r in parts["leak"])
        lines.append(f"What leaks: {'; '.join(told)}.")
    return sentences("In short", lines)


def _grouped(missing: Sequence[str]) -> list[str]:
    """['a-seed1', 'a-seed2'] -> ['a (seeds 1, 2)']."""
    found: dict[str, list[str]] = {}
    for name in missing:
        stem, _, seed = name.partition("-seed")
        found.setdefault(stem, []).append(seed)
    return [stem + f" (seeds {', '.join(seeds)})" * any(seeds) for stem, seeds in found.items()]


def _selected(rows: Sequence[Row], own: int) -> str:
    """At the largest budget, and the largest gain over all purchases."""
    bought = selection.purchases(rows, own)
    last = max(budget for budget, rounds in bought if rounds == 1)
    before, after, random = (
        mean(selection.counted(rows, own, strategy, size))
        for strategy, size in (("none", 0), ("margin", last), ("random", last))
    )
    gains = {place: selection.spread(selection.fewer(rows, own, "margin", last, place)) for place in selection.PLACES}
    on_test = {each: selection.fewer(rows, own, "margin", each[0], "test", each[1]) for each in bought}
    budget, rounds = max(on_test, key=lambda each: mean(on_test[each]))
    tested = next(r["test"][1] for r in rows if r["own"] == own)
    return (
        f"Measured, model trained on {own:,} rows, {last:,} bought by margin: {after:.1f} errors on {tested:,} test "
        f"rows, {random:.1f} when bought at random, {before:.1f} before; {gains['test']} fewer than random. The most "
        f"over all budgets: {selection.spread(on_test[budget, rounds])}, {budget:,} bought"
        + f" in {rounds} rounds"
        * (rounds > 1)
        + f". On the remaining rows, {last:,} bought: {gains['remaining']} fewer, and {gains['control']} there without "
        "any retraining."
    )


def _nearest(rows: Sequence[Row], own: int) -> tuple[int, list[float], list[float]]:
    """The budget where errors on remaining rows come nearest to the published share; remaining, control."""
    budgets = [budget for budget, rounds in selection.purchases(rows, own) if rounds == 1]
    found = [
        (b, *(selection.fewer(rows, own, "margin", b, place) for place in ("remaining", "control"))) for b in budgets
    ]
    found = [each for each in found if each[1] and each[2]]
    return min(found, key=lambda each: abs(mean(each[1]) - selection.PUBLISHED))


def _why(rows: Sequence[Row]) -> str:
    own = selection.owners(rows)[0]
    budget, left, control = _nearest(rows, own)
    best = max(
        mean(selection.fewer(rows, each, "margin", size, "test", rounds))
        for each in selection.owners(rows) for size, rounds in selection.purchases(rows, each)
    )  # fmt: skip
    where = "only on the remaining rows" if best < selection.PUBLISHED - 0.05 else "on test rows too"
    return (
        f"Where it differs and why: the published 60% appears {where} (model of {own:,} rows, {budget:,} bought: "
        f"{selection.spread(left)}), and {selection.spread(control)} come there without retraining, for whoever buys "
        f"the hard rows leaves the easy ones behind. On independent test rows the most is {best:.0%}. The slides do "
        "not say which rows they count."
    )


def _validated(rows: Sequence[Row]) -> list[str]:
    sizes = validation.sizes_of(rows)
    first, last = sizes[0], sizes[-1]
    shown = ", ".join(f"{validation.every(rows, size):.2f} at {size:,}" for size in sizes)
    moved, good = validation.changes(rows, first), validation.accepted(rows, "good", first)
    hardest = min(validation.kinds_of(rows), key=lambda kind: validation.rightly(rows, kind, last).rate)
    taken = {size: [validation.accepted(rows, "mislabelled", size, rule) for rule in (validation.RULE, validation.LOSS)]
             for size in sizes}  # fmt: skip
    clear = max(sizes, key=lambda size: sum(taken[size][1]) - sum(taken[size][0]))
    errors, losses = taken[clear]
    return [
        "Validation, share of subsets judged rightly by granularity, mean over kinds of low-quality data (the slides' "
        f"curve has no numbers): {shown}. Of {first:,} rows, good ones change the errors by {min(moved):+d} to "
        f"{max(moved):+d} in {rows[0]['of']:,}, and {good.count(False)} of {len(good)} such subsets are refused.",
        f"Hardest to tell from good data at {last:,} rows: {hardest} "
        f"({validation.rightly(rows, hardest, last).rate:.2f} right). The rule is the error, not the loss: of "
        f"{len(errors)} mislabelled subsets of {clear:,} rows the one accepts {sum(errors)}, the other {sum(losses)}.",
    ]


def _compared(parts: dict[str, list[Row]]) -> Table:
    chosen, tried, costs = parts["selection"], parts["validation"], parts["cost"]
    body = []
    for own in selection.owners(chosen):
        budget, _ = max(selection.purchases(chosen, own))
        for place, words in selection.PLACES.items():
            found = selection.spread(selection.fewer(chosen, own, "margin", budget, place))
            said = DASH if place == "control" else "about 60%, of which rows is not said"
            body.append((f"fewer errors, {own:,} own rows, {budget:,} bought: {words}", said, found))
    for size in validation.sizes_of(tried):
        kinds = [f"{kind} {validation.rightly(tried, kind, size).rate:.2f}" for kind in validation.kinds_of(tried)]
        found = f"{validation.every(tried, size):.2f} ({', '.join(kinds)})"
        body.append((f"validation accuracy at {size:,} rows", "a curve, no numbers", found))
    for operation, (rival, theirs) in TABLE1.items():
        mine = [f"{number(median(r['seconds']), 3)} s ({r['system']}, images: {r['images'] or 'any'})"
                for r in costs if (r["operation"], r["network"]) == (operation, "cnn6")]  # fmt: skip
        said = f"{DASH if rival is None else f'{rival:.2f} s'} (E2DM), {theirs:.2f} s (theirs)"
        body.append((operation, said, "; ".join(mine) or "not measured yet"))
    return Table("Published and measured", ("what", "published", "measured"), "lll", body)


def _leaks(rows: Sequence[Row]) -> Table:
    header = ("strategy", "who learns", "what", "measured", "stops where")
    body = [tuple(r[key] for key in ("strategy", "who", "learns", "measured", "stops")) for r in rows]
    notes = () if body else ("Not measured yet: no row of attacks.",)
    return Table("What leaks, by strategy", header, "lllll", body, notes)


def _choices(about: Row) -> Table:
    """Where the slides are silent."""
    lines = [
        "An equal split of MNIST into 101 subsets gives the shopper 594 rows, not 5,500 or 55,000: its rows are a "
        "parameter, and the 100 sellers share what is left equally: 54,500 rows, or 10,000, of which 5,000 are of "
        "MNIST's test data for want of others. Test rows are what nobody holds: 10,000, or 5,000.",
        "Uncertainty: margin of the two likeliest classes first; entropy and least confidence beside it. The slides' "
        "band around 0.5 is for two classes.",
        "Retraining goes on from the shopper's weights (warm), on own and bought rows together, for the same epochs "
        "with every strategy, the last ones at a lower rate, without which single runs scatter more than strategies "
        "differ.",
        "Fewer errors: of the same seed and budget; 'prediction errors' of the slides may be on the remaining rows, so "
        "both are reported, with what selection does to the remaining rows without retraining.",
        "Validation: accepted where the error is no higher than before; the slides print 'lower', which the table of "
        "other rules has. 'Uniformly distributed data': as many rows of each class, from rows that nobody trained on.",
        "Low-quality data 'most likely to evade': the wrong label that the shopper's own model finds likeliest. Who "
        "makes them must know the shopper's predictions.",
    ]
    if about["size"] != "full":
        lines.insert(0, "These are the choices of the full run; the sizes of this one stand under Run.")
    return sentences("Our choices, where the slides are silent", lines)
