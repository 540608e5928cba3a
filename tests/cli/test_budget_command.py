"""The command mpc-appraisal budget."""

from __future__ import annotations

import subprocess
import sys

import pytest
from budget_child import question
from test_accounting import exact_epsilon
from test_ledger import (
    full,  # noqa: F401  a fixture
    lines_of,
    path,  # noqa: F401  a fixture
)

from mpc_appraisal.cli.commands import budget
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.state import spent
from mpc_appraisal.release import Ledger, Policy, verify

# --- the command


def test_the_command(full):
    def run(*arguments):
        command = [sys.executable, "-m", "mpc_appraisal.cli.app", "budget", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("verify", full)
    assert (code, err) == (0, "") and "10 lines, whole; last hash" in out
    code, out, err = run("show", full.parent)
    assert code == 0 and "Privacy budget of seller" in out and "acme" in out and "other" in out
    full.write_bytes(full.read_bytes().replace(b"q1", b"q9"))
    code, out, err = run("verify", full)
    assert code == 2 and err.startswith("error: seller.ledger, line 4: got a changed line")


def test_the_table(full, capsys):
    row, other = spent(verify(full))
    assert (row.counterparty, row.questions, row.answers, row.plain, row.plain_left) == ("acme", 4, 3, 3, 17)
    assert row.epsilon == pytest.approx(exact_epsilon([5.0], [], 1e-6), abs=1e-3)
    assert row.epsilon_left == pytest.approx(3.0 - row.epsilon)
    assert (other.questions, other.answers, other.epsilon, other.epsilon_left) == (1, 0, 0.0, 3.0)
    with open(full, "ab") as file:
        file.write(b'{"seq')
    assert "The last line is unfinished" in " ".join(budget.table(verify(full)).notes)
    Ledger(full).charge(question("repairs"))
    assert "Line 12: a writer was stopped" in " ".join(budget.table(verify(full)).notes)
    with pytest.raises(InputError, match="PLACE"):
        (full.parent / "empty").mkdir()
        budget.main(["show", str(full.parent / "empty")])


def test_set_amends_the_policy_in_force(full, capsys):
    budget.main(["set", str(full), "epsilon=4", "delta=1e-5", "plain_values=20"])
    out = capsys.readouterr().out
    assert out.startswith("epsilon: 3.0 -> 4.0\ndelta: 1e-06 -> 1e-05\n") and "plain_values: " not in out
    assert "Privacy budget of seller" in out and "epsilon 4 at delta 1e-05" in " ".join(out.split())
    state = verify(full)
    assert state.policy == Policy(epsilon=4.0, delta=1e-5) and len(lines_of(full)) == 11
    assert f"{spent(state)[0].epsilon:.4g}" in out  # what acme has spent already stays spent
    budget.main(["set", str(full), "epsilon=4"])
    assert capsys.readouterr().out.startswith("nothing changed") and len(lines_of(full)) == 11
    budget.main(["set", str(full), "plain_values=1"])
    with pytest.raises(InputError, match="budget.plain_values: got 4; expected at most 1"):
        Ledger(full).charge(question("more"))
    assert Ledger(full).charge(question("q0")).value == 0.0


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (["sigma=5"], "policy: got 'sigma'; expected one of epsilon"),
        (["epsilon"], "KEY=VALUE: got 'epsilon'"),
        (["epsilon="], "policy.epsilon: got nothing"),
        (["epsilon=2", "epsilon=3"], "policy.epsilon: got 3, after 2"),
        (["epsilon=2", "delta=2"], "policy.delta: got 2.0"),
        (["epsilon=nan"], "policy.epsilon: got nan"),
        (["plain_values=1.5"], "policy.plain_values: got 1.5; expected a whole number"),
    ],
)
def test_set_refuses_what_is_no_limit(full, stated, message):
    before = full.read_bytes()
    with pytest.raises(InputError, match=message):
        budget.main(["set", str(full), *stated])
    assert full.read_bytes() == before


def test_set_needs_a_ledger_that_is_there_and_whole(full, capsys):
    with pytest.raises(
        InputError, match="FILE: got none.ledger; expected an existing ledger, which the first appraisal of a data set"
    ):
        budget.main(["set", str(full.parent / "none.ledger"), "epsilon=2"])
    assert {file.name for file in full.parent.iterdir()} == {full.name + end for end in ("", ".head", ".lock", ".salt")}
    with pytest.raises(SystemExit):
        budget.main(["set", str(full)])
    assert "KEY=VALUE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        budget.main(["set", "--help"])
    assert "Spent budget stays spent" in " ".join(capsys.readouterr().out.split())
    full.write_bytes(full.read_bytes().replace(b"q1", b"q9"))
    with pytest.raises(InputError, match="line 4"):
        budget.main(["set", str(full), "epsilon=2"])
    full.unlink()
    with pytest.raises(InputError, match="line 1: got no file"):
        budget.main(["set", str(full), "epsilon=2"])


def test_a_change_keeps_what_another_process_changed_just_before(path, monkeypatch):
    """The command changes the limits that are in force under the lock, and not those that it read before."""
    Ledger(path, "seller")

    def overtaken(file):
        state = verify(file)
        Ledger(file).amend(minimum_rows=7)
        return state

    monkeypatch.setattr(budget, "verify", overtaken)
    assert budget.amend(path, ["epsilon=7"]) == ["epsilon: 1.0 -> 7.0"]
    assert verify(path).policy == Policy(epsilon=7.0, minimum_rows=7)
