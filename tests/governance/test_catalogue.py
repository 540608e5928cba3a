"""Listings: the schema, and the search of a catalogue; `test_commitment` has the commitment."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.governance.catalogue import (
    Listing,
    Statistics,
    Terms,
    check_listing,
    commit,
    matches,
    publish,
    read_catalogue,
    read_listing,
    read_salt,
    statistics,
    synthetic_samples,
    types_of,
    write_listing,
)

SALT = bytes(range(32))
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e<script>[red]"


def small() -> Dataset:
    return Dataset.of(np.array([[0.0, 1.5, 3.0], [1.0, -2.0, 4.0], [1.0, 0.25, 5.0]]), [0, 2, 1], name="small")


def listed(data: Dataset, salt: bytes = SALT, **more) -> Listing:
    kinds = types_of(data)
    counts = {kind: kinds.count(kind) for kind in ("binary", "integer", "real")}
    sizes = {"rows": data.rows, "features": data.features, "classes": data.classes}
    return Listing(**{"name": "a", "types": counts, "digest": commit(data, salt), **sizes, **more})


@pytest.fixture(scope="module")
def digits():
    """Whole grey levels, 0 .. 16: invented rows, rounded, could meet real ones."""
    data = Digits().load()[0]
    return Dataset((data.x * 16).round(), data.y, data.classes)


@pytest.fixture(scope="module")
def full(digits):
    """A listing that states everything."""
    columns = tuple((f"pixel {k}", kind) for k, kind in enumerate(types_of(digits)))
    terms = Terms("once\na week", 10, 99.5, "EUR", "CC-BY-4.0", ("research", "teaching"), "owner@example.org")
    told = {"samples": synthetic_samples(digits, 2), "statistics": statistics(digits)}
    told |= {"creator": "Müller & Söhne", "date": "2026-01-31", "version": "1.10.0"}
    texts = {"title": "Ziffern & digits", "description": "Größe 8 x 8 " + ESCAPE, "encoding": "0..16"}
    return listed(digits, name="full", columns=columns, terms=terms, **texts, **told)


# ---- listing and schema ----


def test_a_listing_comes_back_as_it_went(tmp_path, full, digits):
    path = tmp_path / "full.json"
    write_listing(path, full)
    again = read_listing(path)
    assert again == full and again.text() == full.text() == path.read_text("ascii")
    check_listing(again, digits, SALT)
    content = json.loads(path.read_text())
    assert list(content) == sorted(content) and "<" not in path.read_text() and "\x1b" not in path.read_text()
    with pytest.raises(InputError, match="already there"):
        write_listing(path, full)


def test_a_listing_tells_nothing_that_was_not_asked_for():
    content = listed(small()).content()
    assert set(content) == {"format", "version", "name", "title", "description", "data", "terms", "commitment"}
    assert set(content["data"]) == {"rows", "features", "classes", "types", "encoding"}


# A file of the version before listings had a creator, a date and a version.
OLD = """{
 "commitment": {
  "digest": "795676c5634b65dc017ae9f0f82e59cc0d2dbf953ff57e438eff11f700b94b03",
  "scheme": "sha256-salted-rows-1"
 },
 "data": {
  "classes": 3,
  "encoding": "",
  "features": 3,
  "rows": 3,
  "types": {
   "binary": 1,
   "integer": 1,
   "real": 1
  }
 },
 "description": "",
 "format": "mpc_appraisal listing",
 "name": "a",
 "terms": {
  "currency": "EUR",
  "licence": "free to look at: once",
  "minimum_rows": 1,
  "price": 1.5,
  "text": ""
 },
 "title": "",
 "version": 1
}
"""


def test_an_old_listing_is_read_and_keeps_its_digest(tmp_path):
    (tmp_path / "a.json").write_text(OLD)
    old = read_listing(tmp_path / "a.json")
    assert old.text() == OLD and (old.creator, old.date, old.version) == (None, None, None)
    assert old.file_digest == "b25c71bcd8eaa60a0b751b7e618219106eedcc48dc591d014c6628edf19717d9"
    check_listing(old, small(), SALT)


@pytest.mark.parametrize("columns", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_statistics_of_some_columns_alone(tmp_path, columns):
    whole, part = statistics(small()), statistics(small(), columns)
    assert part.mean == tuple(whole.mean[k] for k in columns) and part.rows_by_class == whole.rows_by_class
    assert [part.of_column(k) for k in range(3)] == [whole.of_column(k) if k in columns else None for k in range(3)]
    assert whole.of_column(1) == (-0.0833, 1.45) and "each shown feature's mean" in part.reveals
    listing = listed(small(), statistics=part)
    assert listing.content()["statistics"]["columns"] == list(columns)
    assert "columns" not in listed(small(), statistics=whole).content()["statistics"]
    write_listing(tmp_path / "a.json", listing)
    assert read_listing(tmp_path / "a.json") == listing
    check_listing(listing, small(), SALT)
    wrong = replace(part, mean=(9.0, *part.mean[1:]))
    with pytest.raises(InputError, match=r"listing a: statistics\.mean\.0: got .*; expected 9\.0, as the listing says"):
        check_listing(listed(small(), statistics=wrong), small(), SALT)


@pytest.mark.parametrize("columns", [(0, 0), (1, 0), (0, 3), (-1, 0), (0, True), ()])
def test_places_of_columns_that_make_no_sense(columns):
    moments = tuple(float(k) for k in range(len(columns)))
    with pytest.raises(InputError, match=r"listing: statistics\.(columns|mean)"):
        listed(small(), statistics=Statistics((1, 1, 1), moments, moments, "words", columns))


def put(content: dict, field: str, value) -> None:
    *parents, last = field.split(".")
    for key in parents:
        content = content[int(key) if isinstance(content, list) else key]
    key = int(last) if isinstance(content, list) else last
    if value is put:
        del content[key]
    else:
        content[key] = value


VIOLATIONS = [
    ("format", "something", "'mpc_appraisal listing'"),
    ("version", 0, "1"),
    ("version", 2, "a newer mpc_appraisal"),
    ("version", "1", "1"),
    ("name", "../a", "1 to 64 of a-z"),
    ("name", "a/b", "1 to 64 of a-z"),
    ("name", "Full", "1 to 64 of a-z"),
    ("name", ".hidden", "1 to 64 of a-z"),
    ("name", "full\n", "1 to 64 of a-z"),
    ("name", "", "1 to 64 of a-z"),
    ("name", "a" * 65, "1 to 64 of a-z"),
    ("name", "other", "the file's own name"),
    ("title", 3, "a text of at most 200 characters"),
    ("title", "t" * 201, "at most 200"),
    ("description", None, "a text of at most 20000 characters"),
    ("data.rows", 0, "1 or more"),
    ("data.rows", 1.5, "an integer"),
    ("data.rows", True, "an integer"),
    ("data.rows", 1000.0, "an integer"),
    ("data.classes", 10.0, "an integer"),
    ("data.rows", "100", "an integer"),
    ("data.features", 2**21, "an integer from 1 to 1048576"),
    ("data.features", 65, "65: one type a feature"),
    ("data.classes", 1, "an integer from 2 to 2147483647"),
    ("data.types.real", 1, "one type a feature"),
    ("data.columns.3.name", "pixel 2", "different names"),
    ("data.columns.3.type", "text", "one of binary, integer, real"),
    ("data.columns.3.type", "real", "types as in data.types"),
    ("terms.price", -1, "0 or more"),
    ("terms.currency", "euro", "three capital letters"),
    ("terms.purposes", [], "a list of 1 to 100"),
    ("terms.purposes.0", 1, "a text of 1 to 200 characters"),
    ("terms.minimum_rows", 10**6, "at most"),
    ("commitment.scheme", "md5", "'sha256-salted-rows-1'"),
    ("commitment.digest", "0" * 63, "64 hex digits"),
    ("samples.kind", "none", "one of synthetic, real"),
    ("samples.x.0", [1.0], "64: numbers a row"),
    ("samples.x.0.0", "1", "a finite number"),
    ("samples.y.0", 10, "labels 0 .. 9"),
    ("samples.y", [1], "one a row"),
    ("statistics.mean", [1.0], "one a feature"),
    ("statistics.deviation.0", -1, "0 or more"),
    ("statistics.rows_by_class.0", 0, "rows in all"),
    ("statistics.rows_by_class", [1], "one a class"),
    ("publication", {}, "one or more of creator, date, version"),
    ("publication.creator", "", "a text of 1 to 200 characters"),
    ("publication.date", "2026-02-29", "a day of the calendar"),
    ("publication.date", "2026-1-31", "a day of the calendar"),
    ("publication.date", "20260131", "a day of the calendar"),
    ("publication.date", "2026-W05-6", "a day of the calendar"),
    ("publication.date", "2026-01-31T00:00:00", "a day of the calendar"),
    ("publication.version", "1.0", "as in 1.0.0"),
    ("publication.version", "1.0.01", "as in 1.0.0"),
    ("publication.version", "1.0.٣", "as in 1.0.0"),
    ("publication.version", "v1.0.0", "as in 1.0.0"),
]


@pytest.mark.parametrize(("field", "value", "expected"), VIOLATIONS, ids=lambda v: str(v)[:30])
def test_each_violation_is_named_with_file_field_and_expectation(tmp_path, full, field, value, expected):
    content = copy.deepcopy(full.content())
    put(content, field, value)
    (tmp_path / "full.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_listing(tmp_path / "full.json")
    known = [field, field.rsplit(".", 1)[0], "data.types", "data.columns"]  # a total is wrong where a part is
    assert caught.value.name in {f"full.json: {one}" for one in known}
    assert expected in caught.value.expected


PARTS = ["", "data.", "data.types.", "terms.", "commitment.", "samples.", "statistics.", "publication."]


@pytest.mark.parametrize("part", PARTS)
def test_unknown_and_missing_fields(tmp_path, full, part):
    content = copy.deepcopy(full.content())
    put(content, part + "sale", 1)
    (tmp_path / "full.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="full.json: .*got 'sale'; expected no field but "):
        read_listing(tmp_path / "full.json")
    if part == "publication.":
        return  # each of its fields may be missing
    missing = {"": "title", "data.": "rows", "data.types.": "real", "terms.": "text", "commitment.": "digest"}
    missing |= {"samples.": "reveals", "statistics.": "mean"}
    content = copy.deepcopy(full.content())
    put(content, part + missing[part], put)
    (tmp_path / "full.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"full.json: .*got no {missing[part]}; expected all of"):
        read_listing(tmp_path / "full.json")


def test_a_price_has_a_currency():
    with pytest.raises(InputError, match="terms: got price without currency; expected both, or neither"):
        listed(small(), terms=Terms(price=1.0))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda text: text[: len(text) // 2], "a readable JSON file"),
        (lambda text: "", "a readable JSON file"),
        (lambda text: text.replace('"rows": ', '"rows": 1, "rows": '), "'rows' is stated twice"),
        (lambda text: text.replace('"minimum_rows": 10', '"minimum_rows": NaN'), "NaN is no finite number"),
        (lambda text: text.replace('"price": 99.5', '"price": 1e999'), "1e999 is no finite number"),
        (lambda text: "[" * 100_000, "a readable JSON file"),
        (lambda text: "[]", "listing: got .*; expected an object"),
        (lambda text: "\x1b[2J", "a readable JSON file"),
    ],
)
def test_a_damaged_file(tmp_path, full, damage, match):
    text = full.text()
    assert damage(text) != text
    (tmp_path / "full.json").write_text(damage(text))
    with pytest.raises(InputError, match=match) as caught:
        read_listing(tmp_path / "full.json")
    assert "full.json" in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="a.json: got .*damaged"):
        read_listing(tmp_path / "a.json")


def test_foreign_text_is_printed_safely():
    assert shown(ESCAPE) == r"\x1b]0;owned\x07\x1b[2J\u202e<script>[red]"
    assert shown("a\nb") == r"a\nb" and printable("a\nb", newlines=True) == "a\nb"
    assert len(shown("x" * 1000)) == 80


# ---- catalogue ----


def test_search_by_words_and_fields(full):
    bare = listed(small())
    for terms in (["ZIFFERN größe"], ["week"], ["pixel 63"], ["owner@example.org"], ["rows>=100", "classes=10"]):
        assert matches(full, terms) and not matches(bare, terms), terms
    for term in ("licence=cc-by-4.0", "purposes=Teaching", "purposes!=military", "price<100", "samples=synthetic"):
        assert matches(full, [term]) and not matches(bare, [term]), term
    for term in ("creator=müller & SÖHNE", "version=1.10.0", "date>=2026-01-31", "date<2026-02-01", "müller"):
        assert matches(full, [term]) and not matches(bare, [term]), term
    for term in ("creator=müller", "date>2026-01-31", "date=2026-01-30", "version!=1.10.0"):
        assert not matches(full, [term]) and not matches(bare, [term]), term
    for term in ("ziffern birds", "rows<100", "licence=MIT", "price>=100", "purposes=teach", "name!=full"):
        assert not matches(full, [term]), term
    assert matches(bare, []) and matches(bare, ["rows=3", "rows<=3", "rows!=4", "rows>2", "samples=none"])
    assert matches(listed(small(), title="a [b] (c)"), ["[b] (C)"])


@pytest.mark.parametrize(
    ("term", "match"),
    [
        ("row>=3", "one of the fields rows, features"),
        ("rows>=many", "search: rows: got many; expected a number"),
        ("licence>=MIT", "= or !="),
        ("version>=1.0.0", "= or !="),
        ("date>=2026", "search: date: got 2026; expected a day, as in 2026-01-31"),
    ],
)
def test_a_search_that_makes_no_sense(term, match):
    with pytest.raises(InputError, match=match):
        matches(listed(small()), [term])


def test_a_catalogue_shows_the_good_and_names_the_bad(tmp_path, full):
    write_listing(tmp_path / "full.json", full)
    for name, salt in (("one", b"1" * 32), ("two", b"1" * 32)):  # one commitment under two names
        write_listing(tmp_path / f"{name}.json", listed(small(), salt, name=name))
    (tmp_path / "copy.json").write_text(full.text())
    (tmp_path / "newer.json").write_text(full.text().replace('"version": 1', '"version": 2'))
    (tmp_path / "cut.json").write_text(full.text()[:100])
    (tmp_path / "README.md").write_text("no listing")
    good, bad = read_catalogue(tmp_path)
    assert [listing.name for listing in good] == ["full"]
    assert [one.file for one in bad] == ["copy.json", "cut.json", "newer.json", "one.json", "two.json"]
    for one, words in zip(bad, ("a copy", "damaged", "newer", "two too", "one too"), strict=True):
        assert one.file in str(one.error) and words in str(one.error)
    with pytest.raises(InputError, match="the folder of a catalogue"):
        read_catalogue(tmp_path / "none")


def test_publishing_keeps_the_secret_out_of_the_catalogue_and_writes_all_or_nothing(tmp_path):
    out, given = tmp_path / "out", {"name": "a", "types": {"binary": 1, "integer": 1, "real": 1}}
    with pytest.raises(InputError, match="secret: .*meant to be published"):
        publish(small(), given, out, out / "a.salt")
    with pytest.raises(InputError, match="name"):
        publish(small(), given | {"name": "../a"}, out, tmp_path / "a.salt")
    assert not os.listdir(tmp_path)
    path = publish(small(), given, out, tmp_path / "a.salt")
    check_listing(read_listing(path), small(), read_salt(tmp_path / "a.salt"))
    before = path.read_bytes()
    with pytest.raises(InputError, match="already there"):
        publish(small(), given, out, tmp_path / "b.salt")
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["a.salt", "out"]
