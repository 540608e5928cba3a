"""`mpc-appraisal relay`: forward the encrypted sessions of others, so that no party has to open a port.

    mpc-appraisal relay listen=0.0.0.0:7787

In go KEY=VALUE, each a limit of `relay.limits.Limits` beside the address; out come a log on standard error, and one
line on standard output once the relay has ended. Ctrl-C or SIGTERM ends it with status 0. A key may be added, and known
keys have to keep their meaning. The relay needs no certificates, and nothing here may read any.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from mpc_appraisal.cli.arguments import number, split
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.relay.greeting import parse_relay
from mpc_appraisal.mpc.net.relay.limits import Limits

LISTEN = "127.0.0.1:7787"
NONE = "none"
KINDS = {"sessions": int, "wait_s": float, "idle_s": float, "session_mb": float, "mbit": float, "delay_ms": float}
USAGE = f"""usage: mpc-appraisal relay [KEY=VALUE ...]

Forward the sessions of parties that state session.relay=HOST:PORT: all of them
dial out to this relay, and nobody else opens a port. The parties speak TLS with
each other through it. The relay has no key and can read nothing; it learns the
parties' addresses, their roles, and the times and sizes of what they send.

listen=HOST:PORT: where it listens (default: {LISTEN}, which this machine
               alone can reach; listen=0.0.0.0:7787 lets others reach it)
sessions=N:    at most N sessions at one time (default: {Limits.sessions})
wait_s=S:      a party may wait S seconds for the others (default: {Limits.wait_s:g})
idle_s=S:      a session with a link that carries nothing for S seconds is ended
               (default: {Limits.idle_s:g}; parties send a heartbeat twice a second)
session_mb=M:  a session that has sent M megabytes is ended (default: {NONE})
mbit=M:        each party sends, and receives, at most M megabits a second
               (default: {NONE})
delay_ms=D:    everything arrives D milliseconds later in each direction
               (default: 0)

delay_ms and mbit make a wide network on one machine, as in
    mpc-appraisal relay delay_ms=20 mbit=100

The log is on standard error: who came, by address, role and the digest of the
session's token, and how many bytes they sent. Ctrl-C ends the relay, and all
sessions that it forwards, with status 0."""


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand until it is interrupted. Raises InputError for a bad argument or an address that is taken."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    host, port, limits = stated(arguments)
    asyncio.run(_run(host, port, limits))


def stated(arguments: Sequence[str]) -> tuple[str, int, Limits]:
    """Return the host and the port to listen on, and the limits. Raises InputError, by key, for a bad argument."""
    known = ("listen", *KINDS)
    found, others = split(arguments, known)
    if others:
        raise InputError("relay", shown(others[0]), f"KEY=VALUE, each key once, of {', '.join(known)}")
    host, port, name = parse_relay(found.get("listen", LISTEN), "listen")
    if name:
        raise InputError("listen", shown(repr(found["listen"])), "HOST:PORT: the parties state the name of a session")
    limits: dict[str, Any] = {}
    for key, kind in KINDS.items():
        if key in found and not (found[key] == NONE and getattr(Limits, key) is None):
            limits[key] = number(key, found[key], kind)
    return host, port, Limits(**limits)


async def _run(host: str, port: int, limits: Limits) -> None:
    from mpc_appraisal.mpc.net.relay.server import Relay, serve

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    began, relay = time.monotonic(), Relay(limits, _log)
    await serve(relay, host, port, stop, lambda where: _log(f"the relay listens at {where}; {_words(limits)}"))
    seconds = time.monotonic() - began
    served = f"{relay.served} session{'s' * (relay.served != 1)}"
    print(f"the relay ended after {seconds:.1f} s: {served}, {relay.bytes} bytes forwarded")


def _words(limits: Limits) -> str:
    """Return all limits in one line, as they may be stated."""
    values = {key: getattr(limits, key) for key in KINDS}
    return " ".join(f"{key}={NONE if value is None else format(value, 'g')}" for key, value in values.items())


def _log(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", file=sys.stderr, flush=True)
