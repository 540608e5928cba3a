"""Items of files: the same rows and keys have the same digests, whatever format they come in."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pandas as pd
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, open_dataset
from mpc_appraisal.data.items import items_of_keys, items_of_rows


def test_a_row_is_the_hash_of_its_big_endian_doubles():
    data = Dataset.of([[1.5, -0.0], [1.5, 0.0], [2.0, 3.0]], [0, 1, 0])
    rows = {hashlib.sha256(b"mpc_appraisal overlap row 1\n" + struct.pack(">2d", *row)).hexdigest()
            for row in ((1.5, 0.0), (2.0, 3.0))}  # fmt: skip
    found = items_of_rows(data)
    assert found.digests == tuple(sorted(rows)) and (found.rows, found.copies, found.without_key) == (3, 1, 0)


def test_a_key_is_the_hash_of_its_normal_text(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n caf\u00e9 ,1\n007,2\ncafe\u0301,3\n,4\n7,5\n", encoding="utf-8")
    expected = {hashlib.sha256(b"mpc_appraisal overlap key 1\n" + key.encode()).hexdigest()
                for key in ("caf\u00e9", "007", "7")}  # fmt: skip
    found = items_of_keys(tmp_path / "a.csv", "id", "file")
    assert found.digests == tuple(sorted(expected)) and (found.rows, found.copies, found.without_key) == (5, 1, 1)


def test_formats_do_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 3)), rng.integers(0, 2, 300)
    table = pd.DataFrame(x, columns=["a", "b", "c"]).assign(label=y, key=[f"k{n % 250}" for n in range(300)])
    table["number"] = np.arange(300) % 200
    rows = table[["a", "b", "c", "label"]]
    rows.to_csv(tmp_path / "x.csv", index=False)
    rows.to_parquet(tmp_path / "x.parquet", index=False)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    assert len({items_of_rows(open_dataset(tmp_path / f"x.{suffix}")) for suffix in ("csv", "parquet", "npz")}) == 1
    table.to_csv(tmp_path / "k.csv", index=False)
    table.astype({"key": "category"}).to_parquet(tmp_path / "k.parquet", index=False)
    np.savez(tmp_path / "k.npz", key=table["key"].to_numpy(dtype=str), number=table["number"].to_numpy())
    for column, different in (("key", 250), ("number", 200)):
        found = {items_of_keys(tmp_path / f"k.{suffix}", column, "file") for suffix in ("csv", "parquet", "npz")}
        assert len(found) == 1 and len(found.pop().digests) == different


def test_keys_of_a_raw_csv_are_its_texts_as_they_stand_and_those_of_parquet_are_the_same(tmp_path):
    texts = [
        "007",
        "7",
        "7.0",
        "1e3",
        "NA",
        "null",
        "2024-05-01",
        "True",
        "a,b",
        'say "hi"',
        " x ",
        "two\nlines",
        "",
        "é",
    ]
    pd.DataFrame({"age": range(14), "key": texts}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"key": texts, "age": range(14)}).to_parquet(tmp_path / "a.parquet", index=False)
    np.savez(tmp_path / "a.npz", key=np.array(texts))
    expected = {hashlib.sha256(b"mpc_appraisal overlap key 1\n" + text.strip().encode()).hexdigest()
                for text in texts if text}  # fmt: skip
    for suffix in ("csv", "parquet", "npz"):
        found = items_of_keys(tmp_path / f"a.{suffix}", "key", "file")
        assert (set(found.digests), found.without_key, found.copies) == (expected, 1, 0), suffix


def test_a_large_set_that_stays_in_its_file_has_the_same_items(tmp_path, monkeypatch):
    x = np.random.default_rng(1).normal(size=(100, 2))
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(100) % 2)
    small = items_of_rows(open_dataset(tmp_path / "x.npz"))
    monkeypatch.setattr("mpc_appraisal.data.files.STORED_BYTES", 10)
    assert items_of_rows(open_dataset(tmp_path / "x.npz")) == small


def test_null_keys_of_parquet_are_left_out(tmp_path):
    pd.DataFrame({"id": ["a", None, "b"]}).to_parquet(tmp_path / "a.parquet")
    found = items_of_keys(tmp_path / "a.parquet", "id", "file")
    assert (len(found.digests), found.without_key, found.copies) == (2, 1, 0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "id,x\n1,2,3\n", "line 2 has 3 fields"),
        ("a.csv", "x,y\n1,2\n", "no columns 'id'"),
        ("a.csv", "id,id\n1,2\n", "2 columns 'id'"),
        ("a.csv", "", "no columns 'id'"),
        ("a.csv", "id\n\n", "0 rows and no key"),
        ("a.csv", b"id\n\xff\xfe\n", "UnicodeDecodeError"),
        ("a.txt", "id\n1\n", "an existing file ending in .csv"),
        ("a.parquet", "PAR1", "a readable file with rows"),
        ("a.npz", "PK", "an .npz file with an array 'id'"),
        ("b.csv", None, "which is not there"),
    ],
)
def test_a_bad_file_of_keys_is_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=words) as caught:
        items_of_keys(tmp_path / name, "id", "file")
    assert caught.value.name == "file"


def test_columns_without_an_exact_text_are_refused(tmp_path):
    pd.DataFrame({"id": [1.5, 2.0]}).to_parquet(tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", id=torch.zeros(2, 2).numpy())
    for suffix, words in (("parquet", "a column 'id' of double"), ("npz", "shape \\(2, 2\\), float32")):
        with pytest.raises(InputError, match=words):
            items_of_keys(tmp_path / f"a.{suffix}", "id", "file")
