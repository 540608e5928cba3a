"""The images of a run of InstaHide: which are private, which are public, and what an attacker is shown.

    private   training rows, drawn from the seed          others    the training rows that are left over
    public    half of the test rows, drawn from the seed  tested    the other half, on which accuracy is measured

Private images belong to the data owner. Public images are everybody's: the protocol mixes them in, and attackers learn
from them. The others are nobody's, and attacks tell private images from them. Every image is shifted and scaled to
mean 0 and deviation 1. In go a `LearningData` and a number of rows; out come `Images`. How rows are drawn has to stay,
or records of one seed would not compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.transformations.instahide import InstaHide, centred
from mpc_appraisal.transformations.strategy import LearningData


@dataclass(frozen=True, eq=False)
class Images:
    """The images of one run, all of mean 0.

    Attributes:
        private: The private images (n, d) float32.
        y: Their labels (n,).
        public: The public images (m, d).
        others: Images (r, d) of the same kind that are neither private nor public.
        tested: The tested images (t, d).
        truth: Their labels (t,).
        classes: The number C of classes.
    """

    private: Tensor
    y: Tensor
    public: Tensor
    others: Tensor
    tested: Tensor
    truth: Tensor
    classes: int

    @property
    def labels(self) -> Tensor:
        """The one-hot labels (n, C) of the private images."""
        return one_hot(self.y, self.classes).to(self.private.dtype)

    @property
    def commonest(self) -> float:
        """The share of the commonest class among the tested images."""
        return int(self.truth.bincount().max()) / len(self.truth)

    def few(self, count: int) -> tuple[Tensor, Tensor]:
        """Return about `count` private images, equally many of each class, and their one-hot labels.

        There is at least one image of each class that has one.
        """
        each = max(1, count // self.classes)
        own = torch.cat([(self.y == c).nonzero().squeeze(1)[:each] for c in range(self.classes)])
        return self.private[own], self.labels[own]


@dataclass(frozen=True, eq=False)
class EncodingsView:
    """What everybody is shown who sees encodings, and beside it the images by which an attack is measured.

    Attributes:
        hide: The parameters of the encodings.
        images: The images.
        epochs: The number of encodings of each private image that training hands out.
        count: The number of encodings of an image that inference hands out.
    """

    hide: InstaHide
    images: Images
    epochs: int
    count: int


def drawn(data: LearningData, rows: int | None) -> Images:
    """Draw the images of a run.

    Args:
        data: The training rows, the test rows and the seed.
        rows: The number of private images; None for all training rows.

    Raises InputError for an image whose pixels are all alike.
    """
    draw = torch.Generator().manual_seed(data.seed)
    order, place = (torch.randperm(part.rows, generator=draw) for part in (data.train, data.test))
    own, rest = order[:rows], order[len(order[:rows]) :]
    public, tested = place[: data.test.rows // 2], place[data.test.rows // 2 :]
    x, t = (pixels(part) for part in (data.train, data.test))
    classes = max(data.train.classes, data.test.classes)
    return Images(x[own], data.train.y[own], t[public], x[rest], t[tested], data.test.y[tested], classes)


def pixels(data: Dataset) -> Tensor:
    """Return the rows (n, d) as images of mean 0 and deviation 1, float32. Raises InputError for a row of one value."""
    flat = int((data.x.amax(dim=1) == data.x.amin(dim=1)).sum())
    if flat:
        raise InputError("data", f"{flat} images of one value in {data.name}", "images of several values")
    return centred(data.x.to(torch.float32))


def rightly(p: Tensor, y: Tensor) -> float:
    """Return the share of labels y (n,) at which the probabilities p (n, C) are largest."""
    return float((p.argmax(dim=1) == y).to(torch.float64).mean())
