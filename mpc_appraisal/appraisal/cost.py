"""Rounds, bytes and time of an appraisal, computed before it is run.

In go the methods, the public sizes and norms (`Facts`), the number of candidates, which are the data sets to appraise,
and the network links. Out comes a `Forecast` or a table of forecasts. A round is one exchange of messages that cannot
start before the one before it ended. No data are read and nothing is sent, because the program runs on tensor shapes
alone. The table's words may change. `estimate` has to run the same `program` as an appraisal does, since the rounds and
bytes are exact only for that reason; the time is a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpc_appraisal.appraisal.integers import used
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.appraisal.tasks import check_supported
from mpc_appraisal.common.roles import INTEGRITY, ON, OWNERS, ROLES
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.models.training import MODELS
from mpc_appraisal.mpc.backends.cost_model import (
    ELEMENT,
    Forecast,
    NetworkLink,
    forecasts,
    rate,
    rehearse,
    repeated,
    total,
)
from mpc_appraisal.mpc.backends.registry import bounded
from mpc_appraisal.release import Release, Value
from mpc_appraisal.release.unbounded_logits import AUTO
from mpc_appraisal.reporting.table import Table, number, whole

VALUE = Value()


def estimate(
    methods: Sequence[Appraiser],
    facts: Facts,
    candidates: int,
    bound: float,
    release: Release = VALUE,
    engine: str = "fast",
    auto: bool = False,
    integrity: bool = False,
) -> Forecast:
    """Return what all `methods` cost in one session.

    Args:
        methods: The methods of the session.
        facts: The sizes of the model owner's rows and of every candidate.
        candidates: The number of candidates.
        bound: The public bound on the centred logits.
        release: What is opened, and to whom.
        engine: 'fast' or 'rtas'.
        auto: Whether the public rule of `release.unbounded_logits` chooses the softmax, for rows within facts.row_norm.
        integrity: Whether the owners check all of each other's messages. Raises InputError where the check does not
            cover the session.
    """
    norm = release.description.row_norm or facts.row_norm
    # The rule of `auto` depends on norms. Influence needs a spread to be computed as in a run; its size changes nothing
    # that is sent, unless rows are so long that the gradient is computed (`slopes.slope_plan`).
    facts = replace(facts, row_norm=norm, longest=norm, logit_bound=bound, spread=1.0)
    facts = replace(facts, auto=auto and bounded(engine) and not release.description.noised)

    def of(count: int) -> Forecast:
        model = next(kind for kind in MODELS.values() if kind.link is facts.loss)
        plan = Plan(tuple(methods), facts.l2, 0, "", fit=None, engine=engine, release=release, model=model)
        plan = replace(plan, integrity=integrity)
        check_supported(plan)
        shared = facts if used(plan) else replace(facts, resolution=None)
        sets = {f"candidate {k}": shared for k in range(count)}

        def run(dry):
            return [r.cost for r in program(dry, plan, {}, {}, sets, bound, lambda event: None)]

        return total(forecasts(*(rehearse(run, role, engine, integrity) for role in OWNERS)))

    if release.description.joint:  # all pairs are compared, so that the cost is no multiple of one candidate's
        return of(candidates)
    one = of(1)
    return one if candidates == 1 else repeated(one, of(2), candidates)


def table(
    methods: Sequence[Appraiser],
    facts: Facts,
    candidates: int,
    bound: float,
    links: Sequence[NetworkLink],
    release: Release = VALUE,
    engine: str = "fast",
    auto: bool = False,
    integrity: bool = False,
) -> Table:
    """Return the costs as a table: one row for each method by itself, and one for all of them in one session.

    The arguments are those of `estimate`, and `links` are the network links that times are computed for.
    """
    runs = [(method.name, (method,)) for method in methods]
    if len(methods) > 1:
        runs.append(("all in one session", tuple(methods)))
    given = (facts, candidates, bound, release, engine, auto)
    estimates = [estimate(together, *given, integrity) for _, together in runs]
    speed, rows = rate(max(found.work for found in estimates)), []
    for (name, together), found in zip(runs, estimates, strict=True):
        growth = max(method.logit_growth for method in together)
        rows.append(
            (
                name,
                whole(found.rounds),
                *(number(found.bytes_sent[party] / 1e6) for party in ROLES),
                number(found.work / speed, 3),
                *(number(found.seconds(link, speed), 3) for link in links),
                "any" if not bounded(engine) else AUTO if auto else number(bound * growth),
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
    if integrity:
        notes += [
            added(name, found, estimate(together, *given))
            for (name, together), found in zip(runs, estimates, strict=True)
        ]
    return Table("Cost before the run", header, "l" + "r" * (len(header) - 1), rows, tuple(notes))


def added(name: str, checked: Forecast, unchecked: Forecast) -> str:
    """Return a sentence on what the check of messages adds to a session, from its forecasts with and without it."""
    sent, before = (sum(each.bytes_sent.values()) / 1e6 for each in (checked, unchecked))
    return (
        f"{name}: the check of all messages ({INTEGRITY}={ON}) adds {checked.rounds - unchecked.rounds} rounds to "
        f"{unchecked.rounds} and {number(sent - before, 3)} MB to {number(before, 3)} MB, all parties together, by two "
        "dry runs."
    )
