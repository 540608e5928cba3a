"""Rounded Gaussian noise: round(sigma z), z by Box and Muller over an AES-CTR keystream keyed by the operating system.

    z = sqrt(-2 log(1 - u)) cos(2 pi v),     u, v uniform of 53 bits

Rounding is no loss: LWE with real Gaussian noise becomes LWE with rounded noise by rounding its samples. What is lost:
- u < 1 - 2^-53 cuts |z| at 8.58; the cut mass is below 2^-53 a number.
- float64 moves the edges of the bins by at most 2^-52 |sigma z| < 2^-28 of a bin for sigma < 2^20 (2^-24 for 2^24): a
  probability is off by that share, so the Kullback-Leibler distance of a number from the rounded Gaussian is below
  2^-55, and of the 2^26 numbers of 60,000 images below 2^-29: total variation below 2^-15 by Pinsker, and far less than
  one bit of security in any search problem (its Renyi divergence is 1 + 2^-28).
"""

from __future__ import annotations

import numpy as np

from mpc_appraisal.mpc.ring.prg import Stream, new_key

_MANTISSA = 53


def gaussian(shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Fresh int64 numbers of `shape`: rounded Gaussians of standard deviation `sigma`, cut at 8.58 of them."""
    count = int(np.prod(shape))
    pairs = (count + 1) // 2
    bits = Stream(new_key(), "gaussian").ring((2, pairs)).numpy().view(np.uint64)
    u, v = (bits >> np.uint64(64 - _MANTISSA)).astype(np.float64) * 2.0**-_MANTISSA
    radius = sigma * np.sqrt(-2.0 * np.log1p(-u))
    angle = 2.0 * np.pi * v
    numbers = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return np.rint(numbers).astype(np.int64).reshape(shape)
