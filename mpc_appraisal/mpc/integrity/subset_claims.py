"""Claims about many ring elements, by 48 random subsets: an altered element is found with a probability of 1 - 2^-48.

    t_j = sum_k U_jk m_k mod 2^b,   U in {0, 1}^(48 x K), j = 1, ..., 48, for the K messages m_k that are mod 2^b

In go the messages of one owner, each an element mod 2^(b_k); out come 48 claims for each b, in ascending order of b.
The messages were altered by e; let e_k be other than 0 mod 2^b. Whatever the other U_jk are, at most one of the two
values of U_jk makes sum_k U_jk e_k equal 0 mod 2^b, so that the 48 independent rows miss e with a probability of at
most 2^-48. This holds for e_k = 2^(b-1), which a random coefficient of the ring misses in one of two cases, and for
errors that cancel in sums. It needs that e does not depend on U, hence `deal_seed` deals the seed of U only after both
owners have said that they have received all messages.

Column k of U is the 48 bits of one word of the seed's stream. A sum goes over K elements once for each of the six
bytes of the words, into 256 sums, one for each value of the byte. Each owner sends "received" (1 byte) to the dealer,
and the dealer sends the seed (32 bytes) to each. All parties have to read the stream in this way.
"""

from __future__ import annotations

import os

import numpy as np

from mpc_appraisal.common.errors import IntegrityError
from mpc_appraisal.common.roles import DEALER, OWNERS, ROLES
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.protocols.orders import bytes_of, tensor_of
from mpc_appraisal.mpc.ring.kernels import loops
from mpc_appraisal.mpc.ring.prg import Stream

SUBSETS = 48
SEED_BYTES = 32
BYTES = SUBSETS // 8
RECEIVED = b"a"
DEALER_RANK = ROLES.index(DEALER)
# BITS[v] has the bits of v, the lowest first.
BITS = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(np.uint64)


def deal_seed(channel: Channel) -> bytes:
    """Return a new seed, which the dealer sends to both owners once both have said that they received all messages.

    Raises IntegrityError: an owner says something else.
    """
    for rank, owner in enumerate(OWNERS):
        said = bytes_of(channel.receive((len(RECEIVED),), rank, tensor_of(b"\0").dtype))
        if said != RECEIVED:
            raise IntegrityError(f"{owner}: got {said!r} for 'all is received'; expected {RECEIVED!r}")
    seed = os.urandom(SEED_BYTES)
    for rank in range(len(OWNERS)):
        channel.send(tensor_of(seed), rank)
    return seed


def receive_seed(channel: Channel) -> bytes:
    """Say that this owner has received all messages, and return the dealer's seed."""
    channel.send(tensor_of(RECEIVED), DEALER_RANK)
    channel.meter.waited()
    return bytes_of(channel.receive((SEED_BYTES,), DEALER_RANK, tensor_of(b"\0").dtype))


class SubsetClaims:
    """The claims about the messages of one owner.

    Args:
        seed: the seed that the dealer has dealt.
        purpose: a word for these messages, so that the two owners have different subsets.
        bits: b_k for each message, integers in [1, 64], (K,).

    Attributes:
        moduli: b_j for each claim: 48 for each different b_k, ascending.
    """

    def __init__(self, seed: bytes, purpose: str, bits: np.ndarray):
        bits = np.asarray(bits)
        if bits.ndim != 1 or len(bits) and (bits.min() < 1 or bits.max() > 64):
            raise ValueError(f"bits: got {bits!r:.60}; expected integers from 1 to 64")
        kinds = [int(b) for b in np.flatnonzero(np.bincount(bits.astype(np.int64)))]
        self.moduli = tuple(b for b in kinds for _ in range(SUBSETS))
        self._count = len(bits)
        words = Stream(seed, f"subsets {purpose}").octets((len(bits), BYTES)).numpy()
        # Where all messages are of one kind, no index is needed.
        groups = [(b, slice(None) if len(kinds) == 1 else np.flatnonzero(bits == b)) for b in kinds]
        self._groups = [(b, members, words[members]) for b, members in groups]

    def matrix(self) -> np.ndarray:
        """Return U of all claims as uint8 (J, K): rows of a group are 0 at messages of other groups. For tests."""
        rows = np.zeros((len(self.moduli), self._count), np.uint8)
        for g, (_, members, words) in enumerate(self._groups):
            bits = np.unpackbits(words, axis=1, bitorder="little")
            rows[g * SUBSETS : (g + 1) * SUBSETS, members] = bits.T
        return rows

    def sums(self, messages: np.ndarray) -> list[int]:
        """Return t_j in [0, 2^(b_j)) for each claim; messages (K,) are int64 or uint64, of which b_k bits count."""
        messages = self._checked(messages, "messages").view(np.uint64)
        found: list[int] = []
        for b, members, words in self._groups:
            totals = _bucketed(words, messages[members])
            # Bucket v of byte i counts in subset 8 i + k if bit k of v is 1.
            found.extend(int(t) % (1 << b) for t in (totals @ BITS).reshape(-1))
        return found

    def whole_sums(self, values: np.ndarray) -> list[int]:
        """Return the sum over each claim's subset, as an integer, of values (K,) in [0, 2^31), for K below 2^33."""
        values = self._checked(values, "values").view(np.uint64)
        found: list[int] = []
        for _, members, words in self._groups:
            totals = _bucketed(words, values[members])
            found.extend(int(t) for t in (totals @ BITS).reshape(-1))
        return found

    def cotangents(self, gammas: np.ndarray, p: int) -> np.ndarray:
        """Return gamma' U mod p, uint32 (K,), for gammas (J,) in [0, p): the weight of each message."""
        gammas = np.asarray(gammas, dtype=np.uint64)
        if gammas.shape != (len(self.moduli),):
            raise ValueError(f"gammas: got shape {gammas.shape}; expected ({len(self.moduli)},)")
        out = np.empty(self._count, np.uint32)
        for g, (_, members, words) in enumerate(self._groups):
            own = gammas[g * SUBSETS : (g + 1) * SUBSETS].reshape(BYTES, 8)
            tables = (own @ BITS.T) % np.uint64(p)  # (BYTES, 256): what each value of a byte adds
            out[members] = _looked_up(words, tables, np.uint64(p))
        return out

    def _checked(self, values: np.ndarray, name: str) -> np.ndarray:
        if values.shape != (self._count,) or values.dtype not in (np.int64, np.uint64):
            raise ValueError(f"{name}: got {values.dtype} of shape {values.shape}; expected int64 ({self._count},)")
        return np.ascontiguousarray(values)


def _compiled(work: int):
    if loops(work) is None:
        return None
    from mpc_appraisal.mpc.ring import compiled_prime_field

    return compiled_prime_field


def _bucketed(words: np.ndarray, messages: np.ndarray) -> np.ndarray:
    """Return sums mod 2^64 of the messages by the value of each byte of their words, uint64 (BYTES, 256)."""
    totals = np.zeros((BYTES, 256), np.uint64)
    compiled = _compiled(words.size)
    if compiled is not None:
        compiled.bucketed(words, messages, totals)
        return totals
    for i in range(BYTES):
        np.add.at(totals[i], words[:, i], messages)
    return totals


def _looked_up(words: np.ndarray, tables: np.ndarray, p: np.uint64) -> np.ndarray:
    """Return the sums mod p of what each byte of the words has in its table, uint32 (K,)."""
    compiled = _compiled(words.size)
    if compiled is not None:
        out = np.empty(len(words), np.uint32)
        compiled.looked_up(words, tables, p, out)
        return out
    return (sum(tables[i][words[:, i]] for i in range(BYTES)) % p).astype(np.uint32)
