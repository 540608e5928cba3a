"""Smooth functions of opened values, by harmonics of the dealer's mask: after the opening they take no message.

    f(s) = a_0 + sum over k of a_k cos(k w s) + b_k sin(k w s),      w = 2 pi / 2^bits,      k = 1 ... K
    cos(k w s) = cos(k w delta) cos(k w m) + sin(k w delta) sin(k w m),      and so on, for s = delta - m mod 2^bits

s is a value that has been opened as delta = s + m (see `masked`). The dealer shares the cosines and sines of k w m, so
that any f is a sum of shares with public factors. Nothing can wrap, since a circle is what the mask's ring is. The
coefficients are fitted to f on [low, high] by least squares; beyond it the sum is not f, so that the range of s has to
be certain, as digits make it (see `levels`). high is at most half a period, 2^(bits - 1).

In goes a `MaskedValue` of any shape, and a `Fit` that both owners make of public numbers. `waves` asks the dealer for
the shares of cosines and sines, and `evaluate` returns a share of f(s) from them. Several functions of one value need
its waves only once:

    waves = harmonics.waves(engine, s, fit.harmonics)                   2 K numbers of 7 bytes an element, of the dealer
    share = harmonics.evaluate(engine, s, fit, waves)                   mod 2^RING, with POINT fractional bits

`Fit.error` bounds the largest error of f with certainty, up to the rounding of the caller's own opening: fit, tables
and roundings. What the owners send each other is nothing. Coefficients and factors are integers that both owners
compute alike to the bit, from decimals, so that no rounding of one machine can make the shares disagree. The constants
below may change only together with that bound. The idea is in docs/protocols/engine.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedValue
from mpc_appraisal.mpc.ring.circle import (
    FACTOR_ERROR,
    MAX_HARMONICS,
    PHASE_BITS,
    PI,
    WAVE_BITS,
    WAVE_RING,
    circle_point,
    weighted,
)

COEFFICIENT_BITS = 25  # A coefficient has so many fractional bits, and a cosine of the dealer WAVE_BITS.
POINT = COEFFICIENT_BITS + WAVE_BITS  # f(s) is shared with so many fractional bits.
RING = WAVE_RING  # f(s) and the dealer's cosines are shared mod 2^RING, so that |f(s)| has to be below 8.
LARGEST_VALUE = 2.0 ** (RING - 1 - POINT)
DIGITS = 60  # Coefficients are computed with so many decimal digits.
SMOOTHING = Decimal("2e-8")  # A coefficient counts by this much against the fit, which keeps coefficients small.

FUNCTIONS: dict[str, Callable[[Decimal], Decimal]] = {
    "reciprocal": lambda x: 1 / x,
    "logarithm": lambda x: x.ln(),
    "inverse root": lambda x: 1 / x.sqrt(),
    "root": lambda x: x.sqrt(),
}
RELATIVE = frozenset({"reciprocal", "inverse root", "root"})  # Their errors are measured in parts of the function.


@dataclass(frozen=True)
class Fit:
    """Coefficients for one function on one public range.

    Attributes:
        name: the function, one of FUNCTIONS.
        low, high: the range of the integer s.
        bits: s is opened in a ring of so many bits.
        one: the integer s that stands for 1.
        shift: what is computed is the function divided by 2^shift.
        constant: a_0, with COEFFICIENT_BITS fractional bits, as the other coefficients.
        cosines, sines: a_k and b_k for k = 1 ... K.
    """

    name: str
    low: int
    high: int
    bits: int
    one: int
    shift: int
    constant: int
    cosines: tuple[int, ...]
    sines: tuple[int, ...]

    @property
    def harmonics(self) -> int:
        """Return K."""
        return len(self.cosines)

    def exact(self, s: np.ndarray) -> np.ndarray:
        """Return the function itself at integers s, divided by 2^shift, in float64."""
        x = s / self.one
        found = {"reciprocal": lambda: 1 / x, "logarithm": lambda: np.log(x)}
        found |= {"inverse root": lambda: x**-0.5, "root": lambda: np.sqrt(x)}
        return found[self.name]() / 2.0**self.shift

    def approximate(self, s: np.ndarray) -> np.ndarray:
        """Return the sum of harmonics at integers s, without any rounding but that of the coefficients."""
        angle, unit = 2 * np.pi * s / 2.0**self.bits, 2.0**-COEFFICIENT_BITS
        out = np.full(s.shape, self.constant * unit)
        for k, (a, b) in enumerate(zip(self.cosines, self.sines, strict=True), start=1):
            out += a * unit * np.cos(k * angle) + b * unit * np.sin(k * angle)
        return out

    def error(self) -> float:
        """Return a bound on |f(s) - function(s)| for every s in the range, relative to the function if in RELATIVE."""
        return _error(self)

    def rounding(self) -> float:
        """Return a bound on what tables, factors and the dealer's cosines add to f(s), which is absolute."""
        unit, found = 2.0**-COEFFICIENT_BITS, 0.0
        for a, b in zip(self.cosines, self.sines, strict=True):
            factor = (abs(a) + abs(b)) * unit * FACTOR_ERROR + unit
            wave = 2.0 ** -(WAVE_BITS + 1) * (1 + 1e-6)
            found += 2 * factor * (1 + wave) + math.sqrt(2) * math.hypot(a, b) * unit * wave
        return found


@lru_cache(maxsize=64)
def _error(fit: Fit) -> float:
    """Bound the error between the points of a grid by the second derivative of what is fitted there."""
    points = 1 << 16
    s = np.linspace(fit.low, fit.high, points)
    value, step = fit.exact(s), (fit.high - fit.low) / (points - 1)
    off, bend = fit.approximate(s) - value, 0.0
    for k, (a, b) in enumerate(zip(fit.cosines, fit.sines, strict=True), start=1):
        bend += math.hypot(a, b) * 2.0**-COEFFICIENT_BITS * (2 * math.pi * k / 2.0**fit.bits) ** 2
    curved = {"reciprocal": 2 / fit.low**3 * fit.one, "logarithm": 1 / fit.low**2}
    curved["inverse root"] = 0.75 * fit.low**-2.5 * fit.one**0.5
    curved["root"] = 0.25 * fit.low**-1.5 * fit.one**-0.5
    between = step**2 / 8 * (bend + curved[fit.name] / 2.0**fit.shift)
    absolute = np.abs(off) + between + fit.rounding()
    return float((absolute / np.abs(value)).max() if fit.name in RELATIVE else absolute.max()) * (1 + 1e-9) + 1e-12


def fitted(name: str, low: int, high: int, bits: int, one: int, harmonics: int) -> Fit:
    """Return the coefficients of one of FUNCTIONS of s / one, for integers s in [low, high].

    They are those of least squares on a grid that is denser at both ends, the same to the bit on every machine.

    Args:
        name: the function.
        low, high: the range of s, with 0 < low < high <= 2^(bits - 1).
        bits: the width of the ring in which s is opened, at most 24.
        one: the integer that stands for 1.
        harmonics: K, at most MAX_HARMONICS. The error shrinks by a factor of about e^(4 sqrt(low / high)) with each.

    Raises ArithmeticError: the numbers do not fit together, or the coefficients are too large for RING.
    """
    if not (0 < low < high <= 2 ** (bits - 1) and bits <= PHASE_BITS and 0 < harmonics <= MAX_HARMONICS):
        raise ArithmeticError(f"no {harmonics} harmonics for numbers from {low} to {high} in {bits} bits")
    return _fitted(name, low, high, bits, one, harmonics)


@lru_cache(maxsize=64)
def _fitted(name: str, low: int, high: int, bits: int, one: int, harmonics: int) -> Fit:
    with localcontext() as context:
        context.prec = DIGITS
        f, nodes = FUNCTIONS[name], 4 * harmonics + 4
        ends = [abs(f(Decimal(s) / one)) for s in (low, high)]
        shift = max(0, math.ceil(math.log2(float(max(ends)) / LARGEST_VALUE * 1.01)))
        rows, values = [], []
        for n in range(nodes):
            place = (1 - circle_point(PI * (2 * n + 1) / (2 * nodes))[0]) / 2
            s = low + (high - low) * place
            value = f(s / one) / (1 << shift)
            weight = 1 / value if name in RELATIVE else Decimal(1)
            turn, point, row = circle_point(2 * PI * s / (1 << bits)), (Decimal(1), Decimal(0)), [weight]
            for _ in range(harmonics):
                point = point[0] * turn[0] - point[1] * turn[1], point[1] * turn[0] + point[0] * turn[1]
                row += [weight * point[0], weight * point[1]]
            rows.append(row)
            values.append(weight * value)
        solved = _least_squares(rows, values)
        constant, *others = (int((c * (1 << COEFFICIENT_BITS)).to_integral_value()) for c in solved)
    if max(abs(c) for c in others) >= 2**31:
        raise ArithmeticError(f"the harmonics of {name} from {low} to {high} have coefficients beyond {2**31}")
    return Fit(name, low, high, bits, one, shift, constant, tuple(others[::2]), tuple(others[1::2]))


def _least_squares(rows: Sequence[Sequence[Decimal]], values: Sequence[Decimal]) -> list[Decimal]:
    """Return x that minimises the mean of (rows x - values)^2 plus (SMOOTHING |x|)^2, by elimination in decimals."""
    size, count = len(rows[0]), len(rows)
    matrix = [
        [sum((row[i] * row[j] for row in rows), Decimal(0)) / count for j in range(size)]
        + [sum((row[i] * v for row, v in zip(rows, values, strict=True)), Decimal(0)) / count]
        for i in range(size)
    ]
    for i in range(size):
        matrix[i][i] += SMOOTHING**2
    for i in range(size):  # the matrix is positive definite, so that no row has to be exchanged
        for below in matrix[i + 1 :]:
            factor = below[i] / matrix[i][i]
            for j in range(i, size + 1):
                below[j] -= factor * matrix[i][j]
    found = [Decimal(0)] * size
    for i in reversed(range(size)):
        rest = sum((matrix[i][j] * found[j] for j in range(i + 1, size)), Decimal(0))
        found[i] = (matrix[i][size] - rest) / matrix[i][i]
    return found


def waves(engine: Engine, s: MaskedValue, harmonics: int) -> torch.Tensor:
    """Return shares mod 2^RING, (2 harmonics, number of elements of s), of cosines and sines of s's mask in turn.

    The owners exchange no message; the dealer sends the model owner 7 bytes for each number.
    """
    engine.ask_dealer("waves", s.key, harmonics)
    return engine.dealer_share((2 * harmonics, s.delta.numel()), RING)


def evaluate(engine: Engine, s: MaskedValue, fit: Fit, shared: torch.Tensor) -> torch.Tensor:
    """Return a share mod 2^RING of f(s) / 2^fit.shift with POINT fractional bits, of s's shape; no message.

    `shared` are the waves of s, at least as many as the fit has.
    """
    out = weighted(s.delta, fit.bits, fit.cosines, fit.sines, shared[: 2 * fit.harmonics])
    return out + engine.public_share(torch.full_like(out, fit.constant << WAVE_BITS))
