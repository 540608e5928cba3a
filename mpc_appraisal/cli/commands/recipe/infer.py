"""`mpc-appraisal recipe infer`: propose a recipe for a table, and say first what it discloses of the rows.

In goes the model owner's own table; out come sentences on standard error, and then the recipe on standard output. An
option may be added. Nothing may be taken from the rows without a sentence, because the recipe goes to the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from mpc_appraisal.cli.commands.recipe.options import Options, parsed
from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.data.dataset import listed
from mpc_appraisal.data.recipe import Recipe
from mpc_appraisal.data.recipe.infer import EXACT, RANGES, ROUND, infer, left_out
from mpc_appraisal.data.recipe.schema import DELIMITERS
from mpc_appraisal.data.recipe.yaml_text import write_yaml

SCHEMA = "https://datapackage.org/profiles/2.0/tableschema.json"


def run(arguments: Sequence[str], console: Any) -> None:
    """Print the recipe. Raises InputError for a bad argument, or a table that no recipe can be proposed for."""
    options = Options("infer", "FILE [--label COLUMN] [--round | --ranges] [--least N] [--delimiter CHARACTER]")
    options.add_argument("file")
    options.add_argument("--label", default="label")
    options.add_argument("--least", type=int, default=1)
    options.add_argument("--delimiter", default=",")
    how = options.add_mutually_exclusive_group()
    for figures in (ROUND, RANGES):
        how.add_argument(f"--{figures}", dest="figures", action="store_const", const=figures, default=EXACT)
    stated = parsed(options, arguments)
    integer("--least", stated.least, 1)
    delimiter = "\t" if stated.delimiter == "\\t" else stated.delimiter
    if delimiter not in DELIMITERS:
        raise InputError("--delimiter", shown(repr(delimiter)), f"one of {listed(DELIMITERS)}")
    found = infer(stated.file, stated.label, stated.figures, stated.least, delimiter)
    Recipe.of(found.content, "recipe infer")  # what is printed can be read again
    _say("this recipe discloses of the rows of this file, to whoever reads it:")
    for sentence in found.disclosed:
        _say(f"  {sentence}")
    if names := left_out(found.content):
        _say(f"left out, for too many different texts or a type that is no feature: {listed(names)}")
    if stated.figures == EXACT:
        _say("--round rounds means and scales, and --ranges states ranges in their place")
    sys.stdout.write(write_yaml({"$schema": SCHEMA, **found.content}))


def _say(sentence: str) -> None:
    print(printable(sentence), file=sys.stderr, flush=True)
