"""Results are indexed and sorted, and their correlations are those of scipy."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats
from test_report import (
    NAMES,
    join_records,
    records,
    result,  # noqa: F401  a fixture
)

from mpc_appraisal import load
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.table import number

# ---- Result


def test_a_result_is_a_sequence(result):
    rows = records()
    assert len(result) == 15 and list(result) == rows and result[-1] == rows[-1]
    assert result[2:4] == Result(rows[2:4])
    assert result.methods == ["gradient_norm", "influence", "retraining"]
    assert result.candidates == list(NAMES)
    assert repr(result).splitlines()[0].startswith("In short") and "gradient_norm" in repr(result)


def test_indexing_by_candidate_and_method(result):
    rows = records()
    assert result["influence", "gamma"] == rows[7]
    assert result["gamma"] == {"gradient_norm": rows[2], "influence": rows[7], "retraining": rows[12]}
    one = Result(r for r in rows if r.method != "gradient_norm")
    assert one["gamma"] == {"influence": rows[7], "retraining": rows[12]}
    assert one["gamma"].value == rows[7].value  # one method and a baseline: the method's record
    assert one["retraining", "gamma"] == rows[12]
    assert Result(rows[10:])["gamma"].value == rows[12].value
    with pytest.raises(AttributeError, match="several methods.*gradient_norm"):
        _ = result["gamma"].value
    error = replace(rows[7], method="influence_error", value=-0.5)
    assert Result([*one, error])["gamma"].value == rows[7].value and Result([error])["gamma"].value == -0.5
    assert type(Result([error])["gamma"]) is type(result["gamma"]) is type(one["gamma"])  # however many methods ran
    assert pickle.loads(pickle.dumps(one["gamma"])) == copy.deepcopy(one["gamma"]) == one["gamma"]


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


# ---- what a result shows, and what it writes


def test_a_result_shows_itself_in_a_notebook(result):
    class Cells(HTMLParser):
        def __init__(self, text):
            super().__init__()
            self.cells, self.open = [], []
            self.feed(text)

        def handle_starttag(self, tag, attributes):
            self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            self.cells += [data.strip()] * bool(data.strip())

    page = result._repr_html_()
    parsed = Cells(page)
    assert parsed.open == [] and "<script" not in page
    for record in result:
        assert record.candidate in parsed.cells
        assert record.baseline or number(record.value) in parsed.cells
    assert "No records" in Result([])._repr_html_() and "No records" in repr(Result([]))
    assert result.plot()._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="plot"):
        Result([Record("influence", "a", None)]).plot()


def test_the_summary_has_a_row_for_each_method(result):
    found = result.summary()
    assert list(found.index) == ["gradient_norm", "influence", "retraining"]
    for method in ("gradient_norm", "influence"):
        of = [r for r in records() if r.method == method]
        row = found.loc[method]
        assert row["candidates"] == 5 and row["best"] == max(of, key=lambda r: r.value).candidate
        assert row["rank_with_utility"] == pytest.approx(
            stats.spearmanr([r.value for r in of], [r.utility for r in of])[0]
        )
        assert row["largest_difference"] == max(abs(r.difference) for r in of)
        assert row["rounds"] == sum(r.rounds for r in of) and row["megabytes"] == sum(r.megabytes for r in of)
    hidden = Result([Record("influence", "a", None), Record("influence", "b", None)]).summary()
    assert hidden.loc["influence", "best"] is None or np.isnan(hidden.loc["influence", "best"])


def test_a_result_is_saved_and_read_again(result, tmp_path):
    path = result.save(tmp_path / "new" / "run")
    frame = load(tmp_path / "new")
    assert path.name == "records.jsonl" and frame["value"].tolist() == [r.value for r in records()]
    with pytest.raises(InputError, match="^folder: got .*without records.jsonl"):
        result.save(tmp_path / "new" / "run")
    assert len(load(result[:3].save(tmp_path / "new" / "run", overwrite=True).parent)) == 3
    page = result.report(tmp_path / "page")
    assert page.read_text().count('href="card-') == len(NAMES) == len(list((tmp_path / "page").glob("card-*.html")))
