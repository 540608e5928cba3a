"""Activations of ONNX as modules of CrypTen; `operators` says how they are called.

On shares they are composed of CrypTen's relu, sigmoid, tanh, exp and log. CrypTen's exp is (1 + x / 256)^256 and
therefore good for x from -512 to about 11.
"""

from __future__ import annotations

import math

from mpc_appraisal.mpc.crypten_programs.operators import Add, Mul, Operator, is_secret


class Relu(Operator):
    other_names = ("ReLU",)

    def compute(self, x):
        return x.relu()


class Clip(Operator):
    """min(max(x, low), high); either bound may be absent."""

    defaults = {"min": None, "max": None}

    def compute(self, x, low=None, high=None):
        low = self.attributes["min"] if low is None else low.item()
        high = self.attributes["max"] if high is None else high.item()
        if not is_secret(x):
            return x if low is None and high is None else x.clamp(low, high)
        if low is not None and high is not None:
            return x.hardtanh(low, high)
        if low is not None:
            return x.sub(low).relu().add(low)
        return x if high is None else x.neg().add(high).relu().neg().add(high)


class LeakyRelu(Operator):
    defaults = {"alpha": 0.01}

    def compute(self, x):
        alpha = self.attributes["alpha"]
        return x.relu().mul(1 - alpha).add(x.mul(alpha))


class PRelu(Operator):
    def compute(self, x, slope):
        positive = x.relu()
        return Add().compute(positive, Mul().compute(x.sub(positive), slope))


def elu(x, alpha: float):
    """Return max(x, 0) + alpha (exp(min(x, 0)) - 1)."""
    positive = x.relu()
    return positive.add(x.sub(positive).exp().sub(1).mul(alpha))


class Elu(Operator):
    defaults = {"alpha": 1.0}

    def compute(self, x):
        return elu(x, self.attributes["alpha"])


class Celu(Operator):
    defaults = {"alpha": 1.0}

    def compute(self, x):
        alpha = self.attributes["alpha"]
        positive = x.relu()
        return positive.add(x.sub(positive).div(alpha).exp().sub(1).mul(alpha))


class Selu(Operator):
    defaults = {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}

    def compute(self, x):
        return elu(x, self.attributes["alpha"]).mul(self.attributes["gamma"])


def softplus(x):
    """Return log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|)), whose logarithm is of a number from 1 to 2."""
    positive = x.relu()
    return positive.add(x.sub(positive.mul(2)).exp().add(1).log())


class Softplus(Operator):
    def compute(self, x):
        return softplus(x)


class Mish(Operator):
    def compute(self, x):
        return x.mul(softplus(x).tanh())


class Softsign(Operator):
    def compute(self, x):
        return x.mul(x.abs().add(1).reciprocal())


class Sigmoid(Operator):
    def compute(self, x):
        return x.sigmoid()


class Tanh(Operator):
    def compute(self, x):
        return x.tanh()


class HardSigmoid(Operator):
    defaults = {"alpha": 0.2, "beta": 0.5}

    def compute(self, x):
        return Clip(min=0.0, max=1.0).compute(x.mul(self.attributes["alpha"]).add(self.attributes["beta"]))


class HardSwish(Operator):
    def compute(self, x):
        return x.mul(HardSigmoid(alpha=1 / 6, beta=0.5).compute(x))


class Gelu(Operator):
    """x Phi(x) with Phi by erf, or its approximation by tanh."""

    defaults = {"approximate": b"none"}

    def compute(self, x):
        if self.attributes["approximate"] in (b"tanh", "tanh"):
            inner = x.square().mul(0.044715).add(1).mul(x).mul(math.sqrt(2 / math.pi))
            return x.mul(inner.tanh().add(1)).div(2)
        return x.mul(x.mul(1 / math.sqrt(2)).erf().add(1)).div(2)


class Softmax(Operator):
    defaults = {"axis": -1}

    def compute(self, x):
        return x.softmax(self.attributes["axis"])


class LogSoftmax(Operator):
    defaults = {"axis": -1}

    def compute(self, x):
        return x.log_softmax(self.attributes["axis"])
