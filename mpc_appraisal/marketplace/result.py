"""What the shopper has of a marketplace run."""

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
    """The shopper's.

    Attributes:
        selected: (seller, row), most uncertain first; without rows of sellers whose labels turned out bad.
        probabilities: by seller, (n, C) float64.
        verdicts: of validation; `rows` count the places in `selected`.
        costs: phase -> role -> seconds, bytes that the role sent, rounds that it waited.
        openings: what was opened to whom.
        leakage: what the strategy leaks, in sentences.
        label: what kind of protection the strategy is.
        refused: (seller, why): its rows were not on offer, or were left out.
        labels: of the selected rows, in their order; None where nobody learns them.
        network: retrained with the accepted subsets, where the market delivers it.
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
        """The selected rows of accepted subsets."""
        return tuple(self.selected[place] for verdict in self.verdicts if verdict.accepted for place in verdict.rows)


@dataclass
class PhaseCosts:
    """One role's costs by phase."""

    meter: Meter
    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what the block takes to phase `name`."""
        before = self.meter.cost()
        with self.meter.phase(name):
            yield
        spent = self.meter.cost() - before
        self.add(name, sum(spent.seconds.values()), spent.bytes_sent, spent.rounds)

    def add(self, name: str, seconds: float, sent: int = 0, rounds: int = 0) -> None:
        entry = self.phases.setdefault(name, {"seconds": 0.0, "bytes": 0, "rounds": 0})
        entry["seconds"] += seconds
        entry["bytes"] += sent
        entry["rounds"] += rounds


def by_phase(costs_by_role: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Costs:
    """role -> phase -> cost as phase -> role -> cost, in the order of PHASES."""
    found: Costs = {}
    for phase in PHASES:
        at = {role: dict(phases[phase]) for role, phases in costs_by_role.items() if phase in phases}
        if at:
            found[phase] = at
    return found
