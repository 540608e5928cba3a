"""A model owner sends the dealer a script of its own, by which it would read the data owner's rows, and is refused.

The three parties are threads. The first test shows that the attack works against a dealer that compares nothing.
"""

from __future__ import annotations

import json
import math
import queue
import threading

import numpy as np
import pytest
import torch
from processes import DATA_OWNER, MODEL_OWNER
from three import QueueChannel, new_key, private

from mpc_appraisal.common.errors import DisagreementError
from mpc_appraisal.methods import Influence
from mpc_appraisal.methods.base import Facts
from mpc_appraisal.mpc.backends import fast
from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols import orders
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.orders import receive_script
from mpc_appraisal.mpc.protocols.script_limits import Limits
from mpc_appraisal.mpc.protocols.softmax_plan import Z_BITS, doublings
from mpc_appraisal.mpc.ring.prg import Stream

ROWS, FEATURE, BOUND = 24, 1, 8.0


def forged(rows: list[int]) -> list[list]:
    """Requests by which the dealer shares low and high parts of masks that the data owner's message stands under."""
    k = doublings(BOUND)
    drop = max(0, math.ceil(math.log2(BOUND / 2.0**k * 2 * 2.0 ** (40 + k) / (2.0 ** (Z_BITS - 2) - 8))))
    script, names = [["mask", 1, 0, [1, 1]]], iter(range(2, 10**6))

    def known(count: int) -> None:
        name = next(names)
        script.extend([["mask", name, 0, [count, 1]], ["product", name, 1, 0]])

    first = next(names)
    script.extend([["open", first, [1], 8, 8], ["open", next(names), [4 * ROWS - 1], 8, 8]])
    known(6)
    for _ in rows:
        script.append(["truncate", [1], 40 - drop])
        known(1)
        known(5)
        script.extend([["cross", first, first, 8]] * 5)
    return script


def unsigned(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy()).view(np.uint64)


def attack(x: torch.Tensor, labels: torch.Tensor, pinned: bool) -> tuple[dict[int, float], list[BaseException]]:
    """Return what a cheating model owner reads of one feature, by row, and the errors of the three parties."""
    keys, pair, errors = [new_key(), new_key()], new_key(), []
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
    rows, width = list(range(3, ROWS, 4)), x.shape[1]
    facts = Facts(width - 1, 2, 0, 0, ROWS, 0.01)
    script = forged(rows)

    def score(engine: Engine) -> None:
        mine = [private(engine, 1, values, BOUND) for values in (x, torch.eye(2, dtype=torch.float64)[labels])]
        owned = {name: private(engine, 0, torch.empty(width, 2), BOUND) for name in ("weights", "direction")}
        Influence().score(owned, *mine, facts)

    def guarded(party) -> None:
        try:
            party()
        except queue.Empty:
            pass  # the model owner sends nothing more
        except BaseException as error:  # noqa: BLE001  the test looks at it
            errors.append(error)

    def data_owner() -> None:
        channel = QueueChannel(1, queues, [], 30.0)
        if pinned:
            dry = Engine(1, DryChannel(Meter()), Engine.streams_of(None), fast.DryStream(), dry=True)
            score(dry)
            orders.submit_script(channel, dry.script, DATA_OWNER)
        score(Engine(1, channel, Engine.streams_of(keys[1]), Stream(pair, "pair")))

    def dealer() -> None:
        channel = QueueChannel(2, queues, [], 30.0)
        asked = receive_script(channel, Limits()) if pinned else parse(json.dumps(script))
        Dealer(keys, lambda correction: channel.send(correction, 0)).run(asked, lambda: None)

    threads = [threading.Thread(target=guarded, args=(party,), daemon=True) for party in (data_owner, dealer)]
    for thread in threads:
        thread.start()
    channel = QueueChannel(0, queues, [], 30.0)
    found = {}

    def model_owner() -> None:
        if pinned:
            orders.submit_script(channel, script, MODEL_OWNER)
        found.update(read(channel, Engine.streams_of(keys[0]), Stream(pair, "pair"), rows, width))

    guarded(model_owner)
    for thread in threads if pinned else ():
        thread.join(600)
    return found, errors


def read(
    channel: QueueChannel, streams: dict[str, Stream], pair: Stream, rows: list[int], width: int
) -> dict[int, float]:
    """Be the cheating model owner, which sends 2^26 at one feature in place of masked weights."""
    k = doublings(BOUND)
    drop = max(0, math.ceil(math.log2(BOUND / 2.0**k * 2 * 2.0 ** (40 + k) / (2.0 ** (Z_BITS - 2) - 8))))
    channel.receive((ROWS, width), 1)
    sent = torch.zeros(width, 2, dtype=torch.int64)
    sent[FEATURE, 1] = 1 << (drop + 3)
    channel.send(sent, 1)
    opened = channel.receive((6 * ROWS,), 1, torch.uint8).numpy()
    low, high = opened[: 4 * ROWS].view(np.uint16).astype(np.int64), opened[4 * ROWS :].astype(np.int64)
    message = (low | high << 16).reshape(ROWS, 2)
    factor, zero = unsigned(streams["mask"].ring((1, 1)))[0, 0], unsigned(pair.ring((ROWS, 2)))
    streams["triple"].ring((1,), 1)
    streams["triple"].ring((4 * ROWS - 1,), 1)

    def theirs(count: int) -> np.ndarray:  # the data owner's share of a product that this owner knows
        mask = unsigned(streams["mask"].ring((count, 1)))
        return (mask * factor - unsigned(channel.receive((count, 1), 2))).reshape(-1)

    theirs(6)
    values = {}
    for row in rows:
        mask, shifted = (int(unsigned(t)[0]) for t in (streams["triple"].ring((1,)), channel.receive((1,), 2)))
        top = channel.receive((3,), 2, torch.uint8).numpy().astype(int)
        start = -(int(top[0]) | int(top[1]) << 8 | int(top[2]) << 16) & 0xFFFFFF
        share = start | (int(theirs(1)[0]) & (1 << 40) - 1) << 24
        theirs(5)
        for _ in range(5):
            channel.receive((1,), 2, torch.uint8)
        hidden = ((share + shifted - (mask >> (40 - drop)) - int(zero[row, 1])) % 2**64) >> drop
        value = (int(message[row, 1]) - hidden) & 0xFFFFFF
        values[row] = (((value + (1 << 18)) & 0xFFFFFF) - (1 << 18)) / 2.0**23
    return values


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    x = torch.tensor(np.column_stack([rng.integers(0, 17, (ROWS, 4)) / 16, np.ones(ROWS)]))
    return x, torch.arange(ROWS) % 2


def test_a_script_of_the_model_owner_s_own_would_read_the_data_owner_s_rows(rows):
    """The attack works against a dealer that compares nothing: so the next test shows something."""
    found, errors = attack(*rows, pinned=False)
    assert not errors and len(found) == 6
    assert {row: round(16 * value) for row, value in found.items()} == {
        row: round(16 * float(rows[0][row, FEATURE])) for row in found
    }


def test_such_a_script_is_refused_by_name_and_reads_nothing(rows):
    found, errors = attack(*rows, pinned=True)
    assert not found and len(errors) == 3
    for error in errors:
        assert isinstance(error, DisagreementError)
        for name in (MODEL_OWNER, DATA_OWNER):
            assert name in str(error)
