"""Ledgers that are killed, shared, tampered with or not to be had."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from dataclasses import asdict

import budget_child as child
import numpy as np
import pytest
from budget_child import question
from test_ledger import (
    MANY,
    charges,
    full,  # noqa: F401  a fixture
    lines_of,
    path,  # noqa: F401  a fixture
    reported,
    started,
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.release import Charge, Ledger, Mechanism, Policy, epsilon, verify

# --- kill -9


def test_no_granted_charge_is_lost_when_the_writer_is_killed_at_random(path):
    Ledger(path, "seller", MANY)
    chance, granted, kills = random.Random(1), [], 0
    while kills < 45:
        process, reader = started(child.charge_forever, path, f"run {kills}")
        reader.poll(600)  # until the first is granted
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        granted += reported(reader)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        verify(path)
    Ledger(path).charge(question("afterwards"))
    found = charges(path)
    assert len(granted) > 45 and {tuple(one) for one in granted} <= set(found)
    assert len(found) <= len(granted) + kills + 1  # at most one charge a kill that was not granted
    assert not verify(path).chain.torn


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("manner", ["before", "after", "half", "but one"])
def test_no_granted_charge_is_lost_at_any_system_call(tmp_path, manner, size):
    """Of one question, and of three that are charged at once."""
    counted: set[int] = set()
    ended, stop, tears, unanswered, leftovers = False, 0, 0, 0, 0
    while not ended:
        stop += 1
        path = tmp_path / f"{stop}.ledger"
        process, reader = started(child.stopped_at, path, stop, manner, size)
        said = reported(reader)
        process.join()
        ended = ["ended"] in said
        assert process.exitcode == (0 if ended else -signal.SIGKILL)
        granted = {tuple(one) for one in said if one != ["ended"]}
        assert len(granted) in (0, size)  # all at once or none
        if path.exists():
            subjects = [subject for _, _, subject in charges(path)]
            assert granted <= set(charges(path)) and subjects == ["the one", "the one 1", "the one 2"][: len(subjects)]
            counted.add(len(subjects))
            torn = verify(path).chain.torn
        else:
            assert not granted
            torn = False
        leftovers += bool(list(tmp_path.glob(".*.new")))
        # The next one repairs, says so, and loses nothing.
        ledger = Ledger(path, "seller")
        again = ledger.charge(question("the next"))
        found, state = charges(path), verify(path)
        assert granted <= set(found) and (str(again.line), again.digest, "the next") in found
        assert bool(state.tears) == torn and not state.chain.torn
        assert not list(tmp_path.glob(".*.new"))  # what was left between a write and its rename
        tears += torn
        unanswered += any(subject == "the one" and not answers for (_, _, subject), answers in found.items())
    assert stop > 35 * size**0.5 and unanswered > 3 and leftovers > 10
    assert counted == set(range(size + 1))  # it was killed between any two lines
    assert tears == {"half": 2 * size, "but one": 2 * size}.get(manner, 0)


def test_a_kill_during_the_repair_of_a_tear(tmp_path):
    """Every kill while a tear is repaired, and the repair of that one killed again."""
    for manner in ("before", "after", "half", "but one"):
        for stop in range(1, 30):
            path = tmp_path / f"{manner} {stop}.ledger"
            Ledger(path, "seller").charge(question("early"))
            with open(path, "ab") as file:
                file.write(b'{"sequence":3,"previ')
            for again in range(2):
                process, reader = started(child.stopped_at, path, stop + again, manner)
                granted = {tuple(one) for one in reported(reader) if one != ["ended"]}
                process.join()
                assert granted <= set(charges(path))
            Ledger(path).charge(question("late"))
            state = verify(path)
            assert state.tears and not state.chain.torn
            assert {"early", "late"} <= {subject for _, _, subject in charges(path)}


def test_a_line_that_lacks_only_its_end_counts(full):
    """As if its writer was killed in the write, before head and grant."""
    before = lines_of(full)
    Ledger(full).charge(question("torn"))
    head = full.with_name(full.name + ".head")
    kept = f"10 {verify(full).chain.lines[9].digest}\n"
    head.write_text(kept)
    full.write_bytes(full.read_bytes()[:-1])
    assert "torn" in {subject for _, _, subject in charges(full)}
    Ledger(full).charge(question("next"))
    assert lines_of(full)[:10] == before and json.loads(lines_of(full)[11])["kind"] == "tear"
    assert {"torn", "next"} <= {subject for _, _, subject in charges(full)}


# --- several at once


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize(("sigma", "policy", "most"), [(None, Policy(plain_values=60), 60), (5.0, Policy(3.0), None)])
def test_processes_at_once_never_exceed_the_budget(path, number, sigma, policy, most):
    Ledger(path, "seller", policy)
    running = [started(child.charge_until_refused, path, f"p{k}", sigma) for k in range(number)]
    said = [line for _, reader in running for line in reported(reader)]
    for process, _ in running:
        process.join()
        assert process.exitcode == 0
    refused = [line for line in said if line[0] == "refused"]
    granted = {tuple(line) for line in said if line[0] != "refused"}
    assert [line[1] for line in refused] == ["budget.epsilon" if sigma else "budget.plain_values"] * number
    found, state = charges(path), verify(path)
    assert granted == set(found) and len(granted) == len(said) - number
    assert not state.tears and sum(found.values()) == len(lines_of(path)) - 1 - len(found)
    if most is None:
        most = max(k for k in range(1, 40) if epsilon([Mechanism("gaussian", sigma=sigma)] * k, policy.delta) <= 3.0)
    assert len(found) == most
    assert {subject.split()[0] for _, _, subject in found} <= {f"p{k}" for k in range(number)}


@pytest.mark.parametrize(("sigma", "policy", "most"), [(None, Policy(plain_values=60), 60), (5.0, Policy(3.0), None)])
def test_several_at_once_by_two_processes_never_exceed_the_budget(path, sigma, policy, most):
    size = 7 if sigma is None else 3
    Ledger(path, "seller", policy)
    running = [started(child.charge_all_until_refused, path, f"p{k}", sigma, size) for k in range(2)]
    said = [line for _, reader in running for line in reported(reader)]
    for process, _ in running:
        process.join()
        assert process.exitcode == 0
    granted = {tuple(line) for line in said if line[0] != "refused"}
    assert [line[1] for line in said if line[0] == "refused"] == [
        "budget.epsilon" if sigma else "budget.plain_values"
    ] * 2
    if most is None:
        most = max(k for k in range(1, 40) if epsilon([Mechanism("gaussian", sigma=sigma)] * k, policy.delta) <= 3.0)
    assert granted == set(charges(path)) and len(granted) == most // size * size
    subjects = [subject.rsplit(" ", 1) for _, _, subject in charges(path)]
    for k in range(0, len(subjects), size):  # those of one call stand together, and are all there
        assert [i for _, i in subjects[k : k + size]] == [str(i) for i in range(size)]
        assert len({name for name, _ in subjects[k : k + size]}) == 1
    assert not verify(path).tears


def test_two_names_of_one_file(full):
    alias = full.with_name("alias.ledger")
    alias.symlink_to(full)
    assert Ledger(alias).path == full.resolve()  # one lock
    os.link(full, full.with_name("hard.ledger"))
    with pytest.raises(InputError, match="of several names"):
        Ledger(full).charge(question("x"))


# --- tampering


def refused(path, number):
    """verify names the line, and so does a ledger that is to be charged."""
    for act in (lambda: verify(path), lambda: Ledger(path).charge(question("x"))):
        with pytest.raises(InputError, match=rf"^{path.name}, line {number}: "):
            act()


@pytest.mark.parametrize("number", range(1, 11))
def test_a_changed_line_is_named(full, number):
    lines = lines_of(full)
    for old, new in ((b"2026-01-01", b"2026-01-02"), (b"{", b"["), (b'"}\n', b'"\n')):
        full.write_bytes(b"".join([*lines[: number - 1], lines[number - 1].replace(old, new, 1), *lines[number:]]))
        refused(full, number)


@pytest.mark.parametrize("number", range(1, 11))
def test_a_removed_line_is_named(full, number):
    lines = lines_of(full)
    full.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
    refused(full, number)


@pytest.mark.parametrize("number", range(1, 10))
def test_swapped_lines_are_named(full, number):
    lines = lines_of(full)
    lines[number - 1 : number + 1] = lines[number - 1 : number + 1][::-1]
    full.write_bytes(b"".join(lines))
    refused(full, number)


def test_every_truncation_is_found(full):
    content, ends = full.read_bytes(), np.cumsum([len(line) for line in lines_of(full)])
    for size in [*range(0, len(content), 37), len(content) - 1]:
        full.write_bytes(content[:size])
        number = int(np.searchsorted(ends, size, side="right")) + 1
        with pytest.raises(InputError, match=rf"line {number}: "):
            verify(full)
    full.unlink()
    refused(full, 1)


def test_a_forged_line_with_a_right_seal_is_found(full):
    """Resealed by one who knows the format: the next line's hash, or the head's, does not fit."""
    from mpc_appraisal.governance.budget.hash_chain import _sealed

    lines = lines_of(full)
    for number in (2, 10):
        entry = json.loads(lines[number - 1])
        del entry["seal"]
        entry["time"] = "2025-01-01T12:00:00+00:00"
        forged = [*lines[: number - 1], _sealed(entry) + b"\n", *lines[number:]]
        full.write_bytes(b"".join(forged))
        refused(full, min(number + 1, 10))


def test_a_rewritten_ledger_is_found_by_a_noted_hash(full):
    noted = verify(full).chain.lines[-1].digest
    Ledger(full).charge(question("later"))
    verify(full, noted)
    for file in full.parent.iterdir():
        file.unlink()
    Ledger(full, "seller")
    with pytest.raises(InputError, match="--head"):
        verify(full, noted)


def test_heads(full):
    head = full.with_name(full.name + ".head")
    head.write_text("nonsense")
    with pytest.raises(InputError, match="head, damaged"):
        verify(full)
    head.unlink()
    with pytest.raises(InputError, match="without seller.ledger.head"):
        verify(full)


def test_a_charge_beyond_the_budget_is_named(path):
    """As a writer with another program might have left it: sealed, chained, but over the limits."""
    from mpc_appraisal.governance.budget import hash_chain as chain

    Ledger(path, "seller", Policy(epsilon=1.0, plain_values=1))
    for asked, number in ((question("a", sigma=0.5), 2), (question("b", rows=9), 3)):
        entry = {"kind": "charge", "time": "2026-01-01T12:00:00+00:00", **asdict(asked), "question": asked.digest}
        with chain.locked(path):
            chain.append(path, chain.read(path), entry)
        with pytest.raises(InputError, match=rf"line {number}: got (epsilon|budget.rows)"):
            verify(path)


# --- files that cannot be had


def test_foreign_files_are_left_alone(path):
    for content in (b"", b"name,rows\nacme,5\n", b'{"method": "influence"}\n', b"\x00\xff"):
        path.write_bytes(content)
        for act in (lambda: Ledger(path, "seller"), lambda: verify(path)):
            with pytest.raises(InputError, match="a ledger, or no file yet"):
                act()
        assert path.read_bytes() == content
    with pytest.raises(InputError, match="No such file"):
        verify(path.with_name("none.ledger"))
    with pytest.raises(InputError, match="a folder that is there"):
        Ledger(path.parent / "none" / "a.ledger", "seller")
    with pytest.raises(InputError):
        Ledger(path.parent, "seller")


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
@pytest.mark.parametrize("good", range(5))
def test_a_full_disk_refuses_before_anything_is_granted(full, monkeypatch, name, good):
    """Every call after the first `good` fails; of a failing write, half goes to the disk first."""
    real, before, made = getattr(os, name), len(charges(full)), []

    def failing(*arguments, **named):
        made.append(name)
        if len(made) <= good:
            return real(*arguments, **named)
        if name == "write" and len(made) == good + 1 and len(arguments[1]) > 1:
            return real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ledger, granted = Ledger(full), []
    monkeypatch.setattr(os, name, failing)
    for k in range(6):
        try:
            granted.append(ledger.charge(question(f"full {k}")))
        except InputError as error:
            assert "No space left" in str(error) and "nothing was granted" in str(error)
            break
    else:
        pytest.fail("the disk was full")
    monkeypatch.undo()
    found = charges(full)
    assert len(found) >= before and {(str(c.line), c.digest, c.question.subject) for c in granted} <= set(found)
    assert isinstance(ledger.charge(question("afterwards")), Charge)
    assert set(found) <= set(charges(full)) and not verify(full).chain.torn


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
def test_a_disk_that_is_full_in_the_middle_of_several_grants_none(full, monkeypatch, name):
    Ledger(full).amend(plain_values=1000)
    real, before = getattr(os, name), set(charges(full))
    asked, charged = [question(f"full {k}") for k in range(3)], set()
    for good in range(30):
        made = []

        def failing(*arguments, good=good, made=made, **named):
            made.append(name)
            if len(made) > good:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **named)

        ledger, start = Ledger(full), len(charges(full))
        monkeypatch.setattr(os, name, failing)
        try:
            ledger.charge_all([*asked, question("q0")])
            break
        except InputError as error:
            assert "nothing was granted" in str(error)
        finally:
            monkeypatch.undo()
        charged.add(len(charges(full)) - start)
    else:
        pytest.fail("it was never enough")
    assert charged >= {1, 2, 3} and before <= set(charges(full))
    assert not verify(full).chain.torn


def test_no_permission(full, monkeypatch):
    """By a failing open where the tests run as root, who is denied nothing."""
    real = os.open

    def denied(path, flags, *rest, **named):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *rest, **named)

    ledger, before = Ledger(full), full.read_bytes()
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(InputError, match="Permission denied.*nothing was granted"):
        ledger.charge(question("x"))
    monkeypatch.undo()
    assert full.read_bytes() == before
