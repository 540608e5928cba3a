"""Inner-product functional encryption (IFE): a ciphertext of x and a function key for w give <x, w>.

    setup(d) -> master      encryption_key(master) -> ek      encrypt(ek, x) -> c      keygen(master, w) -> sk
    evaluate(sk, w, c) = <x, w>, exactly, for every x in {0..255}^d and every w with 255 |w|_1 < 2^24

The authority runs `setup` and `keygen`, the seller runs `encrypt`, and the cloud runs `evaluate`. Whoever evaluates
learns <x, w> and w, and nothing else of x. But d independent rows w reveal x itself, so that `authority` counts the
rows. The schemes are in `lwe` and `als16`.

Reference: Abdalla, Bourse, De Caro, Pointcheval, "Simple functional encryption schemes for inner products", PKC 2015.
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

PIXEL = 255  # The largest entry of x.
BOUND = 1 << 24  # 255 |w|_1 has to stay below this.
SEED_BYTES = 32


@dataclass(frozen=True)
class Master:
    """The authority's secret for one seller: 32 random bytes from the operating system."""

    scheme: str
    dimension: int
    secret: bytes

    @property
    def key_id(self) -> str:
        """The public name of this secret, by which keys and ciphertexts of another secret are refused."""
        return hmac.new(self.secret, b"ife key id", hashlib.sha256).hexdigest()[:32]

    def __repr__(self) -> str:  # The secret must not appear in logs.
        return f"Master({self.scheme}, dimension {self.dimension})"


@dataclass(frozen=True)
class EncryptionKey:
    """What the seller encrypts with.

    material: the secret seed of `LWE`, or the public points of `ALS16` with 33 bytes for each coordinate.
    """

    scheme: str
    dimension: int
    material: bytes
    key_id: str = ""

    def __repr__(self) -> str:
        return f"EncryptionKey({self.scheme}, dimension {self.dimension})"


@dataclass(frozen=True, eq=False)
class FunctionKey:
    """The function keys for k rows.

    values: W S' (k, n) int64 for `LWE`, or two scalars a row, (k, 64) uint8, for `ALS16`.
    """

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
    """The ciphertexts of n rows.

    For `LWE` the body is (n, d) int64, and the header (n, 32) uint8 has the public seed of each row. For `ALS16` the
    body is (n, d, 33) uint8, and the header (n, 66) uint8 has the points r G and r H of each row.
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
        """The ciphertexts of the rows that `indices` selects."""
        return Ciphertext(self.scheme, self.header[indices], self.body[indices], self.key_id)


class Scheme(ABC):
    """An IFE scheme. An instance is a frozen record of parameters, which all parties must have equal.

    name: what keys and ciphertexts call the scheme. public_key: whether the encryption key may be public. header_bytes
    and body_type: the shape and type of a ciphertext's arrays.
    """

    name: ClassVar[str]
    public_key: ClassVar[bool]
    header_bytes: ClassVar[int]
    body_type: ClassVar[type]
    body_tail: ClassVar[tuple[int, ...]] = ()  # This follows (n, d) in the shape of a body.

    @abstractmethod
    def setup(self, dimension: int) -> Master:
        """Draw a master secret for vectors of length `dimension`."""

    @abstractmethod
    def encryption_key(self, master: Master) -> EncryptionKey:
        """The key with which the seller encrypts."""

    @abstractmethod
    def encrypt(self, key: EncryptionKey, x: np.ndarray) -> Ciphertext:
        """Encrypt the rows of x (n, d), with fresh randomness for each row of each call.

        Raises InputError: x is not a matrix of integers 0..255 with the key's dimension.
        """

    @abstractmethod
    def keygen(self, master: Master, w: np.ndarray) -> FunctionKey:
        """The function keys for the rows of w (k, d). Raises InputError if 255 |w_j|_1 reaches 2^24 in a row."""

    @abstractmethod
    def evaluate(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """The exact inner products x @ w.T, (n, k) int64, where `w` has the rows for which `key` was issued.

        Raises InputError: key, rows and ciphertexts do not belong together.
        """

    def evaluator(self, key: FunctionKey, w: np.ndarray) -> Callable[[Ciphertext], np.ndarray]:
        """A function that evaluates any number of ciphertexts; what depends on key and rows alone is done once."""
        return lambda c: self.evaluate(key, w, c)

    def check_rows(self, w: np.ndarray, dimension: int) -> np.ndarray:
        """`w` as int64 (k, dimension); raises InputError for rows that `keygen` would refuse."""
        return check_bound(w, dimension=dimension)

    def check_ciphertext(self, c: Ciphertext) -> None:
        """Raise InputError unless the arrays have this scheme's types and shapes."""
        check_mine("ciphertext", c.scheme, self.name)
        header, body = c.header, c.body
        if header.dtype != np.uint8 or body.ndim < 2 or header.shape != (len(body), self.header_bytes):
            raise InputError("ciphertext header", f"{header.dtype} {header.shape}", f"uint8 (n, {self.header_bytes})")
        if body.dtype != self.body_type or body.shape[2:] != self.body_tail:
            raise InputError(
                "ciphertext body", f"{body.dtype} {body.shape}", f"{self.body_type.__name__} (n, d, *{self.body_tail})"
            )

    def check_fit(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """The rows of `w` as int64; raises InputError unless key, rows and ciphertexts belong together."""
        self.check_pair(key, c)
        return self.check_key(key, w)

    def check_pair(self, key: FunctionKey, c: Ciphertext) -> None:
        """Raise InputError unless key and ciphertexts belong to one secret and have one dimension."""
        check_mine("function key", key.scheme, self.name)
        self.check_ciphertext(c)
        if c.key_id != key.key_id:
            raise InputError("ciphertext", f"key {c.key_id}", f"key {key.key_id}, the function key's")
        if c.dimension != key.dimension:
            raise InputError("ciphertext", f"dimension {c.dimension}", f"dimension {key.dimension}")

    def check_key(self, key: FunctionKey, w: np.ndarray) -> np.ndarray:
        """The rows of `w` as int64; raises InputError unless there are as many as the function key has."""
        check_mine("function key", key.scheme, self.name)
        w = check_bound(w, dimension=key.dimension)
        if len(w) != len(key):
            raise InputError("weights", f"{len(w)} rows", f"{len(key)} rows, those of the function key")
        return w


def check_dimension(dimension: int) -> int:
    """`dimension` as an int; raises InputError unless it is a positive whole number."""
    if not isinstance(dimension, int | np.integer) or dimension < 1:
        raise InputError("dimension", dimension, "a positive whole number")
    return int(dimension)


def check_pixels(x: np.ndarray, dimension: int) -> np.ndarray:
    """`x` as int64 (n, dimension); raises InputError unless it is a matrix of whole numbers 0..255."""
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != dimension:
        raise InputError("pixels", f"shape {x.shape}", f"(n, {dimension})")
    if not np.issubdtype(x.dtype, np.integer):
        raise InputError("pixels", f"dtype {x.dtype}", "whole numbers")
    if x.size and (x.min() < 0 or x.max() > PIXEL):
        raise InputError("pixels", f"{x.min()}..{x.max()}", f"0..{PIXEL}")
    return np.ascontiguousarray(x, dtype=np.int64)


def check_bound(w: np.ndarray, bound: int = BOUND, dimension: int | None = None) -> np.ndarray:
    """`w` as int64 (k, d).

    Raises InputError: w is not a matrix of whole numbers, or 255 sum_j |w_ij| reaches `bound` in a row i.
    """
    w = np.asarray(w)
    if w.ndim != 2 or (dimension is not None and w.shape[1] != dimension):
        raise InputError("weights", f"shape {w.shape}", f"(k, {dimension or 'd'})")
    if not np.issubdtype(w.dtype, np.integer):
        raise InputError("weights", f"dtype {w.dtype}", "whole numbers")
    if w.size:
        peak = max(abs(int(w.min())), abs(int(w.max())))  # This comes first, so that the sums below cannot overflow.
        if PIXEL * peak >= bound:
            raise InputError("weights", f"an entry of size {peak}", f"{PIXEL} times the sum of a row's sizes < {bound}")
        sums = np.abs(w.astype(np.int64)).sum(1)
        row = int(sums.argmax())
        if PIXEL * int(sums[row]) >= bound:
            raise InputError("weights", f"row {row} with sum of sizes {sums[row]}", f"{PIXEL} times the sum < {bound}")
    return np.ascontiguousarray(w, dtype=np.int64)


def check_mine(what: str, scheme: str, name: str) -> None:
    """Raise InputError, which names `what`, unless the scheme of a key or a ciphertext is the scheme `name`."""
    if scheme != name:
        raise InputError(what, f"scheme {scheme}", f"scheme {name}")
