"""Defects of CrypTen 0.4.1 that touch a result, each shown on CrypTen and then absent here."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols import crypten_compat as _compat
from mpc_appraisal.mpc.ring.fixed_point import decode, encode

crypten = _compat.load()


def test_decoding():
    """CrypTen divides negative raw values by 65535: some come out wrong by exactly 1."""
    raw = torch.arange(-1000 * 65536, -1000 * 65536 + 65536)
    exact = torch.from_numpy(raw.numpy().astype(np.float64) / 65536)
    stock = crypten.encoder.FixedPointEncoder().decode(raw).double()
    assert ((stock - exact).abs() > 0.99).float().mean() > 0.01
    assert torch.equal(decode(raw), exact)


@pytest.mark.parametrize("value", [1e15, float("nan"), float("inf")])
def test_encoding_of_what_does_not_fit(value):
    stock = crypten.encoder.FixedPointEncoder()
    wrong = stock.decode(stock.encode(torch.tensor([value])))
    assert not torch.equal(wrong, torch.tensor([value]))  # silently something else
    with pytest.raises(InputError):
        encode(torch.tensor([value]), "x")


def test_encoding_rounds_to_nearest():
    values = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    stock = crypten.encoder.FixedPointEncoder()
    assert (stock.encode(values).double() / 65536 - values).mean() < -0.4 / 65536  # cut off: half a unit low on average
    assert abs((decode(encode(values, "x")) - values).mean()) < 0.01 / 65536


def test_on_the_engine_nothing_draws_from_torchs_generators():
    code = """
from mpc_appraisal.mpc.protocols import crypten_adapter
from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.ring.prg import DryStream
from crypten.common.rng import generate_random_ring_element
generate_random_ring_element((2,), generator=__import__("torch").Generator())  # what CrypTen does
crypten_adapter.use(Engine(0, DryChannel(Meter()), Engine.streams_of(None), DryStream(), dry=True))
try:
    generate_random_ring_element((2,))
except TypeError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "shares, masks and triples come from AES" in done.stdout, done.stderr
