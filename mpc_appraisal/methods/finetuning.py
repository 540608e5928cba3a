"""Fine-tuning: how much the model's test loss falls when a few steps of training include the candidate.

    f_ft(D_a) = sum over D_te of  L(x, y; theta_ft) - L(x, y; theta)

    theta <- theta - lr (mean gradient of L over the rows of the step + 2 * l2 * theta)

D_tr and D_te are the model owner's training and test rows, D_a is the candidate, and L is the cross-entropy of a row
(for other models than softmax regression, the loss of their link in `models.links`).
theta (d + 1, C) are the weights, and theta_ft is what `steps` such steps make of them, on the objective over D_tr and
D_a together. The value is -f_ft divided by the number of test rows. This is eq. 4 of Xu, van der Maaten and Hannun
(2022), with all rows at every step, as in its figure 3, or with batches of random rows, whose order is public.

Where lr * steps <= SMALL, training moves the logits little, and the loss on shares is the series

    f_ft = sum over D_te of  L_1 + L_2 / 2 + L_3 / 6 + L_4 / 24,        L_k = d^k L(x, y; theta + t D) / dt^k at t = 0

with D = theta_ft - theta. At theta the model owner knows the predictions, so that the series takes no exponential and
no logarithm, and its error falls with D. At larger rates both losses are computed as in eq. 4. The plaintext run
computes eq. 4 at every rate.

The method needs a training and a test set. Training, weights and both losses stay secret. The method opens the sum of
eq. 4, and before that one bit: whether the weights of every step kept the public bound on logits. If not, the sum is
not opened. Where the softmax needs no bound (`release.unbounded_logits`), no bit is opened. Each step costs two
products and a softmax over its rows, three rounds beside those of the softmax, and the end a product and, but for the
series, a log-softmax over D_te. A rate above 2 / (largest curvature) overshoots: on MNIST 1.0 does after a few steps,
0.1 does not.

Defaults and the arrangement of products may change. The formula and the public order of the rows have to stay: the
plaintext and the private run must take the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.base import Appraiser, Facts, centred, scaled
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import LOGISTIC
from mpc_appraisal.mpc.ops import FINE_BITS, SHARED_BITS, cat, descended, factor, private, record_weights, shared

SMALL = 0.1  # Up to this product of rate and steps the change of the loss on shares is a series.
SMALLEST_UNIT = -24  # The unit of the change of the weights is at least 2 to this power.
FINEST_BITS = 30  # The change of the weights has at most so many fractional bits, in units of 1.
LARGEST_BITS = 61  # A logit has at most so many bits in the ring of 64.


@dataclass(frozen=True)
class Finetuning(Appraiser):
    """The value is the fall of the mean test loss, which is minus equation 4 divided by the number of test rows.

    Attributes:
        steps: The number of steps of gradient descent, 1 or more.
        lr: The learning rate, above 0.
        batch_size: How many rows, of training set and candidate together, a step takes; None takes all.
        seed: The seed of the public order of the rows when there are batches.

    Raises InputError for an attribute out of range.
    """

    steps: int = 16
    lr: float = 0.3
    batch_size: int | None = None
    seed: int = 0

    name: ClassVar[str] = "finetuning"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "test"})
    opens: ClassVar[str] = "change of the summed test loss by fine-tuning"
    streams: ClassVar[bool] = False
    logit_growth: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        for key in ("steps", "batch_size"):
            if not (getattr(self, key) is None and key == "batch_size"):
                integer(key, getattr(self, key), 1, expected="an integer, 1 or more")
        integer("seed", self.seed, 0, 2**63 - 1, "an integer, 0 or more")
        number("lr", self.lr, "a finite number above 0", above=0)

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        d, c = facts.features + 1, facts.outputs
        return {
            "weights": (d, c),
            "train_x": (facts.train_rows, d),
            "train_y": (facts.train_rows, c),
            "test_x": (facts.test_rows, d),
            "test_y": (facts.test_rows, c),
        }

    def prepare(self, model: LinearModel, train: Dataset | None, test: Dataset | None) -> dict[str, torch.Tensor]:
        self.require(train, test)
        owned = {"weights": centred(model.theta)}
        for name, data in (("train", train), ("test", test)):
            owned[f"{name}_x"], owned[f"{name}_y"] = with_bias(data.x.to(torch.float64)), data.targets(model.outputs)
        return owned

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        weights, test_x = owned["weights"], owned["test_x"]
        # The change is kept apart from the weights, theta_t = theta + unit * change, because at a small rate it would
        # vanish in the last bits of the weights. For the same reason the logits are X theta + unit * (X change), in
        # which X theta is computed once; the number of products is that of X theta_t.
        unit, bits, decay = self.unit, self.change_bits(facts), 2 * self.lr * facts.l2
        pull = shared(scaled(weights, decay / unit), bits) if decay > 0 else None
        change, moved = shared(weights * 0.0, bits), None
        parts = [(owned["train_x"], owned["train_y"]), (x, y)]
        everything = [(a, b, a.matmul(weights)) for a, b in parts] if self._all_rows(facts) else None
        for rows in self.schedule(facts):
            used = [(i, index) for i, index in enumerate(rows) if len(index)]
            features, labels, logits = [], [], []
            for i, index in used:
                if everything is not None:
                    a, b, start = everything[i]
                else:
                    a, b = parts[i][0][index], parts[i][1][index]
                    start = a.matmul(weights)
                features.append(a)
                labels.append(b)
                logits.append(start if moved is None else start + scaled(a.matmul(moved), unit))
            # The residuals come together, one softmax a step, whichever owner's rows they are.
            residuals = facts.loss.residual(cat(logits), cat(labels))
            # A candidate of a squared error may be shared as fewer rows than it has; the mean is over all it has.
            gradient, start, n = None, 0, sum(len(index) for _, index in used)
            for a in features:
                end = start + a.shape[0]
                term = (residuals if len(used) == 1 else residuals[start:end]).t().matmul(a).t()
                gradient, start = term if gradient is None else gradient + term, end
            # The sum is divided once, by n and with the rate, because the mean gradient has few bits to lose.
            change = descended(change, gradient, self.lr / unit / n, 0.0 if moved is None else decay, bits)
            change = change if pull is None else change - pull
            moved = factor(change, self.product_bits(facts))
            record_weights(weights + scaled(change, unit))
        before, y = test_x.matmul(weights), owned["test_y"]
        if self.expands(facts) and private(before):
            return self._series(before, test_x, y, factor(change), facts)
        return facts.loss.rise(before, before + scaled(test_x.matmul(moved), unit), y)

    @property
    def unit(self) -> float:
        """Return the unit of the change of the weights: the largest power of two up to the rate, in a public range."""
        return 2.0 ** max(SMALLEST_UNIT, min(0, math.floor(math.log2(self.lr))))

    def product_bits(self, facts: Facts) -> int:
        """Return with how many fractional bits, in its unit, the change of the weights enters products on shares.

        The products have to fit the ring where rows have FINE_BITS fractional bits, for the public bound on what
        training adds to logits. A squared error has no such bound.
        """
        if not facts.loss.exponential:
            return FINE_BITS
        room = LARGEST_BITS - FINE_BITS - math.ceil(math.log2(max(1.0, self.logit_spread(facts))))
        return max(1, min(FINEST_BITS, room) + round(math.log2(self.unit)))

    def change_bits(self, facts: Facts) -> int:
        """Return how many fractional bits the change of the weights has on shares, in its unit."""
        return max(SHARED_BITS, self.product_bits(facts))

    def expands(self, facts: Facts) -> bool:
        """Return whether the change of the loss on shares is the series above; the rule is public."""
        return facts.loss.exponential and self.lr * self.steps <= SMALL * (1 + 1e-9)

    def _series(self, before, test_x, y, change, facts: Facts):
        """Return the series above for D = unit * change.

        Logits that `change` adds are divided by a power of two that brings them within 4, whatever the data are, and
        the gradient by one that keeps its product with `change` below 2^24, so that all derivatives fit the ring.
        """
        largest = self.largest_move(facts) / self.unit
        wide = 2.0 ** max(0, math.ceil(math.log2(largest / 4)))
        down = 2.0 ** max(0, math.ceil(math.log2(2 * facts.test_rows * largest)) - 24)
        gradient = facts.loss.residual(before, y).t().matmul(test_x).t() / down
        found = scaled((change * gradient).sum(), self.unit * down)
        logits = factor(test_x.matmul(change) / wide)
        for order, derivative in enumerate(facts.loss.along(before, logits), start=2):
            found = found + scaled(derivative, (self.unit * wide) ** order / math.factorial(order))
        return found

    def largest_move(self, facts: Facts) -> float:
        """Return a bound on how far training moves a logit, from the public norms."""
        weights = self.logit_growth * facts.logit_bound / facts.longest
        if facts.auto:
            weights = max(weights, self.farthest_norm(facts))
        step = math.sqrt(2) * facts.loss.largest_residual(facts.logit_bound, facts.target) * facts.longest
        return self.lr * self.steps * (step + 2 * facts.l2 * weights) * facts.longest

    def logit_spread(self, facts: Facts) -> float:
        # What training has added is computed apart, and has to fit the ring too.
        start, farthest = self.start_norm(facts), self.farthest_norm(facts)
        return max((1 if facts.loss is LOGISTIC else 2) * farthest, farthest + start) * facts.longest

    def start_norm(self, facts: Facts) -> float:
        """Return a bound on the norm of a class's centred weights before training, or of the column of one output."""
        return (2 if facts.loss is LOGISTIC else 1) * facts.logit_bound / facts.longest

    def farthest_norm(self, facts: Facts) -> float:
        """Return a bound on the same norm after any step, for residuals of size 1 at most.

        Weights of norm w have a norm of at most `|1 - 2 lr l2| w + lr R` after a step, for rows within R; 1% is for
        rounding.
        """
        norm = farthest = self.start_norm(facts)
        for _ in range(self.steps):
            norm = 1.01 * (norm * abs(1 - 2 * self.lr * facts.l2) + self.lr * facts.longest)
            farthest = max(farthest, norm)
        return farthest

    def reach(self, norm: float, facts: Facts) -> float:
        # A class's mean gradient is a mean of r x for residuals r, and it is centred; 1% is for rounding. A residual of
        # softmax regression is p - y, of size 1 at most.
        largest = facts.loss.largest_residual(norm * facts.longest, facts.target)
        return 1.01 * (norm * (1 + 2 * self.lr * facts.l2) + self.lr * facts.longest * largest)

    def summed_rows(self, facts: Facts) -> int:
        total = facts.train_rows + facts.rows
        return self.steps * (total if self._all_rows(facts) else self.batch_size)

    def mixes_rows(self, facts: Facts) -> bool:
        return self._all_rows(facts)

    def opened_at(self, value: float, facts: Facts) -> float:
        return -value * facts.test_rows

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        return score

    def paper_value(self, opened: float, facts: Facts) -> float:
        return opened

    def value(self, opened: float, facts: Facts) -> float:
        return -opened / facts.test_rows

    def _all_rows(self, facts: Facts) -> bool:
        return self.batch_size is None or self.batch_size >= facts.train_rows + facts.rows

    def schedule(self, facts: Facts) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield for each step the numbers of the rows of D_tr and of D_a that the step takes, as two LongTensors.

        Batches run through a random order of all rows, in which the rows of D_tr are numbered before those of D_a. A
        rest that is too short for a batch is left out, and a new order is drawn.
        """
        total = facts.train_rows + facts.rows
        size = total if self._all_rows(facts) else self.batch_size
        generator, order = torch.Generator().manual_seed(self.seed), torch.empty(0, dtype=torch.int64)
        for _ in range(self.steps):
            if len(order) < size:
                order = torch.arange(total) if size == total else torch.randperm(total, generator=generator)
            batch, order = order[:size], order[size:]
            own = batch < facts.train_rows
            yield batch[own], batch[~own] - facts.train_rows
