"""The engine's study compares a run with the check of messages with one without it, turn by turn."""

from __future__ import annotations

from argparse import Namespace

from experiments.studies.engine import integrity
from mpc_appraisal.common.roles import ROLES


class Builds:
    """Builds whose works cost what is stated: without the check the turn's number, with it a multiple."""

    def __init__(self):
        self.asked, self.turn = [], 0

    def do(self, engine, work, checked, **given):
        self.turn += not len(self.asked) % 2
        self.asked.append(checked)
        times = {1: 2.0, 2: 3.0, 3: 7.0}[self.turn] if checked else 1.0
        parties = dict.fromkeys(ROLES, self.turn * times)
        cost = {"seconds": self.turn * times, "bytes": 100 * times, "rounds": 26 if checked else 19}
        return cost | {"cpu_seconds": parties, "peak_bytes": parties, "difference": 0.5 if checked else 0.25}


def test_ratios_are_medians_of_turns_in_alternating_order():
    builds = Builds()
    args = Namespace(small=True, size=500)
    without, checked = integrity.measure(args, False, builds, 3)
    assert builds.asked == [True, False, False, True, True, False]
    assert (without["checked"], without["ratios"], without["more_rounds"]) == (False, None, None)
    assert checked["checked"] and checked["more_rounds"] == 7
    thrice = dict.fromkeys(ROLES, 3.0)
    assert checked["ratios"] == {"seconds": 3.0, "bytes": 3.0, "cpu_seconds": thrice, "peak_bytes": thrice}
    assert (checked["rounds"], without["rounds"], checked["error"]) == (26, 19, 0.5)
    assert "with the check" in checked["work"] and "without the check" in without["work"]
