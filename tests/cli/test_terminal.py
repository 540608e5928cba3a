"""What a run prints: at most 25 lines that fit 80 columns, states and steps on standard error, and little if quiet."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from processes import ROOT

from mpc_appraisal.cli import progress as cli_progress
from mpc_appraisal.cli.progress import APART_SECONDS, Forecast, progress

WORDS = ["session=plain", "scenario.candidates=2", "appraisal=influence"]


def app(*words: str, folder, out=subprocess.PIPE) -> subprocess.Popen:
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "mpc_appraisal.cli.app", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.PIPE, text=True)


def read_to_the_end(terminal: int) -> bytes:
    """Return all that is written to a terminal until nobody has it open for writing."""
    found = b""
    with os.fdopen(terminal, "rb", 0) as file, suppress(OSError):  # which is how Linux says that it has ended
        while piece := file.read(1 << 16):
            found += piece
    return found


def test_a_run_ends_in_a_screen_that_fits_and_a_link(tmp_path):
    ours, theirs = pty.openpty()
    process = app(*WORDS, "release=bit", "party.threshold=0.3", "hydra.run.dir=out", folder=tmp_path, out=theirs)
    os.close(theirs)
    raw = read_to_the_end(ours).decode()
    error = process.communicate(timeout=12000)[1]
    assert process.returncode == 0, error
    lines = re.sub(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\", "", raw).splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 80 and lines[-1] == "Report: out/report.html"
    assert f"file://{(tmp_path / 'out' / 'report.html').resolve()}" in raw
    values = {line.split()[0]: line.split()[1] for line in lines if line.startswith("label_noise=")}
    assert values == {"label_noise=0.5": "yes", "label_noise=1": "no"} and lines[0].startswith("In short  yes to label")
    assert error.splitlines()[0] == "computing" and error.splitlines()[1].startswith("[1/2] influence label_noise=0.5")


def test_a_quiet_run_and_a_sweep_print_the_path_of_each_report(tmp_path):
    quiet = app(*WORDS, "quiet=true", "hydra.run.dir=one", "baselines.true_utility=false", folder=tmp_path)
    out, error = quiet.communicate(timeout=12000)
    assert out == "report: one/report.html\n"
    assert not [line for line in error.splitlines() if not line.startswith("Matplotlib is building the font cache")]
    sweep = app(
        "--multirun", *WORDS, "hydra.sweep.dir=all", "seed=0,1", "baselines.true_utility=false", folder=tmp_path
    )
    out, error = sweep.communicate(timeout=1200)
    reports = [line for line in out.splitlines() if not line.startswith("[")]  # Hydra's own lines begin so
    assert reports[:2] == ["report: all/0/report.html", "report: all/1/report.html"] and len(reports) < 30
    assert "computing" not in error and "[2/2] seed=1" in error
    wrong = app(*WORDS, "quiet=maybe", folder=tmp_path)
    assert "quiet: got 'maybe'" in wrong.communicate(timeout=1200)[1] and wrong.returncode == 2


def test_the_time_left_is_that_of_the_steps_before():
    now = [0.0]
    forecast = Forecast(lambda: now[0])
    now[0] = 100.0  # waiting
    forecast.begin()
    for step, after, words in ((1, 102.0, ", about 0:58 left"), (3, 106.0, ", about 0:54 left"), (30, 160.0, "")):
        now[0] = after
        assert forecast.left(step, 30) == words
    now[0] = 163.0
    assert forecast.left(1, 10) == ", about 0:27 left", "other steps begin where those before have ended"
    now[0] = 163.1
    assert forecast.left(10, 10) == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_lines_name_states_and_steps_but_no_more_than_one_a_second(quiet, capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(cli_progress.time, "monotonic", lambda: now[0])
    with progress(quiet) as show:
        show({"state": "waiting for the data owner's yes to request 0123456789ab"})
        show({"state": "computing"})
        for k in range(1, 31):
            now[0] += APART_SECONDS / 10 + 1e-6
            show({"done": k, "of": 30, "method": "influence", "candidate": "a"})
        show({"other": 1})
    lines = capsys.readouterr().err.splitlines()
    if quiet:
        assert lines == []
        return
    assert lines[:2] == ["waiting for the data owner's yes to request 0123456789ab", "computing"]
    steps = [re.fullmatch(r"\[(\d+)/30\] influence a(, about 0:0\d left)?", line)[1] for line in lines[2:]]
    assert steps == ["1", "11", "21", "30"]


def test_the_bar_fits_the_terminal_and_names_what_is_done(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with progress() as show:
        show({"state": "connected to data owner and dealer"})
        show({"done": 3, "of": 30, "method": "influence", "candidate": "a name " * 20})
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", capsys.readouterr().err)
    assert "connected to data owner and dealer" in text and "computing 3 of 30" in text
    assert max(map(len, re.split(r"[\r\n]", text))) <= 80
