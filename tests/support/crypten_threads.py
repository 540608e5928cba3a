"""CrypTen's protocols with both owners in one process, as threads; see `three`."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any

from mpc_appraisal.mpc.protocols import crypten_adapter as bridge


class Enabled(threading.local):
    """Whether the calling thread records what it computes, in place of a flag of the process."""

    on = True

    def __bool__(self) -> bool:
        return self.on

    def within(self, mode: bool):
        @contextmanager
        def entered():
            before, self.on = self.on, mode
            try:
                yield
            finally:
                self.on = before

        return staticmethod(entered)


def one_engine_a_thread(monkeypatch: Any) -> None:
    """CrypTen's communicator, provider and autograd's flag are globals of a process: here of the calling thread."""
    here, enabled, tensor = threading.local(), Enabled(), bridge.crypten.CrypTensor
    monkeypatch.setattr(tensor, "AUTOGRAD_ENABLED", enabled)
    monkeypatch.setattr(tensor, "no_grad", enabled.within(False))
    monkeypatch.setattr(tensor, "enable_grad", enabled.within(True))
    monkeypatch.setattr(bridge.crypten, "no_grad", tensor.no_grad)
    monkeypatch.setattr(bridge.crypten, "enable_grad", tensor.enable_grad)

    def use(engine):
        if getattr(here, "engine", None) is not engine:
            here.engine, here.communicator = engine, bridge.BridgeCommunicator(engine)
            here.provider = bridge.BridgeProvider(engine)
            kinds = (bridge.ArithmeticSharedTensor, bridge.BinarySharedTensor)
            here.zeros = {kind: bridge._zero_sharing(kind, engine) for kind in kinds}
            here.rand = bridge._random_bits(engine)

    monkeypatch.setattr(bridge, "use", use)
    monkeypatch.setattr(bridge.DistributedCommunicator, "is_initialized", classmethod(lambda cls: True))
    monkeypatch.setattr(bridge.DistributedCommunicator, "get", classmethod(lambda cls: here.communicator))
    monkeypatch.setattr(bridge.crypten.mpc, "get_default_provider", lambda: here.provider)
    for kind in (bridge.ArithmeticSharedTensor, bridge.BinarySharedTensor):
        monkeypatch.setattr(
            kind, "PRZS", staticmethod(lambda *s, device=None, k=kind: here.zeros[k](*s, device=device))
        )
    monkeypatch.setattr(bridge.BinarySharedTensor, "rand", staticmethod(lambda *s, **k: here.rand(*s, **k)))
