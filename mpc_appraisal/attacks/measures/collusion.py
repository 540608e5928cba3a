"""Collusion as a choice of the app: the helper and one owner together have every argument of a function.

The formula is that of `rtas.collusion`. No protocol here claims to withstand it, so that its finding is marked as
outside the assumptions. In goes a `HelperView`; out comes the share of values that are recovered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.attacks.rtas import collusion
from mpc_appraisal.attacks.rtas.view import seen
from mpc_appraisal.common.checks import integer
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS
from mpc_appraisal.transformations.views import HelperView

ULP = 2.0**-PRECISION_BITS


@dataclass(frozen=True)
class Collusion(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        batch: The rows of the batch whose values are recovered; there may be fewer.
    """

    batch: int = 128

    name: ClassVar[str] = "collusion"
    reads: ClassVar[str] = "helper"

    def __post_init__(self) -> None:
        integer("batch", self.batch, 2)

    def measure(self, view: HelperView, seed: int) -> list[Finding]:
        """Put the values of one batch back in order, as `Attack.measure` describes it."""
        z = view.logits(view.train.x[: self.batch])
        shown = seen(z, "entries", seed)  # an owner knows the order of columns too
        alone = collusion.exact_share(shown.values, z.reshape(-1), ULP)
        together = collusion.exact_share(collusion.undo(shown, shown.order), z.reshape(-1), ULP)
        return [Finding(
            "collusion", f"helper and one owner, a batch of {len(z)} rows", together, alone,
            "arguments of functions recovered, up to the fixed-point precision", "where they do not collude", alone,
            assumed=False,
        )]  # fmt: skip
