"""`mpc-appraisal recipe`: what it proposes, what it says that this discloses, and what it checks."""

from __future__ import annotations

import numpy as np
import pytest
from shop import shop, write_recipe, write_shop

from mpc_appraisal.cli.commands.preflight import main as preflight
from mpc_appraisal.cli.commands.recipe import main as recipe
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Recipe

FRAME = shop(200, 0).assign(id=[f"c{k}" for k in range(200)], since=[f"2020-0{k % 9 + 1}-17" for k in range(200)])


@pytest.fixture
def train(tmp_path):
    return write_shop(tmp_path / "train.csv", FRAME)


def inferred(capsys, tmp_path, *arguments) -> tuple[Recipe, str]:
    recipe(["infer", *map(str, arguments)])
    said = capsys.readouterr()
    return Recipe.load(write_recipe(tmp_path / "recipe.yaml", said.out)), said.err


def test_a_proposal_reads_its_own_table(capsys, tmp_path, train):
    found, said = inferred(capsys, tmp_path, train, "--label", "bought")
    kinds = {field.name: "out" if field.leave_out else field.type for field in found.fields}
    assert kinds == {"city": "string", "age": "integer", "income": "number", "id": "out", "since": "date"}
    data = found.apply(train)
    assert data.class_names == ("no", "yes") and data.y.tolist() == (FRAME["bought"] == "yes").astype(int).tolist()
    income = FRAME["income"].to_numpy()
    place = data.columns.index("income")
    expected = (np.where(np.isnan(income), np.nanmean(income), income) - np.nanmean(income)) / np.nanstd(income)
    assert data.x[:, place].numpy() == pytest.approx(expected, abs=1e-12)
    assert data.x[:, data.columns.index("income is blank")].tolist() == np.isnan(income).astype(float).tolist()
    for words in (
        "'city': its 4 levels 'Berlin', 'Oslo', 'Paris', 'Rome'",
        "'income': the mean",
        "left out",
        "--round",
    ):
        assert words in said


@pytest.mark.parametrize("option, words", [("--round", "rounded"), ("--ranges", "half the width")])
def test_figures_can_be_rounded_or_left_to_ranges(capsys, tmp_path, train, option, words):
    found, said = inferred(capsys, tmp_path, train, "--label", "bought", option)
    field = {each.name: each for each in found.fields}["income"]
    values = FRAME["income"].dropna()
    assert words in said and f"{values.mean():g}" not in said
    if option == "--round":
        assert field.mean % 1000 == 0 and abs(field.mean - values.mean()) <= 500 and field.scale % 100 == 0
    else:
        assert field.mean - field.scale <= values.min() and values.max() <= field.mean + field.scale
        assert (field.mean + field.scale) % 10_000 == 0
    assert found.apply(train).rows == 200


def test_rare_levels_are_not_stated(capsys, tmp_path):
    frame = shop(100, 1, ("Berlin", "Paris"))
    frame.loc[3, "city"] = "Atlantis"
    found, said = inferred(capsys, tmp_path, write_shop(tmp_path / "a.csv", frame), "--label", "bought", "--least", "5")
    assert found.fields[0].categories == ("Berlin", "Paris") and "Atlantis" not in said
    assert found.apply(frame).x[3, 2] == 1


@pytest.mark.parametrize(
    "values, kind",
    [
        (["1", "2", "NA"], "integer"),
        (["1.5", "2", "?"], "number"),
        (["T", "F", "T"], "boolean"),
        (["2020-01-01", "2020-01-02", ""], "date"),
        (["2020-01-01T10:00:00", "2020-01-02", ""], "datetime"),
        (["a", "b", "a"], "string"),
    ],
)
def test_types_are_proposed(capsys, tmp_path, values, kind):
    rows = [f"{value},{'yes' if k % 2 else 'no'}" for k, value in enumerate(values * 2)]
    (tmp_path / "a.csv").write_text("a,label\n" + "\n".join(rows) + "\n")
    found, _ = inferred(capsys, tmp_path, tmp_path / "a.csv")
    assert found.fields[0].type == kind and found.apply(tmp_path / "a.csv").rows == 6


def test_a_typed_table_and_other_targets_are_proposed(capsys, tmp_path):
    frame = FRAME.assign(member=np.arange(200) % 2 == 0, city=FRAME["city"].astype("category"))
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    found, _ = inferred(capsys, tmp_path, tmp_path / "a.parquet", "--label", "income")
    kinds = {field.name: field.type for field in found.fields}
    assert kinds["member"] == "boolean" and kinds["city"] == "string" and found.class_names is None
    assert found.target.minimum <= FRAME["income"].min() and FRAME["income"].max() <= found.target.maximum
    frame.assign(label=np.arange(200) % 3 + 1).to_parquet(tmp_path / "b.parquet", index=False)
    assert inferred(capsys, tmp_path, tmp_path / "b.parquet")[0].class_names == ("1", "2", "3")


def test_check_prints_sizes_or_all_faults(capsys, tmp_path, train):
    found, _ = inferred(capsys, tmp_path, train, "--label", "bought")
    recipe(["check", str(train), "--recipe", str(tmp_path / "recipe.yaml")])
    said = capsys.readouterr().out
    yes = int((FRAME["bought"] == "yes").sum())
    assert found.digest in said and "200 rows" in said and f"{200 - yes} no, {yes} yes" in said
    number = "fields: [{name: age, type: number, feature: {blank: {value: 0}}}, {name: y, type: number, constraints: "
    write_recipe(tmp_path / "number.yaml", number + "{minimum: 0, maximum: 9}}]\ntarget: y")
    FRAME[["age"]].assign(y=np.arange(200) % 7).to_parquet(tmp_path / "number.parquet")
    recipe(["check", str(tmp_path / "number.parquet"), "--recipe", str(tmp_path / "number.yaml")])
    assert "target y: from 0 to 6" in capsys.readouterr().out
    other = write_shop(tmp_path / "b.csv", FRAME.rename(columns={"age": "Age"}).assign(bought="perhaps"))
    with pytest.raises(InputError, match=r"(?s)'Age' is nearly the same.*target 'bought': 200 values are no boolean"):
        recipe(["check", str(other), "--recipe", str(tmp_path / "recipe.yaml")])


def test_show_prints_the_columns_and_the_digest(capsys, tmp_path, train):
    found, _ = inferred(capsys, tmp_path, train, "--label", "bought")
    recipe(["show", str(tmp_path / "recipe.yaml")])
    said = capsys.readouterr().out
    for words in ("city", "left out", "age is blank", "classes no, yes", found.digest):
        assert words in said
    recipe([])
    assert "usage: mpc-appraisal recipe infer" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["forget"], "got forget; expected one of infer, check, show"),
        (["infer"], "required: file"),
        (["infer", "{train}"], "--label: got 'label'; expected one of the columns"),
        (["infer", "{train}", "--label", "bougth"], r"perhaps --label bought"),
        (["infer", "{train}", "--round", "--ranges"], "not allowed with"),
        (["infer", "{train}", "--least", "0"], "--least: got 0; expected an integer of 1 or more"),
        (["infer", "none.csv"], "recipe infer: got none.csv; expected an existing file"),
        (["infer", "{train}", "--labels", "bought"], "unrecognized arguments"),
        (["check", "{train}"], "required: --recipe"),
        (["check", "{train}", "--recipe", "none"], "--recipe: got none; expected an existing .yaml file"),
        (["show"], "required: recipe"),
    ],
)
def test_bad_arguments_are_refused(train, arguments, words):
    with pytest.raises(InputError, match=words):
        recipe([each.format(train=train) for each in arguments])


def test_the_preflight_reads_raw_tables(capsys, tmp_path):
    stated = [f"{k}={write_shop(tmp_path / f'{k}.csv', shop(n, n))}" for k, n in (("train", 300), ("test", 200))]
    stated += [f"recipe={write_recipe(tmp_path / 'recipe.yaml')}", "quick=yes", "parts=3", "l2=0.1"]
    try:
        preflight(stated)
    except SystemExit as status:
        assert status.code == 1  # that a method is doubtful is no error here
    assert "influence" in capsys.readouterr().out
    with pytest.raises(InputError, match="label: got bought; expected no label= beside recipe="):
        preflight([*stated, "label=bought"])
