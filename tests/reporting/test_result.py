"""Results are indexed and sorted, and their correlations are those of scipy."""

from __future__ import annotations

import pytest
from scipy import stats
from test_report import (
    NAMES,
    join_records,
    records,
    result,  # noqa: F401  a fixture
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.result import Result

# ---- Result


def test_a_result_is_a_sequence(result):
    rows = records()
    assert len(result) == 15 and list(result) == rows and result[-1] == rows[-1]
    assert result[2:4] == Result(rows[2:4])
    assert result.methods == ["gradient_norm", "influence", "retraining"]
    assert result.candidates == list(NAMES)
    assert repr(result).count("\n") == 0 and "15 records" in repr(result)


def test_indexing_by_candidate_and_method(result):
    rows = records()
    assert result["influence", "gamma"] == rows[7]
    assert result["gamma"] == {"gradient_norm": rows[2], "influence": rows[7], "retraining": rows[12]}
    one = Result(r for r in rows if r.method != "gradient_norm")
    assert one["gamma"] == rows[7]  # one method and a baseline: the method's record
    assert one["retraining", "gamma"] == rows[12]
    assert Result(rows[10:])["gamma"] == rows[12]


@pytest.mark.parametrize("key", ["omega", ("influence", "omega"), ("omega", "gamma")])
def test_an_unknown_name_is_an_error_that_lists_the_known(result, key):
    with pytest.raises(InputError, match="gamma"):
        result[key]


def test_two_records_of_one_method_and_candidate_are_refused():
    with pytest.raises(InputError, match="influence of gamma twice"):
        Result([*records(), records(1)[7]])


def test_sort_and_best(result):
    values = [r.value for r in result.sort()]
    assert values == sorted(values, reverse=True)
    seconds = [r.total_seconds for r in result.sort(by="total_seconds", descending=False)]
    assert seconds == sorted(seconds)
    assert result.sort(by="difference")[-1].method == "retraining"  # unknown comes last
    assert result.best("influence").value == max(r.value for r in records() if r.method == "influence")
    with pytest.raises(InputError, match="by"):
        result.sort(by="beauty")
    with pytest.raises(InputError, match="method"):
        result.best("beauty")


def test_correlations_are_those_of_scipy(result):
    for method, found in result.correlations().items():
        rows = [r for r in records() if r.method == method]
        for key in ("utility", "level"):
            pair = [r.value for r in rows], [getattr(r, key) for r in rows]
            assert found[key]["spearman"] == pytest.approx(stats.spearmanr(*pair)[0], abs=1e-12)
            assert found[key]["pearson"] == pytest.approx(stats.pearsonr(*pair)[0], abs=1e-12)


def test_correlations_are_none_where_the_truth_is_unknown():
    none = {"spearman": None, "pearson": None}
    assert Result(join_records()).correlations() == {"influence": {"utility": none, "level": none}}


def test_to_frame(result):
    frame = result.to_frame()
    assert len(frame) == 15
    row = frame[(frame.method == "influence") & (frame.candidate == "gamma")].iloc[0]
    record = records()[7]
    assert row["value"] == record.value and row["seconds.score"] == record.seconds["score"]
    assert row["bytes_sent.model_owner"] == record.bytes_sent["model_owner"] and row["megabytes"] == record.megabytes
