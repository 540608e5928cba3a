"""Which person a row is of: numbers by a column that is no feature, and errors that name a row and never a person."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mpc_appraisal import Recipe
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, files
from mpc_appraisal.data.groups import groups_of_file, numbered

WHO = ["ann", "bob", "ann", "007", "7", "bob", "Ann", "ann"]
NUMBERS = [0, 1, 0, 2, 3, 1, 4, 0]
RECIPE = """
fields:
- {name: age, type: number}
- {name: customer, type: string, missingValues: ['', 'n/a'], feature: {leave_out: true}}
- {name: city, type: string, categories: [Rome, Paris]}
- {name: bought, type: boolean, trueValues: ['yes'], falseValues: ['no']}
target: bought
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return Recipe.load(tmp_path / "recipe.yaml")


def shop(who=WHO) -> pd.DataFrame:
    rows = len(who)
    return pd.DataFrame(
        {
            "city": (["Rome", "Paris"] * rows)[:rows],
            "customer": who,
            "bought": (["yes", "no", "no"] * rows)[:rows],
            "age": np.arange(rows) + 30.0,
        }
    )


def dataset(rows: int = 8) -> Dataset:
    return Dataset(torch.arange(2.0 * rows).reshape(rows, 2), torch.zeros(rows).long(), 2, "shop")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_the_recipe_leaves_out_names_persons_and_is_no_feature(tmp_path, recipe, suffix):
    path = tmp_path / f"shop{suffix}"
    shop().to_csv(path, index=False) if suffix == ".csv" else shop().to_parquet(path, index=False)
    assert groups_of_file(path, "customer", 8, "party.data", recipe).tolist() == NUMBERS
    data = recipe.apply(path, "shop")
    assert data.columns == ("age", "city=Rome", "city=Paris") and data.groups is None
    with pytest.raises(InputError, match="party.data: got 8 rows with column 'customer'; expected 9"):
        groups_of_file(path, "customer", 9, "party.data", recipe)


def test_a_file_with_another_separator(tmp_path, recipe):
    path = tmp_path / "shop.csv"
    shop().to_csv(path, index=False, sep=";")
    (tmp_path / "other.yaml").write_text(RECIPE + "dialect: {delimiter: ';'}\n")
    other = Recipe.load(tmp_path / "other.yaml")
    assert groups_of_file(path, "customer", 8, "party.data", other).tolist() == NUMBERS


@pytest.mark.parametrize("values", [WHO, [5, 9, 5, 70, 71, 9, 0, 5]])
def test_an_array_beside_the_features_names_persons(tmp_path, values):
    path = tmp_path / "shop.npz"
    np.savez(path, x=np.ones((8, 2)), y=np.zeros(8, np.int64), customer=np.array(values))
    assert groups_of_file(path, "customer", 8, "party.data").tolist() == NUMBERS
    assert files.read_dataset(path).features == 2


def test_a_feature_a_target_and_a_plain_table_name_no_persons(tmp_path, recipe):
    path = tmp_path / "shop.csv"
    shop().to_csv(path, index=False)
    for column, what in (
        ("age", "a feature or the target"),
        ("bought", "a feature or the target"),
        ("who", "no column"),
    ):
        with pytest.raises(
            InputError, match=f"release.group: got '{column}', which is {what} of the recipe; .*leave_out"
        ):
            groups_of_file(path, column, 8, "party.data", recipe)
    with pytest.raises(InputError, match="release.group: got 'customer' for shop.csv; expected recipe= beside it"):
        groups_of_file(path, "customer", 8, "party.data")
    with pytest.raises(InputError, match="no columns 'customer'"):
        shop().drop(columns="customer").to_csv(path, index=False)
        groups_of_file(path, "customer", 8, "party.data", recipe)


@pytest.mark.parametrize("none", ["", "  ", "n/a"])
def test_a_row_without_a_person_is_named_and_no_person_is(tmp_path, recipe, none):
    path = tmp_path / "shop.csv"
    who = [*WHO]
    who[3] = who[6] = none
    shop(who).to_csv(path, index=False)
    with pytest.raises(InputError) as caught:
        groups_of_file(path, "customer", 8, "party.data", recipe)
    assert str(caught.value).startswith(
        "party.data: got 2 rows without a person in column 'customer': row 3, 6; expected"
    )
    assert not any(name in str(caught.value) for name in ("ann", "bob", "007", "n/a"))


def test_none_and_not_a_number_are_no_person():
    for none in (None, float("nan"), ""):
        with pytest.raises(InputError, match="data: got 1 row without a person in column 'who': row 1; expected"):
            numbered(["a", none, "b"], "who", "data")


def test_groups_go_with_their_rows(tmp_path, monkeypatch):
    data = dataset().grouped(torch.tensor(NUMBERS))
    customers = torch.tensor([10**15 + 7 * number for number in NUMBERS])  # numbers as a shop has them
    assert dataset().grouped(customers).groups.tolist() == NUMBERS
    assert data.subset([5, 0]).groups.tolist() == [1, 0] and data.renamed("b").groups is data.groups
    assert [block.groups.tolist() for block in data.blocks(3)] == [NUMBERS[:3], NUMBERS[3:6], NUMBERS[6:]]
    assert files.transformed(data, lambda x: 2 * x, 2).groups.tolist() == NUMBERS
    path = tmp_path / "shop.npz"
    np.savez(path, x=data.x.numpy(), y=data.y.numpy())
    monkeypatch.setattr(files, "STORED_BYTES", 1)
    stored = files.open_dataset(path).grouped(torch.tensor(NUMBERS))
    assert isinstance(stored, files.StoredDataset)
    other = files.transformed(stored, lambda x, groups: x + groups[:, None], 2, by_group=True)
    for block, start in zip(other.blocks(3), (0, 3, 6), strict=True):
        assert block.groups.tolist() == NUMBERS[start : start + 3]
        assert torch.equal(block.x.double(), data.x[start : start + 3].double() + block.groups[:, None])


@pytest.mark.parametrize("groups", [torch.zeros(7).long(), torch.zeros(8), -torch.ones(8).long()])
def test_what_is_no_number_for_each_row_is_refused(groups):
    with pytest.raises(InputError, match="shop: got groups of .*; expected groups in torch.int64 of shape"):
        dataset().grouped(groups)
