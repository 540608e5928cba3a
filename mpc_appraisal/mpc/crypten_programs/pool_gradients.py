"""Mends the average pool of CrypTen's tensors, with and without a gradient, for windows that reach beyond the padding.

    y = pool(x, padded as far as the last window reaches) / part        part: how much of each window counts, public

| in CrypTen | before | now |
|---|---|---|
| avg_pool2d with ceil_mode | refused; left out without a word, if a gradient is wanted | as PyTorch's |

A mean counts the padding that is stated and not what ceil_mode adds, as in torch.nn.functional.avg_pool2d.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.mpc.crypten_programs.gradients import MENDED, register
from mpc_appraisal.mpc.crypten_programs.pool_windows import counted_part, widths_of
from mpc_appraisal.mpc.crypten_programs.shape_operators import padded
from mpc_appraisal.mpc.protocols import crypten_compat

crypten = crypten_compat.load()

from crypten.gradients import FUNCTION_REGISTRY, AutogradAvgPool2D  # noqa: E402


def _both(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


class _Windows:
    """Where the windows of a pool with ceil_mode lie, for a tensor of a given size."""

    def __init__(self, size: Any, kernel_size: Any, stride: Any, padding: Any):
        self.kernel, pads = _both(kernel_size), _both(padding) * 2
        self.stride = self.kernel if stride is None else _both(stride)
        widths = widths_of(size[-2:], self.kernel, self.stride, pads, (1, 1), True)
        self.widths = [[0, 0]] * (len(size) - 2) + widths
        self.part = counted_part(size[-2:], self.kernel, self.stride, pads, widths, True)[0, 0]


@register("avg_pool2d")
class AveragePoolGradient(AutogradAvgPool2D):
    @staticmethod
    def forward(ctx, input, kernel_size, stride=None, padding=0, ceil_mode=False):
        if not ceil_mode:
            return AutogradAvgPool2D.forward(ctx, input, kernel_size, stride=stride, padding=padding)
        windows = _Windows(input.size(), kernel_size, stride, padding)
        whole = padded(input, windows.widths)
        output = whole.avg_pool2d(windows.kernel, stride=windows.stride)
        of_whole = (whole.size(), output, windows.kernel, (0, 0), windows.stride)
        ctx.save_multiple_for_backward((*of_whole, windows))
        return output.mul(windows.part.reciprocal())

    @staticmethod
    def backward(ctx, grad_output):
        *of_whole, last = ctx.saved_tensors
        if not isinstance(last, _Windows):
            return AutogradAvgPool2D.backward(ctx, grad_output)
        ctx.reset()
        ctx.save_multiple_for_backward(of_whole)
        found = AutogradAvgPool2D.backward(ctx, grad_output.mul(last.part.reciprocal()))
        return padded(found, [[-before, -after] for before, after in last.widths])


def _with_ceil_mode(stock: Any) -> Any:
    """Return the tensor's own average pool, `stock`, with the windows of ceil_mode."""

    def avg_pool2d(self, kernel_size, stride=None, padding=0, ceil_mode=False):
        if not ceil_mode:
            return stock(self, kernel_size, stride=stride, padding=padding)
        windows = _Windows(self.size(), kernel_size, stride, padding)
        mean = stock(padded(self, windows.widths), windows.kernel, stride=windows.stride)
        return mean.mul(windows.part.reciprocal())

    avg_pool2d.mended = True
    return avg_pool2d


def install(crypten: Any) -> None:
    """Replace what the table of this file names; a second call does nothing."""
    FUNCTION_REGISTRY.update(MENDED)
    tensor = crypten.mpc.MPCTensor
    if not getattr(tensor.avg_pool2d, "mended", False):
        tensor.avg_pool2d = _with_ceil_mode(tensor.avg_pool2d)
