"""The works of the engine's study, done by whichever build of this project is on the path, today's or an earlier one.

    python any_build.py    reads one work a line from standard input, and prints what it cost, both as JSON

One file measures every build, so that a difference is one of the build. It knows the places to which modules have moved
since, and otherwise uses names that the builds have in common; where a build shares rows of few bits in a narrower
ring, it does so here. The file imports nothing of `experiments`, because it runs under builds that have another one:
therefore `harness.parties`, which is today's build's, has `start_together` and `peak_bytes` too. A work is
{"work": NAME, ...} with the arguments of the function NAME below (single, appraisal, rows); its answer has what `cost`
returns. Each work takes three new processes.

CPU seconds are those of a party's process, all threads and the kernel's work for it included (`getrusage`), around the
measured part. Of a single score this is from the moment at which both owners start until the opening; of an appraisal
it is the joint program, dry run included, at an owner, and the whole of its service at the dealer. Meeting, exchanging
facts, fitting a model and checking data are not in it. The names of the works and the keys of an answer have to stay as
the study reads them.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

MODEL_OWNER, DATA_OWNER, DEALER = ROLES = ("model_owner", "data_owner", "dealer")
TIMEOUT, LEAD_SECONDS = 300.0, 0.1
Spec = dict[str, Any]
LATER = 8  # scores of the same X, from which the cost of a later one is taken
OUR_PLACES = {  # of names, in today's build and in those before its modules moved
    "methods": ("mpc_appraisal.methods", "mpc_appraisal.appraisal"),
    "registry": ("mpc_appraisal.mpc.backends.registry", "mpc_appraisal.mpc.engines"),
    "rendezvous": ("mpc_appraisal.mpc.net.rendezvous", "mpc_appraisal.mpc.rendezvous"),
    "launch": ("mpc_appraisal.mpc.net.launch", "mpc_appraisal.mpc.launch"),
    "party": ("mpc_appraisal.appraisal.party", "mpc_appraisal.party"),
    "plan": ("mpc_appraisal.appraisal.plan", "mpc_appraisal.plan"),
    "scenarios": ("mpc_appraisal.data.scenarios", "mpc_appraisal.scenario"),
    "provenance": ("mpc_appraisal.common.provenance", "mpc_appraisal.record"),
    "training": ("mpc_appraisal.models.training", "mpc_appraisal.training"),
}
Own = dict[str, torch.Tensor]
Cost = dict[str, Any]


def module(name: str) -> Any:
    """Return a module of the build by its name in OUR_PLACES."""
    for place in OUR_PLACES[name]:
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if not place.startswith(str(error.name)):
                raise
    raise ImportError(f"this build has no module of the name {name}")


def cpu_seconds() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far; `harness.parties` says why /proc is read."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ()
    found = [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cost(seconds: float, sent: float, rounds: float, cpu: dict[str, float], peak: dict[str, int], **more: Any) -> Cost:
    """Return what a work cost: seconds, bytes of all parties, rounds, and CPU seconds and largest memory by party."""
    return {"seconds": seconds, "bytes": sent, "rounds": rounds, "cpu_seconds": cpu, "peak_bytes": peak, **more}


# -- one result, step by step --------------------------------------------------------------------------------------
def single(inputs: str, method: str, bound: float, engine: str) -> dict[str, Any]:
    """Compute the score of a candidate jointly, from the arrays x, y, weights and direction of the file `inputs`.

    The method is GradientNorm, the norm of G = X'(softmax(XW) - Y) / n, or Influence, the sum of n G V. Returns the
    costs of the works single and kept (see `studies.engine.gradient`), the first score, and G as `opened`.
    """
    with np.load(inputs) as file:
        own = {key: torch.from_numpy(file[key]) for key in file}
    held = {MODEL_OWNER: ("weights", "direction"), DATA_OWNER: ("x", "y"), DEALER: ()}
    many = engine == "fast"
    given = {"sizes": (*own["x"].shape, own["weights"].shape[1], bound), "method": method, "engine": engine}
    given["resolution"] = _resolution(own["x"]) if many else None
    given["sessions"] = [(0, False), (0, False), (LATER, False), (0, True)] if many else [(1, True)]
    jobs = {role: given | {"own": {key: own[key] for key in keys}} for role, keys in held.items()}
    found = module("launch").launch(_sessions, jobs, lambda event: None)
    peak = {role: found[role]["peak"] for role in ROLES}
    by_session = [{role: found[role]["sessions"][k] for role in ROLES} for k in range(len(given["sessions"]))]
    first, later, count = (by_session[1], by_session[2], LATER) if many else (by_session[0], by_session[0], 1)
    return {
        "single": _upto(first, 0, peak),
        "kept": _each(count, _upto(later, count, peak), _upto(first, 0, peak)),
        "score": first[MODEL_OWNER]["score"],
        "opened": by_session[-1][MODEL_OWNER]["gradient"],
    }


def _resolution(x: torch.Tensor) -> Any:
    """Return the resolution of X, as the data owner announces it; None where X has none or the build knows none."""
    data = importlib.import_module("mpc_appraisal.data")
    if not hasattr(data, "resolution_of"):
        return None
    return data.resolution_of([data.Dataset(x, torch.zeros(len(x), dtype=torch.int64), 2, "x")])


def _upto(measured: dict[str, dict], at: int, peak: dict[str, int]) -> Cost:
    """Return the cost up to the gradient `at` of one session."""
    owners = [measured[MODEL_OWNER], measured[DATA_OWNER]]
    sent, rounds = sum(each["bytes"][at] for each in measured.values()), max(each["rounds"][at] for each in owners)
    cpu = {role: measured[role]["cpu"][at] for role in ROLES}
    return cost(measured[MODEL_OWNER]["seconds"][at], sent, rounds, cpu, peak)


def _each(parts: int, more: Cost, less: Cost) -> Cost:
    """Return a part of the difference of two costs; memory is that of the process, and no difference."""
    numbers = ((more[key] - less[key]) / parts for key in ("seconds", "bytes", "rounds"))
    cpu = {role: (more["cpu_seconds"][role] - less["cpu_seconds"][role]) / parts for role in ROLES}
    return cost(*numbers, cpu, more["peak_bytes"])


def _sessions(
    role: str, address: str, emit: Any, folder: Path, own: Own, sessions: list, **given: Any
) -> dict[str, Any]:
    """Be one party of all sessions, one after the other, each with so many `later` scores, and one that opens G."""
    rendezvous = module("rendezvous").Rendezvous(role, address, TIMEOUT, hosted=True)
    rendezvous.announce()
    messages, found = rendezvous.store, []
    for k, (later, opens) in enumerate(sessions):
        rendezvous.store = dist.PrefixStore(f"case/{k}", messages)  # each session meets under a name of its own
        rendezvous._topics.clear()
        getattr(rendezvous, "post_contact" if hasattr(rendezvous, "post_contact") else "post")()
        found.append(_session(rendezvous, own, later, opens, **given))
    rendezvous.exchange("done", {})
    rendezvous.close()
    return {"sessions": found, "peak": peak_bytes()}


def _session(rendezvous: Any, own: Own, later: int, opens: bool, engine: str, **given: Any) -> dict[str, Any]:
    """Return, for each score, seconds and CPU seconds since the start, bytes and rounds.

    The dealer knows bytes alone, and its CPU seconds are those of the whole session, for every score alike.
    """
    registry, counted = module("registry"), range(later + 1)
    if rendezvous.role == DEALER:
        before = cpu_seconds()
        marks = registry.deal(engine, rendezvous, TIMEOUT)
        used = cpu_seconds() - before
        return {"bytes": [mark - marks[-later - 2] for mark in marks[-later - 1 :]], "cpu": [used for _ in counted]}
    session, events = registry.open_session(engine, rendezvous, TIMEOUT), []
    if engine == "stock":  # CrypTen has one session a process, so it warms up in it
        compute(session, own, 0, False, lambda score: None, **given)
    _start_together(rendezvous)
    start, used, before = time.perf_counter(), cpu_seconds(), session.meter.cost()

    def opened(score: torch.Tensor) -> None:
        events.append((time.perf_counter() - start, cpu_seconds() - used, session.meter.cost(), float(score)))

    session.prepare(lambda dry: compute(dry, {}, later, opens, lambda score: None, **given))
    g = compute(session, own, later, opens, opened, **given)
    session.close()
    return {
        "seconds": [event[0] for event in events],
        "cpu": [event[1] for event in events],
        "bytes": [event[2].bytes_sent - before.bytes_sent for event in events],
        "rounds": [event[2].rounds - before.rounds for event in events],
        "score": events[0][3],
        "gradient": None if g is None else g.tolist(),
    }


def compute(
    session: Any, own: Own, later: int, opens: bool, opened: Callable[[Any], None], sizes: tuple, method: str,
    resolution: Any,
) -> torch.Tensor | None:  # fmt: skip
    """Compute one score and `later` more with other weights, call `opened` with each, and return G if it `opens` G.

    With a resolution, X is shared as integers, and the model owner's tensors are divided by the factor that X has then.
    """
    (n, d, classes, bound), methods = sizes, module("methods")
    scored, facts = getattr(methods, method)(), methods.Facts(d - 1, classes, 0, 0, n, 0.0)
    ratio = 1.0 if resolution is None else resolution.ratio
    forget = session.evict if hasattr(session, "evict") else session.forget
    session.bound_logits(bound)
    session.mark()
    x = _shared_rows(session, own, sizes, resolution)
    y = session.input(DATA_OWNER, lambda: own["y"][:n], (n, classes), "y")
    for k in range(later + 1):
        secrets = {
            key: session.input(MODEL_OWNER, lambda key=key, k=k: own[key] * ((1.0 - 0.01 * k) / ratio), shape, key)
            for key, shape in scored.private_shapes(facts).items()
        }
        opened(session.reveal(scored.score(secrets, x, y, facts), scored.opens, "benchmark"))
        session.mark()
        forget(*secrets.values())
    g = None
    if opens:  # after the last timed moment
        w = session.input(MODEL_OWNER, lambda: own["weights"] / ratio, (d, classes), "weights")
        g = session.reveal((x.matmul(w).softmax(1) - y).t().matmul(x).t(), "gradient", "benchmark") / (n * ratio)
        forget(w)
    forget(x, y)
    return g


def _shared_rows(session: Any, own: Own, sizes: tuple, resolution: Any) -> Any:
    """Share X, as integers where it has a resolution. X lacks the constant feature, which comes with the integers."""
    n, d, classes, bound = sizes
    if resolution is None:
        return session.input(DATA_OWNER, lambda: own["x"][:n], (n, d), "x")
    grids = importlib.import_module("mpc_appraisal.mpc.protocols.grid")
    grid = grids.grid_of(resolution.scale, resolution.bits, n, classes, bound)
    return session.input(DATA_OWNER, lambda: resolution.integers(own["x"][:n], "x")[:, :-1], (n, d), "x", grid)


def _start_together(rendezvous: Any) -> None:
    """Return at the same moment in the processes of both owners."""
    store, keys = rendezvous.store, [f"start/{role}" for role in (MODEL_OWNER, DATA_OWNER)]
    store.set(f"start/{rendezvous.role}", str(time.monotonic() + LEAD_SECONDS))
    while not store.check(keys):
        time.sleep(0.005)
    start = max(float(store.get(key)) for key in keys)
    time.sleep(max(0.0, start - time.monotonic() - 0.002))
    while time.monotonic() < start:
        pass


# -- whole appraisals ----------------------------------------------------------------------------------------------
def appraisal(
    method: Spec, market: Spec, count: int, engine: str, l2: float, relay: Sequence | None = None, checked: bool = False
) -> Cost:
    """Appraise `count` candidates of label-noised rows, as `mpc_appraisal.appraise` does for a user.

    Args:
        method, market: The name of a method's class as `of`, or of the data's as `data`, and the settings of it.
        relay: The host and port of a `harness.relay` that all connections of the parties go through; None for none.
        checked: Whether the owners check each other's messages, which earlier builds cannot.

    Returns the cost, with the worst `difference` from plaintext, the records' phases, and the dry run's `estimate`.
    """
    from mpc_appraisal import Spawn, appraise, data

    own, settings = dict(method), dict(market)
    source = getattr(data, settings.pop("data"))()
    built = module("scenarios").LabelNoise(**settings).build(*source.load(), 0)
    chosen = [each.data.renamed(each.name) for each in built.candidates][:count]
    stated = getattr(module("methods"), own.pop("of"))(**own)
    spent, session = {}, Spawn(engine=engine, **({"integrity": "on"} if checked else {}))
    with _measured(Spawn.run.__globals__, spent, relay):
        result = appraise(chosen, method=stated, train=built.train, test=built.test, l2=l2, session=session)
    return _of_records(list(result), spent) | {
        "difference": max(abs(record.difference) for record in result),
        "phases": {key: sum(record.seconds.get(key, 0.0) for record in result) for key in ("share", "private")},
        "largest": max(abs(record.value) for record in result),
        "estimate": result[0].estimate,
    }


def rows(file: str, known: str, classes: int, engine: str) -> Cost:
    """Appraise one candidate by influence that its owner reads from a file, which may be larger than its memory.

    `known` has the model owner's rows: the arrays train_x, train_y, test_x and test_y.
    """
    spent: dict[str, dict] = {}
    given = {"file": file, "known": known, "classes": classes, "engine": engine}
    real = module("launch").launch
    jobs = {role: given for role in ROLES}
    found = _launched(lambda party, told: real(party, told, lambda event: None), _stored, jobs, spent, None)
    return _of_records(found[MODEL_OWNER], spent) | {"value": found[MODEL_OWNER][0].value}


def _stored(
    role: str, address: str, emit: Any, folder: Path, file: str, known: str, classes: int, engine: str
) -> list[Any]:
    """Take part in an appraisal of the candidate in `file`; each owner reads its own file alone."""
    from functools import partial

    from mpc_appraisal.data import Dataset, open_dataset

    plans, l2, public = module("plan"), 1e-2, {"engine": engine}

    def read() -> Any:
        if role == DATA_OWNER:
            return plans.DataOwnerInput((open_dataset(Path(file), classes=classes).renamed("candidate"),))
        if role == MODEL_OWNER:
            with np.load(known) as held:
                x, y = ([torch.from_numpy(held[f"{part}_{key}"]) for part in ("train", "test")] for key in "xy")
            return plans.ModelOwnerInput(*(Dataset(x[k], y[k], classes, n) for k, n in enumerate(("train", "test"))))
        return None

    trains = partial(module("training").fit, l2=l2)
    method, digest = module("methods").Influence(), module("provenance").config_hash(public)
    plan = plans.Plan((method,), l2, 0, digest, trains, public, classes=classes, engine=engine)
    return module("party").take_part(role, address, plan, read, emit, hosted=True, session_name="spawn")


def _of_records(records: Sequence[Any], spent: dict[str, dict]) -> Cost:
    by_party = {role: sum(record.bytes_sent.get(role, 0) for record in records) for role in ROLES}
    cpu, peak = ({role: spent[role][key] for role in ROLES} for key in ("cpu", "peak"))
    found = cost(spent[MODEL_OWNER]["seconds"], sum(by_party.values()), max(r.rounds for r in records), cpu, peak)
    return found | {"bytes_by_party": by_party}


class _measured:
    """While it lasts, `launch` in a module's names also measures each party, into `spent` by role."""

    def __init__(self, names: dict[str, Any], spent: dict[str, dict], relay: Sequence | None):
        self.names, self.real, self.spent, self.relay = names, names["launch"], spent, relay

    def __enter__(self) -> None:
        real, spent, relay = self.real, self.spent, self.relay
        self.names["launch"] = lambda function, jobs, *rest, **more: _launched(
            lambda party, told: real(party, told, *rest, **more), function, jobs, spent, relay
        )

    def __exit__(self, *_: Any) -> None:
        self.names["launch"] = self.real


def _launched(launch: Callable, function: Any, jobs: dict, spent: dict[str, dict], relay: Any) -> dict[str, Any]:
    """Launch the parties of `function`, and put what `_party` measured of each into `spent`."""
    jobs = {role: job | {"function": function, "relay": relay} for role, job in jobs.items()}
    found = launch(_party, jobs)
    for role, (_, measured) in found.items():
        spent[role] = measured
    return {role: result for role, (result, _) in found.items()}


def _party(
    role: str, address: str, emit: Any, folder: Path, function: Any, relay: Any, **job: Any
) -> tuple[Any, dict[str, Any]]:
    """Be a party, and return its result, and the seconds, CPU seconds and calls of its joint programs, and its peak."""
    if relay:
        through(tuple(relay))
    spent = {"seconds": 0.0, "cpu": 0.0, "joint": 0}
    names = module("party").take_part.__globals__
    names |= {name: _watched(names[name], spent, name == "deal") for name in ("program", "deal")}
    result = function(role=role, address=address, emit=emit, folder=folder, **job)
    if spent["joint"] != 1:
        raise RuntimeError(f"{role}: {spent['joint']} joint programs were measured; expected 1")
    return result, spent | {"peak": peak_bytes()}


def _watched(real: Callable, spent: dict[str, Any], deals: bool) -> Callable:
    """Return the function with its seconds added up in `spent`; a dry run is not the joint one, and a replay in it."""

    def call(*arguments: Any, **more: Any) -> Any:
        if not deals and "Replay" in type(arguments[0]).__name__:
            return real(*arguments, **more)
        start, before = time.perf_counter(), cpu_seconds()
        try:
            return real(*arguments, **more)
        finally:
            spent["seconds"] += time.perf_counter() - start
            spent["cpu"] += cpu_seconds() - before
            spent["joint"] += deals or "Dry" not in type(arguments[0]).__name__

    return call


def through(relay: tuple[str, int]) -> None:
    """Let every later connection of this process go through a relay, to which the first line names the destination."""
    direct = socket.create_connection

    def connect(address: tuple[str, int], *arguments: Any, **more: Any) -> socket.socket:
        sock = direct(relay, *arguments, **more)
        sock.sendall(f"{address[0]} {address[1]}\n".encode())
        return sock

    socket.create_connection = connect


WORKS = {"single": single, "appraisal": appraisal, "rows": rows}


def main() -> None:
    """Do one work for each line of standard input. What anybody prints meanwhile goes to standard error."""
    sys.path.pop(0)  # the folder of this file, whose modules are no libraries
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(WORKS[asked.pop("work")](**asked)), file=answers, flush=True)


if __name__ == "__main__":
    main()
