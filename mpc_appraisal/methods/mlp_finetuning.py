"""Fine-tuning of a small multilayer perceptron, for a model owner whose model is not convex.

    f(D_a) = sum over D_te of  L(x, y; theta_ft) - L(x, y; theta)
    logits(x; theta) = relu([x, 1] W) V + b,    theta = (W, V, b) of shapes (d + 1, h), (h, C), (1, C)

    theta <- theta - lr grad(mean L over all rows + l2 ||theta||^2)

D_tr and D_te are the model owner's training and test rows, D_a is the candidate, and L is the cross-entropy. d is the
number of features, h of hidden units, C of classes. theta_ft is what `steps` such steps make of theta, on D_tr and D_a
together. This is eq. 4 of Xu, van der Maaten and Hannun (2022). The value is -f divided by the number of test rows. The
model owner trains theta on D_tr in the clear, with Adam from a public initialisation. Of the run's softmax regression
only the l2 is used.

`gradients` states the gradients as formulas, which plain tensors and shares compute alike. They begin at the logits
with softmax(logits) - y, the exact gradient of the summed cross-entropy. The sum is divided together with the rate,
because a mean over many rows would have few of its 16 bits left. On the engine comparisons subtract a row's largest
logit, and logits more than 16 below that are set to 16 below. Hence no public bound on logits is needed, softmax and
log-softmax are the engine's, and a test row's loss counts as 16 at most. Training that diverges leaves no other trace:
the value is then that of very bad data or, beyond the ring, a random one. Where the dealer's process computes softmaxes
as a helper (the backend `rtas`), logits are not limited, and divergence is an error.

The measured error of the value against float64 is 1.8e-5 (standard deviation over seven runs) for candidates of digits,
1.6e-5 at most in two runs with 5,940 rows of MNIST, and 4e-4 at most on CrypTen as shipped. The error was 0.1 and more
where every unit is at zero in every row, at a rate of 0.5, because a unit may switch by an error of any size. The error
bound of a record allows for that: see docs/protocols/perceptron_bound.md.

The method needs a training and a test set. It opens the sum f alone: weights, gradients, losses and which units fire
stay secret. Each step costs five products, a comparison for every row and unit and two for every row and class, and a
softmax. Defaults may change; a change to the formula needs another error bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.models.secret_layers import rounded
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.ops import cat, gated, layer, log_softmax, rectified, shared, softmax

WEIGHTS = ("hidden", "output", "bias")
PRETRAINING_RATE = 0.01  # of Adam
BITS = 16  # Weights, hidden values and gradients on shares have so many fractional bits.


@dataclass(frozen=True)
class MlpFinetuning(Appraiser):
    """Equation 4 for a perceptron of one hidden layer is the method. The value is the fall of the mean test loss.

    Attributes:
        hidden: h, the number of hidden units, 1 or more.
        steps: The number of steps of fine-tuning, 1 or more.
        lr: The learning rate, above 0.
        seed: The seed of the public initialisation.
        pretraining: The number of steps, with all rows in each, of the model owner's own training; 0 or more.

    Raises InputError for an attribute out of range.
    """

    hidden: int = 32
    steps: int = 4
    lr: float = 0.3
    seed: int = 0
    pretraining: int = 200

    name: ClassVar[str] = "mlp_finetuning"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "test"})
    opens: ClassVar[str] = "change of the summed test loss by fine-tuning a perceptron"
    streams: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for key, least in (("hidden", 1), ("steps", 1), ("seed", 0), ("pretraining", 0)):
            integer(f"appraisal.{key}", getattr(self, key), least, 2**63 - 1, f"an integer of {least} or more")
        number("appraisal.lr", self.lr, above=0)

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        d, c = facts.features + 1, facts.classes
        return {
            "hidden": (d, self.hidden),
            "output": (self.hidden, c),
            "bias": (1, c),
            "train_x": (facts.train_rows, d),
            "train_y": (facts.train_rows, c),
            "test_x": (facts.test_rows, d),
            "test_y": (facts.test_rows, c),
            "before": (facts.test_rows, c),
        }

    def prepare(self, model: SoftmaxRegression, train: Dataset | None, test: Dataset | None) -> dict[str, torch.Tensor]:
        self.require(train, test)
        rows = {}
        for name, data in (("train", train), ("test", test)):
            rows[f"{name}_x"], rows[f"{name}_y"] = with_bias(data.x.to(torch.float64)), data.one_hot()
        weights = self.pretrained(rows["train_x"], rows["train_y"], model.l2)
        before = logits(rows["test_x"].matmul(weights[0]), *weights[1:])
        return dict(zip(WEIGHTS, weights, strict=True)) | rows | {"before": before}

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        rows, labels = [owned["train_x"], x], cat([owned["train_y"], y])
        weights, n = [shared(owned[name]) for name in WEIGHTS], facts.train_rows + facts.rows
        for _ in range(self.steps):
            # All weights are updated as one vector, so that each truncation takes one round for all of them.
            found, theta = (cat([w.reshape(-1) for w in each]) for each in (gradients(rows, labels, *weights), weights))
            if facts.l2 > 0:
                theta = theta - times(theta, 2 * self.lr * facts.l2)
            weights = parted(theta - times(found, self.lr / n), [w.shape for w in weights])
        after = logits(owned["test_x"].matmul(weights[0]), *weights[1:])
        # Both losses are computed by one formula, so that its errors largely cancel.
        both = log_softmax(cat([shared(owned["before"]), after]))
        return ((both[: facts.test_rows] - both[facts.test_rows :]) * owned["test_y"]).sum()

    def summed_rows(self, facts: Facts) -> int:
        return facts.train_rows + facts.rows

    def opened_at(self, value: float, facts: Facts) -> float:
        return -value * facts.test_rows

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        return score

    def paper_value(self, opened: float, facts: Facts) -> float:
        return opened

    def value(self, opened: float, facts: Facts) -> float:
        return 0.0 - opened / facts.test_rows

    def pretrained(self, x: torch.Tensor, y: torch.Tensor, l2: float) -> list[torch.Tensor]:
        """Return W, V and b after the model owner's own training, the same at every call.

        Args:
            x: The training rows (n, d + 1), with the constant feature, in float64.
            y: The labels (n, C), one-hot.
            l2: The strength of the regulariser.
        """
        generator, (d, c) = torch.Generator().manual_seed(self.seed), (x.shape[1], y.shape[1])
        weights = [
            torch.randn(d, self.hidden, dtype=torch.float64, generator=generator) * math.sqrt(2 / d),
            torch.randn(self.hidden, c, dtype=torch.float64, generator=generator) * math.sqrt(1 / self.hidden),
            torch.zeros(1, c, dtype=torch.float64),
        ]
        optimiser = torch.optim.Adam([w.requires_grad_() for w in weights], lr=PRETRAINING_RATE)
        for _ in range(self.pretraining):
            optimiser.zero_grad()
            likelihood = (logits(x.matmul(weights[0]), *weights[1:]).log_softmax(1) * y).sum() / len(x)
            (l2 * sum(w.square().sum() for w in weights) - likelihood).backward()
            optimiser.step()
        return [w.detach() for w in weights]


def logits(hidden: torch.Tensor, output: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return relu(hidden) output + bias, (n, C), from (n, h), (h, C) and (1, C): plain tensors or CrypTen's."""
    return hidden.relu().matmul(output) + bias


def gradients(
    rows: Sequence[torch.Tensor], labels: torch.Tensor, hidden: torch.Tensor, output: torch.Tensor, bias: torch.Tensor
) -> list[torch.Tensor]:
    """Return the gradients of the summed cross-entropy with respect to W (d, h), V (h, C) and b (1, C).

        a = relu(X W),   g = softmax(a V + b) - y,   dV = a' g,   db = sum g,   dW = X' ([X W > 0] (g V'))

    Args:
        rows: the blocks of X, (n_i, d).
        labels: y, the one-hot labels of all blocks (n, C).
        hidden, output, bias: W, V and b. They are plain tensors, or secret as all arguments are.
    """
    a, positive = rectified(cat([x.matmul(hidden) for x in rows]), BITS)
    z, backward = layer(a, output)
    g = softmax(z + bias) - labels
    of_output, of_a = backward(g)
    of_units = gated(positive, of_a, BITS)
    of_hidden, start = None, 0
    for x in rows:
        block = x.t().matmul(of_units[start : start + x.shape[0]])
        of_hidden, start = block if of_hidden is None else of_hidden + block, start + x.shape[0]
    return [of_hidden, of_output, g.sum(0).reshape(1, -1)]


def times(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    """Return tensor * factor for a public factor > 0, as m / 2^k with m of 16 bits.

    On shares the quotient by 2^k is truncated once, and its product with m once.
    """
    k = max(0, 1 - math.frexp(factor)[1])
    quotient = rounded(tensor / float(2**k) if k else tensor, BITS)
    m = math.ldexp(factor, k)
    return quotient if m == 1.0 else quotient * m


def parted(theta: torch.Tensor, shapes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the tensors of the given shapes whose elements stand one after the other in the vector `theta`."""
    found, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        found.append(theta[start : start + size].reshape(*shape))
        start += size
    return found
