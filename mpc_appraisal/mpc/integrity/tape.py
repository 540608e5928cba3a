"""The tape of a program that is linear in numbers of the dealer: its values, and its derivatives, modulo a prime.

    forward:    v_out = f(v_in)                        for every node's linear function f, in the order of the tape
    backward:   c_in += f'(c_out)                      in the opposite order; f' is the transpose of f

A leaf is a tensor of whole numbers that the dealer has dealt, and any other node is a linear function of earlier nodes,
with whole public coefficients. In go a tape, the numbers of the leaves or the cotangents of some nodes, and primes
below 2^31; out come numbers mod p, exactly. For any numbers r of the leaves and any cotangents c of the nodes

    <c, forward(r)> = <backward(c), r> mod p,

so that one pass over the tape turns a random combination of claims about nodes into one claim about the leaves. A
function may be added where `forward` and `backward` of it are transposes of each other (tests/mpc/test_linear_form.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity.residues import (
    added,
    multiplied,
    negated,
    public_product,
    reduced,
    sum_to_shape,
    summed,
    times_public,
)
from mpc_appraisal.mpc.ring.pieces import Pieces

Shape = tuple[int, ...]


class Function(ABC):
    """A linear function of earlier nodes, with whole coefficients."""

    @abstractmethod
    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        """Return the value mod p, of `shape`, from the values of the inputs."""

    @abstractmethod
    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        """Return the cotangents mod p of the inputs, which have `shapes`, from that of the value."""


@dataclass(frozen=True)
class Zero(Function):
    """Zeros, for what has public numbers alone."""

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.zeros(shape, np.uint64)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return []


@dataclass(frozen=True)
class Add(Function):
    """a + b, broadcast."""

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return added(*inputs, p)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [sum_to_shape(cotangent, shape, p) for shape in shapes]


@dataclass(frozen=True)
class Scale(Function):
    """a times one integer of any size."""

    factor: int

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return self._scaled(inputs[0], p)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [self._scaled(cotangent, p)]

    def _scaled(self, a: np.ndarray, p: int) -> np.ndarray:
        return negated(a, p) if self.factor == -1 else multiplied(a, np.uint64(self.factor % p), p)


@dataclass(frozen=True)
class Times(Function):
    """a times signed integers (int64), elementwise and broadcast."""

    factors: np.ndarray

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return times_public(inputs[0], self.factors, p)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [sum_to_shape(times_public(cotangent, self.factors, p), shapes[0], p)]


@dataclass(frozen=True)
class Reshape(Function):
    """The same numbers, in order, in another shape."""

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return inputs[0].reshape(shape)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [cotangent.reshape(shapes[0])]


@dataclass(frozen=True)
class Transpose(Function):
    """a', with all dimensions in the opposite order."""

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return inputs[0].T

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [cotangent.T]


@dataclass(frozen=True)
class Take(Function):
    """a[index], for an index of numpy; `distinct` says that it names no element twice."""

    index: Any
    distinct: bool

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.asarray(inputs[0][self.index]).reshape(shape)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        out = np.zeros(shapes[0], np.uint64)
        if self.distinct:
            out[self.index] = cotangent
            return [out]
        np.add.at(out, self.index, cotangent)
        return [reduced(out, p)]


@dataclass(frozen=True)
class Sum(Function):
    """The sum of a over `axes`."""

    axes: tuple[int, ...]

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.asarray(summed(inputs[0], self.axes, p)).reshape(shape)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        kept = tuple(1 if k in self.axes else n for k, n in enumerate(shapes[0]))
        return [np.broadcast_to(cotangent.reshape(kept), shapes[0])]


@dataclass(frozen=True)
class Matmul(Function):
    """a @ factors, or factors @ a if `left`, for integers (int64, or in pieces) within `bounds`; of two dimensions."""

    factors: np.ndarray | Pieces
    left: bool
    bounds: tuple[int, int]

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return public_product(self.factors, self.bounds, inputs[0], p, self.left)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        return [public_product(self.factors.T, self.bounds, cotangent, p, self.left)]


@dataclass(frozen=True)
class Join(Function):
    """All inputs, one after the other along the dimension `dim`."""

    dim: int

    def forward(self, p: int, inputs: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.concatenate(inputs, axis=self.dim)

    def backward(self, p: int, cotangent: np.ndarray, shapes: list[Shape]) -> list[np.ndarray]:
        ends = np.cumsum([shape[self.dim] for shape in shapes])[:-1]
        return np.split(cotangent, ends, axis=self.dim)


@dataclass(frozen=True)
class Leaf:
    """A tensor that the dealer has dealt to the prover.

    Attributes:
        shape: its shape.
        bits: its numbers are in [0, 2^bits).
        of: the number of the leaf of whose numbers these are the low `bits` bits; None for a leaf of its own.
    """

    shape: Shape
    bits: int
    of: int | None = None


@dataclass(frozen=True)
class Node:
    """A function on the tape, or a leaf: the numbers of its input nodes, its shape, and the number of a leaf."""

    function: Function | None
    inputs: tuple[int, ...]
    shape: Shape
    leaf: int | None = None


@dataclass
class Tape:
    """The nodes of one program in the order in which they were made, and its leaves in the order of dealing."""

    nodes: list[Node] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)

    def add_leaf(self, shape: Sequence[int], bits: int, of: int | None = None) -> int:
        """Return the number of a new node, which is a leaf."""
        if not 0 < bits <= 64:
            raise AppraisalError(f"integrity: got a leaf of {bits} bits; expected 1 to 64")
        self.leaves.append(Leaf(tuple(shape), bits, of))
        return self._added(Node(None, (), tuple(shape), len(self.leaves) - 1))

    def add(self, function: Function, inputs: Sequence[int], shape: Sequence[int]) -> int:
        """Return the number of a new node, the value of `function`, of `shape`, at the nodes `inputs`."""
        return self._added(Node(function, tuple(inputs), tuple(shape)))

    def _added(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def leaf_numbers(self, dealt: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the numbers of all leaves, uint64, from those of the leaves that were dealt, int64, in their order.

        Raises AppraisalError: these are not as many, or not of the shapes of the leaves.
        """
        own = [leaf for leaf in self.leaves if leaf.of is None]
        shapes = [tuple(values.shape) for values in dealt]
        if shapes != [leaf.shape for leaf in own]:
            raise AppraisalError(f"integrity: got {len(shapes)} dealt tensors {shapes!s:.80}; expected those of a tape")
        found, given = [], iter(dealt)
        for leaf in self.leaves:
            numbers = np.ascontiguousarray(next(given)).view(np.uint64) if leaf.of is None else found[leaf.of]
            found.append(numbers if leaf.bits == 64 else numbers & np.uint64((1 << leaf.bits) - 1))
        return found

    def reached(self, wanted: Sequence[int]) -> list[int]:
        """Return the nodes that those `wanted` are made of, in the order of the tape."""
        return sorted(self._last_uses(wanted, ()))

    def _last_uses(self, wanted: Sequence[int], given: Container[int]) -> dict[int, int]:
        """Return the nodes that those `wanted` are made of, where some are `given`, and which node uses each last."""
        last = {node: len(self.nodes) for node in wanted}
        for number in range(max(wanted, default=-1), -1, -1):
            if number in last and number not in given:
                for each in self.nodes[number].inputs:
                    last.setdefault(each, number)
        return last

    def forward(
        self,
        wanted: Sequence[int],
        leaves: Sequence[np.ndarray],
        p: int,
        given: Mapping[int, np.ndarray] = MappingProxyType({}),
    ) -> list[np.ndarray]:
        """Return the numbers mod p of the nodes `wanted`, from those of all leaves (see `leaf_numbers`).

        The numbers mod p of some nodes may be `given`, which are then not computed.
        """
        last, values = self._last_uses(wanted, given), {}
        for number in sorted(last):
            node = self.nodes[number]
            if number in given:
                values[number] = given[number]
                continue
            if node.function is None:
                numbers = leaves[node.leaf]
                values[number] = numbers if 1 << self.leaves[node.leaf].bits <= p else reduced(numbers, p)
                continue
            values[number] = node.function.forward(p, [values[k] for k in node.inputs], node.shape)
            for each in node.inputs:
                if last[each] == number:
                    values.pop(each, None)
        return [values[number] for number in wanted]

    def backward(self, wanted: Sequence[int], cotangents: Sequence[np.ndarray], p: int) -> list[np.ndarray]:
        """Return the cotangents mod p of all leaves, from those of the nodes `wanted`."""
        return self.backward_to(wanted, cotangents, p, ())[0]

    def backward_to(
        self, wanted: Sequence[int], cotangents: Sequence[np.ndarray], p: int, stops: Container[int]
    ) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
        """Return the cotangents mod p of all leaves and of the nodes `stops`, which take none to what they are made of.

        A node of `stops` that no node of `wanted` is made of has none.
        """
        pending, at_stops = _Sums(p), {}
        found: list[np.ndarray | None] = [None] * len(self.leaves)
        for number, cotangent in zip(wanted, cotangents, strict=True):
            pending.add(number, cotangent)
        for number in range(max(wanted, default=-1), -1, -1):
            cotangent, node = pending.taken(number), self.nodes[number]
            if cotangent is None:
                continue
            if number in stops:
                at_stops[number] = cotangent
                continue
            if node.function is None:
                found[node.leaf] = np.ascontiguousarray(cotangent)
                continue
            shapes = [self.nodes[k].shape for k in node.inputs]
            if isinstance(node.function, Take) and node.function.distinct:
                pending.add_at(node.inputs[0], node.function.index, cotangent, shapes[0])
                continue
            for each, part in zip(node.inputs, node.function.backward(p, cotangent, shapes), strict=True):
                pending.add(each, part)
        zeros = (np.broadcast_to(np.uint64(0), leaf.shape) for leaf in self.leaves)
        return [zero if part is None else part for zero, part in zip(zeros, found, strict=True)], at_stops


class _Sums:
    """Sums of cotangents mod p by the numbers of nodes.

    The first summand of a node may be the memory of another node's cotangent. All later ones are added in an array of
    this node alone.
    """

    def __init__(self, p: int):
        self._p, self._sums, self._own = p, {}, set()

    def taken(self, number: int) -> np.ndarray | None:
        """Return the sum of a node, which takes no more summands, or None where it has none."""
        return self._sums.pop(number, None)

    def add(self, number: int, part: np.ndarray) -> None:
        """Add the summand of a node."""
        total = self._sums.get(number)
        if total is None:
            self._sums[number] = part
            return
        self._sums[number] = added(total, part, self._p, total if number in self._own else None)
        self._own.add(number)

    def add_at(self, number: int, index: Any, part: np.ndarray, shape: Shape) -> None:
        """Add the summand of those elements of a node, of `shape`, that an index names, none of them twice."""
        if number not in self._own:
            total = self._sums.get(number)
            self._sums[number] = np.zeros(shape, np.uint64) if total is None else np.array(total, order="C")
            self._own.add(number)
        total = self._sums[number]
        total[index] = added(np.asarray(total[index]), part, self._p)
