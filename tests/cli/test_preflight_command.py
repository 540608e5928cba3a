"""The command `preflight` on real files."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product

import pytest

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.commands import preflight as preflight_command
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.preflight.result import TRUSTED


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("example")
    COMMANDS["example"]([str(place / "files")])
    return place / "files"


def command(*arguments):
    try:
        preflight_command.main(list(arguments))
    except SystemExit as ended:
        return ended.code
    return 0


def test_command_on_the_example_files(folder, capsys, tmp_path):
    files = [f"train={folder / 'train.npz'}", f"test={folder / 'test.npz'}", "quick=yes"]
    assert command(*files, f"out={tmp_path / 'found.json'}", "parts=6") == 0
    shown = capsys.readouterr().out
    assert "influence" in shown and "trusted" in shown and "Calibrated thresholds" in shown and "warning" not in shown
    stored = json.loads((tmp_path / "found.json").read_text())
    assert stored["l2"] == 1e-2 and stored["checks"][0]["verdict"] == TRUSTED and stored["parts"] == 6
    assert command(*files, "corruption=missing", "appraisal=gradient_norm", "l2=0.003") == 1
    shown = capsys.readouterr().out
    assert "warning: gradient_norm is" in shown and "l2 = 0.003" in shown


def test_command_takes_the_configuration(folder, capsys, tmp_path):
    files = [f"train={folder / 'train.npz'}", f"test={folder / 'test.npz'}", "quick=yes", "parts=3"]
    outs = [tmp_path / f"{k}.json" for k in range(3)]
    for out, more in zip(outs, ([], ["appraisal.damping=10"], ["standardise.scale=4"]), strict=True):
        command(*files, f"out={out}", *more)
    plain, damped, scaled = (json.loads(out.read_text())["checks"][0]["condition"] for out in outs)
    assert damped < 2 < scaled < plain


def test_command_takes_the_words_of_a_run(folder, tmp_path):
    own = [f"party.train={folder / 'train.npz'}", f"party.test={folder / 'test.npz'}", "quick=yes", "parts=3"]
    other = [word.removeprefix("party.") for word in own]
    outs = [tmp_path / f"{k}.json" for k in range(3)]
    for out, words in zip(outs, (own, other, ["data=digits", "seed=1", "quick=yes", "parts=3"]), strict=True):
        command(*words, f"out={out}")
    first, second, digits = (json.loads(out.read_text()) for out in outs)
    assert first == second and digits["given"] == [150, 500]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train=a.npz"], "test"),
        (["data=digits", "train=a.npz"], "test"),
        (["test=a.npz"], "train"),
        (["train=a.npz", "test=b.npz", "train=c.npz"], "preflight"),
        (["train=a.npz", "test=b.npz", "guess"], "preflight"),
        (["train=nowhere.npz", "test=b.npz"], "train"),
        (["train=a.npz", "test=b.npz", "l2=much"], "l2"),
        (["train=a.npz", "test=b.npz", "guess=1"], "arguments"),
    ],
)
def test_command_names_what_is_wrong(arguments, name):
    with pytest.raises(InputError) as error:
        preflight_command.main(arguments)
    assert error.value.name == name


@pytest.mark.parametrize(("key", "value"), product(["seeds", "search", "quick", "parts"], ["few"]))
def test_command_refuses_bad_values(folder, key, value):
    with pytest.raises(InputError) as error:
        preflight_command.main([f"train={folder / 'train.npz'}", f"test={folder / 'test.npz'}", f"{key}={value}"])
    assert error.value.name == key


def test_help(capsys):
    for arguments in ([], ["--help"]):
        preflight_command.main(arguments)
        assert capsys.readouterr().out.startswith("usage: mpc-appraisal preflight train=FILE test=FILE")


def test_the_program_knows_the_command(folder):
    assert "preflight" in COMMANDS
    run = [sys.executable, "-m", "mpc_appraisal.cli.app", "preflight", f"train={folder / 'train.npz'}"]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 2 and "test: got nothing" in ended.stderr
