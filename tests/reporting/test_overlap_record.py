"""The record of a count is read as it was written, and a record that says something else is refused."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.overlap_record import OverlapRecord, append_overlap, overlap_table, read_overlaps

RECORD = OverlapRecord(
    role="model_owner",
    candidate="seller",
    compared={"what": "keys", "column": "customer", "features": None, "columns": None},
    minimum=10,
    items={"model_owner": 150, "data_owner": 200},
    own={"rows": 160, "copies": 8, "without_key": 2},
    count=50,
    fewer_than=None,
    revealed=["The model owner is shown the count."],
    trust="The owners follow the protocol.",
    request={"id": "0" * 12, "digest": "0" * 64, "approval": "command", "time": "2026-07-01T12:00:00+00:00"},
    budget=None,
    seconds={"model_owner": 1.23, "data_owner": 2.5},
    bytes_sent={"model_owner": 3000, "data_owner": 2000},
    rounds=2,
    transport="tls",
    config_hash="0123456789abcdef",
    versions={"python": "3.11", "crypten": None},
    revision=None,
)


def test_records_are_read_as_they_were_written(tmp_path):
    below = replace(RECORD, count=None, fewer_than=10)
    for each in (RECORD, below):
        append_overlap(tmp_path / "a.jsonl", each)
    assert read_overlaps(tmp_path / "a.jsonl") == [RECORD, below]
    assert [each.answer for each in (RECORD, below)] == ["50", "fewer than 10"]


def test_the_table_shows_a_count_only_to_the_side_that_has_it():
    def facts(record):
        return dict(overlap_table(record).rows)

    assert facts(RECORD)["in both sets"] == "50" and facts(RECORD)["share of the data owner's"] == "25.0%"
    own = facts(RECORD)["different keys, model_owner"]
    assert "8 copies removed of 160 rows, 2 rows have no key" in own and own.startswith("150 ")
    below = facts(replace(RECORD, count=None, fewer_than=51))
    assert below["in both sets"] == "fewer than 51" and "50" not in str(below).replace("150", "")
    computing = facts(replace(RECORD, role="data_owner", fewer_than=51))
    assert computing["in both sets"] == "fewer than 51" and computing["in both sets, shown to this side alone"] == "50"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"role": "dealer"}, "overlap record.role"),
        ({"count": -1}, "overlap record.count"),
        ({"minimum": 0}, "overlap record.minimum"),
        ({"seconds": {"model_owner": float("nan")}}, "overlap record.seconds.model_owner"),
        ({"items": {"dealer": 3}}, "overlap record.items"),
        ({"kind": "appraisal"}, "overlap record.kind"),
    ],
)
def test_a_bad_field_is_named(change, named):
    with pytest.raises(InputError) as caught:
        replace(RECORD, **change)
    assert caught.value.name == named


def test_a_line_with_other_keys_is_refused(tmp_path):
    facts = asdict(RECORD)
    for bad in (facts | {"more": 1}, {key: value for key, value in facts.items() if key != "count"}):
        with pytest.raises(InputError, match="the keys role"):
            OverlapRecord.of(bad)
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="line 1"):
        read_overlaps(tmp_path / "a.jsonl")
