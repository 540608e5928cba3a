"""`mpc-appraisal recipe show`: print what a recipe states, column by column, and its digest.

In goes a recipe; out comes a table. A column may be added to it. Texts of a recipe are printed through `shown`, because
somebody else may have written it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpc_appraisal.cli.commands.recipe.options import Options, parsed
from mpc_appraisal.common.text import shown
from mpc_appraisal.data.recipe import Recipe
from mpc_appraisal.data.recipe.fields import RecipeField
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import DASH, Table

HEADER = ("column", "type", "unit", "blank", "unknown", "mean", "scale", "bits", "features")


def run(arguments: Sequence[str], console: Any) -> None:
    """Print the table. Raises InputError for a bad argument or a bad recipe."""
    options = Options("show", "recipe.yaml")
    options.add_argument("recipe")
    recipe = Recipe.load(parsed(options, arguments).recipe)
    target = recipe.target
    classes = recipe.class_names
    what = f"classes {', '.join(classes)}" if classes else f"a number from {target.minimum:g} to {target.maximum:g}"
    apart = "" if recipe.delimiter == "," else f" In CSV files, {recipe.delimiter!r} separates the fields."
    notes = (f"Target: {shown(target.name)}, {shown(what, 400)}.{apart}", f"Digest: {recipe.digest}")
    rows = [_row(field) for field in recipe.fields]
    print_table(Table("Recipe", HEADER, "llllrrrrl", rows, notes), console)


def _row(field: RecipeField) -> tuple[str, ...]:
    if field.leave_out:
        return (shown(field.name, 40), field.type, *[DASH] * (len(HEADER) - 3), "left out")
    blank = "refuse" if not field.takes_blanks else "no level" if field.blank is None else shown(field.blank, 20)
    scaled = field.kind in ("number", "date")
    return (
        shown(field.name, 40),
        "category" if field.kind == "category" else field.type,
        shown(field.unit, 20) or DASH,
        blank + ", indicator" * field.indicator,
        field.unknown if field.kind == "category" else DASH,
        f"{field.mean:.6g}" if scaled else DASH,
        f"{field.scale:.6g}" if scaled else DASH,
        DASH if field.bits is None else str(field.bits),
        shown(", ".join(field.features), 60),
    )
