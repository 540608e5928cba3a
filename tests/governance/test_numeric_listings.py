"""A listing of data whose target is a number says so: name, unit and range in place of classes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.catalogue import matches, read_listing
from mpc_appraisal.governance.catalogue.listing import Listing, NumericTarget

RECIPE = """
fields:
  - {name: rooms, type: integer, feature: {mean: 3, scale: 1}}
  - {name: area, type: number, unit: m2}
  - {name: price, type: number, unit: EUR, constraints: {minimum: 0, maximum: 900}}
target: price
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, r = tmp_path_factory.mktemp("flats"), np.random.default_rng(0)
    area = np.round(r.uniform(20, 150, 80), 1)
    frame = pd.DataFrame({"rooms": r.integers(1, 6, 80), "area": area, "price": np.round(3 * area + 40, 1)})
    frame.to_csv(root / "flats.csv", index=False)
    (root / "recipe.yaml").write_text(RECIPE)
    out = [f"data={root / 'flats.csv'}", f"out={root / 'public'}"]
    catalogue(["publish", *out, "name=raw", f"recipe={root / 'recipe.yaml'}", "statistics=yes"])
    catalogue(["publish", *out, "name=plain", "label=price", "target=number", "unit=EUR", "columns=file"])
    np.savez(root / "flats.npz", x=frame[["rooms", "area"]].to_numpy(), y=frame["price"].to_numpy())
    catalogue(["publish", f"data={root / 'flats.npz'}", f"out={root / 'other'}", "name=npz", "target=number"])
    return root


def test_the_listing_states_name_unit_and_range(folder):
    raw, plain = (read_listing(folder / "public" / f"{name}.json") for name in ("raw", "plain"))
    assert raw.target == NumericTarget("price", "EUR", 0.0, 900.0) and raw.classes == 1
    assert plain.target == NumericTarget("price", "EUR") and plain.column_names == ("rooms", "area")
    assert raw.statistics.rows_by_class == (80,) and "class" not in raw.statistics.reveals
    assert read_listing(folder / "other" / "npz.json").target == NumericTarget("y")
    written = json.loads((folder / "public" / "plain.json").read_text())
    assert written["data"]["target"] == {"name": "price", "unit": "EUR"}
    assert not any(str(value) in plain.text() for value in (490.0, 100.5))


def test_it_is_shown_listed_found_and_checked(folder, capsys):
    catalogue(["list", f"in={folder / 'public'}"])
    catalogue(["show", "raw", f"in={folder / 'public'}"])
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("price, a number in EUR") >= 3 and "from 0 to 900" in said and "rows by class" not in said
    raw = read_listing(folder / "public" / "raw.json")
    for term, holds in (("target=price", True), ("target=age", False), ("classes>=1", False), ("EUR", True)):
        assert matches(raw, [term]) == holds, term
    check = ["check", f"listing={folder / 'public' / 'raw.json'}", f"data={folder / 'flats.csv'}"]
    catalogue([*check, f"recipe={folder / 'recipe.yaml'}"])
    catalogue(["check", f"listing={folder / 'public' / 'plain.json'}", f"data={folder / 'flats.csv'}", "label=price"])
    changed = (folder / "flats.csv").read_text().replace("price\n", "price\n", 1).splitlines()
    changed[1] = changed[1].rsplit(",", 1)[0] + ",1"
    (folder / "changed.csv").write_text("\n".join(changed) + "\n")
    secret = f"secret={folder / 'flats.csv.plain.salt'}"
    with pytest.raises(InputError, match="commitment.digest"):
        catalogue([*check[:1], f"listing={folder / 'public' / 'plain.json'}", f"data={folder / 'changed.csv'}",
                   "label=price", secret])  # fmt: skip


@pytest.mark.parametrize("stated, words", [
    (["target=number", "samples=real:3"], "samples: got real:3; expected no samples=, because the target is a number"),
    (["target=number", "class_names=a,b"], "class_names: got a,b; expected no class_names="),
    (["unit=EUR"], "unit: got EUR; expected target=number beside it"),
    (["target=price"], "target: got 'price'; expected one of classes, number"),
    (["target=number", "recipe=RECIPE"], "target: got number; expected no target= beside recipe="),
])  # fmt: skip
def test_what_does_not_fit_a_number_is_refused(folder, tmp_path, stated, words):
    stated = [each.replace("RECIPE", str(folder / "recipe.yaml")) for each in stated]
    where = [f"data={folder / 'flats.csv'}", "name=a", f"out={tmp_path}"]
    label = [] if any("recipe" in each for each in stated) else ["label=price"]
    with pytest.raises(InputError, match=words):
        catalogue(["publish", *where, *label, *stated])


def test_a_bad_target_in_a_file_is_refused(folder):
    content = json.loads((folder / "public" / "raw.json").read_text())
    for change, words in (
        ({"classes": 3}, "data.classes: got 3; expected an integer from 2 to 2147483647, or 1 beside data.target"),
        ({"target": {"name": "price", "minimum": 1.0}}, "data.target: got 1.0 to None; expected minimum below maximum"),
        ({"target": {"name": "price", "minimum": 9, "maximum": 1}}, "data.target: got 9 to 1"),
        ({"target": {"unit": "EUR"}}, "data.target"),
        ({"class_names": ["a"]}, "data.class_names: got stated; expected none, for a target that is a number"),
    ):
        with pytest.raises(InputError, match=words):
            Listing.of(content | {"data": content["data"] | change})
    del content["data"]["target"]
    with pytest.raises(InputError, match="data.classes: got 1"):
        Listing.of(content)
