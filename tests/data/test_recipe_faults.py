"""All that is wrong with a table is named at once: by column, with the first rows that show it and what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from shop import RECIPE, shop
from test_recipe import of, of_field

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import StoredDataset, files

STRICT = RECIPE.replace("feature: {unknown: other, blank: {value: null}}", "").replace(", blank: {value: 25000}", "")
BAD = """city,Age,income,extra,bought
Berlin,1,12.5,0,yes
Bern,2,"1,5",0,no
Paris,3,,0,maybe
,4,lots,0,yes
Rome,5
Bern,6,1,0,
Oslo,7,1e999,0,no
Oslo,7,0x10,0,no
"""
EXPECTED = (
    "column 'age' is missing; 'Age' is nearly the same: rename it",
    "'extra' is no column of the recipe; remove, or state with feature.leave_out: true",
    "a row is longer or shorter than the header (line 6 has 2)",
    "column 'city': 4 values are outside its categories: 'Bern' in row 1 (line 3), 'Bern' in row 4 (line 7), 'Oslo' in "
    "row 5 (line 8), ...; write one of 'Berlin', 'Paris', 'Rome', or state feature.unknown: other or zeros",
    "column 'city': 1 value is blank: row 3 (line 5); fill them, or state feature.blank in the recipe",
    "column 'income': 4 values are no number: '1,5' in row 1 (line 3), 'lots' in row 3 (line 5), '1e999' in row 5 "
    "(line 8), ...; write digits with '.' for decimals, or add the text to missingValues",
    "column 'income': 1 value is blank: row 2 (line 4)",
    "target 'bought': 1 value is no boolean: 'maybe' in row 2 (line 4); write one of 'yes', 'no'",
    "target 'bought': 1 value is blank: row 4 (line 7); remove these rows",
)


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    assert error.value.public == "bad input in party.data"  # nothing of a row goes to the other parties
    return str(error.value)


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_everything_is_named_at_once_whatever_the_size_of_a_block(tmp_path, monkeypatch, block):
    monkeypatch.setattr(files, "STORED_BLOCK", block)
    (tmp_path / "a.csv").write_text(BAD)
    recipe = of(STRICT)
    found = refused(lambda: recipe.apply(tmp_path / "a.csv", "party.data"))
    for line in EXPECTED:
        assert f"\n  {line}" in found, (line, found)
    assert f"finds {len(EXPECTED)} faults" in found and found.count("\n") == len(EXPECTED)
    stored = refused(lambda: StoredDataset(tmp_path / "a.csv", "label", None, "party.data", None, recipe))
    assert stored == found


def test_parquet_and_npz_name_the_same_rows(tmp_path):
    frame = shop(40, 3, ("Berlin", "Oslo", None))
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    texts = frame.astype(object).where(frame.notna(), "").map(str)
    np.savez(tmp_path / "a.npz", **{name: np.array(texts[name].tolist()) for name in texts})
    recipe, seen = of(STRICT), set()
    for name in ("a.csv", "a.parquet", "a.npz"):
        found = refused(lambda path=tmp_path / name: recipe.apply(path, "party.data"))
        lines = found.split("\n")[1:]
        seen.add("\n".join(line.split(" (line")[0].split(":")[0] for line in lines))
        first = int(np.flatnonzero(frame["city"] == "Oslo")[0])
        assert f"'Oslo' in row {first}" in found and len(lines) == 3
    assert len(seen) == 1


@pytest.mark.parametrize(
    "field, column, words",
    [
        ("{name: a, type: number}", pa.array([True, False]), "holds booleans; write it as number, or state type: bool"),
        ("{name: a, type: number}", pa.array([1, 2], pa.timestamp("s")), "state type: date or datetime"),
        ("{name: a, type: string, categories: [a]}", pa.array([True, None]), "holds booleans; write it as string"),
        ("{name: a, type: number}", pa.array([[1], [2]]), "holds list<"),
        ("{name: a, type: number}", pa.array([{"b": 1}, {"b": 2}]), "holds struct<"),
        ("{name: a, type: number}", pa.array([b"a", b"b"]), "holds binary; write numbers, texts"),
        ("{name: a, type: date}", pa.array([1, 2], pa.time64("us")), "holds time64"),
        ("{name: a, type: number}", pa.array([1, 2], pa.duration("s")), "holds duration"),
        ("{name: a, type: date}", pa.array([1, 86400], pa.timestamp("s")), "no date: '1970-01-01 00:00:01' in row 0"),
        ("{name: a, type: datetime}", pa.array([1, 1000], pa.timestamp("ns")), "1 value is no datetime"),
        ("{name: a, type: integer}", pa.array([1.5, 2.0]), "1 value is no integer: '1.5' in row 0; write digits, or"),
        ("{name: a, type: number}", pa.array([float("inf"), 2.0]), "1 value is no number"),
        ("{name: a, type: number}", pa.array([float("nan"), 2.0]), "1 value is blank: row 0"),
        ("{name: a, type: number, constraints: {maximum: 3}}", pa.array([4, 2]), "outside its range open to 3: '4'"),
    ],
)  # fmt: skip
def test_a_column_of_another_type_is_refused_by_name(tmp_path, field, column, words):
    parquet.write_table(pa.table({"a": column, "y": [True, False]}), tmp_path / "a.parquet")
    found = refused(lambda: of_field(field).apply(tmp_path / "a.parquet", "party.data"))
    assert "column 'a'" in found and words in found


def test_a_frame_of_mixed_objects_is_refused_by_name():
    frame = pd.DataFrame({"a": [1, "x"], "y": [True, False]})
    found = refused(lambda: of_field("{name: a, type: number}").apply(frame, "party.data"))
    assert "column 'a' holds object of different kinds" in found


def test_no_rows_a_repeated_name_and_other_separators_are_refused(tmp_path):
    recipe = of_field("{name: a, type: number}")
    for text, words in (
        ("a,y\n", "with no rows"),
        ("", "with no rows"),
        ("a;y\n1;true\n", "separated by ';'"),
        ("a,y,a\n1,true,2\n", "'a' stands more than once in the header"),
        ("b\n1\n", "column 'y' is missing"),
    ):
        (tmp_path / "a.csv").write_text(text)
        assert words in refused(lambda: recipe.apply(tmp_path / "a.csv", "party.data"))
    assert "no rows" in refused(lambda: recipe.apply(pd.DataFrame({"a": [], "y": []}), "party.data"))
