"""Fine-tuning of a small multilayer perceptron, for a model owner whose model is not convex.

    f(D_a) = sum over D_te of  L(x, y; theta_ft) - L(x, y; theta)
    z_1 = [x, 1] W_1,   z_(l+1) = relu(z_l) W_(l+1) + b_(l+1),   logits(x; theta) = z of the last layer

    theta <- theta - lr grad(mean L over all rows + l2 ||theta||^2)

D_tr and D_te are the model owner's training and test rows, D_a is the candidate, and L is the cross-entropy. theta are
all weights W_l and biases b_l, of shapes (d + 1, h_1), (h_1, h_2), (1, h_2) and so on: d is the number of features, h_l
that of the units of hidden layer l, C of classes. All these sizes are public. theta_ft is what `steps` such steps make
of theta, on D_tr and D_a together. This is eq. 4 of Xu, van der Maaten and Hannun (2022). The value is -f divided by
the number of test rows. The model owner trains theta on D_tr in the clear, with Adam from a public initialisation. Of
the run's softmax regression only the l2 is used.

`gradients` states the gradients as formulas, which plain tensors and shares compute alike. They begin at the logits
with softmax(logits) - y, the exact gradient of the summed cross-entropy. The sum is divided together with the rate,
because a mean over many rows would have few of its bits left. The loss before training is the model owner's own, in
float64. On the engine the softmax subtracts about the largest logit of a row, which comparisons find. A logit more
than 16 below that has the probability 0, and counts as 16 below it in a loss. Hence no public bound on logits is
needed, and a test row's loss is at most 16 + ln C. Training that diverges leaves no other trace: the value is then that
of very bad data or, beyond the ring, a random one. Where the dealer's process computes softmaxes as a helper (the
backend `rtas`), logits are not limited, and divergence is an error.

The measured error of the value against float64 is 4e-6 (root mean square over ten runs on digits, 100 test rows), of
which 2.8e-6 is the rounding of the opened sum, and 3e-6 at most in two runs with 5,940 rows of MNIST. It was 1.1e-5 on
the same digits with weights of 16 bits. It is 4e-4 at most on CrypTen as shipped. The error depends on the data:
training that overshoots multiplies it, two hidden layers at a rate of 0.3 by a thousand in three steps. It was 0.05 and
more where every unit is at zero in every row, at a rate of 0.5, because a unit may switch by an error of any size. The
error bound of a record allows for that: see docs/protocols/perceptron_bound.md.

The method needs a training and a test set. It opens the sum f alone: weights, gradients, losses and which units fire
stay secret. Each step costs two products, and for every hidden layer three more and a comparison for every row and
unit; further a softmax, which compares the logits of a row with each other and with their largest, and one round that
updates all weights. Defaults may change; a change to the formula needs another error bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.ops import cat, descended, gated, layer, log_softmax, rectified, shared, softmax

MOST_LAYERS = 8  # hidden layers
PRETRAINING_RATE = 0.01  # of Adam
BITS = 18  # Weights, hidden values and the gradients of rows have so many fractional bits on shares.


@dataclass(frozen=True)
class MlpFinetuning(Appraiser):
    """Equation 4 for a perceptron is the method. The value is the fall of the mean test loss.

    Attributes:
        hidden: The number of hidden units, 1 or more; or a list of up to 8 such numbers, one for each hidden layer.
        steps: The number of steps of fine-tuning, 1 or more.
        lr: The learning rate, above 0.
        seed: The seed of the public initialisation.
        pretraining: The number of steps, with all rows in each, of the model owner's own training; 0 or more.

    Raises InputError for an attribute out of range.
    """

    hidden: int | tuple[int, ...] = 32
    steps: int = 4
    lr: float = 0.3
    seed: int = 0
    pretraining: int = 200

    name: ClassVar[str] = "mlp_finetuning"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "test"})
    opens: ClassVar[str] = "change of the summed test loss by fine-tuning a perceptron"
    streams: ClassVar[bool] = False

    def __post_init__(self) -> None:
        several = isinstance(self.hidden, Sequence) and not isinstance(self.hidden, (str, bytes))
        if several and not 1 <= len(self.hidden) <= MOST_LAYERS:
            raise InputError("hidden", list(self.hidden), f"1 to {MOST_LAYERS} numbers of units")
        for units in self.hidden if several else (self.hidden,):
            integer("hidden", units, 1, 2**63 - 1, "an integer of 1 or more, or a list of such")
        if several:  # A list of one number is that number, so that requests and records state both alike.
            object.__setattr__(self, "hidden", tuple(self.hidden) if len(self.hidden) > 1 else self.hidden[0])
        for key, least in (("steps", 1), ("seed", 0), ("pretraining", 0)):
            integer(key, getattr(self, key), least, 2**63 - 1, f"an integer of {least} or more")
        number("lr", self.lr, above=0)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of units of each hidden layer."""
        return (self.hidden,) if isinstance(self.hidden, int) else self.hidden

    def weight_shapes(self, d: int, c: int) -> dict[str, tuple[int, int]]:
        """Return the names and shapes of W_1, then of each further layer's W and b, for rows of d numbers."""
        first, *further = self.widths
        shapes, inputs = {"hidden": (d, first)}, first
        for place, units in enumerate(further, 2):
            shapes |= {f"hidden_{place}": (inputs, units), f"bias_{place}": (1, units)}
            inputs = units
        return shapes | {"output": (inputs, c), "bias": (1, c)}

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        d, c = facts.features + 1, facts.classes
        return self.weight_shapes(d, c) | {
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
        names = self.weight_shapes(rows["train_x"].shape[1], rows["train_y"].shape[1])
        return dict(zip(names, weights, strict=True)) | rows | {"before": before}

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        rows, labels = [owned["train_x"], x], cat([owned["train_y"], y])
        names = self.weight_shapes(facts.features + 1, facts.classes)
        weights, n = [shared(owned[name], BITS) for name in names], facts.train_rows + facts.rows
        for _ in range(self.steps):
            # All weights are updated as one vector, which takes one round on shares.
            found, theta = (cat([w.reshape(-1) for w in each]) for each in (gradients(rows, labels, *weights), weights))
            theta = descended(theta, found, self.lr / n, 2 * self.lr * facts.l2, BITS)
            weights = parted(theta, list(names.values()))
        after = logits(owned["test_x"].matmul(weights[0]), *weights[1:])
        return ((log_softmax(owned["before"]) - log_softmax(after)) * owned["test_y"]).sum()

    def logit_spread(self, facts: Facts) -> None:
        return None  # its softmax has no bound in any case

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
        """Return the weights in the order of `weight_shapes` after the model owner's own training; always the same.

        Args:
            x: The training rows (n, d + 1), with the constant feature, in float64.
            y: The labels (n, C), one-hot.
            l2: The strength of the regulariser.
        """
        generator, shapes = torch.Generator().manual_seed(self.seed), self.weight_shapes(x.shape[1], y.shape[1])
        weights = []
        for name, (inputs, units) in shapes.items():
            if name.startswith("bias"):
                weights.append(torch.zeros(inputs, units, dtype=torch.float64))
                continue
            drawn = torch.randn(inputs, units, dtype=torch.float64, generator=generator)
            weights.append(drawn * math.sqrt((1 if name == "output" else 2) / inputs))
        optimiser = torch.optim.Adam([w.requires_grad_() for w in weights], lr=PRETRAINING_RATE)
        for _ in range(self.pretraining):
            optimiser.zero_grad()
            likelihood = (logits(x.matmul(weights[0]), *weights[1:]).log_softmax(1) * y).sum() / len(x)
            (l2 * sum(w.square().sum() for w in weights) - likelihood).backward()
            optimiser.step()
        return [w.detach() for w in weights]


def logits(hidden: torch.Tensor, *further: torch.Tensor) -> torch.Tensor:
    """Return the logits (n, C) from X W_1 (n, h_1) and each further layer's W and b: plain tensors or CrypTen's."""
    z = hidden
    for weights, bias in zip(further[::2], further[1::2], strict=True):
        z = z.relu().matmul(weights) + bias
    return z


def gradients(
    rows: Sequence[torch.Tensor], labels: torch.Tensor, hidden: torch.Tensor, *further: torch.Tensor
) -> list[torch.Tensor]:
    """Return the gradients of the summed cross-entropy with respect to all weights, in their order.

        z_1 = X W_1,   a_l = relu(z_l),   z_(l+1) = a_l W_(l+1) + b_(l+1),   g_L = softmax(z_L) - y
        dW_(l+1) = a_l' g_(l+1),   db_(l+1) = sum g_(l+1),   g_l = [z_l > 0] (g_(l+1) W_(l+1)'),   dW_1 = X' g_1

    Args:
        rows: the blocks of X, (n_i, d).
        labels: y, the one-hot labels of all blocks (n, C).
        hidden: W_1 (d, h_1).
        further: W_l and b_l of each further layer. All weights are plain tensors, or secret as all arguments are.
    """
    z, passed = cat([x.matmul(hidden) for x in rows]), []
    for weights, bias in zip(further[::2], further[1::2], strict=True):
        a, positive = rectified(z, BITS)
        product, backward = layer(a, weights)
        z = product + bias
        passed.append((positive, backward))
    g, found = softmax(z) - labels, []
    for positive, backward in reversed(passed):
        of_weights, of_a = backward(g)
        found = [of_weights, g.sum(0).reshape(1, -1), *found]
        g = gated(positive, of_a, BITS)
    of_hidden, start = None, 0
    for x in rows:
        block = x.t().matmul(g[start : start + x.shape[0]])
        of_hidden, start = block if of_hidden is None else of_hidden + block, start + x.shape[0]
    return [of_hidden, *found]


def parted(theta: torch.Tensor, shapes: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the tensors of the given shapes whose elements stand one after the other in the vector `theta`."""
    found, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        found.append(theta[start : start + size].reshape(*shape))
        start += size
    return found
