"""An owner's engine that asks the dealer while the program runs, in place of a script that was made before.

A request is sent when the program needs the first result after it, so that requests without a result travel with the
next one. Both owners send it (see `asked_dealer`). What a request draws from the streams, and what the dealer shares
for it, has to be taken before the next request is made: the dealer compares places.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.mpc.protocols.asked_dealer import Asked, Places, send_asked
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.ring.packing import width


class AskedEngine(Engine):
    """One owner's end, as `Engine` describes; it asks a dealer that runs `answer_requests`."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._queue: list[str] = []  # requests that have not been sent
        self._places: Places | None = None  # where this owner was when the first of them was made
        self._shares = 0  # the bytes of shares of the dealer's results so far

    def ask_dealer(self, name: str, *arguments: Any) -> None:
        super().ask_dealer(name, *arguments)
        if self.dry:
            return
        if not self._queue:
            self._places = self._present()
        self._queue.append(json.dumps([name, *arguments]))

    def dealer_share(self, shape: Sequence[int], bits: int = 64) -> torch.Tensor:
        self._send_requests()
        self._shares += math.prod(shape) * width(bits)
        return super().dealer_share(shape, bits)

    def dealer_octets(self, shape: Sequence[int]) -> torch.Tensor:
        self._send_requests()
        self._shares += math.prod(shape)
        return super().dealer_octets(shape)

    def end_requests(self) -> None:
        """Tell the dealer that there are no more requests. No request may be made afterwards."""
        self._send_requests()
        send_asked(self.channel, Asked(b"", 0, self._present()))

    def _present(self) -> Places:
        return self.streams["mask"].position, self.streams["triple"].position, self._shares

    def _send_requests(self) -> None:
        if self._queue:
            send_asked(self.channel, Asked(f"[{', '.join(self._queue)}]".encode(), 0, self._places))
            self._queue.clear()
