"""The tape of a program that is linear in dealt bits: its values, and its derivatives over words of 64 bits.

    forward:    v_out = f(v_in)                 over GF(2), for every node's linear function f; v are packed octets
    backward:   c_in += f'(c_out)               in the opposite order; f' is the transpose of f, and + is exclusive or

A leaf is an array of octets that the dealer has dealt, and any other node is a linear function of earlier nodes, whose
coefficients are 0 and 1. A value is a uint8 array (..., octets). A cotangent has one word for each bit, uint64
(..., octets, 8) with the lowest bit first. For any bits r of the leaves and any words c of the nodes

    sum over bits k of c_k forward(r)_k = sum over bits i of backward(c)_i r_i,         a word

so that random words of messages become words of what was dealt. No node has integers: a share of bits enters no share
of numbers before it is opened. A function that only selects or arranges elements takes no time backwards: the words of
its value are a `view` of its input's words. A function may be added where `forward` and `backward` of it are transposes
of each other (tests/mpc/test_plane_form.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols import borrow_chain
from mpc_appraisal.mpc.ring.kernels import loops

OCTET = 8
Shape = tuple[int, ...]


class PlaneFunction(ABC):
    """A linear function of earlier nodes over GF(2)."""

    @abstractmethod
    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the octets of the value, from those of the inputs."""

    @abstractmethod
    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        """Add to the words of the inputs what follows from those of the value, in place."""


class Arranged(PlaneFunction):
    """A function that selects or arranges the elements of one input, none of them twice."""

    @abstractmethod
    def arranged(self, a: np.ndarray, more: int) -> np.ndarray:
        """Return the elements of an array that has `more` dimensions after those of the octets."""

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return self.arranged(inputs[0], 0)

    def view(self, words: np.ndarray) -> np.ndarray | None:
        """Return the part of the input's words that are the value's words, or None if there is no such view."""
        found = self.arranged(words, 1)
        return found if np.may_share_memory(found, words) else None


@dataclass(frozen=True)
class Reshape(Arranged):
    """The same octets, in order, in another shape."""

    shape: Shape

    def arranged(self, a: np.ndarray, more: int) -> np.ndarray:
        return a.reshape(*self.shape, *a.shape[a.ndim - more :])

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        into[0] ^= words.reshape(into[0].shape)


@dataclass(frozen=True)
class Permute(Arranged):
    """a with its dimensions in the order `axes`."""

    axes: tuple[int, ...]

    def arranged(self, a: np.ndarray, more: int) -> np.ndarray:
        return a.transpose(*self.axes, *range(len(self.axes), a.ndim))

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        into[0] ^= words.transpose(*np.argsort(self.axes), len(self.axes))


@dataclass(frozen=True)
class Slice(Arranged):
    """a[index], for an index of integers, slices and new dimensions."""

    index: tuple[Any, ...]

    def arranged(self, a: np.ndarray, more: int) -> np.ndarray:
        return a[self.index]

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        into[0][self.index] ^= words


@dataclass(frozen=True)
class Rows(PlaneFunction):
    """a[index], for an index with a list of integers; `distinct` says that it names no octet twice."""

    index: tuple[Any, ...]
    distinct: bool

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0][self.index]

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        if self.distinct:
            into[0][self.index] ^= words
        else:
            np.bitwise_xor.at(into[0], self.index, words)


@dataclass(frozen=True)
class Add(PlaneFunction):
    """a + b, broadcast."""

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0] ^ inputs[1]

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        for each in into:
            each ^= _sum_to_shape(words, each.shape)


@dataclass(frozen=True)
class Widen(PlaneFunction):
    """a, broadcast to a shape."""

    shape: Shape

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.broadcast_to(inputs[0], self.shape)

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        into[0] ^= _sum_to_shape(words, into[0].shape)


@dataclass(frozen=True)
class Keep(PlaneFunction):
    """a where the bits of public octets are 1, and 0 elsewhere, broadcast."""

    octets: np.ndarray

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return inputs[0] & self.octets

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        octets = np.ascontiguousarray(np.broadcast_to(self.octets, words.shape[:-1]))
        compiled = _compiled(words.size)
        if compiled is None:
            into[0] ^= _sum_to_shape(words * _bits(octets), into[0].shape)
            return
        direct = into[0].shape == words.shape and into[0].flags.c_contiguous
        out = into[0] if direct else np.zeros(words.shape, np.uint64)
        compiled.kept(np.ascontiguousarray(words).reshape(-1, OCTET), octets.reshape(-1), out.reshape(-1, OCTET))
        if not direct:
            into[0] ^= _sum_to_shape(out, into[0].shape)


@dataclass(frozen=True)
class Sum(PlaneFunction):
    """The sum of a over one axis."""

    axis: int

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.bitwise_xor.reduce(inputs[0], axis=self.axis)

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        into[0] ^= np.expand_dims(words, self.axis)


@dataclass(frozen=True)
class Repeat(PlaneFunction):
    """a, `count` times along its last dimension."""

    count: int

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.concatenate([inputs[0]] * self.count, axis=-1)

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        lead, length = into[0].shape[:-2], into[0].shape[-2]
        into[0] ^= np.bitwise_xor.reduce(words.reshape(*lead, self.count, length, OCTET), axis=len(lead))


@dataclass(frozen=True)
class Join(PlaneFunction):
    """All inputs, one after the other along a dimension."""

    axis: int

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.concatenate(inputs, axis=self.axis)

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        ends = np.cumsum([each.shape[self.axis] for each in into])[:-1]
        for each, part in zip(into, np.split(words, ends, axis=self.axis), strict=True):
            each ^= part


@dataclass(frozen=True)
class Zero(PlaneFunction):
    """Zeros, for what has public bits alone."""

    shape: Shape

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.zeros(self.shape, np.uint8)

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        pass


@dataclass(frozen=True)
class LookUp(PlaneFunction):
    """Of packed indicators of digits: at [0] the sum of those above a public digit, and at [1] that of the digit.

    `public` (width, digits, columns) are the digits; see `borrow_chain.looked_up`. The indicator of the digit 0 is the
    sum of all others.
    """

    plan: borrow_chain.BorrowPlan
    public: np.ndarray

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.stack(borrow_chain.looked_up(self.plan, self.public, inputs[0], False))

    def backward(self, words: np.ndarray, into: list[np.ndarray]) -> None:
        digits, full, columns = self.plan.digits, 2**self.plan.width - 1, OCTET * into[0].shape[1]
        if not columns:
            return
        bits = np.unpackbits(self.public, axis=-1, bitorder="little")
        values = sum(bit << k for k, bit in enumerate(bits))  # (digits, places)
        less, equal = (np.ascontiguousarray(each).reshape(digits, -1) for each in words)
        direct = into[0].flags.c_contiguous
        out = (into[0] if direct else np.zeros(into[0].shape, np.uint64)).reshape(-1, columns)
        for k in range(digits):
            top = k == digits - 1
            start, step = (full * (digits - 1), 1) if top else (k, digits - 1)
            count = len(out) - start if top else full
            for first in range(0, values.shape[1], columns):
                part = slice(first, first + columns)
                _look_up(values[k, part], less[k, part], equal[k, part], start, step, count, out)
        if not direct:
            into[0] ^= out.reshape(into[0].shape)


def _look_up(
    values: np.ndarray, less: np.ndarray, equal: np.ndarray, start: int, step: int, count: int, out: np.ndarray
) -> None:
    """Add the words of one digit to those of its indicators 1, ..., count: rows start, start + step, ... of `out`."""
    compiled = _compiled(count * len(values))
    if compiled is not None:
        compiled.looked_up(values, less, equal, start, step, count, out)
        return
    for j in range(1, count + 1):
        row = out[start + step * (j - 1)]
        row ^= less * (values < j)
        row ^= equal * ((values == j) | (values == 0))


def _compiled(work: int):
    if loops(work) is None:
        return None
    from mpc_appraisal.mpc.ring import compiled_binary_field

    return compiled_binary_field


def _bits(octets: np.ndarray) -> np.ndarray:
    """Return the bits of octets as bool (..., octets, 8)."""
    return np.unpackbits(octets[..., None], axis=-1, bitorder="little").view(np.bool_)


def _sum_to_shape(words: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the sum of words over all axes along which an array of `shape` was broadcast."""
    if words.shape == shape:
        return words
    lead = words.ndim - len(shape)
    axes = (*range(lead), *(lead + k for k, n in enumerate(shape) if n == 1 and words.shape[lead + k] != 1))
    return np.bitwise_xor.reduce(words, axis=axes, keepdims=True).reshape(shape)


@dataclass(frozen=True)
class PlaneNode:
    """A function on the tape, or a leaf: the numbers of its input nodes, and its shape in octets."""

    function: PlaneFunction | None
    inputs: tuple[int, ...]
    shape: Shape


@dataclass
class PlaneTape:
    """The nodes of one program in the order in which they were made; a node without a function is a leaf."""

    nodes: list[PlaneNode] = field(default_factory=list)

    def add(self, function: PlaneFunction | None, inputs: Sequence[int], shape: Sequence[int]) -> int:
        """Return the number of a new node, the value of `function`, of `shape`, at the nodes `inputs`; None: a leaf."""
        self.nodes.append(PlaneNode(function, tuple(inputs), tuple(shape)))
        return len(self.nodes) - 1

    @property
    def leaves(self) -> list[int]:
        """Return the numbers of the nodes that are leaves."""
        return [number for number, node in enumerate(self.nodes) if node.function is None]

    def forward(self, wanted: Sequence[int], dealt: dict[int, np.ndarray]) -> list[np.ndarray]:
        """Return the octets of the nodes `wanted`, from those of all leaves, by the leaf's number."""
        values: list[np.ndarray] = []
        for number, node in enumerate(self.nodes):
            inputs = [values[k] for k in node.inputs]
            values.append(dealt[number] if node.function is None else node.function.forward(*inputs))
        return [values[number] for number in wanted]

    def backward(self, wanted: Sequence[int], words: Sequence[np.ndarray], leaves: Sequence[int]) -> np.ndarray:
        """Return the words of the leaves one after the other, (octets, 8), from those of the nodes `wanted`.

        Args:
            wanted: numbers of nodes.
            words: for each of them uint64 (..., octets, 8).
            leaves: the numbers of all leaves, in the order in which their words are returned.

        Raises AppraisalError: these are other leaves.
        """
        if sorted(leaves) != self.leaves:
            raise AppraisalError(f"integrity: got {len(leaves)} leaves of bits; expected the {len(self.leaves)} leaves")
        sizes = [int(np.prod(self.nodes[k].shape, dtype=np.int64)) for k in leaves]
        total, ends = np.zeros((sum(sizes), OCTET), np.uint64), np.cumsum(sizes)
        found = {
            k: total[end - size : end].reshape(*self.nodes[k].shape, OCTET)
            for k, size, end in zip(leaves, sizes, ends, strict=True)
        }
        views: set[int] = set()
        for number, each in zip(wanted, words, strict=True):
            into = self._words(found, views, number)
            into ^= each
        for number in range(len(self.nodes) - 1, -1, -1):
            node, own = self.nodes[number], found.pop(number, None)
            if own is not None and node.function is not None and number not in views:
                node.function.backward(own, [self._words(found, views, k) for k in node.inputs])
        return total

    def _words(self, found: dict[int, np.ndarray], views: set[int], number: int) -> np.ndarray:
        """Return the words of a node, to which others are added: a view of those of its input, or zeros at first."""
        if number not in found:
            node = self.nodes[number]
            own = None
            if isinstance(node.function, Arranged):
                own = node.function.view(self._words(found, views, node.inputs[0]))
            if own is not None:
                views.add(number)
            found[number] = np.zeros((*node.shape, OCTET), np.uint64) if own is None else own
        return found[number]
