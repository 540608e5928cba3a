"""`mpc-appraisal cost`: estimate rounds, bytes and time of an appraisal before it is run, from public sizes alone.

    mpc-appraisal cost appraisal=influence rows=5940 features=784 candidates=10 wan.latency_ms=40 wan.mbit=100

Sizes and links are written KEY=VALUE, and everything else is configuration, as for the app. Out comes a table on the
terminal. A candidate is one data set that is appraised, and rows counts its rows. A size or its default may be added to
`SIZES`. No data are read, and this has to stay so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mpc_appraisal.appraisal.cost import table
from mpc_appraisal.cli import front
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import versions
from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.data import Resolution
from mpc_appraisal.data.targets import TWO
from mpc_appraisal.methods import Facts, as_methods
from mpc_appraisal.models.base import check_l2
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.models.training import model_of
from mpc_appraisal.mpc.backends.cost_model import LAN, WAN, NetworkLink
from mpc_appraisal.mpc.backends.fast import DEFAULT_BOUND
from mpc_appraisal.mpc.backends.registry import bounded, dry_session, warn
from mpc_appraisal.mpc.backends.settings import checks_messages
from mpc_appraisal.release.unbounded_logits import AUTO

SIZES = {"rows": None, "features": None, "classes": 10, "train_rows": 600, "test_rows": 10_000, "candidates": 1}
# Words of the app that say which data there are. With one of them, sizes that are not stated are those of these data.
# Other keys of session and party, such as session.logit_bound, say nothing of data.
OF_DATA = ("data", "scenario", "seed")
KEYS_OF_DATA = ("session", *(f"party.{key}" for key in ("data", "train", "test", "model", "listing")))
INTEGERS = {"scale": 0, "bits": 0}  # the resolution of the candidates; 0 stands for none
LINKS = {
    f"{network.name.lower()}.{key}": value
    for network in (LAN, WAN)
    for key, value in (("latency_ms", 1e3 * network.latency), ("mbit", network.bandwidth / 1e6))
}
USAGE = f"""usage: mpc-appraisal cost rows=N features=N [KEY=VALUE ...] [CONFIGURATION ...]

estimate rounds, bytes and time before anything is run, from public sizes alone

sizes:  rows (of a candidate) and features must be stated; the others and their
        defaults are
        {" ".join(f"{k}={v}" for k, v in SIZES.items() if v is not None)}
        or else the sizes are those of data=..., scenario=..., or
        party.data=..., party.train=..., party.listing=..., of which nothing but
        the sizes is used
        scale=S bits=B where all numbers of the candidates are k / S for
        integers k of B bits, as of pixels / 255
links:  {" ".join(f"{k}={v:g}" for k, v in LINKS.items())}
configuration, as for the app: appraisal=..., model.l2=..., release=...,
               session.logit_bound=..., session.integrity=on"""


def stated(arguments: Sequence[str]) -> tuple[dict[str, int], list[NetworkLink], list[str]]:
    """Return the sizes that are stated, the two links and the overrides of the configuration.

    Raises InputError, under its key, for a size or link that is bad.
    """
    sizes, links, left = {}, dict(LINKS), []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if (
            equals and key in SIZES | INTEGERS and not (key == "features" and text in front.options(key))
        ):  # a group of this name
            sizes[key] = _whole(key, text)
        elif equals and key in links:
            links[key] = _positive(key, text)
        else:
            left.append(argument)
    networks = [
        NetworkLink(name, links[f"{name.lower()}.latency_ms"] / 1e3, links[f"{name.lower()}.mbit"] * 1e6)
        for name in (LAN.name, WAN.name)
    ]
    return sizes, networks, left


def _sizes(sizes: dict[str, int], overrides: Sequence[str], cfg: Any) -> dict[str, int]:
    """Return all sizes: those that are stated, then those of the data that the configuration names, then the defaults.

    Of candidates of different sizes the largest counts. Raises InputError, under its key, for a size that is missing.
    """
    found: dict[str, int | None] = SIZES | INTEGERS
    keys = [word.partition("=")[0].lstrip("+") for word in overrides]
    if any(key.partition(".")[0] in OF_DATA or key in KEYS_OF_DATA for key in keys):
        from mpc_appraisal.cli.public_sizes import sizes_of

        known = sizes_of(cfg)
        of_data = {key: getattr(known, key) for key in ("train_rows", "test_rows", "features", "classes")}
        of_data |= {"rows": max(known.rows, default=None), "candidates": len(known.rows) or None}
        found |= {key: value for key, value in of_data.items() if value is not None}
    found |= sizes
    for key, value in found.items():
        if value is None:
            expected = f"a whole number, as in {key}=784, or data that have it, as in data=digits"
            raise InputError(key, "nothing", expected)
    return found


def _resolution(scale: int, bits: int) -> Resolution | None:
    """Return the resolution that is stated; 0 stands for none. Raises InputError, under its key, for a bad one."""
    if not scale:
        if bits:
            raise InputError("scale", "nothing", f"scale=S beside bits={bits}: numbers are k / S for integers k")
        return None
    try:
        return Resolution(scale, bits or scale.bit_length())
    except InputError as error:
        raise InputError(error.name.rpartition(" ")[2], error.value, error.expected) from None


def _whole(key: str, text: str) -> int:
    least = {"classes": 2, "train_rows": 0, "test_rows": 0}.get(key, 1)
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise InputError(key, repr(text), f"a whole number, {least} or more")
    return value


def _positive(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(key, repr(text), "a finite number above 0")
    return value


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for a bad argument."""
    import torch

    from mpc_appraisal.cli.config import compose, in_full, instantiate
    from mpc_appraisal.cli.console import say, terminal
    from mpc_appraisal.cli.public_sizes import check_row_norm
    from mpc_appraisal.reporting.report import print_table

    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    torch.set_num_threads(1)  # as each party runs
    own, links, overrides = stated(arguments)
    cfg: Any = compose(overrides)
    sizes = _sizes(own, overrides, cfg)
    check_row_norm(cfg, sizes["features"])
    engine = cfg.session.get("engine", "fast")
    integrity = checks_messages(cfg.session.get("integrity", False))
    dry_session(engine, MODEL_OWNER, integrity)  # This refuses an engine that cannot be run dry, or cannot check.
    warn(engine)
    methods, bound = as_methods(instantiate(cfg.appraisal)), cfg.session.get("logit_bound")
    for method in methods:
        for part in sorted(method.needs):
            if not sizes[f"{part}_rows"]:
                raise InputError(f"{part}_rows", 0, f"1 or more: the method {method.name} needs {part} data")
    numbers = (sizes[key] for key in ("features", "classes", "train_rows", "test_rows", "rows"))
    model = model_of(instantiate(cfg.model))
    facts = replace(Facts(*numbers, check_l2(cfg.model.l2)), link=model.link.name)
    facts = replace(facts, resolution=_resolution(sizes["scale"], sizes["bits"]))
    if model.link is not SOFTMAX:
        facts = replace(facts, classes=2 if model.target == TWO else 1)
    names = [f"candidate {k}" for k in range(sizes["candidates"])]
    release = instantiate(cfg.release).fitted(methods, names, dict.fromkeys(names, 0.0))
    auto, bound = bound == AUTO and bounded(engine), None if bound == AUTO else bound
    if auto:
        facts = replace(facts, row_norm=math.sqrt(facts.features + 1))
    within = float(bound or DEFAULT_BOUND)
    with in_full(cfg):
        found = table(methods, facts, sizes["candidates"], within, links, release, engine, auto, integrity)
    print_table(found, terminal())
    if not bound and bounded(engine) and model.link.exponential:
        say(
            f"It is assumed that logits are within {DEFAULT_BOUND:g} before training. A run derives the bound from "
            "norms, or takes session.logit_bound."
        )
    if auto:
        say(f"It is assumed that rows are no longer than {facts.row_norm:.3g}, the root of their number of features.")
    print(f"mpc_appraisal {versions()['mpc_appraisal']}")
