"""CrypTen's approximations and the engine's functions: error and seconds beside each other.

Each case is a function on numbers of a range, drawn uniformly, or with uniform logarithms where all are positive.
It runs on stock CrypTen, with CrypTen's approximations over the engine, and with the engine's functions. Seconds are
the least of the turns in the model owner's process, of all numbers of a case together. An error is |found - exact|,
divided by |exact| where that is above 1, and None where the engine refused to release what overflowed fixed point.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.harness.parties import TIMEOUT, launch_parties, meeting
from experiments.harness.plots import BLUE, GREY, blank, plain
from experiments.harness.records import Row, select
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.session import Session

STOCK, OWN, ENGINE = SIDES = ("stock CrypTen", "CrypTen's over the engine", "the engine's")
KEYS = {"part", "side", "function", "numbers", "seconds", "bytes", "rounds", "error", "mean_error"}
CLASSES = 10
UNIT = 2.0**-16
LEAST = 1e-7  # An error is drawn as this at least.


@dataclass(frozen=True)
class Case:
    """A function of numbers a, or of a and b.

    Attributes:
        function: what the tables call it.
        numbers: the range of the numbers, in words.
        of: the function, which runs on CrypTen's tensors and on torch's alike, but for `exact`.
        draw: a function that draws a and b, of so many elements.
        exact: the function on torch's tensors, where it has another name there.
    """

    function: str
    numbers: str
    of: Callable[..., Any]
    draw: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    exact: Callable[..., Any] | None = None


def _uniform(count: int, low: float, high: float, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * (high - low) + low


def _grid(values: torch.Tensor) -> torch.Tensor:
    return torch.round(values / UNIT) * UNIT


def between(low: float, high: float) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    """Return a function that draws a between two numbers."""

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        if low <= 0:
            a = _uniform(count, low, high)
        else:
            a = _uniform(count, torch.tensor(low).log().item(), torch.tensor(high).log().item()).exp()
        a = _grid(a)
        return a, a

    return draw


def counts(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw whole numbers b from 1 to 1000, and a below b."""
    b = _uniform(count, 1, 1000).round()
    return _grid(b * _uniform(count, 0, 1, seed=1)), b


def logits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw rows of logits of deviation 5."""
    generator = torch.Generator().manual_seed(0)
    a = _grid(5 * torch.randn(count // CLASSES, CLASSES, dtype=torch.float64, generator=generator))
    return a, a


CASES = (
    Case("exp", "-8 to 4", lambda a, b: a.exp(), between(-8, 4)),
    Case("exp", "-20 to 10", lambda a, b: a.exp(), between(-20, 10)),
    Case("log", "0.01 to 100", lambda a, b: a.log(), between(0.01, 100)),
    Case("log", "2^-12 to 2^14", lambda a, b: a.log(), between(2**-12, 2**14)),
    Case("1 / [x]", "0.1 to 100", lambda a, b: a.reciprocal(), between(0.1, 100)),
    Case("1 / [x]", "2^-6 to 2^14", lambda a, b: a.reciprocal(), between(2**-6, 2**14)),
    Case("a / [n]", "n to 1000, a below n", lambda a, b: a / b, counts),
    Case("sqrt", "0.1 to 100", lambda a, b: a.sqrt(), between(0.1, 100)),
    Case("sqrt", "2^-12 to 2^14", lambda a, b: a.sqrt(), between(2**-12, 2**14)),
    Case("1 / sqrt", "0.1 to 100", lambda a, b: a.inv_sqrt(), between(0.1, 100), lambda a, b: a.rsqrt()),
    Case("sigmoid", "-16 to 16", lambda a, b: a.sigmoid(), between(-16, 16)),
    Case("tanh", "-8 to 8", lambda a, b: a.tanh(), between(-8, 8)),
    Case("softmax", "10 classes", lambda a, b: a.softmax(1), logits),
    Case("log softmax", "10 classes", lambda a, b: a.log_softmax(1), logits),
)


def program(session: Session, side: str, count: int, turns: int) -> list[Row]:
    """Compute all cases, and return a row for each."""
    from mpc_appraisal.mpc.crypten_methods import crypten, from_crypten, to_crypten

    crypten.cfg.functions.approximations = "engine" if side == ENGINE else "crypten"
    rows = []
    for case in CASES:
        a, b = case.draw(count)
        x = session.input(DATA_OWNER, lambda a=a: a, a.shape, "a")
        left, right = to_crypten(x), to_crypten(session.input(MODEL_OWNER, lambda b=b: b, b.shape, "b"))
        seconds, before = [], session.meter.cost()
        for _ in range(turns):
            start = time.perf_counter()
            found = case.of(left, right)
            seconds.append(time.perf_counter() - start)
        spent = session.meter.cost() - before
        largest, mean = _errors(session, from_crypten(x, found), case, a, b)
        rows.append({
            "part": "functions", "side": side, "function": case.function, "numbers": case.numbers,
            "seconds": min(seconds), "bytes": spent.bytes_sent // turns, "rounds": spent.rounds // turns,
            "error": largest, "mean_error": mean,
        })  # fmt: skip
    return rows


def _errors(session: Session, found: Any, case: Case, *numbers: torch.Tensor) -> tuple[float | None, float | None]:
    """Open what was found, and return its largest error and the mean of its errors; None where it has overflowed."""
    try:
        opened = session.reveal(found, f"{case.function} of {case.numbers}", "its error is measured")
    except AppraisalError:
        return None, None
    exact = (case.exact or case.of)(*numbers)
    error = (opened - exact).abs() / exact.abs().clamp_min(1)
    return float(error.max()), float(error.mean())


def party(role: str, address: str, emit: Any, folder: Path, *, side: str, count: int, turns: int) -> list[Row] | None:
    """Be one party of a session; return the model owner's rows."""
    engine = "stock" if side == STOCK else "fast"
    with meeting(role, address) as rendezvous:
        if role == DEALER:
            deal(engine, rendezvous, TIMEOUT)
            return None
        session = open_session(engine, rendezvous, TIMEOUT)
        session.prepare(lambda dry: program(dry, side, count, turns))
        rows = program(session, side, count, turns)
        session.close()
    return rows


def measure(count: int, turns: int) -> list[Row]:
    """Return the rows of all cases on every side, each in three new processes."""
    rows = []
    for side in SIDES:
        rows += launch_parties(party, side=side, count=count, turns=turns)[MODEL_OWNER]
    return rows


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one line for each case, with each side's row."""
    lines = []
    for case in CASES:
        found = {row["side"]: row for row in select(rows, function=case.function, numbers=case.numbers)}
        if set(found) == set(SIDES):
            lines.append({"function": case.function, "numbers": case.numbers, "sides": [found[s] for s in SIDES]})
    return lines


def drawing(lines: Sequence[dict[str, Any]]) -> Figure:
    """Draw the largest error of each case, CrypTen's and the engine's."""
    figure = blank(7.0, 0.28 * len(lines) + 1.2)
    axis = figure.subplots()
    for place, (name, colour, mark) in {0: ("CrypTen", GREY, "o"), 2: ("the engine", BLUE, "s")}.items():
        errors = [max(line["sides"][place]["error"], LEAST) for line in lines]
        axis.plot(errors, range(len(lines)), mark, color=colour, label=name)
    axis.set_yticks(range(len(lines)), [f"{line['function']}, {line['numbers']}" for line in lines])
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("largest error")
    axis.legend(frameon=False)
    plain(axis, grid="x")
    return figure
