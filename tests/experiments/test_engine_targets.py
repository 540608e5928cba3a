"""Targets of the engine's second generation are judged as by hand, and so are medians and ratios over turns."""

from __future__ import annotations

import pytest

from experiments.rivals import earlier_build
from experiments.rivals.any_build import cost
from experiments.studies.engine.costs import Measured, cost_of, records
from experiments.studies.engine.targets import AT_LEAST, AT_MOST, TARGETS, lines, verdict_of
from experiments.studies.engine.wan import estimated

ROLES = ("model_owner", "data_owner", "dealer")


def spent(seconds: float, cpu: float, sent: float = 2e6, rounds: int = 12, peak: int = 100_000_000) -> dict:
    return cost(
        seconds, sent, rounds, dict.fromkeys(ROLES, cpu / 3), dict(zip(ROLES, (peak, peak // 2, 0), strict=True))
    )


def test_medians_and_ratios_are_taken_within_a_turn():
    turns = {"fast": [(1.0, 3.0), (9.0, 6.0), (2.0, 3.0)], "baseline": [(4.0, 6.0), (10.0, 24.0), (8.0, 9.0)]}
    measured = [
        Measured(engine, "w", k, spent(*pair, peak=10**6 * (k + 1)), 0.1 * k)
        for engine, pairs in turns.items()
        for k, pair in enumerate(pairs)
    ]
    measured.append(Measured("stock", "w", 0, spent(18.0, 30.0)))
    fast, baseline, stock = records("part", measured, more=7)
    assert (fast["engine"], fast["part"], fast["more"], fast["repeat"], fast["rounds"]) == ("fast", "part", 7, 3, 12)
    assert fast["seconds"] == 2.0 and fast["mb"] == 2.0 and fast["error"] == pytest.approx(0.2)
    assert fast["ratio_to_baseline"] == 0.25  # of 1/4, 9/10 and 2/8
    assert fast["cpu_ratio_to_baseline"] == pytest.approx(1 / 3)  # of 3/6, 6/24 and 3/9
    assert fast["ratio_to_stock"] == 9.0  # stock was measured once: 18/1, 18/9 and 18/2
    assert baseline["ratio_to_baseline"] == baseline["cpu_ratio_to_baseline"] == 1 and stock["ratio_to_stock"] == 1
    assert fast["cpu_seconds"] == pytest.approx(dict.fromkeys(ROLES, 1.0)) and fast["peak_mb"]["model_owner"] == 3.0


def test_a_work_without_a_rival_has_no_ratio_and_plaintext_has_no_parties():
    (row,) = records("part", [Measured("plaintext", "w", 1, cost_of(0.5, {"everybody": 0.4}), 1e-9)])
    assert row["ratio_to_stock"] is row["ratio_to_baseline"] is row["cpu_ratio_to_baseline"] is row["peak_mb"] is None
    assert row["cpu_seconds"] == {"everybody": 0.4} and row["mb"] == row["rounds"] == 0
    assert records("part", []) == []


def row_of(part: str, work: str, engine: str, **more) -> dict:
    row = {"part": part, "work": work, "engine": engine, "seconds": 1.0, "ratio_to_stock": 60.0, "mb": 27.0}
    row |= {"ratio_to_baseline": 0.3, "cpu_ratio_to_baseline": 0.25, "rounds": 13, "error": 6e-7}
    row |= {"cpu_seconds": dict.fromkeys(ROLES, 0.02), "peak_mb": {"model_owner": 60.0, "data_owner": 80.0}}
    return row | more


def judged(rows: list[dict], usual: bool = True) -> dict[tuple[str, str], tuple[str, ...]]:
    return {line[:2]: line[2:] for line in lines(rows, usual)}


def test_targets_are_judged_by_ratio_or_by_number():
    work = "gradient, single"
    rows = [row_of("gradient", work, "fast"), row_of("gradient", work, "baseline", mb=46.9, rounds=20, seconds=4.0)]
    found = judged(rows)
    assert len(found) == len(TARGETS) == 29
    assert found["single gradient", "CPU s of all parties"] == ("0.06000", "0.06000", "0.25 x", "<= 0.30 x", "met")
    assert found["single gradient", "seconds"] == ("4.000", "1.000", "0.30 x", "<= 0.27 x", "missed by 0.030 (11 %)")
    assert found["single gradient", "MB"][-3:] == ("0.58 x", "<= 27", "met")
    assert found["single gradient", "rounds"] == ("20", "13", "0.65 x", "<= 12", "missed by 1.0 (8 %)")
    assert found["single gradient", "error"][-1] == "missed by 1.0e-07 (20 %)"
    assert found["single gradient", "times the speed of stock"][-2:] == (">= 50", "met")
    assert found["make appraise", "seconds"] == ("–", "–", "–", "<= 0.50 x", "not measured")
    assert judged(rows, usual=False)["single gradient", "MB"][-1] == "another size"


def test_targets_of_a_size_are_judged_at_that_size_alone():
    def verdict(part: str, work: str, key: tuple[str, str]) -> str:
        rows = [row_of(part, work, engine) for engine in ("fast", "baseline")]
        rows[1]["peak_mb"] = {"model_owner": 100.0}
        return judged(rows)[key][-1]

    peak = ("a million rows", "peak MB of a party")
    assert (
        verdict("million", "influence, 1 candidate of 1000000 rows, random", peak) == "missed by 0.20 (33 %)"
    )  # 80/100
    assert verdict("million", "influence, 1 candidate of 40000 rows, random", peak) == "another size"
    tuned = ("fine-tuning, 16 steps", "rounds")
    assert verdict("tuning", "finetuning, 1 candidate of 5940 rows of MNIST", tuned) == "met"
    assert verdict("tuning", "finetuning, 1 candidate of 500 rows of digits", tuned) == "another size"
    ten = ("ten candidates by influence", "MB")
    assert verdict("appraisals", "influence, 10 candidates of 5940 rows of MNIST", ten) == "met"
    assert verdict("app", "make appraise", ("make appraise", "seconds")) == "met"
    assert verdict("app", "make appraise, two candidates", ("make appraise", "seconds")) == "another size"


def test_a_goal_that_is_reached_exactly_is_met():
    assert verdict_of(27.0, AT_MOST, 27) == verdict_of(50.0, AT_LEAST, 50) == "met"
    assert verdict_of(40.0, AT_LEAST, 50) == "missed by 10 (20 %)"


def test_the_estimate_far_away_keeps_the_local_work_of_the_estimate_nearby():
    foretold = {"bytes_sent.model_owner": 1e6, "bytes_sent.data_owner": 25e6, "bytes_sent.dealer": 2e6, "rounds": 20}
    nearby = 20 * 0.2e-3 + 8 * 25e6 / 1e9 + 0.125  # 0.2 ms and 1 Gbit/s, and 0.125 s of work
    assert estimated(foretold | {"lan_seconds": nearby}) == pytest.approx(20 * 40e-3 + 8 * 25e6 / 1e8 + 0.125)


def test_a_commit_that_is_not_in_the_history_is_said(tmp_path):
    with pytest.raises(ImportError, match="0123abcd is not in the history of this checkout"):
        earlier_build.extracted(tmp_path, "0123abcd")


def test_a_work_that_fails_says_why():
    build = earlier_build.Build()
    try:
        with pytest.raises(OSError, match="failed at nothing.*KeyError"):
            build.do("nothing")
    finally:
        build.close()
