"""The standard error of the influence, by the bootstrap over the candidate's rows.

    value = -f_if = mean of r_i,   r_i = <softmax(x_i' theta) - y_i, x_i' V>          (V: see `influence`)
    se = sqrt(S) / n,   S = sum over D_a of (r_i - mean r)^2,   and value +- 1.96 se holds 95%

D_a is the candidate, with n rows x_i (d + 1 numbers) and one-hot labels y_i (C numbers); theta (d + 1, C) are the
model's weights; for other models the residual is that of their link (`models.links`). r_i is the influence of row i,
and se the standard error of the value of `influence`.

The bootstrap is that of Efron (1979). A resample draws n rows of D_a with replacement, and row i is drawn m_i times;
the resample's value is sum m_i r_i / n. The counts are multinomial and independent of the data, so that the variance
over all resamples is S / n^2: the limit of ever more resamples has a closed form, and no resample is computed. The
percentiles of a mean are the normal's to O(1/sqrt(n)), which comes from the skewness of the r_i; the errors of both
tails cancel, so that the interval covers 95% to O(1/n) (Hall 1992, chapter 3).

The interval covers that these rows are a sample: other n rows of their owner's source would give another value. It
covers neither what the model owner's own rows (in theta, in the Hessian and in the test gradient) add, nor that
influence is a first order of what retraining would do. It is too narrow where rows are no independent draws (copies, a
time series), or fewer than thirty.

The method needs a training and a test set. It opens S divided by a public power of two, one number beside that of
influence; no r_i is opened. It costs what influence costs and one product of (n, C) secret numbers, n squares, and 4
rounds.

Blocks of rows, numbered b, are joined by S = sum_b S_b + sum_b n_b (mean_b - mean)^2 (Chan, Golub and LeVeque 1983).
This takes one pass and no difference of two large numbers, of which fixed point would keep few bits. An error e of a
mean adds n_b e^2 and no more. The size of blocks may change; the formula and the damping have to be those of the
influence beside it.

The other methods have no such error. Fine-tuning is no mean over rows: each resample would be a training on shares of
its own, and a thousand resamples would cost a thousand appraisals. The bootstrap of the gradient norm is biased: with
g_i the rows' gradients, g their sum and g_r the sum over a resample, over all resamples the mean of `||g_r||^2` is
`||g||^2 + sum_i ||g_i - g / n||^2`. The last term is a sixth of the one before it for 600 rows of the digits, and 0.6
of it for 100.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.data import Dataset
from mpc_appraisal.methods.base import Appraiser, Facts, scaled
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.methods.metrics import ByMetric
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.mpc.ops import blocks


@dataclass(frozen=True, repr=False)
class InfluenceError(ByMetric, Appraiser):
    """The value is -se: the higher it is, the surer is the influence. It is no value of data and ranks no candidates.

    Attributes:
        damping, metric, group, class_weights: The settings of the `Influence` whose error is stated.

    Raises InputError for a setting that `Influence` refuses.
    """

    damping: float = 0.0

    name: ClassVar[str] = "influence_error"
    needs: ClassVar[frozenset[str]] = Influence.needs
    opens: ClassVar[str] = (
        "squared deviations of the rows' influence from its mean, summed over the candidate's rows, divided by a "
        "public power of two"
    )
    incomparable: ClassVar[str] = "it is the error of another value, and nothing to be reached, ranked or noised"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.influence.measure.stated is not None:  # reading `influence` refuses what influence does
            words = f"{InfluenceError.opens}; the influence is that on the {self.measure.words} of the test rows"
            object.__setattr__(self, "opens", words)

    @property
    def influence(self) -> Influence:
        """The method whose error this one states."""
        return Influence(self.damping, metric=self.metric, group=self.group, class_weights=self.class_weights)

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        return self.influence.private_shapes(facts)

    def prepare(self, model: LinearModel, train: Dataset | None, test: Dataset | None) -> dict[str, torch.Tensor]:
        self.require(train, test)
        return self.influence.prepare(model, train, test)

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        scale, parts, squares = self.scale(facts), [], None
        for rows, labels in blocks(x, y):
            wrong = facts.loss.residual(rows.matmul(owned["weights"]), labels)
            influences = (wrong * rows.matmul(owned["direction"])).sum(1)
            count, total = rows.shape[0], influences.sum()
            mean = scaled(total, 1.0 / count)
            inside = ((influences - mean) / scale).square().sum()
            squares = inside if squares is None else squares + inside
            parts.append((count, total, mean))
        if len(parts) == 1:
            return squares
        whole = parts[0][1]
        for _, total, _ in parts[1:]:
            whole = whole + total
        whole = scaled(whole, 1.0 / facts.rows)
        for count, _, mean in parts:
            squares = squares + scaled(mean - whole, math.sqrt(count) / scale).square()
        return squares

    def paper_value(self, opened: float, facts: Facts) -> float:
        """Return se, from the opened sum; rounding may leave a sum of zero slightly below zero."""
        return math.sqrt(max(opened, 0.0)) * self.scale(facts) / facts.rows

    @staticmethod
    def scale(facts: Facts) -> float:
        """Return the public power of two whose square is from n / 8 to n / 2, or 1 for 8 rows and fewer.

        n is the number of the candidate's rows. The deviations r_i - mean r are divided by the scale, so that the
        opened number is 2 to 8 times their mean square, whatever n is. An opening has room for 2^19 with the 36
        fractional bits of a square: root mean squares of 256 and more. In MNIST and the digits the root mean square is
        about 1, and 10 with an l2 of 1e-4. A deviation is exact to within 2^-18 of the scale, 2^-13 for 6,000 rows.
        This rounding is independent of the deviations, which sum to zero, and so it adds 2^-26 to the mean square.
        """
        return 2.0 ** max(0, math.ceil((math.log2(facts.rows) - 3.0) / 2))
