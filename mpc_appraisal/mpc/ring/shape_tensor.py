"""Tensors without values, for dry runs, which count what a program sends from shapes alone; `shape_tensor` makes one.

torch's own meta tensors take a tenth of a millisecond for an elementwise operation on integers, which is as long as the
operation itself with values. A `ShapeTensor` is a meta tensor that computes the shape of elementwise operations, and of
the operations in `SHAPED`, by itself. All other operations go to torch, which for some of them imports its compiler
and sympy; that takes seconds. An operation may be added to ELEMENTWISE or SHAPED; the shape and type of its result have
to be those that torch gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

ELEMENTWISE = {
    "add", "sub", "mul", "div", "neg", "rsub", "abs", "floor", "round", "bitwise_and", "contiguous", "full_like",
    "zeros_like", "empty_like", "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__isub__", "__mul__",
    "__rmul__", "__imul__", "__neg__", "__abs__", "__and__", "__rand__", "__lshift__", "__rshift__", "add_", "sub_",
    "mul_", "neg_", "bitwise_xor", "__xor__", "__iand__", "__ixor__", "bitwise_and_", "bitwise_xor_",
    "__ilshift__", "__irshift__", "clone", "ones_like", "softmax", "log_softmax", "logsigmoid", "sigmoid",
}  # fmt: skip
IN_PLACE = {
    "add_", "sub_", "mul_", "__iadd__", "__isub__", "__imul__", "__iand__", "__ixor__", "bitwise_and_", "bitwise_xor_",
    "__ilshift__", "__irshift__",
}  # fmt: skip  # the first argument keeps its shape


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """Return what torch.broadcast_shapes(*shapes) returns; that function itself takes as long as a small product.

    Raises RuntimeError: the shapes do not go together.
    """
    if all(shape == shapes[0] for shape in shapes):
        return tuple(shapes[0])
    return tuple(torch.broadcast_shapes(*shapes)) if len(shapes) != 2 else _broadcast(*shapes)


def _broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    size = max(len(a), len(b))
    a, b = (1,) * (size - len(a)) + tuple(a), (1,) * (size - len(b)) + tuple(b)
    if any(m != n and m != 1 and n != 1 for m, n in zip(a, b, strict=True)):
        raise RuntimeError(f"shapes {a} and {b} do not go together")
    return tuple(n if m == 1 else m for m, n in zip(a, b, strict=True))


def _cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> tuple[int, ...]:
    shape = list(tensors[0].shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    return tuple(shape)


def _stack(tensors: Sequence[torch.Tensor], dim: int = 0) -> tuple[int, ...]:
    shape = list(tensors[0].shape)
    if any(t.shape != tensors[0].shape for t in tensors):
        raise RuntimeError(f"stack of {', '.join(str(tuple(t.shape)) for t in tensors)}")
    shape.insert(dim % (len(shape) + 1), len(tensors))
    return tuple(shape)


def _matmul(a: torch.Tensor, b: torch.Tensor) -> tuple[int, ...]:
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise RuntimeError(f"matmul of {tuple(a.shape)} and {tuple(b.shape)}")
    return a.shape[0], b.shape[1]


def _sum(t: torch.Tensor, *dims: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> tuple[int, ...]:
    dim = dims if dims else dim
    dim = (dim,) if isinstance(dim, int) else dim[0] if dim and not isinstance(dim[0], int) else dim
    kept = [d % t.dim() for d in dim] if dim else list(range(t.dim()))
    return tuple(1 if d in kept else n for d, n in enumerate(t.shape) if keepdim or d not in kept)


# For these operations on meta tensors torch imports its compiler, which takes a second.
SHAPED = {"cat": _cat, "stack": _stack, "matmul": _matmul, "__matmul__": _matmul, "sum": _sum}


def _first_of(argument: Any) -> torch.Tensor:
    return argument if isinstance(argument, torch.Tensor) else argument[0]


def _each_as(cls: type, result: Any) -> Any:
    if isinstance(result, (tuple, list)) and result and all(isinstance(each, torch.Tensor) for each in result):
        return type(result)(each.as_subclass(cls) for each in result)  # what is no list of tensors may be a shape
    return result.as_subclass(cls) if isinstance(result, torch.Tensor) else result


class ShapeTensor(torch.Tensor):
    """A meta tensor with fast shapes; `shape_tensor` makes it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            stated = {key: value for key, value in (kwargs or {}).items() if key != "out" or value is not None}
            if func.__name__ in SHAPED and "out" not in stated:
                return shape_tensor(SHAPED[func.__name__](*args, **stated), _first_of(args[0]).dtype)
            if func.__name__ not in ELEMENTWISE:
                result = func(*args, **stated)
                return _each_as(cls, result)
            shapes = [a.shape for a in args if isinstance(a, torch.Tensor)]
            whole = shapes[0] if len(shapes) == 1 or shapes[0] == shapes[1] else broadcast(*shapes)
            if func.__name__ in IN_PLACE and tuple(whole) != tuple(shapes[0]):
                raise RuntimeError(f"{func.__name__} of {tuple(shapes[0])} with a result of shape {tuple(whole)}")
            return shape_tensor(whole, args[0].dtype if isinstance(args[0], torch.Tensor) else torch.int64)


def shape_tensor(shape: Sequence[int], dtype: torch.dtype = torch.int64) -> ShapeTensor:
    """Return a tensor of `shape` and `dtype` without values."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta").as_subclass(ShapeTensor)


def shape_of(op: str, left: Sequence[int], right: Sequence[int], options: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of torch's function `op` of two tensors of these shapes, as torch gives it.

    Raises RuntimeError: the shapes do not go together.
    """
    if op == "mul" and not options:
        return broadcast(left, right)
    if op == "matmul" and not options and len(left) == len(right) == 2 and left[1] == right[0]:
        return left[0], right[1]
    a, b = (torch.empty(tuple(shape), dtype=torch.float32, device="meta") for shape in (left, right))
    return tuple(getattr(torch, op)(a, b, **options).shape)
