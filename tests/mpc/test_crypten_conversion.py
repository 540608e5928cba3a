"""The conversion of PyTorch models and ONNX files into CrypTen models: names, refusals, and what it leaves alone."""

from __future__ import annotations

import copy
import io
import warnings

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.crypten_programs import exporting, graphs, layers
from mpc_appraisal.mpc.crypten_programs.conversion import ConversionError
from mpc_appraisal.mpc.crypten_programs.operators import OPERATORS, crypten

for each in (graphs, layers, exporting):
    each.install(crypten)

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.3), nn.BatchNorm1d(4))


def test_parameters_keep_their_names_and_none_are_merged_for_being_equal():
    model = network()
    converted = crypten.nn.from_pytorch(model, torch.zeros(1, 6))
    assert {name for name, _ in converted.named_parameters()} == {f"{n}.data" for n, _ in model.named_parameters()}
    assert {name for name, _ in converted.named_buffers()} == {
        f"{i}.running_{what}.data" for i in (1, 4) for what in ("mean", "var")
    }


def test_frozen_and_shared_parameters_are_trained_as_pytorch_trains_them():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.head = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 2)
            self.other.weight = self.one.weight
            self.head.weight.requires_grad = False

        def forward(self, x):
            return self.head(self.other(self.one(x)))

    model = Tied()
    converted = crypten.nn.from_pytorch(model, X)
    trained = [name for name, _ in converted.named_parameters()]
    assert len(trained) == 3 and {"head.bias.data", "one.bias.data"} < set(trained)
    assert set(trained) & {"one.weight.data", "other.weight.data"}
    assert "head.weight.data" in dict(converted.named_buffers())
    assert torch.allclose(converted(X), model(X), atol=1e-6)


def test_a_converted_model_is_saved_and_loaded_by_torch():
    model = network().eval()
    converted = crypten.nn.from_pytorch(model, torch.zeros(1, 6))
    file = io.BytesIO()
    torch.save(converted, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(X), converted(X))


def test_a_model_is_left_as_it_was_and_its_mode_is_taken_over():
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    converted = crypten.nn.from_pytorch(model, X)
    assert model.training and converted.training and all(part.training for part in converted.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not crypten.nn.from_pytorch(model.eval(), X).training


def test_a_conversion_says_nothing_and_leaves_torchs_own_export_alone(capfd):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        crypten.nn.from_pytorch(
            nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.GELU(), nn.Linear(4, 2)), torch.zeros(1, 2, 6)
        )
    assert not heard and capfd.readouterr() == ("", "")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(nn.GELU(), (X,), file, dynamo=False, opset_version=17)
    assert {node.domain for node in onnx.load_model_from_string(file.getvalue()).graph.node} == {""}


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_the_batch_may_have_another_size_than_the_dummy_input(rows):
    class Viewed(nn.Module):
        def forward(self, x):
            return x.view(x.size(0), -1) + x.reshape(x.shape[0], 6)

    converted = crypten.nn.from_pytorch(Viewed(), torch.zeros(2, 3, 2))
    x = torch.randn(rows, 3, 2)
    assert torch.equal(converted(x), Viewed()(x))


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + 2 * y, x * y

    converted = crypten.nn.from_pytorch(Two(), (X, X))
    assert all(torch.equal(one, other) for one, other in zip(converted(X, X + 1), Two()(X, X + 1), strict=True))
    with pytest.raises(InputError, match="inputs of the graph: got 1; expected 2"):
        converted(X)


def test_a_layer_that_cannot_be_computed_is_refused_by_its_name_and_operator():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.ReLU(), nn.Conv3d(1, 1, 2))

        def forward(self, x):
            return torch.einsum("bcdhw,bcdhw->bc", self.body(x), self.body(x))

    with pytest.raises(ConversionError) as refused:
        crypten.nn.from_pytorch(Model(), torch.zeros(1, 1, 3, 3, 3))
    assert "/body/body.1/Conv (operator Conv: it works in 3 dimensions" in str(refused.value)
    assert "/Einsum (operator Einsum)" in str(refused.value) and "Relu" not in str(refused.value)
    assert isinstance(refused.value, ValueError)  # as CrypTen's own refusal is


class Unexportable(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


def test_a_layer_that_torch_does_not_export_is_refused_with_the_extra_that_may_help(monkeypatch):
    monkeypatch.setattr(exporting, "has_dynamo_exporter", lambda: False)
    with pytest.raises(ConversionError, match=r"bessel_j0.*pip install mpc_appraisal\[onnx\]"):
        crypten.nn.from_pytorch(Unexportable(), X)


def test_without_either_exporter_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(exporting, "has_torchscript_exporter", lambda: False)
    monkeypatch.setattr(exporting, "has_dynamo_exporter", lambda: False)
    with pytest.raises(ConversionError, match=r"no exporter by TorchScript.*pip install mpc_appraisal\[onnx\]"):
        crypten.nn.from_pytorch(nn.ReLU(), X)


def test_a_model_that_fails_by_itself_raises_its_own_error():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        crypten.nn.from_pytorch(nn.Linear(5, 2), X)


@pytest.mark.parametrize("batch", [1, 5])
def test_torchs_other_exporter_converts_the_same_model(batch, monkeypatch):
    pytest.importorskip("onnxscript", reason="torch's exporter by dynamo wants onnxscript, the extra onnx")
    monkeypatch.setattr(exporting, "has_torchscript_exporter", lambda: False)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    ).eval()
    converted = crypten.nn.from_pytorch(model, torch.zeros(batch, 1, 6, 6))
    x = torch.randn(5, 1, 6, 6)
    assert (converted(x) - model(x)).abs().max() < 1e-5
    assert {f"{name}.data" for name, _ in model.named_parameters()} <= dict(converted.named_parameters()).keys()


def file_of(nodes, arrays=(), inputs=("x",), opset: int = 18) -> bytes:
    """Return an ONNX file of these nodes, from inputs of two axes to the value y."""
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in inputs]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value.numpy(), name) for name, value in arrays]
    graph = helper.make_graph(list(nodes), "graph", made, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString()


NODES = {
    "ReduceMean with axes as an input": (
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
        [("axes", torch.tensor([1]))],
        lambda x: x.mean(1),
    ),
    "Clip with one bound": (
        [helper.make_node("Clip", ["x", "", "high"], ["y"])],
        [("high", torch.tensor(0.5))],
        lambda x: x.clamp(max=0.5),
    ),
    "Dropout with its ratio as an input and a mask": (
        [helper.make_node("Dropout", ["x", "ratio"], ["y", "mask"])],
        [("ratio", torch.tensor(0.5))],
        lambda x: x,
    ),
    "Slice with a negative step": (
        [helper.make_node("Slice", ["x", "from", "to", "axes", "steps"], ["y"])],
        [(name, torch.tensor([value])) for name, value in (("from", -1), ("to", -(2**62)), ("axes", 1), ("steps", -2))],
        lambda x: x.flip(1)[:, ::2],
    ),
    "Pad in ONNX's order": (
        [helper.make_node("Pad", ["x", "pads", "value"], ["y"])],
        [("pads", torch.tensor([0, 1, 2, 3])), ("value", torch.tensor(0.25))],
        lambda x: nn.functional.pad(x, (1, 3, 0, 2), value=0.25),
    ),
    "Split into unequal parts": (
        [
            helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1),
            helper.make_node("Concat", ["b", "a"], ["y"], axis=1),
        ],
        [("sizes", torch.tensor([2, 4]))],
        lambda x: torch.cat([x[:, 2:], x[:, :2]], 1),
    ),
    "a public value to the left": (
        [helper.make_node("Sub", ["one", "x"], ["z"]), helper.make_node("Div", ["z", "two"], ["y"])],
        [("one", torch.tensor(1.0)), ("two", torch.tensor(2.0))],
        lambda x: (1 - x) / 2,
    ),
    "Gemm without a bias": (
        [helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5, transB=1)],
        [("w", X[:3])],
        lambda x: 0.5 * x @ X[:3].T,
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_a_file_of_onnx_agrees_with_torch(name):
    nodes, arrays, right = NODES[name]
    converted = crypten.nn.from_onnx(io.BytesIO(file_of(nodes, arrays))).eval()
    assert (converted(X) - right(X)).abs().max() < 1e-6


def test_arrays_of_a_file_become_secret_and_numbers_that_state_options_stay_public():
    nodes, arrays, _ = NODES["Gemm without a bias"]
    assert [name for name, _ in crypten.nn.from_onnx(file_of(nodes, arrays)).named_parameters()] == ["w.data"]
    nodes, arrays, _ = NODES["Pad in ONNX's order"]
    assert not list(crypten.nn.from_onnx(file_of(nodes, arrays)).named_parameters())


def test_a_state_goes_from_one_model_into_another_with_running_statistics():
    model, other = network().eval(), network().eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5)
    source, target = (crypten.nn.from_pytorch(one, torch.zeros(1, 6)) for one in (model, other))
    target.load_state_dict(source.state_dict())
    assert (target(X) - model(X)).abs().max() < 1e-6
    assert (target.to_pytorch().eval()(X) - model(X)).abs().max() < 1e-6
    state = source.state_dict()
    del state["1.running_var.data"]
    with pytest.raises(ValueError, match="expected the key 1.running_var.data among them"):
        target.load_state_dict(state)


def test_a_graph_whose_node_takes_what_nobody_makes_is_refused():
    graph = crypten.nn.Graph("input", "output")
    graph.add_module("output", crypten.nn.ReLU(), ["input_of_nobody"])
    with pytest.raises(InputError, match="graph: got .'output'.; expected nodes whose inputs"):
        graph(X)


def test_a_sequence_of_named_modules_runs():
    from collections import OrderedDict

    model = crypten.nn.Sequential(OrderedDict(first=crypten.nn.Linear(6, 4), second=crypten.nn.ReLU()))
    assert torch.equal(model(X), model._modules["first"](X).relu())


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_registers_as_cryptens_converter_finds_it(name):
    found = crypten.nn.onnx_converter._get_operator_class(name, {})
    assert found is OPERATORS[name] and issubclass(found, crypten.nn.Module)


def test_an_unknown_operator_is_refused_as_cryptens_converter_does():
    with pytest.raises(ValueError, match="got Banana; expected one of"):
        crypten.nn.onnx_converter._get_operator_class("Banana", {})
