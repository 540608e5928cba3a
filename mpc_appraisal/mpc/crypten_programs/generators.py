"""The random numbers of a CrypTen program, from streams of AES-256 in counter mode with keys of the operating system.

`install` replaces these names of CrypTen 0.4.1, which draw from torch's Mersenne Twister:

| in CrypTen | replaced by |
|---|---|
| common.rng.generate_random_ring_element, generate_kbit_random_tensor, wherever they are imported | draws from the stream of a `StreamGenerator`; without one, from this party's own |
| _setup_prng, and so what `crypten.generators` holds | `StreamGenerator`s: prev and next shared with the other owner, local this party's own, global of both owners |
| gradients.AutogradDropout.forward, AutogradFeatureDropout.forward | the same formula with the stream of both owners |

Shares of zero (PRZS) and the bits of `crypten.rand`, on which bernoulli, randn and secret dropout rest, come from
streams by `protocols.crypten_adapter.use`, and PRSS through the functions of the first row.

A `StreamGenerator` is a torch.Generator as well, because programs draw public numbers from `crypten.generators` by
functions of torch, for example one permutation of the rows at both owners. What torch draws from it are numbers of
torch's own generator with a seed of its own, which no share and no mask depends on; `manual_seed` changes this seed
alone, except for `global`, whose numbers are public anyway. A plain torch.Generator is refused by name where CrypTen
would draw shares from it.
"""  # noqa: E501  a row of a table is one line

from __future__ import annotations

import hashlib
import logging
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mpc_appraisal.mpc.ring.prg import KEY_BYTES, Stream, new_key

RING = 1 << 64
CPU = torch.device("cpu")
KINDS = ("prev", "next", "local", "global")
_UNIFORM_BITS = 53  # A float64 holds so many bits of a number in [0, 1).


class StreamGenerator(torch.Generator):
    """A generator of CrypTen's dictionary: a stream for CrypTen, and a generator of torch for the program's own draws.

    Args:
        key: the key of the stream, of 32 bytes. Parties with the same key and purpose draw the same numbers.
        purpose: a word for what the stream is used for.
        public: whether `manual_seed` may choose the stream, whose numbers hide nothing.

    Attributes:
        stream: the stream that CrypTen's functions read.
    """

    stream: Stream
    public: bool

    def __new__(cls, key: bytes, purpose: str, public: bool = False):
        made = super().__new__(cls)
        made.stream, made.public = Stream(key, purpose), public
        torch.Generator.manual_seed(made, Stream(key, f"{purpose} for torch").ring(()).item())
        return made

    def __init__(self, key: bytes, purpose: str, public: bool = False):
        super().__init__()

    def manual_seed(self, seed: int) -> StreamGenerator:
        """Set the seed of torch's numbers, and for a public stream the stream; shares never depend on a seed."""
        torch.Generator.manual_seed(self, seed)
        if self.public:
            self.stream = Stream(hashlib.sha256(str(int(seed)).encode()).digest()[:KEY_BYTES], "manual seed")
        return self


def fill(crypten: ModuleType, common: bytes | None = None, rank: int = 0) -> None:
    """Fill `crypten.generators` with new streams.

    Args:
        crypten: the module.
        common: a key that both owners have and the dealer does not; None for a party that is alone.
        rank: this owner's rank.
    """
    shared = common or new_key()
    between = [Stream(shared, f"between {k}").octets((KEY_BYTES,)).numpy().tobytes() for k in (0, 1)]
    ways = {"next": between[rank], "prev": between[1 - rank]} if common else dict.fromkeys(("next", "prev"), shared)
    keys = {**ways, "local": new_key(), "global": shared}
    for kind in KINDS:
        purpose = "neighbours" if kind in ways else kind
        crypten.generators[kind] = {CPU: StreamGenerator(keys[kind], purpose, public=kind == "global")}


def install(crypten: ModuleType) -> None:
    """Replace the names of the table above in the module crypten. Repeating the call does nothing."""
    stock = {name: getattr(crypten.common.rng, name) for name in ("generate_random_ring_element",
                                                                  "generate_kbit_random_tensor")}  # fmt: skip
    ours = {"generate_random_ring_element": random_ring_element, "generate_kbit_random_tensor": random_bits}
    for name, module in list(sys.modules.items()):
        if name == "crypten" or name.startswith("crypten."):
            for each, found in stock.items():
                if getattr(module, each, None) is found:
                    setattr(module, each, ours[each])
    crypten._setup_prng = lambda: fill(crypten)
    gradients = sys.modules["crypten.gradients"]
    gradients.AutogradDropout.forward = staticmethod(_dropout("dropout", lambda x: tuple(x.size())))
    gradients.AutogradFeatureDropout.forward = staticmethod(
        _dropout("_feature_dropout", lambda x: tuple(x.size()[:2]) + (1,) * (x.dim() - 2))
    )


def random_ring_element(
    size: Sequence[int], ring_size: int = RING, generator: Any = None, device: Any = None
) -> torch.Tensor:
    """Return numbers (int64) of shape `size`, uniform from -(ring_size // 2) on.

    Args:
        size: the shape.
        ring_size: how many numbers there are, at most 2^64.
        generator: a `StreamGenerator`; None draws from this party's own stream.
        device: the device of the tensor.

    Raises TypeError: the generator is another one.
    """
    stream = _stream(generator)
    found = stream.ring(size) if ring_size == RING else _below(stream, size, ring_size) - ring_size // 2
    return found if device is None else found.to(device)


def random_bits(
    size: Sequence[int], bitlength: int | None = None, generator: Any = None, device: Any = None
) -> torch.Tensor:
    """Return uniform numbers (int64) of shape `size` in [0, 2^bitlength); with 64 bits, or None, all ring elements."""
    found = _stream(generator).ring(size, bits=64 if bitlength is None else bitlength)
    return found if device is None else found.to(device)


def own_stream() -> Stream:
    """Return this party's own stream, which the other party cannot foretell."""
    return _stream(None)


def uniform(stream: Stream, size: Sequence[int]) -> torch.Tensor:
    """Return numbers (float64) of shape `size`, uniform in [0, 1), multiples of 2^-53."""
    return stream.ring(size, bits=_UNIFORM_BITS).to(torch.float64) / 2.0**_UNIFORM_BITS


def _below(stream: Stream, size: Sequence[int], bound: int) -> torch.Tensor:
    """Return uniform numbers in [0, bound): numbers beyond the last multiple of `bound` are drawn again."""
    if not 0 < bound < RING:
        raise ValueError(f"ring_size: got {bound}; expected 1 to 2^64")
    count, last, kept = math.prod(size), RING - RING % bound - 1, np.empty(0, np.uint64)
    while len(kept) < count:
        drawn = stream.ring((count - len(kept),)).numpy().view(np.uint64)
        kept = np.concatenate([kept, drawn[drawn <= np.uint64(last)]])
    return torch.from_numpy((kept % np.uint64(bound)).view(np.int64)).reshape(tuple(size))


def _stream(generator: Any) -> Stream:
    if generator is None:
        import crypten

        generator = crypten.generators["local"][CPU]
    if isinstance(generator, StreamGenerator):
        return generator.stream
    raise TypeError(
        f"generator: got a {type(generator).__name__}; expected one of crypten.generators, since shares and masks come "
        "from AES streams: torch's generators are not cryptographic"
    )


def _dropout(name: str, size_of: Any) -> Any:
    """Return the forward pass of a dropout in CrypTen's autograd, whose mask has the size `size_of(input)`."""

    def forward(ctx, input, p=0.5, training=True, inplace=False):
        import crypten

        if training and inplace:
            logging.warning("CrypTen %s does not support inplace computation during training.", name)
        if not training:
            return input if inplace else input.clone()
        drawn = uniform(_stream(crypten.generators["global"][CPU]), size_of(input))
        mask = (drawn > p).to(input.device, torch.float32)
        mask = mask.expand(tuple(input.size())).contiguous()
        ctx.save_multiple_for_backward([mask, p])
        return (input.mul_ if inplace else input.mul)(mask.div(1.0 - p))

    return forward
