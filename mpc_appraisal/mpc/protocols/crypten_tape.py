"""CrypTen's autograd over the engine, by which methods train on shares.

`EngineTape` is what `ops.tape` returns for tensors of a session on an engine. A formula that is differentiated runs on
MPCTensors, CrypTen's secret tensors (see `crypten_adapter`); its products, softmax and log-softmax are the engine's.
What is sent, and what each protocol costs, is stated in those files.

In shapes, n is a number of rows, d of features, k of columns of a matrix of weights, and C of classes. The way in which
products are computed may change. It has to stay that gradients flow to the weights alone, and that every row of logits
is brought into LOGIT_RANGE before a softmax, which is right only within its bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.crypten_adapter import from_crypten
from mpc_appraisal.mpc.protocols.softmax import LOGIT_RANGE
from mpc_appraisal.mpc.protocols.tensors import Context, PrivateTensor, Secret

# CrypTen is imported after the adapter, which first makes it load on today's torch.
from crypten.gradients import AutogradFunction, register_function  # noqa: E402 isort: skip


class ConstantRows:
    """A matrix (n, d) that is the constant left factor of products, as blocks of rows that one owner each knows.

    The engine masks each block once, for all products and for their gradients. CrypTen would open each block under a
    mask in every product.
    """

    def __init__(self, blocks: list[PrivateTensor]):
        self.blocks = blocks

    def product(self, weights: Any) -> Any:
        """Return the MPCTensor x @ weights, (n, d) (d, k) -> (n, k), where x are all blocks."""
        return ops.cat([block.matmul(_secret(block.context, weights)) for block in self.blocks]).crypten()

    def transposed_product(self, gradient: Any) -> Any:
        """Return the MPCTensor x' @ gradient, (d, n) (n, k) -> (d, k), where x are all blocks."""
        total, start = None, 0
        for block in self.blocks:
            rows = _secret(block.context, gradient)[start : start + block.shape[0]]
            term = block.t().matmul(rows)
            total, start = term if total is None else total + term, start + block.shape[0]
        return total.crypten()


def _secret(context: Context, tensor: Any) -> Secret:
    return Secret(context, *from_crypten(tensor))


@register_function("multiplied_by_rows")
class MultipliedByRows(AutogradFunction):
    """The product (n, k) of `ConstantRows` (n, d) and weights (d, k), in CrypTen's autograd."""

    @staticmethod
    def forward(ctx, weights, blocks):
        ctx.save_for_backward(blocks)
        return blocks.product(weights)

    @staticmethod
    def backward(ctx, gradient):
        (blocks,) = ctx.saved_tensors
        return blocks.transposed_product(gradient)


class EngineTape(ops.Tape):
    """CrypTen's autograd over the engine, with the engine's products, softmax and log-softmax.

    `ops.Tape` describes the methods. A relu is computed by `comparison.relu`, or by the helper if there is one.
    """

    def __init__(self, context: Context):
        self.context = Context(context.engine, LOGIT_RANGE)  # `_in_range` keeps every logit to this bound.

    def constant(self, value):
        return (value.secret() if isinstance(value, PrivateTensor) else value).crypten()

    def product(self, parts, weights):
        return weights.multiplied_by_rows(ConstantRows(list(parts)))

    def softmax(self, logits):
        return self._in_range([logits]).softmax(1).crypten()

    def log_softmax(self, parts):
        return self._in_range(parts).log_softmax(1)

    def _in_range(self, parts: Sequence[Any]) -> Secret:
        """Return max(z - the largest of its row, -LOGIT_RANGE) for the rows z of all `parts`, by exact comparisons.

        If the engine has a helper, z itself is returned, because the helper needs no range.
        """
        z = ops.cat([_secret(self.context, part) for part in parts])
        if self.context.engine.helper:
            return z
        top = z.t()
        while top.shape[0] > 1:
            half = top.shape[0] // 2
            first, second, odd = top[:half], top[half : 2 * half], top[2 * half :]
            top = ops.cat([second + (first - second).relu(), odd])
        return (z - top.t() + LOGIT_RANGE).relu() - LOGIT_RANGE
