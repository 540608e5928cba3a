"""Private and shared values with the methods of a tensor, so that one formula runs on them and on plain tensors.

A `Private` is known to one owner; what that owner can compute alone stays private and costs nothing. A `Secret` is
shared: nobody knows it. A product of privates of different owners is a `Secret`, at the cost of one exchange.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.engine import Engine, Masked
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS
from mpc_appraisal.mpc.protocols.log_softmax import log_softmax
from mpc_appraisal.mpc.protocols.permutation import apply
from mpc_appraisal.mpc.protocols.softmax import BITS, softmax
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, encode

OPERAND_BITS = 18  # fractional bits of an operand of a product, at most
FINE_BITS = 20  # of a small private matrix in a product: the rounding of weights is the same in every row and adds up
FINE_ELEMENTS = 1 << 17
NUMBER_BITS = 40  # of a single private number that is compared
HELD_BITS = 34  # of a value between products, at most, unless it was divided by a power of two


class Context:
    """What the tensors of one session share: the engine and the public bound on logits."""

    def __init__(self, engine: Engine, logit_bound: float):
        self.engine, self.logit_bound = engine, logit_bound


class PrivateTensor:
    """A real tensor that `owner` knows: `value` there (float), None at the other owner. Its shape is public."""

    def __init__(self, context: Context, owner: int, value: torch.Tensor | None, shape: torch.Size, name: str):
        self.context, self.owner, self.value, self.shape, self.name = context, owner, value, torch.Size(shape), name
        self._masked: Masked | None = None
        self._rows_of: tuple[PrivateTensor, torch.Tensor] | None = None
        self._rings: dict[int, torch.Tensor] = {}
        # Fractional bits in a product. Logits of more than 32 are truncated exactly: only then it may be more than 16.
        fine = self.shape.numel() <= FINE_ELEMENTS
        self.bits = FINE_BITS if fine else PRECISION_BITS

    @property
    def mine(self) -> bool:
        return self.context.engine.me == self.owner

    def size(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)

    def _local(self, f, *others: PrivateTensor, shape=None) -> PrivateTensor:
        """Something that the owner computes alone."""
        value = f(self.value, *(o.value for o in others)) if self.mine else None
        return PrivateTensor(
            self.context, self.owner, value, value.shape if self.mine else shape or self.shape, self.name
        )

    def ring(self, bits: int) -> torch.Tensor:
        """At its owner, the value with `bits` fractional bits."""
        if bits not in self._rings:
            self._rings[bits] = encode(self.value, self.name, bits) if not self.value.is_meta else self._zeros()
        return self._rings[bits]

    def masked(self) -> Masked:
        """Masked once, kept for the session."""
        if self._masked is None and self._rows_of is not None:
            whole, index = self._rows_of  # the mask travels once, for all batches
            self._masked = self.context.engine.rows(whole.masked(), index)
        elif self._masked is None:
            clear = self.ring(self.bits) if self.mine else None
            self._masked = self.context.engine.mask(self.owner, clear, self.shape)
        return self._masked

    def secret(self, bits: int = PRECISION_BITS) -> Secret:
        """As shares, for additions: the whole value at its owner, zero at the other. Openings are masked later."""
        return Secret(self.context, self.ring(bits) if self.mine else self._zeros(), bits)

    def _zeros(self) -> torch.Tensor:
        device = "meta" if self.context.engine.dry else "cpu"
        return torch.zeros(self.shape, dtype=torch.int64, device=device)

    # -- what the owner does alone, and what needs both ------------------------------------------------------------
    def t(self) -> Transposed | PrivateTensor:
        return Transposed(self)

    def matmul(self, other: PrivateTensor | Secret) -> PrivateTensor | Secret:
        """(n, d) (d, k) -> (n, k)."""
        shape = torch.Size((self.shape[0], other.shape[1]))
        if isinstance(other, PrivateTensor):
            if other.owner == self.owner:
                return self._local(lambda a, b: a.to(torch.float64).matmul(b.to(torch.float64)), other, shape=shape)
            share = self.context.engine.product(self.masked(), other.masked())
            return Secret(self.context, share, self.bits + other.bits)
        other = other.operand()
        share = self.context.engine.product_with_shared(self.masked(), other.share)
        return Secret(self.context, share, self.bits + other.bits)

    def __getitem__(self, index: torch.Tensor) -> PrivateTensor:
        rows = self._local(lambda a: a[index], shape=torch.Size((len(index), *self.shape[1:])))
        if len(self.shape) == 2:
            rows._rows_of, rows.bits = (self, index), self.bits
        return rows

    def _arithmetic(self, other: Any, f, secret) -> PrivateTensor | Secret:
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
        return self._local(lambda a: a / other)

    def applied(self, *names: str) -> list[PrivateTensor]:
        """As `Secret.applied`, by the owner alone."""
        return [self._local(lambda a, name=name: FUNCTIONS[name].compute(a.to(torch.float64))) for name in names]

    def square(self) -> PrivateTensor:
        return self._local(lambda a: a.to(torch.float64).square())

    def softmax(self, dim: int) -> PrivateTensor:
        return self._local(lambda a: a.softmax(dim))

    def log_softmax(self, dim: int) -> PrivateTensor:
        return self._local(lambda a: a.log_softmax(dim))

    def sum(self, *dim: int, keepdim: bool = False) -> PrivateTensor:
        shape = torch.empty(self.shape, device="meta").sum(*dim, **({"keepdim": keepdim} if dim else {})).shape
        return self._local(lambda a: a.sum(*dim, **({"keepdim": keepdim} if dim else {})), shape=shape)


class Transposed:
    """x.t() of a private x, on its way into a product."""

    def __init__(self, of: PrivateTensor):
        self.of, self.shape = of, torch.Size(reversed(of.shape))

    def t(self) -> PrivateTensor:
        return self.of

    def plain(self) -> PrivateTensor:
        """As a private value of its own, masked anew if it enters a product."""
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
        """x' other: (d, n) (n, k) -> (d, k)."""
        x, shape = self.of, torch.Size((self.shape[0], other.shape[1]))
        if isinstance(other, PrivateTensor):
            if other.owner == x.owner:
                return x._local(lambda a, b: a.to(torch.float64).t().matmul(b.to(torch.float64)), other, shape=shape)
            share = x.context.engine.product(x.masked(), other.masked(), transposed=True)
            return Secret(x.context, share, x.bits + other.bits)
        other = other.operand()
        share = x.context.engine.product_with_shared(x.masked(), other.share, transposed=True)
        return Secret(x.context, share, x.bits + other.bits)


class Secret:
    """Additive shares: this owner's `share` (int64), with `bits` fractional bits."""

    def __init__(self, context: Context, share: torch.Tensor, bits: int):
        self.context, self.share, self.bits = context, share, bits
        self.cut = 0  # bits taken off it before it is opened: by so much smaller is what the ring can have held

    @property
    def shape(self) -> torch.Size:
        return self.share.shape

    def size(self, dim: int | None = None):
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.share.dim()

    @property
    def _engine(self) -> Engine:
        return self.context.engine

    def _with(self, share: torch.Tensor, bits: int | None = None) -> Secret:
        return Secret(self.context, share, self.bits if bits is None else bits)

    def to_bits(self, bits: int) -> Secret:
        """The same value with `bits` fractional bits; exact up to a unit in the last place."""
        return self if bits == self.bits else self._with(self._engine.truncate(self.share, self.bits - bits), bits)

    def operand(self) -> Secret:
        return self if self.bits <= OPERAND_BITS else self.to_bits(OPERAND_BITS)

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
        if isinstance(other, (PrivateTensor, Transposed)):
            other = (other.plain() if isinstance(other, Transposed) else other).secret()
        if isinstance(other, (int, float)):
            value = torch.full_like(self.share, round(other * 2.0**self.bits))
            return self.share, self._engine._first(value), self.bits
        bits = max(self.bits, other.bits)
        return self.share << (bits - self.bits), other.share << (bits - other.bits), bits

    def __add__(self, other) -> Secret:
        a, b, bits = self._aligned(other)
        return self._with(a + b, bits)

    def __sub__(self, other) -> Secret:
        a, b, bits = self._aligned(other)
        return self._with(a - b, bits)

    def __truediv__(self, divisor: float) -> Secret:
        power = math.log2(divisor) if divisor > 0 else 0.5
        if power.is_integer():
            return self._with(self.share, self.bits + int(power))  # exact: the point moves
        return self * (1.0 / divisor)

    # -- products --------------------------------------------------------------------------------------------------
    def __mul__(self, other) -> Secret:
        if isinstance(other, (int, float)):
            return self._times_public(float(other))
        if isinstance(other, PrivateTensor):
            other = other.secret()
        a, b = self.operand(), other.operand()
        return self._with(self._engine.multiply(a.share, b.share), a.bits + b.bits)

    def _times_public(self, factor: float) -> Secret:
        if factor == 0.0:
            return self._with(self.share * 0)
        mantissa, exponent = math.frexp(factor)
        if abs(mantissa) == 0.5:
            return self._with(self.share * (1 if factor > 0 else -1), self.bits + 1 - exponent)
        held = self if self.bits <= HELD_BITS else self.to_bits(HELD_BITS - 8)
        m = round(mantissa * 2.0**PRECISION_BITS)  # 16 significant bits of the factor
        return self._with(held.share * m, held.bits + PRECISION_BITS - exponent).to_bits(held.bits)

    def square(self) -> Secret:
        a = self.operand()
        return self._with(self._engine.square(a.share), 2 * a.bits)

    def matmul(self, other: PrivateTensor | Secret) -> Secret:
        """(k, n) (n, d) -> (k, d); with a private `other` (other' self')', with a shared one by a triple."""
        if isinstance(other, Transposed):
            return other.of.matmul(self.t()).t()
        if isinstance(other, PrivateTensor):
            return other.t().matmul(self.t()).t()
        from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

        a, b = self.operand(), other.operand()
        return self._with(bridge.bilinear(self._engine, "matmul", a.share, b.share), a.bits + b.bits)

    # -- CrypTen's own ---------------------------------------------------------------------------------------------
    def crypten(self):
        """The same value as CrypTen's secret tensor, computing over this engine; see `bridge`."""
        from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

        return bridge.to_crypten(self._engine, self.to_bits(PRECISION_BITS).share)

    def from_crypten(self, tensor) -> Secret:
        """A CrypTen tensor of this session as a `Secret`."""
        from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

        return self._with(*bridge.from_crypten(tensor))

    def relu(self) -> Secret:
        if self._engine.helper:
            return self.applied("relu")[0]
        return self.from_crypten(self.crypten().relu())

    def sigmoid(self) -> Secret:
        """By softmax of (z / 2, -z / 2), over the session's bound on logits: no comparison. Or at a helper."""
        if self._engine.helper:
            return self.applied("sigmoid")[0]
        half = self.share.reshape(-1, 1)
        pair = torch.cat([half, -half], dim=1)  # softmax over two classes of z and -z, each half
        p = softmax(self._engine, pair, self.bits + 1, self.context.logit_bound)
        return self._with(p[:, 0].reshape(self.shape), BITS)

    # -- not linear ------------------------------------------------------------------------------------------------
    def applied(self, *names: str) -> list[Secret]:
        """The functions `names` at the helper, which is shown this value once, permuted; see `permuted.apply`."""
        return [self._with(*each) for each in apply(self._engine, self.share, self.bits, names)]

    def softmax(self, dim: int) -> Secret:
        """Over the last dimension of (n, C)."""
        if self._engine.helper:
            return self.applied("softmax")[0]
        return self._with(softmax(self._engine, self.share, self.bits, self.context.logit_bound), BITS)

    def log_softmax(self, dim: int) -> Secret:
        """Over the last dimension of (n, C)."""
        if self._engine.helper:
            return self.applied("log_softmax")[0]
        return self._with(*log_softmax(self._engine, self.share, self.bits, self.context.logit_bound))


@ops.join.register(PrivateTensor)
@ops.join.register(Secret)
def _join(first: PrivateTensor | Secret, tensors: Sequence[Any]) -> Secret:
    secrets = [t.secret() if isinstance(t, PrivateTensor) else t for t in tensors]
    bits = max(t.bits for t in secrets)
    shares = [t.share << (bits - t.bits) for t in secrets]
    return Secret(first.context, torch.cat(shares), bits)


@ops.high_precision.register(PrivateTensor)
def _fine(value: PrivateTensor) -> Secret:
    return value.secret(NUMBER_BITS)


@ops.negative.register(Secret)
def _negative(value: Secret) -> Secret:
    from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

    return value._with(bridge.negative(value._engine, value.share), 0)


@ops.choose.register(Secret)
def _choose(bit: Secret, value: Secret) -> Secret:
    return value._with(value._engine.multiply(bit.share, value.share))


@ops.tape.register(PrivateTensor)
@ops.tape.register(Secret)
def _tape(value: PrivateTensor | Secret) -> ops.Tape:
    from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

    return bridge.EngineTape(value.context)
