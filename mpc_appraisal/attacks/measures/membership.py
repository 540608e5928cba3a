"""The membership attack as a choice of the app: the helper finds out whether a given row is in a batch.

The formula is that of `rtas.membership`, and the helper knows the model. In goes a `HelperView`; out comes the balanced
accuracy over the rows of a batch and as many rows that are not in it, for which a guess has 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.attacks.rtas import membership
from mpc_appraisal.attacks.rtas.view import seen
from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.views import HelperView


@dataclass(frozen=True)
class Membership(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        batch: The rows of the batch that the helper sees; there may be fewer training rows.
        tolerance: The largest distance of a member, in logits; it is above the rounding of fixed point.
    """

    batch: int = 128
    tolerance: float = membership.TOLERANCE

    name: ClassVar[str] = "membership"
    reads: ClassVar[str] = "helper"

    def __post_init__(self) -> None:
        integer("batch", self.batch, 2)
        number("tolerance", self.tolerance, "a number above 0", above=0)

    def measure(self, view: HelperView, seed: int) -> list[Finding]:
        draw = torch.Generator().manual_seed(seed)
        inside = view.train.x[torch.randperm(view.train.rows, generator=draw)[: self.batch]]
        known = {row.numpy().tobytes() for row in view.train.x}  # a test row that is a copy would count as a member
        outside = view.test.x[[row.numpy().tobytes() not in known for row in view.test.x]][: self.batch]
        if not len(outside):
            raise InputError(
                "test", "rows that are trained on, alone", "a row that is not trained on, to be told apart"
            )
        shown = seen(view.logits(inside), view.hidden, seed)
        yes = [membership.members(shown, view.logits(rows), self.tolerance) for rows in (inside, outside)]
        return [Finding(
            "membership", f"batch of {len(inside)} rows, {view.hidden} permuted, the helper knows the model",
            membership.accuracy(*yes), 0.5, "members and non-members told rightly, mean of both shares",
            "where the helper does not know the model",
        )]  # fmt: skip
