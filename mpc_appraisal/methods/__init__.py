"""Appraisal methods, one file each, and the functions that turn names into methods.

A new method is a file beside the others and one entry in METHODS. `base` says what a method must state.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.base import Appraiser, Facts, plaintext, scaled
from mpc_appraisal.methods.baselines.leave_one_out import Coalitions, Game, LeaveOneOut, Valuation
from mpc_appraisal.methods.baselines.random import Random
from mpc_appraisal.methods.baselines.retraining import Retraining
from mpc_appraisal.methods.baselines.shapley import Shapley
from mpc_appraisal.methods.finetuning import Finetuning
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.methods.influence_error import InfluenceError
from mpc_appraisal.methods.mlp_finetuning import MlpFinetuning

__all__ = [
    "ALL",
    "METHODS",
    "BASELINE_METHODS",
    "Appraiser",
    "Coalitions",
    "Facts",
    "Finetuning",
    "Game",
    "GradientNorm",
    "Influence",
    "InfluenceError",
    "LeaveOneOut",
    "Methods",
    "MlpFinetuning",
    "Random",
    "Retraining",
    "Shapley",
    "Valuation",
    "Baseline",
    "as_methods",
    "as_baselines",
    "plaintext",
    "scaled",
]

ALL: tuple[type[Appraiser], ...] = (GradientNorm, Finetuning, Influence)  # the paper's methods, which "all" means
METHODS: dict[str, type[Appraiser]] = {method.name: method for method in (*ALL, InfluenceError, MlpFinetuning)}
Baseline = LeaveOneOut | Shapley  # computed in the clear, from all candidates together
BASELINE_METHODS: dict[str, type[Baseline]] = {LeaveOneOut.name: LeaveOneOut, Shapley.name: Shapley}


class Methods:
    """Several methods for one run: Methods(influence=Influence(), finetuning=Finetuning(steps=4))."""

    def __init__(self, **appraisers: Appraiser):
        if not appraisers:
            raise InputError("appraisal", "no method", f"one or more of {', '.join(METHODS)}")
        for name, appraiser in appraisers.items():
            if not isinstance(appraiser, Appraiser):
                raise InputError(f"appraisal.{name}", appraiser, "an appraisal method")
        self._appraisers = tuple(appraisers.values())

    def __iter__(self) -> Iterator[Appraiser]:
        return iter(self._appraisers)

    def __len__(self) -> int:
        return len(self._appraisers)


def as_methods(methods: str | Appraiser | Iterable[str | Appraiser]) -> tuple[Appraiser, ...]:
    """A tuple of methods, from one method, several, or their names.

    The name "all" stands for the paper's three methods, each with its defaults.

    Raises InputError for an unknown name, for no method, for two methods of one name, whose results could not be
    distinguished, and for an influence beside the error of an influence with other damping.
    """
    items = [methods] if isinstance(methods, (str, Appraiser)) else list(methods)
    found: list[Appraiser] = []
    for item in items:
        if isinstance(item, Appraiser):
            found.append(item)
        elif item == "all":
            found += [method() for method in ALL]
        elif isinstance(item, str) and item in METHODS:
            found.append(METHODS[item]())
        else:
            raise InputError("appraisal", item, f"one of {', '.join(METHODS)}, or all")
    names = [method.name for method in found]
    if not names or len(set(names)) < len(names):
        raise InputError("appraisal", names, "one method or more, each once")
    by_name = dict(zip(names, found, strict=True))
    value, error = by_name.get(Influence.name), by_name.get(InfluenceError.name)
    if value is not None and error is not None and value.damping != error.damping:
        expected = f"{value.damping}, that of the influence beside it"
        raise InputError("appraisal.influence_error.damping", error.damping, expected)
    return tuple(found)


def as_baselines(wanted: Collection[str | Baseline], seed: int = 0) -> tuple[Baseline, ...]:
    """A tuple of plaintext baselines over sets of candidates, from names or objects.

    seed: of the random orders of a `Shapley` that is given by name. Raises InputError for an unknown name, and for one
    that occurs twice.
    """
    if isinstance(wanted, str):
        wanted = [wanted]
    named = {"leave_one_out": LeaveOneOut(), "shapley": Shapley(seed=seed)}
    found = tuple(named.get(one, one) if isinstance(one, str) else one for one in wanted)
    names = [one.name if isinstance(one, Baseline) else None for one in found]
    if None in names or len(set(names)) < len(names):
        raise InputError("baselines", list(wanted), f"{' and '.join(BASELINE_METHODS)}, each at most once")
    return found
