"""Readers of the marketplace's plans, enrolments and uploads, and of the authority's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fuzz_registry import READERS, Reader, as_json, of_file

from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.encryption.signed_upload import new_signing_key, read_upload, write_upload
from mpc_appraisal.marketplace.plan_file import read_plan
from mpc_appraisal.marketplace.uploads.enrolment import enrol, read_keys, registry
from mpc_appraisal.models.networks import ARCHITECTURES

PLAN = {
    "network": "cnn",
    "image": [1, 28, 28],
    "classes": 10,
    "protocol": "ife_transform",
    "scheme": "lwe",
    "update": "exact",
    "selection": "margin",
    "budget": 50,
    "seed": 0,
    "batch": 256,
    "validation": {"granularity": 10, "steps": 10, "lr": 0.05, "batch_size": 8},
}


def enrolment(folder: Path) -> list[bytes]:
    path = enrol(folder / "authority", "seller-a", ARCHITECTURES["mlp"], folder, LWE(), 0.5)
    return [path.read_bytes()]


def registered(folder: Path) -> list[bytes]:
    enrolment(folder)
    return [(folder / "authority" / "registry" / "seller-a.json").read_bytes()]


def in_registry(data: bytes, folder: Path) -> Any:
    (folder / "authority" / "registry" / "seller-a.json").write_bytes(data)
    return registry(folder / "authority")


def kept(folder: Path) -> list[bytes]:
    enrolment(folder)
    (path,) = [path for path in (folder / "authority").iterdir() if path.name.startswith("seller-a")]
    return [path.read_bytes()]


def in_state(data: bytes, folder: Path) -> Any:
    (path,) = [path for path in (folder / "authority").iterdir() if path.name.startswith("seller-a")]
    path.write_bytes(data)
    return Authority(folder / "authority", LWE()).verify_key("seller-a")


KEYS: dict[str, Any] = {}


def uploaded(folder: Path) -> list[bytes]:
    scheme = LWE()
    secret, verify_key = new_signing_key()
    authority = Authority(folder / "a", scheme)
    home = authority.enrol("seller-a", 4, verify_key)
    KEYS.update(verify=verify_key, scheme=scheme)
    path = folder / "seed.upload"
    x, y = np.arange(8).reshape(2, 4), np.arange(2)
    write_upload(path, "seller-a", scheme, home.encryption_key, x, y, (1, 2, 2), secret, home.label_secret)
    return [path.read_bytes()]


of_file("plan", ".json", as_json(PLAN), read_plan, 24)
of_file("enrolment", ".enrolment", enrolment, read_keys, 24)
READERS.append(Reader("registry", registered, in_registry))
READERS.append(Reader("authority's state", kept, in_state))
of_file("upload", ".upload", uploaded, lambda path: read_upload(path, "seller-a", KEYS["verify"], KEYS["scheme"]))
