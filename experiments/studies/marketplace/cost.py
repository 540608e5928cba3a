"""Seconds and bytes of `ife_transform`, `ife_shares` and TenSEAL's CKKS, in turns of one run (table 1 of the slides).

data encryption     at the seller; its key is expanded beforehand
model encryption    masks, quantised first layer, function keys; once, for any number of images
first layer         ciphertexts and keys -> products (TenSEAL: -> encrypted products), with all rotations
feed forward        first layer, the others, and the shopper's logits
back propagation    the shopper's gradient and one step of all layers but the first (`ife_shares`: forward pass too)

The networks have random weights and images, because none of these costs depends on values: cnn6 (table 1), cnn3 (that
of TenSEAL's tutorial: a convolution 4 x 7 x 7 stride 3, 64 units, 10 units; TenSEAL squares where others have ReLU) and
mlp (100 units, 10 units). Each has one thread; `ife_shares` is three processes, the dealer's work included. For quiet
timings run the study with `--only cost`; otherwise it begins last, beside what is left of the other jobs. Security is
not the same: see the notes of the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments.harness.jobs import Job
from experiments.harness.parties import launch_parties, meeting, run_session, start_together
from experiments.harness.records import Row, select
from experiments.rivals import tenseal
from experiments.rivals.tenseal import LAYER, NETWORK, Tenseal
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.convolution import patches
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.encryption.scheme import PIXEL, Master, Scheme
from mpc_appraisal.marketplace.protocols.masked_layers import CloudSide, Masks, ShopperSide, mask
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import quantised_first
from mpc_appraisal.marketplace.protocols.quantised import quantise
from mpc_appraisal.marketplace.protocols.shares_plan import Cloud, SharesPlan, Shopper, Training, label_rows, one_hot
from mpc_appraisal.marketplace.protocols.shares_protocol import run_shares
from mpc_appraisal.models import networks
from mpc_appraisal.models.networks import MNIST, Architecture, Conv, Dense, Network, first_matrix
from mpc_appraisal.mpc.backends.registry import deal
from mpc_appraisal.reporting.table import DASH

KEYS = {"network", "operation", "system", "images", "seconds", "bytes"}
OPERATIONS = ENCRYPT, MODEL, FIRST, FORWARD, BACK = (
    "data encryption", "model encryption", "first layer", "feed forward", "back propagation"
)  # fmt: skip
ABSENT = "not installed"
TRANSFORM, CURVE, SHARES = "ife_transform, LWE", "ife_transform, ALS16", "ife_shares, LWE"
IM2COL, DIAGONALS, LEAST = "TenSEAL, im2col", "TenSEAL, mm", ", least modulus"
NETWORKS = {
    "cnn6": networks.ARCHITECTURES["cnn6"],
    "cnn3": Architecture("cnn3", MNIST, (Conv(4, 7, stride=3), Dense(64), Dense(10))),
    "mlp": networks.ARCHITECTURES["mlp"],
}
INK = 0.2  # share of pixels that are not 0, as in MNIST
LR = 0.01
GOAL = 1000.0
SHARES_TIMEOUT = 120.0


def jobs(settings: SimpleNamespace) -> list[Job]:
    return [Job("cost", run, (settings,), 1000)]


def network_of(name: str) -> Network:
    return networks.initial(NETWORKS[name], 0, torch.float64)


@dataclass
class Timings:
    """Seconds by (network, operation, system, images), and what was found beside them."""

    rows: dict[tuple[str, str, str, int], Row] = field(default_factory=dict)

    def time(self, what: tuple[str, str, str, int], call: Callable[[], Any]) -> Any:
        """Call, add the seconds, and return the result."""
        start = time.perf_counter()
        result = call()
        self.add(what, time.perf_counter() - start)
        return result

    def add(self, what: tuple[str, str, str, int], seconds: float, **facts: float) -> None:
        names = dict(zip(("network", "operation", "system", "images"), what, strict=True))
        row = self.rows.setdefault(what, {"part": "cost", **names, "seconds": [], "bytes": None})
        row["seconds"].append(round(seconds, 7))
        self.note(what, **facts)

    def note(self, what: tuple[str, str, str, int], **facts: float) -> None:
        """Keep the largest of each fact."""
        row = self.rows[what]
        row |= {key: max(value, row.get(key) or 0) for key, value in facts.items()}


def run(settings: SimpleNamespace) -> list[Row]:
    draw, most = np.random.default_rng(0), max(settings.images)
    x = draw.integers(0, PIXEL + 1, (most, 784)) * (draw.random((most, 784)) < INK)
    y = torch.from_numpy(draw.integers(0, 10, most))
    timings, rivals = Timings(), Rivals(x[0] / PIXEL) if tenseal.installed() else None
    seller = LWE().setup(784)  # one for all networks, because the scheme keeps few expanded keys
    ours = {name: TransformProtocol(network_of(name), LWE(), TRANSFORM, seller) for name in NETWORKS}
    for one in ours.values():
        one.turn(Timings(), x[:1], y[:1])  # expands it
    curve = _curve() if settings.curve else None
    for turn in range(max(settings.ours, settings.curve, settings.rival, settings.matrices)):
        for one in ours.values() if turn < settings.ours else ():
            for count in settings.images:
                one.turn(timings, x[:count], y[:count])
        if rivals and turn < settings.rival:
            rivals.turn(timings)
        if rivals and turn < settings.matrices:
            rivals.matrices(timings)
        if curve and turn < settings.curve:
            curve.turn(timings, x[:1], y[:1])
    shared = ours[settings.shared].network
    for count in settings.shared_images:
        for operation, seconds, sent in measure_shares(shared, x[:count], y[:count], settings.shares, LR):
            timings.add((settings.shared, operation, SHARES, count), seconds, bytes=sent)
    lost = [IM2COL] * (rivals is None) + [CURVE] * (curve is None and settings.curve > 0)
    facts = {"network": DASH, "operation": ABSENT, "images": 0, "seconds": [], "bytes": None}
    return [*timings.rows.values(), *({"part": "cost", "system": system, **facts} for system in lost)]


def _curve() -> TransformProtocol | None:
    try:
        return TransformProtocol(network_of("cnn6"), ALS16(), CURVE, ALS16().setup(784))
    except InputError:
        return None


@dataclass(eq=False)
class TransformProtocol:
    """`ife_transform` with one seller."""

    network: Network
    scheme: Scheme
    system: str
    master: Master

    def __post_init__(self) -> None:
        self._key = self.scheme.encryption_key(self.master)

    def turn(self, timings: Timings, x: np.ndarray, y: Tensor) -> None:
        """Do every operation once; bytes are those of numbers as they are sent.

        AssertionError tells that products are not exact.
        """
        name = self.network.architecture.name
        what = {operation: (name, operation, self.system, len(x)) for operation in OPERATIONS}
        what[MODEL] = (name, MODEL, self.system, 0)
        c = timings.time(what[ENCRYPT], lambda: self.scheme.encrypt(self._key, x))
        masks, masked, q, key = timings.time(what[MODEL], self._hidden)
        evaluate = self.scheme.evaluator(key, q.w)
        if not np.array_equal(evaluate(c), x @ q.w.T):  # and so the key was used once
            raise AssertionError("inner products are not exact")
        cloud, shopper = CloudSide(masked, masks.squares(), lr=LR), ShopperSide(masks)

        def forward() -> tuple[Tensor, Tensor]:
            products = timings.time(what[FIRST], lambda: evaluate(c))
            z = cloud.forward(q.real(products))
            return z, shopper.logits(z)

        z, logits = timings.time(what[FORWARD], forward)
        timings.time(what[BACK], lambda: cloud.backward(shopper.gradient(z, y)))
        plain = self.network.logits(torch.from_numpy(x) / PIXEL)
        error = (logits - plain).abs().max() / plain.abs().max()
        others = sum(p.numel() * p.element_size() for p in (*masked.weights[1:], *masked.biases))
        timings.note(what[ENCRYPT], bytes=c.nbytes)
        timings.note(what[MODEL], bytes=key.nbytes + 2 * 4 * q.w.size + q.step.nbytes + others)
        timings.note(what[FORWARD], bytes=z.numel() * z.element_size(), error=float(error))
        timings.note(what[BACK], bytes=z.numel() * z.element_size())

    def _hidden(self) -> tuple:
        masks = Masks.draw(self.network.architecture)
        masked = mask(self.network, masks)
        q = quantise(first_matrix(masked))
        return masks, masked, q, self.scheme.keygen(self.master, q.w)


class Rivals:
    """TenSEAL on one image x (d,) in 0 .. 1."""

    def __init__(self, x: np.ndarray):
        self.x, self.whole, self.layer = x, Tenseal(NETWORK), Tenseal(LAYER)

    def turn(self, timings: Timings) -> None:
        """Evaluate the tutorial's network, and the first layers that are convolutions."""
        net = network_of("cnn3")
        weights, biases = ([p.numpy() for p in ps] for ps in (net.weights, net.biases))
        what = "cnn3", ENCRYPT, IM2COL, 1
        pieces = timings.time(what, lambda: self.whole.encrypt_patches(self._patches("cnn3")))
        timings.note(what, bytes=tenseal.bytes_of([piece.vector for piece in pieces]))
        what = "cnn3", FORWARD, IM2COL, 1
        logits = timings.time(what, lambda: tenseal.network(pieces, weights, biases).decrypt())
        timings.note(what, error=relative_error(np.array(logits), squared(net, self.x)))
        self._first(timings, "cnn3", IM2COL, pieces)
        for name in ("cnn3", "cnn6"):
            self._first(timings, name, IM2COL + LEAST, self.layer.encrypt_patches(self._patches(name)))

    def _first(self, timings: Timings, name: str, system: str, pieces: list) -> None:
        kernels = network_of(name).weights[0][:, 0].numpy()
        found = timings.time((name, FIRST, system, 1), lambda: tenseal.convolution(pieces, kernels))
        self._check(timings, name, system, tenseal.decrypted([vector for parts in found for vector in parts]))

    def matrices(self, timings: Timings) -> None:
        """Evaluate first layers as one matrix: dense, and the convolution of cnn6 by its Toeplitz rows."""
        for name in ("mlp", "cnn6"):
            w, c = first_matrix(network_of(name)).numpy(), self.layer.encrypt(self.x)
            found = timings.time((name, FIRST, DIAGONALS + LEAST, 1), lambda w=w, c=c: tenseal.dense(c, w))
            self._check(timings, name, DIAGONALS + LEAST, tenseal.decrypted([found]))

    def _check(self, timings: Timings, name: str, system: str, values: np.ndarray) -> None:
        exact = first_matrix(network_of(name)).numpy() @ self.x
        timings.note((name, FIRST, system, 1), error=relative_error(values, exact))

    def _patches(self, name: str) -> np.ndarray:
        conv = NETWORKS[name].layers[0]
        return patches(self.x[None], MNIST, conv.kernel, conv.stride, conv.padding)


def relative_error(values: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(values - exact).max() / np.abs(exact).max())


def squared(net: Network, x: np.ndarray) -> np.ndarray:
    """Return logits (C,) with squares in place of ReLU."""
    a = net.hidden(torch.from_numpy(x)[None])
    for w, bias in zip(net.weights[1:], net.biases[1:], strict=True):
        a = a.square() @ w.T + bias
    return a[0].numpy()


# -- ife_shares, in three new processes ------------------------------------------------------------------------------
def measure_shares(
    network: Network, x: np.ndarray, y: Tensor, repeats: int, lr: float
) -> Iterator[tuple[str, float, int]]:
    """Yield each operation of `ife_shares` with its seconds and bytes. x is (n, d) in 0 .. 255 and y is (n,).

    Feed forward is all rows in one session, whose logits the shopper opens. Back propagation is one step on all rows,
    forward pass included, and the errors on one row of the shopper's. Data and model encryption are timed in this
    process. The first pair of sessions warms up and is not counted. AssertionError tells that the opened logits are not
    the network's.
    """
    scheme, architecture = LWE(), network.architecture
    images, labels = scheme.setup(architecture.features), scheme.setup(architecture.classes)
    keys = scheme.encryption_key(images), scheme.encryption_key(labels)
    scheme.encrypt(keys[0], x[:1])  # expands the seller's key
    for _ in range(repeats):
        start = time.perf_counter()
        encrypted = scheme.encrypt(keys[0], x), scheme.encrypt(keys[1], one_hot(y.numpy(), architecture.classes))
        yield ENCRYPT, time.perf_counter() - start, sum(c.nbytes for c in encrypted)
        start = time.perf_counter()
        q = quantised_first(network)
        issued = scheme.keygen(images, q.w), scheme.keygen(labels, label_rows(architecture.classes))
        yield MODEL, time.perf_counter() - start, sum(key.nbytes for key in issued) + 4 * q.w.size
    rows = tuple(range(len(x)))
    forward = SharesPlan(architecture, predicted=rows, batch=len(x))
    step = Training(rows, (rows,), lr)
    backward = SharesPlan(architecture, training=step, validation=1, opens="errors", batch=len(x))
    shopper = Shopper(network, q, encrypted[0]), Shopper(network, q, *encrypted, torch.from_numpy(x[:1]), y[:1])
    cloud = Cloud(issued[0], encrypted[0].header, issued[1], encrypted[1].header)
    plans = {FORWARD: forward, BACK: backward}
    held = {MODEL_OWNER: dict(zip(plans, shopper, strict=True)), DATA_OWNER: dict.fromkeys(plans, cloud), DEALER: {}}
    jobs = {role: {"sides": sides} for role, sides in held.items()}
    found = launch_parties(serve_shares, jobs, plans=plans, repeats=repeats)
    exact = network.from_hidden(q.real(x @ q.w.T) + network.hidden(torch.zeros(1, architecture.features)))
    for place, (operation, seconds, _, logits) in enumerate(found[MODEL_OWNER]):
        if logits is not None and not torch.allclose(logits, exact, rtol=0, atol=1e-3):
            raise AssertionError("logits of shares are not the network's")
        if place >= len(plans):
            yield operation, seconds, sum(found[role][place][2] for role in ROLES)


def serve_shares(
    role: str, address: str, emit: Any, folder: Path, plans: dict, repeats: int, sides: dict
) -> list[tuple]:
    """Return operation, seconds, bytes sent and logits (or None) of every session."""
    found = []
    with meeting(role, address, SHARES_TIMEOUT) as rendezvous:
        for turn in range(repeats + 1):
            for operation, plan in plans.items():
                start_together(rendezvous, f"{operation}/{turn}", ROLES)
                start, logits = time.perf_counter(), None
                if role == DEALER:
                    sent = deal("fast", rendezvous, SHARES_TIMEOUT)[-1]
                else:
                    own = {"shopper" if role == MODEL_OWNER else "cloud": sides[operation]}
                    program = partial(run_shares, plan=plan)
                    _, sent, _, opened = run_session(rendezvous, "fast", program, SHARES_TIMEOUT, **own)
                    logits = opened.predicted
                found.append((operation, time.perf_counter() - start, sent, logits))
    return found


# -- for the report ------------------------------------------------------------------------------------------------
def lines(rows: list[Row]) -> list[tuple[tuple[str, str, int], dict[str, Row]]]:
    """Return ((network, system, images), rows by operation), in the order of the report's table."""
    keys = {(r["network"], r["system"], r["images"]) for r in rows if r["seconds"] and r["images"]}
    found = []
    for network, system, images in sorted(keys, key=lambda key: (list(NETWORKS).index(key[0]), key[1:])):
        mine = [r for r in select(rows, network=network, system=system) if r["images"] in (0, images)]
        found.append(((network, system, images), {r["operation"]: r for r in mine}))
    return found


def ratios(rows: list[Row]) -> list[tuple[str, str, str, float, int, float]]:
    """Return (network, operation, TenSEAL's system, its seconds, images, ours an image) of all that TenSEAL did.

    Ours are the seconds of `ife_transform` on the same layers, in the same turns.
    """
    found = pd.DataFrame([r | {"seconds": median(r["seconds"])} for r in rows if r["seconds"] and r["images"]])
    if found.empty:
        return []
    rivals = found[found.system.str.startswith("TenSEAL") & (found.operation != ENCRYPT)]
    both = rivals.merge(found[found.system == TRANSFORM], on=["network", "operation"], suffixes=("", "_ours"))
    both["ours"] = both.seconds_ours / both.images_ours
    columns = ["network", "operation", "system", "seconds", "images_ours", "ours"]
    return list(both[columns].itertuples(index=False, name=None))
