"""The marketplace's cost and leak parts at small sizes: complete rows, sound results, a rival that may be absent."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from experiments.harness.page import write_page
from experiments.harness.records import select
from experiments.harness.size import Size
from experiments.rivals import tenseal as tenseal_rival
from experiments.studies.marketplace import cost, leaks
from experiments.studies.marketplace.study import page_and_figures
from mpc_appraisal.data import Digits
from mpc_appraisal.models.networks import MNIST, Architecture, Conv, Dense, initial

REAL = tenseal_rival.tenseal
ABOUT = {"size": "small", "sizes": {}, "missing": [], "machine": "m", "versions": {}, "revision": "r", "command": "c"}


class Vector:
    """What the rival asks of a ciphertext, in the clear: values, and for patches their matrix."""

    def __init__(self, values, patches=None):
        self.values, self.patches = np.asarray(values, dtype=float), patches

    def mm(self, matrix):
        return Vector(self.values @ np.array(matrix))

    def conv2d_im2col(self, kernel, windows):
        assert len(self.patches) == windows and windows & (windows - 1) == 0
        return Vector(self.patches @ np.array(kernel).ravel())

    def square_(self):
        self.values = self.values**2
        return self

    def __add__(self, other):
        return Vector(self.values + np.asarray(other))

    def decrypt(self):
        return self.values.tolist()

    def serialize(self):
        return bytes(8 * self.values.size)


def encoded(context, rows):
    """As TenSEAL: taps up to a power of 2, times positions, must fit the slots."""
    patches = np.array(rows)
    assert len(patches) << (patches.shape[1] - 1).bit_length() <= context.slots
    return Vector(patches.ravel(), patches)


def context(scheme, degree, coeff_mod_bit_sizes, n_threads):
    assert sum(coeff_mod_bit_sizes) <= {8192: 218}[degree] and n_threads == 1  # SEAL's bound for 128 bits
    return SimpleNamespace(slots=degree // 2, generate_galois_keys=lambda: None)


FAKE = SimpleNamespace(
    SCHEME_TYPE=SimpleNamespace(CKKS="CKKS"),
    context=context,
    ckks_vector=lambda context, values: Vector(values),
    enc_matmul_encoding=encoded,
    CKKSVector=SimpleNamespace(pack_vectors=lambda parts: Vector(np.concatenate([part.values for part in parts]))),
)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(tenseal_rival, "tenseal", FAKE)


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(tenseal_rival, "tenseal", None)


TINY = {
    "cnn6": Architecture("cnn6", MNIST, (Conv(1, 7, stride=7), Dense(10))),
    "cnn3": Architecture("cnn3", MNIST, (Conv(2, 7, stride=3), Dense(6), Dense(10))),
    "mlp": Architecture("mlp", MNIST, (Dense(5), Dense(10))),
}


@pytest.fixture
def tiny(monkeypatch):
    for name, architecture in TINY.items():
        monkeypatch.setitem(cost.NETWORKS, name, architecture)


def measured(**changes) -> list[dict]:
    """Measure one turn of everything, but what `changes` says."""
    settings = {"ours": 1, "curve": 1, "rival": 1, "matrices": 1, "shares": 1, "images": (1, 2), "shared": "cnn3"}
    return cost.run(SimpleNamespace(**settings | {"shared_images": (1,)} | changes))


def tables(rows: list[dict]) -> list:
    """Render the report, and return its tables of costs."""
    page, _ = page_and_figures(ABOUT, rows)
    return [table for table in page.main if table.title.startswith(("Cost:", "TenSEAL's"))]


def summary(rows: list[dict]) -> str:
    return " ".join(page_and_figures(ABOUT, rows)[0].main[0].notes)


def test_without_tenseal_the_report_says_so(tiny, absent):
    with pytest.raises(ImportError, match="bench-he"):
        tenseal_rival.Tenseal(tenseal_rival.LAYER)
    rows = measured(ours=2, curve=0, images=(3,), shared_images=(3,))  # one launch of three processes
    assert [r["system"] for r in rows if r["operation"] == cost.ABSENT] == [cost.IM2COL]
    assert not cost.ratios(rows) and "Cost, one image" not in summary(rows)
    (table,) = tables(rows)
    assert "TenSEAL, im2col was not measured: not installed." in table.notes
    assert any("No like for like in security" in note for note in table.notes)
    ours = [r for r in rows if r["system"] == cost.TRANSFORM]
    assert {(r["network"], r["operation"]) for r in ours} == {(n, o) for n in TINY for o in cost.OPERATIONS}
    assert all(len(r["seconds"]) == 2 and min(r["seconds"]) > 0 for r in ours)
    assert all(r["error"] < 0.05 for r in ours if r["operation"] == cost.FORWARD)
    shared = [r for r in rows if r["system"] == cost.SHARES]
    assert {r["operation"] for r in shared} == set(cost.OPERATIONS) - {cost.FIRST}
    assert all(r["bytes"] > 0 and min(r["seconds"]) > 0 for r in shared)
    assert [r["bytes"] for r in shared if r["operation"] == cost.ENCRYPT] == [3 * (8 * 784 + 32 + 8 * 10 + 32)]


def test_the_rival_runs_in_the_same_turns_and_both_schemes_are_exact(tiny, fake, monkeypatch):
    monkeypatch.setattr(cost, "measure_shares", lambda *arguments: ())  # has its run above
    rows = measured()
    assert all(r["operation"] != cost.ABSENT for r in rows)
    rival = [r for r in rows if r["system"].startswith("TenSEAL") and r["operation"] != cost.ENCRYPT]
    assert all(r["error"] < 1e-12 for r in rival)  # against the exact first layers and the squared network
    assert {(r["network"], r["operation"]) for r in rival} == {
        ("cnn3", cost.FORWARD),
        *((name, cost.FIRST) for name in TINY),
    }
    assert {r["operation"] for r in rows if r["system"] == cost.CURVE} == set(cost.OPERATIONS)
    medians, against = tables(rows)
    assert medians.title == "Cost: medians" and against.title.startswith("TenSEAL's CKKS")


def test_patches_go_in_pieces_that_fit_the_slots(fake):
    context, layer = tenseal_rival.Tenseal(tenseal_rival.LAYER), Conv(4, 5)
    net = initial(Architecture("wide", MNIST, (layer, Dense(10))), 0, torch.float64)
    x = np.random.default_rng(0).random(784)
    rows = cost.patches(x[None], MNIST, layer.kernel)
    pieces = context.encrypt_patches(rows)
    assert [piece.rows for piece in pieces] == [128, 128, 128, 128, 64]
    check_convolution(pieces, net, x, 1e-12)


def check_convolution(pieces, net, x: np.ndarray, tolerance: float) -> None:
    weight, stride = net.weights[0], net.architecture.layers[0].stride
    found = tenseal_rival.convolution(pieces, weight[:, 0].numpy())
    values = tenseal_rival.decrypted([vector for parts in found for vector in parts])
    exact = functional.conv2d(torch.from_numpy(x).reshape(1, *MNIST), weight, stride=stride).flatten().numpy()
    assert np.abs(values - exact).max() < tolerance


def test_a_row_of_tenseal_itself_is_the_layer():
    """Where it is installed; elsewhere the same through the double."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenseal_rival, "tenseal", REAL or FAKE)
        context, layer = tenseal_rival.Tenseal(tenseal_rival.LAYER), Conv(2, 7, stride=3)
        net = initial(Architecture("coarse", MNIST, (layer, Dense(10))), 0, torch.float64)
        x = np.random.default_rng(0).random(784)
        pieces = context.encrypt_patches(cost.patches(x[None], MNIST, layer.kernel, layer.stride))
        check_convolution(pieces, net, x, 0.1)
        assert tenseal_rival.bytes_of([piece.vector for piece in pieces]) > 8 * len(x)


def test_ratios_are_of_medians_and_judge_the_goal():
    def row(system, operation, images, seconds):
        names = {"part": "cost", "network": "mlp", "system": system, "operation": operation, "images": images}
        return names | {"seconds": seconds, "bytes": None}

    rows = [
        row(cost.TRANSFORM, cost.FIRST, 1, [0.001, 0.002, 0.009]),
        row(cost.TRANSFORM, cost.FIRST, 64, [0.064]),
        row(cost.TRANSFORM, cost.MODEL, 0, [1.0]),
        row(cost.DIAGONALS, cost.FIRST, 1, [1.0, 1.5, 9.0]),
    ]
    found = cost.ratios(rows)
    assert [(images, seconds / ours) for *_, seconds, images, ours in found] == [(1, 750.0), (64, 1500.0)]
    _, table = tables(rows)
    assert [line[-1] for line in table.rows] == ["no", "yes"]
    assert "Less: first layer of mlp against TenSEAL, mm 750 x" in summary(rows)


@pytest.fixture(scope="module")
def leaked():
    settings = Size("marketplace", True, 1).settings("market")
    attacks = SimpleNamespace(layers=((8, 3, 1, 0), (40,), (16,), ()), rows=8, known=(10, 50))
    return leaks.run_pixels(settings, attacks) + leaks.run_model(settings, attacks)


def test_pixels_are_recovered_by_equations_and_not_at_all_from_shares(leaked):
    rows = select(leaked, kind=leaks.PIXELS)
    assert [(r["equations"], r["rank"]) for r in rows] == [(288, 64), (40, 40), (16, 16), (0, 0)]
    whole = [r["whole"] for r in rows]
    assert whole[0] == 1 and whole == sorted(whole, reverse=True) and whole[-1] == rows[-1]["ink"] == 0
    first, last = rows[0], rows[-1]
    assert first["found"] == first["truth"] and last["strategy"] == "ife_shares" and "nothing" in last["learns"]
    truth = leaks.unpacked(first["truth"])
    digits = Digits().load()[1].x[: leaks.SHOWN].reshape(-1, 8, 8)
    assert np.abs(truth - 255 * digits.numpy()).max() <= 0.5 and not leaks.unpacked(last["found"]).any()


def test_the_copy_needs_few_labels_and_shares_give_chance(leaked):
    (row,) = (r for r in leaked if r["kind"] == leaks.MODEL)
    (labels,) = (r for r in leaked if r["kind"] == "labels")
    (shares,) = (r for r in leaked if r["kind"] == "shares")
    assert row["own"] > 0.8 and np.mean(row["copied"]["50"]) > np.mean(row["copied"]["10"]) > 0.2
    assert np.mean(labels["labels"]["50"]) > 0.8 and shares["strategy"] == "ife_shares"
    assert float(shares["measured"].split(": ")[1].split()[0]) < 0.2


def test_the_page_shows_leaks_and_their_figure(leaked, tmp_path):
    page, figures = page_and_figures(ABOUT, leaked)
    ((name, _),) = page.figures
    write_page(page, figures, tmp_path, "marketplace")
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "marketplace.md").read_text()
    assert all(r["measured"] in text and r["stops"] in text for r in leaked)
    assert "Pixels that the cloud recovers" in text
