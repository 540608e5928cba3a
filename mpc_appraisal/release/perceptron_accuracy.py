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
from mpc_appraisal.methods.mlp_finetuning import BITS, PRETRAINING_RATE, MlpFinetuning
from mpc_appraisal.mpc.protocols.softmax_plan import LOGIT_RANGE
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS

UNIT = 2.0**-PRECISION_BITS  # above the rounding of weights and hidden values, and above the error of a truncation
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
    """Bounds on one layer's weights W and biases b after some steps of training. Norms are Euclidean, over all entries.

    Attributes:
        norm: The bound on the norm of (W, b).
        bias: The bound on the norm of b; 0 for the first layer, whose biases are weights of the constant feature.
        moved: The bound on how far (W, b) is from its start.
    """

    norm: float
    bias: float
    moved: float


Reaches = tuple[Reach, ...]  # of all layers, the first hidden one first


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
        if not all(math.isfinite(number) for each in reach for number in vars(each).values()):
            return math.inf
        fits = fits and _fits(method, facts, off, reach)
    moved = SLACK * _logits_moved(method, facts, off, first, reach)
    if not fits:  # anything that the ring holds may be opened, but the value in the clear is still near 0
        return off.opened / facts.test_rows + math.sqrt(2) * moved
    return (2 + math.sqrt(2)) * moved + 2 * off.loss + off.unit / facts.test_rows


def start(method: MlpFinetuning, facts: Facts) -> Reaches:
    """Return the bounds after the model owner's own training, on the weights as they are shared.

    The initial weights are public, because the seed is.
    """
    d, c = facts.features + 1, facts.classes
    each, rounded = adam_reach(method.pretraining), UNIT / 2
    found = []
    for norm, (weights, biases) in zip(_initial(method.seed, d, method.widths, c), counts(method, d, c), strict=True):
        count = math.sqrt(weights + biases)
        bias = (each + rounded) * math.sqrt(biases)
        found.append(Reach(norm + (each + rounded) * count, bias, rounded * count))
    return tuple(found)


def counts(method: MlpFinetuning, d: int, c: int) -> list[tuple[int, int]]:
    """Return how many weights and biases each layer has, for rows of d numbers with the constant one, and c classes."""
    sizes = [math.prod(shape) for shape in method.weight_shapes(d, c).values()]
    return [(sizes[0], 0), *zip(sizes[1::2], sizes[2::2], strict=True)]


@lru_cache(maxsize=64)
def _initial(seed: int, d: int, widths: tuple[int, ...], c: int) -> tuple[float, ...]:
    """Return the norm of each layer's W before any training, where d counts the constant feature."""
    nothing = torch.zeros(0, d, dtype=torch.float64), torch.zeros(0, c, dtype=torch.float64)
    first, *further = MlpFinetuning(hidden=widths, seed=seed, pretraining=0).pretrained(*nothing, 0.0)
    return tuple(float(weights.norm()) for weights in (first, *further[::2]))


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


@dataclass(frozen=True)
class Pass:
    """Bounds on what one layer passes on. A vector is that of one row.

    Attributes:
        inputs: The bound on the norm of the layer's inputs, with the 1 that its biases are multiplied by.
        unit: The norm of the rounding of its inputs, which the layer before truncates; 0 for the first layer.
        back: The bound on the norm of the loss's gradient with respect to its outputs.
        back_off: The norm of the rounding of that gradient.
        gradient: The bound on the norm of the gradient of (W, b).
    """

    inputs: float
    unit: float
    back: float
    back_off: float
    gradient: float


def passes(method: MlpFinetuning, facts: Facts, off: Rounded, reach: Reaches) -> list[Pass]:
    """Return the bounds on a pass forward and back of one row, for each layer."""
    inputs, units = [facts.longest + off.row], [0.0, *(math.sqrt(width) * UNIT for width in method.widths)]
    for layer, unit in zip(reach, units[1:], strict=False):
        # One hidden layer's own rounding is left out, as in every record so far: it is below one part in a thousand.
        inputs.append(math.hypot(inputs[-1] * layer.norm + (unit if len(reach) > 2 else 0.0), 1.0))
    tail, found = math.sqrt(2) + off.softmax, []
    for place in range(len(reach)):
        gradient, back, back_off = tail * inputs[place], tail, 0.0
        for later in range(len(reach) - 1, place, -1):
            gradient, back = gradient * reach[later].norm, back * reach[later].norm
            back_off = back_off * reach[later].norm + units[later]
        found.append(Pass(inputs[place], units[place], back, back_off, gradient))
    return found


def _logit(method: MlpFinetuning, facts: Facts, off: Rounded, reach: Reaches) -> float:
    """Return the bound on the norm of a row's computed logits."""
    found = facts.longest + off.row
    for layer, width in zip(reach, (*method.widths, facts.classes), strict=True):
        found = found * layer.norm + layer.bias + math.sqrt(width) * UNIT
    return found


def step(method: MlpFinetuning, facts: Facts, off: Rounded, reach: Reaches) -> Reaches:
    """Return the bounds after one more step, which hold for the private run and for the one in float64."""
    lr, c, decay = method.lr, facts.classes, 2 * method.lr * facts.l2
    done, rows = passes(method, facts, off, reach), facts.train_rows + facts.rows

    def rounding(count: int, gradient: float, weight: float, inner: float = 0.0) -> float:
        """Bound the rounding of a step: sums and products are cut once each, and public factors keep 16 bits."""
        once = (lr / rows + 3 + 3 * (decay > 0)) * UNIT * math.sqrt(count)
        return SLACK * (once + UNIT * (lr * gradient + decay * weight) + lr * inner)

    def grown(norm: float, gradient: float, against: float) -> float:
        """Return the smaller of two bounds: the triangle inequality's, and the one for a gradient at right angles."""
        straight = norm * max(1.0, decay - 1) + lr * gradient
        if decay > 1:
            return straight
        return min(straight, math.sqrt(norm * norm + 2 * lr * against + lr * lr * gradient * gradient))

    tail = done[-1].back
    against = math.log(c) + off.softmax * _logit(method, facts, off, reach) + tail * math.sqrt(c) * UNIT
    found: list[Reach] = []
    for place in range(len(reach) - 1, -1, -1):
        layer, at, (weights, biases) = reach[place], done[place], counts(method, facts.features + 1, c)[place]
        rest, back = rounding(weights + biases, at.gradient, layer.norm, at.inputs * at.back_off), at.back + at.back_off
        bias = layer.bias * max(1.0, decay - 1) + lr * back + rounding(biases, back, layer.bias) if biases else 0.0
        moved = layer.moved + lr * at.gradient + decay * layer.norm + rest
        found.append(Reach(grown(layer.norm, at.gradient, against) + rest, bias, moved))
        against += back * (layer.bias + layer.norm * at.unit) + at.inputs * layer.norm * _own(method, place)
    return tuple(reversed(found))


def _own(method: MlpFinetuning, place: int) -> float:
    """Return the norm of the rounding of the gradient that comes back to the units of a hidden layer; 0 at the last."""
    return math.sqrt(method.widths[place]) * UNIT if place < len(method.widths) else 0.0


def _logits_moved(method: MlpFinetuning, facts: Facts, off: Rounded, first: Reaches, last: Reaches) -> float:
    """Return the bound t on the distance of a test row's logits after training from those before."""
    row = facts.longest + off.row
    moved = row * last[0].moved + off.row * first[0].norm + math.sqrt(method.widths[0]) * UNIT
    inputs = [at.inputs for at in passes(method, facts, off, first)]
    for place in range(1, len(last)):
        moved = moved * last[place].norm + inputs[place] * last[place].moved
        moved += math.sqrt(method.widths[place]) * UNIT if place < len(method.widths) else 0.0
    return moved + 1.5 * math.sqrt(facts.classes) * UNIT


def _fits(method: MlpFinetuning, facts: Facts, off: Rounded, reach: Reaches) -> bool:
    """Return whether public facts keep every number that is truncated within the ring."""
    done, rows = passes(method, facts, off, reach), facts.train_rows + facts.rows
    by_rows, elsewhere, decay = 2.0 ** (BITS + ROW_BITS), 2.0 ** (2 * BITS), 2 * method.lr * facts.l2
    largest = [at.inputs * layer.norm * by_rows for at, layer in zip(done[:-1], reach, strict=False)]
    # The gradients stand in one vector, with the bits of the first. A product with a small factor is shifted up.
    largest += [rows * (at.gradient + at.back_off * at.inputs + at.inputs) * by_rows for at in done[:-1]]
    largest += [
        rows * (done[-1].gradient + 1) * by_rows,
        (math.sqrt(2) * _logit(method, facts, off, reach) + LOGIT_RANGE) * elsewhere,  # a difference of two logits
        2 * method.lr * (1 + sum(at.gradient + at.back_off * at.inputs for at in done)) * elsewhere,
        (1 + 2 * decay) * sum(layer.norm for layer in reach) * elsewhere,
        (LOGIT_RANGE + math.log(facts.classes) + 1) * facts.test_rows * 2.0 ** (PRECISION_BITS + LOSS_BITS),
    ]
    return SLACK * max(largest) < HELD
