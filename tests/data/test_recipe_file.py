"""A recipe's file: what it may hold, how it is refused, and what its digest depends on."""

from __future__ import annotations

import pytest
from shop import RECIPE, write_recipe
from test_recipe import of, of_field

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Recipe
from mpc_appraisal.data.recipe.yaml_text import read_yaml, write_yaml


def test_a_plain_no_is_a_text_and_the_writer_quotes_it():
    words = ["no", "yes", "1e5", "1.5", "2026-01-31", "null", "~", "", "on", "0x1f", "1_0", "true"]
    content = {"a": words, "b": 1e-5, "c": [1, True, None]}
    assert read_yaml(write_yaml(content)) == content
    assert read_yaml("[no, on, 2026-01-31, 1:30, 1e5, .5, 7, null, true]") == [
        "no", "on", "2026-01-31", "1:30", 1e5, 0.5, 7, None, True]  # fmt: skip
    import yaml

    assert yaml.safe_load(write_yaml(content)) == content  # as readers of YAML 1.1 read it


def test_the_digest_is_of_what_is_stated_and_of_nothing_else(tmp_path):
    digest = of(RECIPE).digest
    lines = RECIPE.splitlines()
    target = lines.index("  - name: bought")
    moved = [*lines[:2], *lines[target:-1], *lines[2:target], lines[-1]]
    for text in ("# a remark\n" + RECIPE, RECIPE.replace("30000", "3e4"), "\n".join(moved)):
        assert Recipe.load(write_recipe(tmp_path / "r.yaml", text)).digest == digest
    for old, new in (("40", "41"), ("years", "months"), ("other", "zeros"), ("[Berlin, Paris", "[Paris, Berlin")):
        assert of(RECIPE.replace(old, new, 1)).digest != digest
    assert digest == "feceebe488a30a82068392d85b1d4eadbd241c4fb013e3fba97491347c506233"


A = "{name: a, type: number}"


@pytest.mark.parametrize(
    "text, words",
    [
        (RECIPE.replace("unit", "units", 1), r"fields\[1\]: got 'units'; expected no field but"),
        (RECIPE.replace("target: bought", ""), "expected all of fields, target"),
        (RECIPE.replace("target: bought", "target: buys"), "'buys', which is the name of 0 fields"),
        (RECIPE.replace("scale: 12.5", "scale: 0"), r"fields\[1\].feature.scale: got 0; expected a finite number"),
        (RECIPE.replace("scale: 12.5", "scale: .nan"), r"feature.scale: got '.nan'; expected a finite number above 0"),
        (RECIPE.replace("value: 41", "value: 41.5"), r"blank.value: got 41.5; expected a number that the column could"),
        (RECIPE.replace("value: null", "value: Oslo"), "blank.value: got 'Oslo'; expected one of the categories"),
        (RECIPE.replace("Berlin, Paris", "Berlin, Berlin"), "categories: got 'Berlin', 'Berlin', 'Rome'; expe"),
        (RECIPE.replace("Berlin, Paris", "Berlin, NA"), "none a missing value"),
        (RECIPE.replace("Berlin, Paris", "Berlin, other"), "unknown: got other; expected zeros or refuse"),
        (RECIPE.replace("name: age", "name: city"), "fields: got 'city' twice"),
        (RECIPE.replace("name: age", "name: city=Paris"), "names of the features: got 'city=Paris' twice"),
        (RECIPE.replace("bits: 10", "bits: 99"), "bits: got 99; expected an integer from 0 to 40"),
        (RECIPE.replace("type: integer", "type: float"), "type: got 'float'; expected one of number, integer"),
        (RECIPE.replace("type: boolean", "type: boolean\n    feature: {bits: 3}"), "because the target is no feature"),
        (f"fields: [{A}]\ntarget: a", "fields: got no features"),
        (f"fields: [{A}, {{name: y, type: number}}]\ntarget: y", "a number without a range"),
        (f"fields: [{A}, {{name: y, type: date}}]\ntarget: y", "classes, or a number with its range"),
        (f"fields: [{A}, {{name: y, type: string, categories: [b]}}]\ntarget: y", "expected two categories or more"),
        (f"fields: [{A}, {{name: y, type: number, constraints: {{minimum: 2, maximum: 1}}}}]\ntarget: y", "2 to 1"),
    ],
)  # fmt: skip
def test_a_bad_recipe_is_refused_by_the_field(text, words):
    with pytest.raises(InputError, match=words):
        of(text)


@pytest.mark.parametrize(
    "field, words",
    [
        ("{name: a, type: string}", "categories, a list of its levels, or feature.leave_out: true"),
        ("{name: a, type: string, categories: [1, 2]}", "expected texts, in quotation marks"),
        ("{name: a, type: integer, categories: [x]}", "expected integers"),
        ("{name: a, type: number, categories: [x]}", "categories: got a setting of a field of type number"),
        ("{name: a, type: number, trueValues: [x]}", "trueValues: got a setting of a field of type number"),
        ("{name: a, type: boolean, feature: {mean: 2}}", "feature.mean: got a setting of a field of type boolean"),
        ("{name: a, type: date, format: any}", "a pattern of strptime"),
        ("{name: a, type: date, format: '%d %b %Y'}", "all parts of the date as numbers"),
        ("{name: a, type: date, format: '%m.%Y'}", "all parts of the date as numbers"),
        ("{name: a, type: date, feature: {blank: {value: 3}}}", "expected a text that is a date"),
        ("{name: a, type: boolean, falseValues: ['1']}", "trueValues, falseValues: got"),
        ("{name: a, type: number, feature: {leave_out: true, mean: 1}}", "expected leave_out alone"),
        ("{name: ' a', type: number}", "names without them"),
    ],
)
def test_a_bad_field_is_refused_by_the_setting(field, words):
    with pytest.raises(InputError, match=words):
        of_field(field)


@pytest.mark.parametrize(
    "text, words",
    [
        ("fields: [a", "a readable .yaml file"),
        ("target: a\ntarget: b", "the key 'target' twice"),
        ("a: &x [1]\nb: *x", "a reference"),
        ("a: !!python/object/apply:os.system [ls]", "a readable .yaml file"),
        ("a: 1e999", "no finite number"),
        ("\udcff", "a readable .yaml file"),
        ("[" * 5000, "a readable .yaml file"),
        ("", "expected an object"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, words):
    (tmp_path / "r.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=f"^recipe: got .*{words}"):
        Recipe.load(tmp_path / "r.yaml")
    with pytest.raises(InputError, match="an existing .yaml file"):
        Recipe.load(tmp_path / "none.yaml")
