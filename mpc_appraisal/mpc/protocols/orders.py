"""What a dealer lets itself be asked: one script, which both owners made, within limits, and measured before it works.

    both owners -> dealer     SHA-256 and length of the script that each has rehearsed: 40 bytes
    dealer -> both owners     both claims, and the dealer's own where it rehearsed too; whoever sees them differ, stops
    model owner -> dealer     the script
    dealer -> both owners     one byte: it is the one that was claimed, and it is within the limits

Nothing is dealt, and no owner masks a value, before that byte. An owner that made up requests of its own could have the
dealer share functions of masks that later messages of the other owner stand under, and so read them. So a script that
one owner alone has made is refused by name at all three parties. What a cheating owner can still do:

- add errors to its own messages and shares, which shifts what is computed by amounts of its choice (see `engine`);
- state another script, or none, and so end the session before anything is shared;
- with engine rtas, add errors to what the helper is shown, see `permuted`; it cannot choose what the helper computes;
- name public facts or a configuration for which the agreed program is large: the limits below end that.

Two owners together may ask whatever is within the limits; the dealer holds nothing of theirs.

CrypTen as shipped (`stock`) has no script: its dealer answers one request of the model owner after the other, and is
covered by none of this.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mpc_appraisal.common.errors import AppraisalError, DisagreementError
from mpc_appraisal.common.roles import DEALER, OWNERS
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.protocols.dealer import (
    BILINEAR,
    CONVOLUTION_OPTIONS,
    MAX_ELEMENTS,
    MAX_REQUESTS,
    REQUESTS,
    _shape,
    parse,
)
from mpc_appraisal.mpc.ring.shape_tensor import broadcast

DIGEST_BYTES = 32
CLAIM_BYTES = DIGEST_BYTES + 8
MAX_TEXT = 2**28  # bytes of a script
MAX_TOTAL = 2**42  # elements that all requests of a script draw and share
ELEMENT_BYTES = 8
COPIES = 2  # of what a request draws and shares, that a dealer has at once
UNKNOWN_MEMORY = 16 << 30  # of a machine that does not tell
_NO_CLAIM = bytes(CLAIM_BYTES)


def wire(script: Sequence[Any]) -> bytes:
    """A script as it is sent; the same bytes at all parties."""
    return json.dumps(script).encode()


def claim_of(text: bytes) -> bytes:
    """SHA-256 and length of a script's wire form."""
    return hashlib.sha256(text).digest() + len(text).to_bytes(8, "big")


@dataclass(frozen=True)
class ScriptRequest:
    """What a script asks for, in elements of 8 bytes.

    largest: drawn and shared by one request. total: by all. held: kept from one request to the next, at the most.
    """

    requests: int = 0
    largest: int = 0
    total: int = 0
    held: int = 0


@dataclass(frozen=True)
class Limits:
    """The most that a script may ask for; see `ScriptRequest` for the fields that it shares.

    memory: The bytes of the masks that are held and of the largest request together.
    """

    requests: int = MAX_REQUESTS
    text: int = MAX_TEXT
    largest: int = MAX_ELEMENTS
    total: int = MAX_TOTAL
    memory: int = UNKNOWN_MEMORY

    @staticmethod
    def of_this_machine() -> Limits:
        """The limits with as much memory as this machine has."""
        try:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (ValueError, OSError, AttributeError):
            memory = UNKNOWN_MEMORY
        return Limits(memory=memory)

    def check(self, asked: ScriptRequest) -> None:
        """Raises DisagreementError, which all parties hear, with the number that is beyond and its limit."""
        memory = ELEMENT_BYTES * (asked.held + COPIES * asked.largest)
        for found, limit, what in (
            (asked.requests, self.requests, "requests"),
            (asked.largest, self.largest, "elements in one request"),
            (asked.total, self.total, "elements in all requests"),
            (memory, self.memory, "bytes of memory for held masks and the largest request"),
        ):
            if found > limit:
                raise DisagreementError(f"dealer: refused a script of {found} {what}; expected at most {limit}")

    def check_text(self, length: int) -> None:
        """The same for the bytes of a script."""
        if not 0 < length <= self.text:
            raise DisagreementError(f"dealer: refused a script of {length} bytes; expected 1 to {self.text}")


class _Measure:
    """Follows a script by shapes alone; takes no memory for what it asks."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[int, ...]] = {}
        self.parts: dict[int, list[int]] = {}
        self.opened: dict[int, tuple[int, ...]] = {}
        self.held = 0

    def _key(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise AppraisalError(f"dealer: refused the name {value!r:.40} of a mask; expected a whole number")
        return value

    def _keep(self, table: dict[int, tuple[int, ...]], key: Any, shape: tuple[int, ...], copies: int) -> None:
        if self._key(key) in self.kept or key in self.opened:
            raise AppraisalError(f"dealer: refused to keep a mask twice as {key}; expected a new name")
        table[key] = shape
        self.held += copies * math.prod(shape)

    def _drop(self, table: dict[int, tuple[int, ...]], key: Any, copies: int) -> None:
        self.held -= copies * math.prod(table.pop(self._key(key)))

    def mask(self, key: Any, owner: Any, shape: Any) -> int:
        if owner not in (0, 1) or isinstance(owner, bool):
            raise AppraisalError(f"dealer: refused a mask of owner {owner!r:.40}; expected 0 or 1")
        self._keep(self.kept, key, _shape(shape), 2)  # products keep a transposed copy
        return math.prod(self.kept[key])

    def rows(self, key: Any, base: Any, indices: Any) -> int:
        height, width = self.kept[self._key(base)]
        if not isinstance(indices, list) or not all(type(i) is int and 0 <= i < height for i in indices):
            raise AppraisalError(f"dealer: refused rows of a mask; expected a list of places 0 to {height - 1}")
        self._keep(self.kept, key, (len(indices), width), 2)
        self.parts.setdefault(base, []).append(key)
        return len(indices) * width

    def free(self, key: Any) -> int:
        self._drop(self.kept, key, 2)
        for part in self.parts.pop(key, []):
            if part in self.kept:
                self._drop(self.kept, part, 2)
        return 0

    def product(self, left: Any, right: Any, transposed: Any) -> int:
        (n, d), (height, k) = self.kept[self._key(left)], self.kept[self._key(right)]
        inner, rows = (n, d) if transposed else (d, n)
        if inner != height:
            raise AppraisalError(f"dealer: refused a product of {(n, d)} and {(height, k)}; expected sizes that agree")
        return rows * k

    def open(self, key: Any, shape: Any, bits: Any, ring: Any) -> int:
        self._keep(self.opened, key, _shape(shape), 2)  # the mask, and its top bit
        return 4 * math.prod(self.opened[key])

    def cross(self, left: Any, right: Any, ring: Any) -> int:
        return 4 * math.prod(broadcast(self.opened[self._key(left)], self.opened[self._key(right)]))

    def power(self, key: Any, rate: Any, mantissa: Any) -> int:
        return 2 * math.prod(self.opened[self._key(key)])

    def forget(self, keys: Any) -> int:
        for key in keys:
            self._drop(self.opened, key, 2)
        return 0

    def mul(self, shape_x: Any, shape_y: Any) -> int:
        x, y = _shape(shape_x), _shape(shape_y)
        return math.prod(x) + math.prod(y) + math.prod(broadcast(x, y))

    conjunction = mul

    def square(self, shape: Any) -> int:
        return 2 * math.prod(_shape(shape))

    bit = square

    def inner(self, shape: Any) -> int:
        return 3 * math.prod(_shape(shape))

    def truncate(self, shape: Any, bits: Any) -> int:
        return 3 * math.prod(_shape(shape))

    def bilinear(self, op: Any, shape_x: Any, shape_y: Any, options: Any) -> int:
        if op not in BILINEAR or not isinstance(options, dict) or not set(options) <= CONVOLUTION_OPTIONS:
            raise AppraisalError(f"dealer: refused {op!r:.40}; expected one of {', '.join(BILINEAR)}")
        x, y = _shape(shape_x), _shape(shape_y)
        a, b = (torch.empty(shape, dtype=torch.float32, device="meta") for shape in (x, y))
        out = math.prod(getattr(torch, op)(a, b, **options).shape)
        columns = out // max(y[0], 1) * math.prod(y[1:]) // max(x[0], 1) if op.startswith("conv") else 0  # of one image
        return math.prod(x) + math.prod(y) + out + columns

    def apply(self, names: Any, shape: Any, bits: Any) -> int:
        return (2 + len(names)) * math.prod(_shape(shape))

    def mark(self) -> int:
        return 0


def measured(script: Sequence[Any]) -> ScriptRequest:
    """What a parsed script asks for, from shapes alone. Raises AppraisalError for requests that cannot be answered."""
    follow, largest, total, held = _Measure(), 0, 0, 0
    for request in script:
        name, *arguments = request
        try:
            size = getattr(follow, name)(*arguments)
        except (TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError, ValueError) as error:
            raise AppraisalError(f"dealer: refused {name} with {str(arguments)[:80]} ({str(error)[:80]})") from error
        largest, total, held = max(largest, size), total + size, max(held, follow.held)
    return ScriptRequest(len(script), largest, total, held)


def put(channel: Channel, script: Sequence[Any], role: str) -> None:
    """An owner's part: `script` is what its own dry run gave.

    Raises DisagreementError where the parties have made different ones; then nothing was dealt or shared.
    """
    text = wire(script)
    channel.send(tensor_of(claim_of(text)), 2)
    claims = bytes_of(channel.receive((3 * CLAIM_BYTES,), 2, torch.uint8))
    _compare(claims, role, claim_of(text))
    if role == OWNERS[0]:
        channel.send(tensor_of(text), 2)
    channel.receive((1,), 2, torch.uint8)


def taken(channel: Channel, limits: Limits, own: Sequence[Any] | None = None) -> list[Any]:
    """The dealer's part: the script that both owners have made, measured. own: of the dealer's own rehearsal, if any.

    Raises:
        DisagreementError: the scripts differ, or ask for more than the limits.
        AppraisalError: what was sent is no script, or not the one that was claimed.
    """
    mine = _NO_CLAIM if own is None else claim_of(wire(own))
    found = [bytes_of(channel.receive((CLAIM_BYTES,), rank, torch.uint8)) for rank in range(len(OWNERS))]
    claims = b"".join(found) + mine
    for rank in range(len(OWNERS)):
        channel.send(tensor_of(claims), rank)
    _compare(claims, DEALER, mine)
    length = int.from_bytes(found[0][DIGEST_BYTES:], "big")
    limits.check_text(length)
    text = bytes_of(channel.receive((length,), 0, torch.uint8))
    if claim_of(text) != found[0]:
        raise DisagreementError(f"dealer: refused the script of {OWNERS[0]}, which is not the one that it had claimed")
    script = parse(text.decode("utf-8", "replace"))
    limits.check(measured(script))
    for rank in range(len(OWNERS)):
        channel.send(tensor_of(b"\1"), rank)
    return script


def _compare(claims: bytes, role: str, own: bytes) -> None:
    """All claims are equal, and this party's own is among them as it stated it; else a DisagreementError."""
    parts = [claims[k * CLAIM_BYTES : (k + 1) * CLAIM_BYTES] for k in range(3)]
    told = dict(zip((*OWNERS, DEALER), parts, strict=True))
    if told[DEALER] == _NO_CLAIM:
        del told[DEALER]
    if len(set(told.values())) == 1 and (own == _NO_CLAIM or own in told.values()):
        return
    said = ", ".join(
        f"{part[:6].hex()} of {int.from_bytes(part[DIGEST_BYTES:], 'big')} bytes at {who}" for who, part in told.items()
    )
    raise DisagreementError(
        f"the dealer's script differs at {role}: {said}; expected the one script that every party makes of the agreed "
        "program with the same version of this package. Nothing was dealt, shared or opened"
    )


def tensor_of(data: bytes) -> torch.Tensor:
    """Bytes as a message."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def bytes_of(tensor: torch.Tensor) -> bytes:
    """The bytes of a message."""
    return tensor.numpy().tobytes()


assert set(REQUESTS) <= set(dir(_Measure)), "every request is measured"
