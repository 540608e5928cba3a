"""The check with a randomised model: do the values change if the model's weights are replaced by random ones?

    score = mean over r of Spearman over c of ( f(c; theta), f(c; theta_r) )

f(c; theta) is the value of candidate c by a method in the clear, with the trained weights theta (d + 1, k). theta_r are
normal random weights of which every column has the length of theta's. A method that explains this model gives other
values with random weights, so that the score is near 0; where it stays near 1, the values tell of the data alone. A
lower score is better here. This is the model parameter randomisation test of Adebayo et al., "Sanity Checks for
Saliency Maps" (NeurIPS 2018), for values of candidates.

A trained model and a function that values all candidates by a given model go in; one `Measured` for each method comes
out. The random range is that of the mean of as many correlations of random values. The formula has to stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from mpc_appraisal.methods.evaluation.ranks import DRAWS, middle, rank_correlation, rank_correlations
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.reporting.measured import RANDOMISED, Measured

Valued = Callable[[LinearModel], Mapping[str, Mapping[str, float]]]


def random_model(model: LinearModel, seed: int) -> LinearModel:
    """Return a model with normal random weights of which every column has the length of the model's."""
    drawn = torch.randn(model.theta.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    lengths = model.theta.norm(dim=0, keepdim=True) / drawn.norm(dim=0, keepdim=True)
    return type(model)(drawn * lengths, model.l2)


def randomised(
    model: LinearModel | None, valued: Valued, skipped: Mapping[str, str], models: int = 5, seed: int = 0
) -> list[Measured]:
    """Return the mean rank correlation of each method's values with those by random models.

    Args:
        model: The trained model; None where every method is skipped.
        valued: A function that returns the values, by method and candidate, with the model that it is given.
        skipped: Why a method has no such check, by method.
        models: The number of random models.
        seed: The seed of the random weights.
    """
    found = [Measured(RANDOMISED, method, None, note=why) for method, why in skipped.items()]
    if model is None:
        return found
    trained = valued(model)
    others = [valued(random_model(model, seed + r)) for r in range(models)]
    for method, by_name in trained.items():
        names = list(by_name)
        scores = [_agreement(by_name, other[method], names) for other in others]
        known = [score for score in scores if score is not None]
        note = f"Over {len(known)} models with random weights, in the clear."
        if not known:
            found.append(
                Measured(RANDOMISED, method, None, note="No rank correlation is defined: all values are equal.")
            )
            continue
        random = _random_range(len(names), len(known), seed)
        found.append(Measured(RANDOMISED, method, float(np.mean(known)), min(known), max(known), *random, note=note))
    return found


def _agreement(a: Mapping[str, float], b: Mapping[str, float], names: Sequence[str]) -> float | None:
    return rank_correlation([a[name] for name in names], [b[name] for name in names])


def _random_range(candidates: int, models: int, seed: int) -> tuple[float | None, float | None]:
    """Return the middle 95% of the mean of `models` rank correlations of random values."""
    generator, order = np.random.default_rng(seed), np.arange(candidates)
    drawn = rank_correlations(generator.random((DRAWS * models, candidates)), order)
    return middle(drawn.reshape(DRAWS, models).mean(1))
