"""Shapley values of the candidates; they are computed in the clear and serve experiments only.

    phi(c) = sum over S in N \\ {c} of  |S|! (m - 1 - |S|)! / m!  (v(S + c) - v(S))
           = mean over all orders of N of  v(those before c, and c) - v(those before c)

N is the set of all candidates, m is their number, c is one of them and S a set of others. v(S) is the fall of the mean
test loss by retraining on the model owner's training rows and S (`leave_one_out`). Shapley (1953) shows that this is
the one division of v(N) in which equals get the same, a candidate that adds nothing gets nothing, and the values of two
games add up.

The values are exact where 2^m - 1 retrainings are allowed. Beyond that they are sampled by truncated Monte Carlo:
Ghorbani and Zou (2019), "Data Shapley", algorithm 1. A random order is walked from the front, and each next candidate
is credited with what it adds. Once v(N) and v of the candidates before differ by less than truncation times the size of
v(N), the rest of the order is credited with 0. The value is the mean of the credits over T orders, and its standard
error is their standard deviation divided by sqrt(T). Truncation is a bias that the standard error does not show:
together the values miss v(N) by less than truncation times its size, but a single value can miss by more, where what a
candidate adds depends on which others are there.

Defaults may change. The order in which random numbers are drawn has to stay, so that a seed gives the same values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.baselines.leave_one_out import Emit, Game, Valuation


@dataclass(frozen=True)
class Shapley:
    """Value each candidate at its Shapley value, exact or sampled.

    Attributes:
        retrainings: The most retrainings to make; the default is exact up to ten candidates. A retraining on 6,000 rows
            of 784 features takes seconds, so state a smaller number for large data. There are at most as many orders.
        truncation: The share of the size of v(N) at which an order is cut off; 0 for no truncation.
        seed: The seed of the random orders.

    Raises InputError for an attribute out of range.
    """

    retrainings: int = 1023
    truncation: float = 0.01
    seed: int = 0

    name: ClassVar[str] = "shapley"

    def __post_init__(self) -> None:
        for key, least in (("retrainings", 1), ("seed", 0)):
            integer(f"baselines.{key}", getattr(self, key), least)
        number("baselines.truncation", self.truncation, "a number, 0 or more and below 1", least=0, below=1)

    def values(self, game: Game, emit: Emit = lambda event: None) -> Valuation:
        """Compute one value for each player.

        emit: receives {"done", "of", "method", "candidate"} after each retraining or order. Raises InputError where the
        allowed retrainings are fewer than 2 m - 1, which two orders take.
        """
        m = len(game.names)
        if m < 64 and 2**m - 1 <= self.retrainings:
            return self._exact(game, emit)
        if self.retrainings < 2 * m - 1:
            expected = f"{2 * m - 1} or more for {m} candidates: two random orders, or a standard error is unknown"
            raise InputError("baselines.retrainings", self.retrainings, expected)
        return self._sampled(game, emit)

    def _exact(self, game: Game, emit: Emit) -> Valuation:
        m, before = len(game.names), game.retrainings
        for k in range(1, 2**m):  # in Gray's order neighbours differ by one player, so that each refit starts close
            game.value(_members(k ^ (k >> 1)))
            name = game.names[(k & -k).bit_length() - 1]
            emit({"done": k, "of": 2**m - 1, "method": self.name, "candidate": name})
        values = dict.fromkeys(game.names, 0.0)
        for mask in range(2**m):
            members = _members(mask)
            here = game.value(members)
            for player in set(range(m)) - members:
                weight = 1 / (m * math.comb(m - 1, len(members)))
                values[game.names[player]] += weight * (game.value(members | {player}) - here)
        return Valuation(values, dict.fromkeys(values, 0.0), game.retrainings - before, exact=True)

    def _sampled(self, game: Game, emit: Emit) -> Valuation:
        m, before = len(game.names), game.retrainings
        orders = np.random.Generator(np.random.PCG64(self.seed))
        everybody = game.value(range(m))
        near, credits = self.truncation * abs(everybody), []
        while len(credits) < self.retrainings and game.retrainings - before + m - 1 <= self.retrainings:
            credit, members, here = np.zeros(m), frozenset(), 0.0
            for player in orders.permutation(m).tolist():
                if abs(everybody - here) < near:
                    break
                members |= {player}
                there = game.value(members)
                credit[player], here = there - here, there
            credits.append(credit)
            done = min(game.retrainings - before, self.retrainings)
            emit({"done": done, "of": self.retrainings, "method": self.name, "candidate": f"order {len(credits)}"})
        table, count = np.array(credits), len(credits)
        error = table.std(axis=0, ddof=1) / math.sqrt(count)
        values, errors = (dict(zip(game.names, row.tolist(), strict=True)) for row in (table.mean(axis=0), error))
        return Valuation(values, errors, game.retrainings - before, exact=False, permutations=count)


def _members(mask: int) -> frozenset[int]:
    """Return the players whose bits are set in `mask`."""
    return frozenset(k for k in range(mask.bit_length()) if mask >> k & 1)
