"""The recovery of CrypTen's masks as a choice of the app: a data owner reads the model owner's weights.

The formula is that of `attacks.mersenne_twister`, for the product of the data owner's rows and the model owner's
weights. In goes a `MaskedProductView`; out comes the share of the weights that are recovered within a unit of fixed
point, for which a guess has next to nothing. The masks are drawn as CrypTen 0.4.1 draws them, from torch's generator,
and the attack stops at masks from AES, as the engine fast draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mpc_appraisal.attacks import mersenne_twister
from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, decode, encode
from mpc_appraisal.mpc.ring.prg import Stream, new_key
from mpc_appraisal.transformations.views import MaskedProductView

NEEDED = mersenne_twister.WORDS // 2 + 8  # ring elements by which a twister is known
STOPS = "at masks from AES, as the engine fast draws them"
Draw = Callable[[torch.Size], Tensor]


@dataclass(frozen=True)
class MersenneTwister(Attack):
    """The attack, which has no settings."""

    name: ClassVar[str] = "mersenne_twister"
    reads: ClassVar[str] = "masked_product"

    def measure(self, view: MaskedProductView, seed: int) -> list[Finding]:
        """Read the masks of one product, as `Attack.measure` describes it."""
        generator = torch.Generator().manual_seed(seed)

        def twister(shape: torch.Size) -> Tensor:
            return torch.randint(-(2**63), 2**63 - 1, shape, generator=generator)

        stream = Stream(new_key(), "masks of the model owner")
        elements = view.x.numel()
        short = "" if elements >= NEEDED else f", of which {NEEDED} are needed"
        return [Finding(
            "mersenne twister", f"a product of {len(view.x)} rows, {elements} masks{short}",
            _recovered(view, twister), 0.0, "the model owner's weights that are recovered within a unit of fixed point",
            STOPS, _recovered(view, stream.ring),
        )]  # fmt: skip


def _recovered(view: MaskedProductView, draw: Draw) -> float:
    """Return the share of the weights that the data owner reads, where the model owner draws its masks by `draw`."""
    if view.x.numel() < NEEDED:
        return 0.0
    share = Stream(new_key(), "shares")
    x, w = encode(view.x, "party.data"), encode(view.weights, "the weights")
    x_0, w_1 = share.ring(x.shape), share.ring(w.shape)
    messages = x_0 - draw(x.shape), (w - w_1) - draw(w.shape)  # what the model owner sends: x_0 - a_0 and w_0 - b_0
    mask = mersenne_twister.predict(x_0 - messages[0], w.numel())
    if mask is None:
        return 0.0
    read = decode(messages[1] + mask.reshape(w.shape) + w_1)
    return float(((read - view.weights).abs() <= 2.0**-PRECISION_BITS).to(torch.float64).mean())
