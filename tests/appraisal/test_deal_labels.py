"""Candidates with labels that the model has no class for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import problem, write_npz
from test_deal_edges import CLASSES, L2, NOISED, TEST, TRAIN, VALUE, Deal, R
from test_release import Asked, launched

from mpc_appraisal import Dataset
from mpc_appraisal.appraisal import preparation
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.data import StoredDataset, transformed
from mpc_appraisal.methods import Facts, GradientNorm, Influence, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import (
    Best,
    Bit,
    NoisedRelease,
)

# ---- labels that the model has no class for


def beyond(rows: int = 120, seed: int = 5, most: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Rows, some of them long, of which every third has a label from 3 to `most`."""
    x, y = problem(rows, seed=seed)
    far = np.random.default_rng(seed).integers(CLASSES, most + 1, rows)
    return 1.5 * x, np.where(np.arange(rows) % 3 == 0, far, y)


def ordinary(data: Dataset) -> Dataset:
    """What release=dp makes of them, written anew."""
    norm = math.sqrt(R**2 - 1)
    return Dataset(
        data.x * (norm / data.x.norm(dim=1, keepdim=True)).clamp(max=1.0),
        torch.where(data.y > CLASSES - 1, CLASSES - 1, data.y),
        CLASSES,
        data.name,
    )


@pytest.fixture
def stored(tmp_path) -> StoredDataset:
    return StoredDataset(write_npz(tmp_path / "seller.npz", *beyond()), "label", None, "seller")


def test_labels_beyond_the_classes_become_the_last_class(stored):
    held = Dataset.of(*beyond(), None, "seller")
    assert held.classes == stored.classes == 10
    for data in (held, stored):
        changed = transformed(data, lambda x: 2 * x, CLASSES)
        assert (changed.rows, changed.features, changed.classes, changed.name) == (120, 4, CLASSES, "seller")
        assert changed.with_classes(CLASSES).classes == CLASSES and changed.renamed("a").classes == CLASSES
        for size in (1000, 50, 1):
            blocks = list(changed.blocks(size))
            assert sum(block.rows for block in blocks) == 120 and {block.classes for block in blocks} == {CLASSES}
            assert torch.equal(torch.cat([block.y for block in blocks]), held.y.clamp(max=2))
            assert torch.equal(torch.cat([block.x for block in blocks]), 2 * held.x)
        assert data.classes == 10 and max(int(block.y.max()) for block in data.blocks(50)) == 9  # not changed itself


@pytest.mark.parametrize("kind", ["held", "stored"])
def test_only_without_noise_are_they_refused(stored, kind):
    data = stored if kind == "stored" else Dataset.of(*beyond(), None, "seller")
    facts = {"seller": Facts(4, CLASSES, 60, 40, data.rows, L2)}
    for release in (VALUE, Bit(), Best()):
        plan = replace(Deal(Path(), release).plan(), release=release)
        with pytest.raises(InputError) as error:
            own = preparation.transformed(DataOwnerInput((data,)), plan, {"seller": CLASSES})
            preparation.check_candidates(own, facts)
        assert str(error.value).startswith("party.data (seller): got a label 9; expected labels from 0 to 2")
        assert error.value.public == "bad input in party.data (seller)"
    plan = Deal(Path(), NOISED).plan()
    own = preparation.transformed(DataOwnerInput((data,)), plan, {"seller": CLASSES})
    preparation.check_candidates(own, facts)
    expected = ordinary(Dataset.of(*beyond(), None, "seller"))
    (whole,) = own.candidates[0].blocks(1000)
    assert torch.equal(whole.y, expected.y) and torch.allclose(whole.x, expected.x, atol=1e-4)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """One launch: the same rows with labels within and beyond the classes, in memory and in a file."""
    folder = tmp_path_factory.mktemp("labelled")
    held = Dataset.of(*beyond(), None, "seller")
    in_file = StoredDataset(write_npz(folder / "seller.npz", *beyond()), "label", None, "seller")
    release, buyer = NoisedRelease(sigma=1e-4, row_norm=R), ModelOwnerInput(TRAIN, TEST)
    methods = (GradientNorm(), Influence())
    sets = {"within": replace(held, y=held.y.clamp(max=2), classes=CLASSES), "held": held, "stored": in_file}
    return launched({key: Asked(release, methods, None, (data,), buyer, L2) for key, data in sets.items()})


@pytest.mark.parametrize("key", ["held", "stored"])
def test_with_noise_labels_beyond_the_classes_abort_nothing_and_tell_nothing(labelled, key):
    clear, model = ordinary(Dataset.of(*beyond(), None, "seller")), fit(TRAIN, L2)
    for role in OWNERS:
        for method in (GradientNorm(), Influence()):
            record, other = (labelled[each][role][method.name, "seller"] for each in (key, "within"))
            value, _ = plaintext(method, model, TRAIN, TEST, clear)
            four = record.release["high"] - record.release["low"]  # deviations of the noise
            assert abs(record.value - value) < 2 * four + 1e-3 * abs(value) + 2e-4
            assert abs(value) > 10 * four
            assert record.request["digest"] == other.request["digest"]
            assert record.classes == CLASSES
