"""Private and shared values with the methods of a tensor, so that one formula runs on them and on plain tensors.

A `PrivateTensor` is known to one owner. What this owner computes alone stays private and sends nothing. A `Secret` is
shared between the owners, and neither knows it. A product of private tensors of different owners is a `Secret`. Both
owners make the same calls in the same order, on tensors of the same shapes.

Each method calls a protocol of `engine`, `softmax`, `log_softmax`, `permutation` or `crypten_adapter`. What leaves an
owner, the error and the cost are stated in those files. A method without a docstring does what torch's method of that
name does. No method reveals a value; results are opened by the session.

Numbers are fixed point: a ring element (an integer mod 2^64) stands for itself divided by 2^bits, and every tensor has
its own `bits`. Products add the bits of their factors, and factors with more than OPERAND_BITS bits are truncated
first. A method of torch may be added. The numbers of bits below fit the ring together with docs/protocols/engine.md.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mpc_appraisal.mpc.limited import OF_PRIVATE, OF_SHARED, OF_TRANSPOSED, LimitedTensor, divisor_of, operand
from mpc_appraisal.mpc.ops import FINE_BITS
from mpc_appraisal.mpc.protocols.comparison import relu
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS
from mpc_appraisal.mpc.protocols.masked import private_product, shared_product
from mpc_appraisal.mpc.protocols.masked_matrices import Masked
from mpc_appraisal.mpc.protocols.permutation import apply
from mpc_appraisal.mpc.protocols.row_softmax import LOGIT_BITS, log_softmax_of, softmax_of
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, encode
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

OPERAND_BITS = 18  # A shared factor of a product has at most so many fractional bits.
# A private matrix of at most FINE_ELEMENTS elements, as weights are, enters products with FINE_BITS fractional bits.
FINE_ELEMENTS = 1 << 17
NUMBER_BITS = 40  # A single private number that is compared has so many fractional bits.
VALUE_BITS = 34  # A value that is multiplied by a public factor has at most so many fractional bits.


class Context:
    """What all tensors of one session have in common: this owner's engine and the public bound on logits."""

    def __init__(self, engine: Engine, logit_bound: float):
        self.engine, self.logit_bound = engine, logit_bound
        self.spread: float | None = None  # The largest difference of two logits where no bound is used: `row_softmax`.


class PrivateTensor(LimitedTensor):
    """A real tensor that one owner knows, and whose shape is public.

    Args:
        context: the session's engine and bound on logits.
        owner: the rank of the owner that knows the tensor, 0 or 1.
        value: the tensor (float) at its owner, None at the other owner.
        shape: the shape of the tensor, at both owners.
        name: what error messages call the tensor.
    """

    described, supported = "a private tensor", OF_PRIVATE

    def __init__(self, context: Context, owner: int, value: torch.Tensor | None, shape: torch.Size, name: str):
        self.context, self.owner, self.value, self.shape, self.name = context, owner, value, torch.Size(shape), name
        self._masked: dict[tuple[int, int], Masked] = {}  # by the fractional bits and the width of the ring
        self._rows_of: tuple[PrivateTensor, torch.Tensor] | None = None
        self._rings: dict[int, torch.Tensor] = {}
        self.beside: tuple[PrivateTensor, int, PrivateTensor] | None = None  # see `slopes`
        # The fractional bits in a product: this may exceed 16, since logits with more than 32 are truncated exactly.
        fine = self.shape.numel() <= FINE_ELEMENTS
        self.bits = FINE_BITS if fine else PRECISION_BITS

    @property
    def mine(self) -> bool:
        """Return whether the tensor belongs to the owner of this process."""
        return self.context.engine.me == self.owner

    def size(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)

    def _local(self, f, *others: PrivateTensor, shape=None) -> PrivateTensor:
        """Return the private tensor f(self, *others), which the owner of all these tensors computes alone."""
        value = f(self.value, *(o.value for o in others)) if self.mine else None
        public = self.shape if shape is None else shape  # a single number has the shape (), which is false
        return PrivateTensor(self.context, self.owner, value, value.shape if self.mine else public, self.name)

    def ring(self, bits: int, narrow: bool = False) -> torch.Tensor:
        """Return the value encoded once with `bits` fractional bits, at its owner; if `narrow`, it may be int32."""
        if bits not in self._rings:
            meta = self.value.is_meta
            self._rings[bits] = shape_tensor(self.shape) if meta else encode(self.value, self.name, bits, narrow)
        found = self._rings[bits]
        return found if narrow or found.dtype == torch.int64 else found.to(torch.int64)

    def masked(self, bits: int | None = None, ring: int = 64, along: bool = False) -> Masked:
        """Return the matrix with `bits` fractional bits, or its own, masked once for all calls (see `Engine.mask`)."""
        key = (self.bits if bits is None else bits, ring)
        if key not in self._masked and self._rows_of is not None:
            whole, index = self._rows_of  # The whole matrix is masked once, for all batches of its rows.
            self._masked[key] = self.context.engine.rows(whole.masked(*key), index)
        elif key not in self._masked:
            clear = self.ring(key[0], narrow=True) if self.mine else None
            self._masked[key] = self.context.engine.mask(self.owner, clear, self.shape, ring, along)
        return self._masked[key]

    def secret(self, bits: int = PRECISION_BITS) -> Secret:
        """Return shares of the value for sums: the whole value at its owner, zero at the other owner.

        These shares are not uniform, and must be sent only under masks (see `Engine.blinded`). The value is masked once
        if the engine is `affine`, since a replay knows it by that message. Otherwise no message is sent.
        """
        engine = self.context.engine
        masked = engine.in_sums(PrivateTensor.masked(self, bits, 64, along=True)) if engine.affine else None
        if not self.mine:
            zeros = shape_tensor(self.shape) if engine.dry else torch.zeros(self.shape, dtype=torch.int64)
            return Secret(self.context, zeros, bits)
        return Secret(self.context, self.ring(bits) if masked is None else masked.clear.values.to(torch.int64), bits)

    # -- what the owner computes alone, and what needs both owners -------------------------------------------------
    def t(self) -> Transposed | PrivateTensor:
        """Return the transposed matrix, which uses this matrix's mask in products."""
        return Transposed(self)

    def matmul(self, other: PrivateTensor | Secret) -> PrivateTensor | Secret:
        """Return the product (n, d) (d, k) -> (n, k): private if `other` is the same owner's, shared otherwise."""
        other = operand(self, "matmul", other)
        if isinstance(other, PrivateTensor) and other.owner == self.owner:
            shape = torch.Size((self.shape[0], other.shape[1]))
            return self._local(lambda a, b: a.to(torch.float64).matmul(b.to(torch.float64)), other, shape=shape)
        return self._product(other, False)

    def _product(self, other: PrivateTensor | Secret, transposed: bool) -> Secret:
        """Return self @ other, or self' @ other if `transposed`; `other` is the other owner's, or shared."""
        engine = self.context.engine
        if isinstance(other, PrivateTensor):
            share = engine.product(self.masked(), other.masked(ring=64), transposed)
        else:
            other = other.operand()
            share = private_product(engine, self.masked(), other.share, transposed)
        return Secret(self.context, share, self.bits + other.bits)

    def __getitem__(self, index: torch.Tensor) -> PrivateTensor:
        rows = self._local(lambda a: a[index], shape=torch.Size((len(index), *self.shape[1:])))
        if len(self.shape) == 2:
            rows._rows_of, rows.bits = (self, index), self.bits
        return rows

    def _arithmetic(self, other: Any, f, secret) -> PrivateTensor | Secret:
        """Return f(self, other), computed by the owner alone, if it knows both operands, else secret(self, other)."""
        if isinstance(other, (int, float)):
            return self._local(lambda a: f(a, other))
        if isinstance(other, Transposed):
            other = other.plain()
        if isinstance(other, PrivateTensor) and other.owner == self.owner:
            return self._local(lambda a, b: f(a.to(torch.float64), b.to(torch.float64)), other)
        return secret(self.secret(), other)

    def __add__(self, other):
        return self._arithmetic(other, lambda a, b: a + b, lambda a, b: a + b)

    def __sub__(self, other):
        return self._arithmetic(other, lambda a, b: a - b, lambda a, b: a - b)

    def __mul__(self, other):
        return self._arithmetic(other, lambda a, b: a * b, lambda a, b: a * b)

    def __truediv__(self, other: float):
        divisor_of(self, other)
        return self._local(lambda a: a / other)

    def applied(self, *names: str) -> list[PrivateTensor]:
        """Return the functions `names` of this tensor, as `Secret.applied` does, but computed by the owner alone."""
        return [self._local(lambda a, name=name: FUNCTIONS[name].compute(a.to(torch.float64))) for name in names]

    def square(self) -> PrivateTensor:
        return self._local(lambda a: a.to(torch.float64).square())

    def softmax(self, dim: int) -> PrivateTensor:
        return self._local(lambda a: a.softmax(dim))

    def sigmoid(self) -> PrivateTensor:
        return self._local(lambda a: a.sigmoid())

    def log_softmax(self, dim: int) -> PrivateTensor:
        return self._local(lambda a: a.log_softmax(dim))

    def sum(self, *dim: int, keepdim: bool = False) -> PrivateTensor:
        shape = shape_tensor(self.shape).sum(*dim, **({"keepdim": keepdim} if dim else {})).shape
        return self._local(lambda a: a.sum(*dim, **({"keepdim": keepdim} if dim else {})), shape=shape)


class Transposed(LimitedTensor):
    """The transpose x' of a private matrix x, which enters a product under the mask of x itself."""

    described, supported, instead = OF_TRANSPOSED

    def __init__(self, of: PrivateTensor):
        self.of, self.shape = of, torch.Size(reversed(of.shape))

    def t(self) -> PrivateTensor:
        return self.of

    def plain(self) -> PrivateTensor:
        """Return the transpose as a private tensor of its own, with its own mask if it enters a product."""
        return self.of._local(lambda a: a.t(), shape=self.shape)

    def __add__(self, other):
        return self.plain() + other

    def __sub__(self, other):
        return self.plain() - other

    def __mul__(self, other):
        return self.plain() * other

    def __truediv__(self, divisor: float) -> PrivateTensor:
        return self.plain() / divisor

    def matmul(self, other: PrivateTensor | Secret) -> PrivateTensor | Secret:
        """Return x' @ other, (d, n) (n, k) -> (d, k): private if `other` is the same owner's, shared otherwise."""
        other = operand(self, "matmul", other)
        x = self.of
        if isinstance(other, PrivateTensor) and other.owner == x.owner:
            shape = torch.Size((self.shape[0], other.shape[1]))
            return x._local(lambda a, b: a.to(torch.float64).t().matmul(b.to(torch.float64)), other, shape=shape)
        return x._product(other, True)


class Secret(LimitedTensor):
    """A shared real tensor.

    Args:
        context: the session's engine and bound on logits.
        share: this owner's additive share (int64).
        bits: the number of fractional bits, which both owners know.
    """

    described, supported = "a shared tensor", OF_SHARED

    def __init__(self, context: Context, share: torch.Tensor, bits: int):
        self.context, self.share, self.bits = context, share, bits
        self.cut = 0  # So many bits are cut before the value is opened, which lowers the largest plausible value.
        self.kept = OPERAND_BITS  # As a factor of a product the value has at most so many fractional bits.

    @property
    def shape(self) -> torch.Size:
        return self.share.shape

    size, dim = PrivateTensor.size, PrivateTensor.dim

    @property
    def _engine(self) -> Engine:
        return self.context.engine

    def _with(self, share: torch.Tensor, bits: int | None = None) -> Secret:
        return Secret(self.context, share, self.bits if bits is None else bits)

    def to_bits(self, bits: int) -> Secret:
        """Return the value with `bits` fractional bits, within a unit in the last place; one round if bits are cut."""
        return self if bits == self.bits else self._with(self._engine.truncate(self.share, self.bits - bits), bits)

    def operand(self) -> Secret:
        """Return the value as a factor of a product, with at most `kept` fractional bits."""
        return self if self.bits <= self.kept else self.to_bits(self.kept)

    def factor(self, most: int = FINE_BITS) -> Secret:
        """Return the value cut once for several products, to at most `most` fractional bits, which they keep."""
        bits = min(self.bits, most)
        found = self._with(self.to_bits(bits).share, bits)
        found.kept = most
        return found

    # -- linear ----------------------------------------------------------------------------------------------------
    def t(self) -> Secret:
        return self._with(self.share.t())

    def __getitem__(self, index) -> Secret:
        return self._with(self.share[index])

    def reshape(self, *shape: int) -> Secret:
        return self._with(self.share.reshape(*shape))

    def sum(self, *dim: int, keepdim: bool = False) -> Secret:
        return self._with(self.share.sum(*dim, **({"keepdim": keepdim} if dim else {})))

    def _aligned(self, other: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return shares of self and of `other` with one number of fractional bits, and this number."""
        if isinstance(other, (int, float)):
            value = torch.full_like(self.share, round(other * 2.0**self.bits))
            return self.share, self._engine.public_share(value), self.bits
        other = operand(self, "+ or -", other)
        other = other.secret() if isinstance(other, PrivateTensor) else other
        bits = max(self.bits, other.bits)
        return self.share << (bits - self.bits), other.share << (bits - other.bits), bits

    def __add__(self, other) -> Secret:
        a, b, bits = self._aligned(other)
        return self._with(a + b, bits)

    def __sub__(self, other) -> Secret:
        a, b, bits = self._aligned(other)
        return self._with(a - b, bits)

    def __truediv__(self, divisor: float) -> Secret:
        power = math.log2(divisor) if divisor_of(self, divisor) > 0 else 0.5
        if power.is_integer():
            return self._with(self.share, self.bits + int(power))  # This is exact, since only the binary point moves.
        return self * (1.0 / divisor)

    # -- products --------------------------------------------------------------------------------------------------
    def __mul__(self, other) -> Secret:
        if isinstance(other, (int, float)):
            return self._times_public(float(other))
        other = operand(self, "*", other)
        a, b = self.operand(), (other.secret() if isinstance(other, PrivateTensor) else other).operand()
        return self._with(self._engine.multiply(a.share, b.share), a.bits + b.bits)

    def _times_public(self, factor: float) -> Secret:
        """Return the value times a public factor, rounded to 16 significant bits unless it is a power of two."""
        if factor == 0.0:
            return self._with(self.share * 0)
        mantissa, exponent = math.frexp(factor)
        if abs(mantissa) == 0.5:
            return self._with(self.share * (1 if factor > 0 else -1), self.bits + 1 - exponent)
        value = self if self.bits <= VALUE_BITS else self.to_bits(VALUE_BITS - 8)
        m = round(mantissa * 2.0**PRECISION_BITS)
        return self._with(value.share * m, value.bits + PRECISION_BITS - exponent).to_bits(value.bits)

    def square(self) -> Secret:
        """Return the square of each element, with twice the operand's fractional bits; one round."""
        a = self.operand()
        return self._with(self._engine.square(a.share), 2 * a.bits)

    def matmul(self, other: PrivateTensor | Secret) -> Secret:
        """Return the product (k, n) (n, d) -> (k, d): (other' self')' if `other` is private, else opened."""
        if isinstance(other, Transposed):
            return other.of.matmul(self.t()).t()
        if isinstance(other, PrivateTensor):
            return other.t().matmul(self.t()).t()
        a, b = self.operand(), operand(self, "matmul", other).operand()
        return self._with(shared_product(self._engine, a.share, b.share), a.bits + b.bits)

    # -- by CrypTen ------------------------------------------------------------------------------------------------
    def crypten(self):
        """Return the same value as an MPCTensor that computes over this engine; see `crypten_adapter`."""
        from mpc_appraisal.mpc.protocols import crypten_adapter

        return crypten_adapter.to_crypten(self._engine, self.to_bits(PRECISION_BITS).share)

    def from_crypten(self, tensor) -> Secret:
        """Return the MPCTensor `tensor` of this session as a `Secret`."""
        from mpc_appraisal.mpc.protocols import crypten_adapter

        return self._with(*crypten_adapter.from_crypten(tensor))

    def relu(self) -> Secret:
        """Return max(z, 0) with at most 16 fractional bits, by a comparison, or by the helper if there is one."""
        if self._engine.helper:
            return self.applied("relu")[0]
        cut = max(0, self.bits - PRECISION_BITS)
        value, positive = relu(self._engine, self.share, cut)
        positive.forget(self._engine)
        return self._with(value, self.bits - cut)

    def sigmoid(self) -> Secret:
        """Return 1 / (1 + e^-z), as the softmax of (z / 2, -z / 2), or by the helper if the engine has a helper.

        |z / 2| has to stay within the session's bound on logits unless there is a helper.
        """
        if self._engine.helper:
            return self.applied("sigmoid")[0]
        pair = torch.stack([self.share.flatten(), -self.share.flatten()], dim=1)  # `bits` + 1: z / 2 and -z / 2
        p, bits = softmax_of(self.context, pair, self.bits + 1)
        return self._with(p[:, 0].reshape(self.shape), bits)

    def log_sigmoid(self) -> Secret:
        """Return ln(1 / (1 + e^-z)), as the log-softmax of (z / 2, -z / 2); a bound or a helper as in `sigmoid`."""
        pair = self._with(torch.stack([self.share.flatten(), -self.share.flatten()], dim=1), self.bits + 1)
        return pair.log_softmax(1)[:, 0].reshape(self.shape)

    # -- not linear ------------------------------------------------------------------------------------------------
    def applied(self, *names: str) -> list[Secret]:
        """Return the functions `names` of this value, which is sent once, permuted; see `permutation.apply`."""
        value = self.to_bits(min(self.bits, LOGIT_BITS))  # The helper refuses values that leave it little room.
        return [self._with(*each) for each in apply(self._engine, value.share, value.bits, names)]

    def softmax(self, dim: int) -> Secret:
        """Return the probabilities of each row of (n, C); `dim` is ignored, since it is always 1."""
        if self._engine.helper:
            return self.applied("softmax")[0]
        return self._with(*softmax_of(self.context, self.share, self.bits))

    def log_softmax(self, dim: int) -> Secret:
        """Return the logarithms of the probabilities of each row of (n, C); `dim` is ignored, since it is always 1."""
        if self._engine.helper:
            return self.applied("log_softmax")[0]
        return self._with(*log_softmax_of(self.context, self.share, self.bits))
