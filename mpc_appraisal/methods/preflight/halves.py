"""Half of the test rows plays the candidate, for the very model that appraises.

    A, B      two halves of the test rows, drawn at random; B has at most OFFER_ROWS rows
    B_p       = B, spoilt at rate r = MOST p / (P - 1), p = 0 .. P - 1
                labels:  p even: each label of two classes becomes the other one at rate r, two others for each p;
                         p odd: each label becomes one of the others at rate 2 r / C, for C classes, which spoils as
                         many labels; each target that is a number becomes that of another row at rate r
                missing: each feature becomes 0 at that rate
    value_p   = the method's value of B_p where A is the test set, for the model theta of all training rows
    utility_p = mean loss on A of theta less that after retraining on the training rows and B_p
    gain_p    = how much retraining with B_p improves a measure on A that the model owner knows: accuracy, in points, or
                where the target is a number the root mean squared error (RMSE), in units of the target

Rows that are held out of training, as the parts of a split are, value another model, of fewer rows: on MNIST the values
of one and the same row are twice as high for a model of 450 rows as for one of 600, and ten times for one of 150. The
test rows are the only rows of the model owner that the appraising model has not seen. The classes of a pair are drawn
with the probability that the model confuses them, because noise in labels is between classes that look alike. The value
at which rows stop to help depends on which labels are wrong. Hence there are two kinds of copies, and the range of
values that they do not settle comes from what each copy leaves to the others.

Training and test rows and the model go in, and an `Offer` comes out. The purposes of random numbers and the order of
drawing have to stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch

from mpc_appraisal.data import Dataset
from mpc_appraisal.methods.preflight.calibration import (
    Calibration,
    Curve,
    Part,
    SizeTerm,
    calibration_of,
    open_range,
    zero_of,
)
from mpc_appraisal.methods.preflight.parts import corrupted, stream
from mpc_appraisal.methods.preflight.result import PER_ROW, Threshold
from mpc_appraisal.methods.preflight.threshold import calibrated
from mpc_appraisal.models.alike import refit_each
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.training import accuracy, mean_loss

HALVE = 4  # the purpose of random numbers, beside those of `parts`
OFFER_ROWS, LEAST_ROWS, MOST_TRAIN = 1_000, 200, 4_000  # rows of B at most, test rows at least, training rows at most
MOST = 0.8  # the rate of the most spoilt part
TOLERANCE = 1e-4  # of the retraining: a utility is right to 1e-4 or so, which is small beside its sampling error


@dataclass(frozen=True)
class Gauge:
    """Hold what the model owner judges a model by; a higher number is a better model.

    Attributes:
        name, unit: Words, such as accuracy and points, in which a gain is stated.
        of: Computes it from a model and a data set.
    """

    name: str
    unit: str
    of: Callable[[LinearModel, Dataset], float]


ACCURACY = Gauge("accuracy", "points", lambda model, data: 100 * accuracy(model, data))
RMSE = Gauge("RMSE reduction", "target units", lambda model, data: -math.sqrt(mean_loss(model, data)))


@dataclass(frozen=True)
class Offer:
    """Hold the spoilt copies of B, and what they are truly worth.

    Attributes:
        model: The model that appraises.
        train, test: The training rows and A.
        parts: B_p for each p.
        utilities, gains: By part; see the head of this file.
        gauge: What `gains` are gains of.
        curve: The learning curve of one's own rows; None where more rows bring nothing.
        alike: The numbers of the parts that are spoilt in one way, of which p = 0 is one.
    """

    model: LinearModel
    train: Dataset
    test: Dataset
    parts: Sequence[Dataset]
    utilities: Sequence[float]
    gains: Sequence[float]
    gauge: Gauge
    curve: Curve | None
    alike: Sequence[int]

    def judged(
        self, value: Callable[[Dataset], float], unit: str, influence: bool
    ) -> tuple[Threshold, Calibration | None]:
        """Return a method's threshold and calibration.

        Args:
            value: The method's value of a part, for this model and with A as the test set.
            unit: `PER_ROW` or "value", from `threshold.unit_of`.
            influence: Whether the method is influence, whose threshold has a `SizeTerm`, and whose values of both kinds
                of copies lie on about one curve. Labels that are wrong at random lengthen a gradient in another way, so
                that other methods are judged on the copies with wrong labels of two classes alone.
        """
        kept = range(len(self.parts)) if influence else self.alike
        parts = [self.parts[k] for k in kept]
        utilities = [self.utilities[k] for k in kept]
        values = [value(part) / (part.rows if unit == PER_ROW else 1) for part in parts]
        size = SizeTerm(self.train.rows, parts[0].rows, values[0]) if influence and values[0] > 0 else None
        known = [Part(v, part.rows, self.gains[k]) for v, part, k in zip(values, parts, kept, strict=True)]
        meaning = calibration_of(known, self.curve, self.gauge.name, self.gauge.unit, unit == PER_ROW, size)
        unsettled = open_range(np.array(values), np.array(utilities))
        return replace(calibrated([values], [utilities], unit, zero_of, size), open=unsettled), meaning


def possible(train: Dataset, test: Dataset) -> bool:
    """Return whether there are enough test rows to halve, and few enough training rows to train again and again."""
    return test.rows >= LEAST_ROWS and train.rows <= MOST_TRAIN


def gauge_for(test: Dataset) -> Gauge:
    """Return what a model of the test rows' target is judged by."""
    return RMSE if test.numeric else ACCURACY


def offer(
    train: Dataset,
    test: Dataset,
    model: LinearModel | None,
    fitted: LinearModel,
    curve: Curve | None,
    count: int,
    corruption: str,
    seed: int,
    gauge: Gauge = ACCURACY,
) -> Offer:
    """Spoil half of the test rows, and retrain with each copy.

    Args:
        train, test: The model owner's rows.
        model: The model that appraises; None for `fitted`.
        fitted: The model fitted on `train`, from which utilities and gains are counted.
        curve: The learning curve of one's own rows.
        count: P, the number of copies, 3 or more.
        corruption: One of `parts.CORRUPTIONS`.
        seed: The seed of halves and spoiling.
        gauge: What is gained.
    """
    generator = stream(seed, HALVE)
    order = generator.permutation(test.rows)
    cut = test.rows // 2
    judge = test.subset(np.sort(order[:cut]))
    rows = test.subset(np.sort(order[cut:][:OFFER_ROWS])).renamed("half of the test rows")
    rates = [MOST * p / (count - 1) for p in range(count)]
    alike = range(count)
    if corruption == "missing" or rows.numeric:
        parts = [corrupted(rows, rate, corruption, generator) for rate in rates]
    else:
        chosen = pairs(fitted, test, count, generator)
        alike = range(0, count, 2) if rows.classes > 2 else alike  # of two classes both ways are the same
        parts = [
            corrupted(rows, 2 * rate / rows.classes, corruption, generator)
            if p % 2
            else confused(rows, rate, *pair, generator)
            for p, (rate, pair) in enumerate(zip(rates, chosen, strict=True))
        ]
    loss, level = mean_loss(fitted, judge), gauge.of(fitted, judge)
    after = refit_each(train, parts, fitted.l2, TOLERANCE, type(fitted))
    utilities = [loss - mean_loss(each, judge) for each in after]
    gains = [gauge.of(each, judge) - level for each in after]
    return Offer(model or fitted, train, judge, parts, utilities, gains, gauge, curve, alike)


def pairs(model: LinearModel, test: Dataset, count: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Return `count` pairs of classes, each drawn with the probability that the model takes one for the other."""
    outputs = model.logits(test.x)
    if model.outputs == 1:  # the log-odds of the second of two classes
        outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
    chances = outputs.softmax(1)
    labels = test.y.unique().tolist()
    found = list(combinations(labels, 2)) or [(0, 1)]
    mean = {label: chances[test.y == label].mean(0) for label in labels}
    weights = np.array([float(mean[a][b] + mean[b][a]) if a in mean and b in mean else 1.0 for a, b in found])
    return [found[k] for k in generator.choice(len(found), count, p=weights / weights.sum())]


def confused(part: Dataset, rate: float, one: int, other: int, generator: np.random.Generator) -> Dataset:
    """Return `part` in which each label of two classes becomes the other one with probability `rate`."""
    hit = torch.from_numpy(generator.random(part.rows) < rate)
    turned = torch.where(part.y == one, other, torch.where(part.y == other, one, part.y))
    return Dataset(part.x, torch.where(hit, turned, part.y), part.classes, part.name)
