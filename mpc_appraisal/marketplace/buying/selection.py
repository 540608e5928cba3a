"""Rules that select the rows to buy by uncertainty sampling, from predictions alone.

In go the class probabilities of all n rows on offer, p (n, C) for C classes, a rule, and the budget, which is the
number of rows to select. Out come the numbers of the selected rows. For the probabilities p_1 >= p_2 >= ... of one row,
u grows with the uncertainty of the model:

    least_confidence   u = 1 - p_1
    margin             u = 1 - (p_1 - p_2)
    entropy            u = -sum_c p_c log p_c        (nats)
    random             u ~ uniform on [0, 1)         (what the others must beat)

    selected           the `budget` rows of largest u, most uncertain first; of equal rows the lower number first

A new rule is one more function in STRATEGIES. The names there stand in plans, and ties have to be broken as they are,
so that the baseline and the private protocols select the same rows. Whoever selects sees the predictions of all rows on
offer, and these reveal much about the rows to the shopper, who knows the model.

References: Song et al., "Try Before You Buy", slides "Rationale behind Data Selection"; Settles 2009, "Active Learning
Literature Survey", section 3.1. The slides' band [0.495, 0.555] around 0.5 is the margin of two classes; with ten
classes, p_1 < 0.5 is rare and says less.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable

import torch
from torch import Tensor

from mpc_appraisal.common.checks import integer, one_of
from mpc_appraisal.common.errors import InputError

SLACK = 1e-3  # how far probabilities may be off, since those computed on shares or on masked weights are rounded


def least_confidence(p: Tensor) -> Tensor:
    """Map probabilities (n, C) to u (n,) in [0, 1 - 1/C], float64. Raises InputError where p holds no probabilities."""
    return 1 - _checked(p).amax(dim=1)


def margin(p: Tensor) -> Tensor:
    """Map probabilities (n, C) to u (n,) in [0, 1], float64. Raises InputError where p holds no probabilities."""
    first, second = _checked(p).topk(2, dim=1).values.unbind(dim=1)
    return 1 - (first - second)


def entropy(p: Tensor) -> Tensor:
    """Map probabilities (n, C) to u (n,) in [0, log C], float64, with 0 log 0 = 0.

    Raises InputError where p holds no probabilities.
    """
    p = _checked(p)
    return -torch.special.xlogy(p, p).sum(dim=1)


def random(n: int, seed: int) -> Tensor:
    """Draw u (n,), float64, which does not depend on the data; equal seeds give equal numbers."""
    return torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


STRATEGIES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "least_confidence": lambda p, seed: least_confidence(p),
    "margin": lambda p, seed: margin(p),
    "entropy": lambda p, seed: entropy(p),
    "random": lambda p, seed: random(len(_checked(p)), seed),
}


def select(p: Tensor, strategy: str, budget: int, seed: int = 0) -> Tensor:
    """Select the most uncertain rows.

    Args:
        p: the class probabilities of the rows on offer, (n, C).
        strategy: a name in STRATEGIES.
        budget: the number of rows to select.
        seed: the seed of the strategy 'random'.

    Returns (budget,) row numbers, most uncertain first.

    Raises InputError for an unknown strategy, a budget outside 1 .. n, and a p that holds no probabilities.
    """
    one_of("selection.strategy", strategy, STRATEGIES)
    uncertainty = STRATEGIES[strategy](p, seed)
    expected = f"an integer in 1 .. {len(p)}, the rows on offer"
    integer("selection.budget", budget, 1, len(p), expected, kind=numbers.Integral)
    return torch.sort(uncertainty, descending=True, stable=True).indices[:budget]


def _checked(p: Tensor) -> Tensor:
    """Check that the rows of p are probabilities within SLACK, and return them in float64, cut to [0, 1]."""
    if p.ndim != 2 or len(p) == 0 or p.shape[1] < 2:
        raise InputError("selection.p", f"shape {tuple(p.shape)}", "(rows, classes), one row and two classes or more")
    p = p.to(torch.float64)
    off = torch.maximum((p.sum(dim=1) - 1).abs(), torch.maximum(-p, p - 1).amax(dim=1))
    if not bool((off <= SLACK).all()):  # a NaN fails this comparison too
        row = int((~(off <= SLACK)).nonzero()[0])
        raise InputError("selection.p", f"row {row} that sums to {float(p[row].sum()):g}",
                         f"probabilities: numbers in [0, 1] that sum to 1, within {SLACK:g}")  # fmt: skip
    return p.clamp(0, 1)
