"""A site: its files, what a stranger's text may not do in it, and what a browser shows of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from browser import CHROMIUM, REASON, dom, measured
from linked_data import HOSTILE, bare, complete, hostile

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.catalogue import Samples, Statistics, Terms, write_listing
from mpc_appraisal.governance.catalogue.imported import Imported
from mpc_appraisal.governance.site import Publisher, croissant, dcat, write_site

SHOP = Publisher("Shop")
LISTINGS = (bare(), complete(), hostile(), hostile("index"))


class Elements(HTMLParser):
    """Collect what a page is made of.

    Attributes:
        tags: each element's name with its attributes.
        texts: the text of each script, by its type.
        said: the text of everything else.
    """

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.said = ""
        self._script: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._script = dict(attributes).get("type", "") if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, text):
        if self._script is None:
            self.said += text
        else:
            self.texts.append((self._script, text))

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def written(folder: Path, listings=LISTINGS, publisher=SHOP) -> dict[str, str]:
    """Write the site and return the text of each of its files by its path in the site."""
    paths = write_site(folder, listings, publisher)
    assert paths[0] == folder / "index.html"
    found = {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}
    assert sorted(found) == sorted(str(path.relative_to(folder)) for path in paths)
    return found


def test_a_site_has_three_files_for_each_listing_and_two_for_all(tmp_path):
    found = written(tmp_path / "site")
    names = [listing.name for listing in LISTINGS]
    expected = {"index.html", "catalogue.jsonld", *(f"croissant/{name}.json" for name in names)}
    assert set(found) == expected | {f"listings/{name}.{kind}" for name in names for kind in ("html", "json")}
    assert json.loads(found["catalogue.jsonld"]) == dcat(LISTINGS, Publisher("Shop"))
    for listing in LISTINGS:
        assert json.loads(found[f"croissant/{listing.name}.json"]) == croissant(listing)
        write_listing(tmp_path / f"{listing.name}.json", listing)
        assert found[f"listings/{listing.name}.json"] == (tmp_path / f"{listing.name}.json").read_text()


def test_every_link_leads_to_a_file_of_the_site_or_to_an_address_of_the_web(tmp_path):
    found = written(tmp_path / "site")
    ids = {name: Elements(text).values("id") for name, text in found.items() if name.endswith(".html")}
    for name, text in found.items():
        if not name.endswith(".html"):
            continue
        assert max(Counter(ids[name]).values()) == 1
        links = Elements(text).values("href")
        assert links
        for link in links:
            if link.startswith(("https://spdx.org/licenses/", "mailto:")):
                continue
            place, _, part = link.partition("#")
            target = str((tmp_path / "site" / name).parent.joinpath(place).resolve().relative_to(tmp_path / "site"))
            target = target if place else name
            assert target in found, link
            assert not part or part in ids[target], link
    # The addresses in the files for programs lead into the pages.
    text = found["catalogue.jsonld"] + found["croissant/complete.json"]
    parts = re.findall(r"listings/(\w+)\.html#(\w+)", text)
    assert {part for _, part in parts} == {"data", "offer", "distribution"}
    assert all(part in ids[f"listings/{name}.html"] for name, part in parts)
    assert "catalogue" in ids["index.html"]


def test_no_text_of_a_listing_becomes_an_element_a_script_or_an_address(tmp_path):
    found = written(tmp_path / "site", publisher=Publisher(HOSTILE, HOSTILE, HOSTILE))
    plain = written(tmp_path / "plain", [replace(bare(), name=listing.name) for listing in LISTINGS])
    for name in (each for each in found if each.endswith(".html")):
        page = Elements(found[name])
        assert not {tag for tag, _ in page.tags} & {"img", "iframe", "object", "embed", "base"}
        assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
        assert all(
            re.match(r"(\.\./|#|[\w./-]+$|https://spdx\.org/|mailto:\w+@)", link) for link in page.values("href")
        )
        scripts = Elements(plain[name]).texts
        assert [kind for kind, _ in page.texts] == [kind for kind, _ in scripts]
        assert [text for kind, text in page.texts if kind == ""] == [text for kind, text in scripts if kind == ""]
        assert "49" not in re.sub("[0-9a-f]{64}", "", page.said)  # the text was no template
    page = Elements(found["listings/hostile.html"])
    escaped = HOSTILE.replace("\u2028", "\\u2028")
    assert page.said.count(escaped) >= 8
    [(kind, embedded)] = page.texts
    assert kind == "application/ld+json" and json.loads(embedded) == croissant(LISTINGS[2])
    assert not set("<>&\u2028") & set(embedded)


def test_a_description_by_others_stands_on_the_first_page_and_leads_to_its_address(tmp_path):
    address = "https://example.org/a?b=1&c='2'"
    others = [
        Imported("one", HOSTILE, HOSTILE, address, (HOSTILE,), (HOSTILE,), (HOSTILE,), "2026-01-31", "1", (HOSTILE,)),
        Imported("two", "Two"),
    ]
    write_site(tmp_path / "site", [bare()], Publisher("Shop"), others)
    page = Elements((tmp_path / "site" / "index.html").read_text("utf-8"))
    assert [link for link in page.values("href") if not link.startswith("#")] == [
        *("catalogue.jsonld", "catalogue.jsonld", "listings/bare.html", address),
    ]
    assert len(page.texts) == 1 and not {tag for tag, _ in page.tags} & {"img", "iframe"}
    assert page.said.count("imported, without a commitment") == 2 and "3 data sets" in page.said
    assert [item.get("data-date") for tag, item in page.tags if tag == "li"] == [None, "2026-01-31", None]
    data = json.loads((tmp_path / "site" / "catalogue.jsonld").read_text())["dcat:dataset"]
    assert [each["dct:title"] for each in data] == ["bare"]  # the other one is for its owner to publish


def test_pages_allow_no_script_but_the_search(tmp_path):
    found = written(tmp_path / "site")
    for name in (each for each in found if each.endswith(".html")):
        page = Elements(found[name])
        [policy] = [each["content"] for tag, each in page.tags if "Content-Security-Policy" in each.values()]
        own = [text for kind, text in page.texts if kind == ""]
        assert len(own) == (name == "index.html")
        digests = [f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in own]
        assert f"script-src {' '.join(digests) or repr('none')};" in policy and "default-src 'none'" in policy


def test_only_addresses_of_the_web_and_of_mail_become_links(tmp_path):
    contacts = {
        "https://example.org/ask?a=1&b=2": "https://example.org/ask?a=1&b=2",
        "a.b+c@example.org": "mailto:a.b+c@example.org",
        "javascript:alert(1)": None,
        "data:text/html,x": None,
        "a@b": None,
        "a@example.org?cc=x@y.org": None,
        "https://a.org/ javascript:": None,
        "https://user:secret@a.org/": None,
        'https://a.org/"x': None,
    }
    for k, (contact, address) in enumerate(contacts.items()):
        text = written(tmp_path / str(k), [replace(bare(), terms=Terms(contact=contact))])["listings/bare.html"]
        page = Elements(text)
        outside = [link for link in page.values("href") if ":" in link]
        assert outside == ([address] if address else []) and contact in page.said, contact


def test_statistics_and_samples_are_shown_with_what_they_reveal_and_only_if_published(tmp_path):
    samples = Samples("real", ((0.125, 3.5),), (2,), "These are real rows.")
    shown = written(tmp_path / "a", [replace(complete(), samples=samples)])["listings/complete.html"]
    page = Elements(shown).said
    assert all(word in page for word in ("standard deviation", "-0.0625", "1.25", "Not differentially private."))
    assert all(word in page for word in ("0.125", "3.5", "These are real rows.", "007"))
    some = replace(complete(), statistics=Statistics((1, 2, 1), (-0.0625,), (1.25,), "Of one column.", (1,)))
    page = Elements(written(tmp_path / "c", [some])["listings/complete.html"]).said
    assert re.search(r"a/b, cbinary––\s*Größereal-0.06251.25\s", page) and "Of one column." in page
    silent = replace(complete(), statistics=None, class_names=None)
    page = Elements(written(tmp_path / "b", [silent])["listings/complete.html"]).said
    assert not any(word in page for word in ("deviation", "-0.0625", "private", "Samples", "Classes"))
    assert "a/b, c" in page


def test_prices_and_leads_are_short(tmp_path):
    prices = {
        100.0: "100 EUR",
        99.5: "99.5 EUR",
        0: "0 EUR",
        1e21: f"1{'0' * 21} EUR",
        30: "30 EUR",
        1e-7: "0.0000001 EUR",
    }
    for price, words in prices.items():
        listing = replace(bare(), terms=Terms(price=price, currency="EUR"), description="A\t b\r\nc. " + "D. " * 300)
        found = written(tmp_path / "site", [listing])
        assert words in Elements(found["index.html"]).said.split("3 classes")[1]
        assert f"price\n{words}\n" in Elements(found["listings/bare.html"]).said
        assert re.search("\nA b c[.] (D[.] )*D?[.]?…?\n", Elements(found["index.html"]).said)
        assert len(max(Elements(found["index.html"]).said.splitlines(), key=len)) <= 300
        assert "A  b\nc. D." in Elements(found["listings/bare.html"]).said


def test_a_page_names_the_first_columns_and_says_so(tmp_path):
    columns = tuple((f"c{k}", "real") for k in range(3000))
    wide = replace(bare(), features=3000, types={"binary": 0, "integer": 0, "real": 3000}, columns=columns)
    found = written(tmp_path / "site", [wide])
    page = Elements(found["listings/bare.html"])
    assert "c199" in page.said and "c200" not in page.said and "first 200 of 3000 columns" in page.said
    assert page.texts == [] and len(found["listings/bare.html"]) < 200_000  # the file alone has the Croissant
    assert "c2999" in found["croissant/bare.json"]


def test_a_site_is_written_again_and_loses_what_is_gone(tmp_path):
    folder = tmp_path / "site"
    written(folder)
    found = written(folder, [complete()])
    assert set(found) == {"index.html", "catalogue.jsonld", "croissant/complete.json"} | {
        f"listings/complete.{kind}" for kind in ("html", "json")
    }
    assert written(folder, [complete()]) == found
    assert "0 data sets" in written(folder, [])["index.html"]


@pytest.mark.parametrize("other", ["file", "folder", "foreign page"])
def test_a_folder_with_other_files_is_left_alone(tmp_path, other):
    folder = tmp_path / "site"
    if other == "file":
        folder.write_text("mine")
    else:
        folder.mkdir()
        (folder / ("index.html" if other == "foreign page" else "notes.txt")).write_text("mine")
    before = sorted(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(InputError, match="site: got .*; expected a new folder, an empty one, or a site"):
        write_site(folder, LISTINGS, Publisher())
    assert sorted(path.read_text() for path in tmp_path.rglob("*") if path.is_file()) == before == ["mine"]


def test_without_a_script_the_first_page_is_a_list(tmp_path):
    page = Elements(written(tmp_path / "site")["index.html"])
    items = [attributes for tag, attributes in page.tags if tag == "li"]
    assert len(items) == 4 and not any("hidden" in item for item in items)
    assert [each for tag, each in page.tags if tag == "form"] == [{"class": "search", "role": "search", "hidden": None}]


QUERIES = {
    "": 4,
    "GRÖSSE": 0,  # a browser's lower case keeps the sharp s
    "GRÖßE 2": 1,
    "script alert": 2,
    "rows>=4": 1,
    "rows>=3 price<=2": 3,
    "date>=2026-01-31": 1,
    "date>2026-01-31": 0,
    "rows>=many": "rows: a number is expected",
    "date>=2026": "date: a day, as in 2026-01-31, is expected",
    "colour=blue": 0,
}


# Only a browser runs the page's script. Without Chromium, which no Python package brings, the tests above still check
# the script's digest in the policy, and the list that a page without scripts is.
@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_the_search_of_the_page_in_a_browser(tmp_path):
    written(tmp_path / "site")
    address = (tmp_path / "site" / "index.html").as_uri()
    for query, expected in QUERIES.items():
        page = Elements(dom(f"{address}#q={quote(query)}", tmp_path))
        items = [attributes for tag, attributes in page.tags if tag == "li"]
        shown = [item for item in items if "hidden" not in item]
        words = expected if isinstance(expected, str) else f"{expected} of 4 data sets" if query else "4 data sets"
        assert len(shown) == (4 if isinstance(expected, str) else expected), query
        assert words in page.said, query
        assert [each for tag, each in page.tags if tag == "form"] == [{"class": "search", "role": "search"}]


# Only a browser knows how wide a page is drawn, so that this needs Chromium too.
@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_no_page_is_wider_than_a_phone_or_a_desk(tmp_path):
    found = written(tmp_path / "site")
    pages = []
    for k, name in enumerate(name for name in sorted(found) if name.endswith(".html")):
        pages.append(tmp_path / f"{k}.html")  # without its policy, which does not let the measuring script run
        bare_text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", found[name])
        assert count == 1
        pages[-1].write_text(bare_text, encoding="utf-8")
    measures = measured(pages, (400, 1200), tmp_path)
    assert len(measures) == 2 * len(pages) == 10
    assert [(one["page"], one["width"]) for one in measures if one["cut"] or one["document"] > one["width"]] == []
