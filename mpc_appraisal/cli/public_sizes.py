"""Public sizes of an appraisal, as the configuration names them, and the norm of rows that follows from them.

In go the composed configuration. Out come numbers of rows, features and classes: of the files and listings that are
stated under `party`, or else of the built-in data set and its scenario. Sizes are public, because every request states
them. Nothing else of an owner's data may come out, since a norm that is taken from the data would tell of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.cli.config import absolute, extractor, instantiate, recipe_of
from mpc_appraisal.cli.inputs import built_in_market
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, mapped, open_dataset
from mpc_appraisal.data.naming import Data
from mpc_appraisal.governance.catalogue import read_listing
from mpc_appraisal.models.training import model_of

NO_NORM = (
    "a public norm, above 1, that rows are clipped to, the constant feature 1 counted; one that is taken from the data "
    "would tell of the data"
)


@dataclass(frozen=True)
class PublicSizes:
    """Hold the sizes of one market; None where nothing states them.

    Attributes:
        rows: The rows of each candidate.
        train_rows, test_rows: The model owner's rows.
        features: The features of a row, as the model takes it.
        classes: The number of classes.
    """

    rows: tuple[int, ...] = ()
    train_rows: int | None = None
    test_rows: int | None = None
    features: int | None = None
    classes: int | None = None


def sizes_of(cfg: DictConfig) -> PublicSizes:
    """Return the sizes that the configuration's files, listings or built-in data have. Raises InputError by key."""
    party = OmegaConf.to_object(cfg.party)
    stated_here = any(party[key] for key in ("data", "train", "test", "listing", "model"))
    if not stated_here and str(cfg.session.get("_target_")).endswith("Join"):
        return PublicSizes()  # the dealer of two organisations, or an owner without its files
    if not stated_here:
        market = built_in_market(cfg)
        own = {"train": market.train, "test": market.test}
        sets = [candidate.data for candidate in market.candidates]
    else:
        stated = party["data"] or ()
        own = {key: _opened(cfg, party[key], f"party.{key}") for key in ("train", "test") if party[key]}
        sets = [_opened(cfg, path, "party.data") for path in ([stated] if isinstance(stated, str) else stated)]
    rows, features = [data.rows for data in sets], {_features(cfg, data) for data in (*sets, *own.values())}
    classes = {data.classes for data in (*sets, *own.values())}
    if not sets and party["listing"]:
        listed = party["listing"]
        found = [read_listing(absolute(path)) for path in ([listed] if isinstance(listed, str) else listed)]
        rows, classes = [one.rows for one in found], classes | {one.classes for one in found}
        features |= {one.features for one in found} if cfg.features.get("path") is None else set()
    return PublicSizes(
        tuple(rows),
        own["train"].rows if "train" in own else None,
        own["test"].rows if "test" in own else None,
        max(features, default=None),
        max(classes, default=None),
    )


def _opened(cfg: DictConfig, path: str, key: str) -> Data:
    target = model_of(instantiate(cfg.model)).target
    return open_dataset(absolute(path), cfg.party.label, None, key, recipe=recipe_of(cfg), target=target)


def _features(cfg: DictConfig, data: Data) -> int:
    """Return the number of features after the public feature extractor, which is tried on a row of zeros."""
    import numpy as np

    row = Dataset.of(np.zeros((1, data.features)), [0], 2, "sizes")
    return mapped(row, extractor(cfg)).features


def check_row_norm(cfg: DictConfig, features: int | None = None) -> None:
    """Raise InputError, with a suggestion, where the release needs a norm of rows that is not stated.

    features: the public number of features; None takes it from `sizes_of`, as far as it is known there.
    """
    if cfg.release.get("row_norm", 0) is None:
        raise InputError("release.row_norm", None, _advice_on_row_norm(cfg, features))


def _advice_on_row_norm(cfg: DictConfig, features: int | None) -> str:
    """Return what is expected of release.row_norm."""
    try:
        features = sizes_of(cfg).features if features is None else features
    except (AppraisalError, OSError):  # they are a help in the message of another error, whatever is wrong with them
        features = None
    if features is None:
        return (
            f"{NO_NORM}. For d features it is usually sqrt(d + 1): this cuts nothing of features between -1 and 1, and "
            "it is the usual length of rows of mean 0 and deviation 1"
        )
    norm = math.ceil(100 * math.sqrt(features + 1)) / 100
    return (
        f"{NO_NORM}. For {features} features try release.row_norm={norm:g}, which is sqrt({features} + 1): this cuts "
        "nothing of features between -1 and 1, and it is the usual length of rows of mean 0 and deviation 1"
    )
