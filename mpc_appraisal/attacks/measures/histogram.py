"""The histogram attack as a choice of the app: the helper reads the mix of classes of a batch.

The formula is that of `rtas.histogram`; the helper has the model and labelled rows of the same kind. In goes a
`HelperView`; out comes how near the found mix is to the true one, beside the mix of the helper's own rows as a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.attacks.rtas import histogram
from mpc_appraisal.attacks.rtas.view import seen
from mpc_appraisal.common.checks import integer
from mpc_appraisal.transformations.views import HelperView


@dataclass(frozen=True)
class Histogram(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        batch: The rows of a batch, whose classes are drawn unequally; at most half of the training rows are taken.
        turns: The number of batches, of which the mean is reported.
    """

    batch: int = 128
    turns: int = 5

    name: ClassVar[str] = "histogram"
    reads: ClassVar[str] = "helper"

    def __post_init__(self) -> None:
        integer("batch", self.batch, 2)
        integer("turns", self.turns, 1)

    def measure(self, view: HelperView, seed: int) -> list[Finding]:
        """Read the mix of classes of some batches, as `Attack.measure` describes it."""
        private, own = view.train, view.test
        classes, draw = max(private.classes, own.classes), torch.Generator().manual_seed(seed)
        usual = torch.bincount(own.y, minlength=classes).double() / own.rows
        reference = seen(view.logits(own.x), view.hidden, seed)
        taken, right, guess = max(1, min(self.batch, private.rows // 2)), [], []
        for turn in range(self.turns):
            counts = torch.bincount(private.y, minlength=classes).clamp_min(1)
            weight = torch.rand(classes, generator=draw).square().add(1e-3) / counts
            rows = torch.multinomial(weight[private.y], taken, generator=draw)
            truth = torch.bincount(private.y[rows], minlength=classes).double() / taken
            shown = seen(view.logits(private.x[rows]), view.hidden, seed + 1 + turn)
            right.append(histogram.agreement(histogram.class_mix(shown, reference, own.y, classes), truth))
            guess.append(histogram.agreement(usual, truth))
        return [Finding(
            "histogram: class mix", f"{self.turns} batches of {taken} rows, {view.hidden} permuted",
            float(np.mean(right)), float(np.mean(guess)),
            "1 - total variation distance between the batch's class mix and the helper's",
            "where the helper sees nothing; entries in one order leave little of many classes", float(np.mean(guess)),
        )]  # fmt: skip
