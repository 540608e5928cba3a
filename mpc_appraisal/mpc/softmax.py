"""Softmax and log-softmax of shared logits, without comparisons.

    softmax(z) = normalise(softmax(z / 2)^2),  so  softmax(z) from  e^(z / T), T = 2^k, by k squarings

1. Logits are centred within their row (free on shares; softmax does not change). Then C <= sum e^(z/T) <= C cosh(B/T)
   for |z| <= B: the sum's range is known, and so is that of every later sum, 1/C <= sum q^2 <= 1.
2. e^x = 3^(x / ln 3) in one multiplication: 3 is a unit mod 2^64, so each owner raises 3 to the integer part of its own
   share, multiplies by a rounded power of the fraction, and one product of the two gives the exact integer
   3^i * m_0 * m_1. (The idea of exponentiating shares locally is Kelkar et al., "Secure Poisson regression", USENIX
   Security 2022, there modulo a prime.) 17 bits of mantissa.
3. Reciprocals of row sums by Goldschmidt's iteration, each factor the minimax linear one for the known range.

Errors of the first steps double with each squaring: about 2e-5 (standard deviation) up to B = 16, 3e-5 up to 32.

B is public, and sums are only in their known range within it. Where the weights are given, B follows from norms that
the owners tell, and a smaller one is refused. While weights are trained nothing proves it: a small excess makes a row's
probabilities somewhat wrong, a large one wraps, and the opened value is refused as implausible.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch

from mpc_appraisal.errors import InputError
from mpc_appraisal.mpc.engine import Engine
from mpc_appraisal.mpc.limits import LARGEST_EXPONENT, MAX_SQUARINGS

BITS = 16  # fractional bits of a probability
LOGIT_BITS = 18  # of logits that are truncated exactly first
PRODUCT_BITS = 32  # of e^(z / T) and the reciprocal of its row's sum together
MANTISSA = 17
COARSE, FINE = 1.35, 1.0 + 2.0**-11  # how far a normalised sum's range may stretch; rounding alone is 2^-13


def squarings(bound: float) -> int:
    """k with bound / 2^k <= 8, at least 1; raises InputError where the bound is not one."""
    if not bound > 0 or bound > LARGEST_EXPONENT * 2**MAX_SQUARINGS:
        raise InputError("session.logit_bound", bound, f"above 0, at most {LARGEST_EXPONENT * 2**MAX_SQUARINGS:g}")
    return max(1, math.ceil(math.log2(bound / LARGEST_EXPONENT)))


@lru_cache(maxsize=1)
def _powers_of_three() -> list[torch.Tensor]:
    """3^(e - 2^47) mod 2^64 for 0 <= e < 2^48, as a product over e's six bytes."""
    modulus, tables = 1 << 64, []
    for byte in range(6):
        start = pow(3, -(1 << 47), modulus) if byte == 0 else 1
        step = pow(3, 1 << (8 * byte), modulus)
        row = [start * pow(step, e, modulus) % modulus for e in range(256)]
        tables.append(torch.tensor([v - modulus if v >> 63 else v for v in row], dtype=torch.int64))
    return tables


def _local_power(engine: Engine, share: torch.Tensor, rate: float, offset: int, scale: float) -> torch.Tensor:
    """3^(share * rate + offset) * scale * 2^MANTISSA mod 2^64, of this owner's own share; rate < 2^-16.

    The exponent runs to 2^47 and its fraction must be good to 2^-20: more than a float64 holds. So the share is cut in
    two, and the integer part of the rate is taken out in exact arithmetic. Both owners use one and the same rate to the
    last bit, for their exponents' errors must cancel.
    """
    if engine.dry:
        return torch.empty_like(share)
    stretched = rate * 2.0**31
    integer = math.floor(stretched)
    high, low = share >> 31, share & (2**31 - 1)
    real = high.to(torch.float64).mul_(stretched - integer).add_(low.to(torch.float64).mul_(rate))
    whole = torch.floor(real)
    mantissa = (real - whole).mul_(math.log(3.0)).exp_().mul_(scale * 2.0**MANTISSA).round_().to(torch.int64)
    e = whole.to(torch.int64) + high * integer + (offset + (1 << 47))
    for byte, table in enumerate(_powers_of_three()):
        mantissa *= table[(e >> (8 * byte)) & 255]
    return mantissa


def exponential(engine: Engine, z: torch.Tensor, unit: float, largest: float, bits: int) -> torch.Tensor:
    """e^(z * unit) with `bits` fractional bits from shares z; |z * unit| <= largest <= 8. Two rounds."""
    rate = unit / math.log(3.0)
    reach = largest / math.log(3.0)
    offset = math.ceil(reach) + 2  # the two floors take at most two
    power = math.ceil(offset * math.log2(3.0))  # 3^offset is stretched to 2^power
    scale = 2.0**power / 3.0**offset
    # Shares wrap as integers with probability |z| / 2^64 an element.
    engine.failure += z.numel() * 2.0 ** (math.log2(largest / unit) - 64)
    mine = _local_power(engine, z, rate, offset if engine.me == 0 else 0, scale if engine.me == 0 else 1.0)
    value = engine.product_of_own(mine)  # e^x * 2^(power + 2 MANTISSA)
    return engine.truncate(value, power + 2 * MANTISSA - bits)


def reciprocal(
    engine: Engine, s: torch.Tensor, bits: int, low: float, high: float, out: int, goal: float
) -> tuple[torch.Tensor, float, float]:
    """1 / s for low <= s <= high, from shares with `bits` fractional bits.

    Goldschmidt: t = s y, and both t and y are multiplied by the linear function of t that brings t's range closest to
    1. One round for the first t, one for each factor.

    Returns:
        Shares of 1 / s with `out` fractional bits, and the range in which s times it lies: within `goal` of 1.
    """
    # s is divided by about `low` first: by c / 2^m, a public fraction of seven bits, multiplied in again at the end.
    # The iteration works on s c / 2^m in [1, kappa] with `work` bits and its reciprocal in [1 / kappa, 1] with `fine`.
    work, fine = (13, 16) if goal == COARSE else (16, 18)
    m = 7 + math.ceil(math.log2(low))
    c = math.ceil(2.0**m / low)
    kappa = high * c / 2.0**m
    s = engine.truncate_locally(s * c, bits + m - work, math.log2(kappa) + bits + m)
    k, sigma = _factor(1.0, kappa)
    m1 = 10 - math.ceil(math.log2(k))
    y = s * -round(k * 2.0**m1) + engine._first(torch.full_like(s, round(k * sigma * 2.0 ** (m1 + work))))
    y = engine.truncate_locally(y, m1 + work - fine, math.log2(k * sigma) + m1 + work)
    low_t, high_t = _range_after(1.0, kappa, 2.0**-9)
    t = engine.truncate_locally(engine.multiply(s, y), fine, 1.5 + work + fine)
    while high_t / low_t > goal:
        k, sigma = _factor(low_t, high_t)
        tt, yt = engine.goldschmidt(t, y)
        tt = engine.truncate_locally(tt, work, 2 * work + 2 * math.log2(high_t))
        yt = engine.truncate_locally(yt, work, work + fine + math.log2(high_t))
        a, b = round(k * sigma * 2.0**15), round(k * 2.0**15)
        t = engine.truncate_locally(t * a - tt * b, 15, 15 + work + 0.5)
        y = engine.truncate_locally(y * a - yt * b, 15, 15 + fine + 0.5)
        low_t, high_t = _range_after(low_t, high_t, 2.0**-11 if high_t / low_t > 1.1 else 2.0**-14)
    y = engine.truncate_locally(y * c, fine + m - out, math.log2(c) + fine + 1)
    rounding = min(0.5, high * 2.0**-out) if goal == COARSE else 0.0  # y is no less than 1 / high
    return y, low_t * (1 - rounding), high_t * (1 + rounding)


def _factor(low: float, high: float) -> tuple[float, float]:
    """k and sigma of p(t) = k (sigma - t), for which t p(t) stays closest to 1 on [low, high] (Chebyshev)."""
    sigma, delta = low + high, high - low
    return 8.0 / (2.0 * sigma**2 - delta**2), sigma


def _range_after(low: float, high: float, slack: float) -> tuple[float, float]:
    """Range of t p(t), widened by `slack` for rounding."""
    error = 1.0 / (2.0 * ((low + high) / (high - low)) ** 2 - 1.0)
    return 1.0 - error - slack, 1.0 + error + slack


def centre(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
    """z minus its row's mean, on shares and without a message; the mean is off by a unit in the last place."""
    total, classes = z.sum(1, keepdim=True), z.shape[1]
    engine.failure += len(z) * classes * 2.0 ** (math.log2(bound) + bits - 64)  # the shares of a row's sum may wrap
    return z - torch.div(total, classes, rounding_mode="floor")


def softmax(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
    """Probabilities (n, C) with 16 fractional bits of logits (n, C) with `bits`; |z| <= bound after centring."""
    k, classes = squarings(bound), z.shape[1]
    temperature = 2.0**k
    largest = bound / temperature
    if engine.exact and bits > LOGIT_BITS:
        z, bits = engine.truncate(z, bits - LOGIT_BITS), LOGIT_BITS
    # A row's sum is C or more, so fewer classes want more bits of e^(z / T), and get by with fewer of its reciprocal.
    e_bits = 14 + max(0, math.ceil(math.log2(10 / classes)))
    y_bits = PRODUCT_BITS - e_bits
    e = exponential(engine, centre(engine, z, bits, bound), 1.0 / (2.0**bits * temperature), largest, e_bits)
    s = e.sum(1, keepdim=True)
    y, low, high = reciprocal(engine, s, e_bits, classes * 0.999, classes * math.cosh(largest) * 1.001, y_bits, COARSE)
    q = engine.multiply(e, y)  # probability * t, t in [low, high]
    q = engine.shorten(q, PRODUCT_BITS - BITS, PRODUCT_BITS + math.log2(high))
    for step in range(k):
        last = step == k - 1
        h = engine.square(q)
        h = engine.shorten(h, 2 * BITS - 18, 2 * BITS + 2 * math.log2(high))
        s = h.sum(1, keepdim=True)
        y, low, high = reciprocal(engine, s, 18, low**2 / classes * 0.99, high**2 * 1.01, 14, FINE if last else COARSE)
        q = engine.multiply(h, y)
        q = engine.shorten(q, 18 + 14 - BITS, 18 + 14 + math.log2(high))
    return q


LOG_BITS = 18
LOG_LARGEST = 3.0  # |z| / T in log-softmax: keeps every range that a logarithm is taken on within a factor of about ten


def logarithm(engine: Engine, x: torch.Tensor, bits: int, low: float, high: float) -> torch.Tensor:
    """ln x with 18 fractional bits for low <= x <= high, high / low up to about 15; within 2^-15.

    A polynomial gives L with x e^-L = 1 + d, |d| < 0.1; then ln x = L + d - d^2 / 2 + d^3 / 3.
    """
    centre_of, half = (high + low) / 2, (high - low) / 2
    grid = low + (high - low) * (np.cos(np.linspace(0, np.pi, 400)) + 1) / 2
    fit = np.polynomial.chebyshev.Chebyshev.fit((grid - centre_of) / half, np.log(grid), 6, domain=[-1, 1])
    coefficients = fit.convert(kind=np.polynomial.Polynomial).coef
    m = 14 + max(0, math.ceil(math.log2(half)))
    w = x * round(2.0**m / half) + engine._first(torch.full_like(x, round(-centre_of / half * 2.0 ** (m + bits))))
    w = engine.truncate(w, m + bits - LOG_BITS)
    value = w * 0 + engine._first(torch.full_like(x, round(coefficients[-1] * 2.0**LOG_BITS)))
    for c in coefficients[-2::-1]:
        value = engine.truncate(engine.multiply(value, w), LOG_BITS)
        value = value + engine._first(torch.full_like(x, round(c * 2.0**LOG_BITS)))
    largest = max(abs(math.log(low)), abs(math.log(high))) + 0.2
    inverse = exponential(engine, -value, 1.0 / 2.0**LOG_BITS, largest, LOG_BITS)
    d = engine.truncate(engine.multiply(x, inverse), bits) - engine._first(torch.full_like(x, 1 << LOG_BITS))
    dd = engine.truncate(engine.square(d), LOG_BITS)
    ddd = engine.truncate(engine.multiply(dd, d), LOG_BITS)
    third = engine.truncate_locally(ddd * 21845, 16, LOG_BITS + 10)
    return value + d - engine.truncate_locally(dd, 1, LOG_BITS) + third


def log_softmax(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> tuple[torch.Tensor, int]:
    """z - ln sum e^z (n, C) and its fractional bits, from logits (n, C) with `bits`; |z| <= bound after centring.

    With E = e^(z / T), T = 2^k, and the factors y_j that keep the squarings in range,
    ln sum e^z = ln s - sum over j < k of 2^(k - j) ln y_j, s being the last sum.
    """
    squarings(bound)
    k, classes = max(1, math.ceil(math.log2(bound / LOG_LARGEST))), z.shape[1]
    if bits > LOG_BITS:
        z, bits = engine.truncate(z, bits - LOG_BITS), LOG_BITS
    z = centre(engine, z, bits, bound)
    largest = bound / 2.0**k
    e = exponential(engine, z, 1.0 / 2.0 ** (bits + k), largest, LOG_BITS)
    s, at = e.sum(1, keepdim=True), LOG_BITS
    low, high = classes * 0.999, classes * math.cosh(largest) * 1.001
    q, logs = e, []
    for j in range(k):
        y, low_t, high_t = reciprocal(engine, s, at, low, high, LOG_BITS, COARSE)
        logs.append((y, low_t / high, high_t / low, 2.0 ** (k - j)))
        q = engine.truncate(engine.multiply(q, y), LOG_BITS)
        q = engine.truncate(engine.square(q), LOG_BITS)
        s, low, high = q.sum(1, keepdim=True), low_t**2 / classes * 0.99, high_t**2 * 1.01
    total = logarithm(engine, s, LOG_BITS, low, high)
    for y, low_y, high_y, weight in logs:
        total = total - logarithm(engine, y, LOG_BITS, low_y, high_y) * int(weight)
    return (z << (LOG_BITS - bits)) - total, LOG_BITS
