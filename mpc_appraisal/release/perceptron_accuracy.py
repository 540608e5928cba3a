"""A bound on what fixed point adds to the value of `mlp_finetuning`, from public facts and however units switch.

    |value - value in float64| <= (2 + sqrt 2) t + what the losses are off by
    t = R m_W q + sqrt(R^2 a^2 + 1) m_q

In go the method's settings, the public facts and the engine's errors (`Rounded`); out comes the bound. R is the norm of
the longest row, its rounding counted. a bounds the norm of the hidden weights W at the start of training, and q that of
the output weights V and biases b together, at its end. m_W and m_q bound how far training moves W and (V, b).

A unit whose input is near zero may be on in one run and off in the other, and public facts do not say how many such
units there are. So the bound does not follow the distance of the two trainings. It follows how far each of them is from
their common start: `start` gives bounds on the weights W and (V, b), `step` moves these bounds by one step of training,
and t bounds how far the logits of a test row move. `perceptron_bound` puts these together. The proof, in the same
letters, is in docs/protocols/perceptron_bound.md; no constant and no formula here may change without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from mpc_appraisal.methods.base import Facts
from mpc_appraisal.methods.mlp_finetuning import PRETRAINING_RATE, MlpFinetuning
from mpc_appraisal.mpc.protocols.softmax_plan import LOGIT_RANGE
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS

UNIT = 2.0**-PRECISION_BITS  # the unit of weights and of hidden values, and the largest error of one truncation
HELD = 2.0**62  # a number must stay below this to be truncated to a unit
ROW_BITS, LOSS_BITS = 20, 18  # the most fractional bits of rows in products, and of logarithms
COUNTED = 1 << 20  # this many steps of the model owner's own training are added up one by one
SLACK = 1.01  # the room for products of roundings, and for the rounding of float64
LOOSE = (
    "The bound is loose: a unit of the network may switch by an error of any size, so this is how far public facts let "
    "training move the loss, or what the ring holds. Errors that were measured are far smaller; see the method's page."
)
BEYOND = "No bound: public facts let this many steps at this rate move the weights beyond what a float holds."


@dataclass(frozen=True)
class Rounded:
    """The largest errors of the engine.

    Attributes:
        row: The norm of the rounding of one row of inputs.
        softmax: The norm of the error of one row's probabilities.
        loss: The error of one row's loss, for given logits.
        unit: The error of the opened sum of losses.
        opened: The largest number that may be opened.
    """

    row: float
    softmax: float
    loss: float
    unit: float
    opened: float


@dataclass(frozen=True)
class Reach:
    """Bounds on the weights after some steps of training. Norms are Euclidean, over all entries.

    Attributes:
        hidden: The bound on the norm of W.
        output: The bound on the norm of (V, b).
        bias: The bound on the norm of b.
        hidden_moved: The bound on how far W is from its start.
        output_moved: The bound on how far (V, b) is from its start.
    """

    hidden: float
    output: float
    bias: float
    hidden_moved: float
    output_moved: float


def perceptron_bound(method: MlpFinetuning, facts: Facts, off: Rounded) -> float:
    """Return the bound on the error of a value, in units of the value.

    Args:
        method: The method, with its numbers of units and steps, its rate and its seed.
        facts: The public facts, with the norms that the owners announced.
        off: The engine's errors.

    The bound is infinite only if float64 holds no bound on the weights.
    """
    reach = start(method, facts)
    first, fits = reach, _fits(method, facts, off, reach)
    for _ in range(method.steps):
        reach = step(method, facts, off, reach)
        if not all(map(math.isfinite, vars(reach).values())):
            return math.inf
        fits = fits and _fits(method, facts, off, reach)
    moved = SLACK * _logits_moved(method, facts, off, first, reach)
    if not fits:  # anything that the ring holds may be opened, but the value in the clear is still near 0
        return off.opened / facts.test_rows + math.sqrt(2) * moved
    return (2 + math.sqrt(2)) * moved + 2 * off.loss + off.unit / facts.test_rows


def start(method: MlpFinetuning, facts: Facts) -> Reach:
    """Return the bounds after the model owner's own training, on the weights as they are shared.

    The initial weights are public, because the seed is.
    """
    d, h, c = facts.features + 1, method.hidden, facts.classes
    hidden, output = _initial(method.seed, d, h, c)
    each, rounded = adam_reach(method.pretraining), UNIT / 2
    counts = [math.sqrt(count) for count in (d * h, (h + 1) * c, c)]
    norms = [norm + (each + rounded) * count for norm, count in zip((hidden, output, 0.0), counts, strict=True)]
    return Reach(*norms, rounded * counts[0], rounded * counts[1])


@lru_cache(maxsize=64)
def _initial(seed: int, d: int, h: int, c: int) -> tuple[float, float]:
    """Return the norms of W (d, h) and V (h, c) before any training, where d counts the constant feature."""
    nothing = torch.zeros(0, d, dtype=torch.float64), torch.zeros(0, c, dtype=torch.float64)
    hidden, output, _ = MlpFinetuning(hidden=h, seed=seed, pretraining=0).pretrained(*nothing, 0.0)
    return float(hidden.norm()), float(output.norm())


@lru_cache(maxsize=64)
def adam_reach(steps: int) -> float:
    """Return how far Adam moves a weight in `steps` steps, whatever the gradients g_i of these steps are.

    A step moves the weight by the rate times m / sqrt v, where m = sum a_i g_i and v = sum b_i g_i^2, both with Adam's
    corrections for their start. By Cauchy-Schwarz the size of m / sqrt v is at most sqrt(sum a_i^2 / b_i).
    """
    first, second = 0.9, 0.999  # the defaults of torch.optim.Adam
    t = np.arange(1, min(steps, COUNTED) + 1)
    ratio = first**2 / second
    ends = (1 - second**t) * (1 - ratio**t) / (1 - ratio) / (1 - second)
    total = float(((1 - first) / (1 - first**t) * np.sqrt(ends)).sum())
    rest = (1 - first) / (1 - first**COUNTED) / math.sqrt((1 - ratio) * (1 - second))
    return PRETRAINING_RATE * (total + max(0, steps - COUNTED) * rest)


def _gradients(facts: Facts, off: Rounded, reach: Reach) -> tuple[float, float, float]:
    """Return the bounds D on the norm of p - y, g_W on that of the gradient of W, and g_q on that of (V, b)'s."""
    row, tail = facts.longest + off.row, math.sqrt(2) + off.softmax
    return tail, tail * row * reach.output, tail * math.hypot(row * reach.hidden, 1.0)


def _logit(method: MlpFinetuning, facts: Facts, off: Rounded, reach: Reach) -> float:
    """Return the bound on the norm of a row's computed logits."""
    fired = (facts.longest + off.row) * reach.hidden + math.sqrt(method.hidden) * UNIT
    return fired * reach.output + reach.bias + math.sqrt(facts.classes) * UNIT


def step(method: MlpFinetuning, facts: Facts, off: Rounded, reach: Reach) -> Reach:
    """Return the bounds after one more step, which hold for the private run and for the one in float64."""
    lr, c, h = method.lr, facts.classes, method.hidden
    tail, g_hidden, g_output = _gradients(facts, off, reach)
    decay, rows = 2 * lr * facts.l2, facts.train_rows + facts.rows

    def rounding(count: int, gradient: float, weight: float, inner: float = 0.0) -> float:
        """Bound the rounding of a step: sums and products are cut once each, and public factors keep 16 bits."""
        once = (lr / rows + 3 + 3 * (decay > 0)) * UNIT * math.sqrt(count)
        return SLACK * (once + UNIT * (lr * gradient + decay * weight) + lr * inner)

    inner = (facts.longest + off.row) * math.sqrt(h) * UNIT  # the gradient that comes back through V
    r_hidden = rounding((facts.features + 1) * h, g_hidden, reach.hidden, inner)
    r_output = rounding((h + 1) * c, g_output, reach.output)
    pull = math.log(c) + off.softmax * _logit(method, facts, off, reach) + tail * math.sqrt(c) * UNIT
    across = tail * (reach.bias + reach.output * math.sqrt(h) * UNIT)

    def grown(norm: float, gradient: float, against: float) -> float:
        """Return the smaller of two bounds: the triangle inequality's, and the one for a gradient at right angles."""
        straight = norm * max(1.0, decay - 1) + lr * gradient
        if decay > 1:
            return straight
        return min(straight, math.sqrt(norm * norm + 2 * lr * against + lr * lr * gradient * gradient))

    return Reach(
        grown(reach.hidden, g_hidden, pull + across) + r_hidden,
        grown(reach.output, g_output, pull) + r_output,
        reach.bias * max(1.0, decay - 1) + lr * tail + rounding(c, tail, reach.bias),
        reach.hidden_moved + lr * g_hidden + decay * reach.hidden + r_hidden,
        reach.output_moved + lr * g_output + decay * reach.output + r_output,
    )


def _logits_moved(method: MlpFinetuning, facts: Facts, off: Rounded, first: Reach, last: Reach) -> float:
    """Return the bound t on the distance of a test row's logits after training from those before."""
    row = facts.longest + off.row
    fired = row * last.hidden_moved + off.row * first.hidden + math.sqrt(method.hidden) * UNIT
    moved = fired * last.output + math.hypot(row * first.hidden, 1.0) * last.output_moved
    return moved + 1.5 * math.sqrt(facts.classes) * UNIT


def _fits(method: MlpFinetuning, facts: Facts, off: Rounded, reach: Reach) -> bool:
    """Return whether public facts keep every number that is truncated within the ring."""
    row, rows = facts.longest + off.row, facts.train_rows + facts.rows
    _, g_hidden, g_output = _gradients(facts, off, reach)
    by_rows, elsewhere = 2.0 ** (PRECISION_BITS + ROW_BITS), 2.0 ** (2 * PRECISION_BITS)
    largest = (
        row * reach.hidden * by_rows,
        rows * (g_hidden + row) * by_rows,
        rows * (g_output + 1) * by_rows,  # the gradients stand in one vector, with the bits of the first
        (math.sqrt(2) * _logit(method, facts, off, reach) + LOGIT_RANGE) * elsewhere,  # a difference of two logits
        (method.lr * (1 + g_hidden + g_output) + (1 + 2 * method.lr * facts.l2) * (reach.hidden + reach.output))
        * elsewhere,
        (LOGIT_RANGE + math.log(facts.classes) + 1) * facts.test_rows * 2.0 ** (PRECISION_BITS + LOSS_BITS),
    )
    return SLACK * max(largest) < HELD
