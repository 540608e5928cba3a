"""A small market for tests: a shopper and sellers of handwritten digits, whose roles run as threads or as processes."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from processes import free_port
from sklearn.datasets import load_digits

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.plan import MarketPlan, SellerInput, ShopperInput, Validation
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.protocols.strategy import IfeShares
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles import cloud as cloud_role
from mpc_appraisal.marketplace.roles.authority import AuthorityInput
from mpc_appraisal.marketplace.roles.cloud import CloudInput
from mpc_appraisal.marketplace.roles.context import Connection
from mpc_appraisal.marketplace.roles.party import Own, take_part
from mpc_appraisal.marketplace.uploads.enrolment import enrol
from mpc_appraisal.marketplace.uploads.seller import upload
from mpc_appraisal.models.networks import Architecture, Conv, Dense, initial, train
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.transport import Transport

SMALL = Architecture("small", (1, 8, 8), (Conv(2, 3, stride=2, padding=1), Dense(16), Dense(10)))
TRANSFORM, SHARES = IfeTransform(LWE()), IfeShares(LWE())
# The largest difference of a probability from the plaintext baseline: ife_transform computes in float64, in another
# order and basis; the logits of ife_shares are off by 1e-4 at most, and so a probability by half of that.
PROBABILITY = {"ife_transform": 1e-10, "ife_shares": 5e-5}
WEIGHT = 1e-10
CAP = 0.9


def digits(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return handwritten digits of 8 x 8 pixels, resampled to size x size: x (1797, size^2) uint8, and y."""
    data = load_digits()
    images = torch.from_numpy(data.images)[:, None] * (255 / 16)
    images = torch.nn.functional.interpolate(images, size=(size, size), mode="nearest")
    return images.round().to(torch.uint8).flatten(1).numpy(), data.target.astype(np.int64)


def problem(architecture: Architecture, sellers: int = 3, rows: int = 20) -> tuple[ShopperInput, list[SellerInput]]:
    """Make a shopper with a badly trained network, and sellers with rows; the last seller's labels are wrong."""
    x, y = digits(architecture.image[1])
    own, asked, offered = slice(0, 100), slice(100, 300), range(300, 300 + sellers * rows, rows)
    network = train(
        initial(architecture, 0), torch.from_numpy(x[own]).float() / 255, torch.from_numpy(y[own]), epochs=12, lr=0.05
    )
    inputs = [
        SellerInput(f"seller-{k}", x[start : start + rows], y[start : start + rows]) for k, start in enumerate(offered)
    ]
    inputs[-1] = replace(inputs[-1], y=(inputs[-1].y + 1) % 10)
    return ShopperInput(network, (x[own], y[own]), (x[asked], y[asked])), inputs


def market(architecture: Architecture = SMALL, protocol=TRANSFORM, budget: int = 12, **changes) -> MarketPlan:
    validation = Validation(4, steps=6, lr=0.05, batch_size=16, momentum=0.5, deliver=True)
    if protocol.name == "ife_shares":
        validation = replace(validation, momentum=0.0, deliver=False)
    return MarketPlan(architecture, protocol, "margin", budget, validation, batch=16, **changes)


def stocked(folder: Path, plan: MarketPlan, sellers: list[SellerInput]) -> dict[str, Path]:
    """Enrol sellers and upload for them. Returns the folders of authority, enrolments and inbox."""
    places = {name: folder / name for name in ("authority", "enrolments", "inbox")}
    for seller in sellers:
        file = enrol(
            places["authority"], seller.name, plan.architecture, places["enrolments"], plan.protocol.scheme, CAP
        )
        upload(seller, file, places["inbox"])
    return places


def inputs_of(plan: MarketPlan, shopper: ShopperInput, places: dict[str, Path]) -> dict[str, Own]:
    """Return the input of each role."""
    to_shopper = plan.protocol.name == "ife_shares"
    return {
        SHOPPER: replace(shopper, inbox=places["inbox"] if to_shopper else None),
        CLOUD: CloudInput(None if to_shopper else places["inbox"]),
        AUTHORITY: AuthorityInput(places["authority"], CAP),
    }


def in_threads(plan: MarketPlan, shopper: ShopperInput, sellers: list[SellerInput], places=None, plans=None):
    """Run the three roles as threads of this process. Returns what each returned or raised.

    It does not serve `ife_shares`, since CrypTen can be initialised once in a process.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = places or stocked(Path(folder), plan, sellers)
        inputs = inputs_of(plan, shopper, places)
        address, found = f"tcp://127.0.0.1:{free_port()}", {}

        def play(role: str) -> None:
            try:
                own_plan = (plans or {}).get(role, plan)
                found[role] = take_part(role, address, own_plan, lambda: inputs[role], Connection(join_timeout=120.0))
            except AppraisalError as error:
                found[role] = error

        threads = [threading.Thread(target=play, args=(role,)) for role in inputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
            assert not thread.is_alive()
        return found


def served(found, names: list[str]) -> None:
    assert isinstance(found[SHOPPER], MarketResult), found
    assert sorted(found[SHOPPER].probabilities) == names
    assert {name for name, _ in found[SHOPPER].selected} <= set(names)


def playing(role, address, emit, folder, plan, inputs, dies, tls):
    """Run one role, over TLS where it has certificates; the cloud may be killed in the middle of its predictions."""
    if role == CLOUD and dies:
        products = cloud_role.TransformCloud.products

        def once(self, key, ciphertext):
            products(self, key, ciphertext)
            os.kill(os.getpid(), signal.SIGKILL)

        cloud_role.TransformCloud.products = once
    where, certificates = tls or (address, None)
    transport = Transport("tls", certificates) if tls else Transport()
    return take_part(role, where, plan, lambda: inputs[role], Connection(transport, join_timeout=240.0), hosted=True)


def in_processes(plan: MarketPlan, shopper: ShopperInput, places: dict[str, Path], dies: bool = False, tls=None):
    """Run the three roles in processes of their own. tls: address and certificates. Returns the shopper's result."""
    job = {"plan": plan, "inputs": inputs_of(plan, shopper, places), "dies": dies, "tls": tls}
    return launch(playing, {role: dict(job) for role in job["inputs"]}, lambda event: None)[SHOPPER]
