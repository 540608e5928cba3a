"""Names for data whose file has none, and one order of columns for two data sets of one owner.

Data sets and stated names go in; data sets with names, with columns in one order, or an InputError come out. Names that
a file states itself have to win: stated names that differ from them are an error and are never taken silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.dataset import Dataset, listed
from mpc_appraisal.data.files import StoredDataset
from mpc_appraisal.data.row_index import RowNumbers, refuse_names

Data = Dataset | StoredDataset
WORDS = {"columns": "columns", "class_names": "class names"}


def named(data: Data, columns: Sequence[str] | None, class_names: Sequence[str] | None, key: str) -> Data:
    """Return the same data with the stated names where it has none, and at least as many classes as class names.

    Args:
        data: the data set.
        columns, class_names: the stated names; None for none.
        key: the setting that errors name.

    Raises InputError, under `key`, where the data have other names of their own, or a label is without a name.
    """
    stated = {"columns": columns, "class_names": class_names}
    given: dict[str, Any] = {}
    for name, value in stated.items():
        own = getattr(data, name)
        if value is None:
            continue
        if own is not None and own != tuple(value):
            raise InputError(key, f"{WORDS[name]} {listed(value)}", f"{listed(own)}, as the file itself states")
        if own is None:
            given[name] = tuple(value)
    if not given:
        return data
    if "class_names" in given:
        given["classes"] = max(data.classes, len(given["class_names"]))
    try:
        if isinstance(data, StoredDataset):
            changed: Data = data.changed(partial(_replaced, given=given), **given)
        else:
            changed = replace(data, **given)
        refuse_row_index(changed, key)  # every block is read, so that a label without a name is refused now
        return changed
    except InputError as error:
        raise InputError(key, error.value, error.expected) from error


def alike(train: Data | None, test: Data | None, key: str) -> Data | None:
    """Return one owner's `test` with its columns in the order of `train`, by name. Without names position decides.

    Raises InputError, under `key`, with the difference, where the names of columns or of classes differ.
    """
    if train is None or test is None:
        return test
    if train.class_names is not None and test.class_names is not None and train.class_names != test.class_names:
        expected = f"{listed(train.class_names)}, as for the training rows"
        raise InputError(key, f"class names {listed(test.class_names)}", expected)
    if train.columns is None or test.columns is None:
        return test
    try:
        return test.arranged(train.columns)
    except InputError as error:
        raise InputError(key, error.value, error.expected) from error


def refuse_row_index(data: Data, key: str) -> Data:
    """Read every block and return the same data.

    Raises InputError, under `key`, where a named column is an index of the rows. Data from a file with names of its own
    need no such check, because the file's reader makes it.
    """
    refuse_names(data.columns, key)
    numbers = RowNumbers(data.columns, key)
    for block in data.blocks(1 << 14):
        numbers.add(block.x.numpy())
    numbers.check()
    return data


def _replaced(block: Dataset, given: dict[str, Any]) -> Dataset:
    return replace(block, **given)
