"""The front door: overview, version, help by name, "did you mean", `--json` and completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from processes import run_app

from mpc_appraisal.cli import front
from mpc_appraisal.cli.commands import ABOUT, COMMANDS
from mpc_appraisal.cli.commands.completion import main as completion
from mpc_appraisal.cli.config import public_part
from mpc_appraisal.cli.front import CONF
from mpc_appraisal.cli.inputs import built_in_market
from mpc_appraisal.common.errors import AppraisalError, InputError

LINEAR = "mpc_appraisal.models.linear_regression.fit"
FOLDER = Path(import_module("mpc_appraisal.cli.commands").__file__).parent


def app(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mpc_appraisal.cli.app", *words], capture_output=True, text=True, cwd=cwd
    )


def refusal(*overrides: str) -> str:
    """What `front` makes of the error by which Hydra refuses these words."""
    with initialize_config_dir(str(CONF), version_base=None), pytest.raises(HydraException) as found:
        compose("config", overrides=list(overrides))
    return str(front.explained(found.value))


def test_the_overview_names_all_commands_and_groups_in_80_columns():
    text = front.answer(["--help"])
    assert text == front.answer(["help"]) == front.answer(["-h"])
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines() if line[:2] == "  "]
    for path in (*FOLDER.glob("[a-z]*.py"), *FOLDER.glob("[a-z]*/__init__.py")):
        name = path.stem if path.stem != "__init__" else path.parent.name
        assert [name, *ABOUT[name][0].split()] in lines
    assert len(ABOUT) == len(COMMANDS) == len([*FOLDER.glob("[a-z]*.py"), *FOLDER.glob("[a-z]*/__init__.py")])
    for group in CONF.iterdir():
        if group.is_dir():
            assert any(line[0] == group.name for line in lines)
            assert {path.stem for path in group.glob("*.yaml")} <= set(text.replace(",", " ").split())


def test_the_version_is_ours():
    assert front.answer(["--version"]).startswith("mpc_appraisal 0.")
    assert "Hydra" not in front.answer(["--version"])


@pytest.mark.parametrize(
    "name, words",
    [
        ("cost", "estimate rounds"),
        ("appraisal", "appraisal=influence: Influence: a first-order estimate"),
        ("appraisal=finetuning", "lr: 0.3"),
        ("appraisal.lr", "The learning rate: a number above 0."),
        ("party", "party.threshold: Model owner, if a bit is released"),
    ],
)
def test_help_says_what_a_name_means(name, words):
    assert words in " ".join(front.answer(["help", name]).split())


@pytest.mark.parametrize(
    "word, meant", [("catalog", "catalogue"), ("overlp", "overlap"), ("aproval", "approval"), ("hlep", "help")]
)
def test_a_misspelt_command_is_answered_by_the_nearest(word, meant):
    with pytest.raises(AppraisalError, match=f"^{word} is no command. Did you mean {meant}?"):
        front.answer([word])


def test_help_of_an_unknown_name_is_an_error():
    with pytest.raises(AppraisalError, match="Did you mean appraisal.steps"):
        front.answer(["help", "appraisal.stps"])


@pytest.mark.parametrize(
    "overrides, words",
    [
        (("appraisl=influence",), "appraisl is no key of the configuration. Did you mean appraisal or"),
        (("appraisal=influnce",), "influnce is no option of the group appraisal. Did you mean influence or"),
        (("appraisal=finetuning", "appraisal.stps=3"), "Did you mean appraisal.steps"),
        (("appraisal=influence", "appraisal.lr=3"), "appraisal=finetuning or mlp_finetuning has it."),
        (("truncation=0.1",), "Did you mean baselines.truncation?"),
        (("session=plain", "seed"), "seed is neither a command nor KEY=VALUE."),
        (("~sesion",), "Did you mean session"),
    ],
)  # fmt: skip
def test_hydras_refusals_become_one_line_with_the_nearest_name(overrides, words):
    assert words in refusal(*overrides)


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["tracking=mlflow"], "tracking: got tracking=mlflow; expected +tracking=mlflow, because"),
        (["evaluate={a:1}"], "evaluate.a is no key of the configuration."),
        (["hydra.callbacks=7"], "hydra.callbacks: got 7; expected keys of a callback"),
        (["~hydra.callbacks.jobs"], "hydra.callbacks.jobs: got nothing; expected keys of a callback"),
        (["+hydra.callbacks.x._target_=no.Class"], "hydra.callbacks.x._target_: got no.Class; expected the name of a"),
        (
            ["+tracking=mlflow", "+hydra.callbacks.mlflow.x=1"],
            "hydra.callbacks.mlflow: got mpc_appraisal.cli.tracking.",
        ),
        (["+tracking=mlflow", "hydra.callbacks.mlflow.url=x"], "hydra.callbacks.mlflow.url is no key of the config"),
        (["evaluate=all"], "evaluate: got all; expected its keys alone, as in evaluate.measures=..."),
        (["party=3"], "party: got 3; expected its keys alone, as in party.train=..."),
        (["evaluate.share=null"], "evaluate.share: got None; expected a finite number above 0 and below 1"),
        (["quiet=maybe"], "quiet: got 'maybe'; expected true or false"),
    ],
)
def test_a_bad_value_is_one_line_with_name_value_and_expectation(tmp_path, words, start):
    done = run_app(*words, "session=plain", "hydra.run.dir=out", folder=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and not (tmp_path / "out" / "records.jsonl").exists()
    assert done.stderr.startswith(f"error: {start}") and len(done.stderr.splitlines()) == 1


def test_keys_of_trackers_and_launchers_have_their_own_names():
    known = front.documented_keys()
    assert {"hydra.callbacks.mlflow.uri", "hydra.callbacks.dask.workers", "hydra.launcher.n_jobs"} <= set(known)
    assert "hydra.sweep.dir" in known and not [key for key in known if key.startswith(("tracking.", "launch."))]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("scenario.candidates=0", "scenario.candidates"),
        ("scenario.labels=[1,1]", "scenario.labels"),
        ("scenario.train_size=100000", "scenario.train_size"),  # only the data set says so
        ("seed=-1", "seed"),
    ],
)
def test_an_error_of_a_scenario_names_the_key(word, name):
    with initialize_config_dir(str(CONF), version_base=None), pytest.raises(InputError) as found:
        built_in_market(compose("config", overrides=["data=wine", "scenario.labels=[0,1]", word]))
    assert found.value.name == name


@pytest.mark.parametrize(
    ("data", "classes", "swapped"),
    [("digits", 10, [1, 7]), ("wine", 3, [0, 1]), ("breast_cancer", 2, [0, 1]), ("diabetes", 1, None)],
)
def test_a_built_in_data_set_is_all_that_a_run_has_to_be_told(data, classes, swapped):
    with initialize_config_dir(str(CONF), version_base=None):
        cfg = compose("config", overrides=[f"data={data}"])
    market = built_in_market(cfg)
    assert market.train.classes == classes and len(market.candidates) == 10
    assert market.train.numeric == (swapped is None) == (cfg.model._target_ == LINEAR)
    assert cfg.scenario.get("labels") == swapped
    public = public_part(cfg)
    assert not [key for key in public if "alike" in key] and public.get("scenario.labels") == swapped


def test_what_is_stated_beside_a_data_set_of_numbers_takes_the_place_of_its_defaults():
    with initialize_config_dir(str(CONF), version_base=None):
        cfg = compose("config", overrides=["scenario=clean", "data=diabetes"])
        other = compose("config", overrides=["data=digits", "data.alike=[3,8]"])
    assert [candidate.level for candidate in built_in_market(cfg).candidates] == [0.0] * 10
    assert other.scenario.labels == [3, 8]


def test_a_misspelt_key_ends_the_process_with_status_2_and_one_line(tmp_path):
    found = app("appraisal=influence", "appraisal.dampin=1", cwd=tmp_path)
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr.count("\n") == 1 and "Did you mean appraisal.damping" in found.stderr


@pytest.mark.parametrize("name", ABOUT)
def test_each_commands_help_ends_with_an_example(capsys, name):
    COMMANDS[name](["--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: mpc-appraisal {name}")
    assert max(map(len, said.splitlines())) <= 80
    whole = re.sub(r" \\\n +", " ", said.rstrip())  # as a shell reads a line that goes on
    assert whole.splitlines()[-1] == f"example: mpc-appraisal {ABOUT[name][1]}"
    assert ABOUT[name][1].split()[0] == name


def test_json_holds_the_tables_with_numbers(capsys):
    COMMANDS["cost"](["rows=100", "features=4", "appraisal=gradient_norm", "--json"])
    found = json.loads(capsys.readouterr().out)
    (row,) = found["tables"][0]["rows"]
    assert found["command"] == "cost" and found["status"] == 0
    assert row["method"] == "gradient_norm" and isinstance(row["rounds"], int) and 0 < row["dealer, MB"] < 1
    assert any(line.startswith("mpc_appraisal ") for line in found["lines"])


def test_json_of_an_error_has_its_name_value_and_expectation(capsys):
    with pytest.raises(SystemExit, match="2"):
        COMMANDS["cost"](["rows=many", "features=4", "--json"])
    found = json.loads(capsys.readouterr().out)
    with pytest.raises(InputError) as error:
        COMMANDS["cost"](["rows=many", "features=4"])
    assert found["status"] == 2 and found["error"] == str(error.value)
    assert (found["name"], found["expected"]) == (error.value.name, error.value.expected)


def test_json_keeps_the_status_of_a_check(capsys, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(SystemExit, match="1"):
        COMMANDS["catalogue"](["list", f"in={tmp_path}", "--json"])
    assert json.loads(capsys.readouterr().out)["status"] == 1


COMPLETE = """eval "$SCRIPT"
COMP_LINE="mpc-appraisal $*"; COMP_POINT=${#COMP_LINE}; COMP_CWORD=$#; COMPREPLY=()
compopt() { :; }
_mpc_appraisal; echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize(
    "words, completed",
    [
        (("cat",), "catalogue"),
        (("session=plain", "cat"), ""),
        (("appraisal=gr",), "gradient_norm"),
        (("seed=1", "scenario=t"), "target_noise target_shift"),
        (("appraisal=influence", "party.thr"), "party.threshold="),
        (("--mult",), "--multirun"),
    ],
)
def test_bash_completes_commands_options_and_keys(capsys, words, completed):
    completion(["bash"])
    environment = os.environ | {"SCRIPT": capsys.readouterr().out}
    found = subprocess.run(["bash", "-c", COMPLETE, "bash", *words], capture_output=True, text=True, env=environment)
    assert (found.stdout.strip(), found.stderr, found.returncode) == (completed, "", 0)


def test_methods_of_installed_packages_are_listed_and_completed(monkeypatch, capsys):
    monkeypatch.setattr(front, "offered_methods", lambda: {"margin": "other_package:Margin", "influence": "x:y"})
    assert front.options("appraisal").count("influence") == 1 and "margin" in front.options("appraisal")
    assert "appraisal=margin: A method of an installed package, other_package:Margin." in front.answer(
        ["help", "appraisal"]
    )
    assert "other_package:Margin" in front.answer(["help", "appraisal=margin"]) and "margin" in front.overview()
    completion(["bash"])
    assert " appraisal=margin " in capsys.readouterr().out


def test_an_unknown_shell_is_refused():
    with pytest.raises(InputError, match="completion: got tcsh; expected one of bash, zsh, fish"):
        completion(["tcsh"])
