"""How much a study measures: the settings of a small and of a full run, from the study's sizes.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import yaml

from mpc_appraisal.data import Cifar10, DataSource, Digits, Mnist

STUDIES = Path(__file__).resolve().parents[1] / "studies"
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Size:
    """A small run measures scikit-learn's digits in minutes; a full run measures what the papers have.

    `seeds` is the number of repetitions.
    """

    study: str
    small: bool
    seeds: int

    @property
    def name(self) -> str:
        return self.pick("small", "full")

    def pick(self, small: Choice, full: Choice) -> Choice:
        """Return the setting that belongs to this size."""
        return small if self.small else full

    def settings(self, part: str) -> SimpleNamespace:
        """Return the settings of one part, as sizes.yaml of the study has them; lists become tuples."""
        known = yaml.safe_load((STUDIES / self.study / "sizes.yaml").read_text(encoding="utf-8"))
        return _named(known[part][self.name])


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _named(each) for key, each in value.items()})
    return tuple(map(_named, value)) if isinstance(value, list) else value


def source_of(name: str) -> DataSource:
    """Return the data set of that name. CIFAR-10 has planes and cars alone."""
    return {"digits": Digits, "mnist": Mnist, "cifar10": lambda: Cifar10(labels=(0, 1))}[name]()
