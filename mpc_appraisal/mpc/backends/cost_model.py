"""What a program will cost, from shapes alone: bytes, rounds and local work of a dry run, and time by a stated model.

Bytes and rounds are exact: the dry run is the program itself. Time is a model,

    seconds = rounds * latency + 8 * bytes of the busiest party / bandwidth + work / rate,

in which both directions of a link carry at once, nothing of the network overlaps with local work, and one dealer serves
both owners. Local work is counted in ring multiply-adds, whose rate is measured here, on this machine, in a tenth of a
second; all that is no product (masks, encoding, elementwise steps) counts as ELEMENT multiply-adds a number.
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
from mpc_appraisal.mpc.session import Session

ELEMENT = 40  # ring multiply-adds that a masked, drawn or opened number takes in time
SORT = 4 * ELEMENT  # the same of a number that is permuted, for the helper
CALIBRATION_SECONDS = 0.1


@dataclass(frozen=True)
class NetworkLink:
    """latency: seconds one way; bandwidth: bits a second, each way."""

    name: str
    latency: float
    bandwidth: float


LAN = NetworkLink("LAN", 0.2e-3, 1e9)
WAN = NetworkLink("WAN", 40e-3, 1e8)


@dataclass(frozen=True)
class Forecast:
    """bytes_sent by party, rounds, and work: ring multiply-adds at an owner."""

    bytes_sent: dict[str, int]
    rounds: int
    work: int

    def seconds(self, network: NetworkLink, rate: float) -> float:
        """By the model above; rate: ring multiply-adds a second."""
        busiest = max(self.bytes_sent.values())
        return self.rounds * network.latency + 8 * busiest / network.bandwidth + self.work / rate

    def as_dict(self, rate: float) -> dict[str, float]:
        """As a record states it: bytes by party, rounds, and the model's seconds on the LAN of this file."""
        sent = {f"bytes_sent.{party}": count for party, count in self.bytes_sent.items()}
        return {**sent, "rounds": self.rounds, "lan_seconds": self.seconds(LAN, rate)}


@dataclass(frozen=True)
class Rehearsal:
    """One owner's dry run, by the results of the program: its own bytes and rounds, the dealer's bytes, the work."""

    bytes_sent: list[int]
    rounds: list[int]
    dealt: list[int]
    work: list[int]

    @staticmethod
    def of(dry: DrySession, costs: Sequence[Cost]) -> Rehearsal:
        """dry: a session in which the program has run, with a mark before and after each result; costs: by result."""
        dealt = [after - before for before, after in zip(dry.marks, dry.marks[1:], strict=False)]
        dealt, work = (by_result(counts, len(costs)) for counts in (dealt, _work(dry.script)))
        return Rehearsal([c.bytes_sent for c in costs], [c.rounds for c in costs], dealt, work)


def forecasts(first: Rehearsal, second: Rehearsal) -> list[Forecast]:
    """By result, of the model owner's and the data owner's dry runs."""
    return [
        Forecast(
            {MODEL_OWNER: first.bytes_sent[k], DATA_OWNER: second.bytes_sent[k], DEALER: first.dealt[k]},
            max(first.rounds[k], second.rounds[k]),
            first.work[k],
        )
        for k in range(len(first.bytes_sent))
    ]


def total(parts: Sequence[Forecast]) -> Forecast:
    """The sum of some forecasts."""
    sent = {party: sum(part.bytes_sent[party] for part in parts) for party in parts[0].bytes_sent}
    return Forecast(sent, sum(part.rounds for part in parts), sum(part.work for part in parts))


def repeated(one: Forecast, two: Forecast, times: int) -> Forecast:
    """`times` candidates of one size, from one and from two: each further one costs what the second does."""

    def more(a: int, b: int) -> int:
        return a + (times - 1) * (b - a)

    sent = {party: more(one.bytes_sent[party], two.bytes_sent[party]) for party in one.bytes_sent}
    return replace(one, bytes_sent=sent, rounds=more(one.rounds, two.rounds), work=more(one.work, two.work))


def rehearse(run: Callable[[Session], Sequence[Cost]], role: str, engine: str = "fast") -> Rehearsal:
    """Run a program dry; `run` returns the cost of each of its results."""
    dry = dry_session(engine, role)
    return Rehearsal.of(dry, run(dry))


def _work(script: Sequence[Sequence[Any]]) -> list[int]:
    """An owner's ring multiply-adds between one mark of the dealer's script and the next."""
    shapes: dict[int, Sequence[int]] = {}
    parts, work = [], 0
    for name, *arguments in script:
        if name == "mark":
            parts.append(work)
            work = 0
        elif name == "mask":
            shapes[arguments[0]] = arguments[2]
            work += ELEMENT * math.prod(arguments[2])
        elif name == "rows":
            shapes[arguments[0]] = (len(arguments[2]), shapes[arguments[1]][1])
        elif name == "product":  # twice: one owner multiplies its own part of a shared factor too
            work += 2 * math.prod(shapes[arguments[0]]) * shapes[arguments[1]][1]
        elif name == "apply":  # two sorts, of which each number takes as long as a few that are masked
            work += (SORT + ELEMENT * len(arguments[0])) * math.prod(arguments[1])
        elif name != "forget":
            numbers = [math.prod(a) for a in arguments if isinstance(a, (list, tuple))]
            work += ELEMENT * max(numbers, default=0)
    return parts[1:]


@lru_cache(maxsize=1)
def rate() -> float:
    """Ring multiply-adds a second of one thread of this machine, on products of a gradient's kind."""
    x, r = torch.ones(2000, 785, dtype=torch.int64), torch.ones(10, 2000, dtype=torch.int64)
    r @ x
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < CALIBRATION_SECONDS:
        r @ x
        count += 1
    return count * x.numel() * len(r) / (time.perf_counter() - start)
