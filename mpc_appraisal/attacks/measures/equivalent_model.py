"""The copy of the shopper's network as a choice of the app: the cloud fits the masked layers to a few labels.

The formula is that of `equivalent_model`. In goes a `CloudView`; out comes the share of test rows on which the copy
says what the shopper's network says, beside the share of the class that the network says most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.attacks import equivalent_model
from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.common.checks import integer
from mpc_appraisal.transformations.views import CloudView


@dataclass(frozen=True)
class EquivalentModel(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        known: The number of labelled rows that the cloud has; there may be fewer.
    """

    known: int = 50

    name: ClassVar[str] = "equivalent_model"
    reads: ClassVar[str] = "cloud"

    def __post_init__(self) -> None:
        integer("known", self.known, 1)

    def measure(self, view: CloudView, seed: int) -> list[Finding]:
        """Fit the masked layers to known rows, as `Attack.measure` describes it."""
        draw = torch.Generator().manual_seed(seed)
        known = view.known.subset(torch.randperm(view.known.rows, generator=draw)[: self.known])
        fitted = equivalent_model.fit_output(view.masked(known.x), known.y)
        own = view.own(view.test.x)
        copied = equivalent_model.predict(view.masked(view.test.x), fitted)
        return [Finding(
            "equivalent model", f"{known.rows} labelled rows at the cloud, {view.test.rows} test rows",
            float((copied == own).double().mean()), float(torch.bincount(own).max()) / len(own),
            "test rows on which the copy says what the shopper's network says",
            "where the cloud has no masked layers (ife_shares)",
        )]  # fmt: skip
