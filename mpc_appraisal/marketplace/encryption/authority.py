"""The key authority: enrols sellers, issues function keys, and counts what they show.

k independent rows show <x, w_1> .. <x, w_k> to who evaluates; d of them show x. So the rank of all rows issued for a
seller is counted, exactly (rank.py), over restarts and processes, and capped at a share of d before a key is made. Rows
within the span of earlier ones show nothing new and cost nothing. The cap is no promise that x is safe below it: pixels
are bounded, and 676 convolution rows have given back all 784 by linear programming. Keys of labels are counted as well.

State: a folder of mode 700 with one file of mode 600 for each seller, replaced atomically under a lock. It holds the
master secrets: who reads it reads every upload.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.labels import label_key
from mpc_appraisal.marketplace.encryption.rank import Echelon, draw_prime
from mpc_appraisal.marketplace.encryption.scheme import EncryptionKey, FunctionKey, Master, Scheme
from mpc_appraisal.mpc.ring.prg import new_key

_SELLER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PRIMES = 2
LARGEST = 1 << 34  # bytes of one seller's secrets and counted rows
_VERIFY_BYTES = 32


@dataclass(frozen=True)
class Enrolment:
    """What a seller takes home: its encryption key and the secret that its labels' keys come from."""

    seller: str
    encryption_key: EncryptionKey
    label_secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Issued:
    """What has been given out for a seller: independent rows, their cap, and labels' keys."""

    rows: int
    cap: int
    labels: int


@dataclass(frozen=True, eq=False)
class _Account:
    master: Master
    parameters: dict[str, float]  # of the scheme: other ones would make keys that fit no ciphertext
    cap_share: float
    label_cap: int | None
    verify_key: bytes
    label_secret: bytes
    primes: tuple[int, ...]
    rows: np.ndarray  # (r, d) int32, independent of each other
    labels: dict[str, list[int]]  # purpose and id -> indices, sorted


class Authority:
    """One authority's desk over a folder of state; any number of processes may open the same folder.

    Args:
        folder: made if it does not exist.
        scheme: the scheme of all sellers here.
        cap_share: independent rows that may be issued for a seller, as a share of its dimension; in (0, 1).
        label_cap: label keys that may be given for a seller; None for no cap.

    A seller enrolled with lower caps keeps them, whatever the authority is opened with later.
    """

    def __init__(self, folder: Path, scheme: Scheme, cap_share: float = 0.75, label_cap: int | None = None):
        if not 0 < cap_share < 1:
            raise InputError("cap_share", cap_share, "more than 0 and less than 1: d rows show everything")
        if label_cap is not None and label_cap < 0:
            raise InputError("label_cap", label_cap, "None or at least 0")
        self.scheme, self.cap_share, self.label_cap = scheme, cap_share, label_cap
        self._folder = Path(folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(self._folder / "lock", mode=0o600)
        self._spans: dict[str, tuple[int, tuple[Echelon, ...]]] = {}

    def enrol(self, seller: str, dimension: int, verify_key: bytes) -> Enrolment:
        """Draws a seller's secrets and keeps the key that its uploads are verified by. InputError if it is enrolled."""
        if len(verify_key) != _VERIFY_BYTES:
            raise InputError(f"verify_key of {seller}", f"{len(verify_key)} bytes", f"{_VERIFY_BYTES}")
        path = self._path(seller)
        master = self.scheme.setup(dimension)
        account = _Account(
            master,
            asdict(self.scheme),
            self.cap_share,
            self.label_cap,
            bytes(verify_key),
            new_key(),
            tuple(draw_prime() for _ in range(_PRIMES)),
            np.zeros((0, dimension), dtype=np.int32),
            {},
        )
        with self._lock:
            if path.exists():
                raise InputError("seller", seller, "one that is not enrolled yet")
            _write(path, account)
        return Enrolment(seller, self.scheme.encryption_key(master), account.label_secret)

    def verify_key(self, seller: str) -> bytes:
        """The key by which the cloud and shoppers verify this seller's uploads."""
        return self._read(seller).verify_key

    def issued(self, seller: str) -> Issued:
        account = self._read(seller)
        ranks = [span.rank for span in self._span(seller, account)]
        return Issued(max(ranks), self._cap(account), _count(account.labels))

    def function_key(self, seller: str, w: np.ndarray) -> FunctionKey:
        """Keys for the rows of w (k, d), once they are counted and the count is on disk.

        Raises:
            InputError: rows out of bound, or more independent ones than the cap leaves; then nothing is counted.
        """
        with self._lock:
            account = self._read(seller)
            w = self.scheme.check_rows(w, account.master.dimension)
            spans = tuple(span.copy() for span in self._span(seller, account))
            fresh = np.any([span.add(w) for span in spans], axis=0)
            rank, cap = max(span.rank for span in spans), self._cap(account)
            if rank > cap:
                raise InputError(
                    f"rows for {seller}", f"{rank} independent ones with those issued before", f"at most {cap}"
                )
            if fresh.any():
                rows = np.concatenate([account.rows, w[fresh].astype(np.int32)])
                _write(self._path(seller), replace(account, rows=rows))
                self._spans[seller] = (len(rows), spans)
        return self.scheme.keygen(account.master, w)

    def label_keys(self, seller: str, upload_id: bytes, indices: Sequence[int], purpose: str = "label") -> list[bytes]:
        """The keys of these rows' labels, in this order, once they are counted and the count is on disk. The id may be
        anybody's word; the purpose, one of `labels.PURPOSES`, is the caller's own."""
        indices = [int(index) for index in indices]
        if any(index < 0 for index in indices):
            raise InputError(f"label indices of {seller}", min(indices), "at least 0")
        with self._lock:
            account = self._read(seller)
            keys = [label_key(account.label_secret, upload_id, index, purpose) for index in indices]
            entry = f"{purpose} {upload_id.hex()}"
            given = set(account.labels.get(entry, ()))
            labels = account.labels | {entry: sorted(given.union(indices))}
            cap = min((cap for cap in (self.label_cap, account.label_cap) if cap is not None), default=None)
            if cap is not None and _count(labels) > cap:
                raise InputError(f"labels of {seller}", f"{_count(labels)} with those given before", f"at most {cap}")
            if not given.issuperset(indices):
                _write(self._path(seller), replace(account, labels=labels))
        return keys

    def _cap(self, account: _Account) -> int:
        return int(min(self.cap_share, account.cap_share) * account.master.dimension)

    def _path(self, seller: str) -> Path:
        if not _SELLER.fullmatch(seller):
            raise InputError("seller", repr(seller), f"a name that matches {_SELLER.pattern}")
        return self._folder / f"{seller}.npz"

    def _read(self, seller: str) -> _Account:
        path = self._path(seller)
        if not path.exists():
            raise InputError("seller", seller, "an enrolled one")
        account = _parse(path)
        if account.master.scheme != self.scheme.name:
            raise InputError(f"account of {seller}", f"scheme {account.master.scheme}", f"scheme {self.scheme.name}")
        if account.parameters != asdict(self.scheme):
            raise InputError(f"account of {seller}", f"parameters {account.parameters}", f"{asdict(self.scheme)}")
        return account

    def _span(self, seller: str, account: _Account) -> tuple[Echelon, ...]:
        """The rows' echelon forms; rows are only ever appended, so what was reduced before is kept."""
        empty = tuple(Echelon(account.master.dimension, prime) for prime in account.primes)
        done, spans = self._spans.get(seller, (0, empty))
        if done < len(account.rows):
            spans = tuple(span.copy() for span in spans)
            for span in spans:
                span.add(account.rows[done:].astype(np.int64))
        self._spans[seller] = (len(account.rows), spans)
        return spans


def _count(labels: dict[str, list[int]]) -> int:
    return sum(map(len, labels.values()))


def _write(path: Path, account: _Account) -> None:
    facts = {
        "scheme": account.master.scheme,
        "parameters": account.parameters,
        "cap_share": account.cap_share,
        "label_cap": account.label_cap,
        "dimension": account.master.dimension,
        "master": account.master.secret.hex(),
        "verify_key": account.verify_key.hex(),
        "label_secret": account.label_secret.hex(),
        "primes": account.primes,
        "labels": account.labels,
    }
    packed = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        np.savez(file, facts=packed, rows=account.rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _parse(path: Path) -> _Account:
    """Raises InputError, by the file's name, for what `_write` did not write."""
    expected = "a seller's secrets as this authority keeps them"
    arrays = read_arrays(path, f"secrets of {path.stem}", expected, LARGEST)
    try:
        return _account(json.loads(arrays["facts"].tobytes()), arrays["rows"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"secrets of {path.stem}", f"{path} ({type(error).__name__})", expected) from error


def _account(facts: dict, rows: np.ndarray) -> _Account:
    master = Master(facts["scheme"], facts["dimension"], bytes.fromhex(facts["master"]))
    return _Account(
        master,
        facts["parameters"],
        facts["cap_share"],
        facts["label_cap"],
        bytes.fromhex(facts["verify_key"]),
        bytes.fromhex(facts["label_secret"]),
        tuple(facts["primes"]),
        rows,
        facts["labels"],
    )
