"""Data: what is read equals what was written, byte for byte, and each bad input is an InputError that says what."""

import gzip
import io
import os
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import (
    ENVIRONMENT,
    Cifar10,
    Dataset,
    Digits,
    Mnist,
    read_dataset,
    standardise,
    with_bias,
)
from mpc_appraisal.data import tables as loaders

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


# --- Dataset ---------------------------------------------------------------------------------------------------------


def test_of_takes_anything_array_like_and_copies():
    x, y = np.arange(12.0).reshape(3, 4), np.array([0, 2, 1])
    forms = [
        (x, y),
        (x.tolist(), y.tolist()),
        (pd.DataFrame(x), pd.Series(y)),
        (torch.tensor(x), torch.tensor(y)),
        (x.astype(np.int32), y.astype(np.float64)),
        (x.astype(">f8"), y.astype(np.uint8)),
        (x[::-1][::-1], y),
        (x.reshape(3, 2, 2), y),
        (x.astype(object), y.astype(object)),
    ]
    for a, b in forms:
        data = Dataset.of(a, b)
        assert data.x.dtype == torch.float64 and data.y.dtype == torch.int64 and data.classes == 3
        assert data.x.tolist() == x.tolist() and data.y.tolist() == [0, 2, 1]
        assert (data.rows, data.features) == (3, 4)
    data = Dataset.of(x, y)
    x[0, 0] = 99
    assert data.x[0, 0] == 0
    assert Dataset.of(np.ones((2, 3), np.float32), [0, 0]).x.dtype == torch.float32
    assert Dataset.of([[1.0]], [0]).classes == 2
    assert Dataset.of([[1.0]], [0], classes=5).classes == 5


def test_subset_one_hot_renamed_and_bias():
    data = Dataset.of(np.arange(6.0).reshape(3, 2), [2, 0, 1], name="a")
    part = data.subset([2, 0])
    assert part.x.tolist() == [[4, 5], [0, 1]] and part.y.tolist() == [1, 2] and (part.classes, part.name) == (3, "a")
    assert data.subset(np.array([1])).x.tolist() == [[2, 3]]
    assert data.one_hot().dtype == torch.float64
    assert data.one_hot().tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert data.renamed("b").name == "b" and data.name == "a"
    assert with_bias(data.x).tolist() == [[0, 1, 1], [2, 3, 1], [4, 5, 1]]
    assert with_bias(data.x.float()).dtype == torch.float32
    with pytest.raises(AttributeError):
        data.name = "c"


BAD = {
    "x of one dimension": (([1.0, 2.0], [0, 1]), "two dimensions"),
    "no rows": ((np.zeros((0, 3)), []), "one row or more"),
    "no features": ((np.zeros((2, 0)), [0, 1]), "one feature or more"),
    "rows differ": (([[1.0], [2.0]], [0]), "as many labels as rows"),
    "labels in a column": (([[1.0], [2.0]], [[0], [1]]), "one label a row"),
    "label below range": (([[1.0], [2.0]], [0, -1]), "labels 0 .. 1"),
    "label not integer": (([[1.0], [2.0]], [0, 0.5]), "integer labels"),
    "label NaN": (([[1.0], [2.0]], [0, np.nan]), "integer labels"),
    "label beyond int64": (([[1.0], [2.0]], np.array([0, 2**64 - 1], np.uint64), 2), "labels 0 .. 1"),
    "NaN": (([[1.0], [np.nan]], [0, 1]), "finite numbers"),
    "infinity": (([[-np.inf], [1.0]], [0, 1]), "finite numbers"),
    "text": (([["a"], ["b"]], [0, 1]), "real numbers"),
    "text labels": (([[1.0], [2.0]], ["a", "b"]), "real numbers"),
    "complex": (([[1j], [2.0]], [0, 1]), "real numbers"),
    "ragged": (([[1.0], [2.0, 3.0]], [0, 1]), "rows of equal length"),
    "label no class count can hold": (([[1.0], [2.0]], [0, 2**63 - 1]), "below"),
    "one class": (([[1.0]], [0], 1), "2 or more"),
    "classes not an integer": (([[1.0]], [0], 2.5), "2 or more"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case):
    arguments, expected = BAD[case]
    with pytest.raises(InputError, match=expected) as error:
        Dataset.of(*arguments, name="mine")
    assert error.value.name.startswith("mine")


def test_errors_count_and_locate_and_keep_values_private():
    x = np.ones((5, 3))
    x[2, 1], x[2, 2], x[4, 0] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError) as error:
        Dataset.of(x, np.zeros(5))
    assert error.value.value == "3 values of x that are NaN or infinite, the first in row 2"
    with pytest.raises(InputError) as error:
        Dataset.of(np.ones((3, 1)), [0, 77, 78], classes=10)
    assert error.value.value == "2 labels out of range, the first is 77 in row 1"
    assert "77" not in error.value.public


def test_the_constructor_is_strict():
    x, y = torch.ones(2, 1), torch.tensor([0, 1])
    for bad in ((x.to(torch.int32), y), (x.half(), y), (x, y.float()), (x.reshape(2, 1, 1), y)):
        with pytest.raises(InputError):
            Dataset(*bad, classes=2)


def test_standardise():
    data = Dataset.of([[1.0, 10.0], [3.0, 30.0]], [0, 1])
    assert standardise(data, 1, 2).x.tolist() == [[0, 4.5], [1, 14.5]]
    assert standardise(data, [2, 20], [1, 10]).x.tolist() == [[-1, -1], [1, 1]]
    assert standardise(data, OmegaConf.create([2, 20]), OmegaConf.create([1, 10])).x.tolist() == [[-1, -1], [1, 1]]
    for mean, scale in ((1, 0), ([1, 2], [1, 0]), (np.nan, 1), ([1, 2, 3], 1), (0, "wide"), (0, np.inf)):
        with pytest.raises(InputError):
            standardise(data, mean, scale)


# --- a party's files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet", "CSV"])
def test_reads_what_was_written(tmp_path, suffix):
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((20, 3)), generator.integers(0, 4, 20)
    path = tmp_path / f"party.{suffix}"
    if suffix == "npz":
        np.savez(path, x=x, y=y)
        data = read_dataset(path, classes=6)
    else:
        table = pd.DataFrame(x, columns=["a", "b", "c"])
        table.insert(1, "kind", y)
        table.to_parquet(path) if suffix == "parquet" else table.to_csv(path, index=False)
        data = read_dataset(str(path), label="kind", classes=6)
    assert data.x.dtype == torch.float64 and data.classes == 6 and data.name == "party.data"
    np.testing.assert_allclose(data.x.numpy(), x, rtol=1e-15)
    assert data.y.tolist() == y.tolist()


def test_npz_images_are_flattened_and_float32_widened(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", x=x, y=[1, 0])
    data = read_dataset(tmp_path / "a.npz")
    assert data.x.dtype == torch.float64 and data.x.tolist() == x.reshape(2, 12).tolist()


def test_parquet_with_nullable_columns(tmp_path):
    table = pd.DataFrame({"a": pd.array([1, 2], "Int64"), "label": pd.array([0, 1], "Int64")})
    table.to_parquet(tmp_path / "a.parquet")
    assert read_dataset(tmp_path / "a.parquet").x.tolist() == [[1], [2]]
    table.loc[1, "a"] = pd.NA
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="1 values of x that are NaN or infinite, the first in row 1"):
        read_dataset(tmp_path / "a.parquet")


TEXT = {
    "no label column": ("a,b\n1,2\n", "one label column named 'label'"),
    "two label columns": ("label,a,label\n0,2,0\n", "one label column"),
    "header alone": ("a,label\n", "one row or more"),
    "empty": ("", "one row or more"),
    "text column": ("a,b,label\n1,x,0\n2,y,1\n", "numeric columns only"),
    "text labels": ("a,label\n1,cat\n2,dog\n", "numeric columns only"),
    "a value missing": ("a,label\n1,0\n,1\n", "finite numbers"),
    "an infinity": ("a,label\n1,0\n1e999,1\n", "finite numbers"),
    "a label missing": ("a,label\n1,0\n2,\n", "integer labels"),
    "a label not integer": ("a,label\n1,0\n2,0.5\n", "integer labels"),
    "a label out of range": ("a,label\n1,0\n2,3\n", "labels 0 .. 2"),
    "a row index": (",a,label\n0,1,0\n1,2,1\n", "index=False"),
    "equal names": ("a,a,label\n0,1,0\n1,2,1\n", "different, non-empty name"),
    "long rows": ("a,label\n9,1,0\n9,2,1\n", "a name for every column"),
    "uneven rows": ("a,label\n1,0\n9,2,1\n", "a field for every name"),
    "labels alone": ("label\n0\n1\n", "one feature or more"),
}


@pytest.mark.parametrize("case", TEXT)
def test_bad_csv(tmp_path, case):
    text, expected = TEXT[case]
    (tmp_path / "party.csv").write_text(text)
    with pytest.raises(InputError, match=expected) as error:
        read_dataset(tmp_path / "party.csv", classes=3, name="party.train")
    assert error.value.name.startswith("party.train")
    assert str(tmp_path) not in error.value.public


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_unreadable_files(tmp_path, suffix):
    path = tmp_path / f"party.{suffix}"
    with pytest.raises(InputError, match="an existing file"):
        read_dataset(path)
    path.mkdir()
    with pytest.raises(InputError, match="an existing file"):
        read_dataset(path)
    path.rmdir()
    path.write_bytes(b"\x80\x81\xff\x00\n" * 50)
    with pytest.raises(InputError, match=f"a readable .{suffix} file"):
        read_dataset(path)
    if suffix != "csv":
        whole = io.BytesIO()
        if suffix == "npz":
            np.savez_compressed(whole, x=np.ones((50, 2)), y=np.zeros(50))
        else:
            pd.DataFrame({"a": [1.0] * 50, "label": [0] * 50}).to_parquet(whole)
        path.write_bytes(whole.getvalue()[:-40])
        with pytest.raises(InputError, match=f"a readable .{suffix} file"):
            read_dataset(path)


def test_file_without_permission(tmp_path, monkeypatch):
    """The permission is refused by hand, for the superuser, as whom tests may run, may read every file."""
    path = tmp_path / "party.csv"
    path.write_text("a,label\n1,0\n")
    assert read_dataset(path).rows == 1

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(loaders, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"Permission denied.*a readable .csv file"):
        read_dataset(path)


@pytest.mark.parametrize("file", ["party.txt", "party", "party.csv.gz"])
def test_unknown_suffix(tmp_path, file):
    (tmp_path / file).write_text("a,label\n1,0\n")
    with pytest.raises(InputError, match=".npz, .csv or .parquet"):
        read_dataset(tmp_path / file)


def test_bad_npz(tmp_path):
    path = tmp_path / "a.npz"
    for arrays, expected in (
        ({"x": np.ones((2, 1))}, "arrays named x and y"),
        ({"y": [0]}, "arrays named x and y"),
        ({"x": np.ones(2), "y": [0, 1]}, "two dimensions"),
        ({"x": np.ones((2, 1)), "y": [0]}, "as many labels as rows"),
        ({"x": [["a"], ["b"]], "y": [0, 1]}, "real numbers"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=expected):
            read_dataset(path)


class Trap:
    """Its pickle creates a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_ever_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([[Trap(tmp_path / "sprung")]], dtype=object), y=[0])
    with pytest.raises(InputError, match="a readable .npz file"):
        read_dataset(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


# --- public data sets ------------------------------------------------------------------------------------------------


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
        assert error.value.name == "data.root" and stem in str(error.value)
    (root / stem).unlink()
    with pytest.raises(InputError, match=f"IDX file {stem}") as error:
        Mnist(str(root)).load()
    assert error.value.name == "data.root"


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
    assert error.value.name == "data.labels"
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
    with pytest.raises(InputError, match="data.labels"):
        Cifar10(labels=labels)


@pytest.mark.parametrize("source", [Mnist, Cifar10])
def test_missing_roots(tmp_path, monkeypatch, source):
    with pytest.raises(InputError, match=f"data.root: got {tmp_path}/none"):
        source(str(tmp_path / "none")).load()
    with pytest.raises(InputError, match=f"data.root.*{ENVIRONMENT}"):
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
    assert error.value.name == "data.root"
    assert "data.root" in error.value.expected and ENVIRONMENT in error.value.expected


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
    source = instantiate(OmegaConf.load(path))
    assert source.name == path.stem and source.classes >= 2 and source.train_size
