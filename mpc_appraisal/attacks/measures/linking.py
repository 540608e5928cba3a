"""The linking attack as a choice of the app: the helper finds which value of one epoch is which of the next.

The formula is that of `rtas.linking`. In goes a `HelperView`; out comes the share of rows that are linked rightly
between the last two epochs, for which a guess has 1 / n. Where all entries are in one order, each entry is linked by
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.attacks.rtas import linking
from mpc_appraisal.attacks.rtas.view import HIDDEN, View, seen
from mpc_appraisal.common.checks import integer, one_of
from mpc_appraisal.transformations.views import HelperView


@dataclass(frozen=True)
class Linking(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        rows: The number of rows that are followed; there may be fewer.
        hidden: How the order is hidden: 'rows', 'columns' or 'entries'; None takes the protocol's own way. The other
            ways show what the attack would reach where rows stay together.
    """

    rows: int = 200
    hidden: str | None = None

    name: ClassVar[str] = "linking"
    reads: ClassVar[str] = "helper_training"

    def __post_init__(self) -> None:
        integer("rows", self.rows, 2)
        if self.hidden is not None:
            one_of("hidden", self.hidden, HIDDEN)

    def measure(self, view: HelperView, seed: int) -> list[Finding]:
        """Link the rows of each two epochs, as `Attack.measure` describes it."""
        sights, hidden = view.sights()[:, : self.rows], self.hidden or view.hidden
        points = []
        for epoch in range(len(sights) - 1):
            before, after = (_view(sights[k], hidden, seed + k) for k in (epoch, epoch + 1))
            points.append({"epoch": epoch + 1, "linked": linking.linked(linking.link(before, after), before, after)})
        count, what = len(before.order), "entries" if hidden == "entries" else "rows"
        return [Finding(
            "linking", f"epochs {len(sights) - 1} and {len(sights)}, {count} {what}, {hidden} permuted",
            points[-1]["linked"], 1 / count, f"{what} of one epoch linked rightly with those of the next",
            "where rows are seen once (inference), and in part while the model moves fast", points[0]["linked"],
            points=tuple(points),
        )]  # fmt: skip


def _view(z: Tensor, hidden: str, seed: int) -> View:
    """Return a view whose rows can be linked; each entry is a row where entries are in one order."""
    return seen(z.reshape(-1, 1), "rows", seed) if hidden == "entries" else seen(z, hidden, seed)
