"""TenSEAL's CKKS on one image, with one thread, as the studies of marketplace and transformations measure it.

    dense          `mm` multiplies the diagonals of W' by rotations of x, one for each pixel
    convolution    the seller arranges patches (im2col), so that a filter is one product and log2(taps) rotations
    network        is the "Encrypted Convolution on MNIST" of its tutorials: convolution, square, dense, square, dense

Every parameter set is within SEAL's bound for 128 bits (218 bits of modulus for degree 8192), which TenSEAL enforces.
The extra `bench-he` installs TenSEAL; without it `Tenseal` raises ImportError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    import tenseal
except ImportError:  # told where it is asked for
    tenseal = None

SCALE_BITS = 26


@dataclass(frozen=True)
class Parameters:
    """`degree` is that of the polynomials, twice the slots; the modulus has room for so many products in a row."""

    degree: int
    products: int

    @property
    def bits(self) -> list[int]:
        """Return the bits of the modulus' primes."""
        return [31, *[SCALE_BITS] * self.products, 31]

    def __str__(self) -> str:
        return f"degree {self.degree}, {sum(self.bits)}-bit modulus"


NETWORK = Parameters(8192, 6)  # of the tutorial
LAYER = Parameters(8192, 1)  # one product alone: kind to TenSEAL, whose first layer in a network has the modulus above


class Tenseal:
    """Context and keys. ImportError tells that TenSEAL is not installed."""

    def __init__(self, parameters: Parameters):
        if tenseal is None:
            raise ImportError("no tenseal: pip install mpc_appraisal[bench-he]")
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, parameters.degree, coeff_mod_bit_sizes=parameters.bits, n_threads=1
        )
        self._context.global_scale = 2**SCALE_BITS
        self._context.generate_galois_keys()
        self._slots = parameters.degree // 2

    def encrypt(self, x: np.ndarray) -> Any:
        """Encrypt x (d,), real numbers."""
        return tenseal.ckks_vector(self._context, x.tolist())

    def encrypt_patches(self, patches: np.ndarray) -> list[Patches]:
        """Encrypt patches (positions, taps), as many positions in a ciphertext, a power of 2, as its slots hold."""
        taps, found, start = 1 << (patches.shape[1] - 1).bit_length(), [], 0
        while start < len(patches):
            rows = min(self._slots // taps, 1 << ((len(patches) - start).bit_length() - 1))
            part = patches[start : start + rows].tolist()
            found.append(Patches(tenseal.enc_matmul_encoding(self._context, part), rows))
            start += rows
        return found


@dataclass(frozen=True)
class Patches:
    """Encrypted patches (rows, taps)."""

    vector: Any
    rows: int


def installed() -> bool:
    return tenseal is not None


def dense(x: Any, w: np.ndarray, bias: np.ndarray | None = None) -> Any:
    """Return W x (k,), encrypted, for x encrypted (d,) and w (k, d)."""
    z = x.mm(w.T.tolist())
    return z if bias is None else z + bias.tolist()


def convolution(pieces: Sequence[Patches], kernels: np.ndarray, bias: np.ndarray | None = None) -> list[list[Any]]:
    """Return for each filter of kernels (out, height, width) a ciphertext a piece."""
    offsets = np.zeros(len(kernels)) if bias is None else bias
    return [
        [piece.vector.conv2d_im2col(kernel.tolist(), piece.rows) + float(offset) for piece in pieces]
        for kernel, offset in zip(kernels, offsets, strict=True)
    ]


def network(pieces: Sequence[Patches], weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> Any:
    """Return logits (C,), encrypted: of the convolution, then of dense layers with a square before each.

    All patches must be in one piece.
    """
    (first, *others), (bias, *offsets) = weights, biases
    a = tenseal.CKKSVector.pack_vectors([z for (z,) in convolution(pieces, first[:, 0], bias)])
    for w, offset in zip(others, offsets, strict=True):
        a = dense(a.square_(), w, offset)
    return a


def decrypted(vectors: Sequence[Any]) -> np.ndarray:
    """Return the values of one vector after the other."""
    return np.concatenate([vector.decrypt() for vector in vectors])


def bytes_of(vectors: Sequence[Any]) -> int:
    """Return the length of the serialised vectors."""
    return sum(len(vector.serialize()) for vector in vectors)
