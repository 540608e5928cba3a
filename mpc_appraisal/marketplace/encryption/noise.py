"""Rounded Gaussian noise for the ciphertexts of `lwe`.

    round(sigma z),  z = sqrt(-2 log(1 - u)) cos(2 pi v),  u and v uniform with 53 bits         (Box and Muller)

In go a shape and the standard deviation sigma; out come integers. The uniform numbers come from an AES-CTR stream with
a fresh key of the operating system. Another sampler may take the place of this one if its distance from rounded
Gaussians is derived as below; the numbers must never be drawn from a key that is used twice.

Rounding costs no security, because LWE with real Gaussian noise becomes LWE with rounded noise if its samples are
rounded. The noise differs from rounded Gaussians in two ways:

- `|z|` is at most 8.58, since u < 1 - 2^-53. The mass beyond is below 2^-53 for each number.
- float64 moves the edges of the bins by at most 2^-52 `|sigma z|`. This is below 2^-28 of a bin for sigma < 2^20, and
  below 2^-24 for sigma < 2^24. A probability is off by that share, so that the Kullback-Leibler distance from a rounded
  Gaussian is below 2^-55 for one number, and below 2^-29 for the 2^26 numbers of 60,000 images. By Pinsker the total
  variation is below 2^-15. The Renyi divergence is 1 + 2^-28, which costs far less than one bit in any search problem.
"""

from __future__ import annotations

import numpy as np

from mpc_appraisal.mpc.ring.prg import Stream, new_key

_MANTISSA = 53


def gaussian(shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Draw fresh rounded Gaussians (int64) of `shape`, of standard deviation `sigma` and at most 8.58 sigma in size."""
    count = int(np.prod(shape))
    pairs = (count + 1) // 2
    bits = Stream(new_key(), "gaussian").ring((2, pairs)).numpy().view(np.uint64)
    u, v = (bits >> np.uint64(64 - _MANTISSA)).astype(np.float64) * 2.0**-_MANTISSA
    radius = sigma * np.sqrt(-2.0 * np.log1p(-u))
    angle = 2.0 * np.pi * v
    numbers = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return np.rint(numbers).astype(np.int64).reshape(shape)
