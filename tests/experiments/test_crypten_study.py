"""The study of CrypTen programs: where CrypTen's own tests come from, what is read of them, and some of them run."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import stretched

from experiments.studies.crypten import functions, suite
from experiments.studies.crypten.study import STUDY, differing, shortened, table
from experiments.studies.crypten.suite_source import LINK, SHA256, NoIndexError, fetched, source_folder
from experiments.studies.crypten.suite_worker import COMPATIBLE, CUT, ENGINE, INSTALLED, CutLoops, cause, some_of
from mpc_appraisal.common.errors import InputError

SOME = 5  # so many tests of arithmetic run here; the study runs them all


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """CrypTen's source distribution, from the package index."""
    try:
        return fetched(tmp_path_factory.mktemp("crypten"))
    except NoIndexError as error:
        pytest.skip(f"no package index gives CrypTen's own tests: {error}")


def outcomes(source: Path, folder: Path, side: str, file: str, *left_out: str) -> dict[str, str]:
    """Run one file of CrypTen's tests, and return each test's outcome, or the reason why it failed."""
    command = [sys.executable, "-m", suite.WORKER, side, str(source), file, "0", *left_out]
    with open(folder / "lines", "w") as out, open(folder / "log", "w") as log:
        subprocess.run(command, stdout=out, stderr=log, env=suite.environment(), timeout=stretched(200), check=True)
    lines = [json.loads(line) for line in (folder / "lines").read_text().splitlines() if line.startswith('{"test"')]
    return {line["test"]: line["reason"] if line["outcome"] == "failed" else line["outcome"] for line in lines}


def test_crypten_s_own_tests_of_the_communicator_pass_over_the_engine(source, tmp_path):
    found = outcomes(source, tmp_path, ENGINE, "test_communicator")
    assert len(found) == 19
    assert {test: what for test, what in found.items() if what != "passed"} == {
        "TestCommunicatorMultiProcess.test_name": "skipped"  # CrypTen skips it
    }


def test_some_of_crypten_s_own_tests_of_arithmetic_pass_over_the_engine(source, tmp_path):
    text = (source / "test" / "test_arithmetic.py").read_text()
    names = [f"TestArithmetic.{name}" for name in sorted(set(re.findall(r"def (test_\w+)", text)))]
    found = outcomes(source, tmp_path, ENGINE, "test_arithmetic", *names[SOME:])
    assert found == dict.fromkeys(names[:SOME], "passed")


def test_a_folder_without_tests_is_refused(tmp_path):
    with pytest.raises(InputError, match="with test/ in it"):
        source_folder(tmp_path, tmp_path)


def test_the_index_s_page_leads_to_the_pinned_archive():
    page = f'<a href="../../packages/crypten-0.4.0.tar.gz#sha256=1">x</a><a href="../p/crypten-0.4.1.tar.gz#{SHA256}">'
    assert LINK.search(page)[1] == "../p/crypten-0.4.1.tar.gz"
    assert LINK.search(page.replace("0.4.1.tar.gz", "0.4.1-py3-none-any.whl")) is None


def test_the_reason_is_the_error_of_the_party_that_failed_by_itself():
    lost, own = "mpc_appraisal.common.errors.PeerError: data_owner is gone", "ValueError: \x1b[1mtoo large\x1b[0m"
    text = f"** Process 0 ** :\nTraceback (most recent call last):\n{lost}\n** Process 1 **\n  File\n{own}\n"
    assert cause(text) == "ValueError: too large"
    assert cause(lost) == lost and cause("no error\nis named") == "is named" and cause("") == ""
    assert len(cause("ValueError: " + "x" * 1000)) < 200


def row(side: str, test: str, outcome: str, reason: str = "", file: str = "test_binary") -> dict:
    return {"part": "suite", "side": side, "file": file, "test": test, "outcome": outcome, "seconds": 1.0,
            "reason": reason, "cut": 0}  # fmt: skip


ROWS = [
    row(INSTALLED, suite.NO_IMPORT, "failed", "it does not import"),
    *[row(side, "T.test_a", "passed") for side in (COMPATIBLE, ENGINE)],
    row(COMPATIBLE, "T.test_b", "failed", "a_b | c"),
    row(ENGINE, "T.test_b", "passed"),
    *[row(side, "T.test_c", "skipped", "flaky") for side in (COMPATIBLE, ENGINE)],
]


def test_tests_are_counted_by_file_and_those_that_differ_are_named():
    (line,) = table(ROWS)
    assert (line["file"], line["tests"]) == ("test_binary", 3)
    assert line[COMPATIBLE] == {"passed": 1, "failed": 1, "skipped": 1}
    assert line[ENGINE] == {"passed": 2, "failed": 0, "skipped": 1}
    assert differing(ROWS) == [
        {"file": "test_binary", "test": "T.test_b", "outcomes": ["failed", "passed"],
         "reason": "made importable: a_b   c"},
        {"file": "test_binary", "test": "T.test_c", "outcomes": ["skipped", "skipped"], "reason": "flaky"},
    ]  # fmt: skip


def test_the_page_states_what_the_rows_state(tmp_path):
    about = {"part": "about", "size": "small", "machine": "a machine", "versions": {}, "revision": None}
    lines = [about | {"command": "a command"}, *ROWS]
    (tmp_path / "crypten.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    (page,) = STUDY.render(tmp_path)
    assert (
        "Over the engine 2 of 3 of CrypTen's own tests that fit two parties pass, 0 fail and 1 are skipped" in page.text
    )
    assert "not met" in page.text and page.tiles[1][0] == "1"


def test_what_is_finished_is_not_run_again(tmp_path, monkeypatch):
    calls = []

    def run(command, stdout, **options):
        calls.append(command[3:])
        stdout.write('{"test": "T.b", "outcome": "passed", "seconds": 1, "reason": ""}\n')
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    place = tmp_path / f"{ENGINE}-test_optim.jsonl"
    place.write_text('printed by a test\n{"test": "T.a", "outcome": "failed", "seconds": 2, "reason": "r"}\n')
    for _ in range(2):
        rows = suite.run_suite(Path("source"), tmp_path, [ENGINE], ["test_optim"])
    assert calls == [[ENGINE, "source", "test_optim", "0", "T.a"]]
    assert [(each["test"], each["outcome"]) for each in rows] == [("T.a", "failed"), ("T.b", "passed")]
    assert suite.run_suite(Path("source"), tmp_path / "new", [ENGINE], ["test_optim"], until=0.0) == []


LOOPS = """
for a in SIZES:
    for b, c in itertools.product([1, 2, 3], repeat=2):
        seen.append((a, b, c))
for d in range(5):
    seen.append(d)
"""


def test_loops_over_sizes_are_cut_and_others_are_not():
    names = {"SIZES": (10, 20, 30), "itertools": itertools, "seen": [], CUT: some_of}
    exec(compile(CutLoops(2).visit(ast.parse(LOOPS)), "loops", "exec"), names)
    combinations = [(1, 1), (2, 2), (3, 3)]
    assert names["seen"] == [(a, *pair) for a in (10, 30) for pair in combinations] + list(range(5))
    assert some_of({"a": 1, "b": 2, "c": 3}, 2) == {"a": 1, "b": 2, "c": 3} and some_of([1, 2], 2) == [1, 2]
    assert shortened([row(ENGINE, "T.a", "passed") | {"cut": 2}, *ROWS]) == [
        {"file": "test_binary", "tests": 1, "most": 2}
    ]


def function_row(side: str, case: functions.Case, error: float | None) -> dict:
    return {"part": "functions", "side": side, "function": case.function, "numbers": case.numbers, "seconds": 0.5,
            "bytes": 10, "rounds": 3, "error": error, "mean_error": error}  # fmt: skip


def test_the_page_of_functions_states_errors_and_names_what_overflowed(tmp_path):
    errors = dict(zip(functions.SIDES, (0.25, None, 0.001), strict=True))
    rows = [function_row(side, case, error) for case in functions.CASES for side, error in errors.items()]
    about = {"part": "about", "size": "small", "machine": "a machine", "versions": {}, "revision": None}
    lines = [about | {"command": "a command"}, *rows, function_row(functions.STOCK, functions.CASES[0], 0.5)]
    (tmp_path / "functions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines[:-1]))
    (page,) = STUDY.render(tmp_path)
    assert page.text.count("| 0.25 | overflow | 0.0010 |") == len(functions.CASES)
    assert page.tiles[0][0] == "0.0010" and page.tiles[1][0] == "0.25" and page.tiles[2][0] == "1.0 x"


@pytest.mark.parametrize("case", functions.CASES, ids=lambda case: f"{case.function} of {case.numbers}")
def test_a_case_draws_numbers_that_its_function_has_and_fixed_point_holds(case):
    a, b = case.draw(200)
    exact = (case.exact or case.of)(a, b)
    assert torch.isfinite(exact).all() and exact.abs().max() < 2**15 and a.abs().max() <= 2**15
    assert all(torch.equal((each * 2**16).round(), each * 2**16) for each in (a, b))
