"""The engine's three parties as threads of one process with queues between them: for tests of the mathematics alone.

Sessions between real processes are in test_spawn, test_join and test_tls_appraisal.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

import mpc_appraisal.mpc.backends.fast  # noqa: F401  the engine registers its functions of `ops`
from mpc_appraisal.mpc.net.channel import Channel, DryChannel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.tensors import Context, PrivateTensor
from mpc_appraisal.mpc.ring.prg import KEY_BYTES, DryStream, Stream

_drawn: Counter[str] = Counter()


def new_key() -> bytes:
    """Return the next key of the test that runs, the same whenever it runs, so that no test fails by chance."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]  # without the word setup or call
    _drawn[test] += 1
    return hashlib.sha256(f"{test} {_drawn[test]}".encode()).digest()[:KEY_BYTES]


class QueueChannel(Channel):
    """A channel over queues in memory. patience: the seconds after which a message that does not come is an error."""

    def __init__(
        self, me: int, queues: dict[tuple[int, int], queue.Queue], seen: list[torch.Tensor], patience: float = 600.0
    ):
        super().__init__(Meter())
        self.me, self.queues, self.seen, self.patience = me, queues, seen, patience

    def _send(self, tensor, to):
        self.queues[self.me, to].put(tensor.clone())

    def _receive(self, shape, source, dtype):
        tensor = self.queues[source, self.me].get(timeout=self.patience)
        if isinstance(tensor, BaseException):
            raise tensor
        assert tensor.shape == torch.Size(shape) and tensor.dtype == dtype
        self.seen.append(tensor)
        return tensor

    def close(self):
        pass


class Run:
    """Results of both owners, their engines, everything each received, and the dry engine.

    shown: what the dealer received as a helper, the model owner's and the data owner's messages in turn.
    """

    def __init__(
        self,
        results: list[Any],
        engines: list[Engine],
        seen: list[list[torch.Tensor]],
        dry: Engine,
        shown: list[torch.Tensor],
    ):
        self.results, self.engines, self.seen, self.dry, self.shown = results, engines, seen, dry, shown

    def value(self, bits: int) -> torch.Tensor:
        """Both owners' shares of one tensor, decoded."""
        return (self.results[0] + self.results[1]).double() / 2.0**bits


def in_threads(
    owner: Callable[[int], None],
    dealer: Callable[[], None],
    queues: dict,
    errors: list[BaseException],
    patience: float | None = None,
) -> None:
    """Run both owners and the dealer, each in a thread, until all have ended.

    What one raises goes into `errors` and into all queues, so that nobody waits for a party that has failed. No thread
    may take more than `patience` seconds, if stated.
    """

    def guarded(f: Callable[..., None], *arguments: int) -> None:
        try:
            f(*arguments)
        except BaseException as error:  # noqa: BLE001  the caller looks at it
            errors.append(error)
            for each in queues.values():
                each.put(error)

    threads = [threading.Thread(target=guarded, args=(owner, me)) for me in (0, 1)]
    threads.append(threading.Thread(target=guarded, args=(dealer,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
        assert not thread.is_alive()


def run(program: Callable[[Engine], Any]) -> Run:
    """Run `program(engine)` at both owners, with the dealer working through the script of its dry run."""
    import json

    keys, pair = [new_key(), new_key()], new_key()
    dry = Engine(0, DryChannel(Meter()), Engine.streams_of(None), DryStream(), dry=True)
    program(dry)
    script = parse(json.dumps(dry.script))
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
    results, engines, seen, errors, shown = [None, None], [None, None], [[], []], [], []

    def owner(me: int) -> None:
        channel = QueueChannel(me, queues, seen[me])
        engines[me] = Engine(me, channel, Engine.streams_of(keys[me]), Stream(pair, "pair"))
        results[me] = program(engines[me])

    def dealer() -> None:
        channel = QueueChannel(2, queues, shown)
        Dealer(keys, lambda correction: channel.send(correction, 0), channel.receive).run(script, lambda: None)

    in_threads(owner, dealer, queues, errors)
    if errors:
        raise errors[0]
    return Run(results, engines, seen, dry, shown)


def sharing(values: torch.Tensor, bits: int, seed: int = 0) -> Callable[[Engine], torch.Tensor]:
    """Uniform shares of `values` with `bits` fractional bits, as a function of the engine."""
    ring = torch.round(values.double() * 2.0**bits).to(torch.int64)
    generator = torch.Generator().manual_seed(seed)
    r = torch.randint(-(2**63), 2**63 - 1, ring.shape, generator=generator)

    def share(engine: Engine) -> torch.Tensor:
        if engine.dry:
            return torch.empty(ring.shape, dtype=torch.int64, device="meta")
        return r if engine.me == 0 else ring - r

    return share


def private(engine: Engine, owner: int, values: torch.Tensor, bound: float = 16.0) -> PrivateTensor:
    """`values` as known to `owner` alone; in a dry run and in a replay, the shape alone."""
    unknown = engine.dry or engine.replays
    device = torch.empty(values.shape, dtype=values.dtype, device="meta") if unknown else values
    return PrivateTensor(Context(engine, bound), owner, device if engine.me == owner else None, values.shape, "values")
