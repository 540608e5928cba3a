"""The dealer: correlated randomness by a closed list of requests. It sees shapes, never a value.

The model owner sends the whole script of requests before the computation begins; the dealer works through it and pushes
ahead. Each owner shares a key with the dealer. What the dealer computes from the masks that both draw from their
streams, it splits in two: one part is the next piece of the data owner's stream (nothing is sent), the other, the
correction, goes to the model owner. So the dealer sends one message a request and the data owner receives none.

| request | masks drawn | result, shared between the owners |
|---|---|---|
| mask id owner shape | A of the owner | none: A is kept |
| rows id base indices | none | none: rows of a kept mask are kept under a new id |
| free id | none | none: the mask and its rows are forgotten |
| product left right transposed | none | A_left A_right, or A_left' A_right |
| mul shape shape | a, b of both | a * b, broadcast |
| goldschmidt shape | a, b of both | a * a and b * a |
| square shape | a of both | a * a |
| inner shape | a, b of both | sum of a * b |
| ole shape | a of each owner | a_model_owner * a_data_owner |
| truncate shape bits | r of both | r >> bits (unsigned), and the top bit of r |
| bilinear op shape shape options | a, b of both | matmul or a convolution of a and b (for CrypTen's tensors) |
| conjunction shape shape | a, b of both, by xor | a & b, by xor |
| bit shape | a bit of both, by xor | the bit |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mpc_appraisal.errors import AppraisalError
from mpc_appraisal.mpc.matrix import Matrix
from mpc_appraisal.mpc.prg import Stream

MAX_ELEMENTS = 2**31
MAX_REQUESTS = 10**6
BILINEAR = ("mul", "matmul", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")
PURPOSES = ("mask", "triple", "share")

Request = list[Any]


def logical_shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """x >> bits of the unsigned 64-bit number behind int64 `x`; 0 < bits < 64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def width(bits: int) -> torch.dtype:
    """The narrowest integers that hold `bits` bits: what is to be shifted left by 64 - bits needs no more."""
    return next(
        t for size, t in ((8, torch.int8), (16, torch.int16), (32, torch.int32), (64, torch.int64)) if bits <= size
    )


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value):
        raise AppraisalError(f"dealer: refused the shape {value!r}; expected a list of sizes")
    size = 1
    for n in value:
        size *= n
    if size > MAX_ELEMENTS:
        raise AppraisalError(f"dealer: refused the shape {value!r}; expected at most {MAX_ELEMENTS} elements")
    return tuple(value)


def parse(text: str) -> list[Request]:
    """A script from its wire form; raises AppraisalError for anything that is not one."""
    try:
        script = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AppraisalError("dealer: refused a script that is not JSON") from error
    if not isinstance(script, list) or len(script) > MAX_REQUESTS:
        raise AppraisalError("dealer: refused a script; expected a list of at most a million requests")
    for request in script:
        if not isinstance(request, list) or not request or request[0] not in REQUESTS:
            raise AppraisalError(f"dealer: refused the request {request!r:.80}; expected one of {', '.join(REQUESTS)}")
    return script


class Dealer:
    """Works through a script.

    Args:
        keys: of the model owner and of the data owner, each shared with that owner alone.
        send: sends a correction to the model owner.
    """

    def __init__(self, keys: Sequence[bytes], send: Callable[[torch.Tensor], None]):
        self._streams = [{p: Stream(key, p) for p in PURPOSES} for key in keys]
        self._send = send
        self._kept: dict[int, Matrix] = {}
        self._parts: dict[int, list[int]] = {}

    def run(self, script: list[Request], mark: Callable[[], None]) -> None:
        """Answer every request in order; call `mark` at each mark."""
        for request in script:
            name, *arguments = request
            if name == "mark":
                mark()
                continue
            try:
                results = REQUESTS[name](self, *arguments)
            except (TypeError, KeyError, IndexError, RuntimeError) as error:
                raise AppraisalError(f"dealer: refused {name} with {str(arguments)[:80]} ({error})") from error
            for k, result in enumerate(results):
                theirs = self._streams[1]["share"].ring(result.shape)
                correction = result ^ theirs if name == "conjunction" else result - theirs
                narrow = name == "truncate" and k == 1  # the top bit is only used times 2^(64 - bits)
                self._send(correction.to(width(arguments[1])) if narrow else correction)

    def _both(self, shape: tuple[int, ...]) -> torch.Tensor:
        a, b = (s["triple"].ring(shape) for s in self._streams)
        return a.add_(b)

    def mask(self, key: int, owner: int, shape: list[int]) -> list[torch.Tensor]:
        self._kept[key] = Matrix(self._streams[owner]["mask"].ring(_shape(shape)))
        return []

    def rows(self, key: int, base: int, indices: list[int]) -> list[torch.Tensor]:
        self._kept[key] = self._kept[base].rows(indices)
        self._parts.setdefault(base, []).append(key)
        return []

    def free(self, key: int) -> list[torch.Tensor]:
        del self._kept[key]
        for part in self._parts.pop(key, []):
            self._kept.pop(part, None)
        return []

    def product(self, left: int, right: int, transposed: bool) -> list[torch.Tensor]:
        return [self._kept[left].product(self._kept[right].values, bool(transposed))]

    def mul(self, shape_x: list[int], shape_y: list[int]) -> list[torch.Tensor]:
        a, b = self._both(_shape(shape_x)), self._both(_shape(shape_y))
        return [a * b]

    def goldschmidt(self, shape: list[int]) -> list[torch.Tensor]:
        a, b = self._both(_shape(shape)), self._both(_shape(shape))
        return [a * a, b * a]

    def square(self, shape: list[int]) -> list[torch.Tensor]:
        a = self._both(_shape(shape))
        return [a * a]

    def inner(self, shape: list[int]) -> list[torch.Tensor]:
        a, b = self._both(_shape(shape)), self._both(_shape(shape))
        return [(a * b).sum()]

    def ole(self, shape: list[int]) -> list[torch.Tensor]:
        a, b = (s["triple"].ring(_shape(shape)) for s in self._streams)
        return [a * b]

    def bilinear(self, op: str, shape_x: list[int], shape_y: list[int], options: dict[str, Any]) -> list[torch.Tensor]:
        if op not in BILINEAR or not set(options) <= {"stride", "padding", "dilation", "groups", "output_padding"}:
            raise AppraisalError(f"dealer: refused {op!r:.40}; expected one of {', '.join(BILINEAR)}")
        a, b = self._both(_shape(shape_x)), self._both(_shape(shape_y))
        return [getattr(torch, op)(a, b, **options)]

    def conjunction(self, shape_x: list[int], shape_y: list[int]) -> list[torch.Tensor]:
        (a0, a1), (b0, b1) = ([s["triple"].ring(_shape(shape)) for s in self._streams] for shape in (shape_x, shape_y))
        return [(a0 ^ a1) & (b0 ^ b1)]

    def bit(self, shape: list[int]) -> list[torch.Tensor]:
        a, b = (s["triple"].ring(_shape(shape)) for s in self._streams)
        return [(a ^ b) & 1]

    def truncate(self, shape: list[int], bits: int) -> list[torch.Tensor]:
        if not isinstance(bits, int) or not 0 < bits < 64:
            raise AppraisalError(f"dealer: refused to truncate {bits!r} bits; expected 1 to 63")
        r = self._both(_shape(shape))
        return [logical_shift(r, bits), logical_shift(r, 63)]


REQUESTS: dict[str, Callable[..., list[torch.Tensor]]] = {
    name: getattr(Dealer, name)
    for name in (
        "mask", "rows", "free", "product", "mul", "goldschmidt", "square", "inner", "ole", "truncate",
        "bilinear", "conjunction", "bit",
    )
}  # fmt: skip
REQUESTS["mark"] = lambda dealer: []
