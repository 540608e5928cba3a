"""One party of a session over tls, without the engine: `tls_party.py ROLE ADDRESS FOLDER WHAT`; for test_tls.

WHAT: loop, the owners exchange messages until killed; busy, the model owner computes and never looks at its peers;
slow, the data owner computes for 5 s; shape and note, the owners' programs differ.
"""

from __future__ import annotations

import os
import pickle
import sys
import time

import torch

from mpc_appraisal.errors import AppraisalError
from mpc_appraisal.mpc.meter import Meter
from mpc_appraisal.mpc.roles import rank_of
from mpc_appraisal.mpc.tls import TlsChannel
from mpc_appraisal.mpc.transport import Transport

ROWS = torch.arange(12)


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def program(channel: TlsChannel, role: str, what: str, link) -> None:
    me = rank_of(role)
    if role == "dealer" or what == "busy" and role == "model_owner":
        compute(60) if what == "busy" else None
        return
    if what == "slow" and role == "data_owner":
        compute(5)
    if what == "note" and role == "data_owner":
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


def main(role: str, address: str, folder: str, what: str) -> None:
    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    pickle.loads = pickle.load = pickle.Unpickler = refuse
    link = Transport("tls", folder, freeze_timeout=3.0).connect(role, address, 30.0)
    try:
        with link.interrupting():
            link.announce()
            print("running", file=sys.stderr, flush=True)
            program(TlsChannel(link, Meter(), 60.0), role, what, link)
            link.exchange("done", {})
        link.close(5.0)
    except AppraisalError as error:
        link.abort(error.public)
        link.close(5.0)
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
