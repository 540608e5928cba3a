"""The one place that mends CrypTen 0.4.1 on today's torch. Idempotent; importing it is cheap, `load` imports CrypTen.

CrypTen has stood still since 2024. What is touched of it, and nothing else: `communicator.DistributedCommunicator`,
`mpc.provider.ttp_provider`, `generators`, `MPCTensor.from_shares`, `ArithmeticSharedTensor.PRZS`, `config.cfg`.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

from mpc_appraisal.common.errors import AppraisalError

CRYPTEN_VERSION = "0.4.1"


def load() -> ModuleType:
    """Return the module crypten, importable and configured for a dealer that is a process of its own.

    torch 2.9 moved `torch.onnx._internal.registration`; CrypTen imports the old name for a converter that is not used
    here. Its default provider lets rank 0 deal all triples, and so unmask the other party: it is switched off.
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
