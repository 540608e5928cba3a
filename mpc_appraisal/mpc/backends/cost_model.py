"""Predicts what a program will cost from shapes alone: bytes, rounds, local work, and time by a model.

    seconds = rounds * latency + 8 * bytes of the busiest party / bandwidth + work / rate

In goes a program, which is the function that a session will run; out comes a `Forecast` for each result of the program.
Bytes and rounds are exact, because `rehearse` runs the program itself dry (on shapes). The time is a model: both
directions of a link carry data at the same time, the network does not overlap with local work, and one dealer serves
both owners. Local work is counted in ring multiply-adds (a product and a sum of integers mod 2^64), and `rate` measures
how many of them this machine does in a second. Everything that is not a product (masks, encoding, elementwise steps)
counts as `ELEMENT` multiply-adds for each number.

The constants of the model may change. The fields of `Rehearsal` may not change alone: the owners exchange them, and
`net.message_schemas` lists them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.backends.registry import dry_session
from mpc_appraisal.mpc.net.meter import Cost, by_result
from mpc_appraisal.mpc.protocols.group_maximum import dealt_rows
from mpc_appraisal.mpc.ring.kernels import loops
from mpc_appraisal.mpc.ring.matrix import Matrix
from mpc_appraisal.mpc.session import Session

ELEMENT = 40  # a masked, drawn or opened number takes as long as so many ring multiply-adds
COMPARE = 2 * ELEMENT  # the same for a number that is compared, beside its opening
SORT = 4 * ELEMENT  # the same for a number that is permuted for the helper
CHECK = 20 * ELEMENT  # the same for a number that is dealt or sent, where messages are checked
CALIBRATION_SECONDS = 0.1


@dataclass(frozen=True)
class NetworkLink:
    """A network between the parties, as the model sees it.

    Attributes:
        name: The name of the network.
        latency: The seconds that a message takes in one direction.
        bandwidth: The bits per second in each direction.
    """

    name: str
    latency: float
    bandwidth: float


LAN = NetworkLink("LAN", 0.2e-3, 1e9)
WAN = NetworkLink("WAN", 40e-3, 1e8)


@dataclass(frozen=True)
class Forecast:
    """What one result of a program will cost.

    Attributes:
        bytes_sent: The payload bytes that each party sends, by role.
        rounds: The number of rounds between the owners.
        work: The ring multiply-adds at an owner.
    """

    bytes_sent: dict[str, int]
    rounds: int
    work: int

    def seconds(self, network: NetworkLink, rate: float) -> float:
        """Return the time by the model of this file, in seconds; `rate` is in ring multiply-adds per second."""
        busiest = max(self.bytes_sent.values())
        return self.rounds * network.latency + 8 * busiest / network.bandwidth + self.work / rate

    def as_dict(self, rate: float) -> dict[str, float]:
        """Return what a record states: bytes by party, rounds, and the seconds of the model on `LAN`."""
        sent = {f"bytes_sent.{party}": count for party, count in self.bytes_sent.items()}
        return {**sent, "rounds": self.rounds, "lan_seconds": self.seconds(LAN, rate)}


@dataclass(frozen=True)
class Rehearsal:
    """What one owner's dry run counted. Each list has one number for each result of the program.

    Attributes:
        bytes_sent: The payload bytes that the owner sends.
        rounds: The rounds for which the owner waits.
        dealt: The bytes that the dealer sends to the owner.
        work: The owner's ring multiply-adds.
    """

    bytes_sent: list[int]
    rounds: list[int]
    dealt: list[int]
    work: list[int]

    @staticmethod
    def of(dry: DrySession, costs: Sequence[Cost]) -> Rehearsal:
        """Make a rehearsal of a dry session in which the program has run.

        Args:
            dry: The dry session, with a mark (`Session.mark`) before and after each result.
            costs: The owner's cost of each result.
        """
        dealt = [after - before for before, after in zip(dry.marks, dry.marks[1:], strict=False)]
        dealt, work = (by_result(counts, len(costs)) for counts in (dealt, _work(dry.script)))
        return Rehearsal([c.bytes_sent for c in costs], [c.rounds for c in costs], dealt, work)


def forecasts(first: Rehearsal, second: Rehearsal) -> list[Forecast]:
    """Return a forecast for each result, from dry runs of the model owner (`first`) and the data owner (`second`)."""
    found = []
    for k in range(len(first.bytes_sent)):
        sent = {MODEL_OWNER: first.bytes_sent[k], DATA_OWNER: second.bytes_sent[k]}
        sent[DEALER] = first.dealt[k] + second.dealt[k]  # it sends the data owner nothing but messages of checks
        found.append(Forecast(sent, max(first.rounds[k], second.rounds[k]), first.work[k]))
    return found


def total(costs: Sequence[Forecast]) -> Forecast:
    """Return the sum of one or more forecasts."""
    sent = {party: sum(each.bytes_sent[party] for each in costs) for party in costs[0].bytes_sent}
    return Forecast(sent, sum(each.rounds for each in costs), sum(each.work for each in costs))


def repeated(one: Forecast, two: Forecast, times: int) -> Forecast:
    """Return the forecast for `times` candidates of one size, from the forecasts for one and for two candidates.

    A candidate is a data set that is appraised. Each further candidate costs as much as the second candidate.
    """

    def more(a: int, b: int) -> int:
        return a + (times - 1) * (b - a)

    sent = {party: more(one.bytes_sent[party], two.bytes_sent[party]) for party in one.bytes_sent}
    return replace(one, bytes_sent=sent, rounds=more(one.rounds, two.rounds), work=more(one.work, two.work))


def rehearse(
    run: Callable[[Session], Sequence[Cost]], role: str, engine: str = "fast", integrity: bool = False
) -> Rehearsal:
    """Run a program dry as the owner `role`, and return what the run counted.

    Args:
        run: The program, which takes a session and returns the cost of each of its results.
        role: 'model_owner' or 'data_owner'.
        engine: The name of the engine.
        integrity: Whether the owners check each other's messages.

    Raises InputError: The engine cannot be run dry, or cannot check messages.
    """
    dry = dry_session(engine, role, integrity)
    return Rehearsal.of(dry, run(dry))


def _work(script: Sequence[Sequence[Any]]) -> list[int]:
    """Return an owner's ring multiply-adds between each mark of the dealer's script and the next mark."""
    shapes: dict[int, Sequence[int]] = {}
    between_marks, work = [], 0
    checked = _Checked()
    for name, *arguments in script:
        if name == "mark":
            between_marks.append(work)
            work = 0
        elif name == "mask":
            shapes[arguments[0]] = arguments[2]
            work += ELEMENT * math.prod(arguments[2])
        elif name == "rows":
            shapes[arguments[0]] = (len(arguments[2]), shapes[arguments[1]][1])
        elif name == "product":  # twice, because one owner also multiplies its own share of a shared factor
            work += 2 * math.prod(shapes[arguments[0]]) * shapes[arguments[1]][1]
        elif name == "open":
            shapes[arguments[0]] = arguments[1]
            work += ELEMENT * math.prod(arguments[1])
        elif name == "compare":
            work += COMPARE * math.prod(shapes[arguments[0]])
        elif name in ("levels", "waves"):  # for each threshold, and for each multiple of an angle
            work += ELEMENT * arguments[1] * math.prod(shapes[arguments[0]])
        elif name == "difference":
            shapes[arguments[0]] = (len(arguments[3]), *shapes[arguments[1]][1:])
        elif name == "wins":
            work += ELEMENT * dealt_rows(arguments[1]) * shapes[arguments[0]][1]
        elif name == "matmul":  # twice, for the opened values and for the masks
            left, right = (math.prod(shapes[key]) for key in arguments[:2])
            work += 2 * left * right // shapes[arguments[0]][0 if arguments[2] else 1]
        elif name == "apply":  # the helper's permutations take two sorts
            work += (SORT + ELEMENT * len(arguments[0])) * math.prod(arguments[1])
        elif name == "check":
            work += CHECK * checked.numbers()
        elif name not in ("forget", "show", "drop_kept"):
            numbers = [math.prod(a) for a in arguments if isinstance(a, (list, tuple))]
            work += ELEMENT * max(numbers, default=0)
        checked.add(name, arguments)
    return between_marks[1:]


class _Checked:
    """Counts the numbers that a check of messages is about: those dealt since the last check, and kept masks."""

    def __init__(self):
        self.kept, self.dealt, self.settled = {}, 0, set()

    def add(self, name: str, arguments: Sequence[Any]) -> None:
        """Count what a request of the script deals."""
        if name in ("mask", "keep"):
            self.kept[arguments[0]] = math.prod(arguments[2 if name == "mask" else 1])
            self.settled |= {arguments[0]} if name == "keep" else set()
        elif name == "free":
            self.kept.pop(arguments[0], None)
        elif name == "drop_kept":  # these are in the next check still
            self.dealt += sum(self.kept.pop(key) for key in self.settled)
            self.settled.clear()
        elif name not in ("rows", "forget", "show", "check", "mark", "apply"):  # a session with a helper has no checks
            numbers = [math.prod(a) for a in arguments if isinstance(a, (list, tuple))]
            self.dealt += max(numbers, default=0)

    def numbers(self) -> int:
        """Return how many numbers these are, and begin to count anew."""
        found, self.dealt = self.dealt + sum(self.kept.values()), 0
        return found


def rate(work: int = 0) -> float:
    """Return the ring multiply-adds per second of one thread of this machine, measured on products as of a gradient.

    `work` is how many a session will compute: a large one uses compiled loops (see `ring.kernels`), a small one torch,
    unless this process has loaded the loops already.
    """
    return _measured_rate(loops(work) is not None)


@lru_cache(maxsize=2)
def _measured_rate(compiled: bool) -> float:
    x, r = torch.ones(2000, 785, dtype=torch.int64), torch.ones(2000, 10, dtype=torch.int64)
    product = Matrix(x).transposed_times if compiled else lambda right: right.t().contiguous() @ x
    product(r)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < CALIBRATION_SECONDS:
        product(r)
        count += 1
    return count * x.numel() * r.shape[1] / (time.perf_counter() - start)
