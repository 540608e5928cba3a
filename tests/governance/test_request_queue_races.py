"""Processes that race for a request, or die at any system call: one yes is taken once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from itertools import count

import pytest
from test_request import (
    ID,
    PROCESSES,
    REQUEST,
    names,
    numbered,
    queue,  # noqa: F401  a fixture
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import RequestQueue

# Several processes, and dead ones


def forked(target, *arguments):
    process = PROCESSES.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def take_at_once(folder, barrier, locks):
    """Ends with 7 where this process got the yes."""
    queue = RequestQueue(folder)
    if not locks:
        queue._locked = contextlib.nullcontext
    barrier.wait(300)
    os._exit(7 if queue.take(REQUEST, "acme") else 0)


@pytest.mark.parametrize("locks", [True, False])
def test_of_processes_that_race_for_a_yes_one_gets_it(queue, locks):
    for turn in range(1, 21):
        queue.put(REQUEST, "acme")
        queue.say(ID, True)
        barrier = PROCESSES.Barrier(3)
        racers = [forked(take_at_once, queue.folder, barrier, locks) for _ in range(3)]
        for racer in racers:
            racer.join(600)
        assert sorted(racer.exitcode for racer in racers) == [0, 0, 7]
        assert {name for name in names(queue) if "used" in name} == {f"{ID}.used-{k + 1}" for k in range(turn)}


def say_at_once(folder, barrier, yes):
    barrier.wait(300)
    with contextlib.suppress(InputError):
        RequestQueue(folder).say(ID, yes)
        os._exit(7)
    os._exit(0)


def test_of_commands_that_race_one_is_heard(queue):
    for turn in range(10):
        queue.put(REQUEST, "acme")
        barrier = PROCESSES.Barrier(4)
        racers = [forked(say_at_once, queue.folder, barrier, k % 2 == 0) for k in range(4)]
        for racer in racers:
            racer.join(600)
        assert sorted(racer.exitcode for racer in racers) == [0, 0, 0, 7], turn
        said = names(queue) & {f"{ID}.yes", f"{ID}.no"}
        assert len(said) == 1
        os.unlink(queue.folder / said.pop())


def work_forever(folder, report, start):
    """Put, say and take, one request after the other; each is told before it is done."""
    queue = RequestQueue(folder)
    for k in count(start):
        one = numbered(k)
        queue.put(one, "acme")
        if k % 3:
            os.write(report, f"{'yes' if k % 3 == 1 else 'no'} {one.id}\n".encode())
            queue.say(one.id, k % 3 == 1)
        if k % 6 == 1:
            os.write(report, f"take {one.id}\n".encode())
            queue.take(one, "acme")


def test_killed_processes_leave_nothing_that_was_not_said(queue):
    draw = random.Random(7)
    reader, writer = os.pipe()
    end = time.monotonic() + 1200
    for k in count():
        worker = forked(work_forever, queue.folder, writer, 6000 * k + draw.randrange(6))
        time.sleep(draw.uniform(0.01, 0.12))
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(600)
        enough = queue.folder.is_dir() and len(list(queue.folder.glob("*.json"))) > 60
        if k >= 20 and enough:
            break
        assert time.monotonic() < end
    os.close(writer)
    told = b""
    while piece := os.read(reader, 1 << 16):
        told += piece
    os.close(reader)
    said = {tuple(line.split()) for line in told.decode().splitlines()}
    found = queue.all()
    states = {asked.state for asked in found}
    assert states == {"pending", "yes", "no", "used"}
    for asked in found:
        if asked.state in ("yes", "no"):
            assert (asked.state, asked.id) in said
        if asked.state == "used":
            assert {("yes", asked.id), ("take", asked.id)} <= said
    for asked in found[:40]:
        if ("yes", asked.id) not in said and asked.state == "pending":
            assert queue.take(asked.request, "acme") is None
            queue.say(asked.id, True)
            assert queue.take(asked.request, "acme")


CALLS = ("open", "fsync", "close", "replace", "link", "unlink", "rename")


def killed_at(folder, stop, after, what):
    """Do one thing; at its system call number `stop`, kill -9 before or after it. Ends with 7 where all was done."""
    made = 0

    def counted(real):
        def call(*arguments, **named):
            nonlocal made
            made += 1
            if made != stop:
                return real(*arguments, **named)
            if after:
                with contextlib.suppress(OSError):
                    real(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    queue = RequestQueue(folder)
    {"put": lambda: queue.put(REQUEST, "acme"), "say": lambda: queue.say(ID, True), "take": lambda: take(queue)}[what]()
    os._exit(7)


def take(queue):
    assert queue.take(REQUEST, "acme")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["put", "say", "take"])
def test_a_kill_at_any_system_call(tmp_path, what, after):
    seen, leftovers = set(), 0
    for stop in count(1):
        queue = RequestQueue(tmp_path / f"desk{stop}")
        if what != "put":
            queue.put(REQUEST, "acme")
        if what == "take":
            queue.say(ID, True)
        worker = forked(killed_at, queue.folder, stop, after, what)
        worker.join(600)
        assert worker.exitcode in (7, -signal.SIGKILL)
        states = [asked.state for asked in queue.all()] if queue.folder.is_dir() else []
        seen.add(tuple(states))
        left = queue.folder.is_dir() and list(queue.folder.glob(".*.new"))
        leftovers += bool(left)
        if left and what == "say":
            queue.put(numbered(3), "acme")  # the writer of another request removes what was left aside, too
            assert not list(queue.folder.glob(".*.new"))
        queue.put(REQUEST, "acme")  # goes on as if nothing had been
        assert not list(queue.folder.glob(".*.new"))
        state = queue.read(ID).state
        if what == "put":
            assert states in ([], ["pending"]) and queue.take(REQUEST, "acme") is None
        else:
            assert states in (["pending"], ["yes"], ["used"]) and state in ("pending", "yes")
            granted = sum(queue.take(REQUEST, "acme") is not None for _ in range(3))
            assert granted == (state == "yes")
            if what == "take" and worker.exitcode == 7:
                assert granted == 0  # it was granted there
        if worker.exitcode == 7:
            break
    assert stop > 8 and (leftovers > 0) == (what != "take")
    assert seen >= {"put": {("pending",)}, "say": {("pending",), ("yes",)}, "take": {("yes",), ("used",)}}[what]
