"""Every file under conf/: it builds, it is consistent with itself, and each method agrees with plaintext on shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from processes import ROOT

from mpc_appraisal import Dataset, Join, Plain, Spawn, appraise
from mpc_appraisal.appraisal.conformance import (
    L2,
    OK,
    SmallSets,
    cost_line,
    dry_line,
    formula_lines,
    release_lines,
    shares_lines,
    stated_lines,
    streaming_line,
)
from mpc_appraisal.cli.config import CONF, public_part
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.data import DataSource, Digits
from mpc_appraisal.data.scenarios import Scenario
from mpc_appraisal.methods import ALL, METHODS, Appraiser, as_methods

CHEAP = {"finetuning": ["appraisal.steps=1"]}  # overrides that make a costly method short
SETS = SmallSets()
TRAIN, TEST = Digits().load()


def numeric(data: Dataset) -> Dataset:
    """The same rows with the digit as a number to predict."""
    return Dataset(data.x, data.y.double(), 1, data.name)


def names(group: str) -> list[str]:
    return sorted(path.stem for path in Path(CONF, group).glob("*.yaml"))


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("config", list(overrides))


def methods(name: str) -> tuple[Appraiser, ...]:
    return as_methods(instantiate(config(f"appraisal={name}", *CHEAP.get(name, [])).appraisal))


TOGETHER = "mpc_appraisal.methods.Methods"  # what a file that names several methods builds
SINGLE = [name for name in names("appraisal") if config(f"appraisal={name}").appraisal._target_ != TOGETHER]


def test_every_group_has_files():
    assert {p.name for p in Path(CONF).iterdir() if p.is_dir()} >= {"appraisal", "data", "scenario", "model", "session"}
    assert SINGLE and all(names(group) for group in ("data", "scenario", "model", "session"))


# ---- appraisal ----


def test_all_is_the_papers_methods_once():
    assert sorted(type(method).name for method in methods("all")) == sorted(method.name for method in ALL)
    assert {method.name for name in SINGLE for method in methods(name)} == set(METHODS)


@pytest.mark.parametrize("name", SINGLE)
def test_a_method_is_consistent_with_itself(name):
    (method,) = methods(name)
    assert method.name == name and method.needs <= {"train", "test"} and method.opens
    assert type(method)() == instantiate(config(f"appraisal={name}").appraisal), "the file states other defaults"
    lines = [*stated_lines(method), *formula_lines(method, SETS), *release_lines(method, SETS)]
    lines += [streaming_line(method, SETS), dry_line(method, SETS)]
    assert len(lines) >= 9 and not [line for line in lines if line.status != OK]


@pytest.fixture(scope="module")
def spawned():
    every = [method for name in SINGLE for method in methods(name)]
    return every, appraise(SETS.candidates, train=SETS.train, test=SETS.test, method=every, l2=L2)


@pytest.mark.parametrize("name", SINGLE)
def test_a_method_on_shares_agrees_with_plaintext(name, spawned):
    every, result = spawned
    (method,) = (each for each in every if each.name == name)
    lines = [*shares_lines(method, result, SETS), cost_line(method, result)]
    assert [line.what for line in lines] == ["shares against plaintext", "candidates differ", "cost"]
    assert not [line for line in lines if line.status != OK]


# ---- data, scenario, model, session ----


@pytest.mark.parametrize("name", names("data"))
def test_a_data_set_builds(name):
    source = instantiate(config(f"data={name}").data)
    assert isinstance(source, DataSource) and source.name == name
    assert source.classes >= (1 if name == "diabetes" else 2)  # a number to predict is one output


@pytest.mark.parametrize("name", names("scenario"))
def test_a_scenario_builds_a_market(name):
    two = name == "distribution_mismatch"
    rows = [part.y < 2 for part in (TRAIN, TEST)]
    parts = [Dataset(p.x[r], p.y[r], 2) if two else p for p, r in zip((TRAIN, TEST), rows, strict=True)]
    if name.startswith("target_"):
        parts = [numeric(part) for part in parts]
    size = ["scenario.train_size=[20,20]", "scenario.size=null"] if two else ["scenario.train_size=50"]
    scenario = instantiate(config(f"scenario={name}", "scenario.candidates=4", *size).scenario)
    assert isinstance(scenario, Scenario)
    market = scenario.build(*parts, 0)
    assert len(market.candidates) == 4 and len({candidate.name for candidate in market.candidates}) == 4
    assert all(c.data.features == 64 and c.data.rows > 0 and 0 <= c.level <= 1 for c in market.candidates)


@pytest.mark.parametrize("name", names("scenario"))
def test_a_scenario_takes_its_defaults_from_the_file(name):
    scenario = instantiate(config(f"scenario={name}", "data=mnist").scenario)
    written = OmegaConf.to_container(OmegaConf.load(Path(CONF, "scenario", f"{name}.yaml")))
    if "labels" in written:  # these are what the data set says
        written["labels"] = OmegaConf.to_container(OmegaConf.load(Path(CONF, "data", "mnist.yaml")))["alike"]
    for key, value in written.items():
        if key not in ("_target_", "train_size"):
            held = getattr(scenario, key)
            assert (list(held) if isinstance(held, tuple) else held) == value
    assert scenario.train_size == 600


@pytest.mark.parametrize("name", names("model"))
def test_a_model_fits(name):
    train, outputs = SETS.train, 10
    if name == "linear_regression":
        train, outputs = numeric(train), 1
    elif name == "logistic_regression":
        train, outputs = Dataset(train.x, train.y % 2, 2), 1
    model = instantiate(config(f"model={name}").model)(train)
    assert model.theta.shape == (65, outputs) and model.l2 == config(f"model={name}").model.l2


@pytest.mark.parametrize("name", names("session"))
def test_a_session_builds(name):
    session = instantiate(config(f"session={name}").session)
    assert isinstance(session, {"plain": Plain, "spawn": Spawn, "join": Join}[name]) and session.name == name
    assert session == type(session)(), "the file states other defaults than the class"


# ---- the whole and its hash ----


def digest(*overrides: str) -> str:
    return config_hash(public_part(config(*overrides)))


@pytest.mark.parametrize(
    "override",
    [
        "party.data=seller.csv",
        "party.data=[a.csv,b.csv]",
        "party.train=train.npz",
        "party.test=test.npz",
        "party.model=theta.npz",
        "party.label=target",
        "party.listing=seller.json",
        "party.secret=seller.salt",
        "session.role=dealer",
        "session.tls=somewhere",
        "session.in_the_clear=true",
        "session.data_owner_address=tcp://127.0.0.1:1",
        "session.relay=127.0.0.1:1",
        "data.root=somewhere",
        "hydra.run.dir=elsewhere",
    ],
)
def test_the_hash_leaves_out_what_is_one_partys_own(override):
    base = ("session=join", "data=mnist")
    assert digest(*base, override) == digest(*base)


def leaves(node, prefix="") -> list[str]:
    if isinstance(node, dict) and node:
        return [leaf for key, child in node.items() for leaf in leaves(child, f"{prefix}{key}.")]
    return [prefix[:-1]]


BASE = ("session=join", "appraisal=all", "data=mnist")
OWN = (
    *("party.", "session.role", "session.tls", "session.in_the_clear", "session.data_owner_address"),
    "session.relay",
    *("data.root", "features.path", "resume", "overwrite", "quiet", "evaluate.", "attack."),
    *("appraisal.influence.group", "appraisal.influence.class_weights"),  # parts of the model owner's commitment
)
PUBLIC = [key for key in leaves(OmegaConf.to_container(config(*BASE), resolve=True)) if not key.startswith(OWN)]
PUBLIC = [key for key in PUBLIC if not key.startswith("data.alike")]  # scenario.labels states it


def test_the_public_keys_are_the_expected_kind():
    assert len(PUBLIC) > 20 and {"seed", "model.l2", "session.rendezvous", "baselines.true_utility"} <= set(PUBLIC)


FILES = {"recipe": str(ROOT / "tests" / "support" / "recipe.yaml")}  # a key whose file is read has to name one


VALUES = FILES | {"overlap_minimum": 11}  # what a key is changed to, if not to a text
BESIDE = {"overlap_minimum": ("overlap=rows",)}  # what has to be stated beside a key


@pytest.mark.parametrize("key", PUBLIC)
def test_the_hash_holds_every_public_key(key):
    stated = (*BASE, *BESIDE.get(key, ()))
    changed = config(*stated)
    OmegaConf.update(changed, key, VALUES.get(key, "changed"))
    assert config_hash(public_part(changed)) != digest(*stated)


def test_the_hash_does_not_depend_on_how_it_was_stated():
    assert digest("model.l2=0.01") == digest("model.l2=1e-2") == digest()
    assert digest("appraisal=influence") != digest("appraisal=gradient_norm")
