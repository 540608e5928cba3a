"""Reals, integers and small notes over the engine's channel, which carries integers of shapes that both ends know.

float64 travels as the 64 bits that it is; a note is JSON, its length first. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import rank_of
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.net.notes import parse

NOTE_BYTES = 64 << 20
ARRAY_BYTES = 1 << 34
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.int32, torch.int64)}


class Messages:
    """One party's messages to the others by role's name. `meter`: the channel's, which counts bytes and rounds."""

    def __init__(self, channel: Channel):
        self._channel, self.meter = channel, channel.meter

    def send(self, to: str, values: Tensor) -> None:
        """A tensor of float64, int32, int64 or uint8 whose shape and type the receiver knows."""
        values = values.detach().contiguous()
        if values.dtype == torch.float64:
            values = values.view(torch.int64)
        if values.numel():
            self._channel.send(values, rank_of(to))

    def receive(self, source: str, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        """The next message, of this shape. PeerError where reals are not finite."""
        wire = torch.int64 if dtype == torch.float64 else dtype
        if 0 in shape:
            return torch.empty(tuple(shape), dtype=dtype)
        values = self._channel.receive(tuple(shape), rank_of(source), wire)
        if dtype != torch.float64:
            return values
        values = values.view(torch.float64)
        if not torch.isfinite(values).all():
            raise PeerError(f"{source} sent numbers that are NaN or infinite")
        return values

    def announce(self, to: str, note: dict[str, Any]) -> None:
        """A note; it counts as two waits at the receiver, for its length and itself."""
        text = json.dumps(note).encode()
        self._channel.send(torch.tensor([len(text)]), rank_of(to))
        self._channel.send(torch.frombuffer(bytearray(text), dtype=torch.uint8), rank_of(to))

    def hear(self, source: str) -> dict[str, Any]:
        """The next note. PeerError where what came is none."""
        (length,) = self._channel.receive((1,), rank_of(source)).tolist()
        if not 0 < length <= NOTE_BYTES:
            raise PeerError(f"{source} sent a note of {length} bytes; expected at most {NOTE_BYTES}")
        text = bytes(self._channel.receive((length,), rank_of(source), torch.uint8).numpy())
        return parse(text, source, "its part")

    def send_array(self, to: str, values: np.ndarray) -> None:
        """An array whose shape the receiver does not know, behind a note on it."""
        values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        self.announce(to, {"shape": list(values.shape), "dtype": str(values.dtype).removeprefix("torch.")})
        self.send(to, values)

    def receive_array(self, source: str) -> np.ndarray:
        """What `send_array` sends. PeerError for another type, or a size beyond 16 GiB."""
        note = self.hear(source)
        shape, dtype = note.get("shape"), _DTYPES.get(str(note.get("dtype")))
        sizes = isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape)
        if dtype is None or not sizes or int(np.prod(shape, dtype=object)) * dtype.itemsize > ARRAY_BYTES:
            raise PeerError(
                f"{source} announced an array of {shown(note)}; expected integers within {ARRAY_BYTES} bytes"
            )
        return self.receive(source, shape, dtype).numpy()
