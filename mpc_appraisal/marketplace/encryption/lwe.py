"""IFE from learning with errors (LWE), modulo q = 2^64, with a private key for each seller.

In go pixels x (d,) at the seller and rows W (k, d) at the authority; out come the exact inner products W x, or two
shares of them. A prime marks a transpose, and PRG expands a seed to ring elements:

    secret      S = PRG(seed), uniform in Z_q^(n x d)                       known to the seller and to the authority
    encrypt     c = a S + e + 2^39 x,  a = PRG(public seed) in Z_q^n,  e = round(N(0, sigma^2 I))    fresh for each row
    keygen      sk = S W'  (n, k)
    evaluate    c W' - a sk = 2^39 W x + W e, rounded to a multiple of 2^39, is W x while |W e| < 2^38

The seller sends c (8 bytes for each of the d pixels) and the public seed (32 bytes) for each row. The authority sends
sk, which is 8 n bytes for each row of W. Whoever evaluates learns W x, and W is not hidden from it. Of two images that
are equal in W x it learns no difference, until the keys that were issued have rank d; `authority` counts and caps the
rank.

Results are exact. A result is wrong with a probability of at most 7e-17 for rows under the bound and the default sigma.
The security is that of an LWE instance, which takes 167 bits for 784 pixels and 161 bits for 3,072 by the known attacks
(135 and 129 by the core-SVP count). Both are derived in docs/protocols/functional_encryption.md. Ciphertexts are
malleable: 2^39 added to a coordinate adds 1 to x. Therefore `signed_upload` signs them. How products are computed may
change. n, sigma and FRACTION_BITS may change only with that derivation; keys and ciphertexts of other parameters do not
fit.

Reference: Agrawal, Libert, Stehle, "Fully secure functional encryption for inner products, from standard assumptions",
CRYPTO 2016, section 4, in its secret-key, selective form; S is uniform instead of Gaussian, and keys are modulo q.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from mpc_appraisal.common.checks import integer, number
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

FRACTION_BITS = 39  # A ciphertext encodes x as 2^39 x.
_BLOCK = 1024  # So many rows are processed at a time, which bounds the memory.


@dataclass(frozen=True)
class LWE(Scheme):
    """Private-key IFE modulo 2^64, as the head of this file describes it.

    Args:
        n: the length of the LWE secret.
        sigma: the standard deviation of a ciphertext's noise.
        deviations: a row w is refused if the margin 2^38 is less than so many standard deviations of its noise. With 8
            a result is wrong with a probability of at most 1.3e-15.

    Raises InputError where a parameter is out of range.
    """

    name: ClassVar[str] = "lwe"
    public_key: ClassVar[bool] = False
    header_bytes: ClassVar[int] = SEED_BYTES
    body_type: ClassVar[type] = np.int64
    n: int = 2560
    sigma: float = 5.0e5
    deviations: float = 8.0

    def __post_init__(self) -> None:
        integer("n", self.n, 1)
        number("sigma", self.sigma, "a number between 1 and 2^24", least=1, below=2**24)
        number("deviations", self.deviations, least=1)

    def security_bits(self, dimension: int) -> float:
        """Return the cost in bits of the best known attack on the LWE instance behind vectors of `dimension` pixels."""
        return security_bits(self.n, 64, self.sigma / (PIXEL * math.sqrt(check_dimension(dimension))))

    def setup(self, dimension: int) -> Master:
        """Draw a master secret of 32 bytes, as in the base class."""
        return Master(self.name, check_dimension(dimension), new_key())

    def encryption_key(self, master: Master) -> EncryptionKey:
        """Return the secret seed itself as the key with which the seller encrypts."""
        check_mine("master", master.scheme, self.name)
        return EncryptionKey(self.name, master.dimension, master.secret, master.key_id)

    def encrypt(self, key: EncryptionKey, x: np.ndarray) -> Ciphertext:
        """Encrypt the rows of x (n, d), as in the base class, with a fresh public seed and noise for each row."""
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
        """Return the function keys for the rows of w (k, d), as in the base class."""
        check_mine("master", master.scheme, self.name)
        w = self.check_rows(w, master.dimension)
        secret = _secret(master.secret, master.dimension, self.n)
        return FunctionKey(self.name, master.dimension, small_product(Small(w), secret.values), master.key_id)

    def evaluate(self, key: FunctionKey, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """Return the exact inner products x @ w.T, (n, k) int64, as in the base class."""
        self.check_pair(key, c)
        return self.evaluator(key, w)(c)

    def evaluator(self, key: FunctionKey, w: np.ndarray) -> Callable[[Ciphertext], np.ndarray]:
        """Return a function that evaluates ciphertexts, as in the base class.

        The rows are checked once, here; the function checks each ciphertext against the key.
        """
        rows, right = Small(self.check_noise(self.check_key(key, w))), self._residues(key)

        def run(c: Ciphertext) -> np.ndarray:
            self.check_pair(key, c)
            scaled = small_product(rows, c.body.T).T - self._masked(c.header, right)
            return (scaled + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS

        return run

    def shopper_share(self, w: np.ndarray, c: Ciphertext) -> np.ndarray:
        """Return the share c W' (n, k) int64 modulo 2^64 of 2^39 W x + W e, for n ciphertexts.

        Whoever computes this share needs W (k, d) and the ciphertexts' bodies; the headers are not read. Raises
        InputError for ciphertexts of another scheme or type, and for rows that `check_rows` refuses.
        """
        check_mine("ciphertext", c.scheme, self.name)
        if c.body.dtype != np.int64:
            raise InputError("ciphertext body", f"{c.body.dtype}", "int64")
        return small_product(Small(self.check_rows(w, c.dimension)), c.body.T).T

    def cloud_share(self, key: FunctionKey, seeds: np.ndarray) -> np.ndarray:
        """Return the share -a sk (n, k) int64 modulo 2^64, for n ciphertexts.

        Whoever computes this share needs the function key and the seeds (n, 32) uint8. The sum of this and
        `shopper_share` modulo 2^64 is 2^39 <x, w> + <e, w>. Unless the sum is rounded, the noise stays in it. Its
        standard deviation is 2^-39 sigma `|w|_2` in the unit of <x, w>, which is at most 0.06. Raises InputError for a
        key of another scheme or length, and for seeds of another form.
        """
        check_mine("function key", key.scheme, self.name)
        self._check_seeds(seeds)
        return -self._masked(seeds, self._residues(key))

    def _residues(self, key: FunctionKey) -> Residues:
        if key.values.shape[1] != self.n:
            raise InputError("function key", f"n = {key.values.shape[1]}", f"n = {self.n}")
        return Residues(key.values)

    def _masked(self, seeds: np.ndarray, right: Residues) -> np.ndarray:
        """Return the product a sk (n, k) int64 modulo 2^64, for the seeds of a."""
        out = np.empty((len(seeds), len(right.values)), dtype=np.int64)
        for start in range(0, len(seeds), _BLOCK):
            run = slice(start, start + _BLOCK)
            out[run] = product(self._masks(seeds[run]), right)
        return out

    def check_rows(self, w: np.ndarray, dimension: int) -> np.ndarray:
        """Return the rows as in the base class.

        Also raises InputError where a row's noise comes too near to the margin.
        """
        return self.check_noise(check_bound(w, dimension=dimension))

    def check_noise(self, w: np.ndarray) -> np.ndarray:
        """Return `w` (k, d) int64 unchanged. Raises InputError where a row's noise comes too near to the margin."""
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
        """Return the vectors a, one row of length self.n (int64) for each public seed."""
        rows = [Stream(seed.tobytes(), "lwe mask").ring((self.n,)).numpy() for seed in seeds]
        return np.stack(rows) if rows else np.empty((0, self.n), dtype=np.int64)


@lru_cache(maxsize=2)
def _secret(seed: bytes, dimension: int, n: int) -> Residues:
    """Return the transposed secret S' (dimension, n). It takes 64 MB for MNIST images, so that at most 2 are cached."""
    return Residues(Stream(seed, "lwe secret").ring((dimension, n)).numpy())
