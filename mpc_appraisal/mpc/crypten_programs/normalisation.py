"""Normalisation and erf on CrypTen's tensors, with gradients; `install` replaces what the table names.

| in CrypTen | before | now |
|---|---|---|
| batchnorm | off by 40 % for a variance of 0.01; its running variance is the biased one | as torch's |
| inv_sqrt | no gradient | -1/2 y^3 |
| erf | Taylor's series, which is wrong by 3.8 at 2.5 and by 103 at 3 | Chebyshev's series, within 1.5e-4 |
| standardized | not there | (x - mean) / sqrt(variance + epsilon) over any axes |

CrypTen finds 1 / sqrt(v) by Newton's iteration y <- y (3 - v y^2) / 2 from a start near 2 for small v. A step
multiplies what is too small by 1.5 at best, so that three steps, which are CrypTen's default, serve for v from 0.1 to
150. Normalisation takes at least STEPS, with which the relative error is below 1e-3 for v from 0.003 to 190.
`cfg.functions.sqrt_nr_iters` above STEPS is obeyed.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mpc_appraisal.mpc.crypten_programs.gradients import MENDED, axes_of, register
from mpc_appraisal.mpc.protocols import crypten_compat

crypten = crypten_compat.load()

from crypten.gradients import FUNCTION_REGISTRY, AutogradFunction  # noqa: E402

STEPS = 8
REACH, DEGREE = 3.0, 16  # erf is its series within -3 and 3, and 1 - 2.2e-5 beyond


def inverse_deviation(variance: Any, epsilon: float) -> Any:
    """Return 1 / sqrt(variance + epsilon), of a plain or a secret variance."""
    if torch.is_tensor(variance):
        return torch.rsqrt(variance + epsilon)
    steps = max(STEPS, crypten.cfg.functions.sqrt_nr_iters)
    with crypten.cfg.temp_override({"functions.sqrt_nr_iters": steps}):
        return variance.add(epsilon).inv_sqrt()


def standardize(x: Any, axes: list[int], epsilon: float) -> tuple[Any, Any, Any, Any]:
    """Return the standardized tensor, the inverse deviation, the mean and the variance (divided by n) over `axes`."""
    mean = x.mean(axes, keepdim=True)
    centred = x.sub(mean)
    variance = centred.square().mean(axes, keepdim=True)
    inverse = inverse_deviation(variance, epsilon)
    return centred.mul(inverse), inverse, mean, variance


def standardize_gradient(gradient: Any, normal: Any, inverse: Any, axes: list[int]) -> Any:
    """Return inverse (g - mean(g) - normal mean(g normal)), means over `axes`, for a gradient g of `normal`."""
    slope = gradient.mul(normal).mean(axes, keepdim=True)
    return gradient.sub(gradient.mean(axes, keepdim=True)).sub(normal.mul(slope)).mul(inverse)


@register("standardized")
class StandardizedGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input, dim, epsilon=1e-5):
        axes = axes_of(input.dim(), dim)
        normal, inverse, _, _ = standardize(input, axes, epsilon)
        ctx.save_multiple_for_backward((normal, inverse, axes))
        return normal

    @staticmethod
    def backward(ctx, grad_output):
        normal, inverse, axes = ctx.saved_tensors
        return standardize_gradient(grad_output, normal, inverse, axes)


@register("batchnorm")
class BatchNormGradient(AutogradFunction):
    """Batch normalisation of (N, C, ...): running statistics change in training, by the variance over n - 1."""

    @staticmethod
    def forward(
        ctx,
        x,
        weight,
        bias,
        running_mean=None,
        running_var=None,
        training=False,
        eps=1e-05,
        momentum=0.1,
        inv_var=None,
    ):
        axes, shape = [axis for axis in range(x.dim()) if axis != 1], [1, -1, *[1] * (x.dim() - 2)]
        if training:
            normal, inverse, mean, variance = standardize(x, axes, eps)
            if running_mean is not None and running_var is not None:
                count = x.nelement() // x.size(1)
                variance = variance.reshape(-1).mul(momentum * count / max(count - 1, 1))
                running_var.set(running_var.mul(1.0 - momentum).add(variance))
                running_mean.set(running_mean.mul(1.0 - momentum).add(mean.reshape(-1).mul(momentum)))
        else:
            if running_mean is None or running_var is None:
                raise ValueError("Must provide running_mean and running_var when training is False")
            inverse = (inverse_deviation(running_var, eps) if inv_var is None else inv_var).reshape(shape)
            normal = x.sub(running_mean.reshape(shape)).mul(inverse)
        ctx.save_multiple_for_backward((normal, weight, inverse, training))
        return normal.mul(weight.reshape(shape)).add(bias.reshape(shape))

    @staticmethod
    def backward(ctx, grad_output):
        normal, weight, inverse, training = ctx.saved_tensors
        axes = [axis for axis in range(grad_output.dim()) if axis != 1]
        weight_gradient, bias_gradient = grad_output.mul(normal).sum(axes), grad_output.sum(axes)
        gradient = grad_output.mul(weight.reshape([1, -1, *[1] * (grad_output.dim() - 2)]))
        if training:
            return standardize_gradient(gradient, normal, inverse, axes), weight_gradient, bias_gradient
        return gradient.mul(inverse), weight_gradient, bias_gradient


@register("inv_sqrt")
class InverseRootGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input):
        root = input.inv_sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, grad_output):
        (root,) = ctx.saved_tensors
        return root.square().mul(root).mul(grad_output).div(-2)


def odd_series(function: Any, reach: float, degree: int) -> torch.Tensor:
    """Return c_1, c_3, ... so that function(reach t) = sum c_k T_k(t), interpolated at Chebyshev's points."""
    angles = (torch.arange(degree, dtype=torch.float64) + 0.5) * (math.pi / degree)
    values = function(reach * torch.cos(angles))
    return torch.stack([2 / degree * (values * torch.cos(k * angles)).sum() for k in range(1, degree, 2)])


ERF = odd_series(torch.erf, REACH, DEGREE)


def _series(t: Any) -> Any:
    """Return sum c_k T_k(t) of erf's odd Chebyshev polynomials, four products deep.

    With T_n for n a power of two, T_(n + j) = 2 T_n T_j - T_(n - j) gives as many odd ones again, and T_2n follows.
    """
    odd, even = t.unsqueeze(0), t.square().mul(2).sub(1)
    while odd.size(0) < len(ERF):
        further = odd.mul(even).mul(2).sub(odd.flip(0))
        odd = crypten.cat([odd, further])
        if odd.size(0) < len(ERF):
            even = even.square().mul(2).sub(1)
    return odd.mul(ERF.float().reshape(-1, *[1] * t.dim())).sum(0)


def erf(self):
    """Return erf of a tensor within 1.5e-4: two comparisons, which bound it, and a series of degree 15."""
    with crypten.no_grad():
        return _series(self.hardtanh(-REACH, REACH).div(REACH))


@register("erf")
class ErfGradient(AutogradFunction):
    @staticmethod
    def forward(ctx, input):
        bounded = input.hardtanh(-REACH, REACH)
        ctx.save_for_backward(bounded)
        return _series(bounded.div(REACH))

    @staticmethod
    def backward(ctx, grad_output):
        (bounded,) = ctx.saved_tensors
        return grad_output.mul(bounded.square().neg().exp().mul(2 / math.sqrt(math.pi)))


def install(crypten: Any) -> None:
    """Replace what the table of this file names; a second call does nothing."""
    FUNCTION_REGISTRY.update(MENDED)
    crypten.mpc.MPCTensor.erf = erf
