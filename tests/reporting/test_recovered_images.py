"""The picture of recovered images: which are beside which, of whose data it is, and that records hold no pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mpc_appraisal.attacks.instahide.challenge import beside
from mpc_appraisal.attacks.measures.base import Finding
from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.learning import learn
from mpc_appraisal.data import Digits
from mpc_appraisal.reporting.learning_report import write_learning
from mpc_appraisal.reporting.recovered_images import MOST, RecoveredImages, drawable, recovered_figure

WORDS = ["data=digits", "protocol=instahide", "protocol.rows=60", "protocol.epochs=2", "protocol.count=2",
         "session=plain", "attack=seed_search", "attack.images=10", "attack.searched=1024"]  # fmt: skip


def test_what_was_recovered_stands_beside_its_own_private_image():
    private = torch.randn(12, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    own, found = beside(-private[order], private)  # up to the signs of pixels
    assert torch.equal(own, private) and torch.equal(found, -private)
    own, found = beside(private[[5, 2]], private)
    assert torch.equal(own, private[[2, 5]]) and torch.equal(found, own)


def test_a_finding_states_no_image():
    images = RecoveredImages("search", np.ones((1, 4)), np.ones((1, 4)), signed=True)
    assert "images" not in Finding("a", "b", 1.0, 0.0, "c", "d", images=images).as_dict()


@pytest.mark.parametrize(("pixels", "shape"), [(64, (8, 8)), (3072, (3, 32, 32)), (60, None)])
def test_squares_in_grey_and_in_three_colours_are_drawn(pixels, shape):
    assert drawable(pixels) == shape
    x = np.random.default_rng(0).normal(size=(MOST + 3, pixels))
    figure = recovered_figure([RecoveredImages("recovery", x, np.abs(x), signed=False)])
    if shape is None:
        assert figure is None
        return
    drawn = [axis for axis in figure.axes if axis.images]
    assert len(drawn) == 3 * MOST  # private, without signs, and recovered
    assert [axis.get_ylabel() for axis in drawn[::MOST]] == ["private", "without signs", "recovered by\nrecovery"]
    first, last = (np.asarray(axis.images[0].get_array()) for axis in (drawn[MOST], drawn[2 * MOST]))
    assert np.array_equal(first, last) and recovered_figure([]) is None


def test_the_page_of_a_built_in_data_set_has_the_picture_and_that_of_own_files_has_none(tmp_path):
    seen: list[RecoveredImages] = []
    record = learn(compose(WORDS), lambda event: None, seen.append)
    (images,) = seen
    assert record["attacks"][0]["recovered"] == 1.0 and np.allclose(images.private, images.recovered, atol=1e-2)
    write_learning(record, tmp_path, seen)
    text, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "recovered.png" in text.split("## Attacks")[1] and page.count("<img") == 2
    assert str(float(images.private[0, 0]))[:8] not in json.dumps(dict(record.facts))
    train, test = Digits().load()
    for name, part in (("train", train), ("test", test)):
        np.savez(tmp_path / f"{name}.npz", x=part.x.numpy(), y=part.y.numpy())
    files = [f"party.{name}={tmp_path / name}.npz" for name in ("train", "test")]
    own = learn(compose([*WORDS, *files]), lambda event: None, seen.append)
    assert own["attacks"][0]["recovered"] == 1.0 and len(seen) == 1
