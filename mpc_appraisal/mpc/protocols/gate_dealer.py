"""The dealer's answers to requests about values that the owners open under its masks: the gates of `masked` and others.

    delta = x + m mod 2^bits      the owners know delta, and the dealer m: it shares m, its products and functions of it

A mask m of both owners is kept by its id from `open` until `forget`. Each method of `GateDealer` has the name and the
arguments of a request (see the table in `dealer`). It checks its arguments, draws what the table says, and returns the
results, which the dealer splits into shares: "share" in the docstrings means this. What a request draws, and in which
order, has to stay in step with the engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols import borrow_chain, group_maximum
from mpc_appraisal.mpc.protocols.request_checks import checked_shape, whole_number
from mpc_appraisal.mpc.ring import bit_planes
from mpc_appraisal.mpc.ring.circle import MAX_HARMONICS, PHASE_BITS, WAVE_BITS, WAVE_RING, mask_waves
from mpc_appraisal.mpc.ring.elementwise import opening_mask
from mpc_appraisal.mpc.ring.matrix import ring_product
from mpc_appraisal.mpc.ring.packing import width
from mpc_appraisal.mpc.ring.powers_of_three import power_of_three

FACTOR_BITS = 16  # A public factor of `scale` has so many fractional bits.
MAX_THRESHOLDS = 64  # A value is compared with at most so many public thresholds at once.

Results = list[tuple[torch.Tensor, int]]  # Each result is shared modulo 2 to the power of the second entry.


class Mask(NamedTuple):
    """The mask of an opened value: a number in [0, 2^bits), and its top bit, which is None if `bits` is 64."""

    value: torch.Tensor
    top: torch.Tensor | None
    bits: int


def logical_shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the int64 tensor `x`, read as unsigned 64-bit numbers, shifted right by `bits`; 0 < bits < 64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class GateDealer:
    """The requests about masks of opened values.

    Args:
        streams: the streams of the model owner and of the data owner, by purpose.
    """

    def __init__(self, streams: Sequence[dict[str, Any]]):
        self._streams = streams
        self._opening_masks: dict[int, Mask] = {}

    def open(self, key: int, shape: list[int], bits: int, ring: int, drop: int = 0) -> Results:
        """Draw and keep the mask of a value opened mod 2^bits, and share the corrections that widen it to 2^ring.

        With `drop`, the value is opened mod 2^(drop + bits) and then cut. The mask's upper `bits` bits are kept and
        shared.
        """
        if not 0 < whole_number(bits, 64) <= whole_number(ring, 64) or whole_number(drop, 63) + bits > 64:
            raise AppraisalError(f"dealer: refused to open {bits!r} bits of {ring!r}; expected 1 to 64 of as many")
        a, b = (s["triple"].ring(checked_shape(shape), width(drop + bits), drop + bits) for s in self._streams)
        if drop + bits == 64:
            mask, top, carry = a + b, logical_shift(a + b, 63), None
        else:
            mask, top, carry = opening_mask(a, b, drop + bits)
        self._opening_masks[key] = Mask(logical_shift(mask, drop) if drop else mask, None if bits == 64 else top, bits)
        first = [(self._opening_masks[key].value, ring)] if drop else [(carry, ring - bits)] * (ring > bits)
        return [*first, *([(top, ring - bits)] if ring > bits else [])]

    def cross(self, left: int, right: int, ring: int, summed: bool = False) -> Results:
        """Share the product of two kept masks of `open`, or its rows' sums, and its corrections for top bits."""
        a, b = self._opening_masks[left], self._opening_masks[right]
        if not whole_number(ring, 64):
            raise AppraisalError("dealer: refused a product mod 2^0; expected a ring of 1 to 64 bits")
        product = a.value * b.value
        results = [(product.sum(1, keepdim=True) if summed else product, ring)]
        if left == right:
            if ring > a.bits:
                results.append((a.top * ((1 << a.bits) - 2 * a.value), ring - a.bits))
            return results
        for x, y in ((a, b), (b, a)):
            if ring > x.bits:
                results.append((-x.top * y.value, ring - x.bits))
        if ring > a.bits + b.bits:
            results.append((a.top * b.top, ring - a.bits - b.bits))
        return results

    def matmul(self, left: int, right: int, left_transposed: bool, right_transposed: bool) -> Results:
        """Share the matrix product of two kept masks of `open`, either of which may be transposed."""
        a, b = (self._opening_masks[key] for key in (left, right))
        if a.bits != 64 or b.bits != 64:
            raise AppraisalError(f"dealer: refused a matrix product of {a.bits} and {b.bits} bits; expected 64 of each")
        x, y = ((m.value.t() if t else m.value) for m, t in ((a, left_transposed), (b, right_transposed)))
        return [(ring_product(x, y), 64)]

    def power(self, key: int, rate: int, mantissa: int) -> Results:
        """Share 3^(-rate m / 2^40) for a kept mask m, and what is added to it where the opened value has wrapped."""
        mask = self._opening_masks[key]
        if not whole_number(mantissa, 20) or not whole_number(rate, 1 << 44) or mask.bits + rate.bit_length() > 56:
            raise AppraisalError(f"dealer: refused a power at rate {rate!r} with a mantissa of {mantissa!r} bits")
        plain = power_of_three(mask.value, mantissa, rate=-rate)
        wrapped = power_of_three((mask.top << mask.bits) - mask.value, mantissa, rate=rate)
        return [(plain, 64), (wrapped - plain, 64)]

    def scale(self, key: int, factor: int) -> Results:
        """Share a kept mask times factor / 2^FACTOR_BITS, and what a wrap of the opened value then amounts to."""
        mask = self._opening_masks[key]
        whole_number(mask.bits, 64 - FACTOR_BITS)
        whole_number(factor, 1 << FACTOR_BITS)
        wrap = (factor << mask.bits) >> FACTOR_BITS
        return [(logical_shift(mask.value * factor, FACTOR_BITS), 64), (mask.top * wrap, 64)]

    def forget(self, keys: list[int]) -> Results:
        """Drop kept masks of `open`."""
        for key in keys:
            del self._opening_masks[key]
        return []

    def _planes_of_both(self, rows: int, count: int) -> np.ndarray:
        a, b = (s["triple"].octets((rows, bit_planes.plane_bytes(count))) for s in self._streams)
        return a.numpy() ^ b.numpy()

    def compare(self, key: int) -> Results:
        """Share the digits of a kept mask of `open`, its top bit, and products of planes' masks; see `borrow_chain`."""
        mask = self._opening_masks[key]
        count = mask.value.numel()
        plan = borrow_chain.borrow_plan(mask.bits, count)
        planes = bit_planes.planes_of(mask.value, mask.bits)
        indicators = bit_planes.digit_indicators(bit_planes.digits_of(planes[:-1], plan.width))
        parts = [borrow_chain.packed_indicators(plan, indicators), planes[-1:]]
        for level in plan.levels:
            parts.append(borrow_chain.mask_products(level, self._planes_of_both(level.opened, count)))
        return [(torch.from_numpy(np.concatenate(parts)), 1)]

    def levels(self, key: int, count: int) -> Results:
        """Share what `compare` shares, for comparisons of one opened value with `count` thresholds; see `levels`."""
        mask = self._opening_masks[key]
        if not whole_number(count, MAX_THRESHOLDS):
            raise AppraisalError(f"dealer: refused no thresholds; expected 1 to {MAX_THRESHOLDS}")
        plan = borrow_chain.threshold_plan(mask.bits, count)
        planes = bit_planes.planes_of(mask.value, mask.bits)
        indicators = bit_planes.digit_indicators(bit_planes.digits_of(planes[:-1], plan.width))
        results = [np.concatenate([borrow_chain.packed_indicators(plan, indicators), planes[-1:]])]
        for level in plan.levels:
            masks = self._planes_of_both(level.opened, 8 * count * planes.shape[1])
            results.append(borrow_chain.mask_products(level, masks))
        return [(torch.from_numpy(each), 1) for each in results]

    def waves(self, key: int, count: int) -> Results:
        """Share cosines and sines of `count` multiples of a kept mask's angle; a mask of n bits has 2^n to a circle."""
        mask = self._opening_masks[key]
        if not whole_number(count, MAX_HARMONICS) or mask.bits > PHASE_BITS:
            raise AppraisalError(f"dealer: refused {count!r} harmonics of {mask.bits} bits; expected {PHASE_BITS} bits")
        return [(mask_waves(mask.value, mask.bits, count, WAVE_BITS), WAVE_RING)]

    def bits(self, key: int, shape: list[int]) -> Results:
        """Draw and keep random bits, as numbers 0 and 1, and share them."""
        (plane,) = self._planes_of_both(1, math.prod(checked_shape(shape)))
        bits = bit_planes.bits_of(plane, shape)
        self._opening_masks[key] = Mask(bits, None, 64)
        return [(bits, 64)]

    def difference(self, key: int, left: int, right: int, rows: list[int], others: list[int]) -> Results:
        """Keep rows of one kept mask of `open` less rows of another, of as many bits, for a comparison alone."""
        a, b = self._opening_masks[left], self._opening_masks[right]
        if a.bits != b.bits:
            raise AppraisalError(f"dealer: refused a difference of {a.bits} and {b.bits} bits; expected equal bits")
        self._opening_masks[key] = Mask(a.value[rows] - b.value[others], None, a.bits)
        return []

    def wins(self, key: int, sizes: list[int]) -> Results:
        """Share what the winners of groups take of random bits and of a kept mask; see `group_maximum`."""
        mask = self._opening_masks[key]
        shape = (len(group_maximum.pairs_of(sizes)[0]), *mask.value.shape[1:])
        (plane,) = self._planes_of_both(1, math.prod(shape))
        return [(group_maximum.win_products(sizes, bit_planes.bits_of(plane, shape), mask.value), mask.bits)]

    def gated_power(self, key: int, rate: int, mantissa: int) -> Results:
        """Share both results of `power`, each times 1 - s and times s for random bits s of the mask's shape."""
        powers, shape = self.power(key, rate, mantissa), self._opening_masks[key].value.shape
        (plane,) = self._planes_of_both(1, math.prod(shape))
        s = bit_planes.bits_of(plane, shape)
        return [(part, 64) for result, _ in powers for part in ((1 - s) * result, s * result)]
