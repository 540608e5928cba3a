"""The one reader of files with a JSON object a line."""

from __future__ import annotations

import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.json_lines import read_lines


def counted(entries):
    if "n" not in entries:
        raise InputError("entries", "no n", "the key n")
    return entries["n"]


def test_lines_are_made_into_records_in_their_order(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"n": 2}\n{"n": "\u2028"}\n')
    assert read_lines(path, counted) == [2, "\u2028"]
    path.write_text("")
    assert read_lines(path, counted) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"n": 1}\n{"m": 1}\n', "r.jsonl, line 2: got no n; expected the key n"),
        ('{"n": 1}\n[1]\n', "r.jsonl, line 2: got .* expected one JSON object"),
        ('{"n": 1}\n\n', r"r.jsonl, line 2: got .*expected one JSON object \("),
        ("[" * 100_000 + "\n", "r.jsonl, line 1: .*one JSON object"),
        ('{"n": 1}', "r.jsonl, line 1: .*a whole line"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path, text, message):
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_lines(path, counted)


def test_errors_call_the_file_as_they_are_told_to(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="^study, line 1: .*text in UTF-8"):
        read_lines(tmp_path / "r.jsonl", counted, "study")
    with pytest.raises(InputError, match="^study: .*a readable file of records"):
        read_lines(tmp_path / "none.jsonl", counted, "study")
