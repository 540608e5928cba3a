"""Private learning as an experiment of the app: one protocol trains on one data set, and attacks are measured on it.

In go the parts that the configuration describes; out comes one record of the run. The data set is a built-in one, or
the user's own files in party.train and party.test. All parties run on this machine. The order of steps has to stay:
everything that can be refused is refused before anything is computed, and what leaks is printed before it leaks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.appraisal.api import check_seed
from mpc_appraisal.appraisal.argument_names import by_key
from mpc_appraisal.appraisal.settings import digest_of_data, option_name
from mpc_appraisal.attacks.measures import EVERY, attacks_on
from mpc_appraisal.cli.config import ATTACK_FILES, absolute, extractor, instantiate, load_data, public_part
from mpc_appraisal.cli.inputs import by_part, read_halves
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash, revision, versions
from mpc_appraisal.common.stable_names import TARGET, stable
from mpc_appraisal.data import mapped
from mpc_appraisal.reporting.learning_record import KIND, LearningRecord
from mpc_appraisal.reporting.recovered_images import RecoveredImages
from mpc_appraisal.transformations.strategy import PLAIN, LearningData

NOTHING_HIDDEN = "One process, nothing is hidden: the training is the plaintext baseline, and attacks are simulated."
ONLY = ("recipe", "overlap")  # keys of the app that a run of private learning refuses
OWN_FILES = ("train", "test")  # the keys of `party` that it reads


def learn(
    cfg: DictConfig,
    emit: Callable[[dict[str, Any]], None],
    pictured: Callable[[RecoveredImages], None] = lambda images: None,
) -> LearningRecord:
    """Run the protocol that the configuration describes, and return its record.

    pictured: a function that takes images which an attack recovered, where the data set is a built-in one. Of the
    user's own files no picture is made, because a page may hold no private row.

    Raises InputError for a key, a session, an attack or data that do not fit. Nothing was computed then.
    """
    protocol, session, seed = instantiate(cfg.protocol), instantiate(cfg.session), check_seed(cfg.seed)
    attacks = attacks_on(attack_of(cfg), protocol.name, protocol.shows, EVERY)
    with by_key("session", cfg.session):
        protocol.check_session(session)
    check_keys(cfg)
    data, about = read_data(cfg, seed)
    with by_part(cfg), by_key("protocol", cfg.protocol):
        protocol.check(data)
    with by_key("attack", cfg.attack):
        for attack in attacks:
            attack.check()
    if session.name != PLAIN:
        for sentence in protocol.leakage if protocol.shows else ():
            print(f"warning: {protocol.label}: {sentence}", file=sys.stderr, flush=True)
    outcome = protocol.run(data, session, emit)
    findings = []
    for attack in attacks:
        emit({"state": f"attack: {attack.name.replace('_', ' ')}"})
        with by_part(cfg), by_key("attack", cfg.attack):
            measured = attack.measure(outcome.views[attack.reads], seed)
        for found in measured:
            findings.append(found.as_dict())
            if found.images is not None and about["digest"] is not None:
                pictured(found.images)
    cost = outcome.cost
    return LearningRecord.of({
        "kind": KIND,
        "config": config_hash(public_part(cfg)),
        "revision": revision(),
        "versions": versions(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "session": session.name,
        "protocol": protocol.name,
        "label": protocol.label,
        "settings": settings(cfg, about),
        "data": about | {"trained": outcome.trained, "tested": outcome.tested, "features": data.train.features,
                         "classes": max(data.train.classes, data.test.classes), "steps": outcome.steps},
        "leakage": list(protocol.leakage),
        "trust": protocol.trust if session.name != PLAIN else NOTHING_HIDDEN,
        "accuracy": {"private": outcome.accuracy, "plain": outcome.plain_accuracy, "always": outcome.always},
        "cost": {
            "seconds": None if cost is None else cost.seconds,
            "plain_seconds": outcome.plain_seconds,
            "bytes": {} if cost is None else dict(cost.bytes_sent),
            "rounds": None if cost is None else cost.rounds,
        },
        "openings": summed(outcome.openings),
        "attack": cfg.attack.get(TARGET) and instantiate(cfg.attack).name,
        "attacks": findings,
        "more": dict(outcome.more),
    })  # fmt: skip


def attack_of(cfg: DictConfig) -> Any:
    """Return the attack of a configuration. The paths of its files are taken as they were typed."""
    stated = {key: cfg.attack.get(key) for key in ATTACK_FILES}
    typed = {key: str(absolute(path)) for key, path in stated.items() if path and isinstance(path, str)}
    return instantiate(OmegaConf.merge(cfg.attack, typed))


def check_keys(cfg: DictConfig) -> None:
    """Raise InputError for a key that belongs to appraisals and promises what a run of private learning cannot give."""
    for key in ONLY:
        if cfg.get(key) is not None:
            raise InputError(key, cfg[key], "null for private learning, which reads features and labels")
    if cfg.evaluate.measures != "none":
        raise InputError("evaluate.measures", cfg.evaluate.measures, "none for private learning: it has no candidates")
    for key in ("data", "model"):
        if cfg.party[key]:
            raise InputError(f"party.{key}", cfg.party[key], "null for private learning: party.train, party.test")
    stated = [key for key in OWN_FILES if cfg.party[key]]
    if len(stated) == 1:
        other = next(key for key in OWN_FILES if key not in stated)
        raise InputError(f"party.{other}", None, f"a file, because party.{stated[0]} is stated")


def read_data(cfg: DictConfig, seed: int) -> tuple[LearningData, dict[str, Any]]:
    """Return the data, and their name and digest. The user's own files have no digest: it would confirm a guess."""
    if cfg.party.train:
        train, test = read_halves(cfg)
        return LearningData(train, test, seed), {"name": "own files", "digest": None}
    features, parts = extractor(cfg), load_data(cfg)
    about = {"name": option_name(cfg.data[TARGET]), "digest": digest_of_data(*parts).get("data.digest")}
    return LearningData(*(mapped(part, features) for part in parts), seed), about


def settings(cfg: DictConfig, about: dict[str, Any]) -> dict[str, Any]:
    """Return the public settings of a run in full, by their keys: those of protocol, attack, data and features."""
    found: dict[str, Any] = {}
    for group in ("protocol", "attack", "data", "features"):
        own = stable(OmegaConf.to_container(cfg[group], resolve=True))
        if group == "data" and about["digest"] is None and about["name"] == "own files":
            own = {}
        name = instantiate(cfg[group]).name if group in ("protocol", "attack") else own and option_name(own[TARGET])
        found[group] = name or about["name"]
        hidden = (TARGET, "root", "path", *ATTACK_FILES)  # records hold no path
        found |= {f"{group}.{key}": value for key, value in own.items() if key not in hidden}
    return found


def summed(openings: Any) -> list[dict[str, Any]]:
    """Return openings with equal words as one each, with the sum of their numbers."""
    found: dict[tuple[Any, ...], int] = {}
    for one in openings:
        key = (one["what"], tuple(one["to"]), one["why"])
        found[key] = found.get(key, 0) + one["numbers"]
    return [{"what": what, "to": list(to), "why": why, "numbers": n} for (what, to, why), n in found.items()]
