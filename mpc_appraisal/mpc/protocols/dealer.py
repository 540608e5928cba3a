"""The dealer hands the owners correlated randomness, by a closed list of requests. It sees shapes and never a value.

The owners (model owner, rank 0, and data owner, rank 1) compute on shares mod 2^64. For most steps they need random
numbers that belong together, for example shares of a, b and a b. In goes the script, which is the list of all requests
of a session; out come the results, each split into two shares. The model owner sends the script before the computation
begins, and the dealer works through it without waiting for anybody. It accepts only a script that both owners have
made, within limits (see `orders`).

Each owner shares a key with the dealer, and both expand this key to the same streams of random numbers. The dealer
computes a result from the masks (random numbers) that the owners draw from their streams, and splits the result into
two shares. The data owner's share is the next piece of its stream, so that nothing is sent to it. The model owner's
share is the correction, result - stream: the dealer sends it one message a result, of 8 bytes an element, or of
ceil(bits / 8) bytes where the result is shared mod 2^bits. Each share alone is uniform, and therefore reveals nothing
to its owner.

| request | masks drawn | result, shared between the owners |
|---|---|---|
| mask id owner shape [bits] | A of the owner, mod 2^bits (64) | none: A is kept |
| rows id base indices | none | none: rows of a kept mask are kept under a new id |
| free id | none | none: the mask and its rows are dropped |
| product left right transposed | none | A_left A_right or A_left' A_right in the smaller ring; right may be of `open` |
| mul shape shape | a, b of both | a * b, broadcast |
| square shape | a of both | a * a |
| inner shape | a, b of both | sum of a * b |
| truncate shape bits | r of both | r >> bits (unsigned), and the top bit of r |
| divide shape divisor | r of both | r // divisor (unsigned), and the top bit of r (see `public_division`) |
| open id shape bits ring | m of both, `bits` bits, kept | where ring > bits: carry of m's two shares; m's top bit |
| open ... drop | m of both, drop + bits bits; the upper `bits` are kept | these; where ring > bits: m's top bit |
| cross id id ring [summed] | none | product of two kept masks mod 2^ring, each row summed or not, and its corrections |
| matmul id id transposed transposed | none | matrix product of two kept masks of 64 bits |
| scale id factor | none | factor m / 2^16 for a kept mask m, and what is added where the opened value has wrapped |
| power id rate mantissa | none | 3^(-rate m) with and without m's top bit (see `powers_of_three`) |
| forget ids | none | none: masks of `open` are dropped |
| bilinear op shape shape options | a, b of both | matmul or a convolution of a and b (for CrypTen's tensors) |
| conjunction shape shape | a, b of both, by xor | a & b, by xor |
| bit shape | a bit of both, by xor | the bit |
| compare id | planes of both, by xor | by xor: digits of a kept mask, and products of the planes (see `borrow_chain`) |
| levels id count | planes of both, by xor | what `compare` shares, for a number of thresholds (see `levels`) |
| waves id count | none | cosines and sines of multiples of a kept mask's angle (see `harmonics`) |
| bits id shape | a plane of both, by xor, kept | its bits |
| difference id id id rows rows | none | none: rows of one kept mask of `open` less rows of another are kept |
| wins id sizes | planes of both, by xor | products of their bits and a kept mask (see `group_maximum`) |
| gated_power id rate mantissa | a plane of both, by xor | results of `power` times 1 - s, and times s, for its bits s |
| apply functions shape bits | none, but both owners' shares of permuted z | the functions of z: see `permutation` |
| dense id | none | none: a private matrix enters the owners' messages by more than products |
| settle id shape | r of each owner, kept | none |
| keep id shape | r of each owner | none: r is what later messages depend on, in place of what the shares are made of |
| drop_kept | none | none: no r of `keep` is used after the next check |
| check moduli | none | none: the owners' messages since the last check are checked (see `mpc.integrity`) |
| show id ranks | none | none: owners of `ranks` are told the other's r of `settle`, once both have passed the check |
| mark | none | none: the dealer records how much it has sent so far |

An id is a number by which a mask is known. A mask "of both" is the sum, or the exclusive or, of what the two owners
draw. Only a session of engine rtas answers `apply`: its dealer is the helper too, and it does see values.

A request may be added; it needs a line above, a method of `Dealer` (of `GateDealer` if it is about the mask of an
opened value) and a measure in `orders`. What a request draws, and in which order, has to stay in step with the engine,
since owners and dealer read the same streams.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols.draws import Draws
from mpc_appraisal.mpc.protocols.gate_dealer import GateDealer, Results, logical_shift
from mpc_appraisal.mpc.protocols.helper_functions import check_functions, computed
from mpc_appraisal.mpc.protocols.request_checks import checked_divisor, checked_shape, whole_number
from mpc_appraisal.mpc.ring import narrow
from mpc_appraisal.mpc.ring.matrix import Matrix
from mpc_appraisal.mpc.ring.packing import pack, width
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.quotients import unsigned_quotient

MAX_REQUESTS = 10**6
MAX_BITS = 128  # A value that the helper receives has at most so many fractional bits.
BILINEAR = ("mul", "matmul", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")
CONVOLUTION_OPTIONS = frozenset({"stride", "padding", "dilation", "groups", "output_padding"})
PURPOSES = ("mask", "triple", "share")

Request = list[Any]


def parse(text: str) -> list[Request]:
    """Return the script that the JSON `text` states. Raises AppraisalError if it is no list of known requests.

    The arguments of the requests are not checked here.
    """
    try:
        script = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:  # Endless numbers, endless brackets
        raise AppraisalError("dealer: refused a script that is not JSON") from error
    if not isinstance(script, list) or len(script) > MAX_REQUESTS:
        raise AppraisalError("dealer: refused a script; expected a list of at most a million requests")
    for request in script:
        named = isinstance(request, list) and request and isinstance(request[0], str)
        if not named or request[0] not in REQUESTS:
            raise AppraisalError(f"dealer: refused the request {request!r:.80}; expected one of {', '.join(REQUESTS)}")
    return script


class Check(Protocol):
    """The dealer's part in checks of the owners' messages: `mpc.integrity.message_check.DealerCheck`."""

    def check(self, draws: Sequence[Draws], moduli: Sequence[int]) -> None:
        """Answer the check of both owners' messages, of which `draws` holds what was dealt to each owner."""

    def show(self, masks: Sequence[torch.Tensor], ranks: Sequence[int]) -> None:
        """Tell the owners of `ranks` the other owner's mask, once both owners have passed the check."""


class Dealer(GateDealer):
    """The dealer, which answers the requests of one script, each by the method of the request's name.

    The table above says what each of these methods draws and shares. A method raises AppraisalError for an argument
    that it refuses. Other errors that wrong arguments cause are turned into AppraisalError by `run`.

    Args:
        keys: the model owner's key and the data owner's key, each shared with that owner alone.
        send: a function that sends a correction to the model owner.
        receive: a function that returns the next message of the given shape from the owner of the given rank. None
            makes this a dealer that is no helper, and that sees no value.
        checked: answers checks of the owners' messages. None refuses scripts that ask for such checks.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        send: Callable[[torch.Tensor], None],
        receive: Callable[[tuple[int, ...], int], torch.Tensor] | None = None,
        checked: Check | None = None,
    ):
        streams = [{p: Stream(key, p) for p in PURPOSES} for key in keys]
        self._check, self._draws = checked, [Draws(each) for each in streams] if checked else []
        super().__init__([draws.streams for draws in self._draws] if checked else streams)
        self._settled: dict[int, list[torch.Tensor]] = {}  # the masks of results, of both owners
        self._send, self._receive = send, receive
        self._kept: dict[int, Matrix] = {}  # the masks of private matrices
        self._rings: dict[int, int] = {}  # the width of each of these masks in bits
        self._selected: dict[int, list[int]] = {}  # the ids of rows of a mask, by the mask's id

    def places(self) -> list[tuple[int, int, int]]:
        """Return how many bytes each owner's streams mask, triple and share have given, or its shares have taken."""
        shares = self._streams[1]["share"].position
        return [(s["mask"].position, s["triple"].position, shares) for s in self._streams]

    def run(self, script: list[Request], mark: Callable[[], None]) -> None:
        """Answer every request of the script in order, and call `mark` at each request of that name.

        Raises AppraisalError: a request cannot be answered. The results of earlier requests have been sent then.
        """
        for request in script:
            name, *arguments = request
            if name == "mark":
                mark()
                continue
            try:
                results = REQUESTS[name](self, *arguments)
            except (TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError, MemoryError) as error:
                raise AppraisalError(f"dealer: refused {name} with {str(arguments)[:80]} ({error})") from error
            for result, bits in results:
                correction = self._correction(name, result, bits)
                for draws in self._draws[:1]:
                    draws.correction(correction, result.shape, 1 if result.dtype == torch.uint8 else 8 * width(bits))
                self._send(correction)

    def _correction(self, name: str, result: torch.Tensor, bits: int) -> torch.Tensor:
        """Return what the model owner is sent of a result, which is its share."""
        stream = self._streams[1]["share"]
        if result.dtype == torch.uint8:  # bit planes, which are shared by exclusive or
            return result ^ stream.octets(result.shape)
        size = width(bits)
        theirs = stream.ring(result.shape, size)
        if name == "conjunction":
            return result ^ theirs
        return result - theirs if size == 8 else pack(result, size, less=theirs)

    # Each method below checks its arguments, draws the masks of the table above, and returns the results, which `run`
    # then splits into shares. "Share" in their docstrings means this.
    def _both(self, shape: tuple[int, ...]) -> torch.Tensor:
        a, b = (s["triple"].ring(shape) for s in self._streams)
        return a.add_(b)

    def mask(self, key: int, owner: int, shape: list[int], bits: int = 64) -> Results:
        """Draw and keep the mask mod 2^bits of a private matrix of the owner of rank `owner`."""
        whole_number(owner, 1)
        if bits not in (*narrow.WIDTHS, 64):
            raise AppraisalError(f"dealer: refused a mask of {bits!r:.40} bits; expected one of {(*narrow.WIDTHS, 64)}")
        for draws in self._draws[owner : owner + 1]:
            draws.mask(key, True, checked_shape(shape), bits)
        self._kept[key] = narrow.drawn_matrix(self._streams[owner]["mask"], checked_shape(shape), bits)
        self._rings[key] = bits
        return []

    def rows(self, key: int, base: int, indices: list[int]) -> Results:
        """Keep the rows `indices` of the mask `base` under the new id `key`."""
        self._kept[key], self._rings[key] = self._kept[base].rows(indices), self._rings[base]
        self._selected.setdefault(base, []).append(key)
        return self._dense(base)

    def dense(self, key: int) -> Results:
        """Note that a private matrix enters the owners' messages by more than products."""
        self._checked_draws()
        return self._dense(key)

    def _dense(self, key: int) -> Results:
        for draws in self._draws:
            draws.dense(key)
        return []

    def free(self, key: int) -> Results:
        """Drop the mask of a private matrix, and all rows that were selected from it."""
        del self._kept[key]
        for draws in self._draws:
            draws.free(key)
        for selected in self._selected.pop(key, []):
            self._kept.pop(selected, None)
        return []

    def product(self, left: int, right: int, transposed: bool) -> Results:
        """Share the matrix product of two kept masks, of which the left one may be transposed."""
        opened = self._opening_masks.get(right)
        values, bits = (self._kept[right].values, self._rings[right]) if opened is None else (opened.value, opened.bits)
        found = self._kept[left].product(values, bool(transposed))
        for draws in self._draws:
            draws.product(left, right, bool(transposed), *found.shape)
        return [(found, min(self._rings[left], bits))]

    def mul(self, shape_x: list[int], shape_y: list[int]) -> Results:
        """Share the elementwise product of two masks, broadcast."""
        a, b = self._both(checked_shape(shape_x)), self._both(checked_shape(shape_y))
        return [(a * b, 64)]

    def square(self, shape: list[int]) -> Results:
        """Share the elementwise square of a mask."""
        a = self._both(checked_shape(shape))
        return [(a * a, 64)]

    def inner(self, shape: list[int]) -> Results:
        """Share the sum of the elementwise product of two masks, one number."""
        a, b = self._both(checked_shape(shape)), self._both(checked_shape(shape))
        return [((a * b).sum(), 64)]

    def bilinear(self, op: str, shape_x: list[int], shape_y: list[int], options: dict[str, Any]) -> Results:
        """Share torch's function `op`, one of BILINEAR, of two masks."""
        if op not in BILINEAR or not set(options) <= CONVOLUTION_OPTIONS:
            raise AppraisalError(f"dealer: refused {op!r:.40}; expected one of {', '.join(BILINEAR)}")
        a, b = self._both(checked_shape(shape_x)), self._both(checked_shape(shape_y))
        return [(getattr(torch, op)(a, b, **options), 64)]

    def conjunction(self, shape_x: list[int], shape_y: list[int]) -> Results:
        """Share, by exclusive or, the bitwise and of two masks that are shared by exclusive or."""
        (a0, a1), (b0, b1) = (
            [s["triple"].ring(checked_shape(shape)) for s in self._streams] for shape in (shape_x, shape_y)
        )
        return [((a0 ^ a1) & (b0 ^ b1), 64)]

    def bit(self, shape: list[int]) -> Results:
        """Share additively a random bit whose exclusive-or shares are the lowest bits that the owners draw."""
        a, b = (s["triple"].ring(checked_shape(shape)) for s in self._streams)
        return [((a ^ b) & 1, 64)]

    def truncate(self, shape: list[int], bits: int) -> Results:
        """Share the mask r shifted right by `bits`, and mod 2^bits the top bit of r."""
        if not isinstance(bits, int) or not 0 < bits < 64:
            raise AppraisalError(f"dealer: refused to truncate {bits!r} bits; expected 1 to 63")
        r = self._both(checked_shape(shape))
        return [(logical_shift(r, bits), 64), (logical_shift(r, 63), bits)]

    def divide(self, shape: list[int], divisor: int) -> Results:
        """Share the mask r, as an unsigned number, divided by a public divisor, and the top bit of r."""
        d = checked_divisor(divisor)
        r = self._both(checked_shape(shape))
        return [(unsigned_quotient(r, d), 64), (logical_shift(r, 63), 64)]

    def settle(self, key: int, shape: list[int]) -> Results:
        """Draw and keep a mask of each owner, for a result that both have under these masks."""
        found = []
        for draws in self._checked_draws():
            draws.settle(key, checked_shape(shape))
            found.append(draws.streams["mask"].ring(shape))
        self._settled[key] = found
        return []

    def keep(self, key: int, shape: list[int]) -> Results:
        """Draw a mask of each owner, for shares that both use once more after the next check."""
        for draws in self._checked_draws():
            draws.settle(key, checked_shape(shape), True)
            draws.streams["mask"].ring(shape)
        return []

    def drop_kept(self) -> Results:
        """Note that no mask of `keep` is used after the next check."""
        for draws in self._checked_draws():
            draws.drop_kept()
        return []

    def check(self, moduli: list[int]) -> Results:
        """Answer the check of all messages since the last one. Raises IntegrityError where it cannot be made."""
        draws = self._checked_draws()
        self._check.check(draws, [whole_number(b, 64) for b in moduli])
        for each in draws:
            each.close_section()
        return []

    def show(self, key: int, ranks: list[int]) -> Results:
        """Tell owners the other owner's mask of `settle`, once both say that the check has passed."""
        if not ranks or not all(type(rank) is int and rank in (0, 1) for rank in ranks):
            raise AppraisalError(f"dealer: refused to show a result to {ranks!r:.40}; expected owners' ranks")
        self._checked_draws()
        self._check.show(self._settled.pop(key), ranks)
        return []

    def _checked_draws(self) -> list[Draws]:
        if not self._draws:
            raise AppraisalError("dealer: refused a check of messages; expected session.integrity=on at the dealer too")
        return self._draws

    def apply(self, names: list[str], shape: list[int], bits: int) -> Results:
        """Receive the shares of permuted values z with `bits` fractional bits, and share each named function of z.

        Raises BoundError where a value or a result is beyond fixed point (see `helper_functions.computed`).
        """
        if self._receive is None:
            raise AppraisalError("dealer: refused to receive values; expected a session of engine rtas")
        if not isinstance(names, list) or check_functions(names) != (len(checked_shape(shape)) == 2) or not all(shape):
            raise AppraisalError(f"dealer: refused {names!r:.40} of {shape!r:.40}; expected (n), or rows (n, C)")
        scale = whole_number(bits, MAX_BITS)
        z = self._receive(tuple(shape), 0) + self._receive(tuple(shape), 1)
        return [(computed(name, z, scale), 64) for name in names]


REQUESTS: dict[str, Callable[..., Results]] = {
    name: getattr(Dealer, name)
    for name in (
        "mask", "rows", "free", "product", "mul", "square", "inner", "truncate", "divide",
        "open", "cross", "matmul", "power", "scale", "forget",
        "bilinear", "conjunction", "bit", "compare", "levels", "waves", "bits", "difference", "wins", "gated_power",
        "apply", "dense", "settle", "keep", "drop_kept", "check", "show",
    )
}  # fmt: skip
REQUESTS["mark"] = lambda dealer: []
