"""A graph of ONNX as a graph of CrypTen's modules.

What becomes secret when the model is encrypted: parameters, buffers of floating point, and every other array of
floating point that the file holds as an initializer. What stays public, since shapes and options have to be known:
integers, truth values, single numbers that are no parameter, and constants that stand in the graph itself.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.crypten_programs.operators import OPERATORS, Constant, crypten


class ConversionError(InputError, ValueError):
    """A model that cannot be converted, or cannot be exported; the message names what is not supported."""


PUBLIC_INPUTS = {"Clip": (1, 2), "Pad": (1, 2, 3), "Pow": (1,), "Dropout": (1, 2)}
"""Inputs, by operator and place, that have to be public although they are of floating point."""

STATISTICS = {"BatchNormalization": (3, 4)}
"""Inputs that training changes without a gradient."""


def attribute_value(attribute: Any) -> Any:
    """Return the value of a node's attribute as a number, bytes, a list or a tensor; None for a subgraph."""
    import onnx

    if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        return None
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return tensor_of(value)
    return list(value) if not isinstance(value, (int, float, bytes, str)) else value


def tensor_of(array: Any) -> torch.Tensor:
    """Return the tensor of an array in an ONNX file."""
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(array).copy())


def _places(graph: Any, table: dict[str, tuple[int, ...]]) -> set[str]:
    """Return the names of values that stand at the places of `table` in some node's inputs."""
    return {
        node.input[place]
        for node in graph.node
        for place in table.get(node.op_type, ())
        if place < len(node.input) and node.input[place]
    }


def _initializer(name: str, value: torch.Tensor, public: bool, trained: bool) -> Any:
    if public:
        return Constant(value=value)
    return crypten.nn.Parameter(value.float() if value.dtype == torch.float16 else value, trainable=trained)


def _named(node: Any) -> str:
    return node.name or (node.output[0] if node.output else "a node without a name")


def refusals(graph: Any) -> list[str]:
    """Return one line for each node that cannot be computed: its layer, its operator and why."""
    lines = []
    for node in graph.node:
        operator = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx", "crypten") else None
        if operator is None:
            lines.append(f"{_named(node)} (operator {node.op_type})")
            continue
        reason = operator.refusal({one.name: attribute_value(one) for one in node.attribute})
        if reason:
            lines.append(f"{_named(node)} (operator {node.op_type}: {reason})")
    return lines


def converted(onnx_model: Any, state: Set[str] | None = None, trained: Set[str] | None = None) -> Any:
    """Return the `crypten.nn.Graph` of an ONNX model.

    Args:
        onnx_model: The model as onnx reads it.
        state: The names of parameters and buffers of the model it was exported from, if known.
        trained: The names of the parameters among them.

    Raises ConversionError: An operator cannot be computed; the message lists every such node.
    """
    if onnx_model.functions:
        import onnx.inliner

        onnx_model = onnx.inliner.inline_local_functions(onnx_model)
    graph = onnx_model.graph
    refused = refusals(graph)
    if refused:
        raise ConversionError(
            "layers of the model", "; ".join(refused), "layers whose operators can be computed on shares"
        )
    arrays = {array.name for array in graph.initializer}
    inputs = [one.name for one in graph.input if one.name not in arrays]
    result = crypten.nn.Graph(inputs, [one.name for one in graph.output])
    options, statistics = _places(graph, PUBLIC_INPUTS), _places(graph, STATISTICS)
    for array in graph.initializer:
        value = tensor_of(array)
        own = state is not None and array.name in state
        public = not value.is_floating_point() or (not own and (value.dim() == 0 or array.name in options))
        by_gradient = array.name in trained if trained is not None else array.name not in statistics
        result.add_module(array.name, _initializer(array.name, value, public, by_gradient), [])
    for node in graph.node:
        _add(result, node)
    return result


def _add(result: Any, node: Any) -> None:
    """Add the module of a node. Outputs that nobody takes, such as the mask of dropout, are left out."""
    module = OPERATORS[node.op_type].from_onnx({one.name: attribute_value(one) for one in node.attribute})
    inputs, outputs = list(node.input), list(node.output)
    while inputs and not inputs[-1]:
        inputs.pop()
    while len(outputs) > 1 and not (outputs[-1] and module.several_outputs):
        outputs.pop()
    outputs = [name or f"{_named(node)}_unused_{place}" for place, name in enumerate(outputs)]
    result.add_module(outputs[0], module, inputs, output_names=outputs)
