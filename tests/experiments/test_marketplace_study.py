"""The marketplace's study, small: it goes on where it stopped, and its page is made of the records alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from experiments.harness.jobs import Job
from experiments.harness.size import Size
from experiments.studies.marketplace.selection import Selections
from experiments.studies.marketplace.study import STUDY
from experiments.studies.marketplace.validation import Trials
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.buying.selection import STRATEGIES

ROOT = Path(__file__).resolve().parents[2]


def run(out: Path, *arguments: str, code: int = 0) -> str:
    """Run the study, and return what it prints; if it fails as `code` expects, its errors."""
    env = {k: v for k, v in os.environ.items() if k != "MPC_APPRAISAL_DATA"} | {"OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "experiments", "marketplace", "--small", "--seeds", "1", "--out", str(out)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=3600, env=env, cwd=out)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr if code else done.stdout


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "marketplace.jsonl").read_text().splitlines()]


def rewrite(folder: Path, rows: list[dict]) -> None:
    (folder / "marketplace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Validation alone, then selection in the same work folder; costs and leaks have tests of their own."""
    out, work = tmp_path_factory.mktemp("marketplace"), tmp_path_factory.mktemp("work")
    first = run(out, "--work", str(work), "--only", "validation")
    part = lines(out)
    return out, first, part, run(out, "--work", str(work), "--only", "selection")


def test_what_is_missing_is_named_and_the_next_run_goes_on(tiny):
    out, first, part, second = tiny
    assert part[0]["missing"][:2] == ["selection-150-seed0", "selection-1000-seed0"]
    assert not any(name.startswith("validation") for name in part[0]["missing"])
    assert "selection against random; the cost of encryption" in " ".join(first.split())
    assert {row["part"] for row in part[1:]} == {"validation"}
    assert not any(name.startswith(("selection", "validation")) for name in lines(out)[0]["missing"])
    assert "validation-seed0" not in second
    assert [row for row in lines(out) if row["part"] == "validation"] == part[1:]
    assert "what leaks, by attacks" in second
    assert "/" not in lines(out)[0]["command"]


def test_without_time_nothing_is_run_and_the_page_says_so(tmp_path):
    text = run(tmp_path, "--work", str(tmp_path), "--minutes", "0")
    named = ["selection-150-seed0", "selection-1000-seed0", "validation-seed0"]
    assert lines(tmp_path)[0]["missing"][:3] == named
    assert "validation by granularity" in text and len(lines(tmp_path)) == 1


def test_finished_jobs_are_of_the_same_sizes_only(tmp_path):
    small = Size("marketplace", True, 1).settings("market")

    def rows(settings, own):
        return [{"own": own, "sellers": settings.sellers}]

    done = Job("one", rows, (small, 3))
    assert done.rows(tmp_path) is None
    done.keep(tmp_path)
    assert done.rows(tmp_path) == [{"own": 3, "sellers": 10}]
    assert Job("one", rows, (small, 4)).rows(tmp_path) is None
    assert Job("one", rows, (Size("marketplace", False, 1).settings("market"), 3)).rows(tmp_path) is None


def test_every_strategy_and_budget_is_measured_against_random(tiny):
    chosen = [row for row in lines(tiny[0]) if row["part"] == "selection"]
    once = {(r["own"], r["strategy"], r["budget"]) for r in chosen if r["rounds"] == 1 and r["budget"]}
    bought = {(own, budget) for own, _, budget in once}
    assert bought == {(150, 50), (150, 100), (150, 200), (1000, 50), (1000, 200)}
    assert once == {(own, strategy, budget) for own, budget in bought for strategy in STRATEGIES}
    for row in chosen:
        assert row["test"][1] == {150: 500, 1000: 400}[row["own"]]
        assert (
            row["remaining"][1] == row["control"][1] == 1297 - row["own"] + 100 * (row["own"] == 1000) - row["budget"]
        )
        assert 0 <= row["by_seller"][0] <= row["budget"] / 10 <= row["by_seller"][1]
    by_hand = {
        r["strategy"]: r["remaining"][0] for r in chosen if (r["own"], r["budget"], r["rounds"]) == (150, 100, 1)
    }
    assert Selections(chosen).fewer(150, "margin", 100, "remaining") == [1 - by_hand["margin"] / by_hand["random"]]
    assert by_hand["margin"] < by_hand["random"]


def test_accuracy_of_validation_is_counted_over_both_sides(tiny):
    tried = [row for row in lines(tiny[0]) if row["part"] == "validation"]
    assert {row["kind"] for row in tried} == {"own", "good", "mislabelled", "shuffled", "evasive"}
    found = {row["kind"]: row for row in tried if row["granularity"] == 30}
    before = found["good"]["before"]
    right = sum(w <= before for w in found["good"]["wrong"]) + sum(w > before for w in found["evasive"]["wrong"])
    count = len(found["good"]["wrong"]) + len(found["evasive"]["wrong"])
    interval = stats.binomtest(right, count).proportion_ci(0.95)
    rate = Trials(tried).rightly("evasive", 30)
    assert (rate.rate, rate.low, rate.high) == pytest.approx((right / count, interval.low, interval.high))


def test_the_page_is_made_of_the_records_alone(tiny, tmp_path):
    rewrite(tmp_path, lines(tiny[0]))
    STUDY.render(tmp_path)
    for name in ("marketplace.md", "marketplace-selection.svg", "marketplace-validation.svg"):
        assert (tmp_path / name).read_bytes() == (tiny[0] / name).read_bytes()
    text = (tmp_path / "marketplace.md").read_text()
    assert "about 60%" in text and "35.88 s (E2DM), 2.59 s (theirs)" in text and "not measured yet" in text


def test_costs_and_leaks_are_rendered_where_there_are_rows(tiny, tmp_path):
    leak = {"part": "leak", "strategy": "ife_transform", "who": "cloud", "learns": "an equivalent model",
            "measured": "agrees on 1234 of 2000 rows", "stops": "in ife_shares"}  # fmt: skip
    cost = {"part": "cost", "network": "cnn6", "operation": "feed forward", "system": "ife_shares, LWE", "images": 64,
            "seconds": [3.0, 1.5, 2.0], "bytes": 5_000_000}  # fmt: skip
    about, *rows = lines(tiny[0])
    rewrite(tmp_path, [about | {"missing": []}, *rows, leak, cost])
    STUDY.render(tmp_path)
    text = (tmp_path / "marketplace.md").read_text()
    assert "| ife_transform | cloud | an equivalent model | agrees on 1234 of 2000 rows | in ife_shares |" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| cnn6 | ife_shares, LWE | 64 |"))
    assert " 2.00 |" in row and " 5.00 |" in row  # the median's seconds, and MB
    assert "2.00 s (ife_shares, LWE, images: 64)" in text and "Not measured yet" not in text


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda rows: [], "line 1"),
        (lambda rows: rows[1:], "line 1"),
        (lambda rows: [rows[0], {"part": "guess"}], "line 2"),
        (lambda rows: [*rows[:3], {"part": "leak", "who": "cloud"}], "line 4"),
    ],
    ids=["empty", "no about", "unknown part", "missing keys"],
)
def test_damaged_records_are_refused_by_line(tiny, tmp_path, damage, named):
    rewrite(tmp_path, damage(lines(tiny[0])))
    with pytest.raises(InputError, match=named):
        STUDY.render(tmp_path)


def test_without_records_there_is_no_page(tmp_path):
    assert "marketplace.jsonl" in run(tmp_path, "--render-only", code=1)
