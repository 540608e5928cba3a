"""What one party reads from its own files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.appraisal.compared import Source
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, needs
from mpc_appraisal.appraisal.sessions import Join
from mpc_appraisal.cli import safeguards
from mpc_appraisal.cli.config import absolute, extractor, instantiate
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import Sizes, check_gaps, check_kind, mapped, open_dataset, read_dataset, standardise
from mpc_appraisal.data.naming import alike, named
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.catalogue import check_listing, commit, read_listing, read_salt, salt_beside
from mpc_appraisal.models.softmax_regression import SoftmaxRegression


def read_own(cfg: DictConfig, role: str, methods) -> OwnInput:
    """Read the files of one role, and of no other."""
    party = OmegaConf.to_object(cfg.party)

    def read(path: str, name: str, reader: Callable[..., Any] = read_dataset, listed: Any = (None, None)) -> Any:
        file = absolute(path)
        listing = read_listing(absolute(listed[0])) if listed[0] else None
        sizes = listing and Sizes(listing.rows, listing.features, f"listing {listing.name}")
        data = named(reader(file, cfg.party.label, None, name, sizes), None, class_names, "party.class_names")
        check_kind(data, name)
        if listing is not None:
            salt = absolute(listed[1]) if listed[1] else salt_beside(file, listing.name)
            check_listing(listing, data, read_salt(salt))
            data = named(data, listing.column_names, listing.class_names, f"listing {listing.name}: data")
        return data

    def prepared(data: Any) -> Any:
        if cfg.standardise.mean is not None or cfg.standardise.scale is not None:
            mean = 0.0 if cfg.standardise.mean is None else OmegaConf.to_object(cfg.standardise).get("mean")
            scale = 1.0 if cfg.standardise.scale is None else OmegaConf.to_object(cfg.standardise).get("scale")
            data = standardise(data, mean, scale)
        return mapped(data, features)

    features = extractor(cfg)
    class_names = safeguards.class_names(party)
    between = isinstance(instantiate(cfg.session), Join)
    if role == MODEL_OWNER:
        train = read(cfg.party.train, "party.train") if cfg.party.train else None
        test = read(cfg.party.test, "party.test") if cfg.party.test else None
        test = alike(train, test, "party.test")
        own = ModelOwnerInput(
            prepared(train) if train is not None else None,
            prepared(test) if test is not None else None,
            SoftmaxRegression.load(absolute(cfg.party.model)) if cfg.party.model else None,
            party["threshold"],
            safeguards.without_controls(party),
            test if train is None else train,
        )
        needs(methods, own)
        if own.model is None:
            check_gaps(own.train, "party.train")
        return replace(own, controls=safeguards.of_model_owner(party, absolute)) if between else own
    if role == DATA_OWNER:
        if not cfg.party.data:
            raise InputError("party.data", None, "one file or a list of files, each a candidate")
        paths = [cfg.party.data] if isinstance(cfg.party.data, str) else list(cfg.party.data)
        listed = list(zip(*(safeguards.one_each(party, key, len(paths)) for key in ("listing", "secret")), strict=True))
        listings = tuple(read_listing(hydra.utils.to_absolute_path(one)) if one else None for one, _ in listed)
        names = [Path(path).stem if one is None else one.name for path, one in zip(paths, listings, strict=True)]
        if len(set(names)) < len(names):
            raise InputError("party.data", names, "files of different names: a candidate is called by its file's name")
        # With both sides at hand the plaintext value is computed too, from data in memory.
        reader = open_dataset if between else read_dataset
        files = zip(paths, names, listed, strict=True)
        sources = tuple(
            Source(read(path, "party.data", reader, own).renamed(name), prepared) for path, name, own in files
        )
        places = dict(zip(names, paths, strict=True))
        controls = replace(safeguards.without_controls(party), listings=listings)
        if between:
            raw = {
                name: lambda path=path: commit(
                    open_dataset(absolute(path), cfg.party.label, None, "party.data"), bytes(32)
                )
                for name, path in places.items()
            }
            controls = safeguards.of_data_owner(party, absolute, places, listings, raw)
        return DataOwnerInput(tuple(source.prepare(source.data) for source in sources), controls, sources)
    return None


def shown(own: OwnInput, folder: Path) -> OwnInput:
    """The same, its owner shown the request: its text goes into `folder`, one line to standard error."""

    def show(request: Request) -> None:
        (folder / "request.md").write_text(request.text(), encoding="utf-8")
        asked = "asks for" if isinstance(own, ModelOwnerInput) else "is asked for"
        line = f"this side {asked} request {request.id}; its text: {os.path.relpath(folder / 'request.md')}"
        print(line, file=sys.stderr, flush=True)

    return own if own is None else replace(own, controls=replace(own.controls, show=show))
