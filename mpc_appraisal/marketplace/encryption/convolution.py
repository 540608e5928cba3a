"""Convolutions of integers as inner products, by patches (im2col) or by Toeplitz rows.

    z[o, p, q] = sum_{c, i, j} kernel[o, c, i, j] x[c, s p + i - padding, s q + j - padding]

x is an image with channels c, o an output channel, (p, q) a position of the output, (i, j) a place in the kernel, and s
the stride. In go images or kernels; out come the vectors that an IFE scheme takes. With patches there is one ciphertext
for each output position and one function key for each output channel. This takes more bytes of ciphertexts. With
Toeplitz rows there is one ciphertext for an image and one function key for each channel and position. This uses up the
authority's cap on rows.

How the indices are computed may change. Images and outputs have to stay flattened in row-major order, as in torch:
(channels, height, width); and `outputs` has to give the order of `toeplitz`.
"""

from __future__ import annotations

import numpy as np

from mpc_appraisal.common.errors import InputError


def patches(x: np.ndarray, image: tuple[int, int, int], kernel: int, stride: int = 1, padding: int = 0) -> np.ndarray:
    """Return the patches (n * positions, channels * kernel^2) of images x (n, d).

    Args:
        x: the images (n, d), integers.
        image: (channels, height, width) of an image, with product d.
        kernel: the side of the kernel, in pixels.
        stride, padding: those of the convolution, in pixels.

    The positions of an image are consecutive. Raises InputError where the images have another shape, or the kernel does
    not fit them.
    """
    where, inside = _taps(image, kernel, stride, padding)
    if x.ndim != 2 or x.shape[1] != int(np.prod(image)):
        raise InputError("images", f"shape {x.shape}", f"(n, {int(np.prod(image))})")
    return (x[:, where] * inside).reshape(-1, where.shape[1])


def outputs(z: np.ndarray, images: int) -> np.ndarray:
    """Bring inner products of patches into the order of `toeplitz`.

    Args:
        z: the inner products (images * positions, out).
        images: the number of images.

    Returns (images, out * positions).
    """
    return z.reshape(images, -1, z.shape[1]).swapaxes(1, 2).reshape(images, -1)


def toeplitz(kernels: np.ndarray, image: tuple[int, int, int], stride: int = 1, padding: int = 0) -> np.ndarray:
    """Return the rows (out * positions, d) int64 with which the convolution is x @ rows.T.

    Args:
        kernels: (out, channels, kernel, kernel), integers.
        image: (channels, height, width) of an image, with product d.
        stride, padding: those of the convolution, in pixels.

    Raises InputError where the kernels have another shape, or do not fit the image.
    """
    if kernels.ndim != 4 or kernels.shape[1] != image[0] or kernels.shape[2] != kernels.shape[3]:
        raise InputError("kernels", f"shape {kernels.shape}", f"(out, {image[0]}, kernel, kernel)")
    where, inside = _taps(image, kernels.shape[2], stride, padding)
    rows = np.zeros((len(kernels), len(where), int(np.prod(image))), dtype=np.int64)
    position, tap = np.nonzero(inside)
    rows[:, position, where[position, tap]] = kernels.reshape(len(kernels), -1)[:, tap]
    return rows.reshape(-1, rows.shape[2])


def _taps(image: tuple[int, int, int], kernel: int, stride: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each position and each entry of the kernel, the index of the pixel, and whether it lies in the image.

    The index of a pixel outside of the image is 0.
    """
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
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    where = np.where(inside, (planes * height + rows) * width + columns, 0)
    positions = len(tops) * len(lefts)
    return where.reshape(positions, -1), inside.reshape(positions, -1)
