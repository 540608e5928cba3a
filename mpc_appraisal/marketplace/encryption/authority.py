"""The key authority enrols sellers, issues function keys, and counts what these keys reveal.

    issued rows of a seller: rank(w_1, ..., w_k) <= cap = floor(cap_share * d)

A row w is a row of a network's first layer, d the number of pixels x of an image. Keys for k independent rows reveal
<x, w_1>, ..., <x, w_k> to whoever evaluates, and d of them reveal x. The authority counts the exact rank of all rows
that it has issued for a seller (see `rank`), over restarts and processes, and refuses to make a key beyond the cap.
Rows in the span of earlier rows reveal nothing new and are free. Keys of labels are counted as well. The cap is no
promise that x is safe below it: pixels are bounded, and linear programming has recovered all 784 pixels from 676 rows
of a convolution.

In go the names of sellers, rows and the numbers of labels; out come keys, or an InputError. The state is a folder of
mode 700 with one file of mode 600 for each seller, which is replaced atomically under a lock. It contains the master
secrets, so that whoever reads it can decrypt every upload.

What is counted may become stricter. The count has to be on disk before a key is returned, a seller's own lower cap has
to stay, and the fields of a seller's file have to stay readable.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import OWNER_ONLY, locked, write_whole
from mpc_appraisal.marketplace.encryption.labels import label_key
from mpc_appraisal.marketplace.encryption.rank import Echelon, draw_prime
from mpc_appraisal.marketplace.encryption.scheme import EncryptionKey, FunctionKey, Master, Scheme
from mpc_appraisal.mpc.ring.prg import new_key

_SELLER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PRIMES = 2  # The rank is counted modulo so many secret primes; the largest of these ranks is taken.
LARGEST = 1 << 34  # A file with one seller's secrets and counted rows has at most so many bytes.
_VERIFY_BYTES = 32


@dataclass(frozen=True)
class Enrolment:
    """What a seller receives when it enrols.

    Attributes:
        seller: the seller's name.
        encryption_key: the key that the seller encrypts images with.
        label_secret: the secret, 32 bytes, from which the keys of its labels derive.
    """

    seller: str
    encryption_key: EncryptionKey
    label_secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Issued:
    """What has been issued for a seller.

    Attributes:
        rows: the number of independent rows.
        cap: the largest number of independent rows that may be issued.
        labels: the number of label keys.
    """

    rows: int
    cap: int
    labels: int


@dataclass(frozen=True, eq=False)
class _Account:
    """The state of one seller, as its file has it."""

    master: Master
    parameters: dict[str, float]  # those of the scheme; keys made with others would fit no ciphertext
    cap_share: float
    label_cap: int | None
    verify_key: bytes
    label_secret: bytes
    primes: tuple[int, ...]
    rows: np.ndarray  # (r, d) int32, the independent rows that were issued
    labels: dict[str, list[int]]  # the sorted indices, by purpose and upload id


class Authority:
    """The authority over one folder of state. Any number of processes may open the same folder.

    Args:
        folder: the folder of state, which is created if it does not exist.
        scheme: the scheme of all sellers of this authority.
        cap_share: the share of its dimension, in (0, 1), up to which independent rows may be issued for a seller.
        label_cap: how many label keys may be issued for a seller. None sets no cap.

    A seller that was enrolled with lower caps keeps them, whatever the authority is opened with later.

    Raises InputError where a cap is out of range.
    """

    def __init__(self, folder: Path, scheme: Scheme, cap_share: float = 0.75, label_cap: int | None = None):
        if not 0 < cap_share < 1:
            raise InputError("cap_share", cap_share, "more than 0 and less than 1: d rows show everything")
        if label_cap is not None and label_cap < 0:
            raise InputError("label_cap", label_cap, "None or at least 0")
        self.scheme, self.cap_share, self.label_cap = scheme, cap_share, label_cap
        self._folder = Path(folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = self._folder / "lock"
        self._spans: dict[str, tuple[int, tuple[Echelon, ...]]] = {}

    def enrol(self, seller: str, dimension: int, verify_key: bytes) -> Enrolment:
        """Draw a seller's secrets, and store the key by which its uploads are verified.

        Args:
            seller: the seller's name.
            dimension: the number of pixels of an image.
            verify_key: the verification key, 32 bytes.

        Raises InputError where the seller is enrolled already, its name is not allowed, or the key has another length.
        """
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
        with locked(self._lock):
            if path.exists():
                raise InputError("seller", seller, "one that is not enrolled yet")
            _write(path, account)
        return Enrolment(seller, self.scheme.encryption_key(master), account.label_secret)

    def verify_key(self, seller: str) -> bytes:
        """Return the key by which this seller's uploads are verified. Raises InputError for a seller not enrolled."""
        return self._read(seller).verify_key

    def issued(self, seller: str) -> Issued:
        """Return what has been issued for a seller so far. Raises InputError for a seller that is not enrolled."""
        account = self._read(seller)
        ranks = [span.rank for span in self._span(seller, account)]
        return Issued(max(ranks), self._cap(account), _count(account.labels))

    def function_key(self, seller: str, w: np.ndarray) -> FunctionKey:
        """Return the function keys for the rows of w (k, d), after the rows have been counted and the count is on disk.

        Raises InputError where the seller is not enrolled, the rows are out of bound, or more of them are independent
        than the cap allows. Nothing is counted then.
        """
        with locked(self._lock):
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
        """Return the keys of these rows' labels, in this order, after they have been counted and the count is on disk.

        Args:
            seller: the name of the seller.
            upload_id: the id of the upload, which need not be trusted.
            indices: the numbers of the rows in the upload.
            purpose: one of `labels.PURPOSES`. The caller chooses it; it must not come from another party.

        Raises InputError where the seller is not enrolled, an index is negative, the purpose is unknown, or the keys
        exceed the cap. Nothing is counted then.
        """
        indices = [int(index) for index in indices]
        if any(index < 0 for index in indices):
            raise InputError(f"label indices of {seller}", min(indices), "at least 0")
        with locked(self._lock):
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
        """Return the echelon forms of the account's rows, one for each prime.

        Rows are only ever appended, so that the forms of earlier rows are cached.
        """
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
    buffer = io.BytesIO()
    np.savez(buffer, facts=packed, rows=account.rows)
    write_whole(path, buffer.getbuffer(), OWNER_ONLY)


def _parse(path: Path) -> _Account:
    """Return the account in the file `path`. Raises InputError, which names the file, if `_write` did not write it."""
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
