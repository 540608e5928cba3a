"""Settings of records: stable names, whatever road the run took, and nothing that is secret or a place."""

from __future__ import annotations

from dataclasses import replace

import oracles
import torch

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal.api import _plan
from mpc_appraisal.appraisal.settings import LONGEST_LIST, option_name, settings_of, without_built_in
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.front import options
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence
from mpc_appraisal.release import Best, NoisedRelease, Value

torch.set_num_threads(1)


def plan(*methods, release=None, **public):
    made = _plan(methods, 0.01, 3, Value() if release is None else release)
    return replace(made, public=made.public | public)


def test_a_run_from_python_states_what_its_plan_knows():
    data = Dataset(*oracles.problem(40, 4, 3, 1, 0.1), 3, "rows")
    (record,) = appraise({"a": data}, train=data, test=data, method="finetuning", session="plain", seed=5, l2=0.5)
    assert record.settings == {
        "appraisal": ["finetuning"],
        "appraisal.finetuning.batch_size": None,
        "appraisal.finetuning.lr": Finetuning().lr,
        "appraisal.finetuning.seed": 0,
        "appraisal.finetuning.steps": Finetuning().steps,
        "model": "softmax_regression",
        "model.l2": 0.5,
        "release": "value",
        "release.to": "both",
        "seed": 5,
        "session": "plain",
    }


def test_the_model_owners_own_settings_stay_with_it():
    method = Influence(metric="class_weighted", class_weights=(1.0, 5.0), damping=0.25)
    stated = settings_of(plan(method), "spawn")
    assert stated["appraisal.influence.metric"] == "class_weighted" and stated["appraisal.influence.damping"] == 0.25
    assert not [key for key in stated if "weights" in key or "group" in key]


def test_a_release_is_named_as_in_records_and_its_prices_are_left_out():
    dp = settings_of(plan(GradientNorm(), release=NoisedRelease(epsilon=0.5, row_norm=3.0)), "spawn")
    assert (dp["release"], dp["release.epsilon"], dp["release.row_norm"]) == ("dp", 0.5, 3.0)
    best = settings_of(plan(GradientNorm(), release=Best(k=2, prices={"a": 1.0}, budget=2.0)), "spawn")
    assert (best["release"], best["release.k"], best["release.budget"]) == ("best", 2, 2.0)
    assert "release.prices" not in best


def test_places_and_long_lists_are_left_out():
    public = {
        "session.rendezvous": "tcp://10.0.0.1:29500",
        "features.file": "/home/somebody/layers.npz",
        "standardise.mean": [0.5] * (LONGEST_LIST + 1),
        "standardise.scale": [2.0] * LONGEST_LIST,
        "data._target_": "mpc_appraisal.data.BreastCancer",
        "model._partial_": True,
    }
    stated = settings_of(plan(GradientNorm(), **public), "spawn")
    assert stated["data"] == "breast_cancer" and stated["standardise.scale"] == [2.0] * LONGEST_LIST
    assert not {"session.rendezvous", "features.file", "standardise.mean", "model._partial_"} & set(stated)
    assert "data" not in settings_of(plan(GradientNorm(), **public), "join")
    assert "data" not in without_built_in(stated) and without_built_in(stated)["model.l2"] == 0.01


def test_options_are_named_as_in_the_configuration():
    for group in ("data", "scenario", "features"):
        for option in options(group):
            target = public_part(
                compose([f"{group}={option}", *(("features.path=x.npz",) if option == "file" else ())])
            )
            assert option_name(target[f"{group}._target_"]) == option, (group, option)
