"""Randomised labels and noise of CrypTen's differentially private split learning (nn.privacy.DPSplitModel).

    y' = y + m - 2 m y          a label y in {0, 1} is flipped where the bit m is 1, which it is with probability p

`install` replaces these names of CrypTen 0.4.1:

| in CrypTen | replaced, because |
|---|---|
| DPSplitModel._process_targets | for shared labels it adds p in place of m, so that no label 0 is ever flipped; for labels in the clear it draws m from torch's generator, and changes the caller's own labels |
| DPSplitModel._add_dp_if_necessary | it takes the source 0 for no source |
| DPSplitModel._generate_noise_from_src | it draws from torch's generator, from a few of whose numbers all others follow |

The formula is that of Warner ("Randomized response", JASA 1965). m is drawn for shared labels with 16 fractional bits of
p, and noise is a normal number in floating point, both as CrypTen has them: no guarantee is stated for their last bits.
"""  # noqa: E501  a row of a table is one line

from __future__ import annotations

import math
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from mpc_appraisal.mpc.crypten_programs.generators import own_stream, uniform


def install(crypten: ModuleType) -> None:
    """Replace the names of the table above in the module crypten. Repeating the call does nothing."""
    model = import_module("crypten.nn.privacy").DPSplitModel  # CrypTen itself does not import it
    model._process_targets = _process_targets
    model._add_dp_if_necessary = _add_noise
    model._generate_noise_from_src = _noise_of_source


def _process_targets(self: Any, targets: Any) -> Any:
    """Return the labels, shared, each flipped with the probability `rr_prob`, if it is stated."""
    import crypten

    p = self.rr_prob
    if crypten.is_encrypted_tensor(targets):
        if p is None:
            return targets
        flips = crypten.bernoulli(torch.full(tuple(targets.size()), float(p)))
        return targets + flips - 2 * flips * targets
    if p is not None and self.is_label_src():
        flips = (uniform(own_stream(), tuple(targets.size())) < float(p)).to(targets.dtype)
        targets = targets + flips - 2 * flips * targets
    return crypten.cryptensor(targets, src=self.label_src)


def _add_noise(self: Any, grad: Any) -> Any:
    """Return the gradient plus noise of the stated magnitude, of the source if there is one, else of both parties."""
    import crypten

    if self.noise_magnitude is None or self.noise_magnitude == 0.0:
        return grad
    made = self._generate_noise_no_src if self.noise_src is None else self._generate_noise_from_src
    with crypten.no_grad():
        grad += made(grad.size())
    return grad


def _noise_of_source(self: Any, size: Any) -> Any:
    """Return the source's normal noise, shared: sqrt(-2 ln u) cos(2 pi w) for uniform u and w (Box and Muller)."""
    import crypten

    u, w = uniform(own_stream(), tuple(size)), uniform(own_stream(), tuple(size))
    normal = torch.sqrt(-2 * torch.log1p(-u)) * torch.cos(2 * math.pi * w)
    return crypten.cryptensor((normal * self.noise_magnitude).float(), src=self.noise_src)
