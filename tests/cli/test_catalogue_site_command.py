"""The commands catalogue site and catalogue import: what they write, print and refuse."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from linked_data import BASE, HOSTILE, bare, complete
from processes import APP, problem, write_csv
from rich.console import Console

from mpc_appraisal.cli.commands.catalogue import main as catalogue_command
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.catalogue import write_listing
from mpc_appraisal.governance.site import Publisher, croissant, dcat


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalogue").mkdir()
    for listing in (bare(), complete()):
        write_listing(tmp_path / "catalogue" / f"{listing.name}.json", listing)
    return tmp_path


def foreign(folder, **more):
    content = croissant(complete(), BASE) | {"name": "Their digits", "description": f"Theirs {HOSTILE}"} | more
    (folder / "theirs.json").write_text(json.dumps(content))
    return "theirs.json"


def test_the_commands_as_processes(processes, catalogue):
    def command(*arguments):
        done = processes.start(arguments[0], [*APP, "catalogue", *arguments]).wait(60)
        assert done.code == 0, done.err
        return done.out

    where = f"in={catalogue}/catalogue"
    said = command("import", str(catalogue / foreign(catalogue)), where)
    assert "imported/their-digits.json (3 columns)" in said
    assert "left out: distribution, identifier, usageInfo" in said
    said = command("site", str(catalogue / "out"), where, "publisher=Shop", f"url={BASE}", "title=Our data")
    assert said == (
        f"site: {catalogue}/out/index.html (2 listings, 1 imported)\n"
        "listing bare: Croissant requires licence, creator, date, which it does not state\n"
    )
    publisher = Publisher("Shop", "Our data", None, BASE)
    assert json.loads((catalogue / "out" / "catalogue.jsonld").read_text()) == dcat([bare(), complete()], publisher)
    page = (catalogue / "out" / "index.html").read_text()
    assert "Our data" in page and "Published by Shop" in page and "imported, without a commitment" in page
    assert f'href="{BASE}listings/complete.html"' in page and "<script>alert" not in page


def test_no_file_of_a_site_holds_rows_a_digest_of_the_data_or_the_salt(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = problem(60)
    data = write_csv(tmp_path / "seller.csv", x, y)
    catalogue_command(["publish", "data=seller.csv", "name=a", "label=label"])
    catalogue_command(["publish", "data=seller.csv", "name=b", "label=label", "statistics=yes", "columns=file"])
    catalogue_command(["site", "out"])
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    secrets = {digest, *(path.read_text().strip() for path in tmp_path.glob("*.salt"))}
    assert len(secrets) == 3
    secrets |= {text for value in x.ravel() if len(text := repr(float(value))) > 6}
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(texts) == 8 and not [secret for secret in secrets for text in texts if secret in text]
    [said] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("statistics: ")]
    assert "may tell a single value" in said
    croissant_a, croissant_b = (json.loads((tmp_path / "out" / "croissant" / f"{n}.json").read_text()) for n in "ab")
    assert croissant_a["distribution"][0]["sha256"] != croissant_b["distribution"][0]["sha256"]  # each has its salt


def test_imported_descriptions_are_listed_searched_and_shown(catalogue, capsys):
    catalogue_command(["import", foreign(catalogue, url="https://example.org/d"), "name=theirs"])
    capsys.readouterr()
    for arguments in (["list"], ["search", "theirs"], ["search", "creator=Müller & Söhne", "date>=2026-01-01"]):
        catalogue_command(arguments, Console(width=250))
        out = capsys.readouterr().out
        assert "Their digits" in out and "https://example.org/d" in out and "without a commitment" in out
    catalogue_command(["search", "rows>=1"], Console(width=250))
    assert "Their digits" not in capsys.readouterr().out
    catalogue_command(["show", "theirs"], Console(width=250))
    out = capsys.readouterr().out
    assert "none: the description is imported" in out and "\u2028" not in out


@pytest.mark.parametrize("arguments", [["list"], ["search", "digits"]])
def test_a_site_in_place_of_a_catalogue_says_where_its_listings_are(catalogue, capsys, arguments):
    catalogue_command(["site", "out"])
    catalogue_command([*arguments, "in=out"], Console(width=250))
    assert "its listings are in the folder out/listings" in capsys.readouterr().err
    catalogue_command([*arguments, "in=out/listings"], Console(width=250))
    assert capsys.readouterr().err == ""


def test_a_bad_file_is_named_and_the_others_are_shown(catalogue, capsys):
    (catalogue / "catalogue" / "bad.json").write_text("{")
    (catalogue / "catalogue" / "imported").mkdir()
    (catalogue / "catalogue" / "imported" / "worse.json").write_text("[]")
    with pytest.raises(SystemExit) as ended:
        catalogue_command(["site", "out"])
    out, err = capsys.readouterr()
    assert ended.value.code == 1 and "bad.json" in err and "imported/worse.json" in err
    assert "site: out/index.html (2 listings)" in out and "publisher: DCAT-AP requires" in out
    assert sorted(os.listdir("out/listings")) == ["bare.html", "bare.json", "complete.html", "complete.json"]
    with pytest.raises(SystemExit):
        catalogue_command(["list"], Console(width=250))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["site"], "site: got nothing; expected the folder of the site, in=DIR, and title=..."),
        (["site", "a", "b"], "site: got a b; expected the folder"),
        (["site", "out", "owner=me"], "site: got out owner=me; expected the folder"),
        (["site", "catalogue"], "site: got catalogue; expected another folder"),
        (["site", "theirs.json"], "site: got theirs.json, which is no folder; expected a new folder"),
        (["site", "out", "url=example.org/"], "url: got example.org/; expected the address of the site"),
        (["site", "out", "url=https://example.org/a"], "url: got .*; expected the address of the site with a slash"),
        (["site", "out", "url=https://example.org/?a/"], "url: got .*; expected the address of the site with a slash"),
        (["site", "out", "publisher="], "publisher: got nothing; expected publisher=..."),
        (["site", "out", "in=none"], "in: got none; expected the folder of a catalogue"),
        (["import"], "import: got nothing; expected one Croissant file"),
        (["import", "a.json", "b.json"], "import: got a.json b.json; expected one Croissant file"),
        (["import", "none.json"], "croissant: got none.json; expected an existing file"),
        (["import", "theirs.json", "name=../a"], "name: got '../a'; expected name=..., 1 to 64 of a-z"),
        (["import", "theirs.json", "name=bare"], "name: got .*bare.json, which is already there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_refused_and_write_nothing(catalogue, arguments, match):
    foreign(catalogue)
    before = sorted(catalogue.rglob("*"))
    with pytest.raises(InputError, match=match):
        catalogue_command(arguments)
    assert sorted(catalogue.rglob("*")) == before
