"""Opens a result to both owners in two steps, commit and open, so that neither owner can choose the result.

    result = share_0 + share_1 mod 2^64              share_0 is the model owner's, share_1 is the data owner's

    each owner -> the other   SHA-256(nonce, context, rank, shape, share)     32 bytes, one round
    each owner -> the other   nonce (32 fresh random bytes), share            32 bytes and 8 an element, one round

In goes one owner's share; out comes the result, exactly, at both owners. They learn nothing else: a commitment hides
the share by its nonce. The context is unique to the session and to the opening's place in the session. It is hashed
with the sender's rank (0 or 1) and the shape, so that no commitment can be used again elsewhere or by the other owner.
An owner that receives another share than the share committed to raises PeerError with the other's name, and releases
nothing.

Where messages are not checked (session.integrity=off), `session.reveal` opens everything that goes to both owners in
this way: values, values with noise, bits, indices, and the bits of the checks. Without it, an owner that waits for the
other's last share could make the sum whatever it likes. What is hashed, and the order of the messages, have to stay the
same at both owners: a change needs another label.

Three things are not prevented:

- An owner can add an error to its share before it commits. This shifts the result by that amount, but the owner does
  not know what it shifts.
- The owner that opens second can refuse to open once it has seen the result. The other owner sees the refusal.
- A result for one owner alone (release.to) is opened otherwise. Its receiver sends nothing and has nothing to choose,
  and its sender can only shift the result.

Masked values, which the protocols open on their way, are not covered. An error in a masked value shifts what is
computed, and nothing here detects the error. With session.integrity=on all messages are checked before anything is
opened, and none of these three things is possible; results are then opened by another protocol (see `mpc.integrity`).
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
    """Return the commitment (32 bytes) of the owner of `rank` to its `share` (int64, of any shape).

    The commitment is SHA-256 over a label, the nonce, the context, the rank, the shape and the bytes of the share. The
    label and the nonce have fixed lengths. The context, the rank and the shape each follow their length. The share
    comes last, and the shape states its length.
    """
    shape = ",".join(map(str, share.shape)).encode()
    digest = hashlib.sha256(b"mpc_appraisal opening 1\n" + nonce)
    for field in (context, bytes([rank]), shape):
        digest.update(len(field).to_bytes(8, "big") + field)
    digest.update(share.contiguous().numpy().tobytes())
    return digest.digest()


def open_committed(engine: Engine, share: torch.Tensor, context: bytes) -> torch.Tensor:
    """Return the sum of both owners' shares mod 2^64; each owner commits to its share before either share is sent.

    This takes two rounds, with 64 bytes and 8 an element from each owner. In a dry run, which counts messages on
    shapes, the share itself is returned.

    Args:
        engine: this owner's end.
        share: this owner's share, int64, of any shape.
        context: bytes that are equal at both owners and that no other opening uses.

    Raises PeerError: the other owner opened another share than the share that it had committed to.
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
    """Raise PeerError unless `nonce` and `share` of the owner of `rank` match its commitment `committed`."""
    if not hmac.compare_digest(committed, commitment(nonce, context, rank, share)):
        raise PeerError(
            f"{OWNERS[rank]} opened another share of the result than the one that it had committed to; expected the "
            "same, and nothing is released"
        )
