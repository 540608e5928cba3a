"""The provenance of a result: versions of the software, the revision of this project, the digest of a configuration.

Nothing but a public configuration goes in, and short texts come out, which records of results hold. A further package
may be added to the versions. `config_hash` has to stay as it is, because the parties compare their configurations by
this digest, and records hold it.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str | None], ...]:
    found = [("python", platform.python_version())]
    for name in ("torch", "crypten", "numpy", "scipy", "mpc_appraisal"):
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, None))
    return tuple(found)


def versions() -> dict[str, str | None]:
    """Return the versions of the software that computes, by name; None for a package that is not installed."""
    return dict(_versions())


@lru_cache(maxsize=1)
def revision() -> str | None:
    """Return the short git hash of the project; None when the package is not run from a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an outer repository is not this project
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def refuse_unfit(config: Any, key: str = "") -> None:
    """Raise InputError, under its full key, for a value of a configuration that JSON does not have, such as nan."""
    inside = config.items() if isinstance(config, Mapping) else ()
    inside = enumerate(config) if isinstance(config, (list, tuple)) else inside
    for name, value in inside:
        refuse_unfit(value, f"{key}.{name}" if key else str(name))
    fits = config is None or isinstance(config, (Mapping, list, tuple, str, int))
    if not fits and not (isinstance(config, float) and math.isfinite(config)):
        raise InputError(key, config, "a finite number, a text, true, false, null, or a list or dictionary of these")


def config_hash(config: Mapping) -> str:
    """Return the first 16 hex digits of the SHA-256 of a public configuration.

    The configuration is taken as JSON with sorted keys and without spaces. Raises InputError for what JSON cannot hold.
    """
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        refuse_unfit(config)
        raise InputError("config", str(error), "numbers, texts, lists and dictionaries") from None
    return hashlib.sha256(text.encode()).hexdigest()[:16]
