"""Shares in floating point, as the RTAS paper has them (sections 4.1, 4.2.1), and its logistic regression on them.

    share        <x>_0 = r,   <x>_1 = x - r,   r normal of deviation s, greater than x's
    product      x y = (x - u)(y - v) + (x - u) v + u (y - v) + u v:   u, v, u v shared by the helper, x - u, y - v open
    function     both owners permute z alike, the helper adds the parts, applies f and f', and shares both
    step         p = sigmoid(x w + b),   g = c (p - y) p (1 - p),   w <- w - x' g,   b <- b - sum g,   c = 2 lr / n

The three parties run one program: owners 0 and 1, and the helper, whose tensors are zeros of the right shapes. x (n, d)
and y (n, C) are the data owner's rows and targets, w (d, C) and b are the model's weights, lr is the learning rate, and
u, v are random matrices that the helper deals. In go a public plan and an owner's tensors; out comes a `FittedModel`.

The code is here to be measured and not to be used. A normal r hides less with every new sharing of the same x (see
`attacks.rtas.float_drift`), and x - u is such a sharing at every step. The shares of a product of n terms have a
deviation of about s^2 sqrt(n) whatever the product is. Hence those of the weights drift apart, in T steps by about s^2
sqrt(n T) (`FittedModel.spread`), and float32 leaves an error of 2^-24 of that. torch's generators are not
cryptographic, and neither are numpy's in the paper.

A number costs 4 bytes. The helper sends the shares of u, v and u v to both owners, because no streams are shared. The
formulas have to stay those of the paper, and all three parties have to make the same calls in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, rank_of
from mpc_appraisal.mpc.net.channel import Channel

MODEL, DATA, HELPER = (rank_of(role) for role in (MODEL_OWNER, DATA_OWNER, DEALER))
KEY_SHAPE = (1,)


def _random() -> torch.Generator:
    return torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "big"))


class Floats:
    """One party's side of computations on shares in floating point.

    Args:
        me: The party's rank: MODEL, DATA or HELPER.
        channel: The party's connections to the others.
        deviation: s, the same at all parties.

    Raises InputError unless s is above 0.
    """

    def __init__(self, me: int, channel: Channel, deviation: float):
        if not deviation > 0:
            raise InputError("deviation", deviation, "a number above 0")
        self.me, self.channel, self.deviation = me, channel, float(deviation)
        self._own, self._pair = _random(), torch.Generator()
        if me == MODEL:
            key = torch.randint(2**62, KEY_SHAPE, generator=self._own)
            channel.send(key, DATA)
            self._pair.manual_seed(key.item())
        elif me == DATA:
            self._pair.manual_seed(channel.receive(KEY_SHAPE, MODEL).item())

    def _noise(self, shape: Sequence[int]) -> Tensor:
        return self.deviation * torch.randn(tuple(shape), generator=self._own)

    def _receive(self, shape: Sequence[int], source: int) -> Tensor:
        return self.channel.receive(tuple(shape), source, torch.float32)

    def share(self, value: Tensor | None, shape: Sequence[int], owner: int) -> Tensor:
        """Share the owner's value, float32 of `shape`, and return this party's share.

        Args:
            value: the value at its owner; None at the other parties.
            shape: the shape of the value.
            owner: the rank of the owner, MODEL or DATA.
        """
        if self.me == HELPER:
            return torch.zeros(tuple(shape))
        if self.me != owner:
            return self._receive(shape, owner)
        r = self._noise(shape)
        self.channel.send(value - r, 1 - owner)
        return r

    def _dealt(self, value: Tensor | None, shape: Sequence[int]) -> Tensor:
        """Share the helper's value, which is None at the owners, and return this party's share."""
        if self.me != HELPER:
            return self._receive(shape, HELPER)
        r = self._noise(shape)
        self.channel.send(r, MODEL)
        self.channel.send(value - r, DATA)
        return torch.zeros(tuple(shape))

    def open(self, share: Tensor) -> Tensor:
        """Return the value behind a share, at both owners; the helper gets its zeros back."""
        if self.me == HELPER:
            return share
        self.channel.send(share, 1 - self.me)
        return share + self._receive(share.shape, 1 - self.me)

    def product(self, x: Tensor, y: Tensor, op: Callable[[Tensor, Tensor], Tensor] = torch.matmul) -> Tensor:
        """Return a share of op(x, y) for shares x and y, where op is torch.matmul or torch.mul."""
        if self.me == HELPER:
            u, v = self._noise(x.shape), self._noise(y.shape)
            for each in (u, v):
                self._dealt(each, each.shape)
            w = op(u, v)
            return self._dealt(w, w.shape)
        u, v = self._dealt(None, x.shape), self._dealt(None, y.shape)
        w = self._dealt(None, op(x, y).shape)
        e, f = self.open(x - u), self.open(y - v)
        public = op(e, f) if self.me == MODEL else 0
        return op(e, v) + op(u, f) + w + public

    def applied(self, z: Tensor, functions: Sequence[Callable[[Tensor], Tensor]]) -> list[Tensor]:
        """Return a share of each function of z, element by element.

        The helper sees the elements of z in a random order, which both owners know.
        """
        size = (z.numel(),)
        if self.me == HELPER:
            seen = self._receive(size, MODEL) + self._receive(size, DATA)
            return [self._dealt(f(seen), size).reshape(z.shape) for f in functions]
        order = torch.randperm(z.numel(), generator=self._pair)
        self.channel.send(z.reshape(-1)[order], HELPER)
        self.channel.meter.waited()
        self.channel.meter.waited()
        found = []
        for _ in functions:
            back = torch.empty(size)
            back[order] = self._dealt(None, size)
            found.append(back.reshape(z.shape))
        return found


def _slope(z: Tensor) -> Tensor:
    p = torch.sigmoid(z)
    return p * (1 - p)


@dataclass(frozen=True)
class FloatPlan:
    """The public plan of a logistic regression.

    Attributes:
        rows, features: The shape of x.
        batches: The numbers of the rows of each step.
        lr: The learning rate, for the mean squared loss.
        predicted: The number of rows of the test data.
        outputs: The number C of outputs; the paper's regression has one.
    """

    rows: int
    features: int
    batches: tuple[tuple[int, ...], ...]
    lr: float
    predicted: int
    outputs: int = 1


class FittedModel(NamedTuple):
    """A trained model and its predictions, which are opened to both owners; the helper has zeros.

    Attributes:
        weight: (features, C).
        bias: (1, C).
        predicted: The probabilities (predicted, C) of the test rows.
        spread: The root mean square of this party's share of the weight after each step.
    """

    weight: Tensor
    bias: Tensor
    predicted: Tensor
    spread: list[float]


def logistic(
    floats: Floats,
    plan: FloatPlan,
    x: Tensor | None = None,
    y: Tensor | None = None,
    test: Tensor | None = None,
    weight: Tensor | None = None,
) -> FittedModel:
    """Train the paper's logistic regression in float32, and predict; b begins at 0.

    Args:
        floats: this party's side.
        plan: the public plan.
        x: the rows (rows, features), at the data owner.
        y: their targets (rows, C), at the data owner.
        test: the rows (predicted, features) to predict, at the data owner.
        weight: the weight (features, C) with which training begins, at the model owner.

    Each tensor is None at the parties that do not give it, and the helper gives none.
    """
    x = floats.share(x, (plan.rows, plan.features), DATA)
    y = floats.share(y, (plan.rows, plan.outputs), DATA)
    w, b = floats.share(weight, (plan.features, plan.outputs), MODEL), torch.zeros(1, plan.outputs)
    spread = []
    for batch in plan.batches:
        index = torch.tensor(batch)
        xs, c = x[index], 2 * plan.lr / len(batch)
        p, slope = floats.applied(floats.product(xs, w) + b, (torch.sigmoid, _slope))
        g = floats.product(p - y[index], slope, torch.mul) * c
        w, b = w - floats.product(xs.t(), g), b - g.sum(0, keepdim=True)
        spread.append(float(w.square().mean().sqrt()))
    p = torch.zeros(0, plan.outputs)
    if plan.predicted:
        test = floats.share(test, (plan.predicted, plan.features), DATA)
        (p,) = floats.applied(floats.product(test, w) + b, (torch.sigmoid,))
    return FittedModel(floats.open(w), floats.open(b), floats.open(p), spread)
