"""Gradients of CrypTen's functions that pick and move elements; `install` replaces what the table names.

Python's own syntax (x[:2]) does not pass through `CrypTensor.__getattribute__`, which records what has a gradient.

| in CrypTen | before | now |
|---|---|---|
| x[index] | its gradient is None | recorded |
| x[index], take | an element that is picked twice gets one of its gradients | both are added up |
| split, unbind, expand, repeat, index_add, scatter_add | the gradient is None | recorded |
| permute(0, 2, 1), permute with negative axes | refused, if a gradient is wanted | recorded |
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mpc_appraisal.mpc.crypten_programs.gradients import MENDED, CrypTensor, register
from mpc_appraisal.mpc.protocols import crypten_compat

crypten = crypten_compat.load()

from crypten.gradients import FUNCTION_REGISTRY, AutogradFunction, _inverse_broadcast  # noqa: E402


def put_back(gradient: Any, positions: torch.Tensor, size: torch.Size) -> Any:
    """Return zeros of `size` to which each element of a gradient is added at its position, counted row by row."""
    zeros = gradient.new(torch.zeros(math.prod(size)))
    return zeros.index_add(0, positions.reshape(-1), gradient.reshape(-1)).reshape(size)


@register("take")
class TakeGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, index, dim=None):
        ctx.save_multiple_for_backward((input.size(), index, dim))
        return input.take(index, dim)

    @staticmethod
    def backward(ctx, grad_output):
        size, index, dim = ctx.saved_tensors
        places = torch.arange(math.prod(size)).reshape(size)
        if dim is None:
            return put_back(grad_output, places.take(index), size)
        return put_back(grad_output, places[(*[slice(None)] * (dim % len(size)), index)], size)


@register("permute")
class PermuteGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, *dims):
        dims = [dim % input.dim() for dim in (dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims)]
        ctx.save_for_backward(dims)
        return input.permute(dims)

    @staticmethod
    def backward(ctx, grad_output):
        (dims,) = ctx.saved_tensors
        return grad_output.permute([dims.index(dim) for dim in range(len(dims))])


@register("__getitem__")
class IndexGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, index):
        ctx.save_multiple_for_backward([input.size(), index])
        return input[index]

    @staticmethod
    def backward(ctx, grad_output):
        size, index = ctx.saved_tensors
        return put_back(grad_output, torch.arange(math.prod(size)).reshape(size)[index], size)


@register("expand")
class ExpandGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, *sizes):
        ctx.save_for_backward(input.size())
        return input.expand(*sizes)

    @staticmethod
    def backward(ctx, grad_output):
        (size,) = ctx.saved_tensors
        return _inverse_broadcast(grad_output, size)


@register("repeat")
class RepeatGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, *sizes):
        repeats = list(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else list(sizes)
        ctx.save_multiple_for_backward((input.size(), repeats))
        return input.repeat(repeats)

    @staticmethod
    def backward(ctx, grad_output):
        size, repeats = ctx.saved_tensors
        padded = [1] * (len(repeats) - len(size)) + list(size)
        apart = [count for pair in zip(repeats, padded, strict=True) for count in pair]
        return grad_output.reshape(apart).sum(list(range(0, len(apart), 2))).reshape(size)


@register("index_add")
class IndexAddGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, dim, index, tensor):
        ctx.save_multiple_for_backward((dim, index))
        return input.index_add(dim, index, tensor)

    @staticmethod
    def backward(ctx, grad_output):
        dim, index = ctx.saved_tensors
        return grad_output.clone(), grad_output.index_select(dim, index)


@register("scatter_add")
class ScatterAddGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, dim, index, other):
        ctx.save_multiple_for_backward((dim, index))
        return input.scatter_add(dim, index, other)

    @staticmethod
    def backward(ctx, grad_output):
        dim, index = ctx.saved_tensors
        return grad_output.clone(), grad_output.gather(dim, index)


def _recorded(name: str, stock: Any) -> Any:
    """Return a method that Python's syntax calls, and that records its gradient as a named call would."""

    def method(self, *arguments):
        if CrypTensor.AUTOGRAD_ENABLED and self.requires_grad:
            return self.__getattribute__(name)(*arguments)
        return stock(self, *arguments)

    method.mended = True
    return method


def split(self, split_size, dim=0):
    """Return the pieces of a tensor along an axis, of equal sizes but for the last, or of the stated sizes."""
    whole = self.size(dim)
    if isinstance(split_size, int):
        split_size = [min(split_size, whole - start) for start in range(0, whole, split_size)]
    starts = [sum(split_size[:i]) for i in range(len(split_size))]
    return tuple(self.narrow(dim, start, size) for start, size in zip(starts, split_size, strict=True))


def unbind(self, dim=0):
    """Return the slices of a tensor along an axis."""
    return tuple(self.narrow(dim, i, 1).squeeze(dim) for i in range(self.size(dim)))


def install(crypten: Any) -> None:
    """Replace what the table of this file names; a second call does nothing."""
    FUNCTION_REGISTRY.update(MENDED)
    tensor = crypten.mpc.MPCTensor
    if not getattr(tensor.__getitem__, "mended", False):
        tensor.__getitem__ = _recorded("__getitem__", tensor.__getitem__)
    tensor.split, tensor.unbind = split, unbind
