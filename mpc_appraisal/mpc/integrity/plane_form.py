"""Shares of bit planes as linear forms of the bits that the dealer has dealt, for which the engine's own code computes.

    bit = constant + sum over leaves of (coefficients . leaf)   mod 2,      every leaf's number is 0 or 1

Bits that are shared by exclusive or are packed by eight into octets (see `bit_planes`). A `PlaneForm` stands in place
of the prover's packed array, uint8 of shape (..., octets). The exclusive or is the sum mod 2, and "and" with public
bits is the product by factors 0 and 1. The linear part is a node of a `PlaneTape`, and the constant is a packed public
array.

In go leaves (`plane_leaf`), and recorded messages as public arrays. Out come forms of messages, of which the tape gives
cotangents. A form has the operations of an array that are linear over GF(2) and that the protocols use; numpy's
functions take it too, by `__array_function__` and `__array_ufunc__`. Whatever is not linear raises AppraisalError with
the operation's name, and so does a sum or product with a share of numbers, which has a tape of another kind. An
operation may be added where it is linear over GF(2) and does the same to the linear part and to the constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity import plane_tape as functions
from mpc_appraisal.mpc.integrity.plane_tape import PlaneFunction, PlaneTape
from mpc_appraisal.mpc.integrity.refusals import Linear, refuse
from mpc_appraisal.mpc.protocols import borrow_chain


def plane_leaf(tape: PlaneTape, shape: Sequence[int]) -> PlaneForm:
    """Return the form of the next octets, of `shape`, that the dealer deals to the prover."""
    return PlaneForm(tape, tape.add(None, (), shape), np.zeros(tuple(shape), np.uint8))


class PlaneForm(Linear):
    """A share by exclusive or of packed bits, as a linear form of dealt bits, in place of a uint8 array of numpy.

    Args:
        tape: the tape of the program.
        node: the number of the tape's node that is the linear part.
        constant: the public part, uint8 (..., octets) of the node's shape.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, tape: PlaneTape, node: int, constant: np.ndarray):
        self.tape, self.node, self.constant, self.shape = tape, node, constant, tuple(constant.shape)
        if tape.nodes[node].shape != self.shape or not self.shape:
            raise AppraisalError(f"integrity: got octets {self.shape}; expected {tape.nodes[node].shape}")

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def numpy(self) -> PlaneForm:
        return self

    def copy(self) -> PlaneForm:
        return self

    def _moved(self, function: PlaneFunction, *others: PlaneForm) -> PlaneForm:
        """Return the form of `function` of this form and others, which is linear."""
        for each in others:
            if each.tape is not self.tape:
                raise AppraisalError(
                    "integrity: got shares of two programs or sections; expected shares made since the last opening"
                )
        constant = np.asarray(function.forward(self.constant, *(each.constant for each in others)))
        node = self.tape.add(function, [self.node, *(each.node for each in others)], constant.shape)
        return PlaneForm(self.tape, node, constant)

    def _plus(self, constant: np.ndarray) -> PlaneForm:
        """Return the form plus public octets, broadcast."""
        found = self.constant ^ constant
        form = self if found.shape == self.shape else self._moved(functions.Widen(found.shape))
        return PlaneForm(self.tape, form.node, found)

    # -- shapes ----------------------------------------------------------------------------------------------------
    def reshape(self, *shape: Any) -> PlaneForm:
        return self._moved(functions.Reshape(self.constant.reshape(*shape).shape))

    def transpose(self, *axes: int) -> PlaneForm:
        if sorted(axes) != list(range(self.ndim)):
            raise refuse(f"transpose to the order {axes} of {self.ndim} dimensions")
        return self._moved(functions.Permute(axes))

    def __getitem__(self, index: Any) -> PlaneForm:
        parts = index if isinstance(index, tuple) else (index,)
        lists = [k for k, each in enumerate(parts) if isinstance(each, (list, np.ndarray))]
        if not lists and all(isinstance(each, (int, slice)) or each is None for each in parts):
            return self._moved(functions.Slice(parts))
        if len(lists) != 1 or any(each is Ellipsis for each in parts):
            raise refuse(f"an index {index!s:.40} of octets")
        (k,) = lists
        rows = np.asarray(parts[k])
        if rows.ndim != 1 or rows.dtype.kind != "i":
            raise refuse(f"an index {index!s:.40} of octets")
        distinct = bool((rows >= 0).all()) and len(np.unique(rows)) == len(rows)
        return self._moved(functions.Rows((*parts[:k], rows, *parts[k + 1 :]), distinct))

    def repeated(self, count: int) -> PlaneForm:
        """Return the octets `count` times along the last dimension."""
        return self._moved(functions.Repeat(count))

    # -- sums mod 2 and public factors -----------------------------------------------------------------------------
    def __xor__(self, other: Any) -> PlaneForm:
        if isinstance(other, PlaneForm):
            return self._moved(functions.Add(), other)
        return self._plus(_public(other, "^"))

    def __invert__(self) -> PlaneForm:
        return PlaneForm(self.tape, self.node, ~self.constant)

    def __and__(self, other: Any) -> PlaneForm:
        if isinstance(other, PlaneForm):
            raise refuse("a product of two shares")
        return self._moved(functions.Keep(_public(other, "&")))

    __rxor__, __rand__ = __xor__, __and__

    def exclusive_sum(self, axis: int = 0) -> PlaneForm:
        """Return the exclusive or of all rows along `axis`."""
        if not isinstance(axis, int) or not 0 <= axis < self.ndim or self.ndim < 2:
            raise refuse(f"a sum over dimension {axis} of {self.ndim}")
        return self._moved(functions.Sum(axis))

    def looked_up(self, plan: borrow_chain.BorrowPlan, public: np.ndarray, first: bool) -> tuple[PlaneForm, PlaneForm]:
        """Return what `borrow_chain.looked_up` returns for public digits and these shares of indicators."""
        planes, octets = self.shape
        whole = public.shape[2] % octets == 0 if octets else public.shape[2] == 0
        if not whole or planes != plan.indicators or public.shape[:2] != (plan.width, plan.digits):
            raise refuse(f"look_up of digits {public.shape} in indicators {self.shape}")
        constant = np.stack(borrow_chain.looked_up(plan, public, self.constant, first))
        node = self.tape.add(functions.LookUp(plan, public), [self.node], constant.shape)
        both = PlaneForm(self.tape, node, constant)
        return both[0], both[1]

    # -- numpy and torch -------------------------------------------------------------------------------------------
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> PlaneForm:
        handler = UFUNCS.get((ufunc, method))
        if handler is None or "out" in options:
            raise refuse(f"numpy's {ufunc.__name__}")
        return handler(*inputs, **options)

    def __array_function__(self, func: Any, types: Any, args: Sequence[Any], kwargs: Any) -> PlaneForm:
        handler = NUMPY.get(func)
        if handler is None:
            raise refuse(f"numpy's {func.__name__}")
        return handler(*args, **kwargs)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> PlaneForm:
        handler = {"__xor__": _xor, "bitwise_xor": _xor, "__and__": _and, "bitwise_and": _and}.get(func.__name__)
        if handler is None or kwargs:
            raise refuse(f"torch's {func.__name__}")
        return handler(*args)


def _public(value: Any, operation: str) -> np.ndarray:
    """Return public octets as an array. Raises AppraisalError: they are none."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 256:
        return np.asarray(value, np.uint8)
    if isinstance(value, (np.ndarray, np.uint8)) and value.dtype == np.uint8:
        return np.asarray(value)
    if isinstance(value, torch.Tensor) and value.dtype == torch.uint8 and not value.is_meta:
        return value.numpy()
    raise refuse(f"{operation} by {type(value).__name__} {value!s:.40}")


def _joined(parts: Sequence[Any], axis: int = 0) -> PlaneForm:
    """Return np.concatenate(parts, axis) of forms and public octets."""
    (tape, *_) = (part.tape for part in parts if isinstance(part, PlaneForm))
    first, *others = (part if isinstance(part, PlaneForm) else _of_public(tape, part) for part in parts)
    return first._moved(functions.Join(axis % first.ndim), *others)


def _of_public(tape: PlaneTape, value: Any) -> PlaneForm:
    constant = _public(value, "concatenate")
    return PlaneForm(tape, tape.add(functions.Zero(constant.shape), (), constant.shape), constant)


def _stacked(parts: Sequence[Any], axis: int = 0) -> PlaneForm:
    """Return np.stack(parts) of forms and public octets, along a new first dimension."""
    if axis != 0:
        raise refuse(f"stack along dimension {axis}")
    return _joined([part[None] for part in parts])


def _tiled(form: Any, count: Any) -> PlaneForm:
    """Return np.tile(form, count) along the last dimension."""
    counts = count if isinstance(count, tuple) else (count,)
    if not isinstance(form, PlaneForm) or len(counts) > form.ndim or any(n != 1 for n in counts[:-1]) or counts[-1] < 1:
        raise refuse(f"tile by {count!s:.40}")
    return form.repeated(counts[-1])


def _reduced_xor(form: PlaneForm, axis: int = 0) -> PlaneForm:
    return form.exclusive_sum(axis)


def _either(operation: Callable) -> Callable:
    """Return the operation of two operands, which commutes, and of which one is a form."""
    return lambda a, b: operation(a, b) if isinstance(a, PlaneForm) else operation(b, a)


_xor, _and = _either(PlaneForm.__xor__), _either(PlaneForm.__and__)
UFUNCS: dict[tuple[Any, str], Callable] = {
    (np.bitwise_xor, "__call__"): _xor,
    (np.bitwise_and, "__call__"): _and,
    (np.invert, "__call__"): PlaneForm.__invert__,
    (np.bitwise_xor, "reduce"): _reduced_xor,
}
NUMPY: dict[Any, Callable] = {np.concatenate: _joined, np.stack: _stacked, np.tile: _tiled}
