"""The attack on shares in floating point of the same x, made anew T times: their mean is x plus ever less noise.

    share      <x> = x - r,  r normal of deviation s, fresh each time
    estimate   mean over T sharings = x + noise of deviation s / sqrt(T)
    corr       1 / sqrt(1 + s^2 / (T v)),    v the variance of x over its entries
    error      r + (x - r) - x in float32, up to about s 2^-24: the price of a large s

In go x and s; out come the means, and their correlation with x. Training shares or masks its data again at every step
(x - u of a multiplication triple is such a share), so T is the number of steps, and the party that receives the shares
attacks. No s is safe: T = s^2 / v corr^2 / (1 - corr^2) sharings reach any correlation, and precision bounds s.

The attack stops in the ring: x - r mod 2^64 with r uniform is uniform whatever x is, and so are any T of them together.
The numbers of sharings that are tried may change; the shares have to stay those of `transformations.float_shares`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, encode
from mpc_appraisal.mpc.ring.prg import Stream


def float_means(x: Tensor, deviation: float, times: Sequence[int], seed: int) -> dict[int, Tensor]:
    """Return the mean of the first T shares x - r, for each T of `times`.

    Args:
        x: the secret, of any shape, shared in float32.
        deviation: s.
        times: the numbers T, rising from 1 or more.
        seed: the seed of r.

    Raises InputError for a deviation that is not above 0 or times that do not rise from 1 or more.
    """
    if not deviation > 0:
        raise InputError("deviation", deviation, "a number above 0")
    draw = torch.Generator().manual_seed(seed)
    x = x.to(torch.float32)
    return _means(x, times, lambda: x - deviation * torch.randn(x.shape, generator=draw))


def ring_means(x: Tensor, times: Sequence[int], key: bytes) -> dict[int, Tensor]:
    """Return the mean of the first T shares in the ring of 2^64, for each T, read as signed numbers.

    Args:
        x: the secret, of any shape.
        times: the numbers T, rising from 1 or more.
        key: the key of the stream that gives r.

    Raises InputError as `float_means` does for times.
    """
    ring, stream = encode(x.to(torch.float64), "x"), Stream(key, "shares")
    return _means(x, times, lambda: (ring - stream.ring(x.shape)).to(torch.float64) / 2**PRECISION_BITS)


def _means(x: Tensor, times: Sequence[int], share) -> dict[int, Tensor]:
    if not times or list(times) != sorted(set(times)) or times[0] < 1:
        raise InputError("times", list(times), "numbers of sharings that rise, the first 1 or more")
    total, found = torch.zeros(x.shape, dtype=torch.float64), {}
    for turn in range(1, times[-1] + 1):
        total += share()
        if turn in times:
            found[turn] = total / turn
    return found


def correlation(estimate: Tensor, x: Tensor) -> float:
    """Return Pearson's correlation of both over all entries."""
    pair = torch.stack([estimate.reshape(-1).to(torch.float64), x.reshape(-1).to(torch.float64)])
    return float(torch.corrcoef(pair)[0, 1])


def expected(deviation: float, variance: float, times: int) -> float:
    """Return the correlation that the formula gives for T = times."""
    return 1 / math.sqrt(1 + deviation**2 / (times * variance))


def sharings(deviation: float, variance: float, reached: float) -> int:
    """Return the number of sharings that reach the correlation `reached`: the formula's T, rounded up.

    Raises InputError unless 0 < reached < 1.
    """
    if not 0 < reached < 1:
        raise InputError("reached", reached, "a correlation between 0 and 1")
    return math.ceil(deviation**2 / variance * reached**2 / (1 - reached**2))


def rounding(x: Tensor, deviation: float, seed: int) -> float:
    """Return the root mean square of r + (x - r) - x in float32: what a large deviation costs in precision."""
    r = deviation * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    x = x.to(torch.float32)
    return float(((r + (x - r)).double() - x.double()).square().mean().sqrt())
