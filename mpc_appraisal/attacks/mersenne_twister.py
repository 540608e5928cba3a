"""The attack that recovers a Mersenne Twister from its outputs, and with it the other owner's secret.

    x_0 - a_0        the other owner's message for X, in the product of X and the other's W
    x_0 = X - x_1    known to the owner of X, who therefore learns a_0, outputs of the other's generator
    b_0              the next outputs, the mask of the message w_0 - b_0; then W = w_0 + w_1 is plain

Two owners multiply X and W on additive shares (x_0, x_1 and w_0, w_1), which Beaver masks a and b hide; index 0 is the
other owner's share. In go ring elements that the generator gave; out come the next ones. CrypTen 0.4.1 draws Beaver
masks from torch's generator, MT19937, and 312 consecutive 64-bit outputs are its whole state. Nobody deviates from the
protocol, and an honest dealer does not help. Masks from a cryptographic generator, as the backends of this package draw
them, stop the attack. The constants are those of MT19937 and of torch's mapping to the ring, and have to stay.
"""

from __future__ import annotations

import numpy as np
import torch

WORDS = 624  # the state has so many 32-bit words
MODULUS = 2**64 - 1  # torch.randint over [-2^63, 2^63 - 1) reduces a 64-bit word by this


def untemper(y: np.ndarray) -> np.ndarray:
    """Return the words of state behind outputs of MT19937 (uint32), by running its output function backwards."""
    y = y.astype(np.uint32)
    y ^= y >> np.uint32(18)
    y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
    x = y.copy()
    for _ in range(4):
        x = y ^ ((x << np.uint32(7)) & np.uint32(0x9D2C5680))
    y, x = x, x.copy()
    for _ in range(2):
        x = y ^ (x >> np.uint32(11))
    return x


def predict(seen: torch.Tensor, count: int) -> torch.Tensor | None:
    """Return the `count` ring elements that torch's generator gives after those in `seen`.

    Args:
        seen: consecutive outputs, int64 of any shape, 320 or more.
        count: the number of outputs to predict.

    Returns None where `seen` did not come from a Mersenne Twister, which shows when the end of `seen` is predicted from
    its beginning. Raises ValueError for too few outputs.
    """
    flat = seen.reshape(-1).numpy()
    known = WORDS // 2
    if flat.size < known + 8:
        raise ValueError(f"seen: got {flat.size} ring elements; expected at least {known + 8}")
    words = flat[:known].astype(np.uint64) + np.uint64(2**63)  # torch adds the range's lower end, -2^63
    halves = np.empty(WORDS, np.uint32)
    halves[0::2] = words & np.uint64(0xFFFFFFFF)
    halves[1::2] = words >> np.uint64(32)
    for order in (halves, halves.reshape(-1, 2)[:, ::-1].reshape(-1)):  # which half torch draws first
        swapped = order is not halves
        twister = np.random.RandomState()
        twister.set_state(("MT19937", untemper(order), WORDS))
        raw = twister.randint(0, 2**32, size=2 * (flat.size - known + count), dtype=np.uint32).astype(np.uint64)
        low, high = (raw[1::2], raw[0::2]) if swapped else (raw[0::2], raw[1::2])
        drawn = (low | (high << np.uint64(32))) % np.uint64(MODULUS)
        ring = torch.from_numpy((drawn + np.uint64(2**63)).view(np.int64))  # adding 2^63 is subtracting it, mod 2^64
        if torch.equal(ring[: flat.size - known], torch.from_numpy(flat[known:].copy())):
            return ring[flat.size - known :]
    return None
