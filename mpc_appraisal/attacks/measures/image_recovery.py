"""The recovery of images from InstaHide's encodings as a choice of the app: grouping, then phase retrieval.

The formula is that of `instahide.cluster`, and the attacker has the public images and the labels. In goes an
`EncodingsView`; out comes the share of private images that are identified: the recovered image is nearer to its private
one than to any other private image or decoy. A guess answers with other images of the same kind. A few private images
are attacked by themselves, because the attack takes longer and finds less of each the more images are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mpc_appraisal.attacks.instahide import challenge, cluster, rank
from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.common.checks import integer
from mpc_appraisal.reporting.recovered_images import RecoveredImages
from mpc_appraisal.transformations.instahide import Encoding
from mpc_appraisal.transformations.instahide_images import EncodingsView, Images

MEANING = "private images that are identified by what was recovered of them, up to the signs of pixels"
STOPS = "where each image was encoded only once"


@dataclass(frozen=True)
class ImageRecovery(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        images: About how many private images are attacked, equally many of each class and at least one.
        epochs: The number of encodings of each of them; None for as many as training hands out.
        restarts: The number of starts of the grouping.
        decoys: The largest number of other images that an image is told from.
        learned: The number of encodings that the attacker makes of public images, or a few more.
    """

    images: int = 20
    epochs: int | None = None
    restarts: int = 6
    decoys: int = 1000
    learned: int = 3500

    name: ClassVar[str] = "image_recovery"
    reads: ClassVar[str] = "cross_encodings"

    def __post_init__(self) -> None:
        for name in ("images", "restarts", "decoys", "learned"):
            integer(name, getattr(self, name), 1)
        if self.epochs is not None:
            integer("epochs", self.epochs, 1, expected="null, or an integer of 1 or more")

    def measure(self, view: EncodingsView, seed: int) -> list[Finding]:
        private, labels = view.images.few(self.images)
        count, epochs = len(private), self.epochs or view.epochs
        guesses, decoys = apart(view.images, count, self.decoys)
        squares = rank.learn(view.hide, view.images.public, self.learned)
        made = [view.hide.encrypt(private, labels, view.images.public) for _ in range(epochs)]
        counts = [int(each) for each in labels.sum(dim=0)]
        points: list[dict[str, Any]] = []
        for seen in sorted({1, -(-epochs // 5), epochs}):
            part = Encoding(*(torch.cat([getattr(one, key) for one in made[:seen]]) for key in ("z", "labels")))
            found = cluster.recover(part, counts, squares, restarts=self.restarts, seed=seed).images
            score = challenge.compare(found, private, decoys)
            points.append({"epochs": seen, "recovered": score.identified, "correlation": score.correlation})
        chance = challenge.compare(guesses, private, decoys)
        pair = [images.numpy() for images in challenge.beside(found, private)]
        return [Finding(
            "image recovery", f"{count} images, {epochs} encodings of each, told from {len(decoys)} decoys",
            points[-1]["recovered"], chance.identified, MEANING, STOPS, points[0]["recovered"],
            points=tuple(point | {"chance_correlation": chance.correlation} for point in points),
            images=RecoveredImages("image recovery", *pair, signed=False),
        )]  # fmt: skip


def apart(images: Images, count: int, decoys: int) -> tuple[Tensor, Tensor]:
    """Return `count` images for a guess and as many decoys as asked for, or fewer, none of them private or public."""
    pool = torch.cat([images.others, images.tested])
    return pool[:count], pool[count : count + decoys]
