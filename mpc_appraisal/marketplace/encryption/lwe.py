"""IFE from learning with errors (LWE), modulo q = 2^64, with a key of the seller's own; exact, and all matrix products.

    S = PRG(seed)  uniform in Z_q^(n x d)                                   seller and authority
    c = a S + e + 2^39 x,   a = PRG(public seed) in Z_q^n,   e = round(N(0, sigma^2 I))     fresh for every row
    sk = S W'  (n, k)
    c W' - a sk = 2^39 W x + W e,   rounded to a multiple of 2^39:  W x  while  |W e| < 2^38

Reference: Agrawal, Libert, Stehle, "Fully secure functional encryption for inner products, from standard assumptions",
CRYPTO 2016, section 4, in its secret-key, selective form; S uniform instead of Gaussian, and keys modulo q.

Correctness. 255 |w|_1 < 2^24, so |<x, w>| < 2^24 fits the 25 bits above 2^39. <e, w> is within |w|_1 / 2 of a Gaussian
of deviation sigma |w|_2. A result is wrong with probability erfc((2^38 - |w|_1 / 2) / (sqrt(2) sigma |w|_2)). With
sigma = 5e5 the margin is 8.3 deviations for the worst row under the bound (one entry of 65,793): 7e-17. It is 41 for
25 equal entries and 234 for 784. sigma = 9.09e6 would need |w|_2 < 3780, which sparse rows at the bound exceed.

Security, (i) what issued keys leave: rows x_0, x_1 with W x_0 = W x_1 cannot be told apart, where the pairs are chosen
before the seeds are drawn and keys at any time. Take u = x_1 - x_0, so W u = 0, and a secret T in Z_q^n: S = T u' + S_0
with known uniform S_0 is uniform, and S W' = S_0 W' is known without T, whatever the number of keys. From samples
b = a T + e' with noise N(0, s^2), s = sigma / |u|_2, one makes ciphertexts round(b u' + a S_0 + f + 2^39 x) with
f ~ N(0, sigma^2 I - s^2 u u'): the noise e' u + f is N(0, sigma^2 I), exactly as in the scheme. Were b uniform,
b + 2^39 would be as well, and x_0 would become x_1. Each row costs two such steps. |u|_2 <= 255 sqrt(d), so the
scheme is at least as hard as LWE with n, q and s = sigma / (255 sqrt(d)), one sample a row. Once W has rank d no pair
is left: authority.py counts and caps the rank. Nothing here hides W, or W x from who evaluates.

(ii) that LWE instance, by the attacks of estimate.py, n = 2560, sigma = 5e5:

    instance                               bits   core-SVP (0.292 beta, a lower bound)
    d = 784,   s = sigma / 7140 = 70        167    135
    d = 3072,  s = sigma / 14134 = 35       161    129
    S itself without the loss of (i)        292    260
    (n = 2048, sigma = 5e5, d = 784         131     99)

That is above 128 by either count, before the factor 2 rows that the hybrid argument of (i) costs its reduction (17 bits
for 60,000 rows, for which no attack is known). Selective security, AES-256 as PRG (for the public a, as an ideal one).

Ciphertexts are malleable: 2^39 added to a coordinate adds 1 to x. sealed_upload.py signs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.noise import gaussian
from mpc_appraisal.marketplace.encryption.residues import Residues, Small, product, small_product
from mpc_appraisal.marketplace.encryption.scheme import (
    PIXEL,
    SEED_BYTES,
    Ciphertext,
    EncryptionKey,
    FunctionKey,
    Master,
    Scheme,
    check_bound,
    check_dimension,
    check_mine,
    check_pixels,
)
from mpc_appraisal.marketplace.encryption.security_estimate import security_bits
from mpc_appraisal.mpc.ring.prg import Stream, new_key

FRACTION_BITS = 39
_BLOCK = 1024  # rows at a time, which bounds the memory


@dataclass(frozen=True)
class LWE(Scheme):
    """Private-key IFE modulo 2^64 (see the top of the file).

    Args:
        n: the length of the LWE secret.
        sigma: standard deviation of a ciphertext's noise.
        deviations: rows are refused where the margin 2^38 is less than this many deviations of their noise: at 8, a
            result is wrong with probability at most 1.3e-15.
    """

    name: ClassVar[str] = "lwe"
    public_key: ClassVar[bool] = False
    header_bytes: ClassVar[int] = SEED_BYTES
    body_type: ClassVar[type] = np.int64
    n: int = 2560
    sigma: float = 5.0e5
    deviations: float = 8.0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError("n", self.n, "at least 1")
        if not 1 <= self.sigma < 2**24:
            raise InputError("sigma", self.sigma, "between 1 and 2^24")
        if self.deviations < 1:
            raise InputError("deviations", self.deviations, "at least 1")

    def security_bits(self, dimension: int) -> float:
        """Bits of the best known attack on the instance that (i) reduces to, for vectors of `dimension` pixels."""
        return security_bits(self.n, 64, self.sigma / (PIXEL * math.sqrt(check_dimension(dimension))))

    def setup(self, dimension: int) -> Master:
        return Master(self.name, check_dimension(dimension), new_key())

    def encryption_key(self, master: Master) -> EncryptionKey:
        check_mine("master", master.scheme, self.name)
        return EncryptionKey(self.name, master.dimension, master.secret, master.key_id)

    def encrypt(self, key: EncryptionKey, x: np.ndarray) -> Ciphertext:
        check_mine("encryption key", key.scheme, self.name)
        x = check_pixels(x, key.dimension)
        secret = _secret(key.material, key.dimension, self.n)
        seeds = np.frombuffer(b"".join(new_key() for _ in x), dtype=np.uint8).reshape(len(x), SEED_BYTES)
        body = x << FRACTION_BITS
        for start in range(0, len(x), _BLOCK):
            run = slice(start, start + _BLOCK)
            body[run] += gaussian(x[run].shape, self.sigma)
            body[run] += product(self._masks(seeds[run]), secret)
        return Ciphertext(self.name, seeds, body, key.key_id)

    def keygen(self, master: Master, w: np.ndarray) -> FunctionKey:
        check_mine("master", master.scheme, self.name)
        w = self.check_rows(w, master.dimension)
        secret = _secret(master.secret, master.dimension, self.n)
        return FunctionKey(self.name, master.dimension, small_product(Small(w), secret.values), master.key_id)

    def evaluate(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        self.check_pair(key, c)
        return self.evaluator(key, w)(c)

    def evaluator(self, key: FunctionKey, w: np.ndarray) -> Callable[[Ciphertext], np.ndarray]:
        rows, right = Small(self.check_noise(self.check_key(key, w))), self._residues(key)

        def run(c: Ciphertext) -> np.ndarray:
            self.check_pair(key, c)
            scaled = small_product(rows, c.body.T).T - self._masked(c.header, right)
            return (scaled + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS

        return run

    def shopper_share(self, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """c W' (n, k) int64 modulo 2^64, for who holds the ciphertexts' bodies and W; the headers are not read."""
        check_mine("ciphertext", c.scheme, self.name)
        if c.body.dtype != np.int64:
            raise InputError("ciphertext body", f"{c.body.dtype}", "int64")
        return small_product(Small(self.check_rows(w, c.dimension)), c.body.T).T

    def cloud_share(self, key: FunctionKey, seeds: np.ndarray) -> np.ndarray:
        """-a sk (n, k) int64 modulo 2^64, for who holds the function key and the headers (n, 32) of the ciphertexts.

        Added to `shopper_share` modulo 2^64: 2^39 <x, w> + <e, w>. Unless it is rounded off, the noise stays: a
        deviation of 2^-39 sigma |w|_2 of the unit of <x, w>, at most 0.06.
        """
        check_mine("function key", key.scheme, self.name)
        self._check_seeds(seeds)
        return -self._masked(seeds, self._residues(key))

    def _residues(self, key: FunctionKey) -> Residues:
        if key.values.shape[1] != self.n:
            raise InputError("function key", f"n = {key.values.shape[1]}", f"n = {self.n}")
        return Residues(key.values)

    def _masked(self, seeds: np.ndarray, right: Residues) -> np.ndarray:
        """a sk (n, k) int64 modulo 2^64."""
        out = np.empty((len(seeds), len(right.values)), dtype=np.int64)
        for start in range(0, len(seeds), _BLOCK):
            run = slice(start, start + _BLOCK)
            out[run] = product(self._masks(seeds[run]), right)
        return out

    def check_rows(self, w: np.ndarray, dimension: int) -> np.ndarray:
        """As in the base class, and InputError where a row's noise comes too near to the margin."""
        return self.check_noise(check_bound(w, dimension=dimension))

    def check_noise(self, w: np.ndarray) -> np.ndarray:
        """w (k, d) int64 as it is. InputError where a row's noise comes too near to the margin."""
        norms = np.sqrt((w.astype(np.float64) ** 2).sum(1))
        most = 2.0 ** (FRACTION_BITS - 1) / (self.sigma * self.deviations)
        if norms.max(initial=0) > most:
            raise InputError(
                "weights", f"row {norms.argmax()} of norm {norms.max():.1f}", f"a norm of at most {most:.1f}"
            )
        return w

    def _check_seeds(self, seeds: np.ndarray) -> None:
        if seeds.dtype != np.uint8 or seeds.ndim != 2 or seeds.shape[1] != SEED_BYTES:
            raise InputError("ciphertext seeds", f"{seeds.dtype} {seeds.shape}", f"uint8 (n, {SEED_BYTES})")

    def _masks(self, seeds: np.ndarray) -> np.ndarray:
        """a (n, self.n) int64: one row from each public seed."""
        rows = [Stream(seed.tobytes(), "lwe mask").ring((self.n,)).numpy() for seed in seeds]
        return np.stack(rows) if rows else np.empty((0, self.n), dtype=np.int64)


@lru_cache(maxsize=2)
def _secret(seed: bytes, dimension: int, n: int) -> Residues:
    """S' (dimension, n) with its limbs: 64 MB for an MNIST image, so that no more than two are kept."""
    return Residues(Stream(seed, "lwe secret").ring((dimension, n)).numpy())
