"""The study of relays: its medians and ratios from rows, its estimate, and a page that states what the rows state."""

from __future__ import annotations

import json

import pytest

from experiments.studies.relay.sessions import Load, Way, estimated, greeting_bytes
from experiments.studies.relay.study import DIRECT, RELAY, STUDY, WAYS, loopback, wide
from mpc_appraisal.mpc.backends.cost_model import LAN, Forecast, NetworkLink

LOAD = "60 rows, 16 features, 4 classes"


def row(turn: int, way: Way, seconds: float, **changes) -> dict:
    return {
        "part": "sessions", "turn": turn, "load": LOAD, "way": way.name, "delay_ms": way.delay_ms, "mbit": way.mbit,
        "seconds": seconds, "wall": 10.0, "bytes": 1000, "forwarded": 2000 if way.relay else None, "rounds": 12,
        "estimated": 2.0 if way.network else None, "value": 0.25,
    } | changes  # fmt: skip


def rows() -> list[dict]:
    seconds = {DIRECT: (1.0, 2.0, 4.0), RELAY: (1.5, 2.0, 5.0)}
    return [row(turn, way, seconds.get(way.name, (3.0, 3.0, 3.0))[turn]) for turn in range(3) for way in WAYS]


def test_ratios_are_taken_turn_by_turn():
    found = loopback(rows()[::-1], LOAD, {"greeting_bytes": 10})
    assert (found["direct"], found["relay"], found["times"]) == (2.0, 2.0, 1.25)
    assert (found["least"], found["most"], found["more"]) == (1.0, 1.5, 10 / 2000)
    assert found["payload_alike"] and found["values_alike"]
    other = [row(3, WAYS[0], 1.0, bytes=1001), row(3, WAYS[1], 1.0, value=0.26)]
    found = loopback(rows() + other, LOAD, {"greeting_bytes": 10})
    assert not found["payload_alike"] and not found["values_alike"]


def test_each_network_is_compared_with_its_estimate():
    assert [line["way"] for line in wide(rows(), LOAD)] == [way.name for way in WAYS if way.network]
    assert {(line["estimated"], line["measured"], line["times"]) for line in wide(rows(), LOAD)} == {(2.0, 3.0, 1.5)}


def test_the_estimate_is_that_of_the_cost_model():
    forecast, rate = Forecast({"model_owner": 10**6, "dealer": 3 * 10**6}, 40, 10**9), 2e9
    for network in (NetworkLink("far", 0.02, 1e8), LAN):
        assert estimated(forecast.as_dict(rate), network) == pytest.approx(forecast.seconds(network, rate))


def test_the_page_states_what_the_rows_state(tmp_path):
    about = {"part": "about", "size": "small", "greeting_bytes": greeting_bytes()}
    about |= {"machine": "a machine, 2 cores", "versions": {}, "revision": None, "command": "a command"}
    (tmp_path / "relay.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [about, *rows()]))
    (page,) = STUDY.render(tmp_path)
    (_, near, *_, far) = page.main  # the first one is in short
    assert near.rows[0] == (LOAD, "2.00", "2.00", "1.25", "1.00 to 1.50", "1.00")
    assert far.rows[0] == (LOAD, "20 ms, 100 Mbit/s", "12", "2.00", "3.00", "1.50")
    assert "the payload was the same in all runs" in page.text and f"met for {LOAD}" in page.text
    assert "a machine, 2 cores" in page.text


def test_loads_are_stated_in_words():
    assert Load(2000, 784, 10).words == "2,000 rows, 784 features, 10 classes"
