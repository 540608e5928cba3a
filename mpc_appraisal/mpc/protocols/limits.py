"""What the engine's softmax can take; see `softmax`."""

import math

from mpc_appraisal.common.errors import InputError

LARGEST_EXPONENT = 8.0  # |z| / T
MAX_SQUARINGS = 5  # T = 2^5 at most
MAX_LOG_CLASSES = 10  # for a log-softmax: the ranges that its logarithms are taken on grow with the classes
MAX_CLASSES = 256  # the squares of probabilities of 1 / 256 have 4 bits left
RANGE = 16.0  # a logit further below its row's largest is put there: e^-16 is nothing to a probability of 16 bits

# How a listing of openings calls the check of what the model owner told; see `norm_check`. It tells nobody anything.
TOLD_WHAT = "whether the model owner's matrices are as short as the noise counts on"
TOLD_WHY = "checked before the result is opened; it depends on the model owner's own values alone"


def squarings(bound: float) -> int:
    """k with bound / 2^k <= 8, at least 1; raises InputError where the bound is not one."""
    if not bound > 0 or bound > LARGEST_EXPONENT * 2**MAX_SQUARINGS:
        raise InputError("session.logit_bound", bound, f"above 0, at most {LARGEST_EXPONENT * 2**MAX_SQUARINGS:g}")
    return max(1, math.ceil(math.log2(bound / LARGEST_EXPONENT)))
