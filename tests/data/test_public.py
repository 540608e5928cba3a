"""Public data sets: what is read equals the published bytes, and damaged or missing files are errors by name."""

import gzip
import os
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import (
    ENVIRONMENT,
    Cifar10,
    Digits,
    Mnist,
)

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get(ENVIRONMENT) or REPOSITORY.parent / "shared" / "data")
MNIST_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def real(name):
    """The folder of real data with `name`, or a skip."""
    if not (REAL / name).is_dir():
        pytest.skip(f"no folder {name} under {REAL}: set {ENVIRONMENT} to a folder with mnist/ and cifar10/")
    return REAL / name


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def test_digits_is_a_fixed_permutation_of_the_whole():
    from sklearn.datasets import load_digits

    state = np.random.get_state()[1].copy()
    train, test = Digits().load()
    again, _ = Digits(train_size=10).load()
    assert (np.random.get_state()[1] == state).all()
    assert (train.rows, test.rows, train.features, train.classes) == (1297, 500, 64, 10)
    assert torch.equal(train.x, again.x) and train.x.dtype == torch.float64
    x, y = load_digits(return_X_y=True)
    joined = np.column_stack([np.vstack([train.x, test.x]) * 16, np.concatenate([train.y, test.y])])
    assert sorted(map(tuple, joined)) == sorted(map(tuple, np.column_stack([x, y])))
    assert torch.bincount(test.y, minlength=10).min() > 30


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path):
    """Four IDX files of random bytes, and the arrays in them."""
    generator = np.random.default_rng(1)
    arrays = {}
    for part, n in (("train", 30), ("t10k", 12)):
        arrays[f"{part}-images-idx3-ubyte"] = generator.integers(0, 256, (n, 5, 4), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = generator.integers(0, 10, n, dtype=np.uint8)
    root = tmp_path / "root"
    root.mkdir()
    for stem, array in arrays.items():
        (root / stem).write_bytes(idx(array))
    return root, arrays


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["argument", "argument/mnist", "environment", "environment/mnist"])
def test_mnist_from_idx_files(small_mnist, tmp_path, monkeypatch, packed, place):
    root, arrays = small_mnist
    if packed:
        for file in list(root.iterdir()):
            (root / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    if place.endswith("/mnist"):
        root = root.rename(tmp_path / "mnist").parent
    if place.startswith("environment"):
        monkeypatch.setenv(ENVIRONMENT, str(root))
    train, test = Mnist(None if place.startswith("environment") else str(root)).load()
    for data, part in ((train, "train"), (test, "t10k")):
        images = arrays[f"{part}-images-idx3-ubyte"]
        assert data.x.dtype == torch.float32 and data.classes == 10
        assert np.array_equal(data.x.numpy(), images.reshape(len(images), 20).astype(np.float32) / np.float32(255))
        assert data.y.tolist() == arrays[f"{part}-labels-idx1-ubyte"].tolist()


@pytest.mark.parametrize("stem", MNIST_STEMS)
def test_damaged_idx_files(small_mnist, stem):
    root, _ = small_mnist
    whole = (root / stem).read_bytes()
    packed = gzip.compress(whole)
    flipped = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]  # the checksum at the end no longer fits
    for damaged, expected in (
        (whole[:-1], "truncated"),
        (whole + b"\0", "bytes for the shape"),
        (b"", "beginning"),
        (whole[:6], "beginning"),
        (b"\0\0\x09" + whole[3:], "beginning"),
        (packed[:-9], "truncated"),
        (flipped, "readable IDX"),
    ):
        (root / stem).write_bytes(damaged)
        with pytest.raises(InputError, match=expected) as error:
            Mnist(str(root)).load()
        assert error.value.name == "root" and stem in str(error.value)
    (root / stem).unlink()
    with pytest.raises(InputError, match=f"IDX file {stem}") as error:
        Mnist(str(root)).load()
    assert error.value.name == "root"


def test_mnist_labels_and_images_must_fit(small_mnist):
    root, arrays = small_mnist
    (root / MNIST_STEMS[1]).write_bytes(idx(arrays[MNIST_STEMS[1]][:-1]))
    with pytest.raises(InputError, match="as many labels as rows"):
        Mnist(str(root)).load()
    (root / MNIST_STEMS[1]).write_bytes(idx(np.full(30, 10, np.uint8)))
    with pytest.raises(InputError, match="labels 0 .. 9"):
        Mnist(str(root)).load()


@pytest.fixture
def small_cifar(tmp_path):
    """The six .bin files of 6 random records each, and the records."""
    generator = np.random.default_rng(2)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records = {}
    for file in BATCHES:
        records[file] = generator.integers(0, 256, (6, 3073), dtype=np.uint8)
        records[file][:, 0] = [0, 3, 1, 1, 9, 0]
        (folder / file).write_bytes(records[file].tobytes())
    return folder, records


def pack(folder, path, mode):
    with tarfile.open(path, mode) as archive:
        archive.add(folder, arcname=folder.name)


@pytest.mark.parametrize("form", ["folder", "parent", "tar.gz", "tar", "archive as root", "environment"])
def test_cifar10_in_every_form(small_cifar, tmp_path, monkeypatch, form):
    folder, records = small_cifar
    root = {"folder": folder, "parent": tmp_path}.get(form)
    if root is None:
        root = tmp_path / "root" / "cifar10" if form == "environment" else tmp_path / "root"
        root.mkdir(parents=True)
        plain = form == "tar"
        archive = root / ("cifar-10-binary.tar" if plain else "cifar-10-binary.tar.gz")
        pack(folder, archive, "w" if plain else "w:gz")
        shutil.rmtree(folder)
        root = archive if form == "archive as root" else root
    if form == "environment":
        monkeypatch.setenv(ENVIRONMENT, str(root.parent))
        root = None
    train, test = Cifar10(root and str(root), labels=(9, 0)).load()
    for data, files in ((train, BATCHES[:5]), (test, BATCHES[5:])):
        rows = np.vstack([records[file] for file in files])
        rows = rows[(rows[:, 0] == 9) | (rows[:, 0] == 0)]
        assert data.y.tolist() == [0 if label == 9 else 1 for label in rows[:, 0]]
        assert data.classes == 2 and data.x.dtype == torch.float32
        assert np.array_equal(data.x.numpy(), rows[:, 1:].astype(np.float32) / np.float32(255))


def test_damaged_cifar10(small_cifar, tmp_path):
    folder, _ = small_cifar
    with pytest.raises(InputError, match=r"\[5\], of which .* no image") as error:
        Cifar10(str(folder), labels=(0, 5)).load()
    assert error.value.name == "labels"
    archive = tmp_path / "cifar-10-binary.tar.gz"
    pack(folder, archive, "w:gz")
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(InputError, match="truncated"):
        Cifar10(str(archive)).load()
    file = folder / "data_batch_3.bin"
    whole = file.read_bytes()
    for damaged, expected in (
        (whole[:-1], "truncated"),
        (b"", "whole records"),
        (b"\x0a" + whole[1:], "labels 0 .. 9"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=expected):
            Cifar10(str(folder)).load()
    file.unlink()
    pack(folder, archive, "w:gz")
    for root in (folder, archive):
        with pytest.raises(InputError, match="without data_batch_3.bin"):
            Cifar10(str(root)).load()


@pytest.mark.parametrize("labels", [(0,), (1, 1), (0, 10), (0, -1)])
def test_bad_cifar10_labels(labels):
    with pytest.raises(InputError, match="^labels"):
        Cifar10(labels=labels)


@pytest.mark.parametrize("source", [Mnist, Cifar10])
def test_missing_roots(tmp_path, monkeypatch, source):
    with pytest.raises(InputError, match=f"^root: got {tmp_path}/none"):
        source(str(tmp_path / "none")).load()
    with pytest.raises(InputError, match=f"^root.*{ENVIRONMENT}"):
        source(str(tmp_path)).load()
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none"))
    with pytest.raises(InputError, match=ENVIRONMENT):
        source().load()


@pytest.mark.parametrize("source", [Mnist, Cifar10])
def test_offline_without_a_root_names_the_key_and_the_variable(monkeypatch, source):
    import pooch

    def offline(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(InputError, match="no route to host") as error:
        source().load()
    assert error.value.name == "root"
    assert "state it" in error.value.expected and ENVIRONMENT in error.value.expected


def test_downloads_go_to_the_cache_with_a_checksum(monkeypatch, small_mnist, small_cifar, tmp_path):
    import pooch

    root, _ = small_mnist
    archive = tmp_path / "cifar-10-binary.tar.gz"
    pack(small_cifar[0], archive, "w:gz")
    asked = []

    def retrieve(url, known_hash, fname, path, downloader):
        asked.append((url, known_hash, Path(path)))
        return str(archive if "cifar" in url else root / fname.removesuffix(".gz"))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert Mnist().load()[0].rows == 30 and Cifar10().load()[1].rows == 4
    assert len(asked) == 5
    for url, known_hash, path in asked:
        assert url.startswith("https://") and known_hash.startswith("sha256:") and len(known_hash) == 7 + 64
        assert path.is_relative_to(pooch.os_cache("mpc-appraisal"))
    assert len({known_hash for _, known_hash, _ in asked}) == 5


# the pixels of the first image and counts of labels, computed with nothing but gzip and tarfile


def test_real_mnist():
    root = real("mnist")
    train, test = Mnist(str(root)).load()
    assert (train.rows, test.rows, train.features, train.classes) == (60_000, 10_000, 784, 10)
    raw = gzip.decompress((root / "train-images-idx3-ubyte.gz").read_bytes())
    assert (train.x[0] * 255).round().int().tolist() == list(raw[16 : 16 + 784])
    assert (train.x[-1] * 255).round().int().tolist() == list(raw[-784:])
    assert torch.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_real_cifar10():
    root = real("cifar10")
    train, test = Cifar10(str(root)).load()
    swapped, _ = Cifar10(str(root), labels=(1, 0)).load()
    assert torch.bincount(train.y).tolist() == [5000, 5000] and torch.bincount(test.y).tolist() == [1000, 1000]
    assert train.features == 3072 and train.x.max() == 1 and train.x.min() == 0
    assert torch.equal(swapped.y, 1 - train.y) and torch.equal(swapped.x, train.x)
    archive = root / "cifar-10-binary.tar.gz"
    if archive.is_file():
        with tarfile.open(archive) as packed:
            raw = packed.extractfile("cifar-10-batches-bin/test_batch.bin").read()
        kept = [raw[i : i + 3073] for i in range(0, len(raw), 3073) if raw[i] < 2]
        assert test.y.tolist() == [record[0] for record in kept]
        assert (test.x[7] * 255).round().int().tolist() == list(kept[7][1:])


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf" / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_makes_a_source(path):
    stated = OmegaConf.load(path)
    stated.pop("defaults", None)  # Hydra's, which chooses another scenario and model
    source = instantiate(stated)
    numeric = path.stem == "diabetes"
    assert source.name == path.stem and source.train_size
    assert source.classes == 1 if numeric else source.classes >= 2
