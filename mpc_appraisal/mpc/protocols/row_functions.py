"""Softmax, its logarithm, the logistic function and tanh of shared numbers of any size, for numbers of 16 bits.

    softmax(z) as in `unbounded_softmax`, and e^(z - m) / (their sum) with more than 256 classes,  m the maximum
    ln softmax(z) = v - ln(sum of e^v),    v = z - m
    1 / (1 + e^-x) = softmax(x / 2, -x / 2)_1,        tanh(x) = 2 softmax(x, -x)_1 - 1

In go shares with 16 fractional bits, of rows (n, C) or of any shape, |z| below 2^29; out come shares of the function of
the same shape and with as many bits. Up to 10 classes m is rounded, and the logarithm of the sum of exponentials is one
sum of harmonics (see `unbounded_softmax`); with more, m, e^v and the logarithm are those of `maximum` and
`real_functions`. All entries of ln softmax(z) are right, however small the probability is.

| function | classes | \\|error\\| at most | rounds |
|---|---|---|---|
| `softmax_of_rows` | 2 to 256 | 2e-4 to 10 classes, else 1e-3; standard deviation 2e-5 | as `unbounded_softmax` |
| `softmax_of_rows` | more | (2 + 1.5 C p) u for a probability p | 16 more than the maximum's |
| `log_softmax_of_rows` | 2 to 10 | 1e-4 | one fewer than `unbounded_softmax` |
| `log_softmax_of_rows` | more | (2 + 1.5 C) u | 12 more than the maximum's |
| `logistic`, `hyperbolic_tangent` | | 1e-4, 2e-4 | 8, or 9 for 1,024 numbers or more |

u is the unit 2^-16. What leaves each owner are values and bits under masks of the dealer, and nothing is revealed.
"""

from __future__ import annotations

import math

import torch

from mpc_appraisal.mpc.protocols import harmonics
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.log_softmax import L_BITS, LOG_BITS, MAX_LOG_CLASSES
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all
from mpc_appraisal.mpc.protocols.maximum import maximum
from mpc_appraisal.mpc.protocols.real_functions import exponential_of, logarithm
from mpc_appraisal.mpc.protocols.secret_division import quotient
from mpc_appraisal.mpc.protocols.softmax_plan import LN2, MAX_CLASSES, S_BITS, Z_BITS
from mpc_appraisal.mpc.protocols.unbounded_softmax import (
    LARGEST_SPREAD,
    exponentials_of,
    log_fit,
    unbounded_softmax,
)
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS as BITS


def softmax_of_rows(engine: Engine, z: torch.Tensor) -> torch.Tensor:
    """Return shares of the probabilities of rows z (n, C), C above 1."""
    if z.shape[1] <= MAX_CLASSES:
        return unbounded_softmax(engine, z, BITS, LARGEST_SPREAD)
    powers = exponential_of(engine, _below_maximum(engine, z))
    return quotient(engine, powers, powers.sum(1, keepdim=True), signed=False)


def log_softmax_of_rows(engine: Engine, z: torch.Tensor) -> torch.Tensor:
    """Return shares of the logarithms of the probabilities of rows z (n, C), C above 1."""
    if z.shape[1] <= MAX_LOG_CLASSES:
        return _of_few_classes(engine, z)
    v = _below_maximum(engine, z)
    return v - logarithm(engine, exponential_of(engine, v).sum(1, keepdim=True))


def _below_maximum(engine: Engine, z: torch.Tensor) -> torch.Tensor:
    return z - maximum(engine, engine.blinded(z))


def _of_few_classes(engine: Engine, z: torch.Tensor) -> torch.Tensor:
    found = exponentials_of(engine, z, BITS, LARGEST_SPREAD, (64, Z_BITS))
    w, top = found.window, found.top
    v = z - z[:, -1:] - (top.share(engine) << (BITS - w.point)).t()
    (s,) = open_all(engine, MaskedOpening(found.x.sum(1, keepdim=True), w.down, S_BITS, S_BITS, 2))
    fit = log_fit(w)
    share = harmonics.evaluate(engine, s, fit, harmonics.waves(engine, s, fit.harmonics))
    known, point = (S_BITS - 1 + w.down) * LN2 - math.log(w.one), harmonics.POINT - fit.shift
    share = share + engine.public_share(torch.full_like(share, round(known * 2.0**point)))
    width = L_BITS - LOG_BITS + BITS
    (log,) = open_all(engine, MaskedOpening(share, point - BITS, width, 64, 1 << (width - 2)))
    evict(engine, top, found.fine, s, log)
    return v - log.share(engine)


def logistic(engine: Engine, x: torch.Tensor) -> torch.Tensor:
    """Return shares of 1 / (1 + e^-x)."""
    return _of_pair(engine, x, BITS + 1)


def hyperbolic_tangent(engine: Engine, x: torch.Tensor) -> torch.Tensor:
    """Return shares of tanh(x)."""
    p = _of_pair(engine, x, BITS)
    return (p << 1) - engine.public_share(torch.full_like(p, 1 << BITS))


def _of_pair(engine: Engine, x: torch.Tensor, bits: int) -> torch.Tensor:
    """Return shares of the first probability of (x, -x), for x with `bits` fractional bits."""
    pair = torch.stack([x.flatten(), -x.flatten()], dim=1)
    return unbounded_softmax(engine, pair, bits, LARGEST_SPREAD)[:, 0].reshape(x.shape)
