"""What a computation costs one party: seconds by phase, payload bytes that it sent, and rounds.

A round is a wait of this party for a message of another party; what the dealer sends ahead does not count. A `Meter`
counts from the beginning of a session, and `Meter.cost` returns what it has counted as a `Cost`. The cost of a step is
the difference of two costs. What is counted has to stay the same in a real session and in a dry run, since forecasts
are made by dry runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """What a computation has cost one party.

    Attributes:
        seconds: The wall time in each phase, by the phase's name.
        bytes_sent: The payload bytes that the party sent.
        rounds: The number of times that the party waited for a message of another party.
    """

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
        """Return `parts` equal parts of the seconds and bytes. Rounds cannot be divided, so the first part has them."""
        seconds = {phase: s / parts for phase, s in self.seconds.items()}
        return [
            Cost(seconds, count, 0 if k else self.rounds) for k, count in enumerate(equally(self.bytes_sent, parts))
        ]


def equally(count: int, parts: int) -> list[int]:
    """Return `parts` whole numbers that add up to `count` and differ by one at most."""
    return [count // parts + (k < count % parts) for k in range(parts)]


def by_result(between_marks: list[int], results: int) -> list[int]:
    """Return counts for each of the `results` results of a program, from the counts between its marks.

    The counts after the last result are divided equally among all results.
    """
    after = equally(sum(between_marks[results:]), results) if results else []
    return [count + more for count, more in zip(between_marks, after, strict=False)]


@dataclass
class Meter:
    """The counter of a session from its beginning. Bytes are payload, without the framing of the transport."""

    bytes_sent: int = 0
    rounds: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    bytes_received: int = 0
    waiting: float = 0.0  # the seconds in which this party received, of which a cost says nothing

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Return a context whose wall time is added to the phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def sent(self, size: int) -> None:
        """Count `size` bytes that this party sent."""
        self.bytes_sent += size

    def received(self, size: int, seconds: float) -> None:
        """Count `size` bytes that this party received, from any party, in so many seconds."""
        self.bytes_received += size
        self.waiting += seconds

    def waited(self) -> None:
        """Count one wait for a message, which is one round."""
        self.rounds += 1

    def cost(self) -> Cost:
        """Return what has been counted so far."""
        return Cost(dict(self.seconds), self.bytes_sent, self.rounds)
