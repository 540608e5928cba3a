"""Features of columns that have been read as numbers: scikit-learn's ColumnTransformer with the recipe's stated values.

The columns go in as numbers, (n, k) with NaN for blanks, and features come out, (n, d) float64. Imputers, encoders and
scalers are scikit-learn's. Nothing is fitted on data: they are fitted on one row of zeros, and take the levels, means
and scales that the recipe states. Columns that need the same steps and stand side by side go through them together. The
order of the features has to stay that of `RecipeField.features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from mpc_appraisal.data.recipe.fields import RecipeField


class StatedScaler(StandardScaler):
    """scikit-learn's StandardScaler, x -> (x - mean) / scale, with stated means and scales in place of fitted ones."""

    def __init__(self, means: tuple[float, ...] = (), scales: tuple[float, ...] = ()):
        super().__init__()
        self.means, self.scales = means, scales

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> StatedScaler:
        """Take the stated means and scales, whatever the rows are."""
        self.mean_, self.scale_ = np.array(self.means), np.array(self.scales)
        self.var_, self.n_features_in_, self.n_samples_seen_ = self.scale_**2, len(self.means), 1
        return self


class Features:
    """Make features of columns. fields: the columns' fields, in order; those that are left out take no part."""

    def __init__(self, fields: Sequence[RecipeField]):
        used = [field for field in fields if not field.leave_out]
        self._columns, parts = len(used), []
        for _, run in groupby(enumerate(used), lambda pair: _group(*pair)):
            parts += _parts(list(run))
        # Names are needed by scikit-learn alone.
        named = [(f"part{number}", step, places) for number, (step, places) in enumerate(parts)]
        self._made = ColumnTransformer(named, remainder="drop", sparse_threshold=0.0)
        self._made.fit(np.zeros((1, self._columns)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the features, (n, d), of the columns, (n, k), in which NaN is a blank."""
        return np.ascontiguousarray(self._made.transform(values), dtype=np.float64) + 0.0  # -0.0 becomes 0.0


def _group(place: int, field: RecipeField) -> int:
    """Return the same number for columns that may go together: numbers that take no blanks."""
    return -1 if field.kind != "category" and not field.takes_blanks else place


def _parts(run: list[tuple[int, RecipeField]]) -> list[tuple[Any, list[int]]]:
    """Return the steps for columns that go together, and the columns' places."""
    places, fields = [place for place, _ in run], [field for _, field in run]
    first, steps = fields[0], []
    if first.takes_blanks:
        steps.append(SimpleImputer(strategy="constant", fill_value=first.blank_number))
    if first.kind == "category":
        levels = np.arange(len(first.levels), dtype=np.float64)
        steps.append(OneHotEncoder(categories=[levels], handle_unknown="ignore", sparse_output=False))
    else:
        steps.append(StatedScaler(tuple(f.mean for f in fields), tuple(f.scale for f in fields)))
    bits = tuple(field.bits for field in fields)
    if any(each is not None for each in bits):
        steps.append(FunctionTransformer(rounded, kw_args={"bits": bits}))
    found: list[tuple[Any, list[int]]] = [(make_pipeline(*steps), places)]
    if first.indicator:
        found.append((MissingIndicator(features="all", error_on_new=False), places))
    return found


def rounded(values: np.ndarray, bits: Sequence[int | None]) -> np.ndarray:
    """Round each column to multiples of 2^-bits, and a half to the even one; None leaves a column as it is."""
    found = values.copy()
    for column, each in enumerate(bits):
        if each is not None:
            found[:, column] = np.rint(found[:, column] * 2.0**each) / 2.0**each
    return found
