"""Readers of what a peer sends: frames, greetings, messages and encrypted answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from unittest import mock

import torch
from fuzz_registry import HASH, as_json, of_bytes

from mpc_appraisal.appraisal.encrypted_answers import SEALED, EncryptedAnswers, _outcome
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.net import frames
from mpc_appraisal.mpc.net import message_schemas as schemas
from mpc_appraisal.mpc.net.handshake import read_hello
from mpc_appraisal.mpc.net.messages import Messages
from mpc_appraisal.mpc.net.stream import Incoming
from mpc_appraisal.mpc.protocols import dealer
from mpc_appraisal.release.base import Outcome

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
