"""Raw CSV files: Arrow and Python's csv read the same rows and lines, and the recipe states the separator."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from shop import RECIPE, shop
from test_recipe import of

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.recipe import csv_columns
from mpc_appraisal.data.recipe.csv_columns import CsvColumns
from mpc_appraisal.data.recipe.infer import infer

ROWS = [f"{k},{k / 7:.3f},t{k}" for k in range(40)]
CASES = {
    "plain": "\n".join(["a,b,c", *ROWS]),
    "lines of Windows": "\r\n".join(["a,b,c", *ROWS, ""]),
    "a byte order mark": "\ufeff" + "\n".join(["a,b,c", *ROWS, ""]),
    "blank lines": "\n".join(["", "  ", "a,b,c", *ROWS[:9], "", " ", *ROWS[9:], "", ""]),
    "rows of other lengths": "\n".join(["a,b,c", *ROWS[:30], "1,2", *ROWS[30:], "1,2,3,4", ""]),
    "whole fields in quotes": "\n".join(["a,b,c", *(f'"{k}","x,y",""' for k in range(40)), ""]),
    "a quote inside": "\n".join(["a,b,c", *ROWS, 'x,"say ""no""",5" pipe', *ROWS, ""]),
    "a quote that closes early": "\n".join(["a,b,c", *ROWS, '"a,"b,",c,d', *ROWS, ""]),
    "a line in quotes": "\n".join(["a,b,c", *ROWS, '"two\nlines",2,3', *ROWS, "short", ""]),
    "lone returns": "a,b,c\n1,2,3\r4,5,6\r7,8,9\n",
    "lone returns alone": "\r".join(["a,b,c", *ROWS]),
    "letters of Europe": "\n".join(["a,b,é", *(f"{k},ü{k},ß" for k in range(40)), ""]),
    "nothing in the fields": "a,b,c\n,,\n,,\n",
    "a quote in the header": '"a\nlong",b,c\n' + "\n".join(ROWS),
    "one column": "a\n1\n\n2\n",
    "a long line": "\n".join(["a,b,c", *ROWS, f"{'x' * 90_000},2,3", *ROWS, ""]),
}


def by_csv(path, delimiter=","):
    """The header, the rows with a field for every name and their lines, and the wrong rows, from `csv` alone."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        names, rows, lines, wrong = None, [], [], []
        for row in reader:
            if not row or len(row) == 1 and not row[0].strip():
                continue
            if names is None:
                names = [name.strip() for name in row]
            elif len(row) != len(names):
                wrong.append((reader.line_num, len(row)))
            else:
                rows.append(row)
                lines.append(reader.line_num)
    return names, rows, lines, wrong


@pytest.mark.parametrize("piece", [50, csv_columns.PIECE])
@pytest.mark.parametrize("case", CASES)
def test_the_rows_are_those_of_csv(tmp_path, monkeypatch, case, piece):
    monkeypatch.setattr(csv_columns, "PIECE", piece)
    path = tmp_path / "a.csv"
    path.write_bytes(CASES[case].encode())
    names, rows, lines, wrong = by_csv(path)
    table = CsvColumns(path, "data")
    assert (table.names, table.rows) == (names, len(rows))
    wanted = names[::-1][:2]
    for size in (7, 1000):
        blocks = list(table.blocks(size, wanted))
        assert all(len(block.lines) == size for block in blocks[:-1])
        for name in wanted:
            column = [text for block in blocks for text in block.columns[name].to_pylist()]
            assert column == [row[names.index(name)] for row in rows]
        assert np.concatenate([block.lines for block in blocks]).tolist() == lines
        assert [each for block in blocks for each in block.wrong] == wrong


def test_most_files_are_read_fast(tmp_path, monkeypatch):
    monkeypatch.setattr(CsvColumns, "_slow", None)  # which would fail
    for case in ("plain", "lines of Windows", "a byte order mark", "whole fields in quotes", "letters of Europe"):
        (tmp_path / "a.csv").write_bytes(CASES[case].encode())
        assert CsvColumns(tmp_path / "a.csv", "data").rows == 40


def test_bytes_that_are_no_text_are_refused_in_columns_that_are_not_wanted_too(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n3,\xff\n")
    with pytest.raises(UnicodeDecodeError):
        list(CsvColumns(tmp_path / "a.csv", "data").blocks(10, ["a"]))


NUMBERS = [
    "0",
    "-0",
    "1.5",
    " 2 ",
    "+3",
    ".5",
    "7.",
    "1e3",
    "-12345678901234567890",
    "0.1",
    "123456789012345.678",
    "999",
]
NUMBERS += ["999.0", "", "NA", "4.25"]


def test_numbers_of_texts_are_python_s(tmp_path):
    r = np.random.default_rng(0)
    texts = NUMBERS + [f"{value:.{digits}f}" for digits in range(1, 16) for value in r.normal(size=40) * 1e3]
    (tmp_path / "a.csv").write_text("\n".join(["v,y", *(f"{text},yes" for text in texts)]))
    recipe = of("""
fields:
  - {name: v, type: number, missingValues: ['', NA, '999'], feature: {blank: {value: 77}}}
  - {name: y, type: boolean, trueValues: ['yes'], falseValues: ['no']}
target: y""")
    found = recipe.arrays(tmp_path / "a.csv")[0][:, 0]
    assert found.tolist() == [77.0 if text in ("", "NA", "999", "999.0") else float(text) for text in texts]


# ---- the separator


def test_the_recipe_states_the_separator_and_the_features_stay(tmp_path):
    frame = shop(60, 0)
    frame.to_csv(tmp_path / "comma.csv", index=False)
    expected = of(RECIPE).apply(tmp_path / "comma.csv")
    for delimiter in (";", "\t", "|"):
        frame.to_csv(tmp_path / "other.csv", index=False, sep=delimiter)
        stated = of(f"dialect: {{delimiter: {delimiter!r}}}\n{RECIPE}".replace("'\\t'", '"\\t"'))
        assert stated.apply(tmp_path / "other.csv").x.equal(expected.x) and stated.digest != of(RECIPE).digest
        found = infer(tmp_path / "other.csv", "bought", delimiter=delimiter)
        assert found.content.pop("dialect") == {"delimiter": delimiter}
        assert found.content == infer(tmp_path / "comma.csv", "bought").content
    assert of(f"dialect: {{delimiter: ','}}\n{RECIPE}").digest == of(RECIPE).digest


def test_a_wrong_separator_is_named_and_never_guessed(tmp_path):
    frame = shop(20, 0)
    frame.to_csv(tmp_path / "other.csv", index=False, sep=";")
    frame.to_csv(tmp_path / "comma.csv", index=False)
    with pytest.raises(InputError, match=r"one column, whose name contains ';', in .*other.csv; expected fields.*','"):
        of(RECIPE).apply(tmp_path / "other.csv")
    with pytest.raises(InputError, match="one column, whose name contains ';'.*--delimiter"):
        infer(tmp_path / "other.csv", "bought")
    with pytest.raises(InputError, match="one column, whose name contains ',', in .*; expected fields sep.* by ';'"):
        of(f"dialect: {{delimiter: ';'}}\n{RECIPE}").apply(tmp_path / "comma.csv")
    for wrong in ("''", "a", "', '"):
        with pytest.raises(InputError, match="dialect.delimiter: got .*; expected one of"):
            of(f"dialect: {{delimiter: {wrong}}}\n{RECIPE}")
