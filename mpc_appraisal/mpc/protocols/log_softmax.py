"""Log-softmax of shared logits, without comparisons.

    ln softmax(z) = u - ln s,      u = v - m,      s = sum e^u           z (n, C), |z| <= B after centring a row
    v = z - z_C,    m = sum over c of p_c v_c                            p is close to softmax(z)

z are the logits of n rows and C classes, B is their public bound, z_C is a row's last logit, and p are the
probabilities of `softmax`. In go shares of z, and out come shares of ln softmax(z).

The formula holds for any number m, so that no error of p and no rounding of m reaches the result. The mean m only
brings s into a narrow public range: ln sum e^v - m is the entropy of p, which is between 0 and ln C. The sum s comes
from e^u = (e^(u / T))^T with T = 2^k by k squarings of masked values, and one logarithm of a number between about 1 and
C is left.

What leaves each owner are values under masks that the dealer draws. Nothing is revealed to anybody; B, k and the shapes
are public. The error of an entry has a standard deviation of 6e-6 at B = 16 and of 5e-5 at B = 256, most of it common
to the entries of a row, and no mean; `release.softmax_accuracy.log_softmax_off` bounds it. With ten classes each owner
sends 66 bytes an entry in 42 rounds at B = 16, and 110 bytes in 64 rounds at B = 256.

The constants below may change only together with that bound on the error: they keep every exponent and every opened
value within its ring, and the logarithm within the range on which its polynomial is right.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product
from mpc_appraisal.mpc.protocols.softmax import P_SCALE, Z_BITS, exponent_step, exponential, normalised, squarings
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT

MAX_LOG_CLASSES = 10  # The range of the logarithm grows with the classes.
LOG_BITS = 18  # A logarithm has so many fractional bits.
LARGEST = 4.5  # |x| is at most this in e^x, so that powers of three with mantissas of 20 bits fit the ring.
MANTISSA = 20  # A power of three has at most so many bits in its mantissa.
ASIDE = 0.35  # m is off by at most this from the mean of v under the true probabilities.
WEIGHT_BITS = 20  # A probability that weighs the mean m has so many fractional bits.
OPEN_BITS, SQUARE_RING = 24, 48  # The widths of the rings in which a power of e^(u / T) is opened and squared.


def log_softmax(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> tuple[torch.Tensor, int]:
    """Return shares of ln softmax(z), (n, C), and the number of their fractional bits, LOG_BITS.

    Args:
        engine: this owner's end.
        z: shares of logits (n, C) with `bits` fractional bits.
        bits: the number of fractional bits of z.
        bound: B, with |z| <= B after each row is centred. It is not checked here, since z is secret.

    Raises InputError: the bound is too large, see `softmax.squarings`, or there are more than MAX_LOG_CLASSES classes.
    """
    squarings(bound)
    if z.shape[1] > MAX_LOG_CLASSES:
        raise InputError("classes", z.shape[1], f"at most {MAX_LOG_CLASSES} for a loss on shares, as fine-tuning opens")
    u, bits = _less_mean(engine, z, bits, bound)
    s, one, low, high = _sum_of_powers(engine, u, bits, bound)
    at = math.ceil(math.log2(high))
    log = logarithm(engine, s, at, low / 2.0**at, high / 2.0**at)
    # This is added before u is cut, because rounding it to LOG_BITS would put the same error into all entries.
    constant = round((math.log(one) - at * math.log(2.0)) * 2.0**bits)
    u = u + engine.public_share(torch.full_like(u, constant))
    return engine.truncate(u, bits - LOG_BITS) - log, LOG_BITS


def doublings(bound: float, classes: int) -> tuple[int, float]:
    """Return k, the number of squarings that follow e^(u / 2^k), and a bound on |u / 2^k| after u is centred."""
    half = bound + math.log(classes) / 2 + ASIDE
    k = max(1, math.ceil(math.log2(half / LARGEST)))
    return k, half / 2.0**k


def _less_mean(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> tuple[torch.Tensor, int]:
    """Return shares of u (n, C) of the formula above, and the number of their fractional bits."""
    _, p = normalised(engine, z, bits, bound)
    v = z - z[:, -1:]  # |v| <= 2 B, and a common part of the logits has no effect, whatever its size
    drop, low = max(0, math.ceil(math.log2(2 * bound * 2.0**bits / (2.0 ** (Z_BITS - 2) - 8)))), 1 << (Z_BITS - 2)
    p, opened = open_all(
        engine,
        MaskedOpening(p.q, P_SCALE - WEIGHT_BITS, OPEN_BITS, 64),
        MaskedOpening(v, drop, Z_BITS, 64, low),
    )
    mean, at = product(engine, p, opened).sum(1, keepdim=True), WEIGHT_BITS + bits - drop
    evict(engine, p, opened)
    most = max(bits, at, LOG_BITS)
    return (v << (most - bits)) - (mean << (most - at)), most


def _sum_of_powers(
    engine: Engine, u: torch.Tensor, bits: int, bound: float
) -> tuple[torch.Tensor, float, float, float]:
    """Return shares (n, 1) of the sum of e^u over a row, the number that stands for 1, and the sum's range."""
    classes, (k, largest) = u.shape[1], doublings(bound, u.shape[1])
    middle = round((bound - math.log(classes) / 2) * 2.0**bits)  # u lies between -2 B and ln C, within ASIDE
    shifted = u + engine.public_share(torch.full_like(u, middle))
    unit = 1.0 / 2.0 ** (bits + k)
    x, one_bits = exponential(engine, shifted, unit, largest, 0.0, MANTISSA)
    drop, rate = exponent_step(unit, largest)
    one = 2.0**one_bits * math.exp(middle / 2.0**drop * rate * LN3 / 2.0**POINT)  # `rate` is rounded
    most = (classes * math.exp(ASIDE)) ** (1 / 2.0**k)
    for _ in range(k):
        drop = _cut(most * one)
        (q,) = open_all(engine, MaskedOpening(x, drop, OPEN_BITS, SQUARE_RING))
        x = product(engine, q, q)
        evict(engine, q)
        one, most = (one / 2.0**drop) ** 2, most**2
    drop = _cut(most * one)
    (s,) = open_all(engine, MaskedOpening(x.sum(1, keepdim=True), drop, OPEN_BITS, 64))
    evict(engine, s)
    one = one / 2.0**drop
    return s.share(engine), one, 0.999 * math.exp(-ASIDE) * one, 1.001 * most * one


def _cut(largest: float) -> int:
    """Return how many low bits are cut of integers up to about `largest`, so that they are opened in OPEN_BITS bits."""
    return math.ceil(math.log2(1.001 * largest / (2.0 ** (OPEN_BITS - 1) - 16)))


def polynomial(low: float, high: float) -> np.ndarray:
    """Return the coefficients, the lowest first, of a polynomial of degree 6 that approximates ln x on [low, high].

    The variable of the polynomial is x mapped linearly from [low, high] to [-1, 1].
    """
    centre_of, half = (high + low) / 2, (high - low) / 2
    grid = low + (high - low) * (np.cos(np.linspace(0, np.pi, 400)) + 1) / 2
    fit = np.polynomial.chebyshev.Chebyshev.fit((grid - centre_of) / half, np.log(grid), 6, domain=[-1, 1])
    return fit.convert(kind=np.polynomial.Polynomial).coef


def logarithm(engine: Engine, x: torch.Tensor, bits: int, low: float, high: float) -> torch.Tensor:
    """Return shares of ln x with 18 fractional bits, right within 2^-15 if high / low is at most about 15.

    A polynomial gives L with x e^-L = 1 + d and |d| < 0.1; then ln x is close to L + d - d^2 / 2 + d^3 / 3.

    Args:
        engine: this owner's end.
        x: shares, of any shape, with `bits` fractional bits.
        bits: the number of fractional bits of x.
        low, high: the public range of the real number x, with low above 0.
    """
    centre_of, half = (high + low) / 2, (high - low) / 2
    coefficients = polynomial(low, high)
    m = 14 + max(0, math.ceil(math.log2(half)))
    w = x * round(2.0**m / half) + engine.public_share(torch.full_like(x, round(-centre_of / half * 2.0 ** (m + bits))))
    w = engine.truncate(w, m + bits - LOG_BITS)
    value = w * 0 + engine.public_share(torch.full_like(x, round(coefficients[-1] * 2.0**LOG_BITS)))
    for c in coefficients[-2::-1]:
        value = engine.truncate(engine.multiply(value, w), LOG_BITS)
        value = value + engine.public_share(torch.full_like(x, round(c * 2.0**LOG_BITS)))
    largest = max(abs(math.log(low)), abs(math.log(high))) + 0.2
    reciprocal, reciprocal_bits = exponential(engine, -value, 1.0 / 2.0**LOG_BITS, largest, 0.0)
    reciprocal = engine.truncate(reciprocal, reciprocal_bits - LOG_BITS)
    d = engine.truncate(engine.multiply(x, reciprocal), bits) - engine.public_share(torch.full_like(x, 1 << LOG_BITS))
    dd = engine.truncate(engine.square(d), LOG_BITS)
    ddd = engine.truncate(engine.multiply(dd, d), LOG_BITS)
    third = engine.truncate_locally(ddd * 21845, 16, LOG_BITS + 10)
    return value + d - engine.truncate_locally(dd, 1, LOG_BITS) + third
