"""The command mpc-appraisal catalogue, as a process, and an appraisal against a listing between three processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import replace

import numpy as np
import pytest
from processes import APP, DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port, problem, write_csv, write_npz
from rich.console import Console
from test_catalogue import ESCAPE, digits, full, listed, small  # noqa: F401  fixtures

from mpc_appraisal.cli.commands.catalogue import main as catalogue_command
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Resolution, read_dataset
from mpc_appraisal.governance.catalogue import (
    check_listing,
    new_salt,
    publish,
    read_listing,
    read_salt,
    write_listing,
    write_salt,
)

# ---- the command, as a process ----


def command(processes, name, *arguments):
    return processes.start(name, [*APP, "catalogue", *arguments]).wait(60)


def test_the_command(processes, tmp_path):
    x, y = problem(60)
    data, out = write_npz(tmp_path / "own" / "seller.npz", x, y), tmp_path / "out"
    stated = [f"data={data}", "name=sales-1", f"out={out}", f"title={ESCAPE}", "terms=once", "price=10", "currency=EUR"]
    stated += ["creator=Müller & Söhne", "date=2026-01-31", "version=1.0.0", "licence=CC-BY-4.0"]
    stated += ["purposes=research, teaching", "minimum_rows=20", "samples=synthetic:4", "columns=a,b,c,d"]
    done = command(processes, "publish", "publish", *stated)
    assert done.code == 0, done.err
    salt = tmp_path / "own" / "seller.npz.sales-1.salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600 and str(salt) in done.out and "reveal" in done.out
    assert os.listdir(out) == ["sales-1.json"]
    listing = read_listing(out / "sales-1.json")
    assert salt.read_text().strip() not in listing.text() and "seller" not in listing.text()
    check_listing(listing, read_dataset(data), read_salt(salt))

    (out / "bad\x1b.json").write_text("{")
    shown = command(processes, "list", "list", f"in={out}")
    assert shown.code == 1 and "sales-1" in shown.out and r"bad\x1b.json" in shown.err
    found = command(processes, "search", "search", f"in={out}", "OWNED", "rows>=60", "price<=10", "date<2027-01-01")
    assert found.code == 0 and "1 of 1" in found.out and "sales-1" in found.out
    one = command(processes, "show", "show", "sales-1", f"in={out}")
    assert one.code == 0 and listing.digest in one.out and "teaching" in one.out and "Samples (synthetic)" in one.out
    assert all(word in one.out for word in ("Müller & Söhne", "2026-01-31", "1.0.0"))
    assert not any("\x1b" in end.out + end.err or "\u202e" in end.out for end in (shown, found, one))


def test_the_digest_of_a_listing_is_that_of_its_file(tmp_path, full):
    for listing in (full, listed(small())):
        path = tmp_path / f"{listing.name}.json"
        write_listing(path, listing)
        assert listing.file_digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert read_listing(path).file_digest == listing.file_digest
    assert full.file_digest != listed(small()).file_digest


def test_check_tells_the_listed_data_from_others(tmp_path, capsys):
    from mpc_appraisal.cli.commands import COMMANDS

    def check(data, *more):
        COMMANDS["catalogue"](["check", f"listing={tmp_path}/out/sales.json", f"data={data}", *more])
        return capsys.readouterr().out

    x, y = problem(60)
    data = write_npz(tmp_path / "seller.npz", x, y)
    given = {"name": "sales", "types": {"binary": 0, "integer": 0, "real": 4}}
    published = publish(read_dataset(data), given, tmp_path / "out", tmp_path / "seller.npz.sales.salt")
    digest = read_listing(published).digest
    assert check(data) == f"the data are those of listing sales: commitment {digest}\n"
    salt = f"secret={tmp_path}/seller.npz.sales.salt"
    table = write_csv(tmp_path / "delivered.csv", x, y)
    assert digest in check(table, salt, "label=label", f"classes={int(y.max()) + 1}")

    x[7, 1] += 1e-9
    with pytest.raises(InputError, match="listing sales: commitment.digest"):
        check(write_npz(tmp_path / "other.npz", x, y), salt)
    with pytest.raises(InputError, match="listing sales: data.rows: got 59; expected 60"):
        check(write_npz(tmp_path / "short.npz", x[1:], y[1:]), salt)
    write_salt(tmp_path / "wrong.salt", new_salt())
    with pytest.raises(InputError, match="listing sales: commitment.digest"):
        check(data, f"secret={tmp_path}/wrong.salt")
    assert capsys.readouterr().out == ""


def test_a_resolution_is_published_on_demand_and_checked(tmp_path, capsys):
    pixels = np.random.default_rng(5).integers(0, 256, (60, 4)) / 255
    pixels[0] = 1.0
    x, y = np.round(pixels * 255) / 255, problem(60)[1]
    data, out = write_npz(tmp_path / "seller.npz", x, y), tmp_path / "out"
    catalogue_command(["publish", f"data={data}", "name=plain", f"out={out}"])
    catalogue_command(["publish", f"data={data}", "name=pixels", f"out={out}", "resolution=yes"])
    said = capsys.readouterr().out
    assert said.count("resolution: ") == 1
    assert said.endswith("resolution: every number of the data is k / 255 for an integer k of at most 8 bits.\n")
    assert read_listing(out / "plain.json").resolution is None and "resolution" not in (out / "plain.json").read_text()
    listing, salt = read_listing(out / "pixels.json"), read_salt(tmp_path / "seller.npz.pixels.salt")
    assert listing.resolution == Resolution(255, 8)
    assert json.loads((out / "pixels.json").read_text())["data"]["resolution"] == {"scale": 255, "bits": 8}
    check_listing(listing, read_dataset(data), salt)
    catalogue_command(["check", f"listing={out}/pixels.json", f"data={data}"])
    for stated in (Resolution(256, 9), Resolution(255, 9), Resolution(1, 8)):
        with pytest.raises(InputError, match=r"listing pixels: data.resolution: got \{'scale': 255, 'bits': 8\}; exp"):
            check_listing(replace(listing, resolution=stated), read_dataset(data), salt)
    x[7, 2] += 1e-6
    with pytest.raises(InputError, match=r"data.resolution: got None; expected \{'scale': 255, 'bits': 8\}, as the"):
        check_listing(listing, read_dataset(write_npz(tmp_path / "other.npz", x, y)), salt)


def test_statistics_of_the_columns_that_the_owner_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = problem(60)
    write_csv(tmp_path / "seller.csv", x, y)
    given = ["data=seller.csv", "label=label", "columns=file"]
    catalogue_command(["publish", *given, "name=all", "statistics=yes"])
    names = [name for name, _ in read_listing("catalogue/all.json").columns]
    catalogue_command(["publish", *given, "name=some", f"statistics={names[2]}, {names[0]}"])
    whole, some = (read_listing(f"catalogue/{name}.json").statistics for name in ("all", "some"))
    assert some.columns == (0, 2) and some.mean == (whole.mean[0], whole.mean[2])
    assert "each shown feature's mean" in capsys.readouterr().out
    for text in (f"{names[0]},other", f"{names[0]},{names[0]}", "", "Yes"):
        with pytest.raises(InputError, match="statistics: got .*; expected yes or no, or names that columns="):
            catalogue_command(["publish", *given, "name=bad", f"statistics={text}"])
    with pytest.raises(InputError, match="statistics: got .*; expected yes or no, or names that columns="):
        catalogue_command(["publish", *given[:2], "name=bad", f"statistics={names[0]}"])
    assert sorted(os.listdir("catalogue")) == ["all.json", "some.json"]


@pytest.mark.parametrize(
    ("word", "said"),
    [("yes", "resolution: got yes; expected no: the numbers are no multiples of 1 / S"), ("maybe", "^resolution: got")],
)
def test_a_resolution_that_the_data_lack_is_not_published(tmp_path, word, said):
    data, out = write_npz(tmp_path / "seller.npz", *problem(60)), tmp_path / "out"
    with pytest.raises(InputError, match=said):
        catalogue_command(["publish", f"data={data}", "name=floats", f"out={out}", f"resolution={word}"])
    assert not out.exists() and os.listdir(tmp_path) == ["seller.npz"]


# ---- an appraisal against a listing, between three processes ----


def appraise(processes, root, *own):
    """Return how each party ends if the data owner states `own` beside its file."""
    public = ["session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "appraisal=gradient_norm"]
    files = {
        MODEL_OWNER: [f"party.train={root}/train.npz", f"party.test={root}/test.npz"],
        DATA_OWNER: [f"party.data={root}/seller.npz", *own],
        DEALER: [],
    }
    started = {role: processes.app(role, *public, f"session.role={role}", *files[role]) for role in ROLES}
    return {role: process.wait(90) for role, process in started.items()}


@pytest.fixture
def market(tmp_path):
    """Make the files of both sides, and publish the seller's data as the listing `sales`."""
    for k, name in enumerate(("train", "test", "seller")):
        write_npz(tmp_path / f"{name}.npz", *problem(50, seed=k))
    data = read_dataset(tmp_path / "seller.npz")
    publish(
        data, {"name": "sales", "types": {"binary": 0, "integer": 0, "real": 4}}, tmp_path / "out", tmp_path / "salt"
    )
    return tmp_path


def test_data_that_match_their_listing_are_appraised(processes, market):
    (market / "salt").rename(market / "seller.npz.sales.salt")  # where it is looked for
    ended = appraise(processes, market, f"party.listing={market}/out/sales.json")
    assert all(end.code == 0 for end in ended.values()), ended
    assert (market / MODEL_OWNER / "run" / "records.jsonl").is_file()


def test_data_that_do_not_match_their_listing_stop_the_appraisal_before_anything_is_shared(processes, market):
    x, y = problem(50, seed=2)
    x[7, 1] += 1e-9
    write_npz(market / "seller.npz", x, y)
    ended = appraise(processes, market, f"party.listing={market}/out/sales.json", f"party.secret={market}/salt")
    assert all(end.code == 2 for end in ended.values()), ended
    assert "error: listing sales: commitment.digest: got" in ended[DATA_OWNER].err
    for role in (MODEL_OWNER, DEALER):
        assert "data_owner stopped: bad input in listing sales: commitment.digest" in ended[role].err
        assert not (market / role / "run" / "records.jsonl").exists()


@pytest.mark.parametrize(
    ("own", "match"),
    [
        (
            ["party.listing=out/sales.json"],
            "error: secret: got .*seller.npz.sales.salt; expected the file with the salt",
        ),
        (["party.listing=[out/sales.json,out/sales.json]"], "error: party.listing: got 2 of them; expected 1: one for"),
        (["party.listing=out/other.json"], "error: listing: got .*; expected an existing file"),
    ],
)
def test_a_listing_that_cannot_be_checked_stops_the_appraisal(market, processes, own, match):
    stated = [text.replace("out/", f"{market}/out/") for text in own]
    stated += [f"party.data={market}/seller.npz", f"party.train={market}/train.npz", f"party.test={market}/test.npz"]
    end = processes.app("plain", "session=plain", *stated).wait(60)
    assert end.code == 2 and re.search(match, end.err), end.err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["burn"], "one of publish, list, search, show, import, site, check"),
        (["check"], "listing: got nothing"),
        (["check", "listing=a.json"], "data: got nothing"),
        (["check", "listing=a.json", "data=small.npz"], "listing: got a.json; expected an existing file"),
        (
            ["check", "listing=a.json", "data=small.npz", "out=b"],
            "out=b; expected KEY=VALUE, each key once, of listing",
        ),
        (["publish", "name=a"], "data: got nothing"),
        (["publish", "data=x.npz"], "name: got nothing"),
        (["publish", "data=x.npz", "name=../a"], "1 to 64 of a-z"),
        (["publish", "data=x.npz", "name=a", "owner=me"], "owner=me; expected KEY=VALUE"),
        (["publish", "data=x.npz", "name=a", "name=b"], "each key once"),
        (["publish", "data=catalogue/x.npz", "name=a"], "meant to be published"),
        (["publish", "data=x.npz", "name=a"], "data: got x.npz; expected an existing file"),
        (["publish", "data=small.npz", "name=a", "samples=3"], "none, synthetic:N or real:N"),
        (["publish", "data=small.npz", "name=a", "samples=real:x"], "samples: got 'x'; expected a whole number"),
        (["publish", "data=small.npz", "name=a", "columns=a"], "columns: got 1 names; expected 3"),
        (["publish", "data=small.npz", "name=a", "price=nan", "currency=EUR"], "price: got 'nan'; expected a finite"),
        (["publish", "data=small.npz", "name=a", "statistics=maybe"], "yes or no"),
        (["publish", "data=small.npz", "name=a", "minimum_rows=4"], r"terms\.minimum_rows: got 4; expected at most 3"),
        (["publish", "data=small.npz", "name=a", "date=today"], r"publication\.date: got 'today'; expected a day of"),
        (["publish", "data=small.npz", "name=a", "version=2"], r"publication\.version: got '2'; expected three whole"),
        (["publish", "data=small.npz", "name=a", "creator="], r"publication\.creator: got ''; expected a text of 1 to"),
        (["publish", "data=small.npz", "name=a", "licence=javascript:a()"], "licence: got javascript.*; expected the"),
        (["publish", "data=small.npz", "name=a", "licence=http://"], "licence: got http://; expected the name of a"),
        (["list", "rows>=3"], "to choose among listings: search"),
        (["list"], "in: got catalogue; expected the folder"),
        (["show"], "one name"),
        (["show", "../../etc/passwd"], "1 to 64 of a-z"),
        (["show", "none"], "an existing file"),
    ],
)
def test_wrong_arguments_are_refused_and_write_nothing(tmp_path, monkeypatch, arguments, match):
    from mpc_appraisal.cli.commands import COMMANDS

    monkeypatch.chdir(tmp_path)
    data = small()
    np.savez("small.npz", x=data.x.numpy(), y=data.y.numpy())
    with pytest.raises(InputError, match=match):
        COMMANDS["catalogue"](arguments)
    assert os.listdir(tmp_path) == ["small.npz"]


def test_help(capsys):
    from mpc_appraisal.cli.commands import COMMANDS

    for arguments in ([], ["--help"], ["publish", "-h"]):
        COMMANDS["catalogue"](arguments)
        assert "samples=synthetic:N" in capsys.readouterr().out


def test_labels_that_are_codes_are_refused_unless_the_number_of_classes_is_stated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{k},{10 * (1 + k % 3)}\n" for k in range(30))
    (tmp_path / "codes.csv").write_text("a,label\n" + rows)
    with pytest.raises(InputError, match="10, 20, 30.*write 10 as 0, 20 as 1, 30 as 2"):
        catalogue_command(["publish", "data=codes.csv", "name=codes", "title=x"], Console())
    catalogue_command(["publish", "data=codes.csv", "name=codes", "title=x", "classes=31"], Console())
