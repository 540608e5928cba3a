"""Records: what is written is what is read, and what must not be written is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re

import numpy as np
import pytest
import torch
from full_record import FULL, OPENING

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting import record as module
from mpc_appraisal.reporting.record import Record, append, read


def test_the_keys_are_the_published_ones():
    keys = (
        "method candidate value paper_value plaintext_value difference error_bound n features classes level "
        "utility seconds bytes_sent rounds failure_probability estimate seed openings versions config_hash revision "
        "session engine role trust release listing request budget warnings recompute error_note overlap settings "
        "resolution"
    )
    assert set(json.loads(FULL.to_json())) == set(keys.split())


@pytest.mark.parametrize("record", [FULL, Record("random", "a", 0.5), Record("influence", "a", None, session="join")])
def test_round_trip_is_exact(record):
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record
    assert pickle.loads(pickle.dumps(record)) == record


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"release.threshold": 0.5}, "record.settings.release.threshold"),
        ({"model.l2": float("nan")}, "record.settings.model.l2"),
        ({"scenario": {"size": 3}}, "record.settings.scenario"),
        ({"session.rendezvous": "tcp://10.0.0.1:29500"}, "record"),
        ({"party.data": ["/home/somebody/a.npz"]}, "record"),
        ([1], "record.settings"),
    ],
)
def test_settings_hold_no_secret_no_place_and_no_nesting(settings, name):
    with pytest.raises(InputError) as found:
        Record("influence", "a", 0.5, settings=settings)
    assert found.value.name == name


def test_a_line_has_settings_only_where_they_are_known():
    assert "settings" not in json.loads(Record("influence", "a", 0.5).to_json())
    line = Record("influence", "a", 0.5, settings={"seed": np.int64(3), "labels": (1, 7)}).to_json()
    assert json.loads(line)["settings"] == {"seed": 3, "labels": [1, 7]}


def test_numbers_of_numpy_and_torch_become_plain_ones():
    record = Record(
        "influence",
        "a",
        np.float64(0.5),
        paper_value=torch.tensor(-0.5),
        n=np.int64(3),
        rounds=torch.tensor(2),
        bytes_sent={"dealer": np.int64(9)},
    )
    assert Record.from_json(record.to_json()) == Record(
        "influence", "a", 0.5, paper_value=-0.5, n=3, rounds=2, bytes_sent={"dealer": 9}
    )


def test_derived_costs():
    assert FULL.total_seconds == 1.75
    assert FULL.megabytes == (2**40 + 3) / 1e6


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.value = 1.0


@pytest.mark.parametrize("key", module.FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", True])
def test_a_number_that_is_not_finite_or_not_a_number_is_refused(key, value):
    with pytest.raises(InputError, match=f"record.{key}"):
        dataclasses.replace(FULL, **{key: value})


@pytest.mark.parametrize(
    "change, name",
    [
        ({"seconds": {"score": math.nan}}, "seconds.score"),
        ({"bytes_sent": {"dealer": 1.5}}, "bytes_sent.dealer"),
        ({"n": 1.5}, "record.n"),
        ({"session": "cloud"}, "record.session"),
        ({"method": ""}, "record.method"),
        ({"candidate": 3}, "record.candidate"),
        ({"openings": ({"what": "x"},)}, "record.openings"),
        ({"openings": ({**OPENING, "numbers": 1.5},)}, "openings.numbers"),
        ({"seconds": [1.0]}, "record.seconds"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(change, name):
    with pytest.raises(InputError, match=re.escape(name)):
        dataclasses.replace(FULL, **change)


@pytest.mark.parametrize(
    "place",
    ["/data/seller.csv", "data/seller.csv", "~/seller", "C:\\files", "tcp://10.0.0.1:29500", "read from /mnt/x"],
)
@pytest.mark.parametrize("key", ["candidate", "engine", "trust"])
def test_no_place_is_ever_in_a_record(place, key):
    with pytest.raises(InputError, match="no path"):
        dataclasses.replace(FULL, **{key: place})


def test_no_place_in_an_opening():
    with pytest.raises(InputError, match="no path"):
        dataclasses.replace(FULL, openings=({**OPENING, "why": "asked by /home/a"},))


@pytest.mark.parametrize("name", ["p = 3/10", "label_noise 1/10", "1/7 flipped", "seller.csv", "eq. 7, n/a"])
def test_a_fraction_is_not_a_path(name):
    assert dataclasses.replace(FULL, candidate=name).candidate == name


@pytest.mark.parametrize("key", ["plaintext_value", "difference", "level", "utility"])
def test_between_organisations_nobody_knows(key):
    with pytest.raises(InputError, match=f"record.{key}"):
        Record("influence", "a", 0.5, session="join", **{key: 0.25})


def test_append_then_read(tmp_path):
    path = tmp_path / "records.jsonl"
    records = [FULL, Record("random", "a", 0.5)]
    for record in records:
        append(path, record)
    assert read(path) == records
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    "bad",
    [
        "not json",
        "[1, 2]",
        "",
        '{"method": "a"}',
        '{"value": NaN}',
        FULL.to_json().replace("38", "NaN"),
        FULL.to_json().replace('"n"', '"rows"'),
        "\xff",
    ],
)
def test_a_bad_line_is_an_error_with_its_number(tmp_path, bad):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\n".join([FULL.to_json().encode(), bad.encode("latin-1"), FULL.to_json().encode(), b""]))
    with pytest.raises(InputError, match="line 2"):
        read(path)


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_an_unfinished_last_line_is_reported_and_never_written_after(tmp_path, cut):
    path = tmp_path / "records.jsonl"
    append(path, FULL)
    append(path, FULL)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match="line 2.*whole line"):
        read(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="unfinished"):
        append(path, FULL)
    assert path.read_bytes() == before


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="readable file"):
        read(tmp_path / "none.jsonl")
