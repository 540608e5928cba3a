"""Convolution as inner products, in integers: by patches (im2col) or by Toeplitz rows.

    z[o, p, q] = sum_{c, i, j} kernel[o, c, i, j] x[c, s p + i - padding, s q + j - padding]

Patches: one ciphertext for each output position, one function key for each output channel. Toeplitz: one ciphertext
for an image, one key for each channel and position. Patches cost ciphertext bytes, Toeplitz rows the cap on rows.
Layout is row-major as torch's: an image is (channels, height, width), an output (channels, height, width).
"""

from __future__ import annotations

import numpy as np

from mpc_appraisal.common.errors import InputError


def patches(x: np.ndarray, image: tuple[int, int, int], kernel: int, stride: int = 1, padding: int = 0) -> np.ndarray:
    """(n, d) images -> (n * positions, channels * kernel^2), an image's positions together, row by row."""
    where, kept = _taps(image, kernel, stride, padding)
    if x.ndim != 2 or x.shape[1] != int(np.prod(image)):
        raise InputError("images", f"shape {x.shape}", f"(n, {int(np.prod(image))})")
    return (x[:, where] * kept).reshape(-1, where.shape[1])


def outputs(z: np.ndarray, images: int) -> np.ndarray:
    """(images * positions, out) inner products of patches -> (images, out * positions), the order of `toeplitz`."""
    return z.reshape(images, -1, z.shape[1]).swapaxes(1, 2).reshape(images, -1)


def toeplitz(kernels: np.ndarray, image: tuple[int, int, int], stride: int = 1, padding: int = 0) -> np.ndarray:
    """(out, channels, kernel, kernel) int -> (out * positions, d) int64, so that convolution is x @ rows.T."""
    if kernels.ndim != 4 or kernels.shape[1] != image[0] or kernels.shape[2] != kernels.shape[3]:
        raise InputError("kernels", f"shape {kernels.shape}", f"(out, {image[0]}, kernel, kernel)")
    where, kept = _taps(image, kernels.shape[2], stride, padding)
    rows = np.zeros((len(kernels), len(where), int(np.prod(image))), dtype=np.int64)
    position, tap = np.nonzero(kept)
    rows[:, position, where[position, tap]] = kernels.reshape(len(kernels), -1)[:, tap]
    return rows.reshape(-1, rows.shape[2])


def _taps(image: tuple[int, int, int], kernel: int, stride: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """For every position and tap the pixel's index, and whether it lies in the image (else index 0)."""
    channels, height, width = image
    if not 0 < kernel <= min(height, width) + 2 * padding or stride < 1 or padding < 0:
        raise InputError("convolution", f"kernel {kernel}, stride {stride}, padding {padding}", f"a fit to {image}")
    tops = np.arange(0, height + 2 * padding - kernel + 1, stride) - padding
    lefts = np.arange(0, width + 2 * padding - kernel + 1, stride) - padding
    taps = np.arange(kernel)
    shape = (len(tops), len(lefts), channels, kernel, kernel)
    rows = np.broadcast_to((tops[:, None] + taps)[:, None, None, :, None], shape)
    columns = np.broadcast_to((lefts[:, None] + taps)[None, :, None, None, :], shape)
    planes = np.broadcast_to(np.arange(channels)[:, None, None], shape)
    kept = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    where = np.where(kept, (planes * height + rows) * width + columns, 0)
    positions = len(tops) * len(lefts)
    return where.reshape(positions, -1), kept.reshape(positions, -1)
