"""IFE from the decisional Diffie-Hellman assumption on secp256k1: public-key, adaptively secure, 128 bits.

In go pixels x (n, d) at the seller and rows w (k, d) at the authority; out come the exact inner products <x, w> at the
cloud. G is the group's generator, H a second point, and i the number of a pixel:

    setup       s_i, t_i uniform modulo the group's order;  h_i = s_i G + t_i H
    encrypt     C = r G,  D = r H,  E_i = x_i G + r h_i               r fresh for every row
    keygen      (sum_i w_i s_i,  sum_i w_i t_i) = (s_w, t_w)
    evaluate    sum_i w_i E_i - s_w C - t_w D = <x, w> G, and its discrete logarithm

The seller sends 33 bytes for each pixel and 66 more for each row. The authority sends 64 bytes for each row w. Whoever
evaluates learns <x, w>, exactly, and w. The points h_i are public, so that anybody can encrypt.

The order is prime and greater than any inner product, so that keys combine as they do over the integers. H comes from
hashing a label to a point, so that nobody knows its logarithm. The logarithm of <x, w> G is found by baby steps and
giant steps: z = i m + j with m = 2^17 + 1, `|j| <= 2^16` and `|i| <= 2^7`, and a table of j G by its first coordinate.

The search for the logarithm may change. The label of H, the layout of points and the derivation of secrets from a
master have to stay, because uploads and the authority's files are kept. The arithmetic is that of libsecp256k1, through
coincurve (extra `curve`). Its multiplication of a point takes variable time, and `encrypt` multiplies by the secret r.
Do not encrypt where others can measure the time.

Reference: Agrawal, Libert, Stehle, "Fully secure functional encryption for inner products, from standard assumptions",
CRYPTO 2016, section 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import mul
from typing import ClassVar

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.scheme import (
    BOUND,
    PIXEL,
    Ciphertext,
    EncryptionKey,
    FunctionKey,
    Master,
    Scheme,
    check_dimension,
    check_mine,
    check_pixels,
)
from mpc_appraisal.mpc.ring.prg import Stream, new_key

try:
    from coincurve import PublicKey
except ModuleNotFoundError:  # ALS16 raises InputError with the name of the extra.
    PublicKey = None

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
POINT_BYTES = 33
SCALAR_BYTES = 32
_WIDE_BYTES = 48  # A number of 384 bits modulo the order is within 2^-128 of uniform.
_BABY = 1 << 16
_STEP = 2 * _BABY + 1


@dataclass(frozen=True)
class ALS16(Scheme):
    """Public-key IFE on an elliptic curve, as the head of this file describes it.

    Raises InputError where coincurve is not installed.
    """

    name: ClassVar[str] = "als16"
    public_key: ClassVar[bool] = True
    header_bytes: ClassVar[int] = 2 * POINT_BYTES
    body_type: ClassVar[type] = np.uint8
    body_tail: ClassVar[tuple[int, ...]] = (POINT_BYTES,)

    def __post_init__(self) -> None:
        if PublicKey is None:
            raise InputError("scheme als16", "no coincurve", "the extra `curve`: pip install mpc_appraisal[curve]")

    def setup(self, dimension: int) -> Master:
        """Draw a master secret of 32 bytes, as in the base class."""
        return Master(self.name, check_dimension(dimension), new_key())

    def encryption_key(self, master: Master) -> EncryptionKey:
        """Return the public points h_i, 33 bytes each, as the key with which the seller encrypts."""
        check_mine("master", master.scheme, self.name)
        firsts, seconds = _secrets(master)
        points = (_sum([_times(_generator(), s), _times(_second(), t)]) for s, t in zip(firsts, seconds, strict=True))
        material = b"".join(point.format() for point in points)
        return EncryptionKey(self.name, master.dimension, material, master.key_id)

    def encrypt(self, key: EncryptionKey, x: np.ndarray) -> Ciphertext:
        """Encrypt the rows of x (n, d), as in the base class, with a fresh r for each row."""
        check_mine("encryption key", key.scheme, self.name)
        x = check_pixels(x, key.dimension)
        bases = _points(
            np.frombuffer(key.material, dtype=np.uint8).reshape(key.dimension, POINT_BYTES), "encryption key"
        )
        pixels = [None, *_multiples(PIXEL)]
        header, body = [], []
        for row in x:
            secret = int.from_bytes(new_key() + new_key(), "big") % ORDER
            header.append(_times(_generator(), secret).format() + _times(_second(), secret).format())
            body += [
                _sum([pixels[pixel], _times(base, secret)]).format() for pixel, base in zip(row, bases, strict=True)
            ]
        return Ciphertext(
            self.name,
            np.frombuffer(b"".join(header), dtype=np.uint8).reshape(len(x), 2 * POINT_BYTES),
            np.frombuffer(b"".join(body), dtype=np.uint8).reshape(len(x), key.dimension, POINT_BYTES),
            key.key_id,
        )

    def keygen(self, master: Master, w: np.ndarray) -> FunctionKey:
        """Return the function keys for the rows of w (k, d), as in the base class."""
        check_mine("master", master.scheme, self.name)
        w = self.check_rows(w, master.dimension)
        secrets = _secrets(master)
        scalars = [sum(map(mul, secret, row.tolist())) % ORDER for row in w for secret in secrets]
        packed = b"".join(scalar.to_bytes(SCALAR_BYTES, "big") for scalar in scalars)
        values = np.frombuffer(packed, dtype=np.uint8).reshape(len(w), 2 * SCALAR_BYTES)
        return FunctionKey(self.name, master.dimension, values, master.key_id)

    def evaluate(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """Return the inner products, as in the base class.

        Also raises InputError if no inner product below the bound fits a ciphertext, which happens with a foreign key
        or with altered bytes.
        """
        w = self.check_fit(key, w, c)
        out = np.zeros((len(c), len(w)), dtype=np.int64)
        for row, (header, body) in enumerate(zip(c.header, c.body, strict=True)):
            heads = _points(header.reshape(2, POINT_BYTES), "ciphertext")
            points = _points(body, "ciphertext")
            negated = [_negative(point) for point in points]
            for column, (weights, scalars) in enumerate(zip(w, key.values, strict=True)):
                terms = [_weighted(points, negated, weights)]
                for head, scalar in zip(heads, scalars.reshape(2, SCALAR_BYTES), strict=True):
                    terms.append(_times(head, -int.from_bytes(scalar.tobytes(), "big")))
                out[row, column] = _logarithm(_sum(terms))
        return out


def _generator() -> PublicKey:
    return PublicKey.from_secret((1).to_bytes(SCALAR_BYTES, "big"))


@lru_cache(maxsize=1)
def _second() -> PublicKey:
    """Return H: the point whose first coordinate is the first suitable hash of a label and a counter."""
    for counter in range(256):
        digest = hashlib.sha256(b"mpc_appraisal als16 second generator" + bytes([counter])).digest()
        try:
            return PublicKey(b"\x02" + digest)
        except ValueError:
            continue
    raise AssertionError(
        "none of 256 hashes is the first coordinate of a point, although about half of all numbers are"
    )


def _secrets(master: Master) -> tuple[list[int], list[int]]:
    """Return the secret numbers s_i and t_i of a seller."""
    drawn = Stream(master.secret, "als16 secret").ring((2 * master.dimension, _WIDE_BYTES // 8)).numpy()
    numbers = [int.from_bytes(row.tobytes(), "big") % ORDER for row in drawn]
    return numbers[: master.dimension], numbers[master.dimension :]


def _points(rows: np.ndarray, what: str) -> list[PublicKey]:
    """Return the points whose compressed bytes are `rows` (n, 33).

    Raises InputError, which names `what`, for other bytes.
    """
    try:
        return [PublicKey(row.tobytes()) for row in rows]
    except ValueError:
        raise InputError(what, "bytes that are no point", "compressed points of secp256k1") from None


def _times(point: PublicKey | None, scalar: int) -> PublicKey | None:
    """Multiply a point by a scalar, which may be negative; None is the neutral element."""
    scalar %= ORDER
    return None if point is None or scalar == 0 else point.multiply(scalar.to_bytes(SCALAR_BYTES, "big"))


def _negative(point: PublicKey) -> PublicKey:
    packed = bytearray(point.format())
    packed[0] ^= 1
    return PublicKey(bytes(packed))


def _sum(points: Iterable[PublicKey | None]) -> PublicKey | None:
    """Add points; None stands for the neutral element, which libsecp256k1 does not represent."""
    points = [point for point in points if point is not None]
    if not points:
        return None
    try:
        return PublicKey.combine_keys(points)
    except ValueError:  # The points are valid, so that their sum is the neutral element.
        return None


def _weighted(points: list[PublicKey], negated: list[PublicKey], weights: np.ndarray) -> PublicKey | None:
    """Return the sum of w_i E_i, bit by bit from the top. Additions are two or three times as fast as products."""
    sizes = np.abs(weights)
    total = None
    for bit in reversed(range(int(sizes.max(initial=0)).bit_length())):
        chosen = np.flatnonzero((sizes >> bit) & 1)
        total = _sum([total, total, *((negated if weights[i] < 0 else points)[i] for i in chosen)])
    return total


@lru_cache(maxsize=2)
def _multiples(count: int) -> tuple[PublicKey, ...]:
    """Return the points G, 2 G, ..., count G."""
    generator, points = _generator(), [_generator()]
    for _ in range(count - 1):
        points.append(_sum([points[-1], generator]))
    return tuple(points)


@lru_cache(maxsize=1)
def _table() -> dict[bytes, tuple[int, int]]:
    """Map the first coordinate of j G to (j, parity byte), for j = 1..2^16. It is built once, in at most a second."""
    found, point, generator = {}, _generator(), _generator()
    for baby in range(1, _BABY + 1):
        packed = point.format()
        found[packed[1:]] = (baby, packed[0])
        point = _sum([point, generator])
    return found


def _logarithm(point: PublicKey | None) -> int:
    """Find z with z G = point and |z| < 2^24, trying small numbers first. Raises InputError if none fits."""
    table = _table()
    giants = {sign: _times(_generator(), -sign * _STEP) for sign in (1, -1)}
    reached = {1: point, -1: point}
    for giant in range(BOUND // _STEP + 2):
        for sign in (1, -1):
            here = reached[sign]
            baby, parity = (0, 0) if here is None else table.get((packed := here.format())[1:], (None, 0))
            if baby is not None:
                value = sign * giant * _STEP + (baby if baby == 0 or packed[0] == parity else -baby)
                if abs(value) < BOUND:
                    return value
            reached[sign] = _sum([here, giants[sign]])
    raise InputError("ciphertext", "no inner product", f"one below {BOUND}: a foreign key, or bytes were altered")
