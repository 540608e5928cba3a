"""The rounds and bytes that tables and sentences state are those of a dry run today."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols import comparison, softmax
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.log_softmax import log_softmax
from mpc_appraisal.mpc.protocols.maximum import maximum
from mpc_appraisal.mpc.protocols.unbounded_softmax import unbounded_log_softmax, unbounded_softmax
from mpc_appraisal.mpc.ring.prg import DryStream
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

PAGE = (Path(__file__).parents[2] / "docs" / "protocols" / "engine.md").read_text()
ROWS, BITS, SPREAD = 2000, 36, 4096.0


def cost(compute: Callable[[Engine, Any], Any], classes: int = 10, rows: int = ROWS) -> tuple[int, int, int]:
    """The rounds, and as whole numbers the bytes that all parties send an entry and that an owner sends a row."""
    channel = DryChannel(Meter())
    compute(Engine(0, channel, Engine.streams_of(None), DryStream(), dry=True), shape_tensor((rows, classes)))
    sent = channel.meter.bytes_sent
    return channel.meter.rounds, round((2 * sent + channel.dealt) / (rows * classes)), round(sent / rows)


def cells(text: str, header: str) -> list[list[str]]:
    """The rows of the table of a text whose first line begins with `header`, without that line."""
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def bounded(bound: float, classes: int = 10) -> tuple[int, int]:
    return cost(lambda e, z: softmax.softmax(e, z, BITS, bound), classes)[:2]


def test_the_costs_in_the_docstring_of_the_softmax():
    stated = {}
    for row in cells(softmax.__doc__, "| B at most"):
        bounds, *found = (re.findall(r"[\d.]+", cell) for cell in row)
        stated |= {float(b): tuple(map(int, f)) for b, *f in zip(bounds, *found, strict=True)}
    assert len(stated) == 7 and stated == {bound: bounded(bound) for bound in stated}


def test_the_costs_of_a_softmax_with_a_bound_on_the_page():
    stated = {float(row[0]): (int(row[2]), int(row[4])) for row in cells(PAGE, "| bound |")}
    assert len(stated) == 6 and stated == {bound: bounded(bound) for bound in stated}
    rounds, more = re.search(r"the rounds from 46 to (\d+), and the bytes rose from 238 to (\d+)", PAGE).groups()
    assert (int(rounds), int(more)) == bounded(256.0, 256)
    assert int(re.search(r"they fell from 296 to (\d+)", PAGE)[1]) == bounded(16.0, 2)[1]
    found = re.search(r"(\d+) rounds and (\d+) bytes an\s+entry at \$B = 16\$", PAGE).groups()
    assert tuple(map(int, found)) == cost(lambda e, z: log_softmax(e, z, BITS, 16.0))[:2]


def test_the_costs_of_a_softmax_without_a_bound_on_the_page():
    table = cells(PAGE, "| classes |")
    assert len(table) == 5
    for row in table:
        function = unbounded_log_softmax if "logarithm" in row[0] else unbounded_softmax
        found = cost(lambda e, z, f=function: f(e, z, BITS, SPREAD), int(row[0].split(",")[0]))
        assert (int(row[2]), int(row[4])) == found[:2], row


@pytest.mark.parametrize("bits", [24, 64])
def test_the_costs_of_a_maximum_and_a_relu_on_the_page(bits):
    words = {"six": 6, "eight": 8}
    six, sent = re.search(r"(\w+) rounds and (\d+) bytes a row from each owner in 24 bits", PAGE).groups()
    eight = re.search(r"In 64 bits, where a comparison takes a round more, they take\s+(\w+) rounds", PAGE)[1]
    rounds, _, mine = cost(lambda e, z: maximum(e, z, bits))
    assert rounds == words[six if bits == 24 else eight] and (bits == 64 or mine == int(sent))
    found = re.search(r"truncated to 16, takes (\d+) bytes a value for all parties, (\d+) rounds", PAGE).groups()
    assert tuple(map(int, reversed(found))) == cost(lambda e, z: comparison.relu(e, z, 18), 32, 209_280 // 32)[:2]
