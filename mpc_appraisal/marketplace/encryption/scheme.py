"""Inner-product functional encryption (IFE): Enc(x) and a function key for w give <x, w>, and nothing else of x.

    setup(d) -> master      encryption_key(master) -> ek      encrypt(ek, x) -> c      keygen(master, w) -> sk
    evaluate(sk, w, c) = <x, w>, exactly, for every x in {0..255}^d and w with 255 |w|_1 < 2^24

Reference: Abdalla, Bourse, De Caro, Pointcheval, "Simple functional encryption schemes for inner products", PKC 2015.
Function keys do not hide w, and <x, w> is shown to who evaluates: d independent rows show x itself (see authority.py).
"""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mpc_appraisal.common.errors import InputError

PIXEL = 255
BOUND = 1 << 24
SEED_BYTES = 32


@dataclass(frozen=True)
class Master:
    """The authority's secret for one seller: 32 bytes from the operating system."""

    scheme: str
    dimension: int
    secret: bytes

    @property
    def key_id(self) -> str:
        """A public name of this secret: function keys and ciphertexts of another one are refused by it."""
        return hmac.new(self.secret, b"ife key id", hashlib.sha256).hexdigest()[:32]

    def __repr__(self) -> str:  # the secret stays out of logs
        return f"Master({self.scheme}, dimension {self.dimension})"


@dataclass(frozen=True)
class EncryptionKey:
    """What the seller encrypts with. LWE: the secret seed. ALS16: public points, 33 bytes for each coordinate."""

    scheme: str
    dimension: int
    material: bytes
    key_id: str = ""

    def __repr__(self) -> str:
        return f"EncryptionKey({self.scheme}, dimension {self.dimension})"


@dataclass(frozen=True, eq=False)
class FunctionKey:
    """Keys of k rows. LWE: values (k, n) int64, that is W S'. ALS16: values (k, 64) uint8, two scalars a row."""

    scheme: str
    dimension: int
    values: np.ndarray
    key_id: str = ""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """n encrypted rows.

    LWE: body (n, d) int64, header (n, 32) uint8: each row's public seed. ALS16: body (n, d, 33) uint8, header (n, 66)
    uint8: g^r and h^r.
    """

    scheme: str
    header: np.ndarray
    body: np.ndarray
    key_id: str = ""

    def __len__(self) -> int:
        return len(self.body)

    @property
    def dimension(self) -> int:
        return self.body.shape[1]

    @property
    def nbytes(self) -> int:
        return self.header.nbytes + self.body.nbytes

    def rows(self, indices: Sequence[int] | np.ndarray | slice) -> Ciphertext:
        return Ciphertext(self.scheme, self.header[indices], self.body[indices], self.key_id)


class Scheme(ABC):
    """An IFE scheme; instances are frozen records of parameters, equal for seller, authority and evaluator."""

    name: ClassVar[str]
    public_key: ClassVar[bool]
    header_bytes: ClassVar[int]
    body_type: ClassVar[type]
    body_tail: ClassVar[tuple[int, ...]] = ()  # what follows (n, d) in the shape of a body

    @abstractmethod
    def setup(self, dimension: int) -> Master:
        """A fresh master secret for vectors of `dimension`, from the operating system."""

    @abstractmethod
    def encryption_key(self, master: Master) -> EncryptionKey:
        """What the seller needs to encrypt."""

    @abstractmethod
    def encrypt(self, key: EncryptionKey, x: np.ndarray) -> Ciphertext:
        """x (n, d) integers 0..255; randomness is fresh for every row of every call. InputError on other x."""

    @abstractmethod
    def keygen(self, master: Master, w: np.ndarray) -> FunctionKey:
        """Keys for the rows of w (k, d). InputError where 255 |w_j|_1 reaches 2^24."""

    @abstractmethod
    def evaluate(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """(n, k) int64, exactly x @ w.T. `w` are the rows that `key` was issued for."""

    def evaluator(self, key: FunctionKey, w: np.ndarray) -> Callable[[Ciphertext], np.ndarray]:
        """`evaluate` for many ciphertexts: what depends on key and rows alone is checked and computed once."""
        return lambda c: self.evaluate(key, w, c)

    def check_rows(self, w: np.ndarray, dimension: int) -> np.ndarray:
        """w as int64 (k, dimension). InputError for rows that `keygen` would refuse."""
        return check_bound(w, dimension=dimension)

    def check_ciphertext(self, c: Ciphertext) -> None:
        """InputError unless the arrays have this scheme's types and shapes."""
        check_mine("ciphertext", c.scheme, self.name)
        header, body = c.header, c.body
        if header.dtype != np.uint8 or body.ndim < 2 or header.shape != (len(body), self.header_bytes):
            raise InputError("ciphertext header", f"{header.dtype} {header.shape}", f"uint8 (n, {self.header_bytes})")
        if body.dtype != self.body_type or body.shape[2:] != self.body_tail:
            raise InputError(
                "ciphertext body", f"{body.dtype} {body.shape}", f"{self.body_type.__name__} (n, d, *{self.body_tail})"
            )

    def check_fit(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """The rows of `w` as int64, once key, rows and ciphertexts belong to one secret and have one dimension."""
        self.check_pair(key, c)
        return self.check_key(key, w)

    def check_pair(self, key: FunctionKey, c: Ciphertext) -> None:
        """InputError unless key and ciphertexts belong to one secret and have one dimension."""
        check_mine("function key", key.scheme, self.name)
        self.check_ciphertext(c)
        if c.key_id != key.key_id:
            raise InputError("ciphertext", f"key {c.key_id}", f"key {key.key_id}, the function key's")
        if c.dimension != key.dimension:
            raise InputError("ciphertext", f"dimension {c.dimension}", f"dimension {key.dimension}")

    def check_key(self, key: FunctionKey, w: np.ndarray) -> np.ndarray:
        """The rows of `w` as int64, as many as the function key has. InputError for others."""
        check_mine("function key", key.scheme, self.name)
        w = check_bound(w, dimension=key.dimension)
        if len(w) != len(key):
            raise InputError("weights", f"{len(w)} rows", f"{len(key)} rows, those of the function key")
        return w


def check_dimension(dimension: int) -> int:
    if not isinstance(dimension, int | np.integer) or dimension < 1:
        raise InputError("dimension", dimension, "a positive whole number")
    return int(dimension)


def check_pixels(x: np.ndarray, dimension: int) -> np.ndarray:
    """x as int64 (n, dimension). InputError unless it is a matrix of whole numbers 0..255."""
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != dimension:
        raise InputError("pixels", f"shape {x.shape}", f"(n, {dimension})")
    if not np.issubdtype(x.dtype, np.integer):
        raise InputError("pixels", f"dtype {x.dtype}", "whole numbers")
    if x.size and (x.min() < 0 or x.max() > PIXEL):
        raise InputError("pixels", f"{x.min()}..{x.max()}", f"0..{PIXEL}")
    return np.ascontiguousarray(x, dtype=np.int64)


def check_bound(w: np.ndarray, bound: int = BOUND, dimension: int | None = None) -> np.ndarray:
    """w as int64 (k, d). InputError unless it is a matrix of whole numbers, 255 sum_j |w_ij| < bound in every row."""
    w = np.asarray(w)
    if w.ndim != 2 or (dimension is not None and w.shape[1] != dimension):
        raise InputError("weights", f"shape {w.shape}", f"(k, {dimension or 'd'})")
    if not np.issubdtype(w.dtype, np.integer):
        raise InputError("weights", f"dtype {w.dtype}", "whole numbers")
    if w.size:
        peak = max(abs(int(w.min())), abs(int(w.max())))  # first, so that the sums below cannot overflow
        if PIXEL * peak >= bound:
            raise InputError("weights", f"an entry of size {peak}", f"{PIXEL} times the sum of a row's sizes < {bound}")
        sums = np.abs(w.astype(np.int64)).sum(1)
        row = int(sums.argmax())
        if PIXEL * int(sums[row]) >= bound:
            raise InputError("weights", f"row {row} with sum of sizes {sums[row]}", f"{PIXEL} times the sum < {bound}")
    return np.ascontiguousarray(w, dtype=np.int64)


def check_mine(what: str, scheme: str, name: str) -> None:
    """InputError unless a key or ciphertext of scheme `scheme` is one of scheme `name`."""
    if scheme != name:
        raise InputError(what, f"scheme {scheme}", f"scheme {name}")
