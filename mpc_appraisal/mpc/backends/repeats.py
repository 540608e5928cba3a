"""What a dry run did between two points, and the same done again without computing it.

A program that appraises ten candidates of one size makes the same requests for each, but for the numbers by which the
dealer knows masks. So a dry run computes the first two of them, and repeats what it did for the second, which unlike
the first finds the model owner's inputs shared already. In go a dry session and a point in it (`Point.of`); out comes a
`Stretch`, which `repeat` appends to the session. The script, the marks, the ledger and the counts have to be, to the
byte, those of a dry run that computes everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.protocols.dealer import REQUESTS
from mpc_appraisal.mpc.session import Opening

# The places of masks' numbers among the arguments of a request; those of "forget" are a list in the first place.
NAMED = {
    "mask": (0,), "rows": (0, 1), "free": (0,), "product": (0, 1), "open": (0,), "cross": (0, 1), "matmul": (0, 1),
    "power": (0,), "gated_power": (0,), "scale": (0,), "compare": (0,), "levels": (0,), "waves": (0,), "bits": (0,),
    "difference": (0, 1, 2), "wins": (0,), "dense": (0,), "settle": (0,), "keep": (0,), "show": (0,),
}  # fmt: skip
NAMELESS = {
    "mul",
    "square",
    "inner",
    "truncate",
    "divide",
    "bilinear",
    "conjunction",
    "bit",
    "apply",
    "check",
    "drop_kept",
    "mark",
}
LISTED = "forget"


@dataclass(frozen=True)
class Point:
    """The state of a dry session, as far as it grows with what runs."""

    requests: int
    keys: int
    bytes_sent: int
    rounds: int
    dealt: int
    marks: int
    openings: int
    failure: float

    @staticmethod
    def of(session: DrySession) -> Point:
        """Return the present state."""
        engine, meter = session.context.engine, session.meter
        return Point(
            len(engine.script),
            engine._keys,
            meter.bytes_sent,
            meter.rounds,
            engine.channel.dealt,
            len(session.marks),
            len(session.ledger),
            engine.failure,
        )


@dataclass(frozen=True)
class Stretch:
    """What a dry session did from `start` to `end`.

    Attributes:
        start, end: The states before and after.
        script: The requests to the dealer.
        marks: The bytes that the dealer had sent at each mark, counted from `start`.
        ledger: The openings.
    """

    start: Point
    end: Point
    script: tuple[list[Any], ...]
    marks: tuple[int, ...]
    ledger: tuple[Opening, ...]

    @staticmethod
    def since(start: Point, session: DrySession) -> Stretch:
        """Return what the session has done since `start`."""
        script = tuple(session.context.engine.script[start.requests :])
        marks = tuple(mark - start.dealt for mark in session.marks[start.marks :])
        return Stretch(start, Point.of(session), script, marks, tuple(session.ledger[start.openings :]))


def repeat(session: DrySession, done: Stretch) -> None:
    """Do to the session what it did before, with new numbers for the masks that are made in it."""
    engine, now = session.context.engine, Point.of(session)
    shift = now.keys - done.start.keys
    engine.script.extend(_renumbered(request, done.start.keys, shift) for request in done.script)
    engine._keys += done.end.keys - done.start.keys
    engine.failure += done.end.failure - done.start.failure
    engine.channel.dealt += done.end.dealt - done.start.dealt
    session.meter.bytes_sent += done.end.bytes_sent - done.start.bytes_sent
    session.meter.rounds += done.end.rounds - done.start.rounds
    session.marks.extend(now.dealt + mark for mark in done.marks)
    session.ledger.extend(done.ledger)


def _renumbered(request: list[Any], known: int, shift: int) -> list[Any]:
    """Return the request with masks' numbers beyond `known` increased by `shift`; those up to it stay as they are."""

    def moved(key: int) -> int:
        return key + shift if key > known else key

    name, *arguments = request
    if name == LISTED:
        return [name, [moved(key) for key in arguments[0]], *arguments[1:]]
    places = NAMED.get(name, ())
    return [name, *(moved(each) if place in places else each for place, each in enumerate(arguments))]


assert {*NAMED, *NAMELESS, LISTED} == set(REQUESTS), "it is not stated whether a request names masks"
