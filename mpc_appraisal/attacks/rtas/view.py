"""What a helper that computes functions of permuted values sees, in simulation: the input of the attacks on RTAS.

    rows      z -> P z              the rows of z (n, C) in a secret order, entries of a row together and in order
    columns   z_i -> (P z)_i Q_i    each row's entries too, in a fresh secret order for each row: enough for a softmax
    entries   vec z -> P vec z      all n C values in one secret order: enough for an element-wise function

The helper is a third party; the two owners of the data choose the permutations P and Q_i. In goes z (n, C), for example
logits of n rows; out comes a `View`. The three ways of hiding are those of "Private Machine Learning by Random
Transformations" (2021), section 4.2.1. Values are those of the ring: multiples of 2^-16, rounded up or down at random
as a truncated product leaves them. Another way of hiding may be added to HIDDEN, if `rows` and `comparable` know it.
The rounding has to stay that of the ring, because the tolerances of attacks rest on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS

HIDDEN = ("rows", "columns", "entries")


@dataclass(frozen=True, eq=False)
class View:
    """The values that a helper sees, and their order, by which attacks are measured.

    Attributes:
        values: (n, C), or (n C,) where entries are hidden.
        order: (n,) or (n C,), the place in z of each seen row or entry; it is the owners' secret.
        hidden: How the order is hidden, one of HIDDEN.
    """

    values: Tensor
    order: Tensor
    hidden: str

    def comparable(self, z: Tensor) -> Tensor:
        """Bring rows z of known values into a form that compares with seen rows: sorted where columns are hidden."""
        return z.sort(dim=1).values if self.hidden == "columns" else z

    @property
    def rows(self) -> Tensor:
        """Return the values (n, C), comparable with other rows. Raises InputError where entries are hidden."""
        if self.hidden == "entries":
            raise InputError("view", "entries in one order", "rows whose entries stay together")
        return self.comparable(self.values)


def seen(z: Tensor, hidden: str, seed: int, bits: int = PRECISION_BITS) -> View:
    """Return the view of z (n, C), in a random order.

    Args:
        z: the values.
        hidden: how the order is hidden, one of HIDDEN.
        seed: the seed of orders and rounding.
        bits: the fractional bits of the values.

    Raises InputError for another shape or way of hiding.
    """
    one_of("hidden", hidden, HIDDEN)
    if z.dim() != 2:
        raise InputError("z", f"shape {tuple(z.shape)}", "shape (rows, columns)")
    draw = torch.Generator().manual_seed(seed)
    z = z.to(torch.float64)
    z = (z * 2**bits + torch.rand(z.shape, generator=draw, dtype=torch.float64)).floor() / 2**bits
    if hidden == "entries":
        order = torch.randperm(z.numel(), generator=draw)
        return View(z.reshape(-1)[order], order, hidden)
    order = torch.randperm(len(z), generator=draw)
    z = z[order]
    if hidden == "columns":
        z = z.gather(1, torch.rand(z.shape, generator=draw).argsort(dim=1))
    return View(z, order, hidden)
