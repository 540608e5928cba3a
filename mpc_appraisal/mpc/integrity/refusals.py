"""What no linear form can do: each operation that is not linear in shares raises AppraisalError with its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mpc_appraisal.common.errors import AppraisalError

PUBLIC = (torch.int64, torch.int32, torch.uint8, torch.bool)  # the types of public factors and terms
NONLINEAR = (
    "__rshift__", "__rrshift__", "__rlshift__", "__or__", "__ror__", "__xor__", "__rxor__", "__truediv__",
    "__rtruediv__", "__floordiv__", "__rfloordiv__", "__mod__", "__rmod__", "__pow__", "__rpow__", "__invert__",
    "__abs__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__", "__int__", "__float__",
    "__index__", "__array__", "__setitem__", "__contains__",
)  # fmt: skip


def refuse(operation: str) -> AppraisalError:
    """Return the error for an operation that no linear form has."""
    return AppraisalError(f"integrity: got {operation} of a share; expected an operation that is linear in shares")


def public(value: Any, operation: str) -> torch.Tensor | int:
    """Return a public number as an int64 tensor or an int, as the signed integer that it is.

    Raises AppraisalError: it is no integer, or none of 64 bits.
    """
    if isinstance(value, torch.Tensor) and value.dtype in PUBLIC and not value.is_meta:
        return value.to(torch.int64)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return int(value)
    raise refuse(f"{operation} by {type(value).__name__} {value!s:.40}")


def _refused(name: str) -> Callable:
    def method(self: Any, *others: Any, **options: Any) -> Any:
        raise refuse(name)

    return method


class Linear:
    """A class of which every operation that is not linear is refused, and every method that it does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python asks for such names, and takes AttributeError for an answer.
            raise AttributeError(name)
        raise refuse(name)

    def __init_subclass__(cls) -> None:
        for name in NONLINEAR:
            if name not in vars(cls):  # an operation that a class has is linear there
                setattr(cls, name, _refused(name.strip("_")))
        cls.__hash__ = object.__hash__
