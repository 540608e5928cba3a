"""What one party reads from its own files, as the keys under `party` of the configuration name them.

In go the configuration and the party's role. Out comes a `ModelOwnerInput` or a `DataOwnerInput`, which holds the
party's data and its disclosure controls (its ledgers, approval, salts and listings). A file format or a key may be
added. No file of another role may be opened, and nothing here may be sent: this is the private side of one party.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.appraisal.api import check_seed
from mpc_appraisal.appraisal.argument_names import by_key
from mpc_appraisal.appraisal.compared import Source
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, needs
from mpc_appraisal.appraisal.preparation import check_persons
from mpc_appraisal.appraisal.sessions import Join
from mpc_appraisal.cli import safeguards
from mpc_appraisal.cli.config import (
    absolute,
    instantiate,
    load_data,
    overlap_of,
    preparation,
    recipe_of,
    release_settings,
)
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.reworded import renamed
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import Dataset, Sizes, check_gaps, check_kind, open_dataset, read_dataset
from mpc_appraisal.data.groups import groups_of_file
from mpc_appraisal.data.items import Items, items_of_keys
from mpc_appraisal.data.naming import Data, alike, named
from mpc_appraisal.data.scenarios import MarketData
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.catalogue import (
    Listing,
    check_listing,
    check_recipe,
    commit,
    read_listing,
    read_salt,
    salt_beside,
)
from mpc_appraisal.models.training import model_of


@contextmanager
def by_part(cfg: DictConfig) -> Iterator[None]:
    """Raise an InputError of the block about training or test rows by the key that states these rows.

    The block names them train, test or data. The key is party.train or party.test for files, and else data.
    """
    try:
        yield
    except InputError as error:
        if error.name not in ("train", "test", "data"):
            raise
        if cfg.party.train:
            name = "train" if error.name == "data" else error.name
            raise renamed(error, f"party.{name}", error.value, error.expected) from error
        found = error.value if error.name == "data" else f"{error.name} rows: {error.value}"
        raise renamed(error, "data", found, error.expected) from error


def built_in_market(cfg: DictConfig, parts: tuple[Dataset, Dataset] | None = None) -> MarketData:
    """Return the market that the scenario makes of the built-in data set, which a run on one machine appraises.

    parts: the data set's training and test rows; None loads them.
    """
    train, test = load_data(cfg) if parts is None else parts
    with by_key("scenario", cfg.scenario):
        return instantiate(cfg.scenario).build(train, test, check_seed(cfg.seed))


def read_own(cfg: DictConfig, role: str, methods: Sequence[Any]) -> OwnInput:
    """Read the files of one role, and of no other. The dealer has no files, and its input is None.

    Args:
        cfg: The composed configuration.
        role: 'model_owner', 'data_owner' or 'dealer'.
        methods: The methods of the run, whose needs the model owner's input is checked against.

    Raises:
        InputError: A file is missing, damaged, or not what its listing says. The error names the file's key.
    """
    files = _PartyFiles(cfg)
    if role == MODEL_OWNER:
        return _read_model_owner(files, methods)
    if role == DATA_OWNER:
        return _read_data_owner(files)
    return None


def read_halves(cfg: DictConfig) -> tuple[Data, Data]:
    """Return the data sets in party.train and party.test, with the labels in the order of the first.

    Raises InputError for a file that is missing or damaged, or whose features and classes have other names.
    """
    files = _PartyFiles(cfg)
    train = files.read(cfg.party.train, "party.train")
    test = alike(train, files.read(cfg.party.test, "party.test"), "party.test")
    for key, part in (("party.train", train), ("party.test", test)):
        check_gaps(part, key)
    return files.prepared(train), files.prepared(test)


class _PartyFiles:
    """How the data files of one party are read and prepared.

    Attributes:
        party: The keys under `party`, as plain Python values.
        prepared: The public function that is applied to a data set before it is used.
        class_names: The names of the labels 0, 1, ...; None if party.class_names does not state them.
        recipe: What makes features of raw tables; None if the files hold features and labels.
        model: The kind of the run's model, which says what the label column holds.
        between: Whether the session is between organisations.
        overlap: What the owners count before the appraisal; None for nothing.
        persons: The column that says which person a row of a candidate is of; None where noise protects no persons.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.party: dict[str, Any] = OmegaConf.to_object(cfg.party)
        self.prepared = preparation(cfg)
        self.class_names = safeguards.class_names(self.party)
        self.recipe = recipe_of(cfg)
        self.model = model_of(instantiate(cfg.model))
        self.between = isinstance(instantiate(cfg.session), Join)
        self.overlap = overlap_of(cfg)
        self.persons = cfg.release.get("group") and instantiate(release_settings(cfg)).description.group

    def read(
        self, path: str, key: str, reader: Callable[..., Data] = read_dataset, offer: _Offer | None = None
    ) -> Data:
        """Read one data file with its names. With an offer, the data must be those that the listing commits to."""
        file = absolute(path)
        listing = offer.listing if offer else None
        if listing is not None:
            check_recipe(listing, self.recipe)
        sizes = listing and Sizes(listing.rows, listing.features, f"listing {listing.name}")
        raw = reader(file, self.party["label"], None, key, sizes, self.recipe, self.model.target)
        data = named(raw, None, self.class_names, "party.class_names")
        check_kind(data, key)
        if listing is not None:
            salt = absolute(offer.secret) if offer.secret else salt_beside(file, listing.name)
            check_listing(listing, data, read_salt(salt))
            data = named(data, listing.column_names, listing.class_names, f"listing {listing.name}: data")
        return data

    def read_if_stated(self, key: str) -> Data | None:
        """Read the data file that the key of `party` names; None if the key is not stated."""
        return self.read(self.party[key], f"party.{key}") if self.party[key] else None

    def keys(self, path: str, key: str) -> Items | None:
        """Return the different keys of one data file; None where no keys are compared."""
        if self.overlap is None or self.overlap.column is None:
            return None
        return items_of_keys(absolute(path), self.overlap.column, key)

    def grouped(self, data: Data, path: str) -> Data:
        """Return a candidate with the person of each row, where noise protects persons."""
        if self.persons is None:
            return data
        return data.grouped(groups_of_file(absolute(path), self.persons.column, data.rows, "party.data", self.recipe))


@dataclass(frozen=True)
class _Offer:
    """How one candidate is offered.

    Attributes:
        listing: The listing of the data; None if the data are not listed.
        secret: The path of the file with the listing's salt; None stands for the place beside the data.
    """

    listing: Listing | None
    secret: str | None


def _read_model_owner(files: _PartyFiles, methods: Sequence[Any]) -> ModelOwnerInput:
    """Read training data, test data and the model, as far as they are stated."""
    party = files.party
    train = files.read_if_stated("train")
    test = alike(train, files.read_if_stated("test"), "party.test")
    own = ModelOwnerInput(
        files.prepared(train) if train is not None else None,
        files.prepared(test) if test is not None else None,
        files.model.load(absolute(party["model"])) if party["model"] else None,
        party["threshold"],
        safeguards.without_controls(party),
        test if train is None else train,
        keys=files.keys(party["train"], "party.train") if party["train"] else None,
    )
    needs(methods, own)
    if own.model is None and (not methods or any(method.uses_labels for method in methods)):
        check_gaps(own.train, "party.train")
    if not files.between:
        return own
    controls = safeguards.of_model_owner(party, absolute)
    for listing in controls.listings:
        check_recipe(listing, files.recipe)
    return replace(own, controls=controls)


def _read_data_owner(files: _PartyFiles) -> DataOwnerInput:
    """Read one candidate from each file of party.data. A candidate has the name of its listing, or else of its file."""
    party = files.party
    if not party["data"]:
        raise InputError("party.data", None, "one file or a list of files, each a candidate")
    paths = [party["data"]] if isinstance(party["data"], str) else list(party["data"])
    offers = _offers(party, len(paths))
    names = [Path(path).stem if o.listing is None else o.listing.name for path, o in zip(paths, offers, strict=True)]
    if len(set(names)) < len(names):
        raise InputError("party.data", names, "files of different names: a candidate is called by its file's name")
    # A run on one machine computes the plaintext value too, from data in memory.
    reader = open_dataset if files.between else read_dataset
    sources = tuple(
        Source(files.read(path, "party.data", reader, offer).renamed(name), files.prepared)
        for path, name, offer in zip(paths, names, offers, strict=True)
    )
    listings = tuple(offer.listing for offer in offers)
    if files.between:
        places = dict(zip(names, paths, strict=True))
        controls = safeguards.of_data_owner(party, absolute, places, listings, _contents(files, places))
    else:
        controls = replace(safeguards.without_controls(party), listings=listings)
    keys = tuple(filter(None, (files.keys(path, "party.data") for path in paths)))
    candidates = tuple(
        files.grouped(source.prepare(source.data), path) for source, path in zip(sources, paths, strict=True)
    )
    check_persons(candidates, files.persons)
    return DataOwnerInput(candidates, controls, sources, keys, party["resolution"])


def _offers(party: safeguards.Party, count: int) -> list[_Offer]:
    """Return the listing and the salt's path of each of `count` files of party.data."""
    listed = zip(*(safeguards.one_each(party, key, count) for key in ("listing", "secret")), strict=True)
    return [_Offer(read_listing(absolute(listing)) if listing else None, secret) for listing, secret in listed]


def _contents(files: _PartyFiles, places: dict[str, str]) -> dict[str, Callable[[], str]]:
    """Return for each candidate a function that returns the digest of its file's data, whatever the file is called."""

    def digest(path: str) -> str:
        read = {"recipe": files.recipe, "target": files.model.target}
        return commit(open_dataset(absolute(path), files.party["label"], None, "party.data", **read), bytes(32))

    return {name: lambda path=path: digest(path) for name, path in places.items()}


def shown(own: OwnInput, folder: Path) -> OwnInput:
    """Return the same input with a control that shows the owner the request before the appraisal starts.

    The request's text goes into `folder`/request.md, its content into request.json, which party.agreed may name, and
    one line about it goes to standard error.
    """

    def show(request: Request) -> None:
        (folder / "request.md").write_text(request.text(), encoding="utf-8")
        (folder / "request.json").write_text(json.dumps(request.content, indent=1) + "\n", encoding="utf-8")
        asked = "asks for" if isinstance(own, ModelOwnerInput) else "is asked for"
        line = f"this side {asked} request {request.id}; its text: {os.path.relpath(folder / 'request.md')}"
        print(line, file=sys.stderr, flush=True)

    return own if own is None else replace(own, controls=replace(own.controls, show=show))
