"""The attack that ranks candidate images by how likely each of them is in one InstaHide encoding.

    z = s * sum_i l_i x_i,  so  z^2 = sum_i l_i^2 x_i^2 + cross terms,  whatever the signs s
    score(x) = W' (z^2 - m) . c / ||c||,    c = W' (x^2 - q)
    m, C     mean and covariance of z^2 over encodings of public images, W W' = (C + ridge)^-1;  q the mean of x^2

z (d,) is an encoding, x_i are the images in it and l_i their coefficients. In go encodings, candidates and public
images of the same kind; out come scores. Squares undo the signs, and the cross terms have mean 0 over images of mean 0.
Whitening makes the other images of the mixture alike in all directions; without it the few directions in which all
photographs are alike would dominate. This is Fisher's discriminant (1936) with a shift in the direction c. Scores of
several encodings of one image add up.

An attacker that has public images of the same kind can do this, and needs none of the victim's encodings to learn W.
The pixels' own signs stay hidden, and an image that is not among the candidates is not found. RIDGE and `count` may
change. `Squares` has to stay what `cluster` takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide import InstaHide

RIDGE = 0.02  # the share of the mean variance of a squared pixel that is added to every variance


@dataclass(frozen=True, eq=False)
class Squares:
    """The whitening of squares.

    Attributes:
        mean: (d,), the mean of z^2.
        power: (d,), the mean of x^2.
        whiten: (d, d), W.
        k: The number of images in a mixture.
    """

    mean: Tensor
    power: Tensor
    whiten: Tensor
    k: int

    def of_encodings(self, z: Tensor) -> Tensor:
        """Return the whitened squares (rows, d) of encodings z (rows, d)."""
        return (z.square() - self.mean) @ self.whiten

    def of_images(self, x: Tensor) -> Tensor:
        """Return the whitened squares (rows, d) of images x (rows, d)."""
        return (x.square() - self.power) @ self.whiten


def learn(hide: InstaHide, public: Tensor, count: int = 3500) -> Squares:
    """Learn the whitening from encodings that the attacker makes of public images itself.

    Args:
        hide: the parameters of the encoding.
        public: the public images (m, d).
        count: the number of encodings to make, or a few more.

    Raises InputError for fewer than 2 k images.
    """
    if len(public) < 2 * hide.k:
        raise InputError("public", f"{len(public)} images", f"{2 * hide.k} or more")
    half = len(public) // 2
    own, labels = public[:half], public.new_zeros(half, 1)
    z = torch.cat([hide.encrypt(own, labels, public[half:]).z for _ in range(-(-count // half))])
    squares = z.square()
    mean = squares.mean(dim=0)
    off = squares.sub_(mean)
    values, vectors = torch.linalg.eigh(off.T @ off / len(off))
    scale = (values.clamp_min(0) + RIDGE * values.mean()).rsqrt()
    return Squares(mean, public.square().mean(dim=0), vectors * scale, hide.k)


def scores(squares: Squares, z: Tensor, candidates: Tensor) -> Tensor:
    """Return the scores (rows, m) of candidates (m, d) in encodings z (rows, d).

    The highest score of a row is the attacker's guess. Raises InputError where the pixels do not match.
    """
    width = len(squares.mean)
    for name, found in (("z", z), ("candidates", candidates)):
        if found.dim() != 2 or found.shape[1] != width:
            raise InputError(name, tuple(found.shape), f"shape (rows, {width})")
    directions = squares.of_images(candidates)
    return squares.of_encodings(z) @ torch.nn.functional.normalize(directions).T


def places(found: Tensor, right: Tensor) -> Tensor:
    """Return the rank (rows,) of each row's right candidate, 1 for the first.

    Args:
        found: the scores (rows, m).
        right: the column (rows,) of the right candidate.
    """
    return 1 + (found > found.gather(1, right[:, None])).sum(dim=1)
