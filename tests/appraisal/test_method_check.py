"""`mpc-appraisal method check`: a method that breaks a rule is found out by the check of that rule, and no other."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import torch

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.conformance import (
    FAILED,
    L2,
    MISSING,
    OK,
    SmallSets,
    cost_line,
    dry_line,
    formula_lines,
    release_lines,
    shares_lines,
    stated_lines,
    streaming_line,
    text_lines,
)
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.commands.method import build, class_of
from mpc_appraisal.cli.commands.method import main as command
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods import Appraiser, GradientNorm, Relevance
from mpc_appraisal.mpc.ops import blocks
from mpc_appraisal.reporting.result import Result

SETS = SmallSets()


@dataclass(frozen=True)
class Margin(Appraiser):
    """The mean logit of the labels, which keeps every rule."""

    name: ClassVar[str] = "margin"
    needs: ClassVar[frozenset[str]] = frozenset()
    opens: ClassVar[str] = "mean logit of the labels"

    def private_shapes(self, facts):
        return {"weights": (facts.features + 1, facts.classes)}

    def prepare(self, model, train, test):
        return {"weights": model.theta - model.theta.mean(1, keepdim=True)}

    def score(self, owned, x, y, facts):
        total = None
        for rows, labels in blocks(x, y):
            term = (rows.matmul(owned["weights"]) * labels).sum()
            total = term if total is None else total + term
        return total * (1 / facts.rows)

    def opened_at(self, value, facts):
        return value

    def comparable(self, score, facts):
        return score

    def paper_value(self, opened, facts):
        return opened

    def value(self, opened, facts):
        return opened


def inner(method: Appraiser) -> dict[str, tuple[str, str]]:
    """The lines of all checks that start no process of a party, by what they check."""
    lines = [*stated_lines(method), *formula_lines(method, SETS), *release_lines(method, SETS)]
    lines += [streaming_line(method, SETS), dry_line(method, SETS)]
    return {line.what: (line.status, line.found) for line in lines}


def broken(**members: Any) -> Appraiser:
    return type("Broken", (Margin,), {"__module__": __name__} | members)()


def one_more(self, model, train, test):
    return Margin.prepare(self, model, train, test) | {"more": torch.zeros(1, dtype=torch.float64)}


def single(self, model, train, test):
    return {"weights": model.theta.float()}


def by_mean(self, owned, x, y, facts):
    return (x.matmul(owned["weights"]) * y).mean()


def vector(self, owned, x, y, facts):
    return Margin.score(self, owned, x, y, facts).reshape(1)


def random(self, owned, x, y, facts):
    return Margin.score(self, owned, x, y, facts) * torch.rand(()).item()


def first_block(self, owned, x, y, facts):
    rows, labels = next(blocks(x, y))
    return (rows.matmul(owned["weights"]) * labels).sum() * (1 / facts.rows)


def from_test(self, model, train, test):
    return {"weights": model.theta * test.rows / 50}


BROKEN = {
    "name": ({"name": "Margin 1"}, "expected lower-case letters"),
    "name of another": ({"name": "influence"}, "the name of a method of mpc_appraisal"),
    "needs": ({"needs": frozenset({"validation"})}, "expected a subset"),
    "opens": ({"opens": ""}, "in plain words"),
    "prepare": ({"prepare": one_more}, r"prepare returns .*'more': \(1,\)\}, private_shapes says"),
    "score": ({"score": vector}, "expected one number"),
    "needs suffice": ({"prepare": from_test}, "AttributeError: 'NoneType'.*test_method_check.py, line"),
    "streaming": ({"score": first_block}, "expected the same score"),
    "opened_at": ({"opened_at": lambda self, value, facts: -value}, "expected"),
}


def test_a_method_that_keeps_the_rules_passes():
    assert {status for status, _ in inner(Margin()).values()} == {OK}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_found_by_its_check_alone(rule):
    members, said = BROKEN[rule]
    lines = inner(broken(**members))
    failed = [what for what, (status, _) in lines.items() if status == FAILED]
    assert failed == [rule.removesuffix(" of another")]
    assert re.search(said, lines[failed[0]][1])


def test_what_torch_alone_can_do_fails_the_dry_run_with_the_line():
    status, said = inner(broken(score=by_mean, streams=False))["dry run"]
    line = by_mean.__code__.co_firstlineno + 1
    assert status == FAILED and "mean is not supported on a " in said and "write x.sum() * (1 / n)" in said
    assert said.endswith(f"(test_method_check.py, line {line})")
    assert "expected float64" in str(inner(broken(prepare=single))["prepare"]).replace("finite ", "")
    assert "two runs of the formula differ" in inner(broken(score=random))["score"][1]


def test_what_is_not_stated_is_missing():
    plain = broken(opened_at=Appraiser.opened_at, comparable=Appraiser.comparable)
    assert {what for what, (status, _) in inner(plain).items() if status == MISSING} == {"opened_at", "comparable"}
    (no_blocks,) = [inner(broken(streams=False))["streaming"]]
    assert no_blocks == (OK, "not claimed: x and y are kept whole")


@dataclass(frozen=True)
class Worded(Margin):
    """A method whose repr has the order of a set, which differs with the seed of hashes."""

    words: frozenset[str] = field(default=frozenset(f"word {k}" for k in range(12)))


def test_a_repr_that_another_process_writes_otherwise_is_found():
    (line,) = text_lines(Worded())
    assert line.status == FAILED and "in another process; expected the same text" in line.found


def test_shares_that_differ_from_plaintext_are_found_and_so_are_costs():
    class Shifted(Margin):
        name: ClassVar[str] = "shifted"

        def score(self, owned, x, y, facts):
            score = Margin.score(self, owned, x, y, facts)
            return score if isinstance(score, torch.Tensor) else score + 0.5

    class Constant(Margin):
        name: ClassVar[str] = "constant"

        def score(self, owned, x, y, facts):
            return Margin.score(self, owned, x, y, facts) * 1e-6 + 1.0

    every = [Margin(), Shifted(), Constant()]
    result = appraise(SETS.candidates, train=SETS.train, test=SETS.test, method=every, l2=L2)
    found = {method.name: [line.status for line in shares_lines(method, result, SETS)] for method in every}
    assert found == {"margin": [OK, OK], "shifted": [FAILED, OK], "constant": [OK, MISSING]}
    assert cost_line(every[0], result).status == OK
    other = Result([replace(record, rounds=record.rounds + 1) for record in result])
    assert cost_line(every[0], other).found == (
        f"rounds: measured {result[0].rounds + 1}, foretold {result[0].rounds}; expected the same"
    )


def test_the_command_prints_its_lines_and_as_json(capsys):
    COMMANDS["method"](["check", "mpc_appraisal.methods:GradientNorm", "--json"])
    found = json.loads(capsys.readouterr().out)
    rows = found["tables"][0]["rows"]
    assert found["status"] == 0 and len(rows) == 13 and {row["status"] for row in rows} == {OK}
    assert found["lines"] == ["GradientNorm: 13 ok, 0 missing, 0 failed"]


BAD = """
from mpc_appraisal.methods import GradientNorm


class Bad(GradientNorm):
    name = "bad"

    def score(self, owned, x, y, facts):
        return x.exp().sum()
"""


def test_a_failed_check_ends_with_status_1_and_names_the_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "bad_method.py").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        COMMANDS["method"](["check", "bad_method:Bad", "--json"])
    found = json.loads(capsys.readouterr().out)
    failed = {row["check"]: row["found"] for row in found["tables"][0]["rows"] if row["status"] == FAILED}
    assert ended.value.code == found["status"] == 1
    assert "exp is not supported on a private tensor" in failed["dry run"]
    assert failed["dry run"].endswith("(bad_method.py, line 9)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek"], "expected check"),
        (["check"], "one MODULE:CLASS"),
        (["check", "a:B", "c:D"], "one MODULE:CLASS"),
        (["check", "no_such_module:Method"], "it raised ModuleNotFoundError"),
        (["check", "mpc_appraisal.methods:Nothing"], "it raised AttributeError"),
        (["check", "mpc_appraisal.methods:Facts"], "derives from mpc_appraisal.methods.Appraiser"),
        (["check", "no_such_name"], "the name of an installed method"),
        (["check", "mpc_appraisal.methods:Relevance", "direction=3"], "settings that fit Relevance: .*'direction'"),
        (["check", "mpc_appraisal.methods:Relevance", "directions=0"], "^directions: got 0"),
        (["check", "mpc_appraisal.methods:Relevance", "a.b=3"], "KEY=VALUE"),
    ],
)
def test_bad_words_are_named(words, said):
    with pytest.raises(InputError, match=said):
        command(words)


def test_settings_are_read_as_the_configuration_reads_them():
    assert build(Relevance, ["directions=4"]) == Relevance(directions=4)
    assert class_of("gradient_norm") is class_of("mpc_appraisal.methods:GradientNorm") is GradientNorm
