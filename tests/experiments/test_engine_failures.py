"""A turn, a work or a part of the engine study that fails leaves what the others have measured."""

from __future__ import annotations

import json

import pytest

from experiments.harness import run
from experiments.rivals import earlier_build
from experiments.studies.engine import study
from experiments.studies.engine.costs import Measured, cost_of, in_turns, records

# It stands for `any_build`: it does the work 'good', and ends at any other one.
WORKER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["work"] != "good":
        sys.exit("there is no work " + asked["work"])
    print(json.dumps(asked), flush=True)
"""
WORDS = ("engine", "--small", "--only", "gradient,app", "--gradient-rows", "20", "--features", "5")


def turn(k: int, bad: tuple[int, ...]) -> list[Measured]:
    if k in bad:
        raise OSError(f"turn {k} is bad")
    return [Measured("fast", "work", k, cost_of(float(k)))]


def test_turns_that_fail_leave_the_others(capsys):
    found = in_turns(4, lambda k: turn(k, (1, 3)))
    assert [one.turn for one in found] == [2, 4]
    (row,) = records("part", found)
    assert row["seconds"] == 3.0 and row["repeat"] == 2
    said = capsys.readouterr().err
    assert "turn 1 of 4 failed: turn 1 is bad" in said and "turn 3 of 4 failed" in said and "turn 2 of" not in said
    with pytest.raises(OSError, match="turn 2 is bad"):
        in_turns(2, lambda k: turn(k, (1, 2)))


def test_a_build_does_works_after_one_that_failed(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(earlier_build, "ANY_BUILD", tmp_path / "worker.py")
    build = earlier_build.Build(tmp_path)
    try:
        for _ in range(2):
            assert build.do("good", number=7) == {"work": "good", "number": 7}
            with pytest.raises(OSError, match="failed at bad: .*there is no work bad"):
                build.do("bad")
    finally:
        build.close()
    build.close()  # a second time does nothing


class NoBuilds:
    engines = ("fast",)

    def __init__(self, engines, folder):
        pass

    def close(self):
        pass


@pytest.fixture
def alone(monkeypatch):
    """The study without builds and without data, whose works the test replaces."""
    monkeypatch.delenv("MPC_APPRAISAL_DATA", raising=False)
    monkeypatch.setattr(study, "Builds", NoBuilds)


def test_a_part_that_fails_leaves_the_others_and_their_report(alone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study.gradient, "measure", lambda *_: 1 / 0)
    cost = cost_of(2.0, {"all processes": 3.0})
    monkeypatch.setattr(study.app, "measure", lambda *_: records("app", [Measured("fast", "make appraise", 1, cost)]))
    with pytest.raises(SystemExit) as ended:
        run.main([study.STUDY], [*WORDS, "--out", str(tmp_path)])
    said = capsys.readouterr()
    assert ended.value.code == 1 and "gradient: it failed, and the other parts go on" in said.err
    assert "ZeroDivisionError" in said.err and said.err.splitlines()[-1].startswith("error: gradient failed")
    (row,) = map(json.loads, (tmp_path / "engine.jsonl").read_text().splitlines())
    assert row["part"] == "app" and row["cpu_seconds"] == {"all processes": 3.0}
    assert "make appraise" in (tmp_path / "engine.md").read_text() and "make appraise" in said.out


def test_an_interruption_keeps_the_parts_before_it(alone, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    found = records("gradient", [Measured("fast", "gradient, kept", 1, cost_of(2.0))])
    monkeypatch.setattr(study.gradient, "measure", lambda *_: found)
    monkeypatch.setattr(study.app, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.main([study.STUDY], [*WORDS, "--out", str(tmp_path)])
    (row,) = map(json.loads, (tmp_path / "engine.jsonl").read_text().splitlines())
    assert row["part"] == "gradient"
