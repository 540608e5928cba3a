"""Estimates the cost, in bits, of the known lattice attacks on an instance of learning with errors (LWE).

In go the length n of a uniform secret, the modulus q and the standard deviation sigma of the noise; out comes the
cheapest known attack. BKZ with blocks of size beta in dimension D reaches the root Hermite factor delta, at these
costs:

    delta(beta) = ((pi beta)^(1/beta) beta / (2 pi e))^(1/(2(beta - 1)))
    bits(beta)  = 0.292 beta + 16.4 + log2(8 D)       8 D calls of the sieve of Becker, Ducas, Gama, Laarhoven (2016)
    core(beta)  = 0.292 beta                          one call without the constant, which is a lower bound

The primal attack takes m samples, has D = m + n + 1, and finds the short vector (s, e, 1) when

    sigma sqrt(beta) <= delta^(2 beta - D - 1) q^(m/D)

The dual attack has D = m + n. A vector of length l = delta^(D-1) q^(n/D) distinguishes LWE from uniform samples with
advantage eps = 2 exp(-2 (pi sigma l / q)^2). It takes 1/eps^2 vectors, of which one sieve gives 2^(0.2075 beta).

`best_attack` returns the cheaper of the two. Hybrid and combinatorial attacks are not modelled, because they need a
sparse or small secret and that of `lwe` is uniform. Dual attacks by FFT (MATZOV 2022) are not modelled either: they
gain a few bits, and their analysis is disputed (Ducas, Pulles 2023). An attack may be added to the minimum of
`best_attack`. The formulas have to stay in agreement with the table of the Homomorphic Encryption Standard (2018), with
which the tests compare the estimate.

Reference: Chen (2013); Albrecht, Player, Scott (2015), section 3.2; Alkim, Ducas, Poeppelmann, Schwabe (2016), section
6.3, for both attacks and the lower bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mpc_appraisal.common.errors import InputError

_SIEVE = 0.292
_SIEVE_CONSTANT = 16.4
_SIEVE_VECTORS = 0.2075
_SMALLEST = 50  # For smaller blocks the formula of delta is not valid.


@dataclass(frozen=True)
class Attack:
    """An attack on one instance.

    Attributes:
        name: 'primal' or 'dual'.
        block: the size beta of blocks.
        samples: the number m of samples.
        bits: the cost in bits.
        core_bits: the cost in bits by the core-SVP count.
    """

    name: str
    block: int
    samples: int
    bits: float
    core_bits: float


def security_bits(n: int, log2_q: float, sigma: float) -> float:
    """Return the bits of the cheapest attack on LWE.

    The secret of length n is uniform, the modulus is 2^log2_q, and sigma is the standard deviation of the noise.

    Raises InputError as `best_attack` does.
    """
    return best_attack(n, log2_q, sigma).bits


def best_attack(n: int, log2_q: float, sigma: float) -> Attack:
    """Return the cheaper of the primal and the dual attack.

    Raises InputError unless 0 < sigma < 2^log2_q and n >= 64.
    """
    if n < 64:
        raise InputError("n", n, "at least 64")
    if not 0 < sigma < 2.0**log2_q:
        raise InputError("sigma", sigma, f"between 0 and 2^{log2_q}")
    return min(_primal(n, log2_q, sigma), _dual(n, log2_q, sigma), key=lambda attack: attack.bits)


def _log2_delta(block: int) -> float:
    return math.log2((math.pi * block) ** (1 / block) * block / (2 * math.pi * math.e)) / (2 * (block - 1))


def _bits(block: int, dimension: int) -> float:
    return _SIEVE * block + _SIEVE_CONSTANT + math.log2(8 * dimension)


def _primal(n: int, log2_q: float, sigma: float) -> Attack:
    def found(block: int) -> int | None:
        """Return the number of samples at which this block size succeeds, or None."""
        delta = _log2_delta(block)
        # The gain m log q / D - (D + 1 - 2 beta) log delta is largest at D = sqrt((n + 1) log q / log delta).
        size = max(int(math.sqrt((n + 1) * log2_q / delta)), n + 2, block)
        gained = (2 * block - size - 1) * delta + log2_q * (size - n - 1) / size
        return size - n - 1 if math.log2(sigma) + math.log2(block) / 2 <= gained else None

    low, high = _SMALLEST, 2 * _SMALLEST
    while found(high) is None:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) is not None else (middle, high)
    samples = found(high)
    return Attack("primal", high, samples, _bits(high, samples + n + 1), _SIEVE * high)


def _dual(n: int, log2_q: float, sigma: float) -> Attack:
    def attack(block: int) -> Attack:
        delta = _log2_delta(block)
        size = max(int(math.sqrt(n * log2_q / delta)), n + 1)
        length = (size - 1) * delta + log2_q * n / size  # This is log2 of the length.
        spread = math.pi * 2.0 ** (math.log2(sigma) + length - log2_q)
        repeats = max(0.0, 2 * (2 * spread**2 * math.log2(math.e) - 1) - _SIEVE_VECTORS * block)
        return Attack("dual", block, size - n, _bits(block, size) + repeats, _SIEVE * block + repeats)

    best = attack(_SMALLEST)
    block = _SMALLEST
    while _SIEVE * block < best.bits:  # For larger blocks the sieve alone costs more.
        block += 1
        best = min(best, attack(block), key=lambda found: found.bits)
    return best
