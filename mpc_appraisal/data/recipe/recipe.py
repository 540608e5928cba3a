"""A recipe: how rows of a raw table become features and a target, public and the same on both sides.

A YAML file, whose form `schema` states, goes in; out comes a `Recipe`, which turns tables into features. Types, levels,
means and scales come from the recipe alone, and nothing is guessed from a file. Therefore the same rows give the same
features, to the bit, whatever format they are in, and the same commitment. A field may be added to `RecipeField`; what
a recipe makes of a row has to stay, and so have `DOMAIN` and the canonical form that the digest is made of.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.data.dataset import Dataset
from mpc_appraisal.data.files import StoredDataset, open_dataset, read_blocks, read_dataset
from mpc_appraisal.data.recipe.fields import RecipeField
from mpc_appraisal.data.recipe.raw import raw_columns
from mpc_appraisal.data.recipe.schema import MOST_FIELDS, SCHEMA
from mpc_appraisal.data.recipe.table import RecipeTable
from mpc_appraisal.data.recipe.yaml_text import read_yaml
from mpc_appraisal.data.sizes import Sizes
from mpc_appraisal.data.targets import CLASSES, NUMBER, TWO, check_target_kind

if TYPE_CHECKING:
    from mpc_appraisal.data.recipe.transform import Features

DOMAIN = b"mpc_appraisal recipe 1\n"
LARGEST_FILE = 1 << 22  # bytes
BLOCK = 1 << 14  # the number of rows that are read at a time


@dataclass(frozen=True)
class Recipe:
    """State which columns a raw table has, how they are read, and what they become.

    Attributes:
        fields: the columns that become features, in the order of the features, and columns that are read past.
        target: the column that is predicted: one of classes in order, or a number with a range.
        words: name, title and description, which nothing depends on but the digest.
        delimiter: what separates the fields of a CSV file; other formats have none.
        where: what errors begin with.

    Raises InputError where two features have one name, or there is none.
    """

    fields: tuple[RecipeField, ...]
    target: RecipeField
    words: tuple[str, str, str] = ("", "", "")
    delimiter: str = ","
    where: str = "recipe"

    def __post_init__(self) -> None:
        names = [field.name for field in (*self.fields, self.target)]
        for what, key in ((names, "fields"), (list(self.columns), "the names of the features")):
            for name, times in Counter(what).items():
                if times > 1:
                    raise InputError(f"{self.where}: {key}", f"{shown(repr(name))} twice", "different names")
        if any(name != name.strip() for name in names):
            raise InputError(f"{self.where}: fields", "a name with spaces around it", "names without them")
        if not self.columns:
            raise InputError(f"{self.where}: fields", "no features", "one field or more beside the target")
        if len(self.columns) > MOST_FIELDS:
            raise InputError(f"{self.where}: fields", f"{len(self.columns)} features", f"at most {MOST_FIELDS}")
        self._check_target()

    def _check_target(self) -> None:
        where = f"{self.where}: target"
        if self.target.kind == "category" and len(self.target.categories) < 2:
            raise InputError(where, f"{len(self.target.categories)} class", "two categories or more")
        if self.target.kind == "date":
            raise InputError(where, f"a field of type {self.target.type}", "classes, or a number with its range")
        if self.target.kind == "number" and None in (self.target.minimum, self.target.maximum):
            expected = "categories (two classes or more), or constraints with minimum and maximum"
            raise InputError(where, f"{shown(repr(self.target.name))}, a number without a range", expected)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return tuple(name for field in self.fields for name in field.features)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of labels 0, 1, ...; None where the target is a number."""
        if self.target.kind == "boolean":
            return self.target.false_values[0], self.target.true_values[0]
        return tuple(map(str, self.target.categories)) if self.target.kind == "category" else None

    @property
    def kind(self) -> str:
        """What the target is, for readers that take any: 'classes' or 'number'."""
        return NUMBER if self.class_names is None else CLASSES

    @cached_property
    def features(self) -> Features:
        """What makes features of the columns as numbers."""
        from mpc_appraisal.data.recipe.transform import Features  # slow: it imports scikit-learn

        return Features(self.fields)

    @property
    def content(self) -> dict[str, Any]:
        """Everything that the recipe states, as JSON values of one spelling."""
        fields = [field.content() for field in self.fields]
        stated = {"fields": fields, "target": self.target.content(), "words": list(self.words)}
        return stated if self.delimiter == "," else stated | {"delimiter": self.delimiter}

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of what the recipe states, 64 hex digits. Spelling, order of keys and comments do not count."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
        return hashlib.sha256(DOMAIN + text.encode("ascii")).hexdigest()

    @staticmethod
    def load(path: str | os.PathLike[str], key: str = "recipe") -> Recipe:
        """Read a recipe's file. Raises InputError, under `key`, for a file that cannot be read or holds no recipe."""
        path = Path(path)
        if not path.is_file():
            raise InputError(key, shown(str(path)), "an existing .yaml file, as `mpc-appraisal recipe infer` writes it")
        try:
            with open(path, "rb") as file:
                raw = file.read(LARGEST_FILE + 1)
            if len(raw) > LARGEST_FILE:
                raise InputError(key, f"{shown(str(path))} of more than {LARGEST_FILE} bytes", "a recipe, not data")
            content = read_yaml(raw.decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            found = f"{shown(str(path))} ({shown(' '.join(str(error).split()), 200)})"
            raise InputError(key, found, "a readable .yaml file of a recipe") from None
        return Recipe.of(content, key)

    @staticmethod
    def of(content: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """Return the recipe that values of YAML or JSON state. Raises InputError, with the field, for anything else."""
        SCHEMA.check(content, where)
        target, missing = content["target"], content.get("missingValues")
        names = [field["name"] for field in content["fields"]]
        if names.count(target) != 1:
            found = f"{shown(repr(target))}, which is the name of {names.count(target)} fields"
            raise InputError(f"{where}.target", found, f"the name of one of the {len(names)} fields")
        fields = [
            RecipeField.of(field, missing, f"{where}.fields[{k}]", field["name"] == target)
            for k, field in enumerate(content["fields"])
        ]
        words = tuple(content.get(key, "") for key in ("name", "title", "description"))
        others = tuple(field for field in fields if field.name != target)
        delimiter = content.get("dialect", {}).get("delimiter", ",")
        return Recipe(others, fields[names.index(target)], words, delimiter, where)

    def table(self, source: Any, name: str, sizes: Sizes | None = None) -> RecipeTable:
        """Open a raw table: a path, or a pandas DataFrame. It is read in blocks of features and targets.

        Args:
            source: the table.
            name: the setting that errors begin with.
            sizes: the rows and the features that it must have, where they are known.
        """
        table = RecipeTable(raw_columns(source, name, self.target.name, self.delimiter), self, name)
        if sizes is not None:
            sizes.check(table.rows, table.features)
        return table

    def read(self, source: Any, name: str = "data") -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield features (n, d) and targets (n,) of a table in blocks; a target is a class's number, or a float.

        The arguments are those of `table`. Raises InputError, under `name`, with all that is wrong with the table.
        """
        if isinstance(source, (str, os.PathLike)):
            yield from read_blocks(source, self, name)
        else:
            table = self.table(source, name)
            if not table.rows:
                raise InputError(name, "no rows", "one row or more")
            yield from table.blocks(BLOCK)

    def arrays(self, source: Any, name: str = "data") -> tuple[np.ndarray, np.ndarray]:
        """Return features (n, d) and targets (n,), both float64; a class is its number. The rest is as for `read`."""
        blocks = list(self.read(source, name))
        x, y = (np.concatenate([block[k] for block in blocks]) for k in (0, 1))
        return x, y.astype(np.float64)

    def apply(self, source: Any, name: str = "data", target: str = CLASSES) -> Dataset:
        """Return the data set that the recipe makes of a table in memory.

        Args:
            source: the path of a .csv, .parquet or .npz file, or a pandas DataFrame.
            name: the data set's name, which errors begin with.
            target: what the model takes, one of `targets.KINDS`: 'number' for linear regression, 'two' for logistic
                regression. A number stays as the table states it; of two classes the first is 0.

        Raises InputError with all that is wrong with the table, and for a recipe with a target of another kind.
        """
        self.check_target(target, name)
        if isinstance(source, (str, os.PathLike)):
            return read_dataset(source, name=name, recipe=self, target=target)
        x, y = self.arrays(source, name)
        if self.class_names is None:
            return Dataset.of(x, y, name=name, columns=self.columns, target=target)
        return Dataset.of(x, y.astype(np.int64), len(self.class_names), name, self.columns, self.class_names)

    def open(self, path: str | os.PathLike[str], name: str = "data", target: str = CLASSES) -> Dataset | StoredDataset:
        """Do the same as `apply` with a file, except that a file of more than 64 MiB stays where it is."""
        self.check_target(target, name)
        return open_dataset(path, name=name, recipe=self, target=target)

    def check_target(self, target: str, name: str) -> None:
        """Raise InputError where the recipe's target is not of the kind `target`, one of `targets.KINDS`."""
        check_target_kind(target, f"{name}: target")
        names, who = self.class_names, f"a recipe whose target {shown(repr(self.target.name))}"
        if names is None and target == CLASSES:
            expected = "a target of classes: a field with categories, or a boolean"
            raise InputError(f"{name}: recipe", f"{who} is a number", expected)
        if names is not None and target == NUMBER:
            expected = "a number with its range and no categories, which linear_regression predicts"
            raise InputError(f"{name}: recipe", f"{who} has {len(names)} classes", expected)
        if target == TWO and (names is None or len(names) != 2):
            found = "is a number" if names is None else f"has {len(names)} classes"
            expected = "a boolean, or two categories, which logistic_regression predicts"
            raise InputError(f"{name}: recipe", f"{who} {found}", expected)
