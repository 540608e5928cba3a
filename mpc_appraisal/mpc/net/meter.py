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

    def __add__(self, other: Cost) -> Cost:
        seconds = {p: self.seconds.get(p, 0.0) + other.seconds.get(p, 0.0) for p in {**self.seconds, **other.seconds}}
        return Cost(seconds, self.bytes_sent + other.bytes_sent, self.rounds + other.rounds)

    def divided(self, parts: int) -> list[Cost]:
        """Equal parts of seconds and bytes; of rounds, which cannot be divided, all in the first."""
        seconds = {phase: s / parts for phase, s in self.seconds.items()}
        return [
            Cost(seconds, count, 0 if k else self.rounds) for k, count in enumerate(equally(self.bytes_sent, parts))
        ]


def equally(count: int, parts: int) -> list[int]:
    """`count` in whole parts that differ by one at most."""
    return [count // parts + (k < count % parts) for k in range(parts)]


def by_result(between_marks: list[int], results: int) -> list[int]:
    """What was counted between marks as counts by result: what comes after the last result is divided among all."""
    after = equally(sum(between_marks[results:]), results) if results else []
    return [count + more for count, more in zip(between_marks, after, strict=False)]


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
