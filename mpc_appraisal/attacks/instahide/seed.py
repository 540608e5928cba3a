"""The attack by a search of seeds: InstaHide from a generator that is not cryptographic, as in the first challenge.

    given     encodings in the order drawn, their labels, the public images, and that numpy's RandomState(seed) drew all
    search    every 32-bit seed: the two coefficients of the labels of one encoding, from the first words of MT19937
    then      the whole key from the seed, and  s * z - sum public = sum_private l_i x_i:  x by least squares, exact

z is an encoding, s its signs, x_i are its images and l_i their coefficients. MT19937 (Matsumoto and Nishimura 1998) of
a 32-bit seed has words of state w and gives tempered words v:

    w_0 = seed,  w_i = 1812433253 (w_{i-1} ^ w_{i-1} >> 30) + i;    v_i = w_{i+397} ^ twist(w_i, w_{i+1});  tempered v_i

so that the first outputs take about 400 words of 624, for all seeds of a block at once. In go encodings with labels,
then a seed; out come the seed, then the images. Carlini et al. (2021) broke the challenge of InstaHide's authors in
this way in 120 CPU hours. `insecure_key` stands here and not in the protocol, where a weak generator is no choice. The
attack stops at AES under a key of 256 random bits, which leaves nothing to search. BLOCK may change; the order in which
`insecure_key` draws has to stay, because `search` computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide import Encoding, InstaHide, Key

SEEDS = 2**32
BLOCK = 1 << 14  # seeds tried at once; an array of so many stays in the processor's cache
TOLERANCE = 1e-5  # the error of a coefficient in a label of float32
_WIDE, _SHIFT = np.uint32(1812433253), 397


@dataclass(frozen=True)
class RecoveredSeed:
    """The result of a search.

    Attributes:
        seed: The seed, or None where no seed fits.
        tried: The number of seeds that were tried.
    """

    seed: int | None
    tried: int


def insecure_key(hide: InstaHide, shape: Sequence[int], public: int, seed: int) -> Key:
    """Make a key of cross-dataset mixing by numpy's RandomState(seed), for the test of this attack alone.

    Args:
        hide: the parameters of the encoding.
        shape: the numbers of rows and of pixels.
        public: the number of public images.
        seed: the seed, of 32 bits.

    The generator gives the coefficients of all rows, again for those that are not allowed, then partners, public images
    (which may repeat) and signs.
    """
    rows, width = shape
    generator = np.random.RandomState(seed)
    coefficients = _normalised(generator.random_sample((rows, hide.k)))
    while len(left := np.flatnonzero(~_allowed(hide, coefficients))):
        coefficients[left] = _normalised(generator.random_sample((len(left), hide.k)))
    partners = (np.arange(rows) + generator.randint(1, rows, size=rows)) % rows
    others = generator.randint(public, size=(rows, hide.k - 2))
    signs = generator.randint(2, size=(rows, width)) * 2 - 1
    return Key(torch.from_numpy(coefficients), torch.from_numpy(np.stack([np.arange(rows), partners], axis=1)),
               torch.from_numpy(others), torch.from_numpy(signs).to(torch.int8))  # fmt: skip


def search(hide: InstaHide, encoding: Encoding, public: int, seeds: range, rows: int = 6) -> RecoveredSeed:
    """Search `seeds` for the seed that gives all labels.

    Args:
        hide: the parameters of the encoding.
        encoding: the encodings with their labels.
        public: the number of public images.
        seeds: the seeds to try.
        rows: how many of the encodings whose label names two classes are tried.

    A row whose coefficients were drawn twice is lost, which happens to a third or fewer, and then the next row finds
    the seed. Raises InputError for seeds that are not of 32 bits or a step other than 1, and where no label early
    enough names two classes.
    """
    if seeds.step != 1 or not 0 <= seeds.start <= seeds.stop <= SEEDS:
        raise InputError("seeds", seeds, "a range within 0 .. 2^32")
    labels = encoding.labels.to(torch.float64).numpy()
    visible = np.flatnonzero((labels > 0).sum(axis=1) == 2)
    limit = (624 - _SHIFT - 1) // (2 * hide.k)  # words of the first block that need no word of the second
    visible = visible[visible < limit][:rows]
    if not len(visible):
        raise InputError("labels", "no row early enough with two classes", "one or more")
    tried = 0
    for row in visible:
        wanted = np.sort(labels[row][labels[row] > 0])
        for start in range(seeds.start, seeds.stop, BLOCK):
            block = np.arange(start, min(start + BLOCK, seeds.stop), dtype=np.uint32)
            tried += len(block)
            drawn = _normalised(_uniform(block, 2 * hide.k * int(row), hide.k).T)
            close = np.abs(np.sort(drawn[:, :2], axis=1) - wanted).max(axis=1) < TOLERANCE
            for seed in block[close]:
                if _explains(hide, encoding, public, int(seed)):
                    return RecoveredSeed(int(seed), tried)
    return RecoveredSeed(None, tried)


def reconstruct(key: Key, encoding: Encoding, public: Tensor) -> Tensor:
    """Return private images (n, d) float64 from the encodings that `key` made, by least squares.

    Args:
        key: the key, for example that of `insecure_key`.
        encoding: the encodings.
        public: the public images (m, d).

    One epoch gives as many equations as images. Raises InputError where they do not determine the images.
    """
    rows, count = len(encoding.z), int(key.private.max()) + 1
    weights = key.coefficients.to(torch.float64)
    mixture = encoding.z.to(torch.float64) * key.signs
    for place in range(key.public.shape[1]):
        mixture -= weights[:, 2 + place, None] * public[key.public[:, place]].to(torch.float64)
    system = torch.zeros(rows, count, dtype=torch.float64).scatter_add_(1, key.private, weights[:, :2])
    if torch.linalg.matrix_rank(system) < count:
        raise InputError("encoding", f"{rows} rows", f"rows that determine {count} images")
    return torch.linalg.lstsq(system, mixture).solution


def _explains(hide: InstaHide, encoding: Encoding, public: int, seed: int) -> bool:
    """Say whether a seed's coefficients have the sums of all labels, whatever the classes are."""
    key = insecure_key(hide, (len(encoding.z), 1), public, seed)
    off = key.coefficients[:, :2].sum(dim=1) - encoding.labels.to(torch.float64).sum(dim=1)
    return bool(off.abs().max() < TOLERANCE)


def _normalised(uniform: np.ndarray) -> np.ndarray:
    return uniform / uniform.sum(axis=1, keepdims=True)


def _allowed(hide: InstaHide, coefficients: np.ndarray) -> np.ndarray:
    return (coefficients.max(axis=1) <= hide.bound) & (coefficients[:, :2].sum(axis=1) >= hide.least)


def _uniform(seeds: np.ndarray, skip: int, count: int) -> np.ndarray:
    """Return RandomState(seed).random_sample() after `skip` words, for every seed: (count, seeds)."""
    words = 2 * count
    low = np.empty((words + 1, len(seeds)), np.uint32)
    high = np.empty((words, len(seeds)), np.uint32)
    state, moved = seeds.copy(), np.empty_like(seeds)
    for place in range(skip + words + _SHIFT):
        if place:
            np.right_shift(state, np.uint32(30), out=moved)
            np.bitwise_xor(state, moved, out=state)
            np.multiply(state, _WIDE, out=state)
            np.add(state, np.uint32(place), out=state)
        if skip <= place <= skip + words:
            low[place - skip] = state
        if place >= skip + _SHIFT:
            high[place - skip - _SHIFT] = state
    mixed = (low[:-1] & np.uint32(0x80000000)) | (low[1:] & np.uint32(0x7FFFFFFF))
    value = high ^ (mixed >> np.uint32(1)) ^ ((mixed & np.uint32(1)) * np.uint32(0x9908B0DF))
    value ^= value >> np.uint32(11)
    value ^= (value << np.uint32(7)) & np.uint32(0x9D2C5680)
    value ^= (value << np.uint32(15)) & np.uint32(0xEFC60000)
    value ^= value >> np.uint32(18)
    upper, lower = value[0::2] >> np.uint32(5), value[1::2] >> np.uint32(6)  # two words give a double of 53 bits
    return (upper * 67108864.0 + lower) / 9007199254740992.0
