"""A session of two roles: the owners meet, talk and send tensors without a dealer, over tcp and over tls."""

from __future__ import annotations

import threading

import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, free_port

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.tls import TlsLink
from mpc_appraisal.mpc.net.transport import Transport


def in_threads(*functions):
    """Run functions at the same time; return what each returned or raised."""
    found = [None] * len(functions)

    def run(k):
        try:
            found[k] = functions[k]()
        except Exception as error:
            found[k] = error

    threads = [threading.Thread(target=run, args=(k,), daemon=True) for k in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    return found


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_two_owners_exchange_messages_and_tensors(kind, tmp_path):
    make_trial(tmp_path / "tls")
    address = f"tcp://127.0.0.1:{free_port()}"

    def party(role):
        transport = Transport(kind, str(tmp_path / "tls" / role), 30.0, roles=OWNERS)
        link = transport.connect(role, address, 240.0)
        link.announce()
        said = link.exchange("greeting", {"from": role})
        channel = open_channel(link, Meter(), 240.0, kind)
        me = OWNERS.index(role)
        channel.send(torch.tensor([me, 5]), 1 - me)
        got = channel.receive((2,), 1 - me).tolist()
        channel.close()
        link.exchange("done", {})
        link.close(5.0)
        return said, got

    for me, result in enumerate(in_threads(lambda: party(MODEL_OWNER), lambda: party(DATA_OWNER))):
        assert result == ({role: {"from": role} for role in OWNERS}, [1 - me, 5])


def test_a_dealer_is_refused_where_none_takes_part(tmp_path):
    make_trial(tmp_path)
    address = f"tcp://127.0.0.1:{free_port()}"
    host = TlsLink(MODEL_OWNER, address, 10.0, str(tmp_path / MODEL_OWNER), roles=OWNERS)
    try:
        with pytest.raises(PeerError, match="no dealer takes part in this session"):
            TlsLink(DEALER, address, 10.0, str(tmp_path / DEALER))
    finally:
        host.abort("the test is over")
        host.close(0.0)
