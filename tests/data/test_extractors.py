"""Public features: the same bits everywhere, against loops in numpy, on stored data, and under the protocol."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mpc_appraisal import appraise
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import (
    ConvRandom,
    Dataset,
    Digits,
    Layers,
    NoFeatures,
    RandomRelu,
    StoredDataset,
    files,
    mapped,
    open_dataset,
    read_dataset,
    standardise,
    transformed,
)
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence

CONF = Path(__file__).parents[2] / "conf" / "features"


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(seed: int, *shape: int) -> np.ndarray:
    """By the text of the docstring: ones among the 64 bits of each number of PCG64."""
    raw = np.random.PCG64(seed).random_raw(math.prod(shape))
    return np.array([(bin(int(number)).count("1") - 32) / 4 for number in raw]).reshape(shape)


def layers(path: Path, *widths: int, **more) -> Path:
    generator, arrays = np.random.default_rng(1), {}
    for k, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        arrays |= {f"w{k}": generator.normal(size=(a, b)), f"b{k}": generator.normal(size=b).astype(np.float32)}
    np.savez(path, **(arrays | more))
    return path


# ---- the functions


def test_random_relu_is_its_formula():
    x, w = rows(5, 7), weights(3, 8, 6)
    theirs = np.maximum(x.numpy() @ w[:7] + w[7], 0) / math.sqrt(6)
    ours = RandomRelu(6, 3)(x)
    assert ours.dtype == torch.float64 and ours.numpy() == pytest.approx(theirs, abs=1e-14)


@pytest.mark.parametrize(("channels", "side", "size", "grid"), [(1, 8, 3, 3), (3, 6, 2, 5), (2, 5, 5, 1)])
def test_conv_random_is_its_formula(channels, side, size, grid):
    extractor = ConvRandom(4, size, grid, channels, seed=2)
    x, w = rows(2, channels * side**2), weights(2, 4, channels, size, size)
    out = side - size + 1
    assert out % grid == 0
    step, theirs = out // grid, np.zeros((2, 4, grid, grid))
    for n, image in enumerate(x.numpy().reshape(2, channels, side, side)):
        for f in range(4):
            for i in range(out):
                for j in range(out):
                    found = max(0.0, (image[:, i : i + size, j : j + size] * w[f]).sum() / (size * math.sqrt(channels)))
                    theirs[n, f, i // step, j // step] += found / step**2 * step / math.sqrt(4)
    assert extractor.outputs(channels * side**2) == 4 * grid**2
    assert extractor(x).numpy() == pytest.approx(theirs.reshape(2, -1), abs=1e-13)
    assert torch.allclose(extractor(3 * x), 3 * extractor(x), rtol=1e-12)


@pytest.mark.parametrize("last", [True, False])
def test_layers_are_their_formula(tmp_path, last):
    path = layers(tmp_path / "body.npz", 4, 6, 3)
    found, x = np.load(path), rows(5, 4)
    hidden = np.maximum(x.numpy() @ found["w0"] + found["b0"], 0)
    theirs = hidden @ found["w1"] + found["b1"]
    theirs = np.maximum(theirs, 0) if last else theirs
    assert Layers(str(path), last)(x).numpy() == pytest.approx(theirs, abs=1e-13)
    assert (theirs < 0).any() != last


def test_features_keep_the_size_of_rows():
    train, _ = Digits().load()
    for extractor, low, high in ((RandomRelu(256), 0.6, 0.8), (ConvRandom(32, 3, 3), 0.3, 1.5)):
        ratio = extractor(train.x).norm() / train.x.norm()
        assert low < ratio < high


def test_blocks_and_narrow_floats_do_not_matter():
    x = rows(700, 64)
    for extractor in (RandomRelu(8), ConvRandom(2, 3, 2)):
        one_by_one = torch.cat([extractor(row[None]) for row in x])
        assert torch.allclose(extractor(x), one_by_one, rtol=0, atol=1e-13)  # 2^-16 is 1.5e-5
        assert torch.allclose(extractor(x.float()), extractor(x), atol=1e-5)
        assert extractor(x[:0]).shape == (0, extractor.outputs(64))


# ---- the same bits on both sides


def test_random_numbers_are_frozen():
    # The first raw numbers of PCG64 from seed 0, which numpy promises to keep (NEP 19), made into multiples of 1/4.
    found = RandomRelu(4, 0)(torch.eye(3, dtype=torch.float64)[:1])
    w = weights(0, 4, 4)
    assert found[0].tolist() == [max(0.0, a + b) / 2 for a, b in zip(w[0], w[3], strict=True)]
    assert hashlib.sha256(weights(0, 100).tobytes()).hexdigest().startswith("e6255ee6150cba6f")
    many = weights(1, 40, 100)
    assert abs(many.mean()) < 4 / math.sqrt(4000) and abs(many.var() - 1) < 4 * math.sqrt(2 / 4000)


def test_digests_tell_extractors_apart(tmp_path):
    a, b = layers(tmp_path / "a.npz", 4, 6, 3), layers(tmp_path / "b.npz", 4, 6, 3, b1=np.zeros(3))
    (tmp_path / "elsewhere").mkdir()
    same = layers(tmp_path / "elsewhere" / "c.npz", 4, 6, 3)
    different = [
        NoFeatures(),
        RandomRelu(4),
        RandomRelu(4, 1),
        RandomRelu(5),
        ConvRandom(),
        ConvRandom(grid=3),
        ConvRandom(seed=1),
        ConvRandom(filters=25, size=1, channels=32),
        Layers(str(a)),
        Layers(str(a), False),
        Layers(str(b)),
    ]
    digests = [extractor.digest for extractor in different]
    assert len(set(digests)) == len(digests) and all(len(d) == 64 for d in digests)
    assert Layers(str(same)).digest == Layers(str(a)).digest and RandomRelu(4).digest == RandomRelu(4).digest
    assert Layers(str(a), sha256=Layers(str(a)).digest).outputs(4) == 3
    with pytest.raises(InputError, match="^sha256: "):
        Layers(str(b), sha256=Layers(str(a)).digest)
    assert (
        RandomRelu(8).digest == "de4859be3fad49fd2be48f16d6e2c29e4b6f1707fa1557bff9ad37a3b6473dd0"
    )  # whatever numpy, whatever processor


# ---- data sets


def test_mapped_keeps_labels_name_and_classes():
    data = Dataset(rows(5, 4), torch.tensor([0, 1, 2, 1, 0]), 5, "mine")
    found = mapped(data, RandomRelu(3))
    assert torch.equal(found.x, RandomRelu(3)(data.x)) and torch.equal(found.y, data.y)
    assert (found.classes, found.name, found.features) == (5, "mine", 3)
    assert mapped(data, NoFeatures()) is data
    with pytest.raises(InputError, match="NaN or infinite"):
        mapped(Dataset(rows(2, 4) * 1e308, data.y[:2], 3, "huge"), RandomRelu(3))


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_stored_data_set_is_mapped_as_it_is_read(tmp_path, monkeypatch, suffix):
    x, y = rows(40, 4).numpy(), np.arange(40) % 3
    path = tmp_path / f"d{suffix}"
    if suffix == ".npz":
        np.savez(path, x=x, y=y)
    else:
        import pandas as pd

        pd.DataFrame(x, columns=list("abcd")).assign(label=y).to_parquet(path)
    monkeypatch.setattr(files, "STORED_BYTES", 0)
    stored, whole = open_dataset(path), read_dataset(path)
    assert isinstance(stored, StoredDataset)
    extractor = RandomRelu(6)
    found, expected = mapped(stored, extractor), mapped(whole, extractor)

    def same(found, expected) -> None:
        blocks = list(found.blocks(7))
        assert [b.rows for b in blocks] == [7] * 5 + [5]
        assert torch.allclose(torch.cat([b.x for b in blocks]), expected.x, rtol=0, atol=1e-13)
        assert torch.equal(torch.cat([b.y for b in blocks]), expected.y)
        assert {b.classes for b in blocks} == {expected.classes} and found.classes == expected.classes
        assert (found.rows, found.features) == (expected.rows, expected.features)

    same(found, expected)
    same(found.renamed("other").with_classes(5), expected.with_classes(5))
    assert found.renamed("other").name == "other" and stored.features == 4
    # Before the extractor and after it, in the order in which it was said; clipping must not undo the features.
    same(mapped(standardise(stored, 1.0, 2.0), extractor), mapped(standardise(whole, 1.0, 2.0), extractor))
    same(standardise(found, 1.0, 2.0), standardise(expected, 1.0, 2.0))
    same(transformed(found, lambda rows: rows / 2, 2), transformed(expected, lambda rows: rows / 2, 2))
    same(mapped(found, RandomRelu(3, 1)), mapped(expected, RandomRelu(3, 1)))


# ---- what is refused


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: RandomRelu(0), "width"),
        (lambda: RandomRelu(8.0), "width"),
        (lambda: RandomRelu(8, -1), "seed"),
        (lambda: ConvRandom(grid=0), "grid"),
        (lambda: ConvRandom(channels=True), "channels"),
    ],
)
def test_bad_settings_are_named(make, key):
    with pytest.raises(InputError, match=f"^{key}:"):
        make()


@pytest.mark.parametrize(("channels", "features"), [(1, 63), (3, 64), (1, 36), (3, 192 + 3)])
def test_rows_that_are_no_such_images_are_refused(channels, features):
    with pytest.raises(InputError, match=f"^features: got {features} features a row; expected rows of {channels}"):
        ConvRandom(2, 4, 4, channels)(rows(2, features))


@pytest.mark.parametrize(
    "more",
    [
        {"w1": np.zeros((5, 3))},
        {"b0": np.zeros(5)},
        {"b0": np.zeros((6, 1))},
        {"w1": np.full((6, 3), np.nan)},
        {"w1": np.array([["a"] * 3] * 6)},
        {"w1": np.zeros((6, 3), complex)},
        {"w0": np.zeros((0, 6))},
        {"w3": np.zeros((3, 3)), "b3": np.zeros(3)},
        {"theta": np.zeros(3)},
        {"w1": np.array([[None] * 3] * 6, dtype=object)},
    ],
)
def test_bad_files_are_refused(tmp_path, more):
    with pytest.raises(InputError, match="^path: .*expected a .npz file of arrays w0"):
        Layers(str(layers(tmp_path / "bad.npz", 4, 6, 3, **more)))


def test_no_file_and_rows_of_another_width_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("not a zip archive")
    for name in ("absent.npz", "text.npz"):
        with pytest.raises(InputError, match="^path:"):
            Layers(str(tmp_path / name))
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(InputError, match="^path:"):
        Layers(str(tmp_path / "empty.npz"))
    with pytest.raises(InputError, match="^features: got 5 features a row; expected 4"):
        Layers(str(layers(tmp_path / "body.npz", 4, 3)))(rows(2, 5))
    with pytest.raises(InputError, match="^last_relu:"):
        Layers(str(tmp_path / "body.npz"), "yes")


# ---- the configuration, and the last layer under the protocol


def test_a_config_for_every_extractor(tmp_path):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    path = str(layers(tmp_path / "body.npz", 4, 3))
    expected = {"none": NoFeatures(), "random_relu": RandomRelu(), "conv_random": ConvRandom(), "file": Layers(path)}
    assert {p.stem for p in CONF.glob("*.yaml")} == set(expected)
    for name, extractor in expected.items():
        config = OmegaConf.load(CONF / f"{name}.yaml")
        assert instantiate(OmegaConf.merge(config, {"path": path} if name == "file" else {})) == extractor


MARKET = LabelNoise(train_size=80, candidates=2, size=40, test_size=60).build(*Digits().load(), 0)
METHODS = [GradientNorm(), Influence(), Finetuning(steps=1)]


@pytest.mark.parametrize("extractor", [RandomRelu(24), ConvRandom(4, 3, 2)], ids=["random_relu", "conv_random"])
def test_the_last_layer_is_appraised_in_private_as_in_plaintext(extractor):
    result = appraise(
        {c.name: mapped(c.data, extractor) for c in MARKET.candidates},
        train=mapped(MARKET.train, extractor),
        test=mapped(MARKET.test, extractor),
        method=METHODS,
        session="spawn",
    )
    assert len(result) == 6
    for record in result:
        assert record.features == extractor.outputs(64)
        assert abs(record.difference) <= 2e-3 * abs(record.plaintext_value) + 1e-4
