"""Inner-product functional encryption (IFE): a ciphertext of x and a function key for w give <x, w>.

    setup(d) -> master      encryption_key(master) -> ek      encrypt(ek, x) -> c      keygen(master, w) -> sk
    evaluate(sk, w, c) = <x, w>, exactly, for every x in {0..255}^d and every w with 255 |w|_1 < 2^24

x is an image of d pixels and w a row of weights. The authority runs `setup` and `keygen`, the seller runs `encrypt`,
and the cloud runs `evaluate`. Whoever evaluates learns <x, w> and w, and nothing else of x. But d independent rows w
reveal x itself, so that `authority` counts the rows. This file holds the interface, the keys, the ciphertexts and their
checks; the schemes are in `lwe` and `als16`.

A scheme may be added. Exactness and the bound have to stay, because `protocols.quantised` relies on both; and keys of
one secret must refuse ciphertexts of another, by `key_id`. Reference: Abdalla, Bourse, De Caro, Pointcheval, "Simple
functional encryption schemes for inner products", PKC 2015.
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
BOUND = 1 << 24  # 255 |w|_1 has to stay below this number.
SEED_BYTES = 32


@dataclass(frozen=True)
class Master:
    """The authority's secret for one seller.

    Attributes:
        scheme: the name of the scheme.
        dimension: the number d of pixels of an image.
        secret: 32 random bytes from the operating system.
    """

    scheme: str
    dimension: int
    secret: bytes

    @property
    def key_id(self) -> str:
        """Return the public name of this secret, by which keys and ciphertexts of another secret are refused."""
        return hmac.new(self.secret, b"ife key id", hashlib.sha256).hexdigest()[:32]

    def __repr__(self) -> str:  # The secret must not appear in logs.
        return f"Master({self.scheme}, dimension {self.dimension})"


@dataclass(frozen=True)
class EncryptionKey:
    """What the seller encrypts with.

    Attributes:
        scheme: the name of the scheme.
        dimension: the number d of pixels of an image.
        material: the secret seed of `LWE`, or the public points of `ALS16` with 33 bytes for each coordinate.
        key_id: the public name of the master secret.
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

    Attributes:
        scheme: the name of the scheme.
        dimension: the number d of pixels of an image.
        values: W S' (k, n) int64 for `LWE`, or two scalars a row, (k, 64) uint8, for `ALS16`.
        key_id: the public name of the master secret.
    """

    scheme: str
    dimension: int
    values: np.ndarray
    key_id: str = ""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Return the number of bytes of the values."""
        return self.values.nbytes


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """The ciphertexts of n rows.

    Attributes:
        scheme: the name of the scheme.
        header: for `LWE` the public seed of each row, (n, 32) uint8; for `ALS16` the points r G and r H of each row,
            (n, 66) uint8.
        body: for `LWE` (n, d) int64, for `ALS16` (n, d, 33) uint8.
        key_id: the public name of the master secret.
    """

    scheme: str
    header: np.ndarray
    body: np.ndarray
    key_id: str = ""

    def __len__(self) -> int:
        return len(self.body)

    @property
    def dimension(self) -> int:
        """Return the number d of pixels of an image."""
        return self.body.shape[1]

    @property
    def nbytes(self) -> int:
        """Return the number of bytes of header and body."""
        return self.header.nbytes + self.body.nbytes

    def rows(self, indices: Sequence[int] | np.ndarray | slice) -> Ciphertext:
        """Return the ciphertexts of the rows that `indices` selects."""
        return Ciphertext(self.scheme, self.header[indices], self.body[indices], self.key_id)


class Scheme(ABC):
    """An IFE scheme. An instance is a frozen record of parameters, which all parties must have equal.

    Attributes:
        name: what keys and ciphertexts call the scheme.
        public_key: True if the encryption key may be public.
        header_bytes: the number of bytes of a row's header.
        body_type: the type of a body's numbers.
        body_tail: what follows (n, d) in the shape of a body.
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
        """Return the key with which the seller encrypts. Raises InputError for a master of another scheme."""

    @abstractmethod
    def encrypt(self, key: EncryptionKey, x: np.ndarray) -> Ciphertext:
        """Encrypt the rows of x (n, d), with fresh randomness for each row of each call.

        Raises InputError where x is not a matrix of integers 0..255 with the key's dimension.
        """

    @abstractmethod
    def keygen(self, master: Master, w: np.ndarray) -> FunctionKey:
        """Return the function keys for the rows of w (k, d). Raises InputError if 255 |w_j|_1 reaches 2^24 in a row."""

    @abstractmethod
    def evaluate(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """Return the exact inner products x @ w.T, (n, k) int64.

        Args:
            key: the function key.
            w: the rows (k, d) for which `key` was issued.
            c: the ciphertexts of x.

        Raises InputError where key, rows and ciphertexts do not belong together.
        """

    def evaluator(self, key: FunctionKey, w: np.ndarray) -> Callable[[Ciphertext], np.ndarray]:
        """Return a function that evaluates any number of ciphertexts; what key and rows alone decide is done once."""
        return lambda c: self.evaluate(key, w, c)

    def check_rows(self, w: np.ndarray, dimension: int) -> np.ndarray:
        """Return `w` as int64 (k, dimension). Raises InputError for rows that `keygen` would refuse."""
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
        """Return the rows of `w` as int64. Raises InputError unless key, rows and ciphertexts belong together."""
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
        """Return the rows of `w` as int64. Raises InputError unless they are as many as the function key has."""
        check_mine("function key", key.scheme, self.name)
        w = check_bound(w, dimension=key.dimension)
        if len(w) != len(key):
            raise InputError("weights", f"{len(w)} rows", f"{len(key)} rows, those of the function key")
        return w


def check_dimension(dimension: int) -> int:
    """Return `dimension` as an int. Raises InputError unless it is a positive whole number."""
    if not isinstance(dimension, int | np.integer) or dimension < 1:
        raise InputError("dimension", dimension, "a positive whole number")
    return int(dimension)


def check_pixels(x: np.ndarray, dimension: int) -> np.ndarray:
    """Return `x` as int64 (n, dimension). Raises InputError unless it is a matrix of whole numbers 0..255."""
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != dimension:
        raise InputError("pixels", f"shape {x.shape}", f"(n, {dimension})")
    if not np.issubdtype(x.dtype, np.integer):
        raise InputError("pixels", f"dtype {x.dtype}", "whole numbers")
    if x.size and (x.min() < 0 or x.max() > PIXEL):
        raise InputError("pixels", f"{x.min()}..{x.max()}", f"0..{PIXEL}")
    return np.ascontiguousarray(x, dtype=np.int64)


def check_bound(w: np.ndarray, bound: int = BOUND, dimension: int | None = None) -> np.ndarray:
    """Return `w` as int64 (k, d).

    Args:
        w: the rows of weights.
        bound: what 255 sum_j |w_ij| must stay below in every row i.
        dimension: the number d that the rows must have; None allows any.

    Raises InputError where w is not a matrix of whole numbers of this shape, or a row reaches the bound.
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
