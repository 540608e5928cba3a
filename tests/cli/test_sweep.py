"""Sweeps with real processes: they resume after kill -9, survive failed jobs, show progress, and use the launchers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from filelock import FileLock
from processes import APP, Ended, Process, Processes, below, gone, parent, parties, stretched

from mpc_appraisal.cli import finished, launchers, sweep
from mpc_appraisal.cli.config import compose, public_part
from mpc_appraisal.cli.jobs import job_key
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.reporting.record import read

SMALL = (
    "data=digits",
    "scenario.candidates=2",
    "scenario.size=30",
    "scenario.test_size=50",
    "appraisal=gradient_norm",
    "baselines.true_utility=false",
)
PLAIN, SPAWN = (*SMALL, "session=plain"), (*SMALL, "session=spawn")
NOTHING = "finished before, nothing computed: "


def start(processes: Processes, name: str, *overrides: str) -> Process:
    """Return the command of a sweep whose folder is `name`/sweep."""
    return processes.start(name, [*APP, "--multirun", "hydra.sweep.dir=sweep", *overrides], {"HYDRA_FULL_ERROR": "0"})


def swept(folder: Path, name: str, *overrides: str, timeout: float = 120) -> Ended:
    with Processes(folder) as processes:
        return start(processes, name, *overrides).wait(stretched(timeout))


def kept(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return what each finished job left: the times of both files and the bytes of the records, by folder."""
    return {
        str(path.parent.relative_to(root)): (
            path.stat().st_mtime_ns,
            (path.parent / "records.jsonl").stat().st_mtime_ns,
            (path.parent / "records.jsonl").read_bytes(),
        )
        for path in sorted(root.rglob("finished.json"))
    }


def seeds(root: Path) -> dict[str, int]:
    return {name: read(root / name / "records.jsonl")[0].seed for name in kept(root)}


def until(condition, process: Process, timeout: float = 60) -> None:
    deadline = time.monotonic() + stretched(timeout)
    while not condition():
        assert process.popen.poll() is None, process.err[-2000:]
        assert time.monotonic() < deadline, process.err[-2000:]
        time.sleep(0.02)


# ---- keys of finished jobs ----


def test_resume_and_hydra_are_not_in_the_public_hash_nor_in_the_jobs():
    off, on = compose(PLAIN), compose([*PLAIN, "resume=true"])
    assert not off.resume and on.resume and "resume" not in public_part(on)
    assert config_hash(public_part(off)) == config_hash(public_part(on)) and job_key(off) == job_key(on)
    assert job_key(off) != job_key(compose([*PLAIN, "seed=1"]))
    assert job_key(off) != job_key(compose([*PLAIN, "party.threshold=1"])), "one party's own matters too"


def test_a_job_is_known_by_the_contents_of_its_files(tmp_path):
    data = tmp_path / "a.csv"
    keys = []
    for text in ("1", "2", "1"):
        data.write_text(text)
        keys.append(job_key(compose([f"party.data={data}"])))
    data.unlink()
    keys.append(job_key(compose([f"party.data={data}"])))
    assert keys[0] == keys[2] and len(set(keys)) == 3


RECORD = '{"method": "influence", "candidate": "a", "value": 1.0}\n'


def job(root: Path, name: str, key: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text(RECORD)
    finished.finish(folder, key)
    return folder


def changed(folder: Path, **facts) -> None:
    path = folder / "finished.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


DAMAGE = {
    "no mark": lambda folder: (folder / "finished.json").unlink(),
    "half a mark": lambda folder: os.truncate(folder / "finished.json", 20),
    "a mark that is no mark": lambda folder: (folder / "finished.json").write_text("[1]"),
    "another configuration": lambda folder: changed(folder, config="0" * 16),
    "another version": lambda folder: changed(folder, version="0.0.1"),
    "no records": lambda folder: (folder / "records.jsonl").unlink(),
    "no records, and none in the mark": lambda folder: [
        (folder / "records.jsonl").unlink(),
        changed(folder, records=None),
    ],
    "truncated records": lambda folder: os.truncate(folder / "records.jsonl", 10),
    "changed records": lambda folder: (folder / "records.jsonl").write_text(RECORD.replace("1.0", "2.0")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_contradicts_the_mark_is_not_finished(tmp_path, damage):
    folder = job(tmp_path, "0", "a" * 16)
    assert finished.finished(folder, "a" * 16) and finished.find(tmp_path, "a" * 16, tmp_path / "5") == folder
    DAMAGE[damage](folder)
    assert not finished.finished(folder, "a" * 16) and finished.find(tmp_path, "a" * 16, folder) is None
    assert not list(tmp_path.rglob("*.new"))


def test_a_resumed_job_goes_where_it_finished_and_never_over_another(tmp_path):
    job(tmp_path, "0", "a" * 16), job(tmp_path, "deep/er", "b" * 16)
    (tmp_path / "1").mkdir()
    place = {key: finished.folder_of(tmp_path, 0, key * 16) for key in "abc"}
    assert place == {"a": "0", "b": "deep/er", "c": "0-cccccccc"}
    assert finished.folder_of(tmp_path, 1, "c" * 16) == "1" and finished.folder_of(tmp_path, 1, "a" * 16) == "0"
    changed(tmp_path / "0", version="0.0.1")  # It is computed anew in its own place.
    assert (
        finished.folder_of(tmp_path, 0, "a" * 16) == "0" and finished.folder_of(tmp_path, 0, "c" * 16) == "0-cccccccc"
    )


def test_lines_of_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep.time, "time", lambda: 1100.0)
    one = sweep.Sweep(tmp_path, 15, ("seed", "appraisal"), started=1000.0)
    overrides = ["data=digits", "seed=2", "appraisal=influence"]
    assert one.line(2, overrides) == "[3/15] seed=2 appraisal=influence"
    one.begins(0, ["seed=0"])
    one.ends(0, ["seed=0"], sweep.REUSED, None)
    assert one.line(2, overrides) == "[3/15] seed=2 appraisal=influence (1:40 so far)", "nothing to estimate from"
    one.ends(1, ["seed=1"], None, None)
    assert one.line(2, overrides) == "[3/15] seed=2 appraisal=influence (1:40 so far, about 21:40 to go)"
    assert sweep.Sweep(tmp_path, None, ()).line(0, overrides) == "[1/?] data=digits seed=2 appraisal=influence"
    assert sweep.clock(3725) == "1:02:05"


# ---- the basic launcher ----


def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    """Two sweeps at once, each job with an address of its own; one is killed and resumed, the other interrupted."""
    root, other = tmp_path / "a" / "sweep", tmp_path / "b" / "sweep"

    def second_job(process: Process, folder: Path) -> list[int]:
        until(lambda: (folder / "0/finished.json").exists() and len(parties(process.popen.pid)) == 3, process)
        return parties(process.popen.pid)

    with Processes(tmp_path) as processes:
        # Both have jobs left, however late they are killed or interrupted.
        many = "seed=" + ",".join(map(str, range(15)))  # the second one is interrupted after the first one is killed
        first, second = (
            start(processes, name, *SPAWN, some) for name, some in zip("ab", ("seed=0,1,2,3,4", many), strict=True)
        )
        workers = second_job(first, root)
        os.killpg(first.popen.pid, signal.SIGKILL)
        first.popen.wait(60)
        workers += second_job(second, other)
        os.killpg(second.popen.pid, signal.SIGINT)
        interrupted = second.wait(stretched(120))  # it writes the report first
        assert gone(workers, stretched(10))
        assert interrupted.code == 130 and "Traceback" not in interrupted.err
        done = list(kept(other))
        assert done == [str(k) for k in range(len(done))] and 1 <= len(done) < 15
        assert f"ended early: {len(done)} of 15 jobs finished" in interrupted.err and (other / "report.html").exists()
        before = kept(root)
        assert list(before) == [str(k) for k in range(len(before))] and 1 <= len(before) < 5
        # A seed in front: job 0 is now another one, and what job 0 had finished is found and kept. Seed 4 is new.
        again = start(processes, "a", *SPAWN, "seed=7,0,4", "resume=true").wait(stretched(120))
    assert again.code == 0, again.err
    assert f"{NOTHING}sweep/0\n" in again.out and again.out.count(NOTHING) == 1
    after = kept(root)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 2
    (seven,) = (name for name, seed in seeds(root).items() if seed == 7)
    (four,) = (name for name, seed in seeds(root).items() if seed == 4)
    assert seven.startswith("0-") and four.partition("-")[0] == "2"
    assert {record.session for record in read(root / four / "records.jsonl")} >= {"spawn"}
    assert "3 of 3 jobs finished, 1 of them in an earlier run" in again.err
    assert not list(root.rglob("*.new")) and not (root / ".sweep").exists()


def interrupted_sweep(processes: Processes, tmp_path: Path) -> Process:
    """Return a sweep of two jobs that is interrupted while the second one waits for its folder, which is held here."""
    (tmp_path / "a" / "sweep" / "1").mkdir(parents=True)
    held = FileLock(tmp_path / "a" / "sweep" / "1" / finished.LOCK)
    with held:
        process = start(processes, "a", *PLAIN, "seed=0,1", "resume=true")
        process.until("waiting for another process at work in sweep/1", stretched(60))
        os.killpg(process.popen.pid, signal.SIGINT)
        process.until("Ctrl-C again ends at once", stretched(60))
    return process


def test_an_interrupted_sweep_writes_the_report_of_what_finished(tmp_path):
    with Processes(tmp_path) as processes:
        ended = interrupted_sweep(processes, tmp_path).wait(stretched(120))
    assert ended.code == 130 and "Traceback" not in ended.err
    assert re.search(r"^ended early: 1 of 2 jobs finished \(\d:\d\d, sweep\); with resume=true", ended.err, re.M)
    assert ended.out.splitlines()[-1] == "report: sweep/report.html"
    text = (tmp_path / "a" / "sweep" / "report.md").read_text()
    assert "1 run, 1 method, 1 condition and 1 seed. Without results: 1 of 2 runs" in text and "| no records |" in text
    assert list(kept(tmp_path / "a" / "sweep")) == ["0"] and not (tmp_path / "a" / "sweep" / ".sweep").exists()


def test_a_second_interruption_ends_a_sweep_at_once(tmp_path):
    (tmp_path / "a" / "sweep").mkdir(parents=True)
    os.mkfifo(tmp_path / "a" / "sweep" / "report.html")  # nobody reads it, so that writing the report takes for ever
    with Processes(tmp_path) as processes:
        process = interrupted_sweep(processes, tmp_path)
        os.killpg(process.popen.pid, signal.SIGINT)
        ended = process.wait(stretched(60))
    assert ended.code == 130 and "Traceback" not in ended.err and "report: sweep/report.html" not in ended.out


def test_only_what_is_damaged_or_new_is_computed_again(tmp_path):
    root = tmp_path / "a" / "sweep"
    first = swept(tmp_path, "a", *PLAIN, "seed=0,1,2")
    assert first.code == 0 and seeds(root) == {"0": 0, "1": 1, "2": 2}, first.err
    lines = [line for line in first.err.splitlines() if re.match(r"\[\d/3\] seed", line)]
    assert [line.split(" (")[0] for line in lines] == ["[1/3] seed=0", "[2/3] seed=1", "[3/3] seed=2"]
    assert re.search(r"\(\d+:\d\d so far, about \d+:\d\d to go\)$", lines[2])
    assert re.search(r"^3 of 3 jobs finished \(", first.err, re.M)
    before = kept(root)
    os.truncate(root / "1" / "records.jsonl", 100)
    again = swept(tmp_path, "a", *PLAIN, "seed=0,1,2", "resume=true")
    assert again.code == 0 and "3 of 3 jobs finished, 2 of them in an earlier run" in again.err
    assert [line for line in again.out.splitlines() if NOTHING in line] == [f"{NOTHING}sweep/{k}" for k in (0, 2)]
    after = kept(root)
    assert (after["0"], after["2"]) == (before["0"], before["2"]) and after["1"][0] > before["1"][0]
    # Without resume nothing is lost unless it is asked for, and then all are computed.
    refused = swept(tmp_path, "a", *PLAIN, "seed=0")
    assert refused.code == 2 and "error: hydra.sweep.dir: got sweep, with records in sweep/" in refused.err
    assert kept(root) == after
    fresh = swept(tmp_path, "a", *PLAIN, "seed=0", "overwrite=true")
    assert fresh.code == 0 and NOTHING not in fresh.out and kept(root)["0"][0] > after["0"][0]


def test_failing_jobs_do_not_lose_the_others(tmp_path):
    """An error of the package is one line. Any other error, as of a folder in a file's place, has a traceback too."""
    (tmp_path / "a" / "sweep" / "0" / "report.html").mkdir(parents=True)
    ended = swept(tmp_path, "a", *PLAIN, "seed=0,1", "model.l2=1e-2,-1")
    assert ended.code == 2 and ended.err.count("Traceback") == 1
    assert "error: seed=0 model.l2=0.01: IsADirectoryError: " in ended.err
    assert all(f"error: seed={seed} model.l2=-1: model.l2: got -1" in ended.err for seed in (0, 1))
    said = r"3 of 4 jobs failed \(\d:\d\d, sweep\): seed=0 model.l2=0.01; seed=0 model.l2=-1; seed=1 model.l2=-1"
    assert re.fullmatch(said, ended.err.splitlines()[-1])
    assert list(kept(tmp_path / "a" / "sweep")) == ["2"]


def test_a_job_that_its_launcher_runs_again_is_no_failure(tmp_path):
    """Dask runs a finished job again if the worker is lost that holds its result. Here two jobs are the same one."""
    same = swept(tmp_path, "a", *PLAIN, "hydra.sweep.subdir=one", "seed=0,0")
    assert same.code == 0 and same.out.count(f"{NOTHING}sweep/one") == 1, same.err
    other = swept(tmp_path, "b", *PLAIN, "hydra.sweep.subdir=one", "seed=0,1")
    assert other.code == 2 and "error: seed=1: hydra.sweep.dir: got sweep/one; expected a folder without" in other.err
    assert seeds(tmp_path / "b" / "sweep") == {"one": 0}


def test_what_a_launcher_opened_is_closed_however_the_sweep_ends(tmp_path):
    closed = []

    def close(name: str, error: Exception | None = None) -> None:
        closed.append(name)
        if error is not None:
            raise error

    for whole in (True, False):
        sweep.close_at_end(lambda: close("first"))
        sweep.close_at_end(lambda: close("last", OSError("it is gone already")))
        assert sweep.end(whole).folder is None and sweep.end(whole).failed == 0
    assert closed == ["last", "first", "last", "first"]


def test_resume_is_for_one_machine_and_for_single_runs_too(tmp_path):
    with Processes(tmp_path) as processes:
        join = ["session=join", "session.role=dealer", "session.rendezvous=tcp://127.0.0.1:1", "resume=true"]
        refused = processes.app("join", *join)
        first = processes.app("a", *PLAIN).wait(stretched(60))
        again = processes.app("a", *PLAIN, "resume=true").wait(stretched(60))
        assert (
            refused.wait(stretched(60)).code == 2
            and "resume: got true; expected false between org" in refused.wait(1).err
        )
    assert first.code == again.code == 0 and NOTHING not in first.out and NOTHING in again.out


# ---- launchers of the extras ----

INSTALLED = {
    preset: importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(module)
    for preset, (_, module) in launchers.LAUNCHERS.items()
}


@pytest.mark.parametrize(
    ("preset", "worker", "options"),
    [
        ("joblib", "popen_loky_posix", ["hydra.launcher.n_jobs=2"]),
        ("submitit_local", "submitit.core._submit", ["hydra.sweeper.max_batch_size=2"]),
    ],
)
def test_a_killed_worker_loses_nothing_finished(tmp_path, preset, worker, options):
    if not INSTALLED[preset]:
        pytest.skip(f"launch={preset} needs an optional extra, whose plugin asks pip for a pre-release of hydra-core")
    root = tmp_path / "a" / "sweep"
    options = [f"+launch={preset}", *options, *SPAWN, "seed=0,1,2,3,4,5"]

    with Processes(tmp_path) as processes:
        first = start(processes, "a", *options)
        until(lambda: kept(root) and (root / "2").exists() and below(first.popen.pid, worker), first)
        os.kill(below(first.popen.pid, worker)[-1], signal.SIGKILL)
        killed = first.wait(stretched(120))
        assert killed.code != 0 and "ended early: " in killed.err
        before = kept(root)
        assert 1 <= len(before) < 6
        again = start(processes, "a", *options, "resume=true").wait(stretched(120))
        bad = start(processes, "b", *options[:2], *PLAIN, "model.l2=-1,1e-2").wait(stretched(120))
    assert again.code == 0 and seeds(root) == {str(k): k for k in range(6)}, again.err
    assert {name: kept(root)[name] for name in before} == before
    assert f"6 of 6 jobs finished, {len(before)} of them in an earlier run" in again.err
    assert all(again.err.count(f"[{k}/6] seed={k - 1}") == 1 for k in range(1, 7)), again.err
    assert bad.code == 2 and bad.err.count("error: model.l2=-1: ") == 1, bad.err
    assert re.search(r"1 of 2 jobs failed \(.*\): model.l2=-1\n", bad.err) and list(kept(tmp_path / "b" / "sweep")) == [
        "1"
    ]


@pytest.mark.parametrize(
    ("preset", "options"),
    [("ray", ["hydra.launcher.ray.init.num_cpus=2"]), ("dask", ["hydra.callbacks.dask.workers=2"])],
)
def test_two_workers_of_a_cluster_run_a_sweep(tmp_path, preset, options):
    if not INSTALLED[preset]:
        pytest.skip(
            f"launch={preset} needs the optional extra {preset}, whose packages are large and not in the tests'"
        )
    root = tmp_path / "a" / "sweep"
    with Processes(tmp_path) as processes:
        done = start(processes, "a", f"+launch={preset}", *options, *SPAWN, "seed=0,1,2").wait(stretched(300))
    assert done.code == 0 and seeds(root) == {"0": 0, "1": 1, "2": 2}, done.err
    assert "3 of 3 jobs finished" in done.err and (root / "report.html").exists() and "Nanny" not in done.err


def test_ctrl_c_ends_workers_of_dask_in_one_line(tmp_path):
    if not INSTALLED["dask"]:
        pytest.skip("launch=dask needs the optional extra dask, whose packages are large and not in the tests'")
    root = tmp_path / "a" / "sweep"
    words = ["+launch=dask", "hydra.callbacks.dask.workers=2", *SPAWN, f"seed={','.join(map(str, range(30)))}"]
    with Processes(tmp_path) as processes:
        process = start(processes, "a", *words)
        until(lambda: kept(root), process, 300)
        workers = below(process.popen.pid, "multiprocessing")
        os.killpg(process.popen.pid, signal.SIGINT)
        ended = process.wait(stretched(120))
        deadline = time.monotonic() + stretched(60)
        while any(map(parent, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert workers and not any(map(parent, workers))
    assert ended.code == 130 and ended.err.count("interrupted") == 1, ended.err
    assert not any(word in ended.err for word in ("Traceback", "distributed")) and (root / "report.html").exists()
