"""What a tensor says that has few of torch's operations, where a formula uses an operation that it lacks.

In goes a use of a private or shared tensor, or of rows in blocks, that cannot be computed. Out comes an
`UnsupportedOperationError`, which names the operation, what is supported, and what to write. It is an AttributeError
and a TypeError, so that `hasattr`, `copy` and `pickle` work as they do for other objects. It is no RuntimeError, for
the reason that `common.errors` states.

A hint may be added to HINTS. No text here may hold a value, and no operation may be computed here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

PUBLIC = (
    "a public tensor is not supported here: write it as one of the tensors that `prepare` returns, with its shape in "
    "`private_shapes`, and use owned[NAME]; write a single public number as a Python number (tensor.item())"
)
_ARITHMETIC = "the operators +, - and *, and / by a number"
_OPENED = "the tensor itself: a value is opened by the release alone"
_NOTHING = "the tensor itself: it has neither a type nor a device"
_SHAPE = "mpc_appraisal.mpc.ops.shared(x).reshape(...)"
_COMPARED = "mpc_appraisal.mpc.ops.negative(x - y), which is 1 where x < y and 0 elsewhere"
_OTHERS = "it with what is supported or, on shares alone, by CrypTen's approximations: ops.shared(x).crypten()"
# What private and shared tensors have, in the words of the error.
OF_PRIVATE = (
    "matmul, t(), +, -, *, / by a number, square(), sum(), softmax(1), log_softmax(1), sigmoid(), rows by a LongTensor "
    "and the functions of mpc_appraisal.mpc.ops, whose `shared` makes a shared tensor of a private one"
)
OF_SHARED = (
    "matmul, t(), +, -, *, / by a number, square(), sum(), softmax(1), log_softmax(1), sigmoid(), relu(), reshape(), "
    "rows by a LongTensor and the functions of mpc_appraisal.mpc.ops"
)
# What to write in place of an operation of torch, by the operation's name.
HINTS: dict[str, str] = {
    "mean": "x.sum() * (1 / n), with n from facts.rows",
    "pow": "x.square(), or x * x",
    "norm": "x.square().sum(), the square of the norm",
    "dot": "(x * y).sum()",
    "cat": "mpc_appraisal.mpc.ops.cat",
    "relu": "mpc_appraisal.mpc.ops.shared(x).relu()",
    "logsigmoid": "mpc_appraisal.mpc.ops.log_sigmoid(x)",
    **dict.fromkeys(("T", "mT", "transpose", "permute", "swapaxes"), "x.t()"),
    **dict.fromkeys(("mm", "bmm", "mv", "einsum"), "x.matmul(y), a product of matrices"),
    **dict.fromkeys(("add", "sub", "mul", "div", "true_divide", "multiply", "subtract", "neg"), _ARITHMETIC),
    **dict.fromkeys(("item", "tolist", "numpy", "detach"), _OPENED),
    **dict.fromkeys(("to", "float", "double", "long", "int", "type", "dtype", "device", "clone", "cpu"), _NOTHING),
    **dict.fromkeys(("view", "flatten", "unsqueeze", "squeeze", "expand", "reshape", "ravel"), _SHAPE),
    **dict.fromkeys(("abs", "sign", "clamp", "max", "min", "argmax", "argmin", "lt", "gt", "le", "ge"), _COMPARED),
}
OF_TRANSPOSED = (
    "a transposed private tensor",
    "matmul, t(), +, -, * and / by a number",
    "the operation of x itself, over its other dimension: x.t() is for products",
)


class UnsupportedOperationError(AttributeError, TypeError):
    """This error says that a formula uses an operation which the tensors of a session lack, and what to write."""


class LimitedTensor:
    """The base of tensors that have few of torch's operations: every other operation raises a helpful error.

    Attributes:
        described: What the tensor is, in words.
        supported: What it has, in words.
        instead: What to write in place of any other operation; empty looks the operation up in HINTS.
    """

    described: ClassVar[str] = "a tensor of this session"
    supported: ClassVar[str] = ""
    instead: ClassVar[str] = ""

    @classmethod
    def refusal(cls, operation: str, write: str | None = None) -> UnsupportedOperationError:
        """Return the error for one operation. write: what to write instead; None looks it up."""
        write = cls.instead or write or HINTS.get(operation.rstrip("_"), _OTHERS)
        return UnsupportedOperationError(
            f"{operation} is not supported on {cls.described}: write {write}. Supported are {cls.supported}"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copy, pickle and others look for
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if hasattr(type(self), name):  # a property raised an AttributeError, which is raised again
            return object.__getattribute__(self, name)
        raise self.refusal(name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse a function of torch, and a plain tensor's method, that was given a tensor of this class."""
        if any(isinstance(one, torch.Tensor) for one in args):
            raise UnsupportedOperationError(f"{func.__name__} with {cls.described}: {PUBLIC}")
        raise cls.refusal(func.__name__)


def _refusing(operation: str, write: str) -> Any:
    def refuse(self: LimitedTensor, *others: Any) -> Any:
        if any(isinstance(other, torch.Tensor) for other in others):
            raise UnsupportedOperationError(f"{operation} with {self.described}: {PUBLIC}")
        raise self.refusal(operation, write)

    return refuse


for _name, _operation, _write in (
    ("radd", "number + x", "x + number"),
    ("rsub", "number - x", "x * -1 + number"),
    ("rmul", "number * x", "x * number"),
    ("rtruediv", "number / x", "another formula: no tensor is divided by a secret"),
    ("neg", "-x", "x * -1"),
    ("pow", "x ** n", HINTS["pow"]),
    ("abs", "abs", _COMPARED),
    ("matmul", "x @ y", "x.matmul(y)"),
    ("rmatmul", "x @ y", "x.matmul(y)"),
    ("float", "float", _OPENED),
    *((_each, "a comparison", _COMPARED) for _each in ("lt", "le", "gt", "ge")),
):
    setattr(LimitedTensor, f"__{_name}__", _refusing(_operation, _write))


def operand(tensor: LimitedTensor, operation: str, other: Any) -> Any:
    """Return the other operand of an operation of `tensor`, a transposed one as a tensor of its own.

    Raises UnsupportedOperationError for a public tensor, and for what is no tensor of the session.
    """
    if isinstance(other, LimitedTensor):
        return other.plain() if hasattr(type(other), "plain") else other
    if isinstance(other, torch.Tensor) or hasattr(other, "__array__"):
        raise UnsupportedOperationError(f"{operation} with {tensor.described}: {PUBLIC}")
    raise tensor.refusal(f"{operation} with {type(other).__name__}", "a Python number or a tensor of this session")


def divisor_of(tensor: LimitedTensor, divisor: Any) -> Any:
    """Return a public divisor, a number. Raises UnsupportedOperationError for a tensor."""
    if isinstance(divisor, LimitedTensor):
        raise tensor.refusal("x / y", "another formula: no tensor is divided by a secret")
    return operand(tensor, "/", divisor) if isinstance(divisor, torch.Tensor) else divisor
