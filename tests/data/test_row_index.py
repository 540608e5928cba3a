"""A row index among the features is refused by name, in the same words from each reader and from Python; a column that
is only called like one is a feature."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from rich.console import Console

from mpc_appraisal.appraisal.api import appraise
from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Sizes, StoredDataset, files, open_dataset
from mpc_appraisal.data.naming import named

ROWS = 7
A = [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
LABELS = [0, 1, 0, 1, 2, 0, 1]
READERS = ["csv", "parquet", "stored parquet", "npz", "stored npz", "frame", "data set", "names stated", "names stored"]
NAMES = ["index", "Index", "level_0", "row_nr", "rowname", "row_names", "...1"]
MADE_UP = ["Unnamed: 0", "unnamed: 0.1", "Unnamed: 0_level_0", "__index_level_0__", "__null_dask_index__"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(files, "STORED_BLOCK", 2)  # a column is looked at over several blocks


def read(reader, folder, columns, monkeypatch):
    """The features' columns as this reader gives them, or InputError."""
    names, x = list(columns), np.column_stack([np.asarray(values, float) for values in columns.values()])
    table = pd.DataFrame(columns).assign(label=LABELS)
    if reader in ("frame", "data set"):
        own = (table[names], LABELS) if reader == "frame" else Dataset.of(x, LABELS, columns=names)
        appraise(own, train=own, test=own, method="gradient_norm", session="plain", l2=0.1)
        return names
    if "stored" in reader:
        monkeypatch.setattr(files, "STORED_BYTES", 0)
    suffix = "npz" if "n" in reader.split()[-1][:1] or "names" in reader else reader.split()[-1]
    path = folder / f"d.{suffix}"
    if suffix == "npz":
        stated = {} if "names" in reader else {"columns": np.array(names)}
        np.savez(path, x=x, y=LABELS, **stated)
    elif suffix == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    data = open_dataset(path, name="data")
    assert isinstance(data, StoredDataset) == ("stored" in reader)
    return list((named(data, names, None, "data") if "names" in reader else data).columns)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("reader", READERS)
def test_row_numbers_under_the_name_of_an_index_are_refused(tmp_path, monkeypatch, reader, first):
    numbers = np.arange(ROWS) + first
    with pytest.raises(InputError) as error:
        read(reader, tmp_path, {"a": A, "index": numbers}, monkeypatch)
    shown = f"a column 'index', which numbers the rows: {first}, {first + 1}, {first + 2}, ..."
    assert error.value.value == shown and "index=False" in error.value.expected
    assert error.value.name in ("data", "train") and str(numbers[2]) not in error.value.public


@pytest.mark.parametrize("name", NAMES)
def test_each_name_that_programs_give_an_index(tmp_path, monkeypatch, name):
    for reader in ("csv", "stored parquet", "frame"):
        with pytest.raises(InputError, match="which numbers the rows: 0, 1, 2, ..."):
            read(reader, tmp_path, {name: np.arange(ROWS), "a": A}, monkeypatch)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("values", ["another order", "a gap", "from 2", "halves", "the last differs"])
def test_other_values_are_a_feature(tmp_path, monkeypatch, reader, values):
    numbers = np.arange(ROWS, dtype=float)
    taken = {
        "another order": numbers[::-1],
        "a gap": np.where(numbers < 3, numbers, numbers + 1),
        "from 2": numbers + 2,
        "halves": numbers / 2,
        "the last differs": np.where(numbers < ROWS - 1, numbers, 0.0),
    }[values]
    assert read(reader, tmp_path, {"index": taken, "a": A}, monkeypatch) == ["index", "a"]


@pytest.mark.parametrize("name", ["day", "indexed", "my index", "id"])
def test_row_numbers_under_another_name_are_a_feature(tmp_path, monkeypatch, name):
    for reader in ("csv", "stored parquet", "frame"):
        assert read(reader, tmp_path, {name: np.arange(ROWS), "a": A}, monkeypatch) == [name, "a"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", MADE_UP)
def test_names_made_up_for_an_index_are_refused_whatever_is_in_them(tmp_path, monkeypatch, reader, name):
    with pytest.raises(InputError) as error:
        read(reader, tmp_path, {"a": A, name: A[::-1]}, monkeypatch)
    assert error.value.value.startswith(f"a column {name!r}, which is how a table program names a row index")


def test_float32_rows_are_compared_as_float32_holds_them():
    numbers = (np.arange(3) + 2**24).astype(np.float32)
    looked = files.Faults("data", None, None, ("index",))
    looked._numbers._rows = 2**24
    looked.add(numbers[:, None], np.zeros(3, int))
    with pytest.raises(InputError, match="which numbers the rows"):
        looked._numbers.check()


# --- an index that pandas keeps apart from the columns ---------------------------------------------------------------

INDICES = {
    "numbers": (pd.Index([7, 9, 8]), ["__index_level_0__"], "7, 9, 8, ..."),
    "named": (pd.Index([30.0, 41.0, 52.0], name="age"), ["age"], "30.0, 41.0, 52.0, ..."),
    "texts": (pd.Index(["x\x1b", "y", "z"], name="key"), ["key"], "y, z, ..."),
    "days": (pd.DatetimeIndex(["2024-01-01"] * 3, name="day"), ["day"], "2024-01-01"),
    "two": (pd.MultiIndex.from_arrays([[1, 1, 2], [2] * 3], names=["u", None]), ["u", "__index_level_1__"], "1"),
    "called index": (pd.Index([5, 4, 3], name="index"), ["index"], "5, 4, 3, ..."),
}  # fmt: skip


@pytest.fixture(params=["whole", "stored"])
def way(request, monkeypatch):
    monkeypatch.setattr(files, "STORED_BYTES", 0 if request.param == "stored" else 1 << 26)


@pytest.mark.parametrize("case", INDICES)
def test_an_index_that_pandas_wrote_as_columns_is_refused(tmp_path, way, case):
    index, columns, begins = INDICES[case]
    path = tmp_path / "d.parquet"
    pd.DataFrame({"a": A[:3], "label": LABELS[:3]}, index=index).to_parquet(path)
    with pytest.raises(InputError) as error:
        open_dataset(path)
    shown = str(error.value)
    assert ", ".join(map(repr, columns)) in shown and "which pandas wrote as the index of the rows" in shown
    assert begins in shown and "index=False" in shown and "\x1b" not in shown
    with pytest.raises(InputError, match=r"index of the rows;"):  # nothing of a stranger's file is unpacked for it
        open_dataset(path, sizes=Sizes(3, 1, "listing d"))


def test_an_index_of_row_numbers_that_was_written_as_a_column_is_refused(tmp_path, way):
    pd.DataFrame({"a": A, "label": LABELS}).to_parquet(tmp_path / "d.parquet", index=True)
    with pytest.raises(InputError, match=r"a column '__index_level_0__', which pandas wrote .* \(0, 1, 2, ...\)"):
        open_dataset(tmp_path / "d.parquet")


def test_a_label_in_the_index_is_refused_as_an_index(tmp_path, way):
    pd.DataFrame({"a": A, "label": LABELS}).set_index("label").to_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match="a column 'label', which pandas wrote as the index of the rows"):
        open_dataset(tmp_path / "d.parquet")


@pytest.mark.parametrize("index", [None, pd.RangeIndex(7, 7 + 2 * ROWS, 2), pd.RangeIndex(ROWS, name="index")])
def test_a_range_in_the_metadata_carries_nothing(tmp_path, way, index):
    pd.DataFrame({"a": A, "label": LABELS}, index=index).to_parquet(tmp_path / "d.parquet")
    data = open_dataset(tmp_path / "d.parquet")
    assert data.columns == ("a",)
    assert torch.cat([block.x.double() for block in data.blocks(2)])[:, 0].tolist() == A


@pytest.mark.parametrize("stated", ["gone", {"index_columns": 5}, {"index_columns": [5, None, {}]}, [1], "{", {}])
def test_metadata_that_name_no_column_of_the_file(tmp_path, way, stated):
    text = json.dumps({"index_columns": ["gone"]} if stated == "gone" else stated) if stated != "{" else "{"
    table = pa.table({"a": A, "label": LABELS}).replace_schema_metadata({"pandas": text})
    parquet.write_table(table, tmp_path / "d.parquet")
    assert open_dataset(tmp_path / "d.parquet").columns == ("a",)


def test_a_listing_with_a_column_called_index_goes_on_checking(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    columns = {"index": [103.5, 99.0, 101.25] * 4, "a": range(12), "label": [0, 1, 2] * 4}
    pd.DataFrame(columns).to_csv("d.csv", index=False)
    console = Console(width=200)
    catalogue(["publish", "data=d.csv", "name=prices", "title=Prices", "columns=file"], console)
    catalogue(["check", "listing=catalogue/prices.json", "data=d.csv"], console)
    assert "the data are those of listing prices" in capsys.readouterr().out
