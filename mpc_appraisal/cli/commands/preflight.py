"""`mpc-appraisal preflight`: can the method be trusted on this model? The model owner's own files tell, in the clear.

    mpc-appraisal preflight train=train.npz test=test.npz appraisal=influence l2=1e-2

In go the model owner's two files. Out come tables and warnings, the figures as JSON if out=FILE is stated, and exit
status 1 if a method is not trusted. Arguments that are no keys of the command are configuration, as for the app:
appraisal.damping=..., standardise.mean=..., ... A key may be added to `KEYS`; the statuses have to stay.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.arguments import number, split, yes_or_no
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Recipe, check_gaps, check_kind, mapped, read_dataset
from mpc_appraisal.data.naming import Data, alike
from mpc_appraisal.methods import as_methods
from mpc_appraisal.methods.preflight.check import checked
from mpc_appraisal.methods.preflight.parts import CORRUPTIONS
from mpc_appraisal.methods.preflight.result import Preflight
from mpc_appraisal.models.base import check_l2
from mpc_appraisal.models.training import model_of

FILES = ("party.train=", "party.test=", "party.label=")  # the app's keys, which this command takes too
KEYS = ("train", "test", "l2", "seed", "seeds", "parts", "classes", "corruption", "search", "quick", "label", "out")
USAGE = f"""usage: mpc-appraisal preflight train=FILE test=FILE [KEY=VALUE ...]
               [CONFIGURATION ...]

Can the method be trusted on this model? The command corrupts held-out rows of
the model owner's own data at known rates, appraises them in the clear, retrains
the model with them, and compares. Nothing is sent or charged.

train, test: the files, .npz (arrays x, y), .csv or .parquet, with label=COLUMN
             (default: label) and classes=N if they need them
l2=X:        the model's regularisation, a number of 0 or more (default:
             model.l2 of the configuration)
seeds=N:     the number of splits (default: 3)
parts=N:     the number of corrupted parts of each split (default: 10)
seed=N:      the seed of splits and parts (default: 0)
corruption:  how rows are corrupted, one of {", ".join(CORRUPTIONS)} (default: labels)
search:      yes or no: whether other l2 are tried (default: if a method is not
             trusted)
quick:       yes or no: whether there is one split and no search (default: no)
out=FILE:    the figures are written into this file too, as JSON
configuration, as for the app: appraisal=influence (default), gradient_norm,
             finetuning, all; appraisal.damping=..., standardise.mean=...;
             party.train, party.test and party.label are train, test and label;
             with data=... or scenario=... and no files the model owner's rows
             are those of the built-in data set

The status is 0 if every method is trusted, 1 if one is doubtful, inverted or
could not be checked, 2 for bad input."""


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand: check the methods, print the tables and warnings, and write the figures where out= says so.

    Raises InputError by name for a bad argument or file, and SystemExit with status 1 if a method is not trusted.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    import torch

    from mpc_appraisal.cli.config import in_full
    from mpc_appraisal.cli.console import say, terminal
    from mpc_appraisal.reporting.report import print_table

    torch.set_num_threads(1)  # as each party runs
    own, overrides = stated(arguments)
    cfg = _configuration(own, overrides)
    with in_full(cfg):
        found = _check(own, cfg)
    for table in found.tables():
        print_table(table, terminal())
    for sentence in found.warnings():
        say(f"warning: {sentence}")
    if "out" in own:
        Path(own["out"]).write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    if not found.trusted:
        raise SystemExit(1)


def _configuration(own: dict[str, str], overrides: list[str]) -> Any:
    """Compose the app's configuration; the method is influence and l2 is the command's own, unless stated otherwise."""
    from mpc_appraisal.cli.config import compose

    stated = list(overrides)
    if not any(override.startswith("appraisal=") for override in overrides):
        stated.insert(0, "appraisal=influence")
    if "seed" in own:
        stated.append(f"seed={number('seed', own['seed'], int)}")
    if "l2" in own:
        stated.append(f"model.l2={check_l2(number('l2', own['l2'], float))!r}")
    return compose(stated)


def _check(own: dict[str, str], cfg: Any) -> Preflight:
    """Run the pre-flight check with the command's own keys on the two files that they name."""
    from mpc_appraisal.cli.config import extractor, instantiate, preparation, recipe_of

    prepared = preparation(cfg)
    if "train" in own:
        train, test = map(prepared, _data(own, cfg, recipe_of(cfg)))
    else:
        from mpc_appraisal.cli.inputs import built_in_market

        market, features = built_in_market(cfg), extractor(cfg)
        train, test = mapped(market.train, features), mapped(market.test, features)
    return checked(
        train,
        test,
        as_methods(instantiate(cfg.appraisal)),
        check_l2(cfg.model.l2),
        instantiate(cfg.model),
        **{key: number(key, own[key], int) for key in ("seed", "seeds", "parts") if key in own},
        corruption=own.get("corruption", "labels"),
        search=yes_or_no("search", own["search"]) if "search" in own else None,
        quick=yes_or_no("quick", own.get("quick", "no")),
    )


def _data(own: dict[str, str], cfg: Any, recipe: Recipe | None) -> tuple[Data, Data]:
    """Read the training and the test data, with their columns in the same order.

    recipe: what makes features of raw tables; None for files of features and labels.
    """
    from mpc_appraisal.cli.config import instantiate

    if recipe is not None and "label" in own:
        raise InputError("label", own["label"], "no label= beside recipe=, because the recipe states the target")
    label = own.get("label", cfg.party.label)
    classes = number("classes", own["classes"], int) if "classes" in own else None
    target = model_of(instantiate(cfg.model)).target
    train = read_dataset(Path(own["train"]), label, classes, "train", recipe=recipe, target=target)
    check_kind(train, "train")
    check_gaps(train, "train")
    test = read_dataset(Path(own["test"]), label, classes, "test", recipe=recipe, target=target)
    check_kind(test, "test")
    return train, alike(train, test, "test")


def stated(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the command's own keys, and the overrides of the configuration.

    Raises InputError for a bad argument or a missing key.
    """
    own, overrides = split(
        [word.removeprefix("party.") if word.startswith(FILES) else word for word in arguments], KEYS
    )
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key in KEYS:
            raise InputError(
                "preflight", override, f"KEY=VALUE, each key once, of {', '.join(KEYS)} and the configuration"
            )
    words = {override.split("=")[0].split(".")[0] for override in overrides}
    built_in = bool(words & {"data", "scenario"}) and not {"train", "test", "label", "classes"} & set(own)
    for key in () if built_in else ("train", "test"):
        if not own.get(key):
            raise InputError(key, "nothing", f"a file, as in {key}={key}.npz")
    return own, overrides


__all__ = ["main", "stated"]
