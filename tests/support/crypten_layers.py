"""Layers, functions and networks of PyTorch, as cases for the conversion into CrypTen; and what a case is measured by.

`crypten_layer_party.py` measures them on shares, test_crypten_layers asks for the tolerances, and `crypten_table.py`
writes the table of docs/crypten_models.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

EXACT, CLOSE, ROUGH = 5e-4, 1e-2, 5e-2  # no approximation; CrypTen's sigmoid, tanh and exp; its log, root and softmax


@dataclass(frozen=True)
class Case:
    """A model, its input's shape and the worst errors that are allowed, of the output and of the gradients."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    forward: float = EXACT
    backward: float = EXACT

    def model(self) -> nn.Module:
        """Return the model with the same weights at each call, in evaluation mode, in float32."""
        torch.manual_seed(5)
        model = self.build().eval()
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
        return model

    def data(self) -> torch.Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(7))

    def weights_of_the_output(self, output: torch.Tensor) -> torch.Tensor:
        """Return what the output is multiplied with before it is summed and differentiated."""
        return torch.randn(output.shape, generator=torch.Generator().manual_seed(9))


def first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


class Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Residual(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = None
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + (x if self.down is None else self.down(x)))


class ResNet18(nn.Module):
    """The eighteen layers of a ResNet-18 for small pictures, of the stated width (64 in the paper)."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], width
        for stage in range(4):
            for block in range(2):
                outputs = width * 2**stage
                blocks.append(Residual(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.average = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.pool(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.average(self.blocks(x)), 1))


class MixerBlock(nn.Module):
    """A block of layer normalisation and GELU, as in a transformer, without attention."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.down(functional.gelu(self.up(self.norm(x))))


def _scattered(x):
    y = torch.zeros_like(x)
    y[:, 2] = x[:, 0]
    return y + x


ROWS, IMAGE, SERIES = (5, 6), (2, 4, 6, 6), (2, 3, 8)

LAYERS = {
    "Identity": Case(nn.Identity, ROWS),
    "Linear": Case(lambda: nn.Linear(6, 4), ROWS),
    "Linear on three axes": Case(lambda: nn.Linear(6, 4), (2, 5, 6)),
    "Conv1d": Case(lambda: nn.Conv1d(3, 4, 3, padding=1), SERIES),
    "Conv2d": Case(lambda: nn.Conv2d(4, 3, 3, stride=2, padding=1), IMAGE),
    "Conv2d with dilation": Case(lambda: nn.Conv2d(4, 3, 2, dilation=2), IMAGE),
    "Conv2d, one channel a group": Case(lambda: nn.Conv2d(4, 4, 3, groups=4), IMAGE),
    "Conv2d, two channels a group": Case(lambda: nn.Conv2d(4, 6, 3, groups=2), IMAGE),
    "Conv2d with reflected padding": Case(lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), IMAGE),
    'Conv2d with padding="same"': Case(lambda: nn.Conv2d(4, 3, 4, padding="same"), IMAGE),
    "ConvTranspose1d": Case(lambda: nn.ConvTranspose1d(3, 4, 3, stride=2), SERIES),
    "ConvTranspose2d": Case(lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), (2, 4, 4, 4)),
    "MaxPool1d": Case(lambda: nn.MaxPool1d(2), SERIES),
    "MaxPool2d": Case(lambda: nn.MaxPool2d(2), IMAGE),
    "MaxPool2d with padding": Case(lambda: nn.MaxPool2d(3, 2, 1), IMAGE),
    "MaxPool2d with ceil_mode": Case(lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 2, 5, 5)),
    "AvgPool1d": Case(lambda: nn.AvgPool1d(2), SERIES),
    "AvgPool2d": Case(lambda: nn.AvgPool2d(2), IMAGE),
    "AvgPool2d with padding": Case(lambda: nn.AvgPool2d(3, 2, 1), IMAGE),
    "AvgPool2d that leaves padding out": Case(lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "AvgPool2d with ceil_mode": Case(lambda: nn.AvgPool2d(2, ceil_mode=True), (2, 2, 5, 5)),
    "AdaptiveAvgPool1d": Case(lambda: nn.AdaptiveAvgPool1d(3), SERIES),
    "AdaptiveAvgPool2d": Case(lambda: nn.AdaptiveAvgPool2d((2, 4)), (2, 2, 5, 6)),
    "AdaptiveMaxPool2d": Case(lambda: nn.AdaptiveMaxPool2d((2, 4)), (2, 2, 5, 6)),
    "BatchNorm1d": Case(lambda: nn.BatchNorm1d(6), ROWS),
    "BatchNorm2d": Case(lambda: nn.BatchNorm2d(4), IMAGE),
    "LayerNorm": Case(lambda: nn.LayerNorm(6), ROWS),
    "LayerNorm over two axes": Case(lambda: nn.LayerNorm((5, 6)), (3, 5, 6)),
    "GroupNorm": Case(lambda: nn.GroupNorm(2, 4), IMAGE),
    "InstanceNorm2d": Case(lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "Dropout": Case(nn.Dropout, ROWS),
    "Dropout2d": Case(nn.Dropout2d, IMAGE),
    "ReLU": Case(nn.ReLU, ROWS),
    "ReLU6": Case(nn.ReLU6, ROWS),
    "Hardtanh": Case(nn.Hardtanh, ROWS),
    "LeakyReLU": Case(lambda: nn.LeakyReLU(0.1), ROWS),
    "PReLU": Case(lambda: nn.PReLU(6), ROWS),
    "Hardsigmoid": Case(nn.Hardsigmoid, ROWS),
    "Hardswish": Case(nn.Hardswish, ROWS),
    "Sigmoid": Case(nn.Sigmoid, ROWS, CLOSE, CLOSE),
    "Tanh": Case(nn.Tanh, ROWS, CLOSE, CLOSE),
    "GELU": Case(nn.GELU, ROWS, EXACT, CLOSE),
    'GELU("tanh")': Case(lambda: nn.GELU("tanh"), ROWS, CLOSE, CLOSE),
    "SiLU": Case(nn.SiLU, ROWS, CLOSE, CLOSE),
    "ELU": Case(nn.ELU, ROWS, CLOSE, CLOSE),
    "SELU": Case(nn.SELU, ROWS, CLOSE, CLOSE),
    "CELU": Case(lambda: nn.CELU(0.7), ROWS, CLOSE, CLOSE),
    "Softplus": Case(nn.Softplus, ROWS, CLOSE, CLOSE),
    "Softsign": Case(nn.Softsign, ROWS, CLOSE, CLOSE),
    "Mish": Case(nn.Mish, ROWS, CLOSE, CLOSE),
    "LogSigmoid": Case(nn.LogSigmoid, ROWS, ROUGH, CLOSE),
    "Softmax": Case(lambda: nn.Softmax(1), ROWS, CLOSE, CLOSE),
    "LogSoftmax": Case(lambda: nn.LogSoftmax(1), ROWS, ROUGH, ROUGH),
    "Flatten": Case(nn.Flatten, IMAGE),
    "Unflatten": Case(lambda: nn.Unflatten(1, (2, 3)), ROWS),
    "ConstantPad2d": Case(lambda: nn.ConstantPad2d((1, 2, 0, 1), 0.5), IMAGE),
    "ReflectionPad2d": Case(lambda: nn.ReflectionPad2d(1), IMAGE),
    "ReplicationPad2d": Case(lambda: nn.ReplicationPad2d(1), IMAGE),
    "PixelShuffle": Case(lambda: nn.PixelShuffle(2), IMAGE),
    "Upsample, nearest": Case(lambda: nn.Upsample(scale_factor=2), (2, 2, 3, 3)),
    "RNN": Case(lambda: nn.RNN(4, 3, nonlinearity="relu"), (4, 2, 4)),
    "LSTM": Case(lambda: nn.LSTM(4, 3), (3, 2, 4), CLOSE, CLOSE),
    "LSTM, both directions": Case(lambda: nn.LSTM(4, 3, bidirectional=True, batch_first=True), (2, 2, 4), CLOSE, CLOSE),
    "GRU": Case(lambda: nn.GRU(4, 3), (3, 2, 4), CLOSE, CLOSE),
    "MultiheadAttention": Case(SelfAttention, (2, 4, 8), CLOSE, CLOSE),
    "TransformerEncoderLayer": Case(
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 4, 8), CLOSE, CLOSE
    ),
}

FUNCTIONS = {
    "x * x": Case(lambda: Function(lambda x: x * x), ROWS),
    "x ** 3": Case(lambda: Function(lambda x: x**3), ROWS, 2e-3, 2e-3),
    "1 - x": Case(lambda: Function(lambda x: 1 - x), ROWS),
    "1 / (x.abs() + 1)": Case(lambda: Function(lambda x: 1 / (x.abs() + 1)), ROWS, CLOSE, CLOSE),
    "(x * x + 1).sqrt()": Case(lambda: Function(lambda x: (x * x + 1).sqrt()), ROWS, ROUGH, ROUGH),
    "x[:, 1:4]": Case(lambda: Function(lambda x: x[:, 1:4]), ROWS),
    "x[:, ::2]": Case(lambda: Function(lambda x: x[:, ::2]), ROWS),
    "x[:, -1]": Case(lambda: Function(lambda x: x[:, -1]), ROWS),
    "y[:, 2] = x[:, 0]": Case(lambda: Function(_scattered), ROWS),
    "x.chunk(2, 1)": Case(lambda: Function(lambda x: torch.mul(*x.chunk(2, 1))), ROWS),
    "x.gather(1, index)": Case(lambda: Function(lambda x: x.gather(1, torch.tensor([[0, 1]] * 5))), ROWS),
    "torch.cat": Case(lambda: Function(lambda x: torch.cat([x, x * 2], 1)), ROWS),
    "torch.stack": Case(lambda: Function(lambda x: torch.stack([x, x * 2], 1)), ROWS),
    "x.view(x.size(0), -1)": Case(lambda: Function(lambda x: x.view(x.size(0), -1)), (5, 3, 2)),
    "x.permute": Case(lambda: Function(lambda x: x.permute(0, 2, 1)), (5, 3, 2)),
    "x.expand": Case(lambda: Function(lambda x: x[:, :1].expand(-1, 6) * x), ROWS),
    "x.repeat": Case(lambda: Function(lambda x: x.repeat(1, 2)), ROWS),
    "x @ y": Case(lambda: Function(lambda x: x @ x.transpose(-1, -2)), (2, 5, 6)),
    "x.mean((1, 2))": Case(lambda: Function(lambda x: x.mean((1, 2))), (5, 6, 3)),
    "x.var(1)": Case(lambda: Function(lambda x: x.var(1)), ROWS),
    "x.max(1)": Case(lambda: Function(lambda x: x.max(1)[0]), ROWS),
    "x.prod(1)": Case(lambda: Function(lambda x: x.prod(1)), (5, 3)),
    "x.cumsum(1)": Case(lambda: Function(lambda x: x.cumsum(1)), ROWS),
    "x.logsumexp(1)": Case(lambda: Function(lambda x: x.logsumexp(1)), ROWS, ROUGH, ROUGH),
    "torch.minimum": Case(lambda: Function(lambda x: torch.minimum(x, x * 2 - 1)), ROWS),
    "x.clamp(min=0.2)": Case(lambda: Function(lambda x: x.clamp(min=0.2)), ROWS),
    "torch.where(x > 0, x, x / 10)": Case(lambda: Function(lambda x: torch.where(x > 0, x, x / 10)), ROWS),
    "x.masked_fill": Case(lambda: Function(lambda x: x.masked_fill(torch.eye(5, 6) > 0, -3.0)), ROWS),
    "attention with a causal mask": Case(
        lambda: Function(lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True)),
        (2, 4, 4),
        ROUGH,
        ROUGH,
    ),
}

NETWORKS = {
    "MLP": Case(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), ROWS),
    "CNN": Case(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(64, 3)
        ),
        (2, 1, 8, 8),
    ),
    "residual block": Case(lambda: Residual(4, 6, 2), IMAGE, 1e-3, 2e-3),
    "block of LayerNorm and GELU": Case(MixerBlock, (2, 4, 8), 1e-3, CLOSE),
    "ResNet-18, 4 channels wide": Case(ResNet18, (2, 3, 16, 16), CLOSE, ROUGH),
}

CASES = {**LAYERS, **FUNCTIONS, **NETWORKS}


def reference(case: Case) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Return PyTorch's output, its gradient for the input and those for the parameters, in float64."""
    model, x = case.model().double(), case.data().double().requires_grad_()
    output = first(model(x))
    output.backward(case.weights_of_the_output(output).double())
    return output.detach(), x.grad, {name: parameter.grad for name, parameter in model.named_parameters()}


def worst(found: torch.Tensor, right: torch.Tensor) -> float:
    """Return the greatest error, relative to the greatest right value where that is above 1."""
    assert found.shape == right.shape, (found.shape, right.shape)
    return float((found.double() - right).abs().max() / right.abs().max().clamp(min=1.0))


def measured(crypten: Any, case: Case) -> dict[str, float]:
    """Return the worst errors of a converted model: in plaintext, on shares, and of its gradients on shares."""
    right, input_gradient, gradients = reference(case)
    model, x = case.model(), case.data()
    converted = crypten.nn.from_pytorch(model, torch.zeros(x.shape)).eval()
    errors = {"plaintext": worst(first(converted(x)).detach(), right)}
    for parameter in converted.parameters():
        parameter.requires_grad = True
    converted.encrypt()
    secret = crypten.cryptensor(x, requires_grad=True)
    output = first(converted(secret))
    errors["shares"] = worst(output.get_plain_text(), right)
    output.backward(crypten.cryptensor(case.weights_of_the_output(right)))
    found = [worst(secret.grad.get_plain_text(), input_gradient)]
    for name, gradient in gradients.items():
        if gradient is not None and name in converted._modules:
            found.append(worst(converted._modules[name].data.grad.get_plain_text(), gradient))
    assert len(found) == 1 + sum(gradient is not None for gradient in gradients.values()), sorted(converted._modules)
    errors["gradients"] = max(found)
    return errors
