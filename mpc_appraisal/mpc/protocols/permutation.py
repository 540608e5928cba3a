"""Functions that a helper computes in the clear, on values that reach it in a random order (RTAS).

    f(z) for z = z_0 + z_1 mod 2^64, by a random permutation pi that the owners alone know

    owners -> helper          pi(z_0 + r), pi(z_1 - r)                 8 bytes an element from each owner
    helper -> model owner     f(pi(z)) - s                             8 bytes an element for each function

z_0 is the model owner's share of the values z, and z_1 is the data owner's. The helper is the dealer's process. The
share s is the next piece of the data owner's stream, so that nothing is sent to the data owner. Both owners undo pi on
their shares. The permutation and the sharing r of zero come from the stream that the owners share. Of n rows of C
columns the rows are permuted, and the columns of each row by a permutation of its own.

**The helper sees all values of z, but not their order.** Neither owner learns anything. The values take two messages
one after the other, hence two rounds. The error is that of `helper_functions`. No bound on z is needed; the helper
refuses a value of 2^55 units and more, which is not plausible.

A permutation is the order of random 64-bit keys, which are drawn anew if two of them are equal. Every order is
therefore equally likely, up to the distance of AES-CTR from a random stream.

What a cheating owner or helper can do:

- The helper computes the functions of the agreed program alone, on the agreed shapes, since both owners have made its
  script (see `orders`). It computes nothing before the messages of both owners have come.
- An owner can add an error of its choice to any element, and shares of f(z + error) come back. With an error near 2^55
  units this owner learns on which side of a number of its choice z lies, from whether the helper refuses the value.
  That is one comparison in a session, and all three parties see that the session was refused.
- The helper can answer with shares of anything, and nothing detects it.

The protocol is that of section 4.2.1 of the RTAS paper, "Private machine learning by random transformations" (2021), on
shares in the ring. How a permutation is drawn may change, as long as both owners draw it equally, from the stream that
the dealer does not know, and a fresh permutation for each exchange.
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
    """Return independent, uniformly random orders of 0 .. n - 1 along the last dimension of `shape`, as int64.

    `stream` is the source of random numbers, a `Stream`.
    """
    while True:
        keys = stream.ring(shape).numpy()
        found = keys.argsort(-1)
        keys = np.take_along_axis(keys, found, -1)
        if not (keys[..., 1:] == keys[..., :-1]).any():
            return torch.from_numpy(found)


@dataclass(frozen=True)
class Shuffle:
    """A random order of the elements of (n,), or of the rows of (n, C) and of the columns in each row.

    Attributes:
        rows: (n,), for each new place the index of the row that comes there.
        columns: (n, C), the same for the columns of each row, which are permuted after the rows; None permutes none.
    """

    rows: torch.Tensor
    columns: torch.Tensor | None

    @staticmethod
    def drawn(stream: Any, shape: Sequence[int], columns: bool) -> Shuffle:
        """Draw a random order for a tensor of `shape` from `stream`; with `columns`, columns are permuted too."""
        return Shuffle(order(stream, shape[:1]), order(stream, shape) if columns else None)

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values`, (n,) or (n, C), brought into this order."""
        moved = values[self.rows]
        return moved if self.columns is None else moved.gather(1, self.columns)

    def undo(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values`, which are in this order, brought back into their original order."""
        if self.columns is not None:
            values = torch.empty_like(values).scatter_(1, self.columns, values)
        found = torch.empty_like(values)
        found[self.rows] = values
        return found


class NoShuffle:
    """What stands for a `Shuffle` in a dry run, which computes on shapes alone: it moves nothing."""

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        return values

    undo = apply


def apply(engine: Engine, share: torch.Tensor, bits: int, names: Sequence[str]) -> list[tuple[torch.Tensor, int]]:
    """Return shares of f(z), and the number of their fractional bits, for each function f that `names` lists.

    z is sent to the helper once for all functions; two rounds. Each result has z's shape.

    Args:
        engine: this owner's end.
        share: this owner's share of z, of any shape for functions of elements and (n, C) for functions of rows.
        bits: how many fractional bits z has.
        names: functions of `helper_functions.FUNCTIONS`, all of elements or all of rows.

    Raises:
        InputError: a function is not on the list, or both kinds are mixed.
        AppraisalError: the engine has no helper.
    """
    by_rows = check_functions(names)
    if not engine.helper:
        raise AppraisalError(
            "a function at the helper was requested, but the session has no helper; expected session.engine=rtas"
        )
    if bits < 0:
        share, bits = share << -bits, 0
    flat = share if by_rows else share.reshape(-1)
    engine.ask_dealer("apply", list(names), list(flat.shape), bits)
    blinded = engine.blinded(flat)
    shuffle = NoShuffle() if engine.dry else Shuffle.drawn(engine.pair, flat.shape, by_rows)
    engine.channel.send(shuffle.apply(blinded), HELPER)
    if (
        engine.me == 0
    ):  # This owner waits for the helper, which waits for both owners; the dealer cannot work ahead here.
        engine.channel.meter.waited()
        engine.channel.meter.waited()
    found = [(shuffle.undo(engine.dealer_share(flat.shape)), result_bits(name, bits)) for name in names]
    return [(each.reshape(share.shape), out) for each, out in found]
