"""Smooth random images, whose neighbouring pixels are alike as in photographs, for tests of InstaHide."""

from __future__ import annotations

import torch

from mpc_appraisal.transformations.instahide import centred

SIDE = 12  # pixels


def smooth_images(rows: int, seed: int = 0) -> torch.Tensor:
    """Return so many images of SIDE x SIDE pixels, (rows, SIDE * SIDE), with an amplitude of 1 / frequency."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.fft.fftfreq(SIDE) * SIDE
    frequency = (axis[:, None].square() + axis.square()).sqrt().clamp_min(1)
    noise = torch.fft.fft2(torch.randn(rows, SIDE, SIDE, generator=generator))
    return centred(torch.fft.ifft2(noise / frequency).real.flatten(1))
