"""What the check of messages costs: foretold from sizes, as a command and against a run between real processes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from test_cost import command

from mpc_appraisal import appraise
from mpc_appraisal.appraisal import covered
from mpc_appraisal.appraisal.cost import estimate, table
from mpc_appraisal.appraisal.covered import Coverage
from mpc_appraisal.appraisal.plan import HELD_ROWS
from mpc_appraisal.appraisal.sessions import Spawn
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import INTEGRITY, TRUST_CHECKED
from mpc_appraisal.data import Digits, Resolution
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.mpc.backends.cost_model import CHECK, LAN, _work, rehearse
from mpc_appraisal.release import Bit

METHODS = (GradientNorm(), Influence())
FACTS = Facts(12, 3, 30, 20, 40, 1e-2)
SIZES = ("rows=50", "features=64", "train_rows=100", "test_rows=40", "session.logit_bound=12")
SAID = (
    r"influence: the check of all messages \(session.integrity=on\) adds (\d+) rounds to (\d+) and (\S+) MB to "
    r"(\S+) MB, all parties together, by two dry runs\."
)
MNIST = replace(Facts(784, 10, 600, 10_000, 5940, 1e-2), resolution=Resolution(255, 8))


@pytest.fixture(scope="module")
def result():
    market = LabelNoise(train_size=100, candidates=2, size=50, test_size=40).build(*Digits().load(), seed=0)
    sides = {"train": market.train, "test": market.test, "method": list(METHODS)}
    return appraise(market.candidates, **sides, session=Spawn(integrity="on"))


def test_a_checked_run_costs_what_was_foretold(result):
    assert len(result) == 4
    for record in result:
        assert record.estimate["rounds"] == record.rounds
        for party in ROLES:
            assert record.estimate[f"bytes_sent.{party}"] == record.bytes_sent[party], (record.method, party)


def test_a_checked_run_has_the_values_and_says_that_it_was_checked(result):
    for record in result:
        assert abs(record.difference) <= record.error_bound
        assert record.integrity and record.settings[INTEGRITY] == "on" and record.trust == TRUST_CHECKED
        assert sum(opening["numbers"] for opening in record.openings) == 1


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_check_adds_bytes_of_all_parties_and_rounds(method):
    on, off = (estimate([method], FACTS, 1, 12.0, integrity=each) for each in (True, False))
    assert on.rounds > off.rounds and on.work > off.work
    assert all(on.bytes_sent[party] > off.bytes_sent[party] for party in (MODEL_OWNER, DATA_OWNER, DEALER))


def test_an_mnist_candidate_stays_within_the_target():
    """The target of the project: 1.2 times the bytes and 12 rounds more at most."""
    on, off = (estimate([Influence()], MNIST, 1, 16.0, auto=True, integrity=each) for each in (True, False))
    assert sum(on.bytes_sent.values()) <= 1.2 * sum(off.bytes_sent.values())
    assert on.rounds <= off.rounds + 12


def test_work_counts_what_is_dealt_since_the_last_check_and_masks_that_are_kept():
    script = [["mark"], ["mask", 1, 0, [5, 4]], ["mul", [3]], ["check", [64]], ["show", 7, [0, 1]], ["mark"]]
    again = [*script, ["mul", [2]], ["check", [40, 64]], ["free", 1], ["check", [1]], ["mark"]]

    def checks(script: list) -> list[int]:
        without = [each for each in script if each[0] not in ("check", "show")]
        found = [(a - b) / CHECK for a, b in zip(_work(script), _work(without), strict=True)]
        assert all(each == int(each) for each in found)
        return found

    assert checks(script) == [20 + 3]
    assert checks(again) == [20 + 3, 20 + 2 + 0]
    assert checks([["mark"], ["apply", ["exp", "relu"], [3, 4], 16], ["mark"]]) == [0]  # of a helper, without checks
    kept = [["mark"], ["keep", 4, [6]], ["check", [64]], ["mul", [2]], ["drop_kept"], ["check", [64]], ["check", [64]]]
    assert checks([*kept, ["mark"]]) == [6 + (6 + 2)]


def test_the_command_says_what_the_check_adds(monkeypatch, capsys):
    facts = Facts(64, 10, 100, 40, 50, 1e-2)
    on, off = (estimate([Influence()], facts, 2, 12.0, integrity=each) for each in (True, False))
    for word in ("on", "true"):
        out = command(monkeypatch, capsys, "appraisal=influence", f"{INTEGRITY}={word}", *SIZES, "candidates=2")
        (row,) = [line.split() for line in out.splitlines() if line.strip().startswith("influence  ")]
        assert int(row[1]) == on.rounds
        assert float(row[3]) == pytest.approx(on.bytes_sent[DATA_OWNER] / 1e6, rel=1e-3)
        said = re.search(SAID, " ".join(out.split()))
        assert (int(said[1]), int(said[2])) == (on.rounds - off.rounds, off.rounds)
        before = sum(off.bytes_sent.values()) / 1e6
        assert float(said[4]) == pytest.approx(before, rel=1e-2)
        assert float(said[3]) == pytest.approx(sum(on.bytes_sent.values()) / 1e6 - before, rel=1e-2)


def test_the_table_says_it_of_each_method_and_of_all_together():
    notes = table(METHODS, FACTS, 1, 12.0, [LAN], integrity=True).notes
    found = [match[1] for note in notes if (match := re.match(f"(.*): the check{SAID.partition('check')[2]}", note))]
    assert found == ["gradient_norm", "influence", "all in one session"]
    assert not any("the check of all messages" in note for note in table(METHODS, FACTS, 1, 12.0, [LAN]).notes)


def test_without_the_check_the_command_says_what_it_said(monkeypatch, capsys):
    plain = command(monkeypatch, capsys, "appraisal=influence", *SIZES)
    assert "check of all messages" not in plain
    off = command(monkeypatch, capsys, "appraisal=influence", f"{INTEGRITY}=off", *SIZES)
    assert "check of all messages" not in off


def test_what_is_not_covered_has_no_estimate(monkeypatch, capsys):
    monkeypatch.setattr(covered, "COVERED", Coverage(("fast",), (Influence, GradientNorm), ("value",), HELD_ROWS))
    for methods, options in (([Finetuning()], {}), (METHODS, {"release": Bit()}), (METHODS, {"engine": "rtas"})):
        with pytest.raises(InputError, match=f"^{INTEGRITY}: got on with "):
            estimate(methods, FACTS, 1, 12.0, integrity=True, **options)
    with pytest.raises(InputError, match=f"^{INTEGRITY}: got on with the 40000 rows of 'candidate 0'"):
        estimate(METHODS, replace(FACTS, rows=40_000), 1, 12.0, integrity=True)
    with pytest.raises(InputError, match=f"^{INTEGRITY}: got on with session.engine=rtas"):
        rehearse(lambda dry: [], MODEL_OWNER, "rtas", integrity=True)
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, capsys, "appraisal=finetuning", f"{INTEGRITY}=on", *SIZES)
    assert end.value.code == 2 and f"{INTEGRITY}: got on with appraisal=finetuning" in capsys.readouterr().err
