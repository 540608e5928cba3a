"""A wrong value of a key is an error by the key's name, with the value and what was expected, before anything is run.

The values are of the wrong type, out of range or misspelt, and each case ends where the configuration is read.
"""

from __future__ import annotations

import re

import pytest

from mpc_appraisal.cli import run
from mpc_appraisal.cli.config import check_sections, compose, in_full, instantiate
from mpc_appraisal.cli.front import documented_keys
from mpc_appraisal.cli.jobs import job_key
from mpc_appraisal.common.errors import InputError

SMALL = ["data=wine", "scenario.candidates=2", "scenario.size=10", "scenario.test_size=20", "session=plain"]
ALWAYS = ("x", "nan")  # no value of a key that is a number, a switch or a choice
NUMBERS = {
    "seed": ("-1", "1.5", "true", "null"),
    "model.l2": ("-1", "true", "null"),
    "model.tolerance": ("-1", "0", "1e30", "true", "null"),
    "appraisal.influence.damping": ("-1", "true", "null"),
    "appraisal.finetuning.steps": ("-1", "0", "1.5", "true", "null"),
    "appraisal.finetuning.lr": ("-1", "0", "true", "null"),
    "appraisal.finetuning.batch_size": ("-1", "0", "1.5", "true"),
    "scenario.candidates": ("-1", "0", "1.5", "true", "null"),
    "scenario.size": ("-1", "0", "1.5", "true"),
    "baselines.retrainings": ("-1", "0", "1.5", "true", "null"),
    "baselines.truncation": ("-1", "1.5", "true", "null"),
    "evaluate.subsets": ("-1", "0", "1.5", "true", "null"),
    "evaluate.share": ("-1", "0", "1.5", "true", "null"),
}
SWITCHES = {
    key: ("-1", "1.5", "null")
    for key in ("scenario.include_clean", *(f"baselines.{one}" for one in ("true_utility", "leave_one_out", "shapley")))
}
CHOICES = {
    "protocol.name": ("-1", "true", "null"),
    "evaluate.measures": ("-1", "1.5", "true", "null", "[removal,removal]"),
    "party.preflight": ("-1", "1.5", "true"),
    "scenario.labels": ("-1", "[1]", "[1,1]", "[0,9]", "true"),
}
OF_FILES = {
    key: ("-1", "1.5", "true") for key in ("party.class_names", "party.names", "party.scale", "standardise.mean")
}
CASES = [
    f"{key}={value}"
    for table in (NUMBERS, SWITCHES, CHOICES, OF_FILES)
    for key, values in table.items()
    for value in (*ALWAYS, *values)
    if not (table is OF_FILES and value == "nan")
]


@pytest.fixture(autouse=True)
def no_run(monkeypatch):
    def begun(*_, **__):
        pytest.fail("the run began")

    monkeypatch.setattr(run, "run", begun)


@pytest.mark.parametrize("word", CASES)
def test_a_wrong_value_is_refused_by_its_key(word, tmp_path):
    key = word.partition("=")[0]
    with pytest.raises(InputError) as found:
        cfg = compose([*SMALL, word])
        check_sections(cfg)
        job_key(cfg)
        with in_full(cfg):
            instantiate(cfg.session)
            run.appraise_config(cfg, lambda event: None, tmp_path)
    text = str(found.value)
    assert key in text.partition(": got ")[0] or key in text.partition(" is no key")[0], text
    assert "; expected " in text or " is no key of the configuration" in text


def test_the_cases_are_keys_and_without_them_the_run_begins(tmp_path):
    cfg = compose(SMALL)
    stated = {re.sub(r"appraisal\.\w+\.", "appraisal.", key) for key in (*NUMBERS, *SWITCHES, *CHOICES, *OF_FILES)}
    assert stated <= set(documented_keys())
    with pytest.raises(pytest.fail.Exception, match="the run began"):
        run.appraise_config(cfg, lambda event: None, tmp_path)
