"""Operators of ONNX that compute element by element, as modules of CrypTen, in plaintext and on shares.

A converted model (see `exporting`) is a `crypten.nn.Graph` whose nodes are these modules, and those of the files
`*_operators` beside this one. Each is called with the list of its inputs (one input alone comes without a list), as
CrypTen's graph does, and is named as in the specification of ONNX (https://onnx.ai/onnx/operators). Shapes, indices
and constants are plain tensors; data and parameters are CrypTensors in an encrypted model, and plain tensors otherwise.

CrypTen has modules for half of these. Its own fail on a public value to the left of a secret one, on plain tensors of
an unencrypted model, on axes that are an input (which they are since opset 13), and on several axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols import crypten_compat

crypten = crypten_compat.load()

INTEGERS = {2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
TYPES = {1: torch.float32, 9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16, **INTEGERS}
MASKED = -100.0
OPERATORS: dict[str, type[Operator]] = {}
"""The modules by the operator's name in ONNX, those of the domain `crypten` included."""


class Operator(crypten.nn.Module, ABC):
    """A module that computes one operator. A class registers itself under its own name, and under `other_names`.

    Args:
        attributes: The attributes of the node in ONNX, as Python numbers, bytes, lists and tensors. `defaults` of the
            class holds those that ONNX lets a node leave out.
    """

    SUPPORTS_PLAINTEXT_INPUTS = True
    defaults: ClassVar[dict[str, Any]] = {}
    several_outputs: ClassVar[bool] = False
    other_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        for name in (cls.__name__, *cls.other_names):
            if not name.startswith("_"):
                OPERATORS[name] = cls

    def __init__(self, **attributes: Any):
        super().__init__()
        self.attributes = {**self.defaults, **attributes}

    def forward(self, inputs):
        return self.compute(*inputs) if isinstance(inputs, (list, tuple)) else self.compute(inputs)

    @abstractmethod
    def compute(self, *inputs):
        """Return the operator's output, or a tuple of outputs, for inputs each of which may be secret."""

    def encrypt(self, mode=True, src=0):
        self.encrypted = mode  # An operator has no parameters of its own.
        return self

    @classmethod
    def refusal(cls, attributes: dict[str, Any]) -> str | None:
        """Return why a node with these attributes cannot be computed, or None if it can."""
        return None

    @classmethod
    def from_onnx(cls, attributes: dict[str, Any] | None = None):
        return cls(**(attributes or {}))


def is_secret(value: Any) -> bool:
    """Return whether a value is a CrypTensor."""
    return isinstance(value, crypten.CrypTensor)


def as_secret(value: Any) -> Any:
    """Return a public value, which both owners hold alike, as a CrypTensor; no message is sent."""
    return value if is_secret(value) else crypten.cryptensor(torch.as_tensor(value).float())


def alike(values: list[Any]) -> list[Any]:
    """Return all values as CrypTensors if one of them is secret, and else unchanged."""
    return [as_secret(value) for value in values] if any(is_secret(value) for value in values) else values


def integers(values: Any) -> list[int]:
    """Return a plain tensor, a list or a number as a list of integers."""
    return [int(value) for value in torch.as_tensor(values).reshape(-1).tolist()]


def finite(value: Any) -> Any:
    """Return a public tensor of numbers, with MASKED in place of minus infinity and of what torch's masks use for it.

    Attention adds minus infinity to what it masks, before exp. No share can hold that number, exp(MASKED) is zero in
    16 bits, and CrypTen's exp is wrong below -512.
    """
    if not torch.is_tensor(value) or not value.is_floating_point():
        return factor(value)
    return torch.where(value < -1e9, torch.full_like(value, MASKED), value)


def factor(value: Any) -> Any:
    """Return a public number, or a tensor of which truth values are the numbers 0 and 1."""
    return value.float() if torch.is_tensor(value) and value.dtype == torch.bool else value


class Constant(Operator):
    def compute(self, *_):
        for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
            if key in self.attributes:
                return torch.as_tensor(self.attributes[key])
        raise InputError("Constant", sorted(self.attributes), "a value that is a number or a tensor")


class ConstantOfShape(Operator):
    defaults = {"value": torch.zeros(1)}

    def compute(self, shape):
        return self.attributes["value"].reshape(()).expand(integers(shape)).clone()


class Identity(Operator):
    def compute(self, x):
        return x


class Cast(Operator):
    """A change of type, which a share does not have: of a secret real number it may ask neither for rounding nor truth.

    Secret bits, such as those of a comparison, are whole numbers already.
    """

    @classmethod
    def refusal(cls, attributes):
        return None if attributes["to"] in TYPES else f"its type is ONNX's number {attributes['to']}"

    def compute(self, x):
        wanted = TYPES[self.attributes["to"]]
        if not is_secret(x):
            return x.to(wanted)
        if x.encoder.scale != 1 and not wanted.is_floating_point:
            raise InputError("Cast", f"secret real numbers that become {wanted}", "public ones, or secret bits")
        return x


class CastLike(Operator):
    def compute(self, x, like):
        return x if is_secret(x) or is_secret(like) else x.to(like.dtype)


class Shape(Operator):
    defaults = {"start": 0, "end": None}

    def compute(self, x):
        return torch.tensor(list(x.size())[self.attributes["start"] : self.attributes["end"]], dtype=torch.int64)


class Size(Operator):
    def compute(self, x):
        return torch.tensor(x.nelement())


class Range(Operator):
    def compute(self, start, limit, delta):
        return torch.arange(start.item(), limit.item(), delta.item())


class Add(Operator):
    def compute(self, a, b):
        if is_secret(b) and not is_secret(a):
            a, b = b, a
        return a.add(b if is_secret(b) or not is_secret(a) else finite(b))


class Sub(Operator):
    def compute(self, a, b):
        if is_secret(b) and not is_secret(a):
            return b.neg().add(factor(a))
        return a.sub(factor(b) if is_secret(a) else b)


class Mul(Operator):
    def compute(self, a, b):
        if is_secret(b) and not is_secret(a):
            a, b = b, a
        return a.mul(factor(b) if is_secret(a) else b)


class Div(Operator):
    def compute(self, a, b):
        if is_secret(b):
            return Mul().compute(a, b.reciprocal())
        if not is_secret(a) and not a.is_floating_point():
            return a.div(b, rounding_mode="trunc")
        return a.div(b)


class Mod(Operator):
    """The remainder of shapes and indices; there is none of secret values."""

    defaults = {"fmod": 0}

    def compute(self, a, b):
        if is_secret(a) or is_secret(b):
            raise InputError("Mod", "a secret value", "public ones, such as shapes")
        return a.fmod(b) if self.attributes["fmod"] else a.remainder(b)


class MatMul(Operator):
    def compute(self, a, b):
        return torch.matmul(a, b) if not is_secret(a) and not is_secret(b) else as_secret(a).matmul(b)


class Gemm(Operator):
    defaults = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}

    def compute(self, a, b, c=None):
        a = a.t() if self.attributes["transA"] else a
        b = b.t() if self.attributes["transB"] else b
        product = MatMul().compute(a, b)
        product = product if self.attributes["alpha"] == 1 else product.mul(self.attributes["alpha"])
        if c is None:
            return product
        return Add().compute(product, c if self.attributes["beta"] == 1 else c.mul(self.attributes["beta"]))


class Pow(Operator):
    def compute(self, x, exponent):
        if not is_secret(x) and not is_secret(exponent):
            return x.pow(exponent)
        if is_secret(exponent) or exponent.nelement() != 1:
            raise InputError("Pow", "a secret exponent, or several", "one public number as the exponent")
        power = exponent.item()
        if power == 0.5:
            return x.sqrt()
        return x.pow(int(power)) if power == int(power) else x.pos_pow(power)


class Min(Operator):
    def compute(self, *values):
        return Max().compute(*(value.neg() for value in values)).neg()


class Max(Operator):
    def compute(self, first, *others):
        for other in others:
            first, other = alike([first, other])
            first = other.add(first.sub(other).relu())
        return first


class Mean(Operator):
    def compute(self, *values):
        return Sum().compute(*values).div(len(values))


class Sum(Operator):
    def compute(self, first, *others):
        for other in others:
            first = Add().compute(first, other)
        return first


class Equal(Operator):
    def compute(self, a, b):
        a, b = alike([a, b])
        return a.eq(b)


class Less(Operator):
    def compute(self, a, b):
        a, b = alike([a, b])
        return a.lt(b)


class LessOrEqual(Operator):
    def compute(self, a, b):
        a, b = alike([a, b])
        return a.le(b)


class Greater(Operator):
    def compute(self, a, b):
        return Less().compute(b, a)


class GreaterOrEqual(Operator):
    def compute(self, a, b):
        return LessOrEqual().compute(b, a)


class Not(Operator):
    def compute(self, x):
        return x.neg().add(1) if is_secret(x) else x.logical_not()


class And(Operator):
    def compute(self, a, b):
        return Mul().compute(a, b) if is_secret(a) or is_secret(b) else a.logical_and(b)


class Or(Operator):
    def compute(self, a, b):
        return Max().compute(a, b) if is_secret(a) or is_secret(b) else a.logical_or(b)


class Where(Operator):
    def compute(self, condition, a, b):
        if not any(is_secret(value) for value in (condition, a, b)):
            return torch.where(condition, a, b)
        a, b = (value if is_secret(value) else finite(value) for value in (a, b))
        if is_secret(condition):
            a, b = alike([a, b])
            return Add().compute(b, Mul().compute(Sub().compute(a, b), condition))
        kept = [self._kept(a, condition), self._kept(b, condition.logical_not())]
        return Add().compute(*kept)

    def _kept(self, value, mask):
        """Return the value where the public mask holds and 0 elsewhere, so that infinity elsewhere does no harm."""
        return value.mul(mask.float()) if is_secret(value) else torch.where(mask, value, torch.zeros_like(value))


class Neg(Operator):
    def compute(self, x):
        return x.neg()


class Abs(Operator):
    def compute(self, x):
        return x.abs()


class Sign(Operator):
    def compute(self, x):
        return x.sign()


class Reciprocal(Operator):
    def compute(self, x):
        return x.reciprocal()


class Sqrt(Operator):
    def compute(self, x):
        return x.sqrt()


class Exp(Operator):
    def compute(self, x):
        return x.exp()


class Log(Operator):
    def compute(self, x):
        return x.log()


class Sin(Operator):
    def compute(self, x):
        return x.sin()


class Cos(Operator):
    def compute(self, x):
        return x.cos()


class Erf(Operator):
    def compute(self, x):
        return x.erf()
