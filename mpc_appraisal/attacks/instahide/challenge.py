"""A challenge, after that of InstaHide's authors (n = 100 images, T = 50 epochs, k = 6), and how answers are scored.

    given        encodings of all epochs in random order, their labels, images of each class, k; public images beside it
    commitment   SHA-256("instahide challenge 1\\n" || salt || n || d || the private images), published with it
    score        correlation of |recovered| with |private| pixels, images matched one to one (Hungarian method);
                 an image is identified where its match is nearer to it than to any other image, private or decoy

n private images of d pixels are each encoded in T epochs, as mixtures of k images. In go the images of the maker, then
an attacker's answer; out come the challenge with the maker's secret, then a score. Decoys are images of the same kind:
among n private images alone, half of any n images would be nearest to their match. Pixels are compared without their
sign, which an encoding does not disclose. The commitment binds the maker to the answer before anybody tries, and the
salt prevents guesses at images from being tested against it. The bytes of the commitment have to stay, or published
challenges could not be scored; a further score may be added.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide import Encoding, InstaHide

DOMAIN = b"instahide challenge 1\n"
SALT_BYTES = 32


@dataclass(frozen=True, eq=False)
class Challenge:
    """What is published.

    Attributes:
        encoding: z (n T, d) and labels (n T, C).
        counts: The number of private images of each class.
        hide: The parameters of the encoding.
        epochs: T, the number of epochs.
        commitment: The hash that binds the maker to its answer, as hexadecimal digits.
    """

    encoding: Encoding
    counts: tuple[int, ...]
    hide: InstaHide
    epochs: int
    commitment: str


@dataclass(frozen=True, eq=False)
class ChallengeSecret:
    """What the maker of a challenge keeps until the end.

    Attributes:
        images: The private images (n, d).
        salt: 32 random bytes.
    """

    images: Tensor
    salt: bytes

    def __repr__(self) -> str:
        return f"Answer({len(self.images)} images)"


@dataclass(frozen=True)
class ChallengeScore:
    """How good an answer is.

    Attributes:
        correlation: The correlation of absolute pixels, averaged over private images; an image without a match counts
            as 0.
        identified: The share of private images that are identified.
    """

    correlation: float
    identified: float


def make(hide: InstaHide, x: Tensor, y: Tensor, public: Tensor, epochs: int) -> tuple[Challenge, ChallengeSecret]:
    """Make a new challenge.

    Args:
        hide: the parameters of the encoding.
        x: the private images (n, d), of mean 0.
        y: their labels (n, C), one-hot.
        public: the public images (m, d).
        epochs: T.

    Returns what is published, and what the maker keeps. Raises InputError as `InstaHide.encrypt` does, and for no
    epochs.
    """
    if epochs < 1:
        raise InputError("epochs", epochs, "1 or more")
    parts = [hide.encrypt(x, y, public) for _ in range(epochs)]
    z, labels = torch.cat([part.z for part in parts]), torch.cat([part.labels for part in parts])
    order = torch.from_numpy(np.array(secrets.SystemRandom().sample(range(len(z)), len(z))))
    salt = secrets.token_bytes(SALT_BYTES)
    counts = tuple(int(count) for count in y.sum(dim=0))
    challenge = Challenge(Encoding(z[order], labels[order]), counts, hide, epochs, _digest(x, salt))
    return challenge, ChallengeSecret(x, salt)


def score(
    challenge: Challenge, answer: ChallengeSecret, recovered: Tensor, decoys: Tensor | None = None
) -> ChallengeScore:
    """Score recovered images (m, d), in any order, of which there may be fewer or more than n.

    Args:
        challenge: what was published.
        answer: what its maker kept.
        recovered: the attacker's images (m, d).
        decoys: images (any number, d) of the same kind; None for no decoys.

    Raises InputError for another answer than the one that was committed to, and for images of another shape or with
    numbers that are not finite.
    """
    if not hmac.compare_digest(_digest(answer.images, answer.salt), challenge.commitment):
        raise InputError("answer", "another digest", f"the answer that {challenge.commitment[:16]}... commits to")
    return compare(recovered, answer.images, decoys)


def compare(recovered: Tensor, private: Tensor, decoys: Tensor | None = None) -> ChallengeScore:
    """Score recovered images (m, d) against private ones (n, d), as `score` does but without a commitment."""
    if recovered.dim() != 2 or recovered.shape[1] != private.shape[1] or not torch.isfinite(recovered).all():
        raise InputError("recovered", tuple(recovered.shape), f"finite, shape (rows, {private.shape[1]})")
    table, rows, columns = _matched(recovered, private)
    nearest = table[rows].amax(dim=1)
    if decoys is not None and len(decoys):
        nearest = torch.maximum(nearest, (_standard(recovered)[rows] @ _standard(decoys).T).amax(dim=1))
    identified = int((table[rows, columns] >= nearest).sum())
    return ChallengeScore(float(table[rows, columns].sum()) / len(private), identified / len(private))


def beside(recovered: Tensor, private: Tensor) -> tuple[Tensor, Tensor]:
    """Return the private images (k, d) and, in the same order, what `compare` takes for each, (k, d)."""
    _, rows, columns = _matched(recovered, private)
    order = columns.argsort()
    return private[columns[order]], recovered[rows[order]]


def _matched(recovered: Tensor, private: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the correlations (m, n), and the pairs of recovered and private images whose sum of them is largest."""
    table = _standard(recovered) @ _standard(private).T
    rows, columns = linear_sum_assignment(-table.numpy())
    return table, torch.from_numpy(rows), torch.from_numpy(columns)


def _standard(x: Tensor) -> Tensor:
    off = x.abs().to(torch.float64)
    return torch.nn.functional.normalize(off - off.mean(dim=1, keepdim=True))


def _digest(images: Tensor, salt: bytes) -> str:
    data = np.ascontiguousarray(images.numpy().astype("<f8")).tobytes()
    return hashlib.sha256(DOMAIN + salt + struct.pack("<2Q", *images.shape) + data).hexdigest()
