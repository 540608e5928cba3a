"""A real sweep ends in a report, records say what was run, and `mpc-appraisal report` writes the same page."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from processes import APP, Ended, Processes, stretched
from scipy import stats

import mpc_appraisal
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.commands.report import USAGE, at_the_end_of, default_folder
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits

SMALL = ("data=digits", "scenario.candidates=4", "scenario.size=30", "scenario.test_size=50", "session=plain")


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[Path, Ended]:
    folder = tmp_path_factory.mktemp("report")
    swept = ["appraisal=gradient_norm,influence", "seed=0,1", "model.l2=1e-2,-1"]
    with Processes(folder) as processes:
        done = processes.start("a", [*APP, "--multirun", "hydra.sweep.dir=sweep", *SMALL, *swept])
        return folder / "a" / "sweep", done.wait(stretched(120))


def lines(root: Path, method: str) -> dict[int, list[dict]]:
    """The records of a method by seed, as JSON reads them."""
    found: dict[int, list[dict]] = {}
    for path in sorted(root.glob("*/records.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if own := [row for row in rows if row["method"] == method]:
            found[own[0]["seed"]] = own
    return found


def test_a_sweep_ends_in_a_report(ended):
    root, done = ended
    assert done.code == 2 and "4 of 8 jobs failed" in done.err and "warning: the report" not in done.err
    assert done.out.splitlines()[-1] == "report: sweep/report.html"
    shown = {}
    for method in ("influence", "gradient_norm"):
        pairs = [zip(*((r["value"], r["utility"]) for r in rows), strict=True) for rows in lines(root, method).values()]
        agreement = [stats.spearmanr(*pair).statistic for pair in pairs]
        shown[np.mean(agreement)] = f"{np.mean(agreement):.2f} ± {np.std(agreement, ddof=1):.2f}"
    for form in ("html", "md"):
        text = (root / f"report.{form}").read_text()
        assert all(cell in text for cell in shown.values())
        assert text.count("model.l2: got -1; expected a finite number, 0 or more") == 4
    assert f"has the highest mean agreement with the truth: {shown[max(shown)]} over 2 runs." in " ".join(
        done.out.split()
    )
    assert (root / "tables" / "summary.parquet").exists() and (root / "agreement.svg").exists()


def test_records_state_the_settings_of_their_run(ended):
    root, _ = ended
    for method in ("gradient_norm", "influence", "random"):
        settings = lines(root, method)[1][0]["settings"]
        assert settings["data"] == "digits" and settings["scenario"] == "label_noise" and settings["session"] == "plain"
        assert (settings["scenario.size"], settings["scenario.labels"], settings["model.l2"]) == (30, [1, 7], 0.01)
        assert (settings["seed"], settings["model"], settings["release"]) == (1, "softmax_regression", "value")
        assert (settings["protocol"], settings["baselines.true_utility"]) == ("shares", True)
        assert not [key for key in settings if "_target_" in key or key.startswith(("party", "hydra"))]
    assert lines(root, "influence")[0][0]["settings"]["appraisal.influence.damping"] == 0.0
    frame = mpc_appraisal.load(root)
    train, test = Digits().load()
    parts = (train.x, train.y, test.x, test.y)
    expected = sha256(b"".join(f"{x.numpy().dtype} {tuple(x.shape)} ".encode() + x.numpy().tobytes() for x in parts))
    assert set(frame["settings.data.digest"]) == {expected.hexdigest()}
    assert [each["state"] for each in frame.attrs["left_out"]] == ["failed"] * 4


def test_the_command_writes_the_same_page_and_json(ended, tmp_path, capsys):
    root, _ = ended
    COMMANDS["report"]([str(root), f"out={tmp_path}", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == 0 and found["lines"][-1].endswith("report.html")
    matrix = next(table for table in found["tables"] if table["title"] == "Agreement with the truth")
    assert matrix["rows"][0]["seeds"] == 2 and {"influence", "gradient_norm", "random, 95%"} < set(matrix["rows"][0])
    assert (tmp_path / "report.md").read_text().split("## Runs")[0] == (root / "report.md").read_text().split(
        "## Runs"
    )[0]


def test_two_of_its_runs_side_by_side(ended, tmp_path, capsys):
    root, _ = ended
    first, second = (next(p.parent for p in sorted(root.glob("*/records.jsonl")) if f'"seed": {s},' in p.read_text())
                     for s in (0, 1))  # fmt: skip
    COMMANDS["report"](["--compare", str(first), str(second), f"out={tmp_path}"])
    assert (
        "stand in both" in " ".join(capsys.readouterr().out.split())
        and (tmp_path / "tables" / "comparison.csv").exists()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "folder: got nowhere"),
        (["out=x"], "one or more folders"),
        (["--compare", "nowhere"], "--compare: got nowhere; expected two folders"),
        (["--frob", "nowhere"], "--frob"),
        (["to=x", "nowhere"], "to=x"),
    ],
)
def test_a_bad_argument_is_named(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        COMMANDS["report"](arguments)
    assert not list(tmp_path.iterdir())


def test_help_and_default_folders(capsys, tmp_path):
    COMMANDS["report"](["--help"])
    assert USAGE in capsys.readouterr().out
    (tmp_path / "records.jsonl").touch()
    assert default_folder([str(tmp_path)]) == tmp_path / "report"  # a run's own report stays
    assert default_folder(["a", "b"]) == Path("report") and default_folder([str(tmp_path.parent)]) == tmp_path.parent


def test_a_report_that_cannot_be_written_is_a_warning(ended, tmp_path, capsys):
    root, _ = ended
    copy = tmp_path / "sweep"
    (copy / "report.html").mkdir(parents=True)
    (copy / "0").mkdir()
    source = next(root.glob("*/records.jsonl"))
    (copy / "0" / "records.jsonl").write_bytes(source.read_bytes())
    at_the_end_of(copy)
    said = capsys.readouterr()
    assert said.err.startswith("warning: the report of the sweep could not be written: IsADirectoryError")
    assert "report:" not in said.out
    at_the_end_of(tmp_path / "nothing")  # a sweep without records has no report, and that is no warning
    assert capsys.readouterr() == ("", "")


def test_a_sweep_in_which_every_job_failed_has_a_page_of_what_failed(tmp_path, capsys):
    for name, why in (("0", "model.l2: got -1; expected more"), ("1", "seed: got -2; expected 0 or more")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "failure.json").write_text(json.dumps({"error": why}))
    at_the_end_of(tmp_path)
    said = capsys.readouterr()
    assert "No run has records: 2 failed" in said.out and "report: " in said.out and said.err == ""
    for form in ("html", "md"):
        text = (tmp_path / f"report.{form}").read_text()
        assert "model.l2: got -1; expected more" in text and "seed: got -2; expected 0 or more" in text
