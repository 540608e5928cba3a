"""Three ways to run one appraisal: `Plain` in one process in the clear, `Spawn` in three processes of this machine, and
`Join` as one organisation's own process.

In go a plan and the inputs that are at hand; out come records, one for each method and candidate (a data set of the
data owner; in the code the data owner is also the seller, and the model owner the buyer). `Spawn` and `Join` run
`party.take_part` in each process. `Plain` takes the same steps of `preparation` in the clear, and those of `program`
where a release opens anything but plain values. It has to keep doing so, because its values are the baseline of
private ones. The names of fields stand in configurations (conf/session) and have to stay; a field may be added with a
default.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.appraisal.norms import published_norms
from mpc_appraisal.appraisal.outcome import release_of
from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan, check_model
from mpc_appraisal.appraisal.preparation import Prepared, announce, classes_of, fitted_to_norms, prepare, transformed
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.appraisal.settings import settings_of
from mpc_appraisal.appraisal.tasks import check_supported
from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.environment import whole
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.provenance import config_hash, revision, versions
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, INTEGRITY, MODEL_OWNER, ON, ROLES
from mpc_appraisal.data import Dataset
from mpc_appraisal.data.resolution import AUTO
from mpc_appraisal.data.targets import CLASSES, NUMBER
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.methods import Facts
from mpc_appraisal.models.training import MODELS
from mpc_appraisal.mpc.backends.registry import warn
from mpc_appraisal.mpc.backends.settings import (
    INTEGRITY_DEFAULTS,
    PlainSettings,
    SpawnSettings,
    check_connection,
    checks_messages,
)
from mpc_appraisal.mpc.net.certificates import CertificateFiles
from mpc_appraisal.mpc.net.launch import Emit, begin, launch
from mpc_appraisal.mpc.net.rendezvous import check_launched, check_stated, parse_address
from mpc_appraisal.mpc.net.transport import FREEZE_SECONDS, Transport, check_clear, check_relay
from mpc_appraisal.mpc.ring.fixed_point import check_range
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.release.accuracy import PLAINTEXT
from mpc_appraisal.release.unbounded_logits import AUTO as AUTO_BOUND
from mpc_appraisal.reporting.record import Record


@dataclass(frozen=True)
class Plain(PlainSettings):
    """Everything happens in this process in float64. It is the baseline, hides nothing, and has no engine to choose."""

    def run(self, plan: Plan, buyer: ModelOwnerInput, seller: DataOwnerInput, emit: Emit) -> list[Record]:
        """Return one record for each candidate and method, with the value that the plan's release gives.

        Args:
            plan: What the parties would state alike.
            buyer: The model owner's input.
            seller: The data owner's input.
            emit: A function that receives progress events.

        Raises:
            InputError: An input does not fit the plan, or fixed point could not hold it.
            DisagreementError: The two sides' numbers of features differ.
        """
        check_supported(plan)
        check_model(buyer, plan.l2)
        classes = classes_of(buyer, plan)
        prepared = prepare(buyer, plan, classes)
        seller = transformed(seller, plan, {c.name: classes for c in seller.candidates})
        candidates = {c.name: c.with_classes(classes) for c in seller.candidates}
        released = {} if plan.release.description.plain_value else _released(plan, buyer, prepared, candidates)
        records = []
        emit({"state": "computing"})
        for data in candidates.values():
            if data.features != prepared.model.features:
                raise DisagreementError(
                    f"features: {prepared.model.features} at {MODEL_OWNER}, {data.features} at {DATA_OWNER} in "
                    f"{data.name!r}; expected the same number"
                )
            check_range(data.x, f"party.data ({data.name})")
            for method in plan.methods:
                start = time.perf_counter()
                value, paper_value = prepared.plaintext(method, data)
                seconds = time.perf_counter() - start + prepared.seconds[method.name]
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
                        seconds={"plaintext": seconds},
                        metric=method.measure.stated,
                        seed=plan.seed,
                        versions=versions(),
                        config_hash=plan.digest,
                        revision=revision(),
                        session="plain",
                        engine="plaintext",
                        role="everybody",
                        trust="One process sees everything: a baseline, no privacy.",
                        recipe=plan.public.get("recipe"),
                        settings=settings_of(plan, "plain"),
                    )
                )
                done = {"done": len(records), "of": len(plan.methods) * len(seller.candidates)}
                emit(done | {"method": method.name, "candidate": data.name})
        return records


@dataclass(frozen=True)
class Spawn(SpawnSettings):
    """Model owner, data owner and dealer are three processes on this machine, each with its own files alone."""

    def begin(self) -> None:
        """Begin to start the processes of a later `run`, so that they import while the caller prepares its input."""
        begin(_spawned, self.threads)

    def run(self, plan: Plan, buyer: ModelOwnerInput, seller: DataOwnerInput, emit: Emit) -> list[Record]:
        """Write each owner's input into its own folder, start the parties, and return the model owner's records.

        The arguments are those of `Plain.run`. Raises what `party.take_part` raises in one of the processes.
        """
        plan = _with(plan, self, None)
        check_supported(plan)
        sets = {"train": buyer.train, "test": buyer.test}
        buyer_files: dict[str, Callable[[Path], None]] = {
            f"{key}.npz": _writer(data) for key, data in sets.items() if data is not None
        }
        if buyer.model is not None:
            buyer_files["model.npz"] = buyer.model.save
            buyer_files["model.txt"] = lambda path: path.write_text(buyer.model.name)
        if buyer.threshold is not None:
            stated = buyer.threshold if isinstance(buyer.threshold, (int, float)) else dict(buyer.threshold)
            buyer_files["threshold.json"] = lambda path: path.write_text(json.dumps(stated))
        seller_files = {f"candidate-{k}.npz": _writer(d) for k, d in enumerate(seller.candidates)}
        if seller.resolution != AUTO:
            seller_files["resolution.json"] = lambda path: path.write_text(json.dumps(seller.resolution))
        jobs: dict[str, dict[str, Any]] = {
            MODEL_OWNER: {"plan": plan, "read": _read_buyer, "files": buyer_files},
            DATA_OWNER: {"plan": plan, "read": _read_seller, "files": seller_files},
            DEALER: {"plan": plan, "read": _read_nothing},
        }
        if self.transport == "tls":  # the launcher's own rendezvous is in the clear
            with socket.create_server(("127.0.0.1", 0)) as free:
                where = f"tcp://127.0.0.1:{free.getsockname()[1]}"
            jobs = {role: job | {"rendezvous": where} for role, job in jobs.items()}
        tables = [each for each in (buyer.train, buyer.test, *seller.candidates) if each is not None]
        work = max(each.rows * each.features * each.classes for each in tables)
        return launch(_spawned, jobs, emit, self.threads, work, plan.integrity)[MODEL_OWNER]


@dataclass(frozen=True)
class Join:
    """This process belongs to one organisation, and the others start their own.

    Attributes:
        role: 'model_owner', 'data_owner' or 'dealer'. None takes it from torchrun's rank (0, 1, 2).
        rendezvous: The address 'tcp://host:port' at which the model owner listens. None is for torchrun alone.
        join_timeout: The seconds to wait for the others to come.
        timeout: The seconds that one message may take.
        engine: 'fast', 'stock' for CrypTen as shipped, or 'rtas', whose dealer sees permuted logits: `backends.rtas`.
        logit_bound: The public bound on the absolute value of logits. None derives it from the norms that the owners
            announce, and so does 'auto', by which a softmax needs no bound where training may leave it.
        transport: The kind of connection; see `Transport`, also for the next three fields.
        tls: The folder of this party's certificate files.
        freeze_timeout: The seconds after which a silent peer counts as lost.
        data_owner_address: The address at which the data owner listens for the dealer.
        in_the_clear: True or 'yes' accepts that whoever can read the network reads keys and shares. The transports tcp
            and gloo are refused without it.
        integrity: Whether the owners check all of each other's messages before a value is opened: 'on' or True, 'off'
            or False.
        relay: The 'HOST:PORT' of a relay that all three parties dial in place of a rendezvous, or 'HOST:PORT/NAME'
            where several sessions of one authority meet there at one time. Only the transport tls can use one.

    Raises InputError, which names the field, for a setting that does not fit.
    """

    role: str | None = None
    rendezvous: str | None = None
    join_timeout: float = 120.0
    timeout: float = 300.0
    engine: str = "fast"
    logit_bound: float | str | None = AUTO_BOUND
    transport: str = "tls"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    data_owner_address: str | None = None
    in_the_clear: bool | str = False
    integrity: bool | str = INTEGRITY_DEFAULTS["join"]
    relay: str | None = None
    name = "join"

    def __post_init__(self):
        check_connection(self)
        object.__setattr__(self, "integrity", checks_messages(self.integrity, "integrity"))
        if self.role is not None:
            one_of("role", self.role, ROLES)
        for key in ("rendezvous", "data_owner_address"):
            if getattr(self, key) is not None:
                parse_address(getattr(self, key), key)
                if self.relay is not None:
                    raise InputError(key, repr(getattr(self, key)), "no address beside relay: no party listens")
        check_relay(self.relay, self.transport, "relay")
        check_clear(self.transport, self.in_the_clear, "in_the_clear")

    def check(self) -> str:
        """Return this party's role, once all that can be checked without the other parties fits it.

        Raises InputError for certificate files that are missing or do not fit the role, for an address that is missing,
        and as `resolved_role` does. Nothing was sent.
        """
        role = self.resolved_role()
        if self.transport == "tls":
            check_stated(self.rendezvous, self.relay)
            CertificateFiles.of(self.tls, role)
        elif self.rendezvous is None:
            check_launched()
        return role

    def resolved_role(self) -> str:
        """Return the stated role, or the one of torchrun's rank. Raises InputError where neither gives one."""
        if self.role is not None:
            return self.role
        if not os.environ.get("RANK"):
            raise InputError("session.role", None, f"one of {', '.join(ROLES)}, or a launch through torchrun")
        size = whole("WORLD_SIZE", len(ROLES), 1, 1 << 20)
        if size != len(ROLES):
            raise InputError("torchrun's number of processes", size, f"{len(ROLES)}: {', '.join(ROLES)}")
        return ROLES[whole("RANK", None, 0, len(ROLES) - 1)]

    def run(self, plan: Plan, read: Callable[[str], OwnInput], emit: Emit) -> list[Record]:
        """Take part as this organisation, and return its records.

        Args:
            plan: What all parties state alike.
            read: A function that returns the input of this organisation's role, which it is given.
            emit: A function that receives progress events.

        Raises:
            InputError: A setting does not fit, or else what `party.take_part` raises.
        """
        role = self.check()
        plan = _with(plan, self, self.data_owner_address, self.relay)
        return take_part(role, self.rendezvous, plan, lambda: read(role), emit)


Session = Plain | Spawn | Join


def _released(
    plan: Plan, buyer: ModelOwnerInput, prepared: Prepared, candidates: Mapping[str, Dataset]
) -> dict[Key, dict[str, Any]]:
    """Return what the release discloses of each appraisal, by the steps of `party` with all secrets in the clear."""
    release = plan.release.fitted(plan.methods, list(candidates))
    seller = DataOwnerInput(tuple(candidates.values()))
    shared, announced = announce(release, prepared.inputs)
    buyers = published_norms(MODEL_OWNER, buyer, prepared.model.theta, prepared.inputs, plan)
    published = {
        MODEL_OWNER: announced | buyers,
        DATA_OWNER: published_norms(DATA_OWNER, seller, None, {}, plan),
    }
    facts = {name: Facts.of(prepared.model, prepared.train, prepared.test, c) for name, c in candidates.items()}
    bound, facts = fitted_to_norms(plan, facts, published)
    found = {}
    for r in program(PlainSession(), plan, candidates, shared, facts, bound, lambda event: None):
        f, opened = facts[r.candidate], r.outcome.opened
        found[r.method.name, r.candidate] = {
            "value": None if opened is None else r.method.value(opened, f),
            "paper_value": None if opened is None else r.method.paper_value(opened, f),
            "release": release_of(release, r.method, f, r.outcome, bound=PLAINTEXT),
        }
    return found


def _with(plan: Plan, session: Spawn | Join, data_owner_address: str | None, relay: str | None = None) -> Plan:
    """Return `plan` with the session's engine, time limits, transport and integrity. A warning says what leaks.

    A check of messages is public: it stands in the public configuration, and where there is none, nothing stands there,
    as before there were such checks.
    """
    warn(session.engine)
    folder = None if session.tls is None else str(Path(session.tls).absolute())
    transport = Transport(session.transport, folder, session.freeze_timeout, data_owner_address, relay=relay)
    integrity = checks_messages(session.integrity)
    if integrity:
        public = plan.public | {INTEGRITY: ON}
        plan = replace(plan, public=public, digest=config_hash(public))
    return replace(
        plan,
        join_timeout=session.join_timeout,
        timeout=session.timeout,
        engine=session.engine,
        logit_bound=session.logit_bound,
        transport=transport,
        integrity=integrity,
    )


def _spawned(
    role: str, address: str, emit: Emit, folder: Path, plan: Plan, read, rendezvous: str | None = None
) -> list[Record]:
    """Run one party in a spawned process. rendezvous: the address in place of the launcher's own."""
    where = rendezvous or address

    def steps(event: dict[str, Any]) -> None:
        if role == MODEL_OWNER and event.get("state", "computing") == "computing":  # nobody waits on one machine
            emit(event)

    return take_part(role, where, plan, lambda: read(folder), steps, hosted=True, session_name="spawn")


def _writer(data: Dataset) -> Callable[[Path], None]:
    """Return a function that writes the data set to a file, as `_read_file` reads it."""
    names = {"columns": data.columns, "class_names": data.class_names}
    stored = {key: np.array(value, dtype=str) for key, value in names.items() if value is not None}
    return lambda path: np.savez(
        path, x=data.x.numpy(), y=data.y.numpy(), classes=data.classes, name=data.name, **stored
    )


def _read_file(path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as f:
        names = (f[key].tolist() if key in f.files else None for key in ("columns", "class_names"))
        target = NUMBER if int(f["classes"]) == 1 else CLASSES
        return Dataset.of(f["x"], f["y"], int(f["classes"]), str(f["name"]), *names, target)


def _read_buyer(folder: Path) -> ModelOwnerInput:
    def rows(name: str) -> Dataset | None:
        return _read_file(folder / name) if (folder / name).exists() else None

    model = None
    if (folder / "model.npz").exists():
        model = MODELS[(folder / "model.txt").read_text()].load(folder / "model.npz")
    stated = folder / "threshold.json"
    threshold = json.loads(stated.read_text()) if stated.exists() else None
    return ModelOwnerInput(rows("train.npz"), rows("test.npz"), model, threshold)


def _read_seller(folder: Path) -> DataOwnerInput:
    files = sorted(folder.glob("candidate-*.npz"), key=lambda p: int(p.stem.split("-")[1]))
    stated = folder / "resolution.json"
    resolution = json.loads(stated.read_text()) if stated.exists() else AUTO
    return DataOwnerInput(tuple(_read_file(path) for path in files), resolution=resolution)


def _read_nothing(folder: Path) -> None:
    return None
