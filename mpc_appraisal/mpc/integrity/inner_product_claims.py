"""What is public of claims about inner products of dealt numbers, and the form in which their weights are given.

`inner_product_check` states the claims. Everything here is computed alike by both owners and the dealer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mpc_appraisal.common.errors import IntegrityError
from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.integrity.sumcheck import Factors, Shape, Transcript, rounds_of
from mpc_appraisal.mpc.ring.pieces import Pieces
from mpc_appraisal.mpc.ring.prg import Stream

HIDING = 40

Weights = Callable[[np.ndarray, int], tuple[np.ndarray, Sequence[Factors]]]  # of gamma (J,) and p; see `proving`


@dataclass(frozen=True)
class DealtMatrix:
    """A matrix of rho as the prover has it.

    Attributes:
        values: A, uint64 (n, d), which may be in pieces.
        product: a function of p, which returns A R mod p, integers (n, k) in [0, p), for the R of the weights.
    """

    values: np.ndarray | Pieces
    product: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Claims:
    """What is public of the claims.

    Args:
        label: a word that names this check in the session; errors state it.
        prover: the rank of the owner whose messages are checked.
        length: the number N of dealt numbers that are in no matrix.
        moduli: b_j for each claim, between 1 and 64.
        quotients: q_j for each claim, where |h_j| < 2^(q_j).
        matrices: the shape (n, d) of each matrix, at least (1, 1).
        octets: the number of octets of dealt bits, about which there are claims too (see `bit_sumcheck`); 0 for none.
    """

    label: str
    prover: int
    length: int
    moduli: tuple[int, ...]
    quotients: tuple[int, ...]
    matrices: tuple[Shape, ...] = ()
    octets: int = 0

    @property
    def verifier(self) -> int:
        """The rank of the owner that checks."""
        return 1 - self.prover

    @property
    def widths(self) -> list[int]:
        """The bytes of each masked h_j."""
        return [(q + HIDING + 2 + 7) // 8 for q in self.quotients]

    @property
    def hidden_bytes(self) -> int:
        """The bytes of message 1."""
        return sum(self.widths)

    @property
    def rounds(self) -> int:
        """The rounds of a sumcheck."""
        return rounds_of(self.length, self.matrices)

    def masks(self, stream: Stream) -> list[int]:
        """Return mask_j for each claim, from the stream that prover and dealer have in common."""
        raw = stream.octets((self.hidden_bytes,)).numpy().tobytes()
        return [v % (1 << (q + HIDING + 1)) for v, q in zip(self.integers(raw), self.quotients, strict=True)]

    def integers(self, raw: bytes) -> list[int]:
        """Return the integers of message 1."""
        found, at = [], 0
        for width in self.widths:
            found.append(int.from_bytes(raw[at : at + width], "little"))
            at += width
        return found

    def transcript(self, nonce: bytes, hidden: bytes, dealt: bytes, p: int) -> Transcript:
        """Return the hash of what both owners know before the sumcheck modulo p."""
        return Transcript(self.start(nonce, hidden, dealt, p), p)

    def start(self, nonce: bytes, hidden: bytes, dealt: bytes, p: int = 2) -> bytes:
        """Return what both owners know before a sumcheck in characteristic p."""
        sizes = (self.length, self.matrices, self.octets, self.moduli, self.quotients)
        public = repr((self.label, self.prover, *sizes, p)).encode()
        return nonce + dealt + b"".join(hashlib.sha512(part).digest() for part in (public, hidden))

    def altered(self, rank: int, part: str, found: str) -> IntegrityError:
        """Return the error that names the party of `rank` and its message."""
        return IntegrityError(f"{ROLES[rank]}: {part} of the check {self.label!r} {found}; nothing is opened")


def checked_weights(weights: Weights, gammas: np.ndarray, p: int, claims: Claims) -> tuple[np.ndarray, list[Factors]]:
    """Return the weights mod p, uint32. Raises ValueError: they are not those of the numbers of `claims`."""
    vector, factors = weights(gammas, p)
    _check_shape("weights", vector, (claims.length,))
    if len(factors) != len(claims.matrices):
        raise ValueError(f"weights: got factors of {len(factors)} matrices; expected {len(claims.matrices)}")
    found = []
    for each, (n, d) in zip(factors, claims.matrices, strict=True):
        _check_shape("left factor", each.left, (n, sum(right.shape[1] for right in each.right)))
        fit = [(isinstance(right, Pieces) or right.dtype == np.int64) and len(right) == d for right in each.right]
        if not fit or not all(fit):
            kinds = [(right.dtype, right.shape) for right in each.right]
            raise ValueError(f"right factor: got {kinds!s:.80}; expected int64 matrices of {d} rows")
        found.append(Factors(_numbers_mod("left factor", each.left, p), each.right))
    return _numbers_mod("weights", vector, p), found


def _numbers_mod(name: str, values: np.ndarray, p: int) -> np.ndarray:
    if values.size and (int(values.max()) >= p or int(values.min()) < 0):
        raise ValueError(f"{name}: got a number outside [0, {p}); expected numbers mod p")
    return np.ascontiguousarray(values, dtype=np.uint32)


def check_rho(claims: Claims, rho: np.ndarray, matrices: Sequence[np.ndarray | Pieces]) -> None:
    """Raise ValueError unless the dealt numbers are as many, and of the shapes, that `claims` says."""
    _check_shape("rho", rho, (claims.length,))
    kinds = [(tuple(values.shape), values.dtype) for values in matrices]
    if kinds != [(shape, np.uint64) for shape in claims.matrices]:
        raise ValueError(f"matrices: got {kinds!s:.80}; expected uint64 of the shapes {claims.matrices!s:.80}")


def _check_shape(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise ValueError(f"{name}: got shape {values.shape}; expected {shape}")
