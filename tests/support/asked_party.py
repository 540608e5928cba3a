"""One party of a session with an asked dealer: `asked_party.py ROLE ADDRESS FOLDER WHAT [TRANSPORT [FREEZE]]`.

ADDRESS is tcp://HOST:PORT, or relay=HOST:PORT for a session through a relay. TRANSPORT is tls by default, and FREEZE is
session.freeze_timeout. WHAT names a function of this file, which is the owners' program: it takes the session and
returns what to print.
"""

from __future__ import annotations

import sys

import torch
from attended import attended

from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.backends.asked import AskedSession, deal_asked
from mpc_appraisal.mpc.net.transport import Transport
from mpc_appraisal.mpc.protocols.comparison import relu

ROWS = torch.arange(-6, 6).reshape(3, 4).double() / 4


def shared(session, values: torch.Tensor) -> torch.Tensor:
    """Return this owner's share of public values with 16 fractional bits, blinded."""
    engine = session.context.engine
    ring = (values * 2**16).round().long()
    return engine.blinded(engine.public_share(ring) + torch.zeros_like(ring))


def opened(session, share: torch.Tensor) -> torch.Tensor:
    return session.context.engine.open(session.context.engine.blinded(share))[0]


def branches(session) -> list:
    """The shapes of what is computed depend on an opened value: how many rows have a positive sum."""
    engine = session.context.engine
    x = shared(session, ROWS)
    value, bit = relu(engine, x)
    bit.forget(engine)
    sums = opened(session, value.sum(1)).double() / 2**16
    kept = x[sums > 0]
    squares = engine.truncate(engine.square(kept), 16)
    return [sums.tolist(), opened(session, squares).tolist()]


def repeats(session) -> list:
    """A loop that is left at the end, where much has been asked ahead."""
    engine, x = session.context.engine, shared(session, ROWS)
    for _ in range(200):
        value, bit = relu(engine, x)
        bit.forget(engine)
    squares = engine.truncate(engine.square(value), 16)
    found = opened(session, squares).tolist()
    return [found, engine.repetition.ahead, engine.asked]


def prepared(session) -> list:
    """The same loop, pushed; and a program that cannot be pushed."""

    def program(session) -> torch.Tensor:
        engine, x = session.context.engine, shared(session, ROWS)
        for _ in range(20):
            value, bit = relu(engine, x)
            bit.forget(engine)
        return value

    can, cannot = session.prepare(program), session.prepare(branches)
    return [can, cannot, opened(session, program(session)).tolist(), session.context.engine.asked]


def forever(session) -> None:
    engine, x = session.context.engine, shared(session, ROWS)
    print("running", file=sys.stderr, flush=True)
    while True:
        relu(engine, x)[1].forget(engine)


def differs(session) -> None:
    engine = session.context.engine
    size = 4 + engine.me
    while True:
        engine.square(shared(session, torch.ones(size)))


def leaves(session) -> None:
    engine = session.context.engine
    if engine.me == 0:
        engine.square(shared(session, torch.ones(4)))


def main(role: str, address: str, folder: str, what: str, transport: str = "tls", freeze: str = "60") -> int:
    relay = address.removeprefix("relay=") if address.startswith("relay=") else None
    tls = folder if transport == "tls" else None
    kind = Transport(transport, tls, freeze_timeout=float(freeze), relay=relay)

    def run(link, _):
        if role not in OWNERS:
            print("running", file=sys.stderr, flush=True)
            deal_asked(link, 60.0, transport)
            return None
        session = AskedSession(link, 60.0, transport)
        found = globals()[what](session)
        session.close()
        return found

    return attended(role, kind, None if relay else address, 240.0, run)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
