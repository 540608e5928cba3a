"""A recipe makes the features that numpy makes by hand, to the bit, whatever format the rows are in."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from shop import COLUMNS, RECIPE, by_hand, shop

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Recipe, StoredDataset, files, open_dataset
from mpc_appraisal.data.recipe.yaml_text import read_yaml
from mpc_appraisal.governance.catalogue import commit

SALT = bytes(32)


def of(text: str) -> Recipe:
    return Recipe.of(read_yaml(text))


def of_field(field: str, target: str = "{name: y, type: boolean}") -> Recipe:
    return of(f"fields: [{field}, {target}]\ntarget: y")


@pytest.fixture(scope="module")
def recipe():
    return of(RECIPE)


def test_features_are_those_made_by_hand(recipe):
    frame = shop(300, 0)
    data, (x, y) = recipe.apply(frame), by_hand(frame)
    assert np.array_equal(data.x.numpy(), x) and np.array_equal(data.y.numpy(), y)
    assert data.columns == COLUMNS and data.class_names == ("no", "yes") and data.classes == 2
    assert frame["age"].isna().any() and frame["city"].isna().any() and (frame["city"] == "Oslo").any()


def all_formats(frame: pd.DataFrame, folder) -> list:
    """The same rows in every format, with the column order of each changed."""
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "a.csv", index=False)
    frame[frame.columns[::-1]].to_csv(folder / "reversed.csv", index=False, na_rep="NA")
    frame.to_parquet(folder / "a.parquet", index=False)
    coded = frame.assign(city=frame["city"].astype("category"), bought=frame["bought"].astype("category"))
    coded.to_parquet(folder / "dictionary.parquet", index=False)
    texts = frame.astype(object).where(frame.notna(), "").map(str)
    table = pa.table({name: pa.array(texts[name].tolist(), pa.large_string()) for name in texts})
    parquet.write_table(table, folder / "texts.parquet")
    np.savez(folder / "named.npz", **{name: np.array(texts[name].tolist()) for name in texts})
    x = np.array([texts[name].tolist() for name in ("city", "age", "income")]).T
    names, y = ["city", "age", "income"], (frame["bought"] == "yes").to_numpy().astype(int)
    np.savez(folder / "x.npz", x=x, y=y, columns=names, class_names=["no", "yes"])
    np.savez(folder / "columns.npz", x=np.asfortranarray(x), y=np.array(texts["bought"].tolist()), columns=names)
    kind = [(name, np.array(texts[name].tolist()).dtype) for name in texts]
    np.savez(folder / "structured.npz", table=np.array(list(map(tuple, texts.to_numpy())), dtype=kind))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("seed", range(4))
def test_every_format_gives_one_commitment_small_and_stored(recipe, tmp_path, monkeypatch, seed):
    frame = shop(int(np.random.default_rng(seed).integers(1, 90)), seed)
    expected = commit(recipe.apply(frame), SALT)
    paths = all_formats(frame, tmp_path / "formats")
    assert len(paths) == 9
    for path in paths:
        assert commit(recipe.apply(path), SALT) == expected, path.name
    monkeypatch.setattr(files, "STORED_BYTES", 0)
    monkeypatch.setattr(files, "STORED_BLOCK", 7)
    for path in paths:
        stored = open_dataset(path, recipe=recipe)
        assert isinstance(stored, StoredDataset) and commit(stored, SALT) == expected, path.name
        blocks = list(stored.blocks(11))
        assert np.array_equal(np.concatenate([b.x.numpy() for b in blocks]), by_hand(frame)[0])


@pytest.mark.parametrize(
    "field, typed, texts, expected",
    [
        ("{name: a, type: number}", pa.array([Decimal("1.10"), None, Decimal("-3.00")]), ["1.10", "", "-3.00"], None),
        ("{name: a, type: number}", pa.array([0.1, None, -0.0]), ["0.1", "", "-0"], [0.1, 7, 0]),
        ("{name: a, type: number}", pa.array([2**53 + 1, None, 2**62 + 1]), [str(2**53 + 1), "", str(2**62 + 1)], None),
        ("{name: a, type: integer}", pa.array([3.0, None, 4.0]), ["3", "", "4.0"], [3, 7, 4]),
        ("{name: a, type: number}", pa.array([-99, 1, 2]), ["-99.0", "1", "2"], [7, 1, 2]),
        ("{name: a, type: boolean}", pa.array([True, None, False]), ["True", "", "False"], [1, 1, 0]),
        ("{name: a, type: boolean}", pa.array([1, None, 0]), ["1", "", "0"], [1, 1, 0]),
        ("{name: a, type: string, categories: [x, y]}", pa.array(["y", None, " x "]), ["y", "", "x"], None),
        ("{name: a, type: integer, categories: [1, 2]}", pa.array([2.0, None, 1.0]), ["2", "", "1"], None),
        (
            "{name: a, type: date}",
            pa.array([datetime.date(1970, 1, 11), None, datetime.date(1969, 12, 31)]),
            ["1970-01-11", "", "1969-12-31"],
            [10, 0, -1],
        ),  # fmt: skip
        (
            "{name: a, type: datetime}",
            pa.array([43_200_000_001, None, -1], pa.timestamp("us")),
            ["1970-01-01T12:00:00.000001", "", "1969-12-31 23:59:59.999999Z"],
            None,
        ),  # fmt: skip
        (
            "{name: a, type: datetime}",
            pa.array([3_600_000_000_000, None, 0], pa.timestamp("ns", "Europe/Paris")),
            ["1970-01-01T02:00:00+01:00", "", "1970-01-01"],
            [1 / 24, 0, 0],
        ),  # fmt: skip
        ("{name: a, type: integer, categories: [1, 2]}", pa.array([2, None, 1]), ["2.0", "", "1.00"], None),
        ("{name: a, type: string, categories: ['1', '02']}", pa.array(["02", None, "1"]), ["02", "", "1.0"], None),
        ("{name: a, type: string, categories: ['1', '2']}", pa.array([2.0, -99.0, 1.0]), ["2.0", "-99.0", "1"], None),
        ("{name: a, type: boolean}", pa.array([1.0, float("nan"), 0.0]), ["1.0", "", "0.0"], [1, 1, 0]),
        ("{name: a, type: date}", pa.array([None, None, None]), ["", "", ""], [0, 0, 0]),
    ],
)
def test_a_typed_column_means_the_same_as_its_texts(field, typed, texts, expected, tmp_path):
    kind = read_yaml(field)
    value = {"boolean": "true", "date": "1970-01-01", "datetime": "1970-01-01"}.get(kind["type"], "7")
    value = "null" if "categories" in kind else value
    field = field[:-1] + f", missingValues: ['', '-99'], feature: {{blank: {{value: {value}, indicator: true}}}}}}"
    recipe = of_field(field)
    parquet.write_table(pa.table({"a": typed, "y": [True, False, True]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("y,a\n" + "".join(f'{y},"{a}"\n' for y, a in zip((1, 0, 1), texts, strict=True)))
    one, two = recipe.apply(tmp_path / "a.parquet"), recipe.apply(tmp_path / "a.csv")
    assert one.x.numpy().tobytes() == two.x.numpy().tobytes()
    blank = [float(text in ("", "-99", "-99.0")) for text in texts]
    assert one.x[:, -1].tolist() == blank
    if expected is not None:
        assert one.x[:, 0].tolist() == expected


def test_numbers_and_dates_are_read_as_the_field_states():
    recipe = of_field('{name: a, type: number, decimalChar: ",", groupChar: "."}')
    frame = pd.DataFrame({"a": ["1.234,5", "-7", " 0,25 "], "y": [True, False, True]})
    assert recipe.apply(frame).x[:, 0].tolist() == [1234.5, -7, 0.25]
    recipe = of_field("{name: a, type: date, format: '%d.%m.%Y', feature: {mean: 10, scale: 4}}")
    frame["a"] = ["31.01.1970", "01.02.1970", "11.01.1970"]
    assert recipe.apply(frame).x[:, 0].tolist() == [5.0, 5.25, 0.0]


def test_a_column_that_is_left_out_may_be_there_or_not():
    recipe = of_field("{name: id, type: string, feature: {leave_out: true}}, {name: a, type: number}")
    frame = pd.DataFrame({"a": [1.0, 2.0], "y": [True, False], "id": [object(), object()]})
    assert recipe.columns == ("a",)
    assert recipe.apply(frame).x.tolist() == recipe.apply(frame.drop(columns="id")).x.tolist() == [[1.0], [2.0]]


def test_classes_have_the_order_of_the_recipe_in_every_format(tmp_path):
    recipe = of("fields: [{name: a, type: number}, {name: y, type: string, categories: [c, a, b]}]\ntarget: y")
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "y": ["a", "b", "c"]})
    assert recipe.apply(frame).y.tolist() == [1, 2, 0]
    np.savez(tmp_path / "a.npz", x=frame[["a"]], y=[0, 1, 2], columns=["a"], class_names=["a", "b", "c"])
    assert recipe.apply(tmp_path / "a.npz").y.tolist() == [1, 2, 0]
    whole = of("fields: [{name: a, type: number}, {name: y, type: integer, categories: [1, 0]}]\ntarget: y")
    np.savez(tmp_path / "b.npz", x=frame[["a"]], y=[0, 1, 1], columns=["a"])
    assert whole.apply(tmp_path / "b.npz").y.tolist() == [1, 0, 0] and whole.class_names == ("1", "0")


def test_a_numeric_target_is_read_and_refused_where_classes_are_needed():
    text = (
        "fields: [{name: a, type: number}, {name: y, type: number, constraints: {minimum: 0, maximum: 9}}]\ntarget: y"
    )
    recipe, frame = of(text), pd.DataFrame({"a": [1.0, 2.0], "y": [0.5, 9.0]})
    x, y = recipe.arrays(frame)
    assert x.tolist() == [[1.0], [2.0]] and y.tolist() == [0.5, 9.0]
    with pytest.raises(
        InputError, match="party.data: recipe: got a recipe whose target 'y' is a number; expected a tar"
    ):
        recipe.apply(frame, "party.data")
    with pytest.raises(InputError, match="target 'y': 1 value is outside its range 0 to 9: '10' in row 1"):
        recipe.arrays(frame.assign(y=[1, 10]))


NUMBER = "{name: y, type: number, constraints: {minimum: 0, maximum: 9}}"
THREE = "{name: y, type: string, categories: [a, b, c]}"
OTHER_KINDS = {
    (NUMBER, "two"): "target 'y' is a number; expected a boolean, or two categories",
    (THREE, "two"): "target 'y' has 3 classes; expected a boolean, or two categories",
    (THREE, "number"): "target 'y' has 3 classes; expected a number",
    (NUMBER, "ratio"): "target: got .*ratio.*; expected one of",
}


@pytest.mark.parametrize(("target", "values", "kind", "numbers"), [
    (NUMBER, [0.5, 9.0, -0.0], "number", [0.5, 9.0, 0.0]),
    ("{name: y, type: boolean}", [True, False, True], "two", [1, 0, 1]),
    ("{name: y, type: string, categories: [good, bad]}", ["bad", "good", "good"], "two", [1, 0, 0]),
])  # fmt: skip
def test_a_target_of_the_kind_that_the_model_takes(tmp_path, monkeypatch, target, values, kind, numbers):
    recipe, frame = of_field("{name: a, type: number}", target), pd.DataFrame({"a": [1.0, 2.0, 3.0], "y": values})
    frame.to_csv(tmp_path / "a.csv", index=False)
    for source in (frame, tmp_path / "a.csv"):
        data = recipe.apply(source, target=kind)
        assert data.y.tolist() == numbers and data.columns == ("a",) and data.class_names == recipe.class_names
        assert data.numeric == (kind == "number") and data.classes == (1 if kind == "number" else 2)
    monkeypatch.setattr(files, "STORED_BYTES", 0)
    stored = recipe.open(tmp_path / "a.csv", target=kind)
    assert isinstance(stored, StoredDataset) and stored.numeric == data.numeric and stored.classes == data.classes
    assert [one for block in stored.blocks(2) for one in block.y.tolist()] == numbers
    assert commit(stored, SALT) == commit(data, SALT)


@pytest.mark.parametrize(("target", "kind"), OTHER_KINDS)
def test_a_target_of_another_kind_than_the_models_is_refused(tmp_path, target, kind):
    (tmp_path / "a.csv").write_text("a,y\n1,1\n")
    for make in (of_field("{name: a, type: number}", target).apply, of_field("{name: a, type: number}", target).open):
        with pytest.raises(InputError, match=f"party.data: .*{OTHER_KINDS[target, kind]}"):
            make(tmp_path / "a.csv", "party.data", kind)


def test_many_columns_go_through_together():
    fields = ", ".join(f"{{name: p{k}, type: number, feature: {{mean: {k}, scale: 2, bits: 3}}}}" for k in range(400))
    x = np.random.default_rng(0).normal(size=(50, 400))
    frame = pd.DataFrame(x, columns=[f"p{k}" for k in range(400)]).assign(y=np.arange(50) % 2 == 0)
    found = of_field(fields).apply(frame).x.numpy()
    assert np.array_equal(found, np.round((x - np.arange(400)) / 2 * 8) / 8 + 0.0)


def test_a_foreign_npz_is_refused_and_nothing_is_unpickled(tmp_path):
    recipe = of_field("{name: a, type: number}")
    np.savez(tmp_path / "a.npz", a=np.array([1, "x"], dtype=object), y=[1, 0])
    np.savez(tmp_path / "b.npz", a=[1.0, 2.0], y=[1])
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 2)), y=[1, 0], columns=["a"])
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 1)), y=[1, 2], columns=["a"], class_names=["0", "1"])
    np.savez(tmp_path / "e.npz", a=np.zeros((2, 2)), y=[1, 0])
    for name, words in zip("abcde", ("Python objects", "lengths", "1 names", "outside its 2", "shape"), strict=True):
        with pytest.raises(InputError, match=words):
            recipe.apply(tmp_path / f"{name}.npz")
