"""What every attack has in common when the app runs it: the view that it begins from, and what it finds.

    above chance = (recovered - chance) / (1 - chance)

recovered is the share of what is sought that the attack finds, and chance what a guess finds. In go a protocol's views;
out come findings. An attack is a frozen dataclass that derives from `Attack`, with a file in conf/attack. An attack
that begins from another view than the protocol leaves is refused by `check_fits`, which names those that fit. The keys
of a finding stand in records and have to stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.learning_record import PROTOCOL
from mpc_appraisal.reporting.recovered_images import RecoveredImages
from mpc_appraisal.transformations.strategy import LEFT_BY

ANSWERS = "what is opened"
VALUES = "which rows are offered"


@dataclass(frozen=True)
class Finding:
    """What one attack recovered.

    Attributes:
        attack: The attack in words.
        setting: What it was given.
        recovered: What it recovered, in [0, 1].
        chance: What a guess recovers, in [0, 1].
        meaning: What the two numbers count.
        stops: Where the attack stops.
        stopped: What it recovers there; None where this was not measured.
        assumed: Whether the protocol's assumptions allow the attack. Parties that collude break them.
        against: What is attacked: PROTOCOL, or ANSWERS and VALUES, which no protocol that computes them can protect.
        points: The curve behind the number: dictionaries of JSON values.
        images: Private images beside what was recovered of them, for a picture; no record holds them.
    """

    attack: str
    setting: str
    recovered: float
    chance: float
    meaning: str
    stops: str
    stopped: float | None = None
    assumed: bool = True
    against: str = PROTOCOL
    points: tuple[Mapping[str, Any], ...] = field(default=())
    images: RecoveredImages | None = field(default=None, repr=False, compare=False)

    @property
    def above(self) -> float:
        """Return 0 for no more than a guess, and 1 for all of it."""
        return above_chance(self.recovered, self.chance)

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        told = ("attack", "setting", "recovered", "chance", "meaning", "stops", "stopped", "assumed", "against")
        return {key: getattr(self, key) for key in told} | {"points": [dict(point) for point in self.points]}


def above_chance(recovered: float, chance: float) -> float:
    """Return 0 for no more than a guess, and 1 for all of it."""
    return max(0.0, (recovered - chance) / (1 - chance)) if chance < 1 else 0.0


class Attack(ABC):
    """The base of the attacks, each a frozen dataclass whose fields are keys of conf/attack.

    Attributes:
        name: The name in records and of the file in conf/attack.
        reads: The name of the view that the attack begins from; see `transformations.strategy.VIEWS`.
    """

    name: ClassVar[str]
    reads: ClassVar[str]

    def check(self) -> None:
        """Raise InputError for files that the settings name and that do not fit, before anything is computed."""

    @abstractmethod
    def measure(self, view: Any, seed: int) -> list[Finding]:
        """Attack a view, and return what was found.

        Args:
            view: The view, of the type that the protocols leave under the name `reads`.
            seed: The seed of all that is drawn.

        Raises InputError for a setting that does not fit the view.
        """


@dataclass(frozen=True)
class NoAttack:
    """The choice of no attack: what leaks is stated, and nothing of it is measured."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class EveryAttack:
    """The choice of all attacks that fit the protocol, with their default settings; there may be none."""

    name: ClassVar[str] = "all"


def attacks_on(chosen: Attack | NoAttack | EveryAttack, protocol: str, shows: tuple[str, ...],
               every: tuple[type[Attack], ...]) -> list[Attack]:  # fmt: skip
    """Return the attacks to measure on a protocol that leaves the views `shows`.

    Raises InputError, which names the protocol and the attacks that fit, for an attack that begins from another view.
    """
    if chosen.name == NoAttack.name:
        return []
    fitting = [attack for attack in every if attack.reads in shows]
    if chosen.name == EveryAttack.name:
        return [attack() for attack in fitting]
    if chosen.reads not in shows:
        names = ", ".join([NoAttack.name, EveryAttack.name, *(attack.name for attack in fitting)])
        fits = LEFT_BY[chosen.reads]
        raise InputError("attack", chosen.name, f"one that fits protocol={protocol}: {names}; this one fits {fits}")
    return [chosen]
