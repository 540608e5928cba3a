"""Which softmax a session computes: with a public bound on logits, or without one; and which of the two is cheaper.

`Context.spread` says it. With None, logits are within `Context.logit_bound` after a row is centred, and `softmax` and
`log_softmax` are used. Otherwise it is the largest difference of two logits of a row, which may be huge, and
`unbounded_softmax` is used. In go shares of logits (n, C); out come shares of the same shape and the number of their
fractional bits. Errors and messages are those of these files. The choice has to be the same at both owners.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import torch

from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.borrow_chain import MANY
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.log_softmax import log_softmax
from mpc_appraisal.mpc.protocols.softmax import softmax
from mpc_appraisal.mpc.protocols.softmax_plan import BITS
from mpc_appraisal.mpc.protocols.unbounded_softmax import unbounded_log_softmax, unbounded_softmax
from mpc_appraisal.mpc.ring.prg import DryStream
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

LOGIT_BITS = 41  # A logarithm with a bound, or a helper's function, is taken of at most so many fractional bits.
USUAL_BITS = 36  # Costs are compared for logits with so many fractional bits.


class Choice(Protocol):
    """What says which softmax is used: `tensors.Context`."""

    engine: Engine
    logit_bound: float
    spread: float | None


def softmax_of(context: Choice, z: torch.Tensor, bits: int) -> tuple[torch.Tensor, int]:
    """Return shares of softmax(z), (n, C), and the number of their fractional bits; z has `bits` of these."""
    if context.spread is None:
        return softmax(context.engine, z, bits, context.logit_bound), BITS
    return unbounded_softmax(context.engine, z, bits, context.spread), BITS


def log_softmax_of(context: Choice, z: torch.Tensor, bits: int) -> tuple[torch.Tensor, int]:
    """Return shares of ln softmax(z), (n, C), and the number of their fractional bits; z has `bits` of these."""
    if context.spread is None:
        cut = max(0, bits - LOGIT_BITS)
        return log_softmax(context.engine, context.engine.truncate(z, cut), bits - cut, context.logit_bound)
    return unbounded_log_softmax(context.engine, z, bits, context.spread)


@lru_cache(maxsize=64)
def unbounded_is_cheaper(classes: int, bound: float, spread: float) -> bool:
    """Return whether the softmax without a bound takes fewer rounds than that with `bound`, or as many and fewer bytes.

    Both are counted for the same many rows, in a dry run.
    """
    with_bound = _cost(classes, lambda engine, z: softmax(engine, z, USUAL_BITS, bound))
    return _cost(classes, lambda engine, z: unbounded_softmax(engine, z, USUAL_BITS, spread)) < with_bound


def _cost(classes: int, compute: Callable[[Engine, torch.Tensor], torch.Tensor]) -> tuple[int, int]:
    """Return the rounds, and the bytes that all parties send, of one softmax of many rows."""
    channel = DryChannel(Meter())
    compute(Engine(0, channel, Engine.streams_of(None), DryStream(), dry=True), shape_tensor((MANY, classes)))
    return channel.meter.rounds, 2 * channel.meter.bytes_sent + channel.dealt
