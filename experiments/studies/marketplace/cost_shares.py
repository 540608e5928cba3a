"""`ife_shares` in three new processes of one machine: what a session costs, the dealer's work included.

    feed forward        all rows in one session; the shopper opens their logits
    back propagation    one step on all rows, forward pass included, and the errors on one row of the shopper's

Data and model encryption are timed in this process. The first pair of sessions warms up and is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.harness.parties import launch_parties, meeting, start_together
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import quantised_first
from mpc_appraisal.marketplace.protocols.shares_plan import Cloud, SharesPlan, Shopper, Training, label_rows, one_hot
from mpc_appraisal.marketplace.protocols.shares_protocol import run_shares
from mpc_appraisal.models.networks import Network
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.net.rendezvous import Rendezvous

TIMEOUT = 120.0
Measured = tuple[str, float, int]  # operation, seconds, bytes


def measure(network: Network, x: np.ndarray, y: Tensor, repeats: int, lr: float) -> Iterator[Measured]:
    """Yield what each operation costs. x is (n, d) in 0 .. 255 and y is (n,).

    AssertionError tells that the opened logits are not the network's.
    """
    scheme, architecture = LWE(), network.architecture
    images, labels = scheme.setup(architecture.features), scheme.setup(architecture.classes)
    keys = scheme.encryption_key(images), scheme.encryption_key(labels)
    scheme.encrypt(keys[0], x[:1])  # expands the seller's key
    for _ in range(repeats):
        start = time.perf_counter()
        encrypted = scheme.encrypt(keys[0], x), scheme.encrypt(keys[1], one_hot(y.numpy(), architecture.classes))
        yield "data encryption", time.perf_counter() - start, sum(c.nbytes for c in encrypted)
        start = time.perf_counter()
        q = quantised_first(network)
        issued = scheme.keygen(images, q.w), scheme.keygen(labels, label_rows(architecture.classes))
        yield "model encryption", time.perf_counter() - start, sum(key.nbytes for key in issued) + 4 * q.w.size
    rows = tuple(range(len(x)))
    forward = SharesPlan(architecture, predicted=rows, batch=len(x))
    step = Training(rows, (rows,), lr)
    backward = SharesPlan(architecture, training=step, validation=1, opens="errors", batch=len(x))
    shopper = Shopper(network, q, encrypted[0]), Shopper(network, q, *encrypted, torch.from_numpy(x[:1]), y[:1])
    cloud = Cloud(issued[0], encrypted[0].header, issued[1], encrypted[1].header)
    plans = {"feed forward": forward, "back propagation": backward}
    held = {MODEL_OWNER: dict(zip(plans, shopper, strict=True)), DATA_OWNER: dict.fromkeys(plans, cloud), DEALER: {}}
    found = launch_parties(party, {r: {"sides": sides} for r, sides in held.items()}, plans=plans, repeats=repeats)
    exact = network.from_hidden(q.real(x @ q.w.T) + network.hidden(torch.zeros(1, architecture.features)))
    for place, (operation, seconds, _, logits) in enumerate(found[MODEL_OWNER]):
        if logits is not None and not torch.allclose(logits, exact, rtol=0, atol=1e-3):
            raise AssertionError("logits of shares are not the network's")
        if place >= len(plans):
            yield operation, seconds, sum(found[role][place][2] for role in ROLES)


def party(role: str, address: str, emit: Any, folder: Path, plans: dict, repeats: int, sides: dict) -> list[tuple]:
    """Return operation, seconds, bytes sent and logits (or None) of every session."""
    found = []
    with meeting(role, address, TIMEOUT) as rendezvous:
        for turn in range(repeats + 1):
            for operation, plan in plans.items():
                start_together(rendezvous, f"{operation}/{turn}", ROLES)
                start, logits = time.perf_counter(), None
                if role == DEALER:
                    sent = deal("fast", rendezvous, TIMEOUT)[-1]
                else:
                    sent, logits = _session(rendezvous, role, plan, sides[operation])
                found.append((operation, time.perf_counter() - start, sent, logits))
    return found


def _session(rendezvous: Rendezvous, role: str, plan: SharesPlan, side: Any) -> tuple[int, Tensor | None]:
    session = open_session("fast", rendezvous, TIMEOUT)

    def program(session: Any, **sides: Any) -> Any:
        opened = run_shares(session, plan, **sides)
        session.mark()
        return opened

    session.prepare(program)
    opened = program(session, **{"shopper" if role == MODEL_OWNER else "cloud": side})
    sent = session.meter.bytes_sent
    session.close()
    return sent, opened.predicted
