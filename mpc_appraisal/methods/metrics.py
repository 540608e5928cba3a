"""The metric of the test predictions whose fall influence estimates: log loss, or what the model owner cares about.

    log_loss        mean over the rows of  -log p_y
    squared_error   mean over the rows of  sum_c (p_c - [y = c])^2;   of numbers: mean of (prediction - target)^2
    class_weighted  sum_c w_c (mean of -log p_y over the rows of class c) / sum_c w_c
    worst_group     max over groups g of  mean of -log p_y over the rows of g
    auroc           mean over classes c and pairs (i of class c, j of another) of  1 / (1 + exp(4 (s_ic - s_jc))),
                    s_c = log(p_c / (1 - p_c))
    MODULE:FUNCTION a function of the model owner's own, f(predictions, targets)

p_c is the probability that the model gives to class c, y a row's class, and every metric is the lower the better. For
`influence`, V = H^-1 X' G with the test rows X (n, d + 1) and G (n, C), the gradient of the metric with respect to the
outputs X theta, by autograd. The model owner computes V in the clear, so that no private step depends on the metric.
Logistic regression has one output, the log-odds of the second class, and log_loss means the loss of the model itself:
for linear regression the squared error of numbers, which have no other metric than that and MODULE:FUNCTION.

The squared error of classes is Brier's score (1950). Without weights class_weighted is the mean over the classes, as in
balanced accuracy. worst_group is the objective of Sagawa, Koh, Hashimoto and Liang (2020); where two groups tie, its
gradient is a subgradient. `auroc` is 1 - AUROC with the step function replaced by a sigmoid (Herschtal and Raskar
2004). Its factor 4 was measured: with 1, the fall of this metric did not agree with that of 1 - AUROC. The mean is over
the classes, each against all others; with two classes both terms are equal. Classes without test rows are left out of
means over classes.

A metric may be added. The names have to stay, because configurations, requests and records hold them.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar

import torch

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.training import mean_loss
from mpc_appraisal.reporting.metric_names import (
    AUROC,
    CLASS_WEIGHTED,
    LOG_LOSS,
    METRICS,
    SQUARED_ERROR,
    WORST_GROUP,
    in_words,
)

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
MOST_GROUPS, LEAST_ROWS = 50, 10  # the most groups of worst_group, and the fewest test rows of one
SHARPNESS = 4.0  # the factor in the sigmoid of auroc
PAIRS = 1 << 22  # the number of pairs of rows that auroc compares at a time


@dataclass(frozen=True, kw_only=True, repr=False)
class ByMetric:
    """Hold the metric of a method whose value estimates the fall of a metric.

    Attributes:
        metric: A name in METRICS, or "MODULE:FUNCTION". It is public.
        group: The column of worst_group, by name or by number from 0. It stays with the model owner.
        class_weights: The weights of class_weighted, one for each class; None weighs all classes alike. They stay with
            the model owner.

    Raises InputError for an unknown metric, and for a setting that the metric does not have.
    """

    metric: str = LOG_LOSS
    group: str | int | None = None
    class_weights: tuple[float, ...] | None = None

    own: ClassVar[tuple[str, ...]] = ("group", "class_weights")  # settings that no other party learns

    def __post_init__(self) -> None:
        check_metric(self.metric)
        for key, of in (("group", WORST_GROUP), ("class_weights", CLASS_WEIGHTED)):
            if getattr(self, key) is not None and self.metric != of:
                raise InputError(key, getattr(self, key), f"null, or metric={of} with it")
        if self.group is not None and (isinstance(self.group, bool) or not isinstance(self.group, (str, Integral))):
            raise InputError("group", self.group, "a column's name, or its number from 0")
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", _weights(self.class_weights))

    def __repr__(self) -> str:
        stated = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        return f"{type(self).__qualname__}({stated})"

    @property
    def settings(self) -> dict[str, Any]:
        """The public settings by name. The metric is among them where it is another than log_loss."""
        known = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in self.own}
        return {key: value for key, value in known.items() if (key, value) != ("metric", LOG_LOSS)}

    @property
    def measure(self) -> Measure:
        """The metric with its settings."""
        return Measure(self.metric, self.group, self.class_weights)


@dataclass(frozen=True)
class Measure:
    """A metric with its settings, as `ByMetric` holds them."""

    name: str = LOG_LOSS
    group: str | int | None = None
    class_weights: tuple[float, ...] | None = None

    @property
    def words(self) -> str:
        """The metric in words, as in "mean log loss"."""
        return in_words(self.name)

    @property
    def stated(self) -> str | None:
        """The metric's name where it is another than log_loss."""
        return None if self.name == LOG_LOSS else self.name

    @property
    def steepness(self) -> float | None:
        """A bound on the gradient's norm, in units of sqrt(2) times the longest row; None where none is known.

        With respect to a row's logits the gradient of the log loss, p - y, is at most sqrt(2) long, and so is that of
        Brier's score, 2 J (p - y) with a matrix J = diag(p) - p p' of norm 1/2 at most. A pair of auroc has a slope of
        SHARPNESS / 4 at most in the log-odds, whose gradient is sqrt(2) long, for each of its two rows.
        """
        return {AUROC: SHARPNESS / 2}.get(self.name, 1.0) if self.name in METRICS else None

    def check_numbers(self) -> None:
        """Raise InputError for a metric of classes, which is none of targets that are numbers."""
        if self.name in METRICS and self.name != SQUARED_ERROR:
            raise InputError("appraisal.metric", self.name, f"{SQUARED_ERROR} or MODULE:FUNCTION for numbers")

    def loss(self, outputs: torch.Tensor, test: Dataset) -> torch.Tensor:
        """Return the metric of the outputs on the test rows; it has no dimensions.

        Outputs are logits (n, C), or one column (n, 1): of predicted numbers where the targets are numbers, or else of
        the log-odds of the second of two classes.

        Raises InputError where the metric cannot be computed on these rows.
        """
        if test.y.is_floating_point():
            self.check_numbers()
        elif outputs.shape[1] == 1:
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
        if self.name == LOG_LOSS:
            return torch.nn.functional.cross_entropy(outputs, test.y)
        if self.name == SQUARED_ERROR:
            return squared_error(outputs, test.y)
        if self.name == CLASS_WEIGHTED:
            return class_weighted(outputs, test.y, self.class_weights)
        if self.name == WORST_GROUP:
            return worst_group(outputs, test.y, groups_of(test, self.group))
        if self.name == AUROC:
            return auroc(outputs, test.y)
        return _own_metric(self.name, outputs, test.y)

    def value(self, model: LinearModel, test: Dataset) -> float:
        """Return the metric of the model on the test rows; log_loss is the loss of the model, whatever that is."""
        return mean_loss(model, test) if self.name == LOG_LOSS else self.loss(model.logits(test.x), test).item()

    def gradient(self, model: LinearModel, test: Dataset) -> torch.Tensor:
        """Return the gradient of the metric with respect to theta, (d + 1, C): X' times that of the outputs.

        Raises InputError where the metric cannot be computed on these rows, or has no gradient there.
        """
        x = with_bias(test.x.to(torch.float64))
        outputs = x.matmul(model.theta).requires_grad_()
        loss = self.loss(outputs, test)
        slope = torch.autograd.grad(loss, outputs, allow_unused=True)[0] if loss.requires_grad else None
        if slope is None:
            raise InputError("appraisal.metric", self.name, "a differentiable function of the predictions")
        if not torch.isfinite(slope).all() or not slope.any():
            found = "zero" if torch.isfinite(slope).all() else "not finite"
            raise InputError(
                "appraisal.metric", f"{self.name}, whose gradient is {found} here", "a finite gradient other than zero"
            )
        return slope.t().matmul(x).t()


def check_metric(name: Any) -> str:
    """Return `name` if it is a metric's name or has the form MODULE:FUNCTION; nothing is imported.

    Raises InputError for anything else.
    """
    fits = isinstance(name, str) and len(name) <= 200
    if not fits or not (name in METRICS or FUNCTION.fullmatch(name)):
        raise InputError("metric", name, f"{', '.join(METRICS)}, or MODULE:FUNCTION")
    return name


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return Brier's score of logits (n, C) and classes (n,), or the mean squared error of (n, 1) and numbers (n,)."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] - targets).square().mean()
    wanted = torch.nn.functional.one_hot(targets, outputs.shape[1])
    return (outputs.softmax(1) - wanted).square().sum(1).mean()


def class_weighted(
    outputs: torch.Tensor, targets: torch.Tensor, weights: tuple[float, ...] | None = None
) -> torch.Tensor:
    """Return the weighted mean, over the classes that have rows, of the mean log loss of each class.

    Raises InputError where there is another number of weights than of classes, or where the classes with a weight above
    0 have no rows.
    """
    classes = outputs.shape[1]
    if weights is not None and len(weights) != classes:
        raise InputError("appraisal.class_weights", f"{len(weights)} weights", f"{classes}, one for each class")
    losses = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
    counts = torch.bincount(targets, minlength=classes)
    stated = torch.ones(classes) if weights is None else torch.tensor(weights)
    weight = stated.to(losses.dtype) * (counts > 0)
    if not weight.any():
        raise InputError("appraisal.class_weights", list(weights), "a weight above 0 for a class that has test rows")
    each = (weight / weight.sum() / counts.clamp_min(1))[targets]
    return (each * losses).sum()


def groups_of(test: Dataset, column: str | int | None) -> torch.Tensor:
    """Return the number (n,) of each test row's group; the rows of one group have equal values in `column`.

    Raises InputError where there is no such column, or where the groups are not 2 to MOST_GROUPS with LEAST_ROWS rows
    each.
    """
    values = test.x[:, _place(test, column)]
    found, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    if not 2 <= len(found) <= MOST_GROUPS:
        got = f"{column}: {len(found)} different values in the test rows"
        raise InputError("appraisal.group", got, f"2 to {MOST_GROUPS}, each of which is a group")
    if counts.min() < LEAST_ROWS:
        smallest = counts.argmin()
        got = f"{column}: {counts[smallest]} test rows of the value {found[smallest]:g}"
        raise InputError("appraisal.group", got, f"{LEAST_ROWS} rows or more in each group")
    return group


def worst_group(outputs: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Return the largest mean log loss of a group; `groups` (n,) numbers each row's group from 0."""
    losses = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
    counts = torch.bincount(groups)
    return (torch.zeros(len(counts), dtype=losses.dtype).index_add(0, groups, losses) / counts).max()


def auroc(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the smooth 1 - AUROC of logits (n, C) and classes (n,), averaged over the classes that have rows.

    Raises InputError where fewer than two classes have rows.
    """
    present = torch.unique(targets).tolist()
    if len(present) < 2:
        raise InputError("appraisal.metric", f"{AUROC} of test rows of one class", "test rows of two classes or more")
    # log(p_c / (1 - p_c)): with two classes the difference of the two logits, finite where a probability rounds to 1
    classes = range(outputs.shape[1])
    odds = torch.stack(
        [outputs[:, c] - outputs[:, [k for k in classes if k != c]].logsumexp(1) for c in present], dim=1
    )
    total = outputs.new_zeros(())
    for k, c in enumerate(present):
        inside, outside = odds[targets == c, k], odds[targets != c, k]
        total = total + _Misordered.apply(inside, outside) / (len(inside) * len(outside))
    return total / len(present)


class _Misordered(torch.autograd.Function):
    """Sum sigmoid(SHARPNESS (b - a)) over all pairs of a in `inside` (m,) and b in `outside` (k,).

    PAIRS pairs are computed at a time, and their gradient with them, so that the m * k pairs are never kept together.
    """

    @staticmethod
    def forward(ctx: Any, inside: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
        total, downward, upward = inside.new_zeros(()), [], torch.zeros_like(outside)
        for part in inside.split(max(1, PAIRS // len(outside))):
            share = torch.sigmoid(SHARPNESS * (outside[None, :] - part[:, None]))
            slope = SHARPNESS * share * (1 - share)
            total, upward = total + share.sum(), upward + slope.sum(0)
            downward.append(slope.sum(1))
        ctx.save_for_backward(-torch.cat(downward), upward)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        downward, upward = ctx.saved_tensors
        return gradients[0] * downward, gradients[0] * upward


def own_settings(methods: Iterable[Any]) -> dict[str, Any]:
    """Return the settings of `methods` that stay with the model owner, as its commitment holds them.

    They are the group, the weights, and for MODULE:FUNCTION the SHA-256 of the module's source. The dictionary is empty
    where no method has such a setting. Raises InputError where the module is not there.
    """
    found: dict[str, Any] = {}
    for method in methods:
        if isinstance(method, ByMetric):
            if method.group is not None:
                found["group"] = str(method.group)
            if method.class_weights is not None:
                found["class_weights"] = list(method.class_weights)
            if method.metric not in METRICS:
                found["code"] = _source_digest(method.metric)
    return found


def sentences(methods: Iterable[Any], numbers: bool = False) -> list[str]:
    """Return a sentence for the request on each metric other than log_loss. numbers: whether targets are numbers."""
    found: dict[str, str] = {}
    for method in methods:
        if isinstance(method, ByMetric) and method.measure.stated is not None:
            found.setdefault(method.metric, _sentence(method.measure, numbers))
    return list(found.values())


def _sentence(measure: Measure, numbers: bool) -> str:
    own = "The function stays with the model owner, and its name alone is stated. " if ":" in measure.name else ""
    if measure.name == WORST_GROUP:
        own = "The model owner does not say by which column it forms the groups. "
    if measure.name == CLASS_WEIGHTED:
        own = "The model owner does not say whether it weighs the classes alike. "
    return (
        f"Influence estimates the fall of the {in_words(measure.name, numbers)} on the model owner's test rows. The "
        f"model owner computes this metric alone, and the data owner cannot check it. {own}What is computed together "
        "and what is opened have the same form as with any other metric; the metric decides what the number means."
    )


def _weights(stated: Any) -> tuple[float, ...]:
    expected = "a list of finite numbers, 0 or more, one of them above 0"
    try:
        found = tuple(float(number("class_weights", one, expected, least=0)) for one in stated)
    except TypeError:
        raise InputError("class_weights", stated, expected) from None
    if isinstance(stated, str) or not any(found) or not math.isfinite(sum(found)):
        raise InputError("class_weights", stated, expected)
    return found


def _place(test: Dataset, column: str | int | None) -> int:
    """Return the place of a column, which is stated by name or by number from 0."""
    columns = test.columns or ()
    if isinstance(column, str) and column in columns:
        return columns.index(column)
    index = int(column) if isinstance(column, Integral) or re.fullmatch("[0-9]{1,9}", str(column)) else None
    if index is None or not 0 <= index < test.features:
        names = f"a column of the test rows ({', '.join(map(shown, columns[:20]))}), " if columns else ""
        expected = f"{names}or a number from 0 to {test.features - 1}"
        raise InputError("appraisal.group", column, expected.removeprefix("or "))
    return index


def _own_metric(name: str, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the number of the model owner's own function. Raises InputError where it returns no finite number."""
    function = imported(name)
    predictions = outputs.softmax(1) if outputs.shape[1] > 1 else outputs
    try:
        found = function(predictions, targets.clone())
    except Exception as error:
        said = f"{name}, which raised {type(error).__name__}: {shown(str(error))}"
        raise InputError("appraisal.metric", said, "a function of predictions (n, C) and targets (n,)") from error
    if not isinstance(found, torch.Tensor) or found.numel() != 1 or not found.is_floating_point():
        got = f"a tensor of {found.dtype}, {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found)
        raise InputError("appraisal.metric", f"{name}, which returned {got}", "a tensor of one floating-point number")
    if not torch.isfinite(found).all():
        raise InputError("appraisal.metric", f"{name}, which returned {found.item()}", "a finite number")
    return found.reshape(())


def imported(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the function of "MODULE:FUNCTION". Raises InputError where it cannot be imported or called."""
    module, _, attribute = name.partition(":")
    expected = "MODULE:FUNCTION, a function in a module that Python finds (a folder in PYTHONPATH has it)"
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module raises as it is imported
        raise InputError("appraisal.metric", f"{name} ({type(error).__name__}: {error})", expected) from error
    if not callable(function):
        raise InputError("appraisal.metric", f"{name}, {type(function).__name__}", expected)
    return function


def _source_digest(name: str) -> str | None:
    """Return the SHA-256 of the source file of the function's module; None for a module without one."""
    module = name.partition(":")[0]
    imported(name)
    path = getattr(sys.modules[module], "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
