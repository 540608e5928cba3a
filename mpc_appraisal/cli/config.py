"""The app's configuration: where its files are, how it is composed, and which part of it is public.

In go overrides from the command line, or the configuration that Hydra composed of conf/ and these overrides. Out come
the objects that the configuration describes, and the public configuration, whose digest the parties of an appraisal
compare before anything is shared. A key may be added to `OWN` only if it belongs to one party alone; every other key is
public, and all parties have to state it alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.appraisal.argument_names import by_key
from mpc_appraisal.appraisal.overlap_terms import MINIMUM, OverlapTerms
from mpc_appraisal.cli.front import CONF
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.reworded import reworded
from mpc_appraisal.common.roles import INTEGRITY, ON
from mpc_appraisal.common.stable_names import TARGET, stable
from mpc_appraisal.common.text import PLACE, shown
from mpc_appraisal.data import Dataset, Extractor, Recipe, mapped, standardise
from mpc_appraisal.data.naming import Data
from mpc_appraisal.governance.approval.overlap_words import ROWS
from mpc_appraisal.methods.installed import installed_method
from mpc_appraisal.methods.setting_names import NAMED
from mpc_appraisal.mpc.backends.settings import checks_messages

# Configuration keys that belong to one party, or change no value, and are excluded from the public configuration.
OWN = (
    "party",
    "session.role",
    "session.tls",
    "session.in_the_clear",
    "session.data_owner_address",
    "session.relay",
    "data.root",
    "data.alike",  # a default of scenario.labels, which is public
    "features.path",
    "resume",
    "overwrite",
    "evaluate",
    "quiet",
    "attack",
)

FULL_KEY = re.compile(r"^full_key: (.+)$", re.MULTILINE)  # where Hydra says which object it could not build

# The default of scenario.labels before data sets stated their own. Between organisations, who read files and no data
# set, it stays in the digest, so that ledgers know their questions.
FIRST_LABELS = (1, 7)

# The keys of `attack` that are paths of files.
ATTACK_FILES = ("folder", "answer")

# The keys of a count of shared items; with `overlap: null` they stand in no public configuration and in no job's key.
OVERLAP = ("overlap", "overlap_minimum")

# The parts of the configuration that are no groups, each with one of its keys.
SECTIONS = {"party": "train", "standardise": "mean", "baselines": "true_utility", "evaluate": "measures"}

# The methods that have a metric, by their stable names. The model owner keeps the settings OWN_OF_METRIC to itself. A
# setting of ADDED is newer than the first digests of configurations, which hold it only where it is another than here.
WITH_METRIC = ("mpc_appraisal.appraisal.Influence", "mpc_appraisal.appraisal.InfluenceError")
OWN_OF_METRIC = ("group", "class_weights")
ADDED = {"metric": "log_loss", "group": None, "class_weights": None}
# The same for the release with noise, by its stable name.
NOISED = "mpc_appraisal.release.Private"
ADDED_TO_NOISED = {"target_norm": None, "group": None, "group_rows": None, "group_norm": None}


def public_part(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration by its full keys, which all parties must state alike.

    The keys of OWN are left out, and so are the settings of metrics that the model owner keeps to itself.
    """

    def flatten(node: Any, prefix: str) -> dict[str, Any]:
        if isinstance(node, dict) and node:
            return {k: v for key, child in node.items() for k, v in flatten(child, f"{prefix}{key}.").items()}
        return {prefix[:-1]: node}

    resolved = with_one_integrity(stable(OmegaConf.to_container(cfg, resolve=True)))
    flat = flatten(without_added(resolved, OWN_OF_METRIC), "")
    recipe = recipe_of(cfg)
    flat |= {"recipe": recipe.digest} if recipe else {}
    if recipe is None:  # a configuration without a recipe has the digest that it had before there were recipes
        flat.pop("recipe", None)
    default = "labels" in cfg.scenario and OmegaConf.is_interpolation(cfg.scenario, "labels")
    if default and str(cfg.session.get(TARGET)).endswith("Join"):
        flat["scenario.labels"] = list(FIRST_LABELS)
    if overlap_of(cfg) is None:  # the same holds for a configuration without a count of shared items
        flat = {key: value for key, value in flat.items() if key not in OVERLAP}
    return {k: v for k, v in flat.items() if not any(k == own or k.startswith(f"{own}.") for own in OWN)}


def without_added(tree: Any, own: Sequence[str] = ()) -> Any:
    """Return a configuration with stable names, without the settings of ADDED and the like that have their default.

    own: the settings of methods with a metric that are left out whatever they are.
    """
    if not isinstance(tree, dict):
        return tree
    measured = tree.get(TARGET) in WITH_METRIC
    added = ADDED if measured else ADDED_TO_NOISED if tree.get(TARGET) == NOISED else {}
    return {
        key: without_added(child, own)
        for key, child in tree.items()
        if not (measured and key in own or key in added and child == added[key])
    }


def with_one_integrity(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with session.integrity in one spelling, and without it where messages are not checked.

    A configuration without the check then has the digest that it had before there was one. A value that is neither on
    nor off stays, because the session refuses it.
    """
    group, _, key = INTEGRITY.partition(".")
    stated = tree.get(group)
    if not isinstance(stated, dict) or key not in stated:
        return tree
    try:
        spelt = {key: ON} if checks_messages(stated[key]) else {}
    except InputError:
        return tree
    return tree | {group: {name: value for name, value in stated.items() if name != key} | spelt}


def check_sections(cfg: DictConfig) -> None:
    """Raise InputError where a value stands in the place of a part of the configuration that has keys."""
    for name, key in SECTIONS.items():
        if not isinstance(cfg.get(name), DictConfig):
            raise InputError(name, cfg.get(name), f"its keys alone, as in {name}.{key}=...")


def recipe_of(cfg: DictConfig) -> Recipe | None:
    """Return the recipe by which the owners' files are read; None if none is stated.

    Raises InputError for a file that holds no recipe, and for a key beside it that the recipe takes the place of.
    """
    if cfg.get("recipe") is None:
        return None
    if not isinstance(cfg.recipe, str):
        raise InputError("recipe", cfg.recipe, "the path of a .yaml file, or null")
    stated = {"party.label": (cfg.party.label, "label"), "party.class_names": (cfg.party.class_names, None)}
    stated |= {f"standardise.{key}": (cfg.standardise[key], None) for key in ("mean", "scale")}
    for key, (value, default) in stated.items():
        if value != default:
            raise InputError(key, value, f"{default or 'null'} beside recipe=, because the recipe states it")
    return Recipe.load(absolute(cfg.recipe))


def overlap_of(cfg: DictConfig) -> OverlapTerms | None:
    """Return what the owners count before the appraisal; None for nothing.

    Raises InputError for keys that name no column or minimum, and for a minimum without a count.
    """
    stated, minimum = (cfg.get(key) for key in OVERLAP)
    if stated is None:
        if minimum not in (None, MINIMUM):
            raise InputError("overlap_minimum", minimum, f"{MINIMUM}, or overlap= beside it: nothing is counted")
        return None
    if not isinstance(stated, str) or PLACE.search(stated):
        raise InputError(
            "overlap", repr(stated), "rows, or the name of a column of keys, which is no path: records hold it"
        )
    return OverlapTerms(None if stated == ROWS else stated, minimum)


def release_settings(cfg: DictConfig) -> DictConfig:
    """Return the settings of the release. A bound on targets that is null is made of the range in a recipe.

    Raises InputError as `recipe_of` does.
    """
    recipe = recipe_of(cfg) if cfg.release.get("target_norm", 0) is None else None
    if recipe is None or recipe.target.kind != "number":
        return cfg.release
    largest = max(abs(recipe.target.minimum), abs(recipe.target.maximum))
    return OmegaConf.merge(cfg.release, {"target_norm": largest})


def absolute(path: str) -> Path:
    """Return the absolute path of a path as it was typed, before Hydra may have changed the folder."""
    return Path(hydra.utils.to_absolute_path(str(path)))


def extractor(cfg: DictConfig) -> Extractor:
    """Return the public feature extractor. The path of its file, if it has one, is taken as it was typed."""
    own = {"path": str(absolute(cfg.features.path))} if cfg.features.get("path") else {}
    return instantiate(OmegaConf.merge(cfg.features, own))


def preparation(cfg: DictConfig) -> Callable[[Data], Data]:
    """Return the function that both owners apply to a data set before it is used.

    The function standardises the rows, and then maps them to features. Its settings are public. It raises InputError if
    the rows do not fit them.
    """
    features = extractor(cfg)
    mean, scale = (OmegaConf.to_object(cfg.standardise)[key] for key in ("mean", "scale"))

    def prepared(data: Data) -> Data:
        if mean is not None or scale is not None:
            data = standardise(data, 0.0 if mean is None else mean, 1.0 if scale is None else scale)
        return mapped(data, features)

    return prepared


def instantiate(cfg: DictConfig) -> Any:
    """Build an object as Hydra does. An InputError that names an argument of a constructor names its key instead."""
    try:
        return hydra.utils.instantiate(cfg)
    except TypeError as error:  # Hydra's own, of a flag such as _partial_; an error of a constructor is none here
        stated = (FULL_KEY.findall(str(error)) or ["configuration"])[-1]
        raise InputError(stated, shown(str(error).partition("\n")[0], 200), "what `--cfg job` prints there") from error
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, AppraisalError):
            cause = cause.__cause__
        if cause is None:
            raise AppraisalError(" ".join(str(error).split())) from error
        group = (FULL_KEY.findall(str(error)) or [""])[-1]  # the key of the object that failed, perhaps a nested one
        with by_key(group, OmegaConf.select(cfg._get_root(), group) or ()) if group else nullcontext():
            raise cause from error


def in_full(cfg: DictConfig) -> AbstractContextManager[None]:
    """Raise an error of the block that names a setting of a method by its whole key, as appraisal.influence.group.

    The code names it by appraisal.METHOD.SETTING or appraisal.SETTING. Where the configuration has one method, the key
    is the shorter name. Where it has several, each stands under a key of its own.
    """
    stated = cfg.appraisal
    nested = {key: node for key, node in stated.items_ex(resolve=False) if OmegaConf.is_dict(node)}

    def whole(found: re.Match[str]) -> str:
        method, setting = found.groups()
        if method is None and setting in stated or method in nested:
            return found[0]
        if method is not None and setting in stated:
            return f"appraisal.{setting}"
        holder = next((key for key, node in nested.items() if setting in node), None)
        return found[0] if holder is None else f"appraisal.{holder}.{setting}"

    return reworded(partial(NAMED.sub, whole))


def load_data(cfg: DictConfig) -> tuple[Dataset, Dataset]:
    """Return the training and test rows of the configuration's built-in data set.

    Raises InputError, by the key of the configuration, where the data set is not found or does not fit its settings.
    """
    with by_key("data", cfg.data):
        return instantiate(cfg.data).load()


def offer_installed(words: Sequence[str]) -> None:
    """Let `appraisal=NAME` among the words choose the method that an installed package offers under that name.

    Its settings are then keys of `appraisal`, with the defaults of its class. A name of a file in conf/ stays this
    file's. Raises InputError as `installed_method` does.
    """
    own = {path.stem for path in (CONF / "appraisal").glob("*.yaml")}
    stated = [word.partition("=")[2].split(",") for word in words if word.startswith("appraisal=")]
    for name in {each.strip() for names in stated for each in names} - own:
        if (method := installed_method(name)) is not None:
            target = f"{method.__module__}.{method.__qualname__}"
            ConfigStore.instance().store(group="appraisal", name=name, node={TARGET: target, **_defaults(method)})


def _defaults(method: type) -> dict[str, Any]:
    """Return the settings of a method that a configuration can hold, with their defaults; "???" must be stated."""
    found = {}
    for each in fields(method) if is_dataclass(method) else ():
        value = each.default if each.default_factory is MISSING else each.default_factory()
        if each.init and (value is None or isinstance(value, (bool, int, float, str, list, tuple))):
            found[each.name] = list(value) if isinstance(value, tuple) else value
        elif each.init and value is MISSING:
            found[each.name] = "???"
    return found


def compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the app's configuration without running it. Raises InputError for overrides that it does not know."""
    offer_installed(overrides)
    try:
        with hydra.initialize_config_dir(str(CONF), version_base=None):
            return hydra.compose("config", list(overrides))
    except HydraException as error:
        raise InputError("arguments", " ".join(overrides), "; ".join(str(error).split("\n")[:2])) from error
