"""A relay that misbehaves: `bad_relay.py HOST:PORT FAULT`. It harms what the data owner sends to the model owner.

After the first 20,000 bytes of a connection FAULT is done once, or from then on.

    flip       one bit is changed
    drop       some bytes are left out
    repeat     the bytes that were read at a time are sent twice
    reorder    two parts of what was read change places
    withhold   nothing is forwarded any more
    cut        the connection is closed
    cross      the bytes are sent to the dealer, in place of the model owner
"""

from __future__ import annotations

import asyncio
import sys

from mpc_appraisal.mpc.net.relay.flow import Flow
from mpc_appraisal.mpc.net.relay.limits import Limits
from mpc_appraisal.mpc.net.relay.server import Relay, serve

AFTER = 20_000


class BadFlow(Flow):
    """The direction that is harmed, by one fault."""

    def __init__(self, source, sink, fault: str, session):
        super().__init__(source, sink)
        self._fault, self._session, self._done = fault, session, False

    def forward(self, data: bytes) -> None:
        if self.bytes + len(data) < AFTER or self._done and self._fault not in ("withhold", "cross"):
            return super().forward(data)
        if not self._done:
            print(f"harm is done: {self._fault}", file=sys.stderr, flush=True)
        self._done = True
        if self._fault == "withhold":
            self.bytes += len(data)
        elif self._fault == "cut":
            self.sink.abort()
        elif self._fault == "cross":
            self.bytes += len(data)
            dealers = [each for each in self._session.connections if each.greeting.role == "dealer" and each.flow]
            min(dealers, key=lambda each: each.address).transport.write(data)
        else:
            half = len(data) // 2
            changed = {
                "flip": bytes([data[0] ^ 1]) + data[1:],
                "drop": data[:half] + data[half + 1 :],
                "repeat": data + data,
                "reorder": data[half:] + data[:half],
            }
            super().forward(changed[self._fault])


class BadRelay(Relay):
    """A relay whose flows from the data owner to the model owner are `BadFlow`."""

    def __init__(self, fault: str):
        super().__init__(Limits(), lambda line: print(line, file=sys.stderr, flush=True))
        self._fault = fault

    def flow(self, session, source, sink):
        if (source.greeting.role, sink.greeting.role) != ("data_owner", "model_owner"):
            return super().flow(session, source, sink)
        return BadFlow(source.transport, sink.transport, self._fault, session)


def main(where: str, fault: str) -> None:
    host, _, port = where.rpartition(":")
    said = f"the relay listens at {where}"
    asyncio.run(
        serve(BadRelay(fault), host, int(port), asyncio.Event(), lambda _: print(said, file=sys.stderr, flush=True))
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
