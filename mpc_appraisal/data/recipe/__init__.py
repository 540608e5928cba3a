"""Recipes: how rows of a raw table become features, public and the same on both sides.

`recipe` is the record and its file, `fields` one column of it, `schema` and `yaml_text` the form of the file, `raw` the
formats of tables, `values` the reading of one column, `transform` what makes features, `table` the blocks and faults,
and `infer` the proposal of a recipe for a file. In go a YAML file and tables; out come data sets, or errors that name
all faults at once. The name below has to stay, because other rooms use it.
"""

from mpc_appraisal.data.recipe.recipe import Recipe

__all__ = ["Recipe"]
