"""One set of rules for a party's files: each table is taken, or refused in the same words, whatever its size is.

`STORED_BYTES` is set to 0 so that small files take the way of large ones.
"""

import io
import zipfile
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from mpc_appraisal.appraisal.api import appraise
from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.inputs import read_own
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.data import Dataset, Sizes, StoredDataset, check_gaps, check_kind, files, open_dataset
from mpc_appraisal.models.softmax_regression import SoftmaxRegression

LABELS = [0, 1, 2]
F = [0.5, 1.5, 2.5]


def column(values, kind=None):
    return pa.array(values, kind)


ACCEPTED = {
    "doubles": (column(F), F),
    "float32": (column(F, pa.float32()), F),
    "float16": (pa.array(np.array(F, np.float16)), F),
    "integers": (column([1, 2, 3]), [1, 2, 3]),
    "small integers": (column([1, 2, 255], pa.uint8()), [1, 2, 255]),
    "beyond 2^53": (column([2**53 + 1, 2**60, 3]), [2.0**53, 2.0**60, 3]),
    "unsigned": (column([2**64 - 1, 1, 2], pa.uint64()), [2.0**64, 1, 2]),
    "booleans": (column([True, False, True]), [1, 0, 1]),
    "categories that are numbers": (column([7, 8, 7]).dictionary_encode(), [7, 8, 7]),
}
NAN = "1 values of x that are NaN or infinite, the first in row 1"
REFUSED = {
    "text": (column(["00731", "00732", "00733"]), "non-numeric columns a (string)"),
    "timestamps": (column([datetime(2024, 1, 1)] * 3), "non-numeric columns a (timestamp[us])"),
    "dates": (column([date(2024, 1, 1)] * 3), "non-numeric columns a (date32[day])"),
    "decimals": (column([Decimal("1.5")] * 3), "non-numeric columns a (decimal128(2, 1))"),
    "categories": (column(["x", "y", "x"]).dictionary_encode(), "non-numeric columns a (dictionary<"),
    "lists": (column([[1.0], [2.0], [3.0]]), "non-numeric columns a (list<"),
    "structures": (column([{"b": 1}] * 3), "non-numeric columns a (struct<"),
    "no type": (pa.nulls(3), "non-numeric columns a (null)"),
    "null among doubles": (column([0.5, None, 1.5]), NAN),
    "null among integers": (column([1, None, 2]), NAN),
    "null among booleans": (column([True, None, False]), NAN),
    "NaN": (column([0.5, float("nan"), 1.5]), NAN),
    "infinity": (column([0.5, float("inf"), 1.5]), NAN),
}


@pytest.fixture(params=["whole", "stored"])
def way(request, monkeypatch):
    monkeypatch.setattr(files, "STORED_BYTES", 0 if request.param == "stored" else 1 << 26)
    monkeypatch.setattr(files, "STORED_BLOCK", 2)  # a fault in the second block is counted with the first
    return request.param


def write(path, *columns, names=("a", "label")):
    table = pa.Table.from_arrays([*columns], names=list(names))
    parquet.write_table(table, path)
    return path


def rows(data) -> list:
    assert data.columns == ("a",)
    return torch.cat([block.x.double() for block in data.blocks(2)])[:, 0].tolist()


@pytest.mark.parametrize("case", ACCEPTED)
def test_parquet_types_that_are_taken(tmp_path, way, case):
    values, expected = ACCEPTED[case]
    data = open_dataset(write(tmp_path / "d.parquet", values, pa.array(LABELS)))
    assert isinstance(data, StoredDataset) == (way == "stored")
    assert rows(data) == expected and data.classes == 3


@pytest.mark.parametrize("case", REFUSED)
def test_parquet_types_that_are_refused(tmp_path, way, case):
    values, expected = REFUSED[case]
    with pytest.raises(InputError) as error:
        open_dataset(write(tmp_path / "d.parquet", values, pa.array(LABELS)))
    assert error.value.name == "party.data" and error.value.value.startswith(expected)


@pytest.mark.parametrize(
    "labels, expected",
    [
        ([0.0, 0.5, 1.5], "2 labels that are not integers, the first is 0.5 in row 1"),
        ([0, -1, -2], "2 labels out of range, the first is -1 in row 1"),
        ([0, None, 1], "1 labels that are not integers, the first is nan in row 1"),
        (["a", "b", "c"], "non-numeric columns label (string)"),
    ],
)
def test_labels_are_refused_in_the_same_words(tmp_path, way, labels, expected):
    with pytest.raises(InputError) as error:
        open_dataset(write(tmp_path / "d.parquet", pa.array(F), pa.array(labels)))
    assert error.value.value == expected


HEADERS = {
    "repeated": (("a", "a", "label"), "columns 'a', 'a', 'label'"),
    "empty": (("", "a", "label"), "columns '', 'a', 'label'"),
    "no label": (("a", "b", "c"), "{path} without a column 'label' (its columns are 'a', 'b', 'c')"),
    "two labels": (("a", "label", "label"), "{path} with 2 columns 'label' (its columns are 'a', 'label', 'label')"),
}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("case", HEADERS)
def test_headers_are_refused_in_the_same_words(tmp_path, way, case, suffix):
    names, expected = HEADERS[case]
    path = tmp_path / f"d.{suffix}"
    if suffix == "csv":
        path.write_text(",".join(names) + "\n1,2,0\n3,4,1\n")
    else:
        write(path, *[pa.array(LABELS)] * 3, names=names)
    with pytest.raises(InputError) as error:
        open_dataset(path)
    assert error.value.value == expected.format(path=path)


ONLY = {
    "a number": ("7", "label", "without a column 'label' (its only column is '7')"),
    "a label that YAML reads as a number": ("a", 7, "without a column '7' (its only column is 'a')"),
    "words": ("heart rate", "label", "without a column 'label' (its only column is 'heart rate')"),
    "semicolons": ("a;b;label", "label", "with fields separated by ';'"),
    "spaces": ("a b label", "label", "with fields separated by ' '"),
    "the label alone": ("label", "label", "with no features"),
}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("case", ONLY)
def test_a_table_of_one_column_is_told_apart_from_one_that_is_separated_otherwise(tmp_path, way, case, suffix):
    only, label, expected = ONLY[case]
    path = tmp_path / f"d.{suffix}"
    if suffix == "csv":
        path.write_text(f'"{only}"\n1\n2\n')
    else:
        write(path, pa.array(LABELS), names=(only,))
    with pytest.raises(InputError) as error:
        open_dataset(path, label)
    assert error.value.value == f"{path} {expected}"
    if "without" in expected:
        assert error.value.expected == f"one label column named '{label}', as party.label, or label=, says"


def test_a_folder_of_the_path_adds_no_column(tmp_path, way):
    (tmp_path / "year=2024").mkdir()
    assert rows(open_dataset(write(tmp_path / "year=2024" / "d.parquet", pa.array(F), pa.array(LABELS)))) == F
    with pytest.raises(InputError, match="year=2024, a folder; expected an existing file"):
        open_dataset(tmp_path / "year=2024")


ARRAYS = {
    "images": ({"x": np.arange(12.0).reshape(3, 2, 2)}, None),
    "by columns": ({"x": np.asfortranarray(np.arange(12.0).reshape(3, 4))}, None),
    "one dimension": ({"x": np.ones(3)}, "x with two dimensions"),
    "labels of two dimensions": ({"y": np.ones((3, 1))}, "one label a row"),
    "more labels": ({"y": np.zeros(4)}, "as many labels as rows"),
    "text": ({"x": np.array([["a"]] * 3)}, "real numbers only"),
    "text labels": ({"y": np.array(["a"] * 3)}, "real numbers only"),
    "complex": ({"x": np.ones((3, 1)) * 1j}, "real numbers only"),
    "objects": ({"x": np.array([[{}]] * 3, dtype=object)}, "a readable .npz file of numbers"),
    "object labels": ({"y": np.array([{}] * 3, dtype=object)}, "a readable .npz file of numbers"),
    "no rows": ({"x": np.ones((0, 2)), "y": np.ones(0)}, "one row or more"),
    "no features": ({"x": np.ones((3, 0))}, "one feature or more"),
    "NaN": ({"x": np.array([[1], [1], [np.nan]])}, "finite numbers only"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(tmp_path, way, case):
    arrays, expected = ARRAYS[case]
    np.savez(tmp_path / "d.npz", **({"x": np.ones((3, 1)), "y": np.array(LABELS)} | arrays))
    if expected:
        with pytest.raises(InputError, match=expected):
            open_dataset(tmp_path / "d.npz")
    else:
        found = torch.cat([block.x for block in open_dataset(tmp_path / "d.npz").blocks(2)])
        assert found.tolist() == arrays["x"].reshape(3, -1).tolist()


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_damaged_files_end_in_one_line(tmp_path, way, suffix, damage):
    path = tmp_path / f"d.{suffix}"
    values = np.random.default_rng(0).normal(size=200)
    if suffix == "npz":
        np.savez_compressed(path, x=values[:, None], y=np.zeros(200, int))
    else:
        write(path, pa.array(values), pa.array(np.zeros(200, int)))
    raw = bytearray(path.read_bytes())
    raw[300] ^= 0xFF
    path.write_bytes({"cut": raw[:-30], "flipped": bytes(raw), "other": b"something else" * 20}[damage])
    if suffix == "parquet" and damage == "flipped":  # the head of the first page, for pages have no checksum
        path.write_bytes(bytes(raw[:4]) + b"\xff" * 36 + bytes(raw[40:]))
    with pytest.raises(InputError, match=f"a readable .{suffix} file") as error:
        open_dataset(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("failure", [MemoryError(), ValueError("of\nmany lines"), pa.ArrowInvalid("bad page")])
def test_whatever_a_reader_raises_ends_in_one_line(tmp_path, way, failure, monkeypatch):
    np.savez(tmp_path / "d.npz", x=np.ones((3, 1)), y=LABELS)

    def refuse(*arguments):
        raise failure

    monkeypatch.setattr(files.NpzArrays, "_read", refuse)
    with pytest.raises(InputError, match=type(failure).__name__) as error:
        open_dataset(tmp_path / "d.npz")
    assert "\n" not in str(error.value)


# --- CSV -------------------------------------------------------------------------------------------------------------

CSV = {
    "longer, first column counts up": ("a,b,label\n1,31,0,2\n2,45,1,0\n3,52,1,1\n", "3 of 3 rows longer or shorter"),
    "longer, first column does not": ("a,b,label\n7,31,0,2\n2,45,1,0\n3,52,1,1\n", "3 of 3 rows longer or shorter"),
    "longer, text first": ("a,b,label\nx,31,0,2\ny,45,1,0\n", "2 of 2 rows longer or shorter"),
    "one longer": ("a,b,label\n7,31,0\n2,45,1,0\n", r"1 of 2 rows longer or shorter .*\(line 3 has 4 fields\)"),
    "one shorter": ("a,b,label\n7,31,0\n2,1\n", r"1 of 2 rows longer or shorter .*\(line 3 has 2 fields\)"),
    "commas at the end": ("a,b,label\n7,31,0,\n2,45,1,\n", "with a comma at the end of every row"),
    "commas at the end of all lines": ("a,b,label,\n7,31,0,\n2,45,1,\n", "columns 'a', 'b', 'label', ''"),
    "semicolons": ("a;b;label\n1,5;2,5;0\n", "with fields separated by ';'"),
    "tabs": ("a\tb\tlabel\n1\t2\t0\n", r"with fields separated by '\\t'"),
    "decimal commas": ('a,b,label\n"1,5",2,0\n"2,5",2,1\n', r"non-numeric columns a \(decimal commas\)"),
    "thousands": ('a,label\n"1,500,000",0\n2,1\n', r"non-numeric columns a \(text\)"),
    "question marks": ("a,label\n?,0\n2,1\n", r"non-numeric columns a \(text\)"),
    "missing among booleans": ("a,b,label\nTrue,1,0\n,1,1\n", "1 values of x that are NaN or infinite, .* row 1"),
    "too large": ("a,label\n1,0\n1e999,1\n", "1 values of x that are NaN or infinite, the first in row 1"),
}


@pytest.mark.parametrize("case", CSV)
def test_csv_that_is_refused(tmp_path, case):
    text, expected = CSV[case]
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputError, match=expected):
        open_dataset(tmp_path / "d.csv")


def test_csv_that_is_taken(tmp_path):
    path = tmp_path / "d.csv"
    for text in (
        '\ufeff"a",label\n1.5,0\n2.5,1\n',
        '\ufeffa, label \r\n"1.5",0\r\n\r\n2.5,1\r\n   \r\n',
        '"a",label\n"1.5",0\n" 2.5",1',
    ):
        path.write_bytes(text.encode())
        data = open_dataset(path)
        assert (data.columns, data.x.tolist(), data.y.tolist()) == (("a",), [[1.5], [2.5]], [0, 1])
    path.write_text('"first\nsecond",b,label\nTrue,18446744073709551616,0\nFalse,-1,1\n')
    data = open_dataset(path)
    assert data.columns == ("first\nsecond", "b") and data.x.tolist() == [[1, 2.0**64], [0, -1]]


def test_a_label_that_yaml_reads_as_a_number(tmp_path):
    (tmp_path / "d.csv").write_text("0,1,2\n5,6,0\n7,8,1\n")
    assert open_dataset(tmp_path / "d.csv", 2).columns == ("0", "1")


# --- labels ----------------------------------------------------------------------------------------------------------


def test_labels_of_training_rows_have_no_gap(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 2))
    for labels, missing in (([1, 2, 3], "class 0"), ([10, 20, 30], "class 0 and 27 more"), ([0, 2, 2], "class 1")):
        y = np.resize(labels, 12)
        with pytest.raises(InputError, match=f"without a row of {missing}") as error:
            check_gaps(Dataset.of(x, y), "party.train")
        recoded = ", ".join(f"{label} as {k}" for k, label in enumerate(sorted(set(labels))))
        assert recoded in error.value.expected and "rows by label: " in error.value.value
        with pytest.raises(InputError, match=f"train: got labels without a row of {missing}"):
            appraise((x, y % 2), train=(x, y), test=(x, y), session="plain")
        np.savez(tmp_path / "d.npz", x=x, y=y)
        cfg = compose([f"party.train={tmp_path}/d.npz", f"party.test={tmp_path}/d.npz", "session=plain"])
        with pytest.raises(InputError, match=f"party.train: got labels without a row of {missing}"):
            read_own(cfg, MODEL_OWNER, ())
    check_gaps(
        Dataset.of(x, [0, 2] * 6, class_names=("a", "b", "c")), "party.train"
    )  # a class that has a name is there
    check_gaps(Dataset.of(x, [0, 1] * 6, classes=5), "party.train")  # none below the largest
    check_gaps(None, "party.train")


def test_a_number_to_predict_is_refused_with_its_kind(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(148, 2)), random.permutation(320)[:148] + 25
    check_kind(Dataset.of(x, y % 250), "data")
    expected = f"labels that look like a number, as of a regression: 148 rows, 148 values from {y.min()} to {y.max()}"
    with pytest.raises(InputError) as error:
        check_kind(Dataset.of(x, y), "party.train")
    assert error.value.value == expected and "at most 256" in error.value.expected
    np.savez(tmp_path / "d.npz", x=x, y=y)
    with pytest.raises(InputError, match="look like a number"):
        catalogue(["publish", f"data={tmp_path}/d.npz", "name=d", f"out={tmp_path}/out"], None)
    assert not (tmp_path / "out").exists()
    np.savez(tmp_path / "d.npz", x=x, y=y + 0.5)
    with pytest.raises(
        InputError, match="not integers, .*; they look like a number, as of a regression: 148 rows, 148 v"
    ):
        open_dataset(tmp_path / "d.npz")
    with pytest.raises(InputError, match=r"labels as large as 3001 \(rows by label: 3000: 74, 3001: 74\)"):
        check_kind(Dataset.of(x, np.arange(148) % 2 + 3000), "party.data")


def test_a_model_saved_in_float32(tmp_path):
    theta = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    for kind in (np.float32, np.float16, np.float64):
        np.savez(tmp_path / "m.npz", theta=theta, l2=kind(0.01))
        model = SoftmaxRegression.load(tmp_path / "m.npz")
        assert model.l2 == 0.01 and model.theta.tolist() == theta.astype(np.float64).tolist()


# --- sizes before anything is unpacked -------------------------------------------------------------------------------

SMALL = Sizes(5, 2, "listing small")


def test_files_are_measured_against_the_listing_first(tmp_path, monkeypatch):
    """A small file that says it holds more than the listing is refused by its header: no block of it is read."""
    x, y = np.zeros((2000, 2)), np.zeros(2000, int)
    np.savez_compressed(tmp_path / "d.npz", x=x, y=y)
    write(tmp_path / "d.parquet", pa.array(x[:, 0]), pa.array(x[:, 1]), pa.array(y), names=("a", "b", "label"))
    (tmp_path / "d.csv").write_text("a,b,label\n" + "0,0,0\n" * 2000)
    assert max((tmp_path / f"d.{suffix}").stat().st_size for suffix in ("npz", "parquet")) < 3000
    for reader in (files.NpzArrays, files.ParquetTable):
        monkeypatch.setattr(reader, "blocks", None)
    monkeypatch.setattr("mpc_appraisal.data.tables._read_csv", None)
    for suffix, found in (("npz", "2000"), ("parquet", "2000"), ("csv", "6 or more")):
        with pytest.raises(InputError) as error:
            open_dataset(tmp_path / f"d.{suffix}", sizes=SMALL)
        assert str(error.value) == f"listing small: data.rows: got {found}; expected 5, as the listing says"
    for suffix in ("npz", "parquet", "csv"):
        with pytest.raises(InputError, match=r"listing small: data.features: got 2; expected 3"):
            open_dataset(tmp_path / f"d.{suffix}", sizes=Sizes(2000, 3, "listing small"))


def test_what_a_file_says_of_itself_is_compared_with_what_it_holds(tmp_path):
    def saved(header: str, body: bytes) -> None:
        entry = io.BytesIO()
        np.lib.format.write_array_header_1_0(entry, {"descr": "<f8", "fortran_order": False, "shape": eval(header)})
        labels = io.BytesIO()
        np.save(labels, np.zeros(5, int))
        with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
            archive.writestr("x.npy", entry.getvalue() + body)
            archive.writestr("y.npy", labels.getvalue())

    for header, body in (("(10**30, 2)", b"\0" * 80), ("(5, 2)", b"\0" * 72), ("(5, 2)", b"\0" * 4000)):
        saved(header, body)
        with pytest.raises(InputError, match=rf"with {len(body)} bytes of x; expected a readable .npz file"):
            open_dataset(tmp_path / "d.npz")
    saved("(5, 2)", b"\0" * 80)
    assert open_dataset(tmp_path / "d.npz", sizes=SMALL).rows == 5


def test_names_of_an_archive_are_short(tmp_path, monkeypatch):
    monkeypatch.setattr("mpc_appraisal.data.arrays.NAMES_BYTES", 100)
    np.savez_compressed(tmp_path / "d.npz", x=np.ones((3, 1)), y=LABELS, columns=np.array(["a" * 1000]))
    with pytest.raises(InputError, match="short texts"):
        open_dataset(tmp_path / "d.npz")


def test_parquet_that_unpacks_to_more_than_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("mpc_appraisal.data.tables.COLUMN_BYTES", 0)
    monkeypatch.setattr("mpc_appraisal.data.tables.CELL_BYTES", 1)
    path = write(tmp_path / "d.parquet", pa.array(F), pa.array(F), pa.array(LABELS), names=("a", "b", "label"))
    assert open_dataset(path).rows == 3
    with pytest.raises(InputError, match="bytes unpacked of 3 rows in 'a'; expected at most 3"):
        open_dataset(path, sizes=Sizes(3, 2, "listing small"))


def test_csv_of_more_bytes_than_its_listing_can_take(tmp_path, monkeypatch):
    monkeypatch.setattr("mpc_appraisal.data.tables.HEADER_BYTES", 20)
    (tmp_path / "d.csv").write_text("a,label\n" + "1" * 500 + ",0\n1,1\n")
    with pytest.raises(InputError, match="515 bytes; expected at most 416"):
        monkeypatch.setattr("mpc_appraisal.data.tables.FIELD_BYTES", 66)
        open_dataset(tmp_path / "d.csv", sizes=Sizes(2, 1, "listing small"))
