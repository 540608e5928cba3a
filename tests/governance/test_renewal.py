"""Budgets that renew by a calendar: against pandas' periods, and against a count of all charges by hand."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone

import budget_child as child
import pandas as pd
import pytest
from budget_child import question
from test_accounting import exact_epsilon
from test_ledger import (
    NOON,
    charges,
    lines_of,
    path,  # noqa: F401  a fixture
    reported,
    started,
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget import hash_chain
from mpc_appraisal.governance.budget.calendar import RENEWS, next_start, period_of, start_of
from mpc_appraisal.governance.budget.state import replay, spent, spent_by
from mpc_appraisal.release import Charge, Ledger, LedgerSet, Policy, verify

FREQUENCY = {"daily": "D", "monthly": "M", "quarterly": "Q", "yearly": "Y"}  # of pandas
SECOND = timedelta(seconds=1)
NAMES = {"daily": "2028-02-29", "monthly": "2028-02", "quarterly": "2028-Q1", "yearly": "2028", "never": ""}


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)


class Clock:
    """A clock that shows what a test sets it to."""

    def __init__(self, time: datetime):
        self.time = time

    def __call__(self) -> datetime:
        return self.time


# --- the calendar


def test_the_names_of_periods():
    assert {renews: period_of(renews, utc(2028, 2, 29, 12)) for renews in RENEWS} == NAMES


@pytest.mark.parametrize("renews", FREQUENCY)
def test_the_calendar_is_that_of_pandas(renews):
    """At each day of five years, with a leap day and a year that ends a century, a second before and after midnight."""
    days = [utc(2098, 12, 30) + timedelta(days=k) for k in range(900)] + [
        utc(2027, 1, 1) + timedelta(days=k) for k in range(800)
    ]
    for day in days:
        for time in (day - SECOND, day):
            period = pd.Timestamp(time.replace(tzinfo=None)).to_period(FREQUENCY[renews])
            assert start_of(renews, time).replace(tzinfo=None) == period.start_time
            assert next_start(renews, time).replace(tzinfo=None) == (period + 1).start_time
            assert period_of(renews, time).replace("-Q", "Q") == str(period)


def test_periods_are_those_of_utc():
    berlin = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert period_of("monthly", berlin) == "2026-02" and next_start("monthly", berlin) == utc(2026, 3, 1)
    assert start_of("never", berlin) is next_start("never", berlin) is None
    with pytest.raises(InputError, match="policy.renews: got 'weekly'; expected one of never, daily, monthly"):
        period_of("weekly", berlin)


# --- what renews, and when


@pytest.mark.parametrize(
    ("renews", "last", "first"),
    [
        ("monthly", utc(2026, 1, 31, 23, 59, 59), utc(2026, 2, 1)),
        ("monthly", utc(2028, 2, 29, 23, 59, 59), utc(2028, 3, 1)),
        ("daily", utc(2028, 2, 28, 23, 59, 59), utc(2028, 2, 29)),
        ("daily", utc(2028, 2, 29, 23, 59, 59), utc(2028, 3, 1)),
        ("quarterly", utc(2026, 3, 31, 23, 59, 59), utc(2026, 4, 1)),
        ("quarterly", utc(2026, 12, 31, 23, 59, 59), utc(2027, 1, 1)),
        ("yearly", utc(2027, 12, 31, 23, 59, 59), utc(2028, 1, 1)),
    ],
)
def test_a_budget_renews_with_the_first_second_of_a_period(path, renews, last, first):
    clock = Clock(last)
    ledger = Ledger(path, "seller", Policy(plain_values=2, renews=renews), clock=clock)
    for k in range(2):
        ledger.charge(question(f"before {k}"))
    with pytest.raises(InputError, match=rf"plain_values: got 3; .* at most 2 .* in each period \({renews}\)"):
        ledger.charge(question("too many"))
    clock.time = first
    assert ledger.consult([question("too many")]) == [None]
    for k in range(2):
        assert isinstance(ledger.charge(question(f"after {k}")), Charge)
    with pytest.raises(InputError, match="plain_values: got 3"):
        ledger.charge(question("too many"))
    assert len(verify(path).accounts["acme"].charges) == 4 and len(lines_of(path)) == 5


def test_without_a_stated_calendar_a_budget_never_renews(path):
    clock = Clock(NOON)
    ledger = Ledger(path, "seller", Policy(plain_values=1), clock=clock)
    ledger.charge(question("first"))
    clock.time = utc(2126, 1, 1)
    with pytest.raises(InputError, match="at most 1 values without noise for acme$"):
        ledger.charge(question("second"))


def test_an_answer_of_an_earlier_period_stays_free(path):
    clock = Clock(NOON)
    ledger = Ledger(path, "seller", Policy(plain_values=1, renews="daily"), clock=clock)
    ledger.settle(ledger.charge(question("asked")), 0.5)
    clock.time += timedelta(days=1)
    assert ledger.charge(question("asked")).value == 0.5
    assert isinstance(ledger.charge(question("new")), Charge)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("renews", ["daily", "monthly", "quarterly", "never"])
def test_no_order_of_times_gives_more_than_a_count_by_hand(path, renews, seed):
    """The clock jumps to and fro. By hand, a time is the latest so far, and pandas says which periods are the same."""
    chance = random.Random(seed)
    clock = Clock(NOON)
    ledger = Ledger(path, "seller", Policy(plain_values=2, renews=renews, lifetime_plain_values=25), clock=clock)
    latest, granted = pd.Timestamp(NOON.replace(tzinfo=None)), []
    for k in range(60):
        clock.time += timedelta(hours=chance.choice([-800, -20, 0, 1, 7, 30, 900, 2000]))
        time = max(latest, pd.Timestamp(clock.time.replace(tzinfo=None)))
        period = "all" if renews == "never" else time.to_period(FREQUENCY[renews])
        if granted.count(period) < 2 and len(granted) < 25:
            ledger.charge(question(f"{k}"))
            granted.append(period)
            latest = time  # only a line that was written is remembered
        else:
            with pytest.raises(InputError, match="budget.plain_values"):
                ledger.charge(question(f"{k}"))
    assert len(verify(path).accounts["acme"].charges) == len(granted)
    assert len(granted) == 2 if renews == "never" else len(set(granted)) > 3


def test_a_clock_that_is_set_back_gives_nothing_back(path):
    clock = Clock(utc(2026, 1, 31, 12))
    ledger = Ledger(path, "seller", Policy(plain_values=1, renews="monthly"), clock=clock)
    ledger.charge(question("january"))
    clock.time = utc(2026, 2, 1, 12)
    ledger.charge(question("february"))
    for back in (utc(2026, 1, 15), utc(2025, 12, 31), utc(2020, 1, 1), utc(2026, 2, 28)):
        clock.time = back
        with pytest.raises(InputError, match="plain_values"):
            ledger.charge(question(f"at {back}"))
        assert spent_by(replay(path).at(back), "acme").period == "2026-02"


# --- epsilon


def test_epsilon_counts_by_the_period_and_adds_up_over_all(path):
    clock = Clock(utc(2026, 1, 5))
    ledger = Ledger(path, "seller", Policy(epsilon=1.2, renews="monthly"), clock=clock)
    ledger.charge(question("january", sigma=5.0))
    clock.time = utc(2026, 2, 5)
    for k in range(2):
        ledger.charge(question(f"february {k}", sigma=6.0))
    with pytest.raises(InputError, match=r"budget.epsilon: .* at most 1.2 at delta 1e-06 for acme in each period"):
        ledger.charge(question("too much", sigma=4.0))
    row = spent_by(verify(path).at(clock()), "acme")
    assert row.epsilon == pytest.approx(exact_epsilon([6.0, 6.0], [], 1e-6), abs=1e-3)
    assert row.epsilon_total == pytest.approx(exact_epsilon([5.0, 6.0, 6.0], [], 1e-6), abs=1e-3)
    assert row.epsilon < 1.2 < row.epsilon_total and row.epsilon_left == pytest.approx(1.2 - row.epsilon)
    assert (row.period, row.renews_at, row.renews) == ("2026-02", utc(2026, 3, 1), "monthly")
    later = spent_by(verify(path).at(utc(2026, 3, 1)), "acme")
    assert (later.epsilon, later.epsilon_left, later.period) == (0.0, 1.2, "2026-03")
    assert later.epsilon_total == row.epsilon_total


def test_a_limit_over_all_periods_never_renews(path):
    clock = Clock(utc(2026, 1, 5))
    policy = Policy(epsilon=1.5, plain_values=2, renews="daily", lifetime_epsilon=2.0, lifetime_plain_values=3)
    ledger = Ledger(path, "seller", policy, clock=clock)
    granted, refused = [], []
    for k in range(6):
        clock.time += timedelta(days=1)
        for kept, asked in ((granted, question(f"noised {k}", sigma=4.0)), (granted, question(f"plain {k}"))):
            try:
                kept.append(ledger.charge(asked).question.subject)
            except InputError as error:
                refused.append((error.name, "over all periods" in error.expected))
    most = max(k for k in range(1, 9) if exact_epsilon([4.0] * k, [], 1e-6) <= 2.0)
    assert [s.split()[0] for s in granted].count("noised") == most < 6 and "plain 3" not in granted
    assert {*refused} == {("budget.epsilon", True), ("budget.plain_values", True)}
    row = spent_by(verify(path).at(clock() + timedelta(days=9)), "acme")
    assert row.plain == 0 and row.plain_left == 0 and row.plain_total == 3 and row.epsilon == 0.0
    assert row.epsilon_left == pytest.approx(2.0 - row.epsilon_total) and row.epsilon_left < 1.5


def test_a_charge_beyond_the_limits_of_an_earlier_period_is_named(path):
    """As another program might have left it: sealed and chained, but the first period holds too much."""
    clock = Clock(utc(2026, 1, 5))
    ledger = Ledger(path, "seller", Policy(epsilon=1.0, renews="monthly"), clock=clock)
    ledger.charge(question("fair", sigma=10.0))
    asked = question("too much", sigma=0.5)
    entry = {"kind": "charge", "time": clock().isoformat(), **asdict(asked), "question": asked.digest}
    with hash_chain.locked(path):
        hash_chain.append(path, hash_chain.read(path), entry)
    clock.time = utc(2026, 2, 5)
    ledger.charge(question("february", sigma=10.0))
    with pytest.raises(InputError, match="line 3: got epsilon"):
        verify(path)


@pytest.mark.parametrize("time", ["now", "2026-01-01T12:00:00", None, 5])
def test_a_line_without_a_time_is_named(path, time):
    Ledger(path, "seller")
    asked = question("asked")
    with hash_chain.locked(path):
        entry = {"kind": "charge", "time": time, **asdict(asked), "question": asked.digest}
        hash_chain.append(path, hash_chain.read(path), entry)
    with pytest.raises(InputError, match="line 2: got time .*; expected a time with its zone"):
        replay(path)


def test_two_names_of_one_key_were_allowed_what_each_was_allowed_before(path):
    """Each of two names has spent most of January. In February it turns out that both are of one key."""
    clock = Clock(utc(2026, 1, 5))
    ledger = Ledger(path, "seller", Policy(epsilon=0.9, renews="monthly"), clock=clock)
    ledger.charge_all([question("one", "acme", sigma=6.0)], "a" * 64)
    ledger.charge_all([question("two", "bolt", sigma=6.0)])
    clock.time = utc(2026, 2, 5)
    ledger.charge_all([question("three", "bolt", sigma=6.0)], "a" * 64)
    (row,) = spent(verify(path).at(clock()))
    assert row.epsilon < 0.9 < row.epsilon_total == pytest.approx(exact_epsilon([6.0] * 3, [], 1e-6), abs=1e-3)
    with pytest.raises(InputError, match="budget.epsilon"):  # what one name has spent counts for both
        ledger.charge(question("four", "acme", sigma=6.0))


# --- changes of the policy


def test_a_ledger_without_renewal_renews_from_the_next_period_on(path):
    clock = Clock(utc(2026, 1, 5))
    ledger = Ledger(path, "seller", Policy(plain_values=2), clock=clock)
    for k in range(2):
        ledger.charge(question(f"old {k}"))
    clock.time = utc(2026, 3, 20)
    ledger.amend(renews="monthly")
    entry = json.loads(lines_of(path)[-1])
    assert entry["kind"] == "policy" and entry["policy"]["renews"] == "monthly" and entry["time"][:10] == "2026-03-20"
    clock.time = utc(2026, 3, 31, 23, 59, 59)
    with pytest.raises(InputError, match="plain_values"):  # the change itself gives nothing back
        ledger.charge(question("march"))
    clock.time = utc(2026, 4, 1)
    for k in range(2):
        ledger.charge(question(f"april {k}"))
    ledger.amend(renews="never")
    with pytest.raises(InputError, match="got 5; expected at most 2"):  # all periods count again
        ledger.charge(question("never"))
    ledger.amend(renews="daily")
    clock.time = utc(2026, 4, 2)
    assert isinstance(ledger.charge(question("a day later")), Charge)
    assert len(verify(path).accounts["acme"].charges) == 5


def test_a_longer_period_counts_what_its_own_days_have_spent(path):
    clock = Clock(utc(2026, 3, 31))
    ledger = Ledger(path, "seller", Policy(plain_values=3, renews="daily"), clock=clock)
    ledger.charge(question("march"))
    for day in (1, 2):
        clock.time = utc(2026, 4, day)
        ledger.charge(question(f"april {day}"))
    ledger.amend(renews="monthly")
    ledger.charge(question("the third of april"))
    with pytest.raises(InputError, match="got 4; expected at most 3"):
        ledger.charge(question("the fourth of april"))
    assert spent_by(replay(path), "acme").plain == 3


def test_a_new_ledger_without_renewal_is_written_as_ever(path):
    """The first versions wrote these four limits, and read no others."""
    Ledger(path, "seller", Policy(epsilon=2.0))
    policy = json.loads(lines_of(path)[0])["policy"]
    assert policy == {"epsilon": 2.0, "delta": 1e-06, "minimum_rows": 100, "plain_values": 20}
    Ledger(path).amend(renews="yearly", lifetime_epsilon=9.0)
    policy |= {"renews": "yearly", "lifetime_epsilon": 9.0}
    assert json.loads(lines_of(path)[1])["policy"] == policy
    assert verify(path).policy == Policy(epsilon=2.0, renews="yearly", lifetime_epsilon=9.0)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"renews": "weekly"}, "policy.renews: got 'weekly'"),
        ({"renews": 3}, "policy.renews: got 3"),
        ({"lifetime_epsilon": 0.5}, "policy.lifetime_epsilon: got 0.5; expected none, or a number from epsilon = 1 on"),
        ({"lifetime_plain_values": 19}, "policy.lifetime_plain_values: got 19; expected none, or a whole number from"),
        ({"lifetime_plain_values": 2.5}, "policy.lifetime_plain_values: got 2.5"),
    ],
)
def test_what_is_no_renewal(stated, message):
    with pytest.raises(InputError, match=message):
        Policy(**stated)


def test_a_policy_file_states_a_renewal(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("renews: quarterly\nepsilon: 0.5\nlifetime_epsilon: 4\nlifetime_plain_values: null\n")
    assert Policy.read(file) == Policy(epsilon=0.5, renews="quarterly", lifetime_epsilon=4.0)
    file.write_text("renews: [monthly]\n")
    with pytest.raises(InputError, match="policy.renews: got 'a list'"):
        Policy.read(file)


# --- processes


@pytest.mark.parametrize("sigma", [None, 6.0])
def test_processes_at_once_share_the_renewed_budget(path, sigma):
    """Two processes ask at the last second of January, then two at the first of February, one with a clock behind."""
    policy = Policy(epsilon=2.0, plain_values=20, renews="monthly")
    Ledger(path, "seller", policy, clock=Clock(NOON))
    most = 20 if sigma is None else max(k for k in range(1, 40) if exact_epsilon([sigma] * k, [], 1e-6) <= 2.0)
    for part, times in enumerate([(utc(2026, 1, 31, 23, 59, 59),) * 2, (utc(2026, 2, 1), utc(2026, 2, 1) - SECOND)]):
        running = [started(child.charge_at, path, f"{part} {k}", Clock(time), sigma) for k, time in enumerate(times)]
        said = [line for _, reader in running for line in reported(reader)]
        for process, _ in running:
            process.join()
            assert process.exitcode == 0
        assert len([line for line in said if line[0] == "refused"]) == 2
        found = charges(path)
        assert {tuple(line) for line in said if line[0] != "refused"} <= set(found)
        assert len([subject for _, _, subject in found if subject.split()[0] == str(part)]) == most
    assert spent_by(verify(path), "acme").period == "2026-02"


@pytest.mark.parametrize("manner", ["before", "after", "half"])
def test_a_run_that_is_killed_at_a_renewal_loses_no_charge(tmp_path, manner):
    """The first charge of a new period is killed at every system call; whatever was granted or written counts there."""
    for stop in range(1, 24):
        file = tmp_path / f"{stop}.ledger"
        clock = Clock(utc(2026, 1, 31))
        ledger = Ledger(file, "seller", Policy(plain_values=2, renews="monthly"), clock=clock)
        ledger.charge(question("january"))
        clock.time = utc(2026, 2, 1)
        process, reader = started(child.stopped_at, file, stop, manner, 1, clock)
        granted = {tuple(one) for one in reported(reader) if one != ["ended"]}
        process.join()
        assert granted <= set(charges(file))
        kept = len(charges(file)) - 1  # of the killed run: 0 or 1
        for k in range(2 - kept):
            ledger.charge(question(f"february {k}"))
        with pytest.raises(InputError, match="plain_values"):
            ledger.charge(question("too many"))
        assert len(verify(file).accounts["acme"].charges) == 3


# --- records


def test_what_is_left_states_the_period(path, monkeypatch):
    ledgers = LedgerSet.open("acme", {"seller": (path, "seller")}, Policy(epsilon=1.0, renews="monthly"))
    monkeypatch.setattr(ledgers.ledgers["seller"], "_clock", Clock(utc(2096, 2, 29)))
    ledgers.charge({("influence", "seller"): question("noised", sigma=6.0)})
    left = ledgers.left("seller")
    assert left["period"] == "2096-02" and left["renews_at"] == "2096-03-01T00:00:00+00:00"
    assert left["epsilon"] == left["epsilon_total"] and left["plain_total"] == 0 and left["renews"] == "monthly"
    never = LedgerSet.open("acme", {"other": (path.with_name("other.ledger"), "other")}).left("other")
    assert not {"period", "renews", "renews_at", "epsilon_total", "plain_total"} & set(never)


def test_a_policy_is_compared_with_its_renewal(path):
    Ledger(path, "seller", Policy(renews="monthly"))
    with pytest.raises(InputError, match="ledger.policy: got renews=never; expected renews=monthly, which is in force"):
        Ledger(path, "seller", Policy())
    assert replace(verify(path).policy, renews="never") == Policy()
