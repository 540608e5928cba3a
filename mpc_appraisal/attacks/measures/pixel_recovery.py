"""Pixel recovery as a choice of the app: the cloud of the marketplace solves first-layer outputs for images.

The formula is that of `pixel_recovery`. In goes a `CloudView`; out comes the share of images that are recovered with
every pixel, for which a guess has 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mpc_appraisal.attacks import pixel_recovery
from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.common.checks import integer
from mpc_appraisal.transformations.views import CloudView


@dataclass(frozen=True)
class PixelRecovery(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        rows: The number of sellers' images that are sought; there may be fewer.
    """

    rows: int = 20

    name: ClassVar[str] = "pixel_recovery"
    reads: ClassVar[str] = "cloud"

    def __post_init__(self) -> None:
        integer("rows", self.rows, 1)

    def measure(self, view: CloudView, seed: int) -> list[Finding]:
        """Solve for some images, as `Attack.measure` describes it."""
        order = np.random.default_rng(seed).permutation(len(view.images))[: self.rows]
        truth = view.images[order]
        found = pixel_recovery.recover(view.layer, truth @ view.layer.T)
        blank = pixel_recovery.recover(view.layer[:0], np.zeros((len(truth), 0)))
        return [Finding(
            "pixel recovery", f"{found.equations} equations of rank {found.rank} for {truth.shape[1]} pixels, "
            f"{len(truth)} images; {found.ink_share(truth):.0%} of the pixels that are not 0",
            found.image_share(truth), blank.image_share(truth), "sellers' images recovered whole",
            "where nobody sees outputs (ife_shares)", blank.image_share(truth),
        )]  # fmt: skip
