"""A tensor's shape without its values, for dry runs.

torch's own meta tensors take a tenth of a millisecond for an elementwise operation on integers, which is as long as the
operation itself on real numbers. A `Sketch` is a meta tensor that answers the elementwise operations at once: their
result has the broadcast shape. All other operations go to torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

ELEMENTWISE = {
    "add", "sub", "mul", "div", "neg", "rsub", "abs", "floor", "round", "bitwise_and", "contiguous", "full_like",
    "zeros_like", "empty_like", "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__isub__", "__mul__",
    "__rmul__", "__imul__", "__neg__", "__abs__", "__and__", "__rand__", "__lshift__", "__rshift__",
}  # fmt: skip


class Sketch(torch.Tensor):
    """See above; made by `sketch`."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func.__name__ not in ELEMENTWISE:
                result = func(*args, **(kwargs or {}))
                return result.as_subclass(cls) if isinstance(result, torch.Tensor) else result
            shapes = [a.shape for a in args if isinstance(a, torch.Tensor)]
            whole = shapes[0] if len(shapes) == 1 or shapes[0] == shapes[1] else torch.broadcast_shapes(*shapes)
            return sketch(whole, args[0].dtype if isinstance(args[0], torch.Tensor) else torch.int64)


def sketch(shape: Sequence[int], dtype: torch.dtype = torch.int64) -> Sketch:
    """A tensor of `shape` without values."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta").as_subclass(Sketch)
