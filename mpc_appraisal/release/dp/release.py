"""Differentially private release: it opens the value, or the bit, with each owner's own discrete Gaussian noise.

    released = clamp(score, low, high) + noise of the model owner + noise of the data owner,    sigma Delta each

In go the scores, which are still shared, and for the bit the model owner's threshold. Out comes the noised number or
bit at the owners that the field `to` names. These are the steps:

1. The data owner clips its rows to the public norm R, or by person where `group` names a column, and a numeric target
   to T (`clipping.clipped`). The model owner clips its influence direction to the spread that it announces
   (`NoisedRelease.announce`).
2. What the model owner announced is checked on shares, as soon as its matrices are there (`announced_norms`).
3. If a `ceiling` is stated, the score, whatever it is, is brought into a public range [low, high] on shares, exactly.
4. Delta is the sensitivity, which is how far one row, or one person, can move the number. It is the smaller of
   high - low and of what `sensitivity` derives from norms. The derived one counts in the rounding on shares, and
   nothing is truncated in a way that may fail.
5. Each owner adds its own noise of deviation sigma Delta to its share, and the sum is opened or compared with the
   threshold. The bit costs what the value would.

Methods without a derived sensitivity need a ceiling. They are charged high - low, which holds whatever the model owner
shares. Fine-tuning is one of them; with a Delta of twice the ceiling, a single value of it says little at any epsilon
that means something. Its release is a noised 0 if its weights left the bound on logits, so check by release=value on
data of your own that they do not. The proofs are in docs/protocols/releases.md. The steps, their order and the
constants are part of the proofs and may change only with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.accounting import Mechanism, epsilon
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.models.links import IDENTITY, LOGISTIC
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.session import Session
from mpc_appraisal.release.base import DECISION, RESULT, Outcome, Release, Score, bit_of, learners_of, seen
from mpc_appraisal.release.bit import LARGEST, WHAT, reaches
from mpc_appraisal.release.description import GroupBound, OpenedNumber, Privacy, ReleaseDescription
from mpc_appraisal.release.dp.clipping import ROUNDING, check_norm, check_target_norm, clip_direction, spread
from mpc_appraisal.release.dp.persons import group_bound, protects, weight
from mpc_appraisal.release.dp.rounding import opened_error, softmax_error, squared_error
from mpc_appraisal.release.dp.sensitivity import Bounds, sensitivity

NOISED = "with noise of both owners: "
HELD = 2.0**26  # numbers below this surely fit into the ring with 36 fractional bits and a sign
SMALLEST_SIGMA, LARGEST_SIGMA = 1e-3, 1e6
LARGEST_NOISE = 2.0**17  # the largest deviation of one owner's noise, in opened units; see `_largest_noise`
ACCOUNTED_BITS = 16  # the fewest fractional bits of anything that is opened; the grid of the noise is charged as theirs

ADDED = ("target_norm", "group", "group_rows", "group_norm")  # fields that the first versions did not have

# The sensitivity of these methods is derived from norms. A subclass may open another number, and is not one of them.
DERIVED = (GradientNorm, Influence)


@dataclass(frozen=True, repr=False)
class NoisedRelease(Release):
    """A noised value or bit, which is (epsilon, delta)-differentially private for one row or person of the candidate.

    Attributes:
        what: 'value' or 'bit'.
        epsilon: The privacy loss of one answer.
        delta: The probability with which the loss may be larger, below 1.
        sigma: The standard deviation of one owner's noise, in sensitivities. None takes the smallest that epsilon and
            delta allow.
        row_norm: The public norm R that rows are clipped to, the constant feature counted. It has to be chosen before
            anybody looks at the data.
        ceiling: The largest absolute value that is told apart, in units of the value. None cuts nothing off.
        spread: The spread of the influence direction. None lets the model owner announce its own.
        to: The owners that learn the answer: 'both', 'model_owner' or 'data_owner'.
        target_norm: The public bound T that targets which are numbers are clipped to, chosen as R is. Linear regression
            needs it, and it must be None for labels.
        group: The name of the data owner's column that says which person a row is of; it is no feature. All rows of one
            person together are then protected. None protects single rows.
        group_rows: The largest number N of rows of one person, which `group` needs.
        group_norm: The bound B on the summed norms of one person's rows, above N and at most N R. None takes N R, which
            cuts no row shorter than R does.

    Raises:
        InputError: A field is missing or outside its range.
    """

    what: str = "value"
    epsilon: float = 1.0
    delta: float = 1e-6
    sigma: float | None = None
    row_norm: float | None = None
    ceiling: float | None = None
    spread: float | None = None
    to: str = "both"
    target_norm: float | None = None
    group: str | None = None
    group_rows: int | None = None
    group_norm: float | None = None

    def __repr__(self) -> str:
        # Digests of questions hold this text; without the fields of ADDED it is that of the versions without them.
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        stated = (f"{key}={value!r}" for key, value in known.items() if value is not None or key not in ADDED)
        return f"{type(self).__qualname__}({', '.join(stated)})"

    def __post_init__(self) -> None:
        if self.what not in ("value", "bit"):
            raise InputError("what", repr(self.what), "value or bit")
        for key in ("epsilon", "delta", "sigma", "ceiling", "spread"):
            value = getattr(self, key)
            if value is not None or key not in ("sigma", "ceiling", "spread"):
                number(key, value, above=0)
        if self.delta >= 1:
            raise InputError("delta", self.delta, "a number below 1")
        if self.row_norm is None:
            raise InputError(
                "row_norm",
                None,
                "a public norm, above 1, that rows are clipped to, the constant feature 1 counted; one that is taken "
                "from the data would tell of the data",
            )
        check_norm(self.row_norm, "row_norm")
        if self.target_norm is not None:
            check_target_norm(self.target_norm, "target_norm")
        self._group  # noqa: B018  which raises
        if self.sigma is None:
            object.__setattr__(self, "sigma", smallest_sigma(float(self.epsilon), float(self.delta)))
        learners_of(self.to)

    @property
    def _group(self) -> GroupBound | None:
        """The bounds on one person's rows; None where single rows are protected."""
        return group_bound(self.group, self.group_rows, self.group_norm, self.row_norm)

    @property
    def description(self):
        learners = learners_of(self.to)
        if self.what == "bit":
            opened = OpenedNumber(WHAT, DECISION)
            what = (
                "One bit for each candidate and method, whether its noised value reaches a threshold that the model "
                "owner alone knows,"
            )
        else:
            opened = OpenedNumber(NOISED + "{opens}", RESULT)
            what = "The value of each candidate by each method, with noise of both owners,"
        return ReleaseDescription(
            kind="dp",
            learners=learners,
            words=f"{what} is told to {' and '.join(learners)}.",
            opened=(opened,),
            threshold=self.what == "bit",
            row_norm=self.row_norm,
            target_norm=self.target_norm,
            spread=self.spread,
            checked=DERIVED,
            group=self._group,
        )

    def fitted(self, methods, candidates=None, prices=None):
        super().fitted(methods)
        for method in methods:
            if method.without_noise:
                expected = f"release=value, bit or best: {method.without_noise}"
                raise InputError("release", f"dp of {method.name}", expected)
            if type(method) not in DERIVED and self.ceiling is None:
                raise InputError(
                    "release.ceiling",
                    None,
                    f"the largest |value| of {method.name} to be told apart, for no sensitivity of it on shares is "
                    "derived",
                )
        return self

    def announce(self, owned):
        directions = [tensors["direction"] for tensors in owned.values() if "direction" in tensors]
        if not directions:
            return super().announce(owned)
        bound, published = self.spread, {}
        if bound is None:  # twice the room that rounding needs, so that `clip_direction` does not shrink it
            bound = max(_up(spread(d) + 4 * math.sqrt(len(d)) * ROUNDING) for d in directions)
            published = {"spread": bound}
        clipped = {
            method: {
                key: clip_direction(values, bound) if key == "direction" else values for key, values in tensors.items()
            }
            for method, tensors in owned.items()
        }
        return clipped, published

    # -- noise -----------------------------------------------------------------------------------------------------
    def range_of(self, method: Appraiser, facts: Facts) -> tuple[float, float] | None:
        """Return the range that the opened number is brought into. None stands for no range, as there is no ceiling.

        Raises InputError for a ceiling whose opened number is too large.
        """
        if self.ceiling is None:
            return None
        ends = [method.opened_at(value, facts) for value in (-self.ceiling, self.ceiling)]
        if isinstance(method, GradientNorm):  # its square is at most 2^18
            return 0.0, min(max(ends), LARGEST)
        if max(map(abs, ends)) > LARGEST:
            raise InputError("release.ceiling", self.ceiling, f"{method.name} of at most {LARGEST:g} when it is opened")
        return min(ends), max(ends)

    def sensitivity(self, method: Appraiser, facts: Facts) -> float:
        """Return the sensitivity Delta of the number that noise is added to, with the rounding on shares counted in."""
        limits, found = self.range_of(method, facts), []
        if limits is not None:
            found.append(limits[1] - limits[0])
        if type(method) in DERIVED:
            bounds = self._bounds(facts)
            off, ceiling, held = self._opened_error(method, facts, bounds), None, True
            if isinstance(method, GradientNorm):
                ceiling = limits[1] if limits else None
            elif limits is not None:
                # If a sum may wrap, neighbours may be at the two ends of the range, and only the range counts.
                term = self.row_norm * bounds.direction_spread * (1 + bounds.softmax_error)
                if facts.loss is IDENTITY:
                    term = bounds.row_gradient(IDENTITY) * bounds.direction_spread
                held = facts.rows * term + off < HELD
            if held:
                found.append(sensitivity(method, facts, replace(bounds, ceiling=ceiling, opened_error=off)))
        return min(found)

    def _bounds(self, facts: Facts) -> Bounds:
        """Return what is public and true of every candidate, without what is cut after rows are summed."""
        known = {"direction_spread": self.spread or facts.spread, "group_weight": weight(self._group, self.row_norm)}
        if facts.loss is IDENTITY:  # the check on shares lets no longer weights pass
            known |= {"target_norm": self.target_norm, "weight_norm": facts.logit_bound / self.row_norm}
            return Bounds(self.row_norm, **known)
        halved = facts.loss is LOGISTIC
        error = softmax_error(2 if halved else facts.classes, facts.logit_bound)
        return Bounds(self.row_norm, softmax_error=error, **known)

    def _opened_error(self, method: Appraiser, facts: Facts, bounds: Bounds) -> float:
        """Return the bound on what rounding after the rows' terms changes of the opened number."""
        if facts.loss is IDENTITY:
            return squared_error(method, facts, bounds)
        if isinstance(method, GradientNorm):
            return opened_error(method, facts, method.scale(facts) * bounds.row_gradient(facts.loss))
        return opened_error(method, facts, 0.0, bounds.direction_spread)

    def mechanism(self, method: Appraiser, facts: Facts) -> Mechanism:
        """Return the mechanism as it is charged, with a grid that is as coarse as 16 fractional bits.

        Raises InputError for noise that the ring cannot hold, or that is too little for the grid.
        """
        delta = self.sensitivity(method, facts)
        largest = self._largest_noise(method)
        if self.sigma * delta > largest:
            raise InputError(
                "release.ceiling" if self.ceiling is not None else "release.sigma",
                f"{self.ceiling or self.sigma:g}, for which {method.name} takes noise of {self.sigma * delta:.3g}",
                f"noise of at most {largest:g}, which the ring holds: a smaller ceiling or a larger epsilon",
            )
        grid = 2.0**-ACCOUNTED_BITS / delta
        if self.sigma < 3 * grid:
            raise InputError("release.sigma", self.sigma, f"{3 * grid:g} or more, three units of what is opened")
        return Mechanism("discrete_gaussian", sigma=self.sigma, step=grid)

    def _largest_noise(self, method: Appraiser) -> float:
        """Return the largest deviation of one owner's noise that an opening hardly ever refuses as implausible.

        An opening refuses numbers from 2^55 units on. That is 2^21 at 34 fractional bits, and 2^19 at the 36 bits of a
        squared norm, which is up to 2^18 itself. The noise of both owners exceeds what is left with a probability below
        1e-7. Before a comparison the number is not opened, and only the ring has to hold it.
        """
        if self.what == "bit":
            return 2 * LARGEST_NOISE
        return LARGEST_NOISE / 4 if isinstance(method, GradientNorm) else LARGEST_NOISE

    def privacy(self, method, facts):
        mechanism = self.mechanism(method, facts)
        return Privacy(
            mechanism=mechanism,
            sigma=self.sigma,
            sensitivity=self.sensitivity(method, facts),
            epsilon=epsilon([mechanism], self.delta),
            delta=float(self.delta),
            row_norm=float(self.row_norm),
            protects=protects(self._group, self.row_norm),
            target_norm=None if self.target_norm is None else float(self.target_norm),
        )

    # -- on shares -------------------------------------------------------------------------------------------------
    def open(self, session, scores, threshold=None):
        return [self._open_one(session, score, threshold) for score in scores]

    def _open_one(self, session: Session, score: Score, threshold: Callable[[], float] | None) -> Outcome:
        method, facts, value = score.method, score.facts, score.score.reshape(1)
        delta, learners = self.sensitivity(method, facts), learners_of(self.to)
        within = session.within_bound()
        if within is not None:
            value = ops.choose(within, value)
        limits = self.range_of(method, facts)
        if limits is not None:
            value = clamp(value, *limits)
        value = session.perturb(value, lambda bits: self._draw(delta, bits))
        spent = {"sigma": self.sigma, "sensitivity": delta, "deviation": math.sqrt(2.0) * self.sigma * delta}
        shown = seen(session, learners)
        if self.what == "bit":
            bit = session.reveal(reaches(session, score, value, threshold), WHAT, DECISION, learners)
            return Outcome(decision=bit_of(bit) if shown else None, **spent)
        opened = session.reveal(value, NOISED + method.opens, RESULT, learners)
        return Outcome(float(opened) if shown else None, **spent)

    def _draw(self, delta: float, bits: int) -> int:
        """Draw this owner's noise for a number of `bits` fractional bits. Raises InputError for too few of them."""
        from mpc_appraisal.release.dp.noise import noise  # the import of its library takes a moment

        if bits < ACCOUNTED_BITS:
            raise InputError("release", f"{bits} fractional bits", f"{ACCOUNTED_BITS} or more of what is noised")
        return noise(self.sigma, delta, bits)


def clamp(value: Any, low: float, high: float) -> Any:
    """Bring `value` between two public numbers, on plain tensors or on shares.

        v <- v + [v - low < 0] (low - v),    v <- v + [high - v < 0] (high - v)

    v is the value, and [...] is 1 if the condition holds, otherwise 0. With the exact bits of a comparison on shares,
    modulo 2^64, this holds for any ring element.
    """
    value = value + ops.choose(ops.negative(value - low), _less(low, value))
    return value + ops.choose(ops.negative(_less(high, value)), _less(high, value))


def _less(public: float, value: Any) -> Any:
    """Return public - value."""
    return value * -1.0 + public


def _up(number: float) -> float:
    """Return the number rounded up to four bits."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(math.ceil(mantissa * 16) / 16, exponent)


@lru_cache(maxsize=64)
def smallest_sigma(target: float, delta: float) -> float:
    """Return the smallest sigma, to four digits and rounded up, for which one release costs at most `target`.

    Sigma is one owner's noise in sensitivities, and `target` an epsilon at this `delta`. The function seeks sigma on
    the Gaussian's exact curve (Balle and Wang 2018, theorem 8), and then raises it until the accountant charges no more
    than `target`. Raises InputError if no sigma up to LARGEST_SIGMA is enough.
    """
    from scipy.optimize import brentq

    def excess(log_sigma: float) -> float:
        return _delta_of(math.exp(log_sigma), target) - delta

    ends = math.log(SMALLEST_SIGMA), math.log(LARGEST_SIGMA)
    if excess(ends[1]) > 0:
        raise InputError("epsilon", target, f"one that noise of sigma {LARGEST_SIGMA:g} can give")
    found = SMALLEST_SIGMA if excess(ends[0]) <= 0 else math.exp(brentq(excess, *ends, xtol=1e-12))

    def fits(sigma: float) -> bool:
        return epsilon([Mechanism("gaussian", sigma=sigma)], delta) <= target

    found = low = _four_digits(found * 1.0001)  # the grid of the discrete noise is charged as a little less
    while not fits(found):  # the accountant's grid of losses may be coarse beside a small target
        low, found = found, _four_digits(2 * found)
    while low < (middle := _four_digits((low + found) / 2)) < found:
        low, found = (low, middle) if fits(middle) else (middle, found)
    return found


def _four_digits(number: float) -> float:
    """Return the number rounded up to four digits."""
    digits = 3 - math.floor(math.log10(number))
    return float(f"{math.ceil(number * 10.0**digits) * 10.0**-digits:.4g}")


def _delta_of(sigma: float, target: float) -> float:
    """Return the delta of one Gaussian release at epsilon = `target`."""
    from scipy.special import log_ndtr, ndtr

    return float(ndtr(0.5 / sigma - target * sigma) - math.exp(target + log_ndtr(-0.5 / sigma - target * sigma)))
