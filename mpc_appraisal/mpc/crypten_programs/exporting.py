"""`crypten.nn.from_pytorch` and `from_onnx` on the torch of today.

A PyTorch model is exported to ONNX, and each node of the ONNX graph becomes a module of a `crypten.nn.Graph`. The
names of parameters stay those of the PyTorch model. torch has two exporters. The one by TorchScript is taken while
torch has it, since it keeps dropout. Where it is gone or refuses a model, torch's other one (dynamo) is tried, which
wants the package onnxscript: `pip install mpc_appraisal[onnx]`. A layer that cannot be converted is refused by name
before anything is shared. `install` replaces the following, and nothing else:

| in CrypTen | before | now |
|---|---|---|
| from_pytorch, from_onnx | every conversion fails on torch 2.9 and newer | a graph of the modules in `OPERATORS` |
| onnx_converter._export_pytorch_model | changes torch's own exports for good | changes them for one export alone |
| onnx_converter._get_operator_class, ._to_crypten | half of the operators | those of `OPERATORS` |

The model is exported in evaluation mode, from a copy, with its dropout kept and nothing folded into its weights, so
that the converted model can be trained. The first axis of each input is the batch, whose size may change.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.crypten_programs import (  # noqa: F401  They register their operators.
    activation_operators,
    layer_operators,
    recurrent_operators,
    reduction_operators,
    shape_operators,
)
from mpc_appraisal.mpc.crypten_programs.conversion import ConversionError, converted
from mpc_appraisal.mpc.crypten_programs.operators import OPERATORS

OPSET, DYNAMO_OPSET, DOMAIN = 17, 18, "crypten"


def _same(graph: Any, operator: str, value: Any, **attributes: Any) -> Any:
    """Add an operator of our own domain whose result has the type and the shape of `value`."""
    result = graph.op(f"{DOMAIN}::{operator}", value, **attributes)
    result.setType(value.type())
    return result


def _adaptive(operator: str) -> Callable:
    def symbolic(graph, value, output_size):
        sizes = torch.onnx.symbolic_helper._parse_arg(output_size, "is")
        result = graph.op(f"{DOMAIN}::{operator}", value, output_size_i=sizes)
        known = value.type().sizes()
        result.setType(value.type() if known is None else value.type().with_sizes([*known[: -len(sizes)], *sizes]))
        return (result, None) if operator == "AdaptiveMaxPool" else result

    return symbolic


def _symbolics() -> dict[str, Callable]:
    """Return what this package exports otherwise than torch does: functions of the exporter by the name in aten."""
    parse = torch.onnx.symbolic_helper.parse_args

    @parse("v", "f", "i")
    def dropout(graph, value, p, train):
        return _same(graph, "Dropout", value, ratio_f=p)

    @parse("v", "f", "i")
    def feature_dropout(graph, value, p, train):
        return _same(graph, "DropoutNd", value, ratio_f=p)

    @parse("v", "s")
    def gelu(graph, value, approximate="none"):
        return _same(graph, "Gelu", value, approximate_s=approximate)

    @parse("v", "i", "v", "v", "f", "i")
    def group_norm(graph, value, groups, weight, bias, eps, enabled):
        given = [one for one in (weight, bias) if not one.node().mustBeNone()]
        result = graph.op(f"{DOMAIN}::GroupNormalization", value, *given, num_groups_i=groups, epsilon_f=eps)
        result.setType(value.type())
        return result

    own = {"dropout": dropout, "feature_dropout": feature_dropout, "gelu": gelu, "group_norm": group_norm}
    for count in (1, 2):
        own[f"adaptive_avg_pool{count}d"] = _adaptive("AdaptiveAveragePool")
        own[f"adaptive_max_pool{count}d"] = _adaptive("AdaptiveMaxPool")
    return {f"aten::{name}": function for name, function in own.items()}


@contextlib.contextmanager
def _own_symbolics() -> Iterator[None]:
    """Within this context the exporter by TorchScript uses `_symbolics`; torch's own come back at its end."""
    own = _symbolics()
    for name, function in own.items():
        torch.onnx.register_custom_op_symbolic(name, function, OPSET)
    try:
        yield
    finally:
        for name in own:
            torch.onnx.unregister_custom_op_symbolic(name, OPSET)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within this context the exporter's warnings and progress are kept from the user."""
    disabled = logging.root.manager.disable
    fastpath = torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # The fast path of attention is one operator without an export.
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        logging.disable(disabled)


class _Traced(torch.nn.Module):
    """A copy of the model in evaluation mode, within a module in training mode.

    Tracing then changes neither running statistics nor the user's model. The exporter would merge parameters of equal
    values, such as the weights of two fresh normalisations, if the outer module were in evaluation mode as well.
    """

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.training = True

    def forward(self, *inputs: Any) -> Any:  # The exporter would trace a default, such as is_causal=False, as a tensor.
        return self.model(*inputs)


def _without_prefix(file: bytes) -> bytes:
    """Return an ONNX file in which parameters and nodes have the names that they have in the user's model."""
    import onnx

    model = onnx.load_model_from_string(file)

    def own(name: str) -> str:
        return name.removeprefix("model.") if name in arrays else name

    arrays = {array.name for array in model.graph.initializer}
    for node in model.graph.node:
        node.name = node.name.removeprefix("/model")
        node.input[:] = [own(name) for name in node.input]
    for array in model.graph.initializer:
        array.name = own(array.name)
    return model.SerializeToString()


def _arguments(dummy_input: Any) -> tuple:
    return tuple(dummy_input) if isinstance(dummy_input, (tuple, list)) else (dummy_input,)


def has_torchscript_exporter() -> bool:
    """Return whether this torch has the exporter by TorchScript."""
    return hasattr(torch.onnx, "register_custom_op_symbolic") and hasattr(torch.onnx, "symbolic_helper")


def has_dynamo_exporter() -> bool:
    """Return whether torch's exporter by dynamo can run, for which onnxscript has to be installed."""
    return importlib.util.find_spec("onnxscript") is not None


def _by_torchscript(model: torch.nn.Module, dummy_input: Any) -> bytes:
    arguments, options = _arguments(dummy_input), {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    names = ["input", *(f"input_{i}" for i in range(1, len(arguments)))]
    batch = {name: {0: "batch"} for name, value in zip(names, arguments, strict=True) if _has_axes(value)}
    file = io.BytesIO()
    with _own_symbolics(), _quiet():
        torch.onnx.export(
            _Traced(model),
            arguments,
            file,
            input_names=names,
            dynamic_axes=batch,
            opset_version=OPSET,
            do_constant_folding=False,  # Folding would replace parameters by tensors without their names.
            training=torch.onnx.TrainingMode.PRESERVE,  # The mode EVAL would fold normalisation into convolutions.
            **options,
        )
    return _without_prefix(file.getvalue())


def _has_axes(value: Any) -> bool:
    return torch.is_tensor(value) and value.dim() > 0


def _by_dynamo(model: torch.nn.Module, dummy_input: Any) -> bytes:
    """Export by dynamo: with a batch of two, since dynamo takes a batch of one for a constant, or else as it stands."""
    stated = _arguments(dummy_input)
    wider = tuple(torch.cat([value, value]) if _has_axes(value) and value.size(0) == 1 else value for value in stated)
    batch = tuple({0: torch.export.Dim.DYNAMIC} if _has_axes(value) else None for value in wider)
    options = {"dynamo": True, "opset_version": DYNAMO_OPSET, "optimize": False, "verbose": False}
    with _quiet(), contextlib.redirect_stderr(io.StringIO()):
        try:
            program = torch.onnx.export(copy.deepcopy(model).eval(), wider, dynamic_shapes=batch, **options)
        except Exception:  # noqa: BLE001  The model may want the very sizes of its dummy input.
            program = torch.onnx.export(copy.deepcopy(model).eval(), stated, **options)
    return program.model_proto.SerializeToString()


def exported(model: torch.nn.Module, dummy_input: Any) -> bytes:
    """Return the ONNX file of a PyTorch model, traced on `dummy_input`.

    Raises ConversionError: Neither exporter can export the model, or the one that could is not installed.
    """
    failure: Exception | None = None
    for can_run, export in ((has_torchscript_exporter, _by_torchscript), (has_dynamo_exporter, _by_dynamo)):
        if can_run():
            try:
                return export(model, dummy_input)
            except Exception as error:  # noqa: BLE001  An exporter raises whatever a layer makes it raise.
                failure = failure or error
    with torch.no_grad():
        copy.deepcopy(model).eval()(*_arguments(dummy_input))  # A model that fails by itself raises its own error.
    reason = "torch has no exporter by TorchScript any more"
    if failure is not None:
        reason = str(failure).strip().partition("\n")[0] or type(failure).__name__
    extra = (
        "" if has_dynamo_exporter() else "; torch's other exporter wants onnxscript: pip install mpc_appraisal[onnx]"
    )
    raise ConversionError(
        "pytorch_model",
        f"{type(model).__name__}, which torch does not export: {reason}",
        f"layers that torch exports to ONNX{extra}",
    ) from failure


def from_pytorch(pytorch_model: torch.nn.Module, dummy_input: Any) -> Any:
    """Return the CrypTen model of a PyTorch model. Parameters that need no gradient there get none here.

    Args:
        pytorch_model: The model; it is not changed.
        dummy_input: A tensor of the input's shape, or a tuple of tensors for several inputs. The size of the first
            axis, which is the batch, may differ later. The values do not matter.

    Raises ConversionError: A layer cannot be converted; the message lists every such layer.
    """
    state = pytorch_model.state_dict(keep_vars=True)
    trained = {name for name, value in state.items() if value.requires_grad}
    model = _loaded(io.BytesIO(exported(pytorch_model, dummy_input)))
    graph = converted(model, state=set(state), trained=trained)
    graph.pytorch_model = copy.deepcopy(pytorch_model)
    graph.train(mode=pytorch_model.training)
    return graph


def _loaded(onnx_string_or_file: Any) -> Any:
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise AppraisalError("from_onnx: the package onnx is missing; pip install onnx") from error
    if hasattr(onnx_string_or_file, "seek"):
        onnx_string_or_file.seek(0)
        return onnx.load(onnx_string_or_file)
    return onnx.load_model_from_string(onnx_string_or_file)


def from_onnx(onnx_string_or_file: Any) -> Any:
    """Return the CrypTen model of an ONNX file, an open one or its bytes.

    Raises ConversionError: An operator cannot be converted; the message lists every such node.
    """
    return converted(_loaded(onnx_string_or_file))


def _export_pytorch_model(f: Any, pytorch_model: torch.nn.Module, dummy_input: Any) -> Any:
    f.write(exported(pytorch_model, dummy_input))
    return f


def _from_pytorch_to_bytes(pytorch_model: torch.nn.Module, dummy_input: Any) -> io.BytesIO:
    return io.BytesIO(exported(pytorch_model, dummy_input))


def _get_operator_class(node_op_type: str, attributes: dict[str, Any]) -> type:
    if node_op_type not in OPERATORS:
        raise ConversionError("ONNX operator", node_op_type, f"one of {', '.join(sorted(OPERATORS))}")
    return OPERATORS[node_op_type]


def install(crypten: Any) -> None:
    """Replace what the table of this file names; a second call does nothing."""
    converter = crypten.nn.onnx_converter
    for function in (from_pytorch, from_onnx, _export_pytorch_model, _from_pytorch_to_bytes, _get_operator_class):
        setattr(converter, function.__name__, function)
    converter._to_crypten = converted
    converter._update_onnx_symbolic_registry = lambda: None
    crypten.nn.from_pytorch, crypten.nn.from_onnx = from_pytorch, from_onnx
