"""Removal curves: what the candidates that are left are worth, while the best or the worst are removed first.

    best(k)  = v(N \\ {the k candidates of highest value})        k = 0 .. m - 1
    worst(k) = v(N \\ {the k candidates of lowest value})
    score    = mean over k = 1 .. m - 1 of ( worst(k) - best(k) )

N are all m candidates, and v(S) is the fall of the mean test loss by retraining on the model owner's rows and the
candidates in S (`baselines.leave_one_out`). Good values make best(k) fall fast and worst(k) stay high or rise, so that
a higher score is better; values that say nothing score about 0. The curves are those of Ghorbani and Zou, "Data
Shapley" (ICML 2019), figure 3, with candidates in place of single rows.

Values of each method and a game go in; one `Measured` for each method, with both curves, comes out. Equal values are
ordered by the candidates' order. The score of random values is that of random orders. The formulas have to stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpc_appraisal.methods.baselines.leave_one_out import Game
from mpc_appraisal.methods.evaluation.ranks import middle
from mpc_appraisal.reporting.measured import REMOVAL, Measured


def curve(game: Game, order: Sequence[int]) -> list[float]:
    """Return v(N without the first k players of `order`) for k = 0 .. m - 1."""
    return [game.value(frozenset(order[k:])) for k in range(len(order))]


def removal(values: Mapping[str, Mapping[str, float]], game: Game, orders: int = 8, seed: int = 0) -> list[Measured]:
    """Return the removal curves and the score of each method.

    Args:
        values: The value of each candidate, by method and by the candidate's name in `game`.
        game: The candidates, and what sets of them are worth. m candidates take up to 2 (m - 1) retrainings a method.
        orders: The number of random orders; each takes up to 2 (m - 1) retrainings.
        seed: The seed of the random orders.
    """
    m = len(game.names)
    if m < 2:
        note = "A single candidate has no order of removal."
        return [Measured(REMOVAL, method, None, note=note) for method in values]
    generator, scores = np.random.default_rng(seed), []
    for _ in range(orders):
        order = generator.permutation(m).tolist()
        score = _score(curve(game, order), curve(game, order[::-1]))
        scores += [score, -score]  # the reverse of a random order is one too
    found = []
    for method, by_name in values.items():
        order = sorted(range(m), key=lambda k: -by_name[game.names[k]])
        best, worst = curve(game, order), curve(game, order[::-1])
        note = (
            f"The fall of the mean test loss by the candidates left, worst removed first less best removed first, mean "
            f"over 1 to {m - 1} removed; the random range is that of {orders} random orders and their reverses."
        )
        curves = {"best first": best, "worst first": worst}
        found.append(Measured(REMOVAL, method, _score(best, worst), None, None, *middle(scores), curves, note))
    return found


def _score(best: Sequence[float], worst: Sequence[float]) -> float:
    return float(np.mean(np.subtract(worst[1:], best[1:])))
