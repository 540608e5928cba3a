"""What a first layer would show of an image, before anybody uploads: its independent rows against the authority's cap.

    rank(W_1) <= cap = floor(cap_share d)

W_1 (k1, d) is the first layer as a matrix and d the number of pixels. The authority counts the rows of the very network
when it issues keys (`encryption.authority`), but sellers have encrypted and uploaded by then. The rank of a layer with
random weights follows from the architecture alone, and a trained layer has this rank too, unless its weights were made
to have a lower one. So an architecture beyond the cap is refused when a plan is written, when a seller is enrolled, and
before the roles meet. The count at the authority has to stay: only it sees the weights, and earlier runs.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.rank import Echelon, draw_prime
from mpc_appraisal.models.networks import Architecture, first_matrix, initial

CAP_SHARE = 0.9  # the largest number of independent rows that an authority issues keys for, as a share of the pixels
_SCALE = 1 << 16  # random weights are rounded to integers of this scale
_MOST_PIXELS = 1 << 13  # A larger image is left to the count at the authority: the matrix would not fit into memory.


def check_cap(architecture: Architecture, cap_share: float) -> None:
    """Raise InputError where the first layer has more independent rows than `cap_share` of the pixels allows."""
    cap = int(cap_share * architecture.features)
    if _rows(architecture) <= cap or architecture.features > _MOST_PIXELS:
        return
    rank = first_layer_rank(architecture)
    if rank > cap:
        found = f"{architecture.name}, whose first layer has {rank} independent rows"
        expected = f"at most {cap}, the cap: from {architecture.features} rows every pixel of an image follows"
        raise InputError("network", found, expected)


@cache
def first_layer_rank(architecture: Architecture) -> int:
    """Return the rank of the first layer's matrix (k1, d) for random weights, which are drawn from a fixed seed."""
    matrix = first_matrix(initial(architecture, 0)).double().numpy()
    span = Echelon(architecture.features, draw_prime())
    span.add(np.rint(matrix * _SCALE).astype(np.int64))
    return span.rank


def _rows(architecture: Architecture) -> int:
    """Return the number k1 of outputs of the first layer."""
    return math.prod(architecture.shapes()[0])
