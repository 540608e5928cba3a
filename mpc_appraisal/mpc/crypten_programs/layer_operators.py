"""Layers of ONNX (convolution, pooling, normalisation, dropout) as modules of CrypTen; see `operators`.

CrypTen computes convolutions in one and two dimensions and pools over two. Asymmetric padding is done beforehand, and
a divisor of a mean that differs from place to place is a public tensor.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch.nn import functional

from mpc_appraisal.mpc.crypten_programs.normalisation import inverse_deviation
from mpc_appraisal.mpc.crypten_programs.operators import (
    Add,
    MatMul,
    Mul,
    Operator,
    as_secret,
    crypten,
    integers,
    is_secret,
)
from mpc_appraisal.mpc.crypten_programs.pool_windows import counted_part, widths_of
from mpc_appraisal.mpc.crypten_programs.shape_operators import padded


def _no_volumes(attributes: dict, auto_pads: tuple[bytes, ...] = (b"NOTSET", b"VALID")) -> str | None:
    dimensions = len(attributes.get("kernel_shape", ()))
    if attributes.get("auto_pad", b"NOTSET") not in auto_pads:
        return f"its auto_pad is {attributes['auto_pad']!r}, and the padding has to be stated"
    return f"it works in {dimensions} dimensions, and CrypTen in one or two" if dimensions > 2 else None


class Conv(Operator):
    defaults = {"strides": None, "pads": None, "dilations": None, "group": 1}

    @classmethod
    def refusal(cls, attributes):
        return _no_volumes(attributes, (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER"))

    def _pads(self, x, weight) -> tuple[list[int], list[int]]:
        """Return the padding before and after each axis, as stated or so that the size is kept."""
        count, kind = weight.dim() - 2, self.attributes.get("auto_pad", b"NOTSET")
        if kind not in (b"SAME_UPPER", b"SAME_LOWER"):
            pads = list(self.attributes["pads"] or [0] * (2 * count))
            return pads[:count], pads[count:]
        low, high = [], []
        for axis in range(count):
            step = (self.attributes["strides"] or [1] * count)[axis]
            reach = (self.attributes["dilations"] or [1] * count)[axis] * (weight.size(axis + 2) - 1) + 1
            size = x.size(axis + 2)
            total = max((-(-size // step) - 1) * step + reach - size, 0)
            low.append(total // 2)
            high.append(total - total // 2)
        return (low, high) if kind == b"SAME_UPPER" else (high, low)

    def compute(self, x, weight, bias=None):
        count = weight.dim() - 2
        before, after = self._pads(x, weight)
        if before != after:
            x = padded(x, [[0, 0], [0, 0], *zip(before, after, strict=True)])
            before = [0] * count
        options = {
            "stride": tuple(self.attributes["strides"] or [1] * count),
            "padding": tuple(before),
            "dilation": tuple(self.attributes["dilations"] or [1] * count),
            "groups": self.attributes["group"],
        }
        return with_bias(convolution(f"conv{count}d", x, weight, options), bias)


class ConvTranspose(Operator):
    defaults = {"strides": None, "pads": None, "dilations": None, "group": 1, "output_padding": None}

    @classmethod
    def refusal(cls, attributes):
        if "output_shape" in attributes:
            return "it states an output_shape, and the padding has to be stated in its place"
        return _no_volumes(attributes)

    def compute(self, x, weight, bias=None):
        count = weight.dim() - 2
        pads = list(self.attributes["pads"] or [0] * (2 * count))
        before, after = pads[:count], pads[count:]
        extra = list(self.attributes["output_padding"] or [0] * count)
        options = {
            "stride": tuple(self.attributes["strides"] or [1] * count),
            "padding": tuple(before),
            "output_padding": tuple(extra),
            "dilation": tuple(self.attributes["dilations"] or [1] * count),
            "groups": self.attributes["group"],
        }
        y = convolution(f"conv_transpose{count}d", x, weight, options)
        cut = [[0, low - high] for low, high in zip(before, after, strict=True)]
        return with_bias(padded(y, [[0, 0], [0, 0], *cut]), bias)


def convolution(name: str, x, weight, options: dict):
    """Return torch's function `name` of x and weight, each of which may be secret."""
    if is_secret(x) or is_secret(weight):
        return getattr(as_secret(x), name)(weight, **options)
    return getattr(functional, name)(x, weight, None, **options)


def with_bias(y, bias):
    """Return y plus a bias for each channel, or y if there is no bias."""
    return y if bias is None else Add().compute(y, bias.reshape(1, -1, *[1] * (y.dim() - 2)))


class _Pool(Operator):
    """The base of pooling over windows in one or two dimensions; one dimension is a picture of height one."""

    defaults = {"strides": None, "pads": None, "dilations": None, "ceil_mode": 0, "count_include_pad": 0}

    @classmethod
    def refusal(cls, attributes):
        return _no_volumes(attributes)

    def compute(self, x):
        given, count = self.attributes, len(self.attributes["kernel_shape"])
        kernel, stride = list(given["kernel_shape"]), list(given["strides"] or [1] * count)
        pads, dilation = list(given["pads"] or [0] * (2 * count)), list(given["dilations"] or [1] * count)
        if count == 1:
            kernel, stride, pads, dilation = [1, *kernel], [1, *stride], [0, pads[0], 0, pads[1]], [1, *dilation]
            return self.pooled(x.unsqueeze(2), kernel, stride, pads, dilation).squeeze(2)
        return self.pooled(x, kernel, stride, pads, dilation)

    @abstractmethod
    def pooled(self, x, kernel: list[int], stride: list[int], pads: list[int], dilation: list[int]):
        """Return x pooled over its last two axes; `pads` are those before both axes, and then those after both."""

    def _widths(self, x, *place) -> list[list[int]]:
        return widths_of(x.size()[2:], *place, bool(self.attributes["ceil_mode"]))


class AveragePool(_Pool):
    def pooled(self, x, kernel, stride, pads, dilation):
        widths = self._widths(x, kernel, stride, pads, dilation)
        counts = bool(self.attributes["count_include_pad"])
        share = counted_part(x.size()[2:], kernel, stride, pads, widths, counts)
        x = padded(x, [[0, 0], [0, 0], *widths])
        if not is_secret(x):
            return functional.avg_pool2d(x, kernel, stride) / share.to(x.dtype)
        mean = x.avg_pool2d(tuple(kernel), stride=tuple(stride))
        return mean if bool((share == 1).all()) else mean.mul(share.reciprocal())


class MaxPool(_Pool):
    def pooled(self, x, kernel, stride, pads, dilation):
        widths = self._widths(x, kernel, stride, pads, dilation)
        even = all(before == after for before, after in widths) and widths[0] == widths[1]
        if not is_secret(x):
            x = padded(x, [[0, 0], [0, 0], *widths], float("-inf"))
            return functional.max_pool2d(x, kernel, stride, 0, dilation)
        padding = widths[0][0] if even else 0
        if not even:
            x = padded(x, [[0, 0], [0, 0], *widths], -(2.0**24))  # CrypTen pads with this number, too.
        options = {"stride": tuple(stride), "padding": (padding, padding), "dilation": tuple(dilation)}
        return x.max_pool2d(tuple(kernel), **options)


class GlobalAveragePool(Operator):
    def compute(self, x):
        axes = list(range(2, x.dim()))
        return x.sum(axes, keepdim=True).div(x[:1, :1].nelement())


class GlobalMaxPool(Operator):
    def compute(self, x):
        return x.flatten(2).max(2)[0].reshape(*x.size()[:2], *[1] * (x.dim() - 2))


def windows(size: int, parts: int) -> list[range]:
    """Return PyTorch's windows of an adaptive pool: part i goes from floor(i n / parts) to ceil((i + 1) n / parts)."""
    return [range(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]


class AdaptiveAveragePool(Operator):
    """A mean over windows of different sizes, as a product with a public matrix for each axis."""

    other_names = ("adaptive_avg_pool1d", "adaptive_avg_pool2d")

    def compute(self, x):
        parts = [n or x.size(i + 2) for i, n in enumerate(integers(self.attributes["output_size"]))]
        for axis, count in enumerate(parts, start=2):
            matrix = torch.zeros(x.size(axis), count, dtype=torch.float32 if is_secret(x) else x.dtype)
            for column, window in enumerate(windows(x.size(axis), count)):
                matrix[list(window), column] = 1 / len(window)
            x = MatMul().compute(x.transpose(axis, -1), matrix).transpose(axis, -1)
        return x


class AdaptiveMaxPool(Operator):
    """The greatest element of windows; a shorter window takes its last element twice, which changes nothing."""

    other_names = ("adaptive_max_pool1d", "adaptive_max_pool2d")

    def compute(self, x):
        for axis, count in enumerate(integers(self.attributes["output_size"]), start=2):
            parts = windows(x.size(axis), count or x.size(axis))
            longest = max(len(part) for part in parts)
            picked = torch.tensor([[part[min(i, len(part) - 1)] for i in range(longest)] for part in parts])
            sizes = [*x.size()[:axis], len(parts), longest, *x.size()[axis + 1 :]]
            x = x.index_select(axis, picked.reshape(-1)).reshape(sizes).max(axis + 1)[0]
        return x


class BatchNormalization(Operator):
    """Batch normalisation with its running statistics as inputs, which training changes in place.

    In evaluation, 1 / sqrt(variance + epsilon) is computed once and kept until the variance changes.
    """

    defaults = {"epsilon": 1e-5, "momentum": 0.9}

    def __init__(self, **attributes):
        super().__init__(**attributes)
        self._known = (None, -1, None)  # the share of the variance, its version, and the inverse deviation

    def compute(self, x, weight, bias, mean, variance):
        options = {"training": self.training, "eps": self.attributes["epsilon"]}
        momentum = 1 - self.attributes["momentum"]
        if not any(is_secret(value) for value in (x, weight, bias, mean, variance)):
            return functional.batch_norm(x, mean, variance, weight, bias, momentum=momentum, **options)
        inverse = None if self.training else self._inverse_deviation(variance)
        options |= {"running_mean": mean, "running_var": variance, "momentum": momentum, "inv_var": inverse}
        return as_secret(x).batchnorm(weight, bias, **options)

    def _inverse_deviation(self, variance):
        if not is_secret(variance):
            return inverse_deviation(variance, self.attributes["epsilon"])
        share = variance.share
        if self._known[0] is not share or self._known[1] != share._version:
            with crypten.no_grad():
                inverse = inverse_deviation(variance, self.attributes["epsilon"])
            self._known = (share, share._version, inverse)
        return self._known[2]


def normalised(x, axes: list[int], epsilon: float):
    """Return (x - mean) / sqrt(variance + epsilon) over `axes`."""
    if is_secret(x):
        return x.standardized(axes, epsilon)
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + epsilon)


class LayerNormalization(Operator):
    defaults = {"axis": -1, "epsilon": 1e-5}

    def compute(self, x, scale=None, bias=None):
        first = self.attributes["axis"] % x.dim()
        y = normalised(x, list(range(first, x.dim())), self.attributes["epsilon"])
        y = y if scale is None else Mul().compute(y, scale)
        return y if bias is None else Add().compute(y, bias)


class InstanceNormalization(Operator):
    defaults = {"epsilon": 1e-5}

    def compute(self, x, scale, bias):
        y = normalised(x, list(range(2, x.dim())), self.attributes["epsilon"])
        return with_bias(Mul().compute(y, scale.reshape(1, -1, *[1] * (x.dim() - 2))), bias)


class GroupNormalization(Operator):
    """Normalisation over groups of channels; scale and bias are one number a channel."""

    defaults = {"epsilon": 1e-5}

    def compute(self, x, scale=None, bias=None):
        groups, size = self.attributes["num_groups"], list(x.size())
        grouped = x.reshape(size[0], groups, -1)
        y = normalised(grouped, [2], self.attributes["epsilon"]).reshape(size)
        y = y if scale is None else Mul().compute(y, scale.reshape(1, -1, *[1] * (x.dim() - 2)))
        return with_bias(y, bias)


class Dropout(Operator):
    """Zeros for a random part of the elements in training, and the identity in evaluation."""

    defaults = {"ratio": 0.5}

    def compute(self, x, ratio=None, training_mode=None):
        ratio = self.attributes["ratio"] if ratio is None else ratio.item()
        if not is_secret(x):
            return functional.dropout(x, ratio, self.training)
        return x.dropout(p=ratio, training=self.training)


class DropoutNd(Operator):
    """Zeros for a random part of the channels in training, and the identity in evaluation."""

    defaults = {"ratio": 0.5}

    def compute(self, x):
        if not is_secret(x):
            return torch.feature_dropout(x, self.attributes["ratio"], self.training)
        return x._feature_dropout(p=self.attributes["ratio"], training=self.training)
