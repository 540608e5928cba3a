"""Programs over the mended CrypTen that train, differentiate and normalise, each compared with PyTorch in float64.

Each function takes the module crypten, runs at both owners, and returns named errors, or named facts, to print.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import nn
from torch.nn import functional

GENERATOR_SEED = 3


def drawn(*shape: int, seed: int = GENERATOR_SEED) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(secret: Any, right: torch.Tensor) -> float:
    found = secret.get_plain_text().double() if hasattr(secret, "get_plain_text") else secret.double()
    assert found.shape == right.shape, (found.shape, right.shape)
    return float((found - right.double()).abs().max())


X, ROWS = (4, 6), torch.tensor([0, 0, 1])
CUBIC = torch.tensor([0.5, -1.0, 0.25])


def cubic(x: Any) -> Any:
    """Twice x / 2 - x^2 + x^3 / 4, of a plain or a secret tensor."""
    if torch.is_tensor(x):
        return 2 * (x / 2 - x**2 + x**3 / 4)
    return x.polynomial(CUBIC).add(x.polynomial(CUBIC))


EXPRESSIONS = {
    "x[:2]": lambda x: x[:2],
    "x[1, 2:]": lambda x: x[1, 2:],
    "x[[0, 0, 1]]": lambda x: x[ROWS],
    "split": lambda x: x.split(2, 1)[0].mul(x.split([2, 4], 1)[0]),
    "unbind": lambda x: x.unbind(0)[1].mul(x.unbind(0)[3]),
    "expand": lambda x: x[:1].expand(5, 6).mul(2),
    "repeat": lambda x: x.repeat(2, 3).mul(2),
    "index_add": lambda x: x.index_add(0, ROWS, x[:3]),
    "scatter_add": lambda x: x.scatter_add(0, ROWS.expand(6, 3).t().contiguous(), x[:3]),
    "take": lambda x: x.take(ROWS) if torch.is_tensor(x) else x.take(ROWS, None),
    "take along an axis": lambda x: x[:, ROWS] if torch.is_tensor(x) else x.take(ROWS, 1),
    "permute": lambda x: x.reshape(2, 2, 6).permute(0, -1, 1).mul(2),
    "prod": lambda x: x.prod(1),
    "polynomial": cubic,
    "x ** 2": lambda x: x**2,
    "2 / x": lambda x: 2 / (x * x + 1),
    "x * (x > 0)": lambda x: x * (x > 0),
    "abs": lambda x: x.abs() * x,
    "sum over two axes": lambda x: x.reshape(2, 2, 6).sum((0, 2)),
    "mean over two axes": lambda x: x.reshape(2, 2, 6).mean((0, 2)),
    "var": lambda x: x.var(),
    "var of all, biased": lambda x: x.var(unbiased=False),
    "var over an axis": lambda x: x.var(1, unbiased=True),
    "var over an axis, biased": lambda x: x.var(1, unbiased=False),
    "norm": lambda x: x.norm(dim=1),
    "sum that is added twice": lambda x: x.sum(0).add(x.sum(0).mul(x.sum(0))),
}


POOLS = {  # kernel, stride, padding
    "avg_pool2d with ceil_mode": (2, 2, 0),
    "avg_pool2d with ceil_mode in padding": (3, 2, 1),
    "avg_pool2d with ceil_mode, wide": ((2, 3), (1, 2), (0, 1)),
}


def pool(*place: Any) -> Any:
    """The average pool of pictures of 3 x 4, of a plain or a secret tensor."""

    def of(x: Any) -> Any:
        picture = x.reshape(1, 2, 3, 4)
        pooled = (
            functional.avg_pool2d(picture, *place, True) if torch.is_tensor(x) else picture.avg_pool2d(*place, True)
        )
        return pooled.mul(2)

    return of


EXPRESSIONS |= {name: pool(*place) for name, place in POOLS.items()}


def gradients(crypten: Any) -> dict[str, float]:
    """The worst error of each expression's value and gradient."""
    found = {}
    for name, expression in EXPRESSIONS.items():
        plain = drawn(*X).double().requires_grad_()
        secret = crypten.cryptensor(drawn(*X), requires_grad=True)
        right, value = expression(plain), expression(secret)
        weights = drawn(*right.shape, seed=5)
        right.backward(weights.double())
        value.backward(crypten.cryptensor(weights))
        alone = expression(crypten.cryptensor(drawn(*X)))  # where no gradient is wanted
        found[name] = max(error(one, right.detach()) for one in (value, alone))
        found[name] = max(found[name], error(secret.grad, plain.grad))
    x = crypten.cryptensor(drawn(*X), requires_grad=True)
    x.polynomial(crypten.cryptensor(CUBIC)).sum().backward()
    plain = drawn(*X).double().requires_grad_()
    (cubic(plain) / 2).sum().backward()
    found["polynomial with secret coefficients"] = error(x.grad, plain.grad)
    return found


def grouped(crypten: Any) -> dict[str, float]:
    """Errors of the kernels' gradients of convolutions in groups, and of transposed convolutions."""
    cases = {
        "conv1d": (functional.conv1d, (2, 4, 7), (6, 2, 3), {"groups": 2, "stride": 2, "padding": 1}),
        "conv2d": (functional.conv2d, (2, 4, 6, 5), (6, 2, 3, 2), {"groups": 2, "stride": 2, "padding": 1}),
        "conv_transpose1d": (functional.conv_transpose1d, (2, 4, 5), (4, 3, 3), {"stride": 2, "padding": 1}),
        "conv_transpose2d": (
            functional.conv_transpose2d,
            (2, 4, 4, 3),
            (4, 3, 3, 2),
            {"stride": 2, "output_padding": 1, "groups": 2, "dilation": 2},
        ),
    }
    found = {}
    for name, (function, x_shape, w_shape, options) in cases.items():
        x, w = drawn(*x_shape), drawn(*w_shape, seed=4)
        plain = [one.double().requires_grad_() for one in (x, w)]
        secret = [crypten.cryptensor(one, requires_grad=True) for one in (x, w)]
        right, value = function(*plain, **options), getattr(secret[0], name)(secret[1], **options)
        weights = drawn(*right.shape, seed=5)
        right.backward(weights.double())
        value.backward(crypten.cryptensor(weights))
        pairs = zip([value, *(one.grad for one in secret)], [right.detach(), *(one.grad for one in plain)], strict=True)
        found[name] = max(error(one, other) for one, other in pairs)
    return found


def approximations(crypten: Any) -> dict[str, float]:
    """Errors of erf, and of standardizing rows whose variances lie far apart (the row with the worst one)."""
    z = torch.linspace(-30, 30, 1201)
    rows = drawn(6, 400) * torch.tensor([0.06, 0.1, 0.3, 1.0, 5.0, 12.0]).unsqueeze(1) + 1
    right = functional.layer_norm(rows.double(), (400,), eps=0.0)
    return {
        "erf": error(crypten.cryptensor(z).erf(), torch.erf(z.double())),
        "standardized": error(crypten.cryptensor(rows).standardized([1], 0.0), right),
    }


def _trained(crypten: Any, model: nn.Module, losses: tuple[Any, Any], options: dict, classes: int) -> dict[str, float]:
    """Train both models for three steps, and return the worst errors of losses, parameters and running statistics."""
    x, y = drawn(12, 6), functional.one_hot(torch.arange(12) % classes, classes).float()
    plain = copy.deepcopy(model).double().train()
    optimizer = torch.optim.SGD(plain.parameters(), **options)
    secret = crypten.nn.from_pytorch(model.train(), torch.zeros(1, 6)).encrypt()
    own = crypten.optim.SGD(secret.parameters(), **options)
    x_secret, y_secret, found = crypten.cryptensor(x), crypten.cryptensor(y), {"loss": 0.0}
    for _ in range(3):
        optimizer.zero_grad()
        right = losses[0](plain(x.double()), y.double())
        right.backward()
        optimizer.step()
        own.zero_grad()
        loss = losses[1](secret(x_secret), y_secret)
        loss.backward()
        own.step()
        found["loss"] = max(found["loss"], error(loss, right.detach()))
    back, state = secret.decrypt().to_pytorch().state_dict(), plain.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            found[name] = error(back[name], value)
    return found


def training(crypten: Any) -> dict[str, dict[str, float]]:
    """Three steps of SGD, with every option that CrypTen has, and with batch normalisation in training mode."""
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    normal = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    cross = (functional.cross_entropy, crypten.nn.CrossEntropyLoss())
    square = (functional.mse_loss, crypten.nn.MSELoss())
    return {
        "plain": _trained(crypten, network, square, {"lr": 0.5}, 3),
        "momentum": _trained(crypten, network, square, {"lr": 0.2, "momentum": 0.9}, 3),
        "dampening": _trained(crypten, network, square, {"lr": 0.2, "momentum": 0.5, "dampening": 0.5}, 3),
        "nesterov": _trained(crypten, network, square, {"lr": 0.2, "momentum": 0.9, "nesterov": True}, 3),
        "weight decay": _trained(crypten, network, square, {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.1}, 3),
        "cross-entropy": _trained(crypten, network, cross, {"lr": 0.5}, 3),
        "batch normalisation": _trained(crypten, normal, square, {"lr": 0.5}, 3),
    }


def losses(crypten: Any) -> dict[str, float]:
    """The error of each loss and of its gradient."""
    logits, target = drawn(5, 4), torch.rand(5, 4, generator=torch.Generator().manual_seed(1)).round()
    one_hot = functional.one_hot(torch.tensor([0, 1, 2, 3, 1]), 4).float()
    cases = {
        "MSELoss": (functional.mse_loss, logits, target),
        "L1Loss": (functional.l1_loss, logits, target),
        "BCELoss": (functional.binary_cross_entropy, logits.sigmoid() * 0.8 + 0.1, target),
        "BCEWithLogitsLoss": (functional.binary_cross_entropy_with_logits, logits, target),
        "CrossEntropyLoss": (functional.cross_entropy, logits, one_hot),
    }
    found = {}
    for name, (function, x, y) in cases.items():
        plain, secret = x.double().requires_grad_(), crypten.cryptensor(x, requires_grad=True)
        right, value = function(plain, y.double()), getattr(crypten.nn, name)()(secret, crypten.cryptensor(y))
        right.backward()
        value.backward()
        found[name] = max(error(value, right.detach()), error(secret.grad, plain.grad))
        found[f"{name}, plain"] = error(getattr(crypten.nn, name)()(x, y), right.detach())
    return found


def own_modules(crypten: Any) -> dict[str, float]:
    """Models of crypten.nn modules, which only rank 0 has with the right weights, encrypted in evaluation."""
    rank, found = crypten.communicator.get().get_rank(), {}
    torch.manual_seed(4)
    plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()).eval()
    plain[1].running_var.uniform_(0.001, 3.0)
    plain[1].running_mean.normal_()
    ours = crypten.nn.Sequential(
        crypten.nn.Conv2d(2, 3, 3),
        crypten.nn.BatchNorm2d(3),
        crypten.nn.ReLU(),
        crypten.nn.AvgPool2d(2),
        crypten.nn.Flatten(),
    )
    if rank == 0:
        for place in ("0", "1"):
            for name, value in plain[int(place)].state_dict().items():
                if value.is_floating_point():
                    getattr(ours._modules[place], name).data.copy_(value)
    ours.eval()
    x = drawn(2, 2, 6, 6)
    right = copy.deepcopy(plain).double()(x.double()).detach()
    if rank == 0:
        found["plain"] = error(ours(x).detach(), right)
    found = {"plain": 0.0, **found}
    ours.encrypt(src=0)
    found["encrypted"] = error(ours(crypten.cryptensor(x)), right)
    kept = ours.state_dict()
    for parameter in (*ours.parameters(), *ours.buffers()):
        with crypten.no_grad():
            parameter.copy_(parameter.mul(0))
    ours.load_state_dict(kept)
    found["after decryption"] = error(ours.decrypt()(x).detach(), right)
    return found


def added_modules(crypten: Any) -> dict[str, float]:
    """The modules that CrypTen lacks, against PyTorch's with the same weights, in plaintext and on shares."""
    image, rows = drawn(2, 4, 5, 5), drawn(5, 6)
    cases = {
        "Identity": (nn.Identity(), crypten.nn.Identity(), rows),
        "Tanh": (nn.Tanh(), crypten.nn.Tanh(), rows),
        "GELU": (nn.GELU(), crypten.nn.GELU(), rows),
        "LeakyReLU": (nn.LeakyReLU(0.2), crypten.nn.LeakyReLU(0.2), rows),
        "SiLU": (nn.SiLU(), crypten.nn.SiLU(), rows),
        "LayerNorm": (nn.LayerNorm(6), crypten.nn.LayerNorm(6), rows),
        "GroupNorm": (nn.GroupNorm(2, 4), crypten.nn.GroupNorm(2, 4), image),
        "AvgPool2d": (nn.AvgPool2d(2, ceil_mode=True), crypten.nn.AvgPool2d(2, ceil_mode=True), image),
        "MaxPool2d": (nn.MaxPool2d(3, 2, 1), crypten.nn.MaxPool2d(3, 2, 1), image),
        "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d((2, 3)), crypten.nn.AdaptiveAvgPool2d((2, 3)), image),
        "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d((2, 3)), crypten.nn.AdaptiveMaxPool2d((2, 3)), image),
        "ConstantPad2d": (nn.ConstantPad2d((1, 2, 0, 1), 0.5), crypten.nn.ConstantPad2d((1, 2, 0, 1), 0.5), image),
        "ReLU6": (nn.ReLU6(), crypten.nn.ReLU6(), rows),
        "Conv1d": (nn.Conv1d(5, 3, 3), crypten.nn.Conv1d(5, 3, 3), image[0]),
    }
    found = {}
    for name, (theirs, ours, x) in cases.items():
        with torch.no_grad():
            for parameter, value in theirs.named_parameters():
                value.copy_(drawn(*value.shape, seed=6))
                getattr(ours, parameter).data.copy_(value)
        right = copy.deepcopy(theirs).double()(x.double()).detach()
        plain = error(ours.eval()(x).detach(), right)
        assert plain < 1e-5, (name, plain)
        found[name] = error(ours.encrypt()(crypten.cryptensor(x)), right)
    return found


def dropout(crypten: Any) -> dict[str, float]:
    """A converted dropout in training: what is kept is scaled, and the gradient passes where the value did."""
    model = crypten.nn.from_pytorch(nn.Sequential(nn.Dropout(0.25)).train(), torch.zeros(1, 50)).encrypt()
    ones = torch.ones(40, 50)
    x = crypten.cryptensor(ones, requires_grad=True)
    y = model(x)
    y.backward(crypten.cryptensor(ones))
    value, gradient = y.get_plain_text(), x.grad.get_plain_text()
    kept = value > 0.5
    return {
        "kept": float(kept.float().mean()),
        "value": float((value - kept / 0.75).abs().max()),
        "gradient": float((gradient - value).abs().max()),
        "evaluation": error(model.eval()(x), ones),
    }


class OwnModel(nn.Module):
    """A model class of the program's own, as in CrypTen's tutorials."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(functional.relu(self.first(x)))


def received(crypten: Any) -> dict[str, float]:
    """A model that rank 0 has loaded, and that rank 1 knows by its class alone."""
    crypten.common.serial.register_safe_class(OwnModel)
    torch.manual_seed(8)
    right = OwnModel()
    file = io.BytesIO()
    torch.save(right, file)
    file.seek(0)
    rank = crypten.communicator.get().get_rank()
    model = crypten.load_from_party(file if rank == 0 else None, src=0)
    secret = crypten.nn.from_pytorch(model, torch.empty(1, 6)).encrypt(src=0)
    x = drawn(5, 6)
    return {"output": error(secret(crypten.cryptensor(x, src=1)), right.double()(x.double()).detach())}
