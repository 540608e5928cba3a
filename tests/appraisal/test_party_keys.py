"""What stands under `party` reaches a run with built-in data, or is said to have no effect, or is refused."""

from __future__ import annotations

import pytest

from mpc_appraisal.cli.config import compose, instantiate
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.cli.unused_keys import check_unused
from mpc_appraisal.common.errors import InputError

SMALL = [
    "session=plain",
    "appraisal=gradient_norm",
    "baselines.true_utility=false",
    "scenario.candidates=2",
    "scenario.size=50",
    "scenario.train_size=100",
]


def test_a_threshold_reaches_a_run_with_built_in_data(tmp_path):
    cfg = compose([*SMALL, "release=bit", "party.threshold=-18"])
    result = appraise_config(cfg, lambda event: None, tmp_path)
    assert [r.decision for r in result] == [r.plaintext_value >= -18 for r in result]
    assert {r.decision for r in result} == {True, False}, "or the test tells nothing"
    assert all(r.value is None and r.uncertain_within == 0.0 for r in result)


@pytest.mark.parametrize("stated", ["ledger=a.ledger", "policy=p.yaml", "listing=a.json", "secret=a.salt", "label=y"])
def test_keys_that_would_mislead_are_refused(stated):
    cfg = compose([*SMALL, f"party.{stated}"])
    with pytest.raises(InputError, match=f"^party.{stated.partition('=')[0]}: got"):
        check_unused(cfg, instantiate(cfg.release))


@pytest.mark.parametrize("stated", ["party.class_names=[a,b]", "party.names=hash", "standardise.mean=2"])
def test_keys_of_files_are_refused_with_built_in_data(stated):
    with pytest.raises(InputError, match=f"^{stated.partition('=')[0]}: got .*because the key belongs to a file"):
        cfg = compose([*SMALL, stated])
        check_unused(cfg, instantiate(cfg.release))
    cfg = compose([*SMALL, stated, "party.data=[a.csv]"])
    check_unused(cfg, instantiate(cfg.release))


@pytest.mark.parametrize(
    "stated",
    ["salt=s", "counterparty=acme", "approval=yes", "requests=here", "patience=1", "threshold=1", "ledger=none"],
)
def test_keys_without_effect_are_said_to_have_none(stated, capsys):
    cfg = compose([*SMALL, f"party.{stated}"])
    check_unused(cfg, instantiate(cfg.release))
    assert f"party.{stated.partition('=')[0]}: this run makes no use of it" in capsys.readouterr().err


def test_nothing_is_said_of_what_is_used(capsys):
    for stated in (["release=bit", "party.threshold=1"], ["party.data=[a.csv]", "party.label=y"], []):
        cfg = compose([*SMALL, *stated])
        check_unused(cfg, instantiate(cfg.release))
    assert not capsys.readouterr().err
