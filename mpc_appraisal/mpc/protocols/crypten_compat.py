"""Makes CrypTen 0.4.1, whose development ended in 2024, importable with current versions of torch.

`load` imports CrypTen and returns the module; it may be called any number of times. `crypten_adapter`, `backends.stock`
and `crypten_programs` use CrypTen, and the first and the last list what they replace in CrypTen. Two things have to
stay: CrypTen is imported inside `load` alone, so that importing this file is cheap, and CrypTen's default provider is
not used (see `load`). The work-around for torch may change with torch.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

from mpc_appraisal.common.errors import AppraisalError

CRYPTEN_VERSION = "0.4.1"


def load() -> ModuleType:
    """Import and return the module crypten, configured for a dealer that is a process of its own.

    CrypTen imports `torch.onnx._internal.registration` for a converter that this package does not use, and torch 2.9
    moved that module. CrypTen's default provider lets rank 0 deal all triples (random numbers that hide
    the factors of products), with which rank 0 can unmask the other party's values; another provider is set instead.

    Raises AppraisalError: CrypTen cannot be imported; the message says how to install it.
    """
    if "torch.onnx._internal.registration" not in sys.modules:
        try:
            importlib.import_module("torch.onnx._internal.registration")
        except ModuleNotFoundError:
            moved = importlib.import_module("torch.onnx._internal.torchscript_exporter.registration")
            sys.modules["torch.onnx._internal.registration"] = moved
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crypten = importlib.import_module("crypten")
    except ModuleNotFoundError as error:
        raise AppraisalError(
            f"CrypTen cannot be imported ({error}). Its own dependencies no longer resolve, so install it with "
            f"`pip install --no-deps crypten=={CRYPTEN_VERSION}` and then this package (`make setup` does both)."
        ) from error
    crypten.config.cfg.mpc.provider = "TTP"
    return crypten
