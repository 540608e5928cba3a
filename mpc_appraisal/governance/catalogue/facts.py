"""What an owner may publish about its data: types, and on demand statistics or sample rows.

In goes a data set; out comes a part of a listing. Nothing here is differentially private. Each part says in words what
it reveals, and the words are published with it. Another fact may be added, with its words. The words and what is
computed may change only together; and where invented rows are drawn, the seed has to be forgotten and real rows thrown
away.
"""

from __future__ import annotations

import secrets

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, StoredDataset
from mpc_appraisal.governance.catalogue.commitment import BLOCK
from mpc_appraisal.governance.catalogue.listing import Samples, Statistics
from mpc_appraisal.governance.catalogue.schema import MOST_SAMPLES, TYPES

LEAST_CLASS = 10  # the fewest rows of a class that samples are drawn after
NOISE = 0.25  # the share of a feature's deviation over all rows by which its deviation within the class is widened
MOST_STATED_CLASSES = 10_000
REVEALS_STATISTICS = (
    "Exact numbers of rows by class; each feature's mean and standard deviation over all rows, to three digits. In a "
    "small data set, or beside other knowledge of its rows, they may tell a single value. Not differentially private."
)
REVEALS_OF_NUMBER = REVEALS_STATISTICS.replace("Exact numbers of rows by class; each", "Each")
REVEALS_SYNTHETIC = (
    "No row here is a row of the data set: each value was drawn by itself from a normal distribution with the mean and "
    f"the standard deviation of its feature in its class, made wider by {NOISE:g} of the feature's deviation over all "
    "rows, and rounded where the feature is integer or binary. The rows reveal roughly these means and deviations, "
    f"which classes have {LEAST_CLASS} rows or more, and exactly each feature that is constant. Relations between "
    "features are not kept. Not differentially private."
)
REVEALS_REAL = "These are real rows of the data set, chosen at random and shown because its owner asked for it."


def types_of(data: Dataset | StoredDataset) -> tuple[str, ...]:
    """Return the type of each feature: 'binary' where it holds only 0 and 1, else 'integer', else 'real'."""
    binary = integer = np.ones(data.features, bool)
    for block in data.blocks(BLOCK):
        x = block.x.numpy()
        binary = binary & ((x == 0) | (x == 1)).all(0)
        integer = integer & (x == np.floor(x)).all(0)
    return tuple(np.where(binary, TYPES[0], np.where(integer, TYPES[1], TYPES[2])).tolist())


def statistics(data: Dataset | StoredDataset, columns: tuple[int, ...] | None = None) -> Statistics:
    """Return the number of rows of each class, and the mean and the deviation of each feature, rounded to three digits.

    A target that is a number counts as one class. Nothing is said of its values. columns: the places of the features
    to show, from 0 and rising; None for all.

    Raises InputError for more than MOST_STATED_CLASSES classes.
    """
    if data.classes > MOST_STATED_CLASSES:
        raise InputError("statistics", f"{data.classes} classes", f"at most {MOST_STATED_CLASSES} classes")
    counts = np.zeros(data.classes, np.int64)
    for block in data.blocks(BLOCK):
        labels = np.zeros(block.rows, np.int64) if data.numeric else block.y.numpy()
        counts += np.bincount(labels, minlength=data.classes)
    mean, deviation = _moments(data, None)
    rounded = (tuple(float(f"{value:.2e}") for value in values) for values in (mean, deviation))
    reveals = REVEALS_OF_NUMBER if data.numeric else REVEALS_STATISTICS
    if columns is not None:
        reveals = reveals.replace("each feature's", "each shown feature's").replace(
            "Each feature's", "Each shown feature's"
        )
        rounded = (tuple(values[place] for place in columns) for values in rounded)
    return Statistics(tuple(counts.tolist()), *rounded, reveals, columns)


def synthetic_samples(data: Dataset | StoredDataset, count: int, random: np.random.Generator | None = None) -> Samples:
    """Invent `count` rows of the classes that have `LEAST_CLASS` rows or more; none of them is a row of the data.

    Args:
        data: the data set.
        count: the number of rows to invent.
        random: a generator for tests. By default its seed comes from the operating system and is forgotten, because
            whoever knew the seed could subtract the noise.

    Raises InputError for a count out of range, and where the data are so few or so plain that invented rows would be
    real ones.
    """
    _check_count(count)
    random = random or np.random.default_rng(secrets.randbits(128))
    counts: dict[int, int] = {}
    for block in data.blocks(BLOCK):
        for label, rows in zip(*np.unique(block.y.numpy(), return_counts=True), strict=True):
            counts[int(label)] = counts.get(int(label), 0) + int(rows)
    labels = sorted(label for label, rows in counts.items() if rows >= LEAST_CLASS)
    if not labels:
        raise InputError("samples", f"classes of at most {max(counts.values())} rows", f"a class of {LEAST_CLASS} rows")
    types, overall = np.array(types_of(data)), _moments(data, None)[1]
    y = random.choice(labels, 2 * count)  # twice as many as needed: those that are real rows are thrown away
    x = np.empty((2 * count, data.features))
    for label in set(y.tolist()):
        mean, within = _moments(data, label)
        spread = np.sqrt(within**2 + (NOISE * overall) ** 2)
        x[y == label] = mean + spread * random.normal(size=(int((y == label).sum()), data.features))
    x = np.where(types == "real", x.round(6), x.round())
    x = np.where(types == "binary", x.clip(0, 1), x) + 0.0
    kept = ~_are_rows(x, data)
    if kept.sum() < count:
        raise InputError(
            "samples",
            f"{int((~kept).sum())} of {2 * count} invented rows are rows of the data",
            "less than half of them",
        )
    return Samples(
        "synthetic", tuple(map(tuple, x[kept][:count].tolist())), tuple(y[kept][:count].tolist()), REVEALS_SYNTHETIC
    )


def real_samples(data: Dataset | StoredDataset, count: int, random: np.random.Generator | None = None) -> Samples:
    """Choose `count` rows of the data at random, without repetition.

    Args:
        data: the data set.
        count: the number of rows.
        random: a generator for tests.

    Raises InputError for a count out of range, or above the number of rows.
    """
    _check_count(count)
    if count > data.rows:
        raise InputError("samples", f"{count} real rows", f"at most the {data.rows} that there are")
    random = random or np.random.default_rng(secrets.randbits(128))
    chosen = np.sort(random.choice(data.rows, count, replace=False))
    x, y, start = [], [], 0
    for block in data.blocks(BLOCK):
        here = chosen[(chosen >= start) & (chosen < start + block.rows)] - start
        x += [tuple(row) for row in block.x.numpy()[here].astype(float).tolist()]
        y += block.y.numpy()[here].tolist()
        start += block.rows
    return Samples("real", tuple(x), tuple(y), REVEALS_REAL)


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST_SAMPLES:
        raise InputError("samples", count, f"1 to {MOST_SAMPLES} rows")


def _moments(data: Dataset | StoredDataset, label: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the deviation of each feature over the rows of one class, or of all (None), in float64."""

    def average(of) -> np.ndarray:
        total, rows = np.zeros(data.features), 0
        for block in data.blocks(BLOCK):
            x = block.x.numpy().astype(float)
            x = x if label is None else x[block.y.numpy() == label]
            total, rows = total + of(x).sum(0), rows + len(x)
        return total / rows

    mean = average(lambda x: x)
    return mean, np.sqrt(average(lambda x: (x - mean) ** 2))


def _are_rows(x: np.ndarray, data: Dataset | StoredDataset) -> np.ndarray:
    """Say of each row of x, (n, d) without -0.0, whether it is a row of the data: (n,) bool."""
    mine = [row.tobytes() for row in x]
    sought, found = set(mine), set()
    for block in data.blocks(BLOCK):
        rows = block.x.numpy().astype(float) + 0.0
        found |= {key for row in rows if (key := row.tobytes()) in sought}
    return np.array([row in found for row in mine])
