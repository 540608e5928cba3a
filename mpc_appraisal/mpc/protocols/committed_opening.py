"""Commit, then open: how a final result is shown to both owners, so that neither chooses it by sending second.

    each owner -> the other   SHA-256(nonce, context, share)       nonce: 32 fresh bytes; 32 bytes, one round
    each owner -> the other   nonce, share                         32 bytes and the share, one round

The context is a value of this session alone and the opening's place in it; shape and sender's rank are hashed as well,
so that no commitment serves elsewhere or for the other owner. Where what is opened is not what was committed to, the
honest owner has a PeerError with the other's name and releases nothing.

What this prevents: an owner that waits for the other's last share can no longer make the sum what it likes. What it
does not prevent: whoever adds an error to its share before it commits shifts the result by that amount, blindly, for it
does not know what it shifts; whoever opens second may refuse to open, having seen the result alone (the other sees that
it refused); and a result that goes to one owner (release.to) is not covered, for its receiver sends nothing and has
nothing to choose, and its sender can only shift. Covered are all openings by `session.reveal` to both: values, noised
values, bits, indices, the bit of the check of logits. The masked values that the protocols open between themselves are
not: errors in those are errors in wires, which nothing here detects.
"""

from __future__ import annotations

import hashlib
import hmac
import os

import torch

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.orders import tensor_of
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

NONCE_BYTES = 32
COMMITMENT_BYTES = 32


def commitment(nonce: bytes, context: bytes, rank: int, share: torch.Tensor) -> bytes:
    """SHA-256 over nonce, context, the committing owner's rank, the shape, and the share's bytes, each of a fixed
    length or after its length."""
    shape = ",".join(map(str, share.shape)).encode()
    digest = hashlib.sha256(b"mpc_appraisal opening 1\n" + nonce)
    for part in (context, bytes([rank]), shape):
        digest.update(len(part).to_bytes(8, "big") + part)
    digest.update(share.contiguous().numpy().tobytes())
    return digest.digest()


def open_committed(engine: Engine, share: torch.Tensor, context: bytes) -> torch.Tensor:
    """The sum of both owners' shares, each committed to before either was sent; two rounds.

    share: int64, of any shape. context: equal at both owners, and of this opening alone.

    Raises PeerError: the other owner opened another share than it had committed to.
    """
    other, channel, size = 1 - engine.me, engine.channel, NONCE_BYTES + 8 * share.numel()
    if engine.dry:
        for length in (COMMITMENT_BYTES, size):
            channel.send(shape_tensor((length,), torch.uint8), other)
            channel.receive((length,), other, torch.uint8)
        return share
    nonce = os.urandom(NONCE_BYTES)
    channel.send(tensor_of(commitment(nonce, context, engine.me, share)), other)
    committed = channel.receive((COMMITMENT_BYTES,), other, torch.uint8).numpy().tobytes()
    channel.send(tensor_of(nonce + share.contiguous().numpy().tobytes()), other)
    opening = channel.receive((size,), other, torch.uint8)
    theirs = opening[NONCE_BYTES:].clone().view(torch.int64).reshape(share.shape)
    check_opening(committed, opening[:NONCE_BYTES].numpy().tobytes(), context, other, theirs)
    return share + theirs


def check_opening(committed: bytes, nonce: bytes, context: bytes, rank: int, share: torch.Tensor) -> None:
    """Raises PeerError unless nonce and share of the owner of `rank` are what it had committed to."""
    if not hmac.compare_digest(committed, commitment(nonce, context, rank, share)):
        raise PeerError(
            f"{OWNERS[rank]} opened another share of the result than the one that it had committed to; expected the "
            "same, and nothing is released"
        )
