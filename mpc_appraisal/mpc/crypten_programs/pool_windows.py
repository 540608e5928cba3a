"""Where PyTorch places the windows of a pool over two axes: how far they reach beyond a tensor, and what they count.

Public sizes go in; public widths and fractions come out. The pools of ONNX (`layer_operators`) and those of CrypTen's
tensors (`pool_gradients`) use them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def widths_of(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> list[list[int]]:
    """Return [before, after] for both axes: the padding that is stated, and what the last window of ceil_mode adds.

    Args:
        size, kernel, stride, dilation: Of both axes.
        pads: The padding before both axes, and then after both.
        ceil_mode: Whether a last window may reach beyond the padding, as in PyTorch.
    """
    widths = []
    for axis in range(2):
        before, after = pads[axis], pads[axis + 2]
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        spare = (size[axis] + before + after - reach) % stride[axis]
        more = stride[axis] - spare if ceil_mode and spare else 0
        steps = (size[axis] + before + after + more - reach) // stride[axis]
        if more and steps * stride[axis] >= size[axis] + before:
            more = 0  # PyTorch leaves out a window that would begin in the padding.
        widths.append([before, after + more])
    return widths


def counted_part(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    widths: Sequence[Sequence[int]],
    counts_padding: bool,
) -> torch.Tensor:
    """Return the part of each window that its mean counts, float32 of the output's size over both axes, above 0 to 1.

    Args:
        size, kernel, stride, pads: As for `widths_of`.
        widths: What `widths_of` has returned.
        counts_padding: Whether the padding that is stated counts; what ceil_mode adds never does.
    """
    counted = torch.ones(1, 1, *size)
    if counts_padding:
        counted = functional.pad(counted, (pads[1], pads[3], pads[0], pads[2]), value=1.0)
        rest = [[0, widths[axis][1] - pads[axis + 2]] for axis in range(2)]
    else:
        rest = widths
    counted = functional.pad(counted, (*rest[1], *rest[0]))
    return functional.avg_pool2d(counted, tuple(kernel), tuple(stride))
