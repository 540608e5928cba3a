"""How a CrypTen program's objects travel: as JSON and the bytes of tensors. Nothing that came is unpickled.

    message = length of the text (4 bytes), text (JSON), the tensors' bytes one after the other

CrypTen sends pickles, and unpickles what comes through a list of classes. Here `packed` makes a message of an object,
and `unpacked` makes the object again. What may be sent: None, truth values, numbers, texts, lists, tuples, sets,
dictionaries, sizes and types of torch, tensors, and modules of torch.nn or of a class that the receiver has registered
(`crypten.common.serial.register_safe_class`, or `model_class=` of `load_from_party`). Of a module the name of its
class, its plain attributes, its parameters, its buffers and its submodules travel; the receiver makes an object of its
own class with these. The kinds may be extended; a kind must not name code that the receiver has not chosen.
"""

from __future__ import annotations

import json
import math
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.text import shown

LONGEST = 2**31 - 1  # CrypTen states lengths as int32.
LARGEST = 2**64  # absolute value of whole numbers, exclusive
EXPECTED = (
    "None, numbers, texts, lists, tuples, sets, dictionaries, torch.Size, torch.dtype, tensors, and modules of "
    "torch.nn or of a class registered with crypten.common.serial.register_safe_class"
)
DTYPES = {
    str(kind).removeprefix("torch."): kind
    for kind in (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
                 torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
}  # fmt: skip
REFUSED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, struct.error)
SEQUENCES: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "size": torch.Size}
INTERNAL = frozenset(vars(torch.nn.Module()))  # what a module keeps for torch itself, hooks among it


class ForeignObjectError(PeerError, ValueError):
    """This error says that another party sent an object that is refused. Nothing of it has been run or unpickled."""


def packed(value: Any) -> bytes:
    """Return the message of an object. Raises InputError, which says what may be sent, for any other object."""
    tensors: list[torch.Tensor] = []
    text = json.dumps(_described(value, tensors)).encode()
    parts = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for t in tensors]
    message = b"".join([struct.pack("<I", len(text)), text, *parts])
    if len(message) > LONGEST:
        raise InputError("an object to send", f"{len(message)} bytes", f"at most {LONGEST}")
    return message


def unpacked(message: bytes, classes: Mapping[str, type], sender: str) -> Any:
    """Return the object of a message.

    Args:
        message: the bytes that came.
        classes: the classes of modules, beside torch's own, that this party accepts, by their full names.
        sender: the sender, for the error.

    Raises ForeignObjectError: the bytes are no message of `packed`, or name a class that this party has not chosen.
    """
    try:
        (length,) = struct.unpack_from("<I", message)
        if length > len(message) - 4:
            raise ValueError(f"a text of {length} bytes in a message of {len(message)}")
        text = json.loads(message[4 : 4 + length].decode())
        reader = _Reader(memoryview(message)[4 + length :], classes)
        found = reader.made(text)
        if len(reader.rest):
            raise ValueError(f"{len(reader.rest)} bytes too many")
        return found
    except REFUSED as error:
        raise ForeignObjectError(
            f"{sender} sent an object that is refused ({shown(str(error), 200)}); expected {EXPECTED}"
        ) from None


def _described(value: Any, tensors: list[torch.Tensor]) -> Any:
    """Return what stands for `value` in JSON, and append its tensors, whose bytes follow the text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, torch.Tensor):
        return _tensor(value, tensors)
    if isinstance(value, int) and -LARGEST < value < LARGEST:
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"number": str(float(value))}
    if isinstance(value, dict):
        pairs = [[_described(k, tensors), _described(v, tensors)] for k, v in value.items()]
        return {"ordered" if isinstance(value, OrderedDict) else "dict": pairs}
    if isinstance(value, list):
        return [_described(each, tensors) for each in value]
    for name, kind in (("size", torch.Size), ("tuple", tuple), ("set", set)):
        if isinstance(value, kind):
            return {name: [_described(each, tensors) for each in value]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.nn.Module):
        return {"module": _module(value, tensors)}
    raise InputError("an object to send", f"a {type(value).__name__}", EXPECTED)


def _tensor(value: torch.Tensor, tensors: list[torch.Tensor]) -> dict[str, Any]:
    name = str(value.dtype).removeprefix("torch.")
    if name not in DTYPES or value.layout != torch.strided:
        raise InputError("a tensor to send", f"{value.dtype}, {value.layout}", f"dense numbers of {', '.join(DTYPES)}")
    tensors.append(value)
    kind = "parameter" if isinstance(value, torch.nn.Parameter) else "tensor"
    return {kind: [name, list(value.shape), bool(value.requires_grad)]}


def _module(value: torch.nn.Module, tensors: list[torch.Tensor]) -> dict[str, Any]:
    own = {k: v for k, v in vars(value).items() if k not in INTERNAL}
    kept = sorted(value._non_persistent_buffers_set)
    found = {"class": class_name(type(value)), "training": bool(value.training), "temporary": kept}
    parts = {"attributes": own, "parameters": value._parameters, "buffers": value._buffers, "modules": value._modules}
    return found | {k: _described(dict(v), tensors) for k, v in parts.items()}


def class_name(kind: type) -> str:
    """Return the name by which CrypTen registers a class, with its module."""
    return f"{kind.__module__}.{kind.__qualname__}"


def torch_classes() -> dict[str, type]:
    """Return the classes of torch.nn's modules by their full names."""
    found = [each for each in vars(torch.nn).values() if isinstance(each, type) and issubclass(each, torch.nn.Module)]
    return {class_name(each): each for each in found}


class _Reader:
    """Makes objects of their descriptions; `rest` are the bytes of tensors that have not been used."""

    def __init__(self, data: memoryview, classes: Mapping[str, type]):
        self.rest, self._classes = data, {**torch_classes(), **classes}

    def made(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.made(each) for each in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind in SEQUENCES:
            return SEQUENCES[kind](self.made(each) for each in content)
        return getattr(self, f"_{kind}" if kind in self.KINDS else "_unknown")(content)

    KINDS = frozenset({"dict", "ordered", "number", "dtype", "tensor", "parameter", "module"})

    def _unknown(self, content: Any) -> Any:
        raise ValueError("an object of an unknown kind")

    def _dict(self, pairs: Any) -> dict[Any, Any]:
        return {self.made(k): self.made(v) for k, v in pairs}

    def _ordered(self, pairs: Any) -> OrderedDict[Any, Any]:
        return OrderedDict(self._dict(pairs))

    def _number(self, text: Any) -> float:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text]

    def _dtype(self, name: Any) -> torch.dtype:
        return DTYPES[name]

    def _tensor(self, content: Any) -> torch.Tensor:
        name, shape, grad = content
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"a tensor of the shape {shape!r:.40}")
        size = math.prod(shape) * DTYPES[name].itemsize
        if size > len(self.rest):
            raise ValueError(f"a tensor of {size} bytes where {len(self.rest)} came")
        data, self.rest = bytearray(self.rest[:size]), self.rest[size:]
        found = torch.frombuffer(data, dtype=DTYPES[name]) if size else torch.empty(0, dtype=DTYPES[name])
        return found.reshape(shape).requires_grad_(bool(grad))

    def _parameter(self, content: Any) -> torch.nn.Parameter:
        return torch.nn.Parameter(self._tensor([*content[:2], False]), requires_grad=bool(content[2]))

    def _module(self, content: Any) -> torch.nn.Module:
        kind = self._classes.get(content["class"])
        if kind is None:
            raise ValueError(f"a module of the class {content['class']!r:.80}, which is not registered here")
        found = kind.__new__(kind)
        torch.nn.Module.__init__(found)
        own = self.made(content["attributes"])
        if not all(isinstance(k, str) for k in own) or INTERNAL & set(own):
            raise ValueError("a module with attributes that are torch's own")
        vars(found).update(own)
        found.training = content["training"] is True
        found._non_persistent_buffers_set = {str(each) for each in content["temporary"]}
        found._parameters.update(self._parts(content["parameters"], torch.nn.Parameter))
        found._buffers.update(self._parts(content["buffers"], torch.Tensor))
        found._modules.update(self._parts(content["modules"], torch.nn.Module))
        return found

    def _parts(self, description: Any, kind: type) -> dict[str, Any]:
        found = self.made(description)
        if not all(isinstance(k, str) and (v is None or isinstance(v, kind)) for k, v in found.items()):
            raise ValueError(f"parts of a module that are no {kind.__name__}")
        return found
