"""A result in short fits a terminal, and says what its records say."""

from __future__ import annotations

import io
import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from test_answers import answers
from test_report import join_records, records

from mpc_appraisal.mpc.backends.registry import trust_of
from mpc_appraisal.mpc.backends.rtas import LEAKAGE
from mpc_appraisal.reporting.advice import Advice, Recommendation
from mpc_appraisal.reporting.brief import LINES, brief, matrix_table
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.metrics import random_band
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.report import print_result, write_report
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.sweep_report import write_sweep_report
from mpc_appraisal.reporting.table import number


def many(candidates: int, methods: int, truth: bool = True) -> list[Record]:
    rng = random.Random(candidates)
    level = {k: rng.random() if truth else None for k in range(candidates)}
    return [
        Record(
            f"some_method_{m}",
            f"a data set of region {k} " + "x" * (k % 40),
            rng.gauss(0, 10 ** rng.randrange(-9, 9)),
            level=level[k],
            utility=level[k],
            bytes_sent={"model_owner": 10**9},
            rounds=10**6,
            seconds={"private": 1e4},
            openings=({"what": "the value", "to": ["data_owner"], "why": "y " * 200, "numbers": 3},),
            warnings=("a long warning " * 20, "another one"),
            session="spawn",
            trust="The parties follow the protocol, and the dealer colludes with neither owner. And so on.",
        )
        for k in range(candidates)
        for m in range(methods)
    ]


def advised(rows: list[Record]) -> Advice:
    words = itertools.cycle(["buy", "do not buy", "undecided"])
    verdicts = {(r.method, r.candidate): Recommendation(next(words), 0.284, "...") for r in rows if not r.baseline}
    return Advice(verdicts, {method: "trusted" for method, _ in verdicts})


SHAPES = {
    "two methods": records(),
    "between organisations": join_records(),
    "one record": records()[7:8],
    "answers": answers(),
    "no records": [],
    "many": many(300, 3),
    "many methods": many(12, 8),
    "one method": many(40, 1, truth=False),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [80, 120])
def test_it_fits(shape, width):
    rows = SHAPES[shape]
    for advice in (Advice(), advised(rows)):
        lines = [text for text, _ in brief(Result(rows), width, advice, "outputs/here/report.html")]
        assert len(lines) <= LINES and max(map(len, lines)) <= width, "\n".join(lines)
        assert not [line for line in lines if line != line.rstrip()]
    assert rows == [] or lines[-1].endswith("outputs/here/report.html")


def test_it_says_what_the_records_say():
    rows = records()
    text = "\n".join(text for text, _ in brief(Result(rows)))
    for record in rows:
        line = next(line for line in text.splitlines() if line.startswith(record.candidate))
        assert number(record.value) in line.split()
    for method in ("gradient_norm", "influence"):
        of = {r.candidate: r for r in rows if r.method == method}
        best = max(of, key=lambda name: of[name].value)
        assert f"{best} by" in text or best in text.split(f"by {method}")[0]
        ranks = [
            stats.spearmanr([r.value for r in of.values()], [getattr(r, key) for r in of.values()])[0]
            for key in ("utility", "level")
        ]
        column = matrix_table(Result(rows)).header.index(method)
        for words, rank in zip(("with true utility", "with corruption"), ranks, strict=True):
            line = next(line for line in text.splitlines() if line.startswith(words))
            assert line.removeprefix(words).split()[column - 1] == f"{rank:.2f}"
    private = [r for r in rows if not r.baseline]
    assert f"{sum(r.rounds for r in private):,} rounds" in text
    assert f"{number(sum(r.megabytes for r in private) / 1000, 3)} GB sent" in text
    assert f"{17 * len(private)} numbers (it is the result)" in text and "Semi-honest parties" in text


def test_the_best_candidates_stand_first_where_not_all_have_room():
    rows = many(300, 1)
    lines = [text for text, _ in brief(Result(rows))]
    shown = [line for line in lines if line.startswith("a data set")]
    best = sorted((r.value for r in rows), reverse=True)[: len(shown)]
    assert len(shown) > 5 and [line.split()[-2] for line in shown] == [number(value) for value in best]
    assert any(line.startswith(f"… {300 - len(shown)} more in the report") for line in lines)


def test_advice_stands_in_short_and_in_the_report(tmp_path):
    rows = [
        Record("influence", name, value, n=9, session="spawn") for name, value in zip("abc", (3, 2, 1), strict=True)
    ]
    said = {
        ("influence", name): Recommendation(word, 0.284, f"above {name}")
        for name, word in zip("abc", ("buy", "undecided", "do not buy"), strict=True)
    }
    advice = Advice(said, {"influence": "trusted", "finetuning": "inverted"}, ("finetuning is no guide here.",))
    text = " ".join(" ".join(line.split()) for line, _ in brief(Result(rows), advice=advice))
    assert "+ buy, - do not buy, ? undecided; trusted here: influence; inverted here: finetuning." in text
    assert "calibrated threshold 0.284" in text
    assert [row[1] for row in matrix_table(Result(rows), advice).rows] == ["3.000 +", "2.000 ?", "1.000 -"]
    without = " ".join(line for line, _ in brief(Result(rows), advice=Advice(trust={"influence": "trusted"})))
    assert "trusted here: influence; no threshold could be calibrated." in without
    page = write_report(Result(rows), tmp_path, advice, {"a": "card-a", "b <i>": "card-b-i"})[0].read_text()
    assert "| a | influence | buy | 0.284 | above a |" in page and "finetuning is no guide here." in page
    assert "- [a](card-a.md)" in page and "- [b \\<i\\>](card-b-i.md)" in page
    assert '<a href="card-b-i.html">b &lt;i&gt;</a>' in (tmp_path / "report.html").read_text()


def test_many_decisions_stand_in_full_at_the_end(tmp_path):
    rows = records()
    page = write_report(Result(rows), tmp_path, advised(rows))[0].read_text()
    top, end = page.index("## Decision\n"), page.index("## Decisions in full")
    assert top < page.index("## Values") < end
    header, _, *lines = [line.strip("| ").split(" | ") for line in page[top:].split("\n\n")[1].splitlines()]
    assert header == ["candidate", "gradient_norm, buy from 0.284", "influence, buy from 0.284"]
    found = {name: words for name, *words in lines}
    assert set(found) == {r.candidate.replace("|", "\\|") for r in rows} and found["alpha"] == ["buy", "undecided"]


def test_the_random_baseline_is_a_band_and_no_row(tmp_path):
    rows = records()
    drawn = [Record("random", r.candidate, 0.1 * k, utility=r.utility, level=r.level) for k, r in enumerate(rows[:5])]
    with_one, without = Result([*rows, *drawn]), Result(rows)
    assert str(with_one) == str(without) and brief(with_one) == brief(without)
    pages = [
        write_report(result, tmp_path / name)[0].read_text() for name, result in (("one", with_one), ("none", without))
    ]
    assert pages[0] == pages[1] and pages[0].count("random") == 1 and "95% of 1,000 draws" in pages[0]


@pytest.mark.parametrize("candidates", [1, 10, 300])
def test_what_a_helper_sees_is_never_cut(candidates, tmp_path):
    rows = [replace(record, trust=trust_of("rtas")) for record in many(candidates, 1)]
    lines = [text for text, _ in brief(Result(rows), 80, advised(rows), "report.html")]
    shown = " ".join(" ".join(lines).split())
    assert len(lines) <= LINES and max(map(len, lines)) <= 80
    sees, *_, limit = LEAKAGE.split(". ")
    assert (
        sees.startswith("The helper sees every value") and f"{sees}. {limit}" in shown and limit.startswith("Not for")
    )
    write_cards(Result(rows[:1]), tmp_path)
    write_report(Result(rows), tmp_path)
    save = Result(rows).save(tmp_path / "sweep" / "0")
    write_sweep_report([save.parents[1]], tmp_path / "sweep")
    pages = [tmp_path / "report.md", tmp_path / "sweep" / "report.md", *tmp_path.glob("card-*.md")]
    assert len(pages) == 3 and all(LEAKAGE in page.read_text().replace("\\", "") for page in pages)


def test_the_band_of_random_values_is_that_of_all_orders():
    ranks = list(range(5))
    exact = [stats.spearmanr(ranks, order)[0] for order in itertools.permutations(ranks)]
    low, high = random_band([0.1, 0.2, 0.4, 0.8, 1.6], seed=3)["spearman"]
    assert low == pytest.approx(np.quantile(exact, 0.025), abs=0.11)
    assert high == pytest.approx(np.quantile(exact, 0.975), abs=0.11)
    for ends in (random_band(range(10))["spearman"], random_band(range(10))["pearson"]):
        assert ends == pytest.approx((-0.64, 0.64), abs=0.07)  # critical values at 5%: 0.648 and 0.632
    draws = np.random.default_rng(7).random((1000, 6))
    truth = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0]
    for kind, measure in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
        found = [measure(draw, truth)[0] for draw in draws]
        assert random_band(truth, 7)[kind] == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])))
    assert random_band([1.0]) == random_band([2.0, 2.0]) == {"spearman": None, "pearson": None}


def test_the_console_gets_these_lines_and_a_link():
    plain, terminal = io.StringIO(), io.StringIO()
    print_result(Result(records()), Console(file=plain, width=200), report="out/report.html")
    assert plain.getvalue().splitlines() == [text for text, _ in brief(Result(records()), 80, report="out/report.html")]
    print_result(Result(records()), Console(file=terminal, width=80, force_terminal=True), report="out/report.html")
    assert "\x1b]8;" in terminal.getvalue() and "out/report.html" in terminal.getvalue()


def test_features_that_are_far_larger_than_others_are_a_caveat_on_the_terminal_and_in_the_report(tmp_path):
    text = "2 of 4 features are far larger than others: income (3 to 90000), debt (1 to 7000). Standardise them."
    said = Advice(scale=text)
    lines = [line for line, _ in brief(Result(records()), 80, said)]
    assert max(map(len, lines)) <= 80 and text in " ".join(" ".join(lines).split())
    assert [line for line in lines if line.startswith("Caveat")] and len(lines) <= 25
    assert "Caveat" not in " ".join(line for line, _ in brief(Result(records()), 80))
    write_report(Result(records()), tmp_path, said)
    assert (
        text in (tmp_path / "report.md").read_text() and "income (3 to 90000)" in (tmp_path / "report.html").read_text()
    )
