"""Measures of values in whole runs: from Python, from the app, and in the reports; and what refuses them."""

from __future__ import annotations

import json

import pytest
from test_baselines import SETS, TEST, TRAIN

from mpc_appraisal import DisclosureControls, Join, appraise, load
from mpc_appraisal.appraisal.evaluation import Evaluation, as_evaluation
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.jobs import job_key
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.reporting.measured import MEASURES, Measured, read_measured, write_measured
from mpc_appraisal.reporting.measured_tables import measured_table, removal_figure
from mpc_appraisal.reporting.record import append
from mpc_appraisal.reporting.report import write_report
from mpc_appraisal.reporting.run_folders import run_folders
from mpc_appraisal.reporting.sweep_report import write_sweep_report

WORDS = ["session=plain", "scenario.candidates=6", "appraisal=influence", "evaluate.subsets=8", "evaluate.orders=1"]
WORDS += ["evaluate.models=2", "party.preflight=no"]


@pytest.fixture(scope="module")
def result():
    return appraise_config(compose([*WORDS, "evaluate.measures=all"]), lambda event: None, None)


def test_every_measure_says_something_of_each_method(result):
    found = {(one.measure, one.method): one for one in result.measured}
    assert {measure for measure, _ in found} == set(MEASURES)
    for measure in ("datamodelling", "removal", "detection"):
        assert {method for m, method in found if m == measure} == {"influence", "retraining"}
    assert found["datamodelling", "influence"].score > 0.6 and found["removal", "influence"].score > 0
    assert -1 <= found["randomised", "influence"].score < 1


def test_the_measures_stand_in_report_files_and_sweep(result, tmp_path):
    folder = tmp_path / "sweep" / "0"
    folder.mkdir(parents=True)
    for record in result:
        append(folder / "records.jsonl", record)
    write_measured(result.measured, folder)
    assert tuple(read_measured(folder)) == result.measured
    assert "removal.svg" in {path.name for path in write_report(result, folder)}
    assert "How well the values serve" in (folder / "report.md").read_text()
    (run,) = run_folders([tmp_path / "sweep"])
    assert run.result.measured == result.measured
    write_sweep_report([tmp_path / "sweep"], tmp_path / "out")
    page, rows = (tmp_path / "out" / "report.md").read_text(), (tmp_path / "out/tables/measured.csv").read_text()
    assert "How well the values serve" in page and "datamodelling" in page
    assert len(rows.splitlines()) == 1 + len(result.measured)
    assert len(load(tmp_path / "sweep")) == len(result)


def test_a_damaged_file_of_measures_damages_its_run(result, tmp_path):
    append(tmp_path / "records.jsonl", result[0])
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"format": "another"}) + "\n")
    (run,) = run_folders([tmp_path])
    assert run.state == "damaged records" and "mpc_appraisal.evaluation.v1" in run.reason
    spoilt = result.measured[0].as_dict() | {"score": "NaN"}
    with pytest.raises(InputError, match="evaluation.score"):
        Measured.from_dict(spoilt)
    with pytest.raises(InputError, match="evaluation.measure"):
        Measured.from_dict(result.measured[0].as_dict() | {"measure": "other"})


def test_a_table_without_scores_says_why():
    table = measured_table([Measured("datamodelling", "influence", None, note="There are 3 sets.")])
    assert table.rows == [("influence", "–")] and "There are 3 sets." in table.notes
    assert removal_figure([]) is None


def test_the_measures_change_no_digest_and_their_absence_no_key():
    plain, more = compose([]), compose(["evaluate.measures=all"])
    assert config_hash(public_part(plain)) == config_hash(public_part(more)) and "evaluate" not in public_part(plain)
    assert job_key(plain) == job_key(compose(["evaluate.subsets=9"])) != job_key(more)


def test_python_takes_names_and_objects():
    candidates = {one.name: (one.x.numpy(), one.y.numpy()) for one in SETS}
    own = {"train": TRAIN, "test": TEST, "session": "plain", "method": ["influence", "relevance"]}
    found = appraise(candidates, **own, evaluate=["removal", "randomised"]).measured
    assert [(one.measure, one.method) for one in found] == [
        ("removal", "influence"),
        ("removal", "relevance"),
        ("randomised", "relevance"),
        ("randomised", "influence"),
    ]
    assert found[2].score is None and "reads no linear model" in found[2].note
    assert appraise(candidates, **own).measured == () and as_evaluation(None).measures == ()


@pytest.mark.parametrize(
    "stated, name",
    [
        ({"measures": "lds"}, "evaluate.measures"),
        ({"measures": ["removal", "removal"]}, "evaluate.measures"),
        ({"subsets": 7}, "evaluate.subsets"),
        ({"share": 1}, "evaluate.share"),
        ({"orders": 0}, "evaluate.orders"),
        ({"models": True}, "evaluate.models"),
    ],
)
def test_bad_settings_are_refused(stated, name):
    with pytest.raises(InputError, match=name):
        Evaluation(**stated)


def test_where_data_are_missing_measures_are_refused():
    with pytest.raises(InputError, match="evaluate.*Join"):
        appraise(session=Join(role="dealer"), controls=DisclosureControls(), evaluate="all")
    candidates = {one.name: (one.x.numpy(), one.y.numpy()) for one in SETS}
    with pytest.raises(InputError, match="^evaluate: .*removal.*test rows"):
        appraise(candidates, train=TRAIN, method="gradient_norm", session="plain", evaluate="removal")
    with pytest.raises(InputError, match="^evaluate: got .'lds'.; expected none, all"):
        appraise(candidates, train=TRAIN, test=TRAIN, session="plain", evaluate="lds")
    with pytest.raises(InputError, match="^evaluate.share: "):
        appraise(candidates, train=TRAIN, test=TRAIN, session="plain", evaluate=Evaluation("datamodelling", share=0.01))
    with pytest.raises(InputError, match="^evaluate.measures: "):
        appraise_config(compose(["session=join", "session.role=dealer", "evaluate.measures=all"]), print, None)
