"""Results and reports: indexing, sorting, correlations against scipy, and every number of the records and no other."""

from __future__ import annotations

import dataclasses
import io
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.figures import cost_figure, save, values_figure
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.report import print_result, write_report
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import bars, correlations_table, openings_table, trust, values_table
from mpc_appraisal.reporting.table import DASH, number

TRUST = "Semi-honest parties, a dealer that does not collude, no integrity of the result against a cheating party."
CLEAR = "Computed in the clear."
NAMES = ("alpha", "beta <b> & | co", "gamma", "delta", "epsilon")
OPENING = {"what": "the value", "to": ["model_owner", "data_owner"], "why": "it is the result", "numbers": 17}


def records(seed: int = 0) -> list[Record]:
    rng = random.Random(seed)
    found = []
    facts = [{"n": rng.randrange(10**3, 10**4), "level": rng.random(), "utility": rng.gauss(0, 1)} for _ in NAMES]
    common = {
        "features": 64,
        "classes": 11,
        "seed": 23,
        "config_hash": "abcdefabcdefabcd",
        "role": "model_owner",
        "versions": {"torch": "x.y"},
    }
    for method, size in (("gradient_norm", 1e4), ("influence", 1e-5)):
        for name, fact in zip(NAMES, facts, strict=True):
            value, error = size * rng.gauss(0, 1), size * rng.gauss(0, 1e-3)
            found.append(
                Record(
                    method,
                    name,
                    value,
                    paper_value=-value,
                    plaintext_value=value - error,
                    difference=error,
                    error_bound=size * rng.random(),
                    seconds={"prepare": rng.random(), "score": 100 * rng.random()},
                    bytes_sent={"model_owner": rng.randrange(10**9), "data_owner": rng.randrange(10**6)},
                    rounds=rng.randrange(100, 999),
                    openings=(OPENING,),
                    session="spawn",
                    engine="crypten",
                    trust=TRUST,
                    **fact,
                    **common,
                )
            )
    for name, fact in zip(NAMES, facts, strict=True):
        found.append(
            Record(
                "retraining",
                name,
                fact["utility"],
                seconds={"score": rng.random()},
                engine="torch",
                trust=CLEAR,
                **fact,
                **common,
            )
        )
    return found


def join_records() -> list[Record]:
    return [
        Record(
            "influence",
            name,
            value,
            n=31,
            features=64,
            classes=2,
            seconds={"score": 1.7},
            bytes_sent={"model_owner": 5_400_000},
            rounds=43,
            openings=(OPENING,),
            session="join",
            engine="crypten",
            role="data_owner",
            trust=TRUST,
        )
        for name, value in (("north_region_customers_of_the_year", 0.0123), ("b", -0.25), ("c", 0.375))
    ]


class Page(HTMLParser):
    """Text, tables as lists of rows, image sources; checks that each element that opens also closes."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.text, self.tables, self.images = [], "", [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data + " "
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def close(shown: str, true: float) -> bool:
    """Rounded at the third significant digit or later."""
    return abs(float(shown) - true) <= 5.01e-3 * abs(true)


def numbers_of(result: Result) -> list[float]:
    """Every number that a report may show, straight from the records."""
    found = []
    for r in result:
        found += [
            r.value,
            r.paper_value,
            r.plaintext_value,
            r.difference,
            r.error_bound,
            r.n,
            r.features,
            r.classes,
            r.level,
            r.utility,
            r.rounds,
            r.seed,
            *r.seconds.values(),
            *(b / 1e6 for b in r.bytes_sent.values()),
            sum(r.seconds.values()),
            sum(r.bytes_sent.values()) / 1e6,
            *(o["numbers"] for o in r.openings),
        ]
    return [x for x in found if x is not None]


def rank_numbers(result: Result) -> list[float]:
    found = []
    for method in dict.fromkeys(r.method for r in result):
        rows = [r for r in result if r.method == method]
        for key in ("utility", "level"):
            reference = [getattr(r, key) for r in rows]
            if None not in reference:
                values = [r.value for r in rows]
                found += [stats.spearmanr(values, reference)[0], stats.pearsonr(values, reference)[0]]
    return found


def shown_numbers(text: str) -> list[str]:
    return re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?![\w.]\d|\w)", text)


def check_numbers(text: str, result: Result) -> None:
    shown = shown_numbers(text)
    for true in numbers_of(result):
        assert any(close(s, true) for s in shown), true
    allowed, ranks = numbers_of(result), rank_numbers(result)
    for s in shown:
        assert any(close(s, t) for t in allowed) or any(abs(float(s) - t) <= 5.01e-4 for t in ranks), s


@pytest.fixture(scope="module")
def result() -> Result:
    return Result(records())


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new"
    written = write_report(result, folder)
    assert sorted(p.name for p in written) == [
        "costs.png",
        "costs.svg",
        "report.html",
        "report.md",
        "values.png",
        "values.svg",
    ]
    return folder


# ---- Result


def test_a_result_is_a_sequence(result):
    rows = records()
    assert len(result) == 15 and list(result) == rows and result[-1] == rows[-1]
    assert result[2:4] == Result(rows[2:4])
    assert result.methods == ["gradient_norm", "influence", "retraining"]
    assert result.candidates == list(NAMES)
    assert repr(result).count("\n") == 0 and "15 records" in repr(result)


def test_indexing_by_candidate_and_method(result):
    rows = records()
    assert result["influence", "gamma"] == rows[7]
    assert result["gamma"] == {"gradient_norm": rows[2], "influence": rows[7], "retraining": rows[12]}
    one = Result(r for r in rows if r.method != "gradient_norm")
    assert one["gamma"] == rows[7]  # one method and a baseline: the method's record
    assert one["retraining", "gamma"] == rows[12]
    assert Result(rows[10:])["gamma"] == rows[12]


@pytest.mark.parametrize("key", ["omega", ("influence", "omega"), ("omega", "gamma")])
def test_an_unknown_name_is_an_error_that_lists_the_known(result, key):
    with pytest.raises(InputError, match="gamma"):
        result[key]


def test_two_records_of_one_method_and_candidate_are_refused():
    with pytest.raises(InputError, match="influence of gamma twice"):
        Result([*records(), records(1)[7]])


def test_sort_and_best(result):
    values = [r.value for r in result.sort()]
    assert values == sorted(values, reverse=True)
    seconds = [r.total_seconds for r in result.sort(by="total_seconds", descending=False)]
    assert seconds == sorted(seconds)
    assert result.sort(by="difference")[-1].method == "retraining"  # unknown comes last
    assert result.best("influence").value == max(r.value for r in records() if r.method == "influence")
    with pytest.raises(InputError, match="by"):
        result.sort(by="beauty")
    with pytest.raises(InputError, match="method"):
        result.best("beauty")


def test_correlations_are_those_of_scipy(result):
    for method, found in result.correlations().items():
        rows = [r for r in records() if r.method == method]
        for key in ("utility", "level"):
            pair = [r.value for r in rows], [getattr(r, key) for r in rows]
            assert found[key]["spearman"] == pytest.approx(stats.spearmanr(*pair)[0], abs=1e-12)
            assert found[key]["pearson"] == pytest.approx(stats.pearsonr(*pair)[0], abs=1e-12)


def test_correlations_are_none_where_the_truth_is_unknown():
    none = {"spearman": None, "pearson": None}
    assert Result(join_records()).correlations() == {"influence": {"utility": none, "level": none}}


def test_to_frame(result):
    frame = result.to_frame()
    assert len(frame) == 15
    row = frame[(frame.method == "influence") & (frame.candidate == "gamma")].iloc[0]
    record = records()[7]
    assert row["value"] == record.value and row["seconds.score"] == record.seconds["score"]
    assert row["bytes_sent.model_owner"] == record.bytes_sent["model_owner"] and row["megabytes"] == record.megabytes


# ---- Text


@pytest.mark.parametrize(
    "value, text",
    [
        (None, DASH),
        (0.0, "0"),
        (1.0, "1.000"),
        (-0.5, "-0.5000"),
        (9.99996, "10.00"),
        (12345.6, "12346"),
        (0.001, "0.001000"),
        (0.000999951, "0.001000"),
        (1.23456e-5, "1.235e-05"),
        (1234567.0, "1.235e+06"),
        (999999.9, "1.000e+06"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_str_shows_what_matters(result):
    text = str(result)
    for record in result:
        assert f"{number(record.value)}" in text
    for part in (*NAMES, "Correlation", "What was opened", "model owner and data owner", TRUST):
        assert part in text


def test_openings_are_grouped_and_counted():
    rows = records()[:5]
    rows[1] = dataclasses.replace(rows[1], openings=(OPENING, OPENING))
    shown = openings_table(Result(rows)).rows
    assert [(row[2], row[5]) for row in shown] == [("17", "alpha, gamma, delta, epsilon"), ("2 x 17", NAMES[1])]
    assert openings_table(Result(records()[10:])).notes[0] == "Nothing was opened by a protocol."


def test_trust_is_what_the_records_say(result):
    assert trust(result) == [f"gradient_norm, influence: {TRUST}", f"retraining: {CLEAR}"]
    assert trust(Result(join_records())) == [TRUST]
    assert trust(Result([Record("influence", "a", 1.0)])) == ["No trust model is stated."]


def test_bars_are_in_the_order_of_the_values(result):
    for method, lines in bars(result):
        values = {r.candidate: r.value for r in result.of(method)}
        by_length = sorted(lines, key=lambda line: len(line[1]))
        assert len(by_length[-1][1]) == 40 and len(by_length[0][1]) == 1
        assert values[by_length[-1][0]] == max(values.values()) and values[by_length[0][0]] == min(values.values())


@pytest.mark.parametrize("rows", [records(), join_records(), records()[7:8]])
def test_the_console_report_fits(rows):
    console = Console(file=io.StringIO(), width=120)
    print_result(Result(rows), console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 120
    assert "What was opened" in text and "Trust" in text and "it is the result" in text
    for record in rows:
        assert number(record.value) in text


# ---- Report


def test_html_shows_every_number_and_no_other(result, folder):
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    check_numbers(page.text, result)
    with pytest.raises(AssertionError):  # the check itself can fail: these are other records
        check_numbers(page.text, Result(records(1)))


def test_markdown_shows_every_number_and_no_other(result, folder):
    check_numbers((folder / "report.md").read_text(encoding="utf-8"), result)


def test_each_number_is_in_its_place(result, folder):
    table = Page((folder / "report.html").read_text(encoding="utf-8")).tables[0]
    head = table[0]
    assert len(table) == 1 + len(result)
    for row, record in zip(table[1:], result, strict=True):
        cells = dict(zip(head, row, strict=True))
        assert (cells["method"], cells["candidate"]) == (record.method, record.candidate)  # names are escaped
        if record.baseline:
            assert cells["private value"] == DASH and close(cells["plaintext value"], record.value)
            continue
        expected = {
            "private value": record.value,
            "plaintext value": record.plaintext_value,
            "rounds": record.rounds,
            "difference": record.difference,
            "seconds": sum(record.seconds.values()),
            "MB sent": sum(record.bytes_sent.values()) / 1e6,
            "paper's value": record.paper_value,
            "error bound": record.error_bound,
        }
        assert all(close(cells[key], value) for key, value in expected.items())
        assert set(cells) == {"method", "candidate", *expected}


def test_html_needs_no_other_file(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.images) == 2 and all(source.startswith("data:image/svg+xml;base64,") for source in page.images)
    assert "<script" not in text and "<link" not in text and "@import" not in text and "url(" not in text


def test_markdown_tables_are_whole(folder):
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    for above, line in zip(lines, lines[1:], strict=False):
        if above.startswith("|") and line.startswith("|"):
            assert len(re.split(r"(?<!\\)\|", above)) == len(re.split(r"(?<!\\)\|", line))
    images = [match for line in lines for match in re.findall(r"!\[[^]]*\]\(([^)]+)\)", line)]
    assert images == ["values.png", "costs.png"] and all((folder / image).exists() for image in images)


def test_between_organisations_the_report_says_what_nobody_knows(tmp_path):
    result = Result(join_records())
    write_report(result, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    check_numbers(page.text, result)
    hidden = {
        "plaintext value",
        "difference",
        "level",
        "utility",
        "level, rank",
        "utility, rank",
        "level, Pearson",
        "utility, Pearson",
    }
    seen = set()
    for table in page.tables:
        for row in table[1:]:
            for head, cell in zip(table[0], row, strict=True):
                if head in hidden:
                    seen.add(head)
                    assert cell == DASH
    assert seen == hidden
    assert page.text.count("nobody may know") == 2
    for place in (str(tmp_path), str(Path.home()) + "/", str(Path.cwd())):
        for file in tmp_path.iterdir():
            assert place.encode() not in file.read_bytes()


def test_a_party_without_records_gets_a_report_that_says_so(tmp_path):
    nothing = Result([])
    written = write_report(nothing, tmp_path)
    assert [path.name for path in written] == ["report.md", "report.html"]
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    console = Console(file=io.StringIO(), width=120)
    print_result(nothing, console)
    for text in (page.text, str(nothing), console.file.getvalue()):
        assert "No records" in text and not shown_numbers(text)
    assert list(nothing.to_frame().columns) == [] and nothing.correlations() == {}


# ---- Answers that are no plain values


def answered(name: str, value=None, to=("model_owner", "data_owner"), method="influence", **release) -> Record:
    stated = {"kind": "value", "to": list(to), "answered": False} | release
    return Record(method, name, value, session="join", rounds=43, trust=TRUST, release=stated)


def answers() -> list[Record]:
    return [
        answered("a", kind="best", winner=True, rank=2),
        answered("b", 0.375, kind="best", winner=True, rank=1),
        answered("c", kind="best", winner=False),
        answered("d", kind="bit", decision=True, method="bit"),
        answered("e", kind="bit", decision=False, method="bit"),
        answered("f", 0.2, kind="dp", low=0.12, high=0.31, epsilon=0.5, method="dp"),
        answered("g", 0.3, answered=True, method="dp"),
        answered("h", to=("data_owner",), method="dp"),
        answered("i", kind="best", winner=True, method="other"),
        answered("j", kind="best", winner=False, method="other"),
    ]


SHOWN = {
    "a": ("winner 2 of 3", DASH),
    "b": ("winner 1 of 3", "0.3750"),
    "c": ("not a winner", DASH),
    "d": ("yes", DASH),
    "e": ("no", DASH),
    "f": ("0.1200 to 0.3100 (95%)", "0.2000"),
    "g": ("0.3000", "0.3000"),
    "h": ("not told", DASH),
    "i": ("a winner of 2", DASH),
    "j": ("not a winner", DASH),
}
NOTES = ("Yes: the value reached", "Winner: ", "Interval: noise", "to the data owner alone: dp of h.")
NOTES += ("From the ledger's record of an earlier answer, so that nothing was computed: dp of g.",)


def test_answers_have_a_column_and_values_that_were_not_told_a_dash(tmp_path):
    result = Result(answers())
    written = write_report(result, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    rows = [dict(zip(page.tables[0][0], row, strict=True)) for row in page.tables[0][1:]]
    assert {row["candidate"]: (row["answer"], row["private value"]) for row in rows} == SHOWN
    console = Console(file=io.StringIO(), width=120)
    print_result(result, console)
    wide = " ".join(console.file.getvalue().split())
    assert max(map(len, console.file.getvalue().splitlines())) <= 120
    for text in (page.text, (tmp_path / "report.md").read_text(encoding="utf-8"), str(result), wide):
        assert all(note in text for note in NOTES)
    assert len(written) == 6 and "Bars: the 95% interval" in page.text and "Squares: yes or no" in page.text


def test_plain_values_have_no_column_of_answers():
    plain = Result([answered("a", 0.5), answered("b", 0.25)])
    assert "answer" not in values_table(plain).header
    assert values_table(plain).notes == values_table(Result(dataclasses.replace(r, release=None) for r in plain)).notes
    mixed = Result([*plain, answered("c", kind="bit", decision=True, method="bit"), Record("retraining", "c", 1.0)])
    assert [row[2] for row in values_table(mixed).rows] == ["0.5000", "0.2500", "yes", DASH]


def test_a_long_list_of_names_is_cut():
    many = Result(answered(f"s{k}", to=("data_owner",)) for k in range(50))
    (note,) = [note for note in values_table(many).notes if "alone" in note]
    assert "influence of s5, and 44 more." in note and "s6" not in note


def test_sort_and_best_without_values():
    result = Result(answers())
    assert [r.candidate for r in result.of("influence").sort()] == ["b", "a", "c"]
    assert [r.candidate for r in result.of("bit").sort(descending=False)] == ["e", "d"]
    assert [r.candidate for r in result.of("dp").sort()] == ["g", "f", "h"]
    assert [r.candidate for r in result.of("other").sort()] == ["i", "j"]
    assert result.best("influence").candidate == "b" and result.best("other").candidate == "i"
    ranked = Result([answered("a", kind="best", winner=True, rank=2), answered("b", kind="best", winner=True, rank=1)])
    assert ranked.best("influence").candidate == "b"
    unranked = [answered(name, kind="best", winner=True) for name in "ab"]
    for rows, method in ((answers(), "bit"), (unranked, "influence"), (answers()[2:3], "influence")):
        with pytest.raises(InputError, match="whose best candidate"):
            Result(rows).best(method)
    for name in ("release", "listing", "request", "budget"):
        with pytest.raises(InputError, match="by"):
            result.sort(by=name)


def test_to_frame_has_the_answers(result):
    frame = Result(answers()).to_frame().set_index("candidate")
    assert frame["release.kind"]["f"] == "dp" and frame["release.epsilon"]["f"] == 0.5
    assert (frame["release.low"]["f"], frame["release.high"]["f"]) == (0.12, 0.31)
    assert frame["release.decision"]["d"] is True and frame["release.winner"]["c"] is False
    assert frame["release.rank"]["a"] == 2 and frame["value"].isna().sum() == 7
    assert not {"release", "listing", "request", "budget"} & set(frame)
    assert not any(column.startswith("release") for column in result.to_frame())


def test_correlations_leave_out_what_was_not_told():
    rows = [dataclasses.replace(r, session="spawn", level=k / 10) for k, r in enumerate(answers()[5:8])]
    assert Result(rows).correlations()["dp"]["level"]["spearman"] == pytest.approx(1)
    assert any("do not count" in note for note in correlations_table(Result(rows)).notes)


def test_figures_of_answers(tmp_path):
    figure = values_figure(Result(answers()))
    best, bits, noised, other = figure.axes
    assert list(best.lines[0].get_xdata()) == [1] and list(best.lines[0].get_ydata()) == [0.375]
    assert list(bits.lines[0].get_ydata()) == [1, 0] and list(other.lines[0].get_ydata()) == [1, 0]
    assert [label.get_text() for label in bits.get_yticklabels()] == ["no", "yes"]
    (bars_,) = noised.collections
    assert [segment.tolist() for segment in bars_.get_segments()] == [[[0, 0.12], [0, 0.31]]]
    only = Result(answers()[3:5])
    assert values_figure(only).axes[0].get_ylabel() == "answer"


def test_where_nothing_can_be_drawn_there_is_no_figure(tmp_path):
    hidden = Result([answered("a", to=("data_owner",))])
    assert values_figure(hidden) is None
    written = write_report(hidden, tmp_path)
    assert [path.name for path in written] == ["report.md", "report.html", "costs.png", "costs.svg"]
    assert "values.png" not in (tmp_path / "report.md").read_text(encoding="utf-8")


# ---- Figures


def test_values_figure_draws_the_records(result):
    figure = values_figure(result)
    assert len(figure.axes) == 4  # two methods, against level and against utility
    rows = [r for r in records() if r.method == "influence"]
    rings, crosses = figure.axes[1].lines
    assert list(rings.get_xdata()) == [r.level for r in rows]
    assert list(rings.get_ydata()) == [r.value for r in rows]
    assert list(crosses.get_ydata()) == [r.plaintext_value for r in rows]
    assert list(figure.axes[3].lines[0].get_xdata()) == [r.utility for r in rows]
    rank = stats.spearmanr([r.value for r in rows], [r.level for r in rows])[0]
    assert f"{rank:.3f}" in figure.axes[1].get_title()


def test_values_figure_without_truth_names_the_candidates():
    figure = values_figure(Result(join_records()))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["north_region_customers_…", "b", "c"]
    assert len(axis.lines) == 1 and axis.get_title() == "influence"


def test_cost_figure_is_on_log_scales_and_says_none(result):
    seconds, megabytes = cost_figure(result).axes
    assert seconds.get_xscale() == megabytes.get_xscale() == "log"
    assert list(megabytes.lines[1].get_xdata()) == [r.megabytes for r in records() if r.method == "influence"]
    assert [text.get_text() for text in megabytes.texts] == ["none"] and not seconds.texts


def test_figures_are_the_same_each_time(result, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for place in (first, second):
        place.mkdir()
        png, svg = save(values_figure(result), place, "values")
        assert png.read_bytes().startswith(b"\x89PNG") and b"<svg" in svg.read_bytes()
    assert (first / "values.svg").read_bytes() == (second / "values.svg").read_bytes()
