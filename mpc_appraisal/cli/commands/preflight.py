"""`mpc-appraisal preflight`: can the method be trusted on this model? From the model owner's own files, in the clear.

    mpc-appraisal preflight train=train.npz test=test.npz appraisal=influence l2=1e-2

What is not a key of its own is configuration, as for the app: appraisal.damping=..., standardise.mean=..., ...
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import check_gaps, check_kind, mapped, read_dataset, standardise
from mpc_appraisal.data.naming import alike
from mpc_appraisal.methods import as_methods
from mpc_appraisal.methods.preflight.check import preflight
from mpc_appraisal.methods.preflight.parts import CORRUPTIONS
from mpc_appraisal.models.softmax_regression import check_l2

KEYS = ("train", "test", "l2", "seed", "seeds", "parts", "classes", "corruption", "search", "quick", "label", "out")
USAGE = f"""usage: mpc-appraisal preflight train=FILE test=FILE [KEY=VALUE ...] [CONFIGURATION ...]

can the method be trusted on this model? Corrupts held-out rows of one's own data at known rates, appraises them in the
clear, retrains with them, and compares; for the model owner, before anything is private. Nothing is sent or charged

train, test: .npz (arrays x, y), .csv or .parquet; label=COLUMN (default: label), classes=N where the files need them
l2=X:        of the model (default: model.l2 of the configuration)
seeds=N:     splits (default: 3); parts=N: corrupted parts of each (default: 10); seed=N: of both (default: 0)
corruption:  one of {", ".join(CORRUPTIONS)} (default: labels)
search:      yes or no: try other l2 (default: where a method is not trusted)
quick:       yes: one split and no search (default: no)
out=FILE:    also write the figures, as JSON
configuration, as for the app: appraisal=influence (default), gradient_norm, finetuning, all; appraisal.damping=...,
             standardise.mean=...

status 0 where every method is trusted, 1 where one is doubtful, inverted or could not be checked, 2 for a bad input"""


def main(arguments: Sequence[str]) -> None:
    """The subcommand."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    import torch
    from rich.console import Console

    from mpc_appraisal.cli.config import compose, extractor, instantiate
    from mpc_appraisal.cli.console import wide
    from mpc_appraisal.reporting.report import print_table

    torch.set_num_threads(1)  # as each party runs
    own, overrides = stated(arguments)
    if not any(override.startswith("appraisal=") for override in overrides):
        overrides.insert(0, "appraisal=influence")
    l2 = check_l2(_number("l2", own["l2"], float)) if "l2" in own else None
    cfg: Any = compose([*overrides, *([] if l2 is None else [f"model.l2={l2!r}"])])
    label, classes = (
        own.get("label", cfg.party.label),
        _number("classes", own["classes"], int) if "classes" in own else None,
    )

    def read(key: str) -> Any:
        data = read_dataset(Path(own[key]), label, classes, key)
        check_kind(data, key)
        if key == "train":
            check_gaps(data, key)
        return data

    train = read("train")
    test = alike(train, read("test"), "test")

    def prepared(data: Any) -> Any:
        shift, scale = cfg.standardise.mean, cfg.standardise.scale
        if shift is not None or scale is not None:
            both = ((shift, 0.0), (scale, 1.0))
            data = standardise(data, *(default if part is None else _numbers(part) for part, default in both))
        return mapped(data, features)

    features = extractor(cfg)

    found = preflight(
        prepared(train),
        prepared(test),
        as_methods(instantiate(cfg.appraisal)),
        check_l2(cfg.model.l2),
        instantiate(cfg.model),
        **{key: _number(key, own[key], int) for key in ("seed", "seeds", "parts") if key in own},
        corruption=own.get("corruption", "labels"),
        search=_yes("search", own["search"]) if "search" in own else None,
        quick=_yes("quick", own.get("quick", "no")),
    )
    for table in found.tables():
        print_table(table, wide(Console()))
    for sentence in found.warnings():
        print(f"warning: {sentence}")
    if "out" in own:
        Path(own["out"]).write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    if not found.trusted:
        raise SystemExit(1)


def stated(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The command's own keys, and what is left for the configuration. Raises InputError by name."""
    own: dict[str, str] = {}
    left: list[str] = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals or (key in own and key in KEYS):
            raise InputError(
                "preflight", argument, f"KEY=VALUE, each key once, of {', '.join(KEYS)} and the configuration"
            )
        if key in KEYS:
            own[key] = text
        else:
            left.append(argument)
    for key in ("train", "test"):
        if not own.get(key):
            raise InputError(key, "nothing", f"a file, as in {key}={key}.npz")
    return own, left


def _number(key: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise InputError(key, repr(text), "a whole number" if kind is int else "a finite number") from None


def _numbers(part: Any) -> Any:
    """A number, or a list of the configuration as a plain one."""
    return part if isinstance(part, (int, float)) else [float(each) for each in part]


def _yes(key: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise InputError(key, repr(text), "yes or no")
    return text == "yes"


__all__ = ["main", "stated"]
