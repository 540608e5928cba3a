"""Messages between two roles over a channel of the engine: tensors, arrays of unknown shape, and JSON.

A channel carries integers of a shape that both ends know. `Messages` adds to it float64, which travels as its 64 bits,
JSON, which travels behind its length, and arrays, which travel behind a JSON message with their shape. Nothing may be
unpickled. The roles of the marketplace use this file; the JSON messages that all parties exchange by topic are sent by
the rendezvous and described in `message_schemas`.

A type of message may be added. How the existing types travel, and the limits on sizes, have to stay the same at all
parties. Sender and receiver make matching calls in the same order, since nothing on the wire names the type.
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
from mpc_appraisal.mpc.net.message_schemas import parse

MESSAGE_BYTES = 64 << 20  # the longest JSON message
ARRAY_BYTES = 1 << 34  # the largest array
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.uint8, torch.int32, torch.int64)}


class Messages:
    """One party's messages to and from the others, who are addressed by the name of the role.

    Args:
        channel: The connections of this party. The channel's meter, which counts bytes and rounds, is the attribute
            `meter`.
    """

    def __init__(self, channel: Channel):
        self._channel, self.meter = channel, channel.meter

    def send(self, to: str, values: Tensor) -> None:
        """Send a tensor of float64, int32, int64 or uint8 whose shape and type the receiver knows."""
        values = values.detach().contiguous()
        if values.dtype == torch.float64:
            values = values.view(torch.int64)
        if values.numel():
            self._channel.send(values, rank_of(to))

    def receive(self, source: str, shape: Sequence[int], dtype: torch.dtype = torch.float64) -> Tensor:
        """Return the next tensor from the role `source`, of this shape and type.

        Raises PeerError: A float64 is not finite.
        """
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

    def announce(self, to: str, message: dict[str, Any]) -> None:
        """Send a JSON object to the role `to`. It counts as two rounds at the receiver, for length and text."""
        text = json.dumps(message).encode()
        self._channel.send(torch.tensor([len(text)]), rank_of(to))
        self._channel.send(torch.frombuffer(bytearray(text), dtype=torch.uint8), rank_of(to))

    def hear(self, source: str) -> dict[str, Any]:
        """Return the next JSON object from the role `source`. Raises PeerError if what came is no JSON object."""
        (length,) = self._channel.receive((1,), rank_of(source)).tolist()
        if not 0 < length <= MESSAGE_BYTES:
            raise PeerError(f"{source} sent a message of {length} bytes; expected at most {MESSAGE_BYTES}")
        text = bytes(self._channel.receive((length,), rank_of(source), torch.uint8).numpy())
        return parse(text, source, "")

    def send_array(self, to: str, values: np.ndarray) -> None:
        """Send an array whose shape the receiver does not know, behind a JSON message with its shape and type."""
        values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        self.announce(to, {"shape": list(values.shape), "dtype": str(values.dtype).removeprefix("torch.")})
        self.send(to, values)

    def receive_array(self, source: str) -> np.ndarray:
        """Return the next array that the role `source` sent by `send_array`.

        Raises PeerError: The array is not of uint8, int32 or int64, or its size is above 16 GiB.
        """
        message = self.hear(source)
        shape, dtype = message.get("shape"), _DTYPES.get(str(message.get("dtype")))
        sizes = isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape)
        if dtype is None or not sizes or int(np.prod(shape, dtype=object)) * dtype.itemsize > ARRAY_BYTES:
            raise PeerError(
                f"{source} announced an array of {shown(message)}; expected integers within {ARRAY_BYTES} bytes"
            )
        return self.receive(source, shape, dtype).numpy()
