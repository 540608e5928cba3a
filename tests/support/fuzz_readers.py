"""What `fuzz` mutates: by reader, small valid files or messages, and how they are read."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from mpc_appraisal.appraisal.encrypted_answers import SEALED, EncryptedAnswers, _outcome
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Layers, files, public, read_dataset
from mpc_appraisal.governance.approval.decide import Request, Rules
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.budget.state import verify
from mpc_appraisal.governance.catalogue import new_salt, publish, read_listing, read_salt, write_salt
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.encryption.signed_upload import new_signing_key, read_upload, write_upload
from mpc_appraisal.marketplace.plan_file import read_plan
from mpc_appraisal.marketplace.record import MarketRecord
from mpc_appraisal.marketplace.uploads.enrolment import enrol, read_keys, registry
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Dense, Network, initial
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.net import frames
from mpc_appraisal.mpc.net import message_schemas as schemas
from mpc_appraisal.mpc.net.certificates import CertificateFiles, make_trial
from mpc_appraisal.mpc.net.handshake import read_hello
from mpc_appraisal.mpc.net.messages import Messages
from mpc_appraisal.mpc.net.stream import Incoming
from mpc_appraisal.mpc.protocols import dealer
from mpc_appraisal.release import Ledger, Policy
from mpc_appraisal.release.base import Outcome
from mpc_appraisal.reporting.record import Record, read

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
HASH = "a1" * 32


@dataclass(frozen=True)
class Reader:
    """seeds: makes valid inputs, in a folder that `read` is given too. few: mutants in continuous
    integration; 0: a few, and none is to be refused."""

    name: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], Any]
    few: int = 12


READERS: list[Reader] = []


def of_file(name: str, suffix: str, make: Callable[[Path], list[bytes]], read_file: Callable[[Path], Any], few=12):
    """A reader of one file."""

    def read_bytes(data: bytes, folder: Path) -> Any:
        path = folder / f"mutant{suffix}"
        path.write_bytes(data)
        return read_file(path)

    READERS.append(Reader(name, make, read_bytes, few))


def of_bytes(name: str, make: Callable[[Path], list[bytes]], read_bytes: Callable[[bytes], Any], few=12) -> None:
    """A reader of bytes."""
    READERS.append(Reader(name, make, lambda data, folder: read_bytes(data), few))


def saved(save: Callable[[Path], Any], *suffixes: str) -> Callable[[Path], list[bytes]]:
    """Seeds that a function writes to a path."""

    def make(folder: Path) -> list[bytes]:
        found = []
        for suffix in suffixes:
            path = folder / f"seed{suffix}"
            save(path)
            found.append(path.read_bytes())
        return found

    return make


# ---- data ----

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).round(3), np.arange(12) % 3
TABLE = pd.DataFrame(X, columns=["age", "income", "visits"]).assign(label=Y)


def whole(path: Path) -> Any:
    return read_dataset(path)


def stored(path: Path) -> Any:
    """As a file that is too large for the memory."""
    with mock.patch.object(files, "STORED_BYTES", 0):
        data = files.open_dataset(path)
        return list(data.blocks(5))


of_file("npz", ".npz", saved(lambda p: np.savez(p, x=X, y=Y), ".npz"), whole)
of_file("csv", ".csv", saved(lambda p: TABLE.to_csv(p, index=False), ".csv"), whole, 24)
of_file("parquet", ".parquet", saved(lambda p: TABLE.to_parquet(p), ".parquet"), whole)
of_file("stored npz", ".npz", saved(lambda p: np.savez(p, x=X, y=Y), ".npz"), stored)
of_file("stored parquet", ".parquet", saved(lambda p: TABLE.to_parquet(p), ".parquet"), stored)
IDX = bytes([0, 0, 8, 1, 0, 0, 0, 5]) + bytes(range(5))
of_file("idx", ".idx", lambda folder: [IDX], lambda path: public._idx(path, 1))


def cifar(folder: Path) -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("data_batch_1.bin", "test_batch.bin"):
            entry = tarfile.TarInfo(f"cifar/{name}")
            entry.size = 3073
            archive.addfile(entry, io.BytesIO(bytes(3073)))
    return [out.getvalue()]


of_file("cifar", ".tar.gz", cifar, lambda path: public._tar(path, ("data_batch_1.bin", "test_batch.bin")))


# ---- catalogue, approval, ledger ----


def listing(folder: Path) -> list[bytes]:
    data = read_dataset_of(folder)
    stated = {"name": "sales", "types": {"binary": 0, "integer": 0, "real": 3}}
    (folder / "out").mkdir()
    return [Path(publish(data, stated, folder / "out", folder / "salt")).read_bytes()]


def in_listing(data: bytes, folder: Path) -> Any:
    (folder / "sales.json").write_bytes(data)  # a listing is called as its file is
    return read_listing(folder / "sales.json")


def read_dataset_of(folder: Path) -> Any:
    np.savez(folder / "data.npz", x=X, y=Y)
    return read_dataset(folder / "data.npz")


REQUEST = {
    "format": "mpc_appraisal request 1",
    "methods": [{"name": "influence", "settings": "Influence(damping=0.0)", "opens": "the influence"}],
    "model": {"features": 64, "classes": 10, "train_rows": 600, "test_rows": 500, "l2": 0.01},
    "candidates": [{"name": "digits-a", "rows": 440, "listing": None}],
    "release": {"kind": "value", "words": "both owners learn the value of each candidate"},
    "openings": [
        {"what": "the value", "to": ["model_owner"], "numbers": 1, "why": "result", "times": 1, "method": "influence"}
    ],
    "privacy": None,
    "told": {"data_owner": {"row_norm": 9.5}, "model_owner": {"row_norm": 9.5, "weight_norm": 1.2}},
    "protocol": {"engine": "fast", "transport": "tls", "trust": "Semi-honest parties."},
    "config": "0123456789abcdef",
}


def as_json(*values: Any) -> Callable[[Path], list[bytes]]:
    return lambda folder: [json.dumps(value).encode() for value in values]


def laid(folder: Path) -> list[bytes]:
    request = Request(REQUEST)
    RequestQueue(folder / "desk", lambda: NOON).put(request, "acme")
    return [(folder / "desk" / f"{request.id}.json").read_bytes()]


def on_desk(data: bytes, folder: Path) -> Any:
    request = Request(REQUEST)
    (folder / "desk" / f"{request.id}.json").write_bytes(data)
    return RequestQueue(folder / "desk", lambda: NOON).read(request.id)


def charged(folder: Path) -> list[bytes]:
    Ledger(folder / "seed.ledger", "sales", Policy(), lambda: NOON)
    return [(folder / "seed.ledger").read_bytes()]


def private_salt(path: Path) -> bytes:
    path.chmod(0o600)
    return read_salt(path)


RULES = b"methods: [influence]\nminimum_rows: 100\nmaximum_epsilon: 0.5\nlisted: true\nexpires: 2030-01-01\n"
READERS.append(Reader("listing", listing, in_listing))
of_file("salt", ".salt", saved(lambda path: write_salt(path, new_salt()), ".salt"), private_salt)
of_bytes("request", as_json(REQUEST), lambda data: Request.from_json(data.decode("utf-8", "replace")))
READERS.append(Reader("desk", laid, on_desk))
of_file("ledger", ".ledger", charged, verify)
of_file("policy", ".yaml", lambda folder: [b"epsilon: 1.0\ndelta: 1e-6\nminimum_rows: 50\n"], Policy.read)
of_file("rules", ".yaml", lambda folder: [RULES], Rules.read)


# ---- models, records ----

SMALL = Architecture("small", (1, 4, 4), (Dense(3), Dense(2)))
RECORD = Record("influence", "a", 0.5, n=3, seconds={"fit": 1.0}, bytes_sent={"dealer": 3}, versions={"python": "3"})
MODEL = SoftmaxRegression(torch.arange(8, dtype=torch.float64).reshape(4, 2) / 8, 0.1)
LAYERS = {"w0": np.ones((3, 2)), "b0": np.zeros(2)}


def market_record(folder: Path) -> list[bytes]:
    facts = dict.fromkeys(record_keys(), 0) | {"kind": record_kind()}
    return [json.dumps(facts).encode() + b"\n"]


def record_keys() -> set[str]:
    from mpc_appraisal.marketplace.record import KEYS

    return KEYS


def record_kind() -> str:
    from mpc_appraisal.marketplace.record import KIND

    return KIND


of_file("model", ".npz", saved(MODEL.save, ".npz"), SoftmaxRegression.load)
of_file("network", ".npz", saved(initial(SMALL, 0).save, ".npz"), Network.load)
of_file("extractor", ".npz", saved(lambda p: np.savez(p, **LAYERS), ".npz"), lambda path: Layers(str(path)).digest)
of_file("record", ".jsonl", lambda folder: [(RECORD.to_json() + "\n").encode(), RECORD.to_json().encode()[:0]], read)
of_file("market record", ".jsonl", market_record, MarketRecord.read)


# ---- marketplace ----

PLAN = {
    "network": "cnn",
    "image": [1, 28, 28],
    "classes": 10,
    "protocol": "ife_transform",
    "scheme": "lwe",
    "update": "exact",
    "selection": "margin",
    "budget": 50,
    "seed": 0,
    "batch": 256,
    "validation": {"granularity": 10, "steps": 10, "lr": 0.05, "batch_size": 8},
}


def enrolment(folder: Path) -> list[bytes]:
    path = enrol(folder / "authority", "seller-a", ARCHITECTURES["mlp"], folder, LWE(), 0.5)
    return [path.read_bytes()]


def registered(folder: Path) -> list[bytes]:
    enrolment(folder)
    return [(folder / "authority" / "registry" / "seller-a.json").read_bytes()]


def in_registry(data: bytes, folder: Path) -> Any:
    (folder / "authority" / "registry" / "seller-a.json").write_bytes(data)
    return registry(folder / "authority")


def kept(folder: Path) -> list[bytes]:
    enrolment(folder)
    (path,) = [path for path in (folder / "authority").iterdir() if path.name.startswith("seller-a")]
    return [path.read_bytes()]


def in_state(data: bytes, folder: Path) -> Any:
    (path,) = [path for path in (folder / "authority").iterdir() if path.name.startswith("seller-a")]
    path.write_bytes(data)
    return Authority(folder / "authority", LWE()).verify_key("seller-a")


KEYS: dict[str, Any] = {}


def uploaded(folder: Path) -> list[bytes]:
    scheme = LWE()
    secret, verify_key = new_signing_key()
    authority = Authority(folder / "a", scheme)
    home = authority.enrol("seller-a", 4, verify_key)
    KEYS.update(verify=verify_key, scheme=scheme)
    path = folder / "seed.upload"
    x, y = np.arange(8).reshape(2, 4), np.arange(2)
    write_upload(path, "seller-a", scheme, home.encryption_key, x, y, (1, 2, 2), secret, home.label_secret)
    return [path.read_bytes()]


of_file("plan", ".json", as_json(PLAN), read_plan, 24)
of_file("enrolment", ".enrolment", enrolment, read_keys, 24)
READERS.append(Reader("registry", registered, in_registry))
READERS.append(Reader("authority's state", kept, in_state))
of_file("upload", ".upload", uploaded, lambda path: read_upload(path, "seller-a", KEYS["verify"], KEYS["scheme"]))


# ---- certificates ----


def certificate(ending: str) -> tuple[Callable[[Path], list[bytes]], Callable[[bytes, Path], Any]]:
    def make(folder: Path) -> list[bytes]:
        make_trial(folder / "trial")
        return [(folder / "trial" / "dealer" / ending).read_bytes()]

    def read_one(data: bytes, folder: Path) -> Any:
        (folder / "trial" / "dealer" / ending).write_bytes(data)
        return CertificateFiles.of(folder / "trial", "dealer").context(server=False)

    return make, read_one


for one in ("ca.pem", "dealer.pem", "dealer.key"):
    READERS.append(Reader(one, *certificate(one)))


# ---- messages ----

HEADER = frames.Header(frames.Kind.TENSOR, torch.int64, (2, 3), 0, 48, "party.py:7")
FRAME = frames.pack(HEADER)
GREETING = b'{"role": "dealer", "use": "send", "instance": "ab", "address": "tcp://127.0.0.1:1"}'
HELLO = frames.pack(frames.Header(frames.Kind.MESSAGE, torch.uint8, (), 0, len(GREETING), "")) + GREETING


class Wire(io.BytesIO):
    """A socket that holds what was sent to it."""

    def setblocking(self, flag: bool) -> None:
        pass

    def recv_into(self, view: memoryview) -> int:
        return self.readinto(view)


def incoming(data: bytes) -> Incoming:
    with mock.patch("mpc_appraisal.mpc.net.stream.select.poll"):
        return Incoming(Wire(data))


def heard(read_bytes: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """What a peer may send and the connection's threads take for the end of it."""

    def read_one(data: bytes) -> Any:
        try:
            return read_bytes(data)
        except (frames.FrameError, EOFError, PermissionError, TimeoutError) as error:
            raise InputError("frame", type(error).__name__, "the next one") from error

    return read_one


def stream(data: bytes) -> None:
    found = incoming(data)
    while found.sock.tell() < len(data):
        if found.look().kind == frames.Kind.TENSOR:
            found.skip(1.0)
        else:
            found.text(1 << 16, 1.0)


class JsonChannel:
    """A channel on which one JSON message has come."""

    meter = None

    def __init__(self, data: bytes):
        self.left = [torch.tensor([len(data)]), torch.frombuffer(bytearray(data or b" "), dtype=torch.uint8)]

    def receive(self, shape, source, dtype=torch.int64):
        return self.left.pop(0)


LISTED = {"name": "sales", "digest": HASH, "commitment": HASH, "price": 3, "currency": "EUR"}
REHEARSED = {"bytes_sent": [1], "rounds": [2], "dealt": [3], "work": [4]}
MESSAGES: dict[str, dict[str, Any]] = {
    "meet": {"model_owner": {"address": "tcp://127.0.0.1:1"}},
    "config": {"dealer": {"digest": "ab" * 8, "public": {"model.l2": 0.01, "standardise.mean": [1, 2.5]}}},
    "facts": {
        "model_owner": {"features": 3, "classes": 2, "train_rows": 5, "test_rows": 0},
        "data_owner": {"candidates": [{"name": "a", "rows": 4, "features": 3, "listing": LISTED}]},
    },
    "ready": {
        "model_owner": {"row_norm": 1.5, "weight_norm": 0.25, "spread": 1.0},
        "data_owner": {"row_norm": 1.5},
    },
    "request": {"model_owner": {"digest": HASH, "inputs": HASH, "key": HASH}, "dealer": {"digest": HASH}},
    "approval": {
        "data_owner": {
            "how": "command",
            "time": "2026-01-01T12:00:00+00:00",
            "answered": [["influence", "a"]],
            "sealed": {"key": HASH, "text": "abcd"},
        }
    },
    "costs": {
        "dealer": {"bytes": [1, 2]},
        "model_owner": {"bytes": [1], "rounds": [1], "expected": [REHEARSED], "rate": 1e9},
    },
    "registry": {"dealer": {"sellers": {"seller-a": {"verify_key": HASH, "key_id": "k"}}}},
    "offers": {"data_owner": {"rows": {"seller-a": 3}, "ids": {"seller-a": "ab" * 16}, "refused": {"b": "why"}}},
    "bill": {"dealer": {"keys": {"seconds": 0.5, "bytes": 3, "rounds": 1}}},
    "line": {"dealer": {"host": "127.0.0.1", "port": 1, "token": "ab" * 16}},
}
for topic, by_role in MESSAGES.items():
    for role, message in by_role.items():
        of_bytes(f"message {topic} of {role}", as_json(message), lambda d, r=role, t=topic: schemas.read(d, r, t), 16)

SCRIPT = [["mark"], ["mask", 0, 0, [2, 3]], ["forget", 0]]
of_bytes(
    "frame", lambda folder: [FRAME], heard(lambda data: frames.unpack(data, 0).describe() if len(data) == 128 else 0)
)
of_bytes(
    "stream of frames", lambda folder: [HELLO + frames.pack(HEADER._replace(sequence=1)) + bytes(48)], heard(stream)
)
of_bytes("greeting", lambda folder: [HELLO], heard(lambda data: read_hello(incoming(data), 1e18)))
of_bytes(
    "message", as_json({"key_id": "a"}, {"rows": [["a", 1]]}), lambda data: Messages(JsonChannel(data)).hear("dealer")
)
of_bytes("script", as_json(SCRIPT), lambda data: dealer.parse(data.decode("utf-8", "replace")))
of_bytes("sealed answer", as_json(asdict(Outcome(0.5, rank=1))), lambda data: _outcome(data.ljust(SEALED)))
of_bytes(
    "words",
    lambda folder: [b"model_owner stopped: \x1b[2Jno"],
    lambda data: check_words(schemas.printable(data)),
    0,
)


def check_words(text: str) -> None:
    assert text.isprintable()


ENVELOPE, OTHER = EncryptedAnswers(), EncryptedAnswers()
of_bytes("envelope", lambda folder: [json.dumps(OTHER.seal(ENVELOPE.address, [Outcome(1.0)])).encode()],
         lambda data: ENVELOPE.unseal(schemas.parse(data, "data_owner", "approval"), 1))  # fmt: skip
