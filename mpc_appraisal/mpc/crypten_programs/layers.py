"""CrypTen's own modules (`crypten.nn`) on plain tensors, and those that it lacks.

A CrypTen program may build its model of `crypten.nn` modules, and run it before it is encrypted. `install` replaces
the following, and nothing else:

| in CrypTen | before | now |
|---|---|---|
| Conv1d, Conv2d, pools, BatchNorm, Dropout, Hardtanh, padding | AttributeError on a plain tensor | computed |
| BCELoss, BCEWithLogitsLoss, CrossEntropyLoss | AttributeError on plain tensors | computed |
| AvgPool2d with ceil_mode, and adaptive pools of other sizes | refused | as PyTorch's |
| a BatchNorm that is encrypted in evaluation | each party's own variance, so that shares do not fit | the source's |
| crypten.cat of plain tensors | along the first axis, whatever `dim` says | along `dim` |
| GroupNorm | refused | computed |
| Identity, Tanh, GELU, LeakyReLU, SiLU, LayerNorm | not there | as PyTorch's |
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from mpc_appraisal.mpc.crypten_programs import activation_operators as activations
from mpc_appraisal.mpc.crypten_programs import layer_operators as layers
from mpc_appraisal.mpc.crypten_programs.normalisation import inverse_deviation
from mpc_appraisal.mpc.crypten_programs.operators import crypten, is_secret
from mpc_appraisal.mpc.crypten_programs.shape_operators import padded

cnn = crypten.nn


def pair(value: Any) -> list[int]:
    """Return one number for both axes, or two, as a list of two."""
    return [value, value] if isinstance(value, int) else list(value)


def conv1d_forward(self, x):
    options = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
    return layers.with_bias(layers.convolution("conv1d", x, self.weight, options), getattr(self, "bias", None))


def conv2d_forward(self, x):
    options = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
    return layers.with_bias(layers.convolution("conv2d", x, self.weight, options), getattr(self, "bias", None))


def pool2d_forward(self, x):
    kernel, padding = pair(self.kernel_size), pair(self.padding)
    options = {
        "kernel_shape": kernel,
        "strides": kernel if self.stride is None else pair(self.stride),
        "pads": padding * 2,
        "ceil_mode": int(self.ceil_mode),
        "count_include_pad": 1,
    }
    return (layers.AveragePool if self.pool_type == "average" else layers.MaxPool)(**options).compute(x)


def adaptive_average_forward(self, input_tensor, output_size=None):
    return layers.AdaptiveAveragePool(output_size=_output_size(self, output_size)).compute(input_tensor)


def adaptive_maximum_forward(self, input_tensor, output_size=None):
    return layers.AdaptiveMaxPool(output_size=_output_size(self, output_size)).compute(input_tensor)


def _output_size(module: Any, output_size: Any) -> list[int]:
    output_size = module.output_size if output_size is None else output_size
    assert output_size is not None, "the pool requires an output_size"
    return [size or 0 for size in (pair(output_size))]


def batchnorm_forward(self, x):
    if not is_secret(x) and not is_secret(self.weight):
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
    return x.batchnorm(
        self.weight,
        self.bias,
        running_mean=self.running_mean,
        running_var=self.running_var,
        training=self.training,
        eps=self.eps,
        momentum=self.momentum,
        inv_var=None if self.training else self.inv_var,
    )


def batchnorm_train(self, mode=True):
    """Set the mode; in evaluation keep 1 / sqrt(variance + epsilon), which the source has encrypted with the rest."""
    cnn.Module.train(self, mode)
    self.inv_var = None if mode else inverse_deviation(self.running_var, self.eps)
    return self


def batchnorm_encrypt(self, mode=True, src=0):
    """Encrypt as any module; a deviation that is kept is computed by the source in the clear, and then encrypted."""
    if mode == self.encrypted:
        return self
    kept = inverse_deviation(self.running_var, self.eps) if mode and not self.training else None
    cnn.Module.encrypt(self, mode, src)
    if not self.training:
        self.inv_var = crypten.cryptensor(kept, src=src) if mode else inverse_deviation(self.running_var, self.eps)
    return self


def dropout_forward(self, x):
    return x.dropout(p=self.p, training=self.training) if is_secret(x) else functional.dropout(x, self.p, self.training)


def channel_dropout_forward(self, x):
    if is_secret(x):
        return x._feature_dropout(p=self.p, training=self.training)
    return torch.feature_dropout(x, self.p, self.training)


def hardtanh_forward(self, x):
    if isinstance(x, list):  # A tensor and its bounds, as CrypTen's converter hands them on.
        return activations.Clip().compute(*x)
    return activations.Clip(min=float(self.min_val), max=float(self.max_val)).compute(x)


def constant_pad_forward(self, x):
    widths = list(self.padding)
    both = [[widths[i], widths[i + 1]] for i in range(0, len(widths), 2)][::-1]
    return padded(x, [*[[0, 0]] * (x.dim() - len(both)), *both], self.value)


def mean_pool_forward(self, x):
    return layers.GlobalAveragePool().compute(x)


def bce_forward(self, x, y):
    assert x.size() == y.size(), "input and target must have the same size"
    secret = is_secret(x) or is_secret(y)
    return (
        x.binary_cross_entropy(y, skip_forward=self.skip_forward) if secret else functional.binary_cross_entropy(x, y)
    )


def bce_with_logits_forward(self, x, y):
    assert x.size() == y.size(), "input and target must have the same size"
    if is_secret(x) or is_secret(y):
        return x.binary_cross_entropy_with_logits(y, skip_forward=self.skip_forward)
    return functional.binary_cross_entropy_with_logits(x, y)


def cross_entropy_forward(self, x, y):
    """Return the mean cross-entropy of logits (n, classes) and one-hot targets of the same shape."""
    if x.dim() != 2:
        x, y = x.squeeze(), y.squeeze()
    assert x.size() == y.size(), "input and target must have the same size"
    if is_secret(x) or is_secret(y):
        return x.cross_entropy(y, skip_forward=self.skip_forward)
    return functional.cross_entropy(x, y)


class Identity(cnn.Module):
    def __init__(self, *arguments: Any, **options: Any):
        super().__init__()

    def forward(self, x):
        return x


class Tanh(cnn.Module):
    def forward(self, x):
        return x.tanh()


class GELU(cnn.Module):
    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, x):
        return activations.Gelu(approximate=self.approximate).compute(x)


class LeakyReLU(cnn.Module):
    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x):
        return activations.LeakyRelu(alpha=self.negative_slope).compute(x)


class SiLU(cnn.Module):
    def forward(self, x):
        return x.mul(x.sigmoid())


class LayerNorm(cnn.Module):
    """Layer normalisation over the last axes; weight and bias have their shape, as PyTorch's."""

    def __init__(self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True):
        super().__init__()
        self.shape = [normalized_shape] if isinstance(normalized_shape, int) else list(normalized_shape)
        self.eps = eps
        self.register_parameter("weight", torch.ones(self.shape), requires_grad=elementwise_affine)
        self.register_parameter("bias", torch.zeros(self.shape), requires_grad=elementwise_affine)

    def forward(self, x):
        return layers.LayerNormalization(axis=-len(self.shape), epsilon=self.eps).compute(x, self.weight, self.bias)


class GroupNorm(cnn.Module):
    """Normalisation over groups of channels; weight and bias are a number a channel, as PyTorch's."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.register_parameter("weight", torch.ones(num_channels), requires_grad=affine)
        self.register_parameter("bias", torch.zeros(num_channels), requires_grad=affine)

    def forward(self, x):
        normal = layers.GroupNormalization(num_groups=self.num_groups, epsilon=self.eps)
        return normal.compute(x, self.weight, self.bias)


FORWARDS = {
    "Conv1d": conv1d_forward,
    "Conv2d": conv2d_forward,
    "_Pool2d": pool2d_forward,
    "AdaptiveAvgPool2d": adaptive_average_forward,
    "AdaptiveMaxPool2d": adaptive_maximum_forward,
    "_BatchNorm": batchnorm_forward,
    "Dropout": dropout_forward,
    "DropoutNd": channel_dropout_forward,
    "Hardtanh": hardtanh_forward,
    "GlobalAveragePool": mean_pool_forward,
    "BCELoss": bce_forward,
    "BCEWithLogitsLoss": bce_with_logits_forward,
    "CrossEntropyLoss": cross_entropy_forward,
}
ADDED = (Identity, Tanh, GELU, LeakyReLU, SiLU, LayerNorm, GroupNorm)


def _joined(stock: Any) -> Any:
    """Return `crypten.cat` that takes plain tensors along the stated axis."""

    def cat(tensors, dim=0):
        """Return CrypTensors, or plain tensors, joined along the axis `dim`."""
        return torch.cat(tensors, dim) if all(torch.is_tensor(one) for one in tensors) else stock(tensors, dim)

    cat.mended = True
    return cat


def install(crypten: Any) -> None:
    """Replace what the table of this file names; a second call does nothing."""
    modules = crypten.nn.module
    for name, forward in FORWARDS.items():
        kind = getattr(modules, name, None) or getattr(crypten.nn, name)
        kind.forward = forward
    for name in ("ConstantPad1d", "ConstantPad2d", "ConstantPad3d"):
        getattr(modules, name).forward = constant_pad_forward
    modules._BatchNorm.train, modules._BatchNorm.encrypt = batchnorm_train, batchnorm_encrypt
    crypten.cat = crypten.cat if getattr(crypten.cat, "mended", False) else _joined(crypten.cat)
    for kind in ADDED:
        setattr(crypten.nn, kind.__name__, kind)
        setattr(modules, kind.__name__, kind)
