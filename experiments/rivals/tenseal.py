"""TenSEAL's CKKS on one image, with one thread: what `marketplace_cost.py` measures beside the package.

    dense          x W'                 `mm`: the diagonals of W' times rotations of x, one for each pixel
    convolution    patches (im2col)     arranged by the seller, so that a filter is one product and log2(taps) rotations
    network        convolution, square, dense, square, dense: the "Encrypted Convolution on MNIST" of its tutorials

Every parameter set is within SEAL's bound for 128 bits (218 bits of modulus for degree 8192), which TenSEAL enforces.
The extra `bench-he`; where it is not installed, `Tenseal` raises ImportError.
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
    """degree: of the polynomials, twice the slots. products: one after the other that the modulus has room for."""

    degree: int
    products: int

    @property
    def bits(self) -> list[int]:
        """Of the modulus' primes."""
        return [31, *[SCALE_BITS] * self.products, 31]

    def __str__(self) -> str:
        return f"degree {self.degree}, {sum(self.bits)}-bit modulus"


NETWORK = Parameters(8192, 6)  # of the tutorial
LAYER = Parameters(8192, 1)  # one product alone: kind to TenSEAL, whose first layer in a network has the modulus above


class Tenseal:
    """Context and keys. Raises ImportError where TenSEAL is not installed."""

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
        """x (d,) real."""
        return tenseal.ckks_vector(self._context, x.tolist())

    def encrypt_patches(self, patches: np.ndarray) -> list[Patches]:
        """patches (positions, taps): a ciphertext for as many positions, a power of 2, as its slots hold."""
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
    """x encrypted (d,), w (k, d) -> W x (k,), encrypted."""
    z = x.mm(w.T.tolist())
    return z if bias is None else z + bias.tolist()


def convolution(pieces: Sequence[Patches], kernels: np.ndarray, bias: np.ndarray | None = None) -> list[list[Any]]:
    """kernels (out, height, width) -> for each filter a ciphertext a piece."""
    offsets = np.zeros(len(kernels)) if bias is None else bias
    return [
        [piece.vector.conv2d_im2col(kernel.tolist(), piece.rows) + float(offset) for piece in pieces]
        for kernel, offset in zip(kernels, offsets, strict=True)
    ]


def network(pieces: Sequence[Patches], weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> Any:
    """Logits (C,), encrypted: convolution, then dense layers, a square before each. All patches in one piece."""
    (first, *others), (bias, *offsets) = weights, biases
    a = tenseal.CKKSVector.pack_vectors([z for (z,) in convolution(pieces, first[:, 0], bias)])
    for w, offset in zip(others, offsets, strict=True):
        a = dense(a.square_(), w, offset)
    return a


def decrypted(vectors: Sequence[Any]) -> np.ndarray:
    """One vector after the other."""
    return np.concatenate([vector.decrypt() for vector in vectors])


def bytes_of(vectors: Sequence[Any]) -> int:
    """Serialised."""
    return sum(len(vector.serialize()) for vector in vectors)
