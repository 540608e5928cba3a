"""The relay: it pairs the connections of each session and forwards their bytes, within limits.

In go an address to listen on, limits, and a function that takes lines of the log; out comes a running relay, which
`serve` ends in good order. A session is all connections that name one token. At each of its seats, those that dial are
paired with those that listen in the order in which they came: whoever sits in a seat without the right certificate is
used up by one attempt, and the true party comes next.

The log holds addresses, roles as they were claimed, digests of tokens and numbers of bytes. Neither tokens nor bytes of
a session may ever stand in it. What belongs to one session must never be found through another.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from mpc_appraisal.mpc.net.relay.connection import Connection
from mpc_appraisal.mpc.net.relay.flow import Flow, Line, ShapedFlow
from mpc_appraisal.mpc.net.relay.greeting import FULL, LISTEN, OTHER, SEATS, WAITED, WHY, Greeting, digest_of
from mpc_appraisal.mpc.net.relay.limits import CONNECTIONS, NEWCOMERS, WAITING, Limits
from mpc_appraisal.mpc.net.strangers import cannot_listen

REMEMBERED = 1024  # sessions of which the relay remembers why it ended them
LOOK_SECONDS = 0.5  # the time between two looks at who waits or is idle

Log = Callable[[str], None]


@dataclass
class Seat:
    """The connections that wait at one seat, in the order in which they came."""

    listen: deque[Connection] = field(default_factory=deque)
    dial: deque[Connection] = field(default_factory=deque)


@dataclass
class Session:
    """All connections of one token.

    Attributes:
        name: What the log calls it.
        began: When its first connection came, on the monotonic clock.
        bytes: The bytes that its parties have sent.
        connections: All connections that are not closed yet.
        seats: The seats at which connections wait.
        lines: The lines of each role: that by which it sends, and that by which it receives.
    """

    name: str
    began: float = field(default_factory=time.monotonic)
    bytes: int = 0
    connections: set[Connection] = field(default_factory=set)
    seats: dict[str, Seat] = field(default_factory=dict)
    lines: dict[str, tuple[Line, Line]] = field(default_factory=dict)

    def lines_of(self, role: str) -> tuple[Line, Line]:
        """Return the lines of a role."""
        return self.lines.setdefault(role, (Line(), Line()))


class Relay:
    """A relay of many sessions.

    Args:
        limits: What each session may use.
        log: A function that takes one line of the log, without its end.

    Attributes:
        served: The number of sessions that had a link.
        bytes: The number of bytes that were forwarded for them.
    """

    def __init__(self, limits: Limits, log: Log):
        self.limits, self._log = limits, log
        self._sessions: dict[str, Session] = {}
        self._why: OrderedDict[str, str] = OrderedDict()
        self._newcomers: dict[Connection, None] = {}
        self._linked: set[str] = set()
        self.served = self.bytes = 0

    # -- newcomers ---------------------------------------------------------------------------------------------------
    def came(self, connection: Connection) -> None:
        """Keep a newcomer, in the place of the oldest one where there are many."""
        self._newcomers[connection] = None
        if len(self._newcomers) > NEWCOMERS:
            next(iter(self._newcomers)).transport.abort()

    def greeted(self, connection: Connection, greeting: Greeting | None) -> None:
        """Decide on a newcomer by its first line."""
        self._newcomers.pop(connection, None)
        if greeting is None:
            self._log(f"{connection.address} said nothing that a party says")
            return connection.refuse(OTHER, "the first line is none of a party of mpc-appraisal, or of another version")
        if greeting.verb == WHY:
            return connection.say(f"why {self._why.get(greeting.session, '')}")
        session, who = self._sessions.get(greeting.session), connection.name
        if session is None:
            if len(self._sessions) >= self.limits.sessions:
                words = f"it serves {len(self._sessions)} sessions already, its limit (sessions={self.limits.sessions})"
                self._log(f"session {digest_of(greeting.session)}: {who} is refused: {words}")
                return connection.refuse(FULL, words)
            session = self._sessions[greeting.session] = Session(digest_of(greeting.session))
            self._log(f"session {session.name}: begins with {who}")
        seat = session.seats.get(greeting.seat, Seat())
        waiting = seat.listen if greeting.verb == LISTEN else seat.dial
        if len(waiting) >= WAITING or len(session.connections) >= CONNECTIONS:
            self._log(f"session {session.name}: {who} is refused: too many connections of this session are open")
            return connection.refuse(SEATS, "too many connections of this session are open")
        session.connections.add(connection)
        session.seats[greeting.seat] = seat
        others = seat.dial if greeting.verb == LISTEN else seat.listen
        other = next((each for each in others if each.greeting.suits(greeting)), None)
        if other is None:
            waiting.append(connection)
            return connection.wait()
        others.remove(other)
        self._link(session, *((connection, other) if greeting.verb == LISTEN else (other, connection)))

    # -- links -------------------------------------------------------------------------------------------------------
    def _link(self, session: Session, listener: Connection, dialler: Connection) -> None:
        there, back = self.flow(session, dialler, listener), self.flow(session, listener, dialler)
        there.reverse, back.reverse = back, there
        listener.link(dialler, back)
        dialler.link(listener, there)
        if session.name not in self._linked:
            self._linked.add(session.name)
            self.served += 1
        self._log(f"session {session.name}: {dialler.name} and {listener.name} are linked")

    def flow(self, session: Session, source: Connection, sink: Connection) -> Flow:
        """Return one direction of a link."""
        if not self.limits.shaped:
            return Flow(source.transport, sink.transport)
        up, down = session.lines_of(source.greeting.role)[0], session.lines_of(sink.greeting.role)[1]
        return ShapedFlow(source.transport, sink.transport, self.limits, up, down)

    def moved(self, connection: Connection, count: int) -> None:
        """Count bytes, and end a session that has sent more than it may."""
        session = self._sessions.get(connection.greeting.session)
        if session is None:
            return
        session.bytes += count
        self.bytes += count
        most = self.limits.session_mb
        if most is not None and session.bytes > most * 1e6:
            self._end(
                connection.greeting.session, f"it has sent more than {most:g} MB, its limit (session_mb={most:g})"
            )

    def gone(self, connection: Connection) -> None:
        """Forget a closed connection, and its session with the last one."""
        self._newcomers.pop(connection, None)
        session = self._sessions.get(connection.greeting.session) if connection.greeting else None
        if session is None or connection not in session.connections:
            return
        session.connections.discard(connection)
        for seat in session.seats.values():
            for waiting in (seat.listen, seat.dial):
                with suppress(ValueError):
                    waiting.remove(connection)
        session.seats = {name: seat for name, seat in session.seats.items() if seat.listen or seat.dial}
        if connection.flow is not None and connection.other not in session.connections:
            sent = (f"{each.flow.bytes} bytes from {each.name}" for each in (connection, connection.other))
            self._log(f"session {session.name}: a link has ended; {' and '.join(sent)}")
        if not session.connections:
            self._forget(connection.greeting.session)

    def _forget(self, token: str) -> None:
        session = self._sessions.pop(token)
        self._linked.discard(session.name)
        self._log(
            f"session {session.name}: ended after {time.monotonic() - session.began:.1f} s, {session.bytes} bytes"
        )

    # -- limits ------------------------------------------------------------------------------------------------------
    def _end(self, token: str, why: str, ends: Iterable[Connection] = ()) -> None:
        """End a session that has reached a limit, or the link of two connections. Its parties can ask why."""
        session = self._sessions[token]
        self._why[token] = why
        self._why.move_to_end(token)
        while len(self._why) > REMEMBERED:
            self._why.popitem(last=False)
        self._log(f"session {session.name}: the relay ends {'a link' if ends else 'it'}: {why}")
        for connection in list(ends or session.connections):
            connection.transport.abort()

    def look(self) -> None:
        """Refuse who has waited too long, and end the links that carry nothing."""
        now = asyncio.get_running_loop().time()
        for token, session in list(self._sessions.items()):
            for connection in list(session.connections):
                if connection.transport.is_closing():
                    continue
                if connection.flow is None and now - connection.came > self.limits.wait_s:
                    seat, limit = connection.greeting.seat, f"{self.limits.wait_s:g}"
                    what = "nobody came to the seat" if connection.greeting.verb == LISTEN else "nobody took the seat"
                    self._log(f"session {session.name}: {connection.name} has waited {limit} s and is refused")
                    connection.refuse(WAITED, f"{what} of {seat} within {limit} s, its limit (wait_s={limit})")
                elif connection.flow is not None and self._idle(connection, now):
                    limit = f"{self.limits.idle_s:g}"
                    ends = (connection, connection.other)  # the link of a stranger must not end a session's others
                    self._end(token, f"a link carried nothing for {limit} s, its limit (idle_s={limit})", ends)

    def _idle(self, connection: Connection, now: float) -> bool:
        return now - max(connection.heard, connection.other.heard) > self.limits.idle_s

    def close(self) -> None:
        """Close all connections."""
        for session in list(self._sessions.values()):
            for connection in list(session.connections):
                connection.transport.abort()
        for connection in list(self._newcomers):
            connection.transport.abort()


async def serve(relay: Relay, host: str, port: int, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    """Listen at an address and relay until `stop` is set; `ready` is called with the address once it listens.

    Raises InputError, under the name `listen`, where the address cannot be listened on.
    """
    loop, where = asyncio.get_running_loop(), f"{host}:{port}"
    loop.set_exception_handler(lambda _, found: relay._log(f"an error: {found.get('message')}"))
    _allow_many_files()
    try:
        server = await loop.create_server(lambda: Connection(relay), host, port, backlog=NEWCOMERS)
    except OSError as error:
        raise cannot_listen("listen", where, host, port, error) from error
    bound = server.sockets[0].getsockname()
    ready(f"{host}:{bound[1]}")
    try:
        while not stop.is_set():
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_SECONDS)
            relay.look()
    finally:
        server.close()
        relay.close()
        await asyncio.sleep(0)  # the connections are closed in the loop's next round


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: each session has about 14 connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
