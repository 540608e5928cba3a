"""The settings of a run as its records state them: names that stay, each with a public value.

In go the plan, which all parties state alike, and the kind of session. Out comes a flat dictionary such as
{"appraisal": ["influence"], "appraisal.influence.damping": 0.0, "data": "digits", "model": "softmax_regression",
"model.l2": 0.01, "release": "value", "scenario": "label_noise", "scenario.candidates": 10, "seed": 0}.

A name is that of the configuration's key, and a group's own name states which option of the group was taken. A method's
settings stand under its name, so that they are the same whether the method ran alone or beside others. A setting may be
added; a name may not be changed, because tables of results use the names as columns. What names a place, such as the
address of a rendezvous, is left out, and so are dictionaries and long lists, which the digest of the configuration
covers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.common.roles import INTEGRITY, OFF, ON, RELAY
from mpc_appraisal.common.stable_names import TARGET
from mpc_appraisal.common.text import PLACE
from mpc_appraisal.data import Dataset

JOINED = "join"
LONGEST_LIST = 16
LARGEST_HASHED = 1 << 26  # bytes of a data set from which on its digest is not cheap
# Groups of the configuration that the plan's own objects describe, and the keys that say the same in Python.
OF_OBJECTS = ("appraisal", "release", "model", "methods", "l2", "seed")
NO_SETTINGS = (TARGET, "_partial_", "rendezvous")  # the last parts of keys that name no public setting
# Groups that describe data sets which both sides hold; between organisations and for files they are not used.
BUILT_IN = ("data", "scenario", "baselines")
OPTIONS = {"no_features": "none", "layers": "file"}  # options that are called otherwise than their class


def settings_of(plan: Plan, session: str) -> dict[str, Any]:
    """Return the public settings of a run by their names. session: the kind of session, as records state it."""
    found: dict[str, Any] = {}
    for key, value in plan.public.items():
        group, _, last = key.partition(".")
        if group in OF_OBJECTS and not key.startswith("model."):
            continue
        if last == TARGET and group not in (*OF_OBJECTS, "session"):
            found[group] = option_name(value)
        elif key == "protocol.name":
            found["protocol"] = value
        elif key.rsplit(".", 1)[-1] not in NO_SETTINGS:
            found[key] = value
    found |= {"session": session, "seed": plan.seed, "model": plan.model.name, "model.l2": plan.l2}
    if session != "plain":
        found |= {"session.engine": plan.engine, "session.logit_bound": plan.logit_bound}
        found[INTEGRITY] = ON if plan.integrity else OFF
    if plan.relayed:  # that there is one, and not where
        found[RELAY] = ON
    found |= _of_methods(plan) | _of_release(plan)
    if session == JOINED:
        found = without_built_in(found)
    return {key: value for key, value in sorted(found.items()) if _plain(value)}


def without_built_in(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without those of data set, scenario and baselines, for owners that bring their own files."""
    return {key: value for key, value in settings.items() if key.split(".")[0] not in BUILT_IN}


def digest_of_data(*parts: Dataset) -> dict[str, str]:
    """Return {"data.digest": the SHA-256 of all rows and labels}, or nothing where there are many bytes.

    parts: the two halves of a public data set before a scenario deals its rows. An owner's own files have no digest
    here, because a digest would confirm a guess of their contents.
    """
    arrays = [each.numpy() for part in parts for each in (part.x, part.y)]
    if sum(each.nbytes for each in arrays) > LARGEST_HASHED:
        return {}
    found = hashlib.sha256()
    for each in arrays:
        found.update(f"{each.dtype} {each.shape} ".encode() + each.tobytes())
    return {"data.digest": found.hexdigest()}


def option_name(path: Any) -> str:
    """Return an option's name by its class path: 'label_noise' for '...LabelNoise'."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(path).rsplit(".", 1)[-1]).lower()
    return OPTIONS.get(name, name)


def _of_methods(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = {"appraisal": [method.name for method in plan.methods]}
    for method in plan.methods:
        found |= {f"appraisal.{method.name}.{key}": value for key, value in (method.settings or {}).items()}
    return found


def _of_release(plan: Plan) -> dict[str, Any]:
    stated = fields(plan.release) if is_dataclass(plan.release) else ()
    settings = {f"release.{each.name}": getattr(plan.release, each.name) for each in stated if each.init and each.repr}
    return {"release": plan.release.description.kind} | settings


def _plain(value: Any) -> bool:
    """Return whether a record may hold the value: a number, a text that names no place, or a short list of such."""
    if isinstance(value, (list, tuple)):
        return len(value) <= LONGEST_LIST and all(_plain(one) and not isinstance(one, (list, tuple)) for one in value)
    if isinstance(value, str):
        return not PLACE.search(value)
    return value is None or isinstance(value, (bool, int, float))
