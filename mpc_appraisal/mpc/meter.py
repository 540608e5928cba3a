"""What a computation costs: seconds by phase, payload bytes sent and rounds, by party."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """Seconds by phase; payload bytes that this party sent; rounds: times that it waited for the other owner."""

    seconds: dict[str, float]
    bytes_sent: int
    rounds: int

    def __sub__(self, earlier: Cost) -> Cost:
        spent = {phase: s - earlier.seconds.get(phase, 0.0) for phase, s in self.seconds.items()}
        return Cost(
            {phase: s for phase, s in spent.items() if s > 0},
            self.bytes_sent - earlier.bytes_sent,
            self.rounds - earlier.rounds,
        )


@dataclass
class Meter:
    """Counts since the session began. Bytes are payload: framing of the transport (TCP, TLS) is not in them."""

    bytes_sent: int = 0
    rounds: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def sent(self, size: int) -> None:
        self.bytes_sent += size

    def waited(self) -> None:
        self.rounds += 1

    def cost(self) -> Cost:
        return Cost(dict(self.seconds), self.bytes_sent, self.rounds)
