"""The linear datamodelling score: do sums of values predict what sets of candidates are worth together?

    LDS(f) = Spearman over j of ( sum over c in S_j of f(c),  v(S_j) )

f(c) is the value that a method gives to the candidate c, and v(S) is the fall of the mean test loss by retraining on
the model owner's rows and the candidates in S together (`baselines.leave_one_out`). S_1, S_2, ... are random sets of a
fixed share of the candidates, all different. The score is 1 where the sums order the sets as retraining does. This is
the score of Park et al., "TRAK: Attributing model behavior at scale" (ICML 2023), eq. 4, for candidates in place of
single rows and the loss in place of the outputs of single test rows.

Values of each method and a game go in; one `Measured` for each method comes out. The interval is the percentile
bootstrap over the sets. The number of sets and their share may change; the formula has to stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.baselines.leave_one_out import Game
from mpc_appraisal.methods.evaluation.ranks import DRAWS, bootstrap, middle, rank_correlation, rank_correlations
from mpc_appraisal.reporting.measured import DATAMODELLING, Measured

FEWEST = 8  # so many different sets are the least for a correlation that says something


def random_sets(players: int, share: float, count: int, seed: int) -> list[frozenset[int]]:
    """Return up to `count` different sets of round(share * players) of the players 0 .. players - 1.

    There are fewer than `count` where there are not as many. Raises InputError for a share that leaves no choice.
    """
    size = round(share * players)
    if not 0 < size < players:
        raise InputError("evaluate.share", share, f"a share that leaves 1 to {players - 1} of {players} candidates")
    generator, found = np.random.default_rng(seed), {}
    wanted = min(count, math.comb(players, size))
    while len(found) < wanted:
        found[frozenset(generator.permutation(players)[:size].tolist())] = None
    return list(found)


def datamodelling(
    values: Mapping[str, Mapping[str, float]], game: Game, subsets: int = 32, share: float = 0.5, seed: int = 0
) -> list[Measured]:
    """Return the linear datamodelling score of each method.

    Args:
        values: The value of each candidate, by method and by the candidate's name in `game`.
        game: The candidates, and what sets of them are worth.
        subsets: The number of random sets; each takes one retraining.
        share: The share of the candidates that a set holds.
        seed: The seed of the sets and of the bootstrap.

    Raises InputError as `random_sets` does.
    """
    m = len(game.names)
    sets = random_sets(m, share, subsets, seed) if m > 1 else []
    if len(sets) < FEWEST:
        note = f"There are {len(sets)} different sets of candidates, and a score takes {FEWEST} or more."
        return [Measured(DATAMODELLING, method, None, note=note) for method in values]
    worth = np.array([game.value(each) for each in sets])
    inside = np.array([[k in each for k in range(m)] for each in sets], dtype=np.float64)
    generator = np.random.default_rng(seed)
    random = middle(rank_correlations(generator.random((DRAWS, m)) @ inside.T, worth))
    found = []
    for method, by_name in values.items():
        sums = inside @ np.array([by_name[name] for name in game.names])
        score = rank_correlation(sums, worth)
        low, high = bootstrap(sums, worth, seed) if score is not None else (None, None)
        size = round(share * m)
        note = f"Over {len(sets)} random sets of {size} of {m} candidates, each retrained in the clear."
        if score is None:
            note += " The sums or the sets' worths are all equal, so that there is no correlation."
        found.append(Measured(DATAMODELLING, method, score, low, high, *random, note=note))
    return found
