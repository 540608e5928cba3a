"""The data that are given to `appraise`: data sets, arrays, and raw tables that a recipe makes data sets of.

One argument of `appraise` goes in; a `Dataset` comes out, or several with different names, or an InputError under the
argument's name. A further form may be accepted if it cannot be mistaken for one of these. With a recipe, every argument
has to be a raw table or has to have the recipe's columns, because the recipe's digest is announced as that of the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Recipe
from mpc_appraisal.data.dataset import listed
from mpc_appraisal.data.naming import refuse_row_index
from mpc_appraisal.data.scenarios import Candidate
from mpc_appraisal.data.targets import CLASSES
from mpc_appraisal.models.base import LinearModel

Own = Dataset | tuple[Any, Any]


def own_data(
    data: Any,
    name: str,
    kind: type[LinearModel],
    recipe: Recipe | None = None,
    target: str | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Dataset | None:
    """Return one argument as a data set, or None.

    Args:
        data: A `Dataset`, or arrays (x, y), where y is None for rows without labels, or a pandas DataFrame with the
            column `target`. With a recipe also the path of a raw table, or a DataFrame of one.
        name: The argument's name.
        kind: The kind of the run's model, which says what y holds.
        recipe: What makes features of raw tables; None where the rows are features.
        target: The name of the column of a DataFrame that holds y.
        class_names: The names of classes 0, 1, ..., where y of a DataFrame holds names; None takes those that it has.

    Raises InputError, under `name`, for anything else.
    """
    if data is None:
        return None
    if recipe is not None and (isinstance(data, (str, os.PathLike)) or hasattr(data, "iloc")):
        return recipe.apply(data, name, kind.target)
    if isinstance(data, Dataset):
        if recipe is not None and data.columns != recipe.columns:
            expected = f"{listed(recipe.columns)}, as the recipe makes them, or a raw table"
            raise InputError(name, f"a data set with the columns {listed(data.columns or ())}", expected)
        return refuse_row_index(data, name)
    if recipe is None and isinstance(data, tuple) and len(data) == 2:
        return refuse_row_index(
            Dataset.of(*data, name=name, columns=columns_of(data[0], name), target=kind.target), name
        )
    if recipe is None and hasattr(data, "iloc"):
        return refuse_row_index(_of_frame(data, name, kind, target, class_names), name)
    expected = "a Dataset, a tuple (x, y) of arrays, or a pandas DataFrame with target=... beside it"
    expected = expected if recipe is None else "the path of a raw table, a DataFrame, or a Dataset by the recipe"
    raise InputError(name, type(data).__name__, expected)


def _of_frame(
    frame: Any, name: str, kind: type[LinearModel], target: str | None, class_names: tuple[str, ...] | None
) -> Dataset:
    """Return a DataFrame as a data set. Raises InputError, under `name`, where it has no such column."""
    columns = list(getattr(frame, "columns", ()))
    if target is None:
        expected = "target=..., the name of its column of labels or numbers, or a tuple (x, y)"
        raise InputError(name, f"a DataFrame with the columns {listed(columns)}", expected)
    if columns.count(target) != 1:
        raise InputError(name, f"a DataFrame with the columns {listed(columns)}", f"one column {target!r}, the target")
    x, y = frame.drop(columns=[target]), frame[target]
    _refuse_gaps_and_texts(x, y, name, target)
    if class_names is None and kind.target == CLASSES:
        class_names = names_of_classes([frame], target)
    if class_names is not None:
        place = {each: k for k, each in enumerate(class_names)}
        if strange := [each for each in y if each not in place]:
            raise InputError(name, f"{target} {strange[0]!r}", f"one of {listed(class_names)}")
        y = [place[each] for each in y]
    return Dataset.of(x, y, name=name, columns=columns_of(x, name), class_names=class_names, target=kind.target)


def _refuse_gaps_and_texts(x: Any, y: Any, name: str, target: str) -> None:
    """Raise InputError, under `name`, for a target that is missing in a row, and for a column that is not of numbers.

    Rows are counted from 0 in their order, whatever the index of the DataFrame says.
    """
    if (missing := y.isna()).any():
        found = f"no value of {target!r} in {int(missing.sum())} of {len(y)} rows, the first in row {missing.argmax()}"
        raise InputError(name, found, "a label or number in every row: leave these rows out")
    if strange := [column for column in x.columns if x[column].dtype.kind not in "biuf"]:
        kinds = ", ".join(f"{column!r} of {x[column].dtype}" for column in strange[:3])
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        expected = "columns of numbers; a recipe (`mpc-appraisal recipe infer`) makes features of texts and blanks"
        raise InputError(name, f"a DataFrame with the columns {kinds}{more}", expected)


def names_of_classes(frames: Iterable[Any], target: str | None) -> tuple[str, ...] | None:
    """Return the texts in the column `target` of these DataFrames, in their order; None where it holds numbers.

    What is no DataFrame with that column is left out.
    """
    held = [each[target] for each in frames if hasattr(each, "iloc") and target in getattr(each, "columns", ())]
    found = {each for column in held if column.dtype.kind not in "biuf" for each in column}
    return tuple(sorted(found)) if found and all(isinstance(each, str) for each in found) else None


def count_of_labels(data: Any, recipe: Recipe | None, target: str | None) -> int | None:
    """Return how many different labels one argument holds; None where it holds none that can be told apart."""
    if recipe is not None:
        return None if recipe.class_names is None else len(recipe.class_names)
    if isinstance(data, Dataset):
        y = data.y
    elif isinstance(data, tuple) and len(data) == 2:
        y = data[1]
    else:
        y = data[target] if target in getattr(data, "columns", ()) else None
    try:
        return None if y is None else len(set(np.asarray(y).ravel().tolist()))
    except (TypeError, ValueError):  # `own_data` refuses such labels by name
        return None


def columns_of(x: Any, name: str) -> tuple[str, ...] | None:
    """Return the names of a pandas DataFrame's columns, or None for anything without names or with pandas' own numbers.

    Raises InputError, under `name`, for names that are empty or occur twice.
    """
    columns = getattr(x, "columns", None)
    if columns is None or getattr(x, "ndim", 2) != 2 or type(columns).__name__ == "RangeIndex":
        return None
    names = [each if isinstance(each, str) else str(each) for each in columns]
    if len(set(names)) < len(names) or not all(each.strip() for each in names):
        raise InputError(f"{name}: x", f"columns {', '.join(map(repr, names[:20]))}", "a different name for each")
    return tuple(names)


def candidates_of(
    data: Any, kind: type[LinearModel], recipe: Recipe | None = None, target: str | None = None
) -> tuple[Dataset, ...]:
    """Return the argument `data` as data sets with different names. Raises InputError where two names are the same."""
    if data is None:
        return ()
    if isinstance(data, Mapping):
        return tuple(own_data(d, str(name), kind, recipe, target).renamed(str(name)) for name, d in data.items())
    one = isinstance(data, (Dataset, tuple, str, os.PathLike)) or hasattr(data, "iloc")
    if one and not (isinstance(data, tuple) and isinstance(data[0], (Dataset, Candidate))):
        return (own_data(data, "data", kind, recipe, target),)
    sets = tuple(
        c.data.renamed(c.name) if isinstance(c, Candidate) else own_data(c, f"data[{k}]", kind, recipe, target)
        for k, c in enumerate(data)
    )
    names = [s.name for s in sets]
    if len(set(names)) < len(names):
        raise InputError("data", f"names {names}", "a different name for each candidate")
    return sets
