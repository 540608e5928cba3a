"""Divides a shared number by a public whole number d, within one unit, with certainty.

    v / d = (c - r) / d                      c = v + K d + r is opened, K = floor(2^62 / d), r is the dealer's mask
          = c // d - r // d - K + W (2^64 / d)   W = 1 where v + K d + r has wrapped

This is `Engine.truncate` with d in place of a power of two. v + K d lies in [0, 2^63), so that the sum has wrapped if
and only if the top bit of r is set and that of c is not. The dealer shares r // d and the top bit of r. Where 2^64 is
no multiple of d, what is left over (2^64 mod d) may carry one more unit. This carry is public, because c is.

The result is floor(v / d) or that plus one, and exactly v / d where d divides v. It takes one round, in which an owner
sends v's size; the dealer sends the model owner 16 bytes an element. What an owner receives is uniform, since r is.
"""

from __future__ import annotations

import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.gate_dealer import logical_shift
from mpc_appraisal.mpc.protocols.request_checks import checked_divisor
from mpc_appraisal.mpc.ring.quotients import unsigned_quotient


def divide(engine: Engine, v: torch.Tensor, divisor: int) -> torch.Tensor:
    """Return shares of floor(v / divisor), or of that plus one, for |v| < 2^62 - divisor; one round.

    The result is exact where the divisor divides v.

    Args:
        engine: this owner's end.
        v: this owner's share, int64 of any shape.
        divisor: a public number, the same at both owners, from 2 to MAX_DIVISOR.

    Raises AppraisalError: the divisor is another.
    """
    d = checked_divisor(divisor)
    engine.ask_dealer("divide", list(v.shape), d)
    r = engine.triple_mask(v.shape)
    quotient, top = engine.dealer_share(v.shape), engine.dealer_share(v.shape)
    offset, (whole, left) = (1 << 62) // d, divmod(1 << 64, d)
    (c,) = engine.open(v + r + engine.public_share(torch.full_like(v, offset * d)))
    if c.is_meta:
        return c
    found = unsigned_quotient(c, d)
    carry = (c - found * d) >= d - left
    wrapped = top * ((1 - logical_shift(c, 63)) * (whole + carry.to(torch.int64)))
    return engine.public_share(found - offset) - quotient + wrapped
