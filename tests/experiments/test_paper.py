"""The paper's tables and figures: a tiny run of the same code is sound; the committed report is of its records."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.harness.page import environment, sections
from experiments.harness.size import Size
from experiments.studies.appraisal.plan import SweepPlan
from experiments.studies.appraisal.study import render_paper as render
from experiments.studies.appraisal.sweeps import Preflights
from experiments.studies.appraisal.tables import (
    SIGN,
    agreements,
    drift,
    joined,
    pick,
    ratios,
    refusals,
    spread,
    steps_within,
    with_utility,
)
from experiments.studies.appraisal.threshold import (
    UNSEEN,
    by_size,
    cases,
    context,
    decided,
    foretold,
    in_hindsight,
)
from mpc_appraisal.common.errors import AppraisalError, InputError

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "results" / "appraisal"
PUBLISHED = ("-1.00", "0.61", "0.95", "0.96", "0.58", "1.0", "0.59", "0.72", "0.88", "+0.923", "-0.927", "+0.908")
PUBLISHED += ("+0.247",)
TINY = ("--small", "--seeds", "1", "--rates", "0.1,10", "--steps", "1,2")
FIGURES = ("paper-figure2", "paper-figure3", "paper-figure4", "paper-figure5", "paper-threshold")


def run(out: Path, *arguments: str, code: int = 0) -> str:
    """Run the study, and return what it prints; if it fails as `code` expects, its errors."""
    env = {k: v for k, v in os.environ.items() if k != "MPC_APPRAISAL_DATA"} | {"OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "experiments", "appraisal", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=env, cwd=out)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr if code else done.stdout


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "paper.jsonl").read_text().splitlines()]


def rewrite(folder: Path, rows: list[dict]) -> None:
    (folder / "paper.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out, work = tmp_path_factory.mktemp("paper"), tmp_path_factory.mktemp("work")
    return run(out, *TINY, "--work", str(work)), out, work


def test_a_tiny_run_measures_every_part(tiny):
    text, out, _ = tiny
    about, *rows = lines(out)
    assert about["missing"] == [] and "Not measured" not in text
    parts = {"noise", "grid", "table1", "mismatch", "accuracy", "missing", "preflight", "sized"}
    assert {row["part"] for row in rows} == parts
    assert {(row["lr"], row["steps"]) for row in rows if row["part"] == "grid"} == {
        (lr, steps) for lr in (0.1, 10.0) for steps in (1, 2)
    }
    assert {row["lr"] for row in rows if row["part"] == "table1"} == {0.1, 10.0}
    assert str(out) not in (out / "paper.jsonl").read_text() and "/" not in about["command"]


def test_every_value_is_private_and_near_its_plaintext(tiny):
    _, out, _ = tiny
    private = [row for row in lines(out)[1:] if row["part"] not in ("accuracy", "preflight", "sized")]
    for row in private:
        assert None not in row["plaintext"], row["job"]
        if row["refused"]:
            assert set(row["value"]) == {None}
            continue
        assert min(row["private"]) > 0 and min(row["mb"]) > 0 and min(row["rounds"]) > 0
        # Fine-tuning of a hundred rows moves the loss by little, so that rounding is a part of the spread there.
        assert drift([row]) < (0.05 if row["method"] == "finetuning" else 1e-2), row["job"]
        assert len(row["opened"]) == 1 and row["bound"] == "auto"  # by default no weights are checked
    assert sum(row["refused"] for row in private) < len(private) / 2


def test_utilities_are_joined_and_the_accuracy_is_of_the_same_market(tiny):
    rows = lines(tiny[1])[1:]
    known = pick(rows, "noise", "influence")
    (row,) = with_utility(pick(rows, "grid", "finetuning", lr=0.1, steps=2), known)
    assert row["utility"] == known[0]["utility"] and None not in row["utility"]
    (whole,), (few,) = joined(rows), joined(rows, 0.55, 1.0)
    assert len(whole["accuracy"]) == 5 and [name[-3:] for name in few["candidate"]] == ["0.2", "0.4"]
    (accuracy,) = pick(rows, "accuracy", "retraining")
    assert accuracy["utility"] == pytest.approx(whole["utility"], abs=1e-6)
    assert all(0 <= share <= 1 for share in accuracy["accuracy"])


def test_the_page_holds_published_and_measured(tiny):
    _, out, _ = tiny
    page, html = (out / "paper.md").read_text(), (out / "paper.html").read_text()
    rows = lines(out)[1:]
    for method in ("gradient_norm", "influence"):
        found = agreements(pick(rows, "noise", method), "level", sign=SIGN[method])
        assert f"| {spread(found['pearson'])} | {spread(found['spearman'])} |" in page
    for figure in FIGURES:
        assert (out / f"{figure}.png").read_bytes().startswith(b"\x89PNG") and f"{figure}.png" in page
        assert "<svg" in (out / f"{figure}.svg").read_text()
    assert html.count("data:image/svg+xml;base64,") == len(FIGURES) and 'src="paper' not in html
    assert "A small run" in page.split("\n## ")[1]


def test_thresholds_are_the_pre_flights_and_errors_are_counted_by_hand(tiny):
    from mpc_appraisal.cli.config import compose, instantiate
    from mpc_appraisal.data import Digits
    from mpc_appraisal.data.scenarios import LabelNoise
    from mpc_appraisal.methods import as_methods
    from mpc_appraisal.methods.preflight.check import preflight
    from mpc_appraisal.reporting.record import read

    _, out, work = tiny
    rows = [row for row in lines(out)[1:] if row["part"] == "preflight"]
    assert {row["method"] for row in rows} == {"finetuning", "gradient_norm", "influence"}
    market = LabelNoise(150, 5).build(*Digits().load(), 0)
    fit = instantiate(compose(["model.l2=0.003"]).model)
    known = preflight(market.train, market.test, as_methods("influence"), 0.003, fit, search=False)["influence"]
    influence = next(row for row in rows if row["method"] == "influence")
    assert influence["threshold"] == pytest.approx(known.threshold.value, rel=1e-6)
    assert influence["false_accept"] == [known.threshold.false_accept.wrong, known.threshold.false_accept.of]

    page = (out / "paper.md").read_text()
    (records,) = work.glob("noise-*/seed0/records.jsonl")
    for row in rows:
        mine = [r for r in read(records) if r.method == row["method"] and not r.baseline]
        cells = []
        calibrated = row["threshold"]
        if (size := row["size"]) is not None:
            shares = (size["own"] / (size["own"] + n) for n in (mine[0].n, size["rows"]))
            calibrated += size["clean"] / 2 * (next(shares) - next(shares))
        assert (size is not None) == (row["method"] == "influence")
        for scale, threshold in ((mine[0].n if row["unit"] == "value per row" else 1, calibrated), (1, 0.0)):
            bad = [r.value >= scale * threshold for r in mine if r.utility <= 0]
            good = [r.value < scale * threshold for r in mine if r.utility > 0]
            cells += [f"{sum(each)} of {len(each)}" if each else "–" for each in (bad, good)]
        line = next(s for s in page.split("## May a buyer")[1].splitlines() if s.startswith(f"| {row['method']} |"))
        assert [cell.split("(")[0].strip() for cell in line.split("|")[3:7]] == cells


SECTION = "studies/appraisal/threshold.md.jinja"


def table(rows: list[dict]):
    """Render the section on thresholds as a table."""
    return sections(SECTION, "section", context(rows))[0]


def sections_text(rows: list[dict]) -> str:
    """Render the section on thresholds as Markdown."""
    return environment().get_template(SECTION).module.section(context(rows))


def verdict(rows: list[dict]) -> str:
    """Render the sentence of the summary."""
    return " ".join(environment().get_template(SECTION).module.verdict(context(rows)).split())


def market_rows(**changes) -> list[dict]:
    """Four candidates of two seeds, whose values tell good from bad, and a pre-flight of each."""
    rows = []
    for seed, threshold in ((0, 0.2), (1, -0.1)):
        row = {"part": "noise", "method": "influence", "seed": seed, "steps": None, "refused": False, "n": [10] * 4}
        row |= {"value": [0.4, 0.3, 0.1, -0.2], "plaintext": [0.4, 0.1, 0.1, -0.2], "utility": [0.2, 0.1, 0.0, -0.3]}
        own = {"part": "preflight", "method": "influence", "seed": seed, "steps": None, "verdict": "trusted"}
        own |= {"threshold": threshold, "unit": "value", "false_accept": [1, 4], "false_reject": [0, 6]}
        rows += [row, own | changes]
    return rows


def test_one_bit_by_a_threshold_by_zero_and_in_hindsight():
    def errors(found) -> list[tuple[int, int]]:
        return [(rate.wrong, rate.of) for rate in found]

    rows = market_rows()
    found = cases(rows, "influence")
    assert errors(decided(found, found.threshold)) == [
        (1, 4),
        (0, 4),
    ]  # seed 1 buys the third, which does not help: utility 0
    assert errors(decided(found, 0.0)) == [(2, 4), (0, 4)]
    assert errors(decided(found, in_hindsight(found))) == [(0, 4), (0, 4)]
    assert errors(foretold(rows, "influence")) == [(2, 8), (0, 12)]
    shown = table(rows)
    assert "turned 1 of 8 decisions" in " ".join(shown.notes)  # seed 0's second, had it been bought in plaintext
    assert "influence 1 of 8 (false accepts 1 of 4, false rejects 0 of 4; zero: 2)" in verdict(rows)
    assert shown.rows[0][-1] == "0"  # the least utility among those bought

    per_row = cases(market_rows(threshold=0.02, unit="value per row"), "influence")  # of ten rows: 0.2
    assert set(per_row.threshold) == {0.2} and errors(decided(per_row, per_row.threshold)) == [(0, 4), (0, 4)]
    none = market_rows(threshold=None, verdict="doubtful")
    refused = cases(none, "influence")
    assert errors(decided(refused, refused.threshold)) == [(0, 4), (4, 4)]
    shown = table(none)
    assert shown.rows[0][-1] == "nothing bought" and "2 did not trust the method, and 2 found no" in shown.notes[-1]


def test_other_numbers_of_rows_have_thresholds_and_lines_of_their_own():
    size = {"own": 30, "rows": 10, "clean": 0.8}
    rows = market_rows(size=size)
    rows += [row | {"part": "sized", "n": [90] * 4} for row in rows if row["part"] == "noise"]
    few, many = cases(rows, "influence"), cases(rows, "influence", "sized")
    assert few.threshold.tolist() == [0.2] * 4 + [-0.1] * 4  # as many rows as a part: the threshold as it is
    assert many.threshold.tolist() == pytest.approx([0.0] * 4 + [-0.3] * 4)  # 0.4 (30 / 120 - 30 / 40)
    lines = {line["n"]: line for line in by_size(rows)}
    assert lines[10]["calibrated"] == 1 and lines[90]["calibrated"] == 1 + 2 and lines[90]["count"] == 8
    assert "| influence | 90 | 3 of 8 |" in " ".join(sections_text(rows).split())


def test_what_the_copies_do_not_settle_is_counted_apart():
    rows = market_rows(open=[0.05, 0.35], size={"own": 30, "rows": 10, "clean": 0.8})
    rows += [row | {"part": "unseen", "n": [90] * 4} for row in rows if row["part"] == "noise"]
    rows += [row | {"part": UNSEEN} for row in rows if row["part"] == "preflight"]
    found, other = cases(rows, "influence"), cases(rows, "influence", "unseen", UNSEEN)
    assert found.open.tolist() == [False, True, True, False] * 2  # of 0.4, 0.3, 0.1 and -0.2
    assert other.open.tolist() == [False, False, True, False] * 2  # from 0.05 - 0.2 to 0.35 - 0.2
    (line,), (apart,) = by_size(rows, ("noise",)), by_size(rows, ("unseen",), UNSEEN)
    assert (line["calibrated"], line["open"], line["settled"]) == (1, 4, 0)  # seed 1 buys the third, which is open
    assert (apart["calibrated"], apart["open"], apart["settled"]) == (3, 2, 1)  # its fourth is refused but for -0.3
    text = " ".join(sections_text(rows).split())
    assert "| influence | 90 | 3 of 8 | 3 of 4 | 0 of 4 |" in text and "| 2 | 1 of 6 |" in text
    assert (by_size(market_rows(), ("noise",))[0]["open"]) is None
    ends = market_rows(open=[None, 0.35])
    assert cases(ends, "influence").open.tolist() == [False, True, True, True] * 2


def test_a_buyer_without_a_pre_flight_or_with_a_refused_value_is_not_counted():
    rows = market_rows()
    assert set(cases(rows[:3], "influence").seed) == {0}
    assert set(cases([rows[0] | {"refused": True}, *rows[1:]], "influence").seed) == {1}
    assert verdict(rows[::2]) == "" and table(rows[::2]).rows == []


def test_a_pre_flight_that_fails_says_why(tmp_path):
    with pytest.raises(AppraisalError, match="preflight-seed0: .*l2"):
        Preflights("preflight", ("data=digits", "model.l2=-1"), "seed", (0,)).run(tmp_path, tmp_path / "log")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_second_run_repeats_no_job(tiny):
    _, out, work = tiny
    before = (out / "paper.md").read_bytes(), (out / "paper.jsonl").read_bytes()
    text = run(out, *TINY, "--work", str(work))
    ran = [line for line in text.splitlines() if "jobs run" in line]
    assert len(ran) >= 5 and all(": 0 of " in line for line in ran)
    assert before == ((out / "paper.md").read_bytes(), (out / "paper.jsonl").read_bytes())


def test_the_committed_report_is_that_of_the_committed_records(tmp_path):
    shutil.copy(COMMITTED / "paper.jsonl", tmp_path)
    run(tmp_path, "--render-only")
    assert (tmp_path / "paper.md").read_bytes() == (COMMITTED / "paper.md").read_bytes()
    assert (COMMITTED / "paper.jsonl").stat().st_size < 1_000_000
    page = (tmp_path / "paper.md").read_text()
    cells = {cell.strip() for line in page.splitlines() if line.startswith("|") for cell in line.split("|")}
    assert set(PUBLISHED) <= cells and "small run" not in page


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda rows: rows[:0], "paper.jsonl, line 1: got no line about the run"),
        (lambda rows: rows[1:], "paper.jsonl, line 1: got no line about the run"),
        (
            lambda rows: [r for r in rows if r["method"] != "influence" or r["part"] != "noise"],
            "got no line of influence",
        ),
        (lambda rows: [*rows[:3], {k: v for k, v in rows[3].items() if k != "private"}], "line 4: got no private"),
        (
            lambda rows: [{k: v for k, v in r.items() if k != "unit"} for r in rows],
            "got no unit; expected records of this version",
        ),
        (
            lambda rows: [*rows[:2], rows[2] | {"value": rows[2]["value"][:-1]}],
            "line 3: got lists of different lengths",
        ),
    ],
)
def test_missing_and_damaged_records_are_named(tiny, tmp_path, spoil, expected):
    rewrite(tmp_path, spoil(lines(tiny[1])))
    with pytest.raises(InputError, match=expected):
        render(tmp_path)
    assert not (tmp_path / "paper.md").exists()


def test_no_file_and_half_a_line_are_named(tiny, tmp_path):
    assert "error: --out: got no file paper.jsonl" in run(tmp_path, "--render-only", code=1)
    whole = (tiny[1] / "paper.jsonl").read_text()
    (tmp_path / "paper.jsonl").write_text(whole[:-200])
    with pytest.raises(InputError, match=f"paper.jsonl, line {whole.count(chr(10))}: got"):
        render(tmp_path)


def test_what_was_not_measured_is_said(tiny, tmp_path):
    about, *rows = lines(tiny[1])
    kept = [row for row in rows if row["part"] not in ("table1", "mismatch", "accuracy")]
    left = {job: methods for job, methods in about["jobs"].items() if job in {row["job"] for row in kept}}
    rewrite(tmp_path, [about | {"jobs": left, "missing": ["table1-lr10-steps1 (seed 0)"]}, *kept])
    render(tmp_path)
    assert (
        "Not measured yet" in (tmp_path / "paper.md").read_text()
        and "table1-lr10-steps1 (seed 0)" in (tmp_path / "paper.md").read_text()
    )


def test_damaged_records_of_a_sweep_are_named(tiny):
    work = tiny[2]
    settings = Size("appraisal", True, 1).settings("sweeps")
    sweep, path = SweepPlan(settings, 1, work).missing, work / "missing" / "seed0" / "records.jsonl"
    whole = path.read_bytes()
    assert len(sweep.rows(work)) == 2
    try:
        path.write_bytes(whole[:-40])
        with pytest.raises(InputError, match="records.jsonl, line"):
            sweep.rows(work)
    finally:
        path.write_bytes(whole)


def test_a_part_alone_keeps_the_records_of_the_others(tiny, tmp_path):
    _, out, work = tiny
    about, *rows = lines(out)
    marked = [row | {"revision": "kept"} if row["part"] in ("missing", "noise") else row for row in rows]
    rewrite(tmp_path, [about | {"sizes": about["sizes"] | {"a fact": "as it was"}}, *marked])
    run(tmp_path, *TINY, "--only", "fig3", "--work", str(work))
    first, *found = lines(tmp_path)
    assert {row["revision"] for row in found if row["part"] == "missing"} == {"kept"}
    assert "kept" not in {row["revision"] for row in found if row["part"] == "noise"}
    assert first["jobs"] == about["jobs"] and first["missing"] == about["missing"] == []
    assert first["sizes"]["a fact"] == "as it was" and "kept" in first["sizes"]["revisions of the records"]
    plain = [[{k: v for k, v in row.items() if k != "revision"} for row in each] for each in (found, rows)]
    assert sorted(map(json.dumps, plain[0])) == sorted(map(json.dumps, plain[1]))


def test_a_rate_without_a_bound_is_computed_and_agrees_with_plaintext(tiny):
    _, out, _ = tiny
    tuned = [row for row in lines(out) if row["part"] in ("grid", "table1") and row["method"] == "finetuning"]
    large = [row for row in tuned if row["lr"] == 10.0]
    assert len(large) >= 2 and not any(row["refused"] for row in large) and {row["bound"] for row in large} == {"auto"}
    for row in large:
        assert drift([row]) < 0.01, row["job"]


def test_a_refused_job_keeps_its_plaintext_and_has_no_value(tiny):
    rows = lines(tiny[1])[1:]
    tuned = [row for row in rows if row["part"] == "grid" and row["method"] == "finetuning" and not row["refused"]]
    one = tuned[0]
    no = one | {"refused": True, "value": [None] * len(one["value"]), "private": [None] * len(one["private"])}
    assert refusals([no]) == "refused: left the bound" and refusals([one, no]) == "; 1 of 2 seeds refused"
    assert refusals([one]) == "" and drift([no]) is None and ratios([no], [one]) == []
    assert agreements([no], "level")["pearson"] == [] and agreements([no], "level", "plaintext")["pearson"]
    assert (
        agreements([one, no], "level", sign=SIGN["finetuning"])["pearson"]
        == agreements([one], "level", sign=-1)["pearson"]
    )
    assert spread([]) == "–" and spread([0.5, 0.7]) == "+0.60 ± 0.14" and spread([-0.001]) == "+0.00"


def test_steps_within_a_limit():
    line = {s: 1.5 + 0.75 * s for s in (1, 2, 4, 8, 16)}
    assert [steps_within(line, k, 64) for k in (1, 4, 16)] == [
        1,
        3,
        19,
    ]  # at 1x not even one step fits: one all the same
    assert steps_within(line, 16, 12) == 12 and steps_within(line, 4.5, 64) == 4
    assert steps_within({1: 3.0, 2: 2.0}, 2.5, 8) == 2  # no rise to go by: the most of those measured
