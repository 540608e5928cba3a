"""Agreement on the dealer's script: the dealer accepts one script, which both owners have made, within limits.

A script is the list of requests that a dry run of the agreed program gives (see `dealer`). A claim is the SHA-256 and
the length of a script. In goes the script of each owner's dry run; out comes the script that the dealer will answer, or
an error at every party.

    both owners -> dealer     the claim to the script of each owner's dry run                  40 bytes each
    dealer -> both owners     both claims, and the dealer's own if it made a dry run too       120 bytes each
    model owner -> dealer     the script, as JSON
    dealer -> both owners     one byte, if the script is the claimed one and is within the limits

A party that sees different claims raises DisagreementError. Nothing is dealt, and no owner masks a value, before that
one byte. The dealer measures the script from shapes alone before it allocates any memory. The script contains shapes
and public numbers, so that nothing private leaves a party.

This is needed because an owner that made up requests could have the dealer share functions of masks, and so read what
the other owner sends under these masks. What a cheating owner can still do:

- It can add errors to its own messages and shares, which shifts what is computed by amounts of its choice. With
  session.integrity=on the other owner finds this out before anything is opened (see `mpc.integrity`).
- It can state another script, or none. This ends the session before anything is shared.
- With engine rtas it can add errors to what the helper receives, but it cannot choose what the helper computes.
- It can state public facts or a configuration for which the agreed program is large. The limits below end the session.

Two owners together may ask for whatever is within the limits, since the dealer has no secrets of its own. CrypTen as
shipped (`stock`) has no script: its dealer answers each request of the model owner, and nothing here covers it. The
limits may change: the dealer alone applies them. The messages above, and the JSON of a script, have to be the same at
all parties.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import AppraisalError, DisagreementError
from mpc_appraisal.common.roles import DEALER, OWNERS
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.protocols.borrow_chain import borrow_plan, threshold_plan
from mpc_appraisal.mpc.protocols.dealer import (
    BILINEAR,
    CONVOLUTION_OPTIONS,
    REQUESTS,
    parse,
)
from mpc_appraisal.mpc.protocols.gate_dealer import MAX_THRESHOLDS
from mpc_appraisal.mpc.protocols.group_maximum import LARGEST_GROUP, dealt_rows, pairs_of
from mpc_appraisal.mpc.protocols.request_checks import checked_divisor, checked_shape
from mpc_appraisal.mpc.protocols.script_limits import ELEMENT_BYTES, Limits, ScriptRequest
from mpc_appraisal.mpc.ring.bit_planes import plane_bytes
from mpc_appraisal.mpc.ring.circle import MAX_HARMONICS, PHASE_BITS
from mpc_appraisal.mpc.ring.kernels import WORTH, loops
from mpc_appraisal.mpc.ring.narrow import WIDTHS
from mpc_appraisal.mpc.ring.shape_tensor import broadcast, shape_of

DIGEST_BYTES = 32
CLAIM_BYTES = DIGEST_BYTES + 8
_NO_CLAIM = bytes(CLAIM_BYTES)


def script_json(script: Sequence[Any]) -> bytes:
    """Return the JSON in which a script is sent; equal scripts give the same bytes at all parties."""
    return json.dumps(script).encode()


def claim_of(text: bytes) -> bytes:
    """Return the claim (40 bytes) to the script whose JSON is `text`: the SHA-256 and the length of the JSON."""
    return hashlib.sha256(text).digest() + len(text).to_bytes(8, "big")


def _copies(shape: tuple[int, ...]) -> int:
    """Return how many copies of a private matrix's mask the dealer may keep: torch's products keep a transposed one.

    Every product with a matrix of WORTH elements or more is worth the compiled loops, which need no copy.
    """
    size = math.prod(shape)
    return 1 if size >= WORTH and loops(size) is not None else 2


class _Measure:
    """The measure of a script, which follows the script by shapes alone and allocates nothing for it.

    Each method without an underscore has the name and the arguments of a request. It checks the arguments, updates what
    is kept, and returns the number of elements that the dealer would draw and share for the request.
    """

    def __init__(self) -> None:
        self.kept: dict[int, tuple[int, ...]] = {}
        self.selected: dict[int, list[int]] = {}  # the ids of rows of a mask, by the mask's id
        self.opening_masks: dict[int, tuple[int, ...]] = {}
        self.widths: dict[int, int] = {}  # in how many bits a value was opened under a mask, by the mask's id
        self.elements = 0  # what is kept at present

    def _key(self, value: Any) -> int:
        if not is_integer(value):
            raise AppraisalError(f"dealer: refused the name {value!r:.40} of a mask; expected a whole number")
        return value

    def _keep(self, table: dict[int, tuple[int, ...]], key: Any, shape: tuple[int, ...], copies: int) -> None:
        if self._key(key) in self.kept or key in self.opening_masks:
            raise AppraisalError(f"dealer: refused to keep a mask twice as {key}; expected a new name")
        table[key] = shape
        self.elements += copies * math.prod(shape)

    def _drop(self, table: dict[int, tuple[int, ...]], key: Any, copies: int) -> None:
        self.elements -= copies * math.prod(table.pop(self._key(key)))

    def mask(self, key: Any, owner: Any, shape: Any, bits: Any = 64) -> int:
        if not is_integer(owner) or owner not in (0, 1):
            raise AppraisalError(f"dealer: refused a mask of owner {owner!r:.40}; expected 0 or 1")
        if not is_integer(bits) or bits not in (*WIDTHS, 64):
            raise AppraisalError(f"dealer: refused a mask of {bits!r:.40} bits; expected one of {(*WIDTHS, 64)}")
        shape = checked_shape(shape)
        self._keep(self.kept, key, shape, _copies(shape))
        return math.prod(shape)

    def rows(self, key: Any, base: Any, indices: Any) -> int:
        height, width = self.kept[self._key(base)]
        if not isinstance(indices, list) or not all(type(i) is int and 0 <= i < height for i in indices):
            raise AppraisalError(f"dealer: refused rows of a mask; expected a list of places 0 to {height - 1}")
        self._keep(self.kept, key, (len(indices), width), _copies((len(indices), width)))
        self.selected.setdefault(base, []).append(key)
        return len(indices) * width

    def free(self, key: Any) -> int:
        for each in (key, *self.selected.pop(self._key(key), [])):
            if each == key or each in self.kept:
                self._drop(self.kept, each, _copies(self.kept[each]))
        return 0

    def product(self, left: Any, right: Any, transposed: Any) -> int:
        opened = self.opening_masks.get(self._key(right))
        (n, d), (height, k) = self.kept[self._key(left)], self.kept[right] if opened is None else opened
        inner, rows = (n, d) if transposed else (d, n)
        if inner != height:
            raise AppraisalError(f"dealer: refused a product of {(n, d)} and {(height, k)}; expected sizes that agree")
        return rows * k

    def open(self, key: Any, shape: Any, bits: Any, ring: Any, drop: Any = 0) -> int:
        self._keep(self.opening_masks, key, checked_shape(shape), 2)  # The dealer keeps the mask and its top bit.
        if not is_integer(bits) or not 0 < bits <= 64 or not is_integer(drop) or not 0 <= drop <= 64 - bits:
            raise AppraisalError(f"dealer: refused to open {bits!r:.40} bits; expected 1 to 64")
        self.widths[key] = bits
        return 4 * math.prod(self.opening_masks[key])

    def cross(self, left: Any, right: Any, ring: Any, summed: Any = 0) -> int:
        shape = broadcast(self.opening_masks[self._key(left)], self.opening_masks[self._key(right)])
        if summed and len(shape) != 2:
            raise AppraisalError(f"dealer: refused sums of the rows of a product {tuple(shape)}; expected a matrix")
        return 4 * math.prod(shape)

    def matmul(self, left: Any, right: Any, left_transposed: Any, right_transposed: Any) -> int:
        shapes = []
        for key, turned in ((left, left_transposed), (right, right_transposed)):
            rows, columns = self.opening_masks[self._key(key)]
            if self.widths[key] != 64:
                raise AppraisalError(f"dealer: refused a matrix product of {self.widths[key]} bits; expected 64")
            shapes.append((columns, rows) if turned else (rows, columns))
        (n, d), (height, k) = shapes
        if d != height:
            raise AppraisalError(f"dealer: refused a product of {(n, d)} and {(height, k)}; expected sizes that agree")
        return n * k

    def power(self, key: Any, rate: Any, mantissa: Any) -> int:
        return 2 * math.prod(self.opening_masks[self._key(key)])

    def scale(self, key: Any, factor: Any) -> int:
        return 2 * math.prod(self.opening_masks[self._key(key)])

    def compare(self, key: Any) -> int:
        shape, bits = self.opening_masks[self._key(key)], self.widths[key]
        if bits < 2:
            raise AppraisalError(f"dealer: refused to compare numbers of {bits} bits; expected 2 bits or more")
        plan = borrow_plan(bits, math.prod(shape))
        planes = plan.dealt + 2**plan.width * plan.digits + sum(level.opened for level in plan.levels)
        return -(-planes * plane_bytes(math.prod(shape)) // ELEMENT_BYTES)

    def levels(self, key: Any, count: Any) -> int:
        shape, bits = self.opening_masks[self._key(key)], self.widths[key]
        if bits < 2 or not is_integer(count) or not 0 < count <= MAX_THRESHOLDS:
            raise AppraisalError(f"dealer: refused {count!r:.40} thresholds for {bits} bits; expected 1 to 64")
        plan = threshold_plan(bits, count)
        planes = plan.indicators + 1 + 2**plan.width * plan.digits
        planes += count * sum(level.dealt + level.opened for level in plan.levels)
        return -(-planes * plane_bytes(math.prod(shape)) // ELEMENT_BYTES)

    def waves(self, key: Any, count: Any) -> int:
        shape, bits = self.opening_masks[self._key(key)], self.widths[key]
        if bits > PHASE_BITS or not is_integer(count) or not 0 < count <= MAX_HARMONICS:
            raise AppraisalError(f"dealer: refused {count!r:.40} harmonics of {bits} bits; expected {PHASE_BITS} bits")
        return 2 * count * math.prod(shape)

    def bits(self, key: Any, shape: Any) -> int:
        self._keep(self.opening_masks, key, checked_shape(shape), 2)
        self.widths[key] = 64
        return 2 * math.prod(self.opening_masks[key])

    def difference(self, key: Any, left: Any, right: Any, rows: Any, others: Any) -> int:
        one, other = (self.opening_masks[self._key(k)] for k in (left, right))
        known = all(type(k) is int and 0 <= k < m[0] for m, listed in ((one, rows), (other, others)) for k in listed)
        if not known or (len(rows), one[1:], self.widths[left]) != (len(others), other[1:], self.widths[right]):
            raise AppraisalError(f"dealer: refused a difference of {one} and {other}; expected rows that agree")
        self._keep(self.opening_masks, key, (len(rows), *one[1:]), 2)
        self.widths[key] = self.widths[left]
        return math.prod(self.opening_masks[key])

    def wins(self, key: Any, sizes: Any) -> int:
        elements, rows = self.opening_masks[self._key(key)]
        if not all(type(k) is int and 0 < k <= LARGEST_GROUP for k in sizes) or sum(sizes) != elements:
            raise AppraisalError(f"dealer: refused groups of {elements} elements; expected sizes up to {LARGEST_GROUP}")
        return rows * (dealt_rows(sizes) + len(pairs_of(sizes)[0]))

    def gated_power(self, key: Any, rate: Any, mantissa: Any) -> int:
        return 7 * math.prod(self.opening_masks[self._key(key)])

    def forget(self, keys: Any) -> int:
        for key in keys:
            self._drop(self.opening_masks, key, 2)
        return 0

    def mul(self, shape_x: Any, shape_y: Any) -> int:
        x, y = checked_shape(shape_x), checked_shape(shape_y)
        return math.prod(x) + math.prod(y) + math.prod(broadcast(x, y))

    conjunction = mul

    def square(self, shape: Any) -> int:
        return 2 * math.prod(checked_shape(shape))

    bit = square

    def inner(self, shape: Any) -> int:
        return 3 * math.prod(checked_shape(shape))

    def truncate(self, shape: Any, bits: Any) -> int:
        return 3 * math.prod(checked_shape(shape))

    def divide(self, shape: Any, divisor: Any) -> int:
        checked_divisor(divisor)
        return 3 * math.prod(checked_shape(shape))

    def bilinear(self, op: Any, shape_x: Any, shape_y: Any, options: Any) -> int:
        if op not in BILINEAR or not isinstance(options, dict) or not set(options) <= CONVOLUTION_OPTIONS:
            raise AppraisalError(f"dealer: refused {op!r:.40}; expected one of {', '.join(BILINEAR)}")
        x, y = checked_shape(shape_x), checked_shape(shape_y)
        out = math.prod(shape_of(op, x, y, options))
        columns = (
            out // max(y[0], 1) * math.prod(y[1:]) // max(x[0], 1) if op.startswith("conv") else 0
        )  # for one image
        return math.prod(x) + math.prod(y) + out + columns

    def apply(self, names: Any, shape: Any, bits: Any) -> int:
        return (2 + len(names)) * math.prod(checked_shape(shape))

    def settle(self, key: Any, shape: Any) -> int:
        self._keep(self.opening_masks, key, checked_shape(shape), 2)
        return 2 * math.prod(checked_shape(shape))

    def dense(self, key: Any) -> int:
        self._key(key)
        return 0

    def keep(self, key: Any, shape: Any) -> int:
        self._key(key)
        return 2 * math.prod(checked_shape(shape))

    def drop_kept(self) -> int:
        return 0

    def check(self, moduli: Any) -> int:
        if not moduli or not all(is_integer(b) and 0 < b <= 64 for b in moduli):
            raise AppraisalError(f"dealer: refused a check of {moduli!r:.40}; expected numbers of bits up to 64")
        return 0

    def show(self, key: Any, ranks: Any) -> int:
        self._drop(self.opening_masks, key, 2)
        return 0

    def mark(self) -> int:
        return 0


class ScriptMeasure:
    """The measure of requests as they come; `found` is what all of them so far ask for."""

    def __init__(self) -> None:
        self._follow, self.found = _Measure(), ScriptRequest()

    def add(self, request: Sequence[Any]) -> ScriptRequest:
        """Return `found` with one more parsed request. Raises AppraisalError if the request cannot be answered."""
        name, *arguments = request
        try:
            size = getattr(self._follow, name)(*arguments)
        except (TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError, ValueError) as error:
            raise AppraisalError(f"dealer: refused {name} with {str(arguments)[:80]} ({str(error)[:80]})") from error
        done = self.found
        largest, kept = max(done.largest, size), max(done.kept, self._follow.elements)
        self.found = ScriptRequest(done.requests + 1, largest, done.total + size, kept)
        return self.found


def measured(script: Sequence[Any]) -> ScriptRequest:
    """Return what a parsed script asks for, from shapes. Raises AppraisalError if a request cannot be answered."""
    measure = ScriptMeasure()
    for request in script:
        measure.add(request)
    return measure.found


def submit_script(channel: Channel, script: Sequence[Any], role: str) -> None:
    """Agree with the other parties on `script`, which this owner's dry run gave; each owner calls this.

    The owner waits for two messages of the dealer.

    Args:
        channel: connects this owner with the dealer.
        script: the requests.
        role: this owner's role.

    Raises DisagreementError: the parties have made different scripts. Nothing has been dealt or shared then.
    """
    text = script_json(script)
    channel.send(tensor_of(claim_of(text)), 2)
    claims = bytes_of(channel.receive((3 * CLAIM_BYTES,), 2, torch.uint8))
    _compare(claims, role, claim_of(text))
    if role == OWNERS[0]:
        channel.send(tensor_of(text), 2)
    channel.receive((1,), 2, torch.uint8)


def receive_script(channel: Channel, limits: Limits, own: Sequence[Any] | None = None) -> list[Any]:
    """Return the script on which both owners agree, after checking it against the limits; the dealer calls this.

    Args:
        channel: connects the dealer with both owners.
        limits: the most that the script may ask for.
        own: the script of the dealer's own dry run, or None if it made none.

    Raises:
        DisagreementError: the scripts differ, the model owner sent another script than it claimed, or the script is
            too large.
        AppraisalError: what was sent is no script.
    """
    mine = _NO_CLAIM if own is None else claim_of(script_json(own))
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
    """Raise DisagreementError unless all claims are equal and this party's claim `own` is one of them.

    `claims` are the claims of the model owner, the data owner and the dealer, one after the other. `role` is the party
    that compares the claims. A dealer that made no dry run has _NO_CLAIM in place of a claim, which is not compared.
    """
    claimed = {party: claims[k * CLAIM_BYTES : (k + 1) * CLAIM_BYTES] for k, party in enumerate((*OWNERS, DEALER))}
    if claimed[DEALER] == _NO_CLAIM:
        del claimed[DEALER]
    if len(set(claimed.values())) == 1 and (own == _NO_CLAIM or own in claimed.values()):
        return
    listed = ", ".join(
        f"{claim[:6].hex()} of {int.from_bytes(claim[DIGEST_BYTES:], 'big')} bytes at {party}"
        for party, claim in claimed.items()
    )
    raise DisagreementError(
        f"the dealer's script differs at {role}: {listed}; expected the one script that every party makes of the "
        "agreed program with the same version of this package. Nothing was dealt, shared or opened"
    )


def tensor_of(data: bytes) -> torch.Tensor:
    """Return the message (uint8, one dimension) with the given bytes."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def bytes_of(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a message that `tensor_of` has made."""
    return tensor.numpy().tobytes()


assert set(REQUESTS) <= set(dir(_Measure)), "_Measure lacks a method for a request"
