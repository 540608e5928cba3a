"""Functions by permutation at a helper, on shares mod 2^64: the RTAS protocol's (seed paper, section 4.2.1).

    z = z_0 + z_1,    pi random, known to the owners alone:    helper <- pi(z_0 + r), pi(z_1 - r)
    helper: f(pi(z)) = s + (f(pi(z)) - s):    s from the data owner's stream, the correction to the model owner
    f(z) = pi^-1 of both shares

The helper is the dealer's process. pi and the sharing of zero r come from the AES stream that the owners share; s from
that of the data owner and the dealer. So the helper sees z as a multiset and nothing of the order; the owners see
nothing. Of rows (n, C) the rows are permuted, and the columns of every row by a permutation of its own.

A permutation is the order of 64-bit keys; keys that are not all different are drawn anew, so every order is as likely
as any other, but for what AES-CTR lacks of a random stream.

What a cheating owner can make the helper compute: the functions of the agreed program and no others, on values of the
agreed shapes, for the script is one that both owners have made, see `orders`, and the helper computes nothing until
both owners' messages have come. An owner can add an error of its choice to any element before it is permuted, and then
shares of f(z + error) come back; with an error near 2^55 units it learns, from whether the helper refuses the value, on
which side of a number of its choice z lies: one comparison a session, and all three parties have seen that the session
was refused. The helper itself can answer with shares of anything; nothing detects that.

Costs 8 bytes an element from each owner, 8 more to the model owner for every function, and two messages one after the
other. No bound on z is needed; what is no plausible value, at 2^55 units and more, is refused by the helper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.roles import DEALER, rank_of
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.helper_functions import check_functions, result_bits

HELPER = rank_of(DEALER)


def order(stream: Any, shape: Sequence[int]) -> torch.Tensor:
    """Uniformly random orders of 0 .. n - 1 along the last dimension of `shape`, independent of each other."""
    while True:
        keys = stream.ring(shape).numpy()
        found = keys.argsort(-1)
        keys = np.take_along_axis(keys, found, -1)
        if not (keys[..., 1:] == keys[..., :-1]).any():
            return torch.from_numpy(found)


@dataclass(frozen=True)
class Shuffle:
    """rows (n,): the place that each row comes from. columns (n, C): the same in every row, or None."""

    rows: torch.Tensor
    columns: torch.Tensor | None

    @staticmethod
    def drawn(stream: Any, shape: Sequence[int], columns: bool) -> Shuffle:
        return Shuffle(order(stream, shape[:1]), order(stream, shape) if columns else None)

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        moved = values[self.rows]
        return moved if self.columns is None else moved.gather(1, self.columns)

    def undo(self, values: torch.Tensor) -> torch.Tensor:
        if self.columns is not None:
            values = torch.empty_like(values).scatter_(1, self.columns, values)
        found = torch.empty_like(values)
        found[self.rows] = values
        return found


class NoShuffle:
    """Of a dry run, where shapes are all there is."""

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        return values

    undo = apply


def apply(engine: Engine, share: torch.Tensor, bits: int, names: Sequence[str]) -> list[tuple[torch.Tensor, int]]:
    """Shares and fractional bits of each of the functions `names` of z, which the helper is shown once.

    Args:
        share: of z, with `bits` fractional bits; any shape for functions of elements, (n, C) for those of rows.

    Raises InputError: a function that is not on the list. AppraisalError: the engine is without a helper.
    """
    by_rows = check_functions(names)
    if not engine.helper:
        raise AppraisalError("a function at the helper: the session has none; expected session.engine=rtas")
    if bits < 0:
        share, bits = share << -bits, 0
    flat = share if by_rows else share.reshape(-1)
    engine._ask("apply", list(names), list(flat.shape), bits)
    shown = engine.blinded(flat)
    shuffle = NoShuffle() if engine.dry else Shuffle.drawn(engine.pair, flat.shape, by_rows)
    engine.channel.send(shuffle.apply(shown), HELPER)
    if engine.me == 0:  # it waits for the helper, and the helper for the owners: no dealer runs ahead of this
        engine.channel.meter.waited()
        engine.channel.meter.waited()
    found = [(shuffle.undo(engine._dealt(flat.shape)), result_bits(name, bits)) for name in names]
    return [(each.reshape(share.shape), out) for each, out in found]
