"""The result of a marketplace run, which the shopper alone has, and the costs of each role by phase.

In go what the roles measured and what the shopper found; out come a `MarketResult`, and tables of costs. The phases are
named in PHASES, in the order of a run: the authority enrols sellers, a seller encrypts and uploads, keys are issued,
rows are predicted, the network is retrained, and subsets are validated. A phase may be added to PHASES; a phase that is
not there is dropped by `by_phase`. The names of phases stand in records and have to stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mpc_appraisal.marketplace.buying.validation import Verdict
from mpc_appraisal.models.networks import Network
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.session import Opening

PHASES = ("enrol", "encrypt", "upload", "keys", "predict", "retrain", "validate")
Costs = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True, eq=False)
class MarketResult:
    """What the shopper has at the end of a run.

    Attributes:
        selected: pairs (seller, row), most uncertain first, without the rows of sellers whose labels turned out bad.
        probabilities: the predicted class probabilities of all rows on offer, by seller, (n, C) float64 for n rows and
            C classes.
        verdicts: the verdicts of the validation; their `rows` are places in `selected`.
        costs: phase -> role -> seconds, bytes that the role sent, and rounds that it waited.
        openings: one entry for each thing that was opened, with the roles to which it was opened.
        leakage: sentences on what the strategy leaks.
        label: the kind of protection that the strategy offers, in a few words.
        refused: pairs (seller, reason) of the sellers whose rows were not on offer or were left out.
        labels: the labels of the selected rows, in their order; None where nobody learns them.
        network: the network retrained with the accepted subsets; None where the market does not deliver it.
    """

    selected: tuple[tuple[str, int], ...]
    probabilities: dict[str, Tensor]
    verdicts: tuple[Verdict, ...]
    costs: Costs
    openings: tuple[Opening, ...]
    leakage: tuple[str, ...]
    label: str
    refused: tuple[tuple[str, str], ...] = ()
    labels: Tensor | None = None
    network: Network | None = None

    @property
    def accepted(self) -> tuple[tuple[str, int], ...]:
        """Return the selected rows of the accepted subsets, as pairs (seller, row)."""
        return tuple(self.selected[place] for verdict in self.verdicts if verdict.accepted for place in verdict.rows)


@dataclass
class PhaseCosts:
    """The costs of one role by phase: seconds, bytes sent and rounds.

    Attributes:
        meter: what measures the role's time and messages.
        phases: phase -> 'seconds', 'bytes' and 'rounds', added up over the blocks of a phase.
    """

    meter: Meter
    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what the block costs to the phase `name`."""
        before = self.meter.cost()
        with self.meter.phase(name):
            yield
        spent = self.meter.cost() - before
        self.add(name, sum(spent.seconds.values()), spent.bytes_sent, spent.rounds)

    def add(self, name: str, seconds: float, sent: int = 0, rounds: int = 0) -> None:
        """Add seconds, bytes sent and rounds to the phase `name`."""
        entry = self.phases.setdefault(name, {"seconds": 0.0, "bytes": 0, "rounds": 0})
        entry["seconds"] += seconds
        entry["bytes"] += sent
        entry["rounds"] += rounds


def by_phase(costs_by_role: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Costs:
    """Turn role -> phase -> cost into phase -> role -> cost, in the order of PHASES."""
    found: Costs = {}
    for phase in PHASES:
        at = {role: dict(phases[phase]) for role, phases in costs_by_role.items() if phase in phases}
        if at:
            found[phase] = at
    return found
