"""Keys of one party that a run on one machine makes no use of.

In goes the configuration of a run with session=spawn or plain. A key that promises a protection, or that belongs to a
file where no file is stated, is an error; another one without effect is a warning on standard error. A key may be added
with its default.
"""

from __future__ import annotations

import sys

from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.cli import safeguards
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.release import Release

# Keys of `party` that mean something only between organisations, with their defaults.
BETWEEN = {
    "salt": None,
    "counterparty": None,
    "ledger": None,
    "policy": None,
    "approval": "ask",
    "requests": "requests",
    "patience": 3600,
    "yes_expires": 7,
    "counterparty_key": None,
    "offer": None,
    "offers": None,
    "agreed": None,
}
GUARDING = ("ledger", "policy")  # the keys among them that promise a protection; a run on one machine refuses them
# Keys that mean something only for a file, with their defaults.
OF_FILES = {
    "party.listing": None,
    "party.secret": None,
    "party.label": "label",
    "party.class_names": None,
    "party.names": "plain",
    "party.scale": "warn",
    "standardise.mean": None,
    "standardise.scale": None,
}


def check_unused(cfg: DictConfig, release: Release) -> None:
    """Warn of keys of `party` that have no effect, because both sides are on one machine.

    Raises InputError for a key that promises a protection, and for a key of files if no file is stated.
    """
    party = OmegaConf.to_object(cfg.party)
    stated = [key for key, default in BETWEEN.items() if party[key] != default]
    for key in (one for one in GUARDING if one in stated and party[one] != safeguards.NONE):
        raise InputError(
            f"party.{key}",
            party[key],
            "session=join, because with both sides on one machine no request, ledger or charge exists",
        )
    built_in = not any(party[key] for key in ("data", "train", "test", "model"))
    for key, default in OF_FILES.items():
        value = OmegaConf.select(cfg, key)
        if built_in and value != default:
            raise InputError(
                key,
                value,
                "party.data, party.train or party.model beside it, because the key belongs to a file",
            )
    if party["threshold"] is not None and not release.description.threshold:
        stated.append("threshold")
    if stated:
        what = " and ".join(f"party.{key}" for key in stated)
        print(f"warning: {what}: this run makes no use of it, and it is ignored", file=sys.stderr, flush=True)
