"""Croissant files of others: what is read, what is refused by name, and what is kept for the search."""

from __future__ import annotations

import json

import pytest
from linked_data import BASE, HOSTILE, complete

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.catalogue import write_listing
from mpc_appraisal.governance.catalogue.imported import (
    LARGEST_FILE,
    MOST_COLUMNS,
    Imported,
    keep,
    read_croissant,
    read_imported,
)
from mpc_appraisal.governance.catalogue.store import holds, read_catalogue, read_descriptions
from mpc_appraisal.governance.site import croissant

FOREIGN = {
    "@context": {"@vocab": "https://schema.org/", "sc": "https://schema.org/"},
    "@type": "sc:Dataset",
    "conformsTo": ["http://mlcommons.org/croissant/RAI/1.0", "http://mlcommons.org/croissant/1.0"],
    "name": "Flores 200: Größe",
    "description": {"de": "Sätze", "en": "Sentences in 200 languages"},
    "url": "https://example.org/flores?a=1",
    "license": ["https://spdx.org/licenses/CC-BY-SA-4.0.html", {"@type": "CreativeWork", "name": "house rules"}],
    "creator": [{"@type": "Person", "name": "A. Author"}, {"@type": "Organization", "sc:name": "Lab"}],
    "datePublished": "2023-05-17T10:00:00Z",
    "version": 1.0,
    "keywords": ["text", {"@type": "DefinedTerm", "name": "translation"}],
    "recordSet": [
        {"@type": "cr:RecordSet", "field": [{"name": "007", "dataType": "sc:Text"}, {"@id": "rows/no"}]},
        {"@type": "cr:RecordSet", "cr:field": {"name": "2.7"}},
        {"@type": "cr:RecordSet", "cr:dataType": ["sc:Enumeration", "wd:Q7"], "field": {"name": "a code"}},
    ],
    "distribution": [{"@type": "cr:FileObject", "contentUrl": "https://example.org/x"}],
    "citeAs": "@misc{}",
}


def saved(tmp_path, content):
    path = tmp_path / "croissant.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_foreign_description_is_read_as_it_is_written(tmp_path):
    found, ignored = read_croissant(saved(tmp_path, FOREIGN))
    assert found == Imported(
        name="flores-200-gr-e",
        title="Flores 200: Größe",
        description="Sentences in 200 languages",
        url="https://example.org/flores?a=1",
        creators=("A. Author", "Lab"),
        licences=("https://spdx.org/licenses/CC-BY-SA-4.0.html", "house rules"),
        keywords=("text", "translation"),
        date="2023-05-17",
        version="1.0",
        columns=("007", "no", "2.7"),
    )
    assert ignored == ("citeAs", "distribution")
    assert read_imported(keep(found, tmp_path / "catalogue")) == found


def test_our_own_files_are_read_too(tmp_path):
    found, ignored = read_croissant(saved(tmp_path, croissant(complete(), BASE)), "theirs")
    assert (found.title, found.creators, found.date, found.version) == (
        *("Ziffern", ("Müller & Söhne",), "2026-01-31", "1.10.0"),
    )
    assert found.url == BASE + "listings/complete.html" and found.licences[0].endswith("CC-BY-4.0.html")
    assert found.columns == ("a/b, c", "Größe", "label")  # the enumeration of classes has no columns of the data
    assert ignored == ("distribution", "identifier", "usageInfo")
    found, ignored = read_croissant(saved(tmp_path, croissant(complete())), "theirs")
    assert found.url is None and ignored[0] == "url (../listings/complete.html, no address of the web)"


def changed(key, value):
    return FOREIGN | {key: value} if value is not changed else {k: v for k, v in FOREIGN.items() if k != key}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "croissant: got .*; expected a readable JSON file"),
        ("[" * 100_000, "croissant: got .*; expected a readable JSON file"),
        ("[]", r"croissant: croissant: got \[\]; expected an object"),
        ('{"name": "a", "name": "b"}', "'name' is stated twice"),
        ('{"version": NaN}', "NaN is no finite number"),
        (changed("@type", "sc:Person"), "croissant: @type: got sc:Person; expected Dataset of schema.org"),
        (changed("@type", changed), "croissant: @type: got nothing; expected Dataset"),
        (changed("conformsTo", changed), "croissant: conformsTo: got nothing; expected http://mlcommons.org/croissant"),
        (changed("conformsTo", "http://mlcommons.org/croissant/2.0"), "conformsTo: got .*2.0; expected .*1.1, or 1.0"),
        (changed("name", changed), "croissant: name: got nothing; expected a text of 1 to 500 characters"),
        (changed("name", ""), "croissant: name: got .*; expected a text of 1 to 500"),
        (changed("name", "n" * 501), "croissant: name: got 501 characters; expected a text of 1 to 500"),
        (changed("name", ["a", "b"]), r"croissant: name: got \['a', 'b'\]; expected a text"),
        (changed("sc:name", "b"), "croissant: name: got sc:name; expected the key once"),
        (changed("description", "d" * 20_001), "croissant: description: got 20001 characters; expected .* 0 to 20000"),
        (changed("description", 7), "croissant: description: got 7; expected a text"),
        (
            changed("creator", [{"email": "a@b.org"}]),
            "croissant: creator: got .*email.*; expected a text, or",
        ),
        (changed("license", [3]), "croissant: license: got 3; expected a text"),
        (changed("keywords", ["k"] * 1001), "croissant: keywords: got 1001 values; expected at most 1000"),
        (changed("datePublished", "2023"), "croissant: datePublished: got 2023; expected a day or a time"),
        (changed("datePublished", "2023-02-30"), "croissant: datePublished: got 2023-02-30; expected a day"),
        (changed("datePublished", "20230517"), "croissant: datePublished: got 20230517; expected a day"),
        (changed("datePublished", "2023-05-17Tnoon"), "croissant: datePublished: got .*noon; expected a day"),
        (changed("version", True), "croissant: version: got True; expected a text"),
        (changed("version", {}), r"croissant: version: got \{\}; expected a text"),
        (changed("url", 1), "croissant: url: got 1; expected a text"),
        (changed("recordSet", ["rows"]), r"croissant: recordSet\.0: got rows; expected an object"),
        (changed("recordSet", {"field": [{}]}), r"recordSet\.0\.field\.0: got neither name nor @id; expected one of"),
        (changed("recordSet", {"field": [{"@id": 3}]}), r"recordSet\.0\.field\.0: got 3; expected a text of 1 to 2000"),
        (changed("name", "日本"), "name: got ''; expected name=..., 1 to 64 of a-z"),
        (changed("@type", "\x1b[2J" + "x" * 300), r"croissant: @type: got \\x1b\[2Jx*…; expected Dataset"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "content",
)
def test_a_bad_file_is_refused_by_name(tmp_path, content, match):
    with pytest.raises(InputError, match=match):
        read_croissant(saved(tmp_path, content))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.json"
    with open(path, "wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(InputError, match=f"croissant: got more than {LARGEST_FILE} bytes"):
        read_croissant(path)
    with pytest.raises(InputError, match="croissant: got .*; expected an existing file"):
        read_croissant(tmp_path / "none.json")


def test_columns_beyond_the_limit_are_left_out_with_a_word(tmp_path):
    fields = [{"name": f"c{k}"} for k in range(MOST_COLUMNS + 1)]
    found, ignored = read_croissant(saved(tmp_path, changed("recordSet", {"field": fields})))
    assert len(found.columns) == MOST_COLUMNS and found.columns[-1] == f"c{MOST_COLUMNS - 1}"
    assert ignored[0] == f"recordSet (beyond {MOST_COLUMNS} of {MOST_COLUMNS + 1} fields)"


def test_an_address_that_a_page_may_not_link_to_is_left_out(tmp_path):
    for address in ("javascript:alert(1)", 'https://a.org/"x', "file:///etc/passwd", "https://u:p@a.org/"):
        found, ignored = read_croissant(saved(tmp_path, changed("url", address)))
        assert found.url is None and ignored[0].startswith("url (")


def test_kept_descriptions_are_found_by_words_and_conditions_and_bad_ones_are_named(tmp_path):
    found, _ = read_croissant(saved(tmp_path, FOREIGN))
    path = keep(found, tmp_path / "catalogue")
    with pytest.raises(InputError, match="name: got .*already there"):
        keep(found, tmp_path / "catalogue")
    write_listing(tmp_path / "catalogue" / "complete.json", complete())
    hidden = Imported(name="complete", title=HOSTILE)
    with pytest.raises(InputError, match="name: got .*complete.json, which is already there"):
        keep(hidden, tmp_path / "catalogue")
    for terms in (["SENTENCES"], ["007"], ["creator=lab"], ["licence=House Rules"], ["date<2024-01-01", "flores"]):
        assert holds(found.fields(), found.words(), terms), terms
    for terms in (["birds"], ["rows>=1"], ["classes=2"], ["price<=5"], ["creator=la"], ["date>2023-05-17"]):
        assert not holds(found.fields(), found.words(), terms), terms
    (path.parent / "bad.json").write_text("{")
    (path.parent / "copy.json").write_text(path.read_text())
    script = path.read_text().replace("https://example.org/flores?a=1", "javascript:alert(1)")
    (path.parent / "flores-200-gr-e.json").write_text(script)
    assert [one.name for one in read_catalogue(tmp_path / "catalogue")[0]] == ["complete"]
    kept, bad = read_descriptions(tmp_path / "catalogue")
    assert kept == [] and [one.file for one in bad] == [
        *("imported/bad.json", "imported/copy.json", "imported/flores-200-gr-e.json"),
    ]
    assert "a copy" in str(bad[1].error) and "an address of http" in str(bad[2].error)
