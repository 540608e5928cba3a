"""LSTM, GRU and simple recurrent layers of ONNX as modules of CrypTen; `operators` says how they are called.

Weights are one matrix for all gates, in ONNX's order: input, output, forget, cell for an LSTM; update, reset, hidden
for a GRU. Each has a leading axis for the direction. X is (steps, batch, inputs), and the outputs are Y (steps,
directions, batch, hidden), the last hidden state (directions, batch, hidden) and, for an LSTM, the last cell state.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from mpc_appraisal.mpc.crypten_programs.operators import Add, MatMul, Mul, Operator, crypten, is_secret

DEFAULT_ACTIVATIONS = {
    "LSTM": [b"Sigmoid", b"Tanh", b"Tanh"],
    "GRU": [b"Sigmoid", b"Tanh"],
    "RNN": [b"Tanh"],
}


class _Recurrent(Operator):
    """The base: it walks the steps in each direction, and a class says what one step does."""

    defaults = {"direction": b"forward", "linear_before_reset": 0}
    several_outputs = True

    @classmethod
    def refusal(cls, attributes):
        name, directions = cls.__name__, 2 if attributes.get("direction") == b"bidirectional" else 1
        usual = DEFAULT_ACTIVATIONS[name] * directions
        found = attributes.get("activations", usual)
        if name == "RNN" and found == [b"Relu"] * directions:
            return None
        for key in ("clip", "layout", "input_forget"):
            if attributes.get(key):
                return f"it states {key}"
        return None if found == usual else f"its activations are {found}"

    def compute(self, x, weights, recurrent, bias=None, lengths=None, hidden=None, cell=None, *_):
        size, several = recurrent.size(-1), self.attributes["direction"] == b"bidirectional"
        outputs, last = [], []
        for way in range(2 if several else 1):
            backwards = way == 1 or self.attributes["direction"] == b"reverse"
            w, r = (one.narrow(0, way, 1).squeeze(0).transpose(0, 1) for one in (weights, recurrent))
            b = None if bias is None else bias.narrow(0, way, 1).squeeze(0)
            state = [None if one is None else one.narrow(0, way, 1).squeeze(0) for one in (hidden, cell)]
            zeros = torch.zeros(x.size(1), size, dtype=torch.float32 if is_secret(x) else x.dtype)
            state = [zeros if one is None else one for one in state]
            steps = []
            for time in reversed(range(x.size(0))) if backwards else range(x.size(0)):
                state = self.step(x.narrow(0, time, 1).squeeze(0), state, w, r, b)
                steps.append(state[0])
            outputs.append(stacked(steps[::-1] if backwards else steps))
            last.append(state)
        finals = [stacked([state[i] for state in last]) for i in range(2 if type(self).__name__ == "LSTM" else 1)]
        results = (stacked(outputs, 1), *finals)
        made = len(self._output_names)
        return results[:made] if made > 1 else results[0]

    @abstractmethod
    def step(self, x: Any, state: list[Any], w: Any, r: Any, b: Any) -> list[Any]:
        """Return the next hidden state, and for LSTM the next cell beside it, each (batch, size).

        Args:
            x: The inputs of one time, (batch, features).
            state: The states before, in the same order.
            w, r: The weights of inputs and of hidden states, whose last axis holds the gates.
            b: Both biases in one, or None.
        """


def stacked(values: list[Any], dim: int = 0) -> Any:
    """Return values of one shape stacked along a new axis."""
    if is_secret(values[0]):
        return crypten.cat([value.unsqueeze(dim) for value in values], dim=dim)
    return torch.stack(values, dim)


def affine(x: Any, w: Any, b: Any) -> Any:
    """Return x w + b, where b may be absent."""
    product = MatMul().compute(x, w)
    return product if b is None else Add().compute(product, b)


def parts(value: Any, count: int) -> list[Any]:
    """Return equal parts of a tensor along its last axis, one for each gate."""
    size = value.size(-1) // count
    return [value.narrow(-1 % value.dim(), i * size, size) for i in range(count)]


class LSTM(_Recurrent):
    """Gates i, o, f by sigmoid and c by tanh; cell <- f cell + i c, hidden <- o tanh(cell)."""

    def step(self, x, state, w, r, b):
        hidden, cell = state
        own, back = (None, None) if b is None else parts(b, 2)
        gates = Add().compute(affine(x, w, own), affine(hidden, r, back))
        i, o, f = parts(gates.narrow(1, 0, 3 * cell.size(-1)).sigmoid(), 3)
        c = gates.narrow(1, 3 * cell.size(-1), cell.size(-1)).tanh()
        cell = Add().compute(Mul().compute(f, cell), i.mul(c))
        return [o.mul(cell.tanh()), cell]


class GRU(_Recurrent):
    """Gates z, r by sigmoid; hidden <- z hidden + (1 - z) tanh(W x + b + r (R hidden + c))."""

    def step(self, x, state, w, r, b):
        hidden, size = state[0], state[0].size(-1)
        own, back = (None, None) if b is None else parts(b, 2)
        given, kept = affine(x, w, own), affine(hidden, r, back)
        gates = Add().compute(given.narrow(1, 0, 2 * size), kept.narrow(1, 0, 2 * size)).sigmoid()
        update, reset = parts(gates, 2)
        if self.attributes["linear_before_reset"]:
            inner = Mul().compute(reset, kept.narrow(1, 2 * size, size))
        else:
            bias = None if back is None else back.narrow(0, 2 * size, size)
            inner = affine(Mul().compute(reset, hidden), r.narrow(1, 2 * size, size), bias)
        candidate = Add().compute(given.narrow(1, 2 * size, size), inner).tanh()
        difference = hidden.sub(candidate) if is_secret(hidden) else Add().compute(candidate.neg(), hidden)
        return [candidate.add(Mul().compute(update, difference)), state[1]]


class RNN(_Recurrent):
    """hidden <- tanh or relu of W x + b + R hidden + c."""

    def step(self, x, state, w, r, b):
        own, back = (None, None) if b is None else parts(b, 2)
        total = Add().compute(affine(x, w, own), affine(state[0], r, back))
        relu = self.attributes.get("activations", [b"Tanh"])[0] == b"Relu"
        return [total.relu() if relu else total.tanh(), state[1]]
