"""`mpc-appraisal recipe check`: does a table fit a recipe?

In go a table and a recipe; out comes a sentence with the sizes, or one InputError that names all that is wrong with the
table, by column. Nothing is written or sent. The sentence may change, and the status 2 for a fault has to stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpc_appraisal.cli.commands.recipe.options import Options, parsed
from mpc_appraisal.common.text import shown
from mpc_appraisal.data.recipe import Recipe

BLOCK = 1 << 14


def run(arguments: Sequence[str], console: Any) -> None:
    """Read the table and print its sizes. Raises InputError with all that is wrong with it."""
    options = Options("check", "FILE --recipe recipe.yaml")
    options.add_argument("file")
    options.add_argument("--recipe", required=True)
    stated = parsed(options, arguments)
    recipe = Recipe.load(stated.recipe, "--recipe")
    rows, counts, low, high = 0, np.zeros(len(recipe.class_names or ()), np.int64), np.inf, -np.inf
    for x, y in recipe.read(stated.file, "recipe check"):
        rows += len(x)
        if recipe.class_names is not None:
            counts += np.bincount(y, minlength=len(counts))
        else:
            low, high = min(low, y.min()), max(high, y.max())
    print(f"{shown(stated.file)} fits the recipe {recipe.digest}: {rows} rows, {len(recipe.columns)} features")
    if recipe.class_names is None:
        print(f"target {shown(recipe.target.name)}: from {low:g} to {high:g}")
    else:
        pairs = zip(recipe.class_names, counts.tolist(), strict=True)
        print(f"target {shown(recipe.target.name)}: " + ", ".join(f"{count} {shown(name)}" for name, count in pairs))
