"""Epsilon at a given delta of many releases together, by dp-accounting's privacy loss distributions (PLD).

In go mechanisms and delta; out comes an upper bound on epsilon. Epsilon and delta are the parameters of differential
privacy (DP). A release is one value that was opened, and `Mechanism` states how it was noised; `epsilon` composes
mechanisms. Privacy loss distributions are those of Koskela, Jalko and Honkela (2020) and Doroshenko et al. (2022);
dp-accounting rounds every loss up, which gives an upper bound. A new kind of noise needs a name in `KINDS`, its fields
in `Mechanism`, and its loss in `epsilon`. The result has to stay an upper bound, and old mechanisms have to stay
readable, because ledgers hold them.

**Gaussian.** A release with noise sigma (in units of the value's sensitivity) is 1/sigma-GDP. Gaussian releases compose
exactly to one of mu^2 = sum of 1/sigma^2, also when each sigma depends on earlier answers (Smith and Thakurta 2022).

**Pure.** A release of epsilon-DP is dominated by randomised response of the same epsilon. Where pure releases take
part, the composition holds for noise that a policy fixed beforehand, not for noise that depends on earlier answers.

**Discrete Gaussian.** On a grid of the stated step (in units of the sensitivity) a release is charged as a Gaussian of
variance sigma^2 - (1.5 step)^2, plus `SLACK`. docs/protocols/releases.md shows why that is sound.

Each owner adds noise of its own to its share and knows it. Against the other owner only one owner's noise counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mpc_appraisal.common.checks import number, one_of
from mpc_appraisal.common.errors import InputError

KINDS = ("plain", "pure", "gaussian", "discrete_gaussian")
ROUNDING = 1.5  # the width, in steps, of the random rounding by which a discrete Gaussian is charged
SLACK = 1e-9  # added to epsilon where discrete releases take part; it is enough for 10^7 of them
LARGE = 1e4  # an epsilon beyond which the closed bound is good enough


@dataclass(frozen=True)
class Mechanism:
    """How one value was noised.

    Attributes:
        kind: one of `KINDS`; 'plain' means that there is no noise.
        epsilon: the epsilon of a pure release.
        sigma: the standard deviation of a Gaussian or discrete Gaussian release, in units of the value's sensitivity.
        step: the spacing of a discrete Gaussian's grid, in units of the sensitivity; sigma must be 3 steps or more.

    Raises InputError for a field that is missing, for a field that the kind does not have, and for a number out of
    range.
    """

    kind: str = "plain"
    epsilon: float | None = None
    sigma: float | None = None
    step: float | None = None

    def __post_init__(self) -> None:
        one_of("mechanism.kind", self.kind, KINDS)
        needed = {"pure": {"epsilon"}, "gaussian": {"sigma"}, "discrete_gaussian": {"sigma", "step"}}
        for key in ("epsilon", "sigma", "step"):
            value = getattr(self, key)
            if key not in needed.get(self.kind, set()):
                if value is not None:
                    raise InputError(f"mechanism.{key}", value, f"nothing, for the kind {self.kind}")
                continue
            object.__setattr__(self, key, number(f"mechanism.{key}", value, above=0))
        if self.kind == "discrete_gaussian" and self.sigma < 3 * self.step:
            raise InputError("mechanism.sigma", self.sigma, f"3 steps of the grid or more: {3 * self.step:g}")

    @property
    def plain(self) -> bool:
        """Return whether the value was released without noise."""
        return self.kind == "plain"

    @property
    def gaussian_sigma(self) -> float | None:
        """Return the sigma of the continuous Gaussian that is charged; None for a mechanism of another kind."""
        return None if self.sigma is None else math.sqrt(self.sigma**2 - (ROUNDING * (self.step or 0.0)) ** 2)


def warm_up() -> None:
    """Import the accountant, which takes seconds, before a lock is taken."""
    import dp_accounting.pld.privacy_loss_distribution  # noqa: F401


def epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Return an upper bound on the epsilon at `delta` of all releases together.

    The bound is infinite when one of the releases is plain, and 0 when there is none.
    """
    mechanisms = list(mechanisms)
    if any(m.plain for m in mechanisms):
        return math.inf
    if not mechanisms:
        return 0.0
    square = math.fsum((1 / m.gaussian_sigma) ** 2 for m in mechanisms if m.gaussian_sigma is not None)  # mu^2
    pure = Counter(m.epsilon for m in mechanisms if m.epsilon is not None)
    slack = SLACK * any(m.kind == "discrete_gaussian" for m in mechanisms)
    # rho-zCDP with rho = mu^2 / 2 (Bun and Steinke 2016, proposition 1.3), and the sum of the pure ones on top
    closed = square / 2 + math.sqrt(2 * square * math.log(1 / delta)) + math.fsum(e * k for e, k in pure.items())
    if closed > LARGE:
        return closed + slack
    return min(closed, _by_losses(square, pure, delta, 1e-5 * max(closed, 10.0))) + slack


def _by_losses(square: float, pure: Counter, delta: float, interval: float) -> float:
    """Compute epsilon by composing privacy loss distributions.

    Args:
        square: mu^2 of all Gaussian releases together.
        pure: how many pure releases there are, by their epsilon.
        delta: the delta at which epsilon is wanted.
        interval: the width of the accountant's grid of losses.
    """
    from dp_accounting.pld import privacy_loss_distribution as losses
    from dp_accounting.pld.common import DifferentialPrivacyParameters

    total = losses.identity(value_discretization_interval=interval)
    if square:
        total = losses.from_gaussian_mechanism(1 / math.sqrt(square), value_discretization_interval=interval)
    for value, count in pure.items():
        one = losses.from_privacy_parameters(
            DifferentialPrivacyParameters(value, 0.0), value_discretization_interval=interval
        )
        total = total.compose(one.self_compose(count))
    return float(total.get_epsilon_for_delta(delta))
