"""An object that a caller builds names its own arguments in errors; the app names the key that states the argument."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest
from omegaconf import OmegaConf

from mpc_appraisal import Best, Finetuning, InputError
from mpc_appraisal.appraisal.argument_names import by_key
from mpc_appraisal.cli.config import CONF, compose, in_full, instantiate, load_data
from mpc_appraisal.cli.inputs import by_part
from mpc_appraisal.cli.learning import learn
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.common.errors import PUBLIC_NAME, AppraisalError
from mpc_appraisal.common.stable_names import STABLE_NAMES, TARGET

WRONG = (None, -1, -1.5, 0, "nonsense", 10**30, float("nan"), True, [], [-1], [[1], [2]], {}, {"a": -1}, 1.5)
SECTIONS = {path.parent.name for path in CONF.glob("*/*.yaml")}


def built(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


CLASSES = [path for path in STABLE_NAMES if inspect.isclass(built(path))]


def arguments(kind: type) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(kind).parameters.items() if each.kind != each.VAR_KEYWORD}


def refusals(kind: type) -> dict[str, set[str]]:
    """Return, by argument, the names under which a constructor refuses wrong values of this argument alone."""
    found: dict[str, set[str]] = {}
    for name in arguments(kind):
        needed = {key: 1 for key, each in arguments(kind).items() if each.default is each.empty}
        for value in WRONG:
            try:
                kind(**needed | {name: value})
            except InputError as error:
                found.setdefault(name, set()).add(error.name)
    return found


@pytest.mark.parametrize("path", CLASSES)
def test_a_constructor_names_its_own_argument_whatever_is_wrong(path):
    kind = built(path)
    for name, refused in refusals(kind).items():
        assert {each.partition(".")[0] for each in refused} <= set(arguments(kind)), (name, refused)
        assert all(PUBLIC_NAME.fullmatch(each) for each in refused if "." not in each)


def test_wrong_values_are_refused_in_most_classes():
    """The test above could not fail if nothing was refused."""
    refused = {path.rpartition(".")[2]: set(refusals(built(path))) for path in CLASSES}
    assert refused["Finetuning"] == {"steps", "lr", "batch_size", "seed"}
    assert refused["NoisedRelease"] >= {"what", "epsilon", "delta", "row_norm"} and refused["Plain"] == {"engine"}
    assert refused["InstaHideCross"] >= {"k", "bound", "network", "momentum"} and refused["LWE"] >= {"n", "sigma"}
    assert sum(map(bool, refused.values())) >= 35


STATED = {  # what makes a choice whole, beside the key that is wrong
    "release=dp": ["release.row_norm=2"],
    "features=file": ["features.path=weights.npz"],
}
CHOICES = [
    (group, path.stem)
    for group in sorted(SECTIONS - {"launch", "tracking", "ife", "market"})
    for path in sorted((CONF / group).glob("*.yaml"))
]
CHOICES += [("ife", "lwe"), ("market", "sellers"), ("market", "slides")]


def nodes(cfg: Any, key: str = "") -> dict[str, Any]:
    """Return the objects that a group describes, by their keys."""
    found = {key: cfg} if TARGET in cfg else {}
    for name, child in cfg.items_ex(resolve=False):
        if OmegaConf.is_dict(child):
            found |= nodes(child, f"{key}.{name}")
    return found


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_the_app_names_the_key_of_a_wrong_value(group, name):
    words = [f"{group}={name}", *STATED.get(f"{group}={name}", [])]
    if group in ("ife", "market"):
        words.insert(0, "protocol=ife_transform")
    cfg = compose(words)
    for key, node in nodes(cfg[group], group).items():
        kind = built(node[TARGET])
        if not inspect.isclass(kind):  # a function is called later, with the data
            continue
        keys = [setting for setting in node if setting in refusals(kind)]
        for setting in keys:
            raised = []
            for value in ("nonsense", -1, "[]", 1e30, "{a: 1}"):
                changed = compose(words)
                OmegaConf.update(changed, f"{key}.{setting}", OmegaConf.create(f"x: {value}").x, merge=False)
                try:
                    instantiate(changed[group])
                except InputError as error:
                    raised.append(error.name)
            assert raised and {".".join(each.split(".")[: key.count(".") + 2]) for each in raised} <= {
                f"{key}.{each}" for each in node
            }, (key, setting, raised)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["appraisal=finetuning", "appraisal.lr=-1"], "appraisal.lr"),
        (["appraisal=all", "appraisal.finetuning.lr=-1"], "appraisal.finetuning.lr"),
        (["release=dp", "release.row_norm=0.5"], "release.row_norm"),
        (["release=best", "release.budget=1", "release.prices={a: -1}"], "release.prices.a"),
        (["session=plain", "protocol=rtas"], "session.engine"),
        (["session=spawn", "session.threads=abc"], "session.threads"),
        (["session=spawn", "session.logit_bound=-1"], "session.logit_bound"),
        (["session=join", "session.rendezvous=here"], "session.rendezvous"),
        (["session=join", "session.transport=tcp"], "session.transport"),
        (["protocol=ife_transform", "market.validation.steps=0"], "market.validation.steps"),
        (["protocol=ife_transform", "market.lr=-1"], "market.lr"),
        (["protocol=ife_transform", "market.momentum=1"], "market.momentum"),
        (["protocol=instahide", "protocol.k=1"], "protocol.k"),
        (["features=random_relu", "features.width=0"], "features.width"),
    ],
)
def test_keys_are_named_in_full(words, name):
    cfg = compose(words)
    with pytest.raises(InputError) as raised:
        instantiate(cfg[name.partition(".")[0]])
    assert raised.value.name == name and isinstance(raised.value.__cause__, Exception)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["appraisal=influence", "appraisal.metric=worst_group", "appraisal.group=99"], "appraisal.group"),
        (
            ["appraisal=influence_interval", "appraisal.influence.metric=worst_group", "appraisal.influence.group=99"],
            "appraisal.influence.group",
        ),
        (["appraisal=influence", "appraisal.metric=nowhere:loss"], "appraisal.metric"),
        (["appraisal=all", "release=dp", "release.row_norm=9"], "release.ceiling"),
        (["attack=extraction", "appraisal=influence"], "attack"),
    ],
)
def test_errors_of_a_run_name_the_whole_key(words, name, tmp_path):
    cfg = compose(
        ["data=wine", "scenario.labels=[0,1]", "session=plain", "party.preflight=no", "scenario.size=20", *words]
    )
    with pytest.raises(InputError) as raised, in_full(cfg):
        appraise_config(cfg, lambda event: None, tmp_path)
    assert raised.value.name == name, str(raised.value)


def test_a_setting_is_named_under_its_methods_key():
    both = compose(["appraisal=all", "+appraisal.mine={_target_: x.Y, name: tuning, lr: 1, steps: 2}"])
    stated = {
        "appraisal.lr": "appraisal.finetuning.lr",  # the first that has it
        "appraisal.mine.lr": "appraisal.mine.lr",
        "appraisal.influence.damping": "appraisal.influence.damping",
        "lower appraisal.steps or appraisal.rate": "lower appraisal.finetuning.steps or appraisal.rate",
    }
    for text, expected in stated.items():
        with pytest.raises(InputError) as raised, in_full(both):
            raise InputError(text, 1, text)
        assert (raised.value.name, raised.value.expected) == (expected, expected)
    with pytest.raises(InputError, match="^appraisal.directions: "), in_full(compose(["appraisal=relevance"])):
        raise InputError("appraisal.relevance.directions", 1, "2")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["protocol=rtas_training", "session.engine=stock"], "session.engine"),
        (["protocol=rtas_training", "session.transport=gloo"], "session.transport"),
        (["protocol=shares_training", "data=diabetes"], "data"),
        (["protocol=instahide", "attack=challenge", "attack.folder=nowhere", "attack.answer=a.npz"], "attack.folder"),
    ],
)
def test_errors_of_private_learning_name_keys(words, name):
    with pytest.raises(InputError) as raised:
        learn(compose(words), lambda event: None)
    assert raised.value.name == name


def test_rows_are_named_by_the_key_of_their_files(tmp_path):
    built, files = compose(["data=wine"]), compose([f"party.train={tmp_path}", f"party.test={tmp_path}"])
    for name in ("train", "test", "data", "other"):
        for cfg, expected in (
            (built, "other" if name == "other" else "data"),
            (files, {"other": "other", "test": "party.test"}.get(name, "party.train")),
        ):
            with pytest.raises(InputError) as raised, by_part(cfg):
                raise InputError(name, "3 rows", "4 rows")
            assert raised.value.name == expected and "3 rows" in str(raised.value)
    with pytest.raises(InputError, match="^data: got test rows: 3 rows; expected"), by_part(built):
        raise InputError("test", "3 rows", "4 rows")


def test_data_that_are_not_found_are_named_by_their_key(tmp_path):
    cfg = compose(["data=mnist", f"data.root={tmp_path}"])
    with pytest.raises(InputError, match="^data.root: got") as raised:
        load_data(cfg)
    assert "state it, or set the environment variable" in str(raised.value)
    with pytest.raises(InputError, match="^root: got"):
        instantiate(cfg.data).load()


def test_an_object_from_nowhere_has_its_arguments_names_and_another_error_passes():
    with pytest.raises(InputError, match="^lr: got -1"):
        instantiate(OmegaConf.create({TARGET: "mpc_appraisal.methods.Finetuning", "lr": -1}))
    with pytest.raises(AppraisalError, match="Finetuning.*unexpected keyword"):
        instantiate(OmegaConf.create({TARGET: "mpc_appraisal.methods.Finetuning", "rate": -1}))
    with pytest.raises(InputError, match="^lr: got -1"):
        Finetuning(lr=-1)
    with pytest.raises(InputError, match=r"^prices\.a: got -1"):
        Best(budget=1.0, prices={"a": -1})
    with pytest.raises(InputError, match="^party.data: "), by_key("release", ["party"][:0]):
        raise InputError("party.data", 1, "2")
