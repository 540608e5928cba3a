"""Mends the autograd of CrypTen's tensors where it stops, is refused or is wrong.

A CrypTensor's functions are looked up by `CrypTensor.__getattribute__`, which records those that have a gradient
function. A function without one drops out of the graph without a word. `install` replaces the following, and
nothing else:

| in CrypTen | before | now |
|---|---|---|
| prod | refused, if a gradient is wanted | recorded |
| polynomial | its backward pass changes the caller's coefficients | they stay as they are |
| x ** 2 | TypeError | pow |
| sum, mean, var over several axes | refused in the backward pass | recorded |
| var(unbiased=...) | divides by n for True and by n - 1 for False | as in torch |
| norm over an axis, not kept | fails in the backward pass | recorded |
| conv1d, conv2d in groups of several channels | refused in the backward pass | recorded |
| conv_transpose1d, conv_transpose2d | the gradient is None | recorded |
| x > y and all comparisons | a gradient of -1 reaches x, so that x * (x > 0) has a wrong one | none, as in torch |

`index_gradients` mends what picks and moves elements, `pool_gradients` mends average pools, and `normalisation` mends
batch normalisation and erf. The replaced names are internals of CrypTen 0.4.1.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mpc_appraisal.mpc.protocols import crypten_compat

crypten = crypten_compat.load()

from crypten.common.util import _grad_input_padding  # noqa: E402
from crypten.gradients import (  # noqa: E402
    FUNCTION_REGISTRY,
    AutogradConv1D,
    AutogradConv2D,
    AutogradFunction,
    AutogradNorm,
    AutogradPolynomial,
)

CrypTensor = crypten.CrypTensor


def register(name: str):
    """Return a decorator that makes a class the gradient function of CrypTen's function `name`, in place of any."""

    def registered(function: type) -> type:
        function.name = name
        MENDED[name] = function
        return function

    return registered


MENDED: dict[str, type[AutogradFunction]] = {}


def axes_of(dims: int, dim: Any) -> list[int]:
    """Return an axis, several or None (all) as a sorted list of axes from 0 to dims - 1."""
    chosen = range(dims) if dim is None else [dim] if isinstance(dim, int) else dim
    return sorted(axis % dims for axis in chosen)


def spread(gradient: Any, size: torch.Size, dim: Any, keepdim: bool) -> Any:
    """Return the gradient of a sum over `dim`, copied to each element of a tensor of `size`."""
    if not keepdim:
        for axis in axes_of(len(size), dim):
            gradient = gradient.unsqueeze(axis)
    return gradient.expand(size).clone()  # Gradients are added up in place, which a view of one element forbids.


def _dim_and_keepdim(arguments: tuple, options: dict) -> tuple[Any, bool]:
    dim = arguments[0] if arguments else options.get("dim")
    return dim, bool(arguments[1] if len(arguments) > 1 else options.get("keepdim", False))


def _over_axes(name: str) -> Any:
    """Return the forward pass of CrypTen's function `name` over one axis, several or all."""

    def forward(ctx, input, *arguments, **options):
        dim, keepdim = _dim_and_keepdim(arguments, options)
        ctx.save_multiple_for_backward((input.size(), dim, keepdim and dim is not None))
        function = getattr(input, name)
        return function() if dim is None else function(dim, keepdim=keepdim)

    return staticmethod(forward)


@register("sum")
class SumGradient(AutogradFunction):
    forward = _over_axes("sum")

    @staticmethod
    def backward(ctx, grad_output):
        size, dim, keepdim = ctx.saved_tensors
        return spread(grad_output, size, dim, keepdim) if len(size) else grad_output


@register("mean")
class MeanGradient(AutogradFunction):
    forward = _over_axes("mean")

    @staticmethod
    def backward(ctx, grad_output):
        size, dim, keepdim = ctx.saved_tensors
        if not len(size):
            return grad_output
        count = math.prod(size[axis] for axis in axes_of(len(size), dim))
        return spread(grad_output.div(count), size, dim, keepdim)


def variance(self, dim=None, unbiased=True, keepdim=False):
    """Return the variance over one axis, several or all, divided by n - 1 if `unbiased` (the default) and else by n."""
    centred = self.sub(self.mean() if dim is None else self.mean(dim, keepdim=True))
    count = math.prod(self.size(axis) for axis in axes_of(self.dim(), dim)) - bool(unbiased)
    squares = centred.square()
    total = squares.sum() if dim is None else squares.sum(dim, keepdim=keepdim)
    return total if count in (0, 1) else total.div(count)


@register("var")
class VarianceGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, dim=None, unbiased=True, keepdim=False):
        centred = input.sub(input.mean() if dim is None else input.mean(dim, keepdim=True))
        count = math.prod(input.size(axis) for axis in axes_of(input.dim(), dim)) - bool(unbiased)
        ctx.save_multiple_for_backward((centred, count, dim, keepdim and dim is not None))
        return variance(input, dim, unbiased, keepdim)

    @staticmethod
    def backward(ctx, grad_output):
        centred, count, dim, keepdim = ctx.saved_tensors
        gradient = centred.mul(2).mul(spread(grad_output, centred.size(), dim, keepdim))
        return gradient if count in (0, 1) else gradient.div(count)


@register("polynomial")
class PolynomialGradient(AutogradPolynomial):
    @staticmethod
    def forward(ctx, input, coeffs, func="mul"):
        ctx.mark_non_differentiable(coeffs)  # The autograd asks for this very object, if it is secret.
        own = torch.tensor(coeffs) if isinstance(coeffs, (list, tuple)) else coeffs.clone()
        return AutogradPolynomial.forward(ctx, input, own, func)


@register("norm")
class NormGradient(AutogradNorm):
    @staticmethod
    def backward(ctx, grad_output):
        input, norm, p, dim, keepdim = ctx.saved_tensors
        if dim is not None and not keepdim:
            grad_output = grad_output.unsqueeze(dim)
            if p != float("inf"):  # For infinity, `norm` holds the one-hot place of the maximum.
                norm = norm.unsqueeze(dim)
            ctx.reset()
            ctx.save_multiple_for_backward((input, norm, p, dim, True))
        return AutogradNorm.backward(ctx, grad_output)


def kernel_gradient(input, gradient, kernel_size, stride, padding, dilation, groups):
    """Return the gradient of a convolution's kernel: a convolution of the input with the output's gradient.

    For each group, d w = conv(x^T, g^T) with rows and channels swapped, and with stride and dilation swapped.
    """
    name, channels, outputs = f"conv{len(kernel_size)}d", input.size(1) // groups, gradient.size(1) // groups
    parts = []
    for group in range(groups):
        x = input.narrow(1, group * channels, channels).transpose(0, 1)
        g = gradient.narrow(1, group * outputs, outputs).transpose(0, 1)
        part = getattr(x, name)(g, stride=dilation, padding=padding, dilation=stride).transpose(0, 1)
        for axis, size in enumerate(kernel_size, start=2):
            part = part.narrow(axis, 0, size)
        parts.append(part)
    return crypten.cat(parts)


def _grouped(stock: type[AutogradFunction]) -> type[AutogradFunction]:
    """Return the gradient function of a convolution with groups of several channels, too."""

    class ConvolutionGradient(stock):
        @staticmethod
        def backward(ctx, grad_output):
            input, kernel, padding, stride, dilation, groups = ctx.saved_tensors
            if groups == 1 or input.size(1) == groups:
                return stock.backward(ctx, grad_output)
            size = tuple(kernel.size()[2:])
            extra = _grad_input_padding(grad_output, input.size(), stride, padding, size, dilation=dilation)
            back = getattr(grad_output, f"conv_transpose{len(size)}d")
            options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            return (
                back(kernel, output_padding=extra, **options),
                kernel_gradient(input, grad_output, size, stride, padding, dilation, groups),
            )

    return ConvolutionGradient


register("conv1d")(_grouped(AutogradConv1D))
register("conv2d")(_grouped(AutogradConv2D))


def _transposed(count: int) -> type[AutogradFunction]:
    """Return the gradient function of a transposed convolution over `count` axes."""

    def each(value: Any) -> tuple[int, ...]:
        return (value,) * count if isinstance(value, int) else tuple(value)

    class TransposedConvolutionGradient(AutogradFunction):
        @staticmethod
        def forward(ctx, input, kernel, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
            options = {"stride": each(stride), "padding": each(padding), "dilation": each(dilation), "groups": groups}
            ctx.save_multiple_for_backward((input, kernel, options))
            transposed = getattr(input, f"conv_transpose{count}d")
            return transposed(kernel, output_padding=each(output_padding), **options)

        @staticmethod
        def backward(ctx, grad_output):
            input, kernel, options = ctx.saved_tensors
            input_gradient = getattr(grad_output, f"conv{count}d")(kernel, **options)
            for axis in range(2, input.dim()):
                input_gradient = input_gradient.narrow(axis, 0, input.size(axis))
            return input_gradient, kernel_gradient(grad_output, input, tuple(kernel.size()[2:]), **options)

    return TransposedConvolutionGradient


register("conv_transpose1d")(_transposed(1))
register("conv_transpose2d")(_transposed(2))


def _constant(stock: Any) -> Any:
    """Return a comparison whose result is a constant for the autograd."""
    if getattr(stock, "mended", False):
        return stock

    def method(self, *arguments):
        with CrypTensor.no_grad():
            return stock(self, *arguments)

    method.mended = True
    return method


def prod(self, dim=None, keepdim=False):
    """Return the product over an axis, or over all elements: halves are multiplied with one another."""
    result, axis = (self.flatten(), 0) if dim is None else (self, dim)
    while result.size(axis) > 1:
        half = result.size(axis) // 2
        product = result.narrow(axis, 0, half).mul(result.narrow(axis, half, half))
        rest = result.narrow(axis, 2 * half, result.size(axis) % 2)
        result = crypten.cat([product, rest], dim=axis) if rest.size(axis) else product
    return result if keepdim else result.squeeze(axis)


def install(crypten: Any) -> None:
    """Replace what the table of this file names; a second call does nothing."""
    FUNCTION_REGISTRY.update(MENDED)
    tensor = crypten.mpc.MPCTensor
    for name in ("_ltz", "_eqz_2PC", "eq", "ne"):
        setattr(tensor, name, _constant(getattr(tensor, name)))
    tensor.__pow__ = lambda self, power: self.pow(power)
    tensor.prod, tensor.var = prod, variance
