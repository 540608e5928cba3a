"""Appraisal methods, one file each, and the functions that turn names into methods.

A method is the formula by which a candidate, a data set that the data owner offers, gets its value for the model owner.
In go the names or objects that a user states. Out come tuples of methods: `as_methods` for the private ones, and
`as_baselines` for those that are computed in the clear and serve comparisons.

A new method is a file beside the others and one entry in METHODS; `base` says what a method must state. A method of
another package is found by its entry point; see `installed`. The names in METHODS have to stay, because configurations,
records and ledgers hold them. A class that moves to another file keeps its stable name (`common.stable_names`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.base import Appraiser, Facts, plaintext, plaintext_of, scaled
from mpc_appraisal.methods.baselines.leave_one_out import Coalitions, Game, LeaveOneOut, Valuation
from mpc_appraisal.methods.baselines.random import Random
from mpc_appraisal.methods.baselines.retraining import Retraining
from mpc_appraisal.methods.baselines.shapley import Shapley
from mpc_appraisal.methods.finetuning import Finetuning
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.methods.influence_error import InfluenceError
from mpc_appraisal.methods.installed import installed_method, installed_names
from mpc_appraisal.methods.mlp_finetuning import MlpFinetuning
from mpc_appraisal.methods.relevance import Diversity, Relevance

__all__ = [
    "ALL",
    "METHODS",
    "BASELINE_METHODS",
    "Appraiser",
    "Coalitions",
    "Diversity",
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
    "Relevance",
    "Retraining",
    "Shapley",
    "Valuation",
    "Baseline",
    "as_methods",
    "as_baselines",
    "method_named",
    "plaintext",
    "plaintext_of",
    "scaled",
]

ALL: tuple[type[Appraiser], ...] = (GradientNorm, Finetuning, Influence)  # the paper's methods, which "all" means
OTHERS: tuple[type[Appraiser], ...] = (InfluenceError, MlpFinetuning, Relevance, Diversity)
METHODS: dict[str, type[Appraiser]] = {method.name: method for method in (*ALL, *OTHERS)}
Baseline = LeaveOneOut | Shapley  # computed in the clear, from all candidates together
BASELINE_METHODS: dict[str, type[Baseline]] = {LeaveOneOut.name: LeaveOneOut, Shapley.name: Shapley}


class Methods:
    """Hold several methods for one run: Methods(influence=Influence(), finetuning=Finetuning(steps=4)).

    The names of the arguments serve error messages only. Iterating gives the methods in order. Raises InputError for no
    method, and for an argument that is no method.
    """

    def __init__(self, **appraisers: Appraiser):
        if not appraisers:
            raise InputError("appraisal", "no method", f"one or more of {', '.join(METHODS)}")
        for name, appraiser in appraisers.items():
            if not isinstance(appraiser, Appraiser):
                raise InputError(name, appraiser, "an appraisal method")
        self._appraisers = tuple(appraisers.values())

    def __iter__(self) -> Iterator[Appraiser]:
        return iter(self._appraisers)

    def __len__(self) -> int:
        return len(self._appraisers)


def as_methods(methods: str | Appraiser | Iterable[str | Appraiser]) -> tuple[Appraiser, ...]:
    """Return a tuple of methods, from one method, from several, or from their names.

    The name "all" stands for the paper's three methods, each with its defaults.

    Raises InputError for an unknown name, for no method, for two methods of the same name, whose results could not be
    distinguished, and for an `Influence` beside an `InfluenceError` with other damping or another metric.
    """
    items = [methods] if isinstance(methods, (str, Appraiser)) else list(methods)
    found: list[Appraiser] = []
    for item in items:
        if isinstance(item, Appraiser):
            found.append(item)
        elif item == "all":
            found += [method() for method in ALL]
        elif isinstance(item, str) and (method := method_named(item)) is not None:
            found.append(_with_defaults(method))
        else:
            raise InputError("appraisal", item, f"one of {', '.join([*METHODS, *installed_names()])}, or all")
    names = [method.name for method in found]
    if not names or len(set(names)) < len(names):
        raise InputError("appraisal", names, "one method or more, each once")
    by_name = dict(zip(names, found, strict=True))
    value, error = by_name.get(Influence.name), by_name.get(InfluenceError.name)
    if value is not None and error is not None and value.damping != error.damping:
        expected = f"{value.damping}, that of the influence beside it"
        raise InputError("appraisal.influence_error.damping", error.damping, expected)
    if value is not None and error is not None and value.measure != error.measure:
        expected = f"{value.metric} with its settings, the metric of the influence beside it"
        raise InputError("appraisal.influence_error.metric", error.metric, expected)
    return tuple(found)


def method_named(name: str) -> type[Appraiser] | None:
    """Return the method of this name, of this package or else of an installed one; None where there is none.

    Raises InputError where an installed package offers something else than a method of this name.
    """
    return METHODS.get(name) or installed_method(name)


def _with_defaults(method: type[Appraiser]) -> Appraiser:
    try:
        return method()
    except TypeError as error:
        raise InputError("appraisal", method.name, f"an object, since the class has no defaults: {error}") from error


def as_baselines(wanted: Collection[str | Baseline], seed: int = 0) -> tuple[Baseline, ...]:
    """Return a tuple of the plaintext baselines that value candidates together, from names or objects.

    Args:
        wanted: Names in BASELINE_METHODS, objects, or one name.
        seed: The seed of the random orders of a `Shapley` that is given by name.

    Raises InputError for an unknown name, and for a baseline that occurs twice.
    """
    if isinstance(wanted, str):
        wanted = [wanted]
    named = {"leave_one_out": LeaveOneOut(), "shapley": Shapley(seed=seed)}
    found = tuple(named.get(one, one) if isinstance(one, str) else one for one in wanted)
    names = [one.name if isinstance(one, Baseline) else None for one in found]
    if None in names or len(set(names)) < len(names):
        raise InputError("baselines", list(wanted), f"{' and '.join(BASELINE_METHODS)}, each at most once")
    return found
