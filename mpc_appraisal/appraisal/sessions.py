"""Three ways to run one appraisal: plain (one process, no privacy), spawn (this machine), join (one organisation)."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpc_appraisal.appraisal.norms import check_norms, published_norms, with_norms
from mpc_appraisal.appraisal.outcome import release_of
from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.plan import THRESHOLD, DataOwnerInput, ModelOwnerInput, OwnInput, Plan, check_model
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.environment import whole
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.provenance import revision, versions
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.data import Dataset
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.methods import Facts, plaintext
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.backends.registry import check_engine, warn
from mpc_appraisal.mpc.backends.settings import PlainSettings, SpawnSettings
from mpc_appraisal.mpc.net.launch import Emit, launch
from mpc_appraisal.mpc.net.transport import FREEZE_SECONDS, Transport, check_clear, check_seconds
from mpc_appraisal.mpc.ring.fixed_point import check_range
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.release.accuracy import PLAINTEXT
from mpc_appraisal.release.dp.clipping import clipped
from mpc_appraisal.reporting.record import Record


@dataclass(frozen=True)
class Plain(PlainSettings):
    """Everything happens in this process in float64. It is the baseline, hides nothing, and has no engine to choose."""

    def run(self, plan: Plan, buyer: ModelOwnerInput, seller: DataOwnerInput, emit: Emit) -> list[Record]:
        check_model(buyer, plan.l2)
        start = time.perf_counter()
        model = buyer.model or plan.fit(buyer.train)
        train, test = (d.with_classes(model.classes) if d else None for d in (buyer.train, buyer.test))
        fitted = time.perf_counter() - start
        described = plan.release.description
        released = {} if described.plain_value else _released(plan, buyer, seller, model, train, test)
        records = []
        for candidate in seller.candidates:
            if candidate.features != model.features:
                raise DisagreementError(
                    f"features: {model.features} at {MODEL_OWNER}, {candidate.features} at {DATA_OWNER} in "
                    f"{candidate.name!r}; expected the same number"
                )
            candidate = clipped(candidate, described.row_norm, model.classes)
            check_range(candidate.x, f"party.data ({candidate.name})")
            data = candidate.with_classes(model.classes)
            for method in plan.methods:
                start = time.perf_counter()
                value, paper_value = plaintext(method, model, train, test, data)
                answer = released.get((method.name, data.name), {"value": value, "paper_value": paper_value})
                records.append(
                    Record(
                        method=method.name,
                        candidate=data.name,
                        **answer,
                        plaintext_value=value,
                        error_bound=PLAINTEXT.value,
                        error_note=PLAINTEXT.note,
                        n=data.rows,
                        features=data.features,
                        classes=data.classes,
                        seconds={"plaintext": time.perf_counter() - start + fitted},
                        seed=plan.seed,
                        versions=versions(),
                        config_hash=plan.digest,
                        revision=revision(),
                        session="plain",
                        engine="plaintext",
                        role="everybody",
                        trust="One process sees everything: a baseline, no privacy.",
                    )
                )
                done = {"done": len(records), "of": len(plan.methods) * len(seller.candidates)}
                emit(done | {"method": method.name, "candidate": data.name})
        return records


@dataclass(frozen=True)
class Spawn(SpawnSettings):
    """Model owner, data owner and dealer are three processes on this machine, each with its own files alone."""

    def run(self, plan: Plan, buyer: ModelOwnerInput, seller: DataOwnerInput, emit: Emit) -> list[Record]:
        plan = _with(plan, self, None)
        parts = {"train": buyer.train, "test": buyer.test}
        buyer_files: dict[str, Callable[[Path], None]] = {
            f"{k}.npz": _writer(d) for k, d in parts.items() if d is not None
        }
        if buyer.model is not None:
            buyer_files["model.npz"] = buyer.model.save
        if buyer.threshold is not None:
            stated = buyer.threshold if isinstance(buyer.threshold, (int, float)) else dict(buyer.threshold)
            buyer_files["threshold.json"] = lambda path: path.write_text(json.dumps(stated))
        seller_files = {f"candidate-{k}.npz": _writer(d) for k, d in enumerate(seller.candidates)}
        jobs: dict[str, dict[str, Any]] = {
            MODEL_OWNER: {"plan": plan, "read": _read_buyer, "files": buyer_files},
            DATA_OWNER: {"plan": plan, "read": _read_seller, "files": seller_files},
            DEALER: {"plan": plan, "read": _read_nothing},
        }
        if self.transport == "tls":  # the launcher's own rendezvous is in the clear
            with socket.create_server(("127.0.0.1", 0)) as free:
                where = f"tcp://127.0.0.1:{free.getsockname()[1]}"
            jobs = {role: job | {"rendezvous": where} for role, job in jobs.items()}
        return launch(_spawned, jobs, emit, self.threads)[MODEL_OWNER]


@dataclass(frozen=True)
class Join:
    """This process is one organisation's; the others start theirs.

    Attributes:
        role: 'model_owner', 'data_owner' or 'dealer'; None takes it from torchrun's rank (0, 1, 2).
        rendezvous: 'tcp://host:port', where the model owner listens; None under torchrun only.
        join_timeout: seconds to wait for the others to come.
        timeout: seconds that one message may take.
        engine: 'fast', 'stock' for CrypTen as shipped, or 'rtas', whose dealer sees permuted logits: `protocols.rtas`.
        logit_bound: public bound on |logits|; None derives it from norms that the owners tell.
        transport, tls, freeze_timeout, data_owner_address: see `Transport`.
        in_the_clear: True, or 'yes', states that who can read the network may read keys and shares; the transports tcp
            and gloo are refused without it.
    """

    role: str | None = None
    rendezvous: str | None = None
    join_timeout: float = 120.0
    timeout: float = 300.0
    engine: str = "fast"
    logit_bound: float | None = None
    transport: str = "tls"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    data_owner_address: str | None = None
    in_the_clear: bool | str = False
    name = "join"

    def resolved_role(self) -> str:
        """The role stated, or the one of torchrun's rank."""
        if self.role is not None:
            if self.role not in ROLES:
                raise InputError("session.role", repr(self.role), f"one of {', '.join(ROLES)}")
            return self.role
        if not os.environ.get("RANK"):
            raise InputError("session.role", None, f"one of {', '.join(ROLES)}, or a launch through torchrun")
        size = whole("WORLD_SIZE", len(ROLES), 1, 1 << 20)
        if size != len(ROLES):
            raise InputError("torchrun's number of processes", size, f"{len(ROLES)}: {', '.join(ROLES)}")
        return ROLES[whole("RANK", None, 0, len(ROLES) - 1)]

    def run(self, plan: Plan, read: Callable[[str], OwnInput], emit: Emit) -> list[Record]:
        """Play this organisation's part; `read(role)` returns its own input."""
        role = self.resolved_role()
        check_clear(self.transport, self.in_the_clear)
        plan = _with(plan, self, self.data_owner_address)
        return take_part(role, self.rendezvous, plan, lambda: read(role), emit)


Session = Plain | Spawn | Join


def _released(
    plan: Plan,
    buyer: ModelOwnerInput,
    seller: DataOwnerInput,
    model: SoftmaxRegression,
    train: Dataset | None,
    test: Dataset | None,
) -> dict[Key, dict[str, Any]]:
    """What a release other than the value's would tell of each appraisal, by method and candidate, in the clear."""
    release = plan.release.fitted(plan.methods, [c.name for c in seller.candidates])
    row_norm = release.description.row_norm
    seller = DataOwnerInput(
        tuple(clipped(c, row_norm, model.classes).with_classes(model.classes) for c in seller.candidates)
    )
    owned = {method.name: method.prepare(model, train, test) for method in plan.methods}
    shared, announced = release.announce(owned)
    published = {
        MODEL_OWNER: announced | published_norms(MODEL_OWNER, buyer, model.theta, owned, plan),
        DATA_OWNER: published_norms(DATA_OWNER, seller, None, {}, plan),
    }
    facts = {c.name: Facts.of(model, train, test, c) for c in seller.candidates}
    bound = check_norms(published, plan, facts)
    facts = with_norms(facts, published, bound)
    for method in plan.methods:
        if release.description.threshold:
            shared[method.name][THRESHOLD] = torch.tensor(buyer.threshold_of(method.name), dtype=torch.float64)
    found = {}
    candidates = {c.name: c for c in seller.candidates}
    for r in program(PlainSession(), plan, candidates, shared, facts, bound, lambda event: None):
        f, opened = facts[r.candidate], r.outcome.opened
        found[r.method.name, r.candidate] = {
            "value": None if opened is None else r.method.value(opened, f),
            "paper_value": None if opened is None else r.method.paper_value(opened, f),
            "release": release_of(release, r.method, f, r.outcome, bound=PLAINTEXT),
        }
    return found


def _with(plan: Plan, session: Spawn | Join, data_owner_address: str | None) -> Plan:
    check_seconds(join_timeout=session.join_timeout, timeout=session.timeout)
    warn(check_engine(session.engine))
    folder = None if session.tls is None else str(Path(session.tls).absolute())
    transport = Transport(session.transport, folder, session.freeze_timeout, data_owner_address)
    transport.check_engine(session.engine)
    return replace(
        plan,
        join_timeout=session.join_timeout,
        timeout=session.timeout,
        engine=session.engine,
        logit_bound=session.logit_bound,
        transport=transport,
    )


def _spawned(
    role: str, address: str, emit: Emit, folder: Path, plan: Plan, read, rendezvous: str | None = None
) -> list[Record]:
    where = rendezvous or address
    return take_part(role, where, plan, lambda: read(folder), emit, hosted=True, session_name="spawn")


def _writer(data: Dataset) -> Callable[[Path], None]:
    names = {"columns": data.columns, "class_names": data.class_names}
    stored = {key: np.array(value, dtype=str) for key, value in names.items() if value is not None}
    return lambda path: np.savez(
        path, x=data.x.numpy(), y=data.y.numpy(), classes=data.classes, name=data.name, **stored
    )


def _read_file(path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as f:
        names = (f[key].tolist() if key in f.files else None for key in ("columns", "class_names"))
        return Dataset.of(f["x"], f["y"], int(f["classes"]), str(f["name"]), *names)


def _read_buyer(folder: Path) -> ModelOwnerInput:
    def part(name: str) -> Dataset | None:
        return _read_file(folder / name) if (folder / name).exists() else None

    model = SoftmaxRegression.load(folder / "model.npz") if (folder / "model.npz").exists() else None
    stated = folder / "threshold.json"
    threshold = json.loads(stated.read_text()) if stated.exists() else None
    return ModelOwnerInput(part("train.npz"), part("test.npz"), model, threshold)


def _read_seller(folder: Path) -> DataOwnerInput:
    files = sorted(folder.glob("candidate-*.npz"), key=lambda p: int(p.stem.split("-")[1]))
    return DataOwnerInput(tuple(_read_file(path) for path in files))


def _read_nothing(folder: Path) -> None:
    return None
