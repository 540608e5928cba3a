"""Shares as linear forms of the numbers that the dealer has dealt, for which the engine's own code computes.

    share = constant + sum over leaves of (coefficients . leaf)   mod 2^modulus

A protocol's formula runs on shares, int64 tensors of torch. Run on `LinearForm`s in place of the prover's shares, with
the recorded messages as public numbers, it gives each later share as a form. The constant is an int64 tensor mod 2^64,
and depends on public numbers alone. The leaves are the tensors that the dealer has dealt to the prover, whose numbers
are whole numbers of so many bits. The linear part is computed over the integers: every public factor is taken as the
signed int64 that it is, and `largest` bounds the part's size. So a claim "this message is this form mod 2^64" is a
claim about integers, of which `forward` and `backward` (see `tape`) compute values and cotangents modulo primes.

A form has the operations of a tensor that are linear, and that the protocols use; torch's functions take it too, by
`__torch_function__`. It says that it is a meta tensor (`is_meta`), since it has no numbers: the engine then computes by
its formulas in place of its compiled loops. Whatever is not linear raises AppraisalError with the operation's name. An
operation may be added where it is linear and exact on integers. Where an operation keeps only the low bits of a share,
the form stays as it is, and its `modulus` says up to which power of two it holds; no claim may be wider. The tape keeps
public factors without a copy, so that no caller may change them in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity import tape as functions
from mpc_appraisal.mpc.integrity.public_factors import array_index, bounds_of, filled_like, size_of
from mpc_appraisal.mpc.integrity.refusals import Linear, public, refuse
from mpc_appraisal.mpc.integrity.tape import Tape
from mpc_appraisal.mpc.ring.matrix import ring_product
from mpc_appraisal.mpc.ring.packed_matrix import PackedMatrix
from mpc_appraisal.mpc.ring.shape_tensor import broadcast

WORD = 64


def leaf(tape: Tape, shape: Sequence[int], bits: int = WORD) -> LinearForm:
    """Return the form of the next tensor that the dealer deals to the prover, of numbers in [0, 2^bits)."""
    return LinearForm(tape, tape.add_leaf(shape, bits), None, WORD, (1 << bits) - 1)


def forward(
    forms: Sequence[LinearForm], leaf_values: Sequence[torch.Tensor], primes: Sequence[int]
) -> list[list[np.ndarray]]:
    """Return the linear parts of the forms modulo each prime: for every prime a list of uint64 arrays.

    Args:
        forms: forms of one tape.
        leaf_values: what was dealt, int64, in the order of the leaves; a leaf of b bits is its low b bits, unsigned.
        primes: primes below 2^31.
    """
    tape, nodes = forms[0].tape, [form.node for form in forms]
    leaves = tape.leaf_numbers([values.numpy() for values in leaf_values])
    return [tape.forward(nodes, leaves, p) for p in primes]


def backward(forms: Sequence[LinearForm], cotangents: Sequence[np.ndarray], p: int) -> list[np.ndarray]:
    """Return the sum of cotangents times coefficients, for every leaf of the tape, as uint64 arrays mod p.

    Args:
        forms: forms of one tape.
        cotangents: for every form the factors mod p of its elements, a uint64 array of its shape.
        p: a prime below 2^31.
    """
    shapes = [tuple(form.shape) for form in forms], [cotangent.shape for cotangent in cotangents]
    if shapes[0] != shapes[1]:
        raise AppraisalError(f"integrity: got cotangents of shapes {shapes[1]!s:.80}; expected {shapes[0]!s:.80}")
    return forms[0].tape.backward([form.node for form in forms], cotangents, p)


class LinearForm(Linear):
    """A share that is linear in what was dealt, of the shape of a tensor.

    Args:
        tape: the tape of the program.
        node: the number of the tape's node that computes the linear part, over the integers.
        constant: the public part, int64 mod 2^64 of the node's shape; None for zeros.
        modulus: the share equals the form mod 2^modulus.
        largest: a bound on the size of the linear part, as an integer.
    """

    is_meta, is_sparse, requires_grad = True, False, False
    dtype, device = torch.int64, torch.device("cpu")

    def __init__(self, tape: Tape, node: int, constant: torch.Tensor | None, modulus: int, largest: int):
        self.tape, self.node, self.modulus, self.largest = tape, node, modulus, largest
        self._constant, self.shape = constant, torch.Size(tape.nodes[node].shape)

    # -- facts -----------------------------------------------------------------------------------------------------
    @property
    def constant(self) -> torch.Tensor:
        """Return the public part, int64 mod 2^64."""
        return torch.zeros(self.shape, dtype=torch.int64) if self._constant is None else self._constant

    def move_to(self, leaf: LinearForm) -> None:
        """Make the linear part that of `leaf`, which may be of another tape, for whoever holds this form."""
        self.tape, self.node, self.largest = leaf.tape, leaf.node, leaf.largest

    def require_modulus(self, bits: int) -> None:
        """Raise AppraisalError if the form does not hold mod 2^bits."""
        if bits > self.modulus:
            raise AppraisalError(f"integrity: got a claim mod 2^{bits}; expected one mod 2^{self.modulus} at most")

    def dim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return self.shape.numel()

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    # -- shapes ----------------------------------------------------------------------------------------------------
    def _moved(
        self, function: functions.Function, shape: Sequence[int], constant: Callable, largest: int | None = None
    ) -> LinearForm:
        """Return the form of `function` of the linear part, and of `constant` of the public part."""
        node, found = self.tape.add(function, [self.node], shape), self._constant
        found = None if found is None else constant(found)
        return LinearForm(self.tape, node, found, self.modulus, self.largest if largest is None else largest)

    def reshape(self, *shape: Any) -> LinearForm:
        shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if -1 in shape:
            rest = -math.prod(shape)
            shape = tuple(self.numel() // rest if n == -1 else n for n in shape)
        if math.prod(shape) != self.numel():
            raise AppraisalError(f"integrity: got the shape {shape} for {self.numel()} numbers; expected as many")
        if shape == tuple(self.shape):
            return self
        return self._moved(functions.Reshape(), shape, lambda c: c.reshape(shape))

    def flatten(self) -> LinearForm:
        return self.reshape(-1)

    def contiguous(self) -> LinearForm:
        return self

    def is_contiguous(self) -> bool:
        return False

    def t(self) -> LinearForm:
        if self.dim() < 2:
            return self
        if self.dim() > 2:
            raise refuse(f"t of {self.dim()} dimensions")
        return self._moved(functions.Transpose(), self.shape[::-1], torch.t)

    def __getitem__(self, index: Any) -> LinearForm:
        places = array_index(index)
        found = np.broadcast_to(np.int8(0), tuple(self.shape))[places].shape  # IndexError where it is out of range
        parts = places if isinstance(places, tuple) else (places,)
        basic = all(isinstance(each, (int, slice)) or each is None or each is Ellipsis for each in parts)
        return self._moved(functions.Take(places, basic), found, lambda c: c[index])

    def __iter__(self) -> Iterator[LinearForm]:
        return (self[k] for k in range(self.shape[0]))

    def unbind(self, dim: int = 0) -> tuple[LinearForm, ...]:
        before = (slice(None),) * (dim % self.dim())
        return tuple(self[(*before, k)] for k in range(self.shape[dim]))

    def diagonal(self) -> LinearForm:
        if self.dim() != 2:
            raise refuse(f"diagonal of {self.dim()} dimensions")
        places = torch.arange(min(self.shape))
        return self[places, places]

    def sum(self, *dims: Any, dim: Any = None, keepdim: bool = False) -> LinearForm:
        dims = dims if dims else (dim if isinstance(dim, (tuple, list)) else () if dim is None else (dim,))
        dims = tuple(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else tuple(dims)
        axes = tuple(sorted(d % self.dim() for d in dims)) if dims else tuple(range(self.dim()))
        shape = tuple(1 if d in axes else n for d, n in enumerate(self.shape) if keepdim or d not in axes)
        count = math.prod(self.shape[d] for d in axes)
        return self._moved(
            functions.Sum(axes), shape, lambda c: c.sum(axes).reshape(shape) if axes else c, self.largest * count
        )

    def to(self, dtype: torch.dtype) -> LinearForm:
        """Return the form itself for int64, and what holds mod 2^32 for int32."""
        if dtype not in (torch.int64, torch.int32):
            raise refuse(f"to {dtype}")
        return self if dtype == torch.int64 else self.low_bits(32)

    # -- sums and public factors -----------------------------------------------------------------------------------
    def __add__(self, other: Any) -> LinearForm:
        if isinstance(other, LinearForm):
            self._same_tape(other)
            shape = broadcast(self.shape, other.shape)
            node = self.tape.add(functions.Add(), [self.node, other.node], shape)
            if self._constant is None and other._constant is None:
                constant = None
            else:
                constant = torch.broadcast_to(self._plus(other), shape)
            modulus = min(self.modulus, other.modulus)
            return LinearForm(self.tape, node, constant, modulus, self.largest + other.largest)
        value = public(other, "+")
        if isinstance(value, int):
            value = torch.full((), value, dtype=torch.int64)
        shape = broadcast(self.shape, value.shape)
        constant = torch.broadcast_to(value if self._constant is None else self._constant + value, shape)
        form = self if tuple(shape) == tuple(self.shape) else self._widened(shape)
        return LinearForm(self.tape, form.node, constant, self.modulus, self.largest)

    def _plus(self, other: LinearForm) -> torch.Tensor:
        if self._constant is None or other._constant is None:
            return other._constant if self._constant is None else self._constant
        return self._constant + other._constant

    def _widened(self, shape: Sequence[int]) -> LinearForm:
        """Return the form broadcast to `shape`."""
        zero = self.tape.add(functions.Zero(), [], shape)
        node = self.tape.add(functions.Add(), [self.node, zero], shape)
        constant = None if self._constant is None else torch.broadcast_to(self._constant, tuple(shape))
        return LinearForm(self.tape, node, constant, self.modulus, self.largest)

    def _same_tape(self, other: LinearForm) -> None:
        if other.tape is not self.tape:
            raise AppraisalError(
                "integrity: got shares of two programs or sections; expected shares made since the last opening"
            )

    def __neg__(self) -> LinearForm:
        return self._moved(functions.Scale(-1), self.shape, torch.neg)

    def __sub__(self, other: Any) -> LinearForm:
        return self + -(other if isinstance(other, LinearForm) else public(other, "-"))

    def __rsub__(self, other: Any) -> LinearForm:
        return -self + other

    def __mul__(self, other: Any) -> LinearForm:
        if isinstance(other, LinearForm):
            raise refuse("a product of two shares")
        value = public(other, "*")
        if isinstance(value, int):
            return self._moved(functions.Scale(value), self.shape, lambda c: c * value, self.largest * abs(value))
        shape = broadcast(self.shape, value.shape)
        largest = self.largest * size_of(value)
        return self._moved(functions.Times(value.numpy()), shape, lambda c: c * value, largest)

    def __lshift__(self, bits: int) -> LinearForm:
        if not isinstance(bits, int) or not 0 <= bits < WORD:
            raise refuse(f"<< by {bits!s:.40}")
        if bits == 0:
            return self
        found = self._moved(functions.Scale(1 << bits), self.shape, lambda c: c << bits, self.largest << bits)
        found.modulus = min(WORD, self.modulus + bits)
        return found

    def low_bits(self, bits: int) -> LinearForm:
        """Return what holds for the share mod 2^bits, read as a number in [0, 2^bits).

        Of a leaf these are a narrower leaf, which is exact. Any other form stays as it is, and holds mod 2^bits.
        """
        node = self.tape.nodes[self.node]
        if node.leaf is not None and self._constant is None:
            of = self.tape.leaves[node.leaf]
            if of.bits <= bits:
                return self
            number = self.tape.add_leaf(self.shape, bits, node.leaf)
            return LinearForm(self.tape, number, None, self.modulus, (1 << bits) - 1)
        return LinearForm(self.tape, self.node, self._constant, min(self.modulus, bits), self.largest)

    def __and__(self, ones: Any) -> LinearForm:
        if not isinstance(ones, int) or ones <= 0 or ones & (ones + 1):
            raise refuse(f"& with {ones!s:.40}")
        return self.low_bits(ones.bit_length())

    def __matmul__(self, other: Any) -> LinearForm:
        return _matrix_product(self, other)

    def __rmatmul__(self, other: Any) -> LinearForm:
        return _matrix_product(other, self)

    def from_left(self, matrix: PackedMatrix, transposed: bool) -> LinearForm:
        """Return matrix @ form for a public matrix that stays packed, or matrix' @ form if `transposed`."""
        factors, largest = matrix.pieces().T if transposed else matrix.pieces(), matrix.largest
        if self.dim() != 2 or factors.shape[1] != self.shape[0]:
            raise refuse(f"a matrix product of {tuple(factors.shape)} and {tuple(self.shape)}")
        return self._moved(
            functions.Matmul(factors, True, (0, largest)),
            (factors.shape[0], self.shape[1]),
            lambda c: matrix.product(c, transposed),
            self.largest * largest * self.shape[0],
        )

    __radd__, __rmul__, __rand__, add, sub, mul, neg, matmul = (
        __add__, __mul__, __and__, __add__, __sub__, __mul__, __neg__, __matmul__,
    )  # fmt: skip

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        handler = TORCH.get(func.__name__)
        if handler is None or "out" in (kwargs or {}):
            raise refuse(f"torch's {func.__name__}")
        return handler(*args, **(kwargs or {}))


def _matrix_product(left: Any, right: Any) -> LinearForm:
    """Return left @ right of two dimensions, one of which is public."""
    if isinstance(left, LinearForm) and isinstance(right, LinearForm):
        raise refuse("a product of two shares")
    form, other = (left, right) if isinstance(left, LinearForm) else (right, left)
    if not isinstance(other, torch.Tensor) or not form.dim() == other.dim() == 2 or left.shape[1] != right.shape[0]:
        raise refuse(f"a matrix product of {tuple(left.shape)} and {getattr(right, 'shape', right)!s:.40}")
    value, inner, shape = public(other, "@"), left.shape[1], (left.shape[0], right.shape[1])
    bounds = bounds_of(value)
    function = functions.Matmul(value.numpy(), form is right, bounds)
    found = form._moved(
        function,
        shape,
        lambda c: ring_product(value, c) if form is right else ring_product(c, value),
        form.largest * max(bounds[1], -bounds[0]) * inner,
    )
    return found.low_bits(32) if other.dtype == torch.int32 else found  # The engine multiplies these mod 2^32.


def _joined(parts: Sequence[Any], dim: int = 0) -> LinearForm:
    """Return torch.cat(parts, dim) of forms and public tensors."""
    (first, *_) = (part for part in parts if isinstance(part, LinearForm))
    parts = [part if isinstance(part, LinearForm) else _of_public(first.tape, part) for part in parts]
    for part in parts:
        first._same_tape(part)
    shape, dim = list(first.shape), dim % first.dim()
    if any(part.dim() != len(shape) for part in parts):
        raise refuse("cat of different numbers of dimensions")
    if len({(*part.shape[:dim], *part.shape[dim + 1 :]) for part in parts}) > 1:
        raise refuse("cat of shapes that do not go together")
    shape[dim] = sum(part.shape[dim] for part in parts)
    node = first.tape.add(functions.Join(dim), [part.node for part in parts], shape)
    known = any(part._constant is not None for part in parts)
    constant = torch.cat([part.constant for part in parts], dim) if known else None
    return LinearForm(
        first.tape, node, constant, min(part.modulus for part in parts), max(part.largest for part in parts)
    )


def _of_public(tape: Tape, value: torch.Tensor) -> LinearForm:
    value = public(value, "cat")
    return LinearForm(tape, tape.add(functions.Zero(), [], value.shape), value, WORD, 0)


def _stacked(parts: Sequence[Any], dim: int = 0) -> LinearForm:
    """Return torch.stack(parts, dim) of forms and public tensors."""
    shape = list(parts[0].shape)
    shape.insert(dim % (len(shape) + 1), 1)
    return _joined([part.reshape(shape) for part in parts], dim)


def _chosen(where: torch.Tensor, a: Any, b: Any) -> LinearForm:
    """Return torch.where(where, a, b) for a public condition."""
    if isinstance(where, LinearForm):
        raise refuse("a choice by a share")
    where = where.to(torch.int64)
    return a * where + b * (1 - where)


def _either(form_first: Callable, form_last: Callable) -> Callable:
    """Return the operation of two operands, of which one is a form."""
    return lambda a, b: form_first(a, b) if isinstance(a, LinearForm) else form_last(b, a)


_add, _sub = _either(LinearForm.__add__, LinearForm.__add__), _either(LinearForm.__sub__, LinearForm.__rsub__)
_mul = _either(LinearForm.__mul__, LinearForm.__mul__)
# torch's functions by their names: an operator of a tensor with a form comes here by the name of its method. What
# changes a tensor in place is refused, since a tensor cannot become a form.
TORCH: dict[str, Callable] = {
    **dict.fromkeys(("add", "__add__", "__radd__"), _add),
    **dict.fromkeys(("sub", "__sub__"), _sub),
    **dict.fromkeys(("rsub", "__rsub__"), lambda a, b: _sub(b, a)),
    **dict.fromkeys(("mul", "__mul__", "__rmul__"), _mul),
    **dict.fromkeys(("matmul", "__matmul__", "mm"), _matrix_product),
    "__rmatmul__": lambda a, b: _matrix_product(b, a),
    "neg": LinearForm.__neg__,
    "sum": LinearForm.sum,
    "t": LinearForm.t,
    "reshape": LinearForm.reshape,
    "flatten": LinearForm.flatten,
    "diagonal": LinearForm.diagonal,
    "unbind": LinearForm.unbind,
    "clone": LinearForm.contiguous,
    "cat": _joined,
    "stack": _stacked,
    "where": _chosen,
    "zeros_like": filled_like(0),
    "ones_like": filled_like(1),
    "full_like": filled_like(None),
}
