"""Checks that labels are classes.

A data set and the name of its setting go in; nothing or an InputError comes out. Labels that are numbers to predict, or
codes such as 10, 20, 30, are refused where they are read, before anything is trained on them. Thresholds may change,
but MOST_CLASSES has to be the most that the engine's softmax takes.
"""

from __future__ import annotations

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.dataset import Dataset
from mpc_appraisal.data.faults import FEW
from mpc_appraisal.data.files import StoredDataset

MOST_CLASSES = 256  # the most that the engine's softmax takes
SHOWN = 10


def check_kind(data: Dataset | StoredDataset, name: str) -> None:
    """Refuse, under `name`, labels of more classes than can be appraised: they are numbers to predict, or codes."""
    if data.classes <= MOST_CLASSES or data.numeric:
        return
    values, rows = _counts(data)
    expected = f"classes, labelled 0, 1, 2, ...: at most {MOST_CLASSES}"
    if _is_number(len(values), data.rows) or len(values) > MOST_CLASSES:
        raise InputError(name, _number(data, values), expected)
    if int(values.max()) < MOST_CLASSES:
        raise InputError(name, f"{data.classes} classes", expected)
    raise InputError(
        name, f"labels as large as {values.max()} ({_rows(values, rows)})", f"{expected}{_recoded(values)}"
    )


def check_gaps(train: Dataset | StoredDataset | None, name: str) -> None:
    """Refuse, under `name`, training rows that lack a class below their largest label.

    Every model that is trained on them would have a class without rows. Classes that have names are not refused,
    because someone has stated them.
    """
    if train is None or train.class_names is not None or train.numeric:
        return
    values, rows = _counts(train)
    lacking = np.setdiff1d(np.arange(int(values.max()) + 1), values)
    if not len(lacking):
        return
    if _is_number(len(values), train.rows):
        raise InputError(name, _number(train, values), "classes, labelled 0, 1, 2, ...")
    more = f" and {len(lacking) - 1} more classes" if len(lacking) > 1 else ""
    raise InputError(
        name,
        f"labels without a row of class {lacking[0]}{more} below the largest ({_rows(values, rows)})",
        f"a row of every class 0, 1, 2, ... up to the largest{_recoded(values)}, or names for the classes",
    )


def check_codes(data: Dataset | StoredDataset, name: str) -> None:
    """Refuse, under `name`, labels that skip more classes than they name, as 10, 20, 30 do: such labels are codes.

    A data owner may lack some of a model's classes, so that a few gaps are no fault. Nothing is refused where class
    names are stated, because someone has meant the labels so.
    """
    if data.class_names is not None:
        return
    values, rows = _counts(data)
    if int(values.max()) + 1 > 2 * max(len(values), 2):
        raise InputError(
            name,
            f"labels {', '.join(map(str, values[:5]))}{', ...' * (len(values) > 5)} ({_rows(values, rows)})",
            f"labels 0, 1, 2, ...{_recoded(values)}, or classes=N or class_names=..., by which labels are meant so",
        )


def _counts(data: Dataset | StoredDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the different labels in order, and the number of rows of each."""
    found: dict[int, int] = {}
    for block in data.blocks(1 << 14):
        for value, rows in zip(*np.unique(block.y.numpy(), return_counts=True), strict=True):
            found[int(value)] = found.get(int(value), 0) + int(rows)
    values = sorted(found)
    return np.array(values), np.array([found[value] for value in values])


def _is_number(values: int, rows: int) -> bool:
    return values > FEW and 10 * values > rows


def _number(data: Dataset | StoredDataset, values: np.ndarray) -> str:
    span = f"{len(values)} values from {values.min()} to {values.max()}"
    return f"labels that look like a number, as of a regression: {data.rows} rows, {span}"


def _rows(values: np.ndarray, rows: np.ndarray) -> str:
    shown = ", ".join(f"{value}: {count}" for value, count in zip(values[:SHOWN], rows[:SHOWN], strict=True))
    return f"rows by label: {shown}" + (", ..." if len(values) > SHOWN else "")


def _recoded(values: np.ndarray) -> str:
    shown = ", ".join(f"{value} as {k}" for k, value in enumerate(values[:SHOWN]))
    return f" (at all parties alike, write {shown}{', ...' if len(values) > SHOWN else ''})"
