"""Records and reports of private learning: what a record has to hold, and how a sweep sets cost against leak."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.attacked import Attacked
from mpc_appraisal.reporting.learning_record import KEYS, LearningRecord
from mpc_appraisal.reporting.learning_report import write_learning
from mpc_appraisal.reporting.learning_sweep import NO_ATTACK, NOT_TRIED, leak_figure, leak_points, other_attacks_table
from mpc_appraisal.reporting.load import load
from mpc_appraisal.reporting.record import Record, append
from mpc_appraisal.reporting.run_folders import run_folder, run_folders
from mpc_appraisal.reporting.sweep_compare import write_comparison
from mpc_appraisal.reporting.sweep_report import write_sweep_report
from mpc_appraisal.reporting.tracked import tracked_run

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
    assert "agreement.png" in agreement


def market(**more) -> dict:
    spent = {"selection": {"cloud": {"seconds": 2.0, "bytes": 3_000_000}, "shopper": {"seconds": 1.0, "bytes": 0}}}
    return {
        "kind": "marketplace", "protocol": "ife_shares", "label": "IFE, shares", "seed": 0, "session": "spawn",
        "versions": {}, "costs": spent, "errors": {"before": 9, "after": 4, "of": 50}, "offered": 60,
        "selected": [[0, 1], [0, 2]], "verdicts": [{"accepted": True}, {"accepted": False}],
    } | more  # fmt: skip


def written_market(folder: Path, record: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    Attacked("IFE, shares", "a market", 2.0, 0.5, 3.0, [FOUND, FOUND]).write(folder)
    return folder


def test_trackers_are_given_settings_and_figures_of_learning_attacks_and_markets(tmp_path):
    learned = tracked_run(run_folder(written(tmp_path / "a", facts())))
    assert learned.settings == {"protocol": "rtas", "seed": 0, "session": "spawn"}
    expected = {"accuracy/private": 0.8, "accuracy/in_the_clear": 0.9, "accuracy/commonest": 0.5,
                "seconds/protocol": 6.0, "seconds/in_the_clear": 0.5, "rounds/protocol": 7.0, "megabytes/protocol": 2.0,
                "recovered/membership": 0.9, "chance/membership": 0.5, "above_chance/membership": 0.8,
                "recovered/collusion": 1.0, "chance/collusion": 0.0, "above_chance/collusion": 1.0}  # fmt: skip
    assert learned.numbers == pytest.approx(expected) and [row[0] for row in learned.rows] == [
        "membership",
        "collusion",
    ]
    sold = tracked_run(run_folder(written_market(tmp_path / "b", market())))
    expected = {"errors/before": 9.0, "errors/after": 4.0, "errors/of": 50.0, "rows/offered": 60.0,
                "rows/selected": 2.0, "verdicts/accepted": 1.0, "verdicts/of": 2.0,
                "seconds/protocol": 2.0, "megabytes/protocol": 3.0,
                "seconds/in_the_clear": 0.5, **{f"{key}/membership{n}": value for n in ("", "_2") for key, value in
                (("recovered", 0.9), ("chance", 0.5), ("above_chance", 0.8))}}  # fmt: skip
    assert sold.numbers == pytest.approx(expected) and sold.settings["protocol"] == "ife_shares"
    plain = tracked_run(run_folder(written_market(tmp_path / "c", market(session="plain"))))
    assert not {"seconds/protocol", "megabytes/protocol"} & set(plain.numbers)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "records.jsonl").write_text('{"kind": "other"}\n')
    assert tracked_run(run_folder(tmp_path / "d")) is None


def test_two_sweeps_of_learning_and_markets_are_set_side_by_side(sweep, tmp_path):
    other = tmp_path / "other"
    found = [FOUND | {"recovered": 0.6}]
    cost = facts()["cost"] | {"seconds": 3.0}
    written(other / "0", facts(attacks=found, cost=cost, accuracy=facts()["accuracy"] | {"private": 0.85}))
    written_market(other / "1", market())
    written_market(sweep / "9", market(errors={"before": 9, "after": 6, "of": 50}))
    write_comparison(sweep, other, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    lead = text.split("\n## ")[0]
    assert "leaks.png" in lead and "+0.050" in lead and "accuracy by the protocol, B minus A" in lead
    frame = pandas.read_csv(tmp_path / "out" / "tables" / "protocols.csv").set_index(["protocol", "figure"])
    rtas = frame.loc["RTAS"]
    assert tuple(rtas.loc["accuracy/private", ["runs_a", "runs_b", "a", "b"]]) == (2, 1, 0.8, 0.85)
    assert rtas.loc["seconds/protocol", "ratio"] == 0.5
    assert rtas.loc["above_chance/membership", "difference"] == pytest.approx(0.2 - 0.6)  # A: the mean of 0.8 and 0.4
    assert frame.loc[("IFE, shares", "errors/after"), "difference"] == -2
    assert frame.loc[("shares", "accuracy/private"), "runs_b"] == 0 and "| IFE, shares | – | errors/after |" in text
    assert "Failed or unfinished" not in text


def test_an_attack_on_what_is_opened_says_nothing_of_the_protocol(tmp_path):
    opened = FOUND | {"attack": "extraction", "against": "what is opened"}
    expected = {"all": (NO_ATTACK, 0.0), "extraction": (NOT_TRIED, None)}
    for chosen, (attack, above) in expected.items():
        folder = written_market(tmp_path / chosen / "0", market())
        Attacked("IFE, shares", "a market", 2.0, 0.5, 3.0, [opened], chosen).write(folder)
        (point,) = leak_points(run_folders([tmp_path / chosen]))
        assert (point.attack, point.above) == (attack, above)
        (row,) = other_attacks_table(run_folders([tmp_path / chosen])).rows
        assert row[:6] == ("IFE, shares", "extraction", "what is opened", "1", "0.900", "0.500")
    earlier = json.loads((folder / "attacks.json").read_text())
    del earlier["chosen"]
    (folder / "attacks.json").write_text(json.dumps(earlier) + "\n")
    assert Attacked.read(folder).chosen == "all"
