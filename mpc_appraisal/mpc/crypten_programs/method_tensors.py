"""The tensors of a session as CrypTen's, for appraisal methods that are written with CrypTen.

`of_shares` takes shares of the engine and `of_stock` a tensor of the engine `stock`. In go tensors of a method, and out
come MPCTensors, which a method may change in place: they are copies. Over the engine, CrypTen's functions are those of
`functions` from then on, unless the method sets `crypten.cfg.functions.approximations` to "crypten". In a session of
stock they are CrypTen's own, as it is the baseline.

A method opens nothing, since `Session.reveal` alone opens what all parties have agreed on. So `get_plain_text` and
`reveal` of an MPCTensor raise TypeError in a session for which one of the two functions has been called; this has to
stay.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch

from mpc_appraisal.mpc.crypten_programs import function_choice, functions
from mpc_appraisal.mpc.crypten_programs.plain_tensor import OPENS_NOTHING
from mpc_appraisal.mpc.protocols import crypten_adapter
from mpc_appraisal.mpc.protocols.crypten_adapter import DistributedCommunicator, crypten
from mpc_appraisal.mpc.protocols.engine import Engine

_closed: weakref.WeakSet[Any] = weakref.WeakSet()  # the communicators of the sessions in which nothing is opened


def of_shares(engine: Engine, share: torch.Tensor) -> Any:
    """Return the MPCTensor of this owner's share with 16 fractional bits. No message is sent."""
    tensor = crypten_adapter.to_crypten(engine, share)
    functions.install(crypten)
    function_choice.prefer(engine)
    _close()
    return tensor


def of_stock(tensor: Any) -> Any:
    """Return a copy of an MPCTensor of the engine stock. No message is sent."""
    _close()
    return tensor.clone()


def _close() -> None:
    _closed.add(DistributedCommunicator.get())
    for name in ("get_plain_text", "reveal"):
        if vars(crypten.mpc.MPCTensor)[name] not in _refusing:
            setattr(crypten.mpc.MPCTensor, name, _refused(name, vars(crypten.mpc.MPCTensor)[name]))


_refusing: set[Any] = set()


def _refused(name: str, own: Any) -> Any:
    def opened(self, *arguments, **options):
        if DistributedCommunicator.get() in _closed:
            raise TypeError(f"{name}: {OPENS_NOTHING}")
        return own(self, *arguments, **options)

    _refusing.add(opened)
    return opened
