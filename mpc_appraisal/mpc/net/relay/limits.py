"""What a relay allows each session, and how it delays: the keys of `mpc-appraisal relay`.

In go numbers, out comes a frozen record of checked limits. A limit may be added with a default that leaves relays as
they are. How many connections one session may have is fixed below: three links have two connections each, and each has
an end at two parties.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.common.checks import integer, number

WAITING = 8  # connections of one session that wait for their other end, at one seat
CONNECTIONS = 32  # connections of one session in all
NEWCOMERS = 256  # connections that have not said yet what they want
GREETING_SECONDS = 5.0  # a newcomer has this time for its first line
CHUNK_BYTES = 256 << 10  # so many bytes are read at a time
BUFFER_BYTES = 1 << 20  # the relay stops reading once so many bytes wait for the receiver
SMALL_BYTES = 16 << 10  # so many bytes are read at a time where the bandwidth is limited
DELAYED_BYTES = 8 << 20  # the relay stops reading once so many bytes are on their delayed way


@dataclass(frozen=True)
class Limits:
    """The limits of a relay.

    Attributes:
        sessions: The number of sessions at one time.
        wait_s: The seconds that a party may wait for its other end.
        idle_s: The seconds after which a link that carries nothing is ended. Parties send a heartbeat twice a second.
        session_mb: The megabytes (10^6 bytes) that one session may send in all; None sets no limit.
        mbit: The megabits a second that each party may send, and that each party may receive; None sets no limit.
        delay_ms: The milliseconds by which the relay delays everything, in each direction.

    Raises InputError, which names the field, for a number that does not fit.
    """

    sessions: int = 64
    wait_s: float = 600.0
    idle_s: float = 60.0
    session_mb: float | None = None
    mbit: float | None = None
    delay_ms: float = 0.0

    def __post_init__(self) -> None:
        integer("sessions", self.sessions, 1, 10_000)
        for key in ("wait_s", "idle_s"):
            number(key, getattr(self, key), "seconds above 0, at most 10000000", above=0, most=1e7)
        for key, unit in (("session_mb", "megabytes"), ("mbit", "megabits a second")):
            if getattr(self, key) is not None:
                number(key, getattr(self, key), f"{unit} above 0, or none", above=0, most=1e9)
        number("delay_ms", self.delay_ms, "milliseconds from 0 to 60000", least=0, most=60_000)

    @property
    def shaped(self) -> bool:
        """Return whether the relay delays anything or limits a bandwidth."""
        return self.delay_ms > 0 or self.mbit is not None
