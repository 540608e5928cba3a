"""Steps of training a CrypTen network: stock CrypTen, a pushed script, and a dealer that is asked.

The program is CrypTen's own: a network of 100, 64 and 10 units, batches of 64, cross-entropy, forward and backward pass
and a step of gradient descent, with secret weights, features and labels. It runs unchanged each way, between three
processes. The dealer is asked with and without prediction. The pushed script is that of the requests which a session
before has made. The first step of each session is not counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.harness.parties import TIMEOUT, launch_parties, meeting
from experiments.harness.plots import BLUE, GREY, blank, plain
from experiments.harness.records import Row, select
from experiments.studies.relay.sessions import Way, relay_of
from mpc_appraisal.common.roles import DEALER, MODEL_OWNER
from mpc_appraisal.mpc.backends.asked import AskedSession, deal_asked
from mpc_appraisal.mpc.backends.fast import FastSession, deal
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.mpc.net.transport import Transport
from mpc_appraisal.mpc.protocols.asked_engine import AskedEngine

STOCK, PUSHED, ASKED, AHEAD = "stock CrypTen", "pushed script", "asked", "asked, with prediction"
ENGINE = (PUSHED, ASKED, AHEAD)
LAYERS, BATCH, RATE = (100, 64, 10), 64, 0.1
DELAY_MS, STOCK_STEPS = 10.0, 6
LOOPBACK, FAR = "loopback", f"{DELAY_MS:g} ms one way, TLS"
GOALS = (1.15, 5.0)  # at most so many times the seconds of the pushed script, and as many times faster than stock
KEYS = {"part", "network", "turn", "way", "seconds", "bytes", "rounds", "messages", "wasted", "loss"}


class RecordingEngine(AskedEngine):
    """An engine that asks for nothing ahead, and records what it asks."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.repetition.predicts = False

    def ask_dealer(self, name: str, *arguments: Any) -> None:
        self.script.append([name, *arguments])
        super().ask_dealer(name, *arguments)


class RecordingSession(AskedSession):
    """A session that asks for nothing ahead, and whose script can be pushed in another session."""

    _engine = RecordingEngine


def train(crypten: Any, steps: int, counted: Callable[[], tuple[int, ...]]) -> dict[str, Any]:
    """Run the program; return the seconds of each step but the first, what is counted in them, and all losses."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    plain = [torch.nn.Linear(*LAYERS[:2]), torch.nn.Linear(*LAYERS[1:])]
    x = torch.randn(BATCH, LAYERS[0], generator=generator)
    labels = torch.nn.functional.one_hot(torch.randint(LAYERS[2], (BATCH,), generator=generator), LAYERS[2]).float()
    layers = [crypten.nn.Linear(*LAYERS[:2]), crypten.nn.Linear(*LAYERS[1:])]
    model = crypten.nn.Sequential(layers[0], crypten.nn.ReLU(), layers[1])
    for layer, values in zip(layers, plain, strict=True):
        layer.weight, layer.bias = values.weight.detach().clone(), values.bias.detach().clone()
    model.encrypt()
    model.train()
    x, labels = crypten.cryptensor(x, src=0), crypten.cryptensor(labels, src=1)
    criterion, losses, seconds = crypten.nn.CrossEntropyLoss(), [], []
    before = counted()
    for step in range(steps):
        start = time.perf_counter()
        loss = criterion(model(x), labels)
        model.zero_grad()
        loss.backward()
        model.update_parameters(RATE)
        seconds.append(time.perf_counter() - start)
        losses.append(loss)
        if step == 0:
            before = counted()
    spent = [(now - then) / (steps - 1) for now, then in zip(counted(), before, strict=True)]
    return {"seconds": seconds[1:], "spent": spent, "losses": [float(loss.get_plain_text()) for loss in losses]}


def stock_party(role: str, address: str, emit: Any, folder: Path, *, steps: int) -> Row | None:
    """Be one party of a session on CrypTen as shipped; return the model owner's row."""
    from mpc_appraisal.mpc.backends import stock

    with meeting(role, address) as rendezvous:
        if role == DEALER:
            stock.deal(rendezvous, TIMEOUT)
            return None
        session = stock.StockSession(rendezvous, TIMEOUT)
        meter = session.meter
        found = train(stock.crypten, steps, lambda: (meter.bytes_sent, meter.rounds, 0, 0))
        session.close()
        return row_of(STOCK, found)


def row_of(way: str, found: dict[str, Any]) -> Row:
    """Return the row of a session: what a step takes, at the model owner, and the last loss."""
    counts = dict(zip(("bytes", "rounds", "messages", "wasted"), found["spent"], strict=True))
    return {"way": way, "seconds": median(found["seconds"]), **counts, "loss": found["losses"][-1]}


def engine_party(
    role: str, address: str, emit: Any, folder: Path, *, steps: int, order: list[str], places: list | None,
    certificates: str | None,
) -> list[Row]:  # fmt: skip
    """Be one party of sessions on the engine, in the order of ways; return the model owner's rows.

    The first session of all only records the script. places: for each session, the relay's address; None for loopback.
    """
    script, rows = [], []
    with links(role, address, places, certificates) as connect:
        for way in (None, *order):
            with connect() as (link, transport):
                if role == DEALER:
                    deal(link, TIMEOUT, transport) if way == PUSHED else deal_asked(link, TIMEOUT, transport)
                    continue
                kind = {PUSHED: FastSession, AHEAD: AskedSession}.get(way, RecordingSession)
                session = kind(link, TIMEOUT, transport)
                found = program_of(session, steps, script if way == PUSHED else None)
                script = script or session.context.engine.script
                session.close()
                rows += [] if way is None else [row_of(way, found)]
    return rows if role == MODEL_OWNER else []


def program_of(session: FastSession, steps: int, script: list | None) -> dict[str, Any]:
    """Run the program on a session of the engine, after pushing the script if there is one."""
    from mpc_appraisal.mpc.crypten_programs import mending

    crypten = mending.mend()
    if script is not None:
        session.prepare(None, script)
    mending.carry(session)
    engine, meter = session.context.engine, session.meter

    def counted() -> tuple[int, ...]:
        if not isinstance(engine, AskedEngine):
            return meter.bytes_sent, meter.rounds, 0, 0
        return meter.bytes_sent, meter.rounds, engine.asked, engine.repetition.wasted_requests

    try:
        return train(crypten, steps, counted)
    finally:
        mending.release()


@contextmanager
def links(role: str, address: str, places: list | None, certificates: str | None) -> Iterator[Callable]:
    """Yield a function that connects the parties for one more session, in a context."""
    if places is None:
        with meeting(role, address) as rendezvous:

            @contextmanager
            def again() -> Iterator[tuple]:
                yield rendezvous, "tcp"

            yield again
        return
    left = iter(places)

    @contextmanager
    def through_relay() -> Iterator[tuple]:
        link = Transport("tls", certificates, relay=next(left)).connect(role, None, TIMEOUT)
        link.announce()
        yield link, "tls"
        link.exchange("done", {})
        link.close(5.0)

    yield through_relay


def measure(turns: int, steps: int, far_steps: int) -> Iterator[list[Row]]:
    """Yield the rows of all ways on loopback, turn by turn, and then of those on the engine at a delay."""
    for turn in range(turns):
        order = list(ENGINE[:: (-1) ** turn])
        found = launch_parties(engine_party, steps=steps, order=order, places=None, certificates=None)[MODEL_OWNER]
        found.append(launch_parties(stock_party, steps=min(steps, STOCK_STEPS))[MODEL_OWNER])
        yield [{"part": "steps", "network": LOOPBACK, "turn": turn} | row for row in found]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_trial(folder / "certificates")
        with relay_of(Way(FAR, True, DELAY_MS), folder / "relay") as (where, _):
            places = [f"{where}/session-{k}" for k in range(1 + len(ENGINE))]
            found = launch_parties(
                engine_party, steps=far_steps, order=list(ENGINE), places=places,
                certificates=str(folder / "certificates"),
            )[MODEL_OWNER]  # fmt: skip
    yield [{"part": "steps", "network": FAR, "turn": 0} | row for row in found]


def table(rows: Sequence[Row], network: str) -> list[dict[str, Any]]:
    """Return one line for each way of a network: medians over turns, and seconds over those of the pushed script."""
    lines = []
    for way in (STOCK, *ENGINE):
        some = select(rows, network=network, way=way)
        if some:
            keys = ("seconds", "bytes", "rounds", "messages", "wasted", "loss")
            lines.append({"way": way} | {key: median(row[key] for row in some) for key in keys})
    pushed = [line["seconds"] for line in lines if line["way"] == PUSHED]
    return [line | {"times": line["seconds"] / pushed[0]} for line in lines] if pushed else []


def drawing(lines: Sequence[dict[str, Any]]) -> Figure:
    """Draw the seconds of a step each way."""
    figure = blank(7.0, 2.6)
    axis = figure.subplots()
    axis.barh(range(len(lines)), [line["seconds"] for line in lines], 0.55,
              color=[BLUE if line["way"] == AHEAD else GREY for line in lines])  # fmt: skip
    axis.set_yticks(range(len(lines)), [line["way"] for line in lines])
    axis.invert_yaxis()
    axis.set_xlabel("seconds of a step on one machine, median")
    plain(axis, grid="x")
    return figure
