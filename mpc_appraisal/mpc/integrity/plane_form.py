"""Shares of bit planes as linear forms of the bits that the dealer has dealt, for which the engine's own code computes.

    bit = constant + sum over leaves of (coefficients . leaf)   mod 2,      every leaf's number is 0 or 1

Bits that are shared by exclusive or are packed by eight into octets (see `bit_planes`). A `PlaneForm` stands in place
of the prover's packed array, uint8 of shape (rows..., octets). The exclusive or is the sum mod 2, and "and" with public
bits is the product by factors 0 and 1, so that the linear part is a `LinearForm` of shape (rows..., 8 octets), computed
over the integers. The constant is a packed public array, of which no bit is ever more than 1.

In go leaves (`plane_leaf`), whose numbers are `unpacked` octets, and recorded messages as public arrays. Out come forms
of messages, whose `bits` hold mod 2, for `linear_form.forward` and `backward`. A form has the operations of an array
that are linear over GF(2) and that the protocols use; numpy's functions take it too, by `__array_function__` and
`__array_ufunc__`. Whatever is not linear raises AppraisalError with the operation's name. An operation may be added
where it is linear over GF(2) and does the same to the linear part and to the constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity import tape as functions
from mpc_appraisal.mpc.integrity.linear_form import WORD, LinearForm, leaf
from mpc_appraisal.mpc.integrity.refusals import Linear, refuse
from mpc_appraisal.mpc.integrity.residues import added, reduced, sum_to_shape
from mpc_appraisal.mpc.integrity.tape import Function, Shape, Tape
from mpc_appraisal.mpc.ring import bit_planes

OCTET = 8


def plane_leaf(tape: Tape, shape: Sequence[int]) -> PlaneForm:
    """Return the form of the next octets, of `shape`, that the dealer deals to the prover."""
    return PlaneForm(leaf(tape, _of_bits(shape), bits=1), np.zeros(tuple(shape), np.uint8))


def unpacked(octets: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return the bits of octets, int64 (rows..., 8 octets), which are the numbers of a `plane_leaf`."""
    bits = np.unpackbits(np.asarray(octets), axis=-1, bitorder="little")
    return torch.from_numpy(bits.astype(np.int64))


def _of_bits(shape: Sequence[int]) -> Shape:
    """Return the shape of the bits of octets of `shape`."""
    return (*shape[:-1], OCTET * shape[-1])


# -- functions of the tape ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Keep(Function):
    """a where `kept` (bool, broadcast) is true, and 0 elsewhere."""

    kept: np.ndarray

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return inputs[0] * self.kept

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [sum_to_shape(cotangent * self.kept, shapes[0], p)]


@dataclass(frozen=True)
class Permute(Function):
    """a with its dimensions in the order `axes`."""

    axes: tuple[int, ...]

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return inputs[0].transpose(self.axes)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [cotangent.transpose(np.argsort(self.axes))]


@dataclass(frozen=True)
class Repeat(Function):
    """a, `count` times along its last dimension."""

    count: int

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.concatenate([inputs[0]] * self.count, axis=-1)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        times = cotangent.reshape(*shapes[0][:-1], self.count, shapes[0][-1])
        return [reduced(times.sum(axis=-2, dtype=np.uint64), p)]


@dataclass(frozen=True)
class LookUp(Function):
    """Of the indicators a (values, digits, n): at [0] the sum of those above a public digit, and at [1] its own one.

    `places` (digits, columns) says where in a, flattened, the indicator of each public digit is.
    """

    places: np.ndarray

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        own = inputs[0]
        above = own[::-1].cumsum(axis=0, dtype=np.uint64)[::-1] - own
        return np.stack([reduced(above.reshape(-1)[self.places], p), own.reshape(-1)[self.places]])

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        places, found = self.places.reshape(-1), []
        for part in cotangent:
            total = np.zeros(math.prod(shapes[0]), np.uint64)
            np.add.at(total, places, part.reshape(-1))
            found.append(reduced(total.reshape(shapes[0]), p))
        below, own = found
        return [added(reduced(below.cumsum(axis=0, dtype=np.uint64) - below, p), own, p)]


# -- forms -------------------------------------------------------------------------------------------------------------
class PlaneForm(Linear):
    """A share by exclusive or of packed bits, as a linear form of dealt bits, in place of a uint8 array of numpy.

    Args:
        linear: the linear part, a form (rows..., 8 octets) without a constant.
        constant: the public part, uint8 (rows..., octets).
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, linear: LinearForm, constant: np.ndarray):
        self.linear, self.constant, self.shape = linear, constant, tuple(constant.shape)
        if tuple(linear.shape) != _of_bits(self.shape):
            raise AppraisalError(f"integrity: got {tuple(linear.shape)} bits; expected those of octets {self.shape}")

    @property
    def bits(self) -> LinearForm:
        """Return the form of the single bits, (rows..., 8 octets), which holds mod 2."""
        form = self.linear
        return LinearForm(form.tape, form.node, unpacked(self.constant), 1, form.largest)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def numpy(self) -> PlaneForm:
        return self

    def copy(self) -> PlaneForm:
        return self

    def _moved(self, function: Function, constant: np.ndarray) -> PlaneForm:
        """Return the form of `function` of the linear part, with `constant` as the public part."""
        return PlaneForm(self.linear._moved(function, _of_bits(constant.shape), torch.clone), constant)

    # -- shapes ----------------------------------------------------------------------------------------------------
    def reshape(self, *shape: Any) -> PlaneForm:
        constant = self.constant.reshape(*shape)
        return PlaneForm(self.linear.reshape(_of_bits(constant.shape)), constant)

    def transpose(self, *axes: int) -> PlaneForm:
        if len(axes) != self.ndim or axes[-1] != self.ndim - 1:
            raise refuse(f"transpose to the order {axes} of {self.ndim} dimensions")
        return self._moved(Permute(axes), self.constant.transpose(axes))

    def __getitem__(self, index: Any) -> PlaneForm:
        constant = self.constant[index]  # IndexError where it is out of range
        return self._moved(functions.Take(*_bit_places(index, self.shape)), constant)

    def repeated(self, count: int) -> PlaneForm:
        """Return the octets `count` times along the last dimension."""
        return self._moved(Repeat(count), np.concatenate([self.constant] * count, axis=-1))

    # -- sums mod 2 and public factors -----------------------------------------------------------------------------
    def __xor__(self, other: Any) -> PlaneForm:
        if isinstance(other, PlaneForm):
            return PlaneForm(self.linear + other.linear, self.constant ^ other.constant)
        constant = self.constant ^ _public(other, "^")
        form = self.linear if constant.shape == self.shape else self.linear._widened(_of_bits(constant.shape))
        return PlaneForm(form, constant)

    def __invert__(self) -> PlaneForm:
        return PlaneForm(self.linear, ~self.constant)

    def __and__(self, other: Any) -> PlaneForm:
        if isinstance(other, PlaneForm):
            raise refuse("a product of two shares")
        factor = _public(other, "&")
        if factor.ndim == 0:
            factor = np.full(self.shape[-1:], factor, np.uint8)
        kept = np.unpackbits(factor, axis=-1, bitorder="little").view(np.bool_)
        return self._moved(Keep(kept), self.constant & factor)

    __rxor__, __rand__ = __xor__, __and__

    def exclusive_sum(self, axis: int = 0) -> PlaneForm:
        """Return the exclusive or of all rows along `axis`, which is not the last dimension."""
        if not 0 <= axis < self.ndim - 1:
            raise refuse(f"a sum over dimension {axis} of {self.ndim}")
        return PlaneForm(self.linear.sum(axis), np.bitwise_xor.reduce(self.constant, axis=axis))

    def looked_up(self, public: np.ndarray) -> tuple[PlaneForm, PlaneForm]:
        """Return what `bit_planes.look_up` returns for public digits and these shares of indicators."""
        values, digits, octets = self.shape
        columns = public.shape[2]
        whole = columns % octets == 0 if octets else columns == 0
        if not whole or values != 1 << public.shape[0] or public.shape[1] != digits:
            raise refuse(f"look_up of digits {public.shape} in indicators {self.shape}")
        bits = np.unpackbits(public, axis=-1, bitorder="little").astype(np.int64)
        value = sum(bit << k for k, bit in enumerate(bits))
        column = np.arange(OCTET * columns) % (OCTET * octets)
        places = (value * digits + np.arange(digits)[:, None]) * (OCTET * octets) + column
        largest = self.linear.largest * max(1, values - 1)
        both = self.linear._moved(LookUp(places), (2, digits, OCTET * columns), torch.clone, largest)
        less, equal = bit_planes.look_up(public, self.constant)
        return PlaneForm(both[0], less), PlaneForm(both[1], equal)

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


def _bit_places(index: Any, shape: Shape) -> tuple[tuple[Any, ...], bool]:
    """Return the index of bits that is `index` of octets of `shape`, and whether it names no bit twice."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(each is Ellipsis for each in parts):
        raise refuse("an index with an ellipsis")
    named = sum(each is not None for each in parts)
    parts += [slice(None)] * (len(shape) - named)
    last, lists = parts[-1], [k for k, each in enumerate(parts) if isinstance(each, (list, np.ndarray))]
    if not isinstance(last, slice) or last.step not in (None, 1) or len(lists) > 1:
        raise refuse(f"an index {index!s:.40} of octets")
    start, stop, _ = last.indices(shape[-1])
    parts[-1] = slice(OCTET * start, OCTET * max(start, stop))
    distinct = True
    for k in lists:
        rows = parts[k] = np.asarray(parts[k])
        if rows.ndim != 1 or rows.dtype.kind != "i":
            raise refuse(f"an index {index!s:.40} of octets")
        distinct = bool((rows >= 0).all()) and len(np.unique(rows)) == len(rows)
    return tuple(parts), distinct


def _joined(parts: Sequence[Any], axis: int = 0) -> PlaneForm:
    """Return np.concatenate(parts, axis) of forms and public octets."""
    (tape, *_) = (part.linear.tape for part in parts if isinstance(part, PlaneForm))
    forms = [part if isinstance(part, PlaneForm) else _of_public(tape, part) for part in parts]
    return PlaneForm(
        torch.cat([form.linear for form in forms], axis), np.concatenate([form.constant for form in forms], axis)
    )


def _of_public(tape: Tape, value: Any) -> PlaneForm:
    constant = _public(value, "concatenate")
    zero = tape.add(functions.Zero(), [], _of_bits(constant.shape))
    return PlaneForm(LinearForm(tape, zero, None, WORD, 0), constant)


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
