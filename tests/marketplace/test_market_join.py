"""Organisations meet in the marketplace by commands, with files of their own. A role that is lost is named, and so is a
plan that does not fit."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from processes import HERE, Processes, free_port
from small_market import (
    WEIGHT,
    in_processes,
    problem,
)

from mpc_appraisal.appraisal.sessions import Plain
from mpc_appraisal.cli.commands.market import main
from mpc_appraisal.cli.commands.market.join import ROLES
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.marketplace.plan_file import architecture_of, market_of, read_plan
from mpc_appraisal.models.networks import Network
from mpc_appraisal.mpc.net.certificates import make_trial


def test_a_cloud_that_is_killed_half_way_is_named_and_nothing_hangs(simulated):
    plan, shopper, _, places = simulated
    with pytest.raises(PeerError, match="data_owner"):
        in_processes(plan, shopper, places, dies=True)


def test_organisations_enrol_upload_and_join_by_commands_over_tls(tmp_path):
    """Each runs a command of its own with files of its own; the last three are processes that meet."""
    architecture = architecture_of("cnn", [1, 8, 8])
    shopper, sellers = problem(architecture, sellers=2)
    stated = {
        "image": [1, 8, 8], "protocol": "ife_transform", "selection": "entropy", "budget": 6,
        "validation": {"granularity": 3, "steps": 4, "lr": 0.05, "batch_size": 16, "deliver": True},
    }  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(stated))
    for seller in sellers:
        np.savez(tmp_path / f"{seller.name}.npz", x=seller.x, y=seller.y)
        main(["enrol", str(tmp_path / "state"), seller.name, "--out", str(tmp_path), "--image", "1", "8", "8"])
        enrolment = tmp_path / f"{seller.name}.enrolment"
        assert enrolment.stat().st_mode & 0o077 == 0  # its owner alone may read it
        main(["upload", str(tmp_path / f"{seller.name}.npz"), str(enrolment), "--out", str(tmp_path / "inbox")])
    shopper.network.save(tmp_path / "network.npz")
    for name in ("own", "validation"):
        x, y = getattr(shopper, name)
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    make_trial(tmp_path / "tls")
    own = {
        "authority": ["--state", "state"],
        "cloud": ["--inbox", "inbox"],
        "shopper": [
            "--network", "network.npz", "--own", "own.npz", "--validation", "validation.npz", "--out", "result.json",
            "--deliver", "retrained.npz",
        ],
    }  # fmt: skip
    address = f"tcp://127.0.0.1:{free_port()}"
    with Processes(tmp_path / "runs") as processes:
        started = {}
        for role, files in own.items():
            files = [each if each.startswith("--") else str(tmp_path / each) for each in files]
            folder = str(tmp_path / "tls" / ROLES[role])
            command = [
                sys.executable,
                str(HERE / "market_party.py"),
                "join",
                role,
                address,
                str(tmp_path / "plan.json"),
            ]
            started[role] = processes.start(role, [*command, *files, "--tls", folder])
        ended = {role: process.wait(120) for role, process in started.items()}
    assert {role: one.code for role, one in ended.items()} == dict.fromkeys(own, 0), ended
    result = json.loads((tmp_path / "result.json").read_text())
    plain = run_market(read_plan(tmp_path / "plan.json"), shopper, sellers, Plain())
    assert [tuple(pair) for pair in result["selected"]] == list(plain.selected)
    assert [verdict["wrong"] for verdict in result["verdicts"]] == [verdict.wrong for verdict in plain.verdicts]
    assert "not encryption" in ended["shopper"].out
    assert {role for roles in result["costs"].values() for role in roles} == set(own)
    assert {role for opening in result["openings"] for role in opening["to"]} == set(own)
    assert ended["cloud"].out == ended["authority"].out == "done: the shopper has the result\n"
    found = Network.load(tmp_path / "retrained.npz")
    assert max((p - q).abs().max() for p, q in zip(found.weights, plain.network.weights, strict=True)) <= WEIGHT


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"protocol": "none"}, "plan protocol"),
        ({"network": "alexnet"}, "plan network"),
        ({"scheme": "rsa"}, "plan scheme"),
        ({"opens": "logits"}, "plan"),
        ({"budget": 0}, "budget"),
        ({"image": [28, 28]}, "plan image"),
        ({"validation": {"granularity": 2}}, "plan validation"),
        ({"validation": {"granularity": 9, "steps": 1, "lr": 0.1, "batch_size": 4}}, "validation granularity"),
        ({"validation": {"granularity": 2, "steps": 1, "lr": 0.0, "batch_size": 4}}, "validation lr"),
    ],
)
def test_a_plan_that_does_not_fit_is_named(changed, named):
    stated = {"protocol": "ife_transform", "selection": "margin", "budget": 8}
    assert market_of(stated).budget == 8
    with pytest.raises(InputError) as caught:
        market_of(stated | changed)
    assert caught.value.name == named
