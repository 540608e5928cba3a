"""InstaHide from the command line: runs, records, reports, resumption, a sweep, the challenge's files, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from processes import run_app, stretched

from mpc_appraisal.attacks.instahide import challenge_files
from mpc_appraisal.cli.config import ATTACK_FILES, compose
from mpc_appraisal.cli.jobs import job_key
from mpc_appraisal.cli.learning import learn
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.learning_record import LearningRecord
from mpc_appraisal.reporting.learning_report import write_learning
from mpc_appraisal.transformations.instahide import LEAKAGE

SMALL = ["data=digits", "protocol=instahide", "protocol.rows=60", "protocol.epochs=2", "protocol.count=2"]
CHALLENGE = [*SMALL, "session=plain", "attack=challenge", "attack.images=10", "attack.restarts=1"]


def ran(*words: str, folder):
    found = run_app(*words, folder=folder, timeout=stretched(200))
    assert found.returncode == 0, found.stderr
    return found


@pytest.fixture(scope="module")
def record():
    return learn(compose([*SMALL, "attack=image_ranking", "attack.candidates=20"]), lambda event: None)


def test_a_record_says_what_was_run_and_is_read_as_it_was_written(record, tmp_path):
    record.write(tmp_path / "records.jsonl")
    found = LearningRecord.read(tmp_path / "records.jsonl")
    assert found.facts == json.loads(json.dumps(record.facts))
    settings = found["settings"]
    assert (settings["protocol"], settings["attack"], settings["data"]) == ("instahide", "image_ranking", "digits")
    stated = {"k": 4, "bound": 0.65, "least": 0.3, "rows": 60, "network": "mlp", "epochs": 2, "count": 2}
    assert {key: settings[f"protocol.{key}"] for key in stated} == stated and settings["attack.candidates"] == 20
    assert found["data"]["trained"] == 60 and found["data"]["tested"] == 250 and len(found["data"]["digest"]) > 10
    assert found["leakage"] == [LEAKAGE] and found["cost"]["seconds"] > 0
    assert found.sent == 4 * (2 * 60 * (64 + 10) + 2 * 250 * 64)
    assert 0 <= found["accuracy"]["private"] <= 1 and 0.1 <= found["accuracy"]["always"] < 0.2


def test_a_report_shows_attacks_beside_a_guess_and_what_leaks(record, tmp_path):
    write_learning(record, tmp_path)
    page, text = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    for found in record["attacks"]:
        assert f"| {found['attack']} | {found['setting']} | {found['recovered']:.3f} | 0.050 |" in text  # of 20
    assert LEAKAGE in text and LEAKAGE.split(".")[0] in page and "InstaHide, with public images" in page
    assert "encodings of training images" in text and (tmp_path / "attacks.svg").exists()


def test_settings_that_are_paths_stand_in_no_record(tmp_path):
    found = learn(compose([*CHALLENGE, f"attack.folder={tmp_path / 'secret place'}"]), lambda event: None)
    assert not {f"attack.{key}" for key in ATTACK_FILES} & set(found["settings"])
    assert "secret place" not in json.dumps(found.facts) and str(tmp_path) not in json.dumps(found.facts)
    assert found["accuracy"]["private"] is None and found["attacks"][0]["attack"] == "challenge"


def test_an_answer_is_scored_again_only_if_a_file_has_changed(tmp_path):
    """A challenge is made in a relative folder; then the right answer, the same once more, and a wrong one."""
    ran(*CHALLENGE, "attack.folder=C", "hydra.run.dir=made", folder=tmp_path)
    images = challenge_files.read(tmp_path / "C").secret.images.numpy()
    found = []
    for answer in (images, images, images[:5]):
        np.savez(tmp_path / "answer.npz", images=answer)
        words = [*CHALLENGE, "attack.folder=C", "attack.answer=answer.npz", "hydra.run.dir=scored", "resume=true"]
        said = ran(*words, folder=tmp_path).stdout
        record = LearningRecord.read(tmp_path / "scored" / "records.jsonl")
        found.append(("finished before, nothing computed" in said, record["attacks"][0]["recovered"]))
    assert found == [(False, 1.0), (True, 1.0), (False, 0.5)]


def test_a_sweep_compares_both_mixtures_and_resumes(tmp_path):
    words = ["--multirun", "protocol=instahide,instahide_inside", "protocol.rows=60", "protocol.epochs=2"]
    words += ["attack=image_ranking", "session=plain", "hydra.sweep.dir=S", "resume=true"]
    ran(*words, folder=tmp_path)
    before = [path.read_bytes() for path in sorted(tmp_path.glob("S/*/records.jsonl"))]
    text = (tmp_path / "S" / "report.md").read_text()
    assert len(before) == 2 and "InstaHide, with public images" in text and "private images alone" in text
    ran(*words, folder=tmp_path)
    assert [path.read_bytes() for path in sorted(tmp_path.glob("S/*/records.jsonl"))] == before


def test_the_job_of_a_made_challenge_has_no_files_and_that_of_an_answer_has_them(tmp_path):
    folder, answer = tmp_path / "C", tmp_path / "answer.npz"
    made = compose([*CHALLENGE, f"attack.folder={folder}"])
    scored = compose([*CHALLENGE, f"attack.folder={folder}", f"attack.answer={answer}"])
    first = job_key(made), job_key(scored)
    folder.mkdir()
    (folder / "challenge.npz").write_bytes(b"1")
    second = job_key(made), job_key(scored)
    answer.write_bytes(b"1")
    assert first[0] == second[0] and len({first[1], second[1], job_key(scored)}) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protocol=instahide_inside", "attack=image_recovery"], r"^attack: got image_recovery; .*image_ranking"),
        (["protocol=instahide", "attack=membership"], r"^attack: got membership; .*challenge"),
        (["protocol=instahide", "data=wine"], r"^data: got 13 features; expected images of 64"),
        (["protocol=instahide", "data=diabetes"], r"class labels"),
        (["protocol=instahide", "protocol.k=2"], r"^protocol.k: "),
        (["protocol=instahide", "session=join"], r"^session: got join"),
        (["protocol=instahide", "session.engine=stock"], r"^session.engine: "),
        (["protocol=instahide", "attack=challenge", "attack.answer=a.npz"], r"^attack.folder: "),
        (["protocol=instahide", "attack=challenge", "attack.folder=.", "attack.answer=a.npz"], r"^attack.folder: "),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_computed(words, message):
    events = []
    with pytest.raises(InputError, match=message):
        learn(compose(words), events.append)
    assert events == []
