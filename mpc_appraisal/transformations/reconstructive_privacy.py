"""Reconstructive privacy: how likely it is that an adversary recovers x from T(x), and what the theorems leave out.

    definition 3.1   epsilon = max over A of P(A(T(x)) = x)            = sum_t max_x P(x) P(t | x)
    definition 3.2   epsilon = max over A of P(|A(T(x)) - x| < delta)  = sum_t max_a sum_{|x - a| < delta} P(x) P(t | x)
    theorem 3.3      T(x) = A x, m projections of x in R^n:  epsilon = P(chi_{n - m} < delta)
    theorem 3.4      T(x) = x permuted:                      epsilon = prod_v n_v! / n!,  n_v: how often v occurs

x is a secret vector of n numbers, T a transformation, t what the adversary sees, and A the adversary's answer, except
in theorem 3.3, where A is a matrix (m, n). In go a prior P(x) with a transformation or its sizes; out comes epsilon, a
probability. These are definitions and theorems of "Private Machine Learning by Random Transformations" (2021), section
3. The definitions print "< epsilon"; here epsilon is the least number that no adversary exceeds, and the best adversary
attains it. It depends on the prior, which the paper calls auxiliary information.

The theorems say less than they seem to:

- The proof of 3.3 treats one projection: it takes n - 1 for the dimensions left, whatever m is. With m projections of
  the same x only n - m are left, and with m = n nothing is hidden. Whether A is the same each time does not matter.
- 3.3 holds for independent standard normal x. Real rows are correlated: 100 projections of an image of 784 pixels leave
  684 dimensions hidden but little of the image (`attacks.rtas.known_rows` measures it). Fewer equations still can
  determine an x that is bounded or whole-numbered (`attacks.pixel_recovery`).
- delta is a Euclidean distance over the whole vector: a small epsilon says nothing about one coordinate.
- 3.4 prints 1 / n!, which needs distinct values and no prior: with equal values there are fewer orders, and with a
  prior the likeliest order may have any probability (`permutation_under`).
- 3.4 counts whole vectors. The values stay visible, and with them their histogram, sums, extremes, and whether a known
  value is among them. Most positions can be right although epsilon is next to nothing (`positions`).

A function for a further transformation may be added. Each function has to state its assumptions, and
`linear_as_printed` has to stay as the paper prints the theorem.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction

import numpy as np
from scipy import stats

from mpc_appraisal.common.errors import InputError

SLACK = 1e-9  # the most by which a sum of probabilities may differ from 1


def exact(prior: np.ndarray, channel: np.ndarray) -> float:
    """Compute definition 3.1 for finitely many x and t.

    Args:
        prior: P(x), (X,).
        channel: P(t | x), (X, T), rows that sum to 1.

    The definition assumes that the adversary knows both and wants x exactly. Raises InputError for what is no
    distribution.
    """
    prior, channel = _checked(prior, channel)
    return float((prior[:, None] * channel).max(axis=0).sum())


def within(prior: np.ndarray, channel: np.ndarray, distances: np.ndarray, delta: float) -> float:
    """Compute definition 3.2 for finitely many x, t and answers.

    Args:
        prior: P(x), (X,).
        channel: P(t | x), (X, T), rows that sum to 1.
        distances: the distance of answer a from x, (answers, X). Answers need not be values of x: a mean may be near to
            many.
        delta: the distance below which an answer counts as right.

    Raises InputError as `exact` does, and for other shapes or a delta that is not above 0.
    """
    prior, channel = _checked(prior, channel)
    distances = np.asarray(distances, np.float64)
    if distances.ndim != 2 or distances.shape[1] != len(prior) or not len(distances):
        raise InputError("distances", distances.shape, f"shape (answers, {len(prior)})")
    near = distances < _positive(delta)
    return float((near @ (prior[:, None] * channel)).max(axis=0).sum())


def additive_noise(deviation: float, delta: float, prior: float = math.inf) -> float:
    """Compute definition 3.2 of T(x) = x + e for one number x and normal noise e.

    Args:
        deviation: the standard deviation of e.
        delta: the distance below which an answer counts as right.
        prior: the standard deviation of x, which is normal; x is flat where `prior` is infinite.

    The paper's example has deviation 1, delta 3 and a flat prior, which give 0.997. An adversary that knows where x
    lies does better: x given x + e is normal of variance 1 / (1 / deviation^2 + 1 / prior^2). One observation is
    assumed; T of them with fresh noise divide deviation^2 by T. Raises InputError for numbers that are not above 0.
    """
    for name, value in (("deviation", deviation), ("prior", prior)):
        if not value > 0:
            raise InputError(name, value, "a number above 0")
    left = 1 / math.sqrt(1 / deviation**2 + 1 / prior**2)
    return math.erf(_positive(delta) / left / math.sqrt(2))


def linear(dimensions: int, projections: int, delta: float) -> float:
    """Compute theorem 3.3 corrected: P(|y| < delta) of y standard normal in n - m dimensions; 1 for m >= n.

    Args:
        dimensions: n.
        projections: m.
        delta: the distance below which an answer counts as right.

    The theorem assumes that x in R^n is standard normal, that A (m, n) has full rank and is known to the adversary,
    that outputs have no noise, and that distance is Euclidean over the whole of x. Given A x the rest of x is standard
    normal in the null space of A, and no ball of radius delta has more of it than the one about A^+ A x: the adversary
    that answers A^+ A x attains the number. An adversary that does not know A does no better. Raises InputError unless
    n >= 1, m >= 0 and delta > 0.
    """
    for name, value, least in (("dimensions", dimensions, 1), ("projections", projections, 0)):
        if value < least:
            raise InputError(name, value, f"{least} or more")
    left = dimensions - projections
    return 1.0 if _positive(delta) and left <= 0 else float(stats.chi(left).cdf(delta))


def linear_as_printed(dimensions: int, delta: float) -> float:
    """Compute theorem 3.3 as printed, with n - 1 dimensions whatever m is.

    The result is right for one projection, and too small for more.

    Raises InputError as `linear` does.
    """
    return linear(dimensions, 1, delta)


def permutation(values: Sequence[Hashable]) -> Fraction:
    """Compute theorem 3.4 with multiplicities: prod n_v! / n!, which is 1 / n! for distinct values.

    The theorem assumes a uniform permutation, and a prior that gives every order of `values` the same probability. The
    result is exact, because a float would be 0 from n = 178 on. Raises InputError for no values.
    """
    counts = _counted(values)
    return Fraction(math.prod(map(math.factorial, counts)), math.factorial(sum(counts)))


def permutation_under(prior: Mapping[tuple[Hashable, ...], float]) -> float:
    """Compute theorem 3.4 under a prior over vectors of one length: sum over multisets of the likeliest order in each.

    Args:
        prior: the probability of each vector, by the vector.

    The seen order says nothing about the true one, so the multiset is all that the adversary has. Raises InputError for
    probabilities that are no distribution, and for vectors of several lengths.
    """
    if len({len(vector) for vector in prior}) != 1:
        raise InputError("prior", f"{len(prior)} vectors", "one vector or more, all of one length")
    _distribution(np.array(list(prior.values()), np.float64)[None], "prior")
    best: dict[frozenset, float] = defaultdict(float)
    for vector, probability in prior.items():
        values = frozenset(Counter(vector).items())
        best[values] = max(best[values], probability)
    return sum(best.values())


def positions(values: Sequence[Hashable]) -> float:
    """Return the largest share of positions that an answer to permuted `values` can have right: max n_v / n.

    The answer names the commonest value everywhere. The assumptions are those of `permutation`; with a prior the share
    is larger. An image of which 81% is blank is 81% recovered, although epsilon is next to nothing. Raises InputError
    for no values.
    """
    counts = _counted(values)
    return max(counts) / sum(counts)


def _counted(values: Sequence[Hashable]) -> list[int]:
    counts = list(Counter(values).values())
    if not counts:
        raise InputError("values", "none", "one value or more")
    return counts


def _positive(delta: float) -> float:
    if not delta > 0:
        raise InputError("delta", delta, "a number above 0")
    return delta


def _checked(prior: np.ndarray, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    prior, channel = np.asarray(prior, np.float64), np.asarray(channel, np.float64)
    if prior.ndim != 1 or channel.ndim != 2 or len(channel) != len(prior) or not channel.size:
        found = f"a prior of shape {prior.shape} and a channel of shape {channel.shape}"
        raise InputError("channel", found, "a prior (X,) and a channel (X, T)")
    _distribution(prior[None], "prior")
    _distribution(channel, "channel")
    return prior, channel


def _distribution(rows: np.ndarray, name: str) -> None:
    if not (rows >= 0).all() or np.abs(rows.sum(axis=1) - 1).max() > SLACK:
        raise InputError(name, f"rows that sum to {rows.sum(axis=1)}", "probabilities that sum to 1")
