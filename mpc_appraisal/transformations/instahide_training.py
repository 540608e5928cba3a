"""Learning by InstaHide as protocols of the app: a network is trained on encodings of private images, and tested.

    instahide          z mixes two private images and k - 2 public ones     (mixing "cross")
    instahide_inside   z mixes k private images                             (mixing "inside")

    training     on |z|, for fresh encodings z of all private images in every epoch
    inference    p(t) = mean over `count` encodings z_t of p(|z_t|),  t mixed with k - 1 public images
    baseline     the same network, first weights, steps and rates on the images themselves

x are the private images, t the tested ones, and p the network's probabilities. In go a `LearningData` and settings; out
come both accuracies, the cost, what is handed out, and the view that attacks begin from. `instahide.py` has the formula
and the source.

One process encodes and trains, and the bytes are those that the data owner would send. `instahide_images.py` says which
images are private and which are public. Keys come from the operating system, so that two runs with one seed make other
encodings. The names of the protocols have to stay, because records hold them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mpc_appraisal.common.checks import integer, number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.models.networks import ARCHITECTURES, Network, fitted_to, initial
from mpc_appraisal.transformations.instahide import LEAKAGE, InstaHide, fit, predict
from mpc_appraisal.transformations.instahide_images import EncodingsView, Images, drawn, pixels, rightly
from mpc_appraisal.transformations.strategy import (
    PLAIN,
    Emit,
    LearningCost,
    LearningData,
    LearningOutcome,
    LearningProtocol,
    check_classes,
)

FLOAT_BYTES = 4
TRUST = "The model owner, and everybody who sees the encodings, is trusted not to attack them."


@dataclass(frozen=True)
class InstaHideTraining(LearningProtocol):
    """What both kinds of mixing have in common. Raises InputError for a setting that does not fit.

    Attributes:
        k: The number of images in a mixture.
        bound: The largest coefficient.
        rows: The number of private images, drawn from the seed; None for all training rows.
        network: A name in `models.networks.ARCHITECTURES`, which is fitted to the images.
        epochs: How often each private image is encoded and used.
        batch: The images of a step.
        rate: The learning rate, which falls to a tenth for the last third of the epochs.
        momentum: The momentum of SGD.
        count: The number of encodings of an image over which inference averages.
    """

    k: int = 4
    bound: float = 0.65
    rows: int | None = 900
    network: str = "mlp"
    epochs: int = 25
    batch: int = 32
    rate: float = 0.02
    momentum: float = 0.9
    count: int = 10

    engine: ClassVar[None] = None
    mixing: ClassVar[str]

    def __post_init__(self) -> None:
        number("bound", self.bound)
        _ = self.hide
        if self.rows is not None:
            integer("rows", self.rows, 2, expected="null, or an integer of 2 or more")
        one_of("network", self.network, ARCHITECTURES)
        for name in ("epochs", "batch", "count"):
            integer(name, getattr(self, name), 1)
        number("rate", self.rate, above=0)
        number("momentum", self.momentum, least=0, below=1)

    @property
    def hide(self) -> InstaHide:
        """The parameters of the encodings."""
        return InstaHide(self.k, self.mixing, self.bound)

    @property
    def leakage(self) -> tuple[str, ...]:
        return (LEAKAGE,)

    @property
    def trust(self) -> str:
        return TRUST

    def check(self, data: LearningData) -> None:
        check_classes(data, self.name)
        fitted_to(self.network, data.train.features, data.train.classes)
        for part in (data.train, data.test):
            pixels(part)
        count = data.train.rows if self.rows is None else min(self.rows, data.train.rows)
        if count < self.hide.mixed:
            raise InputError("rows", count, f"{self.hide.mixed} or more, all different in a mixture")
        if data.test.rows < 4 * self.k:
            expected = f"{4 * self.k} or more, because half of them are the public images, from which attackers learn"
            raise InputError("data", f"{data.test.rows} test rows", expected)

    def run(self, data: LearningData, session: Any, emit: Emit) -> LearningOutcome:
        images = drawn(data, self.rows)
        start = initial(fitted_to(self.network, data.train.features, images.classes), data.seed)
        few = replace(images, private=images.private[: self.batch], y=images.y[: self.batch])
        self._trained(start, few, None, data.seed)  # the first use of a kernel takes seconds that are nobody's cost
        emit({"state": "training in the clear"})
        _, plain, plain_seconds = self._trained(start, images, None, data.seed)
        accuracy, cost, clear, openings = None, None, None, ()
        if session.name != PLAIN:
            emit({"state": f"{self.label}: training on encodings"})
            network, _, seconds = self._trained(start, images, self.hide, data.seed)
            began = time.perf_counter()
            accuracy = rightly(predict(network, self.hide, images.tested, images.public, self.count), images.truth)
            seconds += time.perf_counter() - began
            openings = self._opened(images)
            cost = LearningCost(seconds, {DATA_OWNER: FLOAT_BYTES * sum(one["numbers"] for one in openings)})
            clear = rightly(network.probabilities(images.tested.abs()), images.truth)
        return LearningOutcome(
            accuracy=accuracy,
            plain_accuracy=plain,
            always=images.commonest,
            trained=len(images.private),
            tested=len(images.tested),
            steps=self.epochs * -(-len(images.private) // self.batch),
            cost=cost,
            plain_seconds=plain_seconds,
            openings=openings,
            views=dict.fromkeys(self.shows, EncodingsView(self.hide, images, self.epochs, self.count)),
            more={"public_images": len(images.public), "accuracy_without_encoding": clear},
        )

    def _trained(
        self, start: Network, images: Images, hide: InstaHide | None, seed: int
    ) -> tuple[Network, float, float]:
        """Return the network, its accuracy on images that are not encoded, and the seconds of training."""
        began = time.perf_counter()
        found = fit(
            start, images.private, images.labels, epochs=self.epochs, hide=hide, public=images.public, lr=self.rate,
            batch_size=self.batch, momentum=self.momentum, seed=seed,
        )  # fmt: skip
        return found, rightly(found.probabilities(images.tested), images.truth), time.perf_counter() - began

    def _opened(self, images: Images) -> tuple[dict[str, Any], ...]:
        (rows, width), made = images.private.shape, self.epochs * len(images.private)
        inferred = self.count * images.tested.numel()
        entries = (
            ("encodings of training images", made * width, f"{self.epochs} of each of {rows}, to train on"),
            ("label weights of encodings", made * images.classes, "the loss of training needs them"),
            ("encodings of tested images", inferred, f"{self.count} of each of {len(images.tested)}, to predict"),
        )
        return tuple({"what": w, "to": [MODEL_OWNER], "numbers": n, "why": why} for w, n, why in entries)


@dataclass(frozen=True)
class InstaHideCross(InstaHideTraining):
    """Cross-dataset mixing: two private images and k - 2 public ones. Raises InputError as its base does.

    Attributes:
        least: The least sum of the private images' coefficients.
    """

    least: float = 0.3

    name: ClassVar[str] = "instahide"
    label: ClassVar[str] = "InstaHide, with public images"
    mixing: ClassVar[str] = "cross"
    shows: ClassVar[tuple[str, ...]] = ("encodings", "cross_encodings")

    def __post_init__(self) -> None:
        number("least", self.least)
        super().__post_init__()

    @property
    def hide(self) -> InstaHide:
        return InstaHide(self.k, self.mixing, self.bound, self.least)


@dataclass(frozen=True)
class InstaHideInside(InstaHideTraining):
    """Inside-dataset mixing: all k images of a training mixture are private. Raises InputError as its base does."""

    name: ClassVar[str] = "instahide_inside"
    label: ClassVar[str] = "InstaHide, private images alone"
    mixing: ClassVar[str] = "inside"
    shows: ClassVar[tuple[str, ...]] = ("encodings",)
