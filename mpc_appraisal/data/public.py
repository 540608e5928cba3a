"""Three public data sets: digits, MNIST and CIFAR-10. Each source loads a training set and a test set.

A folder, or nothing, goes in, and a pair of `Dataset` comes out. MNIST is read from IDX files (LeCun, Cortes, Burges:
magic number, big-endian sizes, bytes), and CIFAR-10 from its binary version (Krizhevsky 2009: records of one label byte
and 3072 pixel bytes). No reader unpickles anything, and no archive is unpacked to disk.

A new source is a subclass of `DataSource` and an entry in the configuration. The split of the digits, the order of rows
and the scale of pixels have to stay, because published results and seeds rest on them; a download has to be compared
with its SHA-256.
"""

from __future__ import annotations

import gzip
import math
import os
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

import numpy as np

from mpc_appraisal.common.checks import as_list, is_integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.dataset import Dataset

ENVIRONMENT = "MPC_APPRAISAL_DATA"
LABELS = "two or more different labels out of 0 .. 9"
TrainSize = int | float | Sequence[int]


class DataSource(ABC):
    """Load a public data set; every source derives from this class.

    Attributes:
        name: the name of the data set.
        classes: the number of classes.
        train_size: the default size, for scenarios, of the model owner's training set (rows, a fraction, or the rows of
            each class). The loader itself does not use it.
        alike: the two classes that the scenario label_noise swaps by default. The loader does not use them.
    """

    name: str
    classes: int
    train_size: TrainSize
    alike: Sequence[int] = (0, 1)

    @abstractmethod
    def load(self) -> tuple[Dataset, Dataset]:
        """Load (train, test). Raises InputError where files are missing or damaged."""


class Digits(DataSource):
    """Load scikit-learn's 1,797 handwritten digits, 8 x 8, embedded in that package: pixels / 16, ten classes.

    The pixels are float64. The split is fixed. One permutation by numpy's RandomState(0), whose stream is frozen across
    versions, gives 1,297 rows of train and then 500 rows of test. In file order the two would be of different writers.
    """

    name, classes = "digits", 10

    def __init__(self, train_size: TrainSize = 150, alike: Sequence[int] = (1, 7)) -> None:
        self.train_size, self.alike = train_size, alike

    def load(self) -> tuple[Dataset, Dataset]:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(x))
        train, test = order[:1297], order[1297:]
        return (
            Dataset.of(x[train] / 16, y[train], self.classes, "digits train"),
            Dataset.of(x[test] / 16, y[test], self.classes, "digits test"),
        )


class Mnist(DataSource):
    """Load MNIST: 60,000 + 10,000 images of 28 x 28 in file order. Pixels / 255 in float32, ten classes.

    root: a folder with the four IDX files, gzip or not, or with a subfolder `mnist` of them. Where it is None, the
    environment variable MPC_APPRAISAL_DATA names the folder, or else the files are downloaded into the user's cache.
    """

    name, classes = "mnist", 10
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    sha256 = {
        "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }

    def __init__(self, root: str | None = None, train_size: TrainSize = 600, alike: Sequence[int] = (1, 7)) -> None:
        self.root, self.train_size, self.alike = root, train_size, alike

    def load(self) -> tuple[Dataset, Dataset]:
        folder = _folder(self.root, self.name)
        found = {}
        for stem, digest in self.sha256.items():
            if folder is None:
                found[stem] = _download(self.name, f"{self.url}{stem}.gz", digest)
                continue
            names = [base + stem + suffix for base in ("", f"{self.name}/") for suffix in (".gz", "")]
            found[stem] = _first(folder, names, f"the IDX file {stem}, gzip or not")
        parts = []
        for part in ("train", "t10k"):
            images = _idx(found[f"{part}-images-idx3-ubyte"], 3)
            labels = _idx(found[f"{part}-labels-idx1-ubyte"], 1)
            parts.append(
                Dataset.of(
                    images.astype(np.float32) / 255,
                    labels,
                    self.classes,
                    f"mnist {'train' if part == 'train' else 'test'}",
                )
            )
        return parts[0], parts[1]


class Cifar10(DataSource):
    """Load CIFAR-10, the classes `labels` alone, as classes 0, 1, ... in the order given.

    In `labels` 0 is airplane, 1 automobile and so on. Pixels / 255 in float32; 3072 features in file order (32 x 32
    red, then green, then blue), rows in file order.

    root: the binary archive (.tar.gz, .tar), or a folder with it or with its .bin files, or with a subfolder `cifar10`
    or `cifar-10-batches-bin`. Where it is None, the environment variable MPC_APPRAISAL_DATA names the folder, or else
    the archive is downloaded into the user's cache. Raises InputError for other labels than different ones of 0 .. 9.
    """

    name = "cifar10"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    sha256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    files = tuple(f"data_batch_{i}.bin" for i in range(1, 6)) + ("test_batch.bin",)

    def __init__(
        self,
        root: str | None = None,
        labels: Sequence[int] = (0, 1),
        train_size: TrainSize = (200, 20),
        alike: Sequence[int] = (0, 1),
    ) -> None:
        self.alike = alike
        self.root, self.labels, self.train_size = root, as_list("labels", labels, LABELS), train_size
        self.classes = len(self.labels)
        known = {label for label in self.labels if is_integer(label, Integral) and 0 <= label < 10}
        if self.classes < 2 or len(known) < self.classes:
            raise InputError("labels", list(self.labels), LABELS)

    def load(self) -> tuple[Dataset, Dataset]:
        folder = _folder(self.root, self.name)
        if folder is None:
            path = _download(self.name, self.url, self.sha256)
        elif folder.is_file():
            path = folder
        else:
            inner = (
                "cifar-10-batches-bin/test_batch.bin",
                "test_batch.bin",
                "cifar-10-binary.tar.gz",
                "cifar-10-binary.tar",
            )
            names = [base + file for base in ("", f"{self.name}/") for file in inner]
            path = _first(folder, names, "CIFAR-10's binary archive or its .bin files")
        unpacked = path.suffix == ".bin"
        batches = _bins(path.parent, self.files) if unpacked else _tar(path, self.files)
        parts = [self._select(path, batches[:5], "train"), self._select(path, batches[5:], "test")]
        return parts[0], parts[1]

    def _select(self, path: Path, batches: list[bytes], part: str) -> Dataset:
        for number, raw in enumerate(batches, start=1):
            if not raw or len(raw) % 3073:
                raise InputError(
                    "root",
                    f"{path} with {part} batch {number} of {len(raw)} bytes",
                    "whole records of 3073 bytes (a truncated file?)",
                )
        records = np.frombuffer(b"".join(batches), dtype=np.uint8).reshape(-1, 3073)
        if records[:, 0].max() > 9:
            raise InputError("root", f"{path} with a label {records[:, 0].max()}", "labels 0 .. 9")
        absent = [label for label in self.labels if label not in records[:, 0]]
        if absent:
            raise InputError("labels", f"{absent}, of which {path} has no image in {part}", "labels with images")
        position = np.full(10, -1)
        position[list(self.labels)] = np.arange(self.classes)
        y = position[records[:, 0]]
        kept = records[y >= 0]
        return Dataset.of(kept[:, 1:].astype(np.float32) / 255, y[y >= 0], self.classes, f"cifar10 {part}")


def _folder(root: str | None, name: str) -> Path | None:
    """Return the folder to read `name` from; None where the user named none, so that the files are downloaded."""
    key = "root" if root is not None else ENVIRONMENT
    place = root if root is not None else os.environ.get(ENVIRONMENT)
    if not place or not str(place).strip():
        return None
    try:
        found = Path(place).expanduser()
    except RuntimeError:  # the path begins with ~NAME of an unknown user
        found = Path(place)
    if not os.path.exists(found):
        raise InputError(key, str(place), f"an existing folder with the files of {name}")
    return found


def _first(folder: Path, names: Sequence[str], expected: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError("root", str(folder), f"{expected} (state it, or set the environment variable {ENVIRONMENT})")


def _download(name: str, url: str, digest: str) -> Path:
    """Download one file into the user's cache, unless it is there, and compare its SHA-256."""
    import pooch

    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{digest}",
                fname=url.rsplit("/", 1)[1],
                path=pooch.os_cache("mpc-appraisal") / name,
                downloader=pooch.HTTPDownloader(timeout=15),
            )
        )
    except Exception as error:  # no network, a proxy's page, a full disk
        raise InputError(
            "root",
            f"null, and the download of {url} failed ({type(error).__name__}: {error})",
            f"a folder with the files of {name}: state it, or set the environment variable {ENVIRONMENT}",
        ) from error


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the content of an IDX file as an array of uint8 with `dimensions` dimensions."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("root", f"{path} ({error})", "a readable IDX file (a truncated file?)") from error
    magic, start = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if raw[:4] != magic or len(raw) < start:
        raise InputError("root", f"{path} beginning {raw[:4].hex()}", f"an IDX file beginning {magic.hex()}")
    shape = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4", count=dimensions, offset=4))
    if len(raw) - start != math.prod(shape):
        raise InputError(
            "root",
            f"{path} with {len(raw) - start} bytes of data",
            f"{math.prod(shape)} bytes for the shape {shape} in its head (a truncated file?)",
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _bins(folder: Path, files: Sequence[str]) -> list[bytes]:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise InputError("root", f"{folder} without {', '.join(missing)}", "the six .bin files of CIFAR-10")
    try:
        return [(folder / file).read_bytes() for file in files]
    except OSError as error:
        raise InputError("root", f"{folder} ({error})", "readable .bin files") from error


def _tar(path: Path, files: Sequence[str]) -> list[bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:  # in file order, for seeking back in a compressed archive reads it again
                file = member.name.rsplit("/", 1)[-1]
                if file in files and member.isfile():
                    found[file] = archive.extractfile(member).read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError("root", f"{path} ({error})", "a readable tar archive (a truncated file?)") from error
    missing = [file for file in files if file not in found]
    if missing:
        raise InputError("root", f"{path} without {', '.join(missing)}", "the six .bin files of CIFAR-10")
    return [found[file] for file in files]
