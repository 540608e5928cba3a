"""Bad input is an error at every party: exit status not 0 within seconds, no private value told, nobody left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from processes import (
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    ROLES,
    Ended,
    Processes,
    alive,
    free_port,
    gone,
    problem,
    stretched,
    write_csv,
    write_npz,
)

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.net import launch
from mpc_appraisal.mpc.net.rendezvous import parse_address

SECONDS = 90.0  # a party that hears of a refusal has ended by then, on a loaded machine too
FOLDERS = {MODEL_OWNER: "buyer", DATA_OWNER: "seller", DEALER: "dealer"}
BAD = "ROOT/seller/private-file.csv"


@dataclass
class Case:
    """One refused session. own: by role, what is stated beside the good defaults. says: by role, regular expressions
    that its standard error matches. untold: texts that no party but `knows` may see. write: puts the bad file in place.
    """

    says: dict[str, tuple[str, ...]]
    own: dict[str, list[str]] = field(default_factory=dict)
    public: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    knows: str | None = None
    write: Callable[[Path], None] = lambda root: None
    roles: tuple[str, ...] = ROLES


def start(processes: Processes, case: Case) -> list[tuple[str, Ended]]:
    """Run one case; the role and the end of each process."""
    root = processes.folder
    train = write_npz(root / "buyer" / "train.npz", *problem(60, seed=1))
    test = write_npz(root / "buyer" / "test.npz", *problem(40, seed=2))
    seller = write_csv(root / "seller" / "seller.csv", *problem(50, seed=3))
    case.write(root)
    address = f"session.rendezvous=tcp://127.0.0.1:{free_port()}"
    public = ["session=join", address, "appraisal=influence", "session.join_timeout=25", *case.public]
    own = {
        MODEL_OWNER: [f"party.train={train}", f"party.test={test}"],
        DATA_OWNER: [f"party.data={seller}"],
        DEALER: [],
    }
    started = []
    for k, role in enumerate(case.roles):
        stated = [text.replace("ROOT", str(root)) for text in case.own.get(role, [])]
        name = FOLDERS[role] if role not in case.roles[:k] else f"{FOLDERS[role]}-{k}"
        started.append((role, processes.app(name, *public, f"session.role={role}", *own[role], *stated)))
    return [(role, process.wait(SECONDS + 30)) for role, process in started]


def of_seller(write: Callable[[Path], None], *patterns: str) -> Case:
    """The data owner brings a bad file; the others hear that its input is bad, and under which key, and no more."""
    published = ("error: data_owner stopped: bad input in party.data",)
    says = {DATA_OWNER: ("error: party.data", *patterns), MODEL_OWNER: published, DEALER: published}
    untold = ("private-file.csv", "7.39125", "739125")
    own = {DATA_OWNER: [f"party.data={BAD}"]}
    return Case(says, own, (), untold, DATA_OWNER, lambda root: write(root / "seller" / "private-file.csv"))


def of_buyer(part: str, stated: str, *patterns: str, write: Callable[[Path], None] = lambda root: None) -> Case:
    published = (f"error: model_owner stopped: bad input in party.{part}",)
    says = {MODEL_OWNER: (f"error: party.{part}", *patterns), DATA_OWNER: published, DEALER: published}
    return Case(says, {MODEL_OWNER: [f"party.{part}={stated}"]}, (), ("private-file",), MODEL_OWNER, write)


def holding(x: float | None = None, y: float | None = None) -> Callable[[Path], None]:
    """Writes a seller's set with one feature or one label of row 7 replaced."""

    def write(path: Path) -> None:
        features, labels = problem(50, seed=3)
        labels = labels.astype(object)
        if x is not None:
            features[7, 1] = x
        if y is not None:
            labels[7] = y
        write_csv(path, features, labels)

    return write


def without_label(path: Path) -> None:
    write_csv(path, *problem(50, seed=3))
    path.write_text(path.read_text().replace("label", "target", 1))


def wide(path: str, rows: int) -> Callable[[Path], None]:
    """Writes a set with two features too many."""
    write = write_npz if path.endswith(".npz") else write_csv
    return lambda root: write(root / path, *problem(rows, features=6, seed=2)) and None


def everywhere(*patterns: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(ROLES, patterns)


CASES = {
    "missing file": of_seller(lambda path: None, "private-file.csv", "an existing file"),
    "a folder": of_seller(lambda path: path.mkdir(), "private-file.csv", "an existing file"),
    "unreadable": of_seller(
        lambda path: path.write_bytes(b'"' + bytes(range(256)) * 4) and None, "private-file.csv", "readable"
    ),
    "no rows": of_seller(
        lambda path: path.write_text("f0,f1,f2,f3,label\n") and None, "no rows", "expected one row or more"
    ),
    "no label column": of_seller(without_label, "without a column 'label'", "expected one label column named 'label'"),
    "label not integer": of_seller(holding(y=1.5), "the first is 1.5 in row 7", "expected integer labels"),
    "label negative": of_seller(holding(y=-1), "the first is -1 in row 7", "expected labels 0"),
    "label beyond the model's": of_seller(holding(y=9), "a label 9", "expected labels from 0 to 2"),
    "NaN": of_seller(holding(x=float("nan")), "NaN or infinite", "expected finite numbers"),
    "infinity": of_seller(holding(x=float("inf")), "NaN or infinite", "expected finite numbers"),
    "beyond fixed point": of_seller(holding(x=7391250.0), r"a value of 7.39125e\+06", "expected .* at most 32768"),
    "missing file of the model owner": of_buyer("train", "ROOT/buyer/private-file.npz", "private-file.npz", "existing"),
    "no training data": of_buyer("train", "null", "got None; expected a data set"),
    "no test data": of_buyer("test", "null", "got None; expected a data set: the method influence needs it"),
    "train and test differ": of_buyer(
        "test", "ROOT/buyer/wide.npz", "got 6 features; expected 4", write=wide("buyer/wide.npz", 40)
    ),
    "no candidates": Case(
        {role: ("data_owner stopped: bad input in party.data",) for role in (MODEL_OWNER, DEALER)}
        | {DATA_OWNER: ("error: party.data: got None; expected one file or a list of files",)},
        {DATA_OWNER: ["party.data=null"]},
    ),
    "different numbers of features": Case(
        everywhere("features: 4 at model_owner, 6 at data_owner in 'wide'; expected the same number"),
        {DATA_OWNER: ["party.data=ROOT/seller/wide.csv"]},
        write=wide("seller/wide.csv", 50),
        untold=("seller/wide",),
    ),
    "different public configurations": Case(
        everywhere("model.l2: 0.01 at model_owner, 0.02 at data_owner"),
        {DATA_OWNER: ["model.l2=2e-2"]},
        untold=("seller.csv", "train.npz"),
    ),
    "two data owners": Case(
        everywhere("two parties claim the role data_owner"), roles=(MODEL_OWNER, DATA_OWNER, DATA_OWNER)
    ),
    **{
        f"{absent} never comes": Case(
            everywhere(f"error: .*{absent} did not come"),
            public=("session.join_timeout=6",),
            roles=tuple(role for role in ROLES if role != absent),
        )
        for absent in ROLES
    },
    "a malformed rendezvous": Case(
        everywhere("error: session.rendezvous: got '127.0.0.1:29500'; expected tcp://HOST:PORT"),
        public=("session.rendezvous='127.0.0.1:29500'",),
    ),
    "no rendezvous": Case(
        everywhere("error: session.rendezvous: got None; expected tcp://HOST:PORT, or a launch through torchrun"),
        public=("session.rendezvous=null",),
    ),
    "a wrong role": Case(
        {DATA_OWNER: ("^error: session.role: got 'seller'; expected one of model_owner, data_owner, dealer\n$",)},
        {DATA_OWNER: ["session.role=seller"]},
        roles=(DATA_OWNER,),
    ),
}


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """How each chosen case ends; two run at a time, for much of their time is waiting."""
    specs = [getattr(item, "callspec", None) for item in request.session.items if item.module is request.module]
    chosen = [spec.params["case"] for spec in specs if spec is not None and "case" in spec.params]

    def run(name: str, folder: Path) -> list[tuple[str, Ended]]:
        with Processes(folder) as processes:
            return start(processes, CASES[name])

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, name, tmp_path_factory.mktemp("case")) for name in chosen}


@pytest.mark.parametrize("case", CASES)
def test_every_party_refuses(case, outcomes):
    expected = CASES[case]
    ended = outcomes[case].result()
    assert [role for role, _ in ended] == list(expected.roles)
    for role, end in ended:
        assert end.code == 2 and "Traceback" not in end.err, f"{role}: status {end.code}\n{end.err[-3000:]}"
        assert end.seconds < SECONDS, f"{role} took {end.seconds:.1f} s"
        for pattern in expected.says[role]:
            assert re.search(pattern, end.err), f"{role} does not say {pattern!r}:\n{end.err[-3000:]}"
        for text in expected.untold if role != expected.knows else ():
            assert text not in end.out + end.err, f"{role} was told {text!r}:\n{end.err[-3000:]}"


@pytest.mark.parametrize("address", ["a:1", "tcp://a", "http://a:1", "tcp://:1", "tcp://a:99999", "", None])
def test_a_malformed_address(address):
    with pytest.raises(InputError, match="session.rendezvous: got .*; expected tcp://HOST:PORT"):
        parse_address(address)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("appraisal.damping=-1", "appraisal.damping: got -1; expected a finite number, 0 or more"),
        ("model.l2=-1", "model.l2: got -1"),
        ("model.l2=much", "model.l2: got 'much'; expected a finite number, 0 or more"),
        ("seed=-1", "seed: got -1; expected an integer of 0 or more"),
        ("seed=one", "seed: got 'one'; expected an integer of 0 or more"),
        ("scenario.candidates=0", "scenario.candidates: got 0; expected an integer of 1 or more"),
        ("data=cifar10", "data.root"),
        ("data=mnist", "data.root"),
    ],
)
def test_a_bad_configuration(override, says, processes):
    """Without a network: a proxy that does not answer stands in for it, and the user's cache is empty."""
    offline = {"XDG_CACHE_HOME": str(processes.folder / "cache"), "MPC_APPRAISAL_DATA": ""}
    offline |= {"NO_PROXY": "", "no_proxy": ""}
    offline |= {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
    offline |= {f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS")}
    command = [
        sys.executable,
        "-m",
        "mpc_appraisal.cli.app",
        "appraisal=influence",
        "scenario.size=40",
        "scenario.candidates=2",
        override,
        f"hydra.run.dir={processes.folder / 'run'}",
    ]
    ended = processes.start("app", command, offline).wait(60)
    assert ended.code == 2 and f"error: {says}" in ended.err, ended.err[-3000:]
    assert "Traceback" not in ended.err
    if override.startswith("data="):
        assert "state it, or set the environment variable MPC_APPRAISAL_DATA" in ended.err


# ---- a party killed half way ----


LONG = ("appraisal=finetuning", "appraisal.steps=100", "appraisal.lr=0.01")  # seconds are left after the first of 40


@pytest.mark.parametrize("victim", ROLES)
def test_a_party_killed_half_way(victim, processes):
    root = processes.folder
    train = write_npz(root / "buyer" / "train.npz", *problem(60, seed=1))
    files = [write_csv(root / "seller" / f"s{k}.csv", *problem(50, seed=k)) for k in range(40)]
    public = ["session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", *LONG]
    own = {
        MODEL_OWNER: [f"party.train={train}", f"party.test={train}"],
        DATA_OWNER: [f"party.data=[{','.join(map(str, files))}]"],
        DEALER: [],
    }
    started = {role: processes.app(FOLDERS[role], *public, f"session.role={role}", *own[role]) for role in ROLES}
    started[MODEL_OWNER].until("[1/40]")
    started[victim].kill()
    killed = time.monotonic()
    for role in set(ROLES) - {victim}:
        ended = started[role].wait(30)
        assert time.monotonic() - killed < stretched(10), f"{role} took {time.monotonic() - killed:.1f} s"
        assert ended.code == 2 and "Traceback" not in ended.err, ended.err[-3000:]
        named = f"error: .*(lost {victim}|{victim} (stopped|is gone|did not))"
        assert re.search(named, ended.err), f"{role}: {ended.err[-3000:]}"


# ---- the same in a session on this machine ----


@pytest.fixture
def workers(monkeypatch):
    """The processes of the parties, by name, as `launch` starts them."""
    started: dict[str, subprocess.Popen] = {}
    original = launch._start

    def start(folder, threads):
        started[folder.name] = original(folder, threads)
        return started[folder.name]

    monkeypatch.setattr(launch, "_start", start)
    yield started
    for party in started.values():
        if party.poll() is None:
            party.kill()


def small(**changes) -> dict:
    sets = {key: Dataset.of(*problem(n, seed=k), classes=3) for k, (key, n) in enumerate([("train", 60), ("test", 40)])}
    return {"train": sets["train"], "test": sets["test"], "method": "gradient_norm"} | changes


@pytest.mark.parametrize("victim", ROLES)
def test_a_worker_killed_half_way(victim, workers):
    def kill(event):
        if event["done"] == 1:
            os.kill(workers[victim].pid, signal.SIGKILL)

    candidates = {f"c{k}": problem(50, seed=k) for k in range(40)}
    with pytest.raises(PeerError, match=victim):
        appraise(candidates, **small(progress=kill))
    assert set(workers) == set(ROLES) and all(party.poll() is not None for party in workers.values())
    assert not [role for role, party in workers.items() if alive(party.pid)]


PARENT = """
import sys
import numpy as np
from mpc_appraisal import Finetuning, appraise
from mpc_appraisal.mpc.net import launch
original, pids = launch._start, []
def start(folder, threads):
    party = original(folder, threads)
    pids.append(party.pid)
    return party
launch._start = start
def show(event):
    print("pids", *pids, file=sys.stderr, flush=True)
rng = np.random.default_rng(0)
sets = {f"c{k}": (rng.normal(size=(50, 4)), rng.integers(0, 3, 50)) for k in range(20)}
train = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
appraise(sets, train=train, test=train, method=Finetuning(steps=400, lr=0.01), progress=show)
"""


def test_a_parent_killed_half_way(processes):
    parent = processes.start("parent", [sys.executable, "-c", PARENT])
    parent.until("pids")
    pids = [int(pid) for pid in parent.err.split("pids", 1)[1].split("\n")[0].split()]
    assert len(pids) == 3 and all(alive(pid) for pid in pids)
    os.kill(parent.popen.pid, signal.SIGKILL)  # the parent alone: its children must see it by themselves
    parent.popen.wait(60)
    try:
        assert gone(pids, 10)
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


MODEL = fit(Dataset.of(*problem(60), classes=3), 2e-2)


@pytest.mark.parametrize(
    ("changes", "candidate", "says"),
    [
        ({"train": None}, None, "^train: "),
        ({"method": "influence", "test": None}, None, "^test.*influence"),
        ({"train": None, "model": MODEL}, None, "^model: got a model trained with l2 = 0.02; expected 0.01"),
        (
            {"model": MODEL, "l2": 2e-2, "test": Dataset.of(*problem(9, 6))},
            None,
            "^test: got 6 features; expected 4",
        ),
        ({"l2": float("nan")}, None, "^l2: got nan"),
        ({"seed": 1.5}, None, "seed: got 1.5"),
        ({"method": "shapley"}, None, "^method: got shapley"),
        ({"session": "join"}, None, "session: got 'join'"),
        ({}, (np.full((5, 4), 1e6), np.zeros(5, int)), "1e\\+06.*at most 32768.*standardise features"),
        ({}, (np.zeros((5, 3)), np.zeros(5, int)), "features: 4 at model_owner, 3 at data_owner"),
        ({}, (np.zeros((5, 4)), np.full(5, 3)), "a label 3; expected labels from 0 to 2"),
        ({}, (np.full((5, 4), np.nan), np.zeros(5, int)), "NaN"),
        ({}, (np.zeros((0, 4)), np.zeros(0, int)), "no rows"),
        ({}, {}, "data: got None; expected one or more"),
        ({}, [Dataset.of(*problem(5)), Dataset.of(*problem(5))], "a different name for each candidate"),
    ],
)
def test_bad_arguments(changes, candidate, says, workers):
    with pytest.raises(AppraisalError, match=says):
        appraise(problem(50, seed=3) if candidate is None else candidate, **small(**changes))
    assert all(party.poll() is not None for party in workers.values())


def test_an_input_error_keeps_name_value_and_expectation_across_processes(workers):
    with pytest.raises(InputError) as caught:
        appraise((np.full((5, 4), 1e6), np.zeros(5, int)), **small())
    assert len(workers) == 3 and caught.value.name == "data (data)" and caught.value.value == "a value of 1e+06"
