"""Reductions of ONNX over axes, as modules of CrypTen; `operators` says how they are called."""

from __future__ import annotations

import math
from abc import abstractmethod

from mpc_appraisal.mpc.crypten_programs.operators import Operator, integers, is_secret


class _Reduction(Operator):
    """The base of reductions over axes, which are an attribute or, since opset 13 or 18, an input."""

    defaults = {"keepdims": 1, "noop_with_empty_axes": 0}

    def compute(self, x, axes=None):
        axes = self.attributes.get("axes") if axes is None else axes
        axes = [] if axes is None else sorted(axis % max(x.dim(), 1) for axis in integers(axes))
        if not axes and self.attributes["noop_with_empty_axes"]:
            return x
        return self.reduced(x, axes or list(range(x.dim())), bool(self.attributes["keepdims"]))

    @abstractmethod
    def reduced(self, x, axes: list[int], keepdim: bool):
        """Return x reduced over `axes`, in ascending order, which stay as axes of length one if `keepdim`."""


class ReduceSum(_Reduction):
    def reduced(self, x, axes, keepdim):
        return x.sum(axes, keepdim=keepdim)


class ReduceMean(_Reduction):
    def reduced(self, x, axes, keepdim):
        return x.sum(axes, keepdim=keepdim).div(math.prod(x.size(axis) for axis in axes))


class ReduceMax(_Reduction):
    def reduced(self, x, axes, keepdim):
        for axis in reversed(axes):
            x = x.max(axis, keepdim=keepdim)[0]
        return x


class ReduceMin(_Reduction):
    def reduced(self, x, axes, keepdim):
        return ReduceMax().reduced(x.neg(), axes, keepdim).neg()


class ReduceProd(_Reduction):
    def reduced(self, x, axes, keepdim):
        for axis in reversed(axes):
            x = x.prod(axis, keepdim=keepdim)
        return x


class ReduceLogSumExp(_Reduction):
    def reduced(self, x, axes, keepdim):
        greatest = ReduceMax().reduced(x, axes, True)
        total = x.sub(greatest).exp().sum(axes, keepdim=True).log().add(greatest)
        for axis in reversed([] if keepdim else axes):
            total = total.squeeze(axis)
        return total


class ReduceSumSquare(_Reduction):
    def reduced(self, x, axes, keepdim):
        return x.square().sum(axes, keepdim=keepdim)


class ReduceL2(_Reduction):
    def reduced(self, x, axes, keepdim):
        return x.square().sum(axes, keepdim=keepdim).sqrt()


class ReduceL1(_Reduction):
    def reduced(self, x, axes, keepdim):
        return x.abs().sum(axes, keepdim=keepdim)


class ArgMax(Operator):
    defaults = {"axis": 0, "keepdims": 1}

    def compute(self, x):
        options = {"one_hot": False} if is_secret(x) else {}
        return x.argmax(self.attributes["axis"], keepdim=bool(self.attributes["keepdims"]), **options)
