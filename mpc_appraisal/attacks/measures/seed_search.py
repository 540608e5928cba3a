"""The search of seeds as a choice of the app: InstaHide with keys from a generator that is not cryptographic.

The formula is that of `instahide.seed`. The protocol's keys come from AES; for this attack alone, encodings of a few
private images are made by numpy's generator under a planted seed of 32 bits, as in the first challenge of InstaHide's
authors. In goes an `EncodingsView`; out comes the share of images that are recovered exactly. The seeds around the
planted one are searched, and the time for all 2^32 is computed from the rate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.attacks.instahide import seed as seeds
from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.common.checks import integer
from mpc_appraisal.reporting.recovered_images import RecoveredImages
from mpc_appraisal.transformations.instahide import Encoding, apply
from mpc_appraisal.transformations.instahide_images import EncodingsView

EXACT = 1e-2  # the largest error of a pixel, of deviation 1, in an image that counts as recovered
MEANING = "private images that are recovered exactly, with the signs of pixels"
STOPS = "with the protocol's own keys, which no seed gives"


@dataclass(frozen=True)
class SeedSearch(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        images: About how many private images are attacked, equally many of each class and at least one.
        planted: The seed that the encodings are made with.
        searched: The number of seeds that are searched, half of them below the planted one.
    """

    images: int = 20
    planted: int = 3_141_592_653
    searched: int = 65_536

    name: ClassVar[str] = "seed_search"
    reads: ClassVar[str] = "cross_encodings"

    def __post_init__(self) -> None:
        integer("images", self.images, 2)
        integer("planted", self.planted, 0, seeds.SEEDS - 1)
        integer("searched", self.searched, 2, seeds.SEEDS)

    def measure(self, view: EncodingsView, seed: int) -> list[Finding]:
        private, labels = view.images.few(self.images)
        public, hide = view.images.public, view.hide

        def searched(given: Encoding) -> tuple[float, seeds.RecoveredSeed]:
            found = seeds.search(hide, given, len(public), self._range())
            if found.seed is None:
                return 0.0, found
            key = seeds.insecure_key(hide, private.shape, len(public), found.seed)
            error = (seeds.reconstruct(key, given, public) - private).abs().amax(dim=1)
            return float((error < EXACT).to(torch.float64).mean()), found

        key = seeds.insecure_key(hide, private.shape, len(public), self.planted)
        recovered, found = searched(apply(key, private, labels, public))
        began = time.perf_counter()
        stopped, missed = searched(hide.encrypt(private, labels, public))
        rate = missed.tried / (time.perf_counter() - began)
        return [Finding(
            "seed search", f"{len(private)} images, numpy's generator in place of the protocol's keys",
            recovered, 0.0, MEANING, STOPS, stopped, assumed=False, images=self._images(view, found.seed),
            points=({"found": found.seed == self.planted, "seeds_a_second": rate,
                     "minutes_for_all": seeds.SEEDS / rate / 60},),
        )]  # fmt: skip

    def _images(self, view: EncodingsView, found: int | None) -> RecoveredImages | None:
        """Return the private images beside those that the seed gives; None where no seed was found."""
        if found is None:
            return None
        private, labels = view.images.few(self.images)
        public, hide = view.images.public, view.hide
        given = apply(seeds.insecure_key(hide, private.shape, len(public), self.planted), private, labels, public)
        key = seeds.insecure_key(hide, private.shape, len(public), found)
        return RecoveredImages(
            "seed search", private.numpy(), seeds.reconstruct(key, given, public).numpy(), signed=True
        )

    def _range(self) -> range:
        start = min(max(0, self.planted - self.searched // 2), seeds.SEEDS - self.searched)
        return range(start, start + self.searched)
