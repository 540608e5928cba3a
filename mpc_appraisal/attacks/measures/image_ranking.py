"""The ranking attack on InstaHide as a choice of the app: which of many candidate images is in an encoding?

The formula is that of `instahide.rank`, and the attacker has the public images. In goes an `EncodingsView`; out comes
the share of private images that are ranked first among all candidates, once by their encodings for inference and once
by a single encoding of training, of which the heavier private image is sought. A guess finds 1 in as many as there are
candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mpc_appraisal.attacks.instahide import rank
from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.common.checks import integer
from mpc_appraisal.transformations.instahide import MOST
from mpc_appraisal.transformations.instahide_images import EncodingsView

MEANING = "private images that are ranked first among all candidates"
STOPS = "for an encoding that holds none of the candidates"


@dataclass(frozen=True)
class ImageRanking(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        candidates: The number of candidates, all of which are private images; there may be fewer of them.
        encodings: The number of encodings of one image that the attacker sees; None for as many as inference hands out.
        learned: The number of encodings that the attacker makes of public images, or a few more.
    """

    candidates: int = 130
    encodings: int | None = None
    learned: int = 3500

    name: ClassVar[str] = "image_ranking"
    reads: ClassVar[str] = "encodings"

    def __post_init__(self) -> None:
        integer("candidates", self.candidates, MOST)
        integer("learned", self.learned, 1)
        if self.encodings is not None:
            integer("encodings", self.encodings, 1, expected="null, or an integer of 1 or more")

    def measure(self, view: EncodingsView, seed: int) -> list[Finding]:
        hide, public = view.hide, view.images.public
        candidates = view.images.private[: self.candidates]
        squares, count = rank.learn(hide, public, self.learned), self.encodings or view.count
        right, chance = torch.arange(len(candidates)), 1 / len(candidates)

        def scores(images: Tensor) -> Tensor:
            return torch.stack([rank.scores(squares, z, candidates) for z in hide.infer(images, public, count)])

        found, absent = scores(candidates), view.images.tested[: len(candidates)]
        points = tuple(
            {"encodings": seen, "recovered": first(found[:seen].sum(dim=0), right)}
            for seen in sorted({1, min(3, count), count})
        )
        named = torch.eye(len(candidates), dtype=candidates.dtype)  # labels that name the image, to tell which it was
        trained = hide.encrypt(candidates, named, public)
        among = f"among {len(candidates)} candidates"
        return [
            Finding(
                "image ranking, inference", f"{count} encoding{'s' * (count > 1)}, {among}", points[-1]["recovered"],
                chance, MEANING, STOPS, first(scores(absent).sum(dim=0), right[: len(absent)]), points=points,
            ),
            Finding(
                "image ranking, training", f"1 encoding, its heavier image {among}",
                first(rank.scores(squares, trained.z, candidates), trained.labels.argmax(dim=1)), chance, MEANING,
                STOPS,
            ),
        ]  # fmt: skip


def first(scores: Tensor, right: Tensor) -> float:
    """Return the share of rows of scores (rows, m) whose right candidate (rows,) has the highest one."""
    return float((rank.places(scores, right) == 1).to(torch.float64).mean())
