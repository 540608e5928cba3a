"""Which functions CrypTen's tensors have: CrypTen's own approximations, or the engine's (see `functions`)."""

from __future__ import annotations

import weakref
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols import crypten_adapter
from mpc_appraisal.mpc.protocols.crypten_adapter import crypten
from mpc_appraisal.mpc.protocols.engine import Engine

OPTION = "crypten.cfg.functions.approximations"
_preferring: weakref.WeakSet[Engine] = weakref.WeakSet()  # the engines over which "engine" is the default


def prefer(engine: Engine) -> None:
    """Make "engine" the default of programs over this engine, as for appraisal methods; see `method_tensors`."""
    _preferring.add(engine)


def chosen_engine(tensor: Any) -> Engine | None:
    """Return the engine whose functions are used for a tensor, or None if its own are.

    Raises InputError: the option has an unknown value, or is "engine" where CrypTen computes by itself.
    """
    if not isinstance(tensor, crypten.mpc.MPCTensor):
        return None
    choice = crypten.cfg.functions.get("approximations", None)
    if choice not in (None, "crypten", "engine"):
        raise InputError(OPTION, choice, "crypten or engine")
    if choice == "crypten":
        return None
    engine = crypten_adapter._bridged()
    if choice is None:
        return engine if engine is not None and engine in _preferring else None
    if engine is None:
        raise InputError(OPTION, choice, "crypten, where CrypTen computes by itself and not over an engine")
    return engine
