"""Gradients of the engine's functions in CrypTen's autograd, where CrypTen's formulas lose what the functions gain.

    z = x / y:       dx = g / y,    dy = -dx z                z = a / x:      dx = -(g / x) z,    da = g / x
    z = sqrt(x):     dx = g x^(-1/2) / 2                      z = x^p:        dx = g p x^(p - 1)
    z = -sum(y ln softmax(x)) / n:    dx = g (softmax(x) - y) / n                x (n, C), y one-hot

CrypTen's own divide by multiplying with a reciprocal of 16 fractional bits, take the root as x times its inverse, state
the gradient of x^p as e^(p (p - 1) ln x), and take the logarithm of probabilities. Where `function_choice` chooses
CrypTen's functions, all is CrypTen's own. Other gradients are made of the results, and need no change.
"""

from __future__ import annotations

import torch

from mpc_appraisal.mpc.crypten_programs.function_choice import chosen_engine
from mpc_appraisal.mpc.protocols import crypten_compat

crypten = crypten_compat.load()

from crypten.gradients import (  # noqa: E402
    FUNCTION_REGISTRY,
    AutogradCrossEntropy,
    AutogradDiv,
    AutogradPosPow,
    AutogradRDiv,
    AutogradSqrt,
    _inverse_broadcast,
)


class EngineDiv(AutogradDiv):
    """Division by a secret; by a public number it is CrypTen's own."""

    @staticmethod
    def forward(ctx, input, other):
        if not crypten.is_encrypted_tensor(other) or chosen_engine(input) is None:
            return AutogradDiv.forward(ctx, input, other)
        found = input.div(other)
        ctx.save_multiple_for_backward([input.size(), other, found])
        return found

    @staticmethod
    def backward(ctx, grad_output):
        if len(ctx.saved_tensors) == 2:
            return AutogradDiv.backward(ctx, grad_output)
        size, other, found = ctx.saved_tensors
        of_input = grad_output.div(other)
        of_other = of_input.mul(found).neg()
        return _inverse_broadcast(of_input, size), _inverse_broadcast(of_other, other.size())


class EngineRDiv(AutogradRDiv):
    """A public number, or another tensor, divided by a secret."""

    @staticmethod
    def forward(ctx, input, other):
        if chosen_engine(input) is None:
            return AutogradRDiv.forward(ctx, input, other)
        found = input.__rtruediv__(other)
        ctx.save_multiple_for_backward([input, other, found])
        return found

    @staticmethod
    def backward(ctx, grad_output):
        if len(ctx.saved_tensors) == 2:
            return AutogradRDiv.backward(ctx, grad_output)
        input, other, found = ctx.saved_tensors
        of_other = grad_output.div(input)
        of_input = _inverse_broadcast(of_other.mul(found).neg(), input.size())
        if not torch.is_tensor(other) and not crypten.is_encrypted_tensor(other):
            return of_input
        return of_input, _inverse_broadcast(of_other, other.size())


class EngineSqrt(AutogradSqrt):
    @staticmethod
    def forward(ctx, input):
        if chosen_engine(input) is None:
            return AutogradSqrt.forward(ctx, input)
        ctx.save_multiple_for_backward([input, "engine"])
        return input.sqrt()

    @staticmethod
    def backward(ctx, grad_output):
        if len(ctx.saved_tensors) == 1:
            return AutogradSqrt.backward(ctx, grad_output)
        return ctx.saved_tensors[0].inv_sqrt().div(2).mul(grad_output)


class EnginePosPow(AutogradPosPow):
    @staticmethod
    def backward(ctx, grad_output):
        saved, power = ctx.saved_tensors  # the logarithm of x for a power that is not whole
        if not isinstance(power, float) or power.is_integer() or chosen_engine(grad_output) is None:
            return AutogradPosPow.backward(ctx, grad_output)
        return saved.mul(power - 1.0).exp().mul(power).mul(grad_output)


class EngineCrossEntropy(AutogradCrossEntropy):
    @staticmethod
    def forward(ctx, pred, target, skip_forward=False):
        if skip_forward or chosen_engine(pred) is None:
            return AutogradCrossEntropy.forward(ctx, pred, target, skip_forward)
        assert pred.size() == target.size()
        log = pred.log_softmax(1 if pred.dim() > 1 else 0)
        ctx.save_multiple_for_backward([log.exp(), target])
        ctx.mark_non_differentiable(target)
        return log.mul(target).neg().sum().div(target.size(0))


def install() -> None:
    """Put the gradients above into CrypTen's autograd."""
    for kind in (EngineDiv, EngineRDiv, EngineSqrt, EnginePosPow, EngineCrossEntropy):
        FUNCTION_REGISTRY[kind.name] = kind
