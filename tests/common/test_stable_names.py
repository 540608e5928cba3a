"""Digests that ledgers and finished jobs hold do not change when a class moves to another file."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from mpc_appraisal.cli.config import CONF, compose, public_part
from mpc_appraisal.cli.jobs import job_key
from mpc_appraisal.common import stable_names
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.stable_names import STABLE_NAMES, TARGET, stable
from mpc_appraisal.governance.budget.ledgers import subject

# The digest of the part of the public configuration that a ledger's question contains, as revision 887b613 computed it.
DIGESTS = {
    "": "0471a152887b14b3",
    "appraisal=influence": "79e90a18b62397c1",
    "appraisal=gradient_norm": "2046b9e49e26b207",
    "appraisal=finetuning": "0247b3dc02f28231",
    "appraisal=influence_interval": "3d749c6f0ee9a6ed",
    "appraisal=influence_error": "1a53c1efbec2ed21",
    "appraisal=mlp_finetuning": "2003ab5574445670",
    "release=bit": "6f3dc2f624f1ffee",
    "release=best": "f42934f37721a22d",
    "release=dp": "b54f3f345ad36899",
    "features=random_relu": "060023bdcaec6141",
    "features=conv_random": "4b779bce06ab6524",
    "features=file": "0e748778acfee1b9",
    "data=mnist": "266e88dc3ac9e091",
    "data=cifar10": "5280901bc751701d",
    "scenario=clean": "831116caf295c97e",
    "scenario=missing_data": "c526041048f38166",
    "scenario=distribution_mismatch": "d17d136cbcc8a752",
    "session=plain": "0471a152887b14b3",
    "protocol=rtas": "0471a152887b14b3",
    "protocol=ife_transform": "e09dc42549c9db38",
    "protocol=ife_transform ife=als16": "b52ca803a58bfe01",
    "protocol=ife_transform market=slides": "98904679658bb037",
}


def question_part(overrides: list[str]) -> dict[str, object]:
    public = public_part(compose(overrides))
    return {key: value for key, value in public.items() if not key.startswith(("session.", "protocol."))}


@pytest.mark.parametrize("case", DIGESTS, ids=lambda case: case or "defaults")
def test_the_digest_of_a_question_is_that_of_the_first_ledgers(case):
    between = [] if "session" in case or "ife" in case else ["session=join"]
    assert config_hash(question_part([*between, *case.split()])) == DIGESTS[case]


def test_a_moved_class_changes_no_digest(monkeypatch):
    before = question_part(["session=join", "appraisal=influence"])
    key, config = job_key(compose(["appraisal=influence"])), compose(["session=join", "appraisal=influence"])
    here = config.appraisal[TARGET]
    monkeypatch.setitem(stable_names.STABLE_NAMES, "elsewhere.Influence", STABLE_NAMES[here])
    config.appraisal[TARGET] = "elsewhere.Influence"
    after = {k: v for k, v in public_part(config).items() if not k.startswith(("session.", "protocol."))}
    assert subject(config=after) == subject(config=before)
    moved = compose(["appraisal=influence"])
    moved.appraisal[TARGET] = "elsewhere.Influence"
    assert job_key(moved) == key


def test_a_class_of_another_package_is_known_by_its_path():
    tree = {"appraisal": {TARGET: "mine.Method"}, "list": [{TARGET: "mine.Other"}, 3]}
    assert stable(tree) == tree


def targets() -> set[str]:
    """All class paths in conf/ but those of Hydra's own parts."""

    def walk(node):
        if isinstance(node, dict):
            for key, child in node.items():
                yield from [child] if key == TARGET else walk(child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    apart = ("launch", "tracking")  # what runs a sweep and what is told of it change no result
    files = [p for p in Path(CONF).rglob("*.yaml") if p.parent.name not in apart and p.name != "config.yaml"]
    return {target for path in files for target in walk(yaml.safe_load(path.read_text()))}


def test_every_strategy_of_the_configuration_has_a_stable_name():
    assert targets() == set(STABLE_NAMES)
    assert len(set(STABLE_NAMES.values())) == len(STABLE_NAMES)


@pytest.mark.parametrize("path", STABLE_NAMES)
def test_every_class_path_leads_to_its_class(path):
    module, name = path.rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))
