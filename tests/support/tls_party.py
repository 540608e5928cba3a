"""One party of a session without the engine: `tls_party.py ROLE ADDRESS FOLDER WHAT [TRANSPORT [FREEZE]]`, over tls.

ADDRESS is tcp://HOST:PORT, or relay=HOST:PORT for a session through a relay. FREEZE is session.freeze_timeout, by
default 3. WHAT selects what the parties do after
they have connected.

    loop                  the owners exchange tensors until they are killed
    busy                  the model owner computes and never looks at its peers
    load                  the model owner computes before it announces itself
    result                all are done, but the data owner and the dealer never send the last message
    slow, matmul          the data owner computes for 5 s, in Python or in one operation of torch
    big                   both owners send more than the window before they receive
    shape, type, message  the owners' programs differ
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time

import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.roles import rank_of
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.net import stream as wire
from mpc_appraisal.mpc.net import tcp
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.transport import Transport

ROWS = torch.arange(12)
MANY = torch.arange(8 << 20)  # 64 MiB: more than the kernel holds for the receiver


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def multiply(seconds: float) -> None:
    """One torch operation of at least so many seconds on this machine."""
    n, until = 500, time.monotonic() + seconds
    while time.monotonic() < until:
        a = torch.ones(n, n, dtype=torch.int64)
        start = time.monotonic()
        a.matmul(a)
        n = max(n, int(n * (seconds / (time.monotonic() - start)) ** (1 / 3)))


def program(channel: Channel, role: str, what: str, link) -> None:
    me = rank_of(role)
    if role == "dealer" or what == "busy" and role == "model_owner":
        compute(60) if what == "busy" else None
        return
    if what == "slow" and role == "data_owner":
        compute(5)
    if what == "matmul" and role == "data_owner":
        multiply(5)
    if what == "big":
        for _ in range(2):
            channel.send(MANY, 1 - me)
        for _ in range(2):
            assert torch.equal(channel.receive(MANY.shape, 1 - me), MANY)
    if what == "message" and role == "data_owner":
        link.exchange("elsewhere", {})
    if what in ("shape", "type"):
        if role == "data_owner":
            channel.send(ROWS.reshape(3, 4), 0)
            channel.receive((1,), 0)
        else:
            channel.receive((3, 5), 1) if what == "shape" else channel.receive((3, 4), 1, torch.uint8)
    for _ in range(10**9 if what in ("loop", "busy") else 10):
        channel.send(ROWS, 1 - me)
        assert torch.equal(channel.receive(ROWS.shape, 1 - me), ROWS)


def say_when_connected(link) -> None:
    while not link._peers:
        time.sleep(0.02)
    print("connected", file=sys.stderr, flush=True)


def main(role: str, address: str, folder: str, what: str, transport: str = "tls", freeze: str = "3") -> None:
    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    pickle.loads = pickle.load = pickle.Unpickler = refuse
    if what == "big":
        wire.WINDOW_BYTES = tcp.WINDOW_BYTES = 1 << 20
    relay = address.removeprefix("relay=") if address.startswith("relay=") else None
    way = Transport(transport, folder, freeze_timeout=float(freeze), relay=relay)
    link = way.connect(role, None if relay else address, 240.0)
    try:
        with link.interrupting():
            if what == "load" and role == "model_owner":
                print("running", file=sys.stderr, flush=True)
                compute(60)
            threading.Thread(target=say_when_connected, args=(link,), daemon=True).start()
            link.announce()
            print("running", file=sys.stderr, flush=True)
            program(open_channel(link, Meter(), 60.0, transport), role, what, link)
            if what == "result" and role != "model_owner":
                compute(60)
            link.exchange("done", {})
        link.close(5.0)
    except AppraisalError as error:
        link.abort(error.public)
        link.close(5.0)
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
