"""`mpc-appraisal cost`: rounds, bytes and time of an appraisal before it is run, from public sizes alone.

    mpc-appraisal cost appraisal=influence rows=5940 features=784 candidates=10 wan.latency_ms=40 wan.mbit=100

Sizes and links are plain KEY=VALUE; everything else is configuration, as for the app. No data are read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS, ROLES
from mpc_appraisal.methods import Appraiser, Facts, as_methods
from mpc_appraisal.models.softmax_regression import check_l2
from mpc_appraisal.mpc.backends.cost_model import (
    ELEMENT,
    LAN,
    WAN,
    Forecast,
    Network,
    forecasts,
    rate,
    rehearse,
    repeated,
    total,
)
from mpc_appraisal.mpc.backends.fast import DEFAULT_BOUND
from mpc_appraisal.mpc.backends.registry import bounded, dry_session
from mpc_appraisal.mpc.backends.rtas_notice import warn
from mpc_appraisal.release import Release, Value
from mpc_appraisal.reporting.record import versions
from mpc_appraisal.reporting.result_tables import Table, number, whole

SIZES = {"rows": None, "features": None, "classes": 10, "train_rows": 600, "test_rows": 10_000, "candidates": 1}
LINKS = {
    f"{network.name.lower()}.{key}": value
    for network in (LAN, WAN)
    for key, value in (("latency_ms", 1e3 * network.latency), ("mbit", network.bandwidth / 1e6))
}
VALUE = Value()
USAGE = f"""usage: mpc-appraisal cost rows=N features=N [KEY=VALUE ...] [CONFIGURATION ...]

rounds, bytes and time before anything is run, from public sizes alone

sizes:  rows (of a candidate) and features, both needed; and, with their defaults,
        {" ".join(f"{k}={v}" for k, v in SIZES.items() if v is not None)}
links:  {" ".join(f"{k}={v:g}" for k, v in LINKS.items())}
configuration, as for the app: appraisal=..., model.l2=..., release=..., session.logit_bound=..."""


def estimate(
    methods: Sequence[Appraiser],
    facts: Facts,
    candidates: int,
    bound: float,
    release: Release = VALUE,
    engine: str = "fast",
) -> Forecast:
    """Of all `methods` on so many candidates of one size in one session. bound: on the centred logits."""
    norm = release.tell(DATA_OWNER, {}).get("row_norm", facts.row_norm)
    facts = replace(facts, row_norm=norm, longest=norm, logit_bound=bound, spread=1.0)  # no matter to what is sent

    def of(count: int) -> Forecast:
        plan = Plan(tuple(methods), facts.l2, 0, "", fit=None, engine=engine, release=release)
        sets = {f"candidate {k}": facts for k in range(count)}

        def run(dry):
            return [r.cost for r in program(dry, plan, {}, {}, sets, bound, lambda event: None)]

        return total(forecasts(*(rehearse(run, role, engine) for role in OWNERS)))

    if release.joint:  # all pairs are compared: no candidate costs what another does
        return of(candidates)
    one = of(1)
    return one if candidates == 1 else repeated(one, of(2), candidates)


def table(
    methods: Sequence[Appraiser],
    facts: Facts,
    candidates: int,
    bound: float,
    links: Sequence[Network],
    release: Release = VALUE,
    engine: str = "fast",
) -> Table:
    """A row for each method by itself, and one for all of them in one session."""
    runs = [(method.name, (method,)) for method in methods]
    if len(methods) > 1:
        runs.append(("all in one session", tuple(methods)))
    speed, rows = rate(), []
    for name, together in runs:
        found = estimate(together, facts, candidates, bound, release, engine)
        growth = max(method.logit_growth for method in together)
        rows.append(
            (
                name,
                whole(found.rounds),
                *(number(found.bytes_sent[party] / 1e6) for party in ROLES),
                number(found.work / speed, 3),
                *(number(found.seconds(link, speed), 3) for link in links),
                number(bound * growth) if bounded(engine) else "any",
            )
        )
    header = ("method", "rounds", *(f"{party.replace('_', ' ')}, MB" for party in ROLES), "local work, s")
    header += (*(f"{link.name}, s" for link in links), "logits within")
    notes = [
        f"Sizes: {candidates} x {facts.rows} rows, {facts.features} features, {facts.classes} classes, "
        f"{facts.train_rows} training and {facts.test_rows} test rows.",
        "Rounds and bytes are exact for these sizes and this bound on the logits, from a dry run. Time is a model: "
        "rounds x latency + bytes of the busiest party / bandwidth + local work.",
        f"Local work: {speed / 1e9:.2g} x 10^9 ring multiply-adds a second, measured on this machine; a masked "
        f"or opened number counts as {ELEMENT}.",
        *(f"{n.name}: {1e3 * n.latency:g} ms one way, {n.bandwidth / 1e6:g} Mbit/s each way." for n in links),
    ]
    return Table("Cost before the run", header, "l" + "r" * (len(header) - 1), rows, tuple(notes))


def stated(arguments: Sequence[str]) -> tuple[dict[str, int], list[Network], list[str]]:
    """Sizes, the two links and what is left for the configuration. Raises InputError by name."""
    sizes, links, left = dict(SIZES), dict(LINKS), []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if equals and key in sizes:
            sizes[key] = _whole(key, text)
        elif equals and key in links:
            links[key] = _positive(key, text)
        else:
            left.append(argument)
    for key, value in sizes.items():
        if value is None:
            raise InputError(key, "nothing", f"a whole number, as in {key}=784")
    networks = [
        Network(name, links[f"{name.lower()}.latency_ms"] / 1e3, links[f"{name.lower()}.mbit"] * 1e6)
        for name in (LAN.name, WAN.name)
    ]
    return sizes, networks, left


def _whole(key: str, text: str) -> int:
    least = {"classes": 2, "train_rows": 0, "test_rows": 0}.get(key, 1)
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise InputError(key, repr(text), f"a whole number, {least} or more")
    return value


def _positive(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(key, repr(text), "a finite number above 0")
    return value


def main(arguments: Sequence[str]) -> None:
    """The subcommand."""
    import torch
    from rich.console import Console

    from mpc_appraisal.cli.app import compose, instantiate, wide
    from mpc_appraisal.reporting.report import print_table

    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    torch.set_num_threads(1)  # as each party runs
    sizes, links, overrides = stated(arguments)
    cfg: Any = compose(overrides)
    engine = cfg.session.get("engine", "fast")
    dry_session(engine, MODEL_OWNER)  # refuses an engine that cannot be run dry
    warn(engine)
    methods, bound = as_methods(instantiate(cfg.appraisal)), cfg.session.get("logit_bound")
    for method in methods:
        for part in sorted(method.needs):
            if not sizes[f"{part}_rows"]:
                raise InputError(f"{part}_rows", 0, f"1 or more: the method {method.name} needs {part} data")
    numbers = (sizes[key] for key in ("features", "classes", "train_rows", "test_rows", "rows"))
    facts = Facts(*numbers, check_l2(cfg.model.l2))
    names = [f"candidate {k}" for k in range(sizes["candidates"])]
    release = instantiate(cfg.release).priced(dict.fromkeys(names, 0.0))
    release.check(methods, names)
    found = table(methods, facts, sizes["candidates"], float(bound or DEFAULT_BOUND), links, release, engine)
    print_table(found, wide(Console()))
    if not bound and bounded(engine):
        print(
            f"Logits within {DEFAULT_BOUND:g} before training are assumed; a run derives the bound from norms, or "
            "session.logit_bound states it."
        )
    print(f"mpc_appraisal {versions()['mpc_appraisal']}")


__all__ = ["estimate", "main", "stated", "table"]
