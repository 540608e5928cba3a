"""Log-softmax of shared logits, without comparisons.

    ln softmax(z) = z - ln sum e^z                                        z (n, C), |z| <= B after centring a row
    ln sum e^z = ln sum x_k - sum over j < k of 2^(k - j) ln y_j

z are the logits of n rows and C classes, B is their public bound, and centring subtracts the mean of a row. The numbers
x_j and y_j are those of `softmax`: x_0 = e^(z / T), T = 2^k for k squarings, and x_(j+1) = (x_j y_j)^2, where y_j is
the masked reciprocal by which a row is normalised. In go shares of z, and out come shares of ln softmax(z).

What leaves each owner are values under masks that the dealer draws. Nothing is revealed to anybody; B, k and the shapes
are public. The error of the logarithm of y_j counts 2^(k - j) times; `release.accuracy.log_softmax_off` bounds the
total. The shares of a row's sum wrap with a probability that is counted in `Engine.failure`. With ten classes each
owner sends 129 bytes an entry in 100 rounds at B = 16, and 253 bytes in 202 rounds at B = 256.

The constants below may change only together with that bound on the error: they keep every logarithm within the range on
which its polynomial is right.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all
from mpc_appraisal.mpc.protocols.softmax import (
    H_RING,
    Q_DROP,
    S_BITS,
    exponential,
    normalise,
    powers,
    squares,
    squarings,
)

MAX_LOG_CLASSES = 10  # The ranges of the logarithms grow with the classes.
LOG_BITS = 18  # A logarithm has so many fractional bits.
LARGEST = 3.0  # |z| / T is at most this; with ten classes every logarithm has a range of a factor of about 30.
X_BITS = 18  # An opened e^(z / T) has so many fractional bits.


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
    k, classes = max(1, math.ceil(math.log2(bound / LARGEST))), z.shape[1]
    if classes > MAX_LOG_CLASSES:
        raise InputError("classes", classes, f"at most {MAX_LOG_CLASSES} for a loss on shares, as fine-tuning opens")
    rows = powers(engine, z, bits, bound, k, X_BITS)
    constant, logs = -(2.0**k) * math.log(rows.one), []
    for j in range(k):
        divided, weight = normalise(engine, rows, last=False, wide=True), 2 ** (k - j)
        logs.append((_log(engine, divided.y.share(engine), *divided.y_range), weight))
        constant += weight * (rows.drop + Q_DROP) * math.log(2.0)
        rows = squares(engine, divided, classes)
    drop = math.ceil(math.log2(rows.high)) - S_BITS
    (s,) = open_all(engine, MaskedOpening(rows.x.sum(1, keepdim=True), drop, H_RING - drop, 64))
    total = _log(engine, s.share(engine), rows.low / 2.0**drop, rows.high / 2.0**drop)
    evict(engine, s)
    constant += drop * math.log(2.0)
    total = total + engine.public_share(torch.full_like(total, round(constant * 2.0**LOG_BITS)))
    for log, weight in logs:
        total = total - log * weight
    if bits > LOG_BITS:
        z, bits = engine.truncate(z, bits - LOG_BITS), LOG_BITS
    return (_centred(engine, z, bits, bound) << (LOG_BITS - bits)) - total, LOG_BITS


def _centred(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
    """Return shares of z minus the mean of its row; no message. The mean is off by at most a unit in the last place."""
    total, classes = z.sum(1, keepdim=True), z.shape[1]
    engine.failure += len(z) * classes * 2.0 ** (math.log2(bound) + bits - 64)  # The shares of a row's sum may wrap.
    return z - torch.div(total, classes, rounding_mode="floor")


def _log(engine: Engine, x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return shares of ln x, with 18 fractional bits, for shared integers x between low and high."""
    bits = math.ceil(math.log2(high))
    log = logarithm(engine, x, bits, low / 2.0**bits, high / 2.0**bits)
    return log + engine.public_share(torch.full_like(log, round(bits * math.log(2.0) * 2.0**LOG_BITS)))


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
