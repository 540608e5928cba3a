"""CrypTen's graph of modules and its state dictionaries; `install` replaces what the table names, and nothing else.

| in CrypTen | before | now |
|---|---|---|
| Graph.forward | refuses x * x and absent inputs; searches all nodes at each step | walks the nodes in order |
| Graph.to_pytorch | leaves out running statistics of batch normalisation | parameters and buffers |
| Sequential of an OrderedDict | fails for names longer than a letter | runs |
| load_state_dict | leaves out buffers, such as running statistics | parameters and buffers |
"""

from __future__ import annotations

from typing import Any

import torch

from mpc_appraisal.common.errors import InputError


class StateError(InputError, ValueError, AssertionError):
    """A state dictionary that does not fit the model. CrypTen raises ValueError or AssertionError here."""


def inputs_of(graph: Any, name: str) -> list[str]:
    """Return the names of the values that the node `name` takes; an empty name is an input that is left out."""
    names = graph._graph[name]
    return [names] if isinstance(names, str) else list(names)


def outputs_of(graph: Any, name: str) -> list[str]:
    """Return the names of the values that the node `name` makes."""
    return list(getattr(graph._modules[name], "_output_names", None) or [name])


def in_order(graph: Any) -> list[str]:
    """Return the nodes of a graph in an order in which each comes after those whose values it takes.

    Raises InputError: A node takes a value that no node makes, or the graph has a circle.
    """
    known, order, waiting = {*graph.input_names, ""}, [], list(graph._graph)
    while waiting:
        ready, later = [], []
        for name in waiting:
            if all(value in known for value in inputs_of(graph, name)):
                ready.append(name)
                known.update(outputs_of(graph, name))
            else:
                later.append(name)
        if not ready:
            raise InputError(
                "graph", sorted(waiting), "nodes whose inputs are inputs of the graph or made by its nodes"
            )
        order, waiting = order + ready, later
    return order


def forward(self, *args):
    """Compute the graph on its inputs, and return its output, or a tuple of its outputs."""
    if len(args) != len(self.input_names):
        raise InputError("inputs of the graph", len(args), f"{len(self.input_names)} of them: {self.input_names}")
    values: dict[str, Any] = {**dict(zip(self.input_names, args, strict=True)), "": None}
    order = in_order(self)
    last_use = {value: name for name in order for value in inputs_of(self, name)}
    for name in order:
        inputs = [values[value] for value in inputs_of(self, name)]
        result = self._modules[name](inputs[0] if len(inputs) == 1 else inputs)
        made = outputs_of(self, name)
        values.update(zip(made, result if len(made) > 1 else [result], strict=True))
        for value in set(inputs_of(self, name)):
            if value and last_use[value] == name and value not in self.output_names:
                del values[value]
    results = tuple(values[name] for name in self.output_names)
    return results[0] if len(results) == 1 else results


def to_pytorch(self):
    """Return the PyTorch model from which the graph was made, with the graph's parameters and buffers.

    Raises:
        AttributeError: The graph was not made by `from_pytorch`.
        ValueError: The graph is encrypted.
    """
    if not hasattr(self, "pytorch_model"):
        raise AttributeError("CrypTen Graph detached from PyTorch model.")
    if self.encrypted:
        raise ValueError("CrypTen model must be decrypted before calling to_pytorch()")
    state = self.pytorch_model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in state.items():
            if name in self._modules:
                tensor.copy_(self._modules[name].data)
    return self.pytorch_model


def load_own_state(self, state_dict, prefix, strict):
    """Copy parameters and buffers of this module, without its children, from a state dictionary.

    Raises StateError: A name is missing (if `strict`), a size differs, or one side is encrypted and the other is not.
    """
    import crypten

    own = {**dict(self.named_parameters(recurse=False)), **dict(self.named_buffers(recurse=False))}
    for name, tensor in own.items():
        key = prefix + name
        if tensor is None or (key not in state_dict and not strict):
            continue
        if key not in state_dict:
            raise StateError("state_dict", sorted(state_dict), f"the key {key} among them")
        given = state_dict[key]
        if given.size() != tensor.size():
            raise StateError(key, tuple(given.size()), f"the shape {tuple(tensor.size())}, as in the model")
        secret = [isinstance(one, crypten.CrypTensor) for one in (given, tensor)]
        if secret[0] != secret[1]:
            words = ["plain", "encrypted"]
            raise StateError(key, f"{words[secret[0]]} values", f"{words[secret[1]]} ones, as in the model")
        with crypten.no_grad(), torch.no_grad():
            tensor.copy_(given)


def name_inputs(self, name, module, input_names=None, output_names=None):
    """Add a module to the graph, with the names of the values that it takes and makes."""
    if isinstance(input_names, str):
        input_names = [input_names]
    assert name not in self._graph, f"Module {name} already exists."
    self.register_module(name, module)
    if input_names is not None:
        self._graph[name] = input_names
    if output_names is not None:
        module._output_names = output_names


def install(crypten: Any) -> None:
    """Replace what the table of this file names; a second call does nothing."""
    module = crypten.nn.module
    module.Graph.forward = forward
    module.Graph.to_pytorch = to_pytorch
    module.Graph.add_module = name_inputs
    module.Module._load_from_state_dict_crypten = load_own_state
