"""The coarse size of an opened number: how many public thresholds it reaches, by digits of the dealer's mask; exact.

    [s < t_j]   is the top bit of   (delta - t_j) - m = s - t_j,      for public thresholds t_1 < t_2 < ... < t_J
    level(s) = sum over j of [s >= t_j]

s has been opened once, as delta = s + m mod 2^bits (see `masked`). As in `comparison`, the dealer shares m by the
indicators of its digits, by exclusive or, but once for all thresholds: each owner looks up its shares of every digit's
"less" and "equal" in the public delta - t_j, and one opening combines the digits of all thresholds (`borrow_chain`).

In goes a `MaskedValue` with s and every threshold in [0, 2^(bits - 1)); out come shared bits, and of these the level as
an additive share. Level 0 means that no threshold is reached. Since thresholds come in order, the bits of the level as
a binary number are exclusive ors of the bits [s >= t_j]: bit k is that of all j that 2^k divides. So few bits are
turned into additive shares.

| step, for each number s | each owner sends | rounds |
|---|---|---|
| `reached` | 2 (digits - 1) bits for each threshold | 1 |
| `level` | one bit for each bit of J | 1 |
| `indicators` | one bit for each threshold | 1 |

What an owner receives is masked by random bits that it does not know, so that nothing is revealed. The dealer sends the
model owner the indicators, about 2^digit bits for each digit, some bits for each threshold, and 8 bytes for each bit
that becomes an additive share. Nothing here can fail. The order of bits and digits is a format between the parties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mpc_appraisal.mpc.protocols import borrow_chain
from mpc_appraisal.mpc.protocols.comparison import SharedBits, masked_bits
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedValue
from mpc_appraisal.mpc.ring import bit_planes
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor


@dataclass
class ReachedThresholds:
    """The bits [s >= t_j], shared by exclusive or.

    Attributes:
        planes: this owner's share, uint8 (thresholds, bit_planes.plane_bytes(numbers)); None in a dry run.
        thresholds: the number J of thresholds.
        numbers: how many numbers s there are.
    """

    planes: np.ndarray | None
    thresholds: int
    numbers: int


def reached(engine: Engine, s: MaskedValue, thresholds: Sequence[int]) -> ReachedThresholds:
    """Return the shared bits [s >= t_j]; one round."""
    count, n, first = len(thresholds), s.delta.numel(), engine.me == 0
    size, plan = bit_planes.plane_bytes(n), borrow_chain.threshold_plan(s.bits, count)
    engine.ask_dealer("levels", s.key, count)
    masks = [engine.streams["triple"].octets((level.opened, count * size)) for level in plan.levels]
    dealt = engine.dealer_octets((plan.indicators + 1, size))
    products = [engine.dealer_octets((level.dealt, count * size)) for level in plan.levels]
    if engine.dry:
        for mask in masks:
            engine.open_octets(mask)
        return ReachedThresholds(None, count, n)
    shifted = torch.zeros(count, 8 * size, dtype=torch.int64)
    shifted[:, :n] = s.delta.reshape(1, n) - torch.tensor(list(thresholds), dtype=torch.int64)[:, None]
    planes, dealt = bit_planes.planes_of(shifted, s.bits), dealt.numpy()
    digits = bit_planes.digits_of(planes[:-1], plan.width)
    less, equal = borrow_chain.looked_up(plan, digits, dealt[: plan.indicators], first)
    for level, mask, product in zip(plan.levels, masks, products, strict=True):
        less, equal = borrow_chain.grouped(level, less, equal, first)
        opened = engine.open_octets(bit_planes.octets(borrow_chain.opened_planes(level, less, equal)) ^ mask).numpy()
        less, equal = borrow_chain.combined(level, opened, mask.numpy(), product.numpy(), less[-1], first)
    below = less[0] ^ np.tile(dealt[plan.indicators], count)
    if first:
        below = ~(below ^ planes[-1])
    return ReachedThresholds(below.reshape(count, size), count, n)


def level(engine: Engine, bits: ReachedThresholds) -> torch.Tensor:
    """Return an additive share mod 2^64, (numbers,), of how many thresholds each number reaches; one round."""
    places, rows = bits.thresholds.bit_length(), None
    if bits.planes is not None:
        chosen = [bits.planes[(1 << k) - 1 :: 1 << k] for k in range(places)]  # j = 2^k, 2 2^k, 3 2^k, ...
        rows = np.stack([np.bitwise_xor.reduce(each, axis=0) for each in chosen])
    shares = _additive(engine, rows, places, bits.numbers)
    total = shares[0]
    for k in range(1, places):
        total = total + (shares[k] << k)
    return total


def indicators(engine: Engine, bits: ReachedThresholds) -> torch.Tensor:
    """Return additive shares mod 2^64, (thresholds, numbers), of the bits [s >= t_j]; one round."""
    return _additive(engine, bits.planes, bits.thresholds, bits.numbers)


def _additive(engine: Engine, rows: np.ndarray | None, count: int, n: int) -> torch.Tensor:
    size = bit_planes.plane_bytes(n)
    plane = shape_tensor((count * size,), torch.uint8) if rows is None else bit_planes.octets(rows.reshape(-1))
    bit = masked_bits(engine, SharedBits(plane, torch.Size((count, 8 * size))))
    bit.forget(engine)
    return bit.share(engine)[:, :n]
