"""Records and reports of private learning: what a record has to hold, and how a sweep sets cost against leak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.attacked import Attacked
from mpc_appraisal.reporting.learning_record import KEYS, LearningRecord
from mpc_appraisal.reporting.learning_report import write_learning
from mpc_appraisal.reporting.learning_sweep import NO_ATTACK, leak_figure, leak_points
from mpc_appraisal.reporting.load import load
from mpc_appraisal.reporting.record import Record, append
from mpc_appraisal.reporting.run_folders import run_folders
from mpc_appraisal.reporting.sweep_report import write_sweep_report

FOUND = {"attack": "membership", "setting": "a batch", "recovered": 0.9, "chance": 0.5, "meaning": "told rightly",
         "stops": "elsewhere", "stopped": None, "assumed": True, "points": []}  # fmt: skip
COLLUDED = FOUND | {"attack": "collusion", "recovered": 1.0, "chance": 0.0, "assumed": False}


def facts(label: str = "RTAS", attacks: list = [FOUND, COLLUDED], seed: int = 0, **more) -> dict:  # noqa: B006
    return {
        "kind": "learning", "config": "c", "revision": None, "versions": {}, "time": "t", "seed": seed,
        "session": "spawn", "protocol": label.lower(), "label": label, "settings": {"protocol": label.lower()},
        "data": {"name": "digits", "digest": None, "trained": 9, "tested": 8, "features": 2, "classes": 2, "steps": 4},
        "leakage": [f"What {label} leaks."], "trust": "Trust.", "openings": [], "attack": "all", "attacks": attacks,
        "accuracy": {"private": 0.8, "plain": 0.9, "always": 0.5},
        "cost": {"seconds": 6.0, "plain_seconds": 0.5, "bytes": {"model_owner": 1_500_000, "dealer": 500_000},
                 "rounds": 7},
    } | more  # fmt: skip


def written(folder: Path, record: dict) -> Path:
    folder.mkdir(parents=True)
    LearningRecord.of(record).write(folder / "records.jsonl")
    return folder


@pytest.fixture
def sweep(tmp_path) -> Path:
    root = tmp_path / "sweep"
    written(root / "0", facts())
    written(root / "1", facts(seed=1, attacks=[FOUND | {"recovered": 0.7}]))
    written(root / "2", facts("shares", attacks=[]))
    plain = facts("InstaHide", session="plain")["cost"] | {"seconds": None, "bytes": {}, "rounds": None}
    written(root / "3", facts("InstaHide", attacks=[], attack="none", session="plain", cost=plain))
    return root


def test_a_record_is_read_back(tmp_path):
    path = written(tmp_path / "a", facts()) / "records.jsonl"
    record = LearningRecord.read(path)
    assert record == LearningRecord(facts()) and set(record.facts) >= KEYS
    assert record.ratio == 12 and record.sent == 2_000_000
    assert record.best["attack"] == "membership"  # collusion is outside the assumptions


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_record_without_a_key_is_refused(key, tmp_path):
    with pytest.raises(InputError, match="one line of a run of private learning"):
        LearningRecord.of({k: v for k, v in facts().items() if k != key})


@pytest.mark.parametrize("broken", [{"attacks": [{"attack": "x"}]}, {"attacks": 3}, {"cost": {}}, {"accuracy": None}])
def test_a_record_with_broken_parts_is_refused(broken):
    with pytest.raises(InputError, match="one line of a run of private learning"):
        LearningRecord.of(facts() | broken)


def test_the_report_leads_with_a_picture_and_three_numbers_and_names_the_leak(tmp_path):
    write_learning(LearningRecord(facts()), tmp_path)
    text, page = ((tmp_path / f"report.{form}").read_text() for form in ("md", "html"))
    first = text.split("## ")[0]
    assert "attacks.png" in first and "|:---:|:---:|:---:|\n" in first and "0.800" in first and "0.90" in first
    assert "6.00 s, 2.00 MB" in first and "What RTAS leaks." in text and "What RTAS leaks." in page
    assert "| membership | a batch | 0.900 | 0.500 | 0.80 |" in text


def test_the_sweep_sets_cost_against_leak(sweep):
    rtas, shares, hide = leak_points(run_folders([sweep]))
    assert (rtas.label, rtas.runs, rtas.attack) == ("RTAS", 2, "membership")
    assert rtas.ratio == 12 and rtas.recovered == pytest.approx(0.8) and rtas.above == pytest.approx(0.6)
    assert (shares.attack, shares.above) == (NO_ATTACK, 0.0)
    assert hide.ratio is None and hide.above is None
    axis = leak_figure([rtas, shares, hide]).axes[0]
    assert [text.get_text().split("\n")[0] for text in axis.texts] == ["in the clear", "RTAS", "shares"]
    drawn = {(float(line.get_xdata()[0]), round(float(line.get_ydata()[0]), 6)) for line in axis.lines}
    assert drawn == {(1.0, 1.0), (12.0, 0.6), (12.0, 0.0)}
    assert leak_figure([hide]) is None


def test_the_report_of_the_sweep_has_the_picture_and_the_rows(sweep):
    write_sweep_report([sweep], sweep)
    text = (sweep / "report.md").read_text()
    assert "leaks.png" in text.split("## ")[0] and (sweep / "leaks.svg").exists()
    assert "| RTAS | training in 4 steps | 2 | 0.800 | 0.900 |" in text and NO_ATTACK in text
    assert "What RTAS leaks." in text and "What shares leaks." in text
    assert "](2/report.html)" not in text  # its own report was not written here
    assert (sweep / "tables" / "learning.csv").read_text().count("\n") == 6


def test_settings_that_differ_tell_points_apart(tmp_path):
    for k, network in enumerate(("logistic", "cnn")):
        written(tmp_path / "s" / str(k), facts(settings={"protocol": "rtas", "protocol.network": network}))
    assert [p.label for p in leak_points(run_folders([tmp_path / "s"]))] == [
        "RTAS (network=logistic)", "RTAS (network=cnn)"
    ]  # fmt: skip


def test_load_gives_a_row_for_each_finding(sweep):
    frame = load(sweep)
    assert len(frame) == 5 and frame.attrs["left_out"] == []
    first = frame[(frame["folder"] == "0") & (frame["attack"] == "membership")].iloc[0]
    assert first["above_chance"] == pytest.approx(0.8) and first["settings.protocol"] == "rtas"
    assert frame[frame["folder"] == "2"]["attack"].isna().all()


def test_a_damaged_record_is_named_and_not_counted(sweep):
    (sweep / "2" / "records.jsonl").write_text(json.dumps({"kind": "learning"}) + "\n")
    run = next(run for run in run_folders([sweep]) if run.folder == "2")
    assert not run.whole and run.state == "damaged records" and "private learning" in run.reason


def test_what_attacks_found_of_an_appraisal_is_read_back(tmp_path):
    found = Attacked("RTAS", "appraisal by influence", 2.0, 0.5, 1.5, [FOUND])
    found.write(tmp_path)
    assert Attacked.read(tmp_path) == found and Attacked.read(tmp_path / "none") is None
    (tmp_path / "attacks.json").write_text('{"attacks": []}\n')
    with pytest.raises(InputError, match="attacks"):
        Attacked.read(tmp_path)


def test_a_sweep_of_appraisals_and_learning_leads_with_cost_against_leak_and_numbers_of_both(sweep):
    appraised = sweep / "9"
    appraised.mkdir()
    for k in range(3):
        record = Record("influence", f"c{k}", float(k), utility=float(k), seed=0, engine="fast", session="spawn")
        append(appraised / "records.jsonl", record)
    write_sweep_report([sweep], sweep)
    lead, *parts = (sweep / "report.md").read_text().split("\n## ")
    assert "leaks.png" in lead and "agreement.png" not in lead
    assert "mean agreement of" in lead and "of RTAS recovered above chance" in lead
    assert "|:---:|:---:|:---:|" in lead
    (agreement,) = (part for part in parts if part.startswith("Agreement with the truth"))
    assert ("agreement.png" in agreement) == (sweep / "agreement.png").exists()
