"""The plan of a market as a JSON file, which shopper, cloud and key authority each have.

In goes such a file; out comes a `MarketPlan`, or an InputError that names the key that does not fit. The plans that the
three roles read must be equal. This is an example:

    {"network": "cnn", "image": [1, 28, 28], "classes": 10, "protocol": "ife_transform", "scheme": "lwe",
     "update": "exact", "selection": "margin", "budget": 500, "seed": 0, "batch": 256,
     "validation": {"granularity": 100, "steps": 100, "lr": 0.05, "batch_size": 64}}

The keys protocol, selection and budget must be stated. `update` belongs to ife_transform alone, and `opens` to
ife_shares alone. `seller_rows` is the largest number of rows that one seller's upload may have; it is 131,072 unless it
is stated. Another key or protocol may be added to the tables below. Known keys have to keep their names and defaults,
because organisations keep such files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.marketplace.plan import MarketPlan, Validation
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.protocols.strategy import IfeShares
from mpc_appraisal.marketplace.uploads.enrolment import SCHEMES
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture

PROTOCOLS = {IfeTransform.name: IfeTransform, IfeShares.name: IfeShares}
OPTIONS = {IfeTransform.name: {"update"}, IfeShares.name: {"opens"}}
MARKET = {"selection", "budget", "seed", "batch", "seller_rows"}
KEYS = {"network", "image", "classes", "protocol", "scheme", "validation"} | MARKET


def read_plan(path: str | Path) -> MarketPlan:
    """Read the plan in the file `path`. Raises InputError for a file that is no JSON, and as `market_of` does."""
    try:
        stated = json.loads(Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("plan", f"{path} ({type(error).__name__})", "a JSON file") from error
    return market_of(stated)


def market_of(stated: Mapping[str, Any]) -> MarketPlan:
    """Make the plan that `stated`, as read from JSON, describes. Raises InputError, which names the key at fault."""
    if not isinstance(stated, Mapping):
        raise InputError("plan", type(stated).__name__, "an object of keys and values")
    protocol = _one_of(PROTOCOLS, stated.get("protocol"), "protocol")
    options = OPTIONS[stated["protocol"]]
    for key in ("selection", "budget"):
        if key not in stated:
            raise InputError(f"plan {key}", None, "a value: it has no default")
    if unknown := sorted(set(stated) - KEYS - options):
        raise InputError("plan", shown(", ".join(unknown)), f"keys among {', '.join(sorted(KEYS | options))}")
    scheme = _one_of(SCHEMES, stated.get("scheme", "lwe"), "scheme")()
    try:
        validation = None if stated.get("validation") is None else Validation(**stated["validation"])
    except TypeError as error:
        raise InputError(
            "plan validation", shown(stated["validation"]), f"keys of Validation ({shown(str(error))})"
        ) from None
    except InputError as error:
        raise InputError(f"validation {error.name}", error.value, error.expected) from error
    return MarketPlan(
        architecture_of(stated.get("network", "cnn"), stated.get("image"), stated.get("classes")),
        protocol(scheme, **{key: stated[key] for key in options & set(stated)}),
        validation=validation,
        **{key: stated[key] for key in MARKET & set(stated)},
    )


def architecture_of(network: str, image: Any = None, classes: Any = None) -> Architecture:
    """Return the architecture of this name, adapted to the images and classes of a market.

    Args:
        network: a name in `networks.ARCHITECTURES`.
        image: (channels, height, width) of an image; None keeps that of the named architecture.
        classes: the number of classes; None keeps that of the named architecture.

    Raises InputError, which names the key that is wrong.
    """
    found = _one_of(ARCHITECTURES, network, "network")
    if image is not None:
        if not isinstance(image, list | tuple) or len(image) != 3 or not all(isinstance(s, int) for s in image):
            raise InputError("plan image", image, "channels, height, width")
        found = replace(found, image=tuple(image))
    if classes is not None:
        if not is_integer(classes):
            raise InputError("plan classes", repr(classes)[:60], "a whole number, 2 or more")
        *layers, last = found.layers
        found = replace(found, layers=(*layers, replace(last, units=classes)))
    return found


def _one_of(known: Mapping[str, Any], name: Any, what: str) -> Any:
    if not isinstance(name, str) or name not in known:
        raise InputError(f"plan {what}", shown(repr(name)), f"one of {', '.join(known)}")
    return known[name]
