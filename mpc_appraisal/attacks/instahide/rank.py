"""One InstaHide encoding ranked against candidate images: which of them is in it?

    z = s * sum_i l_i x_i,  so  z^2 = sum_i l_i^2 x_i^2 + cross terms,  whatever the signs s
    score(x) = W' (z^2 - m) . c / ||c||,    c = W' (x^2 - q)
    m, C     mean and covariance of z^2 over encodings of public images, W W' = (C + ridge)^-1;  q the mean of x^2

Squares undo the signs, and the cross terms have mean 0 over images of mean 0. Whitening makes the other images of the
mixture alike in all directions; without it the few directions in which all photographs are alike drown the rest. It is
Fisher's discriminant (1936) with a shift in the direction c. Scores of several encodings of one image add up.

Whoever has public images of the same kind can do this; no encoding of the victim's is needed to learn W. The signs keep
the pixels' own signs, and an image that is not among the candidates is not found, only missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide import InstaHide

RIDGE = 0.02  # of the mean variance of a squared pixel


@dataclass(frozen=True, eq=False)
class Squares:
    """Whitened squares. mean: (d,) of z^2; power: (d,) of x^2; whiten: (d, d); k: of the mixtures."""

    mean: Tensor
    power: Tensor
    whiten: Tensor
    k: int

    def of_encodings(self, z: Tensor) -> Tensor:
        """(rows, d) -> (rows, d)."""
        return (z.square() - self.mean) @ self.whiten

    def of_images(self, x: Tensor) -> Tensor:
        """(rows, d) -> (rows, d)."""
        return (x.square() - self.power) @ self.whiten


def learn(hide: InstaHide, public: Tensor, count: int = 3500) -> Squares:
    """From `count` encodings, or a few more, of public images (m, d) that the attacker makes itself.

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
    """z (rows, d) against candidates (m, d) -> (rows, m); the highest of a row is the attacker's guess.

    Raises InputError where the pixels do not match.
    """
    width = len(squares.mean)
    for name, found in (("z", z), ("candidates", candidates)):
        if found.dim() != 2 or found.shape[1] != width:
            raise InputError(name, tuple(found.shape), f"shape (rows, {width})")
    directions = squares.of_images(candidates)
    return squares.of_encodings(z) @ torch.nn.functional.normalize(directions).T


def places(found: Tensor, right: Tensor) -> Tensor:
    """Rank of each row's right candidate, 1 the first: found (rows, m), right (rows,) columns -> (rows,)."""
    return 1 + (found > found.gather(1, right[:, None])).sum(dim=1)
